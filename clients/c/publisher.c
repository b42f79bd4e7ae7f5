/* The publisher's thread: sends, resends, tells. SPDX-License-Identifier: MIT

   Role: callers (publish.c) append events to `gather` under the lock; the thread seals it into a
   message with a seq, sends it, and keeps it in `outbox` until its CONFIRM. Owns: the thread, the
   link, the outbox. Invariants: outbox is in order of seq; what isn't confirmed is in it or in
   gather. */
#include "../../proto/limits.h"
#include "publisher_private.h"
#include "reply.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

void
publisher_wake (eventflow_publisher_t *self) {
    uint64_t one = 1;
    ssize_t written = write (self->wake, &one, sizeof one);
    (void)written; /* full: it is awake already */
}

/* Tells the ids that were assigned. Without the lock. */
static void
s_tell_ids (const eventflow_publisher_t *self, ef_span_t ids) {
    ef_cursor_t cursor = ef_cursor (ids.data, ids.size);
    uint32_t items = 0;
    if (self->options.assigned == NULL || ids.size == 0 || ef_get_array (&cursor, &items)) {
        return;
    }
    for (uint32_t i = 0; i < items; i++) {
        uint32_t fields;
        uint64_t seq;
        uint64_t index;
        ef_span_t id;
        char text[EF_ID_MAX + 1];
        if (ef_get_array (&cursor, &fields) || fields != 3 || ef_get_uint (&cursor, &seq) ||
            ef_get_uint (&cursor, &index) || ef_get_str (&cursor, &id)) {
            return;
        }
        const parcel_t *parcel = self->outbox;
        while (parcel && parcel->seq != seq) {
            parcel = parcel->next;
        }
        if (parcel && index < parcel->count) {
            ef_span_copy (id, text, sizeof text);
            self->options.assigned (self->options.arg, parcel->first + index, text);
        }
    }
}

/* Tells the outcome of tickets, in order. Without the lock. */
static void
s_tell (eventflow_publisher_t *self, uint64_t first, uint64_t count, const char *code,
        const char *text) {
    if (count > 0 && self->options.outcome) {
        self->options.outcome (self->options.arg, first, count, code, text);
    }
}

static void
s_hello (eventflow_publisher_t *self, uint64_t now) {
    ef_buf_clear (&self->header);
    ef_put_array (&self->header, 3);
    ef_put_str (&self->header, "HELLO");
    ef_put_uint (&self->header, EF_PROTOCOL_VERSION);
    ef_put_map (&self->header, self->name[0] ? 3 : 2);
    ef_put_str (&self->header, "session");
    ef_put_bin (&self->header, self->session, 16);
    ef_put_key_uint (&self->header, "heard", self->heard);
    if (self->name[0]) {
        ef_put_key_str (&self->header, "name", self->name);
    }
    self->is_welcome = false;
    self->unconfirmed = 0;
    (void)ef_link_send (&self->link, &self->header, NULL, now); /* unanswered, it is said again */
}

/* One more in the numbers, which others may be reading. */
static void
s_count (eventflow_publisher_t *self, uint64_t *number) {
    pthread_mutex_lock (&self->lock);
    ++*number;
    pthread_mutex_unlock (&self->lock);
}

static int
s_send_parcel (eventflow_publisher_t *self, parcel_t *parcel, uint64_t now) {
    ef_buf_clear (&self->header);
    bool wants_ids = self->options.assigned && parcel->count <= EF_IDS_MAX;
    ef_put_array (&self->header, 3);
    ef_put_str (&self->header, "PUBLISH");
    ef_put_uint (&self->header, parcel->seq);
    ef_put_map (&self->header, (uint32_t)parcel->is_atomic + wants_ids);
    if (parcel->is_atomic) {
        ef_put_key_bool (&self->header, "atomic", true);
    }
    if (wants_ids) {
        ef_put_key_bool (&self->header, "ids", true);
    }
    if (ef_link_send (&self->link, &self->header, &parcel->body, now)) {
        return -1;
    }
    parcel->is_sent = true;
    self->unconfirmed += parcel->count;
    s_count (self, &self->stats.messages);
    return 0;
}

