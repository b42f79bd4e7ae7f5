/* Handing events to workers. SPDX-License-Identifier: MIT

   Ready events go in order of n: those given back or due from their heap, the rest from the
   extents. A delivery is first gathered without changing anything but the heap, then sent, then, if
   the send went well, taken. */
#include "core_private.h"

typedef struct {
    ef_core_t *core;
    topic_t *topic;
    worker_t *worker;
    uint32_t limit; /* events */
    uint64_t bytes_left;
    item_t items[EF_BATCH_EVENTS];
    stored_t stored[EF_BATCH_EVENTS];
    uint32_t count;
    size_t body_bytes;
    entry_t *avoided[16]; /* taken from the heap for a moment: not for this worker yet */
    uint32_t avoided_count;
    ef_extent_at_t at; /* of the extent under way */
    ef_extent_t run;   /* a copy of it, moved on as events are gathered */
    bool has_run;
} gather_t;

static bool
s_is_avoided (const gather_t *self, const entry_t *entry) {
    const topic_t *topic = self->topic;
    for (uint32_t i = 0; i < topic->avoid_count; i++) {
        if (topic->avoids[i].n == entry->n && topic->avoids[i].until_ms > self->core->now &&
            strcmp (topic->avoids[i].worker, self->worker->name) == 0) {
            return true;
        }
    }
    return false;
}

static void
s_put_info (const gather_t *self, const stored_t *stored, const item_t *item, ef_buf_t *out) {
    ef_put_map (out, 4);
    ef_put_key_uint (out, "accepted", stored->accepted_ms);
    ef_put_key_uint (out, "n", stored->n);
    ef_put_key_uint (out, "deadline", self->core->wall + self->topic->config.lease_ms);
    ef_put_str (out, "errors");
    history_put (item->entry->history, out);
}

/* Room for one more event of these many bytes? */
static bool
s_has_room (const gather_t *self, size_t bytes) {
    bool is_first = self->count == 0 && self->worker->in_flight == 0;
    return self->count < self->limit && (is_first || bytes <= self->bytes_left);
}

static bool
s_is_expired (const gather_t *self, const stored_t *stored) {
    ef_event_t event;
    const char *why;
    ef_cursor_t cursor = ef_cursor (stored->event.data, stored->event.size);
    return (stored->flags & EF_INDEX_META) && ef_event_read (&cursor, &event, &why) == EF_OK &&
           event.ttl_ms >= 0 && self->core->wall > stored->accepted_ms + (uint64_t)event.ttl_ms;
}

static void
s_add (gather_t *self, const stored_t *stored, entry_t *entry, const place_t *place, bool is_copy) {
    item_t *item = &self->items[self->count];
    memset (item, 0, sizeof *item);
    item->n = stored->n;
    item->entry = entry;
    item->place = *place;
    item->bytes = entry ? entry->bytes : stored->event.size;
    item->flags =
        (uint16_t)((is_copy ? ENTRY_COPY : 0) | (stored->flags & EF_INDEX_META ? ENTRY_META : 0));
    self->stored[self->count++] = *stored;
    self->bytes_left -= item->bytes < self->bytes_left ? item->bytes : self->bytes_left;
    uint64_t tag = self->core->next_tag + self->count - 1;
    self->body_bytes += 1 + ef_uint_size (tag) + stored_event_size (stored);
    uint32_t attempt = 1u + (entry ? entry->tries : 0);
    self->body_bytes += ef_uint_size (attempt);
}

