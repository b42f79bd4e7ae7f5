/* Tests of the journal alone against a model of what it must hold. SPDX-License-Identifier: MIT

   truth_t knows every group that was appended and what became of it; world_t is a journal, its
   spares, its checkpoints and a dead-letter journal on a simulated disk, with the operations that
   change them and the truth together. The modes (cuts_power.c, cuts_small.c, cuts_flips.c,
   cuts_errors.c) break the disk in their own way and call cuts_recover, which judges. */
#ifndef EF_SIM_CUTS_H
#define EF_SIM_CUTS_H

#include "../../broker/actors/dead_log.h"
#include "../../broker/journal/checkpoint.h"
#include "../../broker/journal/wal.h"
#include "disk.h"

#define CUTS_RECORD      2 /* type of the model's records in the journal */
#define CUTS_NOTE        3 /* and in checkpoints */
#define CUTS_CHECKPOINTS 8 /* remembered; the journal keeps two */
#define CUTS_LETTERS     4096
#define CUTS_LEAVINGS    64

/* A record's bytes follow from its group's number, which is never used twice, and its place. */
typedef struct {
    uint64_t serial;
    uint32_t segment;
    uint32_t records;
    uint32_t epoch;
    uint32_t large; /* bytes that each record has beside the usual */
} cut_group_t;

typedef struct {
    uint32_t segment; /* 0: none */
    uint64_t serial;
    uint32_t records;
    bool is_ended; /* its end was confirmed */
} cut_checkpoint_t;

typedef struct {
    cut_group_t *groups; /* owned: those that are there, oldest first */
    uint32_t count;
    uint32_t capacity;
    bool has_unsure;      /* the last of them wasn't confirmed */
    uint32_t unsure_drop; /* segment whose removal wasn't confirmed */
    uint32_t oldest;      /* segment; 0: none */
    uint64_t next_seq;    /* of the group behind the last one */
    uint64_t serials;     /* used up */
    cut_checkpoint_t checkpoints[CUTS_CHECKPOINTS];
    uint32_t checkpoint_count;
} truth_t;

/* A letter and a leaving as they are with and without the group that wasn't confirmed. */
typedef struct {
    bool is_now;
    bool was;
    uint64_t b_now; /* it leaves with this; 0: it stays */
    uint64_t b_was;
    uint32_t mark_now; /* how often it was superseded */
    uint32_t mark_was;
} cut_letter_t;

typedef struct {
    ef_dead_log_t *log;    /* owned; NULL: closed */
    cut_letter_t *letters; /* owned, by m */
    uint64_t highest_m;
    uint64_t highest_m_was;
    uint64_t highest_b;
    uint64_t highest_b_was;
    uint64_t leaving[CUTS_LEAVINGS]; /* b that may be told to have left */
    uint32_t leaving_count;
    bool is_full;   /* the last commit is to be called again */
    bool has_ended; /* an error ended it */
} dead_model_t;

typedef struct {
    uint64_t seed;
    sim_random_t random; /* what is done */
    sim_random_t chance; /* what the disk does */
    sim_disk_t *disk;
    ef_storage_t *storage;
    ef_wal_t *wal;
    ef_spares_t spares;
    ef_checkpoint_writer_t writer;
    cut_checkpoint_t under_way; /* what the writer has */
    truth_t truth;
    dead_model_t dead;
    ef_buf_t buf;
    uint64_t segment_bytes;
    bool has_spares;
    bool has_dead;
    bool has_ended; /* an error ended the journal */
    bool drop_has_failed;
} world_t;

typedef enum {
    CUT_APPEND,
    CUT_BIG,
    CUT_ROLL,
    CUT_SPARE,
    CUT_HINT,
    CUT_CHECKPOINT_BEGIN,
    CUT_CHECKPOINT_ADD,
    CUT_CHECKPOINT_END,
    CUT_CHECKPOINT, /* all of one */
    CUT_DROP,
    CUT_DEAD_ADD,
    CUT_DEAD_LEAVE,
    CUT_DEAD_LEFT,
    CUT_DEAD_COMMIT,
    CUT_KIND_COUNT
} cut_kind_t;

typedef struct {
    const char *mode;
    uint64_t start;
    uint64_t count;
    uint32_t operations;
    uint32_t masks;
    bool fills_sectors;
    bool has_seed;
} cuts_options_t;

typedef struct {
    uint64_t rounds;
    uint64_t cuts;   /* with three unsynced sectors or more */
    uint64_t fewer;  /* with less */
    uint64_t inside; /* in a recovery */
    uint64_t targets[CUT_KIND_COUNT];
    uint64_t refused;
    uint64_t harmless;
    uint64_t shorter;
    uint64_t checkpoints; /* recoveries from one */
    uint64_t unsynced;    /* sectors, in sum */
} cuts_totals_t;

/* Says what is wrong, and ends the round. */
void cuts_fail (const char *format, ...) __attribute__ ((noreturn)) EF_PRINTF (1, 2);

/* What is being tried, to be told with a failure. */
void cuts_about (const char *format, ...) EF_PRINTF (1, 2);

/* cuts_truth.c */
void cuts_note (truth_t *truth, const cut_group_t *group, bool is_sure);
void cuts_put_record (ef_buf_t *buf, uint8_t type, const cut_group_t *group, uint32_t index);
bool cuts_is_true (const ef_record_t *record, const cut_group_t *group, uint32_t index);
/* What recovery hands out, held against the truth as it comes. */
typedef struct {
    const truth_t *truth;
    uint32_t from_segment;
    uint32_t group; /* place in the truth */
    uint32_t index;
    uint64_t records;
    const char *wrong; /* NULL: nothing */
} reading_t;
int cuts_each (void *arg, const ef_record_t *record);
/* Takes over what recovery found out about what wasn't sure; fails where something is missing. */
void cuts_settle (truth_t *truth, const reading_t *reading, const ef_wal_t *wal);
/* True where a checkpoint that was found is one that was completed. */
bool cuts_check_checkpoint (const truth_t *truth, ef_storage_t *storage,
                            const ef_checkpoint_info_t *info, bool must_be_newest);
void cuts_copy_truth (truth_t *to, const truth_t *from);

/* cuts_world.c */
void cuts_world_init (world_t *self, uint64_t seed);
void cuts_world_free (world_t *self);
/* 0 or a negative errno; what was done is in the truth. */
int cuts_do (world_t *self, cut_kind_t kind);
/* Like a process that is gone: what is in memory is, the disk stays. */
void cuts_close (world_t *self);
/* Opens all and judges it. False: a call failed, nothing is open. */
bool cuts_recover (world_t *self, bool uses_checkpoint, cuts_totals_t *totals);

/* cuts_dead.c */
int cuts_dead_do (world_t *self, cut_kind_t kind);
bool cuts_dead_recover (world_t *self);

/* The modes run one round; they fail by cuts_fail. */
void cuts_power (const cuts_options_t *options, uint64_t seed, cuts_totals_t *totals);
uint64_t cuts_small_count (const cuts_options_t *options);
void cuts_small (const cuts_options_t *options, uint64_t number, cuts_totals_t *totals);
void cuts_flips (const cuts_options_t *options, uint64_t seed, cuts_totals_t *totals);
void cuts_errors (const cuts_options_t *options, uint64_t seed, cuts_totals_t *totals);

#endif
