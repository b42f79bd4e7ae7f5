/* What the router does while the journal is read. SPDX-License-Identifier: MIT

   The sockets are bound, so clients connect and what they send waits in their queues. Only STATUS
   is answered: how far the reading has come. */
#include "router_private.h"

#define QUIET_MS 250 /* a short recovery is simply waited for */

void
ef_router_progress (ef_router_t *self, uint64_t done, uint64_t total) {
    atomic_store (&self->recovered_bytes, done);
    atomic_store (&self->recovery_bytes, total);
}

void
ef_router_ready (ef_router_t *self) {
    atomic_store (&self->is_ready, true);
    ef_waker_wake (self->parts.waker);
}

static void
s_answer (ef_router_t *self, const ef_peer_t *peer, const zmq_msg_t *frame) {
    ef_buf_t answer = {0};
    ef_cursor_t cursor = ef_cursor (zmq_msg_data ((zmq_msg_t *)frame), zmq_msg_size (frame));
    uint32_t items;
    ef_span_t command;
    bool is_status = ef_get_array (&cursor, &items) == 0 && items > 0 &&
                     ef_get_str (&cursor, &command) == 0 && ef_span_is (command, "STATUS");
    if (is_status) {
        ef_put_array (&answer, 2);
        ef_put_str (&answer, "OK");
        ef_put_map (&answer, 2);
        ef_put_str (&answer, "broker");
        ef_put_map (&answer, 4);
        ef_put_key_str (&answer, "broker", self->parts.config->name);
        ef_put_key_bool (&answer, "recovering", true);
        ef_put_key_uint (&answer, "recovered_bytes", atomic_load (&self->recovered_bytes));
        ef_put_key_uint (&answer, "recovery_bytes", atomic_load (&self->recovery_bytes));
        ef_put_str (&answer, "process");
        router_put_process (self, &answer);
    } else {
        ef_put_array (&answer, 3);
        ef_put_str (&answer, "ERROR");
        ef_put_str (&answer, ef_status_name (EF_DRAINING));
        ef_put_str (&answer, "the broker is reading its journal; STATUS says how far it is");
    }
    (void)router_send_frames (self, peer, &answer, NULL); /* it asks again */
    ef_buf_free (&answer);
}

/* Takes one request off the admin socket. */
static void
s_serve (ef_router_t *self) {
    zmq_msg_t *parts = self->frames;
    int count = router_receive (self, self->sockets[SOCKET_ADMIN]);
    if (count < 2) {
        return;
    }
    ef_peer_t *peer = ef_peers_require (&self->peers, SOCKET_ADMIN, zmq_msg_data (&parts[0]),
                                        zmq_msg_size (&parts[0]));
    if (peer == NULL) {
        return;
    }
    peer->is_req = zmq_msg_size (&parts[1]) == 0;
    int first = peer->is_req ? 2 : 1;
    if (count > first) {
        s_answer (self, peer, &parts[first]);
    }
    ef_peers_remove (&self->peers, peer->number);
}

/* False: it was told to stop before recovery was over. */
bool
router_await_recovery (ef_router_t *self) {
    uint64_t begin = ef_mono_ms ();
    while (!atomic_load (&self->is_ready)) {
        if (atomic_load (&self->stop_grace)) {
            return false;
        }
        bool is_long = ef_mono_ms () - begin >= QUIET_MS;
        zmq_pollitem_t items[2] = {{NULL, self->parts.waker->fd, ZMQ_POLLIN, 0},
                                   {self->sockets[SOCKET_ADMIN], 0, ZMQ_POLLIN, 0}};
        ef_waker_prepare (self->parts.waker);
        if (!atomic_load (&self->is_ready)) {
            (void)zmq_poll (items, is_long ? 2 : 1, 50); /* however it ends, the loop looks again */
        }
        ef_waker_up (self->parts.waker);
        if (is_long && (items[1].revents & ZMQ_POLLIN)) {
            s_serve (self);
        }
    }
    self->recovery_ms = ef_mono_ms () - begin;
    return true;
}
