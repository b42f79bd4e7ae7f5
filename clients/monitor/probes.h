/* Is the broker there, is the gateway? SPDX-License-Identifier: MIT

   Role: two threads that ask, since each may have to wait: the broker by STATUS and TOPIC.INFO
   (breakers), the gateway by GET /health/live. Owns: both threads and the last answers. Talks to:
   the collector, which reads the answers and says when there is reason to ask at once. On failure:
   an answer that doesn't come within a second is none. */
#ifndef EF_MONITOR_PROBES_H
#define EF_MONITOR_PROBES_H

#include "../../proto/assert.h"
#include "../../proto/buf.h"

typedef enum { PROBE_UNKNOWN, PROBE_UP, PROBE_RECOVERING, PROBE_DOWN } probe_state_t;

typedef struct {
    probe_state_t state;
    uint64_t asked_ms;   /* when the last question was asked that has been answered, or not; mono */
    uint64_t failing_ms; /* since when none was answered; 0: the last one was */
    double took_ms;      /* of the last answer */
    char detail[200];    /* why not; what it said */
} probe_t;

typedef struct probes_s probes_t;

typedef struct {
    const char *admin;   /* endpoint */
    const char *gateway; /* URL; "": none */
    uint64_t every_ms;
    /* The breakers of a topic, a list as TOPIC.INFO has it; from the broker's thread. */
    void (*breakers) (void *arg, const char *topic, const void *list, size_t size);
    void *arg;
} probes_options_t;

probes_t *probes_new (const probes_options_t *options, char error[512]);
void probes_destroy (probes_t **self_p);

/* Ask the broker now, once for each time that this is called while nothing is under way. */
void probes_ask (probes_t *self);
/* Which breakers of this topic are open is to be known. */
void probes_ask_topic (probes_t *self, const char *topic);
void probes_read (probes_t *self, probe_t *broker, probe_t *gateway);
const char *probe_state_name (probe_state_t state);

#endif
