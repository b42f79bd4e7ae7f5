/* Checkpoints of the tables, taken in small steps. SPDX-License-Identifier: MIT

   A checkpoint belongs to the start of a segment, where all absolute values stand in the log. It
   says which events are live and where they lie, gathered while work goes on; recovery reads it and
   then the log from that segment on. So a part may know more than the segment's start, never less,
   and every record must be right whether or not its effect is in the parts already (replay.c).

   Nothing is missed: an event moves from its extent to a lease to an entry and never back, and the
   parts are gathered in that order. Nothing is known too early: gathering begins once the segment's
   first batch is durable, and the last part is handed over once all that the tables knew is. */
#include "core_private.h"

/* Records, offsets from behind the head:
     TOPIC (2)    0 4 topic   4 4 bytes of the name   8 name
     EXTENTS (3)  0 4 topic   4 4 count   8 count × 40: n (8), bytes (8), segment, offset, rel,
                  index, count (4 each), 1: COPIES, 2: ttl (4)
     ENTRY (4)    0 4 topic   4 4 bytes of the event   8 8 n   16 8 due or dead   24 8 m
                  32 4 segment   36 4 offset   40 4 rel   44 4 index   48 2 attempts   50 1 state
                  51 1 zero   52 1 reason   53 2 flags   55 1 zero   56 the history, an array
     IDS (5)      0 4 topic   4 4 count   8 count × 28: fingerprint (16), accepted (8), segment (4)
     UNIT (6)     as in log_records.h, with the segment at 4 */
enum { TOPIC = 2, EXTENTS, ENTRY, IDS, UNIT };
#define TOPIC_HEADER   8
#define EXTENTS_HEADER 8
#define EXTENT_ITEM    40
#define ENTRY_HEADER   56

#define CHECKPOINT_FLAGS                                                                           \
    (ENTRY_COPY | ENTRY_META | ENTRY_AT | ENTRY_KEYED | ENTRY_SUSPECT | ENTRY_ALONE)

#define PART_BYTES (128u << 10) /* gathered in one step: well under a millisecond */

enum {
    PHASE_IDLE,
    PHASE_WANTED,
    PHASE_EXTENTS,
    PHASE_LEASES,
    PHASE_ENTRIES,
    PHASE_IDS,
    PHASE_UNITS,
    PHASE_END
};

typedef struct {
    ef_buf_t *buf;
    size_t mark; /* of the EXTENTS record under way */
    uint32_t topic;
    uint32_t count;
} part_t;

static void
s_end_extents (part_t *self) {
    if (self->count > 0) {
        ef_le32_put (self->buf->data + self->mark + EF_RECORD_HEAD + 4, self->count);
        ef_record_end (self->buf, self->mark);
        self->count = 0;
    }
}

static void
s_add_extent (part_t *self, const topic_t *topic, const ef_extent_t *extent) {
    if (self->count > 0 && self->topic != topic->index) {
        s_end_extents (self);
    }
    if (self->count == 0) {
        self->topic = topic->index;
        self->mark = ef_record_begin (self->buf, EXTENTS, 0, EXTENTS_HEADER);
        ef_le32_put (self->buf->data + self->mark + EF_RECORD_HEAD, topic->index);
    }
    uint8_t *item = ef_buf_add (self->buf, EXTENT_ITEM);
    ef_le64_put (item, extent->n);
    ef_le64_put (item + 8, extent->bytes);
    ef_le32_put (item + 16, extent->segment);
    ef_le32_put (item + 20, extent->offset);
    ef_le32_put (item + 24, extent->rel);
    ef_le32_put (item + 28, extent->index);
    ef_le32_put (item + 32, extent->count);
    ef_le32_put (item + 36, extent->is_copy | (uint32_t)extent->has_meta << 1);
    self->count++;
}

/* One event as an extent of its own. */
static void
s_add_event (part_t *self, const topic_t *topic, uint64_t n, uint32_t bytes, const place_t *place,
             uint32_t flags) {
    ef_extent_t extent = {.n = n,
                          .bytes = bytes,
                          .segment = place->segment,
                          .offset = place->offset,
                          .rel = place->rel,
                          .index = place->index,
                          .count = 1,
                          .is_copy = flags & ENTRY_COPY,
                          .has_meta = flags & ENTRY_META};
    s_add_extent (self, topic, &extent);
}

