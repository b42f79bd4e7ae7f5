/* Listing events, page by page. SPDX-License-Identifier: MIT

   In the order of the log, oldest first: what is accepted or copied while somebody pages on comes
   behind what was seen, so nothing that stays is missed. Each event stands at the place of its
   newest copy. A page is bounded by events, bytes and time, and may come back short, or empty, with
   a cursor. */
#include "../core/log_records.h"
#include "../core/pattern.h"
#include "finder_private.h"

#include <stdio.h>
#include <stdlib.h>

#define PAGE_BYTES (1u << 20)      /* of events, and one more */
#define PAGE_NS    (20u * 1000000) /* and one more chunk of STORY_EVENTS */

typedef struct {
    ef_finder_t *finder;
    ef_question_t *question;
    uint32_t at; /* place of the segment */
    uint32_t segment;
    uint32_t part;
    ef_fact_t key; /* next to be looked at */
    uint64_t bytes;
    uint64_t end_ns;
    bool is_full;
} list_t;

/* Events of one topic that stand close to each other. */
typedef struct {
    char topic[EF_TOPIC_NAME_BYTES];
    uint64_t n;
    uint32_t count;
    bool is_copy;
    bool is_wanted[STORY_EVENTS];
    story_t stories[STORY_EVENTS];
} chunk_t;

static void
s_read_cursor (list_t *self, const char *cursor) {
    unsigned segment = 0;
    unsigned part = 0;
    unsigned class = 0;
    unsigned topic = 0;
    unsigned long long n = 0;
    if (sscanf (cursor, "%u.%u.%u.%u.%llu", &segment, &part, &class, &topic, &n) == 5) {
        self->segment = segment;
        self->part = part;
        self->key = (ef_fact_t){.class = (uint8_t) class, .topic = (uint16_t)topic, .n = n};
    }
}

static void
s_write_cursor (const list_t *self) {
    snprintf (self->question->cursor, EF_CURSOR_BYTES, "%u.%u.%u.%u.%llu", self->segment,
              self->part, self->key.class, self->key.topic, (unsigned long long)self->key.n);
}

static bool
s_is_in_time (const ef_question_t *question, uint64_t accepted_ms) {
    return accepted_ms >= question->since_ms && accepted_ms <= question->until_ms;
}

/* What the log alone can tell: who has ended isn't live. */
static bool
s_may_be (const ef_question_t *question, const story_t *story) {
    uint64_t when;
    ef_state_t state = story_state (story, &when);
    bool is_end = question->state == EF_STATE_DONE || question->state == EF_STATE_DEAD ||
                  question->state == EF_STATE_PURGED;
    return question->state < 0 ||
           (is_end ? (int)state == question->state : state == EF_STATE_READY);
}

static bool
s_has_type (const ef_question_t *question, const ef_buf_t *bytes) {
    ef_event_t event;
    const char *why;
    ef_cursor_t cursor = ef_cursor (bytes->data, bytes->size);
    return question->type[0] == 0 ||
           (ef_event_read (&cursor, &event, &why) == EF_OK && event.type.data &&
            ef_pattern_matches (question->type, event.type.data, event.type.size));
}

static void
s_take (list_t *self, const chunk_t *chunk, uint32_t i) {
    ef_question_t *question = self->question;
    const story_t *story = &chunk->stories[i];
    if (!chunk->is_wanted[i] || !story->is_known || story->is_copy != chunk->is_copy ||
        story->place.segment != self->segment || !s_is_in_time (question, story->accepted_ms) ||
        !s_may_be (question, story)) {
        return;
    }
    ef_found_t *found = finder_add (question);
    if (!finder_take (self->finder, chunk->topic, chunk->n + i, story, found) ||
        !s_has_type (question, &found->event)) {
        finder_remove_last (question);
        return;
    }
    self->bytes += found->event.size;
    self->is_full = question->count >= question->limit || self->bytes >= PAGE_BYTES;
}

/* Looks at a chunk; the key stands behind what was looked at then. */
static void
s_take_chunk (list_t *self, chunk_t *chunk) {
    story_gather (&self->finder->lookup, chunk->topic, chunk->n, chunk->count, chunk->stories,
                  NULL);
    for (uint32_t i = 0; i < chunk->count && !self->is_full; i++) {
        s_take (self, chunk, i);
        self->key.n = chunk->n + i + 1;
    }
    self->is_full = self->is_full || ef_mono_ns () >= self->end_ns;
}

/* The events of a record, or copies whose numbers are near each other, from the key on, which moves
   behind them. False: there are none among these facts. */
