/* What becomes of an event that failed, was given back, ended or died. SPDX-License-Identifier: MIT
 */
#include "core_private.h"

/* The entry of a leased event, made now where it had none. */
entry_t *
item_entry (ef_core_t *self, topic_t *topic, item_t *item) {
    if (item->entry == NULL) {
        entry_t *entry = entry_new (self, topic, item->n);
        entry->place = item->place;
        entry->bytes = item->bytes;
        entry->flags = item->flags & ENTRY_FLAGS;
        entry->state = EF_STATE_LEASED;
        item->entry = entry;
    }
    return item->entry;
}

/* Drops the items between the first and the last ones. */
static void
s_history_trim (history_t *history) {
    if (history->count <= EF_HISTORY_FIRST + EF_HISTORY_LAST) {
        return;
    }
    ef_cursor_t cursor = ef_cursor (history->items, history->bytes);
    for (unsigned i = 0; i < EF_HISTORY_FIRST; i++) {
        int rc = ef_skip (&cursor);
        ef_assert (rc == 0);
    }
    uint8_t *from = history->items + (cursor.at - history->items);
    int rc = ef_skip (&cursor);
    ef_assert (rc == 0);
    size_t gone = (size_t)(cursor.at - from);
    memmove (from, cursor.at, ef_cursor_left (&cursor));
    history->bytes -= (uint32_t)gone;
    history->count--;
}

void
history_add (ef_core_t *self, entry_t *entry, const uint8_t *item, size_t size) {
    uint32_t old = entry->history ? entry->history->bytes : 0;
    uint32_t count = entry->history ? entry->history->count : 0;
    history_t *history = realloc (entry->history, sizeof *history + old + size);
    ef_assert (history != NULL);
    memcpy (history->items + old, item, size);
    history->bytes = old + (uint32_t)size;
    history->count = count + 1;
    s_history_trim (history);
    self->history_bytes += history->bytes;
    self->history_bytes -= old;
    entry->history = history;
}

/* Replaces the history by a MessagePack array of items; an empty span: none. */
void
history_set (ef_core_t *self, entry_t *entry, ef_span_t array) {
    if (entry->history) {
        self->history_bytes -= entry->history->bytes;
        free (entry->history);
        entry->history = NULL;
    }
    ef_cursor_t cursor = ef_cursor (array.data, array.size);
    uint32_t count = 0;
    if (array.size == 0 || ef_get_array (&cursor, &count)) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *start = cursor.at;
        if (ef_skip (&cursor)) {
            return;
        }
        history_add (self, entry, start, (size_t)(cursor.at - start));
    }
}

/* As deliveries show it: [code, text, trace, ms, worker] of each. */
void
history_put_short (const history_t *history, ef_buf_t *out) {
    ef_put_array (out, history ? history->count : 0);
    ef_cursor_t cursor = ef_cursor (history ? history->items : NULL, history ? history->bytes : 0);
    for (uint32_t i = 0; history && i < history->count; i++) {
        uint32_t fields;
        int rc = ef_get_array (&cursor, &fields);
        const uint8_t *start = cursor.at;
        for (uint32_t k = 0; k < fields && rc == 0; k++) {
            rc = ef_skip (&cursor);
            if (k == 4) {
                ef_put_array (out, 5);
                ef_buf_put (out, start, (size_t)(cursor.at - start));
            }
        }
        ef_assert (rc == 0 && fields >= 5);
    }
}

void
history_put (const history_t *history, ef_buf_t *out) {
    ef_put_array (out, history ? history->count : 0);
    if (history) {
        ef_buf_put (out, history->items, history->bytes);
    }
}

/* Behind what everybody sees of an attempt: what it was, for the event's time-line. */
static void
s_put_more (const failure_t *failure, uint32_t attempt, uint64_t wait_ms, const char *rule,
            ef_buf_t *out) {
    ef_put_map (out, 6);
    ef_put_key_uint (out, "attempt", attempt);
    ef_put_key_str (out, "host", failure->worker->host);
    ef_put_key_uint (out, "pid", failure->worker->pid);
    ef_put_key_uint (out, "start", failure->started_ms);
    ef_put_key_uint (out, "delay", wait_ms);
    ef_put_key_str (out, "rule", rule);
}

