/* A command that runs. SPDX-License-Identifier: MIT */
#include "child.h"
#include "../../proto/event.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_MAX      512 /* that are found ready at a time; the others next time */
#define WAITED_MAX    256 /* that are waited for at a time, at the end */
#define WAIT_ROUND_MS 50  /* then all are looked at again */

static void
s_close (int *file) {
    if (*file >= 0) {
        close (*file);
        *file = -1;
    }
}

/* Opens so many pipes, all or none. 0, or -errno. */
static int
s_open_pipes (int pipes[][2], int count) {
    for (int i = 0; i < count; i++) {
        if (pipe2 (pipes[i], O_CLOEXEC)) {
            int error = errno;
            while (i-- > 0) {
                close (pipes[i][0]);
                close (pipes[i][1]);
            }
            return -error;
        }
    }
    return 0;
}

/* Starts the launcher with signals as a program expects them, in a group of its own: what the
   worker's group is told is not for it. */
static int
s_spawn (child_t *self, const plan_t *plan, char *const *environment, const int ends[3]) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t all;
    sigemptyset (&none);
    sigfillset (&all);
    posix_spawnattr_init (&attributes);
    posix_spawnattr_setflags (&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                               POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask (&attributes, &none);
    posix_spawnattr_setsigdefault (&attributes, &all);
    posix_spawn_file_actions_init (&actions);
    for (int i = 0; i < 3; i++) {
        if (ends[i] >= 0) {
            posix_spawn_file_actions_adddup2 (&actions, ends[i], i);
        }
    }
    posix_spawn_file_actions_addclosefrom_np (&actions, 3);
    int rc = posix_spawn (&self->pid, plan->launcher, &actions, &attributes, plan->arguments,
                          environment);
    posix_spawn_file_actions_destroy (&actions);
    posix_spawnattr_destroy (&attributes);
    return -rc;
}

/* 0, or -errno. */
static int
s_watch (child_t *self, int file, uint32_t events, int operation) {
    struct epoll_event event = {.events = events, .data.ptr = self};
    return epoll_ctl (self->epoll, operation, file, &event) ? -errno : 0;
}

/* Once it runs. 0, or -errno. */
static int
s_watch_all (child_t *self) {
    const int files[] = {self->errors, self->output};
    (void)fcntl (self->input, F_SETFL, O_NONBLOCK); /* pipes of our own, as those below */
    self->process = pidfd_open (self->pid, 0);
    int rc = self->process < 0 ? -errno : s_watch (self, self->process, EPOLLIN, EPOLL_CTL_ADD);
    for (unsigned i = 0; i < 2 && rc == 0; i++) {
        if (files[i] >= 0) {
            (void)fcntl (files[i], F_SETFL, O_NONBLOCK);
            rc = s_watch (self, files[i], EPOLLIN, EPOLL_CTL_ADD);
        }
    }
    return rc;
}

int
child_start (child_t *self, const plan_t *plan, char *const *environment, bool takes_output,
             int epoll) {
    int pipes[3][2]; /* standard input, error, output */
    memset (self, 0, sizeof *self);
    self->epoll = epoll;
    self->process = self->input = self->output = self->errors = -1;
    int rc = s_open_pipes (pipes, takes_output ? 3 : 2);
    if (rc) {
        return rc;
    }
    const int ends[3] = {pipes[0][0], takes_output ? pipes[2][1] : -1, pipes[1][1]};
    rc = s_spawn (self, plan, environment, ends);
    for (int i = 0; i < 3; i++) {
        if (ends[i] >= 0) {
            close (ends[i]);
        }
    }
    self->input = pipes[0][1];
    self->errors = pipes[1][0];
    self->output = takes_output ? pipes[2][0] : -1;
    if (rc == 0) {
        rc = s_watch_all (self);
        if (rc) { /* no descriptor is left: it can't be watched */
            (void)kill (self->pid, SIGKILL);
            (void)waitpid (self->pid, NULL, 0);
        }
    }
    if (rc) {
        child_free (self);
    }
    return rc;
}

