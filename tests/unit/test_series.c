/* Points of the monitor's history: roll-up, blocks as bytes, what the file keeps.
   SPDX-License-Identifier: MIT */
#include "dice.h"
#include "unit.h"

#include "../../clients/monitor/history.h"
#include "../../proto/event.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const series_row_t s_rows[] = {
    {"in", SERIES_COUNT}, {"ready", SERIES_LEVEL}, {"oldest_ms", SERIES_MOST}};
static const series_set_t s_set = {s_rows, 3};

#define START 1700000400u
_Static_assert(START % 600 == 0, "points of all tiers begin here");

typedef struct {
    unsigned full[SERIES_TIERS];
    series_block_t last; /* of tier 0, a copy */
} seen_t;

static void
s_full (void *arg, uint32_t tier, const series_block_t *block) {
    seen_t *seen = arg;
    ef_buf_t bytes = {0};
    seen->full[tier]++;
    if (tier == 0) {
        series_block_free (&seen->last);
        series_encode (block, &s_set, &bytes);
        assert_int_equal (
            series_decode (&seen->last, &s_set, block->start_s, bytes.data, bytes.size), 0);
        ef_buf_free (&bytes);
    }
}

static void
test_series_rolls_counts_levels_and_maxima_up (void **state) {
    series_t series;
    seen_t seen = {0};
    (void)state;
    series_init (&series, &s_set);
    for (unsigned i = 0; i < 600; i++) {
        const double values[] = {i % 2, i < 300 ? 10 : 20, i};
        series_add (&series, START + i, 1000, values, s_full, &seen);
    }
    assert_int_equal (seen.full[0], 9); /* of a minute each; the tenth is open */
    const series_block_t *tens = &series.blocks[1];
    assert_int_equal (tens->points, 60);
    assert_true (tens->spans_ms[0] == 10000);
    assert_true (tens->values[0] == 5);            /* counts are added */
    assert_true (tens->values[3 * 29 + 1] == 10);  /* levels averaged */
    assert_true (tens->values[3 * 30 + 2] == 309); /* maxima kept */
    const series_block_t *coarse = &series.blocks[3];
    uint32_t index = (uint32_t)((START - coarse->start_s) / 600);
    assert_true (coarse->values[3 * index] == 300);
    assert_true (fabs (coarse->values[3 * index + 1] - 15) < 1e-9);
    assert_true (coarse->values[3 * index + 2] == 599);
    assert_true (seen.last.values[0] == 0 && seen.last.values[3] == 1);
    series_block_free (&seen.last);
    series_free (&series);
}

/* A level counts by how long it lasted, what isn't known doesn't count at all. */
static void
test_series_weighs_by_time (void **state) {
    double sum = NAN;
    double span = 0;
    (void)state;
    series_merge (SERIES_LEVEL, &sum, &span, 10, 1000);
    series_merge (SERIES_LEVEL, &sum, &span, NAN, 5000);
    series_merge (SERIES_LEVEL, &sum, &span, 40, 2000);
    assert_true (fabs (sum - 30) < 1e-9 && span == 3000);
    sum = NAN;
    span = 0;
    series_merge (SERIES_MOST, &sum, &span, -5, 1000);
    assert_true (sum == -5);
    series_merge (SERIES_COUNT, &sum, &span, 8, 0); /* lasted for no time */
    assert_true (sum == -5);
}

/* Columns of which nothing is known, that have one value, and any. */
static void
s_fill (series_block_t *block) {
    block->points = 1 + dice_below (SERIES_POINTS);
    for (uint32_t i = 0; i < block->points; i++) {
        block->spans_ms[i] = dice_below (4) ? 1 + dice_below (600000) : 0;
    }
    for (uint32_t k = 0; k < 3; k++) {
        uint32_t style = dice_below (4);
        double same = dice_below (1000);
        for (uint32_t i = 0; style > 0 && i < block->points; i++) {
            double value = (double)(dice () >> dice_below (64)); /* of all sizes */
            value = style == 1 ? same : dice_below (5) == 0 ? NAN : fmin (value, 9e15);
            block->values[3 * i + k] = block->spans_ms[i] > 0 ? value : NAN;
        }
        if (style == 1 && dice_below (2) == 0) {
            block->values[3 * dice_below (block->points) + k] = NAN; /* but for one */
        }
    }
}

static void
test_series_blocks_are_read_as_written (void **state) {
    (void)state;
    for (unsigned round = 0; round < 500; round++) {
        series_block_t block;
        series_block_t again;
        ef_buf_t bytes = {0};
        series_block_init (&block, START, 3);
        s_fill (&block);
        series_encode (&block, &s_set, &bytes);
        assert_int_equal (series_decode (&again, &s_set, START, bytes.data, bytes.size), 0);
        assert_int_equal (again.points, block.points);
        for (uint32_t i = 0; i < 3 * block.points; i++) {
            double value = block.values[i];
            if (i % 3 == 1 && value > 9e14) {
                continue; /* levels are kept in tenths, up to 9e15 of them */
            }
            assert_true (isnan (value) ? isnan (again.values[i])
                                       : fabs (value - again.values[i]) <= fabs (value) * 1e-15);
        }
        series_block_free (&again);
        series_block_free (&block);
        ef_buf_free (&bytes);
    }
}

