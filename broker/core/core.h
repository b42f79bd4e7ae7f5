/* The core: everything that decides what happens to an event. SPDX-License-Identifier: MIT

   Role: takes what peers, the journal and the actors say, changes its tables, calls its effects.
   Owns: topics, events in hand, sessions, workers, leases. Talks to: nobody but through
   ef_effects_t. Invariants: the law (ef_core_check); what a peer was told is durable; no clock, no
   I/O, no randomness of its own, so the simulator runs this very object code. On failure: it
   asserts on itself, and answers peers. */
#ifndef EF_CORE_H
#define EF_CORE_H

#include "../../proto/event.h"
#include "../journal/checkpoint.h"
#include "../journal/wal.h"
#include "breaker.h"
#include "cache.h"
#include "settings.h"

/* An event in an extent is found by walking from the extent's first record; what is read for that
   must fit one stretch (EF_READ_AHEAD). */
#define EF_EXTENT_SPAN (32u << 10)

typedef struct ef_core_s ef_core_t;

typedef struct {
    char broker[64]; /* name told in WELCOME */
    uint32_t max_event;
    uint32_t max_message;
    uint32_t window; /* events */
    uint32_t heartbeat_ms;
    uint64_t segment_bytes;    /* a new segment begins once so much is written */
    uint64_t segment_slack;    /* and so much more is reserved in its file, for the last batch */
    uint32_t spares;           /* segments that are kept ready */
    uint32_t extent_span;      /* bytes of the journal that one extent may run over */
    uint64_t checkpoint_bytes; /* of the journal between two checkpoints; 0: none are taken */
    uint64_t cache_bytes;
    uint64_t behind_bytes; /* not yet durable; past it publishers aren't read */
    bool auto_create;      /* an unknown topic is made with `defaults` */
    double publisher_rate; /* events a second of one publisher; 0: no bound */
    uint32_t publisher_burst;
    ef_topic_config_t defaults;
    const char *durability; /* named in every CONFIRM; static */
} ef_core_config_t;

typedef struct {
    const uint8_t *data;
    size_t size;
} ef_frame_t;

/* Why an event died; on disk as this number. */
#define EF_REASON_TABLE(X)                                                                         \
    X (NONE, "none")                                                                               \
    X (ATTEMPTS, "attempts")                                                                       \
    X (PERMANENT, "permanent")                                                                     \
    X (OVERFLOW, "overflow")                                                                       \
    X (EXPIRED, "expired")                                                                         \
    X (INVALID, "invalid")                                                                         \
    X (POISON, "poison")                                                                           \
    X (QUOTA, "quota")
typedef enum {
#define X(name, text) EF_REASON_##name,
    EF_REASON_TABLE (X)
#undef X
        EF_REASON_COUNT
} ef_reason_t;
const char *ef_reason_name (ef_reason_t reason);

/* Why an attempt failed, for those who count; its code says more. */
#define EF_FAILURE_TABLE(X)                                                                        \
    X (ERROR, "error")             /* its worker said so: another attempt may do */                \
    X (PERMANENT, "permanent")     /* the same: no attempt will */                                 \
    X (TIMEOUT, "timeout")         /* its worker's own time for it was over */                     \
    X (LEASE, "lease")             /* its lease ran out */                                         \
    X (WORKER_LOST, "worker_lost") /* its worker fell silent, or its process died */
typedef enum {
#define X(name, text) EF_FAILURE_##name,
    EF_FAILURE_TABLE (X)
#undef X
        EF_FAILURE_COUNT
} ef_failure_t;
const char *ef_failure_name (ef_failure_t failure);

/* States of an event; the law sums them. */
#define EF_STATE_TABLE(X)                                                                          \
    X (READY, "ready")                                                                             \
    X (LEASED, "leased")                                                                           \
    X (SCHEDULED, "scheduled")                                                                     \
    X (RETRYING, "retrying")                                                                       \
    X (PARKED, "parked")                                                                           \
    X (DONE, "done")                                                                               \
    X (DEAD, "dead")                                                                               \
    X (ARCHIVED, "archived")                                                                       \
    X (PURGED, "purged")
