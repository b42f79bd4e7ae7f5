/* Windows of quotas. SPDX-License-Identifier: MIT */
#include "calendar.h"

#include <stddef.h>

#define DAY_MS   86400000
#define TIME_MAX ((uint64_t)INT64_MAX / 2) /* of what a record may say; sums stay within int64 */

/* The beginning of the window that a moment lies in, and of the next one. */
static int64_t
s_calendar (const ef_quota_config_t *config, int64_t wall_ms, int64_t *next_ms) {
    int64_t window = config->window_ms;
    int64_t from = 0; /* windows count from there */
    const ef_zone_t *zone = window == DAY_MS ? config->zone : NULL;
    if (zone && zone->count) {
        uint32_t low = 0;
        uint32_t high = zone->count;
        while (low < high) { /* to the first midnight that is still to come */
            uint32_t middle = low + (high - low) / 2;
            if (zone->midnights[middle] <= wall_ms) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if (low > 0 && low < zone->count) {
            *next_ms = zone->midnights[low];
            return zone->midnights[low - 1];
        }
        from = zone->midnights[low ? low - 1 : 0]; /* outside the table days have 24 hours */
    }
    int64_t into = (wall_ms - from) % window;
    int64_t since = wall_ms - into - (into < 0 ? window : 0);
    *next_ms = since + window;
    return since;
}

static int64_t
s_time (uint64_t wall_ms) {
    return (int64_t)(wall_ms < TIME_MAX ? wall_ms : TIME_MAX);
}

uint64_t
ef_calendar_since (const ef_quota_config_t *config, uint64_t wall_ms) {
    int64_t next;
    ef_assert (config->window_ms > 0);
    int64_t since = config->is_sliding ? s_time (wall_ms) - config->window_ms + 1
                                       : s_calendar (config, s_time (wall_ms), &next);
    return since > 0 ? (uint64_t)since : 0;
}

uint64_t
ef_calendar_leaves (const ef_quota_config_t *config, uint64_t taken_ms) {
    int64_t next = s_time (taken_ms) + config->window_ms;
    if (!config->is_sliding) {
        (void)s_calendar (config, s_time (taken_ms), &next); /* where it began doesn't matter */
    }
    return (uint64_t)next;
}
