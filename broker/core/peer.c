/* Connections: who they are, whether they live, sending to them. SPDX-License-Identifier: MIT */
#include "core_private.h"

peer_t *
peer_require (ef_core_t *self, uint32_t peer, peer_role_t role) {
    if (peer >= self->peer_count) {
        uint32_t count = self->peer_count ? 2 * self->peer_count : 16;
        count = count > peer ? count : peer + 1;
        self->peers = realloc (self->peers, count * sizeof *self->peers);
        ef_assert (self->peers != NULL);
        memset (self->peers + self->peer_count, 0,
                (count - self->peer_count) * sizeof *self->peers);
        self->peer_count = count;
    }
    peer_t *known = &self->peers[peer];
    if (known->role == PEER_UNKNOWN) {
        known->role = role;
        known->sent_ms = self->now;
    }
    ef_assert (known->role == role);
    known->heard_ms = self->now;
    return known;
}

/* Sends self->header. */
int
peer_send (ef_core_t *self, uint32_t peer, void *message) {
    self->peers[peer].sent_ms = self->now;
    return self->effects.send (self->effects.arg, peer, &self->header, message);
}

void
peer_error (ef_core_t *self, uint32_t peer, ef_status_t status, const char *text,
            const ef_span_t *seq) {
    ef_buf_t *header = &self->header;
    self->refused[status]++;
    ef_buf_clear (header);
    ef_put_array (header, 4);
    ef_put_str (header, "ERROR");
    ef_put_str (header, ef_status_name (status));
    ef_put_str (header, text);
    ef_put_map (header, seq && seq->size ? 1 : 0);
    if (seq && seq->size) {
        ef_put_str (header, "seq");
        ef_buf_put (header, seq->data, seq->size);
    }
    (void)peer_send (self, peer, NULL); /* it is counted; a full pipe loses only the word of it */
}

/* Nothing of the connection is known any more; its session or its worker's session may go on. */
void
peer_forget (ef_core_t *self, uint32_t number) {
    peer_t *peer = &self->peers[number];
    if (peer->session) {
        session_leave (self, peer->session);
    }
    if (peer->worker) {
        worker_free (self, &peer->worker);
    }
    uint32_t generation = peer->generation + 1;
    memset (peer, 0, sizeof *peer);
    peer->generation = generation;
    self->effects.forget (self->effects.arg, number);
}

static void
s_ping (ef_core_t *self, uint32_t number, const peer_t *peer) {
    ef_buf_t *header = &self->header;
    ef_buf_clear (header);
    if (peer->session && peer->session->window_told != session_window (self)) {
        peer->session->window_told = session_window (self);
        ef_put_array (header, 2);
        ef_put_str (header, "WINDOW");
        ef_put_uint (header, peer->session->window_told);
    } else {
        ef_put_array (header, 1);
        ef_put_str (header, "PING");
    }
    (void)peer_send (self, number, NULL); /* silence is judged by what comes, not by what goes */
}

/* 0: judged otherwise. */
static uint32_t
s_heartbeat (const ef_core_t *self, const peer_t *peer) {
    return peer->worker                     ? peer->worker->heartbeat_ms
           : peer->session && !peer->is_req ? self->config.heartbeat_ms
                                            : 0;
}

static bool
s_is_gone (const ef_core_t *self, const peer_t *peer) {
    uint64_t silent = self->now - peer->heard_ms;
    uint32_t heartbeat = s_heartbeat (self, peer);
    if (heartbeat) {
        /* While the front isn't read, nobody there can be heard. */
        bool is_unread = peer->role == PEER_FRONT && ef_core_is_behind (self);
        return !is_unread && silent > (uint64_t)EF_LIVENESS * heartbeat;
    }
    bool is_busy = peer->waiting > 0 || (peer->worker && peer->worker->in_flight > 0) ||
                   (peer->session && peer->session->decided < peer->session->last);
    return !is_busy && silent > (peer->worker ? EF_WORKER_SILENT_MS : EF_PEER_IDLE_MS);
}

void
peers_sweep (ef_core_t *self) {
    for (uint32_t i = 0; i < self->peer_count; i++) {
        peer_t *peer = &self->peers[i];
        if (peer->role == PEER_UNKNOWN) {
            continue;
        }
        if (s_is_gone (self, peer)) {
            if (peer->worker) {
                worker_lose (self, peer->worker, "the worker fell silent", false);
            }
            peer_forget (self, i);
            continue;
        }
        uint32_t heartbeat = s_heartbeat (self, peer);
        if (heartbeat && self->now - peer->sent_ms >= heartbeat) {
            s_ping (self, i, peer);
        }
    }
}
