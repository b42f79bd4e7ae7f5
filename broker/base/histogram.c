/* Times as counts in buckets. SPDX-License-Identifier: MIT */
#include "histogram.h"

#define EXACT 8u /* 2^3 */

static uint32_t
s_bucket (uint64_t ms) {
    if (ms < EXACT) {
        return (uint32_t)ms;
    }
    uint32_t value = ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
    uint32_t power = 31u - (uint32_t)__builtin_clz (value);
    return EXACT + (power - 3) * 4 + (value >> (power - 2)) % 4;
}

/* The greatest value in it. */
static uint64_t
s_end (uint32_t bucket) {
    if (bucket < EXACT) {
        return bucket;
    }
    uint32_t power = (bucket - EXACT) / 4 + 3;
    uint64_t quarter = (bucket - EXACT) % 4;
    return ((4 + quarter + 1) << (power - 2)) - 1;
}

void
ef_histogram_add (ef_histogram_t *self, uint64_t ms) {
    ef_histogram_add_many (self, ms, 1);
}

void
ef_histogram_add_many (ef_histogram_t *self, uint64_t ms, uint32_t count) {
    uint32_t *bucket = &self->buckets[s_bucket (ms)];
    self->count += count;
    self->sum_ms += ms * count;
    *bucket += UINT32_MAX - *bucket < count ? UINT32_MAX - *bucket : count;
}

void
ef_histogram_below (const ef_histogram_t *self, uint64_t counts[EF_HISTOGRAM_STEPS]) {
    uint64_t seen = 0;
    uint32_t bucket = 0;
    for (uint32_t step = 0; step < EF_HISTOGRAM_STEPS; step++) {
        uint64_t end = UINT64_C (2) << step;
        while (bucket < EF_HISTOGRAM_BUCKETS && s_end (bucket) < end) {
            seen += self->buckets[bucket++];
        }
        counts[step] = seen;
    }
}

uint64_t
ef_histogram_quantile (const ef_histogram_t *self, double share) {
    uint64_t wanted = (uint64_t)(share * (double)self->count + 0.999999);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < EF_HISTOGRAM_BUCKETS; i++) {
        seen += self->buckets[i];
        if (seen >= wanted && seen > 0) {
            return s_end (i);
        }
    }
    return 0;
}
