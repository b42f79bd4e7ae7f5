/* Many libcurl transfers at once. SPDX-License-Identifier: MIT */
#include "transfers.h"
#include "../proto/assert.h"
#include "../proto/event.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS 64 /* taken from the descriptor at a time */

typedef struct {
    transfer_ended_t *ended;
    void *arg;
} call_t;

struct transfers_s {
    CURLM *multi;      /* owned */
    int poll;          /* epoll descriptor */
    uint64_t timer_ms; /* when libcurl wants to be called; UINT64_MAX: not by itself */
    uint32_t count;
};

/* libcurl wants to hear of this socket, or no longer. */
static int
s_socket (CURL *easy, curl_socket_t socket, int what, void *arg, void *known) {
    transfers_t *self = arg;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        (void)epoll_ctl (self->poll, EPOLL_CTL_DEL, socket, NULL); /* it may be closed already */
        return 0;
    }
    struct epoll_event event = {.data.fd = socket};
    event.events |= what & CURL_POLL_IN ? EPOLLIN : 0u;
    event.events |= what & CURL_POLL_OUT ? EPOLLOUT : 0u;
    if (epoll_ctl (self->poll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, socket, &event)) {
        /* A descriptor that was closed and opened anew behind our back. */
        (void)epoll_ctl (self->poll, known ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, socket, &event);
    }
    curl_multi_assign (self->multi, socket, self);
    return 0;
}

static int
s_timer (CURLM *multi, long timeout_ms, void *arg) {
    transfers_t *self = arg;
    (void)multi;
    self->timer_ms = timeout_ms < 0 ? UINT64_MAX : ef_mono_ms () + (uint64_t)timeout_ms;
    return 0;
}

transfers_t *
transfers_new (uint32_t most_connections) {
    transfers_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->timer_ms = UINT64_MAX;
    self->poll = epoll_create1 (EPOLL_CLOEXEC);
    self->multi = curl_global_init (CURL_GLOBAL_DEFAULT) ? NULL : curl_multi_init ();
    if (self->multi == NULL || self->poll < 0) {
        transfers_destroy (&self);
        return NULL;
    }
    curl_multi_setopt (self->multi, CURLMOPT_SOCKETFUNCTION, s_socket);
    curl_multi_setopt (self->multi, CURLMOPT_SOCKETDATA, self);
    curl_multi_setopt (self->multi, CURLMOPT_TIMERFUNCTION, s_timer);
    curl_multi_setopt (self->multi, CURLMOPT_TIMERDATA, self);
    curl_multi_setopt (self->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)most_connections);
    curl_multi_setopt (self->multi, CURLMOPT_MAXCONNECTS, (long)most_connections);
    return self;
}

void
transfers_bound_host (transfers_t *self, uint32_t most_connections) {
    curl_multi_setopt (self->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)most_connections);
}

void
transfers_destroy (transfers_t **self_p) {
    transfers_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    ef_assert (self->count == 0);
    if (self->multi) {
        curl_multi_cleanup (self->multi);
    }
    if (self->poll >= 0) {
        close (self->poll);
    }
    free (self);
    *self_p = NULL;
}

int
transfers_start (transfers_t *self, CURL *easy, transfer_ended_t *ended, void *arg) {
    call_t *call = malloc (sizeof *call);
    ef_assert (call != NULL);
    *call = (call_t){ended, arg};
    curl_easy_setopt (easy, CURLOPT_PRIVATE, call);
    if (curl_multi_add_handle (self->multi, easy) != CURLM_OK) {
        free (call);
        return -1;
    }
    self->count++;
    return 0;
}

/* Takes it out; the call that was to be made, which is the caller's to free. */
static call_t *
s_remove (transfers_t *self, CURL *easy) {
    char *call = NULL;
    curl_easy_getinfo (easy, CURLINFO_PRIVATE, &call);
    curl_multi_remove_handle (self->multi, easy);
    ef_assert (self->count > 0 && call != NULL);
    self->count--;
    return (call_t *)(void *)call;
}

void
transfers_stop (transfers_t *self, CURL *easy) {
    free (s_remove (self, easy));
}

uint32_t
transfers_count (const transfers_t *self) {
    return self->count;
}

nfds_t
transfers_polls (transfers_t *self, struct pollfd *items, nfds_t most, int *timeout_ms) {
    if (self->timer_ms != UINT64_MAX) {
        uint64_t now = ef_mono_ms ();
        uint64_t left = self->timer_ms > now ? self->timer_ms - now : 0;
        *timeout_ms = left < (uint64_t)*timeout_ms ? (int)left : *timeout_ms;
    }
    if (most == 0) {
        return 0;
    }
    items[0] = (struct pollfd){self->poll, POLLIN, 0};
    return 1;
}

static void
s_reap (transfers_t *self) {
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read (self->multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        CURL *easy = message->easy_handle;
        CURLcode code = message->data.result; /* the message goes with the handle */
        call_t *call = s_remove (self, easy);
        call->ended (call->arg, easy, code);
        free (call);
    }
}

void
transfers_step (transfers_t *self) {
    struct epoll_event events[EVENTS];
    int running;
    int count = epoll_wait (self->poll, events, EVENTS, 0);
    for (int i = 0; i < count; i++) {
        int what = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                   (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
        curl_multi_socket_action (self->multi, events[i].data.fd, what, &running);
    }
    if (self->timer_ms != UINT64_MAX && ef_mono_ms () >= self->timer_ms) {
        self->timer_ms = UINT64_MAX; /* or what it says now */
        curl_multi_socket_action (self->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    s_reap (self);
}
