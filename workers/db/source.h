/* Where a column's values come from. SPDX-License-Identifier: MIT */
#ifndef EF_DB_SOURCE_H
#define EF_DB_SOURCE_H

#include "map.h"

/* The names that a path may begin with, for people. */
extern const char db_source_names[];
/* Which one is called so, or -1. */
int db_source_find (const char *name, size_t size);
/* Whether it is looked into. */
bool db_source_has_paths (uint32_t source);

/* UTF-8 without NUL bytes, which is what both databases keep as text. */
bool db_is_text (ef_span_t bytes);
/* Appends a name as text, one that can't be text as \x and hexadecimal digits. */
db_span_t db_put_text (ef_buf_t *arena, ef_span_t name);

#endif
