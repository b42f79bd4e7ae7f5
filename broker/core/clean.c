/* Absolute values at the start of a segment, and emptying the oldest one.
   SPDX-License-Identifier: MIT

   The router copies what still matters out of the oldest segment into its own batches, so that a
   copy stands in the log exactly where the event was alive and with the attempts that it had. */
#include "core_private.h"

#define CLEAN_ROUND_BYTES (1u << 20) /* copied between two waits for the disk */

void
topic_write (const topic_t *topic, ef_buf_t *buf) {
    size_t name = strlen (topic->config.name);
    size_t mark = ef_record_begin (buf, EF_LOG_TOPIC, 0, EF_TOPIC_HEADER);
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    uint64_t numbers[] = {topic->accepted + topic->pending_events,
                          topic->counts[EF_STATE_DONE],
                          topic->counts[EF_STATE_DEAD] + topic->pending_dead - topic->returning,
                          topic->counts[EF_STATE_ARCHIVED],
                          topic->counts[EF_STATE_PURGED],
                          topic->attempts_failed,
                          topic->deliveries};
    ef_le32_put (header, topic->index);
    ef_le32_put (header + 4, (topic->is_paused ? EF_TOPIC_FLAG_PAUSED : 0) |
                                 (topic->is_draining ? EF_TOPIC_FLAG_DRAINING : 0));
    ef_le64_put (header + 8, topic->next_n);
    ef_le64_put (header + 16, topic->m + topic->pending_dead);
    ef_le64_put (header + 24, topic->b);
    for (unsigned i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        ef_le64_put (header + 32 + 8 * i, numbers[i]);
    }
    header[88] = (uint8_t)name;
    ef_le64_put (header + 89, topic->purge_floor);
    ef_buf_put (buf, topic->config.name, name);
    ef_record_end (buf, mark);
}

void
snapshot_write (ef_core_t *self, ef_buf_t *buf) {
    size_t mark = ef_record_begin (buf, EF_LOG_SEED, 0, EF_SEED_HEADER);
    ef_le64_put (buf->data + mark + EF_RECORD_HEAD, self->print_key[0]);
    ef_le64_put (buf->data + mark + EF_RECORD_HEAD + 8, self->print_key[1]);
    ef_record_end (buf, mark);
    mark = ef_record_begin (buf, EF_LOG_TAGS, 0, EF_TAGS_HEADER);
    uint64_t limit = self->tag_asked > self->tag_limit ? self->tag_asked : self->tag_limit;
    ef_le64_put (buf->data + mark + EF_RECORD_HEAD, limit);
    ef_record_end (buf, mark);
    for (uint32_t i = 0; i < self->topic_count; i++) {
        topic_write (self->topics[i], buf);
        breakers_write (self->topics[i], buf);
        self->topics[i]->is_new = false;
    }
    session_t *session;
    uint32_t position = 0;
    while ((session = ef_hash_next (&self->sessions, &position)) != NULL) {
        session_write (session, buf);
    }
}

typedef struct {
    ef_core_t *core;
    topic_t *topic;
    ef_buf_t *buf;
    size_t mark;     /* of the COPIES record under way */
    uint32_t count;  /* events in it */
    uint64_t bytes;  /* copied in this round */
    bool is_blocked; /* something isn't in memory yet, or must leave first */
} round_t;

static void
s_end_record (round_t *self) {
    if (self->count == 0) {
        return;
    }
    ef_le32_put (self->buf->data + self->mark + EF_RECORD_HEAD + 4, self->count);
    ef_record_end (self->buf, self->mark);
    batch_after (
        self->core,
        (after_t){.kind = AFTER_RECORD, .peer = self->topic->index, .rel = (uint32_t)self->mark});
    self->count = 0;
}

static void
s_copy (round_t *self, const stored_t *stored, uint64_t n) {
    if (self->count == 0) {
        self->buf = batch_buf (self->core);
        self->mark = ef_record_begin (self->buf, EF_LOG_COPIES, 0, EF_COPIES_HEADER);
        ef_le32_put (self->buf->data + self->mark + EF_RECORD_HEAD, self->topic->index);
    }
    size_t before = self->buf->size;
    copies_add (self->buf, stored, n);
    self->bytes += self->buf->size - before;
    if (++self->count == EF_MESSAGE_EVENTS_MAX) {
        s_end_record (self);
    }
}

