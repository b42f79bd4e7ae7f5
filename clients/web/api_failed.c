/* /api/v1/failed-events and /tasks. SPDX-License-Identifier: MIT */
#include "api_private.h"

#include <stdio.h>
#include <stdlib.h>

#define FAILED_SCANNED 20000 /* letters looked at for one answer; the rest is behind its cursor */
#define FAILED_BYTES   (8u << 20) /* of an answer; one letter more may be in it */

static int
s_text_filter (call_t *call, const char *name, const char *value, char *out, size_t size) {
    if (value && strlen (value) >= size) {
        problem_answer (call, "BAD_REQUEST", "%s: expected up to %zu bytes", name, size - 1);
        return -1;
    }
    snprintf (out, size, "%s", value ? value : "");
    return 0;
}

/* The filter of a query. -1: the call is answered. */
static int
s_query_filter (call_t *call, letters_filter_t *filter) {
    *filter = (letters_filter_t){.since_ms = -1, .until_ms = -1};
#define TEXT(name, member)                                                                         \
    s_text_filter (call, name, call_query (call, name), filter->member, sizeof filter->member)
    if (TEXT ("topic", topic) || TEXT ("reason", reason) || TEXT ("error", error) ||
        TEXT ("type", type) || TEXT ("q", words)) {
        return -1;
    }
#undef TEXT
    return api_query_moment (call, "since", &filter->since_ms) ||
                   api_query_moment (call, "until", &filter->until_ms)
               ? -1
               : 0;
}

/* ---- the list ---- */

typedef struct {
    api_t *api;
    ef_buf_t out;
    const char *topic;
    uint64_t limit;
    uint64_t count;
    bool is_whole;
} list_t;

/* "event" and all errors, as SHOW tells them; false: it has gone in the meantime. */
static bool
s_put_whole (list_t *self, uint64_t n, const ef_buf_t *more) {
    ef_buf_t value = {0};
    ef_cursor_t errors;
    ef_cursor_t bytes;
    ef_event_t event;
    const char *why;
    size_t start = self->out.size;
    bool is_there = letters_show (self->api->admin, self->topic, n, &value, NULL) == NULL;
    ef_cursor_t root = ef_cursor (value.data, value.size);
    if (is_there && ef_map_find (root, "event", &bytes) &&
        ef_event_read (&bytes, &event, &why) == EF_OK) {
        ef_json_extra_t extra = {.accepted_ms = ef_map_uint (root, "accepted"),
                                 .attempts = (uint32_t)ef_map_uint (root, "attempts")};
        if (ef_map_find (root, "errors", &errors) && ef_peek (&errors) == EF_TYPE_ARRAY) {
            const uint8_t *at = errors.at;
            if (ef_skip (&errors) == 0) {
                extra.errors = (ef_span_t){(const char *)at, (uint32_t)(errors.at - at)};
            }
        }
        if (event.topic.data == NULL) {
            event.topic = (ef_span_t){self->topic, (uint32_t)strlen (self->topic)};
        }
        api_text (&self->out, "{\"event\":");
        is_there = ef_json_event (&self->out, &event, &extra) == 0;
        ef_buf_put (&self->out, more->data, more->size);
        api_text (&self->out, ",\"error\":");
        ef_cursor_t list = ef_cursor (extra.errors.data, extra.errors.size);
        is_there = is_there && api_put_attempts (&self->out, list) == 0;
        api_text (&self->out, "}");
    } else {
        is_there = false;
    }
    if (!is_there) {
        self->out.size = start;
    }
    ef_buf_free (&value);
    return is_there;
}

