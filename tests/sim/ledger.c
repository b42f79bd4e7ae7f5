/* The ledger. SPDX-License-Identifier: MIT */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>

uint32_t
ledger_new (world_t *self, sim_origin_t origin, uint32_t topic) {
    ef_assert (self->event_count < SIM_EVENTS && topic < SIM_TOPICS);
    uint32_t k = self->event_count++;
    self->events[k] = (sim_event_t){.topic = (uint8_t)topic,
                                    .origin = (uint8_t)origin,
                                    .publisher = SIM_PUBLISHERS,
                                    .copies = 1,
                                    .again_of = SIM_NONE,
                                    .parent = SIM_NONE,
                                    .group = SIM_NONE,
                                    .on_dead = SIM_NONE,
                                    .copy_done = SIM_NONE,
                                    .copy_dead = SIM_NONE,
                                    .acked_group = SIM_NONE,
                                    .sent_wall = self->wall,
                                    .sent_ms = self->now,
                                    .accepted_by = UINT64_MAX};
    return k;
}

void
ledger_free (world_t *self) {
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        for (uint32_t lane = 0; lane < SIM_LANES; lane++) {
            free (self->lanes[i][lane].events);
        }
    }
    free (self->events);
}

void
ledger_line_up (world_t *self, uint32_t k) {
    sim_event_t *event = &self->events[k];
    bool is_ordered = self->topics[event->topic].order == EF_ORDER_TOPIC;
    self->subjects[event->topic][ledger_subject (self, event)]++;
    event->lane = is_ordered ? 1 : event->key;
    sim_lane_t *lane = &self->lanes[event->topic][event->lane];
    if (event->lane == 0) {
        return;
    }
    if (lane->count == lane->capacity) {
        lane->holder = lane->count > 0 ? lane->holder : SIM_NONE;
        lane->capacity = lane->capacity ? 2 * lane->capacity : 64;
        lane->events = realloc (lane->events, lane->capacity * sizeof *lane->events);
        ef_assert (lane->events != NULL);
    }
    lane->events[lane->count++] = k;
}

/* Of a copy that was made at an end: which end it was and in which topic. False: it is none. */
static bool
s_read_ended (const ef_event_t *event, ef_span_t *topic, bool *is_done) {
    ef_cursor_t cursor = ef_cursor (event->meta.data, event->meta.size);
    uint32_t pairs = 0;
    ef_span_t key;
    ef_span_t state = {NULL, 0};
    int rc = event->meta.data ? ef_get_map (&cursor, &pairs) : -1;
    bool is_inside = false;
    for (uint32_t i = 0; rc == 0 && i < pairs; i++) {
        rc = ef_get_str (&cursor, &key);
        if (rc == 0 && !is_inside && ef_span_is (key, "ended")) {
            is_inside = true;
            i = UINT32_MAX; /* on with the pairs in it */
            rc = ef_get_map (&cursor, &pairs);
        } else if (rc == 0 && is_inside && ef_span_is (key, "topic")) {
            rc = ef_get_str (&cursor, topic);
        } else if (rc == 0 && is_inside && ef_span_is (key, "state")) {
            rc = ef_get_str (&cursor, &state);
        } else if (rc == 0) {
            rc = ef_skip (&cursor);
        }
    }
    *is_done = ef_span_is (state, "done");
    return rc == 0 && is_inside;
}

/* What a topic got because an event of another one ended; noted when it is seen first. */
static uint32_t
s_find_copy (world_t *self, uint32_t k, ef_span_t topic, bool is_done) {
    const ef_topic_config_t *config = &self->topics[self->events[k].topic];
    uint32_t at = 0;
    if (!ef_span_is (topic, is_done ? config->on_done : config->on_dead)) {
        return SIM_NONE;
    }
    while (!ef_span_is (topic, sim_topics[at])) {
        at++;
    }
    uint32_t *copy = is_done ? &self->events[k].copy_done : &self->events[k].copy_dead;
    if (*copy == SIM_NONE) {
        *copy = ledger_new (self, is_done ? FROM_DONE : FROM_DEAD, at);
        sim_event_t *event = &self->events[*copy];
        event->parent = k;
        event->key = self->events[k].key; /* what says whose it is goes with it */
        event->user = self->events[k].user;
        event->schema = self->events[k].schema;
        event->sent_wall = self->events[k].sent_wall; /* no earlier than that */
        event->sent_ms = self->events[k].sent_ms;
        ledger_line_up (self, *copy);
    }
    return *copy;
}

