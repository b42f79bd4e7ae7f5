/* Events as CloudEvents 1.0 over HTTP. SPDX-License-Identifier: MIT

   Binary mode: the attributes are headers ce-*, the data is the body. Structured mode: one JSON
   object with both. Attributes are text: what isn't UTF-8 or has control characters (an id may be
   any bytes) is percent-encoded first, alike in both modes. */
#ifndef EF_CLOUDEVENTS_H
#define EF_CLOUDEVENTS_H

#include "headers.h"

#define CLOUDEVENTS_TYPE       "eventflow.event" /* of an event that has none */
#define CLOUDEVENTS_STRUCTURED "application/cloudevents+json"

/* Spans with data NULL are absent. */
typedef struct {
    ef_span_t id;
    ef_span_t source;
    ef_span_t type;
    ef_span_t key; /* becomes partitionkey, by which other brokers keep order */
    ef_span_t traceparent;
    ef_span_t tracestate;
    uint64_t time_ms; /* since 1970 */
    ef_span_t data;   /* one MessagePack value; nil counts as none */
} cloudevents_t;

/* Appends ce-* headers and the data as the body: bin as it is, everything else as JSON.
   `*content_type` says which (static), NULL: no data. 0, or -1: the data can't be read. */
EF_MUST_USE int cloudevents_binary (const cloudevents_t *self, headers_t *headers, ef_buf_t *body,
                                    const char **content_type);

/* Appends the JSON object; bin becomes data_base64. 0 or -1. */
EF_MUST_USE int cloudevents_structured (const cloudevents_t *self, ef_buf_t *body);

#endif
