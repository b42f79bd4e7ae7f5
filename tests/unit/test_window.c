/* The dedupe window against naive models. SPDX-License-Identifier: MIT
   `test_window SEED` runs them again. */
#include "unit.h"

#include "../../broker/core/window.h"

#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

static uint64_t s_state;

static uint32_t
s_below (uint32_t n) {
    s_state ^= s_state >> 12;
    s_state ^= s_state << 25;
    s_state ^= s_state >> 27;
    return (uint32_t)((s_state * 0x2545f4914f6cdd1du >> 32) % n);
}

static ef_print_t
s_print (uint64_t id) {
    static const uint64_t key[2] = {7, 11};
    return ef_print (key, &id, sizeof id);
}

#define DAY_MS 86400000ull
#define START  1700000000000ull /* wall clock of the tests: November 2023 */

/* ---- A window that is used ---- */

enum { IDS = 2500, HELD_MAX = 100000, RECORDS_MAX = 1000000 };

/* What the window should do, as plainly as possible: a queue. */
typedef struct {
    uint32_t id;
    uint32_t segment;
    uint64_t ms;
    bool is_hole;
    bool is_awaited; /* by the walk under way */
} held_t;

typedef struct {
    ef_window_t *window;
    held_t *held;
    uint32_t size;
    uint32_t added;
    uint32_t segment;
    ef_window_rule_t rule;
    ef_window_walk_t walk;
    bool is_walking;
} model_t;

static bool
s_is_over (const model_t *self, uint64_t ms) {
    return ms + self->rule.window_ms <= self->rule.now_ms;
}

static held_t *
s_held (const model_t *self, uint32_t id) {
    for (uint32_t i = 0; i < self->size; i++) {
        if (!self->held[i].is_hole && self->held[i].id == id) {
            return &self->held[i];
        }
    }
    return NULL;
}

static uint32_t
s_count (const model_t *self) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < self->size; i++) {
        count += !self->held[i].is_hole;
    }
    return count;
}

static void
s_add (model_t *self, uint32_t id) {
    held_t *known = s_held (self, id);
    bool is_new = known == NULL || s_is_over (self, known->ms);
    assert_int_equal (ef_window_has (self->window, s_print (id), &self->rule), !is_new);
    ef_window_prefetch (self->window, s_print (id));
    assert_int_equal (ef_window_add (self->window, s_print (id), self->segment, &self->rule),
                      is_new);
    if (is_new) {
        if (known) {
            known->is_hole = true;
        }
        assert_true (self->size < HELD_MAX);
        self->held[self->size++] =
            (held_t){.id = id, .segment = self->segment, .ms = self->rule.now_ms};
        self->added++;
    }
}

static void
s_expire (model_t *self, uint32_t budget) {
    uint64_t left = (uint64_t)budget + 2 * self->added;
    uint32_t count = s_count (self);
    uint32_t gone = 0;
    bool is_more = false;
    self->added = 0;
    for (; gone < self->size; gone++) {
        const held_t *head = &self->held[gone];
        if (!head->is_hole && !s_is_over (self, head->ms) && count <= self->rule.most) {
            break;
        }
        if (left-- == 0) {
            is_more = true;
            break;
        }
        count -= !head->is_hole;
    }
    memmove (self->held, self->held + gone, (self->size - gone) * sizeof *self->held);
    self->size -= gone;
    assert_int_equal (ef_window_expire (self->window, &self->rule, budget), is_more);
    assert_int_equal (ef_window_count (self->window), count);
}

