/* What is to be sent, and to whom, out of a payload and templates. SPDX-License-Identifier: MIT */
#include "../field.h"
#include "mail_private.h"
#include "mime.h"

#include "../../proto/json.h"
#include "../../proto/limits.h"

#include <stdarg.h>
#include <stdio.h>

/* What one call of mail_read works with. */
typedef struct {
    mail_maker_t *maker;
    const template_values_t *event;
    letter_t letter; /* the templates of the type, where its payload has no text of its own */
    ef_span_t rest;  /* addresses that are left; data NULL: all */
    mail_t *mail;
    mail_error_t *error;
} reading_t;

int
mail_fail (mail_error_t *error, const char *code, const char *format, ...) {
    va_list list;
    error->code = code;
    error->may_pass = false;
    va_start (list, format);
    vsnprintf (error->text, sizeof error->text, format, list);
    va_end (list);
    return -1;
}

static bool
s_has_control (const ef_buf_t *text) {
    for (size_t i = 0; i < text->size; i++) {
        if (text->data[i] < 0x20 || text->data[i] == 0x7f) {
            return true;
        }
    }
    return false;
}

/* True where the address is one of those that are left of a mail, or all are. */
static bool
s_is_left (const reading_t *self, const char *address) {
    field_list_t list;
    ef_span_t value;
    ef_span_t text;
    if (self->rest.data == NULL) {
        return true;
    }
    field_list (&list, self->rest);
    while (field_next (&list, &value)) {
        if (field_as_text (value, &text) && ef_span_is (text, address)) {
            return true;
        }
    }
    return false;
}

static void
s_add_recipient (const reading_t *self, const char *address) {
    mail_t *mail = self->mail;
    const char *at = (const char *)mail->recipients.data;
    for (uint32_t i = 0; i < mail->recipient_count; i++, at += strlen (at) + 1) {
        if (strcmp (at, address) == 0) {
            return;
        }
    }
    if (s_is_left (self, address)) {
        ef_buf_put (&mail->recipients, address, strlen (address) + 1);
        mail->recipient_count++;
    }
}

/* Adds the mailboxes of a text. `field` is what the payload's author knows it by. */
static int
s_add_mailboxes (reading_t *self, mail_list_t *list, const char *field, ef_span_t text) {
    const mail_draft_t *draft = &self->maker->draft;
    bool is_recipient = list != &draft->from && list != &draft->reply_to;
    const char *at = text.data;
    const char *why;
    mailbox_t mailbox;
    int rc;
    while ((rc = mailbox_next (&at, text.data + text.size, &mailbox, &why)) == 1) {
        if (list->count == MAIL_RECIPIENTS_MAX) {
            return mail_fail (self->error, "TOO_MANY", "%s: more than %d addresses", field,
                              MAIL_RECIPIENTS_MAX);
        }
        if (list->count++ > 0) {
            ef_buf_put (&list->text, ",\r\n ", 4);
        }
        mime_put_mailbox (&list->text, &mailbox);
        self->mail->needs_utf8 = self->mail->needs_utf8 || !mailbox.is_ascii;
        if (is_recipient) {
            s_add_recipient (self, mailbox.address);
        }
    }
    return rc == 0 ? 0
                   : mail_fail (self->error, "BAD_ADDRESS", "%s, address %u: %s", field,
                                list->count + 1, why);
}

/* Adds the mailboxes of a payload's value. */
static int
s_add_value (reading_t *self, mail_list_t *list, const char *field, ef_span_t value) {
    field_list_t items;
    ef_span_t text;
    field_list (&items, value);
    while (field_next (&items, &value)) {
        if (!field_as_text (value, &text)) {
            return mail_fail (self->error, "BAD_ADDRESS",
                              "%s: expected an address or a list of addresses", field);
        }
        if (s_add_mailboxes (self, list, field, text)) {
            return -1;
        }
    }
    return 0;
}

/* Appends what a template comes to. */
static int
s_render (reading_t *self, const template_t *template, bool is_html, ef_buf_t *out) {
    char missing[TEMPLATE_NAME_MAX + 1];
    if (template_render (template, self->event, is_html, out, missing)) {
        return mail_fail (self->error, "MISSING_FIELD", "the template wants the field %s", missing);
    }
    return 0;
}

