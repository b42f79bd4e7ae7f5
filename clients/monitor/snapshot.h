/* The newest numbers as JSON, for the page. SPDX-License-Identifier: MIT

   {"time", "broker", "process", "totals", "topics", "workers", "pools"}: each map as the broker
   sends it (histograms left out), with rates added. Pure. */
#ifndef EF_MONITOR_SNAPSHOT_H
#define EF_MONITOR_SNAPSHOT_H

#include "samples.h"

void snapshot_put (ef_buf_t *out, const numbers_t *numbers, const samples_t *samples,
                   uint64_t wall_ms);

/* Pieces of JSON: `"name":value`, with a comma before it where the object isn't empty. */
void json_key (ef_buf_t *out, const char *name);
void json_text (ef_buf_t *out, const char *name, const char *value);
void json_time (ef_buf_t *out, const char *name, uint64_t unix_ms); /* 0: null */
void json_real (ef_buf_t *out, const char *name, double value);     /* NAN: null */
void json_whole (ef_buf_t *out, const char *name, uint64_t value);
void json_bool (ef_buf_t *out, const char *name, bool value);
void json_number (ef_buf_t *out, double value); /* three digits behind the point at the most */
void json_raw (ef_buf_t *out, const char *text);

/* Makes it UTF-8 without control characters where it isn't: what came from elsewhere, or was cut.
 */
void text_clean (char *text);

#endif
