/* The windows of a quota in time. Pure. SPDX-License-Identifier: MIT

   By the wall clock, ms since 1970. A window of a day begins at midnight of its zone, or of UTC
   without one; outside the zone's table days have 24 hours from its ends on. Others begin at
   multiples of their length since 1970. A sliding one ends with each moment. */
#ifndef EF_CALENDAR_H
#define EF_CALENDAR_H

#include "../../proto/assert.h"
#include "settings.h"

/* What was taken then or later counts at a moment; what is taken in the future counts, too. */
uint64_t ef_calendar_since (const ef_quota_config_t *config, uint64_t wall_ms);

/* When what was taken at a moment counts no longer: the turn of its window. */
uint64_t ef_calendar_leaves (const ef_quota_config_t *config, uint64_t taken_ms);

#endif
