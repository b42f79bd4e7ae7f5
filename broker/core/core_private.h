/* The core's tables. SPDX-License-Identifier: MIT
   Only files of broker/core include this; everybody else sees core.h. */
#ifndef EF_CORE_PRIVATE_H
#define EF_CORE_PRIVATE_H

#include "../../proto/limits.h"
#include "../base/buggify.h"
#include "../base/hash.h"
#include "../base/heap.h"
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
    uint8_t size;        /* of the name */
    uint8_t name[GATE_NAME_BYTES];
} gate_t;

/* An event that needs more than its extent says: failed, scheduled, given back, dead on its way. */
typedef struct entry_s {
    uint64_t n; /* 0: a free place */
    union {
        uint64_t tag; /* of the last delivery, 0: none */
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
#define ENTRY_BLOCK 256 /* entries that are allocated at a time */

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
    sub_t *subs; /* owned */
    uint32_t sub_count;
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
    ef_budget_t budget; /* of retries */
    ef_hash_t owners;   /* gates of keys, by the event that has the key */
    uint64_t blocked;   /* entries behind gates; they count as ready */
    gate_t *turn;       /* last in the line of those who take turns; NULL: nobody waits */
    uint32_t turns;     /* entries that wait for their turn; among the blocked ones */
    uint32_t suspects;  /* entries */
    worker_t *reserved; /* is to become idle for a suspect; NULL: none */
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
    entry_t **outbox; /* owned ring: dead, in order of m, not yet durable over there */
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
    uint64_t stalled_since;  /* 0: not stalled */
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
    AFTER_UNIT
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
    uint32_t dispatch_from; /* topic that is served first in the next turn */
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

/* topic.c */
topic_t *topic_find (const ef_core_t *self, const char *name, size_t size);
topic_t *topic_require (ef_core_t *self, const char *name, size_t size); /* NULL: past the limit */
const char *topic_nearest (const ef_core_t *self, const char *name, size_t size);
void topic_accept (topic_t *topic, ef_state_t state, uint64_t count, uint64_t bytes);
void topic_move (topic_t *topic, ef_state_t from, ef_state_t to, uint64_t count);
void topic_shrink (topic_t *topic, uint64_t bytes);
bool topic_is_full (const topic_t *topic);
bool topic_is_under_low_mark (const topic_t *topic);
void topic_free (topic_t **self_p);

/* entries.c: the events in hand */
void entries_init (ef_core_t *self, topic_t *topic);
void entries_free (ef_core_t *self);
entry_t *entry_find (topic_t *topic, uint64_t n);
entry_t *entry_new (ef_core_t *self, topic_t *topic, uint64_t n);
void entry_ready (ef_core_t *self, entry_t *entry);   /* puts it into the ready heap */
void entry_unready (ef_core_t *self, entry_t *entry); /* takes it out where it is in it */
void entry_free (ef_core_t *self, entry_t **entry_p);
static inline topic_t *
entry_topic (const ef_core_t *self, const entry_t *entry) {
    return self->topics[entry->topic];
}

/* gate.c */
void gates_init (ef_core_t *self, topic_t *topic);
void gates_free (topic_t *topic);
uint64_t gates_check (topic_t *topic);
gate_t *gate_find (const ef_core_t *self, const topic_t *topic, gate_kind_t kind, ef_span_t span);
gate_t *gate_require (ef_core_t *self, topic_t *topic, gate_kind_t kind, ef_span_t span);
void gate_wait (ef_core_t *self, gate_t *gate, entry_t *entry);
void gate_leave (ef_core_t *self, entry_t *entry);
void gate_open (ef_core_t *self, topic_t *topic, gate_t *gate, uint32_t most);
void gate_admit (ef_core_t *self, topic_t *topic, gate_t *gate, entry_t *entry);
bool key_claim (ef_core_t *self, topic_t *topic, ef_span_t key, uint64_t n, gate_t **gate);
void key_claim_first (ef_core_t *self, topic_t *topic, ef_span_t key, uint64_t n);
void key_free (ef_core_t *self, topic_t *topic, uint64_t n);
const gate_t *key_of (const topic_t *topic, uint64_t n);
void claims_add (topic_t *topic, uint64_t n);
bool claims_settle (ef_core_t *self, topic_t *topic); /* false: some are still to be read */

/* batch.c: the batch under way and what follows it */
ef_buf_t *batch_buf (ef_core_t *self); /* ends an open ENDS record; starts a batch where needed */
void batch_end_event (ef_core_t *self, topic_t *topic, uint64_t n);
void batch_submit (ef_core_t *self);
void batch_bound (ef_core_t *self); /* submits a large one; between two messages */
void batch_split (ef_core_t *self);
void batch_after (ef_core_t *self, after_t after); /* its lsn is filled in */
void after_run (ef_core_t *self);

/* events.c: records of events and what they hold */
typedef struct {
    uint64_t n;
    uint64_t accepted_ms;
    const uint8_t *base_id; /* NULL in COPIES */
    uint32_t index;
    uint32_t flags; /* EF_INDEX_ */
    ef_span_t event;
    ef_span_t history;
    uint32_t attempts;
    uint32_t insertions;
    uint64_t due_ms;
    uint8_t state;
    uint32_t entry_flags; /* COPIES: ENTRY_SUSPECT, _ALONE, _AT */
} stored_t;
int stored_read (const uint8_t *head, uint32_t rel, uint32_t index, bool is_copy, stored_t *stored);
/* Where the first event of a record lies, as `rel`. */
uint32_t stored_first (const uint8_t *head, bool is_copy);
/* `rel` of the next event. */
uint32_t stored_next (const uint8_t *head, uint32_t rel, uint32_t index, bool is_copy);
const uint8_t *place_find (ef_core_t *self, place_t *place, bool is_wanted);
void place_next (const uint8_t *head, bool is_copy, place_t *place);
ef_span_t event_raw_id (const ef_event_t *event);     /* its id as it came, a str or a bin */
uint32_t event_index_flags (const ef_event_t *event); /* EF_INDEX_ */
void stored_event (const stored_t *stored, ef_event_t *event);
bool stored_is_expired (const stored_t *stored, const ef_event_t *event, uint64_t wall);
uint32_t stored_entry_flags (const stored_t *stored); /* ENTRY_ that its record tells of */
size_t stored_event_size (const stored_t *stored);
uint8_t *stored_write_event (uint8_t *at, const stored_t *stored); /* id written out */
void copies_add (ef_buf_t *buf, const stored_t *stored, uint64_t n);
int adopt_record (ef_core_t *self, topic_t *topic, const uint8_t *head, uint32_t segment,
                  uint32_t offset, bool is_copy);

/* accept.c */
typedef struct {
    uint32_t events; /* in the message */
    uint32_t accepted;
    uint32_t duplicates;
    uint32_t refused_count; /* items */
    uint32_t refused_events;
    uint32_t id_count;
    ef_status_t status; /* of the whole; EF_OK: `refused` tells the rest */
    const char *text;
    ef_buf_t refused; /* items [seq, index, code, text] */
    ef_buf_t ids;
    uint8_t base_id[16];
} accept_result_t;
typedef struct {
    const ef_frame_t *frames;
    uint32_t count;
    bool is_atomic;
    bool wants_ids;
    bool is_ingress;
    bool is_emit;         /* never FULL */
    bool is_ending;       /* because of another one's end: nothing but its content can refuse it */
    bool passes_window;   /* its ids are neither looked up nor kept */
    ef_bucket_t *bucket;  /* of its publisher; NULL: no rate is kept */
    uint64_t ended_bytes; /* of the events that end with it */
    session_t *session;   /* NULL: without */
    uint64_t seq;
    ef_span_t seq_text; /* raw MessagePack of the seq, without a session */
} accept_request_t;
void accept_events (ef_core_t *self, const accept_request_t *request, accept_result_t *result);
void accept_result_free (accept_result_t *result);
void accept_invalid (ef_core_t *self, ef_span_t raw, ef_status_t status, const char *text);

/* ids.c: what the dedupe windows know */
ef_print_t ids_print (const ef_core_t *self, ef_span_t id);
bool ids_have (const ef_core_t *self, const topic_t *topic, ef_print_t print);
bool ids_add (ef_core_t *self, topic_t *topic, ef_print_t print); /* false: a duplicate */
void ids_prefetch (topic_t *topic, ef_print_t print);
void ids_expire (ef_core_t *self, topic_t *topic, uint32_t budget);
uint64_t ids_rescue (ef_core_t *self, topic_t *topic, uint32_t segment, uint64_t most);
void ids_checkpoint (ef_core_t *self, topic_t *topic, ef_window_walk_t *walk, uint8_t type,
                     ef_buf_t *buf, size_t most);
int ids_load (ef_core_t *self, topic_t *topic, const ef_record_t *record, bool is_checkpoint);
uint64_t ids_digest (const ef_core_t *self, const topic_t *topic);
void ids_replay (ef_core_t *self, topic_t *topic, const uint8_t *head, uint32_t segment);

/* breakers.c */
void breakers_init (ef_core_t *self, topic_t *topic);
void breakers_free (topic_t *topic);
breaker_t *breaker_find (const topic_t *topic, ef_span_t name);
breaker_t *breaker_require (topic_t *topic, ef_span_t name);
breaker_t *breaker_of (topic_t *topic, uint64_t n, ef_span_t downstream);
bool breaker_allows (const ef_core_t *self, const topic_t *topic, const breaker_t *breaker);
void breaker_wait (ef_core_t *self, topic_t *topic, entry_t *entry, breaker_t *breaker);
void breakers_write (const topic_t *topic, ef_buf_t *buf);
void breakers_outcome (ef_core_t *self, topic_t *topic, item_t *item, ef_span_t told,
                       breaker_outcome_t outcome);
bool breakers_excuse (const ef_core_t *self, topic_t *topic, const item_t *item, ef_span_t told,
                      breaker_t **breaker);
uint64_t breakers_tick (ef_core_t *self, topic_t *topic);
void breakers_start (ef_core_t *self, topic_t *topic);
uint64_t breakers_digest (const topic_t *topic);
int breaker_load (topic_t *topic, const ef_record_t *record);
void tie_free (topic_t *topic, uint64_t n);

/* expiry.c */
void expiry_note (topic_t *topic, uint64_t when_ms);
void expiry_step (ef_core_t *self, topic_t *topic);

/* turns.c */
void turns_serve (ef_core_t *core, topic_t *topic, uint32_t count);
void turn_leave (topic_t *topic, gate_t *gate);

/* units.c */
typedef enum { UNIT_HELD, UNIT_TAKEN, UNIT_OVER, UNIT_DEAD } unit_answer_t;
unit_answer_t units_judge (ef_core_t *self, topic_t *topic, const ef_event_t *event, uint64_t n,
                           gate_t **gate);
bool units_give_back (ef_core_t *self, topic_t *topic, uint64_t n);
void units_tick (ef_core_t *self, topic_t *topic);
uint64_t units_rescue (ef_core_t *self, topic_t *topic, uint32_t segment);
bool units_checkpoint (const topic_t *topic, uint32_t *position, uint8_t type, ef_buf_t *buf,
                       size_t most);
int units_load (topic_t *topic, const ef_record_t *record, bool is_checkpoint);

/* session.c */
session_t *session_find (ef_core_t *self, const uint8_t id[16]);
session_t *session_require (ef_core_t *self, const uint8_t id[16]);
void session_note (ef_core_t *self, session_t *session, outcome_t outcome);
void session_jump (session_t *session, uint64_t seq);
void session_decide (ef_core_t *self, session_t *session);
void session_confirm (ef_core_t *self, session_t *session);
void session_replay (ef_core_t *self, const uint8_t *outcome, uint32_t bytes, uint32_t events);
void session_replay_absolute (ef_core_t *self, const ef_record_t *record);
void session_write (const session_t *session, ef_buf_t *buf);
void session_leave (ef_core_t *self, session_t *session);
void session_forget (ef_core_t *self, session_t *session);
void session_release (session_t **self_p);
uint32_t session_window (const ef_core_t *self);
void sessions_sweep (ef_core_t *self);

/* peer.c */
peer_t *peer_require (ef_core_t *self, uint32_t peer, peer_role_t role);
int peer_send (ef_core_t *self, uint32_t peer, void *message); /* sends self->header */
void peer_error (ef_core_t *self, uint32_t peer, ef_status_t status, const char *text,
                 const ef_span_t *seq);
void peer_forget (ef_core_t *self, uint32_t peer);
void peers_sweep (ef_core_t *self);

/* worker.c */
worker_t *worker_find_session (ef_core_t *self, const uint8_t session[16]);
void worker_free (ef_core_t *self, worker_t **worker_p);
void worker_queue (worker_t *worker); /* files it in its topics' queues by its credit */
/* Ends every lease of a worker: counted as failed attempts where `text` says why, else given back.
   `has_died`: its process did, so what it held is suspect. */
void worker_lose (ef_core_t *self, worker_t *worker, const char *text, bool has_died);
void suspect_set (topic_t *topic, entry_t *entry, bool is_suspect);
void worker_add_lease (ef_core_t *self, lease_t *lease);
item_t *worker_item (worker_t *worker, uint64_t tag, lease_t **lease);
lease_t *worker_lease_from (worker_t *worker, uint64_t tag, uint32_t *place);
lease_t *worker_lease_next (worker_t *worker, uint32_t *place);
void worker_subscribe (ef_core_t *self, worker_t *worker, topic_t *const *topics, uint32_t count);
void item_answered (ef_core_t *self, lease_t *lease, item_t *item);
void lease_reap (ef_core_t *self, lease_t *lease);
void leases_tick (ef_core_t *self);
const char *worker_free_name (ef_core_t *self, const char *asked, char name[EF_NAME_MAX + 8]);
bool worker_has_room (const worker_t *worker);

/* dispatch.c */
void dispatch_all (ef_core_t *self);
void avoid_add (topic_t *topic, uint64_t n, const char *worker, bool is_only, uint64_t until_ms);

/* fail.c */
typedef struct {
    ef_span_t code; /* raw MessagePack: int or str; size 0: none */
    ef_span_t text;
    ef_span_t trace;
    ef_span_t event; /* whole, where its end needs it; else empty */
    const worker_t *worker;
    uint64_t started_ms; /* wall clock: when the lease began */
    int64_t retry_ms;    /* -1: the policy's */
    bool is_dead;
    bool is_unknown; /* what became of the attempt: the worker may have done its work */
    bool is_poison;  /* the second process that died with it alone */
} failure_t;
entry_t *item_entry (ef_core_t *self, topic_t *topic, item_t *item);
void fail_event (ef_core_t *self, entry_t *entry, const failure_t *failure);
/* `event` is whole, its id written out, where its end needs it, else empty. */
void kill_event (ef_core_t *self, entry_t *entry, ef_reason_t reason, ef_span_t event,
                 const worker_t *worker);
void end_unbegun (ef_core_t *self, entry_t *entry, const stored_t *stored, ef_reason_t reason);
void give_back (ef_core_t *self, topic_t *topic, item_t *item);
void finish_event (ef_core_t *self, topic_t *topic, uint64_t n, entry_t *entry, uint64_t bytes,
                   ef_state_t from);
void purge_one (ef_core_t *self, entry_t *entry);
void history_add (ef_core_t *self, entry_t *entry, const uint8_t *item, size_t size);
void history_set (ef_core_t *self, entry_t *entry, ef_span_t array);
void history_put (const history_t *history, ef_buf_t *out);
void history_put_short (const history_t *history, ef_buf_t *out);
void insert_again (ef_core_t *self, entry_t *entry);
void insertion_end (topic_t *topic, entry_t *entry);
void wait_write (ef_core_t *self, const entry_t *entry);
void result_write (ef_core_t *self, const topic_t *topic, uint64_t n, ef_span_t result);

/* emit.c */
typedef struct {
    uint64_t n;
    uint32_t attempts;  /* failed ones */
    ef_reason_t reason; /* EF_REASON_NONE: it is done */
    const history_t *history;
    const worker_t *worker; /* NULL: none had it */
    ef_span_t result;       /* raw MessagePack; size 0: none */
} ended_t;
bool emit_needs_event (const topic_t *topic, const stored_t *stored);
void emit_ended (ef_core_t *self, topic_t *topic, ef_span_t event, const ended_t *ended);

/* operate.c */
item_t *lease_find_event (const ef_core_t *self, const topic_t *topic, uint64_t n,
                          lease_t **lease_p);
void cancel_send (ef_core_t *self, const worker_t *worker, uint64_t first, uint64_t last,
                  const char *reason);

/* control.c */
uint64_t purge_up_to (ef_core_t *self, topic_t *topic, uint64_t n);

/* moves.c */
void outbox_push (topic_t *topic, entry_t *entry);
void outbox_flush (ef_core_t *self, topic_t *topic);

/* checkpoint.c */
void checkpoint_rolled (ef_core_t *self, uint64_t lsn);
void checkpoint_durable (ef_core_t *self, const ef_batch_t *batch);
void checkpoint_step (ef_core_t *self);
void checkpoint_give_up (ef_core_t *self);

/* space.c */
uint64_t space_for_deliveries (const ef_core_t *self, const topic_t *topic);
bool space_for_copies (const ef_core_t *self, uint64_t bytes);

/* replay.c */
topic_t *replay_topic (const ef_core_t *self, uint32_t id);
topic_t *replay_name (ef_core_t *self, uint32_t id, const char *name, uint32_t bytes);

/* clean.c */
void snapshot_write (ef_core_t *self, ef_buf_t *buf);
void topic_write (const topic_t *topic, ef_buf_t *buf);
void clean_step (ef_core_t *self);
uint64_t live_bytes (const ef_core_t *self);
void sizes_add (ef_core_t *self, uint32_t segment, uint64_t bytes);

static inline ef_span_t
span_of (const void *data, size_t size) {
    ef_span_t span = {data, (uint32_t)size};
    return span;
}

#endif
