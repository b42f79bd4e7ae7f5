/* What the scaler is told of each topic. SPDX-License-Identifier: MIT */
#include "world.h"

#include <stdlib.h>

static void
s_each_token (void *arg, const char *token, uint64_t answered, uint64_t held) {
    (void)answered;
    if (token[0] == 0 || held > 100000) {
        sim_fail (arg, "a worker with token \"%s\" holds %llu", token, (unsigned long long)held);
    }
}

static bool
s_has_fallen (const ef_load_t *load, const ef_load_t *before) {
    return load->stalled_sum < before->stalled_sum || load->deliveries < before->deliveries ||
           load->done < before->done || load->failed < before->failed ||
           load->permanent < before->permanent || load->overflowed < before->overflowed;
}

/* It adds up, totals never fall, and what waits is no older than it can be. */
void
oracle_loads (world_t *self) {
    uint32_t count = ef_core_topic_count (self->core);
    ef_load_t *loads = calloc (count, sizeof *loads);
    ef_assert (loads != NULL);
    ef_core_loads (self->core, loads);
    ef_core_tokens (self->core, s_each_token, self);
    bool is_first = self->loads_life != self->life;
    self->loads_since = is_first ? self->now : self->loads_since;
    self->loads_life = self->life;
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        int index = ef_core_find_topic (self->core, sim_topics[i], strlen (sim_topics[i]));
        const ef_load_t *load = &loads[index];
        uint32_t at = (uint32_t)index;
        if (load->ready + load->blocked != ef_core_count (self->core, at, EF_STATE_READY) ||
            load->leased != ef_core_count (self->core, at, EF_STATE_LEASED) ||
            load->retrying + load->inserting != ef_core_count (self->core, at, EF_STATE_RETRYING)) {
            sim_fail (self, "the load of %s isn't what it holds", sim_topics[i]);
        }
        if (load->oldest_ms > self->now - self->loads_since || load->stalled_ms > self->now) {
            sim_fail (self, "something waits in %s for %llu ms, longer than it can", sim_topics[i],
                      (unsigned long long)load->oldest_ms);
        }
        if (!is_first && s_has_fallen (load, &self->loads[i])) {
            sim_fail (self, "a total of %s has fallen", sim_topics[i]);
        }
        if (load->pool_workers > load->workers || load->unhealthy > load->workers) {
            sim_fail (self, "%s has more workers of one kind than in all", sim_topics[i]);
        }
        bool is_held = load->hold == EF_HOLD_PAUSED || load->hold == EF_HOLD_DRAINING;
        if (self->is_paused[i] && !is_held) {
            sim_fail (self, "%s is paused, and its workers would be thought too few",
                      sim_topics[i]);
        }
        self->loads[i] = *load;
    }
    free (loads);
}
