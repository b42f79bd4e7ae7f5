/* A thread with a ring in, a ring out and one loop. SPDX-License-Identifier: MIT

   Role: every thread but the router and main is one of these: a thin shell around a step function,
   which takes what came, does what is due, and says when it must be called again. Owns: its thread
   and rings. Talks to: its owner, by the rings; wakes it by the owner's waker. Messages are handed
   over with their memory. All signals are blocked in it. */
#ifndef EF_ACTOR_H
#define EF_ACTOR_H

#include "ring.h"

#include <pthread.h>

typedef struct ef_actor_s {
    ef_ring_t in;  /* owner -> actor */
    ef_ring_t out; /* actor -> owner */
    ef_waker_t waker;
    ef_waker_t *owner; /* borrowed */
    _Atomic bool is_stopping;
    _Atomic bool is_poked; /* a flag of its owner's has changed */
    bool is_running;
    pthread_t thread;
    /* Returns when to be called again at the latest, monotonic ms; UINT64_MAX: when something
     * comes. */
    uint64_t (*step) (void *arg);
    void *arg;
} ef_actor_t;

/* Starts the thread. 0 or a negative errno. */
EF_MUST_USE int ef_actor_start (ef_actor_t *self, const char *name, ef_waker_t *owner,
                                uint64_t (*step) (void *arg), void *arg);

/* Lets it do one last step and joins it. What is left in the rings belongs to the caller. */
void ef_actor_stop (ef_actor_t *self);

/* By the owner: hands a message over. False: the ring is full, the caller keeps it. */
EF_MUST_USE bool ef_actor_tell (ef_actor_t *self, void *message);

/* By the owner: has it look at what isn't in a ring. Never lost. */
void ef_actor_poke (ef_actor_t *self);

/* By the actor: answers. False: the ring is full. */
EF_MUST_USE bool ef_actor_answer (ef_actor_t *self, void *message);

#endif
