/* How a command is to be started. SPDX-License-Identifier: MIT

   Role: turns options (directory, user, limits, environment) into the launcher's words and the
   command's environment, once, so that nothing is looked up for each event. Owns: both lists. */
#ifndef EF_PLAN_H
#define EF_PLAN_H

#include "../../broker/base/settings.h"

#define PLAN_VARIABLES_MAX 64
#define PLAN_WORDS         6 /* that the launcher may be told */

typedef struct {
    char *const *words;   /* the command, NULL at the end; NULL: `command` */
    char command[4000];   /* run by /bin/sh */
    char directory[1024]; /* empty: the worker's */
    char user[128];       /* NAME or NAME:GROUP; empty: the worker's */
    char variables[4096]; /* NAME=VALUE, each ended by a NUL */
    uint32_t variables_size;
    bool clears_environment; /* only `variables`, and what tells of the event */
    uint32_t cpu_ms;         /* of processor time, 0: no bound, as those below */
    uint64_t memory_bytes;   /* of address space of each process */
    uint32_t files;          /* open at a time */
    uint32_t nice;           /* added to the worker's own priority number */
} plan_options_t;

/* One more NAME=VALUE. */
extern const config_kind_t plan_variable;

typedef struct {
    char **arguments;   /* the launcher's words and the command's, owned as those below */
    char **environment; /* without what tells of the event */
    size_t variables;   /* in it */
    char launcher[1100];
    char parent[24];
    char words[PLAN_WORDS][1100]; /* of the launcher; the command's are borrowed from the options */
} plan_t;

/* `options` are borrowed. NULL: `error` says why. */
plan_t *plan_new (const plan_options_t *options, char error[512]);
void plan_destroy (plan_t **self_p);

/* The environment with `count` more variables, which come before those of the same name; NULL at
   the end. The array is the caller's to free, what it points to is borrowed. */
char **plan_environment (const plan_t *self, char *const *more, size_t count);

#endif
