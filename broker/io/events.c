/* Events by id, by number and in lists: asked of the finder, completed with what the core knows.
   SPDX-License-Identifier: MIT

   What the log says lags behind what the core has decided by what isn't durable yet, so a question
   waits until all is durable that was decided before it: an answer is never older than the counts
   that its asker has seen. Where the log has an event as live and the core doesn't know it, its end
   has come meanwhile and is on the way: the question is asked again behind the next sync. */
#include "router_private.h"

#include <stdio.h>
#include <stdlib.h>

#define TRIES_MAX 3 /* each behind a sync */

typedef struct command_s command_t;

/* Whom an answer is for, and how it is made. */
typedef struct {
    ef_peer_t peer; /* a copy */
    const command_t *command;
    uint64_t due_ms;          /* DELAY */
    bool is_date;             /* DELAY: to a date, not by a while */
    char to[EF_NAME_MAX + 8]; /* RELEASE: to that worker alone */
    unsigned tries;
    uint64_t lsn;                 /* waited for, before it is asked */
    char cursor[EF_CURSOR_BYTES]; /* as it was asked */
} token_t;

/* Asks the finder once all is durable that was decided so far. */
static void
s_ask (ef_router_t *self, ef_question_t *question) {
    token_t *token = question->token;
    token->lsn = ef_core_written_lsn (self->core);
    outbox_add (&self->event_waits, question);
    router_event_durable (self);
}

/* An event id: str or bin, or {"topic", "n"}. 0 or -1. */
static int
s_read_id (ef_cursor_t *cursor, ef_question_t *question) {
    ef_span_t span;
    uint32_t pairs;
    unsigned seen = 0;
    if (ef_peek (cursor) != EF_TYPE_MAP) {
        if (ef_get_bytes (cursor, &span) || span.size == 0 || span.size > EF_ID_MAX) {
            return -1;
        }
        question->id_size = span.size;
        memcpy (question->id, span.data, span.size);
        return 0;
    }
    question->kind = EF_FIND_NUMBER;
    int rc = ef_get_map (cursor, &pairs);
    for (uint32_t i = 0; rc == 0 && i < pairs; i++) {
        ef_span_t key;
        rc = ef_get_str (cursor, &key);
        if (rc == 0 && ef_span_is (key, "topic")) {
            rc = ef_get_str (cursor, &span) || span.size >= sizeof question->topic ? -1 : 0;
            if (rc == 0) {
                ef_span_copy (span, question->topic, sizeof question->topic);
                seen |= 1;
            }
        } else if (rc == 0 && ef_span_is (key, "n")) {
            rc = ef_get_uint (cursor, &question->n);
            seen |= 2;
        } else {
            rc = rc ? rc : ef_skip (cursor);
        }
    }
    return rc == 0 && seen == 3 ? 0 : -1;
}

static int
s_read_text (ef_cursor_t *cursor, char *text, size_t size) {
    ef_span_t span;
    if (ef_get_str (cursor, &span) || span.size >= size) {
        return -1;
    }
    ef_span_copy (span, text, size);
    return 0;
}

static int
s_state (ef_span_t name) {
    for (unsigned i = 0; i < EF_STATE_COUNT; i++) {
        if (ef_span_is (name, ef_state_name ((ef_state_t)i))) {
            return (int)i;
        }
    }
    return -1;
}

static int
s_read_state (ef_cursor_t *cursor, ef_question_t *question) {
    ef_span_t text;
    if (ef_get_str (cursor, &text)) {
        return -1;
    }
    question->state = s_state (text);
    return question->state < 0 ? -1 : 0;
}

static int
s_read_limit (ef_cursor_t *cursor, ef_question_t *question) {
    uint64_t limit;
    if (ef_get_uint (cursor, &limit) || limit == 0) {
        return -1;
    }
    question->limit = limit < EF_LIST_ITEMS_MAX ? (uint32_t)limit : EF_LIST_ITEMS_MAX;
    return 0;
}

static int
s_read_due (ef_cursor_t *cursor, bool is_date, token_t *token) {
    uint64_t ms;
    if (ef_get_uint (cursor, &ms)) {
        return -1;
    }
    uint64_t now = ef_wall_ms ();
    token->is_date = is_date;
    token->due_ms = is_date ? ms : ms < UINT64_MAX - now ? now + ms : UINT64_MAX;
    return 0;
}

