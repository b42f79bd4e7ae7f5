/* The monitor's settings. SPDX-License-Identifier: MIT */
#include "options.h"
#include "../../proto/event.h"

#include <stdio.h>
#include <stdlib.h>

#define MINUTE 60000.0
#define HOUR   3600000.0
#define DAY    86400000.0
#define TIB    1099511627776.0

static const setting_t s_rows[] = {
    {"stats", &config_text, FIELD (options_t, stats),
     .help = "the broker's stats ($EVENTFLOW_STATS)"},
    {"admin", &config_text, FIELD (options_t, admin),
     .help = "its administration ($EVENTFLOW_ADMIN)"},
    {"front", &config_text, FIELD (options_t, front),
     .help = "where alerts are published ($EVENTFLOW_FRONT)"},
    {"data", &config_text, FIELD (options_t, data), .help = "file of the history and the alerts"},
    {"data_bytes", &config_size, FIELD (options_t, data_bytes), 1048576, TIB,
     .help = "that it may have"},
    {"history_topics", &config_number, FIELD (options_t, topics), 1, 4096,
     .help = "with a history of their own"},
    {"metrics_topics", &config_number, FIELD (options_t, metrics_topics), 0, 4096,
     .help = "with labels of their own at /metrics; the others are _other"},
    {"gateway", &config_text, FIELD (options_t, gateway),
     .help = "probe it there: http://127.0.0.1:8080; empty: don't"},
    {"probe", &config_duration, FIELD (options_t, probe_ms), 100, HOUR,
     .help = "time between two probes"},
    {"alert_broker", &config_duration, FIELD (options_t, alert.broker_ms), 1500, HOUR,
     .help = "silent for so long and no answer: it is down"},
    {"alert_gateway", &config_duration, FIELD (options_t, alert.gateway_ms), 0, HOUR,
     .help = "the same of the gateway"},
    {"alert_dead", &config_number, FIELD (options_t, alert.dead), 0, 1e9,
     .help =
         "events of a topic that die within alert_dead_window; 0 turns an alert off, also below"},
    {"alert_dead_window", &config_duration, FIELD (options_t, alert.dead_window_ms), 10000, HOUR,
     .help = "the time for that, up to 1h"},
    {"alert_oldest", &config_duration, FIELD (options_t, alert.oldest_ms), 0, 30 * DAY,
     .help = "age of the oldest waiting event"},
    {"alert_oldest_for", &config_duration, FIELD (options_t, alert.oldest_for_ms), 0, DAY,
     .help = "so long"},
    {"alert_stall", &config_duration, FIELD (options_t, alert.stall_ms), 0, DAY,
     .help = "events wait and no worker has room"},
    {"alert_no_worker", &config_duration, FIELD (options_t, alert.no_worker_ms), 0, DAY,
     .help = "events wait and there is no worker"},
    {"alert_breaker", &config_duration, FIELD (options_t, alert.breaker_ms), 0, DAY,
     .help = "a breaker is open"},
    {"alert_unhealthy", &config_duration, FIELD (options_t, alert.unhealthy_ms), 0, DAY,
     .help = "a worker says it isn't well"},
    {"alert_crash_loop", &config_duration, FIELD (options_t, alert.crash_loop_ms), 0, DAY,
     .help = "kept so long behind the last crash"},
    {"alert_disk", &config_size, FIELD (options_t, alert.disk_bytes), 0, TIB,
     .help = "room left where the journal is"},
    {"alert_fsync", &config_duration, FIELD (options_t, alert.fsync_ms), 0, MINUTE,
     .help = "what one sync of a hundred takes"},
    {"alert_fsync_for", &config_duration, FIELD (options_t, alert.fsync_for_ms), 0, DAY,
     .help = "so long"},
    {"alert_clear", &config_duration, FIELD (options_t, alert.clear_ms), 0, DAY,
     .help = "good for so long: it is over"},
    {"alert_repeat", &config_duration, FIELD (options_t, alert.repeat_ms), 0, 30 * DAY,
     .help = "first reminder, each further one after twice as long; 0: none"},
    {"alert_reminders", &config_number, FIELD (options_t, alert.reminders), 0, 100,
     .help = "at the most"},
    {"alert_topic", &config_text, FIELD (options_t, alert.topic),
     .help = "publish alerts there; empty: don't"},
    {"alert_webhook", &config_text, FIELD (options_t, alert.webhook),
     .help = "POST alerts to this URL"},
    {"alert_webhook_header", &config_text, FIELD (options_t, alert.webhook_header),
     .help = "with this header: \"Authorization: ...\""},
    {"alert_direct", &config_choice, FIELD (options_t, alert.direct), .choices = "all|down",
     .help = "webhook and mail get all alerts, or those while the broker is down"},
    {"mail_server", &config_text, FIELD (options_t, alert.mail_server),
     .help = "smtp://host:25 or smtps://host:465"},
    {"mail_from", &config_text, FIELD (options_t, alert.mail_from), .help = "sender's address"},
    {"mail_to", &config_text, FIELD (options_t, alert.mail_to), .help = "addresses, by commas"},
    {"mail_user", &config_text, FIELD (options_t, alert.mail_user), .help = "for the mail server"},
    {"mail_password", &config_text, FIELD (options_t, alert.mail_password),
     .help = "better as EVENTFLOW_MONITOR_MAIL_PASSWORD"},
    {"mail_tls", &config_choice, FIELD (options_t, alert.mail_tls), .choices = "try|require|no"},
    {"influx", &config_text, FIELD (options_t, influx.url),
     .help = "write to this InfluxDB: http://127.0.0.1:8086"},
    {"influx_database", &config_text, FIELD (options_t, influx.database), .help = "of version 1"},
    {"influx_user", &config_text, FIELD (options_t, influx.user), .help = "of version 1"},
    {"influx_password", &config_text, FIELD (options_t, influx.password),
     .help = "better as EVENTFLOW_MONITOR_INFLUX_PASSWORD"},
    {"influx_org", &config_text, FIELD (options_t, influx.org),
     .help = "of version 2, with influx_bucket"},
    {"influx_bucket", &config_text, FIELD (options_t, influx.bucket), .help = "of version 2"},
    {"influx_token", &config_text, FIELD (options_t, influx.token),
     .help = "of version 2; better as EVENTFLOW_MONITOR_INFLUX_TOKEN"},
    {"influx_every", &config_duration, FIELD (options_t, influx.every_ms), 1000, HOUR,
     .help = "time between two batches"},
    {"influx_buffer", &config_size, FIELD (options_t, influx.buffer_bytes), 65536, TIB,
     .help = "kept in memory while it is away; then the oldest is lost"},
    {"influx_workers", &config_boolean, FIELD (options_t, influx.workers),
     .help = "a series for each worker"},
};

