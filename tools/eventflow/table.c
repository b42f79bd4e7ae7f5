/* Tables for people: each column as wide as what stands in it. SPDX-License-Identifier: MIT */
#include "cli.h"

#define ROWS_MAX 1000u /* of one measure: a long list doesn't wait for its end */

void
cli_clean (char *text) {
    for (; *text; text++) {
        *text = (unsigned char)*text < ' ' || *text == 0x7f ? '?' : *text;
    }
}

/* Characters, not bytes. */
static int
s_width (const char *text) {
    int width = 0;
    for (; *text; text++) {
        width += ((unsigned char)*text & 0xc0) != 0x80;
    }
    return width;
}

static bool
s_is_right (const char *title) {
    return title[0] == '>';
}

static const char *
s_title (const cli_table_t *self, unsigned column) {
    return self->titles[column] + s_is_right (self->titles[column]);
}

static void
s_print_cell (const cli_table_t *self, unsigned column, const char *text, const int *widths) {
    int gap = widths[column] - s_width (text);
    bool is_last = column + 1 == self->columns;
    bool is_right = s_is_right (self->titles[column]);
    printf ("%*s%s%*s%s", is_right ? gap : 0, "", text, is_right || is_last ? 0 : gap, "",
            is_last ? "\n" : "  ");
}

/* Prints what has come since the last time. */
static void
s_print (cli_table_t *self) {
    int widths[CLI_COLUMNS_MAX] = {0};
    const char *at = self->cells.size ? (const char *)self->cells.data : "";
    for (unsigned i = 0; i < self->columns && !self->has_head; i++) {
        widths[i] = s_width (s_title (self, i));
    }
    for (unsigned i = 0; i < self->count; i++, at += strlen (at) + 1) {
        int width = s_width (at);
        unsigned column = i % self->columns;
        widths[column] = width > widths[column] ? width : widths[column];
    }
    for (unsigned i = 0; i < self->columns && !self->has_head; i++) {
        printf ("%s", i == 0 ? self->indent : "");
        s_print_cell (self, i, s_title (self, i), widths);
    }
    self->has_head = true;
    at = self->cells.size ? (const char *)self->cells.data : "";
    for (unsigned i = 0; i < self->count; i++, at += strlen (at) + 1) {
        printf ("%s", i % self->columns == 0 ? self->indent : "");
        s_print_cell (self, i % self->columns, at, widths);
    }
    self->count = 0;
    ef_buf_clear (&self->cells);
}

void
cli_cell (cli_table_t *self, const char *text) {
    if (self->count == ROWS_MAX * self->columns) {
        s_print (self);
    }
    size_t start = self->cells.size;
    ef_buf_put (&self->cells, text[0] ? text : "-", text[0] ? strlen (text) + 1 : 2);
    cli_clean ((char *)self->cells.data + start);
    self->count++;
}

void
cli_cell_number (cli_table_t *self, uint64_t number) {
    char text[24];
    snprintf (text, sizeof text, "%llu", (unsigned long long)number);
    cli_cell (self, text);
}

void
cli_cell_date (cli_table_t *self, uint64_t unix_ms) {
    char text[64] = "";
    if (unix_ms) {
        cli_date (unix_ms, text);
    }
    cli_cell (self, text);
}

void
cli_cell_age (cli_table_t *self, uint64_t unix_ms) {
    char span[24];
    char text[32] = "";
    uint64_t now = ef_wall_ms ();
    if (unix_ms) {
        cli_span (unix_ms > now ? unix_ms - now : now - unix_ms, span);
        snprintf (text, sizeof text, unix_ms > now ? "in %s" : "%s ago", span);
    }
    cli_cell (self, text);
}

void
cli_table_end (cli_table_t *self, bool is_good) {
    if (is_good || self->count > 0) {
        s_print (self);
    }
    ef_buf_free (&self->cells);
}