/* Options of a single event. */
static int
s_read_detail (ef_cursor_t *cursor, ef_span_t key, token_t *token) {
    if (ef_span_is (key, "to")) {
        return s_read_text (cursor, token->to, sizeof token->to);
    }
    bool is_date = ef_span_is (key, "at");
    return is_date || ef_span_is (key, "delay") ? s_read_due (cursor, is_date, token)
                                                : ef_skip (cursor);
}

static int
s_read_option (ef_cursor_t *cursor, ef_span_t key, ef_question_t *question) {
    if (ef_peek (cursor) == EF_TYPE_NIL) {
        return ef_get_nil (cursor);
    }
    if (ef_span_is (key, "topic") && question->kind != EF_FIND_NUMBER) {
        return s_read_text (cursor, question->topic, sizeof question->topic);
    }
    if (question->kind != EF_FIND_LIST) {
        return s_read_detail (cursor, key, question->token);
    }
    if (ef_span_is (key, "type")) {
        return s_read_text (cursor, question->type, sizeof question->type);
    }
    if (ef_span_is (key, "after")) {
        return s_read_text (cursor, question->cursor, sizeof question->cursor);
    }
    if (ef_span_is (key, "state")) {
        return s_read_state (cursor, question);
    }
    if (ef_span_is (key, "since")) {
        return ef_get_uint (cursor, &question->since_ms);
    }
    if (ef_span_is (key, "until")) {
        return ef_get_uint (cursor, &question->until_ms);
    }
    return ef_span_is (key, "limit") ? s_read_limit (cursor, question) : ef_skip (cursor);
}

static int
s_read_options (ef_cursor_t *cursor, ef_question_t *question) {
    uint32_t pairs;
    if (ef_cursor_left (cursor) == 0) {
        return 0;
    }
    int rc = ef_get_map (cursor, &pairs);
    for (uint32_t i = 0; rc == 0 && i < pairs; i++) {
        ef_span_t key;
        rc = ef_get_str (cursor, &key);
        rc = rc ? rc : s_read_option (cursor, key, question);
    }
    return rc;
}

static ef_status_t
s_cancel (ef_core_t *core, uint32_t topic, uint64_t n, const token_t *token) {
    (void)token;
    return ef_core_cancel (core, topic, n);
}

static ef_status_t
s_delay (ef_core_t *core, uint32_t topic, uint64_t n, const token_t *token) {
    return ef_core_delay (core, topic, n, token->due_ms, token->is_date);
}

static ef_status_t
s_run (ef_core_t *core, uint32_t topic, uint64_t n, const token_t *token) {
    (void)token;
    return ef_core_run_now (core, topic, n);
}

static ef_status_t
s_release (ef_core_t *core, uint32_t topic, uint64_t n, const token_t *token) {
    return ef_core_release (core, topic, n, token->to);
}

struct command_s {
    const char *name;
    ef_find_kind_t kind;
    bool explains;
    bool needs_due;
    ef_status_t (*change) (ef_core_t *core, uint32_t topic, uint64_t n, const token_t *token);
    const char *usage;
    const char *unfit; /* why the event's state doesn't allow it */
};

static const command_t s_commands[] = {
    {"EVENT.SHOW", EF_FIND_ID, false, false, NULL,
     "expected [\"EVENT.SHOW\", id or {topic, n}, {topic}?]", NULL},
    {"EVENT.EXPLAIN", EF_FIND_ID, true, false, NULL,
     "expected [\"EVENT.EXPLAIN\", id or {topic, n}, {topic}?]", NULL},
    {"EVENT.CANCEL", EF_FIND_ID, false, false, s_cancel,
     "expected [\"EVENT.CANCEL\", id or {topic, n}, {topic}?]",
     "a worker has it: EVENT.RELEASE takes it back"},
    {"EVENT.DELAY", EF_FIND_ID, false, true, s_delay,
     "expected [\"EVENT.DELAY\", id or {topic, n}, {at ms or delay ms, topic?}]",
     "a worker has it: EVENT.RELEASE takes it back"},
    {"EVENT.RUN", EF_FIND_ID, false, false, s_run,
     "expected [\"EVENT.RUN\", id or {topic, n}, {topic}?]",
     "it isn't held back by a time or a failure; EVENT.EXPLAIN says what it waits for"},
    {"EVENT.RELEASE", EF_FIND_ID, false, false, s_release,
     "expected [\"EVENT.RELEASE\", id or {topic, n}, {to worker, topic}?]", "no worker has it"},
    {"EVENTS", EF_FIND_LIST, false, false, NULL,
     "expected [\"EVENTS\", {topic, state, type, since ms, until ms, limit, after}?]", NULL},
};