static void
s_write_names (const ef_core_t *self, ef_buf_t *buf) {
    for (uint32_t i = 0; i < self->topic_count; i++) {
        const char *name = self->topics[i]->config.name;
        size_t mark = ef_record_begin (buf, TOPIC, 0, TOPIC_HEADER);
        ef_le32_put (buf->data + mark + EF_RECORD_HEAD, i);
        ef_le32_put (buf->data + mark + EF_RECORD_HEAD + 4, (uint32_t)strlen (name));
        ef_buf_put (buf, name, strlen (name));
        ef_record_end (buf, mark);
    }
}

static void
s_gather_extents (ef_core_t *self, part_t *part) {
    while (self->checkpoint.topic < self->topic_count && part->buf->size < PART_BYTES) {
        topic_t *topic = self->topics[self->checkpoint.topic];
        ef_extent_at_t at;
        ef_extent_t *extent = ef_extents_from (&topic->extents, self->checkpoint.n, &at);
        for (; extent && part->buf->size < PART_BYTES;
             extent = ef_extents_next (&topic->extents, &at)) {
            s_add_extent (part, topic, extent);
            self->checkpoint.n = extent->n + extent->count;
        }
        if (extent == NULL) {
            self->checkpoint.topic++;
            self->checkpoint.n = 0;
        }
    }
    s_end_extents (part);
    if (self->checkpoint.topic == self->topic_count) {
        self->checkpoint.phase = PHASE_LEASES;
    }
}

/* First attempts that are out with workers: ready again after a restart. Bounded by what topics may
   have leased, so it is done at once. */
static void
s_gather_leases (ef_core_t *self, part_t *part) {
    for (uint32_t i = 0; i < self->leases.count; i++) {
        const lease_t *lease = self->leases.items[i];
        for (uint32_t k = 0; k < lease->count; k++) {
            const item_t *item = &lease->items[k];
            if (item->state == ITEM_OPEN && item->entry == NULL) {
                s_add_event (part, lease->topic, item->n, item->bytes, &item->place, item->flags);
            }
        }
    }
    s_end_extents (part);
    self->checkpoint.phase = PHASE_ENTRIES;
}

static void
s_add_entry (ef_core_t *self, part_t *part, const entry_t *entry) {
    topic_t *topic = entry_topic (self, entry);
    bool is_away = entry->flags & ENTRY_INSERTING;
    uint32_t attempts = is_away ? 0 : entry->tries;
    bool is_kept = entry->state == EF_STATE_DEAD || entry->state == EF_STATE_SCHEDULED ||
                   entry->state == EF_STATE_PARKED;
    bool is_plain =
        !is_kept && attempts == 0 && entry->history == NULL && !(entry->flags & (ENTRY_SUSPECT));
    if (is_plain) {
        s_add_event (part, topic, entry->n, entry->bytes, &entry->place, entry->flags);
        return;
    }
    s_end_extents (part);
    /* What the log says of an event that failed: it waits, until a time that may be over. */
    uint32_t state = is_kept ? entry->state : attempts ? EF_STATE_RETRYING : EF_STATE_READY;
    ef_buf_t *buf = part->buf;
    size_t mark = ef_record_begin (buf, ENTRY, 0, ENTRY_HEADER);
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    ef_le32_put (header, entry->topic);
    ef_le32_put (header + 4, entry->bytes);
    ef_le64_put (header + 8, entry->n);
    ef_le64_put (header + 16, entry->flags & ENTRY_GATED ? 0 : entry->due_ms);
    ef_le64_put (header + 24, state == EF_STATE_DEAD ? entry->m : 0);
    ef_le32_put (header + 32, entry->place.segment);
    ef_le32_put (header + 36, entry->place.offset);
    ef_le32_put (header + 40, entry->place.rel);
    ef_le32_put (header + 44, entry->place.index);
    ef_le16_put (header + 48, (uint16_t)attempts);
    header[50] = (uint8_t)state;
    header[52] = entry->reason;
    ef_le16_put (header + 53, (uint16_t)(entry->flags & CHECKPOINT_FLAGS));
    history_put (entry->history, buf);
    ef_record_end (buf, mark);
}

