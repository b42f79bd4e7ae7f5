/* Items of one size, named by small numbers, found by a hash. SPDX-License-Identifier: MIT

   Role: tables of millions of small things without a pointer or an allocation for each. Grows by
   one chunk of items and one chain of its hash at a time (linear hashing; Litwin, 1980): no insert
   stops for a rehash, and an item's place in memory stays until it is removed. Owns: its chunks.
   They go back when the last item goes; until then it keeps what it once needed. */
#ifndef EF_SLAB_H
#define EF_SLAB_H

#include <stdbool.h>
#include <stdint.h>

#define EF_SLAB_NONE  UINT32_MAX
#define EF_SLAB_CHUNK 1024u /* items, or heads of chains, of one allocation */

typedef struct {
    uint32_t item_bytes; /* with its head; a multiple of 8 */
    uint32_t count;      /* items */
    uint32_t used;       /* places that were ever used; numbers are below it */
    uint32_t free;       /* first of the chain of free places */
    uint32_t chains;     /* of the hash */
    uint8_t **chunks;    /* owned: the places */
    uint32_t **heads;    /* owned: the first item of each chain */
} ef_slab_t;

void ef_slab_init (ef_slab_t *self, uint32_t bytes);
void ef_slab_free (ef_slab_t *self);

/* Adds an item, all zeros, under a hash whose bits are all as good as random. Its number. */
uint32_t ef_slab_add (ef_slab_t *self, uint64_t hash);
void ef_slab_remove (ef_slab_t *self, uint32_t number);

/* The item's bytes, aligned to 8; good until it is removed. */
void *ef_slab_at (const ef_slab_t *self, uint32_t number);

/* The items that may have been added under a hash, one after the other: most of the time the wanted
   one alone. EF_SLAB_NONE: no more. */
uint32_t ef_slab_find (const ef_slab_t *self, uint64_t hash);
uint32_t ef_slab_find_next (const ef_slab_t *self, uint32_t number);

/* Whether a place below `used` holds an item: for walks, which items may come and go under. */
bool ef_slab_has (const ef_slab_t *self, uint32_t number);

uint64_t ef_slab_bytes (const ef_slab_t *self); /* of memory */

#endif
