/* Log lines: a stable event name and key=value pairs, on standard error.
   SPDX-License-Identifier: MIT */
#ifndef EF_LOG_H
#define EF_LOG_H

#include "../../proto/assert.h"

#include <stdbool.h>

typedef enum { EF_LOG_DEBUG, EF_LOG_INFO, EF_LOG_WARNING, EF_LOG_ERROR } ef_log_level_t;

/* Writes "time level event key=value…" as one line, or as a JSON object once that was asked for. A
   `format` gives the pairs: "topic=%s n=%lu". Safe from every thread. */
void ef_log (ef_log_level_t level, const char *event, const char *format, ...) EF_PRINTF (3, 4);

/* What is written, and how; may change while threads write. */
void ef_log_setup (ef_log_level_t least, bool json);

/* At most one line a second for one place in the code, with a count of those left out. */
#define ef_log_limited(level, event, ...)                                                          \
    do {                                                                                           \
        static _Thread_local ef_log_limit_t limit_;                                                \
        if (ef_log_allow (&limit_)) {                                                              \
            ef_log (level, event, __VA_ARGS__);                                                    \
        }                                                                                          \
    } while (0)

typedef struct {
    unsigned long long next_ms;
    unsigned long long left_out;
} ef_log_limit_t;
bool ef_log_allow (ef_log_limit_t *limit);

#endif
