/* What history.c and history_query.c share. SPDX-License-Identifier: MIT */
#ifndef EF_MONITOR_HISTORY_PRIVATE_H
#define EF_MONITOR_HISTORY_PRIVATE_H

#include "../../broker/base/hash.h"
#include "../../broker/base/log.h"
#include "../../proto/event.h"
#include "history.h"

#include <pthread.h>
#include <time.h>

#define FLUSH_MS    15000
#define ALL_TIERS   ((1u << SERIES_TIERS) - 1)
#define TRIM_MS     60000
#define BACKWARD_S  600    /* a clock set back by more than that begins anew */
#define WAITING_MAX 50000u /* blocks that can't be written: some 40 MB */

struct history_line_s {
    char name[72];
    series_t series;
};

typedef enum { WAITING_BLOCK, WAITING_PUT, WAITING_END, WAITING_DROP } waiting_kind_t;

/* What is to be written. */
typedef struct waiting_s {
    struct waiting_s *next;
    waiting_kind_t kind;
    char name[72]; /* of a block */
    uint32_t tier;
    uint64_t start_s; /* of an alert that ended: when, ms */
    ef_buf_t data;
    store_alert_t alert;
} waiting_t;

struct history_s {
    pthread_mutex_t lock; /* lines, what waits, numbers */
    pthread_cond_t wake;
    pthread_mutex_t reading; /* the reader */
    pthread_t thread;
    bool is_running;
    bool is_stopping;
    bool is_urgent;  /* something isn't to wait for the next flush */
    store_t *writer; /* the thread's */
    store_t *reader;
    uint64_t bytes;
    uint32_t topics;
    uint64_t last_s;    /* of the newest sample */
    ef_hash_t lines;    /* of history_line_t */
    waiting_t *waiting; /* owned; oldest first */
    waiting_t **waiting_end;
    uint32_t waiting_count;
    waiting_t *writing;            /* those that the thread has under way; read under the lock */
    uint64_t due_ms[SERIES_TIERS]; /* the thread's: when the open blocks of a tier are written */
    history_numbers_t numbers;
};

#endif
