/* What the monitor answers: live, history, alerts, metrics. SPDX-License-Identifier: MIT */
#include "../web/problem.h"
#include "collector_private.h"
#include "page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define ENDED_SHOWN   100
#define PATTERNS_MAX  64
#define RANGE_USUAL_S 900
#define STEP_MAX      86400

static void
s_live (void *arg, call_t *call) {
    collector_t *self = arg;
    ef_buf_t first = {0};
    pthread_mutex_lock (&self->lock);
    collector_put_first (self, &first);
    pthread_mutex_unlock (&self->lock);
    live_join (self->live, call, &first);
    ef_buf_free (&first);
}

/* ---- alerts ---- */

typedef struct {
    ef_buf_t *out;
    bool is_first;
    store_alert_t *ended; /* owned; newest first */
    uint32_t count;
} list_t;

static void
s_keep_ended (void *arg, const store_alert_t *alert) {
    list_t *list = arg;
    list->ended[list->count] = *alert;
    list->ended[list->count++].state = ALERT_ENDED;
}

static void
s_put_item (list_t *list, const char *severity, const store_alert_t *alert) {
    json_raw (list->out, list->is_first ? "" : ",");
    list->is_first = false;
    collector_put_alert (list->out, severity, alert);
}

/* Is it there again, or has it ended again since? */
static bool
s_is_superseded (const alerts_t *alerts, const list_t *list, uint32_t index) {
    const store_alert_t *row = &list->ended[index];
    char key[112];
    int size = snprintf (key, sizeof key, "%s/%s", row->rule, row->topic);
    bool is_found = ef_hash_find (&alerts->table, key, (size_t)size) != NULL;
    for (uint32_t i = 0; !is_found && i < index; i++) {
        is_found = strcmp (list->ended[i].rule, row->rule) == 0 &&
                   strcmp (list->ended[i].topic, row->topic) == 0;
    }
    return is_found;
}

static void
s_put_probe (ef_buf_t *out, const char *name, const probe_t *probe) {
    char detail[200];
    memcpy (detail, probe->detail, sizeof detail);
    text_clean (detail);
    json_key (out, name);
    json_raw (out, "{");
    json_text (out, "state", probe_state_name (probe->state));
    json_real (out, "took_ms", probe->took_ms);
    json_text (out, "detail", detail);
    json_raw (out, "}");
}

static void
s_put_probes (collector_t *self, ef_buf_t *out) {
    probe_t broker;
    probe_t gateway;
    probes_read (self->probes, &broker, &gateway);
    json_key (out, "probes");
    json_raw (out, "{");
    s_put_probe (out, "broker", &broker);
    if (self->options->gateway[0]) {
        s_put_probe (out, "gateway", &gateway);
    }
    json_raw (out, "}");
}

/* Those that are pending or firing, then the last that are over and aren't back: each id once. */
static void
s_alerts (void *arg, call_t *call) {
    collector_t *self = arg;
    ef_buf_t out = {0};
    list_t list = {.out = &out, .is_first = true};
    const alert_t *alert;
    list.ended = calloc (ENDED_SHOWN, sizeof *list.ended);
    ef_assert (list.ended != NULL);
    history_ended (self->history, ENDED_SHOWN, s_keep_ended, &list);
    json_raw (&out, "{\"items\":[");
    pthread_mutex_lock (&self->lock);
    for (uint32_t at = 0; (alert = ef_hash_next (&self->alerts.table, &at)) != NULL;) {
        s_put_item (&list, alert->severity, &alert->row);
    }
    for (uint32_t i = 0; i < list.count; i++) {
        const alert_rule_t *rule = rule_find (list.ended[i].rule);
        if (!s_is_superseded (&self->alerts, &list, i)) {
            s_put_item (&list, rule ? rule->severity : "warning", &list.ended[i]);
        }
    }
    uint64_t left_out = self->alerts.left_out;
    pthread_mutex_unlock (&self->lock);
    json_raw (&out, "],\"next\":null");
    json_whole (&out, "left_out", left_out);
    s_put_probes (self, &out);
    json_raw (&out, "}\n");
    free (list.ended);
    call_answer (call, 200, "application/json", &out);
}

