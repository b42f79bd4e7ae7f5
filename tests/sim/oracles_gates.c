/* What holds events back: parked keys, breakers, quotas, rates. SPDX-License-Identifier: MIT */
#include "world.h"

/* Where a failure parks a key, an event that has failed comes again only behind an operator's act.
 */
void
oracle_parked (world_t *self, const delivery_t *delivery) {
    const sim_event_t *event = &self->events[delivery->event];
    bool has_failed = event->attempt > 0 && delivery->attempt > event->attempt;
    if (self->topics[event->topic].on_blocked == EF_BLOCKED_PARK && event->lane > 0 && has_failed &&
        !event->was_returned && ledger_repeats (self, event) == 0 &&
        event->unparks == self->unparks[event->topic]) {
        sim_fail (self, "e%u has failed and goes out although nobody brought its key on",
                  delivery->event);
    }
}

/* Nothing goes out to a downstream whose breaker an operator has opened. */
void
oracle_breaker (world_t *self, uint32_t k) {
    const sim_event_t *event = &self->events[k];
    uint8_t tie = event->life == self->life ? event->tie : 0;
    bool may_be_tied = event->life == self->life && event->may_be_tied;
    uint8_t downstream = tie ? tie : may_be_tied ? 0 : event->downstream;
    if (self->topics[event->topic].breaker.ratio > 0 && self->is_shut[event->topic][downstream]) {
        sim_fail (self, "e%u goes out to downstream %u, whose breaker is open", k, downstream);
    }
}

/* A unit was taken in the window of now, for certain. */
static bool
s_is_in_window (const world_t *self, const sim_event_t *event) {
    const ef_quota_config_t *quota = &self->topics[event->topic].quota;
    if (quota->is_sliding) {
        return !self->was_set_back && event->unit_wall + quota->window_ms > self->wall;
    }
    /* A restart forgets that it has forgotten: where the clock went back behind that, who knows. */
    bool is_known = event->begun_ms > self->step_ms || event->life == self->life;
    return is_known && event->unit_wall / quota->window_ms == self->wall / quota->window_ms;
}

/* What goes out has a unit of the window that it goes out in. Where windows slide it may have had
   it for a while: it isn't older than the event, nor than a failure that gave the last one back;
   and it may come from a time before the clock was set. 0: nothing is certain. */
uint64_t
oracle_unit_wall (const world_t *self, const sim_event_t *event) {
    uint64_t since_ms = event->sent_ms > event->back_ms ? event->sent_ms : event->back_ms;
    if (!self->topics[event->topic].quota.is_sliding) {
        return self->step_ms < since_ms ? self->wall : 0;
    }
    return event->sent_wall > event->back_wall ? event->sent_wall : event->back_wall;
}

/* Of a subject no more go out in a window than its limit: those that are done for certain, across
   restarts too, and those that are held now. */
void
oracle_quota (world_t *self, uint32_t k) {
    sim_event_t now = self->events[k];
    const sim_event_t *event = &self->events[k];
    const ef_quota_config_t *quota = &self->topics[event->topic].quota;
    const sim_units_t *units = &self->units[event->topic][ledger_subject (self, event)];
    uint32_t first = units->count > SIM_UNITS ? units->count - SIM_UNITS : 0;
    uint32_t used = 1;
    now.unit_wall = oracle_unit_wall (self, event);
    now.begun_ms = self->now;
    if (quota->limit == 0 || !s_is_in_window (self, &now)) {
        return;
    }
    for (uint32_t i = first; i < units->count; i++) {
        uint32_t j = units->events[i % SIM_UNITS];
        const sim_event_t *other = &self->events[j];
        bool counts = j != k && (other->is_acked || ledger_holds (self, other)) &&
                      s_is_in_window (self, other);
        for (uint32_t later = i + 1; later < units->count && counts; later++) {
            counts = units->events[later % SIM_UNITS] != j; /* the last of its places here */
        }
        used += counts;
        if (counts && self->has_trace) {
            sim_trace (self, "  e%u has a unit since %llu%s", j,
                       (unsigned long long)other->unit_wall, other->is_acked ? ", done" : "");
        }
    }
    if (used > quota->limit) {
        sim_fail (self, "e%u is number %u of subject %u in its window, the limit is %u", k, used,
                  ledger_subject (self, event), quota->limit);
    }
}

/* No more goes out of a topic than its rate and burst allow, from any moment on. */
void
oracle_rate (world_t *self, uint32_t k) {
    uint32_t at = self->events[k].topic;
    const ef_topic_config_t *topic = &self->topics[at];
    sim_bucket_t *bucket = &self->buckets[at];
    double most = topic->burst + topic->rate / 1000 + 1; /* what flows in the ms under way */
    if (topic->rate <= 0) {
        return;
    }
    if (bucket->life != self->life) {
        *bucket = (sim_bucket_t){.tokens = most, .since_ms = self->now, .life = self->life};
    }
    bucket->tokens += (double)(self->now - bucket->since_ms) * topic->rate / 1000;
    bucket->tokens = (bucket->tokens < most ? bucket->tokens : most) - 1;
    bucket->since_ms = self->now;
    if (bucket->tokens < -0.01) {
        sim_fail (self, "e%u goes out faster than %s may", k, sim_topics[at]);
    }
}
