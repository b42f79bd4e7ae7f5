/* Why an event isn't running now. SPDX-License-Identifier: MIT

   The first thing that stands in its way, from the event itself outwards: its own state, its gate,
   its topic, those who could take it. */
#include "core_private.h"

#include <stdarg.h>
#include <stdio.h>

typedef struct {
    ef_core_t *core;
    topic_t *topic;
    const entry_t *entry; /* NULL: in an extent, or out without one */
    uint64_t n;
    ef_state_t state;
    const char *reason; /* a word */
    char text[400];
    uint64_t until_ms; /* wall clock; 0: nobody knows */
    uint64_t since_ms;
    uint64_t blocker; /* event that has its key; 0: none */
    char worker[EF_NAME_MAX + 8];
} explain_t;

static bool s_say (explain_t *self, const char *reason, const char *format, ...) EF_PRINTF (3, 4);

/* Always true: there is a reason now. */
static bool
s_say (explain_t *self, const char *reason, const char *format, ...) {
    va_list arguments;
    self->reason = reason;
    va_start (arguments, format);
    vsnprintf (self->text, sizeof self->text, format, arguments);
    va_end (arguments);
    return true;
}

static uint64_t
s_wall_of (const ef_core_t *core, uint64_t mono_ms) {
    return core->wall + (mono_ms > core->now ? mono_ms - core->now : 0);
}

static bool
s_explain_lease (explain_t *self) {
    lease_t *lease;
    const item_t *item = lease_find_event (self->core, self->topic, self->n, &lease);
    if (item == NULL) {
        return false;
    }
    self->state = EF_STATE_LEASED;
    self->since_ms = lease->started_ms;
    self->until_ms = s_wall_of (self->core, item->deadline_ms);
    snprintf (self->worker, sizeof self->worker, "%s", lease->worker->name);
    char pid[32] = "";
    if (lease->worker->pid) {
        snprintf (pid, sizeof pid, " (pid %llu)", (unsigned long long)lease->worker->pid);
    }
    return s_say (self, "leased", "it is with worker %s%s%s%s", lease->worker->name,
                  lease->worker->host[0] ? " on " : "", lease->worker->host, pid);
}

static bool
s_explain_wait (explain_t *self) {
    const entry_t *entry = self->entry;
    const ef_topic_config_t *config = &self->topic->config;
    bool is_waiting = self->state == EF_STATE_SCHEDULED || self->state == EF_STATE_RETRYING;
    self->until_ms = is_waiting ? entry->due_ms : 0;
    if (self->state == EF_STATE_SCHEDULED) {
        return s_say (self, "scheduled", "its time hasn't come");
    }
    if (self->state == EF_STATE_RETRYING && (entry->flags & ENTRY_INSERTING)) {
        return s_say (self, "insertion", "its topic was full; try %u of %u to insert it comes next",
                      entry->tries + 1, config->insert_attempts);
    }
    if (self->state == EF_STATE_RETRYING && entry->due_ms <= self->core->wall) {
        self->until_ms =
            s_wall_of (self->core, ef_budget_next_ms (&self->topic->budget, config->retry_budget,
                                                      self->core->now));
        return s_say (self, "retry_budget",
                      "its next attempt is due; the topic has used up its share of retries");
    }
    if (self->state == EF_STATE_RETRYING) {
        return s_say (self, "backoff", "attempt %u of %u has failed; it waits for the next",
                      entry->tries, config->retry.attempts);
    }
    if (self->state == EF_STATE_PARKED) {
        return s_say (self, "parked",
                      "attempt %u has failed and its key is parked until an operator acts",
                      entry->tries);
    }
    if (self->state == EF_STATE_DEAD) {
        return s_say (self, "dead", "it is dead (%s) and on its way to the dead letters",
                      ef_reason_name ((ef_reason_t)entry->reason));
    }
    return false;
}

/* Who has its key, and what keeps that one. */
static bool
s_explain_key (explain_t *self, const gate_t *gate) {
    const entry_t *owner = entry_find (self->topic, gate->owner);
    const char *state = owner ? ef_state_name ((ef_state_t)owner->state) : "leased or just ended";
    bool is_waiting = owner && owner->state == EF_STATE_RETRYING;
    self->blocker = gate->owner;
    self->since_ms = gate->since_ms;
    self->until_ms = is_waiting ? owner->due_ms : 0;
    if (self->topic->config.order == EF_ORDER_TOPIC) {
        return s_say (self, "key", "event %llu is before it (%s), and all go one by one",
                      (unsigned long long)gate->owner, state);
    }
    return s_say (self, "key", "event %llu with the same key %.*s is before it (%s)",
                  (unsigned long long)gate->owner, (int)gate->size - 1,
                  (const char *)gate->name + 1, state);
}

