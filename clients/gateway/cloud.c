/* CloudEvents 1.0 into events. SPDX-License-Identifier: MIT
   Sources: github.com/cloudevents/spec, v1.0.2: spec.md, http-protocol-binding.md, json-format.md,
   extensions partitioning, distributed-tracing, expirytime.

   id and source together say which event it is, so they are the event's id (hashed where they are
   longer than one may be). type, time, partitionkey, traceparent and expirytime become what they
   are called here; all attributes as they came stay in the headers, as "ce-NAME", and
   datacontenttype as "content-type". An extension `topic` names the topic. */
#include "../../proto/json.h"
#include "intake.h"

#include <stdio.h>
#include <stdlib.h>

#define CLOUD_ATTRIBUTES_MAX 64

typedef struct {
    ef_span_t names[CLOUD_ATTRIBUTES_MAX];
    ef_span_t values[CLOUD_ATTRIBUTES_MAX]; /* text */
    uint32_t count;
    ef_buf_t text;     /* decoded values, owned */
    ef_span_t payload; /* MessagePack */
    ef_span_t media;
} cloud_t;

static int
s_fail (char why[ITEM_WHY_BYTES], const char *name, const char *expected) {
    snprintf (why, ITEM_WHY_BYTES, "%s: expected %s", name, expected);
    return -1;
}

static ef_span_t
s_find (const cloud_t *self, const char *name) {
    for (uint32_t i = 0; i < self->count; i++) {
        if (ef_span_is (self->names[i], name)) {
            return self->values[i];
        }
    }
    return (ef_span_t){NULL, 0};
}

/* Lower-case letters and digits; to 20 of them would be good manners, 64 are taken. */
static bool
s_is_name (ef_span_t name) {
    for (uint32_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'))) {
            return false;
        }
    }
    return name.size > 0 && name.size <= 64;
}

static int
s_check (const cloud_t *self, char why[ITEM_WHY_BYTES]) {
    static const char *const required[] = {"id", "source", "specversion", "type"};
    for (unsigned i = 0; i < 4; i++) {
        ef_span_t value = s_find (self, required[i]);
        if (value.data == NULL || value.size == 0) {
            return s_fail (why, required[i], "it: a CloudEvent has one");
        }
    }
    if (!ef_span_is (s_find (self, "specversion"), "1.0")) {
        return s_fail (why, "specversion", "1.0");
    }
    for (uint32_t i = 0; i < self->count; i++) {
        if (!s_is_name (self->names[i])) {
            return s_fail (why, "a name", "lower-case letters and digits");
        }
        if (!ef_utf8_is_valid (self->values[i].data, self->values[i].size)) {
            return s_fail (why, "a value", "UTF-8");
        }
        for (uint32_t k = 0; k < i; k++) {
            if (self->names[i].size == self->names[k].size &&
                memcmp (self->names[i].data, self->names[k].data, self->names[i].size) == 0) {
                return s_fail (why, "an attribute", "it once only");
            }
        }
    }
    if (!ef_utf8_is_valid (self->media.data, self->media.size)) {
        return s_fail (why, "Content-Type", "UTF-8");
    }
    ef_span_t topic = s_find (self, "topic");
    if (topic.data && !ef_topic_is_valid (topic.data, topic.size)) {
        return s_fail (why, "topic", "1 to 53 of a-z A-Z 0-9 . _ -");
    }
    return 0;
}

/* source and id as one id. */
static uint32_t
s_make_id (const cloud_t *self, char id[IDS_TEXT]) {
    ef_span_t source = s_find (self, "source");
    ef_span_t own = s_find (self, "id");
    ef_buf_t whole = {0};
    ef_buf_put (&whole, source.data, source.size);
    ef_buf_put (&whole, "#", 1);
    ef_buf_put (&whole, own.data, own.size);
    uint32_t size = ids_of_key ((const char *)whole.data, whole.size, -1, id);
    ef_buf_free (&whole);
    return size;
}

