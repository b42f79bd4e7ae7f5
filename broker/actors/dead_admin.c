/* What people ask of the dead letters: list, show, replay, purge. SPDX-License-Identifier: MIT */
#include "dead_private.h"

#include <stdio.h>
#include <stdlib.h>

#define LIST_DEFAULT 100
#define LIST_MAX     1000

/* Which letters are meant. */
typedef struct {
    uint64_t *n; /* owned: just these; NULL: all that fit the rest */
    uint32_t n_count;
    int reason; /* -1: any */
    uint32_t limit;
    uint64_t after; /* m */
    uint32_t rate;
    bool has_filter; /* something was said that narrows the choice, or "all" */
} filter_t;

static void
s_error (ef_buf_t *out, ef_status_t status, const char *text) {
    ef_put_array (out, 3);
    ef_put_str (out, "ERROR");
    ef_put_str (out, ef_status_name (status));
    ef_put_str (out, text);
}

static int
s_read_numbers (ef_cursor_t *cursor, filter_t *filter) {
    uint32_t count;
    if (ef_get_array (cursor, &count)) {
        return -1;
    }
    free (filter->n);
    filter->n = malloc ((count ? count : 1) * sizeof *filter->n);
    ef_assert (filter->n != NULL);
    filter->n_count = count;
    for (uint32_t i = 0; i < count; i++) {
        if (ef_get_uint (cursor, &filter->n[i])) {
            return -1;
        }
    }
    return 0;
}

static int
s_read_reason (ef_cursor_t *cursor, filter_t *filter) {
    ef_span_t text;
    if (ef_get_str (cursor, &text)) {
        return -1;
    }
    for (unsigned i = 1; i < EF_REASON_COUNT; i++) {
        if (ef_span_is (text, ef_reason_name ((ef_reason_t)i))) {
            filter->reason = (int)i;
            return 0;
        }
    }
    return -1;
}

static int
s_read_filter (ef_cursor_t *cursor, filter_t *filter) {
    uint32_t pairs;
    *filter = (filter_t){.reason = -1, .limit = UINT32_MAX};
    if (ef_cursor_left (cursor) == 0) {
        return 0;
    }
    if (ef_get_map (cursor, &pairs)) {
        return -1;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        uint64_t number = 0;
        bool truth;
        int rc = ef_get_str (cursor, &key);
        if (rc == 0 && ef_span_is (key, "n")) {
            rc = s_read_numbers (cursor, filter);
            filter->has_filter = true;
        } else if (rc == 0 && ef_span_is (key, "reason")) {
            rc = s_read_reason (cursor, filter);
            filter->has_filter = true;
        } else if (rc == 0 && ef_span_is (key, "all")) {
            rc = ef_get_bool (cursor, &truth);
            filter->has_filter = filter->has_filter || (rc == 0 && truth);
        } else if (rc == 0 && ef_span_is (key, "limit")) {
            rc = ef_get_uint (cursor, &number);
            filter->limit = number < UINT32_MAX ? (uint32_t)number : UINT32_MAX;
        } else if (rc == 0 && ef_span_is (key, "after")) {
            rc = ef_get_uint (cursor, &filter->after);
        } else if (rc == 0 && ef_span_is (key, "rate")) {
            rc = ef_get_uint (cursor, &number);
            filter->rate = number < UINT32_MAX ? (uint32_t)number : UINT32_MAX;
        } else if (rc == 0) {
            rc = ef_skip (cursor);
        }
        if (rc) {
            return -1;
        }
    }
    return 0;
}

static bool
s_fits (const filter_t *filter, const ef_letter_t *letter) {
    bool is_named = filter->n == NULL;
    for (uint32_t i = 0; i < filter->n_count && !is_named; i++) {
        is_named = filter->n[i] == letter->n;
    }
    return is_named && letter->m > filter->after && !letter->is_leaving &&
           (filter->reason < 0 || letter->reason == (uint8_t)filter->reason);
}

/* The last attempt of a history, as [code, text, …]; size 0 where there is none. */
static ef_span_t
s_last_error (ef_span_t history) {
    ef_cursor_t cursor = ef_cursor (history.data, history.size);
    uint32_t count;
    ef_span_t last = {NULL, 0};
    if (history.size == 0 || ef_get_array (&cursor, &count)) {
        return last;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *start = cursor.at;
        if (ef_skip (&cursor)) {
            break;
        }
        last = (ef_span_t){(const char *)start, (uint32_t)(cursor.at - start)};
    }
    return last;
}

