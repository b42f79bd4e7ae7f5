/* Workers, what they hold, and where they stand in line. SPDX-License-Identifier: MIT

   Invariants: an item that isn't ANSWERED fills its worker's windows; an OPEN one holds its event,
   which is LEASED; a worker stands in a topic's queue exactly while it has room. */
#include "core_private.h"

#include <stdio.h>

static void
s_unlink (sub_t *sub) {
    if (sub->queue < 0) {
        return;
    }
    sub_t **head = &sub->topic->queues[sub->queue];
    if (sub->next == sub) {
        *head = NULL;
    } else {
        sub->prev->next = sub->next;
        sub->next->prev = sub->prev;
        *head = *head == sub ? sub->next : *head;
    }
    sub->queue = -1;
}

static void
s_link (sub_t *sub, int queue) {
    sub_t **head = &sub->topic->queues[queue];
    if (*head == NULL) {
        *head = sub->prev = sub->next = sub;
    } else {
        sub->next = *head;
        sub->prev = (*head)->prev;
        sub->prev->next = sub;
        sub->next->prev = sub;
    }
    sub->queue = queue;
}

bool
worker_has_room (const worker_t *worker) {
    return worker->in_flight < worker->credit && !worker->is_draining && !worker->is_unhealthy &&
           !worker->is_stuck && !worker->is_alone &&
           (worker->reserved_for == NULL || worker->in_flight == 0) &&
           (worker->bytes_in_flight < worker->bytes || worker->in_flight == 0);
}

void
worker_queue (worker_t *worker) {
    int queue = !worker_has_room (worker) ? -1 : worker->in_flight == 0 ? 0 : 1;
    for (uint32_t i = 0; i < worker->sub_count; i++) {
        sub_t *sub = &worker->subs[i];
        if (sub->queue != queue) {
            s_unlink (sub);
            if (queue >= 0) {
                s_link (sub, queue);
            }
        }
    }
}

/* From now on a worker gets nothing more until it is idle, for a topic's suspect. Not for ever:
   what it has may never be answered. */
void
reserve_begin (ef_core_t *self, topic_t *topic, worker_t *worker) {
    ef_assert (topic->reserved == NULL);
    if (worker->reserved_for == NULL) {
        topic->reserved = worker;
        topic->reserved_until_ms = self->now + topic->config.lease_ms;
        worker->reserved_for = topic;
    }
}

void
reserve_end (topic_t *topic) {
    worker_t *worker = topic->reserved;
    ef_assert (worker->reserved_for == topic);
    topic->reserved = NULL;
    worker->reserved_for = NULL;
    worker_queue (worker);
}

/* Ends it where another worker has had the suspect, or this one doesn't become idle. */
void
reserve_judge (const ef_core_t *self, topic_t *topic) {
    bool is_needed = topic->suspects > 0 && self->now < topic->reserved_until_ms;
    uint32_t i = 0;
    while (is_needed && i < topic->ready.count &&
           !(((const entry_t *)topic->ready.items[i])->flags & ENTRY_SUSPECT)) {
        i++;
    }
    if (!is_needed || i == topic->ready.count) {
        reserve_end (topic);
    }
}

worker_t *
worker_find_session (ef_core_t *self, const uint8_t session[16]) {
    uint32_t position = 0;
    worker_t *worker;
    while ((worker = ef_hash_next (&self->workers, &position)) != NULL) {
        if (worker->has_session && memcmp (worker->session, session, 16) == 0) {
            return worker;
        }
    }
    return NULL;
}

/* A live worker's name with the first free suffix. */
const char *
worker_free_name (ef_core_t *self, const char *asked, char name[EF_NAME_MAX + 8]) {
    snprintf (name, EF_NAME_MAX + 8, "%s", asked);
    for (unsigned i = 2; ef_hash_find (&self->workers, name, strlen (name)); i++) {
        snprintf (name, EF_NAME_MAX + 8, "%s-%u", asked, i);
    }
    return name;
}

static bool
s_lease_before (const void *a, const void *b) {
    const lease_t *x = a;
    const lease_t *y = b;
    return x->next_ms < y->next_ms || (x->next_ms == y->next_ms && x->first_tag < y->first_tag);
}

static void
s_lease_placed (void *item, uint32_t position) {
    ((lease_t *)item)->heap_at = position;
}

