/* Replaying one dead letter, as it is or edited. SPDX-License-Identifier: MIT

   An edited replay is a new event with an id of its own, made of the letter and the new payload, so
   that asking twice publishes once. Its header `supersedes` names the letter. The letter stays, and
   once the event is durable it is marked with the event's id, so that each names the other; where
   that fails the same may be asked again.
 */
#include "api_private.h"
#include "sha256.h"

#include <stdio.h>
#include <stdlib.h>

#define EDIT_WAIT_MS 10000

/* Meta of the new event: the letter's, without what belongs to its first life. */
static int
s_put_meta (ef_buf_t *out, ef_span_t meta, const char *topic, uint64_t n) {
    static const char *const dropped[] = {"time", "at", "delay", "headers"};
    ef_cursor_t cursor = ef_cursor (meta.data, meta.size);
    uint32_t pairs = 0;
    uint32_t kept = 1;
    char place[100];
    size_t mark = ef_put_open (out);
    if (meta.size > 0 && ef_get_map (&cursor, &pairs)) {
        return -1;
    }
    snprintf (place, sizeof place, "%s#%llu", topic, (unsigned long long)n);
    ef_put_str (out, "headers");
    ef_cursor_t headers;
    uint32_t count = 0;
    size_t inner = ef_put_open (out);
    uint32_t copied = 0;
    if (meta.size > 0 && ef_map_find (ef_cursor (meta.data, meta.size), "headers", &headers) &&
        ef_peek (&headers) == EF_TYPE_MAP && ef_get_map (&headers, &count) == 0) {
        for (uint32_t i = 0; i < count; i++) {
            ef_span_t key = {"", 0};
            ef_cursor_t start = headers;
            bool is_ours = ef_get_str (&start, &key) == 0 && ef_span_is (key, "supersedes");
            start = headers;
            if (ef_skip (&headers) || ef_skip (&headers)) {
                return -1;
            }
            if (!is_ours) {
                ef_buf_put (out, start.at, (size_t)(headers.at - start.at));
                copied++;
            }
        }
    }
    ef_put_key_str (out, "supersedes", place);
    ef_put_close_map (out, inner, copied + 1);
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        const uint8_t *start = cursor.at;
        bool is_dropped = false;
        if (ef_get_str (&cursor, &key) || ef_skip (&cursor)) {
            return -1;
        }
        for (unsigned k = 0; k < 4; k++) {
            is_dropped = is_dropped || ef_span_is (key, dropped[k]);
        }
        if (!is_dropped) {
            ef_buf_put (out, start, (size_t)(cursor.at - start));
            kept++;
        }
    }
    ef_put_close_map (out, mark, kept);
    return 0;
}

/* The new event of a letter as DLQ.SHOW tells it. 0 or -1. */
static int
s_make (const ef_buf_t *letter, call_t *call, ef_cursor_t payload, char id[65], ef_buf_t *out) {
    ef_cursor_t bytes;
    ef_event_t event;
    const char *why;
    ef_buf_t print = {0};
    const char *topic = call_part (call, 0);
    const uint8_t *start = payload.at;
    uint64_t n = strtoull (call_part (call, 1), NULL, 10);
    if (!ef_map_find (ef_cursor (letter->data, letter->size), "event", &bytes) ||
        ef_event_read (&bytes, &event, &why) != EF_OK || ef_skip (&payload)) {
        return -1;
    }
    size_t size = (size_t)(payload.at - start);
    ef_put_array (&print, 3);
    ef_put_str (&print, topic);
    ef_put_uint (&print, n);
    ef_buf_put (&print, start, size);
    sha256_text (print.data, print.size, id);
    ef_buf_free (&print);
    ef_put_array (out, 4);
    ef_put_str (out, topic);
    ef_put_str (out, id);
    ef_buf_put (out, start, size);
    return s_put_meta (out, event.meta, topic, n);
}

/* Says in the letter what has taken its place. NULL, or the code. */
static const char *
s_mark (api_t *self, const call_t *call, const char *id, char *text) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    api_request (&request, 4, "DLQ.SUPERSEDE", call_part (call, 0));
    ef_put_uint (&request, strtoull (call_part (call, 1), NULL, 10));
    ef_put_str (&request, id);
    const char *code = admin_pool_call (self->admin, &request, &value, text);
    ef_buf_free (&request);
    ef_buf_free (&value);
    return code;
}