static void
s_put_error (ef_core_t *self, const failure_t *failure, uint32_t attempt, uint64_t wait_ms,
             const char *rule, ef_buf_t *out) {
    /* Past the budget of all histories, or with a full disk, an attempt keeps its code only. */
    bool is_short = self->history_bytes > EF_HISTORY_BYTES || self->space == EF_SPACE_FULL;
    ef_put_array (out, is_short ? 5 : 6);
    if (failure->code.size) {
        ef_buf_put (out, failure->code.data, failure->code.size);
    } else {
        ef_put_nil (out);
    }
    ef_span_t text = failure->text;
    ef_span_t trace = failure->trace;
    if (text.size && !is_short) {
        ef_put_strn (out, text.data, text.size < EF_TEXT_MAX ? text.size : EF_TEXT_MAX);
    } else {
        ef_put_nil (out);
    }
    if (trace.size && !is_short) {
        ef_put_strn (out, trace.data, trace.size < EF_TRACE_MAX ? trace.size : EF_TRACE_MAX);
    } else {
        ef_put_nil (out);
    }
    ef_put_uint (out, self->wall);
    ef_put_str (out, failure->worker->name);
    if (!is_short) {
        s_put_more (failure, attempt, wait_ms, rule, out);
    }
}

static void
s_write_attempt (ef_core_t *self, const entry_t *entry, uint32_t flags, const ef_buf_t *error) {
    ef_buf_t *buf = batch_buf (self);
    size_t mark = ef_record_begin (buf, EF_LOG_ATTEMPT, 0, EF_ATTEMPT_HEADER);
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    ef_le32_put (header, entry_topic (self, entry)->index);
    ef_le16_put (header + 4, entry->tries);
    ef_le16_put (header + 6, (uint16_t)flags);
    ef_le64_put (header + 8, entry->n);
    ef_le64_put (header + 16, self->wall);
    ef_le64_put (header + 24, entry->due_ms);
    ef_buf_put (buf, error->data, error->size);
    ef_record_end (buf, mark);
}

static bool
s_is_past_ttl (ef_core_t *self, entry_t *entry) {
    const uint8_t *head =
        entry->flags & ENTRY_META ? place_find (self, &entry->place, false) : NULL;
    stored_t stored;
    ef_event_t event;
    if (head == NULL || stored_read (head, entry->place.rel, entry->place.index,
                                     entry->flags & ENTRY_COPY, &stored)) {
        return false; /* dispatch judges it again */
    }
    stored_event (&stored, &event);
    return stored_is_expired (&stored, &event, self->wall);
}

/* Says in the journal how an event that isn't leased waits from now on. */
void
wait_write (ef_core_t *self, const entry_t *entry) {
    ef_buf_t *buf = batch_buf (self);
    size_t mark = ef_record_begin (buf, EF_LOG_WAIT, 0, EF_WAIT_HEADER);
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    bool is_due = entry->state == EF_STATE_SCHEDULED || entry->state == EF_STATE_RETRYING;
    ef_le32_put (header, entry_topic (self, entry)->index);
    header[4] = entry->state;
    header[5] = entry->flags & ENTRY_AT ? 1 : 0;
    ef_le16_put (header + 6, entry->flags & ENTRY_INSERTING ? 0 : entry->tries);
    ef_le64_put (header + 8, entry->n);
    ef_le64_put (header + 16, is_due ? entry->due_ms : 0);
    ef_record_end (buf, mark);
}

