/* The finder's thread, and events by id or number. SPDX-License-Identifier: MIT */
#include "../base/log.h"
#include "../core/log_records.h"
#include "../journal/kept.h"
#include "finder_private.h"

#include <errno.h>
#include <stdlib.h>

#define WORK_BYTES     (1u << 20) /* read between two looks at the ring */
#define WORK_SHARE     15         /* while the journal is busy: so many times the work is rested */
#define CANDIDATES_MAX 1000       /* places of one fingerprint that are looked at */
#define TRIES          3          /* of a question, where parts of the index turn out wrong */

ef_question_t *
ef_question_new (ef_find_kind_t kind) {
    ef_question_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->kind = kind;
    self->state = -1;
    self->until_ms = UINT64_MAX;
    self->limit = EF_LIST_ITEMS;
    return self;
}

void
ef_question_clear (ef_question_t *self) {
    for (uint32_t i = 0; i < self->count; i++) {
        ef_buf_free (&self->items[i].event);
        ef_buf_free (&self->items[i].history);
        ef_buf_free (&self->items[i].result);
    }
    free (self->items);
    self->items = NULL;
    self->count = 0;
}

void
ef_question_destroy (ef_question_t **self_p) {
    if (*self_p) {
        ef_question_clear (*self_p);
        free (*self_p);
        *self_p = NULL;
    }
}

void
ef_question_forget (ef_question_t *self) {
    free (self->token);
    ef_question_destroy (&self);
}

ef_found_t *
finder_add (ef_question_t *question) {
    if ((question->count & (question->count - 1)) == 0) { /* full: capacity is a power of two */
        size_t capacity = question->count ? 2 * (size_t)question->count : 1;
        question->items = realloc (question->items, capacity * sizeof *question->items);
        ef_assert (question->items != NULL);
    }
    ef_found_t *found = &question->items[question->count++];
    memset (found, 0, sizeof *found);
    return found;
}

void
finder_remove_last (ef_question_t *question) {
    ef_found_t *found = &question->items[question->count - 1];
    ef_buf_free (&found->event);
    ef_buf_free (&found->history);
    ef_buf_free (&found->result);
    question->count--;
}

static void
s_close (ef_finder_t *self) {
    if (self->file >= 0) {
        self->storage->close (self->storage, self->file);
    }
    self->file = -1;
}

static bool
s_open (ef_finder_t *self, uint32_t segment) {
    char name[24];
    if (self->file >= 0 && self->file_segment == segment) {
        return true;
    }
    s_close (self);
    ef_wal_segment_name (segment, name);
    self->file = self->storage->open (self->storage, name);
    if (self->file == -ENOENT) {
        ef_kept_name (segment, name);
        self->file = self->storage->open (self->storage, name);
    }
    self->file_segment = segment;
    return self->file >= 0;
}

/* A record, whole and checked; borrowed until the next call. NULL: it isn't there. */
const uint8_t *
finder_record (ef_finder_t *self, uint32_t segment, uint32_t offset) {
    uint8_t head[EF_RECORD_HEAD];
    if (self->record_segment == segment && self->record_offset == offset) {
        return self->record;
    }
    self->record_segment = 0;
    if (!s_open (self, segment) ||
        self->storage->read (self->storage, self->file, head, sizeof head, offset) !=
            (int64_t)sizeof head) {
        return NULL;
    }
    uint32_t bytes = ef_le32 (head);
    if (bytes < EF_RECORD_HEAD || bytes > EF_RECORD_MAX) {
        return NULL;
    }
    self->record = realloc (self->record, bytes);
    ef_assert (self->record != NULL);
    if (self->storage->read (self->storage, self->file, self->record, bytes, offset) !=
            (int64_t)bytes ||
        !ef_record_is_whole (self->record, bytes, segment, offset)) {
        return NULL;
    }
    self->record_segment = segment;
    self->record_offset = offset;
    return self->record;
}

