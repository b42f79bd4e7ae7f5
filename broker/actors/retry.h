/* The retry actor: keeps what waits for a time and says when it is over.
   SPDX-License-Identifier: MIT

   Role: a shell around ef_retry_heap_t. Talks to: the router; both ways ef_waits_t, handed over. */
#ifndef EF_RETRY_H
#define EF_RETRY_H

#include "../base/actor.h"
#include "retry_heap.h"

typedef struct {
    uint32_t count;
    uint32_t capacity;
    ef_wait_t items[];
} ef_waits_t;

typedef struct {
    ef_actor_t actor;     /* in and out: ef_waits_t */
    ef_retry_heap_t heap; /* owned */
    ef_waits_t *over;     /* owned: found the ring out full */
    _Atomic uint32_t depth;
} ef_retry_t;

/* Appends to a list, growing it; NULL: a new one. Returns the list. */
ef_waits_t *ef_waits_add (ef_waits_t *self, const ef_wait_t *wait);

EF_MUST_USE int ef_retry_start (ef_retry_t *self, ef_waker_t *owner);
void ef_retry_stop (ef_retry_t *self);

#endif