void
child_look (int epoll) {
    struct epoll_event events[LOOK_MAX];
    int count = epoll_wait (epoll, events, LOOK_MAX, 0);
    for (int i = 0; i < count; i++) {
        ((child_t *)events[i].data.ptr)->is_ready = true;
    }
}

void
child_free (child_t *self) {
    s_close (&self->input);
    s_close (&self->output);
    s_close (&self->errors);
    s_close (&self->process);
    ef_buf_free (&self->bytes);
    self->pid = 0;
}

/* Where there is always more to write, what is written must go all the same. */
static void
s_compact (child_t *self) {
    if (self->written > self->bytes.size / 2) {
        self->bytes.size -= self->written;
        memmove (self->bytes.data, self->bytes.data + self->written, self->bytes.size);
        self->written = 0;
    }
}

/* Whether it is to be said when it takes more. */
static void
s_set_slow (child_t *self, bool is_slow) {
    if (self->is_slow != is_slow && self->input >= 0) {
        self->is_slow = is_slow;
        /* Only then: one that closed its end would be reported all the time. */
        (void)s_watch (self, self->input, EPOLLOUT, is_slow ? EPOLL_CTL_ADD : EPOLL_CTL_DEL);
    }
}

void
child_feed (child_t *self) {
    while (self->input >= 0 && self->written < self->bytes.size) {
        ssize_t written =
            write (self->input, self->bytes.data + self->written, self->bytes.size - self->written);
        if (written < 0 && errno == EAGAIN) {
            s_set_slow (self, true);
            s_compact (self);
            return;
        }
        if (written < 0) {
            s_close (&self->input); /* EPIPE: it doesn't want to read it all */
        } else {
            self->written += (size_t)written;
        }
    }
    s_set_slow (self, false);
    self->written = 0;
    ef_buf_clear (&self->bytes);
    if (self->ends_input) {
        s_close (&self->input);
    }
}

/* Keeps the last bytes. */
static void
s_keep (child_t *self, const char *bytes, size_t size) {
    size_t most = sizeof self->tail - 1;
    if (self->tail_size + size > most) {
        size_t gone = self->tail_size + size - most;
        gone = gone < self->tail_size ? gone : self->tail_size;
        memmove (self->tail, self->tail + gone, self->tail_size - gone);
        self->tail_size -= gone;
    }
    memcpy (self->tail + self->tail_size, bytes, size);
    self->tail_size += size;
    self->tail[self->tail_size] = 0;
}

static void
s_show_line (child_t *self) {
    if (self->line_size > 0) {
        fprintf (stderr, "child %d: %.*s\n", (int)self->pid, (int)self->line_size, self->line);
        self->line_size = 0;
    }
}

static void
s_show (child_t *self, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] == '\n' || self->line_size == sizeof self->line) {
            s_show_line (self);
        }
        if (bytes[i] != '\n') {
            self->line[self->line_size++] = bytes[i];
        }
    }
}

void
child_listen (child_t *self) {
    char bytes[1024];
    ssize_t got;
    while (self->errors >= 0 && (got = read (self->errors, bytes, sizeof bytes)) != 0) {
        if (got < 0) {
            return;
        }
        s_keep (self, bytes, (size_t)got);
        if (self->shows_errors) {
            s_show (self, bytes, (size_t)got);
        }
    }
    if (self->errors >= 0) {
        s_show_line (self);
        s_close (&self->errors);
    }
}

size_t
child_read (child_t *self, void *bytes, size_t size) {
    if (self->output < 0) {
        return 0;
    }
    ssize_t got = read (self->output, bytes, size);
    if (got == 0) {
        s_close (&self->output);
    }
    return got > 0 ? (size_t)got : 0;
}

/* The launcher takes USR1 for the KILL of all that it has started. */
static void
s_tell (child_t *self, int number, uint64_t now_ms) {
    (void)kill (self->pid, number); /* gone already is as good */
    self->told = number;
    self->next_ms = now_ms + CHILD_KILL_MS;
}

