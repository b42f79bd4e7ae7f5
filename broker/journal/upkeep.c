/* The thread that does what can wait. SPDX-License-Identifier: MIT */
#include "upkeep.h"
#include "../../proto/event.h"
#include "../base/log.h"

#include <errno.h>
#include <stdlib.h>

#define TIGHT_MS    250                 /* between two looks at a full disk */
#define IDLE_MS     500                 /* without a group: time to fill a spare with zeros */
#define SCRUB_BYTES (1u << 20)          /* in one piece */
#define SCRUB_MS    100                 /* from piece to piece: 10 MB a second */
#define SCRUB_PASS  (24u * 3600 * 1000) /* a pass begins no sooner than so long after the last */
#define SCRUB_IDLE  (10u * 1000)        /* nothing to check: look again */

/* Space for a further segment must be left beside the one that is made, so that a disk isn't filled
   to the last byte by what is meant to help. */
static bool
s_has_room (ef_upkeep_t *self) {
    uint64_t room;
    return self->storage->room (self->storage, &room) != 0 || room / 3 * 2 >= self->spares->bytes;
}

/* A full disk is waited for; anything else says that the disk can't be trusted with more. */
static void
s_fail (ef_upkeep_t *self, int rc) {
    if (!ef_storage_is_full (rc) && !ef_storage_is_scarce (rc)) {
        atomic_store (&self->failed, -rc);
        ef_waker_wake (self->actor.owner);
    }
}

/* A spare, for whose sake kept segments go. */
static int
s_make (ef_upkeep_t *self) {
    int rc;
    do {
        rc = s_has_room (self) ? ef_spares_make (self->spares) : -ENOSPC;
    } while (ef_storage_is_full (rc) && ef_kept_give (&self->kept));
    return rc;
}

int
ef_upkeep_reserve (ef_upkeep_t *self) {
    int rc = 0;
    while (rc == 0 && ef_spares_count (self->spares) < self->wanted) {
        do {
            rc = ef_spares_make (self->spares);
        } while (ef_storage_is_full (rc) && ef_kept_give (&self->kept));
    }
    atomic_store (&self->is_tight, ef_storage_is_full (rc));
    return ef_spares_count (self->spares) > 0 ? 0 : rc;
}

/* Fills the next spare once nothing was journaled for a while. Returns when to look again. */
static uint64_t
s_zero_when_idle (ef_upkeep_t *self, uint64_t now) {
    uint64_t groups = self->groups ? atomic_load (self->groups) : 0;
    if (groups != self->groups_seen) {
        self->groups_seen = groups;
        self->idle_at_ms = now + IDLE_MS;
    }
    if (ef_spares_is_zeroed (self->spares)) {
        return UINT64_MAX;
    }
    if (now < self->idle_at_ms) {
        return self->idle_at_ms;
    }
    int rc = ef_spares_zero (self->spares);
    if (rc) {
        s_fail (self, rc);
    }
    return rc ? now + TIGHT_MS : UINT64_MAX;
}

/* What is kept leaves room for all spares, and for a segment that is made in a hurry when they have
   run out: the core counts on it while the disk isn't said to be tight. */
static bool
s_is_kept_in_the_way (ef_upkeep_t *self) {
    uint64_t room;
    return self->kept.count > 0 && self->storage->room (self->storage, &room) == 0 &&
           room < (self->wanted + 2) * self->spares->bytes;
}

/* Removes what is kept too long or in the way. Returns when to look again. */
static uint64_t
s_trim (ef_upkeep_t *self, uint64_t now) {
    if (self->log_oldest) {
        ef_kept_note (&self->kept, atomic_load (self->log_oldest), now);
    }
    while (s_is_kept_in_the_way (self) && ef_kept_give (&self->kept)) {
    }
    return ef_kept_trim (&self->kept, now);
}

/* Returns when to look again. */
static uint64_t
s_prepare (ef_upkeep_t *self, uint64_t now) {
    bool was_tight = atomic_load (&self->is_tight);
    bool is_tight = was_tight && !s_has_room (self);
    while (!is_tight && ef_spares_count (self->spares) < self->wanted) {
        int rc = s_make (self);
        if (rc) {
            is_tight = true;
            s_fail (self, rc);
        } else if (ef_spares_count (self->spares) <= 2) {
            ef_waker_wake (self->actor.owner); /* publishers may wait for it */
        }
    }
    if (is_tight != was_tight) {
        atomic_store (&self->is_tight, is_tight);
        ef_waker_wake (self->actor.owner);
    }
    return is_tight ? now + TIGHT_MS : s_zero_when_idle (self, now);
}

static void
s_damaged (ef_upkeep_t *self) {
    ef_log (EF_LOG_ERROR, "journal.damaged",
            "segment=%u offset=%llu hint=\"stop the broker, then eventflow journal verify\"",
            self->segment.id, (unsigned long long)self->offset);
    atomic_fetch_add (&self->damaged, 1);
    self->pass_is_good = false;
    (void)ef_checkpoint_remove_all (self->storage); /* or the next start wouldn't look there */
}

