/* Patterns, waits between attempts, rules by code, retry budgets. SPDX-License-Identifier: MIT */
#include "dice.h"

#include "../../broker/core/pattern.h"
#include "../../broker/core/policy.h"
#include "../../proto/buf.h"

static bool
s_matches (const char *pattern, const char *text) {
    return ef_pattern_matches (pattern, text, strlen (text));
}

static void
test_pattern_means_what_a_shell_means (void **state) {
    (void)state;
    assert_true (s_matches ("", ""));
    assert_false (s_matches ("", "a"));
    assert_false (s_matches ("a", ""));
    assert_true (s_matches ("*", ""));
    assert_true (s_matches ("***", "abc"));
    assert_true (s_matches ("429", "429"));
    assert_false (s_matches ("429", "4290"));
    assert_false (s_matches ("429", "42"));
    assert_true (s_matches ("5*", "5"));
    assert_true (s_matches ("5*", "550 5.1.1"));
    assert_false (s_matches ("5*", "450"));
    assert_true (s_matches ("5??", "550"));
    assert_false (s_matches ("5??", "55"));
    assert_false (s_matches ("?", ""));
    assert_false (s_matches ("bad", "BAD"));
    assert_true (s_matches ("user.*.done", "user.a.b.done"));
    assert_true (s_matches ("*ab", "aab"));
    assert_false (s_matches ("*ab", "aba"));
}

static void
test_pattern_takes_any_bytes_and_stays_in_them (void **state) {
    (void)state;
    guarded_t text = guard ("a\0\xff*", 4);
    assert_true (ef_pattern_matches ("a??*", (char *)text.bytes, 4));
    assert_true (ef_pattern_matches ("a*", (char *)text.bytes, 4));
    assert_false (ef_pattern_matches ("a", (char *)text.bytes, 4)); /* no end at the NUL */
    assert_false (ef_pattern_matches ("a??*x", (char *)text.bytes, 4));
    assert_true (ef_pattern_matches ("*", NULL, 0));
    unguard (&text);
}

/* The definition, slow. */
static bool
s_matches_slowly (const char *pattern, const char *text, size_t size) {
    if (*pattern == 0) {
        return size == 0;
    }
    if (*pattern == '*') {
        return s_matches_slowly (pattern + 1, text, size) ||
               (size > 0 && s_matches_slowly (pattern, text + 1, size - 1));
    }
    return size > 0 && (*pattern == '?' || *pattern == *text) &&
           s_matches_slowly (pattern + 1, text + 1, size - 1);
}

static void
test_pattern_agrees_with_its_definition (void **state) {
    (void)state;
    for (unsigned round = 0; round < 100000; round++) {
        char pattern[9];
        char text[10];
        unsigned length = dice_below (sizeof pattern);
        unsigned size = dice_below (sizeof text);
        for (unsigned i = 0; i < length; i++) {
            pattern[i] = "ab?*"[dice_below (4)];
        }
        pattern[length] = 0;
        for (unsigned i = 0; i < size; i++) {
            text[i] = "ab"[dice_below (2)];
        }
        assert_int_equal (ef_pattern_matches (pattern, text, size),
                          s_matches_slowly (pattern, text, size));
    }
}

static void
test_pattern_of_many_stars_ends_soon (void **state) {
    (void)state;
    static char text[1 << 20];
    memset (text, 'a', sizeof text);
    char pattern[64];
    for (unsigned i = 0; i < 62; i += 2) {
        memcpy (pattern + i, "*a", 2);
    }
    memcpy (pattern + 60, "*b", 3);
    assert_false (ef_pattern_matches (pattern, text, sizeof text)); /* else ctest's time is over */
}

static uint64_t
s_wait (ef_policy_t policy, uint32_t attempt, uint64_t random) {
    return ef_policy_wait_ms (&policy, attempt, random);
}

static void
test_wait_without_jitter_follows_its_kind (void **state) {
    (void)state;
    ef_policy_t policy = {
        .kind = EF_POLICY_EXPONENTIAL, .base_ms = 100, .cap_ms = 5000, .factor = 3};
    static const uint64_t exponential[] = {100, 300, 900, 2700, 5000, 5000};
    static const uint64_t linear[] = {100, 200, 300, 400, 500, 600};
    for (uint32_t i = 0; i < 6; i++) {
        policy.kind = EF_POLICY_EXPONENTIAL;
        assert_true (s_wait (policy, i + 1, dice ()) == exponential[i]);
        policy.kind = EF_POLICY_LINEAR;
        assert_true (s_wait (policy, i + 1, dice ()) == linear[i]);
        policy.kind = EF_POLICY_FIXED;
        assert_true (s_wait (policy, i + 1, dice ()) == 100);
    }
    policy.cap_ms = 50;
    assert_true (s_wait (policy, 1, dice ()) == 50);
}

