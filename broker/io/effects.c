/* What the core wants done, done. SPDX-License-Identifier: MIT */
#include "router_private.h"

#include <stdio.h>
#include <stdlib.h>

void
outbox_add (outbox_t *self, void *item) {
    if (self->head + self->count == self->capacity) {
        if (self->head > self->capacity / 2) {
            memmove (self->items, self->items + self->head, self->count * sizeof (void *));
            self->head = 0;
        } else {
            self->capacity = self->capacity ? 2 * self->capacity : 64;
            self->items = realloc (self->items, self->capacity * sizeof (void *));
            ef_assert (self->items != NULL);
        }
    }
    self->items[self->head + self->count++] = item;
}

void
outbox_free (outbox_t *self) {
    free (self->items);
    memset (self, 0, sizeof *self);
}

static void
s_flush (outbox_t *self, ef_actor_t *actor, uint32_t most) {
    while (self->count > 0 && most > 0 && ef_ring_push (&actor->in, self->items[self->head])) {
        self->head++;
        self->count--;
        most--;
    }
    if (self->count == 0) {
        self->head = 0;
    }
}

/* Hands over what this turn has gathered. */
void
router_flush (ef_router_t *self) {
    if (self->to_journal.count) {
        uint32_t before = self->to_journal.count;
        s_flush (&self->to_journal, &self->parts.journal->actor, EF_RING_SLOTS - self->batches_out);
        self->batches_out += before - self->to_journal.count;
        ef_waker_wake (&self->parts.journal->actor.waker);
    }
    if (self->to_scaler.count) {
        ef_actor_t *scaler = ef_scaler_actor (self->parts.scaler);
        s_flush (&self->to_scaler, scaler, UINT32_MAX);
        ef_waker_wake (&scaler->waker);
    }
    if (self->to_reader.count) {
        s_flush (&self->to_reader, &self->parts.reader->actor, UINT32_MAX);
        ef_waker_wake (&self->parts.reader->actor.waker);
    }
    if (self->to_upkeep.count) {
        s_flush (&self->to_upkeep, &self->parts.upkeep->actor, UINT32_MAX);
        ef_waker_wake (&self->parts.upkeep->actor.waker);
    }
    if (self->to_finder.count) {
        s_flush (&self->to_finder, &self->parts.finder->actor, UINT32_MAX);
        ef_waker_wake (&self->parts.finder->actor.waker);
    }
    if (self->to_dead.count) {
        ef_actor_t *actor = ef_dead_letters_actor (self->parts.dead);
        s_flush (&self->to_dead, actor, UINT32_MAX);
        ef_waker_wake (&actor->waker);
    }
    if (self->to_monitor.count) {
        ef_actor_t *actor = ef_monitor_actor (self->parts.monitor);
        s_flush (&self->to_monitor, actor, UINT32_MAX);
        ef_waker_wake (&actor->waker);
    }
    if (self->waits && ef_actor_tell (&self->parts.retry->actor, self->waits)) {
        self->waits = NULL;
    }
}

static uint8_t *
s_body_new (void *arg, size_t bytes, void **message) {
    (void)arg;
    zmq_msg_t *body = malloc (sizeof *body);
    ef_assert (body != NULL);
    int rc = zmq_msg_init_size (body, bytes);
    ef_assert (rc == 0);
    *message = body;
    return zmq_msg_data (body);
}

/* Routing id, REQ's delimiter, header, body: the first frame decides, behind it nothing can fail.
 */
