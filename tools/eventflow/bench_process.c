/* The bench's children: started, watched, ended. SPDX-License-Identifier: MIT

   Role: every wait of the bench goes through s_look, which polls the pipe that is waited for and
   the pidfds of all children that run. Owns: the pipes and pidfds. Invariants: a wait has a
   deadline; a child that ends badly ends any wait; the kernel kills children whose parent dies. */
#include "bench.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static volatile sig_atomic_t s_signal;

int
bench_fail (bench_t *self, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start (arguments, format);
    vsnprintf (text, sizeof text, format, arguments);
    va_end (arguments);
    if (!self->has_failed) {
        self->has_failed = true;
        (void)cli_fail (CLI_FAILED, "bench: %s", text);
    }
    return -1;
}

static void
s_on_signal (int number) {
    s_signal = number;
}

void
bench_catch_signals (void) {
    struct sigaction action = {.sa_handler = s_on_signal}; /* no SA_RESTART: poll must return */
    sigemptyset (&action.sa_mask);
    (void)sigaction (SIGINT, &action, NULL); /* can't fail with these */
    (void)sigaction (SIGTERM, &action, NULL);
}

bool
bench_is_stopped (bench_t *self) {
    if (s_signal) {
        (void)bench_fail (self, "stopped by signal %d", (int)s_signal);
    }
    return s_signal != 0;
}

