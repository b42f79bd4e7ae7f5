/* Bounded reader of MessagePack. SPDX-License-Identifier: MIT
   Format: github.com/msgpack/msgpack, spec.md ("Formats"). */
#include "cursor.h"
#include "limits.h"

/* What a head byte says: its type, how many bytes of length or value follow it, and for the fixed
   forms the length that it holds itself. */
typedef struct {
    uint8_t type;  /* ef_type_t */
    uint8_t width; /* bytes behind the head byte that hold a length, a count or a number */
} head_t;

static const head_t s_heads[32] = {
    /* 0xc0 to 0xdf */
    {EF_TYPE_NIL, 0},   {EF_TYPE_NONE, 0},  {EF_TYPE_BOOL, 0},  {EF_TYPE_BOOL, 0},
    {EF_TYPE_BIN, 1},   {EF_TYPE_BIN, 2},   {EF_TYPE_BIN, 4},   {EF_TYPE_EXT, 1},
    {EF_TYPE_EXT, 2},   {EF_TYPE_EXT, 4},   {EF_TYPE_FLOAT, 4}, {EF_TYPE_FLOAT, 8},
    {EF_TYPE_INT, 1},   {EF_TYPE_INT, 2},   {EF_TYPE_INT, 4},   {EF_TYPE_INT, 8},
    {EF_TYPE_INT, 1},   {EF_TYPE_INT, 2},   {EF_TYPE_INT, 4},   {EF_TYPE_INT, 8},
    {EF_TYPE_EXT, 0},   {EF_TYPE_EXT, 0},   {EF_TYPE_EXT, 0},   {EF_TYPE_EXT, 0},
    {EF_TYPE_EXT, 0},   {EF_TYPE_STR, 1},   {EF_TYPE_STR, 2},   {EF_TYPE_STR, 4},
    {EF_TYPE_ARRAY, 2}, {EF_TYPE_ARRAY, 4}, {EF_TYPE_MAP, 2},   {EF_TYPE_MAP, 4},
};

static inline uint64_t
s_be (const uint8_t *at, unsigned width) {
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++) {
        value = value << 8 | at[i];
    }
    return value;
}

/* Reads one head. `value`: for containers, str, bin and ext the count or length; for numbers the
   raw bits. `body`: bytes behind the head that belong to this value itself, not to its children. */
typedef struct {
    ef_type_t type;
    uint8_t code;
    unsigned head; /* bytes of the head */
    uint64_t value;
    uint64_t body;
} item_t;

static inline int
s_head (const ef_cursor_t *self, item_t *item) {
    size_t left = ef_cursor_left (self);
    if (left == 0) {
        return -1;
    }
    uint8_t code = self->at[0];
    item->code = code;
    item->head = 1;
    item->body = 0;
    if (code < 0x80 || code >= 0xe0) {
        item->type = EF_TYPE_INT;
        item->value = (uint64_t)(int64_t)(int8_t)code;
        return 0;
    }
    if (code < 0xc0) {
        item->type = code < 0x90 ? EF_TYPE_MAP : code < 0xa0 ? EF_TYPE_ARRAY : EF_TYPE_STR;
        item->value = code < 0xa0 ? code & 0x0f : code & 0x1f;
        item->body = item->type == EF_TYPE_STR ? item->value : 0;
        return left - 1 < item->body ? -1 : 0;
    }
    head_t head = s_heads[code - 0xc0];
    if (head.type == EF_TYPE_NONE || left < 1u + head.width) {
        return -1;
    }
    item->type = (ef_type_t)head.type;
    item->head = 1u + head.width;
    item->value = s_be (self->at + 1, head.width);
    if (item->type == EF_TYPE_STR || item->type == EF_TYPE_BIN) {
        item->body = item->value;
    } else if (item->type == EF_TYPE_EXT) {
        item->value = head.width ? item->value : 1ull << (code - 0xd4);
        item->body = item->value + 1;
    }
    return left - item->head < item->body ? -1 : 0;
}

ef_type_t
ef_peek (const ef_cursor_t *self) {
    if (self->at >= self->end) {
        return EF_TYPE_NONE;
    }
    uint8_t code = self->at[0];
    if (code < 0x80 || code >= 0xe0) {
        return EF_TYPE_INT;
    }
    if (code < 0xc0) {
        return code < 0x90 ? EF_TYPE_MAP : code < 0xa0 ? EF_TYPE_ARRAY : EF_TYPE_STR;
    }
    return (ef_type_t)s_heads[code - 0xc0].type;
}

static inline void
s_take (ef_cursor_t *self, const item_t *item) {
    self->at += item->head + item->body;
}

int
ef_get_nil (ef_cursor_t *self) {
    if (self->at >= self->end || self->at[0] != 0xc0) {
        return -1;
    }
    self->at++;
    return 0;
}

int
ef_get_bool (ef_cursor_t *self, bool *value) {
    if (self->at >= self->end || (self->at[0] & 0xfe) != 0xc2) {
        return -1;
    }
    *value = self->at[0] == 0xc3;
    self->at++;
    return 0;
}

/* Signed forms are 0xd0 to 0xd3 and the negative fixint. */
static int64_t
s_sign (const item_t *item) {
    unsigned bits = 8 * (item->head - 1);
    if (bits == 0 || bits == 64) {
        return (int64_t)item->value;
    }
    uint64_t sign = 1ull << (bits - 1);
    return (int64_t)((item->value ^ sign) - sign);
}

int
ef_get_uint (ef_cursor_t *self, uint64_t *value) {
    item_t item;
    if (s_head (self, &item) || item.type != EF_TYPE_INT) {
        return -1;
    }
    bool is_signed = item.code >= 0xd0;
    int64_t number = is_signed ? s_sign (&item) : 0;
    if (number < 0) {
        return -1;
    }
    *value = is_signed ? (uint64_t)number : item.value;
    s_take (self, &item);
    return 0;
}

