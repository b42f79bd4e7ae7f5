/* The ids that the dedupe windows know: when they are asked and filled, and how they outlive their
   segments. SPDX-License-Identifier: MIT

   The windows follow from the journal: from the ids in its events, and from IDS records, written
   when a segment goes while ids from it are still known. The key of the fingerprints stands at the
   start of each segment. */
#include "core_private.h"

#define STEP            256u              /* ids at a time */
#define CHECKPOINT_ITEM (EF_IDS_ITEM + 4) /* it says in which segment an id stands */

static ef_window_rule_t
s_rule (const ef_core_t *self, const topic_t *topic) {
    return (ef_window_rule_t){.now_ms = self->wall,
                              .window_ms = topic->config.dedupe_ms,
                              .most = topic->config.dedupe_count};
}

ef_print_t
ids_print (const ef_core_t *self, ef_span_t id) {
    return ef_print (self->print_key, id.data, id.size);
}

bool
ids_have (const ef_core_t *self, const topic_t *topic, ef_print_t print) {
    ef_window_rule_t rule = s_rule (self, topic);
    return topic->ids && ef_window_has (topic->ids, print, &rule);
}

static void
s_require (topic_t *topic) {
    topic->ids = topic->ids ? topic->ids : ef_window_new ();
}

void
ids_prefetch (topic_t *topic, ef_print_t print) {
    s_require (topic);
    ef_window_prefetch (topic->ids, print);
}

bool
ids_add (ef_core_t *self, topic_t *topic, ef_print_t print) {
    ef_window_rule_t rule = s_rule (self, topic);
    s_require (topic);
    return ef_window_add (topic->ids, print, self->newest_segment, &rule);
}

void
ids_expire (ef_core_t *self, topic_t *topic, uint32_t budget) {
    ef_window_rule_t rule = s_rule (self, topic);
    if (topic->ids) {
        (void)ef_window_expire (topic->ids, &rule, budget); /* what is left goes next time */
    }
}

static void
s_restore (ef_core_t *self, topic_t *topic, const ef_known_t *known, bool is_late) {
    ef_window_rule_t rule = s_rule (self, topic);
    if (rule.window_ms && known->accepted_ms + rule.window_ms > self->wall) {
        s_require (topic);
        ef_window_restore (topic->ids, known, is_late, &rule);
    }
}

/* Replay of an EVENTS record. */
void
ids_replay (ef_core_t *self, topic_t *topic, const uint8_t *head, uint32_t segment) {
    ef_known_t known = {.accepted_ms = ef_le64 (head + EF_RECORD_HEAD + 16), .segment = segment};
    uint32_t count = ef_le32 (head + EF_RECORD_HEAD + 4);
    bool has_key = self->print_key[0] || self->print_key[1];
    if (!has_key || known.accepted_ms + topic->config.dedupe_ms <= self->wall) {
        return;
    }
    uint32_t rel = stored_first (head, false);
    for (uint32_t i = 0; i < count; i++) {
        stored_t stored;
        uint32_t fields;
        ef_span_t id;
        if (stored_read (head, rel, i, false, &stored)) {
            return; /* adopt_record says so too */
        }
        ef_cursor_t cursor = ef_cursor (stored.event.data, stored.event.size);
        if (!(stored.flags & (EF_INDEX_NO_ID | EF_INDEX_PASSES)) &&
            ef_get_array (&cursor, &fields) == 0 && ef_skip (&cursor) == 0 &&
            ef_get_bytes (&cursor, &id) == 0) {
            known.print = ids_print (self, id);
            s_restore (self, topic, &known, false);
        }
        rel = stored_next (head, rel, i, false);
    }
}

static void
s_put (const ef_known_t *known, uint32_t count, uint32_t item, ef_buf_t *buf) {
    uint8_t *at = ef_buf_add (buf, (size_t)count * item);
    for (uint32_t i = 0; i < count; i++, at += item) {
        ef_le64_put (at, known[i].print.low);
        ef_le64_put (at + 8, known[i].print.high);
        ef_le64_put (at + 16, known[i].accepted_ms);
        if (item == CHECKPOINT_ITEM) {
            ef_le32_put (at + EF_IDS_ITEM, known[i].segment);
        }
    }
}

