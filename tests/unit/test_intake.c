/* Bodies into events: what is taken, what is refused, and in which words.
   SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../clients/gateway/intake.h"
#include "../../proto/json.h"
#include "../../proto/limits.h"

#include <stdio.h>

static ef_span_t
s_span (const char *text) {
    return text ? (ef_span_t){text, (uint32_t)strlen (text)} : (ef_span_t){NULL, 0};
}

/* Reads a body, and writes each event as JSON, or "CODE why", a line each. */
static char *
s_read_as (intake_t how, const char *body, size_t size) {
    static char text[8192];
    char why[ITEM_WHY_BYTES];
    batch_t batch;
    ef_buf_t out = {0};
    const char *code = intake_read (&batch, &how, body, size, why);
    if (code) {
        snprintf (text, sizeof text, "%s %s", code, why);
        return text;
    }
    for (uint32_t i = 0; i < batch.count; i++) {
        const slot_t *slot = &batch.slots[i];
        ef_buf_put (&out, "\n", i > 0);
        if (slot->code) {
            ef_buf_put (&out, slot->code, strlen (slot->code));
            ef_buf_put (&out, " ", 1);
            ef_buf_put (&out, slot->why ? slot->why : "", slot->why ? strlen (slot->why) : 0);
            continue;
        }
        ef_cursor_t event = ef_cursor (batch.events.data + slot->at, slot->bytes);
        assert_int_equal (ef_json_print (&out, &event), 0);
        assert_int_equal (ef_cursor_left (&event), 0);
    }
    snprintf (text, sizeof text, "%.*s", (int)out.size, (const char *)out.data);
    ef_buf_free (&out);
    batch_free (&batch);
    return text;
}

static char *
s_read (intake_form_t form, const char *body) {
    return s_read_as ((intake_t){.form = form, .key = {"k", 1}, .media = ""}, body, strlen (body));
}

static void
test_json_one_event_has_all_its_parts (void **state) {
    (void)state;
    assert_string_equal (s_read (INTAKE_JSON, "{\"topic\":\"email\",\"payload\":{\"a\":1}}"),
                         "[\"email\",\"k\",{\"a\":1}]");
    assert_string_equal (
        s_read (INTAKE_JSON, "{\"queue\":\"email\",\"id\":\"x\",\"payload\":null}"),
        "[\"email\",\"x\",null]");
    assert_string_equal (
        s_read (INTAKE_JSON,
                "{\"event_type\":\"T\",\"user_id\":7,\"payload\":-0.5,\"delay\":\"5m\","
                "\"ttl\":10,\"at\":\"1970-01-01T00:00:01Z\",\"key\":\"q\",\"extra\":[1],"
                "\"attempts\":3,\"error\":[]}"),
        "[null,\"k\",-0.5,{\"type\":\"T\",\"user\":\"7\",\"delay\":300000,\"ttl\":10,\"at\":1000,"
        "\"key\":\"q\",\"extra\":[1]}]");
    assert_string_equal (
        s_read (INTAKE_JSON, "{\"payload\":1,\"on_dead\":{\"topic\":\"db\",\"payload\":2}}"),
        "[null,\"k\",1,{\"on_dead\":[\"db\",null,2]}]");
}