static void
s_put_pair (ef_buf_t *out, uint32_t *pairs, const char *key, ef_span_t value) {
    if (value.data && value.size > 0) {
        ef_put_str (out, key);
        ef_put_strn (out, value.data, value.size);
        ++*pairs;
    }
}

static void
s_put_headers (const cloud_t *self, ef_buf_t *out) {
    ef_put_str (out, "headers");
    ef_put_map (out, self->count + (self->media.size > 0));
    for (uint32_t i = 0; i < self->count; i++) {
        char name[80];
        snprintf (name, sizeof name, "ce-%.*s", (int)self->names[i].size, self->names[i].data);
        ef_put_str (out, name);
        ef_put_strn (out, self->values[i].data, self->values[i].size);
    }
    if (self->media.size > 0) {
        ef_put_str (out, "content-type");
        ef_put_strn (out, self->media.data, self->media.size);
    }
}

/* Writes a date or a span that follows from one. */
static int
s_put_times (const cloud_t *self, ef_buf_t *out, uint32_t *pairs, char why[ITEM_WHY_BYTES]) {
    ef_span_t time = s_find (self, "time");
    ef_span_t expiry = s_find (self, "expirytime");
    int64_t ms;
    if (time.data) {
        if (ef_rfc3339_parse (time.data, time.size, &ms) || ms < 0) {
            return s_fail (why, "time", "a date as 2025-01-31T12:00:00Z");
        }
        ef_put_key_uint (out, "time", (uint64_t)ms);
        ++*pairs;
    }
    if (expiry.data) {
        if (ef_rfc3339_parse (expiry.data, expiry.size, &ms)) {
            return s_fail (why, "expirytime", "a date as 2025-01-31T12:00:00Z");
        }
        int64_t left = ms - (int64_t)ef_wall_ms ();
        ef_put_key_uint (out, "ttl", left > 1 ? (uint64_t)left : 1); /* over: dead as expired */
        ++*pairs;
    }
    return 0;
}

static int
s_put_meta (const cloud_t *self, ef_buf_t *out, char why[ITEM_WHY_BYTES]) {
    char key[IDS_TEXT];
    ef_span_t partition = s_find (self, "partitionkey");
    uint32_t pairs = 1;
    size_t mark = ef_put_open (out);
    s_put_pair (out, &pairs, "type", s_find (self, "type"));
    if (partition.data && partition.size > 0) {
        uint32_t size = ids_of_key (partition.data, partition.size, -1, key);
        s_put_pair (out, &pairs, "key", (ef_span_t){key, size});
    }
    s_put_pair (out, &pairs, "trace", s_find (self, "traceparent"));
    if (s_put_times (self, out, &pairs, why)) {
        return -1;
    }
    s_put_headers (self, out);
    ef_put_close_map (out, mark, pairs);
    return 0;
}

static int
s_write (const cloud_t *self, intake_run_t *run, item_view_t *view, char why[ITEM_WHY_BYTES]) {
    ef_buf_t *out = &run->batch->events;
    size_t start = out->size;
    char id[IDS_TEXT];
    ef_event_t event;
    const char *expected = NULL;
    ef_span_t topic = s_find (self, "topic");
    topic = topic.data ? topic : run->how->topic;
    uint32_t id_bytes = s_make_id (self, id);
    ef_put_array (out, 4);
    if (topic.data) {
        ef_put_strn (out, topic.data, topic.size);
    } else {
        ef_put_nil (out);
    }
    ef_put_strn (out, id, id_bytes);
    ef_buf_put (out, self->payload.data, self->payload.size);
    if (s_put_meta (self, out, why)) {
        out->size = start;
        return -1;
    }
    ef_cursor_t cursor = ef_cursor (out->data + start, out->size - start);
    if (ef_event_read (&cursor, &event, &expected) != EF_OK) {
        out->size = start;
        return s_fail (why, "data", expected ? expected : "less nesting");
    }
    *view = (item_view_t){event.topic, event.type, event.id, event.payload, event.schema};
    return 0;
}

