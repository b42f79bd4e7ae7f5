/* Fields of payloads, templates, and templates by type. SPDX-License-Identifier: MIT */
#include "unit_mail.h"

#include "../../workers/field.h"
#include "../../workers/email/templates.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static ef_buf_t s_payload;
static ef_buf_t s_out;

static int
s_free (void **state) {
    (void)state;
    ef_buf_free (&s_payload);
    ef_buf_free (&s_out);
    return 0;
}

static const char s_sample[] =
    "{\"name\":\"Ann\",\"user\":{\"id\":7,\"a.b\":1},\"a.b\":\"whole\",\"a\":{\"b\":\"path\"},"
    "\"items\":[{\"price\":1.5},true],\"none\":null,\"empty\":\"\",\"html\":\"<a href='x'>&\\\"\"}";

static void
s_assert_field (const char *path, const char *wanted) {
    ef_span_t value;
    bool is_there = field_find (packed (&s_payload, s_sample), path, strlen (path), &value);
    assert_int_equal (is_there, wanted != NULL);
    ef_buf_clear (&s_out);
    if (wanted) {
        assert_int_equal (field_print (&s_out, value), 0);
        assert_text (&s_out, wanted);
    }
}

static void
test_field_is_found_by_path (void **state) {
    (void)state;
    s_assert_field ("name", "Ann");
    s_assert_field ("user.id", "7");
    s_assert_field ("a.b", "whole"); /* a name goes before a path */
    s_assert_field ("items.0.price", "1.5");
    s_assert_field ("items.1", "true");
    s_assert_field ("items", "[{\"price\":1.5},true]");
    s_assert_field ("empty", "");
    s_assert_field ("none", NULL);
    s_assert_field ("items.2", NULL);
    s_assert_field ("items.x", NULL);
    s_assert_field ("items.", NULL);
    s_assert_field ("items.4294967296", NULL);
    s_assert_field ("name.x", NULL);
    s_assert_field ("", NULL);
    s_assert_field (".", NULL);
    s_assert_field ("user.", NULL);
}

static void
test_field_of_any_bytes_stays_in_them (void **state) {
    (void)state;
    ef_span_t good = packed (&s_payload, s_sample);
    for (uint32_t cut = 0; cut < good.size; cut++) {
        guarded_t bytes = guard (good.data, cut);
        ef_span_t value;
        ef_span_t payload = {(char *)bytes.bytes, cut};
        (void)field_find (payload, "items.0.price", 13, &value);
        (void)field_get (payload, "html", &value);
        unguard (&bytes);
    }
    ef_span_t value;
    assert_false (field_find ((ef_span_t){NULL, 0}, "name", 4, &value));
}

static void
test_field_list_walks_over_one_or_many (void **state) {
    (void)state;
    field_list_t list;
    ef_span_t value;
    unsigned count = 0;
    for (field_list (&list, packed (&s_payload, "[1,2,3]")); field_next (&list, &value); count++) {
    }
    assert_int_equal (count, 3);
    for (field_list (&list, packed (&s_payload, "\"x\"")); field_next (&list, &value); count++) {
    }
    assert_int_equal (count, 4);
    field_list (&list, packed (&s_payload, "[]"));
    assert_false (field_next (&list, &value));
}

/* What a template comes to; NULL: it names a missing field, which is in s_out. */
static const char *
s_render (const char *text, bool is_html) {
    static char result[500];
    char error[256];
    char missing[TEMPLATE_NAME_MAX + 1] = "";
    template_values_t values = {.payload = packed (&s_payload, s_sample),
                                .id = span ("e1"),
                                .type = span ("signup"),
                                .topic = span ("email"),
                                .time_ms = 0};
    template_t *template = template_new (text, strlen (text), error);
    assert_non_null (template);
    ef_buf_clear (&s_out);
    int rc = template_render (template, &values, is_html, &s_out, missing);
    template_destroy (&template);
    assert_null (template);
    snprintf (result, sizeof result, "%.*s%s", rc ? 0 : (int)s_out.size, (char *)s_out.data,
              missing);
    if (rc) {
        assert_true (missing[0]);
        ef_buf_clear (&s_out);
        return NULL;
    }
    return result;
}

static void
test_template_is_filled (void **state) {
    (void)state;
    assert_string_equal (s_render ("Hi {{name}}, {{ user.id }}!", false), "Hi Ann, 7!");
    assert_string_equal (s_render ("{{name}}{{name}}", false), "AnnAnn");
    assert_string_equal (s_render ("no place } { }}", false), "no place } { }}");
    assert_string_equal (
        s_render ("{{event.id}} {{event.type}} {{event.topic}} {{event.time}}", false),
        "e1 signup email 1970-01-01T00:00:00.000Z");
    assert_string_equal (s_render ("{{nick|dear friend}} {{none|}}.", false), "dear friend .");
    assert_string_equal (s_render ("{{name|other}}", false), "Ann");
}