/* The next of those given back or due. False: none fits now. */
static bool
s_gather_entry (gather_t *self, entry_t *entry) {
    place_t place = entry->place;
    const uint8_t *head = place_find (self->core, &place, true);
    bool is_copy = entry->flags & ENTRY_COPY;
    stored_t stored;
    if (head == NULL) {
        return false;
    }
    entry->place = place; /* found once */
    int rc = stored_read (head, entry->place.rel, entry->place.index, is_copy, &stored);
    ef_assert (rc == 0);
    if (s_is_expired (self, &stored)) {
        kill_event (self->core, entry, EF_REASON_EXPIRED);
        return true;
    }
    if (!s_has_room (self, entry->bytes)) {
        return false;
    }
    entry_unready (self->core, entry);
    if (s_is_avoided (self, entry) && self->avoided_count < 16) {
        self->avoided[self->avoided_count++] = entry;
        return true;
    }
    s_add (self, &stored, entry, &entry->place, is_copy);
    return true;
}

/* An event whose time is over dies out of its extent. */
static void
s_expire_extent_event (gather_t *self, const stored_t *stored, const place_t *place) {
    ef_core_t *core = self->core;
    uint64_t bytes;
    uint64_t taken = ef_extents_cut (&self->topic->extents, stored->n, stored->n, &bytes);
    ef_assert (taken == 1);
    entry_t *entry = entry_new (core, self->topic, stored->n);
    entry->place = *place;
    entry->bytes = (uint32_t)bytes;
    entry->flags = (self->run.is_copy ? ENTRY_COPY : 0) | ENTRY_META;
    entry->state = EF_STATE_READY;
    kill_event (core, entry, EF_REASON_EXPIRED);
    self->has_run = false;
}

static bool
s_gather_extent (gather_t *self) {
    ef_extent_t *run = &self->run;
    place_t place = {run->segment, run->offset, run->rel, run->index};
    const uint8_t *head = place_find (self->core, &place, true);
    stored_t stored;
    if (head == NULL) {
        return false;
    }
    int rc = stored_read (head, place.rel, place.index, run->is_copy, &stored);
    ef_assert (rc == 0 && stored.n == run->n);
    if ((stored.flags & EF_INDEX_META) && s_is_expired (self, &stored)) {
        if (self->count > 0) {
            return false; /* what is gathered goes first */
        }
        s_expire_extent_event (self, &stored, &place);
        return true;
    }
    if (!s_has_room (self, stored.event.size)) {
        return false;
    }
    s_add (self, &stored, NULL, &place, run->is_copy);
    place_next (head, run->is_copy, &place);
    run->n++;
    run->offset = place.offset;
    run->index = place.index;
    run->rel = place.rel;
    if (--run->count == 0) {
        const ef_extent_t *next = ef_extents_next (&self->topic->extents, &self->at);
        self->has_run = next != NULL;
        self->run = next ? *next : self->run;
    }
    return true;
}

static void
s_gather (gather_t *self) {
    const ef_extent_t *first = ef_extents_first (&self->topic->extents, &self->at);
    self->has_run = first != NULL;
    self->run = first ? *first : self->run;
    for (bool goes_on = true; goes_on && self->count < self->limit;) {
        entry_t *entry = ef_heap_top (&self->topic->ready);
        if (entry && (!self->has_run || entry->n < self->run.n)) {
            goes_on = s_gather_entry (self, entry);
        } else if (self->has_run) {
            goes_on = s_gather_extent (self);
            if (goes_on && !self->has_run && self->count == 0) {
                first = ef_extents_first (&self->topic->extents, &self->at);
                self->has_run = first != NULL;
                self->run = first ? *first : self->run;
            }
        } else {
            break;
        }
    }
    for (uint32_t i = 0; i < self->avoided_count; i++) {
        entry_ready (self->core, self->avoided[i]);
    }
}

static void
s_encode (const gather_t *self, uint8_t *at, const ef_buf_t *infos) {
    ef_cursor_t info = ef_cursor (infos->data, infos->size);
    for (uint32_t i = 0; i < self->count; i++) {
        const entry_t *entry = self->items[i].entry;
        uint32_t attempt = 1u + (entry ? entry->tries : 0);
        bool has_info = entry && entry->history;
        *at++ = has_info ? 0x94 : 0x93;
        at = ef_write_uint (at, self->core->next_tag + i);
        at = ef_write_uint (at, attempt);
        at = stored_write_event (at, &self->stored[i]);
        if (has_info) {
            const uint8_t *start = info.at;
            int rc = ef_skip (&info);
            ef_assert (rc == 0);
            memcpy (at, start, (size_t)(info.at - start));
            at += info.at - start;
        }
    }
}