typedef enum {
#define X(name, text) EF_STATE_##name,
    EF_STATE_TABLE (X)
#undef X
        EF_STATE_COUNT
} ef_state_t;
const char *ef_state_name (ef_state_t state);

/* A dead letter on its way to its journal. `event` has its id written out; everything is borrowed
   for the call. */
typedef struct {
    uint64_t m;
    uint64_t n;
    uint64_t accepted_ms;
    uint64_t dead_ms;
    uint32_t attempts;
    ef_reason_t reason;
    ef_span_t event;
    ef_span_t history; /* [[code, text, trace, ms, worker], …] */
} ef_dead_t;

/* A dead letter that comes back (borrowed for the call). */
typedef struct {
    uint64_t accepted_ms;
    ef_span_t event;
    ef_span_t history;
} ef_returned_t;

/* How much room the journal has. */
#define EF_SPACE_TABLE(X)                                                                          \
    X (NORMAL, "normal") /* all is taken */                                                        \
    X (LOW, "low")       /* publishers are refused, work goes on */                                \
    X (FULL, "full")     /* ingress isn't read, a failed attempt keeps its code only */
typedef enum {
#define X(name, text) EF_SPACE_##name,
    EF_SPACE_TABLE (X)
#undef X
        EF_SPACE_COUNT
} ef_space_t;
const char *ef_space_name (ef_space_t space);

typedef struct {
    void *arg;
    /* Memory for a message's body of exactly `bytes`; `*message` is its handle. */
    uint8_t *(*body_new) (void *arg, size_t bytes, void **message);
    /* Sends a header and a body (or NULL) to a peer; takes the body in any case. 0; -1: the peer
       can't take it now or is gone. */
    int (*send) (void *arg, uint32_t peer, const ef_buf_t *header, void *message);
    /* The core is done with a peer: nothing of it is known any more. */
    void (*forget) (void *arg, uint32_t peer);
    /* Takes a batch to be made durable; it comes back by ef_core_durable, in order. */
    void (*submit) (void *arg, ef_batch_t *batch);
    /* Wants the journal from a place on; comes back by ef_core_fetched, once for each call. */
    void (*fetch) (void *arg, uint32_t segment, uint32_t offset);
    /* The oldest segment is no longer needed. */
    void (*drop_segment) (void *arg, uint32_t segment);
    /* Takes a part of a checkpoint, and its memory; comes back by ef_core_checkpointed. */
    void (*checkpoint) (void *arg, ef_checkpoint_part_t *part);
    /* Wants ef_core_due at a time. */
    void (*retry_at) (void *arg, uint32_t topic, uint64_t n, uint32_t generation, uint64_t due_ms);
    void (*dead) (void *arg, const char *topic, const ef_dead_t *dead);
    /* The move b back is durable here: the dead letters may be dropped there. */
    void (*returned) (void *arg, const char *topic, uint64_t b);
    /* Wants up to `count` overflow letters of a topic back, by ef_core_return. */
    void (*want_overflow) (void *arg, const char *topic, uint32_t count);
    /* Something worth knowing: "stall", "overflow", … with a detail in words. */
    void (*notify) (void *arg, const char *kind, const char *topic, const char *detail);
    uint64_t (*random) (void *arg);
} ef_effects_t;

ef_core_t *ef_core_new (const ef_core_config_t *config, const ef_effects_t *effects);
void ef_core_destroy (ef_core_t **self_p);

/* Takes what may change while it runs: auto_create, the rate of publishers, and the defaults of
   topics to come. */
void ef_core_configure (ef_core_t *self, const ef_core_config_t *config);

