/* What is answered to the broker about a mail. SPDX-License-Identifier: MIT */
#include "answer.h"

#include "../../proto/limits.h"

#include <stdio.h>

/* Verdicts, counted by what follows from them. */
typedef struct {
    uint32_t taken;
    uint32_t passing; /* 4xx */
    uint32_t refused; /* 5xx */
    uint32_t first;   /* that decides where nobody took it */
} tally_t;

void
email_answer_free (email_answer_t *self) {
    ef_buf_free (&self->result_value);
    ef_buf_free (&self->events);
    ef_buf_free (&self->left);
}

static void
s_begin (email_answer_t *self, eventflow_result_t result) {
    self->result = result;
    self->words = (eventflow_answer_t){.retry_ms = -1};
    self->is_login = false;
    self->text[0] = self->trace[0] = 0;
}

void
email_answer_say (email_answer_t *self, eventflow_result_t result, const char *code,
                  const char *text) {
    s_begin (self, result);
    snprintf (self->code, sizeof self->code, "%s", code);
    snprintf (self->text, sizeof self->text, "%s", text);
    self->words.code = self->code;
    self->words.text = self->text;
}

/* RFC 4954: these ask for another login, whatever the mail is. */
static bool
s_is_login (unsigned code) {
    return code == 530 || code == 534 || code == 535 || code == 538;
}

static void
s_say_reply (email_answer_t *self, unsigned code, const char *text) {
    self->is_login = s_is_login (code);
    self->result = self->is_login || code < 500 ? EVENTFLOW_RETRY : EVENTFLOW_DEAD;
    self->words.number = code;
    snprintf (self->text, sizeof self->text, "%s", text);
    self->words.text = self->text;
    self->words.retry_ms = self->is_login ? EMAIL_LOGIN_MS : -1;
}

void
email_answer_failure (email_answer_t *self, const smtp_failure_t *failure) {
    s_begin (self, EVENTFLOW_RETRY);
    if (failure->reply) {
        s_say_reply (self, failure->reply, failure->text);
        self->result = EVENTFLOW_RETRY; /* nothing was said about this mail yet */
    } else {
        email_answer_say (self, EVENTFLOW_RETRY, failure->code, failure->text);
    }
    self->is_login = self->is_login || failure->is_login;
    self->words.retry_ms = self->is_login ? EMAIL_LOGIN_MS : -1;
}

static const char *
s_text (const smtp_dialog_t *dialog, uint32_t index) {
    return (const char *)dialog->texts.data + dialog->verdicts[index].text;
}

static tally_t
s_count (const smtp_dialog_t *dialog) {
    tally_t tally = {0};
    for (uint32_t i = 0; i < dialog->mail->recipient_count; i++) {
        unsigned code = dialog->verdicts[i].code;
        bool is_passing = code >= 400 && code < 500;
        if (is_passing && tally.passing == 0) {
            tally.first = i;
        }
        tally.taken += code < 400;
        tally.passing += is_passing;
        tally.refused += code >= 500;
    }
    return tally;
}

/* One line for each that didn't take it, as far as they fit. */
static void
s_trace (email_answer_t *self, const smtp_dialog_t *dialog) {
    const char *at = (const char *)dialog->mail->recipients.data;
    size_t used = 0;
    for (uint32_t i = 0; i < dialog->mail->recipient_count; i++, at += strlen (at) + 1) {
        if (dialog->verdicts[i].code >= 400 && used < sizeof self->trace - 1) {
            int size =
                snprintf (self->trace + used, sizeof self->trace - used, "%s%s: %u %s",
                          used ? "\n" : "", at, dialog->verdicts[i].code, s_text (dialog, i));
            used += size > 0 ? (size_t)size : 0;
        }
    }
    self->words.trace = self->trace;
}

