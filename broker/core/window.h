/* The dedupe window of one topic: which ids were accepted, when, and where their record lies.
   SPDX-License-Identifier: MIT

   Role: says whether an id was accepted less than a window ago. Remembers fingerprints, not ids.
   Owns: 24 bytes an id in the order in which they came, and a table that finds them; 29 to 39
   bytes an id together. Blocks of 1,024 ids are freed as they empty.
   Talks to: nobody; times are parameters, in wall-clock ms since 1970.
   Invariants: an id is here once. Each is judged by its own time. Everything that was accepted
   after the floor is here. Adding forgets nothing; what is over or too much goes with
   ef_window_expire, in steps. The order: ids stand in it as they were accepted; a clock that is set
   back changes nothing in that. Those written again when a segment was cleaned come late in a log
   that is read without a checkpoint: they stand in up to seven further runs, each in order of time,
   and the oldest of all heads goes first. Should seven not do, some are forgotten too early or
   freed late, never taken for another. On failure: without memory the process ends. */
#ifndef EF_WINDOW_H
#define EF_WINDOW_H

#include "print_table.h"

#define EF_WINDOW_MOST (1u << 30) /* ids: half of what references can tell apart */

typedef struct ef_window_s ef_window_t;

/* By what ids are judged; the settings of a topic, so they may change between calls. */
typedef struct {
    uint64_t now_ms;
    uint32_t window_ms;
    uint32_t most; /* ids that are known; more than EF_WINDOW_MOST are EF_WINDOW_MOST */
} ef_window_rule_t;

typedef struct {
    ef_print_t print;
    uint64_t accepted_ms;
    uint32_t segment; /* its record lies there, or in a later one */
} ef_known_t;

/* SipHash-128 of an id; never all zero. */
ef_print_t ef_print (const uint64_t key[2], const void *id, size_t size);

ef_window_t *ef_window_new (void);
void ef_window_destroy (ef_window_t **self_p);

/* Asks for the memory that the print will need; worth it for all ids of a message before the first
   of them is added. */
void ef_window_prefetch (const ef_window_t *self, ef_print_t print);

/* Accepted, and its window isn't over. */
bool ef_window_has (const ef_window_t *self, ef_print_t print, const ef_window_rule_t *rule);

/* False: a duplicate, nothing is changed. Else it is accepted at rule->now_ms. `segment` may be an
   earlier one than its record will lie in: then it is written again sooner than needed. */
bool ef_window_add (ef_window_t *self, ef_print_t print, uint32_t segment,
                    const ef_window_rule_t *rule);

/* Forgets what is over, and the oldest past rule->most: at most `budget` and two for each that was
   added since the last call, so one call after each message is enough. True: there is more. */
bool ef_window_expire (ef_window_t *self, const ef_window_rule_t *rule, uint32_t budget);

/* Recovery: from the log and from a checkpoint, in the order in which they stand there; the same id
   may come again: its latest acceptance counts, and of that the latest segment. `is_late`: not an
   event's record but an id written again or a checkpoint's, and may be older than what came before.
   Nothing is done where it is over. What is past rule->most is forgotten on the way. */
void ef_window_restore (ef_window_t *self, const ef_known_t *known, bool is_late,
                        const ef_window_rule_t *rule);

/* A walk over all ids that aren't over, in steps; anything may happen between them. It misses none
   that was there when it began and still is. Zero begins one, but for `segment`. */
typedef struct {
    uint32_t segment;     /* only ids that lie there or before; UINT32_MAX: all */
    uint32_t new_segment; /* those given lie there from now on, as far as it is later; 0: no move */
    bool is_done;
    uint32_t run; /* where it stands */
    uint64_t at;
} ef_window_walk_t;

/* The next ids, at most `most` (1 or more); possibly none before `is_done`. */
uint32_t ef_window_walk (ef_window_t *self, ef_window_walk_t *walk, const ef_window_rule_t *rule,
                         ef_known_t *into, uint32_t most);

uint32_t ef_window_count (const ef_window_t *self); /* also those over but not forgotten yet */
size_t ef_window_bytes (const ef_window_t *self);

/* The latest acceptance of all that was forgotten. What came later is here; what came then or
   before may be. */
uint64_t ef_window_floor (const ef_window_t *self);

/* A sum over ids accepted after a time and when, whatever their order. Two windows recovered from
   the same data say the same for the later of their floors and the start of the window. Slow. */
uint64_t ef_window_digest (const ef_window_t *self, uint64_t after_ms);

void ef_window_check (const ef_window_t *self); /* all of it, slowly */

#endif
