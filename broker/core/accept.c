/* Taking events in: checks, refusals, records. SPDX-License-Identifier: MIT

   A message is read once into a table of where its events lie, then written record by record, one a
   topic; its bytes are copied once, into the batch. */
#include "core_private.h"

#include <stdio.h>

/* One event of the message. */
struct scan_s {
    const char *data;
    topic_t *topic; /* NULL: refused */
    uint32_t word;  /* as in the record's index */
    uint32_t index; /* in the message */
};

typedef struct {
    ef_core_t *core;
    const accept_request_t *request;
    accept_result_t *result;
    uint32_t count;      /* in core->scan */
    topic_t *last_topic; /* the topic of the event before; most have the same */
    ef_span_t last_name;
    ef_status_t run_status; /* refusals of neighbours with one code are one item */
    uint32_t run_first;
    uint32_t run_last;
    char run_text[200];
    ef_status_t first_refusal;
    unsigned searches; /* for the nearest name */
} scanner_t;

static void
s_put_seq (scanner_t *self, ef_buf_t *buf) {
    const accept_request_t *request = self->request;
    if (request->session) {
        ef_put_uint (buf, request->seq);
    } else if (request->seq_text.size) {
        ef_buf_put (buf, request->seq_text.data, request->seq_text.size);
    } else {
        ef_put_nil (buf);
    }
}

static void
s_end_run (scanner_t *self) {
    if (self->run_status == EF_OK) {
        return;
    }
    ef_buf_t *buf = &self->result->refused;
    ef_put_array (buf, 4);
    s_put_seq (self, buf);
    if (self->run_first == self->run_last) {
        ef_put_uint (buf, self->run_first);
    } else {
        ef_put_array (buf, 2);
        ef_put_uint (buf, self->run_first);
        ef_put_uint (buf, self->run_last);
    }
    ef_put_str (buf, ef_status_name (self->run_status));
    ef_put_str (buf, self->run_text);
    self->result->refused_count++;
    self->run_status = EF_OK;
}

static void
s_refuse (scanner_t *self, uint32_t index, ef_status_t status, const char *text) {
    self->core->refused[status]++;
    self->first_refusal = self->result->refused_events++ ? self->first_refusal : status;
    bool is_neighbour = self->run_status == status && self->run_last + 1 == index;
    bool is_last_item = self->result->refused_count + 1 >= EF_REFUSED_ITEMS_MAX;
    if (self->run_status != EF_OK && (is_neighbour || is_last_item)) {
        self->run_last = index;
        return;
    }
    s_end_run (self);
    self->run_status = status;
    self->run_first = self->run_last = index;
    snprintf (self->run_text, sizeof self->run_text, "%s", text);
}

static topic_t *
s_topic (scanner_t *self, const ef_event_t *event, ef_status_t *status, char text[200]) {
    ef_core_t *core = self->core;
    if (event->topic.data == NULL) {
        *status = EF_UNROUTED;
        snprintf (text, 200, "the event names no topic and no route is configured");
        return NULL;
    }
    if (self->last_topic && event->topic.size == self->last_name.size &&
        memcmp (event->topic.data, self->last_name.data, event->topic.size) == 0) {
        return self->last_topic;
    }
    bool is_valid = ef_topic_is_valid (event->topic.data, event->topic.size);
    topic_t *topic = is_valid ? topic_find (core, event->topic.data, event->topic.size) : NULL;
    if (topic == NULL && is_valid && core->config.auto_create) {
        topic = topic_require (core, event->topic.data, event->topic.size);
    }
    if (topic == NULL) {
        /* Looking for the nearest costs; the first few refusals of a message tell enough. */
        const char *nearest = is_valid && self->searches++ < 16
                                  ? topic_nearest (core, event->topic.data, event->topic.size)
                                  : NULL;
        *status = is_valid ? EF_UNKNOWN_TOPIC : EF_BAD_EVENT;
        if (!is_valid) {
            snprintf (text, 200,
                      "a topic is 1 to %d of a-z A-Z 0-9 . _ -, beginning with a letter "
                      "or digit, not ending in _deadletter",
                      EF_TOPIC_MAX);
        } else {
            snprintf (text, 200, "no topic %.*s%s%s%s", (int)event->topic.size, event->topic.data,
                      nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
        }
        return NULL;
    }
    self->last_topic = topic;
    self->last_name = event->topic;
    return topic;
}

/* How many of the topic's events this message already holds, to be judged against its capacity. */
static bool
s_is_full (const scanner_t *self, const topic_t *topic) {
    const ef_topic_config_t *config = &topic->config;
    if (config->capacity_events == 0 && config->capacity_bytes == 0) {
        return false;
    }
    uint64_t events = 0;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < self->count; i++) {
        bool is_same = self->core->scan[i].topic == topic;
        events += is_same;
        bytes += is_same ? self->core->scan[i].word & EF_INDEX_LENGTH : 0;
    }
    uint64_t depth = topic->counts[EF_STATE_READY] + topic->counts[EF_STATE_LEASED];
    return (config->capacity_events && depth + events >= config->capacity_events) ||
           (config->capacity_bytes && topic->bytes + bytes >= config->capacity_bytes);
}

