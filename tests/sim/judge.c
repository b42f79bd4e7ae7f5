/* The ledger against the broker, once all has come to its end. SPDX-License-Identifier: MIT */
#include "world.h"

#include <stdlib.h>

/* Each dead letter is of an event that was sent, once; nothing that is done for certain is dead. */
static void
s_note_letter (world_t *self, uint32_t topic, const ef_letter_body_t *body) {
    ef_event_t event;
    const char *why;
    ef_cursor_t cursor = ef_cursor (body->event.data, body->event.size);
    ef_status_t status = ef_event_read (&cursor, &event, &why);
    ef_assert (status == EF_OK);
    uint32_t k = ledger_find (self, &event);
    if (k == SIM_NONE || self->events[k].topic != topic) {
        sim_fail (self, "a dead letter of %s that nobody sent: %.*s", sim_topics[topic],
                  (int)event.id.size, event.id.data);
    }
    sim_event_t *known = &self->events[k];
    if (known->is_dead && ledger_repeats (self, known) == 0) {
        sim_fail (self, "e%u is dead twice", k);
    }
    if (known->is_acked && ledger_repeats (self, known) == 0) {
        sim_fail (self, "e%u was done for certain and is dead", k);
    }
    known->is_dead = true;
    known->reason = body->letter.reason;
    oracle_history (self, k, body);
    if ((known->reason == EF_REASON_PERMANENT && !known->may_be_permanent) ||
        (known->reason == EF_REASON_ATTEMPTS && !known->may_be_used_up) ||
        (known->reason == EF_REASON_POISON && known->suspicions < 3 &&
         ledger_repeats (self, known) == 0)) {
        sim_fail (self, "e%u died of %s, which nothing speaks for", k,
                  ef_reason_name ((ef_reason_t)known->reason));
    }
    bool is_early = known->reason == EF_REASON_EXPIRED && !self->was_set_back &&
                    body->letter.dead_ms <= known->sent_wall + known->ttl_ms;
    if (is_early || (known->reason == EF_REASON_EXPIRED && known->ttl_ms == 0)) {
        sim_fail (self, "e%u expired although its ttl wasn't over", k);
    }
}

static void
s_note_dead (world_t *self) {
    for (uint32_t topic = 0; topic < SIM_TOPICS; topic++) {
        uint32_t count = ef_dead_log_count (self->dead[topic]);
        if (count != ef_core_count (self->core, topic, EF_STATE_DEAD)) {
            sim_fail (self, "%s: %u dead letters, the core counts %llu", sim_topics[topic], count,
                      (unsigned long long)ef_core_count (self->core, topic, EF_STATE_DEAD));
        }
        for (uint32_t i = 0; i < count; i++) {
            ef_letter_body_t body;
            if (ef_dead_log_read (self->dead[topic], ef_dead_log_at (self->dead[topic], i),
                                  &body)) {
                sim_fail (self, "%s: dead letter %u can't be read", sim_topics[topic], i);
            }
            s_note_letter (self, topic, &body);
            free (body.bytes);
        }
    }
}

/* What one ACK emitted is there as a whole or not at all, and only if that ACK counted. */
static void
s_judge_emitted (world_t *self, uint32_t k) {
    const sim_event_t *event = &self->events[k];
    const sim_event_t *first = &self->events[event->group];
    const sim_event_t *parent = &self->events[event->parent];
    if (event->is_purged || first->is_purged || !ledger_is_seen (event) ||
        ledger_repeats (self, parent) > 0) {
        return;
    }
    if (parent->is_dead) {
        sim_fail (self, "e%u came with the end of e%u, which is dead", k, event->parent);
    }
    if (parent->is_acked && parent->acked_group != event->group) {
        sim_fail (self, "e%u came with an ACK of e%u that didn't count", k, event->parent);
    }
}