/* What both forms have: topic, n, reason, …, without braces, each behind a comma. */
static void
s_put_common (list_t *self, ef_cursor_t item, ef_buf_t *out) {
    char text[100];
    ef_cursor_t value;
    ef_event_t event = {.fields = 0};
    const char *why;
    static const char *const keys[] = {"reason", "id", "type"};
    bool has_event = ef_map_find (item, "event", &value) && /* then its id and type stand there */
                     ef_event_read (&value, &event, &why) == EF_OK;
    api_text (out, ",\"topic\":");
    ef_json_string (out, self->topic, strlen (self->topic));
    snprintf (text, sizeof text, ",\"n\":%llu,\"attempts\":%llu",
              (unsigned long long)ef_map_uint (item, "n"),
              (unsigned long long)ef_map_uint (item, "attempts"));
    api_text (out, text);
    for (unsigned i = 0; i < 3; i++) {
        snprintf (text, sizeof text, ",\"%s\":", keys[i]);
        api_text (out, text);
        const ef_span_t inside[] = {{NULL, 0}, event.id, event.type};
        if (has_event && inside[i].data) {
            ef_json_string (out, inside[i].data, inside[i].size);
        } else if (!ef_map_find (item, keys[i], &value) || ef_json_print (out, &value)) {
            api_text (out, "null");
        }
    }
    api_put_date (out, ",\"timestamp\":", ef_map_uint (item, "dead"));
    if (ef_map_find (item, "superseded", &value)) {
        size_t before = out->size;
        api_text (out, ",\"superseded\":");
        if (ef_json_print (out, &value)) {
            out->size = before;
        }
    }
}

static bool
s_each (void *arg, ef_cursor_t item, uint64_t m) {
    list_t *self = arg;
    ef_buf_t common = {0};
    ef_cursor_t error;
    (void)m;
    size_t start = self->out.size;
    api_text (&self->out, self->count > 0 ? "," : "");
    s_put_common (self, item, &common);
    bool is_there = true;
    if (self->is_whole) {
        is_there = s_put_whole (self, ef_map_uint (item, "n"), &common);
    } else {
        common.data[0] = '{';
        ef_buf_put (&self->out, common.data, common.size);
        api_text (&self->out, ",\"error\":[");
        if (ef_map_find (item, "error", &error) && ef_peek (&error) == EF_TYPE_ARRAY) {
            is_there = api_put_error (&self->out, error) == 0;
        }
        api_text (&self->out, "]}");
    }
    if (!is_there) {
        self->out.size = start;
    }
    ef_buf_free (&common);
    self->count += is_there;
    return self->count < self->limit && self->out.size < FAILED_BYTES;
}

/* "TOPIC:M" of the last answer's next. -1: the call is answered. */
static int
s_read_cursor (call_t *call, char topic[64], uint64_t *after) {
    const char *text = call_query (call, "cursor");
    const char *colon = text ? strrchr (text, ':') : NULL;
    char *end = NULL;
    topic[0] = 0;
    *after = 0;
    if (text == NULL) {
        return 0;
    }
    *after = colon ? strtoull (colon + 1, &end, 10) : 0;
    if (colon == NULL || colon - text >= 64 || *end || end == colon + 1) {
        problem_answer (call, "BAD_REQUEST", "cursor: expected what an answer's next was");
        return -1;
    }
    memcpy (topic, text, (size_t)(colon - text));
    topic[colon - text] = 0;
    return 0;
}

/* Walks the topics from the cursor on. NULL or the code; `next` is filled where more may follow. */
static const char *
s_walk (list_t *self, const letters_filter_t *filter, char from[64], uint64_t after, ef_buf_t *next,
        char *text) {
    ef_buf_t names = {0};
    uint32_t scanned = 0;
    const char *code = letters_topics (self->api->admin, filter, &names, text);
    const char *name = (const char *)names.data;
    while (code == NULL && from[0] && *name && strcmp (name, from) != 0) {
        name += strlen (name) + 1;
    }
    for (; code == NULL && *name; name += strlen (name) + 1) {
        letters_page_t page = {.filter = filter, .after = after, .each = s_each, .arg = self};
        self->topic = name;
        after = 0;
        do {
            code = letters_page (self->api->admin, name, &page, text);
            scanned += 500;
        } while (code == NULL && page.after && !page.is_stopped && scanned < FAILED_SCANNED);
        if (page.is_stopped || (page.after && scanned >= FAILED_SCANNED)) {
            const char *further = page.after ? name : name + strlen (name) + 1;
            if (code == NULL && *further) {
                char number[32];
                snprintf (number, sizeof number, ":%llu", (unsigned long long)page.after);
                api_text (next, further);
                api_text (next, number);
            }
            break;
        }
    }
    ef_buf_free (&names);
    return code;
}

