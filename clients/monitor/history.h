/* The monitor's history: what was, over time, also after a restart. SPDX-License-Identifier: MIT

   Role: takes samples from one thread (memory alone, never the disk), writes them from a thread of
   its own in one transaction every 15 s (coarser tiers: every two points), answers questions from
   many. Owns: lines (the series of a topic or of the broker), the file, what waits to be written.
   Talks to: store.h. Invariants: what was added is found at once, whether it is in memory, waiting
   or in the file. A crash costs the last 15 s, and two points of a coarser tier; an end costs none.
   On failure: while the file can't be written the newest stays in memory, bounded; it is logged. */
#ifndef EF_MONITOR_HISTORY_H
#define EF_MONITOR_HISTORY_H

#include "series.h"
#include "store.h"

typedef struct history_s history_t;
typedef struct history_line_s history_line_t;

/* `topics` that are kept apart at the most. NULL: `error` says why. */
history_t *history_new (const char *path, uint64_t bytes, uint32_t topics, char error[512]);
/* Writes what is open. */
void history_destroy (history_t **self_p);

/* What the sampling thread says. A line is the history's; NULL: there are as many as may be. Where
   the file has the blocks that are under way they go on. `name` "" is the broker. */
history_line_t *history_line (history_t *self, const char *name, const series_set_t *set);
void history_add (history_t *self, history_line_t *line, uint64_t now_s, double span_ms,
                  const double *values);
/* The topic is gone; its line is not used again. */
void history_forget (history_t *self, history_line_t **line_p);

/* Alerts: what is to be kept, in order. */
typedef enum { HISTORY_PUT, HISTORY_END, HISTORY_DROP } history_act_t;
void history_alert (history_t *self, history_act_t act, const store_alert_t *alert,
                    uint64_t now_ms);
void history_alerts (history_t *self, void (*each) (void *arg, const store_alert_t *alert),
                     void *arg);
void history_ended (history_t *self, uint32_t limit,
                    void (*each) (void *arg, const store_alert_t *alert), void *arg);

#define HISTORY_POINTS_MAX 2000 /* of an answer's series */

typedef struct {
    const char *topic; /* "": the broker */
    const series_set_t *set;
    uint32_t columns[SERIES_MAX];
    uint32_t column_count;
    uint64_t from_s;
    uint64_t to_s;
    uint32_t step_s; /* wished for; 0: about 300 points */
    uint64_t now_s;
} history_query_t;

typedef struct {
    uint32_t step_s;
    uint64_t from_s; /* a multiple of the step */
    uint32_t points;
    double *values; /* owned; of column × points, NAN: not known; counts are per second */
} history_answer_t;

/* 0; -1: the range is empty. Blocks on the file. */
EF_MUST_USE int history_query (history_t *self, const history_query_t *query,
                               history_answer_t *answer);
void history_answer_free (history_answer_t *self);

/* The tier and the step for a range (pure). */
uint32_t history_choose (const history_query_t *query, uint32_t *step_s);

typedef struct {
    uint32_t lines;
    uint64_t file_bytes;
    uint64_t blocks_written;
    uint64_t blocks_lost; /* because the file couldn't be written for long */
    uint64_t waiting;     /* to be written */
    bool is_failing;
} history_numbers_t;
void history_numbers (history_t *self, history_numbers_t *numbers);

#endif
