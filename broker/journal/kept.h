/* Segments that the log needs no more, kept for a while so that what was done can be looked up.
   SPDX-License-Identifier: MIT

   Role: knows them, removes the oldest once they are too old or too many, or when their room is
   wanted. They lie beside the log as 16 hex digits and ".old"; nothing reads them but the finder.
   After a restart their time begins anew. Owns: the list. Talks to: a storage, borrowed. One
   thread. */
#ifndef EF_KEPT_H
#define EF_KEPT_H

#include "storage.h"

typedef struct {
    uint32_t segment;
    uint64_t bytes;
    uint64_t since_ms; /* monotonic */
} ef_kept_item_t;

typedef struct {
    ef_storage_t *storage; /* borrowed */
    uint64_t most_ms;
    uint64_t most_bytes;
    ef_kept_item_t *items; /* owned, oldest first */
    uint32_t count;
    uint32_t capacity;
    uint64_t bytes;
    uint32_t next; /* segments below were noted */
} ef_kept_t;

void ef_kept_name (uint32_t segment, char name[24]);

/* Finds those that an earlier run left. 0 or a negative errno. */
EF_MUST_USE int ef_kept_init (ef_kept_t *self, ef_storage_t *storage, uint64_t most_ms,
                              uint64_t most_bytes, uint64_t now_ms);
void ef_kept_free (ef_kept_t *self);

/* The log's oldest segment is this one now: those below that are there were dropped. */
void ef_kept_note (ef_kept_t *self, uint32_t oldest, uint64_t now_ms);

/* Removes what is over its time or too much. Returns when to look again; UINT64_MAX: there is no
   need. */
uint64_t ef_kept_trim (ef_kept_t *self, uint64_t now_ms);

/* Removes the oldest, whose room is wanted. False: there is none. */
bool ef_kept_give (ef_kept_t *self);

#endif
