/* Events that are accepted because another one has ended: its own on_dead, and copies for the
   topics that its topic names. SPDX-License-Identifier: MIT

   They stand in the same batch as the record that ends it: both or neither. So they are made here
   and now, from the bytes that the delivery kept, and nothing refuses them: what can't be accepted
   becomes a dead letter of $invalid. */
#include "core_private.h"

/* Does the end of this event need its bytes? */
bool
emit_needs_event (const topic_t *topic, const stored_t *stored) {
    if (topic->config.on_done[0] || topic->config.on_dead[0]) {
        return true;
    }
    if (!(stored->flags & EF_INDEX_EXTRA)) {
        return false;
    }
    ef_event_t event;
    stored_event (stored, &event);
    return event.on_dead.data != NULL;
}

/* The first refusal's code and text, as they stand in an answer. */
static void
s_first_refusal (const accept_result_t *result, ef_status_t *status, char text[200]) {
    ef_cursor_t cursor = ef_cursor (result->refused.data, result->refused.size);
    uint32_t fields;
    ef_span_t code;
    ef_span_t words;
    *status = EF_INTERNAL;
    text[0] = 0;
    if (ef_get_array (&cursor, &fields) == 0 && ef_skip (&cursor) == 0 && ef_skip (&cursor) == 0 &&
        ef_get_str (&cursor, &code) == 0 && ef_get_str (&cursor, &words) == 0) {
        ef_span_copy (words, text, 200);
        for (unsigned i = 1; i < EF_STATUS_COUNT; i++) {
            *status = ef_span_is (code, ef_status_name ((ef_status_t)i)) ? (ef_status_t)i : *status;
        }
    }
}

static void
s_emit (ef_core_t *self, ef_span_t event, bool passes_window) {
    ef_frame_t frame = {(const uint8_t *)event.data, event.size};
    accept_request_t request = {.frames = &frame,
                                .count = 1,
                                .is_emit = true,
                                .is_ending = true,
                                .passes_window = passes_window};
    accept_result_t result;
    char text[200];
    ef_status_t status;
    accept_events (self, &request, &result);
    if (result.status != EF_OK) {
        accept_invalid (self, event, result.status, result.text);
    } else if (result.refused_events > 0) {
        s_first_refusal (&result, &status, text);
        accept_invalid (self, event, status, text);
    }
    accept_result_free (&result);
}

/* Keys of meta that were about the event's own way and not about what it says. */
static bool
s_is_own (ef_span_t key) {
    static const char *const names[] = {"at", "delay", "ttl", "on_dead", "downstream", "ended"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (ef_span_is (key, names[i])) {
            return true;
        }
    }
    return false;
}

/* Appends the pairs of meta that a copy keeps. Returns how many. */
static uint32_t
s_put_kept (const ef_event_t *event, ef_buf_t *out) {
    ef_cursor_t cursor = ef_cursor (event->meta.data, event->meta.size);
    uint32_t pairs;
    uint32_t kept = 0;
    if (event->meta.data == NULL || ef_get_map (&cursor, &pairs)) {
        return 0;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        const uint8_t *start = cursor.at;
        int rc = ef_get_str (&cursor, &key);
        rc = rc ? rc : ef_skip (&cursor);
        ef_assert (rc == 0); /* validated at acceptance */
        if (!s_is_own (key)) {
            ef_buf_put (out, start, (size_t)(cursor.at - start));
            kept++;
        }
    }
    return kept;
}

/* What became of it, under `ended`. */
static void
s_put_ended (const ef_core_t *self, const topic_t *topic, const ended_t *ended, bool is_whole,
             ef_buf_t *out) {
    bool has_errors = is_whole && ended->history != NULL;
    bool has_result = is_whole && ended->result.size > 0;
    ef_put_str (out, "ended");
    ef_put_map (out, 6u + (ended->worker != NULL) + has_errors + has_result);
    ef_put_key_str (out, "topic", topic->config.name);
    ef_put_key_uint (out, "n", ended->n);
    ef_put_key_str (out, "state", ended->reason == EF_REASON_NONE ? "done" : "dead");
    ef_put_key_str (out, "reason", ef_reason_name (ended->reason));
    ef_put_key_uint (out, "at", self->wall);
    ef_put_key_uint (out, "attempts", ended->attempts);
    if (ended->worker) {
        ef_put_key_str (out, "worker", ended->worker->name);
    }
    if (has_errors) {
        ef_put_str (out, "errors");
        history_put (ended->history, out);
    }
    if (has_result) {
        ef_put_str (out, "result");
        ef_buf_put (out, ended->result.data, ended->result.size);
    }
}

static void
s_emit_copy (ef_core_t *self, const topic_t *topic, const char *to, const ef_event_t *event,
             const ended_t *ended) {
    ef_buf_t kept = {0};
    ef_buf_t copy = {0};
    ef_span_t id = event_raw_id (event);
    uint32_t pairs = s_put_kept (event, &kept);
    /* With the disk filling up, and past the size of an event, it goes without the long parts. */
    for (int is_whole = self->space == EF_SPACE_NORMAL; is_whole >= 0; is_whole--) {
        ef_buf_clear (&copy);
        ef_put_array (&copy, 4);
        ef_put_str (&copy, to);
        ef_buf_put (&copy, id.data, id.size);
        ef_buf_put (&copy, event->payload.data, event->payload.size);
        ef_put_map (&copy, pairs + 1);
        ef_buf_put (&copy, kept.data, kept.size);
        s_put_ended (self, topic, ended, is_whole, &copy);
        if (copy.size <= self->config.max_event) {
            break;
        }
    }
    s_emit (self, span_of (copy.data, copy.size), true);
    ef_buf_free (&kept);
    ef_buf_free (&copy);
}

/* `event` is whole, its id written out; an empty one: nothing asks for it. */
void
emit_ended (ef_core_t *self, topic_t *topic, ef_span_t raw, const ended_t *ended) {
    ef_event_t event;
    const char *why;
    ef_cursor_t cursor = ef_cursor (raw.data, raw.size);
    const char *to =
        ended->reason == EF_REASON_NONE ? topic->config.on_done : topic->config.on_dead;
    if (raw.size == 0 || ef_event_read (&cursor, &event, &why) != EF_OK) {
        return;
    }
    if (ended->reason != EF_REASON_NONE && event.on_dead.data) {
        s_emit (self, event.on_dead, false);
    }
    if (to[0]) {
        s_emit_copy (self, topic, to, &event, ended);
    }
}
