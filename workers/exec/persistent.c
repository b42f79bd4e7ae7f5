/* Children that take many events each. SPDX-License-Identifier: MIT

   Role: hands events to children and takes their answers (lines.h). A persistent child is given
   events as long as it lives, `capacity` of them at a time; in batches a child is given as many as
   there are, and then the end of its input. One that ends by itself is started anew after a growing
   pause. Owns: children, and events that wait for one.
   Invariants: an event is answered once: by its child's line, or by that child's end, or while it
   waits. What a child has in hand is answered at the latest by its end, so that no event is worked
   on twice at a time by our doing. One thread. */
#include "runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CANCEL_MS      5000  /* for a child to answer what was cancelled */
#define LEAVE_MS       5000  /* for a child to end once its input has */
#define DEAF_MS        1000  /* for a child to end that has closed its output */
#define PAUSE_FIRST_MS 100   /* before a child that failed is started anew; doubled each time */
#define PAUSE_MOST_MS  30000 /* at the most */
#define PATIENCE_MS    1000  /* events wait through such a pause; through longer ones others may */
#define FAILURES_BAD   3     /* in a row: the worker says that it isn't well */
#define LIVES_MS       1000  /* a child that was started as a probe is well if it lives so long */
#define GENTLE_MS      1000  /* at the end, for those with nothing in hand */
#define READS          16    /* of one child in a turn: others want theirs */

/* An event that has no child yet. */
typedef struct waiting_s {
    struct waiting_s *next;
    uint64_t tag;
    ef_buf_t bytes; /* as its child will read it */
} waiting_t;

struct persistent_s {
    const exec_way_t *way; /* borrowed */
    bool is_batch;
    bool is_json;      /* what children read and write */
    bool has_answers;  /* children write answers */
    uint32_t capacity; /* events of one child */
    uint32_t limit;    /* of children that take events */
    uint32_t places;
    runner_t *runners; /* owned, `places` of them: those that leave have a place too */
    waiting_t *first;  /* owned queue */
    waiting_t **last;  /* where the next one is linked */
    uint32_t waiting;  /* in it */
    uint32_t failures; /* of children in a row, without an answer */
    uint64_t start_ms; /* none is started before */
    bool is_probing;   /* whether one lives will tell */
    ef_buf_t scratch;  /* an event, encoded */
    char trouble[200]; /* how the last one failed */
};

persistent_t *
persistent_new (const exec_way_t *way, char error[512]) {
    const exec_options_t *options = way->options;
    uint32_t events = runtime_concurrency (way->runtime);
    uint32_t capacity = options->batch ? options->batch : options->per_child;
    uint32_t limit = options->children;
    if (capacity == 0) {
        capacity = limit ? (events + limit - 1) / limit : 1;
    }
    if (limit == 0) {
        limit = (events + capacity - 1) / capacity;
    }
    if (limit > EXEC_CHILDREN_MAX) {
        snprintf (error, 512, "expected at most %d children, not %u: set children or per_child",
                  EXEC_CHILDREN_MAX, limit);
        return NULL;
    }
    if ((uint64_t)limit * capacity < events && !options->batch) {
        snprintf (error, 512, "expected a concurrency of at most %llu: %u children of %u events",
                  (unsigned long long)limit * capacity, limit, capacity);
        return NULL;
    }
    if (options->batch > events) {
        snprintf (error, 512, "expected a concurrency of at least %u, a batch, not %u",
                  options->batch, events);
        return NULL;
    }
    persistent_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->way = way;
    self->is_batch = options->batch > 0;
    self->is_json = options->format == FORMAT_JSON;
    self->has_answers = !self->is_batch || options->has_answers;
    self->capacity = capacity;
    self->limit = limit;
    self->places = self->is_batch ? limit : 2 * limit;
    self->runners = calloc (self->places, sizeof *self->runners);
    ef_assert (self->runners != NULL);
    self->last = &self->first;
    return self;
}

/* The next event that waits; the caller's. */
static waiting_t *
s_unlink (persistent_t *self, waiting_t **at) {
    waiting_t *item = *at;
    *at = item->next;
    self->last = self->last == &item->next ? at : self->last;
    self->waiting--;
    return item;
}

static void
s_free_waiting (waiting_t *item) {
    ef_buf_free (&item->bytes);
    free (item);
}

