/* libeventflow: publish, work, administer. SPDX-License-Identifier: MIT

   Payloads, metas and whole events are MessagePack bytes. Functions return EVENTFLOW_OK (0) or one
   of the codes below. Strings are NUL-terminated UTF-8. What a pointer in a callback points to is
   borrowed and good until the callback returns. Link with pkg-config eventflow. */
#ifndef EVENTFLOW_H
#define EVENTFLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    EVENTFLOW_OK = 0,
    EVENTFLOW_TIMEOUT = -1, /* not decided in time: the outcome is unknown, sending again is safe */
    EVENTFLOW_REFUSED = -2, /* the broker said no; code and text say why */
    EVENTFLOW_INVALID = -3, /* the arguments are wrong; nothing was sent */
    EVENTFLOW_FULL = -4     /* the outbox stayed full for the whole time-out; nothing was taken */
};

/* Bytes that belong to somebody else. */
typedef struct {
    const void *data;
    size_t size;
} eventflow_bytes_t;

/* ---- Publishing, each event confirmed once it is durable ----

   A publisher has a thread of its own, which gathers events, sends them, resends after a lost
   connection under the same session, and calls back. Its functions may be called from any thread.
   An event is sent at once when nothing is unconfirmed, else gathered with others until they are
   half as many as are unconfirmed, or for `linger_us` (in whole milliseconds; longer only while the
   broker is silent, by an eighth of that time and 500 ms at the most). */

typedef struct eventflow_publisher_s eventflow_publisher_t;

typedef struct {
    const char *endpoint;  /* NULL: $EVENTFLOW_FRONT or tcp://127.0.0.1:5551 */
    const char *name;      /* for people; NULL: none */
    uint32_t linger_us;    /* 0: 1000 */
    uint32_t batch_bytes;  /* of one message, 0: 48 KiB */
    uint32_t batch_events; /* of one message, 0: no bound but bytes and window */
    size_t outbox_bytes;   /* held unconfirmed at the most, 0: 16 MiB */
    bool waits_for_flush;  /* events go once eventflow_publisher_flush was called behind them */
    /* Called from the publisher's thread, in order of tickets: `count` events from `first` on share
       an outcome. code is NULL for accepted ones. NULL: no calls. Must not call this publisher. */
    void (*outcome) (void *arg, uint64_t first, uint64_t count, const char *code, const char *text);
    void *arg;
    /* Called likewise, before `outcome`, for each event that came without an id: the one that it
       has now. Messages then hold 256 events at the most. NULL: ids aren't asked for. */
    void (*assigned) (void *arg, uint64_t ticket, const char *id);
} eventflow_publisher_options_t;

/* Connects in the background. options may be NULL. NULL only where a thread can't be made. */
eventflow_publisher_t *eventflow_publisher_new (const eventflow_publisher_options_t *options);

/* Ends the connection at once; what is unconfirmed has an unknown outcome. Nulls the pointer. */
void eventflow_publisher_destroy (eventflow_publisher_t **self_p);

/* Takes one event. `id` may be NULL (the broker assigns one), `meta` may be NULL or a MessagePack
   map. Waits while the outbox is full, `timeout_ms` at the most. `*ticket` (may be NULL) counts up
   from 1. EVENTFLOW_OK: taken, not yet confirmed. EVENTFLOW_INVALID: payload or meta aren't one
   MessagePack value, or a name is too long. EVENTFLOW_FULL. */
int eventflow_publish (eventflow_publisher_t *self, const char *topic, const char *id,
                       eventflow_bytes_t payload, const eventflow_bytes_t *meta, int timeout_ms,
                       uint64_t *ticket);

/* The same for an event that is encoded already: [topic, id, payload] or with meta. */
int eventflow_publish_event (eventflow_publisher_t *self, eventflow_bytes_t event, int timeout_ms,
                             uint64_t *ticket);

/* Where `waits_for_flush` is set, to be called behind every burst of events: the thread is woken
   for 16 of them or at the burst's end, and not for the first while the others are still on their
   way. */
void eventflow_publisher_flush (eventflow_publisher_t *self);

/* Takes events (encoded, back to back) that are accepted all or none, across topics; one message of
   their own. `*ticket` is the first one's, the others follow. EVENTFLOW_INVALID also where they are
   more or larger than a message may be. */
