/* What makes a pool grow, what never does, and what an operator sets. SPDX-License-Identifier: MIT
 */
#include <math.h>
#include <stdlib.h>

#include "pool_world.h"

#define MACHINE_ROOM 1000

static world_t
s_world (void) {
    static const ef_pool_config_t config = {
        .min = 1, .max = 16, .credit = 1, .idle_ms = 10000, .cooldown_ms = 1000};
    return world_new (&config, 200);
}

static void
s_go (world_t *world, double rate, unsigned seconds) {
    for (unsigned i = 0; i < seconds * 1000 / WORLD_STEP_MS; i++) {
        world_step (world, rate, false);
    }
}

static void
test_pool_keeps_its_min_and_max (void **state) {
    (void)state;
    world_t world = s_world ();
    world.pool.config.min = 3;
    world.pool.config.max = 5;
    s_go (&world, 0, 60);
    assert_int_equal (world.pool.target, 3);
    s_go (&world, 1000, 60);
    assert_int_equal (world.pool.target, 5);
    assert_int_equal (world.pool.limit, EF_LIMIT_MAX);
    world.pool.config.max = 4;
    s_go (&world, 1000, 2);
    assert_int_equal (world.pool.target, 4);
}

static void
test_pool_never_more_than_doubles (void **state) {
    (void)state;
    world_t world = s_world ();
    uint32_t before = 0;
    while (world.now < 1030000) {
        world_step (&world, 1000, false);
        assert_true (world.pool.target <= (before ? 2 * before : 1));
        before = world.pool.target;
    }
    assert_int_equal (world.pool.target, 16);
}

static void
test_hold_grows_nothing (void **state) {
    (void)state;
    for (int hold = EF_HOLD_NONE + 1; hold < EF_HOLD_COUNT; hold++) {
        world_t world = s_world ();
        s_go (&world, 2, 5);
        world.load.hold = (ef_hold_t)hold;
        s_go (&world, 100, 60);
        assert_int_equal (world.pool.target, 1);
        assert_int_equal (world.pool.limit, EF_LIMIT_HOLD);
        world.load.hold = EF_HOLD_NONE;
        s_go (&world, 100, 5);
        assert_true (world.pool.target > 1);
    }
}

static void
test_permanent_errors_grow_nothing (void **state) {
    (void)state;
    world_t world = s_world ();
    for (unsigned i = 0; i < 6000; i++) {
        uint64_t done = world.load.done;
        world_step (&world, 100, false);
        world.load.permanent += world.load.done - done; /* each ends by dying */
        world.load.failed += world.load.done - done;
        world.load.done = done;
    }
    assert_int_equal (world.pool.target, 1);
    assert_int_equal (world.pool.limit, EF_LIMIT_ERRORS);
}

static void
test_failures_beside_an_open_breaker_grow_nothing (void **state) {
    (void)state;
    world_t world = s_world ();
    world.load.breakers = 1;
    for (unsigned i = 0; i < 6000; i++) {
        uint64_t done = world.load.done;
        world_step (&world, 100, false);
        world.load.failed += world.load.done - done;
        world.load.done = done;
    }
    assert_int_equal (world.pool.target, 1);
    s_go (&world, 100, 60); /* others of its services do their work */
    assert_true (world.pool.target > 1);
}

static void
test_overflow_grows_and_so_does_waiting_for_insertion (void **state) {
    (void)state;
    world_t world = s_world ();
    s_go (&world, 0, 2);
    world.load.overflowed = 7;
    s_go (&world, 0, 2);
    assert_int_equal (world.pool.target, 1); /* its worker has nothing to do */
    world.work_ms = 1e9;
    world.ready = 1;
    s_go (&world, 0, 2);
    world.load.overflowed = 9;
    s_go (&world, 0, 1);
    assert_int_equal (world.pool.target, 2);
    world.ready = 1; /* the second one has something, too */
    world.load.inserting = 5;
    s_go (&world, 0, 4);
    assert_int_equal (world.pool.target, 3);
    world.load.inserting = 0;
    s_go (&world, 0, 9);
    assert_int_equal (world.pool.target, 3); /* nothing is idle for long enough yet */
}