static void
s_gather_entries (ef_core_t *self, part_t *part) {
    uint32_t end = self->block_count * ENTRY_BLOCK;
    while (self->checkpoint.entry < end && part->buf->size < PART_BYTES) {
        uint32_t at = self->checkpoint.entry++;
        const entry_t *entry = &self->blocks[at / ENTRY_BLOCK][at % ENTRY_BLOCK];
        if (entry->n) {
            s_add_entry (self, part, entry);
        }
    }
    s_end_extents (part);
    if (self->checkpoint.entry >= end) {
        self->checkpoint.phase = PHASE_IDS;
        self->checkpoint.topic = 0;
        memset (&self->checkpoint.ids, 0, sizeof self->checkpoint.ids);
    }
}

static void
s_gather_ids (ef_core_t *self, part_t *part) {
    while (self->checkpoint.topic < self->topic_count && part->buf->size < PART_BYTES) {
        topic_t *topic = self->topics[self->checkpoint.topic];
        ids_checkpoint (self, topic, &self->checkpoint.ids, IDS, part->buf, PART_BYTES);
        if (self->checkpoint.ids.is_done) {
            memset (&self->checkpoint.ids, 0, sizeof self->checkpoint.ids);
            self->checkpoint.topic++;
        }
    }
    if (self->checkpoint.topic == self->topic_count) {
        self->checkpoint.phase = PHASE_UNITS;
        self->checkpoint.topic = self->checkpoint.unit = 0;
    }
}

static void
s_gather_units (ef_core_t *self, part_t *part) {
    while (self->checkpoint.topic < self->topic_count && part->buf->size < PART_BYTES) {
        const topic_t *topic = self->topics[self->checkpoint.topic];
        if (!units_checkpoint (topic, &self->checkpoint.unit, UNIT, part->buf, PART_BYTES)) {
            self->checkpoint.unit = 0;
            self->checkpoint.topic++;
        }
    }
    if (self->checkpoint.topic == self->topic_count) {
        self->checkpoint.phase = PHASE_END;
        self->checkpoint.lsn = self->batch ? self->batch->lsn : self->next_lsn - 1;
    }
}

/* A new segment is about to begin with the batch under way. */
void
checkpoint_rolled (ef_core_t *self, uint64_t lsn) {
    if (self->checkpoint.since < self->config.checkpoint_bytes || self->space != EF_SPACE_NORMAL ||
        self->checkpoint.phase != PHASE_IDLE || self->config.checkpoint_bytes == 0) {
        return;
    }
    self->checkpoint.phase = PHASE_WANTED;
    self->checkpoint.lsn = lsn;
    self->checkpoint.since = 0;
}

/* The segment's first batch is durable, and all before it is in the tables. */
void
checkpoint_durable (ef_core_t *self, const ef_batch_t *batch) {
    if (self->checkpoint.phase == PHASE_WANTED && batch->lsn == self->checkpoint.lsn) {
        self->checkpoint.segment = batch->segment;
    }
}

void
checkpoint_step (ef_core_t *self) {
    if (self->checkpoint.phase == PHASE_IDLE || self->checkpoint.is_away ||
        self->durable_lsn < self->checkpoint.lsn || EF_BUGGIFY (4)) {
        return;
    }
    ef_checkpoint_part_t *message = calloc (1, sizeof *message);
    ef_assert (message != NULL);
    message->segment = self->checkpoint.segment;
    part_t part = {.buf = &message->buf};
    switch (self->checkpoint.phase) {
    case PHASE_WANTED:
        message->is_first = true;
        s_write_names (self, part.buf);
        self->checkpoint.topic = self->checkpoint.entry = 0;
        self->checkpoint.n = 0;
        self->checkpoint.phase = PHASE_EXTENTS;
        s_gather_extents (self, &part);
        break;
    case PHASE_EXTENTS: s_gather_extents (self, &part); break;
    case PHASE_LEASES: s_gather_leases (self, &part); break;
    case PHASE_ENTRIES: s_gather_entries (self, &part); break;
    case PHASE_IDS: s_gather_ids (self, &part); break;
    case PHASE_UNITS: s_gather_units (self, &part); break;
    case PHASE_END:
        message->is_last = true;
        self->checkpoint.phase = PHASE_IDLE;
        self->checkpoint.is_finishing = false;
        break;
    default: ef_assert (!"a phase that isn't one");
    }
    self->checkpoint.is_away = true;
    self->effects.checkpoint (self->effects.arg, message);
}

