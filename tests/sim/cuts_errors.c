/* Every storage call fails, once and for ever; syncs that lie. SPDX-License-Identifier: MIT

   A seed is a script of operations. Each kind of call is made to fail at its first, second, and so
   on to the last place where the script makes one; then the process starts again, after a kill or
   after a power cut, and what was confirmed must be there. */
#include "cuts.h"

#include <errno.h>

#define OPERATIONS 24

static const cut_kind_t s_script[] = {
    CUT_APPEND,
    CUT_SPARE,
    CUT_HINT,
    CUT_ROLL,
    CUT_DEAD_ADD,
    CUT_BIG,
    CUT_CHECKPOINT,
    CUT_DEAD_COMMIT,
    CUT_SPARE,
    CUT_ROLL,
    CUT_DROP,
    CUT_APPEND,
    CUT_DEAD_LEAVE,
    CUT_DEAD_COMMIT,
    CUT_ROLL,
    CUT_CHECKPOINT,
    CUT_CHECKPOINT_BEGIN,
    CUT_DEAD_LEFT,
    CUT_CHECKPOINT_ADD,
    CUT_DEAD_ADD,
    CUT_DEAD_COMMIT,
    CUT_CHECKPOINT_END,
    CUT_DROP,
    CUT_HINT,
    CUT_APPEND,
};

/* Runs the script into the fault and starts again. False: the fault was never reached. */
static bool
s_run (uint64_t seed, const sim_fault_t *fault, bool is_power_cut, cuts_totals_t *totals) {
    world_t self;
    cuts_world_init (&self, seed);
    self.has_spares = seed % 4 != 0;
    self.has_dead = true;
    sim_disk_noise (self.disk, SIM_NOISE_WRITTEN);
    if (seed % 3 == 0 && !cuts_recover (&self, false, totals)) {
        cuts_fail ("a fresh journal can't be opened"); /* else the fault may strike here */
    }
    sim_disk_fault (self.disk, fault);
    if (self.wal == NULL && !cuts_recover (&self, false, totals)) {
        sim_disk_fault (self.disk, fault); /* and again at the second start */
        (void)cuts_recover (&self, true, totals);
    }
    for (uint32_t i = 0; self.wal && i < 2 * OPERATIONS; i++) {
        size_t scripted = sizeof s_script / sizeof s_script[0];
        uint32_t at = i < scripted ? i : sim_below (&self.random, (uint32_t)scripted);
        (void)cuts_do (&self, s_script[at]);
    }
    for (unsigned i = 0; self.wal && i < 3; i++) {
        (void)cuts_do (&self, CUT_APPEND); /* a confirmation behind an error fails in there */
    }
    bool is_reached = sim_disk_faults (self.disk) > 0;
    cuts_close (&self);
    sim_disk_fault (self.disk, &(sim_fault_t){.at = 0});
    if (is_power_cut) {
        sim_disk_crash (self.disk);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (!cuts_recover (&self, i == 1, totals)) {
            cuts_fail ("recovery failed on a disk that works");
        }
        if (cuts_do (&self, CUT_APPEND)) {
            cuts_fail ("what was recovered takes no append");
        }
        cuts_close (&self);
        sim_disk_crash (self.disk); /* takes back what a lie let be believed */
    }
    cuts_world_free (&self);
    totals->rounds++;
    return is_reached;
}

void
cuts_errors (const cuts_options_t *options, uint64_t seed, cuts_totals_t *totals) {
    (void)options;
    for (sim_call_t call = 0; call < SIM_CALL_COUNT; call++) {
        bool takes_space = call == SIM_CALL_CREATE || call == SIM_CALL_WRITE ||
                           call == SIM_CALL_EXTEND || call == SIM_CALL_SYNC ||
                           call == SIM_CALL_RENAME;
        for (unsigned way = 0; way < 10; way++) {
            sim_fault_t fault = {.call = call,
                                 .is_forever = way & 1,
                                 .error = way & 4 ? ENOSPC : EIO,
                                 .is_lie = way >= 8};
            if ((way & 4 && !takes_space) || (fault.is_lie && call != SIM_CALL_SYNC) ||
                (fault.is_lie && fault.is_forever)) {
                continue;
            }
            for (fault.at = 1;; fault.at++) {
                uint32_t at = fault.at;
                bool is_power_cut = fault.is_lie ? at % 4 != 0 : way & 2;
                cuts_about ("%s %u %s %s%s, then a %s", sim_call_name (call), at,
                            fault.is_forever ? "for ever" : "once", strerror (fault.error),
                            fault.is_lie ? ", a lie" : "", is_power_cut ? "power cut" : "kill");
                if (!s_run (seed, &fault, is_power_cut, totals)) {
                    break;
                }
            }
        }
    }
}
