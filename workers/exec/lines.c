/* What a child and its worker say to each other. SPDX-License-Identifier: MIT */
#include "lines.h"
#include "../../proto/json.h"

#include <stdio.h>
#include <string.h>

#define READ_BYTES  65536 /* a pipe's */
#define QUOTE_BYTES 100   /* of what can't be read */

static void
s_text (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

static int
s_put_whole (ef_buf_t *out, const eventflow_delivery_t *delivery) {
    ef_event_t event;
    const char *why;
    ef_json_extra_t extra = {.accepted_ms =
                                 delivery->accepted_ms ? delivery->accepted_ms : ef_wall_ms (),
                             .attempts = delivery->attempt - 1,
                             .errors = {delivery->errors.data, (uint32_t)delivery->errors.size}};
    ef_cursor_t cursor = ef_cursor (delivery->event.data, delivery->event.size);
    return ef_event_read (&cursor, &event, &why) != EF_OK || ef_json_event (out, &event, &extra)
               ? -1
               : 0;
}

int
lines_put_event (ef_buf_t *out, bool is_json, const eventflow_delivery_t *delivery) {
    size_t start = out->size;
    char head[80];
    if (!is_json) {
        ef_put_map (out, 3);
        ef_put_key_uint (out, "tag", delivery->tag);
        ef_put_key_uint (out, "attempt", delivery->attempt);
        ef_put_str (out, "event");
        ef_buf_put (out, delivery->event.data, delivery->event.size);
        return 0;
    }
    snprintf (head, sizeof head,
              "{\"tag\":%llu,\"attempt\":%u,\"event\":", (unsigned long long)delivery->tag,
              delivery->attempt);
    s_text (out, head);
    if (s_put_whole (out, delivery)) {
        out->size = start;
        return -1;
    }
    s_text (out, "}\n");
    return 0;
}

int
lines_put_plain (ef_buf_t *out, bool is_whole, const eventflow_delivery_t *delivery) {
    size_t start = out->size;
    ef_cursor_t payload = ef_cursor (delivery->payload.data, delivery->payload.size);
    if (is_whole ? s_put_whole (out, delivery) : ef_json_print (out, &payload)) {
        out->size = start;
        return -1;
    }
    s_text (out, "\n");
    return 0;
}

void
lines_put_cancel (ef_buf_t *out, bool is_json, uint64_t tag) {
    char text[48];
    if (is_json) {
        snprintf (text, sizeof text, "{\"cancel\":%llu}\n", (unsigned long long)tag);
        s_text (out, text);
    } else {
        ef_put_map (out, 1);
        ef_put_key_uint (out, "cancel", tag);
    }
}

void
lines_free (lines_t *self) {
    ef_buf_free (&self->bytes);
    ef_buf_free (&self->value);
    ef_buf_free (&self->events);
}

uint8_t *
lines_room (lines_t *self, size_t *room) {
    if (self->at > 0) { /* what was taken goes; the rest is mostly the beginning of one answer */
        memmove (self->bytes.data, self->bytes.data + self->at, self->bytes.size - self->at);
        self->bytes.size -= self->at;
        self->seen -= self->at;
        self->at = 0;
    }
    if (self->bytes.capacity - self->bytes.size < READ_BYTES) {
        ef_buf_grow (&self->bytes, READ_BYTES);
    }
    *room = READ_BYTES;
    return self->bytes.data + self->bytes.size;
}

void
lines_add (lines_t *self, size_t bytes) {
    self->bytes.size += bytes;
}

static int
s_take_text (ef_cursor_t *cursor, char *text, size_t size, const char **out) {
    ef_span_t span;
    if (ef_get_nil (cursor) == 0) {
        return 0;
    }
    if (ef_get_str (cursor, &span)) {
        return -1;
    }
    ef_span_copy (span, text, size);
    *out = text;
    return 0;
}

static int
s_take_code (lines_t *self, ef_cursor_t *cursor, eventflow_answer_t *words) {
    return ef_get_int (cursor, &words->number) == 0
               ? 0
               : s_take_text (cursor, self->code, sizeof self->code, &words->code);
}

static int
s_take_result (ef_cursor_t *cursor, lines_answer_t *answer) {
    static const char *const names[] = {"done", "retry", "dead", "release"};
    ef_span_t span;
    if (ef_get_str (cursor, &span)) {
        return -1;
    }
    for (unsigned i = 0; i < 4; i++) {
        if (ef_span_is (span, names[i])) {
            answer->result = (eventflow_result_t)i; /* in the order of that enum */
            return 0;
        }
    }
    return -1;
}

_Static_assert(EVENTFLOW_DONE == 0 && EVENTFLOW_RETRY == 1 && EVENTFLOW_DEAD == 2 &&
                   EVENTFLOW_RELEASE == 3,
               "names of results are in their order");

/* An event in its wire form is kept as it is; an object is read as JSON would be. */
static int
s_take_event (lines_t *self, ef_cursor_t *cursor, const char **why) {
    const uint8_t *start = cursor->at;
    if (ef_peek (cursor) != EF_TYPE_MAP) {
        ef_event_t event;
        *why = "events in emit";
        if (ef_event_read (cursor, &event, why) != EF_OK) {
            return -1;
        }
        ef_buf_put (&self->events, start, (size_t)(cursor->at - start));
        return 0;
    }
    ef_buf_t text = {0};
    int rc = ef_json_print (&text, cursor);
    rc =
        rc || ef_json_to_event (&self->events, (const char *)text.data, text.size, NULL, NULL, why);
    ef_buf_free (&text);
    return rc ? -1 : 0;
}

static int
s_take_emit (lines_t *self, ef_cursor_t *cursor, eventflow_answer_t *words, const char **why) {
    uint32_t count;
    *why = "an array of events in emit";
    if (ef_get_array (cursor, &count)) {
        return -1;
    }
    ef_buf_clear (&self->events);
    for (uint32_t i = 0; i < count; i++) {
        if (s_take_event (self, cursor, why)) {
            return -1;
        }
    }
    self->events_span = (eventflow_bytes_t){self->events.data, self->events.size};
    words->events = count ? &self->events_span : NULL;
    return 0;
}

static int
s_take_value (lines_t *self, ef_cursor_t *cursor, eventflow_answer_t *words, const char **why) {
    const uint8_t *start = cursor->at;
    if (ef_skip (cursor)) {
        return -1;
    }
    size_t size = (size_t)(cursor->at - start);
    *why = "a value of at most 64 KiB";
    self->result_span = (eventflow_bytes_t){start, size};
    words->result = &self->result_span;
    return size <= EF_RESULT_MAX ? 0 : -1;
}

/* The value of one key. */
static int
s_take (lines_t *self, ef_span_t key, ef_cursor_t *cursor, lines_answer_t *answer,
        const char **why) {
    eventflow_answer_t *words = &answer->words;
    uint64_t ms;
    if (ef_span_is (key, "result")) {
        *why = "\"done\", \"retry\", \"dead\" or \"release\" as result";
        return s_take_result (cursor, answer);
    }
    if (ef_span_is (key, "code")) {
        *why = "text or a whole number as code";
        return s_take_code (self, cursor, words);
    }
    if (ef_span_is (key, "text")) {
        *why = "text as text";
        return s_take_text (cursor, self->text, sizeof self->text, &words->text);
    }
    if (ef_span_is (key, "trace")) {
        *why = "text as trace";
        return s_take_text (cursor, self->trace, sizeof self->trace, &words->trace);
    }
    if (ef_span_is (key, "downstream")) {
        *why = "text as downstream";
        return s_take_text (cursor, self->downstream, sizeof self->downstream, &words->downstream);
    }
    if (ef_span_is (key, "retry")) {
        *why = "milliseconds as retry";
        if (ef_get_uint (cursor, &ms) || ms > INT64_MAX) {
            return -1;
        }
        words->retry_ms = (int64_t)ms;
        return 0;
    }
    if (ef_span_is (key, "value")) {
        return s_take_value (self, cursor, words, why);
    }
    return ef_span_is (key, "emit") ? s_take_emit (self, cursor, words, why) : ef_skip (cursor);
}

/* An answer that is there as a whole. */
static int
s_decode (lines_t *self, ef_cursor_t cursor, lines_answer_t *answer, const char **why) {
    uint32_t pairs;
    bool has_tag = false;
    *answer = (lines_answer_t){.result = EVENTFLOW_LATER, .words = {.retry_ms = -1}};
    *why = "an object";
    if (ef_get_map (&cursor, &pairs)) {
        return -1;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        *why = "keys that are text";
        if (ef_get_str (&cursor, &key)) {
            return -1;
        }
        if (ef_span_is (key, "tag")) {
            *why = "a number as tag";
            has_tag = ef_get_uint (&cursor, &answer->tag) == 0;
            if (!has_tag) {
                return -1;
            }
        } else if (s_take (self, key, &cursor, answer, why)) {
            return -1;
        }
    }
    *why = has_tag ? "a result" : "a tag";
    return has_tag && answer->result != EVENTFLOW_LATER ? 0 : -1;
}

/* The next line. 1; 0: it isn't there yet. */
static int
s_next_line (lines_t *self, const char **line, size_t *size) {
    const char *data = (const char *)self->bytes.data;
    while (self->bytes.size > self->seen) {
        const char *end = memchr (data + self->seen, '\n', self->bytes.size - self->seen);
        if (end == NULL) {
            self->seen = self->bytes.size;
            return 0;
        }
        *line = data + self->at;
        *size = (size_t)(end - *line);
        self->at = self->seen = (size_t)(end - data) + 1;
        for (size_t i = 0; i < *size; i++) {
            if (strchr (" \t\r", (*line)[i]) == NULL) {
                return 1;
            }
        }
    }
    return 0;
}

static int
s_read_line (lines_t *self, lines_answer_t *answer, const char **why) {
    const char *line;
    size_t size;
    if (s_next_line (self, &line, &size) == 0) {
        return 0;
    }
    ef_buf_clear (&self->value);
    size_t used = ef_json_parse (&self->value, line, size, why);
    if (used > 0 && used < size) {
        *why = "one object a line";
    }
    if (used != size ||
        s_decode (self, ef_cursor (self->value.data, self->value.size), answer, why)) {
        snprintf (self->text, sizeof self->text, "%.*s",
                  (int)(size < QUOTE_BYTES ? size : QUOTE_BYTES), line);
        return -1;
    }
    return 1;
}

static int
s_read_value (lines_t *self, lines_answer_t *answer, const char **why) {
    ef_cursor_t cursor = ef_cursor (self->bytes.data + self->at, self->bytes.size - self->at);
    ef_cursor_t start = cursor;
    if (ef_cursor_left (&cursor) == 0) {
        return 0;
    }
    if (ef_peek (&cursor) == EF_TYPE_MAP && ef_skip (&cursor)) {
        return 0; /* not all of it, or nonsense, which time shows */
    }
    self->at = self->seen = (size_t)(cursor.at - self->bytes.data);
    if (s_decode (self, start, answer, why)) {
        snprintf (self->text, sizeof self->text, "bytes that begin with %02x", *start.at);
        return -1;
    }
    return 1;
}

int
lines_read (lines_t *self, lines_answer_t *answer, const char **why) {
    int rc = self->is_json ? s_read_line (self, answer, why) : s_read_value (self, answer, why);
    if (rc == 0 && self->bytes.size - self->at > LINES_MAX) {
        *why = "an answer of at most 4 MiB";
        snprintf (self->text, sizeof self->text, "%zu bytes", self->bytes.size - self->at);
        return -1;
    }
    return rc;
}
