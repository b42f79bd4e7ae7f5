/* Alerts told to others. SPDX-License-Identifier: MIT */
#include "notify.h"
#include "../../broker/base/log.h"
#include "../../proto/json.h"
#include "../c/eventflow.h"
#include "snapshot.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define OUTBOX_BYTES (1u << 20) /* of events while the broker is away: some 2,000 */
#define TRIES        6          /* over about a minute */

struct notify_s {
    const alert_settings_t *settings; /* borrowed */
    sender_t *sender;                 /* borrowed */
    eventflow_publisher_t *publisher; /* owned; NULL: no events */
};

static bool
s_is_told (const alert_news_t *news) {
    return news->change == ALERT_RAISED || news->change == ALERT_REMINDED ||
           news->change == ALERT_CLEARED;
}

/* The whole, for people and for programs that read one line. */
static void
s_line (const alert_news_t *news, char text[600]) {
    snprintf (text, 600, "%s: %s (%s): %s", alert_change_name (news->change), news->alert.rule,
              news->severity, news->alert.text);
}

/* Its id: the same for the same alert from its beginning to its end. */
static void
s_id (const store_alert_t *alert, char text[112]) {
    snprintf (text, 112, "%s%s%s", alert->rule, alert->topic[0] ? "/" : "", alert->topic);
}

void
notify_put_alert (ef_buf_t *out, const store_alert_t *alert, const char *severity,
                  const char *state) {
    char id[112];
    s_id (alert, id);
    json_raw (out, "{");
    json_text (out, "id", id);
    json_text (out, "name", alert->rule);
    json_text (out, "severity", severity);
    json_text (out, "state", state);
    json_text (out, "topic", alert->topic);
    json_time (out, "since", alert->since_ms);
    json_time (out, "changed", alert->changed_ms);
    json_real (out, "value", alert->value);
    json_whole (out, "reminders", alert->reminders);
    json_text (out, "text", alert->text);
    json_raw (out, "}");
}

/* {"text": for chat programs, "alerts": […], "more"}. */
void
notify_put_webhook (ef_buf_t *out, const alert_news_t *news, uint32_t count) {
    ef_buf_t lines = {0};
    char line[600];
    uint32_t told = 0;
    ef_buf_t list = {0};
    for (uint32_t i = 0; i < count && told < NOTIFY_MOST; i++) {
        if (s_is_told (&news[i])) {
            s_line (&news[i], line);
            json_raw (&lines, told ? "\n" : "");
            json_raw (&lines, line);
            json_raw (&list, told ? "," : "");
            notify_put_alert (&list, &news[i].alert, news[i].severity,
                              alert_change_name (news[i].change));
            told++;
        }
    }
    uint32_t more = 0;
    for (uint32_t i = 0; i < count; i++) {
        more += s_is_told (&news[i]);
    }
    json_raw (out, "{");
    json_key (out, "text");
    ef_json_string (out, (const char *)lines.data, lines.size);
    json_text (out, "source", "eventflow-monitor");
    json_raw (out, ",\"alerts\":[");
    ef_buf_put (out, list.data, list.size);
    json_raw (out, "]");
    json_whole (out, "more", more - told);
    json_raw (out, "}\n");
    ef_buf_free (&lines);
    ef_buf_free (&list);
}

static void
EF_PRINTF (2, 3) s_print (ef_buf_t *out, const char *format, ...) {
    char text[1500];
    va_list list;
    va_start (list, format);
    int size = vsnprintf (text, sizeof text, format, list);
    va_end (list);
    ef_buf_put (out, text, size < (int)sizeof text ? (size_t)size : sizeof text - 1);
}

/* A subject is ASCII in one line: what comes from workers may be anything. */
static void
s_put_subject (ef_buf_t *out, const char *text) {
    for (const char *at = text; *at && at - text < 150; at++) {
        char byte = *at >= ' ' && *at < 127 ? *at : '?';
        ef_buf_put (out, &byte, 1);
    }
}

static void
s_put_text (ef_buf_t *out, const char *text) {
    for (const char *at = text; *at; at++) {
        char byte = (unsigned char)*at >= ' ' ? *at : ' ';
        ef_buf_put (out, &byte, 1);
    }
}

static void
s_put_mail_head (ef_buf_t *out, const alert_settings_t *settings, uint64_t wall_ms) {
    char date[64];
    char host[80] = "localhost";
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    (void)gmtime_r (&seconds, &tm); /* fails only past 2^31 years */
    (void)strftime (date, sizeof date, "%a, %d %b %Y %H:%M:%S +0000", &tm);
    (void)gethostname (host, sizeof host - 1);
    s_print (out, "Date: %s\r\nFrom: %s\r\nTo: %s\r\n", date, settings->mail_from,
             settings->mail_to);
    s_print (out, "Message-ID: <%llu.%016llx@%s>\r\n", (unsigned long long)wall_ms,
             (unsigned long long)ef_random (), host);
    s_print (out, "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
                  "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n");
}

void
notify_put_mail (ef_buf_t *out, const alert_settings_t *settings, const alert_news_t *news,
                 uint32_t count, uint64_t wall_ms) {
    const alert_news_t *first = NULL;
    uint32_t all = 0;
    for (uint32_t i = 0; i < count; i++) {
        first = first == NULL && s_is_told (&news[i]) ? &news[i] : first;
        all += s_is_told (&news[i]);
    }
    ef_assert (first != NULL);
    char line[600];
    s_put_mail_head (out, settings, wall_ms);
    s_line (first, line);
    s_print (out, "Subject: [eventflow] ");
    s_put_subject (out, line);
    if (all > 1) {
        s_print (out, " and %u more", all - 1);
    }
    s_print (out, "\r\n\r\n");
    uint32_t told = 0;
    for (uint32_t i = 0; i < count && told < NOTIFY_MOST; i++) {
        char since[25];
        if (s_is_told (&news[i])) {
            s_line (&news[i], line);
            s_put_text (out, line);
            ef_rfc3339 (news[i].alert.since_ms, since);
            s_print (out, "\r\n  since %s\r\n", since);
            told++;
        }
    }
    if (told < all) {
        s_print (out, "and %u more\r\n", all - told);
    }
}

