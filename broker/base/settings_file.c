/* Settings out of a file. SPDX-License-Identifier: MIT */
#include "settings.h"

#include <czmq.h>
#include <errno.h>
#include <stdio.h>

#define LINE_MAX_BYTES 1000 /* zconfig cuts off what lies beyond its 1024 */

/* 0, a negative errno, or the number of a line that is too long. */
static int
s_read_lines (settings_file_t *self, const char *path) {
    FILE *file = fopen (path, "r");
    char *text = NULL;
    size_t capacity = 0;
    int rc = 0;
    if (file == NULL) {
        return -errno;
    }
    for (int number = 1; rc == 0 && getline (&text, &capacity, file) >= 0; number++) {
        const char *first = text + strspn (text, " \t\r\n");
        if (*first && *first != '#') {
            self->numbers = realloc (self->numbers, (self->count + 1) * sizeof (int));
            ef_assert (self->numbers != NULL);
            self->numbers[self->count++] = number;
            rc = strlen (text) > LINE_MAX_BYTES ? number : 0;
        }
    }
    rc = rc == 0 && ferror (file) ? -EIO : rc;
    free (text);
    fclose (file);
    return rc;
}

int
settings_file_open (settings_file_t *self, const char *path, char error[512]) {
    memset (self, 0, sizeof *self);
    int rc = s_read_lines (self, path);
    if (rc < 0) {
        snprintf (error, 512, "%.200s: can't be read: %s", path, strerror (-rc));
    } else if (rc > 0) {
        snprintf (error, 512, "%.200s:%d: the line is too long: expected up to %d bytes", path, rc,
                  LINE_MAX_BYTES);
    } else if ((self->root = zconfig_load (path)) == NULL) {
        snprintf (error, 512,
                  "%.200s: isn't ZPL: expected \"name = value\" lines, nested by 4 spaces", path);
    }
    if (self->root == NULL) {
        settings_file_close (self);
        return -1;
    }
    return 0;
}

void
settings_file_close (settings_file_t *self) {
    zconfig_destroy (&self->root);
    free (self->numbers);
    self->numbers = NULL;
}

static zconfig_t *
s_step (settings_file_t *self, zconfig_t *node) {
    if (node) {
        self->line = self->next < self->count ? self->numbers[self->next] : 0;
        self->next++;
    }
    return node;
}

zconfig_t *
settings_file_first (settings_file_t *self, zconfig_t *parent) {
    return s_step (self, zconfig_child (parent));
}

zconfig_t *
settings_file_further (settings_file_t *self, zconfig_t *node) {
    return s_step (self, zconfig_next (node));
}

const char *
settings_file_name (zconfig_t *node) {
    return zconfig_name (node);
}

int
settings_file_set (const settings_t *settings, void *base, zconfig_t *node, char error[512]) {
    const char *value = zconfig_value (node);
    return config_set_named (settings, base, zconfig_name (node), value ? value : "", error);
}

void
settings_file_skip (settings_file_t *self, zconfig_t *parent) {
    for (zconfig_t *node = settings_file_first (self, parent); node;
         node = settings_file_further (self, node)) {
        settings_file_skip (self, node);
    }
}

void
settings_file_blame (const settings_file_t *self, const char *path, const char *text,
                     char error[512]) {
    snprintf (error, 512, "%.150s:%d: %.340s", path, self->line, text);
}

const char *
settings_variable (const char *section, const char *of, const char *key, char name[160]) {
    snprintf (name, 160, "EVENTFLOW_%s%s%s_%s", section, of[0] ? "_" : "", of, key);
    for (char *at = name; *at; at++) {
        *at = *at >= 'a' && *at <= 'z' ? (char)(*at - 32) : *at == '-' || *at == '.' ? '_' : *at;
    }
    return getenv (name);
}

int
settings_environment (const char *section, const char *of, const settings_t *settings, void *base,
                      char error[512]) {
    for (size_t i = 0; i < settings->count; i++) {
        char name[160];
        char text[512];
        const char *value = settings_variable (section, of, settings->rows[i].name, name);
        if (value && config_set (&settings->rows[i], base, value, text)) {
            snprintf (error, 512, "environment %.100s: %.350s", name, text);
            return -1;
        }
    }
    return 0;
}
