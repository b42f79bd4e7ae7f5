/* The router's loop. SPDX-License-Identifier: MIT */
#include "router_private.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define DRAIN_NS         1000000u /* spent on one socket in a turn */
#define STATS_MS         1000
/* Of the journal between two checkpoints: with the segment under way and those that grow while
   parts are gathered, recovery reads less than 512 MiB. */
#define CHECKPOINT_BYTES (192ull << 20)
#define SOCKET_HWM       100000 /* messages; above what credit and windows allow any one peer */

uint64_t
ef_router_segment_slack (const ef_config_t *config) {
    return (1u << 20) + 2ull * config->max_message;
}

void
router_core_config (const ef_router_t *self, ef_core_config_t *core) {
    const ef_config_t *config = &self->settings;
    bool is_synced = strcmp (config->durability, "os") != 0;
    *core = (ef_core_config_t){.max_event = config->max_event,
                               .max_message = config->max_message,
                               .window = EF_WINDOW_EVENTS,
                               .heartbeat_ms = config->heartbeat_ms,
                               .segment_bytes = config->segment_bytes,
                               .segment_slack = ef_router_segment_slack (config),
                               .spares = EF_SPARES_WANTED,
                               .extent_span = EF_EXTENT_SPAN,
                               /* Written and not synced, the log may lose what a checkpoint
                                  knows. */
                               .checkpoint_bytes = is_synced ? CHECKPOINT_BYTES : 0,
                               .cache_bytes = config->cache_bytes,
                               .behind_bytes = 16u << 20,
                               .auto_create = config->auto_create,
                               .publisher_rate = config->publisher_rate,
                               .publisher_burst = config->publisher_burst,
                               .defaults = config->defaults.topic,
                               .durability = is_synced ? "sync" : "os"};
    memcpy (core->broker, config->name, sizeof core->broker);
}

static void
s_new_core (ef_router_t *self) {
    const ef_config_t *config = &self->settings;
    ef_core_config_t core;
    ef_effects_t effects;
    router_core_config (self, &core);
    router_effects (self, &effects);
    self->core = ef_core_new (&core, &effects);
    for (uint32_t i = 0; i < config->topic_count; i++) {
        int rc = ef_core_configure_topic (self->core, &config->topics[i].topic);
        ef_assert (rc == 0); /* fewer than EF_TOPICS_MAX, checked with the configuration */
    }
    ef_core_set_routes (self->core, config->routes, config->route_count);
    ef_core_clock (self->core, ef_mono_ms (), ef_wall_ms ());
}

void
ef_router_renew_core (ef_router_t *self) {
    ef_core_destroy (&self->core);
    s_new_core (self);
}

ef_router_t *
ef_router_new (const ef_router_parts_t *parts) {
    ef_router_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->parts = *parts;
    uint64_t key[2] = {ef_random (), ef_random ()};
    ef_peers_init (&self->peers, key);
    for (unsigned i = 0; i < EF_FRAMES_MAX; i++) {
        zmq_msg_init (&self->frames[i]);
    }
    self->started_ms = self->config_ms = ef_wall_ms ();
    ef_config_copy (&self->settings, parts->config);
    s_new_core (self);
    return self;
}

static void
s_free_batch (ef_batch_t *batch) {
    ef_buf_free (&batch->buf);
    free (batch);
}

