/* Every setting, a row each, and the defaults. SPDX-License-Identifier: MIT */
#include "config_private.h"
#include "../proto/limits.h"
#include "../proto/distance.h"

#include <stdio.h>
#include <stdlib.h>

#define HOUR              3600000.0
#define DAY               86400000.0
#define COUNT(table)      (sizeof (table) / sizeof ((table)[0]))
#define TABLE(name, rows) const settings_t name = {rows, COUNT (rows)}

#define X(name, text)     "|" text
#define POLICIES          (&("" EF_POLICY_TABLE (X))[1])

#define SERVER(member)    FIELD (ef_config_t, member)
static const setting_t s_server[] = {
    {"name", &config_text, SERVER (name), 0, 0, NULL, true},
    {"data", &config_text, SERVER (data), 0, 0, NULL, true},
    {"ingress", &config_text, SERVER (ingress), 0, 0, NULL, true},
    {"front", &config_text, SERVER (front), 0, 0, NULL, true},
    {"back", &config_text, SERVER (back), 0, 0, NULL, true},
    {"admin", &config_text, SERVER (admin), 0, 0, NULL, true},
    {"stats", &config_text, SERVER (stats), 0, 0, NULL, true},
    {"durability", &config_choice, SERVER (durability), 0, 0, "sync|os", true},
    {"insecure", &config_boolean, SERVER (insecure), 0, 0, NULL, true},
    {"log_json", &config_boolean, SERVER (log_json), 0, 0, NULL, false},
    {"log_level", &config_choice, SERVER (log_level), 0, 0, "debug|info|warning|error", false},
    {"max_event", &config_size, SERVER (max_event), 64, EF_EVENT_CEILING, NULL, true},
    {"max_message", &config_size, SERVER (max_message), 64, EF_MESSAGE_CEILING, NULL, true},
    {"segment", &config_size, SERVER (segment_bytes), 65536, 1u << 30, NULL, true},
    {"cache", &config_size, SERVER (cache_bytes), 1u << 20, 1e12, NULL, true},
    {"heartbeat", &config_duration, SERVER (heartbeat_ms), 50, HOUR, NULL, true},
    {"auto_create", &config_boolean, SERVER (auto_create), 0, 0, NULL, false},
    {"publisher_rate", &config_rate, SERVER (publisher_rate), 0, 1e9, NULL, false},
    {"publisher_burst", &config_number, SERVER (publisher_burst), 1, 1e9, NULL, false},
    {"retention", &config_duration, SERVER (retention_ms), 0, 3650 * DAY, NULL, false},
    {"retention_bytes", &config_size, SERVER (retention_bytes), 0, 1e15, NULL, false},
    {"workers_max", &config_number, SERVER (machine.workers_max), 0, EF_WORKERS_CEILING, NULL,
     false},
    {"load_max", &config_factor, SERVER (machine.load_max), 0, 1000, NULL, false},
    {"memory_free_min", &config_room, SERVER (machine.memory_free_min), 0, 1e15, NULL, false},
};
TABLE (config_server, s_server);

