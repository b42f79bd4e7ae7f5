/* What a child and its worker say to each other. SPDX-License-Identifier: MIT */
#include "../../workers/exec/lines.h"
#include "../../proto/json.h"
#include "unit.h"

#include <stdio.h>

/* Lets the child say so much. */
static void
s_say (lines_t *lines, const void *bytes, size_t size) {
    size_t room;
    while (size > 0) {
        uint8_t *at = lines_room (lines, &room);
        size_t now = size < room ? size : room;
        memcpy (at, bytes, now);
        lines_add (lines, now);
        bytes = (const char *)bytes + now;
        size -= now;
    }
}

static void
s_say_text (lines_t *lines, const char *text) {
    s_say (lines, text, strlen (text));
}

static eventflow_delivery_t
s_delivery (ef_buf_t *event) {
    ef_put_array (event, 3);
    ef_put_str (event, "api");
    ef_put_str (event, "e1");
    ef_put_uint (event, 7);
    return (eventflow_delivery_t){.tag = 17,
                                  .attempt = 2,
                                  .accepted_ms = 1000,
                                  .event = {event->data, event->size},
                                  .payload = {event->data + event->size - 1, 1}};
}

static void
test_put_event_as_json_is_a_line (void **state) {
    ef_buf_t event = {0};
    ef_buf_t out = {0};
    eventflow_delivery_t delivery = s_delivery (&event);
    (void)state;
    assert_int_equal (lines_put_event (&out, true, &delivery), 0);
    lines_put_cancel (&out, true, 17);
    ef_buf_put (&out, "", 1);
    assert_string_equal ((const char *)out.data,
                         "{\"tag\":17,\"attempt\":2,\"event\":{\"id\":\"e1\",\"topic\":\"api\","
                         "\"dispatch_date\":\"1970-01-01T00:00:01.000Z\",\"payload\":7,"
                         "\"attempts\":1,\"error\":[]}}\n{\"cancel\":17}\n");
    ef_buf_clear (&out);
    assert_int_equal (lines_put_plain (&out, false, &delivery), 0);
    assert_int_equal (out.size, 2);
    assert_memory_equal (out.data, "7\n", 2);
    ef_buf_free (&out);
    ef_buf_free (&event);
}

static void
test_put_event_without_json_form_writes_nothing (void **state) {
    static const uint8_t broken[] = {0x93, 0xa3, 'a', 'p', 'i', 0xc0, 0xc1};
    ef_buf_t out = {0};
    eventflow_delivery_t delivery = {
        .tag = 1, .attempt = 1, .event = {broken, sizeof broken}, .payload = {broken + 6, 1}};
    (void)state;
    ef_buf_put (&out, "before", 6);
    assert_int_equal (lines_put_event (&out, true, &delivery), -1);
    assert_int_equal (lines_put_plain (&out, true, &delivery), -1);
    assert_int_equal (lines_put_plain (&out, false, &delivery), -1);
    assert_int_equal (out.size, 6);
    ef_buf_free (&out);
}

static void
test_put_event_as_messagepack_is_a_map (void **state) {
    ef_buf_t event = {0};
    ef_buf_t out = {0};
    eventflow_delivery_t delivery = s_delivery (&event);
    (void)state;
    assert_int_equal (lines_put_event (&out, false, &delivery), 0);
    lines_put_cancel (&out, false, 17);
    static const char expected[] = "\x83\xa3tag\x11\xa7"
                                   "attempt\x02\xa5"
                                   "event\x93\xa3"
                                   "api\xa2"
                                   "e1\x07\x81\xa6"
                                   "cancel\x11";
    assert_int_equal (out.size, sizeof expected - 1);
    assert_memory_equal (out.data, expected, out.size);
    ef_buf_free (&out);
    ef_buf_free (&event);
}

static const char s_full[] =
    "{\"tag\": 5, \"result\": \"done\", \"code\": 250, \"text\": \"well\", \"trace\": \"t\", "
    "\"retry\": 1500, \"value\": {\"a\": [1, null]}, \"downstream\": \"smtp\", \"more\": [[]], "
    "\"emit\": [{\"topic\": \"db\", \"payload\": 1}, [\"api\", null, 2]]}\n";

