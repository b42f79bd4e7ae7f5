/* The scaler actor. SPDX-License-Identifier: MIT */
#include "scaler_private.h"
#include "../../proto/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MACHINE_MS 1000u  /* how often the machine is looked at */
#define CLAIM_MS   15000u /* and a lease: so long a place is kept for who asked for it */
#define OUTBOX_MAX 10000u /* messages; past it notices are lost */

ef_scaler_message_t *
ef_scaler_message_new (ef_scaler_kind_t kind, const char *topic) {
    ef_scaler_message_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->kind = kind;
    snprintf (self->topic, sizeof self->topic, "%s", topic);
    return self;
}

void
ef_scaler_message_destroy (ef_scaler_message_t **self_p) {
    if (*self_p) {
        free ((*self_p)->loads);
        free ((*self_p)->workers);
        free ((*self_p)->states);
        free ((*self_p)->pool);
        free (*self_p);
        *self_p = NULL;
    }
}

static void
s_add_pool (ef_scaler_t *self, const ef_config_topic_t *config, const char *topic) {
    topic_pool_t *pool = calloc (1, sizeof *pool);
    self->pools = realloc (self->pools, (self->count + 1) * sizeof (void *));
    ef_assert (pool != NULL && self->pools != NULL);
    snprintf (pool->topic, sizeof pool->topic, "%s", topic);
    pool->index = UINT32_MAX;
    pool->is_managed = config->pool.command[0] != 0;
    pool->lease_ms = config->topic.lease_ms;
    ef_pool_init (&pool->pool, &config->pool, config->topic.stall_ms);
    self->managed += pool->is_managed;
    self->pools[self->count++] = pool;
}

ef_scaler_t *
ef_scaler_new (const ef_config_t *config, const char *file) {
    ef_scaler_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->config = config;
    self->file = file ? file : "";
    self->bounds = config->machine;
    snprintf (self->back, sizeof self->back, "%s", config->back);
    ssize_t size = readlink ("/proc/self/exe", self->bin, sizeof self->bin - 1);
    self->bin[size > 0 ? size : 0] = 0;
    char *slash = strrchr (self->bin, '/');
    if (slash) {
        *slash = 0;
    }
    for (uint32_t i = 0; i < config->topic_count; i++) {
        s_add_pool (self, &config->topics[i], config->topics[i].topic.name);
    }
    atomic_init (&self->is_empty, true);
    return self;
}

void
ef_scaler_set_back (ef_scaler_t *self, const char *endpoint) {
    snprintf (self->back, sizeof self->back, "%s", endpoint);
}

bool
ef_scaler_has_pool (const ef_scaler_t *self, const char *topic) {
    for (uint32_t i = 0; i < self->config->topic_count; i++) {
        if (strcmp (self->config->topics[i].topic.name, topic) == 0) {
            return self->config->topics[i].pool.command[0] != 0;
        }
    }
    return false;
}

/* Takes the message. */
static void
s_send (ef_scaler_t *self, ef_scaler_message_t *message) {
    if (self->outbox_count == 0 && ef_actor_answer (&self->actor, message)) {
        return;
    }
    bool may_be_lost = message->kind == EF_SCALER_NOTICE || message->kind == EF_SCALER_STATES;
    if (self->outbox_count >= OUTBOX_MAX && may_be_lost) {
        ef_scaler_message_destroy (&message);
        return;
    }
    self->outbox = realloc (self->outbox, (self->outbox_count + 1) * sizeof (void *));
    ef_assert (self->outbox != NULL);
    self->outbox[self->outbox_count++] = message;
}

static void
s_flush (ef_scaler_t *self) {
    uint32_t sent = 0;
    while (sent < self->outbox_count && ef_actor_answer (&self->actor, self->outbox[sent])) {
        sent++;
    }
    if (sent > 0) {
        self->outbox_count -= sent;
        memmove (self->outbox, self->outbox + sent, self->outbox_count * sizeof (void *));
    }
}

void
scaler_say (ef_scaler_t *self, ef_scaler_kind_t kind, const char *topic, const char *token,
            const char *text) {
    ef_scaler_message_t *message = ef_scaler_message_new (kind, topic);
    snprintf (message->token, sizeof message->token, "%s", token);
    snprintf (message->text, sizeof message->text, "%s", text);
    s_send (self, message);
}

