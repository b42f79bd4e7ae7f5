/* The dashboard's files, in the program. SPDX-License-Identifier: MIT */
#include "page.h"
#include "../web/problem.h"

#include <stdio.h>
#include <string.h>

#define FILES_MAX  64
#define NAME_BYTES 80

/* Stricter than what the server says of a page: no script makes markup out of text. */
#define POLICY                                                                                     \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src "  \
    "'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "                        \
    "require-trusted-types-for 'script'; trusted-types 'none'"

/* True where a list as `gzip, br;q=0.5` has this word without q=0. */
static bool
s_takes (const char *list, const char *word) {
    size_t size = strlen (word);
    for (const char *at = list; at && (at = strstr (at, word)) != NULL; at += size) {
        bool begins = at == list || at[-1] == ',' || at[-1] == ' ' || at[-1] == '\t';
        const char *rest = at + size + strspn (at + size, " \t");
        if (begins && (*rest == '\0' || *rest == ',')) {
            return true;
        }
        if (begins && *rest == ';') {
            rest += 1 + strspn (rest + 1, " \t");
            return strncmp (rest, "q=0", 3) != 0 ||
                   strspn (rest + 3, ".0") != strcspn (rest + 3, ",");
        }
    }
    return false;
}

/* All that belongs to a page, and its type: the server, told that it is one, would put its own
   policy beside this one, and what both forbid is forbidden. */
static void
s_put_policy (call_t *call, const char *type) {
    call_add_header (call, "Content-Type", type);
    call_add_header (call, "X-Content-Type-Options", "nosniff");
    call_add_header (call, "Content-Security-Policy", POLICY);
    call_add_header (call, "Referrer-Policy", "no-referrer");
}

static void
s_answer (call_t *call, const page_file_t *file) {
    const char *known = call_header (call, "If-None-Match");
    call_add_header (call, "ETag", file->etag);
    call_add_header (call, "Cache-Control", "no-cache");
    call_add_header (call, "Vary", "Accept-Encoding");
    if (known && (strstr (known, file->etag) || strcmp (known, "*") == 0)) {
        ef_buf_t none = {0};
        call_answer (call, 304, NULL, &none);
        return;
    }
    const char *type = file->type;
    if (strncmp (type, "text/html", 9) == 0) {
        s_put_policy (call, type);
        type = NULL;
    }
    if (s_takes (call_header (call, "Accept-Encoding"), "gzip")) {
        call_add_header (call, "Content-Encoding", "gzip");
        call_answer_static (call, 200, type, file->gzip, file->gzip_bytes);
    } else {
        call_answer_static (call, 200, type, file->plain, file->plain_bytes);
    }
}

static void
s_file (void *arg, call_t *call) {
    const char *path = call_path (call);
    const char *name = path[1] ? path + 1 : "index.html"; /* behind the slash */
    (void)arg;
    for (size_t i = 0; i < page_file_count; i++) {
        if (strcmp (page_files[i].name, name) == 0) {
            s_answer (call, &page_files[i]);
            return;
        }
    }
    problem_answer (call, "NOT_FOUND", NULL); /* a route that has no file: there is none */
}

void
page_routes (listener_t *listener) {
    static route_t rows[FILES_MAX + 1];
    static char paths[FILES_MAX][NAME_BYTES];
    /* Everybody may load the page; what it shows takes the role. */
    const route_t row = {"GET", "/", ROLE_NONE, false, ROUTE_QUICK, s_file, NULL};
    ef_assert (page_file_count <= FILES_MAX);
    rows[0] = row;
    for (size_t i = 0; i < page_file_count; i++) {
        snprintf (paths[i], NAME_BYTES, "/%s", page_files[i].name);
        rows[i + 1] = row;
        rows[i + 1].path = paths[i];
    }
    listener_routes (listener, rows, page_file_count + 1, NULL);
}
