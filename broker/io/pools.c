/* The router's side of the scaler: tells it loads and orders, keeps what it says.
   SPDX-License-Identifier: MIT

   History is kept for the life of the process alone: it explains what is seen now. */
#include "router_private.h"

#include <stdio.h>
#include <stdlib.h>

#define LOAD_MS 500u

static router_pool_t *
s_require (ef_router_t *self, uint32_t index) {
    if (index >= self->pool_count) {
        uint32_t count = ef_core_topic_count (self->core);
        ef_assert (index < count);
        self->pools = realloc (self->pools, count * sizeof *self->pools);
        ef_assert (self->pools != NULL);
        for (uint32_t i = self->pool_count; i < count; i++) {
            self->pools[i] = (router_pool_t){.hand = {EF_POOL_UNSET, EF_POOL_UNSET, EF_POOL_UNSET}};
        }
        self->pool_count = count;
    }
    return &self->pools[index];
}

static void
s_keep (ef_router_t *self, const ef_scaler_message_t *message) {
    int index = ef_core_find_topic (self->core, message->topic, strlen (message->topic));
    if (index < 0) {
        return;
    }
    router_pool_t *pool = s_require (self, (uint32_t)index);
    if (pool->count == pool->capacity && pool->capacity < POOL_DECISIONS) { /* head is 0 */
        pool->capacity = pool->capacity ? 2 * pool->capacity : 8;
        pool->decisions = realloc (pool->decisions, pool->capacity * sizeof *pool->decisions);
        ef_assert (pool->decisions != NULL);
    }
    uint32_t at = (pool->head + pool->count) % pool->capacity;
    if (pool->count == pool->capacity) {
        pool->head = (pool->head + 1) % pool->capacity;
    } else {
        pool->count++;
    }
    router_decision_t *decision = &pool->decisions[at];
    decision->decision = message->decision;
    decision->limit = message->limit;
    decision->wall_ms = message->wall_ms;
    memcpy (decision->text, message->text, sizeof decision->text);
}

/* True: there was something. */
bool
router_take_scaler (ef_router_t *self, const ef_effects_t *effects) {
    bool is_any = false;
    ef_scaler_message_t *message;
    while ((message = ef_ring_pop (&ef_scaler_actor (self->parts.scaler)->out)) != NULL) {
        is_any = true;
        if (message->kind == EF_SCALER_DRAIN) {
            (void)ef_core_drain_worker (self->core,
                                        message->token); /* not here yet: TERM ends it */
        } else if (message->kind == EF_SCALER_DIED) {
            ef_core_worker_died (self->core, message->token, message->text);
        } else if (message->kind == EF_SCALER_STATES) {
            for (uint32_t i = 0; i < message->count; i++) {
                router_pool_t *pool = s_require (self, message->states[i].index);
                pool->state = message->states[i];
                pool->is_known = true;
            }
        } else if (message->kind == EF_SCALER_DECISION) {
            s_keep (self, message);
            if (message->is_managed) { /* what others are asked for they see in the stats */
                effects->notify (self, "scale", message->topic, message->text);
            }
        } else {
            effects->notify (self, message->token, message->topic, message->text);
        }
        ef_scaler_message_destroy (&message);
    }
    return is_any;
}

static void
s_add_worker (void *arg, const char *token, uint64_t answered, uint64_t held) {
    ef_scaler_message_t *message = arg;
    uint32_t count = message->worker_count;
    if ((count & (count - 1)) == 0) {
        message->workers =
            realloc (message->workers, (count ? 2 * count : 1) * sizeof *message->workers);
        ef_assert (message->workers != NULL);
    }
    ef_scaler_worker_t *worker = &message->workers[message->worker_count++];
    *worker = (ef_scaler_worker_t){.answered = answered, .held = held};
    snprintf (worker->token, sizeof worker->token, "%s", token);
}

static bool
s_is_idle (const ef_load_t *load) {
    return load->ready == 0 && load->blocked == 0 && load->leased == 0 && load->retrying == 0 &&
           load->inserting == 0;
}

/* A topic that is idle is told once, and on as long as its pool isn't at rest. */
static bool
s_is_news (ef_router_t *self, uint32_t index, const ef_load_t *load) {
    router_pool_t *pool = s_require (self, index);
    const ef_scaler_state_t *state = &pool->state;
    bool is_idle = s_is_idle (load);
    bool is_at_rest = pool->is_known && state->desired == state->min && state->starting == 0 &&
                      state->leaving == 0 && state->running == state->desired &&
                      state->others + state->running == load->workers &&
                      state->hold == load->hold && state->end < 0.001 && state->arrive < 0.001;
    bool is_news = !is_idle || !pool->was_idle || !is_at_rest;
    pool->was_idle = is_idle;
    self->is_loaded = self->is_loaded || !is_idle;
    return is_news;
}