/* A file may hold anything: every prefix, every single byte changed, and noise. */
static void
test_series_damaged_blocks_are_empty_or_read (void **state) {
    series_block_t block;
    series_block_t again;
    ef_buf_t bytes = {0};
    (void)state;
    series_block_init (&block, START, 3);
    s_fill (&block);
    series_encode (&block, &s_set, &bytes);
    for (size_t size = 0; size < bytes.size; size++) {
        guarded_t part = guard (bytes.data, size);
        assert_int_equal (series_decode (&again, &s_set, START, part.bytes, size), -1);
        assert_int_equal (again.points, 0);
        series_block_free (&again);
        unguard (&part);
    }
    for (size_t i = 0; i < bytes.size; i++) {
        guarded_t part = guard (bytes.data, bytes.size);
        part.bytes[i] ^= (uint8_t)(1u << dice_below (8));
        (void)!series_decode (&again, &s_set, START, part.bytes, bytes.size);
        assert_true (again.points <= SERIES_POINTS);
        series_block_free (&again);
        unguard (&part);
    }
    series_block_free (&block);
    ef_buf_free (&bytes);
}

/* New series come behind the old ones: a block that knows fewer is read, one that knows more too.
 */
static void
test_series_sets_may_grow (void **state) {
    static const series_set_t fewer = {s_rows, 2};
    series_block_t block;
    series_block_t again;
    ef_buf_t bytes = {0};
    (void)state;
    series_block_init (&block, START, 2);
    block.points = 1;
    block.spans_ms[0] = 1000;
    block.values[0] = 7;
    block.values[1] = 2.5;
    series_encode (&block, &fewer, &bytes);
    assert_int_equal (series_decode (&again, &s_set, START, bytes.data, bytes.size), 0);
    assert_true (again.values[0] == 7 && again.values[1] == 2.5 && isnan (again.values[2]));
    series_block_free (&block);
    ef_buf_clear (&bytes);
    again.values[2] = 9;
    series_encode (&again, &s_set, &bytes);
    assert_int_equal (series_decode (&block, &fewer, START, bytes.data, bytes.size), 0);
    assert_true (block.values[0] == 7 && block.values[1] == 2.5);
    series_block_free (&block);
    series_block_free (&again);
    ef_buf_free (&bytes);
}

static void
test_history_chooses_tier_and_step (void **state) {
    const struct {
        uint64_t ago_s;
        uint32_t step_s;
        uint32_t tier;
        uint32_t answer_s;
    } rows[] = {{120, 1, 0, 1},
                {900, 0, 0, 3},
                {900, 10, 1, 10},
                {3600, 1, 1, 10},
                {6 * 3600, 0, 2, 120},
                {86400, 60, 2, 60},
                {7 * 86400, 0, 3, 2400},
                {90 * 86400, 0, 3, 26400},
                {300 * 86400, 600, 3, 13200}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint32_t step_s;
        const history_query_t query = {.now_s = 2000000000,
                                       .to_s = 2000000000,
                                       .from_s = 2000000000 - rows[i].ago_s,
                                       .step_s = rows[i].step_s};
        assert_int_equal (history_choose (&query, &step_s), rows[i].tier);
        assert_int_equal (step_s, rows[i].answer_s);
    }
}

static char s_path[200];

static int
s_make_path (void **state) {
    (void)state;
    snprintf (s_path, sizeof s_path, "/tmp/ef-history-%d.db", (int)getpid ());
    return 0;
}

static int
s_remove_path (void **state) {
    static const char *const ends[] = {"", "-wal", "-shm", ".damaged"};
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        char path[220];
        snprintf (path, sizeof path, "%s%s", s_path, ends[i]);
        (void)remove (path);
    }
    return 0;
}

static double
s_ask (history_t *history, uint64_t now_s, uint64_t at_s, uint32_t column) {
    history_query_t query = {.topic = "email",
                             .set = &s_set,
                             .columns = {column},
                             .column_count = 1,
                             .from_s = at_s,
                             .to_s = at_s + 1,
                             .step_s = 1,
                             .now_s = now_s};
    history_answer_t answer;
    assert_int_equal (history_query (history, &query, &answer), 0);
    assert_int_equal (answer.points, 1);
    double value = answer.values[0];
    history_answer_free (&answer);
    return value;
}

/* What was added is there at once, and after an end and a new beginning; a point that was under way
   goes on. */