void
api_answer_failed (api_t *self, call_t *call, bool is_whole) {
    char text[512];
    char from[64];
    uint64_t after;
    letters_filter_t filter;
    list_t list = {.api = self, .is_whole = is_whole};
    ef_buf_t next = {0};
    if (api_query_limit (call, &list.limit) || s_query_filter (call, &filter) ||
        s_read_cursor (call, from, &after)) {
        return;
    }
    api_text (&list.out, "{\"items\":[");
    const char *code = s_walk (&list, &filter, from, after, &next, text);
    if (code) {
        ef_buf_free (&list.out);
        problem_answer (call, code, "%s", text);
    } else {
        api_text (&list.out, "],\"next\":");
        if (next.size > 0) {
            ef_json_string (&list.out, (const char *)next.data, next.size);
        } else {
            api_text (&list.out, "null");
        }
        api_text (&list.out, "}\n");
        call_answer (call, 200, "application/json", &list.out);
    }
    ef_buf_free (&next);
}

static void
s_list (void *arg, call_t *call) {
    const char *whole = call_query (call, "full");
    api_answer_failed (arg, call, whole && strcmp (whole, "1") == 0);
}

/* ---- one letter ---- */

/* The number in a path. -1: the call is answered. */
static int
s_number (call_t *call, uint64_t *n) {
    const char *text = call_part (call, 1);
    char *end;
    *n = strtoull (text, &end, 10);
    if (*end || text[0] < '0' || text[0] > '9') {
        problem_answer (call, "BAD_REQUEST", "expected the number of a dead letter");
        return -1;
    }
    return 0;
}

static void
s_show (void *arg, call_t *call) {
    api_t *self = arg;
    char text[512];
    uint64_t n;
    ef_buf_t value = {0};
    ef_buf_t common = {0};
    list_t list = {.api = self, .topic = call_part (call, 0), .is_whole = true};
    if (s_number (call, &n)) {
        return;
    }
    const char *code = letters_show (self->admin, list.topic, n, &value, text);
    if (code == NULL) {
        s_put_common (&list, ef_cursor (value.data, value.size), &common);
        code = s_put_whole (&list, n, &common) ? NULL : "NOT_FOUND";
        snprintf (text, sizeof text, "it has gone in the meantime");
    }
    if (code) {
        ef_buf_free (&list.out);
        problem_answer (call, code, "%s", text);
    } else {
        api_text (&list.out, "\n");
        call_answer (call, 200, "application/json", &list.out);
    }
    ef_buf_free (&value);
    ef_buf_free (&common);
}

/* ---- acting on many ---- */

typedef struct {
    letters_filter_t filter;
    uint64_t *numbers; /* owned */
    uint32_t count;
    double rate;
    bool is_dry;
} order_t;

static int
s_bad (call_t *call, const char *what) {
    problem_answer (call, "BAD_REQUEST", "%s", what);
    return -1;
}

static int
s_read_numbers (call_t *call, ef_cursor_t list, order_t *order) {
    uint32_t count;
    if (ef_get_array (&list, &count) || count > 65536) {
        return s_bad (call, "n: expected an array of up to 65536 numbers");
    }
    order->numbers = calloc (count ? count : 1, sizeof *order->numbers);
    ef_assert (order->numbers != NULL);
    order->count = count;
    for (uint32_t i = 0; i < count; i++) {
        if (ef_get_uint (&list, &order->numbers[i])) {
            return s_bad (call, "n: expected an array of up to 65536 numbers");
        }
    }
    return 0;
}

/* One member of a filter in a body. */
static int
s_take_filter (call_t *call, ef_span_t key, ef_cursor_t value, letters_filter_t *filter) {
    const struct {
        const char *name;
        char *out;
        size_t size;
    } texts[] = {{"reason", filter->reason, sizeof filter->reason},
                 {"error", filter->error, sizeof filter->error},
                 {"type", filter->type, sizeof filter->type},
                 {"q", filter->words, sizeof filter->words}};
    ef_span_t text;
    uint64_t ms;
    for (unsigned i = 0; i < 4; i++) {
        if (ef_span_is (key, texts[i].name)) {
            if (ef_get_str (&value, &text) || text.size >= texts[i].size) {
                return s_bad (call, "filter: expected short texts");
            }
            ef_span_copy (text, texts[i].out, texts[i].size);
            return 0;
        }
    }
    int64_t *moment = ef_span_is (key, "since")   ? &filter->since_ms
                      : ef_span_is (key, "until") ? &filter->until_ms
                                                  : NULL;
    if (moment == NULL) {
        return s_bad (call, "filter: expected reason, error, type, since, until, q");
    }
    if (ef_get_uint (&value, &ms) == 0 && ms < INT64_MAX) {
        *moment = (int64_t)ms;
        return 0;
    }
    if (ef_get_str (&value, &text) || ef_rfc3339_parse (text.data, text.size, moment)) {
        return s_bad (call, "filter: since and until are dates as 2025-01-31T12:00:00Z");
    }
    return 0;
}