/* Adds a topic or changes the settings of one. Before replay for those that are configured. 0, or
   -1 past EF_TOPICS_MAX. */
EF_MUST_USE int ef_core_configure_topic (ef_core_t *self, const ef_topic_config_t *config);

/* Where events go that name no topic; copied. At any time. */
void ef_core_set_routes (ef_core_t *self, const ef_route_t *routes, uint32_t count);

/* A checkpoint's records, before any replay. 0, or -1 for one that makes no sense: the core is to
   be thrown away then. */
EF_MUST_USE int ef_core_restore (ef_core_t *self, const ef_record_t *record);
/* Replay: every record in order, then the end, once. 0, or -1 for a record that makes no sense. */
EF_MUST_USE int ef_core_replay (ef_core_t *self, const ef_record_t *record);
/* What the dead-letter journal of a topic has: the highest m taken, how many letters, and the
   highest b that it has noted as leaving. */
void ef_core_replay_dead (ef_core_t *self, const char *topic, uint64_t m);
/* What replay found of the journal itself. */
typedef struct {
    uint32_t epoch;
    uint32_t oldest_segment;
    const uint64_t *sizes; /* bytes of each segment from the oldest on; borrowed for the call */
    uint32_t size_count;
    uint64_t replayed_bytes; /* read just now: many are a reason for a checkpoint */
} ef_core_log_t;
void ef_core_start (ef_core_t *self, const ef_core_log_t *log);

/* Sets both clocks; called before any other input of a turn. */
void ef_core_clock (ef_core_t *self, uint64_t mono_ms, uint64_t wall_ms);

/* One message from a peer, routing id and empty delimiter taken off. `peer` is a small number of
   the caller's that stands for the connection until forget. */
void ef_core_front (ef_core_t *self, uint32_t peer, bool is_req, const ef_frame_t *frames,
                    uint32_t count);
void ef_core_back (ef_core_t *self, uint32_t peer, const ef_frame_t *frames, uint32_t count);
void ef_core_ingress (ef_core_t *self, const ef_frame_t *frames, uint32_t count);

/* Answers from the journal and the actors. The batch's memory passes to the core. */
void ef_core_durable (ef_core_t *self, ef_batch_t *batch);
void ef_core_fetched (ef_core_t *self, uint32_t segment, uint32_t offset, ef_stretch_t stretch);
void ef_core_due (ef_core_t *self, uint32_t topic, uint64_t n, uint32_t generation);
void ef_core_dead_durable (ef_core_t *self, const char *topic, uint64_t m);
/* Move b of a topic: `count` letters come back, or, with `purge`, go for good. */
void ef_core_return (ef_core_t *self, const char *topic, uint64_t b, bool purge,
                     const ef_returned_t *letters, uint32_t count);

/* The part that was handed over is written (rc 0) or the checkpoint was given up. */
void ef_core_checkpointed (ef_core_t *self, uint32_t segment, bool is_last, int rc);
/* At a clean end, once nothing is leased and all is durable: begins a last checkpoint. */
void ef_core_finish (ef_core_t *self);
bool ef_core_is_finished (const ef_core_t *self);

/* The lsn behind which everything that was done so far is durable, and how far that is. */
uint64_t ef_core_written_lsn (const ef_core_t *self);
uint64_t ef_core_durable_lsn (const ef_core_t *self);
/* The number of a topic's last dead letter, and whether all up to m have been handed over. */
uint64_t ef_core_last_move (const ef_core_t *self, uint32_t topic);
bool ef_core_has_moved (const ef_core_t *self, uint32_t topic, uint64_t m);

/* How many segments are ready, and whether no further one can be made for want of space. */
void ef_core_space (ef_core_t *self, uint32_t ready, bool is_tight);
ef_space_t ef_core_space_state (const ef_core_t *self);
uint32_t ef_core_oldest_segment (const ef_core_t *self);
uint32_t ef_core_newest_segment (const ef_core_t *self);
uint64_t
ef_core_room (const ef_core_t *self); /* bytes that can be journaled without a new segment */

