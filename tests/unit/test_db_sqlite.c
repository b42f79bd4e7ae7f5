/* The handler db's SQLite, with a file of its own. SPDX-License-Identifier: MIT */
#include "unit_db.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>

typedef struct {
    char directory[64];
    db_options_t options;
    db_map_t map;
    atomic_bool is_unwanted;
    db_wait_t wait;
    void *database;
    db_row_t rows[8];
    db_value_t values[8][DB_COLUMNS_MAX];
    ef_buf_t arena;
    db_batch_t batch;
} bench_t;

static bench_t s_bench;

static void
s_start (const char *columns, const char *unique) {
    char error[512];
    bench_t *self = &s_bench;
    memset (self, 0, sizeof *self);
    memcpy (self->directory, "/tmp/ef-db-XXXXXX", 18);
    assert_non_null (mkdtemp (self->directory));
    snprintf (self->options.url, sizeof self->options.url, "sqlite:%.30s/a.db", self->directory);
    snprintf (self->options.table, sizeof self->options.table, "events");
    snprintf (self->options.ledger, sizeof self->options.ledger, "eventflow_done");
    memcpy (self->options.unique, unique, strlen (unique));
    self->options.is_created = true;
    self->options.statement_timeout_ms = 200;
    self->wait = (db_wait_t){eventfd (0, EFD_NONBLOCK), &self->is_unwanted};
    assert_int_equal (db_map_read (&self->map, columns, error), 0);
    self->database = db_sqlite.create (&self->options, &self->map, &self->wait, error);
    assert_non_null (self->database);
    self->batch = (db_batch_t){self->rows, 0, &self->arena};
}

static void
s_open (void) {
    db_fault_t fault = {.text = ""};
    int rc = db_sqlite.open (s_bench.database, &fault);
    assert_string_equal (fault.text, "");
    assert_int_equal (rc, 0);
}

static void
s_end (void) {
    char command[128];
    db_sqlite.destroy (&s_bench.database);
    close (s_bench.wait.wake);
    ef_buf_free (&s_bench.arena);
    for (int i = 0; i < 8; i++) {
        free (s_bench.rows[i].fault);
    }
    snprintf (command, sizeof command, "rm -rf %s", s_bench.directory);
    assert_int_equal (system (command), 0);
}

static void
s_clear (void) {
    for (uint32_t i = 0; i < 8; i++) {
        free (s_bench.rows[i].fault);
        s_bench.rows[i] = (db_row_t){0};
    }
    ef_buf_clear (&s_bench.arena);
    s_bench.batch.count = 0;
}

static void
s_add (const char *id, put_t payload) {
    db_event_t event;
    char why[512] = "";
    uint32_t at = s_bench.batch.count++;
    s_event (&event, id, payload, NULL);
    s_bench.rows[at].values = s_bench.values[at];
    assert_int_equal (db_map_row (&s_bench.map, &event, &s_bench.arena, s_bench.values[at], why),
                      0);
    db_event_key (&event, &s_bench.arena, &s_bench.rows[at].key);
}

static int64_t
s_ask (const char *sql) {
    sqlite3 *db;
    sqlite3_stmt *statement;
    assert_int_equal (sqlite3_open (s_bench.options.url + 7, &db), SQLITE_OK);
    assert_int_equal (sqlite3_prepare_v2 (db, sql, -1, &statement, NULL), SQLITE_OK);
    (void)sqlite3_step (statement); /* no row: 0 */
    int64_t number = sqlite3_column_int64 (statement, 0);
    sqlite3_finalize (statement);
    sqlite3_close (db);
    return number;
}

static void
s_put_text (ef_buf_t *out) {
    ef_put_str (out, "text");
}

static void
s_put_half (ef_buf_t *out) {
    ef_put_double (out, 0.5);
}

static void
test_sqlite_writes_each_event_once (void **state) {
    (void)state;
    db_fault_t fault;
    s_start ("id, a=payload integer", "");
    s_open ();
    s_add ("1", s_put_five);
    s_add ("2", s_put_five);
    s_add ("1", s_put_five);
    s_add ("1", s_put_half); /* an id used anew, and no integer */
    assert_int_equal (db_sqlite.write (s_bench.database, &s_bench.batch, &fault), 0);
    assert_int_equal (s_bench.rows[0].outcome, DB_ROW_WRITTEN);
    assert_int_equal (s_bench.rows[2].outcome, DB_ROW_REPEATED);
    assert_int_equal (s_bench.rows[3].outcome, DB_ROW_REFUSED);
    assert_string_equal (s_bench.rows[3].fault->code, "TYPE");
    s_clear ();
    s_add ("2", s_put_five);
    s_add ("3", s_put_five);
    assert_int_equal (db_sqlite.write (s_bench.database, &s_bench.batch, &fault), 0);
    assert_int_equal (s_bench.rows[0].outcome, DB_ROW_REPEATED);
    assert_int_equal (s_ask ("SELECT count(*) FROM events"), 3);
    assert_int_equal (s_ask ("SELECT count(*) FROM eventflow_done"), 3);
    s_end ();
}

static void
test_sqlite_constraints_refuse_the_row_alone_and_its_repeats (void **state) {
    (void)state;
    db_fault_t fault;
    s_start ("id=id text primary key, a=payload", "");
    s_open ();
    s_add ("1", s_put_five);
    s_add ("1", s_put_text); /* another event of that id */
    s_add ("1", s_put_text);
    s_add ("2", s_put_text);
    assert_int_equal (db_sqlite.write (s_bench.database, &s_bench.batch, &fault), 0);
    assert_int_equal (s_bench.rows[0].outcome, DB_ROW_WRITTEN);
    assert_int_equal (s_bench.rows[1].outcome, DB_ROW_REFUSED);
    assert_string_equal (s_bench.rows[1].fault->code, "CONSTRAINT");
    assert_int_equal (s_bench.rows[2].outcome, DB_ROW_REFUSED);
    assert_int_equal (s_bench.rows[3].outcome, DB_ROW_WRITTEN);
    assert_int_equal (s_ask ("SELECT count(*) FROM eventflow_done"), 2);
    s_end ();
}