static void
s_put_span (ef_buf_t *out, ef_span_t span) {
    if (span.size) {
        ef_buf_put (out, span.data, span.size);
    } else {
        ef_put_nil (out);
    }
}

static void
s_put_common (ef_buf_t *out, const ef_letter_t *letter) {
    ef_put_key_uint (out, "n", letter->n);
    ef_put_key_uint (out, "m", letter->m);
    ef_put_key_str (out, "reason", ef_reason_name ((ef_reason_t)letter->reason));
    ef_put_key_uint (out, "attempts", letter->attempts);
    ef_put_key_uint (out, "dead", letter->dead_ms);
}

/* Says which event supersedes it, where one does. Returns how many pairs that is. */
static uint32_t
s_put_superseded (ef_buf_t *out, const ef_letter_body_t *body) {
    if (body->superseded.size == 0) {
        return 0;
    }
    ef_put_str (out, "superseded");
    ef_put_strn (out, body->superseded.data, body->superseded.size);
    return 1;
}

static void
s_put_item (ef_buf_t *out, const ef_letter_body_t *body) {
    ef_event_t event;
    const char *why;
    ef_cursor_t cursor = ef_cursor (body->event.data, body->event.size);
    ef_status_t status = ef_event_read (&cursor, &event, &why);
    size_t mark = ef_put_open (out);
    s_put_common (out, &body->letter);
    ef_put_str (out, "id");
    if (status == EF_OK && event.id.data) {
        ef_put_strn (out, event.id.data, event.id.size);
    } else {
        ef_put_nil (out);
    }
    ef_put_str (out, "type");
    if (status == EF_OK && event.type.data) {
        ef_put_strn (out, event.type.data, event.type.size);
    } else {
        ef_put_nil (out);
    }
    ef_put_str (out, "error");
    s_put_span (out, s_last_error (body->history));
    ef_put_close_map (out, mark, 8 + s_put_superseded (out, body));
}

static void
s_list (ef_dead_letters_t *self, dead_topic_t *topic, const filter_t *filter, ef_buf_t *out) {
    (void)self;
    ef_buf_t items = {0};
    uint32_t count = 0;
    uint32_t limit = filter->limit == UINT32_MAX ? LIST_DEFAULT : filter->limit;
    uint64_t next = 0;
    limit = limit < LIST_MAX ? limit : LIST_MAX;
    uint32_t total = topic ? ef_dead_log_count (topic->log) : 0;
    for (uint32_t i = topic ? ef_dead_log_seek (topic->log, filter->after + 1) : 0; i < total;
         i++) {
        const ef_letter_t *letter = ef_dead_log_at (topic->log, i);
        ef_letter_body_t body;
        if (!s_fits (filter, letter)) {
            continue;
        }
        if (count == limit) {
            next = ef_dead_log_at (topic->log, i - 1)->m;
            break;
        }
        if (ef_dead_log_read (topic->log, letter, &body) == 0) {
            s_put_item (&items, &body);
            free (body.bytes);
            count++;
        }
    }
    ef_put_array (out, 2);
    ef_put_str (out, "OK");
    ef_put_map (out, 3);
    ef_put_str (out, "items");
    ef_put_array (out, count);
    ef_buf_put (out, items.data, items.size);
    ef_put_str (out, "next");
    if (next) {
        ef_put_uint (out, next);
    } else {
        ef_put_nil (out);
    }
    ef_put_key_uint (out, "total", total);
    ef_buf_free (&items);
}

static void
s_show (dead_topic_t *topic, uint64_t n, ef_buf_t *out) {
    for (uint32_t i = 0; topic && i < ef_dead_log_count (topic->log); i++) {
        const ef_letter_t *letter = ef_dead_log_at (topic->log, i);
        ef_letter_body_t body;
        if (letter->n != n || ef_dead_log_read (topic->log, letter, &body)) {
            continue;
        }
        ef_put_array (out, 2);
        ef_put_str (out, "OK");
        size_t mark = ef_put_open (out);
        s_put_common (out, letter);
        ef_put_key_uint (out, "accepted", body.accepted_ms);
        ef_put_str (out, "event");
        s_put_span (out, body.event);
        ef_put_str (out, "errors");
        s_put_span (out, body.history);
        ef_put_close_map (out, mark, 8 + s_put_superseded (out, &body));
        free (body.bytes);
        return;
    }
    s_error (out, EF_NOT_FOUND, "no dead letter of that number");
}

