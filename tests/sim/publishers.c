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

/* What is atomic is there as a whole or not at all, but for what may be a duplicate. */
static void
s_bind (world_t *self, uint32_t k, uint32_t group) {
    for (uint32_t i = 0; self->events[k].again_of == SIM_NONE && i < self->events[k].copies; i++) {
        self->events[k + i].group = group;
    }
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
    if (self->is_quiet || publisher->sent_count == SIM_UNCONFIRMED) {
        return;
    }
    uint32_t count = sim_one_in (&self->random, 3) ? 1 : 1 + sim_below (&self->random, 12);
    if (self->event_count + 4 * count > SIM_EVENTS) {
        return;
    }
    uint32_t place = publisher->sent_count++;
    publisher->sent[place].seq = publisher->next_seq++;
    publisher->sent[place].count = count;
    publisher->sent[place].atomic = sim_one_in (&self->random, 4);
    uint32_t group = SIM_NONE;
    uint32_t topic = sim_below (&self->random, SIM_TOPICS);
    for (uint32_t i = 0; i < count; i++) {
        bool is_again = sim_has (self, SIM_DEDUPE) && sim_one_in (&self->random, 6);
        topic = sim_one_in (&self->random, 5) ? sim_below (&self->random, SIM_TOPICS) : topic;
        uint32_t k = is_again ? event_again (self, index) : SIM_NONE;
        k = k == SIM_NONE ? event_new (self, index, topic) : k;
        publisher->sent[place].events[i] = k;
        if (publisher->sent[place].atomic) {
            group = group == SIM_NONE && self->events[k].again_of == SIM_NONE ? k : group;
            s_bind (self, k, group);
        }
    }
    s_send_publish (self, publisher, place);
}

/* Nothing of it, none of its copies, is ever to be seen. */
static void
s_refuse (sim_event_t *event) {
    for (uint32_t i = 0; i < event->copies; i++) {
        event[i].is_refused = true;
        event[i].is_confirmed = false;
    }
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
        s_refuse (event);
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

/* An id that is sent again is a duplicate for certain while its window is open by any reckoning:
   from the first time at which the original can have been accepted to the last at which this can
   have been judged. */
static bool
s_must_be_duplicate (const world_t *self, const sim_event_t *event) {
    const sim_event_t *original = &self->events[event->again_of];
    const ef_topic_config_t *topic = &self->topics[event->topic];
    return !self->was_set_back && topic->dedupe_count >= SIM_EVENTS &&
           event->handed_last_wall - original->handed_first_wall < topic->dedupe_ms;
}

/* What was decided by one CONFIRM. */
typedef struct {
    uint64_t events;
    uint64_t fresh;                                /* under ids that were new */
    uint64_t repeated;                             /* duplicates for certain */
    uint32_t open[SIM_UNCONFIRMED * SIM_SENT_MAX]; /* the rest: duplicates or not */
    uint32_t open_count;
} decided_t;

static void
s_decide (world_t *self, decided_t *decided, uint32_t k) {
    sim_event_t *event = &self->events[k];
    decided->events++;
    if (event->is_refused) {
        return;
    }
    if (!settings_take (self, event) && event->again_of == SIM_NONE) {
        sim_fail (self, "e%u was accepted although %s doesn't take schema %u", k,
                  sim_topics[event->topic], event->schema);
    }
    for (uint32_t i = 0; i < event->copies; i++) {
        event[i].is_confirmed = true;
        event[i].accepted_by =
            event[i].accepted_by < self->wall ? event[i].accepted_by : self->wall;
    }
    if (event->again_of == SIM_NONE) {
        decided->fresh++;
    } else if (s_must_be_duplicate (self, event)) {
        decided->repeated++;
        s_refuse (event);
    } else {
        decided->open[decided->open_count++] = k;
    }
}

/* One acceptance per id in its window: new ids are all accepted, those within their window are all
   duplicates, and of the others as many as there are accepted ones left, whichever they are. */
static void
s_judge_counts (world_t *self, const decided_t *decided, uint64_t accepted, uint64_t duplicates) {
    uint64_t open = accepted - decided->fresh;
    if (accepted < decided->fresh || duplicates < decided->repeated || open > decided->open_count) {
        sim_fail (self,
                  "%llu accepted and %llu duplicates; %llu ids were new, %llu within their "
                  "window, %u neither",
                  (unsigned long long)accepted, (unsigned long long)duplicates,
                  (unsigned long long)decided->fresh, (unsigned long long)decided->repeated,
                  decided->open_count);
    }
    for (uint32_t i = 0; i < decided->open_count; i++) {
        sim_event_t *event = &self->events[decided->open[i]];
        event->is_unsure = open > 0 && open < decided->open_count;
        if (open == 0) {
            s_refuse (event);
        }
    }
}

/* Its counts; what is refused is marked as it is read. */
typedef struct {
    uint64_t accepted;
    uint64_t duplicates;
    uint64_t refused;
} counts_t;

static void
s_read_counts (world_t *self, publisher_t *publisher, ef_cursor_t *cursor, bool is_new,
               counts_t *counts) {
    uint32_t pairs;
    int rc = ef_get_map (cursor, &pairs);
    for (uint32_t i = 0; rc == 0 && i < pairs; i++) {
        ef_span_t key;
        uint32_t items;
        rc = ef_get_str (cursor, &key);
        if (rc == 0 && ef_span_is (key, "accepted")) {
            rc = ef_get_uint (cursor, &counts->accepted);
        } else if (rc == 0 && ef_span_is (key, "duplicates")) {
            rc = ef_get_uint (cursor, &counts->duplicates);
        } else if (rc == 0 && ef_span_is (key, "refused") && is_new) {
            rc = ef_get_array (cursor, &items);
            for (uint32_t k = 0; rc == 0 && k < items; k++) {
                s_refused (self, publisher, cursor, &counts->refused);
            }
        } else if (rc == 0) {
            rc = ef_skip (cursor);
        }
    }
    if (rc) {
        sim_fail (self, "a CONFIRM whose map can't be read");
    }
}

static void
s_confirm (world_t *self, publisher_t *publisher, ef_cursor_t *cursor) {
    static decided_t decided; /* large */
    counts_t counts = {.accepted = 0};
    uint64_t seq;
    if (ef_get_uint (cursor, &seq)) {
        sim_fail (self, "a CONFIRM that can't be read");
    }
    s_read_counts (self, publisher, cursor, seq > publisher->heard, &counts);
    if (seq <= publisher->heard) {
        return; /* said again because it was asked again */
    }
    decided.events = decided.fresh = decided.repeated = 0;
    decided.open_count = 0;
    uint32_t done = 0;
    while (done < publisher->sent_count && publisher->sent[done].seq <= seq) {
        s_judge_atomic (self, publisher, done);
        for (uint32_t i = 0; i < publisher->sent[done].count; i++) {
            s_decide (self, &decided, publisher->sent[done].events[i]);
        }
        done++;
    }
    if (decided.events != counts.accepted + counts.duplicates + counts.refused) {
        sim_fail (self, "CONFIRM %llu: %llu accepted, %llu duplicates, %llu refused of %llu sent",
                  (unsigned long long)seq, (unsigned long long)counts.accepted,
                  (unsigned long long)counts.duplicates, (unsigned long long)counts.refused,
                  (unsigned long long)decided.events);
    }
    s_judge_counts (self, &decided, counts.accepted, counts.duplicates);
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
