/* What all handlers have in common. SPDX-License-Identifier: MIT

   Role: the connection to the broker, events in hand and their time, longer leases for those that
   may take longer, the end (TERM: what is in hand may finish within the grace; a second one: all of
   it goes back at once), health, numbers. Owns: the worker, the handler, the jobs. One thread. */
#ifndef EF_RUNTIME_H
#define EF_RUNTIME_H

#include "handler.h"

#define RUNTIME_TOPICS_MAX 64u

typedef struct {
    char topics[4000]; /* names, with commas between them */
    char connect[256]; /* the broker's endpoint for workers */
    char name[64];
    char downstream[256]; /* the service that events are worked on with; empty: the handler says */
    char health[256];     /* where health is told over HTTP; empty: nowhere */
    char log_level[16];
    uint32_t concurrency; /* events in hand, 0: the handler's default */
    uint64_t bytes;       /* the same */
    uint32_t timeout_ms;  /* of one event; 0: its lease */
    uint32_t grace_ms;    /* for what is in hand, once told to stop */
    uint32_t probe_ms;    /* between two probes */
} runtime_options_t;

extern const settings_t runtime_settings; /* of runtime_options_t */
void runtime_defaults (runtime_options_t *options);

/* TERM and INT wait from now on until runtime_run reads them, and a command that doesn't read its
   input ends nobody. Before the first thread. */
void runtime_hold_signals (void);

/* `handler_options` are borrowed. NULL: `error` says why. */
runtime_t *runtime_new (const handler_t *handler, const runtime_options_t *options,
                        const void *handler_options, char error[512]);
/* Until it was told to stop and has. Returns an exit status. */
int runtime_run (runtime_t *self);
void runtime_destroy (runtime_t **self_p);

/* For handlers. Answers that nobody waits for any more are dropped; `words` may be NULL. */
void runtime_answer (runtime_t *self, uint64_t tag, eventflow_result_t result,
                     const eventflow_answer_t *words);
/* The words that go with what `handle` returns at once. */
void runtime_explain (runtime_t *self, const eventflow_answer_t *words);
/* How a job that was told to stop is answered: RETRY with code and text where its time was over
   (`words` are filled, `words->downstream` is left), else RELEASE. */
eventflow_result_t runtime_stop_words (stop_reason_t reason, eventflow_answer_t *words);
void runtime_healthy (runtime_t *self);
void runtime_unhealthy (runtime_t *self, const char *reason);
/* Until an event's time is over. */
uint64_t runtime_left_ms (const runtime_t *self, uint64_t tag);
/* From within `handle`: how long the event in question may take. */
uint64_t runtime_limit_ms (const runtime_t *self, const eventflow_delivery_t *delivery);
uint32_t runtime_concurrency (const runtime_t *self);
/* The service to name in an answer: what the operator said, else NULL (the handler's own). */
const char *runtime_downstream (const runtime_t *self);

/* For those who ask about it. */
typedef struct {
    bool is_connected; /* welcome at the broker */
    bool is_draining;
    const char *unhealthy; /* why; NULL: it is well */
    uint32_t in_hand;
    uint64_t done;
    uint64_t failed;
    uint64_t cpu_ms;
    uint64_t rss_bytes;
    uint64_t uptime_ms;
    const char *name;
    const char *handler;
} runtime_state_t;
void runtime_state (const runtime_t *self, runtime_state_t *state);

#endif
