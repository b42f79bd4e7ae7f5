/* Quotas: their windows, units and tables; slabs. SPDX-License-Identifier: MIT */
#include "dice.h"

#include "../../broker/core/calendar.h"
#include "../../broker/core/quota.h"
#include "../../proto/limits.h"

#define HOUR 3600000ull
#define DAY  (24 * HOUR)

static const ef_quota_config_t s_daily = {.limit = 3, .window_ms = DAY, .by = EF_BY_USER};
static const ef_quota_config_t s_sliding = {
    .limit = 3, .window_ms = 1000, .by = EF_BY_USER, .is_sliding = true};

static ef_unit_t
s_unit (uint64_t n, uint32_t subject, uint64_t wall) {
    ef_unit_t unit = {.n = n, .taken_ms = wall, .segment = 1};
    uint64_t spread = subject * 0x9e3779b97f4a7c15u;
    memcpy (unit.subject, &spread, sizeof spread);
    unit.subject[15] = (uint8_t)subject;
    return unit;
}

static ef_quota_answer_t
s_take (ef_quota_t *quota, const ef_quota_config_t *config, ef_unit_t unit, uint64_t *until) {
    *until = 0;
    return ef_quota_take (quota, config, &unit, until);
}

static uint32_t
s_used (const ef_quota_t *quota, const ef_quota_config_t *config, uint32_t subject, uint64_t wall) {
    ef_unit_t unit = s_unit (0, subject, 0);
    return ef_quota_used (quota, config, unit.subject, wall);
}

static bool
s_give_back (ef_quota_t *quota, uint64_t n, uint32_t subject) {
    uint8_t whose[EF_SUBJECT_BYTES];
    ef_unit_t unit = s_unit (n, subject, 0);
    bool had = ef_quota_give_back (quota, n, whose);
    assert_true (!had || memcmp (whose, unit.subject, sizeof whose) == 0);
    return had;
}

static void
test_slab_finds_what_is_in_it_and_moves_nothing (void **state) {
    (void)state;
    enum { COUNT = 20000, HASHES = 5000 }; /* several items of one hash */
    static uint64_t *places[COUNT];
    static uint32_t numbers[COUNT];
    ef_slab_t slab;
    ef_slab_init (&slab, 12);
    assert_int_equal (ef_slab_find (&slab, 5), EF_SLAB_NONE);
    for (unsigned round = 0; round < 3; round++) {
        for (uint64_t i = 0; i < COUNT; i++) {
            numbers[i] = ef_slab_add (&slab, i % HASHES * 0x9e3779b97f4a7c15u);
            places[i] = ef_slab_at (&slab, numbers[i]);
            assert_true (*places[i] == 0);
            *places[i] = i + 1;
        }
        for (unsigned i = 0; i < COUNT; i += 2) {
            ef_slab_remove (&slab, numbers[i]);
            assert_false (ef_slab_has (&slab, numbers[i]));
        }
        for (uint64_t i = 0; i < COUNT; i++) {
            uint32_t number = ef_slab_find (&slab, i % HASHES * 0x9e3779b97f4a7c15u);
            while (number != EF_SLAB_NONE && *(uint64_t *)ef_slab_at (&slab, number) != i + 1) {
                number = ef_slab_find_next (&slab, number);
            }
            assert_int_equal (number, i % 2 ? numbers[i] : EF_SLAB_NONE);
            assert_true (i % 2 == 0 || ef_slab_at (&slab, number) == places[i]);
        }
        assert_int_equal (slab.count, COUNT / 2);
        for (unsigned i = 1; i < COUNT; i += 2) {
            ef_slab_remove (&slab, numbers[i]);
        }
        assert_true (ef_slab_bytes (&slab) == 0); /* all of it goes back */
    }
    ef_slab_free (&slab);
}

