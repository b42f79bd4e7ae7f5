/* Starting worker processes. SPDX-License-Identifier: MIT */
#include "spawn.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <unistd.h>

int
ef_spawn (const char *command, char *const environment[], pid_t *pid) {
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t actions;
    sigset_t none;
    sigset_t all;
    char parent[24];
    char *const arguments[] = {"eventflowd", "--launch", parent, (char *)command, NULL};
    snprintf (parent, sizeof parent, "%d", (int)getpid ());
    sigemptyset (&none);
    sigfillset (&all);
    posix_spawnattr_init (&attributes);
    posix_spawnattr_setsigmask (&attributes, &none);
    posix_spawnattr_setsigdefault (&attributes, &all);
    posix_spawnattr_setflags (&attributes,
                              POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
    posix_spawn_file_actions_init (&actions);
    posix_spawn_file_actions_addclosefrom_np (&actions, 3);
    int rc = posix_spawn (pid, "/proc/self/exe", &actions, &attributes, arguments, environment);
    posix_spawn_file_actions_destroy (&actions);
    posix_spawnattr_destroy (&attributes);
    if (rc) {
        return -rc;
    }
    int file = pidfd_open (*pid, 0);
    return file < 0 ? -errno : file;
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
