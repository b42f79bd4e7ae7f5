/* The work of the handler email. SPDX-License-Identifier: MIT

   Role: makes a mail of each event (mail.c), has it said on one of a few connections (smtp.c), and
   answers (email_answer.c). Mails wait in their order for a connection; a new one is opened while
   more wait than are being opened. Owns: connections, mails under way. Invariants: an event that
   was put off is waiting or on exactly one connection; a connection has at most one.
   On failure: no connection at all fails what has waited for it, and the worker is unhealthy until
   one opens; while others are open, a failed one only means that there are fewer. */
#include "email_work.h"

#include "../proto/event.h"
#include "email_answer.h"
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#define PROBE_MS       10000 /* for a probe's answer */
#define PAUSE_MS       1000  /* before another one is opened where others are open */
#define KEEP_BYTES     (256u << 10)
#define EVENTS_AT_ONCE 64

/* An event under way. */
typedef struct job_s {
    struct job_s *next; /* in the line, or among the unused */
    uint64_t tag;
    uint64_t since_ms;
    mail_t mail;
    ef_buf_t event;  /* whole, where there are several recipients */
    bool was_resent; /* a connection that had waited too long was no reason to fail */
} job_t;

typedef struct {
    smtp_t smtp;
    job_t *job; /* NULL: none */
    uint64_t used_ms;
} line_t;

typedef struct {
    const email_options_t *options; /* borrowed */
    runtime_t *runtime;             /* borrowed */
    mail_maker_t *maker;            /* owned, as all that follows */
    char url[700];
    char host[320]; /* host:port */
    char password[512];
    smtp_settings_t settings;
    line_t *lines;
    uint32_t line_count;
    job_t *first; /* those that wait for a connection */
    job_t *last;
    job_t *unused;
    uint32_t waiting;
    uint64_t dial_ms;  /* not to be opened before */
    uint64_t login_ms; /* a refused login isn't tried before */
    uint64_t probe_ms; /* when its answer is due; 0: none under way */
    bool is_unwell;
    smtp_failure_t failure; /* of the last try to connect */
    email_answer_t answer;
} email_t;

/* ---- Health ---- */

static void
s_well (email_t *self) {
    if (self->is_unwell || self->probe_ms) {
        self->is_unwell = false;
        self->probe_ms = 0;
        runtime_healthy (self->runtime);
    }
}

static void
s_unwell (email_t *self, const smtp_failure_t *failure) {
    char reason[SMTP_TEXT_MAX + 500];
    snprintf (reason, sizeof reason, "%s: %s%s%s%s", self->host,
              failure->is_login ? "login refused: " : "", failure->code,
              failure->code[0] ? ": " : "", failure->text);
    self->is_unwell = true;
    self->probe_ms = 0;
    runtime_unhealthy (self->runtime, reason);
}

/* ---- Mails ---- */

static void
s_append (email_t *self, job_t *job) {
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

static job_t *
s_new_job (email_t *self) {
    job_t *job = self->unused;
    if (job) {
        self->unused = job->next;
    } else {
        job = calloc (1, sizeof *job);
        ef_assert (job != NULL);
    }
    job->was_resent = false;
    return job;
}

static void
s_free_job (email_t *self, job_t *job) {
    if (job->mail.bytes.capacity > KEEP_BYTES) {
        ef_buf_free (&job->mail.bytes);
    }
    if (job->event.capacity > KEEP_BYTES) {
        ef_buf_free (&job->event);
    }
    job->next = self->unused;
    self->unused = job;
}

static const char *
s_downstream (const email_t *self) {
    const char *said = runtime_downstream (self->runtime);
    return said ? said : self->host;
}

/* Tells what `answer` holds, and forgets the mail. */
static void
s_answer (email_t *self, job_t *job) {
    email_answer_t *answer = &self->answer;
    answer->words.downstream = s_downstream (self);
    runtime_answer (self->runtime, job->tag, answer->result, &answer->words);
    s_free_job (self, job);
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
        smtp_failure_t login = {.is_login = true};
        snprintf (login.text, sizeof login.text, "%lld %.300s",
                  (long long)self->answer.words.number, self->answer.text);
        self->login_ms = now_ms + EMAIL_LOGIN_MS;
        self->failure = login;
        s_unwell (self, &login);
    }
    s_answer (self, job);
}

/* Begins to say a mail, or says why this server can't have it. */
static void
s_give (email_t *self, line_t *line, job_t *job, uint64_t now_ms) {
    const smtp_abilities_t *abilities = &line->smtp.abilities;
    char text[200];
    if (job->mail.needs_utf8 && !abilities->has_utf8) {
        email_answer_say (&self->answer, EVENTFLOW_DEAD, "SMTPUTF8",
                          "an address past ASCII, which this server doesn't take");
        s_answer (self, job);
    } else if (abilities->size_max && job->mail.bytes.size > abilities->size_max) {
        snprintf (text, sizeof text, "a mail of %zu bytes; the server takes %llu",
                  job->mail.bytes.size, (unsigned long long)abilities->size_max);
        email_answer_say (&self->answer, EVENTFLOW_DEAD, "TOO_LARGE", text);
        s_answer (self, job);
    } else {
        line->job = job;
        smtp_send (&line->smtp, &job->mail, now_ms);
    }
}