void
ef_router_destroy (ef_router_t **self_p) {
    ef_router_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    for (unsigned i = 0; i < SOCKET_COUNT; i++) {
        if (self->sockets[i]) {
            zmq_close (self->sockets[i]);
        }
    }
    ef_batch_t *batch;
    while (self->parts.journal &&
           ((batch = ef_ring_pop (&self->parts.journal->actor.in)) != NULL ||
            (batch = ef_ring_pop (&self->parts.journal->actor.out)) != NULL)) {
        s_free_batch (batch);
    }
    for (uint32_t i = 0; i < self->to_journal.count; i++) {
        s_free_batch (self->to_journal.items[self->to_journal.head + i]);
    }
    for (uint32_t i = 0; i < self->to_reader.count; i++) {
        free (self->to_reader.items[self->to_reader.head + i]);
    }
    for (uint32_t i = 0; i < self->to_monitor.count; i++) {
        ef_monitor_message_t *message = self->to_monitor.items[self->to_monitor.head + i];
        ef_buf_free (&message->map);
        free (message);
    }
    outbox_free (&self->to_journal);
    outbox_free (&self->to_reader);
    for (uint32_t i = 0; i < self->to_upkeep.count; i++) {
        ef_checkpoint_part_t *part = self->to_upkeep.items[self->to_upkeep.head + i];
        ef_buf_free (&part->buf);
        free (part);
    }
    router_admin_forget (self);
    router_forget_reload (self);
    router_event_forget (self);
    router_letters_forget (self);
    router_pools_free (self);
    outbox_free (&self->to_upkeep);
    outbox_free (&self->to_monitor);
    free (self->waits);
    ef_core_destroy (&self->core);
    ef_peers_free (&self->peers);
    free (self);
    *self_p = NULL;
}

ef_core_t *
ef_router_core (ef_router_t *self) {
    return self->core;
}

void
ef_router_set_dead (ef_router_t *self, ef_dead_letters_t *dead) {
    self->parts.dead = dead;
}

static int
s_set (void *socket, int option, int value) {
    return zmq_setsockopt (socket, option, &value, sizeof value);
}

/* One socket with the options that reference and experience ask for: no ZMTP heartbeats (they abort
   the process in libzmq 4.3.4 under back-pressure), keepalive by the kernel, a bound on frames. */
static void *
s_bind (ef_router_t *self, int type, const char *endpoint, char error[512]) {
    void *socket = zmq_socket (self->parts.context, type);
    int64_t largest = (int64_t)self->parts.config->max_message * EF_REFUSED_BY_SOCKET + 1024;
    int rc = socket ? 0 : -1;
    rc = rc ? rc : s_set (socket, ZMQ_LINGER, 1000);
    rc = rc ? rc : s_set (socket, ZMQ_BACKLOG, 1024);
    rc = rc ? rc : s_set (socket, ZMQ_HANDSHAKE_IVL, 5000);
    rc = rc ? rc : s_set (socket, ZMQ_TCP_KEEPALIVE, 1);
    rc = rc ? rc : s_set (socket, ZMQ_TCP_KEEPALIVE_IDLE, 30);
    rc = rc ? rc : s_set (socket, ZMQ_TCP_KEEPALIVE_INTVL, 10);
    rc = rc ? rc : s_set (socket, ZMQ_TCP_KEEPALIVE_CNT, 3);
    rc = rc ? rc : s_set (socket, ZMQ_RCVHWM, 1000);
    rc = rc ? rc : zmq_setsockopt (socket, ZMQ_MAXMSGSIZE, &largest, sizeof largest);
    if (rc == 0 && type == ZMQ_ROUTER) {
        rc = s_set (socket, ZMQ_ROUTER_MANDATORY, 1);
        rc = rc ? rc : s_set (socket, ZMQ_SNDHWM, SOCKET_HWM);
    }
    rc = rc ? rc : zmq_bind (socket, endpoint);
    if (rc) {
        snprintf (error, 512, "can't bind %.300s: %s", endpoint, zmq_strerror (errno));
        if (socket) {
            zmq_close (socket);
        }
        return NULL;
    }
    return socket;
}

