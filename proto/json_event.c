/* An event in its JSON form, both ways (SPECIFICATION.md, "An event as JSON").
   SPDX-License-Identifier: MIT */
#include "json.h"
#include "limits.h"

#include <stdio.h>

static void
s_text (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

static void
s_date (ef_buf_t *out, const char *key, uint64_t ms) {
    char date[25];
    ef_rfc3339 (ms, date);
    s_text (out, key);
    ef_json_string (out, date, 24);
}

static int
s_print_span (ef_buf_t *out, const char *key, ef_span_t value) {
    s_text (out, key);
    ef_cursor_t cursor = ef_cursor (value.data, value.size);
    return ef_json_print (out, &cursor);
}

/* One attempt: [code, text, trace, ms, worker, …]; what more it tells has no place here. */
static int
s_print_error (ef_buf_t *out, ef_cursor_t *cursor) {
    static const char *const keys[] = {"{\"status_code\":", ",\"message\":", ",\"stack_trace\":"};
    uint32_t count;
    uint64_t ms = 0;
    if (ef_get_array (cursor, &count) || count < 5) {
        return -1;
    }
    for (unsigned i = 0; i < 3; i++) {
        s_text (out, keys[i]);
        if (ef_json_print (out, cursor)) {
            return -1;
        }
    }
    if (ef_get_uint (cursor, &ms)) {
        return -1;
    }
    s_date (out, ",\"date\":", ms);
    s_text (out, ",\"worker\":");
    int rc = ef_json_print (out, cursor);
    for (uint32_t i = 5; i < count && rc == 0; i++) {
        rc = ef_skip (cursor);
    }
    if (rc) {
        return -1;
    }
    s_text (out, "}");
    return 0;
}

static int
s_print_errors (ef_buf_t *out, ef_span_t errors) {
    uint32_t count = 0;
    ef_cursor_t cursor = ef_cursor (errors.data, errors.size);
    if (errors.size > 0 && ef_get_array (&cursor, &count)) {
        return -1;
    }
    s_text (out, ",\"error\":[");
    for (uint32_t i = 0; i < count; i++) {
        s_text (out, i > 0 ? "," : "");
        if (s_print_error (out, &cursor)) {
            return -1;
        }
    }
    s_text (out, "]");
    return 0;
}

/* What of meta has no place of its own: all but type and time. */
static int
s_print_meta (ef_buf_t *out, ef_span_t meta) {
    uint32_t count = 0;
    ef_cursor_t cursor = ef_cursor (meta.data, meta.size);
    if (meta.size == 0) {
        return 0;
    }
    if (ef_get_map (&cursor, &count)) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        ef_span_t key;
        if (ef_get_str (&cursor, &key)) {
            return -1;
        }
        if (ef_span_is (key, "type") || ef_span_is (key, "time")) {
            if (ef_skip (&cursor)) {
                return -1;
            }
            continue;
        }
        s_text (out, ",");
        ef_json_string (out, key.data, key.size);
        s_text (out, ":");
        if (ef_json_print (out, &cursor)) {
            return -1;
        }
    }
    return 0;
}

int
ef_json_event (ef_buf_t *out, const ef_event_t *event, const ef_json_extra_t *extra) {
    s_text (out, "{\"id\":");
    if (event->id.data && ef_utf8_is_valid (event->id.data, event->id.size)) {
        ef_json_string (out, event->id.data, event->id.size);
    } else if (event->id.data) {
        s_text (out, "{\"$bin\":\"");
        ef_base64_encode (out, event->id.data, event->id.size);
        s_text (out, "\"}");
    } else if (extra->id) {
        ef_json_string (out, extra->id, strlen (extra->id));
    } else {
        s_text (out, "null");
    }
    s_text (out, ",\"topic\":");
    if (event->topic.data) {
        ef_json_string (out, event->topic.data, event->topic.size);
    } else {
        s_text (out, "null");
    }
    if (event->type.data) {
        s_text (out, ",\"type\":");
        ef_json_string (out, event->type.data, event->type.size);
    }
    s_date (out, ",\"dispatch_date\":",
            event->time_ms >= 0 ? (uint64_t)event->time_ms : extra->accepted_ms);
    if (s_print_span (out, ",\"payload\":", event->payload) || s_print_meta (out, event->meta)) {
        return -1;
    }
    char attempts[40];
    snprintf (attempts, sizeof attempts, ",\"attempts\":%u", extra->attempts);
    s_text (out, attempts);
    if (s_print_errors (out, extra->errors)) {
        return -1;
    }
    s_text (out, "}");
    return 0;
}

