/* The thread that has the database. SPDX-License-Identifier: MIT */
#include "thread.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define AGAIN_TIMES    5     /* for what is nobody's fault */
#define PAUSE_MS       10    /* before the second try, doubled for each further one */
#define PAUSE_MOST_MS  500   /* between two tries to connect */
#define OPERATOR_MS    10000 /* before an event is tried again that waits for somebody to act */
#define FORGET_MS      10000 /* between two looks for lines of the ledger that are old */
#define FORGET_NEXT_MS 50    /* the same where there are more of them */
#define LEAVE_S        5     /* for the thread to end; then the process ends without it */

struct db_thread_s {
    const db_options_t *options;
    const db_backend_t *backend;
    void *database; /* owned; the thread's */
    db_map_t map;   /* the same */
    db_wait_t wait;
    pthread_t thread;
    bool has_thread;
    int wake; /* eventfd: look at the queue */
    int done; /* eventfd: look at what has finished */
    pthread_mutex_t lock;
    /* Under the lock. */
    db_job_t *queue;
    db_job_t **queue_end;
    db_job_t *finished;
    db_job_t **finished_end;
    uint32_t wanted;  /* of the batch's jobs */
    db_job_t **batch; /* owned; the thread changes it under the lock only */
    uint32_t batch_count;
    bool is_ending;
    bool is_asked; /* a probe */
    bool is_news;  /* about its health */
    bool is_well;
    char reason[200];
    atomic_bool is_unwanted; /* all of the batch was stopped */
    /* The thread's. */
    uint32_t limit; /* events of a transaction, lower where they took too long */
    uint64_t forget_ms;
    bool was_good; /* the last thing that was done with the database went well */
    ef_buf_t arena;
    db_value_t *values; /* owned: `batch` rows of them */
    db_row_t *rows;     /* owned */
};

void
db_job_free (db_job_t *job) {
    free (job->text);
    free (job);
}

static void
s_free_jobs (db_job_t *job) {
    while (job) {
        db_job_t *next = job->next;
        db_job_free (job);
        job = next;
    }
}

static void
s_signal (int file) {
    uint64_t one = 1;
    (void)!write (file, &one, sizeof one); /* full it is readable all the same */
}

/* ---- For the loop ---- */

static void *s_main (void *arg);

static int
s_start (db_thread_t *self, char error[512]) {
    self->database = self->backend->create (self->options, &self->map, &self->wait, error);
    if (self->database == NULL) {
        return -1;
    }
    self->has_thread = pthread_create (&self->thread, NULL, s_main, self) == 0;
    if (!self->has_thread) {
        snprintf (error, 512, "no thread can be made");
        return -1;
    }
    return 0;
}

db_thread_t *
db_thread_new (const db_options_t *options, char error[512]) {
    db_thread_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->options = options;
    self->backend = strncmp (options->url, "sqlite:", 7) == 0 ? &db_sqlite : &db_postgres;
    self->limit = options->batch;
    self->is_well = true;
    self->queue_end = &self->queue;
    self->finished_end = &self->finished;
    pthread_mutex_init (&self->lock, NULL);
    self->wake = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->done = eventfd (0, EFD_CLOEXEC | EFD_NONBLOCK);
    self->wait = (db_wait_t){self->wake, &self->is_unwanted};
    if (self->wake < 0 || self->done < 0 || db_map_read (&self->map, options->columns, error)) {
        db_thread_destroy (&self);
        return NULL;
    }
    self->batch = calloc (options->batch, sizeof *self->batch);
    self->rows = calloc (options->batch, sizeof *self->rows);
    self->values = calloc ((size_t)options->batch * self->map.count, sizeof *self->values);
    ef_assert (self->batch && self->rows && self->values);
    if (s_start (self, error)) {
        db_thread_destroy (&self);
    }
    return self;
}

/* A thread that hangs where nothing can wake it (a resolver, a disk) is left behind: the process
   is about to end, and what it holds must stay. */
