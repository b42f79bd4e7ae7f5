/* The state of the broker, /health and /stats. SPDX-License-Identifier: MIT

   Role: a thread asks the broker once a second how it is, so that health checks cost it nothing.
   Owns: the thread, the tasks, a publisher for edited replays. */
#include "api_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define API_ASK_MS 1000

/* Keeps what STATUS said. */
static void
s_keep (api_t *self, const ef_buf_t *value) {
    ef_cursor_t root = ef_cursor (value->data, value->size);
    ef_cursor_t broker;
    ef_cursor_t flag;
    bool is_recovering = false;
    bool is_draining = false;
    if (!ef_map_find (root, "broker", &broker)) {
        return;
    }
    is_recovering = ef_map_find (broker, "recovering", &flag) &&
                    ef_get_bool (&flag, &is_recovering) == 0 && is_recovering;
    is_draining = ef_map_find (broker, "draining", &flag) &&
                  ef_get_bool (&flag, &is_draining) == 0 && is_draining;
    uint64_t all = ef_map_uint (broker, "recovery_bytes");
    uint64_t read = ef_map_uint (broker, "recovered_bytes");
    ef_span_t durability = ef_map_str (broker, "durability");
    pthread_mutex_lock (&self->lock);
    self->state = is_recovering ? 1 : is_draining ? 2 : 0;
    self->share = is_recovering && all > 0 ? (double)read / (double)all : 1;
    if (durability.data) {
        ef_span_copy (durability, self->durability, sizeof self->durability);
    }
    pthread_mutex_unlock (&self->lock);
}

static void
s_ask (api_t *self, eventflow_admin_t *admin) {
    char code[32];
    char text[512];
    ef_buf_t request = {0};
    eventflow_bytes_t value;
    api_request (&request, 1, "STATUS", NULL);
    const eventflow_bytes_t bytes = {request.data, request.size};
    int rc = eventflow_admin_call (admin, bytes, API_ASK_MS, &value, code, text);
    if (rc == EVENTFLOW_OK) {
        const ef_buf_t copy = {(uint8_t *)value.data, value.size, 0};
        s_keep (self, &copy);
    } else {
        pthread_mutex_lock (&self->lock);
        self->state = rc == EVENTFLOW_REFUSED && strcmp (code, "DRAINING") == 0 ? 2 : -1;
        pthread_mutex_unlock (&self->lock);
    }
    ef_buf_free (&request);
}

static void *
s_run (void *arg) {
    api_t *self = arg;
    eventflow_admin_t *admin = admin_pool_single (self->admin);
    pthread_mutex_lock (&self->lock);
    while (!self->is_ending) {
        pthread_mutex_unlock (&self->lock);
        s_ask (self, admin);
        pthread_mutex_lock (&self->lock);
        uint64_t until = ef_mono_ns () + (self->state < 0 ? 250 : API_ASK_MS) * 1000000ull;
        const struct timespec deadline = {(time_t)(until / 1000000000u),
                                          (long)(until % 1000000000u)};
        if (!self->is_ending) {
            (void)pthread_cond_timedwait (&self->wake, &self->lock, &deadline);
        }
    }
    pthread_mutex_unlock (&self->lock);
    eventflow_admin_destroy (&admin);
    return NULL;
}

api_t *
api_new (admin_pool_t *admin, const char *front) {
    api_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    pthread_condattr_t attributes;
    self->admin = admin;
    self->front = front;
    self->state = -1;
    self->started_ms = ef_wall_ms ();
    pthread_mutex_init (&self->lock, NULL);
    pthread_mutex_init (&self->publisher_lock, NULL);
    pthread_condattr_init (&attributes);
    pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
    pthread_cond_init (&self->wake, &attributes);
    pthread_condattr_destroy (&attributes);
    self->tasks = tasks_new (admin);
    int rc = pthread_create (&self->thread, NULL, s_run, self);
    ef_assert (rc == 0);
    return self;
}

void
api_destroy (api_t **self_p) {
    api_t *self = *self_p;
    if (self) {
        pthread_mutex_lock (&self->lock);
        self->is_ending = true;
        pthread_cond_signal (&self->wake);
        pthread_mutex_unlock (&self->lock);
        (void)pthread_join (self->thread, NULL); /* a thread of our own */
        tasks_destroy (&self->tasks);
        eventflow_publisher_destroy (&self->publisher);
        pthread_mutex_destroy (&self->lock);
        pthread_mutex_destroy (&self->publisher_lock);
        pthread_cond_destroy (&self->wake);
        free (self);
        *self_p = NULL;
    }
}

