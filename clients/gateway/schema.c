/* JSON Schema over MessagePack values. SPDX-License-Identifier: MIT
   Source: json-schema.org/draft/2020-12, "Validation", section 6; "Core", section 10.3. */
#include "schema_private.h"
#include "../../proto/json.h"
#include "../../proto/limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

const char *const schema_type_names[7] = {"null",   "boolean", "integer", "number",
                                          "string", "array",   "object"};

static node_t *s_compile (ef_cursor_t *cursor, unsigned depth, char error[512]);

static void
s_free (node_t *node) {
    if (node) {
        for (uint32_t i = 0; i < node->property_count; i++) {
            s_free (node->properties[i].node);
        }
        free (node->properties);
        s_free (node->others);
        s_free (node->items);
        free (node);
    }
}

static node_t *
s_new (void) {
    node_t *node = calloc (1, sizeof *node);
    ef_assert (node != NULL);
    node->least = node->above = -INFINITY;
    node->most = node->below = INFINITY;
    for (unsigned i = 0; i < 3; i++) {
        node->sizes[i][1] = UINT64_MAX;
    }
    return node;
}

property_t *
schema_property (const node_t *node, ef_span_t name) {
    for (uint32_t i = 0; i < node->property_count; i++) {
        if (node->properties[i].name.size == name.size &&
            memcmp (node->properties[i].name.data, name.data, name.size) == 0) {
            return &node->properties[i];
        }
    }
    return NULL;
}

static property_t *
s_require_property (node_t *node, ef_span_t name) {
    property_t *property = schema_property (node, name);
    if (property == NULL) {
        node->properties =
            realloc (node->properties, (node->property_count + 1) * sizeof *node->properties);
        ef_assert (node->properties != NULL);
        property = &node->properties[node->property_count++];
        *property = (property_t){.name = name};
    }
    return property;
}

static int
s_add_type (node_t *node, ef_cursor_t *value) {
    ef_span_t name;
    if (ef_get_str (value, &name)) {
        return -1;
    }
    for (unsigned i = 0; i < 7; i++) {
        if (ef_span_is (name, schema_type_names[i])) {
            node->types |= 1u << i;
            return 0;
        }
    }
    return -1;
}

static int
s_take_type (node_t *node, ef_cursor_t value) {
    uint32_t count = 1;
    if (ef_peek (&value) == EF_TYPE_ARRAY && ef_get_array (&value, &count)) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (s_add_type (node, &value)) {
            return -1;
        }
    }
    return node->types ? 0 : -1;
}

static int
s_take_required (node_t *node, ef_cursor_t value) {
    uint32_t count;
    ef_span_t name;
    if (ef_get_array (&value, &count)) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (ef_get_str (&value, &name)) {
            return -1;
        }
        s_require_property (node, name)->is_required = true;
    }
    return 0;
}

static int
s_take_properties (node_t *node, ef_cursor_t value, unsigned depth, char error[512]) {
    uint32_t count;
    ef_span_t name;
    if (ef_peek (&value) != EF_TYPE_MAP || ef_get_map (&value, &count)) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (ef_get_str (&value, &name)) {
            return -1;
        }
        property_t *property = s_require_property (node, name);
        if (property->node || (property->node = s_compile (&value, depth + 1, error)) == NULL) {
            return -1;
        }
    }
    return 0;
}

int
schema_number (ef_cursor_t value, double *number) {
    int64_t integer;
    uint64_t large;
    if (ef_get_int (&value, &integer) == 0) {
        *number = (double)integer;
        return 0;
    }
    if (ef_get_uint (&value, &large) == 0) {
        *number = (double)large;
        return 0;
    }
    return ef_get_double (&value, number);
}

/* Keywords whose value is a number. 0; -1: wrong; 1: it is none of these. */
static int
s_take_bound (node_t *node, ef_span_t key, ef_cursor_t value) {
    const struct {
        const char *name;
        double *real;
        uint64_t *size;
    } rows[] = {{"minimum", &node->least, NULL},
                {"maximum", &node->most, NULL},
                {"exclusiveMinimum", &node->above, NULL},
                {"exclusiveMaximum", &node->below, NULL},
                {"minLength", NULL, &node->sizes[0][0]},
                {"maxLength", NULL, &node->sizes[0][1]},
                {"minItems", NULL, &node->sizes[1][0]},
                {"maxItems", NULL, &node->sizes[1][1]},
                {"minProperties", NULL, &node->sizes[2][0]},
                {"maxProperties", NULL, &node->sizes[2][1]}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (ef_span_is (key, rows[i].name)) {
            return rows[i].real ? schema_number (value, rows[i].real)
                                : ef_get_uint (&value, rows[i].size);
        }
    }
    return 1;
}