const char *
router_event_ask (ef_router_t *self, const ef_peer_t *peer, ef_cursor_t request,
                  ef_status_t *status) {
    ef_span_t name = {NULL, 0};
    uint32_t items;
    int rc = ef_get_array (&request, &items) || ef_get_str (&request, &name) ? -1 : 0;
    const command_t *command = s_commands;
    while (rc == 0 && !ef_span_is (name, command->name)) {
        command++; /* the table of admin.c knows no others */
    }
    token_t *token = calloc (1, sizeof *token);
    ef_assert (token != NULL);
    token->peer = *peer;
    token->command = command;
    ef_question_t *question = ef_question_new (command->kind);
    question->token = token;
    rc = rc || question->kind == EF_FIND_LIST ? rc : s_read_id (&request, question);
    rc = rc ? rc : s_read_options (&request, question);
    if (rc || (command->needs_due && token->due_ms == 0)) {
        ef_question_forget (question);
        *status = EF_BAD_COMMAND;
        return command->usage;
    }
    if (question->topic[0] &&
        ef_core_find_topic (self->core, question->topic, strlen (question->topic)) < 0) {
        ef_question_forget (question);
        *status = EF_NOT_FOUND;
        return "no such topic";
    }
    memcpy (token->cursor, question->cursor, sizeof token->cursor);
    s_ask (self, question);
    return NULL;
}

/* The id as it stands in the event: str, bin or nil. */
static void
s_put_id (ef_buf_t *out, const ef_buf_t *event) {
    ef_cursor_t cursor = ef_cursor (event->data, event->size);
    uint32_t fields;
    int rc = ef_get_array (&cursor, &fields) || ef_skip (&cursor) ? -1 : 0;
    const uint8_t *start = cursor.at;
    if (rc || ef_skip (&cursor)) {
        ef_put_nil (out);
    } else {
        ef_buf_put (out, start, (size_t)(cursor.at - start));
    }
}

/* What the log says of an event that isn't live. */
static uint32_t
s_put_end (ef_buf_t *out, const ef_found_t *found) {
    uint32_t pairs = 2;
    ef_put_key_str (out, "state", ef_state_name (found->state));
    ef_put_key_uint (out, "attempts", found->attempts);
    if (found->when_ms) {
        ef_put_key_uint (out, "ended", found->when_ms);
        pairs++;
    }
    if (found->state == EF_STATE_DEAD) {
        ef_put_key_str (out, "reason",
                        found->reason < EF_REASON_COUNT ? ef_reason_name (found->reason) : "none");
        pairs++;
    }
    if (found->state == EF_STATE_DEAD && found->superseded_bytes > 0) {
        ef_put_str (out, "superseded");
        ef_put_strn (out, found->superseded, found->superseded_bytes);
        pairs++;
    }
    if (found->result.size) {
        ef_put_str (out, "result");
        ef_buf_put (out, found->result.data, found->result.size);
        pairs++;
    }
    return pairs;
}

/* The state that the core's map tells; -1: none. */
static int
s_live_state (const ef_buf_t *live) {
    ef_cursor_t cursor = ef_cursor (live->data, live->size);
    uint32_t pairs;
    ef_span_t key;
    ef_span_t value;
    int rc = ef_get_map (&cursor, &pairs);
    for (uint32_t i = 0; rc == 0 && i < pairs; i++) {
        rc = ef_get_str (&cursor, &key);
        if (rc == 0 && ef_span_is (key, "state")) {
            return ef_get_str (&cursor, &value) ? -1 : s_state (value);
        }
        rc = rc ? rc : ef_skip (&cursor);
    }
    return -1;
}

/* The pairs of a map, without its head. Returns how many. */
static uint32_t
s_put_pairs (ef_buf_t *out, const ef_buf_t *map) {
    ef_cursor_t cursor = ef_cursor (map->data, map->size);
    uint32_t pairs;
    int rc = ef_get_map (&cursor, &pairs);
    ef_assert (rc == 0); /* the core's */
    ef_buf_put (out, cursor.at, ef_cursor_left (&cursor));
    return pairs;
}

