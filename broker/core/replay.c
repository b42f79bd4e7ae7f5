/* Replay of the main journal. SPDX-License-Identifier: MIT

   Totals follow the records: TOPIC sets them, every later record adds to them. What is live is
   counted from the tables when the replay ends. */
#include "core_private.h"

topic_t *
replay_topic (const ef_core_t *self, uint32_t id) {
    if (self->topic_ids == NULL || id >= EF_TOPICS_MAX || self->topic_ids[id] == UINT32_MAX) {
        return NULL;
    }
    return self->topics[self->topic_ids[id]];
}

/* From here on `id` means the topic of that name. NULL: it makes no sense. */
topic_t *
replay_name (ef_core_t *self, uint32_t id, const char *name, uint32_t bytes) {
    if (bytes == 0 || id >= EF_TOPICS_MAX) {
        return NULL;
    }
    if (self->topic_ids == NULL) {
        self->topic_ids = malloc (EF_TOPICS_MAX * sizeof *self->topic_ids);
        ef_assert (self->topic_ids != NULL);
        memset (self->topic_ids, 0xff, EF_TOPICS_MAX * sizeof *self->topic_ids);
    }
    topic_t *topic = topic_require (self, name, bytes);
    if (topic) {
        self->topic_ids[id] = topic->index;
    }
    return topic;
}

static int
s_replay_topic (ef_core_t *self, const ef_record_t *record) {
    const uint8_t *header = record->body;
    if (record->header_bytes < EF_TOPIC_HEADER_1 ||
        record->body_bytes < record->header_bytes + (uint32_t)header[88]) {
        return -1;
    }
    topic_t *topic = replay_name (self, ef_le32 (header),
                                  (const char *)header + record->header_bytes, header[88]);
    if (topic == NULL) {
        return -1;
    }
    topic->purge_floor = record->header_bytes >= EF_TOPIC_HEADER ? ef_le64 (header + 89) : 0;
    uint32_t flags = ef_le32 (header + 4);
    topic->is_paused = flags & EF_TOPIC_FLAG_PAUSED;
    topic->is_draining = flags & EF_TOPIC_FLAG_DRAINING;
    topic->next_n = ef_le64 (header + 8);
    topic->m = ef_le64 (header + 16);
    topic->b = ef_le64 (header + 24);
    topic->accepted = ef_le64 (header + 32);
    topic->counts[EF_STATE_DONE] = ef_le64 (header + 40);
    topic->counts[EF_STATE_DEAD] = ef_le64 (header + 48);
    topic->counts[EF_STATE_ARCHIVED] = ef_le64 (header + 56);
    topic->counts[EF_STATE_PURGED] = ef_le64 (header + 64);
    topic->attempts_failed = ef_le64 (header + 72);
    topic->deliveries = ef_le64 (header + 80);
    return 0;
}

static int
s_replay_events (ef_core_t *self, const ef_record_t *record) {
    const uint8_t *header = record->body;
    if (record->body_bytes < EF_EVENTS_HEADER) {
        return -1;
    }
    topic_t *topic = replay_topic (self, ef_le32 (header));
    uint32_t count = ef_le32 (header + 4);
    uint64_t first = ef_le64 (header + 8);
    uint32_t outcome = ef_le32 (header + 40);
    uint64_t least = (uint64_t)EF_EVENTS_HEADER + outcome + 4ull * count;
    if (topic == NULL || record->body_bytes < least || count == 0) {
        return -1;
    }
    topic->accepted += count;
    topic->next_n = first + count > topic->next_n ? first + count : topic->next_n;
    if (outcome >= EF_OUTCOME_HEAD + 8) {
        const uint8_t *at = header + EF_EVENTS_HEADER;
        uint32_t accepted = ef_le32 (at + 24) + ef_le32 (at + 28);
        session_replay (self, at, outcome, accepted ? accepted : 1);
    }
    ids_replay (self, topic, header - EF_RECORD_HEAD, record->segment);
    return adopt_record (self, topic, header - EF_RECORD_HEAD, record->segment, record->offset,
                         false);
}

