/* A broker's numbers as Prometheus reads them. SPDX-License-Identifier: MIT

   The text format, version 0.0.4. Names begin with eventflow_ (detailed: eventflow_detailed_, so
   that who scrapes both adds nothing twice); times are seconds, sizes bytes. Labels are topic,
   state, reason and kind alone, and their number is bounded: past `topics_max` topics the others
   are one, `_other`. Shared by monitor and gateway. */
#ifndef EF_WEB_PROMETHEUS_H
#define EF_WEB_PROMETHEUS_H

#include "numbers.h"

#define PROMETHEUS_TYPE "text/plain; version=0.0.4; charset=utf-8"

typedef struct {
    const numbers_t *numbers; /* borrowed */
    bool is_up;               /* the broker answers; else nothing is told but that */
    uint32_t topics_max;      /* with a label of their own, by name */
} prometheus_t;

/* Everything, cheaply: numbers per topic, histograms of all topics together. */
void prometheus_put (ef_buf_t *out, const prometheus_t *self);

/* One topic in all detail, or those of a pattern (* and ? as in a shell): histograms, breakers.
   Returns how many topics that were. */
uint32_t prometheus_put_detailed (ef_buf_t *out, const prometheus_t *self,
                                  const char *const *patterns, uint32_t count);

/* Of the calling process: process_cpu_seconds_total, … */
void prometheus_put_process (ef_buf_t *out);

/* Pieces for what else a program has to tell. `labels` as `topic="a"`, NULL: none. */
void prometheus_head (ef_buf_t *out, const char *name, const char *type, const char *help);
void prometheus_value (ef_buf_t *out, const char *name, const char *labels, double value);
/* A label's value, escaped: name="…", with a comma before it where `out` isn't empty. */
void prometheus_label (ef_buf_t *out, const char *name, const char *value);

#endif
