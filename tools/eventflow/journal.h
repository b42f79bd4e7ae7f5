/* What the files of eventflow journal share. SPDX-License-Identifier: MIT */
#ifndef EF_CLI_JOURNAL_H
#define EF_CLI_JOURNAL_H

#include "../../broker/actors/dead_log.h"
#include "../../broker/core/log_records.h"
#include "../../broker/journal/scan.h"
#include "../../broker/journal/storage_read.h"
#include "../../proto/limits.h"
#include "cli.h"

#define DEAD_SUFFIX "_deadletter"

/* Record types of a dead-letter journal (dead_log.h). */
enum { DEAD_LETTER = 2, DEAD_LEAVING, DEAD_LEFT, DEAD_STATE };
#define DEAD_LETTER_HEADER  48
#define DEAD_LEAVING_HEADER 16
#define DEAD_STATE_HEADER   16

/* One journal that the command works on. */
typedef struct {
    char path[1400];
    char label[80]; /* as it is named in what is printed: "journal", "dead/email_deadletter" */
    bool is_dead;
    char topic[EF_TOPIC_NAME_BYTES]; /* of a dead-letter journal */
} place_t;

typedef struct {
    cli_t *cli;
    const char *directory;
    const char *kind; /* flags, NULL where they weren't given */
    const char *from;
    const char *types;
    const char *topic;
    const char *limit;
    const char *states;
    const char *output;
    bool is_quiet;
    bool has_progress;
    bool has_events;
    bool is_forced;
    bool is_data;    /* the directory is a broker's data directory */
    place_t *places; /* owned; the main journal first */
    uint32_t place_count;
    uint64_t told_ms; /* when progress was last told */
    const char *progress_label;
} journal_t;

/* The names of the topics' indices in one epoch of the main journal. */
typedef struct {
    uint32_t epoch;
    char (*names)[EF_TOPIC_NAME_BYTES]; /* owned, EF_TOPICS_MAX of them; "": not known */
} topic_map_t;
void topic_map_init (topic_map_t *self);
void topic_map_free (topic_map_t *self);
/* Follows the record: a new epoch forgets all names, a TOPIC tells one. */
void topic_map_take (topic_map_t *self, const ef_record_t *record);
/* NULL: no record has told it. */
const char *topic_map_name (const topic_map_t *self, uint32_t index);

/* How many topics a record of the main journal names (ENDS: one an item), and the index of each. */
uint32_t record_topics (const ef_record_t *record);
uint32_t record_topic (const ef_record_t *record, uint32_t place);
/* True where a TOPIC record holds what it must. */
bool record_is_topic (const ef_record_t *record);

/* Follows the numbers in a journal's records and says, once damage was found, which are missing. */
typedef struct {
    char name[EF_TOPIC_NAME_BYTES];
    uint64_t next;   /* n, or m in a dead-letter journal; 0: not known yet */
    uint64_t damage; /* how much damage had been found when that was seen */
} followed_t;
typedef struct {
    const journal_t *journal;
    const place_t *place;
    topic_map_t map;
    followed_t *topics; /* owned */
    uint32_t count;
    uint64_t damage;
    bool is_newer;
} losses_t;
void losses_init (losses_t *self, const journal_t *journal, const place_t *place);
void losses_free (losses_t *self);
void losses_record (losses_t *self, const ef_record_t *record);
void losses_finding (losses_t *self, const ef_finding_t *finding);

/* A line of `key=value` pairs or a JSON object, in one way. */
typedef struct {
    ef_buf_t buf;
    bool is_json;
} line_t;
void line_begin (line_t *self, bool is_json, const char *head);
void line_uint (line_t *self, const char *key, uint64_t value);
void line_text (line_t *self, const char *key, const char *value, size_t size);
void line_date (line_t *self, const char *key, uint64_t unix_ms);
void line_value (line_t *self, const char *key, ef_span_t value); /* MessagePack, as JSON */
void line_raw (line_t *self, const char *text);
void line_print (line_t *self, FILE *out); /* ends it */

/* Appends an event as JSON with its closing brace taken off, so that more keys may follow. What
   isn't an event is printed as the bytes it is. */
void journal_event (ef_buf_t *out, ef_span_t event, uint64_t accepted_ms, uint32_t attempts,
                    ef_span_t history);

/* For ef_scan_t. */
void journal_progress (void *arg, uint64_t done, uint64_t total);
/* A journal opened for reading alone; NULL after saying why. */
ef_storage_t *journal_storage (const place_t *place);
/* Replays the main journal, and, where `has_dead`, what the dead-letter journals say of it, into a
   new core. `root` holds journal/ and dead/. NULL: `error` says why. */
typedef struct {
    ef_storage_t *storage; /* owned; of the main journal */
    ef_wal_t *wal;         /* owned */
    ef_core_t *core;       /* owned */
    ef_wal_report_t report;
} replayed_t;
int journal_replay (replayed_t *self, ef_storage_t *storage, char error[512]);
void journal_replay_free (replayed_t *self);
ef_core_t *journal_core_new (void);
ef_wal_options_t journal_wal_options (void);

int journal_verify (journal_t *self);
int journal_inspect (journal_t *self);
int journal_export (journal_t *self);
int journal_salvage (journal_t *self, const char *target);

#endif
