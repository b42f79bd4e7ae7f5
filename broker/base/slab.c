/* Numbered items with a hash. SPDX-License-Identifier: MIT */
#include "slab.h"
#include "../../proto/assert.h"

#include <stdlib.h>
#include <string.h>

/* Stands before each item. */
typedef struct {
    uint32_t next; /* of its chain, or of the free ones */
    uint32_t hash; /* 31 bits; bit 0: the place is in use */
} head_t;

#define IN_USE 1u

static uint32_t
s_hash (uint64_t hash) {
    return (uint32_t)(hash >> 32) | IN_USE;
}

static uint32_t
s_chunks (uint32_t count) {
    return (count + EF_SLAB_CHUNK - 1) / EF_SLAB_CHUNK;
}

static head_t *
s_head (const ef_slab_t *self, uint32_t number) {
    ef_assert (number < self->used);
    return (head_t *)(void *)(self->chunks[number / EF_SLAB_CHUNK] +
                              (size_t)(number % EF_SLAB_CHUNK) * self->item_bytes);
}

/* The first of the chain that a hash belongs to: by as many bits as there are chains for. */
static uint32_t *
s_chain (const ef_slab_t *self, uint32_t hash) {
    uint32_t top = 1u << (31 - __builtin_clz (self->chains)); /* highest power of two */
    uint32_t chain = hash >> 1 & (2 * top - 1);
    chain = chain < self->chains ? chain : chain - top;
    return &self->heads[chain / EF_SLAB_CHUNK][chain % EF_SLAB_CHUNK];
}

void
ef_slab_init (ef_slab_t *self, uint32_t bytes) {
    memset (self, 0, sizeof *self);
    self->item_bytes = (uint32_t)sizeof (head_t) + (bytes + 7) / 8 * 8;
    self->free = EF_SLAB_NONE;
}

void
ef_slab_free (ef_slab_t *self) {
    for (uint32_t i = 0; i < s_chunks (self->used); i++) {
        free (self->chunks[i]);
    }
    for (uint32_t i = 0; i < s_chunks (self->chains); i++) {
        free (self->heads[i]);
    }
    free (self->chunks);
    free (self->heads);
    ef_slab_init (self, self->item_bytes - (uint32_t)sizeof (head_t));
}

/* Makes room for one more pointer: `count` are there, the capacity is the next power of two. */
static void *
s_grow (void *pointers, uint32_t count) {
    if ((count & (count - 1)) == 0) {
        pointers = realloc (pointers, (count ? 2 * (size_t)count : 1) * sizeof (void *));
        ef_assert (pointers != NULL);
    }
    return pointers;
}

/* One chain more: the items of an old one that belong there move over. */
static void
s_split (ef_slab_t *self) {
    uint32_t added = self->chains;
    if (added % EF_SLAB_CHUNK == 0) {
        uint32_t count = added / EF_SLAB_CHUNK;
        self->heads = s_grow (self->heads, count);
        self->heads[count] = malloc (EF_SLAB_CHUNK * sizeof (uint32_t));
        ef_assert (self->heads[count] != NULL);
        memset (self->heads[count], 0xff, EF_SLAB_CHUNK * sizeof (uint32_t)); /* EF_SLAB_NONE */
    }
    uint32_t *target = &self->heads[added / EF_SLAB_CHUNK][added % EF_SLAB_CHUNK];
    self->chains++;
    if (added == 0) {
        return;
    }
    uint32_t old = added - (1u << (31 - __builtin_clz (added)));
    uint32_t *at = &self->heads[old / EF_SLAB_CHUNK][old % EF_SLAB_CHUNK];
    while (*at != EF_SLAB_NONE) {
        uint32_t number = *at;
        head_t *head = s_head (self, number);
        if (s_chain (self, head->hash) == target) {
            *at = head->next;
            head->next = *target;
            *target = number;
        } else {
            at = &head->next;
        }
    }
}

static uint32_t
s_new_place (ef_slab_t *self) {
    if (self->free != EF_SLAB_NONE) {
        uint32_t number = self->free;
        self->free = s_head (self, number)->next;
        return number;
    }
    ef_assert (self->used < EF_SLAB_NONE);
    if (self->used % EF_SLAB_CHUNK == 0) {
        uint32_t count = self->used / EF_SLAB_CHUNK;
        self->chunks = s_grow (self->chunks, count);
        self->chunks[count] = malloc ((size_t)EF_SLAB_CHUNK * self->item_bytes);
        ef_assert (self->chunks[count] != NULL);
    }
    return self->used++;
}

uint32_t
ef_slab_add (ef_slab_t *self, uint64_t hash) {
    if (self->count >= self->chains) {
        s_split (self);
    }
    uint32_t number = s_new_place (self);
    head_t *head = s_head (self, number);
    memset (head, 0, self->item_bytes);
    head->hash = s_hash (hash);
    uint32_t *chain = s_chain (self, head->hash);
    head->next = *chain;
    *chain = number;
    self->count++;
    return number;
}

void
ef_slab_remove (ef_slab_t *self, uint32_t number) {
    head_t *head = s_head (self, number);
    ef_assert (head->hash & IN_USE);
    uint32_t *at = s_chain (self, head->hash);
    while (*at != number) {
        at = &s_head (self, *at)->next;
    }
    *at = head->next;
    head->hash = 0;
    head->next = self->free;
    self->free = number;
    if (--self->count == 0 && self->used > EF_SLAB_CHUNK) {
        ef_slab_free (self);
    }
}

void *
ef_slab_at (const ef_slab_t *self, uint32_t number) {
    head_t *head = s_head (self, number);
    ef_assert (head->hash & IN_USE);
    return head + 1;
}

/* From `number` on along its chain, the first of this hash. */
static uint32_t
s_same (const ef_slab_t *self, uint32_t number, uint32_t hash) {
    while (number != EF_SLAB_NONE) {
        const head_t *head = s_head (self, number);
        if (head->hash == hash) {
            break;
        }
        number = head->next;
    }
    return number;
}

uint32_t
ef_slab_find (const ef_slab_t *self, uint64_t hash) {
    if (self->chains == 0) {
        return EF_SLAB_NONE;
    }
    return s_same (self, *s_chain (self, s_hash (hash)), s_hash (hash));
}

uint32_t
ef_slab_find_next (const ef_slab_t *self, uint32_t number) {
    const head_t *head = s_head (self, number);
    return s_same (self, head->next, head->hash);
}

bool
ef_slab_has (const ef_slab_t *self, uint32_t number) {
    return s_head (self, number)->hash & IN_USE;
}

uint64_t
ef_slab_bytes (const ef_slab_t *self) {
    uint64_t items = (uint64_t)s_chunks (self->used) * EF_SLAB_CHUNK * self->item_bytes;
    return items + (uint64_t)s_chunks (self->chains) * EF_SLAB_CHUNK * sizeof (uint32_t);
}