void
finder_add_history (ef_found_t *found, ef_span_t array) {
    ef_cursor_t cursor = ef_cursor (array.data, array.size);
    uint32_t count;
    if (array.size > 0 && ef_get_array (&cursor, &count) == 0) {
        ef_buf_put (&found->history, cursor.at, ef_cursor_left (&cursor));
        found->history_count += count;
    }
}

bool
finder_take (ef_finder_t *self, const char *topic, uint64_t n, const story_t *story,
             ef_found_t *found) {
    const uint8_t *head = finder_record (self, story->place.segment, story->place.offset);
    uint8_t type = story->is_copy ? EF_LOG_COPIES : EF_LOG_EVENTS;
    ef_live_t live = {.is_copy = story->is_copy, .index = story->index, .count = 1, .n = n};
    if (head == NULL || head[20] != type || story->index >= ef_le32 (head + EF_RECORD_HEAD + 4) ||
        ef_core_walk_event (head, &live, &found->accepted_ms, &found->event)) {
        return false;
    }
    uint64_t first = ef_le64 (head + EF_RECORD_HEAD + 8);
    if ((story->is_copy ? live.n - 1 : first + story->index) != n) {
        return false;
    }
    memcpy (found->topic, topic, sizeof found->topic);
    found->n = n;
    found->segment = story->place.segment;
    found->offset = story->place.offset;
    found->index = story->index;
    found->is_copy = story->is_copy;
    found->is_returned = story->is_returned;
    found->state = story_state (story, &found->when_ms);
    found->reason = story->is_invalid ? EF_REASON_INVALID : (ef_reason_t)story->reason;
    found->attempts = story->attempts;
    if (story->is_copy) {
        finder_add_history (found, live.copy_history);
    }
    return true;
}

/* What is said behind the place of the newest copy: that copy has the rest. */
static void
s_take_attempt (ef_finder_t *self, ef_found_t *found, story_place_t place) {
    bool is_behind = place.segment > found->segment ||
                     (place.segment == found->segment && place.offset > found->offset);
    const uint8_t *head =
        !found->is_copy || is_behind ? finder_record (self, place.segment, place.offset) : NULL;
    if (head && head[20] == EF_LOG_ATTEMPT) {
        uint32_t header = EF_RECORD_HEAD + (uint32_t)ef_le16 (head + 22);
        if (header < ef_le32 (head)) {
            ef_buf_put (&found->history, head + header, ef_le32 (head) - header);
            found->history_count++;
        }
    }
}

static void
s_take_attempts (ef_finder_t *self, ef_found_t *found, const story_attempts_t *attempts) {
    uint32_t first = attempts->count < EF_HISTORY_FIRST ? attempts->count : EF_HISTORY_FIRST;
    uint32_t rest = attempts->count - first;
    for (uint32_t i = 0; i < first; i++) {
        s_take_attempt (self, found, attempts->first[i]);
    }
    for (uint32_t i = rest > EF_HISTORY_LAST ? rest - EF_HISTORY_LAST : 0; i < rest; i++) {
        s_take_attempt (self, found, attempts->last[i % EF_HISTORY_LAST]);
    }
}

static void
s_take_result (ef_finder_t *self, ef_found_t *found, story_place_t place) {
    const uint8_t *head = place.segment ? finder_record (self, place.segment, place.offset) : NULL;
    if (head && head[20] == EF_LOG_RESULT) {
        uint32_t header = EF_RECORD_HEAD + (uint32_t)ef_le16 (head + 22);
        uint32_t bytes = ef_le32 (head);
        ef_buf_put (&found->result, head + header, bytes > header ? bytes - header : 0);
    }
}

/* Adds one event with its whole story. False: it isn't there. */
static bool
s_find_number (ef_finder_t *self, ef_question_t *question, const char *topic, uint64_t n) {
    story_t story;
    story_attempts_t attempts;
    story_gather (&self->lookup, topic, n, 1, &story, &attempts);
    if (!story.is_known) {
        return false;
    }
    ef_found_t *found = finder_add (question);
    if (!finder_take (self, topic, n, &story, found)) {
        finder_remove_last (question);
        return false;
    }
    s_take_attempts (self, found, &attempts);
    s_take_result (self, found, story.result);
    return true;
}

