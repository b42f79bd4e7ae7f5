/* A connection to PostgreSQL on which nothing waits for ever. SPDX-License-Identifier: MIT */
#include "link.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#define CANCEL_MS  2000 /* for a cancelled statement to end */
#define PARAMS_MAX DB_COLUMNS_MAX
#define TEXT_ARRAY 1009 /* its type's number (pg_type.dat) */

/* By what an SQLSTATE begins with, the longer ones first (PostgreSQL's appendix A). */
static const struct {
    const char *begin;
    db_verdict_t verdict;
    const char *code;
} s_states[] = {{"40P01", DB_AGAIN, "DEADLOCK"},  {"40", DB_AGAIN, "SERIALIZATION"},
                {"55P03", DB_LATER, "LOCKED"},    {"55", DB_WRONG, "SETUP"},
                {"57014", DB_SLOW, "TIMEOUT"},    {"57", DB_LOST, "CONNECT"},
                {"08", DB_LOST, "CONNECT"},       {"53300", DB_LOST, "CONNECT"},
                {"53", DB_FULL, "FULL"},          {"58", DB_LATER, "IO"},
                {"22", DB_REFUSED, "TYPE"},       {"23", DB_REFUSED, "CONSTRAINT"},
                {"44", DB_REFUSED, "CONSTRAINT"}, {"P0", DB_REFUSED, "CONSTRAINT"},
                {"54", DB_REFUSED, "TYPE"},       {"25006", DB_LOST, "READ_ONLY"},
                {"25", DB_LOST, "CONNECT"},       {"0A", DB_WRONG, "SETUP"},
                {"28", DB_WRONG, "SETUP"},        {"3D", DB_WRONG, "SETUP"},
                {"3F", DB_WRONG, "SETUP"},        {"42", DB_WRONG, "SETUP"}};

void
db_link_judge (const char *sqlstate, const char *text, db_fault_t *fault) {
    char words[500];
    snprintf (words, sizeof words, "%s: %s", sqlstate, text);
    for (size_t i = 0; i < sizeof s_states / sizeof s_states[0]; i++) {
        if (strncmp (sqlstate, s_states[i].begin, strlen (s_states[i].begin)) == 0) {
            (void)db_blame (fault, s_states[i].verdict, s_states[i].code, words);
            return;
        }
    }
    (void)db_blame (fault, DB_LATER, "SQL", words);
}

static const char *
s_option (const PQconninfoOption *options, const char *keyword) {
    for (; options && options->keyword; options++) {
        if (strcmp (options->keyword, keyword) == 0 && options->val && options->val[0]) {
            return options->val;
        }
    }
    return NULL;
}

int
db_link_name (const char *url, char name[256], char error[512]) {
    char *why = NULL;
    PQconninfoOption *said = PQconninfoParse (url, &why);
    if (said == NULL) {
        snprintf (error, 512, "url: %s", why ? why : "out of memory");
        PQfreemem (why); /* NULL is fine */
        return -1;
    }
    PQconninfoOption *natural = PQconndefaults ();
    static const char *const keys[] = {"host", "hostaddr", "port", "dbname", "user"};
    const char *found[5];
    for (size_t i = 0; i < 5; i++) {
        found[i] =
            s_option (said, keys[i]) ? s_option (said, keys[i]) : s_option (natural, keys[i]);
    }
    const char *host = found[0] ? found[0] : found[1];
    const char *database = found[3] ? found[3] : found[4];
    snprintf (name, 256, "postgresql:%.100s:%.30s/%.100s", host ? host : "local",
              found[2] ? found[2] : "5432", database ? database : "");
    PQconninfoFree (said);
    PQconninfoFree (natural);
    return 0;
}

void
db_link_close (db_link_t *self) {
    PQfinish (self->connection);
    self->connection = NULL;
}

/* It can't be used any more. Returns -1. */
static int
s_lose (db_link_t *self, const char *text, db_fault_t *fault) {
    (void)db_blame (fault, DB_LOST, "CONNECT", text);
    db_link_close (self);
    return -1;
}

static void
s_no_notice (void *arg, const char *text) {
    (void)arg; /* "relation exists, skipping": nothing for anybody */
    (void)text;
}

/* Refused logins and databases that aren't there have an SQLSTATE that libpq doesn't hand out. */
static int
s_fail_open (db_link_t *self, db_fault_t *fault) {
    static const char *const wrong[] = {
        "authentication failed", "no password supplied",           "does not exist",
        "no pg_hba.conf entry",  "permission denied for database", "invalid "};
    char text[500];
    snprintf (text, sizeof text, "%s", PQerrorMessage (self->connection));
    (void)s_lose (self, text, fault);
    bool is_answered = strstr (text, "FATAL:") || strstr (text, "no password supplied") ||
                       strncmp (text, "invalid ", 8) == 0;
    for (size_t i = 0; is_answered && i < sizeof wrong / sizeof wrong[0]; i++) {
        if (strstr (text, wrong[i])) {
            return db_blame (fault, DB_WRONG, "SETUP", text);
        }
    }
    return -1;
}