static void
s_judge_whole (world_t *self, uint32_t k) {
    const sim_event_t *event = &self->events[k];
    const sim_event_t *first = &self->events[event->group];
    if (!event->is_purged && !first->is_purged &&
        ledger_is_seen (event) != ledger_is_seen (first)) {
        sim_fail (self, "of what came together e%u is%s there and e%u is%s", k,
                  ledger_is_seen (event) ? "" : "n't", event->group,
                  ledger_is_seen (first) ? "" : "n't");
    }
}

/* What an event's death brings, and what other topics get of its end: there exactly where it died
   or was done; overflow is no end. Behind a replay it may have ended in more ways than one. */
static void
s_judge_end (world_t *self, uint32_t k, uint32_t other, bool is_due, const char *what) {
    const sim_event_t *event = &self->events[k];
    bool is_there = other != SIM_NONE && ledger_is_seen (&self->events[other]);
    if (event->is_purged) {
        return;
    }
    if (is_due && !is_there && !event->is_unsure && ledger_is_seen (event)) {
        sim_fail (self, "e%u is %s, what that was to bring isn't there", k, what);
    }
    if (!is_due && is_there && event->returns + ledger_repeats (self, event) == 0) {
        sim_fail (self, "e%u isn't %s, what that was to bring (e%u) is there", k, what, other);
    }
}

static bool
s_was_purged (const world_t *self, const char *topic) {
    uint32_t at = 0;
    while (strcmp (sim_topics[at], topic) != 0) {
        at++;
    }
    return self->was_purged[at];
}

static void
s_judge_ends (world_t *self, uint32_t k) {
    const sim_event_t *event = &self->events[k];
    const ef_topic_config_t *topic = &self->topics[event->topic];
    bool is_dead = event->is_dead && event->reason != EF_REASON_OVERFLOW;
    if (event->on_dead != SIM_NONE && !self->was_purged[self->events[event->on_dead].topic]) {
        s_judge_end (self, k, event->on_dead, is_dead, "dead");
    }
    if (topic->on_dead[0] && !s_was_purged (self, topic->on_dead)) {
        s_judge_end (self, k, event->copy_dead, is_dead, "dead");
    }
    if (topic->on_done[0] && !s_was_purged (self, topic->on_done)) {
        s_judge_end (self, k, event->copy_done, !event->is_dead, "done");
    }
}

void
judge (world_t *self) {
    uint64_t kept[SIM_TOPICS] = {0};
    uint64_t repeated[SIM_TOPICS] = {0}; /* at the most: what a second death brings bears one id */
    s_note_dead (self);
    for (uint32_t i = 0; i < self->event_count; i++) {
        const sim_event_t *event = &self->events[i];
        bool is_ended = event->answers > 0 || event->is_dead || event->is_purged;
        if (event->is_confirmed && !event->is_unsure && !is_ended) {
            sim_fail (self, "e%u of %s was confirmed and is lost", i, sim_topics[event->topic]);
        }
        if (event->is_refused && ledger_is_seen (event)) {
            sim_fail (self, "e%u of %s was refused or a duplicate and is there", i,
                      sim_topics[event->topic]);
        }
        if (event->group != SIM_NONE) {
            s_judge_whole (self, i);
        }
        if (event->origin == FROM_ACK) {
            s_judge_emitted (self, i);
        }
        s_judge_ends (self, i);
        kept[event->topic] += ledger_is_seen (event);
        repeated[event->topic] += ledger_is_seen (event) ? ledger_repeats (self, event) : 0;
    }
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        uint64_t accepted = ef_core_accepted (self->core, i);
        bool is_exact = ef_core_count (self->core, i, EF_STATE_PURGED) == 0;
        if (is_exact && (accepted < kept[i] || accepted > kept[i] + repeated[i])) {
            sim_fail (self, "%s: %llu accepted, %llu seen: something is there twice or never came",
                      sim_topics[i], (unsigned long long)accepted, (unsigned long long)kept[i]);
        }
    }
}
