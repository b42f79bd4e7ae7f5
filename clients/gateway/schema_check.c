/* Does a value fit its schema? SPDX-License-Identifier: MIT
   Source: json-schema.org/draft/2020-12, "Validation", section 6. */
#include "../../proto/limits.h"
#include "schema_private.h"

#include <math.h>
#include <stdio.h>

typedef struct {
    char *pointer; /* 200 bytes */
    char *why;     /* 200 bytes */
} check_t;

static bool s_check (const node_t *node, ef_cursor_t *value, check_t *check);

static bool
s_fail (check_t *check, const char *expected) {
    snprintf (check->why, 200, "expected %s", expected);
    return false;
}

/* Adds a part to the pointer; returns the size before, to go back to. */
static size_t
s_enter (check_t *check, const char *name, size_t size) {
    size_t before = strlen (check->pointer);
    size_t at = before;
    if (at + 2 < 200) {
        check->pointer[at++] = '/';
    }
    for (size_t i = 0; i < size && at + 3 < 200; i++) {
        if (name[i] == '~' || name[i] == '/') {
            check->pointer[at++] = '~';
            check->pointer[at++] = name[i] == '~' ? '0' : '1';
        } else {
            check->pointer[at++] = (uint8_t)name[i] < 0x20 ? '?' : name[i];
        }
    }
    check->pointer[at] = 0;
    return before;
}

/* Are two values the same, 1 and 1.0 too, maps in whatever order? */
static bool s_is_same (ef_cursor_t a, ef_cursor_t b, unsigned depth);

static bool
s_is_same_list (ef_cursor_t a, ef_cursor_t b, unsigned depth) {
    uint32_t left;
    uint32_t right;
    if (ef_get_array (&a, &left) || ef_get_array (&b, &right) || left != right) {
        return false;
    }
    for (uint32_t i = 0; i < left; i++) {
        if (!s_is_same (a, b, depth + 1) || ef_skip (&a) || ef_skip (&b)) {
            return false;
        }
    }
    return true;
}

static bool
s_is_same_map (ef_cursor_t a, ef_cursor_t b, unsigned depth) {
    uint32_t left;
    uint32_t right;
    if (ef_get_map (&a, &left) || ef_get_map (&b, &right) || left != right) {
        return false;
    }
    for (uint32_t i = 0; i < left; i++) {
        ef_cursor_t at = b;
        ef_span_t key;
        ef_span_t other;
        bool is_found = false;
        if (ef_get_str (&a, &key)) {
            return false;
        }
        for (uint32_t k = 0; k < right && !is_found; k++) {
            if (ef_get_str (&at, &other)) {
                return false;
            }
            is_found = key.size == other.size && memcmp (key.data, other.data, key.size) == 0 &&
                       s_is_same (a, at, depth + 1);
            if (ef_skip (&at)) {
                return false;
            }
        }
        if (!is_found || ef_skip (&a)) {
            return false;
        }
    }
    return true;
}

static bool
s_is_same (ef_cursor_t a, ef_cursor_t b, unsigned depth) {
    double left;
    double right;
    if (schema_number (a, &left) == 0 && schema_number (b, &right) == 0) {
        return !(left < right) && !(left > right);
    }
    ef_type_t type = ef_peek (&a);
    if (type != ef_peek (&b) || depth > EF_NESTING_MAX) {
        return false;
    }
    if (type == EF_TYPE_ARRAY) {
        return s_is_same_list (a, b, depth);
    }
    if (type == EF_TYPE_MAP) {
        return s_is_same_map (a, b, depth);
    }
    ef_span_t one;
    ef_span_t other;
    if (ef_get_bytes (&a, &one) == 0 && ef_get_bytes (&b, &other) == 0) {
        return one.size == other.size && memcmp (one.data, other.data, one.size) == 0;
    }
    const uint8_t *from = a.at;
    const uint8_t *to = b.at;
    return ef_skip (&a) == 0 && ef_skip (&b) == 0 && a.at - from == b.at - to &&
           memcmp (from, to, (size_t)(a.at - from)) == 0;
}

static unsigned
s_types_of (ef_cursor_t value) {
    double number;
    switch (ef_peek (&value)) {
    case EF_TYPE_NIL: return TYPE_NULL;
    case EF_TYPE_BOOL: return TYPE_BOOLEAN;
    case EF_TYPE_INT: return TYPE_INTEGER | TYPE_NUMBER;
    case EF_TYPE_FLOAT:
        return ef_get_double (&value, &number) == 0 && number == trunc (number) /* 1.0 is one */
                   ? TYPE_INTEGER | TYPE_NUMBER
                   : TYPE_NUMBER;
    case EF_TYPE_STR: return TYPE_STRING;
    case EF_TYPE_ARRAY: return TYPE_ARRAY;
    case EF_TYPE_MAP: return TYPE_OBJECT;
    default: return 0;
    }
}

static bool
s_check_type (const node_t *node, ef_cursor_t value, check_t *check) {
    char names[120] = "";
    size_t used = 0;
    if (node->types == 0 || (node->types & s_types_of (value)) != 0) {
        return true;
    }
    for (unsigned i = 0; i < 7; i++) {
        if (node->types & 1u << i) {
            used += (size_t)snprintf (names + used, sizeof names - used, "%s%s", used ? " or " : "",
                                      schema_type_names[i]);
        }
    }
    return s_fail (check, names);
}

