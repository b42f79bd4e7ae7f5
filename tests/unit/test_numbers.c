/* Numbers: read, rates, Prometheus' text, lines of InfluxDB. SPDX-License-Identifier: MIT */
#include "dice.h"
#include "unit.h"

#include "../../clients/monitor/influx.h"
#include "../../clients/monitor/lines.h"
#include "../../clients/monitor/snapshot.h"
#include "../../clients/web/prometheus.h"
#include "../../proto/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static int
s_take (numbers_t *self, const char *subject, const char *json) {
    ef_buf_t map = {0};
    const char *why;
    assert_true (ef_json_parse (&map, json, strlen (json), &why) == strlen (json));
    int rc = numbers_take (self, (ef_span_t){subject, (uint32_t)strlen (subject)},
                           ef_cursor (map.data, map.size));
    ef_buf_free (&map);
    return rc;
}

static void
s_round (numbers_t *self) {
    assert_int_equal (
        s_take (self, "stats.broker",
                "{\"broker\":{\"broker\":\"b\",\"refused\":{\"FULL\":3},\"space\":\"normal\"},"
                "\"process\":{\"version\":\"1\",\"sync_us\":1500,\"config_ms\":2500,"
                "\"config_ok\":false}}"),
        0);
}

static const char s_topic[] =
    "{\"topic\":\"email\",\"paused\":true,\"ready\":5,\"accepted\":10,\"done\":3,\"dead\":2,"
    "\"redelivered\":4,\"oldest_ms\":900,\"breakers_open\":2,"
    "\"failures\":{\"error\":3,\"lease\":1,\"unheard_of\":8},"
    "\"deaths\":{\"attempts\":1,\"poison\":1,\"unheard_of\":8},"
    "\"unheard_of\":[1,2,{\"a\":null}],\"took\":{\"count\":4,\"sum_ms\":20,\"below\":[1,3,4]}}";

static void
test_numbers_are_read_and_forgotten (void **state) {
    numbers_t numbers;
    (void)state;
    numbers_init (&numbers);
    s_round (&numbers);
    assert_int_equal (s_take (&numbers, "stats.topic.email", s_topic), 0);
    assert_int_equal (s_take (&numbers, "stats.pool.email",
                              "{\"topic\":\"email\",\"managed\":true,\"desired\":4,"
                              "\"oldest_ms\":700}"),
                      0);
    assert_int_equal (s_take (&numbers, "stats.worker.w",
                              "{\"worker\":\"w\",\"topics\":[\"email\"],\"credit\":5,"
                              "\"in_flight\":2,\"healthy\":false,\"unhealthy\":\"why\"}"),
                      0);
    const numbers_topic_t *topic = numbers_topic (&numbers, "email");
    assert_non_null (topic);
    assert_true (topic->ready == 5 && topic->is_paused && topic->died == 2);
    assert_true (topic->oldest_ms == 900 && topic->breakers_open == 2 && topic->redelivered == 4);
    assert_true (topic->failures.error == 3 && topic->failures.lease == 1 &&
                 topic->failures.timeout == 0);
    assert_true (topic->deaths.attempts == 1 && topic->deaths.poison == 1);
    assert_true (topic->took.steps == 3 && topic->took.first == 2);
    assert_true (numbers.broker.sync_us == 1500 && numbers.broker.refused_count == 1);
    assert_int_equal (
        s_take (&numbers, "stats.topic.$invalid", "{\"topic\":\"$invalid\",\"dead\":3}"), 0);
    assert_int_equal (s_take (&numbers, "stats.topic.$", "{\"topic\":\"$\"}"), -1);
    assert_int_equal (numbers_topic (&numbers, "$invalid")->dead, 3); /* the broker's own */
    for (unsigned i = 0; i < NUMBERS_MISSED_MAX; i++) {
        s_round (&numbers);
        numbers_sweep (&numbers);
        assert_int_equal (numbers.topics.count, 2);
    }
    s_round (&numbers);
    numbers_sweep (&numbers);
    assert_int_equal (numbers.topics.count + numbers.workers.count + numbers.pools.count, 0);
    numbers_free (&numbers);
}

