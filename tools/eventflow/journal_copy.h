/* Copying what is intact of a journal into a new one. SPDX-License-Identifier: MIT

   Role: reads a journal with ef_scan, hands each confirmed record to its owner, who says what of it
   goes over, and writes that through ef_wal_append, sealed anew for its new place. Owns: the new
   log. Invariants: a torn tail isn't copied, as the broker wouldn't take it. Groups stay together;
   several become one. A new segment begins where an old one begins with a whole group, for only
   such a group holds all absolute values, and the broker may remove the segments before it. */
#ifndef EF_CLI_JOURNAL_COPY_H
#define EF_CLI_JOURNAL_COPY_H

#include "journal.h"

typedef struct {
    journal_t *journal;
    losses_t losses;
    /* Appends to `out` what of a record goes over. NULL, or why it doesn't (static). */
    const char *(*take) (void *arg, const ef_record_t *record, ef_buf_t *out);
    void *arg;
    uint64_t skipped; /* records that weren't taken */
    uint64_t copied;

    ef_storage_t *storage; /* owned; of the new journal */
    ef_wal_t *wal;         /* owned */
    ef_batch_t batch;      /* gathered for the next append */
    uint64_t fill;         /* bytes in the new segment */
    int error;             /* negative errno */

    ef_buf_t group;       /* records of the group under way, back to back */
    ef_record_t *records; /* owned; their bodies point nowhere until the group ends */
    size_t *places;       /* owned: where each begins in `group` */
    uint32_t count;
    uint32_t capacity;
    uint64_t seq;
    bool is_first; /* the group begins its segment */
    bool is_holed; /* something of it is lost */
} copy_t;

/* Copies the journal at `place` into a new directory. CLI_OK, or a code after saying why. The log
   stays open for copy_append. */
int copy_run (copy_t *self, journal_t *journal, const place_t *place, const char *path);

/* Appends a record as it is to `out`. */
void copy_put (ef_buf_t *out, const ef_record_t *record);

/* Writes more records behind what was copied. */
int copy_append (copy_t *self, const ef_buf_t *records);

/* True where anything of the old journal isn't in the new one. */
bool copy_has_losses (const copy_t *self);

/* Frees all; the new journal is durable. */
void copy_free (copy_t *self);

/* Copies a dead-letter journal. `taken_b`: the last return that the main journal has taken.
   `*letters`: how many letters are there now, `*highest_m` as ef_core_replay_dead wants it. */
typedef struct {
    uint64_t letters;
    uint64_t highest_m;
    bool has_losses;
} dead_copy_t;
int copy_dead (journal_t *journal, const place_t *place, const char *path, uint64_t taken_b,
               dead_copy_t *result);

/* Makes the dead-letter journal of a topic that has none, so that its moves back go on counting. */
int copy_dead_new (const char *path, uint64_t taken_b);

#endif