/* ---- history ---- */

/* A time in RFC 3339, or in seconds since 1970. */
static int
s_time (const char *text, uint64_t *time_s) {
    int64_t ms;
    char *end;
    if (text == NULL || text[0] == '\0') {
        return 0;
    }
    if (ef_rfc3339_parse (text, strlen (text), &ms) == 0) {
        *time_s = ms > 0 ? (uint64_t)ms / 1000 : 0;
        return 0;
    }
    unsigned long long number = strtoull (text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || number > 253402300799ull) {
        return -1;
    }
    *time_s = number;
    return 0;
}

static int
s_step (const char *text, uint32_t *step_s) {
    char *end;
    if (text == NULL || text[0] == '\0') {
        return 0;
    }
    unsigned long number = strtoul (text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || number > STEP_MAX) {
        return -1;
    }
    *step_s = (uint32_t)number;
    return 0;
}

/* The columns by name; all of them where none is named. -1: `name` isn't one. */
static int
s_columns (const char *text, history_query_t *query, char name[40]) {
    query->column_count = 0;
    if (text == NULL || text[0] == '\0') {
        for (uint32_t i = 0; i < query->set->count; i++) {
            query->columns[query->column_count++] = i;
        }
        return 0;
    }
    while (*text) {
        size_t size = strcspn (text, ",");
        int column = series_find (query->set, text, size);
        bool is_double = false;
        for (uint32_t i = 0; i < query->column_count; i++) {
            is_double = is_double || (int)query->columns[i] == column;
        }
        if (column < 0) {
            snprintf (name, 40, "%.*s", size < 39 ? (int)size : 39, text);
            text_clean (name);
            return -1;
        }
        if (!is_double) {
            query->columns[query->column_count++] = (uint32_t)column;
        }
        text += size + (text[size] == ',');
    }
    return 0;
}

static void
s_put_history (ef_buf_t *out, const history_query_t *query, const history_answer_t *answer) {
    json_raw (out, "{");
    json_text (out, "topic", query->topic);
    json_whole (out, "step_s", answer->step_s);
    json_time (out, "from", answer->from_s * 1000);
    json_raw (out, ",\"series\":{");
    for (uint32_t i = 0; i < query->column_count; i++) {
        json_key (out, query->set->rows[query->columns[i]].name);
        json_raw (out, "[");
        for (uint32_t k = 0; k < answer->points; k++) {
            json_raw (out, k ? "," : "");
            json_number (out, answer->values[(size_t)i * answer->points + k]);
        }
        json_raw (out, "]");
    }
    json_raw (out, "}}\n");
}

static void
s_history (void *arg, call_t *call) {
    collector_t *self = arg;
    char name[40];
    const char *topic = call_query (call, "topic");
    history_query_t query = {.topic = topic ? topic : ""};
    history_answer_t answer;
    query.set = query.topic[0] ? &samples_topic_set : &samples_broker_set;
    query.now_s = ef_wall_ms () / 1000;
    query.to_s = query.now_s + 1;
    if (s_time (call_query (call, "to"), &query.to_s)) {
        problem_answer (call, "BAD_REQUEST", "to: expected a time such as 2026-01-31T12:00:00Z");
        return;
    }
    query.from_s = query.to_s > RANGE_USUAL_S ? query.to_s - RANGE_USUAL_S : 0;
    if (s_time (call_query (call, "from"), &query.from_s) || query.from_s >= query.to_s) {
        problem_answer (call, "BAD_REQUEST", "from: expected a time before `to`");
        return;
    }
    if (s_step (call_query (call, "step"), &query.step_s)) {
        problem_answer (call, "BAD_REQUEST", "step: expected seconds, up to %u", STEP_MAX);
        return;
    }
    if (s_columns (call_query (call, "series"), &query, name)) {
        problem_answer (call, "BAD_REQUEST", "series: there is none called %s", name);
        return;
    }
    int rc = history_query (self->history, &query, &answer);
    ef_assert (rc == 0);
    ef_buf_t out = {0};
    s_put_history (&out, &query, &answer);
    history_answer_free (&answer);
    call_answer (call, 200, "application/json", &out);
}

