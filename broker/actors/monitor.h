/* The monitor actor: sends metric snapshots and notices to whoever subscribed.
   SPDX-License-Identifier: MIT

   Role: owns the PUB socket, so that slow subscribers cost the router nothing. Talks to: the
   router, by ef_monitor_message_t, handed over. Lossy: a subscriber that can't keep up misses some.
 */
#ifndef EF_MONITOR_H
#define EF_MONITOR_H

#include "../../proto/buf.h"
#include "../base/actor.h"

typedef struct {
    char subject[128];
    ef_buf_t map; /* owned */
} ef_monitor_message_t;

ef_monitor_message_t *ef_monitor_message_new (const char *subject);

typedef struct ef_monitor_s ef_monitor_t;

/* Binds `endpoint`. NULL: errno says why. */
ef_monitor_t *ef_monitor_new (void *context, const char *endpoint);
EF_MUST_USE int ef_monitor_start (ef_monitor_t *self, ef_waker_t *owner);
void ef_monitor_destroy (ef_monitor_t **self_p);
ef_actor_t *ef_monitor_actor (ef_monitor_t *self);

#endif
