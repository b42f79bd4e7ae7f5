/* Times in buckets. SPDX-License-Identifier: MIT */
#include "dice.h"

#include "../../broker/base/histogram.h"

#include <stdlib.h>

static int
s_compare (const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Against the sorted times themselves: never too small, at most a quarter too large. */
static void
test_histogram_quantiles_are_near (void **state) {
    static uint64_t times[5000];
    const double shares[] = {0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1};
    (void)state;
    for (unsigned round = 0; round < 40; round++) {
        ef_histogram_t histogram = {0};
        unsigned count = 1 + dice_below (5000);
        uint64_t most = 1ull << dice_below (31);
        for (unsigned i = 0; i < count; i++) {
            times[i] = dice () % (most + 1);
            ef_histogram_add (&histogram, times[i]);
        }
        qsort (times, count, sizeof times[0], s_compare);
        for (unsigned i = 0; i < sizeof shares / sizeof shares[0]; i++) {
            unsigned place = (unsigned)(shares[i] * count + 0.999999);
            uint64_t truth = times[place ? place - 1 : 0];
            uint64_t said = ef_histogram_quantile (&histogram, shares[i]);
            assert_true (said >= truth && said <= truth + truth / 4);
        }
        uint64_t below[EF_HISTOGRAM_STEPS];
        ef_histogram_below (&histogram, below);
        for (unsigned step = 0; step < EF_HISTOGRAM_STEPS; step++) {
            uint64_t smaller = 0;
            while (smaller < count && times[smaller] < UINT64_C (2) << step) {
                smaller++;
            }
            assert_true (below[step] == smaller);
        }
    }
}

static void
test_histogram_takes_any_time (void **state) {
    ef_histogram_t histogram = {0};
    (void)state;
    assert_true (ef_histogram_quantile (&histogram, 0.5) == 0);
    ef_histogram_add (&histogram, UINT64_MAX / 2);
    assert_true (ef_histogram_quantile (&histogram, 0.5) >= UINT32_MAX);
    ef_histogram_add (&histogram, 0);
    assert_true (ef_histogram_quantile (&histogram, 0.5) == 0);
    assert_true (histogram.count == 2);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_histogram_quantiles_are_near),
        cmocka_unit_test (test_histogram_takes_any_time),
    };
    return cmocka_run_group_tests (tests, dice_seed, NULL);
}
