/* The monitor's history: samples in, blocks out. SPDX-License-Identifier: MIT */
#include "history_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static const void *
s_key (const void *item, size_t *size) {
    const history_line_t *line = item;
    *size = strlen (line->name);
    return line->name;
}

static void
s_free_waiting (waiting_t *list) {
    while (list) {
        waiting_t *next = list->next;
        ef_buf_free (&list->data);
        free (list);
        list = next;
    }
}

static void
s_append (history_t *self, waiting_t *item) {
    *self->waiting_end = item;
    self->waiting_end = &item->next;
    self->waiting_count++;
    while (self->waiting_count > WAITING_MAX) {
        waiting_t *first = self->waiting;
        self->waiting = first->next;
        first->next = NULL;
        self->waiting_count--;
        self->numbers.blocks_lost++;
        s_free_waiting (first);
    }
}

static waiting_t *
s_item (waiting_kind_t kind) {
    waiting_t *item = calloc (1, sizeof *item);
    ef_assert (item != NULL);
    item->kind = kind;
    return item;
}

typedef struct {
    history_t *self;
    history_line_t *line;
} full_t;

/* A block is to be written. Under the lock. */
static void
s_full (void *arg, uint32_t tier, const series_block_t *block) {
    const full_t *full = arg;
    waiting_t *item = s_item (WAITING_BLOCK);
    snprintf (item->name, sizeof item->name, "%s", full->line->name);
    item->tier = tier;
    item->start_s = block->start_s;
    series_encode (block, full->line->series.set, &item->data);
    full->line->series.is_dirty[tier] = false;
    s_append (full->self, item);
}

/* Of the tiers whose bits are set. */
static void
s_collect_line (history_t *self, history_line_t *line, unsigned tiers) {
    full_t full = {self, line};
    for (uint32_t tier = 0; tier < SERIES_TIERS; tier++) {
        if (line->series.is_dirty[tier] && (tiers & 1u << tier) != 0) {
            s_full (&full, tier, &line->series.blocks[tier]);
        }
    }
}

static void
s_collect (history_t *self, unsigned tiers) {
    history_line_t *line;
    for (uint32_t at = 0; (line = ef_hash_next (&self->lines, &at)) != NULL;) {
        s_collect_line (self, line, tiers);
    }
}

/* Coarser tiers have less to lose: each is written as often as two of its points pass, the finest
   every FLUSH_MS. */
static unsigned
s_due (history_t *self, uint64_t now_ms) {
    unsigned tiers = 0;
    for (uint32_t tier = 0; tier < SERIES_TIERS; tier++) {
        uint64_t every_ms = 2000ull * series_tiers[tier].step_s;
        if (now_ms >= self->due_ms[tier]) {
            self->due_ms[tier] = now_ms + (every_ms > FLUSH_MS ? every_ms : FLUSH_MS) - 1;
            tiers |= 1u << tier;
        }
    }
    return tiers;
}

static int
s_write_item (history_t *self, const waiting_t *item) {
    if (item->kind == WAITING_BLOCK) {
        int64_t topic = store_topic (self->writer, item->name, true);
        return topic == 0
                   ? -1
                   : store_put_block (self->writer, item->tier, topic, item->start_s, &item->data);
    }
    return item->kind == WAITING_PUT   ? store_put_alert (self->writer, &item->alert)
           : item->kind == WAITING_END ? store_end_alert (self->writer, &item->alert, item->start_s)
                                       : store_drop_alert (self->writer, &item->alert);
}

/* The whole list in one transaction. */
static int
s_write_list (history_t *self, const waiting_t *list, uint64_t *blocks) {
    int rc = store_begin (self->writer);
    for (const waiting_t *item = list; rc == 0 && item; item = item->next) {
        rc = s_write_item (self, item);
        *blocks += item->kind == WAITING_BLOCK;
    }
    rc = rc ? rc : store_commit (self->writer);
    if (rc) {
        ef_log_limited (EF_LOG_ERROR, "history.unwritten", "error=\"%s\"",
                        store_error (self->writer));
        store_rollback (self->writer);
    }
    return rc;
}