void
persistent_destroy (persistent_t **self_p) {
    persistent_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    child_t **idle = calloc (self->places, sizeof (child_t *));
    child_t **busy = calloc (self->places, sizeof (child_t *));
    size_t idle_count = 0;
    size_t busy_count = 0;
    ef_assert (idle != NULL && busy != NULL);
    for (uint32_t i = 0; i < self->places; i++) {
        runner_t *runner = &self->runners[i];
        if (runner->child && (runner->count || runner->child->told)) {
            busy[busy_count++] = runner->child; /* what they have went back */
        } else if (runner->child) {
            idle[idle_count++] = runner->child;
        }
    }
    child_end_all (busy, busy_count, 0);
    child_end_all (idle, idle_count, GENTLE_MS);
    for (uint32_t i = 0; i < self->places; i++) {
        if (self->runners[i].child) {
            runner_free (&self->runners[i]);
        }
    }
    while (self->first) {
        s_free_waiting (s_unlink (self, &self->first));
    }
    ef_buf_free (&self->scratch);
    free (idle);
    free (busy);
    free (self->runners);
    free (self);
    *self_p = NULL;
}

/* Children that take events, or will; `*place` is one that is free, NULL: none. */
static uint32_t
s_count_active (const persistent_t *self, runner_t **place) {
    uint32_t active = 0;
    *place = NULL;
    for (uint32_t i = 0; i < self->places; i++) {
        const runner_t *runner = &self->runners[i];
        active += runner->child && !runner->is_leaving;
        *place = runner->child ? *place : &self->runners[i];
    }
    return active;
}

/* Those that were started together count once. */
static void
s_failed (persistent_t *self, uint64_t now) {
    uint64_t pause = PAUSE_FIRST_MS;
    if (now < self->start_ms) {
        return;
    }
    for (uint32_t i = 0; i < self->failures && pause < PAUSE_MOST_MS; i++) {
        pause *= 2;
    }
    pause = pause < PAUSE_MOST_MS ? pause : PAUSE_MOST_MS;
    self->failures++;
    self->start_ms = now + pause;
    if (self->failures >= FAILURES_BAD) {
        self->is_probing = false;
        runtime_unhealthy (self->way->runtime, self->trouble);
    }
}

/* 0, or -1. */
static int
s_start (persistent_t *self, runner_t *place, uint64_t now) {
    int rc = runner_start (place, self->way, self->is_json, self->has_answers);
    if (rc) {
        snprintf (self->trouble, sizeof self->trouble, "can't start a child: %s", strerror (-rc));
        s_failed (self, now);
        return -1;
    }
    place->child->shows_errors = !self->is_batch;
    return 0;
}

/* The child that the next event goes to: one with nothing to do, or a new one, or that with the
   least; NULL: it has to wait. */
static runner_t *
s_pick (persistent_t *self, uint64_t now) {
    runner_t *best = NULL;
    for (uint32_t i = 0; i < self->places; i++) {
        runner_t *runner = &self->runners[i];
        bool takes = runner->child && !runner->is_leaving && runner->count < self->capacity;
        if (takes && (best == NULL || runner->count < best->count)) {
            best = runner;
        }
        if (takes && runner->count == 0) {
            return runner;
        }
    }
    runner_t *place;
    if (now >= self->start_ms && s_count_active (self, &place) < self->limit && place &&
        s_start (self, place, now) == 0) {
        return place;
    }
    return best;
}

static void
s_give (const persistent_t *self, runner_t *runner, uint64_t tag, const ef_buf_t *bytes) {
    uint32_t most = self->way->options->max_events;
    runner_give (runner, tag, bytes);
    runner->is_leaving = runner->is_leaving || (most && runner->given >= most);
}

static void
s_enqueue (persistent_t *self, uint64_t tag, const ef_buf_t *bytes) {
    waiting_t *item = calloc (1, sizeof *item);
    ef_assert (item != NULL);
    item->tag = tag;
    ef_buf_put (&item->bytes, bytes->data, bytes->size);
    *self->last = item;
    self->last = &item->next;
    self->waiting++;
}

eventflow_result_t
persistent_handle (persistent_t *self, const eventflow_delivery_t *delivery) {
    ef_buf_clear (&self->scratch);
    int rc = self->has_answers
                 ? lines_put_event (&self->scratch, self->is_json, delivery)
                 : lines_put_plain (&self->scratch, self->way->options->is_whole, delivery);
    if (rc) {
        return exec_explain_unreadable (self->way);
    }
    if (self->waiting >= runtime_concurrency (self->way->runtime)) {
        return EVENTFLOW_RELEASE; /* more than our credit: what was lost still takes its place */
    }
    runner_t *runner = self->is_batch || self->first ? NULL : s_pick (self, ef_mono_ms ());
    if (runner) {
        s_give (self, runner, delivery->tag, &self->scratch);
    } else {
        s_enqueue (self, delivery->tag, &self->scratch);
    }
    return EVENTFLOW_LATER;
}