static bool
s_has_ended (db_thread_t *self) {
    struct timespec end;
    if (!self->has_thread) {
        return true;
    }
    pthread_mutex_lock (&self->lock);
    self->is_ending = true;
    atomic_store (&self->is_unwanted, true);
    pthread_mutex_unlock (&self->lock);
    s_signal (self->wake);
    end.tv_sec = (time_t)(ef_wall_ms () / 1000 + LEAVE_S);
    end.tv_nsec = 0;
    return pthread_timedjoin_np (self->thread, NULL, &end) == 0;
}

void
db_thread_destroy (db_thread_t **self_p) {
    db_thread_t *self = *self_p;
    *self_p = NULL;
    if (self == NULL || !s_has_ended (self)) {
        return;
    }
    if (self->database) {
        self->backend->destroy (&self->database);
    }
    s_free_jobs (self->queue);
    s_free_jobs (self->finished);
    for (uint32_t i = 0; i < self->batch_count; i++) {
        db_job_free (self->batch[i]);
    }
    pthread_mutex_destroy (&self->lock);
    close (self->wake);
    close (self->done);
    ef_buf_free (&self->arena);
    free (self->batch);
    free (self->rows);
    free (self->values);
    free (self);
}

static void
s_copy (uint8_t *to, eventflow_bytes_t from) {
    if (from.size > 0) {
        memcpy (to, from.data, from.size);
    }
}

void
db_thread_put (db_thread_t *self, const eventflow_delivery_t *delivery) {
    size_t size = delivery->event.size + delivery->errors.size;
    db_job_t *job = malloc (sizeof *job + size);
    ef_assert (job != NULL);
    *job = (db_job_t){.tag = delivery->tag,
                      .n = delivery->n,
                      .accepted_ms = delivery->accepted_ms ? delivery->accepted_ms : ef_wall_ms (),
                      .attempt = delivery->attempt,
                      .result = EVENTFLOW_RETRY,
                      .retry_ms = -1,
                      .event_bytes = delivery->event.size,
                      .errors_bytes = delivery->errors.size};
    s_copy (job->bytes, delivery->event);
    s_copy (job->bytes + delivery->event.size, delivery->errors);
    pthread_mutex_lock (&self->lock);
    *self->queue_end = job;
    self->queue_end = &job->next;
    pthread_mutex_unlock (&self->lock);
}

void
db_thread_flush (db_thread_t *self) {
    s_signal (self->wake);
}

static db_job_t *
s_take_from_queue (db_thread_t *self, uint64_t tag) {
    db_job_t **at = &self->queue;
    while (*at && (*at)->tag != tag) {
        at = &(*at)->next;
    }
    db_job_t *job = *at;
    if (job) {
        *at = job->next;
        self->queue_end = job->next ? self->queue_end : at;
        job->next = NULL;
    }
    return job;
}

db_job_t *
db_thread_stop (db_thread_t *self, uint64_t tag, stop_reason_t reason) {
    pthread_mutex_lock (&self->lock);
    db_job_t *queued = s_take_from_queue (self, tag);
    for (uint32_t i = 0; queued == NULL && i < self->batch_count; i++) {
        db_job_t *job = self->batch[i];
        if (job->tag == tag && !job->is_stopped) {
            job->is_stopped = true;
            job->reason = reason;
            self->wanted--;
            if (self->wanted == 0) {
                atomic_store (&self->is_unwanted, true);
                s_signal (self->wake);
            }
        }
    }
    pthread_mutex_unlock (&self->lock);
    return queued;
}

int
db_thread_fd (const db_thread_t *self) {
    return self->done;
}

db_job_t *
db_thread_take (db_thread_t *self) {
    uint64_t words;
    (void)!read (self->done, &words, sizeof words); /* it only wakes */
    pthread_mutex_lock (&self->lock);
    db_job_t *jobs = self->finished;
    self->finished = NULL;
    self->finished_end = &self->finished;
    pthread_mutex_unlock (&self->lock);
    return jobs;
}

