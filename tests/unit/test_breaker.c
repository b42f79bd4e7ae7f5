/* The circuit breaker. SPDX-License-Identifier: MIT */
#include "dice.h"

#include "../../broker/core/breaker.h"

static const ef_breaker_config_t s_config = {.ratio = 0.5,
                                             .calls = 4,
                                             .window_ms = 1000,
                                             .cooldown_ms = 100,
                                             .cooldown_cap_ms = 350,
                                             .probes = 2};
#define WALL 1000000000 /* the wall clock at 0 of the monotonic one */

static ef_moment_t
s_at (uint64_t mono_ms) {
    return (ef_moment_t){mono_ms, WALL + mono_ms};
}

static bool
s_outcome (ef_breaker_t *breaker, bool was_probe, bool has_failed, uint64_t now) {
    return ef_breaker_outcome (breaker, &s_config, was_probe, has_failed, s_at (now));
}

static bool
s_allows (const ef_breaker_t *breaker, uint64_t now) {
    return ef_breaker_allows (breaker, &s_config, now);
}

static uint64_t
s_next (const ef_breaker_t *breaker, uint64_t now) {
    return ef_breaker_next_ms (breaker, &s_config, now);
}

static bool
s_sent (ef_breaker_t *breaker, uint64_t now) {
    return ef_breaker_sent (breaker, &s_config, now);
}

/* A breaker that four failures have opened at `now`. */
static ef_breaker_t
s_opened (uint64_t now) {
    ef_breaker_t breaker = {0};
    for (unsigned i = 0; i < 4; i++) {
        assert_false (s_sent (&breaker, now));
        assert_int_equal (s_outcome (&breaker, false, true, now), i == 3);
    }
    assert_int_equal (breaker.state, EF_BREAKER_OPEN);
    return breaker;
}

static void
test_breaker_opens_at_the_share_of_enough_calls (void **state) {
    (void)state;
    ef_breaker_t breaker = {0};
    uint32_t calls;
    uint32_t failures;
    assert_true (s_allows (&breaker, 5));
    assert_true (s_next (&breaker, 5) == 5);
    assert_false (s_outcome (&breaker, false, true, 5));
    assert_false (s_outcome (&breaker, false, true, 6)); /* all failed, but they are few */
    assert_false (s_outcome (&breaker, false, false, 7));
    ef_breaker_t other = breaker;
    assert_true (s_outcome (&breaker, false, false, 8)); /* 2 of 4 */
    assert_true (breaker.opened == 1);
    ef_breaker_counts (&breaker, &s_config, 8, &calls, &failures);
    assert_int_equal (calls, 4);
    assert_int_equal (failures, 2);
    assert_true (s_outcome (&other, false, true, 8)); /* 3 of 4 */
    ef_breaker_t good = {0};
    for (unsigned i = 0; i < 100; i++) {
        assert_false (s_outcome (&good, false, i % 4 == 3, i)); /* 1 of 4 */
    }
}

static void
test_breaker_share_is_judged_exactly (void **state) {
    (void)state;
    for (uint32_t percent = 1; percent <= 100; percent++) {
        ef_breaker_config_t config = s_config;
        ef_breaker_t breaker = {0};
        config.ratio = percent / 100.0;
        config.calls = 100;
        for (uint32_t i = 0; i < 99; i++) { /* failures last, so that the last outcome is one */
            assert_false (
                ef_breaker_outcome (&breaker, &config, false, i >= 100 - percent, s_at (9)));
        }
        ef_breaker_t fewer = breaker;
        assert_true (ef_breaker_outcome (&breaker, &config, false, true, s_at (9)));
        assert_false (ef_breaker_outcome (&fewer, &config, false, false, s_at (9)));
    }
}

static void
test_breaker_forgets_what_left_the_window (void **state) {
    (void)state;
    ef_breaker_t breaker = {0};
    uint32_t calls;
    uint32_t failures;
    for (unsigned i = 0; i < 3; i++) {
        assert_false (s_outcome (&breaker, false, true, 50));
    }
    ef_breaker_t late = breaker;
    assert_true (s_outcome (&breaker, false, true, 999)); /* the last moment of ten slots */
    ef_breaker_counts (&late, &s_config, 1000, &calls, &failures);
    assert_int_equal (calls + failures, 0);
    assert_false (s_outcome (&late, false, true, 1000));
    for (unsigned i = 0; i < 2; i++) {
        assert_false (s_outcome (&late, false, true, 90000)); /* a long pause */
    }
    ef_breaker_counts (&late, &s_config, 90000, &calls, &failures);
    assert_int_equal (failures, 2);
}

