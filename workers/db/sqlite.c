/* Rows into a SQLite file. SPDX-License-Identifier: MIT

   Role: one connection, in WAL mode, a transaction a batch: for each row the ledger's line and the
   row itself, by prepared statements. Owns: the connection and its statements.
   On failure: an error of one row undoes that statement alone, so the ledger's line is taken back
   and the batch goes on; what SQLite undoes as a whole (a full disk, an interrupt) is all or
   nothing. A lock of another process is waited for in our own busy handler, so that a batch that
   nobody wants ends soon. */
#include "text.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#define PROGRESS_STEPS 10000 /* of SQLite's machine between two looks whether anybody waits */
#define LOCK_LOOK_MS   10    /* between two looks at a lock */

typedef struct {
    const db_options_t *options;
    db_map_t *map;
    const db_wait_t *wait;
    char file[sizeof (((db_options_t *)0)->url)];
    char downstream[256];
    sqlite3 *db;
    sqlite3_stmt *begin;
    sqlite3_stmt *commit;
    sqlite3_stmt *rollback;
    sqlite3_stmt *insert;
    sqlite3_stmt *enter; /* a line into the ledger; NULL: the table knows repeats itself */
    sqlite3_stmt *leave; /* takes it back */
    sqlite3_stmt *forget;
    uint64_t begun_ms; /* when the statement under way began */
} sqlite_t;

static void *
s_create (const db_options_t *options, db_map_t *map, const db_wait_t *wait, char error[512]) {
    sqlite_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->options = options;
    self->map = map;
    self->wait = wait;
    snprintf (self->file, sizeof self->file, "%s", options->url + strlen ("sqlite:"));
    if (self->file[0] == 0) {
        snprintf (error, 512, "url: expected a file, as in sqlite:events.db");
        free (self);
        return NULL;
    }
    snprintf (self->downstream, sizeof self->downstream, "sqlite:%.240s", self->file);
    return self;
}

static void
s_close (void *arg) {
    sqlite_t *self = arg;
    sqlite3_stmt **statements[] = {&self->begin, &self->commit, &self->rollback, &self->insert,
                                   &self->enter, &self->leave,  &self->forget};
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        sqlite3_finalize (*statements[i]);
        *statements[i] = NULL;
    }
    if (self->db) {
        int rc = sqlite3_close (self->db);
        ef_assert (rc == SQLITE_OK); /* nothing of it is left */
        self->db = NULL;
    }
}

static void
s_destroy (void **self_p) {
    s_close (*self_p);
    free (*self_p);
    *self_p = NULL;
}

static bool
s_is_open (const void *arg) {
    return ((const sqlite_t *)arg)->db != NULL;
}

static const char *
s_downstream (const void *arg) {
    return ((const sqlite_t *)arg)->downstream;
}

static bool
s_is_unwanted (const sqlite_t *self) {
    return atomic_load (self->wait->is_unwanted);
}

/* Whether to look at the lock once more. */
static int
s_busy (void *arg, int times) {
    sqlite_t *self = arg;
    uint64_t now = ef_mono_ms ();
    if (times == 0) {
        self->begun_ms = now;
    }
    if (s_is_unwanted (self) || now - self->begun_ms >= self->options->statement_timeout_ms) {
        return 0;
    }
    (void)db_wait (self->wait, -1, 0, LOCK_LOOK_MS); /* a pause */
    return 1;
}

static int
s_progress (void *arg) {
    return s_is_unwanted (arg);
}