/* One step of a walk; what was there when it began and still is must have been given once. */
static void
s_walk (model_t *self) {
    if (!self->is_walking) {
        bool moves = s_below (2);
        self->walk = (ef_window_walk_t){.segment = moves ? self->segment - 3 : UINT32_MAX,
                                        .new_segment = moves ? self->segment : 0};
        self->is_walking = true;
        for (uint32_t i = 0; i < self->size; i++) {
            self->held[i].is_awaited = self->held[i].segment <= self->walk.segment;
        }
    }
    ef_known_t known[200];
    uint32_t most = 1 + s_below (200);
    uint32_t found = ef_window_walk (self->window, &self->walk, &self->rule, known, most);
    assert_true (found <= most);
    for (uint32_t i = 0; i < self->size; i++) {
        held_t *held = &self->held[i];
        ef_print_t print = s_print (held->id);
        for (uint32_t k = 0; !held->is_hole && k < found; k++) {
            if (known[k].print.low == print.low) {
                assert_true (known[k].print.high == print.high);
                assert_true (known[k].accepted_ms == held->ms);
                assert_int_equal (known[k].segment, held->segment);
                assert_false (s_is_over (self, held->ms));
                if (self->walk.new_segment) {
                    held->segment = self->walk.new_segment;
                }
                held->is_awaited = false;
                known[k].print.low = 0;
            }
        }
        /* Passed by while over; a longer window may bring it back later. */
        held->is_awaited = held->is_awaited && !s_is_over (self, held->ms);
    }
    for (uint32_t k = 0; k < found; k++) {
        assert_true (known[k].print.low == 0); /* each was there, and once */
    }
    for (uint32_t i = 0; self->walk.is_done && i < self->size; i++) {
        assert_false (self->held[i].is_awaited && !self->held[i].is_hole);
    }
    self->is_walking = !self->walk.is_done;
}

static void
s_compare (const model_t *self) {
    ef_window_check (self->window);
    assert_int_equal (ef_window_count (self->window), s_count (self));
    for (uint32_t id = 0; id < IDS; id++) {
        const held_t *held = s_held (self, id);
        assert_int_equal (ef_window_has (self->window, s_print (id), &self->rule),
                          held && !s_is_over (self, held->ms));
    }
}

static void
s_operate (model_t *self) {
    uint32_t dice = s_below (100);
    if (dice < 50) {
        for (uint32_t i = s_below (200); i > 0; i--) {
            s_add (self, s_below (IDS));
        }
    } else if (dice < 65) {
        self->rule.now_ms += s_below (300);
        s_expire (self, s_below (3) ? 100 : 0);
    } else if (dice < 90) {
        s_walk (self);
    } else if (dice < 95 && !self->is_walking) {
        self->segment++;
    } else if (dice < 97) {
        self->rule.most = s_below (3) ? s_below (2 * IDS) : s_below (3);
    } else if (dice < 98) {
        self->rule.window_ms = 1 + s_below (5000);
    } else if (dice < 99) {
        s_expire (self, HELD_MAX);
    } else {
        s_compare (self);
    }
}

static void
test_window_agrees_with_a_queue (void **state) {
    (void)state;
    for (unsigned round = 0; round < 6; round++) {
        model_t model = {.window = ef_window_new (),
                         .held = calloc (HELD_MAX, sizeof (held_t)),
                         .segment = 5,
                         .rule = {START, 1000, IDS}};
        for (unsigned operation = 0; operation < 1500; operation++) {
            s_operate (&model);
        }
        s_compare (&model);
        model.rule.now_ms += DAY_MS;
        s_expire (&model, HELD_MAX);
        assert_int_equal (ef_window_count (model.window), 0);
        assert_true (ef_window_bytes (model.window) < 4096);
        ef_window_destroy (&model.window);
        free (model.held);
    }
}

/* ---- Recovery ---- */

typedef struct {
    ef_known_t known;
    bool is_copy; /* an id written again */
} record_t;

typedef struct {
    record_t *records; /* the log; those of segments before `oldest` are gone */
    uint32_t count;
    uint32_t oldest;
    uint32_t newest;
    uint32_t checkpoint; /* the first record behind the one under way or done */
    ef_window_t *window;
    ef_window_walk_t walk;
    ef_known_t *walked;
    uint32_t walked_count;
    ef_window_rule_t rule;
} log_t;

static void
s_write (log_t *self, const ef_known_t *known, bool is_copy) {
    assert_true (self->count < RECORDS_MAX);
    self->records[self->count] = (record_t){*known, is_copy};
    self->records[self->count++].known.segment = self->newest;
}

static void
s_publish (log_t *self, uint32_t ids) {
    for (uint32_t i = s_below (40); i > 0; i--) {
        ef_print_t print = s_print (s_below (ids));
        if (ef_window_add (self->window, print, self->newest - s_below (2), &self->rule)) {
            s_write (self, &(ef_known_t){print, self->rule.now_ms, 0}, false);
        }
    }
    ef_window_expire (self->window, &self->rule, 10);
}

