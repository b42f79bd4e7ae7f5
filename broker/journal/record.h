/* The bytes of a journal: segments, records, commit groups. SPDX-License-Identifier: MIT

   All numbers are little-endian. A journal is a directory of segments named by 16 hex digits and
   ".seg", numbered upwards by one. The main journal and every dead-letter journal have this form.

   Segment header, 64 bytes, at offset 0; what follows up to offset 4096 is zero:
      0  8  magic "EFSEG\r\n\0"
      8  2  format version, 1 to 4
     10  2  flags (EF_SEGMENT_FLAG_)
     12  4  CRC-32C of bytes 0 to 11 and 16 to 63
     16  8  segment id
     24 16  journal id (random, one for the life of the directory)
     40  8  seq of its first group
     48  4  chain value before its first group
     52  4  epoch in which it was made
     56  8  ms since 1970

   Record, at a multiple of 8 from offset 4096, padded with zeros to the next one:
      0  4  bytes of the record, head included, padding excluded; 0: nothing was written from here
   on 4  4  CRC-32C over segment id (8), offset in the segment (8), bytes 0 to 3, bytes 8 to the end
      8  8  seq of its group
     16  4  epoch (grows by one with each start of the broker)
     20  1  type
     21  1  flags
     22  2  bytes of the type's fixed header, which a newer version may lengthen
     24     header and body (broker/core/log_records.h)

   A group is what one write and one sync make durable. Its last record is of type COMMIT:
      24  8  offset of the group's first record in this segment
      32  4  number of records before the commit
      36  4  chain value: CRC-32C over the chain value before and the group's record CRCs in order
      40  8  seq of the last group known to be synced when this one was written (seq - 1)
   Groups don't cross segments; seq grows by one from group to group, across segments too. Group N+1
   is written only after the sync of N returned, so at most the last group can be torn; with
   EF_SEGMENT_FLAG_UNSYNCED (durability = os) that holds for whole segments only.

   Beside the segments lie, none of them needed to read the journal:
     *.spare      zeros, to become the next segments by their names being changed
     *.new        a spare that is being made; removed at a start
     hint         64 bytes: magic "EFHINT\r\n", journal id (16, at 8), seq (8, at 24): this group
   was synced; CRC-32C of all before it (4, at 36). Written when there is nothing to do
     *.ckpt       checkpoints (checkpoint.h)
     *.idx        what lies where in a segment (sidecar.h)
     *.old        segments that were dropped from the log and are kept for a while (kept.h)

   Verdicts at open, for what stands behind the last whole group of a segment (wal_open.c has the
   table):
     clean        zeros or the end of the file
     torn tail    in the newest segment bytes that are no whole group, no valid record of a later
                  group behind them, and no hint that the group was synced: they were never
                  confirmed. They are cut and reported.
     corruption   anything else. The journal isn't opened.
   A newest segment whose header isn't valid and that holds nothing else was being made: it is
   removed. The newest segment is synced before it is believed, since a killed process may have left
   bytes that only the page cache has.

   To change the format: raise EF_RECORD_VERSION, keep reading the older one, add a golden file of
   it to tests/golden, say here what differs. A newer version than one's own is refused.
   Version 2: segment flags; a repeat count in SESSION's items, the purge mark in TOPIC.
   Version 3: types 13 to 18 of the main journal, the time in ENDS, flags in ATTEMPT, COPIES and
   EVENTS, more about each attempt.
   Version 4: the id of the event that supersedes a dead letter. */
#ifndef EF_RECORD_H
#define EF_RECORD_H

#include "../../proto/buf.h"

#define EF_RECORD_VERSION        4
#define EF_SEGMENT_MAGIC         "EFSEG\r\n"
#define EF_SEGMENT_HEADER        64
#define EF_SEGMENT_FLAG_UNSYNCED 1    /* its groups were written, not synced each */
#define EF_SEGMENT_START         4096 /* where records begin */
#define EF_RECORD_HEAD           24
#define EF_RECORD_COMMIT         1 /* type; all other types belong to the journal's user */
#define EF_COMMIT_BODY           24
#define EF_RECORD_ALIGN          8
#define EF_RECORD_MAX            (128u << 20)

static inline void
ef_le16_put (uint8_t *at, uint16_t value) {
    at[0] = (uint8_t)value;
    at[1] = (uint8_t)(value >> 8);
}

static inline void
ef_le32_put (uint8_t *at, uint32_t value) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap32 (value);
#endif
    memcpy (at, &value, 4);
}

static inline void
ef_le64_put (uint8_t *at, uint64_t value) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64 (value);
#endif
    memcpy (at, &value, 8);
}

static inline uint16_t
ef_le16 (const uint8_t *at) {
    return (uint16_t)(at[0] | at[1] << 8);
}

static inline uint32_t
ef_le32 (const uint8_t *at) {
    uint32_t value;
    memcpy (&value, at, 4);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap32 (value);
#endif
    return value;
}

static inline uint64_t
ef_le64 (const uint8_t *at) {
    uint64_t value;
    memcpy (&value, at, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64 (value);
#endif
    return value;
}

static inline uint32_t
ef_record_padded (uint32_t bytes) {
    return (bytes + EF_RECORD_ALIGN - 1) & ~(uint32_t)(EF_RECORD_ALIGN - 1);
}

/* A record as its user sees it. */
typedef struct {
    uint8_t type;
    uint8_t flags;
    uint16_t header_bytes;
    uint32_t epoch;
    uint32_t segment;
    uint32_t offset;     /* of the head, in the segment */
    const uint8_t *body; /* header and body, borrowed */
    uint32_t body_bytes;
} ef_record_t;

/* Begins a record in `buf` (whose size is a multiple of 8) with `header_bytes` zeroed bytes of
   header; returns the head's position. The writer appends its body and then ends the record. */
size_t ef_record_begin (ef_buf_t *buf, uint8_t type, uint8_t flags, uint16_t header_bytes);
void ef_record_end (ef_buf_t *buf, size_t mark);

/* Puts seq, epoch and checksum into a finished record that will stand at `offset` of `segment`.
   Returns the checksum. */
uint32_t ef_record_seal (uint8_t *head, uint64_t segment, uint64_t offset, uint64_t seq,
                         uint32_t epoch);

/* True where a whole record with the right checksum stands at `offset` of a segment whose first
   `size` bytes are at `bytes`. */
bool ef_record_is_valid (const uint8_t *bytes, size_t size, uint64_t segment, uint64_t offset);

/* The same for a record that was read alone, `bytes` of it, from `offset` of its segment. */
bool ef_record_is_whole (const uint8_t *record, size_t bytes, uint64_t segment, uint64_t offset);

/* Fills `record` from a valid record at `bytes + offset`. */
void ef_record_view (const uint8_t *bytes, uint32_t segment, uint64_t offset, ef_record_t *record);

#endif
