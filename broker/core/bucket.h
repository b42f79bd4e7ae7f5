/* A token bucket: how many may go now at a rate. Pure. SPDX-License-Identifier: MIT

   Fills at `rate` tokens a second up to `burst`; begins full. What there is follows from a fixed
   moment and a count (start + elapsed × rate - taken), anew only where it is full, so that no error
   adds up however often it is asked. Times are monotonic ms; one that goes back counts as standing
   still. As a moment is known to a ms only, it holds what flows in 1 ms above its burst: else one
   that is emptied whenever a token is there would lose the rest of each ms, a third of 750 a
   second. Owns nothing. */
#ifndef EF_BUCKET_H
#define EF_BUCKET_H

#include "../../proto/assert.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    double rate;       /* tokens a second; 0: no bound */
    uint32_t burst;    /* at least 1 */
    double start;      /* tokens at since_ms */
    uint64_t since_ms; /* monotonic */
    uint64_t taken;    /* since then */
} ef_bucket_t;

/* Before anything else, and where settings have changed: what is there stays there, up to the new
   burst. A bucket of zeros, or one that had no bound, begins full. */
void ef_bucket_set (ef_bucket_t *self, double rate, uint32_t burst, uint64_t now_ms);

/* Takes up to `most`; returns how many. */
EF_MUST_USE uint32_t ef_bucket_take (ef_bucket_t *self, uint32_t most, uint64_t now_ms);

/* Takes `count` where at least one is there; what is missing is owed first. False: none is there.
 */
EF_MUST_USE bool ef_bucket_charge (ef_bucket_t *self, uint32_t count, uint64_t now_ms);

/* Gives back what was taken and not needed. */
void ef_bucket_return (ef_bucket_t *self, uint32_t count);

/* From when on at least one is there; `now_ms` where one is. */
uint64_t ef_bucket_next_ms (const ef_bucket_t *self, uint64_t now_ms);

#endif
