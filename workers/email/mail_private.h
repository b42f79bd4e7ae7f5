/* What making a mail has under way. SPDX-License-Identifier: MIT */
#ifndef EF_MAIL_PRIVATE_H
#define EF_MAIL_PRIVATE_H

#include "mail.h"

/* A list of mailboxes as it stands in a header field. */
typedef struct {
    ef_buf_t text;
    uint32_t count;
} mail_list_t;

/* What a payload and its templates come to. Buffers are kept from one mail to the next. */
typedef struct {
    mail_list_t from;
    mail_list_t to;
    mail_list_t cc;
    mail_list_t bcc; /* nobody reads its text */
    mail_list_t reply_to;
    ef_buf_t subject;
    ef_buf_t text;
    ef_buf_t html;
    bool has_text;
    bool has_html;
    ef_span_t attachments; /* of the payload; NULL: none */
    ef_span_t id;          /* of the event that Message-ID tells of */
} mail_draft_t;

struct mail_maker_s {
    mailbox_t from;
    char host[MAILBOX_ADDRESS_MAX + 1]; /* of Message-ID */
    template_t *subject;                /* owned, as the next two; NULL: none */
    template_t *text;
    template_t *html;
    templates_t *templates; /* owned; NULL: none */
    mail_draft_t draft;
    ef_buf_t scratch;
};

int mail_fail (mail_error_t *error, const char *code, const char *format, ...) EF_PRINTF (3, 4);

/* Fills the draft, and the envelope in `mail`. 0, or -1. */
EF_MUST_USE int mail_read (mail_maker_t *self, const template_values_t *event, mail_t *mail,
                           mail_error_t *error);

#endif