static int
s_fault (sqlite_t *self, db_fault_t *fault) {
    static const struct {
        int code;
        db_verdict_t verdict;
        const char *name;
    } kinds[] = {{SQLITE_CONSTRAINT, DB_REFUSED, "CONSTRAINT"},
                 {SQLITE_MISMATCH, DB_REFUSED, "TYPE"},
                 {SQLITE_TOOBIG, DB_REFUSED, "TYPE"},
                 {SQLITE_RANGE, DB_REFUSED, "TYPE"},
                 {SQLITE_BUSY, DB_LATER, "LOCKED"},
                 {SQLITE_LOCKED, DB_LATER, "LOCKED"},
                 {SQLITE_INTERRUPT, DB_SLOW, "TIMEOUT"},
                 {SQLITE_FULL, DB_FULL, "FULL"},
                 {SQLITE_IOERR, DB_LOST, "IO"},
                 {SQLITE_CANTOPEN, DB_WRONG, "CONNECT"},
                 {SQLITE_NOTADB, DB_WRONG, "SETUP"},
                 {SQLITE_CORRUPT, DB_WRONG, "SETUP"},
                 {SQLITE_READONLY, DB_WRONG, "SETUP"},
                 {SQLITE_PERM, DB_WRONG, "SETUP"},
                 {SQLITE_AUTH, DB_WRONG, "SETUP"},
                 {SQLITE_NOMEM, DB_LATER, "MEMORY"},
                 {SQLITE_SCHEMA, DB_AGAIN, "SETUP"},
                 {SQLITE_ERROR, DB_WRONG, "SETUP"}};
    int code = self->db ? sqlite3_extended_errcode (self->db) : SQLITE_NOMEM;
    char text[500];
    snprintf (text, sizeof text, "SQLite %d: %s", code,
              self->db ? sqlite3_errmsg (self->db) : "out of memory");
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if ((code & 0xff) == kinds[i].code) {
            return db_blame (fault, kinds[i].verdict, kinds[i].name, text);
        }
    }
    return db_blame (fault, DB_LOST, "SQLITE", text);
}

static int
s_run (sqlite_t *self, const char *statement, db_fault_t *fault) {
    return sqlite3_exec (self->db, statement, NULL, NULL, NULL) == SQLITE_OK
               ? 0
               : s_fault (self, fault);
}

static const char *
s_type_of (const db_column_t *column) {
    if (column->type[0]) { /* a column of type json would take "5" for a number */
        return strncasecmp (column->type, "json", 4) == 0 ? "text" : column->type;
    }
    return db_map_kind (column) == DB_SOURCE_COUNT ? "integer" : "text";
}

static int
s_make_tables (sqlite_t *self, db_fault_t *fault) {
    ef_buf_t sql = {0};
    const db_options_t *options = self->options;
    db_put (&sql, "CREATE TABLE IF NOT EXISTS ");
    db_put_name (&sql, options->table, true);
    db_put (&sql, " (");
    for (uint32_t i = 0; i < self->map->count; i++) {
        db_put (&sql, i ? ", " : "");
        db_put_name (&sql, self->map->columns[i].name, false);
        db_put (&sql, " ");
        db_put (&sql, s_type_of (&self->map->columns[i]));
    }
    if (options->unique[0]) {
        db_put (&sql, ", UNIQUE (");
        db_put_names (&sql, options->unique);
        db_put (&sql, "));");
    } else {
        db_put (&sql, "); CREATE TABLE IF NOT EXISTS ");
        db_put_name (&sql, options->ledger, true);
        db_put (&sql,
                " (topic text NOT NULL, id text NOT NULL, mark text NOT NULL, time integer NOT "
                "NULL, PRIMARY KEY (topic, id, mark));");
    }
    ef_buf_put (&sql, "", 1);
    int rc = s_run (self, (const char *)sql.data, fault);
    ef_buf_free (&sql);
    return rc;
}

