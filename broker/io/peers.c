/* Routing ids as small numbers. SPDX-License-Identifier: MIT */
#include "peers.h"
#include "../../proto/assert.h"
#include "../../proto/limits.h"

#include <stdlib.h>
#include <string.h>

static const void *
s_key (const void *item, size_t *size) {
    const ef_peer_t *peer = item;
    *size = peer->key_size;
    return peer->key;
}

void
ef_peers_init (ef_peers_t *self, const uint64_t key[2]) {
    memset (self, 0, sizeof *self);
    ef_hash_init (&self->table, key, s_key);
}

void
ef_peers_free (ef_peers_t *self) {
    for (uint32_t i = 0; i < self->count; i++) {
        free (self->by_number[i]);
    }
    ef_hash_free (&self->table);
    free (self->by_number);
    free (self->free_numbers);
    memset (self, 0, sizeof *self);
}

static uint32_t
s_new_number (ef_peers_t *self) {
    if (self->free_count > 0) {
        return self->free_numbers[--self->free_count];
    }
    self->by_number = realloc (self->by_number, (self->count + 1) * sizeof *self->by_number);
    self->free_numbers = realloc (self->free_numbers, (self->count + 1) * sizeof (uint32_t));
    ef_assert (self->by_number != NULL && self->free_numbers != NULL);
    return self->count++;
}

ef_peer_t *
ef_peers_require (ef_peers_t *self, uint8_t socket, const void *id, size_t size) {
    uint8_t key[1 + EF_ROUTING_ID_MAX];
    if (size > EF_ROUTING_ID_MAX) {
        return NULL;
    }
    key[0] = socket;
    memcpy (key + 1, id, size);
    ef_peer_t *peer = ef_hash_find (&self->table, key, size + 1);
    if (peer || self->table.count >= EF_PEERS_MAX) {
        return peer;
    }
    peer = calloc (1, sizeof *peer);
    ef_assert (peer != NULL);
    peer->number = s_new_number (self);
    peer->socket = socket;
    peer->key_size = (uint8_t)(size + 1);
    memcpy (peer->key, key, size + 1);
    self->by_number[peer->number] = peer;
    ef_hash_insert (&self->table, peer);
    return peer;
}

void
ef_peers_remove (ef_peers_t *self, uint32_t number) {
    ef_peer_t *peer = self->by_number[number];
    ef_assert (peer != NULL);
    ef_hash_remove (&self->table, peer);
    free (peer);
    self->by_number[number] = NULL;
    self->free_numbers[self->free_count++] = number;
}
