/* eventflow stress: what is sent, its outcome, and how long it took. SPDX-License-Identifier: MIT
 */
#include "stress.h"

uint64_t
stress_due_us (const stress_t *self, uint64_t n) {
    return self->start_us + (uint64_t)((double)n * 1e6 / self->per_second);
}

/* Spread without a rhythm, so that every type gets its share. Source: splitmix64. */
bool
stress_is_to_fail (const stress_t *self, uint64_t n) {
    uint64_t x = (n + 1) * 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (double)(x >> 11) / 9007199254740992.0 < self->fail_share;
}

const char *
stress_type (const stress_t *self, uint64_t n) {
    return self->type_count ? self->types[n % self->type_count] : NULL;
}

void
stress_id (const stress_t *self, uint64_t n, char id[64]) {
    snprintf (id, 64, "%s%llu", self->prefix, (unsigned long long)n);
}

void
stress_payload (stress_t *self, uint64_t n) {
    ef_buf_t *out = &self->payload;
    bool fails = stress_is_to_fail (self, n);
    const ef_buf_t *extra = fails ? &self->fail_extra : &self->extra;
    ef_buf_clear (out);
    ef_put_map (out, 3 + (fails ? self->fail_extra_pairs : self->extra_pairs));
    ef_put_key_uint (out, "n", n);
    ef_put_key_bool (out, "fail", fails);
    ef_buf_put (out, extra->data, extra->size);
    ef_put_str (out, "pad");
    static const char pad[] = "................................................................";
    size_t used = out->size + 1;
    size_t left = self->size > used ? self->size - used : 0;
    /* A longer str has a longer head. */
    left -= left >= 32 ? (left < 258 ? 1 : left < 65539 ? 2 : 4) : 0;
    ef_buf_t text = {0};
    while (text.size < left) {
        size_t more = left - text.size;
        ef_buf_put (&text, pad, more < sizeof pad - 1 ? more : sizeof pad - 1);
    }
    ef_put_strn (out, text.size ? (const char *)text.data : "", text.size);
    ef_buf_free (&text);
}

/* With the lock held. */
static void
s_count_code (stress_t *self, const char *code) {
    uint32_t i = 0;
    while (i < self->code_count && strcmp (self->codes[i].code, code) != 0) {
        i++;
    }
    if (i == STRESS_CODES_MAX) {
        i--;
        snprintf (self->codes[i].code, sizeof self->codes[i].code, "others");
    } else if (i == self->code_count) {
        snprintf (self->codes[i].code, sizeof self->codes[i].code, "%s", code);
        self->code_count++;
    }
    self->codes[i].count++;
}

void
stress_decide (stress_t *self, uint64_t n, outcome_t outcome, const char *code) {
    uint64_t now_us = ef_mono_ns () / 1000;
    uint64_t due_us = stress_due_us (self, n);
    pthread_mutex_lock (&self->lock);
    if (n >= self->total || self->events[n].outcome != OUTCOME_NONE) {
        self->twice++;
    } else {
        self->events[n].outcome = outcome;
        self->outcomes[outcome]++;
        if (outcome == OUTCOME_CONFIRMED) {
            stress_time (&self->confirm, now_us > due_us ? now_us - due_us : 0);
            stress_sample (self, n, now_us);
        } else if (outcome == OUTCOME_REFUSED) {
            s_count_code (self, code);
        }
    }
    pthread_mutex_unlock (&self->lock);
}

void
stress_decide_rest (stress_t *self) {
    for (uint64_t n = 0; n < self->sent; n++) {
        if (self->events[n].outcome == OUTCOME_NONE) {
            self->events[n].outcome = OUTCOME_UNKNOWN;
            self->outcomes[OUTCOME_UNKNOWN]++;
        }
    }
}

void
stress_time (stress_times_t *times, uint64_t us) {
    uint64_t most = (1ull << 40) - 1;
    uint64_t value = us < most ? us : most;
    unsigned shift = value < 64 ? 0 : 58u - (unsigned)__builtin_clzll (value);
    times->below[shift * 32 + (value >> shift)]++;
    times->count++;
    times->most = us > times->most ? us : times->most;
}

uint64_t
stress_quantile (const stress_times_t *times, double share) {
    uint64_t wanted = (uint64_t)(share * (double)times->count);
    uint64_t seen = 0;
    for (unsigned i = 0; i < STRESS_BUCKETS; i++) {
        seen += times->below[i];
        if (seen > wanted || (seen && seen == times->count)) {
            unsigned shift = i < 64 ? 0 : i / 32 - 1;
            uint64_t bound = ((uint64_t)(i - shift * 32) + 1) << shift;
            return bound - 1 < times->most ? bound - 1 : times->most;
        }
    }
    return 0;
}
