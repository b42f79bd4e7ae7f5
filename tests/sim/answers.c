/* What workers of the simulated world say of what they were given. SPDX-License-Identifier: MIT */
#include "world.h"

void
worker_forget (sim_worker_t *worker, uint32_t at) {
    worker->held_count--;
    memmove (worker->held + at, worker->held + at + 1,
             (worker->held_count - at) * sizeof worker->held[0]);
}

/* The ledger keeps what was said under an event's last tag. */
static void
s_say (world_t *self, const held_t *held, uint8_t said) {
    sim_event_t *event = &self->events[held->event];
    event->said |= event->tag == held->tag ? said : 0;
    event->may_die = event->may_die || (said & SAID_DEAD);
    event->answers += (said & (SAID_ACK | SAID_EMIT)) != 0;
}

static void
s_head (ef_buf_t *header, const char *command, uint32_t items, uint64_t tag) {
    ef_put_array (header, items);
    ef_put_str (header, command);
    ef_put_array (header, 1);
    ef_put_uint (header, tag);
}

/* Events that are accepted with the answer or not at all. */
static void
s_emit (world_t *self, held_t *held, ef_buf_t *body) {
    held->emits = 1 + sim_below (&self->random, 3);
    held->group = self->event_count;
    for (uint32_t i = 0; i < held->emits; i++) {
        uint32_t k = ledger_new (self, FROM_ACK, sim_below (&self->random, SIM_TOPICS));
        self->events[k].parent = held->event;
        self->events[k].schema = sim_one_in (&self->random, 10) ? 2 : 1;
        self->events[k].group = held->group;
        event_put (self, body, k);
    }
}

static void
s_ack (world_t *self, sim_worker_t *worker, uint32_t at) {
    held_t *held = &worker->held[at];
    bool emits = sim_has (self, SIM_EMIT) && !self->is_quiet && sim_one_in (&self->random, 6) &&
                 self->event_count + 3 < SIM_EVENTS;
    bool with_seq = emits || sim_one_in (&self->random, 2);
    ef_buf_t header = {0};
    ef_buf_t body = {0};
    s_head (&header, "ACK", with_seq ? 3 : 2, held->tag);
    held->emits = 0;
    held->group = SIM_NONE;
    if (emits) {
        s_emit (self, held, &body);
    }
    s_say (self, held, emits ? SAID_EMIT : SAID_ACK);
    if (with_seq) {
        ef_put_map (&header, 1);
        ef_put_key_uint (&header, "seq", ++worker->seq);
        held->ack_seq = worker->seq;
        held->is_answered = true;
    }
    wire_send (self, worker->wire, header, body);
    if (!with_seq) {
        worker_forget (worker, at);
    }
}

/* Whom a failure is laid to: what the event needs, or, at times, whom nobody expected. */
static uint8_t
s_told (world_t *self, const sim_event_t *event) {
    if (!sim_has (self, SIM_BREAKER) || sim_one_in (&self->random, 4)) {
        return 0;
    }
    return sim_one_in (&self->random, 8) ? (uint8_t)sim_below (&self->random, SIM_DOWNSTREAMS)
                                         : event->downstream;
}

/* A failure that counts, of one code or another; some choose the wait themselves. */
static void
s_nack_counted (world_t *self, const held_t *held, ef_buf_t *header) {
    sim_event_t *event = &self->events[held->event];
    sim_code_t code =
        sim_has (self, SIM_POLICY) ? (sim_code_t)sim_below (&self->random, CODE_COUNT) : CODE_PLAIN;
    const ef_rule_t *rule = settings_rule (self, event->topic, code);
    const ef_policy_t *policy = rule ? &rule->policy : &self->topics[event->topic].retry;
    bool has_wait = sim_one_in (&self->random, 2);
    uint32_t wait_ms = has_wait ? sim_below (&self->random, 600) /* past any cap */
                                : oracle_wait_ms (policy, event->attempt);
    bool is_permanent = rule && rule->is_permanent;
    bool is_last = is_permanent || event->attempt >= policy->attempts;
    event->may_be_permanent = event->may_be_permanent || is_permanent;
    event->may_be_used_up = event->may_be_used_up || (is_last && !is_permanent);
    sim_put_code (header, code);
    ef_put_str (header, "simulated failure");
    uint8_t told = s_told (self, event);
    ef_put_map (header, (uint32_t)has_wait + (told > 0));
    if (told > 0) {
        ef_put_key_str (header, "downstream", sim_downstream (told));
    }
    if (has_wait) {
        ef_put_key_uint (header, "retry", wait_ms);
    }
    s_say (self, held, is_last ? SAID_NACK | SAID_DEAD : SAID_NACK);
    if (event->tag == held->tag) {
        event->said_wait_ms = wait_ms;
        event->told = told;
        event->was_tied = event->may_be_tied;
        event->may_be_tied = event->may_be_tied || told > 0;
        event->tie = told > 0 ? 0 : event->tie;
    }
}