/* Empties the oldest segment while others publish. */
static void
s_clean (log_t *self, uint32_t ids) {
    ef_window_walk_t walk = {.segment = self->oldest, .new_segment = self->newest};
    while (!walk.is_done) {
        ef_known_t known[64];
        uint32_t found = ef_window_walk (self->window, &walk, &self->rule, known, 64);
        for (uint32_t i = 0; i < found; i++) {
            s_write (self, &known[i], true);
        }
        if (s_below (8) == 0) {
            s_publish (self, ids);
        }
    }
    self->oldest++;
}

static void
s_step_checkpoint (log_t *self) {
    if (self->checkpoint == UINT32_MAX) {
        self->checkpoint = self->count;
        self->walk = (ef_window_walk_t){.segment = UINT32_MAX};
        self->walked_count = 0;
    }
    if (!self->walk.is_done) {
        self->walked_count += ef_window_walk (self->window, &self->walk, &self->rule,
                                              self->walked + self->walked_count, 1 + s_below (500));
    }
}

static ef_window_t *
s_recover (const log_t *self, bool with_checkpoint) {
    ef_window_t *window = ef_window_new ();
    for (uint32_t i = 0; with_checkpoint && i < self->walked_count; i++) {
        ef_window_restore (window, &self->walked[i], true, &self->rule);
    }
    for (uint32_t i = with_checkpoint ? self->checkpoint : 0; i < self->count; i++) {
        const record_t *record = &self->records[i];
        if (record->known.segment >= self->oldest) {
            ef_window_restore (window, &record->known, record->is_copy, &self->rule);
        }
    }
    while (ef_window_expire (window, &self->rule, 1000)) {
    }
    ef_window_check (window);
    return window;
}