/* ---- who one is ---- */

static void
s_access (void *arg, call_t *call) {
    const collector_t *self = arg;
    const identity_t *identity = call_identity (call);
    ef_buf_t out = {0};
    json_raw (&out, "{");
    json_text (&out, "name", identity->name);
    json_text (&out, "role",
               access_is_allowed (identity, ROLE_ADMINISTER) ? "administer"
               : access_is_allowed (identity, ROLE_PUBLISH)  ? "publish"
                                                             : "read");
    json_bool (&out, "read_only", self->web->access.read_only);
    json_raw (&out, "}\n");
    call_answer (call, 200, "application/json", &out);
}

/* ---- metrics ---- */

static void
s_put_value (ef_buf_t *out, const char *name, const char *type, const char *help, double value) {
    prometheus_head (out, name, type, help);
    prometheus_value (out, name, NULL, value);
}

/* What the monitor tells of itself and of what it sends on. */
static void
s_put_own (collector_t *self, ef_buf_t *out, const server_t *server) {
    history_numbers_t history;
    influx_numbers_t influx;
    sender_numbers_t sender;
    server_numbers_t web;
    history_numbers (self->history, &history);
    influx_numbers (self->influx, &influx);
    sender_numbers (self->sender, &sender);
    server_numbers (server, &web);
    s_put_value (out, "eventflow_monitor_alerts_firing", "gauge", "Alerts that are firing.",
                 alerts_firing (&self->alerts));
    if (self->options->gateway[0]) {
        s_put_value (out, "eventflow_gateway_up", "gauge", "1 where the gateway answers.",
                     !self->is_gateway_down);
    }
    s_put_value (out, "eventflow_monitor_snapshots_total", "counter",
                 "Snapshots of the broker that were complete.", (double)self->rounds);
    s_put_value (out, "eventflow_monitor_history_bytes", "gauge", "Size of the history's file.",
                 (double)history.file_bytes);
    s_put_value (out, "eventflow_monitor_history_lost_total", "counter",
                 "Blocks of the history that couldn't be written.", (double)history.blocks_lost);
    s_put_value (out, "eventflow_monitor_sent_total", "counter",
                 "Requests and mails that were taken.", (double)sender.sent);
    s_put_value (out, "eventflow_monitor_send_given_up_total", "counter",
                 "Requests and mails that were given up.", (double)sender.given_up);
    if (self->influx) {
        s_put_value (out, "eventflow_monitor_influx_batches_total", "counter",
                     "Batches that InfluxDB has taken.", (double)influx.batches);
        s_put_value (out, "eventflow_monitor_influx_lost_total", "counter",
                     "Batches lost because it was away for too long, or refused them.",
                     (double)influx.lost);
        s_put_value (out, "eventflow_monitor_influx_buffer_bytes", "gauge",
                     "Bytes that wait for it.", (double)influx.waiting_bytes);
    }
    s_put_value (out, "eventflow_monitor_http_requests_total", "counter", "Requests answered.",
                 (double)web.requests);
    s_put_value (out, "eventflow_monitor_streams", "gauge", "Pages that are open.",
                 live_count (self->live));
}

static prometheus_t
s_source (const collector_t *self) {
    return (prometheus_t){.numbers = &self->numbers,
                          .is_up = !self->is_down && self->numbers.round > 0,
                          .topics_max = self->options->metrics_topics};
}

