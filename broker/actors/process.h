/* One worker process of a pool, and what it may leave behind. SPDX-License-Identifier: MIT

   Role: starts it with the environment that it needs, watches it, ends it with all that came of it.
   Owns the pidfd. A worker has a session of its own. It stays a zombie until nothing of its session
   is left, for as long its number can't be another one's; what lingers is told TERM, then killed.

   Told to leave: at once DRAIN by the router, so that it gets nothing more and finishes; TERM once
   its lease is over and it holds nothing; KILL as long after that as `grace` says. */
#ifndef EF_PROCESS_H
#define EF_PROCESS_H

#include "../config.h"

#include <sys/types.h>

#define EF_LEAVE_MS  10000u /* from TERM to KILL */
#define EF_ORPHAN_MS 2000u  /* the same, for what a worker has left behind */

typedef struct {
    pid_t pid; /* and session, and process group */
    int file;  /* pidfd */
    char token[40];
    uint64_t started_ms;
    uint64_t here_ms;  /* when it was first seen among the workers; 0: not yet */
    uint64_t answered; /* events */
    uint64_t held;     /* under leases */
    bool is_leaving;   /* told to; its end is no crash */
    bool is_old;       /* recycled once another one has its place */
    bool is_spare;     /* started in the place of an old one that is still there */
    uint64_t leave_ms; /* when it was told */
    uint64_t term_ms;  /* when it was told TERM; 0: not yet */
    uint64_t kill_ms;  /* when it is killed; 0: never */
    bool has_ended;    /* a zombie: its session isn't empty yet */
    int code;          /* then: CLD_ of siginfo_t */
    int status;        /* the same: exit status or signal */
} ef_process_t;

/* What a worker needs to find its broker. */
typedef struct {
    const char *back; /* endpoint to connect to */
    const char *topic;
    const char *file; /* absolute path of the configuration; "": none */
    const char *bin;  /* directory of this program; "": not known */
    uint32_t credit;
} ef_process_place_t;

/* 0 or a negative errno. */
EF_MUST_USE int ef_process_start (ef_process_t *self, const char *command,
                                  const ef_process_place_t *place);
/* True once: it has ended, as `code` and `status` say. */
bool ef_process_has_ended (ef_process_t *self);
/* Of one that has ended: true once nothing of its session is left, and it is no zombie any more. */
bool ef_process_is_gone (ef_process_t *self, uint64_t now_ms);
/* A signal to all of its group. */
void ef_process_signal (const ef_process_t *self, int number);
/* The last resort: kills all that is left of it. */
void ef_process_kill (ef_process_t *self);
/* Of one that leaves: says TERM and KILL when it is time. When to look again; UINT64_MAX: never. */
uint64_t ef_process_push (ef_process_t *self, uint32_t lease_ms, uint64_t now_ms);

#endif
