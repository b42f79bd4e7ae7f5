/* Numbers over time: points, rolled up, in blocks. SPDX-License-Identifier: MIT */
#include "series.h"

#include <math.h>
#include <stdlib.h>

#define VERSION 1
#define LARGEST 9.0e15 /* a double keeps whole numbers exactly up to 2^53 */
#define TENTHS  10.0   /* levels are kept so exactly */

typedef enum { COLUMN_NONE, COLUMN_ONE, COLUMN_MANY } column_t;

const series_tier_t series_tiers[SERIES_TIERS] = {
    {1, 15 * 60}, {10, 6 * 3600}, {60, 7 * 86400}, {600, 90 * 86400}};

uint64_t
series_start (uint32_t tier, uint64_t time_s) {
    uint64_t length = (uint64_t)series_tiers[tier].step_s * SERIES_POINTS;
    return time_s - time_s % length;
}

void
series_block_init (series_block_t *self, uint64_t start_s, uint32_t width) {
    ef_assert (width > 0 && width <= SERIES_MAX);
    self->start_s = start_s;
    self->points = 0;
    self->width = width;
    self->spans_ms = calloc (SERIES_POINTS, sizeof (double));
    self->values = calloc ((size_t)SERIES_POINTS * width, sizeof (double));
    ef_assert (self->spans_ms != NULL && self->values != NULL);
    for (uint32_t i = 0; i < SERIES_POINTS * width; i++) {
        self->values[i] = NAN;
    }
}

void
series_block_free (series_block_t *self) {
    free (self->spans_ms);
    free (self->values);
    memset (self, 0, sizeof *self);
}

void
series_init (series_t *self, const series_set_t *set) {
    memset (self, 0, sizeof *self);
    ef_assert (set->count <= SERIES_MAX);
    self->set = set;
}

void
series_free (series_t *self) {
    for (uint32_t i = 0; i < SERIES_TIERS; i++) {
        series_block_free (&self->blocks[i]);
    }
}

void
series_merge (series_kind_t kind, double *sum, double *sum_span_ms, double value, double span_ms) {
    if (isnan (value) || !(span_ms > 0)) {
        return;
    }
    double before = isnan (*sum) ? 0 : *sum_span_ms;
    if (before <= 0) {
        *sum = value;
    } else if (kind == SERIES_COUNT) {
        *sum += value;
    } else if (kind == SERIES_LEVEL) {
        *sum += (value - *sum) * span_ms / (before + span_ms);
    } else if (value > *sum) {
        *sum = value;
    }
    *sum_span_ms = before + span_ms;
}

/* Into the point of a block. Unknown values of a point are taken as lasting as long as it did. */
static void
s_add_point (series_block_t *block, const series_set_t *set, uint32_t index, double span_ms,
             const double *values) {
    double before = block->spans_ms[index];
    double *point = block->values + (size_t)index * block->width;
    for (uint32_t i = 0; i < block->width; i++) {
        double span = before;
        series_merge (set->rows[i].kind, &point[i], &span, values[i], span_ms);
    }
    block->spans_ms[index] = before + span_ms;
    block->points = index >= block->points ? index + 1 : block->points;
}

void
series_add (series_t *self, uint64_t now_s, double span_ms, const double *values,
            void (*full) (void *arg, uint32_t tier, const series_block_t *block), void *arg) {
    for (uint32_t tier = 0; tier < SERIES_TIERS; tier++) {
        series_block_t *block = &self->blocks[tier];
        uint64_t start_s = series_start (tier, now_s);
        if (block->values && block->start_s != start_s) {
            full (arg, tier, block);
            series_block_free (block);
        }
        if (block->values == NULL) {
            series_block_init (block, start_s, self->set->count);
        }
        uint32_t index = (uint32_t)((now_s - start_s) / series_tiers[tier].step_s);
        s_add_point (block, self->set, index, span_ms, values);
        self->is_dirty[tier] = true;
    }
}

static void
s_put_varint (ef_buf_t *out, uint64_t value) {
    while (value >= 128) {
        *ef_buf_add (out, 1) = (uint8_t)(value | 128);
        value >>= 7;
    }
    *ef_buf_add (out, 1) = (uint8_t)value;
}

static int
s_get_varint (const uint8_t **at, const uint8_t *end, uint64_t *value) {
    *value = 0;
    for (unsigned shift = 0; shift < 64 && *at < end; shift += 7) {
        uint8_t byte = *(*at)++;
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            return 0;
        }
    }
    return -1;
}

static uint64_t
s_zigzag (int64_t value) {
    return (uint64_t)value << 1 ^ (value < 0 ? UINT64_MAX : 0);
}

