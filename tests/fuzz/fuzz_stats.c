/* Feeds bytes to what the monitor reads from a broker, and looks at all that it makes of them.
   SPDX-License-Identifier: MIT

   A broker may be newer, or not be one. The first byte says what the rest is: messages of its
   statistics, an answer of its admin endpoint, a block of the history's file. What is told on, as
   JSON, for Prometheus, for InfluxDB, by mail, must be well-formed whatever came. */
#include "../../clients/monitor/influx.h"
#include "../../clients/monitor/notify.h"
#include "../../clients/monitor/rules.h"
#include "../../clients/monitor/snapshot.h"
#include "../../clients/web/prometheus.h"
#include "../../proto/json.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static numbers_t s_numbers;
static samples_t s_samples;
static alerts_t s_alerts;
static options_t s_options;
static const alerts_options_t s_alert_options = {20, 50, 3};
static uint64_t s_now;

static void
s_begin (void) {
    numbers_init (&s_numbers);
    s_numbers.forget = samples_forget;
    s_numbers.arg = &s_samples;
    samples_init (&s_samples, NULL, 1000);
    alerts_init (&s_alerts, &s_alert_options);
    options_defaults (&s_options);
    s_options.alert.no_worker_ms = s_options.alert.breaker_ms = s_options.alert.unhealthy_ms = 1;
    strcpy (s_options.alert.mail_from, "a@example.org");
    strcpy (s_options.alert.mail_to, "b@example.org");
    s_now = 1000000;
}

static void
s_end (void) {
    numbers_free (&s_numbers);
    alerts_free (&s_alerts);
}

/* One JSON value of UTF-8, and nothing behind it. */
static void
s_is_json (const ef_buf_t *text) {
    ef_buf_t packed = {0};
    const char *why = "";
    size_t used = ef_json_parse (&packed, (const char *)text->data, text->size, &why);
    if (used != text->size && strstr (why, "32") == NULL) { /* deeper than it reads itself */
        fprintf (stderr, "%.*s\nexpected %s at %zu\n", (int)text->size, text->data, why, used);
        abort ();
    }
    ef_buf_free (&packed);
}

/* Lines of their form: no NUL, no control character, none that is cut, in UTF-8 where it says so.
 */
static void
s_are_lines (const ef_buf_t *text, bool is_utf8) {
    ef_assert (text->size == 0 || text->data[text->size - 1] == '\n');
    for (size_t i = 0; i < text->size; i++) {
        ef_assert (text->data[i] >= ' ' || text->data[i] == '\n');
    }
    ef_assert (!is_utf8 || ef_utf8_is_valid ((const char *)text->data, text->size));
}

static void
s_tell_alerts (uint64_t wall_ms) {
    ef_buf_t out = {0};
    const alert_news_t *told = NULL;
    for (uint32_t i = 0; i < s_alerts.news_count; i++) {
        const alert_news_t *news = &s_alerts.news[i];
        ef_cursor_t cursor;
        ef_event_t event;
        const char *why;
        ef_buf_clear (&out);
        notify_put_alert (&out, news);
        s_is_json (&out);
        ef_buf_clear (&out);
        notify_put_event (&out, "alerts", news, wall_ms);
        cursor = ef_cursor (out.data, out.size);
        ef_assert (ef_event_read (&cursor, &event, &why) == EF_OK);
        told = news->change == ALERT_RAISED ? news : told;
    }
    ef_buf_clear (&out);
    notify_put_webhook (&out, s_alerts.news, s_alerts.news_count);
    s_is_json (&out);
    if (told) {
        ef_buf_clear (&out);
        notify_put_mail (&out, &s_options.alert, s_alerts.news, s_alerts.news_count, wall_ms);
        ef_assert (memchr (out.data, 0, out.size) == NULL);
    }
    ef_buf_free (&out);
}

