/* The stream for pages: server-sent events. SPDX-License-Identifier: MIT

   `event: snapshot` (snapshot.h) each second, `notice`, `alert`, `down` and `up`. Role: hands text
   to all streams; who comes gets the last snapshot and what is down at once. Owns: the streams.
   Invariants: their number is bounded; one that falls behind by more than the server keeps for it
   is let go, and its page comes back. */
#ifndef EF_MONITOR_LIVE_H
#define EF_MONITOR_LIVE_H

#include "../web/server.h"

#define LIVE_STREAMS_MAX 256

typedef struct live_s live_t;

live_t *live_new (void);
void live_destroy (live_t **self_p);

/* Ends all streams and takes no more; before the server's end. */
void live_close (live_t *self);

/* GET /api/v1/live. `first`: events that it gets before all others. From any thread. */
void live_join (live_t *self, call_t *call, const ef_buf_t *first);
/* `data` is JSON in one line. */
void live_send (live_t *self, const char *event, const void *data, size_t size);
/* A comment, so that who is gone is noticed, and who is there sees that the stream is alive. */
void live_still (live_t *self);
uint32_t live_count (live_t *self);

/* Appends one event. */
void live_put (ef_buf_t *out, const char *event, const void *data, size_t size);

#endif
