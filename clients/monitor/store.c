/* The monitor's file: blocks of series and the alerts. SPDX-License-Identifier: MIT */
#include "store.h"
#include "../../broker/base/log.h"
#include "series.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

#define BUSY_MS      5000
#define VACUUM_PAGES 2000 /* given back at a time: 8 MB */
#define FORMAT       1    /* user_version */

typedef enum {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_FIND_TOPIC,
    SQL_NEW_TOPIC,
    SQL_PUT_BLOCK,
    SQL_GET_BLOCK,
    SQL_EXPIRE,
    SQL_LARGEST,
    SQL_SHORTEN,
    SQL_PUT_ALERT,
    SQL_DROP_ALERT,
    SQL_ALERTS,
    SQL_END_ALERT,
    SQL_TRIM_ENDED,
    SQL_ENDED,
    SQL_COUNT
} sql_t;

static const char *const s_sql[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_FIND_TOPIC] = "SELECT id FROM topic WHERE name = ?",
    [SQL_NEW_TOPIC] = "INSERT INTO topic (name) VALUES (?)",
    [SQL_PUT_BLOCK] = "INSERT OR REPLACE INTO block (tier, start, topic, data) VALUES (?, ?, ?, ?)",
    [SQL_GET_BLOCK] = "SELECT data FROM block WHERE tier = ? AND start = ? AND topic = ?",
    [SQL_EXPIRE] = "DELETE FROM block WHERE tier = ? AND start < ?",
    [SQL_LARGEST] = "SELECT tier, min(start), max(start) FROM block GROUP BY tier "
                    "ORDER BY sum(length(data)) DESC LIMIT 1",
    [SQL_SHORTEN] = "DELETE FROM block WHERE tier = ? AND start <= ?",
    [SQL_PUT_ALERT] =
        "INSERT OR REPLACE INTO alert (rule, topic, text, state, reminders, since_ms, "
        "changed_ms, sent_ms, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [SQL_DROP_ALERT] = "DELETE FROM alert WHERE rule = ? AND topic = ?",
    [SQL_ALERTS] = "SELECT rule, topic, text, state, reminders, since_ms, changed_ms, sent_ms, "
                   "value FROM alert",
    [SQL_END_ALERT] = "INSERT INTO ended (rule, topic, text, state, reminders, since_ms, "
                      "changed_ms, sent_ms, value) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [SQL_TRIM_ENDED] = "DELETE FROM ended WHERE n <= (SELECT max(n) FROM ended) - ?",
    [SQL_ENDED] = "SELECT rule, topic, text, state, reminders, since_ms, changed_ms, sent_ms, "
                  "value FROM ended ORDER BY n DESC LIMIT ?",
};

static const char s_schema[] =
    "PRAGMA auto_vacuum = INCREMENTAL;"
    "PRAGMA journal_mode = WAL;"
    "PRAGMA user_version = 1;"
    "CREATE TABLE IF NOT EXISTS topic (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);"
    "CREATE TABLE IF NOT EXISTS block (tier INTEGER NOT NULL, start INTEGER NOT NULL,"
    " topic INTEGER NOT NULL, data BLOB NOT NULL, PRIMARY KEY (tier, start, topic)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS alert (rule TEXT NOT NULL, topic TEXT NOT NULL, text TEXT NOT NULL,"
    " state INTEGER NOT NULL, reminders INTEGER NOT NULL, since_ms INTEGER NOT NULL,"
    " changed_ms INTEGER NOT NULL, sent_ms INTEGER NOT NULL, value REAL NOT NULL,"
    " PRIMARY KEY (rule, topic)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS ended (n INTEGER PRIMARY KEY, rule TEXT NOT NULL,"
    " topic TEXT NOT NULL, text TEXT NOT NULL, state INTEGER NOT NULL, reminders INTEGER NOT NULL,"
    " since_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL, sent_ms INTEGER NOT NULL,"
    " value REAL NOT NULL);";

struct store_s {
    sqlite3 *db;                         /* owned */
    sqlite3_stmt *statements[SQL_COUNT]; /* owned; made when they are needed */
};

const char *
store_error (const store_t *self) {
    return sqlite3_errmsg (self->db);
}

