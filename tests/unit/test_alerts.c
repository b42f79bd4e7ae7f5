/* Alerts with hysteresis, what they are told as, and what looks bad. SPDX-License-Identifier: MIT
 */
#include "unit.h"

#include "../../clients/monitor/notify.h"
#include "../../clients/monitor/rules.h"
#include "../../proto/json.h"

#include <stdio.h>
#include <stdlib.h>

static const alerts_options_t s_options = {.clear_ms = 5000, .repeat_ms = 60000, .reminders = 3};
static const alert_rule_t s_rule = {"oldest_age", "warning"};

typedef struct {
    alerts_t alerts;
    uint64_t now_ms;
} watch_t;

/* A second later it looks so; returns the one change there was, -1: none. */
static int
s_second (watch_t *self, alert_look_t look) {
    const alert_sight_t sight = {
        .rule = &s_rule, .topic = "email", .look = look, .value = 7, .for_ms = 3000, .text = "old"};
    self->now_ms += 1000;
    alerts_begin (&self->alerts, self->now_ms, 1000000 + self->now_ms);
    alerts_see (&self->alerts, &sight);
    alerts_end (&self->alerts, true);
    assert_true (self->alerts.news_count <= 1);
    return self->alerts.news_count ? (int)self->alerts.news[0].change : -1;
}

static void
s_begin (watch_t *self) {
    memset (self, 0, sizeof *self);
    alerts_init (&self->alerts, &s_options);
}

static void
test_alert_fires_after_a_while_and_ends_after_a_while (void **state) {
    watch_t self;
    (void)state;
    s_begin (&self);
    assert_int_equal (s_second (&self, ALERT_GOOD), -1);
    assert_int_equal (s_second (&self, ALERT_BAD), ALERT_PENDED);
    assert_int_equal (s_second (&self, ALERT_GOOD), ALERT_DROPPED); /* too short */
    assert_int_equal (s_second (&self, ALERT_BAD), ALERT_PENDED);
    assert_int_equal (s_second (&self, ALERT_BAD), -1);
    assert_int_equal (s_second (&self, ALERT_BETWEEN), -1);
    assert_int_equal (s_second (&self, ALERT_BAD), ALERT_RAISED); /* 3 s after it began */
    assert_int_equal (alerts_firing (&self.alerts), 1);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal (s_second (&self, ALERT_GOOD), -1);
    }
    assert_int_equal (s_second (&self, ALERT_BETWEEN), -1); /* good no longer: it begins anew */
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal (s_second (&self, ALERT_GOOD), -1);
    }
    assert_int_equal (s_second (&self, ALERT_GOOD), ALERT_CLEARED);
    assert_int_equal (self.alerts.news[0].alert.state, ALERT_ENDED);
    assert_int_equal (self.alerts.news[0].alert.since_ms, 1004000);
    assert_int_equal (alerts_firing (&self.alerts), 0);
    alerts_free (&self.alerts);
}

/* What goes up and down faster than either time tells nothing. */
static void
test_alert_that_flaps_is_told_once (void **state) {
    watch_t self;
    unsigned told = 0;
    (void)state;
    s_begin (&self);
    for (unsigned i = 0; i < 10; i++) {
        (void)s_second (&self, ALERT_BAD);
    }
    for (unsigned i = 0; i < 50; i++) {
        told += s_second (&self, i % 4 ? ALERT_BAD : ALERT_GOOD) >= 0;
    }
    assert_int_equal (told, 0);
    alerts_free (&self.alerts);
}

/* After 60 s, then 120, then 240, then never again. */
static void
test_alert_reminders_are_bounded (void **state) {
    watch_t self;
    uint64_t raised_ms = 0;
    uint64_t times[8];
    unsigned count = 0;
    (void)state;
    s_begin (&self);
    for (unsigned i = 0; i < 3000; i++) {
        int change = s_second (&self, ALERT_BAD);
        if (change == ALERT_RAISED) {
            raised_ms = self.now_ms;
        } else if (change == ALERT_REMINDED) {
            assert_true (count < 8);
            times[count++] = self.now_ms - raised_ms;
        }
    }
    assert_int_equal (count, 3);
    assert_int_equal (times[0], 60000);
    assert_int_equal (times[1], 180000);
    assert_int_equal (times[2], 420000);
    alerts_free (&self.alerts);
}