static void
test_calendar_windows_begin_where_they_should (void **state) {
    (void)state;
    ef_zone_t *zone = calloc (1, sizeof *zone + 4 * sizeof *zone->midnights);
    static const int64_t midnights[] = {(int64_t)(100 * DAY - 2 * HOUR),
                                        (int64_t)(101 * DAY - 2 * HOUR),
                                        (int64_t)(102 * DAY - HOUR), (int64_t)(103 * DAY - HOUR)};
    zone->count = 4; /* the second day has 25 hours */
    memcpy (zone->midnights, midnights, sizeof midnights);
    ef_quota_config_t day = s_daily;
    ef_quota_config_t local = s_daily;
    ef_quota_config_t hour = {.limit = 1, .window_ms = HOUR, .zone = zone};
    ef_quota_config_t sliding = {.limit = 1, .window_ms = DAY, .zone = zone, .is_sliding = true};
    local.zone = zone;
    const struct {
        const ef_quota_config_t *config;
        uint64_t wall;
        uint64_t since;
        uint64_t leaves;
    } cases[] = {
        {&day, 100 * DAY, 100 * DAY, 101 * DAY},
        {&day, 101 * DAY - 1, 100 * DAY, 101 * DAY},
        {&hour, 100 * DAY + 90 * 60000, 100 * DAY + HOUR, 100 * DAY + 2 * HOUR},
        {&local, 100 * DAY - 2 * HOUR, 100 * DAY - 2 * HOUR, 101 * DAY - 2 * HOUR},
        {&local, 101 * DAY - 2 * HOUR - 1, 100 * DAY - 2 * HOUR, 101 * DAY - 2 * HOUR},
        {&local, 102 * DAY - HOUR - 1, 101 * DAY - 2 * HOUR, 102 * DAY - HOUR},
        {&local, 102 * DAY, 102 * DAY - HOUR, 103 * DAY - HOUR},
        {&local, 103 * DAY, 103 * DAY - HOUR, 104 * DAY - HOUR},
        {&local, 110 * DAY, 110 * DAY - HOUR, 111 * DAY - HOUR}, /* past the table */
        {&local, 98 * DAY - 2 * HOUR - 1, 97 * DAY - 2 * HOUR, 98 * DAY - 2 * HOUR},
        {&sliding, 100 * DAY, 99 * DAY + 1, 101 * DAY},
        {&sliding, 5, 0, DAY + 5},
        {&day, 0, 0, DAY},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true (ef_calendar_since (cases[i].config, cases[i].wall) == cases[i].since);
        assert_true (ef_calendar_leaves (cases[i].config, cases[i].wall) == cases[i].leaves);
    }
    assert_true (ef_calendar_since (&local, UINT64_MAX) > 1000 * DAY); /* no overflow */
    assert_true (ef_calendar_leaves (&sliding, UINT64_MAX) > 1000 * DAY);
    free (zone);
}

static void
test_quota_of_a_day_frees_at_the_turn (void **state) {
    (void)state;
    ef_quota_t quota;
    uint64_t until;
    uint64_t noon = 100 * DAY + 12 * HOUR;
    ef_quota_init (&quota);
    for (uint64_t n = 1; n <= 3; n++) {
        assert_int_equal (s_take (&quota, &s_daily, s_unit (n, 7, noon), &until), EF_QUOTA_TAKEN);
    }
    assert_int_equal (s_take (&quota, &s_daily, s_unit (4, 7, noon), &until), EF_QUOTA_OVER);
    assert_true (until == 101 * DAY);
    assert_int_equal (s_take (&quota, &s_daily, s_unit (5, 8, noon), &until), EF_QUOTA_TAKEN);
    assert_int_equal (s_used (&quota, &s_daily, 7, noon), 3);
    assert_int_equal (s_take (&quota, &s_daily, s_unit (4, 7, 101 * DAY - 1), &until),
                      EF_QUOTA_OVER);
    assert_int_equal (s_take (&quota, &s_daily, s_unit (4, 7, 101 * DAY), &until), EF_QUOTA_TAKEN);
    assert_int_equal (s_used (&quota, &s_daily, 7, 101 * DAY), 1);
    ef_quota_free (&quota);
}

