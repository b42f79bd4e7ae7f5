/* A connection to PostgreSQL on which nothing waits for ever. SPDX-License-Identifier: MIT

   Role: libpq without blocking: every wait has a deadline and ends when the batch under way isn't
   wanted any more (its statement is then cancelled). Owns: the connection. On failure: what can't
   be known any more (no answer, a broken connection) is DB_LOST and closes it. libpq alone resolves
   host names, and the resolver has time limits of its own. */
#ifndef EF_DB_LINK_H
#define EF_DB_LINK_H

#include "backend.h"

#include <libpq-fe.h>

typedef struct {
    const db_wait_t *wait; /* borrowed */
    PGconn *connection;    /* owned; NULL: closed */
} db_link_t;

EF_MUST_USE int db_link_open (db_link_t *self, const char *const *keywords,
                              const char *const *values, uint64_t most_ms, db_fault_t *fault);
void db_link_close (db_link_t *self);

/* Texts to go with a statement as $1, $2, …: arrays of text in PostgreSQL's binary form. */
typedef struct {
    const ef_buf_t *arrays;
    int count;
} db_params_t;

/* Runs a statement (several, with semicolons, where there are no `params`). The last one's result,
   owned, or NULL. */
EF_MUST_USE PGresult *db_link_run (db_link_t *self, const char *sql, const db_params_t *params,
                                   uint64_t most_ms, db_fault_t *fault);
/* The same where the result doesn't matter. 0 or -1. */
EF_MUST_USE int db_link_do (db_link_t *self, const char *sql, uint64_t most_ms, db_fault_t *fault);

/* "postgresql:host:port/database" of what a url and the environment say, without asking anybody. 0,
   or -1: the url can't be read. */
EF_MUST_USE int db_link_name (const char *url, char name[256], char error[512]);

/* Which kind of fault an SQLSTATE is. */
void db_link_judge (const char *sqlstate, const char *text, db_fault_t *fault);

#endif
