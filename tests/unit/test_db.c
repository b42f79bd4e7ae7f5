/* Columns and values of the handler db. SPDX-License-Identifier: MIT */
#include "unit_db.h"

#include "../../workers/db/link.h"
#include "../../workers/db/source.h"
#include "../../workers/db/text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static db_map_t s_map;

static void
s_read (const char *columns) {
    char error[512] = "";
    int rc = db_map_read (&s_map, columns, error);
    assert_string_equal (error, "");
    assert_int_equal (rc, 0);
}

static void
test_columns_are_read (void **state) {
    (void)state;
    s_read (" user_id = payload.user.id bigint,amount=payload.amount numeric(10,2) not null , id,"
            "at=time timestamp with time zone, whole=event");
    assert_int_equal (s_map.count, 5);
    assert_string_equal (s_map.columns[0].name, "user_id");
    assert_string_equal (s_map.columns[0].path, "user.id");
    assert_string_equal (s_map.columns[0].type, "bigint");
    assert_int_equal (s_map.columns[0].class_id, DB_CLASS_INTEGER);
    assert_string_equal (s_map.columns[1].type, "numeric(10,2) not null");
    assert_int_equal (s_map.columns[1].class_id, DB_CLASS_NUMBER);
    assert_string_equal (s_map.columns[2].name, "id");
    assert_string_equal (s_map.columns[2].type, "");
    assert_int_equal (s_map.columns[3].class_id, DB_CLASS_TIME);
    assert_int_equal (s_map.columns[4].class_id, DB_CLASS_JSON);
    s_read ("");
    assert_true (db_map_has (&s_map, "event") && db_map_has (&s_map, "result"));
    assert_false (db_map_has (&s_map, "payload"));
}

static void
test_columns_that_are_wrong_are_refused_with_what_was_expected (void **state) {
    (void)state;
    static const char *const wrong[][2] = {{"a=nothing", "payload.NAME"},
                                           {"a=payload.", "payload.NAME"},
                                           {"a=id.b", "payload.NAME"},
                                           {"a", "payload.NAME"},
                                           {"payload.a", "name=payload.a"},
                                           {"=id", "column's name"},
                                           {"a=id,,b=id", "name=path"},
                                           {"a=id,a=key", "twice"},
                                           {"a=id text; drop table x", "type"},
                                           {"a=id text)", "type"},
                                           {"a=id 'x'", "type"},
                                           {"a=id text -- x", "type"}};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char error[512] = "";
        assert_int_equal (db_map_read (&s_map, wrong[i][0], error), -1);
        assert_non_null (strstr (error, wrong[i][1]));
    }
    char many[4000] = "";
    for (int i = 0; i <= DB_COLUMNS_MAX; i++) {
        char one[24];
        snprintf (one, sizeof one, "%sc%d=id", i ? "," : "", i);
        strncat (many, one, sizeof many - strlen (many) - 1);
    }
    char error[512];
    assert_int_equal (db_map_read (&s_map, many, error), -1);
    assert_non_null (strstr (error, "up to"));
}

static void
test_types_have_classes (void **state) {
    (void)state;
    static const struct {
        const char *type;
        db_class_t class_id;
    } cases[] = {{"TEXT", DB_CLASS_TEXT},
                 {"character varying", DB_CLASS_TEXT},
                 {"varchar(20)", DB_CLASS_TEXT},
                 {"jsonb", DB_CLASS_JSON},
                 {"bytea", DB_CLASS_BYTES},
                 {"BLOB", DB_CLASS_BYTES},
                 {"int8", DB_CLASS_INTEGER},
                 {"integer", DB_CLASS_INTEGER},
                 {"interval", DB_CLASS_OTHER},
                 {"integer[]", DB_CLASS_OTHER},
                 {"double precision", DB_CLASS_NUMBER},
                 {"boolean", DB_CLASS_BOOLEAN},
                 {"timestamp with time zone", DB_CLASS_TIME},
                 {"uuid", DB_CLASS_OTHER}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal (db_class_of (cases[i].type), cases[i].class_id);
    }
}

/* ---- Events ---- */

static ef_buf_t s_arena;
static db_value_t s_values[DB_COLUMNS_MAX];

