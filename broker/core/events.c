/* Records of events: finding one in them, taking them into the tables. SPDX-License-Identifier: MIT
 */
#include "core_private.h"

/* Offsets from a record's head. */
#define HEADER (EF_RECORD_HEAD)

static const uint8_t *
s_index (const uint8_t *head) {
    return head + HEADER + EF_EVENTS_HEADER + ef_le32 (head + HEADER + 40);
}

static uint32_t
s_count (const uint8_t *head) {
    return ef_le32 (head + HEADER + 4);
}

uint32_t
stored_first (const uint8_t *head, bool is_copy) {
    return is_copy ? HEADER + EF_COPIES_HEADER
                   : (uint32_t)(s_index (head) - head) + 4 * s_count (head);
}

static uint32_t
s_copy_bytes (const uint8_t *copy) {
    return ef_record_padded (EF_COPY_HEAD + ef_le32 (copy + 24) + ef_le32 (copy + 28));
}

uint32_t
stored_next (const uint8_t *head, uint32_t rel, uint32_t index, bool is_copy) {
    return rel + (is_copy ? s_copy_bytes (head + rel)
                          : ef_le32 (s_index (head) + 4 * index) & EF_INDEX_LENGTH);
}

int
stored_read (const uint8_t *head, uint32_t rel, uint32_t index, bool is_copy, stored_t *stored) {
    uint32_t length = ef_le32 (head);
    memset (stored, 0, sizeof *stored);
    stored->index = index;
    stored->state = EF_STATE_READY;
    if (!is_copy) {
        uint32_t word = ef_le32 (s_index (head) + 4 * index);
        stored->n = ef_le64 (head + HEADER + 8) + index;
        stored->accepted_ms = ef_le64 (head + HEADER + 16);
        stored->base_id = head + HEADER + 24;
        stored->flags = word & ~EF_INDEX_LENGTH;
        stored->event = span_of (head + rel, word & EF_INDEX_LENGTH);
        return rel + stored->event.size > length ? -1 : 0;
    }
    const uint8_t *copy = head + rel;
    if (rel + EF_COPY_HEAD > length) {
        return -1;
    }
    stored->n = ef_le64 (copy);
    stored->accepted_ms = ef_le64 (copy + 8);
    stored->due_ms = ef_le64 (copy + 16);
    stored->attempts = ef_le16 (copy + 32);
    stored->state = copy[34];
    stored->flags = (copy[35] & EF_COPY_META ? EF_INDEX_META : 0) |
                    (copy[35] & EF_COPY_KEYED ? EF_INDEX_KEYED : 0) |
                    (copy[35] & EF_COPY_EXTRA ? EF_INDEX_EXTRA : 0);
    stored->entry_flags = (copy[35] & EF_COPY_SUSPECT ? ENTRY_SUSPECT : 0) |
                          (copy[35] & EF_COPY_ALONE ? ENTRY_ALONE : 0) |
                          (copy[35] & EF_COPY_AT ? ENTRY_AT : 0);
    stored->insertions = ef_le16 (copy + 36);
    uint32_t history = ef_le32 (copy + 28);
    uint32_t bytes = ef_le32 (copy + 24);
    if ((uint64_t)rel + EF_COPY_HEAD + history + bytes > length) {
        return -1;
    }
    stored->history = span_of (copy + EF_COPY_HEAD, history);
    stored->event = span_of (copy + EF_COPY_HEAD + history, bytes);
    return 0;
}

/* An event's id as it came, a str or a bin. */
ef_span_t
event_raw_id (const ef_event_t *event) {
    uint32_t fields;
    ef_cursor_t cursor = ef_cursor (event->raw.data, event->raw.size);
    int rc = ef_get_array (&cursor, &fields);
    rc = rc ? rc : ef_skip (&cursor);
    const uint8_t *start = cursor.at;
    rc = rc ? rc : ef_skip (&cursor);
    ef_assert (rc == 0); /* it was read before */
    return span_of (start, (size_t)(cursor.at - start));
}

/* What an event's word in an index says of its meta. */
uint32_t
event_index_flags (const ef_event_t *event) {
    bool is_timed = event->at_ms > 0 || event->delay_ms > 0 || event->ttl_ms >= 0;
    bool is_extra = event->user.data || event->downstream.data || event->on_dead.data;
    return (is_timed ? EF_INDEX_META : 0) | (event->key.data ? EF_INDEX_KEYED : 0) |
           (is_extra ? EF_INDEX_EXTRA : 0);
}

