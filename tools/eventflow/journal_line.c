/* Lines of eventflow journal, as key=value or as JSON. SPDX-License-Identifier: MIT */
#include "journal.h"

void
line_raw (line_t *self, const char *text) {
    ef_buf_put (&self->buf, text, strlen (text));
}

/* `head` is the journal's name, or, for people alone, whatever a line begins with. */
void
line_begin (line_t *self, bool is_json, const char *head) {
    *self = (line_t){.is_json = is_json};
    if (is_json) {
        line_raw (self, "{\"journal\":");
        ef_json_string (&self->buf, head, strlen (head));
    } else {
        line_raw (self, head);
    }
}

static void
s_key (line_t *self, const char *key) {
    line_raw (self, self->is_json ? ",\"" : " ");
    line_raw (self, key);
    line_raw (self, self->is_json ? "\":" : "=");
}

void
line_uint (line_t *self, const char *key, uint64_t value) {
    char text[24];
    snprintf (text, sizeof text, "%llu", (unsigned long long)value);
    s_key (self, key);
    line_raw (self, text);
}

void
line_text (line_t *self, const char *key, const char *value, size_t size) {
    s_key (self, key);
    if (self->is_json) {
        ef_json_string (&self->buf, value, size);
    } else {
        ef_buf_put (&self->buf, value, size);
    }
}

void
line_date (line_t *self, const char *key, uint64_t unix_ms) {
    char date[25];
    ef_rfc3339 (unix_ms, date);
    line_text (self, key, date, strlen (date));
}

void
line_value (line_t *self, const char *key, ef_span_t value) {
    ef_cursor_t cursor = ef_cursor (value.data, value.size);
    ef_buf_t text = {0};
    s_key (self, key);
    if (ef_json_print (&text, &cursor) == 0) {
        ef_buf_put (&self->buf, text.data, text.size);
    } else {
        line_raw (self, "null");
    }
    ef_buf_free (&text);
}

void
line_print (line_t *self, FILE *out) {
    line_raw (self, self->is_json ? "}\n" : "\n");
    (void)fwrite (self->buf.data, 1, self->buf.size, out); /* ferror tells at the end */
    ef_buf_free (&self->buf);
}

void
journal_event (ef_buf_t *out, ef_span_t bytes, uint64_t accepted_ms, uint32_t attempts,
               ef_span_t history) {
    ef_event_t event;
    const char *why;
    ef_cursor_t cursor = ef_cursor (bytes.data, bytes.size);
    ef_json_extra_t extra = {.accepted_ms = accepted_ms, .attempts = attempts, .errors = history};
    size_t mark = out->size;
    if (ef_event_read (&cursor, &event, &why) != EF_BAD_FRAME && event.payload.data &&
        ef_json_event (out, &event, &extra) == 0) {
        out->size--; /* the closing brace */
        return;
    }
    out->size = mark;
    static const char begin[] = "{\"id\":null,\"topic\":null,\"payload\":{\"$bin\":\"";
    ef_buf_put (out, begin, sizeof begin - 1);
    ef_base64_encode (out, bytes.data, bytes.size);
    ef_buf_put (out, "\"}", 2);
}
