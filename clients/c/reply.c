/* Reading what a broker answers to a publisher.
   SPDX-License-Identifier: MIT */
#include "reply.h"

int
ef_refusal_read (ef_cursor_t *cursor, ef_refusal_t *refusal) {
    uint32_t fields;
    uint32_t pair;
    ef_span_t code;
    ef_span_t text;
    refusal->first = 0;
    refusal->last = UINT32_MAX;
    if (ef_get_array (cursor, &fields) || fields != 4 || ef_get_uint (cursor, &refusal->seq)) {
        return -1;
    }
    if (ef_get_uint (cursor, &refusal->first) == 0) {
        refusal->last = refusal->first;
    } else if (ef_get_nil (cursor) != 0 &&
               (ef_get_array (cursor, &pair) || ef_get_uint (cursor, &refusal->first) ||
                ef_get_uint (cursor, &refusal->last))) {
        return -1;
    }
    if (ef_get_str (cursor, &code) || ef_get_str (cursor, &text)) {
        return -1;
    }
    ef_span_copy (code, refusal->code, sizeof refusal->code);
    ef_span_copy (text, refusal->text, sizeof refusal->text);
    return 0;
}

void
ef_reply_read (ef_cursor_t *cursor, ef_reply_t *reply) {
    uint32_t pairs;
    if (ef_get_map (cursor, &pairs)) {
        return;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        if (ef_get_str (cursor, &key)) {
            return;
        }
        uint64_t *number = ef_span_is (key, "accepted")      ? &reply->accepted
                           : ef_span_is (key, "duplicates")  ? &reply->duplicates
                           : ef_span_is (key, "last")        ? &reply->last
                           : ef_span_is (key, "window")      ? &reply->window
                           : ef_span_is (key, "max_event")   ? &reply->max_event
                           : ef_span_is (key, "max_message") ? &reply->max_message
                           : ef_span_is (key, "heartbeat")   ? &reply->heartbeat
                                                             : NULL;
        const uint8_t *start = cursor->at;
        if (number ? ef_get_uint (cursor, number) : ef_skip (cursor)) {
            return;
        }
        if (ef_span_is (key, "refused")) {
            reply->refused = (ef_span_t){(const char *)start, (uint32_t)(cursor->at - start)};
        } else if (ef_span_is (key, "ids")) {
            reply->ids = (ef_span_t){(const char *)start, (uint32_t)(cursor->at - start)};
        }
    }
}
