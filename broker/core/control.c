/* What operators and the scaler ask of the core. SPDX-License-Identifier: MIT */
#include "core_private.h"

static topic_t *
s_topic (ef_core_t *self, const char *name) {
    return topic_find (self, name, strlen (name));
}

static void
s_write_topic (ef_core_t *self, topic_t *topic) {
    topic_write (topic, batch_buf (self));
    topic->is_new = false;
}

ef_status_t
ef_core_pause (ef_core_t *self, const char *name, bool paused) {
    topic_t *topic = s_topic (self, name);
    if (topic == NULL) {
        return EF_NOT_FOUND;
    }
    topic->is_paused = paused;
    topic->is_draining = paused ? topic->is_draining : false;
    s_write_topic (self, topic);
    return EF_OK;
}

ef_status_t
ef_core_drain (ef_core_t *self, const char *name) {
    topic_t *topic = s_topic (self, name);
    if (topic == NULL) {
        return EF_NOT_FOUND;
    }
    topic->is_draining = true;
    s_write_topic (self, topic);
    return EF_OK;
}

static size_t
s_begin_purge (ef_buf_t *buf, const topic_t *topic, uint8_t flags, uint64_t up_to) {
    size_t mark = ef_record_begin (buf, EF_LOG_PURGE, flags, EF_PURGE_HEADER);
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    ef_le32_put (header, topic->index);
    ef_le64_put (header + 8, up_to);
    return mark;
}

/* A leased event of a purged topic came back: it is gone now. */
void
purge_one (ef_core_t *self, entry_t *entry) {
    topic_t *topic = entry_topic (self, entry);
    ef_buf_t *buf = batch_buf (self);
    size_t mark = s_begin_purge (buf, topic, EF_PURGE_FLAG_LIST, 0);
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    ef_le32_put (header + 4, 1);
    ef_le64_put (header + 16, 1);
    ef_le64_put (ef_buf_add (buf, 8), entry->n);
    ef_record_end (buf, mark);
    topic_move (topic, (ef_state_t)entry->state, EF_STATE_PURGED, 1);
    topic_shrink (topic, entry->bytes);
    uint64_t n = entry->n;
    entry_free (self, &entry);
    key_pass_on (self, topic, n);
}

/* Lists the events that are out with workers, and marks them: they go when they come back. */
static uint32_t
s_exempt_leased (ef_core_t *self, const topic_t *topic, uint64_t up_to, ef_buf_t *buf) {
    uint32_t listed = 0;
    for (uint32_t i = 0; i < self->leases.count; i++) {
        lease_t *lease = self->leases.items[i];
        for (uint32_t k = 0; lease->topic == topic && k < lease->count; k++) {
            item_t *item = &lease->items[k];
            if (item->state != ITEM_OPEN || item->n > up_to) {
                continue;
            }
            item->flags |= ENTRY_PURGE;
            if (item->entry) {
                item->entry->flags |= ENTRY_PURGE;
            }
            ef_le64_put (ef_buf_add (buf, 8), item->n);
            listed++;
        }
    }
    return listed;
}

uint64_t
purge_up_to (ef_core_t *self, topic_t *topic, uint64_t n) {
    ef_buf_t *buf = batch_buf (self);
    size_t mark = s_begin_purge (buf, topic, 0, n);
    uint32_t listed = s_exempt_leased (self, topic, n, buf);
    uint64_t bytes;
    uint64_t purged = ef_extents_cut (&topic->extents, 0, n, &bytes);
    if (purged) {
        topic_move (topic, EF_STATE_READY, EF_STATE_PURGED, purged);
        keys_leave (self, topic);
    }
    entry_t *entry;
    for (uint32_t at = 0; (entry = ef_hash_next (&topic->entries, &at)) != NULL;) {
        if (entry->n > n || entry->state == EF_STATE_DEAD || entry->state == EF_STATE_LEASED) {
            continue;
        }
        topic_move (topic, (ef_state_t)entry->state, EF_STATE_PURGED, 1);
        bytes += entry->bytes;
        purged++;
        uint32_t capacity = topic->entries.capacity;
        uint64_t freed = entry->n;
        entry_free (self, &entry);
        key_pass_on (self, topic, freed);
        /* Others may have moved into its place; a table that shrank is in a new order. */
        at = topic->entries.capacity == capacity ? at - 1 : 0;
    }
    topic_shrink (topic, bytes);
    topic->purge_floor = n > topic->purge_floor ? n : topic->purge_floor;
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    ef_le32_put (header + 4, listed);
    ef_le64_put (header + 16, purged);
    ef_record_end (buf, mark);
    return purged;
}

