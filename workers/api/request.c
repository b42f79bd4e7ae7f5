/* The HTTP request that an event makes: method, URL, headers, body. SPDX-License-Identifier: MIT */
#include "request.h"
#include "../field.h"
#include "url.h"

#include <stdio.h>
#include <stdarg.h>
#include <strings.h>

static const char *const s_methods[REQUEST_METHOD_COUNT] = {"GET",   "POST",   "PUT",
                                                            "PATCH", "DELETE", "HEAD"};

/* What an event says about its own request; absent spans have data NULL. */
typedef struct {
    ef_span_t url;
    ef_span_t method;
    ef_span_t headers;
    ef_span_t body;
} asked_t;

const char *
request_method_name (request_method_t method) {
    return s_methods[method];
}

void
request_free (request_t *self) {
    ef_buf_free (&self->url);
    ef_buf_free (&self->body);
    headers_free (&self->headers);
}

static int
EF_PRINTF (3, 4) s_fail (request_t *self, const char *code, const char *format, ...) {
    va_list arguments;
    va_start (arguments, format);
    snprintf (self->code, sizeof self->code, "%s", code);
    vsnprintf (self->why, sizeof self->why, format, arguments);
    va_end (arguments);
    return -1;
}

/* How much of a text that somebody else wrote goes into an error. */
static int
s_shown (ef_span_t text) {
    return (int)(text.size < 60 ? text.size : 60);
}

/* ---- Where to ---- */

/* Only a map with a url that is text asks for a request of its own. */
static asked_t
s_asked (ef_span_t payload) {
    asked_t asked = {0};
    ef_cursor_t cursor = ef_cursor (payload.data, payload.size);
    ef_span_t url;
    if (ef_peek (&cursor) != EF_TYPE_MAP || !field_get (payload, "url", &url)) {
        return asked;
    }
    cursor = ef_cursor (url.data, url.size);
    if (ef_get_str (&cursor, &asked.url)) {
        return (asked_t){0};
    }
    ef_span_t value;
    asked.method = field_get (payload, "method", &value) ? value : (ef_span_t){NULL, 0};
    asked.headers = field_get (payload, "headers", &value) ? value : (ef_span_t){NULL, 0};
    asked.body = field_get (payload, "body", &value) ? value : (ef_span_t){NULL, 0};
    return asked;
}

static int
s_method (request_t *self, ef_span_t value) {
    ef_span_t name = {"", 0};
    for (unsigned i = 0; field_as_text (value, &name) && i < REQUEST_METHOD_COUNT; i++) {
        if (headers_is_name (name, s_methods[i])) {
            self->method = (request_method_t)i;
            return 0;
        }
    }
    return s_fail (self, "BAD_METHOD",
                   "method \"%.*s\": expected GET, POST, PUT, PATCH, DELETE or HEAD",
                   s_shown (name), name.data);
}

static int
s_target (request_t *self, const request_rules_t *rules, const eventflow_delivery_t *delivery,
          const asked_t *asked) {
    self->is_from_event = asked->url.data != NULL;
    self->method = rules->method;
    ef_buf_clear (&self->url);
    if (self->is_from_event) {
        ef_buf_put (&self->url, asked->url.data, asked->url.size);
        if (asked->method.data && s_method (self, asked->method)) {
            return -1;
        }
    } else if (rules->url[0] == '\0') {
        return s_fail (self, "NO_URL",
                       "no url is configured, and the payload is no map with a url in it");
    } else if (url_fill (&self->url, rules->url, delivery, self->code, self->why)) {
        return -1;
    }
    for (size_t i = 0; i < self->url.size; i++) {
        if (self->url.data[i] <= ' ' || self->url.data[i] == 0x7f) {
            return s_fail (self, "BAD_URL", "the URL has spaces or control characters in it");
        }
    }
    if (self->url.size == 0 || self->url.size > REQUEST_URL_MAX) {
        return s_fail (self, "BAD_URL", "the URL has %zu bytes: expected 1 to %d", self->url.size,
                       REQUEST_URL_MAX);
    }
    ef_buf_put (&self->url, "", 1);
    return 0;
}

/* ---- Body, and what describes it ---- */

static bool
s_is (ef_span_t name, const char *text) {
    return text[0] && headers_is_name (name, text);
}

/* Headers that this program writes by itself. */
static bool
s_is_own (const request_rules_t *rules, ef_span_t name) {
    bool is_signature =
        rules->signature && (s_is (name, rules->timestamp) || s_is (name, rules->signed_with) ||
                             (rules->form == SIGNATURE_STANDARD && s_is (name, "webhook-id")));
    bool is_cloudevent =
        rules->mode >= BODY_BINARY && name.size > 3 && strncasecmp (name.data, "ce-", 3) == 0;
    return is_signature || is_cloudevent || s_is (name, rules->idempotency);
}

