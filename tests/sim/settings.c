/* What a schedule mixes. SPDX-License-Identifier: MIT */
#include "world.h"

#include <stdio.h>

static const char *const s_names[] = {
#define X(name, text) text,
    SIM_FEATURE_TABLE (X)
#undef X
};

uint32_t
sim_features (uint64_t seed) {
    sim_random_t random = {.state = seed * 0xd1342543de82ef95u + 1};
    for (unsigned i = 0; i < 8; i++) {
        (void)sim_random (&random); /* small seeds begin alike */
    }
    bool has_none = sim_one_in (&random, 4);
    uint32_t mask = 0;
    for (unsigned i = 0; i < SIM_FEATURE_COUNT; i++) {
        mask |= sim_below (&random, 8) < 3 ? 1u << i : 0;
    }
    return has_none ? 0 : mask;
}

uint32_t
sim_feature_bit (const char *name) {
    for (unsigned i = 0; i < SIM_FEATURE_COUNT; i++) {
        if (strcmp (s_names[i], name) == 0) {
            return 1u << i;
        }
    }
    return 0;
}

const char *
sim_feature_name (sim_feature_t feature) {
    return s_names[feature];
}

bool
sim_has (const world_t *self, sim_feature_t feature) {
    return self->features >> feature & 1;
}

void
settings_choose (world_t *self) {
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        ef_topic_config_t *topic = &self->topics[i];
        *topic = self->config.defaults;
        snprintf (topic->name, sizeof topic->name, "%s", sim_topics[i]);
        topic->capacity_events = i == 1 ? 40 : 0; /* beta fills up */
    }
}

void
settings_apply (const world_t *self, ef_core_t *core) {
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        int rc = ef_core_configure_topic (core, &self->topics[i]);
        ef_assert (rc == 0);
    }
}
