/* A child and the events that it has in hand. SPDX-License-Identifier: MIT

   Role: keeps what a child was given until it has answered, and answers for the rest when the child
   has ended. Owns: the child, what it says, the list. One thread. */
#ifndef EF_RUNNER_H
#define EF_RUNNER_H

#include "child.h"
#include "exec.h"
#include "lines.h"

typedef struct {
    uint64_t tag;
    uint64_t cancel_ms; /* when its child is ended if it hasn't answered; 0: it isn't cancelled */
    bool is_timed_out;
} held_t;

/* What is looked at for each event is here, the rest behind pointers. */
typedef struct {
    child_t *child;    /* owned; NULL: the place is free */
    lines_t *lines;    /* owned; what it says */
    held_t *held;      /* owned; in order of handing out */
    uint32_t count;    /* of them */
    uint32_t room;     /* for so many */
    uint32_t given;    /* in its life */
    bool is_leaving;   /* gets nothing more */
    bool has_answered; /* at least once */
    uint64_t started_ms;
    uint64_t cancel_ms; /* the first of those of its events, or before it; 0: none */
    uint64_t leave_ms;  /* when it is told to end; 0: its input is open */
    char *fault;        /* owned; what it said that can't be understood */
} runner_t;

/* `is_json`: what it reads and writes; `takes_output`: it answers. 0, or -errno: it is free. */
EF_MUST_USE int runner_start (runner_t *self, const exec_way_t *way, bool is_json,
                              bool takes_output);
void runner_free (runner_t *self); /* its child has ended, or was never started */

/* One more event, `bytes` as the child reads it. */
void runner_give (runner_t *self, uint64_t tag, const ef_buf_t *bytes);
/* It is answered; false: it isn't in hand. `*held` is what was known of it. */
bool runner_take (runner_t *self, uint64_t tag, held_t *held);
/* Nobody wants it any more. */
void runner_cancel (runner_t *self, held_t *held, uint64_t until_ms);
/* All that it has in hand was cancelled. */
bool runner_is_unwanted (const runner_t *self);
/* Ends it where something that was cancelled hasn't been answered in time. */
void runner_insist (runner_t *self, uint64_t now_ms);
/* Told to end, it gets nothing more. */
void runner_end (runner_t *self, uint64_t now_ms);
/* It said something that can't be understood: nothing more of it is believed. */
void runner_blame (runner_t *self, const char *quote, const char *expected, uint64_t now_ms);

/* Its child has ended: all that it still had in hand is answered. `trouble`: how, for people. True:
   that was its own doing. */
bool runner_settle (runner_t *self, const exec_way_t *way, const siginfo_t *ended,
                    char trouble[200]);

#endif
