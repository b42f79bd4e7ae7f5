/* The core as a whole: its life, its clock, its turn. SPDX-License-Identifier: MIT */
#include "core_private.h"

#define AWAY_MS      50   /* a turn takes a few */
#define WALL_STEP_MS 1000 /* less is drift */
#define SWEEP_MS     500  /* how often peers, sessions and overflow are looked at, at the least */

ef_core_t *
ef_core_new (const ef_core_config_t *config, const ef_effects_t *effects) {
    ef_core_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->config = *config;
    self->effects = *effects;
    self->key[0] = effects->random (effects->arg);
    self->key[1] = effects->random (effects->arg);
    self->is_replaying = true;
    self->next_lsn = 1;
    self->ends_mark = SIZE_MAX;
    self->cache.budget = config->cache_bytes;
    self->segment_limit = config->segment_bytes;
    return self;
}

void
ef_core_destroy (ef_core_t **self_p) {
    ef_core_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    for (uint32_t i = 0; i < self->peer_count; i++) {
        self->peers[i].session = NULL;
        if (self->peers[i].worker) {
            worker_free (self, &self->peers[i].worker);
        }
    }
    for (; self->after_count > 0; self->after_count--) {
        after_t *after = &self->after[self->after_head];
        if (after->kind == AFTER_SESSION) {
            session_t *session = after->pointer;
            session->queued--;
            session_release (&session);
        } else if (after->pointer) {
            ef_buf_free (after->pointer);
            free (after->pointer);
        }
        self->after_head = (self->after_head + 1) & (self->after_capacity - 1);
    }
    session_t *session;
    self->is_replaying = true; /* nothing is written any more */
    for (uint32_t at = 0; (session = ef_hash_next (&self->sessions, &at)) != NULL; at = 0) {
        session_forget (self, session);
    }
    entries_free (self);
    for (uint32_t i = 0; i < self->topic_count; i++) {
        topic_free (&self->topics[i]);
    }
    if (self->batch) {
        ef_buf_free (&self->batch->buf);
        free (self->batch);
    }
    ef_hash_free (&self->topic_names);
    ef_hash_free (&self->sessions);
    ef_hash_free (&self->workers);
    ef_heap_free (&self->leases);
    ef_cache_free (&self->cache);
    ef_buf_free (&self->header);
    free (self->topics);
    free (self->order);
    free (self->topic_ids);
    free (self->sizes);
    free (self->peers);
    free (self->after);
    free (self->scan);
    free (self->routes);
    free (self);
    *self_p = NULL;
}

/* The wall clock was set. What waits for a date waits for it anew; what waits for a while goes on
   waiting. */
static void
s_follow_wall (ef_core_t *self) {
    for (uint32_t i = 0; i < self->topic_count; i++) {
        self->topics[i]->gates_next_ms = 0; /* windows of quotas turn by it */
    }
    for (uint32_t i = 0; i < self->block_count * ENTRY_BLOCK; i++) {
        entry_t *entry = &self->blocks[i / ENTRY_BLOCK][i % ENTRY_BLOCK];
        if (entry->n && entry->state == EF_STATE_SCHEDULED && (entry->flags & ENTRY_AT)) {
            uint64_t wait = entry->due_ms > self->wall ? entry->due_ms - self->wall : 0;
            entry->generation = (uint32_t)++self->next_generation;
            self->effects.retry_at (self->effects.arg, entry->topic, entry->n, entry->generation,
                                    self->now + wait);
        }
    }
}

void
ef_core_set_routes (ef_core_t *self, const ef_route_t *routes, uint32_t count) {
    ef_route_t *copy = malloc ((count ? count : 1) * sizeof *copy);
    ef_assert (copy != NULL && count <= EF_ROUTES_MAX);
    if (count) {
        memcpy (copy, routes, count * sizeof *copy);
    }
    free (self->routes);
    self->routes = copy;
    self->route_count = count;
}

void
ef_core_clock (ef_core_t *self, uint64_t mono_ms, uint64_t wall_ms) {
    ef_assert (mono_ms >= self->now);
    int64_t step = (int64_t)(wall_ms - self->wall) - (int64_t)(mono_ms - self->now);
    bool is_first = self->wall == 0;
    self->now = mono_ms;
    self->wall = wall_ms;
    if (!is_first && (step > WALL_STEP_MS || step < -WALL_STEP_MS)) {
        s_follow_wall (self);
    }
}

/* What this thread missed while it was away is nobody's fault: silence and leases are longer by
   that. It is away when a sweep comes late by more than a busy turn takes. */
static void
s_forgive_absence (ef_core_t *self) {
    if (self->sweep_next_ms == 0 || self->now < self->sweep_next_ms + AWAY_MS) {
        return;
    }
    uint64_t away = self->now - self->turn_ms;
    for (uint32_t i = 0; i < self->peer_count; i++) {
        uint64_t heard = self->peers[i].heard_ms + away;
        self->peers[i].heard_ms = heard < self->now ? heard : self->now;
    }
    for (uint32_t i = 0; i < self->leases.count; i++) {
        lease_t *lease = self->leases.items[i];
        lease->next_ms += away;
        for (uint32_t k = 0; k < lease->count; k++) {
            lease->items[k].deadline_ms += away;
        }
    }
}

