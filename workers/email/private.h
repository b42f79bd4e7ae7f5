/* What the handler email has under way. SPDX-License-Identifier: MIT */
#ifndef EF_EMAIL_PRIVATE_H
#define EF_EMAIL_PRIVATE_H

#include "answer.h"
#include "work.h"
#include "../runtime.h"

/* An event under way. */
typedef struct job_s {
    struct job_s *next; /* in the line, or among the unused */
    uint64_t tag;
    uint64_t since_ms;
    mail_t mail;
    ef_buf_t event; /* whole, where there are several recipients */
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

/* The line of mails that wait for a connection. */
void email_append (email_t *self, job_t *job);
job_t *email_take_waiting (email_t *self, uint64_t tag); /* NULL: it doesn't wait */
job_t *email_new_job (email_t *self);
void email_free_job (email_t *self, job_t *job);

const char *email_downstream (const email_t *self);
/* Tells what `answer` holds, and forgets the mail. */
void email_tell (email_t *self, job_t *job);
void email_unwell (email_t *self, const smtp_failure_t *failure);

/* NULL: no connection is in this state. */
line_t *email_find_line (email_t *self, smtp_state_t state);
/* Gives out what waits, and opens connections for the rest. */
void email_dispatch (email_t *self, uint64_t now_ms);
/* A connection's socket is ready, or its time has come. */
void email_step_line (email_t *self, line_t *line, uint64_t now_ms);

#endif
