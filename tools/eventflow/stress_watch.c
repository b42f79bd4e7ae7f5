/* eventflow stress: looks at the system while it runs. SPDX-License-Identifier: MIT

   A thread asks for the topics' totals, and follows a sample of events until they have ended. The
   broker keeps the date of an end to a second or so, so that the time to it is measured by looking:
   often at first, then rarely, and taken in the middle between two looks. */
#include "stress.h"

#include <stdlib.h>
#include <zmq.h>

#define TOTALS_MS     500    /* between two looks at the totals */
#define ASK_MS        1000   /* for an answer */
#define TICK_MS       2      /* between two looks around */
#define SAMPLE_US     50000u /* between two samples: 20 a second */
#define LOOK_FIRST_US 4000u  /* between two looks at one, at the least */
#define LOOK_SHARE    8u     /* and of the time that it has taken so far: one so-manieth */

void
stress_sample (stress_t *self, uint64_t n, uint64_t now_us) {
    if (now_us < self->sample_due_us) {
        return;
    }
    for (unsigned i = 0; i < STRESS_SAMPLES; i++) {
        stress_sample_t *sample = &self->samples[i];
        if (sample->confirmed_us == 0) {
            *sample = (stress_sample_t){n, now_us, now_us, now_us};
            self->sample_due_us = now_us + SAMPLE_US;
            return;
        }
    }
}

static void
s_take_fate (void *arg, ef_cursor_t item) {
    fate_t *worst = arg;
    fate_t fate = stress_fate (item);
    *worst = fate > *worst ? fate : *worst;
}

/* One look at one event. */
static void
s_look (stress_t *self, eventflow_admin_t *admin, stress_sample_t *sample) {
    fate_t fate = FATE_NONE;
    const stress_show_t how = {admin, ASK_MS, s_take_fate, &fate};
    uint64_t asked_us = ef_mono_ns () / 1000;
    int rc = stress_show (self, sample->n, &how);
    uint64_t now_us = ef_mono_ns () / 1000;
    pthread_mutex_lock (&self->lock);
    if (rc == EVENTFLOW_OK && fate == FATE_DONE) {
        stress_time (&self->done_us, (sample->looked_us + now_us) / 2 - sample->confirmed_us);
    }
    if (rc == EVENTFLOW_OK && fate != FATE_NONE && fate != FATE_WAITING) {
        sample->confirmed_us = 0;
    } else {
        uint64_t pause_us = (now_us - sample->confirmed_us) / LOOK_SHARE;
        sample->looked_us = rc == EVENTFLOW_OK ? asked_us : sample->looked_us;
        sample->due_us = now_us + (pause_us > LOOK_FIRST_US ? pause_us : LOOK_FIRST_US);
    }
    pthread_mutex_unlock (&self->lock);
}

static void
s_look_at_samples (stress_t *self, eventflow_admin_t *admin) {
    for (unsigned i = 0; i < STRESS_SAMPLES && atomic_load (&self->is_watching); i++) {
        stress_sample_t *sample = &self->samples[i];
        pthread_mutex_lock (&self->lock);
        bool is_due = sample->confirmed_us > 0 && sample->due_us <= ef_mono_ns () / 1000;
        pthread_mutex_unlock (&self->lock);
        if (is_due) {
            s_look (self, admin, sample); /* a place that is taken is this thread's */
        }
    }
}

static void *
s_watch (void *arg) {
    stress_t *self = arg;
    eventflow_admin_t *admin = eventflow_admin_new (self->cli->admin);
    stress_topics_t topics = {0};
    uint64_t due_ms = 0;
    while (atomic_load (&self->is_watching)) {
        if (ef_mono_ms () >= due_ms) {
            if (stress_ask_topics (self, admin, ASK_MS, &topics) == EVENTFLOW_OK) {
                pthread_mutex_lock (&self->lock);
                stress_topics_t old = self->now;
                self->now = topics;
                pthread_mutex_unlock (&self->lock);
                topics = old;
            }
            due_ms = ef_mono_ms () + TOTALS_MS;
        }
        s_look_at_samples (self, admin);
        (void)zmq_poll (NULL, 0, TICK_MS);
    }
    free (topics.items);
    eventflow_admin_destroy (&admin);
    return NULL;
}

int
stress_watch_start (stress_t *self) {
    atomic_store (&self->is_watching, true);
    if (pthread_create (&self->watch, NULL, s_watch, self)) {
        atomic_store (&self->is_watching, false);
        return cli_fail (CLI_FAILED, "can't start a thread");
    }
    return CLI_OK;
}

void
stress_watch_stop (stress_t *self) {
    if (atomic_exchange (&self->is_watching, false)) {
        (void)pthread_join (self->watch, NULL); /* a thread of our own */
    }
}
