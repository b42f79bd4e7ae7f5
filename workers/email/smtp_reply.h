/* A server's replies (RFC 5321, 4.2). SPDX-License-Identifier: MIT

   "250-one" CR LF "250 two" CR LF is one reply, 250 with the text "one two". A lone LF ends a line
   too. */
#ifndef EF_SMTP_REPLY_H
#define EF_SMTP_REPLY_H

#include <stdbool.h>
#include <stddef.h>

#define SMTP_TEXT_MAX 400  /* bytes kept of a reply's text */
#define SMTP_LINE_MAX 2000 /* RFC 5321 has 512; past this it is no SMTP server */

typedef struct {
    unsigned code;                /* 200 to 599 */
    char text[SMTP_TEXT_MAX + 1]; /* of all lines; what isn't printable ASCII is a ? */
    /* of the reader */
    char line[SMTP_LINE_MAX];
    size_t line_bytes;
    size_t text_bytes;
    bool is_begun;
} smtp_reply_t;

void smtp_reply_init (smtp_reply_t *self);

/* Reads on; `*used` says how many bytes. 1: a reply is complete, until the next call; 0: all bytes
   were read; -1: that is no reply. */
int smtp_reply_read (smtp_reply_t *self, const char *bytes, size_t size, size_t *used);

#endif
