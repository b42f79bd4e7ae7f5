/* Finding the route of an event. SPDX-License-Identifier: MIT */
#include "route.h"
#include "../../proto/limits.h"
#include "pattern.h"

/* The headers that can fit, found once for all routes. */
typedef struct {
    struct {
        ef_span_t name;
        ef_span_t value; /* raw MessagePack */
    } items[EF_ROUTE_HEADERS_SEEN];
    uint32_t count;
} headers_t;

/* The event has been read, so its map is whole; what can't be read ends it all the same. */
static void
s_read_headers (ef_span_t map, headers_t *self) {
    ef_cursor_t cursor = ef_cursor (map.data, map.size);
    uint32_t count;
    self->count = 0;
    if (map.data == NULL || ef_get_map (&cursor, &count)) {
        return;
    }
    for (uint32_t i = 0; i < count && i < EF_ROUTE_HEADERS_SEEN; i++) {
        ef_span_t name = {0};
        if (ef_get_str (&cursor, &name) && ef_skip (&cursor)) {
            return;
        }
        ef_span_t value = {(const char *)cursor.at, 0};
        if (ef_skip (&cursor)) {
            return;
        }
        value.size = (uint32_t)((const char *)cursor.at - value.data);
        if (name.data && value.size <= EF_ROUTE_TEXT_MAX) {
            self->items[self->count].name = name;
            self->items[self->count++].value = value;
        }
    }
}

static bool
s_has_header (const headers_t *headers, const char *name, const char *pattern) {
    for (uint32_t i = 0; i < headers->count; i++) {
        if (ef_span_is (headers->items[i].name, name) &&
            ef_pattern_matches_value (pattern, headers->items[i].value)) {
            return true;
        }
    }
    return false;
}

static bool
s_fits (const ef_route_t *route, ef_span_t type, const headers_t *headers) {
    if (route->type[0] != 0 && (type.data == NULL || type.size > EF_ROUTE_TEXT_MAX ||
                                !ef_pattern_matches (route->type, type.data, type.size))) {
        return false;
    }
    for (uint32_t i = 0; i < route->header_count; i++) {
        if (!s_has_header (headers, route->headers[i].name, route->headers[i].pattern)) {
            return false;
        }
    }
    return true;
}

const ef_route_t *
ef_route_find (const ef_route_t *routes, uint32_t count, const ef_event_t *event) {
    headers_t headers;
    s_read_headers (event->headers, &headers);
    for (uint32_t i = 0; i < count; i++) {
        if (s_fits (&routes[i], event->type, &headers)) {
            return &routes[i];
        }
    }
    return NULL;
}