/* ---- structured ---- */

/* An attribute's value: str, int or bool. */
static int
s_take_attribute (cloud_t *self, ef_span_t name, ef_cursor_t value) {
    ef_span_t text;
    int64_t number;
    bool truth;
    char digits[32];
    if (self->count == CLOUD_ATTRIBUTES_MAX) {
        return -1;
    }
    if (ef_get_int (&value, &number) == 0) {
        snprintf (digits, sizeof digits, "%lld", (long long)number);
        text = (ef_span_t){digits, (uint32_t)strlen (digits)};
    } else if (ef_get_bool (&value, &truth) == 0) {
        text = truth ? (ef_span_t){"true", 4} : (ef_span_t){"false", 5};
    } else if (ef_get_str (&value, &text)) {
        return -1;
    }
    /* The text may move as it grows: where a value lies is said once all are there. */
    self->names[self->count] = name;
    self->values[self->count++] = (ef_span_t){(const char *)(uintptr_t)self->text.size, text.size};
    ef_buf_put (&self->text, text.data, text.size);
    ef_buf_put (&self->text, "", 1);
    return 0;
}

static void
s_settle_values (cloud_t *self) {
    for (uint32_t i = 0; i < self->count; i++) {
        self->values[i].data = (const char *)self->text.data + (uintptr_t)self->values[i].data;
    }
}

static int
s_take_base64 (ef_buf_t *payload, ef_cursor_t value) {
    ef_span_t text;
    ef_buf_t bytes = {0};
    int rc = ef_get_str (&value, &text);
    rc = rc ? rc : ef_base64_decode (&bytes, text.data, text.size);
    ef_put_bin (payload, bytes.data, bytes.size);
    ef_buf_free (&bytes);
    return rc;
}

static int
s_take_members (cloud_t *self, ef_cursor_t map, ef_buf_t *payload, char why[ITEM_WHY_BYTES]) {
    uint32_t pairs;
    if (ef_peek (&map) != EF_TYPE_MAP || ef_get_map (&map, &pairs)) {
        snprintf (why, ITEM_WHY_BYTES, "expected an object");
        return -1;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t name;
        if (ef_get_str (&map, &name)) {
            snprintf (why, ITEM_WHY_BYTES, "expected names that are strings");
            return -1;
        }
        ef_cursor_t value = map;
        bool is_data = ef_span_is (name, "data");
        bool is_base64 = ef_span_is (name, "data_base64");
        if (ef_skip (&map)) {
            return s_fail (why, "data", "less nesting");
        }
        if ((is_data || is_base64) && payload->size > 0) {
            return s_fail (why, "data", "one of data and data_base64");
        }
        if (is_data) {
            ef_buf_put (payload, value.at, (size_t)(map.at - value.at));
        } else if (is_base64 && s_take_base64 (payload, value)) {
            return s_fail (why, "data_base64", "base64");
        } else if (!is_base64 && ef_peek (&value) != EF_TYPE_NIL &&
                   s_take_attribute (self, name, value)) {
            char text[64];
            ef_span_copy (name, text, sizeof text);
            return s_fail (why, text, "a string, a number or a boolean, and up to 64 attributes");
        }
    }
    return 0;
}

int
cloud_read (intake_run_t *run, ef_cursor_t map, item_view_t *view, char why[ITEM_WHY_BYTES]) {
    cloud_t self = {.count = 0};
    ef_buf_t payload = {0};
    int rc = s_take_members (&self, map, &payload, why);
    s_settle_values (&self);
    if (payload.size == 0) {
        ef_put_nil (&payload);
    }
    self.payload = (ef_span_t){(const char *)payload.data, (uint32_t)payload.size};
    self.media = s_find (&self, "datacontenttype");
    rc = rc ? rc : s_check (&self, why);
    rc = rc ? rc : s_write (&self, run, view, why);
    ef_buf_free (&payload);
    ef_buf_free (&self.text);
    return rc;
}