static bool
s_explain_breaker (explain_t *self, const breaker_t *breaker) {
    const ef_breaker_config_t *config = &self->topic->config.breaker;
    uint64_t next = ef_breaker_next_ms (&breaker->state, config, self->core->now);
    self->until_ms = next == UINT64_MAX ? 0 : s_wall_of (self->core, next);
    return s_say (self, "breaker", "the breaker of %s is %s",
                  breaker->size ? breaker->name : "its topic",
                  ef_breaker_state_name (ef_breaker_state (&breaker->state, config)));
}

/* Whose quota it is: a user's or a key's, that of all events without one, the topic's. */
static bool
s_explain_quota (explain_t *self, const gate_t *gate) {
    const ef_quota_config_t *config = &self->topic->config.quota;
    const char *all = config->by == EF_BY_USER  ? "what names no user"
                      : config->by == EF_BY_KEY ? "what has no key"
                                                : "the topic";
    self->until_ms = gate->until_ms == UINT64_MAX ? 0 : gate->until_ms;
    return s_say (self, "quota", "%s%.*s has used up its quota of %u", gate->label_size ? "" : all,
                  (int)gate->label_size, (const char *)gate->name + gate->size, config->limit);
}

static bool
s_explain_gate (explain_t *self) {
    if (self->entry == NULL || !(self->entry->flags & ENTRY_GATED)) {
        return false;
    }
    const gate_t *gate = self->entry->gate;
    ef_span_t name = span_of (gate->name + 1, gate->size - 1u);
    switch ((gate_kind_t)gate->name[0]) {
    case GATE_KEY: return s_explain_key (self, gate);
    case GATE_DOWNSTREAM: {
        const breaker_t *breaker = breaker_find (self->topic, name);
        ef_assert (breaker != NULL);
        return s_explain_breaker (self, breaker);
    }
    case GATE_QUOTA: return s_explain_quota (self, gate);
    case GATE_UNIT: return s_say (self, "not_durable", "its unit of the quota is being journaled");
    case GATE_TURN:
        return s_say (self, "behind", "%s%.*s waits for its turn among others",
                      name.size ? "" : "what names none", (int)name.size, name.data);
    default: return false;
    }
}

/* Those who take from the topic, and why none of them can. */
static bool
s_explain_workers (explain_t *self) {
    const topic_t *topic = self->topic;
    if (topic->workers == 0) {
        return s_say (self, "no_worker", "no worker takes from topic %s", topic->config.name);
    }
    if (topic->queues[0] || topic->queues[1]) {
        return false;
    }
    uint32_t unhealthy = 0;
    uint32_t position = 0;
    const char *why = "";
    const worker_t *worker;
    while ((worker = ef_hash_next (&self->core->workers, &position)) != NULL) {
        for (uint32_t i = 0; i < worker->sub_count; i++) {
            unhealthy += worker->subs[i].topic == topic &&
                         (worker->is_unhealthy || worker->is_draining || worker->is_stuck);
            why = worker->subs[i].topic == topic && worker->is_unhealthy ? worker->unhealthy : why;
        }
    }
    if (topic->unwell == topic->workers) {
        return s_say (self, "unhealthy", "%s unwell: %s",
                      topic->workers == 1 ? "its one worker is" : "all of its workers are", why);
    }
    if (unhealthy == 0) {
        return s_say (self, "no_credit", "%s has all that it wants in hand",
                      topic->workers == 1 ? "its one worker" : "each of its workers");
    }
    return s_say (self, "no_credit",
                  "none of %u workers has room for more (%u are leaving, unhealthy or can't be "
                  "reached)",
                  topic->workers, unhealthy);
}

