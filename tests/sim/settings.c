/* What a schedule mixes. SPDX-License-Identifier: MIT */
#include "world.h"

#include <stdio.h>

static const char *const s_names[] = {
#define X(name, text) text,
    SIM_FEATURE_TABLE (X)
#undef X
};

const sim_route_t sim_routes[SIM_ROUTES] = {{"all.of", "all.*", {0, 1, 2}, 3},
                                            {"two", "two", {3, 1}, 2}};

uint32_t
sim_features (uint64_t seed) {
    sim_random_t random = {.state = seed * 0xd1342543de82ef95u + 1};
    for (unsigned i = 0; i < 8; i++) {
        (void)sim_random (&random); /* small seeds begin alike */
    }
    bool has_none = sim_one_in (&random, 4);
    uint32_t mask = 0;
    for (unsigned i = 0; i < SIM_FEATURE_COUNT; i++) {
        mask |= sim_below (&random, 8) < 3 ? 1u << i : 0;
    }
    return has_none ? 0 : mask;
}

uint32_t
sim_feature_bit (const char *name) {
    for (unsigned i = 0; i < SIM_FEATURE_COUNT; i++) {
        if (strcmp (s_names[i], name) == 0) {
            return 1u << i;
        }
    }
    return 0;
}

const char *
sim_feature_name (sim_feature_t feature) {
    return s_names[feature];
}

bool
sim_has (const world_t *self, sim_feature_t feature) {
    return self->features >> feature & 1;
}

/* Some topics keep an order, by key or as a whole. */
static void
s_choose_order (world_t *self, ef_topic_config_t *topic, uint32_t index) {
    static const ef_blocked_t ways[] = {EF_BLOCKED_BLOCK, EF_BLOCKED_BLOCK, EF_BLOCKED_SKIP};
    if (sim_one_in (&self->random, 16)) {
        topic->order = EF_ORDER_TOPIC;
    } else if (!sim_one_in (&self->random, 3)) {
        self->keys[index] = 3 + sim_below (&self->random, 6);
    }
    topic->on_blocked = ways[sim_below (&self->random, 3)];
}

static const struct {
    const char *pattern;
    sim_code_t code; /* that it fits, of those that workers say */
} s_rules[] = {
    {"429", CODE_BUSY}, {"TIME*", CODE_TIMEOUT}, {"55?", CODE_REFUSED}, {"BAD_*", CODE_BAD}};

void
sim_put_code (ef_buf_t *out, sim_code_t code) {
    switch (code) {
    case CODE_BUSY: ef_put_int (out, 429); break;
    case CODE_TIMEOUT: ef_put_str (out, "TIMEOUT"); break;
    case CODE_REFUSED: ef_put_int (out, 551); break;
    case CODE_BAD: ef_put_str (out, "BAD_ADDRESS"); break;
    default: ef_put_int (out, 500); break;
    }
}

static ef_policy_t
s_choose_policy (world_t *self) {
    return (ef_policy_t){.kind = (ef_policy_kind_t)sim_below (&self->random, EF_POLICY_COUNT),
                         .base_ms = 1 + sim_below (&self->random, 100),
                         .cap_ms = 100 + sim_below (&self->random, 400),
                         .factor = 1.5 + sim_below (&self->random, 2),
                         .jitter = sim_below (&self->random, 3) / 2.0,
                         .attempts = 1 + sim_below (&self->random, 8)};
}

static void
s_choose_rules (world_t *self, ef_topic_config_t *topic) {
    if (sim_one_in (&self->random, 3)) {
        return;
    }
    topic->retry = s_choose_policy (self);
    for (size_t i = 0; i < sizeof s_rules / sizeof s_rules[0]; i++) {
        if (sim_one_in (&self->random, 2)) {
            ef_rule_t *rule = &topic->rules[topic->rule_count++];
            snprintf (rule->pattern, sizeof rule->pattern, "%s", s_rules[i].pattern);
            rule->is_permanent = sim_one_in (&self->random, 3);
            rule->policy = s_choose_policy (self);
        }
    }
}

/* What holds events back: quotas of short windows, breakers that open soon, a rate. */
static void
s_choose_gates (world_t *self, ef_topic_config_t *topic) {
    if (sim_has (self, SIM_QUOTA) && !sim_one_in (&self->random, 3)) {
        static const ef_by_t by[] = {EF_BY_USER, EF_BY_USER, EF_BY_KEY, EF_BY_TOPIC};
        topic->quota = (ef_quota_config_t){.by = by[sim_below (&self->random, 4)],
                                           .window_ms = 500 + sim_below (&self->random, 1000),
                                           .is_sliding = sim_one_in (&self->random, 2),
                                           .is_dead_when_over = sim_one_in (&self->random, 6)};
        uint32_t share = topic->quota.by == EF_BY_TOPIC ? 4 : 1;
        topic->quota.limit = share * (4 + sim_below (&self->random, 12));
    }
    if (sim_has (self, SIM_BREAKER) && !sim_one_in (&self->random, 3)) {
        topic->breaker = (ef_breaker_config_t){.ratio = (1 + sim_below (&self->random, 3)) / 4.0,
                                               .calls = 2 + sim_below (&self->random, 6),
                                               .window_ms = 500 + sim_below (&self->random, 2000),
                                               .cooldown_ms = 50 + sim_below (&self->random, 500),
                                               .cooldown_cap_ms = 1000,
                                               .probes = 1 + sim_below (&self->random, 3),
                                               .refuses = sim_one_in (&self->random, 4)};
    }
    if (sim_has (self, SIM_EXTEND)) {
        topic->lease_total_ms = topic->lease_ms + sim_below (&self->random, 4000);
    }
    if (sim_has (self, SIM_BUDGET) && sim_one_in (&self->random, 2)) {
        topic->retry_budget = (1 + sim_below (&self->random, 8)) / 4.0;
    }
    if (sim_has (self, SIM_FAIR)) {
        static const ef_by_t by[] = {EF_BY_NONE, EF_BY_KEY, EF_BY_USER};
        topic->fair_by = by[sim_below (&self->random, 3)];
        topic->weight = 1 + sim_below (&self->random, 4);
    }
    if (sim_has (self, SIM_RATE) && sim_one_in (&self->random, 2)) {
        topic->rate = 20 + sim_below (&self->random, 300);
        topic->burst = 1 + sim_below (&self->random, 20);
    }
}

