/* Names and texts of status codes, and the assertion's last word. SPDX-License-Identifier: MIT */
#include "status.h"
#include "assert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const s_names[] = {
#define X(name, text) #name,
    EF_STATUS_TABLE (X)
#undef X
};

static const char *const s_texts[] = {
#define X(name, text) text,
    EF_STATUS_TABLE (X)
#undef X
};

const char *
ef_status_name (ef_status_t status) {
    ef_assert (status < EF_STATUS_COUNT);
    return s_names[status];
}

const char *
ef_status_text (ef_status_t status) {
    ef_assert (status < EF_STATUS_COUNT);
    return s_texts[status];
}

ef_status_t
ef_status_parse (const char *name, unsigned size) {
    for (unsigned i = 0; i < EF_STATUS_COUNT; i++) {
        if (strlen (s_names[i]) == size && memcmp (s_names[i], name, size) == 0) {
            return (ef_status_t)i;
        }
    }
    return EF_STATUS_COUNT;
}

void
ef_assert_failed (const char *expression, const char *file, int line) {
    fprintf (stderr, "assertion failed: %s (%s:%d)\n", expression, file, line);
    abort ();
}
