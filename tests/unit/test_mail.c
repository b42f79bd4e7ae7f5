/* Addresses, forms of text, mails made of events, events for those that are left.
   SPDX-License-Identifier: MIT */
#include "dice.h"
#include "unit_mail.h"

#include "../../proto/event.h"
#include "../../workers/field.h"
#include "../../workers/email/mail.h"
#include "../../workers/email/mime.h"

#include <stdio.h>

static ef_buf_t s_payload;
static ef_buf_t s_out;
static mail_t s_mail;
static mail_error_t s_error;

static int
s_free (void **state) {
    (void)state;
    ef_buf_free (&s_payload);
    ef_buf_free (&s_out);
    mail_free (&s_mail);
    return 0;
}

/* ---- Addresses ---- */

static void
test_addresses_are_judged_strictly (void **state) {
    (void)state;
    static const char *const good[] = {"a@b",
                                       "ann.b+c@example.org",
                                       "\"a b\"@x",
                                       "\"a@b\\\"\"@x.y",
                                       "a@[192.0.2.1]",
                                       "a@[IPv6:::1]",
                                       "!#$%&'*+-/=?^_`{|}~@x",
                                       "j\xc3\xb6rg@x",
                                       ("a@b\xc3\xbc"
                                        "cher.example"),
                                       "a@1.2-3"};
    static const char *const bad[] = {
        "",         "a",         "@",     "a@",     "@b",     "a@@b",    "a@b@c",   ".a@b",
        "a.@b",     "a..b@c",    "a b@c", "a@b c",  "a@-b",   "a@b-",    "a@b..c",  "a@b.",
        "a@.b",     "a>@b",      "a@b>",  "a\r@b",  "a@b\n",  "a\x01@b", "a@b\x7f", "\"a@b",
        "\"a\"b@c", "\"a\n\"@b", "a@[b",  "a@[]",   "a@[<>]", "a,b@c",   "a;b@c",   "a@b_c",
        "a\xff@b",  "a@b\xff",   "\"\\",  "(c)a@b", "a@b(c)"};
    bool is_ascii;
    for (unsigned i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_null (mailbox_check (good[i], strlen (good[i]), &is_ascii));
        assert_int_equal (is_ascii, strchr (good[i], '\xc3') == NULL);
    }
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        guarded_t text = guard (bad[i], strlen (bad[i]));
        if (mailbox_check ((char *)text.bytes, strlen (bad[i]), &is_ascii) == NULL) {
            fail_msg ("taken: %s", bad[i]);
        }
        unguard (&text);
    }
    assert_non_null (mailbox_check ("a\0@b", 4, &is_ascii));
    assert_non_null (mailbox_check ("a@b\0", 4, &is_ascii));
    char longest[MAILBOX_ADDRESS_MAX + 2];
    memset (longest, 'a', sizeof longest);
    for (unsigned i = MAILBOX_LOCAL_MAX; i < sizeof longest; i += 50) {
        longest[i] = i == MAILBOX_LOCAL_MAX ? '@' : '.';
    }
    assert_null (mailbox_check (longest, MAILBOX_ADDRESS_MAX, &is_ascii));
    assert_non_null (mailbox_check (longest, MAILBOX_ADDRESS_MAX + 1, &is_ascii));
}

/* "name|address,…", or "!" where it stops with an error. */
static void
s_assert_list (const char *text, const char *wanted) {
    guarded_t copy = guard (text, strlen (text));
    const char *at = (char *)copy.bytes;
    const char *end = at + strlen (text);
    const char *why;
    mailbox_t mailbox;
    int rc;
    ef_buf_clear (&s_out);
    while ((rc = mailbox_next (&at, end, &mailbox, &why)) == 1) {
        char item[700];
        snprintf (item, sizeof item, "%s|%s,", mailbox.name, mailbox.address);
        ef_buf_put (&s_out, item, strlen (item));
    }
    ef_buf_put (&s_out, "!", rc < 0);
    assert_text (&s_out, wanted);
    assert_int_equal (rc < 0, why != NULL);
    unguard (&copy);
}