int eventflow_publish_atomic (eventflow_publisher_t *self, eventflow_bytes_t events, int timeout_ms,
                              uint64_t *ticket);

/* Waits until everything taken so far is decided. EVENTFLOW_OK: all accepted since the last call;
   EVENTFLOW_REFUSED: some were not, `code` (32 bytes) and `text` (256 bytes, both may be NULL) tell
   of the first; EVENTFLOW_TIMEOUT. */
int eventflow_publisher_wait (eventflow_publisher_t *self, int timeout_ms, char *code, char *text);

/* Totals since it was made. */
typedef struct {
    uint64_t taken;
    uint64_t accepted;
    uint64_t duplicates;
    uint64_t refused;
    uint64_t messages;
    uint64_t reconnects;
} eventflow_publisher_stats_t;
void eventflow_publisher_stats (eventflow_publisher_t *self, eventflow_publisher_stats_t *stats);

/* ---- Working ----

   A worker has no thread: it runs in eventflow_worker_step, which everything about it must be
   called from, by one thread. The handler says what became of an event, or EVENTFLOW_LATER and
   tells by the tag later. Between two steps no more than `heartbeat_ms` × 3 may pass. */

typedef struct eventflow_worker_s eventflow_worker_t;

typedef struct {
    uint64_t tag;
    uint32_t attempt;        /* 1 at first */
    eventflow_bytes_t event; /* the whole */
    eventflow_bytes_t topic;
    eventflow_bytes_t id;
    eventflow_bytes_t type;    /* data NULL: none */
    eventflow_bytes_t payload; /* MessagePack */
    eventflow_bytes_t meta;    /* MessagePack map; data NULL: none */
    eventflow_bytes_t errors;  /* [[code, text, trace, ms, worker], …]; data NULL at first */
    uint64_t accepted_ms;      /* 0: not told (first attempt) */
    uint64_t deadline_ms;      /* wall clock, when the lease ends; 0: not told */
    uint64_t n;                /* its number in its topic; 0: not told (first attempt) */
    eventflow_bytes_t key;     /* ordering key; data NULL: none */
    eventflow_bytes_t user;
    eventflow_bytes_t downstream; /* the service that it needs, as the producer said */
} eventflow_delivery_t;

typedef enum {
    EVENTFLOW_DONE,
    EVENTFLOW_RETRY,   /* failed; by the topic's policy */
    EVENTFLOW_DEAD,    /* failed for good: a dead letter at once */
    EVENTFLOW_RELEASE, /* given back, uncounted */
    EVENTFLOW_LATER    /* told by eventflow_worker_answer */
} eventflow_result_t;

typedef struct {
    const char *endpoint;      /* NULL: $EVENTFLOW_BACK or tcp://127.0.0.1:5552 */
    const char *const *topics; /* NULL: $EVENTFLOW_TOPIC */
    uint32_t topic_count;
    uint32_t credit;       /* events in hand, 0: $EVENTFLOW_CREDIT or 16 */
    uint64_t bytes;        /* in hand, 0: 4 MiB */
    const char *name;      /* NULL: made of program and pid */
    uint32_t heartbeat_ms; /* 0: 5000 */
    eventflow_result_t (*handle) (void *arg, const eventflow_delivery_t *delivery);
    /* The result of an event that was put off is no longer wanted: an operator took it away, or its
       lease was lost. It is answered all the same, which frees its credit; where
       eventflow_worker_answer says EVENTFLOW_INVALID nobody waits for it. NULL: not wanted. */
    void (*cancel) (void *arg, uint64_t tag, const char *reason);
    void *arg;
    /* The lease of an event that was put off ends in `left_ms`: time to extend it. NULL. */
    void (*expiring) (void *arg, uint64_t tag, uint32_t left_ms);
} eventflow_worker_options_t;

/* NULL: no handler or no topic. */
eventflow_worker_t *eventflow_worker_new (const eventflow_worker_options_t *options);
/* Says BYE: what is in hand goes back, uncounted. */
void eventflow_worker_destroy (eventflow_worker_t **self_p);

/* Waits up to `timeout_ms` for something, handles it, keeps the connection alive. 1: goes on; 0: it
   was told to drain and nothing is in hand any more. */
