/* Keyed hashing and a table from byte strings to pointers that strangers can't crowd.
   SPDX-License-Identifier: MIT

   Open addressing with linear probing, backward-shift deletion, keyed by SipHash-1-3 with a key
   drawn at start, so that a peer that chooses its keys can't choose their places. */
#ifndef EF_HASH_H
#define EF_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* SipHash-1-3 (Aumasson, Bernstein; "SipHash: a fast short-input PRF", 2012). */
uint64_t ef_siphash (const uint64_t key[2], const void *bytes, size_t size);

/* SipHash-2-4 with 128 bits of output ("SipHash-128" of the reference implementation), for what
   stands in for the bytes themselves: out[0] is the first half. The more careful variant, because
   a collision there isn't a slow look-up but a mistake. */
void ef_siphash128 (const uint64_t key[2], const void *bytes, size_t size, uint64_t out[2]);

typedef struct {
    uint64_t hash;
    void *item; /* NULL: a free place */
} ef_hash_slot_t;

typedef struct {
    ef_hash_slot_t *slots; /* owned */
    uint32_t count;
    uint32_t capacity; /* a power of two, or 0 */
    uint64_t key[2];
    bool is_numbered;
    /* The key of an item: its bytes and their number. */
    const void *(*key_of) (const void *item, size_t *size);
} ef_hash_t;

void ef_hash_init (ef_hash_t *self, const uint64_t key[2],
                   const void *(*key_of) (const void *item, size_t *size));
/* For keys that are 64-bit numbers of our own giving: two multiplications by what a stranger
   doesn't know in place of SipHash (Dietzfelbinger and others, "A reliable randomized algorithm for
   the closest-pair problem", 1997: multiply-shift). */
void ef_hash_init_numbers (ef_hash_t *self, const uint64_t key[2],
                           const void *(*key_of) (const void *item, size_t *size));
void ef_hash_free (ef_hash_t *self);
void *ef_hash_find (const ef_hash_t *self, const void *key, size_t size);
void ef_hash_insert (ef_hash_t *self, void *item);       /* its key isn't in the table yet */
void ef_hash_remove (ef_hash_t *self, const void *item); /* it is in the table */

/* Walks all items in no order: start with 0; NULL at the end. No changes while walking. */
void *ef_hash_next (const ef_hash_t *self, uint32_t *position);

#endif
