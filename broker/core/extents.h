/* The backlog of a topic: runs of ready events in order of n. SPDX-License-Identifier: MIT

   Role: remembers where ready events lie at a few bytes each. Owns: its chunks.
   Invariants: extents don't overlap and are sorted by n; none is empty. */
#ifndef EF_EXTENTS_H
#define EF_EXTENTS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t n;       /* of the first event */
    uint64_t bytes;   /* of its events */
    uint32_t segment; /* where the record lies */
    uint32_t offset;
    uint32_t rel;   /* from the record's head to the first event (COPIES: to its copy head); 0: not
                       known, to be counted from the index once the record is at hand */
    uint32_t index; /* of the first event, counted from the record's first one on over all records
                       of its topic that follow in the segment */
    uint32_t count;
    bool is_copy;  /* the record is of type COPIES */
    bool has_meta; /* some of its events may have a ttl */
} ef_extent_t;

#define EF_CHUNK_EXTENTS 128

typedef struct {
    uint32_t head; /* first used place */
    uint32_t count;
    ef_extent_t items[EF_CHUNK_EXTENTS];
} ef_chunk_t;

typedef struct {
    ef_chunk_t **chunks; /* owned */
    uint32_t first;      /* first used pointer */
    uint32_t count;
    uint32_t capacity;
    uint64_t extents;
} ef_extents_t;

/* A place in the list; good until the list changes. */
typedef struct {
    uint32_t chunk;
    uint32_t item;
} ef_extent_at_t;

void ef_extents_free (ef_extents_t *self);
void ef_extents_insert (ef_extents_t *self, const ef_extent_t *extent);
/* Adds the events of a whole EVENTS record: to the extent that ends right before them where its
   record begins no more than `span` bytes earlier in the same segment. */
void ef_extents_append (ef_extents_t *self, const ef_extent_t *extent, uint32_t span);
ef_extent_t *ef_extents_first (ef_extents_t *self, ef_extent_at_t *at);
ef_extent_t *ef_extents_next (ef_extents_t *self, ef_extent_at_t *at);
/* The first extent that ends at or behind n. */
ef_extent_t *ef_extents_from (ef_extents_t *self, uint64_t n, ef_extent_at_t *at);
ef_extent_t *ef_extents_find (ef_extents_t *self, uint64_t n, ef_extent_at_t *at);
void ef_extents_remove (ef_extents_t *self, ef_extent_at_t at);

/* Takes the events first to last out, splitting extents where it must. Returns how many there were;
   `*bytes` is their share of their extents' bytes. */
uint64_t ef_extents_cut (ef_extents_t *self, uint64_t first, uint64_t last, uint64_t *bytes);

#endif
