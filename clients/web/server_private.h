/* The server's inside. SPDX-License-Identifier: MIT */
#ifndef EF_WEB_SERVER_PRIVATE_H
#define EF_WEB_SERVER_PRIVATE_H

#include "../../proto/event.h"
#include "server.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#define WEB_PARTS_MAX     4  /* of a route's path */
#define WEB_HEADERS_MAX   12 /* that a route adds to an answer */
#define WEB_ADDRESSES_MAX 4  /* of a listener */
#define WEB_TABLES_MAX    8  /* of routes, of a listener */
#define WEB_LISTENERS_MAX 8
#define WEB_HELPED_MAX    1024       /* calls that wait for a helper; past it 503 */
#define WEB_DISCARD_BYTES (1u << 20) /* of a refused request's body are read all the same */
#define WEB_DISCARD_TIMES 4          /* of one that is too large: times the bound */
#define WEB_STREAM_BYTES  (1u << 20) /* that a stream's client may be behind */
#define WEB_SPARE         256        /* connections beyond the bound, which are told 503 */

/* Where a connection is, for what may take how long. */
typedef enum {
    PHASE_IDLE,    /* between two requests, or in a request's line */
    PHASE_NEW,     /* has not said anything yet */
    PHASE_HEADERS, /* the request line is here */
    PHASE_BODY,
    PHASE_WAIT, /* for its answer */
    PHASE_ANSWER,
    PHASE_STREAM
} phase_t;

typedef struct loop_s loop_t;

typedef struct connection_s {
    loop_t *loop;
    struct connection_s *next; /* under the listener's lock */
    struct connection_s *previous;
    int fd;
    _Atomic int phase;
    _Atomic uint64_t since_ms; /* when the phase began */
    _Atomic uint64_t bytes;    /* of the body so far, or of the answer */
    size_t target_bytes;       /* of the request's target, with its query, as text */
    bool is_loopback;
    bool is_cut;
    char address[48];
} connection_t;

struct listener_s {
    server_t *server;
    char name[32];
    char address[256];            /* as it was said */
    loop_t *loops;                /* `threads` for each of its addresses */
    int doors[WEB_ADDRESSES_MAX]; /* sockets that listen, owned */
    unsigned address_count;
    uint16_t port; /* of the first */
    struct {
        const route_t *rows;
        size_t count;
        void *arg;
    } tables[WEB_TABLES_MAX];
    unsigned table_count;
    pthread_mutex_t lock;
    connection_t *connections;
    _Atomic uint32_t connection_count;
};

typedef struct {
    _Atomic uint64_t requests;
    _Atomic uint64_t by_status[6];
    _Atomic uint64_t received_bytes;
    _Atomic uint64_t sent_bytes;
    _Atomic uint64_t refused_malformed;
    _Atomic uint64_t refused_overload;
    _Atomic uint64_t refused_access;
    _Atomic uint64_t refused_rate;
    _Atomic uint64_t cut_slow;
    _Atomic uint32_t calls;
    _Atomic uint32_t streams;
    _Atomic uint64_t held_bytes;
} counts_t;

struct server_s {
    const web_options_t *options;
    access_t *access;
    listener_t listeners[WEB_LISTENERS_MAX];
    unsigned listener_count;
    char *certificate; /* owned PEM texts; NULL: no TLS */
    char *key;
    counts_t counts;
    _Atomic bool is_draining;
    bool is_started;
    void (*turn) (void *arg); /* NULL: nothing */
    void *turn_arg;
    /* guard.c */
    pthread_t guard;
    bool has_guard;
    pthread_mutex_t guard_lock;
    pthread_cond_t guard_wake;
    _Atomic bool is_ending; /* for the helpers too */
    /* helpers.c */
    pthread_t *helpers;
    uint32_t helper_count;
    pthread_mutex_t help_lock;
    pthread_cond_t help_wanted;
    call_t *help_first;
    call_t *help_last;
    uint32_t help_count;
};

/* A call goes RUNNING -> KEPT (loop.c) or SUSPENDED -> ANSWERED, or straight to ANSWERED. */
typedef enum {
    CALL_RUNNING,
    CALL_KEPT,
    CALL_SUSPENDED,
    CALL_ANSWERED,
    CALL_ABANDONED /* the client has gone: whoever answers frees it */
} call_state_t;

typedef struct text_s {
    struct text_s *next;
    char text[];
} text_t;

/* What the headers say that the server itself needs; borrowed from the connection. */
typedef struct {
    const char *host;
    const char *authorization;
    const char *origin;
    const char *fetch_site;
    const char *type;
    const char *request_id;
    const char *forwarded_for;
    bool is_forwarded; /* by a proxy, whoever that is */
    bool has_length;
    bool is_chunked;
    bool is_expecting; /* waits to be told to go on */
    uint64_t length;
} head_t;

