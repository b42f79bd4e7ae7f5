/* Power cuts at random places. SPDX-License-Identifier: MIT

   A seed is one disk that lives through several cuts: operations, then one that the cut falls into,
   beside a checkpoint that is being written; in one of ten recoveries a second cut; then recovery
   twice. */
#include "cuts.h"

#define CUTS_A_SEED   5
#define OPERATIONS    20 /* at the least, before a cut */
#define SECTORS_LEAST 3

static cut_kind_t
s_choose (world_t *self) {
    static const cut_kind_t kinds[] = {
        CUT_APPEND,
        CUT_APPEND,
        CUT_APPEND,
        CUT_APPEND,
        CUT_APPEND,
        CUT_BIG,
        CUT_ROLL,
        CUT_ROLL,
        CUT_SPARE,
        CUT_HINT,
        CUT_CHECKPOINT_BEGIN,
        CUT_CHECKPOINT_ADD,
        CUT_CHECKPOINT_END,
        CUT_DROP,
        CUT_DROP,
        CUT_DEAD_ADD,
        CUT_DEAD_ADD,
        CUT_DEAD_LEAVE,
        CUT_DEAD_LEFT,
        CUT_DEAD_COMMIT,
        CUT_DEAD_COMMIT,
    };
    return kinds[sim_below (&self->random, sizeof kinds / sizeof kinds[0])];
}

/* What the cut falls into, and what must be done so that it can. */
static cut_kind_t
s_aim (world_t *self, uint32_t *calls) {
    static const struct {
        cut_kind_t kind;
        uint32_t calls; /* storage calls that it makes, about */
    } targets[] = {
        {CUT_APPEND, 2}, {CUT_ROLL, 7},           {CUT_ROLL, 7}, {CUT_CHECKPOINT_END, 6},
        {CUT_DROP, 2},   {CUT_DEAD_COMMIT, 12},   {CUT_BIG, 2},  {CUT_HINT, 3},
        {CUT_SPARE, 4},  {CUT_CHECKPOINT_END, 6}, {CUT_DROP, 2}, {CUT_DEAD_COMMIT, 12},
    };
    uint32_t at = sim_below (&self->random, sizeof targets / sizeof targets[0]);
    cut_kind_t kind = targets[at].kind;
    if (kind == CUT_DEAD_COMMIT && self->has_dead) {
        (void)cuts_do (self, CUT_DEAD_ADD);
        (void)cuts_do (self, sim_one_in (&self->random, 2) ? CUT_DEAD_LEAVE : CUT_DEAD_LEFT);
    }
    if (self->under_way.segment == 0) {
        (void)cuts_do (self, CUT_CHECKPOINT_BEGIN);
    }
    for (uint32_t i = 0; i < 3 && sim_disk_unsynced (self->disk) < SECTORS_LEAST; i++) {
        (void)cuts_do (self, CUT_CHECKPOINT_ADD);
    }
    *calls = 1 + sim_below (&self->random, targets[at].calls);
    return kind;
}

static void
s_cut (world_t *self, cuts_totals_t *totals) {
    uint32_t sectors = sim_disk_unsynced (self->disk);
    totals->cuts += sectors >= SECTORS_LEAST;
    totals->fewer += sectors < SECTORS_LEAST;
    totals->unsynced += sectors;
    cuts_close (self);
    sim_disk_crash (self->disk);
}

static void
s_live (world_t *self, cuts_totals_t *totals) {
    uint32_t calls;
    for (uint32_t i = OPERATIONS + sim_below (&self->random, 20); i > 0; i--) {
        int rc = cuts_do (self, s_choose (self));
        if (rc) {
            cuts_fail ("an operation failed with %d on a disk that works", rc);
        }
    }
    cut_kind_t target = s_aim (self, &calls);
    totals->targets[target]++;
    sim_disk_fail_after (self->disk, calls);
    for (cut_kind_t kind = target; !sim_disk_has_failed (self->disk); kind = s_choose (self)) {
        (void)cuts_do (self, kind);
    }
    s_cut (self, totals);
}

static void
s_recover (world_t *self, cuts_totals_t *totals) {
    if (sim_one_in (&self->random, 10)) {
        sim_disk_fail_after (self->disk, 1 + sim_below (&self->random, 6));
        (void)cuts_recover (self, sim_one_in (&self->random, 2), totals);
        totals->inside++;
        s_cut (self, totals);
    }
    for (unsigned i = 0; i < 2; i++) { /* the second must find what the first found */
        if (i == 1) {
            cuts_close (self);
            if (sim_one_in (&self->random, 2)) {
                sim_disk_crash (self->disk);
            }
        }
        if (!cuts_recover (self, sim_one_in (&self->random, 2), totals)) {
            cuts_fail ("recovery failed on a disk that works");
        }
    }
}

void
cuts_power (const cuts_options_t *options, uint64_t seed, cuts_totals_t *totals) {
    world_t world;
    cuts_world_init (&world, seed);
    world.has_spares = !sim_one_in (&world.random, 4);
    world.has_dead = sim_one_in (&world.random, 2);
    sim_disk_noise (world.disk, options->fills_sectors ? SIM_NOISE_SECTORS : SIM_NOISE_WRITTEN);
    if (!cuts_recover (&world, false, totals)) {
        cuts_fail ("a fresh journal can't be opened");
    }
    for (unsigned i = 0; i < CUTS_A_SEED; i++) {
        s_live (&world, totals);
        s_recover (&world, totals);
    }
    cuts_world_free (&world);
    totals->rounds++;
}