static void
s_move (dead_topic_t *topic, const filter_t *filter, bool purge, ef_buf_t *out) {
    if (!filter->has_filter) {
        s_error (out, EF_BAD_COMMAND, "say which letters: n, reason, or all: true");
        return;
    }
    uint32_t total = topic ? ef_dead_log_count (topic->log) : 0;
    uint64_t *m = malloc ((total ? total : 1) * sizeof *m);
    ef_assert (m != NULL);
    uint32_t count = 0;
    for (uint32_t i = 0; i < total && count < filter->limit; i++) {
        const ef_letter_t *letter = ef_dead_log_at (topic->log, i);
        /* What another event does in its place isn't done twice, unless it is named. */
        bool is_done = letter->is_superseded && !purge && filter->n == NULL;
        if (s_fits (filter, letter) && !is_done) {
            m[count++] = letter->m;
        }
    }
    ef_put_array (out, 2);
    ef_put_str (out, "OK");
    ef_put_map (out, 1);
    ef_put_key_uint (out, purge ? "purged" : "replayed", count);
    if (count > 0) {
        dead_task_add (topic, m, count, purge, filter->rate);
    } else {
        free (m);
    }
}

/* Answers once it is durable. */
static void
s_supersede (ef_dead_letters_t *self, dead_topic_t *topic, ef_cursor_t request, ef_buf_t *out) {
    uint64_t n;
    ef_span_t id;
    if (ef_get_uint (&request, &n) || ef_get_bytes (&request, &id) || id.size == 0 ||
        id.size > EF_ID_MAX) {
        s_error (out, EF_BAD_COMMAND,
                 "expected [\"DLQ.SUPERSEDE\", topic, n, id (str or bin of 1 to 64 bytes)]");
        return;
    }
    for (uint32_t i = 0; topic && i < ef_dead_log_count (topic->log); i++) {
        const ef_letter_t *letter = ef_dead_log_at (topic->log, i);
        if (letter->n != n || letter->is_leaving) {
            continue;
        }
        if (letter->segment == 0) {
            break;
        }
        if (ef_dead_log_supersede (topic->log, letter->m, id)) {
            s_error (out, EF_INTERNAL, "the letter can't be read");
        } else if (!dead_commit (self, topic)) {
            s_error (out, EF_NO_SPACE, "not durable yet; ask again");
        } else {
            ef_put_array (out, 2);
            ef_put_str (out, "OK");
            ef_put_map (out, 2);
            ef_put_key_uint (out, "n", n);
            ef_put_str (out, "superseded");
            ef_put_strn (out, id.data, id.size);
        }
        return;
    }
    s_error (out, EF_NOT_FOUND, "no dead letter of that number");
}

void
ef_dead_admin (ef_dead_letters_t *self, ef_cursor_t request, ef_buf_t *answer) {
    uint32_t items;
    ef_span_t command;
    ef_span_t name;
    filter_t filter;
    uint64_t n = 0;
    bool is_read = ef_get_array (&request, &items) == 0 && items >= 2 &&
                   ef_get_str (&request, &command) == 0 && ef_get_str (&request, &name) == 0;
    if (!is_read) {
        s_error (answer, EF_BAD_COMMAND, "expected [\"DLQ.LIST\", topic, options?]");
        return;
    }
    dead_topic_t *topic = dead_topic_find (self, name.data, name.size);
    if (ef_span_is (command, "DLQ.SHOW")) {
        if (ef_get_uint (&request, &n)) {
            s_error (answer, EF_BAD_COMMAND, "expected [\"DLQ.SHOW\", topic, n]");
        } else {
            s_show (topic, n, answer);
        }
        return;
    }
    if (ef_span_is (command, "DLQ.SUPERSEDE")) {
        s_supersede (self, topic, request, answer);
        return;
    }
    if (s_read_filter (&request, &filter)) {
        s_error (
            answer, EF_BAD_COMMAND,
            "options are a map: n [int], reason str, all bool, limit int, after int, rate int");
    } else if (ef_span_is (command, "DLQ.LIST")) {
        s_list (self, topic, &filter, answer);
    } else {
        s_move (topic, &filter, ef_span_is (command, "DLQ.PURGE"), answer);
    }
    free (filter.n);
}