/* What a stored event asks for. */
void
stored_event (const stored_t *stored, ef_event_t *event) {
    const char *why;
    ef_cursor_t cursor = ef_cursor (stored->event.data, stored->event.size);
    ef_status_t status = ef_event_read (&cursor, event, &why);
    ef_assert (status == EF_OK); /* validated at acceptance, checksummed since */
}

bool
stored_is_expired (const stored_t *stored, const ef_event_t *event, uint64_t wall) {
    return event->ttl_ms >= 0 && wall > stored->accepted_ms + (uint64_t)event->ttl_ms;
}

uint32_t
stored_entry_flags (const stored_t *stored) {
    return (stored->flags & EF_INDEX_META ? ENTRY_META : 0) |
           (stored->flags & EF_INDEX_KEYED ? ENTRY_KEYED : 0);
}

/* Asks for a place that isn't in memory, once. */
static void
s_fetch (ef_core_t *self, const place_t *place) {
    uint32_t most = EF_BUGGIFY (8) ? 1 : sizeof self->fetching / sizeof self->fetching[0];
    for (uint32_t i = 0; i < self->fetching_count; i++) {
        if (self->fetching[i].segment == place->segment &&
            self->fetching[i].offset == place->offset) {
            return;
        }
    }
    if (self->fetching_count < most) {
        self->fetching[self->fetching_count].segment = place->segment;
        self->fetching[self->fetching_count++].offset = place->offset;
        self->effects.fetch (self->effects.arg, place->segment, place->offset);
    }
}

/* An extent may run over several records of its topic: moves on to the one that holds the event.
   NULL: the bytes up to there aren't all in memory. */
static const uint8_t *
s_walk (const ef_core_t *self, const uint8_t *head, size_t size, place_t *place) {
    uint32_t topic = ef_le32 (head + HEADER);
    while (head[20] != EF_LOG_EVENTS || ef_le32 (head + HEADER) != topic ||
           place->index >= s_count (head)) {
        if (head[20] == EF_LOG_EVENTS && ef_le32 (head + HEADER) == topic) {
            place->index -= s_count (head);
        }
        uint32_t bytes = ef_record_padded (ef_le32 (head));
        place->offset += bytes;
        if (size >= bytes + EF_RECORD_HEAD) {
            head += bytes;
            size -= bytes;
        } else {
            head = ef_cache_find (&self->cache, place->segment, place->offset, &size);
        }
        if (head == NULL) {
            return NULL;
        }
    }
    return head;
}

/* The record of a place where it is in memory; finds what wasn't known of it. Else, where it is
   wanted, it is asked for. */
const uint8_t *
place_find (ef_core_t *self, place_t *place, bool is_wanted) {
    size_t size;
    place_t found = *place;
    const uint8_t *head = ef_cache_find (&self->cache, found.segment, found.offset, &size);
    ef_assert (head == NULL || size >= ef_le32 (head));
    if (head && found.rel == 0 && head[20] == EF_LOG_EVENTS) {
        head = s_walk (self, head, size, &found);
    }
    if (head == NULL) {
        if (is_wanted) {
            s_fetch (self, place);
        }
        return NULL;
    }
    if (found.rel == 0) {
        bool is_copy = head[20] == EF_LOG_COPIES;
        found.rel = stored_first (head, is_copy);
        for (uint32_t i = 0; i < found.index; i++) {
            found.rel = stored_next (head, found.rel, i, is_copy);
        }
    }
    *place = found;
    return head;
}

/* The event behind a place that was found; past the record's last one it is to be looked for. */
void
place_next (const uint8_t *head, bool is_copy, place_t *place) {
    place->rel = stored_next (head, place->rel, place->index, is_copy);
    if (++place->index == s_count (head) && !is_copy) {
        place->rel = 0;
    }
}

static ef_span_t
s_tail (const stored_t *stored, uint8_t *fields, ef_span_t *topic) {
    ef_cursor_t cursor = ef_cursor (stored->event.data, stored->event.size);
    uint32_t count;
    int rc = ef_get_array (&cursor, &count);
    *fields = (uint8_t)count;
    const uint8_t *start = cursor.at;
    rc = rc ? rc : ef_skip (&cursor);
    *topic = span_of (start, (size_t)(cursor.at - start));
    rc = rc ? rc : ef_skip (&cursor); /* the nil in the id's place */
    ef_assert (rc == 0);              /* validated at acceptance, checksummed since */
    return span_of (cursor.at, ef_cursor_left (&cursor));
}

