/* The one loop of all actors. SPDX-License-Identifier: MIT */
#include "actor.h"
#include "../../proto/event.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>

static void
s_sleep (ef_actor_t *self, uint64_t until_ms) {
    uint64_t now = ef_mono_ms ();
    int timeout = until_ms == UINT64_MAX        ? -1
                  : until_ms <= now             ? 0
                  : until_ms - now > 1000000000 ? 1000000000
                                                : (int)(until_ms - now);
    ef_waker_prepare (&self->waker);
    if (timeout != 0 && ef_ring_is_empty (&self->in) && !atomic_load (&self->is_stopping) &&
        !atomic_load (&self->is_poked)) {
        struct pollfd item = {self->waker.fd, POLLIN, 0};
        (void)poll (&item, 1, timeout); /* however it ends, the loop looks again */
    }
    ef_waker_up (&self->waker);
}

static void *
s_loop (void *arg) {
    ef_actor_t *self = arg;
    bool is_last;
    do {
        is_last = atomic_load (&self->is_stopping);
        atomic_store (&self->is_poked, false);
        uint64_t next = self->step (self->arg);
        if (!is_last) {
            s_sleep (self, next);
        }
    } while (!is_last);
    return NULL;
}

int
ef_actor_start (ef_actor_t *self, const char *name, ef_waker_t *owner, uint64_t (*step) (void *arg),
                void *arg) {
    self->owner = owner;
    self->step = step;
    self->arg = arg;
    atomic_init (&self->is_stopping, false);
    int rc = ef_waker_init (&self->waker);
    if (rc) {
        return rc;
    }
    rc = pthread_create (&self->thread, NULL, s_loop, self);
    self->is_running = rc == 0;
    if (rc == 0) {
        (void)pthread_setname_np (self->thread, name); /* for people who look with top -H */
    }
    return -rc;
}

void
ef_actor_stop (ef_actor_t *self) {
    if (!self->is_running) {
        return;
    }
    atomic_store (&self->is_stopping, true);
    ef_waker_wake (&self->waker);
    (void)pthread_join (self->thread, NULL); /* a thread of our own that nobody else joins */
    ef_waker_free (&self->waker);
    self->is_running = false;
}

bool
ef_actor_tell (ef_actor_t *self, void *message) {
    bool is_taken = ef_ring_push (&self->in, message);
    ef_waker_wake (&self->waker);
    return is_taken;
}

void
ef_actor_poke (ef_actor_t *self) {
    atomic_store (&self->is_poked, true);
    ef_waker_wake (&self->waker);
}

bool
ef_actor_answer (ef_actor_t *self, void *message) {
    bool is_taken = ef_ring_push (&self->out, message);
    ef_waker_wake (self->owner);
    return is_taken;
}
