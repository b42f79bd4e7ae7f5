/* Mails and connections of the handler email. SPDX-License-Identifier: MIT

   Role: makes a mail of each event (mail.c), has it said on one of a few connections (smtp.c), and
   answers (answer.c). Mails wait in their order for a connection; a new one is opened while
   more wait than are being opened. Owns: connections, mails under way. Invariants: an event that
   was put off is waiting or on exactly one connection; a connection has at most one.
   On failure: no connection at all fails what has waited for it, and the worker is unhealthy until
   one opens; while others are open, a failed one only means that there are fewer. */
#include "private.h"

#include "../../proto/event.h"

#include <stdio.h>
#include <stdlib.h>

#define PAUSE_MS   1000 /* before another one is opened where others are open */
#define KEEP_BYTES (256u << 10)

/* ---- Health ---- */

static void
s_well (email_t *self) {
    if (self->is_unwell || self->probe_ms) {
        self->is_unwell = false;
        self->probe_ms = 0;
        runtime_healthy (self->runtime);
    }
}

void
email_unwell (email_t *self, const smtp_failure_t *failure) {
    char reason[SMTP_TEXT_MAX + 500];
    snprintf (reason, sizeof reason, "%s: %s%s%s%s", self->host,
              failure->is_login ? "login refused: " : "", failure->code,
              failure->code[0] ? ": " : "", failure->text);
    self->is_unwell = true;
    self->probe_ms = 0;
    runtime_unhealthy (self->runtime, reason);
}

/* ---- Mails ---- */

void
email_append (email_t *self, job_t *job) {
    job->next = NULL;
    *(self->last ? &self->last->next : &self->first) = job;
    self->last = job;
    self->waiting++;
}

static void
s_prepend (email_t *self, job_t *job) {
    job->next = self->first;
    self->first = job;
    self->last = self->last ? self->last : job;
    self->waiting++;
}

static job_t *
s_take_first (email_t *self) {
    job_t *job = self->first;
    self->first = job->next;
    self->last = self->first ? self->last : NULL;
    self->waiting--;
    return job;
}

job_t *
email_take_waiting (email_t *self, uint64_t tag) {
    job_t *before = NULL;
    for (job_t *job = self->first; job; before = job, job = job->next) {
        if (job->tag == tag) {
            *(before ? &before->next : &self->first) = job->next;
            self->last = self->last == job ? before : self->last;
            self->waiting--;
            return job;
        }
    }
    return NULL;
}

job_t *
email_new_job (email_t *self) {
    job_t *job = self->unused;
    if (job) {
        self->unused = job->next;
    } else {
        job = calloc (1, sizeof *job);
        ef_assert (job != NULL);
    }
    return job;
}

void
email_free_job (email_t *self, job_t *job) {
    if (job->mail.bytes.capacity > KEEP_BYTES) {
        ef_buf_free (&job->mail.bytes);
    }
    if (job->event.capacity > KEEP_BYTES) {
        ef_buf_free (&job->event);
    }
    job->next = self->unused;
    self->unused = job;
}

const char *
email_downstream (const email_t *self) {
    const char *said = runtime_downstream (self->runtime);
    return said ? said : self->host;
}

void
email_tell (email_t *self, job_t *job) {
    email_answer_t *answer = &self->answer;
    answer->words.downstream = email_downstream (self);
    runtime_answer (self->runtime, job->tag, answer->result, &answer->words);
    email_free_job (self, job);
}

/* Ends what was said about a line's mail. */
static void
s_end_mail (email_t *self, line_t *line, const smtp_failure_t *failure, uint64_t now_ms) {
    job_t *job = line->job;
    line->job = NULL;
    line->used_ms = now_ms;
    email_answer_dialog (&self->answer, &line->smtp.dialog, failure,
                         (ef_span_t){(char *)job->event.data, (uint32_t)job->event.size});
    if (self->answer.is_login) {
        smtp_failure_t login = {.reply = (unsigned)self->answer.words.number, .is_login = true};
        snprintf (login.text, sizeof login.text, "%lld %.300s",
                  (long long)self->answer.words.number, self->answer.text);
        self->login_ms = now_ms + EMAIL_LOGIN_MS;
        self->failure = login;
        email_unwell (self, &login);
    }
    email_tell (self, job);
}

