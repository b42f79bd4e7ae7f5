/* What lies where in a segment, in files beside it. SPDX-License-Identifier: MIT

   A sidecar is a help, never a source: what it says is looked up in the log and checked there; one
   that is missing, damaged or made for other bytes is made anew. A segment has one or more of them,
   each for a stretch of whole groups, so that the memory it takes to make one has a bound.

   File: the segment's 16 hex digits, ".", the part's number in 4 hex digits, ".idx", beside the
   segments. Pages of 4096 bytes, little-endian; each ends with
   4064  8  segment           4072  4  part          4076  4  number of the page
   4080 12  zero              4092  4  CRC-32C of the 4092 bytes before
   Page 0:
      0  8  magic "EFSIDE\r\n"                       8  4  version, 1
     12  4  1: the segment ends with this part      16 16  journal id
     32  8  offset in the segment where it begins   40  8  where it ends
     48  8  seq of its first group                  56  8  seq of the group behind it
     64  4  chain value before it                   68  4  behind it
     72  4  topics             76  4  ids           80  4  facts          84  4  zero
     88  8  earliest and       96  8  latest acceptance of an event in it, ms since 1970
   Then pages of topics, of ids, of facts, as many items to a page as it has room for:
   topic, 64 bytes:  0 56 name, padded with zeros   56 4 its number in the records   60 4 zero
   id, 16 bytes, sorted by (fingerprint, offset):
      0  8  fingerprint        8  4  offset of the record
     12  4  index in it, with EF_SIDECAR_COPY; EF_SIDECAR_BASE: the fingerprint is that of the
            record's base id, from which its events without an id of their own count on
   fact, 32 bytes, sorted by (class, topic, n, offset):
      0  8  n                  8  8  when, ms since 1970; 0: not known
     16  4  value             20  4  offset of the record
     24  2  index in it       26  2  number of the topic
     28  1  class             29  1  type of the record
     30  2  flags

   To change the format: raise EF_SIDECAR_VERSION; older files are made anew. */
#ifndef EF_SIDECAR_H
#define EF_SIDECAR_H

#include "record.h"
#include "storage.h"

#define EF_SIDECAR_VERSION    1
#define EF_SIDECAR_PAGE       4096
#define EF_SIDECAR_ROOM       4064 /* of a page, for items */
#define EF_SIDECAR_PARTS_MAX  1024 /* a segment of 1 GiB with nothing but the tiniest events */
#define EF_SIDECAR_NAME_BYTES 32
#define EF_SIDECAR_IDS_MAX    (1u << 20) /* of one part: 16 MiB of memory while it is made */
#define EF_SIDECAR_FACTS_MAX  (1u << 19) /* the same */

#define EF_SIDECAR_COPY       0x80000000u
#define EF_SIDECAR_BASE       0x40000000u
#define EF_SIDECAR_INDEX      0x0001ffffu

/* What a fact is about. In the first two it holds for n to n + value - 1, and those of one topic
   don't overlap; in POINTS for n alone, value being the attempts of an attempt or copy and the
   reason of a death; in PURGES for everything up to n. */
typedef enum {
    EF_FACT_EVENTS,
    EF_FACT_ENDS,
    EF_FACT_POINTS,
    EF_FACT_PURGES,
    EF_FACT_CLASSES
} ef_fact_class_t;
#define EF_FACT_RETURNED 1 /* flag: a copy that came back from the dead letters */
#define EF_FACT_INVALID  2 /* flag: a copy that was refused at ingress and is dead */

typedef struct {
    uint64_t n;
    uint64_t ms;
    uint32_t value;
    uint32_t offset;
    uint16_t index;
    uint16_t topic;
    uint8_t class;
    uint8_t type;
    uint16_t flags;
} ef_fact_t;

typedef struct {
    uint64_t print;
    uint32_t offset;
    uint32_t index;
} ef_sidecar_id_t;

typedef struct {
    char name[56];
    uint32_t number;
} ef_sidecar_topic_t;

/* A place between two groups of a segment. */
typedef struct {
    uint64_t offset;
    uint64_t seq;   /* of the group that begins here */
    uint32_t chain; /* before it */
} ef_group_place_t;

