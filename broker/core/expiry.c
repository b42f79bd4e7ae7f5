/* Events whose time is over while they wait. SPDX-License-Identifier: MIT

   Dispatch judges a ttl before an event begins, so none begins late. This finds those that nobody
   asks for: it reads what waits from the journal, slowly, and only where something may be over. */
#include "core_private.h"

#define STEP_BYTES   (4u << 20) /* read in one step: two a second */
#define STEP_ENTRIES 20000u     /* looked at in one step */

static void
s_see (topic_t *topic, uint64_t when_ms) {
    topic->expiry.seen_ms = when_ms < topic->expiry.seen_ms ? when_ms : topic->expiry.seen_ms;
}

/* An event with a ttl was accepted. */
void
expiry_note (topic_t *topic, uint64_t when_ms) {
    topic->expiry.next_ms = when_ms < topic->expiry.next_ms ? when_ms : topic->expiry.next_ms;
    s_see (topic, when_ms);
}

/* When an event dies if it hasn't begun; UINT64_MAX: never. */
static uint64_t
s_expires_ms (const stored_t *stored) {
    ef_event_t event;
    if (!(stored->flags & EF_INDEX_META)) {
        return UINT64_MAX;
    }
    stored_event (stored, &event);
    return event.ttl_ms >= 0 ? stored->accepted_ms + (uint64_t)event.ttl_ms : UINT64_MAX;
}

/* An event of an extent. True: it was taken out of it. */
static bool
s_judge_stored (ef_core_t *self, topic_t *topic, const stored_t *stored, const place_t *place,
                bool is_copy) {
    uint64_t expires_ms = s_expires_ms (stored);
    if (expires_ms >= self->wall) {
        s_see (topic, expires_ms);
        return false;
    }
    uint64_t bytes;
    uint64_t taken = ef_extents_cut (&topic->extents, stored->n, stored->n, &bytes);
    ef_assert (taken == 1);
    entry_t *entry = entry_new (self, topic, stored->n);
    entry->place = *place;
    entry->bytes = stored->event.size & 0xffffff;
    entry->flags = (is_copy ? ENTRY_COPY : 0) | stored_entry_flags (stored);
    entry->state = EF_STATE_READY;
    end_unbegun (self, entry, stored, EF_REASON_EXPIRED);
    batch_split (self);
    return true;
}

/* Looks at an extent from the cursor on. False: it must wait for bytes, or has killed one, so that
   the extents have changed. */
static bool
s_step_extent (ef_core_t *self, topic_t *topic, const ef_extent_t *extent, uint64_t *budget) {
    place_t place = {extent->segment, extent->offset, extent->rel, extent->index};
    bool is_copy = extent->is_copy;
    uint64_t end = extent->n + extent->count;
    for (uint64_t n = extent->n; n<end && * budget> 0; n++) {
        const uint8_t *head = place_find (self, &place, true);
        stored_t stored;
        if (head == NULL) {
            return false;
        }
        int rc = stored_read (head, place.rel, place.index, is_copy, &stored);
        ef_assert (rc == 0 && stored.n == n);
        if (n >= topic->expiry.n) { /* those before it were read in an earlier step */
            *budget -= stored.event.size < *budget ? stored.event.size : *budget;
            topic->expiry.n = n + 1;
            if (s_judge_stored (self, topic, &stored, &place, is_copy)) {
                return false;
            }
        }
        place_next (head, is_copy, &place);
    }
    return true;
}

/* True: all extents have been looked at. */
static bool
s_step_extents (ef_core_t *self, topic_t *topic) {
    uint64_t budget = STEP_BYTES;
    ef_extent_at_t at;
    ef_extent_t *extent = ef_extents_from (&topic->extents, topic->expiry.n, &at);
    while (extent && budget > 0) {
        if (extent->has_meta) {
            uint64_t before = topic->expiry.n;
            if (!s_step_extent (self, topic, extent, &budget)) {
                if (topic->expiry.n == before) {
                    return false; /* its bytes are being read */
                }
                extent = ef_extents_from (&topic->extents, topic->expiry.n, &at);
                continue;
            }
        } else {
            topic->expiry.n = extent->n + extent->count;
        }
        extent = budget > 0 ? ef_extents_next (&topic->extents, &at) : NULL;
    }
    return budget > 0;
}

static void
s_judge_entry (ef_core_t *self, topic_t *topic, entry_t *entry) {
    bool is_waiting = entry->state == EF_STATE_READY || entry->state == EF_STATE_SCHEDULED ||
                      entry->state == EF_STATE_RETRYING || entry->state == EF_STATE_PARKED;
    stored_t stored;
    if (!is_waiting || !(entry->flags & ENTRY_META)) {
        return;
    }
    const uint8_t *head = place_find (self, &entry->place, true);
    if (head == NULL) {
        s_see (topic, self->wall); /* once more, with its bytes at hand */
        return;
    }
    int rc = stored_read (head, entry->place.rel, entry->place.index, entry->flags & ENTRY_COPY,
                          &stored);
    ef_assert (rc == 0);
    uint64_t expires_ms = s_expires_ms (&stored);
    if (expires_ms >= self->wall) {
        s_see (topic, expires_ms);
    } else {
        end_unbegun (self, entry, &stored, EF_REASON_EXPIRED);
        batch_split (self);
    }
}

/* True: all entries have been looked at. */
static bool
s_step_entries (ef_core_t *self, topic_t *topic) {
    for (uint32_t i = 0; i < STEP_ENTRIES; i++) {
        entry_t *entry = ef_hash_next (&topic->entries, &topic->expiry.position);
        if (entry == NULL) {
            return true;
        }
        s_judge_entry (self, topic, entry);
    }
    return false;
}

/* A step of the search, where anything may be over by now. */
void
expiry_step (ef_core_t *self, topic_t *topic) {
    if (topic->expiry.next_ms > self->wall) {
        return;
    }
    if (!topic->expiry.is_among_entries) {
        if (topic->expiry.n == 0) {
            topic->expiry.seen_ms = UINT64_MAX;
        }
        topic->expiry.is_among_entries = s_step_extents (self, topic);
        topic->expiry.position = 0;
    } else if (s_step_entries (self, topic)) {
        topic->expiry.is_among_entries = false;
        topic->expiry.n = 0;
        topic->expiry.next_ms = topic->expiry.seen_ms;
    }
}
