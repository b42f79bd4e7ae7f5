/* A mail made from an event: its envelope and its text as it goes over the wire.
   SPDX-License-Identifier: MIT

   Fields of the payload (a map), all looked up by field.h:
     to_email, to, email    recipients, the first of them that there is: an address, several with
                            commas, "Name <address>", or a list of such
     cc, bcc, reply_to      likewise
     subject                else the type's template, the section's, the type itself
     message or text, html  the text; both kinds: multipart/alternative
     attachments            [{name, type, content, encoding}]: content as bytes, or as text in
   Base64 where encoding is "base64" rest                   {of: id, to: [address]}: of a mail that
   some recipients have had, the event that stands for those that haven't; only they are sent to
   Without a text of its own: the templates of its type, else those of the section. A payload that
   is a string is a recipient, and its text, without a template, says of what type it was.

   What can't be sent is told by the name of the field. CR, LF, NUL and all control characters are
   refused wherever they would come into a header field or a command. */
#ifndef EF_MAIL_H
#define EF_MAIL_H

#include "mailbox.h"
#include "templates.h"

#define MAIL_RECIPIENTS_MAX  1000 /* servers take 100 at least; what is too many gets a 452 */
#define MAIL_ATTACHMENTS_MAX 100
#define MAIL_ID_MAX          512 /* bytes of a Message-ID */

/* Borrowed for the maker's life. */
typedef struct {
    const char *from;    /* a mailbox */
    const char *host;    /* behind the @ of Message-ID; empty: the domain of `from` */
    const char *subject; /* templates of the section; empty: none */
    const char *text;
    const char *html;
    const char *templates; /* a directory; empty: none */
} mail_settings_t;

typedef struct {
    ef_buf_t bytes;      /* header and body, lines with CR LF, dots not doubled */
    ef_buf_t recipients; /* addresses, a NUL behind each */
    uint32_t recipient_count;
    bool needs_utf8; /* RFC 6531 */
    char sender[MAILBOX_ADDRESS_MAX + 1];
    char id[MAIL_ID_MAX]; /* Message-ID with its brackets */
} mail_t;

/* Why a mail can't be made. */
typedef struct {
    const char *code; /* static */
    char text[400];
    bool may_pass; /* the operator's to mend: it may be tried again */
} mail_error_t;

typedef struct mail_maker_s mail_maker_t;

/* NULL: `error` says why. */
mail_maker_t *mail_maker_new (const mail_settings_t *settings, char error[512]);
void mail_maker_destroy (mail_maker_t **self_p);

/* Makes the mail of an event, in place of what `mail` held. 0, or -1. */
EF_MUST_USE int mail_make (mail_maker_t *self, const template_values_t *event, uint32_t attempt,
                           mail_t *mail, mail_error_t *error);
void mail_free (mail_t *self);

/* Appends an id of any bytes as characters that may stand left of a Message-ID's @; different ids
   stay different. */
void mail_put_id (ef_buf_t *out, ef_span_t id);

/* The event of those recipients that are left: the same but for `rest`, and for `at` and `delay`,
   in whose place it waits for `delay_ms`. `addresses` as in mail_t. 0, or -1: the event's payload
   is no map. */
EF_MUST_USE int mail_rest (ef_buf_t *out, ef_span_t event, const ef_buf_t *addresses,
                           uint64_t delay_ms);

#endif