/* A list out of the payload, else out of the templates. */
static int
s_read_list (reading_t *self, mail_list_t *list, const char *field, letter_part_t part) {
    ef_span_t value;
    ef_buf_t *scratch = &self->maker->scratch;
    if (part != LETTER_FROM && field_get (self->event->payload, field, &value)) {
        return s_add_value (self, list, field, value);
    }
    if (self->letter.parts[part] == NULL) {
        return 0;
    }
    ef_buf_clear (scratch);
    if (s_render (self, self->letter.parts[part], false, scratch)) {
        return -1;
    }
    return s_add_mailboxes (self, list, field,
                            (ef_span_t){(char *)scratch->data, (uint32_t)scratch->size});
}

static int
s_read_recipients (reading_t *self) {
    static const char *const names[] = {"to_email", "to", "email"};
    mail_draft_t *draft = &self->maker->draft;
    ef_span_t value;
    ef_span_t text;
    int rc = 0;
    const char *name = NULL;
    for (unsigned i = 0; i < 3 && name == NULL; i++) {
        name = field_get (self->event->payload, names[i], &value) ? names[i] : NULL;
    }
    if (field_as_text (self->event->payload, &text)) {
        rc = s_add_mailboxes (self, &draft->to, "payload", text);
        if (rc == 0 && draft->to.count > 1) { /* what is left of several takes a map to be told */
            return mail_fail (self->error, "BAD_ADDRESS",
                              "payload: expected one address, or a map");
        }
    } else if (name) {
        rc = s_add_value (self, &draft->to, name, value);
    } else {
        rc = s_read_list (self, &draft->to, "to", LETTER_TO);
    }
    if (rc || s_read_list (self, &draft->cc, "cc", LETTER_CC) ||
        s_read_list (self, &draft->bcc, "bcc", LETTER_BCC)) {
        return -1;
    }
    if (self->mail->recipient_count > MAIL_RECIPIENTS_MAX) {
        return mail_fail (self->error, "TOO_MANY", "more than %d recipients", MAIL_RECIPIENTS_MAX);
    }
    ef_cursor_t payload = ef_cursor (self->event->payload.data, self->event->payload.size);
    if (self->mail->recipient_count > 1 && ef_peek (&payload) != EF_TYPE_MAP &&
        !field_as_text (self->event->payload, &text)) { /* what is left couldn't be told */
        return mail_fail (self->error, "BAD_ADDRESS",
                          "payload: for several recipients expected a map or an address");
    }
    return self->mail->recipient_count > 0
               ? 0
               : mail_fail (self->error, "NO_RECIPIENT",
                            self->rest.data ? "rest: expected some of the recipients"
                                            : "expected to_email, to or email");
}

static int
s_read_senders (reading_t *self) {
    mail_draft_t *draft = &self->maker->draft;
    if (s_read_list (self, &draft->from, "From of the template", LETTER_FROM) ||
        s_read_list (self, &draft->reply_to, "reply_to", LETTER_REPLY_TO)) {
        return -1;
    }
    if (draft->from.count > 1) {
        return mail_fail (self->error, "BAD_ADDRESS", "From of the template: expected one address");
    }
    if (draft->from.count == 0) {
        mime_put_mailbox (&draft->from.text, &self->maker->from);
    }
    self->mail->needs_utf8 = self->mail->needs_utf8 || !self->maker->from.is_ascii;
    return 0;
}

/* A text field of the payload. 1: it is there; 0: not; -1: it can't be a text. */
static int
s_read_text (const reading_t *self, const char *field, ef_buf_t *out) {
    ef_span_t value;
    if (!field_get (self->event->payload, field, &value)) {
        return 0;
    }
    if (field_print (out, value) || !ef_utf8_is_valid ((char *)out->data, out->size)) {
        return mail_fail (self->error, "BAD_FIELD", "%s: expected text in UTF-8", field);
    }
    return 1;
}

/* The text of a payload that is an address and nothing else. */
static void
s_put_notice (const template_values_t *event, ef_buf_t *out) {
    static const char line[] = "This is a notification";
    ef_buf_put (out, line, sizeof line - 1);
    if (event->type.data) {
        ef_buf_put (out, ": ", 2);
        ef_buf_put (out, event->type.data, event->type.size);
    }
    ef_buf_put (out, ".\n", 2);
}