static void
test_lists_of_mailboxes_are_read (void **state) {
    (void)state;
    s_assert_list ("", "");
    s_assert_list (" a@b ", "|a@b,");
    s_assert_list ("a@b,c@d", "|a@b,|c@d,");
    s_assert_list ("Ann B. <a@b>", "Ann B.|a@b,");
    s_assert_list ("<a@b>", "|a@b,");
    s_assert_list ("\"B, \\\"Ann\\\"\" <a@b> , c@d", "B, \"Ann\"|a@b,|c@d,");
    s_assert_list ("\"a,b\"@c", "|\"a,b\"@c,");
    s_assert_list ("J\xc3\xb6rg <a@b>", "J\xc3\xb6rg|a@b,");
    s_assert_list ("a@b c@d", "!");
    s_assert_list ("a@b,,c@d", "|a@b,!");
    s_assert_list ("B, Ann <a@b>", "!");
    s_assert_list ("Ann <a@b", "!");
    s_assert_list ("Ann <a@b> x", "!");
    s_assert_list ("Ann <a@b> <c@d>", "!");
    s_assert_list ("An\nn <a@b>", "!");
    s_assert_list ("A\"n\"n <a@b>", "!");
    s_assert_list ("\xff <a@b>", "!");
    s_assert_list ("Ann <>", "!");
    s_assert_list ("\"", "!");
    s_assert_list ("\"\\", "!");
}

/* ---- Forms ---- */

static void
test_header_fields_are_folded_and_encoded (void **state) {
    (void)state;
    mime_put_field (&s_out, "Subject", "", 0);
    ef_buf_clear (&s_out);
    mime_put_field (&s_out, "Subject", "Hello you", 9);
    assert_text (&s_out, "Subject: Hello you\r\n");
    ef_buf_clear (&s_out);
    mime_put_field (&s_out, "Subject", "H\xc3\xa4llo", 6);
    assert_text (&s_out, "Subject: =?UTF-8?B?SMOkbGxv?=\r\n");
    ef_buf_clear (&s_out);
    mime_put_field (&s_out, "Subject", "=?x", 3); /* as a word it would be read as encoded */
    assert_text (&s_out, "Subject: =?UTF-8?B?PT94?=\r\n");
}

/* No line of header or body is longer than 76, none ends otherwise than in CR LF, all is 7-bit. */
static void
s_assert_lines (const ef_buf_t *out) {
    size_t line = 0;
    for (size_t i = 0; i < out->size; i++) {
        assert_true (out->data[i] < 0x80);
        assert_int_equal (out->data[i] == '\n', i > 0 && out->data[i - 1] == '\r');
        line = out->data[i] == '\n' ? 0 : line + 1;
        assert_true (line <= 77);
    }
    assert_int_equal (line, 0);
}

/* Writes up to 39 of the pieces, at random. */
static void
s_roll (const char *const *pieces, uint32_t count, char text[2400]) {
    text[0] = 0;
    for (unsigned left = dice_below (40); left > 0; left--) {
        strncat (text, pieces[dice_below (count)], 2399 - strlen (text));
    }
}

static void
test_any_header_text_keeps_to_its_lines (void **state) {
    (void)state;
    static const char *const pieces[] = {"a",
                                         " ",
                                         "word",
                                         "\xc3\xa4",
                                         "\xe2\x82\xac",
                                         "\xf0\x9f\x98\x80",
                                         "=?",
                                         "  ",
                                         "longer-than-most-words-are"};
    for (unsigned round = 0; round < 20000; round++) {
        char text[2400];
        s_roll (pieces, 9, text);
        ef_buf_clear (&s_out);
        mime_put_field (&s_out, "Subject", text, strlen (text));
        s_assert_lines (&s_out);
    }
}

static void
test_any_text_keeps_to_its_lines (void **state) {
    (void)state;
    static const char *const pieces[] = {
        "a",
        " ",
        "words of it ",
        "\xc3\xa4",
        "\n",
        "\r\n",
        "\t",
        ".",
        "--=_",
        "\r",
        "=",
        "From ",
        "a long line that goes on for quite a while, to be broken"};
    for (unsigned round = 0; round < 20000; round++) {
        char text[2400];
        s_roll (pieces, 13, text);
        ef_buf_clear (&s_out);
        mime_put_text (&s_out, "text/plain", text, strlen (text));
        s_assert_lines (&s_out);
        const char *body = memmem (s_out.data, s_out.size, "\r\n\r\n", 4);
        assert_non_null (body);
        assert_null (memmem (body, (size_t)((char *)s_out.data + s_out.size - body), "\n--=_", 5));
    }
}