/* A statement ready to be bound; NULL: an error. */
static sqlite3_stmt *
s_statement (store_t *self, sql_t which) {
    sqlite3_stmt **statement = &self->statements[which];
    if (*statement == NULL &&
        sqlite3_prepare_v3 (self->db, s_sql[which], -1, SQLITE_PREPARE_PERSISTENT, statement,
                            NULL) != SQLITE_OK) {
        return NULL;
    }
    sqlite3_reset (*statement);
    sqlite3_clear_bindings (*statement);
    return *statement;
}

/* Runs a statement that answers nothing. */
static int
s_run (sqlite3_stmt *statement) {
    int rc = sqlite3_step (statement);
    sqlite3_reset (statement);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : -1;
}

static int
s_simple (store_t *self, sql_t which) {
    sqlite3_stmt *statement = s_statement (self, which);
    return statement ? s_run (statement) : -1;
}

int
store_begin (store_t *self) {
    return s_simple (self, SQL_BEGIN);
}

int
store_commit (store_t *self) {
    return s_simple (self, SQL_COMMIT);
}

void
store_rollback (store_t *self) {
    if (!sqlite3_get_autocommit (self->db)) {
        (void)s_simple (self, SQL_ROLLBACK); /* the error that led here is the one to tell */
    }
}

void
store_close (store_t **self_p) {
    store_t *self = *self_p;
    if (self) {
        for (unsigned i = 0; i < SQL_COUNT; i++) {
            sqlite3_finalize (self->statements[i]);
        }
        sqlite3_close (self->db);
        free (self);
        *self_p = NULL;
    }
}

static long long
s_pragma (store_t *self, const char *sql) {
    sqlite3_stmt *statement = NULL;
    long long value = -1;
    if (sqlite3_prepare_v2 (self->db, sql, -1, &statement, NULL) == SQLITE_OK &&
        sqlite3_step (statement) == SQLITE_ROW) {
        value = sqlite3_column_int64 (statement, 0);
    }
    sqlite3_finalize (statement);
    return value;
}