/* Keeps what a worker gave with its ACK. */
void
result_write (ef_core_t *self, const topic_t *topic, uint64_t n, ef_span_t result) {
    ef_buf_t *buf = batch_buf (self);
    size_t mark = ef_record_begin (buf, EF_LOG_RESULT, 0, EF_RESULT_HEADER);
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    ef_le32_put (header, topic->index);
    ef_le32_put (header + 4, 0);
    ef_le64_put (header + 8, n);
    ef_le64_put (header + 16, self->wall);
    ef_buf_put (buf, result.data, result.size);
    ef_record_end (buf, mark);
}

/* It will be tried again: after a while, or, where its key is to be parked, once an operator says
   so. The key stays its own, unless others may pass. */
static void
s_retry_later (ef_core_t *self, entry_t *entry, uint64_t wait_ms) {
    topic_t *topic = entry_topic (self, entry);
    ef_blocked_t on_blocked = topic->config.on_blocked;
    bool has_key = key_of (topic, entry->n) != NULL;
    if (has_key && on_blocked == EF_BLOCKED_PARK) {
        topic_move (topic, EF_STATE_LEASED, EF_STATE_PARKED, 1);
        entry->state = EF_STATE_PARKED;
        entry->due_ms = 0;
        wait_write (self, entry);
        self->effects.notify (self->effects.arg, "parked", topic->config.name,
                              "an event failed; its key waits for an operator");
        return;
    }
    topic_move (topic, EF_STATE_LEASED, EF_STATE_RETRYING, 1);
    entry->state = EF_STATE_RETRYING;
    batch_after (self, (after_t){.kind = AFTER_RETRY,
                                 .peer = topic->index,
                                 .n = entry->n,
                                 .rel = entry->generation,
                                 .at_ms = self->now + wait_ms});
    if (has_key && on_blocked == EF_BLOCKED_SKIP) {
        key_free (self, topic, entry->n);
    }
}

static uint32_t
s_attempt_flags (ef_core_t *self, entry_t *entry, const failure_t *failure) {
    topic_t *topic = entry_topic (self, entry);
    bool is_back = !failure->is_unknown && units_give_back (self, topic, entry->n);
    return (key_of (topic, entry->n) ? EF_ATTEMPT_KEYED : 0) |
           (is_back ? EF_ATTEMPT_UNIT_BACK : 0) |
           (entry->flags & ENTRY_SUSPECT ? EF_ATTEMPT_SUSPECT : 0) |
           (entry->flags & ENTRY_ALONE ? EF_ATTEMPT_ALONE : 0);
}

static ef_failure_t
s_kind (const failure_t *failure, bool is_permanent) {
    return failure->kind != EF_FAILURE_ERROR   ? failure->kind
           : is_permanent                      ? EF_FAILURE_PERMANENT
           : report_is_timeout (failure->code) ? EF_FAILURE_TIMEOUT
                                               : EF_FAILURE_ERROR;
}

