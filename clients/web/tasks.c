/* Replaying and discarding many dead letters, with progress. SPDX-License-Identifier: MIT

   Role: a thread for each task that runs: chooses the letters first (those that die again while it
   runs are none of its own), then asks the broker for some at a time, at the rate that was said, so
   that it can be watched and stopped. Owns: tasks and their threads. Invariants: at most TASKS_LIVE
   run, the last TASKS_KEPT are known; a server that ends stops them where they are: what was moved
   is moved. On failure: a broker that doesn't answer is asked again for TASKS_PATIENCE_MS. */
#include "api_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TASKS_KEPT        100
#define TASKS_LIVE        8
#define TASKS_LETTERS_MAX 1000000 /* of one task: 16 MB */
#define TASKS_BATCH       256     /* letters asked for at once */
#define TASKS_TURN_MS     200     /* between two, where a rate was said */
#define TASKS_PATIENCE_MS 60000

typedef enum { TASK_CHOOSING, TASK_RUNNING, TASK_DONE, TASK_CANCELLED, TASK_FAILED } task_state_t;

typedef struct {
    char topic[64];
    uint64_t n;
} place_t;

typedef struct {
    tasks_t *tasks;
    char id[40];
    letters_filter_t filter;
    uint64_t *numbers; /* owned; NULL: by the filter */
    uint32_t number_count;
    double rate;
    bool is_discard;
    char who[64];
    pthread_t thread;
    bool has_thread;
    /* under the lock */
    task_state_t state;
    bool is_cancelled;
    uint64_t matched;
    uint64_t asked;
    uint64_t done; /* that the broker moved */
    uint64_t started_ms;
    uint64_t ended_ms;
    char error[600];
} task_t;

struct tasks_s {
    admin_pool_t *admin;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    task_t *items[TASKS_KEPT]; /* owned, the oldest first */
    uint32_t count;
    uint32_t live;
    bool is_ending;
};

/* The places of a task's letters. */
typedef struct {
    task_t *task;
    const char *topic;
    place_t *items; /* owned */
    uint32_t count;
    uint32_t capacity;
} chosen_t;

static bool
s_is_over (task_t *self) {
    pthread_mutex_lock (&self->tasks->lock);
    bool is_over = self->is_cancelled || self->tasks->is_ending;
    pthread_mutex_unlock (&self->tasks->lock);
    return is_over;
}

static void
s_add (chosen_t *self, const char *topic, uint64_t n) {
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? self->capacity * 2 : 256;
        self->items = realloc (self->items, self->capacity * sizeof *self->items);
        ef_assert (self->items != NULL);
    }
    snprintf (self->items[self->count].topic, sizeof self->items->topic, "%s", topic);
    self->items[self->count++].n = n;
}

static bool
s_choose_one (void *arg, ef_cursor_t item, uint64_t m) {
    chosen_t *self = arg;
    (void)m;
    if (letters_may_go (item, self->task->is_discard)) {
        s_add (self, self->topic, ef_map_uint (item, "n"));
    }
    return self->count < TASKS_LETTERS_MAX;
}

/* NULL, or the code. */
static const char *
s_choose (task_t *task, chosen_t *chosen, char *text) {
    ef_buf_t names = {0};
    const char *code = letters_topics (task->tasks->admin, &task->filter, &names, text);
    for (uint32_t i = 0; code == NULL && task->numbers && i < task->number_count; i++) {
        s_add (chosen, task->filter.topic, task->numbers[i]);
    }
    for (const char *name = (const char *)names.data; code == NULL && !task->numbers && *name;
         name += strlen (name) + 1) {
        letters_page_t page = {.filter = &task->filter, .each = s_choose_one, .arg = chosen};
        chosen->topic = name;
        do {
            code = letters_page (task->tasks->admin, name, &page, text);
        } while (code == NULL && page.after && !page.is_stopped && !s_is_over (task));
    }
    ef_buf_free (&names);
    return code;
}

/* Asks for `count` letters from `first` on, all of one topic. NULL, or the code. */
static const char *
s_move (task_t *task, const chosen_t *chosen, uint32_t first, uint32_t count, char *text) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    const char *verb = task->is_discard ? "DLQ.PURGE" : "DLQ.REPLAY";
    const char *told = task->is_discard ? "purged" : "replayed";
    api_request (&request, 3, verb, chosen->items[first].topic);
    ef_put_map (&request, 1);
    ef_put_str (&request, "n");
    ef_put_array (&request, count);
    for (uint32_t i = 0; i < count; i++) {
        ef_put_uint (&request, chosen->items[first + i].n);
    }
    const char *code = admin_pool_call (task->tasks->admin, &request, &value, text);
    if (code == NULL) {
        pthread_mutex_lock (&task->tasks->lock);
        task->asked += count;
        task->done += ef_map_uint (ef_cursor (value.data, value.size), told);
        pthread_mutex_unlock (&task->tasks->lock);
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return code;
}

