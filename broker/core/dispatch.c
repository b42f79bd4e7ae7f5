/* Handing events to workers. SPDX-License-Identifier: MIT

   A delivery is first gathered without changing anything but heaps and keys, then sent, then, if
   the send went well, taken. */
#include "gather.h"

#include <stdio.h>

#define TURN_EVENTS 16u    /* of a topic at a time, per weight, to a worker of several topics */
#define SHARE       65536u /* of an event at weight 1; above the greatest weight */

/* A topic in the order of a turn. */
struct order_s {
    topic_t *topic;
    uint64_t share;
    uint32_t place; /* among equals */
};

static void
s_put_info (const gather_t *self, const stored_t *stored, const item_t *item, ef_buf_t *out) {
    ef_put_map (out, 4);
    ef_put_key_uint (out, "accepted", stored->accepted_ms);
    ef_put_key_uint (out, "n", stored->n);
    ef_put_key_uint (out, "deadline", self->core->wall + self->topic->config.lease_ms);
    ef_put_str (out, "errors");
    history_put_short (item->entry->history, out);
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

/* Keeps an event's bytes until it has ended: other events come of that. */
static void
s_pin (topic_t *topic, item_t *item, const stored_t *stored) {
    item->event_bytes = (uint32_t)stored_event_size (stored);
    item->event = malloc (item->event_bytes);
    ef_assert (item->event != NULL);
    (void)stored_write_event (item->event, stored);
    topic->pinned_bytes += item->event_bytes;
}

/* First attempts of what needn't wait for a time; neighbours were mostly accepted together. */
static void
s_note_waits (gather_t *self) {
    for (uint32_t i = 0; i < self->count;) {
        uint32_t first = i;
        uint64_t accepted = self->stored[i].accepted_ms;
        uint32_t fresh = 0;
        for (; i < self->count && self->stored[i].accepted_ms == accepted; i++) {
            const entry_t *entry = self->items[i].entry;
            bool had_to = entry && (self->stored[i].flags & EF_INDEX_META);
            fresh += !had_to && (entry == NULL || entry->tries == 0);
        }
        if (fresh > 0) {
            report_waited (self->core, self->topic, &self->stored[first], fresh);
        }
    }
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
                       .started_ms = core->wall,
                       .began_ms = core->now,
                       .worker = worker,
                       .topic = topic,
                       .heap_at = EF_HEAP_NONE,
                       .count = self->count,
                       .unanswered = self->count};
    memcpy (lease->items, self->items, self->count * sizeof (item_t));
    uint64_t deadline = core->now + topic->config.lease_ms;
    lease->next_ms = deadline - topic->config.lease_ms / 5;
    for (uint32_t i = 0; i < self->count; i++) {
        item_t *item = &lease->items[i];
        item->deadline_ms = deadline;
        if (emit_needs_event (topic, &self->stored[i])) {
            s_pin (topic, item, &self->stored[i]);
        }
        worker->bytes_in_flight += item->bytes;
        if (item->entry) {
            topic->redelivered += item->entry->tries > 0 || item->entry->tag > 0;
            item->entry->state = EF_STATE_LEASED;
            item->entry->tag = lease->first_tag + i;
        }
    }
    s_note_waits (self);
    for (uint32_t i = 0; i < self->count && topic->config.retry_budget > 0; i++) {
        if (self->items[i].entry == NULL || self->items[i].entry->tries == 0) {
            ef_budget_earn (&topic->budget, topic->config.retry_budget);
        }
    }
    worker->in_flight += self->count;
    topic->deliveries += self->count;
    core->next_tag += self->count;
    topic_move (topic, EF_STATE_READY, EF_STATE_LEASED, self->count);
    worker_add_lease (core, lease);
    worker_queue (worker);
}

static bool
s_may_dispatch (const ef_core_t *core, const topic_t *topic) {
    uint64_t in_hand =
        topic->counts[EF_STATE_LEASED] + topic->counts[EF_STATE_RETRYING] - topic->inserting;
    return topic->counts[EF_STATE_READY] + topic->turns > topic->blocked && !topic->is_paused &&
           in_hand < topic->config.retry_capacity &&
           core->next_tag + EF_BATCH_EVENTS <= core->tag_limit;
}

