/* Is the broker there, is the gateway? SPDX-License-Identifier: MIT */
#include "probes.h"
#include "../../proto/event.h"
#include "../c/eventflow.h"
#include "../web/numbers.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ANSWER_MS 1000 /* in which an answer must come */
#define ASKED_MAX 64u  /* topics that are to be asked about; others are called for again */

typedef struct {
    probes_t *owner;
    pthread_t thread;
    pthread_cond_t wake;
    bool is_running;
    bool is_asked;  /* for anything */
    bool is_status; /* for STATUS */
    probe_t probe;
} asker_t;

struct probes_s {
    probes_options_t options;
    char admin[256];
    char gateway[1100];
    pthread_mutex_t lock;
    bool is_stopping;
    asker_t broker;
    asker_t gate;
    char asked[ASKED_MAX][72];
    uint32_t asked_count;
};

const char *
probe_state_name (probe_state_t state) {
    static const char *const names[] = {"unknown", "up", "recovering", "down"};
    return names[state];
}

static void
s_set (asker_t *self, probe_state_t state, uint64_t asked_ms, const char *detail) {
    probes_t *owner = self->owner;
    uint64_t now = ef_mono_ms ();
    pthread_mutex_lock (&owner->lock);
    probe_t *probe = &self->probe;
    bool is_failed = state == PROBE_DOWN;
    probe->failing_ms = !is_failed ? 0 : probe->failing_ms ? probe->failing_ms : asked_ms;
    probe->state = state;
    probe->asked_ms = asked_ms;
    probe->took_ms = (double)(now - asked_ms);
    snprintf (probe->detail, sizeof probe->detail, "%s", detail);
    pthread_mutex_unlock (&owner->lock);
}

/* Sleeps until then, or until there is something to ask. False: it is to end. */
static bool
s_wait (asker_t *self, uint64_t until_ms) {
    probes_t *owner = self->owner;
    struct timespec until = {(time_t)(until_ms / 1000), (long)(until_ms % 1000) * 1000000};
    pthread_mutex_lock (&owner->lock);
    while (!owner->is_stopping && !self->is_asked && ef_mono_ms () < until_ms) {
        (void)pthread_cond_timedwait (&self->wake, &owner->lock, &until);
    }
    bool goes_on = !owner->is_stopping;
    pthread_mutex_unlock (&owner->lock);
    return goes_on;
}

static void
s_ask_status (asker_t *self, eventflow_admin_t *admin) {
    static const uint8_t request[] = {0x91, 0xa6, 'S', 'T', 'A', 'T', 'U', 'S'};
    eventflow_bytes_t value;
    ef_cursor_t broker;
    ef_cursor_t found;
    char code[32];
    char text[512];
    uint64_t asked_ms = ef_mono_ms ();
    int rc = eventflow_admin_call (admin, (eventflow_bytes_t){request, sizeof request}, ANSWER_MS,
                                   &value, code, text);
    if (rc == EVENTFLOW_TIMEOUT) {
        s_set (self, PROBE_DOWN, asked_ms, "no answer to STATUS");
    } else if (rc == EVENTFLOW_REFUSED) {
        s_set (self, PROBE_UP, asked_ms, code);
    } else {
        bool is_recovering = ef_map_find (ef_cursor (value.data, value.size), "broker", &broker) &&
                             ef_map_find (broker, "recovering", &found);
        s_set (self, is_recovering ? PROBE_RECOVERING : PROBE_UP, asked_ms,
               is_recovering ? "it reads its journal" : "");
    }
}

static void
s_ask_topic (asker_t *self, eventflow_admin_t *admin, const char *topic) {
    const probes_options_t *options = &self->owner->options;
    eventflow_bytes_t value;
    ef_cursor_t list;
    char code[32];
    char text[512];
    ef_buf_t request = {0};
    ef_put_array (&request, 2);
    ef_put_str (&request, "TOPIC.INFO");
    ef_put_str (&request, topic);
    if (eventflow_admin_call (admin, (eventflow_bytes_t){request.data, request.size}, ANSWER_MS,
                              &value, code, text) == EVENTFLOW_OK &&
        ef_map_find (ef_cursor (value.data, value.size), "breakers", &list)) {
        options->breakers (options->arg, topic, list.at, ef_cursor_left (&list));
    }
    ef_buf_free (&request);
}

/* What has been asked for: STATUS (true), and a topic (`name`, else empty). */
static bool
s_take (asker_t *self, char name[72]) {
    probes_t *owner = self->owner;
    pthread_mutex_lock (&owner->lock);
    bool is_status = self->is_status;
    self->is_status = false;
    name[0] = '\0';
    if (owner->asked_count > 0) {
        memcpy (name, owner->asked[--owner->asked_count], 72);
    }
    self->is_asked = owner->asked_count > 0;
    pthread_mutex_unlock (&owner->lock);
    return is_status;
}

static void *
s_run_broker (void *arg) {
    asker_t *self = arg;
    const probes_options_t *options = &self->owner->options;
    eventflow_admin_t *admin = eventflow_admin_new (self->owner->admin);
    uint64_t status_ms = 0;
    char topic[72];
    do {
        if (s_take (self, topic) || ef_mono_ms () >= status_ms) {
            s_ask_status (self, admin);
            status_ms = ef_mono_ms () + options->every_ms;
        }
        if (topic[0] && self->probe.state == PROBE_UP) { /* written by this thread alone */
            s_ask_topic (self, admin, topic);
        }
    } while (s_wait (self, status_ms));
    eventflow_admin_destroy (&admin);
    return NULL;
}

