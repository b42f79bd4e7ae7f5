/* The simulated network: connections that delay and break. SPDX-License-Identifier: MIT */
#include "world.h"

#include <stdlib.h>

void
message_free (message_t **message_p) {
    ef_buf_free (&(*message_p)->header);
    ef_buf_free (&(*message_p)->body);
    free (*message_p);
    *message_p = NULL;
}

static void
s_drop_all (message_t **first, message_t **last) {
    while (*first) {
        message_t *message = *first;
        *first = message->next;
        message_free (&message);
    }
    *last = NULL;
}

uint32_t
wire_open (world_t *self, peer_kind_t kind, uint32_t owner) {
    for (uint32_t i = 0; i < SIM_PEERS; i++) {
        wire_t *wire = &self->wires[i];
        bool is_free = wire->kind == KIND_NONE || (wire->is_cut && wire->is_forgotten);
        if (is_free) {
            s_drop_all (&wire->to_core, &wire->to_core_last);
            *wire = (wire_t){.kind = kind, .life = wire->life + 1};
            wire->owner = owner;
            return i;
        }
    }
    return UINT32_MAX;
}

/* The connection breaks: what the peer hadn't read is gone, of what it sent some may still arrive.
 */
void
wire_cut (world_t *self, uint32_t number) {
    wire_t *wire = &self->wires[number];
    wire->is_cut = true;
    s_drop_all (&wire->to_peer, &wire->to_peer_last);
    if (sim_one_in (&self->random, 2) || wire->is_forgotten) {
        s_drop_all (&wire->to_core, &wire->to_core_last);
    }
    if (!wire->is_known && wire->to_core == NULL) {
        wire->is_forgotten = true;
    }
    if (wire->kind == KIND_PUBLISHER && self->publishers[wire->owner].wire == number) {
        self->publishers[wire->owner].wire = UINT32_MAX;
        self->publishers[wire->owner].is_welcome = false;
    }
    if (wire->kind == KIND_WORKER && self->workers[wire->owner].wire == number) {
        self->workers[wire->owner].wire = UINT32_MAX;
        self->workers[wire->owner].is_welcome = false;
    }
}

void
wire_send (world_t *self, uint32_t number, ef_buf_t header, ef_buf_t body) {
    wire_t *wire = &self->wires[number];
    message_t *message = calloc (1, sizeof *message);
    ef_assert (message != NULL && !wire->is_cut);
    message->header = header;
    message->body = body;
    message->at_ms = self->now + sim_below (&self->random, 20);
    if (wire->to_core_last && wire->to_core_last->at_ms > message->at_ms) {
        message->at_ms = wire->to_core_last->at_ms;
    }
    *(wire->to_core ? &wire->to_core_last->next : &wire->to_core) = message;
    wire->to_core_last = message;
}

message_t *
wire_receive (world_t *self, uint32_t number) {
    wire_t *wire = &self->wires[number];
    message_t *message = wire->to_peer;
    if (message == NULL || message->at_ms > self->now) {
        return NULL;
    }
    wire->to_peer = message->next;
    wire->to_peer_last = wire->to_peer ? wire->to_peer_last : NULL;
    return message;
}

/* A message that is a command and nothing else. */
void
wire_say (world_t *self, uint32_t wire, const char *command) {
    ef_buf_t header = {0};
    ef_put_array (&header, 1);
    ef_put_str (&header, command);
    wire_send (self, wire, header, (ef_buf_t){0});
}