void
avoid_add (topic_t *topic, uint64_t n, const char *worker, bool is_only, uint64_t until_ms) {
    if (topic->avoid_count == 256) {
        return; /* then it may come back to the same worker sooner */
    }
    topic->avoids = realloc (topic->avoids, (topic->avoid_count + 1) * sizeof *topic->avoids);
    ef_assert (topic->avoids != NULL);
    avoid_t *avoid = &topic->avoids[topic->avoid_count++];
    *avoid = (avoid_t){.n = n, .until_ms = until_ms, .is_only = is_only};
    snprintf (avoid->worker, sizeof avoid->worker, "%s", worker);
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

static uint32_t
s_take_rate (const ef_core_t *core, topic_t *topic, uint32_t most) {
    const ef_topic_config_t *config = &topic->config;
    if (topic->rate.rate != config->rate || topic->rate.burst != config->burst) {
        ef_bucket_set (&topic->rate, config->rate, config->burst, core->now);
    }
    return ef_bucket_take (&topic->rate, most, core->now);
}

static bool
s_dispatch_one (ef_core_t *core, topic_t *topic) {
    static _Thread_local gather_t gather; /* 40 KB of scratch */
    int queue = topic->queues[0] ? 0 : 1;
    sub_t *sub = topic->queues[queue];
    uint64_t takers = s_takers (topic);
    uint64_t ready = topic->counts[EF_STATE_READY] + topic->turns - topic->blocked;
    uint64_t in_hand =
        topic->counts[EF_STATE_LEASED] + topic->counts[EF_STATE_RETRYING] - topic->inserting;
    gather.core = core;
    gather.topic = topic;
    gather.worker = sub->worker;
    gather.count = gather.avoided_count = gather.aside_count = 0;
    gather.body_bytes = 0;
    gather.first = gather.last = 0;
    gather.has_run = gather.has_moved = false;
    uint64_t limit = (ready + takers - 1) / takers;
    uint64_t credit = sub->worker->credit - sub->worker->in_flight;
    uint64_t room = topic->config.retry_capacity - in_hand;
    uint64_t space = space_for_deliveries (core, topic);
    limit = limit < credit ? limit : credit;
    limit = limit < room ? limit : room;
    limit = limit < space ? limit : space;
    limit = EF_BUGGIFY (10) ? 1 : limit;
    uint64_t turn = (uint64_t)TURN_EVENTS * topic->config.weight;
    bool takes_turns = sub->worker->sub_count > 1;
    limit = takes_turns && limit > turn ? turn : limit;
    limit =
        s_take_rate (core, topic, (uint32_t)(limit < EF_BATCH_EVENTS ? limit : EF_BATCH_EVENTS));
    gather.limit = (uint32_t)(limit < EF_BATCH_EVENTS ? limit : EF_BATCH_EVENTS);
    gather.bytes_left = sub->worker->bytes > sub->worker->bytes_in_flight
                            ? sub->worker->bytes - sub->worker->bytes_in_flight
                            : 0;
    topic->queues[queue] = sub->next; /* the next delivery goes to the next in line */
    if (topic->config.fair_by != EF_BY_NONE || topic->turns) {
        turns_fill (core, topic);
    }
    gather_run (&gather);
    if (gather.count == 0) {
        gather_taken (&gather);
        worker_queue (gather.worker); /* it may be kept idle from now on */
    } else if (s_send (&gather)) {
        gather_undone (&gather);
        gather.worker->is_stuck = true; /* nothing more is sent there until it is heard of */
        worker_queue (gather.worker);
    } else {
        s_take (&gather);
        gather_taken (&gather);
    }
    if (takes_turns && gather.count > 0) {
        worker_t *worker = gather.worker;
        worker->share = topic->share > worker->share ? topic->share : worker->share;
        topic->share += gather.count * (uint64_t)SHARE / topic->config.weight;
    }
    if (topic->config.rate > 0) {
        ef_bucket_return (&topic->rate, (uint32_t)limit - gather.count);
    }
    return gather.count > 0 || gather.has_moved;
}

/* A topic that has ready events and no free credit for long enough is stalled. Not so one whose
   workers are unwell: more of them would be, too. */
static void
s_judge_stall (ef_core_t *core, topic_t *topic) {
    bool is_waiting = topic->counts[EF_STATE_READY] + topic->turns > topic->blocked &&
                      !topic->is_paused && topic->queues[0] == NULL && topic->queues[1] == NULL &&
                      (topic->workers == 0 || topic->unwell < topic->workers);
    if (!is_waiting) {
        topic->stalled_sum += topic->stalled_since ? core->now - topic->stalled_since : 0;
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

static bool
s_can_go (ef_core_t *core, topic_t *topic) {
    return s_may_dispatch (core, topic) && (topic->queues[0] || topic->queues[1]) &&
           space_for_deliveries (core, topic) > 0;
}

static int
s_by_share (const void *a, const void *b) {
    const struct order_s *one = a;
    const struct order_s *other = b;
    return one->share != other->share  ? (one->share > other->share ? 1 : -1)
           : one->place > other->place ? 1
                                       : -1;
}

/* The topics that have something for somebody, those first that got the least for their weight. One
   that had nothing for a while goes on from where the worker is that serves it next. */
static uint32_t
s_line_up (ef_core_t *core) {
    uint32_t count = 0;
    if (core->order_capacity < core->topic_count) {
        core->order_capacity = 2 * core->topic_count;
        core->order = realloc (core->order, core->order_capacity * sizeof *core->order);
        ef_assert (core->order != NULL);
    }
    for (uint32_t i = 0; i < core->topic_count; i++) {
        topic_t *topic = core->topics[(core->dispatch_from + i) % core->topic_count];
        if ((topic->claim_count > 0 && !claims_settle (core, topic)) || !s_can_go (core, topic)) {
            continue;
        }
        const worker_t *worker = topic->queues[topic->queues[0] ? 0 : 1]->worker;
        if (topic->was_empty && topic->share < worker->share) {
            topic->share = worker->share;
        }
        topic->was_empty = false;
        core->order[count++] = (struct order_s){.topic = topic, .share = topic->share, .place = i};
    }
    qsort (core->order, count, sizeof *core->order, s_by_share);
    return count;
}

/* Topics take turns for workers of several of them, by what these got of each over its weight. */
void
dispatch_all (ef_core_t *core) {
    for (uint32_t i = 0; i < core->topic_count; i++) {
        topic_t *topic = core->topics[i];
        if (topic->avoid_count) {
            s_avoids_expire (core, topic);
        }
        topic->was_empty |= topic->counts[EF_STATE_READY] + topic->turns == topic->blocked;
        if (topic->reserved) {
            reserve_judge (core, topic);
        }
    }
    for (bool goes_on = true; goes_on;) {
        goes_on = false;
        uint32_t count = s_line_up (core);
        for (uint32_t i = 0; i < count; i++) {
            topic_t *topic = core->order[i].topic;
            goes_on = (s_can_go (core, topic) && s_dispatch_one (core, topic)) || goes_on;
        }
    }
    for (uint32_t i = 0; i < core->topic_count; i++) {
        s_judge_stall (core, core->topics[i]);
    }
    core->dispatch_from = core->topic_count ? (core->dispatch_from + 1) % core->topic_count : 0;
}