static void
s_put_item (ef_buf_t *out, const ef_found_t *found, const ef_buf_t *live, bool has_history) {
    size_t mark = ef_put_open (out);
    uint32_t pairs = found->segment ? 7 : 5; /* a letter lies elsewhere */
    ef_put_key_str (out, "topic", found->topic);
    ef_put_key_uint (out, "n", found->n);
    ef_put_str (out, "id");
    s_put_id (out, &found->event);
    ef_put_key_uint (out, "accepted", found->accepted_ms);
    if (found->segment) {
        ef_put_key_uint (out, "segment", found->segment);
        ef_put_key_uint (out, "offset", found->offset);
    }
    ef_put_str (out, "event");
    ef_buf_put (out, found->event.data, found->event.size);
    if (has_history) {
        ef_put_str (out, "history");
        ef_put_array (out, found->history_count);
        ef_buf_put (out, found->history.data, found->history.size);
        pairs++;
    }
    pairs += live->size ? s_put_pairs (out, live) : s_put_end (out, found);
    ef_put_close_map (out, mark, pairs);
}

/* Why an event that isn't live doesn't run. */
static void
s_put_reason (ef_buf_t *out, const ef_found_t *found) {
    char text[80];
    const char *words =
        found->state == EF_STATE_DONE ? "nothing is left to do" : "it was cancelled or purged";
    snprintf (text, sizeof text, "%s", words);
    if (found->state == EF_STATE_DEAD) {
        snprintf (text, sizeof text, "it is among the dead letters (%s)",
                  found->reason < EF_REASON_COUNT ? ef_reason_name (found->reason) : "none");
    }
    ef_put_map (out, found->when_ms ? 6 : 5);
    ef_put_key_str (out, "topic", found->topic);
    ef_put_key_uint (out, "n", found->n);
    ef_put_key_str (out, "state", ef_state_name (found->state));
    ef_put_key_str (out, "reason", ef_state_name (found->state));
    ef_put_key_str (out, "text", text);
    if (found->when_ms) {
        ef_put_key_uint (out, "since", found->when_ms);
    }
}

static void
s_put_explained (ef_buf_t *out, const ef_found_t *found, const ef_buf_t *live) {
    if (live->size == 0) {
        s_put_reason (out, found);
        return;
    }
    size_t mark = ef_put_open (out);
    ef_put_key_str (out, "topic", found->topic);
    ef_put_key_uint (out, "n", found->n);
    ef_put_close_map (out, mark, 2 + s_put_pairs (out, live));
}

/* What the core says of an event now. False: it isn't live. */
static bool
s_ask_core (ef_router_t *self, const ef_question_t *question, const ef_found_t *found,
            ef_buf_t *live) {
    const token_t *token = question->token;
    int topic = ef_core_find_topic (self->core, found->topic, strlen (found->topic));
    ef_buf_clear (live);
    return topic >= 0 &&
           (token->command->explains
                ? ef_core_explain (self->core, (uint32_t)topic, found->n, live)
                : ef_core_show (self->core, (uint32_t)topic, found->n, live)) == EF_OK;
}

/* Appends the items, each as the core has it now or as it ended. False: the log has one as live and
   the core doesn't know it any more, and it is to be asked again; with `is_last` such are left out.
 */
static bool
s_put_items (ef_router_t *self, const ef_question_t *question, bool is_last, ef_buf_t *out,
             uint32_t *count) {
    ef_buf_t live = {0};
    bool is_whole = true;
    bool is_explaining = ((const token_t *)question->token)->command->explains;
    *count = 0;
    for (uint32_t i = 0; i < question->count; i++) {
        const ef_found_t *found = &question->items[i];
        bool is_live = s_ask_core (self, question, found, &live);
        if (!is_live && found->state == EF_STATE_READY) {
            is_whole = is_last;
            continue;
        }
        int state = is_live ? s_live_state (&live) : (int)found->state;
        if (question->state < 0 || question->state == state) {
            if (is_explaining) {
                s_put_explained (out, found, &live);
            } else {
                s_put_item (out, found, &live, question->kind != EF_FIND_LIST);
            }
            ++*count;
        }
    }
    ef_buf_free (&live);
    return is_whole;
}

static void
s_error (ef_buf_t *out, ef_status_t status, const char *text) {
    ef_put_array (out, 3);
    ef_put_str (out, "ERROR");
    ef_put_str (out, ef_status_name (status));
    ef_put_str (out, text);
}

#define GONE "no such event, or nothing is kept of it any more"

static void
s_answer_items (ef_buf_t *out, const ef_question_t *question, const ef_buf_t *items,
                uint32_t count) {
    bool is_list = question->kind == EF_FIND_LIST;
    if (count == 0 && !is_list) {
        s_error (out, EF_NOT_FOUND, GONE);
        return;
    }
    ef_put_array (out, 2);
    ef_put_str (out, "OK");
    ef_put_map (out, is_list ? 2 : 1);
    ef_put_str (out, "items");
    ef_put_array (out, count);
    ef_buf_put (out, items->data, items->size);
    if (is_list) {
        ef_put_str (out, "next");
        ef_put_str (out, question->cursor[0] ? question->cursor : NULL);
    }
}

