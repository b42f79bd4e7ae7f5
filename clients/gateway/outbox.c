/* Events on their way to the broker. SPDX-License-Identifier: MIT */
#include "outbox.h"
#include "../c/eventflow.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define OUTBOX_LOOK_MS 50  /* between two looks for time-outs */
#define OUTBOX_RUN     128 /* events handed over under one lock */
#define OUTBOX_STOPPED "this server is stopping"
#define OUTBOX_LIGHT   65536 /* bytes of events that are kept until the client has its answer */

const double outbox_steps_s[OUTBOX_STEPS - 1] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                                                 0.05,   0.1,   0.5,    1,     5};

/* A request. */
typedef struct letter_s {
    struct letter_s *newer; /* in order of their times */
    struct letter_s *older;
    struct letter_s *next; /* among those that are to be answered now */
    call_t *call;          /* NULL: it was answered */
    batch_t batch;         /* owned */
    ef_buf_t accepted;     /* the answer where nothing is refused, made beforehand */
    const char *place;     /* where one event is to be found, the call's; NULL: not told */
    uint32_t left;         /* events undecided */
    style_t style;
    bool is_atomic;
    bool is_listed;
    uint64_t begun_us;
} letter_t;

/* Tickets from `first` on are a letter's events from its `index`th good one on. */
typedef struct {
    uint64_t first;
    uint32_t count;
    uint32_t index;
    letter_t *letter;
} run_t;

struct outbox_s {
    outbox_options_t options;
    eventflow_publisher_t *publisher; /* owned; NULL once stopped */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    pthread_t thread;
    bool is_ending;
    _Atomic (const char *) durability; /* static */
    run_t *runs;                       /* owned: a ring */
    uint32_t capacity;                 /* a power of two */
    uint32_t head;
    uint32_t count;
    letter_t *oldest; /* those that aren't answered */
    letter_t *newest;
    outbox_numbers_t numbers;
};

static uint64_t
s_now_us (void) {
    return ef_mono_ns () / 1000;
}

static void
s_free (void *arg) {
    letter_t *letter = arg;
    batch_free (&letter->batch);
    ef_buf_free (&letter->accepted);
    free (letter);
}

/* ---- with the lock held ---- */

static void
s_list (outbox_t *self, letter_t *letter) {
    letter->older = self->newest;
    letter->newer = NULL;
    *(self->newest ? &self->newest->newer : &self->oldest) = letter;
    self->newest = letter;
    letter->is_listed = true;
}

static void
s_unlist (outbox_t *self, letter_t *letter) {
    if (letter->is_listed) {
        *(letter->older ? &letter->older->newer : &self->oldest) = letter->newer;
        *(letter->newer ? &letter->newer->older : &self->newest) = letter->older;
        letter->is_listed = false;
    }
}

static void
s_grow (outbox_t *self) {
    uint32_t capacity = self->capacity ? self->capacity * 2 : 1024;
    run_t *runs = malloc (capacity * sizeof *runs);
    ef_assert (runs != NULL);
    for (uint32_t i = 0; i < self->count; i++) {
        runs[i] = self->runs[(self->head + i) & (self->capacity - 1)];
    }
    free (self->runs);
    self->runs = runs;
    self->capacity = capacity;
    self->head = 0;
}

/* Notes that a ticket is a letter's event; those in a row are one run. */
static void
s_note (outbox_t *self, uint64_t ticket, letter_t *letter, uint32_t index, uint32_t count) {
    run_t *last =
        self->count ? &self->runs[(self->head + self->count - 1) & (self->capacity - 1)] : NULL;
    if (last && last->letter == letter && last->first + last->count == ticket &&
        last->index + last->count == index) {
        last->count += count;
        return;
    }
    if (self->count == self->capacity) {
        s_grow (self);
    }
    self->runs[(self->head + self->count++) & (self->capacity - 1)] =
        (run_t){ticket, count, index, letter};
}

static void
s_measure (outbox_t *self, const letter_t *letter) {
    double seconds = (double)(s_now_us () - letter->begun_us) / 1e6;
    unsigned step = 0;
    while (step < OUTBOX_STEPS - 1 && seconds > outbox_steps_s[step]) {
        step++;
    }
    self->numbers.confirms[step]++;
    self->numbers.confirm_seconds += seconds;
}

/* All of it is decided: it leaves, and joins those that are to be answered. */
static void
s_decided (outbox_t *self, letter_t *letter, letter_t **ready) {
    s_unlist (self, letter);
    if (letter->call) {
        s_measure (self, letter);
    }
    letter->next = *ready;
    *ready = letter;
}

