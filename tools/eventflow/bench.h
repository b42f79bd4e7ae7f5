/* What the parts of eventflow bench share. SPDX-License-Identifier: MIT

   The bench is a parent that measures, and its children: a broker and up to two of this program's
   own roles. Every wait looks at all children: one that fails ends the bench. A child dies with its
   parent. */
#ifndef EF_BENCH_H
#define EF_BENCH_H

#include "cli.h"

#include <sys/types.h>

#define BENCH_LINE   256
#define BENCH_PATH   512
#define BENCH_TOPIC  "bench"
#define BENCH_CREDIT 8192 /* of the worker: events in hand */

enum { BENCH_BROKER, BENCH_SENDER, BENCH_RECEIVER, BENCH_CHILDREN };
enum { BENCH_INGRESS, BENCH_FRONT, BENCH_BACK, BENCH_ADMIN, BENCH_STATS, BENCH_ENDPOINTS };

/* A process of the bench's own. */
typedef struct {
    char role[16];
    pid_t pid;
    int watch;  /* pidfd, readable once it has ended */
    int output; /* pipe from its standard output; -1: none */
    char text[BENCH_LINE];
    size_t fill; /* bytes of text that are no line yet */
    bool is_running;
} bench_child_t;

typedef struct {
    cli_t *cli;
    uint64_t events;
    uint32_t size;
    uint32_t runs;
    uint32_t batch_events; /* of one message; 0: the publisher's default */
    uint64_t single;       /* events of the backlog's part one by one */
    uint32_t keys;         /* ordering keys of the events; 0: they have none */
    const char *dedupe;    /* the topic's window for ids; NULL: the default */
    bool checks;           /* a missed target is a failure */
    bool has_failed;       /* and it was said why */
    const char *endpoint;  /* a role's */
    char directory[BENCH_PATH];
    char endpoints[BENCH_ENDPOINTS][64]; /* of the broker */
    bench_child_t children[BENCH_CHILDREN];
} bench_t;

/* What a child is started with. */
typedef struct {
    const char *role;
    const char *endpoint; /* the broker: its configuration */
    uint64_t events;
    uint32_t batch_events;
} bench_start_t;

/* ---- bench_process.c: children and waits. 0, or -1 with the reason said ---- */

/* Says what is wrong, once; -1. */
int bench_fail (bench_t *self, const char *format, ...) EF_PRINTF (2, 3);
/* From now on SIGINT and SIGTERM end every wait. */
void bench_catch_signals (void);
/* Did one come? It was said then. */
bool bench_is_stopped (bench_t *self);
/* In a child: dies with the parent. False: that is gone already. */
bool bench_follow (const char *parent);
int bench_spawn (bench_t *self, unsigned child, const bench_start_t *start);
/* The next line that a child prints, without its end. */
int bench_line (bench_t *self, unsigned child, uint64_t timeout_ms, char line[BENCH_LINE]);
/* Waits until a child ends; only status 0 is good. */
int bench_join (bench_t *self, unsigned child, uint64_t timeout_ms);
/* Lets time pass, looking at the children. */
int bench_pause (bench_t *self, uint64_t ms);
/* The status with which it has exited; -1: it runs, or a signal ended it. */
int bench_exit_status (const bench_t *self, unsigned child);
void bench_kill (bench_t *self, unsigned child);
void bench_kill_all (bench_t *self);
/* How long work on so many events may take: half a minute, and 10,000 a second. */
uint64_t bench_patience_ms (uint64_t events);

/* ---- bench_broker.c: the broker of the bench's own ---- */

/* Makes a directory and starts a broker on it; other ports are tried where some are taken. */
int bench_broker_new (bench_t *self);
/* Starts it again on the same directory and ports. */
int bench_broker_start (bench_t *self);
/* SIGTERM; it must end with 0. */
int bench_broker_stop (bench_t *self);
/* Ends it, however, and removes its directory. */
void bench_broker_remove (bench_t *self);

/* What the broker says of itself and of the topic. */
typedef struct {
    bool is_recovering;
    bool tells_extents;
    uint64_t pid;
    uint64_t workers;
    uint64_t spares;
    uint64_t recovery_ms;
    uint64_t journal_bytes;
    uint64_t live_bytes;
    uint64_t cache_bytes;
    uint64_t ready;
    uint64_t done;
    uint64_t extents;
} bench_state_t;
/* 0; 1: no answer in time. */
int bench_broker_state (bench_t *self, int timeout_ms, bench_state_t *state);
/* Asks until `is_there` says so. */
int bench_broker_wait (bench_t *self, const char *what,
                       bool (*is_there) (const bench_state_t *state, uint64_t wanted),
                       uint64_t wanted, uint64_t timeout_ms, bench_state_t *state);

/* Memory in RAM now, the most since the last call of bench_broker_peak_clear, and what of it is no
   page of a file. 0 where the kernel doesn't tell. */
uint64_t bench_broker_rss (const bench_t *self);
uint64_t bench_broker_anonymous (const bench_t *self);
uint64_t bench_broker_peak (const bench_t *self);
void bench_broker_peak_clear (const bench_t *self);

/* Files in the journal's directory whose name ends so: sum, number, size of the largest. */
typedef struct {
    uint64_t bytes;
    uint64_t count;
    uint64_t largest;
} bench_files_t;
bench_files_t bench_broker_files (const bench_t *self, const char *suffix, bool removes);

/* ---- bench_parts.c: the roles; they print the time at which they begin ---- */

int bench_publisher (bench_t *self); /* and the time at which all was confirmed */
int bench_worker (bench_t *self);    /* and bench_counts_t's numbers */
int bench_raw_push (bench_t *self);
int bench_raw_pull (bench_t *self); /* its endpoint instead, and bench_counts_t's numbers */

/* What a receiver has seen. */
typedef struct {
    unsigned long long end_ns; /* when the last one came */
    unsigned long long distinct;
    unsigned long long wrong;      /* changed, or never sent */
    unsigned long long disordered; /* first attempts that came behind a later one */
    unsigned long long repeated;   /* attempts past the first */
} bench_counts_t;
int bench_counts_read (const char *line, bench_counts_t *counts);

/* ---- bench.c ---- */

/* Events a second between the publisher's start and the worker's end, on a fresh broker. */
int bench_run (bench_t *self, double *rate);
/* For qsort. */
int bench_by_value (const void *a, const void *b);

/* ---- bench_backlog.c ---- */
int bench_backlog (bench_t *self);

/* ---- bench_compare.c ---- */
int bench_compare (bench_t *self);

#endif