/* A command for as many as there are. */
static void
s_begin_batch (persistent_t *self, runner_t *place, uint64_t now) {
    int rc = s_start (self, place, now);
    if (rc == 0) {
        self->failures = 0;
        place->is_leaving = true;
        place->child->ends_input = true;
        while (self->first && place->count < self->capacity) {
            waiting_t *item = s_unlink (self, &self->first);
            s_give (self, place, item->tag, &item->bytes);
            s_free_waiting (item);
        }
        child_feed (place->child);
    }
}

/* What waits goes to children, as far as there are any. */
void
persistent_flush (persistent_t *self) {
    uint64_t now = ef_mono_ms ();
    while (self->first) {
        runner_t *runner;
        if (self->is_batch) {
            (void)s_count_active (self, &runner); /* a place is all that counts */
            if (runner == NULL || now < self->start_ms) {
                return;
            }
            s_begin_batch (self, runner, now);
            continue;
        }
        runner = s_pick (self, now);
        if (runner == NULL) {
            return;
        }
        waiting_t *item = s_unlink (self, &self->first);
        s_give (self, runner, item->tag, &item->bytes);
        s_free_waiting (item);
    }
}

static void
s_stop_held (persistent_t *self, runner_t *runner, held_t *held, stop_reason_t reason) {
    uint64_t now = ef_mono_ms ();
    if (reason == STOP_TIMEOUT) {
        held->is_timed_out = true;
        runner_end (runner, now);
    } else if (reason == STOP_RELEASE) {
        runner_end (runner, now);
    } else if (!self->is_batch) {
        runner_cancel (runner, held, now + CANCEL_MS);
    } else {
        held->cancel_ms = now;
        if (runner_is_unwanted (runner)) { /* else others are in it, and it goes on */
            runner_end (runner, now);
        }
    }
}

void
persistent_stop (persistent_t *self, uint64_t tag, stop_reason_t reason) {
    for (uint32_t i = 0; i < self->places; i++) {
        for (uint32_t k = 0; k < self->runners[i].count; k++) {
            if (self->runners[i].held[k].tag == tag) {
                s_stop_held (self, &self->runners[i], &self->runners[i].held[k], reason);
                return;
            }
        }
    }
    for (waiting_t **at = &self->first; *at; at = &(*at)->next) {
        if ((*at)->tag == tag) { /* it wasn't begun: too late or not, no attempt was made */
            s_free_waiting (s_unlink (self, at));
            runtime_answer (self->way->runtime, tag, EVENTFLOW_RELEASE, NULL);
            return;
        }
    }
}

static void
s_take_answer (persistent_t *self, runner_t *runner, lines_answer_t *answer, uint64_t now) {
    held_t held;
    if (!runner_take (runner, answer->tag, &held)) {
        char quote[32];
        snprintf (quote, sizeof quote, "%llu", (unsigned long long)answer->tag);
        runner_blame (runner, quote, "the tag of an event that it has in hand", now);
        return;
    }
    const char *downstream = runtime_downstream (self->way->runtime);
    answer->words.downstream = downstream ? downstream : answer->words.downstream;
    if (held.cancel_ms && answer->result != EVENTFLOW_DONE) {
        answer->result = EVENTFLOW_RELEASE; /* its failure is ours */
    }
    runtime_answer (self->way->runtime, answer->tag, answer->result, &answer->words);
    runner->has_answered = true;
    if (self->failures >= FAILURES_BAD) {
        runtime_healthy (self->way->runtime);
    }
    self->failures = 0;
}

/* False: there is no more for now. */
static bool
s_listen (persistent_t *self, runner_t *runner, uint64_t now) {
    for (unsigned i = 0; i < READS && runner->fault == NULL && runner->child->output >= 0; i++) {
        size_t room;
        uint8_t *bytes = lines_room (runner->lines, &room);
        size_t got = child_read (runner->child, bytes, room);
        lines_answer_t answer;
        const char *why;
        int rc;
        lines_add (runner->lines, got);
        while (runner->fault == NULL && (rc = lines_read (runner->lines, &answer, &why)) != 0) {
            if (rc < 0) {
                runner_blame (runner, runner->lines->text, why, now);
            } else {
                s_take_answer (self, runner, &answer, now);
            }
        }
        if (got == 0) {
            return false;
        }
    }
    return runner->fault == NULL && runner->child->output >= 0;
}

/* What waits is given back where it would have to wait for long. */
static void
s_release_waiting (persistent_t *self, uint64_t now) {
    runner_t *place;
    bool is_long = self->start_ms > now + PATIENCE_MS;
    if (self->first == NULL || !is_long || s_count_active (self, &place) > 0) {
        return;
    }
    eventflow_answer_t words = {.retry_ms = (int64_t)(self->start_ms - now), .text = self->trouble};
    while (self->first) {
        waiting_t *item = s_unlink (self, &self->first);
        runtime_answer (self->way->runtime, item->tag, EVENTFLOW_RELEASE, &words);
        s_free_waiting (item);
    }
}

