/* Topics and the events in hand: tables, counts, the law. SPDX-License-Identifier: MIT */
#include "core_private.h"
#include "../../proto/distance.h"

#include <stdio.h>

static const char *const s_state_names[] = {
#define X(name, text) text,
    EF_STATE_TABLE (X)
#undef X
};

static const char *const s_reason_names[] = {
#define X(name, text) text,
    EF_REASON_TABLE (X)
#undef X
};

const char *
ef_state_name (ef_state_t state) {
    ef_assert (state < EF_STATE_COUNT);
    return s_state_names[state];
}

const char *
ef_space_name (ef_space_t space) {
    static const char *const names[] = {
#define X(name, text) text,
        EF_SPACE_TABLE (X)
#undef X
    };
    ef_assert (space < EF_SPACE_COUNT);
    return names[space];
}

const char *
ef_reason_name (ef_reason_t reason) {
    return reason < EF_REASON_COUNT ? s_reason_names[reason] : "unknown";
}

static const char *const s_failure_names[] = {
#define X(name, text) text,
    EF_FAILURE_TABLE (X)
#undef X
};

const char *
ef_failure_name (ef_failure_t failure) {
    ef_assert (failure < EF_FAILURE_COUNT);
    return s_failure_names[failure];
}

/* The one table of what may become of an event: row from, column to. */
#define B(state) (1u << EF_STATE_##state)
static const uint32_t s_moves[EF_STATE_COUNT] = {
    [EF_STATE_READY] = B (LEASED) | B (DONE) | B (DEAD) | B (PURGED) | B (SCHEDULED),
    [EF_STATE_LEASED] = B (READY) | B (RETRYING) | B (PARKED) | B (DONE) | B (DEAD) | B (PURGED),
    [EF_STATE_SCHEDULED] = B (READY) | B (DEAD) | B (PURGED),
    [EF_STATE_RETRYING] = B (READY) | B (DONE) | B (DEAD) | B (PURGED) | B (SCHEDULED),
    [EF_STATE_PARKED] = B (READY) | B (DONE) | B (DEAD) | B (PURGED) | B (SCHEDULED),
    [EF_STATE_DEAD] = B (READY) | B (ARCHIVED) | B (PURGED),
};
#undef B

static bool
s_is_live (ef_state_t state) {
    return state <= EF_STATE_PARKED;
}

/* New events. */
void
topic_accept (topic_t *topic, ef_state_t state, uint64_t count, uint64_t bytes) {
    ef_assert (topic->pending_events >= count);
    topic->pending_events -= count;
    topic->accepted += count;
    topic->counts[state] += count;
    topic->bytes += bytes;
}

void
topic_move (topic_t *topic, ef_state_t from, ef_state_t to, uint64_t count) {
    ef_assert (s_moves[from] & 1u << to);
    ef_assert (topic->counts[from] >= count);
    topic->counts[from] -= count;
    topic->counts[to] += count;
}

/* Bytes that left. Where extents were split their bytes are averages, so the sum may be off by a
   little; it is put right when nothing is left. */
void
topic_shrink (topic_t *topic, uint64_t bytes) {
    uint64_t live = 0;
    for (unsigned i = 0; i < EF_STATE_COUNT; i++) {
        live += s_is_live ((ef_state_t)i) ? topic->counts[i] : 0;
    }
    topic->bytes -= bytes < topic->bytes ? bytes : topic->bytes;
    topic->bytes = live ? topic->bytes : 0;
}

bool
topic_is_full (const topic_t *topic) {
    const ef_topic_config_t *config = &topic->config;
    uint64_t depth = topic->counts[EF_STATE_READY] + topic->counts[EF_STATE_LEASED];
    return (config->capacity_events && depth >= config->capacity_events) ||
           (config->capacity_bytes && topic->bytes >= config->capacity_bytes);
}

/* Four fifths of the capacity. */
bool
topic_is_under_low_mark (const topic_t *topic) {
    const ef_topic_config_t *config = &topic->config;
    uint64_t depth = topic->counts[EF_STATE_READY] + topic->counts[EF_STATE_LEASED];
    return (config->capacity_events == 0 || depth < config->capacity_events * 4 / 5 + 1) &&
           (config->capacity_bytes == 0 || topic->bytes < config->capacity_bytes * 4 / 5 + 1);
}

