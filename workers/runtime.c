/* What all handlers have in common. SPDX-License-Identifier: MIT */
#include "runtime.h"
#include "../broker/base/hash.h"
#include "../broker/base/heap.h"
#include "../proto/event.h"
#include "../proto/json.h"
#include "../proto/limits.h"
#include "health.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define HOUR         3600000.0
#define POLLS_MAX    8192
#define EXTRA_MS     1000 /* a lease outlasts its event's time by so much */
#define EARLY_MS     1000 /* an event's time ends so long before its lease, if that is the bound */
#define STOP_MS      8000 /* to end what has taken too long: TERM, 5 s later KILL */
#define ANSWER_MS    2000 /* for the last answers to be heard, once all is done */
#define UNWELL_MS    1000 /* between two probes while it isn't well, at the most */
#define HEARTBEAT_MS 2000

#define ROW(member)  FIELD (runtime_options_t, member)
static const setting_t s_rows[] = {
    {"topic", &config_text, ROW (topics), 0, 0, NULL, true,
     "where events come from; several: again, or with commas"},
    {"concurrency", &config_number, ROW (concurrency), 0, EF_CREDIT_MAX, NULL, true,
     "events in hand at once; 0: the pool's credit, or the handler's own"},
    {"bytes", &config_size, ROW (bytes), 1, 1e12, NULL, true, "the same in bytes"},
    {"timeout", &config_duration, ROW (timeout_ms), 0, 24 * HOUR, NULL, true,
     "of an event, whose lease is extended for it; 0: its lease"},
    {"grace", &config_duration, ROW (grace_ms), 0, HOUR, NULL, true,
     "for what is in hand, once told to stop"},
    {"probe", &config_duration, ROW (probe_ms), 100, HOUR, NULL, true,
     "between two looks whether the other side is well"},
    {"health", &config_text, ROW (health), 0, 0, NULL, true,
     "ADDRESS:PORT, tells health over HTTP: /health/live, /health/ready, /health, /metrics"},
    {"downstream", &config_text, ROW (downstream), 0, 0, NULL, true,
     "the service that events need, for the broker's breakers"},
    {"connect", &config_text, ROW (connect), 0, 0, NULL, true,
     "the broker ($EVENTFLOW_BACK or tcp://127.0.0.1:5552)"},
    {"name", &config_text, ROW (name), 0, 0, NULL, true, "of this worker"},
};
const settings_t runtime_settings = {s_rows, sizeof s_rows / sizeof s_rows[0]};

/* An event that was put off. */
typedef struct {
    uint64_t tag;
    uint64_t end_ms; /* when its time is over; UINT64_MAX: never, or it was told */
    uint32_t heap_at;
    bool is_stopped;
} job_t;

struct runtime_s {
    const handler_t *handler;
    const runtime_options_t *options; /* borrowed */
    void *own;                        /* owned: the handler's state */
    eventflow_worker_t *worker;       /* owned */
    health_t *health;                 /* owned; NULL: nobody asks */
    ef_hash_t jobs;                   /* owned, by tag */
    ef_heap_t ends;                   /* of the same, by end */
    char *names;                      /* owned: topics, one behind the other */
    const char *topics[RUNTIME_TOPICS_MAX];
    struct pollfd *polls; /* owned */
    int signals;
    uint64_t started_ms;
    uint64_t stop_ms;  /* when what is in hand goes back; 0: not told to stop */
    uint64_t probe_ms; /* when to look again; UINT64_MAX: a probe is under way */
    char unhealthy[200];
    const char *given; /* while in `handle`: its words name no downstream of their own */
};

void
runtime_defaults (runtime_options_t *options) {
    memset (options, 0, sizeof *options);
    options->bytes = EF_WORKER_BYTES;
    options->grace_ms = 10000;
    options->probe_ms = 10000;
}

static const void *
s_job_key (const void *item, size_t *size) {
    *size = sizeof ((const job_t *)item)->tag;
    return &((const job_t *)item)->tag;
}

static bool
s_ends_before (const void *a, const void *b) {
    const job_t *x = a;
    const job_t *y = b;
    return x->end_ms < y->end_ms || (x->end_ms == y->end_ms && x->tag < y->tag);
}

static void
s_placed (void *item, uint32_t position) {
    ((job_t *)item)->heap_at = position;
}

static job_t *
s_job (const runtime_t *self, uint64_t tag) {
    return ef_hash_find (&self->jobs, &tag, sizeof tag);
}

static void
s_end_job (runtime_t *self, job_t *job) {
    ef_hash_remove (&self->jobs, job);
    ef_heap_remove (&self->ends, job->heap_at);
    free (job);
}

