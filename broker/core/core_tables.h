/* The core's tables. SPDX-License-Identifier: MIT
   Only core_private.h includes this, and only files of broker/core that; everybody else sees
   core.h.
 */
#ifndef EF_CORE_TABLES_H
#define EF_CORE_TABLES_H

#include "../../proto/limits.h"
#include "../base/buggify.h"
#include "../base/hash.h"
#include "../base/heap.h"
#include "../base/histogram.h"
#include "breaker.h"
#include "bucket.h"
#include "core.h"
#include "extents.h"
#include "log_records.h"
#include "policy.h"
#include "quota.h"
#include "window.h"

#include <stdlib.h>

typedef struct topic_s topic_t;
typedef struct worker_s worker_t;
typedef struct session_s session_t;

/* Where an event lies: in which record, and where in it. */
typedef struct {
    uint32_t segment;
    uint32_t offset; /* the record's head */
    uint32_t rel;    /* from the head to the event (in COPIES: to its copy head) */
    uint32_t index;  /* in the record */
} place_t;

/* Errors of an event's attempts: the first and the last ones, as MessagePack items back to back. */
typedef struct {
    uint32_t bytes; /* of `items` */
    uint32_t count; /* items held */
    uint8_t items[];
} history_t;

enum {
    ENTRY_COPY = 1,      /* place names a COPIES record */
    ENTRY_INSERTING = 2, /* waits for room in its topic */
    ENTRY_PURGE = 8,     /* goes as soon as its lease is over */
    ENTRY_META = 4,      /* has a ttl */
    ENTRY_AT = 16,       /* scheduled for a date, not after a while */
    ENTRY_KEYED = 32,    /* has an ordering key */
    ENTRY_LET = 64,      /* its turn has come, where turns are taken */
    ENTRY_SUSPECT = 128, /* a worker's process died with it: it runs alone */
    ENTRY_ALONE = 256,   /* and one died with it alone */
    ENTRY_GATED = 512,   /* ready, and waits behind a gate */
    ENTRY_FLAGS = 1023,  /* all that an entry may have; the rest are an item's */
    ENTRY_NAMED = 1024,  /* a message under way has named it */
    ENTRY_HELD = 2048,   /* an answer to it was refused for want of space */
    ITEM_PROBE = 4096    /* a breaker waits for what becomes of it */
};

typedef enum { GATE_KEY = 1, GATE_DOWNSTREAM, GATE_QUOTA, GATE_UNIT, GATE_TURN } gate_kind_t;
#define GATE_NAME_BYTES (1 + EF_ID_MAX + 8) /* kind and name */
struct entry_s;

/* Something that events of a topic wait behind (gate.c). */
typedef struct gate_s {
    ef_heap_t waiting;   /* entries, by n */
    uint64_t owner;      /* of a key: the event that has it; 0: none */
    uint64_t since_ms;   /* wall clock: since when it has it, or the gate is shut */
    uint64_t until_ms;   /* wall clock: when it is to be looked at; UINT64_MAX: never by itself */
    uint32_t asides;     /* events that are about to wait */
    struct gate_s *next; /* GATE_TURN: behind it in the line; NULL: it isn't in it */
    struct gate_s *prev; /* likewise */
    uint8_t size;        /* of the name */
    uint8_t label_size;  /* GATE_QUOTA: bytes behind the name that say whose it is */
    uint8_t name[GATE_NAME_BYTES];
} gate_t;

