/* The journal's and the reader's thread. SPDX-License-Identifier: MIT */
#include "journal.h"
#include "../../proto/event.h"
#include "../base/log.h"
#include "checkpoint.h"
#include "reader.h"
#include "sidecar.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define GROUP_BYTES (8u << 20) /* a group this large isn't made larger */
#define HINT_MS     500        /* idle for so long: what was synced is written down */
#define ROOM_MS     50         /* between two tries on a full disk */

static void
s_free (ef_batch_t **batch_p) {
    if (*batch_p) {
        ef_buf_free (&(*batch_p)->buf);
        free (*batch_p);
        *batch_p = NULL;
    }
}

static void
s_fail (ef_journal_t *self, int rc) {
    atomic_store (&self->failed, -rc);
    ef_waker_wake (self->actor.owner);
}

/* Gathers what waits, up to a batch that begins a segment: `next` keeps that one. False: nothing
   waits. */
static bool
s_gather (ef_journal_t *self) {
    size_t bytes = 0;
    if (self->group_count > 0) {
        return true; /* it waited for room */
    }
    while (self->group_count < EF_WAL_GROUP_MAX && bytes < GROUP_BYTES) {
        ef_batch_t *batch = self->next ? self->next : ef_ring_pop (&self->actor.in);
        self->next = NULL;
        if (batch == NULL) {
            break;
        }
        if (self->group_count > 0 && batch->roll) {
            self->next = batch;
            break;
        }
        bytes += batch->buf.size;
        self->group[self->group_count++] = batch;
    }
    return self->group_count > 0;
}

/* Returns when to be called for the hint, or that there is no need. */
static uint64_t
s_hint (ef_journal_t *self) {
    if (self->idle_since_ms == 0 || atomic_load (&self->failed)) {
        return UINT64_MAX;
    }
    if (ef_mono_ms () < self->idle_since_ms + HINT_MS) {
        return self->idle_since_ms + HINT_MS;
    }
    self->idle_since_ms = 0;
    int rc = ef_wal_hint (self->wal);
    if (rc) {
        s_fail (self, rc);
    }
    return UINT64_MAX;
}

static void
s_note_sync (ef_journal_t *self, uint64_t us) {
    uint32_t step = 0;
    while (step < EF_SYNC_STEPS && us >= UINT64_C (64) << step) {
        step++;
    }
    atomic_store (&self->sync_us, us);
    atomic_fetch_add (&self->sync_sum_us, us);
    atomic_fetch_add (&self->sync_counts[step], 1);
}

/* Makes the group durable and hands it back. False: it keeps it, for want of room or for good. */
static bool
s_write (ef_journal_t *self) {
    uint64_t start = ef_mono_ns ();
    int rc = ef_wal_append (self->wal, self->group, self->group_count);
    if (rc) {
        bool is_full = ef_storage_is_full (rc); /* nothing was written */
        if (is_full && !self->is_waiting) {
            ef_log (EF_LOG_WARNING, "journal.full", "error=\"%s\"", strerror (-rc));
        }
        self->is_waiting = is_full;
        if (!is_full) {
            s_fail (self, rc); /* what it holds was never confirmed; the process ends now */
        }
        return false;
    }
    self->is_waiting = false;
    s_note_sync (self, (ef_mono_ns () - start) / 1000);
    atomic_fetch_add (&self->groups, 1);
    self->idle_since_ms = (start + 999999) / 1000000;
    for (int i = 0; i < self->group_count; i++) {
        bool is_taken = ef_actor_answer (&self->actor, self->group[i]);
        ef_assert (is_taken); /* no more are under way than the ring has places */
    }
    self->group_count = 0;
    return true;
}

static uint64_t
s_step (void *arg) {
    ef_journal_t *self = arg;
    while (atomic_load (&self->failed) == 0 && s_gather (self) && s_write (self)) {
    }
    while (atomic_load (&self->failed) == 0 && atomic_load (&self->drops) > 0) {
        atomic_fetch_sub (&self->drops, 1);
        uint32_t oldest = ef_wal_oldest (self->wal);
        int rc = ef_wal_drop_oldest (self->wal);
        if (rc) {
            s_fail (self, rc);
        } else if (self->storage) {
            ef_sidecar_remove (self->storage, oldest, 0);
        }
        atomic_store (&self->oldest, ef_wal_oldest (self->wal));
    }
    return self->is_waiting ? ef_mono_ms () + ROOM_MS : s_hint (self);
}

int
ef_journal_start (ef_journal_t *self, ef_wal_t *wal, ef_waker_t *owner) {
    self->wal = wal;
    return ef_actor_start (&self->actor, "journal", owner, s_step, self);
}

void
ef_journal_stop (ef_journal_t *self) {
    ef_actor_stop (&self->actor);
    for (int i = 0; i < self->group_count; i++) {
        s_free (&self->group[i]);
    }
    self->group_count = 0;
    s_free (&self->next);
    ef_wal_destroy (&self->wal);
}

static uint64_t
s_reader_step (void *arg) {
    ef_reader_t *self = arg;
    ef_fetch_t *fetch;
    while ((fetch = ef_ring_pop (&self->actor.in)) != NULL) {
        fetch->bytes = ef_read_stretch (self->storage, fetch->segment, fetch->offset, EF_READ_AHEAD,
                                        &fetch->size, &fetch->error);
        bool is_harmless = fetch->error == -ENOENT || /* dropped since it was asked for */
                           ef_storage_is_scarce (fetch->error);
        if (fetch->bytes == NULL && !is_harmless) {
            ef_log (EF_LOG_ERROR, "journal.unreadable",
                    "segment=%u offset=%u error=\"%s\" hint=\"eventflow journal verify\"",
                    fetch->segment, fetch->offset, strerror (-fetch->error));
            (void)ef_checkpoint_remove_all (self->storage); /* the next start shall look there */
            atomic_store (&self->failed, -fetch->error);
        }
        bool is_taken = ef_actor_answer (&self->actor, fetch);
        ef_assert (is_taken); /* the core has at most 64 under way */
    }
    return UINT64_MAX;
}

int
ef_reader_start (ef_reader_t *self, ef_storage_t *storage, ef_waker_t *owner) {
    self->storage = storage;
    return ef_actor_start (&self->actor, "reader", owner, s_reader_step, self);
}

void
ef_reader_stop (ef_reader_t *self) {
    ef_actor_stop (&self->actor);
    ef_fetch_t *fetch;
    while ((fetch = ef_ring_pop (&self->actor.in)) != NULL ||
           (fetch = ef_ring_pop (&self->actor.out)) != NULL) {
        free (fetch->bytes);
        free (fetch);
    }
}
