/* What must hold whenever the broker sends an event or writes something down.
   SPDX-License-Identifier: MIT */
#include "world.h"

/* Attempts: none is lost and none is counted that didn't fail. Every delivery is seen here, so the
   number grows by one at the most; it must grow behind a failure that was heard, and may not where
   the event was given back or a restart took it from somebody who held it. Tags only grow; what was
   refused or is done never comes. */
void
oracle_attempt (world_t *self, const delivery_t *delivery) {
    uint32_t k = delivery->event;
    const sim_event_t *event = &self->events[k];
    uint32_t attempt = (uint32_t)delivery->attempt;
    uint32_t most = event->attempt + (event->attempt == 0 || event->expect != EXPECT_SAME);
    uint32_t least = event->attempt + (event->attempt == 0 || event->expect == EXPECT_MORE);
    if (delivery->tag <= self->highest_tag) {
        sim_fail (self, "tag %llu was given out behind tag %llu", (unsigned long long)delivery->tag,
                  (unsigned long long)self->highest_tag);
    }
    if (self->is_paused[event->topic]) {
        sim_fail (self, "e%u goes out although %s is paused", k, sim_topics[event->topic]);
    }
    if (event->is_refused) {
        sim_fail (self, "e%u was refused or a duplicate and is delivered", k);
    }
    if (ledger_repeats (self, event) > 0) {
        return;
    }
    if (event->is_acked || event->expect == EXPECT_NONE) {
        sim_fail (self, "e%u ended for certain and is delivered again", k);
    }
    if (attempt < 1 || attempt > settings_attempts (self, event->topic)) {
        sim_fail (self, "e%u: attempt %u", k, attempt);
    }
    if (!event->was_returned && (attempt < least || attempt > most)) {
        sim_fail (self, "e%u: attempt %u after attempt %u, expected %u to %u", k, attempt,
                  event->attempt, least, most);
    }
}

uint32_t
oracle_wait_ms (const ef_policy_t *policy, uint32_t attempt) {
    double most = policy->base_ms;
    if (policy->kind == EF_POLICY_RANDOM) {
        return policy->base_ms < policy->cap_ms ? policy->base_ms : policy->cap_ms;
    }
    for (uint32_t i = 1; i < attempt; i++) {
        most = policy->kind == EF_POLICY_EXPONENTIAL ? most * policy->factor
               : policy->kind == EF_POLICY_LINEAR    ? most + policy->base_ms
                                                     : most;
    }
    most = most < policy->cap_ms ? most : policy->cap_ms;
    return (uint32_t)(most * (1 - policy->jitter));
}

/* Time: nothing comes before its time (`at`, `delay`, the wait that a NACK or its
   topic's policy asked for), nothing is
   begun after its ttl. While the wall clock only goes on. */
void
oracle_time (world_t *self, uint32_t k) {
    const sim_event_t *event = &self->events[k];
    bool is_known = ledger_repeats (self, event) == 0;
    if (is_known && event->life == self->life && self->now < event->not_before_ms) {
        sim_fail (self, "e%u comes %llu ms before its retry is due", k,
                  (unsigned long long)(event->not_before_ms - self->now));
    }
    if (self->was_set_back) {
        return;
    }
    uint64_t due = event->delay_ms > 0 ? event->sent_wall + event->delay_ms : 0;
    due = due > event->at_ms ? due : event->at_ms;
    if (self->wall < due) {
        sim_fail (self, "e%u comes %llu ms before its time", k,
                  (unsigned long long)(due - self->wall));
    }
    if (is_known && event->ttl_ms > 0 && event->accepted_by != UINT64_MAX &&
        self->wall > event->accepted_by + event->ttl_ms) {
        sim_fail (self, "e%u is begun %llu ms behind its ttl", k,
                  (unsigned long long)(self->wall - event->accepted_by - event->ttl_ms));
    }
}

/* Leases exclude: nobody is given what another worker holds for certain. */
void
oracle_holder (world_t *self, uint32_t k, uint32_t peer) {
    const sim_event_t *event = &self->events[k];
    if (ledger_holds (self, event)) {
        sim_fail (self, "e%u goes to worker %u while worker %d holds it by tag %llu", k,
                  self->wires[peer].owner, event->holder - 1, (unsigned long long)event->tag);
    }
}

