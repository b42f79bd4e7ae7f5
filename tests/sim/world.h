/* The simulated world: one broker made of production code, its disk, a network, publishers,
   workers, and a ledger that believes nobody. SPDX-License-Identifier: MIT */
#ifndef EF_SIM_WORLD_H
#define EF_SIM_WORLD_H

#include "../../broker/actors/retry_heap.h"
#include "../../proto/limits.h"
#include "settings.h"

#define SIM_PUBLISHERS  3
#define SIM_WORKERS     4
#define SIM_PEERS       64
#define SIM_HELD        512
#define SIM_UNCONFIRMED 256 /* PUBLISHes of one publisher */
#define SIM_SENT_MAX    16  /* events of one PUBLISH */

/* A message under way. */
typedef struct message_s {
    struct message_s *next;
    uint64_t at_ms;
    uint32_t peer;
    ef_buf_t header;
    ef_buf_t body;
} message_t;

typedef enum { KIND_NONE, KIND_PUBLISHER, KIND_WORKER } peer_kind_t;

/* One connection. Messages keep their order on each way. */
typedef struct {
    peer_kind_t kind;
    uint32_t owner;    /* which publisher or worker */
    bool is_cut;       /* the other side is gone; what is sent vanishes */
    bool is_known;     /* the core has had a message from it */
    bool has_had;      /* something was sent to it; a new pipe always has room */
    bool is_forgotten; /* by the core */
    uint32_t life;     /* which connection of this number */
    uint64_t heard_ms; /* when the core had its last message */
    message_t *to_core, *to_core_last;
    message_t *to_peer, *to_peer_last;
} wire_t;

typedef struct {
    uint8_t session[16];
    uint32_t wire; /* UINT32_MAX: not connected */
    bool is_welcome;
    uint64_t next_seq; /* of the next new PUBLISH */
    uint64_t heard;
    struct {
        uint64_t seq;
        uint32_t events[SIM_SENT_MAX];
        uint32_t count;
        bool atomic;
    } sent[SIM_UNCONFIRMED]; /* unconfirmed, in order of seq */
    uint32_t sent_count;
    uint64_t hello_ms; /* when it said so; a WELCOME that doesn't come means a lost connection */
    uint64_t confirms;
} publisher_t;

typedef struct {
    uint64_t tag;
    uint32_t event;
    bool is_answered;
    uint64_t ack_seq; /* 0: answered without one */
    uint32_t group;   /* first of the events that the ACK emits */
    uint32_t emits;   /* how many */
} held_t;

typedef struct {
    uint8_t session[16];
    bool has_session;
    char token[16]; /* of the process */
    uint32_t processes;
    uint32_t wire;
    bool is_welcome;
    bool is_silent; /* takes and never answers, doesn't ping */
    bool is_unwell; /* says so, and gets nothing new once the broker has heard it */
    uint32_t pings; /* unanswered on this connection */
    uint32_t
        unwell_ping; /* as many PONGs from now the broker has heard it; 0: it has, or needn't */
    uint64_t ready_ms;
    uint64_t seq;
    uint32_t credit;
    held_t held[SIM_HELD];
    uint32_t held_count;
} sim_worker_t;

typedef struct {
    uint64_t at_ms;
    ef_batch_t *batch;
} written_t;

typedef struct {
    uint64_t at_ms;
    uint32_t segment;
    uint32_t offset;
} wanted_t;