static void
test_quota_unit_given_back_can_be_taken_again (void **state) {
    (void)state;
    ef_quota_t quota;
    uint64_t until;
    ef_quota_init (&quota);
    for (uint64_t n = 1; n <= 3; n++) {
        assert_int_equal (s_take (&quota, &s_daily, s_unit (n, 7, DAY), &until), EF_QUOTA_TAKEN);
    }
    assert_true (ef_quota_has (&quota, 2));
    assert_true (s_give_back (&quota, 2, 7));
    assert_false (ef_quota_has (&quota, 2));
    assert_false (s_give_back (&quota, 2, 7));
    assert_int_equal (s_take (&quota, &s_daily, s_unit (4, 7, DAY), &until), EF_QUOTA_TAKEN);
    assert_int_equal (s_take (&quota, &s_daily, s_unit (2, 7, DAY), &until), EF_QUOTA_OVER);
    assert_int_equal (s_take (&quota, &s_daily, s_unit (4, 7, DAY), &until), EF_QUOTA_HELD);
    assert_int_equal (s_used (&quota, &s_daily, 7, DAY), 3);
    ef_quota_free (&quota);
}

static void
test_quota_event_of_an_old_window_takes_a_unit_of_this_one (void **state) {
    (void)state;
    ef_quota_t quota;
    uint64_t until;
    ef_quota_init (&quota);
    assert_int_equal (s_take (&quota, &s_daily, s_unit (1, 7, DAY), &until), EF_QUOTA_TAKEN);
    assert_int_equal (s_take (&quota, &s_daily, s_unit (1, 7, 2 * DAY), &until), EF_QUOTA_TAKEN);
    assert_int_equal (s_used (&quota, &s_daily, 7, 2 * DAY), 1);
    assert_int_equal (quota.units.count, 1);
    ef_quota_free (&quota);
}

static void
test_quota_sliding_frees_one_by_one (void **state) {
    (void)state;
    ef_quota_t quota;
    uint64_t until;
    ef_quota_init (&quota);
    for (uint64_t n = 1; n <= 3; n++) {
        assert_int_equal (s_take (&quota, &s_sliding, s_unit (n, 7, 10000 + 100 * n), &until),
                          EF_QUOTA_TAKEN);
    }
    assert_int_equal (s_take (&quota, &s_sliding, s_unit (4, 7, 10900), &until), EF_QUOTA_OVER);
    assert_true (until == 11100);
    assert_int_equal (s_take (&quota, &s_sliding, s_unit (4, 7, 11099), &until), EF_QUOTA_OVER);
    assert_int_equal (s_take (&quota, &s_sliding, s_unit (4, 7, 11100), &until), EF_QUOTA_TAKEN);
    assert_int_equal (s_take (&quota, &s_sliding, s_unit (5, 7, 11100), &until), EF_QUOTA_OVER);
    assert_true (until == 11200);
    ef_quota_config_t lower = s_sliding;
    lower.limit = 1; /* by a reload: all but the last must leave */
    assert_int_equal (s_take (&quota, &lower, s_unit (5, 7, 11100), &until), EF_QUOTA_OVER);
    assert_true (until == 12100);
    ef_quota_free (&quota);
}