static void
test_alert_goes_on_after_a_restart (void **state) {
    watch_t self;
    store_alert_t row = {.rule = "oldest_age",
                         .topic = "email",
                         .state = ALERT_FIRING,
                         .since_ms = 5,
                         .sent_ms = 1000000,
                         .reminders = 1};
    (void)state;
    s_begin (&self);
    alerts_restore (&self.alerts, "warning", &row);
    alerts_restore (&self.alerts, "warning", &row);     /* once is enough */
    assert_int_equal (s_second (&self, ALERT_BAD), -1); /* it was told already */
    assert_int_equal (alerts_firing (&self.alerts), 1);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal (s_second (&self, ALERT_GOOD), -1);
    }
    assert_int_equal (s_second (&self, ALERT_GOOD), ALERT_CLEARED);
    assert_int_equal (self.alerts.news[0].alert.since_ms, 5);
    alerts_free (&self.alerts);
}

/* A topic that is gone takes its alerts with it; a round in which nothing was looked at doesn't. */
static void
test_alert_of_a_topic_that_is_gone_ends (void **state) {
    watch_t self;
    unsigned rounds = 0;
    (void)state;
    s_begin (&self);
    for (unsigned i = 0; i < 5; i++) {
        (void)s_second (&self, ALERT_BAD);
    }
    for (unsigned i = 0; i < 100; i++) {
        self.now_ms += 1000;
        alerts_begin (&self.alerts, self.now_ms, self.now_ms);
        alerts_end (&self.alerts, false);
        assert_int_equal (self.alerts.news_count, 0);
    }
    do {
        self.now_ms += 1000;
        alerts_begin (&self.alerts, self.now_ms, self.now_ms);
        alerts_end (&self.alerts, true);
        rounds++;
        assert_true (rounds < 50);
    } while (self.alerts.news_count == 0);
    assert_int_equal (self.alerts.news[0].change, ALERT_CLEARED);
    assert_true (rounds > 5);
    alerts_free (&self.alerts);
}

static void
test_alerts_are_bounded (void **state) {
    watch_t self;
    (void)state;
    s_begin (&self);
    alerts_begin (&self.alerts, 1000, 1000);
    for (unsigned i = 0; i < ALERTS_MAX + 7; i++) {
        char topic[20];
        snprintf (topic, sizeof topic, "t%u", i);
        const alert_sight_t sight = {.rule = &s_rule, .topic = topic, .look = ALERT_BAD};
        alerts_see (&self.alerts, &sight);
    }
    alerts_end (&self.alerts, true);
    assert_int_equal (alerts_firing (&self.alerts), ALERTS_MAX);
    assert_int_equal (self.alerts.left_out, 7);
    alerts_free (&self.alerts);
}

/* ---- rules ---- */

typedef struct {
    options_t options;
    numbers_t numbers;
    samples_t samples;
    alerts_t alerts;
    uint64_t now_ms;
} monitor_t;

static void
s_open (monitor_t *self) {
    memset (self, 0, sizeof *self);
    options_defaults (&self->options);
    numbers_init (&self->numbers);
    samples_init (&self->samples, NULL, self->options.alert.dead_window_ms);
    self->numbers.forget = samples_forget;
    self->numbers.arg = &self->samples;
    alerts_init (&self->alerts, &s_options);
    self->now_ms = 1000;
}

static void
s_close (monitor_t *self) {
    numbers_free (&self->numbers);
    alerts_free (&self->alerts);
}

/* Takes a message that is written as JSON. */
static void
s_take (monitor_t *self, const char *subject, const char *json) {
    ef_buf_t map = {0};
    const char *why;
    assert_true (ef_json_parse (&map, json, strlen (json), &why) == strlen (json));
    assert_int_equal (numbers_take (&self->numbers,
                                    (ef_span_t){subject, (uint32_t)strlen (subject)},
                                    ef_cursor (map.data, map.size)),
                      0);
    ef_buf_free (&map);
}

