/* Answers without an end (server-sent events). SPDX-License-Identifier: MIT

   Role: text that is appended from any thread goes to one client; while there is none its
   connection is suspended. Owns: its buffer. Invariants: two hold it, the caller and the
   connection, and the last one frees it. `lock` is held around suspend and resume, so that no text
   arrives between "there is none" and "suspended". */
#include "server_private.h"

#include <stdlib.h>
#include <sys/types.h>

struct stream_s {
    pthread_mutex_t lock;
    server_t *server;
    struct MHD_Connection *connection; /* NULL: closed, and no link */
    connection_t *link;
    ef_buf_t text;
    size_t sent; /* of text */
    bool is_suspended;
    bool is_ended;
    unsigned holders;
};

static void
s_release (stream_t *self) { /* with the lock held */
    bool is_last = --self->holders == 0;
    pthread_mutex_unlock (&self->lock);
    if (is_last) {
        pthread_mutex_destroy (&self->lock);
        ef_buf_free (&self->text);
        free (self);
    }
}

static void
s_wake (stream_t *self) { /* with the lock held */
    if (self->is_suspended && self->connection) {
        self->is_suspended = false;
        loop_resume (self->link->loop, self->connection);
    }
}

stream_t *
call_stream (call_t *call, const char *type) {
    server_t *server = call->listener->server;
    uint32_t most = server->options->connections / 4;
    if (atomic_fetch_add (&server->counts.streams, 1) >= (most ? most : 1)) {
        atomic_fetch_sub (&server->counts.streams, 1);
        call_add_header (call, "Retry-After", "5");
        call_answer_json (call, 503,
                          "{\"title\":\"too many streams\",\"status\":503,\"code\":\"OVERLOAD\"}");
        return NULL;
    }
    stream_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    pthread_mutex_init (&self->lock, NULL);
    self->server = server;
    self->connection = call->connection;
    self->link = call->link;
    self->holders = 2;
    call->stream = self;
    ef_buf_t none = {0};
    call_answer (call, 200, type, &none);
    return self;
}

int
stream_send (stream_t *self, const void *bytes, size_t size) {
    pthread_mutex_lock (&self->lock);
    size_t waiting = self->text.size - self->sent;
    /* Who is behind is cut; what is sent at once may be larger than that. */
    int rc = self->connection == NULL || waiting > WEB_STREAM_BYTES ? -1 : 0;
    if (rc == 0) {
        if (self->sent > 0 && self->sent == self->text.size) {
            self->sent = 0;
            ef_buf_clear (&self->text);
        } else if (self->sent > WEB_STREAM_BYTES / 4) {
            memmove (self->text.data, self->text.data + self->sent, waiting);
            self->text.size = waiting;
            self->sent = 0;
        }
        ef_buf_put (&self->text, bytes, size);
        s_wake (self);
    }
    pthread_mutex_unlock (&self->lock);
    return rc;
}

void
stream_end (stream_t **self_p) {
    stream_t *self = *self_p;
    if (self) {
        pthread_mutex_lock (&self->lock);
        self->is_ended = true;
        if (self->text.size - self->sent > WEB_STREAM_BYTES) {
            self->sent = self->text.size; /* too far behind: it gets no more */
        }
        if (self->connection) { /* from now on it has a pace, as any answer: guard.c */
            guard_phase (self->link, PHASE_ANSWER, self->text.size - self->sent);
        }
        s_wake (self);
        s_release (self);
        *self_p = NULL;
    }
}

void
stream_closed (stream_t **self_p) {
    stream_t *self = *self_p;
    pthread_mutex_lock (&self->lock);
    self->connection = NULL;
    atomic_fetch_sub (&self->server->counts.streams, 1);
    s_release (self);
    *self_p = NULL;
}

static ssize_t
s_read (void *arg, uint64_t position, char *buffer, size_t most) {
    stream_t *self = arg;
    ssize_t result = 0;
    (void)position;
    pthread_mutex_lock (&self->lock);
    size_t size = self->text.size - self->sent;
    loop_moved (self->link->loop, 1);
    size = size < most ? size : most;
    if (size > 0) {
        memcpy (buffer, self->text.data + self->sent, size);
        self->sent += size;
        count_add (&self->server->counts.sent_bytes, size);
        result = (ssize_t)size;
    } else if (self->is_ended || atomic_load (&self->server->is_draining)) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        self->is_suspended = true;
        MHD_suspend_connection (self->connection);
    }
    pthread_mutex_unlock (&self->lock);
    return result;
}

struct MHD_Response *
stream_response (stream_t *self) {
    return MHD_create_response_from_callback (MHD_SIZE_UNKNOWN, 16384, s_read, self, NULL);
}
