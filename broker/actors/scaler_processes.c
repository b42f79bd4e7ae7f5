/* The scaler's processes: started, watched, told to leave, recycled. SPDX-License-Identifier: MIT

   Invariant: a pool's tally agrees with its processes; whoever changes one counts again. */
#include "scaler_private.h"
#include "../../proto/event.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#define WATCH_MS 250u   /* how often processes are looked at */
#define SPARE_MS 10000u /* a replacement may take so long to come; then the old one goes anyway */

void
scaler_count (ef_scaler_t *self, uint32_t index) {
    tally_t tally = {0};
    for (uint32_t i = 0; i < self->place_count; i++) {
        const ef_process_t *process = &self->places[i].process;
        bool stays = !process->is_leaving && !process->has_ended;
        if (self->places[i].pool == index) {
            tally.all++;
            tally.leaving += !stays;
            tally.spares += stays && process->is_spare;
            tally.own += stays && !process->is_spare;
            tally.here += stays && !process->is_spare && process->here_ms;
        }
    }
    self->pools[index]->tally = tally;
    self->pools[index]->has_changed = true;
}

uint32_t
scaler_free_places (const ef_scaler_t *self, uint32_t index) {
    uint64_t taken = self->place_count;
    for (uint32_t i = 0; i < self->count; i++) {
        const topic_pool_t *pool = self->pools[i];
        if (pool->is_managed) {
            uint32_t target = pool->pool.target;
            taken += target > pool->tally.own ? target - pool->tally.own : 0;
            taken += i != index ? pool->claims : 0;
        }
    }
    return taken < self->bounds.workers_max ? (uint32_t)(self->bounds.workers_max - taken) : 0;
}

ef_pool_limit_t
scaler_machine_limit (const ef_scaler_t *self) {
    return ef_machine_is_short (&self->machine, self->bounds.memory_free_min) ? EF_LIMIT_MEMORY
           : ef_machine_is_loaded (&self->machine, self->bounds.load_max)     ? EF_LIMIT_LOAD
                                                                              : EF_LIMIT_NONE;
}

/* 0, or -1 where it couldn't be started. */
static int
s_start (ef_scaler_t *self, uint32_t index, bool is_spare) {
    topic_pool_t *pool = self->pools[index];
    const ef_process_place_t place = {.back = self->back,
                                      .topic = pool->topic,
                                      .file = self->file,
                                      .bin = self->bin,
                                      .credit = pool->pool.config.credit};
    ef_process_t process;
    int rc = ef_process_start (&process, pool->pool.config.command, &place);
    if (rc) {
        char text[160];
        snprintf (text, sizeof text, "can't start a worker: %s", strerror (-rc));
        (void)ef_pool_ended (&pool->pool, false, 0, ef_mono_ms ()); /* the notice says it already */
        scaler_say (self, EF_SCALER_NOTICE, pool->topic, "spawn_failed", text);
        return -1;
    }
    process.is_spare = is_spare;
    self->places = realloc (self->places, (self->place_count + 1) * sizeof *self->places);
    ef_assert (self->places != NULL);
    self->places[self->place_count++] = (place_t){process, index};
    atomic_store (&self->is_empty, false);
    pool->claims -= pool->claims > 0;
    scaler_count (self, index);
    return 0;
}

/* Who goes first: the old, then those with nothing in hand, then the youngest. */
static uint64_t
s_worth (const ef_process_t *process) {
    return process->is_old ? 0 : process->here_ms && process->held == 0 ? 1 : 2;
}

static void
s_leave (ef_scaler_t *self, place_t *place, uint64_t now) {
    place->process.is_leaving = true;
    place->process.leave_ms = now;
    scaler_count (self, place->pool);
    scaler_say (self, EF_SCALER_DRAIN, self->pools[place->pool]->topic, place->process.token, "");
}

/* One of the pool that stays finishes what it has and goes. */
static void
s_drain_one (ef_scaler_t *self, uint32_t index, uint64_t now) {
    place_t *best = NULL;
    for (uint32_t i = 0; i < self->place_count; i++) {
        place_t *place = &self->places[i];
        const ef_process_t *process = &place->process;
        if (place->pool != index || process->is_leaving || process->has_ended ||
            process->is_spare) {
            continue;
        }
        if (best == NULL || s_worth (process) < s_worth (&best->process) ||
            (s_worth (process) == s_worth (&best->process) &&
             process->started_ms >= best->process.started_ms)) {
            best = place;
        }
    }
    ef_assert (best != NULL); /* it was counted */
    s_leave (self, best, now);
}

/* Brings the number of a pool's processes to its target. Those that are still leaving take their
   places until they are gone. */
void
scaler_settle (ef_scaler_t *self, uint32_t index, uint64_t now) {
    topic_pool_t *pool = self->pools[index];
    uint32_t most = ef_pool_max (&pool->pool);
    while (pool->tally.own > pool->pool.target) {
        s_drain_one (self, index, now);
    }
    while (pool->tally.own < pool->pool.target && pool->tally.all < most &&
           self->place_count < self->bounds.workers_max && ef_pool_may_start (&pool->pool, now)) {
        if (s_start (self, index, false) || pool->pool.crashes > 0) {
            return; /* after a crash one by one */
        }
    }
}

