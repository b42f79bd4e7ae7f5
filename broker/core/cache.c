/* Stretches of the journal in memory. SPDX-License-Identifier: MIT */
#include "cache.h"
#include "../base/buggify.h"
#include "../../proto/assert.h"

#include <stdlib.h>
#include <string.h>

/* Many small stretches cost more to search than to read back. */
#define CACHE_ITEMS_MAX 1024

void
ef_cache_free (ef_cache_t *self) {
    for (uint32_t i = 0; i < self->count; i++) {
        free (self->items[i].bytes);
    }
    free (self->items);
    memset (self, 0, sizeof *self);
}

static bool
s_is_at_or_before (const ef_stretch_t *item, uint32_t segment, uint32_t offset) {
    return item->segment < segment || (item->segment == segment && item->offset <= offset);
}

/* How many items begin at or before a place. */
static uint32_t
s_below (const ef_cache_t *self, uint32_t segment, uint32_t offset) {
    uint32_t low = 0;
    uint32_t high = self->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s_is_at_or_before (&self->items[middle], segment, offset)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void
s_drop (ef_cache_t *self, uint32_t at) {
    self->bytes -= self->items[at].capacity;
    free (self->items[at].bytes);
    self->count--;
    memmove (self->items + at, self->items + at + 1, (self->count - at) * sizeof *self->items);
}

static void
s_drop_oldest (ef_cache_t *self) {
    uint32_t oldest = 0;
    for (uint32_t i = 1; i < self->count; i++) {
        if (self->items[i].age < self->items[oldest].age) {
            oldest = i;
        }
    }
    s_drop (self, oldest);
}

void
ef_cache_put (ef_cache_t *self, ef_stretch_t stretch) {
    bool is_small = EF_BUGGIFY (50);
    while (self->count > 0 && (is_small || self->bytes + stretch.capacity > self->budget ||
                               self->count == CACHE_ITEMS_MAX)) {
        s_drop_oldest (self);
    }
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 64;
        self->items = realloc (self->items, self->capacity * sizeof *self->items);
        ef_assert (self->items != NULL);
    }
    uint32_t at = s_below (self, stretch.segment, stretch.offset);
    memmove (self->items + at + 1, self->items + at, (self->count - at) * sizeof *self->items);
    stretch.age = ++self->age;
    self->items[at] = stretch;
    self->count++;
    self->bytes += stretch.capacity;
}

const uint8_t *
ef_cache_find (const ef_cache_t *self, uint32_t segment, uint32_t offset, size_t *size) {
    /* Stretches that were read back may overlap: the nearest one that begins before the place can
       be too short, an earlier one long enough. Three back is as far as reading ahead overlaps. */
    uint32_t below = s_below (self, segment, offset);
    for (uint32_t i = below; i > 0 && below - i < 3; i--) {
        const ef_stretch_t *item = &self->items[i - 1];
        if (item->segment == segment && offset - item->offset < item->size) {
            *size = item->size - (offset - item->offset);
            return item->bytes + (offset - item->offset);
        }
    }
    return NULL;
}