static void
test_retry_load_grows (void **state) {
    (void)state;
    world_t world = s_world ();
    world.load.retrying = 50;
    s_go (&world, 0, 3);
    assert_int_equal (world.pool.target, 1); /* their time hasn't come, nobody is busy */
    world.pool.stall_ms = 100000;            /* it isn't the stall */
    world.work_ms = 1e9;
    world.ready = 2;
    s_go (&world, 0, 1);
    assert_int_equal (world.pool.target, 2);
}

static void
test_nearly_full_topic_grows_before_it_stalls (void **state) {
    (void)state;
    world_t world = s_world ();
    world.pool.stall_ms = 100000;
    world.load.fill = 0.4;
    world.work_ms = 1e9;
    world.ready = 2;
    s_go (&world, 0, 2);
    assert_int_equal (world.pool.target, 1);
    world.load.fill = 0.6;
    s_go (&world, 0, 1);
    assert_int_equal (world.pool.target, 2);
}

static void
test_oldest_event_grows_a_pool_with_a_long_stall (void **state) {
    (void)state;
    world_t world = s_world ();
    world.pool.stall_ms = 2000;
    world.pool.pressure_ms = 0;
    ef_load_t load = {.ready = 1, .leased = 1, .stalled_ms = 10, .credit = 1, .workers = 1};
    ef_pool_view_t view = {.own = 1, .here = 1, .places = MACHINE_ROOM};
    ef_pool_decision_t decision;
    assert_true (ef_pool_decide (&world.pool, &load, &view, 1000, &decision)); /* min */
    load.oldest_ms = 9000;
    assert_false (ef_pool_decide (&world.pool, &load, &view, 1500, &decision));
    load.oldest_ms = 10000;
    assert_true (ef_pool_decide (&world.pool, &load, &view, 2000, &decision));
    assert_int_equal (decision.reason, EF_POOL_OLDEST);
    assert_int_equal (decision.to, 2);
}

static void
test_stall_that_comes_and_goes_counts_in_sum (void **state) {
    (void)state;
    static const struct {
        uint64_t stalled; /* of each 500 ms */
        uint32_t target;
    } rows[] = {{200, 1}, {250, 1}, {400, 2}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        world_t world = s_world ();
        ef_load_t load = {.leased = 1, .workers = 1, .credit = 1};
        ef_pool_view_t view = {.own = 1, .here = 1, .places = MACHINE_ROOM};
        ef_pool_decision_t decision;
        for (uint64_t now = 1000; now < 8000 && world.pool.target < 2; now += 500) {
            load.stalled_sum += rows[i].stalled;
            (void)ef_pool_decide (&world.pool, &load, &view, now, &decision);
        }
        assert_int_equal (world.pool.target, rows[i].target);
    }
}

static void
test_short_of_memory_it_stays_and_gives_back_sooner (void **state) {
    (void)state;
    world_t world = s_world ();
    s_go (&world, 18, 60);
    uint32_t before = world.pool.target;
    assert_true (before >= 4);
    world.view.machine = EF_LIMIT_MEMORY;
    s_go (&world, 60, 30);
    assert_int_equal (world.pool.target, before);
    assert_int_equal (world.pool.limit, EF_LIMIT_MEMORY);
    world.ready = 0;
    s_go (&world, 0, 9); /* less than the idle time */
    assert_int_equal (world.pool.target, 1);
    world.pool.config.min = 2; /* min is promised */
    s_go (&world, 0, 1);
    assert_int_equal (world.pool.target, 2);
}

static void
test_busy_machine_lets_three_workers_be (void **state) {
    (void)state;
    world_t world = s_world ();
    world.view.machine = EF_LIMIT_LOAD;
    s_go (&world, 100, 30);
    assert_in_range (world.pool.target, 3, 4);
    assert_int_equal (world.pool.limit, EF_LIMIT_LOAD);
}

