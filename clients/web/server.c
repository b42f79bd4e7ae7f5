/* The server: its settings, its start and end, and libmicrohttpd's callbacks.
   SPDX-License-Identifier: MIT */
#include "problem.h"
#include "server_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define OF(member) FIELD (web_options_t, member)

static const setting_t s_rows[] = {
    {"listen", &config_text, OF (listen), 0, 0, NULL, true,
     "HOST:PORT, [IPV6]:PORT or PORT for loopback; several by commas"},
    {"threads", &config_number, OF (threads), 1, 64, NULL, true,
     "of a listener; by default one for two cores, up to 8"},
    {"helpers", &config_number, OF (helpers), 1, 64, NULL, true, "threads that ask the broker"},
    {"connections", &config_number, OF (connections), 1, 1000000, NULL, true,
     "of a listener; past it 503"},
    {"per_client", &config_number, OF (per_client), 0, 1000000, NULL, true,
     "connections of one address; 0: no bound"},
    {"headers", &config_size, OF (header_bytes), 2048, 1 << 20, NULL, true,
     "bytes of a request's line and headers; past it 431"},
    {"body", &config_size, OF (body_bytes), 1024, 64u << 20, NULL, true,
     "bytes of a request; past it 413"},
    {"held", &config_size, OF (held_bytes), 65536, (double)(1ull << 40), NULL, true,
     "of all requests' bodies together; past it 503"},
    {"header_timeout", &config_duration, OF (header_ms), 100, 3600000, NULL, true,
     "within which a request's headers must be here"},
    {"idle_timeout", &config_duration, OF (idle_ms), 100, 86400000, NULL, true,
     "a connection is kept for so long without a request"},
    {"pace", &config_size, OF (pace_bytes), 1, 1u << 30, NULL, true,
     "a body must come, and be taken, at so many bytes a second"},
    {"base_path", &config_text, OF (base_path), 0, 0, NULL, true,
     "as /eventflow, behind a reverse proxy"},
    {"tls_certificate", &config_text, OF (tls_certificate), 0, 0, NULL, true, "file in PEM"},
    {"tls_key", &config_text, OF (tls_key), 0, 0, NULL, true, "file in PEM"},
    {"tokens", &config_text, OF (access.tokens), 0, 0, NULL, true,
     "file of tokens: NAME ROLE[,ROLE] TOKEN a line; read, publish[:TOPIC], administer"},
    {"loopback_open", &config_boolean, OF (access.loopback_open), 0, 1, NULL, true,
     "loopback needs no token"},
    {"insecure", &config_boolean, OF (access.insecure), 0, 1, NULL, true,
     "may listen without TLS on addresses other than loopback"},
    {"read_only", &config_boolean, OF (access.read_only), 0, 1, NULL, true, "refuses every act"},
    {"hosts", &config_text, OF (access.hosts), 0, 0, NULL, true,
     "names it is called by on loopback, by commas"},
    {"origins", &config_text, OF (access.origins), 0, 0, NULL, true,
     "pages of these origins may call it (CORS), by commas"},
    {"proxies", &config_text, OF (access.proxies), 0, 0, NULL, true,
     "addresses whose X-Forwarded-For is believed, by commas"},
    {"rate", &config_rate, OF (access.rate), 0, 1e9, NULL, true,
     "requests of one client; 0: no bound; past it 429"},
    {"burst", &config_number, OF (access.burst), 1, 1e9, NULL, true,
     "that may come at once after a pause"},
    {"audit", &config_text, OF (access.audit), 0, 0, NULL, true,
     "file of JSON lines, one for each act; empty: standard error; none"},
};
const settings_t web_settings = {s_rows, sizeof s_rows / sizeof s_rows[0]};

void
web_defaults (web_options_t *options, const char *listen) {
    long cores = sysconf (_SC_NPROCESSORS_ONLN);
    uint32_t threads = cores < 4 ? 1 : cores < 16 ? (uint32_t)cores / 2 : 8;
    *options = (web_options_t){.threads = threads,
                               .helpers = 4,
                               .connections = 8192,
                               .header_bytes = 16u << 10,
                               .body_bytes = 8u << 20,
                               .held_bytes = 256u << 20,
                               .header_ms = 10000,
                               .idle_ms = 75000,
                               .pace_bytes = 1024,
                               .access = {.loopback_open = true, .burst = 100}};
    snprintf (options->listen, sizeof options->listen, "%s", listen);
}

server_t *
server_new (const web_options_t *options, access_t *access) {
    server_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    pthread_condattr_t attributes;
    self->options = options;
    self->access = access;
    pthread_mutex_init (&self->guard_lock, NULL);
    pthread_mutex_init (&self->help_lock, NULL);
    pthread_cond_init (&self->help_wanted, NULL);
    pthread_condattr_init (&attributes);
    pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
    pthread_cond_init (&self->guard_wake, &attributes);
    pthread_condattr_destroy (&attributes);
    return self;
}

