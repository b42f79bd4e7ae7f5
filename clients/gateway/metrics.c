/* The broker's numbers and the gateway's own, for Prometheus. SPDX-License-Identifier: MIT
   Source: prometheus.io/docs/instrumenting/exposition_formats, text format 0.0.4. */
#include "gateway.h"

#include <stdarg.h>
#include <stdio.h>

#define METRICS_TOPICS 100 /* with a label of their own; the monitor has more */

static void s_put (ef_buf_t *out, const char *format, ...) EF_PRINTF (2, 3);

static void
s_put (ef_buf_t *out, const char *format, ...) {
    char text[500];
    va_list arguments;
    va_start (arguments, format);
    int size = vsnprintf (text, sizeof text, format, arguments);
    va_end (arguments);
    ef_assert (size > 0 && (size_t)size < sizeof text);
    ef_buf_put (out, text, (size_t)size);
}

static void
s_head (ef_buf_t *out, const char *name, const char *type, const char *help) {
    s_put (out, "# HELP eventflow_gateway_%s %s\n# TYPE eventflow_gateway_%s %s\n", name, help,
           name, type);
}

static void
s_number (ef_buf_t *out, const char *name, const char *type, const char *help, uint64_t value) {
    s_head (out, name, type, help);
    s_put (out, "eventflow_gateway_%s %llu\n", name, (unsigned long long)value);
}

static void
s_server (ef_buf_t *out, const server_t *server) {
    server_numbers_t numbers;
    server_numbers (server, &numbers);
    s_head (out, "responses_total", "counter", "Answers by the first digit of their status.");
    for (unsigned i = 2; i < 6; i++) {
        s_put (out, "eventflow_gateway_responses_total{status=\"%uxx\"} %llu\n", i,
               (unsigned long long)numbers.by_status[i]);
    }
    s_head (out, "refused_total", "counter", "Requests refused before they were read, by reason.");
    const struct {
        const char *reason;
        uint64_t value;
    } rows[] = {{"malformed", numbers.refused_malformed},
                {"overload", numbers.refused_overload},
                {"access", numbers.refused_access},
                {"rate", numbers.refused_rate},
                {"slow", numbers.cut_slow}};
    for (unsigned i = 0; i < 5; i++) {
        s_put (out, "eventflow_gateway_refused_total{reason=\"%s\"} %llu\n", rows[i].reason,
               (unsigned long long)rows[i].value);
    }
    s_number (out, "requests_total", "counter", "Requests.", numbers.requests);
    s_number (out, "received_bytes_total", "counter", "Bytes of bodies.", numbers.received_bytes);
    s_number (out, "sent_bytes_total", "counter", "Bytes of answers.", numbers.sent_bytes);
    s_number (out, "connections", "gauge", "Connections now.", numbers.connections);
    s_number (out, "calls", "gauge", "Requests under way.", numbers.calls);
    s_number (out, "held_bytes", "gauge", "Bytes of bodies in memory.", numbers.held_bytes);
}

static void
s_outbox (ef_buf_t *out, outbox_t *outbox) {
    outbox_numbers_t numbers;
    uint64_t sum = 0;
    outbox_numbers (outbox, &numbers);
    s_head (out, "events_total", "counter", "Events by what became of them.");
    const struct {
        const char *outcome;
        uint64_t value;
    } rows[] = {{"accepted", numbers.accepted},
                {"refused", numbers.refused},
                {"timed_out", numbers.timed_out},
                {"not_taken", numbers.full}};
    for (unsigned i = 0; i < 4; i++) {
        s_put (out, "eventflow_gateway_events_total{outcome=\"%s\"} %llu\n", rows[i].outcome,
               (unsigned long long)rows[i].value);
    }
    s_number (out, "unconfirmed_events", "gauge", "Events on their way.", numbers.waiting);
    s_number (out, "reconnects_total", "counter", "Connections to the broker made anew.",
              numbers.reconnects);
    s_number (out, "messages_total", "counter", "Messages to the broker.", numbers.messages);
    s_head (out, "confirm_seconds", "histogram", "From a request to its CONFIRM.");
    for (unsigned i = 0; i < OUTBOX_STEPS; i++) {
        sum += numbers.confirms[i];
        if (i + 1 < OUTBOX_STEPS) {
            s_put (out, "eventflow_gateway_confirm_seconds_bucket{le=\"%g\"} %llu\n",
                   outbox_steps_s[i], (unsigned long long)sum);
        } else {
            s_put (out, "eventflow_gateway_confirm_seconds_bucket{le=\"+Inf\"} %llu\n",
                   (unsigned long long)sum);
        }
    }
    s_put (out, "eventflow_gateway_confirm_seconds_sum %.6f\n", numbers.confirm_seconds);
    s_put (out, "eventflow_gateway_confirm_seconds_count %llu\n", (unsigned long long)sum);
}

void
metrics_put (gateway_t *self, ef_buf_t *out) {
    s_head (out, "build_info", "gauge", "The version as a label.");
    s_put (out, "eventflow_gateway_build_info{version=\"%s\"} 1\n", EF_PROGRAM_VERSION);
    s_number (out, "broker_up", "gauge", "1 where the broker takes events.",
              api_broker_state (self->api, NULL) == 0);
    s_server (out, self->server);
    s_outbox (out, self->outbox);
}

/* Asks the broker; false: it doesn't answer. */
static bool
s_ask (gateway_t *self) {
    static const char *const commands[] = {"STATUS", "TOPICS", "WORKERS", "POOLS"};
    ef_buf_t request = {0};
    ef_buf_t values[4] = {{0}, {0}, {0}, {0}};
    bool is_up = api_broker_state (self->api, NULL) >= 0; /* else a scrape would wait for it */
    for (unsigned i = 0; i < 4 && is_up; i++) {
        ef_buf_clear (&request);
        ef_put_array (&request, 1);
        ef_put_str (&request, commands[i]);
        const char *code = admin_pool_call (self->admin, &request, &values[i], NULL);
        is_up = code == NULL || strcmp (code, "TIMEOUT") != 0; /* else it is one it doesn't know */
        if (code) {
            ef_buf_clear (&values[i]);
        }
    }
    pthread_mutex_lock (&self->numbers_lock);
    self->numbers.round++;
    for (unsigned i = 0; i < 4; i++) {
        if (values[i].size > 0 &&
            numbers_take_answer (&self->numbers, commands[i],
                                 ef_cursor (values[i].data, values[i].size))) {
            is_up = false;
        }
        ef_buf_free (&values[i]);
    }
    numbers_sweep (&self->numbers);
    pthread_mutex_unlock (&self->numbers_lock);
    ef_buf_free (&request);
    return is_up;
}

void
metrics_get (void *arg, call_t *call) {
    gateway_t *self = ((face_t *)arg)->gateway;
    ef_buf_t out = {0};
    bool is_up = s_ask (self);
    pthread_mutex_lock (&self->numbers_lock);
    const prometheus_t source = {&self->numbers, is_up, METRICS_TOPICS};
    prometheus_put (&out, &source);
    pthread_mutex_unlock (&self->numbers_lock);
    prometheus_put_process (&out);
    metrics_put (self, &out);
    call_answer (call, 200, PROMETHEUS_TYPE, &out);
}
