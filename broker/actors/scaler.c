/* The scaler actor. SPDX-License-Identifier: MIT */
#include "scaler.h"
#include "../../proto/event.h"
#include "spawn.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define WATCH_MS      250 /* how often processes are looked at */
#define PROCESSES_MAX 1000
#define LEAVE_MS      10000 /* for DRAIN to be heeded; then TERM, and as long again KILL */

typedef struct {
    pid_t pid;      /* and process group */
    int file;       /* pidfd */
    uint32_t topic; /* index in pools */
    char token[40];
    uint64_t started_ms;
    bool is_leaving;  /* told to; its end is no crash */
    uint64_t term_ms; /* then it is told TERM; 0: never */
    uint64_t kill_ms; /* then it is killed; 0: never */
} process_t;

typedef struct {
    char topic[EF_TOPIC_NAME_BYTES];
    ef_pool_t pool;
} topic_pool_t;

struct ef_scaler_s {
    ef_actor_t actor;
    const ef_config_t *config;
    topic_pool_t *pools; /* owned */
    uint32_t count;
    process_t *processes; /* owned */
    uint32_t process_count;
    _Atomic uint32_t stop_grace; /* 0: runs; else leave, ms + 1 */
    _Atomic bool is_empty;
    bool is_stopping;
};

ef_scaler_t *
ef_scaler_new (const ef_config_t *config) {
    ef_scaler_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->config = config;
    self->pools = calloc (config->topic_count ? config->topic_count : 1, sizeof *self->pools);
    ef_assert (self->pools != NULL);
    for (uint32_t i = 0; i < config->topic_count; i++) {
        if (config->topics[i].pool.command[0]) {
            topic_pool_t *pool = &self->pools[self->count++];
            memcpy (pool->topic, config->topics[i].topic.name, sizeof pool->topic);
            pool->pool.config = config->topics[i].pool;
            pool->pool.stall_ms = config->topics[i].topic.stall_ms;
            pool->pool.wanted_min = UINT32_MAX;
        }
    }
    atomic_init (&self->is_empty, true);
    return self;
}

void
ef_scaler_message_destroy (ef_scaler_message_t **self_p) {
    if (*self_p) {
        free ((*self_p)->pool);
        free (*self_p);
        *self_p = NULL;
    }
}

bool
ef_scaler_has_pool (const ef_scaler_t *self, const char *topic) {
    for (uint32_t i = 0; i < self->count; i++) {
        if (strcmp (self->pools[i].topic, topic) == 0) {
            return true;
        }
    }
    return false;
}

static void
s_say (ef_scaler_t *self, ef_scaler_kind_t kind, const char *topic, const char *token,
       const char *text) {
    ef_scaler_message_t *message = calloc (1, sizeof *message);
    ef_assert (message != NULL);
    message->kind = kind;
    snprintf (message->topic, sizeof message->topic, "%s", topic);
    snprintf (message->token, sizeof message->token, "%s", token);
    snprintf (message->text, sizeof message->text, "%s", text);
    if (!ef_actor_answer (&self->actor, message)) {
        free (
            message); /* a notice is lost; a drain is asked for again when the pool is still idle */
    }
}

extern char **environ;

/* The broker's environment and what a worker needs to find it. */
static char **
s_environment (ef_scaler_t *self, const topic_pool_t *pool, const char *token, char (*own)[400]) {
    uint32_t count = 0;
    while (environ[count]) {
        count++;
    }
    char **list = calloc (count + 6, sizeof *list);
    ef_assert (list != NULL);
    snprintf (own[0], 400, "EVENTFLOW_BACK=%s", self->config->back);
    snprintf (own[1], 400, "EVENTFLOW_TOPIC=%s", pool->topic);
    snprintf (own[2], 400, "EVENTFLOW_CREDIT=%u", pool->pool.config.credit);
    snprintf (own[3], 400, "EVENTFLOW_TOKEN=%s", token);
    for (uint32_t i = 0; i < 4; i++) {
        list[i] = own[i];
    }
    uint32_t at = 4;
    for (uint32_t i = 0; i < count; i++) {
        bool is_ours = strncmp (environ[i], "EVENTFLOW_BACK=", 15) == 0 ||
                       strncmp (environ[i], "EVENTFLOW_TOPIC=", 16) == 0 ||
                       strncmp (environ[i], "EVENTFLOW_CREDIT=", 17) == 0 ||
                       strncmp (environ[i], "EVENTFLOW_TOKEN=", 16) == 0;
        if (!is_ours) {
            list[at++] = environ[i];
        }
    }
    return list;
}

