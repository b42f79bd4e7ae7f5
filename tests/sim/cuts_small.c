/* Every short sequence of operations, every place of a cut, subsets of what wasn't synced.
   SPDX-License-Identifier: MIT

   Most crash bugs show with three operations on a fresh file system (CrashMonkey, OSDI 2018). The
   number of a sequence names it: all of one operation, then all of two, and so on. The cut falls
   into the last operation; cuts into those before are shorter sequences. */
#include "cuts.h"

#include <stdlib.h>

#define KINDS     6
#define ALL_BELOW 8 /* things that a crash decides about: all subsets of so many */
#define MOST      4096

static const cut_kind_t s_kinds[KINDS] = {CUT_APPEND, CUT_BIG,        CUT_ROLL,
                                          CUT_HINT,   CUT_CHECKPOINT, CUT_DROP};

uint64_t
cuts_small_count (const cuts_options_t *options) {
    uint64_t count = 0;
    uint64_t power = 1;
    for (uint32_t i = 0; i < options->operations; i++) {
        power *= KINDS;
        count += power;
    }
    return count;
}

/* The operations of a sequence; returns how many. */
static uint32_t
s_sequence (uint64_t number, cut_kind_t kinds[8]) {
    uint32_t count = 1;
    uint64_t power = KINDS;
    for (; number >= power; power *= KINDS) {
        number -= power;
        count++;
    }
    for (uint32_t i = count; i-- > 0; number /= KINDS) {
        kinds[i] = s_kinds[number % KINDS];
    }
    return count;
}

/* Runs the sequence with the cut at a call of the last operation. False: it ends before. */
static bool
s_run (world_t *self, uint64_t number, uint32_t call) {
    cut_kind_t kinds[8];
    cuts_totals_t unused = {.rounds = 0};
    uint32_t count = s_sequence (number, kinds);
    cuts_world_init (self, 1);
    if (!cuts_recover (self, false, &unused)) {
        cuts_fail ("a fresh journal can't be opened");
    }
    for (uint32_t i = 0; i < count; i++) {
        if (i + 1 == count) {
            sim_disk_fail_after (self->disk, call);
        }
        int rc = cuts_do (self, kinds[i]);
        if (rc && !sim_disk_has_failed (self->disk)) {
            cuts_fail ("operation %u failed with %d", i + 1, rc);
        }
    }
    bool has_failed = sim_disk_has_failed (self->disk);
    cuts_close (self);
    return has_failed;
}

/* One image: what is left is recovered twice, then written to and recovered again. */
static void
s_judge (const world_t *base, const uint8_t *fates, world_t *image, cuts_totals_t *totals) {
    image->disk = sim_disk_copy (base->disk, &image->chance);
    image->storage = sim_disk_open (image->disk, "journal");
    image->segment_bytes = base->segment_bytes;
    image->writer.file = -1;
    image->under_way.segment = 0;
    cuts_copy_truth (&image->truth, &base->truth);
    sim_disk_crash_with (image->disk, fates);
    for (unsigned i = 0; i < 4; i++) {
        if (!cuts_recover (image, i % 2 == 1, totals)) {
            cuts_fail ("recovery failed on a disk that works");
        }
        if (i == 2 && cuts_do (image, CUT_APPEND)) {
            cuts_fail ("what was recovered takes no append");
        }
        cuts_close (image);
    }
    image->storage->destroy (&image->storage);
    sim_disk_destroy (&image->disk);
    totals->cuts++;
}

void
cuts_small (const cuts_options_t *options, uint64_t number, cuts_totals_t *totals) {
    static uint8_t fates[MOST];
    sim_random_t random = {number * 0x9e3779b97f4a7c15u + 1};
    for (uint32_t call = 1;; call++) {
        world_t base;
        world_t image = {.seed = 1, .random = {9}, .chance = {11}};
        bool is_cut = s_run (&base, number, call);
        uint32_t pending = sim_disk_pending (base.disk);
        ef_assert (pending < MOST);
        uint32_t masks = pending <= ALL_BELOW ? 1u << pending : options->masks;
        for (uint32_t mask = 0; mask < masks; mask++) {
            for (uint32_t i = 0; i < pending; i++) {
                bool keeps = pending <= ALL_BELOW ? mask >> i & 1
                             : mask < 2           ? mask
                                                  : sim_one_in (&random, 2);
                fates[i] = keeps ? SIM_KEPT : SIM_LOST;
            }
            s_judge (&base, fates, &image, totals);
        }
        free (image.truth.groups);
        ef_buf_free (&image.buf);
        cuts_world_free (&base);
        if (!is_cut) {
            break; /* the operation was over: that was the crash behind it */
        }
    }
    totals->rounds++;
}