/* A round a second later, `seconds` times. True where this rule fires then. */
static bool
s_rounds (monitor_t *self, unsigned seconds, const char *broker, const char *topic, unsigned rule) {
    for (unsigned i = 0; i < seconds; i++) {
        s_take (self, "stats.broker", broker);
        s_take (self, "stats.topic.email", topic);
        self->now_ms += 1000;
        samples_take (&self->samples, &self->numbers, self->now_ms, self->now_ms);
        alerts_begin (&self->alerts, self->now_ms, self->now_ms);
        rules_look (&self->alerts, &self->options.alert, &self->samples, &self->numbers);
        alerts_end (&self->alerts, true);
    }
    const alert_t *alert;
    for (uint32_t at = 0; (alert = ef_hash_next (&self->alerts.table, &at)) != NULL;) {
        if (strcmp (alert->row.rule, rules[rule].name) == 0) {
            return alert->row.state == ALERT_FIRING && alert->row.text[0];
        }
    }
    return false;
}

#define GOOD_BROKER                                                                                \
    "{\"broker\":{\"space\":\"normal\"},\"process\":{\"disk_free_bytes\":9000000000}}"
#define GOOD_TOPIC "{\"topic\":\"email\",\"workers\":1,\"deaths\":{\"attempts\":3},\"oldest_ms\":0}"

static void
test_rules_see_what_is_bad (void **state) {
    const struct {
        unsigned rule;
        const char *broker;
        const char *topic;
        unsigned seconds; /* until it must fire */
    } rows[] = {
        {RULE_DISK, "{\"broker\":{\"space\":\"low\"},\"process\":{}}", GOOD_TOPIC, 1},
        {RULE_DISK, "{\"broker\":{},\"process\":{\"disk_free_bytes\":1000}}", GOOD_TOPIC, 1},
        {RULE_DAMAGED, "{\"broker\":{},\"process\":{\"scrub_damaged\":2}}", GOOD_TOPIC, 1},
        {RULE_DEAD, GOOD_BROKER,
         "{\"topic\":\"email\",\"workers\":1,\"deaths\":{\"attempts\":5,\"expired\":8}}", 1},
        {RULE_OLDEST, GOOD_BROKER, "{\"topic\":\"email\",\"workers\":1,\"oldest_ms\":400000}", 32},
        {RULE_STALL, GOOD_BROKER, "{\"topic\":\"email\",\"workers\":1,\"stalled_ms\":31000}", 1},
        {RULE_NO_WORKER, GOOD_BROKER, "{\"topic\":\"email\",\"workers\":0,\"ready\":1}", 32},
        {RULE_BREAKER, GOOD_BROKER, "{\"topic\":\"email\",\"workers\":1,\"breakers_open\":1}", 12},
        {RULE_UNHEALTHY, GOOD_BROKER, "{\"topic\":\"email\",\"workers\":1,\"unwell\":1}", 12},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        monitor_t self;
        s_open (&self);
        assert_false (s_rounds (&self, 3, GOOD_BROKER, GOOD_TOPIC, rows[i].rule));
        assert_int_equal (alerts_firing (&self.alerts), 0);
        assert_true (
            s_rounds (&self, rows[i].seconds, rows[i].broker, rows[i].topic, rows[i].rule));
        assert_true (rows[i].seconds == 1 || self.now_ms > 11000);
        if (rows[i].rule == RULE_DEAD) { /* deaths count for the window */
            assert_true (s_rounds (&self, 280, GOOD_BROKER, rows[i].topic, RULE_DEAD));
        }
        assert_false (s_rounds (&self, 60, GOOD_BROKER, GOOD_TOPIC, rows[i].rule));
        s_close (&self);
    }
}

