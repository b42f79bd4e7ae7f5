/* A directory of schemas. SPDX-License-Identifier: MIT */
#include "schema.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SCHEMAS_MAX      4096
#define SCHEMA_BYTES_MAX (1u << 20)
#define TYPE_BYTES       256

typedef struct {
    char type[TYPE_BYTES];
    int64_t version;  /* negative: all that have no file of their own */
    schema_t *schema; /* owned */
} row_t;

struct schemas_s {
    row_t *rows; /* owned, in order of type and version */
    uint32_t count;
};

static int
s_compare (const void *a, const void *b) {
    const row_t *left = a;
    const row_t *right = b;
    int order = strcmp (left->type, right->type);
    return order                            ? order
           : left->version < right->version ? -1
           : left->version > right->version ? 1
                                            : 0;
}

/* "TYPE.json" or "TYPE@VERSION.json". False: another file. */
static bool
s_read_name (const char *name, row_t *row) {
    size_t size = strlen (name);
    if (size < 6 || strcmp (name + size - 5, ".json") != 0 || size >= sizeof row->type ||
        name[0] == '.') {
        return false;
    }
    snprintf (row->type, sizeof row->type, "%.*s", (int)size - 5, name);
    row->version = -1;
    char *mark = strrchr (row->type, '@');
    if (mark && mark[1]) {
        char *end;
        long long version = strtoll (mark + 1, &end, 10);
        if (*end == 0 && version >= 0) {
            row->version = version;
            *mark = 0;
        }
    }
    return row->type[0] != 0;
}

static schema_t *
s_load (const char *directory, const char *name, char error[512]) {
    char path[1400];
    char why[512] = "";
    ef_buf_t text = {0};
    snprintf (path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen (path, "re");
    size_t size =
        file ? fread (ef_buf_add (&text, SCHEMA_BYTES_MAX), 1, SCHEMA_BYTES_MAX, file) : 0;
    if (file) {
        fclose (file);
    }
    schema_t *schema = size > 0 && size < SCHEMA_BYTES_MAX
                           ? schema_new ((const char *)text.data, size, why)
                           : NULL;
    ef_buf_free (&text);
    if (schema == NULL) {
        snprintf (error, 512, "schemas: %.200s: %.250s", path,
                  why[0] ? why : "expected a file that can be read, under 1 MiB");
    }
    return schema;
}

schemas_t *
schemas_new (const char *directory, char error[512]) {
    DIR *list = opendir (directory);
    if (list == NULL) {
        snprintf (error, 512, "schemas: %.300s: %s", directory, strerror (errno));
        return NULL;
    }
    schemas_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->rows = calloc (SCHEMAS_MAX, sizeof *self->rows);
    ef_assert (self->rows != NULL);
    for (struct dirent *entry = readdir (list); entry && self; entry = readdir (list)) {
        row_t *row = &self->rows[self->count];
        if (!s_read_name (entry->d_name, row)) {
            continue;
        }
        row->schema = s_load (directory, entry->d_name, error);
        self->count += row->schema != NULL;
        if (row->schema == NULL) {
            schemas_destroy (&self);
        } else if (self->count == SCHEMAS_MAX) {
            snprintf (error, 512, "schemas: expected fewer than %d files", SCHEMAS_MAX);
            schemas_destroy (&self);
        }
    }
    closedir (list);
    if (self) {
        qsort (self->rows, self->count, sizeof *self->rows, s_compare);
    }
    return self;
}

void
schemas_destroy (schemas_t **self_p) {
    schemas_t *self = *self_p;
    if (self) {
        for (uint32_t i = 0; i < self->count; i++) {
            schema_destroy (&self->rows[i].schema);
        }
        free (self->rows);
        free (self);
        *self_p = NULL;
    }
}

const schema_t *
schemas_find (const schemas_t *self, ef_span_t type, int64_t version) {
    row_t wanted = {.version = version < 0 ? -1 : version};
    if (type.data == NULL || type.size >= sizeof wanted.type) {
        return NULL;
    }
    ef_span_copy (type, wanted.type, sizeof wanted.type);
    const row_t *row = bsearch (&wanted, self->rows, self->count, sizeof wanted, s_compare);
    if (row == NULL && wanted.version >= 0) {
        wanted.version = -1;
        row = bsearch (&wanted, self->rows, self->count, sizeof wanted, s_compare);
    }
    return row ? row->schema : NULL;
}

uint32_t
schemas_count (const schemas_t *self) {
    return self->count;
}
