/* Token bucket. SPDX-License-Identifier: MIT */
#include "bucket.h"

#define HAIR 1e-9 /* 3 × a third of a token is one */

/* What it holds at the most. */
static double
s_brim (const ef_bucket_t *self) {
    return self->burst + self->rate / 1000;
}

static double
s_tokens (const ef_bucket_t *self, uint64_t now_ms) {
    double elapsed_ms = now_ms > self->since_ms ? (double)(now_ms - self->since_ms) : 0;
    double tokens = self->start + elapsed_ms * self->rate / 1000 - (double)self->taken;
    return tokens < s_brim (self) ? tokens : s_brim (self);
}

static void
s_begin (ef_bucket_t *self, double tokens, uint64_t now_ms) {
    self->start = tokens;
    self->since_ms = now_ms > self->since_ms ? now_ms : self->since_ms;
    self->taken = 0;
}

void
ef_bucket_set (ef_bucket_t *self, double rate, uint32_t burst, uint64_t now_ms) {
    burst = burst ? burst : 1;
    double tokens = self->rate > 0 ? s_tokens (self, now_ms) : burst;
    self->rate = rate;
    self->burst = burst;
    tokens =
        tokens > 0 ? tokens : 0; /* at a time before the last one more is taken than was there */
    s_begin (self, tokens < burst ? tokens : burst, now_ms);
}

uint32_t
ef_bucket_take (ef_bucket_t *self, uint32_t most, uint64_t now_ms) {
    if (self->rate <= 0) {
        return most;
    }
    double tokens = s_tokens (self, now_ms);
    if (tokens >= s_brim (self)) {
        s_begin (self, tokens, now_ms); /* what would run over is lost */
    }
    tokens = tokens > 0 ? tokens + HAIR : 0;
    uint32_t count = tokens < most ? (uint32_t)tokens : most;
    self->taken += count;
    return count;
}

bool
ef_bucket_charge (ef_bucket_t *self, uint32_t count, uint64_t now_ms) {
    if (count > 0 && ef_bucket_take (self, 1, now_ms) == 0) {
        return false;
    }
    self->taken += count > 0 ? count - 1 : 0;
    return true;
}

void
ef_bucket_return (ef_bucket_t *self, uint32_t count) {
    self->taken -= count < self->taken ? count : self->taken;
}

uint64_t
ef_bucket_next_ms (const ef_bucket_t *self, uint64_t now_ms) {
    if (self->rate <= 0 || s_tokens (self, now_ms) + HAIR >= 1) {
        return now_ms;
    }
    double wait_ms = ((double)self->taken + 1 - self->start) / self->rate * 1000;
    if (wait_ms >= 1e15) {
        return UINT64_MAX; /* in 30,000 years */
    }
    uint64_t next = self->since_ms + (uint64_t)wait_ms;
    while (s_tokens (self, next) + HAIR < 1) {
        next++; /* it was rounded down: once, or twice */
    }
    return next;
}