/* A suspect runs alone: nothing goes to a worker that has one, and it goes to nobody who has
   anything. */
void
oracle_alone (world_t *self, uint32_t k, uint32_t peer) {
    const sim_event_t *event = &self->events[k];
    bool is_suspect = event->is_suspect && !event->is_tried_alone && !event->was_returned &&
                      ledger_repeats (self, event) == 0;
    if (!sim_has (self, SIM_POISON)) {
        return;
    }
    for (uint64_t back = 0; back < 256 && back < self->highest_tag; back++) {
        uint32_t place = (uint32_t)((self->highest_tag - back) % SIM_TAGS);
        uint32_t j = self->tags[place].event;
        const sim_event_t *other = &self->events[j];
        bool is_there = self->tags[place].tag == self->highest_tag - back &&
                        other->tag == self->tags[place].tag && j != k && other->wire == peer &&
                        ledger_holds (self, other);
        if (is_there && (is_suspect || other->is_tried_alone)) {
            sim_fail (self, "e%u goes out to where e%u is; %s is suspected", k, j,
                      is_suspect ? "the first" : "the second");
        }
    }
}

/* However often a lease is extended, it ends: its worker is told so. But for a broker that was
   away, which gives all leases a while more. */
void
oracle_leases (world_t *self) {
    for (uint64_t back = 0; back < SIM_TAGS && back < self->highest_tag; back++) {
        uint32_t place = (uint32_t)((self->highest_tag - back) % SIM_TAGS);
        const sim_event_t *event = &self->events[self->tags[place].event];
        uint64_t most = self->topics[event->topic].lease_total_ms + 100;
        most += 2 * (self->away_ms - event->begun_away_ms); /* it may be looked at late besides */
        if (self->tags[place].tag == event->tag && event->tag > 0 && event->said == 0 &&
            !event->is_cancelled && self->now > event->begun_ms + most &&
            ledger_is_reachable (self, event)) {
            sim_fail (self, "e%u is held since %llu ms", self->tags[place].event,
                      (unsigned long long)(self->now - event->begun_ms));
        }
    }
}

typedef struct {
    uint64_t above; /* letters up to this m are durable over there */
    uint64_t count; /* dead events of the core behind it */
} leaving_t;

static int
s_count_leaving (void *arg, ef_live_t *live) {
    leaving_t *leaving = arg;
    leaving->count += live->state == EF_STATE_DEAD && live->m > leaving->above;
    return 0;
}

/* A letter that the core doesn't know to be durable in its journal is still in the main one's. */
void
oracle_letters (world_t *self) {
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        const ef_dead_log_t *log = self->dead[i];
        leaving_t leaving = {.above = self->dead_told[i]};
        uint32_t first = ef_dead_log_seek (log, self->dead_told[i] + 1);
        uint32_t untold = ef_dead_log_count (log) - first;
        if (untold == 0) {
            continue;
        }
        (void)ef_core_walk (self->core, i, s_count_leaving, &leaving); /* never stops early */
        if (leaving.count < untold) {
            sim_fail (self, "%s: %u letters aren't known to be durable, the core keeps %llu",
                      sim_topics[i], untold, (unsigned long long)leaving.count);
        }
    }
}

/* A letter tells of every attempt, but for those in the middle of many. */
void
oracle_history (world_t *self, uint32_t k, const ef_letter_body_t *body) {
    uint32_t most = EF_HISTORY_FIRST + EF_HISTORY_LAST;
    uint32_t wanted = body->letter.attempts < most ? body->letter.attempts : most;
    uint32_t count = 0;
    ef_cursor_t cursor = ef_cursor (body->history.data, body->history.size);
    if (wanted > 0 && (ef_get_array (&cursor, &count) || count < wanted)) {
        sim_fail (self, "e%u died after %u attempts, its letter tells of %u", k,
                  body->letter.attempts, count);
    }
}

/* A checkpoint is finished only when all that its parts know is durable: else what a crash takes
   back would come back by it. */
void
oracle_checkpoint (world_t *self) {
    if (!self->part->is_last) {
        self->has_gathered = true;
    } else if (self->durable_lsn < self->gathered_lsn) {
        sim_fail (self, "the checkpoint of segment %u knows batch %llu, durable is batch %llu",
                  self->part->segment, (unsigned long long)self->gathered_lsn,
                  (unsigned long long)self->durable_lsn);
    }
}
