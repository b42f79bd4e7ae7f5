/* How many workers a pool should have. SPDX-License-Identifier: MIT */
#include "pool.h"

static bool
s_may_grow (const ef_pool_t *self, uint64_t now_ms) {
    return self->alive < self->config.max && now_ms >= self->not_before_ms;
}

static const char *
s_need (ef_pool_t *self, const ef_load_t *load) {
    uint64_t hands = (uint64_t)self->alive * self->config.credit;
    bool has_overflowed = load->overflowed > self->overflowed;
    self->overflowed = load->overflowed;
    if (load->stalled_ms >= self->stall_ms) {
        return "stalled";
    }
    if (has_overflowed) {
        return "overflow";
    }
    if (load->retrying > 4 * hands && load->ready > 0) {
        return "retry load";
    }
    return NULL;
}

ef_pool_act_t
ef_pool_decide (ef_pool_t *self, const ef_load_t *load, uint64_t now_ms, const char **why) {
    uint32_t min = self->wanted_min != UINT32_MAX ? self->wanted_min : self->config.min;
    const char *need = s_need (self, load);
    if (self->alive < min && now_ms >= self->not_before_ms) {
        self->alive++;
        *why = "below min";
        return EF_POOL_START;
    }
    /* Nothing in hand beyond what one worker fewer could hold. */
    bool is_idle = load->ready == 0 && self->alive > 0 &&
                   load->leased <= (uint64_t)(self->alive - 1) * self->config.credit;
    if (!is_idle || self->busy_ms == 0) {
        self->busy_ms = now_ms;
    }
    if (need && s_may_grow (self, now_ms)) {
        self->alive++;
        self->not_before_ms = now_ms + self->config.cooldown_ms;
        *why = need;
        return EF_POOL_START;
    }
    if (self->alive > min && is_idle && now_ms - self->busy_ms >= self->config.idle_ms) {
        self->alive--;
        self->busy_ms = now_ms; /* the next one after as long again */
        *why = "idle";
        return EF_POOL_DRAIN;
    }
    return EF_POOL_KEEP;
}

bool
ef_pool_ended (ef_pool_t *self, bool was_clean, uint64_t lived_ms, uint64_t now_ms) {
    self->alive -= self->alive > 0;
    if (was_clean && lived_ms >= 1000) {
        self->crashes = 0;
        return false;
    }
    self->crashes = lived_ms < EF_SHORT_LIFE_MS ? self->crashes + 1 : 1;
    if (self->crashes >= EF_CRASHES_MAX) {
        self->crashes = 0;
        self->not_before_ms = now_ms + EF_CRASH_GIVE_UP_MS;
        return true;
    }
    self->not_before_ms = now_ms + ((uint64_t)EF_CRASH_PAUSE_MS << (self->crashes - 1));
    return false;
}