int
router_send_frames (ef_router_t *self, const ef_peer_t *peer, const ef_buf_t *header,
                    zmq_msg_t *body) {
    void *socket = self->sockets[peer->socket];
    if (zmq_send (socket, peer->key + 1, peer->key_size - 1u, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0) {
        int events = 0; /* what is tried every turn must not keep the router awake */
        size_t size = sizeof events;
        bool is_known = zmq_getsockopt (socket, ZMQ_EVENTS, &events, &size) == 0;
        self->may_have[peer->socket] |= !is_known || (events & ZMQ_POLLIN);
        return -1;
    }
    self->may_have[peer->socket] = true;
    if (peer->is_req) {
        (void)zmq_send (socket, "", 0, ZMQ_SNDMORE | ZMQ_DONTWAIT); /* behind the first frame */
    }
    int rc = zmq_send (socket, header->data, header->size, (body ? ZMQ_SNDMORE : 0) | ZMQ_DONTWAIT);
    if (body && rc >= 0) {
        rc = zmq_msg_send (body, socket, ZMQ_DONTWAIT);
    }
    return rc < 0 ? -1 : 0;
}

static int
s_send (void *arg, uint32_t number, const ef_buf_t *header, void *message) {
    ef_router_t *self = arg;
    const ef_peer_t *peer = self->peers.by_number[number];
    ef_assert (peer != NULL);
    zmq_msg_t *body = message;
    int rc = router_send_frames (self, peer, header, body);
    if (body) {
        zmq_msg_close (body);
        free (body);
    }
    return rc;
}

static void
s_forget (void *arg, uint32_t number) {
    ef_peers_remove (&((ef_router_t *)arg)->peers, number);
}

static void
s_submit (void *arg, ef_batch_t *batch) {
    outbox_add (&((ef_router_t *)arg)->to_journal, batch);
}

static void
s_fetch (void *arg, uint32_t segment, uint32_t offset) {
    ef_fetch_t *fetch = calloc (1, sizeof *fetch);
    ef_assert (fetch != NULL);
    fetch->segment = segment;
    fetch->offset = offset;
    outbox_add (&((ef_router_t *)arg)->to_reader, fetch);
}

static void
s_drop_segment (void *arg, uint32_t segment) {
    ef_router_t *self = arg;
    ef_log (EF_LOG_INFO, "journal.drop", "segment=%u", segment);
    atomic_fetch_add (&self->parts.journal->drops, 1);
    ef_actor_poke (&self->parts.journal->actor);
}

static void
s_checkpoint (void *arg, ef_checkpoint_part_t *part) {
    outbox_add (&((ef_router_t *)arg)->to_upkeep, part);
}

static void
s_retry_at (void *arg, uint32_t topic, uint64_t n, uint32_t generation, uint64_t due_ms) {
    ef_router_t *self = arg;
    ef_wait_t wait = {due_ms, n, topic, generation};
    self->waits = ef_waits_add (self->waits, &wait);
}

static void
s_dead (void *arg, const char *topic, const ef_dead_t *dead) {
    ef_dead_message_t *message = ef_dead_message_new (EF_DEAD_ADD, topic);
    message->dead = *dead;
    ef_buf_put (&message->bytes, dead->event.data, dead->event.size);
    ef_buf_put (&message->bytes, dead->history.data, dead->history.size);
    message->dead.event.data = (const char *)message->bytes.data;
    message->dead.history.data = (const char *)message->bytes.data + dead->event.size;
    outbox_add (&((ef_router_t *)arg)->to_dead, message);
}

static void
s_returned (void *arg, const char *topic, uint64_t b) {
    ef_dead_message_t *message = ef_dead_message_new (EF_DEAD_RETURNED, topic);
    message->number = b;
    outbox_add (&((ef_router_t *)arg)->to_dead, message);
}

static void
s_want_overflow (void *arg, const char *topic, uint32_t count) {
    ef_dead_message_t *message = ef_dead_message_new (EF_DEAD_WANT, topic);
    message->count = count;
    outbox_add (&((ef_router_t *)arg)->to_dead, message);
}

static void
s_notify (void *arg, const char *kind, const char *topic, const char *detail) {
    ef_router_t *self = arg;
    char subject[96];
    snprintf (subject, sizeof subject, "notice.%s", kind);
    static const char *const frequent[] = {"dead", "overflow", "timeout", "expired", "parked"};
    bool is_frequent = false;
    for (size_t i = 0; i < sizeof frequent / sizeof frequent[0]; i++) {
        is_frequent = is_frequent || strcmp (kind, frequent[i]) == 0;
    }
    if (is_frequent) {
        ef_log_limited (EF_LOG_INFO, subject, "topic=%s detail=\"%s\"", topic, detail);
    } else {
        ef_log (EF_LOG_INFO, subject, "topic=%s detail=\"%s\"", topic, detail);
    }
    if (self->to_monitor.count > 1000) {
        return; /* stats are lossy by design */
    }
    ef_monitor_message_t *message = ef_monitor_message_new (subject);
    ef_put_map (&message->map, 3);
    ef_put_key_str (&message->map, "topic", topic);
    ef_put_key_str (&message->map, "detail", detail);
    ef_put_key_uint (&message->map, "time", ef_wall_ms ());
    outbox_add (&self->to_monitor, message);
}

static uint64_t
s_random (void *arg) {
    /* splitmix64 (Steele, Lea, Flood, 2014) over a kernel seed: ids and jitter, no secrets. */
    static _Thread_local uint64_t state;
    (void)arg;
    state = state ? state : ef_random ();
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void
router_effects (ef_router_t *self, ef_effects_t *effects) {
    *effects = (ef_effects_t){.arg = self,
                              .body_new = s_body_new,
                              .send = s_send,
                              .forget = s_forget,
                              .submit = s_submit,
                              .fetch = s_fetch,
                              .drop_segment = s_drop_segment,
                              .checkpoint = s_checkpoint,
                              .retry_at = s_retry_at,
                              .dead = s_dead,
                              .returned = s_returned,
                              .want_overflow = s_want_overflow,
                              .notify = s_notify,
                              .random = s_random};
}
