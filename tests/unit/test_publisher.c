/* The publisher beside a front of the test's own: what goes in one message, and when.
   SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../proto/event.h"
#include "../../proto/limits.h"
#include "eventflow.h"

#include <stdio.h>
#include <time.h>
#include <zmq.h>

#define NEVER_US 60000000u /* a linger that no test waits for */

typedef struct {
    void *context;
    void *socket; /* ROUTER */
    char endpoint[100];
    zmq_msg_t peer; /* its routing id, once it has said HELLO */
    eventflow_publisher_t *publisher;
    uint64_t seq; /* of the last message */
} front_t;

static void
s_receive (front_t *self, zmq_msg_t *header, zmq_msg_t *body) {
    zmq_pollitem_t item = {self->socket, 0, ZMQ_POLLIN, 0};
    assert_int_equal (zmq_poll (&item, 1, 60000), 1);
    assert_true (zmq_msg_recv (&self->peer, self->socket, 0) >= 0);
    assert_true (zmq_msg_recv (header, self->socket, 0) >= 0);
    if (zmq_msg_more (header)) {
        assert_true (zmq_msg_recv (body, self->socket, 0) >= 0);
    }
}

static void
s_say (front_t *self, const ef_buf_t *header) {
    assert_true (zmq_send (self->socket, zmq_msg_data (&self->peer), zmq_msg_size (&self->peer),
                           ZMQ_SNDMORE) >= 0);
    assert_true (zmq_send (self->socket, header->data, header->size, 0) >= 0);
}

/* How many events the next PUBLISH holds; what else comes is passed over. */
static uint32_t
s_next (front_t *self) {
    uint32_t count = 0;
    while (count == 0) {
        zmq_msg_t header;
        zmq_msg_t body;
        ef_span_t word;
        uint32_t items;
        zmq_msg_init (&header);
        zmq_msg_init (&body);
        s_receive (self, &header, &body);
        ef_cursor_t cursor = ef_cursor (zmq_msg_data (&header), zmq_msg_size (&header));
        assert_int_equal (ef_get_array (&cursor, &items), 0);
        assert_int_equal (ef_get_str (&cursor, &word), 0);
        if (ef_span_is (word, "PUBLISH")) {
            uint64_t seq;
            assert_int_equal (ef_get_uint (&cursor, &seq), 0);
            assert_int_equal (seq, self->seq + 1);
            self->seq = seq;
            cursor = ef_cursor (zmq_msg_data (&body), zmq_msg_size (&body));
            for (; ef_cursor_left (&cursor) > 0; count++) {
                assert_int_equal (ef_skip (&cursor), 0);
            }
        }
        zmq_msg_close (&header);
        zmq_msg_close (&body);
    }
    return count;
}

static void
s_start (front_t *self, const eventflow_publisher_options_t *said) {
    size_t size = sizeof self->endpoint;
    zmq_msg_t header;
    zmq_msg_t body;
    ef_buf_t welcome = {0};
    memset (self, 0, sizeof *self);
    zmq_msg_init (&self->peer);
    self->context = zmq_ctx_new ();
    self->socket = zmq_socket (self->context, ZMQ_ROUTER);
    assert_int_equal (zmq_bind (self->socket, "tcp://127.0.0.1:*"), 0);
    assert_int_equal (zmq_getsockopt (self->socket, ZMQ_LAST_ENDPOINT, self->endpoint, &size), 0);
    eventflow_publisher_options_t options = *said;
    options.endpoint = self->endpoint;
    self->publisher = eventflow_publisher_new (&options);
    assert_non_null (self->publisher);
    zmq_msg_init (&header);
    zmq_msg_init (&body);
    s_receive (self, &header, &body); /* HELLO */
    zmq_msg_close (&header);
    zmq_msg_close (&body);
    ef_put_array (&welcome, 3);
    ef_put_str (&welcome, "WELCOME");
    ef_put_uint (&welcome, EF_PROTOCOL_VERSION);
    ef_put_map (&welcome, 3);
    ef_put_key_uint (&welcome, "last", 0);
    ef_put_key_uint (&welcome, "window", 1u << 20);
    ef_put_key_uint (&welcome, "heartbeat", 60000);
    s_say (self, &welcome);
    ef_buf_free (&welcome);
}

static void
s_end (front_t *self) {
    int linger = 0;
    eventflow_publisher_destroy (&self->publisher);
    zmq_msg_close (&self->peer);
    zmq_setsockopt (self->socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_close (self->socket);
    zmq_ctx_term (self->context);
}

static void
s_publish (front_t *self, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        const eventflow_bytes_t payload = {"\x01", 1};
        assert_int_equal (
            eventflow_publish (self->publisher, "email", NULL, payload, NULL, 0, NULL),
            EVENTFLOW_OK);
    }
}

