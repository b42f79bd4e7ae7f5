/* The finder's inside: finder.c asks, story.c gathers, finder_list.c lists.
   SPDX-License-Identifier: MIT */
#ifndef EF_FINDER_PRIVATE_H
#define EF_FINDER_PRIVATE_H

#include "finder.h"

#define STORY_EVENTS 256 /* gathered at a time */

/* A place in the log. */
typedef struct {
    uint32_t segment;
    uint32_t offset;
} story_place_t;

/* What the index says of one event. */
typedef struct {
    bool is_known; /* its record is there; the next fields say where */
    bool is_copy;
    bool is_returned;
    bool is_invalid;
    bool is_done;
    bool is_dead;
    bool is_purged;
    story_place_t place;
    uint32_t index;
    uint64_t accepted_ms;
    uint64_t done_ms;
    uint64_t dead_ms;
    uint32_t reason;
    uint32_t attempts;
    story_place_t result; /* segment 0: none */
} story_t;

/* The records of an event's attempts, the first and the last ones. */
typedef struct {
    uint32_t count; /* of all */
    story_place_t first[EF_HISTORY_FIRST];
    story_place_t last[EF_HISTORY_LAST]; /* a ring behind the first ones */
} story_attempts_t;

/* story.c: gathers what all segments say of n to n + count - 1. `attempts` only for one event; may
   be NULL. */
void story_gather (ef_lookup_t *lookup, const char *topic, uint64_t n, uint32_t count,
                   story_t *stories, story_attempts_t *attempts);
ef_state_t story_state (const story_t *story, uint64_t *when_ms);

/* finder.c */
const uint8_t *finder_record (ef_finder_t *self, uint32_t segment, uint32_t offset);
/* Fills an item with the event, as its record has it. False: it can't be read. */
bool finder_take (ef_finder_t *self, const char *topic, uint64_t n, const story_t *story,
                  ef_found_t *found);
ef_found_t *finder_add (ef_question_t *question);
void finder_remove_last (ef_question_t *question);
/* The items of an array of attempts. */
void finder_add_history (ef_found_t *found, ef_span_t array);

/* finder_list.c */
void finder_list (ef_finder_t *self, ef_question_t *question);

#endif
