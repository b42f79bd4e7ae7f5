/* The log's inside, shared by wal.c (appending) and wal_open.c (recovery).
   SPDX-License-Identifier: MIT */
#ifndef EF_WAL_PRIVATE_H
#define EF_WAL_PRIVATE_H

#include "../base/crc32c.h"
#include "wal.h"

struct ef_wal_s {
    ef_storage_t *storage; /* borrowed */
    ef_wal_options_t options;
    uint8_t journal_id[16];
    int file;        /* the open segment, -1: none yet */
    uint32_t oldest; /* segment ids; 0: none */
    uint32_t newest;
    uint32_t epoch;
    uint64_t offset; /* where the next group goes */
    uint64_t next_seq;
    uint32_t chain;    /* value behind the last group */
    bool segment_used; /* the open segment holds a group */
    int error;         /* negative errno; set once, for good */
};

static inline uint32_t
ef_wal_header_checksum (const uint8_t *header) {
    return ef_crc32c (ef_crc32c (0, header, 12), header + 16, EF_SEGMENT_HEADER - 16);
}

#endif
