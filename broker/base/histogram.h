/* Times as counts in buckets. SPDX-License-Identifier: MIT

   Buckets are exact below 8 ms and then a quarter of a power of two wide, so a quantile is at most
   a quarter too large (the way of HdrHistogram, with two bits). */
#ifndef EF_HISTOGRAM_H
#define EF_HISTOGRAM_H

#include <stdint.h>

#define EF_HISTOGRAM_BUCKETS 124 /* 8, and 4 for each power from 2^3 to 2^31 */

typedef struct {
    uint64_t count;
    uint64_t sum_ms;
    uint32_t buckets[EF_HISTOGRAM_BUCKETS];
} ef_histogram_t;

void ef_histogram_add (ef_histogram_t *self, uint64_t ms);
void ef_histogram_add_many (ef_histogram_t *self, uint64_t ms, uint32_t count);
/* How many were below 2, 4, 8, … 2^18 ms. */
#define EF_HISTOGRAM_STEPS 18
void ef_histogram_below (const ef_histogram_t *self, uint64_t counts[EF_HISTOGRAM_STEPS]);
/* The end of the bucket in which this share (0 to 1) of all times is reached; 0: there are none. */
uint64_t ef_histogram_quantile (const ef_histogram_t *self, double share);

#endif