static void
s_assert_full (const lines_answer_t *answer) {
    const eventflow_answer_t *words = &answer->words;
    assert_int_equal (answer->tag, 5);
    assert_int_equal (answer->result, EVENTFLOW_DONE);
    assert_null (words->code);
    assert_int_equal (words->number, 250);
    assert_string_equal (words->text, "well");
    assert_string_equal (words->trace, "t");
    assert_string_equal (words->downstream, "smtp");
    assert_int_equal (words->retry_ms, 1500);
    assert_int_equal (words->result->size, 6);
    assert_memory_equal (words->result->data, "\x81\xa1\x61\x92\x01\xc0", 6);
    assert_int_equal (words->events->size, 13);
    assert_memory_equal (words->events->data, "\x93\xa2\x64\x62\xc0\x01\x93\xa3\x61pi\xc0\x02", 13);
}

/* The same however the bytes come, as a line and as a value. */
static void
test_read_answer_in_two_parts_is_the_same (void **state) {
    const char *why;
    (void)state;
    for (unsigned is_json = 0; is_json < 2; is_json++) {
        ef_buf_t value = {0};
        assert_int_equal (ef_json_parse (&value, s_full, strlen (s_full), &why), strlen (s_full));
        const void *bytes = is_json ? (const void *)s_full : value.data;
        size_t size = is_json ? strlen (s_full) : value.size;
        for (size_t cut = 0; cut <= size; cut++) {
            lines_t lines = {.is_json = is_json};
            lines_answer_t answer;
            s_say (&lines, bytes, cut);
            int rc = lines_read (&lines, &answer, &why);
            assert_int_equal (rc, cut == size);
            if (rc == 0) {
                s_say (&lines, (const char *)bytes + cut, size - cut);
                assert_int_equal (lines_read (&lines, &answer, &why), 1);
            }
            s_assert_full (&answer);
            assert_int_equal (lines_read (&lines, &answer, &why), 0);
            lines_free (&lines);
        }
        ef_buf_free (&value);
    }
}

static void
test_read_many_answers_gives_each (void **state) {
    lines_t lines = {.is_json = true};
    lines_answer_t answer;
    const char *why;
    char text[80];
    (void)state;
    for (unsigned i = 0; i < 10000; i++) {
        snprintf (text, sizeof text, "\n \t{\"result\":\"%s\",\"tag\":%u}\r\n",
                  i % 2 ? "retry" : "release", i);
        s_say_text (&lines, text);
        if (i % 3 == 0) {
            continue; /* two at a time */
        }
        for (unsigned k = i % 3 == 1 ? i - 1 : i; k <= i; k++) {
            assert_int_equal (lines_read (&lines, &answer, &why), 1);
            assert_int_equal (answer.tag, k);
            assert_int_equal (answer.result, k % 2 ? EVENTFLOW_RETRY : EVENTFLOW_RELEASE);
            assert_int_equal (answer.words.retry_ms, -1);
        }
        assert_int_equal (lines_read (&lines, &answer, &why), 0);
    }
    assert_true (lines.bytes.capacity < 200000);
    lines_free (&lines);
}

