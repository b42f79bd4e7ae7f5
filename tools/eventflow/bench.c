/* eventflow bench: events a second from publish to processed. SPDX-License-Identifier: MIT

   Starts a broker on a directory and ports of its own, one worker process, one publisher process,
   all with shipped defaults. Payloads are random, their first eight bytes a checksum of the rest,
   which the worker verifies; ids are distinct, and the worker counts distinct ones: else the figure
   is void. In the same run raw libzmq PUSH to PULL moves as many messages of the same size between
   two processes. With --backlog it measures what a backlog costs (bench_backlog.c), with --compare
   what dedupe and ordering keys cost (bench_compare.c). */
#include "bench.h"

#include <stdlib.h>
#include <unistd.h>

/* Between the worker's READY and the first event; a broker that has just begun still prepares
   segments. */
#define SETTLE_MS 200
#define KEYS_MAX  100000000u /* the worker has 8 bytes for each */

static bool
s_has_workers (const bench_state_t *state, uint64_t wanted) {
    return state->workers == wanted;
}

/* Events a second between the sender's start and the receiver's end, in `*rate`. */
static int
s_judge (bench_t *self, const char *first, double *rate) {
    char line[BENCH_LINE];
    bench_counts_t counts;
    uint64_t patience = bench_patience_ms (self->events);
    unsigned long long start = strtoull (first, NULL, 10);
    if (bench_line (self, BENCH_RECEIVER, patience, line)) {
        return -1;
    }
    if (bench_counts_read (line, &counts) || counts.distinct != self->events || counts.wrong ||
        counts.end_ns <= start) {
        return bench_fail (self, "events were lost, doubled or changed: no figure (%s)", line);
    }
    if (self->keys && counts.disordered) {
        return bench_fail (self, "%llu first attempts came behind a later event of their key",
                           counts.disordered);
    }
    *rate = (double)self->events * 1e9 / (double)(counts.end_ns - start);
    return bench_join (self, BENCH_SENDER, patience) || bench_join (self, BENCH_RECEIVER, patience)
               ? -1
               : 0;
}

static int
s_run_broker (bench_t *self, double *rate) {
    char line[BENCH_LINE];
    bench_state_t state;
    bench_start_t start = {.events = self->events, .batch_events = self->batch_events};
    if (bench_broker_new (self)) {
        return -1;
    }
    start.role = "worker";
    start.endpoint = self->endpoints[BENCH_BACK];
    if (bench_spawn (self, BENCH_RECEIVER, &start) ||
        bench_line (self, BENCH_RECEIVER, 10000, line) ||
        bench_broker_wait (self, "a worker", s_has_workers, 1, 10000, &state) ||
        bench_pause (self, SETTLE_MS)) {
        return -1;
    }
    start.role = "publisher";
    start.endpoint = self->endpoints[BENCH_FRONT];
    return bench_spawn (self, BENCH_SENDER, &start) ||
                   bench_line (self, BENCH_SENDER, 10000, line) || s_judge (self, line, rate) ||
                   bench_broker_stop (self)
               ? -1
               : 0;
}

int
bench_run (bench_t *self, double *rate) {
    int rc = s_run_broker (self, rate);
    bench_broker_remove (self);
    return rc;
}

static int
s_run_raw (bench_t *self, double *rate) {
    char line[BENCH_LINE];
    char endpoint[BENCH_LINE];
    bench_start_t start = {.events = self->events, .role = "raw-pull", .endpoint = ""};
    if (bench_spawn (self, BENCH_RECEIVER, &start) ||
        bench_line (self, BENCH_RECEIVER, 10000, endpoint)) {
        return -1;
    }
    start.role = "raw-push";
    start.endpoint = endpoint;
    return bench_spawn (self, BENCH_SENDER, &start) ||
                   bench_line (self, BENCH_SENDER, 10000, line) || s_judge (self, line, rate)
               ? -1
               : 0;
}