/* A place that a fingerprint names. */
typedef struct {
    uint32_t segment;
    uint32_t at; /* of the segment in the lookup */
    uint32_t part;
    ef_sidecar_id_t id;
} candidate_t;

typedef struct {
    candidate_t *items; /* owned */
    uint32_t count;
    candidate_t here; /* where ids come from now */
    uint32_t index;   /* that a base's event has */
} candidates_t;

static int
s_candidate (void *arg, const ef_sidecar_id_t *id) {
    candidates_t *self = arg;
    if (self->count == CANDIDATES_MAX) {
        return 1;
    }
    candidate_t *item = &self->items[self->count++];
    *item = self->here;
    item->id = *id;
    return 0;
}

/* The id as the 16 bytes of a UUID in its usual form. False: it isn't one. */
static bool
s_uuid (const ef_question_t *question, uint8_t uuid[16]) {
    static const char digits[] = "0123456789abcdef";
    unsigned half = 0;
    if (question->id_size != 36) {
        return false;
    }
    for (unsigned i = 0; i < 36; i++) {
        bool is_dash = i == 8 || i == 13 || i == 18 || i == 23;
        const char *digit = strchr (digits, question->id[i]);
        if (is_dash ? question->id[i] != '-' : question->id[i] == 0 || digit == NULL) {
            return false;
        }
        if (!is_dash) {
            uint8_t value = (uint8_t)(digit - digits);
            uuid[half / 2] = half % 2 ? (uint8_t)(uuid[half / 2] | value) : (uint8_t)(value << 4);
            half++;
        }
    }
    return true;
}

/* All places of the id, newest segments first. */
static void
s_gather_places (ef_finder_t *self, const ef_question_t *question, candidates_t *found) {
    uint8_t uuid[16];
    bool is_uuid = s_uuid (question, uuid);
    for (uint32_t at = self->lookup.count; at > 0; at--) {
        uint32_t parts = ef_lookup_parts (&self->lookup, at - 1);
        for (uint32_t i = parts; i > 0; i--) {
            ef_sidecar_t *part = ef_lookup_part (&self->lookup, at - 1, i - 1);
            if (part == NULL) {
                continue;
            }
            found->here = (candidate_t){.segment = part->segment, .at = at - 1, .part = i - 1};
            const uint8_t *key = part->journal_id;
            (void)ef_sidecar_ids (part, ef_sidecar_print (key, question->id, question->id_size),
                                  s_candidate, found);
            if (is_uuid) {
                found->index = (uint32_t)uuid[14] << 8 | uuid[15];
                (void)ef_sidecar_ids (part, ef_sidecar_base_print (key, uuid), s_candidate, found);
            }
            ef_lookup_check (&self->lookup, at - 1, part);
        }
    }
}

/* The event at a place, where it bears the id that is looked for: its topic and number. */
static bool
s_judge (ef_finder_t *self, const ef_question_t *question, const candidates_t *all,
         const candidate_t *item, char topic[EF_TOPIC_NAME_BYTES], uint64_t *n) {
    bool is_copy = item->id.index & EF_SIDECAR_COPY;
    uint32_t index =
        item->id.index & EF_SIDECAR_BASE ? all->index : item->id.index & EF_SIDECAR_INDEX;
    const uint8_t *head = finder_record (self, item->segment, item->id.offset);
    ef_live_t live = {.is_copy = is_copy, .index = index, .count = 1};
    ef_buf_t bytes = {0};
    ef_event_t event;
    uint64_t accepted;
    const char *why;
    if (head == NULL || head[20] != (is_copy ? EF_LOG_COPIES : EF_LOG_EVENTS) ||
        index >= ef_le32 (head + EF_RECORD_HEAD + 4) ||
        ef_core_walk_event (head, &live, &accepted, &bytes)) {
        ef_buf_free (&bytes);
        return false;
    }
    ef_cursor_t cursor = ef_cursor (bytes.data, bytes.size);
    bool is_it = ef_event_read (&cursor, &event, &why) == EF_OK &&
                 event.id.size == question->id_size &&
                 memcmp (event.id.data, question->id, question->id_size) == 0;
    ef_buf_free (&bytes);
    *n = is_copy ? live.n - 1 : ef_le64 (head + EF_RECORD_HEAD + 8) + index;
    ef_sidecar_t *part = is_it ? ef_lookup_part (&self->lookup, item->at, item->part) : NULL;
    is_it = part && ef_sidecar_topic_name (part, ef_le32 (head + EF_RECORD_HEAD), topic);
    if (part) {
        ef_lookup_check (&self->lookup, item->at, part);
    }
    return is_it;
}

