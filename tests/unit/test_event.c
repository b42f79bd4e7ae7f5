/* Events, ids, dates and the JSON form. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../proto/json.h"
#include "../../proto/limits.h"

static void
test_topic_names_valid_and_not (void **state) {
    (void)state;
    char longest[EF_TOPIC_MAX + 2];
    memset (longest, 'a', sizeof longest);
    assert_true (ef_topic_is_valid (longest, EF_TOPIC_MAX));
    assert_false (ef_topic_is_valid (longest, EF_TOPIC_MAX + 1));
    static const char *const good[] = {"a", "9", "email", "a.b_c-d", "Z", "_deadletter_"};
    static const char *const bad[] = {"",    ".a",           "_a",       "-",       "a b",
                                      "a/b", "x_deadletter", "\xc3\xa4", "$invalid"};
    for (size_t i = 0; i + 1 < sizeof good / sizeof good[0]; i++) {
        assert_true (ef_topic_is_valid (good[i], strlen (good[i])));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false (ef_topic_is_valid (bad[i], strlen (bad[i])));
    }
}

static void
s_event_of (ef_buf_t *buf, const char *json) {
    const char *why = NULL;
    size_t used = ef_json_parse (buf, json, strlen (json), &why);
    assert_int_equal (used, strlen (json));
}

static void
test_event_read_judges_each_field (void **state) {
    (void)state;
    static const struct {
        const char *json;
        ef_status_t status;
        const char *why;
    } cases[] = {
        {"[\"t\",null,1]", EF_OK, NULL},
        {"[null,\"id\",{}]", EF_OK, NULL},
        {"[\"t\",\"i\",1,{\"type\":\"x\",\"ttl\":5,\"other\":[1]}]", EF_OK, NULL},
        {"{}", EF_BAD_EVENT, "an event is an array"},
        {"[1,2]", EF_BAD_EVENT, "an event is an array"},
        {"[1,2,3,4,5]", EF_BAD_EVENT, "an event is an array"},
        {"[7,\"i\",1]", EF_BAD_EVENT, "the topic must be"},
        {"[\"t\",7,1]", EF_BAD_EVENT, "the id must be"},
        {"[\"t\",\"\",1]", EF_BAD_EVENT, "the id must be"},
        {"[\"t\",\"i\",1,7]", EF_BAD_EVENT, "meta must be a map"},
        {"[\"t\",\"i\",1,{\"ttl\":\"x\"}]", EF_BAD_EVENT, "meta ttl must be"},
        {"[\"t\",\"i\",1,{\"delay\":-1}]", EF_BAD_EVENT, "meta delay must be"},
        {"[\"t\",\"i\",1,{\"type\":1}]", EF_BAD_EVENT, "meta type must be"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ef_buf_t buf = {0};
        ef_event_t event;
        const char *why;
        s_event_of (&buf, cases[i].json);
        ef_put_nil (&buf); /* what stands behind must be found */
        ef_cursor_t cursor = ef_cursor (buf.data, buf.size);
        assert_int_equal (ef_event_read (&cursor, &event, &why), cases[i].status);
        assert_int_equal (ef_cursor_left (&cursor), 1);
        if (cases[i].why) {
            assert_non_null (strstr (why, cases[i].why));
        }
        for (size_t size = 0; size + 1 < buf.size; size++) {
            guarded_t input = guard (buf.data, size);
            cursor = ef_cursor (input.bytes, size);
            assert_int_equal (ef_event_read (&cursor, &event, &why), EF_BAD_FRAME);
            unguard (&input);
        }
        ef_buf_free (&buf);
    }
}

