/* A request and its answer. SPDX-License-Identifier: MIT */
#include "problem.h"
#include "server_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

call_t *
call_new (listener_t *listener, struct MHD_Connection *connection) {
    call_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info (connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    self->listener = listener;
    self->connection = connection;
    self->link = info->socket_context;
    self->loop = self->link->loop;
    self->client = self->link->address;
    self->identity.token = -1;
    atomic_fetch_add_explicit (&listener->server->counts.calls, 1, memory_order_relaxed);
    return self;
}

void
call_free (call_t *self) {
    server_t *server = self->listener->server;
    while (self->texts) {
        text_t *next = self->texts->next;
        free (self->texts);
        self->texts = next;
    }
    atomic_fetch_sub_explicit (&server->counts.held_bytes, self->body.capacity,
                               memory_order_relaxed);
    ef_buf_free (&self->body);
    ef_buf_free (&self->answer);
    free (self->note);
    if (self->owned) {
        self->release (self->owned);
    }
    if (self->stream) {
        stream_closed (&self->stream);
    }
    free (self);
    /* Last: whoever waits for quiet may end the server now. */
    atomic_fetch_sub_explicit (&server->counts.calls, 1, memory_order_release);
}

char *
call_keep (call_t *self, const char *text, size_t size) {
    text_t *item = malloc (sizeof *item + size + 1);
    ef_assert (item != NULL);
    memcpy (item->text, text, size);
    item->text[size] = 0;
    item->next = self->texts;
    self->texts = item;
    return item->text;
}

const char *
call_method (const call_t *self) {
    return self->method;
}

const char *
call_path (const call_t *self) {
    return self->path;
}

const char *
call_part (const call_t *self, unsigned index) {
    ef_assert (index < self->part_count);
    return self->parts[index];
}

const char *
call_query (const call_t *self, const char *name) {
    const char *value = self->has_query ? MHD_lookup_connection_value (self->connection,
                                                                       MHD_GET_ARGUMENT_KIND, name)
                                        : NULL;
    return value ? strict_decode ((call_t *)self, value, strlen (value)) : NULL;
}

const char *
call_header (const call_t *self, const char *name) {
    return MHD_lookup_connection_value (self->connection, MHD_HEADER_KIND, name);
}

typedef struct {
    const call_t *call;
    bool is_query;
    void (*each) (void *arg, const char *name, const char *value);
    void *arg;
} walk_t;

static enum MHD_Result
s_each (void *arg, enum MHD_ValueKind kind, const char *name, const char *value) {
    const walk_t *walk = arg;
    (void)kind;
    value = value ? value : "";
    if (walk->is_query) {
        value = strict_decode ((call_t *)walk->call, value, strlen (value));
    }
    if (value) {
        walk->each (walk->arg, name, value);
    }
    return MHD_YES;
}

void
call_each (const call_t *self, bool is_query,
           void (*each) (void *arg, const char *name, const char *value), void *arg) {
    walk_t walk = {self, is_query, each, arg};
    (void)MHD_get_connection_values (
        self->connection, is_query ? MHD_GET_ARGUMENT_KIND : MHD_HEADER_KIND, s_each, &walk);
}

const char *
call_type (const call_t *self) {
    return self->media;
}

const char *
call_body (const call_t *self, size_t *size) {
    *size = self->body.size;
    return self->body.size ? (const char *)self->body.data : "";
}

const identity_t *
call_identity (const call_t *self) {
    return &self->identity;
}

const char *
call_client (const call_t *self) {
    return self->client;
}

const char *
call_base (const call_t *self) {
    return self->listener->server->options->base_path;
}

server_t *
call_server (const call_t *self) {
    return self->listener->server;
}

listener_t *
call_listener (const call_t *self) {
    return self->listener;
}

void
call_add_header (call_t *self, const char *name, const char *value) {
    call_lend_header (self, name, call_keep (self, value, strlen (value)));
}

void
call_lend_header (call_t *self, const char *name, const char *value) {
    ef_assert (self->header_count < WEB_HEADERS_MAX);
    self->headers[self->header_count].name = name;
    self->headers[self->header_count++].value = value;
}

void
call_own (call_t *self, void *thing, void (*release) (void *thing)) {
    ef_assert (self->owned == NULL);
    self->owned = thing;
    self->release = release;
}

bool
call_has_header (const call_t *self, const char *name) {
    for (unsigned i = 0; i < self->header_count; i++) {
        if (strcasecmp (self->headers[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

void
call_note (call_t *self, const char *format, ...) {
    va_list arguments;
    free (self->note);
    va_start (arguments, format);
    if (vasprintf (&self->note, format, arguments) < 0) {
        self->note = NULL;
    }
    va_end (arguments);
}

/* The answer is there: whoever waits goes on. */
static void
s_done (call_t *self) {
    struct MHD_Connection *connection = self->connection; /* once answered, the call may be gone */
    loop_t *loop = self->loop;
    int before = atomic_exchange_explicit (&self->state, CALL_ANSWERED, memory_order_acq_rel);
    ef_assert (before != CALL_ANSWERED);
    if (before == CALL_KEPT) {
        loop_wake (loop);
    } else if (before == CALL_SUSPENDED) {
        loop_resume (loop, connection);
    } else if (before == CALL_ABANDONED) {
        call_free (self);
    }
}

void
call_answer (call_t *self, unsigned status, const char *type, ef_buf_t *body) {
    self->status = status;
    self->type = type;
    self->answer = *body;
    memset (body, 0, sizeof *body);
    s_done (self);
}

void
call_answer_static (call_t *self, unsigned status, const char *type, const void *data,
                    size_t size) {
    self->status = status;
    self->type = type;
    self->fixed = data;
    self->fixed_size = size;
    s_done (self);
}

void
call_answer_json (call_t *self, unsigned status, const char *format, ...) {
    va_list arguments;
    va_list again;
    ef_buf_t body = {0};
    va_start (arguments, format);
    va_copy (again, arguments);
    int size = vsnprintf (NULL, 0, format, arguments);
    ef_assert (size >= 0);
    char *at = (char *)ef_buf_add (&body, (size_t)size + 1);
    vsnprintf (at, (size_t)size + 1, format, again);
    body.size--;
    va_end (again);
    va_end (arguments);
    call_answer (self, status, "application/json", &body);
}

/* A request id that may go into a header and a log line. */
static bool
s_is_plain (const char *text) {
    size_t size = strlen (text);
    for (size_t i = 0; i < size; i++) {
        if (text[i] < '!' || text[i] > '~' || text[i] == '"' || text[i] == '\\') {
            return false;
        }
    }
    return size > 0 && size <= 128;
}

static void
s_put_headers (const call_t *self, struct MHD_Response *response) {
    bool has_caching = false;
    if (self->type) {
        (void)MHD_add_response_header (response, "Content-Type", self->type);
    }
    if (self->type && self->status != 202) { /* what is accepted is no page */
        (void)MHD_add_response_header (response, "X-Content-Type-Options", "nosniff");
    }
    for (unsigned i = 0; i < self->header_count; i++) {
        has_caching = has_caching || strcasecmp (self->headers[i].name, "Cache-Control") == 0;
        (void)MHD_add_response_header (response, self->headers[i].name, self->headers[i].value);
    }
    if (!has_caching && self->method && strcmp (self->method, "GET") == 0) {
        (void)MHD_add_response_header (response, "Cache-Control", "no-store");
    }
    if (self->type && strncmp (self->type, "text/html", 9) == 0) {
        (void)MHD_add_response_header (
            response, "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
            "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; "
            "frame-ancestors 'none'");
        (void)MHD_add_response_header (response, "Referrer-Policy", "no-referrer");
    }
    if (self->head.request_id && s_is_plain (self->head.request_id)) {
        (void)MHD_add_response_header (response, "X-Request-Id", self->head.request_id);
    }
    if (self->has_browser) {
        (void)MHD_add_response_header (response, "Access-Control-Allow-Origin", self->head.origin);
        (void)MHD_add_response_header (response, "Vary", "Origin");
    }
    if (self->is_closing || atomic_load (&self->listener->server->is_draining)) {
        (void)MHD_add_response_header (response, "Connection", "close");
    }
}

static void
s_audit (const call_t *self) {
    if (self->route == NULL || !self->route->is_act) {
        return;
    }
    const char *request_id = self->head.request_id;
    const access_act_t act = {
        .who = self->identity.name[0] ? self->identity.name : "nobody",
        .client = self->client,
        .method = self->method,
        .path = self->path,
        .request_id = request_id && s_is_plain (request_id) ? request_id : NULL,
        .note = self->note,
        .status = self->status,
        .listener = self->listener->name,
    };
    access_audit (self->listener->server->access, &act);
}

enum MHD_Result
call_queue (call_t *self) {
    struct MHD_Response *response;
    counts_t *counts = &self->listener->server->counts;
    size_t size = self->fixed ? self->fixed_size : self->answer.size;
    if (self->stream) {
        response = stream_response (self->stream);
    } else if (self->fixed) {
        response =
            MHD_create_response_from_buffer (size, (void *)self->fixed, MHD_RESPMEM_PERSISTENT);
    } else {
        response = MHD_create_response_from_buffer (size, self->answer.data, MHD_RESPMEM_MUST_FREE);
        memset (&self->answer, 0, sizeof self->answer);
    }
    if (response == NULL) {
        return MHD_NO;
    }
    s_put_headers (self, response);
    s_audit (self);
    guard_phase (self->link, self->stream ? PHASE_STREAM : PHASE_ANSWER, size);
    count_add (&counts->by_status[self->status / 100 % 6], 1);
    count_add (&counts->sent_bytes, size);
    loop_moved (self->loop, 2); /* to send it; to look at what came behind its request */
    enum MHD_Result rc = MHD_queue_response (self->connection, self->status, response);
    MHD_destroy_response (response);
    return rc;
}