/* A letter that was replayed goes on under another number: the dead one isn't told of. */
static void
s_drop_replayed (ef_question_t *question) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < question->count; i++) {
        ef_found_t *item = &question->items[i];
        bool is_replayed = false;
        for (uint32_t k = 0; k < question->count && item->state == EF_STATE_DEAD; k++) {
            const ef_found_t *other = &question->items[k];
            is_replayed = is_replayed || (other->is_returned && other->n > item->n &&
                                          strcmp (other->topic, item->topic) == 0);
        }
        ef_found_t found = *item;
        *item = question->items[kept];
        question->items[kept] = found;
        kept += !is_replayed;
    }
    while (question->count > kept) {
        finder_remove_last (question);
    }
}

static bool
s_is_known (const ef_question_t *question, const char *topic, uint64_t n) {
    for (uint32_t i = 0; i < question->count; i++) {
        if (question->items[i].n == n && strcmp (question->items[i].topic, topic) == 0) {
            return true;
        }
    }
    return false;
}

static void
s_find_id (ef_finder_t *self, ef_question_t *question) {
    candidates_t all = {.items = malloc (CANDIDATES_MAX * sizeof (candidate_t))};
    ef_assert (all.items != NULL);
    s_gather_places (self, question, &all);
    for (uint32_t i = 0; i < all.count && question->count < EF_FIND_ITEMS_MAX; i++) {
        char topic[EF_TOPIC_NAME_BYTES];
        uint64_t n;
        if (s_judge (self, question, &all, &all.items[i], topic, &n) &&
            (question->topic[0] == 0 || strcmp (question->topic, topic) == 0) &&
            !s_is_known (question, topic, n)) {
            (void)s_find_number (self, question, topic, n); /* gone meanwhile: not found */
        }
    }
    free (all.items);
    s_drop_replayed (question);
}

/* An event by its number; where it died and was replayed, what goes on of it. */
static void
s_find_by_number (ef_finder_t *self, ef_question_t *question) {
    if (!s_find_number (self, question, question->topic, question->n) ||
        question->items[0].state != EF_STATE_DEAD) {
        return;
    }
    ef_event_t event;
    const char *why;
    ef_cursor_t cursor = ef_cursor (question->items[0].event.data, question->items[0].event.size);
    if (ef_event_read (&cursor, &event, &why) != EF_OK || event.id.size > EF_ID_MAX ||
        event.id.size == 0) {
        return; /* refused at ingress: whatever it was */
    }
    ef_question_t *by_id = ef_question_new (EF_FIND_ID);
    by_id->id_size = event.id.size;
    memcpy (by_id->id, event.id.data, event.id.size);
    memcpy (by_id->topic, question->topic, sizeof by_id->topic);
    s_find_id (self, by_id);
    for (uint32_t i = 0; i < by_id->count; i++) {
        ef_found_t *item = &by_id->items[i];
        if (!s_is_known (by_id, question->topic, question->n) && item->is_returned &&
            item->n > question->n) {
            ef_question_clear (question);
            *finder_add (question) = *item;
            memset (item, 0, sizeof *item);
            break;
        }
    }
    ef_question_destroy (&by_id);
}

