/* The handler api: an HTTP request for every event. SPDX-License-Identifier: MIT

   Role: gives each event in hand a call (call.h) and answers as it ends. Owns: the calls, as many
   as events may be in hand, and the transfers. Invariants: a busy call is under way in `transfers`
   and has its event's tag; probes have transfers of their own, so that a full house doesn't look
   like an ill one. */
#include "options.h"
#include "call.h"
#include "../runtime.h"
#include "../transfers.h"

#include "../../proto/event.h"
#include "../../proto/json.h"

#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct api_s api_t;

typedef struct {
    api_t *api;
    call_t *call; /* owned; NULL: not needed yet */
    uint64_t tag;
    bool is_busy;
    uint32_t next; /* of the free ones, UINT32_MAX: the last */
} slot_t;

struct api_s {
    runtime_t *runtime;
    const api_options_t *options;
    address_list_t *addresses; /* owned */
    signature_t *signature;    /* owned; NULL: not signed */
    request_rules_t requests;
    call_rules_t calls;
    slot_t *slots; /* owned */
    uint32_t count;
    uint32_t free;
    transfers_t *transfers; /* owned */
    transfers_t *probes;    /* owned */
    call_t *probe;          /* owned; NULL: none is under way */
    char *base;             /* owned: the configured URL as far as its host; empty: none */
    call_place_t home;      /* where that is */
};

/* ---- Making ---- */

static int
s_read_headers (api_t *self, char error[512]) {
    ef_buf_t text = {0};
    const char *lines = self->options->headers;
    char why[200];
    ef_buf_put (&text, lines, strlen (lines));
    int rc = 0;
    if (self->options->header_file[0]) {
        rc = api_read_file (self->options->header_file, &text, error);
    }
    const char *at = (const char *)text.data;
    const char *end = at ? at + text.size : NULL;
    while (rc == 0 && at < end) {
        const char *mark = memchr (at, '\n', (size_t)(end - at));
        size_t size = (size_t)((mark ? mark : end) - at);
        ef_span_t line = {at, (uint32_t)(size > 0 && at[size - 1] == '\r' ? size - 1 : size)};
        if (line.size > 0 && request_rule (&self->requests, line, why)) {
            snprintf (error, 512, "header: %s", why);
            rc = -1;
        }
        at += size + 1;
    }
    if (text.data) {
        OPENSSL_cleanse (text.data, text.size);
    }
    ef_buf_free (&text);
    return rc;
}

static int
s_read_secret (api_t *self, char error[512]) {
    const api_options_t *options = self->options;
    ef_buf_t text = {0};
    int rc = 0;
    if (options->secret_file[0]) {
        rc = api_read_file (options->secret_file, &text, error);
        while (rc == 0 && text.size > 0 && strchr ("\r\n", text.data[text.size - 1])) {
            text.size--;
        }
    } else {
        ef_buf_put (&text, options->secret, strlen (options->secret));
    }
    if (rc == 0 && (text.size > 0 || options->secret_file[0])) {
        ef_span_t secret = {(const char *)text.data, (uint32_t)text.size};
        self->signature = signature_new ((signature_form_t)options->signature, secret, error);
        rc = self->signature ? 0 : -1;
    }
    if (text.data) {
        OPENSSL_cleanse (text.data, text.capacity);
    }
    ef_buf_free (&text);
    return rc;
}

static void
s_make_rules (api_t *self) {
    const api_options_t *options = self->options;
    size_t scheme = strcspn (options->url, ":") + 3; /* it was checked */
    bool has_home = options->url[0] != '\0';
    self->base =
        strndup (options->url, has_home ? scheme + strcspn (options->url + scheme, "/?#") : 0);
    ef_assert (self->base != NULL);
    has_home = has_home && call_place (self->base, &self->home) == NULL;
    self->requests = (request_rules_t){.is_settings_only = options->request == 1,
                                       .url = options->url,
                                       .method = (request_method_t)options->method,
                                       .mode = (body_mode_t)options->mode,
                                       .source = options->source,
                                       .idempotency = options->idempotency_header,
                                       .timestamp = api_timestamp_header (options),
                                       .signed_with = api_signature_header (options),
                                       .form = (signature_form_t)options->signature};
    self->calls = (call_rules_t){.ca_file = options->ca_file,
                                 .proxy = options->proxy,
                                 .connect_ms = options->connect_ms,
                                 .request_ms = options->request_ms,
                                 .redirects = options->redirects,
                                 .response_bytes = options->response_bytes,
                                 .keep = (call_keep_t)options->keep,
                                 .home = has_home ? &self->home : NULL};
}

