/* Feeds whole requests to gateway and monitor, and whatever a broker might answer them.
   SPDX-License-Identifier: MIT

   The server is the real one, with all its routes, on libmicrohttpd without threads: the request
   comes over a pair of sockets. Instead of the broker there is the second half of the input, behind
   0xff 0xfe. The first byte says from where the request comes and to which face, the second what
   the broker does. Answers must be of HTTP, with a status that is meant, and their JSON
   well-formed.
 */
#include "../../clients/c/eventflow.h"
#include "../../clients/gateway/gateway.h"
#include "../../clients/monitor/collector.h"
#include "../../clients/monitor/page.h"
#include "../../clients/web/server_private.h"
#include "../../proto/json.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define REQUEST_MAX 60000 /* bytes that a pair of sockets holds */
#define ASKED_MAX   8     /* questions that the broker answers to one request */

int LLVMFuzzerInitialize (int *argc, char ***argv);
int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static gateway_options_t s_options = {.face_python = "x", .face_node = "x", .face_queue = "x"};
static web_options_t s_web;
static options_t s_monitor;
static gateway_t s_gateway = {.options = &s_options, .web = &s_web};
static struct MHD_Daemon *s_daemons[4];

/* ---- in place of the broker ---- */

static pthread_t s_main;
static ef_span_t s_answer;
static uint8_t s_does;
static unsigned s_asked;

struct eventflow_admin_s {
    int unused;
};

struct eventflow_publisher_s {
    int unused;
};

eventflow_admin_t *
eventflow_admin_new (const char *endpoint) {
    (void)endpoint;
    return calloc (1, sizeof (eventflow_admin_t));
}

void
eventflow_admin_destroy (eventflow_admin_t **self_p) {
    free (*self_p);
    *self_p = NULL;
}

int
eventflow_admin_call (eventflow_admin_t *self, eventflow_bytes_t request, int timeout_ms,
                      eventflow_bytes_t *value, char *code, char *text) {
    static const char *const codes[] = {"UNKNOWN_TOPIC", "NOT_FOUND", "BAD_COMMAND", "?"};
    (void)self;
    (void)timeout_ms;
    ef_cursor_t cursor = ef_cursor (request.data, request.size);
    ef_assert (ef_skip (&cursor) == 0 && ef_cursor_left (&cursor) == 0); /* well-formed, always */
    bool is_ours = pthread_equal (pthread_self (), s_main) != 0;
    if (!is_ours || s_does % 8 == 7) {
        snprintf (code, 32, "%s", codes[s_does / 8 % 4]);
        snprintf (text, 512, "%.*s", is_ours ? (int)s_answer.size : 0, s_answer.data);
        return EVENTFLOW_REFUSED;
    }
    if (s_does % 8 == 6 || s_asked++ == ASKED_MAX) {
        return EVENTFLOW_TIMEOUT;
    }
    *value = (eventflow_bytes_t){s_answer.data, s_answer.size};
    return EVENTFLOW_OK;
}

eventflow_publisher_t *
eventflow_publisher_new (const eventflow_publisher_options_t *options) {
    (void)options;
    return calloc (1, sizeof (eventflow_publisher_t));
}

void
eventflow_publisher_destroy (eventflow_publisher_t **self_p) {
    free (*self_p);
    *self_p = NULL;
}

int
eventflow_publish_event (eventflow_publisher_t *self, eventflow_bytes_t event, int timeout_ms,
                         uint64_t *ticket) {
    (void)self;
    (void)timeout_ms;
    (void)ticket;
    ef_cursor_t cursor = ef_cursor (event.data, event.size);
    return ef_skip (&cursor) == 0 && ef_cursor_left (&cursor) == 0 ? EVENTFLOW_OK
                                                                   : EVENTFLOW_INVALID;
}

int
eventflow_publisher_wait (eventflow_publisher_t *self, int timeout_ms, char *code, char *text) {
    (void)self;
    (void)timeout_ms;
    (void)code;
    (void)text;
    return s_does % 2 ? EVENTFLOW_TIMEOUT : EVENTFLOW_OK;
}

/* ---- in place of the outbox: all is confirmed, refused or late at once ---- */

const double outbox_steps_s[OUTBOX_STEPS - 1] = {1};

void
outbox_publish (outbox_t *self, call_t *call, batch_t *batch, style_t style, bool is_atomic) {
    (void)self;
    for (uint32_t i = 0; i < batch->count && s_does % 4 == 1; i += 2) {
        if (batch->slots[i].code == NULL) {
            batch_refuse (batch, &batch->slots[i], "FULL", "no room");
        }
    }
    if (batch->refused > 0) {
        answer_refused (call, batch, is_atomic);
    } else if (s_does % 4 == 2) {
        answer_late (call, batch);
    } else {
        ef_buf_t out = {0};
        answer_accepted (&out, batch, style, "sync");
        call_answer (call, 202, "application/json", &out);
    }
    batch_free (batch);
}

