/* The scaler actor: how many workers each topic should have, and the processes of those that the
   broker starts itself. SPDX-License-Identifier: MIT

   Role: a shell around ef_pool_t, one for each topic; where a topic has a command, starts, watches
   and ends its processes, else says how many there should be to who starts them elsewhere. Owns:
   the processes. Talks to: the router, by ef_scaler_message_t, handed over; what finds its ring
   full is sent again. On its end every process is told to leave, and killed after the grace. If the
   broker is killed, the kernel tells them (see spawn.h). */
#ifndef EF_SCALER_H
#define EF_SCALER_H

#include "../base/actor.h"
#include "machine.h"
#include "pool.h"

typedef enum {
    EF_SCALER_LOAD,     /* in: loads of topics, and what the workers with tokens do */
    EF_SCALER_HAND,     /* in: what an operator sets */
    EF_SCALER_POOL,     /* in: other settings of a topic's pool */
    EF_SCALER_BOUNDS,   /* in: other bounds of the machine */
    EF_SCALER_DRAIN,    /* out: tell the worker with `token` to finish */
    EF_SCALER_NOTICE,   /* out: kind in `token`, words in `text` */
    EF_SCALER_DIED,     /* out: the process with `token` has crashed, as `text` says */
    EF_SCALER_DECISION, /* out: `decision`, in words in `text` */
    EF_SCALER_STATES,   /* out: how some pools are now */
} ef_scaler_kind_t;

typedef struct {
    uint32_t index; /* the core's */
    char topic[EF_TOPIC_NAME_BYTES];
    ef_load_t load;
} ef_scaler_load_t;

typedef struct {
    char token[40];
    uint64_t answered;
    uint64_t held;
} ef_scaler_worker_t;

/* Each EF_POOL_UNSET: as configured. */
typedef struct {
    uint32_t min;
    uint32_t max;
    uint32_t scale;
} ef_scaler_hand_t;

typedef struct {
    uint32_t index; /* the core's */
    char topic[EF_TOPIC_NAME_BYTES];
    bool is_managed; /* has a command */
    uint32_t desired;
    uint32_t running; /* own, here */
    uint32_t starting;
    uint32_t leaving;
    uint32_t others; /* here, started elsewhere */
    uint32_t min;
    uint32_t max;
    uint32_t scale;    /* EF_POOL_UNSET: by the load */
    uint32_t restarts; /* of those that ended by themselves */
    ef_pool_reason_t reason;
    uint64_t changed_ms; /* wall clock: the last decision; 0: none */
    ef_pool_limit_t limit;
    ef_hold_t hold;
    uint64_t ready;
    uint64_t retrying;
    uint64_t oldest_ms;
    double arrive;
    double end;
} ef_scaler_state_t;

typedef struct {
    ef_scaler_kind_t kind;
    char topic[EF_TOPIC_NAME_BYTES];
    char token[65];
    char text[320];
    ef_scaler_hand_t hand;
    ef_pool_decision_t decision;
    uint64_t wall_ms; /* of the decision */
    bool is_managed;  /* the same */
    ef_pool_limit_t limit;
    uint32_t count;              /* of what is here of these */
    ef_scaler_load_t *loads;     /* owned */
    ef_scaler_worker_t *workers; /* owned */
    uint32_t worker_count;
    ef_scaler_state_t *states; /* owned */
    ef_config_topic_t *pool;   /* owned */
    ef_config_machine_t bounds;
} ef_scaler_message_t;

ef_scaler_message_t *ef_scaler_message_new (ef_scaler_kind_t kind, const char *topic);
void ef_scaler_message_destroy (ef_scaler_message_t **self_p);

typedef struct ef_scaler_s ef_scaler_t;

/* Both are borrowed while it lives; `file` is the configuration's absolute path, NULL: none. */
ef_scaler_t *ef_scaler_new (const ef_config_t *config, const char *file);
/* Where workers connect to; before the start. */
void ef_scaler_set_back (ef_scaler_t *self, const char *endpoint);
EF_MUST_USE int ef_scaler_start (ef_scaler_t *self, ef_waker_t *owner);

/* Tells all processes to leave; `grace_ms` later they are killed. May be said again with less. */
void ef_scaler_stop_workers (ef_scaler_t *self, uint32_t grace_ms);
/* Nothing is left of them. */
bool ef_scaler_is_empty (ef_scaler_t *self);
void ef_scaler_destroy (ef_scaler_t **self_p);
ef_actor_t *ef_scaler_actor (ef_scaler_t *self);
/* Does the broker start workers for this topic? From any thread. */
bool ef_scaler_has_pool (const ef_scaler_t *self, const char *topic);

#endif
