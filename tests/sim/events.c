/* Events of the simulated world: what they ask for and how they are written.
   SPDX-License-Identifier: MIT */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

/* What a publisher asks for with an event. */
static void
s_decorate (world_t *self, sim_event_t *event, uint32_t k) {
    event->delay_ms = k % 37 == 0 ? 50 + k % 500 : 0;
    if (sim_has (self, SIM_AT) && sim_one_in (&self->random, 30)) {
        event->at_ms = self->wall + sim_below (&self->random, 800);
    }
    if (sim_has (self, SIM_TTL) && sim_one_in (&self->random, 12)) {
        event->ttl_ms = 20 + sim_below (&self->random, 4000);
    }
}

/* New events of a publisher in one topic. Returns the first. */
uint32_t
event_new (world_t *self, uint32_t publisher, uint32_t topic) {
    uint32_t k = ledger_new (self, FROM_PUBLISHER, topic);
    sim_event_t *event = &self->events[k];
    event->publisher = (uint8_t)publisher;
    s_decorate (self, event, k);
    if (self->keys[topic] > 0 && !sim_one_in (&self->random, 4)) {
        event->key = (uint8_t)(1 + sim_below (&self->random, self->keys[topic]));
    }
    ledger_line_up (self, k);
    return k;
}

static uint32_t
s_pairs (const sim_event_t *event) {
    return (event->delay_ms > 0) + (event->at_ms > 0) + (event->ttl_ms > 0) + (event->key > 0);
}

/* Event k: its payload is a number that follows from k, its id "e<k>". */
void
event_put (const world_t *self, ef_buf_t *body, uint32_t k) {
    const sim_event_t *event = &self->events[k];
    char id[16];
    uint32_t pairs = s_pairs (event);
    snprintf (id, sizeof id, "e%u", event->again_of == SIM_NONE ? k : event->again_of);
    ef_put_array (body, pairs > 0 ? 4 : 3);
    ef_put_str (body, sim_topics[event->topic]);
    ef_put_str (body, id);
    ef_put_uint (body, (uint64_t)k * SIM_PAYLOAD);
    if (pairs > 0) {
        ef_put_map (body, pairs);
    }
    if (event->key > 0) {
        char key[16];
        snprintf (key, sizeof key, "k%u", event->key);
        ef_put_key_str (body, "key", key);
    }
    if (event->delay_ms > 0) {
        ef_put_key_uint (body, "delay", event->delay_ms);
    }
    if (event->at_ms > 0) {
        ef_put_key_uint (body, "at", event->at_ms);
    }
    if (event->ttl_ms > 0) {
        ef_put_key_uint (body, "ttl", event->ttl_ms);
    }
}
