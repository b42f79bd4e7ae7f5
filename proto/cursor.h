/* A bounded reader of MessagePack: no tree, no allocation. SPDX-License-Identifier: MIT

   Role: reads what peers send, in place. Every call either takes exactly one head or value and
   returns 0, or returns -1 and leaves the cursor where it was. It never reads at or past `end`, and
   a claimed count is checked against the bytes that are left before anybody may believe it. */
#ifndef EF_CURSOR_H
#define EF_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "assert.h"

typedef struct {
    const uint8_t *at;  /* next byte */
    const uint8_t *end; /* behind the last */
} ef_cursor_t;

typedef enum {
    EF_TYPE_NONE, /* at the end, or the byte 0xc1 */
    EF_TYPE_NIL,
    EF_TYPE_BOOL,
    EF_TYPE_INT,
    EF_TYPE_FLOAT,
    EF_TYPE_STR,
    EF_TYPE_BIN,
    EF_TYPE_ARRAY,
    EF_TYPE_MAP,
    EF_TYPE_EXT
} ef_type_t;

/* A span of the input; borrowed from it. */
typedef struct {
    const char *data;
    uint32_t size;
} ef_span_t;

static inline ef_cursor_t
ef_cursor (const void *data, size_t size) {
    const uint8_t *at = data;
    ef_cursor_t self = {at, size ? at + size : at}; /* no bytes may have no address */
    return self;
}

static inline size_t
ef_cursor_left (const ef_cursor_t *self) {
    return (size_t)(self->end - self->at);
}

/* What comes next, without taking it. */
ef_type_t ef_peek (const ef_cursor_t *self);

EF_MUST_USE int ef_get_nil (ef_cursor_t *self);
EF_MUST_USE int ef_get_bool (ef_cursor_t *self, bool *value);
EF_MUST_USE int ef_get_uint (ef_cursor_t *self, uint64_t *value); /* negative: -1 */
EF_MUST_USE int ef_get_int (ef_cursor_t *self, int64_t *value);   /* over 2^63-1: -1 */
EF_MUST_USE int ef_get_double (ef_cursor_t *self, double *value); /* both float widths */
EF_MUST_USE int ef_get_array (ef_cursor_t *self, uint32_t *count);
EF_MUST_USE int ef_get_map (ef_cursor_t *self, uint32_t *count);
EF_MUST_USE int ef_get_str (ef_cursor_t *self, ef_span_t *span);
EF_MUST_USE int ef_get_bytes (ef_cursor_t *self, ef_span_t *span); /* str or bin */
EF_MUST_USE int ef_get_ext (ef_cursor_t *self, int8_t *type, ef_span_t *span);

/* Passes over one whole value, nested to EF_NESTING_MAX at the most. */
EF_MUST_USE int ef_skip (ef_cursor_t *self);

static inline bool
ef_span_is (ef_span_t span, const char *text) {
    size_t size = strlen (text);
    return span.size == size && memcmp (span.data, text, size) == 0;
}

/* Looking into the map at a cursor: the value of a key, as a
   cursor that ends behind it. False: the key isn't there, or this is no map. */
bool ef_map_find (ef_cursor_t map, const char *key, ef_cursor_t *value);
/* The same for what is there and of the kind; else 0, false, a span without data. */
uint64_t ef_map_uint (ef_cursor_t map, const char *key);
bool ef_map_bool (ef_cursor_t map, const char *key);
ef_span_t ef_map_str (ef_cursor_t map, const char *key);
/* A str or bin, copied as by ef_span_copy; else an empty text. */
void ef_map_text (ef_cursor_t map, const char *key, char *text, size_t size);

/* Copies a span into `text` of `size` bytes, cut to fit and ended with a NUL. */
void ef_span_copy (ef_span_t span, char *text, size_t size);

#endif