/* A part was written, or couldn't be. */
void
ef_core_checkpointed (ef_core_t *self, uint32_t segment, bool is_last, int rc) {
    self->checkpoint.is_away = false;
    if (rc || (!is_last && EF_BUGGIFY (50))) {
        self->checkpoint.phase = PHASE_IDLE; /* the next one will do */
        self->checkpoint.is_finishing = false;
    } else if (is_last) {
        self->checkpoint.done_segment = segment;
    }
}

void
checkpoint_give_up (ef_core_t *self) {
    self->checkpoint.phase = PHASE_IDLE;
    self->checkpoint.is_finishing = false;
}

/* Nothing more comes: a checkpoint of how everything ends makes the next start short. */
void
ef_core_finish (ef_core_t *self) {
    if (self->config.checkpoint_bytes == 0 || self->space != EF_SPACE_NORMAL) {
        return;
    }
    if (self->batch) {
        batch_submit (self);
    }
    self->checkpoint.phase = PHASE_IDLE; /* one under way is given up */
    self->checkpoint.since = self->config.checkpoint_bytes;
    self->checkpoint.is_finishing = true;
    self->segment_fill = UINT64_MAX / 2;
    (void)batch_buf (self);
}

bool
ef_core_is_finished (const ef_core_t *self) {
    return !self->checkpoint.is_finishing && !self->checkpoint.is_away;
}

static int
s_load_topic (ef_core_t *self, const ef_record_t *record) {
    uint32_t bytes = ef_le32 (record->body + 4);
    return record->body_bytes >= TOPIC_HEADER + (uint64_t)bytes &&
                   replay_name (self, ef_le32 (record->body),
                                (const char *)record->body + TOPIC_HEADER, bytes)
               ? 0
               : -1;
}

static int
s_load_extents (topic_t *topic, const ef_record_t *record) {
    uint32_t count = ef_le32 (record->body + 4);
    if (record->body_bytes < EXTENTS_HEADER + (uint64_t)count * EXTENT_ITEM) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *item = record->body + EXTENTS_HEADER + (size_t)i * EXTENT_ITEM;
        ef_extent_t extent = {.n = ef_le64 (item),
                              .bytes = ef_le64 (item + 8),
                              .segment = ef_le32 (item + 16),
                              .offset = ef_le32 (item + 20),
                              .rel = ef_le32 (item + 24),
                              .index = ef_le32 (item + 28),
                              .count = ef_le32 (item + 32),
                              .is_copy = ef_le32 (item + 36) & 1,
                              .has_meta = ef_le32 (item + 36) >> 1 & 1};
        uint64_t bytes;
        if (extent.n == 0 || extent.count == 0) {
            return -1;
        }
        (void)ef_extents_cut (&topic->extents, extent.n, extent.n + extent.count - 1, &bytes);
        ef_extents_insert (&topic->extents, &extent);
    }
    return 0;
}

static int
s_load_entry (ef_core_t *self, topic_t *topic, const ef_record_t *record) {
    const uint8_t *header = record->body;
    uint64_t n = ef_le64 (header + 8);
    if (record->body_bytes < ENTRY_HEADER || n == 0 || header[50] >= EF_STATE_COUNT ||
        header[52] >= EF_REASON_COUNT || ef_le32 (header + 4) > EF_EVENT_CEILING ||
        entry_find (topic, n)) {
        return -1;
    }
    uint64_t bytes;
    (void)ef_extents_cut (&topic->extents, n, n, &bytes);
    entry_t *entry = entry_new (self, topic, n);
    entry->bytes = ef_le32 (header + 4) & 0xffffff;
    entry->due_ms = ef_le64 (header + 16);
    entry->m = ef_le64 (header + 24);
    entry->place = (place_t){ef_le32 (header + 32), ef_le32 (header + 36), ef_le32 (header + 40),
                             ef_le32 (header + 44)};
    entry->tries = ef_le16 (header + 48);
    entry->state = header[50] & 15;
    entry->flags = ef_le16 (header + 53) & CHECKPOINT_FLAGS;
    entry->reason = header[52] & 15;
    history_set (self, entry, span_of (header + ENTRY_HEADER, record->body_bytes - ENTRY_HEADER));
    if (entry->state == EF_STATE_READY) {
        entry_ready (self, entry);
    }
    return 0;
}

