/* Rows into PostgreSQL. SPDX-License-Identifier: MIT

   Role: a transaction a batch. Two statements write it whole, whatever its size: the ledger takes
   the keys that it doesn't know yet and tells them, and the rows of these go into the table. Values
   travel as arrays of text and are cast to the types that the columns have.
   On failure: a fault of a row fails the statement, so the batch is undone and done again in
   halves, each behind a savepoint, down to the rows that can't be written; that costs a few
   statements for each of them, and only those. Statements are sent unprepared: parsing them is
   little beside hundreds of rows, and any pooler between us can be had. */
#include "link.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>

#define SPARE_MS 2000 /* a statement's own time-out comes first, and then its answer */

typedef struct {
    const db_options_t *options;
    db_map_t *map;
    char downstream[256];
    db_link_t link;
    ef_buf_t arrays[DB_COLUMNS_MAX]; /* of the statement under way */
    db_row_t **rows;                 /* the same: those not known yet; owned */
    uint32_t row_capacity;
    char begin[300];
    ef_buf_t insert; /* ends with NUL, as the others */
    ef_buf_t enter;
    ef_buf_t forget;
    ef_buf_t words; /* of its own statements */
} postgres_t;

/* ---- Setting up ---- */

static void *
s_create (const db_options_t *options, db_map_t *map, const db_wait_t *wait, char error[512]) {
    postgres_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->options = options;
    self->map = map;
    self->link.wait = wait;
    if (db_link_name (options->url, self->downstream, error)) {
        free (self);
        return NULL;
    }
    unsigned timeout = options->statement_timeout_ms;
    /* A lock's comes first, so that it is told from a statement that is slow. */
    snprintf (self->begin, sizeof self->begin,
              "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL statement_timeout = %u; "
              "SET LOCAL lock_timeout = %u; SET CONSTRAINTS ALL IMMEDIATE",
              timeout, timeout - timeout / 10);
    return self;
}

static void
s_close (void *arg) {
    postgres_t *self = arg;
    db_link_close (&self->link);
}

static void
s_destroy (void **self_p) {
    postgres_t *self = *self_p;
    s_close (self);
    for (size_t i = 0; i < DB_COLUMNS_MAX; i++) {
        ef_buf_free (&self->arrays[i]);
    }
    ef_buf_free (&self->insert);
    ef_buf_free (&self->enter);
    ef_buf_free (&self->forget);
    ef_buf_free (&self->words);
    free (self->rows);
    free (self);
    *self_p = NULL;
}

static bool
s_is_open (const void *arg) {
    return ((const postgres_t *)arg)->link.connection != NULL;
}

static const char *
s_downstream (const void *arg) {
    return ((const postgres_t *)arg)->downstream;
}

static uint64_t
s_patience (const postgres_t *self) {
    return (uint64_t)self->options->statement_timeout_ms + SPARE_MS;
}

static int
s_do (postgres_t *self, const char *sql, db_fault_t *fault) {
    return db_link_do (&self->link, sql, s_patience (self), fault);
}

/* The first line of the file. 0 or -1. */
static int
s_read_password (const char *path, char *password, int bytes, db_fault_t *fault) {
    char text[500];
    FILE *file = fopen (path, "r");
    bool is_read = file && fgets (password, bytes, file);
    if (file) {
        fclose (file);
    }
    if (!is_read) {
        snprintf (text, sizeof text, "password_file %.400s: can't be read", path);
        return db_blame (fault, DB_WRONG, "SETUP", text);
    }
    password[strcspn (password, "\r\n")] = 0;
    return 0;
}

/* What the url says comes before what we think good. */
static int
s_connect (postgres_t *self, db_fault_t *fault) {
    char timeout[16];
    char password[512] = "";
    bool has_file = self->options->password_file[0] != 0;
    snprintf (timeout, sizeof timeout, "%u", self->options->statement_timeout_ms);
    const char *keywords[] = {
        "application_name",    "tcp_user_timeout",           "keepalives_idle",
        "keepalives_interval", "keepalives_count",           "dbname",
        "client_encoding",     has_file ? "password" : NULL, NULL};
    const char *values[] = {"eventflow-worker", timeout, "10",     "5", "3",
                            self->options->url, "UTF8",  password, NULL};
    if (has_file &&
        s_read_password (self->options->password_file, password, sizeof password, fault)) {
        return -1;
    }
    int rc = db_link_open (&self->link, keywords, values, self->options->connect_timeout_ms, fault);
    explicit_bzero (password, sizeof password);
    return rc;
}

