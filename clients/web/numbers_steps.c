/* Times as counts below steps: quantiles, sums, differences. SPDX-License-Identifier: MIT */
#include "numbers.h"

double
numbers_quantile (const numbers_histogram_t *self, double share) {
    double wanted = share * (double)self->count;
    double from = 0;
    double before = 0;
    if (self->count == 0) {
        return 0;
    }
    for (uint32_t i = 0; i < self->steps; i++) {
        double to = (double)(self->first << i);
        double below = (double)self->below[i];
        if (below > 0 && below >= wanted) {
            return from + (to - from) * (below > before ? (wanted - before) / (below - before) : 1);
        }
        from = to;
        before = below;
    }
    return from; /* past the last step: at least so much */
}

void
numbers_add_histogram (numbers_histogram_t *self, const numbers_histogram_t *other) {
    if (self->steps == 0) {
        *self = *other;
        return;
    }
    if (other->steps != self->steps || other->first != self->first) {
        return;
    }
    for (uint32_t i = 0; i < self->steps; i++) {
        self->below[i] += other->below[i];
    }
    self->sum += other->sum;
    self->count += other->count;
}

void
numbers_since (const numbers_histogram_t *self, const numbers_histogram_t *before,
               numbers_histogram_t *out) {
    *out = *self;
    if (before->steps != self->steps || before->count > self->count || before->sum > self->sum) {
        return;
    }
    uint64_t most = 0;
    for (uint32_t i = 0; i < self->steps; i++) {
        uint64_t count = self->below[i] > before->below[i] ? self->below[i] - before->below[i] : 0;
        most = count > most ? count : most;
        out->below[i] = most;
    }
    out->sum -= before->sum;
    out->count -= before->count;
    out->count = out->count > most ? out->count : most;
}
