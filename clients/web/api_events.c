/* /api/v1/events: looking for events, one event's story, and what an operator may do with it.
   SPDX-License-Identifier: MIT */
#include "api_private.h"

#include <stdio.h>
#include <stdlib.h>

/* What the broker says of an event beside its bytes. */
static int
s_put_rest (ef_buf_t *out, ef_cursor_t item) {
    static const char *const dates[] = {"accepted", "due", "deadline", "ended", NULL};
    static const char *const printed[] = {"event", "history", "topic", "id", "attempts", NULL};
    uint32_t pairs;
    if (ef_get_map (&item, &pairs)) {
        return -1;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        uint64_t ms;
        bool is_printed = false;
        bool is_date = false;
        if (ef_get_str (&item, &key)) {
            return -1;
        }
        for (unsigned k = 0; printed[k]; k++) {
            is_printed = is_printed || ef_span_is (key, printed[k]);
        }
        for (unsigned k = 0; dates[k]; k++) {
            is_date = is_date || ef_span_is (key, dates[k]);
        }
        if (is_printed) {
            if (ef_skip (&item)) {
                return -1;
            }
            continue;
        }
        api_text (out, ",");
        ef_json_string (out, key.data, key.size);
        api_text (out, ":");
        if (is_date && ef_get_uint (&item, &ms) == 0) {
            api_put_date (out, "", ms);
        } else if (ef_json_print (out, &item)) {
            return -1;
        }
    }
    return 0;
}

/* Where the bytes aren't there (being read, or gone): the same form without a payload. */
static int
s_put_bare (ef_buf_t *out, ef_cursor_t item) {
    ef_cursor_t value;
    api_text (out, "{\"id\":");
    if (!ef_map_find (item, "id", &value) || ef_json_print (out, &value)) {
        api_text (out, "null");
    }
    api_text (out, ",\"topic\":");
    if (!ef_map_find (item, "topic", &value) || ef_json_print (out, &value)) {
        api_text (out, "null");
    }
    char text[80];
    snprintf (text, sizeof text, ",\"payload\":null,\"is_loaded\":false,\"attempts\":%llu",
              (unsigned long long)ef_map_uint (item, "attempts"));
    api_text (out, text);
    return 0;
}

int
api_put_event (ef_buf_t *out, ef_cursor_t item) {
    ef_cursor_t bytes;
    ef_cursor_t history;
    ef_event_t event;
    const char *why;
    char id[EF_ID_TEXT];
    bool has_event = ef_map_find (item, "event", &bytes) && ef_peek (&bytes) == EF_TYPE_ARRAY &&
                     ef_event_read (&bytes, &event, &why) == EF_OK;
    if (!has_event) {
        return s_put_bare (out, item) || s_put_rest (out, item) ? -1 : 0;
    }
    ef_span_copy (ef_map_str (item, "id"), id, sizeof id);
    ef_json_extra_t extra = {.id = id[0] ? id : NULL,
                             .accepted_ms = ef_map_uint (item, "accepted"),
                             .attempts = (uint32_t)ef_map_uint (item, "attempts")};
    if (ef_map_find (item, "history", &history) && ef_peek (&history) == EF_TYPE_ARRAY) {
        const uint8_t *start = history.at;
        if (ef_skip (&history) == 0) {
            extra.errors = (ef_span_t){(const char *)start, (uint32_t)(history.at - start)};
        }
    }
    ef_span_t topic = ef_map_str (item, "topic");
    if (event.topic.data == NULL) {
        event.topic = topic; /* routed by the broker */
    }
    if (ef_json_event (out, &event, &extra)) {
        return -1;
    }
    out->size--; /* the closing brace */
    return s_put_rest (out, item);
}

static int
s_put_listed (ef_buf_t *out, ef_cursor_t item) {
    if (api_put_event (out, item)) {
        return -1;
    }
    api_text (out, "}");
    return 0;
}

static void
s_put_option (ef_buf_t *options, uint32_t *pairs, const char *key, const char *value) {
    if (value && value[0]) {
        ef_put_key_str (options, key, value);
        ++*pairs;
    }
}