static int
s_replay_copies (ef_core_t *self, const ef_record_t *record) {
    if (record->body_bytes < EF_COPIES_HEADER) {
        return -1;
    }
    topic_t *topic = replay_topic (self, ef_le32 (record->body));
    uint32_t count = ef_le32 (record->body + 4);
    if (topic == NULL) {
        return -1;
    }
    uint64_t dead = topic->m;
    if (adopt_record (self, topic, record->body - EF_RECORD_HEAD, record->segment, record->offset,
                      true)) {
        return -1;
    }
    bool is_return = ef_le64 (record->body + 8) != 0;
    bool is_invalid = record->flags & EF_COPIES_FLAG_INVALID;
    if (is_return || is_invalid) {
        const uint8_t *first = record->body + EF_COPIES_HEADER;
        uint64_t last = count ? ef_le64 (first) + count - 1 : 0;
        topic->next_n = last >= topic->next_n ? last + 1 : topic->next_n;
    }
    if (is_invalid) {
        ef_assert (topic->m == dead + count);
        topic->accepted += count;
        topic->counts[EF_STATE_DEAD] += count;
    }
    return 0;
}

/* The entry of an event, taken out of its extent where it has none yet; NULL: unknown. */
static entry_t *
s_entry (ef_core_t *self, topic_t *topic, uint64_t n) {
    entry_t *entry = entry_find (topic, n);
    ef_extent_at_t at;
    uint64_t bytes;
    if (entry && self->is_partial) { /* its record may have come once more, after the checkpoint */
        (void)ef_extents_cut (&topic->extents, n, n, &bytes);
    }
    if (entry) {
        return entry;
    }
    ef_extent_t *extent = ef_extents_find (&topic->extents, n, &at);
    if (extent == NULL) {
        return NULL;
    }
    entry = entry_new (self, topic, n);
    uint32_t skip = (uint32_t)(n - extent->n);
    entry->place =
        (place_t){extent->segment, extent->offset, skip ? 0 : extent->rel, extent->index + skip};
    entry->flags = extent->is_copy ? ENTRY_COPY : 0;
    entry->state = EF_STATE_RETRYING;
    (void)ef_extents_cut (&topic->extents, n, n, &bytes);
    entry->bytes = (uint32_t)bytes;
    return entry;
}

static int
s_replay_ends (ef_core_t *self, const ef_record_t *record) {
    for (uint32_t at = record->header_bytes; at + EF_ENDS_ITEM <= record->body_bytes;
         at += EF_ENDS_ITEM) {
        const uint8_t *item = record->body + at;
        topic_t *topic = replay_topic (self, ef_le32 (item));
        uint32_t count = ef_le32 (item + 4);
        uint64_t first = ef_le64 (item + 8);
        if (topic == NULL || count == 0) {
            return -1;
        }
        uint64_t bytes;
        (void)ef_extents_cut (&topic->extents, first, first + count - 1, &bytes);
        for (uint64_t n = first; topic->entries.count > 0 && n < first + count; n++) {
            entry_t *entry = entry_find (topic, n);
            if (entry && entry->state != EF_STATE_DEAD) {
                entry_free (self, &entry);
            }
        }
        topic->counts[EF_STATE_DONE] += count;
    }
    return 0;
}

static int
s_replay_attempt (ef_core_t *self, const ef_record_t *record) {
    const uint8_t *header = record->body;
    topic_t *topic =
        record->body_bytes >= EF_ATTEMPT_HEADER ? replay_topic (self, ef_le32 (header)) : NULL;
    if (topic == NULL) {
        return -1;
    }
    topic->attempts_failed++;
    if (ef_le16 (header + 6) & EF_ATTEMPT_UNIT_BACK) {
        (void)units_give_back (self, topic, ef_le64 (header + 8)); /* it may be long over */
    }
    entry_t *entry = s_entry (self, topic, ef_le64 (header + 8));
    if (entry == NULL) {
        return 0;
    }
    if (self->is_partial && entry->tries >= ef_le16 (header + 4)) {
        return 0; /* the checkpoint knew it */
    }
    uint32_t flags = ef_le16 (header + 6);
    entry_unready (self, entry);
    entry->state = EF_STATE_RETRYING;
    entry->tries = ef_le16 (header + 4) & TRIES_MAX;
    entry->flags &= ~(uint32_t)(ENTRY_SUSPECT | ENTRY_ALONE) & ENTRY_FLAGS;
    entry->flags |= (flags & EF_ATTEMPT_KEYED ? ENTRY_KEYED : 0) |
                    (flags & EF_ATTEMPT_SUSPECT ? ENTRY_SUSPECT : 0) |
                    (flags & EF_ATTEMPT_ALONE ? ENTRY_ALONE : 0);
    entry->due_ms = ef_le64 (header + 24);
    history_add (self, entry, header + record->header_bytes,
                 record->body_bytes - record->header_bytes);
    return 0;
}

