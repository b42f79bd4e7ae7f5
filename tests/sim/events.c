/* Events of the simulated world: what they ask for and how they are written.
   SPDX-License-Identifier: MIT */
#include "world.h"

#include <stdio.h>

static uint32_t
s_new (world_t *self, uint32_t publisher, uint32_t topic) {
    uint32_t k = ledger_new (self, FROM_PUBLISHER, topic);
    self->events[k].publisher = (uint8_t)publisher;
    return k;
}

/* What its death will bring. */
static void
s_compensate (world_t *self, uint32_t k) {
    uint32_t death = ledger_new (self, FROM_DEATH, sim_below (&self->random, SIM_TOPICS));
    self->events[death].parent = k;
    self->events[death].schema = 1; /* it must be good: nobody would hear a refusal */
    self->events[k].on_dead = death;
    ledger_line_up (self, death);
}

/* What a publisher asks for with an event. */
static void
s_decorate (world_t *self, uint32_t k) {
    sim_event_t *event = &self->events[k];
    bool has_users = sim_has (self, SIM_QUOTA) || sim_has (self, SIM_FAIR);
    bool may_wait = self->topics[event->topic].fair_by == EF_BY_NONE; /* else it takes its turn */
    event->delay_ms = may_wait && k % 37 == 0 ? 50 + k % 500 : 0;
    if (may_wait && sim_has (self, SIM_AT) && sim_one_in (&self->random, 30)) {
        event->at_ms = self->wall + sim_below (&self->random, 800);
    }
    if (sim_has (self, SIM_TTL) && sim_one_in (&self->random, 12)) {
        event->ttl_ms = 20 + sim_below (&self->random, 4000);
    }
    if (self->keys[event->topic] > 0 && !sim_one_in (&self->random, 4)) {
        event->key = (uint8_t)(1 + sim_below (&self->random, self->keys[event->topic]));
    }
    event->user = (uint8_t)(has_users ? sim_below (&self->random, SIM_USERS) : 0);
    event->schema = (uint8_t)(sim_has (self, SIM_SCHEMA) ? sim_below (&self->random, 4) : 0);
    if (sim_has (self, SIM_BREAKER) && !sim_one_in (&self->random, 3)) {
        event->downstream = (uint8_t)sim_below (&self->random, SIM_DOWNSTREAMS);
    }
    if (sim_has (self, SIM_COMPENSATE) && sim_one_in (&self->random, 6)) {
        s_compensate (self, k);
    }
}

/* An event without a topic, which goes to each of a route's. */
static uint32_t
s_routed (world_t *self, uint32_t publisher) {
    uint32_t at = sim_below (&self->random, SIM_ROUTES);
    const sim_route_t *route = &sim_routes[at];
    uint32_t head = self->event_count;
    for (uint32_t i = 0; i < route->count; i++) {
        sim_event_t *event = &self->events[s_new (self, publisher, route->topics[i])];
        event->copies = i == 0 ? route->count : 0;
        event->group = head;
        event->route = (uint8_t)(at + 1);
        event->schema = 1;
        ledger_line_up (self, head + i);
    }
    return head;
}

/* A new event of a publisher, of one topic or of a route's. */
uint32_t
event_new (world_t *self, uint32_t publisher, uint32_t topic) {
    if (sim_has (self, SIM_ROUTED) && sim_one_in (&self->random, 8)) {
        return s_routed (self, publisher);
    }
    uint32_t k = s_new (self, publisher, topic);
    s_decorate (self, k);
    ledger_line_up (self, k);
    return k;
}

/* The id of an event that is confirmed is sent anew; SIM_NONE: there is none just now. */
uint32_t
event_again (world_t *self, uint32_t publisher) {
    uint32_t most = self->event_count < 200 ? self->event_count : 200;
    for (unsigned tries = 0; most > 0 && tries < 8; tries++) {
        uint32_t k = self->event_count - 1 - sim_below (&self->random, most);
        const sim_event_t *event = &self->events[k];
        if (event->origin == FROM_PUBLISHER && event->is_confirmed && !event->is_unsure &&
            event->again_of == SIM_NONE && event->route == 0) {
            uint32_t again = s_new (self, publisher, event->topic);
            self->events[again].again_of = k;
            self->events[again].schema = 1;
            ledger_line_up (self, again);
            return again;
        }
    }
    return SIM_NONE;
}

static uint32_t
s_pairs (const sim_event_t *event) {
    return (event->delay_ms > 0) + (event->at_ms > 0) + (event->ttl_ms > 0) + (event->key > 0) +
           (event->route > 0) + (event->on_dead != SIM_NONE) + (event->user > 0) +
           (event->downstream > 0) + (event->schema > 0);
}

static void
s_put_meta (const world_t *self, ef_buf_t *body, const sim_event_t *event) {
    if (event->key > 0) {
        char key[16];
        snprintf (key, sizeof key, "k%u", event->key);
        ef_put_key_str (body, "key", key);
    }
    if (event->user > 0) {
        ef_put_key_str (body, "user", event->user == 1 ? "u1" : event->user == 2 ? "u2" : "u3");
    }
    if (event->downstream > 0) {
        ef_put_key_str (body, "downstream", sim_downstream (event->downstream));
    }
    if (event->schema > 0) {
        ef_put_key_uint (body, "schema", event->schema);
    }
    if (event->route > 0) {
        ef_put_key_str (body, "type", sim_routes[event->route - 1].type);
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
    if (event->on_dead != SIM_NONE) {
        ef_put_str (body, "on_dead");
        event_put (self, body, event->on_dead);
    }
}

/* Event k: its payload is a number that follows from k, its id "e<k>". */
void
event_put (const world_t *self, ef_buf_t *body, uint32_t k) {
    const sim_event_t *event = &self->events[k];
    char id[16];
    uint32_t pairs = s_pairs (event);
    snprintf (id, sizeof id, "e%u", event->again_of == SIM_NONE ? k : event->again_of);
    ef_put_array (body, pairs > 0 ? 4 : 3);
    ef_put_str (body, event->route > 0 ? NULL : sim_topics[event->topic]);
    ef_put_str (body, id);
    ef_put_uint (body, (uint64_t)k * SIM_PAYLOAD);
    if (pairs > 0) {
        ef_put_map (body, pairs);
        s_put_meta (self, body, event);
    }
}