static bool
s_next_chunk (list_t *self, ef_sidecar_t *part, const ef_fact_t *fact, uint32_t place,
              chunk_t *chunk) {
    memset (chunk->is_wanted, 0, sizeof chunk->is_wanted);
    chunk->is_copy = fact->class == EF_FACT_POINTS;
    chunk->n = fact->n;
    chunk->count = 0;
    if (!chunk->is_copy) {
        uint64_t skip = self->key.n > fact->n ? self->key.n - fact->n : 0;
        uint32_t left = skip < fact->value ? fact->value - (uint32_t)skip : 0;
        chunk->n += skip;
        chunk->count = left < STORY_EVENTS ? left : STORY_EVENTS;
        memset (chunk->is_wanted, 1, chunk->count * sizeof chunk->is_wanted[0]);
        self->key.n = chunk->n + (chunk->count ? chunk->count : 1);
    }
    ef_fact_t next = *fact;
    while (chunk->is_copy && next.class == fact->class && next.topic == fact->topic &&
           next.n - chunk->n < STORY_EVENTS) {
        bool is_event = next.type == EF_LOG_COPIES && s_is_in_time (self->question, next.ms);
        chunk->count = is_event ? (uint32_t)(next.n - chunk->n) + 1 : chunk->count;
        chunk->is_wanted[next.n - chunk->n] |= is_event;
        self->key.n = next.n + 1;
        if (!ef_sidecar_at (part, ++place, &next)) {
            break;
        }
    }
    return chunk->count > 0 && ef_sidecar_topic_name (part, fact->topic, chunk->topic);
}

/* Moves the key past what the filters leave out. True: the fact is one to look at. */
static bool
s_is_candidate (list_t *self, const ef_fact_t *fact, int topic) {
    if (fact->class == EF_FACT_ENDS) {
        self->key = (ef_fact_t){.class = EF_FACT_POINTS};
        return false;
    }
    if (topic >= 0 && fact->topic != (uint16_t)topic) {
        self->key = fact->topic < (uint16_t)topic
                        ? (ef_fact_t){.class = fact->class, .topic = (uint16_t)topic}
                        : (ef_fact_t){.class = (uint8_t)(fact->class + 1)};
        return false;
    }
    bool is_key = self->key.class == fact->class && self->key.topic == fact->topic;
    uint64_t n = is_key && self->key.n > fact->n ? self->key.n : fact->n;
    self->key = (ef_fact_t){.class = fact->class, .topic = fact->topic, .n = n};
    if (fact->class == EF_FACT_EVENTS && !s_is_in_time (self->question, fact->ms)) {
        self->key.n = fact->n + fact->value;
        return false;
    }
    return true;
}

/* The fact at the key, or the one before it where that reaches over it, or the next. */
static bool
s_at_key (list_t *self, ef_sidecar_t *part, uint32_t *place, ef_fact_t *fact) {
    *place = ef_sidecar_seek (part, &self->key);
    if (*place > 0 && *place != UINT32_MAX && self->key.class == EF_FACT_EVENTS &&
        ef_sidecar_at (part, *place - 1, fact) && fact->class == EF_FACT_EVENTS &&
        fact->topic == self->key.topic && fact->n + fact->value > self->key.n) {
        --*place;
        return true;
    }
    return *place != UINT32_MAX && ef_sidecar_at (part, *place, fact) &&
           fact->class < EF_FACT_PURGES;
}

static void
s_list_part (list_t *self) {
    ef_lookup_t *lookup = &self->finder->lookup;
    chunk_t *chunk = malloc (sizeof *chunk);
    ef_assert (chunk != NULL);
    ef_sidecar_t *part;
    while (!self->is_full && (part = ef_lookup_part (lookup, self->at, self->part)) != NULL) {
        ef_fact_t fact;
        uint32_t place;
        ef_sidecar_settle (part);
        int topic = self->question->topic[0] ? ef_sidecar_topic (part, self->question->topic) : -1;
        bool is_missed = self->question->topic[0] && topic < 0;
        bool is_late = part->first_ms > self->question->until_ms;
        bool is_early = part->last_ms < self->question->since_ms;
        bool is_any = !is_missed && !is_late && !is_early && s_at_key (self, part, &place, &fact);
        bool is_chunk = is_any && s_is_candidate (self, &fact, topic) &&
                        s_next_chunk (self, part, &fact, place, chunk);
        ef_lookup_check (lookup, self->at, part);
        if (!is_any || lookup->is_spoilt) {
            break;
        }
        if (is_chunk) {
            s_take_chunk (self, chunk);
        }
    }
    free (chunk);
}

void
finder_list (ef_finder_t *self, ef_question_t *question) {
    list_t list = {.finder = self, .question = question, .end_ns = ef_mono_ns () + PAGE_NS};
    ef_lookup_t *lookup = &self->lookup;
    s_read_cursor (&list, question->cursor);
    question->cursor[0] = 0;
    for (list.at = ef_lookup_find (lookup, list.segment); list.at < lookup->count; list.at++) {
        if (list.segment != lookup->segments[list.at].id) {
            list.segment = lookup->segments[list.at].id;
            list.part = 0;
            list.key = (ef_fact_t){0};
        }
        uint32_t parts = ef_lookup_parts (lookup, list.at);
        while (list.part < parts && !lookup->is_spoilt) {
            s_list_part (&list);
            if (list.is_full) {
                s_write_cursor (&list);
                return;
            }
            list.part++;
            list.key = (ef_fact_t){0};
        }
        list.is_full = ef_mono_ns () >= list.end_ns;
    }
}
