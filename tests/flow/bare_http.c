/* Requests by a bare libcurl multi loop: what a worker's rate is measured against.
   SPDX-License-Identifier: MIT

   usage: bare_http URL COUNT CONNECTIONS BODY

   Posts BODY as JSON COUNT times over so many connections with as many handles, each used again at
   once, and prints requests per second. The loop is that of libcurl's documentation
   (curl_multi_poll and curl_multi_perform scan all handles each time; the socket interface with
   epoll doesn't). */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

static int s_poll;
static long s_timeout_ms = -1;

static int
s_socket (CURL *easy, curl_socket_t socket, int what, void *arg, void *known) {
    struct epoll_event event = {.data.fd = socket};
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        (void)epoll_ctl (s_poll, EPOLL_CTL_DEL, socket, NULL); /* closed is gone as well */
        return 0;
    }
    event.events |= what & CURL_POLL_IN ? EPOLLIN : 0u;
    event.events |= what & CURL_POLL_OUT ? EPOLLOUT : 0u;
    (void)epoll_ctl (s_poll, known ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, socket, &event);
    curl_multi_assign (arg, socket, arg);
    return 0;
}

static int
s_timer (CURLM *multi, long timeout_ms, void *arg) {
    (void)multi;
    (void)arg;
    s_timeout_ms = timeout_ms;
    return 0;
}

static size_t
s_write (char *bytes, size_t one, size_t size, void *arg) {
    (void)bytes;
    (void)one;
    (void)arg;
    return size;
}

static double
s_now (void) {
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static CURL *
s_easy (const char *url, struct curl_slist *headers, const char *body) {
    CURL *easy = curl_easy_init ();
    curl_easy_setopt (easy, CURLOPT_URL, url);
    curl_easy_setopt (easy, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt (easy, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt (easy, CURLOPT_WRITEFUNCTION, s_write);
    curl_easy_setopt (easy, CURLOPT_PROXY, "");
    curl_easy_setopt (easy, CURLOPT_NOSIGNAL, 1L);
    return easy;
}

/* What ended is begun again while there is something left to begin. Returns how many ended, or -1:
   one didn't go well. */
static long
s_reap (CURLM *multi, long *left) {
    CURLMsg *message;
    int queued;
    long ended = 0;
    while ((message = curl_multi_info_read (multi, &queued)) != NULL) {
        CURL *easy = message->easy_handle;
        long status = 0;
        if (message->data.result != CURLE_OK ||
            curl_easy_getinfo (easy, CURLINFO_RESPONSE_CODE, &status) || status / 100 != 2) {
            fprintf (stderr, "bare_http: %s, status %ld\n",
                     curl_easy_strerror (message->data.result), status);
            return -1;
        }
        ended++;
        curl_multi_remove_handle (multi, easy);
        if (*left > 0) {
            *left -= 1;
            curl_multi_add_handle (multi, easy);
        }
    }
    return ended;
}

int
main (int argc, char **argv) {
    if (argc != 5) {
        fprintf (stderr, "usage: bare_http URL COUNT CONNECTIONS BODY\n");
        return 2;
    }
    long count = strtol (argv[2], NULL, 10);
    long connections = strtol (argv[3], NULL, 10);
    curl_global_init (CURL_GLOBAL_DEFAULT);
    CURLM *multi = curl_multi_init ();
    CURL **easies = calloc ((size_t)connections, sizeof *easies);
    struct curl_slist *headers = curl_slist_append (NULL, "Content-Type: application/json");
    headers = curl_slist_append (headers, "Idempotency-Key: 018f0000-0000-7000-8000-000000000000");
    s_poll = epoll_create1 (EPOLL_CLOEXEC);
    curl_multi_setopt (multi, CURLMOPT_SOCKETFUNCTION, s_socket);
    curl_multi_setopt (multi, CURLMOPT_SOCKETDATA, multi);
    curl_multi_setopt (multi, CURLMOPT_TIMERFUNCTION, s_timer);
    curl_multi_setopt (multi, CURLMOPT_MAXCONNECTS, connections);
    long left = count;
    long ended = 0;
    double start = s_now ();
    for (long i = 0; i < connections; i++) {
        easies[i] = s_easy (argv[1], headers, argv[4]);
        if (left > 0) {
            left--;
            curl_multi_add_handle (multi, easies[i]);
        }
    }
    while (ended < count) {
        struct epoll_event events[64];
        int running;
        int got = epoll_wait (s_poll, events, 64, s_timeout_ms < 0 ? 1000 : (int)s_timeout_ms);
        for (int i = 0; i < got; i++) {
            int what = (events[i].events & EPOLLIN ? CURL_CSELECT_IN : 0) |
                       (events[i].events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                       (events[i].events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);
            curl_multi_socket_action (multi, events[i].data.fd, what, &running);
        }
        if (got == 0 || s_timeout_ms == 0) {
            s_timeout_ms = -1;
            curl_multi_socket_action (multi, CURL_SOCKET_TIMEOUT, 0, &running);
        }
        long more = s_reap (multi, &left);
        if (more < 0) {
            return 1;
        }
        ended += more;
    }
    printf ("%.0f\n", (double)count / (s_now () - start));
    for (long i = 0; i < connections; i++) {
        curl_easy_cleanup (easies[i]);
    }
    free (easies);
    curl_multi_cleanup (multi);
    curl_slist_free_all (headers);
    close (s_poll);
    return 0;
}