/* Asks for the next block of tags while half of the last one is left. */
static void
s_reserve_tags (ef_core_t *self) {
    uint64_t limit = self->tag_asked > self->tag_limit ? self->tag_asked : self->tag_limit;
    if (limit > self->next_tag + EF_TAG_BLOCK / 2 || limit + EF_TAG_BLOCK > EF_TAG_MAX) {
        return;
    }
    self->tag_asked = limit + EF_TAG_BLOCK;
    ef_buf_t *buf = batch_buf (self);
    size_t mark = ef_record_begin (buf, EF_LOG_TAGS, 0, EF_TAGS_HEADER);
    ef_le64_put (buf->data + mark + EF_RECORD_HEAD, self->tag_asked);
    ef_record_end (buf, mark);
    batch_after (self, (after_t){.kind = AFTER_TAGS, .peer = UINT32_MAX, .n = self->tag_asked});
}

/* Overflow returns by itself, at its rate, while there is room. */
static void
s_call_back_overflow (ef_core_t *self) {
    for (uint32_t i = 0; i < self->topic_count; i++) {
        topic_t *topic = self->topics[i];
        if (topic->counts[EF_STATE_DEAD] > topic->outbox_count && !topic->config.overflow_manual &&
            !topic->is_draining && topic->returning == 0 && self->space == EF_SPACE_NORMAL &&
            topic_is_under_low_mark (topic)) {
            uint32_t share = topic->config.overflow_rate * SWEEP_MS / 1000;
            self->effects.want_overflow (self->effects.arg, topic->config.name, share ? share : 1);
        }
    }
}

void
ef_core_tick (ef_core_t *self) {
    s_forgive_absence (self);
    leases_tick (self);
    for (uint32_t i = 0; i < self->topic_count; i++) {
        topic_t *topic = self->topics[i];
        if (topic->breakers.count) {
            topic->breakers_next_ms = breakers_tick (self, topic);
        }
        units_tick (self, topic);
    }
    if (self->now >= self->sweep_next_ms) {
        uint32_t sweep = SWEEP_MS;
        for (uint32_t i = 0; i < self->peer_count; i++) {
            const worker_t *worker = self->peers[i].worker;
            if (worker && worker->heartbeat_ms && worker->heartbeat_ms / 2 < sweep) {
                sweep = worker->heartbeat_ms / 2;
            }
        }
        self->sweep_next_ms = self->now + sweep;
        peers_sweep (self);
        sessions_sweep (self);
        for (uint32_t i = 0; i < self->topic_count; i++) {
            topic_t *topic = self->topics[i];
            ids_expire (self, topic, 4096);
            expiry_step (self, topic);
            if (topic->config.quota.limit) {
                (void)ef_quota_expire (&topic->quota, &topic->config.quota, self->wall, 4096);
            }
        }
        s_call_back_overflow (self);
    }
}

void
ef_core_turn (ef_core_t *self) {
    self->turn_ms = self->now;
    s_reserve_tags (self);
    dispatch_all (self);
    clean_step (self);
    checkpoint_step (self);
    batch_submit (self);
    after_run (self);
}

/* When something that waits behind a gate, a breaker or a rate may go on by itself. */
static uint64_t
s_gates_next_ms (const ef_core_t *self, const topic_t *topic) {
    uint64_t next = topic->breakers_next_ms ? topic->breakers_next_ms : UINT64_MAX;
    if (topic->gates_next_ms != UINT64_MAX) {
        uint64_t wait = topic->gates_next_ms > self->wall ? topic->gates_next_ms - self->wall : 0;
        next = self->now + wait < next ? self->now + wait : next;
    }
    if (topic->config.rate > 0 && topic->counts[EF_STATE_READY] > topic->blocked &&
        (topic->queues[0] || topic->queues[1])) {
        uint64_t due = ef_bucket_next_ms (&topic->rate, self->now);
        next = due > self->now && due < next ? due : next;
    }
    return next;
}

uint64_t
ef_core_next_ms (const ef_core_t *self) {
    uint64_t next = self->sweep_next_ms;
    const lease_t *lease = ef_heap_top (&self->leases);
    if (lease && lease->next_ms < next) {
        next = lease->next_ms;
    }
    for (uint32_t i = 0; i < self->topic_count; i++) {
        const topic_t *topic = self->topics[i];
        uint64_t stall = topic->stalled_since + topic->config.stall_ms;
        if (topic->stalled_since && !topic->stall_told && stall < next) {
            next = stall;
        }
        uint64_t gates = s_gates_next_ms (self, topic);
        next = gates < next ? gates : next;
    }
    return next;
}

/* A stretch that was asked for; one without bytes means that it couldn't be read. */
void
ef_core_fetched (ef_core_t *self, uint32_t segment, uint32_t offset, ef_stretch_t stretch) {
    for (uint32_t i = 0; i < self->fetching_count; i++) {
        if (self->fetching[i].segment == segment && self->fetching[i].offset == offset) {
            self->fetching[i] = self->fetching[--self->fetching_count];
            break;
        }
    }
    if (stretch.bytes == NULL) {
        return;
    }
    ef_cache_put (&self->cache, stretch);
    for (uint32_t i = 0; i < self->topic_count; i++) {
        outbox_flush (self, self->topics[i]);
    }
}