/* ---- binary ---- */

/* Takes off quotes and percent escapes (section 3.1.3.2). */
static void
s_decode (cloud_t *self, ef_span_t value) {
    uint32_t from = 0;
    uint32_t to = value.size;
    size_t start = self->text.size;
    bool is_quoted = to >= 2 && value.data[0] == '"' && value.data[to - 1] == '"';
    from += is_quoted;
    to -= is_quoted;
    for (uint32_t i = from; i < to; i++) {
        char c = value.data[i];
        int high = c == '%' && i + 2 < to ? ef_hex_digit (value.data[i + 1]) : -1;
        int low = c == '%' && i + 2 < to ? ef_hex_digit (value.data[i + 2]) : -1;
        if (high >= 0 && low >= 0) {
            c = (char)(high << 4 | low);
            i += 2;
        } else if (is_quoted && c == '\\' && i + 1 < to) {
            c = value.data[++i];
        }
        ef_buf_put (&self->text, &c, 1);
    }
    self->values[self->count++] =
        (ef_span_t){(const char *)(uintptr_t)start, (uint32_t)(self->text.size - start)};
    ef_buf_put (&self->text, "", 1);
}

static bool
s_ends_in (const char *text, const char *end) {
    size_t size = strlen (text);
    size_t length = strlen (end);
    return size >= length && strcmp (text + size - length, end) == 0;
}

/* The data by its media type. */
static int
s_put_data (const intake_t *how, const char *body, size_t size, ef_buf_t *out,
            char why[ITEM_WHY_BYTES]) {
    const char *expected = NULL;
    const char *media = how->media;
    uint32_t twice_size;
    if (size == 0) {
        ef_put_nil (out);
    } else if (strcmp (media, "application/json") == 0 || strcmp (media, "text/json") == 0 ||
               s_ends_in (media, "+json")) {
        size_t used = ef_json_parse (out, body, size, &expected);
        if (used < size) {
            return s_fail (why, "data", used ? "one JSON value" : expected);
        }
        if (item_twice (ef_cursor (out->data, out->size), &twice_size)) {
            return s_fail (why, "data", "every name of an object once only");
        }
    } else if (s_ends_in (media, "msgpack")) {
        ef_cursor_t cursor = ef_cursor (body, size);
        if (ef_skip (&cursor) || ef_cursor_left (&cursor) > 0) {
            return s_fail (why, "data", "one MessagePack value");
        }
        ef_buf_put (out, body, size);
    } else if (strncmp (media, "text/", 5) == 0 && ef_utf8_is_valid (body, size)) {
        ef_put_strn (out, body, size);
    } else {
        ef_put_bin (out, body, size);
    }
    return 0;
}

int
cloud_read_binary (intake_run_t *run, const char *body, size_t size, item_view_t *view,
                   char why[ITEM_WHY_BYTES]) {
    const intake_t *how = run->how;
    cloud_t self = {.media = {how->media, (uint32_t)strlen (how->media)}};
    ef_buf_t payload = {0};
    if (how->attributes > CLOUD_ATTRIBUTES_MAX) {
        return s_fail (why, "attributes", "up to 64 of them");
    }
    for (uint32_t i = 0; i < how->attributes; i++) {
        self.names[self.count] = how->names[i];
        s_decode (&self, how->values[i]);
    }
    s_settle_values (&self);
    int rc = s_check (&self, why);
    rc = rc ? rc : s_put_data (how, body, size, &payload, why);
    self.payload = (ef_span_t){(const char *)payload.data, (uint32_t)payload.size};
    rc = rc ? rc : s_write (&self, run, view, why);
    ef_buf_free (&payload);
    ef_buf_free (&self.text);
    return rc;
}
