/* Workers of the simulated world: they speak the protocol and make mistakes.
   SPDX-License-Identifier: MIT */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

static void
s_put_tags_held (const sim_worker_t *worker, ef_buf_t *header) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < worker->held_count; i++) {
        count += !worker->held[i].is_answered || worker->held[i].ack_seq > 0;
    }
    ef_put_array (header, count);
    for (uint32_t i = 0; i < worker->held_count; i++) {
        if (!worker->held[i].is_answered || worker->held[i].ack_seq > 0) {
            ef_put_uint (header, worker->held[i].tag);
        }
    }
}

static void
s_ready (world_t *self, sim_worker_t *worker, uint32_t index) {
    worker->wire = wire_open (self, KIND_WORKER, index);
    if (worker->wire == UINT32_MAX) {
        return;
    }
    worker->has_session = index % 2 == 0;
    if (!worker->has_session) {
        worker->held_count = 0;
    }
    worker->credit = 1 + sim_below (&self->random, 24);
    ef_buf_t header = {0};
    ef_put_array (&header, 3);
    ef_put_str (&header, "READY");
    ef_put_uint (&header, 1);
    ef_put_map (&header, worker->has_session ? 5 : 3);
    ef_put_str (&header, "topics");
    ef_put_array (&header, SIM_TOPICS);
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        ef_put_str (&header, sim_topics[i]);
    }
    ef_put_key_uint (&header, "credit", worker->credit);
    ef_put_key_uint (&header, "heartbeat", 1000);
    if (worker->has_session) {
        ef_put_str (&header, "session");
        ef_put_bin (&header, worker->session, 16);
        ef_put_str (&header, "held");
        s_put_tags_held (worker, &header);
    }
    worker->is_welcome = false;
    worker->ready_ms = self->now;
    worker->is_silent = !self->is_quiet && sim_one_in (&self->random, 12);
    wire_send (self, worker->wire, header, (ef_buf_t){0});
}

/* Its process dies: what it held and its session are gone with it. */
void
worker_vanish (world_t *self, uint32_t index) {
    sim_worker_t *worker = &self->workers[index];
    if (worker->wire != UINT32_MAX) {
        wire_cut (self, worker->wire);
    }
    worker->held_count = 0;
    for (unsigned i = 0; i < 16; i++) {
        worker->session[i] = (uint8_t)sim_random (&self->random);
    }
}

static void
s_forget_held (sim_worker_t *worker, uint32_t at) {
    worker->held_count--;
    memmove (worker->held + at, worker->held + at + 1,
             (worker->held_count - at) * sizeof worker->held[0]);
}

static void
s_ack (world_t *self, sim_worker_t *worker, uint32_t at) {
    held_t *held = &worker->held[at];
    bool with_seq = sim_one_in (&self->random, 2);
    ef_buf_t header = {0};
    ef_put_array (&header, with_seq ? 3 : 2);
    ef_put_str (&header, "ACK");
    ef_put_array (&header, 1);
    ef_put_uint (&header, held->tag);
    self->events[held->event].answers++;
    if (with_seq) {
        ef_put_map (&header, 1);
        ef_put_key_uint (&header, "seq", ++worker->seq);
        held->ack_seq = worker->seq;
        held->is_answered = true;
    }
    wire_send (self, worker->wire, header, (ef_buf_t){0});
    if (!with_seq) {
        s_forget_held (worker, at);
    }
}

static void
s_nack (world_t *self, sim_worker_t *worker, uint32_t at) {
    ef_buf_t header = {0};
    uint32_t kind = sim_below (&self->random, 12);
    ef_put_array (&header, 5);
    ef_put_str (&header, "NACK");
    ef_put_array (&header, 1);
    ef_put_uint (&header, worker->held[at].tag);
    ef_put_int (&header, 500);
    ef_put_str (&header, "simulated failure");
    ef_put_map (&header, 1);
    if (kind == 0) {
        ef_put_key_bool (&header, "dead", true);
    } else if (kind < 4) {
        ef_put_key_bool (&header, "release", true);
    } else {
        ef_put_key_uint (&header, "retry", sim_below (&self->random, 300));
    }
    wire_send (self, worker->wire, header, (ef_buf_t){0});
    s_forget_held (worker, at);
}

