/* Runs random schedules of the whole broker by seed. SPDX-License-Identifier: MIT */
#include "world.h"
#include "../../broker/base/buggify.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define CLOCK_STEP_MS 20000 /* the wall clock is set by up to so much, either way */

typedef struct {
    uint64_t start;
    uint64_t seeds;
    uint64_t operations;
    uint32_t crashes;
    bool has_trace;
    bool is_plain;     /* seeds have no features of their own */
    uint32_t features; /* of every seed, besides its own */
} options_t;

static jmp_buf s_failed;
static volatile unsigned long long s_seed; /* under way, for the signal handler */

/* An assertion of the broker's own ends the run; the seed must be known all the same. */
static void
s_on_abort (int signal_number) {
    (void)signal_number;
    char text[80];
    int size = snprintf (text, sizeof text, "aborted at seed %llu\n", s_seed);
    ssize_t written = write (STDOUT_FILENO, text, (size_t)size);
    (void)written;
}

void
sim_fail (world_t *self, const char *format, ...) {
    va_list arguments;
    va_start (arguments, format);
    printf ("seed %llu, ms %llu: ", (unsigned long long)self->seed, (unsigned long long)self->now);
    vprintf (format, arguments);
    printf ("\n");
    va_end (arguments);
    longjmp (s_failed, 1);
}

void
sim_trace (world_t *self, const char *format, ...) {
    if (self->has_trace) {
        va_list arguments;
        va_start (arguments, format);
        printf ("%8llu  ", (unsigned long long)self->now);
        vprintf (format, arguments);
        printf ("\n");
        va_end (arguments);
    }
}

static world_t *
s_world_new (uint64_t seed, const options_t *options) {
    world_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->seed = seed;
    self->has_trace = options->has_trace;
    self->features = (options->is_plain ? 0 : sim_features (seed)) | options->features;
    self->random.state = seed * 0x9e3779b97f4a7c15u + 1;
    for (unsigned i = 0; i < 8; i++) {
        (void)sim_random (&self->random); /* small seeds begin alike */
    }
    self->now = 1000;
    self->wall = 1700000000000;
    self->disk = sim_disk_new (&self->random);
    self->checkpoint.file = -1;
    self->events = calloc (SIM_EVENTS, sizeof *self->events);
    ef_assert (self->events != NULL);
    self->config = (ef_core_config_t){.broker = "sim",
                                      .max_event = 4096,
                                      .max_message = 16384,
                                      .window = 200,
                                      .heartbeat_ms = 1000,
                                      .segment_bytes = seed % 2 ? 4096 : 131072,
                                      .segment_slack = 24576,
                                      .spares = 3,
                                      .checkpoint_bytes = 4096u << sim_below (&self->random, 4),
                                      .extent_span = 256u << sim_below (&self->random, 5),
                                      .cache_bytes = 2048u << sim_below (&self->random, 6),
                                      .behind_bytes = seed % 2 ? 65536 : 16384,
                                      .durability = "sync"};
    self->config.defaults = (ef_topic_config_t){
        .overflow_rate = 20,
        .lease_ms = 2000,
        .stall_ms = 1000,
        .retry = {.base_ms = 20, .cap_ms = 400, .factor = 2.0, .jitter = 1.0, .attempts = 6},
        .lease_total_ms = 3600000,
        .dedupe_ms = seed % 2 ? 3000 : 600000,
        .dedupe_count = 1000000,
        .weight = 1,
        .retry_capacity = 100,
        .scheduled_capacity = 1000,
        .insert_attempts = 3,
        .insert_base_ms = 20,
        .insert_cap_ms = 200,
        .insert_capacity = 30};
    settings_choose (self);
    for (uint32_t i = 0; i < SIM_PUBLISHERS; i++) {
        self->publishers[i].wire = UINT32_MAX;
        self->publishers[i].next_seq = 1;
        for (unsigned k = 0; k < 16; k++) {
            self->publishers[i].session[k] = (uint8_t)sim_random (&self->random);
        }
    }
    for (uint32_t i = 0; i < SIM_WORKERS; i++) {
        self->workers[i].wire = UINT32_MAX;
        worker_vanish (self, i);
    }
    return self;
}

