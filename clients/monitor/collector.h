/* The monitor's middle: takes the broker's stats, and has everything made of them.
   SPDX-License-Identifier: MIT

   Role: one thread that subscribes to stats and notices; when a round is complete it takes samples,
   looks for what is bad, tells and writes. Owns: the numbers, the alerts, the subscription, and all
   the parts that it gives work to. Talks to: history, sender, notify, influx, probes, live.
   Invariants: readers see whole rounds, under the lock. The broker is down when nothing came from
   it for alert_broker and a question that was asked since wasn't answered. On failure: stats that
   can't be read are passed over and counted. */
#ifndef EF_MONITOR_COLLECTOR_H
#define EF_MONITOR_COLLECTOR_H

#include "../web/server.h"
#include "options.h"

typedef struct collector_s collector_t;

/* NULL: `error` says why. `options` are borrowed for its life. Starts its threads. */
collector_t *collector_new (const options_t *options, char error[512]);
void collector_destroy (collector_t **self_p);

/* Ends the streams of pages; before the server's end. */
void collector_close (collector_t *self);

/* The HTTP endpoints: /api/v1/live, /history, /alerts, /access, /metrics, /metrics/detailed. */
void collector_routes (collector_t *self, listener_t *listener, const web_options_t *web);
/* For /health: members of an object. Always true: a broker that is down doesn't make it unready. */
bool collector_health (void *self, ef_buf_t *members);

#endif