/* Appends a record of the next ids of a walk; `type` is the main journal's or a checkpoint's.
   Returns how many. */
static uint32_t
s_write (ef_core_t *self, topic_t *topic, ef_window_walk_t *walk, uint8_t type, ef_buf_t *buf) {
    ef_known_t known[STEP];
    ef_window_rule_t rule = s_rule (self, topic);
    uint32_t count = ef_window_walk (topic->ids, walk, &rule, known, STEP);
    if (count > 0) {
        size_t mark = ef_record_begin (buf, type, 0, EF_IDS_HEADER);
        ef_le32_put (buf->data + mark + EF_RECORD_HEAD, topic->index);
        ef_le32_put (buf->data + mark + EF_RECORD_HEAD + 4, count);
        s_put (known, count, type == EF_LOG_IDS ? EF_IDS_ITEM : CHECKPOINT_ITEM, buf);
        ef_record_end (buf, mark);
    }
    return count;
}

/* Writes ids again whose segment is to go. Returns the bytes written; under `most` it was all. */
uint64_t
ids_rescue (ef_core_t *self, topic_t *topic, uint32_t segment, uint64_t most) {
    ef_window_walk_t walk = {.segment = segment, .new_segment = self->newest_segment};
    uint64_t bytes = 0;
    while (topic->ids && topic->config.dedupe_ms && !walk.is_done && bytes < most) {
        ef_buf_t *buf = batch_buf (self);
        size_t before = buf->size;
        (void)s_write (self, topic, &walk, EF_LOG_IDS, buf);
        bytes += buf->size - before;
    }
    return bytes;
}

/* A part of a checkpoint. */
void
ids_checkpoint (ef_core_t *self, topic_t *topic, ef_window_walk_t *walk, uint8_t type,
                ef_buf_t *buf, size_t most) {
    walk->segment = UINT32_MAX;
    walk->is_done = walk->is_done || topic->ids == NULL || topic->config.dedupe_ms == 0;
    while (!walk->is_done && buf->size < most) {
        (void)s_write (self, topic, walk, type, buf);
    }
}

/* A record of ids of the journal or of a checkpoint. */
int
ids_load (ef_core_t *self, topic_t *topic, const ef_record_t *record, bool is_checkpoint) {
    uint32_t count = ef_le32 (record->body + 4);
    uint32_t item = is_checkpoint ? CHECKPOINT_ITEM : EF_IDS_ITEM;
    if (record->body_bytes < EF_IDS_HEADER + (uint64_t)count * item) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *at = record->body + EF_IDS_HEADER + (size_t)i * item;
        ef_known_t known = {.print = {ef_le64 (at), ef_le64 (at + 8)},
                            .accepted_ms = ef_le64 (at + 16),
                            .segment =
                                is_checkpoint ? ef_le32 (at + EF_IDS_ITEM) : record->segment};
        if (known.print.low == 0 && known.print.high == 0) {
            return -1;
        }
        s_restore (self, topic, &known, true);
    }
    return 0;
}

uint64_t
ids_digest (const ef_core_t *self, const topic_t *topic) {
    const ef_topic_config_t *config = &topic->config;
    if (topic->ids == NULL || config->dedupe_ms == 0) {
        return 0;
    }
    uint64_t start = self->wall > config->dedupe_ms ? self->wall - config->dedupe_ms : 0;
    /* Of a window that is full by count each way of recovery may keep others: those that were
       accepted in one ms with the last that was forgotten. */
    bool is_full = ef_window_count (topic->ids) >= config->dedupe_count ||
                   ef_window_floor (topic->ids) > start;
    return is_full ? 0 : ef_window_digest (topic->ids, start);
}
