/* Texts of mails by the type of an event: files TYPE.txt and TYPE.html in a directory.
   SPDX-License-Identifier: MIT

   A file may begin with fields, `Subject: Welcome, {{name}}` and the like, one a line (Subject,
   From, Reply-To, To, Cc, Bcc), then an empty line, then the text. A file whose first line isn't
   one is all text. Files are read when they are first wanted, and again when they have changed. */
#ifndef EF_TEMPLATES_H
#define EF_TEMPLATES_H

#include "../template.h"

typedef enum {
    LETTER_SUBJECT,
    LETTER_FROM,
    LETTER_REPLY_TO,
    LETTER_TO,
    LETTER_CC,
    LETTER_BCC,
    LETTER_TEXT,
    LETTER_HTML,
    LETTER_PARTS
} letter_part_t;

/* What there is for a type. */
typedef struct {
    const template_t *parts[LETTER_PARTS]; /* borrowed until the next call; NULL: none */
} letter_t;

typedef struct templates_s templates_t;

/* NULL: `error` says what is wrong with the directory. */
templates_t *templates_new (const char *directory, char error[512]);
void templates_destroy (templates_t **self_p);

/* The templates of a type. 1: there are; 0: none; -1: `error` says what is wrong with a file. */
int templates_find (templates_t *self, ef_span_t type, letter_t *letter, char error[512]);

#endif