int
bench_by_value (const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int
s_throughput (bench_t *self) {
    double rates[64] = {0};
    double raw[64] = {0};
    for (uint32_t i = 0; i < self->runs; i++) {
        if (bench_run (self, &rates[i]) || s_run_raw (self, &raw[i])) {
            return CLI_FAILED;
        }
        fprintf (stderr, "run %u: %.0f events/s, raw PUSH to PULL %.0f/s, ratio %.3f\n", i + 1,
                 rates[i], raw[i], rates[i] / raw[i]);
    }
    qsort (rates, self->runs, sizeof *rates, bench_by_value);
    qsort (raw, self->runs, sizeof *raw, bench_by_value);
    double median = rates[self->runs / 2];
    if (self->cli->json) {
        printf ("{\"events\":%llu,\"size_bytes\":%u,\"runs\":%u,\"unbatched\":%s,\"keys\":%u,"
                "\"durability\":\"sync\","
                "\"events_per_second\":%.0f,\"min\":%.0f,\"max\":%.0f,\"raw_push_pull_per_second\":"
                "%.0f,"
                "\"ratio\":%.4f}\n",
                (unsigned long long)self->events, self->size, self->runs,
                self->batch_events == 1 ? "true" : "false", self->keys, median, rates[0],
                rates[self->runs - 1], raw[self->runs / 2], median / raw[self->runs / 2]);
    } else {
        printf ("%.0f durable events/s end to end (median of %u)\n", median, self->runs);
    }
    return CLI_OK;
}

/* Becomes eventflowd: the one beside this program, installed or built. */
static int
s_broker (bench_t *self) {
    char path[4096];
    ssize_t size = readlink ("/proc/self/exe", path, sizeof path - 32);
    path[size > 0 ? size : 0] = 0;
    char *slash = strrchr (path, '/');
    snprintf (slash ? slash + 1 : path, 32, "eventflowd");
    (void)execl (path, "eventflowd", "--config", self->endpoint, (char *)NULL);
    return cli_fail (CLI_FAILED, "bench: %s can't be run", path);
}

static int
s_play (bench_t *self, const char *role, const char *parent) {
    static const struct {
        const char *name;
        int (*run) (bench_t *self);
    } roles[] = {{"broker", s_broker},
                 {"publisher", bench_publisher},
                 {"worker", bench_worker},
                 {"raw-push", bench_raw_push},
                 {"raw-pull", bench_raw_pull}};
    if (parent == NULL || self->endpoint == NULL || !bench_follow (parent)) {
        return cli_fail (CLI_USAGE, "bench: roles are for the bench itself");
    }
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        if (strcmp (role, roles[i].name) == 0) {
            return roles[i].run (self);
        }
    }
    return cli_fail (CLI_USAGE, "bench: no role %s", role);
}

/* Flags as they were given. */
typedef struct {
    const char *events;
    const char *size;
    const char *runs;
    const char *batch;
    const char *single;
    const char *keys;
    const char *role;
    const char *parent;
    bool is_unbatched;
    bool is_backlog;
    bool is_comparison;
} words_t;

static int
s_read_flags (bench_t *self, words_t *words) {
    const cli_flag_t flags[] = {
        {"events", &words->events, NULL},      {"size", &words->size, NULL},
        {"runs", &words->runs, NULL},          {"keys", &words->keys, NULL},
        {"dedupe", &self->dedupe, NULL},       {"unbatched", NULL, &words->is_unbatched},
        {"backlog", NULL, &words->is_backlog}, {"compare", NULL, &words->is_comparison},
        {"single", &words->single, NULL},      {"check", NULL, &self->checks},
        {"role", &words->role, NULL}, /* from here on: inside */
        {"endpoint", &self->endpoint, NULL},   {"batch", &words->batch, NULL},
        {"parent", &words->parent, NULL},
    };
    return cli_flags (self->cli, flags, sizeof flags / sizeof flags[0]);
}

int
cli_bench (cli_t *cli) {
    bench_t self = {.cli = cli};
    words_t words = {.runs = "5", .batch = "0", .single = "1000000", .keys = "0"};
    uint64_t numbers[6];
    if (s_read_flags (&self, &words)) {
        return CLI_USAGE;
    }
    words.events = words.events ? words.events : words.is_backlog ? "10000000" : "1000000";
    words.size = words.size ? words.size : words.is_backlog ? "256" : "128";
    if (cli_count ("--events", words.events, &numbers[0]) ||
        cli_count ("--size", words.size, &numbers[1]) ||
        cli_count ("--runs", words.runs, &numbers[2]) ||
        cli_count ("--batch", words.batch, &numbers[3]) ||
        cli_count ("--single", words.single, &numbers[4]) ||
        cli_count ("--keys", words.keys, &numbers[5])) {
        return CLI_USAGE;
    }
    self.events = numbers[0];
    self.size = (uint32_t)numbers[1];
    self.runs = (uint32_t)numbers[2];
    self.batch_events = words.is_unbatched ? 1 : (uint32_t)numbers[3];
    self.single = numbers[4];
    self.keys = (uint32_t)numbers[5];
    if (words.role) {
        return s_play (&self, words.role, words.parent);
    }
    if (numbers[0] == 0 || numbers[0] > UINT32_MAX || numbers[1] < 16 || numbers[1] > 65536 ||
        numbers[2] < 1 || numbers[2] > 64 || numbers[4] > UINT32_MAX || numbers[5] > KEYS_MAX) {
        return cli_fail (CLI_USAGE, "bench: expected --events and --single below 2^32, --events 1 "
                                    "or more, --size 16 to 65536, --runs 1 to 64, --keys to 10^8");
    }
    if (words.is_backlog + words.is_comparison + (self.keys > 0) > 1 ||
        (words.is_comparison && self.dedupe)) {
        return cli_fail (CLI_USAGE, "bench: --backlog, --compare and --keys exclude each other, "
                                    "so do --compare and --dedupe");
    }
    if (words.is_backlog && self.dedupe == NULL) {
        self.dedupe = "0"; /* what a backlog costs by itself; ids are measured by --dedupe 10m */
    }
    bench_catch_signals ();
    int rc = words.is_backlog      ? bench_backlog (&self)
             : words.is_comparison ? bench_compare (&self)
                                   : s_throughput (&self);
    bench_kill_all (&self);
    bench_broker_remove (&self);
    return rc;
}