listener_t *
server_listener (server_t *self, const char *name, const char *address) {
    ef_assert (self->listener_count < WEB_LISTENERS_MAX && !self->is_started);
    listener_t *listener = &self->listeners[self->listener_count++];
    listener->server = self;
    snprintf (listener->name, sizeof listener->name, "%s", name);
    snprintf (listener->address, sizeof listener->address, "%s", address);
    pthread_mutex_init (&listener->lock, NULL);
    return listener;
}

void
listener_routes (listener_t *self, const route_t *rows, size_t count, void *arg) {
    ef_assert (self->table_count < WEB_TABLES_MAX && !self->server->is_started);
    self->tables[self->table_count].rows = rows;
    self->tables[self->table_count].count = count;
    self->tables[self->table_count++].arg = arg;
}

const route_t *
listener_route (const listener_t *self, size_t index) {
    for (unsigned t = 0; t < self->table_count; t++) {
        if (index < self->tables[t].count) {
            return &self->tables[t].rows[index];
        }
        index -= self->tables[t].count;
    }
    return NULL;
}

uint16_t
listener_port (const listener_t *self) {
    return self->port;
}

const char *
listener_name (const listener_t *self) {
    return self->name;
}

/* As many files as the system allows: each connection is one. */
static void
s_raise_files (void) {
    struct rlimit limit;
    if (getrlimit (RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit (RLIMIT_NOFILE, &limit); /* fewer connections then */
    }
}

void
server_on_turn (server_t *self, void (*turn) (void *arg), void *arg) {
    ef_assert (!self->is_started);
    self->turn = turn;
    self->turn_arg = arg;
}

int
server_start (server_t *self, char error[512]) {
    s_raise_files ();
    if (listen_load_tls (self, error)) {
        return -1;
    }
    self->is_started = true;
    if (helpers_start (self) || guard_start (self)) {
        snprintf (error, 512, "can't start threads");
        return -1;
    }
    for (unsigned i = 0; i < self->listener_count; i++) {
        if (listen_open (&self->listeners[i], error)) {
            return -1;
        }
    }
    return 0;
}

void
server_drain (server_t *self) {
    atomic_store (&self->is_draining, true);
}

bool
server_is_quiet (server_t *self, uint32_t timeout_ms) {
    uint64_t until = ef_mono_ms () + timeout_ms;
    while (atomic_load (&self->counts.calls) > atomic_load (&self->counts.streams)) {
        if (ef_mono_ms () >= until) {
            return false;
        }
        const struct timespec pause = {0, 5000000};
        (void)nanosleep (&pause, NULL); /* woken sooner: looks sooner */
    }
    return true;
}

void
server_destroy (server_t **self_p) {
    server_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    server_drain (self);
    helpers_stop (self);
    guard_stop (self);
    for (unsigned i = 0; i < self->listener_count; i++) {
        listen_close (&self->listeners[i]);
        pthread_mutex_destroy (&self->listeners[i].lock);
    }
    pthread_mutex_destroy (&self->guard_lock);
    pthread_mutex_destroy (&self->help_lock);
    pthread_cond_destroy (&self->help_wanted);
    pthread_cond_destroy (&self->guard_wake);
    free (self->certificate);
    free (self->key);
    free (self);
    *self_p = NULL;
}

void
server_numbers (const server_t *self, server_numbers_t *numbers) {
    const counts_t *counts = &self->counts;
    *numbers = (server_numbers_t){
        .requests = atomic_load (&counts->requests),
        .received_bytes = atomic_load (&counts->received_bytes),
        .sent_bytes = atomic_load (&counts->sent_bytes),
        .refused_malformed = atomic_load (&counts->refused_malformed),
        .refused_overload = atomic_load (&counts->refused_overload),
        .refused_access = atomic_load (&counts->refused_access),
        .refused_rate = atomic_load (&counts->refused_rate),
        .cut_slow = atomic_load (&counts->cut_slow),
        .calls = atomic_load (&counts->calls),
        .held_bytes = atomic_load (&counts->held_bytes),
    };
    for (unsigned i = 0; i < 6; i++) {
        numbers->by_status[i] = atomic_load (&counts->by_status[i]);
    }
    for (unsigned i = 0; i < self->listener_count; i++) {
        numbers->connections += atomic_load (&self->listeners[i].connection_count);
    }
}

/* ---- libmicrohttpd's callbacks ---- */

/* The request line is here. */
void *
server_line (void *arg, const char *uri, struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info (connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    connection_t *link = info->socket_context;
    (void)arg;
    link->target_bytes = uri ? strlen (uri) : 0;
    guard_phase (link, PHASE_HEADERS, 0);
    return NULL;
}

/* Escapes are decoded where it is known what they stand in: a slash in a part of a path is one. */
size_t
server_unescape (void *arg, struct MHD_Connection *connection, char *text) {
    (void)arg;
    (void)connection;
    return strlen (text);
}

static void
s_end (call_t *call, bool is_well) {
    counts_t *counts = &call->listener->server->counts;
    if (call->is_kept) {
        loop_let_go (call->loop);
    }
    bool is_ours =
        !call->is_started || atomic_exchange (&call->state, CALL_ABANDONED) == CALL_ANSWERED;
    if (!is_well && (!is_ours || call->status == 0)) {
        count_add (&counts->by_status[0], 1);
    }
    if (is_ours) {
        call_free (call);
    } /* else whoever is to answer it still holds it */
}

/* The request has come to an end, well or not. */
void
server_completed (void *arg, struct MHD_Connection *connection, void **mark,
                  enum MHD_RequestTerminationCode code) {
    call_t *call = *mark;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info (connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    (void)arg;
    if (info && info->socket_context) {
        guard_phase (info->socket_context, PHASE_IDLE, 0);
    }
    if (call) {
        *mark = NULL;
        s_end (call, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    }
}

static enum MHD_Result
s_feed (call_t *call, const char *bytes, size_t size) {
    server_t *server = call->listener->server;
    uint64_t most = server->options->body_bytes;
    uint64_t sum =
        atomic_fetch_add_explicit (&call->link->bytes, size, memory_order_relaxed) + size;
    count_add (&server->counts.received_bytes, size);
    if (call->head.is_chunked || sum < call->head.length) {
        loop_moved (call->loop, 1); /* more of it may be here already */
    }
    if (call->is_refused || call->is_over) {
        /* Read so that the connection lives on, and thrown away. */
        return sum > most * WEB_DISCARD_TIMES + WEB_DISCARD_BYTES ? MHD_NO : MHD_YES;
    }
    size_t before = call->body.capacity;
    if (sum > most) {
        call->is_over = true;
        return MHD_YES;
    }
    ef_buf_put (&call->body, bytes, size);
    count_add (&server->counts.held_bytes, call->body.capacity - before);
    return MHD_YES;
}

/* The whole request is here: its route runs. */
static void
s_run (call_t *call) {
    server_t *server = call->listener->server;
    call->is_started = true;
    if (call->is_over) {
        problem_answer (call, "TOO_LARGE", "a body may have %llu bytes",
                        (unsigned long long)server->options->body_bytes);
    } else if (atomic_load_explicit (&server->counts.held_bytes, memory_order_relaxed) >
               server->options->held_bytes) {
        count_add (&server->counts.refused_overload, 1);
        problem_answer (call, "OVERLOAD", "all requests together hold too much");
    } else if (call->route->kind == ROUTE_QUICK) {
        loop_begun (call->loop);
        call->route->run (call->arg, call);
    } else if (!helpers_add (server, call)) {
        count_add (&server->counts.refused_overload, 1);
        problem_answer (call, "OVERLOAD", "too many wait for the broker");
    }
}

/* Whoever answers from now on wakes the loop. */
static void
s_wait (call_t *call) {
    int running = CALL_RUNNING;
    /* Once its client has gone, what a kept call borrowed has too: helpers need more than that. */
    call->is_kept = call->route->kind == ROUTE_QUICK && loop_keep (call->loop);
    if (call->is_kept) {
        if (!atomic_compare_exchange_strong (&call->state, &running, CALL_KEPT)) {
            loop_moved (call->loop, 1); /* it was answered meanwhile */
        }
        return;
    }
    MHD_suspend_connection (call->connection);
    if (!atomic_compare_exchange_strong (&call->state, &running, CALL_SUSPENDED)) {
        loop_resume (call->loop, call->connection);
    }
}

/* Called with the headers, with each piece of the body, at its end, and from then on until there is
   an answer. */
enum MHD_Result
server_handle (void *arg, struct MHD_Connection *connection, const char *url, const char *method,
               const char *version, const char *upload, size_t *upload_size, void **mark) {
    call_t *call = *mark;
    if (call && call->is_kept &&
        atomic_load_explicit (&call->state, memory_order_acquire) == CALL_KEPT) {
        return MHD_YES;
    }
    if (call == NULL) {
        call = call_new (arg, connection);
        call->method = method;
        *mark = call;
        call_enter (call, version, url);
        guard_phase (call->link, PHASE_BODY, 0);
        if (call->head.is_expecting) {
            loop_moved (call->loop, 1); /* to tell it */
        }
        return call->is_refused && call->is_closing ? call_queue (call) : MHD_YES;
    }
    if (*upload_size > 0) {
        enum MHD_Result rc = s_feed (call, upload, *upload_size);
        *upload_size = 0;
        return rc;
    }
    if (!call->is_started && !call->is_refused) {
        guard_phase (call->link, PHASE_WAIT, 0);
        s_run (call);
    }
    if (atomic_load_explicit (&call->state, memory_order_acquire) == CALL_ANSWERED) {
        return call_queue (call);
    }
    s_wait (call);
    return MHD_YES;
}