void
worker_step (world_t *self, uint32_t index) {
    sim_worker_t *worker = &self->workers[index];
    if (worker->wire == UINT32_MAX) {
        s_ready (self, worker, index);
        return;
    }
    if (!self->is_quiet && sim_one_in (&self->random, 120)) {
        worker_vanish (self, index);
        return;
    }
    if (!self->is_quiet && sim_one_in (&self->random, 80)) {
        wire_cut (self, worker->wire);
        return;
    }
    if (self->is_quiet) {
        worker->is_silent = false;
    }
    if (!worker->is_welcome && self->now - worker->ready_ms > 5000) {
        wire_cut (self, worker->wire);
        return;
    }
    if (!worker->is_welcome || worker->is_silent) {
        return;
    }
    uint32_t rounds = self->is_quiet ? worker->held_count : 1 + sim_below (&self->random, 8);
    for (uint32_t i = 0; i < rounds && worker->held_count > 0; i++) {
        uint32_t at = sim_below (&self->random, worker->held_count);
        if (worker->held[at].is_answered) {
            continue;
        }
        if (!self->is_quiet && sim_one_in (&self->random, 4)) {
            s_nack (self, worker, at);
        } else {
            s_ack (self, worker, at);
        }
    }
    if (sim_one_in (&self->random, 4)) {
        wire_say (self, worker->wire, "PING");
    }
}

/* Two workers never hold an event at one time: while the last one is connected, has spoken lately,
   hasn't answered, and its lease isn't over. */
static void
s_check_holder (world_t *self, const sim_worker_t *worker, unsigned k) {
    const sim_event_t *event = &self->events[k];
    const sim_worker_t *other = event->holder ? &self->workers[event->holder - 1] : NULL;
    if (other == NULL || other == worker || self->now >= event->until_ms || other->is_silent ||
        self->now - other->spoke_ms > SIM_SILENT_MS) {
        return;
    }
    for (uint32_t i = 0; i < SIM_PEERS; i++) { /* a late READY of an older one may win */
        const wire_t *wire = &self->wires[i];
        if (wire->kind == KIND_WORKER && wire->owner == (uint32_t)event->holder - 1 &&
            i != other->wire && !wire->is_forgotten) {
            return;
        }
    }
    for (uint32_t i = 0; i < other->held_count; i++) {
        if (other->held[i].tag == event->tag && !other->held[i].is_answered) {
            sim_fail (self, "e%u is with two workers", k);
        }
    }
}

void
ledger_released (world_t *self, uint32_t worker) {
    const sim_worker_t *gone = &self->workers[worker];
    for (uint32_t i = 0; i < gone->held_count; i++) {
        sim_event_t *event = &self->events[gone->held[i].event];
        event->holder = event->holder == worker + 1 ? 0 : event->holder;
    }
}

static unsigned
s_event_of (const ef_event_t *event) {
    unsigned k = UINT32_MAX;
    char id[EF_ID_MAX + 1];
    ef_span_copy (event->id, id, sizeof id);
    return sscanf (id, "e%u", &k) == 1 ? k : UINT32_MAX;
}

void
ledger_returned (world_t *self, const ef_span_t *event) {
    ef_event_t read;
    const char *why;
    ef_cursor_t cursor = ef_cursor (event->data, event->size);
    if (ef_event_read (&cursor, &read, &why) != EF_OK || s_event_of (&read) >= self->event_count) {
        sim_fail (self, "a dead letter that nobody sent");
    }
    sim_trace (self, "e%u comes back from the dead", s_event_of (&read));
    self->events[s_event_of (&read)].attempt = 0;
}

static void
s_delivery (world_t *self, sim_worker_t *worker, uint64_t arrived_ms, ef_cursor_t *cursor) {
    uint32_t fields;
    uint64_t tag;
    uint64_t attempt;
    ef_event_t event;
    const char *why;
    uint64_t payload = 0;
    if (ef_get_array (cursor, &fields) || fields < 3 || ef_get_uint (cursor, &tag) ||
        ef_get_uint (cursor, &attempt) || ef_event_read (cursor, &event, &why) != EF_OK ||
        (fields == 4 && ef_skip (cursor))) {
        sim_fail (self, "a delivery that can't be read");
    }
    unsigned k = s_event_of (&event);
    ef_cursor_t inner = ef_cursor (event.payload.data, event.payload.size);
    if (k >= self->event_count || ef_get_uint (&inner, &payload) ||
        payload != (uint64_t)k * 2654435761u ||
        !ef_span_is (event.topic, sim_topics[self->events[k].topic])) {
        sim_fail (self, "an event that nobody sent: e%u", k);
    }
    sim_event_t *known = &self->events[k];
    sim_trace (self, "e%u comes by tag %llu, attempt %llu, to worker %d", k,
               (unsigned long long)tag, (unsigned long long)attempt, (int)(worker - self->workers));
    if (known->is_refused) {
        sim_fail (self, "e%u was refused and is delivered", k);
    }
    if (known->is_acked) {
        sim_fail (self, "e%u was done for certain and is delivered again", k);
    }
    if (attempt < 1 || attempt > self->config.defaults.retry.attempts) {
        sim_fail (self, "e%u: attempt %llu", k, (unsigned long long)attempt);
    }
    for (uint32_t i = 0; i < SIM_WORKERS; i++) {
        for (uint32_t h = 0; h < self->workers[i].held_count; h++) {
            if (self->workers[i].held[h].tag == tag) {
                sim_fail (self, "tag %llu was given out twice", (unsigned long long)tag);
            }
        }
    }
    bool is_latest = tag > known->tag; /* one may arrive behind a later one elsewhere */
    if (is_latest && attempt < known->attempt) {
        sim_fail (self, "e%u: attempt %llu after attempt %u", k, (unsigned long long)attempt,
                  known->attempt);
    }
    if (is_latest) {
        s_check_holder (self, worker, k);
        known->attempt = (uint32_t)attempt;
        known->holder = (uint8_t)(worker - self->workers + 1);
        known->tag = tag;
        known->until_ms = arrived_ms + self->config.defaults.lease_ms - 100;
    }
    oracle_due (self, k);
    known->deliveries++;
    ef_assert (worker->held_count < 512);
    worker->held[worker->held_count++] = (held_t){.tag = tag, .event = k};
}