int
db_link_open (db_link_t *self, const char *const *keywords, const char *const *values,
              uint64_t most_ms, db_fault_t *fault) {
    uint64_t end_ms = ef_mono_ms () + most_ms;
    db_link_close (self);
    self->connection = PQconnectStartParams (keywords, values, 1);
    ef_assert (self->connection != NULL);
    if (PQstatus (self->connection) == CONNECTION_BAD) {
        return s_fail_open (self, fault);
    }
    PQsetNoticeProcessor (self->connection, s_no_notice, NULL);
    PostgresPollingStatusType status = PGRES_POLLING_WRITING;
    while (status != PGRES_POLLING_OK) {
        uint64_t now = ef_mono_ms ();
        if (status == PGRES_POLLING_FAILED) {
            return s_fail_open (self, fault);
        }
        if (now >= end_ms || atomic_load (self->wait->is_unwanted)) {
            return s_lose (self, "no connection within the connect_timeout", fault);
        }
        short events = status == PGRES_POLLING_READING ? POLLIN : POLLOUT;
        if (db_wait (self->wait, PQsocket (self->connection), events, end_ms - now)) {
            status = PQconnectPoll (self->connection);
        }
    }
    return PQsetnonblocking (self->connection, 1) ? s_fail_open (self, fault) : 0;
}

static void
s_cancel (db_link_t *self) {
    char error[256];
    PGcancel *cancel = PQgetCancel (self->connection);
    if (cancel) {
        (void)PQcancel (cancel, error, sizeof error); /* else the statement's own time ends it */
        PQfreeCancel (cancel);
    }
}

/* Sends what is to be sent and waits until a result can be taken. 0 or -1. */
static int
s_wait_result (db_link_t *self, uint64_t *end_ms, bool *is_cancelled, db_fault_t *fault) {
    for (;;) {
        int unsent = PQflush (self->connection);
        if (unsent < 0) {
            return s_lose (self, PQerrorMessage (self->connection), fault);
        }
        if (unsent == 0 && !PQisBusy (self->connection)) {
            return 0;
        }
        uint64_t now = ef_mono_ms ();
        if (!*is_cancelled && atomic_load (self->wait->is_unwanted)) {
            *is_cancelled = true;
            s_cancel (self);
            *end_ms = now + CANCEL_MS < *end_ms ? now + CANCEL_MS : *end_ms;
        }
        if (now >= *end_ms) {
            return s_lose (self, "no answer within the statement_timeout", fault);
        }
        short events = unsent ? POLLIN | POLLOUT : POLLIN;
        if (db_wait (self->wait, PQsocket (self->connection), events, *end_ms - now) & ~POLLOUT &&
            !PQconsumeInput (self->connection)) {
            return s_lose (self, PQerrorMessage (self->connection), fault);
        }
    }
}

static int
s_send (db_link_t *self, const char *sql, const db_params_t *params) {
    Oid types[PARAMS_MAX];
    const char *values[PARAMS_MAX];
    int sizes[PARAMS_MAX];
    int formats[PARAMS_MAX];
    if (params == NULL) {
        return PQsendQuery (self->connection, sql);
    }
    ef_assert (params->count <= PARAMS_MAX);
    for (int i = 0; i < params->count; i++) {
        types[i] = TEXT_ARRAY;
        values[i] = (const char *)params->arrays[i].data;
        sizes[i] = (int)params->arrays[i].size;
        formats[i] = 1;
    }
    return PQsendQueryParams (self->connection, sql, params->count, types, values, sizes, formats,
                              0);
}

static void
s_judge_result (const PGresult *result, db_fault_t *fault) {
    const char *state = PQresultErrorField (result, PG_DIAG_SQLSTATE);
    const char *text = PQresultErrorField (result, PG_DIAG_MESSAGE_PRIMARY);
    if (state == NULL) {
        (void)db_blame (fault, DB_LOST, "CONNECT", PQresultErrorMessage (result));
    } else {
        db_link_judge (state, text ? text : "", fault);
    }
}

PGresult *
db_link_run (db_link_t *self, const char *sql, const db_params_t *params, uint64_t most_ms,
             db_fault_t *fault) {
    uint64_t end_ms = ef_mono_ms () + most_ms;
    bool is_cancelled = false;
    bool has_failed = false;
    PGresult *last = NULL;
    if (self->connection == NULL) {
        (void)db_blame (fault, DB_LOST, "CONNECT", "the connection is closed");
        return NULL;
    }
    if (!s_send (self, sql, params)) {
        (void)s_lose (self, PQerrorMessage (self->connection), fault);
        return NULL;
    }
    for (;;) {
        if (s_wait_result (self, &end_ms, &is_cancelled, fault)) {
            PQclear (last);
            return NULL;
        }
        PGresult *result = PQgetResult (self->connection);
        if (result == NULL) {
            break;
        }
        ExecStatusType status = PQresultStatus (result);
        if (!has_failed && status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
            has_failed = true;
            s_judge_result (result, fault);
        }
        PQclear (last);
        last = result;
    }
    if (PQstatus (self->connection) == CONNECTION_BAD) {
        if (!has_failed || fault->verdict != DB_WRONG) {
            fault->verdict = DB_LOST;
            (void)(has_failed || db_blame (fault, DB_LOST, "CONNECT", "the connection broke"));
        }
        has_failed = true;
        db_link_close (self);
    }
    if (has_failed) {
        PQclear (last);
        return NULL;
    }
    return last;
}

int
db_link_do (db_link_t *self, const char *sql, uint64_t most_ms, db_fault_t *fault) {
    PGresult *result = db_link_run (self, sql, NULL, most_ms, fault);
    PQclear (result);
    return result ? 0 : -1;
}