/* An event that needs more than its extent says: failed, scheduled, given back, dead on its way. */
typedef struct entry_s {
    uint64_t n; /* 0: a free place */
    union {
        uint64_t tag; /* of the last delivery, 0: none since the start; or TAG_GONE */
        uint64_t m;   /* dead: its number on the way out */
    };
    union {
        uint64_t due_ms;  /* wall clock; retrying and scheduled */
        uint64_t dead_ms; /* wall clock; dead */
        gate_t *gate;     /* ENTRY_GATED */
    };
    union {
        history_t *history;   /* owned, NULL: no failed attempt */
        struct entry_s *next; /* of a free place */
    };
    place_t place;
    uint32_t heap_at;    /* in the topic's ready heap */
    uint32_t generation; /* answers that carry another one are late */
    uint32_t bytes : 24; /* of the event */
    uint32_t reason : 4; /* ef_reason_t */
    uint32_t state : 4;  /* ef_state_t */
    uint32_t topic : 12; /* index */
    uint32_t tries : 10; /* failed attempts; ENTRY_INSERTING: tries to insert it */
    uint32_t flags : 10; /* ENTRY_, those an entry may have */
} entry_t;
_Static_assert(sizeof (entry_t) == 64, "a cache line an event in hand");
_Static_assert(EF_TOPICS_MAX <= 1 << 12 && EF_EVENT_CEILING < 1 << 24 && EF_STATE_COUNT <= 16 &&
                   EF_REASON_COUNT <= 16,
               "what an entry says fits its bits");

#define TRIES_MAX   1023
#define TAG_GONE    UINT64_MAX /* it was delivered, and no late answer to that counts */
#define ENTRY_BLOCK 256        /* entries that are allocated at a time */

typedef enum { ITEM_OPEN, ITEM_LAPSED, ITEM_ANSWERED } item_state_t;

/* The breaker of a downstream, or, with an empty name, the topic's own. */
typedef struct {
    ef_breaker_t state;
    uint32_t size; /* of the name */
    char name[EF_ID_MAX + 1];
} breaker_t;

/* An event that names no downstream but has failed because of one. */
typedef struct {
    uint64_t n;
    breaker_t *breaker;
} tie_t;

typedef enum { OUTCOME_NONE, OUTCOME_GOOD, OUTCOME_FAILED } breaker_outcome_t;

/* One event of a delivery. */
typedef struct {
    uint64_t n;
    uint64_t deadline_ms;
    uint8_t *event; /* owned, whole, where its end needs it; else NULL */
    uint32_t event_bytes;
    breaker_t *breaker; /* of its downstream; NULL: none */
    entry_t *entry;     /* NULL: a first attempt straight from an extent */
    place_t place;
    uint32_t bytes;
    uint16_t flags; /* ENTRY_ */
    uint8_t state;  /* item_state_t */
    bool is_warned;
} item_t;

/* One delivery: events of one topic sent to one worker in one message, tags counting up by one. */
typedef struct lease_s {
    uint64_t first_tag;
    uint64_t next_ms;    /* when one of its items must be looked at */
    uint64_t started_ms; /* wall clock */
    uint64_t began_ms;   /* monotonic: what EXTENDs are bounded by */
    worker_t *worker;
    topic_t *topic;
    uint32_t heap_at;
    uint32_t count;
    uint32_t unanswered; /* items that still fill the worker's windows */
    item_t items[];
} lease_t;

/* A worker's place in a topic's queue for work. */
typedef struct sub_s {
    worker_t *worker;
    topic_t *topic;
    struct sub_s *prev;
    struct sub_s *next;
    int queue; /* 0 idle, 1 busy with credit left, -1 in none */
} sub_t;

struct worker_s {
    char name[EF_NAME_MAX + 8];
    char asked_name[EF_NAME_MAX + 1];
    char host[EF_NAME_MAX + 1];
    char token[EF_TOKEN_MAX + 1];
    uint8_t session[16];
    bool has_session;
    bool is_draining;
    bool is_unhealthy;     /* says so itself */
    bool is_stuck;         /* a send failed; nothing more until it is heard of */
    bool is_alone;         /* has a suspect: nothing more until it has answered */
    topic_t *reserved_for; /* nothing more until it is idle and gets this topic's suspect */
    uint64_t pid;
    uint32_t peer;
    uint32_t credit;
    uint32_t in_flight;
    uint64_t bytes; /* window */
    uint64_t bytes_in_flight;
    uint32_t heartbeat_ms; /* 0: judged by its leases alone */
    uint64_t started_ms;
    uint64_t done;
    uint64_t failed;
    char unhealthy[EF_REASON_MAX + 1]; /* why, as it says */
    uint64_t cpu_ms;                   /* the same, with its last PING */
    uint64_t rss_bytes;
    ef_histogram_t took; /* what it answered, from delivery on */
    sub_t *subs;         /* owned */
    uint32_t sub_count;
    uint64_t share;   /* the greatest of a topic that it was served from */
    lease_t **leases; /* owned, ascending tags; finished ones are NULL */
    uint32_t lease_head;
    uint32_t lease_count;
    uint32_t lease_capacity;
};