static const char *
s_text (uint32_t column) {
    static char text[2000];
    const db_value_t *value = &s_values[column];
    switch (value->kind) {
    case DB_KIND_NULL: return "NULL";
    case DB_KIND_TRUTH: return value->whole ? "true" : "false";
    case DB_KIND_WHOLE: snprintf (text, sizeof text, "%lld", (long long)value->whole); break;
    case DB_KIND_REAL: snprintf (text, sizeof text, "%g", value->real); break;
    default:
        snprintf (text, sizeof text, "%.*s", (int)value->span.size,
                  (const char *)s_arena.data + value->span.at);
    }
    return text;
}

static int
s_row (db_event_t *event, char why[512]) {
    ef_buf_clear (&s_arena);
    return db_map_row (&s_map, event, &s_arena, s_values, why);
}

static void
test_values_fit_their_columns (void **state) {
    (void)state;
    db_event_t event;
    char why[512] = "";
    s_read ("a=payload.user.id bigint, b=payload.user.name, c=payload.amount, d=payload.paid,"
            "e=payload.items.1, f=payload.items.2, g=payload.large, h=payload.bytes,"
            "i=payload.none, j=payload.user.id.x, k=payload.user, l=payload.items json,"
            "m=payload.user.name json, n=payload.nowhere, o=payload.bytes bytea");
    s_event (&event, "e1", s_put_order, NULL);
    assert_int_equal (s_row (&event, why), 0);
    static const char *const expected[] = {"7",
                                           "Ann",
                                           "1.5",
                                           "true",
                                           "b",
                                           "NULL",
                                           "18446744073709551615",
                                           "AP8=",
                                           "NULL",
                                           "NULL",
                                           "{\"id\":7,\"name\":\"Ann\"}",
                                           "[\"a\",\"b\"]",
                                           "\"Ann\"",
                                           "NULL"};
    for (uint32_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_string_equal (s_text (i), expected[i]);
    }
    assert_int_equal (s_values[14].kind, DB_KIND_BYTES);
    assert_memory_equal (s_arena.data + s_values[14].span.at, "\0\xff", 2);
}

static void
s_put_nul (ef_buf_t *out) {
    ef_put_strn (out, "a\0b", 3);
}

static void
s_put_latin (ef_buf_t *out) {
    ef_put_strn (out, "\xe9t\xe9", 3);
}

static void
s_put_bin (ef_buf_t *out) {
    ef_put_bin (out, "ab", 2);
}

static void
s_put_nan (ef_buf_t *out) {
    ef_put_double (out, NAN);
}

static void
test_values_that_no_column_holds_are_refused (void **state) {
    (void)state;
    static const struct {
        put_t payload;
        const char *columns;
        const char *why; /* NULL: it is taken */
    } cases[] = {
        {s_put_nul, "a=meta.x, b=id", NULL},        {s_put_nul, "a=payload json", NULL},
        {s_put_latin, "a=payload json", NULL},      {s_put_nul, "a=payload bytea", NULL},
        {s_put_bin, "a=payload bigint", "binary"},  {s_put_five, "a=payload bytea", "number"},
        {s_put_order, "a=payload bytea", "nested"}, {s_put_nan, "a=payload json", NULL},
        {s_put_nan, "a=payload real", NULL}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        db_event_t event;
        char why[512] = "";
        s_read (cases[i].columns);
        s_event (&event, "e", cases[i].payload, NULL);
        assert_int_equal (s_row (&event, why), cases[i].why ? -1 : 0);
        assert_true (cases[i].why == NULL || strstr (why, cases[i].why));
        assert_true (cases[i].why == NULL || strstr (why, "column a: payload"));
    }
}

static void
s_put_map_nul (ef_buf_t *out) {
    ef_put_map (out, 2);
    ef_put_str (out, "nul");
    s_put_nul (out);
    ef_put_str (out, "latin");
    s_put_latin (out);
}

static void
test_texts_are_utf8_without_nul (void **state) {
    (void)state;
    db_event_t event;
    char why[512] = "";
    s_event (&event, "e", s_put_map_nul, NULL);
    s_read ("a=payload.nul");
    assert_int_equal (s_row (&event, why), -1);
    assert_non_null (strstr (why, "NUL"));
    s_read ("a=payload.latin varchar(9)");
    assert_int_equal (s_row (&event, why), -1);
    assert_non_null (strstr (why, "UTF-8"));
}