static void
s_start (ef_scaler_t *self, uint32_t index, const char *why) {
    topic_pool_t *pool = &self->pools[index];
    char own[4][400];
    char text[160];
    process_t process = {.topic = index, .started_ms = ef_mono_ms ()};
    snprintf (process.token, sizeof process.token, "%016llx%016llx",
              (unsigned long long)ef_random (), (unsigned long long)ef_random ());
    char **environment = s_environment (self, pool, process.token, own);
    process.file = ef_spawn (pool->pool.config.command, environment, &process.pid);
    free (environment);
    if (process.file < 0) {
        snprintf (text, sizeof text, "can't start a worker: %s", strerror (-process.file));
        (void)ef_pool_ended (&pool->pool, false, 0, ef_mono_ms ()); /* the notice says it already */
        s_say (self, EF_SCALER_NOTICE, pool->topic, "spawn_failed", text);
        return;
    }
    self->processes =
        realloc (self->processes, (self->process_count + 1) * sizeof *self->processes);
    ef_assert (self->processes != NULL);
    self->processes[self->process_count++] = process;
    atomic_store (&self->is_empty, false);
    snprintf (text, sizeof text, "started pid %d, %u now: %s", (int)process.pid, pool->pool.alive,
              why);
    s_say (self, EF_SCALER_NOTICE, pool->topic, "scale", text);
}

/* The youngest of the pool that isn't leaving yet finishes what it has and goes. */
static void
s_drain_one (ef_scaler_t *self, uint32_t index, const char *why) {
    for (uint32_t i = self->process_count; i > 0; i--) {
        process_t *process = &self->processes[i - 1];
        if (process->topic == index && !process->is_leaving) {
            char text[160];
            process->is_leaving = true;
            process->term_ms = ef_mono_ms () + LEAVE_MS;
            process->kill_ms = process->term_ms + LEAVE_MS;
            snprintf (text, sizeof text, "pid %d leaves, %u remain: %s", (int)process->pid,
                      self->pools[index].pool.alive, why);
            s_say (self, EF_SCALER_DRAIN, self->pools[index].topic, process->token, "");
            s_say (self, EF_SCALER_NOTICE, self->pools[index].topic, "scale", text);
            return;
        }
    }
}

static void
s_handle (ef_scaler_t *self, const ef_scaler_message_t *message) {
    for (uint32_t i = 0; i < self->count; i++) {
        topic_pool_t *pool = &self->pools[i];
        if (strcmp (pool->topic, message->topic) != 0) {
            continue;
        }
        if (message->kind == EF_SCALER_POOL) {
            pool->pool.config = *message->pool;
            pool->pool.stall_ms = message->stall_ms;
            return;
        }
        if (message->kind == EF_SCALER_SCALE) {
            pool->pool.wanted_min = message->count;
            pool->pool.not_before_ms = 0;
            return;
        }
        const char *why = "";
        uint32_t there = 0;
        for (uint32_t k = 0; k < self->process_count; k++) {
            there += self->processes[k].topic == i;
        }
        /* Those that are still leaving take their places until they are gone. */
        bool has_place = self->process_count < PROCESSES_MAX &&
                         (there < pool->pool.config.max || there == pool->pool.alive);
        ef_pool_act_t act = has_place
                                ? ef_pool_decide (&pool->pool, &message->load, ef_mono_ms (), &why)
                                : EF_POOL_KEEP;
        if (act == EF_POOL_START) {
            s_start (self, i, why);
        } else if (act == EF_POOL_DRAIN) {
            s_drain_one (self, i, why);
        }
        return;
    }
}

