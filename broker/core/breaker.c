/* Circuit breaker. SPDX-License-Identifier: MIT */
#include "breaker.h"
#include "../journal/record.h"

const char *
ef_breaker_state_name (ef_breaker_state_t state) {
    static const char *const names[] = {
#define X(name, text) text,
        EF_BREAKER_TABLE (X)
#undef X
    };
    ef_assert (state < EF_BREAKER_COUNT);
    return names[state];
}

const char *
ef_hand_name (ef_hand_t hand) {
    static const char *const names[] = {
#define X(name, text) text,
        EF_HAND_TABLE (X)
#undef X
    };
    ef_assert (hand < EF_HAND_COUNT);
    return names[hand];
}

ef_breaker_state_t
ef_breaker_state (const ef_breaker_t *self, const ef_breaker_config_t *config) {
    bool is_off = config->ratio <= 0 && self->hand == EF_HAND_AUTO;
    return is_off ? EF_BREAKER_CLOSED : self->state;
}

static uint32_t
s_probes (const ef_breaker_config_t *config) {
    return config->probes ? config->probes : 1;
}

uint64_t
ef_breaker_next_ms (const ef_breaker_t *self, const ef_breaker_config_t *config, uint64_t mono_ms) {
    uint64_t next = mono_ms;
    switch (ef_breaker_state (self, config)) {
    case EF_BREAKER_OPEN:
        if (self->hand == EF_HAND_OPEN) {
            return UINT64_MAX;
        }
        next = self->until_ms > mono_ms ? self->until_ms : mono_ms;
        break;
    case EF_BREAKER_HALF_OPEN: break;
    case EF_BREAKER_CLOSED:
    case EF_BREAKER_COUNT: return mono_ms;
    }
    /* Probes of an earlier round may still be out: it waits for them. As many good ones as would
       close it, by settings that are new: the next one does. */
    uint32_t probes = s_probes (config);
    uint32_t good = self->state == EF_BREAKER_HALF_OPEN ? self->good : 0;
    good = good < probes ? good : probes - 1;
    return self->out + good < probes ? next : UINT64_MAX;
}

bool
ef_breaker_allows (const ef_breaker_t *self, const ef_breaker_config_t *config, uint64_t mono_ms) {
    return ef_breaker_next_ms (self, config, mono_ms) <= mono_ms;
}

bool
ef_breaker_sent (ef_breaker_t *self, const ef_breaker_config_t *config, uint64_t mono_ms) {
    ef_assert (ef_breaker_allows (self, config, mono_ms));
    if (ef_breaker_state (self, config) == EF_BREAKER_CLOSED) {
        return false;
    }
    if (self->state == EF_BREAKER_OPEN) {
        self->state = EF_BREAKER_HALF_OPEN;
        self->good = 0;
    }
    self->out++;
    return true;
}

void
ef_breaker_returned (ef_breaker_t *self, bool was_probe) {
    if (was_probe) {
        ef_assert (self->out > 0);
        self->out--;
    }
}

static uint32_t
s_slot_ms (const ef_breaker_config_t *config) {
    uint32_t width = config->window_ms / EF_BREAKER_SLOTS;
    return width ? width : 1;
}

static void
s_clear (ef_breaker_t *self) {
    memset (self->slots, 0, sizeof self->slots);
}

static void
s_count (ef_breaker_t *self, const ef_breaker_config_t *config, bool has_failed, uint64_t mono_ms) {
    uint32_t width = s_slot_ms (config);
    uint64_t number = mono_ms / width;
    if (width != self->slot_ms || number >= self->newest + EF_BREAKER_SLOTS) {
        s_clear (self);
        self->slot_ms = width;
        self->newest = number;
    }
    while (self->newest < number) {
        self->newest++;
        memset (&self->slots[self->newest % EF_BREAKER_SLOTS], 0, sizeof self->slots[0]);
    }
    self->slots[self->newest % EF_BREAKER_SLOTS].calls++;
    self->slots[self->newest % EF_BREAKER_SLOTS].failures += has_failed;
}

void
ef_breaker_counts (const ef_breaker_t *self, const ef_breaker_config_t *config, uint64_t mono_ms,
                   uint32_t *calls, uint32_t *failures) {
    uint32_t width = s_slot_ms (config);
    *calls = *failures = 0;
    for (uint32_t age = 0; width == self->slot_ms && age < EF_BREAKER_SLOTS; age++) {
        uint64_t last =
            self->newest + EF_BREAKER_SLOTS - age; /* first number that lacks the slot */
        if (last > mono_ms / width) {
            *calls += self->slots[last % EF_BREAKER_SLOTS].calls;
            *failures += self->slots[last % EF_BREAKER_SLOTS].failures;
        }
    }
}

