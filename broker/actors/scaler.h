/* The scaler actor: starts, watches and stops worker processes. SPDX-License-Identifier: MIT

   Role: a shell around ef_pool_t. Owns: the processes of all pools. Talks to: the router, by
   ef_scaler_message_t, handed over. On its end every process is told to leave, and killed after the
   grace. If the broker is killed, the kernel tells them (see spawn.h). */
#ifndef EF_SCALER_H
#define EF_SCALER_H

#include "../base/actor.h"
#include "pool.h"

typedef enum {
    EF_SCALER_LOAD,   /* in: a topic's load */
    EF_SCALER_SCALE,  /* in: `count` workers at least, by hand; UINT32_MAX: as configured */
    EF_SCALER_POOL,   /* in: other settings of a pool that is there */
    EF_SCALER_DRAIN,  /* out: tell the worker with `token` to finish */
    EF_SCALER_NOTICE, /* out: kind in `token`, words in `text` */
    EF_SCALER_DIED,   /* out: the process with `token` has crashed, as `text` says */
} ef_scaler_kind_t;

typedef struct {
    ef_scaler_kind_t kind;
    char topic[EF_TOPIC_NAME_BYTES];
    char token[65];
    char text[160];
    uint32_t count;
    ef_load_t load;
    ef_pool_config_t *pool; /* owned; of EF_SCALER_POOL */
    uint32_t stall_ms;      /* the same */
} ef_scaler_message_t;

void ef_scaler_message_destroy (ef_scaler_message_t **self_p);

typedef struct ef_scaler_s ef_scaler_t;

ef_scaler_t *ef_scaler_new (const ef_config_t *config); /* borrowed while it lives */
EF_MUST_USE int ef_scaler_start (ef_scaler_t *self, ef_waker_t *owner);

/* Tells all processes to leave and waits for them, `grace_ms` at the most; then kills. */
void ef_scaler_stop_workers (ef_scaler_t *self, uint32_t grace_ms);
void ef_scaler_destroy (ef_scaler_t **self_p);
ef_actor_t *ef_scaler_actor (ef_scaler_t *self);
bool ef_scaler_has_pool (const ef_scaler_t *self, const char *topic);

#endif
