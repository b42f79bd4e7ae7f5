/* The index of the whole log: sidecars where there are any, memory where there are none yet.
   SPDX-License-Identifier: MIT

   Role: knows the segments that are there, live and kept, makes their sidecars, and shows the parts
   of their indexes. Owns: the sidecar files and the parts in memory. Talks to: a storage, borrowed.
   One thread. Invariants: nothing is read that isn't durable; memory is bounded by LOOKUP_BYTES and
   one segment. On failure: a sidecar that can't be written stays in memory or is made again when it
   is needed; one that is wrong is thrown away. */
#ifndef EF_LOOKUP_H
#define EF_LOOKUP_H

#include "../journal/segment.h"
#include "../journal/sidecar.h"

typedef struct {
    uint32_t id;
    bool has_header;  /* the next fields are known */
    bool is_complete; /* the parts cover all of it */
    uint8_t journal_id[16];
    ef_group_place_t next; /* behind the parts */
    uint32_t files;        /* parts that are files */
    ef_sidecar_t **memory; /* owned: the parts behind them */
    uint32_t memory_count;
} ef_lookup_segment_t;

typedef struct {
    ef_storage_t *storage;         /* borrowed */
    ef_lookup_segment_t *segments; /* owned, ascending ids without gaps */
    uint32_t count;
    uint32_t capacity;
    uint32_t durable_segment; /* the log may be read up to here */
    uint32_t durable_offset;
    uint32_t gone_at;    /* durable_segment when it was last looked for segments that are gone */
    bool is_held;        /* no files are written */
    bool is_spoilt;      /* a part turned out wrong: what was asked is to be asked again */
    ef_segment_t reader; /* of segments */
    ef_sidecar_t part;   /* the file that is open */
    uint64_t made;       /* sidecar files written */
} ef_lookup_t;

/* Finds what is there and removes sidecars without a segment. 0 or a negative errno. */
EF_MUST_USE int ef_lookup_init (ef_lookup_t *self, ef_storage_t *storage);
void ef_lookup_free (ef_lookup_t *self);

/* The log is durable up to this place. */
void ef_lookup_durable (ef_lookup_t *self, uint32_t segment, uint32_t offset);

/* Reads on in the oldest sealed segment that isn't complete, up to `bytes`. False: there is none.
 */
bool ef_lookup_work (ef_lookup_t *self, uint64_t bytes);

/* Reads all of a segment (by its place) that is durable. Returns the number of its parts. */
uint32_t ef_lookup_parts (ef_lookup_t *self, uint32_t at);
/* One of them, until the next call of any function; NULL: it is gone or wrong. */
ef_sidecar_t *ef_lookup_part (ef_lookup_t *self, uint32_t at, uint32_t part);
/* To be called behind the use of a part: throws it away where it turned out wrong. */
void ef_lookup_check (ef_lookup_t *self, uint32_t at, ef_sidecar_t *part);
/* The place of a segment or, where it is gone, of the next one. */
uint32_t ef_lookup_find (const ef_lookup_t *self, uint32_t segment);

#endif