static void
s_free_slot (slot_t *slot) {
    api_t *self = slot->api;
    slot->is_busy = false;
    slot->next = self->free;
    self->free = (uint32_t)(slot - self->slots);
}

static void s_destroy (void **self_p);

static int
s_begin (api_t *self, char error[512]) {
    s_make_rules (self);
    self->addresses = address_list_new (self->options->allow, error);
    if (self->addresses == NULL || s_read_secret (self, error)) {
        return -1;
    }
    self->calls.addresses = self->addresses;
    self->requests.signature = self->signature;
    if (s_read_headers (self, error)) {
        return -1;
    }
    if (self->options->ca_file[0] && access (self->options->ca_file, R_OK)) {
        snprintf (error, 512, "ca_file: %.400s can't be read", self->options->ca_file);
        return -1;
    }
    self->transfers = transfers_new (self->count);
    self->probes = transfers_new (1);
    if (self->transfers == NULL || self->probes == NULL) {
        snprintf (error, 512, "libcurl can't be started");
        return -1;
    }
    if (self->options->connections) {
        transfers_bound_host (self->transfers, self->options->connections);
    }
    return 0;
}

static void *
s_create (const void *options, runtime_t *runtime, char error[512]) {
    api_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->runtime = runtime;
    self->options = options;
    self->count = runtime_concurrency (runtime);
    self->free = UINT32_MAX;
    self->slots = calloc (self->count, sizeof *self->slots);
    ef_assert (self->slots != NULL);
    int rc = s_begin (self, error);
    for (uint32_t i = self->count; i > 0; i--) {
        self->slots[i - 1].api = self;
        s_free_slot (&self->slots[i - 1]);
    }
    if (rc == 0 && (self->slots[0].call = call_new (&self->calls)) == NULL) {
        snprintf (error, 512, "libcurl takes no proxy or ca_file like these");
        rc = -1;
    }
    if (rc) {
        void *it = self;
        s_destroy (&it);
        return NULL;
    }
    return self;
}

static void
s_destroy (void **self_p) {
    api_t *self = *self_p;
    for (uint32_t i = 0; i < self->count; i++) {
        if (self->slots[i].is_busy) {
            transfers_stop (self->transfers, call_easy (self->slots[i].call));
        }
        call_destroy (&self->slots[i].call);
    }
    if (self->probe) {
        transfers_stop (self->probes, call_easy (self->probe));
        call_destroy (&self->probe);
    }
    transfers_destroy (&self->transfers);
    transfers_destroy (&self->probes);
    address_list_destroy (&self->addresses);
    signature_destroy (&self->signature);
    headers_free (&self->requests.headers);
    free (self->base);
    free (self->slots);
    free (self);
    *self_p = NULL;
}

/* ---- Events ---- */

static eventflow_result_t
s_words (const api_t *self, call_t *call, eventflow_answer_t *words) {
    eventflow_result_t result = call_words (call, words);
    const char *downstream = runtime_downstream (self->runtime);
    if (words->downstream && downstream) {
        words->downstream = downstream;
    }
    return result;
}

static void
s_ended (void *arg, CURL *easy, CURLcode code) {
    slot_t *slot = arg;
    api_t *self = slot->api;
    eventflow_answer_t words;
    if (call_ended (slot->call, code) &&
        transfers_start (self->transfers, easy, s_ended, slot) == 0) {
        return;
    }
    eventflow_result_t result = s_words (self, slot->call, &words);
    runtime_answer (self->runtime, slot->tag, result, &words);
    s_free_slot (slot);
}

