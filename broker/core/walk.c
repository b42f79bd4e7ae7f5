/* What is live, for tools that read a journal at rest. SPDX-License-Identifier: MIT */
#include "core_private.h"

typedef struct {
    entry_t **items; /* owned, by n */
    uint32_t count;
} sorted_t;

static int
s_by_n (const void *a, const void *b) {
    uint64_t x = (*(entry_t *const *)a)->n;
    uint64_t y = (*(entry_t *const *)b)->n;
    return x < y ? -1 : x > y;
}

static sorted_t
s_sort_entries (const topic_t *topic) {
    sorted_t sorted = {malloc ((topic->entries.count + 1) * sizeof (entry_t *)), 0};
    ef_assert (sorted.items != NULL);
    uint32_t position = 0;
    entry_t *entry;
    while ((entry = ef_hash_next (&topic->entries, &position)) != NULL) {
        sorted.items[sorted.count++] = entry;
    }
    qsort (sorted.items, sorted.count, sizeof (void *), s_by_n);
    return sorted;
}

static int
s_give_entry (const ef_core_t *self, const entry_t *entry, int (*each) (void *arg, ef_live_t *live),
              void *arg) {
    ef_buf_t history = {0};
    if (entry->history) {
        history_put (entry->history, &history);
    }
    ef_live_t live = {.topic = entry_topic (self, entry)->config.name,
                      .n = entry->n,
                      .count = 1,
                      .segment = entry->place.segment,
                      .offset = entry->place.offset,
                      .rel = entry->place.rel,
                      .index = entry->place.index,
                      .is_copy = entry->flags & ENTRY_COPY,
                      .state = (ef_state_t)entry->state,
                      .reason = (ef_reason_t)entry->reason,
                      .attempts = entry->tries,
                      .due_ms = entry->flags & ENTRY_GATED ? 0 : entry->due_ms,
                      .dead_ms = entry->state == EF_STATE_DEAD ? entry->dead_ms : 0,
                      .m = entry->state == EF_STATE_DEAD ? entry->m : 0,
                      .history = span_of (history.data, history.size)};
    int rc = each (arg, &live);
    ef_buf_free (&history);
    return rc;
}

static int
s_give_extent (const topic_t *topic, const ef_extent_t *extent,
               int (*each) (void *arg, ef_live_t *live), void *arg) {
    ef_live_t live = {.topic = topic->config.name,
                      .n = extent->n,
                      .count = extent->count,
                      .segment = extent->segment,
                      .offset = extent->offset,
                      .rel = extent->rel,
                      .index = extent->index,
                      .is_copy = extent->is_copy,
                      .state = EF_STATE_READY};
    return each (arg, &live);
}

int
ef_core_walk (ef_core_t *self, uint32_t index, int (*each) (void *arg, ef_live_t *live),
              void *arg) {
    ef_assert (index < self->topic_count);
    topic_t *topic = self->topics[index];
    sorted_t sorted = s_sort_entries (topic);
    uint32_t next = 0;
    int rc = 0;
    ef_extent_at_t at;
    for (ef_extent_t *extent = ef_extents_first (&topic->extents, &at); extent && rc == 0;
         extent = ef_extents_next (&topic->extents, &at)) {
        while (next < sorted.count && sorted.items[next]->n < extent->n && rc == 0) {
            rc = s_give_entry (self, sorted.items[next++], each, arg);
        }
        rc = rc ? rc : s_give_extent (topic, extent, each, arg);
    }
    while (next < sorted.count && rc == 0) {
        rc = s_give_entry (self, sorted.items[next++], each, arg);
    }
    free (sorted.items);
    return rc;
}

int
ef_core_walk_event (const uint8_t *head, ef_live_t *live, uint64_t *accepted_ms, ef_buf_t *event) {
    stored_t stored;
    if (live->rel == 0) {
        live->rel = stored_first (head, live->is_copy);
        for (uint32_t i = 0; i < live->index; i++) {
            if (stored_read (head, live->rel, i, live->is_copy, &stored)) {
                return -1;
            }
            live->rel = stored_next (head, live->rel, i, live->is_copy);
        }
    }
    if (live->count == 0 || stored_read (head, live->rel, live->index, live->is_copy, &stored)) {
        return -1;
    }
    *accepted_ms = stored.accepted_ms;
    ef_buf_clear (event);
    (void)stored_write_event (ef_buf_add (event, stored_event_size (&stored)), &stored);
    if (live->is_copy) {
        live->n = stored.n; /* in a copy each has its own; in a run they count up */
        live->copy_attempts = stored.attempts;
        live->copy_history = stored.history;
    }
    live->rel = stored_next (head, live->rel, live->index, live->is_copy);
    live->index++;
    live->count--;
    live->n++;
    return 0;
}

uint64_t
ef_core_last_return (const ef_core_t *self, uint32_t index) {
    ef_assert (index < self->topic_count);
    return self->topics[index]->b;
}

void
ef_core_write_session (ef_core_t *self, const uint8_t id[16], ef_buf_t *out) {
    const session_t *session = self->sessions.count ? session_find (self, id) : NULL;
    if (session) {
        session_write (session, out);
    }
}

bool
ef_core_correct_totals (ef_core_t *self, uint32_t index, uint64_t letters, ef_buf_t *out) {
    ef_assert (index < self->topic_count && self->is_replaying);
    topic_t *topic = self->topics[index];
    uint64_t accepted = topic->accepted;
    uint64_t dead = topic->counts[EF_STATE_DEAD];
    uint64_t live = 0;
    ef_extent_at_t at;
    for (ef_extent_t *extent = ef_extents_first (&topic->extents, &at); extent;
         extent = ef_extents_next (&topic->extents, &at)) {
        live += extent->count;
    }
    uint64_t leaving = 0; /* dead, and not known to be over there */
    uint32_t position = 0;
    const entry_t *entry;
    while ((entry = ef_hash_next (&topic->entries, &position)) != NULL) {
        leaving += entry->state == EF_STATE_DEAD;
    }
    live += topic->entries.count - leaving;
    if (letters != UINT64_MAX) {
        topic->counts[EF_STATE_DEAD] = letters + leaving;
    }
    topic->accepted = live + topic->counts[EF_STATE_DEAD] + topic->counts[EF_STATE_DONE] +
                      topic->counts[EF_STATE_ARCHIVED] + topic->counts[EF_STATE_PURGED];
    topic_write (topic, out);
    return topic->accepted != accepted || topic->counts[EF_STATE_DEAD] != dead;
}
