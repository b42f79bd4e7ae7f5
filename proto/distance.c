/* Edit distance of names. SPDX-License-Identifier: MIT */
#include "distance.h"

#include <limits.h>

unsigned
ef_distance (const char *a, size_t a_size, const char *b, size_t b_size) {
    unsigned row[EF_DISTANCE_MAX + 1];
    if (a_size > EF_DISTANCE_MAX || b_size > EF_DISTANCE_MAX) {
        return UINT_MAX;
    }
    for (size_t j = 0; j <= b_size; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 0; i < a_size; i++) {
        unsigned corner = row[0];
        row[0] = (unsigned)i + 1;
        for (size_t j = 0; j < b_size; j++) {
            unsigned change = corner + (a[i] != b[j]);
            unsigned shorter = (row[j] < row[j + 1] ? row[j] : row[j + 1]) + 1;
            corner = row[j + 1];
            row[j + 1] = change < shorter ? change : shorter;
        }
    }
    return row[b_size];
}
