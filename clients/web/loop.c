/* A thread that runs one of libmicrohttpd's daemons. SPDX-License-Identifier: MIT

   Role: waits for the daemon's sockets and for answers that came from other threads, then lets the
   daemon work. The library's own threads would do, but there each request that waits costs two
   changes of its epoll set, a read in vain and a write to an eventfd, half of what the gateway adds
   to a bare handler. Here answers wake a loop only where it sleeps, and up to LOOP_KEPT requests
   that wait stay among the connections that the daemon looks at each time it runs, as it does with
   any that has no response yet; only those beyond are suspended. Owns: the daemon, its listening
   socket, the thread. Invariants: who answers wakes the loop behind it, and `state` is set to AWAKE
   before the daemon looks, so that no answer is passed over. While requests are kept the daemon
   can't say whether it has more to do: then it runs on as long as it calls us, and looks again
   after LOOP_LOOK_MS in any case. */
#include "server_private.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define LOOP_KEPT    128 /* looking at all of them takes some microseconds */
#define LOOP_LOOK_MS 2

typedef enum { LOOP_AWAKE, LOOP_ASLEEP, LOOP_TOLD } loop_state_t;

struct loop_s {
    loop_t *next; /* of its listener */
    listener_t *listener;
    struct MHD_Daemon *daemon;
    pthread_t thread;
    int sockets;    /* the daemon's epoll, which is readable when there is something to do */
    int wake;       /* eventfd */
    uint32_t kept;  /* requests; the thread's own */
    bool has_moved; /* the daemon called us; the thread's own */
    bool has_begun; /* a function of a route ran; the thread's own */
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

/* ---- in its own ---- */

void
loop_moved (loop_t *self) {
    self->has_moved = true;
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
    bool has_moved = self->has_moved;
    self->has_moved = false;
    if (self->kept > 0) {
        return has_moved;
    }
    return MHD_get_timeout (self->daemon, &ms) == MHD_YES && ms == 0;
}

static void
s_sleep (loop_t *self) {
    struct pollfd polls[2] = {{self->sockets, POLLIN, 0}, {self->wake, POLLIN, 0}};
    int awake = LOOP_AWAKE;
    if (atomic_compare_exchange_strong (&self->state, &awake, LOOP_ASLEEP)) {
        uint64_t count;
        (void)poll (polls, 2, self->kept > 0 ? LOOP_LOOK_MS : -1); /* interrupted: looks again */
        ssize_t got = polls[1].revents ? read (self->wake, &count, sizeof count) : 0;
        (void)got; /* how often it was woken doesn't matter */
    }
}

static void *
s_run (void *arg) {
    loop_t *self = arg;
    const server_t *server = self->listener->server;
    while (!atomic_load (&self->is_ending)) {
        if (!s_has_more (self)) {
            s_sleep (self);
        }
        (void)atomic_exchange (&self->state, LOOP_AWAKE); /* whatever it was */
        (void)MHD_run (self->daemon);                     /* fails only where it has ended */
        if (self->has_begun && server->turn) {
            server->turn (server->turn_arg);
        }
        self->has_begun = false;
    }
    return NULL;
}

/* ---- start and end ---- */

static struct MHD_Daemon *
s_start (loop_t *self, int fd) {
    listener_t *listener = self->listener;
    const server_t *server = listener->server;
    const web_options_t *options = server->options;
    unsigned flags =
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | (server->certificate ? MHD_USE_TLS : 0);
    uint32_t most = (options->connections + WEB_SPARE) / options->threads + 1;
    const struct MHD_OptionItem items[] = {
        {MHD_OPTION_LISTEN_SOCKET, fd, NULL},
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
loop_start (listener_t *listener, int fd) {
    loop_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->listener = listener;
    self->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->daemon = s_start (self, fd);
    const union MHD_DaemonInfo *info =
        self->daemon ? MHD_get_daemon_info (self->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    self->sockets = info ? info->epoll_fd : -1;
    if (self->wake < 0 || info == NULL || pthread_create (&self->thread, NULL, s_run, self)) {
        if (self->daemon) {
            MHD_stop_daemon (self->daemon); /* closes the socket too */
        } else {
            close (fd);
        }
        if (self->wake >= 0) {
            close (self->wake);
        }
        free (self);
        return -1;
    }
    (void)pthread_setname_np (self->thread, "web"); /* for people who look */
    self->next = listener->loops;
    listener->loops = self;
    return 0;
}

void
loops_stop (listener_t *listener) {
    while (listener->loops) {
        loop_t *self = listener->loops;
        listener->loops = self->next;
        atomic_store (&self->is_ending, true);
        loop_wake (self);
        (void)pthread_join (self->thread, NULL); /* a thread of our own */
        MHD_stop_daemon (self->daemon);
        close (self->wake);
        free (self);
    }
}