#define UUID_STR 38 /* str8 head and 36 characters */

size_t
stored_event_size (const stored_t *stored) {
    if (!(stored->flags & EF_INDEX_NO_ID)) {
        return stored->event.size;
    }
    /* The array's head is written in its short form, whatever form it came in. */
    uint8_t head = (uint8_t)stored->event.data[0];
    unsigned head_bytes = head == 0xdd ? 5 : head == 0xdc ? 3 : 1;
    return stored->event.size - head_bytes + 1 + UUID_STR - 1;
}

uint8_t *
stored_write_event (uint8_t *at, const stored_t *stored) {
    if (!(stored->flags & EF_INDEX_NO_ID)) {
        memcpy (at, stored->event.data, stored->event.size);
        return at + stored->event.size;
    }
    uint8_t fields;
    ef_span_t topic;
    ef_span_t tail = s_tail (stored, &fields, &topic);
    *at++ = (uint8_t)(0x90 | fields);
    memcpy (at, topic.data, topic.size);
    at += topic.size;
    *at++ = 0xd9;
    *at++ = 36;
    char text[37];
    ef_uuid_text (stored->base_id, stored->index, text);
    memcpy (at, text, 36);
    at += 36;
    memcpy (at, tail.data, tail.size);
    return at + tail.size;
}

/* Appends one event to an open COPIES record. */
void
copies_add (ef_buf_t *buf, const stored_t *stored, uint64_t n) {
    size_t bytes = stored_event_size (stored);
    size_t start = buf->size;
    uint8_t *copy = ef_buf_add (buf, EF_COPY_HEAD + stored->history.size + bytes);
    memset (copy, 0, EF_COPY_HEAD);
    ef_le64_put (copy, n);
    ef_le64_put (copy + 8, stored->accepted_ms);
    ef_le64_put (copy + 16, stored->due_ms);
    ef_le32_put (copy + 24, (uint32_t)bytes);
    ef_le32_put (copy + 28, stored->history.size);
    ef_le16_put (copy + 32, (uint16_t)stored->attempts);
    copy[34] = stored->state;
    copy[35] = (uint8_t)((stored->flags & EF_INDEX_META ? EF_COPY_META : 0) |
                         (stored->flags & EF_INDEX_KEYED ? EF_COPY_KEYED : 0) |
                         (stored->flags & EF_INDEX_EXTRA ? EF_COPY_EXTRA : 0) |
                         (stored->entry_flags & ENTRY_SUSPECT ? EF_COPY_SUSPECT : 0) |
                         (stored->entry_flags & ENTRY_ALONE ? EF_COPY_ALONE : 0) |
                         (stored->entry_flags & ENTRY_AT ? EF_COPY_AT : 0));
    ef_le16_put (copy + 36, (uint16_t)stored->insertions);
    if (stored->history.size) {
        memcpy (copy + EF_COPY_HEAD, stored->history.data, stored->history.size);
    }
    (void)stored_write_event (copy + EF_COPY_HEAD + stored->history.size, stored);
    size_t padding = ef_record_padded ((uint32_t)(buf->size - start)) - (buf->size - start);
    memset (ef_buf_add (buf, padding), 0, padding);
}

/* The run of ready events that is being gathered. */
typedef struct {
    ef_core_t *core;
    topic_t *topic;
    ef_extent_t extent;
} run_t;

/* After a checkpoint an event may be known from its parts: it is taken as the log has it. */
static void
s_cut_known (ef_core_t *self, topic_t *topic, uint64_t n, uint32_t count) {
    uint64_t bytes;
    if (self->is_partial) {
        (void)ef_extents_cut (&topic->extents, n, n + count - 1, &bytes);
    }
}

static void
s_run_end (run_t *run) {
    if (run->extent.count > 0) {
        s_cut_known (run->core, run->topic, run->extent.n, run->extent.count);
        ef_extents_insert (&run->topic->extents, &run->extent);
        run->extent.count = 0;
    }
}

static void
s_run_add (run_t *run, const place_t *place, bool is_copy, const stored_t *stored) {
    ef_extent_t *extent = &run->extent;
    if (extent->count > 0 &&
        (extent->n + extent->count != stored->n || extent->index + extent->count != place->index)) {
        s_run_end (run);
    }
    if (extent->count == 0) {
        memset (extent, 0, sizeof *extent);
        extent->n = stored->n;
        extent->segment = place->segment;
        extent->offset = place->offset;
        extent->rel = place->rel;
        extent->index = place->index;
        extent->is_copy = is_copy;
    }
    extent->count++;
    extent->bytes += stored->event.size;
    extent->has_meta = extent->has_meta || (stored->flags & EF_INDEX_META);
}