/* Makes room behind the last lease: closes the gaps of finished ones, or doubles the ring. */
static void
s_lease_room (worker_t *worker) {
    if (worker->lease_count < worker->lease_capacity) {
        return;
    }
    uint32_t live = 0;
    for (uint32_t i = 0; i < worker->lease_count; i++) {
        live += worker->leases[(worker->lease_head + i) % worker->lease_capacity] != NULL;
    }
    uint32_t capacity = worker->lease_capacity ? worker->lease_capacity : 8;
    capacity = live > capacity / 2 ? 2 * capacity : capacity;
    lease_t **ring = calloc (capacity, sizeof (lease_t *));
    ef_assert (ring != NULL);
    uint32_t count = 0;
    for (uint32_t i = 0; i < worker->lease_count; i++) {
        lease_t *lease = worker->leases[(worker->lease_head + i) % worker->lease_capacity];
        if (lease) {
            ring[count++] = lease;
        }
    }
    free (worker->leases);
    worker->leases = ring;
    worker->lease_head = 0;
    worker->lease_count = count;
    worker->lease_capacity = capacity;
}

void
worker_add_lease (ef_core_t *self, lease_t *lease) {
    worker_t *worker = lease->worker;
    s_lease_room (worker);
    worker->leases[(worker->lease_head + worker->lease_count++) % worker->lease_capacity] = lease;
    if (self->leases.before == NULL) {
        ef_heap_init (&self->leases, s_lease_before, s_lease_placed);
    }
    ef_heap_push (&self->leases, lease);
}

/* Finished leases at the front of the ring go. */
static void
s_trim (worker_t *worker) {
    while (worker->lease_count > 0 && worker->leases[worker->lease_head] == NULL) {
        worker->lease_head = (worker->lease_head + 1) % worker->lease_capacity;
        worker->lease_count--;
    }
}

static uint32_t
s_slot (const worker_t *worker, uint32_t i) {
    return (worker->lease_head + i) % worker->lease_capacity;
}

/* The place of the last lease that begins at or before a tag; gaps are passed over downwards. */
static lease_t *
s_find_lease (const worker_t *worker, uint64_t tag, uint32_t *place) {
    for (uint32_t low = 0, high = worker->lease_count; low < high;) {
        uint32_t middle = low + (high - low) / 2;
        uint32_t probe = middle;
        while (probe > low && worker->leases[s_slot (worker, probe)] == NULL) {
            probe--;
        }
        lease_t *lease = worker->leases[s_slot (worker, probe)];
        if (lease && tag >= lease->first_tag && tag - lease->first_tag < lease->count) {
            *place = probe;
            return lease;
        }
        if (lease == NULL || lease->first_tag <= tag) {
            low = middle + 1;
        } else {
            high = probe;
        }
    }
    return NULL;
}

/* The first lease that ends at or behind a tag; NULL where there is none. */
lease_t *
worker_lease_from (worker_t *worker, uint64_t tag, uint32_t *place) {
    lease_t *lease = s_find_lease (worker, tag, place);
    if (lease) {
        return lease;
    }
    /* Between two leases or before the first: seldom, so a walk is good enough. */
    for (*place = 0; *place < worker->lease_count; ++*place) {
        lease = worker->leases[s_slot (worker, *place)];
        if (lease && lease->first_tag + lease->count > tag) {
            return lease;
        }
    }
    return NULL;
}

lease_t *
worker_lease_next (worker_t *worker, uint32_t *place) {
    while (++*place < worker->lease_count) {
        lease_t *lease = worker->leases[s_slot (worker, *place)];
        if (lease) {
            return lease;
        }
    }
    return NULL;
}

/* Replaces what a worker takes work from. */
void
worker_subscribe (ef_core_t *self, worker_t *worker, topic_t *const *topics, uint32_t count) {
    (void)self;
    if (worker->reserved_for) {
        reserve_end (worker->reserved_for); /* it may have left that topic */
    }
    for (uint32_t i = 0; i < worker->sub_count; i++) {
        s_unlink (&worker->subs[i]);
        worker->subs[i].topic->workers--;
        worker->subs[i].topic->unwell -= worker->is_unhealthy;
    }
    free (worker->subs);
    worker->subs = calloc (count ? count : 1, sizeof *worker->subs);
    ef_assert (worker->subs != NULL);
    worker->sub_count = count;
    for (uint32_t i = 0; i < count; i++) {
        worker->subs[i] = (sub_t){.worker = worker, .topic = topics[i], .queue = -1};
        topics[i]->workers++;
        topics[i]->unwell += worker->is_unhealthy;
    }
    worker_queue (worker);
}