void
api_on_health (api_t *self, bool (*health) (void *arg, ef_buf_t *members), void *arg) {
    self->health = health;
    self->health_arg = arg;
}

int
api_broker_state (api_t *self, double *share) {
    pthread_mutex_lock (&self->lock);
    int state = self->state;
    if (share) {
        *share = self->share;
    }
    pthread_mutex_unlock (&self->lock);
    return state;
}

void
api_durability (api_t *self, char text[16]) {
    pthread_mutex_lock (&self->lock);
    memcpy (text, self->durability, 16);
    pthread_mutex_unlock (&self->lock);
}

void
api_routes (api_t *self, listener_t *listener) {
    listener_routes (listener, api_topic_rows, api_topic_count, self);
    listener_routes (listener, api_event_rows, api_event_count, self);
    listener_routes (listener, api_failed_rows, api_failed_count, self);
    listener_routes (listener, api_health_rows, api_health_count, self);
}

admin_pool_t *
api_admin (api_t *self) {
    return self->admin;
}

void
api_health_routes (api_t *self, listener_t *listener) {
    listener_routes (listener, api_health_rows, api_health_count, self);
}

/* ---- health ---- */

static const char *
s_state_name (int state) {
    return state == 0   ? "ready"
           : state == 1 ? "recovering"
           : state == 2 ? "draining"
                        : "unreachable";
}

/* Writes the state; true where all is ready. */
static bool
s_put_health (api_t *self, ef_buf_t *out) {
    char text[200];
    double share;
    int state = api_broker_state (self, &share);
    ef_buf_t members = {0};
    bool is_ready = self->health == NULL || self->health (self->health_arg, &members);
    is_ready = is_ready && state == 0;
    snprintf (text, sizeof text,
              "{\"status\":\"%s\",\"version\":\"%s\",\"uptime_seconds\":%llu,\"broker\":{\"state\":"
              "\"%s\"",
              is_ready     ? "ok"
              : state == 1 ? "recovering"
                           : "degraded",
              EF_PROGRAM_VERSION, (unsigned long long)(ef_wall_ms () - self->started_ms) / 1000,
              s_state_name (state));
    api_text (out, text);
    if (state == 1) {
        snprintf (text, sizeof text, ",\"recovered_ratio\":%.3f", share);
        api_text (out, text);
    }
    api_text (out, "}");
    if (members.size > 0) {
        api_text (out, ",");
        ef_buf_put (out, members.data, members.size);
    }
    ef_buf_free (&members);
    api_text (out, "}\n");
    return is_ready;
}

static void
s_health (void *arg, call_t *call) {
    ef_buf_t out = {0};
    (void)s_put_health (arg, &out); /* for people: told, not judged */
    call_answer (call, 200, "application/json", &out);
}

static void
s_ready (void *arg, call_t *call) {
    ef_buf_t out = {0};
    bool is_ready = s_put_health (arg, &out);
    if (!is_ready) {
        call_add_header (call, "Retry-After", "1");
    }
    call_answer (call, is_ready ? 200 : 503, "application/json", &out);
}

static void
s_live (void *arg, call_t *call) {
    (void)arg;
    call_answer_json (call, 200, "{\"status\":\"alive\"}\n");
}

static void
s_ping (void *arg, call_t *call) {
    (void)arg;
    call_answer_static (call, 200, "text/plain; charset=utf-8", "OK\n", 3);
}

/* ---- stats ---- */

/* Sums of all topics. */
static void
s_put_totals (ef_buf_t *out, ef_cursor_t items, uint32_t count) {
    static const char *const keys[] = {"accepted", "ready",  "leased", "scheduled",
                                       "retrying", "parked", "done",   "dead",
                                       "archived", "purged", "failed", "deliveries"};
    uint64_t sums[sizeof keys / sizeof keys[0]] = {0};
    for (uint32_t i = 0; i < count; i++) {
        for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
            sums[k] += ef_map_uint (items, keys[k]);
        }
        if (ef_skip (&items)) {
            break;
        }
    }
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        char text[80];
        snprintf (text, sizeof text, "%s\"%s\":%llu", k ? "," : "", keys[k],
                  (unsigned long long)sums[k]);
        api_text (out, text);
    }
}

