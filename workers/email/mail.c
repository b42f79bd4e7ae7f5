/* A mail made from an event. SPDX-License-Identifier: MIT

   The header's fields and the body's parts in their order; values come from mail_read.c, their form
   from mime.c. */
#include "mail.h"

#include "../../proto/event.h"
#include "../../proto/json.h"
#include "../../proto/limits.h"
#include "../field.h"
#include "mail_private.h"
#include "mime.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* No line of a part can begin with these (mime.h). */
#define MIXED       "=_eventflow_mixed"
#define ALTERNATIVE "=_eventflow_alternative"

static void
s_put (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

static int
s_template (template_t **template, const char *name, const char *text, char error[512]) {
    char why[256];
    if (text[0]) {
        *template = template_new (text, strlen (text), why);
        if (*template == NULL) {
            snprintf (error, 512, "%s: %s", name, why);
            return -1;
        }
    }
    return 0;
}

static int
s_read_from (mail_maker_t *self, const mail_settings_t *settings, char error[512]) {
    const char *at = settings->from;
    const char *end = at + strlen (at);
    const char *why;
    if (mailbox_next (&at, end, &self->from, &why) != 1 || at != end) {
        snprintf (error, 512, "from: %s", why ? why : "expected one address");
        return -1;
    }
    snprintf (self->host, sizeof self->host, "%s",
              settings->host[0] ? settings->host : strrchr (self->from.address, '@') + 1);
    char address[sizeof self->host + 2];
    bool is_ascii;
    snprintf (address, sizeof address, "a@%s", self->host);
    if (mailbox_check (address, strlen (address), &is_ascii) || !is_ascii) {
        snprintf (error, 512, "message_host: expected a domain in ASCII, not %.200s", self->host);
        return -1;
    }
    return 0;
}

mail_maker_t *
mail_maker_new (const mail_settings_t *settings, char error[512]) {
    mail_maker_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    bool is_bad = s_read_from (self, settings, error) ||
                  s_template (&self->subject, "subject", settings->subject, error) ||
                  s_template (&self->text, "text", settings->text, error) ||
                  s_template (&self->html, "html", settings->html, error);
    if (!is_bad && settings->templates[0]) {
        self->templates = templates_new (settings->templates, error);
        is_bad = self->templates == NULL;
    }
    if (is_bad) {
        mail_maker_destroy (&self);
    }
    return self;
}

void
mail_maker_destroy (mail_maker_t **self_p) {
    mail_maker_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    mail_draft_t *draft = &self->draft;
    ef_buf_t *buffers[] = {&draft->from.text, &draft->to.text,       &draft->cc.text,
                           &draft->bcc.text,  &draft->reply_to.text, &draft->subject,
                           &draft->text,      &draft->html,          &self->scratch};
    for (unsigned i = 0; i < sizeof buffers / sizeof buffers[0]; i++) {
        ef_buf_free (buffers[i]);
    }
    template_destroy (&self->subject);
    template_destroy (&self->text);
    template_destroy (&self->html);
    templates_destroy (&self->templates);
    free (self);
    *self_p = NULL;
}

void
mail_put_id (ef_buf_t *out, ef_span_t id) {
    static const char hex[] = "0123456789ABCDEF";
    for (uint32_t i = 0; i < id.size; i++) {
        uint8_t c = (uint8_t)id.data[i];
        if (c < 0x80 && (isalnum (c) || c == '-' || c == '_')) {
            ef_buf_put (out, &c, 1);
        } else {
            char code[3] = {'=', hex[c >> 4], hex[c & 15]};
            ef_buf_put (out, code, 3);
        }
    }
}

static void
s_put_list (ef_buf_t *out, const char *name, const mail_list_t *list) {
    if (list->text.size > 0) {
        s_put (out, name);
        ef_buf_put (out, list->text.data, list->text.size);
        s_put (out, "\r\n");
    }
}

static void
s_put_date (ef_buf_t *out, uint64_t wall_ms) {
    char line[64];
    struct tm parts;
    time_t seconds = (time_t)(wall_ms / 1000);
    gmtime_r (&seconds, &parts);
    size_t size = strftime (line, sizeof line, "Date: %a, %d %b %Y %H:%M:%S +0000\r\n", &parts);
    ef_buf_put (out, line, size);
}

static void
s_put_header (mail_maker_t *self, uint32_t attempt, mail_t *mail) {
    ef_buf_t *out = &mail->bytes;
    const mail_draft_t *draft = &self->draft;
    char line[2 * MAIL_ID_MAX];
    ef_buf_clear (&self->scratch);
    mail_put_id (&self->scratch, draft->id);
    int id_bytes = (int)self->scratch.size;
    const char *id = (const char *)self->scratch.data;
    snprintf (mail->id, sizeof mail->id, "<%.*s@%s>", id_bytes, id_bytes ? id : "", self->host);
    s_put_list (out, "From: ", &draft->from);
    s_put_list (out, "To: ", &draft->to);
    s_put_list (out, "Cc: ", &draft->cc);
    if (draft->to.count + draft->cc.count == 0) {
        s_put (out, "To: undisclosed-recipients:;\r\n");
    }
    s_put_list (out, "Reply-To: ", &draft->reply_to);
    mime_put_field (out, "Subject", (const char *)draft->subject.data, draft->subject.size);
    s_put_date (out, ef_wall_ms ());
    snprintf (line, sizeof line,
              "Message-ID: %s\r\nX-Eventflow-Id: %.*s\r\nX-Eventflow-Attempt: %u\r\n", mail->id,
              id_bytes, id_bytes ? id : "", attempt);
    s_put (out, line);
    s_put (out, "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n");
}

static void
s_put_texts (const mail_draft_t *draft, ef_buf_t *out) {
    bool has_both = draft->has_text && draft->has_html;
    const char *text = (const char *)draft->text.data;
    const char *html = (const char *)draft->html.data;
    if (has_both) {
        s_put (out, "Content-Type: multipart/alternative; boundary=\"" ALTERNATIVE "\"\r\n\r\n");
        s_put (out, "--" ALTERNATIVE "\r\n");
    }
    if (draft->has_text) {
        mime_put_text (out, "text/plain", text, draft->text.size);
    }
    if (has_both) {
        s_put (out, "--" ALTERNATIVE "\r\n");
    }
    if (draft->has_html) {
        mime_put_text (out, "text/html", html, draft->html.size);
    }
    if (has_both) {
        s_put (out, "--" ALTERNATIVE "--\r\n");
    }
}

/* type/subtype of RFC 2045; those that mustn't be in Base64 become bytes like any other. */
static bool
s_is_type (ef_span_t type) {
    unsigned slashes = 0;
    bool is_good =
        type.size > 2 && type.size < 128 && type.data[0] != '/' && type.data[type.size - 1] != '/';
    for (uint32_t i = 0; i < type.size && is_good; i++) {
        uint8_t c = (uint8_t)type.data[i];
        slashes += c == '/';
        is_good = c < 0x80 && (isalnum (c) || strchr ("!#$&-^_.+/", c)) && c != 0;
    }
    return is_good && slashes == 1;
}

/* The bytes of an attachment. 0, or -1. */
static int
s_content (mail_maker_t *self, ef_span_t item, ef_span_t *content) {
    ef_span_t value;
    ef_span_t encoding;
    if (!field_get (item, "content", &value) || !field_as_text (value, content)) {
        return -1;
    }
    if (!field_get (item, "encoding", &value)) {
        return 0;
    }
    ef_buf_clear (&self->scratch);
    if (!field_as_text (value, &encoding) || !ef_span_is (encoding, "base64") ||
        ef_base64_decode (&self->scratch, content->data, content->size)) {
        return -1;
    }
    *content = (ef_span_t){(char *)self->scratch.data, (uint32_t)self->scratch.size};
    return 0;
}

static int
s_put_attachment (mail_maker_t *self, ef_span_t item, ef_buf_t *out, mail_error_t *error) {
    ef_span_t value;
    ef_span_t name = {"attachment", 10};
    ef_span_t type = {"application/octet-stream", 24};
    ef_span_t content;
    if ((field_get (item, "name", &value) && !field_as_text (value, &name)) ||
        (field_get (item, "type", &value) && !field_as_text (value, &type))) {
        return mail_fail (error, "BAD_ATTACHMENT", "attachments: name and type are texts");
    }
    for (uint32_t i = 0; i < name.size; i++) {
        if ((uint8_t)name.data[i] < 0x20 || name.data[i] == 0x7f) {
            return mail_fail (error, "BAD_ATTACHMENT",
                              "attachments: name: a control character in it");
        }
    }
    if (name.size == 0 || name.size > 1000 || !ef_utf8_is_valid (name.data, name.size)) {
        return mail_fail (error, "BAD_ATTACHMENT", "attachments: name: expected text in UTF-8");
    }
    if (!s_is_type (type)) {
        return mail_fail (error, "BAD_ATTACHMENT", "attachments: type: expected one as image/png");
    }
    if (s_content (self, item, &content)) {
        return mail_fail (error, "BAD_ATTACHMENT",
                          "attachments: content: expected bytes, or text with encoding base64");
    }
    bool is_composite = strncasecmp (type.data, "message/", type.size < 8 ? type.size : 8) == 0 ||
                        strncasecmp (type.data, "multipart/", type.size < 10 ? type.size : 10) == 0;
    s_put (out, "--" MIXED "\r\nContent-Type: ");
    if (is_composite) {
        s_put (out, "application/octet-stream");
    } else {
        ef_buf_put (out, type.data, type.size);
    }
    s_put (out, "\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment");
    mime_put_parameter (out, "filename", name.data, name.size);
    s_put (out, "\r\n\r\n");
    mime_put_base64 (out, content.data, content.size);
    return 0;
}

static int
s_put_body (mail_maker_t *self, ef_buf_t *out, mail_error_t *error) {
    const mail_draft_t *draft = &self->draft;
    field_list_t list;
    ef_span_t item;
    if (draft->attachments.data == NULL) {
        s_put_texts (draft, out);
        return 0;
    }
    field_list (&list, draft->attachments);
    if (list.left > MAIL_ATTACHMENTS_MAX) {
        return mail_fail (error, "TOO_MANY", "more than %d attachments", MAIL_ATTACHMENTS_MAX);
    }
    s_put (out, "Content-Type: multipart/mixed; boundary=\"" MIXED "\"\r\n\r\n--" MIXED "\r\n");
    s_put_texts (draft, out);
    while (field_next (&list, &item)) {
        if (s_put_attachment (self, item, out, error)) {
            return -1;
        }
    }
    s_put (out, "--" MIXED "--\r\n");
    return 0;
}

int
mail_make (mail_maker_t *self, const template_values_t *event, uint32_t attempt, mail_t *mail,
           mail_error_t *error) {
    if (mail_read (self, event, mail, error)) {
        return -1;
    }
    s_put_header (self, attempt, mail);
    return s_put_body (self, &mail->bytes, error);
}

void
mail_free (mail_t *self) {
    ef_buf_free (&self->bytes);
    ef_buf_free (&self->recipients);
}
