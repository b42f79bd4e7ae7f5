/* Keyed hash table. SPDX-License-Identifier: MIT */
#include "hash.h"
#include "../../proto/assert.h"

#include <stdlib.h>
#include <string.h>

static inline uint64_t
s_rotate (uint64_t x, unsigned bits) {
    return x << bits | x >> (64 - bits);
}

static inline void
s_round (uint64_t v[4]) {
    v[0] += v[1];
    v[1] = s_rotate (v[1], 13) ^ v[0];
    v[0] = s_rotate (v[0], 32);
    v[2] += v[3];
    v[3] = s_rotate (v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = s_rotate (v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = s_rotate (v[1], 17) ^ v[2];
    v[2] = s_rotate (v[2], 32);
}

/* What is left behind the last whole word, and the size. */
static inline uint64_t
s_last_word (const uint8_t *at, size_t size) {
    uint64_t word = (uint64_t)size << 56;
    for (unsigned i = 0; i < (size & 7); i++) {
        word |= (uint64_t)at[i] << (8 * i);
    }
    return word;
}

uint64_t
ef_siphash (const uint64_t key[2], const void *bytes, size_t size) {
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                     key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    const uint8_t *at = bytes;
    uint64_t word;
    for (size_t left = size; left >= 8; left -= 8, at += 8) {
        memcpy (&word, at, 8);
        v[3] ^= word;
        s_round (v);
        v[0] ^= word;
    }
    word = s_last_word (at, size);
    v[3] ^= word;
    s_round (v);
    v[0] ^= word;
    v[2] ^= 0xff;
    for (unsigned i = 0; i < 3; i++) {
        s_round (v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static inline void
s_compress_twice (uint64_t v[4], uint64_t word) {
    v[3] ^= word;
    s_round (v);
    s_round (v);
    v[0] ^= word;
}

static inline uint64_t
s_finish_four (uint64_t v[4]) {
    for (unsigned i = 0; i < 4; i++) {
        s_round (v);
    }
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void
ef_siphash128 (const uint64_t key[2], const void *bytes, size_t size, uint64_t out[2]) {
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du ^ 0xee,
                     key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    const uint8_t *at = bytes;
    for (size_t left = size; left >= 8; left -= 8, at += 8) {
        uint64_t word;
        memcpy (&word, at, 8);
        s_compress_twice (v, word);
    }
    s_compress_twice (v, s_last_word (at, size));
    v[2] ^= 0xee;
    out[0] = s_finish_four (v);
    v[1] ^= 0xdd;
    out[1] = s_finish_four (v);
}

void
ef_hash_init (ef_hash_t *self, const uint64_t key[2],
              const void *(*key_of) (const void *item, size_t *size)) {
    memset (self, 0, sizeof *self);
    self->key[0] = key[0];
    self->key[1] = key[1];
    self->key_of = key_of;
}

void
ef_hash_init_numbers (ef_hash_t *self, const uint64_t key[2],
                      const void *(*key_of) (const void *item, size_t *size)) {
    ef_hash_init (self, key, key_of);
    self->is_numbered = true;
}

static inline uint64_t
s_hash (const ef_hash_t *self, const void *key, size_t size) {
    if (!self->is_numbered) {
        return ef_siphash (self->key, key, size);
    }
    uint64_t number;
    ef_assert (size == sizeof number);
    memcpy (&number, key, sizeof number);
    number = (number ^ self->key[0]) * 0x9e3779b97f4a7c15u;
    number = (number ^ number >> 32) * (self->key[1] | 1);
    return number ^ number >> 32;
}

void
ef_hash_free (ef_hash_t *self) {
    free (self->slots);
    self->slots = NULL;
    self->count = self->capacity = 0;
}

void *
ef_hash_find (const ef_hash_t *self, const void *key, size_t size) {
    if (self->count == 0) {
        return NULL;
    }
    uint64_t hash = s_hash (self, key, size);
    uint32_t mask = self->capacity - 1;
    for (uint32_t i = (uint32_t)hash & mask; self->slots[i].item; i = (i + 1) & mask) {
        if (self->slots[i].hash == hash) {
            size_t other_size;
            const void *other = self->key_of (self->slots[i].item, &other_size);
            if (other_size == size && memcmp (other, key, size) == 0) {
                return self->slots[i].item;
            }
        }
    }
    return NULL;
}

static void
s_place (ef_hash_t *self, uint64_t hash, void *item) {
    uint32_t mask = self->capacity - 1;
    uint32_t i = (uint32_t)hash & mask;
    while (self->slots[i].item) {
        i = (i + 1) & mask;
    }
    self->slots[i].hash = hash;
    self->slots[i].item = item;
}

static void
s_resize (ef_hash_t *self, uint32_t capacity) {
    ef_hash_slot_t *old = self->slots;
    uint32_t old_capacity = self->capacity;
    self->slots = calloc (capacity, sizeof *self->slots);
    ef_assert (self->slots != NULL);
    self->capacity = capacity;
    for (uint32_t i = 0; i < old_capacity; i++) {
        if (old[i].item) {
            s_place (self, old[i].hash, old[i].item);
        }
    }
    free (old);
}

void
ef_hash_insert (ef_hash_t *self, void *item) {
    if (4 * (self->count + 1) > 3 * self->capacity) {
        s_resize (self, self->capacity ? 2 * self->capacity : 16);
    }
    size_t size;
    const void *key = self->key_of (item, &size);
    s_place (self, s_hash (self, key, size), item);
    self->count++;
}

void
ef_hash_remove (ef_hash_t *self, const void *item) {
    size_t size;
    const void *key = self->key_of (item, &size);
    uint32_t mask = self->capacity - 1;
    uint32_t i = (uint32_t)s_hash (self, key, size) & mask;
    while (self->slots[i].item != item) {
        ef_assert (self->slots[i].item != NULL);
        i = (i + 1) & mask;
    }
    for (uint32_t k = (i + 1) & mask; self->slots[k].item; k = (k + 1) & mask) {
        uint32_t home = (uint32_t)self->slots[k].hash & mask;
        if (((k - home) & mask) >= ((k - i) & mask)) {
            self->slots[i] = self->slots[k];
            i = k;
        }
    }
    self->slots[i].item = NULL;
    self->count--;
    if (self->capacity > 64 && self->count < self->capacity / 8) {
        s_resize (self, self->capacity / 2);
    }
}

void *
ef_hash_next (const ef_hash_t *self, uint32_t *position) {
    while (*position < self->capacity) {
        void *item = self->slots[(*position)++].item;
        if (item) {
            return item;
        }
    }
    return NULL;
}