/* Judges one well-formed event. EF_OK: `*word` and `*topic` are set. */
static ef_status_t
s_judge (scanner_t *self, const ef_event_t *event, topic_t **topic, uint32_t *word,
         char text[200]) {
    ef_core_t *core = self->core;
    ef_status_t status = EF_OK;
    if (event->raw.size > core->config.max_event) {
        snprintf (text, 200, "an event of %u bytes; the limit is %u", event->raw.size,
                  core->config.max_event);
        return EF_TOO_LARGE;
    }
    *topic = s_topic (self, event, &status, text);
    if (*topic == NULL) {
        return status;
    }
    if ((*topic)->is_draining && !self->request->is_emit) {
        snprintf (text, 200, "topic %s is draining and takes nothing new", (*topic)->config.name);
        return EF_DRAINING;
    }
    *word = event->raw.size;
    *word |= event->id.data ? 0 : EF_INDEX_NO_ID;
    *word |= event_index_flags (event);
    bool is_timed = event->at_ms > 0 || event->delay_ms > 0;
    if (is_timed) {
        if ((*topic)->counts[EF_STATE_SCHEDULED] >= (*topic)->config.scheduled_capacity) {
            snprintf (text, 200, "topic %s holds all the scheduled events that it may",
                      (*topic)->config.name);
            return EF_FULL;
        }
        *word |= EF_INDEX_AWAY;
    } else if (!self->request->is_emit && s_is_full (self, *topic)) {
        if ((*topic)->config.refuse_when_full || event->key.data ||
            (*topic)->config.order == EF_ORDER_TOPIC) {
            snprintf (text, 200, "topic %s is full", (*topic)->config.name);
            return EF_FULL;
        }
        *word |= EF_INDEX_AWAY;
    }
    return EF_OK;
}

static void
s_add (scanner_t *self, const ef_event_t *event, topic_t *topic, uint32_t word, uint32_t index) {
    ef_core_t *core = self->core;
    if (self->count == core->scan_capacity) {
        core->scan_capacity = core->scan_capacity ? 2 * core->scan_capacity : 256;
        core->scan = realloc (core->scan, core->scan_capacity * sizeof *core->scan);
        ef_assert (core->scan != NULL);
    }
    core->scan[self->count++] = (struct scan_s){event->raw.data, topic, word, index};
}