static void
test_wait_stays_within_its_bounds (void **state) {
    (void)state;
    for (unsigned round = 0; round < 200000; round++) {
        ef_policy_t policy = {.kind = (ef_policy_kind_t)dice_below (EF_POLICY_COUNT),
                              .base_ms = (uint32_t)(dice () >> (32 + dice_below (32))),
                              .cap_ms = (uint32_t)(dice () >> (32 + dice_below (32))),
                              .factor = 1 + dice_below (9901) / 100.0,
                              .jitter = dice_below (101) / 100.0};
        uint32_t attempt = dice_below (1001);
        ef_policy_t plain = policy;
        plain.jitter = 0;
        uint64_t wait = s_wait (policy, attempt, dice ());
        uint64_t cap = policy.cap_ms ? policy.cap_ms : 1;
        assert_true (wait >= 1 && wait <= cap);
        if (policy.kind == EF_POLICY_RANDOM) {
            assert_true (wait >= policy.base_ms || policy.base_ms > policy.cap_ms);
            continue;
        }
        uint64_t most = s_wait (plain, attempt, 0);
        assert_true (wait <= most && wait >= most / 10);
        assert_true ((double)wait >= (double)most * (1 - policy.jitter) - 1);
    }
}

static void
test_wait_reaches_both_ends (void **state) {
    (void)state;
    ef_policy_t policy = {.kind = EF_POLICY_FIXED, .base_ms = 1000, .cap_ms = 9000, .jitter = 0.5};
    assert_true (s_wait (policy, 1, 0) == 500);
    assert_true (s_wait (policy, 1, 500) == 1000);
    policy.jitter = 1;
    assert_true (s_wait (policy, 1, 0) == 100);
    assert_true (s_wait (policy, 1, 900) == 1000);
    policy.kind = EF_POLICY_RANDOM;
    assert_true (s_wait (policy, 7, 0) == 1000);
    assert_true (s_wait (policy, 7, 8000) == 9000);
}

static void
test_wait_of_extreme_settings_is_a_number (void **state) {
    (void)state;
    ef_policy_t policy = {
        .kind = EF_POLICY_EXPONENTIAL, .base_ms = UINT32_MAX, .cap_ms = UINT32_MAX, .factor = 100};
    assert_true (s_wait (policy, 1000, 0) == UINT32_MAX);
    policy.kind = EF_POLICY_LINEAR;
    assert_true (s_wait (policy, UINT32_MAX, 0) == UINT32_MAX);
    policy.base_ms = policy.cap_ms = 0;
    policy.kind = EF_POLICY_EXPONENTIAL;
    assert_true (s_wait (policy, 1000, 5) == 1);
}

