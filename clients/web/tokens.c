/* Tokens: who may do what. SPDX-License-Identifier: MIT

   Only digests are kept, so neither memory nor a core file has a token, and all that is compared
   has the same length. */
#include "tokens.h"
#include "sha256.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

bool
access_is_same (const void *a, const void *b, size_t size) {
    const volatile uint8_t *left = a;
    const volatile uint8_t *right = b;
    uint8_t differ = 0;
    for (size_t i = 0; i < size; i++) {
        differ |= left[i] ^ right[i];
    }
    return differ == 0;
}

void
tokens_free (tokens_t *self) {
    for (uint32_t i = 0; i < self->count; i++) {
        free (self->items[i].topics);
    }
    free (self->items);
    memset (self, 0, sizeof *self);
}

/* One role of a list: read, administer, publish or publish:PATTERN. */
static int
s_take_role (token_t *token, const char *word, size_t size, ef_buf_t *topics) {
    if (size == 4 && memcmp (word, "read", 4) == 0) {
        token->roles |= 1u << ROLE_READ;
    } else if (size == 10 && memcmp (word, "administer", 10) == 0) {
        token->roles |= 1u << ROLE_READ | 1u << ROLE_PUBLISH | 1u << ROLE_ADMINISTER;
        ef_buf_put (topics, "*", 2);
    } else if (size == 7 && memcmp (word, "publish", 7) == 0) {
        token->roles |= 1u << ROLE_PUBLISH;
        ef_buf_put (topics, "*", 2);
    } else if (size > 8 && memcmp (word, "publish:", 8) == 0 && topics->size < TOKEN_SCOPES) {
        token->roles |= 1u << ROLE_PUBLISH;
        ef_buf_put (topics, word + 8, size - 8);
        ef_buf_put (topics, "", 1);
    } else {
        return -1;
    }
    return 0;
}

static int
s_hex (const char *text, size_t size, uint8_t digest[32]) {
    for (size_t i = 0; i < 64; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (size != 64 || digit < 0) {
            return -1;
        }
        digest[i / 2] = (uint8_t)(i % 2 ? digest[i / 2] | digit : digit << 4);
    }
    return 0;
}

/* NULL, or what was expected. */
static const char *
s_take_line (token_t *token, const char *line, size_t size) {
    const char *fields[3] = {"", "", ""};
    size_t sizes[3] = {0};
    unsigned count = 0;
    for (size_t at = 0; at < size;) {
        size_t start = at;
        while (at < size && line[at] != ' ' && line[at] != '\t') {
            at++;
        }
        if (at > start && count == 3) {
            return "NAME ROLE[,ROLE] TOKEN and nothing behind it";
        }
        if (at > start) {
            fields[count] = line + start;
            sizes[count++] = at - start;
        }
        at += at < size;
    }
    if (count != 3 || sizes[0] >= sizeof token->name) {
        return "NAME ROLE[,ROLE] TOKEN, a name of up to 63 characters";
    }
    memcpy (token->name, fields[0], sizes[0]);
    ef_buf_t topics = {0};
    for (size_t at = 0; at < sizes[1];) {
        const char *comma = memchr (fields[1] + at, ',', sizes[1] - at);
        size_t length = comma ? (size_t)(comma - fields[1]) - at : sizes[1] - at;
        if (s_take_role (token, fields[1] + at, length, &topics)) {
            ef_buf_free (&topics);
            return "roles of read, publish, publish:PATTERN, administer";
        }
        at += length + 1;
    }
    ef_buf_put (&topics, "", 1);
    token->topics = (char *)topics.data;
    if (sizes[2] > 7 && memcmp (fields[2], "sha256:", 7) == 0) {
        return s_hex (fields[2] + 7, sizes[2] - 7, token->digest) ? "64 hexadecimal digits behind "
                                                                    "sha256:"
                                                                  : NULL;
    }
    if (sizes[2] < TOKEN_MIN_CHARS) {
        return "a token of 16 characters at least";
    }
    sha256 (fields[2], sizes[2], token->digest);
    return NULL;
}

int
tokens_parse (tokens_t *self, const char *text, size_t size, char error[512]) {
    unsigned number = 0;
    *self = (tokens_t){calloc (TOKENS_MAX, sizeof *self->items), 0};
    ef_assert (self->items != NULL);
    for (size_t at = 0; at < size; at++) {
        const char *line = text + at;
        const char *end = memchr (line, '\n', size - at);
        size_t length = end ? (size_t)(end - line) : size - at;
        const char *mark = memchr (line, '#', length);
        size_t useful = mark ? (size_t)(mark - line) : length;
        while (useful > 0 &&
               (line[useful - 1] == ' ' || line[useful - 1] == '\t' || line[useful - 1] == '\r')) {
            useful--;
        }
        number++;
        at += length;
        if (useful == 0) {
            continue;
        }
        const char *why = self->count == TOKENS_MAX
                              ? "up to 1024 tokens"
                              : s_take_line (&self->items[self->count++], line, useful);
        if (why) {
            snprintf (error, 512, "line %u: expected %s", number, why);
            tokens_free (self);
            return -1;
        }
    }
    return 0;
}

int
tokens_load (tokens_t *self, const char *path, char error[512]) {
    struct stat status;
    char text[512] = "";
    ef_buf_t bytes = {0};
    FILE *file = fopen (path, "re");
    if (file == NULL || fstat (fileno (file), &status)) {
        snprintf (error, 512, "tokens: can't read %.300s: %s", path, strerror (errno));
        if (file) {
            fclose (file);
        }
        return -1;
    }
    int rc = -1;
    if (status.st_mode & (S_IRWXO | S_IWGRP)) {
        snprintf (error, 512, "tokens: %.300s can be read by others; chmod 600 helps", path);
    } else if (status.st_size > (1 << 20)) {
        snprintf (error, 512, "tokens: %.300s is larger than 1 MiB", path);
    } else {
        size_t size = fread (ef_buf_add (&bytes, (size_t)status.st_size + 1), 1,
                             (size_t)status.st_size, file);
        rc = tokens_parse (self, (const char *)bytes.data, size, text);
        if (rc) {
            snprintf (error, 512, "tokens: %.300s: %.180s", path, text);
        }
        memset (bytes.data, 0, bytes.size);
        __asm__ volatile("" : : "r"(bytes.data) : "memory"); /* it is wiped for good */
    }
    ef_buf_free (&bytes);
    fclose (file);
    return rc;
}

int
tokens_find (const tokens_t *self, const char *word) {
    uint8_t digest[32];
    int found = -1;
    sha256 (word, strlen (word), digest);
    for (uint32_t i = 0; i < self->count; i++) {
        found = access_is_same (digest, self->items[i].digest, sizeof digest) ? (int)i : found;
    }
    return found;
}

bool
tokens_allow (const token_t *token, const char *topic, size_t size) {
    char name[256];
    if (topic && size >= sizeof name) {
        return false;
    }
    snprintf (name, sizeof name, "%.*s", (int)(topic ? size : 0), topic ? topic : "");
    for (const char *at = token->topics; at && *at; at += strlen (at) + 1) {
        if (topic ? fnmatch (at, name, 0) == 0 : strcmp (at, "*") == 0) {
            return true;
        }
    }
    return false;
}
