/* What a process tells of itself. SPDX-License-Identifier: MIT */
#include "prometheus.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

static double
s_resident_bytes (void) {
    unsigned long pages = 0;
    FILE *file = fopen ("/proc/self/statm", "r");
    if (file) {
        pages = fscanf (file, "%*u %lu", &pages) == 1 ? pages : 0;
        fclose (file);
    }
    return (double)pages * (double)sysconf (_SC_PAGESIZE);
}

static unsigned
s_open_files (void) {
    unsigned count = 0;
    DIR *folder = opendir ("/proc/self/fd");
    if (folder) {
        while (readdir (folder)) {
            count++;
        }
        closedir (folder);
    }
    return count > 3 ? count - 3 : 0; /* ".", ".." and the folder itself */
}

static double
s_started (void) {
    unsigned long long ticks = 0;
    unsigned long long boot = 0;
    char text[1024];
    FILE *file = fopen ("/proc/self/stat", "r");
    if (file) {
        size_t size = fread (text, 1, sizeof text - 1, file);
        text[size] = '\0';
        const char *at = strrchr (text, ')'); /* a name may hold anything */
        if (at == NULL || sscanf (at + 1,
                                  " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d "
                                  "%*d %*d %*d %*d %llu",
                                  &ticks) != 1) {
            ticks = 0;
        }
        fclose (file);
    }
    file = fopen ("/proc/stat", "r");
    while (file && fgets (text, sizeof text, file) && sscanf (text, "btime %llu", &boot) != 1) {
    }
    if (file) {
        fclose (file);
    }
    return (double)boot + (double)ticks / (double)sysconf (_SC_CLK_TCK);
}

void
prometheus_put_process (ef_buf_t *out) {
    struct rusage usage = {0};
    struct rlimit limit = {0};
    (void)getrusage (RUSAGE_SELF, &usage); /* can't fail for oneself */
    (void)getrlimit (RLIMIT_NOFILE, &limit);
    const struct {
        const char *name;
        const char *type;
        const char *help;
        double value;
    } rows[] = {
        {"process_cpu_seconds_total", "counter", "Processor time of this process.",
         (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
             (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6},
        {"process_resident_memory_bytes", "gauge", "Memory of this process.", s_resident_bytes ()},
        {"process_open_fds", "gauge", "Files and sockets that it has open.", s_open_files ()},
        {"process_max_fds", "gauge", "How many it may have open.", (double)limit.rlim_cur},
        {"process_start_time_seconds", "gauge", "When it started, since 1970.", s_started ()},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        prometheus_head (out, rows[i].name, rows[i].type, rows[i].help);
        prometheus_value (out, rows[i].name, NULL, rows[i].value);
    }
}
