/* Replies, what is said about a mail, and what is answered about it. SPDX-License-Identifier: MIT
 */
#include "dice.h"
#include "unit_mail.h"

#include "../../workers/email/answer.h"

#include <stdio.h>

static smtp_reply_t s_reply;
static smtp_dialog_t s_dialog;
static email_answer_t s_answer;
static mail_t s_mail;

static int
s_free (void **state) {
    (void)state;
    smtp_dialog_free (&s_dialog);
    email_answer_free (&s_answer);
    mail_free (&s_mail);
    return 0;
}

/* ---- Replies ---- */

static int
s_read (const char *text, size_t *used) {
    guarded_t bytes = guard (text, strlen (text));
    int rc = smtp_reply_read (&s_reply, (char *)bytes.bytes, strlen (text), used);
    unguard (&bytes);
    return rc;
}

static void
test_replies_are_read_in_any_pieces (void **state) {
    (void)state;
    static const char text[] = "250-one\r\n250-two\n250 three \x01\xff\r\n354\r\n";
    for (size_t piece = 1; piece < sizeof text; piece++) {
        unsigned count = 0;
        smtp_reply_init (&s_reply);
        for (size_t at = 0; at < sizeof text - 1;) {
            size_t used;
            size_t left = sizeof text - 1 - at;
            int rc = smtp_reply_read (&s_reply, text + at, left < piece ? left : piece, &used);
            at += used;
            assert_true (rc >= 0);
            if (rc == 1 && count++ == 0) {
                assert_int_equal (s_reply.code, 250);
                assert_string_equal (s_reply.text, "one two three ??");
            } else if (rc == 1) {
                assert_int_equal (s_reply.code, 354);
                assert_string_equal (s_reply.text, "");
            }
        }
        assert_int_equal (count, 2);
    }
}

static void
test_what_is_no_reply_is_told (void **state) {
    (void)state;
    static const char *const bad[] = {"\r\n",       "hello\r\n",  "25\r\n",  "2500\r\n",
                                      "150 no\r\n", "600 no\r\n", "25x\r\n", "250-a\r\n251 b\r\n"};
    size_t used;
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        smtp_reply_init (&s_reply);
        assert_int_equal (s_read (bad[i], &used), -1);
    }
    char endless[SMTP_LINE_MAX + 10];
    memset (endless, '2', sizeof endless);
    smtp_reply_init (&s_reply);
    assert_int_equal (smtp_reply_read (&s_reply, endless, sizeof endless, &used), -1);
    char longer[SMTP_TEXT_MAX + 100];
    memset (longer, 'x', sizeof longer);
    memcpy (longer, "550 ", 4);
    memcpy (longer + sizeof longer - 3, "\r\n", 3);
    smtp_reply_init (&s_reply);
    assert_int_equal (s_read (longer, &used), 1);
    assert_int_equal (strlen (s_reply.text), SMTP_TEXT_MAX);
}

/* ---- Dialogs ---- */

static const smtp_abilities_t s_plain = {0};
static const smtp_abilities_t s_pipelining = {.has_pipelining = true, .has_size = true};

static void
s_begin (const char *recipients, uint32_t count, const char *text,
         const smtp_abilities_t *abilities) {
    size_t size = 0;
    mail_free (&s_mail);
    s_mail = (mail_t){.recipient_count = count, .sender = "s@x", .id = "<1@x>"};
    ef_buf_put (&s_mail.bytes, text, strlen (text));
    for (uint32_t i = 0; i < count; i++) {
        size += strlen (recipients + size) + 1;
    }
    ef_buf_put (&s_mail.recipients, recipients, size);
    smtp_dialog_begin (&s_dialog, &s_mail, abilities);
}

/* What it wants to send, which is sent. */
static void
s_assert_said (const char *wanted) {
    size_t size = s_dialog.out.size - s_dialog.sent;
    assert_int_equal (size, strlen (wanted));
    assert_memory_equal (s_dialog.out.data + s_dialog.sent, wanted, size);
    s_dialog.sent = s_dialog.out.size;
}

static smtp_progress_t
s_hear (unsigned code) {
    smtp_reply_init (&s_reply);
    s_reply.code = code;
    snprintf (s_reply.text, sizeof s_reply.text, "text %u", code);
    return smtp_dialog_reply (&s_dialog, &s_reply);
}

static void
s_answers (const smtp_failure_t *failure, eventflow_result_t result) {
    static const char event[] = "\x94\xa5"
                                "email\xa1"
                                "1\x81\xa2to\x92\xa3"
                                "a@b\xa3"
                                "c@d\x80";
    email_answer_dialog (&s_answer, &s_dialog, failure, (ef_span_t){event, sizeof event - 1});
    assert_int_equal (s_answer.result, result);
}

static void
s_assert_result (const char *wanted) {
    ef_buf_t json = {0};
    assert_non_null (s_answer.words.result);
    ef_cursor_t cursor = ef_cursor (s_answer.words.result->data, s_answer.words.result->size);
    assert_int_equal (ef_json_print (&json, &cursor), 0);
    assert_text (&json, wanted);
    ef_buf_free (&json);
}