static void
test_quoted_printable_is_exact (void **state) {
    (void)state;
    const char text[] = "caf\xc3\xa9 is a word of four letters = one \nend \t";
    ef_buf_clear (&s_out);
    mime_put_text (&s_out, "text/plain", text, sizeof text - 1);
    const char *body = memmem (s_out.data, s_out.size, "\r\n\r\n", 4);
    assert_non_null (body);
    static const char wanted[] = "caf=C3=A9 is a word of four letters =3D one=20\r\nend =09\r\n";
    assert_int_equal ((char *)s_out.data + s_out.size - body, sizeof wanted - 1 + 4);
    assert_memory_equal (body + 4, wanted, sizeof wanted - 1);
}

static void
test_file_names_follow_rfc_2231 (void **state) {
    (void)state;
    ef_buf_clear (&s_out);
    mime_put_parameter (&s_out, "filename", "a \"b\".txt", 9);
    assert_text (&s_out, ";\r\n filename=\"a \\\"b\\\".txt\"");
    ef_buf_clear (&s_out);
    mime_put_parameter (&s_out, "filename", "\xc3\xa4.txt", 6);
    assert_text (&s_out, ";\r\n filename*0*=UTF-8''%C3%A4.txt");
}

/* ---- Mails ---- */

static const mail_settings_t s_settings = {.from = "Shop <shop@example.org>",
                                           .host = "",
                                           .subject = "",
                                           .text = "",
                                           .html = "",
                                           .templates = ""};

/* Makes the mail of a payload in JSON. */
static int
s_make (const mail_settings_t *settings, const char *json) {
    char error[512] = "";
    template_values_t event = {.payload = packed (&s_payload, json),
                               .id = span ("id-1"),
                               .type = span ("SIGNUP"),
                               .topic = span ("email")};
    mail_maker_t *maker = mail_maker_new (settings, error);
    assert_string_equal (error, "");
    int rc = mail_make (maker, &event, 2, &s_mail, &s_error);
    if (rc == 0) { /* made again by the same maker, it is the same */
        ef_buf_t first = s_mail.bytes;
        s_mail.bytes = (ef_buf_t){0};
        assert_int_equal (mail_make (maker, &event, 2, &s_mail, &s_error), 0);
        assert_int_equal (first.size, s_mail.bytes.size);
        ef_buf_free (&first);
    }
    mail_maker_destroy (&maker);
    return rc;
}

static void
s_assert_refused (const char *json, const char *code, const char *word) {
    assert_int_equal (s_make (&s_settings, json), -1);
    assert_string_equal (s_error.code, code);
    if (strstr (s_error.text, word) == NULL) {
        fail_msg ("%s: %s", json, s_error.text);
    }
    assert_false (s_error.may_pass);
}

static void
s_assert_recipients (const char *wanted) {
    size_t size = 0;
    for (uint32_t i = 0; i < s_mail.recipient_count; i++) {
        const char *at = (char *)s_mail.recipients.data + size;
        assert_memory_equal (wanted, at, strlen (at));
        wanted += strlen (at) + (i + 1 < s_mail.recipient_count);
        size += strlen (at) + 1;
    }
    assert_string_equal (wanted, "");
    assert_int_equal (size, s_mail.recipients.size);
}

static void
test_mail_of_a_notification (void **state) {
    (void)state;
    assert_int_equal (
        s_make (&s_settings, "{\"to_email\":\"test@example.com\",\"message\":\"Hello\"}"), 0);
    s_assert_recipients ("test@example.com");
    assert_string_equal (s_mail.sender, "shop@example.org");
    assert_string_equal (s_mail.id, "<id-1@example.org>");
    assert_true (has_text (&s_mail.bytes, "From: Shop <shop@example.org>\r\n"));
    assert_true (has_text (&s_mail.bytes, "To: test@example.com\r\n"));
    assert_true (has_text (&s_mail.bytes, "Subject: SIGNUP\r\n"));
    assert_true (has_text (&s_mail.bytes, "Message-ID: <id-1@example.org>\r\n"));
    assert_true (has_text (&s_mail.bytes, "X-Eventflow-Attempt: 2\r\n"));
    assert_true (has_text (&s_mail.bytes, "\r\n\r\nHello\r\n"));
    assert_false (s_mail.needs_utf8);
    s_assert_lines (&s_mail.bytes);
}