static void
s_metrics (void *arg, call_t *call) {
    collector_t *self = arg;
    ef_buf_t out = {0};
    pthread_mutex_lock (&self->lock);
    prometheus_t source = s_source (self);
    prometheus_put (&out, &source);
    s_put_own (self, &out, call_server (call));
    pthread_mutex_unlock (&self->lock);
    prometheus_put_process (&out);
    call_answer (call, 200, PROMETHEUS_TYPE, &out);
}

typedef struct {
    const char *patterns[PATTERNS_MAX];
    uint32_t count;
} patterns_t;

static void
s_each_query (void *arg, const char *name, const char *value) {
    patterns_t *list = arg;
    if (strcmp (name, "topic") == 0 && value && value[0] && list->count < PATTERNS_MAX) {
        list->patterns[list->count++] = value;
    }
}

static void
s_detailed (void *arg, call_t *call) {
    collector_t *self = arg;
    ef_buf_t out = {0};
    patterns_t list = {.count = 0};
    call_each (call, true, s_each_query, &list);
    if (list.count == 0) {
        problem_answer (call, "BAD_REQUEST", "expected ?topic=NAME, or a pattern as order.*");
        return;
    }
    pthread_mutex_lock (&self->lock);
    prometheus_t source = s_source (self);
    uint32_t count = prometheus_put_detailed (&out, &source, list.patterns, list.count);
    bool is_up = source.is_up;
    pthread_mutex_unlock (&self->lock);
    if (count == 0 && is_up) {
        ef_buf_free (&out);
        problem_answer (call, "NOT_FOUND", "no topic is called so");
        return;
    }
    call_answer (call, 200, PROMETHEUS_TYPE, &out);
}

bool
collector_health (void *arg, ef_buf_t *members) {
    collector_t *self = arg;
    history_numbers_t history;
    influx_numbers_t influx;
    ef_buf_t out = {0};
    history_numbers (self->history, &history);
    influx_numbers (self->influx, &influx);
    pthread_mutex_lock (&self->lock);
    s_put_probes (self, &out);
    json_time (&out, "stats_heard", self->heard_wall_ms);
    json_whole (&out, "alerts_firing", alerts_firing (&self->alerts));
    pthread_mutex_unlock (&self->lock);
    json_key (&out, "history");
    json_raw (&out, history.is_failing ? "\"failing\"" : "\"ok\"");
    if (self->influx) {
        json_key (&out, "influx");
        json_raw (&out, influx.is_failing ? "\"failing\"" : "\"ok\"");
    }
    ef_buf_put (members, out.data, out.size);
    ef_buf_free (&out);
    return true;
}

static const route_t s_routes[] = {
    {"GET", "/api/v1/live", ROLE_READ, false, ROUTE_QUICK, s_live,
     "A snapshot each second, notices and alerts, as server-sent events"},
    {"GET", "/api/v1/history", ROLE_READ, false, ROUTE_BLOCKING, s_history,
     "Numbers over time: topic, series, from, to, step"},
    {"GET", "/api/v1/alerts", ROLE_READ, false, ROUTE_BLOCKING, s_alerts,
     "Alerts that are pending or firing, and the last that are over"},
    {"GET", "/api/v1/access", ROLE_READ, false, ROUTE_QUICK, s_access, "Who the caller is"},
    {"GET", "/metrics/detailed", ROLE_READ, false, ROUTE_BLOCKING, s_detailed,
     "For Prometheus: topics in all detail"},
    {"GET", "/metrics", ROLE_READ, false, ROUTE_BLOCKING, s_metrics, "For Prometheus"},
};

void
collector_routes (collector_t *self, listener_t *listener, const web_options_t *web) {
    self->web = web;
    listener_routes (listener, s_routes, sizeof s_routes / sizeof s_routes[0], self);
    page_routes (listener);
}