void
router_tell_scaler (ef_router_t *self) {
    uint32_t count = ef_core_topic_count (self->core);
    ef_load_t *loads = calloc (count ? count : 1, sizeof *loads);
    ef_scaler_message_t *message = ef_scaler_message_new (EF_SCALER_LOAD, "");
    message->loads = calloc (count ? count : 1, sizeof *message->loads);
    ef_assert (loads != NULL && message->loads != NULL);
    ef_core_loads (self->core, loads);
    self->is_loaded = false;
    self->next_load_ms = ef_mono_ms () + LOAD_MS;
    for (uint32_t i = 0; i < count; i++) {
        if (s_is_news (self, i, &loads[i])) {
            ef_scaler_load_t *load = &message->loads[message->count++];
            load->index = i;
            load->load = loads[i];
            snprintf (load->topic, sizeof load->topic, "%s", ef_core_topic_name (self->core, i));
        }
    }
    ef_core_tokens (self->core, s_add_worker, message);
    free (loads);
    bool is_nothing = message->count == 0 && message->worker_count == 0;
    if (is_nothing || !ef_actor_tell (ef_scaler_actor (self->parts.scaler), message)) {
        ef_scaler_message_destroy (&message); /* the next one says it too */
    }
}

void
router_tell_pool (ef_router_t *self, const ef_config_topic_t *topic) {
    ef_scaler_message_t *message = ef_scaler_message_new (EF_SCALER_POOL, topic->topic.name);
    message->pool = malloc (sizeof *message->pool);
    ef_assert (message->pool != NULL);
    *message->pool = *topic;
    outbox_add (&self->to_scaler, message);
}

void
router_tell_bounds (ef_router_t *self) {
    ef_scaler_message_t *message = ef_scaler_message_new (EF_SCALER_BOUNDS, "");
    message->bounds = self->settings.machine;
    outbox_add (&self->to_scaler, message);
}

void
router_pools_free (ef_router_t *self) {
    for (uint32_t i = 0; i < self->to_scaler.count; i++) {
        ef_scaler_message_t *message = self->to_scaler.items[self->to_scaler.head + i];
        ef_scaler_message_destroy (&message);
    }
    outbox_free (&self->to_scaler);
    for (uint32_t i = 0; i < self->pool_count; i++) {
        free (self->pools[i].decisions);
    }
    free (self->pools);
}

static void
s_put_rate (ef_buf_t *out, const char *key, double rate) {
    ef_put_str (out, key);
    ef_put_double (out, (double)(uint64_t)(rate * 100 + 0.5) / 100);
}

void
router_put_pool (const ef_router_t *self, uint32_t topic, ef_buf_t *out) {
    static const ef_scaler_state_t none = {.scale = EF_POOL_UNSET};
    bool is_known = topic < self->pool_count && self->pools[topic].is_known;
    const ef_scaler_state_t *state = is_known ? &self->pools[topic].state : &none;
    const char *name = ef_core_topic_name (self->core, topic);
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"desired", state->desired}, {"running", state->running},   {"starting", state->starting},
        {"leaving", state->leaving}, {"others", state->others},     {"min", state->min},
        {"max", state->max},         {"restarts", state->restarts}, {"changed", state->changed_ms},
        {"backlog", state->ready},   {"retrying", state->retrying}, {"oldest_ms", state->oldest_ms},
    };
    uint32_t count = sizeof numbers / sizeof numbers[0];
    ef_put_map (out, count + 8);
    ef_put_key_str (out, "topic", name);
    ef_put_key_bool (out, "managed",
                     is_known ? state->is_managed : ef_scaler_has_pool (self->parts.scaler, name));
    for (uint32_t i = 0; i < count; i++) {
        ef_put_key_uint (out, numbers[i].key, numbers[i].value);
    }
    ef_put_str (out, "scale");
    if (state->scale == EF_POOL_UNSET) {
        ef_put_nil (out);
    } else {
        ef_put_uint (out, state->scale);
    }
    ef_put_key_str (out, "reason", ef_pool_reason_name (state->reason));
    ef_put_key_str (out, "limit", ef_pool_limit_name (state->limit));
    ef_put_key_str (out, "hold", ef_hold_name (state->hold));
    s_put_rate (out, "arrive", state->arrive);
    s_put_rate (out, "end", state->end);
}

void
router_put_worker (const ef_router_t *self, const ef_worker_map_t *worker, ef_buf_t *out) {
    uint32_t topic = (uint32_t)worker->topic;
    bool has_pool = worker->topic >= 0 && topic < self->pool_count && self->pools[topic].is_known;
    ef_put_map (out, worker->pair_count + has_pool);
    ef_buf_put (out, worker->pairs->data, worker->pairs->size);
    if (has_pool) {
        ef_put_key_uint (out, "restarts", self->pools[topic].state.restarts);
    }
}