/* When an event with META may first be ready, wall clock; 0: at once. */
static uint64_t
s_not_before (const stored_t *stored, bool *is_date) {
    ef_event_t event;
    const char *why;
    ef_cursor_t cursor = ef_cursor (stored->event.data, stored->event.size);
    *is_date = true;
    if (!(stored->flags & EF_INDEX_META) || ef_event_read (&cursor, &event, &why) != EF_OK) {
        return 0;
    }
    uint64_t due = event.at_ms > 0 ? (uint64_t)event.at_ms : 0;
    if (event.delay_ms > 0 && stored->accepted_ms + (uint64_t)event.delay_ms > due) {
        due = stored->accepted_ms + (uint64_t)event.delay_ms;
        *is_date = false;
    }
    return due;
}

static entry_t *
s_new_entry (ef_core_t *self, topic_t *topic, const place_t *place, bool is_copy,
             const stored_t *stored) {
    entry_t *entry = entry_new (self, topic, stored->n);
    entry->place = *place;
    entry->bytes = stored->event.size & 0xffffff;
    entry->tries = (uint16_t)stored->attempts;
    entry->due_ms = stored->due_ms;
    entry->flags = (is_copy ? ENTRY_COPY : 0) | stored_entry_flags (stored) | stored->entry_flags;
    history_set (self, entry, stored->history);
    return entry;
}

static void
s_schedule (ef_core_t *self, entry_t *entry, ef_state_t state, uint64_t due_ms) {
    entry->state = (unsigned)state & 15;
    entry->due_ms = due_ms;
    if (!self->is_replaying) {
        uint64_t wait = due_ms > self->wall ? due_ms - self->wall : 0;
        self->effects.retry_at (self->effects.arg, entry_topic (self, entry)->index, entry->n,
                                entry->generation, self->now + wait);
    }
}

/* An event that wasn't ready at acceptance: scheduled, or its topic was full. True: it is in hand
   now; false: it is ready like others. */
static bool
s_adopt_away (ef_core_t *self, topic_t *topic, const place_t *place, const stored_t *stored) {
    bool is_date;
    uint64_t due = s_not_before (stored, &is_date);
    if (self->is_partial && entry_find (topic, stored->n)) {
        return true; /* the checkpoint knew it, and what became of it since */
    }
    if (due > self->wall) {
        entry_t *entry = s_new_entry (self, topic, place, false, stored);
        entry->flags |= is_date ? ENTRY_AT : 0;
        s_schedule (self, entry, EF_STATE_SCHEDULED, due);
        if (!self->is_replaying) {
            topic_accept (topic, EF_STATE_SCHEDULED, 1, entry->bytes);
        }
        return true;
    }
    if (self->is_replaying || due > 0) {
        return false;
    }
    entry_t *entry = s_new_entry (self, topic, place, false, stored);
    entry->state = EF_STATE_RETRYING;
    entry->flags |= ENTRY_INSERTING;
    topic->inserting++;
    topic_accept (topic, EF_STATE_RETRYING, 1, entry->bytes);
    insert_again (self, entry);
    return true;
}

/* An event of a COPIES record: where it is known already it has only moved. */
static bool
s_adopt_known (ef_core_t *self, topic_t *topic, const place_t *place, const stored_t *stored,
               item_t *leased) {
    entry_t *entry = entry_find (topic, stored->n);
    if (leased) {
        leased->place = *place;
        leased->flags |= ENTRY_COPY;
    }
    if (entry) {
        entry->place = *place;
        entry->flags |= ENTRY_COPY;
        if (self->is_replaying) {
            entry->tries = (uint16_t)stored->attempts;
            entry->due_ms = stored->due_ms;
            entry->flags |= stored_entry_flags (stored) | stored->entry_flags;
            entry_unready (self, entry);
            entry->state = stored->state;
            if (stored->state == EF_STATE_READY) {
                entry_ready (self, entry);
            }
            history_set (self, entry, stored->history);
        }
    }
    return leased || entry;
}