static void
s_put_seconds (double ms, char text[24]) {
    snprintf (text, 24, ms < 1000 ? "%.0f ms" : "%.1f s", ms < 1000 ? ms : ms / 1000);
}

/* What a decision was taken on, for people. */
void
scaler_tell (ef_scaler_t *self, topic_pool_t *pool, const ef_pool_decision_t *decision,
             const char *detail) {
    const ef_load_t *load = &decision->load;
    ef_scaler_message_t *message = ef_scaler_message_new (EF_SCALER_DECISION, pool->topic);
    char oldest[24];
    char stalled[24];
    char what[64];
    s_put_seconds ((double)load->oldest_ms, oldest);
    s_put_seconds ((double)load->stalled_ms, stalled);
    if (decision->from == decision->to && decision->reason != EF_POOL_RECYCLE) {
        snprintf (what, sizeof what, "stays at %u (%s)", decision->to,
                  ef_pool_limit_name (pool->pool.limit));
        message->limit = pool->pool.limit;
    } else {
        snprintf (what, sizeof what, "from %u to %u", decision->from, decision->to);
    }
    snprintf (message->text, sizeof message->text,
              "%s: %s%s%s; %llu ready, oldest %s, stalled %s, %llu leased, %llu retrying, %.1f/s "
              "come, %.1f/s end, %u workers",
              what, ef_pool_reason_name (decision->reason), detail[0] ? " " : "", detail,
              (unsigned long long)load->ready, oldest, stalled, (unsigned long long)load->leased,
              (unsigned long long)load->retrying, decision->arrive, decision->end,
              decision->workers);
    message->decision = *decision;
    message->wall_ms = pool->changed_ms = ef_wall_ms ();
    message->is_managed = pool->is_managed;
    pool->reason = decision->reason;
    pool->has_changed = true;
    s_send (self, message);
}

static void
s_read_machine (ef_scaler_t *self, uint64_t now) {
    if (self->managed > 0 && (self->machine_ms == 0 || now - self->machine_ms >= MACHINE_MS)) {
        self->machine_ms = now;
        ef_machine_read (&self->machine, "");
    }
}

static ef_pool_view_t
s_view (const ef_scaler_t *self, uint32_t index) {
    const topic_pool_t *pool = self->pools[index];
    const ef_load_t *load = &pool->load;
    if (!pool->is_managed) {
        return (ef_pool_view_t){.own = load->workers, .here = load->workers, .places = UINT32_MAX};
    }
    return (ef_pool_view_t){.own = pool->tally.own,
                            .here = pool->tally.here,
                            .others = load->workers - load->pool_workers,
                            .places = scaler_free_places (self, index),
                            .machine = scaler_machine_limit (self)};
}

/* The machine is full: the one that needs it least gives a place. */
static void
s_claim (ef_scaler_t *self, uint32_t index, uint64_t now) {
    topic_pool_t *pool = self->pools[index];
    ef_pool_t **pools = calloc (self->managed, sizeof *pools);
    uint32_t *places = calloc (self->managed, sizeof *places);
    ef_assert (pools != NULL && places != NULL);
    uint32_t count = 0;
    uint32_t claimant = 0;
    for (uint32_t i = 0; i < self->count; i++) {
        if (self->pools[i]->is_managed) {
            claimant = i == index ? count : claimant;
            places[count] = i;
            pools[count++] = &self->pools[i]->pool;
        }
    }
    int victim = ef_pool_victim (pools, count, claimant);
    if (victim >= 0) {
        uint32_t giver = places[victim];
        ef_pool_decision_t decision;
        ef_pool_give (pools[victim], now, &decision);
        scaler_tell (self, self->pools[giver], &decision, pool->topic);
        scaler_settle (self, giver, now);
        pool->claims = 1;
        pool->claim_ms = now + self->pools[giver]->lease_ms + CLAIM_MS;
    }
    free (pools);
    free (places);
}