const settings_t options_settings = {s_rows, sizeof s_rows / sizeof s_rows[0]};

void
options_defaults (options_t *self) {
    *self = (options_t){.data = "eventflow-monitor.db",
                        .data_bytes = 512u << 20,
                        .topics = 1000,
                        .metrics_topics = 200,
                        .probe_ms = OPTIONS_PROBE_MS};
    self->alert = (alert_settings_t){.broker_ms = 3000,
                                     .gateway_ms = 3000,
                                     .dead = 10,
                                     .dead_window_ms = 300000,
                                     .oldest_ms = 300000,
                                     .oldest_for_ms = 30000,
                                     .stall_ms = 30000,
                                     .no_worker_ms = 30000,
                                     .breaker_ms = 10000,
                                     .unhealthy_ms = 10000,
                                     .crash_loop_ms = 300000,
                                     .disk_bytes = 1u << 30,
                                     .fsync_ms = 250,
                                     .fsync_for_ms = 30000,
                                     .clear_ms = 30000,
                                     .repeat_ms = 3600000,
                                     .reminders = 5};
    self->influx = (influx_settings_t){
        .database = "eventflow", .every_ms = 10000, .buffer_bytes = 16u << 20, .workers = true};
}

const char *
options_endpoint (const char *said, const char *variable, const char *otherwise) {
    const char *value = said[0] ? said : getenv (variable);
    return value && value[0] ? value : otherwise;
}

static bool
s_is_url (const char *url) {
    return url[0] == '\0' || strncmp (url, "http://", 7) == 0 || strncmp (url, "https://", 8) == 0;
}

/* What is put into a header or a command must not begin a new line. */
static bool
s_is_line (const char *text) {
    return strpbrk (text, "\r\n") == NULL;
}

int
options_check (const options_t *self, char error[512]) {
    const struct {
        const char *name;
        const char *value;
    } urls[] = {{"gateway", self->gateway},
                {"alert_webhook", self->alert.webhook},
                {"influx", self->influx.url}};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        if (!s_is_url (urls[i].value)) {
            snprintf (error, 512,
                      "%s = %.200s: expected a URL that begins with http:// or https://",
                      urls[i].name, urls[i].value);
            return -1;
        }
    }
    const char *topic = self->alert.topic;
    if (topic[0] && !ef_topic_is_valid (topic, strlen (topic))) {
        snprintf (error, 512, "alert_topic = %.60s: expected a topic's name", topic);
        return -1;
    }
    if (self->alert.mail_server[0] && (!self->alert.mail_from[0] || !self->alert.mail_to[0])) {
        snprintf (error, 512, "mail_server without mail_from and mail_to: expected both");
        return -1;
    }
    if (!s_is_line (self->alert.mail_from) || !s_is_line (self->alert.mail_to) ||
        !s_is_line (self->alert.webhook_header)) {
        snprintf (error, 512, "mail_from, mail_to, alert_webhook_header: expected one line");
        return -1;
    }
    if (self->influx.url[0] && (self->influx.org[0] != '\0') != (self->influx.bucket[0] != '\0')) {
        snprintf (error, 512, "influx_org and influx_bucket: expected both (version 2) or none");
        return -1;
    }
    return 0;
}