/* A counted failure of a leased event. */
void
fail_event (ef_core_t *self, entry_t *entry, const failure_t *failure) {
    topic_t *topic = entry_topic (self, entry);
    ef_buf_t error = {0};
    ef_assert (entry->state == EF_STATE_LEASED);
    (void)batch_buf (self); /* first, as in kill_event */
    const ef_rule_t *rule =
        ef_rules_find (topic->config.rules, topic->config.rule_count, failure->code);
    const ef_policy_t *policy = rule ? &rule->policy : &topic->config.retry;
    bool is_workers = failure->retry_ms >= 0 || failure->is_dead;
    const char *name = is_workers ? "worker" : rule ? rule->pattern : ef_policy_name (policy->kind);
    bool is_permanent = failure->is_dead || (rule && rule->is_permanent);
    entry->tries += entry->tries < TRIES_MAX;
    entry->generation = (uint32_t)++self->next_generation;
    topic->attempts_failed++;
    topic->failures[s_kind (failure, is_permanent)]++;
    bool is_last = is_permanent || failure->is_poison || entry->tries >= policy->attempts;
    uint64_t wait =
        failure->retry_ms >= 0
            ? (uint64_t)failure->retry_ms
            : ef_policy_wait_ms (policy, entry->tries, self->effects.random (self->effects.arg));
    s_put_error (self, failure, entry->tries, is_last ? 0 : wait, name, &error);
    history_add (self, entry, error.data, error.size);
    entry->due_ms = self->wall + wait;
    s_write_attempt (self, entry, s_attempt_flags (self, entry, failure), &error);
    ef_buf_free (&error);
    if (entry->flags & ENTRY_PURGE) {
        purge_one (self, entry);
    } else if (failure->is_poison) {
        self->effects.notify (self->effects.arg, "poison", topic->config.name,
                              "two processes died with the same event alone in hand");
        kill_event (self, entry, EF_REASON_POISON, failure->event, failure->worker);
    } else if (is_permanent) {
        kill_event (self, entry, EF_REASON_PERMANENT, failure->event, failure->worker);
    } else if (is_last) {
        kill_event (self, entry, EF_REASON_ATTEMPTS, failure->event, failure->worker);
    } else if (s_is_past_ttl (self, entry)) {
        kill_event (self, entry, EF_REASON_EXPIRED, failure->event, failure->worker);
    } else {
        s_retry_later (self, entry, wait);
    }
}

/* From here on its tries are attempts. */
void
insertion_end (topic_t *topic, entry_t *entry) {
    entry->flags &= ~(uint32_t)ENTRY_INSERTING & ENTRY_FLAGS;
    entry->tries = 0;
    topic->inserting--;
}

/* Decides that an event is dead; it leaves for the dead letters once that is durable. */
void
kill_event (ef_core_t *self, entry_t *entry, ef_reason_t reason, ef_span_t event,
            const worker_t *worker) {
    topic_t *topic = entry_topic (self, entry);
    ef_buf_t *buf = batch_buf (self); /* first: a new batch may begin with the counts as they are */
    entry_unready (self, entry);
    if (entry->flags & ENTRY_INSERTING) {
        insertion_end (topic, entry);
    }
    topic_move (topic, (ef_state_t)entry->state, EF_STATE_DEAD, 1);
    topic_shrink (topic, entry->bytes);
    entry->state = EF_STATE_DEAD;
    entry->reason = (unsigned)reason & 15;
    entry->dead_ms = self->wall;
    entry->m = ++topic->m;
    entry->generation = (uint32_t)++self->next_generation;
    topic->deaths[reason]++;
    topic->overflowed += reason == EF_REASON_OVERFLOW;
    topic->permanent += reason == EF_REASON_PERMANENT || reason == EF_REASON_POISON;
    size_t mark = ef_record_begin (buf, EF_LOG_DEAD, 0, EF_DEAD_HEADER);
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    ef_le32_put (header, topic->index);
    header[4] = (uint8_t)reason;
    ef_le64_put (header + 8, entry->n);
    ef_le64_put (header + 16, entry->m);
    ef_le64_put (header + 24, entry->dead_ms);
    ef_record_end (buf, mark);
    outbox_push (topic, entry);
    batch_after (self, (after_t){.kind = AFTER_DEAD, .peer = topic->index});
    ended_t ended = {.n = entry->n,
                     .attempts = entry->tries,
                     .reason = reason,
                     .history = entry->history,
                     .worker = worker};
    emit_ended (self, topic, event, &ended);
    key_pass_on (self, topic, entry->n);
    self->effects.notify (self->effects.arg, "dead", topic->config.name, ef_reason_name (reason));
}

/* It dies without having begun: its time is over, or there is no unit for it. Its record is in
   memory. */
void
end_unbegun (ef_core_t *self, entry_t *entry, const stored_t *stored, ef_reason_t reason) {
    ef_buf_t event = {0};
    if (emit_needs_event (entry_topic (self, entry), stored)) {
        (void)stored_write_event (ef_buf_add (&event, stored_event_size (stored)), stored);
    }
    if (reason == EF_REASON_EXPIRED) {
        self->effects.notify (self->effects.arg, "expired", entry_topic (self, entry)->config.name,
                              "an event wasn't begun within its ttl");
    }
    kill_event (self, entry, reason, span_of (event.data, event.size), NULL);
    ef_buf_free (&event);
}

