/* Reading events, ids. SPDX-License-Identifier: MIT */
#include "event.h"
#include "limits.h"

#include <stdio.h>

static const char s_hex[] = "0123456789abcdef";

bool
ef_topic_is_valid (const char *name, size_t size) {
    static const char suffix[] = "_deadletter";
    size_t suffix_size = sizeof suffix - 1;
    if (size == 0 || size > EF_TOPIC_MAX) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        bool is_word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!is_word && (i == 0 || (c != '.' && c != '_' && c != '-'))) {
            return false;
        }
    }
    return size < suffix_size || memcmp (name + size - suffix_size, suffix, suffix_size) != 0;
}

/* One key of meta. Where a known key has another type than its own, `why` says so. */
static int
s_read_meta_key (ef_cursor_t *cursor, ef_span_t key, ef_event_t *event, const char **why) {
    static const struct {
        const char *name;
        size_t span;   /* offset of a span in ef_event_t, or 0 */
        size_t number; /* offset of a number, or 0 */
        bool bin_too;
        const char *why;
    } keys[] = {
        {"type", offsetof (ef_event_t, type), 0, false, "meta type must be a str"},
        {"time", 0, offsetof (ef_event_t, time_ms), false, "meta time must be ms since 1970"},
        {"key", offsetof (ef_event_t, key), 0, true, "meta key must be a str or bin to 64 bytes"},
        {"at", 0, offsetof (ef_event_t, at_ms), false, "meta at must be ms since 1970"},
        {"delay", 0, offsetof (ef_event_t, delay_ms), false, "meta delay must be ms, 0 or more"},
        {"ttl", 0, offsetof (ef_event_t, ttl_ms), false, "meta ttl must be ms, 0 or more"},
        {"user", offsetof (ef_event_t, user), 0, false, "meta user must be a str"},
        {"schema", 0, offsetof (ef_event_t, schema), false, "meta schema must be an int"},
        {"downstream", offsetof (ef_event_t, downstream), 0, false,
         "meta downstream must be a str"},
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (!ef_span_is (key, keys[i].name)) {
            continue;
        }
        int rc;
        if (keys[i].span) {
            ef_span_t *span = (ef_span_t *)(void *)((char *)event + keys[i].span);
            rc = keys[i].bin_too ? ef_get_bytes (cursor, span) : ef_get_str (cursor, span);
            rc = rc == 0 && keys[i].bin_too && span->size > EF_ID_MAX ? 1 : rc;
        } else {
            int64_t *number = (int64_t *)(void *)((char *)event + keys[i].number);
            rc = ef_get_int (cursor, number);
            rc = rc == 0 && *number < 0 ? 1 : rc;
        }
        if (rc != 0) {
            *why = keys[i].why;
        }
        return rc < 0 ? ef_skip (cursor) : 0;
    }
    bool is_map = ef_peek (cursor) == EF_TYPE_MAP;
    ef_span_t value = {(const char *)cursor->at, 0};
    if (ef_skip (cursor)) {
        return -1;
    }
    value.size = (uint32_t)((const char *)cursor->at - value.data);
    if (ef_span_is (key, "on_dead")) {
        event->on_dead = value;
    } else if (is_map && ef_span_is (key, "headers")) {
        /* Others aren't refused: there are stored events whose headers nobody ever judged. */
        event->headers = value;
    }
    return 0;
}

static int
s_read_meta (ef_cursor_t *cursor, ef_event_t *event, const char **why) {
    const uint8_t *start = cursor->at;
    uint32_t count;
    if (ef_get_map (cursor, &count)) {
        *why = "meta must be a map";
        return ef_skip (cursor);
    }
    for (uint32_t i = 0; i < count; i++) {
        ef_span_t key;
        if (ef_get_str (cursor, &key)) {
            *why = "a key of meta must be a str";
            if (ef_skip (cursor)) {
                return -1; /* the key that is none */
            }
            if (ef_skip (cursor)) {
                return -1; /* its value */
            }
        } else if (s_read_meta_key (cursor, key, event, why)) {
            return -1;
        }
    }
    event->meta.data = (const char *)start;
    event->meta.size = (uint32_t)(cursor->at - start);
    return 0;
}

/* Topic and id: str, nil, and for the id bin. */
static int
s_read_names (ef_cursor_t *cursor, ef_event_t *event, const char **why) {
    if (ef_get_nil (cursor) && ef_get_str (cursor, &event->topic)) {
        *why = "the topic must be a str or nil";
        if (ef_skip (cursor)) {
            return -1;
        }
    }
    if (ef_get_nil (cursor) && ef_get_bytes (cursor, &event->id)) {
        *why = "the id must be a str or bin of 1 to 64 bytes, or nil";
        return ef_skip (cursor);
    }
    if (event->id.data && (event->id.size == 0 || event->id.size > EF_ID_MAX)) {
        *why = "the id must be a str or bin of 1 to 64 bytes, or nil";
    }
    return 0;
}

ef_status_t
ef_event_read (ef_cursor_t *cursor, ef_event_t *event, const char **why) {
    static const ef_event_t empty = {
        .time_ms = -1, .at_ms = -1, .delay_ms = -1, .ttl_ms = -1, .schema = -1};
    *event = empty;
    *why = NULL;
    ef_cursor_t at = *cursor;
    uint32_t fields;
    if (ef_get_array (&at, &fields) || fields < 3 || fields > 4) {
        *why = "an event is an array [topic, id, payload] or [topic, id, payload, meta]";
        return ef_skip (cursor) ? EF_BAD_FRAME : EF_BAD_EVENT;
    }
    event->fields = (uint8_t)fields;
    if (s_read_names (&at, event, why)) {
        return EF_BAD_FRAME;
    }
    const uint8_t *payload = at.at;
    if (ef_skip (&at)) {
        return EF_BAD_FRAME;
    }
    event->payload.data = (const char *)payload;
    event->payload.size = (uint32_t)(at.at - payload);
    if (fields == 4 && s_read_meta (&at, event, why)) {
        return EF_BAD_FRAME;
    }
    event->tail.data = (const char *)payload;
    event->tail.size = (uint32_t)(at.at - payload);
    event->raw.data = (const char *)cursor->at;
    event->raw.size = (uint32_t)(at.at - cursor->at);
    cursor->at = at.at;
    return *why ? EF_BAD_EVENT : EF_OK;
}

void
ef_uuid7 (uint8_t id[16], uint64_t unix_ms, const uint64_t random[2]) {
    memcpy (id, random, 16);
    for (unsigned i = 0; i < 6; i++) {
        id[i] = (uint8_t)(unix_ms >> (40 - 8 * i));
    }
    id[6] = (uint8_t)(0x70 | (id[6] & 0x0f));
    id[8] = (uint8_t)(0x80 | (id[8] & 0x3f));
    id[14] = id[15] = 0;
}

void
ef_uuid_text (const uint8_t base[16], uint32_t index, char text[37]) {
    uint8_t id[16];
    memcpy (id, base, 16);
    for (unsigned i = 15; index > 0 && i > 8; i--) {
        uint32_t sum = id[i] + (index & 0xff);
        id[i] = (uint8_t)sum;
        index = (index >> 8) + (sum >> 8);
    }
    char *at = text;
    for (unsigned i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) {
            *at++ = '-';
        }
        *at++ = s_hex[id[i] >> 4];
        *at++ = s_hex[id[i] & 15];
    }
    *at = 0;
}
