/* Binary heap with positions. SPDX-License-Identifier: MIT */
#include "heap.h"
#include "../../proto/assert.h"

#include <stdlib.h>
#include <string.h>

void
ef_heap_init (ef_heap_t *self, bool (*before) (const void *, const void *),
              void (*placed) (void *, uint32_t)) {
    memset (self, 0, sizeof *self);
    self->before = before;
    self->placed = placed;
}

void
ef_heap_free (ef_heap_t *self) {
    free (self->items);
    self->items = NULL;
    self->count = self->capacity = 0;
}

static void
s_set (ef_heap_t *self, uint32_t position, void *item) {
    self->items[position] = item;
    self->placed (item, position);
}

static uint32_t
s_rise (ef_heap_t *self, uint32_t position) {
    void *item = self->items[position];
    while (position > 0 && self->before (item, self->items[(position - 1) / 2])) {
        s_set (self, position, self->items[(position - 1) / 2]);
        position = (position - 1) / 2;
    }
    s_set (self, position, item);
    return position;
}

static void
s_sink (ef_heap_t *self, uint32_t position) {
    void *item = self->items[position];
    for (;;) {
        uint32_t child = 2 * position + 1;
        if (child >= self->count) {
            break;
        }
        if (child + 1 < self->count && self->before (self->items[child + 1], self->items[child])) {
            child++;
        }
        if (!self->before (self->items[child], item)) {
            break;
        }
        s_set (self, position, self->items[child]);
        position = child;
    }
    s_set (self, position, item);
}

void
ef_heap_push (ef_heap_t *self, void *item) {
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 16;
        self->items = realloc (self->items, self->capacity * sizeof *self->items);
        ef_assert (self->items != NULL);
    }
    self->items[self->count++] = item;
    (void)s_rise (self, self->count - 1); /* where it came to rest, it was told */
}

void *
ef_heap_top (const ef_heap_t *self) {
    return self->count ? self->items[0] : NULL;
}

void
ef_heap_remove (ef_heap_t *self, uint32_t position) {
    ef_assert (position < self->count);
    void *item = self->items[position];
    void *last = self->items[--self->count];
    self->placed (item, EF_HEAP_NONE);
    if (position < self->count) {
        s_set (self, position, last);
        ef_heap_moved (self, position);
    }
}

void
ef_heap_moved (ef_heap_t *self, uint32_t position) {
    ef_assert (position < self->count);
    s_sink (self, s_rise (self, position));
}
