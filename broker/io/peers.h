/* Routing ids of ROUTER sockets as small numbers. SPDX-License-Identifier: MIT

   Role: gives each connection that was heard of a number, which the core uses, until the core
   forgets it. Owns: its table. Bounded by EF_PEERS_MAX: past it a newcomer gets no number and is
   left unheard. */
#ifndef EF_PEERS_H
#define EF_PEERS_H

#include "../base/hash.h"

#define EF_ROUTING_ID_MAX                                                                          \
    64 /* ours have 5 bytes; a peer that chooses a longer one is left unheard */

typedef struct {
    uint32_t number;
    uint8_t socket; /* which of the router's sockets */
    bool is_req;    /* sends the empty delimiter of REQ */
    uint8_t key_size;
    uint8_t key[1 + EF_ROUTING_ID_MAX]; /* socket and routing id */
} ef_peer_t;

typedef struct {
    ef_hash_t table;
    ef_peer_t **by_number;  /* owned */
    uint32_t count;         /* of by_number */
    uint32_t *free_numbers; /* owned stack */
    uint32_t free_count;
} ef_peers_t;

void ef_peers_init (ef_peers_t *self, const uint64_t key[2]);
void ef_peers_free (ef_peers_t *self);
/* Finds or makes; NULL past the limits. */
ef_peer_t *ef_peers_require (ef_peers_t *self, uint8_t socket, const void *id, size_t size);
void ef_peers_remove (ef_peers_t *self, uint32_t number);

#endif
