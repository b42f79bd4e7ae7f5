/* /api/v1/topics, /workers, /pools, /breakers. SPDX-License-Identifier: MIT */
#include "api_private.h"

#include <stdio.h>

static int
s_put_topic (ef_buf_t *out, ef_cursor_t item) {
    return api_put_map (out, item, NULL);
}

static int
s_put_worker (ef_buf_t *out, ef_cursor_t item) {
    static const char *const dates[] = {"started", NULL};
    return api_put_map (out, item, dates);
}

static int
s_put_pool (ef_buf_t *out, ef_cursor_t item) {
    static const char *const dates[] = {"changed", NULL};
    return api_put_map (out, item, dates);
}

static int
s_put_decision (ef_buf_t *out, ef_cursor_t item) {
    static const char *const dates[] = {"time", NULL};
    return api_put_map (out, item, dates);
}

static int
s_put_key (ef_buf_t *out, ef_cursor_t item) {
    static const char *const dates[] = {"since", NULL};
    return api_put_map (out, item, dates);
}

static void
s_list (api_t *self, call_t *call, const char *command,
        int (*put) (ef_buf_t *out, ef_cursor_t item)) {
    ef_buf_t request = {0};
    api_request (&request, 1, command, NULL);
    api_pass_items (self, call, &request, put);
}

static void
s_topics (void *arg, call_t *call) {
    s_list (arg, call, "TOPICS", s_put_topic);
}

static void
s_workers (void *arg, call_t *call) {
    s_list (arg, call, "WORKERS", s_put_worker);
}

static void
s_pools (void *arg, call_t *call) {
    s_list (arg, call, "POOLS", s_put_pool);
}

static void
s_topic (void *arg, call_t *call) {
    ef_buf_t request = {0};
    api_request (&request, 2, "TOPIC.INFO", call_part (call, 0));
    api_pass_map (arg, call, &request, NULL);
}

/* A list that belongs to a topic and comes in pages. */
static void
s_pages (api_t *self, call_t *call, const char *command,
         int (*put) (ef_buf_t *out, ef_cursor_t item)) {
    ef_buf_t request = {0};
    ef_buf_t cursor = {0};
    uint64_t limit;
    if (api_query_limit (call, &limit) == 0 && api_query_cursor (call, &cursor) == 0) {
        api_request (&request, 3, command, call_part (call, 0));
        ef_put_map (&request, cursor.size > 0 ? 2 : 1);
        ef_put_key_uint (&request, "limit", limit);
        if (cursor.size > 0) {
            ef_put_str (&request, "after");
            ef_buf_put (&request, cursor.data, cursor.size);
        }
        api_pass_items (self, call, &request, put);
    }
    ef_buf_free (&cursor);
}

static void
s_keys (void *arg, call_t *call) {
    s_pages (arg, call, "TOPIC.KEYS", s_put_key);
}

static void
s_pool_history (void *arg, call_t *call) {
    s_pages (arg, call, "POOL.HISTORY", s_put_decision);
}

/* An act on a topic: a command and the topic's name, perhaps with more behind it. */
static void
s_act (api_t *self, call_t *call, const char *command, const ef_buf_t *more) {
    ef_buf_t request = {0};
    call_note (call, "%s topic=%s", command, call_part (call, 0));
    api_request (&request, more ? 3 : 2, command, call_part (call, 0));
    if (more) {
        ef_buf_put (&request, more->data, more->size);
    }
    api_pass_map (self, call, &request, NULL);
}

static void
s_pause (void *arg, call_t *call) {
    s_act (arg, call, "PAUSE", NULL);
}

static void
s_resume (void *arg, call_t *call) {
    s_act (arg, call, "RESUME", NULL);
}

static void
s_drain (void *arg, call_t *call) {
    s_act (arg, call, "DRAIN", NULL);
}

static void
s_purge (void *arg, call_t *call) {
    s_act (arg, call, "PURGE", NULL);
}

static void
s_unpark (void *arg, call_t *call) {
    ef_buf_t body = {0};
    ef_buf_t more = {0};
    if (api_body (call, &body) == 0) {
        ef_cursor_t key;
        if (ef_map_find (ef_cursor (body.data, body.size), "key", &key)) {
            const uint8_t *start = key.at;
            int rc = ef_skip (&key);
            ef_assert (rc == 0); /* our own parser wrote it */
            ef_buf_put (&more, start, (size_t)(key.at - start));
        } else {
            ef_put_nil (&more);
        }
        s_act (arg, call, "TOPIC.UNPARK", &more);
    }
    ef_buf_free (&body);
    ef_buf_free (&more);
}