/* The classes of columns whose types weren't given. */
static int
s_read_classes (sqlite_t *self, db_fault_t *fault) {
    ef_buf_t sql = {0};
    sqlite3_stmt *statement = NULL;
    db_put (&sql, "SELECT name, type FROM pragma_table_info(?1)");
    ef_buf_put (&sql, "", 1);
    const char *dot = strchr (self->options->table, '.');
    const char *table = dot ? dot + 1 : self->options->table;
    int rc = sqlite3_prepare_v2 (self->db, (const char *)sql.data, -1, &statement, NULL);
    ef_buf_free (&sql);
    if (rc != SQLITE_OK) {
        return s_fault (self, fault);
    }
    sqlite3_bind_text (statement, 1, table, -1, SQLITE_STATIC);
    while ((rc = sqlite3_step (statement)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text (statement, 0);
        const char *type = (const char *)sqlite3_column_text (statement, 1);
        for (uint32_t i = 0; name && type && i < self->map->count; i++) {
            db_column_t *column = &self->map->columns[i];
            bool is_it = sqlite3_stricmp (column->name, name) == 0;
            bool is_json = column->class_id == DB_CLASS_JSON;
            if (is_it && column->type[0] == 0 && !is_json && type[0]) {
                column->class_id = db_class_of (type);
            }
        }
    }
    sqlite3_finalize (statement);
    return rc == SQLITE_DONE ? 0 : s_fault (self, fault);
}

static int
s_prepare (sqlite_t *self, sqlite3_stmt **statement, ef_buf_t *sql, db_fault_t *fault) {
    int rc = sqlite3_prepare_v3 (self->db, (const char *)sql->data, (int)sql->size,
                                 SQLITE_PREPARE_PERSISTENT, statement, NULL);
    ef_buf_clear (sql);
    return rc == SQLITE_OK ? 0 : s_fault (self, fault);
}

static void
s_write_insert (const sqlite_t *self, ef_buf_t *sql) {
    db_put (sql, "INSERT INTO ");
    db_put_name (sql, self->options->table, true);
    db_put (sql, " (");
    for (uint32_t i = 0; i < self->map->count; i++) {
        db_put (sql, i ? ", " : "");
        db_put_name (sql, self->map->columns[i].name, false);
    }
    db_put (sql, ") VALUES (");
    for (uint32_t i = 0; i < self->map->count; i++) {
        db_put (sql, i ? ", ?" : "?");
    }
    db_put (sql, ")");
    if (self->options->unique[0]) {
        db_put (sql, " ON CONFLICT (");
        db_put_names (sql, self->options->unique);
        db_put (sql, ") DO NOTHING");
    }
}

static int
s_prepare_ledger (sqlite_t *self, ef_buf_t *sql, db_fault_t *fault) {
    const char *ledger = self->options->ledger;
    db_put (sql, "INSERT INTO ");
    db_put_name (sql, ledger, true);
    db_put (sql, " (topic, id, mark, time) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING");
    if (s_prepare (self, &self->enter, sql, fault)) {
        return -1;
    }
    db_put (sql, "DELETE FROM ");
    db_put_name (sql, ledger, true);
    db_put (sql, " WHERE topic = ? AND id = ? AND mark = ?");
    if (s_prepare (self, &self->leave, sql, fault)) {
        return -1;
    }
    /* Row numbers grow with time, so the oldest lines are the first. */
    db_put (sql, "DELETE FROM ");
    db_put_name (sql, ledger, true);
    db_put (sql, " WHERE rowid IN (SELECT rowid FROM ");
    db_put_name (sql, ledger, true);
    db_put (sql, " ORDER BY rowid LIMIT ?) AND time < ?");
    return s_prepare (self, &self->forget, sql, fault);
}

static int
s_prepare_all (sqlite_t *self, db_fault_t *fault) {
    ef_buf_t sql = {0};
    db_put (&sql, "BEGIN IMMEDIATE");
    int rc = s_prepare (self, &self->begin, &sql, fault);
    db_put (&sql, "COMMIT");
    rc = rc ? rc : s_prepare (self, &self->commit, &sql, fault);
    ef_buf_clear (&sql);
    db_put (&sql, "ROLLBACK");
    rc = rc ? rc : s_prepare (self, &self->rollback, &sql, fault);
    ef_buf_clear (&sql);
    s_write_insert (self, &sql);
    rc = rc ? rc : s_prepare (self, &self->insert, &sql, fault);
    ef_buf_clear (&sql);
    if (rc == 0 && self->options->unique[0] == 0) {
        rc = s_prepare_ledger (self, &sql, fault);
    }
    ef_buf_free (&sql);
    return rc;
}

static int
s_open (void *arg, db_fault_t *fault) {
    static const char *const levels[] = {"PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL",
                                         "PRAGMA synchronous = OFF"};
    sqlite_t *self = arg;
    if (self->db) {
        return 0;
    }
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
                (self->options->is_created ? SQLITE_OPEN_CREATE : 0);
    int rc = sqlite3_open_v2 (self->file, &self->db, flags, NULL);
    if (rc != SQLITE_OK) {
        rc = s_fault (self, fault);
    } else {
        sqlite3_extended_result_codes (self->db, 1);
        sqlite3_busy_handler (self->db, s_busy, self);
        sqlite3_progress_handler (self->db, PROGRESS_STEPS, s_progress, self);
        rc = s_run (self, "PRAGMA journal_mode = WAL", fault) ||
                     s_run (self, levels[self->options->synchronous], fault) ||
                     s_run (self, "PRAGMA foreign_keys = ON", fault) ||
                     (self->options->is_created && s_make_tables (self, fault)) ||
                     s_read_classes (self, fault) || s_prepare_all (self, fault)
                 ? -1
                 : 0;
    }
    if (rc) {
        s_close (self);
    }
    return rc;
}

/* Steps a statement that gives no rows and makes it ready for the next time. */
static int
s_step (sqlite_t *self, sqlite3_stmt *statement, db_fault_t *fault) {
    int rc = sqlite3_step (statement);
    int failed = rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : s_fault (self, fault);
    sqlite3_reset (statement); /* says the same error again */
    return failed;
}

/* SQLite keeps any text in a column of numbers; what isn't one is refused here, as it would be
   elsewhere. */
static bool
s_is_number (const db_column_t *column, const char *text, uint32_t size) {
    char copy[64];
    char *end;
    snprintf (copy, sizeof copy, "%.*s", (int)(size < 63 ? size : 63), size ? text : "");
    if (size == 0 || size > 63 || strspn (copy, "+-0123456789.eE") != size) {
        return false;
    }
    errno = 0;
    if (column->class_id == DB_CLASS_INTEGER) {
        (void)strtoll (copy, &end, 10); /* its range is what matters */
    } else {
        (void)strtod (copy, &end); /* the same */
    }
    return *end == 0 && errno == 0;
}

static const char *
s_bind_real (const db_column_t *column, sqlite3_stmt *statement, int at, double real) {
    if (real != real) {
        return "not a number, which SQLite can't keep";
    }
    bool is_small = real > -9e18 && real < 9e18;
    if (column->class_id == DB_CLASS_INTEGER && (!is_small || real != (double)(int64_t)real)) {
        return "no integer that the column can hold";
    }
    sqlite3_bind_double (statement, at, real);
    return NULL;
}

/* NULL, or why the column can't hold it. */
static const char *
s_bind (const db_column_t *column, sqlite3_stmt *statement, int at, const db_value_t *value,
        const char *bytes) {
    bool is_numeric = column->class_id == DB_CLASS_INTEGER || column->class_id == DB_CLASS_NUMBER;
    switch (value->kind) {
    case DB_KIND_NULL: sqlite3_bind_null (statement, at); return NULL;
    case DB_KIND_TRUTH:
        if (column->class_id == DB_CLASS_TEXT) {
            sqlite3_bind_text (statement, at, value->whole ? "true" : "false", -1, SQLITE_STATIC);
            return NULL;
        }
        sqlite3_bind_int64 (statement, at, value->whole);
        return NULL;
    case DB_KIND_WHOLE: sqlite3_bind_int64 (statement, at, value->whole); return NULL;
    case DB_KIND_REAL: return s_bind_real (column, statement, at, value->real);
    case DB_KIND_BYTES:
        sqlite3_bind_blob64 (statement, at, bytes ? bytes : "", value->span.size, SQLITE_STATIC);
        return NULL;
    default:
        if (is_numeric && !s_is_number (column, bytes, value->span.size)) {
            return "no number that the column can hold";
        }
        sqlite3_bind_text64 (statement, at, bytes ? bytes : "", value->span.size, SQLITE_STATIC,
                             SQLITE_UTF8);
        return NULL;
    }
}

/* Whether the statement is one that the database understands. */
static bool
s_is_still_right (sqlite_t *self) {
    ef_buf_t sql = {0};
    sqlite3_stmt *statement = NULL;
    db_fault_t fault;
    s_write_insert (self, &sql);
    int rc = s_prepare (self, &statement, &sql, &fault);
    ef_buf_free (&sql);
    sqlite3_finalize (statement);
    return rc == 0;
}

static int
s_insert (sqlite_t *self, const db_batch_t *batch, const db_row_t *row, db_fault_t *fault) {
    for (uint32_t i = 0; i < self->map->count; i++) {
        const db_value_t *value = &row->values[i];
        const db_column_t *column = &self->map->columns[i];
        bool has_bytes = value->kind == DB_KIND_TEXT || value->kind == DB_KIND_BYTES;
        const char *why = s_bind (column, self->insert, (int)i + 1, value,
                                  has_bytes ? db_text_at (batch, value->span) : NULL);
        if (why) {
            char text[200];
            snprintf (text, sizeof text, "column %s: %s", column->name, why);
            return db_blame (fault, DB_REFUSED, "TYPE", text);
        }
    }
    int rc = s_step (self, self->insert, fault);
    if (rc && sqlite3_errcode (self->db) == SQLITE_ERROR && s_is_still_right (self)) {
        fault->verdict = DB_REFUSED; /* an expression of the table's that this row doesn't suit */
        snprintf (fault->code, sizeof fault->code, "TYPE");
    }
    return rc;
}

static void
s_bind_key (sqlite3_stmt *statement, const db_batch_t *batch, const db_key_t *key) {
    const db_span_t *spans[] = {&key->topic, &key->id, &key->mark};
    for (int i = 0; i < 3; i++) {
        sqlite3_bind_text64 (statement, i + 1, db_text_at (batch, *spans[i]), spans[i]->size,
                             SQLITE_STATIC, SQLITE_UTF8);
    }
}

/* 0, or -1: the transaction is over. */
static int
s_write_row (sqlite_t *self, db_batch_t *batch, db_row_t *row, uint64_t now_ms, db_fault_t *fault) {
    if (self->enter) {
        s_bind_key (self->enter, batch, &row->key);
        sqlite3_bind_int64 (self->enter, 4, (int64_t)now_ms);
        if (s_step (self, self->enter, fault)) {
            return -1;
        }
        if (sqlite3_changes (self->db) == 0) {
            row->outcome = DB_ROW_REPEATED;
            return 0;
        }
    }
    if (s_insert (self, batch, row, fault) == 0) {
        row->outcome = DB_ROW_WRITTEN;
        return 0;
    }
    if (fault->verdict != DB_REFUSED || sqlite3_get_autocommit (self->db)) {
        return -1;
    }
    db_refuse (row, fault);
    if (self->leave) {
        s_bind_key (self->leave, batch, &row->key);
        return s_step (self, self->leave, fault);
    }
    return 0;
}

static int
s_write (void *arg, db_batch_t *batch, db_fault_t *fault) {
    sqlite_t *self = arg;
    uint64_t now_ms = ef_wall_ms ();
    int rc = s_step (self, self->begin, fault);
    for (uint32_t i = 0; i < batch->count && rc == 0; i++) {
        rc = s_write_row (self, batch, &batch->rows[i], now_ms, fault);
    }
    if (rc == 0 && s_step (self, self->commit, fault)) {
        rc = -1; /* a foreign key that is looked at last: some row's fault */
        fault->verdict = fault->verdict == DB_REFUSED ? DB_PERHAPS : fault->verdict;
    }
    if (rc == 0) {
        db_settle_repeats (batch);
        return 0;
    }
    if (!sqlite3_get_autocommit (self->db)) {
        db_fault_t second;
        (void)s_step (self, self->rollback, &second); /* what failed first is what is told */
    }
    return -1;
}

static int
s_ping (void *arg, db_fault_t *fault) {
    sqlite_t *self = arg;
    return s_run (self, "SELECT 1 FROM sqlite_master LIMIT 1", fault);
}

static int
s_forget (void *arg, uint64_t before_ms, db_fault_t *fault) {
    sqlite_t *self = arg;
    if (self->forget == NULL) {
        return 0;
    }
    sqlite3_bind_int64 (self->forget, 1, DB_LEDGER_STEP);
    sqlite3_bind_int64 (self->forget, 2, (int64_t)before_ms);
    return s_step (self, self->forget, fault) ? -1 : sqlite3_changes (self->db);
}

const db_backend_t db_sqlite = {"sqlite",  s_create, s_destroy, s_open,   s_close,
                                s_is_open, s_write,  s_ping,    s_forget, s_downstream};
