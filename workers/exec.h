/* A command per event. SPDX-License-Identifier: MIT

   Role: runs up to `concurrency` commands at a time, each with an event on its standard input, and
   turns their ends into answers: 0 done, 75 retry, 65 dead, anything else retry with the code and
   the end of standard error. Owns: the children. One thread: the loop of main.c calls it. */
#ifndef EF_EXEC_H
#define EF_EXEC_H

#include "output.h"

#include <poll.h>

typedef struct exec_s exec_t;

typedef struct {
    char *const *command; /* argv, NULL at the end; borrowed */
    uint32_t concurrency;
    uint32_t timeout_ms; /* of one event, 0: its lease */
    bool is_whole;       /* the event's JSON form in place of its payload */
    output_kind_t output;
    const char *downstream; /* the service that the command works with, NULL: the event says it */
} exec_options_t;

/* The short life between our own program and the command: killed when the worker is. */
_Noreturn void exec_launch (const char *parent, char *const *command);

exec_t *exec_new (const exec_options_t *options);
void exec_destroy (exec_t **self_p); /* kills what still runs */
void exec_set_worker (exec_t *self, eventflow_worker_t *worker);

/* The worker's handler and callbacks. */
eventflow_result_t exec_handle (void *arg, const eventflow_delivery_t *delivery);
void exec_cancel (void *arg, uint64_t tag, const char *reason);
void exec_expiring (void *arg, uint64_t tag, uint32_t left_ms);

/* Appends what is to be polled; returns how many. `*timeout_ms` is lowered to the next deadline. */
nfds_t exec_polls (exec_t *self, struct pollfd *items, nfds_t most, int *timeout_ms);
/* Moves bytes, reaps children, judges deadlines, answers. */
void exec_step (exec_t *self);
uint32_t exec_running (const exec_t *self);
/* Tells every child to end. */
void exec_terminate (exec_t *self, int signal_number);

#endif