/* Reads every event of the message into the table. False: the whole message is refused. */
static bool
s_scan (scanner_t *self) {
    accept_result_t *result = self->result;
    for (uint32_t i = 0; i < self->request->count; i++) {
        const ef_frame_t *frame = &self->request->frames[i];
        ef_cursor_t cursor = ef_cursor (frame->data, frame->size);
        while (ef_cursor_left (&cursor) > 0) {
            if (result->events == EF_MESSAGE_EVENTS_MAX) {
                result->status = EF_TOO_LARGE;
                result->text = "more than 65,536 events in a message";
                return false;
            }
            ef_event_t event;
            topic_t *topic = NULL;
            uint32_t word = 0;
            const char *why;
            char text[200];
            const uint8_t *start = cursor.at;
            ef_status_t status = ef_event_read (&cursor, &event, &why);
            if (status == EF_BAD_FRAME) {
                result->status = EF_BAD_FRAME;
                result->text = "the body is not MessagePack to its end";
                return false;
            }
            if (status == EF_OK) {
                status = s_judge (self, &event, &topic, &word, text);
                why = text;
            }
            if (status == EF_OK) {
                s_add (self, &event, topic, word, result->events);
            } else {
                s_refuse (self, result->events, status, why);
                if (self->request->is_ingress) {
                    accept_invalid (self->core, span_of (start, (size_t)(cursor.at - start)),
                                    status, why);
                }
            }
            result->events++;
        }
    }
    s_end_run (self);
    return true;
}

static void
s_put_outcome (const accept_request_t *request, const accept_result_t *result, uint8_t *at) {
    memcpy (at, request->session->id, 16);
    ef_le64_put (at + 16, request->seq);
    ef_le32_put (at + 24, result->accepted);
    ef_le32_put (at + 28, 0);
}

/* Writes the events of one topic as a record; those of `scan` from `first` on are looked through.
 */
static void
s_write_record (scanner_t *self, topic_t *topic, uint32_t first, bool with_outcome) {
    ef_core_t *core = self->core;
    struct scan_s *scan = core->scan;
    ef_buf_t *buf = batch_buf (core);
    size_t mark = ef_record_begin (buf, EF_LOG_EVENTS, 0, EF_EVENTS_HEADER);
    uint32_t outcome = 0;
    if (with_outcome) {
        outcome =
            EF_OUTCOME_HEAD + 8 + (uint32_t)(self->result->refused.size + self->result->ids.size);
        uint8_t *at = ef_buf_add (buf, EF_OUTCOME_HEAD + 8);
        s_put_outcome (self->request, self->result, at);
        ef_le32_put (at + EF_OUTCOME_HEAD, self->result->refused_count);
        ef_le32_put (at + EF_OUTCOME_HEAD + 4, self->result->id_count);
        ef_buf_put (buf, self->result->refused.data, self->result->refused.size);
        ef_buf_put (buf, self->result->ids.data, self->result->ids.size);
    }
    uint32_t count = 0;
    bool has_away = false;
    for (uint32_t i = first; i < self->count; i++) {
        if (scan[i].topic == topic) {
            ef_le32_put (ef_buf_add (buf, 4), scan[i].word);
            has_away = has_away || (scan[i].word & EF_INDEX_AWAY);
            count++;
        }
    }
    for (uint32_t i = first; i < self->count;) {
        /* Neighbours in the frame are neighbours in the record: one copy for a whole run. */
        size_t bytes = 0;
        const char *start = scan[i].data;
        while (i < self->count && scan[i].topic == topic && scan[i].data == start + bytes) {
            bytes += scan[i].word & EF_INDEX_LENGTH;
            scan[i++].topic = NULL;
        }
        ef_buf_put (buf, start, bytes);
        topic->published_bytes += bytes;
        i += bytes == 0;
    }
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    ef_le32_put (header, topic->index);
    ef_le32_put (header + 4, count);
    ef_le64_put (header + 8, topic->next_n);
    ef_le64_put (header + 16, core->wall);
    memcpy (header + 24, self->result->base_id, 16);
    ef_le32_put (header + 40, outcome);
    buf->data[mark + 21] = has_away ? EF_EVENTS_FLAG_AWAY : 0;
    topic->next_n += count;
    topic->pending_events += count;
    ef_record_end (buf, mark);
    batch_after (core,
                 (after_t){.kind = AFTER_RECORD, .peer = topic->index, .rel = (uint32_t)mark});
}

