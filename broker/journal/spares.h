/* Segments prepared ahead: zeros on disk that only need a name. SPDX-License-Identifier: MIT

   Role: keeps files ready so that beginning a segment needs neither space nor new blocks; the next
   one is filled with zeros when there is time, since what is written to such a file syncs about a
   third faster than in a reserved one whose blocks still have to be marked as written. The ready
   ones are also the reserve of a full disk: events can be finished as long as one is left. Owns:
   the list. Talks to: a storage, borrowed. Threads: made by one, taken by another; the list is
   under a lock, the files are not. */
#ifndef EF_SPARES_H
#define EF_SPARES_H

#include "storage.h"

#include <pthread.h>
#include <stdatomic.h>

#define EF_SPARES_MAX    8
#define EF_SPARE_NAME    32
/* One for the next segment, two for finishing work on a full disk. */
#define EF_SPARES_WANTED 3

typedef struct {
    ef_storage_t *storage; /* borrowed */
    uint64_t bytes;        /* of one file */
    uint64_t next;         /* number of the next one to be made */
    pthread_mutex_t lock;
    char names[EF_SPARES_MAX][EF_SPARE_NAME]; /* ready ones, under the lock */
    uint32_t count;
    bool is_first_zeroed;
    _Atomic uint32_t ready; /* count, for readers without the lock */
} ef_spares_t;

/* Takes over spares that an earlier run left, removes those of another size. 0 or a negative errno.
 */
EF_MUST_USE int ef_spares_init (ef_spares_t *self, ef_storage_t *storage, uint64_t bytes);
void ef_spares_free (ef_spares_t *self);

/* Makes one more, of reserved blocks. 0 or a negative errno, with nothing left behind. */
EF_MUST_USE int ef_spares_make (ef_spares_t *self);
/* Writes zeros over the one that is taken next, where that wasn't done yet. It costs as much as a
   segment's events do, so it is for idle times. 0 or a negative errno. */
EF_MUST_USE int ef_spares_zero (ef_spares_t *self);

uint32_t ef_spares_count (ef_spares_t *self);
/* The same without the lock: how many there were a moment ago. */
uint32_t ef_spares_ready (const ef_spares_t *self);

/* True where the next one is filled, or there is none. */
bool ef_spares_is_zeroed (ef_spares_t *self);

/* Gives the oldest spare a new name, and says whether it was filled with zeros. 0: done, not yet
   durable; -ENOENT: none is ready; or another negative errno. */
EF_MUST_USE int ef_spares_take (ef_spares_t *self, const char *name, bool *is_zeroed);

#endif
