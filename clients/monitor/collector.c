/* The monitor's middle. SPDX-License-Identifier: MIT */
#include "collector_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <zmq.h>

#define QUIET_MS      100 /* behind a round's last message, then it is complete */
#define WAKE_MS       250
#define SILENT_MS     2000 /* without stats, then the broker is asked */
#define ASK_AGAIN_MS  500
#define STILL_MS      5000
#define MESSAGE_BYTES (1 << 20)
#define MESSAGES_MAX  200000 /* kept by ZeroMQ: some rounds of the most that a broker has */
#define TURN_MESSAGES 2000   /* taken at a time, so that what is due isn't late */

static const char *
s_stats_endpoint (const collector_t *self) {
    return options_endpoint (self->options->stats, "EVENTFLOW_STATS", "tcp://127.0.0.1:5554");
}

/* ---- what comes ---- */

static void
s_put_notice (ef_buf_t *out, ef_span_t kind, const char *topic, const char *detail,
              uint64_t wall_ms) {
    char name[72];
    ef_span_copy (kind, name, sizeof name);
    json_raw (out, "{");
    json_text (out, "kind", name);
    json_text (out, "topic", topic);
    json_text (out, "detail", detail);
    json_time (out, "time", wall_ms);
    json_raw (out, "}");
}

static void
s_field (ef_cursor_t map, const char *key, char *text, size_t size) {
    ef_map_text (map, key, text, size);
    text_clean (text);
}

/* Breakers are asked for by name, a crash loop is noted for its rule, pages are told. */
static void
s_take_notice (collector_t *self, ef_span_t kind, ef_cursor_t map) {
    char topic[72];
    char detail[300];
    ef_cursor_t value;
    uint64_t wall_ms = 0;
    s_field (map, "topic", topic, sizeof topic);
    s_field (map, "detail", detail, sizeof detail);
    if (!ef_map_find (map, "time", &value) || ef_get_uint (&value, &wall_ms)) {
        wall_ms = ef_wall_ms ();
    }
    pthread_mutex_lock (&self->lock);
    numbers_notice (&self->numbers, kind);
    numbers_topic_t *known = numbers_topic (&self->numbers, topic);
    if (known && (ef_span_is (kind, "crash_loop") || ef_span_is (kind, "spawn_failed"))) {
        sample_t *sample = samples_of (known);
        sample->crashed_ms = ef_mono_ms ();
        snprintf (sample->crashed, sizeof sample->crashed, "%.159s", detail);
        text_clean (sample->crashed);
    }
    bool is_left_out = self->notices++ >= NOTICES_A_ROUND;
    self->notices_left_out += is_left_out;
    pthread_mutex_unlock (&self->lock);
    if (known && ef_span_is (kind, "breaker")) {
        probes_ask_topic (self->probes, topic);
    }
    if (!is_left_out && live_count (self->live) > 0) {
        ef_buf_t out = {0};
        s_put_notice (&out, kind, topic, detail, wall_ms);
        live_send (self->live, "notice", out.data, out.size);
        ef_buf_free (&out);
    }
}

static void s_complete (collector_t *self);

static void
s_take (collector_t *self, ef_span_t subject, ef_cursor_t map) {
    const uint32_t notice = 7; /* "notice." */
    if (subject.size > notice && memcmp (subject.data, "notice.", notice) == 0) {
        s_take_notice (self, (ef_span_t){subject.data + notice, subject.size - notice}, map);
        return;
    }
    bool is_first = ef_span_is (subject, "stats.broker");
    if (is_first && self->is_round) {
        s_complete (self); /* its end wasn't noticed: the next one is here */
    }
    self->is_round = self->is_round || is_first;
    self->message_ms = ef_mono_ms ();
    pthread_mutex_lock (&self->lock);
    self->unreadable += numbers_take (&self->numbers, subject, map) < 0;
    self->heard_ms = self->message_ms;
    self->heard_wall_ms = ef_wall_ms ();
    pthread_mutex_unlock (&self->lock);
}

