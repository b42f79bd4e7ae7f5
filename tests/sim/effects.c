/* The core's effects, carried out in the simulated world. SPDX-License-Identifier: MIT */
#include "world.h"
#include "../../proto/json.h"

#include <stdio.h>
#include <stdlib.h>

const char *const sim_topics[SIM_TOPICS] = {"alpha", "beta", "gamma", "delta"};

static uint32_t
s_topic_index (const char *name) {
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        if (strcmp (sim_topics[i], name) == 0) {
            return i;
        }
    }
    ef_assert (!"a topic that nobody made");
    return 0;
}

/* One message of the trace: its command and what begins its arguments. */
void
sim_trace_message (world_t *self, const char *way, uint32_t peer, const ef_buf_t *header) {
    if (self->has_trace) {
        ef_buf_t text = {0};
        ef_cursor_t cursor = ef_cursor (header->data, header->size);
        int rc = ef_json_print (&text, &cursor); /* a broken one shows as far as it goes */
        (void)rc;
        sim_trace (self, "%s %u.%u %.*s", way, peer, self->wires[peer].owner,
                   (int)(text.size < 160 ? text.size : 160), (const char *)text.data);
        ef_buf_free (&text);
    }
}

/* Effects. */

static uint8_t *
s_body_new (void *arg, size_t bytes, void **message) {
    (void)arg;
    ef_buf_t *body = calloc (1, sizeof *body);
    ef_assert (body != NULL);
    *message = body;
    return ef_buf_add (body, bytes);
}

static int
s_send (void *arg, uint32_t peer, const ef_buf_t *header, void *message) {
    world_t *self = arg;
    wire_t *wire = &self->wires[peer];
    ef_buf_t body = {0};
    if (message) {
        body = *(ef_buf_t *)message;
        free (message);
    }
    ef_assert (wire->kind != KIND_NONE && !wire->is_forgotten);
    if (header->size > 8 && memcmp (header->data + 1,
                                    "\xa6"
                                    "CANCEL",
                                    7) == 0) {
        ledger_cancelled (self, header);
    }
    if (wire->is_cut || (!self->is_quiet && wire->has_had && sim_one_in (&self->random, 400))) {
        bool is_lost = wire->is_cut && sim_one_in (&self->random, 2); /* taken, and never arrives */
        if (is_lost && wire->kind == KIND_WORKER && body.size > 0) {
            ledger_dispatch (self, peer, &body);
        }
        ef_buf_free (&body);
        return is_lost ? 0 : -1;
    }
    sim_trace_message (self, "<-", peer, header);
    if (wire->kind == KIND_WORKER && body.size > 0) {
        ledger_dispatch (self, peer, &body);
    }
    wire->has_had = true;
    message_t *copy = calloc (1, sizeof *copy);
    ef_assert (copy != NULL);
    ef_buf_put (&copy->header, header->data, header->size);
    copy->body = body;
    copy->at_ms = self->now + sim_below (&self->random, 20);
    if (wire->to_peer_last && wire->to_peer_last->at_ms > copy->at_ms) {
        copy->at_ms = wire->to_peer_last->at_ms;
    }
    *(wire->to_peer ? &wire->to_peer_last->next : &wire->to_peer) = copy;
    wire->to_peer_last = copy;
    return 0;
}

static void
s_forget (void *arg, uint32_t peer) {
    world_t *self = arg;
    self->wires[peer].is_forgotten = true;
}

static void
s_submit (void *arg, ef_batch_t *batch) {
    world_t *self = arg;
    ef_assert (self->ring_count < 256);
    self->ring[self->ring_count++] = batch;
    self->submitted_lsn = batch->lsn;
}

static void
s_fetch (void *arg, uint32_t segment, uint32_t offset) {
    world_t *self = arg;
    ef_assert (self->wanted_count < 64);
    self->wanted[self->wanted_count++] =
        (wanted_t){self->now + sim_below (&self->random, 30), segment, offset};
}

static void
s_drop_segment (void *arg, uint32_t segment) {
    world_t *self = arg;
    sim_trace (self, "drop segment %u", segment);
    self->drop_count++;
}

static void
s_checkpoint (void *arg, ef_checkpoint_part_t *part) {
    world_t *self = arg;
    ef_assert (self->part == NULL);
    self->part = part;
    oracle_checkpoint (self);
}