/* An event that stands in an extent, or went out from one, is ready for its first attempt, whatever
   it was when it was written: scheduled, say, until a time that is over. */
static void
s_copy_plain (round_t *self, stored_t *stored) {
    stored->state = EF_STATE_READY;
    stored->attempts = 0;
    stored->due_ms = 0;
    stored->history.size = 0;
    stored->entry_flags = 0;
    s_copy (self, stored, stored->n);
}

static const uint8_t *
s_head (round_t *self, place_t *place) {
    const uint8_t *head = place_find (self->core, place, true);
    self->is_blocked = self->is_blocked || head == NULL;
    return head;
}

static void
s_copy_extents (round_t *self) {
    ef_extent_at_t at;
    for (ef_extent_t *extent = ef_extents_first (&self->topic->extents, &at);
         extent && self->bytes < CLEAN_ROUND_BYTES;
         extent = ef_extents_next (&self->topic->extents, &at)) {
        if (extent->segment != self->core->oldest_segment) {
            continue;
        }
        place_t place = {extent->segment, extent->offset, extent->rel, extent->index};
        for (uint32_t i = 0; i < extent->count; i++) {
            const uint8_t *head = s_head (self, &place);
            stored_t stored;
            if (head == NULL) {
                break;
            }
            int rc = stored_read (head, place.rel, place.index, extent->is_copy, &stored);
            ef_assert (rc == 0 && stored.n == extent->n + i);
            s_copy_plain (self, &stored);
            place_next (head, extent->is_copy, &place);
        }
    }
}

static void
s_copy_entry (round_t *self, entry_t *entry) {
    stored_t stored;
    if (entry->state == EF_STATE_DEAD) {
        self->is_blocked = true; /* it leaves on its own, soon */
        return;
    }
    const uint8_t *head = s_head (self, &entry->place);
    if (head == NULL) {
        return;
    }
    int rc = stored_read (head, entry->place.rel, entry->place.index, entry->flags & ENTRY_COPY,
                          &stored);
    ef_assert (rc == 0 && stored.n == entry->n);
    ef_buf_t history = {0};
    history_put (entry->history, &history);
    bool is_waiting = (entry->state == EF_STATE_RETRYING || entry->state == EF_STATE_SCHEDULED ||
                       entry->state == EF_STATE_PARKED) &&
                      !(entry->flags & ENTRY_INSERTING);
    stored.history = span_of (history.data, history.size);
    stored.attempts = entry->flags & ENTRY_INSERTING ? 0 : entry->tries;
    stored.insertions = 0;
    stored.state = is_waiting ? entry->state : EF_STATE_READY;
    stored.due_ms = is_waiting ? entry->due_ms : 0;
    stored.entry_flags = entry->flags & (ENTRY_SUSPECT | ENTRY_ALONE | ENTRY_AT);
    s_copy (self, &stored, entry->n);
    ef_buf_free (&history);
}

static void
s_copy_entries (round_t *self) {
    uint32_t position = 0;
    entry_t *entry;
    while (self->bytes < CLEAN_ROUND_BYTES &&
           (entry = ef_hash_next (&self->topic->entries, &position)) != NULL) {
        if (entry->place.segment == self->core->oldest_segment) {
            s_copy_entry (self, entry);
        }
    }
}

/* First attempts that are out with workers. */
static void
s_copy_leased (round_t *self) {
    ef_core_t *core = self->core;
    for (uint32_t i = 0; i < core->leases.count && self->bytes < CLEAN_ROUND_BYTES; i++) {
        lease_t *lease = core->leases.items[i];
        for (uint32_t k = 0; lease->topic == self->topic && k < lease->count; k++) {
            item_t *item = &lease->items[k];
            if (item->state != ITEM_OPEN || item->entry ||
                item->place.segment != core->oldest_segment) {
                continue;
            }
            stored_t stored;
            const uint8_t *head = s_head (self, &item->place);
            if (head == NULL) {
                continue;
            }
            int rc = stored_read (head, item->place.rel, item->place.index,
                                  item->flags & ENTRY_COPY, &stored);
            ef_assert (rc == 0 && stored.n == item->n);
            s_copy_plain (self, &stored);
        }
    }
}

/* What is in hand, as it would stand in the log once copied: an event and what goes with it.
   Counted without that, a backlog of tiny events would be copied for ever. */
