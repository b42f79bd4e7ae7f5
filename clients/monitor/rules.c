/* What looks bad. SPDX-License-Identifier: MIT */
#include "rules.h"
#include "snapshot.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define RULES_ROW(name, text, severity) [RULE_##name] = {text, severity},
const alert_rule_t rules[RULE_COUNT] = {RULES (RULES_ROW)};

/* Between the threshold that raises an alert and the one that ends it. */
#define SLACK 0.8

typedef struct {
    alerts_t *alerts;
    const alert_settings_t *settings;
    const char *topic;
    char text[400];
} look_t;

const alert_rule_t *
rule_find (const char *name) {
    for (unsigned i = 0; i < RULE_COUNT; i++) {
        if (strcmp (rules[i].name, name) == 0) {
            return &rules[i];
        }
    }
    return NULL;
}

static void
EF_PRINTF (2, 3) s_say (look_t *self, const char *format, ...) {
    va_list list;
    va_start (list, format);
    vsnprintf (self->text, sizeof self->text, format, list);
    va_end (list);
    text_clean (self->text);
}

static void
s_see (look_t *self, unsigned rule, alert_look_t look, double value, uint64_t for_ms) {
    const alert_sight_t sight = {.rule = &rules[rule],
                                 .topic = self->topic,
                                 .look = look,
                                 .value = value,
                                 .for_ms = for_ms,
                                 .text = self->text};
    alerts_see (self->alerts, &sight);
}

/* Above the threshold, under four fifths of it, or between. */
static alert_look_t
s_above (double value, double threshold) {
    return value >= threshold ? ALERT_BAD : value < threshold * SLACK ? ALERT_GOOD : ALERT_BETWEEN;
}

/* Durations for people: 1.5 s, 3 min, 2 h. */
static const char *
s_time (double ms, char text[24]) {
    if (ms < 1000) {
        snprintf (text, 24, "%.0f ms", ms);
    } else if (ms < 120000) {
        snprintf (text, 24, "%.3g s", ms / 1000);
    } else if (ms < 7200000) {
        snprintf (text, 24, "%.0f min", ms / 60000);
    } else {
        snprintf (text, 24, "%.3g h", ms / 3600000);
    }
    return text;
}

static void
s_look_dead (look_t *self, const sample_t *sample) {
    char window[24];
    double died = (double)samples_died (sample);
    if (self->settings->dead == 0) {
        return;
    }
    alert_look_t look = s_above (died, self->settings->dead);
    if (look == ALERT_BAD) {
        s_say (self, "%s: %.0f %s died within %s (threshold %u)", self->topic, died,
               died == 1 ? "event" : "events",
               s_time ((double)self->settings->dead_window_ms, window), self->settings->dead);
    }
    s_see (self, RULE_DEAD, look, died, 0);
}

static void
s_look_oldest (look_t *self, const numbers_topic_t *topic) {
    char age[24];
    double oldest = (double)topic->oldest_ms;
    if (self->settings->oldest_ms == 0) {
        return;
    }
    alert_look_t look = s_above (oldest, (double)self->settings->oldest_ms);
    if (look == ALERT_BAD) {
        s_say (self, "%s: the oldest event has waited for %s%s; %llu are ready", self->topic,
               s_time (oldest, age), topic->is_paused ? " (the topic is paused)" : "",
               (unsigned long long)topic->ready);
    }
    s_see (self, RULE_OLDEST, look, oldest / 1000, self->settings->oldest_for_ms);
}

static void
s_look_stall (look_t *self, const numbers_topic_t *topic) {
    char since[24];
    double stalled = (double)topic->stalled_ms;
    if (self->settings->stall_ms == 0) {
        return;
    }
    alert_look_t look = stalled >= (double)self->settings->stall_ms ? ALERT_BAD
                        : topic->stalled_ms == 0                    ? ALERT_GOOD
                                                                    : ALERT_BETWEEN;
    if (look == ALERT_BAD) {
        s_say (self, "%s: %llu %s and no worker has had room for %s", self->topic,
               (unsigned long long)topic->ready, topic->ready == 1 ? "event waits" : "events wait",
               s_time (stalled, since));
    }
    s_see (self, RULE_STALL, look, stalled / 1000, 0);
}

static void
s_look_workers (look_t *self, const numbers_topic_t *topic, const sample_t *sample) {
    const alert_settings_t *settings = self->settings;
    if (settings->no_worker_ms > 0) {
        bool is_bad = topic->workers == 0 && topic->ready > 0;
        if (is_bad) {
            s_say (self, "%s: %llu %s and there is no worker", self->topic,
                   (unsigned long long)topic->ready,
                   topic->ready == 1 ? "event waits" : "events wait");
        }
        s_see (self, RULE_NO_WORKER, is_bad ? ALERT_BAD : ALERT_GOOD, (double)topic->ready,
               settings->no_worker_ms);
    }
    if (settings->unhealthy_ms > 0) {
        if (topic->unwell > 0) {
            s_say (self, "%s: %llu of %llu workers aren't well: %s", self->topic,
                   (unsigned long long)topic->unwell, (unsigned long long)topic->workers,
                   sample->unwell);
        }
        s_see (self, RULE_UNHEALTHY, topic->unwell > 0 ? ALERT_BAD : ALERT_GOOD,
               (double)topic->unwell, settings->unhealthy_ms);
    }
}

