/* What a worker has answered and the broker hasn't confirmed yet. SPDX-License-Identifier: MIT */
#include "answers.h"
#include "../../proto/limits.h"
#include "delivery.h"

#include <stdio.h>
#include <stdlib.h>

/* An answer on its way: its frames, to be sent again after a reconnect. */
struct answer_s {
    struct answer_s *next;
    uint64_t seq;
    ef_buf_t tags;    /* items of the tags array */
    uint32_t count;   /* of items */
    ef_buf_t rest;    /* what stands between tags and the options */
    ef_buf_t options; /* pairs */
    uint32_t pairs;
    ef_buf_t events;
    bool is_ack;
    bool is_sent;
};

static void
s_free (answer_t *answer) {
    ef_buf_free (&answer->tags);
    ef_buf_free (&answer->rest);
    ef_buf_free (&answer->options);
    ef_buf_free (&answer->events);
    free (answer);
}

void
ef_answers_free (ef_answers_t *self) {
    while (self->first) {
        answer_t *answer = self->first;
        self->first = answer->next;
        s_free (answer);
    }
}

static answer_t *
s_new (ef_answers_t *self, bool is_ack) {
    answer_t *answer = calloc (1, sizeof *answer);
    ef_assert (answer != NULL);
    answer->is_ack = is_ack;
    answer->seq = ++self->seq;
    *(self->first ? &self->last->next : &self->first) = answer;
    self->last = answer;
    return answer;
}

static void
s_option (answer_t *answer, const char *key, const char *value) {
    if (value && value[0]) {
        ef_put_key_str (&answer->options, key, value);
        answer->pairs++;
    }
}

/* Writes the run of tags into the ACK under way. */
static void
s_end_run (ef_answers_t *self) {
    if (self->run_last == 0) {
        return;
    }
    if (self->gathering == NULL) {
        self->gathering = s_new (self, true);
        s_option (self->gathering, "downstream", self->downstream);
    }
    ef_buf_t *tags = &self->gathering->tags;
    if (self->run_first == self->run_last) {
        ef_put_uint (tags, self->run_first);
    } else {
        ef_put_array (tags, 2);
        ef_put_uint (tags, self->run_first);
        ef_put_uint (tags, self->run_last);
    }
    self->gathering->count++;
    self->run_last = 0;
}

/* An answer of its own for one tag, behind all that was gathered. */
static answer_t *
s_alone (ef_answers_t *self, uint64_t tag, bool is_ack) {
    s_end_run (self);
    self->gathering = NULL;
    answer_t *answer = s_new (self, is_ack);
    ef_put_uint (&answer->tags, tag);
    answer->count = 1;
    return answer;
}

/* Done, with nothing to say but perhaps where: many tags share an ACK. */
static void
s_gather (ef_answers_t *self, uint64_t tag, const char *downstream) {
    bool is_elsewhere = strcmp (self->downstream, downstream) != 0;
    if (self->run_last && (tag != self->run_last + 1 || is_elsewhere)) {
        s_end_run (self);
    }
    if (is_elsewhere) {
        self->gathering = NULL;
        snprintf (self->downstream, sizeof self->downstream, "%s", downstream);
    }
    self->run_first = self->run_last ? self->run_first : tag;
    self->run_last = tag;
}

static void
s_done (ef_answers_t *self, uint64_t tag, const eventflow_answer_t *words) {
    const char *downstream = words && words->downstream ? words->downstream : "";
    self->done++;
    if (words == NULL || (words->events == NULL && words->result == NULL)) {
        s_gather (self, tag, downstream);
        return;
    }
    answer_t *answer = s_alone (self, tag, true);
    s_option (answer, "downstream", downstream);
    if (words->result) {
        ef_put_str (&answer->options, "result");
        ef_buf_put (&answer->options, words->result->data, words->result->size);
        answer->pairs++;
    }
    if (words->events) {
        ef_buf_put (&answer->events, words->events->data, words->events->size);
    }
}

