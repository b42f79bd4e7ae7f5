/* JSON Schema: what fits, and where it doesn't. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../clients/gateway/schema.h"
#include "../../proto/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* "" where the value fits, else "pointer: why", or what is wrong with the schema. */
static const char *
s_check (const char *schema_text, const char *value_text) {
    static char text[600];
    char error[512];
    char pointer[200];
    char why[200];
    const char *expected;
    ef_buf_t value = {0};
    schema_t *schema = schema_new (schema_text, strlen (schema_text), error);
    if (schema == NULL) {
        snprintf (text, sizeof text, "schema: %s", error);
        return text;
    }
    size_t used = ef_json_parse (&value, value_text, strlen (value_text), &expected);
    assert_int_equal (used, strlen (value_text));
    bool fits = schema_fits (schema, ef_cursor (value.data, value.size), pointer, why);
    snprintf (text, sizeof text, "%s%s%s", fits ? "" : pointer, fits ? "" : ": ", fits ? "" : why);
    ef_buf_free (&value);
    schema_destroy (&schema);
    return text;
}

static void
test_schema_keywords (void **state) {
    static const char *const rows[][3] = {
        {"{}", "[1,{}]", ""},
        {"true", "1", ""},
        {"false", "1", ": expected nothing: this member isn't known"},
        {"{\"type\":\"string\"}", "1", ": expected string"},
        {"{\"type\":[\"string\",\"null\"]}", "null", ""},
        {"{\"type\":[\"string\",\"null\"]}", "[]", ": expected null or string"},
        {"{\"type\":\"integer\"}", "1.0", ""},
        {"{\"type\":\"integer\"}", "1.5", ": expected integer"},
        {"{\"type\":\"number\"}", "18446744073709551615", ""},
        {"{\"required\":[\"a\"]}", "{}", "/a: expected it: this member is required"},
        {"{\"required\":[\"a\"]}", "{\"b\":0,\"a\":null}", ""},
        {"{\"required\":[\"a\"]}", "5", ""},
        {"{\"properties\":{\"a\":{\"type\":\"integer\"}}}", "{\"a\":\"x\"}",
         "/a: expected integer"},
        {"{\"properties\":{\"a/b~c\":{\"minimum\":3}}}", "{\"a/b~c\":2}",
         "/a~1b~0c: expected at least 3"},
        {"{\"additionalProperties\":false,\"properties\":{\"a\":{}}}", "{\"a\":1,\"b\":1}",
         "/b: expected nothing: this member isn't known"},
        {"{\"additionalProperties\":{\"type\":\"string\"}}", "{\"a\":\"x\",\"b\":1}",
         "/b: expected string"},
        {"{\"items\":{\"properties\":{\"n\":{\"maximum\":5}}}}", "[{\"n\":5},{\"n\":6}]",
         "/1/n: expected at most 5"},
        {"{\"minItems\":2}", "[1]", ": expected at least 2 items"},
        {"{\"maxItems\":1}", "[1,2]", ": expected at most 1 items"},
        {"{\"minProperties\":1}", "{}", ": expected at least 1 members"},
        {"{\"minLength\":2,\"maxLength\":3}", "\"\xc3\xa9\xc3\xa9\"", ""},
        {"{\"minLength\":2}", "\"\xc3\xa9\"", ": expected at least 2 characters"},
        {"{\"exclusiveMinimum\":0}", "0", ": expected more than 0"},
        {"{\"exclusiveMaximum\":10}", "10", ": expected less than 10"},
        {"{\"enum\":[1,\"a\",{\"x\":[1]}]}", "{\"x\":[1.0]}", ""},
        {"{\"enum\":[1,\"a\"]}", "\"b\"", ": expected one of the values that enum names"},
        {"{\"const\":null}", "0", ": expected the value that const names"},
        {"{\"$schema\":\"s\",\"title\":\"t\",\"format\":\"email\"}", "1", ""},
        {"{\"pattern\":\"x\"}", "1", "schema: the keyword pattern isn't known here"},
        {"{\"properties\":{\"a\":{\"allOf\":[]}}}", "1",
         "schema: the keyword allOf isn't known here"},
        {"{\"type\":\"text\"}", "1", "schema: type has a value that it can't have"},
        {"{\"minLength\":-1}", "1", "schema: minLength has a value that it can't have"},
        {"{\"enum\":5}", "1", "schema: enum has a value that it can't have"},
        {"5", "1", "schema: a schema is an object, or true or false"},
        {"{", "1", "schema: expected a string"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_string_equal (s_check (rows[i][0], rows[i][1]), rows[i][2]);
    }
}

static void
s_write (const char *directory, const char *name, const char *text) {
    char path[300];
    snprintf (path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen (path, "w");
    assert_non_null (file);
    fputs (text, file);
    fclose (file);
}

static void
test_schemas_are_found_by_type_and_version (void **state) {
    char directory[] = "/tmp/ef-schemas-XXXXXX";
    char error[512] = "";
    char command[100];
    (void)state;
    assert_non_null (mkdtemp (directory));
    s_write (directory, "order.json", "{\"type\":\"object\"}");
    s_write (directory, "order@2.json", "{\"type\":\"array\"}");
    s_write (directory, "README", "no schema");
    schemas_t *schemas = schemas_new (directory, error);
    assert_string_equal (error, "");
    assert_int_equal (schemas_count (schemas), 2);
    const schema_t *plain = schemas_find (schemas, (ef_span_t){"order", 5}, -1);
    const schema_t *second = schemas_find (schemas, (ef_span_t){"order", 5}, 2);
    assert_non_null (plain);
    assert_non_null (second);
    assert_ptr_not_equal (plain, second);
    assert_ptr_equal (schemas_find (schemas, (ef_span_t){"order", 5}, 3), plain);
    assert_null (schemas_find (schemas, (ef_span_t){"other", 5}, -1));
    assert_null (schemas_find (schemas, (ef_span_t){NULL, 0}, -1));
    schemas_destroy (&schemas);
    s_write (directory, "bad.json", "{\"oneOf\":[]}");
    assert_null (schemas_new (directory, error));
    assert_non_null (strstr (error, "bad.json: the keyword oneOf isn't known here"));
    snprintf (command, sizeof command, "rm -r %s", directory);
    assert_int_equal (system (command), 0);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_schema_keywords),
        cmocka_unit_test (test_schemas_are_found_by_type_and_version),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