/* Codes are kept as they are in the table of problems. */
static void
s_refuse (letter_t *letter, uint32_t index, uint32_t count, const char *code, const char *text) {
    batch_t *batch = &letter->batch;
    const char *kept = problem_find (code)->code;
    uint32_t good = 0;
    for (uint32_t i = 0; i < batch->count && good < index + count; i++) {
        if (batch->slots[i].bytes == 0) {
            continue; /* it was never sent */
        }
        if (good >= index) {
            batch_refuse (batch, &batch->slots[i], kept, text);
        }
        good++;
    }
}

/* ---- the publisher's thread ---- */

/* The letter goes with its call, whose thread made it. */
static void
s_answer (letter_t *letter) {
    call_t *call = letter->call;
    if (call == NULL) {
        s_free (letter);
        return;
    }
    call_own (call, letter, s_free);
    if (letter->batch.refused > 0) {
        answer_refused (call, &letter->batch, letter->is_atomic);
        return;
    }
    if (letter->batch.events.capacity > OUTBOX_LIGHT) {
        batch_free (&letter->batch);
    }
    if (letter->place) {
        call_lend_header (call, "Location", letter->place);
    }
    call_answer (call, 202, "application/json", &letter->accepted);
}

static void
s_answer_all (letter_t *ready) {
    letter_t *reversed = NULL;
    while (ready) { /* the oldest first */
        letter_t *next = ready->next;
        ready->next = reversed;
        reversed = ready;
        ready = next;
    }
    while (reversed) {
        letter_t *next = reversed->next;
        s_answer (reversed);
        reversed = next;
    }
}

static void
s_outcome (void *arg, uint64_t first, uint64_t count, const char *code, const char *text) {
    outbox_t *self = arg;
    letter_t *ready = NULL;
    pthread_mutex_lock (&self->lock);
    *(code ? &self->numbers.refused : &self->numbers.accepted) += count;
    self->numbers.waiting -= count;
    while (count > 0 && self->count > 0) {
        run_t *run = &self->runs[self->head];
        ef_assert (run->first == first); /* tickets are decided in order */
        uint32_t taken = run->count < count ? run->count : (uint32_t)count;
        letter_t *letter = run->letter;
        if (code) {
            s_refuse (letter, run->index, taken, code, text);
        }
        run->first += taken;
        run->index += taken;
        run->count -= taken;
        first += taken;
        count -= taken;
        letter->left -= taken;
        if (run->count == 0) {
            self->head = (self->head + 1) & (self->capacity - 1);
            self->count--;
        }
        if (letter->left == 0) {
            s_decided (self, letter, &ready);
        }
    }
    pthread_mutex_unlock (&self->lock);
    s_answer_all (ready);
}

/* ---- time-outs ---- */

/* Takes letters whose time is over off their calls; these are answered outside the lock, from a
   copy of what they name. */
typedef struct late_s {
    struct late_s *next;
    call_t *call;
    letter_t *letter; /* kept alive by `left`, until it was answered */
} late_t;

static late_t *
s_find_late (outbox_t *self) {
    late_t *list = NULL;
    uint64_t now = s_now_us ();
    while (self->oldest && (self->is_ending || now - self->oldest->begun_us >=
                                                   (uint64_t)self->options.confirm_ms * 1000)) {
        letter_t *letter = self->oldest;
        late_t *late = calloc (1, sizeof *late);
        ef_assert (late != NULL);
        late->call = letter->call;
        late->letter = letter;
        late->next = list;
        list = late;
        s_unlist (self, letter);
        letter->call = NULL;
        letter->left++; /* ours: it isn't freed under us */
        self->numbers.timed_out += letter->left - 1;
    }
    return list;
}

static void
s_answer_late (outbox_t *self, late_t *list) {
    while (list) {
        late_t *next = list->next;
        letter_t *letter = list->letter;
        if (list->call) {
            answer_late (list->call, &letter->batch);
        }
        pthread_mutex_lock (&self->lock);
        bool is_last = --letter->left == 0;
        pthread_mutex_unlock (&self->lock);
        if (is_last) {
            s_free (letter);
        }
        free (list);
        list = next;
    }
}

static void *
s_run (void *arg) {
    outbox_t *self = arg;
    pthread_mutex_lock (&self->lock);
    while (!self->is_ending) {
        uint64_t until = ef_mono_ns () + OUTBOX_LOOK_MS * 1000000u;
        const struct timespec deadline = {(time_t)(until / 1000000000u),
                                          (long)(until % 1000000000u)};
        (void)pthread_cond_timedwait (&self->wake, &self->lock, &deadline);
        late_t *late = s_find_late (self);
        pthread_mutex_unlock (&self->lock);
        s_answer_late (self, late);
        pthread_mutex_lock (&self->lock);
    }
    pthread_mutex_unlock (&self->lock);
    return NULL;
}

