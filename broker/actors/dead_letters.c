/* The dead-letter actor. SPDX-License-Identifier: MIT */
#include "dead_private.h"
#include "../base/log.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SUFFIX   "_deadletter"
#define STUCK_MS 250 /* between two looks at a full disk */

ef_dead_message_t *
ef_dead_message_new (ef_dead_kind_t kind, const char *topic) {
    ef_dead_message_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->kind = kind;
    snprintf (self->topic, sizeof self->topic, "%s", topic);
    return self;
}

void
ef_dead_message_destroy (ef_dead_message_t **self_p) {
    ef_dead_message_t *self = *self_p;
    for (uint32_t i = 0; self->bodies && i < self->count; i++) {
        free (self->bodies[i].bytes);
    }
    free (self->bodies);
    ef_buf_free (&self->bytes);
    if (self->kind == EF_DEAD_FIND && self->token) {
        ef_question_forget (self->token);
    } else {
        free (self->token);
    }
    free (self);
    *self_p = NULL;
}

dead_topic_t *
dead_topic_find (ef_dead_letters_t *self, const char *name, size_t size) {
    for (uint32_t i = 0; i < self->topic_count; i++) {
        if (strlen (self->topics[i].topic) == size &&
            memcmp (self->topics[i].topic, name, size) == 0) {
            return &self->topics[i];
        }
    }
    return NULL;
}

/* Opens or creates the journal of a topic. NULL: `error` says why, errno too. */
static dead_topic_t *
s_open (ef_dead_letters_t *self, const char *name, char error[512]) {
    char path[1400];
    int rc;
    snprintf (path, sizeof path, "%s/%s" SUFFIX, self->path, name);
    ef_storage_t *storage = ef_storage_new (path, &rc);
    while (storage == NULL && ef_storage_is_full (-rc) && dead_reserve_use (self)) {
        storage = ef_storage_new (path, &rc);
    }
    if (storage == NULL) {
        snprintf (error, 512, "%.300s: %s", path, strerror (rc));
        errno = rc;
        return NULL;
    }
    ef_wal_report_t report;
    ef_wal_options_t options = {.wall_ms = ef_wall_ms (), .random = {ef_random (), ef_random ()}};
    ef_dead_log_t *log = ef_dead_log_new (storage, &options, &report);
    if (log == NULL) {
        snprintf (error, 512, "%.180s: %.320s", path, report.text);
        errno = report.error;
        return NULL;
    }
    if (report.torn_bytes) {
        ef_log (EF_LOG_WARNING, "deadletter.torn", "topic=%s segment=%u offset=%u bytes=%llu", name,
                report.torn_segment, report.torn_offset, (unsigned long long)report.torn_bytes);
    }
    self->topics = realloc (self->topics, (self->topic_count + 1) * sizeof *self->topics);
    ef_assert (self->topics != NULL);
    dead_topic_t *topic = &self->topics[self->topic_count++];
    memset (topic, 0, sizeof *topic);
    snprintf (topic->topic, sizeof topic->topic, "%s", name);
    topic->log = log;
    topic->told_m = ef_dead_log_highest (log);
    for (uint32_t k = 0; k < ef_dead_log_leaving_count (log); k++) {
        topic->offered_b = ef_dead_log_leaving (log, k)->b; /* offered when the actor starts */
    }
    return topic;
}

ef_dead_letters_t *
ef_dead_letters_new (const char *path, void (*each) (void *arg, const char *topic, uint64_t m),
                     void *arg, char error[512]) {
    ef_dead_letters_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    snprintf (self->path, sizeof self->path, "%s", path);
    dead_reserve_open (self);
    DIR *listing = opendir (path);
    struct dirent *entry;
    bool is_good = true;
    while (listing && is_good && (entry = readdir (listing)) != NULL) {
        size_t size = strlen (entry->d_name);
        size_t suffix = strlen (SUFFIX);
        char name[EF_TOPIC_NAME_BYTES];
        if (size <= suffix || size - suffix >= sizeof name ||
            strcmp (entry->d_name + size - suffix, SUFFIX) != 0) {
            continue;
        }
        memcpy (name, entry->d_name, size - suffix);
        name[size - suffix] = 0;
        const dead_topic_t *topic = s_open (self, name, error);
        is_good = topic != NULL;
        if (topic) {
            each (arg, name, topic->told_m);
        }
    }
    if (listing) {
        closedir (listing);
    }
    if (!is_good) {
        ef_dead_letters_destroy (&self);
    }
    return self;
}

