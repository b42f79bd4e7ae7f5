/* Looking up single dead letters. SPDX-License-Identifier: MIT

   The main journal forgets what died once its segments go; its letters remain. And where it says
   that an event died and the letter has left, it was purged here: a replayed one goes on under
   another number, which the finder has found. */
#include "dead_private.h"
#include "finder_private.h"

#include <stdlib.h>

static bool
s_is (const ef_letter_body_t *body, const ef_question_t *question) {
    ef_event_t event;
    const char *why;
    ef_cursor_t cursor = ef_cursor (body->event.data, body->event.size);
    return question->kind == EF_FIND_NUMBER ||
           (ef_event_read (&cursor, &event, &why) == EF_OK && event.id.size == question->id_size &&
            memcmp (event.id.data, question->id, question->id_size) == 0);
}

static ef_found_t *
s_known (const ef_question_t *question, const char *topic, uint64_t n) {
    for (uint32_t i = 0; i < question->count; i++) {
        if (question->items[i].n == n && strcmp (question->items[i].topic, topic) == 0) {
            return &question->items[i];
        }
    }
    return NULL;
}

static void
s_put_superseded (ef_found_t *found, const ef_letter_body_t *body) {
    found->superseded_bytes = body->superseded.size < EF_ID_MAX ? body->superseded.size : EF_ID_MAX;
    memcpy (found->superseded, body->superseded.data, found->superseded_bytes);
}

static void
s_add (ef_question_t *question, const char *topic, const ef_letter_body_t *body) {
    ef_found_t *found = finder_add (question);
    memcpy (found->topic, topic, sizeof found->topic);
    found->n = body->letter.n;
    found->state = EF_STATE_DEAD;
    found->when_ms = body->letter.dead_ms;
    found->reason = (ef_reason_t)body->letter.reason;
    found->attempts = body->letter.attempts;
    found->accepted_ms = body->accepted_ms;
    s_put_superseded (found, body);
    ef_buf_put (&found->event, body->event.data, body->event.size);
    finder_add_history (found, body->history);
}

/* Adds the letters of one topic that are meant and aren't known from the log. */
static void
s_find (ef_question_t *question, dead_topic_t *topic, uint64_t print) {
    bool is_number = question->kind == EF_FIND_NUMBER;
    for (uint32_t i = 0; i < ef_dead_log_count (topic->log); i++) {
        const ef_letter_t *letter = ef_dead_log_at (topic->log, i);
        ef_letter_body_t body;
        if (letter->is_leaving || question->count >= EF_FIND_ITEMS_MAX ||
            (is_number ? letter->n != question->n : letter->print != print) ||
            s_known (question, topic->topic, letter->n) ||
            ef_dead_log_read (topic->log, letter, &body)) {
            continue;
        }
        if (s_is (&body, question)) {
            s_add (question, topic->topic, &body);
        }
        free (body.bytes);
    }
}

static const ef_letter_t *
s_letter (const dead_topic_t *topic, uint64_t n) {
    for (uint32_t i = 0; topic && i < ef_dead_log_count (topic->log); i++) {
        if (ef_dead_log_at (topic->log, i)->n == n) {
            return ef_dead_log_at (topic->log, i);
        }
    }
    return NULL;
}

/* What its letter says of an event that the log knows to be dead. */
static void
s_look_at_letter (ef_dead_letters_t *self, ef_found_t *item) {
    ef_letter_body_t body;
    dead_topic_t *topic = dead_topic_find (self, item->topic, strlen (item->topic));
    const ef_letter_t *letter = s_letter (topic, item->n);
    if (letter == NULL) {
        item->state = EF_STATE_PURGED; /* while it is on its way here the core knows better */
        item->when_ms = 0;
    } else if (letter->is_superseded && ef_dead_log_read (topic->log, letter, &body) == 0) {
        s_put_superseded (item, &body);
        free (body.bytes);
    }
}

void
ef_dead_find (ef_dead_letters_t *self, ef_question_t *question) {
    uint64_t print = ef_dead_log_print (question->id, question->id_size);
    for (uint32_t i = 0; i < question->count; i++) {
        if (question->items[i].state == EF_STATE_DEAD) {
            s_look_at_letter (self, &question->items[i]);
        }
    }
    for (uint32_t i = 0; i < self->topic_count; i++) {
        if (question->topic[0] == 0 || strcmp (question->topic, self->topics[i].topic) == 0) {
            s_find (question, &self->topics[i], print);
        }
    }
}
