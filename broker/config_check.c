/* Judging a configuration as a whole. SPDX-License-Identifier: MIT */
#include "config_private.h"
#include "../proto/limits.h"

#include <stdio.h>
#include <stdlib.h>

static bool
s_is_local (const char *endpoint) {
    return strncmp (endpoint, "tcp://127.", 10) == 0 ||
           strncmp (endpoint, "tcp://[::1]:", 12) == 0 ||
           strncmp (endpoint, "tcp://localhost:", 16) == 0 || strncmp (endpoint, "ipc://", 6) == 0;
}

static int
s_check_server (const ef_config_t *self, char error[512]) {
    const char *const endpoints[] = {self->ingress, self->front, self->back, self->admin,
                                     self->stats};
    for (size_t i = 0; i < sizeof endpoints / sizeof endpoints[0]; i++) {
        if (!s_is_local (endpoints[i]) && !self->insecure) {
            snprintf (
                error, 512,
                "%.200s isn't a loopback address: expected tcp://127.0.0.1:PORT or ipc://PATH, or "
                "--insecure where the network is trusted",
                endpoints[i]);
            return -1;
        }
    }
    if (self->max_event > self->max_message) {
        snprintf (error, 512,
                  "max_event is larger than max_message: expected an event to fit a message");
        return -1;
    }
    if (self->topic_count >= EF_TOPICS_MAX) { /* one is for what is invalid */
        snprintf (error, 512, "%u topics: expected fewer than %u", self->topic_count,
                  EF_TOPICS_MAX);
        return -1;
    }
    return 0;
}

