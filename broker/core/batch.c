/* The batch under way and what is to be done once it is durable. SPDX-License-Identifier: MIT

   Everything that a peer is told, and every event that a worker gets, waits in this one queue for
   its batch. */
#include "core_private.h"

#define BATCH_BYTES (1u << 20) /* not made larger by a further message */

/* Begins a new segment with all absolute values, once the newest has its share. */
static void
s_begin (ef_core_t *self) {
    self->batch = calloc (1, sizeof *self->batch);
    ef_assert (self->batch != NULL);
    self->batch->lsn = self->next_lsn;
    self->ends_mark = SIZE_MAX;
    if (self->segment_fill >= self->segment_limit ||
        (self->space == EF_SPACE_NORMAL && EF_BUGGIFY (100))) {
        self->batch->roll = true;
        snapshot_write (self, &self->batch->buf);
        self->snapshot_bytes = self->batch->buf.size;
        /* Many sessions make a long beginning: as much again must follow it, or segments would be
           nothing but beginnings. */
        self->segment_fill = 0;
        self->segment_limit = self->snapshot_bytes <= self->config.segment_bytes / 4 * 3
                                  ? self->config.segment_bytes
                                  : 2 * self->snapshot_bytes;
        checkpoint_rolled (self, self->batch->lsn);
    }
}

static void
s_end_ends (ef_core_t *self) {
    if (self->ends_mark != SIZE_MAX) {
        ef_record_end (&self->batch->buf, self->ends_mark);
        self->ends_mark = SIZE_MAX;
    }
}

ef_buf_t *
batch_buf (ef_core_t *self) {
    if (self->batch == NULL) {
        s_begin (self);
    }
    s_end_ends (self);
    return &self->batch->buf;
}

/* Notes that an event is done; neighbours share an item. */
void
batch_end_event (ef_core_t *self, topic_t *topic, uint64_t n) {
    if (self->batch == NULL) {
        s_begin (self);
    }
    ef_buf_t *buf = &self->batch->buf;
    if (self->ends_mark != SIZE_MAX) {
        uint8_t *last = buf->data + buf->size - EF_ENDS_ITEM;
        uint32_t count = ef_le32 (last + 4);
        if (ef_le32 (last) == topic->index && ef_le64 (last + 8) + count == n) {
            ef_le32_put (last + 4, count + 1);
            return;
        }
    } else {
        self->ends_mark = ef_record_begin (buf, EF_LOG_ENDS, 0, EF_ENDS_HEADER);
        ef_le64_put (buf->data + self->ends_mark + EF_RECORD_HEAD, self->wall);
    }
    uint8_t *item = ef_buf_add (buf, EF_ENDS_ITEM);
    ef_le32_put (item, topic->index);
    ef_le32_put (item + 4, 1);
    ef_le64_put (item + 8, n);
}

void
batch_submit (ef_core_t *self) {
    ef_batch_t *batch = self->batch;
    if (batch == NULL) {
        return;
    }
    s_end_ends (self);
    self->batch = NULL;
    self->next_lsn++;
    batch->bytes = batch->buf.size; /* the journal adds its commit */
    self->behind += batch->bytes;
    self->segment_fill += batch->bytes + EF_RECORD_HEAD + EF_COMMIT_BODY;
    self->checkpoint.since += batch->bytes;
    self->effects.submit (self->effects.arg, batch);
}

/* The same between two events of one message, where they needn't stand in one batch. */
void
batch_split (ef_core_t *self) {
    if (self->batch && self->batch->buf.size >= BATCH_BYTES) {
        batch_submit (self);
    }
}

/* What one turn gathers must fit what a segment's file has beyond its share. */
void
batch_bound (ef_core_t *self) {
    if (self->batch && (self->batch->buf.size >= BATCH_BYTES || EF_BUGGIFY (20))) {
        batch_submit (self);
    }
}

/* Queues behind the batch under way, or, where there is none, behind the last one submitted. */
void
batch_after (ef_core_t *self, after_t after) {
    after.lsn = self->batch ? self->batch->lsn : self->next_lsn - 1;
    if (after.kind == AFTER_CONFIRM || after.kind == AFTER_ACKED) {
        after.n = self->peers[after.peer].generation;
    }
    if (self->after_count == self->after_capacity) {
        uint32_t capacity = self->after_capacity ? 2 * self->after_capacity : 256;
        after_t *ring = malloc (capacity * sizeof *ring);
        ef_assert (ring != NULL);
        for (uint32_t i = 0; i < self->after_count; i++) {
            ring[i] = self->after[(self->after_head + i) & (self->after_capacity - 1)];
        }
        free (self->after);
        self->after = ring;
        self->after_head = 0;
        self->after_capacity = capacity;
    }
    self->after[(self->after_head + self->after_count++) & (self->after_capacity - 1)] = after;
}