static void
test_quota_clock_set_back_gives_nothing_twice (void **state) {
    (void)state;
    ef_quota_t quota;
    uint64_t until;
    ef_quota_init (&quota);
    for (uint64_t n = 1; n <= 3; n++) {
        assert_int_equal (s_take (&quota, &s_daily, s_unit (n, 7, 101 * DAY), &until),
                          EF_QUOTA_TAKEN);
    }
    /* The units are of the future now. */
    assert_int_equal (s_take (&quota, &s_daily, s_unit (4, 7, 100 * DAY), &until), EF_QUOTA_OVER);
    assert_int_equal (s_take (&quota, &s_daily, s_unit (5, 8, 100 * DAY), &until), EF_QUOTA_TAKEN);
    /* Two days on all is forgotten; then it is yesterday again, for an hour: nobody knows. */
    assert_false (ef_quota_expire (&quota, &s_daily, 104 * DAY, 100));
    assert_int_equal (quota.units.count, 0);
    assert_int_equal (s_take (&quota, &s_daily, s_unit (4, 7, 101 * DAY + HOUR), &until),
                      EF_QUOTA_OVER);
    assert_true (until == 102 * DAY);
    assert_int_equal (s_take (&quota, &s_daily, s_unit (4, 7, 102 * DAY), &until), EF_QUOTA_TAKEN);
    /* By other settings what is known is all there is. */
    ef_quota_config_t weekly = s_daily;
    weekly.window_ms = 7 * DAY;
    assert_int_equal (s_take (&quota, &weekly, s_unit (6, 9, 101 * DAY + HOUR), &until),
                      EF_QUOTA_TAKEN);
    ef_quota_free (&quota);
}

static void
test_quota_small_step_back_halts_nothing (void **state) {
    (void)state;
    ef_quota_t quota;
    uint64_t until;
    ef_quota_init (&quota);
    assert_int_equal (s_take (&quota, &s_daily, s_unit (1, 7, 101 * DAY - 5), &until),
                      EF_QUOTA_TAKEN);
    assert_false (ef_quota_expire (&quota, &s_daily, 101 * DAY + HOUR - 1, 100));
    assert_int_equal (quota.units.count, 1);
    assert_int_equal (s_take (&quota, &s_daily, s_unit (2, 7, 101 * DAY - 1), &until),
                      EF_QUOTA_TAKEN);
    assert_int_equal (s_used (&quota, &s_daily, 7, 101 * DAY - 1), 2);
    assert_false (ef_quota_expire (&quota, &s_daily, 101 * DAY + HOUR, 100));
    assert_int_equal (quota.units.count, 0);
    ef_quota_free (&quota);
}

static void
test_quota_expires_in_bounded_steps (void **state) {
    (void)state;
    ef_quota_t quota;
    uint64_t until;
    ef_quota_init (&quota);
    for (uint64_t n = 1; n <= 100; n++) {
        assert_int_equal (
            s_take (&quota, &s_sliding, s_unit (n, (uint32_t)n / 3, 1000 + n), &until),
            EF_QUOTA_TAKEN);
    }
    assert_true (ef_quota_expire (&quota, &s_sliding, 1000000, 30));
    assert_int_equal (quota.units.count, 70);
    assert_false (ef_quota_has (&quota, 30)); /* the oldest went */
    assert_true (ef_quota_has (&quota, 31));
    assert_false (ef_quota_expire (&quota, &s_sliding, 1000000, 71));
    assert_int_equal (quota.units.count + quota.subjects.count, 0);
    ef_quota_check (&quota);
    ef_quota_free (&quota);
}

static void
test_quota_add_is_idempotent_and_the_last_holds (void **state) {
    (void)state;
    ef_quota_t quota;
    ef_unit_t units[4];
    ef_unit_t unit = s_unit (5, 7, DAY);
    ef_quota_init (&quota);
    for (uint32_t i = 1; i <= 3; i++) {
        unit.segment = i;
        ef_quota_add (&quota, &unit);
        ef_quota_check (&quota);
        assert_int_equal (s_used (&quota, &s_daily, 7, DAY), 1);
        assert_int_equal (ef_quota_gather (&quota, i, units, 4), 1);
        assert_int_equal (ef_quota_gather (&quota, i - 1, units, 4), 0);
    }
    unit = s_unit (5, 8, 2 * DAY);
    ef_quota_add (&quota, &unit);
    assert_int_equal (s_used (&quota, &s_daily, 7, DAY), 0);
    assert_int_equal (s_used (&quota, &s_daily, 8, 2 * DAY), 1);
    ef_quota_relocate (&quota, 6, 9); /* nobody's */
    ef_quota_check (&quota);
    ef_quota_free (&quota);
}