/* Begins to say a mail, or says why this server can't have it. */
static void
s_give (email_t *self, line_t *line, job_t *job, uint64_t now_ms) {
    const smtp_abilities_t *abilities = &line->smtp.abilities;
    char text[200];
    if (job->mail.needs_utf8 && !abilities->has_utf8) {
        email_answer_say (&self->answer, EVENTFLOW_DEAD, "SMTPUTF8",
                          "an address past ASCII, which this server doesn't take");
        email_tell (self, job);
    } else if (abilities->size_max && job->mail.bytes.size > abilities->size_max) {
        snprintf (text, sizeof text, "a mail of %zu bytes; the server takes %llu",
                  job->mail.bytes.size, (unsigned long long)abilities->size_max);
        email_answer_say (&self->answer, EVENTFLOW_DEAD, "TOO_LARGE", text);
        email_tell (self, job);
    } else {
        line->job = job;
        smtp_send (&line->smtp, &job->mail, now_ms);
    }
}

/* ---- Connections ---- */

line_t *
email_find_line (email_t *self, smtp_state_t state) {
    for (uint32_t i = 0; i < self->line_count; i++) {
        if (self->lines[i].smtp.state == state) {
            return &self->lines[i];
        }
    }
    return NULL;
}

static uint32_t
s_count_lines (const email_t *self, smtp_state_t least, smtp_state_t most) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < self->line_count; i++) {
        smtp_state_t state = self->lines[i].smtp.state;
        count += state >= least && state <= most;
    }
    return count;
}

/* Connections that are being opened and haven't taken suspiciously long. */
static uint32_t
s_count_hopeful (const email_t *self, uint64_t now_ms) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < self->line_count; i++) {
        const smtp_t *smtp = &self->lines[i].smtp;
        count += smtp->state == SMTP_DIALING && now_ms < smtp->since_ms + self->options->connect_ms;
    }
    return count;
}

void
email_dispatch (email_t *self, uint64_t now_ms) {
    line_t *line;
    while (self->waiting > 0 && (line = email_find_line (self, SMTP_IDLE)) != NULL) {
        s_give (self, line, s_take_first (self), now_ms);
    }
    uint32_t dialing = s_count_hopeful (self, now_ms);
    while (self->waiting > dialing && now_ms >= self->dial_ms &&
           (line = email_find_line (self, SMTP_CLOSED)) != NULL) {
        smtp_dial (&line->smtp, now_ms);
        dialing++;
    }
}

/* There is no connection: what has waited for it fails. */
static void
s_fail_waiting (email_t *self, const smtp_failure_t *failure, uint64_t since_ms) {
    while (self->first && self->first->since_ms <= since_ms) {
        email_answer_failure (&self->answer, failure);
        email_tell (self, s_take_first (self));
    }
}

static void
s_failed_to_dial (email_t *self, const line_t *line, uint64_t now_ms) {
    const smtp_failure_t *failure = &line->smtp.failure;
    bool is_login = failure->is_login;
    if (!is_login && s_count_lines (self, SMTP_IDLE, SMTP_WAITING) > 0) {
        self->dial_ms = now_ms + PAUSE_MS; /* those that are open do it */
        return;
    }
    self->failure = *failure;
    self->login_ms = is_login ? now_ms + EMAIL_LOGIN_MS : 0;
    email_unwell (self, failure);
    s_fail_waiting (self, failure, is_login ? now_ms : line->smtp.since_ms);
}

/* A connection is gone. Where the server had closed it before it heard of the mail, the mail goes
   to another one. */
static void
s_lost (email_t *self, line_t *line, uint64_t now_ms) {
    job_t *job = line->job;
    if (job == NULL && self->probe_ms) {
        smtp_dial (&line->smtp, now_ms); /* whether a new one can be had is what is asked */
    }
    if (job == NULL) {
        return;
    }
    bool is_stale = line->smtp.was_idle && smtp_dialog_is_unheard (&line->smtp.dialog);
    if (is_stale) { /* it ends: there are only so many, and a new one isn't stale */
        line->job = NULL;
        job->since_ms = now_ms;
        s_prepend (self, job);
    } else {
        s_end_mail (self, line, &line->smtp.failure, now_ms);
    }
}

void
email_step_line (email_t *self, line_t *line, uint64_t now_ms) {
    smtp_event_t event;
    do {
        bool was_dialing = line->smtp.state == SMTP_DIALING;
        event = smtp_step (&line->smtp, now_ms);
        if (event == SMTP_NOTHING) {
            break;
        }
        if (event == SMTP_FAILED && was_dialing) {
            s_failed_to_dial (self, line, now_ms);
        } else if (event == SMTP_FAILED) {
            s_lost (self, line, now_ms);
        } else if (event == SMTP_ENDED) {
            s_end_mail (self, line, NULL, now_ms);
        }
        if (event == SMTP_OPENED) {
            line->used_ms = now_ms;
            self->login_ms = 0;
        }
        if (event == SMTP_OPENED || event == SMTP_ANSWERED ||
            (event == SMTP_ENDED && !self->answer.is_login)) {
            s_well (self);
        }
        email_dispatch (self, now_ms);
    } while (smtp_has_more (&line->smtp));
}
