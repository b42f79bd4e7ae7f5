/* Bodies into events. SPDX-License-Identifier: MIT */
#include "intake.h"
#include "../../proto/json.h"

#include <stdio.h>
#include <stdlib.h>

void
batch_free (batch_t *self) {
    for (uint32_t i = 0; i < self->count && self->refused > 0; i++) {
        free (self->slots[i].why);
        free (self->slots[i].pointer);
    }
    free (self->slots);
    ef_buf_free (&self->events);
    memset (self, 0, sizeof *self);
}

slot_t *
batch_add (batch_t *self) {
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? self->capacity * 2 : 1;
        self->slots = realloc (self->slots, self->capacity * sizeof *self->slots);
        ef_assert (self->slots != NULL);
    }
    slot_t *slot = &self->slots[self->count++];
    memset (slot, 0, sizeof *slot);
    return slot;
}

void
batch_refuse (batch_t *self, slot_t *slot, const char *code, const char *why) {
    self->refused += slot->code == NULL;
    slot->code = code;
    free (slot->why);
    slot->why = why && why[0] ? strdup (why) : NULL;
}

ef_span_t
batch_id (const batch_t *self, const slot_t *slot) {
    return slot->id_bytes
               ? (ef_span_t){(const char *)self->events.data + slot->id_at, slot->id_bytes}
               : (ef_span_t){NULL, 0};
}

ef_span_t
batch_topic (const batch_t *self, const slot_t *slot) {
    return slot->topic_bytes
               ? (ef_span_t){(const char *)self->events.data + slot->topic_at, slot->topic_bytes}
               : (ef_span_t){NULL, 0};
}

ef_span_t
intake_next_id (intake_run_t *self) {
    const intake_t *how = self->how;
    if (how->key.data) {
        int64_t index = self->is_single ? -1 : (int64_t)self->batch->count;
        self->next_bytes = ids_of_key (how->key.data, how->key.size, index, self->next_id);
    } else if (self->next_bytes == 0) {
        self->next_bytes = ids_next (self->next_id);
    }
    return (ef_span_t){self->next_id, self->next_bytes};
}

void
intake_refuse (intake_run_t *self, const char *code, const char *why) {
    batch_refuse (self->batch, batch_add (self->batch), code, why);
}

/* The payload isn't what its schema says. */
static bool
s_fits_schema (intake_run_t *self, slot_t *slot, const item_view_t *view) {
    char pointer[200];
    char why[200];
    char text[500];
    const schema_t *schema =
        self->how->schemas ? schemas_find (self->how->schemas, view->type, view->schema) : NULL;
    ef_cursor_t payload = ef_cursor (view->payload.data, view->payload.size);
    if (schema == NULL || schema_fits (schema, payload, pointer, why)) {
        return true;
    }
    snprintf (text, sizeof text, "payload%s: %s", pointer, why);
    batch_refuse (self->batch, slot, "SCHEMA", text);
    snprintf (text, sizeof text, "#/payload%s", pointer);
    slot->pointer = strdup (text);
    return false;
}

void
intake_take (intake_run_t *self, size_t start, const item_view_t *view) {
    batch_t *batch = self->batch;
    slot_t *slot = batch_add (batch);
    const char *base = (const char *)batch->events.data;
    const intake_t *how = self->how;
    slot->at = (uint32_t)start;
    slot->bytes = (uint32_t)(batch->events.size - start);
    if (view->id.data) {
        slot->id_at = (uint32_t)(view->id.data - base);
        slot->id_bytes = (uint8_t)view->id.size;
        bool was_ours = view->id.size == self->next_bytes &&
                        memcmp (view->id.data, self->next_id, view->id.size) == 0;
        self->next_bytes = was_ours ? 0 : self->next_bytes;
    }
    if (view->topic.data) {
        slot->topic_at = (uint32_t)(view->topic.data - base);
        slot->topic_bytes = (uint8_t)view->topic.size;
    }
    if (how->may_publish && !how->may_publish (how->arg, view->topic.data, view->topic.size)) {
        batch_refuse (batch, slot, "DENIED",
                      view->topic.data ? "this token may not publish to this topic"
                                       : "this token may not publish without a topic");
    } else {
        (void)s_fits_schema (self, slot, view); /* it is refused */
    }
    if (slot->code) {
        slot->bytes = 0; /* it stays among the bytes, for its id */
    }
}