/* An item that wasn't answered yet, by its tag; NULL where the tag is stale for this worker. */
item_t *
worker_item (worker_t *worker, uint64_t tag, lease_t **lease_p) {
    uint32_t place;
    lease_t *lease = s_find_lease (worker, tag, &place);
    if (lease == NULL) {
        return NULL;
    }
    item_t *item = &lease->items[tag - lease->first_tag];
    *lease_p = lease;
    return item->state == ITEM_ANSWERED ? NULL : item;
}

/* Takes an item out of the windows; its event is dealt with already. */
void
item_answered (ef_core_t *self, lease_t *lease, item_t *item) {
    (void)self;
    ef_assert (item->state != ITEM_ANSWERED && lease->unanswered > 0);
    item->state = ITEM_ANSWERED;
    item->entry = NULL;
    lease->topic->pinned_bytes -= item->event_bytes;
    item->event_bytes = 0;
    free (item->event);
    item->event = NULL;
    lease->worker->in_flight--;
    lease->worker->is_alone = lease->worker->is_alone && lease->worker->in_flight > 0;
    lease->worker->bytes_in_flight -= item->bytes;
    lease->unanswered--;
}

/* Frees a lease that has no unanswered item. */
void
lease_reap (ef_core_t *self, lease_t *lease) {
    if (lease->unanswered > 0) {
        return;
    }
    worker_t *worker = lease->worker;
    uint32_t place = 0;
    lease_t *found = s_find_lease (worker, lease->first_tag, &place);
    ef_assert (found == lease);
    worker->leases[s_slot (worker, place)] = NULL;
    s_trim (worker);
    if (lease->heap_at != EF_HEAP_NONE) {
        ef_heap_remove (&self->leases, lease->heap_at);
    }
    free (lease);
}

/* A process died with this event in hand. True: it is the second that died with it alone. */
static bool
s_suspect (topic_t *topic, entry_t *entry, bool was_alone) {
    bool is_again = was_alone && (entry->flags & ENTRY_SUSPECT);
    bool is_poison = is_again && (entry->flags & ENTRY_ALONE);
    suspect_set (topic, entry, true);
    entry->flags |= is_again ? ENTRY_ALONE : 0;
    return is_poison;
}

void
suspect_set (topic_t *topic, entry_t *entry, bool is_suspect) {
    bool was = entry->flags & ENTRY_SUSPECT;
    entry->flags &= ~(uint32_t)(is_suspect ? 0 : ENTRY_SUSPECT | ENTRY_ALONE) & ENTRY_FLAGS;
    entry->flags |= is_suspect ? ENTRY_SUSPECT : 0;
    topic->suspects += is_suspect && !was;
    topic->suspects -= was && !is_suspect;
}

void
worker_lose (ef_core_t *self, worker_t *worker, const char *text, bool has_died) {
    static const uint8_t code[] = {0xab, 'W', 'O', 'R', 'K', 'E', 'R', '_', 'L', 'O', 'S', 'T'};
    bool was_alone = worker->in_flight == 1;
    for (uint32_t i = 0; i < worker->lease_count; i++) {
        lease_t *lease = worker->leases[s_slot (worker, i)];
        for (uint32_t k = 0; lease && k < lease->count; k++) {
            item_t *item = &lease->items[k];
            if (item->state == ITEM_ANSWERED) {
                continue;
            }
            batch_split (self);
            if (item->state == ITEM_OPEN && text) {
                entry_t *entry = item_entry (self, lease->topic, item);
                failure_t failure = {.code = span_of (code, sizeof code),
                                     .text = span_of (text, strlen (text)),
                                     .is_poison =
                                         has_died && s_suspect (lease->topic, entry, was_alone),
                                     .event = span_of (item->event, item->event_bytes),
                                     .worker = worker,
                                     .started_ms = lease->started_ms,
                                     .kind = EF_FAILURE_WORKER_LOST,
                                     .is_unknown = true,
                                     .retry_ms = -1};
                breakers_outcome (self, lease->topic, item, span_of (NULL, 0), OUTCOME_FAILED);
                fail_event (self, entry, &failure);
            } else if (item->state == ITEM_OPEN) {
                give_back (self, lease->topic, item);
            }
            item_answered (self, lease, item);
        }
        if (lease) {
            if (lease->heap_at != EF_HEAP_NONE) {
                ef_heap_remove (&self->leases, lease->heap_at);
            }
            free (lease);
        }
    }
    worker->lease_count = 0;
}

