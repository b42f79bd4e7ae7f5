/* How far two names are apart, for "did you mean". SPDX-License-Identifier: MIT */
#ifndef EF_DISTANCE_H
#define EF_DISTANCE_H

#include <stddef.h>

#define EF_DISTANCE_MAX 64 /* bytes of a name; longer ones are no misspelt names */

/* Edit distance (Levenshtein, 1966): how many bytes must be put in, taken out or changed. UINT_MAX
   where one of the two is longer than EF_DISTANCE_MAX. */
unsigned ef_distance (const char *a, size_t a_size, const char *b, size_t b_size);

#endif