/* Its child has ended: what it had in hand is answered, and another one may be started. */
static void
s_settle (persistent_t *self, runner_t *runner, const siginfo_t *ended, uint64_t now) {
    bool was_empty = runner->count == 0;
    bool was_well = ended->si_code == CLD_EXITED && ended->si_status == 0;
    bool is_asked = was_empty && was_well && (runner->leave_ms || runner->has_answered);
    char trouble[200];
    bool is_own = runner_settle (runner, self->way, ended, trouble);
    runner_free (runner);
    if (is_own && !is_asked && !self->is_batch) {
        memcpy (self->trouble, trouble, sizeof trouble);
        s_failed (self, now);
    }
}

/* What time brings about. */
static void
s_judge (persistent_t *self, runner_t *runner, uint64_t now) {
    const child_t *child = runner->child;
    bool is_deaf = child->output < 0 || (child->input < 0 && !child->ends_input);
    runner_insist (runner, now);
    if (runner->is_leaving && runner->count == 0 && runner->leave_ms == 0 && !self->is_batch) {
        runner->child->ends_input = true; /* it has had its share */
        runner->leave_ms = now + LEAVE_MS;
    } else if (!self->is_batch && is_deaf && runner->leave_ms == 0) {
        runner->is_leaving = true; /* it takes or answers no more, and most likely ends */
        runner->leave_ms = now + DEAF_MS;
    } else if (runner->leave_ms && now >= runner->leave_ms) {
        runner_end (runner, now);
    }
    child_insist (runner->child, now);
    if (self->is_probing && !runner->is_leaving && now - runner->started_ms >= LIVES_MS) {
        self->is_probing = false;
        runtime_healthy (self->way->runtime);
    }
}

/* What a child that is ready has for us, its end at last. */
static void
s_attend (persistent_t *self, runner_t *runner, uint64_t now) {
    siginfo_t ended;
    bool is_over = child_has_ended (runner->child, &ended);
    runner->child->is_ready = false;
    child_listen (runner->child); /* behind the end: all that it said is there */
    while (s_listen (self, runner, now) && is_over) {
    }
    if (is_over) {
        s_settle (self, runner, &ended, now);
    }
}

void
persistent_step (persistent_t *self) {
    uint64_t now = ef_mono_ms ();
    for (uint32_t i = 0; i < self->places; i++) {
        runner_t *runner = &self->runners[i];
        if (runner->child && runner->child->is_ready) {
            s_attend (self, runner, now);
        }
        if (runner->child) {
            s_judge (self, runner, now);
        }
    }
    persistent_flush (self);
    s_release_waiting (self, now);
    for (uint32_t i = 0; i < self->places; i++) {
        if (self->runners[i].child) {
            child_feed (self->runners[i].child); /* all that came in this turn together */
        }
    }
}

static void
s_lower (int *timeout_ms, uint64_t at_ms, uint64_t now) {
    uint64_t left = at_ms > now ? at_ms - now : 0;
    *timeout_ms = left < (uint64_t)*timeout_ms ? (int)left : *timeout_ms;
}

void
persistent_lower (const persistent_t *self, int *timeout_ms) {
    uint64_t now = ef_mono_ms ();
    for (uint32_t i = 0; i < self->places; i++) {
        const runner_t *runner = &self->runners[i];
        if (runner->child == NULL) {
            continue;
        }
        child_lower (runner->child, now, timeout_ms);
        if (runner->leave_ms) {
            s_lower (timeout_ms, runner->leave_ms, now);
        }
        if (runner->cancel_ms) {
            s_lower (timeout_ms, runner->cancel_ms, now);
        }
    }
    if (self->first && self->start_ms > now) {
        s_lower (timeout_ms, self->start_ms, now);
    }
}

/* After children that failed one after the other: whether one lives for a while. */
void
persistent_probe (persistent_t *self) {
    runner_t *place;
    uint64_t now = ef_mono_ms ();
    if (self->failures < FAILURES_BAD || (self->is_batch && now >= self->start_ms)) {
        runtime_healthy (self->way->runtime);
        return;
    }
    bool is_there = s_count_active (self, &place) > 0;
    if (!is_there && now >= self->start_ms && place) {
        is_there = s_start (self, place, now) == 0;
    }
    self->is_probing = is_there;
    if (!is_there) {
        runtime_unhealthy (self->way->runtime, self->trouble);
    }
}

size_t
persistent_children (const persistent_t *self, pid_t *pids, size_t most) {
    size_t count = 0;
    for (uint32_t i = 0; i < self->places && count < most; i++) {
        if (self->runners[i].child) {
            pids[count++] = self->runners[i].child->pid;
        }
    }
    return count;
}
