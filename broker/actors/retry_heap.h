/* The events that wait for a time: backoff, schedule, re-insertion. Pure.
   SPDX-License-Identifier: MIT

   Role: says which waits are over. Owns: its array. It never forgets one: what ended meanwhile is
   told by its generation. Bounded by what the core lets wait (retry, schedule and insertion
   capacities). */
#ifndef EF_RETRY_HEAP_H
#define EF_RETRY_HEAP_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint64_t due_ms; /* monotonic */
    uint64_t n;
    uint32_t topic;
    uint32_t generation;
} ef_wait_t;

typedef struct {
    ef_wait_t *items; /* owned */
    uint32_t count;
    uint32_t capacity;
} ef_retry_heap_t;

void ef_retry_heap_free (ef_retry_heap_t *self);
void ef_retry_heap_push (ef_retry_heap_t *self, const ef_wait_t *wait);

/* Takes the next wait that is over at `now_ms`. */
bool ef_retry_heap_pop (ef_retry_heap_t *self, uint64_t now_ms, ef_wait_t *wait);

/* When the next one is over; UINT64_MAX: nothing waits. */
uint64_t ef_retry_heap_next_ms (const ef_retry_heap_t *self);

#endif