/* Up to the newest event that was accepted. */
ef_status_t
ef_core_purge (ef_core_t *self, const char *name, uint64_t *purged) {
    topic_t *topic = s_topic (self, name);
    if (topic == NULL) {
        return EF_NOT_FOUND;
    }
    /* Numbers are given when an event is written; those not yet durable are the last ones. */
    uint64_t pending = topic->pending_events + topic->returning;
    *purged = purge_up_to (self, topic, topic->next_n - 1 - pending);
    return EF_OK;
}

static void
s_drain_worker (ef_core_t *self, worker_t *worker) {
    if (worker->is_draining) {
        return;
    }
    worker->is_draining = true;
    worker_queue (worker);
    ef_buf_clear (&self->header);
    ef_put_array (&self->header, 1);
    ef_put_str (&self->header, "DRAIN");
    (void)peer_send (self, worker->peer, NULL); /* it gets nothing more in any case */
}

void
ef_core_drain_all (ef_core_t *self) {
    self->is_draining = true;
    worker_t *worker;
    uint32_t position = 0;
    while ((worker = ef_hash_next (&self->workers, &position)) != NULL) {
        s_drain_worker (self, worker);
    }
}

bool
ef_core_drain_worker (ef_core_t *self, const char *token) {
    worker_t *worker;
    uint32_t position = 0;
    while ((worker = ef_hash_next (&self->workers, &position)) != NULL) {
        if (worker->token[0] && strcmp (worker->token, token) == 0) {
            s_drain_worker (self, worker);
            return true;
        }
    }
    return false;
}

uint64_t
ef_core_leased (const ef_core_t *self) {
    uint64_t leased = 0;
    for (uint32_t i = 0; i < self->topic_count; i++) {
        leased += self->topics[i]->counts[EF_STATE_LEASED];
    }
    return leased;
}

/* Refused events by code, ingress and front together. */
static void
s_put_refused (const ef_core_t *self, ef_buf_t *out) {
    ef_put_str (out, "refused");
    uint32_t kinds = 0;
    for (unsigned i = 1; i < EF_STATUS_COUNT; i++) {
        kinds += self->refused[i] > 0;
    }
    ef_put_map (out, kinds);
    for (unsigned i = 1; i < EF_STATUS_COUNT; i++) {
        if (self->refused[i]) {
            ef_put_key_uint (out, ef_status_name ((ef_status_t)i), self->refused[i]);
        }
    }
}

void
ef_core_status (const ef_core_t *self, ef_buf_t *out) {
    ef_put_map (out, 21);
    ef_put_key_str (out, "broker", self->config.broker);
    ef_put_key_uint (out, "epoch", self->epoch);
    ef_put_key_str (out, "durability", self->config.durability);
    ef_put_key_bool (out, "draining", self->is_draining);
    ef_put_key_uint (out, "topics", self->topic_count);
    ef_put_key_uint (out, "workers", self->workers.count);
    ef_put_key_uint (out, "sessions", self->sessions.count);
    ef_put_key_uint (out, "journal_oldest", self->oldest_segment);
    ef_put_key_uint (out, "journal_newest", self->newest_segment);
    ef_put_key_uint (out, "journal_cleaned", self->cleaned);
    ef_put_key_uint (out, "journal_bytes", self->log_bytes);
    ef_put_key_uint (out, "live_bytes", live_bytes (self));
    ef_put_key_uint (out, "checkpoint_segment", self->checkpoint.done_segment);
    ef_put_key_str (out, "space", ef_space_name (self->space));
    ef_put_key_uint (out, "unsynced_bytes", self->behind);
    ef_put_key_uint (out, "cache_bytes", self->cache.bytes);
    ef_put_key_uint (out, "history_bytes", self->history_bytes);
    ef_put_key_uint (out, "stale_answers", self->stale_answers);
    ef_put_key_uint (out, "ingress_events", self->ingress_events);
    ef_put_key_uint (out, "ingress_bytes", self->ingress_bytes);
    s_put_refused (self, out);
}

void
ef_core_ingress_stats (const ef_core_t *self, ef_buf_t *out) {
    ef_put_map (out, 3);
    ef_put_key_uint (out, "events", self->ingress_events);
    ef_put_key_uint (out, "bytes", self->ingress_bytes);
    s_put_refused (self, out);
}

uint64_t
ef_core_inserting (const ef_core_t *self, uint32_t index) {
    return self->topics[index]->inserting;
}

/* Those that there were. */
static void
s_put_counts (ef_buf_t *out, const char *key, const uint64_t *counts, unsigned count,
              const char *(*name) (unsigned index)) {
    uint32_t kinds = 0;
    for (unsigned i = 0; i < count; i++) {
        kinds += counts[i] > 0;
    }
    ef_put_str (out, key);
    ef_put_map (out, kinds);
    for (unsigned i = 0; i < count; i++) {
        if (counts[i] > 0) {
            ef_put_key_uint (out, name (i), counts[i]);
        }
    }
}

static const char *
s_failure_name (unsigned index) {
    return ef_failure_name ((ef_failure_t)index);
}

