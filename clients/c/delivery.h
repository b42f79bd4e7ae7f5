/* Reading a delivery: [tag, attempt, event] or with info. SPDX-License-Identifier: MIT */
#ifndef EF_DELIVERY_H
#define EF_DELIVERY_H

#include "../../proto/cursor.h"
#include "eventflow.h"

/* Reads the next delivery; spans are borrowed from the input. 0, or -1: it can't be read. */
EF_MUST_USE int ef_delivery_read (ef_cursor_t *cursor, eventflow_delivery_t *delivery);

/* Reads the next item of a tags array: a tag, or a pair. 0, or -1. */
EF_MUST_USE int ef_tags_read (ef_cursor_t *cursor, uint64_t *first, uint64_t *last);

/* The first item of ACKED's `refused`, from the map at the cursor. False: there is none. */
bool ef_refused_read (ef_cursor_t *cursor, char code[32], char text[256]);

#endif