/* Judges deadlines that have passed. */
void ef_core_tick (ef_core_t *self);
/* Hands out what can be handed out and submits the batch under way. Ends every turn. */
void ef_core_turn (ef_core_t *self);
/* When ef_core_tick must be called next at the latest, in monotonic ms. */
uint64_t ef_core_next_ms (const ef_core_t *self);

/* True while so much isn't durable yet that publishers aren't to be read. */
bool ef_core_is_behind (const ef_core_t *self);
/* True where nothing submitted waits to become durable. */
bool ef_core_is_settled (const ef_core_t *self);

/* Control. Each answers EF_OK or says why not. */
ef_status_t ef_core_pause (ef_core_t *self, const char *topic, bool paused);
ef_status_t ef_core_drain (ef_core_t *self, const char *topic);
ef_status_t ef_core_purge (ef_core_t *self, const char *topic, uint64_t *purged);
/* Single events that aren't leased, by topic and n: gone for good (counted as purged); not before a
   time (wall clock; a date follows the wall clock when it is set, a while doesn't); at once.
   EF_NOT_FOUND: it isn't live; EF_BAD_COMMAND: it is leased, or ready already; EF_FULL: the topic
   holds all the scheduled events that it may. */
ef_status_t ef_core_cancel (ef_core_t *self, uint32_t topic, uint64_t n);
ef_status_t ef_core_delay (ef_core_t *self, uint32_t topic, uint64_t n, uint64_t due_ms,
                           bool is_date);
ef_status_t ef_core_run_now (ef_core_t *self, uint32_t topic, uint64_t n);
/* Takes a leased event away from its worker, uncounted; it isn't given back to that one for a
   while, or, with a name in `to`, to no other. EF_BAD_COMMAND: it isn't leased; EF_UNKNOWN_PEER: no
   such worker. */
ef_status_t ef_core_release (ef_core_t *self, uint32_t topic, uint64_t n, const char *to);
/* A breaker by hand; an empty downstream means the topic's own. EF_NOT_FOUND: no such topic. */
ef_status_t ef_core_set_breaker (ef_core_t *self, uint32_t topic, ef_span_t downstream,
                                 ef_hand_t hand);
/* Brings on what is parked: the event of a key, or, with NULL, all of a topic. */
ef_status_t ef_core_unpark (ef_core_t *self, uint32_t topic, const ef_span_t *key, uint64_t *count);

/* Appends a map that says why an event isn't running now: state, reason (a word), text (a
   sentence), attempts, and where they are known until, since (ms since 1970), behind (n of the
   event that has its key), worker. EF_NOT_FOUND: it isn't live. */
ef_status_t ef_core_explain (ef_core_t *self, uint32_t topic, uint64_t n, ef_buf_t *out);

/* Borrowed until settings change. */
const ef_topic_config_t *ef_core_topic_config (const ef_core_t *self, uint32_t topic);
/* Appends four pairs of a map: breakers, quota, keys, dedupe (SPECIFICATION.md, "Admin"). */
void ef_core_topic_info (ef_core_t *self, uint32_t topic, ef_buf_t *out);
/* Appends up to `limit` maps of keys behind which something waits, from `*position` on (0 at
   first); returns how many. */
uint32_t ef_core_keys (ef_core_t *self, uint32_t topic, uint32_t limit, uint32_t *position,
                       ef_buf_t *out);
/* Appends the map of a breaker. EF_NOT_FOUND: there is none. */
ef_status_t ef_core_breaker (const ef_core_t *self, uint32_t topic, ef_span_t downstream,
                             ef_buf_t *out);

/* Tells every worker to finish and leave, and publishers that nothing more is taken. */
void ef_core_drain_all (ef_core_t *self);
uint64_t ef_core_leased (const ef_core_t *self);

