/* What is looked at before a request's body is read and its route runs.
   SPDX-License-Identifier: MIT

   In this order: is it a request at all; is there room; what is asked for; who asks, from where and
   how often; how much comes. A small body is read all the same, so that the connection lives on. */
#include "problem.h"
#include "server_private.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>

/* Answers before the body; `is_closing`: nothing more is read from this connection. */
#define REFUSE(call, closes, ...)                                                                  \
    do {                                                                                           \
        (call)->is_refused = true;                                                                 \
        (call)->is_closing = (call)->is_closing || (closes);                                       \
        problem_answer ((call), __VA_ARGS__);                                                      \
    } while (0)

static bool
s_is_listed (const char *list, const char *word) {
    size_t size = strlen (word);
    for (const char *at = list; *at; at += strspn (at, ", ")) {
        size_t length = strcspn (at, ", ");
        if (length == size && strncasecmp (at, word, size) == 0) {
            return true;
        }
        at += length;
    }
    return false;
}

/* Whom the request is for: the client's own address, or what a trusted proxy says. */
static void
s_find_client (call_t *call) {
    const head_t *head = &call->head;
    if (head->forwarded_for &&
        s_is_listed (call->listener->server->options->access.proxies, call->link->address)) {
        const char *last = strrchr (head->forwarded_for, ',');
        last = last ? last + 1 : head->forwarded_for;
        last += strspn (last, " ");
        if (*last && strlen (last) < 48) {
            call->client = call_keep (call, last, strlen (last));
        }
    }
}

static void
s_find_media (call_t *call) {
    const char *type = call->head.type ? call->head.type : "";
    size_t size = strcspn (type, "; \t,");
    for (size_t i = 0; i < size && i + 1 < sizeof call->media; i++) {
        call->media[i] = (char)tolower ((unsigned char)type[i]);
    }
}

/* Codes of access as they are: who isn't known gets 401, who is known and may not 403. */
static bool
s_check_access (call_t *call) {
    server_t *server = call->listener->server;
    const char *why = "";
    access_request_t request = {
        .address = call->client,
        /* A proxy on this machine calls from loopback, and its callers come from anywhere. */
        .is_loopback = call->link->is_loopback && !call->head.is_forwarded,
        .is_tls = server->certificate != NULL,
        .method = call->method,
        .authorization = call->head.authorization,
        .host = call->head.host,
        .origin = call->head.origin,
        .fetch_site = call->head.fetch_site,
        .role = call->route->role,
        .is_act = call->route->is_act,
    };
    const char *code = access_check (server->access, &request, &call->identity, &why);
    /* Also those who may not: tokens aren't to be guessed at any speed. */
    bool is_counted = code || call->route->role != ROLE_NONE;
    const char *name = call->identity.token >= 0 ? call->identity.name : call->client;
    uint32_t wait = is_counted ? access_rate (server->access, name) : 0;
    if (code && wait == 0) {
        count_add (&server->counts.refused_access, 1);
        REFUSE (call, false, code, "%s", why);
        return false;
    }
    if (wait > 0) {
        char seconds[16];
        count_add (&server->counts.refused_rate, 1);
        snprintf (seconds, sizeof seconds, "%u", wait);
        call_add_header (call, "Retry-After", seconds);
        REFUSE (call, false, "RATE", "this client sends faster than it may; again in %u s", wait);
        return false;
    }
    return true;
}

/* What a browser asks before a page of another origin may call. */
static void
s_preflight (call_t *call) {
    ef_buf_t none = {0};
    const char *headers = call_header (call, "Access-Control-Request-Headers");
    call_add_header (call, "Access-Control-Allow-Methods", "GET, POST, PUT, DELETE");
    if (headers && strlen (headers) < 500) {
        call_add_header (call, "Access-Control-Allow-Headers", headers);
    }
    call_add_header (call, "Access-Control-Max-Age", "600");
    call->is_refused = true;
    call_answer (call, 204, NULL, &none);
}

