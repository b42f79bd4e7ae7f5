/* What the runtime asks of the handler email. SPDX-License-Identifier: MIT */
#include "private.h"

#include "../../proto/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PROBE_MS       10000 /* for a probe's answer */
#define EVENTS_AT_ONCE 64

/* host:port as the broker's breakers know the server; the URL that libcurl gets has the name that
   we greet with as its path. */
static int
s_read_server (email_t *self, char error[512]) {
    char name[256] = "localhost";
    email_server_t server;
    if (email_read_server (self->options->server, &server, error)) {
        return -1;
    }
    (void)gethostname (name, sizeof name - 1); /* else as it stands */
    const char *helo = self->options->helo[0] ? self->options->helo : name;
    snprintf (self->host, sizeof self->host, "%s:%u", server.host, server.port);
    snprintf (self->url, sizeof self->url, "%s://%s/%s", server.is_secure ? "smtps" : "smtp",
              self->host, helo);
    return 0;
}

static int
s_read_password (email_t *self, char error[512]) {
    const email_options_t *options = self->options;
    snprintf (self->password, sizeof self->password, "%s", options->password);
    if (options->password_file[0] == 0) {
        return 0;
    }
    FILE *file = fopen (options->password_file, "re");
    size_t size = file ? fread (self->password, 1, sizeof self->password - 1, file) : 0;
    bool is_read = file && !ferror (file);
    if (file) {
        (void)fclose (file); /* it was only read */
    }
    self->password[size] = 0;
    self->password[strcspn (self->password, "\r\n")] = 0;
    if (!is_read) {
        snprintf (error, 512, "password_file %.300s can't be read", options->password_file);
        return -1;
    }
    return 0;
}

static int
s_make_lines (email_t *self, char error[512]) {
    const email_options_t *options = self->options;
    uint32_t most = runtime_concurrency (self->runtime);
    bool is_careful = options->user[0] && options->tls == SMTP_TLS_TRY;
    self->settings =
        (smtp_settings_t){.url = self->url,
                          .user = options->user,
                          .password = self->password,
                          .ca_file = options->ca_file,
                          .tls = is_careful ? SMTP_TLS_REQUIRED : (smtp_tls_t)options->tls,
                          .verifies = options->verify,
                          .connect_ms = options->connect_ms,
                          .ready_ms = options->ready_ms,
                          .share = curl_share_init (),
                          .epoll = epoll_create1 (EPOLL_CLOEXEC)};
    if (self->settings.share == NULL || self->settings.epoll < 0) {
        snprintf (error, 512, "no descriptors left");
        return -1;
    }
    curl_share_setopt (self->settings.share, CURLSHOPT_SHARE, CURL_LOCK_DATA_DNS);
    most = most > 0 && most < options->connections ? most : options->connections;
    self->lines = calloc (most, sizeof *self->lines);
    ef_assert (self->lines != NULL);
    for (; self->line_count < most; self->line_count++) {
        if (smtp_init (&self->lines[self->line_count].smtp, &self->settings)) {
            snprintf (error, 512, "libcurl has no more handles");
            return -1;
        }
        self->lines[self->line_count].smtp.owner = &self->lines[self->line_count];
    }
    return 0;
}

void *
email_create (const void *options, runtime_t *runtime, char error[512]) {
    email_t *self = calloc (1, sizeof *self);
    mail_settings_t mail;
    char from[sizeof self->options->from];
    ef_assert (self != NULL);
    self->options = options;
    self->runtime = runtime;
    self->settings.epoll = -1;
    email_mail_settings (options, from, &mail);
    curl_global_init (CURL_GLOBAL_DEFAULT);
    self->maker = mail_maker_new (&mail, error);
    if (self->maker == NULL || s_read_server (self, error) || s_read_password (self, error) ||
        s_make_lines (self, error)) {
        email_destroy ((void **)&self);
        return NULL;
    }
    return self;
}

static void
s_free_jobs (job_t *job) {
    while (job) {
        job_t *next = job->next;
        mail_free (&job->mail);
        ef_buf_free (&job->event);
        free (job);
        job = next;
    }
}

void
email_destroy (void **self_p) {
    email_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    for (uint32_t i = 0; i < self->line_count; i++) {
        smtp_free (&self->lines[i].smtp);
        s_free_jobs (self->lines[i].job);
    }
    free (self->lines);
    s_free_jobs (self->first);
    s_free_jobs (self->unused);
    mail_maker_destroy (&self->maker);
    email_answer_free (&self->answer);
    if (self->settings.share) {
        (void)curl_share_cleanup (self->settings.share); /* nobody uses it any more */
    }
    if (self->settings.epoll >= 0) {
        close (self->settings.epoll);
    }
    explicit_bzero (self->password, sizeof self->password);
    free (self);
    *self_p = NULL;
    curl_global_cleanup ();
}

static ef_span_t
s_span (eventflow_bytes_t bytes) {
    return (ef_span_t){bytes.data, (uint32_t)bytes.size};
}

