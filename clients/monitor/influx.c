/* The numbers written to InfluxDB. SPDX-License-Identifier: MIT */
#include "influx.h"
#include "../../broker/base/log.h"
#include "../../proto/event.h"
#include "lines.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define BACKOFF_MS  1000
#define BACKOFF_CAP 30000
#define TIMEOUT_MS  10000

typedef struct batch_s {
    struct batch_s *next;
    ef_buf_t lines;
} batch_t;

struct influx_s {
    const influx_settings_t *settings; /* borrowed */
    sender_t *sender;                  /* borrowed */
    ef_buf_t url;
    char header[400];
    uint64_t next_ms;     /* of the next batch */
    pthread_mutex_t lock; /* what follows */
    batch_t *batches;     /* owned; oldest first */
    batch_t **end;
    bool is_sending;   /* a copy of the first is under way */
    uint64_t first;    /* number of the first */
    uint64_t sending;  /* number of the one under way */
    uint64_t retry_ms; /* not before */
    uint32_t failures; /* in a row */
    influx_numbers_t numbers;
};

static void
s_put_topic (ef_buf_t *out, const numbers_topic_t *topic, uint64_t wall_ms) {
    const sample_t *sample = topic->extra;
    lines_t line;
    lines_begin (&line, out, "eventflow_topic");
    lines_tag (&line, "topic", topic->topic);
#define FIELD_OF(name) lines_whole (&line, #name, topic->name);
    NUMBERS_TOPIC (FIELD_OF)
#undef FIELD_OF
    lines_bool (&line, "paused", topic->is_paused);
#define FIELD_OF(name) lines_whole (&line, "failed_" #name, topic->failures.name);
    NUMBERS_FAILURES (FIELD_OF)
#undef FIELD_OF
#define FIELD_OF(name) lines_whole (&line, "died_" #name, topic->deaths.name);
    NUMBERS_DEATHS (FIELD_OF)
#undef FIELD_OF
    if (sample && sample->is_known) {
        lines_real (&line, "in_per_s", sample->rates.in_per_s);
        lines_real (&line, "done_per_s", sample->rates.done_per_s);
        lines_real (&line, "failed_per_s", sample->rates.failed_per_s);
        lines_real (&line, "dead_per_s", sample->rates.dead_per_s);
        lines_real (&line, "recent_p50_ms", sample->rates.took_p50_ms);
        lines_real (&line, "recent_p99_ms", sample->rates.took_p99_ms);
    }
    lines_end (&line, wall_ms);
}

static void
s_put_worker (ef_buf_t *out, const numbers_worker_t *worker, uint64_t wall_ms) {
    lines_t line;
    lines_begin (&line, out, "eventflow_worker");
    lines_tag (&line, "worker", worker->worker);
    lines_tag (&line, "topic", worker->topic);
#define FIELD_OF(name) lines_whole (&line, #name, worker->name);
    NUMBERS_WORKER (FIELD_OF)
#undef FIELD_OF
    lines_bool (&line, "healthy", !worker->is_unhealthy);
    if (worker->is_unhealthy) {
        lines_text (&line, "unhealthy", worker->unhealthy);
    }
    lines_end (&line, wall_ms);
}

static void
s_put_broker (ef_buf_t *out, const numbers_t *numbers, const samples_t *samples, uint64_t wall_ms) {
    const numbers_broker_t *broker = &numbers->broker;
    lines_t line;
    lines_begin (&line, out, "eventflow_broker");
    lines_tag (&line, "broker", broker->broker);
#define FIELD_OF(name) lines_whole (&line, #name, broker->name);
    NUMBERS_BROKER (FIELD_OF)
#undef FIELD_OF
    lines_text (&line, "space", broker->space);
    lines_real (&line, "in_per_s", samples->rates.in_per_s);
    lines_real (&line, "done_per_s", samples->rates.done_per_s);
    lines_real (&line, "failed_per_s", samples->rates.failed_per_s);
    lines_real (&line, "sync_p99_us", samples->sync_p99_us);
    lines_end (&line, wall_ms);
}