static int
s_render_text (reading_t *self) {
    mail_draft_t *draft = &self->maker->draft;
    const mail_maker_t *maker = self->maker;
    const template_t *text = self->letter.parts[LETTER_TEXT];
    const template_t *html = self->letter.parts[LETTER_HTML];
    ef_span_t address;
    if (text == NULL && html == NULL) {
        text = maker->text;
        html = maker->html;
    }
    draft->has_text = text != NULL;
    draft->has_html = html != NULL;
    if ((text && s_render (self, text, false, &draft->text)) ||
        (html && s_render (self, html, true, &draft->html))) {
        return -1;
    }
    if (text == NULL && html == NULL) {
        if (!field_as_text (self->event->payload, &address)) {
            return mail_fail (self->error, "NO_TEXT",
                              "expected message, text or html, or a template for the type");
        }
        s_put_notice (self->event, &draft->text);
        draft->has_text = true;
    }
    if (!ef_utf8_is_valid ((char *)draft->text.data, draft->text.size) ||
        !ef_utf8_is_valid ((char *)draft->html.data, draft->html.size)) {
        return mail_fail (self->error, "BAD_FIELD", "a value of the template isn't UTF-8");
    }
    return 0;
}

static int
s_read_texts (reading_t *self) {
    mail_draft_t *draft = &self->maker->draft;
    char why[512];
    int text = s_read_text (self, "message", &draft->text);
    text = text ? text : s_read_text (self, "text", &draft->text);
    int html = text < 0 ? -1 : s_read_text (self, "html", &draft->html);
    if (text < 0 || html < 0) {
        return -1;
    }
    draft->has_text = text > 0;
    draft->has_html = html > 0;
    if (text || html) {
        return 0;
    }
    if (self->maker->templates &&
        templates_find (self->maker->templates, self->event->type, &self->letter, why) < 0) {
        mail_fail (self->error, "BAD_TEMPLATE", "%.380s", why);
        self->error->may_pass = true;
        return -1;
    }
    return s_render_text (self);
}

static int
s_read_subject (reading_t *self) {
    ef_buf_t *subject = &self->maker->draft.subject;
    const template_t *template = self->letter.parts[LETTER_SUBJECT];
    template = template ? template : self->maker->subject;
    int rc = s_read_text (self, "subject", subject);
    if (rc == 0 && template) {
        rc = s_render (self, template, false, subject);
    } else if (rc == 0 && self->event->type.data) {
        ef_buf_put (subject, self->event->type.data, self->event->type.size);
    } else if (rc == 0) {
        ef_buf_put (subject, "Notification", 12);
    }
    if (rc < 0) {
        return -1;
    }
    if (s_has_control (subject) || !ef_utf8_is_valid ((char *)subject->data, subject->size)) {
        return mail_fail (self->error, "BAD_FIELD",
                          "subject: expected text in UTF-8 without control characters");
    }
    return 0;
}

static void
s_clear (mail_draft_t *draft, mail_t *mail) {
    mail_list_t *lists[] = {&draft->from, &draft->to, &draft->cc, &draft->bcc, &draft->reply_to};
    for (unsigned i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        ef_buf_clear (&lists[i]->text);
        lists[i]->count = 0;
    }
    ef_buf_clear (&draft->subject);
    ef_buf_clear (&draft->text);
    ef_buf_clear (&draft->html);
    ef_buf_clear (&mail->bytes);
    ef_buf_clear (&mail->recipients);
    mail->recipient_count = 0;
    mail->needs_utf8 = false;
}

int
mail_read (mail_maker_t *self, const template_values_t *event, mail_t *mail, mail_error_t *error) {
    reading_t reading = {.maker = self, .event = event, .mail = mail, .error = error};
    ef_span_t rest;
    ef_span_t value;
    ef_span_t of;
    s_clear (&self->draft, mail);
    memcpy (mail->sender, self->from.address, sizeof mail->sender);
    self->draft.id = event->id;
    if (field_get (event->payload, "rest", &rest)) {
        if (!field_get (rest, "of", &value) || !field_as_text (value, &of) || of.size > EF_ID_MAX ||
            !field_get (rest, "to", &reading.rest)) {
            return mail_fail (error, "BAD_FIELD", "rest: expected {of, to}");
        }
        self->draft.id = of;
    }
    if (!field_get (event->payload, "attachments", &self->draft.attachments)) {
        self->draft.attachments = (ef_span_t){NULL, 0};
    }
    return s_read_texts (&reading) || s_read_recipients (&reading) || s_read_senders (&reading) ||
                   s_read_subject (&reading)
               ? -1
               : 0;
}