static bool
s_bears_id (const world_t *self, uint32_t head, ef_span_t id) {
    char text[EF_ID_MAX + 1];
    char wanted[16];
    uint32_t again = self->events[head].again_of;
    snprintf (wanted, sizeof wanted, "e%u", again == SIM_NONE ? head : again);
    ef_span_copy (id, text, sizeof text);
    return strcmp (text, wanted) == 0;
}

uint32_t
ledger_find (world_t *self, const ef_event_t *event) {
    uint64_t payload = 0;
    ef_cursor_t inner = ef_cursor (event->payload.data, event->payload.size);
    if (ef_get_uint (&inner, &payload) || payload % SIM_PAYLOAD ||
        payload / SIM_PAYLOAD >= self->event_count) {
        return SIM_NONE;
    }
    uint32_t head = (uint32_t)(payload / SIM_PAYLOAD);
    if (!s_bears_id (self, head, event->id)) {
        return SIM_NONE;
    }
    ef_span_t ended;
    bool is_done;
    bool is_copy = s_read_ended (event, &ended, &is_done);
    for (uint32_t i = 0; i < self->events[head].copies; i++) {
        if (ef_span_is (is_copy ? ended : event->topic, sim_topics[self->events[head + i].topic])) {
            return is_copy ? s_find_copy (self, head + i, event->topic, is_done) : head + i;
        }
    }
    return SIM_NONE;
}

static void
s_read_info (world_t *self, ef_cursor_t *cursor, delivery_t *delivery) {
    uint32_t pairs;
    int rc = ef_get_map (cursor, &pairs);
    for (uint32_t i = 0; rc == 0 && i < pairs; i++) {
        ef_span_t key;
        rc = ef_get_str (cursor, &key);
        if (rc == 0) {
            rc = ef_span_is (key, "n") ? ef_get_uint (cursor, &delivery->n) : ef_skip (cursor);
        }
    }
    if (rc) {
        sim_fail (self, "a delivery whose info can't be read");
    }
}

void
ledger_read (world_t *self, ef_cursor_t *cursor, delivery_t *delivery) {
    uint32_t fields;
    ef_event_t event;
    const char *why;
    *delivery = (delivery_t){.n = 0};
    if (ef_get_array (cursor, &fields) || fields < 3 || ef_get_uint (cursor, &delivery->tag) ||
        ef_get_uint (cursor, &delivery->attempt) || ef_event_read (cursor, &event, &why) != EF_OK) {
        sim_fail (self, "a delivery that can't be read");
    }
    if (fields == 4) {
        s_read_info (self, cursor, delivery);
    }
    delivery->event = ledger_find (self, &event);
    if (delivery->event == SIM_NONE) {
        sim_fail (self, "an event that nobody sent: %.*s", (int)event.id.size, event.id.data);
    }
}

/* A PUBLISH comes to the core: its events are accepted in the order in which that happens. */
void
ledger_handed_publish (world_t *self, uint32_t publisher, const ef_buf_t *header) {
    const publisher_t *sender = &self->publishers[publisher];
    ef_cursor_t cursor = ef_cursor (header->data, header->size);
    uint32_t items;
    uint64_t seq;
    ef_span_t command;
    if (ef_get_array (&cursor, &items) || ef_get_str (&cursor, &command) ||
        !ef_span_is (command, "PUBLISH") || ef_get_uint (&cursor, &seq)) {
        return;
    }
    for (uint32_t i = 0; i < sender->sent_count; i++) {
        for (uint32_t e = 0; sender->sent[i].seq == seq && e < sender->sent[i].count; e++) {
            sim_event_t *event = &self->events[sender->sent[i].events[e]];
            for (uint32_t copy = 0; copy < event->copies; copy++) {
                event[copy].handed_last = ++self->handed;
                event[copy].handed_last_wall = self->wall;
                if (event[copy].handed_first == 0) {
                    event[copy].handed_first = self->handed;
                    event[copy].handed_first_wall = self->wall;
                }
            }
        }
    }
}

/* Only one connection of a worker is known to the core: a late READY of an older one may win. */
static bool
s_is_alone (const world_t *self, const sim_event_t *event) {
    bool is_alone = true;
    for (uint32_t i = 0; i < SIM_PEERS && is_alone; i++) {
        const wire_t *wire = &self->wires[i];
        is_alone = wire->kind != KIND_WORKER || wire->owner + 1 != event->holder ||
                   i == event->wire || wire->is_forgotten;
    }
    return is_alone;
}

