/* Token buckets. SPDX-License-Identifier: MIT */
#include "dice.h"

#include "../../broker/core/bucket.h"

static ef_bucket_t
s_bucket (double rate, uint32_t burst, uint64_t now) {
    ef_bucket_t bucket = {0};
    ef_bucket_set (&bucket, rate, burst, now);
    return bucket;
}

static void
test_bucket_gives_its_burst_then_its_rate (void **state) {
    (void)state;
    ef_bucket_t bucket = s_bucket (10, 3, 5000);
    assert_int_equal (ef_bucket_take (&bucket, 2, 5000), 2);
    assert_int_equal (ef_bucket_take (&bucket, 9, 5000), 1);
    assert_int_equal (ef_bucket_take (&bucket, 9, 5099), 0);
    assert_true (ef_bucket_next_ms (&bucket, 5099) == 5100);
    assert_int_equal (ef_bucket_take (&bucket, 9, 5100), 1);
    assert_int_equal (ef_bucket_take (&bucket, 9, 5250), 1);
    assert_int_equal (ef_bucket_take (&bucket, 9, 5300), 1);           /* the half wasn't lost */
    assert_int_equal (ef_bucket_take (&bucket, 9, UINT64_MAX / 2), 3); /* a huge gap */
}

static void
test_bucket_without_rate_has_no_bound (void **state) {
    (void)state;
    ef_bucket_t bucket = s_bucket (0, 1, 5);
    assert_int_equal (ef_bucket_take (&bucket, UINT32_MAX, 5), UINT32_MAX);
    assert_true (ef_bucket_next_ms (&bucket, 5) == 5);
    ef_bucket_set (&bucket, 1, 2, 5);
    assert_int_equal (ef_bucket_take (&bucket, 9, 5), 2);
}

static void
test_bucket_clock_that_stands_or_goes_back_gives_nothing (void **state) {
    (void)state;
    ef_bucket_t bucket = s_bucket (1000, 5, 100);
    assert_int_equal (ef_bucket_take (&bucket, 5, 100), 5);
    assert_int_equal (ef_bucket_take (&bucket, 5, 100), 0);
    assert_int_equal (ef_bucket_take (&bucket, 5, 3), 0);
    assert_int_equal (ef_bucket_take (&bucket, 5, 102), 2);
    ef_bucket_set (&bucket, 500, 5, 50);
    assert_int_equal (ef_bucket_take (&bucket, 5, 50), 0);
    assert_int_equal (ef_bucket_take (&bucket, 5, 102), 1);
}

static void
test_bucket_reload_keeps_what_is_there (void **state) {
    (void)state;
    ef_bucket_t bucket = s_bucket (10, 10, 0);
    assert_int_equal (ef_bucket_take (&bucket, 5, 0), 5);
    ef_bucket_set (&bucket, 1, 20, 100);
    assert_int_equal (ef_bucket_take (&bucket, 99, 100), 6);
    ef_bucket_set (&bucket, 1, 20, 50000);
    ef_bucket_set (&bucket, 1, 0, 50000);
    assert_int_equal (ef_bucket_take (&bucket, 99, 50000), 1);
    assert_true (ef_bucket_next_ms (&bucket, 50000) == 51000);
}

static void
test_bucket_of_a_tiny_rate_says_when (void **state) {
    (void)state;
    ef_bucket_t bucket = s_bucket (1 / 3600.0, 1, 1);
    assert_int_equal (ef_bucket_take (&bucket, 1, 1), 1);
    assert_true (ef_bucket_next_ms (&bucket, 1) == 3600001);
    bucket = s_bucket (1e-300, 1, 1);
    assert_int_equal (ef_bucket_take (&bucket, 1, 1), 1);
    assert_true (ef_bucket_next_ms (&bucket, 1) == UINT64_MAX);
}

/* Who takes whatever there is as soon as it is there gets exactly rate × time, for days. */
static void
test_bucket_does_not_drift (void **state) {
    (void)state;
    static const double rates[] = {1 / 3.0, 0.7, 1, 3, 30 / 60.0, 1000 / 3600.0, 7.3, 750};
    for (unsigned i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        ef_bucket_t bucket = s_bucket (rates[i], 1, 12345);
        uint64_t now = 12345;
        assert_int_equal (ef_bucket_take (&bucket, 1, now), 1);
        for (unsigned k = 1; k <= 300000; k++) {
            uint64_t next = ef_bucket_next_ms (&bucket, now);
            assert_true (next > now);
            now = next;
            assert_int_equal (ef_bucket_take (&bucket, 9, now), 1);
            double exact = 12345 + k / rates[i] * 1000;
            assert_true ((double)now > exact - 0.01 && (double)now < exact + 1.01);
        }
    }
}

/* In no stretch of time is more given than burst + rate × stretch. */
static void
test_bucket_holds_at_random (void **state) {
    (void)state;
    enum { TAKES = 400 };
    for (unsigned round = 0; round < 200; round++) {
        double rate = (1 + dice_below (100000)) / 1000.0;
        uint32_t burst = 1 + dice_below (20);
        uint64_t now = dice_below (1000000);
        ef_bucket_t bucket = s_bucket (rate, burst, now);
        uint64_t times[TAKES];
        uint64_t totals[TAKES + 1] = {0};
        for (unsigned i = 0; i < TAKES; i++) {
            now += dice_below (4) ? dice_below (50) : 0;
            times[i] = now;
            uint32_t got = ef_bucket_take (&bucket, 1 + dice_below (10), now);
            totals[i + 1] = totals[i] + got;
            uint64_t next = ef_bucket_next_ms (&bucket, now);
            ef_bucket_t later = bucket;
            assert_true (ef_bucket_take (&later, 1, next) == 1);
            later = bucket;
            assert_true (next == now || ef_bucket_take (&later, 1, next - 1) == 0);
            for (unsigned from = 0; from <= i; from++) {
                double most = burst + rate * (double)(now - times[from] + 1) / 1000;
                assert_true ((double)(totals[i + 1] - totals[from]) <= most + 1e-6);
            }
        }
    }
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_bucket_gives_its_burst_then_its_rate),
        cmocka_unit_test (test_bucket_without_rate_has_no_bound),
        cmocka_unit_test (test_bucket_clock_that_stands_or_goes_back_gives_nothing),
        cmocka_unit_test (test_bucket_reload_keeps_what_is_there),
        cmocka_unit_test (test_bucket_of_a_tiny_rate_says_when),
        cmocka_unit_test (test_bucket_does_not_drift),
        cmocka_unit_test (test_bucket_holds_at_random),
    };
    return cmocka_run_group_tests (tests, dice_seed, NULL);
}
