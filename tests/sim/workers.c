/* Workers of the simulated world: they speak the protocol and make mistakes.
   SPDX-License-Identifier: MIT */
#include "world.h"

#include <stdio.h>

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
    bool has_token = sim_has (self, SIM_POISON);
    ef_put_map (&header, (worker->has_session ? 5u : 3u) + has_token);
    if (has_token) {
        ef_put_key_str (&header, "token", worker->token);
    }
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
    worker->is_unwell = false;
    worker->pings = worker->unwell_ping = 0;
    wire_send (self, worker->wire, header, (ef_buf_t){0});
}

/* Its process dies: what it held and its session are gone with it. */
void
worker_vanish (world_t *self, uint32_t index) {
    sim_worker_t *worker = &self->workers[index];
    uint32_t held[SIM_HELD];
    uint32_t count = 0;
    for (uint32_t i = 0; i < worker->held_count; i++) {
        const sim_event_t *event = &self->events[worker->held[i].event];
        if (event->tag == worker->held[i].tag && ledger_holds (self, event)) {
            held[count++] = worker->held[i].event;
        }
    }
    for (uint32_t i = 0; i < SIM_TAGS; i++) { /* also what was still on its way there */
        sim_event_t *event = &self->events[self->tags[i].event];
        event->suspicions += event->tag == self->tags[i].tag && event->holder == index + 1;
        event->may_die = event->may_die || event->suspicions > 2;
    }
    if (worker->wire != UINT32_MAX) {
        wire_cut (self, worker->wire);
    }
    if (self->core && sim_has (self, SIM_POISON) && !sim_one_in (&self->random, 4)) {
        ledger_died (self, held, count);
        ef_core_worker_died (self->core, worker->token, "killed by signal 11");
    }
    snprintf (worker->token, sizeof worker->token, "w%u.%u", index, ++worker->processes);
    worker->held_count = 0;
    for (unsigned i = 0; i < 16; i++) {
        worker->session[i] = (uint8_t)sim_random (&self->random);
    }
}

/* A PING, with what the worker says of its health. */
static void
s_ping (world_t *self, sim_worker_t *worker) {
    bool was_unwell = worker->is_unwell;
    if (sim_has (self, SIM_HEALTH) && sim_one_in (&self->random, 10)) {
        worker->is_unwell = !worker->is_unwell && !self->is_quiet;
    }
    worker->is_unwell = worker->is_unwell && !self->is_quiet;
    worker->pings++;
    if (worker->is_unwell && !was_unwell) {
        worker->unwell_ping = worker->pings;
    }
    ef_buf_t header = {0};
    ef_put_array (&header, 2);
    ef_put_str (&header, "PING");
    ef_put_map (&header, 2);
    ef_put_key_str (&header, "health", worker->is_unwell ? "unhealthy" : "ok");
    ef_put_key_str (&header, "reason", worker->is_unwell ? "the other side is down" : "");
    wire_send (self, worker->wire, header, (ef_buf_t){0});
}

/* The broker has heard as many PINGs. */
static void
s_pong (sim_worker_t *worker) {
    worker->pings -= worker->pings > 0;
    worker->unwell_ping -= worker->unwell_ping > 0;
}

/* Some events kill who works on them, more often than not. */
static bool
s_is_poisoned (world_t *self, const sim_worker_t *worker) {
    bool is_poisoned = false;
    for (uint32_t i = 0; i < worker->held_count && sim_has (self, SIM_POISON); i++) {
        is_poisoned = is_poisoned || worker->held[i].event % 64 == 33;
    }
    return is_poisoned && !sim_one_in (&self->random, 3);
}

void
worker_step (world_t *self, uint32_t index) {
    sim_worker_t *worker = &self->workers[index];
    if (worker->wire == UINT32_MAX) {
        s_ready (self, worker, index);
        return;
    }
    if (!self->is_quiet && (sim_one_in (&self->random, 120) || s_is_poisoned (self, worker))) {
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
        worker_answer (self, worker, at);
    }
    if (sim_one_in (&self->random, 4)) {
        s_ping (self, worker);
    }
}

static void
s_delivery (world_t *self, sim_worker_t *worker, ef_cursor_t *cursor) {
    delivery_t delivery;
    ledger_read (self, cursor, &delivery);
    sim_trace (self, "e%u comes by tag %llu to worker %d", delivery.event,
               (unsigned long long)delivery.tag, (int)(worker - self->workers));
    ef_assert (worker->held_count < SIM_HELD);
    worker->held[worker->held_count++] = (held_t){.tag = delivery.tag, .event = delivery.event};
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
                    worker_forget (worker, h);
                    break;
                }
            }
        }
        ef_assert (rc == 0);
    }
    for (uint32_t h = 0; h < worker->held_count; h++) {
        held_t *held = &worker->held[h];
        sim_event_t *event = &self->events[held->event];
        held->is_answered = false;
        held->ack_seq = 0;
        if (event->tag == held->tag) { /* its lease has moved to this connection */
            event->wire = worker->wire;
            event->wire_life = self->wires[worker->wire].life;
        }
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
        if (ef_span_is (command, "EVENTS") && worker->is_unwell && worker->unwell_ping == 0) {
            sim_fail (self, "worker %u is unwell, which the broker knows, and gets events", index);
        }
        if (ef_span_is (command, "EVENTS")) {
            cursor = ef_cursor (message->body.data, message->body.size);
            while (ef_cursor_left (&cursor) > 0) {
                s_delivery (self, worker, &cursor);
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
            worker_acked (self, worker, &cursor);
        } else if (ef_span_is (command, "PING") && !worker->is_silent) {
            wire_say (self, worker->wire, "PONG");
        } else if (ef_span_is (command, "PONG")) {
            s_pong (worker);
        } else if (ef_span_is (command, "ERROR")) {
            wire_cut (self, worker->wire);
        }
        message_free (&message);
    }
}