int
ef_router_bind (ef_router_t *self, char error[512]) {
    const ef_config_t *config = self->parts.config;
    const struct {
        int type;
        const char *endpoint;
    } sockets[SOCKET_COUNT] = {
        [SOCKET_FRONT] = {ZMQ_ROUTER, config->front},
        [SOCKET_BACK] = {ZMQ_ROUTER, config->back},
        [SOCKET_ADMIN] = {ZMQ_ROUTER, config->admin},
        [SOCKET_INGRESS] = {ZMQ_PULL, config->ingress},
    };
    for (unsigned i = 0; i < SOCKET_COUNT; i++) {
        self->sockets[i] = s_bind (self, sockets[i].type, sockets[i].endpoint, error);
        if (self->sockets[i] == NULL) {
            return -1;
        }
        size_t size = sizeof self->socket_fds[i];
        int rc = zmq_getsockopt (self->sockets[i], ZMQ_FD, &self->socket_fds[i], &size);
        ef_assert (rc == 0);
        self->may_have[i] = true;
    }
    return 0;
}

/* An endpoint that was bound to all addresses, or to a port that the system chose, is told as it
   can be reached. */
void
ef_router_back (const ef_router_t *self, char endpoint[300]) {
    static const char *const wild[] = {"tcp://0.0.0.0:", "tcp://*:", "tcp://[::]:"};
    char bound[300];
    size_t size = sizeof bound;
    if (zmq_getsockopt (self->sockets[SOCKET_BACK], ZMQ_LAST_ENDPOINT, bound, &size)) {
        snprintf (bound, sizeof bound, "%s", self->parts.config->back);
    }
    snprintf (endpoint, 300, "%s", bound);
    for (size_t i = 0; i < sizeof wild / sizeof wild[0]; i++) {
        if (strncmp (bound, wild[i], strlen (wild[i])) == 0) {
            snprintf (endpoint, 300, "tcp://%s:%.250s", i == 2 ? "[::1]" : "127.0.0.1",
                      bound + strlen (wild[i]));
        }
    }
}

/* Receives one message into self->frames. Returns the number of frames, 0: there is none, or -1:
   one of too many frames was read and thrown away. */
int
router_receive (ef_router_t *self, void *socket) {
    int count = 0;
    bool is_too_long = false;
    for (;;) {
        int slot = count < EF_FRAMES_MAX ? count : EF_FRAMES_MAX - 1;
        if (zmq_msg_recv (&self->frames[slot], socket, ZMQ_DONTWAIT) < 0) {
            return 0; /* only before a first frame: messages come whole */
        }
        is_too_long = is_too_long || count == EF_FRAMES_MAX;
        count += count < EF_FRAMES_MAX;
        if (!zmq_msg_more (&self->frames[slot])) {
            return is_too_long ? -1 : count;
        }
    }
}

static void
s_dispatch (ef_router_t *self, unsigned socket, int count) {
    ef_frame_t frames[EF_FRAMES_MAX];
    zmq_msg_t *parts = self->frames;
    if (socket == SOCKET_INGRESS) {
        for (int i = 0; i < count; i++) {
            frames[i] = (ef_frame_t){zmq_msg_data (&parts[i]), zmq_msg_size (&parts[i])};
        }
        ef_core_ingress (self->core, frames, (uint32_t)count);
        return;
    }
    ef_peer_t *peer = ef_peers_require (&self->peers, (uint8_t)socket, zmq_msg_data (&parts[0]),
                                        zmq_msg_size (&parts[0]));
    if (peer == NULL) {
        ef_log_limited (EF_LOG_WARNING, "peer.refused", "peers=%u", self->peers.table.count);
        return;
    }
    bool is_req = count > 1 && zmq_msg_size (&parts[1]) == 0;
    int first = is_req ? 2 : 1;
    peer->is_req = is_req;
    for (int i = first; i < count; i++) {
        frames[i - first] = (ef_frame_t){zmq_msg_data (&parts[i]), zmq_msg_size (&parts[i])};
    }
    uint32_t rest = (uint32_t)(count > first ? count - first : 0);
    if (socket == SOCKET_FRONT) {
        ef_core_front (self->core, peer->number, is_req, frames, rest);
    } else if (socket == SOCKET_BACK) {
        ef_core_back (self->core, peer->number, frames, rest);
    } else {
        router_admin (self, peer, rest ? &parts[first] : NULL);
        ef_peers_remove (&self->peers, peer->number); /* nothing is kept between two requests */
    }
}

