/* A thread that runs one of libmicrohttpd's daemons. SPDX-License-Identifier: MIT

   Role: waits for callers, for the daemon's sockets and for answers that came from other threads,
   then lets the daemon work. The library's own threads would do, but there each request that waits
   costs two changes of its epoll set, a read in vain and a write to an eventfd, half of what the
   gateway adds to a bare handler. Here answers wake a loop only where it sleeps, and up to
   LOOP_KEPT requests that wait stay among the connections that the daemon looks at each time it
   runs, as it does with any that has no response yet; only those beyond are suspended. Loops of one
   address share its socket, and one accepts only while none of the others has fewer connections:
   whoever woke first would have all of a burst, and the others nothing to do. Owns: the daemon, the
   thread. Invariants: who answers wakes the loop behind it, and `state` is set to AWAKE before the
   daemon looks, so that no answer is passed over. While requests are kept the daemon can't say
   whether it has more to do: then it runs on for as many turns as what it called us for may need,
   and looks again after LOOP_LOOK_MS in any case. */
#include "../../broker/base/log.h"
#include "server_private.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOP_KEPT    128 /* looking at all of them takes some microseconds */
#define LOOP_LOOK_MS 2
#define LOOP_CALLERS 16  /* accepted at once, before their requests are looked at */
#define LOOP_REST_MS 100 /* until it tries again to accept where the system had nothing left */

typedef enum { LOOP_AWAKE, LOOP_ASLEEP, LOOP_TOLD } loop_state_t;

struct loop_s {
    loop_t *next; /* of its listener */
    listener_t *listener;
    struct MHD_Daemon *daemon;
    pthread_t thread;
    int door;           /* the socket that listens; not owned */
    int sockets;        /* the daemon's epoll, which is readable when there is something to do */
    int wake;           /* eventfd */
    uint64_t looked_ms; /* for callers; the thread's own */
    uint64_t rests_ms;  /* accepts nobody until then; the thread's own */
    _Atomic uint32_t connections;
    uint32_t kept;  /* requests; the thread's own */
    unsigned turns; /* that the daemon runs at least before it sleeps; the thread's own */
    bool has_begun; /* a function of a route ran; the thread's own */
    bool is_running;
    _Atomic int state;
    _Atomic bool is_ending;
};

listener_t *
loop_listener (const loop_t *self) {
    return self->listener;
}

/* ---- from any thread ---- */

void
loop_wake (loop_t *self) {
    if (atomic_exchange (&self->state, LOOP_TOLD) == LOOP_ASLEEP) {
        uint64_t one = 1;
        ssize_t written = write (self->wake, &one, sizeof one);
        (void)written; /* full: it is awake already */
    }
}

void
loop_resume (loop_t *self, struct MHD_Connection *connection) {
    MHD_resume_connection (connection);
    loop_wake (self);
}

/* There is room for connections again: whoever may accept looks at it anew. */
static void
s_wake_all (listener_t *listener) {
    for (loop_t *loop = listener->loops; loop; loop = loop->next) {
        loop_wake (loop);
    }
}

/* ---- in its own ---- */

void
loop_opened (loop_t *self) {
    atomic_fetch_add (&self->connections, 1);
    atomic_fetch_add (&self->listener->connection_count, 1);
    loop_moved (self, 1);
}

void
loop_closed (loop_t *self) {
    listener_t *listener = self->listener;
    uint32_t most = listener->server->options->connections + WEB_SPARE;
    atomic_fetch_sub (&self->connections, 1);
    if (atomic_fetch_sub (&listener->connection_count, 1) >= most) {
        s_wake_all (listener);
    }
}

/* The loop at the same door with the fewest connections; itself where none has fewer. */
static loop_t *
s_least (loop_t *self) {
    loop_t *least = self;
    uint32_t fewest = atomic_load (&self->connections);
    for (loop_t *other = self->listener->loops; other; other = other->next) {
        uint32_t count = atomic_load (&other->connections);
        if (other->door == self->door && count < fewest) {
            least = other;
            fewest = count;
        }
    }
    return least;
}

static bool
s_may_accept (loop_t *self) {
    const listener_t *listener = self->listener;
    uint32_t most = listener->server->options->connections + WEB_SPARE;
    return atomic_load (&listener->connection_count) < most && s_least (self) == self &&
           (self->rests_ms == 0 || ef_mono_ms () >= self->rests_ms);
}

