/* The event of those recipients that a mail hasn't reached. SPDX-License-Identifier: MIT

   It stands for the same mail: header, text and Message-ID are the same, its envelope is what is
   left. Its id is the first one's and "/rest", so that a repeat of the first event emits it once.
 */
#include "mail.h"

#include "../../proto/event.h"
#include "../../proto/json.h"
#include "../../proto/limits.h"
#include "../field.h"

#define SUFFIX "/rest"

static void
s_put_text_or_bytes (ef_buf_t *out, ef_span_t text) {
    if (ef_utf8_is_valid (text.data, text.size)) {
        ef_put_strn (out, text.data, text.size);
    } else {
        ef_put_bin (out, text.data, text.size);
    }
}

static void
s_put_id (ef_buf_t *out, ef_span_t id) {
    char text[EF_ID_MAX];
    size_t suffix = sizeof SUFFIX - 1;
    if (id.data == NULL || id.size + suffix > sizeof text) {
        ef_put_nil (out); /* the broker gives one */
        return;
    }
    memcpy (text, id.data, id.size);
    memcpy (text + id.size, SUFFIX, suffix);
    s_put_text_or_bytes (out, (ef_span_t){text, (uint32_t)(id.size + suffix)});
}

/* Appends the pairs of a map but those of some keys; returns how many. 0 as well where it is none.
 */
static uint32_t
s_copy_map (ef_buf_t *out, ef_span_t map, const char *without, const char *nor) {
    ef_cursor_t cursor = ef_cursor (map.data, map.size);
    uint32_t count;
    uint32_t copied = 0;
    if (ef_get_map (&cursor, &count)) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *from = cursor.at;
        ef_span_t key;
        bool is_text = ef_get_str (&cursor, &key) == 0;
        if ((!is_text && ef_skip (&cursor)) || ef_skip (&cursor)) {
            break;
        }
        if (!is_text || (!ef_span_is (key, without) && !ef_span_is (key, nor))) {
            ef_buf_put (out, from, (size_t)(cursor.at - from));
            copied++;
        }
    }
    return copied;
}

/* Appends the pairs that make the same mail; returns how many. A payload that is an address and
   nothing else has but that. */
static uint32_t
s_put_payload (ef_buf_t *out, ef_span_t payload) {
    ef_span_t address;
    if (!field_as_text (payload, &address)) {
        return s_copy_map (out, payload, "rest", "rest");
    }
    ef_put_str (out, "to");
    ef_buf_put (out, payload.data, payload.size);
    return 1;
}

static void
s_put_rest (ef_buf_t *out, const ef_event_t *event, const ef_buf_t *addresses) {
    ef_span_t rest;
    ef_span_t value;
    ef_span_t of = event->id;
    if (field_get (event->payload, "rest", &rest) && field_get (rest, "of", &value)) {
        (void)field_as_text (value, &of); /* else it was refused as a mail */
    }
    ef_put_str (out, "rest");
    ef_put_map (out, 2);
    ef_put_str (out, "of");
    s_put_text_or_bytes (out, of);
    ef_put_str (out, "to");
    size_t mark = ef_put_open (out);
    uint32_t count = 0;
    const char *end = (const char *)addresses->data + addresses->size;
    for (const char *at = (const char *)addresses->data; at < end; at += strlen (at) + 1) {
        ef_put_str (out, at);
        count++;
    }
    ef_put_close_array (out, mark, count);
}

int
mail_rest (ef_buf_t *out, ef_span_t event_bytes, const ef_buf_t *addresses, uint64_t delay_ms) {
    ef_cursor_t cursor = ef_cursor (event_bytes.data, event_bytes.size);
    ef_event_t event;
    const char *why;
    if (ef_event_read (&cursor, &event, &why) != EF_OK) {
        return -1;
    }
    ef_cursor_t payload = ef_cursor (event.payload.data, event.payload.size);
    ef_span_t address;
    if (ef_peek (&payload) != EF_TYPE_MAP && !field_as_text (event.payload, &address)) {
        return -1;
    }
    ef_put_array (out, 4);
    s_put_text_or_bytes (out, event.topic);
    s_put_id (out, event.id);
    size_t mark = ef_put_open (out);
    uint32_t count = s_put_payload (out, event.payload);
    s_put_rest (out, &event, addresses);
    ef_put_close_map (out, mark, count + 1);
    mark = ef_put_open (out);
    count = s_copy_map (out, event.meta, "at", "delay");
    ef_put_key_uint (out, "delay", delay_ms);
    ef_put_close_map (out, mark, count + 1);
    return 0;
}
