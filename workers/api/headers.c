/* HTTP headers: what may be one, and lists of them as libcurl takes them.
   SPDX-License-Identifier: MIT */
#include "headers.h"

#include <strings.h>

void
headers_free (headers_t *self) {
    ef_buf_free (&self->text);
    self->count = 0;
}

void
headers_clear (headers_t *self) {
    ef_buf_clear (&self->text);
    self->count = 0;
    self->count = 0;
}

bool
headers_is_name (ef_span_t name, const char *text) {
    return name.size == strlen (text) && strncasecmp (name.data, text, name.size) == 0;
}

/* RFC 9110, 5.6.2: a token. */
static bool
s_is_token (ef_span_t name) {
    for (uint32_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_letter && (c == '\0' || strchr ("!#$%&'*+-.^_`|~", c) == NULL)) {
            return false;
        }
    }
    return name.size > 0;
}

const char *
headers_refusal (ef_span_t name, ef_span_t value) {
    /* Of the connection, or of the message's frame: another value would let one request hide
       another one in it. */
    static const char *const own[] = {
        "Host",    "Connection",        "Keep-Alive", "Proxy-Connection", "Content-Length", "TE",
        "Trailer", "Transfer-Encoding", "Upgrade",    "Expect",           "HTTP2-Settings"};
    if (!s_is_token (name)) {
        return "isn't a header's name";
    }
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        if (headers_is_name (name, own[i])) {
            return "is set by the connection";
        }
    }
    if (name.size > 6 && strncasecmp (name.data, "Proxy-", 6) == 0) {
        return "is for proxies";
    }
    for (uint32_t i = 0; i < value.size; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) {
            return "has control characters in its value";
        }
    }
    return NULL;
}

/* An empty value: libcurl takes "Name:" for a header to leave out and "Name;" for an empty one. */
static bool
s_begin (headers_t *self, ef_span_t name, bool is_empty) {
    if (self->count == HEADERS_LIST_MAX) {
        return false;
    }
    self->starts[self->count++] = (uint32_t)self->text.size;
    ef_buf_put (&self->text, name.data, name.size);
    ef_buf_put (&self->text, is_empty ? ";" : ": ", is_empty ? 1 : 2);
    return true;
}

static bool
s_is_blank (char c) {
    return c == ' ' || c == '\t';
}

bool
headers_add (headers_t *self, ef_span_t name, ef_span_t value) {
    while (value.size > 0 && s_is_blank (value.data[0])) {
        value.data++;
        value.size--;
    }
    while (value.size > 0 && s_is_blank (value.data[value.size - 1])) {
        value.size--;
    }
    if (!s_begin (self, name, value.size == 0)) {
        return false;
    }
    ef_buf_put (&self->text, value.data, value.size);
    ef_buf_put (&self->text, "", 1);
    return true;
}

void
headers_encode (ef_buf_t *out, ef_span_t value) {
    static const char digits[] = "0123456789ABCDEF";
    for (uint32_t i = 0; i < value.size; i++) {
        unsigned char c = (unsigned char)value.data[i];
        if (c > ' ' && c < 0x7f && c != '"' && c != '%') {
            ef_buf_put (out, &c, 1);
        } else {
            char code[3] = {'%', digits[c >> 4], digits[c & 15]};
            ef_buf_put (out, code, 3);
        }
    }
}

bool
headers_add_encoded (headers_t *self, const char *name, ef_span_t value) {
    if (!s_begin (self, headers_span (name), value.size == 0)) {
        return false;
    }
    headers_encode (&self->text, value);
    ef_buf_put (&self->text, "", 1);
    return true;
}

void
headers_append (headers_t *self, const headers_t *other) {
    uint32_t from = (uint32_t)self->text.size;
    for (uint32_t i = 0; i < other->count && self->count < HEADERS_LIST_MAX; i++) {
        self->starts[self->count++] = from + other->starts[i];
    }
    ef_buf_put (&self->text, other->text.data, other->text.size);
}

bool
headers_has (const headers_t *self, ef_span_t name) {
    for (uint32_t i = 0; i < self->count; i++) {
        const char *text = (const char *)self->text.data + self->starts[i];
        if (strncasecmp (text, name.data, name.size) == 0 &&
            (text[name.size] == ':' || text[name.size] == ';')) {
            return true;
        }
    }
    return false;
}

struct curl_slist *
headers_list (headers_t *self, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        self->nodes[i].data = (char *)self->text.data + self->starts[i];
        self->nodes[i].next = i + 1 < count ? &self->nodes[i + 1] : NULL;
    }
    return count > 0 ? self->nodes : NULL;
}