static void
s_adopt_copy (ef_core_t *self, run_t *run, const place_t *place, const stored_t *stored,
              bool is_return) {
    topic_t *topic = run->topic;
    bool is_plain = stored->state == EF_STATE_READY && stored->attempts == 0 &&
                    stored->history.size <= 1 && stored->insertions == 0 &&
                    stored->entry_flags == 0;
    if (!is_return) {
        lease_t *lease;
        item_t *leased =
            self->is_replaying ? NULL : lease_find_event (self, topic, stored->n, &lease);
        if (s_adopt_known (self, topic, place, stored, leased)) {
            return;
        }
        uint64_t bytes;
        uint64_t found = ef_extents_cut (&topic->extents, stored->n, stored->n, &bytes);
        if (found == 0 && !self->is_replaying) {
            return; /* it ended while its copy was on the way to the disk */
        }
        topic->bytes += self->is_replaying ? 0 : stored->event.size - bytes;
    } else if (!self->is_replaying) {
        topic->bytes += stored->event.size;
        topic->returning--;
        topic_move (topic, EF_STATE_DEAD, EF_STATE_READY, 1);
    }
    if (self->is_partial && entry_find (topic, stored->n)) {
        return;
    }
    if (is_plain) {
        s_run_add (run, place, true, stored);
        return;
    }
    entry_t *entry = s_new_entry (self, topic, place, true, stored);
    bool is_date;
    (void)s_not_before (stored, &is_date);
    entry->flags |= stored->state == EF_STATE_SCHEDULED && is_date ? ENTRY_AT : 0;
    entry->state = stored->state;
    if (stored->state == EF_STATE_READY) {
        entry_ready (self, entry);
    }
}

/* What was refused at ingress is accepted and dead at once. */
static void
s_adopt_invalid (ef_core_t *self, topic_t *topic, const place_t *place, const stored_t *stored) {
    entry_t *entry = self->is_partial ? entry_find (topic, stored->n) : NULL;
    entry = entry ? entry : s_new_entry (self, topic, place, true, stored);
    entry->place = *place;
    entry->state = EF_STATE_DEAD;
    entry->reason = EF_REASON_INVALID;
    entry->dead_ms = stored->accepted_ms;
    entry->m = ++topic->m;
    if (!self->is_replaying) {
        outbox_push (topic, entry);
        topic_accept (topic, EF_STATE_DEAD, 1, 0);
        topic->deaths[EF_REASON_INVALID]++;
        topic->pending_dead--;
        topic->outbox_durable++;
        outbox_flush (self, topic);
    }
}

int
adopt_record (ef_core_t *self, topic_t *topic, const uint8_t *head, uint32_t segment,
              uint32_t offset, bool is_copy) {
    uint32_t count = s_count (head);
    place_t place = {segment, offset, stored_first (head, is_copy), 0};
    run_t run = {.core = self, .topic = topic};
    bool is_return = is_copy && ef_le64 (head + HEADER + 8) != 0;
    bool has_away = !is_copy && (head[21] & EF_EVENTS_FLAG_AWAY);
    if (!is_copy && !has_away) {
        ef_extent_t extent = {.n = ef_le64 (head + HEADER + 8),
                              .bytes = ef_le32 (head) - place.rel,
                              .segment = segment,
                              .offset = offset,
                              .rel = place.rel,
                              .count = count,
                              .has_meta = head[21] & EF_EVENTS_FLAG_META};
        s_cut_known (self, topic, extent.n, count);
        ef_extents_append (&topic->extents, &extent, self->config.extent_span);
        if (!self->is_replaying) {
            topic_accept (topic, EF_STATE_READY, count, extent.bytes);
        }
        return 0;
    }
    for (; place.index < count; place.index++) {
        stored_t stored;
        if (stored_read (head, place.rel, place.index, is_copy, &stored)) {
            return -1;
        }
        if (is_copy && (head[21] & EF_COPIES_FLAG_INVALID)) {
            s_adopt_invalid (self, topic, &place, &stored);
        } else if (is_copy) {
            s_adopt_copy (self, &run, &place, &stored, is_return);
        } else if (!(stored.flags & EF_INDEX_AWAY) ||
                   !s_adopt_away (self, topic, &place, &stored)) {
            s_run_add (&run, &place, false, &stored);
            if (!self->is_replaying) {
                topic_accept (topic, EF_STATE_READY, 1, stored.event.size);
            }
        }
        place.rel = stored_next (head, place.rel, place.index, is_copy);
    }
    s_run_end (&run);
    return 0;
}
