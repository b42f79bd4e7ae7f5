/* Choosing the events of a delivery. SPDX-License-Identifier: MIT

   Ready events go in order of n: those given back, due or let through by a gate from their heap,
   the rest from the extents. What may not go now is set aside; it becomes an entry behind its gate
   once it is clear what became of the delivery, so that extents are cut once. */
#include "gather.h"

static bool
s_is_avoided (const gather_t *self, const entry_t *entry) {
    const topic_t *topic = self->topic;
    for (uint32_t i = 0; i < topic->avoid_count; i++) {
        const avoid_t *avoid = &topic->avoids[i];
        if (avoid->n == entry->n && avoid->until_ms > self->core->now &&
            (strcmp (avoid->worker, self->worker->name) == 0) != avoid->is_only) {
            return true;
        }
    }
    return false;
}

/* Room for one more event of these many bytes? */
static bool
s_has_room (const gather_t *self, size_t bytes) {
    bool is_first = self->count == 0 && self->worker->in_flight == 0;
    return self->count < self->limit && (is_first || bytes <= self->bytes_left);
}

typedef enum { JUDGE_GO, JUDGE_WAIT, JUDGE_EXPIRED, JUDGE_OVER } verdict_t;

/* A key first, then what the event needs, then its quota: so it has its unit when nothing else is
   in the way. */
static verdict_t
s_judge_gates (gather_t *self, const ef_event_t *event, uint64_t n, gate_t **gate) {
    ef_core_t *core = self->core;
    topic_t *topic = self->topic;
    const ef_topic_config_t *config = &topic->config;
    bool is_ordered = config->order == EF_ORDER_TOPIC;
    ef_span_t key = is_ordered ? span_of (NULL, 0) : event->key;
    if (event->key.data && key_of (topic, n) == NULL &&
        (*gate = turn_before (core, topic, key, n)) != NULL) {
        return JUDGE_WAIT; /* an earlier one of its key waits for its turn */
    }
    if ((is_ordered || event->key.data) && !key_claim (core, topic, key, n, gate)) {
        return JUDGE_WAIT;
    }
    verdict_t verdict = JUDGE_GO;
    self->breaker = config->breaker.ratio > 0 ? breaker_of (topic, n, event->downstream) : NULL;
    if (self->breaker && !breaker_allows (core, topic, self->breaker)) {
        *gate = gate_require (core, topic, GATE_DOWNSTREAM,
                              span_of (self->breaker->name, self->breaker->size));
        verdict = JUDGE_WAIT;
    } else if (config->quota.limit > 0) {
        unit_answer_t answer = units_judge (core, topic, event, n, gate);
        verdict = answer == UNIT_HELD ? JUDGE_GO : answer == UNIT_DEAD ? JUDGE_OVER : JUDGE_WAIT;
    }
    if (verdict == JUDGE_WAIT && config->on_blocked == EF_BLOCKED_SKIP) {
        key_free (core, topic, n); /* others of its key may pass */
    }
    return verdict;
}

/* May this event go now? JUDGE_WAIT: `*gate` says behind what it is to wait. */
static verdict_t
s_judge (gather_t *self, const stored_t *stored, gate_t **gate) {
    const ef_topic_config_t *config = &self->topic->config;
    bool is_asked =
        config->order == EF_ORDER_TOPIC || config->quota.limit > 0 || config->breaker.ratio > 0;
    self->breaker = NULL;
    if (!is_asked && !(stored->flags & (EF_INDEX_META | EF_INDEX_KEYED))) {
        return JUDGE_GO;
    }
    if (!is_asked && !(stored->flags & EF_INDEX_META) && key_of (self->topic, stored->n)) {
        return JUDGE_GO; /* its key was passed on to it */
    }
    ef_event_t event;
    stored_event (stored, &event);
    if (stored_is_expired (stored, &event, self->core->wall)) {
        return JUDGE_EXPIRED;
    }
    return s_judge_gates (self, &event, stored->n, gate);
}

static uint16_t
s_flags (const stored_t *stored, bool is_copy) {
    return (uint16_t)((is_copy ? ENTRY_COPY : 0) | stored_entry_flags (stored));
}

static void
s_add (gather_t *self, const stored_t *stored, entry_t *entry, const place_t *place, bool is_copy) {
    item_t *item = &self->items[self->count];
    memset (item, 0, sizeof *item);
    item->n = stored->n;
    item->entry = entry;
    item->place = *place;
    item->bytes = entry ? entry->bytes : stored->event.size;
    item->flags = s_flags (stored, is_copy);
    item->breaker = self->breaker;
    if (self->breaker &&
        ef_breaker_sent (&self->breaker->state, &self->topic->config.breaker, self->core->now)) {
        item->flags |= ITEM_PROBE;
    }
    self->stored[self->count++] = *stored;
    self->bytes_left -= item->bytes < self->bytes_left ? item->bytes : self->bytes_left;
    uint64_t tag = self->core->next_tag + self->count - 1;
    self->body_bytes += 1 + ef_uint_size (tag) + stored_event_size (stored);
    uint32_t attempt = 1u + (entry ? entry->tries : 0);
    self->body_bytes += ef_uint_size (attempt);
}

