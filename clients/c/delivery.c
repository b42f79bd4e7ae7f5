/* Reading a delivery: [tag, attempt, event] or with info. SPDX-License-Identifier: MIT */
#include "delivery.h"
#include "../../proto/event.h"

#include <string.h>

static eventflow_bytes_t
s_bytes (ef_span_t span) {
    return (eventflow_bytes_t){span.data, span.size};
}

static void
s_read_info (ef_cursor_t *cursor, eventflow_delivery_t *delivery) {
    uint32_t pairs;
    if (ef_get_map (cursor, &pairs)) {
        return;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        if (ef_get_str (cursor, &key)) {
            return;
        }
        const uint8_t *start = cursor->at;
        uint64_t number = 0;
        bool is_number = ef_get_uint (cursor, &number) == 0;
        if (!is_number && ef_skip (cursor)) {
            return;
        }
        if (ef_span_is (key, "errors")) {
            delivery->errors = (eventflow_bytes_t){start, (size_t)(cursor->at - start)};
        } else if (ef_span_is (key, "accepted")) {
            delivery->accepted_ms = number;
        } else if (ef_span_is (key, "deadline")) {
            delivery->deadline_ms = number;
        } else if (ef_span_is (key, "n")) {
            delivery->n = number;
        }
    }
}

int
ef_delivery_read (ef_cursor_t *cursor, eventflow_delivery_t *delivery) {
    uint32_t fields;
    uint64_t attempt;
    ef_event_t event;
    const char *why;
    memset (delivery, 0, sizeof *delivery);
    if (ef_get_array (cursor, &fields) || fields < 3 || ef_get_uint (cursor, &delivery->tag) ||
        ef_get_uint (cursor, &attempt) || ef_event_read (cursor, &event, &why) != EF_OK) {
        return -1;
    }
    if (fields > 3) {
        ef_cursor_t info = *cursor;
        s_read_info (&info, delivery);
        for (uint32_t i = 3; i < fields; i++) {
            if (ef_skip (cursor)) {
                return -1;
            }
        }
    }
    delivery->attempt = (uint32_t)attempt;
    delivery->event = s_bytes (event.raw);
    delivery->topic = s_bytes (event.topic);
    delivery->id = s_bytes (event.id);
    delivery->type = s_bytes (event.type);
    delivery->payload = s_bytes (event.payload);
    delivery->meta = s_bytes (event.meta);
    delivery->key = s_bytes (event.key);
    delivery->user = s_bytes (event.user);
    delivery->downstream = s_bytes (event.downstream);
    return 0;
}

int
ef_tags_read (ef_cursor_t *cursor, uint64_t *first, uint64_t *last) {
    uint32_t count;
    if (ef_get_uint (cursor, first) == 0) {
        *last = *first;
        return 0;
    }
    return ef_get_array (cursor, &count) || count != 2 || ef_get_uint (cursor, first) ||
                   ef_get_uint (cursor, last)
               ? -1
               : 0;
}

/* Why an ACK with events was refused: the first item of ACKED's `refused`, [index, code, text]. */
bool
ef_refused_read (ef_cursor_t *cursor, char code[32], char text[256]) {
    uint32_t pairs;
    if (ef_get_map (cursor, &pairs)) {
        return false;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        ef_span_t word;
        uint32_t count;
        if (ef_get_str (cursor, &key)) {
            return false;
        }
        if (!ef_span_is (key, "refused")) {
            if (ef_skip (cursor)) {
                return false;
            }
            continue;
        }
        if (ef_get_array (cursor, &count) || count == 0 || ef_get_array (cursor, &count) ||
            ef_skip (cursor) || ef_get_str (cursor, &word)) {
            return false;
        }
        ef_span_copy (word, code, 32);
        if (ef_get_str (cursor, &word) == 0) {
            ef_span_copy (word, text, 256);
        }
        return true;
    }
    return false;
}