/* Takes messages from one socket for up to a millisecond. True: there was something. */
static bool
s_drain (ef_router_t *self, unsigned socket) {
    uint64_t end = 0;
    for (unsigned i = 0; self->may_have[socket]; i++) {
        int count = router_receive (self, self->sockets[socket]);
        if (count == 0) {
            self->may_have[socket] = false;
            return i > 0;
        }
        self->messages_in++;
        if (count > 0) {
            s_dispatch (self, socket, count);
        } else {
            self->oversized++;
            ef_log_limited (EF_LOG_WARNING, "message.too_many_frames", "most=%d", EF_FRAMES_MAX);
        }
        if (i % 8 == 7) {
            uint64_t now = ef_mono_ns ();
            end = end ? end : now + DRAIN_NS;
            if (now >= end) {
                return true;
            }
        }
    }
    return false;
}

static void
s_take_returned (ef_router_t *self, ef_dead_message_t *message) {
    ef_returned_t *letters = calloc (message->count ? message->count : 1, sizeof *letters);
    ef_assert (letters != NULL);
    for (uint32_t i = 0; i < message->count; i++) {
        letters[i].accepted_ms = message->bodies[i].accepted_ms;
        letters[i].event = message->bodies[i].event;
        letters[i].history = message->bodies[i].history;
    }
    ef_core_return (self->core, message->topic, message->number, message->purge, letters,
                    message->count);
    free (letters);
}

static bool
s_take_dead (ef_router_t *self) {
    bool is_any = false;
    ef_dead_message_t *message;
    while ((message = ef_ring_pop (&ef_dead_letters_actor (self->parts.dead)->out)) != NULL) {
        is_any = true;
        if (message->kind == EF_DEAD_DURABLE) {
            ef_core_dead_durable (self->core, message->topic, message->number);
        } else if (message->kind == EF_DEAD_RETURN) {
            s_take_returned (self, message);
        } else if (message->kind == EF_DEAD_FIND) {
            router_event_letters (self, message->token);
            message->token = NULL;
        } else {
            router_letters_answer (self, message);
        }
        ef_dead_message_destroy (&message);
    }
    return is_any;
}

/* Takes what the actors have ready. True: there was something. */
static bool
s_take_answers (ef_router_t *self, const ef_effects_t *effects) {
    bool is_any = false;
    ef_batch_t *batch;
    while ((batch = ef_ring_pop (&self->parts.journal->actor.out)) != NULL) {
        self->batches_out--;
        ef_finder_durable (self->parts.finder, batch->segment,
                           batch->offset + (uint32_t)batch->buf.size);
        ef_core_durable (self->core, batch);
        is_any = true;
    }
    ef_fetch_t *fetch;
    while ((fetch = ef_ring_pop (&self->parts.reader->actor.out)) != NULL) {
        ef_stretch_t stretch = {fetch->bytes,   fetch->size,   fetch->size,
                                fetch->segment, fetch->offset, 0};
        ef_core_fetched (self->core, fetch->segment, fetch->offset, stretch);
        free (fetch);
        is_any = true;
    }
    ef_question_t *question;
    while ((question = ef_ring_pop (&self->parts.finder->actor.out)) != NULL) {
        router_event_found (self, question);
        is_any = true;
    }
    ef_checkpoint_part_t *part;
    while ((part = ef_ring_pop (&self->parts.upkeep->actor.out)) != NULL) {
        ef_core_checkpointed (self->core, part->segment, part->is_last, part->rc);
        free (part);
        is_any = true;
    }
    ef_waits_t *waits;
    while ((waits = ef_ring_pop (&self->parts.retry->actor.out)) != NULL) {
        for (uint32_t i = 0; i < waits->count; i++) {
            ef_core_due (self->core, waits->items[i].topic, waits->items[i].n,
                         waits->items[i].generation);
        }
        free (waits);
        is_any = true;
    }
    is_any = s_take_dead (self) || is_any;
    return router_take_scaler (self, effects) || is_any;
}