void
db_thread_probe (db_thread_t *self) {
    pthread_mutex_lock (&self->lock);
    self->is_asked = true;
    pthread_mutex_unlock (&self->lock);
    s_signal (self->wake);
}

bool
db_thread_health (db_thread_t *self, bool *is_well, char reason[200]) {
    pthread_mutex_lock (&self->lock);
    bool is_news = self->is_news;
    self->is_news = false;
    *is_well = self->is_well;
    memcpy (reason, self->reason, sizeof self->reason);
    pthread_mutex_unlock (&self->lock);
    return is_news;
}

const char *
db_thread_downstream (const db_thread_t *self) {
    return self->backend->downstream (self->database);
}

/* ---- In the thread ---- */

/* What was last seen of the database; a probe that waits for it is answered with it. */
static void
s_tell_health (db_thread_t *self, const db_fault_t *fault) {
    pthread_mutex_lock (&self->lock);
    bool is_news = self->is_asked || self->is_well != (fault == NULL);
    self->is_well = fault == NULL;
    snprintf (self->reason, sizeof self->reason, "%.30s%s%.160s", fault ? fault->code : "",
              fault ? ": " : "", fault ? fault->text : "");
    if (is_news) {
        self->is_news = true;
        self->is_asked = false;
        s_signal (self->done);
    }
    pthread_mutex_unlock (&self->lock);
}

static bool
s_is_unwanted (db_thread_t *self) {
    return atomic_load (&self->is_unwanted);
}

/* Where it was open until now it may only be starting anew. */
static int
s_open (db_thread_t *self, db_fault_t *fault) {
    uint64_t end_ms = ef_mono_ms () + (self->was_good ? self->options->connect_timeout_ms : 0);
    uint64_t pause_ms = PAUSE_MS;
    while (!self->backend->is_open (self->database) &&
           self->backend->open (self->database, fault)) {
        if (fault->verdict != DB_LOST || ef_mono_ms () >= end_ms || s_is_unwanted (self)) {
            return -1;
        }
        (void)db_wait (&self->wait, -1, 0, pause_ms); /* a pause */
        pause_ms = 2 * pause_ms < PAUSE_MOST_MS ? 2 * pause_ms : PAUSE_MOST_MS;
    }
    return 0;
}

static void
s_reset (db_batch_t *batch) {
    for (uint32_t i = 0; i < batch->count; i++) {
        batch->rows[i].outcome = DB_ROW_WAITING;
    }
}

/* Whether a failed transaction is worth another try, now. */
static bool
s_may_again (db_thread_t *self, const db_fault_t *fault, unsigned tries, uint64_t end_ms) {
    if (s_is_unwanted (self)) {
        return false;
    }
    if (fault->verdict == DB_WRONG || fault->verdict == DB_LOST) {
        self->backend->close (self->database); /* a table may have changed: it is looked at anew */
    }
    bool may = fault->verdict == DB_AGAIN   ? tries < AGAIN_TIMES
               : fault->verdict == DB_WRONG ? tries < 2
               : fault->verdict == DB_LOST  ? self->was_good && ef_mono_ms () < end_ms
                                            : false;
    if (may) {
        uint64_t most_ms = (uint64_t)PAUSE_MS << (tries < 6 ? tries : 6);
        (void)db_wait (&self->wait, -1, 0, 1 + ef_random () % most_ms); /* a pause */
    }
    return may;
}