static void
s_failed (ef_answers_t *self, uint64_t tag, eventflow_result_t result,
          const eventflow_answer_t *words) {
    answer_t *answer = s_alone (self, tag, false);
    if (words && words->code) {
        ef_put_str (&answer->rest, words->code);
    } else {
        ef_put_int (&answer->rest, words ? words->number : 0);
    }
    ef_put_str (&answer->rest, words && words->text ? words->text : "");
    if (result == EVENTFLOW_DEAD || result == EVENTFLOW_RELEASE) {
        ef_put_key_bool (&answer->options, result == EVENTFLOW_DEAD ? "dead" : "release", true);
        answer->pairs++;
    }
    if (words && words->retry_ms >= 0) {
        ef_put_key_uint (&answer->options, "retry", (uint64_t)words->retry_ms);
        answer->pairs++;
    }
    if (words) {
        s_option (answer, "trace", words->trace);
        s_option (answer, "downstream", words->downstream);
    }
}

bool
ef_answers_is_sayable (const eventflow_answer_t *words) {
    if (words->downstream && strlen (words->downstream) > EF_DOWNSTREAM_MAX) {
        return false;
    }
    if (words->result == NULL) {
        return true;
    }
    ef_cursor_t cursor = ef_cursor (words->result->data, words->result->size);
    return words->result->size <= EF_RESULT_MAX && ef_skip (&cursor) == 0 &&
           ef_cursor_left (&cursor) == 0;
}

int
ef_answers_add (ef_answers_t *self, uint64_t tag, eventflow_result_t result,
                const eventflow_answer_t *words) {
    if (words && !ef_answers_is_sayable (words)) {
        return EVENTFLOW_INVALID;
    }
    if (result == EVENTFLOW_DONE) {
        s_done (self, tag, words);
    } else {
        s_failed (self, tag, result, words);
    }
    return EVENTFLOW_OK;
}

static int
s_send (answer_t *answer, ef_link_t *link, ef_buf_t *header, uint64_t now_ms) {
    ef_buf_clear (header);
    ef_put_array (header, answer->is_ack ? 3 : 5);
    ef_put_str (header, answer->is_ack ? "ACK" : "NACK");
    ef_put_array (header, answer->count);
    ef_buf_put (header, answer->tags.data, answer->tags.size);
    ef_buf_put (header, answer->rest.data, answer->rest.size);
    ef_put_map (header, answer->pairs + 1);
    ef_put_key_uint (header, "seq", answer->seq);
    ef_buf_put (header, answer->options.data, answer->options.size);
    int rc = ef_link_send (link, header, &answer->events, now_ms);
    answer->is_sent = rc == 0;
    return rc;
}

void
ef_answers_flush (ef_answers_t *self, ef_link_t *link, ef_buf_t *header, uint64_t now_ms) {
    s_end_run (self);
    self->gathering = NULL;
    for (answer_t *answer = self->first; answer && link; answer = answer->next) {
        if (!answer->is_sent && s_send (answer, link, header, now_ms)) {
            break;
        }
    }
}

void
ef_answers_acked (ef_answers_t *self, uint64_t seq, ef_cursor_t *cursor) {
    char code[32] = "";
    char text[256] = "";
    bool is_refused = ef_refused_read (cursor, code, text);
    while (self->first && self->first->seq <= seq && self->first != self->gathering) {
        answer_t *answer = self->first;
        uint64_t tag;
        ef_cursor_t tags = ef_cursor (answer->tags.data, answer->tags.size);
        self->first = answer->next;
        if (is_refused && answer->seq == seq && answer->events.size > 0 &&
            ef_get_uint (&tags, &tag) == 0) {
            bool is_passing = strcmp (code, "NO_SPACE") == 0 || strcmp (code, "FULL") == 0;
            eventflow_answer_t words = {.code = code, .text = text, .retry_ms = -1};
            self->done--;
            s_failed (self, tag, is_passing ? EVENTFLOW_RETRY : EVENTFLOW_DEAD, &words);
        }
        s_free (answer);
    }
}

void
ef_answers_resend (ef_answers_t *self) {
    for (answer_t *answer = self->first; answer; answer = answer->next) {
        answer->is_sent = false;
    }
}

uint32_t
ef_answers_count (const ef_answers_t *self) {
    uint32_t count = 0;
    for (const answer_t *answer = self->first; answer; answer = answer->next) {
        count += answer->count;
    }
    return count;
}

void
ef_answers_put_tags (const ef_answers_t *self, ef_buf_t *out) {
    for (const answer_t *answer = self->first; answer; answer = answer->next) {
        ef_buf_put (out, answer->tags.data, answer->tags.size);
    }
}