/* Opens it: first for the configured time, then, while it hasn't been closed, for twice the last.
 */
static void
s_open (ef_breaker_t *self, const ef_breaker_config_t *config, ef_moment_t when) {
    uint64_t cooldown = self->cooldown_ms ? 2ull * self->cooldown_ms : config->cooldown_ms;
    self->cooldown_ms =
        (uint32_t)(cooldown < config->cooldown_cap_ms ? cooldown : config->cooldown_cap_ms);
    self->state = EF_BREAKER_OPEN;
    self->until_ms = when.mono_ms + self->cooldown_ms;
    self->until_wall_ms = when.wall_ms + self->cooldown_ms;
}

static void
s_close (ef_breaker_t *self) {
    self->state = EF_BREAKER_CLOSED;
    self->cooldown_ms = 0;
    s_clear (self);
}

/* The product may be a hair over the whole number that it means (0.55 × 100): the hair is cut. */
static bool
s_is_bad (const ef_breaker_t *self, const ef_breaker_config_t *config, uint64_t mono_ms) {
    uint32_t calls;
    uint32_t failures;
    ef_breaker_counts (self, config, mono_ms, &calls, &failures);
    return failures > 0 && calls >= config->calls && failures >= config->ratio * calls - 1e-6;
}

bool
ef_breaker_outcome (ef_breaker_t *self, const ef_breaker_config_t *config, bool was_probe,
                    bool has_failed, ef_moment_t when) {
    ef_breaker_returned (self, was_probe);
    if (config->ratio <= 0) {
        return false;
    }
    if (self->state == EF_BREAKER_CLOSED) {
        s_count (self, config, has_failed, when.mono_ms);
        if (self->hand == EF_HAND_CLOSED || !s_is_bad (self, config, when.mono_ms)) {
            return false;
        }
        self->opened++;
        s_open (self, config, when);
        return true;
    }
    if (self->state == EF_BREAKER_OPEN || !was_probe) {
        return false;
    }
    if (has_failed) {
        s_open (self, config, when);
        return true;
    }
    if (++self->good < s_probes (config)) {
        return false;
    }
    s_close (self);
    return true;
}

bool
ef_breaker_set (ef_breaker_t *self, ef_hand_t hand, ef_moment_t when) {
    ef_assert (hand < EF_HAND_COUNT);
    if (hand == self->hand) {
        return false;
    }
    self->hand = hand;
    if (hand == EF_HAND_CLOSED) {
        s_close (self);
    } else if (hand == EF_HAND_OPEN && self->state != EF_BREAKER_OPEN) {
        self->state = EF_BREAKER_OPEN;
        self->until_ms = when.mono_ms;
        self->until_wall_ms = when.wall_ms;
    }
    return true;
}

void
ef_breaker_put (const ef_breaker_t *self, uint8_t bytes[EF_BREAKER_BYTES]) {
    memset (bytes, 0, EF_BREAKER_BYTES);
    bytes[0] = self->state == EF_BREAKER_CLOSED ? EF_BREAKER_CLOSED : EF_BREAKER_OPEN;
    bytes[1] = (uint8_t)self->hand;
    ef_le32_put (bytes + 4, self->cooldown_ms);
    ef_le64_put (bytes + 8, self->until_wall_ms);
    ef_le64_put (bytes + 16, self->opened);
}

int
ef_breaker_get (ef_breaker_t *self, const uint8_t bytes[EF_BREAKER_BYTES]) {
    if (bytes[0] > EF_BREAKER_OPEN || bytes[1] >= EF_HAND_COUNT) {
        return -1;
    }
    memset (self, 0, sizeof *self);
    self->state = (ef_breaker_state_t)bytes[0];
    self->hand = (ef_hand_t)bytes[1];
    self->cooldown_ms = ef_le32 (bytes + 4);
    self->until_wall_ms = ef_le64 (bytes + 8);
    self->opened = ef_le64 (bytes + 16);
    return 0;
}

void
ef_breaker_start (ef_breaker_t *self, ef_moment_t when) {
    uint64_t left = self->until_wall_ms > when.wall_ms ? self->until_wall_ms - when.wall_ms : 0;
    left = left < self->cooldown_ms ? left : self->cooldown_ms;
    self->until_ms = when.mono_ms + (self->state == EF_BREAKER_OPEN ? left : 0);
}