static void
test_mail_of_a_bare_address (void **state) {
    (void)state;
    assert_int_equal (s_make (&s_settings, "\"user@example.com\""), 0);
    s_assert_recipients ("user@example.com");
    assert_true (has_text (&s_mail.bytes, "\r\n\r\nThis is a notification: SIGNUP.\r\n"));
}

static void
test_mail_of_a_template_in_the_section (void **state) {
    (void)state;
    mail_settings_t settings = s_settings;
    settings.subject = "Welcome, {{name}}";
    settings.text = "Dear {{name}}";
    settings.html = "<b>{{name}}</b>";
    assert_int_equal (s_make (&settings, "{\"name\":\"A & B\",\"email\":\"a@b\"}"), 0);
    assert_true (has_text (&s_mail.bytes, "Subject: Welcome, A & B\r\n"));
    assert_true (has_text (&s_mail.bytes, "\r\n\r\nDear A & B\r\n"));
    assert_true (has_text (&s_mail.bytes, "\r\n\r\n<b>A &amp; B</b>\r\n"));
    assert_true (has_text (&s_mail.bytes, "multipart/alternative"));
    assert_int_equal (s_make (&settings, "{\"nam\":\"A\",\"email\":\"a@b\"}"), -1);
    assert_string_equal (s_error.code, "MISSING_FIELD");
    assert_non_null (strstr (s_error.text, " name"));
    assert_int_equal (
        s_make (&settings, "{\"name\":\"A\\r\\nBcc: x@y\",\"email\":\"a@b\",\"text\":\"t\"}"), -1);
    assert_string_equal (s_error.code, "BAD_FIELD"); /* it would come into the subject */
    assert_non_null (strstr (s_error.text, "subject"));
}

static void
test_all_recipients_are_in_the_envelope_once (void **state) {
    (void)state;
    assert_int_equal (
        s_make (&s_settings,
                "{\"to\":[\"Ann <a@b>\",\"c@d, e@f\"],\"cc\":\"a@b\",\"bcc\":[\"g@h\"],"
                "\"reply_to\":\"r@s\",\"email\":\"ignored@x\",\"text\":\"t\"}"),
        0);
    s_assert_recipients ("a@b,c@d,e@f,g@h");
    assert_true (has_text (&s_mail.bytes,
                           "To: Ann <a@b>,\r\n c@d,\r\n e@f\r\nCc: a@b\r\nReply-To: r@s\r\n"));
    assert_false (has_text (&s_mail.bytes, "g@h"));
    assert_int_equal (s_make (&s_settings, "{\"bcc\":\"a@b\",\"text\":\"t\"}"), 0);
    assert_true (has_text (&s_mail.bytes, "To: undisclosed-recipients:;\r\n"));
}

static void
test_rest_narrows_the_envelope_and_keeps_the_id (void **state) {
    (void)state;
    assert_int_equal (s_make (&s_settings, "{\"to\":[\"a@b\",\"c@d\"],\"text\":\"t\","
                                           "\"rest\":{\"of\":\"first\",\"to\":[\"c@d\",\"x@y\"]}}"),
                      0);
    s_assert_recipients ("c@d");
    assert_string_equal (s_mail.id, "<first@example.org>");
    assert_true (has_text (&s_mail.bytes, "To: a@b,\r\n c@d\r\n"));
    s_assert_refused ("{\"to\":\"a@b\",\"text\":\"t\",\"rest\":{\"of\":\"x\",\"to\":[]}}",
                      "NO_RECIPIENT", "rest");
    s_assert_refused ("{\"to\":\"a@b\",\"text\":\"t\",\"rest\":7}", "BAD_FIELD", "rest");
}

