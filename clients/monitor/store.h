/* The monitor's file: blocks of series and the alerts. SPDX-License-Identifier: MIT

   SQLite, one file:

       topic (id, name)                           '' is the broker as a whole
       block (tier, start, topic, data)           series.h says what data is; start in s since 1970
       alert (id, rule, topic, state, since_ms, changed_ms, value, text, reminders, sent_ms)
       ended (n, id, rule, topic, since_ms, until_ms, text)   the last ones

   Role: all SQL. A handle is used by one thread at a time; one writes, others read beside it (WAL).
   Invariants: the file never grows past its bound for long: what is too old goes, then the oldest
   of the tier that has the most. On failure: a file that is damaged is set aside under another
   name; an error is told, and the caller goes on without history. */
#ifndef EF_MONITOR_STORE_H
#define EF_MONITOR_STORE_H

#include "../../proto/assert.h"
#include "../../proto/buf.h"

#include <stddef.h>

#define STORE_ENDED_MAX 500 /* alerts that are over and still shown */

typedef struct store_s store_t;

typedef struct {
    char rule[32];
    char topic[72]; /* "": the broker as a whole */
    char text[400];
    uint32_t state; /* alert_state_t */
    uint32_t reminders;
    uint64_t since_ms;   /* the condition holds since then */
    uint64_t changed_ms; /* the state is this since then */
    uint64_t sent_ms;    /* told last; 0: not yet */
    double value;
} store_alert_t;

/* Opens or makes it. NULL: `error` says why. */
store_t *store_open (const char *path, bool is_writer, char error[512]);
void store_close (store_t **self_p);
const char *store_error (const store_t *self);

EF_MUST_USE int store_begin (store_t *self);
EF_MUST_USE int store_commit (store_t *self);
void store_rollback (store_t *self);

/* The number of a topic; 0: it has none (and `is_new` is false), or an error. */
int64_t store_topic (store_t *self, const char *name, bool is_new);
EF_MUST_USE int store_put_block (store_t *self, uint32_t tier, int64_t topic, uint64_t start_s,
                                 const ef_buf_t *data);
/* 1: `data` has it; 0: there is none; -1: an error. */
EF_MUST_USE int store_get_block (store_t *self, uint32_t tier, int64_t topic, uint64_t start_s,
                                 ef_buf_t *data);
/* Takes away what is too old, then what is too much, and gives the room back to the file system. */
EF_MUST_USE int store_trim (store_t *self, uint64_t now_s, uint64_t most_bytes);
uint64_t store_bytes (store_t *self);

EF_MUST_USE int store_put_alert (store_t *self, const store_alert_t *alert);
/* It is over: it goes to those that ended. */
EF_MUST_USE int store_end_alert (store_t *self, const store_alert_t *alert, uint64_t now_ms);
EF_MUST_USE int store_drop_alert (store_t *self, const store_alert_t *alert);
void store_alerts (store_t *self, void (*each) (void *arg, const store_alert_t *alert), void *arg);
/* Newest first; `changed_ms` is when it ended. */
void store_ended (store_t *self, uint32_t limit,
                  void (*each) (void *arg, const store_alert_t *alert), void *arg);

#endif
