/* The thread that has the database. SPDX-License-Identifier: MIT

   Role: takes events in, gathers what has come while a transaction was under way into the next one,
   decides what is tried again, and hands back what became of each event. Owns: the database, the
   thread, the jobs between put and take. Functions are for the worker's loop, none of them waits.
   Invariants: a job is in the queue, in the batch or finished; the batch's jobs are the thread's,
   but for `is_stopped`, which is written under the lock. On failure: a database that isn't there is
   waited for, `connect_timeout` long, where it was there before; then the batch fails, the queue
   goes back untried, and nothing more is taken until a probe finds it well. */
#ifndef EF_DB_THREAD_H
#define EF_DB_THREAD_H

#include "backend.h"
#include "../handler.h"

typedef struct db_thread_s db_thread_t;

/* An event on its way. */
typedef struct db_job_s {
    struct db_job_s *next;
    uint64_t tag;
    uint64_t n;
    uint64_t accepted_ms;
    uint32_t attempt;
    bool is_stopped;
    stop_reason_t reason;      /* why */
    eventflow_result_t result; /* what became of it */
    int64_t retry_ms;
    char code[32]; /* of a failure */
    char *text;    /* owned, the same; NULL: none */
    size_t event_bytes;
    size_t errors_bytes;
    uint8_t bytes[]; /* the event, then the errors of earlier attempts */
} db_job_t;

void db_job_free (db_job_t *job);

/* The options are borrowed. NULL: `error` says why. */
db_thread_t *db_thread_new (const db_options_t *options, char error[512]);
void db_thread_destroy (db_thread_t **self_p);

void db_thread_put (db_thread_t *self, const eventflow_delivery_t *delivery);
/* What was put may begin. */
void db_thread_flush (db_thread_t *self);
/* Takes a job out of the queue, for the caller to answer and free; NULL: it is under way, and ends
   as it ends, soon where the whole batch was stopped. */
db_job_t *db_thread_stop (db_thread_t *self, uint64_t tag, stop_reason_t reason);
/* Readable: there is something to take. */
int db_thread_fd (const db_thread_t *self);
/* What has finished: a list, the caller's. NULL: nothing. */
db_job_t *db_thread_take (db_thread_t *self);

void db_thread_probe (db_thread_t *self);
/* True: something is to be told of the database's health: NULL, or why it isn't well (copied). */
bool db_thread_health (db_thread_t *self, bool *is_well, char reason[200]);
const char *db_thread_downstream (const db_thread_t *self);

#endif
