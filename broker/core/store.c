/* Writing what was accepted. SPDX-License-Identifier: MIT */
#include "accept.h"

static void
s_put_outcome (const accept_request_t *request, const accept_result_t *result, uint8_t *at) {
    memcpy (at, request->session->id, 16);
    ef_le64_put (at + 16, request->seq);
    ef_le32_put (at + 24, result->accepted);
    ef_le32_put (at + 28, result->duplicates);
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
    uint32_t words = 0;
    for (uint32_t i = first; i < self->count; i++) {
        if (scan[i].topic == topic) {
            ef_le32_put (ef_buf_add (buf, 4), scan[i].word);
            words |= scan[i].word & ~EF_INDEX_LENGTH;
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
    buf->data[mark + 21] = (words & EF_INDEX_AWAY ? EF_EVENTS_FLAG_AWAY : 0) |
                           (words & EF_INDEX_META ? EF_EVENTS_FLAG_META : 0);
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

/* The id that was written into a routed event. */
static void
s_read_id (const struct scan_s *item, char text[37]) {
    ef_event_t event;
    const char *why;
    ef_cursor_t cursor = ef_cursor (item->data, item->word & EF_INDEX_LENGTH);
    ef_status_t status = ef_event_read (&cursor, &event, &why);
    ef_assert (status == EF_OK && event.id.size == 36);
    ef_span_copy (event.id, text, 37);
}

/* The ids that the broker assigned, where they were asked for. */
static void
s_list_ids (scanner_t *self) {
    const struct scan_s *scan = self->core->scan;
    accept_result_t *result = self->result;
    bool is_wanted = self->request->wants_ids || result->events == 1;
    for (uint32_t i = 0; is_wanted && i < self->count; i++) {
        char text[37];
        bool is_repeated = i > 0 && scan[i - 1].index == scan[i].index; /* another copy */
        if (is_repeated || !(scan[i].is_named || (scan[i].word & EF_INDEX_NO_ID))) {
            continue;
        }
        if (scan[i].is_named) {
            s_read_id (&scan[i], text);
        } else {
            uint32_t ordinal;
            uint32_t index;
            s_record_place (scan, i, &ordinal, &index);
            uint8_t base_id[16];
            memcpy (base_id, result->base_id, 16);
            s_move_base (base_id, ordinal);
            ef_uuid_text (base_id, index, text);
        }
        ef_put_array (&result->ids, 3);
        scan_put_seq (self, &result->ids);
        ef_put_uint (&result->ids, scan[i].index);
        ef_put_strn (&result->ids, text, 36);
        result->id_count++;
    }
}

void
store_events (scanner_t *self) {
    s_list_ids (self);
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