static uint64_t
s_later (uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* The recovered window says the same and has forgotten nothing that the live one knows, but for
   those accepted in the ms of the last one forgotten: there each may have forgotten others. */
static void
s_compare_windows (const log_t *self, const ef_window_t *live, const ef_window_t *recovered) {
    uint64_t after = s_later (ef_window_floor (live), ef_window_floor (recovered));
    after = s_later (after, self->rule.now_ms - self->rule.window_ms);
    assert_true (ef_window_digest (live, after) == ef_window_digest (recovered, after));
    assert_true (ef_window_floor (recovered) <= ef_window_floor (live));
    assert_int_equal (ef_window_count (live), ef_window_count (recovered));
}

static void
s_live (log_t *self, uint32_t ids) {
    for (unsigned operation = 0; operation < 4000; operation++) {
        self->rule.now_ms += s_below (20);
        s_publish (self, ids);
        if (s_below (50) == 0) {
            self->newest++;
            if (self->newest - self->oldest > 6) {
                s_clean (self, ids);
            }
        }
        if (self->checkpoint != UINT32_MAX || operation > 2000 + s_below (1500)) {
            s_step_checkpoint (self);
        }
    }
    while (!self->walk.is_done) {
        s_step_checkpoint (self);
    }
}

static void
test_windows_recovered_with_and_without_a_checkpoint_are_the_same (void **state) {
    (void)state;
    for (unsigned round = 0; round < 12; round++) {
        uint32_t most = round % 3 == 0 ? 3000 : round % 3 == 1 ? 20000 : 1000000;
        uint32_t ids = round % 2 ? 1000000 : 30000;
        log_t log = {.oldest = 1,
                     .newest = 2,
                     .checkpoint = UINT32_MAX,
                     .window = ef_window_new (),
                     .records = calloc (RECORDS_MAX, sizeof (record_t)),
                     .walked = calloc (RECORDS_MAX, sizeof (ef_known_t)),
                     .rule = {START, round % 4 < 2 ? 4000 : 15000, most}};
        s_live (&log, ids);
        while (ef_window_expire (log.window, &log.rule, 1000)) {
        }
        ef_window_t *by_checkpoint = s_recover (&log, true);
        ef_window_t *by_log = s_recover (&log, false);
        assert_true (ef_window_count (log.window) > 1000);
        assert_true (most > 3000 || ef_window_count (log.window) == most);
        s_compare_windows (&log, log.window, by_checkpoint);
        s_compare_windows (&log, log.window, by_log);
        ef_window_destroy (&log.window);
        ef_window_destroy (&by_checkpoint);
        ef_window_destroy (&by_log);
        free (log.walked);
        free (log.records);
    }
}

static void
test_a_restored_id_keeps_its_latest_acceptance_and_segment (void **state) {
    (void)state;
    ef_window_t *window = ef_window_new ();
    ef_window_rule_t rule = {START + 500, 1000, 100};
    ef_known_t known = {s_print (1), START, 7};
    ef_window_restore (window, &known, false, &rule);
    known.segment = 9;
    ef_window_restore (window, &known, true, &rule);
    known.segment = 8;
    ef_window_restore (window, &known, true, &rule);
    known = (ef_known_t){s_print (1), START - 400, 10}; /* an acceptance before */
    ef_window_restore (window, &known, true, &rule);
    ef_window_walk_t walk = {.segment = UINT32_MAX};
    assert_int_equal (ef_window_walk (window, &walk, &rule, &known, 1), 1);
    assert_true (known.accepted_ms == START && known.segment == 9);
    known = (ef_known_t){s_print (1), START + 400, 8}; /* accepted again after its window */
    ef_window_restore (window, &known, false, &rule);
    rule.now_ms = START + 1300;
    assert_true (ef_window_has (window, s_print (1), &rule));
    assert_int_equal (ef_window_count (window), 1);
    known = (ef_known_t){s_print (2), START + 300, 8};
    ef_window_restore (window, &known, false, &rule); /* is over */
    assert_int_equal (ef_window_count (window), 1);
    ef_window_check (window);
    ef_window_destroy (&window);
}

/* ---- Clocks that jump, logs out of order ---- */

/* Known where it is after the floor and not over; never where it is over or was never accepted.
   `truth`: the latest acceptance of each, 0: never. */
static void
s_judge (const ef_window_t *window, const uint64_t *truth, const ef_window_rule_t *rule) {
    ef_window_check (window);
    assert_true (ef_window_count (window) <= rule->most);
    for (uint32_t id = 0; id < IDS; id++) {
        bool is_over = truth[id] == 0 || truth[id] + rule->window_ms <= rule->now_ms;
        bool is_known = ef_window_has (window, s_print (id), rule);
        assert_false (is_over && is_known);
        assert_true (is_over || is_known || truth[id] <= ef_window_floor (window));
    }
}

static void
test_each_id_is_judged_by_its_own_time_whatever_the_order (void **state) {
    (void)state;
    for (unsigned round = 0; round < 40; round++) {
        ef_window_t *window = ef_window_new ();
        uint64_t truth[IDS] = {0};
        uint32_t span = round % 2 ? 10000 : UINT32_MAX;
        ef_window_rule_t rule = {START + span, span / 2, round % 3 ? IDS : 200};
        uint64_t latest = rule.now_ms;
        for (unsigned operation = 0; operation < 5000; operation++) {
            uint32_t id = s_below (IDS);
            if (operation % 500 == 0) {
                rule.now_ms = START + s_below (span);
            }
            if (s_below (4)) {
                ef_known_t known = {s_print (id), START - span / 2 + s_below (span), 1};
                ef_window_restore (window, &known, s_below (4), &rule);
                truth[id] = s_later (truth[id], known.accepted_ms);
            } else if (ef_window_add (window, s_print (id), 2, &rule)) {
                truth[id] = rule.now_ms;
            }
            latest = s_later (latest, rule.now_ms);
            if (operation % 250 == 0) {
                ef_window_expire (window, &rule, UINT32_MAX);
                s_judge (window, truth, &rule);
            }
        }
        rule.now_ms = latest + span;
        ef_window_expire (window, &rule, UINT32_MAX);
        assert_int_equal (ef_window_count (window), 0);
        ef_window_destroy (&window);
    }
}

static void
test_ids_accepted_over_and_over_in_a_log_take_bounded_memory (void **state) {
    (void)state;
    ef_window_t *window = ef_window_new ();
    ef_window_rule_t rule = {START + DAY_MS, (uint32_t)DAY_MS, 1000};
    ef_known_t known = {s_print (0), START + 1, 1};
    ef_window_restore (window, &known, false, &rule); /* stays, in front of all the holes */
    for (uint32_t i = 0; i < 300000; i++) {
        known = (ef_known_t){s_print (1 + i % 500), START + 2 + i, 1};
        ef_window_restore (window, &known, false, &rule);
    }
    assert_true (ef_window_bytes (window) < 1000000);
    assert_true (ef_window_count (window) >= 500);
    ef_window_check (window);
    ef_window_destroy (&window);
}

/* Also in recovery, from the events' records. */
static void
test_a_clock_set_back_keeps_the_order_of_acceptance (void **state) {
    (void)state;
    ef_window_t *window = ef_window_new ();
    ef_window_t *recovered = ef_window_new ();
    ef_window_rule_t rule = {START, 60000, 100};
    for (uint32_t id = 0; id < 300; id++) {
        rule.now_ms = id == 150 ? START - 10 * DAY_MS : rule.now_ms + 1;
        assert_true (ef_window_add (window, s_print (id), 1, &rule));
        ef_window_expire (window, &rule, 0);
        ef_known_t known = {s_print (id), rule.now_ms, 1};
        ef_window_restore (recovered, &known, false, &rule);
    }
    for (uint32_t id = 0; id < 300; id++) { /* the last hundred, not those with the latest times */
        assert_int_equal (ef_window_has (window, s_print (id), &rule), id >= 200);
        assert_int_equal (ef_window_has (recovered, s_print (id), &rule), id >= 200);
    }
    ef_window_check (window);
    ef_window_destroy (&window);
    ef_window_destroy (&recovered);
}

/* ---- Limits ---- */

static void
test_a_lower_limit_forgets_in_order_of_time (void **state) {
    (void)state;
    enum { RUNS = 8, EACH = 1000 };
    ef_window_t *window = ef_window_new ();
    ef_window_rule_t rule = {START + 50000, 60000, 10000};
    for (uint32_t i = 0; i < RUNS * EACH; i++) {
        uint32_t age = i % RUNS * EACH + EACH - 1 - i / RUNS; /* as a number of younger ids */
        ef_known_t known = {s_print (age), START + 10000 - age, 1};
        ef_window_restore (window, &known, true, &rule);
    }
    for (rule.most = RUNS * EACH - 500; rule.most > 0; rule.most -= 500) {
        assert_true (ef_window_expire (window, &rule, 499));
        assert_false (ef_window_expire (window, &rule, 1));
        for (uint32_t age = 0; age < RUNS * EACH; age++) {
            assert_int_equal (ef_window_has (window, s_print (age), &rule), age < rule.most);
        }
    }
    ef_window_destroy (&window);
}

static void
test_a_million_ids_take_40_bytes_each_also_while_it_grows (void **state) {
    (void)state;
    enum { COUNT = 1000000 };
    ef_window_t *window = ef_window_new ();
    ef_window_rule_t rule = {START, 60000, COUNT};
    for (uint32_t id = 0; id < COUNT; id++) {
        assert_true (ef_window_add (window, s_print (id), 1, &rule));
        if (id % 1000 == 999) {
            ef_window_expire (window, &rule, 0);
            rule.now_ms++;
        }
        size_t bytes = ef_window_bytes (window);
        assert_true (id < 20000 || bytes <= 40 * ((size_t)id + 1));
    }
    print_message ("%.1f bytes an id\n", (double)ef_window_bytes (window) / COUNT);
    ef_window_check (window);
    for (uint32_t id = COUNT; id < COUNT + COUNT / 2; id++) { /* each takes another's place */
        assert_true (ef_window_add (window, s_print (id), 1, &rule));
        ef_window_expire (window, &rule, 0);
    }
    assert_int_equal (ef_window_count (window), COUNT);
    assert_true (ef_window_bytes (window) <= 40 * (size_t)COUNT);
    rule.now_ms += 60000;
    while (ef_window_expire (window, &rule, 1000)) {
    }
    assert_true (ef_window_bytes (window) < 100000);
    ef_window_destroy (&window);
    ef_window_destroy (&window); /* tolerates NULL */
}

int
main (int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_window_agrees_with_a_queue),
        cmocka_unit_test (test_windows_recovered_with_and_without_a_checkpoint_are_the_same),
        cmocka_unit_test (test_a_restored_id_keeps_its_latest_acceptance_and_segment),
        cmocka_unit_test (test_each_id_is_judged_by_its_own_time_whatever_the_order),
        cmocka_unit_test (test_ids_accepted_over_and_over_in_a_log_take_bounded_memory),
        cmocka_unit_test (test_a_clock_set_back_keeps_the_order_of_acceptance),
        cmocka_unit_test (test_a_lower_limit_forgets_in_order_of_time),
        cmocka_unit_test (test_a_million_ids_take_40_bytes_each_also_while_it_grows),
    };
    s_state = argc > 1 ? strtoull (argv[1], NULL, 10) : ((uint64_t)time (NULL) | 1);
    print_message ("seed %llu\n", (unsigned long long)s_state);
    return cmocka_run_group_tests (tests, NULL, NULL);
}
