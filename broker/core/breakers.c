/* The breakers of a topic: one for each downstream that its events name or its workers tell of, and
   its own for events that name none. SPDX-License-Identifier: MIT

   Events whose downstream is left alone wait behind a gate of its name and burn no attempt; those
   for others go on. An event that names none, but failed because of one, is tied to it from then
   on, so that it can be its probe. */
#include "core_private.h"

#include <stdio.h>

static const void *
s_breaker_name (const void *item, size_t *size) {
    const breaker_t *breaker = item;
    *size = breaker->size;
    return breaker->name;
}

static const void *
s_tie_n (const void *item, size_t *size) {
    *size = sizeof (uint64_t);
    return &((const tie_t *)item)->n;
}

void
breakers_init (ef_core_t *self, topic_t *topic) {
    ef_hash_init (&topic->breakers, self->key, s_breaker_name);
    ef_hash_init_numbers (&topic->ties, self->key, s_tie_n);
}

void
breakers_free (topic_t *topic) {
    breaker_t *breaker;
    tie_t *tie;
    for (uint32_t at = 0; (breaker = ef_hash_next (&topic->breakers, &at)) != NULL;) {
        free (breaker);
    }
    for (uint32_t at = 0; (tie = ef_hash_next (&topic->ties, &at)) != NULL;) {
        free (tie);
    }
    ef_hash_free (&topic->breakers);
    ef_hash_free (&topic->ties);
}

/* What is named longer than this is cut: it names a host. */
static ef_span_t
s_cut (ef_span_t name) {
    return span_of (name.data, name.size < EF_ID_MAX ? name.size : EF_ID_MAX);
}

breaker_t *
breaker_find (const topic_t *topic, ef_span_t name) {
    return ef_hash_find (&topic->breakers, name.data ? name.data : "", s_cut (name).size);
}

/* NULL: the topic has as many as it may have. */
breaker_t *
breaker_require (topic_t *topic, ef_span_t name) {
    breaker_t *breaker = breaker_find (topic, name);
    if (breaker || topic->breakers.count >= EF_BREAKERS_MAX) {
        return breaker;
    }
    breaker = calloc (1, sizeof *breaker);
    ef_assert (breaker != NULL);
    breaker->size = s_cut (name).size;
    if (breaker->size) {
        memcpy (breaker->name, name.data, breaker->size);
    }
    ef_hash_insert (&topic->breakers, breaker);
    return breaker;
}

/* The one that an event must pass; NULL: none. */
breaker_t *
breaker_of (topic_t *topic, uint64_t n, ef_span_t downstream) {
    const tie_t *tie = topic->ties.count ? ef_hash_find (&topic->ties, &n, sizeof n) : NULL;
    if (tie) {
        return tie->breaker;
    }
    return breaker_require (topic, downstream);
}

static void
s_tie (topic_t *topic, uint64_t n, breaker_t *breaker) {
    tie_t *tie = ef_hash_find (&topic->ties, &n, sizeof n);
    if (tie == NULL) {
        tie = calloc (1, sizeof *tie);
        ef_assert (tie != NULL);
        tie->n = n;
        ef_hash_insert (&topic->ties, tie);
    }
    tie->breaker = breaker;
}

void
tie_free (topic_t *topic, uint64_t n) {
    tie_t *tie = topic->ties.count ? ef_hash_find (&topic->ties, &n, sizeof n) : NULL;
    if (tie) {
        ef_hash_remove (&topic->ties, tie);
        free (tie);
    }
}

bool
breaker_allows (const ef_core_t *self, const topic_t *topic, const breaker_t *breaker) {
    return topic->config.breaker.ratio <= 0 || breaker == NULL ||
           ef_breaker_allows (&breaker->state, &topic->config.breaker, self->now);
}

static ef_moment_t
s_moment (const ef_core_t *self) {
    return (ef_moment_t){self->now, self->wall};
}