static void
test_rules_are_found_by_code (void **state) {
    (void)state;
    static const ef_rule_t rules[] = {
        {.pattern = "65", .is_permanent = true},
        {.pattern = "-*", .is_permanent = true},
        {.pattern = "nil"},
        {.pattern = "4?9"},
        {.pattern = "BAD_*"},
        {.pattern = "*"},
    };
    static const struct {
        const char *text; /* NULL: `number` */
        int64_t number;
        int rule;
    } codes[] = {{NULL, 65, 0},
                 {"65", 0, 0},
                 {NULL, -3, 1},
                 {NULL, INT64_MIN, 1},
                 {"nil", 0, 2},
                 {NULL, 429, 3},
                 {"BAD_ADDRESS", 0, 4},
                 {"bad_address", 0, 5},
                 {NULL, 650, 5},
                 {NULL, 4291, 5},
                 {"", 0, -1}};
    for (unsigned i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        ef_buf_t buf = {0};
        if (codes[i].text) {
            ef_put_str (&buf, codes[i].text);
        } else {
            ef_put_int (&buf, codes[i].number);
        }
        ef_span_t code = {(char *)buf.data, (uint32_t)buf.size};
        assert_ptr_equal (ef_rules_find (rules, 6, code),
                          codes[i].rule < 0 ? NULL : &rules[codes[i].rule]);
        assert_null (ef_rules_find (rules, 0, code));
        ef_buf_free (&buf);
    }
    assert_null (ef_rules_find (rules, 6, (ef_span_t){NULL, 0}));
    assert_null (ef_rules_find (rules, 6, (ef_span_t){"\xc0", 1})); /* nil */
    assert_null (ef_rules_find (rules, 6, (ef_span_t){"\x80", 1})); /* a map */
    assert_null (ef_rules_find (rules, 6, (ef_span_t){"\xd9", 1})); /* cut off */
    assert_ptr_equal (
        ef_rules_find (rules, 6, (ef_span_t){"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9}),
        &rules[5]); /* over an int64 */
    assert_string_equal (ef_policy_name (EF_POLICY_LINEAR), "linear");
}

static void
test_budget_allows_a_share_and_the_floor (void **state) {
    (void)state;
    ef_budget_t budget = {0};
    assert_true (ef_budget_take (&budget, 0.2, 5000)); /* the floor */
    assert_false (ef_budget_take (&budget, 0.2, 5999));
    assert_true (ef_budget_next_ms (&budget, 0.2, 5999) == 6000);
    for (unsigned i = 0; i < 4; i++) {
        ef_budget_earn (&budget, 0.2);
        assert_false (ef_budget_take (&budget, 0.2, 5999));
    }
    ef_budget_earn (&budget, 0.2);
    assert_true (ef_budget_next_ms (&budget, 0.2, 5999) == 5999);
    assert_true (ef_budget_take (&budget, 0.2, 5999)); /* five firsts: one retry */
    assert_false (ef_budget_take (&budget, 0.2, 6998));
    assert_true (ef_budget_take (&budget, 0.2, 6999));
    assert_true (ef_budget_take (&budget, 0, 6999)); /* no bound */
    assert_true (ef_budget_next_ms (&budget, 0, 6999) == 6999);
}

/* Retries never exceed the share of the firsts, one a second and what may be saved up; and who asks
   again at the time that was named gets one. */
static void
test_budget_holds_at_random (void **state) {
    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        double share = (1 + dice_below (300)) / 100.0;
        ef_budget_t budget = {0};
        uint64_t now = 1;
        uint64_t last = 0;
        uint64_t firsts = 0;
        uint64_t retries = 0;
        for (unsigned i = 0; i < 5000; i++) {
            now += dice_below (50);
            if (dice_below (2)) {
                ef_budget_earn (&budget, share);
                firsts++;
            } else if (ef_budget_take (&budget, share, now)) {
                retries++;
                last = now;
            } else {
                uint64_t next = ef_budget_next_ms (&budget, share, now);
                ef_budget_t later = budget;
                assert_true (next > now && next <= last + EF_BUDGET_FLOOR_MS);
                assert_true (ef_budget_take (&later, share, next));
            }
            assert_true ((double)retries <= share * (double)firsts + (double)now / 1000 + 1.001);
        }
    }
}

static void
test_budget_saves_up_to_its_bound (void **state) {
    (void)state;
    ef_budget_t budget = {0};
    unsigned taken = 0;
    for (unsigned i = 0; i < 100000; i++) {
        ef_budget_earn (&budget, 0.1);
    }
    while (ef_budget_take (&budget, 0.1, 7)) {
        taken++;
    }
    assert_int_equal (taken, EF_BUDGET_FIRSTS / 10);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_pattern_means_what_a_shell_means),
        cmocka_unit_test (test_pattern_takes_any_bytes_and_stays_in_them),
        cmocka_unit_test (test_pattern_agrees_with_its_definition),
        cmocka_unit_test (test_pattern_of_many_stars_ends_soon),
        cmocka_unit_test (test_wait_without_jitter_follows_its_kind),
        cmocka_unit_test (test_wait_stays_within_its_bounds),
        cmocka_unit_test (test_wait_reaches_both_ends),
        cmocka_unit_test (test_wait_of_extreme_settings_is_a_number),
        cmocka_unit_test (test_rules_are_found_by_code),
        cmocka_unit_test (test_budget_allows_a_share_and_the_floor),
        cmocka_unit_test (test_budget_holds_at_random),
        cmocka_unit_test (test_budget_saves_up_to_its_bound),
    };
    return cmocka_run_group_tests (tests, dice_seed, NULL);
}