void
child_end (child_t *self, uint64_t now_ms) {
    if (self->told == 0) {
        s_tell (self, SIGTERM, now_ms);
    }
}

void
child_kill (child_t *self, uint64_t now_ms) {
    s_tell (self, SIGUSR1, now_ms);
}

void
child_insist (child_t *self, uint64_t now_ms) {
    if (self->told && now_ms >= self->next_ms) {
        s_tell (self, self->told == SIGTERM ? SIGUSR1 : SIGKILL, now_ms);
    }
}

bool
child_has_ended (child_t *self, siginfo_t *ended) {
    memset (ended, 0, sizeof *ended);
    return self->pid && waitid (P_PIDFD, (id_t)self->process, ended, WEXITED | WNOHANG) == 0 &&
           ended->si_pid;
}

void
child_lower (const child_t *self, uint64_t now_ms, int *timeout_ms) {
    if (self->told) {
        uint64_t left = self->next_ms > now_ms ? self->next_ms - now_ms : 0;
        *timeout_ms = left < (uint64_t)*timeout_ms ? (int)left : *timeout_ms;
    }
}

void
child_close_output (child_t *self) {
    s_close (&self->output);
}

/* Reaps what ends within `wait_ms`; how many are left. */
static size_t
s_wait_all (child_t *const *children, size_t count, uint64_t wait_ms) {
    uint64_t end_ms = ef_mono_ms () + wait_ms;
    for (;;) {
        struct pollfd items[WAITED_MAX];
        char bytes[1024];
        size_t left = 0;
        for (size_t i = 0; i < count; i++) {
            siginfo_t ended;
            child_t *child = children[i];
            child_feed (child);
            child_listen (child);
            while (child_read (child, bytes, sizeof bytes)) { /* so that it needn't wait for us */
            }
            if (child_has_ended (child, &ended)) {
                child_free (child);
            } else if (child->pid) {
                if (left < WAITED_MAX) {
                    items[left] = (struct pollfd){child->process, POLLIN, 0};
                }
                left++;
            }
        }
        uint64_t now = ef_mono_ms ();
        if (left == 0 || now >= end_ms) {
            return left;
        }
        int pause_ms = end_ms - now < WAIT_ROUND_MS ? (int)(end_ms - now) : WAIT_ROUND_MS;
        (void)poll (items, left < WAITED_MAX ? left : WAITED_MAX,
                    pause_ms); /* looks at all again */
    }
}

void
child_end_all (child_t *const *children, size_t count, uint64_t gentle_ms) {
    static const int words[] = {SIGTERM, SIGUSR1, SIGKILL};
    for (size_t i = 0; i < count && gentle_ms; i++) {
        children[i]->ends_input = true;
    }
    size_t left = s_wait_all (children, count, gentle_ms);
    for (unsigned word = 0; word < 3 && left > 0; word++) {
        for (size_t i = 0; i < count; i++) {
            if (children[i]->pid) {
                s_tell (children[i], words[word], ef_mono_ms ());
            }
        }
        left = s_wait_all (children, count, 1000);
    }
}

void
child_code (const siginfo_t *ended, bool has_limit, char code[32]) {
    bool has_exited = ended->si_code == CLD_EXITED;
    int number = ended->si_status;
    /* A shell ends so when what it waits for does. */
    if (has_limit && number == (has_exited ? 128 + SIGXCPU : SIGXCPU)) {
        snprintf (code, 32, "CPU_LIMIT");
    } else {
        snprintf (code, 32, "%s_%d", has_exited ? "EXIT" : "SIGNAL", number);
    }
}

void
child_last_line (const child_t *self, char *text, size_t size) {
    const char *line = self->tail;
    for (size_t i = 0; i + 1 < self->tail_size; i++) {
        line = self->tail[i] == '\n' ? self->tail + i + 1 : line;
    }
    snprintf (text, size, "%.*s", (int)strcspn (line, "\n"), line);
}