/* True where there may be more. */
static bool
s_receive (collector_t *self) {
    zmq_msg_t frames[2];
    zmq_msg_init (&frames[0]);
    if (zmq_msg_recv (&frames[0], self->socket, ZMQ_DONTWAIT) < 0) {
        zmq_msg_close (&frames[0]);
        return false;
    }
    zmq_msg_init (&frames[1]);
    unsigned count = 1;
    while (zmq_msg_more (&frames[count == 1 ? 0 : 1]) &&
           zmq_msg_recv (&frames[1], self->socket, ZMQ_DONTWAIT) >= 0) {
        count++;
    }
    size_t size = zmq_msg_size (&frames[0]);
    if (count == 2 && size <= 200) {
        s_take (self, (ef_span_t){zmq_msg_data (&frames[0]), (uint32_t)size},
                ef_cursor (zmq_msg_data (&frames[1]), zmq_msg_size (&frames[1])));
    } else {
        pthread_mutex_lock (&self->lock);
        self->unreadable++;
        pthread_mutex_unlock (&self->lock);
    }
    zmq_msg_close (&frames[0]);
    zmq_msg_close (&frames[1]);
    return true;
}

/* ---- what is made of it ---- */

void
collector_put_alert (ef_buf_t *out, const char *severity, const store_alert_t *alert) {
    notify_put_alert (out, alert, severity, alert_state_name (alert->state));
}

/* Keeps, logs, shows and sends what a look at the rules came to. */
static void
s_tell_alerts (collector_t *self) {
    const alerts_t *alerts = &self->alerts;
    uint64_t wall_ms = alerts->wall_ms;
    for (uint32_t i = 0; i < alerts->news_count; i++) {
        const alert_news_t *news = &alerts->news[i];
        ef_buf_t out = {0};
        history_alert (self->history,
                       news->change == ALERT_CLEARED   ? HISTORY_END
                       : news->change == ALERT_DROPPED ? HISTORY_DROP
                                                       : HISTORY_PUT,
                       &news->alert, wall_ms);
        if (news->change == ALERT_PENDED || news->change == ALERT_DROPPED) {
            continue;
        }
        ef_log (news->change == ALERT_CLEARED ? EF_LOG_INFO : EF_LOG_WARNING,
                news->change == ALERT_CLEARED    ? "alert.resolved"
                : news->change == ALERT_REMINDED ? "alert.reminder"
                                                 : "alert.firing",
                "rule=%s topic=%s text=\"%s\"", news->alert.rule, news->alert.topic,
                news->alert.text);
        collector_put_alert (&out, news->severity, &news->alert);
        live_send (self->live, "alert", out.data, out.size);
        ef_buf_free (&out);
    }
    notify_tell (self->notify, alerts->news, alerts->news_count, self->is_down, wall_ms);
}

static void
s_put_down (ef_buf_t *out, const char *what, uint64_t since_ms) {
    json_raw (out, "{");
    json_text (out, "what", what);
    json_time (out, "since", since_ms);
    json_raw (out, "}");
}

static void
s_tell_down (collector_t *self, const char *what, bool is_down, uint64_t since_ms) {
    ef_buf_t out = {0};
    s_put_down (&out, what, since_ms);
    live_send (self->live, is_down ? "down" : "up", out.data, out.size);
    ef_buf_free (&out);
}