static void
s_answer_published (api_t *self, call_t *call, const char *id) {
    char text[512];
    call_note (call, "edited-replay topic=%s n=%s id=%s", call_part (call, 0), call_part (call, 1),
               id);
    const char *code = s_mark (self, call, id, text);
    bool has_gone = code && strcmp (code, "NOT_FOUND") == 0; /* in the meantime: nothing to mark */
    if (code && !has_gone) {
        problem_answer (call, code,
                        "published as %s, but the letter doesn't say so: %s; safe to ask again", id,
                        text);
    } else {
        call_answer_json (call, 202, "{\"replayed\":1,\"id\":\"%s\",\"is_edited\":true}\n", id);
    }
}

static void
s_publish (api_t *self, call_t *call, const ef_buf_t *event, const char *id) {
    char code[32] = "";
    char text[256] = "";
    const eventflow_bytes_t bytes = {event->data, event->size};
    pthread_mutex_lock (&self->publisher_lock);
    if (self->publisher == NULL) {
        const eventflow_publisher_options_t options = {.endpoint = self->front,
                                                       .name = "edited-replay"};
        self->publisher = eventflow_publisher_new (&options);
        ef_assert (self->publisher != NULL);
    }
    int rc = eventflow_publish_event (self->publisher, bytes, 1000, NULL);
    rc = rc ? rc : eventflow_publisher_wait (self->publisher, EDIT_WAIT_MS, code, text);
    if (rc == EVENTFLOW_TIMEOUT) {
        eventflow_publisher_destroy (&self->publisher); /* asking again sends it again */
    }
    pthread_mutex_unlock (&self->publisher_lock);
    if (rc == EVENTFLOW_OK) {
        s_answer_published (self, call, id);
    } else if (rc == EVENTFLOW_REFUSED) {
        problem_answer (call, code, "%s", text);
    } else {
        problem_answer (call, rc == EVENTFLOW_INVALID ? "TOO_LARGE" : "TIMEOUT",
                        "not confirmed; safe to ask again");
    }
}

static void
s_edited (api_t *self, call_t *call, ef_cursor_t payload) {
    char text[512];
    char id[65];
    ef_buf_t letter = {0};
    ef_buf_t event = {0};
    uint64_t n = strtoull (call_part (call, 1), NULL, 10);
    const char *code = letters_show (self->admin, call_part (call, 0), n, &letter, text);
    if (code) {
        problem_answer (call, code, "%s", text);
    } else if (s_make (&letter, call, payload, id, &event)) {
        problem_answer (call, "INTERNAL", "the letter can't be read");
    } else {
        s_publish (self, call, &event, id);
    }
    ef_buf_free (&letter);
    ef_buf_free (&event);
}

static void
s_plain (api_t *self, call_t *call) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    api_request (&request, 3, "DLQ.REPLAY", call_part (call, 0));
    ef_put_map (&request, 1);
    ef_put_str (&request, "n");
    ef_put_array (&request, 1);
    ef_put_uint (&request, strtoull (call_part (call, 1), NULL, 10));
    call_note (call, "replay topic=%s n=%s", call_part (call, 0), call_part (call, 1));
    if (admin_pool_ask (self->admin, call, &request, &value) == 0) {
        if (ef_map_uint (ef_cursor (value.data, value.size), "replayed") == 0) {
            problem_answer (call, "NOT_FOUND", "no dead letter of that number");
        } else {
            call_answer_json (call, 202, "{\"replayed\":1,\"is_edited\":false}\n");
        }
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
}

void
edit_replay (void *arg, call_t *call) {
    ef_buf_t body = {0};
    ef_cursor_t payload;
    const char *number = call_part (call, 1);
    if (strspn (number, "0123456789") != strlen (number)) {
        problem_answer (call, "BAD_REQUEST", "expected the number of a dead letter");
        return;
    }
    if (api_body (call, &body) == 0) {
        if (ef_map_find (ef_cursor (body.data, body.size), "payload", &payload)) {
            s_edited (arg, call, payload);
        } else {
            s_plain (arg, call);
        }
    }
    ef_buf_free (&body);
}
