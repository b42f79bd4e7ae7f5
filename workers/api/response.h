/* What an HTTP response means for the event. SPDX-License-Identifier: MIT

   Pure: a status and what came with it become an answer. 2xx is done; 408, 425, 429 and 5xx are
   tried again, when Retry-After says so if it does; everything else is final. */
#ifndef EF_RESPONSE_H
#define EF_RESPONSE_H

#include "../../clients/c/eventflow.h"
#include "../../proto/buf.h"
#include "../../proto/cursor.h"

#define RESPONSE_KEPT_MAX   4096 /* bytes of a body kept with its event */
#define RESPONSE_SHOWN_MAX  300  /* of a body told in an error */
#define RESPONSE_TEXT_BYTES 600  /* an error, with a NUL */
#define RESPONSE_RETRY_MAX_MS                                                                      \
    (24 * 3600 * 1000ll) /* a server can't put an event off for longer                             \
                          */

eventflow_result_t response_judge (long status);

/* Retry-After: seconds or a date. How long from now in ms, a day at the most; -1: it says nothing
   that helps (also a date that is past, and 0: the topic's policy knows better). */
int64_t response_retry_ms (const char *value, uint64_t now_ms);

/* One line for people: the status line's words, and how the body begins. Control characters
   become spaces, what isn't UTF-8 dots. */
void response_text (ef_span_t reason, ef_span_t body, char text[RESPONSE_TEXT_BYTES]);

/* {"status", "ms"} and, where there is one, "body": JSON as what it says, other text or bytes as
   they are, to RESPONSE_KEPT_MAX bytes. */
void response_result (ef_buf_t *out, long status, uint64_t ms, ef_span_t body);

#endif