/* Reaps what has ended. */
static void
s_watch (ef_scaler_t *self, uint64_t now) {
    for (uint32_t i = 0; i < self->process_count;) {
        process_t *process = &self->processes[i];
        siginfo_t info = {0};
        if (process->term_ms && now >= process->term_ms) {
            (void)kill (-process->pid, SIGTERM); /* it didn't heed DRAIN, or never said READY */
            process->term_ms = 0;
        }
        if (process->kill_ms && now >= process->kill_ms) {
            (void)kill (-process->pid, SIGKILL); /* gone already is as good */
            process->kill_ms = 0;
        }
        if (waitid (P_PIDFD, (id_t)process->file, &info, WEXITED | WNOHANG) || info.si_pid == 0) {
            i++;
            continue;
        }
        topic_pool_t *pool = &self->pools[process->topic];
        bool is_clean = info.si_code == CLD_EXITED && info.si_status == 0;
        char text[160];
        (void)kill (-process->pid, SIGTERM); /* children that it may have left behind */
        close (process->file);
        if (!process->is_leaving) {
            bool gives_up = ef_pool_ended (&pool->pool, is_clean, now - process->started_ms, now);
            snprintf (text, sizeof text, "pid %d ended with %s %d", (int)process->pid,
                      info.si_code == CLD_EXITED ? "exit status" : "signal", info.si_status);
            s_say (self, EF_SCALER_NOTICE, pool->topic, "worker_ended", text);
            if (!is_clean) {
                snprintf (text, sizeof text, "the worker's process ended with %s %d",
                          info.si_code == CLD_EXITED ? "exit status" : "signal", info.si_status);
                s_say (self, EF_SCALER_DIED, pool->topic, process->token, text);
            }
            if (gives_up) {
                s_say (self, EF_SCALER_NOTICE, pool->topic, "crash_loop",
                       "workers crash as soon as they start; trying again in 60 s");
            }
        }
        self->processes[i] = self->processes[--self->process_count];
    }
    atomic_store (&self->is_empty, self->process_count == 0);
}

static uint64_t
s_step (void *arg) {
    ef_scaler_t *self = arg;
    uint64_t now = ef_mono_ms ();
    ef_scaler_message_t *message;
    uint32_t grace = atomic_load (&self->stop_grace);
    if (grace && !self->is_stopping) {
        self->is_stopping = true;
        for (uint32_t i = 0; i < self->process_count; i++) {
            self->processes[i].is_leaving = true;
            self->processes[i].kill_ms = now + grace;
            (void)kill (-self->processes[i].pid, SIGTERM); /* gone already is as good */
        }
    }
    while ((message = ef_ring_pop (&self->actor.in)) != NULL) {
        if (!self->is_stopping) {
            s_handle (self, message);
        }
        ef_scaler_message_destroy (&message);
    }
    s_watch (self, now);
    return self->process_count ? now + (self->is_stopping ? 20 : WATCH_MS) : UINT64_MAX;
}

int
ef_scaler_start (ef_scaler_t *self, ef_waker_t *owner) {
    return ef_actor_start (&self->actor, "scaler", owner, s_step, self);
}

void
ef_scaler_stop_workers (ef_scaler_t *self, uint32_t grace_ms) {
    atomic_store (&self->stop_grace, grace_ms + 1);
    uint64_t deadline = ef_mono_ms () + grace_ms + 2000;
    while (!atomic_load (&self->is_empty) && ef_mono_ms () < deadline) {
        ef_waker_wake (&self->actor.waker);
        (void)poll (NULL, 0, 10);
    }
}

void
ef_scaler_destroy (ef_scaler_t **self_p) {
    ef_scaler_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    ef_actor_stop (&self->actor);
    ef_scaler_message_t *message;
    while ((message = ef_ring_pop (&self->actor.in)) != NULL ||
           (message = ef_ring_pop (&self->actor.out)) != NULL) {
        ef_scaler_message_destroy (&message);
    }
    for (uint32_t i = 0; i < self->process_count; i++) {
        (void)kill (-self->processes[i].pid, SIGKILL); /* the last resort */
        close (self->processes[i].file);
    }
    free (self->processes);
    free (self->pools);
    free (self);
    *self_p = NULL;
}

ef_actor_t *
ef_scaler_actor (ef_scaler_t *self) {
    return &self->actor;
}