/* Numbers or null of a body, copied as options. -1: the call is answered. */
static int
s_pool_options (call_t *call, const ef_buf_t *body, ef_buf_t *options) {
    static const char *const keys[] = {"min", "max", "scale"};
    uint32_t pairs = 0;
    size_t mark = ef_put_open (options);
    for (unsigned i = 0; i < 3; i++) {
        ef_cursor_t value;
        uint64_t number;
        if (!ef_map_find (ef_cursor (body->data, body->size), keys[i], &value)) {
            continue;
        }
        ef_put_str (options, keys[i]);
        if (ef_peek (&value) == EF_TYPE_NIL) {
            ef_put_nil (options);
        } else if (ef_get_uint (&value, &number) == 0 && number <= 1000) {
            ef_put_uint (options, number);
        } else {
            problem_answer (call, "BAD_REQUEST",
                            "%s: expected a number from 0 to 1000, or null for what is configured",
                            keys[i]);
            return -1;
        }
        pairs++;
    }
    if (pairs == 0) {
        problem_answer (call, "BAD_REQUEST",
                        "expected {\"min\", \"max\", \"scale\"}, one at least");
        return -1;
    }
    ef_put_close_map (options, mark, pairs);
    return 0;
}

static void
s_pool_set (void *arg, call_t *call) {
    ef_buf_t body = {0};
    ef_buf_t options = {0};
    if (api_body (call, &body) == 0 && s_pool_options (call, &body, &options) == 0) {
        s_act (arg, call, "POOL.SET", &options);
    }
    ef_buf_free (&body);
    ef_buf_free (&options);
}

static void
s_breaker (void *arg, call_t *call, const char *downstream) {
    static const char *const dates[] = {"until", NULL};
    ef_buf_t body = {0};
    ef_buf_t request = {0};
    if (api_body (call, &body) == 0) {
        ef_span_t state = ef_map_str (ef_cursor (body.data, body.size), "state");
        if (!state.data || !(ef_span_is (state, "open") || ef_span_is (state, "closed") ||
                             ef_span_is (state, "auto"))) {
            problem_answer (call, "BAD_REQUEST", "state: expected open, closed or auto");
        } else {
            call_note (call, "BREAKER.SET topic=%s downstream=%s state=%.*s", call_part (call, 0),
                       downstream ? downstream : "", (int)state.size, state.data);
            api_request (&request, 4, "BREAKER.SET", call_part (call, 0));
            ef_put_str (&request, downstream);
            ef_put_strn (&request, state.data, state.size);
            api_pass_map (arg, call, &request, dates);
        }
    }
    ef_buf_free (&body);
}

static void
s_breaker_own (void *arg, call_t *call) {
    s_breaker (arg, call, NULL);
}

static void
s_breaker_of (void *arg, call_t *call) {
    s_breaker (arg, call, call_part (call, 1));
}

#define READ_ROW(path, run, summary)                                                               \
    { "GET", path, ROLE_READ, false, ROUTE_BLOCKING, run, summary }
#define ACT_ROW(path, run, summary)                                                                \
    { "POST", path, ROLE_ADMINISTER, true, ROUTE_BLOCKING, run, summary }

const route_t api_topic_rows[] = {
    READ_ROW ("/api/v1/topics", s_topics, "Topics with their numbers"),
    READ_ROW ("/api/v1/topics/{name}", s_topic, "A topic: settings, numbers, breakers, quota"),
    READ_ROW ("/api/v1/topics/{name}/keys", s_keys, "Keys that are held up"),
    ACT_ROW ("/api/v1/topics/{name}/pause", s_pause, "Delivers nothing more"),
    ACT_ROW ("/api/v1/topics/{name}/resume", s_resume, "Ends pause and drain"),
    ACT_ROW ("/api/v1/topics/{name}/drain", s_drain, "Takes nothing new"),
    ACT_ROW ("/api/v1/topics/{name}/purge", s_purge, "Throws away what waits"),
    ACT_ROW ("/api/v1/topics/{name}/unpark", s_unpark,
             "Lets a parked key go on: {\"key\"}; without one, all"),
    READ_ROW ("/api/v1/workers", s_workers, "Workers with their numbers"),
    READ_ROW ("/api/v1/pools", s_pools, "Pools of workers that the broker starts"),
    READ_ROW ("/api/v1/pools/{name}/history", s_pool_history, "What the scaler decided, and why"),
    ACT_ROW ("/api/v1/pools/{name}", s_pool_set,
             "Bounds and size: {\"min\", \"max\", \"scale\"}; null: as configured"),
    ACT_ROW ("/api/v1/breakers/{topic}", s_breaker_own,
             "The topic's own breaker: {\"state\": open, closed or auto}"),
    ACT_ROW ("/api/v1/breakers/{topic}/{downstream}", s_breaker_of,
             "The breaker of a downstream: {\"state\": open, closed or auto}"),
};
const size_t api_topic_count = sizeof api_topic_rows / sizeof api_topic_rows[0];
