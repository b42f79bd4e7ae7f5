/* What the parts of eventflow stress share. SPDX-License-Identifier: MIT

   Role: puts a load on a system that runs and accounts for each event of it. A sender (front or
   HTTP) sends number n when it is due, whatever became of those before, and tells its outcome; then
   the broker's own list of events says what each has come to, whoever else publishes meanwhile.
   Invariants: an event has one outcome and one fate; sent = confirmed + refused + unknown;
   confirmed = done + dead + removed + waiting + gone. What is under the lock is written by the
   sender's and the watch's threads. */
#ifndef EF_STRESS_H
#define EF_STRESS_H

#include "cli.h"

#include <pthread.h>
#include <stdatomic.h>

#define STRESS_EVENTS_MAX      10000000u /* of one run: a byte of memory each, and all are listed */
#define STRESS_TYPES_MAX       16u
#define STRESS_CODES_MAX       16u /* kinds of refusals; the last one stands for the rest */
#define STRESS_CONNECTIONS_MAX 1024u
#define STRESS_SIZE_MAX        900000u /* of a payload: below max_event, also as JSON */
#define STRESS_PREFIX          24u     /* "stress-", 12 digits, "-" */
#define STRESS_BUCKETS         1200u
#define STRESS_SAMPLES         64u /* followed at a time */

/* Times in µs: 32 buckets for each doubling, so that a quantile is right to 3 %. */
typedef struct {
    uint64_t below[STRESS_BUCKETS];
    uint64_t count;
    uint64_t most;
} stress_times_t;

typedef enum { OUTCOME_NONE, OUTCOME_CONFIRMED, OUTCOME_REFUSED, OUTCOME_UNKNOWN } outcome_t;

/* The one that is further down stands for an event that several topics have. */
typedef enum { FATE_NONE, FATE_DONE, FATE_REMOVED, FATE_DEAD, FATE_WAITING, FATES } fate_t;

/* An event of ours. */
typedef struct {
    uint8_t outcome : 4;
    uint8_t fate : 4;
} stress_event_t;

/* A topic's totals; or, in `own`, how many of ours are listed. */
typedef struct {
    char topic[64];
    uint64_t accepted;
    uint64_t done;
    uint64_t dead;
    uint64_t removed; /* purged, cancelled, dead letters taken away */
    uint64_t waiting; /* ready, leased, scheduled, retrying, parked */
    uint64_t own;
    uint64_t own_ended; /* of them: neither waiting nor lost */
} stress_topic_t;

typedef struct {
    stress_topic_t *items; /* owned */
    uint32_t count;
} stress_topics_t;

/* An event that is followed until it has ended. */
typedef struct {
    uint64_t n;
    uint64_t confirmed_us; /* 0: the place is free */
    uint64_t looked_us;    /* when it hadn't ended yet */
    uint64_t due_us;       /* of the next look */
} stress_sample_t;

typedef struct stress_s stress_t;

/* A way to send. One thread calls it. */
typedef struct {
    const char *name;
    int (*open) (stress_t *self);               /* a CLI_ code, with its message */
    bool (*send) (stress_t *self, uint64_t n);  /* false: no room now, to be tried again */
    void (*step) (stress_t *self, int wait_ms); /* lets time pass, looks for outcomes */
    void (*close) (stress_t *self);             /* no outcome is told any more */
} stress_sender_t;

