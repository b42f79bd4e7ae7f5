/* A growing buffer and the MessagePack encoders that write into it. SPDX-License-Identifier: MIT

   Role: all encoding, on the hot path and off it. Integers take their shortest form.
   Owns: its memory. On failure: out of memory ends the process (there is nothing useful to do),
   so encoders return nothing. */
#ifndef EF_BUF_H
#define EF_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t *data;   /* owned; NULL while nothing was written */
    size_t size;     /* bytes written */
    size_t capacity; /* bytes allocated */
} ef_buf_t;

/* Frees the memory; the buffer is empty and usable again. */
void ef_buf_free (ef_buf_t *self);

/* Makes room for `bytes` more. */
void ef_buf_grow (ef_buf_t *self, size_t bytes);

static inline void
ef_buf_clear (ef_buf_t *self) {
    self->size = 0;
}

/* Reserves `bytes` at the end and returns where they begin; they count as written. */
static inline uint8_t *
ef_buf_add (ef_buf_t *self, size_t bytes) {
    if (__builtin_expect (self->capacity - self->size < bytes, 0)) {
        ef_buf_grow (self, bytes);
    }
    uint8_t *at = self->data + self->size;
    self->size += bytes;
    return at;
}

static inline void
ef_buf_put (ef_buf_t *self, const void *bytes, size_t size) {
    if (size > 0) {
        memcpy (ef_buf_add (self, size), bytes, size);
    }
}

void ef_put_nil (ef_buf_t *self);
void ef_put_bool (ef_buf_t *self, bool value);
void ef_put_uint (ef_buf_t *self, uint64_t value);
void ef_put_int (ef_buf_t *self, int64_t value);
void ef_put_double (ef_buf_t *self, double value);
void ef_put_array (ef_buf_t *self, uint32_t count);
void ef_put_map (ef_buf_t *self, uint32_t count);
void ef_put_strn (ef_buf_t *self, const char *text, size_t size);
void ef_put_str (ef_buf_t *self, const char *text); /* NULL becomes nil */
void ef_put_bin (ef_buf_t *self, const void *bytes, size_t size);
void ef_put_ext (ef_buf_t *self, int8_t type, const void *bytes, size_t size);

/* A map's pair in one call. */
void ef_put_key_uint (ef_buf_t *self, const char *key, uint64_t value);
void ef_put_key_str (ef_buf_t *self, const char *key, const char *value);
void ef_put_key_bool (ef_buf_t *self, const char *key, bool value);

/* An array or map whose count is known only at the end: open it, count, close it. */
size_t ef_put_open (ef_buf_t *self);
void ef_put_close_array (ef_buf_t *self, size_t mark, uint32_t count);
void ef_put_close_map (ef_buf_t *self, size_t mark, uint32_t count);

/* How many bytes ef_put_uint takes. */
static inline unsigned
ef_uint_size (uint64_t value) {
    return value < 128 ? 1 : value < 256 ? 2 : value < 65536 ? 3 : value <= UINT32_MAX ? 5 : 9;
}

/* Writes an unsigned integer at `at` and returns what lies behind it. */
uint8_t *ef_write_uint (uint8_t *at, uint64_t value);

#endif
