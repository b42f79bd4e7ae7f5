/* A pool of admin connections. SPDX-License-Identifier: MIT */
#include "admin.h"
#include "../c/eventflow.h"
#include "problem.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define POOL_MAX      64
#define POOL_PROBE_MS 500 /* patience while the last question went unanswered */

struct admin_pool_s {
    char endpoint[256];
    uint32_t timeout_ms;
    pthread_mutex_t lock;
    pthread_cond_t freed;
    eventflow_admin_t *idle[POOL_MAX]; /* owned */
    uint32_t idle_count;
    uint32_t count;
    _Atomic bool is_silent; /* the broker didn't answer the last time */
};

admin_pool_t *
admin_pool_new (const char *endpoint, uint32_t connections, uint32_t timeout_ms) {
    admin_pool_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    pthread_condattr_t attributes;
    snprintf (self->endpoint, sizeof self->endpoint, "%s", endpoint ? endpoint : "");
    self->timeout_ms = timeout_ms;
    pthread_mutex_init (&self->lock, NULL);
    pthread_condattr_init (&attributes);
    pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
    pthread_cond_init (&self->freed, &attributes);
    pthread_condattr_destroy (&attributes);
    self->count = connections < POOL_MAX ? connections : POOL_MAX;
    for (uint32_t i = 0; i < self->count; i++) {
        self->idle[i] = eventflow_admin_new (endpoint);
    }
    self->idle_count = self->count;
    return self;
}

void
admin_pool_destroy (admin_pool_t **self_p) {
    admin_pool_t *self = *self_p;
    if (self) {
        ef_assert (self->idle_count == self->count);
        for (uint32_t i = 0; i < self->count; i++) {
            eventflow_admin_destroy (&self->idle[i]);
        }
        pthread_mutex_destroy (&self->lock);
        pthread_cond_destroy (&self->freed);
        free (self);
        *self_p = NULL;
    }
}

/* NULL: none is free within the time. */
static eventflow_admin_t *
s_take (admin_pool_t *self, uint32_t timeout_ms) {
    uint64_t until = ef_mono_ns () + (uint64_t)timeout_ms * 1000000u;
    const struct timespec deadline = {(time_t)(until / 1000000000u), (long)(until % 1000000000u)};
    eventflow_admin_t *admin = NULL;
    int rc = 0;
    pthread_mutex_lock (&self->lock);
    while (self->idle_count == 0 && rc != ETIMEDOUT) {
        rc = pthread_cond_timedwait (&self->freed, &self->lock, &deadline);
    }
    if (self->idle_count > 0) {
        admin = self->idle[--self->idle_count];
    }
    pthread_mutex_unlock (&self->lock);
    return admin;
}

static void
s_give (admin_pool_t *self, eventflow_admin_t *admin) {
    pthread_mutex_lock (&self->lock);
    self->idle[self->idle_count++] = admin;
    pthread_cond_signal (&self->freed);
    pthread_mutex_unlock (&self->lock);
}

const char *
admin_pool_call (admin_pool_t *self, const ef_buf_t *request, ef_buf_t *value, char *text) {
    static _Thread_local char code[32];
    char unused[512];
    eventflow_bytes_t answer = {NULL, 0};
    uint32_t patience = atomic_load (&self->is_silent) && self->timeout_ms > POOL_PROBE_MS
                            ? POOL_PROBE_MS
                            : self->timeout_ms;
    text = text ? text : unused;
    ef_buf_clear (value);
    eventflow_admin_t *admin = s_take (self, patience);
    if (admin == NULL) {
        snprintf (text, 512, "too many wait for the broker");
        return "TIMEOUT";
    }
    const eventflow_bytes_t bytes = {request->data, request->size};
    int rc = eventflow_admin_call (admin, bytes, (int)patience, &answer, code, text);
    if (rc == EVENTFLOW_OK) {
        ef_buf_put (value, answer.data, answer.size);
    } else if (rc != EVENTFLOW_REFUSED) {
        snprintf (code, sizeof code, "TIMEOUT");
        snprintf (text, 512, "the broker doesn't answer");
    }
    atomic_store (&self->is_silent, rc == EVENTFLOW_TIMEOUT);
    s_give (self, admin);
    return rc == EVENTFLOW_OK ? NULL : code;
}

int
admin_pool_ask (admin_pool_t *self, call_t *call, const ef_buf_t *request, ef_buf_t *value) {
    char text[512];
    const char *code = admin_pool_call (self, request, value, text);
    if (code) {
        problem_answer (call, code, "%s", text);
        return -1;
    }
    return 0;
}

struct eventflow_admin_s *
admin_pool_single (const admin_pool_t *self) {
    return eventflow_admin_new (self->endpoint[0] ? self->endpoint : NULL);
}