static void
s_ask (ef_finder_t *self, ef_question_t *question) {
    switch (question->kind) {
    case EF_FIND_ID: s_find_id (self, question); break;
    case EF_FIND_NUMBER: s_find_by_number (self, question); break;
    case EF_FIND_LIST: finder_list (self, question); break;
    default: break;
    }
}

void
ef_finder_answer (ef_finder_t *self, ef_question_t *question) {
    char cursor[EF_CURSOR_BYTES];
    memcpy (cursor, question->cursor, sizeof cursor);
    uint64_t durable = atomic_load (&self->durable);
    self->lookup.is_held = atomic_load (&self->is_held);
    ef_lookup_durable (&self->lookup, (uint32_t)(durable >> 32), (uint32_t)durable);
    for (unsigned i = 0; i < TRIES; i++) {
        self->lookup.is_spoilt = false;
        ef_question_clear (question);
        memcpy (question->cursor, cursor, sizeof cursor);
        s_ask (self, question);
        if (!self->lookup.is_spoilt) {
            break;
        }
    }
    s_close (self);
    self->record_segment = 0; /* its segment may go */
}

/* Makes sidecars piece by piece. Returns when to go on. */
static uint64_t
s_work (ef_finder_t *self) {
    uint64_t durable = atomic_load (&self->durable);
    uint64_t begin = ef_mono_ns ();
    self->lookup.is_held = atomic_load (&self->is_held);
    ef_lookup_durable (&self->lookup, (uint32_t)(durable >> 32), (uint32_t)durable);
    if (!ef_lookup_work (&self->lookup, WORK_BYTES)) {
        return UINT64_MAX;
    }
    uint64_t groups = self->groups ? atomic_load (self->groups) : 0;
    bool is_busy = groups != self->groups_seen;
    self->groups_seen = groups;
    uint64_t end = ef_mono_ns ();
    return is_busy ? (end + WORK_SHARE * (end - begin)) / 1000000 + 1 : end / 1000000;
}

static uint64_t
s_step (void *arg) {
    ef_finder_t *self = arg;
    while (self->unsent == NULL || ef_actor_answer (&self->actor, self->unsent)) {
        self->unsent = ef_ring_pop (&self->actor.in);
        if (self->unsent == NULL) {
            return s_work (self);
        }
        if (!atomic_load (&self->actor.is_stopping)) {
            ef_finder_answer (self, self->unsent);
        }
    }
    return ef_mono_ms () + 10;
}

int
ef_finder_open (ef_finder_t *self, ef_storage_t *storage) {
    self->storage = storage;
    self->file = -1;
    return ef_lookup_init (&self->lookup, storage);
}

int
ef_finder_start (ef_finder_t *self, ef_waker_t *owner) {
    return ef_actor_start (&self->actor, "finder", owner, s_step, self);
}

void
ef_finder_stop (ef_finder_t *self) {
    ef_question_t *question;
    ef_actor_stop (&self->actor);
    while ((question = ef_ring_pop (&self->actor.in)) != NULL ||
           (question = ef_ring_pop (&self->actor.out)) != NULL) {
        ef_question_forget (question);
    }
    if (self->unsent) {
        ef_question_forget (self->unsent);
    }
    if (self->storage) {
        s_close (self);
        ef_lookup_free (&self->lookup);
    }
    free (self->record);
    self->record = NULL;
}

void
ef_finder_durable (ef_finder_t *self, uint32_t segment, uint32_t offset) {
    uint64_t before = atomic_load (&self->durable);
    atomic_store (&self->durable, (uint64_t)segment << 32 | offset);
    if (before >> 32 != segment && self->actor.is_running) {
        ef_actor_poke (&self->actor);
    }
}

void
ef_finder_hold (ef_finder_t *self, bool is_held) {
    if (atomic_exchange (&self->is_held, is_held) != is_held && !is_held) {
        ef_actor_poke (&self->actor);
    }
}