static ef_span_t
s_span (ef_cursor_t value) {
    const uint8_t *start = value.at;
    int rc = ef_skip (&value);
    ef_assert (rc == 0); /* our own parser wrote it */
    return (ef_span_t){(const char *)start, (uint32_t)(value.at - start)};
}

/* One keyword. 0, or -1 and perhaps `error`. */
static int
s_take (node_t *node, ef_span_t key, ef_cursor_t value, unsigned depth, char error[512]) {
    static const char *const passed[] = {"$schema",     "$id",      "$comment", "title",
                                         "description", "default",  "examples", "format",
                                         "deprecated",  "readOnly", "writeOnly"};
    if (ef_span_is (key, "type")) {
        return s_take_type (node, value);
    }
    if (ef_span_is (key, "required")) {
        return s_take_required (node, value);
    }
    if (ef_span_is (key, "properties")) {
        return s_take_properties (node, value, depth, error);
    }
    if (ef_span_is (key, "additionalProperties")) {
        return (node->others = s_compile (&value, depth + 1, error)) ? 0 : -1;
    }
    if (ef_span_is (key, "items")) {
        return (node->items = s_compile (&value, depth + 1, error)) ? 0 : -1;
    }
    if (ef_span_is (key, "enum")) {
        node->choices = s_span (value);
        return ef_peek (&value) == EF_TYPE_ARRAY ? 0 : -1;
    }
    if (ef_span_is (key, "const")) {
        node->constant = s_span (value);
        return 0;
    }
    for (size_t i = 0; i < sizeof passed / sizeof passed[0]; i++) {
        if (ef_span_is (key, passed[i])) {
            return 0;
        }
    }
    int rc = s_take_bound (node, key, value);
    if (rc > 0) {
        snprintf (error, 512, "the keyword %.*s isn't known here",
                  (int)(key.size < 60 ? key.size : 60), key.data);
    }
    return rc ? -1 : 0;
}

static node_t *
s_compile (ef_cursor_t *cursor, unsigned depth, char error[512]) {
    uint32_t count = 0;
    bool truth;
    node_t *node = s_new ();
    if (ef_get_bool (cursor, &truth) == 0) {
        node->is_nothing = !truth;
        return node;
    }
    if (depth > EF_NESTING_MAX || ef_peek (cursor) != EF_TYPE_MAP || ef_get_map (cursor, &count)) {
        snprintf (error, 512, "a schema is an object, or true or false");
        s_free (node);
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        ef_span_t key = {"", 0};
        int rc = ef_get_str (cursor, &key);
        ef_cursor_t value = *cursor;
        rc = rc || ef_skip (cursor) || s_take (node, key, value, depth, error) ? -1 : 0;
        if (rc) {
            if (error[0] == 0) {
                snprintf (error, 512, "%.*s has a value that it can't have",
                          (int)(key.size < 60 ? key.size : 60), key.data);
            }
            s_free (node);
            return NULL;
        }
    }
    return node;
}

schema_t *
schema_new (const char *text, size_t size, char error[512]) {
    const char *why = "";
    schema_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    error[0] = 0;
    size_t used = ef_json_parse (&self->text, text, size, &why);
    if (used < size) {
        snprintf (error, 512, "expected %s", used ? "one JSON value" : why);
    } else {
        ef_cursor_t cursor = ef_cursor (self->text.data, self->text.size);
        self->root = s_compile (&cursor, 0, error);
    }
    if (self->root == NULL) {
        schema_destroy (&self);
    }
    return self;
}

void
schema_destroy (schema_t **self_p) {
    if (*self_p) {
        s_free ((*self_p)->root);
        ef_buf_free (&(*self_p)->text);
        free (*self_p);
        *self_p = NULL;
    }
}