/* Slow syncs: one in a hundred over the threshold, for 30 s. */
static void
test_rules_see_slow_syncs (void **state) {
    monitor_t self;
    char broker[600];
    bool is_firing = false;
    (void)state;
    s_open (&self);
    for (unsigned i = 1; i <= 60 && !is_firing; i++) {
        /* each took between 0.26 and 0.52 s: in the step that ends with 64 << 13 µs */
        snprintf (
            broker, sizeof broker,
            "{\"broker\":{},\"process\":{\"disk_free_bytes\":9000000000,\"sync\":{\"count\":%u,"
            "\"sum_us\":%u,\"below\":[0,0,0,0,0,0,0,0,0,0,0,0,0,%u]}}}",
            i, i * 400000, i);
        is_firing = s_rounds (&self, 1, broker, GOOD_TOPIC, RULE_FSYNC);
        assert_true (!is_firing || i > 30);
    }
    assert_true (is_firing);
    s_close (&self);
}

static void
test_rules_tell_what_is_down (void **state) {
    monitor_t self;
    (void)state;
    s_open (&self);
    alerts_begin (&self.alerts, 1000, 1000);
    rules_look_down (&self.alerts, RULE_BROKER_DOWN, true, "no answer to \xff\nSTATUS");
    alerts_end (&self.alerts, false);
    assert_int_equal (self.alerts.news_count, 1);
    assert_int_equal (self.alerts.news[0].change, ALERT_RAISED);
    assert_string_equal (self.alerts.news[0].alert.text,
                         "the broker is down: no answer to ? STATUS");
    s_close (&self);
}

/* ---- what others are told ---- */

static void
test_alert_messages_hold_whatever_a_worker_says (void **state) {
    alert_settings_t settings = {.mail_from = "a@example.org", .mail_to = "b@example.org"};
    const alert_news_t news[] = {
        {ALERT_RAISED, "critical", {.rule = "unhealthy", .topic = "email", .since_ms = 1}},
        {ALERT_PENDED, "warning", {.rule = "stall", .topic = "email", .text = "not told"}},
        {ALERT_CLEARED,
         "warning",
         {.rule = "stall", .topic = "x", .text = "a \"quote\"\r\nBcc: evil@example.org\r\n.\r\n"}}};
    ef_buf_t out = {0};
    ef_buf_t map = {0};
    const char *why;
    (void)state;
    notify_put_webhook (&out, news, 3);
    assert_true (ef_json_parse (&map, (char *)out.data, out.size, &why) == out.size);
    ef_buf_put (&out, "", 1);
    assert_non_null (strstr ((char *)out.data, "\"more\":0"));
    assert_null (strstr ((char *)out.data, "not told"));
    ef_buf_clear (&out);
    notify_put_mail (&out, &settings, &news[2], 1, 1700000000000);
    ef_buf_put (&out, "", 1);
    const char *mail = (const char *)out.data;
    assert_non_null (
        strstr (mail, "\r\nSubject: [eventflow] resolved: stall (warning): a \"quote\""));
    assert_null (strstr (mail, "\nBcc:"));
    assert_null (strstr (mail, "\r\n.\r\n"));
    assert_non_null (strstr (mail, "Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"));
    ef_buf_clear (&out);
    notify_put_event (&out, "alerts", &news[0], 1700000000000);
    ef_cursor_t cursor = ef_cursor (out.data, out.size);
    ef_event_t event;
    assert_int_equal (ef_event_read (&cursor, &event, &why), EF_OK);
    assert_true (ef_span_is (event.type, "eventflow.alert") && event.id.size <= 64);
    ef_buf_free (&out);
    ef_buf_free (&map);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_alert_fires_after_a_while_and_ends_after_a_while),
        cmocka_unit_test (test_alert_that_flaps_is_told_once),
        cmocka_unit_test (test_alert_reminders_are_bounded),
        cmocka_unit_test (test_alert_goes_on_after_a_restart),
        cmocka_unit_test (test_alert_of_a_topic_that_is_gone_ends),
        cmocka_unit_test (test_alerts_are_bounded),
        cmocka_unit_test (test_rules_see_what_is_bad),
        cmocka_unit_test (test_rules_see_slow_syncs),
        cmocka_unit_test (test_rules_tell_what_is_down),
        cmocka_unit_test (test_alert_messages_hold_whatever_a_worker_says),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