static void
test_quota_full_tables_answer_so_until_others_leave (void **state) {
    (void)state;
    ef_quota_t quota;
    uint64_t until;
    ef_quota_config_t config = s_daily;
    config.limit = UINT32_MAX;
    ef_quota_init (&quota);
    for (uint32_t i = 0; i < EF_QUOTA_SUBJECTS_MAX; i++) {
        ef_unit_t unit = s_unit (i, i, DAY + i);
        ef_quota_add (&quota, &unit);
    }
    uint64_t now = DAY + 12 * HOUR;
    assert_int_equal (quota.subjects.count, EF_QUOTA_SUBJECTS_MAX);
    assert_int_equal (
        s_take (&quota, &config, s_unit (1ull << 40, EF_QUOTA_SUBJECTS_MAX, now), &until),
        EF_QUOTA_FULL);
    assert_true (until == 2 * DAY);
    assert_int_equal (s_take (&quota, &config, s_unit (1ull << 40, 5, now), &until),
                      EF_QUOTA_TAKEN); /* whom it knows */
    assert_int_equal (s_take (&quota, &config,
                              s_unit (1ull << 41, EF_QUOTA_SUBJECTS_MAX, until = 2 * DAY), &until),
                      EF_QUOTA_TAKEN); /* the window has turned: the oldest makes room */
    assert_true (ef_quota_bytes (&quota) < 150ull * EF_QUOTA_SUBJECTS_MAX);
    ef_quota_free (&quota);
    assert_true (ef_quota_bytes (&quota) == 0);
}

static void
test_quota_of_one_subject_with_many_units (void **state) {
    (void)state;
    enum { UNITS = 300000 };
    ef_quota_t quota;
    uint64_t until;
    ef_quota_config_t config = s_sliding;
    config.limit = UNITS;
    config.window_ms = DAY;
    ef_quota_init (&quota);
    for (uint64_t i = 0; i < UNITS; i++) { /* as a checkpoint may bring them, in no order */
        ef_unit_t unit = s_unit (i, 7, 10 * DAY + i * 7919 % UNITS);
        ef_quota_add (&quota, &unit);
    }
    assert_int_equal (s_take (&quota, &config, s_unit (UNITS, 7, 10 * DAY + UNITS), &until),
                      EF_QUOTA_OVER);
    assert_true (until == 11 * DAY);
    assert_int_equal (s_take (&quota, &config, s_unit (UNITS, 7, until), &until), EF_QUOTA_TAKEN);
    assert_int_equal (s_take (&quota, &config, s_unit (UNITS + 1, 7, 11 * DAY), &until),
                      EF_QUOTA_OVER);
    assert_true (until == 11 * DAY + 1);
    ef_quota_check (&quota);
    ef_quota_free (&quota);
}

/* Every unit that was ever taken and not given back: nothing is forgotten here. */
enum { TAKEN_MAX = 4000 };
typedef struct {
    ef_quota_config_t config;
    ef_quota_t quota;
    ef_unit_t taken[TAKEN_MAX];
    unsigned count;
    uint64_t wall;
    uint64_t highest; /* that the wall clock has been */
    uint64_t next_n;
    uint32_t segment;
} world_t;

static unsigned
s_count (const world_t *self, const uint8_t *subject, uint64_t wall) {
    unsigned count = 0;
    for (unsigned i = 0; i < self->count; i++) {
        count += memcmp (self->taken[i].subject, subject, EF_SUBJECT_BYTES) == 0 &&
                 self->taken[i].taken_ms >= ef_calendar_since (&self->config, wall);
    }
    return count;
}