/* Waits, or until the task is to end. */
static void
s_pause (task_t *task, uint64_t ms) {
    uint64_t until = ef_mono_ns () + ms * 1000000u;
    const struct timespec deadline = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
    pthread_mutex_lock (&task->tasks->lock);
    while (!task->is_cancelled && !task->tasks->is_ending &&
           pthread_cond_timedwait (&task->tasks->wake, &task->tasks->lock, &deadline) == 0) {
    }
    pthread_mutex_unlock (&task->tasks->lock);
}

/* How many may go now: by the rate since the start, at most a batch, and of one topic. */
static uint32_t
s_may_go (const task_t *task, const chosen_t *chosen, uint32_t next, uint64_t begun_ms) {
    uint32_t most = TASKS_BATCH;
    if (task->rate > 0) {
        double earned = floor ((double)(ef_mono_ms () - begun_ms) / 1000 * task->rate) + 1;
        most = earned > next ? (uint32_t)fmin (earned - next, TASKS_BATCH) : 0;
    }
    uint32_t count = 0;
    while (count < most && next + count < chosen->count &&
           strcmp (chosen->items[next].topic, chosen->items[next + count].topic) == 0) {
        count++;
    }
    return count;
}

static const char *
s_move_all (task_t *task, const chosen_t *chosen, char *text) {
    uint64_t begun = ef_mono_ms ();
    uint64_t answered = begun;
    uint32_t next = 0;
    while (next < chosen->count && !s_is_over (task)) {
        uint32_t count = s_may_go (task, chosen, next, begun);
        if (count == 0) {
            s_pause (task, TASKS_TURN_MS);
            continue;
        }
        const char *code = s_move (task, chosen, next, count, text);
        if (code == NULL) {
            next += count;
            answered = ef_mono_ms ();
        } else if (problem_find (code)->retry_s == 0 ||
                   ef_mono_ms () - answered > TASKS_PATIENCE_MS) {
            return code;
        } else {
            s_pause (task, 1000);
        }
    }
    return NULL;
}

static void *
s_run (void *arg) {
    task_t *task = arg;
    tasks_t *tasks = task->tasks;
    char text[512] = "";
    chosen_t chosen = {.task = task};
    const char *code = s_choose (task, &chosen, text);
    pthread_mutex_lock (&tasks->lock);
    task->matched = chosen.count;
    task->state = TASK_RUNNING;
    pthread_mutex_unlock (&tasks->lock);
    code = code ? code : s_move_all (task, &chosen, text);
    pthread_mutex_lock (&tasks->lock);
    task->state = code ? TASK_FAILED : task->asked < chosen.count ? TASK_CANCELLED : TASK_DONE;
    task->ended_ms = ef_wall_ms ();
    if (code) {
        snprintf (task->error, sizeof task->error, "%s: %s", code, text);
    }
    tasks->live--;
    pthread_mutex_unlock (&tasks->lock);
    free (chosen.items);
    return NULL;
}

tasks_t *
tasks_new (admin_pool_t *admin) {
    tasks_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    pthread_condattr_t attributes;
    self->admin = admin;
    pthread_mutex_init (&self->lock, NULL);
    pthread_condattr_init (&attributes);
    pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
    pthread_cond_init (&self->wake, &attributes);
    pthread_condattr_destroy (&attributes);
    return self;
}

static void
s_free (task_t *task) {
    if (task->has_thread) {
        (void)pthread_join (task->thread, NULL); /* a thread of our own */
    }
    free (task->numbers);
    free (task);
}

void
tasks_destroy (tasks_t **self_p) {
    tasks_t *self = *self_p;
    if (self) {
        pthread_mutex_lock (&self->lock);
        self->is_ending = true;
        pthread_cond_broadcast (&self->wake);
        pthread_mutex_unlock (&self->lock);
        for (uint32_t i = 0; i < self->count; i++) {
            s_free (self->items[i]);
        }
        pthread_mutex_destroy (&self->lock);
        pthread_cond_destroy (&self->wake);
        free (self);
        *self_p = NULL;
    }
}

