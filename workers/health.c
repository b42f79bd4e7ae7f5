/* A worker's health over HTTP, for orchestrators. SPDX-License-Identifier: MIT */
#include "health.h"
#include "../proto/json.h"

#include <arpa/inet.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>

struct health_s {
    const runtime_t *runtime;  /* borrowed */
    struct MHD_Daemon *daemon; /* owned */
    int poll;                  /* its epoll descriptor */
};

static const char *
s_why_not (const runtime_state_t *state) {
    return state->is_draining     ? "it is draining"
           : !state->is_connected ? "it has no broker"
                                  : state->unhealthy;
}

static void
s_put_json (const runtime_state_t *state, ef_buf_t *out) {
    ef_buf_t value = {0};
    const char *why = s_why_not (state);
    ef_put_map (&value, why ? 10 : 9);
    ef_put_key_str (&value, "status", why ? "unready" : "ready");
    if (why) {
        ef_put_key_str (&value, "reason", why);
    }
    ef_put_key_str (&value, "handler", state->handler);
    ef_put_key_str (&value, "name", state->name);
    ef_put_key_uint (&value, "in_flight", state->in_hand);
    ef_put_key_uint (&value, "done", state->done);
    ef_put_key_uint (&value, "failed", state->failed);
    ef_put_key_uint (&value, "cpu_ms", state->cpu_ms);
    ef_put_key_uint (&value, "rss_bytes", state->rss_bytes);
    ef_put_key_uint (&value, "uptime_ms", state->uptime_ms);
    ef_cursor_t cursor = ef_cursor (value.data, value.size);
    int rc = ef_json_print (out, &cursor);
    ef_assert (rc == 0);
    ef_buf_put (out, "\n", 1);
    ef_buf_free (&value);
}

static void
s_put_metric (ef_buf_t *out, const char *name, const char *type, const char *help, double value) {
    char text[400];
    int size = snprintf (text, sizeof text,
                         "# HELP eventflow_worker_%s %s\n# TYPE eventflow_worker_%s %s\n"
                         "eventflow_worker_%s %.15g\n",
                         name, help, name, type, name, value);
    ef_buf_put (out, text, (size_t)size);
}

static void
s_put_metrics (const runtime_state_t *state, ef_buf_t *out) {
    s_put_metric (out, "ready", "gauge", "1 where it takes events.", s_why_not (state) == NULL);
    s_put_metric (out, "healthy", "gauge", "1 where what it works with is well.",
                  state->unhealthy == NULL);
    s_put_metric (out, "in_flight_events", "gauge", "Events in hand.", state->in_hand);
    s_put_metric (out, "done_total", "counter", "Events done.", (double)state->done);
    s_put_metric (out, "failed_total", "counter", "Attempts failed.", (double)state->failed);
    s_put_metric (out, "cpu_seconds_total", "counter", "Time on a processor, with children.",
                  (double)state->cpu_ms / 1000);
    s_put_metric (out, "resident_memory_bytes", "gauge", "Memory in use.",
                  (double)state->rss_bytes);
}

