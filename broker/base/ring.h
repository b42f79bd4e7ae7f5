/* A bounded ring of pointers between one writing and one reading thread, and how the reader sleeps.
   SPDX-License-Identifier: MIT

   What a pushed pointer points to belongs to the reader from then on. */
#ifndef EF_RING_H
#define EF_RING_H

#include "../../proto/assert.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>

#define EF_RING_SLOTS 256 /* a power of two; more than anybody has under way at once */

typedef struct {
    _Alignas(64) _Atomic uint32_t head; /* next to read; written by the reader */
    _Alignas(64) _Atomic uint32_t tail; /* next to write; written by the writer */
    _Alignas(64) void *slots[EF_RING_SLOTS];
} ef_ring_t;

/* False: it is full, nothing was taken. */
static inline bool
ef_ring_push (ef_ring_t *self, void *item) {
    uint32_t tail = atomic_load_explicit (&self->tail, memory_order_relaxed);
    if (tail - atomic_load_explicit (&self->head, memory_order_acquire) == EF_RING_SLOTS) {
        return false;
    }
    self->slots[tail & (EF_RING_SLOTS - 1)] = item;
    atomic_store_explicit (&self->tail, tail + 1, memory_order_release);
    return true;
}

/* NULL: it is empty. */
static inline void *
ef_ring_pop (ef_ring_t *self) {
    uint32_t head = atomic_load_explicit (&self->head, memory_order_relaxed);
    if (head == atomic_load_explicit (&self->tail, memory_order_acquire)) {
        return NULL;
    }
    void *item = self->slots[head & (EF_RING_SLOTS - 1)];
    atomic_store_explicit (&self->head, head + 1, memory_order_release);
    return item;
}

static inline bool
ef_ring_is_empty (ef_ring_t *self) {
    return atomic_load_explicit (&self->head, memory_order_acquire) ==
           atomic_load_explicit (&self->tail, memory_order_acquire);
}

/* What a thread sleeps on. Others wake it after they pushed; while it is awake that costs no system
   call. */
typedef struct {
    int fd; /* eventfd */
    _Atomic bool is_asleep;
} ef_waker_t;

EF_MUST_USE int ef_waker_init (ef_waker_t *self); /* 0 or a negative errno */
void ef_waker_free (ef_waker_t *self);
void ef_waker_wake (ef_waker_t *self);

/* The reader: says that it is about to sleep; then it looks at its rings once more, and if they are
   empty, polls fd; then it says that it is up. */
void ef_waker_prepare (ef_waker_t *self);
void ef_waker_up (ef_waker_t *self);

#endif