static void
s_retry_at (void *arg, uint32_t topic, uint64_t n, uint32_t generation, uint64_t due_ms) {
    world_t *self = arg;
    ef_wait_t wait = {due_ms, n, topic, generation};
    ef_retry_heap_push (&self->waits, &wait);
}

static void
s_dead (void *arg, const char *topic, const ef_dead_t *dead) {
    world_t *self = arg;
    ef_dead_log_add (self->dead[s_topic_index (topic)], dead);
}

static void
s_returned (void *arg, const char *topic, uint64_t b) {
    world_t *self = arg;
    ef_assert (self->returned_count < 64);
    self->returned[self->returned_count].topic = s_topic_index (topic);
    self->returned[self->returned_count++].b = b;
}

static void
s_offer (world_t *self, uint32_t topic, const ef_leaving_t *leaving) {
    ef_letter_body_t bodies[16];
    ef_returned_t letters[16];
    ef_assert (leaving->count <= 16);
    for (uint32_t i = 0; i < leaving->count; i++) {
        uint32_t at = ef_dead_log_seek (self->dead[topic], leaving->m[i]);
        if (ef_dead_log_read (self->dead[topic], ef_dead_log_at (self->dead[topic], at),
                              &bodies[i])) {
            sim_fail (self, "dead letter %llu of %s can't be read",
                      (unsigned long long)leaving->m[i], sim_topics[topic]);
        }
        ledger_returned (self, &bodies[i].event);
        letters[i] = (ef_returned_t){bodies[i].accepted_ms, bodies[i].event, bodies[i].history};
    }
    ef_core_return (self->core, sim_topics[topic], leaving->b, leaving->purge, letters,
                    leaving->count);
    for (uint32_t i = 0; i < leaving->count; i++) {
        free (bodies[i].bytes);
    }
}

/* Offers what was noted as leaving and is durable. */
void
sim_offer_new (world_t *self, uint32_t topic) {
    ef_dead_log_t *log = self->dead[topic];
    for (uint32_t i = 0; i < ef_dead_log_leaving_count (log); i++) {
        const ef_leaving_t *leaving = ef_dead_log_leaving (log, i);
        if (leaving->b > self->offered_b[topic]) {
            self->offered_b[topic] = leaving->b;
            s_offer (self, topic, leaving);
        }
    }
}

static void
s_leave (world_t *self, uint32_t topic, uint32_t limit, bool only_overflow, bool purge) {
    ef_dead_log_t *log = self->dead[topic];
    uint64_t m[16];
    uint32_t count = 0;
    for (uint32_t i = 0; i < ef_dead_log_count (log) && count < limit && count < 16; i++) {
        const ef_letter_t *letter = ef_dead_log_at (log, i);
        if (!letter->is_leaving && letter->segment &&
            (!only_overflow || letter->reason == EF_REASON_OVERFLOW)) {
            m[count++] = letter->m;
        }
    }
    if (count > 0) {
        (void)ef_dead_log_leave (log, m, count, purge);
        if (ef_dead_log_commit (log) == 0) {
            sim_offer_new (self, topic);
        }
    }
}

static void
s_want_overflow (void *arg, const char *topic, uint32_t count) {
    s_leave (arg, s_topic_index (topic), count, true, false);
}

void
dead_step (world_t *self) {
    if (ef_core_space_state (self->core) != EF_SPACE_NORMAL) {
        return; /* the actor holds it back */
    }
    uint32_t topic = sim_below (&self->random, SIM_TOPICS);
    s_leave (self, topic, 1 + sim_below (&self->random, 8), false, false);
}

static void
s_notify (void *arg, const char *kind, const char *topic, const char *detail) {
    sim_trace (arg, "notice %s %s: %s", kind, topic, detail);
}

static uint64_t
s_random (void *arg) {
    return sim_random (&((world_t *)arg)->random);
}

ef_effects_t
sim_effects (world_t *self) {
    return (ef_effects_t){.arg = self,
                          .body_new = s_body_new,
                          .send = s_send,
                          .forget = s_forget,
                          .submit = s_submit,
                          .fetch = s_fetch,
                          .drop_segment = s_drop_segment,
                          .checkpoint = s_checkpoint,
                          .retry_at = s_retry_at,
                          .dead = s_dead,
                          .returned = s_returned,
                          .want_overflow = s_want_overflow,
                          .notify = s_notify,
                          .random = s_random};
}