/* 1: there is such a table; 0: there is none; -1. */
static int
s_is_there (postgres_t *self, const char *name, db_fault_t *fault) {
    ef_buf_t sql = {0};
    db_put (&sql, "SELECT to_regclass(");
    db_put_literal_name (&sql, name);
    db_put (&sql, ")");
    PGresult *result = db_link_run (&self->link, db_finish (&sql), NULL, s_patience (self), fault);
    int is_there = result ? !PQgetisnull (result, 0, 0) : -1;
    PQclear (result);
    ef_buf_free (&sql);
    return is_there;
}

/* Whoever may not make tables may use one that is there; and two workers that would make it at once
   do so one after the other. */
static int
s_make_table (postgres_t *self, const char *name, void (*write) (const postgres_t *, ef_buf_t *),
              db_fault_t *fault) {
    ef_buf_t sql = {0};
    int is_there = s_is_there (self, name, fault);
    if (is_there == 0) {
        int rc = s_do (self, "BEGIN; SELECT pg_advisory_xact_lock(7308895133777716855)", fault);
        is_there = rc ? rc : s_is_there (self, name, fault);
        write (self, &sql);
        rc = is_there == 0 ? s_do (self, db_finish (&sql), fault) : 0;
        is_there = rc || is_there < 0 || s_do (self, "COMMIT", fault) ? -1 : 1;
    }
    ef_buf_free (&sql);
    return is_there < 0 ? -1 : 0;
}

static void
s_write_table (const postgres_t *self, ef_buf_t *sql) {
    static const char *const natural[] = {"text", "bigint", "timestamptz", "jsonb"};
    db_put (sql, "CREATE TABLE ");
    db_put_name (sql, self->options->table, true);
    db_put (sql, " (");
    for (uint32_t i = 0; i < self->map->count; i++) {
        const db_column_t *column = &self->map->columns[i];
        db_source_kind_t kind = db_map_kind (column);
        bool is_part = kind == DB_SOURCE_VALUE && column->path[0];
        db_put (sql, i ? ", " : "");
        db_put_name (sql, column->name, false);
        db_put (sql, " ");
        db_put (sql, column->type[0] ? column->type : is_part ? "text" : natural[kind]);
    }
    if (self->options->unique[0]) {
        db_put (sql, ", UNIQUE (");
        db_put_names (sql, self->options->unique);
        db_put (sql, ")");
    }
    db_put (sql, ")");
}

static void
s_write_ledger (const postgres_t *self, ef_buf_t *sql) {
    db_put (sql, "CREATE TABLE ");
    db_put_name (sql, self->options->ledger, true);
    db_put (sql,
            " (topic text NOT NULL, id text NOT NULL, mark text NOT NULL, time timestamptz NOT "
            "NULL DEFAULT now(), PRIMARY KEY (topic, id, mark)); CREATE INDEX ON ");
    db_put_name (sql, self->options->ledger, true);
    db_put (sql, " (time)");
}

/* The statement for rows, cast to what `types` says of the columns. */
static void
s_write_insert (postgres_t *self, const char *const *types) {
    ef_buf_t *sql = &self->insert;
    char text[40];
    ef_buf_clear (sql);
    db_put (sql, "INSERT INTO ");
    db_put_name (sql, self->options->table, true);
    for (uint32_t i = 0; i < self->map->count; i++) {
        db_put (sql, i ? ", " : " (");
        db_put_name (sql, self->map->columns[i].name, false);
    }
    db_put (sql, ") SELECT ");
    for (uint32_t i = 0; i < self->map->count; i++) {
        snprintf (text, sizeof text, "%sCAST(r.c%u AS ", i ? ", " : "", i);
        db_put (sql, text);
        db_put (sql, types[i]);
        db_put (sql, ")");
    }
    db_put (sql, " FROM unnest(");
    for (uint32_t i = 0; i < self->map->count; i++) {
        snprintf (text, sizeof text, "%s$%u::text[]", i ? ", " : "", i + 1);
        db_put (sql, text);
    }
    for (uint32_t i = 0; i < self->map->count; i++) {
        snprintf (text, sizeof text, "%sc%u", i ? ", " : ") AS r(", i);
        db_put (sql, text);
    }
    db_put (sql, ")");
    if (self->options->unique[0]) {
        db_put (sql, " ON CONFLICT (");
        db_put_names (sql, self->options->unique);
        db_put (sql, ") DO NOTHING");
    }
    (void)db_finish (sql);
}