static int
s_read_filter (call_t *call, ef_cursor_t map, letters_filter_t *filter) {
    uint32_t pairs;
    if (ef_peek (&map) != EF_TYPE_MAP || ef_get_map (&map, &pairs)) {
        return s_bad (call, "filter: expected an object");
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        if (ef_get_str (&map, &key)) { /* JSON has other keys too: {"$map": …} */
            return s_bad (call, "filter: expected names that are strings");
        }
        ef_cursor_t value = map;
        if (s_take_filter (call, key, value, filter)) {
            return -1;
        }
        int rc = ef_skip (&map);
        ef_assert (rc == 0); /* our own parser wrote it */
    }
    return 0;
}

/* What the body asks for. -1: the call is answered. */
static int
s_read_order (call_t *call, const ef_buf_t *body, order_t *order) {
    ef_cursor_t root = ef_cursor (body->data, body->size);
    ef_cursor_t value;
    bool flag = false;
    *order = (order_t){.filter = {.since_ms = -1, .until_ms = -1}};
    ef_span_t topic = ef_map_str (root, "topic");
    if (ef_map_find (root, "topic", &value) &&
        (topic.data == NULL || topic.size == 0 || topic.size >= sizeof order->filter.topic)) {
        return s_bad (call, "topic: expected a topic's name");
    }
    ef_span_copy (topic, order->filter.topic, sizeof order->filter.topic);
    bool has_numbers = ef_map_find (root, "n", &value);
    if (has_numbers && (topic.data == NULL || s_read_numbers (call, value, order))) {
        return topic.data ? -1 : s_bad (call, "topic: expected with n");
    }
    bool has_filter = ef_map_find (root, "filter", &value);
    if (has_filter && s_read_filter (call, value, &order->filter)) {
        return -1;
    }
    bool is_all = ef_map_find (root, "all", &value) && ef_get_bool (&value, &flag) == 0 && flag;
    if (!has_numbers && !has_filter && !is_all) {
        return s_bad (call, "say which: \"n\": […], \"filter\": {…} or \"all\": true");
    }
    if (ef_map_find (root, "rate", &value) && api_read_rate (value, &order->rate)) {
        return s_bad (call, "rate: expected as 50/s or 30/m");
    }
    order->is_dry =
        ef_map_find (root, "dry_run", &value) && ef_get_bool (&value, &flag) == 0 && flag;
    return 0;
}

typedef struct {
    bool is_discard;
    uint64_t count;
} dry_t;

static bool
s_count_one (void *arg, ef_cursor_t item, uint64_t m) {
    dry_t *dry = arg;
    (void)m;
    dry->count += letters_may_go (item, dry->is_discard);
    return true;
}

/* How many it would be. */
static void
s_answer_dry (api_t *self, call_t *call, const order_t *order, bool is_discard) {
    char text[512];
    dry_t dry = {is_discard, order->count};
    ef_buf_t names = {0};
    const char *code = letters_topics (self->admin, &order->filter, &names, text);
    for (const char *name = (const char *)names.data; code == NULL && !order->numbers && *name;
         name += strlen (name) + 1) {
        letters_page_t page = {.filter = &order->filter, .each = s_count_one, .arg = &dry};
        do {
            code = letters_page (self->admin, name, &page, text);
        } while (code == NULL && page.after);
    }
    if (code) {
        problem_answer (call, code, "%s", text);
    } else {
        call_answer_json (call, 200, "{\"dry_run\":true,\"matched\":%llu}\n",
                          (unsigned long long)dry.count);
    }
    ef_buf_free (&names);
}

