/* A thread that runs one of libmicrohttpd's daemons. SPDX-License-Identifier: MIT

   Role: waits for the daemon's sockets and for answers that came from other threads, then lets the
   daemon work. The library's own threads would do, but each answer would cost them a write to an
   eventfd; here those that come while the loop is awake cost nothing, and a loop that sleeps is
   woken once for as many as there are. Owns: the daemon, its listening socket, the thread.
   Invariants: who resumes says so behind it (loop_resume), and `state` is left behind as AWAKE before
   the daemon looks, so no answer is passed over. */
#include "server_private.h"

#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

typedef enum { LOOP_AWAKE, LOOP_ASLEEP, LOOP_TOLD } loop_state_t;

struct loop_s {
    loop_t *next; /* of its listener */
    listener_t *listener;
    struct MHD_Daemon *daemon;
    pthread_t thread;
    int sockets; /* the daemon's epoll, which is readable when there is something to do */
    int wake;    /* eventfd */
    _Atomic int state;
    _Atomic bool is_ending;
};

static void
s_wake (loop_t *self) {
    if (atomic_exchange (&self->state, LOOP_TOLD) == LOOP_ASLEEP) {
        uint64_t one = 1;
        ssize_t written = write (self->wake, &one, sizeof one);
        (void)written; /* full: it is awake already */
    }
}

void
loop_resume (loop_t *self, struct MHD_Connection *connection) {
    MHD_resume_connection (connection);
    s_wake (self);
}

listener_t *
loop_listener (const loop_t *self) {
    return self->listener;
}

static void
s_sleep (loop_t *self) {
    struct pollfd polls[2] = {{self->sockets, POLLIN, 0}, {self->wake, POLLIN, 0}};
    int awake = LOOP_AWAKE;
    if (atomic_compare_exchange_strong (&self->state, &awake, LOOP_ASLEEP)) {
        uint64_t count;
        (void)poll (polls, 2, -1); /* interrupted: it looks once more */
        ssize_t got = polls[1].revents ? read (self->wake, &count, sizeof count) : 0;
        (void)got; /* how often it was woken doesn't matter */
    }
}

static void *
s_run (void *arg) {
    loop_t *self = arg;
    MHD_UNSIGNED_LONG_LONG ms;
    while (!atomic_load (&self->is_ending)) {
        if (MHD_get_timeout (self->daemon, &ms) != MHD_YES || ms > 0) {
            s_sleep (self);
        }
        (void)atomic_exchange (&self->state, LOOP_AWAKE); /* whatever it was */
        (void)MHD_run (self->daemon);                     /* fails only for want of a daemon */
    }
    return NULL;
}

/* server.c */
enum MHD_Result server_handle (void *arg, struct MHD_Connection *connection, const char *url,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_size, void **mark);
void *server_line (void *arg, const char *uri, struct MHD_Connection *connection);
void server_completed (void *arg, struct MHD_Connection *connection, void **mark,
                       enum MHD_RequestTerminationCode code);
size_t server_unescape (void *arg, struct MHD_Connection *connection, char *text);

static struct MHD_Daemon *
s_start (loop_t *self, int fd) {
    listener_t *listener = self->listener;
    const server_t *server = listener->server;
    const web_options_t *options = server->options;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME |
                     (server->certificate ? MHD_USE_TLS : 0);
    uint32_t most = (options->connections + WEB_SPARE) / options->threads + 1;
    const struct MHD_OptionItem items[] = {
        {MHD_OPTION_LISTEN_SOCKET, fd, NULL},
        {MHD_OPTION_CONNECTION_LIMIT, (intptr_t)most, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, options->header_bytes, NULL},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)guard_notify, self},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)server_completed, listener},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)server_line, listener},
        {MHD_OPTION_UNESCAPE_CALLBACK, (intptr_t)server_unescape, listener},
        {MHD_OPTION_END, 0, NULL}};
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
        s_wake (self);
        (void)pthread_join (self->thread, NULL); /* a thread of our own */
        MHD_stop_daemon (self->daemon);
        close (self->wake);
        free (self);
    }
}
