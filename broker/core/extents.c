/* Sorted runs of ready events, in chunks. SPDX-License-Identifier: MIT */
#include "extents.h"
#include "../../proto/assert.h"

#include <stdlib.h>
#include <string.h>

void
ef_extents_free (ef_extents_t *self) {
    for (uint32_t i = 0; i < self->count; i++) {
        free (self->chunks[self->first + i]);
    }
    free (self->chunks);
    memset (self, 0, sizeof *self);
}

static ef_chunk_t *
s_chunk (const ef_extents_t *self, uint32_t chunk) {
    return self->chunks[self->first + chunk];
}

static void
s_insert_chunk (ef_extents_t *self, uint32_t at, ef_chunk_t *chunk) {
    if (self->first + self->count == self->capacity) {
        if (self->first > self->capacity / 2) {
            memmove (self->chunks, self->chunks + self->first, self->count * sizeof (void *));
            self->first = 0;
        } else {
            self->capacity = self->capacity ? 2 * self->capacity : 8;
            self->chunks = realloc (self->chunks, self->capacity * sizeof (void *));
            ef_assert (self->chunks != NULL);
        }
    }
    ef_chunk_t **place = self->chunks + self->first + at;
    memmove (place + 1, place, (self->count - at) * sizeof (void *));
    *place = chunk;
    self->count++;
}

static ef_chunk_t *
s_new_chunk (void) {
    ef_chunk_t *chunk = malloc (sizeof *chunk);
    ef_assert (chunk != NULL);
    chunk->head = chunk->count = 0;
    return chunk;
}

