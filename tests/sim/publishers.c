/* Publishers of the simulated world: they speak the protocol and make mistakes.
   SPDX-License-Identifier: MIT */
#include "world.h"

static void
s_send_publish (world_t *self, publisher_t *publisher, uint32_t place) {
    ef_buf_t header = {0};
    ef_buf_t body = {0};
    ef_put_array (&header, 3);
    ef_put_str (&header, "PUBLISH");
    ef_put_uint (&header, publisher->sent[place].seq);
    ef_put_map (&header, 1);
    ef_put_key_bool (&header, "atomic", publisher->sent[place].atomic);
    for (uint32_t i = 0; i < publisher->sent[place].count; i++) {
        event_put (self, &body, publisher->sent[place].events[i]);
    }
    wire_send (self, publisher->wire, header, body);
}

static void
s_hello (world_t *self, publisher_t *publisher, uint32_t index) {
    publisher->wire = wire_open (self, KIND_PUBLISHER, index);
    if (publisher->wire == UINT32_MAX) {
        return;
    }
    ef_buf_t header = {0};
    ef_put_array (&header, 3);
    ef_put_str (&header, "HELLO");
    ef_put_uint (&header, 1);
    ef_put_map (&header, 2);
    ef_put_str (&header, "session");
    ef_put_bin (&header, publisher->session, 16);
    ef_put_key_uint (&header, "heard", publisher->heard);
    publisher->is_welcome = false;
    publisher->hello_ms = self->now;
    wire_send (self, publisher->wire, header, (ef_buf_t){0});
}

void
publisher_step (world_t *self, uint32_t index) {
    publisher_t *publisher = &self->publishers[index];
    if (publisher->wire == UINT32_MAX) {
        s_hello (self, publisher, index);
        return;
    }
    if (!publisher->is_welcome) {
        if (self->now - publisher->hello_ms > 5000) {
            wire_cut (self, publisher->wire);
        }
        return;
    }
    if (!self->is_quiet && sim_one_in (&self->random, 60)) {
        wire_cut (self, publisher->wire);
        return;
    }
    if (!self->is_quiet && publisher->sent_count > 0 && sim_one_in (&self->random, 30)) {
        /* Says it again although it may have arrived. */
        s_send_publish (self, publisher, sim_below (&self->random, publisher->sent_count));
        return;
    }
    if (self->is_quiet || publisher->sent_count == 256) {
        return;
    }
    uint32_t count = sim_one_in (&self->random, 3) ? 1 : 1 + sim_below (&self->random, 12);
    if (self->event_count + count > SIM_EVENTS) {
        return;
    }
    uint32_t place = publisher->sent_count++;
    publisher->sent[place].seq = publisher->next_seq++;
    publisher->sent[place].count = count;
    publisher->sent[place].atomic = sim_one_in (&self->random, 4);
    uint32_t topic = sim_below (&self->random, SIM_TOPICS);
    for (uint32_t i = 0; i < count; i++) {
        topic = sim_one_in (&self->random, 5) ? sim_below (&self->random, SIM_TOPICS) : topic;
        uint32_t k = event_new (self, index, topic);
        publisher->sent[place].events[i] = k;
        if (publisher->sent[place].atomic) {
            self->events[k].group = publisher->sent[place].events[0];
        }
    }
    s_send_publish (self, publisher, place);
}

/* Marks what a refused item names. Returns how many events it is, and in `*again` whether the
   publisher is to send them under a new seq. */
static void
s_refused (world_t *self, publisher_t *publisher, ef_cursor_t *cursor, uint64_t *refused) {
    uint32_t fields;
    uint64_t seq;
    uint64_t first;
    uint64_t last;
    ef_span_t code;
    if (ef_get_array (cursor, &fields) || fields != 4 || ef_get_uint (cursor, &seq)) {
        sim_fail (self, "a refused item that isn't [seq, index, code, text]");
    }
    uint32_t place = 0;
    while (place < publisher->sent_count && publisher->sent[place].seq != seq) {
        place++;
    }
    if (place == publisher->sent_count) {
        sim_fail (self, "a refusal for seq %llu, which isn't waiting", (unsigned long long)seq);
    }
    uint32_t count = publisher->sent[place].count;
    uint32_t pair;
    if (ef_get_nil (cursor) == 0) {
        first = 0;
        last = count - 1;
    } else if (ef_get_uint (cursor, &first) == 0) {
        last = first;
    } else if (ef_get_array (cursor, &pair) || ef_get_uint (cursor, &first) ||
               ef_get_uint (cursor, &last)) {
        sim_fail (self, "an index that is no int, pair or nil");
    }
    if (ef_get_str (cursor, &code) || ef_skip (cursor) || last >= count) {
        sim_fail (self, "a refused item without code and text");
    }
    for (uint64_t i = first; i <= last; i++) {
        sim_event_t *event = &self->events[publisher->sent[place].events[i]];
        *refused += !event->is_refused;
        event->is_refused = true;
    }
}