/* What a page that comes is told first. Under the lock. */
void
collector_put_first (collector_t *self, ef_buf_t *out) {
    ef_buf_t data = {0};
    json_raw (out, "retry: 2000\n\n");
    if (self->numbers.round > 0) {
        snapshot_put (&data, &self->numbers, &self->samples, self->heard_wall_ms);
        live_put (out, "snapshot", data.data, data.size);
    }
    const struct {
        const char *what;
        bool is_down;
        uint64_t since_ms;
    } parts[] = {{"broker", self->is_down, self->down_wall_ms},
                 {"gateway", self->is_gateway_down, self->gateway_down_wall_ms}};
    for (unsigned i = 0; i < 2; i++) {
        if (parts[i].is_down) {
            ef_buf_clear (&data);
            s_put_down (&data, parts[i].what, parts[i].since_ms);
            live_put (out, "down", data.data, data.size);
        }
    }
    ef_buf_free (&data);
}

/* A topic tells how many of its breakers are open; which ones is asked for where that is news. */
static void
s_look_at_breakers (collector_t *self) {
    numbers_topic_t *topic;
    for (uint32_t at = 0; (topic = ef_hash_next (&self->numbers.topics, &at)) != NULL;) {
        sample_t *sample = samples_of (topic);
        if (topic->breakers_open == 0) {
            sample->named_breakers = 0;
            sample->open_breakers[0] = '\0';
        } else if (sample->named_breakers != topic->breakers_open) {
            probes_ask_topic (self->probes, topic->topic);
        }
    }
}

/* A round is whole. */
static void
s_complete (collector_t *self) {
    uint64_t now = ef_mono_ms ();
    uint64_t wall_ms = ef_wall_ms ();
    ef_buf_t data = {0};
    self->is_round = false;
    self->notices = 0;
    pthread_mutex_lock (&self->lock);
    self->rounds++;
    numbers_sweep (&self->numbers);
    samples_take (&self->samples, &self->numbers, now, wall_ms);
    s_look_at_breakers (self);
    alerts_begin (&self->alerts, now, wall_ms);
    rules_look (&self->alerts, &self->options->alert, &self->samples, &self->numbers);
    alerts_end (&self->alerts, true);
    s_tell_alerts (self);
    influx_take (self->influx, &self->numbers, &self->samples, now, wall_ms);
    if (live_count (self->live) > 0) {
        snapshot_put (&data, &self->numbers, &self->samples, wall_ms);
    }
    pthread_mutex_unlock (&self->lock);
    if (data.size > 0) {
        live_send (self->live, "snapshot", data.data, data.size);
        ef_buf_free (&data);
    }
}

/* Down: silent, and a question asked since then hasn't been answered. */
static bool
s_is_broker_down (collector_t *self, const probe_t *probe, uint64_t now) {
    uint64_t heard = self->heard_ms ? self->heard_ms : self->started_ms;
    return now - heard >= self->options->alert.broker_ms && probe->failing_ms > 0 &&
           probe->asked_ms > heard;
}

static void
s_look_down (collector_t *self, uint64_t now) {
    probe_t broker;
    probe_t gateway;
    uint64_t heard = self->heard_ms ? self->heard_ms : self->started_ms;
    if (now - heard >= SILENT_MS && now - self->asked_ms >= ASK_AGAIN_MS) {
        self->asked_ms = now;
        probes_ask (self->probes);
    }
    probes_read (self->probes, &broker, &gateway);
    bool is_down = s_is_broker_down (self, &broker, now);
    bool is_gateway_down =
        gateway.failing_ms > 0 && now - gateway.failing_ms >= self->options->alert.gateway_ms;
    pthread_mutex_lock (&self->lock);
    bool has_changed = is_down != self->is_down;
    bool has_gateway_changed = is_gateway_down != self->is_gateway_down;
    uint64_t wall_ms = ef_wall_ms ();
    if (is_down && has_changed) {
        self->down_wall_ms = wall_ms - (now - heard);
    }
    if (is_gateway_down && has_gateway_changed) {
        self->gateway_down_wall_ms = wall_ms - (now - gateway.failing_ms);
    }
    self->is_down = is_down;
    self->is_gateway_down = is_gateway_down;
    alerts_begin (&self->alerts, now, wall_ms);
    rules_look_down (&self->alerts, RULE_BROKER_DOWN, is_down, broker.detail);
    if (self->options->gateway[0]) {
        rules_look_down (&self->alerts, RULE_GATEWAY_DOWN, is_gateway_down, gateway.detail);
    }
    alerts_end (&self->alerts, false);
    s_tell_alerts (self);
    pthread_mutex_unlock (&self->lock);
    if (has_changed) {
        s_tell_down (self, "broker", is_down, is_down ? self->down_wall_ms : wall_ms);
    }
    if (has_gateway_changed) {
        s_tell_down (self, "gateway", is_gateway_down,
                     is_gateway_down ? self->gateway_down_wall_ms : wall_ms);
    }
}

