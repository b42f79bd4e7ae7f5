/* The broker of the bench's own: its directory, its life, what it uses.
   SPDX-License-Identifier: MIT

   Role: a broker with shipped defaults on a fresh directory under $TMPDIR and on ports that nobody
   else has. Owns: the directory. Invariant: an answer counts only where it names our broker's pid.
 */
#include "bench.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES      5     /* with other ports */
#define START_MS   30000 /* a broker on an empty directory */
#define ASK_MS     20    /* until a question is asked again while it starts */
#define EXIT_BIND  74    /* of eventflowd, where it can't bind among others */
#define PORT_FIRST 20000 /* below the kernel's range for ports that nobody chose */
#define PORT_RANGE 12000

static int
s_write_configuration (bench_t *self, char *file, size_t size) {
    static const char *const names[] = {"ingress", "front", "back", "admin", "stats"};
    snprintf (file, size, "%s/eventflow.cfg", self->directory);
    FILE *out = fopen (file, "w");
    if (out == NULL) {
        return bench_fail (self, "%s: %s", file, strerror (errno));
    }
    fprintf (out, "server\n    data = \"%s/data\"\n    log_level = warning\n", self->directory);
    for (unsigned i = 0; i < BENCH_ENDPOINTS; i++) {
        fprintf (out, "    %s = \"%s\"\n", names[i], self->endpoints[i]);
    }
    fprintf (out, "topic\n    " BENCH_TOPIC "\n        capacity = 0\n");
    if (self->dedupe) {
        fprintf (out, "        dedupe = %s\n", self->dedupe);
    }
    return fclose (out) ? bench_fail (self, "%s: %s", file, strerror (errno)) : 0;
}

int
bench_broker_start (bench_t *self) {
    char file[BENCH_PATH + 32];
    snprintf (file, sizeof file, "%s/eventflow.cfg", self->directory);
    return bench_spawn (self, BENCH_BROKER, &(bench_start_t){.role = "broker", .endpoint = file});
}

/* 0: it answers; 1: it couldn't begin. */
static int
s_try (bench_t *self) {
    bench_state_t state;
    uint64_t deadline = ef_mono_ms () + START_MS;
    if (bench_broker_start (self)) {
        return -1;
    }
    while (bench_broker_state (self, ASK_MS, &state)) {
        if (bench_exit_status (self, BENCH_BROKER) == EXIT_BIND) {
            bench_kill (self, BENCH_BROKER);
            return 1;
        }
        if (ef_mono_ms () >= deadline) {
            return bench_fail (self, "the broker doesn't answer within %d ms", START_MS);
        }
        if (bench_pause (self, 0)) {
            return -1;
        }
    }
    return 0;
}

int
bench_broker_new (bench_t *self) {
    char file[BENCH_PATH + 32];
    const char *base = getenv ("TMPDIR");
    int size = snprintf (self->directory, sizeof self->directory, "%s/ef-bench-XXXXXX",
                         base && base[0] ? base : "/tmp");
    if (size >= (int)sizeof self->directory || mkdtemp (self->directory) == NULL) {
        self->directory[0] = 0;
        return bench_fail (self, "can't make a directory in %.200s: %s", base ? base : "/tmp",
                           strerror (errno));
    }
    for (unsigned i = 0; i < TRIES; i++) {
        unsigned port = PORT_FIRST + (unsigned)(ef_random () % PORT_RANGE);
        for (unsigned k = 0; k < BENCH_ENDPOINTS; k++) {
            snprintf (self->endpoints[k], sizeof self->endpoints[k], "tcp://127.0.0.1:%u",
                      port + k);
        }
        int rc = s_write_configuration (self, file, sizeof file) ? -1 : s_try (self);
        if (rc <= 0) {
            return rc;
        }
        fprintf (stderr, "bench: no broker on the ports from %u on; trying others\n", port);
    }
    return bench_fail (self, "the broker doesn't start on any of %d ranges of ports", TRIES);
}

int
bench_broker_stop (bench_t *self) {
    (void)kill (self->children[BENCH_BROKER].pid, SIGTERM); /* ours, not yet waited for */
    return bench_join (self, BENCH_BROKER, START_MS);
}

static int
s_remove_one (const char *path, const struct stat *about, int kind, struct FTW *place) {
    (void)about;
    (void)kind;
    (void)place;
    return remove (path);
}

void
bench_broker_remove (bench_t *self) {
    bench_kill (self, BENCH_BROKER);
    if (self->directory[0] && nftw (self->directory, s_remove_one, 8, FTW_DEPTH | FTW_PHYS)) {
        fprintf (stderr, "bench: %s is left behind\n", self->directory);
    }
    self->directory[0] = 0;
}

static int
s_ask (eventflow_admin_t *admin, const char *command, int timeout_ms, ef_cursor_t *answer) {
    char code[32];
    char text[512];
    eventflow_bytes_t value;
    ef_buf_t request = {0};
    ef_put_array (&request, 1);
    ef_put_str (&request, command);
    int rc = eventflow_admin_call (admin, (eventflow_bytes_t){request.data, request.size},
                                   timeout_ms, &value, code, text);
    ef_buf_free (&request);
    *answer = rc ? ef_cursor ("", 0) : ef_cursor (value.data, value.size);
    return rc;
}

