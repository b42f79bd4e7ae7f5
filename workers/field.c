/* Values out of a payload by name or dotted path. SPDX-License-Identifier: MIT */
#include "field.h"

#include "../proto/json.h"

/* Takes the next value whole. */
static bool
s_take (ef_cursor_t *cursor, ef_span_t *value) {
    const uint8_t *from = cursor->at;
    if (ef_skip (cursor)) {
        return false;
    }
    *value = (ef_span_t){(const char *)from, (uint32_t)(cursor->at - from)};
    return true;
}

static bool
s_is_nil (ef_span_t value) {
    ef_cursor_t cursor = ef_cursor (value.data, value.size);
    return ef_peek (&cursor) == EF_TYPE_NIL;
}

static bool
s_in_map (ef_cursor_t cursor, const char *key, size_t size, ef_span_t *value) {
    uint32_t count;
    if (ef_get_map (&cursor, &count)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        ef_span_t name;
        bool is_text = ef_get_str (&cursor, &name) == 0;
        if ((!is_text && ef_skip (&cursor)) || !s_take (&cursor, value)) {
            return false;
        }
        if (is_text && name.size == size && memcmp (name.data, key, size) == 0) {
            return true;
        }
    }
    return false;
}

static bool
s_in_array (ef_cursor_t cursor, const char *place, size_t size, ef_span_t *value) {
    uint32_t count;
    uint32_t index = 0;
    if (size == 0 || size > 9 || ef_get_array (&cursor, &count)) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (place[i] < '0' || place[i] > '9') {
            return false;
        }
        index = index * 10 + (uint32_t)(place[i] - '0');
    }
    if (index >= count) {
        return false;
    }
    for (uint32_t i = 0; i <= index; i++) {
        if (!s_take (&cursor, value)) {
            return false;
        }
    }
    return true;
}

static bool
s_step (ef_span_t in, const char *key, size_t size, ef_span_t *value) {
    ef_cursor_t cursor = ef_cursor (in.data, in.size);
    return ef_peek (&cursor) == EF_TYPE_ARRAY ? s_in_array (cursor, key, size, value)
                                              : s_in_map (cursor, key, size, value);
}

bool
field_find (ef_span_t payload, const char *path, size_t path_size, ef_span_t *value) {
    const char *end = path + path_size;
    if (s_step (payload, path, path_size, value)) {
        return !s_is_nil (*value);
    }
    for (ef_span_t in = payload; path <= end; in = *value) {
        const char *dot = memchr (path, '.', (size_t)(end - path));
        size_t size = dot ? (size_t)(dot - path) : (size_t)(end - path);
        if (!s_step (in, path, size, value)) {
            return false;
        }
        path += size + 1;
    }
    return !s_is_nil (*value);
}

bool
field_get (ef_span_t payload, const char *key, ef_span_t *value) {
    ef_cursor_t cursor = ef_cursor (payload.data, payload.size);
    return s_in_map (cursor, key, strlen (key), value) && !s_is_nil (*value);
}

bool
field_as_text (ef_span_t value, ef_span_t *text) {
    ef_cursor_t cursor = ef_cursor (value.data, value.size);
    return ef_get_bytes (&cursor, text) == 0;
}

int
field_print (ef_buf_t *out, ef_span_t value) {
    ef_span_t text;
    if (field_as_text (value, &text)) {
        ef_buf_put (out, text.data, text.size);
        return 0;
    }
    ef_cursor_t cursor = ef_cursor (value.data, value.size);
    return ef_json_print (out, &cursor);
}

void
field_list (field_list_t *self, ef_span_t value) {
    self->cursor = ef_cursor (value.data, value.size);
    if (ef_get_array (&self->cursor, &self->left)) {
        self->left = 1;
    }
}

bool
field_next (field_list_t *self, ef_span_t *value) {
    if (self->left == 0 || !s_take (&self->cursor, value)) {
        return false;
    }
    self->left--;
    return true;
}