/* The last chunk whose first n is at or below n; 0 where there is none. */
static uint32_t
s_chunk_of (const ef_extents_t *self, uint64_t n) {
    uint32_t low = 0;
    uint32_t high = self->count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        const ef_chunk_t *chunk = s_chunk (self, middle);
        if (chunk->items[chunk->head].n <= n) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* How many extents of a chunk begin at or below n. */
static uint32_t
s_below (const ef_chunk_t *chunk, uint64_t n) {
    uint32_t low = 0;
    uint32_t high = chunk->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (chunk->items[chunk->head + middle].n <= n) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Makes a free place behind a full chunk: appends a new one or moves half of it there. */
static void
s_split (ef_extents_t *self, uint32_t index, bool is_append) {
    ef_chunk_t *chunk = s_chunk (self, index);
    ef_chunk_t *right = s_new_chunk ();
    if (!is_append) {
        uint32_t keep = chunk->count / 2;
        right->count = chunk->count - keep;
        memcpy (right->items, chunk->items + chunk->head + keep,
                right->count * sizeof *right->items);
        chunk->count = keep;
    }
    s_insert_chunk (self, index + 1, right);
}

void
ef_extents_insert (ef_extents_t *self, const ef_extent_t *extent) {
    if (self->count == 0) {
        s_insert_chunk (self, 0, s_new_chunk ());
    }
    uint32_t index = s_chunk_of (self, extent->n);
    ef_chunk_t *chunk = s_chunk (self, index);
    uint32_t place = s_below (chunk, extent->n);
    if (chunk->head + chunk->count == EF_CHUNK_EXTENTS && chunk->head > 0 && chunk->count < 64) {
        memmove (chunk->items, chunk->items + chunk->head, chunk->count * sizeof *chunk->items);
        chunk->head = 0;
    }
    if (chunk->head + chunk->count == EF_CHUNK_EXTENTS) {
        bool is_append = place == chunk->count && index + 1 == self->count;
        s_split (self, index, is_append);
        if (is_append || place > s_chunk (self, index)->count) {
            place -= is_append ? place : s_chunk (self, index)->count;
            index++;
        }
        chunk = s_chunk (self, index);
    }
    ef_extent_t *items = chunk->items + chunk->head;
    memmove (items + place + 1, items + place, (chunk->count - place) * sizeof *items);
    items[place] = *extent;
    chunk->count++;
    self->extents++;
}

void
ef_extents_append (ef_extents_t *self, const ef_extent_t *extent, uint32_t span) {
    ef_extent_at_t at;
    ef_extent_t *before = ef_extents_find (self, extent->n - 1, &at);
    if (before && before->n + before->count == extent->n && !before->is_copy &&
        before->segment == extent->segment && extent->offset > before->offset &&
        extent->offset - before->offset <= span &&
        before->count + (uint64_t)extent->count < UINT32_MAX) {
        before->count += extent->count;
        before->has_meta = before->has_meta || extent->has_meta;
        before->bytes += extent->bytes;
    } else {
        ef_extents_insert (self, extent);
    }
}

ef_extent_t *
ef_extents_first (ef_extents_t *self, ef_extent_at_t *at) {
    at->chunk = at->item = 0;
    if (self->count == 0) {
        return NULL;
    }
    ef_chunk_t *chunk = s_chunk (self, 0);
    ef_assert (chunk->count > 0);
    return chunk->items + chunk->head;
}

ef_extent_t *
ef_extents_next (ef_extents_t *self, ef_extent_at_t *at) {
    ef_chunk_t *chunk = s_chunk (self, at->chunk);
    if (++at->item == chunk->count) {
        at->item = 0;
        if (++at->chunk == self->count) {
            return NULL;
        }
        chunk = s_chunk (self, at->chunk);
    }
    return chunk->items + chunk->head + at->item;
}

ef_extent_t *
ef_extents_find (ef_extents_t *self, uint64_t n, ef_extent_at_t *at) {
    if (self->count == 0) {
        return NULL;
    }
    at->chunk = s_chunk_of (self, n);
    ef_chunk_t *chunk = s_chunk (self, at->chunk);
    uint32_t below = s_below (chunk, n);
    if (below == 0) {
        return NULL;
    }
    at->item = below - 1;
    ef_extent_t *extent = chunk->items + chunk->head + at->item;
    return n - extent->n < extent->count ? extent : NULL;
}

void
ef_extents_remove (ef_extents_t *self, ef_extent_at_t at) {
    ef_chunk_t *chunk = s_chunk (self, at.chunk);
    ef_assert (at.item < chunk->count);
    ef_extent_t *items = chunk->items + chunk->head;
    self->extents--;
    chunk->count--;
    if (at.item == 0) {
        chunk->head++;
    } else {
        memmove (items + at.item, items + at.item + 1, (chunk->count - at.item) * sizeof *items);
    }
    if (chunk->count > 0) {
        return;
    }
    free (chunk);
    if (at.chunk == 0) {
        self->first++;
    } else {
        ef_chunk_t **place = self->chunks + self->first + at.chunk;
        memmove (place, place + 1, (self->count - at.chunk - 1) * sizeof (void *));
    }
    if (--self->count == 0) {
        self->first = 0;
    }
}

ef_extent_t *
ef_extents_from (ef_extents_t *self, uint64_t n, ef_extent_at_t *at) {
    ef_extent_t *extent = ef_extents_find (self, n, at);
    if (extent || self->count == 0) {
        return extent;
    }
    at->chunk = s_chunk_of (self, n);
    ef_chunk_t *chunk = s_chunk (self, at->chunk);
    at->item = s_below (chunk, n);
    if (at->item < chunk->count) {
        return chunk->items + chunk->head + at->item;
    }
    at->item--;
    return ef_extents_next (self, at);
}

/* Takes first to last, which lie in one extent, out of it. Returns their bytes. */
static uint64_t
s_cut_one (ef_extents_t *self, ef_extent_at_t at, ef_extent_t *extent, uint64_t first,
           uint64_t last) {
    uint32_t before = (uint32_t)(first - extent->n);
    uint32_t cut = (uint32_t)(last - first + 1);
    uint32_t behind = extent->count - before - cut;
    if (before == 0 && behind == 0) {
        uint64_t bytes = extent->bytes;
        ef_extents_remove (self, at);
        return bytes;
    }
    uint64_t each = extent->bytes / extent->count;
    ef_extent_t right = *extent;
    right.n = last + 1;
    right.index += before + cut;
    right.rel = 0;
    right.count = behind;
    right.bytes = each * behind;
    if (before == 0) {
        uint64_t bytes = extent->bytes - right.bytes;
        *extent = right;
        return bytes;
    }
    extent->count = before;
    extent->bytes -= right.bytes + each * cut;
    if (behind > 0) {
        ef_extents_insert (self, &right);
    }
    return each * cut;
}

uint64_t
ef_extents_cut (ef_extents_t *self, uint64_t first, uint64_t last, uint64_t *bytes) {
    uint64_t taken = 0;
    *bytes = 0;
    ef_extent_at_t at;
    for (ef_extent_t *extent; (extent = ef_extents_from (self, first, &at)) != NULL;) {
        uint64_t from = extent->n > first ? extent->n : first;
        uint64_t end = extent->n + extent->count - 1;
        if (from > last) {
            break;
        }
        uint64_t to = end < last ? end : last;
        taken += to - from + 1;
        *bytes += s_cut_one (self, at, extent, from, to);
        if (to == last) {
            break;
        }
        first = to + 1;
    }
    return taken;
}
