/* Waits in a binary heap, by value. SPDX-License-Identifier: MIT */
#include "retry_heap.h"
#include "../../proto/assert.h"

#include <stdlib.h>
#include <string.h>

void
ef_retry_heap_free (ef_retry_heap_t *self) {
    free (self->items);
    memset (self, 0, sizeof *self);
}

/* By time, then by n, so that equal times have one order everywhere. */
static bool
s_before (const ef_wait_t *a, const ef_wait_t *b) {
    return a->due_ms < b->due_ms || (a->due_ms == b->due_ms && a->n < b->n);
}

void
ef_retry_heap_push (ef_retry_heap_t *self, const ef_wait_t *wait) {
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 64;
        self->items = realloc (self->items, self->capacity * sizeof *self->items);
        ef_assert (self->items != NULL);
    }
    uint32_t at = self->count++;
    while (at > 0 && s_before (wait, &self->items[(at - 1) / 2])) {
        self->items[at] = self->items[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    self->items[at] = *wait;
}

bool
ef_retry_heap_pop (ef_retry_heap_t *self, uint64_t now_ms, ef_wait_t *wait) {
    if (self->count == 0 || self->items[0].due_ms > now_ms) {
        return false;
    }
    *wait = self->items[0];
    ef_wait_t last = self->items[--self->count];
    uint32_t at = 0;
    for (uint32_t child = 1; child < self->count; child = 2 * at + 1) {
        if (child + 1 < self->count && s_before (&self->items[child + 1], &self->items[child])) {
            child++;
        }
        if (!s_before (&self->items[child], &last)) {
            break;
        }
        self->items[at] = self->items[child];
        at = child;
    }
    self->items[at] = last;
    return true;
}

uint64_t
ef_retry_heap_next_ms (const ef_retry_heap_t *self) {
    return self->count ? self->items[0].due_ms : UINT64_MAX;
}
