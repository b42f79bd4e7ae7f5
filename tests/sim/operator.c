/* Operators of the simulated world: they replay, purge, pause. SPDX-License-Identifier: MIT */
#include "world.h"

/* Others take space on the disk and give it back. */
static void
s_squeeze (world_t *self) {
    uint64_t used = sim_disk_used (self->disk);
    uint32_t dice = sim_below (&self->random, 3);
    sim_disk_limit (self->disk, dice == 0 ? 0 : used + sim_below (&self->random, 90000));
}

static void
s_purge (world_t *self) {
    uint64_t purged;
    uint32_t topic = sim_below (&self->random, SIM_TOPICS);
    ef_status_t status = ef_core_purge (self->core, sim_topics[topic], &purged);
    ef_assert (status == EF_OK);
    self->was_purged[topic] = true;
    for (uint32_t i = 0; i < self->event_count; i++) {
        self->events[i].is_purged = self->events[i].is_purged || self->events[i].topic == topic;
    }
}

static void
s_pause (world_t *self, uint32_t topic, bool is_paused) {
    ef_status_t status = ef_core_pause (self->core, sim_topics[topic], is_paused);
    ef_assert (status == EF_OK);
    self->is_paused[topic] = is_paused;
    sim_trace (self, "%s %s", is_paused ? "pause" : "resume", sim_topics[topic]);
}

void
operator_crashed (world_t *self) {
    memset (self->is_paused, 0, sizeof self->is_paused); /* it may be, or not */
}

void
operator_quiet (world_t *self) {
    for (uint32_t i = 0; i < SIM_TOPICS && sim_has (self, SIM_OPERATOR); i++) {
        s_pause (self, i, false);
    }
}

void
operator_step (world_t *self) {
    uint32_t dice = sim_below (&self->random, 20);
    if (dice < 10) {
        dead_step (self);
    } else if (dice < 14 && self->seed % 2 == 0) {
        s_squeeze (self);
    } else if (dice == 14 && self->seed % 8 == 0) {
        s_purge (self);
    } else if (dice > 16 && sim_has (self, SIM_OPERATOR)) {
        s_pause (self, sim_below (&self->random, SIM_TOPICS), sim_one_in (&self->random, 3));
    }
}
