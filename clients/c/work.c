/* A whole worker: until it is told to stop. SPDX-License-Identifier: MIT */
#include "../../proto/event.h"
#include "eventflow.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* True: a signal to end has come. */
static bool
s_wait (eventflow_worker_t *worker, int signals) {
    struct signalfd_siginfo info;
    struct pollfd items[2] = {{signals, POLLIN, 0}, {eventflow_worker_fd (worker), POLLIN, 0}};
    bool is_connected = items[1].fd >= 0; /* else: a pause between two tries to connect */
    int timeout_ms = eventflow_worker_pending (worker) ? 0 : is_connected ? 1000 : 50;
    (void)poll (items, is_connected ? 2 : 1, timeout_ms); /* however it ends, all is looked at */
    return read (signals, &info, sizeof info) == (ssize_t)sizeof info;
}

static int
s_run (eventflow_worker_t *worker, int signals) {
    bool is_stopping = false;
    while (eventflow_worker_step (worker, 0) && eventflow_worker_step (worker, 0)) {
        const char *code;
        const char *text;
        if (eventflow_worker_refused (worker, &code, &text)) {
            fprintf (stderr, "eventflow: %s: %s\n", code, text);
            return 3;
        }
        if (s_wait (worker, signals)) {
            if (is_stopping) {
                return 0; /* the second one: what is in hand goes back */
            }
            is_stopping = true;
            eventflow_worker_drain (worker);
        }
    }
    return 0;
}

int
eventflow_work (const eventflow_worker_options_t *options) {
    sigset_t wanted;
    sigset_t before;
    sigemptyset (&wanted);
    sigaddset (&wanted, SIGTERM);
    sigaddset (&wanted, SIGINT);
    (void)sigprocmask (SIG_BLOCK, &wanted, &before); /* can't fail with this set */
    int signals = signalfd (-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
    eventflow_worker_t *worker = signals < 0 ? NULL : eventflow_worker_new (options);
    if (worker == NULL) {
        fprintf (stderr, "eventflow: expected a handler and a topic\n");
    }
    int rc = worker ? s_run (worker, signals) : 2;
    eventflow_worker_destroy (&worker);
    if (signals >= 0) {
        close (signals);
    }
    (void)sigprocmask (SIG_SETMASK, &before, NULL);
    return rc;
}