struct world_s {
    sim_random_t random;
    uint64_t seed;
    uint64_t now; /* monotonic ms of the broker's machine */
    uint64_t wall;
    bool was_set_back; /* the wall clock */
    uint64_t step_ms;  /* when it was set last; 0: never */
    uint64_t away_ms;  /* how long the broker was away, in all */
    uint64_t turn_ms;  /* its last turn */
    bool is_quiet;     /* faults have stopped; everything is to be finished */
    bool has_trace;
    sim_disk_t *disk;
    ef_core_config_t config;
    uint32_t features; /* bits by sim_feature_t */
    ef_topic_config_t topics[SIM_TOPICS];
    uint32_t keys[SIM_TOPICS]; /* how many keys its events have; 0: none */
    /* the broker's process */
    uint32_t life; /* how often it has started */
    ef_core_t *core;
    ef_storage_t *storage;
    ef_wal_t *wal;
    ef_spares_t spares;
    ef_checkpoint_writer_t checkpoint;
    ef_checkpoint_part_t *part; /* owned: to be written */
    uint64_t checkpoints_used;  /* recoveries that had one */
    uint64_t submitted_lsn;     /* of the last batch that the core handed over */
    uint64_t durable_lsn;       /* of the last one that it was told of */
    uint64_t gathered_lsn;      /* the checkpoint under way knows what was decided up to here */
    bool has_gathered;          /* in this turn: so up to the batch that ends it */
    uint32_t epoch;             /* of the last start */
    bool has_written;           /* in this epoch */
    bool is_refused;            /* it found no room for a first segment */
    bool is_tight;              /* no further segment can be made ready */
    uint64_t offered_b[SIM_TOPICS];
    ef_retry_heap_t waits;
    ef_dead_log_t *dead[SIM_TOPICS];
    uint64_t dead_told[SIM_TOPICS]; /* m that the core knows to be durable */
    ef_batch_t *ring[256];          /* submitted, not written */
    uint32_t ring_count;
    written_t written[256]; /* durable, not yet told */
    uint32_t written_count;
    wanted_t wanted[64];
    uint32_t wanted_count;
    uint32_t drop_count; /* segments that the core lets go */
    struct {
        uint32_t topic;
        uint64_t b;
    } returned[64];
    uint32_t returned_count;
    /* outside */
    wire_t wires[SIM_PEERS];
    publisher_t publishers[SIM_PUBLISHERS];
    sim_worker_t workers[SIM_WORKERS];
    sim_event_t *events; /* the ledger */
    uint32_t event_count;
    sim_lane_t lanes[SIM_TOPICS][SIM_LANES];
    sim_units_t units[SIM_TOPICS][SIM_SUBJECTS];
    uint32_t subjects[SIM_TOPICS][SIM_SUBJECTS]; /* events of each */
    sim_bucket_t buckets[SIM_TOPICS];
    bool is_down[SIM_DOWNSTREAMS];             /* it fails all or nearly all that it is asked */
    bool is_shut[SIM_TOPICS][SIM_DOWNSTREAMS]; /* its breaker was opened by hand */
    uint32_t unparks[SIM_TOPICS];              /* how often an operator brought things on */
    bool is_paused[SIM_TOPICS];                /* for certain */
    bool was_purged[SIM_TOPICS];               /* what nobody outside has seen may be gone */
    ef_load_t loads[SIM_TOPICS];               /* as they were last seen ... */
    uint64_t loads_life;                       /* ... in this life ... */
    uint64_t loads_since;                      /* ... since this time on */
    uint64_t again_life;                       /* deliveries of what was delivered before ... */
    uint64_t again_least[SIM_TOPICS];          /* ... in this life, for certain ... */
    uint64_t again_most[SIM_TOPICS];           /* ... and perhaps */
    uint64_t highest_tag;
    uint64_t handed; /* events of PUBLISHes that came to the core */
    struct {
        uint64_t tag;
        uint32_t event;
    } tags[SIM_TAGS]; /* of the last deliveries, by tag */
    uint64_t crashes;
    uint64_t crashes_in_recovery;
    uint64_t operations;
};

extern const char *const sim_topics[SIM_TOPICS];

/* effects.c */
ef_effects_t sim_effects (world_t *self);
void sim_offer_new (world_t *self, uint32_t topic); /* letters that leave and are durable */
void sim_trace_message (world_t *self, const char *way, uint32_t peer, const ef_buf_t *header);
void dead_step (world_t *self); /* an operator replays or purges dead letters */

/* broker.c */
bool broker_start (world_t *self); /* false: the disk failed meanwhile */
void broker_stop (world_t *self);  /* as a crash: nothing is flushed */
void broker_step (world_t *self);  /* one turn and whatever the actors have ready */
bool broker_is_settled (world_t *self);
uint32_t wire_open (world_t *self, peer_kind_t kind, uint32_t owner);
void wire_cut (world_t *self, uint32_t wire);
void wire_send (world_t *self, uint32_t wire, ef_buf_t header, ef_buf_t body);
void wire_say (world_t *self, uint32_t wire, const char *command);
message_t *wire_receive (world_t *self, uint32_t wire); /* what has arrived; NULL: nothing */
void message_free (message_t **message_p);

/* events.c */
uint32_t event_new (world_t *self, uint32_t publisher, uint32_t topic);
uint32_t event_again (world_t *self, uint32_t publisher);
void event_put (const world_t *self, ef_buf_t *body, uint32_t k);

/* operator.c */
void operator_step (world_t *self);
void operator_crashed (world_t *self); /* what it asked for may be forgotten */
void operator_quiet (world_t *self);   /* faults are over: sets free whatever it held */
void operator_tend (world_t *self);    /* and whatever waits for it */

/* publishers.c */
void publisher_step (world_t *self, uint32_t index);
void publisher_receive (world_t *self, uint32_t index);

/* workers.c, answers.c */
void worker_step (world_t *self, uint32_t index);
void worker_receive (world_t *self, uint32_t index);
void worker_vanish (world_t *self, uint32_t index); /* its process dies */
void worker_forget (sim_worker_t *worker, uint32_t at);
void worker_answer (world_t *self, sim_worker_t *worker, uint32_t at);
void worker_acked (world_t *self, sim_worker_t *worker, ef_cursor_t *cursor);

/* Fails the run with what was expected. */
_Noreturn void sim_fail (world_t *self, const char *format, ...) EF_PRINTF (2, 3);
void sim_trace (world_t *self, const char *format, ...) EF_PRINTF (2, 3);

#endif
