/* What ready events wait behind: a key, a breaker, a quota, a turn. SPDX-License-Identifier: MIT

   An event that may not go now is taken out of its extent into an entry that stands in its gate's
   heap, so that the others of its topic pass. It stays READY, and when the gate opens it goes back
   among the ready ones and is judged anew.

   A key's gate is there exactly while an event has the key: from the moment it is chosen for a
   delivery until it has ended, through retries too. Then the key goes to the first that waits. */
#include "core_private.h"

static const void *
s_gate_name (const void *item, size_t *size) {
    const gate_t *gate = item;
    *size = gate->size;
    return gate->name;
}

static const void *
s_gate_owner (const void *item, size_t *size) {
    *size = sizeof (uint64_t);
    return &((const gate_t *)item)->owner;
}

/* What a stranger names may be long; then its hash stands for its end. */
static uint32_t
s_name (const ef_core_t *self, gate_kind_t kind, ef_span_t span, uint8_t name[GATE_NAME_BYTES]) {
    name[0] = (uint8_t)kind;
    if (span.size < GATE_NAME_BYTES) {
        if (span.size) {
            memcpy (name + 1, span.data, span.size);
        }
        return 1 + span.size;
    }
    uint64_t hash = ef_siphash (self->key, span.data, span.size);
    memcpy (name + 1, span.data, GATE_NAME_BYTES - 9);
    memcpy (name + GATE_NAME_BYTES - 8, &hash, 8);
    return GATE_NAME_BYTES;
}

void
gates_init (ef_core_t *self, topic_t *topic) {
    ef_hash_init (&topic->gates, self->key, s_gate_name);
    ef_hash_init_numbers (&topic->owners, self->key, s_gate_owner);
    topic->gates_next_ms = topic->expiry.next_ms = topic->expiry.seen_ms = UINT64_MAX;
}

static void
s_free (topic_t *topic, gate_t *gate) {
    ef_assert (gate->waiting.count == 0 && gate->asides == 0 && gate->owner == 0);
    ef_hash_remove (&topic->gates, gate);
    ef_heap_free (&gate->waiting);
    free (gate);
}

void
gates_free (topic_t *topic) {
    gate_t *gate;
    for (uint32_t at = 0; (gate = ef_hash_next (&topic->gates, &at)) != NULL;) {
        ef_heap_free (&gate->waiting);
        free (gate);
    }
    ef_hash_free (&topic->gates);
    ef_hash_free (&topic->owners);
}

gate_t *
gate_find (const ef_core_t *self, const topic_t *topic, gate_kind_t kind, ef_span_t span) {
    uint8_t name[GATE_NAME_BYTES];
    uint32_t size = s_name (self, kind, span, name);
    return ef_hash_find (&topic->gates, name, size);
}

gate_t *
gate_require (ef_core_t *self, topic_t *topic, gate_kind_t kind, ef_span_t span) {
    uint8_t name[GATE_NAME_BYTES];
    uint32_t size = s_name (self, kind, span, name);
    gate_t *gate = ef_hash_find (&topic->gates, name, size);
    if (gate == NULL) {
        gate = calloc (1, sizeof *gate);
        ef_assert (gate != NULL);
        ef_heap_init (&gate->waiting, entry_before, entry_placed);
        memcpy (gate->name, name, size);
        gate->size = (uint8_t)size;
        gate->since_ms = self->wall;
        gate->until_ms = UINT64_MAX;
        ef_hash_insert (&topic->gates, gate);
    }
    return gate;
}

/* Says for people what a gate is about whose name doesn't. */
void
gate_label (gate_t *gate, ef_span_t label) {
    uint32_t most = (uint32_t)sizeof gate->name - gate->size;
    gate->label_size = (uint8_t)(label.size < most ? label.size : most);
    if (gate->label_size) {
        memcpy (gate->name + gate->size, label.data, gate->label_size);
    }
}

static void
s_own (topic_t *topic, gate_t *gate, uint64_t n) {
    if (gate->owner) {
        ef_hash_remove (&topic->owners, gate);
    }
    gate->owner = n;
    if (n) {
        ef_hash_insert (&topic->owners, gate);
    }
}

/* A gate that nothing needs any more goes. */
void
gate_settle (topic_t *topic, gate_t *gate) {
    if (gate->waiting.count == 0 && gate->asides == 0 && gate->owner == 0) {
        s_free (topic, gate);
    }
}

/* True: the event has the key now, or had it. False: it is to wait behind `*gate`. */
bool
key_claim (ef_core_t *self, topic_t *topic, ef_span_t key, uint64_t n, gate_t **gate) {
    *gate = gate_require (self, topic, GATE_KEY, key);
    if ((*gate)->owner == 0) {
        (*gate)->since_ms = self->wall;
        s_own (topic, *gate, n);
    }
    return (*gate)->owner == n;
}

/* After a restart: an event that has failed had its key, the earliest one where there are several.
 */
void
claims_add (topic_t *topic, uint64_t n) {
    if ((topic->claim_count & (topic->claim_count - 1)) == 0) {
        uint32_t capacity = topic->claim_count ? 2 * topic->claim_count : 1;
        topic->claims = realloc (topic->claims, capacity * sizeof *topic->claims);
        ef_assert (topic->claims != NULL);
    }
    topic->claims[topic->claim_count++] = n;
}