static void
test_a_mail_is_said_step_by_step (void **state) {
    (void)state;
    s_begin ("a@b\0c@d", 2, "H: x\r\n\r\n.dot\r\n..\r\nend\r\n", &s_plain);
    assert_true (smtp_dialog_is_unheard (&s_dialog));
    s_assert_said ("MAIL FROM:<s@x>\r\n");
    assert_int_equal (s_hear (250), DIALOG_GOES_ON);
    assert_false (smtp_dialog_is_unheard (&s_dialog));
    s_assert_said ("RCPT TO:<a@b>\r\n");
    assert_int_equal (s_hear (251), DIALOG_GOES_ON);
    s_assert_said ("RCPT TO:<c@d>\r\n");
    assert_int_equal (s_hear (250), DIALOG_GOES_ON);
    s_assert_said ("DATA\r\n");
    assert_int_equal (s_hear (354), DIALOG_GOES_ON);
    assert_false (smtp_dialog_is_unknown (&s_dialog)); /* not all of it is sent */
    s_assert_said ("H: x\r\n\r\n..dot\r\n...\r\nend\r\n.\r\n");
    assert_true (smtp_dialog_is_unknown (&s_dialog));
    assert_int_equal (s_hear (250), DIALOG_IS_OVER);
    assert_false (smtp_dialog_is_unknown (&s_dialog));
    s_answers (NULL, EVENTFLOW_DONE);
    s_assert_result (
        "{\"to\":[\"a@b\",\"c@d\"],\"message_id\":\"<1@x>\",\"reply\":\"250 text 250\"}");
    assert_null (s_answer.words.events);
}

static void
test_a_mail_is_said_in_one_go (void **state) {
    (void)state;
    s_begin ("a@b", 1, "x\r\n", &s_pipelining);
    s_mail.needs_utf8 = true;
    smtp_dialog_begin (&s_dialog, &s_mail, &s_pipelining);
    s_assert_said ("MAIL FROM:<s@x> SIZE=3 SMTPUTF8\r\nRCPT TO:<a@b>\r\nDATA\r\n");
    assert_int_equal (s_hear (250), DIALOG_GOES_ON);
    assert_int_equal (s_hear (250), DIALOG_GOES_ON);
    assert_int_equal (s_hear (354), DIALOG_GOES_ON);
    s_assert_said ("x\r\n.\r\n");
    assert_int_equal (s_hear (552), DIALOG_IS_OVER);
    s_answers (NULL, EVENTFLOW_DEAD);
    assert_int_equal (s_answer.words.number, 552);
    assert_null (s_answer.words.code);
}

static void
test_a_refused_sender_ends_it (void **state) {
    (void)state;
    s_begin ("a@b\0c@d", 2, "x\r\n", &s_plain);
    assert_int_equal (s_hear (550), DIALOG_IS_OVER);
    s_answers (NULL, EVENTFLOW_DEAD);
    s_begin ("a@b\0c@d", 2, "x\r\n", &s_pipelining);
    s_dialog.sent = s_dialog.out.size;
    assert_int_equal (s_hear (451), DIALOG_GOES_ON);
    assert_int_equal (s_hear (503), DIALOG_GOES_ON);
    assert_int_equal (s_hear (503), DIALOG_GOES_ON);
    assert_int_equal (s_hear (503), DIALOG_RESETS);
    s_assert_said ("RSET\r\n");
    s_answers (NULL, EVENTFLOW_RETRY);
    assert_int_equal (s_answer.words.number, 451);
    assert_string_equal (s_answer.words.text, "text 451");
    assert_string_equal (s_answer.words.trace, "a@b: 451 text 451\nc@d: 451 text 451");
}

static void
test_recipients_have_verdicts_of_their_own (void **state) {
    (void)state;
    s_begin ("a@b\0c@d\0e@f", 3, "x\r\n", &s_pipelining);
    s_dialog.sent = s_dialog.out.size;
    (void)s_hear (250);
    (void)s_hear (450);
    (void)s_hear (250);
    (void)s_hear (550);
    assert_int_equal (s_hear (354), DIALOG_GOES_ON);
    s_dialog.sent = s_dialog.out.size;
    assert_int_equal (s_hear (250), DIALOG_IS_OVER);
    s_answers (NULL, EVENTFLOW_DONE);
    s_assert_result (
        "{\"to\":[\"c@d\"],\"message_id\":\"<1@x>\",\"reply\":\"250 text 250\",\"refused\":"
        "[{\"to\":\"e@f\",\"code\":550,\"text\":\"text 550\"}],\"rest\":[\"a@b\"]}");
    assert_non_null (s_answer.words.events);
    assert_non_null (
        memmem (s_answer.words.events->data, s_answer.words.events->size, "1/rest", 6));
}