static void
test_what_cannot_be_sent_is_named (void **state) {
    (void)state;
    s_assert_refused ("{\"text\":\"t\"}", "NO_RECIPIENT", "to_email");
    s_assert_refused ("{\"to\":[],\"text\":\"t\"}", "NO_RECIPIENT", "to");
    s_assert_refused ("{\"to\":\"\",\"text\":\"t\"}", "NO_RECIPIENT", "to");
    s_assert_refused ("{\"to\":\"a@b\"}", "NO_TEXT", "message");
    s_assert_refused ("{\"to\":\"a\",\"text\":\"t\"}", "BAD_ADDRESS", "to,");
    s_assert_refused ("{\"to_email\":7,\"text\":\"t\"}", "BAD_ADDRESS", "to_email");
    s_assert_refused ("{\"to\":\"a@b\",\"cc\":[\"c@d\",\"e\"],\"text\":\"t\"}", "BAD_ADDRESS",
                      "cc, address 2");
    s_assert_refused ("{\"to\":\"a@b\\r\\nRCPT TO:<x@y>\",\"text\":\"t\"}", "BAD_ADDRESS", "to");
    s_assert_refused ("{\"to\":\"A\\nBcc: x@y <a@b>\",\"text\":\"t\"}", "BAD_ADDRESS", "to");
    s_assert_refused ("{\"to\":\"a@b\",\"reply_to\":\"a@b\\u0000\",\"text\":\"t\"}", "BAD_ADDRESS",
                      "reply_to");
    s_assert_refused ("{\"to\":\"a@b\",\"subject\":\"x\\ry\",\"text\":\"t\"}", "BAD_FIELD",
                      "subject");
    s_assert_refused ("{\"to\":\"a@b\",\"subject\":\"x\\u0000\",\"text\":\"t\"}", "BAD_FIELD",
                      "subject");
    s_assert_refused ("{\"to\":\"a@b\",\"text\":{\"$bin\":\"/w==\"}}", "BAD_FIELD", "text");
    s_assert_refused ("{\"to\":\"a@b\",\"text\":\"t\",\"attachments\":[{\"name\":\"x\"}]}",
                      "BAD_ATTACHMENT", "content");
    s_assert_refused (
        "{\"to\":\"a@b\",\"text\":\"t\",\"attachments\":[{\"name\":\"x\\ny\",\"content\":\"\"}]}",
        "BAD_ATTACHMENT", "name");
    s_assert_refused ("{\"to\":\"a@b\",\"text\":\"t\",\"attachments\":[{\"type\":\"a/b\\r\\nX: "
                      "y\",\"content\":\"\"}]}",
                      "BAD_ATTACHMENT", "type");
    s_assert_refused ("{\"to\":\"a@b\",\"text\":\"t\",\"attachments\":[{\"content\":\"!\","
                      "\"encoding\":\"base64\"}]}",
                      "BAD_ATTACHMENT", "content");
    s_assert_refused ("7", "NO_TEXT", "message");
    s_assert_refused ("\"nobody\"", "BAD_ADDRESS", "payload");
    s_assert_refused ("\"a@b, c@d\"", "BAD_ADDRESS", "payload");
}

static void
test_attachments_are_whole (void **state) {
    (void)state;
    assert_int_equal (
        s_make (&s_settings,
                "{\"to\":\"a@b\",\"text\":\"t\",\"html\":\"<p>h\",\"attachments\":["
                "{\"name\":\"a.bin\",\"type\":\"image/png\",\"content\":{\"$bin\":\"AAEC\"}},"
                "{\"content\":\"AAEC\",\"encoding\":\"base64\",\"type\":\"message/rfc822\"}]}"),
        0);
    assert_true (has_text (&s_mail.bytes, "multipart/mixed"));
    assert_true (has_text (&s_mail.bytes, "Content-Type: image/png\r\n"));
    assert_true (
        has_text (&s_mail.bytes, "filename=\"a.bin\"\r\n\r\nAAEC\r\n--=_eventflow_mixed\r\n"));
    assert_true (has_text (&s_mail.bytes,
                           "filename=\"attachment\"\r\n\r\nAAEC\r\n--=_eventflow_mixed--\r\n"));
    assert_false (has_text (&s_mail.bytes, "rfc822"));
    s_assert_lines (&s_mail.bytes);
}