/* Sends what the window allows, in order. With nothing unconfirmed one message may always go. */
static void
s_send_outbox (eventflow_publisher_t *self, uint64_t now) {
    while (self->unsent) {
        parcel_t *parcel = self->unsent;
        bool fits = self->unconfirmed == 0 || self->unconfirmed + parcel->count <= self->window;
        if (!parcel->is_sent && (!fits || s_send_parcel (self, parcel, now))) {
            break;
        }
        self->unsent = parcel->next;
    }
}

/* Takes what is ready, and what was gathered where it is time. Returns when that will be, in us; 0:
   there is nothing. */
static uint64_t
s_seal (eventflow_publisher_t *self) {
    uint64_t due = 0;
    pthread_mutex_lock (&self->lock);
    if (self->gathered > 0) {
        due = self->gather_since_us + self->options.linger_us;
        if (publisher_is_ripe (self) || ef_mono_ns () / 1000 >= due) {
            publisher_close (self, false);
            due = 0;
        }
    }
    parcel_t *parcel = self->ready;
    self->ready = NULL;
    pthread_mutex_unlock (&self->lock);
    while (parcel) {
        parcel_t *next = parcel->next;
        parcel->next = NULL;
        parcel->seq = self->next_seq++;
        *(self->outbox ? &self->outbox_last->next : &self->outbox) = parcel;
        self->outbox_last = parcel;
        self->unsent = self->unsent ? self->unsent : parcel;
        parcel = next;
    }
    return due;
}

/* Tells of the refused events, and of the accepted ones before them. Returns how many were refused;
   `*told` moves on to the last ticket told of. */
static uint64_t
s_tell_refusals (eventflow_publisher_t *self, ef_span_t refused, uint64_t *told) {
    ef_cursor_t cursor = ef_cursor (refused.data, refused.size);
    uint32_t items = 0;
    uint64_t events = 0;
    ef_refusal_t refusal;
    if (refused.size && ef_get_array (&cursor, &items)) {
        return 0;
    }
    for (uint32_t i = 0; i < items && ef_refusal_read (&cursor, &refusal) == 0; i++) {
        parcel_t *parcel = self->outbox;
        while (parcel && parcel->seq != refusal.seq) {
            parcel = parcel->next;
        }
        if (parcel && parcel->is_atomic) { /* one for all */
            refusal.first = 0;
            refusal.last = UINT32_MAX;
        }
        if (parcel && parcel->first + refusal.first > *told) {
            uint64_t from = parcel->first + refusal.first;
            uint64_t most = parcel->count - 1;
            uint64_t count = (refusal.last < most ? refusal.last : most) - refusal.first + 1;
            s_tell (self, *told + 1, from - *told - 1, NULL, NULL);
            s_tell (self, from, count, refusal.code, refusal.text);
            *told = from + count - 1;
            events += count;
        }
        pthread_mutex_lock (&self->lock);
        if (self->refused_code[0] == 0) {
            memcpy (self->refused_code, refusal.code, sizeof refusal.code);
            memcpy (self->refused_text, refusal.text, sizeof refusal.text);
        }
        pthread_mutex_unlock (&self->lock);
    }
    return events;
}

/* Takes confirmed parcels off. `refused`: items, or size 0. */
static void
s_confirm (eventflow_publisher_t *self, uint64_t seq, ef_span_t refused, uint64_t accepted,
           uint64_t duplicates) {
    uint64_t told = self->decided;
    uint64_t decided = self->decided;
    uint64_t refused_events = s_tell_refusals (self, refused, &told);
    size_t bytes = 0;
    while (self->outbox && self->outbox->seq <= seq) {
        parcel_t *parcel = self->outbox;
        self->outbox = parcel->next;
        self->unsent = self->unsent == parcel ? parcel->next : self->unsent;
        decided = parcel->first + parcel->count - 1;
        bytes += parcel->body.size;
        self->unconfirmed -= parcel->is_sent ? parcel->count : 0;
        ef_buf_free (&parcel->body);
        free (parcel);
    }
    s_tell (self, told + 1, decided - told, NULL, NULL);
    pthread_mutex_lock (&self->lock);
    self->decided = decided;
    self->held_bytes -= bytes;
    self->stats.accepted += accepted;
    self->stats.duplicates += duplicates;
    self->stats.refused += refused_events;
    pthread_cond_broadcast (&self->changed);
    pthread_mutex_unlock (&self->lock);
    self->heard = seq;
}