void
outbox_numbers (outbox_t *self, outbox_numbers_t *numbers) {
    (void)self;
    memset (numbers, 0, sizeof *numbers);
}

/* ---- in place of the helpers: who may block runs at once ---- */

int
helpers_start (server_t *self) {
    (void)self;
    return 0;
}

void
helpers_stop (server_t *self) {
    (void)self;
}

bool
helpers_add (server_t *self, call_t *call) {
    (void)self;
    call->route->run (call->arg, call);
    return true;
}

/* ---- in place of the loops: the daemon runs here ---- */

struct loop_s {
    listener_t *listener;
};
static loop_t s_loops[4];

listener_t *
loop_listener (const loop_t *self) {
    return self->listener;
}

void
loop_wake (loop_t *self) {
    (void)self;
}

void
loop_resume (loop_t *self, struct MHD_Connection *connection) {
    (void)self;
    MHD_resume_connection (connection);
}

void
loop_moved (loop_t *self) {
    (void)self;
}

bool
loop_keep (loop_t *self) {
    (void)self;
    return false;
}

void
loop_let_go (loop_t *self) {
    (void)self;
}

void
loop_begun (loop_t *self) {
    (void)self;
}

void
loop_opened (loop_t *self) {
    (void)self;
}

void
loop_closed (loop_t *self) {
    (void)self;
}

int
loop_add (listener_t *listener, int door) {
    (void)listener;
    (void)door;
    return -1;
}

int
loops_start (listener_t *listener) {
    (void)listener;
    return -1;
}

void
loops_stop (listener_t *listener) {
    (void)listener;
}

/* ---- the server ---- */

static struct MHD_Daemon *
s_start (loop_t *loop, listener_t *listener) {
    loop->listener = listener;
    struct MHD_Daemon *daemon = MHD_start_daemon (
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
        server_handle, listener, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)8192,
        MHD_OPTION_NOTIFY_CONNECTION, guard_notify, loop, MHD_OPTION_NOTIFY_COMPLETED,
        server_completed, listener, MHD_OPTION_URI_LOG_CALLBACK, server_line, listener,
        MHD_OPTION_UNESCAPE_CALLBACK, server_unescape, listener, MHD_OPTION_END);
    ef_assert (daemon != NULL);
    return daemon;
}

/* A file of tokens, a schema, a place for the history. */
static void
s_make_files (void) {
    static const char schema[] = "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{"
                                 "\"enum\":[1,\"x\"]}}}";
    char directory[] = "/tmp/ef-fuzz-XXXXXX";
    char path[100];
    char error[512];
    ef_assert (mkdtemp (directory) != NULL);
    snprintf (s_web.access.tokens, sizeof s_web.access.tokens, "%s/tokens", directory);
    snprintf (s_monitor.data, sizeof s_monitor.data, "%s/db", directory);
    FILE *file = fopen (s_web.access.tokens, "wx");
    ef_assert (file != NULL && fchmod (fileno (file), 0600) == 0);
    fputs ("r read 0123456789abcdef\np publish:e* 1123456789abcdef\n", file);
    fclose (file);
    snprintf (path, sizeof path, "%s/s.json", directory);
    file = fopen (path, "w");
    ef_assert (file != NULL);
    fputs (schema, file);
    fclose (file);
    s_gateway.schemas = schemas_new (directory, error);
    ef_assert (s_gateway.schemas != NULL);
}

int
LLVMFuzzerInitialize (int *argc, char ***argv) {
    char error[512];
    (void)argc;
    (void)argv;
    s_main = pthread_self ();
    web_defaults (&s_web, "x");
    options_defaults (&s_monitor);
    s_make_files ();
    snprintf (s_web.access.audit, sizeof s_web.access.audit, "/dev/null");
    snprintf (s_web.access.hosts, sizeof s_web.access.hosts, "a.example, b");
    snprintf (s_web.access.origins, sizeof s_web.access.origins, "http://a.example,https://b");
    snprintf (s_monitor.stats, sizeof s_monitor.stats, "inproc://none");
    pthread_rwlock_init (&s_gateway.schemas_lock, NULL);
    pthread_mutex_init (&s_gateway.numbers_lock, NULL);
    numbers_init (&s_gateway.numbers);
    s_gateway.access = access_new (&s_web.access, error);
    ef_assert (s_gateway.access != NULL);
    s_gateway.server = server_new (&s_web, s_gateway.access);
    s_gateway.admin = admin_pool_new (NULL, 2, 1000);
    s_gateway.api = api_new (s_gateway.admin, NULL);
    collector_t *collector = collector_new (&s_monitor, error);
    ef_assert (collector != NULL);
    faces_add (&s_gateway);
    collector_routes (collector, s_gateway.faces[0].listener, &s_web);
    for (unsigned i = 0; i < 4; i++) {
        s_daemons[i] = s_start (&s_loops[i], s_gateway.faces[i].listener);
    }
    return 0;
}

