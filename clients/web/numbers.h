/* A broker's numbers, as its stats and its admin answers have them. SPDX-License-Identifier: MIT

   Role: reads the maps of SPECIFICATION.md section 8 into structs and keeps the newest of each
   topic, worker and pool; Prometheus, InfluxDB, history and alerts are made from these. Owns: the
   tables and a copy of each map as it came. Invariants: what a map lacks is 0 (`has` says which of
   the later ones it had); names are those of the broker, their number is bounded. Who shares one
   between threads locks it. */
#ifndef EF_NUMBERS_H
#define EF_NUMBERS_H

#include "../../broker/base/hash.h"
#include "../../proto/buf.h"
#include "../../proto/cursor.h"

#define NUMBERS_NAME_BYTES  72    /* a topic's (53) or a worker's name (64) with its NUL */
#define NUMBERS_STEPS_MAX   24    /* of a histogram; the broker has 18 */
#define NUMBERS_TOPICS_MAX  4096  /* EF_TOPICS_MAX: what a broker has at the most */
#define NUMBERS_WORKERS_MAX 10000 /* EF_WORKERS_MAX */
#define NUMBERS_CODES_MAX   32    /* codes that events were refused with: the protocol has fewer */
#define NUMBERS_KINDS_MAX   32    /* kinds of notices, the same */
#define NUMBERS_MAP_MAX     (64u << 10) /* bytes of one map; a larger one isn't a broker's */
#define NUMBERS_MISSED_MAX  3           /* rounds without it, then a topic or worker is gone */

/* How many were below first, 2 × first, 4 × first, … */
typedef struct {
    uint32_t steps; /* 0: not told */
    uint64_t first;
    uint64_t below[NUMBERS_STEPS_MAX];
    uint64_t count;
    uint64_t sum; /* in the unit of `first` */
} numbers_histogram_t;

/* Names as in the maps. */
/* clang-format off */
#define NUMBERS_TOPIC(ROW)                                                                         \
    ROW (ready) ROW (leased) ROW (scheduled) ROW (retrying) ROW (parked) ROW (done) ROW (dead)     \
    ROW (archived) ROW (purged) ROW (accepted) ROW (bytes) ROW (capacity_events)                   \
    ROW (capacity_bytes) ROW (inserting) ROW (insert_capacity) ROW (insert_failed)                 \
    ROW (overflowed) ROW (failed) ROW (deliveries) ROW (published_bytes) ROW (workers)             \
    ROW (extents) ROW (stalled_ms) ROW (lease_ms) ROW (attempts) ROW (unwell) ROW (took_p50_ms)    \
    ROW (took_p99_ms) ROW (waited_p50_ms) ROW (waited_p99_ms) ROW (oldest_ms)                      \
    ROW (redelivered) ROW (breakers_open) ROW (breakers_half_open) ROW (breakers_closed)
#define NUMBERS_FAILURES(ROW)                                                                      \
    ROW (error) ROW (permanent) ROW (timeout) ROW (lease) ROW (worker_lost)
#define NUMBERS_DEATHS(ROW)                                                                        \
    ROW (attempts) ROW (permanent) ROW (overflow) ROW (expired) ROW (invalid) ROW (poison)         \
    ROW (quota)
#define NUMBERS_WORKER(ROW)                                                                        \
    ROW (pid) ROW (credit) ROW (in_flight) ROW (bytes_in_flight) ROW (done) ROW (failed)           \
    ROW (heartbeat_ms) ROW (started) ROW (cpu_ms) ROW (rss_bytes) ROW (took_p50_ms)                \
    ROW (took_p99_ms) ROW (restarts)
#define NUMBERS_POOL(ROW)                                                                          \
    ROW (desired) ROW (running) ROW (starting) ROW (leaving) ROW (others) ROW (min) ROW (max)      \
    ROW (restarts) ROW (backlog) ROW (oldest_ms)
#define NUMBERS_BROKER(ROW)                                                                        \
    ROW (epoch) ROW (topics) ROW (workers) ROW (sessions) ROW (journal_oldest)                     \
    ROW (journal_newest) ROW (journal_cleaned) ROW (journal_bytes) ROW (live_bytes)                \
    ROW (checkpoint_segment) ROW (unsynced_bytes) ROW (cache_bytes) ROW (history_bytes)            \
    ROW (stale_answers) ROW (ingress_events) ROW (ingress_bytes) ROW (pid) ROW (started)           \
    ROW (rss_bytes) ROW (cpu_ms) ROW (peers) ROW (messages_in) ROW (groups) ROW (sync_us)          \
    ROW (waiting) ROW (spares) ROW (scrub_good_ms) ROW (scrub_bytes) ROW (scrub_damaged)           \
    ROW (recovery_ms) ROW (config_ms) ROW (disk_free_bytes) ROW (recovered_bytes) ROW (recovery_bytes)