static const void *
s_topic_key (const void *item, size_t *size) {
    const topic_t *topic = item;
    *size = strlen (topic->config.name);
    return topic->config.name;
}

topic_t *
topic_find (const ef_core_t *self, const char *name, size_t size) {
    return ef_hash_find (&self->topic_names, name, size);
}

topic_t *
topic_require (ef_core_t *self, const char *name, size_t size) {
    topic_t *topic = topic_find (self, name, size);
    if (topic || self->topic_count == EF_TOPICS_MAX || size >= EF_TOPIC_NAME_BYTES) {
        return topic;
    }
    if (self->topic_names.capacity == 0) {
        ef_hash_init (&self->topic_names, self->key, s_topic_key);
    }
    topic = calloc (1, sizeof *topic);
    ef_assert (topic != NULL);
    topic->config = self->config.defaults;
    memset (topic->config.name, 0, sizeof topic->config.name);
    memcpy (topic->config.name, name, size);
    topic->index = self->topic_count;
    topic->is_new = true;
    topic->next_n = 1;
    entries_init (self, topic);
    self->topics = realloc (self->topics, (self->topic_count + 1) * sizeof (void *));
    ef_assert (self->topics != NULL);
    self->topics[self->topic_count++] = topic;
    ef_hash_insert (&self->topic_names, topic);
    return topic;
}

void
topic_free (topic_t **self_p) {
    topic_t *self = *self_p;
    ef_hash_free (&self->entries);
    ef_heap_free (&self->ready);
    gates_free (self);
    free (self->claims);
    ef_window_destroy (&self->ids);
    breakers_free (self);
    ef_quota_free (&self->quota);
    ef_extents_free (&self->extents);
    free (self->outbox);
    free (self->avoids);
    free (self->took);
    free (self->waited);
    free (self);
    *self_p = NULL;
}

const char *
topic_nearest (const ef_core_t *self, const char *name, size_t size) {
    const char *nearest = NULL;
    size = size > EF_TOPIC_MAX ? EF_TOPIC_MAX : size;
    unsigned least = ((unsigned)size + 1) / 2 + 1; /* more changes make another word */
    for (uint32_t i = 0; i < self->topic_count && i < 256; i++) {
        const char *other = self->topics[i]->config.name;
        unsigned distance = ef_distance (name, size, other, strlen (other));
        if (other[0] != '$' && distance < least) {
            least = distance;
            nearest = other;
        }
    }
    return nearest;
}

void
ef_core_configure (ef_core_t *self, const ef_core_config_t *config) {
    self->config.auto_create = config->auto_create;
    self->config.publisher_rate = config->publisher_rate;
    self->config.publisher_burst = config->publisher_burst;
    self->config.defaults = config->defaults;
}

int
ef_core_configure_topic (ef_core_t *self, const ef_topic_config_t *config) {
    topic_t *topic = topic_require (self, config->name, strlen (config->name));
    if (topic == NULL) {
        return -1;
    }
    topic->config = *config;
    topic->gates_next_ms = 0; /* other limits may let go what waits */
    return 0;
}

uint32_t
ef_core_topic_count (const ef_core_t *self) {
    return self->topic_count;
}

const char *
ef_core_topic_name (const ef_core_t *self, uint32_t index) {
    ef_assert (index < self->topic_count);
    return self->topics[index]->config.name;
}

int
ef_core_find_topic (const ef_core_t *self, const char *name, size_t size) {
    const topic_t *topic = topic_find (self, name, size);
    return topic ? (int)topic->index : -1;
}

uint64_t
ef_core_count (const ef_core_t *self, uint32_t index, ef_state_t state) {
    ef_assert (index < self->topic_count && state < EF_STATE_COUNT);
    return self->topics[index]->counts[state];
}

uint64_t
ef_core_accepted (const ef_core_t *self, uint32_t index) {
    ef_assert (index < self->topic_count);
    return self->topics[index]->accepted;
}

