/* The retry actor. SPDX-License-Identifier: MIT */
#include "retry.h"
#include "../../proto/event.h"

#include <stdlib.h>

ef_waits_t *
ef_waits_add (ef_waits_t *self, const ef_wait_t *wait) {
    if (self == NULL || self->count == self->capacity) {
        uint32_t count = self ? self->count : 0;
        uint32_t capacity = count ? 2 * count : 16;
        self = realloc (self, sizeof *self + capacity * sizeof (ef_wait_t));
        ef_assert (self != NULL);
        self->count = count;
        self->capacity = capacity;
    }
    self->items[self->count++] = *wait;
    return self;
}

static uint64_t
s_step (void *arg) {
    ef_retry_t *self = arg;
    ef_waits_t *waits;
    while ((waits = ef_ring_pop (&self->actor.in)) != NULL) {
        for (uint32_t i = 0; i < waits->count; i++) {
            ef_retry_heap_push (&self->heap, &waits->items[i]);
        }
        free (waits);
    }
    ef_wait_t wait;
    uint64_t now = ef_mono_ms ();
    while (ef_retry_heap_pop (&self->heap, now, &wait)) {
        self->over = ef_waits_add (self->over, &wait);
    }
    atomic_store (&self->depth, self->heap.count);
    if (self->over && ef_actor_answer (&self->actor, self->over)) {
        self->over = NULL;
    }
    return self->over ? now + 10 : ef_retry_heap_next_ms (&self->heap);
}

int
ef_retry_start (ef_retry_t *self, ef_waker_t *owner) {
    return ef_actor_start (&self->actor, "retry", owner, s_step, self);
}

void
ef_retry_stop (ef_retry_t *self) {
    ef_actor_stop (&self->actor);
    ef_waits_t *waits;
    while ((waits = ef_ring_pop (&self->actor.in)) != NULL ||
           (waits = ef_ring_pop (&self->actor.out)) != NULL) {
        free (waits);
    }
    free (self->over);
    ef_retry_heap_free (&self->heap);
}
