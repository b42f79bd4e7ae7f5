/* Numbers over time: points, rolled up, in blocks. SPDX-License-Identifier: MIT

   A series is kept in four tiers, of finer and of coarser points. A point is what a span of time
   came to: counts are added, levels averaged by how long they lasted, maxima kept. Sixty points are
   a block, which is kept as bytes:

       1        version
       width    varint, how many series the writer knew
       points   varint, up to 60
       spans    ms of each point that samples covered, varints of zigzag differences; 0: no point
       columns  one after the other: 0, nothing is known of it; 1, then the value as a zigzag
   varint, that every point has which has a span; 2, then varints of zigzag differences + 1, 0 where
   nothing is known. Levels are kept in tenths

   A column that the writer didn't know is unknown; one that the reader doesn't know is passed over
   (new series come behind the others, none is ever taken away). Role: pure; takes the time. Owns:
   the open blocks. Invariants: what a span of zero has is unknown. On failure: bytes that can't be
   read are an empty block. */
#ifndef EF_MONITOR_SERIES_H
#define EF_MONITOR_SERIES_H

#include "../../proto/assert.h"
#include "../../proto/buf.h"

#define SERIES_POINTS 60
#define SERIES_TIERS  4
#define SERIES_MAX    32 /* of a set */

typedef enum { SERIES_COUNT, SERIES_LEVEL, SERIES_MOST } series_kind_t;

typedef struct {
    const char *name;
    series_kind_t kind;
} series_row_t;

typedef struct {
    const series_row_t *rows;
    uint32_t count;
} series_set_t;

typedef struct {
    uint32_t step_s;
    uint32_t keep_s;
} series_tier_t;
extern const series_tier_t series_tiers[SERIES_TIERS];

typedef struct {
    uint64_t start_s; /* a multiple of SERIES_POINTS steps */
    uint32_t points;  /* from the start on; those behind have no span */
    uint32_t width;
    double *spans_ms; /* owned; of SERIES_POINTS */
    double *values;   /* owned; of SERIES_POINTS × width, NAN: not known */
} series_block_t;

typedef struct {
    const series_set_t *set; /* borrowed */
    series_block_t blocks[SERIES_TIERS];
    bool is_dirty[SERIES_TIERS]; /* has what series_encode wasn't asked for */
} series_t;

void series_init (series_t *self, const series_set_t *set);
void series_free (series_t *self);

/* One sample, of `span_ms` up to now; `values` has set->count, NAN: not known. Before a block is
   left, `full` is called with it. */
void series_add (series_t *self, uint64_t now_s, double span_ms, const double *values,
                 void (*full) (void *arg, uint32_t tier, const series_block_t *block), void *arg);
/* Where a block is to begin that has this time. */
uint64_t series_start (uint32_t tier, uint64_t time_s);

void series_block_init (series_block_t *self, uint64_t start_s, uint32_t width);
void series_block_free (series_block_t *self);
void series_encode (const series_block_t *self, const series_set_t *set, ef_buf_t *out);
/* 0; -1: the bytes aren't a block, it is empty. `self` is made anew. */
EF_MUST_USE int series_decode (series_block_t *self, const series_set_t *set, uint64_t start_s,
                               const void *bytes, size_t size);

/* Adds one value to what a longer span has so far. */
void series_merge (series_kind_t kind, double *sum, double *sum_span_ms, double value,
                   double span_ms);

/* The place of a series; -1: there is none of that name. */
int series_find (const series_set_t *set, const char *name, size_t size);

#endif
