/* One writer, one reader, many batches through the ring with real sleeping.
 * SPDX-License-Identifier: MIT */
#include "../../broker/base/actor.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    ef_actor_t actor;
    uint64_t next;
} echo_t;

static uint64_t
s_step (void *arg) {
    echo_t *self = arg;
    uint64_t *batch;
    while ((batch = ef_ring_pop (&self->actor.in)) != NULL) {
        ef_assert (*batch == self->next++); /* what the writer wrote is seen, in order */
        *batch = ~*batch;
        bool is_taken = ef_actor_answer (&self->actor, batch);
        ef_assert (is_taken); /* no more are under way than the ring holds */
    }
    return UINT64_MAX;
}

int
main (int argc, char **argv) {
    uint64_t batches = argc > 1 ? strtoull (argv[1], NULL, 10) : 1000000;
    static uint64_t slots[EF_RING_SLOTS];
    static echo_t echo;
    ef_waker_t waker;
    int rc = ef_waker_init (&waker);
    rc = rc ? rc : ef_actor_start (&echo.actor, "echo", &waker, s_step, &echo);
    ef_assert (rc == 0);
    uint64_t sent = 0;
    uint64_t received = 0;
    while (received < batches) {
        while (sent < batches && sent - received < EF_RING_SLOTS) {
            uint64_t *slot = &slots[sent % EF_RING_SLOTS];
            *slot = sent++;
            bool is_taken = ef_actor_tell (&echo.actor, slot);
            ef_assert (is_taken);
        }
        uint64_t *back = ef_ring_pop (&echo.actor.out);
        if (back) {
            ef_assert (~*back == received);
            received++;
            continue;
        }
        ef_waker_prepare (&waker);
        if (ef_ring_is_empty (&echo.actor.out)) {
            struct pollfd item = {waker.fd, POLLIN, 0};
            ef_assert (poll (&item, 1, 10000) == 1); /* a lost wake-up would show here */
        }
        ef_waker_up (&waker);
    }
    ef_actor_stop (&echo.actor);
    ef_waker_free (&waker);
    printf ("%llu batches there and back, in order\n", (unsigned long long)batches);
    return 0;
}
