/* The router: sockets on one side, the core in the middle, actors on the other.
   SPDX-License-Identifier: MIT

   Role: drains its sockets under a budget, gives each message to the core, carries out the core's
   effects. Owns: the four sockets, the core, the peers' numbers. Talks to: the journal, reader,
   finder, retry, dead-letter, scaler and monitor actors by their rings. Invariants: it never blocks
   but in one poll; with the journal behind it doesn't read front and ingress. On failure: a journal
   that stopped ends it, with nothing more confirmed. */
#ifndef EF_ROUTER_H
#define EF_ROUTER_H

#include "../actors/dead_letters.h"
#include "../actors/finder.h"
#include "../actors/monitor.h"
#include "../actors/retry.h"
#include "../actors/scaler.h"
#include "../config.h"
#include "../journal/journal.h"
#include "../journal/upkeep.h"
#include "peers.h"

typedef struct ef_router_s ef_router_t;

/* What it works with; all borrowed, started before it and stopped after it. */
typedef struct {
    const ef_config_t *config;
    void *context; /* libzmq's */
    ef_journal_t *journal;
    ef_reader_t *reader;
    ef_finder_t *finder;
    ef_upkeep_t *upkeep;
    ef_spares_t *spares;
    ef_retry_t *retry;
    ef_dead_letters_t *dead;
    ef_monitor_t *monitor;
    ef_scaler_t *scaler;
    ef_waker_t *waker;
} ef_router_parts_t;

/* The settings, read anew by main. */
typedef struct {
    uint64_t asked;      /* RELOADs up to this number are answered by it */
    ef_config_t *config; /* owned; NULL: they are wrong */
    char error[512];     /* then this says why */
} ef_reload_t;

/* The core is made first, since replay fills it; until the router runs its effects are kept for
 * later. */
ef_router_t *ef_router_new (const ef_router_parts_t *parts);
void ef_router_destroy (ef_router_t **self_p);
ef_core_t *ef_router_core (ef_router_t *self);
/* Throws the core away and makes a new one, for another try at recovery. */
void ef_router_renew_core (ef_router_t *self);
/* From another thread, while the router runs and waits for recovery: how far it is, and that it is
   over and all actors run. */
void ef_router_progress (ef_router_t *self, uint64_t done, uint64_t total);
void ef_router_ready (ef_router_t *self);
/* Bytes that a segment's file has beyond segment_bytes, for the last batch. */
uint64_t ef_router_segment_slack (const ef_config_t *config);

/* The dead letters are opened behind the replay. */
void ef_router_set_dead (ef_router_t *self, ef_dead_letters_t *dead);

/* Binds the sockets. 0, or -1 and `error` names the endpoint. */
EF_MUST_USE int ef_router_bind (ef_router_t *self, char error[512]);

/* Where workers of this machine reach it: what was bound, loopback in a wildcard's place. */
void ef_router_back (const ef_router_t *self, char endpoint[300]);

/* Waits for ef_router_ready, answering STATUS alone; then runs until it was told to stop and has
 * drained, or failed. Returns an exit code: 0, or 74. */
int ef_router_run (ef_router_t *self);

/* From main: what to put into `asked`, before it begins to read; and what it has read, handed over.
 */
uint64_t ef_router_reload_asked (const ef_router_t *self);
void ef_router_reload (ef_router_t *self, ef_reload_t *reload);

/* From another thread: finish what is in flight for up to `grace_ms`, then end. */
void ef_router_stop (ef_router_t *self, uint32_t grace_ms);

#endif
