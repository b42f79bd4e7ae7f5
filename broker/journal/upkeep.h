/* The thread that does what can wait. SPDX-License-Identifier: MIT

   Role: keeps segments ready, writes checkpoints, reads old segments over and checks them, removes
   what was kept of the log's past. Owns: the writer of checkpoints, the list of what is kept. Talks
   to: a storage and spares, borrowed; the router, which hands it parts and gets them back. On
   failure: a full disk is told by is_tight, and a checkpoint that finds no room is given up; any
   other error of a write stops the broker; damage that is found is counted and logged, and all
   checkpoints go, so that the next start reads everything and says exactly what is lost. */
#ifndef EF_UPKEEP_H
#define EF_UPKEEP_H

#include "../base/actor.h"
#include "checkpoint.h"
#include "kept.h"
#include "segment.h"
#include "spares.h"

typedef struct {
    ef_actor_t actor;                   /* in and out: ef_checkpoint_part_t */
    ef_storage_t *storage;              /* borrowed */
    ef_spares_t *spares;                /* borrowed */
    uint32_t wanted;                    /* spares */
    const _Atomic uint64_t *groups;     /* the journal's count; NULL: nothing is known of it */
    const _Atomic uint32_t *log_oldest; /* the journal's; NULL: the same */
    ef_kept_t kept;                     /* the first to give room */
    uint64_t groups_seen;
    uint64_t idle_at_ms; /* monotonic: idle unless the count has moved by then */
    ef_checkpoint_writer_t writer;
    ef_segment_t segment;   /* being checked */
    uint64_t offset;        /* in it */
    uint64_t seq;           /* of the group there */
    uint32_t chain;         /* before it */
    uint32_t next_segment;  /* to be checked; 0: a pass begins */
    uint64_t scrub_at_ms;   /* monotonic: when to go on */
    uint64_t pass_began_ms; /* monotonic */
    bool pass_is_good;
    _Atomic int failed;      /* errno of what is no full disk; 0: it works */
    _Atomic bool is_tight;   /* no further spare can be made */
    _Atomic uint32_t oldest; /* the router's: segments there are */
    _Atomic uint32_t newest;
    _Atomic uint64_t scrub_good_ms; /* wall clock: when a pass last ended without damage; 0: none */
    _Atomic uint64_t scrub_bytes;   /* checked since the start */
    _Atomic uint32_t damaged;       /* segments found damaged */
} ef_upkeep_t;

/* Makes the reserve before anything is accepted. 0, or a negative errno where not even one segment
   could be made ready. */
EF_MUST_USE int ef_upkeep_reserve (ef_upkeep_t *self);
EF_MUST_USE int ef_upkeep_start (ef_upkeep_t *self, ef_storage_t *storage, ef_spares_t *spares,
                                 ef_waker_t *owner);
void ef_upkeep_stop (ef_upkeep_t *self);

/* One piece of the check; returns when to go on (monotonic ms). For the thread, and for tests. */
uint64_t ef_upkeep_scrub (ef_upkeep_t *self, uint64_t now_ms, uint64_t wall_ms);

#endif