static void
s_fail (ef_dead_letters_t *self, int error, const char *text) {
    ef_log (EF_LOG_ERROR, "deadletter.failed", "error=\"%s\" detail=\"%s\"", strerror (error),
            text);
    atomic_store (&self->failed, error ? error : EIO);
    ef_waker_wake (self->actor.owner);
}

/* Sends what found the ring full before. True: nothing waits any more. */
static bool
s_send_unsent (ef_dead_letters_t *self) {
    while (self->unsent) {
        ef_dead_message_t *message = self->unsent;
        ef_dead_message_t *next = message->next;
        if (!ef_actor_answer (&self->actor, message)) {
            return false;
        }
        self->unsent = next;
    }
    self->unsent_last = NULL;
    return true;
}

static void
s_answer (ef_dead_letters_t *self, ef_dead_message_t *message) {
    message->next = NULL;
    if (self->unsent == NULL && ef_actor_answer (&self->actor, message)) {
        return;
    }
    *(self->unsent ? &self->unsent_last->next : &self->unsent) = message;
    self->unsent_last = message;
}

static void
s_offer (ef_dead_letters_t *self, dead_topic_t *topic, const ef_leaving_t *leaving) {
    ef_dead_message_t *message = ef_dead_message_new (EF_DEAD_RETURN, topic->topic);
    message->number = leaving->b;
    message->purge = leaving->purge;
    message->count = leaving->count;
    message->bodies = calloc (leaving->count ? leaving->count : 1, sizeof *message->bodies);
    ef_assert (message->bodies != NULL);
    for (uint32_t i = 0; i < leaving->count; i++) {
        uint32_t at = ef_dead_log_seek (topic->log, leaving->m[i]);
        if (ef_dead_log_read (topic->log, ef_dead_log_at (topic->log, at), &message->bodies[i])) {
            ef_dead_message_destroy (&message);
            s_fail (self, EIO, "a letter can't be read back");
            return;
        }
    }
    topic->offered++;
    s_answer (self, message);
}

/* Takes the owner's list of m over. */
void
dead_task_add (dead_topic_t *topic, uint64_t *m, uint32_t count, bool purge, uint32_t rate) {
    topic->tasks = realloc (topic->tasks, (topic->task_count + 1) * sizeof *topic->tasks);
    ef_assert (topic->tasks != NULL);
    topic->tasks[topic->task_count++] =
        (dead_task_t){.m = m, .count = count, .purge = purge, .rate = rate};
}

bool
dead_commit (ef_dead_letters_t *self, dead_topic_t *topic) {
    int rc = ef_dead_log_commit (topic->log);
    while (ef_storage_is_full (rc) && dead_reserve_use (self)) {
        rc = ef_dead_log_commit (topic->log);
    }
    if (rc) {
        self->is_stuck = self->is_stuck || ef_storage_is_full (rc);
        if (!ef_storage_is_full (rc)) {
            s_fail (self, -rc, topic->topic);
        }
        return false;
    }
    if (ef_dead_log_highest (topic->log) > topic->told_m) {
        topic->told_m = ef_dead_log_highest (topic->log);
        ef_dead_message_t *message = ef_dead_message_new (EF_DEAD_DURABLE, topic->topic);
        message->number = topic->told_m;
        s_answer (self, message);
    }
    for (uint32_t i = 0; i < ef_dead_log_leaving_count (topic->log); i++) {
        const ef_leaving_t *leaving = ef_dead_log_leaving (topic->log, i);
        if (leaving->b > topic->offered_b && atomic_load (&self->failed) == 0) {
            topic->offered_b = leaving->b;
            s_offer (self, topic, leaving);
        }
    }
    return true;
}