void
breaker_write (const topic_t *topic, const breaker_t *breaker, ef_buf_t *buf) {
    size_t mark = ef_record_begin (buf, EF_LOG_BREAKER, 0, EF_BREAKER_HEADER);
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    ef_le32_put (header, topic->index);
    ef_le32_put (header + 4, breaker->size);
    ef_breaker_put (&breaker->state, header + 8);
    memset (header + 8 + EF_BREAKER_BYTES, 0, EF_BREAKER_HEADER - 8 - EF_BREAKER_BYTES);
    ef_buf_put (buf, breaker->name, breaker->size);
    ef_record_end (buf, mark);
}

/* Into a segment's beginning: those of which there is something to know. */
void
breakers_write (const topic_t *topic, ef_buf_t *buf) {
    const breaker_t *breaker;
    for (uint32_t at = 0; (breaker = ef_hash_next (&topic->breakers, &at)) != NULL;) {
        const ef_breaker_t *state = &breaker->state;
        if (state->state != EF_BREAKER_CLOSED || state->hand != EF_HAND_AUTO ||
            state->cooldown_ms || state->opened) {
            breaker_write (topic, breaker, buf);
        }
    }
}

/* Lets those that wait go on, as many as may. */
static void
s_let (ef_core_t *self, topic_t *topic, breaker_t *breaker) {
    gate_t *gate = gate_find (self, topic, GATE_DOWNSTREAM, span_of (breaker->name, breaker->size));
    if (gate && breaker_allows (self, topic, breaker)) {
        bool is_closed =
            ef_breaker_state (&breaker->state, &topic->config.breaker) == EF_BREAKER_CLOSED;
        gate_open (self, topic, gate, is_closed ? UINT32_MAX : topic->config.breaker.probes);
    }
}

static void
s_tell (ef_core_t *self, const topic_t *topic, const breaker_t *breaker) {
    char text[200];
    uint32_t calls;
    uint32_t failures;
    const char *name = breaker->size ? breaker->name : "the topic's own";
    ef_breaker_counts (&breaker->state, &topic->config.breaker, self->now, &calls, &failures);
    if (breaker->state.hand != EF_HAND_AUTO) {
        snprintf (text, sizeof text, "%s held %s by hand", name,
                  ef_hand_name (breaker->state.hand));
    } else if (breaker->state.state == EF_BREAKER_OPEN && breaker->state.cooldown_ms == 0) {
        snprintf (text, sizeof text, "%s no longer held open by hand", name);
    } else if (breaker->state.state == EF_BREAKER_OPEN) {
        snprintf (text, sizeof text, "%s open for %u ms: %u of %u failed", name,
                  breaker->state.cooldown_ms, failures, calls);
    } else {
        snprintf (text, sizeof text, "%s %s", name, ef_breaker_state_name (breaker->state.state));
    }
    self->effects.notify (self->effects.arg, "breaker", topic->config.name, text);
}

static void
s_changed (ef_core_t *self, topic_t *topic, breaker_t *breaker) {
    breaker_write (topic, breaker, batch_buf (self));
    topic->breakers_next_ms = 1; /* to be looked at in the next turn */
    s_tell (self, topic, breaker);
    s_let (self, topic, breaker);
}

/* What went out has come back. `told` is the downstream that the worker named. */
void
breakers_outcome (ef_core_t *self, topic_t *topic, item_t *item, ef_span_t told,
                  breaker_outcome_t outcome) {
    const ef_breaker_config_t *config = &topic->config.breaker;
    breaker_t *breaker = item->breaker;
    bool is_probe = item->flags & ITEM_PROBE;
    item->flags &= (uint16_t)~ITEM_PROBE;
    item->breaker = NULL;
    if (told.size && config->ratio > 0 && breaker != breaker_require (topic, told)) {
        if (breaker) { /* it was another one that answered */
            ef_breaker_returned (&breaker->state, is_probe);
            s_let (self, topic, breaker);
        }
        breaker = breaker_require (topic, told);
        is_probe = false;
    }
    if (breaker == NULL) {
        return;
    }
    if (outcome == OUTCOME_NONE) {
        ef_breaker_returned (&breaker->state, is_probe);
    } else if (ef_breaker_outcome (&breaker->state, config, is_probe, outcome == OUTCOME_FAILED,
                                   s_moment (self))) {
        s_changed (self, topic, breaker);
        return;
    }
    s_let (self, topic, breaker);
}