/* What a setting reads and writes of several fields at once says so by its kind. */
#define TOPIC(member) FIELD (ef_config_topic_t, topic.member)
#define WHOLE_TOPIC   FIELD (ef_config_topic_t, topic)
static const setting_t s_topic[] = {
    {"capacity", &config_number, TOPIC (capacity_events), 0, 1e15, NULL, false},
    {"capacity_bytes", &config_size, TOPIC (capacity_bytes), 0, 1e15, NULL, false},
    {"on_full", &config_choice, TOPIC (refuse_when_full), 0, 0, "retry|refuse", false},
    {"overflow_replay", &config_choice, TOPIC (overflow_manual), 0, 0, "auto|manual", false},
    {"overflow_rate", &config_rate, TOPIC (overflow_rate), 1, 1e6, NULL, false},
    {"lease", &config_duration, TOPIC (lease_ms), 10, DAY, NULL, false},
    {"lease_total", &config_duration, TOPIC (lease_total_ms), 10, 30 * DAY, NULL, false},
    {"attempts", &config_number, TOPIC (retry.attempts), 1, 1000, NULL, false},
    {"retry", &config_choice, TOPIC (retry.kind), 0, 0, POLICIES, false},
    {"retry_base", &config_duration, TOPIC (retry.base_ms), 1, DAY, NULL, false},
    {"retry_factor", &config_factor, TOPIC (retry.factor), 1, 100, NULL, false},
    {"retry_cap", &config_duration, TOPIC (retry.cap_ms), 1, 7 * DAY, NULL, false},
    {"retry_jitter", &config_ratio, TOPIC (retry.jitter), 0, 1, NULL, false},
    {"retry_on", &config_retry_on, WHOLE_TOPIC, 0, 0, NULL, false},
    {"dead_on", &config_dead_on, WHOLE_TOPIC, 0, 0, NULL, false},
    {"retry_budget", &config_factor, TOPIC (retry_budget), 0, 1000, NULL, false},
    {"retry_capacity", &config_number, TOPIC (retry_capacity), 1, 1e7, NULL, false},
    {"scheduled_capacity", &config_number, TOPIC (scheduled_capacity), 0, 1e7, NULL, false},
    {"insert_attempts", &config_number, TOPIC (insert_attempts), 0, 1000, NULL, false},
    {"insert_base", &config_duration, TOPIC (insert_base_ms), 1, DAY, NULL, false},
    {"insert_cap", &config_duration, TOPIC (insert_cap_ms), 1, DAY, NULL, false},
    {"insert_capacity", &config_number, TOPIC (insert_capacity), 0, 1e7, NULL, false},
    {"dedupe", &config_duration, TOPIC (dedupe_ms), 0, 30 * DAY, NULL, false},
    {"dedupe_count", &config_number, TOPIC (dedupe_count), 1, 1e8, NULL, false},
    {"order", &config_choice, TOPIC (order), 0, 0, "key|topic", false},
    {"on_blocked", &config_choice, TOPIC (on_blocked), 0, 0, "block|skip|park", false},
    {"fair_by", &config_choice, TOPIC (fair_by), 0, 0, "none|key|user", false},
    {"weight", &config_number, TOPIC (weight), 1, 1000, NULL, false},
    {"rate", &config_rate, TOPIC (rate), 0, 1e9, NULL, false},
    {"burst", &config_number, TOPIC (burst), 1, 1e9, NULL, false},
    {"quota", &config_quota, TOPIC (quota), 0, 0, NULL, false},
    {"quota_window", &config_choice, TOPIC (quota.is_sliding), 0, 0, "calendar|sliding", false},
    {"quota_zone", &config_zone, TOPIC (quota.zone), 0, 0, NULL, false},
    {"over_quota", &config_choice, TOPIC (quota.is_dead_when_over), 0, 0, "wait|dead", false},
    {"breaker", &config_ratio, TOPIC (breaker.ratio), 0, 1, NULL, false},
    {"breaker_calls", &config_number, TOPIC (breaker.calls), 1, 1e6, NULL, false},
    {"breaker_window", &config_duration, TOPIC (breaker.window_ms), 100, DAY, NULL, false},
    {"breaker_cooldown", &config_duration, TOPIC (breaker.cooldown_ms), 10, DAY, NULL, false},
    {"breaker_cooldown_cap", &config_duration, TOPIC (breaker.cooldown_cap_ms), 10, 7 * DAY, NULL,
     false},
    {"breaker_probes", &config_number, TOPIC (breaker.probes), 1, 1000, NULL, false},
    {"on_open", &config_choice, TOPIC (breaker.refuses), 0, 0, "wait|refuse", false},
    {"on_done", &config_topic, TOPIC (on_done), 0, 0, NULL, false},
    {"on_dead", &config_topic, TOPIC (on_dead), 0, 0, NULL, false},
    {"schemas", &config_schemas, WHOLE_TOPIC, 0, 0, NULL, false},
};
TABLE (config_topic_rows, s_topic);