/* A round is over: what the collector does then. */
static void
s_round (void) {
    static const char *const patterns[] = {"*", "a?"};
    uint64_t wall_ms = 1700000000000 + s_now;
    ef_buf_t out = {0};
    prometheus_t source = {.numbers = &s_numbers, .is_up = true, .topics_max = 3};
    s_now += 1 + s_now % 997;
    numbers_sweep (&s_numbers);
    samples_take (&s_samples, &s_numbers, s_now, wall_ms);
    alerts_begin (&s_alerts, s_now, wall_ms);
    rules_look (&s_alerts, &s_options.alert, &s_samples, &s_numbers);
    alerts_end (&s_alerts, true);
    s_tell_alerts (wall_ms);
    snapshot_put (&out, &s_numbers, &s_samples, wall_ms);
    s_is_json (&out);
    ef_buf_clear (&out);
    influx_put_lines (&out, &s_numbers, &s_samples, true, wall_ms);
    s_are_lines (&out, false);
    ef_buf_clear (&out);
    prometheus_put (&out, &source);
    s_are_lines (&out, true);
    ef_buf_clear (&out);
    (void)prometheus_put_detailed (&out, &source, patterns, 2);
    s_are_lines (&out, true);
    ef_buf_free (&out);
}

/* Messages: a subject's length and the subject, two bytes of length and the map. */
static void
s_messages (const uint8_t *data, size_t size) {
    s_begin ();
    while (size > 3) {
        size_t subject = data[0] < size - 3 ? data[0] : size - 3;
        size_t rest = size - 3 - subject;
        size_t length = (size_t)data[1] << 8 | data[2];
        length = length < rest ? length : rest;
        const ef_span_t name = {(const char *)data + 3, (uint32_t)subject};
        if (ef_span_is (name, "stats.broker") && s_numbers.round > 0) {
            s_round ();
        }
        if (subject > 7 && memcmp (name.data, "notice.", 7) == 0) {
            numbers_notice (&s_numbers, (ef_span_t){name.data + 7, name.size - 7});
        } else {
            (void)numbers_take (&s_numbers, name, ef_cursor (data + 3 + subject, length));
        }
        data += 3 + subject + length;
        size -= 3 + subject + length;
    }
    s_round ();
    s_end ();
}

static void
s_answer (const uint8_t *data, size_t size) {
    static const char *const commands[] = {"STATUS", "TOPICS", "WORKERS", "POOLS", "OTHER"};
    numbers_topic_t *topic;
    s_begin ();
    ef_cursor_t value = ef_cursor (data + 1, size - 1);
    (void)numbers_take_answer (&s_numbers, commands[data[0] % 5], value);
    for (uint32_t at = 0; (topic = ef_hash_next (&s_numbers.topics, &at)) != NULL;) {
        ef_cursor_t list;
        if (ef_map_find (value, "breakers", &list)) {
            numbers_set_breakers (topic, list);
        }
    }
    s_round ();
    s_end ();
}

static void
s_block (const uint8_t *data, size_t size) {
    series_block_t block;
    const series_set_t *set = data[0] % 2 ? &samples_topic_set : &samples_broker_set;
    if (series_decode (&block, set, 1700000000, data + 1, size - 1) == 0) {
        ef_assert (block.points <= SERIES_POINTS && block.width == set->count);
        ef_buf_t again = {0};
        series_encode (&block, set, &again);
        ef_buf_free (&again);
    }
    series_block_free (&block);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size) {
    if (size < 2) {
        return 0;
    }
    /* A copy without anything behind it, so that a byte too many is seen. */
    uint8_t *copy = malloc (size - 1);
    ef_assert (copy != NULL);
    memcpy (copy, data + 1, size - 1);
    switch (data[0] % 3) {
    case 0: s_messages (copy, size - 1); break;
    case 1: s_answer (copy, size - 1); break;
    default: s_block (copy, size - 1); break;
    }
    free (copy);
    return 0;
}