struct call_s {
    listener_t *listener;
    loop_t *loop;
    struct MHD_Connection *connection;
    connection_t *link;
    const char *method; /* borrowed from the connection */
    const char *path;   /* raw, without base path; its own once there is a route */
    head_t head;
    const route_t *route; /* NULL: it is refused */
    void *arg;
    const char *parts[WEB_PARTS_MAX];
    unsigned part_count;
    text_t *texts; /* owned: decoded parts, queries and the like */
    identity_t identity;
    char media[64];
    const char *client;
    ef_buf_t body;
    bool is_over;     /* the body is larger than it may be */
    bool is_started;  /* its route has run */
    bool is_refused;  /* answered before its body was read */
    bool is_kept;     /* by its loop */
    bool is_closing;  /* the connection ends with the answer */
    bool has_browser; /* an Origin that may read the answer */
    bool has_query;
    call_t *next; /* waits for a helper */
    _Atomic int state;
    /* the answer */
    unsigned status;
    const char *type;
    ef_buf_t answer;
    const void *fixed; /* NULL: `answer` */
    size_t fixed_size;
    struct {
        const char *name;
        const char *value;
    } headers[WEB_HEADERS_MAX];
    unsigned header_count;
    char *note;  /* owned */
    void *owned; /* NULL: nothing */
    void (*release) (void *owned);
    stream_t *stream; /* a reference; NULL: none */
};

/* strict.c: reads the headers. NULL: fine; else what is wrong with the request (static). */
const char *strict_read (struct MHD_Connection *connection, const char *method, const char *version,
                         head_t *head);
/* The same for what the request line has before its version. `target_bytes` as it came. */
const char *strict_line (const char *method, const char *url, size_t target_bytes,
                         const char *version);
/* Whether every value of the query can be decoded. */
bool strict_query (call_t *call);
/* Before 0.9.77.2 the library takes a bare LF within chunks and trailers for a line's end, where
   nobody can look: behind such a body nothing is read as another request. */
#define STRICT_FORGIVES_CHUNKS (MHD_VERSION < 0x00097702)
/* Decodes %XX. NULL: a bad escape, a NUL or a control character. Owned by the call. */
const char *strict_decode (call_t *call, const char *text, size_t size);

/* routes.c: finds the route of call->path. 0; 404; 405 and `allow` is filled; 400. */
int routes_find (call_t *call, char allow[100]);
/* Is it the base path alone? What is relative there would be looked for beside it. */
bool routes_is_base (const server_t *server, const char *url);
/* The path without scheme, host and base path. NULL: it isn't one. */
const char *routes_path (const server_t *server, const char *url);

/* call.c */
call_t *call_new (listener_t *listener, struct MHD_Connection *connection);
void call_free (call_t *self);
enum MHD_Result call_queue (call_t *self); /* hands its answer over */

/* enter.c: what is looked at before a route runs. The call is answered where it may not. */
void call_enter (call_t *self, const char *version, const char *url);

/* guard.c */
int guard_start (server_t *self);
void guard_stop (server_t *self);
void guard_notify (void *arg, struct MHD_Connection *connection, void **context,
                   enum MHD_ConnectionNotificationCode code);
/* Is there room for another connection of this address? */
enum MHD_Result guard_accept (void *arg, const struct sockaddr *address, socklen_t size);
static inline void
guard_phase (connection_t *link, phase_t phase, uint64_t bytes) {
    atomic_store_explicit (&link->since_ms, ef_mono_ms (), memory_order_relaxed);
    atomic_store_explicit (&link->bytes, bytes, memory_order_relaxed);
    atomic_store_explicit (&link->phase, phase, memory_order_relaxed);
}

/* server.c: libmicrohttpd's callbacks */
void *server_line (void *arg, const char *uri, struct MHD_Connection *connection);
void server_completed (void *arg, struct MHD_Connection *connection, void **mark,
                       enum MHD_RequestTerminationCode code);
size_t server_unescape (void *arg, struct MHD_Connection *connection, char *text);
enum MHD_Result server_handle (void *arg, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_size, void **mark);

/* loop.c */
/* Another loop for a socket that listens. 0 or -1. */
int loop_add (listener_t *listener, int door);
/* All that were added begin. 0 or -1. */
int loops_start (listener_t *listener);
void loops_stop (listener_t *listener); /* before their sockets are closed */
/* From guard.c: a connection of its own came or went. */
void loop_opened (loop_t *self);
void loop_closed (loop_t *self);
listener_t *loop_listener (const loop_t *self);
/* Its daemon looks at all that is kept. From any thread. */
void loop_wake (loop_t *self);
/* A suspended connection goes on. From any thread; it may be gone before this returns. */
void loop_resume (loop_t *self, struct MHD_Connection *connection);
/* For the daemon's callbacks: something happened, after which there may be more to do in as many
   turns of the daemon's, which it doesn't tell. */
void loop_moved (loop_t *self, unsigned turns);
/* A function of a route runs in its thread. */
void loop_begun (loop_t *self);
/* A request waits among those that the daemon looks at. False: it must be suspended. */
EF_MUST_USE bool loop_keep (loop_t *self);
void loop_let_go (loop_t *self);

/* helpers.c */
int helpers_start (server_t *self);
void helpers_stop (server_t *self); /* those that wait are answered 503 */
bool helpers_add (server_t *self, call_t *call);

/* listen.c */
int listen_open (listener_t *self, char error[512]);
void listen_close (listener_t *self);
int listen_load_tls (server_t *self, char error[512]);

/* stream.c */
struct MHD_Response *stream_response (stream_t *self);
void stream_closed (stream_t **self_p); /* the connection's reference */

static inline void
count_add (_Atomic uint64_t *count, uint64_t by) {
    atomic_fetch_add_explicit (count, by, memory_order_relaxed);
}

#endif