bool
bench_follow (const char *parent) {
    return prctl (PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid () == (pid_t)atoi (parent);
}

uint64_t
bench_patience_ms (uint64_t events) {
    return 30000 + events / 10;
}

int
bench_spawn (bench_t *self, unsigned child, const bench_start_t *start) {
    bench_child_t *it = &self->children[child];
    char numbers[5][24];
    int pipes[2];
    posix_spawn_file_actions_t actions;
    snprintf (numbers[0], 24, "%d", (int)getpid ());
    snprintf (numbers[1], 24, "%llu", (unsigned long long)start->events);
    snprintf (numbers[2], 24, "%u", self->size);
    snprintf (numbers[3], 24, "%u", start->batch_events);
    snprintf (numbers[4], 24, "%u", self->keys);
    char *arguments[] = {"eventflow",         "bench",      "--role",
                         (char *)start->role, "--endpoint", (char *)start->endpoint,
                         "--parent",          numbers[0],   "--events",
                         numbers[1],          "--size",     numbers[2],
                         "--batch",           numbers[3],   "--keys",
                         numbers[4],          NULL};
    ef_assert (!it->is_running);
    *it = (bench_child_t){.pid = -1, .watch = -1, .output = -1};
    snprintf (it->role, sizeof it->role, "%s", start->role);
    if (pipe (pipes)) {
        return bench_fail (self, "no pipe: %s", strerror (errno));
    }
    posix_spawn_file_actions_init (&actions);
    posix_spawn_file_actions_adddup2 (&actions, pipes[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclosefrom_np (&actions, 3);
    int rc = posix_spawn (&it->pid, "/proc/self/exe", &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy (&actions);
    close (pipes[1]);
    it->output = pipes[0];
    it->watch = rc ? -1 : pidfd_open (it->pid, 0);
    it->is_running = rc == 0;
    if (rc || it->watch < 0) {
        return bench_fail (self, "the %s can't be started: %s", it->role,
                           strerror (rc ? rc : errno));
    }
    return 0;
}

/* Takes note of a child's end. 0: it ended with 0. */
static int
s_reap (bench_t *self, bench_child_t *it) {
    int status = 0;
    pid_t pid = waitpid (it->pid, &status, 0); /* a child of our own that has ended */
    it->is_running = false;
    close (it->watch);
    if (pid == it->pid && WIFEXITED (status) && WEXITSTATUS (status) == 0) {
        return 0;
    }
    if (WIFSIGNALED (status)) {
        return bench_fail (self, "the %s was ended by signal %d", it->role, WTERMSIG (status));
    }
    return bench_fail (self, "the %s ended with status %d", it->role, WEXITSTATUS (status));
}

/* Waits for output of a child (`awaited`, may be NULL), for any child's end, or until the deadline.
   `ending` may end. 0; -1 with the reason said. */
static int
s_look (bench_t *self, const bench_child_t *awaited, const bench_child_t *ending,
        uint64_t deadline_ms) {
    struct pollfd items[BENCH_CHILDREN + 1];
    bench_child_t *whose[BENCH_CHILDREN];
    nfds_t count = 0;
    for (unsigned i = 0; i < BENCH_CHILDREN; i++) {
        if (self->children[i].is_running) {
            whose[count] = &self->children[i];
            items[count++] = (struct pollfd){self->children[i].watch, POLLIN, 0};
        }
    }
    items[count] = (struct pollfd){awaited ? awaited->output : -1, POLLIN, 0};
    uint64_t now = ef_mono_ms ();
    (void)poll (items, count + 1, now < deadline_ms ? (int)(deadline_ms - now) : 0);
    if (bench_is_stopped (self)) {
        return -1;
    }
    for (nfds_t i = 0; i < count; i++) {
        bool has_ended = items[i].revents != 0;
        if (has_ended && s_reap (self, whose[i])) {
            return -1;
        }
        if (has_ended && whose[i] == &self->children[BENCH_BROKER] && whose[i] != ending) {
            return bench_fail (self, "the broker ended by itself");
        }
    }
    return 0;
}

int
bench_line (bench_t *self, unsigned child, uint64_t timeout_ms, char line[BENCH_LINE]) {
    bench_child_t *it = &self->children[child];
    uint64_t deadline = ef_mono_ms () + timeout_ms;
    for (;;) {
        char *end = memchr (it->text, '\n', it->fill);
        if (end) {
            size_t size = (size_t)(end - it->text);
            memcpy (line, it->text, size);
            line[size] = 0;
            it->fill -= size + 1;
            memmove (it->text, end + 1, it->fill);
            return 0;
        }
        struct pollfd item = {it->output, POLLIN, 0};
        if (poll (&item, 1, 0) == 1) {
            ssize_t got = read (it->output, it->text + it->fill, sizeof it->text - it->fill);
            if (got > 0) {
                it->fill += (size_t)got;
                continue;
            }
            /* No line any more: how it ended says more than that. */
            if (it->is_running && bench_join (self, child, 5000)) {
                return -1;
            }
            return bench_fail (self, "the %s ended without its result", it->role);
        }
        if (ef_mono_ms () >= deadline) {
            return bench_fail (self, "the %s said nothing within %llu ms", it->role,
                               (unsigned long long)timeout_ms);
        }
        if (s_look (self, it, NULL, deadline)) {
            return -1;
        }
    }
}

int
bench_join (bench_t *self, unsigned child, uint64_t timeout_ms) {
    bench_child_t *it = &self->children[child];
    uint64_t deadline = ef_mono_ms () + timeout_ms;
    while (it->is_running) {
        if (ef_mono_ms () >= deadline) {
            return bench_fail (self, "the %s didn't end within %llu ms", it->role,
                               (unsigned long long)timeout_ms);
        }
        if (s_look (self, NULL, it, deadline)) {
            return -1;
        }
    }
    bench_kill (self, child); /* closes its pipe */
    return 0;
}

int
bench_pause (bench_t *self, uint64_t ms) {
    uint64_t deadline = ef_mono_ms () + ms;
    do {
        if (s_look (self, NULL, NULL, deadline)) {
            return -1;
        }
    } while (ef_mono_ms () < deadline);
    return 0;
}

int
bench_exit_status (const bench_t *self, unsigned child) {
    siginfo_t info = {0};
    int rc = waitid (P_PID, (id_t)self->children[child].pid, &info, WEXITED | WNOHANG | WNOWAIT);
    return rc == 0 && info.si_pid && info.si_code == CLD_EXITED ? info.si_status : -1;
}

void
bench_kill (bench_t *self, unsigned child) {
    bench_child_t *it = &self->children[child];
    if (it->is_running) {
        (void)kill (it->pid, SIGKILL);    /* a child of our own, not yet waited for */
        (void)waitpid (it->pid, NULL, 0); /* so it ends */
        close (it->watch);
        it->is_running = false;
    }
    if (it->output > 0) {
        close (it->output);
        it->output = -1;
    }
}

void
bench_kill_all (bench_t *self) {
    for (unsigned i = BENCH_CHILDREN; i > 0; i--) {
        bench_kill (self, i - 1);
    }
}