/* One header of an event's own map: 1, 0 at the end, -1: it is no header. Text is borrowed from the
   event, numbers are printed into `scratch`. */
static int
s_next (ef_cursor_t *cursor, uint32_t *left, ef_buf_t *scratch, ef_span_t pair[2]) {
    if (*left == 0) {
        return 0;
    }
    *left -= 1;
    pair[0] = (ef_span_t){"", 0};
    if (ef_get_str (cursor, &pair[0])) {
        return -1;
    }
    ef_type_t type = ef_peek (cursor);
    if (type == EF_TYPE_STR || type == EF_TYPE_BIN) {
        return ef_get_bytes (cursor, &pair[1]) ? -1 : 1;
    }
    const uint8_t *from = cursor->at;
    if (type == EF_TYPE_MAP || type == EF_TYPE_ARRAY || type == EF_TYPE_EXT ||
        type == EF_TYPE_NIL || ef_skip (cursor)) {
        return -1;
    }
    ef_buf_clear (scratch);
    ef_span_t value = {(const char *)from, (uint32_t)(cursor->at - from)};
    int rc = field_print (scratch, value);
    pair[1] = (ef_span_t){(const char *)scratch->data, (uint32_t)scratch->size};
    return rc ? -1 : 1;
}

/* Why an event can't have this header; NULL: it can. */
static const char *
s_refusal (const request_rules_t *rules, const request_t *self, const ef_span_t pair[2]) {
    return headers_has (&rules->headers, pair[0]) || s_is_own (rules, pair[0])
               ? "is set by the worker"
           : headers_has (&self->headers, pair[0]) && !s_is (pair[0], "Content-Type")
               ? "is there twice"
               : headers_refusal (pair[0], pair[1]);
}

/* Appends what the event asked for. Its Content-Type takes the place of the body's. */
static int
s_put_asked (request_t *self, const request_rules_t *rules, ef_span_t map, ef_buf_t *scratch) {
    ef_cursor_t cursor = ef_cursor (map.data, map.size);
    uint32_t left = 0;
    ef_span_t pair[2];
    int rc = map.data && ef_get_map (&cursor, &left) ? -1 : 0;
    if (rc || left > HEADERS_MAX) {
        return s_fail (self, "BAD_HEADER", "headers: expected a map of up to %u", HEADERS_MAX);
    }
    while ((rc = s_next (&cursor, &left, scratch, pair)) > 0) {
        const char *refusal = s_refusal (rules, self, pair);
        if (refusal) {
            return s_fail (self, "BAD_HEADER", "header %.*s %s", s_shown (pair[0]), pair[0].data,
                           refusal);
        }
        if (!s_is (pair[0], "Content-Type") && (!headers_add (&self->headers, pair[0], pair[1]) ||
                                                self->headers.text.size > HEADERS_TEXT_MAX)) {
            return s_fail (self, "BAD_HEADER", "headers: expected up to %u bytes of them",
                           HEADERS_TEXT_MAX);
        }
    }
    return rc == 0 ? 0
                   : s_fail (self, "BAD_HEADER",
                             "header %.*s: expected text or a number, by a name that is text",
                             s_shown (pair[0]), pair[0].data);
}

/* The event's own Content-Type; data NULL: it says none. */
static ef_span_t
s_asked_type (ef_span_t map, ef_buf_t *scratch) {
    ef_cursor_t cursor = ef_cursor (map.data, map.size);
    uint32_t left = 0;
    ef_span_t pair[2];
    if (map.data == NULL || ef_get_map (&cursor, &left)) {
        return (ef_span_t){NULL, 0};
    }
    while (s_next (&cursor, &left, scratch, pair) > 0) {
        if (s_is (pair[0], "Content-Type")) {
            return headers_refusal (pair[0], pair[1]) ? (ef_span_t){NULL, 0} : pair[1];
        }
    }
    return (ef_span_t){NULL, 0};
}