/* What is where: appended as MessagePack maps (SPECIFICATION.md, "Stats"). */
void ef_core_status (const ef_core_t *self, ef_buf_t *out);
void ef_core_ingress_stats (const ef_core_t *self, ef_buf_t *out);
uint64_t ef_core_inserting (const ef_core_t *self, uint32_t index);
uint32_t ef_core_topic_count (const ef_core_t *self);
const char *ef_core_topic_name (const ef_core_t *self, uint32_t index);
void ef_core_topic_stats (ef_core_t *self, uint32_t index, ef_buf_t *out);
int ef_core_find_topic (const ef_core_t *self, const char *name, size_t size); /* -1: none */
uint64_t ef_core_count (const ef_core_t *self, uint32_t index, ef_state_t state);
uint64_t ef_core_accepted (const ef_core_t *self, uint32_t index);
/* What is told of a worker; borrowed for the call. The map is the caller's to begin, so that it can
   say more. */
typedef struct {
    const char *name;
    int topic; /* index of the first that it takes from, where the scaler has started it; else -1 */
    uint32_t pair_count;
    const ef_buf_t *pairs;
} ef_worker_map_t;
void ef_core_workers (const ef_core_t *self,
                      void (*each) (void *arg, const ef_worker_map_t *worker), void *arg);
/* Appends up to `limit` waiting events of a topic that are in memory, as [n, state, event or nil].
 */
ef_status_t ef_core_peek (ef_core_t *self, const char *topic, uint32_t limit, ef_buf_t *out,
                          uint32_t *count);

/* Appends a map of what is known of a live event: state, attempts, and as it is due (ms since
   1970), worker, tag, deadline (ms since 1970), or dead and on its way, ended and reason.
   EF_NOT_FOUND: it isn't live, or not durable yet. */
ef_status_t ef_core_show (ef_core_t *self, uint32_t topic_index, uint64_t n, ef_buf_t *out);

/* Why nothing, or little, of a topic may be handed out, however many workers there are. */
#define EF_HOLD_TABLE(X)                                                                           \
    X (NONE, "")                                                                                   \
    X (DRAINING, "draining") /* the broker ends */                                                 \
    X (PAUSED, "paused")                                                                           \
    X (BREAKER, "breaker")               /* the topic's own isn't closed */                        \
    X (RATE, "rate")                     /* the next delivery isn't due yet */                     \
    X (RETRY_CAPACITY, "retry_capacity") /* as many are in hand as may be */                       \
    X (DISK, "disk")                     /* no room for outcomes */                                \
    X (UNHEALTHY, "unhealthy")           /* most workers say that they are */
typedef enum {
#define X(name, text) EF_HOLD_##name,
    EF_HOLD_TABLE (X)
#undef X
        EF_HOLD_COUNT
} ef_hold_t;
const char *ef_hold_name (ef_hold_t hold);

/* What the scaler looks at (load.c). Totals are since start; only their growth means something. */
typedef struct {
    uint64_t ready;   /* a worker could have them now */
    uint64_t blocked; /* ready, and behind keys, breakers or quotas: no worker could have them */
    uint64_t leased;
    uint64_t retrying;     /* failed, their time hasn't come */
    uint64_t inserting;    /* they wait for room in the topic */
    double fill;           /* ready and leased, as a share of the capacity; 0: it has none */
    uint64_t oldest_ms;    /* how long the oldest has waited that nobody had yet, at least */
    uint64_t stalled_ms;   /* how long events are ready and no worker has credit; 0: they aren't */
    uint64_t stalled_sum;  /* total of that */
    uint64_t deliveries;   /* total */
    uint64_t done;         /* total */
    uint64_t failed;       /* total of attempts */
    uint64_t permanent;    /* total of events that died since no attempt would mend them */
    uint64_t overflowed;   /* total: insertion attempts used up, or too many wait for that */
    uint64_t credit;       /* of all workers */
    uint32_t workers;      /* that take from it and aren't leaving */
    uint32_t unhealthy;    /* of them */
    uint32_t pool_workers; /* of them, those that the scaler has started */
    uint32_t breakers;     /* that aren't closed */
    ef_hold_t hold;
} ef_load_t;
/* Of all topics, by index. To be called now and then: ages are known as exactly as that is often.
 */