/* What the end of a process means. */
static void
s_judge_end (ef_scaler_t *self, const place_t *place, uint64_t now) {
    const ef_process_t *process = &place->process;
    topic_pool_t *pool = self->pools[place->pool];
    bool is_clean = process->code == CLD_EXITED && process->status == 0;
    const char *how = process->code == CLD_EXITED ? "exit status" : "signal";
    char text[160];
    scaler_count (self, place->pool);
    if (process->is_leaving) {
        return;
    }
    bool gives_up = ef_pool_ended (&pool->pool, is_clean, now - process->started_ms, now);
    pool->restarts++;
    snprintf (text, sizeof text, "pid %d ended with %s %d", (int)process->pid, how,
              process->status);
    scaler_say (self, EF_SCALER_NOTICE, pool->topic, "worker_ended", text);
    if (!is_clean) {
        snprintf (text, sizeof text, "the worker's process ended with %s %d", how, process->status);
        scaler_say (self, EF_SCALER_DIED, pool->topic, process->token, text);
    }
    if (gives_up) {
        scaler_say (self, EF_SCALER_NOTICE, pool->topic, "crash_loop",
                    "workers crash as soon as they start; trying again in 60 s");
    }
}

/* Looks at all processes. When to look again. */
uint64_t
scaler_watch (ef_scaler_t *self, uint64_t now) {
    uint64_t next = now + WATCH_MS;
    for (uint32_t i = 0; i < self->place_count;) {
        place_t *place = &self->places[i];
        uint64_t due = ef_process_push (&place->process, self->pools[place->pool]->lease_ms, now);
        next = due > now && due < next ? due : next;
        if (ef_process_has_ended (&place->process)) {
            s_judge_end (self, place, now);
        }
        if (place->process.has_ended && ef_process_is_gone (&place->process, now)) {
            uint32_t pool = place->pool;
            *place = self->places[--self->place_count];
            scaler_count (self, pool);
        } else {
            i++;
        }
    }
    atomic_store (&self->is_empty, self->place_count == 0);
    return self->place_count ? next : UINT64_MAX;
}

/* One that is large from its beginning would be replaced for ever, hence a life that it has. */
static bool
s_is_due (const topic_pool_t *pool, const ef_process_t *process, uint64_t now) {
    const ef_pool_config_t *config = &pool->pool.config;
    bool is_grown = config->recycle_rss && now - process->started_ms >= EF_SHORT_LIFE_MS &&
                    ef_machine_rss (process->pid) >= config->recycle_rss;
    return is_grown || (config->recycle_events && process->answered >= config->recycle_events);
}

/* One process of a pool that has done enough, or has grown too large, goes: once another one is
   here in its place, or, where there is no room for two, before that. */
void
scaler_recycle (ef_scaler_t *self, uint32_t index, uint64_t now) {
    topic_pool_t *pool = self->pools[index];
    place_t *old = NULL;
    place_t *spare = NULL;
    for (uint32_t i = 0; i < self->place_count; i++) {
        ef_process_t *process = &self->places[i].process;
        if (self->places[i].pool != index || process->is_leaving || process->has_ended) {
            continue;
        }
        process->is_old = process->is_old || (process->here_ms && s_is_due (pool, process, now));
        old = process->is_old && old == NULL ? &self->places[i] : old;
        spare = process->is_spare ? &self->places[i] : spare;
    }
    bool has_room = pool->tally.all < ef_pool_max (&pool->pool) &&
                    scaler_free_places (self, index) > 0 &&
                    scaler_machine_limit (self) != EF_LIMIT_MEMORY;
    if (old == NULL) {
        if (spare) {
            spare->process.is_spare = false; /* nobody is left whose place it could take */
            scaler_count (self, index);
        }
        return;
    }
    if (spare == NULL && has_room) {
        if (ef_pool_may_start (&pool->pool, now)) {
            (void)s_start (self, index, true); /* else it is tried again */
        }
        return;
    }
    if (spare && spare->process.here_ms == 0 && now - spare->process.started_ms < SPARE_MS) {
        return;
    }
    char detail[96];
    ef_pool_decision_t decision = {.reason = EF_POOL_RECYCLE,
                                   .from = pool->pool.target,
                                   .to = pool->pool.target,
                                   .load = pool->load,
                                   .arrive = pool->pool.arrive,
                                   .end = pool->pool.end,
                                   .workers = pool->tally.here};
    snprintf (detail, sizeof detail, "pid %d after %llu events, %llu KiB", (int)old->process.pid,
              (unsigned long long)old->process.answered,
              (unsigned long long)(ef_machine_rss (old->process.pid) >> 10));
    if (spare) {
        spare->process.is_spare = false;
    }
    s_leave (self, old, now);
    scaler_tell (self, pool, &decision, detail);
}

/* Told to stop, or to be quicker about it. */
bool
scaler_is_stopping (ef_scaler_t *self, uint64_t now) {
    uint32_t grace = atomic_load (&self->stop_grace);
    for (uint32_t i = 0; grace && grace != self->stop_told && i < self->place_count; i++) {
        ef_process_t *process = &self->places[i].process;
        if (!process->has_ended) {
            process->is_leaving = true;
            process->held = 0;
            process->term_ms = now;
            process->kill_ms = now + grace - 1;
            ef_process_signal (process, SIGTERM);
        }
    }
    self->stop_told = grace;
    return grace != 0;
}
