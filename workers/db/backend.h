/* What a database does for the handler `db`. SPDX-License-Identifier: MIT

   One thread uses a database: db_thread.c, which decides what to try again. A database says of a
   fault only what kind it is. Whatever it waits for ends by itself, or when the batch under way is
   no longer wanted (db_wait_t). */
#ifndef EF_DB_BACKEND_H
#define EF_DB_BACKEND_H

#include "map.h"

#include <stdatomic.h>

#define DB_LEDGER_STEP 2000 /* rows forgotten at a time: a few milliseconds */

typedef struct {
    char url[600];
    char table[2 * DB_NAME_BYTES];
    char columns[4000];
    char unique[300];
    char ledger[2 * DB_NAME_BYTES];
    char password_file[400];
    uint64_t remember_ms;
    uint32_t batch;
    uint32_t connect_timeout_ms;
    uint32_t statement_timeout_ms;
    uint32_t synchronous; /* db_synchronous_t */
    bool is_created;
} db_options_t;

typedef enum { DB_SYNCHRONOUS_FULL, DB_SYNCHRONOUS_NORMAL, DB_SYNCHRONOUS_OFF } db_synchronous_t;
#define DB_SYNCHRONOUS_NAMES "full|normal|off"

typedef enum {
    DB_FINE,
    DB_REFUSED, /* this row can never be written */
    DB_PERHAPS, /* one of the rows of the transaction can't, it isn't known which */
    DB_AGAIN,   /* nobody's fault: the same transaction may go well at once */
    DB_LATER,   /* it may go well after a while */
    DB_SLOW,    /* it took too long; fewer rows may not */
    DB_FULL,    /* it takes nothing more, until somebody does something */
    DB_LOST,    /* the connection is no more; a transaction's outcome may be unknown */
    DB_WRONG    /* table, column, permission, password: whoever set it up must do something */
} db_verdict_t;

typedef struct {
    db_verdict_t verdict;
    char code[32];
    char text[500];
} db_fault_t;

typedef enum { DB_ROW_WAITING, DB_ROW_WRITTEN, DB_ROW_REPEATED, DB_ROW_REFUSED } db_outcome_t;

typedef struct {
    db_key_t key;
    db_value_t *values; /* one a column; borrowed from the batch */
    db_outcome_t outcome;
    db_fault_t *fault; /* owned; of a refused one */
    void *job;         /* of the one who made it */
} db_row_t;

typedef struct {
    db_row_t *rows;
    uint32_t count;
    const ef_buf_t *arena; /* what the spans are in */
} db_batch_t;

typedef struct {
    int wake;                 /* an eventfd: look at is_unwanted, and at the queue */
    atomic_bool *is_unwanted; /* nobody waits for the batch under way */
} db_wait_t;

typedef struct {
    const char *name;
    /* Takes what the url says; connects to nothing. The map is borrowed and gets the classes of the
       real columns when it opens. NULL: why. */
    void *(*create) (const db_options_t *options, db_map_t *map, const db_wait_t *wait,
                     char error[512]);
    void (*destroy) (void **self_p);
    /* Connects, makes the tables where they are to be made, and looks at the columns. */
    int (*open) (void *self, db_fault_t *fault);
    void (*close) (void *self);
    bool (*is_open) (const void *self);
    /* One transaction. 0: every row has an outcome and it is durable; -1: none was written. */
    int (*write) (void *self, db_batch_t *batch, db_fault_t *fault);
    /* Whether it answers. */
    int (*ping) (void *self, db_fault_t *fault);
    /* Removes some of the ledger's rows from before that. Returns how many, or -1. */
    int (*forget) (void *self, uint64_t before_ms, db_fault_t *fault);
    /* "postgresql:host:port/database", "sqlite:file"; for its life. */
    const char *(*downstream) (const void *self);
} db_backend_t;

extern const db_backend_t db_sqlite;
extern const db_backend_t db_postgres;

/* Waits for a descriptor (-1: none), for a word from the other thread, or until the time is over;
   what it was woken by is looked at by everybody afterwards. Returns what happened to `file`. */
short db_wait (const db_wait_t *self, int file, short events, uint64_t most_ms);

/* Makes a fault of it. Returns -1. */
int db_blame (db_fault_t *fault, db_verdict_t verdict, const char *code, const char *text);
/* The row can't be written, and why. */
void db_refuse (db_row_t *row, const db_fault_t *fault);
/* Rows of one key: what is said of the first of them in a batch holds for its repeats. */
void db_settle_repeats (db_batch_t *batch);
bool db_is_same_key (const db_batch_t *batch, const db_row_t *a, const db_row_t *b);

static inline const char *
db_text_at (const db_batch_t *batch, db_span_t span) {
    return (const char *)batch->arena->data + span.at;
}

#endif