/* ---- Connections ---- */

static line_t *
s_find_line (email_t *self, smtp_state_t state) {
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

/* Gives out what waits, and opens connections for the rest. */
static void
s_dispatch (email_t *self, uint64_t now_ms) {
    line_t *line;
    while (self->waiting > 0 && (line = s_find_line (self, SMTP_IDLE)) != NULL) {
        s_give (self, line, s_take_first (self), now_ms);
    }
    uint32_t dialing = s_count_lines (self, SMTP_DIALING, SMTP_DIALING);
    while (self->waiting > dialing && now_ms >= self->dial_ms &&
           (line = s_find_line (self, SMTP_CLOSED)) != NULL) {
        smtp_dial (&line->smtp, now_ms);
        dialing++;
    }
}

/* There is no connection: what has waited for it fails. */
static void
s_fail_waiting (email_t *self, const smtp_failure_t *failure, uint64_t since_ms) {
    while (self->first && self->first->since_ms <= since_ms) {
        email_answer_failure (&self->answer, failure);
        s_answer (self, s_take_first (self));
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
    s_unwell (self, failure);
    s_fail_waiting (self, failure, is_login ? now_ms : line->smtp.since_ms);
}

/* A connection is gone. Where the server had closed it before it heard of the mail, the mail goes
   to another one. */
static void
s_lost (email_t *self, line_t *line, uint64_t now_ms) {
    job_t *job = line->job;
    if (job == NULL) {
        return;
    }
    bool is_stale = line->smtp.mails > 1 && smtp_dialog_is_unheard (&line->smtp.dialog);
    if (is_stale && !job->was_resent) {
        line->job = NULL;
        job->was_resent = true;
        job->since_ms = now_ms;
        s_prepend (self, job);
    } else {
        s_end_mail (self, line, &line->smtp.failure, now_ms);
    }
}

static void
s_step_line (email_t *self, line_t *line, uint64_t now_ms) {
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
        s_dispatch (self, now_ms);
    } while (smtp_has_more (&line->smtp));
}

/* ---- What the runtime asks for ---- */

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
    job_t *job = s_new_job (self);
    bool is_made = mail_make (self->maker, &values, delivery->attempt, &job->mail, &error) == 0;
    if (!is_made || now < self->login_ms) {
        if (is_made) {
            email_answer_failure (&self->answer, &self->failure);
        } else {
            email_answer_say (&self->answer, error.may_pass ? EVENTFLOW_RETRY : EVENTFLOW_DEAD,
                              error.code, error.text);
        }
        self->answer.words.downstream = is_made ? s_downstream (self) : NULL;
        runtime_explain (self->runtime, &self->answer.words);
        s_free_job (self, job);
        return self->answer.result;
    }
    ef_buf_clear (&job->event);
    if (job->mail.recipient_count > 1) {
        ef_buf_put (&job->event, delivery->event.data, delivery->event.size);
    }
    job->tag = delivery->tag;
    job->since_ms = now;
    s_append (self, job);
    return EVENTFLOW_LATER;
}

/* A mail that waits. NULL: it doesn't. */
static job_t *
s_take_waiting (email_t *self, uint64_t tag) {
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

void
email_stop (void *arg, uint64_t tag, stop_reason_t reason) {
    email_t *self = arg;
    email_answer_t *answer = &self->answer;
    job_t *job = s_take_waiting (self, tag);
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
        s_answer (self, job);
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
        s_dispatch (self, ef_mono_ms ());
    }
}

/* Lines whose time has come, and those that were used too long ago. */
static void
s_judge_lines (email_t *self, uint64_t now) {
    for (uint32_t i = 0; i < self->line_count; i++) {
        line_t *line = &self->lines[i];
        if (now >= smtp_due_ms (&line->smtp)) {
            s_step_line (self, line, now);
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
        s_step_line (self, smtp->owner, now);
    }
    s_judge_lines (self, now);
    if (self->probe_ms && now >= self->probe_ms) {
        smtp_failure_t silent = {.code = "TIMEOUT", .text = "it says nothing"};
        s_unwell (self, &silent);
    }
    if (self->waiting > 0) {
        s_dispatch (self, now);
    }
}

/* NOOP on a connection that is free, else a new connection; where all are busy, any word of the
   server's tells as much. */
void
email_probe (void *arg) {
    email_t *self = arg;
    uint64_t now = ef_mono_ms ();
    line_t *line = s_find_line (self, SMTP_IDLE);
    if (now < self->login_ms) {
        s_unwell (self, &self->failure);
        return;
    }
    self->probe_ms = now + PROBE_MS;
    if (line) {
        smtp_noop (&line->smtp, now);
    } else if (s_find_line (self, SMTP_DIALING) == NULL &&
               (line = s_find_line (self, SMTP_CLOSED)) != NULL) {
        smtp_dial (&line->smtp, now);
    }
}
