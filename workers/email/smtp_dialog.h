/* What is said about one mail on a connection, and what comes of it. SPDX-License-Identifier: MIT

   Role: a pure class; bytes to send come out, replies go in. MAIL, a RCPT for every recipient, DATA
   in one go where the server takes that (RFC 2920), else one after another; then the text. A
   refused recipient hinders no other. After a mail that the server has half begun, RSET. */
#ifndef EF_SMTP_DIALOG_H
#define EF_SMTP_DIALOG_H

#include "mail.h"
#include "smtp_reply.h"

/* What a server's EHLO says that it can do. */
typedef struct {
    bool has_pipelining;
    bool has_utf8;
    bool has_size;
    uint64_t size_max; /* bytes of a mail; 0: not told */
} smtp_abilities_t;

/* How a mail fared with one of its recipients. */
typedef struct {
    unsigned code; /* 0: nobody asked */
    uint32_t text; /* where in `texts`: what the server said */
} smtp_verdict_t;

typedef struct {
    const mail_t *mail;       /* borrowed */
    ef_buf_t out;             /* owned: to be sent */
    size_t sent;              /* bytes of it that were */
    smtp_verdict_t *verdicts; /* owned, of recipients */
    uint32_t verdict_room;
    ef_buf_t texts;  /* owned, a NUL behind each */
    uint32_t asked;  /* recipients whose RCPT was put into `out` */
    uint32_t heard;  /* recipients that were answered */
    uint32_t taken;  /* of them with a 2xx */
    unsigned failed; /* the code that ended it for all; 0: none */
    int stage;
    bool is_pipelined;
} smtp_dialog_t;

void smtp_dialog_free (smtp_dialog_t *self);

/* Begins one. The mail is one that the server can take. */
void smtp_dialog_begin (smtp_dialog_t *self, const mail_t *mail, const smtp_abilities_t *abilities);

typedef enum {
    DIALOG_GOES_ON,
    DIALOG_IS_OVER,  /* every recipient has its verdict, and the connection is as it was */
    DIALOG_RESETS,   /* the same, but another reply is to come first, behind RSET */
    DIALOG_IS_BROKEN /* a reply that can't be */
} smtp_progress_t;

/* Takes the server's next reply. */
smtp_progress_t smtp_dialog_reply (smtp_dialog_t *self, const smtp_reply_t *reply);

/* True where the verdicts are final; until then a 2xx is no more than a RCPT's. */
bool smtp_dialog_is_over (const smtp_dialog_t *self);
/* True where the server may have taken the mail without our knowing. */
bool smtp_dialog_is_unknown (const smtp_dialog_t *self);
/* True where the server hasn't said anything to it. */
bool smtp_dialog_is_unheard (const smtp_dialog_t *self);

#endif
