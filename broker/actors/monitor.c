/* The monitor actor. SPDX-License-Identifier: MIT */
#include "monitor.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

/* Kept for a subscriber that is a moment late: a round of 4,096 topics with their pools and of
   10,000 workers comes at once. */
#define SUBSCRIBER_MESSAGES 32768

struct ef_monitor_s {
    ef_actor_t actor;
    void *socket; /* PUB, owned; used by the actor alone once it runs */
};

ef_monitor_message_t *
ef_monitor_message_new (const char *subject) {
    ef_monitor_message_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    snprintf (self->subject, sizeof self->subject, "%s", subject);
    return self;
}

static void
s_free_message (ef_monitor_message_t *message) {
    ef_buf_free (&message->map);
    free (message);
}

static uint64_t
s_step (void *arg) {
    ef_monitor_t *self = arg;
    ef_monitor_message_t *message;
    while ((message = ef_ring_pop (&self->actor.in)) != NULL) {
        if (zmq_send (self->socket, message->subject, strlen (message->subject),
                      ZMQ_SNDMORE | ZMQ_DONTWAIT) >= 0) {
            (void)zmq_send (self->socket, message->map.data, message->map.size, ZMQ_DONTWAIT);
        }
        s_free_message (message);
    }
    return UINT64_MAX;
}

ef_monitor_t *
ef_monitor_new (void *context, const char *endpoint) {
    ef_monitor_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->socket = zmq_socket (context, ZMQ_PUB);
    int none = 0;
    int most = SUBSCRIBER_MESSAGES;
    if (self->socket == NULL || zmq_setsockopt (self->socket, ZMQ_LINGER, &none, sizeof none) ||
        zmq_setsockopt (self->socket, ZMQ_SNDHWM, &most, sizeof most) ||
        zmq_bind (self->socket, endpoint)) {
        int error = errno;
        ef_monitor_destroy (&self);
        errno = error;
    }
    return self;
}

int
ef_monitor_start (ef_monitor_t *self, ef_waker_t *owner) {
    return ef_actor_start (&self->actor, "monitor", owner, s_step, self);
}

void
ef_monitor_destroy (ef_monitor_t **self_p) {
    ef_monitor_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    ef_actor_stop (&self->actor);
    ef_monitor_message_t *message;
    while ((message = ef_ring_pop (&self->actor.in)) != NULL) {
        s_free_message (message);
    }
    if (self->socket) {
        zmq_close (self->socket);
    }
    free (self);
    *self_p = NULL;
}

ef_actor_t *
ef_monitor_actor (ef_monitor_t *self) {
    return &self->actor;
}
