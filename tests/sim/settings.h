/* What a schedule mixes: features by seed, topics' settings by chance. SPDX-License-Identifier: MIT
 */
#ifndef EF_SIM_SETTINGS_H
#define EF_SIM_SETTINGS_H

#include "ledger.h"

/* What workers say of a failure. Each rule of a topic fits one of them. */
typedef enum { CODE_PLAIN, CODE_BUSY, CODE_TIMEOUT, CODE_REFUSED, CODE_BAD, CODE_COUNT } sim_code_t;
void sim_put_code (ef_buf_t *out, sim_code_t code);

/* One seed in four has none of them; each of the others has each by three chances in eight. */
#define SIM_FEATURE_TABLE(X)                                                                       \
    X (TTL, "ttl")                                                                                 \
    X (AT, "at")                                                                                   \
    X (EXTEND, "extend")                                                                           \
    X (EMIT, "emit")                                                                               \
    X (ORDER, "order")                                                                             \
    X (POLICY, "policy")                                                                           \
    X (OPERATOR, "operator")                                                                       \
    X (DEDUPE, "dedupe")                                                                           \
    X (ROUTED, "routes")                                                                           \
    X (COMPENSATE, "compensate")                                                                   \
    X (COPIES, "copies")                                                                           \
    X (PARK, "park")                                                                               \
    X (QUOTA, "quota")                                                                             \
    X (BREAKER, "breaker")                                                                         \
    X (RATE, "rate")                                                                               \
    X (SCHEMA, "schema")                                                                           \
    X (LIMIT, "limit")                                                                             \
    X (POISON, "poison")                                                                           \
    X (BUDGET, "budget")                                                                           \
    X (FAIR, "fair")                                                                               \
    X (HEALTH, "health")
typedef enum {
#define X(name, text) SIM_##name,
    SIM_FEATURE_TABLE (X)
#undef X
        SIM_FEATURE_COUNT
} sim_feature_t;

/* Bits of the features that a seed has. */
uint32_t sim_features (uint64_t seed);
/* The bit of a feature by name; 0: none. */
uint32_t sim_feature_bit (const char *name);
const char *sim_feature_name (sim_feature_t feature);
bool sim_has (const world_t *self, sim_feature_t feature);

#define SIM_USERS       4 /* number 0 is nobody */
#define SIM_DOWNSTREAMS 4 /* number 0 is none */
#define SIM_ROUTES      2
/* Topics of a route, and what an event must say to take it. */
typedef struct {
    const char *type;    /* of the event */
    const char *pattern; /* of the route */
    uint8_t topics[3];
    uint8_t count;
} sim_route_t;
extern const sim_route_t sim_routes[SIM_ROUTES];

const char *sim_downstream (uint32_t number);

/* Decides every topic's settings; once a world. */
void settings_choose (world_t *self);
/* Does its topic take this version of an event's schema? */
bool settings_take (const world_t *self, const sim_event_t *event);
/* The rule for a code; NULL: the topic's own policy holds. */
const ef_rule_t *settings_rule (const world_t *self, uint32_t topic, sim_code_t code);
/* The most attempts that any policy of a topic allows. */
uint32_t settings_attempts (const world_t *self, uint32_t topic);
/* Hands them to a core. */
void settings_apply (const world_t *self, ef_core_t *core);

#endif