/* Takes one caller in. False: there is none, or there can't be one now. */
static bool
s_accept_one (loop_t *self) {
    struct sockaddr_storage address;
    struct sockaddr *place = (struct sockaddr *)&address;
    socklen_t size = sizeof address;
    int fd = accept4 (self->door, place, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    self->rests_ms = 0;
    if (fd >= 0) {
        (void)MHD_add_connection (self->daemon, fd, place, size); /* else it has closed it */
        return true;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        self->rests_ms = ef_mono_ms () + LOOP_REST_MS;
        ef_log_limited (EF_LOG_ERROR, "accept.failed", "listener=%s why=\"%s\"",
                        self->listener->name, strerror (errno));
    }
    return errno == ECONNABORTED || errno == EINTR || errno == EPROTO;
}

static void
s_accept (loop_t *self) {
    unsigned count = 0;
    while (count < LOOP_CALLERS && s_may_accept (self) && s_accept_one (self)) {
        count++;
    }
    loop_t *least = count > 0 ? s_least (self) : self;
    if (least != self) {
        loop_wake (least); /* the next ones are its own */
    }
}

void
loop_moved (loop_t *self, unsigned turns) {
    self->turns = turns > self->turns ? turns : self->turns;
}

void
loop_begun (loop_t *self) {
    self->has_begun = true;
}

bool
loop_keep (loop_t *self) {
    /* What TLS has read ahead shows only in what the daemon says. */
    bool is_kept = self->kept < LOOP_KEPT && self->listener->server->certificate == NULL;
    self->kept += is_kept;
    return is_kept;
}

void
loop_let_go (loop_t *self) {
    ef_assert (self->kept > 0);
    self->kept--;
}

static bool
s_has_more (loop_t *self) {
    MHD_UNSIGNED_LONG_LONG ms = 1;
    bool has_moved = self->turns > 0;
    self->turns -= has_moved;
    if (self->kept > 0) {
        return has_moved;
    }
    return MHD_get_timeout (self->daemon, &ms) == MHD_YES && ms == 0;
}

/* A loop that is busy doesn't sleep, but looks for callers all the same. */
static bool
s_is_time_to_look (loop_t *self) {
    uint64_t now = ef_mono_ms ();
    bool is_time = now != self->looked_ms;
    self->looked_ms = now;
    return is_time;
}

/* True: there are callers. */
static bool
s_sleep (loop_t *self) {
    int awake = LOOP_AWAKE;
    if (!atomic_compare_exchange_strong (&self->state, &awake, LOOP_ASLEEP)) {
        return false;
    }
    if (self->rests_ms && ef_mono_ms () >= self->rests_ms) {
        self->rests_ms = 0;
    }
    struct pollfd polls[3] = {{self->sockets, POLLIN, 0},
                              {self->wake, POLLIN, 0},
                              {s_may_accept (self) ? self->door : -1, POLLIN, 0}};
    uint64_t count;
    int most = self->kept > 0 ? LOOP_LOOK_MS : self->rests_ms ? LOOP_REST_MS : -1;
    (void)poll (polls, 3, most); /* interrupted: looks again */
    ssize_t got = polls[1].revents ? read (self->wake, &count, sizeof count) : 0;
    (void)got; /* how often it was woken doesn't matter */
    return polls[2].revents;
}

static void *
s_run (void *arg) {
    loop_t *self = arg;
    const server_t *server = self->listener->server;
    while (!atomic_load (&self->is_ending)) {
        bool is_busy = s_has_more (self);
        bool has_callers = is_busy ? s_is_time_to_look (self) : s_sleep (self);
        (void)atomic_exchange (&self->state, LOOP_AWAKE); /* whatever it was */
        if (has_callers) {
            s_accept (self);
        }
        (void)MHD_run (self->daemon); /* fails only where it has ended */
        if (self->has_begun && server->turn) {
            server->turn (server->turn_arg);
        }
        self->has_begun = false;
    }
    return NULL;
}

/* ---- start and end ---- */

static struct MHD_Daemon *
s_start (loop_t *self) {
    listener_t *listener = self->listener;
    const server_t *server = listener->server;
    const web_options_t *options = server->options;
    unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
                     (server->certificate ? MHD_USE_TLS : 0);
    uint32_t most = options->connections + 2 * WEB_SPARE; /* s_may_accept says it before */
    const struct MHD_OptionItem items[] = {
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)most, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, options->header_bytes, NULL},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)guard_notify, self},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)server_completed, listener},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)server_line, listener},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)server_unescape, listener},
#if MHD_VERSION >= 0x00097702
        {MHD_OPTION_CLIENT_DISCIPLINE_LVL, 1, NULL}, /* strict.c */
#endif
        {MHD_OPTION_END, 0, NULL}
    };
    const struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, server->certificate},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, server->key},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"},
        {MHD_OPTION_END, 0, NULL}};
    const struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    return MHD_start_daemon (flags, 0, guard_accept, listener, server_handle, listener,
                             MHD_OPTION_ARRAY, items, MHD_OPTION_ARRAY,
                             server->certificate ? tls : none, MHD_OPTION_END);
}

int
loop_add (listener_t *listener, int door) {
    loop_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->listener = listener;
    self->door = door;
    self->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->daemon = s_start (self);
    self->next = listener->loops;
    listener->loops = self;
    const union MHD_DaemonInfo *info =
        self->daemon ? MHD_get_daemon_info (self->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    self->sockets = info ? info->epoll_fd : -1;
    return self->wake >= 0 && info ? 0 : -1;
}

int
loops_start (listener_t *listener) {
    for (loop_t *self = listener->loops; self; self = self->next) {
        self->is_running = pthread_create (&self->thread, NULL, s_run, self) == 0;
        if (!self->is_running) {
            return -1;
        }
        (void)pthread_setname_np (self->thread, "web"); /* for people who look */
    }
    return 0;
}

void
loops_stop (listener_t *listener) {
    for (loop_t *self = listener->loops; self; self = self->next) {
        atomic_store (&self->is_ending, true);
        loop_wake (self);
    }
    for (loop_t *self = listener->loops; self; self = self->next) { /* they wake each other */
        if (self->is_running) {
            (void)pthread_join (self->thread, NULL); /* a thread of our own */
        }
    }
    while (listener->loops) {
        loop_t *self = listener->loops;
        listener->loops = self->next;
        if (self->daemon) {
            MHD_stop_daemon (self->daemon);
        }
        if (self->wake >= 0) {
            close (self->wake);
        }
        free (self);
    }
}
