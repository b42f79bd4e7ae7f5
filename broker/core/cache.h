/* Stretches of the journal in memory: what was just written and what was read back.
   SPDX-License-Identifier: MIT

   Role: finds a record's bytes by its place. Owns: the buffers, up to a budget; the oldest go
   first. Invariants: kept in order of place; stretches may overlap, each is right. */
#ifndef EF_CACHE_H
#define EF_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint8_t *bytes; /* owned, whole records from `offset` on */
    size_t size;
    size_t capacity; /* what it costs */
    uint32_t segment;
    uint32_t offset; /* of bytes[0] in the segment */
    uint64_t age;    /* when it was put in, in insertions */
} ef_stretch_t;

typedef struct {
    ef_stretch_t *items; /* owned, sorted by (segment, offset) */
    uint32_t count;
    uint32_t capacity;
    uint64_t bytes; /* sum of capacities */
    uint64_t budget;
    uint64_t age;
} ef_cache_t;

void ef_cache_free (ef_cache_t *self);

/* Takes the buffer over. May drop others to keep the budget, never the new one. */
void ef_cache_put (ef_cache_t *self, ef_stretch_t stretch);

/* The bytes of the record at a place and on to the end of its stretch; NULL where it isn't in
   memory. Borrowed until the next put. */
const uint8_t *ef_cache_find (const ef_cache_t *self, uint32_t segment, uint32_t offset,
                              size_t *size);

#endif
