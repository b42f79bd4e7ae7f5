/* Checkpoints: what recovery would know at the start of a segment, so that it can begin there.
   SPDX-License-Identifier: MIT

   A checkpoint is a help, never a source: it is used only where its own checksums are right and the
   segment that it names is the very one that it was made for, and recovery without it says the
   same.

   File: the segment's 16 hex digits and ".ckpt", beside the segments. Little-endian.
      0  8  magic "EFCKPT\r\n"
      8  4  version, 2
     12  4  CRC-32C of bytes 0 to 11 and 16 to 63
     16  8  segment from whose start the log is to be read
     24 16  journal id
     40  8  seq of that segment's first group
     48  4  chain value before it
     52 12  zero
     64     records (record.h) sealed for the segment and their offset in this file, seq 0; their
            types belong to the journal's user. The last is a COMMIT: number of records (4, at 32),
            chain value over their CRCs from 0 on (4, at 36). Nothing stands behind it.
   It is written as "checkpoint.tmp" and renamed once synced. The last two are kept. */
#ifndef EF_CHECKPOINT_H
#define EF_CHECKPOINT_H

#include "record.h"
#include "storage.h"

#define EF_CHECKPOINT_VERSION 2

typedef struct {
    ef_storage_t *storage; /* borrowed */
    int file;              /* -1: none is under way */
    uint32_t segment;
    uint64_t offset;
    uint32_t records;
    uint32_t chain;
} ef_checkpoint_writer_t;

/* Begins the checkpoint of a segment, dropping one that is under way. 0 or a negative errno. */
EF_MUST_USE int ef_checkpoint_begin (ef_checkpoint_writer_t *self, ef_storage_t *storage,
                                     uint32_t segment);
/* Seals and writes finished records. */
EF_MUST_USE int ef_checkpoint_add (ef_checkpoint_writer_t *self, ef_buf_t *records);
/* Makes it durable and gives it its name; older ones but for the last go. */
EF_MUST_USE int ef_checkpoint_end (ef_checkpoint_writer_t *self);
/* Forgets the one under way. */
void ef_checkpoint_drop (ef_checkpoint_writer_t *self);

/* Part of a checkpoint, in the order of handing over. */
typedef struct {
    uint32_t segment; /* from whose start the log goes on */
    bool is_first;
    bool is_last;
    ef_buf_t buf; /* records, begun and ended; owned */
    int rc;       /* the writer's: 0 or a negative errno */
} ef_checkpoint_part_t;

/* Writes one part; what came before it in the same checkpoint was written. Sets part->rc. */
void ef_checkpoint_take (ef_checkpoint_writer_t *self, ef_storage_t *storage,
                         ef_checkpoint_part_t *part);

typedef struct {
    uint32_t segment;
    uint64_t first_seq;
    uint32_t chain;
    uint64_t bytes;
} ef_checkpoint_info_t;

/* Finds the newest whole checkpoint of a segment below `below` (0: of any). False: there is none.
 */
bool ef_checkpoint_find (ef_storage_t *storage, uint32_t below, ef_checkpoint_info_t *info);
/* Hands out its records. 0; -1: one of them was refused or it can't be read any more. */
EF_MUST_USE int ef_checkpoint_read (ef_storage_t *storage, const ef_checkpoint_info_t *info,
                                    int (*each) (void *arg, const ef_record_t *record), void *arg);
/* Removes all of them, so that the next start reads the whole log. 0 or a negative errno. */
int ef_checkpoint_remove_all (ef_storage_t *storage);

#endif
