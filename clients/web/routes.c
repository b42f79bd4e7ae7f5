/* Which route a path is. SPDX-License-Identifier: MIT

   A table is looked through row by row: there are few, and those that are called most stand first.
   Literal parts of a path are compared as they come; only {parts} are decoded. */
#include "server_private.h"

#include <stdio.h>
#include <strings.h>

/* Behind scheme and host, where there are any. */
static const char *
s_local (const char *url) {
    if (strncasecmp (url, "http://", 7) == 0 || strncasecmp (url, "https://", 8) == 0) {
        url = strchr (strstr (url, "//") + 2, '/');
        url = url ? url : "/";
    }
    return url;
}

bool
routes_is_base (const server_t *server, const char *url) {
    const char *base = server->options->base_path;
    return base[0] && strcmp (s_local (url), base) == 0;
}

const char *
routes_path (const server_t *server, const char *url) {
    url = s_local (url);
    size_t size = strlen (server->options->base_path);
    if (size > 0 && strncmp (url, server->options->base_path, size) == 0 &&
        (url[size] == '/' || url[size] == 0)) {
        url = url[size] ? url + size : "/";
    }
    for (const char *at = url; *at; at++) {
        if ((uint8_t)*at <= ' ' || *at == 0x7f) {
            return NULL;
        }
    }
    return url[0] == '/' ? url : NULL;
}

/* Does a route's path fit? Fills the raw parts. */
static bool
s_fits (const char *pattern, const char *path, ef_span_t parts[WEB_PARTS_MAX], unsigned *count) {
    *count = 0;
    while (*pattern) {
        if (*pattern != '{') {
            if (*pattern++ != *path++) {
                return false;
            }
            continue;
        }
        const char *end = strchr (pattern, '}');
        ef_assert (end != NULL && *count < WEB_PARTS_MAX);
        size_t size = end[-1] == '*' ? strlen (path) : strcspn (path, "/");
        if (size == 0) {
            return false;
        }
        parts[(*count)++] = (ef_span_t){path, (uint32_t)size};
        path += size;
        pattern = end + 1;
    }
    return *path == 0;
}

static bool
s_takes (const route_t *route, const char *method) {
    return strcmp (route->method, method) == 0 ||
           (strcmp (method, "HEAD") == 0 && strcmp (route->method, "GET") == 0);
}

static int
s_take (call_t *call, const route_t *route, const ef_span_t *parts, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        call->parts[i] = strict_decode (call, parts[i].data, parts[i].size);
        if (call->parts[i] == NULL) {
            return 400;
        }
    }
    /* The call may outlive its connection: the path becomes its own. Without parts it is the
       route's, letter by letter. */
    call->path = count == 0 ? route->path : call_keep (call, call->path, strlen (call->path));
    call->part_count = count;
    call->route = route;
    return 0;
}

int
routes_find (call_t *call, char allow[100]) {
    const listener_t *listener = call->listener;
    size_t used = 0;
    allow[0] = 0;
    for (unsigned t = 0; t < listener->table_count; t++) {
        for (size_t i = 0; i < listener->tables[t].count; i++) {
            const route_t *route = &listener->tables[t].rows[i];
            ef_span_t parts[WEB_PARTS_MAX];
            unsigned count;
            if (!s_fits (route->path, call->path, parts, &count)) {
                continue;
            }
            if (s_takes (route, call->method)) {
                call->arg = listener->tables[t].arg;
                return s_take (call, route, parts, count);
            }
            if (strstr (allow, route->method) == NULL && used + 12 < 100) {
                used += (size_t)snprintf (allow + used, 100 - used, "%s%s", used ? ", " : "",
                                          route->method);
            }
        }
    }
    return used ? 405 : 404;
}