static int
s_send (gather_t *self) {
    ef_core_t *core = self->core;
    ef_buf_t infos = {0};
    for (uint32_t i = 0; i < self->count; i++) {
        if (self->items[i].entry && self->items[i].entry->history) {
            s_put_info (self, &self->stored[i], &self->items[i], &infos);
        }
    }
    void *message;
    size_t bytes = self->body_bytes + infos.size;
    uint8_t *body = core->effects.body_new (core->effects.arg, bytes, &message);
    s_encode (self, body, &infos);
    ef_buf_free (&infos);
    ef_buf_clear (&core->header);
    ef_put_array (&core->header, 1);
    ef_put_str (&core->header, "EVENTS");
    return peer_send (core, self->worker->peer, message);
}

/* The delivery is on its way: the events are leased now. */
static void
s_take (gather_t *self) {
    ef_core_t *core = self->core;
    worker_t *worker = self->worker;
    topic_t *topic = self->topic;
    lease_t *lease = malloc (sizeof *lease + self->count * sizeof (item_t));
    ef_assert (lease != NULL);
    *lease = (lease_t){.first_tag = core->next_tag,
                       .worker = worker,
                       .topic = topic,
                       .heap_at = EF_HEAP_NONE,
                       .count = self->count,
                       .unanswered = self->count};
    memcpy (lease->items, self->items, self->count * sizeof (item_t));
    uint64_t deadline = core->now + topic->config.lease_ms;
    lease->next_ms = deadline - topic->config.lease_ms / 5;
    uint64_t plain_first = 0;
    uint64_t plain_last = 0;
    for (uint32_t i = 0; i < self->count; i++) {
        item_t *item = &lease->items[i];
        item->deadline_ms = deadline;
        worker->bytes_in_flight += item->bytes;
        if (item->entry) {
            item->entry->state = EF_STATE_LEASED;
            item->entry->tag = lease->first_tag + i;
        } else {
            plain_first = plain_first ? plain_first : item->n;
            plain_last = item->n;
        }
    }
    if (plain_last) {
        /* Plain events are the front of the extents, all of it up to the last one. */
        uint64_t bytes;
        (void)ef_extents_cut (&topic->extents, plain_first, plain_last, &bytes);
        ef_extent_at_t at;
        ef_extent_t *front = ef_extents_first (&topic->extents, &at);
        if (front && self->has_run && front->n == self->run.n) {
            /* Known here, not to the cut. */
            front->offset = self->run.offset;
            front->index = self->run.index;
            front->rel = self->run.rel;
        }
    }
    worker->in_flight += self->count;
    topic->deliveries += self->count;
    core->next_tag += self->count;
    topic_move (topic, EF_STATE_READY, EF_STATE_LEASED, self->count);
    worker_add_lease (core, lease);
    worker_queue (worker);
}

/* The worker can't be reached: nothing was taken, nothing more is sent there until it is heard of.
 */
static void
s_undo (gather_t *self) {
    for (uint32_t i = 0; i < self->count; i++) {
        if (self->items[i].entry) {
            entry_ready (self->core, self->items[i].entry);
        }
    }
    self->worker->is_stuck = true;
    worker_queue (self->worker);
}

static bool
s_may_dispatch (const ef_core_t *core, const topic_t *topic) {
    uint64_t in_hand =
        topic->counts[EF_STATE_LEASED] + topic->counts[EF_STATE_RETRYING] - topic->inserting;
    return topic->counts[EF_STATE_READY] > 0 && !topic->is_paused &&
           in_hand < topic->config.retry_capacity &&
           core->next_tag + EF_BATCH_EVENTS <= core->tag_limit;
}

