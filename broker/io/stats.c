/* What is published each second. SPDX-License-Identifier: MIT */
#include "router_private.h"

#include <stdio.h>

static void
s_publish (ef_router_t *self, const char *subject, ef_buf_t *map) {
    ef_monitor_message_t *message = ef_monitor_message_new (subject);
    message->map = *map;
    memset (map, 0, sizeof *map);
    outbox_add (&self->to_monitor, message);
}

typedef struct {
    ef_router_t *router;
} stats_t;

/* What comes in by ingress, what waits for a time, and each topic's dead letters. */
static void
s_publish_parts (ef_router_t *self) {
    ef_buf_t map = {0};
    uint64_t inserting = 0;
    ef_core_ingress_stats (self->core, &map);
    s_publish (self, "stats.ingress", &map);
    for (uint32_t i = 0; i < ef_core_topic_count (self->core); i++) {
        uint64_t dead = ef_core_count (self->core, i, EF_STATE_DEAD);
        inserting += ef_core_inserting (self->core, i);
        if (dead > 0) {
            char subject[128];
            snprintf (subject, sizeof subject, "stats.dead.%s", ef_core_topic_name (self->core, i));
            ef_put_map (&map, 2);
            ef_put_key_str (&map, "topic", ef_core_topic_name (self->core, i));
            ef_put_key_uint (&map, "dead", dead);
            s_publish (self, subject, &map);
        }
    }
    ef_put_map (&map, 2);
    ef_put_key_uint (&map, "waiting", atomic_load (&self->parts.retry->depth));
    ef_put_key_uint (&map, "inserting", inserting);
    s_publish (self, "stats.retry", &map);
}

static void
s_publish_worker (void *arg, const ef_buf_t *map) {
    stats_t *stats = arg;
    char subject[128];
    char name[EF_NAME_MAX + 8] = "";
    uint32_t pairs;
    ef_span_t key;
    ef_span_t value;
    ef_cursor_t cursor = ef_cursor (map->data, map->size);
    if (ef_get_map (&cursor, &pairs) == 0 && ef_get_str (&cursor, &key) == 0 &&
        ef_get_str (&cursor, &value) == 0) {
        ef_span_copy (value, name, sizeof name);
    }
    snprintf (subject, sizeof subject, "stats.worker.%s", name);
    ef_buf_t copy = {0};
    ef_buf_put (&copy, map->data, map->size);
    s_publish (stats->router, subject, &copy);
}

/* One snapshot a second. */
void
router_stats (ef_router_t *self) {
    ef_buf_t map = {0};
    stats_t stats = {self};
    if (self->to_monitor.count > 1000) {
        return; /* nobody takes them off; lossy by design */
    }
    ef_put_map (&map, 2);
    ef_put_str (&map, "broker");
    ef_core_status (self->core, &map);
    ef_put_str (&map, "process");
    router_put_process (self, &map);
    s_publish (self, "stats.broker", &map);
    for (uint32_t i = 0; i < ef_core_topic_count (self->core); i++) {
        char subject[128];
        snprintf (subject, sizeof subject, "stats.topic.%s", ef_core_topic_name (self->core, i));
        ef_core_topic_stats (self->core, i, &map);
        s_publish (self, subject, &map);
        snprintf (subject, sizeof subject, "stats.pool.%s", ef_core_topic_name (self->core, i));
        router_put_pool (self, i, &map);
        s_publish (self, subject, &map);
    }
    s_publish_parts (self);
    ef_core_workers (self->core, s_publish_worker, &stats);
}