/* What became of one PUBLISH. */
typedef struct {
    uint64_t lsn;    /* decided once this is durable */
    uint32_t events; /* as counted against the window */
    uint32_t accepted;
    uint32_t duplicates;
    bool is_unknown; /* lost with a restart: nothing of it was stored */
    uint32_t extra_bytes;
    uint8_t *extra; /* owned: refused count (u32), ids count (u32), items as MessagePack */
} outcome_t;

struct session_s {
    uint8_t id[16];
    char name[EF_NAME_MAX + 1];
    uint32_t peer;        /* PEER_NONE while unconnected */
    uint64_t last;        /* seq of the last PUBLISH taken */
    uint64_t decided;     /* durable up to here */
    uint64_t confirmed;   /* told on this connection up to here */
    uint64_t unconfirmed; /* events in (decided, last] */
    uint64_t kept_events; /* of the outcomes held */
    uint64_t kept_bytes;  /* of the same */
    outcome_t *outcomes;  /* owned ring; the newest is that of `last` */
    uint32_t head;
    uint32_t count;
    uint32_t capacity;
    uint64_t queued_lsn;  /* it stands in the queue for this lsn already */
    uint64_t left_ms;     /* when its connection went */
    uint64_t repeated_ms; /* when an answer was last said again */
    ef_bucket_t bucket;
    uint32_t window_told;
    uint32_t queued; /* places in the queue that point here */
    bool is_forgotten;
};

typedef enum { PEER_UNKNOWN, PEER_FRONT, PEER_BACK } peer_role_t;
#define PEER_NONE UINT32_MAX

typedef struct {
    peer_role_t role;
    bool is_req;
    bool is_denied; /* its session was taken over */
    session_t *session;
    worker_t *worker;
    uint64_t heard_ms;
    uint64_t sent_ms;
    uint32_t generation; /* of the number: answers for another one's bearer are dropped */
    uint32_t waiting;    /* answers that wait, without a session */
    ef_bucket_t bucket;
} peer_t;

#define LOAD_MARKS 16 /* a topic's age is known to about a tenth of it */

/* Until a time not to this worker, or to no other. */
typedef struct {
    uint64_t n;
    uint64_t until_ms;
    bool is_only;
    char worker[EF_NAME_MAX + 8];
} avoid_t;