static void
test_template_names_what_is_missing (void **state) {
    (void)state;
    assert_null (s_render ("Hi {{nick}}", false));
    assert_null (s_render ("{{none}}", false));
    assert_null (s_render ("{{user.name}}", true));
}

static void
test_template_escapes_html (void **state) {
    (void)state;
    assert_string_equal (s_render ("<p>{{html}}</p>", true),
                         "<p>&lt;a href=&#39;x&#39;&gt;&amp;&quot;</p>");
    assert_string_equal (s_render ("<p>{{html}}</p>", false), "<p><a href='x'>&\"</p>");
}

static void
test_template_that_is_wrong_says_where (void **state) {
    (void)state;
    static const char *const wrong[] = {"a\n{{", "a\n{{}}", "a\n{{ }}", "a\n{{a b}}", "a\n{{a{b}}"};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char error[256] = "";
        assert_null (template_new (wrong[i], strlen (wrong[i]), error));
        assert_non_null (strstr (error, "line 2"));
    }
}

static void
s_write (const char *directory, const char *name, const char *text) {
    char path[300];
    snprintf (path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen (path, "w");
    assert_non_null (file);
    assert_int_equal (fwrite (text, 1, strlen (text), file), strlen (text));
    assert_int_equal (fclose (file), 0);
}

static bool
s_has (const letter_t *letter, letter_part_t part, const char *wanted) {
    template_values_t values = {.payload = packed (&s_payload, s_sample)};
    char missing[TEMPLATE_NAME_MAX + 1];
    ef_buf_clear (&s_out);
    if (letter->parts[part] == NULL) {
        return wanted == NULL;
    }
    assert_int_equal (template_render (letter->parts[part], &values, false, &s_out, missing), 0);
    return wanted && s_out.size == strlen (wanted) && memcmp (s_out.data, wanted, s_out.size) == 0;
}

static void
test_templates_are_found_by_type_and_read_again (void **state) {
    (void)state;
    char directory[] = "/tmp/ef-unit-XXXXXX";
    char error[512];
    letter_t letter;
    assert_non_null (mkdtemp (directory));
    s_write (directory, "a.txt", "Subject: Hi {{name}}\r\nreply-to: x@example.org\n\nText\n");
    s_write (directory, "a.html", "<p>{{name}}</p>");
    s_write (directory, "bad.txt", "Subject: x\nX-Other: y\n\n");
    s_write (directory, ".hidden.txt", "no");
    templates_t *templates = templates_new (directory, error);
    assert_non_null (templates);
    assert_int_equal (templates_find (templates, span ("a"), &letter, error), 1);
    assert_true (s_has (&letter, LETTER_SUBJECT, "Hi Ann"));
    assert_true (s_has (&letter, LETTER_REPLY_TO, "x@example.org"));
    assert_true (s_has (&letter, LETTER_TEXT, "Text\n"));
    assert_true (s_has (&letter, LETTER_HTML, "<p>Ann</p>"));
    assert_int_equal (templates_find (templates, span ("b"), &letter, error), 0);
    assert_int_equal (templates_find (templates, span ("bad"), &letter, error), -1);
    assert_non_null (strstr (error, "bad.txt: line 2"));
    static const char *const odd[] = {"../a", "", ".hidden", "a/b", "a b", "\xc3\xa4"};
    for (unsigned i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        assert_int_equal (templates_find (templates, span (odd[i]), &letter, error), 0);
    }
    assert_int_equal (templates_find (templates, (ef_span_t){NULL, 0}, &letter, error), 0);
    s_write (directory, "a.txt",
             "Only text, longer than before: no field's name begins it\n\nmore");
    assert_int_equal (templates_find (templates, span ("a"), &letter, error), 1);
    assert_true (s_has (&letter, LETTER_SUBJECT, NULL));
    assert_true (s_has (&letter, LETTER_TEXT,
                        "Only text, longer than before: no field's name begins it\n\nmore"));
    templates_destroy (&templates);
    char command[400];
    snprintf (command, sizeof command, "rm -r %s", directory);
    assert_int_equal (system (command), 0);
    assert_null (templates_new (directory, error));
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_field_is_found_by_path),
        cmocka_unit_test (test_field_of_any_bytes_stays_in_them),
        cmocka_unit_test (test_field_list_walks_over_one_or_many),
        cmocka_unit_test (test_template_is_filled),
        cmocka_unit_test (test_template_names_what_is_missing),
        cmocka_unit_test (test_template_escapes_html),
        cmocka_unit_test (test_template_that_is_wrong_says_where),
        cmocka_unit_test (test_templates_are_found_by_type_and_read_again),
    };
    return cmocka_run_group_tests (tests, NULL, s_free);
}
