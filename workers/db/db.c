/* The handler `db`: a row for every event. SPDX-License-Identifier: MIT

   Role: hands events to the thread that has the database (thread.h) and answers with what became
   of them. Owns: that thread. One thread: the runtime's. */
#include "db.h"
#include "../../proto/limits.h"
#include "text.h"
#include "thread.h"
#include "../runtime.h"

#include <stdio.h>
#include <stdlib.h>

#define DAY         86400000.0
#define DB_IN_HAND  2000 /* two batches and what is on its way to and fro */

#define ROW(member) FIELD (db_options_t, member)
static const setting_t s_rows[] = {
    {"url", &config_text, ROW (url), 0, 0, NULL, true,
     "sqlite:FILE, or as libpq has it: postgresql://USER@HOST:PORT/DATABASE"},
    {"table", &config_text, ROW (table), 0, 0, NULL, true, "where rows go; SCHEMA.TABLE too"},
    {"columns", &config_text, ROW (columns), 0, 0, NULL, true,
     "NAME=PATH TYPE, with commas between; empty: see above"},
    {"create", &config_boolean, ROW (is_created), 0, 0, NULL, true,
     "makes the tables where they aren't there"},
    {"ledger", &config_text, ROW (ledger), 0, 0, NULL, true,
     "the table that knows which events were written"},
    {"remember", &config_duration, ROW (remember_ms), 1000, 3650 * DAY, NULL, true,
     "how long it knows them"},
    {"unique", &config_text, ROW (unique), 0, 0, NULL, true,
     "columns with a unique index by which a repeat is known instead of the ledger"},
    {"batch", &config_number, ROW (batch), 1, 10000, NULL, true, "events of a transaction"},
    {"connect_timeout", &config_duration, ROW (connect_timeout_ms), 10, DAY, NULL, true,
     "of a connection; a database that goes away is waited for as long"},
    {"statement_timeout", &config_duration, ROW (statement_timeout_ms), 10, DAY, NULL, true,
     "of a statement, and of a lock that it waits for"},
    {"synchronous", &config_choice, ROW (synchronous), 0, 0, DB_SYNCHRONOUS_NAMES, true,
     "of SQLite: with full what is done survives a power cut"},
    {"password_file", &config_text, ROW (password_file), 0, 0, NULL, true,
     "its first line is the password; else $PGPASSWORD or ~/.pgpass"},
};
static const settings_t s_settings = {s_rows, sizeof s_rows / sizeof s_rows[0]};

static const char s_help[] =
    "Writes each event as a row of a table, many in one transaction, each exactly once: which "
    "events\n"
    "were written stands in a ledger beside the table, changed by the same transaction.\n"
    "\n"
    "--columns says what goes into a row: NAME=PATH, and TYPE where the table is to be made. PATH "
    "is\n"
    "payload, payload.user.name, payload.items.0, meta.NAME, event (the whole as JSON), id, "
    "topic,\n"
    "type, key, user, downstream, n, attempt, time (the producer's, else when it was accepted),\n"
    "accepted; and of the copy of an event that has ended (a topic with on_done = db or on_dead = "
    "db,\n"
    "of which topic, n and event tell the original): state, reason, attempts, worker, ended, "
    "errors,\n"
    "result. Without --columns: id, topic, n, type, time, state, reason, attempts, worker, ended,\n"
    "errors, result, event.\n"
    "\n"
    "A repeat has the same topic, id and payload (a copy: the same topic, id, number and state). "
    "What\n"
    "breaks a constraint (CONSTRAINT) or is no value of its column (TYPE) becomes a dead letter; "
    "the\n"
    "others of its transaction are written. Tried again: DEADLOCK, SERIALIZATION (at once, five "
    "times),\n"
    "LOCKED, TIMEOUT, CONNECT, READ_ONLY, FULL, IO; and SETUP (no such table, column, right, "
    "password)\n"
    "every 10 s, until somebody has put it right. While the database is away nothing new is "
    "taken.\n"
    "\n"
    "examples:\n"
    "  eventflow-worker db --topic db\n"
    "  eventflow-worker db --topic db --url postgresql://app@localhost/shop --table orders \\\n"
    "      --columns 'id=id text primary key, user_id=payload.user.id bigint, "
    "amount=payload.amount\n"
    "                 numeric(10,2), at=time'\n"
    "  topic email, with on_done = db in its settings: every mail is kept with its result:\n"
    "      sqlite3 events.db 'SELECT state, attempts, errors FROM events'\n";

typedef struct {
    runtime_t *runtime;  /* borrowed */
    db_thread_t *thread; /* owned */
    bool is_well;
    bool is_new; /* something was put since the last flush */
} db_t;

static void
s_defaults (void *arg) {
    db_options_t *options = arg;
    memset (options, 0, sizeof *options);
    snprintf (options->url, sizeof options->url, "sqlite:events.db");
    snprintf (options->table, sizeof options->table, "events");
    snprintf (options->ledger, sizeof options->ledger, "eventflow_done");
    options->is_created = true;
    options->remember_ms = 7 * (uint64_t)DAY;
    options->batch = 1000;
    options->connect_timeout_ms = 5000;
    options->statement_timeout_ms = 10000;
}

