/* What an event carries beside its payload, as flags say it. SPDX-License-Identifier: MIT */
#ifndef EF_CLI_PUBLISH_H
#define EF_CLI_PUBLISH_H

#include "cli.h"

/* The flags' values; NULL: not said. */
typedef struct {
    const char *type;
    const char *key;
    const char *user;
    const char *downstream;
    const char *trace;
    const char *at;      /* RFC 3339, or a duration from now */
    const char *delay;   /* duration */
    const char *ttl;     /* duration */
    const char *schema;  /* number */
    const char *headers; /* JSON object */
    const char *on_dead; /* an event in its JSON form */
} meta_words_t;

bool publish_has_meta (const meta_words_t *self);
/* Appends the pairs of meta. CLI_OK, or CLI_USAGE with a message. */
int publish_put_meta (const meta_words_t *self, ef_buf_t *out, uint32_t *pairs);

#endif
