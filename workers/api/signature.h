/* Signatures of what is sent: HMAC-SHA256 over the time and the body. SPDX-License-Identifier: MIT

   Two forms. Hex: headers with the time (seconds since 1970) and "sha256=" + hex of
   HMAC (secret, time "." body). Standard (standardwebhooks.com): headers webhook-id,
   webhook-timestamp and webhook-signature, "v1," + base64 of HMAC (secret, id "." time "." body);
   a secret "whsec_…" is base64 of the key. A receiver checks the time too, against replays. */
#ifndef EF_SIGNATURE_H
#define EF_SIGNATURE_H

#include "../../proto/assert.h"
#include "../../proto/cursor.h"

#define SIGNATURE_BYTES      32
#define SIGNATURE_TEXT_BYTES 80 /* "sha256=", 64 digits and a NUL */

typedef struct signature_s signature_t;

typedef enum { SIGNATURE_HEX, SIGNATURE_STANDARD } signature_form_t;

/* The secret is copied. NULL: `error` says what is wrong with it. */
EF_MUST_USE signature_t *signature_new (signature_form_t form, ef_span_t secret, char error[512]);
void signature_destroy (signature_t **self_p); /* wipes the secret */

/* `id` counts in the standard form only. The body may be any bytes, or none. */
void signature_write (signature_t *self, ef_span_t id, uint64_t unix_s, ef_span_t body,
                      char text[SIGNATURE_TEXT_BYTES]);

#endif
