/* The HTTP request that an event makes: method, URL, headers, body. SPDX-License-Identifier: MIT

   Role: pure; from a delivery and the configured rules to bytes, or to the reason why that can't
   be (a permanent error: the same event makes the same request each time).
   Owns: its buffers, which are used again for the next event.
   Invariants: the headers come in three groups. What describes the event goes wherever the request
   goes; what the event itself asked for (perhaps credentials) goes to the host that it named; what
   is configured, and the signature, goes to the configured host. */
#ifndef EF_REQUEST_H
#define EF_REQUEST_H

#include "body.h"
#include "signature.h"

#define REQUEST_URL_MAX 8000 /* bytes; servers take 8 KiB as a rule */

#define REQUEST_METHODS "GET|POST|PUT|PATCH|DELETE|HEAD"
typedef enum {
    REQUEST_GET,
    REQUEST_POST,
    REQUEST_PUT,
    REQUEST_PATCH,
    REQUEST_DELETE,
    REQUEST_HEAD,
    REQUEST_METHOD_COUNT
} request_method_t;
const char *request_method_name (request_method_t method);

/* What is configured; strings are borrowed, empty ones mean none. */
typedef struct {
    bool is_settings_only;   /* a payload's own url counts for nothing */
    const char *url;         /* with {{field}} */
    request_method_t method; /* where the event names none */
    body_mode_t mode;
    const char *source;      /* of CloudEvents; empty: eventflow/ and the topic */
    const char *idempotency; /* header that bears the id */
    const char *timestamp;   /* header with the time of the signature */
    const char *signed_with; /* header with the signature */
    signature_form_t form;
    signature_t *signature; /* borrowed; NULL: not signed */
    char content_type[200]; /* of bodies, instead of what their mode says; not of structured ones */
    headers_t headers;
} request_rules_t;

typedef struct {
    bool is_from_event; /* its own url; else the configured one */
    request_method_t method;
    ef_buf_t url; /* ended by a NUL */
    bool has_body;
    ef_buf_t body;
    headers_t headers;
    uint32_t describing; /* headers of the first group */
    uint32_t asked;      /* of the first and the second */
    char code[24];       /* of what went wrong */
    char why[300];
} request_t;

void request_free (request_t *self);

/* 0, or -1: `code` and `why` say what is wrong with the event. `now_ms` is the wall clock. */
EF_MUST_USE int request_build (request_t *self, const request_rules_t *rules,
                               const eventflow_delivery_t *delivery, uint64_t now_ms);

/* Adds "Name: value" to the configured headers. 0, or -1 and `why`. */
EF_MUST_USE int request_rule (request_rules_t *rules, ef_span_t line, char why[200]);

#endif