/* The first answer, as far as it is there. `is_head`: perhaps without its body. */
static void
s_judge (const char *text, size_t size, bool is_head) {
    static const unsigned known[] = {200, 202, 204, 207, 302, 304, 400, 401, 403,
                                     404, 405, 409, 413, 414, 415, 422, 429, 431,
                                     500, 501, 502, 503, 504, 505, 507, 0};
    unsigned status = 0;
    const char *end = memmem (text, size, "\r\n\r\n", 4);
    ef_assert (size == 0 || (size > 12 && memcmp (text, "HTTP/1.", 7) == 0 && end != NULL));
    if (size == 0 || sscanf (text + 9, "%3u", &status) != 1) {
        return;
    }
    if (status == 100) {
        s_judge (end + 4, size - (size_t)(end + 4 - text), is_head);
        return;
    }
    unsigned i = 0;
    while (known[i] && known[i] != status) {
        i++;
    }
    ef_assert (known[i] != 0);
    const char *length = memmem (text, (size_t)(end - text), "Content-Length: ", 16);
    bool is_json = memmem (text, (size_t)(end - text), "json\r\n", 6) != NULL;
    size_t bytes = length ? strtoul (length + 16, NULL, 10) : 0;
    if (is_json && !is_head && bytes > 0 && bytes <= size - (size_t)(end + 4 - text)) {
        ef_buf_t packed = {0};
        const char *why = "";
        size_t used = ef_json_parse (&packed, end + 4, bytes, &why);
        if (used != bytes && strstr (why, "32") == NULL) { /* deeper than it reads itself */
            fprintf (stderr, "%.*s\nexpected %s at %zu\n", (int)size, text, why, used);
            abort ();
        }
        ef_buf_free (&packed);
    }
}

/* Until the server has closed; a client that has said all has closed its half. */
static size_t
s_talk (struct MHD_Daemon *daemon, int client, char *answer, size_t most) {
    size_t size = 0;
    for (unsigned i = 0; i < 64; i++) {
        char rest[4096];
        (void)MHD_run (daemon); /* fails only where it isn't of this kind */
        ssize_t got = read (client, size < most ? answer + size : rest,
                            size < most ? most - size : sizeof rest);
        if (got == 0) {
            break;
        }
        size += got > 0 && size < most ? (size_t)got : 0;
    }
    return size;
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size) {
    static char answer[1 << 18];
    static const uint8_t mark[2] = {0xff, 0xfe};
    int pair[2];
    if (size < 3 || size > REQUEST_MAX || memmem (data, size, "v1/live", 7)) {
        return -1; /* a stream has no end */
    }
    const uint8_t *second = memmem (data + 2, size - 2, mark, 2);
    size_t request = second ? (size_t)(second - data) - 2 : size - 2;
    size_t rest = second ? size - request - 4 : 0;
    uint8_t *copy = malloc (rest ? rest : 1);
    ef_assert (copy != NULL);
    memcpy (copy, second ? second + 2 : data, rest);
    s_answer = (ef_span_t){(char *)copy, (uint32_t)rest};
    s_does = data[1];
    s_asked = 0;
    s_web.access.read_only = data[0] & 4;
    snprintf (s_web.access.proxies, sizeof s_web.access.proxies, data[0] & 8 ? "127.0.0.1" : "");
    struct MHD_Daemon *daemon = s_daemons[data[0] & 3];
    struct sockaddr_in from = {.sin_family = AF_INET};
    from.sin_addr.s_addr = htonl (data[0] & 16 ? 0xc0000201 : INADDR_LOOPBACK);
    int rc = socketpair (AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair);
    ef_assert (rc == 0);
    ssize_t written = write (pair[0], data + 2, request);
    ef_assert (written == (ssize_t)request && shutdown (pair[0], SHUT_WR) == 0);
    if (MHD_add_connection (daemon, pair[1], (struct sockaddr *)&from, sizeof from) == MHD_YES) {
        size_t got = s_talk (daemon, pair[0], answer, sizeof answer);
        s_judge (answer, got, memmem (data + 2, request, "HEAD", 4) != NULL);
    }
    close (pair[0]);
    for (unsigned i = 0; i < 4; i++) {
        (void)MHD_run (daemon);
    }
    server_numbers_t numbers;
    server_numbers (s_gateway.server, &numbers);
    ef_assert (numbers.connections == 0 && numbers.calls == 0 && numbers.held_bytes == 0);
    free (copy);
    return 0;
}