static void
test_event_headers_are_a_map_or_absent (void **state) {
    (void)state;
    static const struct {
        const char *json;
        uint32_t size; /* of the headers; 0: absent */
    } cases[] = {
        {"[\"t\",\"i\",1,{\"headers\":{\"a\":\"b\"},\"type\":\"x\"}]", 5},
        {"[\"t\",\"i\",1,{\"headers\":{},\"type\":\"x\"}]", 1},
        {"[\"t\",\"i\",1,{\"headers\":[1],\"type\":\"x\"}]", 0},
        {"[\"t\",\"i\",1,{\"headers\":null,\"type\":\"x\"}]", 0},
        {"[\"t\",\"i\",1,{\"type\":\"x\"}]", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ef_buf_t buf = {0};
        ef_event_t event;
        const char *why;
        s_event_of (&buf, cases[i].json);
        ef_cursor_t cursor = ef_cursor (buf.data, buf.size);
        assert_int_equal (ef_event_read (&cursor, &event, &why), EF_OK);
        assert_int_equal (event.headers.size, cases[i].size);
        assert_int_equal (event.headers.data != NULL, cases[i].size > 0);
        assert_int_equal (event.type.size, 1);
        ef_buf_free (&buf);
    }
}

static void
test_uuid_counts_on_from_its_base (void **state) {
    (void)state;
    static const uint64_t random[2] = {UINT64_MAX, UINT64_MAX};
    uint8_t id[16];
    char text[37];
    ef_uuid7 (id, 0x0123456789ab, random);
    ef_uuid_text (id, 0, text);
    assert_string_equal (text, "01234567-89ab-7fff-bfff-ffffffff0000");
    ef_uuid_text (id, 65535, text);
    assert_string_equal (text, "01234567-89ab-7fff-bfff-ffffffffffff");
}

static void
test_dates_both_ways (void **state) {
    (void)state;
    char text[25];
    int64_t ms;
    ef_rfc3339 (1700000000123, text);
    assert_string_equal (text, "2023-11-14T22:13:20.123Z");
    assert_int_equal (ef_rfc3339_parse (text, 24, &ms), 0);
    assert_true (ms == 1700000000123);
    assert_int_equal (ef_rfc3339_parse ("2023-11-14T23:13:20+01:00", 25, &ms), 0);
    assert_true (ms == 1700000000000);
    static const char *const bad[] = {"",
                                      "yesterday",
                                      "2023-13-14T22:13:20Z",
                                      "2023-11-14 22:13",
                                      "2023-11-14T22:13:20",
                                      "2023-11-14T22:13:20Zx"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal (ef_rfc3339_parse (bad[i], strlen (bad[i]), &ms), -1);
    }
}

static void
test_json_is_lossless_both_ways (void **state) {
    (void)state;
    static const char *const texts[] = {
        "null",
        "true",
        "[]",
        "{}",
        "18446744073709551615",
        "-9223372036854775808",
        "0.5",
        "1.0",
        "1e+300",
        "\"a\\\"b\\\\c\\n\\u0001\"",
        "[1,[2,[3]]]",
        "{\"a\":{\"b\":[null,false]}}",
        "{\"$bin\":\"AAEC\"}",
        "{\"$ext\":[-3,\"AAE=\"]}",
        "{\"$map\":[[1,2],[null,[]]]}",
        "{\"$$bin\":\"x\"}",
        "{\"$$a\":1}",
        "{\"$a\":1,\"b\":2}",
        "{\"$float\":\"nan\"}",
        "{\"$float\":\"-inf\"}",
        "{\"$str\":\"/w==\"}",
        "\"\xc3\xbc\xf0\x9f\x98\x80\"",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ef_buf_t packed = {0};
        ef_buf_t text = {0};
        s_event_of (&packed, texts[i]);
        ef_cursor_t cursor = ef_cursor (packed.data, packed.size);
        assert_int_equal (ef_json_print (&text, &cursor), 0);
        assert_int_equal (ef_cursor_left (&cursor), 0);
        ef_buf_put (&text, "", 1);
        assert_string_equal ((char *)text.data, texts[i]);
        ef_buf_free (&packed);
        ef_buf_free (&text);
    }
}

static void
test_json_errors_say_what_was_expected (void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "{",
                                      "[1,]",
                                      "[1 2]",
                                      "{\"a\"}",
                                      "{a:1}",
                                      "01",
                                      "1.",
                                      "-",
                                      "\"",
                                      "\"\\x\"",
                                      "\"\\ud800\"",
                                      "\"\xff\"",
                                      "nul",
                                      "\"\n\"",
                                      "{\"$bin\":\"!\"}",
                                      "{\"$ext\":[1]}",
                                      "{\"$map\":[1]}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ef_buf_t out = {0};
        const char *why = NULL;
        guarded_t input = guard (bad[i], strlen (bad[i]));
        assert_int_equal (ef_json_parse (&out, (char *)input.bytes, strlen (bad[i]), &why), 0);
        assert_non_null (why);
        unguard (&input);
        ef_buf_free (&out);
    }
    char deep[100];
    memset (deep, '[', sizeof deep);
    ef_buf_t out = {0};
    const char *why = NULL;
    assert_int_equal (ef_json_parse (&out, deep, sizeof deep, &why), 0);
    assert_non_null (strstr (why, "32"));
    ef_buf_free (&out);
}

