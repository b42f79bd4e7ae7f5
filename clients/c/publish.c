/* Handing events to the publisher, from any thread. SPDX-License-Identifier: MIT */
#include "publisher_private.h"

#include <stdlib.h>
#include <time.h>

#define PUBLISH_BURST 16 /* events that go without waiting for a flush */

/* With the lock held: has the message that is gathered reached a bound? */
static bool
s_is_full (const eventflow_publisher_t *self) {
    return self->gather.size >= self->options.batch_bytes ||
           (self->options.batch_events && self->gathered >= self->options.batch_events);
}

/* Is what is gathered enough to go on its own? Half of what is under way: so that the broker has
   the next group at hand when its disk is done with one, and yet groups grow with the load. */
bool
publisher_is_ripe (const eventflow_publisher_t *self) {
    uint64_t under_way = self->taken - self->gathered - self->decided;
    return self->gathered > 0 && self->gathered * 2ull >= under_way;
}

void
publisher_close (eventflow_publisher_t *self, bool is_atomic) {
    parcel_t *parcel = calloc (1, sizeof *parcel);
    ef_assert (parcel != NULL);
    parcel->is_atomic = is_atomic;
    parcel->count = self->gathered;
    parcel->first = self->taken - self->gathered + 1;
    parcel->body = self->gather;
    memset (&self->gather, 0, sizeof self->gather);
    self->gathered = 0;
    *(self->ready ? &self->ready_last->next : &self->ready) = parcel;
    self->ready_last = parcel;
}

