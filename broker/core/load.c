/* What the scaler is told of each topic. SPDX-License-Identifier: MIT

   A worker more helps where events are ready, nothing holds them back, and nobody has credit. So
   what waits behind a gate is told apart from what is ready, and a hold says that workers aren't
   what is missing. */
#include "core_private.h"

const char *
ef_hold_name (ef_hold_t hold) {
    static const char *const names[] = {
#define X(name, text) text,
        EF_HOLD_TABLE (X)
#undef X
    };
    ef_assert (hold < EF_HOLD_COUNT);
    return names[hold];
}

/* Half of the marks go where there is no place for another: older ones may lie further apart. */
static void
s_mark (const ef_core_t *self, topic_t *topic) {
    uint32_t *count = &topic->mark_count;
    if (*count > 0 && topic->marks[*count - 1].n == topic->next_n) {
        return;
    }
    if (*count == LOAD_MARKS) {
        for (uint32_t i = 0; i < LOAD_MARKS / 2; i++) {
            topic->marks[i] = topic->marks[2 * i + 1];
        }
        *count = LOAD_MARKS / 2;
    }
    topic->marks[*count].n = topic->next_n;
    topic->marks[(*count)++].at_ms = self->now;
}

/* Since when the first event of the backlog is there, at least. What has failed or was scheduled is
   no part of it: its age isn't the workers' doing. */
uint64_t
load_oldest_ms (const ef_core_t *self, topic_t *topic) {
    s_mark (self, topic);
    ef_extent_at_t at;
    const ef_extent_t *head = ef_extents_first (&topic->extents, &at);
    uint32_t gone = 0;
    uint64_t n = head ? head->n : topic->next_n;
    while (gone < topic->mark_count && topic->marks[gone].n <= n) {
        gone++;
    }
    if (gone > 0) {
        topic->mark_count -= gone;
        memmove (topic->marks, topic->marks + gone, topic->mark_count * sizeof topic->marks[0]);
    }
    return topic->mark_count > 0 ? self->now - topic->marks[0].at_ms : 0;
}

static double
s_fill (const topic_t *topic) {
    const ef_topic_config_t *config = &topic->config;
    uint64_t depth = topic->counts[EF_STATE_READY] + topic->counts[EF_STATE_LEASED];
    double events = config->capacity_events ? (double)depth / (double)config->capacity_events : 0.0;
    double bytes =
        config->capacity_bytes ? (double)topic->bytes / (double)config->capacity_bytes : 0.0;
    return events > bytes ? events : bytes;
}

void
load_breakers (const topic_t *topic, breaker_counts_t *counts) {
    uint32_t at = 0;
    const breaker_t *breaker;
    memset (counts, 0, sizeof *counts);
    while ((breaker = ef_hash_next (&topic->breakers, &at)) != NULL) {
        ef_breaker_state_t state = ef_breaker_state (&breaker->state, &topic->config.breaker);
        counts->by_state[state]++;
        counts->is_own = counts->is_own || (state != EF_BREAKER_CLOSED && breaker->size == 0);
    }
}

static ef_hold_t
s_hold (const ef_core_t *self, const topic_t *topic, bool is_open) {
    const ef_topic_config_t *config = &topic->config;
    uint64_t in_hand =
        topic->counts[EF_STATE_LEASED] + topic->counts[EF_STATE_RETRYING] - topic->inserting;
    bool is_slow = config->rate > 0 && topic->rate.rate == config->rate &&
                   ef_bucket_next_ms (&topic->rate, self->now) > self->now;
    return self->is_draining                         ? EF_HOLD_DRAINING
           : topic->is_paused                        ? EF_HOLD_PAUSED
           : is_open                                 ? EF_HOLD_BREAKER
           : is_slow                                 ? EF_HOLD_RATE
           : in_hand >= config->retry_capacity       ? EF_HOLD_RETRY_CAPACITY
           : space_for_deliveries (self, topic) == 0 ? EF_HOLD_DISK
                                                     : EF_HOLD_NONE;
}

static void
s_load (const ef_core_t *self, topic_t *topic, ef_load_t *load) {
    breaker_counts_t breakers;
    load_breakers (topic, &breakers);
    uint64_t stalled = topic->stalled_since ? self->now - topic->stalled_since : 0;
    *load = (ef_load_t){.ready = topic->counts[EF_STATE_READY] + topic->turns - topic->blocked,
                        .blocked = topic->blocked - topic->turns,
                        .leased = topic->counts[EF_STATE_LEASED],
                        .retrying = topic->counts[EF_STATE_RETRYING] - topic->inserting,
                        .inserting = topic->inserting,
                        .fill = s_fill (topic),
                        .oldest_ms = load_oldest_ms (self, topic),
                        .stalled_ms = stalled,
                        .stalled_sum = topic->stalled_sum + stalled,
                        .deliveries = topic->deliveries,
                        .done = topic->counts[EF_STATE_DONE],
                        .failed = topic->attempts_failed,
                        .permanent = topic->permanent,
                        .overflowed = topic->overflowed,
                        .breakers = breakers.by_state[EF_BREAKER_OPEN] +
                                    breakers.by_state[EF_BREAKER_HALF_OPEN],
                        .hold = s_hold (self, topic, breakers.is_own)};
}

void
ef_core_loads (ef_core_t *self, ef_load_t *loads) {
    for (uint32_t i = 0; i < self->topic_count; i++) {
        s_load (self, self->topics[i], &loads[i]);
    }
    uint32_t position = 0;
    const worker_t *worker;
    while ((worker = ef_hash_next (&self->workers, &position)) != NULL) {
        for (uint32_t i = 0; i < worker->sub_count; i++) {
            ef_load_t *load = &loads[worker->subs[i].topic->index];
            bool stays = !worker->is_draining;
            load->workers += stays;
            load->unhealthy += stays && worker->is_unhealthy;
            load->pool_workers += stays && worker->token[0];
            load->credit += stays ? worker->credit : 0;
        }
    }
    for (uint32_t i = 0; i < self->topic_count; i++) {
        if (2 * loads[i].unhealthy > loads[i].workers && loads[i].hold == EF_HOLD_NONE) {
            loads[i].hold = EF_HOLD_UNHEALTHY; /* another one would hardly fare better */
        }
    }
}

static uint64_t
s_held (const worker_t *worker) {
    uint64_t held = 0;
    for (uint32_t i = 0; i < worker->lease_count; i++) {
        const lease_t *lease = worker->leases[(worker->lease_head + i) % worker->lease_capacity];
        for (uint32_t k = 0; lease && k < lease->count; k++) {
            held += lease->items[k].state == ITEM_OPEN;
        }
    }
    return held;
}

void
ef_core_tokens (const ef_core_t *self,
                void (*each) (void *arg, const char *token, uint64_t answered, uint64_t held),
                void *arg) {
    uint32_t position = 0;
    const worker_t *worker;
    while ((worker = ef_hash_next (&self->workers, &position)) != NULL) {
        if (worker->token[0]) {
            /* The exact number is asked of those that leave; a walk over the others costs more. */
            each (arg, worker->token, worker->done + worker->failed,
                  worker->is_draining ? s_held (worker) : worker->in_flight);
        }
    }
}