static void
test_read_nonsense_says_what_was_expected (void **state) {
    static const struct {
        const char *line;
        const char *why;
    } rows[] = {
        {"hello\n", NULL},
        {"[]\n", "an object"},
        {"{} {}\n", "one object a line"},
        {"{\"result\": \"done\"}\n", "a tag"},
        {"{\"tag\": 5}\n", "a result"},
        {"{\"tag\": -5, \"result\": \"done\"}\n", "a number as tag"},
        {"{\"tag\": \"5\", \"result\": \"done\"}\n", "a number as tag"},
        {"{\"tag\": 5, \"result\": \"fine\"}\n",
         "\"done\", \"retry\", \"dead\" or \"release\" as result"},
        {"{\"tag\": 5, \"result\": \"retry\", \"code\": 1.5}\n", "text or a whole number as code"},
        {"{\"tag\": 5, \"result\": \"retry\", \"text\": 1}\n", "text as text"},
        {"{\"tag\": 5, \"result\": \"retry\", \"trace\": []}\n", "text as trace"},
        {"{\"tag\": 5, \"result\": \"retry\", \"downstream\": 1}\n", "text as downstream"},
        {"{\"tag\": 5, \"result\": \"retry\", \"retry\": \"1s\"}\n", "milliseconds as retry"},
        {"{\"tag\": 5, \"result\": \"done\", \"emit\": {}}\n", "an array of events in emit"},
        {"{\"tag\": 5, \"result\": \"done\", \"emit\": [1]}\n", NULL},
        {"{\"tag\": 5, \"result\": \"done\", \"emit\": [{}]}\n",
         "a payload (its value may be null)"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lines_t lines = {.is_json = true};
        lines_answer_t answer;
        const char *why = NULL;
        s_say_text (&lines, rows[i].line);
        assert_int_equal (lines_read (&lines, &answer, &why), -1);
        assert_non_null (why);
        if (rows[i].why) {
            assert_string_equal (why, rows[i].why);
        }
        assert_int_equal (strncmp (lines.text, rows[i].line, strlen (lines.text)), 0);
        lines_free (&lines);
    }
}

static void
test_read_nulls_are_nothing_said (void **state) {
    lines_t lines = {.is_json = true};
    lines_answer_t answer;
    const char *why;
    (void)state;
    s_say_text (&lines, "{\"tag\":1,\"result\":\"done\",\"code\":null,\"text\":null,\"trace\":null,"
                        "\"downstream\":null,\"emit\":[],\"value\":null}\n");
    assert_int_equal (lines_read (&lines, &answer, &why), 1);
    assert_null (answer.words.code);
    assert_null (answer.words.text);
    assert_null (answer.words.trace);
    assert_null (answer.words.downstream);
    assert_null (answer.words.events);
    assert_int_equal (answer.words.result->size, 1);
    lines_free (&lines);
}

static void
test_read_endless_answer_is_refused (void **state) {
    static char spaces[65536];
    (void)state;
    for (unsigned is_json = 0; is_json < 2; is_json++) {
        lines_t lines = {.is_json = is_json};
        lines_answer_t answer;
        const char *why;
        int rc = 0;
        memset (spaces, is_json ? 'x' : 0, sizeof spaces);
        if (!is_json) {
            s_say (&lines, "\x81\xa1k\xdb\x7f\xff\xff\xff", 8); /* a text of 2 GiB */
        }
        for (unsigned i = 0; i < 66 && rc == 0; i++) {
            s_say (&lines, spaces, sizeof spaces);
            rc = lines_read (&lines, &answer, &why);
        }
        assert_int_equal (rc, -1);
        assert_string_equal (why, "an answer of at most 4 MiB");
        lines_free (&lines);
    }
}

static void
test_read_too_large_value_is_refused (void **state) {
    lines_t lines = {.is_json = true};
    lines_answer_t answer;
    const char *why;
    (void)state;
    s_say_text (&lines, "{\"tag\":1,\"result\":\"done\",\"value\":\"");
    for (unsigned i = 0; i < 70000; i++) {
        s_say (&lines, "x", 1);
    }
    s_say_text (&lines, "\"}\n");
    assert_int_equal (lines_read (&lines, &answer, &why), -1);
    assert_string_equal (why, "a value of at most 64 KiB");
    lines_free (&lines);
}

/* Every single changed byte is read or refused, and nothing behind the input is touched. */
static void
test_read_changed_bytes_never_reads_behind (void **state) {
    const char *why;
    size_t size = strlen (s_full);
    ef_buf_t value = {0};
    (void)state;
    assert_int_equal (ef_json_parse (&value, s_full, size, &why), size);
    for (size_t i = 0; i < value.size; i++) {
        for (unsigned change = 1; change < 256; change += 7) {
            lines_t lines = {.is_json = false};
            lines_answer_t answer;
            guarded_t input = guard (value.data, value.size);
            input.bytes[i] ^= (uint8_t)change;
            lines.bytes = (ef_buf_t){input.bytes, value.size, value.size};
            while (lines_read (&lines, &answer, &why) == 1) {
                assert_true (answer.result <= EVENTFLOW_RELEASE);
            }
            lines.bytes = (ef_buf_t){0};
            lines_free (&lines);
            unguard (&input);
        }
    }
    ef_buf_free (&value);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_put_event_as_json_is_a_line),
        cmocka_unit_test (test_put_event_without_json_form_writes_nothing),
        cmocka_unit_test (test_put_event_as_messagepack_is_a_map),
        cmocka_unit_test (test_read_answer_in_two_parts_is_the_same),
        cmocka_unit_test (test_read_many_answers_gives_each),
        cmocka_unit_test (test_read_nonsense_says_what_was_expected),
        cmocka_unit_test (test_read_nulls_are_nothing_said),
        cmocka_unit_test (test_read_endless_answer_is_refused),
        cmocka_unit_test (test_read_too_large_value_is_refused),
        cmocka_unit_test (test_read_changed_bytes_never_reads_behind),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
