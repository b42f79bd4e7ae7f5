/* A child and the events that it has in hand. SPDX-License-Identifier: MIT */
#include "runner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATUS_DEAD 65 /* EX_DATAERR of sysexits.h, as of a command for each event */

int
runner_start (runner_t *self, const exec_way_t *way, bool is_json, bool takes_output) {
    char **environment = plan_environment (way->plan, NULL, 0);
    self->child = calloc (1, sizeof *self->child);
    self->lines = calloc (1, sizeof *self->lines);
    ef_assert (self->child != NULL && self->lines != NULL);
    int rc = child_start (self->child, way->plan, environment, takes_output, way->epoll);
    free (environment);
    self->lines->is_json = is_json;
    self->started_ms = ef_mono_ms ();
    if (rc) {
        runner_free (self);
    }
    return rc;
}

void
runner_free (runner_t *self) {
    if (self->child) {
        child_free (self->child);
        lines_free (self->lines);
    }
    free (self->child);
    free (self->lines);
    free (self->held);
    free (self->fault);
    memset (self, 0, sizeof *self);
}

void
runner_give (runner_t *self, uint64_t tag, const ef_buf_t *bytes) {
    if (self->count == self->room) {
        self->room = self->room ? 2 * self->room : 4;
        self->held = realloc (self->held, self->room * sizeof *self->held);
        ef_assert (self->held != NULL);
    }
    self->held[self->count++] = (held_t){.tag = tag};
    ef_buf_put (&self->child->bytes, bytes->data, bytes->size);
    self->given++;
}

bool
runner_take (runner_t *self, uint64_t tag, held_t *held) {
    uint32_t at = 0;
    while (at < self->count && self->held[at].tag != tag) {
        at++; /* the first one, mostly */
    }
    if (at == self->count) {
        return false;
    }
    *held = self->held[at];
    self->count--;
    memmove (self->held + at, self->held + at + 1, (self->count - at) * sizeof *self->held);
    return true;
}

void
runner_cancel (runner_t *self, held_t *held, uint64_t until_ms) {
    held->cancel_ms = until_ms;
    self->cancel_ms =
        self->cancel_ms ? self->cancel_ms : until_ms; /* later ones aren't before it */
    lines_put_cancel (&self->child->bytes, self->lines->is_json, held->tag);
}

bool
runner_is_unwanted (const runner_t *self) {
    for (uint32_t i = 0; i < self->count; i++) {
        if (self->held[i].cancel_ms == 0) {
            return false;
        }
    }
    return true;
}

void
runner_insist (runner_t *self, uint64_t now_ms) {
    if (self->cancel_ms == 0 || now_ms < self->cancel_ms) {
        return;
    }
    self->cancel_ms = 0;
    for (uint32_t i = 0; i < self->count; i++) {
        uint64_t until_ms = self->held[i].cancel_ms;
        if (until_ms && now_ms >= until_ms) {
            runner_end (self, now_ms);
        } else if (until_ms && (self->cancel_ms == 0 || until_ms < self->cancel_ms)) {
            self->cancel_ms = until_ms;
        }
    }
}

void
runner_end (runner_t *self, uint64_t now_ms) {
    self->is_leaving = true;
    child_end (self->child, now_ms);
}

void
runner_blame (runner_t *self, const char *quote, const char *expected, uint64_t now_ms) {
    char text[EF_TEXT_MAX];
    snprintf (text, sizeof text, "standard output: expected %.300s: %.300s", expected, quote);
    self->fault = strdup (text);
    ef_assert (self->fault != NULL);
    child_close_output (self->child);
    runner_end (self, now_ms);
}

/* What becomes of the events that its end answers for; `words` are filled. */
static eventflow_result_t
s_judge_end (const runner_t *self, const exec_way_t *way, const siginfo_t *ended, char code[32],
             char text[EF_TEXT_MAX], eventflow_answer_t *words) {
    bool is_batch = way->options->batch > 0;
    bool is_success = ended->si_code == CLD_EXITED && ended->si_status == 0;
    child_code (ended, way->options->plan.cpu_ms > 0, code);
    child_last_line (self->child, text, EF_TEXT_MAX);
    words->code = code;
    words->text = text;
    words->trace = self->child->tail_size ? self->child->tail : NULL;
    if (is_batch && is_success && !way->options->has_answers) {
        return EVENTFLOW_DONE;
    }
    if (is_batch && strncmp (code, "EXIT_", 5) == 0) {
        words->code = is_success ? "UNANSWERED" : NULL;
        words->number = ended->si_status;
    }
    if (text[0] == 0) {
        snprintf (text, EF_TEXT_MAX, "the command ended without an answer to %s",
                  self->count > 1 ? "this event and others" : "this event");
    }
    return is_batch && words->code == NULL && ended->si_status == STATUS_DEAD ? EVENTFLOW_DEAD
                                                                              : EVENTFLOW_RETRY;
}

bool
runner_settle (runner_t *self, const exec_way_t *way, const siginfo_t *ended, char trouble[200]) {
    char code[32];
    char text[EF_TEXT_MAX];
    eventflow_answer_t of_end = {.retry_ms = -1};
    eventflow_result_t result = s_judge_end (self, way, ended, code, text, &of_end);
    bool is_told = self->child->told && self->fault == NULL;
    if (self->fault) {
        result = EVENTFLOW_RETRY;
        of_end.code = "OUTPUT";
        of_end.text = self->fault;
    }
    of_end.downstream = runtime_downstream (way->runtime);
    snprintf (trouble, 200, "a child ended: %s %.150s", self->fault ? "OUTPUT" : code, of_end.text);
    for (uint32_t i = 0; i < self->count; i++) {
        const held_t *held = &self->held[i];
        eventflow_answer_t words = of_end;
        eventflow_result_t answer = result;
        if (held->is_timed_out && result != EVENTFLOW_DONE) {
            answer = runtime_stop_words (STOP_TIMEOUT, &words);
            words.trace = of_end.trace;
            words.downstream = of_end.downstream;
        } else if ((is_told || held->cancel_ms) && result != EVENTFLOW_DONE) {
            answer = EVENTFLOW_RELEASE; /* that it ended is another's doing */
        }
        runtime_answer (way->runtime, held->tag, answer, &words);
    }
    self->count = 0;
    return !is_told;
}