/* The query's filters as options. -1: the call is answered. */
static int
s_put_filter (call_t *call, const char *state, ef_buf_t *out) {
    static const char *const moments[] = {"since", "until"};
    const char *said = call_query (call, "state");
    ef_buf_t cursor = {0};
    uint32_t pairs = 1;
    uint64_t limit;
    int64_t ms;
    if (api_query_limit (call, &limit) || api_query_cursor (call, &cursor)) {
        return -1;
    }
    size_t mark = ef_put_open (out);
    ef_put_key_uint (out, "limit", limit);
    s_put_option (out, &pairs, "topic", call_query (call, "topic"));
    state = said ? said : state;
    if (state && strcmp (state, "in-flight") == 0) {
        state = "leased";
    }
    s_put_option (out, &pairs, "state", state && strcmp (state, "all") == 0 ? NULL : state);
    s_put_option (out, &pairs, "type", call_query (call, "type"));
    for (unsigned i = 0; i < 2; i++) {
        if (api_query_moment (call, moments[i], &ms)) {
            ef_buf_free (&cursor);
            return -1;
        }
        if (ms >= 0) {
            ef_put_key_uint (out, moments[i], (uint64_t)ms);
            pairs++;
        }
    }
    if (cursor.size > 0) {
        ef_put_str (out, "after");
        ef_buf_put (out, cursor.data, cursor.size);
        pairs++;
    }
    ef_put_close_map (out, mark, pairs);
    ef_buf_free (&cursor);
    return 0;
}

int
api_ask_events (api_t *self, call_t *call, const char *state, ef_buf_t *value) {
    ef_buf_t request = {0};
    api_request (&request, 2, "EVENTS", NULL);
    int rc = s_put_filter (call, state, &request);
    rc = rc ? rc : admin_pool_ask (self->admin, call, &request, value);
    ef_buf_free (&request);
    return rc;
}

static void
s_events (void *arg, call_t *call) {
    ef_buf_t value = {0};
    if (api_ask_events (arg, call, NULL, &value) == 0) {
        api_answer_items (call, &value, s_put_listed);
    }
    ef_buf_free (&value);
}

/* An event's name in a path: its id, or TOPIC#N where the query names no topic. */
static void
s_put_id (call_t *call, ef_buf_t *out) {
    const char *id = call_part (call, 0);
    const char *mark = strrchr (id, '#');
    char *end = NULL;
    uint64_t n = mark ? strtoull (mark + 1, &end, 10) : 0;
    if (mark && mark[1] >= '0' && mark[1] <= '9' && *end == 0 && !call_query (call, "topic") &&
        ef_topic_is_valid (id, (size_t)(mark - id))) {
        ef_put_map (out, 2);
        ef_put_str (out, "topic");
        ef_put_strn (out, id, (size_t)(mark - id));
        ef_put_key_uint (out, "n", n);
    } else {
        ef_put_str (out, id);
    }
}

/* Begins a request about the event of the path; `pairs` more options follow. */
static void
s_about (call_t *call, const char *command, uint32_t pairs, ef_buf_t *out) {
    const char *topic = call_query (call, "topic");
    api_request (out, 3, command, NULL);
    s_put_id (call, out);
    ef_put_map (out, pairs + (topic != NULL));
    if (topic) {
        ef_put_key_str (out, "topic", topic);
    }
}

/* Why it isn't running, of the item with this topic and n. */
static int
s_put_explain (ef_buf_t *out, const ef_buf_t *explained, ef_cursor_t item) {
    static const char *const dates[] = {"until", "since", NULL};
    ef_cursor_t items;
    uint32_t count = 0;
    ef_span_t topic = ef_map_str (item, "topic");
    if (!ef_map_find (ef_cursor (explained->data, explained->size), "items", &items) ||
        ef_get_array (&items, &count)) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        ef_span_t name = ef_map_str (items, "topic");
        if (name.data && topic.data && name.size == topic.size &&
            memcmp (name.data, topic.data, name.size) == 0 &&
            ef_map_uint (items, "n") == ef_map_uint (item, "n")) {
            api_text (out, ",\"explain\":");
            return api_put_map (out, items, dates);
        }
        if (ef_skip (&items)) {
            return 0;
        }
    }
    return 0;
}

static int
s_put_story (ef_buf_t *out, const ef_buf_t *value, const ef_buf_t *explained) {
    ef_cursor_t items;
    uint32_t count = 0;
    if (!ef_map_find (ef_cursor (value->data, value->size), "items", &items) ||
        ef_get_array (&items, &count)) {
        return -1;
    }
    api_text (out, "{\"items\":[");
    for (uint32_t i = 0; i < count; i++) {
        ef_cursor_t history;
        api_text (out, i > 0 ? "," : "");
        if (api_put_event (out, items)) {
            return -1;
        }
        if (ef_map_find (items, "history", &history)) {
            api_text (out, ",\"history\":");
            if (api_put_attempts (out, history)) {
                return -1;
            }
        }
        if (s_put_explain (out, explained, items)) {
            return -1;
        }
        api_text (out, "}");
        if (ef_skip (&items)) {
            return -1;
        }
    }
    api_text (out, "],\"next\":null}\n");
    return 0;
}

