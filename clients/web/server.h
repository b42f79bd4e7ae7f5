/* An HTTP server: listeners, routes, calls. SPDX-License-Identifier: MIT

   Role: carries requests from libmicrohttpd (epoll, loops of our own) to functions, and
   their answers back. Everything that is the same for all programs is done before a function runs:
   malformed requests, limits, time-outs, overload, Host and Origin, tokens and roles, rates,
   read-only, X-Request-Id, the audit log. Owns: listeners, helper threads, calls.
   Invariants: a call is answered exactly once. A connection that waits for its answer costs memory,
   never a thread. On failure: what a client does wrong is answered as a problem (problem.h) and
   closes its connection alone. */
#ifndef EF_WEB_SERVER_H
#define EF_WEB_SERVER_H

#include "../../broker/base/settings.h"
#include "access.h"

typedef struct server_s server_t;
typedef struct listener_s listener_t; /* owned by its server */
typedef struct call_s call_t;         /* one request, until it is answered */

typedef enum {
    /* Runs in the listener's thread, must not block. May answer later, from any thread; the client
       may have gone by then, and of the call only call_path, call_base, call_add_header and the
       answers may be used. */
    ROUTE_QUICK,
    ROUTE_BLOCKING /* runs in a helper thread, may ask the broker or read a file */
} route_kind_t;

typedef struct {
    const char *method; /* GET (answers HEAD too), POST, PUT, DELETE, OPTIONS */
    const char *path;   /* "/api/v1/topics/{name}/pause"; {part} is anything without a slash */
    role_t role;        /* what the caller must be allowed */
    bool is_act;        /* changes something: refused where the server is read-only, and audited */
    route_kind_t kind;
    void (*run) (void *arg, call_t *call); /* answers, now or later */
    const char *summary;                   /* for people, in openapi.json; NULL: not listed */
} route_t;

/* What a program's section of the settings says of its server (rows: web_settings). */
typedef struct {
    char listen[256]; /* HOST:PORT, [IPV6]:PORT or PORT for loopback; 0: any port; more by commas */
    uint32_t threads;
    uint32_t helpers;           /* threads for ROUTE_BLOCKING */
    uint32_t connections;       /* of a listener; past it 503 */
    uint32_t per_client;        /* connections of one address, 0: no bound */
    uint32_t header_bytes;      /* of a request's line and headers; past it 431 */
    uint64_t body_bytes;        /* of a request; past it 413 */
    uint64_t held_bytes;        /* of all bodies together; past it 503 */
    uint32_t header_ms;         /* a request's line and headers must be here within it */
    uint32_t idle_ms;           /* a connection without a request is kept so long */
    uint32_t pace_bytes;        /* a body must come, and be taken, at this many bytes a second */
    char base_path[200];        /* "/eventflow" behind a reverse proxy */
    char tls_certificate[1000]; /* files in PEM; empty: no TLS */
    char tls_key[1000];
    access_options_t access;
} web_options_t;
extern const settings_t web_settings;
void web_defaults (web_options_t *options, const char *listen);

/* `options` and `access` are borrowed for its life. */
server_t *server_new (const web_options_t *options, access_t *access);
/* Another listener: `address` as in `listen`. Its name is for logs and metrics ("main", "python").
 */
listener_t *server_listener (server_t *self, const char *name, const char *address);
/* Adds routes before the start; rows and arg are borrowed. The first that fits answers. */
void listener_routes (listener_t *self, const route_t *rows, size_t count, void *arg);
/* Opens all listeners and prints their addresses to standard error. 0, or -1 and `error`. */
EF_MUST_USE int server_start (server_t *self, char error[512]);
/* Before the start: calls `turn` in a listener's thread behind each round of functions of
   ROUTE_QUICK, so that what they began can go on together. */