/* The process that a token was given to has ended by a crash. */
void
ef_core_worker_died (ef_core_t *self, const char *token, const char *text) {
    worker_t *worker;
    uint32_t position = 0;
    while ((worker = ef_hash_next (&self->workers, &position)) != NULL) {
        if (worker->token[0] && strcmp (worker->token, token) == 0) {
            worker_lose (self, worker, text, true);
            peer_forget (self, worker->peer);
            return;
        }
    }
}

/* What it still holds goes back, uncounted. */
void
worker_free (ef_core_t *self, worker_t **worker_p) {
    worker_t *worker = *worker_p;
    worker_lose (self, worker, NULL, false);
    if (worker->reserved_for) {
        reserve_end (worker->reserved_for);
    }
    for (uint32_t i = 0; i < worker->sub_count; i++) {
        s_unlink (&worker->subs[i]);
        worker->subs[i].topic->workers--;
        worker->subs[i].topic->unwell -= worker->is_unhealthy;
    }
    ef_hash_remove (&self->workers, worker);
    free (worker->subs);
    free (worker->leases);
    free (worker);
    *worker_p = NULL;
}

static void
s_send_tags (ef_core_t *self, const lease_t *lease, uint64_t tag, uint64_t left_ms) {
    ef_buf_t *header = &self->header;
    ef_buf_clear (header);
    ef_put_array (header, 3);
    ef_put_str (header, "EXPIRING");
    ef_put_array (header, 1);
    ef_put_uint (header, tag);
    ef_put_uint (header, left_ms);
    (void)peer_send (self, lease->worker->peer, NULL); /* advice; the lease ends all the same */
}

/* Looks at every open item: warns, ends, and says when to look again. */
static void
s_judge_lease (ef_core_t *self, lease_t *lease) {
    static const uint8_t code[] = {0xa5, 'L', 'E', 'A', 'S', 'E'};
    uint64_t next = UINT64_MAX;
    for (uint32_t i = 0; i < lease->count; i++) {
        item_t *item = &lease->items[i];
        uint32_t fifth = lease->topic->config.lease_ms / 5;
        if (item->state != ITEM_OPEN) {
            continue;
        }
        if (item->flags & ENTRY_HELD) {
            item->deadline_ms = self->now + lease->topic->config.lease_ms;
            item->flags = (uint16_t)(self->space == EF_SPACE_NORMAL ? item->flags & ~ENTRY_HELD
                                                                    : item->flags);
        }
        if (item->deadline_ms <= self->now) {
            batch_split (self);
            failure_t failure = {.code = span_of (code, sizeof code),
                                 .text = span_of ("the lease ran out", 17),
                                 .event = span_of (item->event, item->event_bytes),
                                 .worker = lease->worker,
                                 .started_ms = lease->started_ms,
                                 .kind = EF_FAILURE_LEASE,
                                 .is_unknown = true,
                                 .retry_ms = -1};
            entry_t *entry = item_entry (self, lease->topic, item);
            breakers_outcome (self, lease->topic, item, span_of (NULL, 0), OUTCOME_FAILED);
            entry->tag = lease->first_tag + i; /* a late answer under it still counts */
            item->state = ITEM_LAPSED;
            item->entry = NULL;
            lease->worker->failed++;
            fail_event (self, entry, &failure);
            self->effects.notify (self->effects.arg, "timeout", lease->topic->config.name,
                                  lease->worker->name);
            cancel_send (self, lease->worker, lease->first_tag + i, lease->first_tag + i,
                         "the lease ran out");
            continue;
        }
        if (!item->is_warned && item->deadline_ms - self->now <= fifth) {
            item->is_warned = true;
            s_send_tags (self, lease, lease->first_tag + i, item->deadline_ms - self->now);
        }
        uint64_t look = item->is_warned ? item->deadline_ms : item->deadline_ms - fifth;
        next = look < next ? look : next;
    }
    lease->next_ms = next;
    if (next == UINT64_MAX) {
        ef_heap_remove (&self->leases, lease->heap_at); /* lapsed or answered, all of it */
    } else {
        ef_heap_moved (&self->leases, lease->heap_at);
    }
}

void
leases_tick (ef_core_t *self) {
    lease_t *lease;
    while ((lease = ef_heap_top (&self->leases)) != NULL && lease->next_ms <= self->now) {
        s_judge_lease (self, lease);
    }
}