/* A failure that names a downstream which is left alone already says nothing new of the event: it
   waits for it, uncounted. `*breaker` is that downstream's then. */
bool
breakers_excuse (const ef_core_t *self, topic_t *topic, const item_t *item, ef_span_t told,
                 breaker_t **breaker) {
    *breaker = topic->config.breaker.ratio > 0 && told.data && told.size
                   ? breaker_find (topic, told)
                   : NULL;
    (void)self;
    if (*breaker == NULL || ((item->flags & ITEM_PROBE) && item->breaker == *breaker)) {
        return false;
    }
    return ef_breaker_state (&(*breaker)->state, &topic->config.breaker) != EF_BREAKER_CLOSED;
}

/* The event waits for its downstream. */
void
breaker_wait (ef_core_t *self, topic_t *topic, entry_t *entry, breaker_t *breaker) {
    gate_t *gate =
        gate_require (self, topic, GATE_DOWNSTREAM, span_of (breaker->name, breaker->size));
    s_tie (topic, entry->n, breaker);
    gate_wait (self, gate, entry);
}

/* Lets probes go whose time has come. Returns when to look again, monotonic. */
uint64_t
breakers_tick (ef_core_t *self, topic_t *topic) {
    uint64_t next = UINT64_MAX;
    breaker_t *breaker;
    for (uint32_t at = 0; (breaker = ef_hash_next (&topic->breakers, &at)) != NULL;) {
        if (breaker->state.state != EF_BREAKER_CLOSED || topic->config.breaker.ratio <= 0) {
            s_let (self, topic, breaker);
            uint64_t due = ef_breaker_next_ms (&breaker->state, &topic->config.breaker, self->now);
            next = due > self->now && due < next ? due : next;
        }
    }
    return next;
}

void
breakers_start (ef_core_t *self, topic_t *topic) {
    breaker_t *breaker;
    for (uint32_t at = 0; (breaker = ef_hash_next (&topic->breakers, &at)) != NULL;) {
        ef_breaker_start (&breaker->state, s_moment (self));
    }
}

int
breaker_load (topic_t *topic, const ef_record_t *record) {
    uint32_t size = ef_le32 (record->body + 4);
    if (record->body_bytes < EF_BREAKER_HEADER + (uint64_t)size || size > EF_ID_MAX) {
        return -1;
    }
    breaker_t *breaker =
        breaker_require (topic, span_of (record->body + record->header_bytes,
                                         record->body_bytes - record->header_bytes));
    return breaker ? ef_breaker_get (&breaker->state, record->body + 8) : 0;
}

ef_status_t
ef_core_set_breaker (ef_core_t *self, uint32_t index, ef_span_t downstream, ef_hand_t hand) {
    topic_t *topic = index < self->topic_count ? self->topics[index] : NULL;
    breaker_t *breaker = topic ? breaker_require (topic, downstream) : NULL;
    if (breaker == NULL) {
        return topic ? EF_FULL : EF_NOT_FOUND;
    }
    if (ef_breaker_set (&breaker->state, hand, s_moment (self))) {
        s_changed (self, topic, breaker);
    }
    return EF_OK;
}

uint64_t
breakers_digest (const topic_t *topic) {
    uint64_t sum = 0;
    const breaker_t *breaker;
    for (uint32_t at = 0; (breaker = ef_hash_next (&topic->breakers, &at)) != NULL;) {
        uint8_t bytes[EF_BREAKER_BYTES];
        ef_breaker_put (&breaker->state, bytes);
        static const uint64_t key[2] = {1, 2};
        sum += ef_siphash (key, bytes, sizeof bytes) * (breaker->state.opened > 0);
    }
    return sum;
}
