/* A configuration read from text, for tests. SPDX-License-Identifier: MIT */
#ifndef EF_UNIT_CONFIG_H
#define EF_UNIT_CONFIG_H

#include "unit.h"

#include "../../broker/config_private.h"

#include <stdio.h>
#include <stdlib.h>

/* A configuration read from text, or what is wrong with it. */
typedef struct {
    ef_config_t config;
    char error[512];
    int rc;
} read_t;

static inline void
write_text (const char *path, const char *text) {
    FILE *file = fopen (path, "w");
    assert_non_null (file);
    assert_true (fputs (text, file) >= 0);
    assert_int_equal (fclose (file), 0);
}

static inline read_t *
read_text (const char *text) {
    read_t *self = calloc (1, sizeof *self);
    char path[] = "/tmp/ef-test-config-XXXXXX";
    int file = mkstemp (path);
    assert_true (file >= 0);
    close (file);
    write_text (path, text);
    ef_config_init (&self->config);
    self->rc = ef_config_load (&self->config, path, self->error);
    self->rc = self->rc ? self->rc : ef_config_environment (&self->config, self->error);
    self->rc = self->rc ? self->rc : ef_config_check (&self->config, self->error);
    unlink (path);
    return self;
}

static inline void
read_done (read_t *self) {
    ef_config_free (&self->config);
    free (self);
}

/* What a topic has that is told one setting. */
static inline read_t *
read_setting (const char *key, const char *value) {
    char text[2000];
    snprintf (text, sizeof text, "topic\n    work\n        %s = \"%s\"\n", key, value);
    return read_text (text);
}

#endif
