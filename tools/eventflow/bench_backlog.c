/* eventflow bench --backlog: what events cost that wait. SPDX-License-Identifier: MIT

   Role: fills a broker that has no worker, restarts it in three ways, drains it, and the same on a
   fresh one with events that came one by one. Owns: the results, in the order in which they were
   measured. On failure: says why; the figures so far are not printed.

   The steps and what they tell:
     idle       memory of a broker that has made its spare segments and has nothing to do
     publish    batches of 64, all confirmed; memory with all of them waiting
     kill       SIGKILL right behind the last CONFIRM, the harder case: recovery begins at the last
                periodic checkpoint; until all events are ready again
     clean      SIGTERM, which leaves a last checkpoint, and a start
     log        SIGKILL and no checkpoint: the whole log is read, from the page cache as a rule
     drain      one worker; every event once more or oftener, first attempts in order, all right
     quiet      10 s later: what the segments take on disk
     single     a fresh broker, every event a message of its own */
#include "bench.h"

#include <stdlib.h>

#define BATCH_EVENTS       64
#define QUIET_MS           10000
#define RESTART_MS         600000 /* until a restart is given up */
#define SETTLE_MS          30000

/* Targets. */
#define WAITING_BYTES_MOST 100000000u /* above idle, whatever waits */
#define CLEAN_MS_MOST      1000u
#define KILL_MS_MOST       3000u
#define LOG_MB_PER_S_LEAST 200u
#define DRAIN_PER_S_LEAST  300000u
#define SINGLE_BYTES_MOST  64u /* of memory above idle, an event */
#define DISK_SEGMENTS_AND_LIVE                                                                     \
    4u /* twice the live bytes and so many segments (broker/core/clean.c) */

#define RESULTS_MAX 64

typedef struct {
    const char *name;
    uint64_t value;
    bool is_target; /* value: it was met */
} result_t;

typedef struct {
    bench_t *bench;
    result_t results[RESULTS_MAX];
    uint32_t count;
    uint64_t idle_bytes;
    uint32_t missed;
} backlog_t;

static void
s_add (backlog_t *self, const char *name, uint64_t value, bool is_target) {
    ef_assert (self->count < RESULTS_MAX);
    self->results[self->count++] = (result_t){name, value, is_target};
    self->missed += is_target && value == 0;
    if (!self->bench->cli->json) {
        const char *verdict = value ? "met" : "MISSED";
        is_target ? printf ("  target %-33s %14s\n", name, verdict)
                  : printf ("%-42s %14llu\n", name, (unsigned long long)value);
        fflush (stdout);
    }
}

static void
s_note (backlog_t *self, const char *name, uint64_t value) {
    s_add (self, name, value, false);
}

static void
s_target (backlog_t *self, const char *name, bool is_met) {
    s_add (self, name, is_met, true);
}

static uint64_t
s_above (uint64_t bytes, uint64_t idle) {
    return bytes > idle ? bytes - idle : 0;
}

static uint64_t
s_rate (uint64_t count, uint64_t ns) {
    return ns ? (uint64_t)((double)count * 1e9 / (double)ns) : 0;
}

static bool
s_has_spares (const bench_state_t *state, uint64_t wanted) {
    return !state->is_recovering && state->spares >= wanted;
}

static bool
s_has_ready (const bench_state_t *state, uint64_t wanted) {
    return !state->is_recovering && state->ready == wanted;
}

static bool
s_has_done (const bench_state_t *state, uint64_t wanted) {
    return state->ready == 0 && state->done == wanted;
}

/* A fresh broker; waits until it has prepared what it prepares. */
static int
s_idle (backlog_t *self) {
    bench_state_t state;
    if (bench_broker_new (self->bench) ||
        bench_broker_wait (self->bench, "spare segments", s_has_spares, 3, SETTLE_MS, &state) ||
        bench_pause (self->bench, 500)) {
        return -1;
    }
    self->idle_bytes = bench_broker_rss (self->bench);
    return 0;
}

/* Publishes, each event confirmed. `*ns`: from the first to the last CONFIRM. */
static int
s_publish (backlog_t *self, uint64_t events, uint32_t batch_events, uint64_t *ns,
           bench_state_t *state) {
    bench_t *bench = self->bench;
    char begin[BENCH_LINE];
    char end[BENCH_LINE];
    uint64_t patience = bench_patience_ms (events);
    bench_start_t start = {.role = "publisher",
                           .endpoint = bench->endpoints[BENCH_FRONT],
                           .events = events,
                           .batch_events = batch_events};
    if (bench_spawn (bench, BENCH_SENDER, &start) ||
        bench_line (bench, BENCH_SENDER, 10000, begin) ||
        bench_line (bench, BENCH_SENDER, patience, end) ||
        bench_join (bench, BENCH_SENDER, patience)) {
        return -1;
    }
    *ns = strtoull (end, NULL, 10) - strtoull (begin, NULL, 10);
    return bench_broker_wait (bench, "all events are ready", s_has_ready, events, SETTLE_MS, state);
}