/* The checkpoint may know of later attempts than a record tells of. */
static int
s_replay_wait (ef_core_t *self, const ef_record_t *record) {
    const uint8_t *header = record->body;
    topic_t *topic =
        record->body_bytes >= EF_WAIT_HEADER ? replay_topic (self, ef_le32 (header)) : NULL;
    uint32_t state = header[4];
    bool is_known = state == EF_STATE_READY || state == EF_STATE_SCHEDULED ||
                    state == EF_STATE_RETRYING || state == EF_STATE_PARKED;
    if (topic == NULL || !is_known) {
        return -1;
    }
    entry_t *entry = s_entry (self, topic, ef_le64 (header + 8));
    if (entry && entry->state != EF_STATE_DEAD && entry->tries == ef_le16 (header + 6)) {
        entry_unready (self, entry);
        entry->state = state & 15;
        entry->due_ms = ef_le64 (header + 16);
        entry->flags &= ~(uint32_t)ENTRY_AT & ENTRY_FLAGS;
        entry->flags |= header[5] ? ENTRY_AT : 0;
        if (state == EF_STATE_READY) {
            entry_ready (self, entry);
        }
    }
    return 0;
}

static int
s_replay_death (ef_core_t *self, const ef_record_t *record) {
    const uint8_t *header = record->body;
    topic_t *topic =
        record->body_bytes >= EF_DEAD_HEADER ? replay_topic (self, ef_le32 (header)) : NULL;
    if (topic == NULL) {
        return -1;
    }
    topic->counts[EF_STATE_DEAD]++;
    topic->m = ef_le64 (header + 16);
    entry_t *entry = s_entry (self, topic, ef_le64 (header + 8));
    if (entry) {
        entry_unready (self, entry);
        entry->state = EF_STATE_DEAD;
        entry->reason = header[4] & 15;
        entry->m = topic->m;
        entry->dead_ms = ef_le64 (header + 24);
    }
    return 0;
}

static void
s_purge_entries (ef_core_t *self, topic_t *topic, uint64_t up_to, const uint8_t *exempt,
                 uint32_t count) {
    entry_t *entry;
    for (uint32_t position = 0; (entry = ef_hash_next (&topic->entries, &position)) != NULL;) {
        bool is_exempt = entry->n > up_to || entry->state == EF_STATE_DEAD;
        for (uint32_t i = 0; i < count && !is_exempt; i++) {
            is_exempt = ef_le64 (exempt + 8 * i) == entry->n;
        }
        if (!is_exempt) {
            uint32_t capacity = topic->entries.capacity;
            entry_free (self, &entry);
            position = topic->entries.capacity == capacity ? position - 1 : 0;
        }
    }
}

static int
s_replay_purge (ef_core_t *self, const ef_record_t *record) {
    const uint8_t *header = record->body;
    topic_t *topic =
        record->body_bytes >= EF_PURGE_HEADER ? replay_topic (self, ef_le32 (header)) : NULL;
    uint32_t listed = topic ? ef_le32 (header + 4) : 0;
    if (topic == NULL || record->body_bytes < EF_PURGE_HEADER + 8ull * listed) {
        return -1;
    }
    const uint8_t *list = header + record->header_bytes;
    uint64_t bytes;
    topic->counts[EF_STATE_PURGED] += ef_le64 (header + 16);
    if (record->flags & EF_PURGE_FLAG_LIST) {
        for (uint32_t i = 0; i < listed; i++) {
            uint64_t n = ef_le64 (list + 8 * i);
            entry_t *entry = entry_find (topic, n);
            (void)ef_extents_cut (&topic->extents, n, n, &bytes);
            if (entry && entry->state != EF_STATE_DEAD) {
                entry_free (self, &entry);
            }
        }
        return 0;
    }
    uint64_t up_to = ef_le64 (header + 8);
    topic->purge_floor = up_to;
    /* Those listed were out with workers: they get entries, so that the rest can go as a whole. */
    for (uint32_t i = 0; i < listed; i++) {
        entry_t *entry = s_entry (self, topic, ef_le64 (list + 8 * i));
        if (entry && entry->tries == 0) {
            entry->due_ms = 0;
        }
    }
    (void)ef_extents_cut (&topic->extents, 0, up_to, &bytes);
    s_purge_entries (self, topic, up_to, list, listed);
    return 0;
}

static int
s_replay_return (ef_core_t *self, const ef_record_t *record) {
    const uint8_t *header = record->body;
    topic_t *topic =
        record->body_bytes >= EF_RETURN_HEADER ? replay_topic (self, ef_le32 (header)) : NULL;
    if (topic == NULL) {
        return -1;
    }
    uint32_t count = ef_le32 (header + 4);
    uint64_t dead = topic->counts[EF_STATE_DEAD];
    topic->b = ef_le64 (header + 8);
    topic->accepted += count > dead ? count - dead : 0;
    topic->counts[EF_STATE_DEAD] = count > dead ? 0 : dead - count;
    topic->counts[EF_STATE_PURGED] += ef_le32 (header + 16);
    return 0;
}