static void
test_history_survives_a_restart (void **state) {
    char error[512];
    uint64_t now_s = ef_wall_ms () / 1000;
    (void)state;
    for (unsigned life = 0; life < 2; life++) {
        history_t *history = history_new (s_path, 10 << 20, 10, error);
        assert_non_null (history);
        history_line_t *line = history_line (history, "email", &s_set);
        assert_non_null (line);
        if (life == 1) {
            assert_true (s_ask (history, now_s, now_s - 1, 0) == 3);
        }
        for (unsigned i = 0; life == 0 && i < 200; i++) {
            const double values[] = {3, i, i};
            history_add (history, line, now_s - 200 + i, 1000, values);
        }
        assert_true (s_ask (history, now_s, now_s - 200, 0) == 3);
        assert_true (s_ask (history, now_s, now_s - 150, 1) == 50);
        assert_true (isnan (s_ask (history, now_s, now_s - 201, 0)));
        if (life == 1) {
            const double values[] = {3, 100, 1000};
            history_add (history, line, now_s, 1000, values);
            assert_true (s_ask (history, now_s, now_s - 1, 0) == 3);
            assert_true (s_ask (history, now_s, now_s, 2) == 1000);
        }
        history_destroy (&history);
    }
}

static void
s_count_alert (void *arg, const store_alert_t *alert) {
    unsigned *count = arg;
    assert_string_equal (alert->rule, "stall");
    assert_true (alert->value == 1.5 && alert->since_ms == 7);
    ++*count;
}

static void
test_history_keeps_alerts_and_sets_a_damaged_file_aside (void **state) {
    char error[512];
    unsigned open = 0;
    unsigned ended = 0;
    store_alert_t alert = {.rule = "stall", .topic = "a", .state = 1, .since_ms = 7, .value = 1.5};
    (void)state;
    history_t *history = history_new (s_path, 10 << 20, 10, error);
    assert_non_null (history);
    history_alert (history, HISTORY_PUT, &alert, 8);
    snprintf (alert.topic, sizeof alert.topic, "b");
    history_alert (history, HISTORY_PUT, &alert, 9);
    history_alert (history, HISTORY_END, &alert, 10);
    history_destroy (&history);
    history = history_new (s_path, 10 << 20, 10, error);
    history_alerts (history, s_count_alert, &open);
    history_ended (history, 10, s_count_alert, &ended);
    assert_int_equal (open, 1);
    assert_int_equal (ended, 1);
    history_destroy (&history);
    FILE *file = fopen (s_path, "w");
    assert_non_null (file);
    for (unsigned i = 0; i < 1000; i++) {
        fputs ("this is no database ", file);
    }
    fclose (file);
    history = history_new (s_path, 10 << 20, 10, error);
    assert_non_null (history);
    open = 0;
    history_alerts (history, s_count_alert, &open);
    assert_int_equal (open, 0);
    history_destroy (&history);
}

/* However much is written: what is too old goes, and what is too much. */
static void
test_store_stays_within_its_bound (void **state) {
    char error[512];
    ef_buf_t noise = {0};
    (void)state;
    store_t *store = store_open (s_path, true, error);
    assert_non_null (store);
    for (unsigned i = 0; i < 2000; i++) {
        *ef_buf_add (&noise, 1) = (uint8_t)dice ();
    }
    assert_int_equal (store_begin (store), 0);
    int64_t topic = store_topic (store, "email", true);
    assert_true (topic > 0);
    for (unsigned i = 0; i < 2000; i++) {
        assert_int_equal (store_put_block (store, 1, topic, START + 600ull * i, &noise), 0);
    }
    assert_int_equal (store_put_block (store, 0, topic, START, &noise), 0);
    assert_int_equal (store_commit (store), 0);
    assert_true (store_bytes (store) > 4000000);
    /* now = the end of the last block: all but the last six hours are too old */
    assert_int_equal (store_trim (store, START + 600ull * 2000, 100u << 20), 0);
    ef_buf_t found = {0};
    assert_int_equal (store_get_block (store, 1, topic, START, &found), 0);
    assert_int_equal (store_get_block (store, 0, topic, START, &found), 0);
    assert_int_equal (store_get_block (store, 1, topic, START + 600ull * 1999, &found), 1);
    assert_int_equal (found.size, noise.size);
    assert_true (store_bytes (store) < 300000);
    assert_int_equal (store_trim (store, START + 600ull * 2000, 50000), 0);
    assert_true (store_bytes (store) <= 50000);
    assert_int_equal (store_get_block (store, 1, topic, START + 600ull * 1999, &found), 1);
    store_close (&store);
    FILE *file = fopen (s_path, "r");
    assert_non_null (file);
    fseek (file, 0, SEEK_END);
    assert_true (ftell (file) < 4000000); /* given back to the file system */
    fclose (file);
    ef_buf_free (&noise);
    ef_buf_free (&found);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_series_rolls_counts_levels_and_maxima_up),
        cmocka_unit_test (test_series_weighs_by_time),
        cmocka_unit_test (test_series_blocks_are_read_as_written),
        cmocka_unit_test (test_series_damaged_blocks_are_empty_or_read),
        cmocka_unit_test (test_series_sets_may_grow),
        cmocka_unit_test (test_history_chooses_tier_and_step),
        cmocka_unit_test_setup_teardown (test_history_survives_a_restart, s_make_path,
                                         s_remove_path),
        cmocka_unit_test_setup_teardown (test_history_keeps_alerts_and_sets_a_damaged_file_aside,
                                         s_make_path, s_remove_path),
        cmocka_unit_test_setup_teardown (test_store_stays_within_its_bound, s_make_path,
                                         s_remove_path),
    };
    return cmocka_run_group_tests (tests, dice_seed, NULL);
}
