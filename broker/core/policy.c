/* Waits, rules and budgets of retries. SPDX-License-Identifier: MIT */
#include "policy.h"
#include "pattern.h"

#include <math.h>

#define MILLION 1000000u

const char *
ef_policy_name (ef_policy_kind_t kind) {
    static const char *const names[] = {
#define X(name, text) text,
        EF_POLICY_TABLE (X)
#undef X
    };
    ef_assert (kind < EF_POLICY_COUNT);
    return names[kind];
}

/* What the kind says, cut by the cap. A growth that is no number any more (0 × infinity) never
   passes for less than the cap. */
static uint64_t
s_most_ms (const ef_policy_t *policy, uint32_t attempt) {
    double growth = 1;
    if (policy->kind == EF_POLICY_EXPONENTIAL) {
        growth = pow (policy->factor, (double)attempt - 1);
    } else if (policy->kind == EF_POLICY_LINEAR) {
        growth = attempt;
    }
    double most = policy->base_ms * growth;
    return most < policy->cap_ms ? (uint64_t)most : policy->cap_ms;
}

uint64_t
ef_policy_wait_ms (const ef_policy_t *policy, uint32_t attempt, uint64_t random) {
    uint64_t most;
    uint64_t least;
    if (policy->kind == EF_POLICY_RANDOM) {
        most = policy->cap_ms;
        least = policy->base_ms < most ? policy->base_ms : most;
    } else {
        most = s_most_ms (policy, attempt > 0 ? attempt : 1);
        least = most - (uint64_t)((double)most * policy->jitter);
        least = least < most / 10 ? most / 10 : least;
    }
    uint64_t wait = least + random % (most - least + 1);
    return wait ? wait : 1;
}

const ef_rule_t *
ef_rules_find (const ef_rule_t *rules, uint32_t count, ef_span_t code) {
    ef_cursor_t cursor = ef_cursor (code.data, code.size);
    ef_span_t text;
    if (ef_get_str (&cursor, &text) == 0 && text.size == 0) {
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (ef_pattern_matches_value (rules[i].pattern, code)) {
            return &rules[i];
        }
    }
    return NULL;
}

/* At least one whole retry can be saved up, however small the share. */
static uint64_t
s_most_millionths (double share) {
    double most = share * EF_BUDGET_FIRSTS * MILLION;
    return most > MILLION ? (uint64_t)most : MILLION;
}

void
ef_budget_earn (ef_budget_t *self, double share) {
    uint64_t most = s_most_millionths (share);
    self->millionths += (uint64_t)(share * MILLION + 0.5);
    self->millionths = self->millionths < most ? self->millionths : most;
}

bool
ef_budget_take (ef_budget_t *self, double share, uint64_t now_ms) {
    if (share > 0) {
        if (self->millionths >= MILLION) {
            self->millionths -= MILLION;
        } else if (now_ms < self->floor_ms) {
            return false;
        }
        self->floor_ms = now_ms + EF_BUDGET_FLOOR_MS;
    }
    return true;
}

uint64_t
ef_budget_next_ms (const ef_budget_t *self, double share, uint64_t now_ms) {
    bool is_free = share <= 0 || self->millionths >= MILLION || now_ms >= self->floor_ms;
    return is_free ? now_ms : self->floor_ms;
}