#define COPY_BYTES 56

uint64_t
live_bytes (const ef_core_t *self) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < self->topic_count; i++) {
        const topic_t *topic = self->topics[i];
        uint64_t count = topic->outbox_count;
        for (unsigned state = EF_STATE_READY; state <= EF_STATE_PARKED; state++) {
            count += topic->counts[state];
        }
        bytes += topic->bytes + count * COPY_BYTES;
        bytes += topic->ids ? (uint64_t)ef_window_count (topic->ids) * EF_IDS_ITEM : 0;
        bytes += topic->quota.units.count * (uint64_t)(EF_UNIT_HEADER + EF_RECORD_HEAD);
    }
    return bytes;
}

/* Disk stays under twice the live bytes and four segments; cleaning begins earlier, so that it ends
   before. With three fifths alive at most, a segment copied gives two fifths of one back. */
static bool
s_is_due (const ef_core_t *self) {
    uint64_t kept = live_bytes (self);
    uint64_t share = self->config.segment_bytes; /* of a segment, behind what it begins with */
    share -= self->snapshot_bytes < share / 4 * 3 ? self->snapshot_bytes : share / 4 * 3;
    kept += kept / share * (EF_SEGMENT_START + self->config.segment_bytes - share);
    if (self->space != EF_SPACE_NORMAL) {
        kept += kept / 16 + self->config.segment_bytes; /* every byte counts */
    } else {
        kept += kept / 8 * 5 + 2 * self->config.segment_bytes;
    }
    return self->size_count >= 3 && (self->log_bytes > kept || EF_BUGGIFY (100)) &&
           space_for_copies (self, self->sizes[0]);
}

void
sizes_add (ef_core_t *self, uint32_t segment, uint64_t bytes) {
    uint32_t at = segment - self->oldest_segment;
    while (self->size_count <= at) {
        if (self->size_count == self->size_capacity) {
            self->size_capacity = self->size_capacity ? 2 * self->size_capacity : 64;
            self->sizes = realloc (self->sizes, self->size_capacity * sizeof *self->sizes);
            ef_assert (self->sizes != NULL);
        }
        self->sizes[self->size_count++] = EF_SEGMENT_START;
        self->log_bytes += EF_SEGMENT_START;
    }
    self->sizes[at] += bytes;
    self->log_bytes += bytes;
}

static void
s_drop_oldest (ef_core_t *self) {
    ef_assert (self->size_count > 1);
    self->log_bytes -= self->sizes[0];
    self->size_count--;
    memmove (self->sizes, self->sizes + 1, self->size_count * sizeof *self->sizes);
    self->effects.drop_segment (self->effects.arg, self->oldest_segment++);
    self->cleaned++;
}

/* One round of copying. False: it must wait for what it has written, or there is nothing to do. */
static bool
s_round (ef_core_t *self) {
    if (!self->is_cleaning) {
        if (!s_is_due (self)) {
            return false;
        }
        self->is_cleaning = true;
        self->clean_lsn = 0;
    }
    if (self->durable_lsn < self->clean_lsn || ef_core_is_behind (self)) {
        return false;
    }
    if (self->is_empty) {
        s_drop_oldest (self);
        self->is_cleaning = self->is_empty = false;
        return true;
    }
    round_t round = {.core = self};
    for (uint32_t i = 0; i < self->topic_count && round.bytes < CLEAN_ROUND_BYTES; i++) {
        round.topic = self->topics[i];
        s_copy_extents (&round);
        s_copy_entries (&round);
        s_copy_leased (&round);
        s_end_record (&round);
        round.bytes += ids_rescue (self, round.topic, self->oldest_segment, CLEAN_ROUND_BYTES);
        round.bytes += units_rescue (self, round.topic, self->oldest_segment);
    }
    if (round.bytes > 0) {
        self->clean_lsn = self->batch->lsn;
        return false;
    }
    if (round.is_blocked) {
        return false;
    }
    /* What lay in it may have ended a moment ago: those ends must be durable before it goes. */
    self->is_empty = true;
    self->clean_lsn = self->batch ? self->batch->lsn : self->next_lsn - 1;
    return true;
}

/* Copies what still matters out of the oldest segment, and drops it once nothing in it does. */
void
clean_step (ef_core_t *self) {
    while (s_round (self)) {
    }
}
