/* The dead letters of one topic in their own journal. SPDX-License-Identifier: MIT

   Role: keeps each letter once, by m, until the main journal has taken it back or purged it. Owns:
   its log and a table of where the letters lie. Talks to: a storage (one directory a topic). One
   thread. Invariants: letters are sorted by m; a letter leaves only by a LEFT record. On failure:
   the log stops for good, what was handed in since the last commit is not there.

   Records (broker/journal/record.h), offsets from behind the head:
   LETTER (2)   0 8 m    8 8 n   16 8 accepted   24 8 dead   32 4 attempts   36 4 bytes of the event
               40 4 bytes of the history   44 1 reason   45 1 bytes of the id (version 4; before: 0)
               46 2 reserved   48 event, history, id of the event that supersedes it. A letter may
               be written once more, with another place or id: the later record holds
   LEAVING (3)  0 8 b    8 1 purge   12 4 count   16 count × 8: m. Noted before they are offered for
   return LEFT (4)     0 8 b: what left with b is gone STATE (5)    0 8 highest m   8 8 highest b.
   First record of every segment */
#ifndef EF_DEAD_LOG_H
#define EF_DEAD_LOG_H

#include "../core/core.h"

typedef struct ef_dead_log_s ef_dead_log_t;

typedef struct {
    uint64_t m;
    uint64_t n;
    uint64_t dead_ms;
    uint64_t print; /* ef_dead_log_print of its id; 0: it has none */
    uint32_t segment;
    uint32_t offset;
    uint32_t attempts;
    uint32_t bytes; /* of event, history and id */
    uint8_t reason; /* ef_reason_t */
    bool is_superseded;
    bool is_leaving;
    bool is_gone; /* for a moment, while its b is dropped */
} ef_letter_t;

/* A letter with its bytes. */
typedef struct {
    ef_letter_t letter;
    uint64_t accepted_ms;
    ef_span_t event;
    ef_span_t history;
    ef_span_t superseded; /* id of the event that took its place; size 0: none */
    uint8_t *bytes;       /* owned; free () it */
} ef_letter_body_t;

/* What leaves together. */
typedef struct {
    uint64_t b;
    bool purge;
    uint32_t count;
    uint64_t *m; /* owned */
} ef_leaving_t;

/* Opens or creates the journal; the storage passes to it. options->segment_bytes 0: 1 MiB. NULL:
 * report says why. */
ef_dead_log_t *ef_dead_log_new (ef_storage_t *storage, const ef_wal_options_t *options,
                                ef_wal_report_t *report);
void ef_dead_log_destroy (ef_dead_log_t **self_p);

/* Adds a letter to the group under way; one whose m is known already is left out. */
void ef_dead_log_add (ef_dead_log_t *self, const ef_dead_t *dead);

/* Notes in a committed letter that isn't leaving which event (its id: 1 to EF_ID_MAX bytes)
   supersedes it; the last one holds. 0, or -1 where the letter can't be read. */
EF_MUST_USE int ef_dead_log_supersede (ef_dead_log_t *self, uint64_t m, ef_span_t id);

/* Notes that the letters leave, under the next b. The letters exist and aren't leaving. Returns b.
 */
uint64_t ef_dead_log_leave (ef_dead_log_t *self, const uint64_t *m, uint32_t count, bool purge);

/* The main journal has taken b: its letters are dropped. */
void ef_dead_log_left (ef_dead_log_t *self, uint64_t b);

/* Makes the group under way durable. 0 or a negative errno; with a full disk nothing has changed,
   and it is to be called again. */
EF_MUST_USE int ef_dead_log_commit (ef_dead_log_t *self);

uint64_t ef_dead_log_highest (const ef_dead_log_t *self); /* m; durable behind a commit */
uint32_t ef_dead_log_count (const ef_dead_log_t *self);
const ef_letter_t *ef_dead_log_at (const ef_dead_log_t *self, uint32_t index);
/* What ids are compared by before letters are read. */
uint64_t ef_dead_log_print (const void *id, size_t size);
/* The index of the first letter with this m or a higher one. */
uint32_t ef_dead_log_seek (const ef_dead_log_t *self, uint64_t m);
/* 0, or -1 where it can't be read. Committed letters only. */
EF_MUST_USE int ef_dead_log_read (ef_dead_log_t *self, const ef_letter_t *letter,
                                  ef_letter_body_t *body);
/* What is on its way out, in order of b. */
uint32_t ef_dead_log_leaving_count (const ef_dead_log_t *self);
const ef_leaving_t *ef_dead_log_leaving (const ef_dead_log_t *self, uint32_t index);

#endif