static void
s_put_meta (ef_buf_t *out) {
    ef_put_map (out, 4);
    ef_put_key_str (out, "type", "T");
    ef_put_key_str (out, "user", "u\1");
    ef_put_key_uint (out, "time", 1700000000123);
    ef_put_str (out, "ended");
    ef_put_map (out, 8);
    ef_put_key_str (out, "topic", "email");
    ef_put_key_uint (out, "n", 9);
    ef_put_key_str (out, "state", "done");
    ef_put_key_str (out, "reason", "none");
    ef_put_key_uint (out, "at", 1700000001000);
    ef_put_key_uint (out, "attempts", 2);
    ef_put_key_str (out, "worker", "w");
    ef_put_str (out, "result");
    ef_put_map (out, 1);
    ef_put_key_uint (out, "sum", 4);
}

static void
test_a_copy_tells_of_the_event_that_has_ended (void **state) {
    (void)state;
    db_event_t event;
    char why[512] = "";
    s_read ("topic, n, state, reason, attempts, worker, ended, result, errors, event, "
            "sum=result.sum, at=time bigint, attempt, user, key");
    s_event (&event, "e", s_put_five, s_put_meta);
    event.n = 3;
    assert_int_equal (s_row (&event, why), 0);
    static const char *const expected[] = {
        "email",
        "9",
        "done",
        "NULL",
        "2",
        "w",
        "2023-11-14T22:13:21.000Z",
        "{\"sum\":4}",
        "NULL",
        ("{\"id\":\"e\",\"topic\":\"email\",\"type\":\"T\",\"dispatch_date\":\"2023-11-14T22:13:20."
         "123Z\",\"payload\":5,\"user\":\"u\\u0001\",\"attempts\":2,\"error\":[]}"),
        "4",
        "1700000000123",
        "1",
        "u\1",
        "NULL"};
    for (uint32_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_string_equal (s_text (i), expected[i]);
    }
    s_event (&event, "e", s_put_five, NULL);
    event.n = 3;
    event.attempt = 2;
    assert_int_equal (s_row (&event, why), 0);
    assert_string_equal (s_text (0), "db");
    assert_string_equal (s_text (1), "3");
    assert_string_equal (s_text (2), "NULL");
    assert_string_equal (s_text (4), "1");
    assert_string_equal (s_text (11), "1700000000000");
}

/* ---- Keys ---- */

static void
s_key_text (const db_event_t *event, char text[300]) {
    db_key_t key;
    ef_buf_clear (&s_arena);
    db_event_key (event, &s_arena, &key);
    const char *data = (const char *)s_arena.data;
    snprintf (text, 300, "%.*s|%.*s|%.*s", (int)key.topic.size, data + key.topic.at,
              (int)key.id.size, data + key.id.at, (int)key.mark.size, data + key.mark.at);
}

static void
s_put_dead (ef_buf_t *out) {
    ef_put_map (out, 1);
    ef_put_str (out, "ended");
    ef_put_map (out, 3);
    ef_put_key_str (out, "topic", "email");
    ef_put_key_uint (out, "n", 9);
    ef_put_key_str (out, "state", "dead");
}

static void
test_a_repeat_has_the_same_key_and_nothing_else_has (void **state) {
    (void)state;
    db_event_t event;
    char first[300];
    char other[300];
    s_event (&event, "e", s_put_five, NULL);
    event.tag = 1;
    s_key_text (&event, first);
    assert_memory_equal (first, "db|e|", 5);
    event.tag = 2;
    event.attempt = 3;
    s_key_text (&event, other);
    assert_string_equal (first, other);
    s_event (&event, "e", s_put_bin, NULL); /* the id for something else */
    s_key_text (&event, other);
    assert_string_not_equal (first, other);
    s_event (&event, "e", s_put_five, s_put_meta);
    s_key_text (&event, other);
    assert_string_equal (other, "email|e|9.done");
    s_event (&event, "e", s_put_five, s_put_dead); /* it was replayed, or died first */
    s_key_text (&event, other);
    assert_string_equal (other, "email|e|9.dead");
}

static void
test_ids_that_are_no_text_are_hexadecimal (void **state) {
    (void)state;
    db_event_t event;
    char why[512] = "";
    ef_buf_clear (&s_bytes);
    ef_put_array (&s_bytes, 3);
    ef_put_str (&s_bytes, "db");
    ef_put_bin (&s_bytes, "\x01\xff", 2);
    ef_put_nil (&s_bytes);
    assert_int_equal (db_event_read (&event, s_bytes.data, s_bytes.size), 0);
    s_read ("id, raw=id bytea, p=payload");
    assert_int_equal (s_row (&event, why), 0);
    assert_string_equal (s_text (0), "\\x01ff");
    assert_int_equal (s_values[1].kind, DB_KIND_BYTES);
    assert_string_equal (s_text (2), "NULL");
}

