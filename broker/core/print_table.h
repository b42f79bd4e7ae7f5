/* A table from 128-bit fingerprints to 32-bit references, made for a million of them.
   SPDX-License-Identifier: MIT

   Role: finds the place where an id's fingerprint is kept; the fingerprints themselves stand there
   and not in the table.
   Owns: buckets of one cache line each, up to 10 bytes a reference just after it has doubled.
   Invariants: a reference stands in the first bucket from its home on that had room; each bucket
   counts those that passed it by, so that a search knows where to stop and a removal leaves
   nothing behind. A slot is a reference and, in the bits that references don't need, a part of the
   fingerprint: one look at another's fingerprint in a thousand searches at a million. Doubling and
   halving move one bucket at each change, and buckets are allocated and freed by the page, so
   nothing waits for them.
   On failure: without memory the process ends. */
#ifndef EF_PRINT_TABLE_H
#define EF_PRINT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The keyed fingerprint of an id; never all zero. */
typedef struct {
    uint64_t low;
    uint64_t high;
} ef_print_t;

#define EF_PRINT_REF_MAX      (UINT32_MAX >> 1) /* a slot keeps one bit of the fingerprint at least */
#define EF_PRINT_BUCKET_SLOTS 15

typedef struct {
    uint32_t slots[EF_PRINT_BUCKET_SLOTS]; /* 0: free */
    uint32_t passed;                       /* those whose way led on from here to the next */
} ef_print_bucket_t;
_Static_assert(sizeof (ef_print_bucket_t) == 64, "a bucket is a cache line");

#define EF_PRINT_PAGE_BUCKETS 64

typedef struct {
    ef_print_bucket_t **pages; /* owned; NULL: its buckets were never used, or have moved */
    uint32_t page_count;       /* that are not NULL */
    uint32_t mask;             /* number of buckets, a power of two, less one */
    uint32_t ref_mask;         /* the bits of a slot that are the reference */
} ef_print_buckets_t;

typedef struct {
    ef_print_buckets_t in_use;
    ef_print_buckets_t old; /* while it doubles or halves: what hasn't moved yet */
    uint32_t moved;         /* buckets of `old` that are empty now */
    uint32_t count;
    /* The fingerprint that stands where a reference says. */
    const ef_print_t *(*print_of) (const void *owner, uint32_t ref);
    const void *owner;
} ef_print_table_t;

void ef_print_table_init (ef_print_table_t *self,
                          const ef_print_t *(*print_of) (const void *, uint32_t),
                          const void *owner);
void ef_print_table_free (ef_print_table_t *self);

/* The reference of a fingerprint; 0: not there. */
uint32_t ef_print_table_find (const ef_print_table_t *self, ef_print_t print);
void ef_print_table_prefetch (const ef_print_table_t *self, ef_print_t print);

/* Its fingerprint isn't in the table yet; 1 to EF_PRINT_REF_MAX. */
void ef_print_table_insert (ef_print_table_t *self, ef_print_t print, uint32_t ref);
void ef_print_table_remove (ef_print_table_t *self, ef_print_t print, uint32_t ref); /* it is */

/* Begins to halve where few are left; all references are less than `top`. */
void ef_print_table_shrink (ef_print_table_t *self, uint32_t top);

size_t ef_print_table_bytes (const ef_print_table_t *self);
void ef_print_table_check (const ef_print_table_t *self); /* all of it, slowly */

#endif
