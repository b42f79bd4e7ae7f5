/* Values out of a payload by name or dotted path. SPDX-License-Identifier: MIT

   A path names map keys from the outside in, with a dot between them; a number is a place in an
   array: `user.name`, `items.0.price`. A key that has dots itself is found by its whole name first.
   A nil counts as absent. Everything is borrowed from the payload; bytes that aren't MessagePack
   have no fields. */
#ifndef EF_FIELD_H
#define EF_FIELD_H

#include "../proto/buf.h"
#include "../proto/cursor.h"

/* The encoded value at `path`, in a payload of whatever kind; false: there is none, or nil. */
bool field_find (ef_span_t payload, const char *path, size_t path_size, ef_span_t *value);

/* The same for one key of the outermost map. */
bool field_get (ef_span_t payload, const char *key, ef_span_t *value);

/* The text that a value already is: str, or bin. False: it is something else. */
bool field_as_text (ef_span_t value, ef_span_t *text);

/* Appends a value as text: str and bin as they are, numbers in decimal, true and false, the rest as
   JSON. 0, or -1: not a value. */
EF_MUST_USE int field_print (ef_buf_t *out, ef_span_t value);

/* Walks over an array, or over the one value itself where it isn't an array; false: no more. */
typedef struct {
    ef_cursor_t cursor;
    uint32_t left;
} field_list_t;
void field_list (field_list_t *self, ef_span_t value);
bool field_next (field_list_t *self, ef_span_t *value);

#endif