static struct timespec
s_deadline (int timeout_ms) {
    uint64_t ns = ef_mono_ns () + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0) * 1000000u;
    return (struct timespec){(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
}

/* With the lock held: waits for room for these bytes. */
static int
s_wait_for_room (eventflow_publisher_t *self, size_t bytes, int timeout_ms) {
    struct timespec deadline = {0, 0};
    bool is_alone = self->held_bytes == 0;
    while (!is_alone && self->held_bytes + bytes > self->options.outbox_bytes) {
        deadline = deadline.tv_sec ? deadline : s_deadline (timeout_ms);
        if (timeout_ms <= 0 || pthread_cond_timedwait (&self->changed, &self->lock, &deadline)) {
            return EVENTFLOW_FULL;
        }
        is_alone = self->held_bytes == 0;
    }
    return EVENTFLOW_OK;
}

/* With the lock held. */
static void
s_wake (eventflow_publisher_t *self) {
    if (!self->is_awake) {
        self->is_awake = true;
        publisher_wake (self);
    }
}

/* With the lock held and the event appended. What lingers needs no wake-up: while something is
   unconfirmed the thread looks by itself. */
static void
s_taken (eventflow_publisher_t *self, size_t bytes, uint64_t *ticket) {
    if (self->gathered++ == 0) {
        self->gather_since_us = ef_mono_ns () / 1000;
    }
    self->held_bytes += bytes;
    self->stats.taken = ++self->taken;
    if (ticket) {
        *ticket = self->taken;
    }
    /* Of a long burst the first ones are on their way while the others come. */
    bool may_go = !self->options.waits_for_flush || self->gathered >= PUBLISH_BURST;
    if (s_is_full (self)) {
        publisher_close (self, false);
        s_wake (self);
    } else if (may_go && publisher_is_ripe (self)) {
        s_wake (self);
    }
}

void
eventflow_publisher_flush (eventflow_publisher_t *self) {
    pthread_mutex_lock (&self->lock);
    if (publisher_is_ripe (self)) {
        s_wake (self);
    }
    pthread_mutex_unlock (&self->lock);
}

int
eventflow_publish (eventflow_publisher_t *self, const char *topic, const char *id,
                   eventflow_bytes_t payload, const eventflow_bytes_t *meta, int timeout_ms,
                   uint64_t *ticket) {
    size_t topic_size = topic ? strlen (topic) : 0;
    size_t id_size = id ? strlen (id) : 0;
    if (topic_size > EF_TOPIC_MAX || id_size > EF_ID_MAX || payload.size == 0 ||
        payload.size > self->max_event) {
        return EVENTFLOW_INVALID;
    }
    size_t most = 16 + topic_size + id_size + payload.size + (meta ? meta->size : 0);
    pthread_mutex_lock (&self->lock);
    int rc = s_wait_for_room (self, most, timeout_ms);
    if (rc == EVENTFLOW_OK) {
        size_t before = self->gather.size;
        ef_put_array (&self->gather, meta ? 4 : 3);
        ef_put_str (&self->gather, topic);
        ef_put_str (&self->gather, id);
        ef_buf_put (&self->gather, payload.data, payload.size);
        if (meta) {
            ef_buf_put (&self->gather, meta->data, meta->size);
        }
        /* An event that can't be read would refuse all that travel with it. */
        ef_cursor_t cursor = ef_cursor (self->gather.data + before, self->gather.size - before);
        if (ef_skip (&cursor) || ef_cursor_left (&cursor) > 0) {
            self->gather.size = before;
            rc = EVENTFLOW_INVALID;
        } else {
            s_taken (self, self->gather.size - before, ticket);
        }
    }
    pthread_mutex_unlock (&self->lock);
    return rc;
}

int
eventflow_publish_event (eventflow_publisher_t *self, eventflow_bytes_t event, int timeout_ms,
                         uint64_t *ticket) {
    ef_cursor_t cursor = ef_cursor (event.data, event.size);
    if (event.size == 0 || event.size > self->max_event || ef_skip (&cursor) ||
        ef_cursor_left (&cursor) > 0) {
        return EVENTFLOW_INVALID;
    }
    pthread_mutex_lock (&self->lock);
    int rc = s_wait_for_room (self, event.size, timeout_ms);
    if (rc == EVENTFLOW_OK) {
        ef_buf_put (&self->gather, event.data, event.size);
        s_taken (self, event.size, ticket);
    }
    pthread_mutex_unlock (&self->lock);
    return rc;
}

/* How many events these bytes are; 0: they can't be sent as one message. */
static uint32_t
s_count_events (const eventflow_publisher_t *self, eventflow_bytes_t events) {
    ef_cursor_t cursor = ef_cursor (events.data, events.size);
    uint32_t count = 0;
    while (ef_cursor_left (&cursor) > 0) {
        const uint8_t *start = cursor.at;
        if (ef_skip (&cursor) || (size_t)(cursor.at - start) > self->max_event) {
            return 0;
        }
        count++;
    }
    return events.size <= self->max_message && count <= EF_MESSAGE_EVENTS_MAX ? count : 0;
}

int
eventflow_publish_atomic (eventflow_publisher_t *self, eventflow_bytes_t events, int timeout_ms,
                          uint64_t *ticket) {
    uint32_t count = s_count_events (self, events);
    if (count == 0) {
        return EVENTFLOW_INVALID;
    }
    pthread_mutex_lock (&self->lock);
    int rc = s_wait_for_room (self, events.size, timeout_ms);
    if (rc == EVENTFLOW_OK) {
        if (self->gathered > 0) {
            publisher_close (self, false); /* what came before is no part of it */
        }
        ef_buf_put (&self->gather, events.data, events.size);
        self->gathered = count;
        self->held_bytes += events.size;
        if (ticket) {
            *ticket = self->taken + 1;
        }
        self->taken += count;
        self->stats.taken = self->taken;
        publisher_close (self, true);
        publisher_wake (self);
    }
    pthread_mutex_unlock (&self->lock);
    return rc;
}

int
eventflow_publisher_wait (eventflow_publisher_t *self, int timeout_ms, char *code, char *text) {
    struct timespec deadline = s_deadline (timeout_ms);
    int rc = EVENTFLOW_OK;
    pthread_mutex_lock (&self->lock);
    uint64_t taken = self->taken;
    while (self->decided < taken && rc == EVENTFLOW_OK) {
        if (pthread_cond_timedwait (&self->changed, &self->lock, &deadline)) {
            rc = EVENTFLOW_TIMEOUT;
        }
    }
    if (rc == EVENTFLOW_OK && self->refused_code[0]) {
        rc = EVENTFLOW_REFUSED;
        if (code) {
            memcpy (code, self->refused_code, sizeof self->refused_code);
        }
        if (text) {
            memcpy (text, self->refused_text, sizeof self->refused_text);
        }
        self->refused_code[0] = 0;
    }
    pthread_mutex_unlock (&self->lock);
    return rc;
}

void
eventflow_publisher_stats (eventflow_publisher_t *self, eventflow_publisher_stats_t *stats) {
    pthread_mutex_lock (&self->lock);
    *stats = self->stats;
    pthread_mutex_unlock (&self->lock);
}
