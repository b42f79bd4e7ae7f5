/* Moves to and from the dead letters. SPDX-License-Identifier: MIT

   Out: DEAD decides and bears m; the event stays here until its journal over there is durable up to
   m. Back: RETURN decides and bears b; the letter stays there until that is durable here. Each side
   keeps the highest number that it has taken, so that what is sent again after a crash is taken
   once. */
#include "core_private.h"

#define OUTBOX_LETTERS 256 /* under way to one topic's dead letters */
#define OUTBOX_BYTES   (8u << 20)

void
outbox_push (topic_t *topic, entry_t *entry) {
    if (topic->outbox_count == topic->outbox_capacity) {
        uint32_t capacity = topic->outbox_capacity ? 2 * topic->outbox_capacity : 16;
        entry_t **ring = malloc (capacity * sizeof (entry_t *));
        ef_assert (ring != NULL);
        for (uint32_t i = 0; i < topic->outbox_count; i++) {
            ring[i] = topic->outbox[(topic->outbox_head + i) & (topic->outbox_capacity - 1)];
        }
        free (topic->outbox);
        topic->outbox = ring;
        topic->outbox_head = 0;
        topic->outbox_capacity = capacity;
    }
    topic->outbox[(topic->outbox_head + topic->outbox_count++) & (topic->outbox_capacity - 1)] =
        entry;
}

/* Hands over what is decided and durable, in order of m. */
void
outbox_flush (ef_core_t *self, topic_t *topic) {
    /* The rest waits here, where it is on disk, until there is news from over there. */
    while (topic->outbox_sent < topic->outbox_durable && topic->outbox_sent < OUTBOX_LETTERS &&
           topic->outbox_bytes < OUTBOX_BYTES) {
        uint32_t at = (topic->outbox_head + topic->outbox_sent) & (topic->outbox_capacity - 1);
        entry_t *entry = topic->outbox[at];
        const uint8_t *head = place_find (self, &entry->place, true);
        stored_t stored;
        if (head == NULL) {
            return;
        }
        int rc = stored_read (head, entry->place.rel, entry->place.index, entry->flags & ENTRY_COPY,
                              &stored);
        ef_assert (rc == 0 && stored.n == entry->n);
        size_t bytes = stored_event_size (&stored);
        uint8_t *event = malloc (bytes);
        ef_assert (event != NULL);
        (void)stored_write_event (event, &stored);
        ef_buf_t history = {0};
        history_put (entry->history, &history);
        ef_dead_t dead = {.m = entry->m,
                          .n = entry->n,
                          .accepted_ms = stored.accepted_ms,
                          .dead_ms = entry->dead_ms,
                          .attempts = entry->tries,
                          .reason = (ef_reason_t)entry->reason,
                          .event = span_of (event, bytes),
                          .history = span_of (history.data, history.size)};
        self->effects.dead (self->effects.arg, topic->config.name, &dead);
        topic->outbox_sent++;
        topic->outbox_bytes += entry->bytes;
        ef_buf_free (&history);
        free (event);
    }
}

/* Everything up to m is safe over there. */
static void
s_outbox_pop (ef_core_t *self, topic_t *topic, uint64_t m) {
    while (topic->outbox_count > 0) {
        entry_t *entry = topic->outbox[topic->outbox_head];
        if (entry->m > m) {
            break;
        }
        topic->outbox_head = (topic->outbox_head + 1) & (topic->outbox_capacity - 1);
        topic->outbox_count--;
        if (topic->outbox_sent > 0) {
            topic->outbox_sent--;
            topic->outbox_bytes -= entry->bytes;
        }
        topic->outbox_durable -= topic->outbox_durable > 0;
        entry_free (self, &entry);
    }
}

void
ef_core_dead_durable (ef_core_t *self, const char *name, uint64_t m) {
    topic_t *topic = topic_find (self, name, strlen (name));
    ef_assert (topic != NULL);
    s_outbox_pop (self, topic, m);
    outbox_flush (self, topic);
}

uint64_t
ef_core_last_move (const ef_core_t *self, uint32_t index) {
    return self->topics[index]->m;
}

