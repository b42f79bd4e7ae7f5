/* Feeds bytes to all that reads what HTTP clients and operators send. SPDX-License-Identifier: MIT

   The first byte says what the rest is: a body in one of its forms, a schema and a payload, a file
   of tokens. What was taken must be well-formed events. */
#include "../../clients/gateway/intake.h"
#include "../../clients/web/tokens.h"
#include "../../proto/json.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

/* Every good slot is one event, with an id, and can be printed. */
static void
s_judge (const batch_t *batch) {
    uint32_t refused = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        const slot_t *slot = &batch->slots[i];
        ef_event_t event;
        const char *why;
        refused += slot->code != NULL;
        ef_assert ((slot->bytes == 0) == (slot->code != NULL));
        if (slot->bytes > 0) {
            ef_cursor_t cursor = ef_cursor (batch->events.data + slot->at, slot->bytes);
            ef_assert (ef_event_read (&cursor, &event, &why) == EF_OK);
            ef_assert (ef_cursor_left (&cursor) == 0 && event.id.size > 0);
            ef_assert (batch_id (batch, slot).size == event.id.size);
            ef_buf_t text = {0};
            const ef_json_extra_t extra = {.attempts = 0};
            ef_assert (ef_json_event (&text, &event, &extra) == 0);
            ef_assert (ef_utf8_is_valid ((const char *)text.data, text.size));
            ef_buf_free (&text);
        }
    }
    ef_assert (refused == batch->refused);
}

static const char s_schema[] =
    "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"enum\":[1,\"x\",[2]]},"
    "\"b\":{\"items\":{\"minimum\":3,\"maxLength\":2}}},\"additionalProperties\":{\"type\":"
    "\"string\"},\"maxProperties\":3}";

static void
s_intake (intake_form_t form, const char *body, size_t size) {
    char why[ITEM_WHY_BYTES];
    batch_t batch;
    ef_span_t names[8];
    ef_span_t values[8];
    intake_t how = {.form = form, .media = size % 3 ? "application/json" : "text/plain"};
    if (form == INTAKE_CLOUD_BINARY) { /* lines of attributes, an empty one, then the data */
        while (size > 0 && how.attributes < 8) {
            const char *end = memchr (body, '\n', size);
            size_t length = end ? (size_t)(end - body) : size;
            const char *colon = memchr (body, ':', length);
            if (colon == NULL) {
                break;
            }
            names[how.attributes] = (ef_span_t){body, (uint32_t)(colon - body)};
            values[how.attributes++] =
                (ef_span_t){colon + 1, (uint32_t)(length - (size_t)(colon + 1 - body))};
            body += length + (end != NULL);
            size -= length + (end != NULL);
        }
        how.names = names;
        how.values = values;
    }
    if (intake_read (&batch, &how, body, size, why) == NULL) {
        s_judge (&batch);
        batch_free (&batch);
    }
    ef_assert (memchr (why, 0, sizeof why) != NULL);
}

/* A schema, a NUL, and a payload in JSON; or the fixed one. */
static void
s_check_schema (const char *text, size_t size) {
    char error[512] = "";
    char pointer[200];
    char why[200];
    const char *expected;
    const char *mark = memchr (text, 0, size);
    size_t length = mark ? (size_t)(mark - text) : 0;
    schema_t *schema =
        mark ? schema_new (text, length, error) : schema_new (s_schema, sizeof s_schema - 1, error);
    const char *payload = mark ? mark + 1 : text;
    ef_buf_t value = {0};
    if (schema && ef_json_parse (&value, payload, size - (size_t)(payload - text), &expected)) {
        bool fits = schema_fits (schema, ef_cursor (value.data, value.size), pointer, why);
        ef_assert (strlen (pointer) < 200 && (fits || why[0] != 0));
    }
    ef_buf_free (&value);
    schema_destroy (&schema);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size) {
    if (size == 0) {
        return 0;
    }
    /* A copy without anything behind it, so that a byte too many is seen. */
    size_t left = size - 1;
    char *text = malloc (left ? left : 1);
    ef_assert (text != NULL);
    memcpy (text, data + 1, left);
    if (data[0] % 8 < 6) {
        s_intake ((intake_form_t)(data[0] % 8), text, left);
    } else if (data[0] % 8 == 6) {
        s_check_schema (text, left);
    } else {
        tokens_t tokens;
        char error[512];
        if (tokens_parse (&tokens, text, left, error) == 0) {
            (void)tokens_find (&tokens, "0123456789abcdef");
            for (uint32_t i = 0; i < tokens.count; i++) {
                (void)tokens_allow (&tokens.items[i], "email", 5);
            }
            tokens_free (&tokens);
        }
    }
    free (text);
    return 0;
}