/* What was found in the object; spans are MessagePack values. */
typedef struct {
    ef_span_t topic;
    ef_span_t id;
    ef_span_t payload;
    ef_buf_t meta; /* pairs, owned */
    uint32_t pairs;
} fields_t;

static int
s_read_field (ef_cursor_t *cursor, ef_span_t key, fields_t *fields, const char **why) {
    const uint8_t *start = cursor->at;
    int rc = ef_skip (cursor);
    ef_assert (rc == 0); /* our own parser wrote it */
    ef_span_t value = {(const char *)start, (uint32_t)(cursor->at - start)};
    ef_cursor_t inner = ef_cursor (value.data, value.size);
    ef_span_t text;
    if (ef_span_is (key, "topic") || ef_span_is (key, "queue")) {
        fields->topic = value;
    } else if (ef_span_is (key, "id")) {
        fields->id = value;
    } else if (ef_span_is (key, "payload")) {
        fields->payload = value;
    } else if (ef_span_is (key, "attempts") || ef_span_is (key, "error")) {
        return 0; /* what the broker adds on the way out */
    } else if (ef_span_is (key, "dispatch_date")) {
        int64_t ms;
        if (ef_get_str (&inner, &text) || ef_rfc3339_parse (text.data, text.size, &ms) || ms < 0) {
            *why = "dispatch_date must be an RFC 3339 date";
            return -1;
        }
        ef_put_str (&fields->meta, "time");
        ef_put_int (&fields->meta, ms);
        fields->pairs++;
    } else {
        ef_put_strn (&fields->meta, key.data, key.size);
        ef_buf_put (&fields->meta, value.data, value.size);
        fields->pairs++;
    }
    return 0;
}

static void
s_put_or (ef_buf_t *out, ef_span_t value, const char *otherwise) {
    if (value.data && !(value.size == 1 && (uint8_t)value.data[0] == 0xc0)) {
        ef_buf_put (out, value.data, value.size);
    } else {
        ef_put_str (out, otherwise);
    }
}

int
ef_json_to_event (ef_buf_t *out, const char *text, size_t size, const char *topic, const char *id,
                  const char **why) {
    ef_buf_t object = {0};
    fields_t fields = {0};
    uint32_t count = 0;
    size_t used = ef_json_parse (&object, text, size, why);
    ef_cursor_t cursor = ef_cursor (object.data, object.size);
    int rc = 0;
    if (used == 0) {
        rc = -1;
    } else if (used < size) {
        *why = "one JSON object and nothing behind it";
        rc = -1;
    } else if (ef_get_map (&cursor, &count)) {
        *why = "a JSON object with a payload";
        rc = -1;
    }
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        ef_span_t key;
        rc = ef_get_str (&cursor, &key);
        if (rc) {
            *why = "keys of an event must be strings";
        } else {
            rc = s_read_field (&cursor, key, &fields, why);
        }
    }
    if (rc == 0 && fields.payload.data == NULL) {
        *why = "a payload (its value may be null)";
        rc = -1;
    }
    if (rc == 0) {
        ef_put_array (out, fields.pairs ? 4 : 3);
        s_put_or (out, fields.topic, topic);
        s_put_or (out, fields.id, id);
        ef_buf_put (out, fields.payload.data, fields.payload.size);
        if (fields.pairs) {
            ef_put_map (out, fields.pairs);
            ef_buf_put (out, fields.meta.data, fields.meta.size);
        }
    }
    ef_buf_free (&object);
    ef_buf_free (&fields.meta);
    return rc;
}