outbox_t *
outbox_new (const outbox_options_t *options) {
    outbox_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    pthread_condattr_t attributes;
    self->options = *options;
    outbox_durability (self, "");
    pthread_mutex_init (&self->lock, NULL);
    pthread_condattr_init (&attributes);
    pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
    pthread_cond_init (&self->wake, &attributes);
    pthread_condattr_destroy (&attributes);
    const eventflow_publisher_options_t publisher = {.endpoint = options->front,
                                                     .name = "gateway",
                                                     .linger_us = options->linger_us,
                                                     .waits_for_flush = true,
                                                     .outbox_bytes = options->bytes,
                                                     .outcome = s_outcome,
                                                     .arg = self};
    self->publisher = eventflow_publisher_new (&publisher);
    ef_assert (self->publisher != NULL);
    int rc = pthread_create (&self->thread, NULL, s_run, self);
    ef_assert (rc == 0);
    return self;
}

void
outbox_stop (outbox_t *self) {
    pthread_mutex_lock (&self->lock);
    bool was_ending = self->is_ending;
    self->is_ending = true;
    pthread_cond_signal (&self->wake);
    pthread_mutex_unlock (&self->lock);
    if (was_ending) {
        return;
    }
    (void)pthread_join (self->thread, NULL); /* a thread of our own */
    pthread_mutex_lock (&self->lock);
    eventflow_publisher_t *publisher = self->publisher;
    self->publisher = NULL;
    pthread_mutex_unlock (&self->lock);
    eventflow_publisher_destroy (&publisher); /* which may still tell outcomes */
    pthread_mutex_lock (&self->lock);
    late_t *late = s_find_late (self); /* all that is left: its outcome isn't known */
    pthread_mutex_unlock (&self->lock);
    s_answer_late (self, late);
}

void
outbox_destroy (outbox_t **self_p) {
    outbox_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    outbox_stop (self);
    for (uint32_t i = 0; i < self->count; i++) {
        run_t *run = &self->runs[(self->head + i) & (self->capacity - 1)];
        run->letter->left -= run->count;
        if (run->letter->left == 0) {
            s_free (run->letter);
        }
    }
    free (self->runs);
    pthread_mutex_destroy (&self->lock);
    pthread_cond_destroy (&self->wake);
    free (self);
    *self_p = NULL;
}

void
outbox_durability (outbox_t *self, const char *text) {
    static const char *const known[] = {"", "sync", "os", "memory"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp (text, known[i]) == 0) {
            atomic_store_explicit (&self->durability, known[i], memory_order_relaxed);
        }
    }
}

/* ---- publishing ---- */

/* Marks slots from `from` on as refused by the publisher itself. Lock held. */
static uint32_t
s_refuse_rest (letter_t *letter, uint32_t from, uint32_t count, const char *code,
               const char *text) {
    batch_t *batch = &letter->batch;
    uint32_t refused = 0;
    for (uint32_t i = from; i < batch->count && refused < count; i++) {
        if (batch->slots[i].bytes > 0 && batch->slots[i].code == NULL) {
            batch_refuse (batch, &batch->slots[i], code, text);
            refused++;
        }
    }
    letter->left -= refused;
    return refused;
}

/* Hands over up to OUTBOX_RUN events from slot `*at` on. Lock held. True: there is more. */
static bool
s_hand_over (outbox_t *self, letter_t *letter, uint32_t *at, uint32_t *index) {
    batch_t *batch = &letter->batch;
    if (self->publisher == NULL) {
        (void)s_refuse_rest (letter, *at, UINT32_MAX, "DRAINING", OUTBOX_STOPPED);
        return false;
    }
    for (uint32_t taken = 0; *at < batch->count && taken < OUTBOX_RUN; ++*at) {
        slot_t *slot = &batch->slots[*at];
        uint64_t ticket;
        if (slot->bytes == 0) {
            continue;
        }
        const eventflow_bytes_t event = {batch->events.data + slot->at, slot->bytes};
        int rc = eventflow_publish_event (self->publisher, event, 0, &ticket);
        if (rc == EVENTFLOW_OK) {
            s_note (self, ticket, letter, *index, 1);
            self->numbers.waiting++;
        } else if (rc == EVENTFLOW_FULL) {
            self->numbers.full += s_refuse_rest (letter, *at, UINT32_MAX, "OVERLOAD",
                                                 "too much waits for the broker already");
            *at = batch->count;
            return false;
        } else {
            (void)s_refuse_rest (letter, *at, 1, "TOO_LARGE", "larger than an event may be");
        }
        ++*index;
        taken++;
    }
    return *at < batch->count;
}