uint64_t
runtime_limit_ms (const runtime_t *self, const eventflow_delivery_t *delivery) {
    uint64_t now = ef_wall_ms ();
    if (self->options->timeout_ms) {
        return self->options->timeout_ms;
    }
    if (delivery->deadline_ms == 0 || delivery->deadline_ms <= now) {
        return delivery->deadline_ms == 0 ? UINT32_MAX : 1;
    }
    /* A little before the lease is over, so that it can be lengthened for what is being ended. */
    uint64_t lease = delivery->deadline_ms - now;
    return lease - (lease / 10 < EARLY_MS ? lease / 10 : EARLY_MS);
}

static eventflow_result_t
s_handle (void *arg, const eventflow_delivery_t *delivery) {
    runtime_t *self = arg;
    /* A broker whose data are new counts anew: what had this tag is still being ended. */
    if (self->stop_ms || s_job (self, delivery->tag)) {
        return EVENTFLOW_RELEASE;
    }
    uint64_t end_ms = ef_mono_ms () + runtime_limit_ms (self, delivery);
    eventflow_result_t result = self->handler->handle (self->own, delivery);
    if (result == EVENTFLOW_LATER) {
        job_t *job = calloc (1, sizeof *job);
        ef_assert (job != NULL);
        *job = (job_t){.tag = delivery->tag, .end_ms = end_ms};
        ef_hash_insert (&self->jobs, job);
        ef_heap_push (&self->ends, job);
    }
    return result;
}

static void
s_stop (runtime_t *self, job_t *job, stop_reason_t reason) {
    if (!job->is_stopped) {
        uint64_t tag = job->tag;
        job->is_stopped = true;
        job->end_ms = UINT64_MAX;
        ef_heap_moved (&self->ends, job->heap_at);
        if (reason == STOP_TIMEOUT) { /* nobody else begins it while it is being ended here */
            (void)eventflow_worker_extend (self->worker, tag, STOP_MS);
        }
        self->handler->stop (self->own, tag, reason); /* which may end the job */
    }
}

static void
s_cancel (void *arg, uint64_t tag, const char *reason) {
    runtime_t *self = arg;
    job_t *job = s_job (self, tag);
    (void)reason;
    if (job) {
        s_stop (self, job, STOP_CANCELLED);
    }
}

/* The event may take longer than its lease: it goes on for as long as it may. */
static void
s_expiring (void *arg, uint64_t tag, uint32_t left_ms) {
    runtime_t *self = arg;
    const job_t *job = s_job (self, tag);
    uint64_t now = ef_mono_ms ();
    if (job && self->options->timeout_ms && !job->is_stopped && job->end_ms > now + left_ms) {
        uint64_t more_ms = job->end_ms - now + EXTRA_MS;
        (void)eventflow_worker_extend (self->worker, tag, (uint32_t)more_ms);
        /* unsent, the lease ends and a CANCEL says it */
    }
}

void
runtime_answer (runtime_t *self, uint64_t tag, eventflow_result_t result,
                const eventflow_answer_t *words) {
    job_t *job = s_job (self, tag);
    ef_assert (result != EVENTFLOW_LATER);
    if (job == NULL) {
        return;
    }
    s_end_job (self, job);
    if (eventflow_worker_answer (self->worker, tag, result, words)) {
        /* Words that can't be said, or nobody waits for them any more. */
        (void)eventflow_worker_answer (self->worker, tag, result, NULL);
    }
}

void
runtime_explain (runtime_t *self, const eventflow_answer_t *words) {
    (void)eventflow_worker_explain (self->worker, words); /* it goes without them */
}

eventflow_result_t
runtime_stop_words (stop_reason_t reason, eventflow_answer_t *words) {
    *words = (eventflow_answer_t){.retry_ms = -1};
    if (reason != STOP_TIMEOUT) {
        return EVENTFLOW_RELEASE;
    }
    words->code = "TIMEOUT";
    words->text = "it took longer than it may";
    return EVENTFLOW_RETRY;
}

static void
s_set_health (runtime_t *self, const char *reason) {
    uint64_t wait_ms = self->options->probe_ms;
    bool was_well = self->unhealthy[0] == '\0';
    snprintf (self->unhealthy, sizeof self->unhealthy, "%s", reason ? reason : "");
    ef_text_clean (self->unhealthy); /* libpq's words have lines */
    wait_ms = reason && wait_ms > UNWELL_MS ? UNWELL_MS : wait_ms;
    self->probe_ms = ef_mono_ms () + wait_ms;
    eventflow_worker_health (self->worker, reason ? self->unhealthy : NULL);
    if (was_well && reason) {
        fprintf (stderr, "eventflow-worker: unhealthy: %s\n", self->unhealthy);
    } else if (!was_well && reason == NULL) {
        fprintf (stderr, "eventflow-worker: healthy again\n");
    }
}

