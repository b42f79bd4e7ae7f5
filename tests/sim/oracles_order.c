/* Order: of events with one key, and of topics that are ordered as a whole.
   SPDX-License-Identifier: MIT */
#include "world.h"

/* Was j accepted before k, for certain? By their numbers, by one publisher's order, or by the order
   in which their PUBLISHes came to the core. */
static bool
s_precedes (const world_t *self, uint32_t j, uint32_t k) {
    const sim_event_t *a = &self->events[j];
    const sim_event_t *b = &self->events[k];
    if (a->n > 0 && b->n > 0) {
        return a->n < b->n;
    }
    if (a->handed_first == 0 || b->handed_first == 0) {
        return false; /* emitted, or replayed under a new number */
    }
    if (a->publisher == b->publisher && a->publisher < SIM_PUBLISHERS) {
        return j < k;
    }
    return a->handed_last < b->handed_first;
}

/* May an event go out while another, which came earlier, hasn't ended? */
static bool
s_may_pass (const world_t *self, const sim_event_t *event, const sim_event_t *other) {
    const ef_topic_config_t *topic = &self->topics[other->topic];
    bool is_timed = other->delay_ms > 0 || other->at_ms > 0;
    if (is_timed && (other->deliveries == 0 || event->deliveries > 0 || self->was_set_back)) {
        return true; /* it joins when it is due, and what has the key then keeps it */
    }
    return topic->on_blocked == EF_BLOCKED_SKIP &&
           (other->deliveries > 0 || topic->quota.limit > 0 || topic->breaker.ratio > 0);
}

/* An event of a key isn't delivered while an earlier one hasn't ended (block, park), or while an
   earlier one hasn't even been tried (skip); and never two of a key are in flight at a time. */
void
oracle_order (world_t *self, uint32_t k) {
    const sim_event_t *event = &self->events[k];
    const sim_lane_t *lane = &self->lanes[event->topic][event->lane];
    if (event->lane == 0) {
        return;
    }
    if (lane->holder != SIM_NONE && lane->holder != k &&
        ledger_holds (self, &self->events[lane->holder])) {
        sim_fail (self, "e%u of lane %u goes out while e%u is in flight", k, event->lane,
                  lane->holder);
    }
    for (uint32_t i = 0; i < lane->count; i++) {
        uint32_t j = lane->events[i];
        const sim_event_t *other = &self->events[j];
        if (j != k && other->answers == 0 && s_precedes (self, j, k) &&
            !s_may_pass (self, event, other) && ledger_is_live (self, other)) {
            sim_fail (self, "e%u of lane %u goes out before e%u, which came earlier", k,
                      event->lane, j);
        }
    }
}