static bool
s_explain_topic (explain_t *self) {
    const ef_core_t *core = self->core;
    const topic_t *topic = self->topic;
    const ef_topic_config_t *config = &topic->config;
    uint64_t in_hand =
        topic->counts[EF_STATE_LEASED] + topic->counts[EF_STATE_RETRYING] - topic->inserting;
    if (core->is_draining) {
        return s_say (self, "draining", "the broker is ending and hands out nothing more");
    }
    if (topic->is_paused) {
        return s_say (self, "paused", "topic %s is paused", config->name);
    }
    if (space_for_deliveries (core, topic) == 0) {
        return s_say (self, "disk", "the disk is full: nothing is handed out until there is room");
    }
    if (s_explain_workers (self)) {
        return true;
    }
    if (in_hand >= config->retry_capacity) {
        return s_say (self, "capacity", "%llu events are leased or retrying, as many as may be",
                      (unsigned long long)in_hand);
    }
    if (config->rate > 0 && ef_bucket_next_ms (&topic->rate, core->now) > core->now) {
        self->until_ms = s_wall_of (core, ef_bucket_next_ms (&topic->rate, core->now));
        bool is_slow = config->rate < 1;
        return s_say (self, "rate", "topic %s hands out %g a %s", config->name,
                      is_slow ? config->rate * 60 : config->rate, is_slow ? "minute" : "second");
    }
    if (topic->is_scan_stopped) {
        return s_say (self, "behind", "%llu events wait behind keys; no more are looked at",
                      (unsigned long long)topic->blocked);
    }
    return false;
}

static bool
s_explain_place (explain_t *self) {
    topic_t *topic = self->topic;
    ef_extent_at_t at;
    const ef_extent_t *first = ef_extents_first (&topic->extents, &at);
    const entry_t *top = ef_heap_top (&topic->ready);
    for (uint32_t i = 0; self->entry && i < topic->avoid_count; i++) {
        if (topic->avoids[i].n == self->n && topic->avoids[i].until_ms > self->core->now) {
            self->until_ms = s_wall_of (self->core, topic->avoids[i].until_ms);
            return s_say (self, "avoided", "it is kept %s worker %s for a while",
                          topic->avoids[i].is_only ? "for" : "from", topic->avoids[i].worker);
        }
    }
    if (self->entry && (self->entry->flags & ENTRY_SUSPECT)) {
        return s_say (self, "suspect", "a worker died with it: it waits for one that is idle");
    }
    uint64_t ahead = first && first->n < self->n ? first->n : 0;
    ahead = top && top->n < self->n && (ahead == 0 || top->n < ahead) ? top->n : ahead;
    if (ahead) {
        return s_say (self, "behind", "earlier events go first, from number %llu on",
                      (unsigned long long)ahead);
    }
    return s_say (self, "cold", "it is next; its bytes are being read");
}

static void
s_put (const explain_t *self, ef_buf_t *out) {
    ef_put_map (out, 4u + (self->until_ms > 0) + (self->since_ms > 0) + (self->blocker > 0) +
                         (self->worker[0] != 0));
    ef_put_key_str (out, "state", ef_state_name (self->state));
    ef_put_key_str (out, "reason", self->reason);
    ef_put_key_str (out, "text", self->text);
    ef_put_key_uint (out, "attempts",
                     self->entry && !(self->entry->flags & ENTRY_INSERTING) ? self->entry->tries
                                                                            : 0);
    if (self->until_ms) {
        ef_put_key_uint (out, "until", self->until_ms);
    }
    if (self->since_ms) {
        ef_put_key_uint (out, "since", self->since_ms);
    }
    if (self->blocker) {
        ef_put_key_uint (out, "behind", self->blocker);
    }
    if (self->worker[0]) {
        ef_put_key_str (out, "worker", self->worker);
    }
}

ef_status_t
ef_core_explain (ef_core_t *self, uint32_t index, uint64_t n, ef_buf_t *out) {
    topic_t *topic = index < self->topic_count ? self->topics[index] : NULL;
    ef_extent_at_t at;
    if (topic == NULL) {
        return EF_NOT_FOUND;
    }
    explain_t explain = {.core = self,
                         .topic = topic,
                         .entry = entry_find (topic, n),
                         .n = n,
                         .state = EF_STATE_READY};
    if (explain.entry) {
        explain.state = (ef_state_t)explain.entry->state;
    }
    bool is_known = s_explain_lease (&explain);
    if (!is_known && explain.entry == NULL && ef_extents_find (&topic->extents, n, &at) == NULL) {
        return EF_NOT_FOUND;
    }
    is_known = is_known || (explain.entry && s_explain_wait (&explain)) ||
               s_explain_gate (&explain) || s_explain_topic (&explain) ||
               s_explain_place (&explain);
    ef_assert (is_known);
    s_put (&explain, out);
    return EF_OK;
}