void
runtime_healthy (runtime_t *self) {
    s_set_health (self, NULL);
}

void
runtime_unhealthy (runtime_t *self, const char *reason) {
    s_set_health (self, reason);
}

uint64_t
runtime_left_ms (const runtime_t *self, uint64_t tag) {
    const job_t *job = s_job (self, tag);
    uint64_t now = ef_mono_ms ();
    return job == NULL || job->end_ms <= now ? 0 : job->end_ms - now;
}

uint32_t
runtime_concurrency (const runtime_t *self) {
    return self->options->concurrency;
}

const char *
runtime_downstream (const runtime_t *self) {
    return self->options->downstream[0] ? self->options->downstream : NULL;
}

/* The names of a list with commas. Returns how many; 0: too many, or none. */
static uint32_t
s_split_topics (runtime_t *self) {
    uint32_t count = 0;
    char *rest = NULL;
    self->names = strdup (self->options->topics);
    ef_assert (self->names != NULL);
    for (char *name = strtok_r (self->names, ", ", &rest); name;
         name = strtok_r (NULL, ", ", &rest)) {
        if (count == RUNTIME_TOPICS_MAX) {
            return 0;
        }
        self->topics[count++] = name;
    }
    return count;
}

static sigset_t
s_signals (void) {
    sigset_t set;
    sigemptyset (&set);
    sigaddset (&set, SIGTERM);
    sigaddset (&set, SIGINT);
    return set;
}

void
runtime_hold_signals (void) {
    sigset_t held = s_signals ();
    sigaddset (&held, SIGPIPE);
    (void)sigprocmask (SIG_BLOCK, &held, NULL); /* can't fail with this set */
}