static bool
s_find_route (call_t *call) {
    char allow[100];
    ef_buf_t none = {0};
    bool is_options = strcmp (call->method, "OPTIONS") == 0;
    if (is_options && call->has_browser && call_header (call, "Access-Control-Request-Method")) {
        s_preflight (call);
        return false;
    }
    int status = routes_find (call, allow);
    if (status == 405) {
        call_add_header (call, "Allow", allow);
    }
    if (status == 405 && is_options) {
        call->is_refused = true;
        call_answer (call, 204, NULL, &none);
    } else if (status == 405) {
        REFUSE (call, false, "BAD_METHOD", "this takes %s", allow);
    } else if (status == 404) {
        REFUSE (call, false, "NOT_FOUND", "there is nothing at this path; see %s/openapi.json",
                call_base (call));
    } else if (status) {
        REFUSE (call, false, "BAD_REQUEST", "the path has a bad escape or isn't UTF-8");
    }
    return status == 0;
}

/* To the base path with its slash. True: the call is answered. */
static bool
s_redirect (call_t *call, const char *url) {
    const char *base = call_base (call);
    char place[sizeof call->listener->server->options->base_path + 1];
    ef_buf_t none = {0};
    bool is_page = strcmp (call->method, "GET") == 0 || strcmp (call->method, "HEAD") == 0;
    if (!is_page || !routes_is_base (call->listener->server, url)) {
        return false;
    }
    int size = snprintf (place, sizeof place, "%s/", base);
    call->is_refused = true;
    call_add_header (call, "Location", call_keep (call, place, (size_t)size));
    call_answer (call, 308, NULL, &none);
    return true;
}

static bool
s_has_room (call_t *call) {
    server_t *server = call->listener->server;
    uint32_t most = server->options->connections;
    bool is_full = atomic_load (&call->listener->connection_count) > most;
    bool is_health = strncmp (call->path, "/health", 7) == 0;
    if (atomic_load (&server->is_draining) && !is_health) {
        REFUSE (call, true, "DRAINING", "this server is stopping");
        return false;
    }
    if (is_full && !is_health) {
        count_add (&server->counts.refused_overload, 1);
        REFUSE (call, true, "OVERLOAD", "there are %u connections already", most);
        return false;
    }
    return true;
}

static bool
s_fits (call_t *call) {
    const server_t *server = call->listener->server;
    if (call->head.has_length && call->head.length > server->options->body_bytes) {
        /* Most clients listen only once they have said all. */
        bool is_hopeless = call->head.length / WEB_DISCARD_TIMES > server->options->body_bytes;
        call->is_over = true;
        REFUSE (call, is_hopeless, "TOO_LARGE", "a body may have %llu bytes",
                (unsigned long long)server->options->body_bytes);
        return false;
    }
    return true;
}

void
call_enter (call_t *self, const char *version, const char *url) {
    server_t *server = self->listener->server;
    count_add (&server->counts.requests, 1);
    const char *why = strict_line (self->method, url, self->link->target_bytes, version);
    why = why ? why : strict_read (self->connection, self->method, version, &self->head);
    self->has_query = strlen (url) < self->link->target_bytes;
    why = why || !self->has_query || strict_query (self)
              ? why
              : "the query has a bad escape, or no UTF-8";
    self->path = routes_path (server, url);
    if (why || self->path == NULL) {
        count_add (&server->counts.refused_malformed, 1);
        self->path = self->path ? self->path : "/";
        self->head = (head_t){0};
        REFUSE (self, true, "BAD_REQUEST", "%s", why ? why : "expected a path");
        return;
    }
    s_find_client (self);
    s_find_media (self);
    self->has_browser = self->head.origin && access_is_origin (server->access, self->head.origin,
                                                               strlen (self->head.origin));
    if (s_has_room (self) && !s_redirect (self, url) && s_find_route (self) &&
        s_check_access (self)) {
        (void)s_fits (self);
    }
    /* What would be read only to be thrown away must be little. */
    bool is_large = self->head.is_chunked || self->head.length > WEB_DISCARD_BYTES;
    self->is_closing = self->is_closing || (self->is_refused && is_large && !self->is_over) ||
                       (self->head.is_chunked && STRICT_FORGIVES_CHUNKS);
}