static void
s_nack (world_t *self, sim_worker_t *worker, uint32_t at) {
    const held_t *held = &worker->held[at];
    uint32_t kind = sim_below (&self->random, 12);
    ef_buf_t header = {0};
    s_head (&header, "NACK", 5, held->tag);
    if (kind < 4) {
        ef_put_int (&header, 500);
        ef_put_str (&header, "simulated failure");
        ef_put_map (&header, 1);
        ef_put_key_bool (&header, kind == 0 ? "dead" : "release", true);
        s_say (self, held, kind == 0 ? SAID_DEAD : SAID_RELEASE);
        self->events[held->event].may_be_permanent |= kind == 0;
    } else {
        s_nack_counted (self, held, &header);
    }
    wire_send (self, worker->wire, header, (ef_buf_t){0});
    worker_forget (worker, at);
}

static void
s_extend (world_t *self, const sim_worker_t *worker, uint32_t at) {
    ef_buf_t header = {0};
    s_head (&header, "EXTEND", 3, worker->held[at].tag);
    ef_put_uint (&header, 1 + sim_below (&self->random, 4000));
    wire_send (self, worker->wire, header, (ef_buf_t){0});
}

/* Answers one of the held in one way or another. */
void
worker_answer (world_t *self, sim_worker_t *worker, uint32_t at) {
    bool is_down = self->is_down[self->events[worker->held[at].event].downstream];
    if (!self->is_quiet && sim_has (self, SIM_EXTEND) && sim_one_in (&self->random, 6)) {
        s_extend (self, worker, at);
    } else if (!self->is_quiet && sim_one_in (&self->random, is_down ? 1 : 4)) {
        s_nack (self, worker, at);
    } else {
        s_ack (self, worker, at);
    }
}

/* What an ACK emitted is there if it counted, and else never will be. */
static void
s_settle (world_t *self, const held_t *held, bool is_done) {
    for (uint32_t i = 0; i < held->emits; i++) {
        self->events[held->group + i].is_confirmed = is_done;
        self->events[held->group + i].is_refused = !is_done;
    }
}

/* An answer counts under the tag of the event's last delivery alone: whoever has an older one has
   lost the event to somebody else. Tags grow, so a later delivery is known by its tag. */
static void
s_judge_acked (world_t *self, const held_t *held, bool is_done) {
    sim_event_t *event = &self->events[held->event];
    if (is_done && held->tag < event->tag && ledger_repeats (self, event) == 0) {
        sim_fail (self, "e%u was done under tag %llu although tag %llu was given out later",
                  held->event, (unsigned long long)held->tag, (unsigned long long)event->tag);
    }
    if (is_done && held->tag == event->released_tag) {
        sim_fail (self, "e%u was done under tag %llu, under which it was taken away", held->event,
                  (unsigned long long)held->tag);
    }
    if (is_done) {
        event->acked_group = held->group;
    }
    event->is_acked = event->is_acked || is_done;
    s_settle (self, held, is_done);
}

/* ACKED: what isn't stale of that answer is done for good; what was refused stays held. */
void
worker_acked (world_t *self, sim_worker_t *worker, ef_cursor_t *cursor) {
    uint64_t seq;
    uint64_t done = 0;
    bool is_refused = false;
    uint32_t pairs;
    if (ef_get_uint (cursor, &seq) || ef_get_map (cursor, &pairs)) {
        sim_fail (self, "an ACKED that can't be read");
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        int rc = ef_get_str (cursor, &key);
        is_refused = is_refused || (rc == 0 && ef_span_is (key, "refused"));
        if (rc || (ef_span_is (key, "done") ? ef_get_uint (cursor, &done) : ef_skip (cursor))) {
            sim_fail (self, "an ACKED that can't be read");
        }
    }
    for (uint32_t i = 0; i < worker->held_count; i++) {
        held_t *held = &worker->held[i];
        if (held->ack_seq == seq && held->is_answered) {
            s_judge_acked (self, held, done == 1);
            if (is_refused) {
                held->is_answered = false;
                held->ack_seq = 0;
            } else {
                worker_forget (worker, i);
            }
            break;
        }
    }
}