/* Tells the core how much room there is, where that has changed. */
static void
s_look_at_space (ef_router_t *self) {
    uint32_t ready = ef_spares_ready (self->parts.spares);
    bool is_tight = atomic_load (&self->parts.upkeep->is_tight);
    if (ready == self->spares_told && is_tight == self->tight_told) {
        return;
    }
    if (ready < self->spares_told) {
        ef_actor_poke (&self->parts.upkeep->actor); /* to make another one */
    }
    self->spares_told = ready;
    self->tight_told = is_tight;
    ef_core_space (self->core, ready, is_tight);
    bool is_short = ef_core_space_state (self->core) != EF_SPACE_NORMAL;
    ef_dead_letters_hold (self->parts.dead, is_short);
    ef_finder_hold (self->parts.finder, is_short);
}

/* With hardly a segment left publishers wait for a moment: until another one is made, or the disk
   is known to be full and the core refuses them. What is leased needs the last one. */
static bool
s_reads_publishers (const ef_router_t *self) {
    bool is_known = self->spares_told > 1 || self->tight_told;
    return is_known && !ef_core_is_behind (self->core);
}

/* Waits for a socket, an actor, or the next deadline. A socket's descriptor tells of commands that
   came to it, and sending takes them in (zmq_getsockopt, ZMQ_FD): so it is waited for only once a
   receive found nothing and nothing was sent since. zmq_poll would ask the system three times for
   each socket. */
static void
s_sleep (ef_router_t *self, bool reads_publishers, uint64_t until) {
    uint64_t now = ef_mono_ms ();
    struct pollfd polls[SOCKET_COUNT + 1];
    bool has_message = false;
    for (unsigned i = 0; i < SOCKET_COUNT; i++) {
        bool is_full = i == SOCKET_INGRESS && ef_core_space_state (self->core) == EF_SPACE_FULL;
        bool is_read = (reads_publishers && !is_full) || i == SOCKET_BACK || i == SOCKET_ADMIN;
        polls[i] = (struct pollfd){is_read ? self->socket_fds[i] : -1, POLLIN, 0};
        has_message = has_message || (is_read && self->may_have[i]);
    }
    polls[SOCKET_COUNT] = (struct pollfd){self->parts.waker->fd, POLLIN, 0};
    if (has_message) {
        return;
    }
    ef_waker_prepare (self->parts.waker);
    bool is_quiet = ef_ring_is_empty (&self->parts.journal->actor.out) &&
                    ef_ring_is_empty (&self->parts.reader->actor.out) &&
                    ef_ring_is_empty (&self->parts.upkeep->actor.out) &&
                    ef_ring_is_empty (&self->parts.finder->actor.out) &&
                    ef_ring_is_empty (&self->parts.retry->actor.out) &&
                    ef_ring_is_empty (&ef_dead_letters_actor (self->parts.dead)->out) &&
                    ef_ring_is_empty (&ef_scaler_actor (self->parts.scaler)->out);
    is_quiet = is_quiet && atomic_load (&self->reload) == NULL;
    bool has_unsent = self->to_scaler.count || self->to_journal.count || self->to_reader.count ||
                      self->to_upkeep.count || self->to_finder.count || self->to_dead.count ||
                      self->to_monitor.count || self->waits;
    if (is_quiet) {
        uint64_t most = has_unsent ? 1 : INT_MAX;
        uint64_t wait = until > now ? until - now : 0;
        int timeout = atomic_load (&self->stop_grace) ? 10 : (int)(wait < most ? wait : most);
        int found = poll (polls, SOCKET_COUNT + 1, timeout); /* however it ends, we look again */
        for (unsigned i = 0; i < SOCKET_COUNT && found > 0; i++) {
            self->may_have[i] = self->may_have[i] || polls[i].revents;
        }
    }
    ef_waker_up (self->parts.waker);
}