/* All events of an atomic PUBLISH are accepted, or none. */
static void
s_judge_atomic (world_t *self, const publisher_t *publisher, uint32_t place) {
    uint32_t refused = 0;
    for (uint32_t i = 0; i < publisher->sent[place].count; i++) {
        refused += self->events[publisher->sent[place].events[i]].is_refused;
    }
    if (publisher->sent[place].atomic && refused > 0 && refused < publisher->sent[place].count) {
        sim_fail (self, "seq %llu is atomic, and %u of its %u events were refused",
                  (unsigned long long)publisher->sent[place].seq, refused,
                  publisher->sent[place].count);
    }
}

static void
s_confirm (world_t *self, publisher_t *publisher, ef_cursor_t *cursor) {
    uint64_t seq;
    uint32_t pairs;
    uint64_t accepted = 0;
    uint64_t refused = 0;
    if (ef_get_uint (cursor, &seq) || ef_get_map (cursor, &pairs)) {
        sim_fail (self, "a CONFIRM that can't be read");
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        uint32_t items;
        int rc = ef_get_str (cursor, &key);
        if (rc == 0 && ef_span_is (key, "accepted")) {
            rc = ef_get_uint (cursor, &accepted);
        } else if (rc == 0 && ef_span_is (key, "refused") && seq > publisher->heard) {
            rc = ef_get_array (cursor, &items);
            for (uint32_t k = 0; rc == 0 && k < items; k++) {
                s_refused (self, publisher, cursor, &refused);
            }
        } else if (rc == 0) {
            rc = ef_skip (cursor);
        }
        if (rc) {
            sim_fail (self, "a CONFIRM whose map can't be read");
        }
    }
    if (seq <= publisher->heard) {
        return; /* said again because it was asked again */
    }
    uint64_t events = 0;
    uint32_t done = 0;
    while (done < publisher->sent_count && publisher->sent[done].seq <= seq) {
        for (uint32_t i = 0; i < publisher->sent[done].count; i++) {
            sim_event_t *event = &self->events[publisher->sent[done].events[i]];
            event->is_confirmed = !event->is_refused;
            event->accepted_by = event->accepted_by < self->wall ? event->accepted_by : self->wall;
            events++;
        }
        s_judge_atomic (self, publisher, done++);
    }
    if (events != accepted + refused) {
        sim_fail (self, "CONFIRM %llu: %llu accepted and %llu refused are not the %llu sent",
                  (unsigned long long)seq, (unsigned long long)accepted,
                  (unsigned long long)refused, (unsigned long long)events);
    }
    publisher->confirms++;
    publisher->heard = seq;
    publisher->sent_count -= done;
    memmove (publisher->sent, publisher->sent + done,
             publisher->sent_count * sizeof publisher->sent[0]);
}

static uint64_t
s_welcome_last (world_t *self, ef_cursor_t *cursor) {
    uint32_t pairs;
    uint64_t last = UINT64_MAX;
    if (ef_skip (cursor) || ef_get_map (cursor, &pairs)) {
        sim_fail (self, "a WELCOME that can't be read");
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        if (ef_get_str (cursor, &key) ||
            (ef_span_is (key, "last") ? ef_get_uint (cursor, &last) : ef_skip (cursor))) {
            sim_fail (self, "a WELCOME that can't be read");
        }
    }
    return last;
}

void
publisher_receive (world_t *self, uint32_t index) {
    publisher_t *publisher = &self->publishers[index];
    message_t *message;
    while (publisher->wire != UINT32_MAX &&
           (message = wire_receive (self, publisher->wire)) != NULL) {
        ef_cursor_t cursor = ef_cursor (message->header.data, message->header.size);
        uint32_t items;
        ef_span_t command;
        if (ef_get_array (&cursor, &items) || ef_get_str (&cursor, &command)) {
            sim_fail (self, "a publisher got a header that can't be read");
        }
        if (ef_span_is (command, "WELCOME")) {
            uint64_t last = s_welcome_last (self, &cursor);
            publisher->is_welcome = true;
            for (uint32_t i = 0; i < publisher->sent_count; i++) {
                if (publisher->sent[i].seq > last) {
                    s_send_publish (self, publisher, i);
                }
            }
        } else if (ef_span_is (command, "CONFIRM")) {
            s_confirm (self, publisher, &cursor);
        } else if (ef_span_is (command, "PING")) {
            wire_say (self, publisher->wire, "PONG");
        } else if (ef_span_is (command, "ERROR")) {
            wire_cut (self, publisher->wire); /* a gap after a lost resend: begin again */
        }
        message_free (&message);
    }
}
