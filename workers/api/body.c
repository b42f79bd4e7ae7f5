/* The body that an event is sent as, and the headers that describe it. SPDX-License-Identifier: MIT
 */
#include "body.h"
#include "../../proto/event.h"
#include "../../proto/json.h"
#include "../../proto/limits.h"
#include "cloudevents.h"
#include "../field.h"

static const char s_json[] = "application/json";

/* What of meta matters here. */
typedef struct {
    int64_t time_ms; /* negative: not said */
    ef_span_t traceparent;
    ef_span_t tracestate;
} meta_t;

static ef_span_t
s_span (eventflow_bytes_t bytes) {
    return (ef_span_t){bytes.data, (uint32_t)bytes.size};
}

/* W3C's: version-trace-parent-flags, of hex digits; meta.trace may be something else. */
static bool
s_is_traceparent (ef_span_t text) {
    for (uint32_t i = 0; i < text.size; i++) {
        bool is_dash = i == 2 || i == 35 || i == 52;
        char c = text.data[i];
        if (is_dash ? c != '-' : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            return false;
        }
    }
    return text.size == 55;
}

/* The text of a field that is str; data NULL: it isn't there. */
static ef_span_t
s_text (ef_span_t map, const char *key) {
    ef_span_t value;
    ef_span_t text;
    return map.data && field_get (map, key, &value) && field_as_text (value, &text)
               ? text
               : (ef_span_t){NULL, 0};
}

static meta_t
s_read_meta (ef_span_t bytes) {
    meta_t meta = {.time_ms = -1};
    ef_span_t value;
    if (bytes.size == 0) {
        return meta;
    }
    if (field_get (bytes, "time", &value)) {
        ef_cursor_t cursor = ef_cursor (value.data, value.size);
        meta.time_ms = ef_get_int (&cursor, &meta.time_ms) ? -1 : meta.time_ms;
    }
    ef_span_t headers = field_get (bytes, "headers", &value) ? value : (ef_span_t){NULL, 0};
    ef_span_t parent = s_text (headers, "traceparent");
    if (s_is_traceparent (parent)) {
        meta.traceparent = parent;
        meta.tracestate = s_text (headers, "tracestate");
    } else {
        ef_span_t trace = s_text (bytes, "trace");
        meta.traceparent = s_is_traceparent (trace) ? trace : meta.traceparent;
    }
    return meta;
}

static uint64_t
s_time_ms (const body_t *self, const meta_t *meta) {
    return meta->time_ms >= 0            ? (uint64_t)meta->time_ms
           : self->delivery->accepted_ms ? self->delivery->accepted_ms
                                         : self->now_ms;
}

static int
s_put_event (const body_t *self, ef_buf_t *body) {
    const eventflow_delivery_t *delivery = self->delivery;
    ef_event_t event;
    const char *why;
    ef_json_extra_t extra = {.accepted_ms =
                                 delivery->accepted_ms ? delivery->accepted_ms : self->now_ms,
                             .attempts = delivery->attempt - 1,
                             .errors = s_span (delivery->errors)};
    ef_cursor_t cursor = ef_cursor (delivery->event.data, delivery->event.size);
    return ef_event_read (&cursor, &event, &why) == EF_OK ? ef_json_event (body, &event, &extra)
                                                          : -1;
}

/* A body of the event's own: text and bytes as they are. */
static int
s_put_own (ef_span_t value, ef_buf_t *body, const char **content_type) {
    ef_cursor_t cursor = ef_cursor (value.data, value.size);
    ef_type_t type = ef_peek (&cursor);
    ef_span_t bytes;
    if (type != EF_TYPE_STR && type != EF_TYPE_BIN) {
        return ef_json_print (body, &cursor);
    }
    *content_type = type == EF_TYPE_STR ? "text/plain; charset=utf-8" : "application/octet-stream";
    if (ef_get_bytes (&cursor, &bytes)) {
        return -1;
    }
    ef_buf_put (body, bytes.data, bytes.size);
    return 0;
}

static int
s_put_cloudevent (const body_t *self, const meta_t *meta, ef_buf_t *body, headers_t *headers,
                  const char **content_type) {
    const eventflow_delivery_t *delivery = self->delivery;
    char named[16 + EF_TOPIC_MAX] = "eventflow/";
    ef_span_t topic = s_span (delivery->topic);
    ef_span_copy (topic, named + strlen (named), sizeof named - strlen (named));
    cloudevents_t event = {.id = s_span (delivery->id),
                           .source = headers_span (self->source[0] ? self->source : named),
                           .type = s_span (delivery->type),
                           .key = s_span (delivery->key),
                           .traceparent = meta->traceparent,
                           .tracestate = meta->tracestate,
                           .time_ms = s_time_ms (self, meta),
                           .data = self->is_without ? (ef_span_t){NULL, 0} : self->content};
    if (self->mode == BODY_BINARY || self->is_without) {
        return cloudevents_binary (&event, headers, body, content_type);
    }
    *content_type = CLOUDEVENTS_STRUCTURED;
    return cloudevents_structured (&event, body);
}

int
body_write (const body_t *self, ef_buf_t *body, headers_t *headers, const char **content_type) {
    meta_t meta = s_read_meta (s_span (self->delivery->meta));
    if (meta.traceparent.data) {
        (void)headers_add (headers, headers_span ("traceparent"), meta.traceparent); /* the first */
        if (meta.tracestate.size > 0) {
            (void)headers_add_encoded (headers, "tracestate", meta.tracestate);
        }
    }
    *content_type = NULL;
    if (self->mode >= BODY_BINARY) {
        return s_put_cloudevent (self, &meta, body, headers, content_type);
    }
    if (self->is_without || (self->mode == BODY_PAYLOAD && self->content.data == NULL)) {
        return 0;
    }
    *content_type = s_json;
    if (self->mode == BODY_EVENT) {
        return s_put_event (self, body);
    }
    if (self->is_own) {
        return s_put_own (self->content, body, content_type);
    }
    ef_cursor_t cursor = ef_cursor (self->content.data, self->content.size);
    return ef_json_print (body, &cursor);
}
