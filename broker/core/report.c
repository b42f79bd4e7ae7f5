/* What workers say of themselves, and what operators see of them. SPDX-License-Identifier: MIT */
#include "back.h"
#include "core_private.h"
#include "../../proto/json.h"

#include <stdio.h>
#include <stdlib.h>

static ef_histogram_t *
s_require (ef_histogram_t **histogram) {
    if (*histogram == NULL) {
        *histogram = calloc (1, sizeof **histogram);
        ef_assert (*histogram != NULL);
    }
    return *histogram;
}

/* An attempt has been answered. */
void
report_took (const ef_core_t *core, const lease_t *lease) {
    uint64_t ms = core->now - lease->began_ms;
    ef_histogram_add (s_require (&lease->topic->took), ms);
    ef_histogram_add (&lease->worker->took, ms);
}

/* So many events go out for the first time, neighbours accepted together. What was to wait for its
   time isn't meant. */
void
report_waited (const ef_core_t *core, topic_t *topic, const stored_t *stored, uint32_t count) {
    uint64_t accepted = stored->accepted_ms;
    uint64_t ms = core->wall > accepted ? core->wall - accepted : 0;
    ef_histogram_add_many (s_require (&topic->waited), ms, count);
}

/* Where there are any: {"count", "sum_ms", "below": how many took less than 2, 4, … 2^18 ms}. */
void
report_put (ef_buf_t *out, const char *key, const ef_histogram_t *histogram) {
    uint64_t below[EF_HISTOGRAM_STEPS] = {0};
    ef_put_str (out, key);
    if (histogram) {
        ef_histogram_below (histogram, below);
    }
    ef_put_map (out, 3);
    ef_put_key_uint (out, "count", histogram ? histogram->count : 0);
    ef_put_key_uint (out, "sum_ms", histogram ? histogram->sum_ms : 0);
    ef_put_str (out, "below");
    ef_put_array (out, histogram ? EF_HISTOGRAM_STEPS : 0);
    for (uint32_t i = 0; histogram && i < EF_HISTOGRAM_STEPS; i++) {
        ef_put_uint (out, below[i]);
    }
}

bool
report_is_timeout (ef_span_t code) {
    static const char timeout[] = "\xa7TIMEOUT"; /* as MessagePack */
    return code.size == sizeof timeout - 1 && memcmp (code.data, timeout, code.size) == 0;
}

/* A worker's own time for an event was over: everybody may see it, as the end of a lease. */
void
report_timeout (const ef_core_t *core, const lease_t *lease, ef_span_t code) {
    if (report_is_timeout (code)) {
        core->effects.notify (core->effects.arg, "timeout", lease->topic->config.name,
                              lease->worker->name);
    }
}

/* It takes nothing new while it isn't well. */
static void
s_set_health (ef_core_t *core, worker_t *worker, bool is_unhealthy) {
    if (worker->is_unhealthy == is_unhealthy) {
        return;
    }
    for (uint32_t i = 0; i < worker->sub_count; i++) {
        topic_t *topic = worker->subs[i].topic;
        topic->unwell += is_unhealthy ? 1u : UINT32_MAX;
    }
    worker->is_unhealthy = is_unhealthy;
    if (worker->sub_count > 0) {
        char text[EF_NAME_MAX + EF_REASON_MAX + 32];
        snprintf (text, sizeof text, "%s%s%s", worker->name, is_unhealthy ? ": " : " is well again",
                  is_unhealthy ? worker->unhealthy : "");
        core->effects.notify (core->effects.arg, "worker_health",
                              worker->subs[0].topic->config.name, text);
    }
}

