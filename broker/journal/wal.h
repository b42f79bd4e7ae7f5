/* A segmented write-ahead log over a storage. SPDX-License-Identifier: MIT

   Role: finds out at open what a directory of segments is worth, hands every committed record to
   its user, then appends groups. Used for the main journal and for each dead-letter journal. Owns:
   the open segment. Talks to: a storage and spares, borrowed. One thread at a time. On failure: the
   first failed write or sync ends it: every later append fails. That there is no room for a new
   segment is no such failure: nothing was written, and the append may be tried again. */
#ifndef EF_WAL_H
#define EF_WAL_H

#include "record.h"
#include "spares.h"
#include "storage.h"

typedef struct ef_wal_s ef_wal_t;

/* What goes to disk together, and where it came to lie. Filled by one thread, then handed over. */
typedef struct {
    ef_buf_t buf; /* records, each begun and ended; append adds the group's commit to the last */
    uint64_t lsn; /* the writer's own number of the batch */
    size_t bytes; /* the writer's: how many it handed over */
    bool roll;    /* a new segment begins with this batch */
    uint32_t segment; /* set by append */
    uint32_t offset;  /* set by append: where buf begins in the segment */
    uint64_t room;    /* set by append: bytes left of what the segment has reserved */
} ef_batch_t;

typedef struct {
    uint64_t segment_bytes; /* reserved for a new segment */
    uint64_t wall_ms;
    uint64_t random[2];  /* becomes the journal's id where the directory is empty */
    bool skips_sync;     /* durability = os: groups are written, not synced */
    bool keeps_dropped;  /* segments that are dropped get another name (kept.h) */
    ef_spares_t *spares; /* NULL: none */
    /* Where a checkpoint says that all before it is known; segment 0: from the beginning. */
    uint32_t from_segment;
    uint64_t from_seq;
    uint32_t from_chain;
    /* Told now and then how far the reading has come; may be NULL. */
    void (*progress) (void *arg, uint64_t done, uint64_t total);
    void *progress_arg;
} ef_wal_options_t;

typedef struct {
    bool is_new; /* the directory held no segment */
    uint32_t segments;
    uint64_t records;
    uint64_t bytes;      /* read */
    uint64_t torn_bytes; /* cut from the end */
    uint32_t torn_segment;
    uint32_t torn_offset;
    int error;      /* errno where open failed; EBADMSG: corruption, EPROTO: newer version, ESTALE:
                       what the checkpoint says isn't so */
    char text[320]; /* then: what is wrong and where */
} ef_wal_report_t;

/* Reads the segments in order and calls `each` for every committed record. A non-zero answer from
   it is corruption. Returns NULL with report->error and report->text set, or a log whose appends go
   to a new segment from the first one on. Its epoch is one above the highest seen. */
ef_wal_t *ef_wal_open (ef_storage_t *storage, const ef_wal_options_t *options,
                       int (*each) (void *arg, const ef_record_t *record), void *arg,
                       ef_wal_report_t *report);
void ef_wal_destroy (ef_wal_t **self_p);

/* Writes the batches as one group and makes it durable. Their place is set. 0 or a negative errno.
 */
EF_MUST_USE int ef_wal_append (ef_wal_t *self, ef_batch_t *const *batches, int count);

/* Writes down that the last group was synced, so that damage to it can't pass for a torn tail. Does
   nothing where that is known already. 0 or a negative errno. */
EF_MUST_USE int ef_wal_hint (ef_wal_t *self);

/* The group that a journal's hint says was synced, and of which journal; 0: no hint that can be
 * read.
 */
uint64_t ef_wal_read_hint (ef_storage_t *storage, uint8_t journal_id[16]);

/* Takes the oldest segment out of the log; it isn't the open one. 0 or a negative errno. */
EF_MUST_USE int ef_wal_drop_oldest (ef_wal_t *self);

uint32_t ef_wal_oldest (const ef_wal_t *self); /* id of the oldest segment */
uint32_t ef_wal_newest (const ef_wal_t *self); /* id of the one that is written */
uint32_t ef_wal_epoch (const ef_wal_t *self);
const uint8_t *ef_wal_journal_id (const ef_wal_t *self); /* 16 bytes */
/* Bytes on disk of each segment that was found at open, oldest first; borrowed. */
const uint64_t *ef_wal_sizes (const ef_wal_t *self, uint32_t *count);

void ef_wal_segment_name (uint64_t segment, char name[24]);

/* What stands behind the last whole group of a segment, and the verdict (record.h, "Verdicts"). */
typedef enum { EF_END_CLEAN, EF_END_TORN, EF_END_CORRUPT } ef_end_t;
typedef struct {
    bool is_newest;   /* segment */
    bool has_rest;    /* bytes that aren't zero */
    bool has_later;   /* among them a valid record of a later group */
    bool is_hinted;   /* a hint says that the missing group was synced */
    bool is_unsynced; /* the segment's groups weren't synced each */
} ef_end_facts_t;
ef_end_t ef_wal_judge (const ef_end_facts_t *facts);

#define EF_WAL_GROUP_MAX 48 /* batches of one group */

#endif
