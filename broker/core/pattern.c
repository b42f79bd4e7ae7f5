/* Matching of shell patterns. SPDX-License-Identifier: MIT */
#include "pattern.h"

#include <inttypes.h>
#include <stdio.h>

bool
ef_pattern_matches (const char *pattern, const char *text, size_t size) {
    const char *star = NULL; /* behind the last `*` */
    size_t resume = 0;       /* where the text went on behind it */
    size_t i = 0;
    while (i < size) {
        if (*pattern == '*') {
            star = ++pattern;
            resume = i;
        } else if (*pattern != 0 && (*pattern == '?' || *pattern == text[i])) {
            pattern++;
            i++;
        } else if (star) {
            pattern = star; /* the `*` takes one byte more */
            i = ++resume;
        } else {
            return false;
        }
    }
    while (*pattern == '*') {
        pattern++;
    }
    return *pattern == 0;
}

bool
ef_pattern_matches_value (const char *pattern, ef_span_t value) {
    ef_cursor_t cursor = ef_cursor (value.data, value.size);
    ef_span_t text;
    uint64_t natural;
    int64_t number;
    char digits[24];
    int size;
    if (ef_get_str (&cursor, &text) == 0) {
        return ef_pattern_matches (pattern, text.data, text.size);
    }
    if (ef_get_uint (&cursor, &natural) == 0) {
        size = snprintf (digits, sizeof digits, "%" PRIu64, natural);
    } else if (ef_get_int (&cursor, &number) == 0) {
        size = snprintf (digits, sizeof digits, "%" PRId64, number);
    } else {
        return false;
    }
    return ef_pattern_matches (pattern, digits, (size_t)size);
}
