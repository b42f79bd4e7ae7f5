/* What is said about one mail on a connection. SPDX-License-Identifier: MIT */
#include "smtp_dialog.h"

#include <stdio.h>
#include <stdlib.h>

#define KEEP_BYTES (256u << 10) /* of a buffer, from one mail to the next */

enum { STAGE_MAIL, STAGE_RECIPIENTS, STAGE_DATA, STAGE_TEXT, STAGE_OVER };

static void
s_put (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

void
smtp_dialog_free (smtp_dialog_t *self) {
    ef_buf_free (&self->out);
    ef_buf_free (&self->texts);
    free (self->verdicts);
    self->verdicts = NULL;
    self->verdict_room = 0;
}

static void
s_reuse (ef_buf_t *buffer) {
    if (buffer->capacity > KEEP_BYTES) {
        ef_buf_free (buffer);
    }
    ef_buf_clear (buffer);
}

static void
s_put_mail (smtp_dialog_t *self, const smtp_abilities_t *abilities) {
    char size[48];
    s_put (&self->out, "MAIL FROM:<");
    s_put (&self->out, self->mail->sender);
    s_put (&self->out, ">");
    if (abilities->has_size) {
        snprintf (size, sizeof size, " SIZE=%zu", self->mail->bytes.size);
        s_put (&self->out, size);
    }
    s_put (&self->out, self->mail->needs_utf8 ? " SMTPUTF8\r\n" : "\r\n");
}

static const char *
s_address (const mail_t *mail, uint32_t index) {
    const char *at = (const char *)mail->recipients.data;
    while (index-- > 0) {
        at += strlen (at) + 1;
    }
    return at;
}

static void
s_put_recipient (smtp_dialog_t *self, const char *address) {
    s_put (&self->out, "RCPT TO:<");
    s_put (&self->out, address);
    s_put (&self->out, ">\r\n");
    self->asked++;
}

void
smtp_dialog_begin (smtp_dialog_t *self, const mail_t *mail, const smtp_abilities_t *abilities) {
    self->mail = mail;
    s_reuse (&self->out);
    s_reuse (&self->texts);
    self->sent = 0;
    self->asked = self->heard = self->taken = 0;
    self->failed = 0;
    self->stage = STAGE_MAIL;
    self->is_pipelined = abilities->has_pipelining;
    ef_buf_put (&self->texts, "", 1);
    if (mail->recipient_count > self->verdict_room) {
        self->verdict_room = mail->recipient_count;
        self->verdicts = realloc (self->verdicts, self->verdict_room * sizeof *self->verdicts);
        ef_assert (self->verdicts != NULL);
    }
    memset (self->verdicts, 0, mail->recipient_count * sizeof *self->verdicts);
    s_put_mail (self, abilities);
    if (self->is_pipelined) {
        const char *at = (const char *)mail->recipients.data;
        for (uint32_t i = 0; i < mail->recipient_count; i++, at += strlen (at) + 1) {
            s_put_recipient (self, at);
        }
        s_put (&self->out, "DATA\r\n");
    }
}

static uint32_t
s_keep_text (smtp_dialog_t *self, const smtp_reply_t *reply) {
    uint32_t at = (uint32_t)self->texts.size;
    ef_buf_put (&self->texts, reply->text, strlen (reply->text) + 1);
    return at;
}

/* The same verdict for all that have no worse one. */
static void
s_judge_all (smtp_dialog_t *self, const smtp_reply_t *reply) {
    uint32_t text = s_keep_text (self, reply);
    for (uint32_t i = 0; i < self->mail->recipient_count; i++) {
        if (self->verdicts[i].code < 400) {
            self->verdicts[i] = (smtp_verdict_t){reply->code, text};
        }
    }
}

/* The text with a dot before every line's leading dot, and the end of it. */
static void
s_put_text (smtp_dialog_t *self) {
    const char *at = (const char *)self->mail->bytes.data;
    const char *end = at + self->mail->bytes.size;
    ef_buf_clear (&self->out);
    self->sent = 0;
    const char *dot;
    while ((dot = memmem (at, (size_t)(end - at), "\n.", 2)) != NULL) {
        ef_buf_put (&self->out, at, (size_t)(dot + 1 - at));
        s_put (&self->out, ".");
        at = dot + 1;
    }
    ef_buf_put (&self->out, at, (size_t)(end - at));
    s_put (&self->out, ".\r\n");
}

static smtp_progress_t
s_reset (smtp_dialog_t *self) {
    self->stage = STAGE_OVER;
    ef_buf_clear (&self->out);
    self->sent = 0;
    s_put (&self->out, "RSET\r\n");
    return DIALOG_RESETS;
}

static smtp_progress_t
s_heard_mail (smtp_dialog_t *self, const smtp_reply_t *reply) {
    if (reply->code >= 300) {
        self->failed = reply->code;
        s_judge_all (self, reply);
        if (!self->is_pipelined) {
            self->stage = STAGE_OVER;
            return DIALOG_IS_OVER;
        }
    }
    self->stage = STAGE_RECIPIENTS;
    if (!self->is_pipelined) {
        s_put_recipient (self, s_address (self->mail, 0));
    }
    return DIALOG_GOES_ON;
}

static smtp_progress_t
s_heard_recipient (smtp_dialog_t *self, const smtp_reply_t *reply) {
    smtp_verdict_t *verdict = &self->verdicts[self->heard++];
    if (self->failed == 0) {
        verdict->code = reply->code;
        verdict->text = reply->code >= 300 ? s_keep_text (self, reply) : 0;
        self->taken += reply->code < 300;
    }
    if (self->heard < self->mail->recipient_count) {
        if (!self->is_pipelined) {
            s_put_recipient (self, s_address (self->mail, self->heard));
        }
        return DIALOG_GOES_ON;
    }
    self->stage = STAGE_DATA;
    if (!self->is_pipelined && self->taken == 0) {
        return s_reset (self);
    }
    if (!self->is_pipelined) {
        s_put (&self->out, "DATA\r\n");
    }
    return DIALOG_GOES_ON;
}

static smtp_progress_t
s_heard_data (smtp_dialog_t *self, const smtp_reply_t *reply) {
    if (reply->code == 354 && self->taken > 0) {
        self->stage = STAGE_TEXT;
        s_put_text (self);
        return DIALOG_GOES_ON;
    }
    if (reply->code == 354) {
        self->stage = STAGE_TEXT; /* RFC 2920, 3.1: an empty text, which the server refuses */
        ef_buf_clear (&self->out);
        self->sent = 0;
        s_put (&self->out, ".\r\n");
        return DIALOG_GOES_ON;
    }
    if (reply->code < 400) {
        return DIALOG_IS_BROKEN;
    }
    s_judge_all (self, reply);
    return s_reset (self);
}

static smtp_progress_t
s_heard_end (smtp_dialog_t *self, const smtp_reply_t *reply) {
    bool is_whole = self->sent == self->out.size;
    if (!is_whole && reply->code < 400) {
        return DIALOG_IS_BROKEN; /* it can't have taken what it doesn't have */
    }
    if (self->taken > 0) {
        s_judge_all (self, reply);
    }
    self->stage = STAGE_OVER;
    return is_whole ? DIALOG_IS_OVER : DIALOG_IS_BROKEN;
}

smtp_progress_t
smtp_dialog_reply (smtp_dialog_t *self, const smtp_reply_t *reply) {
    bool goes_between = reply->code >= 300 && reply->code < 400;
    if (goes_between && self->stage != STAGE_DATA) {
        return DIALOG_IS_BROKEN;
    }
    switch (self->stage) {
    case STAGE_MAIL: return s_heard_mail (self, reply);
    case STAGE_RECIPIENTS: return s_heard_recipient (self, reply);
    case STAGE_DATA: return s_heard_data (self, reply);
    case STAGE_TEXT: return s_heard_end (self, reply);
    default: return DIALOG_IS_BROKEN;
    }
}

bool
smtp_dialog_is_unknown (const smtp_dialog_t *self) {
    return self->stage == STAGE_TEXT && self->taken > 0 && self->sent == self->out.size;
}

bool
smtp_dialog_is_over (const smtp_dialog_t *self) {
    return self->stage == STAGE_OVER;
}

bool
smtp_dialog_is_unheard (const smtp_dialog_t *self) {
    return self->stage == STAGE_MAIL;
}