/* 0; 1: the file is damaged, or is none of SQLite's; -1: it can't be opened. */
static int
s_open (store_t *self, const char *path, bool is_writer, char error[512]) {
    int flags = is_writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READWRITE;
    int rc = sqlite3_open_v2 (path, &self->db, flags | SQLITE_OPEN_NOMUTEX, NULL);
    if (self->db == NULL) {
        snprintf (error, 512, "%.200s: no memory", path);
        return -1;
    }
    sqlite3_extended_result_codes (self->db, 1);
    sqlite3_busy_timeout (self->db, BUSY_MS);
    if (rc == SQLITE_OK && is_writer) {
        long long format = s_pragma (self, "PRAGMA user_version");
        if (format > FORMAT) {
            snprintf (error, 512, "%.200s: was written by a newer version (format %lld)", path,
                      format);
            return -1;
        }
        rc = sqlite3_exec (self->db, s_schema, NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec (self->db,
                           "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -4000;"
                           "PRAGMA journal_size_limit = 8388608",
                           NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        return 0;
    }
    snprintf (error, 512, "%.200s: %.200s", path, sqlite3_errmsg (self->db));
    return (rc & 255) == SQLITE_NOTADB || (rc & 255) == SQLITE_CORRUPT ? 1 : -1;
}

static int
s_set_aside (const char *path) {
    char other[1100];
    snprintf (other, sizeof other, "%s.damaged", path);
    if (rename (path, other)) {
        return -1;
    }
    static const char *const ends[] = {"-wal", "-shm"};
    for (unsigned i = 0; i < 2; i++) {
        snprintf (other, sizeof other, "%s%s", path, ends[i]);
        (void)remove (other); /* they belong to what was set aside */
    }
    return 0;
}

store_t *
store_open (const char *path, bool is_writer, char error[512]) {
    store_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    int rc = s_open (self, path, is_writer, error);
    if (rc > 0 && is_writer) {
        ef_log (EF_LOG_ERROR, "history.damaged", "%s set_aside=%s.damaged", error, path);
        sqlite3_close (self->db);
        self->db = NULL;
        rc = s_set_aside (path) ? -1 : s_open (self, path, is_writer, error);
    }
    if (rc) {
        store_close (&self);
    }
    return self;
}

int64_t
store_topic (store_t *self, const char *name, bool is_new) {
    sqlite3_stmt *statement = s_statement (self, SQL_FIND_TOPIC);
    int64_t id = 0;
    if (statement == NULL) {
        return 0;
    }
    sqlite3_bind_text (statement, 1, name, -1, SQLITE_STATIC);
    if (sqlite3_step (statement) == SQLITE_ROW) {
        id = sqlite3_column_int64 (statement, 0);
    }
    sqlite3_reset (statement);
    if (id == 0 && is_new && (statement = s_statement (self, SQL_NEW_TOPIC)) != NULL) {
        sqlite3_bind_text (statement, 1, name, -1, SQLITE_STATIC);
        id = s_run (statement) ? 0 : sqlite3_last_insert_rowid (self->db);
    }
    return id;
}

int
store_put_block (store_t *self, uint32_t tier, int64_t topic, uint64_t start_s,
                 const ef_buf_t *data) {
    sqlite3_stmt *statement = s_statement (self, SQL_PUT_BLOCK);
    if (statement == NULL) {
        return -1;
    }
    sqlite3_bind_int (statement, 1, (int)tier);
    sqlite3_bind_int64 (statement, 2, (int64_t)start_s);
    sqlite3_bind_int64 (statement, 3, topic);
    sqlite3_bind_blob64 (statement, 4, data->data, data->size, SQLITE_STATIC);
    return s_run (statement);
}

int
store_get_block (store_t *self, uint32_t tier, int64_t topic, uint64_t start_s, ef_buf_t *data) {
    sqlite3_stmt *statement = s_statement (self, SQL_GET_BLOCK);
    if (statement == NULL) {
        return -1;
    }
    sqlite3_bind_int (statement, 1, (int)tier);
    sqlite3_bind_int64 (statement, 2, (int64_t)start_s);
    sqlite3_bind_int64 (statement, 3, topic);
    int rc = sqlite3_step (statement);
    if (rc == SQLITE_ROW) {
        ef_buf_put (data, sqlite3_column_blob (statement, 0),
                    (size_t)sqlite3_column_bytes (statement, 0));
    }
    sqlite3_reset (statement);
    return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : -1;
}

uint64_t
store_bytes (store_t *self) {
    long long pages = s_pragma (self, "PRAGMA page_count");
    long long unused = s_pragma (self, "PRAGMA freelist_count");
    long long size = s_pragma (self, "PRAGMA page_size");
    return pages > unused && size > 0 ? (uint64_t)(pages - unused) * (uint64_t)size : 0;
}

/* The first tenth of the tier that has the most bytes. */
static int
s_shorten (store_t *self) {
    sqlite3_stmt *statement = s_statement (self, SQL_LARGEST);
    if (statement == NULL || sqlite3_step (statement) != SQLITE_ROW) {
        sqlite3_reset (statement);
        return -1;
    }
    int tier = sqlite3_column_int (statement, 0);
    int64_t from = sqlite3_column_int64 (statement, 1);
    int64_t to = sqlite3_column_int64 (statement, 2);
    sqlite3_reset (statement);
    statement = s_statement (self, SQL_SHORTEN);
    if (statement == NULL) {
        return -1;
    }
    sqlite3_bind_int (statement, 1, tier);
    sqlite3_bind_int64 (statement, 2, from + (to - from) / 10);
    ef_log_limited (EF_LOG_WARNING, "history.shortened", "tier=%d until=%lld", tier,
                    (long long)(from + (to - from) / 10));
    return s_run (statement);
}

int
store_trim (store_t *self, uint64_t now_s, uint64_t most_bytes) {
    for (uint32_t tier = 0; tier < SERIES_TIERS; tier++) {
        const series_tier_t *row = &series_tiers[tier];
        uint64_t kept_s = row->keep_s + (uint64_t)row->step_s * SERIES_POINTS;
        sqlite3_stmt *statement = s_statement (self, SQL_EXPIRE);
        if (statement == NULL) {
            return -1;
        }
        sqlite3_bind_int (statement, 1, (int)tier);
        sqlite3_bind_int64 (statement, 2, now_s > kept_s ? (int64_t)(now_s - kept_s) : 0);
        if (s_run (statement)) {
            return -1;
        }
    }
    for (unsigned i = 0; i < 40 && store_bytes (self) > most_bytes; i++) {
        if (s_shorten (self)) {
            return -1;
        }
    }
    char sql[60];
    snprintf (sql, sizeof sql, "PRAGMA incremental_vacuum(%d)", VACUUM_PAGES);
    return sqlite3_exec (self->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : -1;
}

static int
s_put_alert (store_t *self, sql_t which, const store_alert_t *alert) {
    sqlite3_stmt *statement = s_statement (self, which);
    if (statement == NULL) {
        return -1;
    }
    sqlite3_bind_text (statement, 1, alert->rule, -1, SQLITE_STATIC);
    sqlite3_bind_text (statement, 2, alert->topic, -1, SQLITE_STATIC);
    sqlite3_bind_text (statement, 3, alert->text, -1, SQLITE_STATIC);
    sqlite3_bind_int64 (statement, 4, alert->state);
    sqlite3_bind_int64 (statement, 5, alert->reminders);
    sqlite3_bind_int64 (statement, 6, (int64_t)alert->since_ms);
    sqlite3_bind_int64 (statement, 7, (int64_t)alert->changed_ms);
    sqlite3_bind_int64 (statement, 8, (int64_t)alert->sent_ms);
    sqlite3_bind_double (statement, 9, alert->value);
    return s_run (statement);
}

int
store_put_alert (store_t *self, const store_alert_t *alert) {
    return s_put_alert (self, SQL_PUT_ALERT, alert);
}

int
store_drop_alert (store_t *self, const store_alert_t *alert) {
    sqlite3_stmt *statement = s_statement (self, SQL_DROP_ALERT);
    if (statement == NULL) {
        return -1;
    }
    sqlite3_bind_text (statement, 1, alert->rule, -1, SQLITE_STATIC);
    sqlite3_bind_text (statement, 2, alert->topic, -1, SQLITE_STATIC);
    return s_run (statement);
}

int
store_end_alert (store_t *self, const store_alert_t *alert, uint64_t now_ms) {
    store_alert_t ended = *alert;
    ended.changed_ms = now_ms;
    if (store_drop_alert (self, alert) || s_put_alert (self, SQL_END_ALERT, &ended)) {
        return -1;
    }
    sqlite3_stmt *statement = s_statement (self, SQL_TRIM_ENDED);
    if (statement == NULL) {
        return -1;
    }
    sqlite3_bind_int (statement, 1, STORE_ENDED_MAX);
    return s_run (statement);
}

static void
s_column_text (sqlite3_stmt *statement, int column, char *text, size_t size) {
    const unsigned char *value = sqlite3_column_text (statement, column);
    snprintf (text, size, "%s", value ? (const char *)value : "");
}

static uint64_t
s_column_uint (sqlite3_stmt *statement, int column) {
    int64_t value = sqlite3_column_int64 (statement, column);
    return value > 0 ? (uint64_t)value : 0;
}

static void
s_each_alert (sqlite3_stmt *statement, void (*each) (void *arg, const store_alert_t *alert),
              void *arg) {
    while (statement && sqlite3_step (statement) == SQLITE_ROW) {
        store_alert_t alert = {.state = (uint32_t)s_column_uint (statement, 3),
                               .reminders = (uint32_t)s_column_uint (statement, 4),
                               .since_ms = s_column_uint (statement, 5),
                               .changed_ms = s_column_uint (statement, 6),
                               .sent_ms = s_column_uint (statement, 7),
                               .value = sqlite3_column_double (statement, 8)};
        s_column_text (statement, 0, alert.rule, sizeof alert.rule);
        s_column_text (statement, 1, alert.topic, sizeof alert.topic);
        s_column_text (statement, 2, alert.text, sizeof alert.text);
        each (arg, &alert);
    }
    sqlite3_reset (statement);
}

void
store_alerts (store_t *self, void (*each) (void *arg, const store_alert_t *alert), void *arg) {
    s_each_alert (s_statement (self, SQL_ALERTS), each, arg);
}

void
store_ended (store_t *self, uint32_t limit, void (*each) (void *arg, const store_alert_t *alert),
             void *arg) {
    sqlite3_stmt *statement = s_statement (self, SQL_ENDED);
    if (statement) {
        sqlite3_bind_int64 (statement, 1, limit);
    }
    s_each_alert (statement, each, arg);
}