static void
s_look (ef_scaler_t *self, uint32_t index, uint64_t now) {
    topic_pool_t *pool = self->pools[index];
    ef_pool_view_t view = s_view (self, index);
    ef_pool_decision_t decision;
    pool->has_changed = true;
    if (ef_pool_decide (&pool->pool, &pool->load, &view, now, &decision)) {
        pool->told = EF_LIMIT_NONE;
        scaler_tell (self, pool, &decision, "");
    } else if (decision.reason != EF_POOL_NONE && pool->pool.limit != EF_LIMIT_NONE &&
               pool->pool.limit != pool->told) {
        pool->told = pool->pool.limit;
        scaler_tell (self, pool, &decision, "");
    }
    if (!pool->is_managed) {
        return;
    }
    scaler_settle (self, index, now);
    if (pool->pool.wanted == 0 || now >= pool->claim_ms) {
        pool->claims = 0;
    }
    if (pool->pool.wanted > pool->pool.target && pool->claims == 0) {
        s_claim (self, index, now);
    }
}

static uint32_t
s_find (const ef_scaler_t *self, const char *topic) {
    uint32_t i = 0;
    while (i < self->count && strcmp (self->pools[i]->topic, topic) != 0) {
        i++;
    }
    return i;
}

/* A topic that came while it runs, at the end of the pools. Its workers are started elsewhere: a
   command takes a restart. */
static void
s_add_other (ef_scaler_t *self, const char *topic) {
    ef_config_topic_t config = self->config->defaults;
    config.pool.command[0] = 0;
    s_add_pool (self, &config, topic);
}

/* The pool of a topic by the core's index, made where there is none yet. */
static uint32_t
s_require (ef_scaler_t *self, const ef_scaler_load_t *load) {
    if (load->index >= self->index_count) {
        uint32_t count = load->index + 64;
        self->by_index = realloc (self->by_index, count * sizeof *self->by_index);
        ef_assert (self->by_index != NULL);
        memset (self->by_index + self->index_count, 0,
                (count - self->index_count) * sizeof *self->by_index);
        self->index_count = count;
    }
    if (self->by_index[load->index] == 0) {
        uint32_t place = s_find (self, load->topic);
        if (place == self->count) {
            s_add_other (self, load->topic);
        }
        self->pools[place]->index = load->index;
        self->by_index[load->index] = place + 1;
    }
    return self->by_index[load->index] - 1;
}

static void
s_note_workers (ef_scaler_t *self, const ef_scaler_message_t *message, uint64_t now) {
    for (uint32_t i = 0; i < self->place_count; i++) {
        ef_process_t *process = &self->places[i].process;
        process->held = 0; /* one that isn't here holds nothing */
        for (uint32_t k = 0; k < message->worker_count; k++) {
            if (strcmp (process->token, message->workers[k].token) == 0) {
                bool is_new = process->here_ms == 0;
                process->here_ms = is_new ? now : process->here_ms;
                process->answered = message->workers[k].answered;
                process->held = message->workers[k].held;
                if (is_new) {
                    scaler_count (self, self->places[i].pool);
                }
                break;
            }
        }
    }
}

static void
s_take_loads (ef_scaler_t *self, const ef_scaler_message_t *message, uint64_t now) {
    s_note_workers (self, message, now);
    s_read_machine (self, now);
    for (uint32_t i = 0; i < message->count; i++) {
        uint32_t index = s_require (self, &message->loads[i]);
        self->pools[index]->load = message->loads[i].load;
        self->pools[index]->has_load = true;
    }
    for (uint32_t i = 0; i < message->count; i++) {
        s_look (self, s_require (self, &message->loads[i]), now);
    }
}

static void
s_handle (ef_scaler_t *self, const ef_scaler_message_t *message, uint64_t now) {
    if (message->kind == EF_SCALER_LOAD) {
        s_take_loads (self, message, now);
        return;
    }
    if (message->kind == EF_SCALER_BOUNDS) {
        self->bounds = message->bounds;
        return;
    }
    uint32_t index = s_find (self, message->topic);
    if (index == self->count) {
        s_add_other (self, message->topic); /* its first load comes later */
    }
    topic_pool_t *pool = self->pools[index];
    if (message->kind == EF_SCALER_POOL) {
        ef_pool_configure (&pool->pool, &message->pool->pool, message->pool->topic.stall_ms);
        pool->lease_ms = message->pool->topic.lease_ms;
    } else {
        pool->pool.min_hand = message->hand.min;
        pool->pool.max_hand = message->hand.max;
        pool->pool.scale_hand = message->hand.scale;
        pool->pool.not_before_ms = 0;
    }
    if (pool->has_load) {
        s_look (self, index, now);
    }
}