static void
s_write_others (postgres_t *self) {
    const char *ledger = self->options->ledger;
    ef_buf_clear (&self->enter);
    db_put (&self->enter, "INSERT INTO ");
    db_put_name (&self->enter, ledger, true);
    db_put (&self->enter, " (topic, id, mark) SELECT * FROM unnest($1::text[], $2::text[], "
                          "$3::text[]) ON CONFLICT DO NOTHING RETURNING topic, id, mark");
    (void)db_finish (&self->enter);
    ef_buf_clear (&self->forget);
    db_put (&self->forget, "DELETE FROM ");
    db_put_name (&self->forget, ledger, true);
    db_put (&self->forget, " WHERE ctid = ANY (ARRAY(SELECT ctid FROM ");
    db_put_name (&self->forget, ledger, true);
    db_put (&self->forget,
            " WHERE time < to_timestamp(($1::text[])[1]::float8 / 1000) ORDER BY time "
            "LIMIT ($1::text[])[2]::int))");
    (void)db_finish (&self->forget);
}

/* Whether a statement could be run: its tables, columns, casts, rights, the index that knows
   repeats. Nothing is written. */
static int
s_explain (postgres_t *self, const ef_buf_t *statement, uint32_t params, db_fault_t *fault) {
    ef_buf_t sql = {0};
    db_params_t nothing = {self->arrays, (int)params};
    for (uint32_t i = 0; i < params; i++) {
        db_array_open (&self->arrays[i], 0);
    }
    db_put (&sql, "EXPLAIN ");
    db_put (&sql, (const char *)statement->data);
    PGresult *result =
        db_link_run (&self->link, db_finish (&sql), &nothing, s_patience (self), fault);
    PQclear (result);
    ef_buf_free (&sql);
    return result ? 0 : -1;
}

/* Takes the columns' types from the catalogue, which know better than what was written of them. */
static int
s_read_columns (postgres_t *self, PGresult *result, db_fault_t *fault) {
    const char *types[DB_COLUMNS_MAX];
    char text[300];
    for (uint32_t i = 0; i < self->map->count; i++) {
        db_column_t *column = &self->map->columns[i];
        int at = 0;
        while (at < PQntuples (result) && strcmp (PQgetvalue (result, at, 0), column->name) != 0) {
            at++;
        }
        if (at == PQntuples (result)) {
            snprintf (text, sizeof text, "table %s has no column %s", self->options->table,
                      column->name);
            return db_blame (fault, DB_WRONG, "SETUP", text);
        }
        types[i] = PQgetvalue (result, at, 1);
        column->class_id = db_class_of (PQgetvalue (result, at, 2));
    }
    s_write_insert (self, types);
    return 0;
}

static int
s_look_at_table (postgres_t *self, db_fault_t *fault) {
    ef_buf_t sql = {0};
    /* format_type with -1: without sizes, which a cast would cut to in silence. */
    db_put (&sql, "SELECT a.attname, format_type(a.atttypid, -1), "
                  "format_type(coalesce(nullif(t.typbasetype, 0), t.oid), -1) FROM pg_attribute a "
                  "JOIN pg_type t ON t.oid = a.atttypid WHERE a.attnum > 0 AND NOT a.attisdropped "
                  "AND a.attrelid = ");
    db_put_literal_name (&sql, self->options->table);
    db_put (&sql, "::regclass");
    PGresult *result = db_link_run (&self->link, db_finish (&sql), NULL, s_patience (self), fault);
    int rc = result ? s_read_columns (self, result, fault) : -1;
    PQclear (result);
    ef_buf_free (&sql);
    return rc ? rc : s_explain (self, &self->insert, self->map->count, fault);
}

static int
s_look_at_ledger (postgres_t *self, db_fault_t *fault) {
    s_write_others (self);
    return s_explain (self, &self->enter, 3, fault) || s_explain (self, &self->forget, 1, fault)
               ? -1
               : 0;
}

