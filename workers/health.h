/* A worker's health over HTTP, for orchestrators. SPDX-License-Identifier: MIT

   GET /health/live: 200 while the loop turns. /health/ready: 200 where it is connected, well and
   takes events, else 503. /health: what it does, as JSON. /metrics: the same for Prometheus. Role:
   a libmicrohttpd daemon without a thread of its own, polled by the runtime's loop. */
#ifndef EF_HEALTH_H
#define EF_HEALTH_H

#include "runtime.h"

typedef struct health_s health_t;

/* `address`: HOST:PORT, or PORT for loopback; port 0: any, which is printed. NULL: `error`. */
health_t *health_new (const char *address, const runtime_t *runtime, char error[512]);
void health_destroy (health_t **self_p);
nfds_t health_polls (health_t *self, struct pollfd *items, nfds_t most, int *timeout_ms);
void health_step (health_t *self);

#endif