/* For those who look for it later; nothing in hand depends on it. */
static int
s_replay_result (ef_core_t *self, const ef_record_t *record) {
    return record->body_bytes >= EF_RESULT_HEADER && replay_topic (self, ef_le32 (record->body))
               ? 0
               : -1;
}

static int
s_replay_tags (ef_core_t *self, const ef_record_t *record) {
    if (record->body_bytes < EF_TAGS_HEADER) {
        return -1;
    }
    uint64_t limit = ef_le64 (record->body);
    self->tag_limit = limit > self->tag_limit ? limit : self->tag_limit;
    return 0;
}

static int
s_replay_seed (ef_core_t *self, const ef_record_t *record) {
    if (record->body_bytes < EF_SEED_HEADER) {
        return -1;
    }
    self->print_key[0] = ef_le64 (record->body);
    self->print_key[1] = ef_le64 (record->body + 8);
    return 0;
}

static int
s_replay_ids (ef_core_t *self, const ef_record_t *record) {
    topic_t *topic =
        record->body_bytes >= EF_IDS_HEADER ? replay_topic (self, ef_le32 (record->body)) : NULL;
    return topic ? ids_load (self, topic, record, false) : -1;
}

static int
s_replay_unit (ef_core_t *self, const ef_record_t *record) {
    topic_t *topic =
        record->body_bytes >= EF_UNIT_HEADER ? replay_topic (self, ef_le32 (record->body)) : NULL;
    return topic ? units_load (topic, record, false) : -1;
}

static int
s_replay_breaker (ef_core_t *self, const ef_record_t *record) {
    topic_t *topic = record->body_bytes >= EF_BREAKER_HEADER
                         ? replay_topic (self, ef_le32 (record->body))
                         : NULL;
    return topic ? breaker_load (topic, record) : -1;
}

static int
s_replay_session (ef_core_t *self, const ef_record_t *record) {
    if (record->body_bytes < EF_SESSION_HEADER) {
        return -1;
    }
    session_replay_absolute (self, record);
    return 0;
}

static int
s_replay_session_end (ef_core_t *self, const ef_record_t *record) {
    session_t *session = record->body_bytes >= 16 ? session_find (self, record->body) : NULL;
    if (session) {
        session_forget (self, session);
    }
    return record->body_bytes >= 16 ? 0 : -1;
}

int
ef_core_replay (ef_core_t *self, const ef_record_t *record) {
    static int (*const replays[]) (ef_core_t *, const ef_record_t *) = {
        [EF_LOG_EVENTS] = s_replay_events,
        [EF_LOG_COPIES] = s_replay_copies,
        [EF_LOG_ENDS] = s_replay_ends,
        [EF_LOG_ATTEMPT] = s_replay_attempt,
        [EF_LOG_DEAD] = s_replay_death,
        [EF_LOG_PURGE] = s_replay_purge,
        [EF_LOG_RETURN] = s_replay_return,
        [EF_LOG_TOPIC] = s_replay_topic,
        [EF_LOG_TAGS] = s_replay_tags,
        [EF_LOG_SESSION] = s_replay_session,
        [EF_LOG_SESSION_END] = s_replay_session_end,
        [EF_LOG_SEED] = s_replay_seed,
        [EF_LOG_IDS] = s_replay_ids,
        [EF_LOG_WAIT] = s_replay_wait,
        [EF_LOG_UNIT] = s_replay_unit,
        [EF_LOG_BREAKER] = s_replay_breaker,
        [EF_LOG_RESULT] = s_replay_result,
    };
    ef_assert (self->is_replaying);
    if (record->type >= sizeof replays / sizeof replays[0] || replays[record->type] == NULL) {
        return -1;
    }
    return replays[record->type](self, record);
}

static int
s_by_m (const void *a, const void *b) {
    const entry_t *x = *(entry_t *const *)a;
    const entry_t *y = *(entry_t *const *)b;
    return x->m < y->m ? -1 : x->m > y->m;
}

/* What died and isn't known to be over there is on its way again, in order. */
static void
s_fill_outbox (topic_t *topic) {
    uint32_t position = 0;
    entry_t *entry;
    while ((entry = ef_hash_next (&topic->entries, &position)) != NULL) {
        if (entry->state == EF_STATE_DEAD) {
            outbox_push (topic, entry);
        }
    }
    ef_assert (topic->outbox_head == 0);
    if (topic->outbox_count > 1) {
        qsort (topic->outbox, topic->outbox_count, sizeof (entry_t *), s_by_m);
    }
    topic->outbox_durable = topic->outbox_count;
}

