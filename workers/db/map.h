/* Columns of a table, and what of an event goes into them. SPDX-License-Identifier: MIT

   Role: reads `columns = "name=path type, ..."` and takes the values of a row out of an event.
   Pure: no database is asked. Invariants: a value's text is UTF-8 without NUL bytes, its bytes are
   as they came; what can't be either is refused, for that event only. */
#ifndef EF_DB_MAP_H
#define EF_DB_MAP_H

#include "../../proto/event.h"

#define DB_COLUMNS_MAX 100 /* PostgreSQL takes 1,600, but a statement of so many isn't a row's */
#define DB_NAME_BYTES  64  /* PostgreSQL cuts longer names, and then means another one */

/* How a value is to look for a column's type. */
typedef enum {
    DB_CLASS_TEXT,
    DB_CLASS_JSON,
    DB_CLASS_BYTES,
    DB_CLASS_TIME,
    DB_CLASS_INTEGER,
    DB_CLASS_NUMBER,
    DB_CLASS_BOOLEAN,
    DB_CLASS_OTHER /* text that the database reads in its own way */
} db_class_t;

/* What kind of thing a source is, for columns that are made. */
typedef enum { DB_SOURCE_NAME, DB_SOURCE_COUNT, DB_SOURCE_DATE, DB_SOURCE_VALUE } db_source_kind_t;

typedef struct {
    char name[DB_NAME_BYTES];
    char type[80];       /* as it was given; empty: by the source */
    char path[200];      /* behind the source's name, without its dot; empty: all of it */
    uint32_t source;     /* of the table in source.c */
    db_class_t class_id; /* of the type, as far as it is known */
} db_column_t;

typedef struct {
    db_column_t columns[DB_COLUMNS_MAX];
    uint32_t count;
} db_map_t;

typedef enum {
    DB_KIND_NULL,
    DB_KIND_TRUTH,
    DB_KIND_WHOLE,
    DB_KIND_REAL,
    DB_KIND_TEXT,
    DB_KIND_BYTES
} db_kind_t;

/* Bytes in an arena that moves as it grows. */
typedef struct {
    size_t at;
    uint32_t size;
} db_span_t;

typedef struct {
    db_kind_t kind;
    union {
        int64_t whole; /* a truth too: 0 or 1 */
        double real;
        db_span_t span; /* of a text or bytes */
    };
} db_value_t;

/* What became of another event, where this one is its copy (SPECIFICATION.md, section 11). */
typedef struct {
    ef_span_t topic; /* data NULL: this isn't a copy */
    ef_span_t state;
    ef_span_t reason;
    ef_span_t worker;
    ef_span_t errors; /* MessagePack */
    ef_span_t result; /* the same */
    int64_t n;
    int64_t at_ms;
    int64_t attempts;
} db_ended_t;

/* An event as a row sees it; borrowed from its bytes. */
typedef struct {
    ef_event_t event;
    db_ended_t ended;
    uint64_t tag;
    uint64_t n;           /* 0: not told */
    uint64_t accepted_ms; /* when it was accepted, or about that */
    uint32_t attempt;
    ef_span_t errors; /* of earlier attempts; MessagePack, may be empty */
} db_event_t;

/* By what a repeat is known: in the arena. */
typedef struct {
    db_span_t topic;
    db_span_t id;
    db_span_t mark;
} db_key_t;

/* Reads `columns`; empty text: the columns that there are without it. 0, or -1 and why. */
EF_MUST_USE int db_map_read (db_map_t *self, const char *text, char error[512]);
/* Whether the table has a column called so. */
bool db_map_has (const db_map_t *self, const char *name);
db_source_kind_t db_map_kind (const db_column_t *column);
/* The class of a type by its name, as both databases and people call it. */
db_class_t db_class_of (const char *type);

/* Reads what the mapping needs of an event's bytes. 0, or -1: they are no event. */
EF_MUST_USE int db_event_read (db_event_t *self, const void *bytes, size_t size);
/* Appends to the arena what `self` is known by. */
void db_event_key (const db_event_t *self, ef_buf_t *arena, db_key_t *key);

/* Fills `values`, one a column; texts go into the arena. 0, or -1 and why this event can't be a
   row. */
EF_MUST_USE int db_map_row (const db_map_t *self, const db_event_t *event, ef_buf_t *arena,
                            db_value_t *values, char why[512]);

/* The value that a path ("user.name", "items.0") leads to. data NULL: it leads nowhere. */
ef_span_t db_find (ef_span_t value, const char *path);

#endif
