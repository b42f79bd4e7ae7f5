/* What a handler is. SPDX-License-Identifier: MIT

   A handler does the work of events: email, api, db, exec. The runtime calls it from one thread and
   does all that is the same for each of them (runtime.h). A handler never blocks. */
#ifndef EF_HANDLER_H
#define EF_HANDLER_H

#include "../broker/base/settings.h"
#include "../clients/c/eventflow.h"

#include <poll.h>

typedef struct runtime_s runtime_t;

typedef enum {
    STOP_TIMEOUT,   /* its time is over */
    STOP_CANCELLED, /* nobody wants its result */
    STOP_RELEASE    /* the process is to end at once */
} stop_reason_t;

typedef struct {
    const char *name;    /* the word on the command line; its section of the file: worker/NAME */
    const char *summary; /* one line */
    const char *help;    /* what it does with an event; what its errors are; examples */
    const settings_t *settings; /* rows of its options */
    size_t options_bytes;
    uint32_t concurrency;             /* unless something else is said; 0: 5 */
    void (*defaults) (void *options); /* before anything is read; NULL: zeros */
    /* The words behind `--`; NULL: it takes none. They live as long as the process. */
    int (*words) (void *options, char *const *words, char error[512]);
    int (*check) (const void *options,
                  char error[512]); /* NULL: nothing to check; -1: it can't work */
    /* `options` are borrowed for its life. NULL: `error` says why. */
    void *(*create) (const void *options, runtime_t *runtime, char error[512]);
    void (*destroy) (void **self_p);
    /* What became of an event, with runtime_explain, or EVENTFLOW_LATER and runtime_answer. What
       `delivery` points to is good for this call alone. */
    eventflow_result_t (*handle) (void *self, const eventflow_delivery_t *delivery);
    /* Work on this event, put off before, is to end: stop it and answer it as runtime_stop_words
       says, soon, or with what it has come to. STOP_RELEASE is answered by the runtime. */
    void (*stop) (void *self, uint64_t tag, stop_reason_t reason);
    /* Appends what is to be polled, returns how many; lowers `*timeout_ms` to the next deadline. */
    nfds_t (*polls) (void *self, struct pollfd *items, nfds_t most, int *timeout_ms);
    void (*step) (void *self);  /* moves everything on; answers */
    void (*flush) (void *self); /* what came in this turn has been handed in; NULL: not wanted */
    /* Begins a probe of what it works with; ends it with runtime_healthy or runtime_unhealthy.
       NULL: it is always well. */
    void (*probe) (void *self);
} handler_t;

extern const handler_t handler_api;
extern const handler_t handler_email;
extern const handler_t handler_exec;

#endif