/* An event that has failed has its key still, unless others may pass it. */
static bool
s_may_have_key (const topic_t *topic, const entry_t *entry) {
    return (topic->config.on_blocked != EF_BLOCKED_SKIP || entry->state == EF_STATE_PARKED) &&
           (topic->config.order == EF_ORDER_TOPIC || (entry->flags & ENTRY_KEYED));
}

/* Counts what is live, puts what waits back to waiting. */
static void
s_settle_topic (ef_core_t *self, topic_t *topic) {
    topic->expiry.next_ms = self->wall; /* what may be over is looked for */
    ef_extent_at_t at;
    uint64_t bytes;
    uint32_t position = 0;
    entry_t *entry;
    topic->bytes = 0;
    for (unsigned i = EF_STATE_READY; i <= EF_STATE_PARKED; i++) {
        topic->counts[i] = 0;
    }
    while ((entry = ef_hash_next (&topic->entries, &position)) != NULL) {
        if (self->is_partial) {
            (void)ef_extents_cut (&topic->extents, entry->n, entry->n, &bytes);
        }
        topic->suspects += (entry->flags & ENTRY_SUSPECT) != 0; /* dead ones too, until they go */
        if (entry->state == EF_STATE_DEAD) {
            continue;
        }
        topic->bytes += entry->bytes;
        topic->counts[entry->state]++;
        if (entry->tries > 0 && s_may_have_key (topic, entry)) {
            claims_add (topic, entry->n);
        }
        if (entry->state == EF_STATE_RETRYING || entry->state == EF_STATE_SCHEDULED) {
            uint64_t wait = entry->due_ms > self->wall ? entry->due_ms - self->wall : 0;
            self->effects.retry_at (self->effects.arg, topic->index, entry->n, entry->generation,
                                    self->now + wait);
        }
    }
    for (ef_extent_t *extent = ef_extents_first (&topic->extents, &at); extent;
         extent = ef_extents_next (&topic->extents, &at)) {
        topic->counts[EF_STATE_READY] += extent->count;
        topic->bytes += extent->bytes;
    }
    s_fill_outbox (topic);
}

/* What a purge spared because it was out with a worker is gone now. */
static void
s_purge_spared (ef_core_t *self, topic_t *topic) {
    uint32_t position = 0;
    ef_extent_at_t at;
    const ef_extent_t *first = ef_extents_first (&topic->extents, &at);
    bool is_any = first && first->n <= topic->purge_floor;
    const entry_t *entry;
    while (!is_any && (entry = ef_hash_next (&topic->entries, &position)) != NULL) {
        is_any = entry->n <= topic->purge_floor && entry->state != EF_STATE_DEAD;
    }
    if (is_any) {
        (void)purge_up_to (self, topic, topic->purge_floor);
    }
}

void
ef_core_start (ef_core_t *self, const ef_core_log_t *log) {
    self->epoch = log->epoch;
    self->oldest_segment = log->oldest_segment;
    self->newest_segment = log->oldest_segment + log->size_count - (log->size_count > 0);
    for (uint32_t i = 0; i < log->size_count; i++) {
        sizes_add (self, log->oldest_segment + i, log->sizes[i]);
    }
    self->next_tag = self->tag_limit ? self->tag_limit : 1;
    self->segment_fill = UINT64_MAX / 2; /* the first batch begins a segment */
    self->checkpoint.since = log->replayed_bytes;
    for (uint32_t i = 0; i < self->topic_count; i++) {
        s_settle_topic (self, self->topics[i]);
        breakers_start (self, self->topics[i]);
        self->topics[i]->failed_before = self->topics[i]->attempts_failed;
        self->topics[i]->m_before = self->topics[i]->m;
    }
    self->is_replaying = self->is_partial = false;
    if (self->print_key[0] == 0 && self->print_key[1] == 0) {
        self->print_key[0] = self->effects.random (self->effects.arg) | 1;
        self->print_key[1] = self->effects.random (self->effects.arg);
    }
    free (self->topic_ids);
    self->topic_ids = NULL;
    (void)batch_buf (self); /* with all absolute values, under the numbers of this run */
    for (uint32_t i = 0; i < self->topic_count; i++) {
        topic_t *topic = self->topics[i];
        if (topic->purge_floor) {
            s_purge_spared (self, topic);
        }
        outbox_flush (self, topic);
    }
}
