/* The broker's answers as JSON, and what requests say. SPDX-License-Identifier: MIT */
#include "api_private.h"

#include <stdio.h>
#include <stdlib.h>

void
api_text (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

void
api_put_date (ef_buf_t *out, const char *key, uint64_t ms) {
    char date[25];
    api_text (out, key);
    if (ms == 0) {
        api_text (out, "null");
        return;
    }
    ef_rfc3339 (ms, date);
    ef_json_string (out, date, 24);
}

static bool
s_is_date (ef_span_t key, const char *const *dates) {
    for (; dates && *dates; dates++) {
        if (ef_span_is (key, *dates)) {
            return true;
        }
    }
    return false;
}

int
api_put_members (ef_buf_t *out, ef_cursor_t map, const char *const *dates) {
    uint32_t pairs;
    if (ef_peek (&map) != EF_TYPE_MAP || ef_get_map (&map, &pairs)) {
        return -1;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        uint64_t ms;
        if (ef_get_str (&map, &key)) {
            return -1;
        }
        api_text (out, ",");
        ef_json_string (out, key.data, key.size);
        api_text (out, ":");
        if (s_is_date (key, dates) && ef_get_uint (&map, &ms) == 0) {
            api_put_date (out, "", ms);
        } else if (ef_json_print (out, &map)) {
            return -1;
        }
    }
    return 0;
}

int
api_put_map (ef_buf_t *out, ef_cursor_t map, const char *const *dates) {
    size_t start = out->size;
    if (api_put_members (out, map, dates)) {
        out->size = start;
        return -1;
    }
    if (out->size == start) {
        api_text (out, "{");
    } else {
        out->data[start] = '{'; /* in place of the first comma */
    }
    api_text (out, "}");
    return 0;
}

static void
s_unreadable (call_t *call, ef_buf_t *out) {
    ef_buf_free (out);
    problem_answer (call, "INTERNAL", "the broker's answer can't be read");
}

/* A cursor as text that nobody needs to understand: its MessagePack in hexadecimal. */
static void
s_put_cursor (ef_buf_t *out, ef_cursor_t map) {
    static const char digits[] = "0123456789abcdef";
    ef_cursor_t value;
    if (!ef_map_find (map, "next", &value) || ef_peek (&value) == EF_TYPE_NIL) {
        api_text (out, "null");
        return;
    }
    const uint8_t *start = value.at;
    if (ef_skip (&value)) {
        api_text (out, "null");
        return;
    }
    api_text (out, "\"");
    for (const uint8_t *at = start; at < value.at; at++) {
        const char pair[2] = {digits[*at >> 4], digits[*at & 15]};
        ef_buf_put (out, pair, 2);
    }
    api_text (out, "\"");
}

void
api_answer_items (call_t *call, const ef_buf_t *value,
                  int (*put) (ef_buf_t *out, ef_cursor_t item)) {
    ef_cursor_t root = ef_cursor (value->data, value->size);
    ef_cursor_t items;
    uint32_t count = 0;
    ef_buf_t out = {0};
    bool is_well = ef_map_find (root, "items", &items) && ef_get_array (&items, &count) == 0;
    api_text (&out, "{\"items\":[");
    for (uint32_t i = 0; is_well && i < count; i++) {
        api_text (&out, i > 0 ? "," : "");
        is_well = put (&out, items) == 0 && ef_skip (&items) == 0;
    }
    if (!is_well) {
        s_unreadable (call, &out);
        return;
    }
    api_text (&out, "],\"next\":");
    s_put_cursor (&out, root);
    api_text (&out, "}\n");
    call_answer (call, 200, "application/json", &out);
}

static void
s_answer_map (call_t *call, const ef_buf_t *value, const char *const *dates) {
    ef_buf_t out = {0};
    if (api_put_map (&out, ef_cursor (value->data, value->size), dates)) {
        s_unreadable (call, &out);
        return;
    }
    api_text (&out, "\n");
    call_answer (call, 200, "application/json", &out);
}

void
api_pass_items (api_t *self, call_t *call, ef_buf_t *request,
                int (*put) (ef_buf_t *out, ef_cursor_t item)) {
    ef_buf_t value = {0};
    if (admin_pool_ask (self->admin, call, request, &value) == 0) {
        api_answer_items (call, &value, put);
    }
    ef_buf_free (request);
    ef_buf_free (&value);
}

void
api_pass_map (api_t *self, call_t *call, ef_buf_t *request, const char *const *dates) {
    ef_buf_t value = {0};
    if (admin_pool_ask (self->admin, call, request, &value) == 0) {
        s_answer_map (call, &value, dates);
    }
    ef_buf_free (request);
    ef_buf_free (&value);
}

/* [code, text, trace, ms, worker, …], without the closing brace; `at` ends behind the fifth. */
static int
s_put_attempt (ef_buf_t *out, ef_cursor_t *at, uint32_t *fields) {
    static const char *const keys[] = {"{\"status_code\":", ",\"message\":", ",\"stack_trace\":"};
    uint64_t ms = 0;
    if (ef_get_array (at, fields) || *fields < 5) {
        return -1;
    }
    for (unsigned i = 0; i < 3; i++) {
        api_text (out, keys[i]);
        if (ef_json_print (out, at)) {
            return -1;
        }
    }
    if (ef_get_uint (at, &ms)) {
        return -1;
    }
    api_put_date (out, ",\"date\":", ms);
    api_text (out, ",\"worker\":");
    return ef_json_print (out, at);
}

int
api_put_error (ef_buf_t *out, ef_cursor_t error) {
    uint32_t fields;
    if (s_put_attempt (out, &error, &fields)) {
        return -1;
    }
    api_text (out, "}");
    return 0;
}

int
api_put_attempts (ef_buf_t *out, ef_cursor_t attempts) {
    static const char *const dates[] = {"start", NULL};
    uint32_t count = 0;
    if (ef_peek (&attempts) == EF_TYPE_ARRAY && ef_get_array (&attempts, &count)) {
        return -1;
    }
    api_text (out, "[");
    for (uint32_t i = 0; i < count; i++) {
        uint32_t fields;
        api_text (out, i > 0 ? "," : "");
        if (s_put_attempt (out, &attempts, &fields)) {
            return -1;
        }
        for (uint32_t k = 5; k < fields; k++) {
            ef_cursor_t more = attempts;
            if ((k == 5 && api_put_members (out, more, dates)) || ef_skip (&attempts)) {
                return -1;
            }
        }
        api_text (out, "}");
    }
    api_text (out, "]");
    return 0;
}

void
api_request (ef_buf_t *out, uint32_t items, const char *command, const char *first) {
    ef_buf_clear (out);
    ef_put_array (out, items);
    ef_put_str (out, command);
    if (first) {
        ef_put_str (out, first);
    }
}

int
api_body (call_t *call, ef_buf_t *object) {
    size_t size;
    const char *text = call_body (call, &size);
    const char *why = NULL;
    if (size == 0) {
        ef_put_map (object, 0);
        return 0;
    }
    size_t used = ef_json_parse (object, text, size, &why);
    ef_cursor_t cursor = ef_cursor (object->data, object->size);
    if (used < size || ef_peek (&cursor) != EF_TYPE_MAP) {
        problem_answer (call, "BAD_REQUEST", "the body: expected %s",
                        used == 0 ? why : "one JSON object");
        return -1;
    }
    return 0;
}

int
api_query_limit (call_t *call, uint64_t *limit) {
    const char *text = call_query (call, "limit");
    char *end;
    *limit = API_LIMIT_DEFAULT;
    if (text == NULL) {
        return 0;
    }
    *limit = strtoull (text, &end, 10);
    if (*end || end == text || text[0] == '-' || *limit < 1 || *limit > API_LIMIT_MAX) {
        problem_answer (call, "BAD_REQUEST", "limit: expected a number from 1 to %d",
                        API_LIMIT_MAX);
        return -1;
    }
    return 0;
}

int
api_query_cursor (call_t *call, ef_buf_t *cursor) {
    const char *text = call_query (call, "cursor");
    size_t size = text ? strlen (text) : 0;
    bool is_well = size % 2 == 0 && size < 2000;
    for (size_t i = 0; i + 1 < size && is_well; i += 2) {
        int high = ef_hex_digit (text[i]);
        int low = ef_hex_digit (text[i + 1]);
        is_well = high >= 0 && low >= 0;
        *ef_buf_add (cursor, 1) = is_well ? (uint8_t)(high << 4 | low) : 0;
    }
    ef_cursor_t value = ef_cursor (cursor->data, cursor->size);
    if (!is_well || (size > 0 && (ef_skip (&value) || ef_cursor_left (&value) > 0))) {
        ef_buf_free (cursor);
        problem_answer (call, "BAD_REQUEST", "cursor: expected what an answer's next was");
        return -1;
    }
    return 0;
}

int
api_query_moment (call_t *call, const char *name, int64_t *ms) {
    const char *text = call_query (call, name);
    *ms = -1;
    if (text == NULL) {
        return 0;
    }
    size_t size = strlen (text);
    bool is_number = size > 0 && strspn (text, "0123456789") == size;
    if (ef_rfc3339_parse (text, size, ms) == 0) {
        return 0;
    }
    int64_t ago;
    if (ef_duration_parse (text, size, &ago) == 0) {
        int64_t now = (int64_t)ef_wall_ms ();
        *ms = is_number ? ago : now > ago ? now - ago : 0;
        return 0;
    }
    problem_answer (call, "BAD_REQUEST",
                    "%s: expected a date as 2025-01-31T12:00:00Z, ms since 1970, or how long ago "
                    "as 15m",
                    name);
    return -1;
}

int
api_read_rate (ef_cursor_t value, double *rate) {
    static const struct {
        const char *unit;
        double per;
    } units[] = {{"", 1}, {"/s", 1}, {"/m", 60}, {"/h", 3600}};
    ef_span_t text;
    uint64_t number;
    char copy[40];
    char *end;
    if (ef_get_uint (&value, &number) == 0) {
        *rate = (double)number;
        return number > 0 ? 0 : -1;
    }
    if (ef_get_double (&value, rate) == 0) {
        return *rate > 0 && *rate < 1e9 ? 0 : -1;
    }
    if (ef_get_str (&value, &text) || text.size == 0 || text.size >= sizeof copy) {
        return -1;
    }
    ef_span_copy (text, copy, sizeof copy);
    *rate = strtod (copy, &end);
    for (size_t i = 0; end > copy && i < sizeof units / sizeof units[0]; i++) {
        if (strcmp (end, units[i].unit) == 0) {
            *rate /= units[i].per;
            return *rate > 0 && *rate < 1e9 ? 0 : -1;
        }
    }
    return -1;
}
