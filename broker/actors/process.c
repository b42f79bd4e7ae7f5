/* One worker process of a pool. SPDX-License-Identifier: MIT */
#include "process.h"
#include "../../proto/event.h"
#include "spawn.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define OWN_COUNT 6
#define OWN_BYTES 4400

extern char **environ;

static const char *const s_names[OWN_COUNT] = {
    "EVENTFLOW_BACK=",  "EVENTFLOW_TOPIC=",  "EVENTFLOW_CREDIT=",
    "EVENTFLOW_TOKEN=", "EVENTFLOW_CONFIG=", "PATH="};

/* Which of our own names it is; -1: none. */
static int
s_own_name (const char *variable) {
    for (int i = 0; i < OWN_COUNT; i++) {
        if (strncmp (variable, s_names[i], strlen (s_names[i])) == 0) {
            return i;
        }
    }
    return -1;
}

/* The broker's environment and what a worker needs to find it: endpoints, the file with its
   settings, and first in PATH the programs that came with this one. */
static char **
s_environment (const ef_process_place_t *place, const char *token, char (*own)[OWN_BYTES]) {
    uint32_t count = 0;
    uint32_t at = 0;
    while (environ[count]) {
        count++;
    }
    char **list = calloc (count + OWN_COUNT + 1, sizeof *list);
    ef_assert (list != NULL);
    const char *path = getenv ("PATH");
    snprintf (own[0], OWN_BYTES, "%s%s", s_names[0], place->back);
    snprintf (own[1], OWN_BYTES, "%s%s", s_names[1], place->topic);
    snprintf (own[2], OWN_BYTES, "%s%u", s_names[2], place->credit);
    snprintf (own[3], OWN_BYTES, "%s%s", s_names[3], token);
    snprintf (own[4], OWN_BYTES, "%s%s", s_names[4], place->file);
    int size = snprintf (own[5], OWN_BYTES, "%s%s%s%s", s_names[5], place->bin,
                         place->bin[0] && path && path[0] ? ":" : "", path ? path : "");
    bool has_path = (place->bin[0] || path) && size < OWN_BYTES; /* else it stays as it is */
    for (uint32_t i = 0; i < 4; i++) {
        if (i != 2 || place->credit > 0) {
            list[at++] = own[i];
        }
    }
    if (place->file[0]) {
        list[at++] = own[4];
    }
    if (has_path) {
        list[at++] = own[5];
    }
    for (uint32_t i = 0; i < count; i++) {
        int name = s_own_name (environ[i]);
        if (name < 0 || (name == 4 && !place->file[0]) || (name == 5 && !has_path)) {
            list[at++] = environ[i];
        }
    }
    return list;
}

int
ef_process_start (ef_process_t *self, const char *command, const ef_process_place_t *place) {
    char (*own)[OWN_BYTES] = malloc (sizeof *own * OWN_COUNT);
    ef_assert (own != NULL);
    *self = (ef_process_t){.started_ms = ef_mono_ms ()};
    snprintf (self->token, sizeof self->token, "%016llx%016llx", (unsigned long long)ef_random (),
              (unsigned long long)ef_random ());
    char **environment = s_environment (place, self->token, own);
    self->file = ef_spawn (command, environment, &self->pid);
    free (environment);
    free (own);
    return self->file < 0 ? self->file : 0;
}

bool
ef_process_has_ended (ef_process_t *self) {
    siginfo_t info = {0};
    if (self->has_ended || waitid (P_PIDFD, (id_t)self->file, &info, WEXITED | WNOHANG | WNOWAIT) ||
        info.si_pid == 0) {
        return false;
    }
    self->has_ended = true;
    self->code = info.si_code;
    self->status = info.si_status;
    self->kill_ms = 0;
    return true;
}

/* Is it a living process of this session? */
static bool
s_is_of (int pid, int session) {
    char path[64];
    char line[512];
    int of = -1;
    char state = 'Z';
    snprintf (path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen (path, "re");
    bool is_read = file && fgets (line, sizeof line, file);
    if (file) {
        fclose (file);
    }
    const char *behind = is_read ? strrchr (line, ')') : NULL; /* a name may hold anything */
    return behind && sscanf (behind + 1, " %c %*d %*d %d", &state, &of) == 2 && of == session &&
           state != 'Z' && state != 'X';
}

/* Tells a signal to what lives of a session but its leader; returns how many there are. The leader
   is still there, so the session's number is nobody else's. */
static uint32_t
s_signal_session (pid_t session, int number) {
    uint32_t count = 0;
    DIR *directory = opendir ("/proc");
    const struct dirent *item;
    while (directory && (item = readdir (directory)) != NULL) {
        int pid = atoi (item->d_name);
        if (pid <= 0 || pid == session || !s_is_of (pid, session)) {
            continue;
        }
        int file = pidfd_open (pid, 0);
        bool is_it = file >= 0 && s_is_of (pid, session); /* its number may be another's by now */
        count += is_it;
        if (is_it && number) {
            (void)pidfd_send_signal (file, number, NULL, 0); /* gone already is as good */
        }
        if (file >= 0) {
            close (file);
        }
    }
    if (directory) {
        closedir (directory);
    }
    return count;
}

static void
s_reap (ef_process_t *self) {
    siginfo_t info;
    (void)waitid (P_PIDFD, (id_t)self->file, &info, WEXITED | WNOHANG); /* it has ended */
    close (self->file);
    self->file = -1;
}

bool
ef_process_is_gone (ef_process_t *self, uint64_t now_ms) {
    bool is_late = self->kill_ms && now_ms >= self->kill_ms;
    int number = self->kill_ms == 0 ? SIGTERM : is_late ? SIGKILL : 0;
    ef_assert (self->has_ended);
    if (s_signal_session (self->pid, number) == 0) {
        s_reap (self);
        return true;
    }
    self->kill_ms = self->kill_ms ? self->kill_ms : now_ms + EF_ORPHAN_MS;
    return false;
}

void
ef_process_signal (const ef_process_t *self, int number) {
    if (!self->has_ended) {
        (void)kill (-self->pid, number); /* gone already is as good */
    }
}

void
ef_process_kill (ef_process_t *self) {
    (void)s_signal_session (self->pid, SIGKILL);
    (void)pidfd_send_signal (self->file, SIGKILL, NULL, 0); /* gone already is as good */
    struct pollfd item = {self->file, POLLIN, 0};
    (void)poll (&item, 1, 1000); /* hardly anything outlives KILL */
    s_reap (self);
}

/* A lease that was lengthened counts: while it holds one that is good it isn't told to end. One
   that never came holds none. */
uint64_t
ef_process_push (ef_process_t *self, uint32_t lease_ms, uint64_t now_ms) {
    uint64_t due = self->leave_ms + (self->here_ms ? lease_ms : 0);
    if (!self->is_leaving || self->has_ended) {
        return UINT64_MAX;
    }
    if (self->term_ms == 0 && now_ms >= due && self->held == 0) {
        self->term_ms = now_ms;
        self->kill_ms = now_ms + EF_LEAVE_MS;
        ef_process_signal (self, SIGTERM);
    }
    if (self->kill_ms && now_ms >= self->kill_ms && self->held == 0) {
        ef_process_signal (self, SIGKILL);
        self->kill_ms = now_ms + 1000;
    }
    return self->kill_ms ? self->kill_ms : due;
}