/* Under the lock, which is let go meanwhile. What couldn't be written goes back to the front. */
static void
s_write (history_t *self) {
    uint64_t blocks = 0;
    if (self->waiting == NULL) {
        return;
    }
    waiting_t **end = self->waiting_end;
    uint32_t count = self->waiting_count;
    self->writing = self->waiting;
    self->waiting = NULL;
    self->waiting_end = &self->waiting;
    self->waiting_count = 0;
    pthread_mutex_unlock (&self->lock);
    int rc = s_write_list (self, self->writing, &blocks);
    pthread_mutex_lock (&self->lock);
    self->numbers.is_failing = rc != 0;
    if (rc == 0) {
        self->numbers.blocks_written += blocks;
        s_free_waiting (self->writing);
    } else {
        *end = self->waiting;
        self->waiting_end = self->waiting ? self->waiting_end : end;
        self->waiting = self->writing;
        self->waiting_count += count;
    }
    self->writing = NULL;
}

static void
s_sleep (history_t *self, uint64_t until_ms) {
    struct timespec until = {(time_t)(until_ms / 1000), (long)(until_ms % 1000) * 1000000};
    (void)pthread_cond_timedwait (&self->wake, &self->lock, &until);
}

static void *
s_run (void *arg) {
    history_t *self = arg;
    uint64_t flush_ms = ef_mono_ms () + FLUSH_MS;
    uint64_t trim_ms = 0;
    pthread_mutex_lock (&self->lock);
    while (!self->is_stopping) {
        uint64_t now = ef_mono_ms ();
        if (now >= flush_ms) {
            flush_ms = now + FLUSH_MS;
            s_collect (self, s_due (self, now));
            s_write (self);
        }
        if (now >= trim_ms) {
            trim_ms = now + TRIM_MS;
            pthread_mutex_unlock (&self->lock);
            if (store_trim (self->writer, ef_wall_ms () / 1000, self->bytes)) {
                ef_log_limited (EF_LOG_ERROR, "history.untrimmed", "error=\"%s\"",
                                store_error (self->writer));
            }
            uint64_t bytes = store_bytes (self->writer);
            pthread_mutex_lock (&self->lock);
            self->numbers.file_bytes = bytes;
        }
        if (self->is_urgent) {
            self->is_urgent = false;
            s_write (self);
        }
        if (!self->is_stopping && !self->is_urgent) {
            s_sleep (self, flush_ms < trim_ms ? flush_ms : trim_ms);
        }
    }
    s_collect (self, ALL_TIERS);
    s_write (self);
    pthread_mutex_unlock (&self->lock);
    return NULL;
}

static int
s_start (history_t *self) {
    pthread_condattr_t attributes;
    pthread_mutex_init (&self->lock, NULL);
    pthread_mutex_init (&self->reading, NULL);
    pthread_condattr_init (&attributes);
    pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
    pthread_cond_init (&self->wake, &attributes);
    pthread_condattr_destroy (&attributes);
    int rc = pthread_create (&self->thread, NULL, s_run, self);
    self->is_running = rc == 0;
    return rc;
}

history_t *
history_new (const char *path, uint64_t bytes, uint32_t topics, char error[512]) {
    history_t *self = calloc (1, sizeof *self);
    uint64_t key[2] = {ef_random (), ef_random ()};
    ef_assert (self != NULL);
    self->bytes = bytes;
    self->topics = topics;
    self->waiting_end = &self->waiting;
    ef_hash_init (&self->lines, key, s_key);
    self->writer = store_open (path, true, error);
    self->reader = self->writer ? store_open (path, false, error) : NULL;
    if (self->reader == NULL) {
        history_destroy (&self);
        return NULL;
    }
    int rc = s_start (self);
    if (rc) {
        snprintf (error, 512, "a thread can't be made: %s", strerror (rc));
        history_destroy (&self);
    }
    return self;
}

static void
s_free_line (history_line_t *line) {
    series_free (&line->series);
    free (line);
}

void
history_destroy (history_t **self_p) {
    history_t *self = *self_p;
    history_line_t *line;
    if (self == NULL) {
        return;
    }
    if (self->is_running) {
        pthread_mutex_lock (&self->lock);
        self->is_stopping = true;
        pthread_cond_signal (&self->wake);
        pthread_mutex_unlock (&self->lock);
        pthread_join (self->thread, NULL);
    }
    for (uint32_t at = 0; (line = ef_hash_next (&self->lines, &at)) != NULL;) {
        s_free_line (line);
    }
    ef_hash_free (&self->lines);
    s_free_waiting (self->waiting);
    store_close (&self->reader);
    store_close (&self->writer);
    free (self);
    *self_p = NULL;
}