int
ef_get_int (ef_cursor_t *self, int64_t *value) {
    item_t item;
    if (s_head (self, &item) || item.type != EF_TYPE_INT) {
        return -1;
    }
    bool is_signed = item.code >= 0xd0;
    if (!is_signed && item.value > INT64_MAX) {
        return -1;
    }
    *value = is_signed ? s_sign (&item) : (int64_t)item.value;
    s_take (self, &item);
    return 0;
}

int
ef_get_double (ef_cursor_t *self, double *value) {
    item_t item;
    if (s_head (self, &item) || item.type != EF_TYPE_FLOAT) {
        return -1;
    }
    if (item.code == 0xca) {
        uint32_t bits = (uint32_t)item.value;
        float single;
        memcpy (&single, &bits, 4);
        *value = (double)single;
    } else {
        memcpy (value, &item.value, 8);
    }
    s_take (self, &item);
    return 0;
}

/* A child takes at least one byte, so a count beyond the bytes left is a lie. */
static int
s_get_count (ef_cursor_t *self, ef_type_t type, unsigned per_child, uint32_t *count) {
    item_t item;
    if (s_head (self, &item) || item.type != type) {
        return -1;
    }
    if (item.value * per_child > ef_cursor_left (self) - item.head) {
        return -1;
    }
    *count = (uint32_t)item.value;
    self->at += item.head;
    return 0;
}

int
ef_get_array (ef_cursor_t *self, uint32_t *count) {
    return s_get_count (self, EF_TYPE_ARRAY, 1, count);
}

int
ef_get_map (ef_cursor_t *self, uint32_t *count) {
    return s_get_count (self, EF_TYPE_MAP, 2, count);
}

static int
s_get_span (ef_cursor_t *self, bool bin_too, ef_span_t *span) {
    item_t item;
    if (s_head (self, &item) ||
        !(item.type == EF_TYPE_STR || (bin_too && item.type == EF_TYPE_BIN))) {
        return -1;
    }
    span->data = (const char *)self->at + item.head;
    span->size = (uint32_t)item.value;
    s_take (self, &item);
    return 0;
}

int
ef_get_str (ef_cursor_t *self, ef_span_t *span) {
    return s_get_span (self, false, span);
}

int
ef_get_bytes (ef_cursor_t *self, ef_span_t *span) {
    return s_get_span (self, true, span);
}

int
ef_get_ext (ef_cursor_t *self, int8_t *type, ef_span_t *span) {
    item_t item;
    if (s_head (self, &item) || item.type != EF_TYPE_EXT) {
        return -1;
    }
    *type = (int8_t)self->at[item.head];
    span->data = (const char *)self->at + item.head + 1;
    span->size = (uint32_t)item.value;
    s_take (self, &item);
    return 0;
}

int
ef_skip (ef_cursor_t *self) {
    ef_cursor_t cursor = *self;
    uint64_t open[EF_NESTING_MAX]; /* values still to pass in each container */
    unsigned depth = 0;
    for (;;) {
        item_t item;
        if (s_head (&cursor, &item)) {
            return -1;
        }
        s_take (&cursor, &item);
        if (item.type == EF_TYPE_ARRAY || item.type == EF_TYPE_MAP) {
            uint64_t children = item.type == EF_TYPE_MAP ? 2 * item.value : item.value;
            if (depth == EF_NESTING_MAX || children > ef_cursor_left (&cursor)) {
                return -1;
            }
            open[depth++] = children;
        }
        while (depth > 0 && open[depth - 1] == 0) {
            depth--;
        }
        if (depth == 0) {
            *self = cursor;
            return 0;
        }
        open[depth - 1]--;
    }
}

bool
ef_map_find (ef_cursor_t map, const char *key, ef_cursor_t *value) {
    uint32_t pairs;
    if (ef_get_map (&map, &pairs)) {
        return false;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t name = {NULL, 0};
        if (ef_get_bytes (&map, &name) && ef_skip (&map)) {
            return false;
        }
        ef_cursor_t start = map;
        if (ef_skip (&map)) {
            return false;
        }
        if (name.data && ef_span_is (name, key)) {
            *value = (ef_cursor_t){start.at, map.at};
            return true;
        }
    }
    return false;
}

uint64_t
ef_map_uint (ef_cursor_t map, const char *key) {
    ef_cursor_t value;
    uint64_t number = 0;
    return ef_map_find (map, key, &value) && ef_get_uint (&value, &number) == 0 ? number : 0;
}

bool
ef_map_bool (ef_cursor_t map, const char *key) {
    ef_cursor_t value;
    bool is_set = false;
    return ef_map_find (map, key, &value) && ef_get_bool (&value, &is_set) == 0 && is_set;
}

ef_span_t
ef_map_str (ef_cursor_t map, const char *key) {
    ef_cursor_t value;
    ef_span_t text;
    bool is_there = ef_map_find (map, key, &value) && ef_get_str (&value, &text) == 0;
    return is_there ? text : (ef_span_t){NULL, 0};
}

void
ef_map_text (ef_cursor_t map, const char *key, char *text, size_t size) {
    ef_cursor_t value;
    ef_span_t span;
    bool is_there = ef_map_find (map, key, &value) && ef_get_bytes (&value, &span) == 0;
    ef_span_copy (is_there ? span : (ef_span_t){NULL, 0}, text, size);
}

void
ef_span_copy (ef_span_t span, char *text, size_t size) {
    ef_assert (size > 0);
    size_t bytes = span.size < size - 1 ? span.size : size - 1;
    if (bytes > 0) {
        memcpy (text, span.data, bytes);
    }
    text[bytes] = 0;
}