#define POOL(member) FIELD (ef_config_topic_t, pool.member)
static const setting_t s_pool[] = {
    {"command", &config_text, POOL (command), 0, 0, NULL, false},
    {"min", &config_number, POOL (min), 0, 1000, NULL, false},
    {"max", &config_number, POOL (max), 1, 1000, NULL, false},
    {"credit", &config_number, POOL (credit), 0, EF_CREDIT_MAX, NULL, false},
    {"stall", &config_duration, TOPIC (stall_ms), 10, HOUR, NULL, false},
    {"idle", &config_duration, POOL (idle_ms), 100, DAY, NULL, false},
    {"cooldown", &config_duration, POOL (cooldown_ms), 10, HOUR, NULL, false},
    {"recycle_events", &config_number, POOL (recycle_events), 0, 1e15, NULL, false},
    {"recycle_rss", &config_size, POOL (recycle_rss), 0, 1e15, NULL, false},
};
TABLE (config_pool_rows, s_pool);

static const setting_t s_route[] = {
    {"type", &config_pattern, FIELD (ef_route_t, type), 0, 0, NULL, false},
    {"header", &config_header, 0, sizeof (ef_route_t), 0, 0, NULL, false},
    {"to", &config_targets, 0, sizeof (ef_route_t), 0, 0, NULL, false},
};
TABLE (config_route_rows, s_route);

static const setting_t s_policy[] = {
    {"base", &config_duration, FIELD (ef_policy_t, base_ms), 1, DAY, NULL, false},
    {"factor", &config_factor, FIELD (ef_policy_t, factor), 1, 100, NULL, false},
    {"cap", &config_duration, FIELD (ef_policy_t, cap_ms), 1, 7 * DAY, NULL, false},
    {"jitter", &config_ratio, FIELD (ef_policy_t, jitter), 0, 1, NULL, false},
    {"attempts", &config_number, FIELD (ef_policy_t, attempts), 1, 1000, NULL, false},
};
TABLE (config_policy_rows, s_policy);
#undef X

int
ef_config_set (ef_config_t *self, const char *key, const char *value, char error[512]) {
    return config_set_named (&config_server, self, key, value, error);
}

void
ef_config_print_topic (const ef_topic_config_t *topic, ef_buf_t *out) {
    _Static_assert(offsetof (ef_config_topic_t, topic) == 0, "rows of a topic serve for both");
    const settings_t *const tables[] = {&config_topic_rows, &config_pool_rows};
    ef_buf_t text = {0};
    uint32_t count = 0;
    size_t mark = ef_put_open (out);
    for (size_t i = 0; i < COUNT (tables); i++) {
        for (size_t k = 0; k < tables[i]->count; k++) {
            const setting_t *row = &tables[i]->rows[k];
            if (row->offset + row->bytes > sizeof *topic) {
                continue; /* of the pool, which the scaler has */
            }
            char name[EF_SETTING_NAME_BYTES];
            snprintf (name, sizeof name, "%s%s", i ? "pool/" : "", row->name);
            ef_buf_clear (&text);
            config_print (row, topic, &text);
            ef_put_str (out, name);
            ef_put_strn (out, (const char *)text.data, text.size);
            count++;
        }
    }
    ef_put_close_map (out, mark, count);
    ef_buf_free (&text);
}

ef_config_topic_t *
config_topic_find (const ef_config_t *self, const char *name) {
    for (uint32_t i = 0; i < self->topic_count; i++) {
        if (strcmp (self->topics[i].topic.name, name) == 0) {
            return &self->topics[i];
        }
    }
    return NULL;
}

ef_config_topic_t *
config_topic_require (ef_config_t *self, const char *name) {
    ef_config_topic_t *topic = config_topic_find (self, name);
    if (topic) {
        return topic;
    }
    self->topics = realloc (self->topics, (self->topic_count + 1) * sizeof *self->topics);
    ef_assert (self->topics != NULL);
    topic = &self->topics[self->topic_count++];
    *topic = self->defaults;
    snprintf (topic->topic.name, sizeof topic->topic.name, "%s", name);
    return topic;
}

ef_route_t *
config_route_add (ef_config_t *self, const char *name) {
    self->routes = realloc (self->routes, (self->route_count + 1) * sizeof *self->routes);
    ef_assert (self->routes != NULL);
    ef_route_t *route = &self->routes[self->route_count++];
    memset (route, 0, sizeof *route);
    snprintf (route->name, sizeof route->name, "%s", name);
    return route;
}