static int
s_take_signals (void) {
    sigset_t wanted = s_signals ();
    return signalfd (-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
}

static const char *
s_or_null (const char *text) {
    return text[0] ? text : NULL;
}

runtime_t *
runtime_new (const handler_t *handler, const runtime_options_t *options,
             const void *handler_options, char error[512]) {
    runtime_t *self = calloc (1, sizeof *self);
    uint64_t key[2] = {ef_random (), ef_random ()};
    ef_assert (self != NULL);
    self->handler = handler;
    self->options = options;
    self->started_ms = ef_mono_ms ();
    self->signals = s_take_signals ();
    self->polls = calloc (POLLS_MAX, sizeof *self->polls);
    ef_assert (self->polls != NULL);
    ef_hash_init_numbers (&self->jobs, key, s_job_key);
    ef_heap_init (&self->ends, s_ends_before, s_placed);
    uint32_t count = s_split_topics (self);
    if (count == 0) {
        snprintf (error, 512, "expected 1 to %u topics", RUNTIME_TOPICS_MAX);
        runtime_destroy (&self);
        return NULL;
    }
    if (options->health[0]) {
        self->health = health_new (options->health, self, error);
    }
    if (options->health[0] == '\0' || self->health) {
        self->own = handler->create (handler_options, self, error);
    }
    if (self->own == NULL) {
        runtime_destroy (&self);
        return NULL;
    }
    eventflow_worker_options_t worker = {.endpoint = s_or_null (options->connect),
                                         .topics = self->topics,
                                         .topic_count = count,
                                         .credit = options->concurrency,
                                         .bytes = options->bytes,
                                         .name = s_or_null (options->name),
                                         .heartbeat_ms = HEARTBEAT_MS,
                                         .handle = s_handle,
                                         .cancel = s_cancel,
                                         .expiring = s_expiring,
                                         .arg = self};
    self->worker = eventflow_worker_new (&worker);
    ef_assert (self->worker != NULL); /* it has a handler and a topic */
    return self;
}

void
runtime_destroy (runtime_t **self_p) {
    runtime_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    eventflow_worker_destroy (&self->worker); /* says BYE: what didn't finish goes back uncounted */
    if (self->own) {
        self->handler->destroy (&self->own);
    }
    health_destroy (&self->health);
    while (self->ends.count > 0) {
        s_end_job (self, ef_heap_top (&self->ends));
    }
    ef_hash_free (&self->jobs);
    ef_heap_free (&self->ends);
    if (self->signals >= 0) {
        close (self->signals);
    }
    free (self->names);
    free (self->polls);
    free (self);
    *self_p = NULL;
}

/* Judges the time of what is in hand, and whether to look after the other side. */
static void
s_judge (runtime_t *self, uint64_t now) {
    const job_t *first;
    while ((first = ef_heap_top (&self->ends)) != NULL && first->end_ms <= now) {
        s_stop (self, ef_heap_top (&self->ends), STOP_TIMEOUT);
    }
    if (self->handler->probe && now >= self->probe_ms) {
        self->probe_ms = UINT64_MAX;
        self->handler->probe (self->own);
    }
}

/* Everything in hand goes back, uncounted. */
static void
s_release_all (runtime_t *self) {
    while (self->ends.count > 0) {
        uint64_t tag = ((const job_t *)ef_heap_top (&self->ends))->tag;
        self->handler->stop (self->own, tag, STOP_RELEASE);
        runtime_answer (self, tag, EVENTFLOW_RELEASE, NULL); /* unless it has said more */
    }
}

/* Waits for the broker, the handler or a signal. Returns a signal's number, or 0. */
static int
s_wait (runtime_t *self, int timeout_ms) {
    nfds_t count = 0;
    int broker = eventflow_worker_fd (self->worker);
    uint64_t now = ef_mono_ms ();
    const job_t *first = ef_heap_top (&self->ends);
    uint64_t next = first && first->end_ms < self->probe_ms ? first->end_ms : self->probe_ms;
    next = self->stop_ms && self->stop_ms < next ? self->stop_ms : next;
    uint64_t left = next > now ? next - now : 0;
    timeout_ms = left < (uint64_t)timeout_ms ? (int)left : timeout_ms;
    if (broker >= 0) {
        self->polls[count++] = (struct pollfd){broker, POLLIN, 0};
    } else {
        timeout_ms = timeout_ms < 50 ? timeout_ms : 50; /* between two tries to connect */
    }
    self->polls[count++] = (struct pollfd){self->signals, POLLIN, 0};
    if (self->health) {
        count += health_polls (self->health, self->polls + count, POLLS_MAX - count, &timeout_ms);
    }
    count += self->handler->polls (self->own, self->polls + count, POLLS_MAX - count, &timeout_ms);
    (void)poll (self->polls, count, timeout_ms); /* however it ends, the loop looks at everything */
    struct signalfd_siginfo info;
    return read (self->signals, &info, sizeof info) == (ssize_t)sizeof info ? (int)info.ssi_signo
                                                                            : 0;
}

/* A signal to end. True: at once. */
static bool
s_told_to_stop (runtime_t *self) {
    if (self->stop_ms) {
        return true; /* the second one */
    }
    self->stop_ms = ef_mono_ms () + self->options->grace_ms;
    eventflow_worker_drain (self->worker);
    return self->options->grace_ms == 0;
}

/* Says the last answers and hears that they are kept, for a while. */
static void
s_leave (runtime_t *self) {
    uint64_t end_ms = ef_mono_ms () + ANSWER_MS;
    eventflow_worker_drain (self->worker);
    while (ef_mono_ms () < end_ms && eventflow_worker_step (self->worker, 20)) {
    }
}

/* One turn. 0: goes on; else it is over. */
static int
s_turn (runtime_t *self) {
    bool goes_on = eventflow_worker_step (self->worker, 0);
    if (self->handler->flush) {
        self->handler->flush (self->own);
    }
    self->handler->step (self->own);
    uint64_t now = ef_mono_ms ();
    s_judge (self, now);
    if (self->health) {
        health_step (self->health);
    }
    if (self->stop_ms && now >= self->stop_ms) {
        s_release_all (self);
        s_leave (self);
        return 1;
    }
    /* Answers that were made just now go out before sleeping. */
    return goes_on && eventflow_worker_step (self->worker, 0) ? 0 : 1;
}

int
runtime_run (runtime_t *self) {
    while (s_turn (self) == 0) {
        const char *code;
        const char *text;
        if (eventflow_worker_refused (self->worker, &code, &text)) {
            fprintf (stderr, "eventflow-worker: %s: %s\n", code, text);
            return 3;
        }
        int number = s_wait (self, eventflow_worker_pending (self->worker) ? 0 : 1000);
        if ((number == SIGTERM || number == SIGINT) && s_told_to_stop (self)) {
            s_release_all (self);
            s_leave (self);
            return 0;
        }
    }
    return 0;
}

void
runtime_state (const runtime_t *self, runtime_state_t *state) {
    eventflow_worker_numbers_t numbers;
    eventflow_worker_numbers (self->worker, &numbers);
    *state = (runtime_state_t){.is_connected = numbers.is_connected,
                               .is_draining = numbers.is_draining,
                               .unhealthy = s_or_null (self->unhealthy),
                               .in_hand = numbers.busy,
                               .done = numbers.done,
                               .failed = numbers.failed,
                               .cpu_ms = numbers.cpu_ms,
                               .rss_bytes = numbers.rss_bytes,
                               .uptime_ms = ef_mono_ms () - self->started_ms,
                               .name = numbers.name,
                               .handler = self->handler->name};
}
