/* eventflow bench --compare: what dedupe and ordering keys cost. SPDX-License-Identifier: MIT

   Every run measures all kinds of traffic, one behind the other, each on a fresh broker; a kind's
   ratio is the median of its share of the first in the same run, since what else the machine does
   changes from minute to minute. On failure: says why; the figures so far are not printed. */
#include "bench.h"

#include <stdlib.h>

#define KINDS 4

/* Below the least share a change has made them dearer than they are worth. */
static const struct {
    const char *name;
    const char *dedupe;
    uint32_t keys;
    double least; /* of the first kind's rate; 0: not judged: with few keys the disk decides, since
                     an event goes out only once the end of the one before it is durable */
} s_kinds[KINDS] = {
    {"dedupe_off", "0", 0, 0},
    {"default", NULL, 0, 0.7},
    {"keys_1000", NULL, 1000, 0},
    {"keys_1000000", NULL, 1000000, 0.4},
};

static double
s_median (const double *values, uint32_t count) {
    double sorted[64];
    memcpy (sorted, values, count * sizeof *values);
    qsort (sorted, count, sizeof *sorted, bench_by_value);
    return sorted[count / 2];
}

static void
s_print (const bench_t *self, const double *rates, const double *ratios) {
    ef_buf_t out = {0};
    if (!self->cli->json) {
        for (unsigned i = 0; i < KINDS; i++) {
            printf ("%-14s %10.0f events/s %6.2f\n", s_kinds[i].name, rates[i], ratios[i]);
        }
        return;
    }
    ef_put_map (&out, 6);
    ef_put_key_uint (&out, "events", self->events);
    ef_put_key_uint (&out, "size_bytes", self->size);
    ef_put_key_uint (&out, "runs", self->runs);
    ef_put_str (&out, "events_per_second");
    ef_put_map (&out, KINDS);
    for (unsigned i = 0; i < KINDS; i++) {
        ef_put_key_uint (&out, s_kinds[i].name, (uint64_t)rates[i]);
    }
    ef_put_str (&out, "ratios");
    ef_put_map (&out, KINDS - 1);
    for (unsigned i = 1; i < KINDS; i++) {
        ef_put_str (&out, s_kinds[i].name);
        ef_put_double (&out, ratios[i]);
    }
    ef_put_str (&out, "targets");
    ef_put_map (&out, KINDS - 1);
    for (unsigned i = 1; i < KINDS; i++) {
        ef_put_key_bool (&out, s_kinds[i].name, ratios[i] >= s_kinds[i].least);
    }
    cli_print_json (&out);
    ef_buf_free (&out);
}

int
bench_compare (bench_t *self) {
    double rates[KINDS][64];
    double shares[KINDS][64];
    double medians[KINDS];
    double ratios[KINDS];
    bool is_missed = false;
    for (uint32_t run = 0; run < self->runs; run++) {
        for (unsigned i = 0; i < KINDS; i++) {
            self->dedupe = s_kinds[i].dedupe;
            self->keys = s_kinds[i].keys;
            if (bench_run (self, &rates[i][run])) {
                return CLI_FAILED;
            }
            shares[i][run] = rates[i][run] / rates[0][run];
            fprintf (stderr, "run %u, %s: %.0f events/s, ratio %.3f\n", run + 1, s_kinds[i].name,
                     rates[i][run], shares[i][run]);
        }
    }
    for (unsigned i = 0; i < KINDS; i++) {
        medians[i] = s_median (rates[i], self->runs);
        ratios[i] = s_median (shares[i], self->runs);
        is_missed |= ratios[i] < s_kinds[i].least;
    }
    s_print (self, medians, ratios);
    return self->checks && is_missed ? CLI_FAILED : CLI_OK;
}