static void
test_nobody_taken_is_transient_where_one_may_be (void **state) {
    (void)state;
    for (unsigned pipelined = 0; pipelined < 2; pipelined++) {
        s_begin ("a@b\0c@d", 2, "x\r\n", pipelined ? &s_pipelining : &s_plain);
        s_dialog.sent = s_dialog.out.size;
        (void)s_hear (250);
        (void)s_hear (550);
        smtp_progress_t progress = s_hear (451);
        if (pipelined) {
            assert_int_equal (progress, DIALOG_GOES_ON);
            progress = s_hear (554);
        }
        assert_int_equal (progress, DIALOG_RESETS);
        s_answers (NULL, EVENTFLOW_RETRY);
        assert_int_equal (s_answer.words.number, 451);
        assert_null (s_answer.words.events);
        assert_null (s_answer.words.result);
    }
}

static void
test_an_empty_text_is_ended_where_nobody_takes_it (void **state) {
    (void)state;
    s_begin ("a@b", 1, "x\r\n", &s_pipelining);
    s_dialog.sent = s_dialog.out.size;
    (void)s_hear (250);
    (void)s_hear (550);
    assert_int_equal (s_hear (354), DIALOG_GOES_ON);
    s_assert_said (".\r\n");
    assert_false (smtp_dialog_is_unknown (&s_dialog));
    assert_int_equal (s_hear (250), DIALOG_IS_OVER); /* taken for nobody */
    s_answers (NULL, EVENTFLOW_DEAD);
    assert_int_equal (s_answer.words.number, 550);
}

static void
test_a_lost_connection_is_transient_and_says_what_may_be (void **state) {
    (void)state;
    smtp_failure_t failure = {.code = "CONNECTION", .text = "gone"};
    s_begin ("a@b", 1, "x\r\n", &s_plain);
    s_answers (&failure, EVENTFLOW_RETRY);
    assert_string_equal (s_answer.words.code, "CONNECTION");
    assert_null (strstr (s_answer.words.text, "may have been"));
    (void)s_hear (250);
    (void)s_hear (250);
    (void)s_hear (354);
    s_answers (&failure, EVENTFLOW_RETRY);
    assert_null (strstr (s_answer.words.text, "may have been"));
    s_dialog.sent = s_dialog.out.size;
    s_answers (&failure, EVENTFLOW_RETRY);
    assert_non_null (strstr (s_answer.words.text, "may have been"));
}

static void
test_another_login_is_the_operators_matter (void **state) {
    (void)state;
    s_begin ("a@b", 1, "x\r\n", &s_plain);
    (void)s_hear (530);
    s_answers (NULL, EVENTFLOW_RETRY);
    assert_true (s_answer.is_login);
    assert_int_equal (s_answer.words.retry_ms, EMAIL_LOGIN_MS);
    smtp_failure_t failure = {.reply = 535, .is_login = true, .text = "535 no"};
    email_answer_failure (&s_answer, &failure);
    assert_true (s_answer.is_login && s_answer.result == EVENTFLOW_RETRY);
    failure = (smtp_failure_t){.reply = 554, .text = "554 go away"};
    email_answer_failure (&s_answer, &failure);
    assert_true (!s_answer.is_login && s_answer.result == EVENTFLOW_RETRY);
}

/* Any replies whatever: it ends, DONE means a 2xx behind the whole text, and no recipient is lost.
 */
static void
test_any_replies_come_to_an_end (void **state) {
    (void)state;
    static const unsigned codes[] = {220, 250, 250, 250, 250, 354, 354, 421, 450, 550, 503};
    for (unsigned round = 0; round < 100000; round++) {
        smtp_progress_t progress = DIALOG_GOES_ON;
        bool is_whole = false;
        unsigned last = 0;
        s_begin ("a@b\0c@d", 2, "x\r\n", dice_below (2) ? &s_pipelining : &s_plain);
        for (unsigned i = 0; progress == DIALOG_GOES_ON && i < 6; i++) {
            if (dice_below (4)) {
                s_dialog.sent = s_dialog.out.size;
            }
            is_whole = smtp_dialog_is_unknown (&s_dialog);
            last = codes[dice_below (11)];
            progress = s_hear (last);
        }
        assert_int_not_equal (progress, DIALOG_GOES_ON);
        smtp_failure_t failure = {.code = "CONNECTION", .text = "gone"};
        email_answer_dialog (&s_answer, &s_dialog, &failure, (ef_span_t){"\x93\xa1t\xa1i\x80", 6});
        assert_int_equal (s_answer.result == EVENTFLOW_DONE, is_whole && last / 100 == 2);
    }
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_replies_are_read_in_any_pieces),
        cmocka_unit_test (test_what_is_no_reply_is_told),
        cmocka_unit_test (test_a_mail_is_said_step_by_step),
        cmocka_unit_test (test_a_mail_is_said_in_one_go),
        cmocka_unit_test (test_a_refused_sender_ends_it),
        cmocka_unit_test (test_recipients_have_verdicts_of_their_own),
        cmocka_unit_test (test_nobody_taken_is_transient_where_one_may_be),
        cmocka_unit_test (test_an_empty_text_is_ended_where_nobody_takes_it),
        cmocka_unit_test (test_a_lost_connection_is_transient_and_says_what_may_be),
        cmocka_unit_test (test_another_login_is_the_operators_matter),
        cmocka_unit_test (test_any_replies_come_to_an_end),
    };
    return cmocka_run_group_tests (tests, NULL, s_free);
}
