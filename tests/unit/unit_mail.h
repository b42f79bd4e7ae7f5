/* Events for tests of mail, written as JSON. SPDX-License-Identifier: MIT */
#ifndef EF_UNIT_MAIL_H
#define EF_UNIT_MAIL_H

#include "unit.h"

#include "../../proto/json.h"
#include "../../workers/template.h"

/* The MessagePack of a JSON text; owned by `out`. */
static inline ef_span_t
packed (ef_buf_t *out, const char *json) {
    const char *why = NULL;
    ef_buf_clear (out);
    assert_int_equal (ef_json_parse (out, json, strlen (json), &why), strlen (json));
    return (ef_span_t){(char *)out->data, (uint32_t)out->size};
}

static inline ef_span_t
span (const char *text) {
    return (ef_span_t){text, (uint32_t)strlen (text)};
}

static inline void
assert_text (const ef_buf_t *out, const char *text) {
    assert_int_equal (out->size, strlen (text));
    assert_memory_equal (out->data, text, out->size);
}

static inline bool
has_text (const ef_buf_t *out, const char *text) {
    return memmem (out->data, out->size, text, strlen (text)) != NULL;
}

#endif