static bool
s_check_choice (const node_t *node, ef_cursor_t value, check_t *check) {
    uint32_t count = 0;
    if (node->constant.data &&
        !s_is_same (value, ef_cursor (node->constant.data, node->constant.size), 0)) {
        return s_fail (check, "the value that const names");
    }
    if (node->choices.data == NULL) {
        return true;
    }
    ef_cursor_t list = ef_cursor (node->choices.data, node->choices.size);
    int rc = ef_get_array (&list, &count);
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        if (s_is_same (value, list, 0)) {
            return true;
        }
        rc = ef_skip (&list);
    }
    return s_fail (check, "one of the values that enum names");
}

/* `size` of a string (0), an array (1), an object (2). */
static bool
s_check_size (const node_t *node, unsigned what, uint64_t size, check_t *check) {
    static const char *const names[] = {"characters", "items", "members"};
    char text[120];
    uint64_t least = node->sizes[what][0];
    uint64_t most = node->sizes[what][1];
    if (size >= least && size <= most) {
        return true;
    }
    snprintf (text, sizeof text, "%s %llu %s", size < least ? "at least" : "at most",
              (unsigned long long)(size < least ? least : most), names[what]);
    return s_fail (check, text);
}

static bool
s_check_number (const node_t *node, double number, check_t *check) {
    char text[120];
    const char *how = number < node->least      ? "at least"
                      : number > node->most     ? "at most"
                      : !(number > node->above) ? "more than"
                      : !(number < node->below) ? "less than"
                                                : NULL;
    double bound = number < node->least      ? node->least
                   : number > node->most     ? node->most
                   : !(number > node->above) ? node->above
                                             : node->below;
    if (how == NULL) {
        return true;
    }
    snprintf (text, sizeof text, "%s %.15g", how, bound);
    return s_fail (check, text);
}

static bool
s_check_array (const node_t *node, ef_cursor_t *value, check_t *check) {
    uint32_t count;
    if (ef_get_array (value, &count) || !s_check_size (node, 1, count, check)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        char index[16];
        int size = snprintf (index, sizeof index, "%u", i);
        size_t before = node->items ? s_enter (check, index, (size_t)size) : 0;
        if (node->items ? !s_check (node->items, value, check) : ef_skip (value) != 0) {
            return false;
        }
        if (node->items) {
            check->pointer[before] = 0;
        }
    }
    return true;
}

static bool
s_check_required (const node_t *node, ef_cursor_t map, uint32_t count, check_t *check) {
    for (uint32_t i = 0; i < node->property_count; i++) {
        const property_t *property = &node->properties[i];
        ef_cursor_t at = map;
        bool is_there = !property->is_required;
        for (uint32_t k = 0; k < count && !is_there; k++) {
            ef_span_t key = {"", 0};
            bool is_str = ef_get_str (&at, &key) == 0;
            if (!is_str && ef_skip (&at)) {
                return false;
            }
            is_there = is_str && key.size == property->name.size &&
                       memcmp (key.data, property->name.data, key.size) == 0;
            if (ef_skip (&at)) {
                return false;
            }
        }
        if (!is_there) {
            (void)s_enter (check, property->name.data, property->name.size);
            return s_fail (check, "it: this member is required");
        }
    }
    return true;
}

static bool
s_check_object (const node_t *node, ef_cursor_t *value, check_t *check) {
    uint32_t count;
    if (ef_get_map (value, &count) || !s_check_size (node, 2, count, check) ||
        !s_check_required (node, *value, count, check)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        ef_span_t key = {"", 0};
        if (ef_get_str (value, &key) && ef_skip (value)) {
            return false;
        }
        const property_t *property = schema_property (node, key);
        const node_t *inner = property && property->node ? property->node
                              : property                 ? NULL
                                                         : node->others;
        size_t before = s_enter (check, key.data, key.size);
        if (inner ? !s_check (inner, value, check) : ef_skip (value) != 0) {
            return false;
        }
        check->pointer[before] = 0;
    }
    return true;
}

/* How many code points a UTF-8 text has. */
static uint64_t
s_length (ef_span_t text) {
    uint64_t length = 0;
    for (uint32_t i = 0; i < text.size; i++) {
        length += ((uint8_t)text.data[i] & 0xc0) != 0x80;
    }
    return length;
}

/* Where it fits, the cursor is moved behind the value. */
static bool
s_check (const node_t *node, ef_cursor_t *value, check_t *check) {
    ef_span_t text;
    double number;
    if (node->is_nothing) {
        return s_fail (check, "nothing: this member isn't known");
    }
    if (!s_check_type (node, *value, check) || !s_check_choice (node, *value, check)) {
        return false;
    }
    ef_type_t type = ef_peek (value);
    if (type == EF_TYPE_ARRAY) {
        return s_check_array (node, value, check);
    }
    if (type == EF_TYPE_MAP) {
        return s_check_object (node, value, check);
    }
    if (type == EF_TYPE_STR && ef_get_str (value, &text) == 0) {
        return s_check_size (node, 0, s_length (text), check);
    }
    if (schema_number (*value, &number) == 0 && !s_check_number (node, number, check)) {
        return false;
    }
    return ef_skip (value) == 0;
}

bool
schema_fits (const schema_t *self, ef_cursor_t value, char pointer[200], char why[200]) {
    check_t check = {pointer, why};
    pointer[0] = 0;
    why[0] = 0;
    bool fits = s_check (self->root, &value, &check);
    if (!fits && why[0] == 0) {
        snprintf (why, 200, "expected what can be read");
    }
    return fits;
}