struct topic_s {
    ef_topic_config_t config;
    uint32_t index;
    bool is_paused;
    bool is_draining;
    bool is_new; /* no TOPIC record was written since it was made */
    uint64_t next_n;
    uint64_t accepted;
    uint64_t counts[EF_STATE_COUNT];
    uint64_t bytes;           /* ready, leased, scheduled, retrying */
    uint64_t m;               /* last decided move out */
    uint64_t b;               /* last taken move back */
    uint64_t attempts_failed; /* totals */
    uint64_t deliveries;
    uint64_t failures[EF_FAILURE_COUNT]; /* since start, as all that follow */
    uint64_t deaths[EF_REASON_COUNT];
    uint64_t redelivered;   /* of the deliveries: of what a worker is known to have had before */
    uint64_t failed_before; /* attempts_failed at the start */
    uint64_t m_before;      /* m at the start */
    uint64_t overflowed;
    uint64_t insert_failed;
    uint64_t refused;
    uint64_t published_bytes;
    uint64_t purge_floor; /* the last purge went up to here: what it spared goes once it is back */
    ef_extents_t extents;
    ef_hash_t entries;         /* by n */
    ef_heap_t ready;           /* entries that are ready and behind no gate, by n */
    ef_hash_t gates;           /* by kind and name */
    ef_hash_t breakers;        /* by downstream */
    ef_hash_t ties;            /* by n */
    uint64_t breakers_next_ms; /* monotonic: when one may let something go */
    ef_quota_t quota;
    ef_bucket_t rate;
    ef_budget_t budget;         /* of retries */
    ef_hash_t owners;           /* gates of keys, by the event that has the key */
    uint64_t blocked;           /* entries behind gates; they count as ready */
    gate_t *turn;               /* last in the line of those who take turns; NULL: nobody waits */
    uint32_t turns;             /* entries that wait for their turn; among the blocked ones */
    uint32_t suspects;          /* entries */
    worker_t *reserved;         /* is to become idle for a suspect; NULL: none */
    uint64_t reserved_until_ms; /* monotonic: then it is another one's turn */
    struct {
        uint64_t next_ms; /* wall clock: nothing is over before; UINT64_MAX: nothing has a ttl */
        uint64_t seen_ms; /* the same of what this search has seen */
        uint64_t n;       /* it goes on from here */
        uint32_t position;
        bool is_among_entries;
    } expiry;
    uint64_t gates_next_ms; /* wall clock: the first until_ms */
    uint64_t *claims;       /* owned: n of entries that had failed before the start, whose keys
                               aren't known yet */
    uint32_t claim_count;
    bool is_scan_stopped; /* no further event can be set aside */
    uint64_t scan_serial; /* message that these counts are of */
    uint32_t scan_events;
    uint32_t scan_scheduled;
    uint64_t scan_bytes;
    ef_window_t *ids; /* owned; NULL: none is known */
    uint32_t inserting;
    sub_t *queues[2]; /* circular lists: idle workers, busy ones with credit */
    uint32_t workers;
    uint32_t unwell;        /* of them, those that take nothing new for their health */
    ef_histogram_t *took;   /* owned; from delivery to answer; NULL: nothing was answered yet */
    ef_histogram_t *waited; /* owned; from acceptance to first delivery; NULL: the same */
    entry_t **outbox;       /* owned ring: dead, in order of m, not yet durable over there */
    uint32_t outbox_head;
    uint32_t outbox_count;
    uint32_t outbox_capacity;
    uint32_t outbox_sent;    /* of them, handed to the dead-letter actor */
    uint64_t outbox_bytes;   /* of those */
    uint32_t outbox_durable; /* of them, those whose DEAD record is durable: may be handed over */
    uint64_t pending_events; /* written, not yet durable: accepted once they are */
    uint64_t pending_dead;   /* of them, those that are dead from the start */
    uint64_t returning;      /* dead letters that are on their way back */
    uint64_t pinned_bytes;   /* of events that are kept with their leases */
    uint64_t share;          /* what workers of several topics got of it, over its weight */
    bool was_empty;          /* its share may lag behind what others got meanwhile */
    uint64_t stalled_since;  /* 0: not stalled */
    uint64_t stalled_sum;    /* ms, of stalls that are over */
    uint64_t permanent;      /* events that died since no attempt would mend them */
    struct {
        uint64_t n;      /* events before it were there ... */
        uint64_t at_ms;  /* ... at this time, monotonic */
    } marks[LOAD_MARKS]; /* ascending; says how old the backlog's head is */
    uint32_t mark_count;
    uint64_t overflow_next_ms;
    bool stall_told;
    avoid_t *avoids; /* owned */
    uint32_t avoid_count;
};

/* Things to be done once a batch is durable, in order. */
typedef enum {
    AFTER_RECORD,
    AFTER_SESSION,
    AFTER_CONFIRM,
    AFTER_RETRY,
    AFTER_DEAD,
    AFTER_ACKED,
    AFTER_TAGS,
    AFTER_RETURNED,
    AFTER_UNIT,
    AFTER_KEY
} after_kind_t;
typedef struct {
    uint64_t lsn;
    after_kind_t kind;
    uint32_t peer;  /* or topic */
    uint64_t n;     /* or b, tag limit */
    uint32_t rel;   /* of a record in the batch, or a generation */
    uint64_t at_ms; /* monotonic: when a wait is over */
    void *pointer;  /* session, or an owned buffer with the answer */
} after_t;

