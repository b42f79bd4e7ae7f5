/* The file of tokens (its form: access.h). SPDX-License-Identifier: MIT */
#ifndef EF_WEB_TOKENS_H
#define EF_WEB_TOKENS_H

#include "access.h"

#define TOKENS_MAX      1024 /* each is compared with every request's */
#define TOKEN_SCOPES    4000 /* bytes of a token's patterns */
#define TOKEN_MIN_CHARS 16

typedef struct {
    char name[64];
    unsigned roles;
    char *topics; /* owned: patterns for publishing, each ended with a NUL, then an empty one */
    uint8_t digest[32];
} token_t;

typedef struct {
    token_t *items; /* owned */
    uint32_t count;
} tokens_t;

/* Reads a file's text. 0, or -1 and `error` names the line. */
EF_MUST_USE int tokens_parse (tokens_t *self, const char *text, size_t size, char error[512]);
EF_MUST_USE int tokens_load (tokens_t *self, const char *path, char error[512]);
void tokens_free (tokens_t *self);
/* The index of the one that is meant, -1: none. Takes as long whichever it is. */
int tokens_find (const tokens_t *self, const char *word);
/* May it publish there? An event without a topic takes the pattern `*`. */
bool tokens_allow (const token_t *token, const char *topic, size_t size);

#endif