/* An answer whose bytes were made before; sent now that it is true. */
static void
s_send_prepared (ef_core_t *self, after_t *after) {
    ef_buf_t *prepared = after->pointer;
    ef_buf_t scratch = self->header;
    self->header = *prepared;
    if (after->peer < self->peer_count && self->peers[after->peer].role != PEER_UNKNOWN &&
        self->peers[after->peer].generation == after->n) {
        peer_t *peer = &self->peers[after->peer];
        peer->waiting -= after->kind == AFTER_CONFIRM && peer->waiting > 0;
        (void)peer_send (self, after->peer, NULL); /* a peer that can't take it asks again */
    }
    ef_buf_free (&self->header);
    self->header = scratch;
    free (prepared);
}

static void
s_run_record (ef_core_t *self, const after_t *after) {
    topic_t *topic = self->topics[after->peer];
    const ef_stretch_t *stretch = NULL;
    for (uint32_t i = self->cache.count; i > 0 && stretch == NULL; i--) {
        if (self->cache.items[i - 1].age == self->cache.age) {
            stretch = &self->cache.items[i - 1];
        }
    }
    ef_assert (stretch != NULL && after->rel < stretch->size);
    const uint8_t *head = stretch->bytes + after->rel;
    int rc = adopt_record (self, topic, head, stretch->segment, stretch->offset + after->rel,
                           head[20] == EF_LOG_COPIES);
    ef_assert (rc == 0); /* written by this very process */
}

static void
s_run (ef_core_t *self, after_t *after) {
    topic_t *topic = after->peer < self->topic_count ? self->topics[after->peer] : NULL;
    switch (after->kind) {
    case AFTER_RECORD: s_run_record (self, after); break;
    case AFTER_SESSION: {
        session_t *session = after->pointer;
        session->queued--;
        session_decide (self, session);
        session_release (&session);
        break;
    }
    case AFTER_CONFIRM:
    case AFTER_ACKED: s_send_prepared (self, after); break;
    case AFTER_RETRY: {
        ef_assert (topic != NULL);
        entry_t *entry = entry_find (topic, after->n);
        if (entry && entry->generation == after->rel) {
            self->effects.retry_at (self->effects.arg, topic->index, entry->n, entry->generation,
                                    after->at_ms);
        }
        break;
    }
    case AFTER_DEAD:
        ef_assert (topic != NULL);
        topic->outbox_durable++;
        outbox_flush (self, topic);
        break;
    case AFTER_TAGS: self->tag_limit = after->n; break;
    case AFTER_UNIT: {
        ef_assert (topic != NULL);
        entry_t *entry = entry_find (topic, after->n);
        if (entry && (entry->flags & ENTRY_GATED) && entry->gate->name[0] == GATE_UNIT) {
            gate_leave (self, entry);
            entry_ready (self, entry);
        }
        break;
    }
    case AFTER_KEY:
        ef_assert (topic != NULL);
        key_free (self, topic, after->n);
        break;
    case AFTER_RETURNED:
        ef_assert (topic != NULL);
        self->effects.returned (self->effects.arg, topic->config.name, after->n);
        break;
    default: ef_assert (!"a kind that nobody queues");
    }
}

void
after_run (ef_core_t *self) {
    while (self->after_count > 0) {
        after_t after = self->after[self->after_head];
        if (after.lsn > self->durable_lsn) {
            break;
        }
        self->after_head = (self->after_head + 1) & (self->after_capacity - 1);
        self->after_count--;
        s_run (self, &after);
    }
}

/* A disk that was full at the start may have given a segment less than its due. */
static void
s_note_segment (ef_core_t *self, const ef_batch_t *batch) {
    if (batch->segment != self->newest_segment && batch->room > 0) {
        uint64_t reserved = batch->offset + batch->buf.size + batch->room;
        uint64_t slack =
            self->config.segment_slack < reserved / 2 ? self->config.segment_slack : reserved / 2;
        bool is_small = reserved < self->config.segment_bytes + self->config.segment_slack;
        uint64_t limit = is_small ? reserved - slack : self->segment_limit;
        self->segment_limit = limit < self->segment_limit ? limit : self->segment_limit;
    }
    self->newest_segment = batch->segment;
}

void
ef_core_durable (ef_core_t *self, ef_batch_t *batch) {
    ef_assert (batch->lsn == self->durable_lsn + 1);
    ef_assert (self->behind >= batch->bytes);
    self->durable_lsn = batch->lsn;
    self->behind -= batch->bytes;
    self->oldest_segment = self->oldest_segment ? self->oldest_segment : batch->segment;
    s_note_segment (self, batch);
    sizes_add (self, batch->segment, batch->buf.size);
    checkpoint_durable (self, batch);
    ef_stretch_t stretch = {batch->buf.data, batch->buf.size, batch->buf.capacity,
                            batch->segment,  batch->offset,   0};
    free (batch);
    ef_cache_put (&self->cache, stretch);
    after_run (self);
}

uint64_t
ef_core_written_lsn (const ef_core_t *self) {
    return self->batch ? self->batch->lsn : self->next_lsn - 1;
}

uint64_t
ef_core_durable_lsn (const ef_core_t *self) {
    return self->durable_lsn;
}

bool
ef_core_is_behind (const ef_core_t *self) {
    return self->behind > self->config.behind_bytes;
}

bool
ef_core_is_settled (const ef_core_t *self) {
    return self->batch == NULL && self->durable_lsn + 1 == self->next_lsn;
}
