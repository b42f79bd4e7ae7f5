/* Signatures of what is sent: HMAC-SHA256 over the time and the body. SPDX-License-Identifier: MIT
 */
#include "signature.h"
#include "../../proto/json.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#define SECRET_MOST 1024 /* bytes; a longer key than a block is hashed first and gains nothing */

struct signature_s {
    signature_form_t form;
    EVP_MAC *mac;         /* owned */
    EVP_MAC_CTX *context; /* owned; holds the key, begun anew for every signature */
};

static int
s_prepare (signature_t *self, const void *key, size_t size) {
    char digest[] = "SHA256";
    OSSL_PARAM parameters[] = {OSSL_PARAM_construct_utf8_string (OSSL_MAC_PARAM_DIGEST, digest, 0),
                               OSSL_PARAM_construct_end ()};
    self->mac = EVP_MAC_fetch (NULL, "HMAC", NULL);
    self->context = self->mac ? EVP_MAC_CTX_new (self->mac) : NULL;
    return self->context && EVP_MAC_init (self->context, key, size, parameters) ? 0 : -1;
}

signature_t *
signature_new (signature_form_t form, ef_span_t secret, char error[512]) {
    static const char prefix[] = "whsec_";
    signature_t *self = calloc (1, sizeof *self);
    ef_buf_t key = {0};
    int rc = 0;
    ef_assert (self != NULL);
    self->form = form;
    if (secret.size == 0 || secret.size > SECRET_MOST) {
        snprintf (error, 512, "secret: expected 1 to %d bytes", SECRET_MOST);
        rc = -1;
    } else if (form == SIGNATURE_STANDARD && secret.size > 6 &&
               memcmp (secret.data, prefix, 6) == 0) {
        rc = ef_base64_decode (&key, secret.data + 6, secret.size - 6);
        if (rc || key.size == 0) {
            snprintf (error, 512, "secret: expected base64 behind %s", prefix);
            rc = -1;
        }
    } else {
        ef_buf_put (&key, secret.data, secret.size);
    }
    if (rc == 0 && (rc = s_prepare (self, key.data, key.size))) {
        snprintf (error, 512, "secret: the library offers no HMAC-SHA256");
    }
    if (key.data) {
        OPENSSL_cleanse (key.data, key.size);
    }
    ef_buf_free (&key);
    if (rc) {
        signature_destroy (&self);
    }
    return self;
}

void
signature_destroy (signature_t **self_p) {
    signature_t *self = *self_p;
    if (self) {
        EVP_MAC_CTX_free (self->context);
        EVP_MAC_free (self->mac);
        free (self);
        *self_p = NULL;
    }
}

static void
s_update (signature_t *self, const void *bytes, size_t size) {
    int is_done = EVP_MAC_update (self->context, bytes, size);
    ef_assert (is_done); /* of a digest in memory: nothing can go wrong */
}

void
signature_write (signature_t *self, ef_span_t id, uint64_t unix_s, ef_span_t body,
                 char text[SIGNATURE_TEXT_BYTES]) {
    static const char digits[] = "0123456789abcdef";
    char time[24];
    uint8_t bytes[SIGNATURE_BYTES];
    size_t size = 0;
    int length = snprintf (time, sizeof time, "%llu.", (unsigned long long)unix_s);
    int is_done = EVP_MAC_init (self->context, NULL, 0, NULL); /* with the key that it has */
    ef_assert (is_done);
    if (self->form == SIGNATURE_STANDARD) {
        s_update (self, id.data, id.size);
        s_update (self, ".", 1);
    }
    s_update (self, time, (size_t)length);
    s_update (self, body.data, body.size);
    is_done = EVP_MAC_final (self->context, bytes, &size, sizeof bytes);
    ef_assert (is_done && size == sizeof bytes);
    if (self->form == SIGNATURE_STANDARD) {
        memcpy (text, "v1,", 3);
        (void)EVP_EncodeBlock ((unsigned char *)text + 3, bytes, SIGNATURE_BYTES);
        return;
    }
    memcpy (text, "sha256=", 7);
    for (unsigned i = 0; i < SIGNATURE_BYTES; i++) {
        text[7 + i * 2] = digits[bytes[i] >> 4];
        text[8 + i * 2] = digits[bytes[i] & 15];
    }
    text[7 + 2 * SIGNATURE_BYTES] = '\0';
}
