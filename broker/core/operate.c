/* What operators do to single events and to parked keys. SPDX-License-Identifier: MIT

   A leased event can be taken away from its worker; any other that is live can be cancelled, moved
   in time, or run now. Each is journaled; the caller answers once that is durable. */
#include "core_private.h"

/* The event's lease, where it is out with a worker. Walks all leases: it is asked for by hand, and
   by cleaning for few events. */
item_t *
lease_find_event (const ef_core_t *self, const topic_t *topic, uint64_t n, lease_t **lease_p) {
    for (uint32_t i = 0; i < self->leases.count; i++) {
        lease_t *lease = self->leases.items[i];
        for (uint32_t k = 0; lease->topic == topic && k < lease->count; k++) {
            if (lease->items[k].n == n && lease->items[k].state == ITEM_OPEN) {
                *lease_p = lease;
                return &lease->items[k];
            }
        }
    }
    return NULL;
}

/* The entry of an event that isn't leased, made now where it had none. */
static ef_status_t
s_waiting (ef_core_t *self, uint32_t index, uint64_t n, entry_t **entry_p) {
    topic_t *topic = index < self->topic_count ? self->topics[index] : NULL;
    ef_extent_at_t at;
    lease_t *lease;
    *entry_p = topic ? entry_find (topic, n) : NULL;
    if (*entry_p) {
        return (*entry_p)->state == EF_STATE_DEAD     ? EF_NOT_FOUND
               : (*entry_p)->state == EF_STATE_LEASED ? EF_BAD_COMMAND
                                                      : EF_OK;
    }
    ef_extent_t *extent = topic ? ef_extents_find (&topic->extents, n, &at) : NULL;
    if (extent == NULL) {
        return topic && lease_find_event (self, topic, n, &lease) ? EF_BAD_COMMAND : EF_NOT_FOUND;
    }
    uint32_t skip = (uint32_t)(n - extent->n);
    place_t place = {extent->segment, extent->offset, skip ? 0 : extent->rel, extent->index + skip};
    uint32_t flags = (extent->is_copy ? ENTRY_COPY : 0) | (extent->has_meta ? ENTRY_META : 0);
    uint64_t bytes;
    uint64_t taken = ef_extents_cut (&topic->extents, n, n, &bytes);
    ef_assert (taken == 1);
    entry_t *entry = entry_new (self, topic, n);
    entry->place = place;
    entry->bytes = bytes & 0xffffff;
    entry->flags = flags & ENTRY_FLAGS;
    entry_ready (self, entry);
    *entry_p = entry;
    return EF_OK;
}

ef_status_t
ef_core_cancel (ef_core_t *self, uint32_t index, uint64_t n) {
    entry_t *entry;
    ef_status_t status = s_waiting (self, index, n, &entry);
    if (status == EF_OK) {
        (void)batch_buf (self); /* first: a new batch may begin with the counts as they are */
        purge_one (self, entry);
    }
    return status;
}

/* Changes how an event waits, and says so in the journal. It isn't ready before that is durable:
   nor is the failure then that it may have had just now. */
static void
s_wait (ef_core_t *self, entry_t *entry, ef_state_t state, uint64_t due_ms) {
    topic_t *topic = entry_topic (self, entry);
    (void)batch_buf (self);
    entry_unready (self, entry);
    if (entry->flags & ENTRY_INSERTING) {
        insertion_end (topic, entry);
    }
    if (entry->state != state) {
        topic_move (topic, (ef_state_t)entry->state, state, 1);
        entry->state = (unsigned)state & 15;
    }
    entry->generation = (uint32_t)++self->next_generation;
    entry->due_ms = due_ms;
    wait_write (self, entry);
    uint64_t wait = due_ms > self->wall ? due_ms - self->wall : 0;
    batch_after (self, (after_t){.kind = AFTER_RETRY,
                                 .peer = topic->index,
                                 .n = entry->n,
                                 .rel = entry->generation,
                                 .at_ms = self->now + wait});
}

/* Has it failed, and is it tried again? */
static bool
s_is_retry (const entry_t *entry) {
    return entry->tries > 0 && !(entry->flags & ENTRY_INSERTING) &&
           entry->state == EF_STATE_RETRYING;
}

static void
s_run (ef_core_t *self, entry_t *entry) {
    entry->flags &= ~(uint32_t)ENTRY_AT & ENTRY_FLAGS;
    s_wait (self, entry, s_is_retry (entry) ? EF_STATE_RETRYING : EF_STATE_SCHEDULED, self->wall);
}