static void
s_look_breaker (look_t *self, const numbers_topic_t *topic, const sample_t *sample) {
    if (self->settings->breaker_ms == 0) {
        return;
    }
    alert_look_t look = topic->breakers_open > 0        ? ALERT_BAD
                        : topic->breakers_half_open > 0 ? ALERT_BETWEEN
                                                        : ALERT_GOOD;
    if (look == ALERT_BAD) {
        s_say (self, "%s: %llu %s open%s%s", self->topic, (unsigned long long)topic->breakers_open,
               topic->breakers_open == 1 ? "breaker is" : "breakers are",
               sample->open_breakers[0] ? ": " : "", sample->open_breakers);
    }
    s_see (self, RULE_BREAKER, look, (double)topic->breakers_open, self->settings->breaker_ms);
}

static void
s_look_crashes (look_t *self, const sample_t *sample, uint64_t now_ms) {
    if (self->settings->crash_loop_ms == 0 || sample->crashed_ms == 0) {
        return;
    }
    bool is_bad = now_ms - sample->crashed_ms < self->settings->crash_loop_ms;
    if (is_bad) {
        s_say (self, "%s: its workers crash as soon as they start: %s", self->topic,
               sample->crashed);
    }
    s_see (self, RULE_CRASH_LOOP, is_bad ? ALERT_BAD : ALERT_GOOD, 1, 0);
}

static void
s_look_disk (look_t *self, const numbers_broker_t *broker) {
    double least = (double)self->settings->disk_bytes;
    double room = broker->has_disk_free ? (double)broker->disk_free_bytes : least * 2;
    bool is_short = broker->space[0] && strcmp (broker->space, "normal") != 0;
    if (least == 0 && !is_short) {
        room = 1;
    }
    alert_look_t look = is_short || room < least     ? ALERT_BAD
                        : room < least * (2 - SLACK) ? ALERT_BETWEEN
                                                     : ALERT_GOOD;
    if (look == ALERT_BAD) {
        s_say (self, "the broker's disk has %.4g GiB left%s%s", room / 1073741824,
               is_short ? "; space is " : "", is_short ? broker->space : "");
    }
    s_see (self, RULE_DISK, look, room, 0);
}

static void
s_look_journal (look_t *self, const samples_t *samples, const numbers_broker_t *broker) {
    const numbers_histogram_t *window = &samples->sync_window;
    double p99_ms = window->steps > 0              ? numbers_quantile (window, 0.99) / 1000
                    : isnan (samples->sync_p99_us) ? 0
                                                   : samples->sync_p99_us / 1000;
    char time[24];
    if (self->settings->fsync_ms > 0) {
        alert_look_t look = s_above (p99_ms, (double)self->settings->fsync_ms);
        if (look == ALERT_BAD) {
            s_say (self, "one sync of the journal in a hundred takes %s or longer",
                   s_time (p99_ms, time));
        }
        s_see (self, RULE_FSYNC, look, p99_ms / 1000, self->settings->fsync_for_ms);
    }
    if (broker->scrub_damaged > 0) {
        s_say (self, "%llu damaged records were found in the journal",
               (unsigned long long)broker->scrub_damaged);
    }
    s_see (self, RULE_DAMAGED, broker->scrub_damaged > 0 ? ALERT_BAD : ALERT_GOOD,
           (double)broker->scrub_damaged, 0);
}

/* Why a worker of each topic isn't well: the first that is found. */
static void
s_gather_unwell (numbers_t *numbers) {
    numbers_worker_t *worker;
    for (uint32_t at = 0; (worker = ef_hash_next (&numbers->workers, &at)) != NULL;) {
        numbers_topic_t *topic =
            worker->is_unhealthy ? numbers_topic (numbers, worker->topic) : NULL;
        if (topic) {
            sample_t *sample = samples_of (topic);
            snprintf (sample->unwell, sizeof sample->unwell, "%.60s: %.130s", worker->worker,
                      worker->unhealthy);
        }
    }
}

void
rules_look (alerts_t *alerts, const alert_settings_t *settings, const samples_t *samples,
            numbers_t *numbers) {
    look_t look = {.alerts = alerts, .settings = settings, .topic = ""};
    numbers_topic_t *topic;
    s_look_disk (&look, &numbers->broker);
    s_look_journal (&look, samples, &numbers->broker);
    s_gather_unwell (numbers);
    for (uint32_t at = 0; (topic = ef_hash_next (&numbers->topics, &at)) != NULL;) {
        const sample_t *sample = samples_of (topic);
        look.topic = topic->topic;
        s_look_dead (&look, sample);
        s_look_oldest (&look, topic);
        s_look_stall (&look, topic);
        s_look_workers (&look, topic, sample);
        s_look_breaker (&look, topic, sample);
        s_look_crashes (&look, sample, alerts->now_ms);
    }
}

void
rules_look_down (alerts_t *alerts, unsigned rule, bool is_down, const char *why) {
    look_t look = {.alerts = alerts, .topic = ""};
    if (is_down) {
        s_say (&look, "the %s is down: %s", rule == RULE_BROKER_DOWN ? "broker" : "gateway", why);
    }
    s_see (&look, rule, is_down ? ALERT_BAD : ALERT_GOOD, is_down, 0);
}