static void
test_addresses_past_ascii_need_utf8 (void **state) {
    (void)state;
    assert_int_equal (s_make (&s_settings, "{\"to\":\"J\\u00f6rg <a@b>\",\"text\":\"t\"}"), 0);
    assert_false (s_mail.needs_utf8);
    s_assert_lines (&s_mail.bytes);
    assert_int_equal (s_make (&s_settings, "{\"to\":\"j\\u00f6rg@b\",\"text\":\"t\"}"), 0);
    assert_true (s_mail.needs_utf8);
    assert_int_equal (
        s_make (&s_settings, "{\"to\":\"a@b\",\"reply_to\":\"a@\\u00f6\",\"text\":\"t\"}"), 0);
    assert_true (s_mail.needs_utf8);
}

static void
test_ids_of_any_bytes_stay_apart_and_harmless (void **state) {
    (void)state;
    static const struct {
        const char *id;
        size_t size;
        const char *wanted;
    } rows[] = {{"01a1-Zz_9", 9, "01a1-Zz_9"}, {"a.b", 3, "a=2Eb"},
                {"a=2Eb", 5, "a=3D2Eb"},       {"a@b>\r\n", 6, "a=40b=3E=0D=0A"},
                {"\0\xff", 2, "=00=FF"},       {"a/rest", 6, "a=2Frest"}};
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ef_buf_clear (&s_out);
        mail_put_id (&s_out, (ef_span_t){rows[i].id, (uint32_t)rows[i].size});
        assert_text (&s_out, rows[i].wanted);
    }
}

static void
test_settings_that_cannot_work_are_refused (void **state) {
    (void)state;
    mail_settings_t wrong[5] = {s_settings, s_settings, s_settings, s_settings, s_settings};
    static const char *const words[] = {"from", "from", "message_host", "text: line 1",
                                        "templates"};
    wrong[0].from = "nobody";
    wrong[1].from = "a@b, c@d";
    wrong[2].host = "x>y";
    wrong[3].text = "{{";
    wrong[4].templates = "/nowhere";
    for (unsigned i = 0; i < 5; i++) {
        char error[512] = "";
        assert_null (mail_maker_new (&wrong[i], error));
        assert_non_null (strstr (error, words[i]));
    }
}

static void
test_rest_is_the_same_event_for_those_left (void **state) {
    (void)state;
    static const char left[] = "c@d\0e@f";
    ef_buf_t whole = {0};
    ef_buf_t addresses = {0};
    ef_buf_put (&addresses, left, sizeof left);
    ef_put_array (&whole, 4);
    ef_put_str (&whole, "email");
    ef_put_bin (&whole, "\xff\x01", 2);
    ef_span_t payload = packed (&s_payload, "{\"to\":[\"a@b\",\"c@d\",\"e@f\"],\"text\":\"t\"}");
    ef_buf_put (&whole, payload.data, payload.size);
    payload = packed (&s_payload, "{\"type\":\"T\",\"at\":1,\"delay\":2,\"key\":\"k\"}");
    ef_buf_put (&whole, payload.data, payload.size);
    for (unsigned round = 0; round < 2; round++) { /* the rest of a rest tells of the first */
        ef_buf_clear (&s_out);
        assert_int_equal (mail_rest (&s_out, (ef_span_t){(char *)whole.data, (uint32_t)whole.size},
                                     &addresses, 500),
                          0);
        ef_buf_clear (&whole);
        ef_buf_put (&whole, s_out.data, s_out.size);
    }
    ef_cursor_t cursor = ef_cursor (whole.data, whole.size);
    ef_event_t event;
    const char *why;
    assert_int_equal (ef_event_read (&cursor, &event, &why), EF_OK);
    assert_int_equal (ef_cursor_left (&cursor), 0);
    assert_true (ef_span_is (event.topic, "email") && ef_span_is (event.type, "T"));
    assert_true (ef_span_is (event.id, "\xff\x01/rest/rest") && ef_span_is (event.key, "k"));
    assert_true (event.delay_ms == 500 && event.at_ms == -1);
    cursor = ef_cursor (event.payload.data, event.payload.size);
    ef_buf_clear (&s_out);
    assert_int_equal (ef_json_print (&s_out, &cursor), 0);
    assert_text (&s_out, "{\"to\":[\"a@b\",\"c@d\",\"e@f\"],\"text\":\"t\","
                         "\"rest\":{\"of\":{\"$bin\":\"/wE=\"},\"to\":[\"c@d\",\"e@f\"]}}");
    ef_buf_free (&whole);
    ef_buf_free (&addresses);
}