/* Alpha and beta hand on what ends in them. */
static void
s_choose_copies (world_t *self, ef_topic_config_t *topic, uint32_t index) {
    if (index < 2) {
        snprintf (topic->on_done, sizeof topic->on_done, "%s",
                  sim_one_in (&self->random, 2) ? "" : sim_topics[2 + index]);
        snprintf (topic->on_dead, sizeof topic->on_dead, "%s",
                  sim_one_in (&self->random, 2) ? "" : sim_topics[3 - index]);
    }
}

void
settings_choose (world_t *self) {
    if (sim_has (self, SIM_LIMIT)) {
        self->config.publisher_rate = 50 + sim_below (&self->random, 500);
        self->config.publisher_burst = 10 + sim_below (&self->random, 50);
    }
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        ef_topic_config_t *topic = &self->topics[i];
        *topic = self->config.defaults;
        snprintf (topic->name, sizeof topic->name, "%s", sim_topics[i]);
        topic->capacity_events = i == 1 ? 40 : 0; /* beta fills up */
        if (sim_has (self, SIM_ORDER)) {
            s_choose_order (self, topic, i);
        }
        if (sim_has (self, SIM_POLICY)) {
            s_choose_rules (self, topic);
        }
        if (sim_has (self, SIM_DEDUPE)) {
            static const uint32_t windows[] = {100, 2000, 600000};
            topic->dedupe_ms = windows[sim_below (&self->random, 3)];
            topic->dedupe_count = sim_one_in (&self->random, 4) ? 20 : topic->dedupe_count;
        }
        if (sim_has (self, SIM_COPIES)) {
            s_choose_copies (self, topic, i);
        }
        s_choose_gates (self, topic);
        if (sim_has (self, SIM_PARK) && sim_one_in (&self->random, 2)) {
            self->keys[i] = self->keys[i] ? self->keys[i] : 3 + sim_below (&self->random, 6);
            topic->on_blocked = EF_BLOCKED_PARK;
        }
        if (sim_has (self, SIM_SCHEMA) && i < 2) { /* not where copies go: they'd be invalid */
            topic->schemas[0] = 1;
            topic->schemas[1] = 3;
            topic->schema_count = 2;
        }
    }
}

const char *
sim_downstream (uint32_t number) {
    static const char *const names[SIM_DOWNSTREAMS] = {"", "smtp.one", "smtp.two", "db.three"};
    return names[number];
}

bool
settings_take (const world_t *self, const sim_event_t *event) {
    const ef_topic_config_t *topic = &self->topics[event->topic];
    bool is_taken = topic->schema_count == 0;
    for (uint32_t i = 0; i < topic->schema_count; i++) {
        is_taken = is_taken || event->schema == topic->schemas[i];
    }
    return is_taken;
}

const ef_rule_t *
settings_rule (const world_t *self, uint32_t topic, sim_code_t code) {
    const ef_topic_config_t *config = &self->topics[topic];
    for (uint32_t i = 0; i < config->rule_count; i++) {
        for (size_t k = 0; k < sizeof s_rules / sizeof s_rules[0]; k++) {
            if (s_rules[k].code == code &&
                strcmp (s_rules[k].pattern, config->rules[i].pattern) == 0) {
                return &config->rules[i];
            }
        }
    }
    return NULL;
}

uint32_t
settings_attempts (const world_t *self, uint32_t topic) {
    const ef_topic_config_t *config = &self->topics[topic];
    uint32_t most = config->retry.attempts;
    for (uint32_t i = 0; i < config->rule_count; i++) {
        uint32_t attempts = config->rules[i].is_permanent ? 1 : config->rules[i].policy.attempts;
        most = attempts > most ? attempts : most;
    }
    return most;
}

static void
s_apply_routes (ef_core_t *core) {
    ef_route_t routes[SIM_ROUTES];
    memset (routes, 0, sizeof routes);
    for (uint32_t i = 0; i < SIM_ROUTES; i++) {
        snprintf (routes[i].name, sizeof routes[i].name, "%s", sim_routes[i].type);
        snprintf (routes[i].type, sizeof routes[i].type, "%s", sim_routes[i].pattern);
        for (uint32_t k = 0; k < sim_routes[i].count; k++) {
            snprintf (routes[i].topics[k], sizeof routes[i].topics[k], "%s",
                      sim_topics[sim_routes[i].topics[k]]);
        }
        routes[i].topic_count = sim_routes[i].count;
    }
    ef_core_set_routes (core, routes, SIM_ROUTES);
}

void
settings_apply (const world_t *self, ef_core_t *core) {
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        int rc = ef_core_configure_topic (core, &self->topics[i]);
        ef_assert (rc == 0);
    }
    s_apply_routes (core);
}