/* Records of one message mustn't share ids: the base of each further topic is moved on. */
static void
s_move_base (uint8_t base_id[16], uint32_t ordinal) {
    uint32_t sum = ((uint32_t)base_id[9] << 8 | base_id[10]) + ordinal;
    base_id[9] = (uint8_t)(sum >> 8);
    base_id[10] = (uint8_t)sum;
}

/* Where event i will stand: in which record of the message, and where in that record. */
static void
s_record_place (const struct scan_s *scan, uint32_t i, uint32_t *ordinal, uint32_t *index) {
    *ordinal = *index = 0;
    uint32_t first = 0;
    while (scan[first].topic != scan[i].topic) {
        first++;
    }
    for (uint32_t k = 0; k < first; k++) {
        uint32_t earlier = 0;
        while (scan[earlier].topic != scan[k].topic) {
            earlier++;
        }
        *ordinal += earlier == k;
    }
    for (uint32_t k = first; k < i; k++) {
        *index += scan[k].topic == scan[i].topic;
    }
}

/* The ids that the broker assigned, where they were asked for. */
static void
s_list_ids (scanner_t *self) {
    const struct scan_s *scan = self->core->scan;
    accept_result_t *result = self->result;
    bool is_wanted = self->request->wants_ids || result->events == 1;
    for (uint32_t i = 0; is_wanted && i < self->count; i++) {
        if (!(scan[i].word & EF_INDEX_NO_ID)) {
            continue;
        }
        uint32_t ordinal;
        uint32_t index;
        s_record_place (scan, i, &ordinal, &index);
        uint8_t base_id[16];
        memcpy (base_id, result->base_id, 16);
        s_move_base (base_id, ordinal);
        char text[37];
        ef_uuid_text (base_id, index, text);
        ef_put_array (&result->ids, 3);
        s_put_seq (self, &result->ids);
        ef_put_uint (&result->ids, scan[i].index);
        ef_put_strn (&result->ids, text, 36);
        result->id_count++;
    }
}

static void
s_write_records (scanner_t *self) {
    bool with_outcome = self->request->session != NULL;
    for (uint32_t i = 0; i < self->count; i++) {
        topic_t *topic = self->core->scan[i].topic;
        if (topic == NULL) {
            continue;
        }
        if (topic->is_new) {
            topic_write (topic, batch_buf (self->core));
            topic->is_new = false;
        }
        s_write_record (self, topic, i, with_outcome);
        with_outcome = false;
        s_move_base (self->result->base_id, 1);
    }
}

/* Of an atomic message nothing is taken: an item for the whole behind those that stood in the way.
 */
static void
s_refuse_all (scanner_t *self) {
    ef_buf_t *buf = &self->result->refused;
    self->count = 0;
    ef_put_array (buf, 4);
    s_put_seq (self, buf);
    ef_put_nil (buf);
    ef_put_str (buf, ef_status_name (self->first_refusal));
    ef_put_str (buf, "atomic: nothing of this PUBLISH was accepted");
    self->result->refused_count++;
}

/* What is left is for finishing work: an emit may take the place of what ends with it. */
static bool
s_lacks_space (const ef_core_t *self, const accept_request_t *request, uint64_t bytes) {
    if (self->space == EF_SPACE_NORMAL) {
        return false;
    }
    if (request->is_emit) {
        return bytes > request->ended_bytes + EF_EMIT_SPARE_BYTES ||
               !space_for_copies (self, 2 * bytes);
    }
    return !request->is_ingress; /* nobody would hear it; with the disk full it isn't read */
}