/* Whatever the payload is, a mail or a named error comes of it. */
static void
test_any_payload_is_a_mail_or_an_error (void **state) {
    (void)state;
    static const char *const keys[] = {"to",   "cc",          "subject", "text",
                                       "html", "attachments", "rest",    "reply_to",
                                       "name", "content",     "of"};
    char error[512];
    mail_maker_t *maker = mail_maker_new (&s_settings, error);
    for (unsigned round = 0; round < 20000; round++) {
        ef_buf_clear (&s_payload);
        ef_put_map (&s_payload, 4);
        for (unsigned i = 0; i < 4; i++) {
            ef_put_str (&s_payload, keys[dice_below (11)]);
            unsigned kind = dice_below (8);
            char bytes[9];
            for (unsigned k = 0; k < 9; k++) {
                bytes[k] = "a@b<>,\"\\\r\n\0\xc3\xa4 .-"[dice_below (17)];
            }
            if (kind < 3) {
                ef_put_strn (&s_payload, bytes, dice_below (10));
            } else if (kind < 5) {
                ef_put_str (&s_payload, "a@b");
            } else if (kind == 5) {
                ef_put_array (&s_payload, 1);
                ef_put_map (&s_payload, 1);
                ef_put_str (&s_payload, keys[dice_below (11)]);
                ef_put_bin (&s_payload, bytes, dice_below (10));
            } else {
                ef_put_uint (&s_payload, 7);
            }
        }
        template_values_t event = {.payload = {(char *)s_payload.data, (uint32_t)s_payload.size},
                                   .id = span ("x")};
        s_error.code = NULL;
        if (mail_make (maker, &event, 1, &s_mail, &s_error)) {
            assert_true (s_error.code && s_error.text[0]);
            continue;
        }
        assert_true (s_mail.recipient_count > 0);
        const char *body = memmem (s_mail.bytes.data, s_mail.bytes.size, "\r\n\r\n", 4);
        assert_non_null (body);
        for (const char *at = (char *)s_mail.bytes.data; at < body; at++) {
            assert_true (*at != 0 && (*at != '\n' || at[-1] == '\r') &&
                         (*at != '\r' || at[1] == '\n'));
        }
    }
    mail_maker_destroy (&maker);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_addresses_are_judged_strictly),
        cmocka_unit_test (test_lists_of_mailboxes_are_read),
        cmocka_unit_test (test_header_fields_are_folded_and_encoded),
        cmocka_unit_test (test_any_header_text_keeps_to_its_lines),
        cmocka_unit_test (test_any_text_keeps_to_its_lines),
        cmocka_unit_test (test_quoted_printable_is_exact),
        cmocka_unit_test (test_file_names_follow_rfc_2231),
        cmocka_unit_test (test_mail_of_a_notification),
        cmocka_unit_test (test_mail_of_a_bare_address),
        cmocka_unit_test (test_mail_of_a_template_in_the_section),
        cmocka_unit_test (test_all_recipients_are_in_the_envelope_once),
        cmocka_unit_test (test_rest_narrows_the_envelope_and_keeps_the_id),
        cmocka_unit_test (test_what_cannot_be_sent_is_named),
        cmocka_unit_test (test_attachments_are_whole),
        cmocka_unit_test (test_addresses_past_ascii_need_utf8),
        cmocka_unit_test (test_ids_of_any_bytes_stay_apart_and_harmless),
        cmocka_unit_test (test_settings_that_cannot_work_are_refused),
        cmocka_unit_test (test_rest_is_the_same_event_for_those_left),
        cmocka_unit_test (test_any_payload_is_a_mail_or_an_error),
    };
    return cmocka_run_group_tests (tests, NULL, s_free);
}
