/* A segmented write-ahead log over a storage. SPDX-License-Identifier: MIT

   Role: finds out at open what a directory of segments is worth, hands every committed record to
   its user, then appends groups. Used for the main journal and for each dead-letter journal. Owns:
   the open segment. Talks to: a storage, borrowed. One thread at a time. On failure: the first
   failed write or sync ends it: every later append fails. */
#ifndef EF_WAL_H
#define EF_WAL_H

#include "record.h"
#include "storage.h"

typedef struct ef_wal_s ef_wal_t;

/* What goes to disk together, and where it came to lie. Filled by one thread, then handed over. */
typedef struct {
    ef_buf_t buf;     /* records, each begun and ended */
    uint64_t lsn;     /* the writer's own number of the batch */
    bool roll;        /* a new segment begins with this batch */
    uint32_t segment; /* set by append */
    uint32_t offset;  /* set by append: where buf begins in the segment */
} ef_batch_t;

typedef struct {
    uint64_t segment_bytes; /* reserved for a new segment */
    uint64_t wall_ms;
    uint64_t random[2]; /* becomes the journal's id where the directory is empty */
    bool skips_sync;    /* durability = os: groups are written, not synced */
} ef_wal_options_t;

typedef struct {
    bool is_new; /* the directory held no segment */
    uint32_t segments;
    uint64_t records;
    uint64_t bytes;      /* read */
    uint64_t torn_bytes; /* cut from the end */
    uint32_t torn_segment;
    uint32_t torn_offset;
    int error;      /* errno where open failed; EBADMSG: corruption, EPROTO: newer version */
    char text[256]; /* then: what is wrong and where */
} ef_wal_report_t;

/* Reads all segments in order and calls `each` for every committed record. A non-zero answer from
   it is corruption. Returns NULL with report->error and report->text set, or a log whose appends go
   to a new segment from the first one on. Its epoch is one above the highest seen. */
ef_wal_t *ef_wal_open (ef_storage_t *storage, const ef_wal_options_t *options,
                       int (*each) (void *arg, const ef_record_t *record), void *arg,
                       ef_wal_report_t *report);
void ef_wal_destroy (ef_wal_t **self_p);

/* Writes the batches as one group and makes it durable. Their place is set. 0 or a negative errno.
 */
EF_MUST_USE int ef_wal_append (ef_wal_t *self, ef_batch_t *const *batches, int count);

/* Removes the oldest segment; it isn't the open one. 0 or a negative errno. */
EF_MUST_USE int ef_wal_drop_oldest (ef_wal_t *self);

uint32_t ef_wal_oldest (const ef_wal_t *self); /* id of the oldest segment */
uint32_t ef_wal_newest (const ef_wal_t *self); /* id of the one that is written */
uint32_t ef_wal_epoch (const ef_wal_t *self);

void ef_wal_segment_name (uint64_t segment, char name[24]);

#define EF_WAL_GROUP_MAX 48 /* batches of one group */

#endif
