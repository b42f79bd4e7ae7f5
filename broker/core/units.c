/* A topic's quota: units are taken when events are to go out, and journaled before they do.
   SPDX-License-Identifier: MIT

   A unit belongs to its event until that has ended: done, it is spent; a try that failed and says
   so gives it back; of one whose outcome nobody knows, a lease that ran out or a restart, the next
   delivery needs none. */
#include "core_private.h"

#include <stdio.h>

#define STEP 256u /* units at a time */

/* Whom an event is counted for. One that doesn't say counts with all others that don't. */
static ef_span_t
s_subject (const topic_t *topic, const ef_event_t *event) {
    ef_span_t span = topic->config.quota.by == EF_BY_USER  ? event->user
                     : topic->config.quota.by == EF_BY_KEY ? event->key
                                                           : span_of ("", 0);
    return span.data ? span : span_of ("", 0);
}

static void
s_print (const ef_core_t *self, ef_span_t subject, uint8_t print[EF_SUBJECT_BYTES]) {
    ef_print_t fingerprint = ids_print (self, subject);
    ef_le64_put (print, fingerprint.low);
    ef_le64_put (print + 8, fingerprint.high);
}

static void
s_write (const topic_t *topic, const ef_unit_t *unit, uint8_t type, ef_buf_t *buf) {
    bool is_checkpoint = type != EF_LOG_UNIT;
    size_t mark = ef_record_begin (buf, type, 0, EF_UNIT_HEADER);
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    ef_le32_put (header, topic->index);
    ef_le32_put (header + 4, is_checkpoint ? unit->segment : 0);
    ef_le64_put (header + 8, unit->n);
    ef_le64_put (header + 16, unit->taken_ms);
    memcpy (header + 24, unit->subject, EF_SUBJECT_BYTES);
    ef_record_end (buf, mark);
}

/* May the event go now? UNIT_TAKEN: once the record of its unit is durable. UNIT_OVER: not before
   what its gate says, or never. */
unit_answer_t
units_judge (ef_core_t *self, topic_t *topic, const ef_event_t *event, uint64_t n, gate_t **gate) {
    const ef_quota_config_t *config = &topic->config.quota;
    ef_unit_t unit = {.n = n, .taken_ms = self->wall, .segment = self->newest_segment};
    ef_span_t subject = s_subject (topic, event);
    uint64_t until_ms;
    s_print (self, subject, unit.subject);
    ef_quota_answer_t answer = ef_quota_take (&topic->quota, config, &unit, &until_ms);
    if (answer == EF_QUOTA_HELD) {
        return UNIT_HELD;
    }
    if (answer == EF_QUOTA_TAKEN) {
        s_write (topic, &unit, EF_LOG_UNIT, batch_buf (self));
        *gate = gate_require (self, topic, GATE_UNIT, span_of (NULL, 0));
        batch_after (self, (after_t){.kind = AFTER_UNIT, .peer = topic->index, .n = n});
        return UNIT_TAKEN;
    }
    if (answer == EF_QUOTA_OVER && config->is_dead_when_over) {
        return UNIT_DEAD;
    }
    *gate = gate_require (self, topic, GATE_QUOTA, span_of (unit.subject, EF_SUBJECT_BYTES));
    gate_label (*gate, subject);
    if ((*gate)->waiting.count == 0) {
        char text[160];
        const char *all = config->by == EF_BY_USER  ? "what names no user"
                          : config->by == EF_BY_KEY ? "what has no key"
                                                    : "the topic";
        snprintf (text, sizeof text, "%s%.*s has used up its %u units", subject.size ? "" : all,
                  subject.size < 64 ? (int)subject.size : 64, subject.size ? subject.data : "",
                  config->limit);
        self->effects.notify (self->effects.arg, "quota", topic->config.name, text);
    }
    (*gate)->until_ms = until_ms;
    return UNIT_OVER;
}

