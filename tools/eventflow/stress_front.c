/* eventflow stress by libeventflow: many events a message. SPDX-License-Identifier: MIT */
#include "stress.h"

#include <zmq.h>

/* From the publisher's thread. Every event was taken in order: ticket n + 1 is event n. */
static void
s_outcome (void *arg, uint64_t first, uint64_t count, const char *code, const char *text) {
    stress_t *self = arg;
    (void)text;
    for (uint64_t i = 0; i < count; i++) {
        stress_decide (self, first - 1 + i, code ? OUTCOME_REFUSED : OUTCOME_CONFIRMED, code);
    }
}

static int
s_open (stress_t *self) {
    eventflow_publisher_options_t options = {.endpoint = self->cli->front,
                                             .name = "eventflow-stress",
                                             .outcome = s_outcome,
                                             .arg = self};
    self->link = eventflow_publisher_new (&options);
    return self->link ? CLI_OK : cli_fail (CLI_FAILED, "can't start a thread");
}

static bool
s_send (stress_t *self, uint64_t n) {
    char id[64];
    ef_buf_t meta = {0};
    const char *type = stress_type (self, n);
    stress_id (self, n, id);
    stress_payload (self, n);
    if (type) {
        ef_put_map (&meta, 1);
        ef_put_key_str (&meta, "type", type);
    }
    eventflow_bytes_t pairs = {meta.data, meta.size};
    int rc = eventflow_publish (self->link, self->topic, id,
                                (eventflow_bytes_t){self->payload.data, self->payload.size},
                                type ? &pairs : NULL, 0, NULL);
    ef_buf_free (&meta);
    ef_assert (rc == EVENTFLOW_OK || rc == EVENTFLOW_FULL); /* names and sizes were judged */
    return rc == EVENTFLOW_OK;
}

static void
s_step (stress_t *self, int wait_ms) {
    (void)self;
    (void)zmq_poll (NULL, 0, wait_ms);
}

static void
s_close (stress_t *self) {
    eventflow_publisher_t *publisher = self->link;
    eventflow_publisher_destroy (&publisher);
    self->link = NULL;
}

const stress_sender_t stress_front = {"front", s_open, s_send, s_step, s_close};