static void
test_events_cut_anywhere_are_refused_or_read (void **state) {
    (void)state;
    db_event_t event;
    char why[512];
    s_read ("a=payload.user.id, b=payload.items.1, c=result.sum, d=event, e=meta, f=errors");
    s_event (&event, "e", s_put_order, s_put_meta);
    ef_buf_t whole = s_bytes;
    s_bytes = (ef_buf_t){0};
    for (size_t size = 0; size < whole.size; size++) {
        guarded_t cut = guard (whole.data, size);
        assert_int_equal (db_event_read (&event, cut.bytes, size), -1);
        unguard (&cut);
    }
    for (size_t at = 0; at < whole.size; at++) {
        for (int change = 1; change < 256; change += 37) {
            guarded_t copy = guard (whole.data, whole.size);
            copy.bytes[at] = (uint8_t)(copy.bytes[at] + change);
            if (db_event_read (&event, copy.bytes, whole.size) == 0) {
                db_key_t key;
                ef_buf_clear (&s_arena);
                int rc = db_map_row (&s_map, &event, &s_arena, s_values, why);
                assert_true (rc == 0 || strstr (why, "column ")); /* and nothing past the end */
                db_event_key (&event, &s_arena, &key);
            }
            unguard (&copy);
        }
    }
    ef_buf_free (&whole);
}

/* ---- SQL and arrays ---- */

static void
test_names_are_quoted (void **state) {
    (void)state;
    ef_buf_t sql = {0};
    db_put_name (&sql, "a\"b", false);
    db_put_name (&sql, "s.t", true);
    db_put_name (&sql, "s.t", false);
    db_put_literal_name (&sql, "it's.\"x\"");
    db_put_names (&sql, " a, b\"c ,user");
    assert_string_equal (db_finish (&sql),
                         "\"a\"\"b\"\"s\".\"t\"\"s.t\"'\"it''s\".\"\"\"x\"\"\"'\"a\", \"b\"\"c\", "
                         "\"user\"");
    ef_buf_free (&sql);
}

static void
s_check_array (db_class_t class_id, db_value_t value, const char *text, int size) {
    ef_buf_t array = {0};
    db_batch_t batch = {.arena = &s_arena};
    db_column_t column = {.class_id = class_id};
    static const uint8_t head[] = {0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0, 1};
    db_array_open (&array, 1);
    db_array_put (&array, &batch, &column, &value);
    assert_memory_equal (array.data, head, sizeof head);
    assert_int_equal (array.data[23], size & 255);
    assert_int_equal (array.data[20], size < 0 ? 255 : 0);
    if (size > 0) {
        assert_int_equal (array.size, sizeof head + 4 + (size_t)size);
        assert_memory_equal (array.data + 24, text, (size_t)size);
    }
    ef_buf_free (&array);
}

static db_value_t
s_span_value (db_kind_t kind, const char *bytes, size_t size) {
    size_t at = s_arena.size;
    ef_buf_put (&s_arena, bytes, size);
    return (db_value_t){.kind = kind, .span = {at, (uint32_t)size}};
}

static void
test_arrays_hold_any_value (void **state) {
    (void)state;
    static const struct {
        double real;
        const char *text;
    } reals[] = {{0.1, "0.1"},
                 {1e300, "1e+300"},
                 {NAN, "NaN"},
                 {INFINITY, "Infinity"},
                 {-INFINITY, "-Infinity"},
                 {3, "3"},
                 {1.0 / 3, "0.3333333333333333"}};
    s_check_array (DB_CLASS_TEXT, (db_value_t){.kind = DB_KIND_NULL}, "", -1);
    s_check_array (DB_CLASS_BOOLEAN, (db_value_t){.kind = DB_KIND_TRUTH, .whole = 1}, "true", 4);
    s_check_array (DB_CLASS_INTEGER, (db_value_t){.kind = DB_KIND_WHOLE, .whole = INT64_MIN},
                   "-9223372036854775808", 20);
    for (size_t i = 0; i < sizeof reals / sizeof reals[0]; i++) {
        s_check_array (DB_CLASS_NUMBER, (db_value_t){.kind = DB_KIND_REAL, .real = reals[i].real},
                       reals[i].text, (int)strlen (reals[i].text));
    }
    ef_buf_clear (&s_arena);
    s_check_array (DB_CLASS_BYTES, s_span_value (DB_KIND_BYTES, "\0\xab", 2), "\\x00ab", 6);
    s_check_array (DB_CLASS_BYTES, s_span_value (DB_KIND_BYTES, "", 0), "\\x", 2);
    s_check_array (DB_CLASS_TEXT, s_span_value (DB_KIND_TEXT, "it's", 4), "it's", 4);
}