/* What no broker of ours says; a table's key is never written over. */
static void
test_numbers_names_are_kept_as_they_were_taken (void **state) {
    numbers_t numbers;
    (void)state;
    numbers_init (&numbers);
    s_round (&numbers);
    assert_int_equal (
        s_take (&numbers, "stats.topic.email", "{\"topic\":\"email\",\"topic\":\"x\"}"), 0);
    assert_int_equal (
        s_take (&numbers, "stats.worker.w",
                "{\"worker\":\"w\",\"worker\":\"x\",\"topics\":[\"a\\\"b\"],\"healthy\":false,"
                "\"unhealthy\":\"two\\nlines\"}"),
        0);
    assert_non_null (numbers_topic (&numbers, "email"));
    const numbers_worker_t *worker = ef_hash_find (&numbers.workers, "w", 1);
    assert_non_null (worker);
    assert_string_equal (worker->topic, "");
    assert_string_equal (worker->unhealthy, "two lines");
    assert_int_equal (s_take (&numbers, "stats.topic.x", "{\"topic\":\"a\\\"b\"}"), -1);
    assert_int_equal (s_take (&numbers, "stats.worker.x", "{\"worker\":\"a\\nb\"}"), -1);
    assert_int_equal (s_take (&numbers, "stats.worker.x", "{\"worker\":{\"$bin\":\"/w==\"}}"), -1);
    assert_int_equal (
        s_take (&numbers, "stats.broker",
                "{\"broker\":{\"refused\":{\"A\":1,\"A\":2,\"b\\n\":3}},\"process\":{}}"),
        0);
    assert_int_equal (numbers.broker.refused_count, 1);
    numbers_notice (&numbers, (ef_span_t){"a\nb", 3});
    numbers_notice (&numbers, (ef_span_t){"a", 1});
    numbers_notice (&numbers, (ef_span_t){"a", 1});
    assert_true (numbers.notice_count == 1 && numbers.notices[0].count == 2);
    for (unsigned i = 0; i <= NUMBERS_MISSED_MAX; i++) {
        s_round (&numbers);
        numbers_sweep (&numbers);
    }
    assert_int_equal (numbers.topics.count + numbers.workers.count, 0);
    numbers_free (&numbers);
}

static void
test_numbers_that_cannot_be_read_change_nothing (void **state) {
    const char *const bad[] = {"[]", "{}", "{\"topic\":7}", "{\"topic\":\"\"}",
                               ("{\"topic\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                                "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}")};
    numbers_t numbers;
    (void)state;
    numbers_init (&numbers);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal (s_take (&numbers, "stats.topic.email", bad[i]), -1);
    }
    assert_int_equal (s_take (&numbers, "stats.broker", "{\"broker\":1,\"process\":{}}"), -1);
    assert_int_equal (s_take (&numbers, "stats.other", "{}"), 1);
    ef_buf_t map = {0};
    const char *why;
    assert_true (ef_json_parse (&map, s_topic, strlen (s_topic), &why) > 0);
    for (size_t size = 0; size < map.size; size++) { /* every prefix, every byte changed */
        guarded_t part = guard (map.data, size);
        assert_int_equal (numbers_take (&numbers, (ef_span_t){"stats.topic.email", 17},
                                        ef_cursor (part.bytes, size)),
                          -1);
        unguard (&part);
        part = guard (map.data, map.size);
        part.bytes[size] ^= (uint8_t)(1u << dice_below (8));
        (void)!numbers_take (&numbers, (ef_span_t){"stats.topic.email", 17},
                             ef_cursor (part.bytes, map.size));
        unguard (&part);
    }
    ef_buf_free (&map);
    numbers_free (&numbers);
}

static void
test_numbers_steps_give_quantiles_and_differences (void **state) {
    numbers_histogram_t old = {.steps = 3, .first = 2, .below = {1, 3, 4}, .count = 4, .sum = 20};
    numbers_histogram_t now = {
        .steps = 3, .first = 2, .below = {1, 13, 24}, .count = 24, .sum = 90};
    numbers_histogram_t since;
    (void)state;
    numbers_since (&now, &old, &since);
    assert_true (since.count == 20 && since.below[0] == 0 && since.below[1] == 10);
    assert_true (since.sum == 70);
    assert_true (fabs (numbers_quantile (&since, 0.5) - 4) < 1e-9); /* 10 of 20 are below 4 */
    assert_true (fabs (numbers_quantile (&since, 0.25) - 3) < 1e-9);
    assert_true (fabs (numbers_quantile (&since, 1) - 8) < 1e-9);
    numbers_since (&old, &now, &since); /* it counts anew */
    assert_true (since.count == 4 && since.below[2] == 4);
    since.count = 10; /* six are past the last step */
    assert_true (numbers_quantile (&since, 0.99) == 8);
    assert_true (numbers_quantile (&(numbers_histogram_t){0}, 0.5) == 0);
}