static void
test_hand_sets_bounds_and_size (void **state) {
    (void)state;
    world_t world = s_world ();
    world.pool.scale_hand = 6;
    s_go (&world, 0, 60);
    assert_int_equal (world.pool.target, 6);
    s_go (&world, 1000, 10);
    assert_int_equal (world.pool.target, 6);
    world.ready = 0;
    world.pool.scale_hand = EF_POOL_UNSET;
    world.pool.min_hand = 4;
    s_go (&world, 0, 60);
    assert_int_equal (world.pool.target, 4);
    world.pool.max_hand = 2; /* below min: it wins */
    s_go (&world, 0, 1);
    assert_int_equal (world.pool.target, 2);
    world.pool.min_hand = world.pool.max_hand = EF_POOL_UNSET;
    s_go (&world, 0, 60);
    assert_int_equal (world.pool.target, 1);
}

static void
test_workers_from_elsewhere_count (void **state) {
    (void)state;
    world_t world = s_world ();
    ef_load_t load = {.leased = 4, .workers = 5, .pool_workers = 1, .credit = 5};
    ef_pool_view_t view = {.own = 1, .here = 1, .others = 4, .places = MACHINE_ROOM};
    ef_pool_decision_t decision;
    for (uint64_t now = 1000; now < 60000; now += 500) {
        load.deliveries += 10; /* each does 5/s: four of them suffice */
        load.done += 10;
        (void)ef_pool_decide (&world.pool, &load, &view, now, &decision);
    }
    assert_int_equal (world.pool.target, 1);
    load.ready = 1000;
    for (uint64_t now = 60000; now < 66000 && world.pool.target < 2; now += 500) {
        load.deliveries += 12;
        load.done += 12;
        load.leased = 5;
        load.stalled_ms += 500;
        load.stalled_sum += 500;
        (void)ef_pool_decide (&world.pool, &load, &view, now, &decision);
    }
    assert_int_equal (world.pool.target, 2);
}

/* Nobody of its own: it says how many somebody else should start. */
static void
test_desired_size_follows_workers_of_others (void **state) {
    (void)state;
    world_t world = s_world ();
    world.pool.config.min = 0;
    ef_load_t load = {.ready = 10};
    ef_pool_view_t view = {.places = UINT32_MAX};
    ef_pool_decision_t decision;
    uint64_t now = 1000;
    for (; now < 10000; now += 500) {
        load.stalled_ms += 500;
        load.stalled_sum += 500;
        (void)ef_pool_decide (&world.pool, &load, &view, now, &decision);
    }
    assert_int_equal (world.pool.target, 1); /* from nothing; more once that one is here */
    load = (ef_load_t){.leased = 3, .workers = 3, .credit = 3, .stalled_sum = load.stalled_sum};
    view = (ef_pool_view_t){.own = 3, .here = 3, .places = UINT32_MAX};
    for (; now < 20000; now += 500) {
        load.deliveries += 5;
        load.done += 5;
        (void)ef_pool_decide (&world.pool, &load, &view, now, &decision);
    }
    assert_int_equal (world.pool.target, 3); /* three run and are busy: they are wanted */
    load.leased = 0;
    for (; now < 60000; now += 500) {
        (void)ef_pool_decide (&world.pool, &load, &view, now, &decision);
    }
    assert_int_equal (world.pool.target, 0);
}

static void
test_place_comes_from_who_needs_it_least (void **state) {
    (void)state;
    ef_pool_t pools[4];
    ef_pool_t *list[4];
    static const ef_pool_config_t config = {.min = 1, .max = 10, .credit = 1, .idle_ms = 10000};
    for (unsigned i = 0; i < 4; i++) {
        ef_pool_init (&pools[i], &config, 1000);
        list[i] = &pools[i];
        pools[i].target = 4;
    }
    pools[1].needed = 3;
    pools[2].needed = 1;
    pools[3].needed = 4;
    assert_int_equal (ef_pool_victim (list, 4, 0), 2);
    pools[2].scale_hand = 4; /* an operator's word */
    assert_int_equal (ef_pool_victim (list, 4, 0), 1);
    pools[1].target = 1; /* its min */
    assert_int_equal (ef_pool_victim (list, 4, 0), -1);
    pools[0].target = 2; /* the last one needs all of its four, and has two more */
    assert_int_equal (ef_pool_victim (list, 4, 0), 3);
    pools[0].target = 3;
    assert_int_equal (ef_pool_victim (list, 4, 0), -1);
    pools[0].config.min = 4; /* below what it was promised */
    assert_int_equal (ef_pool_victim (list, 4, 0), 3);
    ef_pool_decision_t decision;
    ef_pool_give (&pools[3], 1000, &decision);
    assert_int_equal (pools[3].target, 3);
    assert_int_equal (decision.reason, EF_POOL_SLOT);
}

