/* A table from fingerprints to references. SPDX-License-Identifier: MIT */
#include "print_table.h"
#include "../../proto/assert.h"

#include <stdlib.h>
#include <string.h>

#define BUCKET_FULL    13 /* references a bucket on average, at which it doubles */
#define BUCKETS_BITS   6  /* log2 of the fewest buckets: a page of them */
#define REF_BITS_FIRST 13 /* of a small table: a few blocks of places */
#define REF_BITS_MORE  5  /* than bits of the bucket's number: twice as many places as slots */
#define PAGE_BYTES     (EF_PRINT_PAGE_BUCKETS * sizeof (ef_print_bucket_t))
#define PAGE_OVERHEAD  64 /* bytes that alignment may cost */

_Static_assert(EF_PRINT_PAGE_BUCKETS == 1u << BUCKETS_BITS, "no page is used in part");
_Static_assert(BUCKET_FULL < EF_PRINT_BUCKET_SLOTS, "a search ends at a bucket with room");

static void
s_buckets_init (ef_print_buckets_t *self, unsigned bits) {
    unsigned ref_bits = bits + REF_BITS_MORE;
    ref_bits = ref_bits < REF_BITS_FIRST ? REF_BITS_FIRST : ref_bits > 31 ? 31 : ref_bits;
    ef_assert (bits < 32);
    self->pages = calloc ((size_t)1 << (bits - BUCKETS_BITS), sizeof (void *));
    ef_assert (self->pages != NULL);
    self->page_count = 0;
    self->mask = ((uint32_t)1 << bits) - 1;
    self->ref_mask = ((uint32_t)1 << ref_bits) - 1;
}

static void
s_page_free (ef_print_buckets_t *self, uint32_t page) {
    self->page_count -= self->pages[page] != NULL;
    free (self->pages[page]);
    self->pages[page] = NULL;
}

static void
s_buckets_free (ef_print_buckets_t *self) {
    for (uint32_t i = 0; self->page_count > 0; i++) {
        s_page_free (self, i);
    }
    free (self->pages);
    memset (self, 0, sizeof *self);
}

/* NULL: nothing is in it and nothing passed it. */
static inline ef_print_bucket_t *
s_bucket (const ef_print_buckets_t *self, uint32_t at) {
    ef_print_bucket_t *page = self->pages[at / EF_PRINT_PAGE_BUCKETS];
    return page ? &page[at % EF_PRINT_PAGE_BUCKETS] : NULL;
}

static ef_print_bucket_t *
s_bucket_require (ef_print_buckets_t *self, uint32_t at) {
    ef_print_bucket_t **page = &self->pages[at / EF_PRINT_PAGE_BUCKETS];
    if (*page == NULL) {
        *page = aligned_alloc (sizeof (ef_print_bucket_t), PAGE_BYTES);
        ef_assert (*page != NULL);
        memset (*page, 0, PAGE_BYTES);
        self->page_count++;
    }
    return &(*page)[at % EF_PRINT_PAGE_BUCKETS];
}

static unsigned
s_bits (const ef_print_buckets_t *self) {
    return (unsigned)__builtin_popcount (self->mask);
}

static inline uint32_t
s_slot (const ef_print_buckets_t *self, ef_print_t print, uint32_t ref) {
    return ((uint32_t)print.high & ~self->ref_mask) | ref;
}

static inline bool
s_is_equal (const ef_print_t *a, ef_print_t b) {
    return a->low == b.low && a->high == b.high;
}

static uint32_t
s_find (const ef_print_table_t *self, const ef_print_buckets_t *in, ef_print_t print) {
    uint32_t tag = (uint32_t)print.high;
    uint32_t at = (uint32_t)print.low & in->mask;
    const ef_print_bucket_t *bucket;
    for (uint32_t tried = 0; tried <= in->mask && (bucket = s_bucket (in, at)) != NULL; tried++) {
        for (unsigned i = 0; i < EF_PRINT_BUCKET_SLOTS; i++) {
            uint32_t slot = bucket->slots[i];
            if (((slot ^ tag) & ~in->ref_mask) == 0 && slot != 0 &&
                s_is_equal (self->print_of (self->owner, slot & in->ref_mask), print)) {
                return slot & in->ref_mask;
            }
        }
        if (bucket->passed == 0) {
            break;
        }
        at = (at + 1) & in->mask;
    }
    return 0;
}

