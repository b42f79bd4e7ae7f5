/* A DEALER connection that comes back with backoff. SPDX-License-Identifier: MIT

   What publisher and worker share: the socket, reconnecting (100 ms doubling to 5 s, with jitter),
   what was heard and sent when. One thread. */
#ifndef EF_LINK_H
#define EF_LINK_H

#include "../../proto/buf.h"
#include "../../proto/cursor.h"

#include <zmq.h>

typedef struct {
    void *context; /* owned */
    void *socket;  /* owned, NULL: between two tries */
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

#endif
