/* A pool under a load that follows a curve, in virtual time. SPDX-License-Identifier: MIT

   Events arrive as a curve says, one by one; workers take some time to start, hold `credit` events
   and work on `at_once` of them; the pool looks at it all twice a second, as the scaler does. */
#ifndef EF_POOL_WORLD_H
#define EF_POOL_WORLD_H

#include "unit.h"

#include "../../broker/actors/pool.h"

#define WORLD_STEP_MS    10u
#define WORLD_LOOK_MS    500u
#define WORLD_WORKERS    64u
#define WORLD_CREDIT_MAX 16u

typedef struct {
    uint64_t here_ms; /* from then on it takes events */
    bool is_leaving;
    uint32_t count;
    double left_ms[WORLD_CREDIT_MAX]; /* of the work on each event that it holds */
} world_worker_t;

typedef struct {
    ef_pool_t pool;
    uint64_t now;
    double work_ms; /* of one event */
    double spread;  /* 0: all take the same; 1: from nothing to twice as long */
    uint32_t at_once;
    uint32_t start_ms;
    double due; /* events that have arrived in part */
    uint64_t ready;
    uint64_t stalled_since;
    ef_load_t load; /* totals */
    world_worker_t workers[WORLD_WORKERS];
    uint32_t count;
    uint64_t random;
    uint32_t ups; /* decisions */
    uint32_t downs;
    uint32_t most; /* workers at any time */
    uint64_t changed_ms;
    ef_pool_view_t view;
} world_t;

static inline double
world_random (world_t *self) {
    self->random ^= self->random >> 12;
    self->random ^= self->random << 25;
    self->random ^= self->random >> 27;
    return (double)(self->random * 0x2545f4914f6cdd1du >> 11) / 9007199254740992.0;
}

static inline uint32_t
world_alive (const world_t *self, bool only_here) {
    uint32_t alive = 0;
    for (uint32_t i = 0; i < self->count; i++) {
        const world_worker_t *worker = &self->workers[i];
        alive += !worker->is_leaving && (!only_here || worker->here_ms <= self->now);
    }
    return alive;
}

static inline void
world_work (world_t *self, world_worker_t *worker) {
    for (uint32_t i = 0, active = 0; i < worker->count && active < self->at_once; active++) {
        worker->left_ms[i] -= WORLD_STEP_MS;
        if (worker->left_ms[i] > 0) {
            i++;
            continue;
        }
        worker->count--;
        for (uint32_t k = i; k < worker->count; k++) {
            worker->left_ms[k] = worker->left_ms[k + 1];
        }
        self->load.leased--;
        self->load.done++;
    }
}

/* Idle ones first, as the broker does. */
static inline void
world_dispatch (world_t *self) {
    for (uint32_t held = 0; held < self->pool.config.credit; held++) {
        for (uint32_t i = 0; i < self->count && self->ready > 0; i++) {
            world_worker_t *worker = &self->workers[i];
            if (worker->count == held && !worker->is_leaving && worker->here_ms <= self->now) {
                double spread = self->spread * (2 * world_random (self) - 1);
                worker->left_ms[worker->count++] = self->work_ms * (1 + spread);
                self->ready--;
                self->load.leased++;
                self->load.deliveries++;
            }
        }
    }
    if (self->ready > 0 && self->stalled_since == 0) {
        self->stalled_since = self->now;
    } else if (self->ready == 0 && self->stalled_since) {
        self->load.stalled_sum += self->now - self->stalled_since;
        self->stalled_since = 0;
    }
}

static inline void
world_look (world_t *self) {
    ef_load_t load = self->load;
    ef_pool_decision_t decision;
    load.ready = self->ready;
    load.stalled_ms = self->stalled_since ? self->now - self->stalled_since : 0;
    load.stalled_sum += load.stalled_ms;
    load.workers = load.pool_workers = world_alive (self, true);
    load.credit = (uint64_t)load.workers * self->pool.config.credit;
    self->view.own = world_alive (self, false);
    self->view.here = load.workers;
    if (ef_pool_decide (&self->pool, &load, &self->view, self->now, &decision)) {
        self->ups += decision.to > decision.from;
        self->downs += decision.to < decision.from;
        self->changed_ms = self->now;
        assert_true (decision.reason != EF_POOL_NONE);
        if (getenv ("EF_TRACE")) {
            print_message ("%8.1f s  %u -> %u %s, ready %llu, %.1f/s of %.1f/s\n",
                           (double)self->now / 1000, decision.from, decision.to,
                           ef_pool_reason_name (decision.reason), (unsigned long long)load.ready,
                           decision.end, decision.arrive);
        }
    }
    for (uint32_t alive = self->view.own; alive < self->pool.target; alive++) {
        assert_true (self->count < WORLD_WORKERS);
        self->workers[self->count++] = (world_worker_t){.here_ms = self->now + self->start_ms};
    }
    for (uint32_t alive = self->view.own, i = self->count; alive > self->pool.target && i > 0;
         i--) {
        alive -= !self->workers[i - 1].is_leaving;
        self->workers[i - 1].is_leaving = true;
    }
}

/* Goes on for so long; `rate` events a second arrive, at random or evenly. */
static inline void
world_step (world_t *self, double rate, bool is_random) {
    self->now += WORLD_STEP_MS;
    double arrive = rate * WORLD_STEP_MS / 1000;
    self->due +=
        is_random ? (world_random (self) < arrive / (1 + floor (arrive)) ? 1 + floor (arrive) : 0)
                  : arrive;
    uint64_t whole = (uint64_t)self->due;
    self->due -= (double)whole;
    self->ready += whole;
    for (uint32_t i = 0; i < self->count;) {
        world_worker_t *worker = &self->workers[i];
        world_work (self, worker);
        if (worker->is_leaving && worker->count == 0) {
            *worker = self->workers[--self->count];
        } else {
            i++;
        }
    }
    world_dispatch (self);
    if (self->now % WORLD_LOOK_MS == 0) {
        world_look (self);
    }
    uint32_t alive = world_alive (self, true);
    self->most = alive > self->most ? alive : self->most;
}

static inline world_t
world_new (const ef_pool_config_t *config, double work_ms) {
    world_t self = {.now = 1000000,
                    .work_ms = work_ms,
                    .at_once = 1,
                    .start_ms = 300,
                    .random = 88172645463325252u,
                    .view = {.places = 1000}};
    ef_pool_init (&self.pool, config, 1000);
    return self;
}

#endif