static void
s_put (ef_print_buckets_t *in, ef_print_t print, uint32_t ref) {
    for (uint32_t at = (uint32_t)print.low & in->mask;; at = (at + 1) & in->mask) {
        ef_print_bucket_t *bucket = s_bucket_require (in, at);
        for (unsigned i = 0; i < EF_PRINT_BUCKET_SLOTS; i++) {
            if (bucket->slots[i] == 0) {
                bucket->slots[i] = s_slot (in, print, ref);
                return;
            }
        }
        bucket->passed++;
        ef_assert (bucket->passed != 0);
    }
}

/* It has gone from bucket `at`: it passes none on its way there any more. */
static void
s_unpass (ef_print_buckets_t *in, ef_print_t print, uint32_t at) {
    for (uint32_t i = (uint32_t)print.low & in->mask; i != at; i = (i + 1) & in->mask) {
        ef_print_bucket_t *bucket = s_bucket (in, i);
        ef_assert (bucket != NULL && bucket->passed > 0);
        bucket->passed--;
    }
}

static bool
s_take (ef_print_buckets_t *in, ef_print_t print, uint32_t ref) {
    uint32_t wanted = s_slot (in, print, ref);
    uint32_t at = (uint32_t)print.low & in->mask;
    ef_print_bucket_t *bucket;
    for (uint32_t tried = 0; tried <= in->mask && (bucket = s_bucket (in, at)) != NULL; tried++) {
        for (unsigned i = 0; i < EF_PRINT_BUCKET_SLOTS; i++) {
            if (bucket->slots[i] == wanted) {
                bucket->slots[i] = 0;
                s_unpass (in, print, at);
                return true;
            }
        }
        if (bucket->passed == 0) {
            break;
        }
        at = (at + 1) & in->mask;
    }
    return false;
}

/* The fingerprints of a bucket are far apart in memory: asked for one step ahead. */
static void
s_prefetch_bucket (const ef_print_table_t *self, uint32_t at) {
    const ef_print_buckets_t *old = &self->old;
    const ef_print_bucket_t *bucket = at <= old->mask ? s_bucket (old, at) : NULL;
    for (unsigned i = 0; bucket && i < EF_PRINT_BUCKET_SLOTS; i++) {
        uint32_t slot = bucket->slots[i];
        if (slot != 0) {
            __builtin_prefetch (self->print_of (self->owner, slot & old->ref_mask));
        }
    }
}

static void
s_move_bucket (ef_print_table_t *self, uint32_t at) {
    ef_print_buckets_t *old = &self->old;
    ef_print_bucket_t *bucket = s_bucket (old, at);
    for (unsigned i = 0; bucket && i < EF_PRINT_BUCKET_SLOTS; i++) {
        uint32_t ref = bucket->slots[i] & old->ref_mask;
        if (bucket->slots[i] != 0) {
            ef_print_t print = *self->print_of (self->owner, ref);
            s_put (&self->in_use, print, ref);
            bucket->slots[i] = 0;
            s_unpass (old, print, at);
        }
    }
}

/* All in it have moved; but some that passed it may stand behind it still. */
static void
s_free_moved (ef_print_buckets_t *old, uint32_t page) {
    uint32_t passed = 0;
    for (unsigned i = 0; old->pages[page] && i < EF_PRINT_PAGE_BUCKETS; i++) {
        passed |= old->pages[page][i].passed;
    }
    if (passed == 0) {
        s_page_free (old, page);
    }
}

/* Moves one bucket of the old ones. A page goes when the next one has moved, or at the end. */
static void
s_step (ef_print_table_t *self) {
    ef_print_buckets_t *old = &self->old;
    if (old->pages == NULL) {
        return;
    }
    s_prefetch_bucket (self, self->moved + 1);
    s_move_bucket (self, self->moved);
    if (self->moved++ == old->mask) {
        s_buckets_free (old);
        self->moved = 0;
    } else if (self->moved % EF_PRINT_PAGE_BUCKETS == 0 && self->moved > EF_PRINT_PAGE_BUCKETS) {
        s_free_moved (old, self->moved / EF_PRINT_PAGE_BUCKETS - 2);
    }
}

static void
s_resize (ef_print_table_t *self, unsigned bits) {
    while (self->old.pages) { /* only where doubling follows halving at once */
        s_step (self);
    }
    self->old = self->in_use;
    s_buckets_init (&self->in_use, bits);
}

void
ef_print_table_init (ef_print_table_t *self, const ef_print_t *(*print_of) (const void *, uint32_t),
                     const void *owner) {
    memset (self, 0, sizeof *self);
    self->print_of = print_of;
    self->owner = owner;
}

