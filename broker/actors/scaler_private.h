/* The scaler's inside, shared by scaler.c and scaler_processes.c. SPDX-License-Identifier: MIT */
#ifndef EF_SCALER_PRIVATE_H
#define EF_SCALER_PRIVATE_H

#include "process.h"
#include "scaler.h"

/* How many processes a pool has, by what they do. */
typedef struct {
    uint32_t all;
    uint32_t own;     /* that stay, replacements aside */
    uint32_t here;    /* of them, at work */
    uint32_t leaving; /* zombies that wait for their session too */
    uint32_t spares;
} tally_t;

typedef struct {
    char topic[EF_TOPIC_NAME_BYTES];
    uint32_t index; /* the core's; UINT32_MAX: not told yet */
    ef_pool_t pool;
    bool is_managed;
    uint32_t lease_ms;
    ef_load_t load;
    bool has_load;
    bool has_changed; /* its state is to be told */
    uint32_t restarts;
    uint32_t claims; /* places that become free for it */
    uint64_t claim_ms;
    ef_pool_reason_t reason; /* of the last decision */
    uint64_t changed_ms;
    ef_pool_limit_t told; /* the limit that was told last */
    tally_t tally;        /* of its processes */
} topic_pool_t;

/* A process and whose it is. */
typedef struct {
    ef_process_t process;
    uint32_t pool;
} place_t;

struct ef_scaler_s {
    ef_actor_t actor;
    const ef_config_t *config;
    const char *file;
    char back[300];
    char bin[1024];
    ef_config_machine_t bounds;
    ef_machine_t machine;
    uint64_t machine_ms;  /* when it was read; 0: never */
    topic_pool_t **pools; /* owned */
    uint32_t count;
    uint32_t managed;
    uint32_t *by_index; /* owned: the core's index -> place in pools + 1 */
    uint32_t index_count;
    place_t *places; /* owned */
    uint32_t place_count;
    ef_scaler_message_t **outbox; /* owned: what found the ring full */
    uint32_t outbox_count;
    _Atomic uint32_t stop_grace; /* 0: runs; else leave, ms + 1 */
    _Atomic bool is_empty;
    uint32_t stop_told; /* the grace that processes were told of */
};

/* scaler.c */
void scaler_say (ef_scaler_t *self, ef_scaler_kind_t kind, const char *topic, const char *token,
                 const char *text);
void scaler_tell (ef_scaler_t *self, topic_pool_t *pool, const ef_pool_decision_t *decision,
                  const char *detail);

/* scaler_processes.c */
/* Counts a pool's processes anew. */
void scaler_count (ef_scaler_t *self, uint32_t index);
/* Places that a pool may still take: the machine's, without those that others have been promised.
 */
uint32_t scaler_free_places (const ef_scaler_t *self, uint32_t index);
ef_pool_limit_t scaler_machine_limit (const ef_scaler_t *self);
void scaler_settle (ef_scaler_t *self, uint32_t index, uint64_t now);
void scaler_recycle (ef_scaler_t *self, uint32_t index, uint64_t now);
uint64_t scaler_watch (ef_scaler_t *self, uint64_t now);
bool scaler_is_stopping (ef_scaler_t *self, uint64_t now);

#endif
