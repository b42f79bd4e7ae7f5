/* A DEALER connection that comes back. SPDX-License-Identifier: MIT */
#include "link.h"
#include "../../proto/event.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define BACKOFF_FIRST_MS 100
#define BACKOFF_MOST_MS  5000

void
ef_link_init (ef_link_t *self, const char *said, const char *variable, const char *otherwise) {
    memset (self, 0, sizeof *self);
    const char *endpoint = said ? said : getenv (variable);
    snprintf (self->endpoint, sizeof self->endpoint, "%s", endpoint ? endpoint : otherwise);
    self->context = zmq_ctx_new ();
    self->backoff_ms = BACKOFF_FIRST_MS;
}

static void
s_close_socket (ef_link_t *self, int linger_ms) {
    if (self->socket) {
        zmq_setsockopt (self->socket, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
        zmq_close (self->socket);
        self->socket = NULL;
    }
}

void
ef_link_free (ef_link_t *self) {
    s_close_socket (self, 500); /* a BYE or a last ACK may still go */
    zmq_ctx_term (self->context);
}

static void
s_set (void *socket, int option, int value) {
    int rc = zmq_setsockopt (socket, option, &value, sizeof value);
    ef_assert (rc == 0);
}

bool
ef_link_open (ef_link_t *self, uint64_t now_ms) {
    if (self->socket || now_ms < self->retry_ms) {
        return false;
    }
    self->socket = zmq_socket (self->context, ZMQ_DEALER);
    if (self->socket == NULL) { /* no descriptor is left: perhaps later */
        ef_link_close (self, now_ms);
        return false;
    }
    s_set (self->socket, ZMQ_TCP_KEEPALIVE, 1);
    s_set (self->socket, ZMQ_TCP_KEEPALIVE_IDLE, 30);
    s_set (self->socket, ZMQ_SNDHWM, 10000);
    s_set (self->socket, ZMQ_RCVHWM, 100000);
    s_set (self->socket, ZMQ_RECONNECT_IVL, 100);
    s_set (self->socket, ZMQ_RECONNECT_IVL_MAX, 2000);
    if (zmq_connect (self->socket, self->endpoint)) {
        ef_link_close (self, now_ms);
        return false;
    }
    size_t size = sizeof self->fd;
    int rc = zmq_getsockopt (self->socket, ZMQ_FD, &self->fd, &size);
    ef_assert (rc == 0);
    self->may_have = true;
    self->heard_ms = self->sent_ms = now_ms;
    self->opened++;
    return true;
}

void
ef_link_close (ef_link_t *self, uint64_t now_ms) {
    s_close_socket (self, 0);
    uint64_t jitter = ef_random () % (self->backoff_ms / 2 + 1);
    self->retry_ms = now_ms + self->backoff_ms / 2 + jitter;
    self->backoff_ms =
        2 * self->backoff_ms < BACKOFF_MOST_MS ? 2 * self->backoff_ms : BACKOFF_MOST_MS;
}

void
ef_link_is_good (ef_link_t *self) {
    self->backoff_ms = BACKOFF_FIRST_MS;
}

int
ef_link_send (ef_link_t *self, const ef_buf_t *header, const ef_buf_t *body, uint64_t now_ms) {
    bool has_body = body && body->size > 0;
    if (self->socket == NULL) {
        return -1;
    }
    if (zmq_send (self->socket, header->data, header->size,
                  ZMQ_DONTWAIT | (has_body ? ZMQ_SNDMORE : 0)) < 0) {
        (void)ef_link_look (self); /* who tries again and again must sleep between */
        return -1;
    }
    self->may_have = true;
    if (has_body && zmq_send (self->socket, body->data, body->size, ZMQ_DONTWAIT) < 0) {
        return -1;
    }
    self->sent_ms = now_ms;
    return 0;
}

bool
ef_link_receive (ef_link_t *self, zmq_msg_t frames[2], uint64_t now_ms) {
    if (self->socket == NULL || !self->may_have ||
        zmq_msg_recv (&frames[0], self->socket, ZMQ_DONTWAIT) < 0) {
        self->may_have = false;
        return false;
    }
    zmq_msg_close (&frames[1]);
    zmq_msg_init (&frames[1]);
    bool more = zmq_msg_more (&frames[0]);
    if (more) {
        more = zmq_msg_recv (&frames[1], self->socket, 0) >= 0 && zmq_msg_more (&frames[1]);
    }
    while (more) {
        zmq_msg_t rest; /* the broker sends one body frame; what a newer one adds is passed over */
        zmq_msg_init (&rest);
        more = zmq_msg_recv (&rest, self->socket, 0) >= 0 && zmq_msg_more (&rest);
        zmq_msg_close (&rest);
    }
    self->heard_ms = now_ms;
    return true;
}

bool
ef_link_look (ef_link_t *self) {
    int events = 0;
    size_t size = sizeof events;
    bool is_there = self->socket &&
                    zmq_getsockopt (self->socket, ZMQ_EVENTS, &events, &size) == 0 &&
                    (events & ZMQ_POLLIN);
    self->may_have = self->may_have || is_there;
    return is_there;
}

bool
ef_link_wait (ef_link_t *self, int other, int timeout_ms) {
    struct pollfd polls[2] = {{self->socket ? self->fd : -1, POLLIN, 0}, {other, POLLIN, 0}};
    bool is_now = self->socket && self->may_have;
    (void)poll (polls, 2, is_now ? 0 : timeout_ms); /* interrupted: the caller looks again */
    self->may_have = self->may_have || polls[0].revents;
    return polls[1].revents;
}
