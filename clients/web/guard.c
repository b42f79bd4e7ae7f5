/* Slow clients are cut. SPDX-License-Identifier: MIT

   Role: knows every connection and since when it is in its phase. libmicrohttpd's own time-out
   begins anew with every byte, so a client that sends one now and then would stay for ever; here
   each phase has an end, and a body must keep a pace. A thread looks at all of them four times a
   second and shuts the sockets of those that are too slow, which the library then closes. Owns: the
   records of connections. Invariants: a record is in its listener's list from before its first byte
   until before its socket is closed, both under the lock, so that no other socket of the same
   number is ever shut. */
#include "server_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#define GUARD_INTERVAL_MS 250
#define GUARD_GRACE_MS    5000 /* a body's and an answer's, before its pace counts */

static void
s_read_address (connection_t *link, const struct sockaddr *address) {
    const char *text = NULL;
    if (address && address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
        text = inet_ntop (AF_INET, &in->sin_addr, link->address, sizeof link->address);
        link->is_loopback = ntohl (in->sin_addr.s_addr) >> 24 == 127;
    } else if (address && address->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
        const uint8_t *bytes = in6->sin6_addr.s6_addr;
        bool is_mapped = IN6_IS_ADDR_V4MAPPED (&in6->sin6_addr);
        text = is_mapped ? inet_ntop (AF_INET, bytes + 12, link->address, sizeof link->address)
                         : inet_ntop (AF_INET6, bytes, link->address, sizeof link->address);
        link->is_loopback =
            is_mapped ? bytes[12] == 127 : IN6_IS_ADDR_LOOPBACK (&in6->sin6_addr) != 0;
    }
    if (text == NULL) {
        link->address[0] = '?';
    }
}

static void
s_begin (loop_t *loop, struct MHD_Connection *connection, void **context) {
    connection_t *link = calloc (1, sizeof *link);
    ef_assert (link != NULL);
    listener_t *listener = loop_listener (loop);
    link->loop = loop;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info (connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    link->fd = info ? info->connect_fd : -1;
    info = MHD_get_connection_info (connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    s_read_address (link, info ? info->client_addr : NULL);
    int yes = 1;
    (void)setsockopt (link->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes); /* only slower */
    guard_phase (link, PHASE_NEW, 0);
    pthread_mutex_lock (&listener->lock);
    link->next = listener->connections;
    if (link->next) {
        link->next->previous = link;
    }
    listener->connections = link;
    pthread_mutex_unlock (&listener->lock);
    *context = link;
    loop_opened (loop);
}

static void
s_end (void **context) {
    connection_t *link = *context;
    loop_t *loop = link->loop;
    listener_t *listener = loop_listener (loop);
    pthread_mutex_lock (&listener->lock);
    *(link->previous ? &link->previous->next : &listener->connections) = link->next;
    if (link->next) {
        link->next->previous = link->previous;
    }
    pthread_mutex_unlock (&listener->lock);
    loop_closed (loop);
    free (link);
    *context = NULL;
}

void
guard_notify (void *arg, struct MHD_Connection *connection, void **context,
              enum MHD_ConnectionNotificationCode code) {
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        s_begin (arg, connection, context);
    } else if (*context) {
        s_end (context);
    }
}

/* Where two loops ask at once, both may take one. */
enum MHD_Result
guard_accept (void *arg, const struct sockaddr *address, socklen_t size) {
    listener_t *listener = arg;
    uint32_t most = listener->server->options->per_client;
    connection_t asks = {0};
    uint32_t count = 0;
    (void)size;
    if (most > 0) {
        s_read_address (&asks, address);
        pthread_mutex_lock (&listener->lock);
        for (const connection_t *link = listener->connections; link; link = link->next) {
            count += strcmp (link->address, asks.address) == 0;
        }
        pthread_mutex_unlock (&listener->lock);
    }
    return most == 0 || count < most ? MHD_YES : MHD_NO;
}

/* Has it been too long in its phase? */
static bool
s_is_slow (const server_t *server, const connection_t *link, uint64_t now) {
    const web_options_t *options = server->options;
    uint64_t since = atomic_load_explicit (&link->since_ms, memory_order_relaxed);
    uint64_t bytes = atomic_load_explicit (&link->bytes, memory_order_relaxed);
    uint64_t spent = now > since ? now - since : 0;
    uint64_t pace = options->pace_bytes ? options->pace_bytes : 1;
    switch ((phase_t)atomic_load_explicit (&link->phase, memory_order_relaxed)) {
    case PHASE_NEW:
    case PHASE_HEADERS: return spent > options->header_ms;
    case PHASE_IDLE:
        return spent > (atomic_load (&server->is_draining) ? GUARD_INTERVAL_MS : options->idle_ms);
    case PHASE_BODY:
        return spent > GUARD_GRACE_MS && bytes < (spent - GUARD_GRACE_MS) * pace / 1000;
    case PHASE_ANSWER: return spent > GUARD_GRACE_MS + bytes * 1000 / pace;
    case PHASE_WAIT:
    case PHASE_STREAM:
    default: return false;
    }
}

static void
s_look (server_t *server, listener_t *listener) {
    uint64_t now = ef_mono_ms ();
    pthread_mutex_lock (&listener->lock);
    for (connection_t *link = listener->connections; link; link = link->next) {
        if (!link->is_cut && s_is_slow (server, link, now)) {
            link->is_cut = true;
            bool was_idle = atomic_load (&link->phase) == PHASE_IDLE;
            count_add (&server->counts.cut_slow, was_idle ? 0 : 1);
            (void)shutdown (link->fd, SHUT_RDWR); /* it is closed already */
        }
    }
    pthread_mutex_unlock (&listener->lock);
}

static void *
s_run (void *arg) {
    server_t *server = arg;
    uint64_t refreshed = ef_mono_ms ();
    pthread_mutex_lock (&server->guard_lock);
    while (!server->is_ending) {
        uint64_t until = ef_mono_ns () + GUARD_INTERVAL_MS * 1000000u;
        const struct timespec deadline = {(time_t)(until / 1000000000u),
                                          (long)(until % 1000000000u)};
        if (pthread_cond_timedwait (&server->guard_wake, &server->guard_lock, &deadline) !=
            ETIMEDOUT) {
            continue;
        }
        pthread_mutex_unlock (&server->guard_lock);
        for (unsigned i = 0; i < server->listener_count; i++) {
            s_look (server, &server->listeners[i]);
        }
        if (ef_mono_ms () - refreshed >= 1000) {
            access_refresh (server->access);
            refreshed = ef_mono_ms ();
        }
        pthread_mutex_lock (&server->guard_lock);
    }
    pthread_mutex_unlock (&server->guard_lock);
    return NULL;
}

int
guard_start (server_t *self) {
    self->has_guard = pthread_create (&self->guard, NULL, s_run, self) == 0;
    return self->has_guard ? 0 : -1;
}

void
guard_stop (server_t *self) {
    if (self->has_guard) {
        pthread_mutex_lock (&self->guard_lock);
        self->is_ending = true;
        pthread_cond_signal (&self->guard_wake);
        pthread_mutex_unlock (&self->guard_lock);
        (void)pthread_join (self->guard, NULL); /* a thread of our own */
        self->has_guard = false;
    }
}