static void
s_avoids_expire (ef_core_t *core, topic_t *topic) {
    for (uint32_t i = 0; i < topic->avoid_count;) {
        if (topic->avoids[i].until_ms <= core->now) {
            topic->avoids[i] = topic->avoids[--topic->avoid_count];
        } else {
            i++;
        }
    }
}

/* Workers with credit, for an even share. */
static uint64_t
s_takers (const topic_t *topic) {
    uint64_t takers = 0;
    for (unsigned queue = 0; queue < 2; queue++) {
        const sub_t *first = topic->queues[queue];
        const sub_t *sub = first;
        while (sub && takers < EF_BATCH_EVENTS) {
            takers++;
            sub = sub->next == first ? NULL : sub->next;
        }
    }
    return takers;
}

static bool
s_dispatch_one (ef_core_t *core, topic_t *topic) {
    static _Thread_local gather_t gather; /* 40 KB of scratch */
    int queue = topic->queues[0] ? 0 : 1;
    sub_t *sub = topic->queues[queue];
    uint64_t takers = s_takers (topic);
    uint64_t ready = topic->counts[EF_STATE_READY];
    uint64_t in_hand =
        topic->counts[EF_STATE_LEASED] + topic->counts[EF_STATE_RETRYING] - topic->inserting;
    gather.core = core;
    gather.topic = topic;
    gather.worker = sub->worker;
    gather.count = gather.avoided_count = 0;
    gather.body_bytes = 0;
    gather.has_run = false;
    uint64_t limit = (ready + takers - 1) / takers;
    uint64_t credit = sub->worker->credit - sub->worker->in_flight;
    uint64_t room = topic->config.retry_capacity - in_hand;
    uint64_t space = space_for_deliveries (core);
    limit = limit < credit ? limit : credit;
    limit = limit < room ? limit : room;
    limit = limit < space ? limit : space;
    limit = EF_BUGGIFY (10) ? 1 : limit;
    gather.limit = (uint32_t)(limit < EF_BATCH_EVENTS ? limit : EF_BATCH_EVENTS);
    gather.bytes_left = sub->worker->bytes > sub->worker->bytes_in_flight
                            ? sub->worker->bytes - sub->worker->bytes_in_flight
                            : 0;
    topic->queues[queue] = sub->next; /* the next delivery goes to the next in line */
    s_gather (&gather);
    if (gather.count == 0) {
        return false;
    }
    if (s_send (&gather)) {
        s_undo (&gather);
    } else {
        s_take (&gather);
    }
    return true;
}

/* A topic that has ready events and no free credit for long enough is stalled. */
static void
s_judge_stall (ef_core_t *core, topic_t *topic) {
    bool is_waiting = topic->counts[EF_STATE_READY] > 0 && !topic->is_paused &&
                      topic->queues[0] == NULL && topic->queues[1] == NULL;
    if (!is_waiting) {
        topic->stalled_since = 0;
        topic->stall_told = false;
    } else if (topic->stalled_since == 0) {
        topic->stalled_since = core->now;
    } else if (!topic->stall_told && core->now - topic->stalled_since >= topic->config.stall_ms) {
        topic->stall_told = true;
        core->effects.notify (core->effects.arg, "stall", topic->config.name,
                              "events are ready and no worker has credit");
    }
}

void
dispatch_all (ef_core_t *core) {
    for (uint32_t i = 0; i < core->topic_count; i++) {
        topic_t *topic = core->topics[i];
        if (topic->avoid_count) {
            s_avoids_expire (core, topic);
        }
        while (s_may_dispatch (core, topic) && (topic->queues[0] || topic->queues[1])) {
            if (space_for_deliveries (core) == 0 || !s_dispatch_one (core, topic)) {
                break;
            }
        }
        s_judge_stall (core, topic);
    }
}
