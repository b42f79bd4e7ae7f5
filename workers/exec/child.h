/* A command that runs. SPDX-License-Identifier: MIT

   Role: starts a command by way of eventflow-launch, moves bytes between it and us without ever
   waiting, keeps the end of its standard error, tells it to end (TERM, later KILL, to it and all
   that it started), and says how it ended. Owns: pipes, process descriptor, buffers.
   Invariants: every descriptor is closed on exec and doesn't block; a child that was started is
   reaped exactly once, by child_has_ended. One thread. */
#ifndef EF_CHILD_H
#define EF_CHILD_H

#include "../../proto/assert.h"
#include "../../proto/buf.h"
#include "../../proto/limits.h"
#include "plan.h"

#include <signal.h>
#include <sys/types.h>

#define CHILD_KILL_MS   5000 /* between TERM and KILL, and between KILL and doing it ourselves */
#define CHILD_LINE_SIZE 512  /* longer lines of standard error are passed on in parts */

typedef struct {
    bool is_ready;  /* something is to be read, written, or reaped: child_look found it */
    bool is_slow;   /* what is to be written waits for it */
    pid_t pid;      /* the launcher's, and its process group; 0: none runs */
    int epoll;      /* borrowed: that it is watched by */
    int process;    /* pidfd */
    int input;      /* its standard input, -1: closed */
    int output;     /* its standard output, -1: closed, or the worker's own */
    int errors;     /* its standard error, -1: closed */
    ef_buf_t bytes; /* for its standard input; `written` of them are gone */
    size_t written;
    bool ends_input;         /* standard input is closed behind them */
    bool shows_errors;       /* standard error is passed on to ours, line by line */
    char tail[EF_TRACE_MAX]; /* the end of its standard error */
    size_t tail_size;
    char line[CHILD_LINE_SIZE]; /* of standard error, not yet ended */
    size_t line_size;
    int told;         /* the last signal it was told to end by, 0: none */
    uint64_t next_ms; /* when it is told by a harder one */
} child_t;

/* `environment`: NULL at the end. Without `takes_output` the command writes where we do. It is
   watched by `epoll`, and must stay where it is. 0, or -errno. */
EF_MUST_USE int child_start (child_t *self, const plan_t *plan, char *const *environment,
                             bool takes_output, int epoll);
/* Marks all that `epoll` watches and that are ready, without waiting. */
void child_look (int epoll);
/* Closes and frees everything; the process itself has been reaped, or was never started. */
void child_free (child_t *self);

/* Writes what it takes of `bytes`. */
void child_feed (child_t *self);
/* Reads what it wrote to standard error. */
void child_listen (child_t *self);
/* Reads standard output: how many bytes, 0: there are none now (`output` is -1 at the end). */
size_t child_read (child_t *self, void *bytes, size_t size);

/* It is told to end by TERM, and by KILL 5 s later if it hasn't. */
void child_end (child_t *self, uint64_t now_ms);
/* All of it is killed now. */
void child_kill (child_t *self, uint64_t now_ms);
/* Says the harder word when its time has come. */
void child_insist (child_t *self, uint64_t now_ms);
/* Reaps it; true: it has ended, as `ended` says. */
EF_MUST_USE bool child_has_ended (child_t *self, siginfo_t *ended);

/* Lowers `*timeout_ms` to when it is told something harder. */
void child_lower (const child_t *self, uint64_t now_ms, int *timeout_ms);

/* Ends them all and reaps them: those that `gentle_ms` isn't 0 for by closing their standard input,
   then by TERM, then by KILL. Waits for each step, at the most two seconds and that time. */
void child_end_all (child_t *const *children, size_t count, uint64_t gentle_ms);

/* Nothing more that it writes is wanted. */
void child_close_output (child_t *self);

/* How it ended as a code: EXIT_n, SIGNAL_n, or CPU_LIMIT where it `has_limit`. */
void child_code (const siginfo_t *ended, bool has_limit, char code[32]);

/* The last line of standard error, in `text`. */
void child_last_line (const child_t *self, char *text, size_t size);

#endif
