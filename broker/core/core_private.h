/* What the core's files ask of each other. SPDX-License-Identifier: MIT
   Only files of broker/core include this; everybody else sees core.h. */
#ifndef EF_CORE_PRIVATE_H
#define EF_CORE_PRIVATE_H

#include "core_tables.h"

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
bool entry_before (const void *a, const void *b); /* by n; for heaps of entries */
void entry_placed (void *item, uint32_t position);
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
void gate_label (gate_t *gate, ef_span_t label);
void gate_wait (ef_core_t *self, gate_t *gate, entry_t *entry);
void gate_settle (topic_t *topic, gate_t *gate);
void gate_leave (ef_core_t *self, entry_t *entry);
void gate_open (ef_core_t *self, topic_t *topic, gate_t *gate, uint32_t most);
void gate_admit (ef_core_t *self, topic_t *topic, gate_t *gate, entry_t *entry);
bool key_claim (ef_core_t *self, topic_t *topic, ef_span_t key, uint64_t n, gate_t **gate);
void key_free (ef_core_t *self, topic_t *topic, uint64_t n);
void key_pass_on (ef_core_t *self, topic_t *topic, uint64_t n);
void keys_leave (ef_core_t *self, topic_t *topic);
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
void turns_fill (ef_core_t *core, topic_t *topic);
bool turns_serve (ef_core_t *core, topic_t *topic);
gate_t *turn_before (const ef_core_t *core, const topic_t *topic, ef_span_t key, uint64_t n);
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
void reserve_begin (ef_core_t *self, topic_t *topic, worker_t *worker);
void reserve_end (topic_t *topic);
void reserve_judge (const ef_core_t *self, topic_t *topic);
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

/* report.c */
void report_took (const ef_core_t *core, const lease_t *lease);
void report_waited (const ef_core_t *core, topic_t *topic, const stored_t *stored, uint32_t count);
void report_put (ef_buf_t *out, const char *key, const ef_histogram_t *histogram);
bool report_is_timeout (ef_span_t code); /* a failure's, raw MessagePack */
void report_timeout (const ef_core_t *core, const lease_t *lease, ef_span_t code);

/* load.c */
typedef struct {
    uint32_t by_state[EF_BREAKER_COUNT];
    bool is_own; /* the topic's own isn't closed */
} breaker_counts_t;
uint64_t load_oldest_ms (const ef_core_t *self, topic_t *topic);
void load_breakers (const topic_t *topic, breaker_counts_t *counts);

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
    bool is_unknown;   /* what became of the attempt: the worker may have done its work */
    bool is_poison;    /* the second process that died with it alone */
    ef_failure_t kind; /* as far as its code doesn't say */
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