static void
test_samples_make_rates (void **state) {
    numbers_t numbers;
    samples_t samples;
    (void)state;
    numbers_init (&numbers);
    samples_init (&samples, NULL, 300000);
    numbers.forget = samples_forget;
    numbers.arg = &samples;
    const char *const rounds[] = {
        "{\"topic\":\"a\",\"accepted\":1000,\"done\":900,\"deaths\":{\"attempts\":50}}",
        "{\"topic\":\"a\",\"accepted\":1500,\"done\":910,\"deaths\":{\"attempts\":51,\"quota\":2}}",
        "{\"topic\":\"a\",\"accepted\":20,\"done\":910,\"deaths\":{\"expired\":1}}", /* began anew
                                                                                      */
    };
    const double in[] = {0, 250, 10};
    const double dead[] = {0, 1.5, 0.5};
    const uint64_t died[] = {0, 3, 4};
    for (unsigned i = 0; i < 3; i++) {
        s_round (&numbers);
        assert_int_equal (s_take (&numbers, "stats.topic.a", rounds[i]), 0);
        samples_take (&samples, &numbers, 1000 + 2000 * i, 5000000);
        const sample_t *sample = numbers_topic (&numbers, "a")->extra;
        assert_true (fabs (sample->rates.in_per_s - in[i]) < 1e-9);
        assert_true (fabs (sample->rates.dead_per_s - dead[i]) < 1e-9);
        assert_true (fabs (samples.rates.in_per_s - in[i]) < 1e-9);
        assert_int_equal (samples_died (sample), died[i]);
    }
    /* After a pause there is nothing to say how fast it was. */
    s_round (&numbers);
    assert_int_equal (s_take (&numbers, "stats.topic.a", rounds[1]), 0);
    samples_take (&samples, &numbers, 60000, 5000000);
    assert_true (samples.rates.in_per_s == 0);
    numbers_free (&numbers);
}

static char *
s_text (ef_buf_t *out) {
    ef_buf_put (out, "", 1);
    return (char *)out->data;
}

static void
test_prometheus_bounds_its_labels (void **state) {
    numbers_t numbers;
    ef_buf_t out = {0};
    (void)state;
    numbers_init (&numbers);
    s_round (&numbers);
    for (unsigned i = 0; i < 30; i++) {
        char map[300];
        snprintf (map, sizeof map,
                  "{\"topic\":\"t%02u\",\"accepted\":%u,\"oldest_ms\":%u,\"redelivered\":%u,"
                  "\"failures\":{\"error\":%u,\"lease\":2},\"deaths\":{\"quota\":%u}}",
                  i, i, i * 1000, i, i, i);
        assert_int_equal (s_take (&numbers, "stats.topic.x", map), 0);
    }
    const prometheus_t source = {.numbers = &numbers, .is_up = true, .topics_max = 10};
    prometheus_put (&out, &source);
    const char *text = s_text (&out);
    assert_non_null (strstr (text, "eventflow_events_published_total{topic=\"t09\"} 9\n"));
    assert_null (strstr (text, "topic=\"t10\""));
    /* sums of counts, the greatest of ages */
    assert_non_null (strstr (text, "eventflow_events_published_total{topic=\"_other\"} 390\n"));
    assert_non_null (
        strstr (text, "eventflow_topic_oldest_event_age_seconds{topic=\"_other\"} 29\n"));
    assert_non_null (strstr (text, "eventflow_events_redelivered_total{topic=\"t09\"} 9\n"));
    assert_non_null (
        strstr (text, "eventflow_events_failed_total{topic=\"t09\",reason=\"error\"} 9\n"));
    assert_non_null (
        strstr (text, "eventflow_events_failed_total{topic=\"_other\",reason=\"lease\"} 40\n"));
    assert_non_null (
        strstr (text, "eventflow_events_failed_total{topic=\"t09\",reason=\"worker_lost\"} 0\n"));
    assert_non_null (
        strstr (text, "eventflow_events_dead_total{topic=\"_other\",reason=\"quota\"} 390\n"));
    assert_non_null (strstr (text, "eventflow_config_last_reload_success 0\n"));
    assert_non_null (strstr (text, "eventflow_config_last_reload_success_timestamp_seconds 2.5\n"));
    assert_non_null (strstr (text, "eventflow_events_refused_total{reason=\"FULL\"} 3\n"));
    assert_non_null (strstr (text, "eventflow_journal_last_sync_seconds 0.0015\n"));
    out.size = 0;
    const char *const patterns[] = {"t1?"};
    assert_int_equal (prometheus_put_detailed (&out, &source, patterns, 1), 10);
    text = s_text (&out);
    assert_non_null (
        strstr (text, "eventflow_detailed_events_published_total{topic=\"t19\"} 19\n"));
    assert_null (strstr (text, "topic=\"t2"));
    out.size = 0;
    const prometheus_t down = {.numbers = &numbers};
    prometheus_put (&out, &down);
    text = s_text (&out);
    assert_non_null (strstr (text, "eventflow_up 0\n"));
    assert_null (strstr (text, "topic"));
    ef_buf_free (&out);
    numbers_free (&numbers);
}