static void
test_json_strings_with_nul_become_base64 (void **state) {
    (void)state;
    static const char *const cases[][2] = {{"{\"a\":\"x\\u0000y\",\"b\":[\"\\\\u0000\"]}",
                                            "{\"a\":{\"$str\":\"eAB5\"},\"b\":[\"\\\\u0000\"]}"},
                                           {"\"\\u0000\"", "{\"$str\":\"AA==\"}"},
                                           {"{\"k\\u0000\":1}", "{\"k\\u0000\":1}"},
                                           {"[\"\\\"\\u0000\"]", "[{\"$str\":\"IgA=\"}]"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ef_buf_clear (&s_arena);
        s_check_array (DB_CLASS_JSON,
                       s_span_value (DB_KIND_TEXT, cases[i][0], strlen (cases[i][0])), cases[i][1],
                       (int)strlen (cases[i][1]));
    }
}

static void
test_states_of_postgresql_are_told_apart (void **state) {
    (void)state;
    static const struct {
        const char *state;
        db_verdict_t verdict;
        const char *code;
    } cases[] = {{"40001", DB_AGAIN, "SERIALIZATION"}, {"40P01", DB_AGAIN, "DEADLOCK"},
                 {"55P03", DB_LATER, "LOCKED"},        {"57014", DB_SLOW, "TIMEOUT"},
                 {"57P01", DB_LOST, "CONNECT"},        {"08006", DB_LOST, "CONNECT"},
                 {"53100", DB_FULL, "FULL"},           {"53300", DB_LOST, "CONNECT"},
                 {"22P02", DB_REFUSED, "TYPE"},        {"23505", DB_REFUSED, "CONSTRAINT"},
                 {"P0001", DB_REFUSED, "CONSTRAINT"},  {"42P01", DB_WRONG, "SETUP"},
                 {"42501", DB_WRONG, "SETUP"},         {"28P01", DB_WRONG, "SETUP"},
                 {"25006", DB_LOST, "READ_ONLY"},      {"XX000", DB_LATER, "SQL"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        db_fault_t fault;
        db_link_judge (cases[i].state, "words", &fault);
        assert_int_equal (fault.verdict, cases[i].verdict);
        assert_string_equal (fault.code, cases[i].code);
        assert_memory_equal (fault.text, cases[i].state, 5);
    }
}

static void
test_the_downstream_of_a_url_is_named_without_secrets (void **state) {
    (void)state;
    char name[256];
    char error[512];
    assert_int_equal (db_link_name ("postgresql://u:secret@h:7/d?sslmode=disable", name, error), 0);
    assert_string_equal (name, "postgresql:h:7/d");
    assert_int_equal (db_link_name ("postgresql://u@h", name, error), 0);
    assert_string_equal (name, "postgresql:h:5432/u");
    assert_int_equal (db_link_name ("postgresql://h?nothing=1", name, error), -1);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_columns_are_read),
        cmocka_unit_test (test_columns_that_are_wrong_are_refused_with_what_was_expected),
        cmocka_unit_test (test_types_have_classes),
        cmocka_unit_test (test_values_fit_their_columns),
        cmocka_unit_test (test_values_that_no_column_holds_are_refused),
        cmocka_unit_test (test_texts_are_utf8_without_nul),
        cmocka_unit_test (test_a_copy_tells_of_the_event_that_has_ended),
        cmocka_unit_test (test_a_repeat_has_the_same_key_and_nothing_else_has),
        cmocka_unit_test (test_ids_that_are_no_text_are_hexadecimal),
        cmocka_unit_test (test_events_cut_anywhere_are_refused_or_read),
        cmocka_unit_test (test_names_are_quoted),
        cmocka_unit_test (test_arrays_hold_any_value),
        cmocka_unit_test (test_json_strings_with_nul_become_base64),
        cmocka_unit_test (test_states_of_postgresql_are_told_apart),
        cmocka_unit_test (test_the_downstream_of_a_url_is_named_without_secrets)};
    int rc = cmocka_run_group_tests (tests, NULL, NULL);
    ef_buf_free (&s_bytes);
    ef_buf_free (&s_arena);
    return rc;
}