/* One part: in memory while it grows, or a file. */
typedef struct {
    uint32_t segment;
    uint32_t part;
    uint8_t journal_id[16];
    ef_group_place_t from;
    ef_group_place_t to;
    bool is_last;
    uint64_t first_ms; /* of acceptance; UINT64_MAX: no event lies in it */
    uint64_t last_ms;
    uint32_t topic_count;
    uint32_t id_count;
    uint32_t fact_count;
    ef_sidecar_topic_t *topics; /* owned; NULL in a file, as the next two */
    ef_sidecar_id_t *ids;
    ef_fact_t *facts;
    uint32_t topic_capacity;
    uint32_t id_capacity;
    uint32_t fact_capacity;
    uint32_t sorted_ids; /* of them, from the first on */
    uint32_t sorted_facts;
    ef_storage_t *storage; /* borrowed; of a file */
    int file;              /* -1: in memory */
    uint32_t page;         /* that is in `bytes`; 0: none */
    uint8_t *bytes;        /* owned */
    int error;             /* negative errno; -EBADMSG: a page isn't what it should be */
} ef_sidecar_t;

void ef_sidecar_name (uint32_t segment, uint32_t part, char name[EF_SIDECAR_NAME_BYTES]);
/* True where a file of this name is a part of a segment's sidecar. */
bool ef_sidecar_is_name (const char *name, uint32_t *segment, uint32_t *part);
/* Removes all parts of a segment from `part` on. */
void ef_sidecar_remove (ef_storage_t *storage, uint32_t segment, uint32_t part);

/* The fingerprint of an id, keyed by the journal's id, which no peer knows. */
uint64_t ef_sidecar_print (const uint8_t journal_id[16], const void *id, size_t size);
/* That of a base id: without the last 16 bits, in which a record's events are counted. */
uint64_t ef_sidecar_base_print (const uint8_t journal_id[16], const uint8_t base[16]);

/* Begins a part in memory, `self` being zero or freed. The topics known so far are those of
   `before`, where it is given. */
void ef_sidecar_begin (ef_sidecar_t *self, const uint8_t journal_id[16], uint32_t segment,
                       uint32_t part, const ef_group_place_t *from, ef_sidecar_t *before);
/* Takes a record that stands in the log, whole and checked. */
void ef_sidecar_add (ef_sidecar_t *self, const ef_record_t *record);
/* True where the next group belongs into a part of its own. */
bool ef_sidecar_is_full (ef_sidecar_t *self);
/* Sorts what came since and joins what belongs together. */
void ef_sidecar_settle (ef_sidecar_t *self);
/* Writes it to its file. 0 or a negative errno, with nothing left behind. */
EF_MUST_USE int ef_sidecar_write (ef_sidecar_t *self, ef_storage_t *storage);

/* Opens a file that was made for a stretch of this journal's segment beginning at `from` (NULL: any
   stretch), `self` being zero or freed. 0; -EBADMSG: it is another's or damaged; or a negative
   errno. */
EF_MUST_USE int ef_sidecar_open (ef_sidecar_t *self, ef_storage_t *storage,
                                 const uint8_t journal_id[16], uint32_t segment, uint32_t part,
                                 const ef_group_place_t *from);
void ef_sidecar_free (ef_sidecar_t *self);
uint64_t ef_sidecar_memory (const ef_sidecar_t *self); /* bytes */

bool ef_sidecar_topic_at (ef_sidecar_t *self, uint32_t place, ef_sidecar_topic_t *topic);
/* The number of a topic in the records of this part; -1: it isn't in it. */
int ef_sidecar_topic (ef_sidecar_t *self, const char *name);
/* The name of a topic by its number. False: there is none. */
bool ef_sidecar_topic_name (ef_sidecar_t *self, uint32_t number, char name[56]);

/* Calls `each` for every id with this fingerprint until it answers other than 0; returns that. */
int ef_sidecar_ids (ef_sidecar_t *self, uint64_t print,
                    int (*each) (void *arg, const ef_sidecar_id_t *id), void *arg);
/* The same for every fact of a class and topic that holds for one of first to last, by n. */
int ef_sidecar_facts (ef_sidecar_t *self, ef_fact_class_t class, uint32_t topic, uint64_t first,
                      uint64_t last, int (*each) (void *arg, const ef_fact_t *fact), void *arg);
/* The place of the first fact that isn't before (class, topic, n, offset), and the fact at a place.
   In memory only behind ef_sidecar_settle. */
uint32_t ef_sidecar_seek (ef_sidecar_t *self, const ef_fact_t *key);
bool ef_sidecar_at (ef_sidecar_t *self, uint32_t place, ef_fact_t *fact);

#endif
