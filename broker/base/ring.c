/* How a ring's reader sleeps. SPDX-License-Identifier: MIT */
#include "ring.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

int
ef_waker_init (ef_waker_t *self) {
    self->fd = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_init (&self->is_asleep, false);
    return self->fd < 0 ? -errno : 0;
}

void
ef_waker_free (ef_waker_t *self) {
    close (self->fd);
    self->fd = -1;
}

void
ef_waker_wake (ef_waker_t *self) {
    /* Pairs with the fence in prepare: either the reader sees what was pushed, or this sees it
     * asleep. */
    atomic_thread_fence (memory_order_seq_cst);
    if (atomic_load_explicit (&self->is_asleep, memory_order_relaxed) &&
        atomic_exchange (&self->is_asleep, false)) {
        uint64_t one = 1;
        ssize_t written = write (self->fd, &one, sizeof one);
        (void)
            written; /* fails only where the count is full, and then the reader is woken already */
    }
}

void
ef_waker_prepare (ef_waker_t *self) {
    atomic_store_explicit (&self->is_asleep, true, memory_order_relaxed);
    atomic_thread_fence (memory_order_seq_cst);
}

void
ef_waker_up (ef_waker_t *self) {
    atomic_store_explicit (&self->is_asleep, false, memory_order_relaxed);
    uint64_t count;
    ssize_t got = read (self->fd, &count, sizeof count);
    (void)got; /* nothing in it: woken by something else */
}