/* 0: each row has its outcome; -1: those that still wait have the fault. */
static int
s_write (db_thread_t *self, db_batch_t *batch, db_fault_t *fault) {
    uint64_t end_ms = ef_mono_ms () + self->options->connect_timeout_ms;
    for (unsigned tries = 1;; tries++) {
        if (s_open (self, fault) == 0) {
            if (self->backend->write (self->database, batch, fault) == 0) {
                return 0;
            }
            s_reset (batch);
        }
        if (fault->verdict == DB_PERHAPS) {
            break;
        }
        if (!s_may_again (self, fault, tries, end_ms)) {
            return -1;
        }
    }
    if (batch->count == 1) {
        db_refuse (batch->rows, fault);
        return 0;
    }
    db_batch_t first = {batch->rows, batch->count / 2, batch->arena};
    db_batch_t second = {batch->rows + first.count, batch->count - first.count, batch->arena};
    return s_write (self, &first, fault) || s_write (self, &second, fault) ? -1 : 0;
}

static void
s_say (db_job_t *job, eventflow_result_t result, const char *code, const char *text) {
    job->result = result;
    snprintf (job->code, sizeof job->code, "%s", code);
    job->text = strdup (text);
    ef_assert (job->text != NULL);
}

/* Makes rows of the jobs; those that can't be rows are refused. Returns how many there are. */
static uint32_t
s_map (db_thread_t *self) {
    uint32_t count = 0;
    ef_buf_clear (&self->arena);
    for (uint32_t i = 0; i < self->batch_count; i++) {
        db_job_t *job = self->batch[i];
        db_row_t *row = &self->rows[count];
        db_event_t event;
        char why[512] = "the event can't be read";
        int rc = db_event_read (&event, job->bytes, job->event_bytes);
        event.tag = job->tag;
        event.n = job->n;
        event.accepted_ms = job->accepted_ms;
        event.attempt = job->attempt;
        event.errors =
            (ef_span_t){(const char *)job->bytes + job->event_bytes, (uint32_t)job->errors_bytes};
        *row = (db_row_t){.values = self->values + (size_t)count * self->map.count, .job = job};
        if (rc || db_map_row (&self->map, &event, &self->arena, row->values, why)) {
            s_say (job, EVENTFLOW_DEAD, "TYPE", why);
            continue;
        }
        db_event_key (&event, &self->arena, &row->key);
        count++;
    }
    return count;
}

static void
s_judge_row (db_row_t *row, const db_fault_t *fault) {
    db_job_t *job = row->job;
    if (row->outcome == DB_ROW_REFUSED) {
        s_say (job, EVENTFLOW_DEAD, row->fault->code, row->fault->text);
    } else if (row->outcome != DB_ROW_WAITING) {
        job->result = EVENTFLOW_DONE;
    } else {
        bool is_operators = fault->verdict == DB_WRONG || fault->verdict == DB_FULL;
        s_say (job, EVENTFLOW_RETRY, fault->code, fault->text);
        job->retry_ms = is_operators ? OPERATOR_MS : -1;
    }
    free (row->fault);
    row->fault = NULL;
}

static bool
s_is_down (const db_fault_t *fault) {
    return fault->verdict == DB_LOST || fault->verdict == DB_WRONG || fault->verdict == DB_FULL;
}

/* Fewer at a time where they take too long; slowly more again. */
static void
s_adapt (db_thread_t *self, int rc, const db_fault_t *fault) {
    if (rc && fault->verdict == DB_SLOW) {
        self->limit = self->limit > 1 ? self->limit / 2 : 1;
    } else if (rc == 0 && self->limit < self->options->batch) {
        self->limit += 1 + self->limit / 8;
        self->limit = self->limit < self->options->batch ? self->limit : self->options->batch;
    }
}

static void
s_hand_back (db_thread_t *self, bool is_down) {
    pthread_mutex_lock (&self->lock);
    for (uint32_t i = 0; i < self->batch_count; i++) {
        db_job_t *job = self->batch[i];
        job->next = NULL;
        *self->finished_end = job;
        self->finished_end = &job->next;
    }
    self->batch_count = 0;
    while (is_down && self->queue) { /* untried, and not to be tried now */
        db_job_t *job = self->queue;
        self->queue = job->next;
        job->next = NULL;
        job->result = EVENTFLOW_RELEASE;
        *self->finished_end = job;
        self->finished_end = &job->next;
    }
    self->queue_end = self->queue ? self->queue_end : &self->queue;
    pthread_mutex_unlock (&self->lock);
    s_signal (self->done);
}