static void
test_breaker_open_waits_then_probes (void **state) {
    (void)state;
    ef_breaker_t breaker = s_opened (1000);
    assert_false (s_allows (&breaker, 1099));
    assert_true (s_next (&breaker, 1000) == 1100);
    assert_true (s_allows (&breaker, 1100));
    assert_true (s_sent (&breaker, 1100));
    assert_int_equal (breaker.state, EF_BREAKER_HALF_OPEN);
    assert_true (s_sent (&breaker, 1101));
    assert_false (s_allows (&breaker, 9999)); /* two are out */
    assert_true (s_next (&breaker, 9999) == UINT64_MAX);
    assert_false (s_outcome (&breaker, true, false, 1102));
    assert_false (s_allows (&breaker, 1102)); /* no more are wanted than must go well */
    assert_true (s_outcome (&breaker, true, false, 1103));
    assert_int_equal (breaker.state, EF_BREAKER_CLOSED);
    assert_false (s_outcome (&breaker, false, true, 1104)); /* it begins anew */
}

static void
test_breaker_probe_returned_makes_room_for_another (void **state) {
    (void)state;
    ef_breaker_t breaker = s_opened (1000);
    assert_true (s_sent (&breaker, 1100));
    assert_true (s_sent (&breaker, 1100));
    ef_breaker_returned (&breaker, false);
    assert_false (s_allows (&breaker, 1100));
    ef_breaker_returned (&breaker, true);
    assert_true (s_allows (&breaker, 1100));
    assert_true (s_sent (&breaker, 1100));
    assert_false (s_allows (&breaker, 1100));
}

static void
test_breaker_cooldown_doubles_to_its_cap_and_begins_anew (void **state) {
    (void)state;
    static const uint32_t cooldowns[] = {100, 200, 350, 350};
    ef_breaker_t breaker = s_opened (1000);
    uint64_t now = 1000;
    for (unsigned i = 0; i < 4; i++) {
        assert_true (s_next (&breaker, now) == now + cooldowns[i]);
        now += cooldowns[i];
        assert_false (s_allows (&breaker, now - 1));
        assert_true (s_sent (&breaker, now));
        if (i < 3) {
            assert_true (s_outcome (&breaker, true, true, now));
        }
    }
    assert_false (s_outcome (&breaker, true, false, now));
    assert_true (s_sent (&breaker, now));
    assert_true (s_outcome (&breaker, true, false, now));
    assert_true (breaker.opened == 1); /* one outage */
    for (unsigned i = 0; i < 3; i++) {
        assert_false (s_outcome (&breaker, false, true, now));
    }
    assert_true (s_outcome (&breaker, false, true, now));
    assert_true (s_next (&breaker, now) == now + 100);
    assert_true (breaker.opened == 2);
}

static void
test_breaker_late_outcomes_do_not_disturb_it (void **state) {
    (void)state;
    ef_breaker_t breaker = s_opened (1000);
    assert_false (s_outcome (&breaker, false, false, 1001));
    assert_false (s_outcome (&breaker, false, true, 1001));
    assert_true (s_next (&breaker, 1001) == 1100);
    assert_true (s_sent (&breaker, 1100));
    assert_false (s_outcome (&breaker, false, true, 1101));
    assert_false (s_outcome (&breaker, false, false, 1101));
    assert_int_equal (breaker.state, EF_BREAKER_HALF_OPEN);
    assert_true (s_sent (&breaker, 1101));
    assert_true (s_outcome (&breaker, true, true, 1102));  /* the first of two fails */
    assert_false (s_outcome (&breaker, true, true, 1103)); /* the other one says nothing new */
    assert_true (s_next (&breaker, 1103) == 1302);
    assert_int_equal (breaker.out, 0);
}