/* A leased event goes back to its place, uncounted. */
void
give_back (ef_core_t *self, topic_t *topic, item_t *item) {
    entry_t *entry = item_entry (self, topic, item);
    item->entry = NULL;
    entry->tag = entry->tag ? entry->tag : TAG_GONE;
    breakers_outcome (self, topic, item, span_of (NULL, 0), OUTCOME_NONE);
    if (entry->flags & ENTRY_PURGE) {
        purge_one (self, entry);
        return;
    }
    topic_move (topic, EF_STATE_LEASED, EF_STATE_READY, 1);
    entry_ready (self, entry);
}

/* An event ended well. `entry` may be NULL. */
void
finish_event (ef_core_t *self, topic_t *topic, uint64_t n, entry_t *entry, uint64_t bytes,
              ef_state_t from) {
    batch_end_event (self, topic, n); /* first, as in kill_event */
    topic_move (topic, from, EF_STATE_DONE, 1);
    topic_shrink (topic, bytes);
    if (entry) {
        entry_free (self, &entry);
    }
    key_pass_on (self, topic, n);
}

/* Another try to insert an event that found its topic full; the first one at acceptance too. */
void
insert_again (ef_core_t *self, entry_t *entry) {
    topic_t *topic = entry_topic (self, entry);
    const ef_topic_config_t *config = &topic->config;
    if (entry->tries > 0 && !topic_is_full (topic)) {
        insertion_end (topic, entry);
        topic_move (topic, EF_STATE_RETRYING, EF_STATE_READY, 1);
        entry_ready (self, entry);
        return;
    }
    entry->tries += self->space != EF_SPACE_FULL; /* then nothing overflows: it waits */
    topic->insert_failed++;
    if (entry->tries > config->insert_attempts || topic->inserting > config->insert_capacity) {
        self->effects.notify (self->effects.arg, "overflow", config->name,
                              entry->tries > config->insert_attempts
                                  ? "insertion attempts used up"
                                  : "too many events wait for insertion");
        kill_event (self, entry, EF_REASON_OVERFLOW, span_of (NULL, 0), NULL);
        return;
    }
    const ef_policy_t policy = {.base_ms = config->insert_base_ms,
                                .cap_ms = config->insert_cap_ms,
                                .factor = 2.0,
                                .jitter = 1.0};
    uint64_t wait =
        ef_policy_wait_ms (&policy, entry->tries, self->effects.random (self->effects.arg));
    entry->due_ms = self->wall + wait;
    self->effects.retry_at (self->effects.arg, topic->index, entry->n, entry->generation,
                            self->now + wait);
}

/* A wait is over. */
void
ef_core_due (ef_core_t *self, uint32_t index, uint64_t n, uint32_t generation) {
    topic_t *topic = index < self->topic_count ? self->topics[index] : NULL;
    entry_t *entry = topic ? entry_find (topic, n) : NULL;
    if (entry == NULL || entry->generation != generation) {
        return; /* it ended or moved on while the notice was on its way */
    }
    if (entry->flags & ENTRY_INSERTING) {
        insert_again (self, entry);
    } else if (entry->state == EF_STATE_RETRYING && entry->tries > 0 &&
               !ef_budget_take (&topic->budget, topic->config.retry_budget, self->now)) {
        self->effects.retry_at (
            self->effects.arg, index, n, generation,
            ef_budget_next_ms (&topic->budget, topic->config.retry_budget, self->now));
    } else if (entry->state == EF_STATE_RETRYING || entry->state == EF_STATE_SCHEDULED) {
        topic_move (topic, (ef_state_t)entry->state, EF_STATE_READY, 1);
        entry_ready (self, entry);
    }
}