void
influx_put_lines (ef_buf_t *out, const numbers_t *numbers, const samples_t *samples,
                  bool with_workers, uint64_t wall_ms) {
    const numbers_topic_t *topic;
    const numbers_worker_t *worker;
    const numbers_pool_t *pool;
    s_put_broker (out, numbers, samples, wall_ms);
    for (uint32_t at = 0; (topic = ef_hash_next (&numbers->topics, &at)) != NULL;) {
        s_put_topic (out, topic, wall_ms);
    }
    for (uint32_t at = 0; with_workers && (worker = ef_hash_next (&numbers->workers, &at));) {
        s_put_worker (out, worker, wall_ms);
    }
    for (uint32_t at = 0; (pool = ef_hash_next (&numbers->pools, &at)) != NULL;) {
        lines_t line;
        lines_begin (&line, out, "eventflow_pool");
        lines_tag (&line, "topic", pool->topic);
#define FIELD_OF(name) lines_whole (&line, #name, pool->name);
        NUMBERS_POOL (FIELD_OF)
#undef FIELD_OF
        lines_end (&line, wall_ms);
    }
}

static void
s_put (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

/* Percent-encoded as RFC 3986 has it, but for what needs none. */
static void
s_put_encoded (ef_buf_t *out, const char *text) {
    for (const char *at = text; *at; at++) {
        unsigned char byte = (unsigned char)*at;
        char code[4];
        bool is_plain = (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
                        (byte >= 'a' && byte <= 'z') || strchr ("-._~", byte) != NULL;
        snprintf (code, sizeof code, is_plain ? "%c" : "%%%02X", byte);
        s_put (out, code);
    }
}

void
influx_put_url (ef_buf_t *out, const influx_settings_t *settings) {
    size_t size = strlen (settings->url);
    ef_buf_put (out, settings->url, size - (size > 0 && settings->url[size - 1] == '/'));
    if (settings->org[0]) {
        s_put (out, "/api/v2/write?org=");
        s_put_encoded (out, settings->org);
        s_put (out, "&bucket=");
        s_put_encoded (out, settings->bucket);
    } else {
        s_put (out, "/write?db=");
        s_put_encoded (out, settings->database);
    }
    s_put (out, "&precision=ms");
    ef_buf_put (out, "", 1);
}

influx_t *
influx_new (const influx_settings_t *settings, sender_t *sender) {
    if (settings->url[0] == '\0') {
        return NULL;
    }
    influx_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    pthread_mutex_init (&self->lock, NULL);
    self->settings = settings;
    self->sender = sender;
    self->end = &self->batches;
    influx_put_url (&self->url, settings);
    if (settings->token[0]) {
        snprintf (self->header, sizeof self->header, "Authorization: Token %s", settings->token);
    }
    return self;
}

/* Under the lock. */
static void
s_drop_first (influx_t *self) {
    batch_t *batch = self->batches;
    self->batches = batch->next;
    self->end = self->batches ? self->end : &self->batches;
    self->first++;
    self->numbers.waiting--;
    self->numbers.waiting_bytes -= batch->lines.size;
    ef_buf_free (&batch->lines);
    free (batch);
}

void
influx_destroy (influx_t **self_p) {
    influx_t *self = *self_p;
    if (self) {
        while (self->batches) {
            s_drop_first (self);
        }
        ef_buf_free (&self->url);
        pthread_mutex_destroy (&self->lock);
        free (self);
        *self_p = NULL;
    }
}

static uint64_t
s_backoff (uint32_t failures) {
    uint64_t wait_ms = (uint64_t)BACKOFF_MS << (failures < 6 ? failures - 1 : 5);
    return wait_ms < BACKOFF_CAP ? wait_ms : BACKOFF_CAP;
}

static void s_send (influx_t *self);

/* A try is over; always its last, since whether there is a next one is decided here. */
static bool
s_ended (void *arg, long status, const char *why, uint32_t retry_after_s) {
    influx_t *self = arg;
    bool is_wrong = status == 400 || status == 413 || status == 422;
    pthread_mutex_lock (&self->lock);
    bool is_there = self->first <= self->sending; /* it may have been lost meanwhile */
    self->is_sending = false;
    self->numbers.is_failing = why[0] != '\0';
    snprintf (self->numbers.error, sizeof self->numbers.error, "%.190s", why);
    if (why[0] == '\0' || is_wrong) {
        self->numbers.batches += !is_wrong;
        self->numbers.lost += is_wrong && is_there;
        self->failures = 0;
        self->retry_ms = 0;
        if (is_there) {
            s_drop_first (self);
        }
    } else {
        uint64_t wait_ms = s_backoff (++self->failures);
        wait_ms = retry_after_s * 1000ull > wait_ms ? retry_after_s * 1000ull : wait_ms;
        self->retry_ms = ef_mono_ms () + wait_ms;
    }
    pthread_mutex_unlock (&self->lock);
    s_send (self);
    return false;
}

/* The first batch, where none is under way and it is time. */
static void
s_send (influx_t *self) {
    const influx_settings_t *settings = self->settings;
    sender_job_t job = {.kind = "influx",
                        .url = (const char *)self->url.data,
                        .header = self->header,
                        .type = "text/plain; charset=utf-8",
                        .user = settings->token[0] ? NULL : settings->user,
                        .password = settings->password,
                        .timeout_ms = TIMEOUT_MS,
                        .tries = 1,
                        .ended = s_ended,
                        .arg = self};
    pthread_mutex_lock (&self->lock);
    bool is_due = self->batches && !self->is_sending && ef_mono_ms () >= self->retry_ms;
    if (is_due) {
        self->is_sending = true;
        self->sending = self->first;
        ef_buf_put (&job.body, self->batches->lines.data, self->batches->lines.size);
    }
    pthread_mutex_unlock (&self->lock);
    if (is_due && sender_send (self->sender, &job)) {
        pthread_mutex_lock (&self->lock);
        self->is_sending = false;
        self->retry_ms = ef_mono_ms () + BACKOFF_MS;
        pthread_mutex_unlock (&self->lock);
    }
}

void
influx_take (influx_t *self, const numbers_t *numbers, const samples_t *samples, uint64_t now_ms,
             uint64_t wall_ms) {
    if (self == NULL) {
        return;
    }
    if (now_ms >= self->next_ms) {
        batch_t *batch = calloc (1, sizeof *batch);
        ef_assert (batch != NULL);
        self->next_ms = now_ms + self->settings->every_ms - self->settings->every_ms / 20;
        influx_put_lines (&batch->lines, numbers, samples, self->settings->workers, wall_ms);
        pthread_mutex_lock (&self->lock);
        *self->end = batch;
        self->end = &batch->next;
        self->numbers.waiting++;
        self->numbers.waiting_bytes += batch->lines.size;
        while (self->numbers.waiting_bytes > self->settings->buffer_bytes) {
            self->numbers.lost++;
            ef_log_limited (EF_LOG_WARNING, "influx.lost", "batches=%llu error=\"%s\"",
                            (unsigned long long)self->numbers.lost, self->numbers.error);
            s_drop_first (self);
        }
        pthread_mutex_unlock (&self->lock);
    }
    influx_step (self);
}

void
influx_step (influx_t *self) {
    if (self) {
        s_send (self);
    }
}

void
influx_numbers (influx_t *self, influx_numbers_t *numbers) {
    memset (numbers, 0, sizeof *numbers);
    if (self) {
        pthread_mutex_lock (&self->lock);
        *numbers = self->numbers;
        pthread_mutex_unlock (&self->lock);
    }
}