/* One transaction. */
static void
s_work (db_thread_t *self) {
    db_fault_t fault = {.verdict = DB_FINE};
    db_batch_t batch = {self->rows, 0, &self->arena};
    int rc = s_open (self, &fault); /* first: only then columns are known for what they are */
    if (rc == 0) {
        batch.count = s_map (self);
        rc = batch.count ? s_write (self, &batch, &fault) : 0;
    } else {
        for (uint32_t i = 0; i < self->batch_count; i++) {
            db_row_t row = {.outcome = DB_ROW_WAITING, .job = self->batch[i]};
            s_judge_row (&row, &fault);
        }
    }
    for (uint32_t i = 0; i < batch.count; i++) {
        s_judge_row (&batch.rows[i], &fault);
    }
    bool is_down = rc && s_is_down (&fault) && !s_is_unwanted (self);
    self->was_good = rc == 0 || (self->was_good && !is_down);
    s_adapt (self, rc, &fault);
    if (rc == 0 || is_down) {
        s_tell_health (self, is_down ? &fault : NULL);
    }
    s_hand_back (self, is_down);
}

static void
s_probe (db_thread_t *self) {
    db_fault_t fault;
    bool is_open = self->backend->is_open (self->database);
    int rc = is_open ? 0 : self->backend->open (self->database, &fault);
    if (rc == 0 && self->backend->ping (self->database, &fault)) {
        /* A connection that broke while nobody used it: the next one tells. */
        self->backend->close (self->database);
        rc = is_open ? self->backend->open (self->database, &fault) : -1;
    }
    self->was_good = rc == 0;
    s_tell_health (self, rc ? &fault : NULL);
}

static void
s_forget (db_thread_t *self, uint64_t now_ms) {
    db_fault_t fault;
    int count = 0;
    uint64_t wall_ms = ef_wall_ms ();
    uint64_t remember_ms = self->options->remember_ms;
    if (self->backend->is_open (self->database) && remember_ms < wall_ms) {
        count = self->backend->forget (self->database, wall_ms - remember_ms, &fault);
    }
    self->forget_ms = now_ms + (count >= DB_LEDGER_STEP ? FORGET_NEXT_MS : FORGET_MS);
}

/* Moves jobs from the queue into the batch. Returns how many. */
static uint32_t
s_gather (db_thread_t *self, bool *is_ending, bool *is_asked) {
    pthread_mutex_lock (&self->lock);
    ef_assert (self->batch_count == 0);
    while (self->queue && self->batch_count < self->limit) {
        self->batch[self->batch_count++] = self->queue;
        self->queue = self->queue->next;
    }
    self->queue_end = self->queue ? self->queue_end : &self->queue;
    self->wanted = self->batch_count;
    *is_ending = self->is_ending;
    *is_asked = self->is_asked;
    atomic_store (&self->is_unwanted, self->is_ending);
    pthread_mutex_unlock (&self->lock);
    return self->batch_count;
}

static void *
s_main (void *arg) {
    db_thread_t *self = arg;
    bool is_ending = false;
    for (;;) {
        bool is_asked = false;
        uint32_t count = s_gather (self, &is_ending, &is_asked);
        uint64_t now = ef_mono_ms ();
        if (is_ending) {
            return NULL;
        }
        if (count > 0) {
            s_work (self);
        } else if (is_asked) {
            s_probe (self);
        }
        if (now >= self->forget_ms) {
            s_forget (self, now);
        }
        if (count == 0 && !is_asked) {
            (void)db_wait (&self->wait, -1, 0, self->forget_ms - now); /* until there is more */
        }
    }
}