static int64_t
s_unzigzag (uint64_t value) {
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

static int64_t
s_whole (double value, double times) {
    double scaled = value * times;
    scaled = scaled > LARGEST ? LARGEST : scaled < -LARGEST ? -LARGEST : scaled;
    return (int64_t)llround (scaled);
}

static double
s_times (const series_set_t *set, uint32_t column) {
    return column < set->count && set->rows[column].kind == SERIES_LEVEL ? TENTHS : 1;
}

/* The value that all points with a span have; COLUMN_NONE: they know nothing; else COLUMN_MANY. */
static column_t
s_look (const series_block_t *self, const series_set_t *set, uint32_t column, int64_t *value) {
    column_t kind = COLUMN_NONE;
    bool is_partly = false;
    for (uint32_t i = 0; i < self->points; i++) {
        double real = self->values[(size_t)i * self->width + column];
        if (isnan (real)) {
            is_partly = is_partly || self->spans_ms[i] > 0;
            continue;
        }
        int64_t whole = s_whole (real, s_times (set, column));
        if (kind == COLUMN_ONE && whole != *value) {
            return COLUMN_MANY;
        }
        kind = COLUMN_ONE;
        *value = whole;
    }
    return kind == COLUMN_ONE && is_partly ? COLUMN_MANY : kind;
}

static void
s_encode_column (const series_block_t *self, const series_set_t *set, uint32_t column,
                 ef_buf_t *out) {
    int64_t before = 0;
    column_t kind = s_look (self, set, column, &before);
    *ef_buf_add (out, 1) = (uint8_t)kind;
    if (kind == COLUMN_ONE) {
        s_put_varint (out, s_zigzag (before));
    }
    before = 0;
    for (uint32_t i = 0; kind == COLUMN_MANY && i < self->points; i++) {
        double value = self->values[(size_t)i * self->width + column];
        if (isnan (value)) {
            s_put_varint (out, 0);
            continue;
        }
        int64_t whole = s_whole (value, s_times (set, column));
        s_put_varint (out, s_zigzag (whole - before) + 1);
        before = whole;
    }
}

void
series_encode (const series_block_t *self, const series_set_t *set, ef_buf_t *out) {
    int64_t before = 0;
    *ef_buf_add (out, 1) = VERSION;
    s_put_varint (out, self->width);
    s_put_varint (out, self->points);
    for (uint32_t i = 0; i < self->points; i++) {
        int64_t span = s_whole (self->spans_ms[i], 1);
        s_put_varint (out, s_zigzag (span - before));
        before = span;
    }
    for (uint32_t column = 0; column < self->width; column++) {
        s_encode_column (self, set, column, out);
    }
}

static int
s_decode_spans (series_block_t *self, const uint8_t **at, const uint8_t *end) {
    int64_t before = 0;
    for (uint32_t i = 0; i < self->points; i++) {
        uint64_t code;
        if (s_get_varint (at, end, &code) || code >> 55) {
            return -1;
        }
        before += s_unzigzag (code);
        if (before < 0) {
            return -1;
        }
        self->spans_ms[i] = (double)before;
    }
    return 0;
}

static void
s_set (series_block_t *self, const series_set_t *set, uint32_t column, uint32_t point,
       int64_t value) {
    if (column < self->width && self->spans_ms[point] > 0) {
        self->values[(size_t)point * self->width + column] = (double)value / s_times (set, column);
    }
}

static int
s_decode_many (series_block_t *self, const series_set_t *set, uint32_t column, const uint8_t **at,
               const uint8_t *end) {
    int64_t before = 0;
    for (uint32_t i = 0; i < self->points; i++) {
        uint64_t code;
        if (s_get_varint (at, end, &code) || code >> 55) {
            return -1;
        }
        if (code > 0) {
            before += s_unzigzag (code - 1);
            s_set (self, set, column, i, before);
        }
    }
    return 0;
}

static int
s_decode_column (series_block_t *self, const series_set_t *set, uint32_t column, const uint8_t **at,
                 const uint8_t *end) {
    uint64_t code;
    uint8_t kind = *at < end ? *(*at)++ : COLUMN_MANY + 1;
    if (kind == COLUMN_MANY) {
        return s_decode_many (self, set, column, at, end);
    }
    if (kind > COLUMN_MANY ||
        (kind == COLUMN_ONE && (s_get_varint (at, end, &code) || code >> 55))) {
        return -1;
    }
    for (uint32_t i = 0; kind == COLUMN_ONE && i < self->points; i++) {
        s_set (self, set, column, i, s_unzigzag (code));
    }
    return 0;
}

static int
s_decode (series_block_t *self, const series_set_t *set, const uint8_t *at, const uint8_t *end) {
    uint64_t width;
    uint64_t points;
    if (at == end || *at++ != VERSION || s_get_varint (&at, end, &width) ||
        s_get_varint (&at, end, &points) || width > 256 || points > SERIES_POINTS) {
        return -1;
    }
    self->points = (uint32_t)points;
    if (s_decode_spans (self, &at, end)) {
        return -1;
    }
    for (uint32_t column = 0; column < width; column++) {
        if (s_decode_column (self, set, column, &at, end)) {
            return -1;
        }
    }
    return at == end ? 0 : -1;
}

int
series_decode (series_block_t *self, const series_set_t *set, uint64_t start_s, const void *bytes,
               size_t size) {
    const uint8_t *at = bytes;
    series_block_init (self, start_s, set->count);
    if (size > 0 && s_decode (self, set, at, at + size) == 0) {
        return 0;
    }
    series_block_free (self);
    series_block_init (self, start_s, set->count);
    return -1;
}

int
series_find (const series_set_t *set, const char *name, size_t size) {
    for (uint32_t i = 0; i < set->count; i++) {
        if (strlen (set->rows[i].name) == size && memcmp (set->rows[i].name, name, size) == 0) {
            return (int)i;
        }
    }
    return -1;
}