/* One pair of PING's map. -1: it can't be read. */
static int
s_read_pair (worker_t *worker, ef_cursor_t *cursor, bool *is_unhealthy) {
    ef_span_t key;
    ef_span_t value;
    uint64_t number;
    if (ef_get_str (cursor, &key)) {
        return -1;
    }
    ef_cursor_t at = *cursor;
    if (ef_skip (cursor)) {
        return -1;
    }
    if (ef_span_is (key, "health") && ef_get_str (&at, &value) == 0) {
        *is_unhealthy = ef_span_is (value, "unhealthy");
    } else if (ef_span_is (key, "reason") && ef_get_str (&at, &value) == 0) {
        ef_span_copy (value, worker->unhealthy, sizeof worker->unhealthy);
        ef_text_clean (worker->unhealthy); /* a server's words, most often */
    } else if (ef_span_is (key, "cpu_ms") && ef_get_uint (&at, &number) == 0) {
        worker->cpu_ms = number;
    } else if (ef_span_is (key, "rss") && ef_get_uint (&at, &number) == 0) {
        worker->rss_bytes = number;
    }
    return 0;
}

/* PING's map: health is what the core acts on. A bare PING says nothing of it. */
void
back_ping (back_t *request) {
    ef_core_t *core = request->core;
    worker_t *worker = request->peer->worker;
    uint32_t pairs = 0;
    if (request->count > 0 && ef_get_map (&request->arguments, &pairs) == 0) {
        bool is_unhealthy = worker->is_unhealthy;
        worker->unhealthy[0] = '\0';
        for (uint32_t i = 0; i < pairs; i++) {
            if (s_read_pair (worker, &request->arguments, &is_unhealthy)) {
                break;
            }
        }
        s_set_health (core, worker, is_unhealthy);
    }
    ef_buf_clear (&core->header);
    ef_put_array (&core->header, 1);
    ef_put_str (&core->header, "PONG");
    (void)peer_send (core, request->number, NULL); /* it pings again */
}

/* Appends the pairs of a map; returns how many. */
static uint32_t
s_put_worker (const worker_t *worker, ef_buf_t *out) {
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"credit", worker->credit},
        {"in_flight", worker->in_flight},
        {"bytes_in_flight", worker->bytes_in_flight},
        {"done", worker->done},
        {"failed", worker->failed},
        {"heartbeat_ms", worker->heartbeat_ms},
        {"started", worker->started_ms},
        {"cpu_ms", worker->cpu_ms},
        {"rss_bytes", worker->rss_bytes},
        {"took_p50_ms", ef_histogram_quantile (&worker->took, 0.5)},
        {"took_p99_ms", ef_histogram_quantile (&worker->took, 0.99)},
    };
    const uint32_t count = sizeof numbers / sizeof numbers[0];
    ef_put_key_str (out, "worker", worker->name);
    ef_put_key_str (out, "host", worker->host);
    ef_put_key_uint (out, "pid", worker->pid);
    ef_put_str (out, "topics");
    ef_put_array (out, worker->sub_count);
    for (uint32_t i = 0; i < worker->sub_count; i++) {
        ef_put_str (out, worker->subs[i].topic->config.name);
    }
    for (uint32_t i = 0; i < count; i++) {
        ef_put_key_uint (out, numbers[i].key, numbers[i].value);
    }
    ef_put_key_bool (out, "draining", worker->is_draining);
    ef_put_key_bool (out, "healthy", !worker->is_unhealthy);
    ef_put_key_str (out, "unhealthy", worker->is_unhealthy ? worker->unhealthy : "");
    return count + 7;
}

void
ef_core_workers (const ef_core_t *self, void (*each) (void *arg, const ef_worker_map_t *worker),
                 void *arg) {
    ef_buf_t pairs = {0};
    worker_t *worker;
    uint32_t position = 0;
    while ((worker = ef_hash_next (&self->workers, &position)) != NULL) {
        bool has_pool = worker->token[0] && worker->sub_count > 0;
        ef_buf_clear (&pairs);
        ef_worker_map_t map = {.name = worker->name,
                               .topic = has_pool ? (int)worker->subs[0].topic->index : -1,
                               .pair_count = s_put_worker (worker, &pairs),
                               .pairs = &pairs};
        each (arg, &map);
    }
    ef_buf_free (&pairs);
}