/* What is counted by its reason comes to what is counted in all. */
static void
s_check_reasons (const topic_t *topic) {
    uint64_t failures = topic->failed_before;
    uint64_t deaths = topic->m_before;
    for (unsigned i = 0; i < EF_FAILURE_COUNT; i++) {
        failures += topic->failures[i];
    }
    for (unsigned i = 0; i < EF_REASON_COUNT; i++) {
        deaths += topic->deaths[i];
    }
    ef_assert (failures == topic->attempts_failed);
    ef_assert (deaths == topic->m);
    ef_assert (topic->deaths[EF_REASON_NONE] == 0);
    ef_assert (topic->redelivered <= topic->deliveries);
}

static void
s_check_topic (topic_t *topic) {
    s_check_reasons (topic);
    uint64_t sum = 0;
    for (unsigned i = 0; i < EF_STATE_COUNT; i++) {
        sum += topic->counts[i];
    }
    ef_assert (sum == topic->accepted);
    uint64_t by_state[EF_STATE_COUNT] = {0};
    uint32_t inserting = 0;
    uint32_t position = 0;
    entry_t *entry;
    while ((entry = ef_hash_next (&topic->entries, &position)) != NULL) {
        by_state[entry->state]++;
        inserting += (entry->flags & ENTRY_INSERTING) != 0;
        ef_assert ((entry->heap_at != EF_HEAP_NONE) == (entry->state == EF_STATE_READY));
        ef_assert (!(entry->flags & ENTRY_GATED) || entry->state == EF_STATE_READY);
        ef_assert (s_is_live ((ef_state_t)entry->state) || entry->state == EF_STATE_DEAD);
    }
    ef_assert (inserting == topic->inserting);
    ef_assert (by_state[EF_STATE_READY] == topic->ready.count + gates_check (topic));
    ef_assert (by_state[EF_STATE_PARKED] == topic->counts[EF_STATE_PARKED]);
    ef_assert (by_state[EF_STATE_RETRYING] == topic->counts[EF_STATE_RETRYING]);
    ef_assert (by_state[EF_STATE_SCHEDULED] == topic->counts[EF_STATE_SCHEDULED]);
    ef_assert (by_state[EF_STATE_LEASED] <= topic->counts[EF_STATE_LEASED]);
    ef_assert (by_state[EF_STATE_DEAD] == topic->outbox_count);
    uint64_t live = 0;
    uint64_t last = 0;
    ef_extent_at_t at;
    for (ef_extent_t *extent = ef_extents_first (&topic->extents, &at); extent;
         extent = ef_extents_next (&topic->extents, &at)) {
        ef_assert (extent->n > last && extent->count > 0);
        last = extent->n + extent->count - 1;
        live += extent->count;
    }
    ef_assert (last < topic->next_n);
    ef_assert (live + by_state[EF_STATE_READY] == topic->counts[EF_STATE_READY]);
}

void
ef_core_check (ef_core_t *self) {
    for (uint32_t i = 0; i < self->topic_count; i++) {
        s_check_topic (self->topics[i]);
    }
    uint64_t leased = 0;
    uint32_t position = 0;
    worker_t *worker;
    while ((worker = ef_hash_next (&self->workers, &position)) != NULL) {
        uint64_t in_flight = 0;
        uint64_t bytes = 0;
        for (uint32_t i = 0; i < worker->lease_count; i++) {
            lease_t *lease = worker->leases[(worker->lease_head + i) % worker->lease_capacity];
            for (uint32_t k = 0; lease && k < lease->count; k++) {
                in_flight += lease->items[k].state != ITEM_ANSWERED;
                bytes += lease->items[k].state != ITEM_ANSWERED ? lease->items[k].bytes : 0;
                leased += lease->items[k].state == ITEM_OPEN;
            }
        }
        ef_assert (in_flight == worker->in_flight && bytes == worker->bytes_in_flight);
    }
    uint64_t counted = 0;
    for (uint32_t i = 0; i < self->topic_count; i++) {
        counted += self->topics[i]->counts[EF_STATE_LEASED];
    }
    ef_assert (counted == leased);
}