struct stress_s {
    cli_t *cli;
    const stress_sender_t *sender;
    void *link; /* the sender's own */
    /* as it was asked for */
    const char *url;
    const char *topic; /* NULL: the broker's routes */
    const char *types[STRESS_TYPES_MAX];
    uint32_t type_count;
    double per_second;
    double fail_share;
    uint64_t for_ms;
    uint64_t drain_ms;
    uint64_t total; /* events that are due in that time */
    uint64_t size;
    uint64_t connections;
    ef_buf_t extra;      /* pairs of every payload */
    ef_buf_t fail_extra; /* of those that are to fail */
    uint32_t extra_pairs;
    uint32_t fail_extra_pairs;
    char prefix[STRESS_PREFIX];
    ef_buf_t payload; /* of the event that is being sent */
    /* what happened */
    uint64_t start_us;
    uint64_t start_wall_ms;
    uint64_t sent;
    uint64_t sending_us; /* how long */
    uint64_t drained_ms;
    bool is_cut_short;      /* by a signal, or nobody answers */
    stress_event_t *events; /* owned, by number */
    pthread_mutex_t lock;
    /* under the lock */
    uint64_t outcomes[OUTCOME_UNKNOWN + 1];
    uint64_t twice; /* outcomes of events that had one */
    struct {
        char code[32];
        uint64_t count;
    } codes[STRESS_CODES_MAX];
    uint32_t code_count;
    stress_times_t confirm;
    stress_topics_t now; /* as the watch has seen it last */
    stress_sample_t samples[STRESS_SAMPLES];
    uint64_t sample_due_us; /* when the next one may be taken */
    stress_times_t done_us; /* from confirmed to done, of the samples */
    /* the watch */
    pthread_t watch;
    atomic_bool is_watching;
    stress_topics_t before; /* before the first was sent */
    /* the account */
    eventflow_admin_t *admin;
    uint64_t since_ms; /* by the broker's clock, before the first was accepted; 0: not known yet */
    uint64_t fates[FATES];
    uint64_t asked;      /* confirmed events that were to fail */
    uint64_t asked_dead; /* and did */
    uint64_t asked_done; /* and didn't */
    uint64_t late;       /* unknown or refused ones that are there */
    uint64_t refused_there;
    uint64_t lost;       /* gone, and the totals leave no place for them */
    stress_topics_t own; /* what of ours is listed, by topic */
    stress_topics_t after;
};

/* ---- stress.c ---- */

/* How often a signal has asked to end. */
unsigned stress_stops (void);

/* ---- stress_event.c: what is sent, and its outcome ---- */

uint64_t stress_due_us (const stress_t *self, uint64_t n);
bool stress_is_to_fail (const stress_t *self, uint64_t n);
const char *stress_type (const stress_t *self, uint64_t n); /* NULL: none */
void stress_id (const stress_t *self, uint64_t n, char id[64]);
/* Fills self->payload: {"n", "fail", what was asked for…, "pad"}. */
void stress_payload (stress_t *self, uint64_t n);
/* From any thread; `code` of a refused one. */
void stress_decide (stress_t *self, uint64_t n, outcome_t outcome, const char *code);
/* What has no outcome by now has an unknown one. */
void stress_decide_rest (stress_t *self);

void stress_time (stress_times_t *times, uint64_t us);
/* 0 where there are none. */
uint64_t stress_quantile (const stress_times_t *times, double share);

/* ---- stress_front.c, stress_http.c ---- */

extern const stress_sender_t stress_front;
extern const stress_sender_t stress_http;

/* ---- stress_account.c: what the broker says became of them ---- */

/* Asks for the totals before the first is sent. A CLI_ code, with its message. */
int stress_account_begin (stress_t *self);
/* EVENTFLOW_OK: `topics` is full of them. */
int stress_ask_topics (const stress_t *self, eventflow_admin_t *admin, int timeout_ms,
                       stress_topics_t *topics);
/* EVENT.SHOW of one of ours; EVENTFLOW_OK also where there is none. */
typedef struct {
    eventflow_admin_t *admin;
    int timeout_ms;
    void (*each) (void *arg, ef_cursor_t item);
    void *arg;
} stress_show_t;
int stress_show (stress_t *self, uint64_t n, const stress_show_t *how);
fate_t stress_fate (ef_cursor_t item);
/* One of the differences since the beginning, over all topics of ours. With the lock held. */
typedef struct {
    uint64_t done;
    uint64_t dead;
    uint64_t waiting;
} stress_sums_t;
stress_sums_t stress_sums (const stress_t *self);
/* Waits until none of ours waits, `drain_ms` at the most, and accounts for each. CLI_OK or
   CLI_UNREACHABLE, with its message. */
int stress_account (stress_t *self);
/* How many events the topic has accepted since the beginning, whosever. */
uint64_t stress_accepted (const stress_t *self, const char *topic);
const stress_topic_t *stress_topic_find (const stress_topics_t *topics, const char *name);

/* ---- stress_watch.c: looks at the totals and at a sample of events, in a thread of its own ----
 */

int stress_watch_start (stress_t *self); /* a CLI_ code, with its message */
void stress_watch_stop (stress_t *self);
/* An event was confirmed: it may be one to follow. With the lock held. */
void stress_sample (stress_t *self, uint64_t n, uint64_t now_us);

/* ---- stress_report.c ---- */

/* Draws the live line where it is time. */
void stress_progress (stress_t *self, const char *phase);
void stress_progress_end (void);
/* Prints the summary. False: the numbers don't add up, and it was said why. */
bool stress_report (stress_t *self);

#endif