static void
s_read_topic (ef_cursor_t answer, bench_state_t *state) {
    ef_cursor_t items;
    ef_cursor_t unused;
    uint32_t count;
    if (!ef_map_find (answer, "items", &items) || ef_get_array (&items, &count)) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        char name[64];
        ef_map_text (items, "topic", name, sizeof name);
        if (strcmp (name, BENCH_TOPIC) == 0) {
            state->ready = ef_map_uint (items, "ready");
            state->done = ef_map_uint (items, "done");
            state->tells_extents = ef_map_find (items, "extents", &unused);
            state->extents = ef_map_uint (items, "extents");
        }
        if (ef_skip (&items)) {
            return;
        }
    }
}

int
bench_broker_state (bench_t *self, int timeout_ms, bench_state_t *state) {
    ef_cursor_t answer;
    ef_cursor_t broker;
    ef_cursor_t process;
    ef_cursor_t flag;
    eventflow_admin_t *admin = eventflow_admin_new (self->endpoints[BENCH_ADMIN]);
    *state = (bench_state_t){0};
    int rc = s_ask (admin, "STATUS", timeout_ms, &answer);
    if (rc == 0 && ef_map_find (answer, "broker", &broker) &&
        ef_map_find (answer, "process", &process)) {
        state->is_recovering = ef_map_find (broker, "recovering", &flag) && *flag.at == 0xc3;
        state->workers = ef_map_uint (broker, "workers");
        state->journal_bytes = ef_map_uint (broker, "journal_bytes");
        state->live_bytes = ef_map_uint (broker, "live_bytes");
        state->cache_bytes = ef_map_uint (broker, "cache_bytes");
        state->pid = ef_map_uint (process, "pid");
        state->spares = ef_map_uint (process, "spares");
        state->recovery_ms = ef_map_uint (process, "recovery_ms");
    }
    if (rc == 0 && !state->is_recovering) {
        rc = s_ask (admin, "TOPICS", timeout_ms, &answer);
        s_read_topic (answer, state);
    }
    eventflow_admin_destroy (&admin);
    return rc || state->pid != (uint64_t)self->children[BENCH_BROKER].pid;
}

int
bench_broker_wait (bench_t *self, const char *what,
                   bool (*is_there) (const bench_state_t *state, uint64_t wanted), uint64_t wanted,
                   uint64_t timeout_ms, bench_state_t *state) {
    uint64_t deadline = ef_mono_ms () + timeout_ms;
    for (;;) {
        bool is_answered = bench_broker_state (self, ASK_MS, state) == 0;
        if (is_answered && is_there (state, wanted)) {
            return 0;
        }
        if (ef_mono_ms () >= deadline) {
            return bench_fail (self, "not within %llu ms: %s (ready %llu, done %llu)",
                               (unsigned long long)timeout_ms, what,
                               (unsigned long long)state->ready, (unsigned long long)state->done);
        }
        if (bench_pause (self, is_answered ? 2 : 0)) {
            return -1;
        }
    }
}

/* A number of KiB behind a word in a file of /proc/PID, as bytes. */
static uint64_t
s_memory (const bench_t *self, const char *name, const char *word) {
    char path[64];
    char line[256];
    unsigned long long kib = 0;
    snprintf (path, sizeof path, "/proc/%d/%s", (int)self->children[BENCH_BROKER].pid, name);
    FILE *file = fopen (path, "r");
    while (file && fgets (line, sizeof line, file)) {
        if (strncmp (line, word, strlen (word)) == 0) {
            kib = strtoull (line + strlen (word), NULL, 10);
            break;
        }
    }
    if (file) {
        fclose (file);
    }
    return kib * 1024;
}

uint64_t
bench_broker_rss (const bench_t *self) {
    return s_memory (self, "smaps_rollup", "Rss:");
}

uint64_t
bench_broker_anonymous (const bench_t *self) {
    return s_memory (self, "smaps_rollup", "Anonymous:");
}

uint64_t
bench_broker_peak (const bench_t *self) {
    return s_memory (self, "status", "VmHWM:");
}

void
bench_broker_peak_clear (const bench_t *self) {
    char path[64];
    snprintf (path, sizeof path, "/proc/%d/clear_refs", (int)self->children[BENCH_BROKER].pid);
    FILE *file = fopen (path, "w");
    if (file) {
        fputs ("5", file); /* the mark of the most goes down to what there is (proc(5)) */
        fclose (file);
    }
}

bench_files_t
bench_broker_files (const bench_t *self, const char *suffix, bool removes) {
    char path[BENCH_PATH + 300];
    bench_files_t files = {0};
    snprintf (path, sizeof path, "%s/data/journal", self->directory);
    DIR *directory = opendir (path);
    struct dirent *item;
    while (directory && (item = readdir (directory)) != NULL) {
        struct stat about;
        size_t size = strlen (item->d_name);
        if (size <= strlen (suffix) ||
            strcmp (item->d_name + size - strlen (suffix), suffix) != 0) {
            continue;
        }
        snprintf (path, sizeof path, "%s/data/journal/%s", self->directory, item->d_name);
        if (stat (path, &about) == 0) { /* else it went meanwhile */
            uint64_t bytes = (uint64_t)about.st_size;
            files.count++;
            files.bytes += bytes;
            files.largest = bytes > files.largest ? bytes : files.largest;
        }
        if (removes && unlink (path)) {
            fprintf (stderr, "bench: %s: %s\n", path, strerror (errno));
        }
    }
    if (directory) {
        closedir (directory);
    }
    return files;
}