/* What contradicts itself in a topic; NULL: nothing. */
static const char *
s_contradiction (const ef_config_topic_t *self) {
    const ef_topic_config_t *topic = &self->topic;
    const struct {
        bool is_wrong;
        const char *text;
    } rules[] = {
        {self->pool.command[0] && self->pool.min > self->pool.max,
         "pool: expected min at or below max"},
        {topic->lease_ms > topic->lease_total_ms, "expected lease at or below lease_total"},
        {topic->breaker.cooldown_ms > topic->breaker.cooldown_cap_ms,
         "expected breaker_cooldown at or below breaker_cooldown_cap"},
        {topic->order == EF_ORDER_TOPIC && topic->fair_by != EF_BY_NONE,
         "order = topic leaves nothing to be fair about: expected fair_by = none"},
        {topic->quota.limit && topic->quota.is_sliding && topic->quota.zone,
         "a sliding window has no midnight: expected quota_window = calendar or no quota_zone"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (rules[i].is_wrong) {
            return rules[i].text;
        }
    }
    return NULL;
}

static int
s_check_topic (const ef_config_t *self, const char *name, const ef_config_topic_t *topic,
               char error[512]) {
    const struct {
        const char *key;
        const char *other;
    } names[] = {{"on_done", topic->topic.on_done}, {"on_dead", topic->topic.on_dead}};
    const char *text = s_contradiction (topic);
    if (text) {
        snprintf (error, 512, "topic/%s: %s", name, text);
        return -1;
    }
    for (size_t i = 0; i < 2; i++) {
        if (names[i].other[0] && config_topic_find (self, names[i].other) == NULL) {
            snprintf (error, 512, "topic/%s: %s = %s: expected the name of a configured topic",
                      name, names[i].key, names[i].other);
            return -1;
        }
    }
    return 0;
}

static uint32_t
s_place (const ef_config_t *self, const char *name) {
    const ef_config_topic_t *topic = name[0] ? config_topic_find (self, name) : NULL;
    return topic ? (uint32_t)(topic - self->topics) : UINT32_MAX;
}

/* What on_done and on_dead lead to must never come back: such an event would go round forever.
   Topics are taken away as long as one leads nowhere; what is left lies on circles or before
   them. */
static int
s_check_circles (const ef_config_t *self, char error[512]) {
    uint32_t count = self->topic_count;
    uint32_t (*edges)[2] = calloc (count ? count : 1, sizeof *edges);
    bool *is_free = calloc (count ? count : 1, sizeof *is_free);
    ef_assert (edges != NULL && is_free != NULL);
    for (uint32_t i = 0; i < count; i++) {
        edges[i][0] = s_place (self, self->topics[i].topic.on_done);
        edges[i][1] = s_place (self, self->topics[i].topic.on_dead);
    }
    for (bool has_changed = true; has_changed;) {
        has_changed = false;
        for (uint32_t i = 0; i < count; i++) {
            bool leads = (edges[i][0] != UINT32_MAX && !is_free[edges[i][0]]) ||
                         (edges[i][1] != UINT32_MAX && !is_free[edges[i][1]]);
            has_changed = has_changed || (!leads && !is_free[i]);
            is_free[i] = !leads;
        }
    }
    uint32_t at = 0;
    while (at < count && is_free[at]) {
        at++;
    }
    int rc = at < count ? -1 : 0;
    if (rc) { /* after as many steps as there are topics we are on a circle; then once around */
        for (uint32_t i = 0; i < count; i++) {
            at = edges[at][0] != UINT32_MAX && !is_free[edges[at][0]] ? edges[at][0] : edges[at][1];
        }
        uint32_t begin = at;
        size_t used = (size_t)snprintf (error, 512, "on_done and on_dead lead round: %s",
                                        self->topics[at].topic.name);
        do {
            at = edges[at][0] != UINT32_MAX && !is_free[edges[at][0]] ? edges[at][0] : edges[at][1];
            used += used < 400 ? (size_t)snprintf (error + used, 512 - used, " > %s",
                                                   self->topics[at].topic.name)
                               : 0;
        } while (at != begin);
        snprintf (error + used, 512 - used, ": expected no way back");
    }
    free (edges);
    free (is_free);
    return rc;
}

static int
s_check_routes (const ef_config_t *self, char error[512]) {
    const char *catches_all = NULL;
    for (uint32_t i = 0; i < self->route_count; i++) {
        const ef_route_t *route = &self->routes[i];
        if (catches_all) {
            snprintf (error, 512,
                      "routes/%s is never reached, %s before it takes everything: expected the "
                      "route without conditions at the end",
                      route->name, catches_all);
            return -1;
        }
        for (uint32_t k = 0; k < route->topic_count && !self->auto_create; k++) {
            if (config_topic_find (self, route->topics[k]) == NULL) {
                snprintf (error, 512,
                          "routes/%s: to = %s: expected the name of a configured topic (or "
                          "auto_create = 1)",
                          route->name, route->topics[k]);
                return -1;
            }
        }
        catches_all = route->type[0] || route->header_count ? NULL : route->name;
    }
    return 0;
}

/* What every pool is to have at least must find a place. */
static int
s_check_pools (const ef_config_t *self, char error[512]) {
    uint64_t least = 0;
    for (uint32_t i = 0; i < self->topic_count; i++) {
        const ef_pool_config_t *pool = &self->topics[i].pool;
        least += pool->command[0] ? pool->min : 0;
    }
    if (least > self->machine.workers_max) {
        snprintf (error, 512,
                  "the pools' min are %llu workers together: with server/workers_max = %u expected "
                  "no more",
                  (unsigned long long)least, self->machine.workers_max);
        return -1;
    }
    return 0;
}

int
ef_config_check (ef_config_t *self, char error[512]) {
    config_settle_rules (&self->defaults.topic);
    for (uint32_t i = 0; i < self->topic_count; i++) {
        config_settle_rules (&self->topics[i].topic);
    }
    int rc = s_check_server (self, error);
    rc = rc ? rc : s_check_topic (self, "defaults", &self->defaults, error);
    for (uint32_t i = 0; rc == 0 && i < self->topic_count; i++) {
        rc = s_check_topic (self, self->topics[i].topic.name, &self->topics[i], error);
    }
    rc = rc ? rc : s_check_pools (self, error);
    rc = rc ? rc : s_check_circles (self, error);
    return rc ? rc : s_check_routes (self, error);
}
