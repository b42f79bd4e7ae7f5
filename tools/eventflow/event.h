/* What the parts of `eventflow event` share. SPDX-License-Identifier: MIT */
#ifndef EF_CLI_EVENT_H
#define EF_CLI_EVENT_H

#include "cli.h"

/* An item of EVENT.SHOW or EVENTS as a line of JSON, its event in the events' own JSON form. */
void event_print_json (void *arg, ef_cursor_t item);

/* The same for people: a row of the table at `arg`, which has these columns, or all that is known
 * with the attempts. */
extern const char *const event_columns[7];
void event_print_row (void *arg, ef_cursor_t item);
void event_print_whole (void *arg, ef_cursor_t item);

/* "email#17", of an item. */
void event_name (ef_cursor_t item, char text[96]);

#endif