static void
test_breaker_by_hand_does_as_it_is_told (void **state) {
    (void)state;
    ef_breaker_t breaker = {0};
    assert_false (ef_breaker_set (&breaker, EF_HAND_AUTO, s_at (5)));
    assert_true (ef_breaker_set (&breaker, EF_HAND_OPEN, s_at (5)));
    assert_false (s_allows (&breaker, 999999));
    assert_true (s_next (&breaker, 5) == UINT64_MAX);
    assert_false (s_outcome (&breaker, false, false, 6));
    assert_true (ef_breaker_set (&breaker, EF_HAND_AUTO, s_at (7)));
    assert_true (s_sent (&breaker, 7)); /* it asks first */
    assert_true (ef_breaker_set (&breaker, EF_HAND_CLOSED, s_at (8)));
    for (unsigned i = 0; i < 100; i++) {
        assert_true (s_allows (&breaker, 8));
        assert_false (s_sent (&breaker, 8));
        assert_false (s_outcome (&breaker, i == 50, true, 8)); /* the probe too */
    }
    assert_int_equal (breaker.out, 0);
    assert_true (ef_breaker_set (&breaker, EF_HAND_AUTO, s_at (9)));
    assert_true (s_allows (&breaker, 9));
    assert_true (s_outcome (&breaker, false, true, 9)); /* judged again */
    assert_true (breaker.opened == 1);
    assert_string_equal (ef_hand_name (EF_HAND_CLOSED), "closed");
    assert_string_equal (ef_breaker_state_name (EF_BREAKER_HALF_OPEN), "half_open");
}

static void
test_breaker_without_ratio_is_none_but_by_hand (void **state) {
    (void)state;
    ef_breaker_config_t off = s_config;
    off.ratio = 0;
    ef_breaker_t breaker = s_opened (1000); /* the setting went later */
    assert_int_equal (ef_breaker_state (&breaker, &s_config), EF_BREAKER_OPEN);
    assert_int_equal (ef_breaker_state (&breaker, &off), EF_BREAKER_CLOSED);
    assert_true (ef_breaker_allows (&breaker, &off, 1001));
    assert_false (ef_breaker_sent (&breaker, &off, 1001));
    assert_false (ef_breaker_outcome (&breaker, &off, false, true, s_at (1001)));
    assert_true (ef_breaker_set (&breaker, EF_HAND_OPEN, s_at (1002)));
    assert_int_equal (ef_breaker_state (&breaker, &off), EF_BREAKER_OPEN);
    assert_false (ef_breaker_allows (&breaker, &off, 1002));
}

static ef_breaker_t
s_restarted (const ef_breaker_t *breaker, uint64_t mono_ms, uint64_t wall_ms) {
    uint8_t bytes[EF_BREAKER_BYTES];
    uint8_t again[EF_BREAKER_BYTES];
    ef_breaker_t restored;
    ef_breaker_put (breaker, bytes);
    guarded_t record = guard (bytes, sizeof bytes);
    assert_int_equal (ef_breaker_get (&restored, record.bytes), 0);
    unguard (&record);
    ef_breaker_start (&restored, (ef_moment_t){mono_ms, wall_ms});
    ef_breaker_put (&restored, again);
    assert_memory_equal (bytes, again, sizeof bytes);
    return restored;
}

static void
test_breaker_restart_keeps_what_is_left (void **state) {
    (void)state;
    ef_breaker_t breaker = s_opened (1000);
    ef_breaker_t restored = s_restarted (&breaker, 7, WALL + 1060);
    assert_true (s_next (&restored, 7) == 47);
    restored = s_restarted (&breaker, 7, WALL + 5000);
    assert_true (s_allows (&restored, 7));
    restored = s_restarted (&breaker, 7, WALL - 500000); /* set back: the cool-down bounds it */
    assert_true (s_next (&restored, 7) == 107);
    /* Half open: at once, and the doubling goes on. */
    assert_true (s_sent (&breaker, 1100));
    assert_true (s_outcome (&breaker, true, true, 1100));
    assert_true (s_sent (&breaker, 1300));
    restored = s_restarted (&breaker, 50, WALL + 1301);
    assert_int_equal (restored.state, EF_BREAKER_OPEN);
    assert_true (s_sent (&restored, 50));
    assert_true (s_outcome (&restored, true, true, 50));
    assert_true (s_next (&restored, 50) == 400);
    assert_true (restored.opened == 1);
    assert_true (ef_breaker_set (&breaker, EF_HAND_OPEN, s_at (1302)));
    restored = s_restarted (&breaker, 7, WALL + 99999);
    assert_true (s_next (&restored, 7) == UINT64_MAX);
    assert_true (ef_breaker_set (&breaker, EF_HAND_CLOSED, s_at (1303)));
    restored = s_restarted (&breaker, 7, WALL + 1303);
    assert_true (s_allows (&restored, 7));
    assert_int_equal (restored.hand, EF_HAND_CLOSED);
}