static size_t
s_drop (char *bytes, size_t size, size_t count, void *arg) {
    (void)bytes;
    (void)arg;
    return size * count;
}

static void
s_ask_gateway (asker_t *self, CURL *curl) {
    char detail[200] = "";
    char reason[CURL_ERROR_SIZE] = "";
    long status = 0;
    uint64_t asked_ms = ef_mono_ms ();
    curl_easy_reset (curl);
    curl_easy_setopt (curl, CURLOPT_URL, self->owner->gateway);
    curl_easy_setopt (curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt (curl, CURLOPT_TIMEOUT_MS, (long)ANSWER_MS);
    curl_easy_setopt (curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt (curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt (curl, CURLOPT_ERRORBUFFER, reason);
    curl_easy_setopt (curl, CURLOPT_WRITEFUNCTION, s_drop);
    CURLcode code = curl_easy_perform (curl);
    if (code != CURLE_OK) {
        snprintf (detail, sizeof detail, "%.190s", reason[0] ? reason : curl_easy_strerror (code));
        s_set (self, PROBE_DOWN, asked_ms, detail);
        return;
    }
    curl_easy_getinfo (curl, CURLINFO_RESPONSE_CODE, &status);
    snprintf (detail, sizeof detail, "it answers %ld", status);
    s_set (self, status < 500 ? PROBE_UP : PROBE_DOWN, asked_ms, detail);
}

static void *
s_run_gateway (void *arg) {
    asker_t *self = arg;
    CURL *curl = curl_easy_init ();
    ef_assert (curl != NULL);
    uint64_t next_ms;
    do {
        s_ask_gateway (self, curl);
        next_ms = ef_mono_ms () + self->owner->options.every_ms;
    } while (s_wait (self, next_ms));
    curl_easy_cleanup (curl);
    return NULL;
}

static int
s_start (asker_t *self, probes_t *owner, void *(*run) (void *arg)) {
    self->owner = owner;
    int rc = pthread_create (&self->thread, NULL, run, self);
    self->is_running = rc == 0;
    return rc;
}

static void
s_init_wake (asker_t *self) {
    pthread_condattr_t attributes;
    pthread_condattr_init (&attributes);
    pthread_condattr_setclock (&attributes, CLOCK_MONOTONIC);
    pthread_cond_init (&self->wake, &attributes);
    pthread_condattr_destroy (&attributes);
}

probes_t *
probes_new (const probes_options_t *options, char error[512]) {
    probes_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->options = *options;
    snprintf (self->admin, sizeof self->admin, "%s", options->admin);
    size_t size = strlen (options->gateway);
    bool has_slash = size > 0 && options->gateway[size - 1] == '/';
    snprintf (self->gateway, sizeof self->gateway, "%.*s/health/live", (int)(size - has_slash),
              options->gateway);
    pthread_mutex_init (&self->lock, NULL);
    s_init_wake (&self->broker);
    s_init_wake (&self->gate);
    int rc = s_start (&self->broker, self, s_run_broker);
    if (rc == 0 && options->gateway[0]) {
        rc = s_start (&self->gate, self, s_run_gateway);
    }
    if (rc) {
        snprintf (error, 512, "a thread can't be made: %s", strerror (rc));
        probes_destroy (&self);
    }
    return self;
}

void
probes_destroy (probes_t **self_p) {
    probes_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    pthread_mutex_lock (&self->lock);
    self->is_stopping = true;
    pthread_cond_signal (&self->broker.wake);
    pthread_cond_signal (&self->gate.wake);
    pthread_mutex_unlock (&self->lock);
    asker_t *askers[] = {&self->broker, &self->gate};
    for (unsigned i = 0; i < 2; i++) {
        if (askers[i]->is_running) {
            pthread_join (askers[i]->thread, NULL);
        }
        pthread_cond_destroy (&askers[i]->wake);
    }
    pthread_mutex_destroy (&self->lock);
    free (self);
    *self_p = NULL;
}

void
probes_ask (probes_t *self) {
    pthread_mutex_lock (&self->lock);
    self->broker.is_asked = true;
    self->broker.is_status = true;
    pthread_cond_signal (&self->broker.wake);
    pthread_mutex_unlock (&self->lock);
}

void
probes_ask_topic (probes_t *self, const char *topic) {
    pthread_mutex_lock (&self->lock);
    uint32_t i = 0;
    while (i < self->asked_count && strcmp (self->asked[i], topic) != 0) {
        i++;
    }
    if (i == self->asked_count && i < ASKED_MAX) {
        snprintf (self->asked[self->asked_count++], 72, "%s", topic);
        self->broker.is_asked = true;
        pthread_cond_signal (&self->broker.wake);
    }
    pthread_mutex_unlock (&self->lock);
}

void
probes_read (probes_t *self, probe_t *broker, probe_t *gateway) {
    pthread_mutex_lock (&self->lock);
    *broker = self->broker.probe;
    *gateway = self->gate.probe;
    pthread_mutex_unlock (&self->lock);
}
