/* A worker's settings, from where they are said. SPDX-License-Identifier: MIT

   In ascending order: defaults, what the broker says by EVENTFLOW_CREDIT (it counts wherever a
   concurrency of 0 leaves it open) and EVENTFLOW_DOWNSTREAM, the file ($EVENTFLOW_CONFIG or
   --config: sections worker/defaults and worker/NAME), the environment (EVENTFLOW_WORKER_KEY,
   EVENTFLOW_NAME_KEY), flags (--key value). */
#ifndef EF_OPTIONS_H
#define EF_OPTIONS_H

#include "runtime.h"

typedef struct {
    const handler_t *handler; /* borrowed */
    runtime_options_t common;
    void *own;     /* owned; the handler's */
    bool is_check; /* only says whether it would do */
} options_t;

/* `words` are those behind the handler's name. 0; -1: `error` says why; 1: help was printed. */
int options_read (options_t *self, const handler_t *handler, char *const *words, char error[512]);
void options_free (options_t *self);

#endif