bool
claims_settle (ef_core_t *self, topic_t *topic) {
    for (uint32_t i = topic->claim_count; i > 0; i--) {
        uint64_t n = topic->claims[i - 1];
        entry_t *entry = entry_find (topic, n);
        const uint8_t *head = entry ? place_find (self, &entry->place, true) : NULL;
        stored_t stored;
        ef_event_t event;
        if (entry && head == NULL) {
            continue; /* it is being read */
        }
        if (entry && stored_read (head, entry->place.rel, entry->place.index,
                                  entry->flags & ENTRY_COPY, &stored) == 0) {
            stored_event (&stored, &event);
            bool is_ordered = topic->config.order == EF_ORDER_TOPIC;
            if (is_ordered || event.key.data) {
                gate_t *gate = gate_require (self, topic, GATE_KEY,
                                             is_ordered ? span_of (NULL, 0) : event.key);
                s_own (topic, gate, gate->owner && gate->owner < n ? gate->owner : n);
            }
        }
        topic->claims[i - 1] = topic->claims[--topic->claim_count];
    }
    if (topic->claim_count == 0) {
        free (topic->claims);
        topic->claims = NULL;
    }
    return topic->claim_count == 0;
}

/* The event that had a key is gone, or lets others pass: the first that waits has it next. */
void
key_free (ef_core_t *self, topic_t *topic, uint64_t n) {
    gate_t *gate = topic->owners.count ? ef_hash_find (&topic->owners, &n, sizeof n) : NULL;
    if (gate == NULL) {
        return;
    }
    entry_t *next = ef_heap_top (&gate->waiting);
    s_own (topic, gate, next ? next->n : 0);
    gate->since_ms = self->wall;
    if (next) {
        gate_leave (self, next);
        entry_ready (self, next);
    } else {
        gate_settle (topic, gate);
    }
}

/* The event has ended: its key goes on once that is durable, else a crash would bring it back
   behind the next one. */
void
key_pass_on (ef_core_t *self, topic_t *topic, uint64_t n) {
    if (key_of (topic, n)) {
        batch_after (self, (after_t){.kind = AFTER_KEY, .peer = topic->index, .n = n});
    }
}

/* Extents were purged: keys of events that were next in them, but couldn't be set aside, go on. */
void
keys_leave (ef_core_t *self, topic_t *topic) {
    uint32_t at = 0;
    const gate_t *gate;
    while ((gate = ef_hash_next (&topic->owners, &at)) != NULL) {
        ef_extent_at_t place;
        lease_t *lease;
        if (entry_find (topic, gate->owner) == NULL &&
            ef_extents_find (&topic->extents, gate->owner, &place) == NULL &&
            lease_find_event (self, topic, gate->owner, &lease) == NULL) {
            key_pass_on (self, topic, gate->owner); /* once more does no harm */
        }
    }
}

const gate_t *
key_of (const topic_t *topic, uint64_t n) {
    return topic->owners.count ? ef_hash_find (&topic->owners, &n, sizeof n) : NULL;
}

void
gate_wait (ef_core_t *self, gate_t *gate, entry_t *entry) {
    topic_t *topic = entry_topic (self, entry);
    ef_assert (entry->heap_at == EF_HEAP_NONE);
    entry->state = EF_STATE_READY;
    entry->flags |= ENTRY_GATED;
    entry->gate = gate;
    ef_heap_push (&gate->waiting, entry);
    topic->blocked++;
    topic->turns += gate->name[0] == GATE_TURN;
    if (gate->until_ms < topic->gates_next_ms) {
        topic->gates_next_ms = gate->until_ms;
    }
}

/* Takes an entry out of its gate; it is in no heap then. */
void
gate_leave (ef_core_t *self, entry_t *entry) {
    topic_t *topic = entry_topic (self, entry);
    gate_t *gate = entry->gate;
    ef_heap_remove (&gate->waiting, entry->heap_at);
    if (gate->name[0] == GATE_TURN) {
        topic->turns--;
        if (gate->waiting.count == 0) {
            turn_leave (topic, gate);
        }
    }
    entry->flags &= ~(uint32_t)ENTRY_GATED & ENTRY_FLAGS;
    entry->due_ms = 0;
    topic->blocked--;
    topic->is_scan_stopped = false;
    gate_settle (topic, gate);
}

/* Lets the first `most` go on. */
void
gate_open (ef_core_t *self, topic_t *topic, gate_t *gate, uint32_t most) {
    gate->asides++; /* it stays until the end of this */
    entry_t *entry;
    while (most-- > 0 && (entry = ef_heap_top (&gate->waiting)) != NULL) {
        gate_leave (self, entry);
        entry_ready (self, entry);
    }
    gate->asides--;
    gate_settle (topic, gate);
}

/* An event that was set aside while others were gathered gets its place behind the gate; whom the
   gate waited for may be gone by now. */
void
gate_admit (ef_core_t *self, topic_t *topic, gate_t *gate, entry_t *entry) {
    gate->asides--;
    if (gate->name[0] == GATE_KEY && gate->owner == 0) {
        s_own (topic, gate, entry->n);
        entry_ready (self, entry);
    } else {
        gate_wait (self, gate, entry);
    }
}

/* Whole-structure checks, for ef_core_check. */
uint64_t
gates_check (topic_t *topic) {
    uint64_t waiting = 0;
    uint32_t owned = 0;
    uint32_t at = 0;
    gate_t *gate;
    while ((gate = ef_hash_next (&topic->gates, &at)) != NULL) {
        ef_assert (gate->asides == 0);
        ef_assert (gate->owner || gate->waiting.count);
        ef_assert (gate->name[0] != GATE_KEY || gate->owner);
        owned += gate->owner != 0;
        for (uint32_t i = 0; i < gate->waiting.count; i++) {
            const entry_t *entry = gate->waiting.items[i];
            ef_assert (entry->gate == gate && (entry->flags & ENTRY_GATED) && entry->heap_at == i);
            ef_assert (entry->state == EF_STATE_READY && entry->n != gate->owner);
        }
        waiting += gate->waiting.count;
    }
    ef_assert (owned == topic->owners.count && waiting == topic->blocked);
    return waiting;
}
