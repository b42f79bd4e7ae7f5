/* Starting processes. SPDX-License-Identifier: MIT */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Starts this very program, with signals as a program expects them. */
static int
s_spawn (char *const arguments[], char *const environment[], posix_spawn_file_actions_t *actions,
         short flags, pid_t *pid) {
    posix_spawnattr_t attributes;
    sigset_t none;
    sigset_t all;
    sigemptyset (&none);
    sigfillset (&all);
    posix_spawnattr_init (&attributes);
    posix_spawnattr_setsigmask (&attributes, &none);
    posix_spawnattr_setsigdefault (&attributes, &all);
    posix_spawnattr_setflags (&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | flags);
    posix_spawn_file_actions_addclosefrom_np (actions, 3);
    int rc = posix_spawn (pid, "/proc/self/exe", actions, &attributes, arguments, environment);
    posix_spawnattr_destroy (&attributes);
    return -rc;
}

int
ef_spawn (const char *command, char *const environment[], pid_t *pid) {
    posix_spawn_file_actions_t actions;
    char parent[24];
    char *const arguments[] = {"eventflowd", "--launch", parent, (char *)command, NULL};
    snprintf (parent, sizeof parent, "%d", (int)getpid ());
    posix_spawn_file_actions_init (&actions);
    int rc = s_spawn (arguments, environment, &actions, POSIX_SPAWN_SETSID, pid);
    posix_spawn_file_actions_destroy (&actions);
    if (rc) {
        return rc;
    }
    int file = pidfd_open (*pid, 0);
    return file < 0 ? -errno : file;
}

static int
s_gather (int file, uint8_t *bytes, size_t size) {
    size_t got = 0;
    while (got < size) {
        ssize_t more = read (file, bytes + got, size - got);
        if (more < 0 && errno != EINTR) {
            return -errno;
        }
        if (more == 0) {
            break;
        }
        got += more > 0 ? (size_t)more : 0;
    }
    return (int)got;
}

int
ef_spawn_self (const char *flag, char *const environment[], void *bytes, size_t size) {
    posix_spawn_file_actions_t actions;
    char *const arguments[] = {"eventflowd", (char *)flag, NULL};
    int ends[2];
    int status = 0;
    pid_t pid;
    if (pipe2 (ends, O_CLOEXEC)) {
        return -errno;
    }
    posix_spawn_file_actions_init (&actions);
    posix_spawn_file_actions_adddup2 (&actions, ends[1], STDOUT_FILENO);
    int rc = s_spawn (arguments, environment, &actions, 0, &pid);
    posix_spawn_file_actions_destroy (&actions);
    close (ends[1]);
    if (rc == 0) {
        rc = s_gather (ends[0], bytes, size);
        close (ends[0]); /* with more to say it ends at once */
        while (waitpid (pid, &status, 0) < 0 && errno == EINTR) {
        }
        return rc >= 0 && status ? -EIO : rc;
    }
    close (ends[0]);
    return rc;
}

void
ef_launch (const char *parent, const char *command) {
    if (prctl (PR_SET_PDEATHSIG, SIGTERM) || getppid () != (pid_t)atoi (parent)) {
        _exit (127); /* the broker died before it could be watched */
    }
    execl ("/bin/sh", "sh", "-c", command, (char *)NULL);
    fprintf (stderr, "eventflowd: can't run /bin/sh\n");
    _exit (127);
}