static int
s_open (void *arg, db_fault_t *fault) {
    postgres_t *self = arg;
    bool has_ledger = self->options->unique[0] == 0;
    if (self->link.connection) {
        return 0;
    }
    if (s_connect (self, fault)) {
        return -1;
    }
    bool is_made = self->options->is_created;
    if ((is_made && s_make_table (self, self->options->table, s_write_table, fault)) ||
        (is_made && has_ledger &&
         s_make_table (self, self->options->ledger, s_write_ledger, fault)) ||
        s_look_at_table (self, fault) || (has_ledger && s_look_at_ledger (self, fault))) {
        fault->verdict = fault->verdict == DB_REFUSED ? DB_WRONG : fault->verdict;
        s_close (self);
        return -1;
    }
    return 0;
}

/* ---- Writing ---- */

static int
s_write_rows (postgres_t *self, const db_batch_t *batch, uint32_t count, db_fault_t *fault) {
    for (uint32_t i = 0; i < self->map->count; i++) {
        ef_buf_t *array = &self->arrays[i];
        db_array_open (array, count);
        for (uint32_t k = 0; k < count; k++) {
            db_array_put (array, batch, &self->map->columns[i], &self->rows[k]->values[i]);
        }
    }
    db_params_t params = {self->arrays, (int)self->map->count};
    PGresult *result = db_link_run (&self->link, (const char *)self->insert.data, &params,
                                    s_patience (self), fault);
    PQclear (result);
    return result ? 0 : -1;
}

static bool
s_is_told (const db_batch_t *batch, const db_key_t *key, const PGresult *result, int at) {
    const db_span_t *spans[] = {&key->topic, &key->id, &key->mark};
    bool is_told = at < PQntuples (result);
    for (int i = 0; i < 3 && is_told; i++) {
        is_told =
            spans[i]->size == (uint32_t)PQgetlength (result, at, i) &&
            memcmp (db_text_at (batch, *spans[i]), PQgetvalue (result, at, i), spans[i]->size) == 0;
    }
    return is_told;
}

/* Enters the keys of rows. What the ledger tells are those that are new, in the order in which they
   were said. Chooses these and sets `*count` to their number. */
static int
s_enter (postgres_t *self, db_batch_t *batch, uint32_t *count, db_fault_t *fault) {
    db_params_t params = {self->arrays, 3};
    uint32_t fresh = 0;
    for (int i = 0; i < 3; i++) {
        db_array_open (&self->arrays[i], *count);
    }
    for (uint32_t i = 0; i < *count; i++) {
        const db_key_t *key = &self->rows[i]->key;
        db_array_put_span (&self->arrays[0], batch, key->topic);
        db_array_put_span (&self->arrays[1], batch, key->id);
        db_array_put_span (&self->arrays[2], batch, key->mark);
    }
    PGresult *result = db_link_run (&self->link, (const char *)self->enter.data, &params,
                                    s_patience (self), fault);
    if (result == NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < *count; i++) {
        db_row_t *row = self->rows[i];
        bool is_fresh = s_is_told (batch, &row->key, result, (int)fresh);
        row->outcome = is_fresh ? DB_ROW_WRITTEN : DB_ROW_REPEATED;
        self->rows[fresh] = is_fresh ? row : self->rows[fresh];
        fresh += is_fresh;
    }
    int told = PQntuples (result);
    PQclear (result);
    *count = fresh;
    return fresh == (uint32_t)told ? 0
                                   : db_blame (fault, DB_WRONG, "SETUP",
                                               "the ledger tells other keys than it was told");
}

static int
s_write_range (postgres_t *self, db_batch_t *batch, uint32_t first, uint32_t count,
               db_fault_t *fault) {
    for (uint32_t i = 0; i < count; i++) {
        self->rows[i] = &batch->rows[first + i];
        self->rows[i]->outcome = DB_ROW_WRITTEN;
    }
    if (self->options->unique[0] == 0 && s_enter (self, batch, &count, fault)) {
        return -1;
    }
    return count ? s_write_rows (self, batch, count, fault) : 0;
}