static void
s_welcome (eventflow_publisher_t *self, const ef_reply_t *reply) {
    self->is_welcome = true;
    self->window = (uint32_t)reply->window;
    if (reply->max_event) {
        self->max_event = (uint32_t)reply->max_event;
    }
    if (reply->max_message) {
        self->max_message = (uint32_t)reply->max_message;
    }
    self->heartbeat_ms = (uint32_t)(reply->heartbeat ? reply->heartbeat : EF_HEARTBEAT_MS);
    ef_link_is_good (&self->link);
    self->unconfirmed = 0;
    for (parcel_t *parcel = self->outbox; parcel; parcel = parcel->next) {
        parcel->is_sent = parcel->seq <= reply->last; /* its CONFIRM comes right behind */
        self->unconfirmed += parcel->is_sent ? parcel->count : 0;
    }
    self->unsent = self->outbox; /* those that are sent are passed over */
}

static void
s_handle (eventflow_publisher_t *self, uint64_t now) {
    ef_cursor_t cursor =
        ef_cursor (zmq_msg_data (&self->frames[0]), zmq_msg_size (&self->frames[0]));
    uint32_t items;
    ef_span_t command;
    ef_reply_t reply = {.window = self->window};
    uint64_t number = 0;
    if (ef_get_array (&cursor, &items) || ef_get_str (&cursor, &command)) {
        return;
    }
    if (ef_span_is (command, "WELCOME") && ef_get_uint (&cursor, &number) == 0) {
        ef_reply_read (&cursor, &reply);
        s_welcome (self, &reply);
    } else if (ef_span_is (command, "CONFIRM") && ef_get_uint (&cursor, &number) == 0) {
        ef_reply_read (&cursor, &reply);
        self->window = (uint32_t)reply.window;
        if (number > self->heard) {
            s_tell_ids (self, reply.ids);
            s_confirm (self, number, reply.refused, reply.accepted, reply.duplicates);
        }
    } else if (ef_span_is (command, "WINDOW") && ef_get_uint (&cursor, &number) == 0) {
        self->window = (uint32_t)number;
    } else if (ef_span_is (command, "PONG")) {
        ef_reply_read (&cursor, &reply);
        self->window = (uint32_t)reply.window;
    } else if (ef_span_is (command, "PING")) {
        ef_buf_clear (&self->header);
        ef_put_array (&self->header, 1);
        ef_put_str (&self->header, "PONG");
        (void)ef_link_send (&self->link, &self->header, NULL, now); /* it pings again */
    } else if (ef_span_is (command, "ERROR")) {
        ef_link_close (&self->link,
                       now); /* UNKNOWN_PEER, SEQ: begin again under the same session */
    }
}

static void
s_keep_alive (eventflow_publisher_t *self, uint64_t now) {
    uint64_t silent = now - self->link.heard_ms;
    if (self->link.socket == NULL) {
        return;
    }
    if (silent >
        (self->is_welcome ? EF_LIVENESS * (uint64_t)self->heartbeat_ms : EF_LINK_HELLO_MS)) {
        ef_link_close (&self->link, now);
        self->is_welcome = false;
    } else if (self->is_welcome && now - self->link.sent_ms >= self->heartbeat_ms) {
        ef_buf_clear (&self->header);
        ef_put_array (&self->header, 1);
        ef_put_str (&self->header, "PING");
        (void)ef_link_send (&self->link, &self->header, NULL, now); /* silence shows soon enough */
    }
}

/* How long the thread may sleep, in ms. */
static int
s_sleep_ms (const eventflow_publisher_t *self, uint64_t due_us, uint64_t now) {
    if (self->link.socket == NULL) {
        return self->link.retry_ms > now ? (int)(self->link.retry_ms - now) : 1;
    }
    if (!self->is_welcome) {
        return 200;
    }
    if (due_us) {
        uint64_t us = ef_mono_ns () / 1000;
        return due_us > us ? (int)((due_us - us + 999) / 1000) : 0;
    }
    int most = (int)self->heartbeat_ms / 2;
    if (self->outbox) { /* what is gathered from now on lingers, and nobody wakes us for it */
        int linger = (int)self->options.linger_us / 1000 + 1;
        int late = (int)(now - self->link.sent_ms) / 8; /* little beside what they wait anyway */
        int sleep = linger > late ? linger : late;
        return sleep < most ? sleep : most;
    }
    return most;
}

