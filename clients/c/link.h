/* A DEALER connection that comes back with backoff. SPDX-License-Identifier: MIT

   What publisher and worker share: the socket, reconnecting (100 ms doubling to 5 s, with jitter),
   what was heard and sent when. One thread.

   A ZeroMQ socket's descriptor says that commands came, not messages (zmq_getsockopt, ZMQ_FD):
   sending may take in the command that told of a message. So the socket may hold one whenever the
   descriptor was readable or something was sent, until a receive found none; only then its
   descriptor is waited for. zmq_poll asks the system five times where this does once. */
#ifndef EF_LINK_H
#define EF_LINK_H

#include "../../proto/buf.h"
#include "../../proto/cursor.h"

#include <zmq.h>

typedef struct {
    void *context; /* owned */
    void *socket;  /* owned, NULL: between two tries */
    int fd;        /* the socket's */
    bool may_have; /* a message */
    char endpoint[256];
    uint64_t heard_ms;
    uint64_t sent_ms;
    uint64_t retry_ms; /* when to try again */
    uint32_t backoff_ms;
    uint32_t opened; /* connections made so far */
} ef_link_t;

#define EF_LINK_HELLO_MS 3000 /* a greeting unanswered for so long: the connection is given up */

/* The endpoint: what was said, else the environment's, else the default. */
void ef_link_init (ef_link_t *self, const char *said, const char *variable, const char *otherwise);
void ef_link_free (ef_link_t *self);

/* Opens a new connection. True: it is open and the greeting is to be sent; false: not yet time. */
bool ef_link_open (ef_link_t *self, uint64_t now_ms);
void ef_link_close (ef_link_t *self, uint64_t now_ms); /* tries again after the backoff */
void ef_link_is_good (ef_link_t *self);                /* greeted: the backoff begins anew */

/* 0, or -1: it can't be sent now. */
int ef_link_send (ef_link_t *self, const ef_buf_t *header, const ef_buf_t *body, uint64_t now_ms);

/* Receives one message: its header and first body frame, kept in `frames` until the next call.
   False: there is none. */
bool ef_link_receive (ef_link_t *self, zmq_msg_t frames[2], uint64_t now_ms);

/* Asks the socket itself whether it holds a message. */
bool ef_link_look (ef_link_t *self);

/* Waits until there may be a message, or `other` (a descriptor; -1: none) is readable: true; at the
   most `timeout_ms`, negative: without end. */
bool ef_link_wait (ef_link_t *self, int other, int timeout_ms);

#endif
