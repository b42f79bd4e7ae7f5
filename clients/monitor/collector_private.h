/* What collector.c and endpoints.c share. SPDX-License-Identifier: MIT */
#ifndef EF_MONITOR_COLLECTOR_PRIVATE_H
#define EF_MONITOR_COLLECTOR_PRIVATE_H

#include "../../broker/base/log.h"
#include "../../proto/event.h"
#include "../web/prometheus.h"
#include "collector.h"
#include "influx.h"
#include "live.h"
#include "notify.h"
#include "probes.h"
#include "rules.h"
#include "snapshot.h"

#include <pthread.h>
#include <stdatomic.h>

#define NOTICES_A_ROUND 200 /* that pages are told of; the others are counted alone */

struct collector_s {
    const options_t *options; /* borrowed */
    const web_options_t *web; /* the same */
    history_t *history;       /* owned, as all that follows */
    sender_t *sender;
    notify_t *notify;
    influx_t *influx; /* NULL: none is set */
    probes_t *probes;
    live_t *live;
    void *context;
    void *socket; /* the thread's */
    pthread_t thread;
    bool is_running;
    _Atomic bool is_stopping;

    pthread_mutex_t lock; /* what follows */
    numbers_t numbers;
    samples_t samples;
    alerts_t alerts;
    alerts_options_t alert_options;
    bool is_down; /* the broker */
    bool is_gateway_down;
    uint64_t heard_ms; /* when stats came last, mono; 0: never */
    uint64_t heard_wall_ms;
    uint64_t down_wall_ms; /* since when */
    uint64_t gateway_down_wall_ms;
    uint64_t rounds;
    uint64_t unreadable; /* messages */
    uint64_t notices_left_out;

    /* The thread's alone. */
    bool is_round;       /* one is under way */
    uint64_t message_ms; /* when the last message came */
    uint64_t asked_ms;   /* when the broker was asked for because it is silent */
    uint64_t started_ms;
    uint64_t still_ms;
    uint32_t notices; /* told in this round */
};

/* An alert as the endpoints tell it: {"id", "name", "severity", "state", …}. */
void collector_put_alert (ef_buf_t *out, const char *severity, const store_alert_t *alert);

/* What a page that comes is told first. Under the lock. */
void collector_put_first (collector_t *self, ef_buf_t *out);

#endif