/* Notes that the next letters of a task leave, and offers them. Returns how many. */
static uint32_t
s_task_step (ef_dead_letters_t *self, dead_topic_t *topic, dead_task_t *task, uint64_t now) {
    uint64_t m[EF_RETURN_LETTERS];
    uint64_t bytes = 0;
    uint32_t count = 0;
    uint32_t most = task->rate && task->rate < 10 * EF_RETURN_LETTERS ? (task->rate + 9) / 10
                                                                      : EF_RETURN_LETTERS;
    while (task->next < task->count && count < most) {
        uint32_t at = ef_dead_log_seek (topic->log, task->m[task->next]);
        const ef_letter_t *letter =
            at < ef_dead_log_count (topic->log) ? ef_dead_log_at (topic->log, at) : NULL;
        if (letter && letter->m == task->m[task->next] && !letter->is_leaving &&
            letter->segment != 0) {
            if (count > 0 && bytes + letter->bytes > EF_RETURN_BYTES) {
                break; /* a move is one record */
            }
            bytes += letter->bytes;
            m[count++] = letter->m;
        }
        task->next++;
    }
    if (count == 0) {
        return 0;
    }
    (void)ef_dead_log_leave (topic->log, m, count, task->purge);
    task->next_ms = task->rate ? now + 1000ull * count / task->rate : 0;
    (void)dead_commit (self, topic); /* it is looked at again at the end of each turn */
    return count;
}

/* When the tasks of a topic must be looked at again. */
static uint64_t
s_run_tasks (ef_dead_letters_t *self, dead_topic_t *topic, uint64_t now) {
    uint64_t next = UINT64_MAX;
    while (topic->task_count > 0 && atomic_load (&self->failed) == 0) {
        dead_task_t *task = &topic->tasks[0];
        if (task->next == task->count) {
            free (task->m);
            topic->task_count--;
            memmove (topic->tasks, topic->tasks + 1, topic->task_count * sizeof *topic->tasks);
            continue;
        }
        if (topic->offered >= EF_RETURNS_MAX || self->is_stuck ||
            (atomic_load (&self->is_held) && !task->purge)) {
            break; /* an answer, or space, wakes us */
        }
        if (task->next_ms > now) {
            next = task->next_ms;
            break;
        }
        (void)s_task_step (self, topic, task, now); /* 0: the rest is gone already */
    }
    return next;
}

static void
s_want_overflow (dead_topic_t *topic, uint32_t limit) {
    if (topic->task_count > 0 || topic->offered > 0) {
        return; /* what is under way comes first; it is wanted again soon */
    }
    uint64_t *m = malloc ((limit ? limit : 1) * sizeof *m);
    ef_assert (m != NULL);
    uint32_t count = 0;
    for (uint32_t i = 0; i < ef_dead_log_count (topic->log) && count < limit; i++) {
        const ef_letter_t *letter = ef_dead_log_at (topic->log, i);
        if (letter->reason == EF_REASON_OVERFLOW && !letter->is_leaving && !letter->is_superseded) {
            m[count++] = letter->m;
        }
    }
    if (count > 0) {
        dead_task_add (topic, m, count, false, 0);
    } else {
        free (m);
    }
}

/* A first letter whose journal can't be made now: it waits, and so do those behind it. */
static void
s_defer (ef_dead_letters_t *self, ef_dead_message_t *message) {
    message->next = NULL;
    *(self->deferred ? &self->deferred_last->next : &self->deferred) = message;
    self->deferred_last = message;
    self->is_stuck = true;
}

static void
s_handle (ef_dead_letters_t *self, ef_dead_message_t *message) {
    char error[512] = "";
    dead_topic_t *topic = dead_topic_find (self, message->topic, strlen (message->topic));
    switch (message->kind) {
    case EF_DEAD_ADD:
        topic = topic ? topic : s_open (self, message->topic, error);
        if (topic == NULL && ef_storage_is_full (-errno)) {
            s_defer (self, message);
            return;
        }
        if (topic == NULL) {
            s_fail (self, errno, error);
        } else {
            ef_dead_log_add (topic->log, &message->dead);
        }
        break;
    case EF_DEAD_RETURNED:
        if (topic) {
            ef_dead_log_left (topic->log, message->number);
            topic->offered -= topic->offered > 0;
        }
        break;
    case EF_DEAD_WANT:
        if (topic) {
            s_want_overflow (topic, message->count);
        }
        break;
    case EF_DEAD_ADMIN: {
        ef_buf_t answer = {0};
        for (uint32_t i = 0; i < self->topic_count; i++) {
            (void)dead_commit (self, &self->topics[i]); /* what came before it is seen */
        }
        ef_dead_admin (self, ef_cursor (message->bytes.data, message->bytes.size), &answer);
        ef_buf_free (&message->bytes);
        message->bytes = answer;
        s_answer (self, message);
        return; /* handed back */
    }
    case EF_DEAD_FIND:
        for (uint32_t i = 0; i < self->topic_count; i++) {
            (void)dead_commit (self, &self->topics[i]); /* what came before it is seen */
        }
        ef_dead_find (self, message->token);
        s_answer (self, message);
        return; /* handed back */
    case EF_DEAD_DURABLE:
    case EF_DEAD_RETURN:
    default: ef_assert (!"a message that only goes the other way");
    }
    ef_dead_message_destroy (&message);
}