/* The next of the entries that are ready. False: none fits now. */
static bool
s_gather_entry (gather_t *self, entry_t *entry) {
    place_t place = entry->place;
    const uint8_t *head = place_find (self->core, &place, true);
    bool is_copy = entry->flags & ENTRY_COPY;
    stored_t stored;
    gate_t *gate;
    if (head == NULL || !s_has_room (self, entry->bytes)) {
        return false;
    }
    entry->place = place; /* found once */
    int rc = stored_read (head, entry->place.rel, entry->place.index, is_copy, &stored);
    ef_assert (rc == 0);
    entry->flags |= stored_entry_flags (&stored);
    bool is_suspect = entry->flags & ENTRY_SUSPECT;
    bool is_alone = self->count == 0 && self->worker->in_flight == 0;
    if ((is_suspect && !is_alone) || s_is_avoided (self, entry)) {
        if (is_suspect && self->topic->reserved == NULL) {
            reserve_begin (self->core, self->topic, self->worker);
        }
        if (self->avoided_count == GATHER_AVOIDED) {
            return false;
        }
        entry_unready (self->core, entry);
        self->avoided[self->avoided_count++] = entry;
        return true;
    }
    verdict_t verdict = s_judge (self, &stored, &gate);
    if (verdict == JUDGE_EXPIRED || verdict == JUDGE_OVER) {
        end_unbegun (self->core, entry, &stored,
                     verdict == JUDGE_OVER ? EF_REASON_QUOTA : EF_REASON_EXPIRED);
        self->has_moved = true;
        return true;
    }
    entry_unready (self->core, entry);
    if (verdict == JUDGE_WAIT) {
        gate_wait (self->core, gate, entry);
        self->has_moved = true;
    } else {
        s_add (self, &stored, entry, &entry->place, is_copy);
        self->limit = is_suspect ? 1 : self->limit; /* it goes alone */
        self->worker->is_alone = is_suspect;
    }
    return true;
}

/* The suspect that this worker was kept idle for, or any, while it is idle. */
static void
s_gather_suspect (gather_t *self) {
    topic_t *topic = self->topic;
    worker_t *worker = self->worker;
    if (worker->in_flight > 0) {
        return;
    }
    if (worker->reserved_for == topic) {
        reserve_end (topic);
    }
    for (uint32_t i = 0; i < topic->ready.count && self->count == 0; i++) {
        entry_t *entry = topic->ready.items[i];
        if (entry->flags & ENTRY_SUSPECT) {
            (void)s_gather_entry (self, entry); /* false: not now, and others go */
            return;
        }
    }
}

/* Must be so before a unit is taken, for its event has to wait for the unit's record. */
static bool
s_can_set_aside (gather_t *self) {
    topic_t *topic = self->topic;
    bool is_full = topic->blocked + self->aside_count >= EF_BLOCKED_MAX;
    if (is_full && !topic->is_scan_stopped) {
        topic->is_scan_stopped = true;
        self->core->effects.notify (self->core->effects.arg, "blocked", topic->config.name,
                                    "262,144 events wait behind keys, breakers and quotas; no "
                                    "further one is looked at");
    }
    return self->topic->config.quota.limit == 0 || (!is_full && self->aside_count < GATHER_ASIDES);
}

/* An event of an extent that won't be in the delivery. False: no more can be set aside now. */
static bool
s_set_aside (gather_t *self, const stored_t *stored, const place_t *place, aside_why_t why,
             gate_t *gate) {
    bool is_full = self->topic->blocked + self->aside_count >= EF_BLOCKED_MAX;
    if (self->aside_count == GATHER_ASIDES || (is_full && why == ASIDE_GATE)) {
        if (why == ASIDE_GATE) {
            gate_settle (self->topic, gate); /* it may have been made for this one */
        }
        return false;
    }
    if (why == ASIDE_GATE) {
        gate->asides++;
    }
    self->asides[self->aside_count++] = (aside_t){.n = stored->n,
                                                  .gate = gate,
                                                  .place = *place,
                                                  .bytes = stored->event.size,
                                                  .flags = s_flags (stored, self->run.is_copy),
                                                  .why = (uint8_t)why};
    return true;
}

/* Moves on to the event behind the one at `place`. */
static void
s_step (gather_t *self, const uint8_t *head, place_t *place) {
    ef_extent_t *run = &self->run;
    self->first = self->last ? self->first : run->n;
    self->last = run->n;
    place_next (head, run->is_copy, place);
    run->n++;
    run->offset = place->offset;
    run->index = place->index;
    run->rel = place->rel;
    if (--run->count == 0) {
        const ef_extent_t *next = ef_extents_next (&self->topic->extents, &self->at);
        self->has_run = next != NULL;
        self->run = next ? *next : self->run;
    }
}