static void *
s_run (void *arg) {
    collector_t *self = arg;
    uint64_t look_ms = 0;
    while (!atomic_load (&self->is_stopping)) {
        zmq_pollitem_t item = {self->socket, 0, ZMQ_POLLIN, 0};
        (void)zmq_poll (&item, 1, self->is_round ? QUIET_MS : WAKE_MS);
        for (unsigned i = 0; i < TURN_MESSAGES && s_receive (self); i++) {
        }
        if (self->is_round && ef_mono_ms () - self->message_ms >= QUIET_MS) {
            s_complete (self);
        }
        uint64_t now = ef_mono_ms (); /* not before what the round was looked at with */
        if (now >= look_ms) {
            look_ms = now + WAKE_MS;
            s_look_down (self, now);
            influx_step (self->influx);
        }
        if (now >= self->still_ms) {
            self->still_ms = now + STILL_MS;
            live_still (self->live);
        }
    }
    return NULL;
}

/* ---- breakers, from the thread that asks for them ---- */

/* The names of those that are open, as far as there is room; returns how many are. */
static uint64_t
s_name_open (ef_cursor_t items, char *text, size_t size) {
    uint32_t count = 0;
    uint64_t open = 0;
    size_t used = 0;
    text[0] = '\0';
    if (ef_get_array (&items, &count)) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        char name[100];
        char state[16];
        s_field (items, "downstream", name, sizeof name);
        s_field (items, "state", state, sizeof state);
        bool is_open = strcmp (state, "open") == 0;
        open += is_open;
        if (is_open && used + 110 < size) {
            used += (size_t)snprintf (text + used, size - used, "%s%s", used ? ", " : "",
                                      name[0] ? name : "the topic's own");
        }
        if (ef_skip (&items)) {
            break;
        }
    }
    return open;
}

static void
s_breakers (void *arg, const char *topic, const void *list, size_t size) {
    collector_t *self = arg;
    ef_cursor_t cursor = ef_cursor (list, size);
    pthread_mutex_lock (&self->lock);
    numbers_topic_t *known = numbers_topic (&self->numbers, topic);
    if (known) {
        sample_t *sample = samples_of (known);
        sample->named_breakers =
            s_name_open (cursor, sample->open_breakers, sizeof sample->open_breakers);
    }
    pthread_mutex_unlock (&self->lock);
}

/* ---- beginning and end ---- */

static int
s_connect (collector_t *self, char error[512]) {
    const char *endpoint = s_stats_endpoint (self);
    const struct {
        int option;
        int value;
    } settings[] = {{ZMQ_LINGER, 0},           {ZMQ_RCVHWM, MESSAGES_MAX},
                    {ZMQ_RECONNECT_IVL, 100},  {ZMQ_RECONNECT_IVL_MAX, 1000},
                    {ZMQ_HEARTBEAT_IVL, 2000}, {ZMQ_HEARTBEAT_TIMEOUT, 5000}};
    self->context = zmq_ctx_new ();
    self->socket = self->context ? zmq_socket (self->context, ZMQ_SUB) : NULL;
    int rc = self->socket ? 0 : -1;
    for (size_t i = 0; rc == 0 && i < sizeof settings / sizeof settings[0]; i++) {
        rc = zmq_setsockopt (self->socket, settings[i].option, &settings[i].value, sizeof (int));
    }
    int64_t most = MESSAGE_BYTES;
    rc = rc ? rc : zmq_setsockopt (self->socket, ZMQ_MAXMSGSIZE, &most, sizeof most);
    rc = rc ? rc : zmq_setsockopt (self->socket, ZMQ_SUBSCRIBE, "stats.", 6);
    rc = rc ? rc : zmq_setsockopt (self->socket, ZMQ_SUBSCRIBE, "notice.", 7);
    rc = rc ? rc : zmq_connect (self->socket, endpoint);
    if (rc) {
        snprintf (error, 512, "stats = %.200s: %s", endpoint, zmq_strerror (errno));
    }
    return rc;
}