static void
s_remove_taken (world_t *self, uint64_t n) {
    for (unsigned i = 0; i < self->count; i++) {
        if (self->taken[i].n == n) {
            self->taken[i] = self->taken[--self->count];
            return;
        }
    }
    fail ();
}

static const ef_unit_t *
s_find_taken (const world_t *self, uint64_t n) {
    for (unsigned i = 0; i < self->count; i++) {
        if (self->taken[i].n == n) {
            return &self->taken[i];
        }
    }
    return NULL;
}

static void
s_take_one (world_t *self) {
    uint64_t n = dice_below (4) ? ++self->next_n : 1 + dice_below ((uint32_t)self->next_n + 1);
    const ef_unit_t *old = s_find_taken (self, n);
    ef_unit_t unit = s_unit (n, dice_below (6), self->wall);
    unit.segment = self->segment;
    if (old) {
        memcpy (unit.subject, old->subject, sizeof unit.subject);
    }
    uint32_t keep = self->config.window_ms / 8;
    keep = keep < EF_QUOTA_KEEP_MS ? keep : EF_QUOTA_KEEP_MS;
    self->highest = self->wall > self->highest ? self->wall : self->highest;
    bool is_known = self->highest - self->wall <= keep; /* nothing that counts was forgotten */
    bool is_held = old && old->taken_ms >= ef_calendar_since (&self->config, self->wall);
    unsigned used = s_count (self, unit.subject, self->wall);
    uint64_t until = 0;
    switch (ef_quota_take (&self->quota, &self->config, &unit, &until)) {
    case EF_QUOTA_TAKEN:
        assert_true (!is_held && used < self->config.limit); /* the law */
        if (old) {
            s_remove_taken (self, n);
        }
        self->taken[self->count++] = unit;
        break;
    case EF_QUOTA_HELD: assert_true (is_held); break;
    case EF_QUOTA_OVER:
        assert_true (until > self->wall);
        assert_true (!is_known || (!is_held && used >= self->config.limit));
        if (is_known) {
            uint32_t then = ef_quota_used (&self->quota, &self->config, unit.subject, until);
            uint32_t before = ef_quota_used (&self->quota, &self->config, unit.subject, until - 1);
            assert_true (before >= self->config.limit);
            assert_true (then < self->config.limit || !self->config.is_sliding);
        }
        break;
    case EF_QUOTA_FULL: fail ();
    }
}

static void
s_clean (world_t *self) {
    ef_unit_t units[5];
    uint32_t count;
    if (self->quota.segment_count == 0) {
        return;
    }
    uint32_t oldest = self->quota.segments[0].segment;
    self->segment++;
    while ((count = ef_quota_gather (&self->quota, oldest, units, 5)) > 0) {
        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal (units[i].segment, oldest);
            assert_non_null (s_find_taken (self, units[i].n));
            ef_quota_relocate (&self->quota, units[i].n, self->segment);
        }
    }
    assert_true (self->quota.segment_count == 0 || self->quota.segments[0].segment > oldest);
}

/* From a checkpoint's walk, and from the whole log, some of it twice: both say the same of now. */
static void
s_restart (world_t *self) {
    ef_quota_t walked;
    ef_unit_t units[7];
    uint32_t position = 0;
    uint32_t count;
    bool has_more;
    ef_quota_init (&walked);
    do {
        count = 7;
        has_more = ef_quota_walk (&self->quota, &position, units, &count);
        for (uint32_t i = 0; i < count; i++) {
            ef_quota_add (&walked, &units[i]);
        }
    } while (has_more);
    uint64_t digest = ef_quota_digest (&self->quota, &self->config, self->highest);
    assert_true (ef_quota_digest (&walked, &self->config, self->highest) == digest);
    assert_int_equal (walked.units.count, self->quota.units.count);
    ef_quota_free (&walked);
    ef_quota_free (&self->quota);
    for (unsigned i = 0; i < 2 * self->count; i++) {
        ef_quota_add (&self->quota, &self->taken[i < self->count ? i : dice_below (self->count)]);
    }
    assert_true (ef_quota_digest (&self->quota, &self->config, self->highest) == digest);
}

