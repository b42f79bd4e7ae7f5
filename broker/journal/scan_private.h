/* The inside of a scan, shared by scan.c (the walk) and scan_window.c (reading).
   SPDX-License-Identifier: MIT */
#ifndef EF_SCAN_PRIVATE_H
#define EF_SCAN_PRIVATE_H

#include "scan.h"
#include "wal_private.h"

typedef struct {
    ef_storage_t *storage; /* borrowed */
    const ef_scan_t *user; /* borrowed */
    ef_scan_report_t *report;
    uint32_t *ids; /* owned, ascending */
    size_t count;
    uint64_t total; /* bytes of all segments */
    uint64_t done;  /* of them, those of finished segments */
    bool is_ended;  /* the user or a newer format says so */

    /* The segment being read. */
    uint32_t id;
    int file;
    uint64_t size;
    uint32_t epoch;    /* 0: its header can't be read */
    uint64_t next_of;  /* first seq of the segment behind, 0: not known */
    uint64_t told_end; /* unreadable pages are told up to here */
    bool is_last;

    uint8_t *window; /* owned */
    size_t capacity;
    uint64_t window_at; /* offset of window[0] in the segment */
    size_t filled;

    /* What the next group must be. */
    bool has_journal;
    uint8_t journal_id[16];
    uint64_t hinted_seq; /* this group was synced, 0: nothing is known */
    bool is_end_told;    /* what the newest segment ends in */
    uint64_t next_seq;   /* 0: not known */
    bool knows_chain;
    uint32_t chain;

    /* The group under way. */
    bool in_group;
    bool is_holed; /* something of it may be lost */
    uint64_t group_seq;
    uint64_t group_at;
    uint32_t group_records;
} scan_t;

/* Tells the user; the segment is the one being read where the finding names none. */
void scan_tell (scan_t *self, ef_finding_t finding, const char *format, ...) EF_PRINTF (3, 4);

/* The bytes at an offset, `want` of them or up to the file's end; borrowed until the next call. */
const uint8_t *scan_bytes (scan_t *self, uint64_t offset, uint64_t want, size_t *have);

/* The head of a whole record at an offset, or NULL; borrowed until the next call. */
const uint8_t *scan_record (scan_t *self, uint64_t offset);

/* The first whole record from `offset` on whose seq is at or above `least`; 0: none. */
uint64_t scan_find (scan_t *self, uint64_t offset, uint64_t least);

/* Where the last byte that isn't zero ends, from `offset` on; `offset`: there is none. */
uint64_t scan_data_end (scan_t *self, uint64_t offset);

#endif