static void
test_sqlite_knows_repeats_by_a_unique_column (void **state) {
    (void)state;
    db_fault_t fault;
    s_start ("id, a=payload", "id");
    s_open ();
    s_add ("1", s_put_five);
    s_add ("1", s_put_text);
    assert_int_equal (db_sqlite.write (s_bench.database, &s_bench.batch, &fault), 0);
    assert_int_equal (s_bench.rows[1].outcome, DB_ROW_WRITTEN); /* as far as anybody is to know */
    assert_int_equal (s_ask ("SELECT count(*) FROM events"), 1);
    assert_int_equal (s_ask ("SELECT count(*) FROM sqlite_master WHERE name = 'eventflow_done'"),
                      0);
    s_end ();
}

static void
test_sqlite_forgets_old_lines_in_steps (void **state) {
    (void)state;
    db_fault_t fault;
    s_start ("id, a=payload", "");
    s_open ();
    s_add ("1", s_put_five);
    s_add ("2", s_put_five);
    assert_int_equal (db_sqlite.write (s_bench.database, &s_bench.batch, &fault), 0);
    assert_int_equal (db_sqlite.forget (s_bench.database, ef_wall_ms () - 60000, &fault), 0);
    assert_int_equal (db_sqlite.forget (s_bench.database, ef_wall_ms () + 60000, &fault), 2);
    assert_int_equal (s_ask ("SELECT count(*) FROM eventflow_done"), 0);
    assert_int_equal (s_ask ("SELECT count(*) FROM events"), 2);
    s_end ();
}

static void
test_sqlite_waits_for_a_lock_and_no_longer_than_it_may (void **state) {
    (void)state;
    db_fault_t fault;
    sqlite3 *other;
    s_start ("id, a=payload", "");
    s_open ();
    assert_int_equal (sqlite3_open (s_bench.options.url + 7, &other), SQLITE_OK);
    assert_int_equal (sqlite3_exec (other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    s_add ("1", s_put_five);
    uint64_t start = ef_mono_ms ();
    assert_int_equal (db_sqlite.write (s_bench.database, &s_bench.batch, &fault), -1);
    assert_int_equal (fault.verdict, DB_LATER);
    assert_string_equal (fault.code, "LOCKED");
    assert_true (ef_mono_ms () - start >= 190);
    atomic_store (&s_bench.is_unwanted, true); /* nobody waits: it ends at once */
    s_bench.options.statement_timeout_ms = 60000;
    start = ef_mono_ms ();
    assert_int_equal (db_sqlite.write (s_bench.database, &s_bench.batch, &fault), -1);
    assert_true (ef_mono_ms () - start < 20000);
    atomic_store (&s_bench.is_unwanted, false);
    assert_int_equal (sqlite3_exec (other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal (db_sqlite.write (s_bench.database, &s_bench.batch, &fault), 0);
    sqlite3_close (other);
    s_end ();
}

static void
test_sqlite_tells_what_is_set_up_wrongly (void **state) {
    (void)state;
    db_fault_t fault;
    s_start ("id, a=payload", "");
    s_bench.options.is_created = false;
    assert_int_equal (db_sqlite.open (s_bench.database, &fault), -1); /* no such file */
    assert_int_equal (fault.verdict, DB_WRONG);
    s_bench.options.is_created = true;
    s_open ();
    db_sqlite.close (s_bench.database);
    s_bench.options.is_created = false;
    snprintf (s_bench.options.table, sizeof s_bench.options.table, "nowhere");
    assert_int_equal (db_sqlite.open (s_bench.database, &fault), -1);
    assert_int_equal (fault.verdict, DB_WRONG);
    assert_non_null (strstr (fault.text, "nowhere"));
    assert_false (db_sqlite.is_open (s_bench.database));
    s_end ();
}

static void
test_sqlite_values_come_back_as_they_were (void **state) {
    (void)state;
    db_fault_t fault;
    s_start ("large=payload.large text, bytes=payload.bytes blob, paid=payload.paid boolean, "
             "amount=payload.amount real, whole=payload json, none=payload.none integer",
             "");
    s_open ();
    s_add ("1", s_put_order);
    assert_int_equal (db_sqlite.write (s_bench.database, &s_bench.batch, &fault), 0);
    assert_int_equal (s_bench.rows[0].outcome, DB_ROW_WRITTEN);
    assert_int_equal (
        s_ask ("SELECT large = '18446744073709551615' AND bytes = x'00ff' AND paid = 1 "
               "AND amount = 1.5 AND none IS NULL AND "
               "json_type(whole, '$.$map') = 'array' FROM events"),
        1);
    s_end ();
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_sqlite_writes_each_event_once),
        cmocka_unit_test (test_sqlite_constraints_refuse_the_row_alone_and_its_repeats),
        cmocka_unit_test (test_sqlite_knows_repeats_by_a_unique_column),
        cmocka_unit_test (test_sqlite_forgets_old_lines_in_steps),
        cmocka_unit_test (test_sqlite_waits_for_a_lock_and_no_longer_than_it_may),
        cmocka_unit_test (test_sqlite_tells_what_is_set_up_wrongly),
        cmocka_unit_test (test_sqlite_values_come_back_as_they_were)};
    int rc = cmocka_run_group_tests (tests, NULL, NULL);
    ef_buf_free (&s_bytes);
    return rc;
}