static void
s_event (void *arg, call_t *call) {
    api_t *self = arg;
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    ef_buf_t explained = {0};
    ef_buf_t out = {0};
    s_about (call, "EVENT.SHOW", 0, &request);
    if (admin_pool_ask (self->admin, call, &request, &value) == 0) {
        ef_buf_clear (&request);
        s_about (call, "EVENT.EXPLAIN", 0, &request);
        /* It may have ended in between: then there is nothing to explain. */
        (void)admin_pool_call (self->admin, &request, &explained, NULL);
        if (s_put_story (&out, &value, &explained)) {
            ef_buf_free (&out);
            problem_answer (call, "INTERNAL", "the broker's answer can't be read");
        } else {
            call_answer (call, 200, "application/json", &out);
        }
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    ef_buf_free (&explained);
}

/* Asks for an act on the event of the path, with the option in `more` (a key and a value). */
static void
s_act (api_t *self, call_t *call, const char *command, const ef_buf_t *more) {
    ef_buf_t request = {0};
    call_note (call, "%s id=%s", command, call_part (call, 0));
    s_about (call, command, more ? 1 : 0, &request);
    if (more) {
        ef_buf_put (&request, more->data, more->size);
    }
    api_pass_map (self, call, &request, NULL);
}

static void
s_cancel (void *arg, call_t *call) {
    s_act (arg, call, "EVENT.CANCEL", NULL);
}

static void
s_run_now (void *arg, call_t *call) {
    s_act (arg, call, "EVENT.RUN", NULL);
}

/* {"delay": "5m" or ms} or {"at": date or ms}. */
static int
s_read_when (const ef_buf_t *body, ef_buf_t *more) {
    ef_cursor_t root = ef_cursor (body->data, body->size);
    ef_cursor_t value;
    ef_span_t text;
    int64_t ms = -1;
    uint64_t number;
    bool is_delay = ef_map_find (root, "delay", &value);
    if (!is_delay && !ef_map_find (root, "at", &value)) {
        return -1;
    }
    if (ef_get_uint (&value, &number) == 0) {
        ms = number < INT64_MAX ? (int64_t)number : -1;
    } else if (ef_get_str (&value, &text) ||
               (is_delay ? ef_duration_parse (text.data, text.size, &ms)
                         : ef_rfc3339_parse (text.data, text.size, &ms))) {
        return -1;
    }
    if (ms < 0) {
        return -1;
    }
    ef_put_key_uint (more, is_delay ? "delay" : "at", (uint64_t)ms);
    return 0;
}

static void
s_delay (void *arg, call_t *call) {
    ef_buf_t body = {0};
    ef_buf_t more = {0};
    if (api_body (call, &body) == 0) {
        if (s_read_when (&body, &more)) {
            problem_answer (call, "BAD_REQUEST",
                            "expected {\"delay\": \"5m\"} or {\"at\": \"2025-01-31T12:00:00Z\"}");
        } else {
            s_act (arg, call, "EVENT.DELAY", &more);
        }
    }
    ef_buf_free (&body);
    ef_buf_free (&more);
}

static void
s_release (void *arg, call_t *call) {
    ef_buf_t body = {0};
    ef_buf_t more = {0};
    if (api_body (call, &body) == 0) {
        ef_span_t to = ef_map_str (ef_cursor (body.data, body.size), "to");
        if (to.data) {
            ef_put_str (&more, "to");
            ef_put_strn (&more, to.data, to.size);
        }
        s_act (arg, call, "EVENT.RELEASE", to.data ? &more : NULL);
    }
    ef_buf_free (&body);
    ef_buf_free (&more);
}

#define ACT_ROW(path, run, summary)                                                                \
    { "POST", path, ROLE_ADMINISTER, true, ROUTE_BLOCKING, run, summary }

const route_t api_event_rows[] = {
    {"GET", "/api/v1/events", ROLE_READ, false, ROUTE_BLOCKING, s_events,
     "Events by ?topic= &state= &type= &since= &until= &limit= &cursor="},
    {"GET", "/api/v1/events/{id}", ROLE_READ, false, ROUTE_BLOCKING, s_event,
     "An event's story, and why it isn't running (?topic= where its id is in several)"},
    ACT_ROW ("/api/v1/events/{id}/cancel", s_cancel, "Takes a waiting event away"),
    ACT_ROW ("/api/v1/events/{id}/run-now", s_run_now, "It waits no longer"),
    ACT_ROW ("/api/v1/events/{id}/delay", s_delay, "It waits: {\"delay\": \"5m\"} or {\"at\"}"),
    ACT_ROW ("/api/v1/events/{id}/release", s_release,
             "Takes it from its worker, uncounted; {\"to\"} another one"),
};
const size_t api_event_count = sizeof api_event_rows / sizeof api_event_rows[0];
