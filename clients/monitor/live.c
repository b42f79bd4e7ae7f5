/* The stream for pages. SPDX-License-Identifier: MIT */
#include "live.h"
#include "../web/problem.h"

#include <pthread.h>
#include <stdlib.h>

struct live_s {
    pthread_mutex_t lock;
    stream_t *streams[LIVE_STREAMS_MAX];
    uint32_t count;
    bool is_closed;
};

live_t *
live_new (void) {
    live_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    pthread_mutex_init (&self->lock, NULL);
    return self;
}

void
live_destroy (live_t **self_p) {
    live_t *self = *self_p;
    if (self) {
        live_close (self);
        pthread_mutex_destroy (&self->lock);
        free (self);
        *self_p = NULL;
    }
}

void
live_close (live_t *self) {
    pthread_mutex_lock (&self->lock);
    self->is_closed = true;
    while (self->count > 0) {
        stream_end (&self->streams[--self->count]);
    }
    pthread_mutex_unlock (&self->lock);
}

void
live_put (ef_buf_t *out, const char *event, const void *data, size_t size) {
    ef_buf_put (out, "event: ", 7);
    ef_buf_put (out, event, strlen (event));
    ef_buf_put (out, "\ndata: ", 7);
    ef_buf_put (out, data, size);
    ef_buf_put (out, "\n\n", 2);
}

void
live_join (live_t *self, call_t *call, const ef_buf_t *first) {
    pthread_mutex_lock (&self->lock);
    bool is_closed = self->is_closed;
    if (is_closed || self->count == LIVE_STREAMS_MAX) {
        pthread_mutex_unlock (&self->lock);
        problem_answer (call, is_closed ? "DRAINING" : "OVERLOAD", "no more streams now");
        return;
    }
    call_add_header (call, "X-Accel-Buffering", "no"); /* a proxy is not to gather it */
    stream_t *stream = call_stream (call, "text/event-stream");
    if (stream && stream_send (stream, first->data, first->size)) {
        stream_end (&stream);
    }
    if (stream) {
        self->streams[self->count++] = stream;
    }
    pthread_mutex_unlock (&self->lock);
}

static void
s_send (live_t *self, const void *bytes, size_t size) {
    pthread_mutex_lock (&self->lock);
    for (uint32_t i = 0; i < self->count;) {
        if (stream_send (self->streams[i], bytes, size)) {
            stream_end (&self->streams[i]);
            self->streams[i] = self->streams[--self->count];
        } else {
            i++;
        }
    }
    pthread_mutex_unlock (&self->lock);
}

void
live_send (live_t *self, const char *event, const void *data, size_t size) {
    ef_buf_t text = {0};
    if (live_count (self) > 0) {
        live_put (&text, event, data, size);
        s_send (self, text.data, text.size);
        ef_buf_free (&text);
    }
}

void
live_still (live_t *self) {
    s_send (self, ": still here\n\n", 14);
}

uint32_t
live_count (live_t *self) {
    pthread_mutex_lock (&self->lock);
    uint32_t count = self->count;
    pthread_mutex_unlock (&self->lock);
    return count;
}