eventflow_result_t
email_handle (void *arg, const eventflow_delivery_t *delivery) {
    email_t *self = arg;
    uint64_t now = ef_mono_ms ();
    template_values_t values = {.payload = s_span (delivery->payload),
                                .id = s_span (delivery->id),
                                .type = s_span (delivery->type),
                                .topic = s_span (delivery->topic),
                                .time_ms =
                                    delivery->accepted_ms ? delivery->accepted_ms : ef_wall_ms ()};
    mail_error_t error;
    job_t *job = email_new_job (self);
    bool is_made = mail_make (self->maker, &values, delivery->attempt, &job->mail, &error) == 0;
    if (!is_made || now < self->login_ms) {
        if (is_made) {
            email_answer_failure (&self->answer, &self->failure);
        } else {
            email_answer_say (&self->answer, error.may_pass ? EVENTFLOW_RETRY : EVENTFLOW_DEAD,
                              error.code, error.text);
        }
        self->answer.words.downstream = is_made ? email_downstream (self) : NULL;
        runtime_explain (self->runtime, &self->answer.words);
        email_free_job (self, job);
        return self->answer.result;
    }
    ef_buf_clear (&job->event);
    if (job->mail.recipient_count > 1) {
        ef_buf_put (&job->event, delivery->event.data, delivery->event.size);
    }
    job->tag = delivery->tag;
    job->since_ms = now;
    email_append (self, job);
    return EVENTFLOW_LATER;
}

void
email_stop (void *arg, uint64_t tag, stop_reason_t reason) {
    email_t *self = arg;
    email_answer_t *answer = &self->answer;
    job_t *job = email_take_waiting (self, tag);
    const char *text = "no connection was free for it in its time";
    for (uint32_t i = 0; i < self->line_count && job == NULL; i++) {
        line_t *line = &self->lines[i];
        if (line->job && line->job->tag == tag) {
            job = line->job;
            text = smtp_dialog_is_unknown (&line->smtp.dialog)
                       ? "all of the mail had been sent, but the server didn't confirm it in its "
                         "time; it may have been delivered"
                       : "the server took too long";
            line->job = NULL;
            smtp_close (&line->smtp); /* in the middle of a mail: nothing else can be said on it */
        }
    }
    if (job) {
        email_answer_say (answer, EVENTFLOW_RELEASE, "", "");
        answer->result = runtime_stop_words (reason, &answer->words);
        answer->words.text = answer->result == EVENTFLOW_RETRY ? text : answer->words.text;
        email_tell (self, job);
    }
}

nfds_t
email_polls (void *arg, struct pollfd *items, nfds_t most, int *timeout_ms) {
    email_t *self = arg;
    uint64_t now = ef_mono_ms ();
    uint64_t due = self->probe_ms ? self->probe_ms : UINT64_MAX;
    for (uint32_t i = 0; i < self->line_count; i++) {
        const line_t *line = &self->lines[i];
        uint64_t own = line->smtp.state == SMTP_IDLE ? line->used_ms + self->options->idle_ms
                                                     : smtp_due_ms (&line->smtp);
        uint64_t hope = line->smtp.since_ms + self->options->connect_ms;
        bool has_hope = line->smtp.state == SMTP_DIALING && self->waiting > 0 && hope > now;
        own = has_hope && hope < own ? hope : own; /* then another one is opened for what waits */
        due = own < due ? own : due;
    }
    due = self->waiting > 0 && self->dial_ms > now && self->dial_ms < due ? self->dial_ms : due;
    uint64_t left = due > now ? due - now : 0;
    *timeout_ms = left < (uint64_t)*timeout_ms ? (int)left : *timeout_ms;
    if (most == 0) {
        return 0;
    }
    items[0] = (struct pollfd){self->settings.epoll, POLLIN, 0};
    return 1;
}

void
email_flush (void *arg) {
    email_t *self = arg;
    if (self->waiting > 0) {
        email_dispatch (self, ef_mono_ms ());
    }
}

/* Lines whose time has come, and those that were used too long ago. */
static void
s_judge_lines (email_t *self, uint64_t now) {
    for (uint32_t i = 0; i < self->line_count; i++) {
        line_t *line = &self->lines[i];
        if (now >= smtp_due_ms (&line->smtp)) {
            email_step_line (self, line, now);
        } else if (line->smtp.state == SMTP_IDLE && now >= line->used_ms + self->options->idle_ms) {
            smtp_close (&line->smtp);
        }
    }
}

void
email_step (void *arg) {
    email_t *self = arg;
    struct epoll_event events[EVENTS_AT_ONCE];
    uint64_t now = ef_mono_ms ();
    int count = epoll_wait (self->settings.epoll, events, EVENTS_AT_ONCE, 0);
    for (int i = 0; i < count; i++) {
        smtp_t *smtp = events[i].data.ptr;
        email_step_line (self, smtp->owner, now);
    }
    s_judge_lines (self, now);
    if (self->probe_ms && now >= self->probe_ms) {
        smtp_failure_t silent = {.code = "TIMEOUT", .text = "it says nothing"};
        email_unwell (self, &silent);
    }
    if (self->waiting > 0) {
        email_dispatch (self, now);
    }
}

/* NOOP on a connection that is free, else a new connection; where all are busy, any word of the
   server's tells as much. */
void
email_probe (void *arg) {
    email_t *self = arg;
    uint64_t now = ef_mono_ms ();
    line_t *line = email_find_line (self, SMTP_IDLE);
    if (now < self->login_ms) {
        email_unwell (self, &self->failure);
        return;
    }
    self->probe_ms = now + PROBE_MS;
    if (line) {
        smtp_noop (&line->smtp, now);
    } else if (email_find_line (self, SMTP_DIALING) == NULL &&
               (line = email_find_line (self, SMTP_CLOSED)) != NULL) {
        smtp_dial (&line->smtp, now);
    }
}