static void *
s_run (void *arg) {
    eventflow_publisher_t *self = arg;
    for (;;) {
        uint64_t now = ef_mono_ms ();
        pthread_mutex_lock (&self->lock);
        bool is_stopping = self->is_stopping;
        self->is_awake = true;
        pthread_mutex_unlock (&self->lock);
        if (is_stopping) {
            return NULL;
        }
        if (ef_link_open (&self->link, now)) {
            if (self->link.opened > 1) {
                s_count (self, &self->stats.reconnects);
            }
            s_hello (self, now);
        }
        while (ef_link_receive (&self->link, self->frames, now)) {
            s_handle (self, now);
        }
        uint64_t due = 0;
        if (self->is_welcome) {
            due = s_seal (self);
            s_send_outbox (self, now);
        }
        s_keep_alive (self, now);
        pthread_mutex_lock (&self->lock);
        /* What came in the meantime didn't wake us. */
        bool has_more = self->is_welcome && (self->ready || publisher_is_ripe (self));
        self->is_awake = false;
        pthread_mutex_unlock (&self->lock);
        bool was_woken =
            ef_link_wait (&self->link, self->wake, has_more ? 0 : s_sleep_ms (self, due, now));
        uint64_t count;
        ssize_t got = was_woken ? read (self->wake, &count, sizeof count) : 0;
        (void)got; /* how often it was woken doesn't matter */
    }
}

eventflow_publisher_t *
eventflow_publisher_new (const eventflow_publisher_options_t *options) {
    eventflow_publisher_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->options = options ? *options : (eventflow_publisher_options_t){0};
    self->options.linger_us = self->options.linger_us ? self->options.linger_us : 1000;
    self->options.batch_bytes = self->options.batch_bytes ? self->options.batch_bytes : 48u << 10;
    self->options.outbox_bytes =
        self->options.outbox_bytes ? self->options.outbox_bytes : 16u << 20;
    uint32_t most = self->options.batch_events;
    if (self->options.assigned && (most == 0 || most > EF_IDS_MAX)) {
        self->options.batch_events = EF_IDS_MAX;
    }
    snprintf (self->name, sizeof self->name, "%s", self->options.name ? self->options.name : "");
    uint64_t random[2] = {ef_random (), ef_random ()};
    memcpy (self->session, random, 16);
    self->next_seq = 1;
    self->max_event = EF_EVENT_MAX;
    self->max_message = EF_MESSAGE_MAX;
    self->heartbeat_ms = EF_HEARTBEAT_MS;
    self->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    zmq_msg_init (&self->frames[0]);
    zmq_msg_init (&self->frames[1]);
    ef_link_init (&self->link, self->options.endpoint, "EVENTFLOW_FRONT", "tcp://127.0.0.1:5551");
    pthread_condattr_t attributes;
    pthread_mutex_init (&self->lock, NULL);
    pthread_condattr_init (&attributes);
    pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
    pthread_cond_init (&self->changed, &attributes);
    pthread_condattr_destroy (&attributes);
    if (pthread_create (&self->thread, NULL, s_run, self)) {
        ef_link_free (&self->link);
        free (self);
        return NULL;
    }
    return self;
}

void
eventflow_publisher_destroy (eventflow_publisher_t **self_p) {
    eventflow_publisher_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    pthread_mutex_lock (&self->lock);
    self->is_stopping = true;
    pthread_mutex_unlock (&self->lock);
    publisher_wake (self);
    (void)pthread_join (self->thread, NULL); /* a thread of our own */
    if (self->is_welcome && self->outbox == NULL && self->ready == NULL) {
        ef_buf_clear (&self->header);
        ef_put_array (&self->header, 1);
        ef_put_str (&self->header, "BYE");
        (void)ef_link_send (&self->link, &self->header, NULL, ef_mono_ms ()); /* a courtesy */
    }
    if (self->ready) {
        *(self->outbox ? &self->outbox_last->next : &self->outbox) = self->ready;
    }
    while (self->outbox) {
        parcel_t *parcel = self->outbox;
        self->outbox = parcel->next;
        ef_buf_free (&parcel->body);
        free (parcel);
    }
    zmq_msg_close (&self->frames[0]);
    zmq_msg_close (&self->frames[1]);
    ef_link_free (&self->link);
    ef_buf_free (&self->gather);
    ef_buf_free (&self->header);
    close (self->wake);
    pthread_mutex_destroy (&self->lock);
    pthread_cond_destroy (&self->changed);
    free (self);
    *self_p = NULL;
}