static void
test_prometheus_escapes_labels (void **state) {
    ef_buf_t out = {0};
    (void)state;
    prometheus_label (&out, "a", "x\"y\\z\nw");
    prometheus_label (&out, "b", "");
    assert_string_equal (s_text (&out), "a=\"x\\\"y\\\\z\\nw\",b=\"\"");
    ef_buf_free (&out);
}

static void
test_lines_are_escaped (void **state) {
    ef_buf_t out = {0};
    lines_t line;
    (void)state;
    lines_begin (&line, &out, "my, measure=x");
    lines_tag (&line, "a tag", "v,=\n w\\");
    lines_tag (&line, "empty", "");
    lines_whole (&line, "n", UINT64_MAX);
    lines_real (&line, "r", 0.25);
    lines_real (&line, "left out", NAN);
    lines_text (&line, "t", "say \"hi\" \\ \n x");
    lines_bool (&line, "b", true);
    lines_end (&line, 1700000000123);
    lines_begin (&line, &out, "nothing");
    lines_tag (&line, "a", "b");
    lines_end (&line, 1);
    assert_string_equal (s_text (&out),
                         "my\\,\\ measure=x,a\\ tag=v\\,\\=\\ \\ w\\  "
                         "n=9223372036854775807i,r=0.25,t=\"say \\\"hi\\\" \\\\   x\",b=true "
                         "1700000000123\n");
    ef_buf_free (&out);
}

static void
test_influx_urls_are_of_their_version (void **state) {
    influx_settings_t settings = {.url = "http://h:8086/", .database = "a b&c"};
    ef_buf_t out = {0};
    (void)state;
    influx_put_url (&out, &settings);
    assert_string_equal ((char *)out.data, "http://h:8086/write?db=a%20b%26c&precision=ms");
    ef_buf_clear (&out);
    snprintf (settings.org, sizeof settings.org, "my org");
    snprintf (settings.bucket, sizeof settings.bucket, "b/1");
    influx_put_url (&out, &settings);
    assert_string_equal ((char *)out.data,
                         "http://h:8086/api/v2/write?org=my%20org&bucket=b%2F1&precision=ms");
    ef_buf_free (&out);
}

/* What comes from elsewhere is JSON all the same. */
static void
test_snapshot_is_json (void **state) {
    numbers_t numbers;
    samples_t samples;
    ef_buf_t out = {0};
    ef_buf_t map = {0};
    const char *why;
    (void)state;
    numbers_init (&numbers);
    samples_init (&samples, NULL, 300000);
    numbers.forget = samples_forget;
    numbers.arg = &samples;
    snapshot_put (&out, &numbers, &samples, 1700000000000); /* nothing has come yet */
    assert_true (ef_json_parse (&map, (char *)out.data, out.size, &why) == out.size);
    s_round (&numbers);
    assert_int_equal (s_take (&numbers, "stats.topic.email", s_topic), 0);
    assert_int_equal (
        s_take (&numbers, "stats.worker.w",
                "{\"worker\":\"w\",\"topics\":[],\"unhealthy\":{\"$str\":\"/w==\"},\"started\":7}"),
        0);
    samples_take (&samples, &numbers, 1000, 1700000000000);
    ef_buf_clear (&out);
    snapshot_put (&out, &numbers, &samples, 1700000000000);
    assert_true (ef_json_parse (&map, (char *)out.data, out.size, &why) == out.size);
    const char *text = s_text (&out);
    assert_non_null (strstr (text, "\"started\":\"1970-01-01T00:00:00.007Z\""));
    assert_null (strstr (text, "\"took\""));
    ef_buf_free (&out);
    ef_buf_free (&map);
    numbers_free (&numbers);
}

static void
test_text_is_made_clean (void **state) {
    char text[] = "a\xc3\xa4\xff\x01 \xe2\x82\xac\xe2\x82";
    (void)state;
    text_clean (text);
    assert_string_equal (text, "a\xc3\xa4?  \xe2\x82\xac??");
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_numbers_are_read_and_forgotten),
        cmocka_unit_test (test_numbers_names_are_kept_as_they_were_taken),
        cmocka_unit_test (test_numbers_that_cannot_be_read_change_nothing),
        cmocka_unit_test (test_numbers_steps_give_quantiles_and_differences),
        cmocka_unit_test (test_samples_make_rates),
        cmocka_unit_test (test_prometheus_bounds_its_labels),
        cmocka_unit_test (test_prometheus_escapes_labels),
        cmocka_unit_test (test_lines_are_escaped),
        cmocka_unit_test (test_influx_urls_are_of_their_version),
        cmocka_unit_test (test_snapshot_is_json),
        cmocka_unit_test (test_text_is_made_clean),
    };
    return cmocka_run_group_tests (tests, dice_seed, NULL);
}