static void
test_event_json_form_both_ways (void **state) {
    (void)state;
    static const char line[] = "{\"id\":\"x\",\"queue\":\"email\",\"type\":\"t\",\"dispatch_date\":"
                               "\"2023-11-14T22:13:20.000Z\",\"payload\":{\"a\":1},\"user\":\"u\"}";
    ef_buf_t packed = {0};
    ef_buf_t text = {0};
    ef_event_t event;
    const char *why;
    assert_int_equal (ef_json_to_event (&packed, line, strlen (line), "other", NULL, &why), 0);
    ef_cursor_t cursor = ef_cursor (packed.data, packed.size);
    assert_int_equal (ef_event_read (&cursor, &event, &why), EF_OK);
    assert_true (ef_span_is (event.topic, "email") && event.time_ms == 1700000000000);
    ef_json_extra_t extra = {.attempts = 0};
    assert_int_equal (ef_json_event (&text, &event, &extra), 0);
    ef_buf_put (&text, "", 1);
    assert_string_equal ((char *)text.data,
                         "{\"id\":\"x\",\"topic\":\"email\",\"type\":\"t\",\"dispatch_date\":"
                         "\"2023-11-14T22:13:20.000Z\",\"payload\":{\"a\":1},\"user\":\"u\","
                         "\"attempts\":0,\"error\":[]}");
    /* Names and types that aren't UTF-8 come out as text all the same. */
    static const uint8_t bytes[] = "\x94\xa1t\xc0\x01\x82\xa4type\xa2\xffz\xa2y\xc3\x02";
    cursor = ef_cursor (bytes, sizeof bytes - 1);
    assert_int_equal (ef_event_read (&cursor, &event, &why), EF_OK);
    ef_buf_clear (&text);
    assert_int_equal (ef_json_event (&text, &event, &extra), 0);
    ef_buf_put (&text, "", 1);
    assert_true (ef_utf8_is_valid ((char *)text.data, text.size));
    assert_non_null (strstr ((char *)text.data, "\"type\":\"\\ufffdz\""));
    assert_non_null (strstr ((char *)text.data, "\"y\\ufffd\":2"));
    ef_buf_clear (&packed);
    assert_int_equal (ef_json_to_event (&packed, "{}", 2, "t", NULL, &why), -1);
    assert_non_null (strstr (why, "payload"));
    ef_buf_free (&packed);
    ef_buf_free (&text);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_topic_names_valid_and_not),
        cmocka_unit_test (test_event_read_judges_each_field),
        cmocka_unit_test (test_event_headers_are_a_map_or_absent),
        cmocka_unit_test (test_uuid_counts_on_from_its_base),
        cmocka_unit_test (test_dates_both_ways),
        cmocka_unit_test (test_json_is_lossless_both_ways),
        cmocka_unit_test (test_json_errors_say_what_was_expected),
        cmocka_unit_test (test_event_json_form_both_ways),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