/* Puts the addresses whose verdict is between two codes; returns how many. */
static void
s_put_addresses (ef_buf_t *out, const smtp_dialog_t *dialog, unsigned least, unsigned below) {
    const char *at = (const char *)dialog->mail->recipients.data;
    size_t mark = ef_put_open (out);
    uint32_t count = 0;
    for (uint32_t i = 0; i < dialog->mail->recipient_count; i++, at += strlen (at) + 1) {
        unsigned code = dialog->verdicts[i].code;
        if (code < least || code >= below) {
            continue;
        }
        count++;
        if (least < 500) {
            ef_put_str (out, at);
            continue;
        }
        ef_put_map (out, 3);
        ef_put_key_str (out, "to", at);
        ef_put_key_uint (out, "code", code);
        ef_put_key_str (out, "text", s_text (dialog, i));
    }
    ef_put_close_array (out, mark, count);
}

/* {to, message_id, reply, refused, rest} */
static void
s_put_result (email_answer_t *self, const smtp_dialog_t *dialog, const tally_t *tally) {
    ef_buf_t *out = &self->result_value;
    ef_buf_clear (out);
    ef_put_map (out, 3 + (tally->refused > 0) + (tally->passing > 0));
    ef_put_str (out, "to");
    s_put_addresses (out, dialog, 0, 400);
    ef_put_key_str (out, "message_id", dialog->mail->id);
    uint32_t taker = 0;
    while (dialog->verdicts[taker].code >= 400) {
        taker++;
    }
    char reply[SMTP_TEXT_MAX + 8];
    snprintf (reply, sizeof reply, "%u %s", dialog->verdicts[taker].code, s_text (dialog, taker));
    ef_put_key_str (out, "reply", reply);
    if (tally->refused > 0) {
        ef_put_str (out, "refused");
        s_put_addresses (out, dialog, 500, 600);
    }
    if (tally->passing > 0) {
        ef_put_str (out, "rest");
        s_put_addresses (out, dialog, 400, 500);
    }
    self->result_bytes = (eventflow_bytes_t){out->data, out->size};
    if (out->size <= EF_RESULT_MAX) { /* else none: what matters more has to be said */
        self->words.result = &self->result_bytes;
    }
}

/* An event for those that may take it later. */
static void
s_put_rest (email_answer_t *self, const smtp_dialog_t *dialog, ef_span_t event) {
    const char *at = (const char *)dialog->mail->recipients.data;
    ef_buf_clear (&self->left);
    ef_buf_clear (&self->events);
    for (uint32_t i = 0; i < dialog->mail->recipient_count; i++, at += strlen (at) + 1) {
        unsigned code = dialog->verdicts[i].code;
        if (code >= 400 && code < 500) {
            ef_buf_put (&self->left, at, strlen (at) + 1);
        }
    }
    int rc = mail_rest (&self->events, event, &self->left, EMAIL_REST_MS);
    ef_assert (rc == 0); /* more than one recipient: mail_read has seen to it */
    self->events_bytes = (eventflow_bytes_t){self->events.data, self->events.size};
    self->words.events = &self->events_bytes;
}

void
email_answer_dialog (email_answer_t *self, const smtp_dialog_t *dialog,
                     const smtp_failure_t *failure, ef_span_t event) {
    tally_t tally = s_count (dialog);
    bool is_over = smtp_dialog_is_over (dialog) || tally.taken == 0;
    if (!is_over) {
        bool is_unknown = smtp_dialog_is_unknown (dialog);
        char text[sizeof failure->text + 100];
        snprintf (text, sizeof text, "%s%s", failure->text,
                  is_unknown ? "; all of the mail had been sent to it, it may have been delivered"
                             : "");
        email_answer_say (self, EVENTFLOW_RETRY, failure->code, text);
        return;
    }
    s_begin (self, EVENTFLOW_DONE);
    if (tally.taken == 0) {
        s_say_reply (self, dialog->verdicts[tally.first].code, s_text (dialog, tally.first));
        s_trace (self, dialog);
        return;
    }
    s_put_result (self, dialog, &tally);
    if (tally.passing > 0) {
        s_put_rest (self, dialog, event);
    }
}