/* The rows that can be written; the others are refused, each with its own fault. */
static int
s_write_halves (postgres_t *self, db_batch_t *batch, uint32_t first, uint32_t count,
                db_fault_t *fault) {
    if (s_do (self, "SAVEPOINT part", fault)) {
        return -1;
    }
    if (s_write_range (self, batch, first, count, fault) == 0) {
        return s_do (self, "RELEASE SAVEPOINT part", fault);
    }
    db_fault_t refused = *fault;
    if (fault->verdict != DB_REFUSED ||
        s_do (self, "ROLLBACK TO SAVEPOINT part; RELEASE SAVEPOINT part", fault)) {
        return -1;
    }
    if (count == 1) {
        db_refuse (&batch->rows[first], &refused);
        return 0;
    }
    uint32_t half = count / 2;
    return s_write_halves (self, batch, first, half, fault) ||
                   s_write_halves (self, batch, first + half, count - half, fault)
               ? -1
               : 0;
}

static int
s_commit (postgres_t *self, db_fault_t *fault) {
    PGresult *result = db_link_run (&self->link, "COMMIT", NULL, s_patience (self), fault);
    bool is_committed = result && strcmp (PQcmdStatus (result), "COMMIT") == 0;
    if (result && !is_committed) {
        (void)db_blame (fault, DB_LATER, "SQL", "the transaction was rolled back");
    } else if (result == NULL && fault->verdict == DB_REFUSED) {
        fault->verdict = DB_PERHAPS; /* a trigger that waits for the end */
    }
    PQclear (result);
    return is_committed ? 0 : -1;
}

/* What is left of a transaction that failed. */
static void
s_undo (postgres_t *self) {
    db_fault_t second; /* the first is what is told */
    bool is_idle = self->link.connection == NULL ||
                   PQtransactionStatus (self->link.connection) == PQTRANS_IDLE;
    if (!is_idle && s_do (self, "ROLLBACK", &second)) {
        s_close (self);
    }
}

static int
s_write (void *arg, db_batch_t *batch, db_fault_t *fault) {
    postgres_t *self = arg;
    if (batch->count > self->row_capacity) {
        self->row_capacity = batch->count;
        self->rows = realloc (self->rows, self->row_capacity * sizeof *self->rows);
        ef_assert (self->rows != NULL);
    }
    int rc = s_do (self, self->begin, fault);
    if (rc == 0 && s_write_range (self, batch, 0, batch->count, fault)) {
        rc = -1;
        if (fault->verdict == DB_REFUSED) {
            s_undo (self);
            rc = s_do (self, self->begin, fault) ||
                         s_write_halves (self, batch, 0, batch->count, fault)
                     ? -1
                     : 0;
        }
    }
    rc = rc == 0 ? s_commit (self, fault) : rc;
    if (rc) {
        s_undo (self);
    }
    return rc;
}

static int
s_ping (void *arg, db_fault_t *fault) {
    postgres_t *self = arg;
    return db_link_do (&self->link, "SELECT 1", self->options->connect_timeout_ms, fault);
}

static int
s_forget (void *arg, uint64_t before_ms, db_fault_t *fault) {
    postgres_t *self = arg;
    char text[64];
    int count = -1;
    if (self->options->unique[0]) {
        return 0;
    }
    db_batch_t batch = {.arena = &self->words};
    db_params_t params = {self->arrays, 1};
    ef_buf_clear (&self->words);
    int before = snprintf (text, sizeof text, "%llu", (unsigned long long)before_ms);
    int most = snprintf (text + before, sizeof text - (size_t)before, "%d", DB_LEDGER_STEP);
    ef_buf_put (&self->words, text, (size_t)(before + most));
    db_array_open (&self->arrays[0], 2);
    db_array_put_span (&self->arrays[0], &batch, (db_span_t){0, (uint32_t)before});
    db_array_put_span (&self->arrays[0], &batch, (db_span_t){(size_t)before, (uint32_t)most});
    if (s_do (self, self->begin, fault) == 0) {
        PGresult *result = db_link_run (&self->link, (const char *)self->forget.data, &params,
                                        s_patience (self), fault);
        count = result ? atoi (PQcmdTuples (result)) : -1;
        PQclear (result);
    }
    if (count >= 0 && s_commit (self, fault)) {
        count = -1;
    }
    if (count < 0) {
        s_undo (self);
    }
    return count;
}

const db_backend_t db_postgres = {"postgresql", s_create, s_destroy, s_open,   s_close,
                                  s_is_open,    s_write,  s_ping,    s_forget, s_downstream};