static int
s_describe (request_t *self, const request_rules_t *rules, const eventflow_delivery_t *delivery,
            const asked_t *asked, uint64_t now_ms) {
    ef_span_t payload = {delivery->payload.data, (uint32_t)delivery->payload.size};
    body_t body = {.mode = rules->mode,
                   .delivery = delivery,
                   .content = self->is_from_event ? asked->body : payload,
                   .is_own = self->is_from_event,
                   .source = rules->source,
                   .now_ms = now_ms};
    body.is_without = self->method == REQUEST_GET || self->method == REQUEST_HEAD ||
                      (self->method == REQUEST_DELETE && asked->body.data == NULL);
    if (asked->body.data && (self->method == REQUEST_GET || self->method == REQUEST_HEAD)) {
        return s_fail (self, "BAD_METHOD", "a %s has no body", s_methods[self->method]);
    }
    const char *content_type;
    if (body_write (&body, &self->body, &self->headers, &content_type)) {
        return s_fail (self, "BAD_EVENT", "the event can't be written as a body");
    }
    self->has_body = !body.is_without;
    if (content_type) {
        ef_buf_t scratch = {0};
        ef_span_t type = headers_span (content_type);
        if (rules->mode != BODY_STRUCTURED) {
            ef_span_t own = s_asked_type (asked->headers, &scratch);
            type = own.data                 ? own
                   : rules->content_type[0] ? headers_span (rules->content_type)
                                            : type;
        }
        (void)headers_add (&self->headers, headers_span ("Content-Type"), type); /* there is room */
        ef_buf_free (&scratch);
    }
    if (rules->idempotency[0]) {
        ef_span_t id = {delivery->id.data, (uint32_t)delivery->id.size};
        (void)headers_add_encoded (&self->headers, rules->idempotency, id);
    }
    return 0;
}

static void
s_sign (request_t *self, const request_rules_t *rules, ef_span_t id, uint64_t now_ms) {
    char text[SIGNATURE_TEXT_BYTES];
    char seconds[24];
    ef_buf_t encoded = {0};
    bool is_standard = rules->form == SIGNATURE_STANDARD;
    ef_span_t body = {(const char *)self->body.data, (uint32_t)self->body.size};
    if (is_standard) { /* what is signed is what the receiver sees */
        headers_encode (&encoded, id);
        id = (ef_span_t){(const char *)encoded.data, (uint32_t)encoded.size};
        (void)headers_add (&self->headers, headers_span ("webhook-id"), id);
    }
    snprintf (seconds, sizeof seconds, "%llu", (unsigned long long)(now_ms / 1000));
    signature_write (rules->signature, id, now_ms / 1000, body, text);
    (void)headers_add (&self->headers, headers_span (rules->timestamp), headers_span (seconds));
    (void)headers_add (&self->headers, headers_span (rules->signed_with), headers_span (text));
    ef_buf_free (&encoded);
}

int
request_build (request_t *self, const request_rules_t *rules, const eventflow_delivery_t *delivery,
               uint64_t now_ms) {
    ef_span_t payload = {delivery->payload.data, (uint32_t)delivery->payload.size};
    ef_span_t id = {delivery->id.data, (uint32_t)delivery->id.size};
    asked_t asked = {0};
    ef_buf_clear (&self->body);
    headers_clear (&self->headers);
    if (!rules->is_settings_only) {
        asked = s_asked (payload);
    }
    if (s_target (self, rules, delivery, &asked) ||
        s_describe (self, rules, delivery, &asked, now_ms)) {
        return -1;
    }
    self->describing = self->headers.count;
    ef_buf_t scratch = {0};
    int rc = s_put_asked (self, rules, asked.headers, &scratch);
    ef_buf_free (&scratch);
    if (rc) {
        return -1;
    }
    self->asked = self->headers.count;
    headers_append (&self->headers, &rules->headers);
    if (rules->signature) {
        s_sign (self, rules, id, now_ms);
    }
    return 0;
}

int
request_rule (request_rules_t *rules, ef_span_t line, char why[200]) {
    const char *colon = memchr (line.data, ':', line.size);
    if (colon == NULL) {
        snprintf (why, 200, "expected \"Name: value\"");
        return -1;
    }
    ef_span_t name = {line.data, (uint32_t)(colon - line.data)};
    ef_span_t value = {colon + 1, line.size - name.size - 1};
    for (; value.size > 0 && (*value.data == ' ' || *value.data == '\t'); value.size--) {
        value.data++;
    }
    const char *refusal = s_is_own (rules, name)                ? "is set by the worker"
                          : headers_has (&rules->headers, name) ? "is there twice"
                          : rules->headers.count == HEADERS_MAX ? "is one more than 64"
                                                                : headers_refusal (name, value);
    if (refusal) {
        snprintf (why, 200, "header %.*s %s", s_shown (name), name.data, refusal);
        return -1;
    }
    if (s_is (name, "Content-Type")) {
        ef_span_copy (value, rules->content_type, sizeof rules->content_type);
    } else {
        (void)headers_add (&rules->headers, name, value); /* there is room */
    }
    return 0;
}
