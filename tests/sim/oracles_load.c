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

static void
s_again_life (world_t *self) {
    if (self->again_life != self->life) {
        self->again_life = self->life;
        memset (self->again_least, 0, sizeof self->again_least);
        memset (self->again_most, 0, sizeof self->again_most);
    }
}

/* An event goes out: is it for the first time? One that came back from the dead letters begins
   anew, and of one without an attempt that failed a broker that was started since doesn't know. */
void
oracle_again (world_t *self, const delivery_t *delivery) {
    const sim_event_t *event = &self->events[delivery->event];
    bool was_out = event->deliveries > 0 && event->life == self->life;
    bool is_known = !event->was_returned && ledger_repeats (self, event) == 0;
    s_again_life (self);
    self->again_most[event->topic] += delivery->attempt > 1 || was_out;
    self->again_least[event->topic] += delivery->attempt > 1 || (was_out && is_known);
}

/* The number behind a key of a topic's stats, or the sum of those in a map there. */
static uint64_t
s_stat (world_t *self, const ef_buf_t *stats, const char *key) {
    ef_cursor_t cursor = ef_cursor (stats->data, stats->size);
    uint32_t pairs = 0;
    uint32_t inner = 0;
    uint64_t value = 0;
    uint64_t sum = 0;
    ef_span_t name = {"", 0};
    int rc = ef_get_map (&cursor, &pairs);
    while (rc == 0 && pairs-- > 0 && (rc = ef_get_str (&cursor, &name)) == 0 &&
           !ef_span_is (name, key)) {
        rc = ef_skip (&cursor);
    }
    if (rc || !ef_span_is (name, key)) {
        sim_fail (self, "the stats of a topic have no %s", key);
        return 0;
    }
    if (ef_get_uint (&cursor, &value) == 0) {
        return value;
    }
    rc = ef_get_map (&cursor, &inner);
    for (uint32_t i = 0; rc == 0 && i < inner; i++) {
        rc = ef_get_str (&cursor, &name) || ef_get_uint (&cursor, &value);
        sum += value;
    }
    if (rc) {
        sim_fail (self, "%s in the stats of a topic can't be read", key);
    }
    return sum;
}

/* What the stats tell for its reason comes to what they tell in all. */
static void
s_look_at_stats (world_t *self, uint32_t topic, uint32_t index, const ef_load_t *load) {
    ef_buf_t stats = {0};
    ef_core_topic_stats (self->core, index, &stats);
    uint64_t again = s_stat (self, &stats, "redelivered");
    uint64_t open =
        s_stat (self, &stats, "breakers_open") + s_stat (self, &stats, "breakers_half_open");
    if (again < self->again_least[topic] || again > self->again_most[topic]) {
        sim_fail (self, "%s: %llu deliveries weren't the first, expected %llu to %llu",
                  sim_topics[topic], (unsigned long long)again,
                  (unsigned long long)self->again_least[topic],
                  (unsigned long long)self->again_most[topic]);
    }
    if (s_stat (self, &stats, "failures") > load->failed) {
        sim_fail (self, "%s: more attempts failed for a reason than in all", sim_topics[topic]);
    }
    if (s_stat (self, &stats, "deaths") < load->permanent + load->overflowed) {
        sim_fail (self, "%s: fewer events died for a reason than in all", sim_topics[topic]);
    }
    if (s_stat (self, &stats, "oldest_ms") != load->oldest_ms || open != load->breakers) {
        sim_fail (self, "%s: its stats say another thing than its load", sim_topics[topic]);
    }
    ef_buf_free (&stats);
}

/* It adds up, totals never fall, and what waits is no older than it can be. */
void
oracle_loads (world_t *self) {
    uint32_t count = ef_core_topic_count (self->core);
    s_again_life (self);
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
        s_look_at_stats (self, i, at, load);
        self->loads[i] = *load;
    }
    free (loads);
}
