/* What the command groups of the tool share. SPDX-License-Identifier: MIT */
#ifndef EF_CLI_H
#define EF_CLI_H

#include "../../clients/c/eventflow.h"
#include "../../proto/json.h"

#include <stdio.h>

/* Exit codes. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1,
    CLI_USAGE = 2,
    CLI_NOT_FOUND = 3,
    CLI_REFUSED = 4,
    CLI_UNREACHABLE = 5,
    CLI_LIMIT = 6,
    CLI_DAMAGED = 8
};

/* A command's flags: name, whether it takes a value, where that goes. */
typedef struct {
    const char *name;   /* without "--" */
    const char **value; /* NULL: a switch */
    bool *is_set;
} cli_flag_t;

typedef struct {
    const char *front;
    const char *ingress;
    const char *back;
    const char *admin;
    int timeout_ms;
    bool json;
    bool yes;
    bool dry_run;
    int argc; /* what is left: the command's words */
    char **argv;
} cli_t;

/* Reads the flags of a command and the common ones; words stay in order. 0, or CLI_USAGE with a
 * message. */
int cli_flags (cli_t *self, const cli_flag_t *flags, size_t count);

/* Prints "eventflow: …" to standard error and returns the code. */
int cli_fail (int code, const char *format, ...) EF_PRINTF (2, 3);

/* Names stand in one string, a space between two. Refusing a word proposes the nearest. */
bool cli_is_among (const char *word, const char *names);
bool cli_is_near (const char *word, const char *names);
int cli_unknown (const char *what, const char *word, const char *names);

/* Durations and rates in the forms of the configuration; -1: wrong. */
int64_t cli_duration_ms (const char *text);
double cli_rate (const char *text);
/* A whole number; CLI_USAGE with a message where it is none. */
int cli_count (const char *what, const char *text, uint64_t *number);
/* A date in RFC 3339, or a duration from now on (sign 1) or back (-1). */
int cli_moment (const char *what, const char *text, int sign, int64_t *unix_ms);
/* For people: "3 m"; "14:05:10 (in 3 m)" in local time, with the day where it isn't today. */
void cli_span (uint64_t ms, char text[24]);
void cli_date (uint64_t unix_ms, char text[64]);
/* The ending of a word that is counted. */
const char *cli_s (uint64_t count);
/* What somebody else wrote does nothing to a terminal: control characters become question marks. */
void cli_clean (char *text);

/* A table: cells from left to right, row after row; a title that begins with ">" has its column
 * stand at the right. */
#define CLI_COLUMNS_MAX 14
typedef struct {
    const char *const *titles;
    unsigned columns;
    const char *indent;
    ef_buf_t cells; /* not yet printed, each with its nul */
    unsigned count; /* of them */
    bool has_head;  /* printed */
} cli_table_t;
#define CLI_TABLE(titles, indent)                                                                  \
    { titles, sizeof (titles) / sizeof (titles)[0], indent, {0}, 0, false }
void cli_cell (cli_table_t *self, const char *text); /* empty: "-" */
void cli_cell_number (cli_table_t *self, uint64_t number);
void cli_cell_date (cli_table_t *self, uint64_t unix_ms); /* 0: "-" */
void cli_cell_age (cli_table_t *self, uint64_t unix_ms);
/* Prints it. Without a row there is only its head, and not even that where something failed. */
void cli_table_end (cli_table_t *self, bool is_good);

/* One request to the broker's admin. CLI_OK: `*value` is to be freed. `what`: named in messages. */
int cli_call (cli_t *self, const ef_buf_t *request, ef_buf_t *value);
int cli_call_about (cli_t *self, const char *what, const ef_buf_t *request, ef_buf_t *value);
/* Is it an error that says: too much, too fast, too large? */
bool cli_is_limit (const char *code);
/* Begins a request: the command, a topic where it isn't NULL, and room for `more` arguments. */
void cli_request (ef_buf_t *request, const char *command, const char *topic, uint32_t more);
/* Sends a command without further arguments and prints the value as JSON, or `done` for people. */
int cli_simple (cli_t *self, const char *command, const char *topic, const char *done);

/* A list that comes in pages: asks until `limit` items or the end, and tells where to go on. */
#define CLI_PAGE 1000u /* items of one answer */
typedef struct {
    const char *command;
    const char *topic; /* NULL: the command has none */
    ef_buf_t options;  /* pairs; the caller frees it */
    uint32_t pairs;
    uint64_t limit;
    const char *after; /* a cursor as JSON, or NULL */
    void (*each) (void *arg, ef_cursor_t item);
    void *arg;
    uint64_t count; /* of items seen */
} cli_pages_t;
int cli_pages (cli_t *self, cli_pages_t *pages);

/* Prints a MessagePack value as one line of JSON. */
void cli_print_json (const ef_buf_t *value);
void cli_print_span (ef_span_t span);
/* Prints a map's pairs, a line each. */
void cli_print_pairs (ef_cursor_t map, const char *indent);

/* Looking into an answer. */
ef_cursor_t cli_root (const ef_buf_t *value);
/* A str as it is, anything else as JSON, nil as nothing. */
void cli_value_text (ef_cursor_t value, char *text, size_t size);
/* Calls `each` for every item of the array at a key, bounded to it; returns how many. */
uint32_t cli_each (ef_cursor_t map, const char *key, void (*each) (void *arg, ef_cursor_t item),
                   void *arg);
void cli_json_item (void *arg, ef_cursor_t item); /* an `each` that prints JSON */

/* Command groups; each gets the words behind its own name. */
int cli_publish (cli_t *self);
int cli_consume (cli_t *self);
int cli_status (cli_t *self);
int cli_topic (cli_t *self);
int cli_worker (cli_t *self);
int cli_pool (cli_t *self);
int cli_dlq (cli_t *self);
int cli_event (cli_t *self);
int cli_server (cli_t *self);
int cli_config (cli_t *self);
int cli_bench (cli_t *self);
int cli_stress (cli_t *self);
int cli_journal (cli_t *self);

#endif