static void
s_tell_states (ef_scaler_t *self, uint64_t now) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < self->count; i++) {
        count += self->pools[i]->has_changed && self->pools[i]->index != UINT32_MAX;
    }
    if (count == 0) {
        return;
    }
    ef_scaler_message_t *message = ef_scaler_message_new (EF_SCALER_STATES, "");
    message->states = calloc (count, sizeof *message->states);
    ef_assert (message->states != NULL);
    for (uint32_t i = 0; i < self->count; i++) {
        topic_pool_t *pool = self->pools[i];
        if (!pool->has_changed || pool->index == UINT32_MAX) {
            continue;
        }
        const tally_t *tally = &pool->tally;
        ef_scaler_state_t *state = &message->states[message->count++];
        *state = (ef_scaler_state_t){
            .index = pool->index,
            .is_managed = pool->is_managed,
            .desired = pool->pool.target,
            .running = tally->here,
            .starting = tally->own + tally->spares - tally->here,
            .leaving = tally->leaving,
            .others = pool->load.workers - (pool->is_managed ? pool->load.pool_workers : 0),
            .min = ef_pool_min (&pool->pool),
            .max = ef_pool_max (&pool->pool),
            .scale = pool->pool.scale_hand,
            .restarts = pool->restarts,
            .reason = pool->reason,
            .changed_ms = pool->changed_ms,
            .limit = tally->own < pool->pool.target && !ef_pool_may_start (&pool->pool, now)
                         ? EF_LIMIT_CRASHES
                         : pool->pool.limit,
            .hold = pool->pool.hold,
            .ready = pool->load.ready,
            .retrying = pool->load.retrying,
            .oldest_ms = pool->load.oldest_ms,
            .arrive = pool->pool.arrive,
            .end = pool->pool.end};
        memcpy (state->topic, pool->topic, sizeof state->topic);
        pool->has_changed = false;
    }
    s_send (self, message);
}

static uint64_t
s_step (void *arg) {
    ef_scaler_t *self = arg;
    uint64_t now = ef_mono_ms ();
    ef_scaler_message_t *message;
    bool is_stopping = scaler_is_stopping (self, now);
    s_flush (self);
    while ((message = ef_ring_pop (&self->actor.in)) != NULL) {
        if (!is_stopping) {
            s_handle (self, message, now);
        }
        ef_scaler_message_destroy (&message);
    }
    uint64_t next = scaler_watch (self, now);
    for (uint32_t i = 0; i < self->count && !is_stopping; i++) {
        if (self->pools[i]->is_managed && self->pools[i]->has_load) {
            scaler_settle (self, i, now);
            scaler_recycle (self, i, now);
        }
    }
    s_tell_states (self, now);
    next = is_stopping && next > now + 20 ? now + 20 : next;
    next = self->place_count && next == UINT64_MAX ? now : next; /* just started */
    return self->outbox_count && next > now + 5 ? now + 5 : next;
}

int
ef_scaler_start (ef_scaler_t *self, ef_waker_t *owner) {
    return ef_actor_start (&self->actor, "scaler", owner, s_step, self);
}

void
ef_scaler_stop_workers (ef_scaler_t *self, uint32_t grace_ms) {
    atomic_store (&self->stop_grace, grace_ms + 1);
    ef_actor_poke (&self->actor);
}

bool
ef_scaler_is_empty (ef_scaler_t *self) {
    return atomic_load (&self->is_empty);
}

void
ef_scaler_destroy (ef_scaler_t **self_p) {
    ef_scaler_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    ef_actor_stop (&self->actor);
    ef_scaler_message_t *message;
    while ((message = ef_ring_pop (&self->actor.in)) != NULL ||
           (message = ef_ring_pop (&self->actor.out)) != NULL) {
        ef_scaler_message_destroy (&message);
    }
    for (uint32_t i = 0; i < self->outbox_count; i++) {
        ef_scaler_message_destroy (&self->outbox[i]);
    }
    for (uint32_t i = 0; i < self->place_count; i++) {
        ef_process_kill (&self->places[i].process); /* the last resort */
    }
    for (uint32_t i = 0; i < self->count; i++) {
        free (self->pools[i]);
    }
    free (self->outbox);
    free (self->by_index);
    free (self->places);
    free (self->pools);
    free (self);
    *self_p = NULL;
}

ef_actor_t *
ef_scaler_actor (ef_scaler_t *self) {
    return &self->actor;
}
