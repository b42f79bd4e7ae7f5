/* Reading a journal that may be damaged, without changing it. SPDX-License-Identifier: MIT

   Role: walks all segments of a directory in order and hands out every whole record and every place
   where something is wrong, in the order of the journal. ef_wal_open stops at the first damage;
   this goes on: records stand at multiples of 8, and their checksum covers segment and offset, so
   that a right checksum at the right place is proof. Owns: a window of a few MiB, never a whole
   segment. Talks to: a storage, borrowed, of which it lists, opens, sizes and reads alone. One
   thread. On failure: a page that can't be read is reported and taken as zeros; the walk goes on.

   What it can't see: segments missing before the oldest one (cleaning removes those too) or behind
   the newest one, and a last group that rotted: nothing tells that from a torn one. */
#ifndef EF_SCAN_H
#define EF_SCAN_H

#include "record.h"
#include "storage.h"

/* The kinds, and their names in what the tool prints. */
#define EF_FINDING_TABLE(X)                                                                        \
    X (DAMAGED, "damaged")       /* bytes that are no record */                                    \
    X (INCOMPLETE, "incomplete") /* a group without all of its records, or without its commit */   \
    X (GAP, "gap")               /* groups are missing where the bytes show no damage */           \
    X (MISSING, "missing")       /* segments are missing */                                        \
    X (HEADER, "header")         /* a segment's header; its records are read all the same */       \
    X (MISPLACED, "misplaced")   /* another segment's or another journal's file */                 \
    X (UNREADABLE, "unreadable") /* the storage answers with an error */                           \
    X (NEWER, "newer")           /* a format that this program doesn't know; the walk ends */      \
    X (TORN, "torn")             /* the newest segment's tail: never confirmed, so no loss */      \
    X (UNBORN, "unborn")         /* a newest segment that never held anything, so no loss */
typedef enum {
#define X(name, text) EF_FINDING_##name,
    EF_FINDING_TABLE (X)
#undef X
        EF_FINDING_COUNT
} ef_finding_kind_t;
const char *ef_finding_name (ef_finding_kind_t kind);

/* True where the finding means that something confirmed may be lost. */
bool ef_finding_is_loss (ef_finding_kind_t kind);

typedef struct {
    ef_finding_kind_t kind;
    uint32_t segment;
    uint64_t offset; /* of the range in the segment */
    uint64_t bytes;
    uint64_t first_seq; /* groups that are lost wholly or in part; 0: not known */
    uint64_t last_seq;  /* 0: not known */
    char text[160];     /* what is wrong, in words */
} ef_finding_t;

/* What the walk tells. Any of the functions may be NULL. */
typedef struct {
    /* A whole record, COMMIT included; borrowed for the call. The records of a group come before
       anybody knows its end: who acts on them holds them until the COMMIT, a record of another seq
       or, where it finds TORN, throws them away. Non-zero ends the walk. */
    int (*record) (void *arg, const ef_record_t *record, uint64_t seq);
    void (*finding) (void *arg, const ef_finding_t *finding);
    void (*progress) (void *arg, uint64_t done, uint64_t total); /* bytes */
    void *arg;
    uint32_t from_segment; /* older ones are left out; 0: none are */
} ef_scan_t;

typedef struct {
    uint32_t segments;
    uint64_t groups;  /* whole ones */
    uint64_t records; /* COMMITs not counted */
    uint64_t bytes;   /* of the files */
    uint64_t losses;  /* findings that ef_finding_is_loss */
    uint64_t torn_bytes;
    bool is_newer;
} ef_scan_report_t;

/* Walks the journal. 0, or a negative errno where the directory can't be listed. */
EF_MUST_USE int ef_scan (ef_storage_t *storage, const ef_scan_t *user, ef_scan_report_t *report);

/* True where a file of this name is a segment. */
bool ef_scan_is_segment (const char *name, uint32_t *id);

#endif