void ef_core_loads (ef_core_t *self, ef_load_t *loads);
/* Calls `each` for every worker that came with a token: how many events it has answered, and how
   many it holds under a lease. */
void ef_core_tokens (const ef_core_t *self,
                     void (*each) (void *arg, const char *token, uint64_t answered, uint64_t held),
                     void *arg);
/* The process that was started with this token has crashed, as `text` says: what it held has
   failed, and is suspected of having killed it. */
void ef_core_worker_died (ef_core_t *self, const char *token, const char *text);
/* Tells the worker that was started with this token to finish and leave. False: it isn't here. */
bool ef_core_drain_worker (ef_core_t *self, const char *token);

/* A sum over all that must be the same after every recovery: which events are live and how, totals,
   sessions. For tests; before ef_core_start. Where the wall clock was set back, what waited and was
   due may wait again, by one way of recovery or the other: `ignores_dues` leaves that out. */
uint64_t ef_core_digest (ef_core_t *self, bool ignores_dues);

/* Asserts the law and all that the tables say of each other. Costs a walk over everything. */
void ef_core_check (ef_core_t *self);

/* Live events for tools, after replay (walk.c). A run of events that lie side by side in one record
   and share all that is said here; what is borrowed is good for the call. */
typedef struct {
    const char *topic;
    uint64_t n; /* of the next event */
    uint32_t count;
    uint32_t segment; /* of the record */
    uint32_t offset;
    uint32_t rel; /* as in an extent; 0: not known */
    uint32_t index;
    bool is_copy; /* the record is of type COPIES */
    ef_state_t state;
    ef_reason_t reason; /* dead: why */
    uint32_t attempts;  /* failed ones */
    uint64_t due_ms;    /* scheduled, retrying; wall clock */
    uint64_t dead_ms;
    uint64_t m;        /* dead: its number on the way out */
    ef_span_t history; /* [[code, text, trace, ms, worker], …] or empty */
    /* Set by ef_core_walk_event from a COPIES record, as they were when the copy was made. */
    uint32_t copy_attempts;
    ef_span_t copy_history; /* borrowed from the record */
} ef_live_t;

/* Calls `each` for every event of a topic that is ready, scheduled, retrying, or dead and not yet
   among its dead letters, in order of n. Returns the first answer that isn't 0. */
int ef_core_walk (ef_core_t *self, uint32_t index, int (*each) (void *arg, ef_live_t *live),
                  void *arg);
/* Replaces `event` by the next event of a run, its id written out, from the whole, checked record
   at `head`, and steps on: the event's n is live->n - 1 then. -1: the record doesn't hold it. */
EF_MUST_USE int ef_core_walk_event (const uint8_t *head, ef_live_t *live, uint64_t *accepted_ms,
                                    ef_buf_t *event);
/* Appends the SESSION record of a session as this version writes it; nothing where there is none.
 */
void ef_core_write_session (ef_core_t *self, const uint8_t id[16], ef_buf_t *out);
/* b of the last move back that the main journal has taken. */
uint64_t ef_core_last_return (const ef_core_t *self, uint32_t index);
/* Before the end of a replay: makes a topic's totals agree with what is there, where records were
   lost: `letters` in its dead-letter journal (UINT64_MAX: not known), accepted as the states sum
   to. Appends its TOPIC record. True: they had to change. */
bool ef_core_correct_totals (ef_core_t *self, uint32_t index, uint64_t letters, ef_buf_t *out);

#endif