/* The connection that it went out on is the one by which the core knows its worker. */
bool
ledger_is_reachable (const world_t *self, const sim_event_t *event) {
    const wire_t *wire = &self->wires[event->wire];
    return event->holder > 0 && event->life == self->life && wire->life == event->wire_life &&
           !wire->is_cut && !wire->is_forgotten && self->now - wire->heard_ms <= SIM_ALIVE_MS &&
           s_is_alone (self, event);
}

/* The lease can't have ended by what the broker knows; an answer may. */
static bool
s_is_open (const world_t *self, const sim_event_t *event) {
    return self->now < event->until_ms && ledger_is_reachable (self, event);
}

bool
ledger_holds (const world_t *self, const sim_event_t *event) {
    return event->said == 0 && ledger_repeats (self, event) == 0 && s_is_open (self, event);
}

static uint32_t
s_find_tag (const world_t *self, uint64_t tag) {
    uint32_t place = (uint32_t)(tag % SIM_TAGS);
    return self->tags[place].tag == tag ? self->tags[place].event : SIM_NONE;
}

/* A NACK that names a downstream whose breaker is open isn't counted, unless it was a probe; that
   is certain only where an operator opened it and the event had nothing to do with it. */
static void
s_heard_told (const world_t *self, sim_event_t *event) {
    bool is_shut = self->is_shut[event->topic][event->told];
    bool is_stranger = event->downstream != event->told && !event->was_tied;
    event->expect = is_shut && is_stranger ? EXPECT_SAME : EXPECT_ANY;
    event->tie = is_shut && is_stranger ? event->told : 0;
}

/* The first answer under a tag whose lease is open counts, whatever it says. */
static void
s_heard (const world_t *self, sim_event_t *event, ef_span_t command) {
    bool is_watched = self->topics[event->topic].breaker.ratio > 0 && event->told > 0;
    if (ef_span_is (command, "ACK")) {
        event->expect = event->said & SAID_EMIT ? EXPECT_ANY : EXPECT_NONE; /* it may be refused */
    } else if (event->said & SAID_RELEASE) {
        event->expect = EXPECT_SAME;
    } else if (is_watched) {
        s_heard_told (self, event);
    } else {
        event->expect = event->said & SAID_DEAD ? EXPECT_NONE : EXPECT_MORE;
        bool may_be_parked =
            event->lane > 0 && self->topics[event->topic].on_blocked == EF_BLOCKED_PARK;
        event->not_before_ms = may_be_parked ? 0 : self->now + event->said_wait_ms;
    }
    if (event->expect == EXPECT_MORE) {
        event->back_wall = self->wall;
        event->back_ms = self->now;
    }
    event->is_heard = true;
}

/* EXTEND: from now on it lasts so much longer, in total as long as the topic allows; less than it
   would have where it is heard on a connection that is gone from here, more only where it isn't. */
static void
s_extended (sim_event_t *event, uint64_t until, bool is_open) {
    event->until_ms = is_open || until < event->until_ms ? until : event->until_ms;
}

static void
s_handed_tag (world_t *self, uint32_t peer, uint64_t tag, ef_span_t command, uint64_t extend_ms) {
    uint32_t k = s_find_tag (self, tag);
    sim_event_t *event = k == SIM_NONE ? NULL : &self->events[k];
    if (event == NULL || event->tag != tag) {
        return;
    }
    bool is_open = event->wire == peer && !event->is_heard && s_is_open (self, event);
    if (ef_span_is (command, "EXTEND")) {
        uint64_t most = event->begun_ms + self->topics[event->topic].lease_total_ms;
        uint64_t until = self->now + extend_ms;
        s_extended (event, until < most ? until : most, is_open);
    } else if (is_open) {
        s_heard (self, event, command);
    }
}