int
ef_core_restore (ef_core_t *self, const ef_record_t *record) {
    ef_assert (self->is_replaying);
    self->is_partial = true;
    if (record->body_bytes < EXTENTS_HEADER) {
        return -1;
    }
    if (record->type == TOPIC) {
        return s_load_topic (self, record);
    }
    topic_t *topic = replay_topic (self, ef_le32 (record->body));
    if (topic == NULL) {
        return -1;
    }
    return record->type == EXTENTS ? s_load_extents (topic, record)
           : record->type == ENTRY ? s_load_entry (self, topic, record)
           : record->type == IDS   ? ids_load (self, topic, record, true)
           : record->type == UNIT  ? units_load (topic, record, true)
                                   : -1;
}

static uint64_t
s_mix (uint64_t sum, uint64_t value) {
    sum = (sum ^ value) * 0x9e3779b97f4a7c15u;
    return sum ^ sum >> 29;
}

static uint64_t
s_entry_digest (const ef_core_t *self, const entry_t *entry) {
    /* One that waits for a time that is over is as good as ready. */
    bool is_over = (entry->state == EF_STATE_RETRYING || entry->state == EF_STATE_SCHEDULED) &&
                   (entry->due_ms <= self->wall || self->ignores_dues);
    bool is_ready = is_over || entry->state == EF_STATE_READY;
    uint64_t sum = s_mix (1, entry->n);
    uint32_t flags = entry->flags & (ENTRY_SUSPECT | ENTRY_ALONE);
    if (is_ready && entry->tries == 0 && !entry->history && !flags) {
        return sum;
    }
    sum = s_mix (sum, flags);
    sum = s_mix (sum, is_ready ? EF_STATE_READY : entry->state);
    sum = s_mix (sum, is_ready ? 0 : entry->due_ms);
    sum = s_mix (sum, entry->state == EF_STATE_DEAD ? entry->m : entry->tries);
    for (uint32_t i = 0; entry->history && i < entry->history->bytes; i++) {
        sum = s_mix (sum, entry->history->items[i]);
    }
    return sum;
}

static uint64_t
s_topic_digest (const ef_core_t *self, topic_t *topic) {
    uint64_t numbers[] = {topic->next_n,
                          topic->m,
                          topic->b,
                          topic->accepted,
                          topic->counts[EF_STATE_DONE],
                          topic->counts[EF_STATE_DEAD],
                          topic->counts[EF_STATE_PURGED],
                          topic->purge_floor,
                          topic->is_paused,
                          topic->is_draining};
    uint64_t sum = 0;
    uint64_t events = 0;
    uint32_t position = 0;
    entry_t *entry;
    ef_extent_at_t at;
    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        sum = s_mix (sum, numbers[i]);
    }
    sum = s_mix (sum, self->ignores_dues ? 0 : ids_digest (self, topic));
    sum = s_mix (sum, topic->config.quota.limit && !self->ignores_dues
                          ? ef_quota_digest (&topic->quota, &topic->config.quota, self->wall)
                          : 0);
    sum = s_mix (sum, breakers_digest (topic));
    while ((entry = ef_hash_next (&topic->entries, &position)) != NULL) {
        events += s_entry_digest (self, entry);
    }
    for (ef_extent_t *extent = ef_extents_first (&topic->extents, &at); extent;
         extent = ef_extents_next (&topic->extents, &at)) {
        for (uint64_t n = extent->n; n < extent->n + extent->count; n++) {
            events += entry_find (topic, n) ? 0 : s_mix (1, n);
        }
    }
    return s_mix (sum, events);
}

uint64_t
ef_core_digest (ef_core_t *self, bool ignores_dues) {
    self->ignores_dues = ignores_dues;
    uint64_t sum = s_mix (self->tag_limit, self->sessions.count);
    uint32_t position = 0;
    session_t *session;
    uint64_t sessions = 0;
    while ((session = ef_hash_next (&self->sessions, &position)) != NULL) {
        sessions += s_mix (s_mix (session->last, session->count), session->id[0]);
    }
    for (uint32_t i = 0; i < self->topic_count; i++) {
        uint64_t name = 0;
        for (const char *c = self->topics[i]->config.name; *c; c++) {
            name = s_mix (name, (uint8_t)*c);
        }
        sum += s_mix (name, s_topic_digest (self, self->topics[i]));
    }
    return s_mix (sum, sessions);
}
