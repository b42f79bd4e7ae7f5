/* Alerts with hysteresis. SPDX-License-Identifier: MIT */
#include "alerts.h"
#include "../../proto/event.h"

#include <stdio.h>
#include <stdlib.h>

#define GONE_ROUNDS 10 /* without a word of it, then its topic is gone */

static const void *
s_key (const void *item, size_t *size) {
    const alert_t *alert = item;
    *size = strlen (alert->key);
    return alert->key;
}

void
alerts_init (alerts_t *self, const alerts_options_t *options) {
    uint64_t key[2] = {ef_random (), ef_random ()};
    memset (self, 0, sizeof *self);
    self->options = options;
    self->round = 1;
    ef_hash_init (&self->table, key, s_key);
}

void
alerts_free (alerts_t *self) {
    alert_t *alert;
    for (uint32_t at = 0; (alert = ef_hash_next (&self->table, &at)) != NULL;) {
        free (alert);
    }
    ef_hash_free (&self->table);
    free (self->news);
}

static void
s_tell (alerts_t *self, alert_change_t change, const alert_t *alert) {
    if (self->news_count == self->news_capacity) {
        self->news_capacity = self->news_capacity ? self->news_capacity * 2 : 16;
        self->news = realloc (self->news, self->news_capacity * sizeof *self->news);
        ef_assert (self->news != NULL);
    }
    self->news[self->news_count++] = (alert_news_t){change, alert->severity, alert->row};
}

static alert_t *
s_new (const char *severity, const char *rule, const char *topic) {
    alert_t *alert = calloc (1, sizeof *alert);
    ef_assert (alert != NULL);
    alert->severity = severity;
    snprintf (alert->row.rule, sizeof alert->row.rule, "%s", rule);
    snprintf (alert->row.topic, sizeof alert->row.topic, "%s", topic);
    snprintf (alert->key, sizeof alert->key, "%s/%s", alert->row.rule, alert->row.topic);
    return alert;
}

void
alerts_restore (alerts_t *self, const char *severity, const store_alert_t *row) {
    alert_t *alert = s_new (severity, row->rule, row->topic);
    if (self->table.count >= ALERTS_MAX ||
        ef_hash_find (&self->table, alert->key, strlen (alert->key))) {
        free (alert);
        return;
    }
    alert->row = *row;
    alert->row.state = row->state == ALERT_FIRING ? ALERT_FIRING : ALERT_PENDING;
    ef_hash_insert (&self->table, alert);
}

void
alerts_begin (alerts_t *self, uint64_t now_ms, uint64_t wall_ms) {
    ef_assert (now_ms >= self->now_ms && now_ms > 0);
    self->now_ms = now_ms;
    self->wall_ms = wall_ms;
    self->news_count = 0;
}

static void
s_change (alerts_t *self, alert_t *alert, alert_state_t state, alert_change_t change) {
    alert->row.state = state;
    alert->row.changed_ms = self->wall_ms;
    if (change == ALERT_RAISED) {
        alert->row.sent_ms = self->wall_ms;
    }
    s_tell (self, change, alert);
}

static void
s_remove (alerts_t *self, alert_t *alert) {
    bool is_firing = alert->row.state == ALERT_FIRING;
    s_change (self, alert, ALERT_ENDED, is_firing ? ALERT_CLEARED : ALERT_DROPPED);
    ef_hash_remove (&self->table, alert);
    free (alert);
}

/* It is told again after repeat, then after twice as long, … */
static void
s_remind (alerts_t *self, alert_t *alert) {
    const alerts_options_t *options = self->options;
    uint32_t told = alert->row.reminders;
    if (alert->row.state != ALERT_FIRING || options->repeat_ms == 0 || told >= options->reminders) {
        return;
    }
    uint64_t wait_ms = options->repeat_ms << (told < 20 ? told : 20);
    if (alert->row.sent_ms > self->wall_ms) {
        alert->row.sent_ms = self->wall_ms; /* the clock was set back */
    }
    if (self->wall_ms - alert->row.sent_ms >= wait_ms) {
        alert->row.reminders++;
        alert->row.sent_ms = self->wall_ms;
        s_tell (self, ALERT_REMINDED, alert);
    }
}

static void
s_see_bad (alerts_t *self, alert_t *alert, const alert_sight_t *sight) {
    alert->good_ms = 0;
    alert->bad_ms = alert->bad_ms ? alert->bad_ms : self->now_ms;
    alert->row.value = sight->value;
    snprintf (alert->row.text, sizeof alert->row.text, "%s", sight->text ? sight->text : "");
    if (alert->row.state == ALERT_PENDING && self->now_ms - alert->bad_ms >= sight->for_ms) {
        s_change (self, alert, ALERT_FIRING, ALERT_RAISED);
    }
}

void
alerts_see (alerts_t *self, const alert_sight_t *sight) {
    char key[112];
    if (self->table.count == 0 && sight->look != ALERT_BAD) {
        return;
    }
    int size = snprintf (key, sizeof key, "%.31s/%.71s", sight->rule->name, sight->topic);
    alert_t *alert = ef_hash_find (&self->table, key, (size_t)size);
    if (alert == NULL && sight->look == ALERT_BAD) {
        if (self->table.count >= ALERTS_MAX) {
            self->left_out++;
            return;
        }
        alert = s_new (sight->rule->severity, sight->rule->name, sight->topic);
        alert->row.since_ms = self->wall_ms;
        ef_hash_insert (&self->table, alert);
        s_see_bad (self, alert, sight);
        if (alert->row.state == ALERT_PENDING) {
            s_change (self, alert, ALERT_PENDING, ALERT_PENDED);
        }
    } else if (alert && sight->look == ALERT_BAD) {
        s_see_bad (self, alert, sight);
    } else if (alert && sight->look == ALERT_BETWEEN) {
        alert->good_ms = 0;
    } else if (alert) {
        alert->bad_ms = 0;
        alert->good_ms = alert->good_ms ? alert->good_ms : self->now_ms;
        if (alert->row.state == ALERT_PENDING ||
            self->now_ms - alert->good_ms >= self->options->clear_ms) {
            s_remove (self, alert);
            return;
        }
    }
    if (alert) {
        alert->round = self->round;
        s_remind (self, alert);
    }
}

void
alerts_end (alerts_t *self, bool is_whole) {
    alert_t *alert;
    for (uint32_t at = 0; is_whole && (alert = ef_hash_next (&self->table, &at)) != NULL;) {
        if (alert->round == 0) {
            alert->round = self->round; /* restored */
        }
        if (alert->round + GONE_ROUNDS < self->round) {
            s_remove (self, alert);
            at = 0; /* a removal moves others */
        }
    }
    self->round += is_whole;
}

uint32_t
alerts_firing (const alerts_t *self) {
    const alert_t *alert;
    uint32_t count = 0;
    for (uint32_t at = 0; (alert = ef_hash_next (&self->table, &at)) != NULL;) {
        count += alert->row.state == ALERT_FIRING;
    }
    return count;
}

const char *
alert_change_name (alert_change_t change) {
    static const char *const names[] = {"pending", "dropped", "firing", "reminder", "resolved"};
    return names[change];
}

const char *
alert_state_name (uint32_t state) {
    static const char *const names[] = {"pending", "firing", "resolved"};
    return names[state < 3 ? state : 2];
}