ef_status_t
ef_core_delay (ef_core_t *self, uint32_t index, uint64_t n, uint64_t due_ms, bool is_date) {
    entry_t *entry;
    ef_status_t status = s_waiting (self, index, n, &entry);
    if (status != EF_OK) {
        return status;
    }
    const topic_t *topic = self->topics[index];
    if (entry->state != EF_STATE_SCHEDULED && !s_is_retry (entry) &&
        topic->counts[EF_STATE_SCHEDULED] >= topic->config.scheduled_capacity) {
        return EF_FULL;
    }
    bool has_failed = entry->tries > 0 && !(entry->flags & ENTRY_INSERTING);
    entry->flags &= ~(uint32_t)ENTRY_AT & ENTRY_FLAGS;
    entry->flags |= is_date ? ENTRY_AT : 0;
    s_wait (self, entry, s_is_retry (entry) ? EF_STATE_RETRYING : EF_STATE_SCHEDULED, due_ms);
    if (!has_failed) {
        key_free (self, self->topics[index], n); /* it was next with its key; others go first now */
    }
    return EF_OK;
}

ef_status_t
ef_core_run_now (ef_core_t *self, uint32_t index, uint64_t n) {
    entry_t *entry;
    ef_status_t status = s_waiting (self, index, n, &entry);
    if (status == EF_OK && entry->state == EF_STATE_READY) {
        return EF_BAD_COMMAND;
    }
    if (status == EF_OK) {
        s_run (self, entry);
    }
    return status;
}

/* Tells a worker that the result of some of its tags is no longer wanted. */
void
cancel_send (ef_core_t *self, const worker_t *worker, uint64_t first, uint64_t last,
             const char *reason) {
    ef_buf_t *header = &self->header;
    ef_buf_clear (header);
    ef_put_array (header, 3);
    ef_put_str (header, "CANCEL");
    ef_put_array (header, 1);
    if (first == last) {
        ef_put_uint (header, first);
    } else {
        ef_put_array (header, 2);
        ef_put_uint (header, first);
        ef_put_uint (header, last);
    }
    ef_put_str (header, reason);
    (void)peer_send (self, worker->peer, NULL); /* advice: its answer is stale all the same */
}

ef_status_t
ef_core_release (ef_core_t *self, uint32_t index, uint64_t n, const char *to) {
    topic_t *topic = index < self->topic_count ? self->topics[index] : NULL;
    lease_t *lease;
    item_t *item = topic ? lease_find_event (self, topic, n, &lease) : NULL;
    if (item == NULL) {
        ef_extent_at_t at;
        bool is_live =
            topic && (entry_find (topic, n) || ef_extents_find (&topic->extents, n, &at));
        return is_live ? EF_BAD_COMMAND : EF_NOT_FOUND;
    }
    if (to[0] && ef_hash_find (&self->workers, to, strlen (to)) == NULL) {
        return EF_UNKNOWN_PEER;
    }
    uint64_t tag = lease->first_tag + (uint64_t)(item - lease->items);
    entry_t *entry = item_entry (self, topic, item);
    entry->tag = TAG_GONE; /* a late answer doesn't count: its result isn't wanted */
    avoid_add (topic, n, to[0] ? to : lease->worker->name, to[0] != 0, self->now + EF_RELEASED_MS);
    give_back (self, topic, item);
    item->state = ITEM_LAPSED; /* it fills the worker's windows until it is answered */
    item->entry = NULL;
    cancel_send (self, lease->worker, tag, tag, "released by an operator");
    return EF_OK;
}

/* Brings parked events on: that of one key, or all of the topic. */
ef_status_t
ef_core_unpark (ef_core_t *self, uint32_t index, const ef_span_t *key, uint64_t *count) {
    topic_t *topic = index < self->topic_count ? self->topics[index] : NULL;
    *count = 0;
    if (topic == NULL) {
        return EF_NOT_FOUND;
    }
    if (key) {
        const gate_t *gate = gate_find (self, topic, GATE_KEY, *key);
        entry_t *entry = gate ? entry_find (topic, gate->owner) : NULL;
        if (entry == NULL || entry->state != EF_STATE_PARKED) {
            return EF_NOT_FOUND;
        }
        s_run (self, entry);
        *count = 1;
        return EF_OK;
    }
    entry_t *entry;
    for (uint32_t at = 0; (entry = ef_hash_next (&topic->entries, &at)) != NULL;) {
        if (entry->state == EF_STATE_PARKED) {
            s_run (self, entry);
            batch_split (self);
            ++*count;
        }
    }
    return EF_OK;
}