static int
s_fill (backlog_t *self) {
    bench_t *bench = self->bench;
    bench_state_t state;
    uint64_t ns;
    bench_broker_peak_clear (bench);
    if (s_publish (self, bench->events, BATCH_EVENTS, &ns, &state)) {
        return -1;
    }
    uint64_t rss = bench_broker_rss (bench);
    s_note (self, "publish_events_per_second", s_rate (bench->events, ns));
    s_note (self, "publish_peak_rss_bytes", bench_broker_peak (bench));
    s_note (self, "waiting_rss_bytes", rss);
    s_note (self, "waiting_rss_above_idle_bytes", s_above (rss, self->idle_bytes));
    s_note (self, "waiting_anonymous_bytes", bench_broker_anonymous (bench));
    s_note (self, "waiting_cache_bytes", state.cache_bytes);
    s_note (self, "journal_bytes", state.journal_bytes);
    if (state.tells_extents) {
        s_note (self, "extents", state.extents);
    }
    s_target (self, "waiting_rss",
              rss > 0 && s_above (rss, self->idle_bytes) <= WAITING_BYTES_MOST);
    return 0;
}

/* Starts it again; `*ms`: until it says that all events are ready. */
static int
s_restart (backlog_t *self, const char *ms_name, const char *recovery_name, uint64_t *ms,
           bench_state_t *state) {
    uint64_t begin = ef_mono_ms ();
    if (bench_broker_start (self->bench) ||
        bench_broker_wait (self->bench, "all events are ready again", s_has_ready,
                           self->bench->events, RESTART_MS, state)) {
        return -1;
    }
    *ms = ef_mono_ms () - begin;
    s_note (self, ms_name, *ms);
    s_note (self, recovery_name, state->recovery_ms);
    return 0;
}

static int
s_restart_thrice (backlog_t *self) {
    bench_t *bench = self->bench;
    bench_state_t state;
    uint64_t ms;
    bench_kill (bench, BENCH_BROKER);
    if (s_restart (self, "kill_restart_ms", "kill_recovery_ms", &ms, &state)) {
        return -1;
    }
    s_target (self, "kill_restart", ms < KILL_MS_MOST);
    uint64_t begin = ef_mono_ms ();
    if (bench_broker_stop (bench)) {
        return -1;
    }
    s_note (self, "clean_stop_ms", ef_mono_ms () - begin);
    if (s_restart (self, "clean_restart_ms", "clean_recovery_ms", &ms, &state)) {
        return -1;
    }
    s_target (self, "clean_restart", ms < CLEAN_MS_MOST);
    s_note (self, "clean_restart_rss_bytes", bench_broker_rss (bench));
    bench_kill (bench, BENCH_BROKER);
    bench_files_t checkpoints = bench_broker_files (bench, ".ckpt", true);
    s_note (self, "checkpoint_bytes", checkpoints.bytes);
    if (s_restart (self, "log_restart_ms", "log_recovery_ms", &ms, &state)) {
        return -1;
    }
    uint64_t per_second = state.journal_bytes / 1000 / (ms ? ms : 1);
    s_note (self, "log_restart_mb_per_second", per_second);
    s_target (self, "log_restart", per_second >= LOG_MB_PER_S_LEAST);
    s_note (self, "log_restart_rss_bytes", bench_broker_rss (bench));
    return 0;
}

/* One worker takes all of it. */
static int
s_drain (backlog_t *self, uint64_t events, uint64_t *ns) {
    bench_t *bench = self->bench;
    bench_state_t state;
    bench_counts_t counts;
    char begin[BENCH_LINE];
    char end[BENCH_LINE];
    uint64_t patience = bench_patience_ms (events);
    bench_start_t start = {
        .role = "worker", .endpoint = bench->endpoints[BENCH_BACK], .events = events};
    bench_broker_peak_clear (bench);
    if (bench_spawn (bench, BENCH_RECEIVER, &start) ||
        bench_line (bench, BENCH_RECEIVER, 10000, begin) ||
        bench_line (bench, BENCH_RECEIVER, patience, end) ||
        bench_join (bench, BENCH_RECEIVER, patience)) {
        return -1;
    }
    if (bench_counts_read (end, &counts) || counts.distinct != events || counts.wrong) {
        return bench_fail (bench, "events were lost or changed while draining (%s)", end);
    }
    if (counts.disordered) {
        return bench_fail (bench, "%llu first attempts came out of order", counts.disordered);
    }
    *ns = counts.end_ns - strtoull (begin, NULL, 10);
    return bench_broker_wait (bench, "all events are done", s_has_done, events, SETTLE_MS, &state);
}

