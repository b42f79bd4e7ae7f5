/* Operators of the simulated world: they replay, purge, pause. SPDX-License-Identifier: MIT */
#include "world.h"

#include <stdio.h>

/* Others take space on the disk and give it back. */
static void
s_squeeze (world_t *self) {
    uint64_t used = sim_disk_used (self->disk);
    uint32_t dice = sim_below (&self->random, 3);
    sim_disk_limit (self->disk, dice == 0 ? 0 : used + sim_below (&self->random, 90000));
}

static void
s_purge (world_t *self) {
    uint64_t purged;
    uint32_t topic = sim_below (&self->random, SIM_TOPICS);
    ef_status_t status = ef_core_purge (self->core, sim_topics[topic], &purged);
    ef_assert (status == EF_OK);
    self->was_purged[topic] = true;
    for (uint32_t i = 0; i < self->event_count; i++) {
        self->events[i].is_purged = self->events[i].is_purged || self->events[i].topic == topic;
    }
}

static void
s_pause (world_t *self, uint32_t topic, bool is_paused) {
    ef_status_t status = ef_core_pause (self->core, sim_topics[topic], is_paused);
    ef_assert (status == EF_OK);
    self->is_paused[topic] = is_paused;
    sim_trace (self, "%s %s", is_paused ? "pause" : "resume", sim_topics[topic]);
}

/* Brings on what is parked: one key of a topic or all of it. */
static void
s_unpark (world_t *self, uint32_t topic, uint32_t number) {
    char text[16];
    uint64_t count;
    ef_span_t key = {text, (uint32_t)snprintf (text, sizeof text, "k%u", number)};
    ef_status_t status = ef_core_unpark (self->core, topic, number ? &key : NULL, &count);
    ef_assert (status == EF_OK || (number && status == EF_NOT_FOUND));
    self->unparks[topic] += count > 0;
    sim_trace (self, "unpark %s %u: %llu", sim_topics[topic], number, (unsigned long long)count);
}

static void
s_set_breaker (world_t *self, uint32_t topic, uint32_t downstream, ef_hand_t hand) {
    const char *name = sim_downstream (downstream);
    ef_span_t span = {name, (uint32_t)strlen (name)};
    ef_status_t status = ef_core_set_breaker (self->core, topic, span, hand);
    ef_assert (status == EF_OK);
    self->is_shut[topic][downstream] = hand == EF_HAND_OPEN;
    sim_trace (self, "breaker %s %s by hand: %s", sim_topics[topic], name, ef_hand_name (hand));
}

/* What an operator said may be known after a crash, or not. */
void
operator_crashed (world_t *self) {
    memset (self->is_paused, 0, sizeof self->is_paused);
    memset (self->is_shut, 0, sizeof self->is_shut);
}

void
operator_quiet (world_t *self) {
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        if (sim_has (self, SIM_OPERATOR)) {
            s_pause (self, i, false);
        }
        for (uint32_t k = 0; k < SIM_DOWNSTREAMS && self->topics[i].breaker.ratio > 0; k++) {
            s_set_breaker (self, i, k, EF_HAND_AUTO);
        }
    }
    memset (self->is_down, 0, sizeof self->is_down);
}

void
operator_tend (world_t *self) {
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        if (ef_core_count (self->core, i, EF_STATE_PARKED) > 0) {
            s_unpark (self, i, 0);
        }
    }
}

/* An event that has waited or failed before, so that its number is known; NULL: none was found. */
static sim_event_t *
s_choose (world_t *self) {
    for (unsigned tries = 0; tries < 20 && self->event_count > 0; tries++) {
        uint32_t most = self->event_count < 300 ? self->event_count : 300;
        uint32_t k = self->event_count - 1 - sim_below (&self->random, most);
        sim_event_t *event = &self->events[k];
        if (event->n > 0 && !event->was_returned && ledger_repeats (self, event) == 0) {
            return event;
        }
    }
    return NULL;
}

/* Single events are cancelled, put off, run at once, taken away. */
static void
s_move (world_t *self) {
    sim_event_t *event = s_choose (self);
    uint32_t kind = sim_below (&self->random, 4);
    uint32_t wait_ms = sim_below (&self->random, 1000);
    ef_status_t status = EF_NOT_FOUND;
    if (event == NULL) {
        return;
    }
    if (kind == 0) {
        status = ef_core_cancel (self->core, event->topic, event->n);
        event->is_purged = event->is_purged || status == EF_OK;
        event->expect = status == EF_OK ? EXPECT_NONE : event->expect;
    } else if (kind == 1) {
        status = ef_core_delay (self->core, event->topic, event->n, self->wall + wait_ms, false);
        event->not_before_ms = status == EF_OK ? self->now + wait_ms : event->not_before_ms;
        self->unparks[event->topic] += status == EF_OK;
    } else if (kind == 2) {
        status = ef_core_run_now (self->core, event->topic, event->n);
        event->not_before_ms = status == EF_OK ? 0 : event->not_before_ms;
        self->unparks[event->topic] += status == EF_OK;
    } else {
        status = ef_core_release (self->core, event->topic, event->n, "");
        if (status == EF_OK) {
            event->released_tag = event->tag;
            event->said |= SAID_RELEASE;
            event->is_heard = true; /* what its worker says now comes too late */
            event->expect = EXPECT_SAME;
        }
    }
    sim_trace (self, "operator's act %u on e%u: %s", kind, (unsigned)(event - self->events),
               ef_status_name (status));
}

/* Something or somebody outside changes its mind. */
static void
s_turn (world_t *self) {
    uint32_t topic = sim_below (&self->random, SIM_TOPICS);
    uint32_t downstream = 1 + sim_below (&self->random, SIM_DOWNSTREAMS - 1);
    if (sim_has (self, SIM_BREAKER)) {
        self->is_down[downstream] = sim_one_in (&self->random, 2);
    }
    if (self->topics[topic].breaker.ratio > 0 && sim_one_in (&self->random, 2)) {
        s_set_breaker (self, topic, downstream,
                       (ef_hand_t)sim_below (&self->random, EF_HAND_CLOSED + 1));
    }
    if (self->topics[topic].on_blocked == EF_BLOCKED_PARK) {
        s_unpark (self, topic, sim_below (&self->random, self->keys[topic] + 1));
    }
    if (sim_has (self, SIM_OPERATOR)) {
        s_pause (self, topic, sim_one_in (&self->random, 3));
        for (unsigned i = 0; i < 4; i++) {
            s_move (self);
        }
    }
}

void
operator_step (world_t *self) {
    uint32_t dice = sim_below (&self->random, 20);
    if (dice < 10) {
        dead_step (self);
    } else if (dice < 14 && self->seed % 2 == 0) {
        s_squeeze (self);
    } else if (dice == 14 && self->seed % 8 == 0) {
        s_purge (self);
    } else if (dice > 14) {
        s_turn (self);
    }
}