/* What the file has of the block under way. */
static void
s_resume (history_t *self, history_line_t *line) {
    uint64_t now_s = ef_wall_ms () / 1000;
    ef_buf_t data = {0};
    pthread_mutex_lock (&self->reading);
    int64_t topic = store_topic (self->reader, line->name, false);
    for (uint32_t tier = 0; topic && tier < SERIES_TIERS; tier++) {
        uint64_t start_s = series_start (tier, now_s);
        ef_buf_clear (&data);
        if (store_get_block (self->reader, tier, topic, start_s, &data) > 0 &&
            series_decode (&line->series.blocks[tier], line->series.set, start_s, data.data,
                           data.size)) {
            ef_log (EF_LOG_WARNING, "history.unreadable", "topic=%s tier=%u", line->name, tier);
        }
    }
    pthread_mutex_unlock (&self->reading);
    ef_buf_free (&data);
}

history_line_t *
history_line (history_t *self, const char *name, const series_set_t *set) {
    pthread_mutex_lock (&self->lock);
    history_line_t *line = ef_hash_find (&self->lines, name, strlen (name));
    bool is_full = self->lines.count > self->topics; /* the broker's own beside them */
    pthread_mutex_unlock (&self->lock);
    if (line || is_full) {
        return line;
    }
    line = calloc (1, sizeof *line);
    ef_assert (line != NULL);
    snprintf (line->name, sizeof line->name, "%s", name);
    series_init (&line->series, set);
    s_resume (self, line);
    pthread_mutex_lock (&self->lock);
    ef_hash_insert (&self->lines, line);
    pthread_mutex_unlock (&self->lock);
    return line;
}

void
history_add (history_t *self, history_line_t *line, uint64_t now_s, double span_ms,
             const double *values) {
    pthread_mutex_lock (&self->lock);
    /* A wall clock that was set back a little would have blocks written over. */
    if (now_s < self->last_s && self->last_s - now_s <= BACKWARD_S) {
        now_s = self->last_s;
    }
    self->last_s = now_s;
    full_t full = {self, line};
    series_add (&line->series, now_s, span_ms, values, s_full, &full);
    pthread_mutex_unlock (&self->lock);
}

void
history_forget (history_t *self, history_line_t **line_p) {
    history_line_t *line = *line_p;
    if (line) {
        pthread_mutex_lock (&self->lock);
        s_collect_line (self, line, ALL_TIERS);
        ef_hash_remove (&self->lines, line);
        pthread_mutex_unlock (&self->lock);
        s_free_line (line);
        *line_p = NULL;
    }
}

void
history_alert (history_t *self, history_act_t act, const store_alert_t *alert, uint64_t now_ms) {
    waiting_t *item = s_item (act == HISTORY_PUT   ? WAITING_PUT
                              : act == HISTORY_END ? WAITING_END
                                                   : WAITING_DROP);
    item->alert = *alert;
    item->start_s = now_ms;
    pthread_mutex_lock (&self->lock);
    s_append (self, item);
    self->is_urgent = true;
    pthread_cond_signal (&self->wake);
    pthread_mutex_unlock (&self->lock);
}

void
history_alerts (history_t *self, void (*each) (void *arg, const store_alert_t *alert), void *arg) {
    pthread_mutex_lock (&self->reading);
    store_alerts (self->reader, each, arg);
    pthread_mutex_unlock (&self->reading);
}

void
history_ended (history_t *self, uint32_t limit,
               void (*each) (void *arg, const store_alert_t *alert), void *arg) {
    pthread_mutex_lock (&self->reading);
    store_ended (self->reader, limit, each, arg);
    pthread_mutex_unlock (&self->reading);
}

void
history_numbers (history_t *self, history_numbers_t *numbers) {
    pthread_mutex_lock (&self->lock);
    *numbers = self->numbers;
    numbers->lines = self->lines.count;
    numbers->waiting = self->waiting_count;
    pthread_mutex_unlock (&self->lock);
}