void
accept_events (ef_core_t *self, const accept_request_t *request, accept_result_t *result) {
    scanner_t scanner = {.core = self, .request = request, .result = result};
    memset (result, 0, sizeof *result);
    size_t bytes = 0;
    for (uint32_t i = 0; i < request->count; i++) {
        bytes += request->frames[i].size;
    }
    if (bytes > self->config.max_message) {
        result->status = EF_TOO_LARGE;
        result->text = "a message past the limit";
        self->refused[EF_TOO_LARGE]++;
        return;
    }
    if (s_lacks_space (self, request, bytes)) {
        result->status = EF_NO_SPACE;
        result->text = "the disk is nearly full; nothing was stored, send it again later";
        self->refused[EF_NO_SPACE]++;
        return;
    }
    bool is_readable = s_scan (&scanner);
    const session_t *session = request->session;
    if (is_readable && session && session->unconfirmed > 0 &&
        session->unconfirmed + result->events > self->config.window) {
        result->status = EF_WINDOW;
        result->text = "more events unconfirmed than WELCOME's window";
        is_readable = false;
    }
    if (is_readable && request->is_atomic && result->refused_events > 0) {
        s_refuse_all (&scanner);
    } else if (is_readable && request->wants_ids && result->events > EF_IDS_MAX) {
        result->status = EF_BAD_COMMAND;
        result->text = "ids can be asked for up to 256 events";
        is_readable = false;
    }
    if (!is_readable) {
        self->refused[result->status]++;
        return;
    }
    result->accepted = scanner.count;
    if (scanner.count == 0) {
        return;
    }
    uint64_t random[2] = {self->effects.random (self->effects.arg),
                          self->effects.random (self->effects.arg)};
    ef_uuid7 (result->base_id, self->wall, random);
    s_list_ids (&scanner);
    s_write_records (&scanner);
}

void
accept_result_free (accept_result_t *result) {
    ef_buf_free (&result->refused);
    ef_buf_free (&result->ids);
}

/* Keeps what came by ingress and can't be accepted as a dead letter of $invalid. */
void
accept_invalid (ef_core_t *self, ef_span_t raw, ef_status_t status, const char *text) {
    topic_t *topic = topic_require (self, "$invalid", 8);
    uint32_t bytes = raw.size < self->config.max_event ? raw.size : self->config.max_event;
    if (topic == NULL || topic->counts[EF_STATE_DEAD] + topic->pending_dead >= EF_INVALID_EVENTS ||
        self->invalid_bytes + bytes > EF_INVALID_BYTES) {
        return; /* counted already */
    }
    self->invalid_bytes += bytes;
    ef_buf_t event = {0};
    ef_put_array (&event, 3);
    ef_put_str (&event, "$invalid");
    ef_put_nil (&event);
    ef_put_bin (&event, raw.data, bytes);
    ef_buf_t error = {0};
    ef_put_array (&error, 5);
    ef_put_str (&error, ef_status_name (status));
    ef_put_str (&error, text);
    ef_put_nil (&error);
    ef_put_uint (&error, self->wall);
    ef_put_nil (&error);
    uint8_t base_id[16];
    uint64_t random[2] = {self->effects.random (self->effects.arg),
                          self->effects.random (self->effects.arg)};
    ef_uuid7 (base_id, self->wall, random);
    ef_buf_t *buf = batch_buf (self);
    if (topic->is_new) {
        topic_write (topic, buf);
        topic->is_new = false;
    }
    size_t mark = ef_record_begin (buf, EF_LOG_COPIES, EF_COPIES_FLAG_INVALID, EF_COPIES_HEADER);
    ef_le32_put (buf->data + mark + EF_RECORD_HEAD, topic->index);
    ef_le32_put (buf->data + mark + EF_RECORD_HEAD + 4, 1);
    ef_buf_t history = {0};
    ef_put_array (&history, 1);
    ef_buf_put (&history, error.data, error.size);
    stored_t stored = {.accepted_ms = self->wall,
                       .base_id = base_id,
                       .flags = EF_INDEX_NO_ID,
                       .event = span_of (event.data, event.size),
                       .history = span_of (history.data, history.size),
                       .attempts = 1,
                       .state = EF_STATE_DEAD};
    copies_add (buf, &stored, topic->next_n++);
    topic->pending_events++;
    topic->pending_dead++;
    ef_record_end (buf, mark);
    ef_buf_free (&event);
    ef_buf_free (&error);
    ef_buf_free (&history);
    batch_after (self,
                 (after_t){.kind = AFTER_RECORD, .peer = topic->index, .rel = (uint32_t)mark});
}