static void
s_put_decision (const router_decision_t *entry, const char *topic, ef_buf_t *out) {
    const ef_pool_decision_t *decision = &entry->decision;
    const ef_load_t *load = &decision->load;
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"ready", load->ready},         {"blocked", load->blocked},
        {"leased", load->leased},       {"retrying", load->retrying},
        {"inserting", load->inserting}, {"overflowed", load->overflowed},
        {"oldest_ms", load->oldest_ms}, {"stalled_ms", load->stalled_ms},
        {"workers", decision->workers}, {"credit", load->credit},
    };
    uint32_t count = sizeof numbers / sizeof numbers[0];
    ef_put_map (out, count + 10);
    ef_put_key_str (out, "topic", topic);
    ef_put_key_uint (out, "time", entry->wall_ms);
    ef_put_key_uint (out, "from", decision->from);
    ef_put_key_uint (out, "to", decision->to);
    ef_put_key_str (out, "reason", ef_pool_reason_name (decision->reason));
    ef_put_key_str (out, "limit", ef_pool_limit_name (entry->limit));
    ef_put_key_str (out, "text", entry->text);
    for (uint32_t i = 0; i < count; i++) {
        ef_put_key_uint (out, numbers[i].key, numbers[i].value);
    }
    s_put_rate (out, "fill", load->fill);
    s_put_rate (out, "arrive", decision->arrive);
    s_put_rate (out, "end", decision->end);
}

/* The oldest one first. */
void
router_put_history (const ef_router_t *self, uint32_t topic, ef_buf_t *out) {
    const router_pool_t *pool = topic < self->pool_count ? &self->pools[topic] : NULL;
    uint32_t count = pool ? pool->count : 0;
    ef_put_map (out, 2);
    ef_put_str (out, "items");
    ef_put_array (out, count);
    for (uint32_t i = 0; i < count; i++) {
        s_put_decision (&pool->decisions[(pool->head + i) % pool->capacity],
                        ef_core_topic_name (self->core, topic), out);
    }
    ef_put_str (out, "next");
    ef_put_nil (out);
}

static void
s_send_hand (ef_router_t *self, const char *topic, ef_scaler_hand_t hand) {
    int index = ef_core_find_topic (self->core, topic, strlen (topic));
    ef_assert (index >= 0); /* looked for by the command */
    ef_scaler_message_t *message = ef_scaler_message_new (EF_SCALER_HAND, topic);
    s_require (self, (uint32_t)index)->hand = message->hand = hand;
    outbox_add (&self->to_scaler, message);
}

void
router_scale (ef_router_t *self, const char *topic, uint32_t count) {
    int index = ef_core_find_topic (self->core, topic, strlen (topic));
    ef_assert (index >= 0); /* it has a pool */
    ef_scaler_hand_t hand = s_require (self, (uint32_t)index)->hand;
    hand.min = count;
    hand.scale = EF_POOL_UNSET;
    s_send_hand (self, topic, hand);
}

/* A number, or nil: as it was configured. -1: neither. */
static int
s_read_number (ef_cursor_t *cursor, uint32_t *value) {
    uint64_t number;
    if (ef_get_nil (cursor) == 0) {
        *value = EF_POOL_UNSET;
        return 0;
    }
    if (ef_get_uint (cursor, &number) || number > EF_WORKERS_CEILING) {
        return -1;
    }
    *value = (uint32_t)number;
    return 0;
}

static const ef_pool_config_t *
s_configured (const ef_router_t *self, const char *topic) {
    for (uint32_t i = 0; i < self->settings.topic_count; i++) {
        if (strcmp (self->settings.topics[i].topic.name, topic) == 0) {
            return &self->settings.topics[i].pool;
        }
    }
    return &self->settings.defaults.pool;
}

const char *
router_set_pool (ef_router_t *self, const char *topic, ef_cursor_t options) {
    static const char expected[] =
        "expected [\"POOL.SET\", topic, {\"min\", \"max\", \"scale\": 0 to 1000, or nil: as "
        "configured}]";
    int index = ef_core_find_topic (self->core, topic, strlen (topic));
    uint32_t pairs;
    ef_assert (index >= 0); /* looked for by the command */
    ef_scaler_hand_t hand = s_require (self, (uint32_t)index)->hand;
    if (ef_get_map (&options, &pairs) || pairs == 0) {
        return expected;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        if (ef_get_str (&options, &key)) {
            return expected;
        }
        uint32_t *value = ef_span_is (key, "min")     ? &hand.min
                          : ef_span_is (key, "max")   ? &hand.max
                          : ef_span_is (key, "scale") ? &hand.scale
                                                      : NULL;
        if (value == NULL || s_read_number (&options, value)) {
            return expected;
        }
    }
    const ef_pool_config_t *configured = s_configured (self, topic);
    uint32_t min = hand.min == EF_POOL_UNSET ? configured->min : hand.min;
    uint32_t max = hand.max == EF_POOL_UNSET ? configured->max : hand.max;
    if (max == 0 || min > max) {
        return "expected min at or below max, and max above 0";
    }
    if (hand.scale != EF_POOL_UNSET && hand.scale > max) {
        return "expected scale at or below max";
    }
    s_send_hand (self, topic, hand);
    return NULL;
}