static void
s_world_destroy (world_t *self) {
    if (self->core) {
        broker_stop (self);
    }
    for (uint32_t i = 0; i < SIM_PEERS; i++) {
        self->wires[i].is_forgotten = true;
        wire_cut (self, i);
    }
    sim_disk_destroy (&self->disk);
    ledger_free (self);
    free (self);
}

/* The broker's process ends, by a power cut or alone, and starts again; that may fail too. */
static void
s_crash (world_t *self) {
    bool is_cut = sim_disk_has_failed (self->disk) || sim_one_in (&self->random, 2);
    broker_stop (self);
    self->crashes++;
    for (;;) {
        if (is_cut) {
            sim_disk_crash (self->disk);
        } else {
            sim_disk_restart (self->disk);
        }
        self->now += sim_below (&self->random, 3000);
        self->wall += sim_below (&self->random, 3000);
        if (!self->is_quiet && sim_one_in (&self->random, 6)) {
            sim_disk_fail_after (self->disk, 1 + sim_below (&self->random, 12));
        }
        if (broker_start (self)) {
            break;
        }
        if (!sim_disk_has_failed (self->disk)) {
            sim_fail (self, "the broker doesn't start");
        }
        broker_stop (self);
        is_cut = true;
        self->crashes_in_recovery++;
    }
}

static world_t *s_world; /* the one that runs, for the hook */

static bool
s_buggify (uint32_t one_in) {
    return !s_world->is_quiet && sim_one_in (&s_world->random, one_in);
}

static void
s_everybody (world_t *self) {
    broker_step (self);
    for (uint32_t i = 0; i < SIM_PUBLISHERS; i++) {
        publisher_receive (self, i);
    }
    for (uint32_t i = 0; i < SIM_WORKERS; i++) {
        worker_receive (self, i);
    }
}

static void
s_operate (world_t *self, bool may_crash) {
    uint32_t dice = sim_below (&self->random, 1000);
    if (may_crash && dice < 4) {
        s_crash (self); /* kill -9 between two turns */
    } else if (may_crash && dice < 8) {
        sim_disk_fail_after (self->disk, 1 + sim_below (&self->random, 30)); /* a power cut soon */
    } else if (dice < 400) {
        publisher_step (self, sim_below (&self->random, SIM_PUBLISHERS));
    } else if (dice < 980) {
        worker_step (self, sim_below (&self->random, SIM_WORKERS));
    } else {
        operator_step (self);
    }
    uint64_t step = sim_one_in (&self->random, 50) ? sim_below (&self->random, 1500)
                                                   : sim_below (&self->random, 12);
    /* A long while is either work going on or the broker being away. */
    for (bool is_away = sim_one_in (&self->random, 2); step > 40 && !is_away; step -= 40) {
        self->now += 40;
        self->wall += 40;
        broker_step (self);
    }
    self->now += step;
    self->wall += step;
    if (self->seed % 4 == 0 && sim_one_in (&self->random, 400)) {
        self->wall += sim_below (&self->random, 2 * CLOCK_STEP_MS);
        self->wall -= CLOCK_STEP_MS;
        self->was_set_back = true;
        self->step_ms = self->now;
    }
    s_everybody (self);
    if (self->is_refused) {
        sim_disk_limit (self->disk, 0); /* somebody makes room */
        s_crash (self);
    }
    if (sim_disk_has_failed (self->disk)) {
        s_crash (self);
    }
}

