/* What the numbers of two rounds come to: rates, quantiles, points for the history.
   SPDX-License-Identifier: MIT

   Role: pure but for the history that it hands points to. Owns: what each topic had a round ago
   (numbers_topic_t.extra). Invariants: a count that went back began anew; rounds that lie further
   apart than SAMPLES_GAP_MS give no rates. */
#ifndef EF_MONITOR_SAMPLES_H
#define EF_MONITOR_SAMPLES_H

#include "../web/numbers.h"
#include "history.h"

#define SAMPLES_GAP_MS 10000
#define SAMPLES_SLOTS  30 /* of the window in which deaths are counted */

extern const series_set_t samples_topic_set;
extern const series_set_t samples_broker_set;

typedef struct {
    double in_per_s;
    double done_per_s;
    double failed_per_s;
    double dead_per_s;
    double took_p50_ms; /* of those answered since the last round; NAN: none */
    double took_p99_ms;
    double waited_p50_ms;
    double waited_p99_ms;
} rates_t;

typedef struct {
    uint64_t accepted;
    uint64_t done;
    uint64_t failed;
    uint64_t died;
    uint64_t deliveries;
} counts_t;

/* A topic's numbers_topic_t.extra. */
typedef struct {
    bool is_known; /* a round has been */
    counts_t counts;
    numbers_histogram_t took;
    numbers_histogram_t waited;
    rates_t rates;
    uint32_t died_slots[SAMPLES_SLOTS];
    uint64_t died_slot;      /* number of the slot written last */
    uint64_t crashed_ms;     /* when a crash loop was last told of; 0: never */
    char crashed[160];       /* how */
    uint64_t named_breakers; /* that are open and were told by name */
    char open_breakers[200]; /* their names */
    char unwell[200];        /* why a worker isn't well */
    history_line_t *line;    /* NULL: none is kept */
} sample_t;

typedef struct {
    history_t *history; /* borrowed; NULL: none */
    history_line_t *line;
    uint64_t now_ms; /* of the last round */
    bool is_known;
    uint64_t cpu_ms;
    uint64_t refused;
    uint64_t ingress;
    uint64_t groups;
    numbers_histogram_t sync;
    numbers_histogram_t sync_window; /* some 10 s */
    numbers_histogram_t sync_base;
    uint64_t sync_base_ms;
    rates_t rates;      /* of all topics */
    double sync_p99_us; /* since the last round; NAN: none */
    uint64_t slot_ms;   /* length of a slot of died_slots */
} samples_t;

void samples_init (samples_t *self, history_t *history, uint64_t dead_window_ms);
/* A round is complete. */
void samples_take (samples_t *self, numbers_t *numbers, uint64_t now_ms, uint64_t wall_ms);
/* For numbers_t.forget. */
void samples_forget (void *self, numbers_topic_t *topic);
/* Of a topic; made where there is none. */
sample_t *samples_of (numbers_topic_t *topic);
/* Events that died within the window. */
uint64_t samples_died (const sample_t *self);

#endif