void
notify_put_event (ef_buf_t *out, const char *topic, const alert_news_t *news, uint64_t wall_ms) {
    const store_alert_t *alert = &news->alert;
    char id[65];
    char name[112];
    s_id (alert, name);
    /* The same change of the same alert has the same id. */
    uint64_t key[2] = {alert->since_ms, alert->reminders};
    snprintf (id, sizeof id, "alert-%016llx-%s-%llu",
              (unsigned long long)ef_siphash (key, name, strlen (name)),
              alert_change_name (news->change), (unsigned long long)alert->since_ms);
    ef_put_array (out, 4);
    ef_put_str (out, topic);
    ef_put_str (out, id);
    ef_put_map (out, 9);
    ef_put_key_str (out, "id", name);
    ef_put_key_str (out, "name", alert->rule);
    ef_put_key_str (out, "severity", news->severity);
    ef_put_key_str (out, "state", alert_change_name (news->change));
    ef_put_key_str (out, "topic", alert->topic);
    ef_put_key_uint (out, "since", alert->since_ms);
    ef_put_str (out, "value");
    ef_put_double (out, alert->value);
    ef_put_key_uint (out, "reminders", alert->reminders);
    ef_put_key_str (out, "text", alert->text);
    ef_put_map (out, 2);
    ef_put_key_str (out, "type", "eventflow.alert");
    ef_put_key_uint (out, "time", wall_ms);
}

static void
s_outcome (void *arg, uint64_t first, uint64_t count, const char *code, const char *text) {
    (void)arg;
    (void)first;
    if (code) {
        ef_log_limited (EF_LOG_WARNING, "alert.unpublished", "count=%llu code=%s text=\"%s\"",
                        (unsigned long long)count, code, text ? text : "");
    }
}

notify_t *
notify_new (const alert_settings_t *settings, const char *front, sender_t *sender) {
    notify_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->settings = settings;
    self->sender = sender;
    if (settings->topic[0]) {
        const eventflow_publisher_options_t options = {.endpoint = front,
                                                       .name = "eventflow-monitor",
                                                       .outbox_bytes = OUTBOX_BYTES,
                                                       .outcome = s_outcome};
        self->publisher = eventflow_publisher_new (&options);
    }
    return self;
}

void
notify_destroy (notify_t **self_p) {
    notify_t *self = *self_p;
    if (self) {
        if (self->publisher) {
            (void)eventflow_publisher_wait (self->publisher, 1000, NULL,
                                            NULL); /* as well as may be */
            eventflow_publisher_destroy (&self->publisher);
        }
        free (self);
        *self_p = NULL;
    }
}

static void
s_publish (notify_t *self, const alert_news_t *news, uint32_t count, uint64_t wall_ms) {
    uint32_t told = 0;
    for (uint32_t i = 0; self->publisher && i < count && told < NOTIFY_MOST; i++) {
        ef_buf_t event = {0};
        if (!s_is_told (&news[i])) {
            continue;
        }
        told++;
        notify_put_event (&event, self->settings->topic, &news[i], wall_ms);
        if (eventflow_publish_event (self->publisher, (eventflow_bytes_t){event.data, event.size},
                                     0, NULL) != EVENTFLOW_OK) {
            ef_log_limited (EF_LOG_WARNING, "alert.unpublished", "rule=%s topic=%s",
                            news[i].alert.rule, news[i].alert.topic);
        }
        ef_buf_free (&event);
    }
}

static void
s_send (notify_t *self, const alert_news_t *news, uint32_t count, uint64_t wall_ms) {
    const alert_settings_t *settings = self->settings;
    if (settings->webhook[0]) {
        sender_job_t job = {.kind = "webhook",
                            .url = settings->webhook,
                            .header = settings->webhook_header,
                            .type = "application/json",
                            .tries = TRIES};
        notify_put_webhook (&job.body, news, count);
        (void)sender_send (self->sender, &job); /* it says so in the log */
    }
    if (settings->mail_server[0]) {
        sender_job_t job = {.kind = "mail",
                            .url = settings->mail_server,
                            .user = settings->mail_user,
                            .password = settings->mail_password,
                            .mail_from = settings->mail_from,
                            .mail_to = settings->mail_to,
                            .mail_tls = settings->mail_tls,
                            .timeout_ms = 30000,
                            .tries = TRIES};
        notify_put_mail (&job.body, settings, news, count, wall_ms);
        (void)sender_send (self->sender, &job);
    }
}

/* About what is down, which the broker doesn't carry, or not in time. */
static bool
s_is_about_down (const alert_news_t *news) {
    return strcmp (news->alert.rule, "broker_down") == 0 ||
           strcmp (news->alert.rule, "gateway_down") == 0;
}

void
notify_tell (notify_t *self, const alert_news_t *news, uint32_t count, bool is_down,
             uint64_t wall_ms) {
    bool is_any = false;
    bool is_direct = self->settings->direct == DIRECT_ALL || is_down;
    for (uint32_t i = 0; i < count; i++) {
        is_any = is_any || s_is_told (&news[i]);
        is_direct = is_direct || s_is_about_down (&news[i]);
    }
    if (is_any) {
        s_publish (self, news, count, wall_ms);
    }
    if (is_any && is_direct) {
        s_send (self, news, count, wall_ms);
    }
}