static uint64_t
s_larger (uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* How long all may take to come to an end: a bound, what must go one by one a while each, what a
   quota lets through a window and the look behind it for as many as it has units, retries without a
   budget one a second, and what a rate lets through. */
static uint64_t
s_patience_ms (const world_t *self) {
    uint64_t longest = 0;
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        const ef_topic_config_t *topic = &self->topics[i];
        uint64_t events = 0;
        for (uint32_t lane = 1; lane < SIM_LANES; lane++) {
            longest = s_larger (longest, 200ull * self->lanes[i][lane].count);
        }
        for (uint32_t subject = 0; subject < SIM_SUBJECTS; subject++) {
            uint32_t count = self->subjects[i][subject];
            uint64_t windows = topic->quota.limit > 0 ? 1 + count / topic->quota.limit : 0;
            longest = s_larger (longest, windows * (topic->quota.window_ms + 1100));
            events += count;
        }
        if (topic->retry_budget > 0) {
            longest =
                s_larger (longest, 1100 * (30 + ef_core_count (self->core, i, EF_STATE_LEASED) +
                                           ef_core_count (self->core, i, EF_STATE_RETRYING)));
        }
        if (topic->rate > 0) {
            longest = s_larger (longest, (uint64_t)((double)events * 1000 / topic->rate));
        }
    }
    return 60000 + longest;
}

_Noreturn static void
s_fail_late (world_t *self) {
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        printf ("%s:", sim_topics[i]);
        for (unsigned state = EF_STATE_READY; state <= EF_STATE_PARKED; state++) {
            printf (" %s %llu", ef_state_name ((ef_state_t)state),
                    (unsigned long long)ef_core_count (self->core, i, (ef_state_t)state));
        }
        printf (" letters %u leaving %u\n", ef_dead_log_count (self->dead[i]),
                ef_dead_log_leaving_count (self->dead[i]));
    }
    for (uint32_t i = 0; i < SIM_PEERS; i++) {
        const wire_t *wire = &self->wires[i];
        if (wire->kind != KIND_NONE) {
            sim_trace (self, "wire %u: kind %d of %u cut %d known %d forgotten %d waiting %d", i,
                       (int)wire->kind, wire->owner, wire->is_cut, wire->is_known,
                       wire->is_forgotten, wire->to_core != NULL);
        }
    }
    sim_fail (self,
              "not everything came to an end in time after the last fault (unconfirmed: %u %u %u; "
              "space %s)",
              self->publishers[0].sent_count, self->publishers[1].sent_count,
              self->publishers[2].sent_count, ef_space_name (ef_core_space_state (self->core)));
}

/* Faults are over: everything must come to an end within a bound. */
static void
s_finish (world_t *self) {
    self->is_quiet = true;
    sim_disk_fail_after (self->disk, 0);
    sim_disk_limit (self->disk, 0);
    if (sim_disk_has_failed (self->disk)) {
        s_crash (self); /* it failed at the end of the last start */
    }
    operator_quiet (self);
    uint64_t start = self->now;
    for (uint32_t calm = 0; calm < 50;) {
        for (uint32_t i = 0; i < SIM_PUBLISHERS; i++) {
            publisher_step (self, i);
        }
        for (uint32_t i = 0; i < SIM_WORKERS; i++) {
            worker_step (self, i);
        }
        self->now += 20;
        self->wall += 20;
        operator_tend (self);
        s_everybody (self);
        bool is_calm =
            broker_is_settled (self) && ef_core_space_state (self->core) == EF_SPACE_NORMAL;
        for (uint32_t i = 0; i < SIM_PUBLISHERS; i++) {
            is_calm = is_calm && self->publishers[i].sent_count == 0;
        }
        calm = is_calm ? calm + 1 : 0;
        if (self->now > start + 60000 && self->now > start + s_patience_ms (self)) {
            s_fail_late (self);
        }
    }
}

