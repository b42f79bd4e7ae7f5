/* A command for events: its options, and what the ways share. SPDX-License-Identifier: MIT
   MIT

   A way is how events meet commands: a command for each (oneshot.c), or children that take many
   (persistent.c), in turn or as batches. exec.c is the handler, which picks one of them. */
#ifndef EF_EXEC_H
#define EF_EXEC_H

#include "../handler.h"
#include "output.h"
#include "plan.h"
#include "../runtime.h"

#include <sys/types.h>

typedef enum { FORMAT_JSON, FORMAT_MSGPACK } exec_format_t;

typedef struct {
    plan_options_t plan;
    bool is_whole;       /* the event's JSON form in place of its payload */
    bool keeps_result;   /* what it prints is kept with the event */
    bool emits;          /* what it prints is events */
    bool is_persistent;  /* children take many events each, and answer on standard output */
    uint32_t format;     /* of a persistent child, exec_format_t */
    uint32_t children;   /* at a time, 0: as many as events, or batches, in hand */
    uint32_t per_child;  /* events in hand of one of them, 0: an equal share */
    uint32_t max_events; /* of one child in its life, 0: no end */
    uint32_t batch;      /* events that share a command, 0: a command for each */
    bool has_answers;    /* a batch is answered on standard output, event by event */
} exec_options_t;

#define EXEC_CHILDREN_MAX 1000 /* processes of one worker: some 100 KB of the kernel's each */

typedef struct {
    const exec_options_t *options; /* borrowed, as the next two */
    runtime_t *runtime;
    const plan_t *plan;
    int epoll; /* that watches all children */
} exec_way_t;

/* Why a delivery that was just handed in isn't worked on; the result to return. */
eventflow_result_t exec_explain_unreadable (const exec_way_t *way);
eventflow_result_t exec_explain_spawn (const exec_way_t *way, int error); /* -errno */

typedef struct oneshot_s oneshot_t;
oneshot_t *oneshot_new (const exec_way_t *way);
void oneshot_destroy (oneshot_t **self_p); /* ends what still runs */
eventflow_result_t oneshot_handle (oneshot_t *self, const eventflow_delivery_t *delivery);
void oneshot_stop (oneshot_t *self, uint64_t tag, stop_reason_t reason);
void oneshot_lower (const oneshot_t *self, int *timeout_ms); /* to when something is to be done */
void oneshot_step (oneshot_t *self);
size_t oneshot_children (const oneshot_t *self, pid_t *pids, size_t most); /* that run */

typedef struct persistent_s persistent_t;
persistent_t *persistent_new (const exec_way_t *way, char error[512]); /* NULL: why */
void persistent_destroy (persistent_t **self_p);                       /* as above */
eventflow_result_t persistent_handle (persistent_t *self, const eventflow_delivery_t *delivery);
void persistent_stop (persistent_t *self, uint64_t tag, stop_reason_t reason);
void persistent_lower (const persistent_t *self, int *timeout_ms);
void persistent_step (persistent_t *self);
size_t persistent_children (const persistent_t *self, pid_t *pids, size_t most);
void persistent_flush (persistent_t *self);
void persistent_probe (persistent_t *self);

#endif
