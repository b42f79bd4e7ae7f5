/* The journal's thread: groups, syncs, answers; and the reader's. SPDX-License-Identifier: MIT

   Role: takes batches from the router, makes all that wait durable as one group, hands them back in
   order. While one sync runs the next group gathers. Owns: the log and its thread. On failure: the
   first failed write or sync stops it for good; `failed` says why, nothing is handed back any more.
   A disk that has no room for a segment, where others have filled it before upkeep has seen that,
   is no failure: nothing is written yet, and it is tried again. */
#ifndef EF_JOURNAL_H
#define EF_JOURNAL_H

#include "../base/actor.h"
#include "wal.h"

#define EF_SYNC_STEPS 18 /* the last: below 2^23 µs, 8 s */

typedef struct {
    ef_actor_t actor;             /* in and out: ef_batch_t */
    ef_wal_t *wal;                /* owned */
    ef_storage_t *storage;        /* borrowed: sidecars go from here; NULL: there are none */
    _Atomic uint32_t drops;       /* oldest segments to be removed */
    _Atomic uint32_t oldest;      /* segment that is left; 0: not known yet */
    _Atomic int failed;           /* errno of what stopped it, 0: it works */
    _Atomic uint64_t groups;      /* written */
    _Atomic uint64_t sync_us;     /* of the last group, write and sync */
    _Atomic uint64_t sync_sum_us; /* of all groups */
    _Atomic uint64_t sync_counts[EF_SYNC_STEPS + 1]; /* groups below 64, 128, … µs, each in one */
    uint64_t idle_since_ms; /* monotonic: nothing was written since; 0: the hint says so */
    ef_batch_t *group[EF_WAL_GROUP_MAX]; /* owned: gathered, and on a full disk waiting for room */
    int group_count;
    ef_batch_t *next; /* owned: the one behind them, which begins a segment */
    bool is_waiting;
} ef_journal_t;

EF_MUST_USE int ef_journal_start (ef_journal_t *self, ef_wal_t *wal, ef_waker_t *owner);
void ef_journal_stop (ef_journal_t *self);

/* A place to be read. */
typedef struct {
    uint32_t segment;
    uint32_t offset;
    uint8_t *bytes; /* the answer, owned; NULL: it couldn't be read */
    size_t size;
    int error; /* then: a negative errno */
} ef_fetch_t;

typedef struct {
    ef_actor_t actor;      /* in and out: ef_fetch_t */
    ef_storage_t *storage; /* borrowed */
    _Atomic int failed;    /* errno of a place that should be readable and isn't; 0: none */
} ef_reader_t;

EF_MUST_USE int ef_reader_start (ef_reader_t *self, ef_storage_t *storage, ef_waker_t *owner);
void ef_reader_stop (ef_reader_t *self);

#endif