static uint64_t
s_step (void *arg) {
    ef_dead_letters_t *self = arg;
    ef_dead_message_t *message;
    uint64_t now = ef_mono_ms ();
    uint64_t next = UINT64_MAX;
    bool was_stuck = self->is_stuck;
    self->is_stuck = false;
    message = self->deferred;
    self->deferred = NULL;
    while (message) { /* in order: each defers itself again where it must */
        ef_dead_message_t *following = message->next;
        s_handle (self, message);
        message = following;
    }
    while (atomic_load (&self->failed) == 0 && (message = ef_ring_pop (&self->actor.in)) != NULL) {
        s_handle (self, message);
    }
    for (uint32_t i = 0; i < self->topic_count && atomic_load (&self->failed) == 0; i++) {
        dead_topic_t *topic = &self->topics[i];
        (void)dead_commit (self, topic);
        uint64_t task = s_run_tasks (self, topic, now);
        next = task < next ? task : next;
    }
    if (self->is_stuck || was_stuck || atomic_load (&self->is_held)) {
        if (!self->is_stuck) {
            dead_reserve_refill (self);
        }
        next = now + STUCK_MS < next ? now + STUCK_MS : next;
    }
    return s_send_unsent (self) ? next : now + 1;
}

int
ef_dead_letters_start (ef_dead_letters_t *self, ef_waker_t *owner) {
    self->actor.owner = owner;
    /* What was on its way back when the broker ended is offered again; taken ones are known by b.
     */
    for (uint32_t i = 0; i < self->topic_count; i++) {
        dead_topic_t *topic = &self->topics[i];
        for (uint32_t k = 0; k < ef_dead_log_leaving_count (topic->log); k++) {
            s_offer (self, topic, ef_dead_log_leaving (topic->log, k));
        }
    }
    return ef_actor_start (&self->actor, "dead-letters", owner, s_step, self);
}

void
ef_dead_letters_destroy (ef_dead_letters_t **self_p) {
    ef_dead_letters_t *self = *self_p;
    ef_dead_message_t *message;
    if (self == NULL) {
        return;
    }
    ef_actor_stop (&self->actor);
    while ((message = ef_ring_pop (&self->actor.in)) != NULL ||
           (message = ef_ring_pop (&self->actor.out)) != NULL) {
        ef_dead_message_destroy (&message);
    }
    while ((message = self->deferred) != NULL) {
        self->deferred = message->next;
        ef_dead_message_destroy (&message);
    }
    dead_reserve_close (self);
    while ((message = self->unsent) != NULL) {
        self->unsent = message->next;
        ef_dead_message_destroy (&message);
    }
    for (uint32_t i = 0; i < self->topic_count; i++) {
        for (uint32_t k = 0; k < self->topics[i].task_count; k++) {
            free (self->topics[i].tasks[k].m);
        }
        free (self->topics[i].tasks);
        ef_dead_log_destroy (&self->topics[i].log);
    }
    free (self->topics);
    free (self);
    *self_p = NULL;
}

ef_actor_t *
ef_dead_letters_actor (ef_dead_letters_t *self) {
    return &self->actor;
}

int
ef_dead_letters_failed (ef_dead_letters_t *self) {
    return atomic_load (&self->failed);
}

void
ef_dead_letters_hold (ef_dead_letters_t *self, bool is_held) {
    atomic_store (&self->is_held, is_held);
    ef_actor_poke (&self->actor);
}
