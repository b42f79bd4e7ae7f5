/* Events as CloudEvents 1.0 over HTTP. SPDX-License-Identifier: MIT
   Sources: github.com/cloudevents/spec, v1.0.2: spec.md, http-protocol-binding.md, json-format.md,
   extensions/partitioning.md, extensions/distributed-tracing.md. */
#include "cloudevents.h"
#include "../../proto/json.h"

static const char s_json[] = "application/json";
static const char s_bytes[] = "application/octet-stream";

/* An attribute's text, either borrowed from `value` or encoded into `scratch`. */
static ef_span_t
s_text (ef_span_t value, ef_buf_t *scratch) {
    bool is_text = ef_utf8_is_valid (value.data, value.size);
    for (uint32_t i = 0; i < value.size && is_text; i++) {
        unsigned char c = (unsigned char)value.data[i];
        is_text = c >= ' ' && c != 0x7f;
    }
    if (is_text) {
        return value;
    }
    ef_buf_clear (scratch);
    headers_encode (scratch, value);
    return (ef_span_t){(const char *)scratch->data, (uint32_t)scratch->size};
}

typedef struct {
    const char *name; /* as a header; an attribute's name stands behind "ce-" */
    ef_span_t value;
} attribute_t;

#define ATTRIBUTES 8

/* The attributes that there are, the required ones first. */
static unsigned
s_attributes (const cloudevents_t *self, char time[25], attribute_t list[ATTRIBUTES]) {
    ef_rfc3339 (self->time_ms, time);
    const attribute_t all[ATTRIBUTES] = {
        {"ce-specversion", headers_span ("1.0")},
        {"ce-id", self->id},
        {"ce-source", self->source},
        {"ce-type", self->type.size > 0 ? self->type : headers_span (CLOUDEVENTS_TYPE)},
        {"ce-time", {time, 24}},
        {"ce-partitionkey", self->key},
        {"ce-traceparent", self->traceparent},
        {"ce-tracestate", self->tracestate}};
    unsigned count = 0;
    for (unsigned i = 0; i < ATTRIBUTES; i++) {
        if (all[i].value.size > 0) { /* an attribute must not be empty */
            list[count++] = all[i];
        }
    }
    return count;
}

static ef_type_t
s_data_type (const cloudevents_t *self) {
    ef_cursor_t cursor = ef_cursor (self->data.data, self->data.size);
    ef_type_t type = ef_peek (&cursor);
    return type == EF_TYPE_NIL ? EF_TYPE_NONE : type;
}

int
cloudevents_binary (const cloudevents_t *self, headers_t *headers, ef_buf_t *body,
                    const char **content_type) {
    attribute_t list[ATTRIBUTES];
    char time[25];
    ef_buf_t scratch = {0};
    unsigned count = s_attributes (self, time, list);
    bool fits = true;
    for (unsigned i = 0; i < count; i++) {
        fits =
            headers_add_encoded (headers, list[i].name, s_text (list[i].value, &scratch)) && fits;
    }
    ef_buf_free (&scratch);
    ef_type_t type = s_data_type (self);
    ef_cursor_t cursor = ef_cursor (self->data.data, self->data.size);
    ef_span_t bytes;
    *content_type = type == EF_TYPE_NONE ? NULL : type == EF_TYPE_BIN ? s_bytes : s_json;
    if (type == EF_TYPE_BIN) {
        int rc = ef_get_bytes (&cursor, &bytes);
        if (rc == 0) {
            ef_buf_put (body, bytes.data, bytes.size);
        }
        return rc || !fits ? -1 : 0;
    }
    return (type != EF_TYPE_NONE && ef_json_print (body, &cursor)) || !fits ? -1 : 0;
}

static void
s_put (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

int
cloudevents_structured (const cloudevents_t *self, ef_buf_t *body) {
    attribute_t list[ATTRIBUTES];
    char time[25];
    ef_buf_t scratch = {0};
    unsigned count = s_attributes (self, time, list);
    for (unsigned i = 0; i < count; i++) {
        ef_span_t value = s_text (list[i].value, &scratch);
        s_put (body, i == 0 ? "{\"" : ",\"");
        s_put (body, list[i].name + 3);
        s_put (body, "\":");
        ef_json_string (body, value.data, value.size);
    }
    ef_buf_free (&scratch);
    ef_type_t type = s_data_type (self);
    ef_cursor_t cursor = ef_cursor (self->data.data, self->data.size);
    int rc = 0;
    if (type != EF_TYPE_NONE) {
        s_put (body, ",\"datacontenttype\":\"");
        s_put (body, type == EF_TYPE_BIN ? s_bytes : s_json);
    }
    if (type == EF_TYPE_BIN) {
        ef_span_t bytes = {0};
        rc = ef_get_bytes (&cursor, &bytes);
        s_put (body, "\",\"data_base64\":\"");
        ef_base64_encode (body, bytes.data, bytes.size);
        s_put (body, "\"");
    } else if (type != EF_TYPE_NONE) {
        s_put (body, "\",\"data\":");
        rc = ef_json_print (body, &cursor);
    }
    s_put (body, "}");
    return rc;
}