/* Told to stop: nothing new is taken, workers finish, then it ends. True: it is over. */
static bool
s_stop_step (ef_router_t *self, uint64_t now) {
    uint32_t grace = atomic_load (&self->stop_grace);
    if (self->wants_stop && grace == 0) {
        grace = 10001;
        atomic_store (&self->stop_grace, grace);
    }
    if (grace == 0) {
        return false;
    }
    if (!self->is_stopping) {
        self->is_stopping = true;
        self->stop_at_ms = UINT64_MAX;
        ef_core_drain_all (self->core);
        ef_log (EF_LOG_INFO, "broker.drain", "leased=%llu",
                (unsigned long long)ef_core_leased (self->core));
    }
    if (now + grace - 1 < self->stop_at_ms) {
        self->stop_at_ms = now + grace - 1; /* a second word may shorten it */
    }
    bool is_done = ef_core_leased (self->core) == 0 && ef_core_is_settled (self->core);
    if (is_done && !self->is_finishing) {
        self->is_finishing = true;
        ef_core_finish (self->core);
        return false;
    }
    return (is_done && ef_core_is_finished (self->core)) || now >= self->stop_at_ms;
}

static bool
s_has_failed (ef_router_t *self) {
    int journal = atomic_load (&self->parts.journal->failed);
    int dead = ef_dead_letters_failed (self->parts.dead);
    int reader = atomic_load (&self->parts.reader->failed);
    journal = journal ? journal : atomic_load (&self->parts.upkeep->failed);
    journal = journal ? journal : reader;
    if (journal) {
        ef_log (EF_LOG_ERROR, "journal.failed", "error=\"%s\" confirmed_after=0",
                strerror (journal));
    }
    return journal || dead;
}

static void
s_periodic (ef_router_t *self, uint64_t now) {
    if (now >= self->next_load_ms && !self->is_stopping) {
        router_tell_scaler (self);
    }
    if (now >= self->next_stats_ms) {
        self->next_stats_ms = now + STATS_MS;
        router_stats (self);
    }
}

int
ef_router_run (ef_router_t *self) {
    ef_effects_t effects;
    router_effects (self, &effects);
    if (!router_await_recovery (self)) {
        return 0;
    }
    for (;;) {
        uint64_t now = ef_mono_ms ();
        ef_core_clock (self->core, now, ef_wall_ms ());
        if (s_has_failed (self)) {
            return 74;
        }
        bool is_busy = s_take_answers (self, &effects);
        is_busy = router_take_reload (self, &effects) || is_busy;
        s_look_at_space (self);
        router_admin_durable (self);
        router_event_durable (self);
        router_letters_moved (self);
        bool reads_publishers = s_reads_publishers (self);
        is_busy = s_drain (self, SOCKET_BACK) || is_busy;
        is_busy = s_drain (self, SOCKET_ADMIN) || is_busy;
        if (reads_publishers) {
            is_busy = s_drain (self, SOCKET_FRONT) || is_busy;
            is_busy = (ef_core_space_state (self->core) != EF_SPACE_FULL &&
                       s_drain (self, SOCKET_INGRESS)) ||
                      is_busy;
        }
        if (now >= ef_core_next_ms (self->core)) {
            ef_core_tick (self->core);
        }
        ef_core_turn (self->core);
        s_periodic (self, now);
        router_flush (self);
        atomic_store (&self->parts.upkeep->oldest, ef_core_oldest_segment (self->core));
        atomic_store (&self->parts.upkeep->newest, ef_core_newest_segment (self->core));
        if (s_stop_step (self, now)) {
            return 0;
        }
        if (!is_busy) {
            uint64_t until = ef_core_next_ms (self->core);
            until = self->next_stats_ms < until ? self->next_stats_ms : until;
            until = self->is_loaded && self->next_load_ms < until ? self->next_load_ms : until;
            s_sleep (self, reads_publishers, until);
        }
    }
}

void
ef_router_stop (ef_router_t *self, uint32_t grace_ms) {
    atomic_store (&self->stop_grace, grace_ms + 1);
    ef_waker_wake (self->parts.waker);
}