/* False: it is to be asked again. */
static bool
s_tell (ef_router_t *self, const ef_question_t *question) {
    const token_t *token = question->token;
    ef_buf_t items = {0};
    ef_buf_t answer = {0};
    uint32_t count;
    bool is_whole = s_put_items (self, question, token->tries == TRIES_MAX, &items, &count);
    if (is_whole) {
        s_answer_items (&answer, question, &items, count);
        (void)router_send_frames (self, &token->peer, &answer, NULL); /* it asks again */
    }
    ef_buf_free (&items);
    ef_buf_free (&answer);
    return is_whole;
}

/* Does what the command says to the one live event that is meant. */
static void
s_change (ef_router_t *self, const token_t *token, const ef_found_t *found, ef_buf_t *answer) {
    uint32_t topic = (uint32_t)ef_core_find_topic (self->core, found->topic, strlen (found->topic));
    ef_status_t status = token->command->change (self->core, topic, found->n, token);
    if (status == EF_UNKNOWN_PEER) {
        s_error (answer, status, "no such worker");
    } else if (status != EF_OK) {
        s_error (answer, status, token->command->unfit);
    } else {
        ef_put_array (answer, 2);
        ef_put_str (answer, "OK");
        ef_put_map (answer, 2);
        ef_put_key_str (answer, "topic", found->topic);
        ef_put_key_uint (answer, "n", found->n);
    }
}

/* False: it is to be asked again. */
static bool
s_tell_change (ef_router_t *self, const ef_question_t *question) {
    const token_t *token = question->token;
    const ef_found_t *found = NULL;
    uint32_t count = 0;
    bool is_ending = false;
    ef_buf_t live = {0};
    ef_buf_t answer = {0};
    for (uint32_t i = 0; i < question->count; i++) {
        bool is_live = s_ask_core (self, question, &question->items[i], &live);
        is_ending = is_ending || (!is_live && question->items[i].state == EF_STATE_READY);
        found = is_live ? &question->items[i] : found;
        count += is_live;
    }
    ef_buf_free (&live);
    if (is_ending && token->tries < TRIES_MAX) {
        return false;
    }
    if (count > 1) {
        s_error (&answer, EF_BAD_COMMAND, "the id is in several topics: name one");
    } else if (count == 1) {
        s_change (self, token, found, &answer);
    } else {
        s_error (&answer, EF_NOT_FOUND, question->count ? "the event isn't live any more" : GONE);
    }
    router_admin_later (self, &token->peer, &answer);
    return true;
}

/* The finder has answered. Single events may be known as dead letters too. */
void
router_event_found (ef_router_t *self, ef_question_t *question) {
    if (question->kind == EF_FIND_LIST) {
        router_event_letters (self, question);
        return;
    }
    ef_dead_message_t *message = ef_dead_message_new (EF_DEAD_FIND, "");
    message->token = question;
    outbox_add (&self->to_dead, message);
}

/* All that is kept has been asked; now the core. */
void
router_event_letters (ef_router_t *self, ef_question_t *question) {
    token_t *token = question->token;
    if (token->command->change ? s_tell_change (self, question) : s_tell (self, question)) {
        ef_question_forget (question);
        return;
    }
    token->tries++;
    memcpy (question->cursor, token->cursor, sizeof question->cursor);
    s_ask (self, question);
}

/* Asks what waited for the disk, in order. */
void
router_event_durable (ef_router_t *self) {
    outbox_t *waits = &self->event_waits;
    while (waits->count > 0) {
        ef_question_t *question = waits->items[waits->head];
        if (((const token_t *)question->token)->lsn > ef_core_durable_lsn (self->core)) {
            return;
        }
        outbox_add (&self->to_finder, question);
        waits->head++;
        waits->count--;
    }
    waits->head = 0;
}

void
router_event_forget (ef_router_t *self) {
    outbox_t *const boxes[] = {&self->event_waits, &self->to_finder};
    for (unsigned k = 0; k < 2; k++) {
        for (uint32_t i = 0; i < boxes[k]->count; i++) {
            ef_question_forget (boxes[k]->items[boxes[k]->head + i]);
        }
        outbox_free (boxes[k]);
    }
}