/* With the lock held: makes a place, forgetting the oldest that has ended. */
static bool
s_make_place (tasks_t *self) {
    for (uint32_t i = 0; i < self->count && self->count == TASKS_KEPT; i++) {
        if (self->items[i]->ended_ms > 0) {
            s_free (self->items[i]); /* its thread has nothing left to do but end */
            memmove (&self->items[i], &self->items[i + 1],
                     (self->count - i - 1) * sizeof self->items[0]);
            self->count--;
        }
    }
    return self->count < TASKS_KEPT && self->live < TASKS_LIVE && !self->is_ending;
}

static task_t *
s_new (tasks_t *self, const task_options_t *options) {
    task_t *task = calloc (1, sizeof *task);
    ef_assert (task != NULL);
    uint8_t id[16];
    const uint64_t random[2] = {ef_random (), ef_random ()};
    ef_uuid7 (id, ef_wall_ms (), random);
    ef_uuid_text (id, 0, task->id);
    task->tasks = self;
    task->filter = options->filter;
    task->rate = options->rate;
    task->is_discard = options->is_discard;
    task->started_ms = ef_wall_ms ();
    snprintf (task->who, sizeof task->who, "%s", options->who);
    if (options->numbers) {
        size_t bytes = options->count * sizeof *options->numbers;
        task->numbers = malloc (bytes ? bytes : 1);
        ef_assert (task->numbers != NULL);
        memcpy (task->numbers, options->numbers, bytes);
        task->number_count = options->count;
    }
    return task;
}

int
tasks_start (tasks_t *self, const task_options_t *options, char id[40]) {
    task_t *task = s_new (self, options);
    pthread_mutex_lock (&self->lock);
    bool is_taken = s_make_place (self) && pthread_create (&task->thread, NULL, s_run, task) == 0;
    if (is_taken) {
        task->has_thread = true;
        self->items[self->count++] = task;
        self->live++;
        memcpy (id, task->id, sizeof task->id);
    }
    pthread_mutex_unlock (&self->lock);
    if (!is_taken) {
        s_free (task);
    }
    return is_taken ? 0 : -1;
}

static task_t *
s_find (tasks_t *self, const char *id) {
    for (uint32_t i = 0; i < self->count; i++) {
        if (strcmp (self->items[i]->id, id) == 0) {
            return self->items[i];
        }
    }
    return NULL;
}

static void
s_put (const task_t *task, ef_buf_t *out) {
    static const char *const states[] = {"choosing", "running", "done", "cancelled", "failed"};
    char text[400];
    snprintf (text, sizeof text,
              "{\"id\":\"%s\",\"kind\":\"%s\",\"state\":\"%s\",\"matched\":%llu,\"asked\":%llu,"
              "\"moved\":%llu,\"progress_ratio\":%.4f,\"rate_per_s\":%.6g",
              task->id, task->is_discard ? "discard" : "replay", states[task->state],
              (unsigned long long)task->matched, (unsigned long long)task->asked,
              (unsigned long long)task->done,
              task->matched    ? (double)task->asked / (double)task->matched
              : task->ended_ms ? 1.0
                               : 0.0,
              task->rate);
    api_text (out, text);
    api_text (out, ",\"topic\":");
    if (task->filter.topic[0]) {
        ef_json_string (out, task->filter.topic, strlen (task->filter.topic));
    } else {
        api_text (out, "null");
    }
    api_text (out, ",\"who\":");
    ef_json_string (out, task->who, strlen (task->who));
    api_put_date (out, ",\"started\":", task->started_ms);
    api_put_date (out, ",\"ended\":", task->ended_ms);
    if (task->error[0]) {
        api_text (out, ",\"error\":");
        ef_json_string (out, task->error, strlen (task->error));
    }
    api_text (out, "}");
}

int
tasks_put (tasks_t *self, const char *id, ef_buf_t *out) {
    pthread_mutex_lock (&self->lock);
    const task_t *task = s_find (self, id);
    if (task) {
        s_put (task, out);
    }
    pthread_mutex_unlock (&self->lock);
    return task ? 0 : -1;
}

void
tasks_put_all (tasks_t *self, ef_buf_t *out) {
    pthread_mutex_lock (&self->lock);
    for (uint32_t i = self->count; i > 0; i--) {
        s_put (self->items[i - 1], out);
        api_text (out, i > 1 ? "," : "");
    }
    pthread_mutex_unlock (&self->lock);
}

int
tasks_cancel (tasks_t *self, const char *id) {
    pthread_mutex_lock (&self->lock);
    task_t *task = s_find (self, id);
    if (task) {
        task->is_cancelled = true;
        pthread_cond_broadcast (&self->wake);
    }
    pthread_mutex_unlock (&self->lock);
    return task ? 0 : -1;
}
