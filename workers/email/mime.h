/* The forms that text and bytes take in a mail: header fields (RFC 5322, 2047, 2231) and bodies
   (RFC 2045). SPDX-License-Identifier: MIT

   Everything that is written here is 7-bit, in lines of at most 76 characters (an address or a
   quoted name may make its line longer, to 998 at the most) that end in CR LF; only an address past
   ASCII stands in a field as UTF-8. No line of a body begins with "--=_": boundaries that do can't
   occur in it, whatever it holds. The caller has seen to it that header text has no control
   characters. */
#ifndef EF_MIME_H
#define EF_MIME_H

#include "mailbox.h"

typedef enum { MIME_PLAIN, MIME_QUOTED, MIME_BASE64 } mime_encoding_t;

/* Appends "Name: text" CR LF, folded; words past ASCII are encoded. */
void mime_put_field (ef_buf_t *out, const char *name, const char *text, size_t size);

/* Appends a mailbox as it stands in To: or From:. */
void mime_put_mailbox (ef_buf_t *out, const mailbox_t *mailbox);

/* Appends ";" and a parameter such as filename, each part on a line of its own. */
void mime_put_parameter (ef_buf_t *out, const char *name, const char *value, size_t size);

/* The shortest of the encodings that keep such a text whole. */
mime_encoding_t mime_choose (const char *text, size_t size);

/* Appends Content-Type, Content-Transfer-Encoding, an empty line, and the text, UTF-8 with any
   line ends, ended by CR LF. */
void mime_put_text (ef_buf_t *out, const char *type, const char *text, size_t size);

/* Appends bytes in lines of Base64. */
void mime_put_base64 (ef_buf_t *out, const char *bytes, size_t size);

#endif