static void
test_breaker_record_that_makes_no_sense_is_refused (void **state) {
    (void)state;
    ef_breaker_t breaker;
    uint8_t bytes[EF_BREAKER_BYTES] = {EF_BREAKER_HALF_OPEN};
    assert_int_equal (ef_breaker_get (&breaker, bytes), -1);
    bytes[0] = 0;
    assert_int_equal (ef_breaker_get (&breaker, bytes), 0);
    bytes[1] = EF_HAND_COUNT;
    assert_int_equal (ef_breaker_get (&breaker, bytes), -1);
}

/* What is known from outside, kept plainly. */
typedef struct {
    ef_breaker_config_t config;
    ef_breaker_t breaker;
    uint64_t now;
    uint32_t probes;     /* out */
    uint32_t others;     /* out */
    uint64_t times[400]; /* of outcomes while it was closed */
    bool failed[400];
    unsigned count;
} world_t;

/* Whether the outcomes of the last ten slots are bad enough, counted one by one. */
static bool
s_is_bad (const world_t *self) {
    uint64_t width = self->config.window_ms / EF_BREAKER_SLOTS;
    unsigned calls = 0;
    unsigned failures = 0;
    for (unsigned i = 0; i < self->count; i++) {
        if (self->times[i] / width + EF_BREAKER_SLOTS > self->now / width) {
            calls++;
            failures += self->failed[i];
        }
    }
    uint32_t seen_calls;
    uint32_t seen_failures;
    ef_breaker_counts (&self->breaker, &self->config, self->now, &seen_calls, &seen_failures);
    assert_int_equal (seen_calls, calls);
    assert_int_equal (seen_failures, failures);
    return calls >= self->config.calls && failures > 0 &&
           failures * 100 >= (unsigned)(self->config.ratio * 100 + 0.5) * calls;
}

static void
s_end_one (world_t *self, bool was_probe, bool has_failed) {
    ef_breaker_t before = self->breaker;
    *(was_probe ? &self->probes : &self->others) -= 1;
    bool changed =
        ef_breaker_outcome (&self->breaker, &self->config, was_probe, has_failed, s_at (self->now));
    assert_int_equal (changed, before.state != self->breaker.state);
    if (before.state == EF_BREAKER_CLOSED) {
        self->times[self->count] = self->now;
        self->failed[self->count++] = has_failed;
        assert_int_equal (changed, s_is_bad (self));
    } else if (before.state == EF_BREAKER_OPEN || !was_probe) {
        assert_false (changed);
    } else {
        assert_int_equal (changed, has_failed || before.good + 1 == self->config.probes);
        assert_int_equal (self->breaker.state, !changed     ? EF_BREAKER_HALF_OPEN
                                               : has_failed ? EF_BREAKER_OPEN
                                                            : EF_BREAKER_CLOSED);
        self->count = self->breaker.state == EF_BREAKER_CLOSED ? 0 : self->count;
    }
    if (changed && self->breaker.state == EF_BREAKER_OPEN) {
        uint32_t cooldown =
            before.state == EF_BREAKER_CLOSED ? self->config.cooldown_ms : 2 * before.cooldown_ms;
        cooldown =
            cooldown < self->config.cooldown_cap_ms ? cooldown : self->config.cooldown_cap_ms;
        assert_true (self->breaker.until_ms == self->now + cooldown);
    }
}