void
ledger_handed_answer (world_t *self, uint32_t peer, const ef_buf_t *header) {
    ef_cursor_t cursor = ef_cursor (header->data, header->size);
    uint32_t items;
    uint32_t tags;
    uint64_t ms = 0;
    ef_span_t command;
    if (ef_get_array (&cursor, &items) || ef_get_str (&cursor, &command) || items < 2 ||
        ef_get_array (&cursor, &tags)) {
        return; /* no tags */
    }
    ef_cursor_t behind = cursor;
    for (uint32_t i = 0; i < tags; i++) {
        int rc = ef_skip (&behind);
        ef_assert (rc == 0);
    }
    int rc = ef_span_is (command, "EXTEND") ? ef_get_uint (&behind, &ms) : 0;
    for (uint32_t i = 0; rc == 0 && i < tags; i++) {
        uint64_t tag;
        rc = ef_get_uint (&cursor, &tag);
        s_handed_tag (self, peer, tag, command, ms);
    }
    ef_assert (rc == 0);
}

uint32_t
ledger_subject (const world_t *self, const sim_event_t *event) {
    ef_by_t by = self->topics[event->topic].quota.by;
    return by == EF_BY_USER ? event->user : by == EF_BY_KEY ? event->key : 0;
}

static void
s_note_unit (world_t *self, uint32_t k) {
    sim_event_t *event = &self->events[k];
    sim_units_t *units = &self->units[event->topic][ledger_subject (self, event)];
    if (self->topics[event->topic].quota.limit > 0) {
        event->unit_wall = oracle_unit_wall (self, event);
        units->events[units->count++ % SIM_UNITS] = k;
    }
}

static void
s_dispatched (world_t *self, uint32_t peer, const delivery_t *delivery) {
    const wire_t *wire = &self->wires[peer];
    sim_event_t *event = &self->events[delivery->event];
    event->holder = (uint8_t)(wire->owner + 1);
    event->said = event->told = 0;
    event->expect = EXPECT_ANY;
    event->unparks = self->unparks[event->topic];
    event->is_cancelled = false;
    event->is_suspect = event->is_suspect && !event->is_tried_alone;
    event->is_tried_alone = event->is_suspect;
    if (event->life != self->life) {
        event->tie = 0; /* a restart unties */
        event->may_be_tied = false;
    }
    event->is_heard = event->was_returned = false;
    event->life = self->life;
    event->wire = peer;
    event->wire_life = wire->life;
    event->attempt = (uint32_t)delivery->attempt;
    event->tag = delivery->tag;
    event->n = delivery->n ? delivery->n : event->n;
    event->begun_ms = self->now;
    event->begun_away_ms = self->away_ms;
    event->until_ms = self->now + self->topics[event->topic].lease_ms;
    event->not_before_ms = 0;
    event->accepted_by = event->accepted_by < self->wall ? event->accepted_by : self->wall;
    event->deliveries++;
    event->may_be_used_up =
        event->may_be_used_up || event->attempt >= self->topics[event->topic].retry.attempts;
    event->may_die = event->may_die || event->may_be_used_up;
    self->highest_tag = delivery->tag;
    self->tags[delivery->tag % SIM_TAGS].tag = delivery->tag;
    self->tags[delivery->tag % SIM_TAGS].event = delivery->event;
    s_note_unit (self, delivery->event);
    if (event->lane) {
        self->lanes[event->topic][event->lane].holder = delivery->event;
    }
}

/* The core sends events to a worker: each is judged, then noted. */
void
ledger_dispatch (world_t *self, uint32_t peer, const ef_buf_t *body) {
    ef_cursor_t cursor = ef_cursor (body->data, body->size);
    while (ef_cursor_left (&cursor) > 0) {
        delivery_t delivery;
        ledger_read (self, &cursor, &delivery);
        sim_trace (self, "e%u of %s goes out by tag %llu, attempt %llu, to worker %u",
                   delivery.event, sim_topics[self->events[delivery.event].topic],
                   (unsigned long long)delivery.tag, (unsigned long long)delivery.attempt,
                   self->wires[peer].owner);
        oracle_attempt (self, &delivery);
        oracle_time (self, delivery.event);
        oracle_holder (self, delivery.event, peer);
        oracle_order (self, delivery.event);
        oracle_alone (self, delivery.event, peer);
        oracle_parked (self, &delivery);
        oracle_breaker (self, delivery.event);
        oracle_quota (self, delivery.event);
        oracle_rate (self, delivery.event);
        oracle_again (self, &delivery);
        s_dispatched (self, peer, &delivery);
    }
}