struct ef_core_s {
    ef_core_config_t config;
    ef_effects_t effects;
    uint64_t key[2]; /* of all hash tables */
    uint64_t now;    /* monotonic ms */
    uint64_t wall;   /* ms since 1970 */
    uint32_t epoch;
    bool is_replaying;
    bool ignores_dues; /* of the digest under way */
    bool is_partial; /* replay follows a checkpoint: its parts may know a record's effect already */
    bool is_draining;

    topic_t **topics; /* owned */
    uint32_t topic_count;
    ef_hash_t topic_names;
    uint32_t *topic_ids; /* replay: index of a topic on disk -> index here */

    peer_t *peers; /* owned, by number */
    uint32_t peer_count;
    ef_hash_t sessions;
    ef_hash_t workers; /* by name */
    ef_heap_t leases;  /* by next_ms */
    uint64_t next_tag;
    uint64_t tag_limit; /* durable */
    uint64_t tag_asked; /* being made durable */
    uint64_t next_generation;
    uint32_t dispatch_from; /* topic that is served first among equals in the next turn */
    struct order_s *order;  /* owned: scratch of a turn, one for each topic */
    uint32_t order_capacity;
    uint64_t sweep_next_ms;
    uint64_t turn_ms; /* when the last turn ended */

    ef_batch_t *batch; /* under way, NULL: nothing to write */
    size_t ends_mark;  /* of the ENDS record that is open in it, or SIZE_MAX */
    uint64_t next_lsn; /* of the batch under way */
    uint64_t durable_lsn;
    uint64_t behind;       /* bytes submitted and not durable */
    uint64_t segment_fill; /* bytes written to the newest segment, as counted here */
    after_t *after;        /* owned ring */
    uint32_t after_head;
    uint32_t after_count;
    uint32_t after_capacity;

    ef_cache_t cache;
    uint32_t oldest_segment;
    uint32_t newest_segment;
    entry_t **blocks; /* owned: of ENTRY_BLOCK entries each; kept for the next ones */
    uint32_t block_count;
    entry_t *free_entry; /* the first free place in them */
    struct {
        uint64_t lsn;     /* waited for */
        uint64_t n;       /* the next event of the topic under way */
        uint64_t since;   /* bytes journaled since the last one began */
        uint32_t segment; /* whose start it belongs to */
        uint32_t done_segment;
        uint32_t topic;
        uint32_t entry;       /* place in the blocks */
        ef_window_walk_t ids; /* of the topic under way */
        uint32_t unit;        /* likewise */
        uint8_t phase;
        bool is_away; /* a part is being written */
        bool is_finishing;
    } checkpoint;
    ef_space_t space;
    uint32_t spares_ready;
    uint64_t segment_limit;  /* bytes after which the newest segment ends */
    uint64_t snapshot_bytes; /* of the last one */
    uint64_t history_bytes;
    uint64_t *sizes; /* owned: bytes of the segments from the oldest one on */
    uint32_t size_count;
    uint32_t size_capacity;
    uint64_t log_bytes; /* their sum */
    bool is_cleaning;   /* the oldest segment is being emptied */
    bool is_empty;      /* nothing in hand lies in it any more */
    uint64_t clean_lsn; /* what it waits for: its copies, then the ends of what lay in it */
    uint64_t cleaned;   /* segments emptied since start */
    struct {
        uint32_t segment;
        uint32_t offset;
    } fetching[64]; /* places asked for and not here yet */
    uint32_t fetching_count;

    ef_buf_t header;      /* scratch for what is sent */
    struct scan_s *scan;  /* scratch for one message's events */
    uint64_t scan_serial; /* of the message under way */
    ef_route_t *routes;   /* owned */
    uint32_t route_count;
    uint64_t print_key[2]; /* of the fingerprints in the journal; zeros: not drawn yet */
    uint32_t scan_capacity;
    uint64_t ingress_events;
    uint64_t ingress_bytes;
    uint64_t invalid_bytes;
    uint64_t stale_answers;
    uint64_t refused[EF_STATUS_COUNT];
};

#endif
