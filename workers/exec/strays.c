/* Children that a process came by. SPDX-License-Identifier: MIT */
#include "strays.h"

#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

static bool
s_is_known (const pid_t *known, size_t count, pid_t pid) {
    for (size_t i = 0; i < count; i++) {
        if (known[i] == pid) {
            return true;
        }
    }
    return false;
}

/* A thread's children. */
static unsigned
s_end_of (const char *thread, const pid_t *known, size_t count) {
    char path[300];
    unsigned left = 0;
    long pid;
    snprintf (path, sizeof path, "/proc/self/task/%s/children", thread);
    FILE *file = fopen (path, "re");
    while (file && fscanf (file, "%ld", &pid) == 1) {
        if (s_is_known (known, count, (pid_t)pid)) {
            continue;
        }
        if (waitpid ((pid_t)pid, NULL, WNOHANG) == 0) {
            (void)kill ((pid_t)pid, SIGKILL); /* whose it is has ended, or was never asked for */
            left++;
        }
    }
    if (file) {
        fclose (file);
    }
    return left;
}

unsigned
strays_end (const pid_t *known, size_t count) {
    unsigned left = 0;
    DIR *threads = opendir ("/proc/self/task");
    if (threads == NULL) {
        return 0; /* without /proc nothing is found */
    }
    for (struct dirent *entry = readdir (threads); entry; entry = readdir (threads)) {
        if (entry->d_name[0] != '.') {
            left += s_end_of (entry->d_name, known, count);
        }
    }
    closedir (threads);
    return left;
}