static int
s_fail (char why[ITEM_WHY_BYTES], const char *text) {
    snprintf (why, ITEM_WHY_BYTES, "body: expected %s", text);
    return -1;
}

/* Reads one JSON value and nothing behind it. */
static int
s_parse (ef_buf_t *out, const char *text, size_t size, char why[ITEM_WHY_BYTES]) {
    const char *expected = NULL;
    uint32_t twice_size;
    size_t used = ef_json_parse (out, text, size, &expected);
    if (used == 0) {
        return s_fail (why, expected ? expected : "a JSON value");
    }
    if (used < size) {
        return s_fail (why, "one JSON value and nothing behind it");
    }
    const char *twice = item_twice (ef_cursor (out->data, out->size), &twice_size);
    if (twice) {
        snprintf (why, ITEM_WHY_BYTES, "%.*s: expected it once only",
                  (int)(twice_size < 60 ? twice_size : 60), twice);
        return -1;
    }
    return 0;
}

/* One event: a map as clients say it, or an array as the protocol has it. */
static void
s_take_value (intake_run_t *self, ef_cursor_t *value) {
    const intake_t *how = self->how;
    char why[ITEM_WHY_BYTES];
    item_view_t view;
    size_t start = self->batch->events.size;
    ef_cursor_t next = *value;
    const item_defaults_t defaults = {how->topic, how->type, intake_next_id (self),
                                      how->needs_type};
    int rc = ef_skip (&next);
    if (rc) {
        snprintf (why, sizeof why, "expected a value that can be read");
        next.at = next.end;
    } else if (how->form == INTAKE_CLOUD || how->form == INTAKE_CLOUD_BATCH) {
        rc = cloud_read (self, *value, &view, why);
    } else if (how->form == INTAKE_MSGPACK && ef_peek (value) == EF_TYPE_ARRAY) {
        rc = item_take (&self->batch->events, value, &defaults, &view, why);
    } else {
        ef_cursor_t map = *value;
        rc = item_read (&self->batch->events, &map, &defaults, &view, why);
    }
    if (rc) {
        intake_refuse (self, "BAD_EVENT", why);
    } else {
        intake_take (self, start, &view);
    }
    *value = next;
}

static int
s_take_list (intake_run_t *self, ef_cursor_t *list, char why[ITEM_WHY_BYTES]) {
    uint32_t count;
    if (ef_get_array (list, &count)) {
        return s_fail (why, "an array");
    }
    if (count > INTAKE_EVENTS_MAX) {
        return s_fail (why, "up to 65536 events");
    }
    self->batch->is_list = true;
    for (uint32_t i = 0; i < count; i++) {
        s_take_value (self, list);
    }
    return 0;
}

static const char *
s_read_json (intake_run_t *self, const char *body, size_t size, char why[ITEM_WHY_BYTES]) {
    ef_buf_t value = {0};
    ef_buf_grow (&value, size);
    ef_buf_grow (&self->batch->events, size + 128); /* an id, heads */
    int rc = s_parse (&value, body, size, why);
    ef_cursor_t cursor = ef_cursor (value.data, value.size);
    bool is_list = rc == 0 && ef_peek (&cursor) == EF_TYPE_ARRAY;
    if (rc == 0 && self->how->form == INTAKE_CLOUD_BATCH && !is_list) {
        rc = s_fail (why, "an array of CloudEvents");
    } else if (rc == 0 && is_list && self->how->form != INTAKE_CLOUD) {
        rc = s_take_list (self, &cursor, why);
    } else if (rc == 0 && ef_peek (&cursor) != EF_TYPE_MAP) {
        rc = s_fail (why, self->how->form == INTAKE_JSON ? "an object, or an array of them"
                                                         : "an object");
    } else if (rc == 0) {
        self->is_single = true;
        s_take_value (self, &cursor);
    }
    ef_buf_free (&value);
    return rc ? "BAD_REQUEST" : NULL;
}