/* ACKED: what isn't stale of that answer is done for good. */
static void
s_acked (world_t *self, sim_worker_t *worker, ef_cursor_t *cursor) {
    uint64_t seq;
    uint64_t done = 0;
    uint32_t pairs;
    if (ef_get_uint (cursor, &seq) || ef_get_map (cursor, &pairs)) {
        sim_fail (self, "an ACKED that can't be read");
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        if (ef_get_str (cursor, &key) ||
            (ef_span_is (key, "done") ? ef_get_uint (cursor, &done) : ef_skip (cursor))) {
            sim_fail (self, "an ACKED that can't be read");
        }
    }
    for (uint32_t i = 0; i < worker->held_count; i++) {
        if (worker->held[i].ack_seq == seq && worker->held[i].is_answered) {
            ledger_acked (self, &worker->held[i], done == 1);
            s_forget_held (worker, i);
            break;
        }
    }
}

/* WELCOME: what was held and answered is answered once more, unless it is stale. */
static void
s_worker_welcome (world_t *self, sim_worker_t *worker, ef_cursor_t *cursor) {
    uint32_t pairs;
    worker->is_welcome = true;
    if (ef_skip (cursor) || ef_get_map (cursor, &pairs)) {
        sim_fail (self, "a WELCOME that can't be read");
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        uint32_t count;
        if (ef_get_str (cursor, &key)) {
            sim_fail (self, "a WELCOME that can't be read");
        }
        if (!ef_span_is (key, "stale")) {
            int rc = ef_skip (cursor);
            ef_assert (rc == 0);
            continue;
        }
        int rc = ef_get_array (cursor, &count);
        for (uint32_t k = 0; rc == 0 && k < count; k++) {
            uint64_t tag;
            rc = ef_get_uint (cursor, &tag);
            for (uint32_t h = 0; h < worker->held_count; h++) {
                if (worker->held[h].tag == tag) {
                    s_forget_held (worker, h);
                    break;
                }
            }
        }
        ef_assert (rc == 0);
    }
    for (uint32_t h = 0; h < worker->held_count; h++) {
        worker->held[h].is_answered = false;
        worker->held[h].ack_seq = 0;
    }
}

void
worker_receive (world_t *self, uint32_t index) {
    sim_worker_t *worker = &self->workers[index];
    message_t *message;
    while (worker->wire != UINT32_MAX && (message = wire_receive (self, worker->wire)) != NULL) {
        ef_cursor_t cursor = ef_cursor (message->header.data, message->header.size);
        uint32_t items;
        ef_span_t command;
        if (ef_get_array (&cursor, &items) || ef_get_str (&cursor, &command)) {
            sim_fail (self, "a worker got a header that can't be read");
        }
        if (ef_span_is (command, "EVENTS")) {
            cursor = ef_cursor (message->body.data, message->body.size);
            while (ef_cursor_left (&cursor) > 0) {
                s_delivery (self, worker, message->at_ms, &cursor);
            }
            uint32_t open = 0;
            for (uint32_t i = 0; i < worker->held_count; i++) {
                open += !worker->held[i].is_answered;
            }
            /* A session may come back with less credit than it holds, 24 at the most. */
            if (open > (worker->credit > 24 ? worker->credit : 24)) {
                sim_fail (self, "worker %u holds %u with a credit of %u", index, open,
                          worker->credit);
            }
        } else if (ef_span_is (command, "WELCOME")) {
            s_worker_welcome (self, worker, &cursor);
        } else if (ef_span_is (command, "ACKED")) {
            s_acked (self, worker, &cursor);
        } else if (ef_span_is (command, "PING") && !worker->is_silent) {
            wire_say (self, worker->wire, "PONG");
        } else if (ef_span_is (command, "ERROR")) {
            wire_cut (self, worker->wire);
        }
        message_free (&message);
    }
}