static bool
s_is_table (const char *name) {
    size_t schema = strcspn (name, ".");
    const char *table = name[schema] ? name + schema + 1 : name;
    return schema > 0 && schema < DB_NAME_BYTES && table[0] && strchr (table, '.') == NULL &&
           strlen (table) < DB_NAME_BYTES;
}

static int
s_check (const void *arg, char error[512]) {
    const db_options_t *options = arg;
    static db_map_t map; /* large, and looked at once */
    char name[DB_NAME_BYTES];
    bool is_known = strncmp (options->url, "sqlite:", 7) == 0 ||
                    strncmp (options->url, "postgresql://", 13) == 0 ||
                    strncmp (options->url, "postgres://", 11) == 0;
    if (!is_known) {
        snprintf (error, 512, "url: expected sqlite:FILE or postgresql://USER@HOST:PORT/DATABASE");
        return -1;
    }
    if (!s_is_table (options->table) || !s_is_table (options->ledger)) {
        snprintf (error, 512, "table %.60s, ledger %.60s: expected TABLE or SCHEMA.TABLE",
                  options->table, options->ledger);
        return -1;
    }
    if (db_map_read (&map, options->columns, error)) {
        return -1;
    }
    for (const char *at = options->unique; (at = db_next_name (at, name)) != NULL;) {
        if (!db_map_has (&map, name)) {
            snprintf (error, 512, "unique: %s is none of the columns", name);
            return -1;
        }
    }
    return 0;
}

static void
s_destroy (void **self_p) {
    db_t *self = *self_p;
    db_thread_destroy (&self->thread);
    free (self);
    *self_p = NULL;
}

static void *
s_create (const void *options, runtime_t *runtime, char error[512]) {
    db_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->runtime = runtime;
    self->is_well = true;
    self->thread = db_thread_new (options, error);
    if (self->thread == NULL) {
        free (self);
        return NULL;
    }
    return self;
}

static eventflow_result_t
s_handle (void *arg, const eventflow_delivery_t *delivery) {
    db_t *self = arg;
    if (!self->is_well) {
        return EVENTFLOW_RELEASE; /* it came before the broker had heard */
    }
    db_thread_put (self->thread, delivery);
    self->is_new = true;
    return EVENTFLOW_LATER;
}

static void
s_flush (void *arg) {
    db_t *self = arg;
    if (self->is_new) {
        self->is_new = false;
        db_thread_flush (self->thread);
    }
}

static const char *
s_downstream (const db_t *self) {
    const char *said = runtime_downstream (self->runtime);
    return said ? said : db_thread_downstream (self->thread);
}

static void
s_answer (db_t *self, db_job_t *job) {
    eventflow_answer_t words = {.retry_ms = -1};
    eventflow_result_t result = job->result;
    bool is_failed = result == EVENTFLOW_RETRY;
    if (is_failed && job->is_stopped) {
        result = runtime_stop_words (job->reason, &words);
    } else if (job->text) {
        words.code = job->code;
        words.text = job->text;
        words.retry_ms = job->retry_ms;
    }
    words.downstream = s_downstream (self);
    runtime_answer (self->runtime, job->tag, result, &words);
    db_job_free (job);
}

static void
s_stop (void *arg, uint64_t tag, stop_reason_t reason) {
    db_t *self = arg;
    db_job_t *job = db_thread_stop (self->thread, tag, reason);
    if (job) {
        job->is_stopped = true;
        job->reason = reason;
        s_answer (self, job);
    }
}

static nfds_t
s_polls (void *arg, struct pollfd *items, nfds_t most, int *timeout_ms) {
    const db_t *self = arg;
    (void)timeout_ms;
    if (most == 0) {
        return 0;
    }
    items[0] = (struct pollfd){db_thread_fd (self->thread), POLLIN, 0};
    return 1;
}

static void
s_step (void *arg) {
    db_t *self = arg;
    char reason[200];
    bool is_well;
    db_job_t *job = db_thread_take (self->thread);
    if (db_thread_health (self->thread, &is_well, reason)) {
        self->is_well = is_well;
        if (is_well) {
            runtime_healthy (self->runtime);
        } else {
            runtime_unhealthy (self->runtime, reason);
        }
    }
    while (job) {
        db_job_t *next = job->next;
        s_answer (self, job);
        job = next;
    }
}

static void
s_probe (void *arg) {
    db_t *self = arg;
    db_thread_probe (self->thread);
}

const handler_t handler_db = {.name = "db",
                              .summary = "writes events into a table of SQLite or PostgreSQL",
                              .help = s_help,
                              .settings = &s_settings,
                              .options_bytes = sizeof (db_options_t),
                              .concurrency = DB_IN_HAND,
                              .defaults = s_defaults,
                              .check = s_check,
                              .create = s_create,
                              .destroy = s_destroy,
                              .handle = s_handle,
                              .stop = s_stop,
                              .polls = s_polls,
                              .step = s_step,
                              .flush = s_flush,
                              .probe = s_probe};