static int
s_drain_all (backlog_t *self) {
    bench_t *bench = self->bench;
    uint64_t ns;
    if (s_drain (self, bench->events, &ns)) {
        return -1;
    }
    uint64_t rate = s_rate (bench->events, ns);
    s_note (self, "drain_events_per_second", rate);
    s_note (self, "drain_peak_rss_bytes", bench_broker_peak (bench));
    s_target (self, "drain", rate >= DRAIN_PER_S_LEAST);
    return 0;
}

static int
s_quiet (backlog_t *self) {
    bench_t *bench = self->bench;
    bench_state_t state;
    if (bench_pause (bench, QUIET_MS) || bench_broker_state (bench, 5000, &state)) {
        return bench_fail (bench, "the broker gives no answer after a time of quiet");
    }
    bench_files_t segments = bench_broker_files (bench, ".seg", false);
    bench_files_t spares = bench_broker_files (bench, ".spare", false);
    s_note (self, "quiet_segments", segments.count);
    s_note (self, "quiet_segment_bytes", segments.bytes);
    s_note (self, "quiet_spare_bytes", spares.bytes);
    s_note (self, "quiet_live_bytes", state.live_bytes);
    s_note (self, "quiet_rss_bytes", bench_broker_rss (bench));
    s_target (self, "quiet_disk",
              segments.bytes <= 2 * state.live_bytes + DISK_SEGMENTS_AND_LIVE * segments.largest);
    return bench_broker_stop (bench);
}

static int
s_single (backlog_t *self) {
    bench_t *bench = self->bench;
    bench_state_t state;
    uint64_t ns;
    if (s_idle (self) || s_publish (self, bench->single, 1, &ns, &state)) {
        return -1;
    }
    uint64_t above = s_above (bench_broker_rss (bench), self->idle_bytes);
    s_note (self, "single_events", bench->single);
    s_note (self, "single_publish_events_per_second", s_rate (bench->single, ns));
    s_note (self, "single_rss_above_idle_bytes", above);
    s_note (self, "single_cache_bytes", state.cache_bytes);
    s_note (self, "single_rss_bytes_per_event", above / bench->single);
    if (state.tells_extents) {
        s_note (self, "single_extents", state.extents);
    }
    s_target (self, "single_rss", above <= bench->single * SINGLE_BYTES_MOST);
    if (s_drain (self, bench->single, &ns)) {
        return -1;
    }
    s_note (self, "single_drain_events_per_second", s_rate (bench->single, ns));
    return bench_broker_stop (bench);
}

static void
s_print (const backlog_t *self) {
    ef_buf_t out = {0};
    uint32_t targets = 0;
    for (uint32_t i = 0; i < self->count; i++) {
        targets += self->results[i].is_target;
    }
    ef_put_map (&out, self->count - targets + 3);
    ef_put_key_uint (&out, "events", self->bench->events);
    ef_put_key_uint (&out, "size_bytes", self->bench->size);
    for (uint32_t i = 0; i < self->count; i++) {
        if (!self->results[i].is_target) {
            ef_put_key_uint (&out, self->results[i].name, self->results[i].value);
        }
    }
    ef_put_str (&out, "targets");
    ef_put_map (&out, targets);
    for (uint32_t i = 0; i < self->count; i++) {
        if (self->results[i].is_target) {
            ef_put_key_bool (&out, self->results[i].name, self->results[i].value != 0);
        }
    }
    cli_print_json (&out);
    ef_buf_free (&out);
}

int
bench_backlog (bench_t *bench) {
    backlog_t self = {.bench = bench};
    int rc = s_idle (&self);
    if (rc == 0) {
        s_note (&self, "idle_rss_bytes", self.idle_bytes);
    }
    if (rc || s_fill (&self) || s_restart_thrice (&self) || s_drain_all (&self) ||
        s_quiet (&self)) {
        return CLI_FAILED;
    }
    bench_broker_remove (bench);
    if (bench->single && s_single (&self)) {
        return CLI_FAILED;
    }
    if (bench->cli->json) {
        s_print (&self);
    }
    return bench->checks && self.missed ? CLI_FAILED : CLI_OK;
}