static void
s_confirm (front_t *self, uint64_t seq) {
    ef_buf_t header = {0};
    ef_put_array (&header, 3);
    ef_put_str (&header, "CONFIRM");
    ef_put_uint (&header, seq);
    ef_put_map (&header, 2);
    ef_put_key_uint (&header, "accepted", 1);
    ef_put_key_uint (&header, "window", 4096);
    s_say (self, &header);
    ef_buf_free (&header);
}

/* What is gathered goes once it is half as much as what is unconfirmed. */
static void
test_publisher_groups_grow_with_what_is_unconfirmed (void **state) {
    (void)state;
    const eventflow_publisher_options_t options = {.linger_us = NEVER_US};
    front_t front;
    s_start (&front, &options);
    s_publish (&front, 1);
    assert_int_equal (s_next (&front), 1); /* nothing else was under way */
    s_publish (&front, 1);
    assert_int_equal (s_next (&front), 1);
    s_publish (&front, 1);
    assert_int_equal (s_next (&front), 1);
    s_publish (&front, 1); /* beside 3: it waits */
    s_publish (&front, 1);
    assert_int_equal (s_next (&front), 2);
    s_publish (&front, 2); /* beside 5: they wait, until only 2 are unconfirmed */
    s_confirm (&front, 3);
    assert_int_equal (s_next (&front), 2);
    s_end (&front);
}

/* What lingers goes by itself, though nobody wakes the thread for it. */
static void
test_publisher_nothing_lingers_for_ever (void **state) {
    (void)state;
    const eventflow_publisher_options_t options = {.linger_us = 20000};
    front_t front;
    s_start (&front, &options);
    s_publish (&front, 1);
    assert_int_equal (s_next (&front), 1);
    for (unsigned i = 0; i < 20; i++) { /* too little to go beside the others */
        s_publish (&front, 1);
        assert_int_equal (s_next (&front), 1);
    }
    s_end (&front);
}

/* However the thread and its callers interleave: what is flushed goes, and where the thread had a
   part of the burst already, the rest lingers at the most. */
static void
test_publisher_a_burst_goes_when_it_is_flushed (void **state) {
    (void)state;
    const eventflow_publisher_options_t options = {.linger_us = 1000, .waits_for_flush = true};
    front_t front;
    s_start (&front, &options);
    eventflow_publisher_flush (front.publisher); /* nothing is there */
    for (unsigned burst = 1; burst <= 64; burst *= 2) {
        uint32_t got = 0;
        s_publish (&front, burst);
        eventflow_publisher_flush (front.publisher);
        while (got < burst) {
            got += s_next (&front);
        }
        assert_int_equal (got, burst);
        s_confirm (&front, front.seq);
    }
    s_end (&front);
}

/* What the process used of a processor in `ms`. */
static uint64_t
s_cpu_ms (int ms) {
    struct timespec before;
    struct timespec after;
    clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &before);
    (void)zmq_poll (NULL, 0, ms);
    clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &after);
    return (uint64_t)((after.tv_sec - before.tv_sec) * 1000 +
                      (after.tv_nsec - before.tv_nsec) / 1000000);
}

/* A broker that takes nothing: what can't be sent is tried again, with sleep between. */
static void
test_publisher_sleeps_beside_a_full_pipe (void **state) {
    (void)state;
    enum { MESSAGES = 60000 }; /* more than two queues and the system's buffers hold */
    static const uint8_t payload[1000];
    ef_buf_t event = {0};
    ef_put_array (&event, 3);
    ef_put_str (&event, "email");
    ef_put_nil (&event);
    ef_put_bin (&event, payload, sizeof payload);
    const eventflow_bytes_t bytes = {event.data, event.size};
    const eventflow_publisher_options_t options = {.outbox_bytes = 256u << 20};
    eventflow_publisher_stats_t stats = {0};
    uint64_t sent = 1;
    front_t front;
    s_start (&front, &options);
    for (unsigned i = 0; i < MESSAGES; i++) {
        assert_int_equal (eventflow_publish_atomic (front.publisher, bytes, 0, NULL), EVENTFLOW_OK);
    }
    while (stats.messages != sent) { /* until no more goes */
        sent = stats.messages;
        (void)s_cpu_ms (300);
        eventflow_publisher_stats (front.publisher, &stats);
    }
    assert_in_range (sent, 1, MESSAGES - 1);
    assert_in_range (s_cpu_ms (1000), 0, 500);
    ef_buf_free (&event);
    s_end (&front);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_publisher_groups_grow_with_what_is_unconfirmed),
        cmocka_unit_test (test_publisher_nothing_lingers_for_ever),
        cmocka_unit_test (test_publisher_a_burst_goes_when_it_is_flushed),
        cmocka_unit_test (test_publisher_sleeps_beside_a_full_pipe),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
