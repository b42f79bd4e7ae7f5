/* Requests to a broker's admin socket. SPDX-License-Identifier: MIT */
#include "../../proto/event.h"
#include "eventflow.h"
#include "link.h"

#include <stdio.h>
#include <stdlib.h>

struct eventflow_admin_s {
    ef_link_t link;
    zmq_msg_t frames[2];
};

eventflow_admin_t *
eventflow_admin_new (const char *endpoint) {
    eventflow_admin_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    zmq_msg_init (&self->frames[0]);
    zmq_msg_init (&self->frames[1]);
    ef_link_init (&self->link, endpoint, "EVENTFLOW_ADMIN", "tcp://127.0.0.1:5553");
    return self;
}

void
eventflow_admin_destroy (eventflow_admin_t **self_p) {
    eventflow_admin_t *self = *self_p;
    if (self) {
        zmq_msg_close (&self->frames[0]);
        zmq_msg_close (&self->frames[1]);
        int none = 0;
        if (self->link.socket) {
            zmq_setsockopt (self->link.socket, ZMQ_LINGER, &none, sizeof none);
        }
        if (self->link.socket) {
            zmq_close (self->link.socket);
            self->link.socket = NULL;
        }
        ef_link_free (&self->link);
        free (self);
        *self_p = NULL;
    }
}

static int
s_read (eventflow_admin_t *self, eventflow_bytes_t *value, char *code, char *text) {
    ef_cursor_t cursor =
        ef_cursor (zmq_msg_data (&self->frames[0]), zmq_msg_size (&self->frames[0]));
    uint32_t items;
    ef_span_t word;
    ef_span_t why = {NULL, 0};
    if (ef_get_array (&cursor, &items) || items < 2 || ef_get_str (&cursor, &word)) {
        snprintf (code, 32, "BAD_FRAME");
        snprintf (text, 512, "an answer that can't be read");
        return EVENTFLOW_REFUSED;
    }
    if (ef_span_is (word, "OK")) {
        *value = (eventflow_bytes_t){cursor.at, ef_cursor_left (&cursor)};
        return EVENTFLOW_OK;
    }
    if (ef_get_str (&cursor, &word) || ef_get_str (&cursor, &why)) {
        word.size = 0;
    }
    ef_span_copy (word, code, 32);
    ef_span_copy (why, text, 512);
    return EVENTFLOW_REFUSED;
}

int
eventflow_admin_call (eventflow_admin_t *self, eventflow_bytes_t request, int timeout_ms,
                      eventflow_bytes_t *value, char *code, char *text) {
    uint64_t now = ef_mono_ms ();
    uint64_t deadline = now + (uint64_t)timeout_ms;
    ef_buf_t header = {(uint8_t *)request.data, request.size, 0};
    (void)ef_link_open (&self->link, now); /* false: it is open already */
    int rc = ef_link_send (&self->link, &header, NULL, now);
    while (rc == 0 && now < deadline) {
        if (ef_link_receive (&self->link, self->frames, now)) {
            return s_read (self, value, code, text);
        }
        (void)ef_link_wait (&self->link, -1, (int)(deadline - now));
        now = ef_mono_ms ();
    }
    /* A late answer must not be taken for that of the next request. */
    ef_link_close (&self->link, now);
    self->link.retry_ms = 0;
    return EVENTFLOW_TIMEOUT;
}