bool
ef_core_has_moved (const ef_core_t *self, uint32_t index, uint64_t m) {
    const topic_t *topic = self->topics[index];
    uint32_t at = (topic->outbox_head + topic->outbox_sent) & (topic->outbox_capacity - 1);
    return topic->outbox_sent == topic->outbox_count || topic->outbox[at]->m > m;
}

/* Before the outbox is filled: what is safe over there needn't be sent. */
static void
s_forget_dead (ef_core_t *self, topic_t *topic, uint64_t m) {
    entry_t *entry;
    for (uint32_t at = 0; (entry = ef_hash_next (&topic->entries, &at)) != NULL;) {
        if (entry->state == EF_STATE_DEAD && entry->m <= m) {
            uint32_t capacity = topic->entries.capacity;
            entry_free (self, &entry);
            /* Others may have moved into its place; a table that shrank is in a new order. */
            at = topic->entries.capacity == capacity ? at - 1 : 0;
        }
    }
}

void
ef_core_replay_dead (ef_core_t *self, const char *name, uint64_t m) {
    topic_t *topic = topic_require (self, name, strlen (name));
    if (topic) {
        s_forget_dead (self, topic, m);
        topic->m = m > topic->m ? m : topic->m;
    }
}

static void
s_write_return (ef_core_t *self, topic_t *topic, uint64_t b, uint32_t count, uint32_t purged) {
    ef_buf_t *buf = batch_buf (self);
    size_t mark = ef_record_begin (buf, EF_LOG_RETURN, 0, EF_RETURN_HEADER);
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    ef_le32_put (header, topic->index);
    ef_le32_put (header + 4, count);
    ef_le64_put (header + 8, b);
    ef_le32_put (header + 16, purged);
    ef_record_end (buf, mark);
}

/* Letters that this journal never counted as dead (its own was lost or thrown away) count as
   accepted now, so that the sums stay right. */
static void
s_count_strangers (topic_t *topic, uint32_t count) {
    uint64_t known = topic->counts[EF_STATE_DEAD] - topic->returning;
    if (known < count) {
        topic->accepted += count - known;
        topic->counts[EF_STATE_DEAD] += count - known;
    }
}

/* What a letter that comes back asks for; its dates are over. */
static uint32_t
s_letter_flags (ef_span_t letter) {
    ef_event_t event;
    const char *why;
    ef_cursor_t cursor = ef_cursor (letter.data, letter.size);
    if (ef_event_read (&cursor, &event, &why) != EF_OK) {
        return 0;
    }
    return event_index_flags (&event) & ~(event.ttl_ms >= 0 ? 0 : EF_INDEX_META);
}

void
ef_core_return (ef_core_t *self, const char *name, uint64_t b, bool purge,
                const ef_returned_t *letters, uint32_t count) {
    topic_t *topic = topic_require (self, name, strlen (name));
    ef_assert (topic != NULL);
    if (b > topic->b) {
        ef_buf_t *buf = batch_buf (self);
        s_count_strangers (topic, count);
        topic->b = b;
        if (topic->is_new) {
            topic_write (topic, buf);
            topic->is_new = false;
        }
        s_write_return (self, topic, b, count, purge ? count : 0);
        if (purge) {
            topic_move (topic, EF_STATE_DEAD, EF_STATE_PURGED, count);
        } else if (count > 0) {
            size_t mark = ef_record_begin (buf, EF_LOG_COPIES, 0, EF_COPIES_HEADER);
            uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
            ef_le32_put (header, topic->index);
            ef_le32_put (header + 4, count);
            ef_le64_put (header + 8, b);
            for (uint32_t i = 0; i < count; i++) {
                stored_t stored = {.accepted_ms = self->wall, /* its ttl begins anew */
                                   .event = letters[i].event,
                                   .history = letters[i].history,
                                   .flags = s_letter_flags (letters[i].event),
                                   .state = EF_STATE_READY};
                copies_add (buf, &stored, topic->next_n++);
            }
            ef_record_end (buf, mark);
            topic->returning += count;
            batch_after (
                self, (after_t){.kind = AFTER_RECORD, .peer = topic->index, .rel = (uint32_t)mark});
        }
    }
    batch_after (self, (after_t){.kind = AFTER_RETURNED, .peer = topic->index, .n = b});
}
