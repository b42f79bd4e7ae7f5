/* Shell patterns of the settings. Pure. SPDX-License-Identifier: MIT

   `*` stands for any run of bytes, none included, `?` for any one byte, all else for itself; case
   counts, and there is no way to write a literal `*` or `?`. Only the last `*` is ever tried again
   (R. Salz, wildmat, 1986, cut to what is asked for), so a match takes at most pattern × text steps
   and, where no `*` is followed by what nearly fits, one pass. */
#ifndef EF_PATTERN_H
#define EF_PATTERN_H

#include "../../proto/cursor.h"

/* Whether the whole of `text` fits: any bytes, no NUL at its end; both are borrowed. */
bool ef_pattern_matches (const char *pattern, const char *text, size_t size);

/* The same of a value as it stands on the wire (raw MessagePack): a str by its bytes, an int by its
   decimal text. Anything else, and no value at all, fits no pattern, not even `*`. */
bool ef_pattern_matches_value (const char *pattern, ef_span_t value);

#endif