static void
s_put_topics (ef_buf_t *out, ef_cursor_t items, uint32_t count, const char *only) {
    bool is_first = true;
    for (uint32_t i = 0; i < count; i++) {
        if (only == NULL || ef_span_is (ef_map_str (items, "topic"), only)) {
            api_text (out, is_first ? "" : ",");
            is_first = false;
            if (api_put_map (out, items, NULL)) {
                api_text (out, "null"); /* no broker's */
            }
        }
        if (ef_skip (&items)) {
            return;
        }
    }
}

static void
s_put_server (ef_buf_t *out, const server_t *server) {
    server_numbers_t numbers;
    char text[800];
    server_numbers (server, &numbers);
    snprintf (
        text, sizeof text,
        "{\"requests\":%llu,\"status_2xx\":%llu,\"status_4xx\":%llu,\"status_5xx\":%llu,"
        "\"received_bytes\":%llu,\"sent_bytes\":%llu,\"malformed\":%llu,\"overload\":%llu,"
        "\"denied\":%llu,\"rate_limited\":%llu,\"cut_slow\":%llu,\"connections\":%u,\"calls\":%u,"
        "\"held_bytes\":%llu}",
        (unsigned long long)numbers.requests, (unsigned long long)numbers.by_status[2],
        (unsigned long long)numbers.by_status[4], (unsigned long long)numbers.by_status[5],
        (unsigned long long)numbers.received_bytes, (unsigned long long)numbers.sent_bytes,
        (unsigned long long)numbers.refused_malformed, (unsigned long long)numbers.refused_overload,
        (unsigned long long)numbers.refused_access, (unsigned long long)numbers.refused_rate,
        (unsigned long long)numbers.cut_slow, numbers.connections, numbers.calls,
        (unsigned long long)numbers.held_bytes);
    api_text (out, text);
}

static void
s_answer_stats (call_t *call, const ef_buf_t *status, const ef_buf_t *topics) {
    static const char *const dates[] = {"started", "scrub_good_ms", NULL};
    ef_cursor_t root = ef_cursor (status->data, status->size);
    ef_cursor_t part;
    ef_cursor_t items;
    uint32_t count = 0;
    ef_buf_t out = {0};
    api_put_date (&out, "{\"time\":", ef_wall_ms ());
    static const char *const parts[] = {"broker", "process"};
    for (unsigned i = 0; i < 2; i++) {
        api_text (&out, i ? ",\"process\":" : ",\"broker\":");
        if (!ef_map_find (root, parts[i], &part) || api_put_map (&out, part, dates)) {
            api_text (&out, "null");
        }
    }
    if (ef_map_find (ef_cursor (topics->data, topics->size), "items", &items) &&
        ef_get_array (&items, &count) == 0) {
        api_text (&out, ",\"totals\":{");
        s_put_totals (&out, items, count);
        api_text (&out, "},\"topics\":[");
        s_put_topics (&out, items, count, call_query (call, "topic"));
        api_text (&out, "]");
    }
    api_text (&out, ",\"server\":");
    s_put_server (&out, call_server (call));
    api_text (&out, "}\n");
    call_answer (call, 200, "application/json", &out);
}

static void
s_stats (void *arg, call_t *call) {
    api_t *self = arg;
    ef_buf_t request = {0};
    ef_buf_t status = {0};
    ef_buf_t topics = {0};
    api_request (&request, 1, "STATUS", NULL);
    int rc = admin_pool_ask (self->admin, call, &request, &status);
    if (rc == 0) {
        api_request (&request, 1, "TOPICS", NULL);
        rc = admin_pool_ask (self->admin, call, &request, &topics);
    }
    if (rc == 0) {
        s_answer_stats (call, &status, &topics);
    }
    ef_buf_free (&request);
    ef_buf_free (&status);
    ef_buf_free (&topics);
}

const route_t api_health_rows[] = {
    {"GET", "/health", ROLE_READ, false, ROUTE_QUICK, s_health, "How it is, for people"},
    {"GET", "/health/live", ROLE_NONE, false, ROUTE_QUICK, s_live, "200 while it runs"},
    {"GET", "/health/ready", ROLE_NONE, false, ROUTE_QUICK, s_ready,
     "200 where events are taken, else 503 with the progress of the broker's start"},
    {"GET", "/ping", ROLE_NONE, false, ROUTE_QUICK, s_ping, "OK"},
    {"GET", "/stats", ROLE_READ, false, ROUTE_BLOCKING, s_stats,
     "Numbers of the broker, its topics (?topic=) and this server"},
};
const size_t api_health_count = sizeof api_health_rows / sizeof api_health_rows[0];