static enum MHD_Result
s_reply (struct MHD_Connection *connection, unsigned status, const char *type, ef_buf_t *body) {
    struct MHD_Response *response =
        MHD_create_response_from_buffer (body->size, body->data, MHD_RESPMEM_MUST_COPY);
    ef_buf_free (body);
    if (response == NULL) {
        return MHD_NO;
    }
    MHD_add_response_header (response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header (response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    enum MHD_Result rc = MHD_queue_response (connection, status, response);
    MHD_destroy_response (response);
    return rc;
}

static enum MHD_Result
s_answer (void *arg, struct MHD_Connection *connection, const char *path, const char *method,
          const char *version, const char *upload, size_t *upload_size, void **mark) {
    const health_t *self = arg;
    runtime_state_t state;
    ef_buf_t body = {0};
    (void)version;
    (void)upload;
    (void)mark;
    *upload_size = 0;
    if (strcmp (method, "GET") != 0 && strcmp (method, "HEAD") != 0) {
        ef_buf_put (&body, "expected GET\n", 13);
        return s_reply (connection, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", &body);
    }
    runtime_state (self->runtime, &state);
    const char *why = s_why_not (&state);
    if (strcmp (path, "/health/live") == 0) {
        ef_buf_put (&body, "alive\n", 6);
        return s_reply (connection, MHD_HTTP_OK, "text/plain", &body);
    }
    if (strcmp (path, "/metrics") == 0) {
        s_put_metrics (&state, &body);
        return s_reply (connection, MHD_HTTP_OK, "text/plain; version=0.0.4", &body);
    }
    if (strcmp (path, "/health/ready") == 0 || strcmp (path, "/health") == 0) {
        bool is_good = why == NULL || strcmp (path, "/health") == 0;
        s_put_json (&state, &body);
        return s_reply (connection, is_good ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                        "application/json", &body);
    }
    const char *known = "expected /health, /health/live, /health/ready or /metrics\n";
    ef_buf_put (&body, known, strlen (known));
    return s_reply (connection, MHD_HTTP_NOT_FOUND, "text/plain", &body);
}

static int
s_read_address (const char *address, struct sockaddr_in *out) {
    char host[64] = "127.0.0.1";
    const char *colon = strrchr (address, ':');
    const char *port = colon ? colon + 1 : address;
    char *end;
    unsigned long number = strtoul (port, &end, 10);
    if (colon && (size_t)(colon - address) < sizeof host) {
        snprintf (host, sizeof host, "%.*s", (int)(colon - address), address);
    }
    *out = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons ((uint16_t)number)};
    return *end || end == port || number > 65535 || inet_pton (AF_INET, host, &out->sin_addr) != 1
               ? -1
               : 0;
}

health_t *
health_new (const char *address, const runtime_t *runtime, char error[512]) {
    struct sockaddr_in place;
    if (s_read_address (address, &place)) {
        snprintf (error, 512, "health = %.100s: expected an address such as 127.0.0.1:8080",
                  address);
        return NULL;
    }
    health_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->runtime = runtime;
    self->daemon =
        MHD_start_daemon (MHD_USE_EPOLL, 0, NULL, NULL, s_answer, self, MHD_OPTION_SOCK_ADDR,
                          (struct sockaddr *)&place, MHD_OPTION_CONNECTION_LIMIT, 64u,
                          MHD_OPTION_CONNECTION_TIMEOUT, 3u, MHD_OPTION_END);
    const union MHD_DaemonInfo *poll =
        self->daemon ? MHD_get_daemon_info (self->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    const union MHD_DaemonInfo *port =
        self->daemon ? MHD_get_daemon_info (self->daemon, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    if (poll == NULL) {
        snprintf (error, 512, "health = %.100s: can't listen there", address);
        health_destroy (&self);
        return NULL;
    }
    self->poll = poll->epoll_fd;
    fprintf (stderr, "eventflow-worker: health on port %u\n", port ? port->port : 0);
    return self;
}

void
health_destroy (health_t **self_p) {
    if (*self_p) {
        if ((*self_p)->daemon) {
            MHD_stop_daemon ((*self_p)->daemon);
        }
        free (*self_p);
        *self_p = NULL;
    }
}

nfds_t
health_polls (health_t *self, struct pollfd *items, nfds_t most, int *timeout_ms) {
    MHD_UNSIGNED_LONG_LONG left;
    if (MHD_get_timeout (self->daemon, &left) == MHD_YES && left < (unsigned)*timeout_ms) {
        *timeout_ms = (int)left;
    }
    if (most == 0) {
        return 0;
    }
    items[0] = (struct pollfd){self->poll, POLLIN, 0};
    return 1;
}

void
health_step (health_t *self) {
    (void)MHD_run (self->daemon); /* what goes wrong there is a connection's */
}