static const char *
s_reason_name (unsigned index) {
    return ef_reason_name ((ef_reason_t)index);
}

void
ef_core_topic_stats (ef_core_t *self, uint32_t index, ef_buf_t *out) {
    topic_t *topic = self->topics[index];
    breaker_counts_t breakers;
    load_breakers (topic, &breakers);
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"accepted", topic->accepted},
        {"bytes", topic->bytes},
        {"capacity_events", topic->config.capacity_events},
        {"capacity_bytes", topic->config.capacity_bytes},
        {"inserting", topic->inserting},
        {"insert_capacity", topic->config.insert_capacity},
        {"insert_failed", topic->insert_failed},
        {"overflowed", topic->overflowed},
        {"failed", topic->attempts_failed},
        {"deliveries", topic->deliveries},
        {"redelivered", topic->redelivered},
        {"published_bytes", topic->published_bytes},
        {"workers", topic->workers},
        {"extents", topic->extents.extents},
        {"stalled_ms", topic->stalled_since ? self->now - topic->stalled_since : 0},
        {"oldest_ms", load_oldest_ms (self, topic)},
        {"breakers_open", breakers.by_state[EF_BREAKER_OPEN]},
        {"breakers_half_open", breakers.by_state[EF_BREAKER_HALF_OPEN]},
        {"breakers_closed", breakers.by_state[EF_BREAKER_CLOSED]},
        {"lease_ms", topic->config.lease_ms},
        {"attempts", topic->config.retry.attempts},
        {"unwell", topic->unwell},
        {"took_p50_ms", topic->took ? ef_histogram_quantile (topic->took, 0.5) : 0},
        {"took_p99_ms", topic->took ? ef_histogram_quantile (topic->took, 0.99) : 0},
        {"waited_p50_ms", topic->waited ? ef_histogram_quantile (topic->waited, 0.5) : 0},
        {"waited_p99_ms", topic->waited ? ef_histogram_quantile (topic->waited, 0.99) : 0},
    };
    uint32_t count = sizeof numbers / sizeof numbers[0];
    ef_put_map (out, count + 7 + EF_STATE_COUNT);
    ef_put_key_str (out, "topic", topic->config.name);
    ef_put_key_bool (out, "paused", topic->is_paused);
    ef_put_key_bool (out, "draining", topic->is_draining);
    for (unsigned i = 0; i < EF_STATE_COUNT; i++) {
        ef_put_key_uint (out, ef_state_name ((ef_state_t)i), topic->counts[i]);
    }
    for (uint32_t i = 0; i < count; i++) {
        ef_put_key_uint (out, numbers[i].key, numbers[i].value);
    }
    s_put_counts (out, "failures", topic->failures, EF_FAILURE_COUNT, s_failure_name);
    s_put_counts (out, "deaths", topic->deaths, EF_REASON_COUNT, s_reason_name);
    report_put (out, "took", topic->took);
    report_put (out, "waited", topic->waited);
}

static void
s_put_peeked (ef_core_t *self, place_t place, bool is_copy, uint64_t n, ef_state_t state,
              ef_buf_t *out) {
    stored_t stored;
    const uint8_t *head = place_find (self, &place, true);
    ef_put_array (out, 3);
    ef_put_uint (out, n);
    ef_put_str (out, ef_state_name (state));
    if (head == NULL) {
        ef_put_nil (out);
    } else if (stored_read (head, place.rel, place.index, is_copy, &stored) == 0) {
        (void)stored_write_event (ef_buf_add (out, stored_event_size (&stored)), &stored);
    } else {
        ef_put_nil (out);
    }
}

ef_status_t
ef_core_peek (ef_core_t *self, const char *name, uint32_t limit, ef_buf_t *out, uint32_t *count) {
    topic_t *topic = s_topic (self, name);
    *count = 0;
    if (topic == NULL) {
        return EF_NOT_FOUND;
    }
    uint32_t position = 0;
    entry_t *entry;
    while (*count < limit && (entry = ef_hash_next (&topic->entries, &position)) != NULL) {
        if (entry->state != EF_STATE_DEAD) {
            s_put_peeked (self, entry->place, entry->flags & ENTRY_COPY, entry->n,
                          (ef_state_t)entry->state, out);
            ++*count;
        }
    }
    ef_extent_at_t at;
    for (ef_extent_t *extent = ef_extents_first (&topic->extents, &at); extent && *count < limit;
         extent = ef_extents_next (&topic->extents, &at)) {
        place_t place = {extent->segment, extent->offset, extent->rel, extent->index};
        for (uint32_t i = 0; i < extent->count && *count < limit; i++, place.index++) {
            place.rel = i > 0 ? 0 : place.rel; /* found anew from the index */
            s_put_peeked (self, place, extent->is_copy, extent->n + i, EF_STATE_READY, out);
            ++*count;
        }
    }
    return EF_OK;
}
