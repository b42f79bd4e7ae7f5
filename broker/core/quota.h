/* How many events of a subject may go out in a window of time. Pure. SPDX-License-Identifier: MIT

   Role: counts units. A unit stands for one event (n) of a subject (a 128-bit fingerprint of its
   user, key or topic) and for the ms when it was taken by the wall clock. Windows are those of
   ef_quota_config_t: days begin at midnight of the zone or of UTC, shorter windows at multiples of
   window_ms since 1970, sliding ones lie right behind each moment. Owns: its tables; the caller
   owns what the units say of events, and the journal.

   Invariants. In no window has a subject more units than its limit, whatever the wall clock does: a
   unit of the future counts as in the window; units are forgotten only some time after their window
   (EF_QUOTA_KEEP_MS), and where the clock goes back behind what was forgotten nobody gets a unit
   until the window is over that it belonged to. An event has one unit at the most. Every call takes
   O(log units), but for those that say how many they look at.

   Each unit remembers the segment that its record was written in last, so that it is written again
   before that segment goes. What the window holds must be known after a restart: ef_quota_add. */
#ifndef EF_QUOTA_H
#define EF_QUOTA_H

#include "../../proto/assert.h"
#include "../base/heap.h"
#include "../base/slab.h"
#include "settings.h"

#define EF_SUBJECT_BYTES 16

typedef struct {
    uint64_t n;
    uint64_t taken_ms;
    uint8_t subject[EF_SUBJECT_BYTES];
    uint32_t segment; /* its record was last written in */
} ef_unit_t;

typedef struct {
    ef_slab_t units;    /* by n */
    ef_slab_t subjects; /* that have units, by fingerprint */
    ef_heap_t oldest;   /* subjects, by their oldest unit */
    struct {
        uint32_t segment;
        uint32_t first; /* unit */
        uint32_t count;
    } * segments; /* owned; those that have units, ascending */
    uint32_t segment_count;
    uint32_t segment_capacity;
    uint64_t blind_ms;        /* of what was taken before, units may have been forgotten */
    uint32_t blind_window_ms; /* by the settings of then */
    bool is_blind_sliding;
} ef_quota_t;

typedef enum {
    EF_QUOTA_TAKEN, /* a unit that is to be journaled */
    EF_QUOTA_HELD,  /* the event has one of this window already */
    EF_QUOTA_OVER,  /* the subject has used up its limit */
    EF_QUOTA_FULL   /* the tables are (limits.h): others' units must go first */
} ef_quota_answer_t;

void ef_quota_init (ef_quota_t *self);
void ef_quota_free (ef_quota_t *self);

/* An event is to go out: `unit->taken_ms` is now. Where it may not, `*until_ms` is when to ask
   again by the wall clock at the latest; a unit that is given back may make room before. */
EF_MUST_USE ef_quota_answer_t ef_quota_take (ef_quota_t *self, const ef_quota_config_t *config,
                                             const ef_unit_t *unit, uint64_t *until_ms);

/* An event went out in vain. True: it had a unit, and `subject` says whose events may go on. */
EF_MUST_USE bool ef_quota_give_back (ef_quota_t *self, uint64_t n,
                                     uint8_t subject[EF_SUBJECT_BYTES]);

/* Whether an event has a unit, of this window or of one before. */
bool ef_quota_has (const ef_quota_t *self, uint64_t n);

/* Units of a subject in the window. */
uint32_t ef_quota_used (const ef_quota_t *self, const ef_quota_config_t *config,
                        const uint8_t subject[EF_SUBJECT_BYTES], uint64_t wall_ms);

/* Forgets up to `most` units whose windows are long over. True: there may be more. */
bool ef_quota_expire (ef_quota_t *self, const ef_quota_config_t *config, uint64_t wall_ms,
                      uint32_t most);

/* Replay: a unit was taken or written again; the last one of an event holds. Limits don't apply to
   what is in the journal: ef_quota_expire follows. */
void ef_quota_add (ef_quota_t *self, const ef_unit_t *unit);

/* Up to `most` units that were last written in a segment; returns how many. To empty a segment each
   is written again and relocated, until there are none. */
uint32_t ef_quota_gather (const ef_quota_t *self, uint32_t segment, ef_unit_t *units,
                          uint32_t most);
void ef_quota_relocate (ef_quota_t *self, uint64_t n,
                        uint32_t segment); /* an n without one: none */

/* All units, looking at up to *count places a call: `*count` is how many were found. Begins with
   `*position` 0; false: that was all. Units that come and go meanwhile may be among them. */
bool ef_quota_walk (const ef_quota_t *self, uint32_t *position, ef_unit_t *units, uint32_t *count);

/* A sum over the units that count now, in whatever order and segment they are. */
uint64_t ef_quota_digest (const ef_quota_t *self, const ef_quota_config_t *config,
                          uint64_t wall_ms);

uint64_t ef_quota_bytes (const ef_quota_t *self); /* of memory */

/* Asserts all that the tables say of each other. Costs a walk over everything. */
void ef_quota_check (const ef_quota_t *self);

#endif