void server_on_turn (server_t *self, void (*turn) (void *arg), void *arg);
/* Takes nothing new: keep-alive ends, new requests are answered 503 DRAINING, but for /health. */
void server_drain (server_t *self);
/* Waits up to `timeout_ms` for calls under way; true: there are none left. */
bool server_is_quiet (server_t *self, uint32_t timeout_ms);
/* Ends what is left. No function of a route runs any more, or is called, after it. */
void server_destroy (server_t **self_p);

uint16_t listener_port (const listener_t *self); /* once it is open */
const char *listener_name (const listener_t *self);
/* All routes of a listener, for openapi.json. NULL behind the last. */
const route_t *listener_route (const listener_t *self, size_t index);

typedef struct {
    uint64_t requests;
    uint64_t by_status[6]; /* 1xx to 5xx at their first digit; [0]: cut before an answer */
    uint64_t received_bytes;
    uint64_t sent_bytes;
    uint64_t refused_malformed;
    uint64_t refused_overload;
    uint64_t refused_access; /* 401, 403 */
    uint64_t refused_rate;
    uint64_t cut_slow;
    uint32_t connections; /* now */
    uint32_t calls;       /* now */
    uint64_t held_bytes;  /* now */
} server_numbers_t;
void server_numbers (const server_t *self, server_numbers_t *numbers);

/* ---- a call: what came. Everything is borrowed until it is answered. ---- */

const char *call_method (const call_t *self);
const char *call_path (const call_t *self); /* decoded, without base path and query */
const char *call_part (const call_t *self, unsigned index);     /* of the route's path, decoded */
const char *call_query (const call_t *self, const char *name);  /* decoded; NULL: not there */
const char *call_header (const call_t *self, const char *name); /* NULL: not there */
/* Calls `each` for every header (is_query: query argument). */
void call_each (const call_t *self, bool is_query,
                void (*each) (void *arg, const char *name, const char *value), void *arg);
/* The media type alone, lower case, without parameters: "application/json"; "" where there is
   none. */
const char *call_type (const call_t *self);
const char *call_body (const call_t *self, size_t *size);
const identity_t *call_identity (const call_t *self);
const char *call_client (const call_t *self); /* its address */
const char *call_base (const call_t *self);   /* path to put before links: "" or "/eventflow" */
server_t *call_server (const call_t *self);
listener_t *call_listener (const call_t *self);

/* ---- its answer: exactly one of these, from any thread ---- */

/* Before the answer. `name` is borrowed for ever (a literal), the value copied. */
void call_add_header (call_t *self, const char *name, const char *value);
/* The same for a value that lives as long as the call: of call_keep, or in what it owns. */
void call_lend_header (call_t *self, const char *name, const char *value);
/* A copy that lives as long as the call. */
char *call_keep (call_t *self, const char *text, size_t size);
/* Before the answer, once: what is freed with the call, by the thread that allocated most of it. */
void call_own (call_t *self, void *thing, void (*release) (void *thing));
bool call_has_header (const call_t *self, const char *name); /* one that was added */
/* What an audit line says of it beside who, what and when: "topic=email purged=12". Copied. */
void call_note (call_t *self, const char *format, ...) EF_PRINTF (2, 3);
/* Takes the buffer's memory. `type` is borrowed for ever (a literal). */
void call_answer (call_t *self, unsigned status, const char *type, ef_buf_t *body);
/* `data` lives as long as the server. */
void call_answer_static (call_t *self, unsigned status, const char *type, const void *data,
                         size_t size);
/* A printf as application/json. */
void call_answer_json (call_t *self, unsigned status, const char *format, ...) EF_PRINTF (3, 4);

/* Answers 200 with a stream without an end (server-sent events). It is the caller's until it has
   said stream_end. NULL: the server has `connections` / 4 streams already and answers 503 itself.
 */
typedef struct stream_s stream_t;
stream_t *call_stream (call_t *self, const char *type);
/* Appends, from any thread. 0; -1: the client is gone, or 1 MiB behind: say stream_end. */
EF_MUST_USE int stream_send (stream_t *self, const void *bytes, size_t size);
void stream_end (stream_t **self_p);

#endif
