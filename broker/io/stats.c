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
s_publish_worker (void *arg, const ef_worker_map_t *worker) {
    ef_router_t *self = arg;
    char subject[128];
    ef_buf_t map = {0};
    snprintf (subject, sizeof subject, "stats.worker.%s", worker->name);
    router_put_worker (self, worker, &map);
    s_publish (self, subject, &map);
}

/* One snapshot a second. */
void
router_stats (ef_router_t *self) {
    ef_buf_t map = {0};
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
    ef_core_workers (self->core, s_publish_worker, self);
}