static eventflow_result_t
s_handle (void *arg, const eventflow_delivery_t *delivery) {
    api_t *self = arg;
    if (self->free == UINT32_MAX) {
        return EVENTFLOW_RELEASE; /* more than was asked for */
    }
    slot_t *slot = &self->slots[self->free];
    if (slot->call == NULL && (slot->call = call_new (&self->calls)) == NULL) {
        return EVENTFLOW_RELEASE;
    }
    request_t *request = call_request (slot->call);
    eventflow_answer_t words;
    if (request_build (request, &self->requests, delivery, ef_wall_ms ())) {
        ef_text_clean (request->why);
        words = (eventflow_answer_t){.code = request->code, .text = request->why, .retry_ms = -1};
        runtime_explain (self->runtime, &words);
        return EVENTFLOW_DEAD;
    }
    if (call_prepare (slot->call)) {
        eventflow_result_t result = s_words (self, slot->call, &words);
        runtime_explain (self->runtime, &words);
        return result;
    }
    if (transfers_start (self->transfers, call_easy (slot->call), s_ended, slot)) {
        return EVENTFLOW_RELEASE;
    }
    self->free = slot->next;
    slot->tag = delivery->tag;
    slot->is_busy = true;
    return EVENTFLOW_LATER;
}

static void
s_stop (void *arg, uint64_t tag, stop_reason_t reason) {
    api_t *self = arg;
    for (uint32_t i = 0; i < self->count; i++) {
        slot_t *slot = &self->slots[i];
        if (slot->is_busy && slot->tag == tag) {
            eventflow_answer_t words;
            eventflow_result_t result = runtime_stop_words (reason, &words);
            const char *downstream = runtime_downstream (self->runtime);
            words.downstream = downstream ? downstream : call_downstream (slot->call);
            transfers_stop (self->transfers, call_easy (slot->call));
            runtime_answer (self->runtime, tag, result, &words);
            s_free_slot (slot);
            return;
        }
    }
}

/* ---- The loop ---- */

static nfds_t
s_polls (void *arg, struct pollfd *items, nfds_t most, int *timeout_ms) {
    api_t *self = arg;
    nfds_t count = transfers_polls (self->transfers, items, most, timeout_ms);
    return count + transfers_polls (self->probes, items + count, most - count, timeout_ms);
}

static void
s_step (void *arg) {
    api_t *self = arg;
    transfers_step (self->transfers);
    if (self->probe) {
        transfers_step (self->probes);
    }
}

/* ---- Health ---- */

static void
s_tell (api_t *self, eventflow_result_t result, const eventflow_answer_t *words) {
    char reason[300];
    const char *name = call_downstream (self->probe);
    if (result == EVENTFLOW_DONE) {
        runtime_healthy (self->runtime);
    } else if (words->code) {
        snprintf (reason, sizeof reason, "%s: %s: %s", name, words->code, words->text);
        runtime_unhealthy (self->runtime, reason);
    } else {
        snprintf (reason, sizeof reason, "%s: %s", name, words->text);
        runtime_unhealthy (self->runtime, reason);
    }
}

static void
s_probed (void *arg, CURL *easy, CURLcode code) {
    api_t *self = arg;
    eventflow_answer_t words;
    (void)easy;
    (void)call_ended (self->probe, code); /* no redirect is followed */
    eventflow_result_t result = call_words (self->probe, &words);
    bool is_connection = self->options->probe_url[0] == '\0';
    s_tell (self, is_connection && code == CURLE_OK ? EVENTFLOW_DONE : result, &words);
    call_destroy (&self->probe);
}

static void
s_probe (void *arg) {
    api_t *self = arg;
    bool is_get = self->options->probe_url[0] != '\0';
    const char *url = is_get ? self->options->probe_url : self->base;
    eventflow_answer_t words;
    if (url[0] == '\0') {
        runtime_healthy (self->runtime);
        return;
    }
    self->probe = call_new (&self->calls);
    if (self->probe == NULL) {
        runtime_unhealthy (self->runtime, "libcurl has no handle left");
        return;
    }
    if (call_prepare_probe (self->probe, url, is_get) ||
        transfers_start (self->probes, call_easy (self->probe), s_probed, self)) {
        eventflow_result_t result = call_words (self->probe, &words);
        s_tell (self, result == EVENTFLOW_DONE ? EVENTFLOW_RETRY : result, &words);
        call_destroy (&self->probe);
    }
}

const handler_t handler_api = {
    .name = "api",
    .summary = "makes an HTTP request for every event: webhooks, calls of services",
    .help = api_help,
    .settings = &api_settings,
    .options_bytes = sizeof (api_options_t),
    .concurrency = 16,
    .defaults = api_defaults,
    .check = api_check,
    .create = s_create,
    .destroy = s_destroy,
    .handle = s_handle,
    .stop = s_stop,
    .polls = s_polls,
    .step = s_step,
    .probe = s_probe,
};