static void
s_step (world_t *self) {
    uint32_t window = self->config.window_ms;
    switch (dice_below (40)) {
    case 0: s_clean (self); break;
    case 1: s_restart (self); break;
    case 2: self->wall += dice_below (3 * window); break;
    case 3: self->wall -= dice_below (2 * window); break;
    case 4: self->wall -= dice_below (window / 8); break;
    case 5: self->wall = self->highest; break;
    case 6:
    case 7:
    case 8:
        if (self->count > 0) {
            uint64_t n = self->taken[dice_below (self->count)].n;
            uint8_t subject[EF_SUBJECT_BYTES];
            if (ef_quota_give_back (&self->quota, n, subject)) {
                assert_memory_equal (subject, s_find_taken (self, n)->subject, sizeof subject);
                s_remove_taken (self, n);
            }
            assert_false (ef_quota_has (&self->quota, n));
        }
        break;
    case 9:
    case 10:
        (void)ef_quota_expire (&self->quota, &self->config, self->wall, dice_below (20));
        break;
    default: self->wall += dice_below (window / 10); s_take_one (self);
    }
    self->highest = self->wall > self->highest ? self->wall : self->highest;
}

static void
test_quota_agrees_with_a_list_that_forgets_nothing (void **state) {
    (void)state;
    ef_zone_t *zone = calloc (1, sizeof *zone + 300 * sizeof *zone->midnights);
    zone->count = 300;
    for (unsigned i = 0; i < 300; i++) {
        zone->midnights[i] = (int64_t)((1000 + i) * DAY - (i % 3) * HOUR);
    }
    for (unsigned round = 0; round < 40; round++) {
        world_t *world = calloc (1, sizeof *world);
        static const uint32_t windows[] = {1000, 60000, DAY, DAY};
        world->config = (ef_quota_config_t){.limit = 1 + dice_below (5),
                                            .window_ms = windows[round % 4],
                                            .is_sliding = dice_below (2),
                                            .zone = round % 4 == 3 ? zone : NULL};
        world->wall = world->highest = 1000 * DAY + dice_below (DAY);
        ef_quota_init (&world->quota);
        for (unsigned i = 0; i < TAKEN_MAX; i++) {
            s_step (world);
            if (i % 64 == 0) {
                ef_quota_check (&world->quota);
            }
        }
        ef_quota_free (&world->quota);
        free (world);
    }
    free (zone);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_slab_finds_what_is_in_it_and_moves_nothing),
        cmocka_unit_test (test_calendar_windows_begin_where_they_should),
        cmocka_unit_test (test_quota_of_a_day_frees_at_the_turn),
        cmocka_unit_test (test_quota_unit_given_back_can_be_taken_again),
        cmocka_unit_test (test_quota_event_of_an_old_window_takes_a_unit_of_this_one),
        cmocka_unit_test (test_quota_sliding_frees_one_by_one),
        cmocka_unit_test (test_quota_clock_set_back_gives_nothing_twice),
        cmocka_unit_test (test_quota_small_step_back_halts_nothing),
        cmocka_unit_test (test_quota_expires_in_bounded_steps),
        cmocka_unit_test (test_quota_add_is_idempotent_and_the_last_holds),
        cmocka_unit_test (test_quota_full_tables_answer_so_until_others_leave),
        cmocka_unit_test (test_quota_of_one_subject_with_many_units),
        cmocka_unit_test (test_quota_agrees_with_a_list_that_forgets_nothing),
    };
    return cmocka_run_group_tests (tests, dice_seed, NULL);
}
