/* The router's inside, shared by router.c, effects.c and admin.c. SPDX-License-Identifier: MIT */
#ifndef EF_ROUTER_PRIVATE_H
#define EF_ROUTER_PRIVATE_H

#include "../../proto/limits.h"
#include "router.h"

#include <zmq.h>

enum { SOCKET_FRONT, SOCKET_BACK, SOCKET_ADMIN, SOCKET_INGRESS, SOCKET_COUNT };

/* A growing queue of pointers to one actor whose ring may be full for a moment. */
typedef struct {
    void **items; /* owned */
    uint32_t head;
    uint32_t count;
    uint32_t capacity;
} outbox_t;

#define POOL_DECISIONS 256u /* of each topic that are kept; 8 times a power of two */

/* A decision of the scaler's. */
typedef struct {
    ef_pool_decision_t decision;
    ef_pool_limit_t limit;
    uint64_t wall_ms;
    char text[320];
} router_decision_t;

/* What the scaler told of a topic. */
typedef struct {
    ef_scaler_state_t state;
    bool is_known;
    bool was_idle;                /* the last load that was told */
    ef_scaler_hand_t hand;        /* what was set */
    router_decision_t *decisions; /* owned ring; NULL: none yet */
    uint32_t head;                /* the oldest one */
    uint32_t count;
    uint32_t capacity;
} router_pool_t;

struct ef_router_s {
    ef_router_parts_t parts;
    ef_core_t *core;
    ef_peers_t peers;
    void *sockets[SOCKET_COUNT];
    int socket_fds[SOCKET_COUNT];
    bool may_have[SOCKET_COUNT];     /* a message; see s_sleep */
    zmq_msg_t frames[EF_FRAMES_MAX]; /* of the message under way */
    outbox_t to_journal;             /* ef_batch_t */
    outbox_t to_reader;              /* ef_fetch_t */
    outbox_t to_dead;                /* ef_dead_message_t */
    outbox_t to_upkeep;              /* ef_checkpoint_part_t */
    outbox_t to_monitor;             /* ef_monitor_message_t */
    outbox_t to_finder;              /* ef_question_t */
    outbox_t event_waits;            /* ef_question_t: to be asked once all is durable */
    outbox_t letter_waits;           /* ef_dead_message_t: asked once the letters are there */
    ef_waits_t *waits;               /* for the retry actor, gathered in this turn */
    outbox_t to_scaler;              /* ef_scaler_message_t */
    router_pool_t *pools; /* owned: what the scaler told, by the core's index of the topic */
    uint32_t pool_count;
    uint64_t next_load_ms;
    bool is_loaded;                /* something was in hand when the scaler was last told */
    outbox_t admin_waits;          /* admin_wait_t: answers that aren't true yet */
    outbox_t reload_waits;         /* reload_wait_t: who asked for RELOAD */
    ef_config_t settings;          /* as they are now; parts.config is as they were at the start */
    ef_reload_t *_Atomic reload;   /* from main, not taken yet */
    _Atomic uint64_t reload_asked; /* number of the last RELOAD */
    uint64_t config_ms;            /* wall clock: when `settings` were read */
    bool is_config_refused;        /* others were since then, and they were wrong */
    uint32_t batches_out;          /* submitted and not back */
    uint64_t next_stats_ms;
    uint64_t started_ms;
    uint64_t messages_in;
    uint64_t oversized;
    _Atomic uint32_t stop_grace; /* 0: runs; else told to stop, ms + 1 */
    uint64_t stop_at_ms;
    bool is_stopping;
    bool is_finishing;    /* the last checkpoint is asked for */
    bool wants_stop;      /* asked for over admin */
    uint32_t spares_told; /* what the core knows of them */
    bool tight_told;
    uint64_t recovery_ms;  /* how long it took */
    _Atomic bool is_ready; /* recovery is over, the actors run */
    _Atomic uint64_t recovered_bytes;
    _Atomic uint64_t recovery_bytes; /* to be read in all */
};

/* router.c */
int router_receive (ef_router_t *self, void *socket);
void router_core_config (const ef_router_t *self, ef_core_config_t *core);

/* effects.c */
void router_effects (ef_router_t *self, ef_effects_t *effects);
void router_flush (ef_router_t *self);
void outbox_add (outbox_t *self, void *item);
void outbox_free (outbox_t *self);
int router_send_frames (ef_router_t *self, const ef_peer_t *peer, const ef_buf_t *header,
                        zmq_msg_t *body);

/* recovery.c */
bool router_await_recovery (ef_router_t *self);

/* reload.c */
bool router_ask_reload (ef_router_t *self, const ef_peer_t *peer);
bool router_take_reload (ef_router_t *self, const ef_effects_t *effects);
void router_forget_reload (ef_router_t *self);

/* pools.c */
bool router_take_scaler (ef_router_t *self, const ef_effects_t *effects);
void router_tell_scaler (ef_router_t *self);
void router_tell_pool (ef_router_t *self, const ef_config_topic_t *topic);
void router_tell_bounds (ef_router_t *self);
void router_pools_free (ef_router_t *self);
/* Appends the map of a topic's pool. */
void router_put_pool (const ef_router_t *self, uint32_t topic, ef_buf_t *out);
/* The same of a worker, with its pool's restarts where it has one. */
void router_put_worker (const ef_router_t *self, const ef_worker_map_t *worker, ef_buf_t *out);
void router_put_history (const ef_router_t *self, uint32_t topic, ef_buf_t *out);
/* Sets what is in a map of options. NULL, or what was wrong with it. */
const char *router_set_pool (ef_router_t *self, const char *topic, ef_cursor_t options);
/* At least so many, as SCALE says it. */
void router_scale (ef_router_t *self, const char *topic, uint32_t count);

/* stats.c */
void router_stats (ef_router_t *self);

/* admin.c */
void router_put_process (ef_router_t *self, ef_buf_t *out);
void router_admin (ef_router_t *self, const ef_peer_t *peer, const zmq_msg_t *frame);
void router_admin_durable (ef_router_t *self);
/* Answers once all that was written so far is durable; takes the answer's memory. */
void router_admin_later (ef_router_t *self, const ef_peer_t *peer, ef_buf_t *answer);
void router_admin_forget (ef_router_t *self);

/* letters.c */
/* Takes a DLQ request; its answer comes later. */
void router_letters_ask (ef_router_t *self, const ef_peer_t *peer, ef_cursor_t request);
void router_letters_moved (ef_router_t *self);
void router_letters_answer (ef_router_t *self, ef_dead_message_t *message);
void router_letters_forget (ef_router_t *self);

/* events.c */
/* Takes a request about events; its answer comes later. Else what was expected. */
const char *router_event_ask (ef_router_t *self, const ef_peer_t *peer, ef_cursor_t request,
                              ef_status_t *status);
void router_event_found (ef_router_t *self, ef_question_t *question);
void router_event_letters (ef_router_t *self, ef_question_t *question);
void router_event_durable (ef_router_t *self);
void router_event_forget (ef_router_t *self);

#endif
