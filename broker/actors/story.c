/* What the index of the log says of events. SPDX-License-Identifier: MIT */
#include "../core/log_records.h"
#include "finder_private.h"

#include <string.h>

typedef struct {
    uint64_t n;
    uint32_t count;
    story_t *stories;
    story_attempts_t *attempts; /* NULL: not wanted */
    uint32_t segment;           /* where the facts come from */
} gather_t;

/* The events that a fact is about, as places in the stories. */
static uint32_t
s_overlap (const gather_t *self, const ef_fact_t *fact, uint32_t *first) {
    uint64_t from = fact->n > self->n ? fact->n : self->n;
    uint64_t end = fact->n + fact->value;
    end = end < self->n + self->count ? end : self->n + self->count;
    *first = (uint32_t)(from - self->n);
    return end > from ? (uint32_t)(end - from) : 0;
}

static int
s_events (void *arg, const ef_fact_t *fact) {
    gather_t *self = arg;
    uint32_t first;
    uint32_t count = s_overlap (self, fact, &first);
    for (uint32_t i = first; i < first + count; i++) {
        story_t *story = &self->stories[i];
        story->is_known = true;
        story->is_copy = false;
        story->place = (story_place_t){self->segment, fact->offset};
        story->index = (uint32_t)(self->n + i - fact->n);
        story->accepted_ms = fact->ms;
    }
    return 0;
}

static int
s_ends (void *arg, const ef_fact_t *fact) {
    gather_t *self = arg;
    uint32_t first;
    uint32_t count = s_overlap (self, fact, &first);
    for (uint32_t i = first; i < first + count; i++) {
        self->stories[i].is_done = true;
        self->stories[i].done_ms = fact->ms;
    }
    return 0;
}

static void
s_copy (gather_t *self, story_t *story, const ef_fact_t *fact) {
    story->is_known = story->is_copy = true;
    story->is_returned = story->is_returned || (fact->flags & EF_FACT_RETURNED);
    story->is_invalid = story->is_invalid || (fact->flags & EF_FACT_INVALID);
    story->place = (story_place_t){self->segment, fact->offset};
    story->index = fact->index;
    story->accepted_ms = fact->ms;
    story->attempts = fact->value > story->attempts ? fact->value : story->attempts;
}

static void
s_attempt (gather_t *self, story_t *story, const ef_fact_t *fact) {
    story_attempts_t *attempts = self->attempts;
    story->attempts = fact->value > story->attempts ? fact->value : story->attempts;
    if (attempts) {
        story_place_t place = {self->segment, fact->offset};
        if (attempts->count < EF_HISTORY_FIRST) {
            attempts->first[attempts->count] = place;
        } else {
            attempts->last[(attempts->count - EF_HISTORY_FIRST) % EF_HISTORY_LAST] = place;
        }
        attempts->count++;
    }
}

static int
s_points (void *arg, const ef_fact_t *fact) {
    gather_t *self = arg;
    story_t *story = &self->stories[fact->n - self->n];
    switch (fact->type) {
    case EF_LOG_COPIES: s_copy (self, story, fact); break;
    case EF_LOG_ATTEMPT: s_attempt (self, story, fact); break;
    case EF_LOG_DEAD:
        story->is_dead = true;
        story->dead_ms = fact->ms;
        story->reason = fact->value;
        break;
    case EF_LOG_PURGE: story->is_purged = true; break;
    case EF_LOG_RESULT: story->result = (story_place_t){self->segment, fact->offset}; break;
    default: break;
    }
    return 0;
}

/* Those that a purge spared ended or died later, or a list names them. */
static int
s_purges (void *arg, const ef_fact_t *fact) {
    gather_t *self = arg;
    for (uint32_t i = 0; i < self->count && self->n + i <= fact->n; i++) {
        self->stories[i].is_purged = true;
    }
    return 0;
}

static void
s_gather_part (gather_t *self, ef_sidecar_t *part, const char *topic) {
    static int (*const takes[EF_FACT_CLASSES]) (void *, const ef_fact_t *) = {
        [EF_FACT_EVENTS] = s_events,
        [EF_FACT_ENDS] = s_ends,
        [EF_FACT_POINTS] = s_points,
        [EF_FACT_PURGES] = s_purges,
    };
    int number = ef_sidecar_topic (part, topic);
    for (unsigned class = 0; number >= 0 && class < EF_FACT_CLASSES; class ++) {
        (void)ef_sidecar_facts (part, (ef_fact_class_t) class, (uint32_t)number, self->n,
                                self->n + self->count - 1, takes[class], self);
    }
}

void
story_gather (ef_lookup_t *lookup, const char *topic, uint64_t n, uint32_t count, story_t *stories,
              story_attempts_t *attempts) {
    gather_t self = {n, count, stories, attempts, 0};
    memset (stories, 0, count * sizeof *stories);
    if (attempts) {
        memset (attempts, 0, sizeof *attempts);
    }
    for (uint32_t at = 0; at < lookup->count; at++) {
        uint32_t parts = ef_lookup_parts (lookup, at);
        self.segment = lookup->segments[at].id;
        for (uint32_t i = 0; i < parts; i++) {
            ef_sidecar_t *part = ef_lookup_part (lookup, at, i);
            if (part) {
                s_gather_part (&self, part, topic);
                ef_lookup_check (lookup, at, part);
            }
        }
    }
}

ef_state_t
story_state (const story_t *story, uint64_t *when_ms) {
    *when_ms = 0;
    if (story->is_done) {
        *when_ms = story->done_ms;
        return EF_STATE_DONE;
    }
    if (story->is_dead || story->is_invalid) {
        *when_ms = story->is_dead ? story->dead_ms : story->accepted_ms;
        return EF_STATE_DEAD;
    }
    return story->is_purged ? EF_STATE_PURGED : EF_STATE_READY;
}
