/* What a request for publishing is answered. SPDX-License-Identifier: MIT */
#include "../../proto/json.h"
#include "outbox.h"

#include <stdio.h>

static void
s_text (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

/* An id as JSON: a string, or {"$bin": …}. */
static void
s_put_id (ef_buf_t *out, ef_span_t id) {
    if (id.data == NULL) {
        s_text (out, "null");
    } else if (ef_utf8_is_valid (id.data, id.size)) {
        ef_json_string (out, id.data, id.size);
    } else {
        s_text (out, "{\"$bin\":\"");
        ef_base64_encode (out, id.data, id.size);
        s_text (out, "\"}");
    }
}

static void
s_put_number (ef_buf_t *out, const char *key, uint64_t number) {
    char text[64];
    int size = snprintf (text, sizeof text, "%s%llu", key, (unsigned long long)number);
    ef_buf_put (out, text, (size_t)size);
}

static void
s_put_one (ef_buf_t *out, const batch_t *batch, style_t style, const char *durability) {
    ef_span_t id = batch_id (batch, &batch->slots[0]);
    ef_span_t topic = batch_topic (batch, &batch->slots[0]);
    switch (style) {
    case STYLE_PYTHON:
        s_text (out, "{\"status\":\"queued\",\"event_id\":");
        s_put_id (out, id);
        break;
    case STYLE_NODE:
        s_text (out, "{\"message\":\"Event accepted and queued\",\"eventId\":");
        s_put_id (out, id);
        break;
    case STYLE_QUEUE:
        s_text (out, "{\"status\":\"queued\",\"task_id\":");
        s_put_id (out, id);
        break;
    case STYLE_PLAIN:
    default:
        s_text (out, "{\"status\":\"queued\",\"id\":");
        s_put_id (out, id);
        s_text (out, ",\"topic\":");
        if (topic.data) {
            ef_json_string (out, topic.data, topic.size);
        } else {
            s_text (out, "null");
        }
        if (durability[0]) {
            s_text (out, ",\"durability\":");
            ef_json_string (out, durability, strlen (durability));
        }
    }
    s_text (out, "}\n");
}

void
answer_items (ef_buf_t *out, const batch_t *batch) {
    s_put_number (out, "\"accepted\":", batch->count - batch->refused);
    s_put_number (out, ",\"refused\":", batch->refused);
    s_text (out, ",\"items\":[");
    for (uint32_t i = 0; i < batch->count; i++) {
        const slot_t *slot = &batch->slots[i];
        s_put_number (out, i > 0 ? ",{\"index\":" : "{\"index\":", i);
        s_put_number (out, ",\"status\":", slot->code ? problem_find (slot->code)->status : 202);
        s_text (out, ",\"id\":");
        s_put_id (out, batch_id (batch, slot));
        if (slot->code) {
            s_text (out, ",\"code\":\"");
            s_text (out, slot->code);
            s_text (out, "\"");
        }
        if (slot->why) {
            bool is_text = ef_utf8_is_valid (slot->why, strlen (slot->why));
            const char *why = is_text ? slot->why : "(not UTF-8)";
            s_text (out, ",\"detail\":");
            ef_json_string (out, why, strlen (why));
        }
        if (slot->pointer && ef_utf8_is_valid (slot->pointer, strlen (slot->pointer))) {
            s_text (out, ",\"pointer\":");
            ef_json_string (out, slot->pointer, strlen (slot->pointer));
        }
        s_text (out, "}");
    }
    s_text (out, "]");
}

void
answer_accepted (ef_buf_t *out, const batch_t *batch, style_t style, const char *durability) {
    ef_buf_grow (out, batch->is_list ? (size_t)batch->count * 96 : 192);
    if (!batch->is_list) {
        s_put_one (out, batch, style, durability);
        return;
    }
    s_text (out, "{\"status\":\"queued\",");
    answer_items (out, batch);
    s_text (out, "}\n");
}

/* The first that is refused. */
static const slot_t *
s_first (const batch_t *batch) {
    const slot_t *slot = batch->slots;
    while (slot->code == NULL) {
        slot++;
    }
    return slot;
}

/* "id" or nothing, and where in the payload it is wrong, as members of the problem. */
static void
s_put_more (ef_buf_t *out, const batch_t *batch, const slot_t *slot) {
    if (batch->is_list) {
        answer_items (out, batch);
    } else if (slot->pointer && ef_utf8_is_valid (slot->pointer, strlen (slot->pointer))) {
        s_text (out, "\"errors\":[{\"pointer\":");
        ef_json_string (out, slot->pointer, strlen (slot->pointer));
        s_text (out, ",\"detail\":");
        const char *why =
            slot->why && ef_utf8_is_valid (slot->why, strlen (slot->why)) ? slot->why : "";
        ef_json_string (out, why, strlen (why));
        s_text (out, "}]");
    } else {
        s_text (out, "\"id\":");
        s_put_id (out, batch_id (batch, slot));
    }
    ef_buf_put (out, "", 1);
}

void
answer_refused (call_t *call, const batch_t *batch, bool is_atomic) {
    ef_buf_t more = {0};
    const slot_t *first = s_first (batch);
    const char *why = first->why ? first->why : "";
    if (batch->refused == batch->count || is_atomic) {
        s_put_more (&more, batch, first);
        if (batch->is_list) {
            problem_answer_more (call, first->code, (const char *)more.data, "event %u of %u: %s",
                                 (unsigned)(first - batch->slots) + 1, batch->count, why);
        } else {
            problem_answer_more (call, first->code, (const char *)more.data, "%s", why);
        }
    } else {
        const char *retry = NULL;
        char seconds[16];
        for (uint32_t i = 0; i < batch->count && retry == NULL; i++) {
            const problem_t *row =
                batch->slots[i].code ? problem_find (batch->slots[i].code) : NULL;
            if (row && row->retry_s) {
                snprintf (seconds, sizeof seconds, "%u", row->retry_s);
                retry = seconds;
            }
        }
        if (retry) {
            call_add_header (call, "Retry-After", retry);
        }
        s_text (&more, "{\"status\":\"partly\",");
        answer_items (&more, batch);
        s_text (&more, "}\n");
        call_answer (call, 207, "application/json", &more);
    }
    ef_buf_free (&more);
}

void
answer_late (call_t *call, const batch_t *batch) {
    ef_buf_t more = {0};
    if (batch->is_list) {
        s_text (&more, "\"ids\":[");
        for (uint32_t i = 0; i < batch->count; i++) {
            s_text (&more, i > 0 ? "," : "");
            s_put_id (&more, batch_id (batch, &batch->slots[i]));
        }
        s_text (&more, "]");
    } else {
        s_text (&more, "\"id\":");
        s_put_id (&more, batch_id (batch, &batch->slots[0]));
    }
    ef_buf_put (&more, "", 1);
    problem_answer_more (call, "TIMEOUT", (const char *)more.data,
                         "not confirmed in time; it may still be accepted, and sending it again "
                         "under the same id is safe");
    ef_buf_free (&more);
}
