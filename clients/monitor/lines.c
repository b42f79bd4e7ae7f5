/* InfluxDB's line protocol. SPDX-License-Identifier: MIT */
#include "lines.h"

#include <math.h>
#include <stdio.h>

static void
s_put (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

/* A name, a tag's name or its value. A backslash at the end would escape what follows. */
static void
s_put_name (ef_buf_t *out, const char *text, const char *special) {
    size_t size = strlen (text);
    for (size_t i = 0; i < size; i++) {
        char byte = text[i];
        if (byte == '\n' || byte == '\r' || (byte == '\\' && i + 1 == size)) {
            byte = ' ';
        }
        ef_buf_put (out, "\\", strchr (special, byte) != NULL);
        ef_buf_put (out, &byte, 1);
    }
}

void
lines_begin (lines_t *self, ef_buf_t *out, const char *measurement) {
    self->out = out;
    self->start = out->size;
    self->fields = 0;
    s_put_name (out, measurement, ", ");
}

void
lines_tag (lines_t *self, const char *name, const char *value) {
    if (value[0]) {
        s_put (self->out, ",");
        s_put_name (self->out, name, ",= ");
        s_put (self->out, "=");
        s_put_name (self->out, value, ",= ");
    }
}

static void
s_put_field (lines_t *self, const char *name) {
    s_put (self->out, self->fields++ ? "," : " ");
    s_put_name (self->out, name, ",= ");
    s_put (self->out, "=");
}

void
lines_whole (lines_t *self, const char *name, uint64_t value) {
    char text[30];
    s_put_field (self, name);
    snprintf (text, sizeof text, "%llui", /* i: a whole number, signed */
              (unsigned long long)(value < INT64_MAX ? value : INT64_MAX));
    s_put (self->out, text);
}

void
lines_real (lines_t *self, const char *name, double value) {
    char text[40];
    if (isfinite (value)) {
        s_put_field (self, name);
        snprintf (text, sizeof text, "%.15g", value);
        s_put (self->out, text);
    }
}

void
lines_text (lines_t *self, const char *name, const char *value) {
    s_put_field (self, name);
    s_put (self->out, "\"");
    for (const char *at = value; *at; at++) {
        ef_buf_put (self->out, "\\", *at == '"' || *at == '\\');
        ef_buf_put (self->out, *at == '\n' || *at == '\r' ? " " : at, 1);
    }
    s_put (self->out, "\"");
}

void
lines_bool (lines_t *self, const char *name, bool value) {
    s_put_field (self, name);
    s_put (self->out, value ? "true" : "false");
}

void
lines_end (lines_t *self, uint64_t time_ms) {
    char text[30];
    if (self->fields == 0) {
        self->out->size = self->start;
        return;
    }
    snprintf (text, sizeof text, " %llu\n", (unsigned long long)time_ms);
    s_put (self->out, text);
}