static const char *
s_read_lines (intake_run_t *self, const char *body, size_t size, char why[ITEM_WHY_BYTES]) {
    ef_buf_t value = {0};
    self->batch->is_list = true;
    for (size_t at = 0; at < size;) {
        const char *line = body + at;
        const char *end = memchr (line, '\n', size - at);
        size_t length = end ? (size_t)(end - line) : size - at;
        at += length + 1;
        while (length > 0 && (line[length - 1] == '\r' || line[length - 1] == ' ')) {
            length--;
        }
        if (length == 0) {
            continue;
        }
        if (self->batch->count == INTAKE_EVENTS_MAX) {
            ef_buf_free (&value);
            s_fail (why, "up to 65536 lines");
            return "TOO_LARGE";
        }
        ef_buf_clear (&value);
        if (s_parse (&value, line, length, why)) {
            intake_refuse (self, "BAD_REQUEST", why);
            continue;
        }
        ef_cursor_t cursor = ef_cursor (value.data, value.size);
        s_take_value (self, &cursor);
    }
    ef_buf_free (&value);
    return NULL;
}

/* True where the array is a list of events, and no event itself: that begins with its topic. */
static bool
s_is_list (ef_cursor_t value) {
    uint32_t count;
    if (ef_peek (&value) != EF_TYPE_ARRAY || ef_get_array (&value, &count)) {
        return false;
    }
    ef_type_t first = ef_peek (&value);
    return count == 0 || first == EF_TYPE_ARRAY || first == EF_TYPE_MAP;
}

static const char *
s_read_msgpack (intake_run_t *self, const char *body, size_t size, char why[ITEM_WHY_BYTES]) {
    ef_cursor_t cursor = ef_cursor (body, size);
    ef_cursor_t first = cursor;
    uint32_t unused;
    if (size == 0 || ef_skip (&first)) {
        s_fail (why, "MessagePack, nested to 32 at the most");
        return "BAD_REQUEST";
    }
    const char *twice = item_twice (cursor, &unused);
    if (ef_cursor_left (&first) == 0 && s_is_list (cursor)) {
        return twice || s_take_list (self, &cursor, why) ? "BAD_REQUEST" : NULL;
    }
    self->is_single = ef_cursor_left (&first) == 0;
    self->batch->is_list = !self->is_single;
    while (ef_cursor_left (&cursor) > 0) {
        first = cursor;
        twice = item_twice (cursor, &unused);
        if (ef_skip (&first) || twice || self->batch->count == INTAKE_EVENTS_MAX) {
            s_fail (why, twice ? "every key of a map once only" : "up to 65536 MessagePack values");
            return "BAD_REQUEST";
        }
        s_take_value (self, &cursor);
    }
    return NULL;
}

static const char *
s_read_binary (intake_run_t *self, const char *body, size_t size, char why[ITEM_WHY_BYTES]) {
    item_view_t view;
    size_t start = self->batch->events.size;
    self->is_single = true;
    if (cloud_read_binary (self, body, size, &view, why)) {
        return "BAD_REQUEST";
    }
    intake_take (self, start, &view);
    return NULL;
}

const char *
intake_read (batch_t *batch, const intake_t *how, const char *body, size_t size,
             char why[ITEM_WHY_BYTES]) {
    intake_run_t run = {.batch = batch, .how = how};
    const char *code;
    memset (batch, 0, sizeof *batch);
    why[0] = 0;
    switch (how->form) {
    case INTAKE_LINES: code = s_read_lines (&run, body, size, why); break;
    case INTAKE_MSGPACK: code = s_read_msgpack (&run, body, size, why); break;
    case INTAKE_CLOUD_BINARY: code = s_read_binary (&run, body, size, why); break;
    case INTAKE_JSON:
    case INTAKE_CLOUD:
    case INTAKE_CLOUD_BATCH:
    default: code = s_read_json (&run, body, size, why); break;
    }
    if (code == NULL && batch->count == 0) {
        s_fail (why, "one event at least");
        code = "BAD_REQUEST";
    }
    if (code) {
        batch_free (batch);
    }
    return code;
}