static void
test_full_machine_is_said_and_wanted_size_known (void **state) {
    (void)state;
    world_t world = s_world ();
    world.view.places = 2;
    s_go (&world, 100, 3);
    world.view.places = 0;
    s_go (&world, 100, 10);
    assert_int_equal (world.pool.limit, EF_LIMIT_WORKERS_MAX);
    assert_true (world.pool.wanted > world.pool.target);
    world.view.places = 1;
    uint32_t before = world.pool.target;
    s_go (&world, 100, 1);
    assert_int_equal (world.pool.target, before + 1);
}

static void
test_pool_pauses_after_crashes_and_gives_up (void **state) {
    (void)state;
    world_t world = s_world ();
    uint64_t now = 1000;
    uint64_t pause = 0;
    for (unsigned i = 1; i < EF_CRASHES_MAX; i++) {
        assert_true (ef_pool_may_start (&world.pool, now));
        assert_false (ef_pool_ended (&world.pool, false, 10, now));
        assert_true (world.pool.not_before_ms - now >= 2 * pause);
        pause = world.pool.not_before_ms - now;
        assert_false (ef_pool_may_start (&world.pool, world.pool.not_before_ms - 1));
        now = world.pool.not_before_ms;
    }
    assert_true (ef_pool_ended (&world.pool, false, 10, now));
    assert_false (ef_pool_may_start (&world.pool, now + EF_CRASH_GIVE_UP_MS - 1));
    now += EF_CRASH_GIVE_UP_MS;
    assert_true (ef_pool_may_start (&world.pool, now));
    assert_false (ef_pool_ended (&world.pool, false, 10, now));
    assert_false (ef_pool_ended (&world.pool, false, EF_SHORT_LIFE_MS, now)); /* lived long */
    assert_int_equal (world.pool.crashes, 1);
    assert_false (ef_pool_ended (&world.pool, true, 1000, now));
    assert_int_equal (world.pool.crashes, 0);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_pool_keeps_its_min_and_max),
        cmocka_unit_test (test_pool_never_more_than_doubles),
        cmocka_unit_test (test_hold_grows_nothing),
        cmocka_unit_test (test_permanent_errors_grow_nothing),
        cmocka_unit_test (test_failures_beside_an_open_breaker_grow_nothing),
        cmocka_unit_test (test_overflow_grows_and_so_does_waiting_for_insertion),
        cmocka_unit_test (test_retry_load_grows),
        cmocka_unit_test (test_nearly_full_topic_grows_before_it_stalls),
        cmocka_unit_test (test_oldest_event_grows_a_pool_with_a_long_stall),
        cmocka_unit_test (test_stall_that_comes_and_goes_counts_in_sum),
        cmocka_unit_test (test_short_of_memory_it_stays_and_gives_back_sooner),
        cmocka_unit_test (test_busy_machine_lets_three_workers_be),
        cmocka_unit_test (test_hand_sets_bounds_and_size),
        cmocka_unit_test (test_workers_from_elsewhere_count),
        cmocka_unit_test (test_desired_size_follows_workers_of_others),
        cmocka_unit_test (test_place_comes_from_who_needs_it_least),
        cmocka_unit_test (test_full_machine_is_said_and_wanted_size_known),
        cmocka_unit_test (test_pool_pauses_after_crashes_and_gives_up),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