static void
s_publish_each (outbox_t *self, letter_t *letter, letter_t **ready) {
    uint32_t at = 0;
    uint32_t index = 0;
    bool has_more = true;
    pthread_mutex_lock (&self->lock);
    s_list (self, letter);
    letter->left++; /* ours, until all is handed over */
    for (;;) {
        has_more = s_hand_over (self, letter, &at, &index);
        if (!has_more) {
            break;
        }
        pthread_mutex_unlock (&self->lock); /* others want to come in between */
        pthread_mutex_lock (&self->lock);
    }
    if (--letter->left == 0) {
        s_decided (self, letter, ready);
    }
    pthread_mutex_unlock (&self->lock);
}

static void
s_publish_atomic (outbox_t *self, letter_t *letter, letter_t **ready) {
    uint64_t ticket;
    const eventflow_bytes_t events = {letter->batch.events.data, letter->batch.events.size};
    pthread_mutex_lock (&self->lock);
    s_list (self, letter);
    int rc = self->publisher ? eventflow_publish_atomic (self->publisher, events, 0, &ticket)
                             : EVENTFLOW_TIMEOUT;
    if (self->publisher == NULL) {
        (void)s_refuse_rest (letter, 0, UINT32_MAX, "DRAINING", OUTBOX_STOPPED);
        s_decided (self, letter, ready);
    } else if (rc == EVENTFLOW_OK) {
        s_note (self, ticket, letter, 0, letter->left);
        self->numbers.waiting += letter->left;
    } else {
        uint32_t refused = s_refuse_rest (
            letter, 0, UINT32_MAX, rc == EVENTFLOW_FULL ? "OVERLOAD" : "TOO_LARGE",
            rc == EVENTFLOW_FULL ? "too much waits for the broker already"
                                 : "more than one message may hold, or an event too large");
        self->numbers.full += rc == EVENTFLOW_FULL ? refused : 0;
        s_decided (self, letter, ready);
    }
    pthread_mutex_unlock (&self->lock);
}

/* The path of the only event, where its id can be a part of one as it is. */
static const char *
s_place (const letter_t *letter) {
    static const char path[] = "/api/v1/events/";
    char place[sizeof ((web_options_t *)0)->base_path + sizeof path + EF_ID_MAX];
    ef_span_t id = batch_id (&letter->batch, &letter->batch.slots[0]);
    if (letter->style != STYLE_PLAIN || letter->batch.is_list || id.data == NULL) {
        return NULL;
    }
    const char *base = call_base (letter->call);
    size_t size = strlen (base);
    memcpy (place, base, size);
    memcpy (place + size, path, sizeof path - 1);
    size += sizeof path - 1;
    for (uint32_t i = 0; i < id.size; i++) {
        char c = id.data[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                        (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
        if (!is_plain) {
            return NULL;
        }
        place[size++] = c;
    }
    return call_keep (letter->call, place, size);
}

void
outbox_publish (outbox_t *self, call_t *call, batch_t *batch, style_t style, bool is_atomic) {
    letter_t *ready = NULL;
    if (batch->refused == batch->count || (is_atomic && batch->refused > 0)) {
        answer_refused (call, batch, is_atomic);
        batch_free (batch);
        return;
    }
    letter_t *letter = calloc (1, sizeof *letter);
    ef_assert (letter != NULL);
    letter->call = call;
    letter->batch = *batch;
    memset (batch, 0, sizeof *batch);
    letter->left = letter->batch.count - letter->batch.refused;
    letter->style = style;
    letter->is_atomic = is_atomic;
    letter->begun_us = s_now_us ();
    if (letter->batch.refused == 0) {
        letter->place = s_place (letter);
        const char *durability = atomic_load_explicit (&self->durability, memory_order_relaxed);
        answer_accepted (&letter->accepted, &letter->batch, style, durability);
    }
    if (is_atomic) {
        s_publish_atomic (self, letter, &ready);
    } else {
        s_publish_each (self, letter, &ready);
    }
    s_answer_all (ready);
}

void
outbox_flush (void *arg) {
    outbox_t *self = arg;
    pthread_mutex_lock (&self->lock);
    if (self->publisher) {
        eventflow_publisher_flush (self->publisher);
    }
    pthread_mutex_unlock (&self->lock);
}

void
outbox_numbers (outbox_t *self, outbox_numbers_t *numbers) {
    eventflow_publisher_stats_t stats = {0};
    pthread_mutex_lock (&self->lock);
    if (self->publisher) {
        eventflow_publisher_stats (self->publisher, &stats);
    }
    *numbers = self->numbers;
    pthread_mutex_unlock (&self->lock);
    numbers->reconnects = stats.reconnects;
    numbers->messages = stats.messages;
}