static void
s_restore (void *arg, const store_alert_t *alert) {
    collector_t *self = arg;
    const alert_rule_t *rule = rule_find (alert->rule);
    if (rule) {
        alerts_restore (&self->alerts, rule->severity, alert);
    } else {
        history_alert (self->history, HISTORY_DROP, alert, 0);
    }
}

static int
s_open (collector_t *self, char error[512]) {
    const options_t *options = self->options;
    const alert_settings_t *alert = &options->alert;
    const probes_options_t probes = {
        .admin = options_endpoint (options->admin, "EVENTFLOW_ADMIN", "tcp://127.0.0.1:5553"),
        .gateway = options->gateway,
        .every_ms = options->probe_ms,
        .breakers = s_breakers,
        .arg = self};
    self->alert_options = (alerts_options_t){alert->clear_ms, alert->repeat_ms, alert->reminders};
    alerts_init (&self->alerts, &self->alert_options);
    self->history = history_new (options->data, options->data_bytes, options->topics, error);
    self->sender = self->history ? sender_new (error) : NULL;
    if (self->sender == NULL || s_connect (self, error)) {
        return -1;
    }
    samples_init (&self->samples, self->history, alert->dead_window_ms);
    history_alerts (self->history, s_restore, self);
    self->notify = notify_new (
        alert, options_endpoint (options->front, "EVENTFLOW_FRONT", "tcp://127.0.0.1:5551"),
        self->sender);
    self->influx = influx_new (&options->influx, self->sender);
    self->probes = probes_new (&probes, error);
    return self->probes ? 0 : -1;
}

collector_t *
collector_new (const options_t *options, char error[512]) {
    collector_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->options = options;
    self->started_ms = ef_mono_ms ();
    pthread_mutex_init (&self->lock, NULL);
    numbers_init (&self->numbers);
    self->numbers.forget = samples_forget;
    self->numbers.arg = &self->samples;
    self->live = live_new ();
    int rc = s_open (self, error);
    if (rc == 0) {
        rc = pthread_create (&self->thread, NULL, s_run, self);
        self->is_running = rc == 0;
        if (rc) {
            snprintf (error, 512, "a thread can't be made: %s", strerror (rc));
        }
    }
    if (rc) {
        collector_destroy (&self);
    }
    return self;
}

void
collector_close (collector_t *self) {
    live_close (self->live);
}

void
collector_destroy (collector_t **self_p) {
    collector_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    if (self->is_running) {
        atomic_store (&self->is_stopping, true);
        pthread_join (self->thread, NULL);
    }
    probes_destroy (&self->probes);
    notify_destroy (&self->notify);
    sender_destroy (&self->sender, 2000);
    influx_destroy (&self->influx);
    live_destroy (&self->live);
    numbers_free (&self->numbers); /* its lines go to the history */
    alerts_free (&self->alerts);
    history_destroy (&self->history);
    if (self->socket) {
        zmq_close (self->socket);
    }
    if (self->context) {
        zmq_ctx_term (self->context);
    }
    pthread_mutex_destroy (&self->lock);
    free (self);
    *self_p = NULL;
}