/* Finds the next sealed segment. False: the pass is over. */
static bool
s_next_segment (ef_upkeep_t *self) {
    uint32_t oldest = atomic_load (&self->oldest);
    uint32_t newest = atomic_load (&self->newest);
    ef_segment_header_t header;
    for (;;) {
        self->next_segment = self->next_segment > oldest ? self->next_segment : oldest;
        if (self->next_segment == 0 || self->next_segment >= newest) {
            return false;
        }
        int rc = ef_segment_open (&self->segment, self->storage, self->next_segment++);
        if (rc == -ENOENT || ef_storage_is_scarce (rc)) {
            self->pass_is_good = self->pass_is_good && rc == -ENOENT;
            continue; /* dropped meanwhile, or not to be opened now */
        }
        self->offset = 0;
        if (rc || !ef_segment_read_header (&self->segment, &header)) {
            s_damaged (self);
            continue;
        }
        self->offset = EF_SEGMENT_START;
        self->seq = header.first_seq;
        self->chain = header.chain;
        return true;
    }
}

uint64_t
ef_upkeep_scrub (ef_upkeep_t *self, uint64_t now, uint64_t wall) {
    if (now < self->scrub_at_ms) {
        return self->scrub_at_ms;
    }
    if (self->segment.file < 0) {
        if (self->next_segment == 0) {
            self->pass_began_ms = now;
            self->pass_is_good = true;
        }
        if (!s_next_segment (self)) {
            bool is_any = self->next_segment > 0 && atomic_load (&self->newest) > 0;
            if (self->pass_is_good && is_any) {
                atomic_store (&self->scrub_good_ms, wall);
            }
            self->next_segment = 0;
            ef_segment_free (&self->segment);
            self->scrub_at_ms = is_any ? self->pass_began_ms + SCRUB_PASS : now + SCRUB_IDLE;
            return self->scrub_at_ms;
        }
    }
    uint64_t end = self->offset + SCRUB_BYTES;
    while (self->offset < end) {
        uint64_t next = ef_segment_group (&self->segment, self->offset, self->seq, &self->chain);
        if (next == 0) {
            if (self->segment.error || !ef_segment_ends_in_zeros (&self->segment, self->offset)) {
                s_damaged (self);
            }
            ef_segment_close (&self->segment);
            break;
        }
        atomic_fetch_add (&self->scrub_bytes, next - self->offset);
        self->offset = next;
        self->seq++;
    }
    self->scrub_at_ms = now + SCRUB_MS;
    return self->scrub_at_ms;
}

static uint64_t
s_step (void *arg) {
    ef_upkeep_t *self = arg;
    ef_checkpoint_part_t *part;
    while ((part = ef_ring_pop (&self->actor.in)) != NULL) {
        if (atomic_load (&self->damaged) > 0) {
            part->rc = -ENOSPC; /* none is made that would hide the damage from the next start */
        } else {
            ef_checkpoint_take (&self->writer, self->storage, part);
        }
        if (part->rc && part->rc != -EBADF) {
            ef_log_limited (EF_LOG_WARNING, "journal.checkpoint", "segment=%u error=\"%s\"",
                            part->segment, strerror (-part->rc));
            s_fail (self, part->rc);
        }
        ef_buf_free (&part->buf);
        bool is_taken = ef_actor_answer (&self->actor, part);
        ef_assert (is_taken); /* one is under way at a time */
    }
    uint64_t now = ef_mono_ms ();
    uint64_t trim = s_trim (self, now);
    uint64_t look = s_prepare (self, now);
    look = trim < look ? trim : look;
    uint64_t scrub = ef_upkeep_scrub (self, now, ef_wall_ms ());
    return look < scrub ? look : scrub;
}

int
ef_upkeep_start (ef_upkeep_t *self, ef_storage_t *storage, ef_spares_t *spares, ef_waker_t *owner) {
    self->storage = storage;
    self->spares = spares;
    self->writer.file = -1;
    self->segment.file = -1;
    self->scrub_at_ms = ef_mono_ms () + SCRUB_IDLE;
    return ef_actor_start (&self->actor, "upkeep", owner, s_step, self);
}

void
ef_upkeep_stop (ef_upkeep_t *self) {
    ef_checkpoint_part_t *part;
    ef_actor_stop (&self->actor);
    while ((part = ef_ring_pop (&self->actor.in)) != NULL ||
           (part = ef_ring_pop (&self->actor.out)) != NULL) {
        ef_buf_free (&part->buf);
        free (part);
    }
    if (self->storage) {
        ef_checkpoint_drop (&self->writer);
        ef_segment_free (&self->segment);
    }
    ef_kept_free (&self->kept);
}
