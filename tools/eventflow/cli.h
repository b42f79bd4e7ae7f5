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

/* Durations and sizes in the forms of the configuration; -1: wrong. */
int64_t cli_duration_ms (const char *text);
double cli_rate (const char *text);
/* A whole number; CLI_USAGE with a message where it is none. */
int cli_count (const char *what, const char *text, uint64_t *number);

/* One request to the broker's admin. CLI_OK: `*value` is to be freed with free (). */
int cli_call (cli_t *self, const ef_buf_t *request, ef_buf_t *value);

/* Prints a MessagePack value as one line of JSON. */
void cli_print_json (const ef_buf_t *value);
void cli_print_span (ef_span_t span);

/* The value of a key in the map at the cursor; false: it isn't there. */
bool cli_find (ef_cursor_t map, const char *key, ef_cursor_t *value);
uint64_t cli_number (ef_cursor_t map, const char *key);
void cli_text (ef_cursor_t map, const char *key, char *text, size_t size);

/* Command groups; each gets the words behind its own name. */
int cli_publish (cli_t *self);
int cli_consume (cli_t *self);
int cli_status (cli_t *self);
int cli_topic (cli_t *self);
int cli_worker (cli_t *self);
int cli_dlq (cli_t *self);
int cli_server (cli_t *self);
int cli_config (cli_t *self);
int cli_bench (cli_t *self);
int cli_journal (cli_t *self);

#endif
