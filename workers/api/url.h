/* URLs with fields of a payload in them. SPDX-License-Identifier: MIT

   https://host/users/{{user.id}}?q={{text}}: what stands in braces is looked up as field.h does it
   ({{event.id}}, {{event.topic}} and {{event.type}} are the event's own) and percent-encoded, so
   that no value can leave its place. The host can't be filled in. */
#ifndef EF_URL_H
#define EF_URL_H

#include "../../clients/c/eventflow.h"
#include "../../proto/buf.h"
#include "../../proto/cursor.h"

/* NULL, or what is wrong with it (static). */
const char *url_refusal (const char *pattern);

/* Appends the URL without a NUL. 0, or -1: `code` and `why` name the field. */
EF_MUST_USE int url_fill (ef_buf_t *out, const char *pattern, const eventflow_delivery_t *delivery,
                          char code[24], char why[300]);

#endif
