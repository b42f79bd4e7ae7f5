/* What this machine has left. SPDX-License-Identifier: MIT */
#include "machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_MAX   16384 /* of /proc/meminfo and a group's memory.stat, whose heads matter */
#define PATH_BYTES 1024
#define LEVELS     32   /* groups above one another */
#define UNBOUND    1e15 /* bytes: version 1 writes a limit like this where there is none */

static bool
s_read (const char *root, const char *path, char text[TEXT_MAX]) {
    char name[2 * PATH_BYTES];
    snprintf (name, sizeof name, "%s%s", root, path);
    FILE *file = fopen (name, "re");
    size_t size = file ? fread (text, 1, TEXT_MAX - 1, file) : 0;
    text[size] = 0;
    if (file) {
        fclose (file);
    }
    return size > 0;
}

/* The number behind a word at the beginning of a line; -1: there is none. */
static double
s_field (const char *text, const char *word) {
    size_t size = strlen (word);
    for (const char *line = text; line; line = strchr (line, '\n')) {
        line += *line == '\n';
        if (strncmp (line, word, size) == 0 && (line[size] == ' ' || line[size] == ':')) {
            return strtod (line + size + 1, NULL);
        }
    }
    return -1;
}

/* A file that holds one number, or "max". -1: it isn't there, or says that there is no limit. */
static double
s_number (const char *root, const char *directory, const char *name) {
    char path[2 * PATH_BYTES];
    char text[TEXT_MAX];
    char *end;
    snprintf (path, sizeof path, "%s/%s", directory, name);
    if (!s_read (root, path, text)) {
        return -1;
    }
    double number = strtod (text, &end);
    return end == text || number > UNBOUND ? -1 : number;
}

static void
s_bound (ef_machine_t *self, double limit, double used) {
    uint64_t bytes = (uint64_t)limit;
    uint64_t left = limit > used ? (uint64_t)(limit - used) : 0;
    if (limit < 0 || used < 0) {
        return;
    }
    self->memory_bytes =
        self->memory_bytes && self->memory_bytes < bytes ? self->memory_bytes : bytes;
    self->free_bytes = self->free_bytes < left ? self->free_bytes : left;
}

/* One group. Pages of files that nobody looked at lately are had back when they are needed. */
static void
s_group (ef_machine_t *self, const char *root, const char *directory, bool is_second) {
    char path[2 * PATH_BYTES];
    char text[TEXT_MAX];
    double cached = -1;
    snprintf (path, sizeof path, "%s/memory.stat", directory);
    if (s_read (root, path, text)) {
        cached = s_field (text, is_second ? "inactive_file" : "total_inactive_file");
    }
    double used =
        s_number (root, directory, is_second ? "memory.current" : "memory.usage_in_bytes");
    used -= cached > 0 && used > cached ? cached : 0;
    s_bound (self, s_number (root, directory, is_second ? "memory.max" : "memory.limit_in_bytes"),
             used);
    double quota = -1;
    double period = -1;
    if (is_second) {
        snprintf (path, sizeof path, "%s/cpu.max", directory);
        if (s_read (root, path, text) && sscanf (text, "%lf %lf", &quota, &period) != 2) {
            quota = -1; /* "max" */
        }
    } else {
        quota = s_number (root, directory, "cpu.cfs_quota_us");
        period = s_number (root, directory, "cpu.cfs_period_us");
    }
    if (quota > 0 && period > 0 && quota / period < self->cores) {
        self->cores = quota / period;
    }
}

/* A group and all above it: each may have a limit. */
static void
s_groups (ef_machine_t *self, const char *root, const char *mount, char *group, bool is_second) {
    char directory[PATH_BYTES];
    for (unsigned i = 0; i < LEVELS; i++) {
        bool is_root = group[0] == 0 || group[1] == 0;
        snprintf (directory, sizeof directory, "%.64s%.512s", mount, is_root ? "" : group);
        s_group (self, root, directory, is_second);
        char *slash = strrchr (group, '/');
        if (slash == NULL || group[0] == 0) {
            return;
        }
        *slash = 0;
    }
}

/* Lines "4:memory,cpu:/path" of version 1, "0::/path" of version 2. */
static void
s_all_groups (ef_machine_t *self, const char *root) {
    char text[TEXT_MAX];
    char *rest = NULL;
    if (!s_read (root, "/proc/self/cgroup", text)) {
        return;
    }
    for (char *line = strtok_r (text, "\n", &rest); line; line = strtok_r (NULL, "\n", &rest)) {
        char *names = strchr (line, ':');
        char *group = names ? strchr (names + 1, ':') : NULL;
        if (group == NULL || strlen (group) > 512) {
            continue;
        }
        *group++ = 0;
        names++;
        if (names[0] == 0) {
            s_groups (self, root, "/sys/fs/cgroup", group, true);
        } else if (strcmp (names, "memory") == 0) {
            s_groups (self, root, "/sys/fs/cgroup/memory", group, false);
        } else if (strcmp (names, "cpu") == 0 || strcmp (names, "cpu,cpuacct") == 0) {
            s_groups (self, root, "/sys/fs/cgroup/cpu", group, false);
        }
    }
}

void
ef_machine_read (ef_machine_t *self, const char *root) {
    char text[TEXT_MAX];
    long online = sysconf (_SC_NPROCESSORS_ONLN);
    *self = (ef_machine_t){.cores = online > 0 ? (double)online : 1, .free_bytes = UINT64_MAX};
    if (s_read (root, "/proc/loadavg", text)) {
        self->load = strtod (text, NULL);
    }
    if (s_read (root, "/proc/meminfo", text)) {
        double total = s_field (text, "MemTotal");
        double left = s_field (text, "MemAvailable");
        s_bound (self, total * 1024, left < 0 ? -1 : (total - left) * 1024);
    }
    s_all_groups (self, root);
}

bool
ef_machine_is_short (const ef_machine_t *self, double least) {
    double bytes = least <= 1 ? least * (double)self->memory_bytes : least;
    return self->memory_bytes > 0 && (double)self->free_bytes < bytes;
}

bool
ef_machine_is_loaded (const ef_machine_t *self, double most) {
    return most > 0 && self->load > most * self->cores;
}

uint64_t
ef_machine_rss (pid_t pid) {
    char path[64];
    char text[TEXT_MAX];
    unsigned long long pages = 0;
    snprintf (path, sizeof path, "/proc/%d/statm", (int)pid);
    if (!s_read ("", path, text) || sscanf (text, "%*u %llu", &pages) != 1) {
        return 0;
    }
    return (uint64_t)pages * (uint64_t)sysconf (_SC_PAGESIZE);
}