static void
test_json_wrong_members_are_named (void **state) {
    static const char *const rows[][2] = {
        {"{\"topic\":\"email\"}", "BAD_EVENT payload: expected one (its value may be null)"},
        {"{\"payload\":1,\"topic\":5}", "BAD_EVENT topic: expected a string"},
        {"{\"payload\":1,\"topic\":\"a b\"}", "BAD_EVENT topic: expected 1 to 53 of a-z A-Z 0-9 . "
                                              "_ -, beginning with a letter or digit"},
        {"{\"payload\":1,\"type\":{}}", "BAD_EVENT type: expected a string"},
        {"{\"payload\":1,\"id\":\"\"}", "BAD_EVENT id: expected a string of 1 to 64 bytes"},
        {"{\"payload\":1,\"id\":5}", "BAD_EVENT id: expected a string of 1 to 64 bytes"},
        {"{\"payload\":1,\"delay\":-1}",
         "BAD_EVENT delay: expected a span as \"5m\", or milliseconds"},
        {"{\"payload\":1,\"at\":\"soon\"}",
         "BAD_EVENT at: expected a date as \"2025-01-31T12:00:00Z\", or ms since 1970"},
        {"{\"payload\":1,\"headers\":[]}", "BAD_EVENT headers: expected an object"},
        {"{\"payload\":1,\"schema\":\"1\"}", "BAD_EVENT schema: expected a number"},
        {"{\"payload\":1,\"on_dead\":{}}",
         "BAD_EVENT on_dead.payload: expected one (its value may be null)"},
        {"{\"payload\":1,\"topic\":\"a\",\"queue\":\"a\"}",
         "BAD_EVENT queue: expected it once only, and under one name"},
        {"{\"payload\":1,\"payload\":2}", "BAD_REQUEST payload: expected it once only"},
        {"{\"payload\":{\"a\":{\"b\":1,\"b\":1}}}", "BAD_REQUEST b: expected it once only"},
        {"7", "BAD_REQUEST body: expected an object, or an array of them"},
        {"", "BAD_REQUEST body: expected a JSON value"},
        {"{\"payload\":1}x", "BAD_REQUEST body: expected one JSON value and nothing behind it"},
        {"{\"payload\":\"\xff\"}", "BAD_REQUEST body: expected UTF-8 in a string"},
        {"{\"payload\":123456789012345678901234567890}",
         "BAD_REQUEST body: expected a number that 64 bits can hold"},
        {"{\"payload\":1e999}", "BAD_REQUEST body: expected a number that 64 bits can hold"},
        {"[]", "BAD_REQUEST body: expected one event at least"},
        {"[{\"payload\":1},5]", "[null,\"k:0\",1]\nBAD_EVENT expected an object with a payload"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_string_equal (s_read (INTAKE_JSON, rows[i][0]), rows[i][1]);
    }
}

static void
test_json_numbers_stay_what_they_are (void **state) {
    (void)state;
    assert_string_equal (
        s_read (INTAKE_JSON, "{\"payload\":[9007199254740993,18446744073709551615,"
                             "-9223372036854775808,-0,0.1,1.0,1e-400,\"\\u00e9\\ud83d\\ude00\"]}"),
        "[null,\"k\",[9007199254740993,18446744073709551615,-9223372036854775808,-0.0,0.1,1.0,0.0,"
        "\"\xc3\xa9\xf0\x9f\x98\x80\"]]");
}

static void
test_json_deep_nesting_is_refused (void **state) {
    char body[200];
    (void)state;
    for (unsigned depth = 20; depth < 60; depth++) {
        size_t used = (size_t)snprintf (body, sizeof body, "{\"payload\":");
        memset (body + used, '[', depth);
        memset (body + used + depth, ']', depth);
        memcpy (body + used + depth * 2, "}", 2);
        bool is_taken = s_read (INTAKE_JSON, body)[0] == '[';
        assert_int_equal (is_taken, depth < 32);
    }
}

static void
test_json_many_keys_twice_are_found (void **state) {
    ef_buf_t body = {0};
    char text[64];
    (void)state;
    ef_buf_put (&body, "{\"payload\":{", 12);
    for (unsigned i = 0; i < 1000; i++) {
        int size = snprintf (text, sizeof text, "\"k%u\":%u,", i, i);
        ef_buf_put (&body, text, (size_t)size);
    }
    ef_buf_put (&body, "\"k17\":0}}", 9);
    intake_t how = {.form = INTAKE_JSON};
    assert_string_equal (s_read_as (how, (char *)body.data, body.size),
                         "BAD_REQUEST k17: expected it once only");
    ef_buf_free (&body);
}

static void
test_lines_each_has_its_own_outcome (void **state) {
    (void)state;
    assert_string_equal (s_read (INTAKE_LINES, "{\"payload\":1}\r\n\n{oops\n{\"payload\":2}"),
                         "[null,\"k:0\",1]\nBAD_REQUEST body: expected a string\n[null,\"k:2\",2]");
    assert_string_equal (s_read (INTAKE_LINES, "\n\n"),
                         "BAD_REQUEST body: expected one event at least");
}

static void
test_msgpack_in_all_its_forms (void **state) {
    intake_t how = {.form = INTAKE_MSGPACK, .topic = s_span ("db")};
    ef_buf_t body = {0};
    (void)state;
    ef_put_array (&body, 3);
    ef_put_str (&body, "email");
    ef_put_str (&body, "a");
    ef_put_bin (&body, "\x01", 1);
    assert_string_equal (s_read_as (how, (char *)body.data, body.size),
                         "[\"email\",\"a\",{\"$bin\":\"AQ==\"}]");
    ef_put_map (&body, 2);
    ef_put_key_str (&body, "id", "b");
    ef_put_key_uint (&body, "payload", 5);
    assert_string_equal (s_read_as (how, (char *)body.data, body.size),
                         "[\"email\",\"a\",{\"$bin\":\"AQ==\"}]\n[\"db\",\"b\",5]");
    ef_buf_t list = {0};
    ef_put_array (&list, 2);
    ef_buf_put (&list, body.data, body.size);
    assert_string_equal (s_read_as (how, (char *)list.data, list.size),
                         "[\"email\",\"a\",{\"$bin\":\"AQ==\"}]\n[\"db\",\"b\",5]");
    assert_string_equal (s_read_as (how, (char *)list.data, list.size - 1),
                         "BAD_REQUEST body: expected MessagePack, nested to 32 at the most");
    ef_buf_free (&body);
    ef_buf_free (&list);
}

#define CLOUD "\"specversion\":\"1.0\",\"id\":\"7\",\"source\":\"/shop\",\"type\":\"order\""

static void
test_cloud_structured_and_batch (void **state) {
    (void)state;
    assert_string_equal (
        s_read (INTAKE_CLOUD, "{" CLOUD ",\"time\":\"1970-01-01T00:00:02Z\",\"partitionkey\":\"p\","
                              "\"datacontenttype\":\"application/json\",\"n\":3,"
                              "\"data\":{\"a\":[1]}}"),
        "[null,\"/shop#7\",{\"a\":[1]},{\"type\":\"order\",\"key\":\"p\",\"time\":2000,\"headers\":"
        "{\"ce-specversion\":\"1.0\",\"ce-id\":\"7\",\"ce-source\":\"/shop\",\"ce-type\":\"order\","
        "\"ce-time\":\"1970-01-01T00:00:02Z\",\"ce-partitionkey\":\"p\","
        "\"ce-datacontenttype\":\"application/json\",\"ce-n\":\"3\","
        "\"content-type\":\"application/json\"}}]");
    assert_string_equal (
        s_read (INTAKE_CLOUD_BATCH, "[{" CLOUD ",\"data_base64\":\"AQI=\"},{\"id\":\"7\"}]"),
        "[null,\"/shop#7\",{\"$bin\":\"AQI=\"},{\"type\":\"order\",\"headers\":{\"ce-specversion\":"
        "\"1.0\",\"ce-id\":\"7\",\"ce-source\":\"/shop\",\"ce-type\":\"order\"}}]\n"
        "BAD_EVENT source: expected it: a CloudEvent has one");
    assert_string_equal (s_read (INTAKE_CLOUD_BATCH, "{}"),
                         "BAD_REQUEST body: expected an array of CloudEvents");
    assert_string_equal (s_read (INTAKE_CLOUD, "{" CLOUD ",\"data\":1,\"data_base64\":\"AQ==\"}"),
                         "BAD_EVENT data: expected one of data and data_base64");
    assert_string_equal (s_read (INTAKE_CLOUD, "{" CLOUD ",\"Bad\":1}"),
                         "BAD_EVENT a name: expected lower-case letters and digits");
}

static void
test_cloud_binary_decodes_and_takes_data_by_its_type (void **state) {
    const ef_span_t names[] = {s_span ("id"), s_span ("source"), s_span ("specversion"),
                               s_span ("type")};
    const ef_span_t values[] = {s_span ("Euro%20%E2%82%AC"), s_span ("/s"), s_span ("1.0"),
                                s_span ("\"t\"")};
    intake_t how = {.form = INTAKE_CLOUD_BINARY,
                    .names = names,
                    .values = values,
                    .attributes = 4,
                    .media = "text/plain"};
    (void)state;
    const char *tail =
        ",{\"type\":\"t\",\"headers\":{\"ce-id\":\"Euro \xe2\x82\xac\",\"ce-source\":"
        "\"/s\",\"ce-specversion\":\"1.0\",\"ce-type\":\"t\"";
    char expected[600];
    snprintf (expected, sizeof expected,
              "[null,\"/s#Euro \xe2\x82\xac\",\"hi\"%s,\"content-type\":\"text/plain\"}}]", tail);
    assert_string_equal (s_read_as (how, "hi", 2), expected);
    how.media = "application/json";
    snprintf (expected, sizeof expected,
              "[null,\"/s#Euro \xe2\x82\xac\",[1]%s,\"content-type\":\"application/json\"}}]",
              tail);
    assert_string_equal (s_read_as (how, "[1]", 3), expected);
    assert_string_equal (s_read_as (how, "[1", 2),
                         "BAD_REQUEST data: expected a comma or ] in an array");
    how.media = "";
    snprintf (expected, sizeof expected, "[null,\"/s#Euro \xe2\x82\xac\",{\"$bin\":\"/w==\"}%s}}]",
              tail);
    assert_string_equal (s_read_as (how, "\xff", 1), expected);
    how.attributes = 3;
    assert_string_equal (s_read_as (how, "", 0),
                         "BAD_REQUEST type: expected it: a CloudEvent has one");
}

static void
test_idempotency_key_becomes_the_id (void **state) {
    char text[IDS_TEXT];
    char key[80];
    (void)state;
    memset (key, 'x', sizeof key);
    assert_int_equal (ids_of_key (key, 64, -1, text), 64);
    assert_memory_equal (text, key, 64);
    assert_int_equal (ids_of_key (key, 65, -1, text), 64);
    assert_string_equal (text, "9537c5fdf120482f7d58d25e9ed583f52c02b4e304ea814db1633ad565aed7e9");
    assert_int_equal (ids_of_key ("a", 1, 12, text), 4);
    assert_string_equal (text, "a:12");
}

static void
test_ids_are_different_and_in_order (void **state) {
    char before[IDS_TEXT];
    char text[IDS_TEXT];
    (void)state;
    ids_next (before);
    for (unsigned i = 0; i < 200000; i++) {
        assert_int_equal (ids_next (text), 36);
        assert_true (strncmp (before, text, 13) <= 0 && strcmp (before, text) != 0);
        memcpy (before, text, sizeof before);
    }
}

static bool
s_may (void *arg, const char *topic, size_t size) {
    (void)arg;
    return topic && size == 5 && memcmp (topic, "email", 5) == 0;
}

static void
test_rights_refuse_one_event_and_not_the_others (void **state) {
    intake_t how = {.form = INTAKE_JSON, .may_publish = s_may, .key = {"k", 1}};
    const char *body = "[{\"topic\":\"email\",\"payload\":1},{\"topic\":\"db\",\"payload\":2},"
                       "{\"payload\":3}]";
    (void)state;
    assert_string_equal (s_read_as (how, body, strlen (body)),
                         "[\"email\",\"k:0\",1]\nDENIED this token may not publish to this topic\n"
                         "DENIED this token may not publish without a topic");
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_json_one_event_has_all_its_parts),
        cmocka_unit_test (test_json_wrong_members_are_named),
        cmocka_unit_test (test_json_numbers_stay_what_they_are),
        cmocka_unit_test (test_json_deep_nesting_is_refused),
        cmocka_unit_test (test_json_many_keys_twice_are_found),
        cmocka_unit_test (test_lines_each_has_its_own_outcome),
        cmocka_unit_test (test_msgpack_in_all_its_forms),
        cmocka_unit_test (test_cloud_structured_and_batch),
        cmocka_unit_test (test_cloud_binary_decodes_and_takes_data_by_its_type),
        cmocka_unit_test (test_idempotency_key_becomes_the_id),
        cmocka_unit_test (test_ids_are_different_and_in_order),
        cmocka_unit_test (test_rights_refuse_one_event_and_not_the_others),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
