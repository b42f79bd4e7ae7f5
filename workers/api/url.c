/* URLs with fields of a payload in them. SPDX-License-Identifier: MIT */
#include "url.h"
#include "../field.h"

#include <stdio.h>
#include <strings.h>

const char *
url_refusal (const char *pattern) {
    const char *host = strncasecmp (pattern, "http://", 7) == 0    ? pattern + 7
                       : strncasecmp (pattern, "https://", 8) == 0 ? pattern + 8
                                                                   : NULL;
    if (host == NULL) {
        return "expected http:// or https://";
    }
    size_t size = strcspn (host, "/?#");
    if (size == 0) {
        return "expected a host";
    }
    if (memchr (host, '{', size)) {
        return "a field can't be a part of the host";
    }
    for (const char *at = host; (at = strstr (at, "{{")) != NULL; at += 2) {
        const char *end = strstr (at, "}}");
        if (end == NULL || strspn (at + 2, " ") == (size_t)(end - at - 2)) {
            return "expected {{field}}";
        }
    }
    return NULL;
}

/* Appends all but the unreserved characters of RFC 3986 as %XX. */
static void
s_encode (ef_buf_t *out, ef_span_t text) {
    static const char digits[] = "0123456789ABCDEF";
    for (uint32_t i = 0; i < text.size; i++) {
        unsigned char c = (unsigned char)text.data[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c >= '0' && c <= '9') || (c && strchr ("-._~", c));
        char code[3] = {'%', digits[c >> 4], digits[c & 15]};
        ef_buf_put (out, is_plain ? (const char *)&c : code, is_plain ? 1 : 3);
    }
}

/* The text of a place; false: there is none. Numbers are printed into `scratch`. */
static bool
s_value (const eventflow_delivery_t *delivery, ef_span_t name, ef_buf_t *scratch, ef_span_t *text) {
    const eventflow_bytes_t *own = ef_span_is (name, "event.id")      ? &delivery->id
                                   : ef_span_is (name, "event.topic") ? &delivery->topic
                                   : ef_span_is (name, "event.type")  ? &delivery->type
                                                                      : NULL;
    ef_span_t payload = {delivery->payload.data, (uint32_t)delivery->payload.size};
    ef_span_t value;
    if (own) {
        *text = (ef_span_t){own->data, (uint32_t)own->size};
        return own->size > 0;
    }
    if (!field_find (payload, name.data, name.size, &value)) {
        return false;
    }
    ef_cursor_t cursor = ef_cursor (value.data, value.size);
    ef_type_t type = ef_peek (&cursor);
    ef_buf_clear (scratch);
    if (type == EF_TYPE_MAP || type == EF_TYPE_ARRAY || type == EF_TYPE_EXT ||
        field_print (scratch, value)) {
        return false;
    }
    *text = (ef_span_t){(const char *)scratch->data, (uint32_t)scratch->size};
    return text->size > 0;
}

static int
s_fill_place (ef_buf_t *out, ef_span_t name, const eventflow_delivery_t *delivery, char code[24],
              char why[300]) {
    ef_buf_t scratch = {0};
    ef_span_t text = {NULL, 0};
    const char *fault = NULL;
    if (!s_value (delivery, name, &scratch, &text)) {
        snprintf (code, 24, "MISSING_FIELD");
        fault = "is missing, empty, or neither text nor a number";
    } else if (ef_span_is (text, ".") || ef_span_is (text, "..")) {
        snprintf (code, 24, "BAD_URL");
        fault = "is only dots: it would leave its place in the path";
    } else {
        s_encode (out, text);
    }
    if (fault) {
        snprintf (why, 300, "the URL's field %.*s %s", (int)(name.size < 100 ? name.size : 100),
                  name.data, fault);
    }
    ef_buf_free (&scratch);
    return fault ? -1 : 0;
}

int
url_fill (ef_buf_t *out, const char *pattern, const eventflow_delivery_t *delivery, char code[24],
          char why[300]) {
    const char *at = pattern;
    const char *open;
    while ((open = strstr (at, "{{")) != NULL) {
        const char *close = strstr (open, "}}");
        if (close == NULL) {
            break; /* url_refusal has seen to it */
        }
        ef_span_t name = {open + 2, (uint32_t)(close - open - 2)};
        for (; name.size > 0 && name.data[0] == ' '; name.size--) {
            name.data++;
        }
        while (name.size > 0 && name.data[name.size - 1] == ' ') {
            name.size--;
        }
        ef_buf_put (out, at, (size_t)(open - at));
        if (s_fill_place (out, name, delivery, code, why)) {
            return -1;
        }
        at = close + 2;
    }
    ef_buf_put (out, at, strlen (at));
    return 0;
}