/* Lets those of a gate go on, to be judged anew. Those behind them are asked again in a while. */
static void
s_open (ef_core_t *self, topic_t *topic, gate_t *gate, uint32_t most) {
    gate->until_ms = self->wall + 1000;
    topic->gates_next_ms =
        gate->until_ms < topic->gates_next_ms ? gate->until_ms : topic->gates_next_ms;
    gate_open (self, topic, gate, most);
}

/* A try that failed for certain gives its unit back, and the next one of its subject may have it.
   True: it had one. */
bool
units_give_back (ef_core_t *self, topic_t *topic, uint64_t n) {
    uint8_t subject[EF_SUBJECT_BYTES];
    if (!ef_quota_give_back (&topic->quota, n, subject)) {
        return false;
    }
    gate_t *gate = gate_find (self, topic, GATE_QUOTA, span_of (subject, EF_SUBJECT_BYTES));
    if (gate) {
        s_open (self, topic, gate, 1);
    }
    return true;
}

/* Opens the gates of subjects whose window has turned, or, with other settings, of all. */
void
units_tick (ef_core_t *self, topic_t *topic) {
    if (self->wall < topic->gates_next_ms) {
        return;
    }
    bool is_all = topic->gates_next_ms == 0;
    uint32_t limit = topic->config.quota.limit;
    uint64_t next = UINT64_MAX;
    gate_t *gate;
    topic->gates_next_ms = UINT64_MAX;
    for (uint32_t at = 0; (gate = ef_hash_next (&topic->gates, &at)) != NULL;) {
        if (gate->name[0] != GATE_QUOTA) {
            continue;
        }
        if (!is_all && gate->until_ms > self->wall) {
            next = gate->until_ms < next ? gate->until_ms : next;
            continue;
        }
        uint32_t count = topic->gates.count;
        uint32_t capacity = topic->gates.capacity;
        s_open (self, topic, gate, limit ? limit : UINT32_MAX);
        if (topic->gates.count < count) {
            /* Another one may be in its place now; a table that shrank is in a new order. */
            at = topic->gates.capacity == capacity ? at - 1 : 0;
        }
    }
    topic->gates_next_ms = next < topic->gates_next_ms ? next : topic->gates_next_ms;
}

/* Writes units again whose segment is to go. Returns the bytes written. */
uint64_t
units_rescue (ef_core_t *self, topic_t *topic, uint32_t segment) {
    ef_unit_t units[STEP];
    uint64_t bytes = 0;
    uint32_t count;
    while (topic->config.quota.limit &&
           ef_quota_expire (&topic->quota, &topic->config.quota, self->wall, 4096)) {
        /* what is over needn't be written again */
    }
    while ((count = ef_quota_gather (&topic->quota, segment, units, STEP)) > 0) {
        ef_buf_t *buf = batch_buf (self);
        size_t before = buf->size;
        for (uint32_t i = 0; i < count; i++) {
            s_write (topic, &units[i], EF_LOG_UNIT, buf);
            ef_quota_relocate (&topic->quota, units[i].n, self->newest_segment);
        }
        bytes += buf->size - before;
    }
    return bytes;
}

/* A part of a checkpoint. False: that was all of the topic's. */
bool
units_checkpoint (const topic_t *topic, uint32_t *position, uint8_t type, ef_buf_t *buf,
                  size_t most) {
    ef_unit_t units[STEP];
    bool has_more = true;
    while (has_more && buf->size < most) {
        uint32_t count = STEP;
        has_more = ef_quota_walk (&topic->quota, position, units, &count);
        for (uint32_t i = 0; i < count; i++) {
            s_write (topic, &units[i], type, buf);
        }
    }
    return has_more;
}

int
units_load (topic_t *topic, const ef_record_t *record, bool is_checkpoint) {
    const uint8_t *header = record->body;
    if (record->body_bytes < EF_UNIT_HEADER) {
        return -1;
    }
    ef_unit_t unit = {.n = ef_le64 (header + 8),
                      .taken_ms = ef_le64 (header + 16),
                      .segment = is_checkpoint ? ef_le32 (header + 4) : record->segment};
    memcpy (unit.subject, header + 24, EF_SUBJECT_BYTES);
    ef_quota_add (&topic->quota, &unit);
    return 0;
}
