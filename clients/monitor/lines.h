/* InfluxDB's line protocol. SPDX-License-Identifier: MIT

       measurement,tag=value,tag=value field=1i,field=0.5,field="text" 1700000000000

   Role: pure. In names and tags a comma, an equals sign, a space and a line's end are escaped, in
   texts a quote and a backslash; a tag whose value is empty is left out, since the protocol has
   none. A line without fields is taken back. */
#ifndef EF_MONITOR_LINES_H
#define EF_MONITOR_LINES_H

#include "../../proto/buf.h"

typedef struct {
    ef_buf_t *out; /* borrowed */
    size_t start;  /* of the line under way */
    uint32_t fields;
} lines_t;

void lines_begin (lines_t *self, ef_buf_t *out, const char *measurement);
void lines_tag (lines_t *self, const char *name, const char *value); /* before the fields */
void lines_whole (lines_t *self, const char *name, uint64_t value);
void lines_real (lines_t *self, const char *name, double value); /* NAN and infinities: left out */
void lines_text (lines_t *self, const char *name, const char *value);
void lines_bool (lines_t *self, const char *name, bool value);
void lines_end (lines_t *self, uint64_t time_ms);

#endif
