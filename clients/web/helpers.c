/* Threads for functions that may block. SPDX-License-Identifier: MIT

   Role: one bounded queue of calls, some threads that run their routes. Past the bound a call is
   answered OVERLOAD at once: a broker that doesn't answer must not gather callers without end. */
#include "problem.h"
#include "server_private.h"

#include <stdlib.h>

static call_t *
s_take (server_t *self) { /* with the lock held */
    call_t *call = self->help_first;
    self->help_first = call->next;
    self->help_last = self->help_first ? self->help_last : NULL;
    self->help_count--;
    call->next = NULL;
    return call;
}

static void *
s_run (void *arg) {
    server_t *self = arg;
    pthread_mutex_lock (&self->help_lock);
    for (;;) {
        while (self->help_first == NULL && !self->is_ending) {
            pthread_cond_wait (&self->help_wanted, &self->help_lock);
        }
        if (self->is_ending) {
            break;
        }
        call_t *call = s_take (self);
        pthread_mutex_unlock (&self->help_lock);
        call->route->run (call->arg, call);
        pthread_mutex_lock (&self->help_lock);
    }
    pthread_mutex_unlock (&self->help_lock);
    return NULL;
}

bool
helpers_add (server_t *self, call_t *call) {
    pthread_mutex_lock (&self->help_lock);
    bool is_taken = self->help_count < WEB_HELPED_MAX && !self->is_ending;
    if (is_taken) {
        *(self->help_last ? &self->help_last->next : &self->help_first) = call;
        self->help_last = call;
        self->help_count++;
        pthread_cond_signal (&self->help_wanted);
    }
    pthread_mutex_unlock (&self->help_lock);
    return is_taken;
}

int
helpers_start (server_t *self) {
    self->helpers = calloc (self->options->helpers, sizeof *self->helpers);
    ef_assert (self->helpers != NULL);
    while (self->helper_count < self->options->helpers) {
        if (pthread_create (&self->helpers[self->helper_count], NULL, s_run, self)) {
            return -1;
        }
        self->helper_count++;
    }
    return 0;
}

void
helpers_stop (server_t *self) {
    pthread_mutex_lock (&self->help_lock);
    self->is_ending = true;
    pthread_cond_broadcast (&self->help_wanted);
    pthread_mutex_unlock (&self->help_lock);
    while (self->helper_count > 0) {
        (void)pthread_join (self->helpers[--self->helper_count], NULL); /* a thread of our own */
    }
    while (self->help_first) {
        problem_answer (s_take (self), "DRAINING", "this server is stopping");
    }
    free (self->helpers);
    self->helpers = NULL;
}
