/* Growing buffer and MessagePack encoders. SPDX-License-Identifier: MIT
   Format: github.com/msgpack/msgpack, spec.md ("Formats"). */
#include "buf.h"
#include "assert.h"

#include <stdlib.h>

void
ef_buf_free (ef_buf_t *self) {
    free (self->data);
    memset (self, 0, sizeof *self);
}

void
ef_buf_grow (ef_buf_t *self, size_t bytes) {
    size_t capacity = self->capacity ? self->capacity : 128;
    while (capacity - self->size < bytes) {
        capacity *= 2;
    }
    uint8_t *data = realloc (self->data, capacity);
    ef_assert (data != NULL);
    self->data = data;
    self->capacity = capacity;
}

static inline uint8_t *
s_be16 (uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}

static inline uint8_t *
s_be32 (uint8_t *at, uint32_t value) {
    value = __builtin_bswap32 (value);
    memcpy (at, &value, 4);
    return at + 4;
}

static inline uint8_t *
s_be64 (uint8_t *at, uint64_t value) {
    value = __builtin_bswap64 (value);
    memcpy (at, &value, 8);
    return at + 8;
}

uint8_t *
ef_write_uint (uint8_t *at, uint64_t value) {
    if (value < 128) {
        *at = (uint8_t)value;
        return at + 1;
    }
    if (value < 256) {
        at[0] = 0xcc;
        at[1] = (uint8_t)value;
        return at + 2;
    }
    if (value < 65536) {
        *at = 0xcd;
        return s_be16 (at + 1, (uint16_t)value);
    }
    if (value <= UINT32_MAX) {
        *at = 0xce;
        return s_be32 (at + 1, (uint32_t)value);
    }
    *at = 0xcf;
    return s_be64 (at + 1, value);
}

void
ef_put_nil (ef_buf_t *self) {
    *ef_buf_add (self, 1) = 0xc0;
}

void
ef_put_bool (ef_buf_t *self, bool value) {
    *ef_buf_add (self, 1) = value ? 0xc3 : 0xc2;
}

void
ef_put_uint (ef_buf_t *self, uint64_t value) {
    (void)ef_write_uint (ef_buf_add (self, ef_uint_size (value)), value); /* the end is known */
}

void
ef_put_int (ef_buf_t *self, int64_t value) {
    if (value >= 0) {
        ef_put_uint (self, (uint64_t)value);
    } else if (value >= -32) {
        *ef_buf_add (self, 1) = (uint8_t)value;
    } else if (value >= INT8_MIN) {
        uint8_t *at = ef_buf_add (self, 2);
        at[0] = 0xd0;
        at[1] = (uint8_t)value;
    } else if (value >= INT16_MIN) {
        uint8_t *at = ef_buf_add (self, 3);
        at[0] = 0xd1;
        s_be16 (at + 1, (uint16_t)value);
    } else if (value >= INT32_MIN) {
        uint8_t *at = ef_buf_add (self, 5);
        at[0] = 0xd2;
        s_be32 (at + 1, (uint32_t)value);
    } else {
        uint8_t *at = ef_buf_add (self, 9);
        at[0] = 0xd3;
        s_be64 (at + 1, (uint64_t)value);
    }
}

void
ef_put_double (ef_buf_t *self, double value) {
    uint64_t bits;
    memcpy (&bits, &value, 8);
    uint8_t *at = ef_buf_add (self, 9);
    at[0] = 0xcb;
    s_be64 (at + 1, bits);
}

/* Writes a head whose long forms are `code16` and `code16` + 1. */
static void
s_put_head (ef_buf_t *self, uint8_t code16, size_t count) {
    ef_assert (count <= UINT32_MAX);
    if (count < 65536) {
        uint8_t *at = ef_buf_add (self, 3);
        at[0] = code16;
        s_be16 (at + 1, (uint16_t)count);
    } else {
        uint8_t *at = ef_buf_add (self, 5);
        at[0] = (uint8_t)(code16 + 1);
        s_be32 (at + 1, (uint32_t)count);
    }
}

void
ef_put_array (ef_buf_t *self, uint32_t count) {
    if (count < 16) {
        *ef_buf_add (self, 1) = (uint8_t)(0x90 | count);
    } else {
        s_put_head (self, 0xdc, count);
    }
}

void
ef_put_map (ef_buf_t *self, uint32_t count) {
    if (count < 16) {
        *ef_buf_add (self, 1) = (uint8_t)(0x80 | count);
    } else {
        s_put_head (self, 0xde, count);
    }
}

void
ef_put_strn (ef_buf_t *self, const char *text, size_t size) {
    if (size < 32) {
        *ef_buf_add (self, 1) = (uint8_t)(0xa0 | size);
    } else if (size < 256) {
        uint8_t *at = ef_buf_add (self, 2);
        at[0] = 0xd9;
        at[1] = (uint8_t)size;
    } else {
        s_put_head (self, 0xda, size);
    }
    ef_buf_put (self, text, size);
}

void
ef_put_str (ef_buf_t *self, const char *text) {
    if (text == NULL) {
        ef_put_nil (self);
    } else {
        ef_put_strn (self, text, strlen (text));
    }
}

void
ef_put_bin (ef_buf_t *self, const void *bytes, size_t size) {
    if (size < 256) {
        uint8_t *at = ef_buf_add (self, 2);
        at[0] = 0xc4;
        at[1] = (uint8_t)size;
    } else {
        s_put_head (self, 0xc5, size);
    }
    ef_buf_put (self, bytes, size);
}

void
ef_put_ext (ef_buf_t *self, int8_t type, const void *bytes, size_t size) {
    if (size == 1 || size == 2 || size == 4 || size == 8 || size == 16) {
        *ef_buf_add (self, 1) = (uint8_t)(0xd4 + __builtin_ctzl (size));
    } else if (size < 256) {
        uint8_t *at = ef_buf_add (self, 2);
        at[0] = 0xc7;
        at[1] = (uint8_t)size;
    } else {
        s_put_head (self, 0xc8, size);
    }
    *ef_buf_add (self, 1) = (uint8_t)type;
    ef_buf_put (self, bytes, size);
}

void
ef_put_key_uint (ef_buf_t *self, const char *key, uint64_t value) {
    ef_put_str (self, key);
    ef_put_uint (self, value);
}

void
ef_put_key_str (ef_buf_t *self, const char *key, const char *value) {
    ef_put_str (self, key);
    ef_put_str (self, value);
}

void
ef_put_key_bool (ef_buf_t *self, const char *key, bool value) {
    ef_put_str (self, key);
    ef_put_bool (self, value);
}

size_t
ef_put_open (ef_buf_t *self) {
    size_t mark = self->size;
    (void)ef_buf_add (self, 5); /* filled when it is closed */
    return mark;
}

static void
s_close (ef_buf_t *self, size_t mark, uint8_t code32, uint32_t count) {
    ef_assert (mark + 5 <= self->size);
    self->data[mark] = code32;
    s_be32 (self->data + mark + 1, count);
}

void
ef_put_close_array (ef_buf_t *self, size_t mark, uint32_t count) {
    s_close (self, mark, 0xdd, count);
}

void
ef_put_close_map (ef_buf_t *self, size_t mark, uint32_t count) {
    s_close (self, mark, 0xdf, count);
}
