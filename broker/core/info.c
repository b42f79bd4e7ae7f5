/* What operators see of a topic: breakers, quota, keys, ids. SPDX-License-Identifier: MIT */
#include "core_private.h"

const ef_topic_config_t *
ef_core_topic_config (const ef_core_t *self, uint32_t index) {
    ef_assert (index < self->topic_count);
    return &self->topics[index]->config;
}

static void
s_put_breaker (const ef_core_t *self, const topic_t *topic, const breaker_t *breaker,
               ef_buf_t *out) {
    const ef_breaker_config_t *config = &topic->config.breaker;
    const gate_t *gate =
        gate_find (self, topic, GATE_DOWNSTREAM, span_of (breaker->name, breaker->size));
    uint32_t calls;
    uint32_t failures;
    ef_breaker_counts (&breaker->state, config, self->now, &calls, &failures);
    ef_breaker_state_t state = ef_breaker_state (&breaker->state, config);
    if (state == EF_BREAKER_OPEN && ef_breaker_allows (&breaker->state, config, self->now)) {
        state = EF_BREAKER_HALF_OPEN; /* its time is over; nothing has come to be its probe */
    }
    ef_put_map (out, 8);
    ef_put_key_str (out, "downstream", breaker->name);
    ef_put_key_str (out, "state", ef_breaker_state_name (state));
    ef_put_key_bool (out, "forced", breaker->state.hand != EF_HAND_AUTO);
    ef_put_str (out, "until");
    if (state == EF_BREAKER_OPEN && breaker->state.hand == EF_HAND_AUTO) {
        ef_put_uint (out, breaker->state.until_wall_ms);
    } else {
        ef_put_nil (out);
    }
    ef_put_key_uint (out, "calls", calls);
    ef_put_key_uint (out, "failures", failures);
    ef_put_key_uint (out, "opened", breaker->state.opened);
    ef_put_key_uint (out, "waiting", gate ? gate->waiting.count : 0);
}

/* The breaker as TOPIC.INFO shows it. */
ef_status_t
ef_core_breaker (const ef_core_t *self, uint32_t index, ef_span_t downstream, ef_buf_t *out) {
    const topic_t *topic = index < self->topic_count ? self->topics[index] : NULL;
    const breaker_t *breaker = topic ? breaker_find (topic, downstream) : NULL;
    if (breaker) {
        s_put_breaker (self, topic, breaker, out);
    }
    return breaker ? EF_OK : EF_NOT_FOUND;
}

/* Is something waiting behind this key, or is its event itself held up? */
static bool
s_is_blocked_key (topic_t *topic, const gate_t *gate) {
    const entry_t *owner = entry_find (topic, gate->owner);
    return gate->name[0] == GATE_KEY &&
           (gate->waiting.count > 0 || (owner && owner->state != EF_STATE_LEASED));
}

static void
s_put_keys (topic_t *topic, ef_buf_t *out) {
    uint64_t busy = 0;
    uint64_t blocked = 0;
    gate_t *gate;
    for (uint32_t at = 0; (gate = ef_hash_next (&topic->gates, &at)) != NULL;) {
        busy += gate->name[0] == GATE_KEY;
        blocked += s_is_blocked_key (topic, gate);
    }
    ef_put_map (out, 4);
    ef_put_key_uint (out, "busy", busy);
    ef_put_key_uint (out, "blocked", blocked);
    ef_put_key_uint (out, "parked", topic->counts[EF_STATE_PARKED]);
    ef_put_key_uint (out, "waiting", topic->blocked);
}

/* Four pairs of a map: breakers, quota, keys, dedupe. */
void
ef_core_topic_info (ef_core_t *self, uint32_t index, ef_buf_t *out) {
    ef_assert (index < self->topic_count);
    topic_t *topic = self->topics[index];
    breaker_t *breaker;
    ef_put_str (out, "breakers");
    ef_put_array (out, topic->breakers.count);
    for (uint32_t at = 0; (breaker = ef_hash_next (&topic->breakers, &at)) != NULL;) {
        s_put_breaker (self, topic, breaker, out);
    }
    ef_put_str (out, "quota");
    ef_put_map (out, 4);
    ef_put_key_uint (out, "limit", topic->config.quota.limit);
    ef_put_key_uint (out, "subjects", topic->quota.subjects.count);
    ef_put_key_uint (out, "units", topic->quota.units.count);
    ef_put_key_uint (out, "bytes", ef_quota_bytes (&topic->quota));
    ef_put_str (out, "keys");
    s_put_keys (topic, out);
    ef_put_str (out, "dedupe");
    ef_put_map (out, 2);
    ef_put_key_uint (out, "ids", topic->ids ? ef_window_count (topic->ids) : 0);
    ef_put_key_uint (out, "bytes", topic->ids ? ef_window_bytes (topic->ids) : 0);
}

static void
s_put_key (topic_t *topic, const gate_t *gate, ef_buf_t *out) {
    const entry_t *owner = entry_find (topic, gate->owner);
    ef_state_t state = owner ? (ef_state_t)owner->state : EF_STATE_LEASED;
    const char *reason = state == EF_STATE_LEASED     ? "leased"
                         : state == EF_STATE_RETRYING ? "backoff"
                         : state == EF_STATE_PARKED   ? "parked"
                         : owner->flags & ENTRY_GATED ? "gate"
                                                      : "ready";
    ef_put_map (out, 6);
    ef_put_str (out, "key");
    ef_put_strn (out, (const char *)gate->name + 1, gate->size - 1u);
    ef_put_key_uint (out, "n", gate->owner);
    ef_put_key_str (out, "state", ef_state_name (state));
    ef_put_key_str (out, "reason", reason);
    ef_put_key_uint (out, "since", gate->since_ms);
    ef_put_key_uint (out, "waiting", gate->waiting.count);
}

uint32_t
ef_core_keys (ef_core_t *self, uint32_t index, uint32_t limit, uint32_t *position, ef_buf_t *out) {
    ef_assert (index < self->topic_count);
    topic_t *topic = self->topics[index];
    uint32_t count = 0;
    gate_t *gate;
    while (count < limit && (gate = ef_hash_next (&topic->gates, position)) != NULL) {
        if (s_is_blocked_key (topic, gate)) {
            s_put_key (topic, gate, out);
            count++;
        }
    }
    return count;
}
