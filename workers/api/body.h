/* The body that an event is sent as, and the headers that describe it. SPDX-License-Identifier: MIT

   Appends to buffers of the caller. What it says depends on the event and the settings alone, so a
   repeat says the same. */
#ifndef EF_BODY_H
#define EF_BODY_H

#include "../../clients/c/eventflow.h"
#include "headers.h"

#define BODY_MODES "payload|event|cloudevents_binary|cloudevents_structured"
typedef enum {
    BODY_PAYLOAD, /* as JSON */
    BODY_EVENT,   /* the whole event as JSON */
    BODY_BINARY,  /* CloudEvents */
    BODY_STRUCTURED
} body_mode_t;

typedef struct {
    body_mode_t mode;
    const eventflow_delivery_t *delivery;
    ef_span_t content;  /* the value to send; data NULL: none */
    bool is_own;        /* the event's own `body`: in BODY_PAYLOAD text and bytes go as they are */
    bool is_without;    /* the method has no body: attributes of a CloudEvent only */
    const char *source; /* of CloudEvents; empty: eventflow/ and the topic */
    uint64_t now_ms;    /* wall clock, for an event whose time nobody knows */
} body_t;

/* `*content_type`: static, NULL where there is nothing to send. 0, or -1: it can't be written. */
EF_MUST_USE int body_write (const body_t *self, ef_buf_t *body, headers_t *headers,
                            const char **content_type);

#endif