/* clang-format on */

#define NUMBERS_FIELD(name) uint64_t name;

typedef struct {
    NUMBERS_FAILURES (NUMBERS_FIELD)
} numbers_failures_t;

typedef struct {
    NUMBERS_DEATHS (NUMBERS_FIELD)
} numbers_deaths_t;

typedef struct {
    char topic[NUMBERS_NAME_BYTES];
    NUMBERS_TOPIC (NUMBERS_FIELD)
    bool is_paused;
    bool is_draining;
    numbers_histogram_t took;    /* ms from delivery to answer */
    numbers_histogram_t waited;  /* ms from acceptance to first delivery */
    numbers_failures_t failures; /* attempts, by reason, since the broker's start */
    numbers_deaths_t deaths;     /* the same of events */
    uint64_t died;               /* their sum: `dead` shrinks where letters leave */
    ef_buf_t map;                /* as it came */
    uint64_t round;              /* when it came last */
    void *extra;                 /* the owner's, freed by its `forget` */
} numbers_topic_t;

typedef struct {
    char worker[NUMBERS_NAME_BYTES];
    char topic[NUMBERS_NAME_BYTES]; /* the first of its topics */
    char unhealthy[200];
    NUMBERS_WORKER (NUMBERS_FIELD)
    bool is_draining;
    bool is_unhealthy;
    ef_buf_t map;
    uint64_t round;
} numbers_worker_t;

typedef struct {
    char topic[NUMBERS_NAME_BYTES];
    NUMBERS_POOL (NUMBERS_FIELD)
    bool is_managed; /* the broker starts its workers */
    ef_buf_t map;
    uint64_t round;
} numbers_pool_t;

typedef struct {
    char name[NUMBERS_NAME_BYTES];
    uint64_t count;
} numbers_named_t;

typedef struct {
    char broker[NUMBERS_NAME_BYTES];
    char version[24];
    char durability[16];
    char space[16];
    NUMBERS_BROKER (NUMBERS_FIELD)
    bool is_draining;
    bool is_recovering;
    bool has_disk_free;
    bool is_config_refused;   /* the last time that its settings were to be read anew */
    numbers_histogram_t sync; /* µs of a sync of the journal */
    numbers_named_t refused[NUMBERS_CODES_MAX];
    uint32_t refused_count;
    ef_buf_t broker_map; /* as they came */
    ef_buf_t process_map;
} numbers_broker_t;

typedef struct {
    numbers_broker_t broker;
    ef_hash_t topics;                           /* of numbers_topic_t */
    ef_hash_t workers;                          /* of numbers_worker_t */
    ef_hash_t pools;                            /* of numbers_pool_t */
    numbers_named_t notices[NUMBERS_KINDS_MAX]; /* how many came, by kind */
    uint32_t notice_count;
    uint64_t round;                                     /* counts the snapshots; 0: none has come */
    void (*forget) (void *arg, numbers_topic_t *topic); /* may be NULL; frees `extra` */
    void *arg;
} numbers_t;

void numbers_init (numbers_t *self);
void numbers_free (numbers_t *self);

/* One stats message; `stats.broker` begins a new round. -1: it can't be read, nothing was changed;
   1: of no interest here. */
EF_MUST_USE int numbers_take (numbers_t *self, ef_span_t subject, ef_cursor_t map);
/* Ends a round: what didn't come for a while is forgotten. */
void numbers_sweep (numbers_t *self);

/* The value of an admin answer: STATUS, TOPICS, WORKERS or POOLS; each begins no round, so a caller
   that lives by these counts `round` itself before it asks. */
EF_MUST_USE int numbers_take_answer (numbers_t *self, const char *command, ef_cursor_t value);

/* One more of a kind of notice. */
void numbers_notice (numbers_t *self, ef_span_t kind);

/* Owned by the table; NULL: not known. */
numbers_topic_t *numbers_topic (const numbers_t *self, const char *name);
numbers_pool_t *numbers_pool (const numbers_t *self, const char *topic);
/* All of them by name; the array is the caller's to free, NULL where there are none. */
numbers_topic_t **numbers_topics_sorted (const numbers_t *self, uint32_t *count);

/* The value below which this share (0 to 1) is, taken as spread evenly within a step; 0: there are
   none. */
double numbers_quantile (const numbers_histogram_t *self, double share);
/* Adds one to another of the same steps, or to one that is empty. */
void numbers_add_histogram (numbers_histogram_t *self, const numbers_histogram_t *other);
/* What came since `before`; all of it where it counts anew. */
void numbers_since (const numbers_histogram_t *self, const numbers_histogram_t *before,
                    numbers_histogram_t *out);

#endif
