/* The log's inside, shared by wal.c (appending) and wal_open.c (recovery).
   SPDX-License-Identifier: MIT */
#ifndef EF_WAL_PRIVATE_H
#define EF_WAL_PRIVATE_H

#include "../base/crc32c.h"
#include "wal.h"

#define HINT_NAME  "hint"
#define HINT_MAGIC "EFHINT\r\n"
#define HINT_BYTES 64
#define HINT_CRC   36 /* covers bytes 0 to 35 */

struct ef_wal_s {
    ef_storage_t *storage; /* borrowed */
    ef_wal_options_t options;
    uint8_t journal_id[16];
    int file;        /* the open segment, -1: none yet */
    uint32_t oldest; /* segment ids; 0: none */
    uint32_t newest;
    uint32_t epoch;
    uint64_t offset;   /* where the next group goes */
    uint64_t reserved; /* bytes that the open segment's file has */
    uint64_t written;  /* up to here its blocks were written, be it with zeros */
    uint64_t next_seq;
    uint64_t hinted_seq;
    uint64_t *sizes; /* owned: found at open */
    uint32_t size_count;
    uint32_t chain;    /* value behind the last group */
    bool segment_used; /* the open segment holds a group */
    int error;         /* negative errno; set once, for good */
};

#endif
