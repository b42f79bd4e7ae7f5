/* HTTP headers: what may be one, and lists of them as libcurl takes them.
   SPDX-License-Identifier: MIT

   A list owns its text; clearing it keeps the memory, so that a slot that sends one request after
   the other allocates nothing. */
#ifndef EF_HEADERS_H
#define EF_HEADERS_H

#include "../../proto/buf.h"
#include "../../proto/cursor.h"

#include <curl/curl.h>

#define HEADERS_MAX      64u         /* of one request's own choice */
#define HEADERS_TEXT_MAX (16u << 10) /* servers take 8 KiB a line or less */
#define HEADERS_LIST_MAX (HEADERS_MAX * 3)

typedef struct {
    ef_buf_t text; /* "Name: value", each ended by a NUL */
    uint32_t starts[HEADERS_LIST_MAX];
    uint32_t count;
    struct curl_slist nodes[HEADERS_LIST_MAX]; /* made by headers_list */
} headers_t;

void headers_free (headers_t *self);
void headers_clear (headers_t *self);

/* NULL, or why these can't be a header that a user chooses: not a name by RFC 9110, control
   characters in the value, or a header that the connection or this program sets. Static. */
const char *headers_refusal (ef_span_t name, ef_span_t value);

/* Appends one that is known to be good. False: the list is full. */
bool headers_add (headers_t *self, ef_span_t name, ef_span_t value);

/* The same with every byte that isn't visible ASCII, and " and %, as %XX (as CloudEvents' HTTP
   binding has it). */
bool headers_add_encoded (headers_t *self, const char *name, ef_span_t value);

/* Appends the bytes so encoded to a buffer. */
void headers_encode (ef_buf_t *out, ef_span_t value);

/* Appends all of another list, as far as there is room. */
void headers_append (headers_t *self, const headers_t *other);

bool headers_has (const headers_t *self, ef_span_t name);

/* True where the names are the same, whatever their case. */
bool headers_is_name (ef_span_t name, const char *text);

/* The first `count` as a list for CURLOPT_HTTPHEADER, good until the list is changed; NULL for
   none. */
struct curl_slist *headers_list (headers_t *self, uint32_t count);

static inline ef_span_t
headers_span (const char *text) {
    return (ef_span_t){text, (uint32_t)strlen (text)};
}

#endif