static int
s_run (const options_t *options, uint64_t seed, uint64_t *events, uint64_t *crashes) {
    world_t *self = s_world_new (seed, options);
    world_t *volatile kept = self; /* survives the jump */
    if (setjmp (s_failed)) {
        printf ("again by: sim --start %llu --seeds 1 --operations %llu --crashes %u --trace\n",
                (unsigned long long)seed, (unsigned long long)options->operations,
                options->crashes);
        s_world_destroy (kept);
        return -1;
    }
    s_world = self;
    ef_buggify_hook = seed % 3 ? s_buggify : NULL;
    bool is_started = broker_start (self);
    ef_assert (is_started);
    for (self->operations = 0; self->operations < options->operations; self->operations++) {
        s_operate (self, self->crashes < options->crashes);
        oracle_letters (self);
        if (self->operations % 16 == 0) {
            ef_core_check (self->core);
        }
        if (self->operations % 64 == 0) {
            oracle_leases (self);
            oracle_loads (self);
        }
    }
    while (self->crashes < options->crashes) {
        s_crash (self);
    }
    s_finish (self);
    ef_core_check (self->core);
    judge (self);
    self->is_quiet = true;
    s_crash (self); /* what is on the disk must say the same */
    ef_core_check (self->core);
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        if (ef_core_count (self->core, i, EF_STATE_READY) != 0) {
            sim_fail (self, "%s: something that ended is ready after a restart", sim_topics[i]);
        }
    }
    *events += self->event_count;
    *crashes += self->crashes;
    s_world_destroy (self);
    return 0;
}

static void
s_usage (void) {
    fprintf (stderr, "usage: sim [--seeds N] [--start SEED] [--operations N] [--crashes N] "
                     "[--plain] [--with FEATURE] [--trace]\nfeatures:");
    for (unsigned i = 0; i < SIM_FEATURE_COUNT; i++) {
        fprintf (stderr, " %s", sim_feature_name ((sim_feature_t)i));
    }
    fprintf (stderr, "\n");
}

int
main (int argc, char **argv) {
    options_t options = {.start = 1, .seeds = 500, .operations = 1000, .crashes = 2};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";
        if (strcmp (argv[i], "--trace") == 0) {
            options.has_trace = true;
            continue;
        }
        if (strcmp (argv[i], "--plain") == 0) {
            options.is_plain = true;
            continue;
        }
        if (strcmp (argv[i], "--seeds") == 0) {
            options.seeds = strtoull (value, NULL, 10);
        } else if (strcmp (argv[i], "--start") == 0) {
            options.start = strtoull (value, NULL, 10);
        } else if (strcmp (argv[i], "--operations") == 0) {
            options.operations = strtoull (value, NULL, 10);
        } else if (strcmp (argv[i], "--crashes") == 0) {
            options.crashes = (uint32_t)strtoul (value, NULL, 10);
        } else if (strcmp (argv[i], "--with") == 0 && sim_feature_bit (value)) {
            options.features |= sim_feature_bit (value);
        } else {
            s_usage ();
            return 2;
        }
        i++;
    }
    struct timespec begin;
    struct timespec end;
    uint64_t failed = 0;
    uint64_t events = 0;
    uint64_t crashes = 0;
    (void)setvbuf (stdout, NULL, _IOLBF, 0); /* what was found is there if a campaign is stopped */
    (void)signal (SIGABRT, s_on_abort);      /* without it the seed isn't printed, that is all */
    clock_gettime (CLOCK_MONOTONIC, &begin);
    for (uint64_t seed = options.start; seed < options.start + options.seeds && failed < 5;
         seed++) {
        s_seed = seed;
        failed += s_run (&options, seed, &events, &crashes) != 0;
    }
    clock_gettime (CLOCK_MONOTONIC, &end);
    double seconds =
        (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
    printf (
        "%llu schedules of %llu operations from seed %llu: %llu events, %llu crashes, %llu failed, "
        "%.1f schedules/s\n",
        (unsigned long long)options.seeds, (unsigned long long)options.operations,
        (unsigned long long)options.start, (unsigned long long)events, (unsigned long long)crashes,
        (unsigned long long)failed, (double)options.seeds / seconds);
    return failed ? 1 : 0;
}