static void
s_init_defaults (ef_config_topic_t *self) {
    *self = (ef_config_topic_t){
        .topic = {.overflow_rate = 100,
                  .lease_ms = 30000,
                  .stall_ms = 1000,
                  .retry = {.base_ms = 1000,
                            .cap_ms = 300000,
                            .factor = 2.0,
                            .jitter = 1.0,
                            .attempts = 5},
                  .lease_total_ms = 24 * 3600000,
                  .dedupe_ms = 600000,
                  .dedupe_count = 1000000,
                  .weight = 1,
                  .burst = 1,
                  .quota = {.window_ms = 86400000},
                  .breaker = {.calls = 10,
                              .window_ms = 60000,
                              .cooldown_ms = 5000,
                              .cooldown_cap_ms = 300000,
                              .probes = 1},
                  .retry_capacity = 65536,
                  .scheduled_capacity = 1000000,
                  .insert_attempts = 5,
                  .insert_base_ms = 500,
                  .insert_cap_ms = 30000,
                  .insert_capacity = 10000},
        .pool = {.min = 0, .max = 4, .credit = 0, .idle_ms = 30000, .cooldown_ms = 1000},
    };
}

static void
s_init_routes (ef_config_t *self) {
    static const struct {
        const char *name;
        const char *type;
        const char *topics[2];
    } routes[] = {
        {"notification", "USER_NOTIFICATION", {"email"}},
        {"mail", "email-notification", {"email"}},
        {"signup", "USER_SIGNUP", {"email", "db"}},
        {"rest", "", {"api"}},
    };
    for (size_t i = 0; i < COUNT (routes); i++) {
        ef_route_t *route = config_route_add (self, routes[i].name);
        strcpy (route->type, routes[i].type);
        for (size_t k = 0; k < COUNT (routes[i].topics) && routes[i].topics[k]; k++) {
            strcpy (route->topics[route->topic_count++], routes[i].topics[k]);
        }
    }
}

void
ef_config_init (ef_config_t *self) {
    static const char *const names[] = {"api", "db", "email"};
    memset (self, 0, sizeof *self);
    strcpy (self->name, "eventflow");
    strcpy (self->data, "eventflow-data");
    strcpy (self->ingress, "tcp://127.0.0.1:5550");
    strcpy (self->front, "tcp://127.0.0.1:5551");
    strcpy (self->back, "tcp://127.0.0.1:5552");
    strcpy (self->admin, "tcp://127.0.0.1:5553");
    strcpy (self->stats, "tcp://127.0.0.1:5554");
    strcpy (self->durability, "sync");
    self->log_level = EF_LOG_INFO;
    self->max_event = EF_EVENT_MAX;
    self->max_message = EF_MESSAGE_MAX;
    self->segment_bytes = 64u << 20;
    self->cache_bytes = 32u << 20;
    self->heartbeat_ms = EF_HEARTBEAT_MS;
    self->publisher_burst = 1000;
    self->retention_ms = 3600000;
    self->retention_bytes = 256u << 20;
    self->machine =
        (ef_config_machine_t){.workers_max = 256, .load_max = 8, .memory_free_min = 0.05};
    s_init_defaults (&self->defaults);
    for (size_t i = 0; i < COUNT (names); i++) {
        (void)config_topic_require (self, names[i]); /* it is there now, with the defaults */
    }
    s_init_routes (self);
}

static void *
s_duplicate (const void *items, size_t bytes) {
    void *copy = malloc (bytes ? bytes : 1);
    ef_assert (copy != NULL);
    if (bytes) {
        memcpy (copy, items, bytes);
    }
    return copy;
}

void
ef_config_copy (ef_config_t *self, const ef_config_t *from) {
    *self = *from;
    self->topics = s_duplicate (from->topics, from->topic_count * sizeof *from->topics);
    self->routes = s_duplicate (from->routes, from->route_count * sizeof *from->routes);
}

void
ef_config_free (ef_config_t *self) {
    free (self->topics);
    free (self->routes);
    self->topics = NULL;
    self->routes = NULL;
    self->topic_count = 0;
    self->route_count = 0;
}
