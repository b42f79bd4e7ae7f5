/* Addresses of mail: `local@domain`, `Name <local@domain>`, and lists of them with commas between.
   SPDX-License-Identifier: MIT

   Role: nothing that came from outside reaches an SMTP command or a header field before it passed
   here. Strict: a local part is a dot-atom or a quoted string of printable characters, a domain is
   labels of letters, digits and hyphens, or a literal in brackets. Both may hold UTF-8 past ASCII
   (RFC 6531), which only some servers take: `is_ascii` tells. Comments, routes and groups of
   RFC 5322 are refused: nobody sends them, and parsers disagree about them. */
#ifndef EF_MAILBOX_H
#define EF_MAILBOX_H

#include "../../proto/buf.h"
#include "../../proto/cursor.h"

#define MAILBOX_ADDRESS_MAX 254 /* RFC 5321: a path has 256 with its brackets */
#define MAILBOX_LOCAL_MAX   64  /* the same */
#define MAILBOX_NAME_MAX    255

typedef struct {
    char name[MAILBOX_NAME_MAX + 1]; /* as people read it; empty: none */
    char address[MAILBOX_ADDRESS_MAX + 1];
    bool is_ascii; /* the address */
} mailbox_t;

/* Takes the next one of a list with commas between. 1: there was one; 0: the list is over;
   -1: `*why` says what is wrong (static). */
int mailbox_next (const char **at, const char *end, mailbox_t *mailbox, const char **why);

/* NULL, or what is wrong with an address (static). */
const char *mailbox_check (const char *address, size_t size, bool *is_ascii);

#endif
