/* What the parts of `eventflow topic` share. SPDX-License-Identifier: MIT */
#ifndef EF_CLI_TOPIC_H
#define EF_CLI_TOPIC_H

#include "cli.h"

typedef struct {
    cli_t *cli;
    const char *name;
    const char *limit;
    const char *after;
    const char *state; /* keys in this state only, NULL: all */
} topic_t;

/* The verbs that show what a topic's gates do. */
int topic_info (topic_t *self);
int topic_keys (topic_t *self);
int topic_breaker (topic_t *self);

/* Prints a topic's settings as the configuration would say them, behind the line `head`. */
int topic_print_settings (cli_t *cli, const char *name, const char *head);

#endif
