/* Reading one segment, group by group. SPDX-License-Identifier: MIT

   Role: shows whole, checked groups of a segment through a window of its bytes. Owns: the window
   and the open file. Talks to: a storage, borrowed. Invariant: memory is bounded by the largest
   group, not by the segment. */
#ifndef EF_SEGMENT_H
#define EF_SEGMENT_H

#include "record.h"
#include "storage.h"

typedef struct {
    ef_storage_t *storage; /* borrowed */
    int file;              /* -1: not open */
    uint32_t id;
    uint64_t size;
    uint8_t *window; /* owned; bytes start to start + fill of the file */
    size_t capacity;
    size_t fill;
    uint64_t start;
    int error; /* negative errno of a read that failed */
} ef_segment_t;

typedef struct {
    uint16_t version;
    uint16_t flags;
    uint8_t journal_id[16];
    uint64_t first_seq;
    uint32_t chain;
    uint32_t epoch;
    uint64_t wall_ms;
} ef_segment_header_t;

/* Opens segment `id`, closing the one before; keeps the window's memory. 0 or a negative errno. */
EF_MUST_USE int ef_segment_open (ef_segment_t *self, ef_storage_t *storage, uint32_t id);
/* The same, where the log has dropped it, for one that is kept (kept.h). */
EF_MUST_USE int ef_segment_open_any (ef_segment_t *self, ef_storage_t *storage, uint32_t id);
void ef_segment_close (ef_segment_t *self);
void ef_segment_free (ef_segment_t *self);

/* False: the header isn't whole (or couldn't be read: self->error). */
bool ef_segment_read_header (ef_segment_t *self, ef_segment_header_t *header);
uint32_t ef_segment_header_checksum (const uint8_t *header);
/* Fills the page that begins a segment. */
void ef_segment_write_header (uint8_t page[EF_SEGMENT_START], uint32_t id,
                              const ef_segment_header_t *header);

/* A window over [offset, offset + bytes), cut at the end of the file; `*got` says how much there
   is. Borrowed until the next call. NULL: it couldn't be read. */
const uint8_t *ef_segment_bytes (ef_segment_t *self, uint64_t offset, size_t bytes, size_t *got);

/* Looks for a whole group at `offset` with this seq, following this chain value. Returns where it
   ends, and moves `*chain` on; 0: there is none. The group's bytes are in the window then. */
uint64_t ef_segment_group (ef_segment_t *self, uint64_t offset, uint64_t seq, uint32_t *chain);

/* Bytes of a group that ef_segment_group has found. */
static inline const uint8_t *
ef_segment_at (const ef_segment_t *self, uint64_t offset) {
    return self->window + (offset - self->start);
}

/* True where only zeros stand from `offset` to the end. */
bool ef_segment_ends_in_zeros (ef_segment_t *self, uint64_t offset);

/* True where a valid record of a group behind `seq` stands anywhere from `offset` on. */
bool ef_segment_has_later (ef_segment_t *self, uint64_t offset, uint64_t seq);

#endif