int eventflow_worker_step (eventflow_worker_t *self, int timeout_ms);

/* Steps until the end. `is_stopping` (may be NULL) is looked at between steps; set, it drains. */
void eventflow_worker_run (eventflow_worker_t *self, volatile int *is_stopping);

/* A whole worker in one call: made, run until TERM or INT, drained, destroyed; a second signal ends
   it at once. Returns an exit status: 0, 2 where there is no handler or no topic, 3 where the
   broker refuses it (said on standard error). */
int eventflow_work (const eventflow_worker_options_t *options);

/* What became of an event that was put off. `code` is a str, or an int where `code` is NULL.
   `events` (MessagePack events back to back, may be NULL) are accepted with a DONE, both or
   neither. `retry_ms` < 0: by the policy, else so long from now (RELEASE: not to this worker before
   that). `downstream`, to 255 bytes: the service that answered well or badly; breakers are kept by
   it; NULL: what the event says. `result`, one MessagePack value to 64 KiB, NULL: none: kept with a
   DONE event. */
typedef struct {
    const char *code;
    int64_t number;
    const char *text;
    const char *trace;
    int64_t retry_ms;
    const eventflow_bytes_t *events;
    const char *downstream;
    const eventflow_bytes_t *result;
} eventflow_answer_t;
/* EVENTFLOW_INVALID: the tag isn't in hand (any more), or the answer can't be said. */
int eventflow_worker_answer (eventflow_worker_t *self, uint64_t tag, eventflow_result_t result,
                             const eventflow_answer_t *answer);

/* From within the handler: the words that go with what it returns. Copied. EVENTFLOW_INVALID: they
   can't be said; it returns without them. */
int eventflow_worker_explain (eventflow_worker_t *self, const eventflow_answer_t *answer);

/* The lease ends `ms` from now, as far as the topic's lease_total allows. */
int eventflow_worker_extend (eventflow_worker_t *self, uint64_t tag, uint32_t ms);
void eventflow_worker_drain (eventflow_worker_t *self); /* takes nothing new */
/* True where the broker refused READY (an unknown topic, …): why, borrowed. It is tried again. */
bool eventflow_worker_refused (const eventflow_worker_t *self, const char **code,
                               const char **text);
uint32_t eventflow_worker_in_hand (const eventflow_worker_t *self);
int eventflow_worker_fd (
    const eventflow_worker_t *self); /* readable: call step, also behind every call */
uint64_t eventflow_worker_done (const eventflow_worker_t *self);
/* True where more has come than the last step took: step again before sleeping. */
bool eventflow_worker_pending (eventflow_worker_t *self);

/* Tells the broker that what the worker works with isn't well, and why, or (NULL) that it is. While
   it isn't, the broker gives it nothing new. Said anew after every reconnect. */
void eventflow_worker_health (eventflow_worker_t *self, const char *reason);

/* What the worker says of itself with each heartbeat. */
typedef struct {
    bool is_connected;
    bool is_draining;
    uint32_t busy;      /* in hand */
    uint64_t done;      /* since it was made */
    uint64_t failed;    /* answered RETRY or DEAD, the same */
    uint64_t cpu_ms;    /* of the process and the children that it waited for */
    uint64_t rss_bytes; /* of the process */
    const char *name;   /* borrowed */
} eventflow_worker_numbers_t;
void eventflow_worker_numbers (const eventflow_worker_t *self, eventflow_worker_numbers_t *numbers);

/* ---- Administration ---- */

typedef struct eventflow_admin_s eventflow_admin_t;

/* endpoint NULL: $EVENTFLOW_ADMIN or tcp://127.0.0.1:5553. */
eventflow_admin_t *eventflow_admin_new (const char *endpoint);
void eventflow_admin_destroy (eventflow_admin_t **self_p);

/* Sends a request (a MessagePack array) and waits for the answer. EVENTFLOW_OK: `*value` is the
   value of OK, borrowed until the next call; EVENTFLOW_REFUSED: `code` (32 bytes) and `text` (512
   bytes); EVENTFLOW_TIMEOUT. One thread. */
int eventflow_admin_call (eventflow_admin_t *self, eventflow_bytes_t request, int timeout_ms,
                          eventflow_bytes_t *value, char *code, char *text);

#ifdef __cplusplus
}
#endif
#endif