static void
s_step (world_t *self, bool is_sick) {
    self->now += dice_below (30);
    if (dice_below (2) && ef_breaker_allows (&self->breaker, &self->config, self->now)) {
        ef_breaker_state_t was = self->breaker.state;
        bool is_probe = ef_breaker_sent (&self->breaker, &self->config, self->now);
        assert_int_equal (is_probe, was != EF_BREAKER_CLOSED);
        assert_true (was != EF_BREAKER_OPEN || self->now >= self->breaker.until_ms);
        *(is_probe ? &self->probes : &self->others) += 1;
        assert_true (self->probes <= self->config.probes);
    } else if (self->probes + self->others > 0) {
        bool was_probe = dice_below (self->probes + self->others) < self->probes;
        if (dice_below (5) == 0) {
            ef_breaker_returned (&self->breaker, was_probe);
            *(was_probe ? &self->probes : &self->others) -= 1;
        } else {
            s_end_one (self, was_probe, dice_below (10) < (is_sick ? 8 : 1));
        }
    }
    assert_int_equal (self->breaker.out, self->probes);
    uint64_t next = ef_breaker_next_ms (&self->breaker, &self->config, self->now);
    assert_true (next == UINT64_MAX ? self->probes > 0
                                    : ef_breaker_allows (&self->breaker, &self->config, next));
    assert_true (next <= self->now || next == UINT64_MAX ||
                 !ef_breaker_allows (&self->breaker, &self->config, next - 1));
}

static void
test_breaker_agrees_with_a_plain_count (void **state) {
    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        world_t *world = calloc (1, sizeof *world);
        world->config = (ef_breaker_config_t){.ratio = (1 + dice_below (100)) / 100.0,
                                              .calls = 1 + dice_below (20),
                                              .window_ms = 10 * (1 + dice_below (100)),
                                              .cooldown_ms = 1 + dice_below (200),
                                              .cooldown_cap_ms = 100 + dice_below (1000),
                                              .probes = 1 + dice_below (4)};
        world->now = dice_below (100000);
        bool is_sick = false;
        for (unsigned i = 0; i < 2000 && world->count < 400; i++) {
            is_sick ^= dice_below (100) == 0;
            s_step (world, is_sick);
            if (dice_below (500) == 0) { /* a restart: nothing is out any more */
                world->breaker = s_restarted (&world->breaker, world->now, WALL + world->now);
                world->probes = world->others = world->count = 0;
            }
        }
        free (world);
    }
}

static void
test_breaker_with_fewer_probes_than_were_good_closes_with_the_next (void **state) {
    (void)state;
    ef_breaker_config_t config = s_config;
    ef_breaker_t breaker = s_opened (0);
    config.probes = 3;
    for (unsigned i = 0; i < 2; i++) {
        assert_true (ef_breaker_sent (&breaker, &config, 100));
        assert_false (ef_breaker_outcome (&breaker, &config, true, false, s_at (100)));
    }
    config.probes = 1; /* by a reload */
    assert_true (ef_breaker_allows (&breaker, &config, 100));
    assert_true (ef_breaker_sent (&breaker, &config, 100));
    assert_false (ef_breaker_allows (&breaker, &config, 100));
    assert_true (ef_breaker_outcome (&breaker, &config, true, false, s_at (100)));
    assert_int_equal (breaker.state, EF_BREAKER_CLOSED);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_breaker_opens_at_the_share_of_enough_calls),
        cmocka_unit_test (test_breaker_share_is_judged_exactly),
        cmocka_unit_test (test_breaker_forgets_what_left_the_window),
        cmocka_unit_test (test_breaker_open_waits_then_probes),
        cmocka_unit_test (test_breaker_probe_returned_makes_room_for_another),
        cmocka_unit_test (test_breaker_cooldown_doubles_to_its_cap_and_begins_anew),
        cmocka_unit_test (test_breaker_late_outcomes_do_not_disturb_it),
        cmocka_unit_test (test_breaker_by_hand_does_as_it_is_told),
        cmocka_unit_test (test_breaker_without_ratio_is_none_but_by_hand),
        cmocka_unit_test (test_breaker_restart_keeps_what_is_left),
        cmocka_unit_test (test_breaker_record_that_makes_no_sense_is_refused),
        cmocka_unit_test (test_breaker_with_fewer_probes_than_were_good_closes_with_the_next),
        cmocka_unit_test (test_breaker_agrees_with_a_plain_count),
    };
    return cmocka_run_group_tests (tests, dice_seed, NULL);
}
