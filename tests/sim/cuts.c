/* Breaks journals on a simulated disk and judges what recovery makes of them.
   SPDX-License-Identifier: MIT */
#include "cuts.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define FAILURES_SHOWN 10

typedef struct {
    const char *name;
    void (*round) (const cuts_options_t *options, uint64_t number, cuts_totals_t *totals);
    const char *unit;
} mode_t_;

static jmp_buf s_failed;
static volatile unsigned long long s_number; /* the round under way, for the signal handler */
static cuts_options_t s_options;
static char s_about[120]; /* what the round tries, where it says so */

static void
s_print_command (uint64_t number) {
    printf ("again: cuts %s --seed %llu --operations %u --masks %u%s\n", s_options.mode,
            (unsigned long long)number, s_options.operations, s_options.masks,
            s_options.fills_sectors ? " --fill-sectors" : "");
}

void
cuts_fail (const char *format, ...) {
    va_list arguments;
    va_start (arguments, format);
    printf ("FAILED %s, seed %llu: ", s_options.mode, s_number);
    vprintf (format, arguments);
    printf ("%s%s\n", s_about[0] ? "; " : "", s_about);
    va_end (arguments);
    longjmp (s_failed, 1);
}

void
cuts_about (const char *format, ...) {
    va_list arguments;
    va_start (arguments, format);
    vsnprintf (s_about, sizeof s_about, format, arguments);
    va_end (arguments);
}

/* An assertion of the journal's own ends the run; the seed must be known all the same. */
static void
s_on_abort (int signal_number) {
    (void)signal_number;
    char text[80];
    int size = snprintf (text, sizeof text, "aborted at seed %llu\n", s_number);
    ssize_t written = write (STDOUT_FILENO, text, (size_t)size);
    (void)written;
}

static double
s_now (void) {
    struct timespec now;
    clock_gettime (CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void
s_print_totals (const cuts_totals_t *totals, uint64_t failures, double seconds, const char *unit) {
    uint64_t cuts = totals->cuts + totals->fewer;
    uint64_t work = cuts > 0 ? cuts : totals->rounds;
    printf ("%s: from %llu on %llu seeds, %llu %s", s_options.mode,
            (unsigned long long)s_options.start, (unsigned long long)s_options.count,
            (unsigned long long)work, unit);
    if (totals->fewer > 0) {
        printf (" (%llu with 3 unsynced sectors or more, %llu in recovery, %.1f sectors each)",
                (unsigned long long)totals->cuts, (unsigned long long)totals->inside,
                (double)totals->unsynced / (double)cuts);
    }
    if (totals->refused > 0) {
        printf (", refused %llu, harmless %llu, without the last group %llu",
                (unsigned long long)totals->refused, (unsigned long long)totals->harmless,
                (unsigned long long)totals->shorter);
    }
    printf (", %llu from a checkpoint, %llu failed, %.0f %s/s\n",
            (unsigned long long)totals->checkpoints, (unsigned long long)failures,
            (double)work / seconds, unit);
}

static int
s_run (const mode_t_ *mode) {
    static cuts_totals_t totals; /* survives the longjmp */
    static uint64_t failures;
    static uint64_t at;
    double start = s_now ();
    static double told;
    told = start;
    for (at = s_options.start; at < s_options.start + s_options.count; at++) {
        s_number = at;
        if (setjmp (s_failed)) {
            s_print_command (at);
            if (++failures == FAILURES_SHOWN) {
                s_options.count = at + 1 - s_options.start;
                break;
            }
            continue; /* what the round had is lost; it ends soon */
        }
        mode->round (&s_options, at, &totals);
        if (s_now () - told > 60) {
            told = s_now ();
            printf ("%llu done\n", (unsigned long long)(at + 1 - s_options.start));
            fflush (stdout);
        }
    }
    s_print_totals (&totals, failures, s_now () - start, mode->unit);
    return failures > 0;
}

static int
s_usage (void) {
    fprintf (stderr,
             "usage: cuts power|small|flips|errors [--seed N | --start N --count N]\n"
             "            [--operations 1-4] [--masks N] [--fill-sectors]\n"
             "  power   random power cuts; a seed is a disk with five of them\n"
             "  small   all sequences of operations, all places of a cut, subsets of sectors\n"
             "  flips   damage to a journal at rest\n"
             "  errors  every call fails once and for ever; syncs that lie\n"
             "  --fill-sectors  noise takes bytes that were synced too: such a disk loses data\n");
    return 2;
}

int
main (int argc, char **argv) {
    static const mode_t_ modes[] = {
        {"power", cuts_power, "cuts"},
        {"small", cuts_small, "images"},
        {"flips", cuts_flips, "rounds"},
        {"errors", cuts_errors, "runs"},
    };
    static const mode_t_ *mode;
    s_options = (cuts_options_t){.start = 1, .count = 1000, .operations = 3, .masks = 256};
    for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof modes[0]; i++) {
        mode = strcmp (argv[1], modes[i].name) == 0 ? &modes[i] : mode;
    }
    if (mode == NULL) {
        return s_usage ();
    }
    s_options.mode = mode->name;
    bool has_range = false;
    for (int i = 2; i < argc; i++) {
        uint64_t value = i + 1 < argc ? strtoull (argv[i + 1], NULL, 10) : 0;
        if (strcmp (argv[i], "--fill-sectors") == 0) {
            s_options.fills_sectors = true;
            continue;
        }
        has_range = has_range || strcmp (argv[i], "--operations") != 0;
        if (i + 1 == argc) {
            return s_usage ();
        } else if (strcmp (argv[i], "--seed") == 0) {
            s_options.start = value;
            s_options.count = 1;
        } else if (strcmp (argv[i], "--start") == 0) {
            s_options.start = value;
        } else if (strcmp (argv[i], "--count") == 0) {
            s_options.count = value;
        } else if (strcmp (argv[i], "--operations") == 0 && value >= 1 && value <= 4) {
            s_options.operations = (uint32_t)value;
        } else if (strcmp (argv[i], "--masks") == 0 && value >= 1) {
            s_options.masks = (uint32_t)value;
            has_range = false;
        } else {
            return s_usage ();
        }
        i++;
    }
    if (mode->round == cuts_small && !has_range) {
        s_options.start = 0;
        s_options.count = cuts_small_count (&s_options);
    }
    signal (SIGABRT, s_on_abort);
    return s_run (mode);
}
