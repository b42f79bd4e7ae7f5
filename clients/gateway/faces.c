/* What each listener answers. SPDX-License-Identifier: MIT

   The main one has all. Those for people who come from elsewhere have what these know: publishing
   and its answer in their own words, the lists of events and dead letters, numbers, health. */
#include "gateway.h"
#include "../../proto/json.h"

#include <stdio.h>

static void
s_text (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

static int
s_put_event (ef_buf_t *out, ef_cursor_t item) {
    if (api_put_event (out, item)) {
        return -1;
    }
    s_text (out, "}");
    return 0;
}

/* With the retry counter that the clients of this face look for. */
static int
s_put_counted (ef_buf_t *out, ef_cursor_t item) {
    char text[48];
    if (api_put_event (out, item)) {
        return -1;
    }
    snprintf (text, sizeof text, ",\"retryCount\":%llu}",
              (unsigned long long)ef_map_uint (item, "attempts"));
    s_text (out, text);
    return 0;
}

/* Processed ones, unless a filter says otherwise. */
static void
s_events (void *arg, call_t *call) {
    face_t *face = arg;
    ef_buf_t value = {0};
    if (api_ask_events (face->gateway->api, call, "done", &value) == 0) {
        api_answer_items (call, &value, face->style == STYLE_NODE ? s_put_counted : s_put_event);
    }
    ef_buf_free (&value);
}

static void
s_failed (void *arg, call_t *call) {
    face_t *face = arg;
    api_answer_failed (face->gateway->api, call, true);
}

/* Three totals over all topics. */
static void
s_node_metrics (void *arg, call_t *call) {
    face_t *face = arg;
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    ef_cursor_t items;
    uint32_t count = 0;
    uint64_t processed = 0;
    uint64_t failed = 0;
    uint64_t attempts = 0;
    ef_put_array (&request, 1);
    ef_put_str (&request, "TOPICS");
    if (admin_pool_ask (face->gateway->admin, call, &request, &value) == 0) {
        bool is_well = ef_map_find (ef_cursor (value.data, value.size), "items", &items) &&
                       ef_get_array (&items, &count) == 0;
        for (uint32_t i = 0; is_well && i < count; i++) {
            processed += ef_map_uint (items, "done");
            failed += ef_map_uint (items, "dead") + ef_map_uint (items, "archived");
            attempts += ef_map_uint (items, "failed");
            is_well = ef_skip (&items) == 0;
        }
        /* Each failed attempt was tried again, but the last one of those that are dead. */
        call_answer_json (call, 200, "{\"processed\":%llu,\"failed\":%llu,\"retried\":%llu}\n",
                          (unsigned long long)processed, (unsigned long long)failed,
                          (unsigned long long)(attempts > failed ? attempts - failed : 0));
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
}

static void
s_root (void *arg, call_t *call) {
    (void)arg;
    char place[300];
    ef_buf_t none = {0};
    snprintf (place, sizeof place, "%s/docs", call_base (call));
    call_add_header (call, "Location", place);
    call_answer (call, 302, NULL, &none);
}

#define POST(path, summary)                                                                        \
    { "POST", path, ROLE_PUBLISH, false, ROUTE_QUICK, publish_post, summary }
#define OPTIONS(path)                                                                              \
    { "OPTIONS", path, ROLE_NONE, false, ROUTE_QUICK, publish_options, NULL }
#define METRICS                                                                                    \
    { "GET", "/metrics", ROLE_READ, false, ROUTE_BLOCKING, metrics_get, "Numbers for Prometheus" }
#define LISTS                                                                                      \
    {"GET",                                                                                        \
     "/events",                                                                                    \
     ROLE_READ,                                                                                    \
     false,                                                                                        \
     ROUTE_BLOCKING,                                                                               \
     s_events,                                                                                     \
     "Processed events; others by ?state="},                                                       \
    {                                                                                              \
        "GET", "/failed-events", ROLE_READ, false, ROUTE_BLOCKING, s_failed, "Dead letters"        \
    }

static const route_t s_plain[] = {
    POST ("/api/v1/events", "Publishes events: JSON, NDJSON, MessagePack, CloudEvents"),
    POST ("/events", "The same"),
    OPTIONS ("/api/v1/events"),
    OPTIONS ("/events"),
    LISTS,
    METRICS,
    {"GET", "/openapi.json", ROLE_NONE, false, ROUTE_QUICK, openapi_get, "This description"},
    {"GET", "/docs", ROLE_NONE, false, ROUTE_QUICK, openapi_docs, "The same, for people"},
    {"GET", "/docs/style.css", ROLE_NONE, false, ROUTE_QUICK, openapi_style, NULL},
    {"GET", "/", ROLE_NONE, false, ROUTE_QUICK, s_root, NULL},
};

static const route_t s_python[] = {
    POST ("/api/v1/events", "Publishes an event: {\"user_id\", \"event_type\", \"payload\"}"),
    OPTIONS ("/api/v1/events"), LISTS, METRICS};

static const route_t s_node[] = {
    POST ("/events", "Publishes an event: {\"type\", \"payload\"}"),
    OPTIONS ("/events"),
    LISTS,
    {"GET", "/metrics", ROLE_READ, false, ROUTE_BLOCKING, s_node_metrics,
     "Totals: processed, failed, retried"},
};

static const route_t s_queue[] = {POST ("/task", "Publishes an event: {\"type\", \"payload\"}"),
                                  OPTIONS ("/task"), LISTS, METRICS};

#define ROWS(table) table, sizeof (table) / sizeof (table)[0]

static listener_t *
s_add (gateway_t *self, unsigned index, style_t style, const char *name, const char *address) {
    face_t *face = &self->faces[index];
    face->gateway = self;
    face->style = style;
    face->listener = server_listener (self->server, name, address);
    return face->listener;
}

void
faces_add (gateway_t *self) {
    const gateway_options_t *options = self->options;
    const struct {
        style_t style;
        const char *name;
        const char *address;
        const char *otherwise; /* where all are to be opened */
        const route_t *rows;
        size_t count;
    } rows[] = {{STYLE_PYTHON, "python", options->face_python, "8000", ROWS (s_python)},
                {STYLE_NODE, "node", options->face_node, "3000", ROWS (s_node)},
                {STYLE_QUEUE, "queue", options->face_queue, "8085", ROWS (s_queue)}};
    listener_t *main = s_add (self, 0, STYLE_PLAIN, "main", self->web->listen);
    listener_routes (main, ROWS (s_plain), &self->faces[0]);
    api_routes (self->api, main);
    openapi_make (self, main);
    for (unsigned i = 0; i < 3; i++) {
        const char *address = rows[i].address[0] ? rows[i].address
                              : options->compat  ? rows[i].otherwise
                                                 : NULL;
        if (address) {
            listener_t *listener = s_add (self, i + 1, rows[i].style, rows[i].name, address);
            listener_routes (listener, rows[i].rows, rows[i].count, &self->faces[i + 1]);
            api_health_routes (self->api, listener);
        }
    }
}