void
ef_print_table_free (ef_print_table_t *self) {
    s_buckets_free (&self->in_use);
    s_buckets_free (&self->old);
    self->count = self->moved = 0;
}

uint32_t
ef_print_table_find (const ef_print_table_t *self, ef_print_t print) {
    uint32_t ref = self->in_use.pages ? s_find (self, &self->in_use, print) : 0;
    return ref == 0 && self->old.pages ? s_find (self, &self->old, print) : ref;
}

void
ef_print_table_prefetch (const ef_print_table_t *self, ef_print_t print) {
    uint32_t hash = (uint32_t)print.low;
    if (self->in_use.pages) {
        __builtin_prefetch (s_bucket (&self->in_use, hash & self->in_use.mask), 1);
    }
    if (self->old.pages) {
        __builtin_prefetch (s_bucket (&self->old, hash & self->old.mask), 1);
    }
}

void
ef_print_table_insert (ef_print_table_t *self, ef_print_t print, uint32_t ref) {
    ef_assert (ref > 0 && ref <= EF_PRINT_REF_MAX);
    if (self->in_use.pages == NULL) {
        s_buckets_init (&self->in_use, BUCKETS_BITS);
    }
    while (ref > self->in_use.ref_mask ||
           self->count >= BUCKET_FULL * ((uint64_t)self->in_use.mask + 1)) {
        s_resize (self, s_bits (&self->in_use) + 1);
    }
    s_step (self);
    s_put (&self->in_use, print, ref);
    self->count++;
}

void
ef_print_table_remove (ef_print_table_t *self, ef_print_t print, uint32_t ref) {
    s_step (self);
    bool was_there =
        s_take (&self->in_use, print, ref) || (self->old.pages && s_take (&self->old, print, ref));
    ef_assert (was_there && self->count > 0);
    self->count--;
}

/* An eighth of what would make it double: half as many buckets are a quarter full then. */
void
ef_print_table_shrink (ef_print_table_t *self, uint32_t top) {
    const ef_print_buckets_t *in_use = &self->in_use;
    if (self->count == 0) {
        ef_print_table_free (self);
    } else if (self->old.pages == NULL && s_bits (in_use) > BUCKETS_BITS &&
               self->count < BUCKET_FULL * ((uint64_t)in_use->mask + 1) / 8 &&
               top <= in_use->ref_mask / 2) {
        s_resize (self, s_bits (in_use) - 1);
    }
}

static size_t
s_bytes (const ef_print_buckets_t *self) {
    size_t pages = self->pages ? ((size_t)self->mask + 1) / EF_PRINT_PAGE_BUCKETS : 0;
    return pages * sizeof (void *) + self->page_count * (PAGE_BYTES + PAGE_OVERHEAD);
}

size_t
ef_print_table_bytes (const ef_print_table_t *self) {
    return s_bytes (&self->in_use) + s_bytes (&self->old);
}

/* Every reference is found from its home, and each bucket was passed by as many as it says. */
static uint32_t
s_check (const ef_print_table_t *self, const ef_print_buckets_t *in) {
    uint32_t buckets = in->pages ? in->mask + 1 : 0;
    uint32_t *passed = calloc ((size_t)buckets + 1, sizeof *passed);
    uint32_t count = 0;
    ef_assert (passed != NULL);
    for (uint32_t at = 0; at < buckets; at++) {
        const ef_print_bucket_t *bucket = s_bucket (in, at);
        for (unsigned i = 0; bucket && i < EF_PRINT_BUCKET_SLOTS; i++) {
            uint32_t ref = bucket->slots[i] & in->ref_mask;
            if (bucket->slots[i] != 0) {
                ef_print_t print = *self->print_of (self->owner, ref);
                ef_assert (bucket->slots[i] == s_slot (in, print, ref));
                ef_assert (ef_print_table_find (self, print) == ref);
                for (uint32_t k = (uint32_t)print.low & in->mask; k != at; k = (k + 1) & in->mask) {
                    passed[k]++;
                }
                count++;
            }
        }
    }
    for (uint32_t at = 0; at < buckets; at++) {
        const ef_print_bucket_t *bucket = s_bucket (in, at);
        ef_assert ((bucket ? bucket->passed : 0) == passed[at]);
    }
    free (passed);
    return count;
}

void
ef_print_table_check (const ef_print_table_t *self) {
    uint32_t count = s_check (self, &self->in_use) + s_check (self, &self->old);
    ef_assert (count == self->count);
}
