/* Taking turns between the keys or users of a topic. SPDX-License-Identifier: MIT

   What waits first in the backlog is taken out of it into gates, one a key or user; those give one
   event each, round and round. So who has sent much waits for itself, and others for one round. How
   far the backlog is looked through is bounded. */
#include "gather.h"

#define TURNS_MAX 8192u /* events taken out: a user may have so many in front of all others' */

#define READY_MAX 1024u /* ready entries that are looked through for those that come first */

/* Whose turn an event takes. */
static ef_span_t
s_subject (const topic_t *topic, const ef_event_t *event) {
    ef_span_t span = topic->config.fair_by == EF_BY_KEY ? event->key : event->user;
    return span.data ? span : span_of ("", 0);
}

/* Puts a gate at the end of the line, where it isn't in it yet. */
static void
s_queue (topic_t *topic, gate_t *gate) {
    if (gate->next) {
        return;
    }
    gate_t *last = topic->turn ? topic->turn : gate;
    gate->prev = last;
    gate->next = topic->turn ? last->next : gate;
    gate->next->prev = gate;
    last->next = gate;
    topic->turn = gate; /* the last one; the first is behind it */
}

void
turn_leave (topic_t *topic, gate_t *gate) {
    if (gate->next == NULL) {
        return;
    }
    gate->prev->next = gate->next;
    gate->next->prev = gate->prev;
    topic->turn = topic->turn != gate ? topic->turn : gate->prev == gate ? NULL : gate->prev;
    gate->next = gate->prev = NULL;
}

/* Puts an event behind the gate of its turn. Where turns are not by what is kept in order it has
   its key from now on, or waits for it: an earlier one may belong to somebody whose turn comes
   later. */
static void
s_line_up (ef_core_t *core, topic_t *topic, const ef_event_t *event, entry_t *entry) {
    gate_t *gate;
    bool is_ordered = topic->config.order == EF_ORDER_TOPIC;
    ef_span_t key = is_ordered ? span_of (NULL, 0) : event->key;
    bool has_key = is_ordered || (topic->config.fair_by != EF_BY_KEY && event->key.data);
    if (has_key && !key_claim (core, topic, key, entry->n, &gate)) {
        gate_wait (core, gate, entry);
        return;
    }
    gate = gate_require (core, topic, GATE_TURN, s_subject (topic, event));
    gate_wait (core, gate, entry);
    s_queue (topic, gate);
}

/* A ready event whose key, where it has one, nobody has asked for since the start. */
static bool
s_is_unasked (const topic_t *topic, const entry_t *entry) {
    bool is_avoided = false; /* a worker has had it: it kept its key */
    for (uint32_t i = 0; i < topic->avoid_count; i++) {
        is_avoided = is_avoided || topic->avoids[i].n == entry->n;
    }
    return entry->tag == 0 && !is_avoided && key_of (topic, entry->n) == NULL;
}

/* The first event that may be put in line: of those in hand none that is earlier must come to its
   key later. UINT64_MAX: all may. */
static uint64_t
s_bound (const topic_t *topic) {
    uint64_t bound = UINT64_MAX;
    const entry_t *top = ef_heap_top (&topic->ready);
    if (topic->config.fair_by == EF_BY_KEY || top == NULL) {
        return bound;
    }
    if (topic->ready.count > READY_MAX) {
        return top->n; /* there is enough to do */
    }
    for (uint32_t i = 0; i < topic->ready.count; i++) {
        const entry_t *entry = topic->ready.items[i];
        if (entry->n < bound && s_is_unasked (topic, entry)) {
            bound = entry->n;
        }
    }
    return bound;
}

/* Takes the next event out of the backlog. False: there is none before the bound, or its bytes
   aren't here. */
static bool
s_take_out (ef_core_t *core, topic_t *topic, uint64_t bound) {
    ef_extent_at_t at;
    ef_extent_t *run = ef_extents_first (&topic->extents, &at);
    stored_t stored;
    if (run == NULL || run->n > bound) {
        return false;
    }
    place_t place = {run->segment, run->offset, run->rel, run->index};
    bool is_copy = run->is_copy;
    uint64_t n = run->n;
    const uint8_t *head = place_find (core, &place, true);
    if (head == NULL) {
        return false;
    }
    int rc = stored_read (head, place.rel, place.index, is_copy, &stored);
    ef_assert (rc == 0 && stored.n == n);
    place_t next = place;
    place_next (head, is_copy, &next);
    uint64_t bytes;
    (void)ef_extents_cut (&topic->extents, n, n, &bytes);
    run = ef_extents_first (&topic->extents, &at);
    if (run && run->n == n + 1 && run->segment == next.segment && run->rel == 0 &&
        run->is_copy == is_copy && next.index > 0) {
        run->offset = next.offset; /* known here, not to the cut */
        run->index = next.index;
        run->rel = next.rel;
    }
    entry_t *entry = entry_new (core, topic, n);
    entry->place = place;
    entry->bytes = stored.event.size & 0xffffff;
    entry->flags = (is_copy ? ENTRY_COPY : 0) | stored_entry_flags (&stored);
    ef_event_t event = {0};
    if (stored.flags & (EF_INDEX_KEYED | EF_INDEX_EXTRA)) {
        stored_event (&stored, &event);
    }
    s_line_up (core, topic, &event, entry);
    return true;
}

/* Takes those out of the backlog that stand first in it. */
void
turns_fill (ef_core_t *core, topic_t *topic) {
    uint32_t all = EF_BUGGIFY (4) ? 3 : TURNS_MAX;
    uint32_t most = topic->config.fair_by == EF_BY_NONE ? 0 : all;
    uint64_t bound = most > 0 ? s_bound (topic) : 0;
    while (most-- > 0 && topic->turns < all && topic->blocked < EF_BLOCKED_MAX &&
           s_take_out (core, topic, bound)) {
    }
}

/* Lets the next one go. False: nobody waits for a turn. */
bool
turns_serve (ef_core_t *core, topic_t *topic) {
    if (topic->turn == NULL) {
        return false;
    }
    gate_t *gate = topic->turn->next;
    topic->turn = gate; /* to the end of the line */
    gate_open (core, topic, gate, 1);
    return true;
}

/* The gate where an earlier event of the same key waits for its turn; NULL: none does. */
gate_t *
turn_before (const ef_core_t *core, const topic_t *topic, ef_span_t key, uint64_t n) {
    bool is_by_key = topic->turns > 0 && topic->config.fair_by == EF_BY_KEY;
    gate_t *gate = is_by_key ? gate_find (core, topic, GATE_TURN, key) : NULL;
    const entry_t *first = gate ? ef_heap_top (&gate->waiting) : NULL;
    return first && first->n < n ? gate : NULL;
}