static bool
s_gather_extent (gather_t *self) {
    ef_extent_t *run = &self->run;
    place_t place = {run->segment, run->offset, run->rel, run->index};
    const uint8_t *head = place_find (self->core, &place, true);
    stored_t stored;
    gate_t *gate = NULL;
    if (head == NULL) {
        return false;
    }
    int rc = stored_read (head, place.rel, place.index, run->is_copy, &stored);
    ef_assert (rc == 0 && stored.n == run->n);
    if (!s_has_room (self, stored.event.size) || !s_can_set_aside (self)) {
        return false;
    }
    verdict_t verdict = s_judge (self, &stored, &gate);
    if (verdict == JUDGE_GO) {
        s_add (self, &stored, NULL, &place, run->is_copy);
    } else if (!s_set_aside (self, &stored, &place,
                             verdict == JUDGE_EXPIRED ? ASIDE_EXPIRED
                             : verdict == JUDGE_OVER  ? ASIDE_OVER
                                                      : ASIDE_GATE,
                             gate)) {
        return false;
    }
    s_step (self, head, &place);
    return true;
}

void
gather_run (gather_t *self) {
    const ef_extent_t *first = ef_extents_first (&self->topic->extents, &self->at);
    bool has_turns = self->topic->config.fair_by != EF_BY_NONE || self->topic->turns > 0;
    self->has_run = first != NULL;
    self->run = first ? *first : self->run;
    if (self->worker->reserved_for && self->worker->reserved_for != self->topic) {
        return; /* it is kept idle for another topic's suspect */
    }
    if (self->topic->suspects) {
        s_gather_suspect (self);
    }
    for (bool goes_on = true; goes_on && self->count < self->limit;) {
        entry_t *entry = ef_heap_top (&self->topic->ready);
        if (entry && (!self->has_run || entry->n < self->run.n)) {
            goes_on = s_gather_entry (self, entry);
        } else if (has_turns) { /* nothing passes those who wait for theirs */
            goes_on = turns_serve (self->core, self->topic);
        } else if (self->has_run) {
            goes_on = s_gather_extent (self);
        } else {
            break;
        }
    }
    for (uint32_t i = 0; i < self->avoided_count; i++) {
        entry_ready (self->core, self->avoided[i]);
    }
}

/* What was looked at leaves the extents: their front, all of it up to the last one. */
static void
s_cut (gather_t *self) {
    uint64_t bytes;
    if (self->last == 0) {
        return;
    }
    (void)ef_extents_cut (&self->topic->extents, self->first, self->last, &bytes);
    ef_extent_at_t at;
    ef_extent_t *front = ef_extents_first (&self->topic->extents, &at);
    if (front && self->has_run && front->n == self->run.n) {
        /* Known here, not to the cut. */
        front->offset = self->run.offset;
        front->index = self->run.index;
        front->rel = self->run.rel;
    }
}

static void
s_end (gather_t *self, entry_t *entry, ef_reason_t reason) {
    stored_t stored;
    const uint8_t *head = place_find (self->core, &entry->place, false);
    int rc = head == NULL ? -1
                          : stored_read (head, entry->place.rel, entry->place.index,
                                         entry->flags & ENTRY_COPY, &stored);
    ef_assert (rc == 0); /* read a moment ago */
    end_unbegun (self->core, entry, &stored, reason);
}

/* Those set aside get their entries, in order of n. */
static void
s_admit (gather_t *self) {
    for (uint32_t i = 0; i < self->aside_count; i++) {
        const aside_t *aside = &self->asides[i];
        entry_t *entry = entry_new (self->core, self->topic, aside->n);
        entry->place = aside->place;
        entry->bytes = aside->bytes & 0xffffff;
        entry->flags = aside->flags;
        if (aside->why != ASIDE_GATE) {
            entry->state = EF_STATE_READY;
            s_end (self, entry, aside->why == ASIDE_OVER ? EF_REASON_QUOTA : EF_REASON_EXPIRED);
        } else {
            gate_admit (self->core, self->topic, aside->gate, entry);
        }
        self->has_moved = true;
    }
}

void
gather_taken (gather_t *self) {
    s_cut (self);
    s_admit (self);
}

/* Nothing was taken. Who had no entry stays in its extent, unless something between them was set
   aside or has a key: then all get entries. */
void
gather_undone (gather_t *self) {
    self->worker->is_alone = self->worker->is_alone && self->worker->in_flight > 0;
    bool must_cut = self->aside_count > 0;
    for (uint32_t i = 0; i < self->count; i++) {
        must_cut =
            must_cut || (self->items[i].entry == NULL && key_of (self->topic, self->items[i].n));
    }
    if (must_cut) {
        s_cut (self);
    }
    for (uint32_t i = 0; i < self->count; i++) {
        item_t *item = &self->items[i];
        breakers_outcome (self->core, self->topic, item, span_of (NULL, 0), OUTCOME_NONE);
        if (item->entry == NULL && must_cut) {
            (void)item_entry (self->core, self->topic, item);
        }
        if (item->entry) {
            entry_ready (self->core, item->entry);
        }
    }
    if (must_cut) {
        s_admit (self);
    }
}
