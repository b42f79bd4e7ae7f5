/* Events on their way to the broker, and the calls that wait for them. SPDX-License-Identifier: MIT

   Role: hands the events of a request to libeventflow's publisher, which gathers those of many
   requests into one message, and answers the request once all are decided, or with 504 when the
   time is over: then the events are still on their way, and sending them again under the same ids
   is safe. Owns: the publisher, a thread for time-outs, what waits. Invariants: tickets are decided
   in order, so what waits is a queue; a request answered by its time-out stays in it until then.
   Locks: its own around the publisher's, never the other way round; calls are answered outside. */
#ifndef EF_GATEWAY_OUTBOX_H
#define EF_GATEWAY_OUTBOX_H

#include "../web/api.h"
#include "../web/problem.h"
#include "intake.h"

typedef struct outbox_s outbox_t;

/* How an answer looks: each face has its own words. */
typedef enum { STYLE_PLAIN, STYLE_PYTHON, STYLE_NODE, STYLE_QUEUE } style_t;

typedef struct {
    const char *front; /* endpoint; NULL: the default */
    uint32_t confirm_ms;
    uint64_t bytes; /* held unconfirmed at the most */
    uint32_t linger_us;
} outbox_options_t;

outbox_t *outbox_new (const outbox_options_t *options);
/* Answers what waits, 504, and from now on everything, 503. Before the server's end: requests may
   still come, and the server's threads must find none suspended. */
void outbox_stop (outbox_t *self);
/* After the server's end. */
void outbox_destroy (outbox_t **self_p);
void outbox_durability (outbox_t *self, const char *text);

/* Takes the batch's memory. Answers the call: at once where nothing of it can be sent, else when
   all is decided. */
void outbox_publish (outbox_t *self, call_t *call, batch_t *batch, style_t style, bool is_atomic);

/* Behind every burst of outbox_publish; arg: the outbox. */
void outbox_flush (void *arg);

#define OUTBOX_STEPS 12 /* of the time from request to CONFIRM; the last has no bound */
extern const double outbox_steps_s[OUTBOX_STEPS - 1];
typedef struct {
    uint64_t accepted; /* events */
    uint64_t refused;
    uint64_t timed_out;
    uint64_t full; /* not taken, for the outbox was full */
    uint64_t reconnects;
    uint64_t messages;
    uint64_t waiting;                /* events, now */
    uint64_t confirms[OUTBOX_STEPS]; /* requests, by how long they waited */
    double confirm_seconds;
} outbox_numbers_t;
void outbox_numbers (outbox_t *self, outbox_numbers_t *numbers);

/* answer.c: the answers, on their own so that tests reach them. */
void answer_accepted (ef_buf_t *out, const batch_t *batch, style_t style, const char *durability);
/* Each event's outcome, as `"accepted":…,"items":[…]` without braces. */
void answer_items (ef_buf_t *out, const batch_t *batch);
/* The answer to a request of which something was refused. */
void answer_refused (call_t *call, const batch_t *batch, bool is_atomic);
void answer_late (call_t *call, const batch_t *batch);

#endif