static void
s_start (api_t *self, call_t *call, const order_t *order, bool is_discard) {
    char id[40];
    char place[300];
    ef_buf_t out = {0};
    const task_options_t options = {.filter = order->filter,
                                    .numbers = order->numbers,
                                    .count = order->count,
                                    .rate = order->rate,
                                    .is_discard = is_discard,
                                    .who = call_identity (call)->name};
    if (tasks_start (self->tasks, &options, id) || tasks_put (self->tasks, id, &out)) {
        problem_answer (call, "OVERLOAD", "too many tasks run already");
        return;
    }
    snprintf (place, sizeof place, "%s/api/v1/tasks/%s", call_base (call), id);
    call_add_header (call, "Location", place);
    call_note (call, "%s topic=%s task=%s", is_discard ? "discard" : "replay",
               order->filter.topic[0] ? order->filter.topic : "*", id);
    api_text (&out, "\n");
    call_answer (call, 202, "application/json", &out);
}

static void
s_many (api_t *self, call_t *call, bool is_discard) {
    ef_buf_t body = {0};
    order_t order = {0};
    if (api_body (call, &body) == 0 && s_read_order (call, &body, &order) == 0) {
        if (order.is_dry) {
            s_answer_dry (self, call, &order, is_discard);
        } else {
            s_start (self, call, &order, is_discard);
        }
    }
    free (order.numbers);
    ef_buf_free (&body);
}

static void
s_replay (void *arg, call_t *call) {
    s_many (arg, call, false);
}

static void
s_discard (void *arg, call_t *call) {
    s_many (arg, call, true);
}

/* ---- tasks ---- */

static void
s_tasks (void *arg, call_t *call) {
    api_t *self = arg;
    ef_buf_t out = {0};
    api_text (&out, "{\"items\":[");
    tasks_put_all (self->tasks, &out);
    api_text (&out, "],\"next\":null}\n");
    call_answer (call, 200, "application/json", &out);
}

static void
s_task (void *arg, call_t *call) {
    api_t *self = arg;
    ef_buf_t out = {0};
    if (tasks_put (self->tasks, call_part (call, 0), &out)) {
        problem_answer (call, "NOT_FOUND", "there is no such task (any more)");
        return;
    }
    api_text (&out, "\n");
    call_answer (call, 200, "application/json", &out);
}

static void
s_task_cancel (void *arg, call_t *call) {
    api_t *self = arg;
    call_note (call, "cancel task=%s", call_part (call, 0));
    if (tasks_cancel (self->tasks, call_part (call, 0))) {
        problem_answer (call, "NOT_FOUND", "there is no such task (any more)");
        return;
    }
    s_task (arg, call);
}

#define ACT_ROW(method, path, run, summary)                                                        \
    { method, path, ROLE_ADMINISTER, true, ROUTE_BLOCKING, run, summary }

const route_t api_failed_rows[] = {
    {"GET", "/api/v1/failed-events", ROLE_READ, false, ROUTE_BLOCKING, s_list,
     "Dead letters by ?topic= &reason= &error= &type= &since= &until= &q= &limit= &cursor= "
     "&full=1"},
    ACT_ROW (
        "POST", "/api/v1/failed-events/replay", s_replay,
        "Processes them anew: {\"topic\", \"n\" | \"filter\" | \"all\", \"rate\", \"dry_run\"}"),
    ACT_ROW ("POST", "/api/v1/failed-events/discard", s_discard,
             "Throws them away: {\"topic\", \"n\" | \"filter\" | \"all\", \"rate\", \"dry_run\"}"),
    {"GET", "/api/v1/failed-events/{topic}/{n}", ROLE_READ, false, ROUTE_BLOCKING, s_show,
     "A dead letter with its event and all its errors"},
    ACT_ROW ("POST", "/api/v1/failed-events/{topic}/{n}/replay", edit_replay,
             "Processes it anew; with {\"payload\"}: a new event with that payload supersedes it"),
    {"GET", "/api/v1/tasks", ROLE_READ, false, ROUTE_QUICK, s_tasks, "Replays and discards"},
    {"GET", "/api/v1/tasks/{id}", ROLE_READ, false, ROUTE_QUICK, s_task, "How far a task is"},
    ACT_ROW ("DELETE", "/api/v1/tasks/{id}", s_task_cancel, "Stops a task"),
};
const size_t api_failed_count = sizeof api_failed_rows / sizeof api_failed_rows[0];