void
ledger_cancelled (world_t *self, const ef_buf_t *header) {
    ef_cursor_t cursor = ef_cursor (header->data, header->size);
    uint32_t items;
    uint32_t count;
    ef_span_t command;
    int rc = ef_get_array (&cursor, &items) || ef_get_str (&cursor, &command) ||
             ef_get_array (&cursor, &count);
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        uint64_t first;
        uint64_t last;
        uint32_t pair;
        rc = ef_get_uint (&cursor, &first);
        last = first;
        if (rc) {
            rc = ef_get_array (&cursor, &pair) || ef_get_uint (&cursor, &first) ||
                 ef_get_uint (&cursor, &last);
        }
        for (uint64_t tag = first; rc == 0 && tag <= last; tag++) {
            uint32_t k = s_find_tag (self, tag);
            if (k != SIM_NONE && self->events[k].tag == tag) {
                self->events[k].is_cancelled = true;
            }
        }
    }
    if (rc) {
        sim_fail (self, "a CANCEL that can't be read");
    }
}

/* Whoever was alone with a worker that died is suspected more; the second time it is dead. */
void
ledger_died (world_t *self, const uint32_t *events, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        sim_event_t *event = &self->events[events[i]];
        event->deaths_alone = event->is_tried_alone ? event->deaths_alone + 1u : 0;
        bool is_last = event->attempt >= self->topics[event->topic].retry.attempts;
        event->expect = is_last || event->deaths_alone > 1 ? EXPECT_NONE : EXPECT_MORE;
        event->may_die = event->may_die || event->expect == EXPECT_NONE;
        event->is_suspect = true;
        event->is_tried_alone = false;
        event->holder = 0;
        sim_trace (self, "e%u is suspected, %u times alone", events[i], event->deaths_alone);
    }
}

/* The broker's process ends: what was held for certain is ready again, uncounted; what else wasn't
   durable is unknown. */
void
ledger_crashed (world_t *self) {
    for (uint32_t i = 0; i < self->event_count; i++) {
        sim_event_t *event = &self->events[i];
        bool is_held =
            event->life == self->life && event->expect == EXPECT_ANY && ledger_holds (self, event);
        event->is_suspect = event->is_suspect && event->is_tried_alone && is_held;
        event->is_tried_alone = false;
        if (event->expect == EXPECT_MORE) { /* that it failed may be forgotten */
            event->back_wall = event->back_ms = 0;
        }
        if (is_held) {
            event->expect = EXPECT_SAME;
        } else if (event->expect != EXPECT_SAME) {
            event->expect = EXPECT_ANY;
        }
    }
}

void
ledger_returned (world_t *self, const ef_span_t *bytes) {
    ef_event_t read;
    const char *why;
    ef_cursor_t cursor = ef_cursor (bytes->data, bytes->size);
    uint32_t k =
        ef_event_read (&cursor, &read, &why) == EF_OK ? ledger_find (self, &read) : SIM_NONE;
    if (k == SIM_NONE) {
        sim_fail (self, "a dead letter that nobody sent");
    }
    sim_event_t *event = &self->events[k];
    sim_trace (self, "e%u comes back from the dead", k);
    event->attempt = 0;
    event->n = event->handed_first = event->handed_last = 0;
    event->expect = EXPECT_ANY;
    event->was_returned = true;
    event->returns++;
    event->holder = 0;
    event->accepted_by = self->wall;
    event->not_before_ms = 0;
    event->is_suspect = event->is_tried_alone = false;
    event->tie = 0; /* under its new number it is tied to nothing */
    event->may_be_tied = false;
}

bool
ledger_is_live (const world_t *self, const sim_event_t *event) {
    bool is_accepted = ledger_repeats (self, event) == 0 &&
                       (event->deliveries > 0 || (event->is_confirmed && !event->is_unsure));
    bool may_be_over =
        event->ttl_ms > 0 && (self->was_set_back || self->wall > event->sent_wall + event->ttl_ms);
    may_be_over = may_be_over || self->topics[event->topic].quota.is_dead_when_over;
    bool is_open = is_accepted && !event->is_refused && event->answers == 0 && !event->is_purged;
    return is_open && ((!event->may_die && !may_be_over) || ledger_holds (self, event));
}

uint32_t
ledger_repeats (const world_t *self, const sim_event_t *event) {
    if (event->parent == SIM_NONE || event->origin == FROM_ACK) {
        return 0;
    }
    const sim_event_t *parent = &self->events[event->parent];
    return ledger_repeats (self, parent) + (event->origin == FROM_DONE ? 0 : parent->returns);
}

bool
ledger_is_seen (const sim_event_t *event) {
    return event->deliveries > 0 || event->is_dead;
}
