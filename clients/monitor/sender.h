/* What the monitor sends by HTTP and mail. SPDX-License-Identifier: MIT

   Role: one thread with many transfers at once (workers/transfers.h), so that a server that hangs
   keeps nobody else waiting. Owns: jobs, their bytes. Invariants: a bounded number of jobs waits;
   one that fails is tried again, later each time, up to its bound; then it is given up and logged.
   `ended`, where there is one, is called once for each try, from the thread. */
#ifndef EF_MONITOR_SENDER_H
#define EF_MONITOR_SENDER_H

#include "../../proto/assert.h"
#include "../../proto/buf.h"

#define SENDER_JOBS_MAX 256 /* that wait or are under way */

typedef struct sender_s sender_t;

typedef struct {
    const char *kind; /* for the log: "webhook" */
    const char *url;
    const char *header; /* one more; NULL: none */
    const char *type;   /* Content-Type; NULL: this is mail */
    const char *user;   /* and password, NULL: none */
    const char *password;
    const char *mail_from; /* of a mail */
    const char *mail_to;   /* addresses, by commas */
    unsigned mail_tls;     /* MAIL_TLS_… */
    uint32_t tries;        /* at the most */
    uint32_t timeout_ms;   /* of one; 0: 10 s */
    ef_buf_t body;         /* taken */
    /* `status` of HTTP or SMTP, 0: there was no answer; `why` says what went wrong, "" where it is
       done. Returns whether to try again; NULL: as long as there are tries and it may help. */
    bool (*ended) (void *arg, long status, const char *why, uint32_t retry_after_s);
    void *arg;
} sender_job_t;

sender_t *sender_new (char error[512]);
/* Gives what is under way `grace_ms`. */
void sender_destroy (sender_t **self_p, uint32_t grace_ms);

/* Takes the job; texts are copied. -1: too much waits; the body is freed. From any thread. */
int sender_send (sender_t *self, sender_job_t *job);

typedef struct {
    uint64_t sent;
    uint64_t failed;   /* tries */
    uint64_t given_up; /* jobs */
    uint32_t waiting;
} sender_numbers_t;
void sender_numbers (sender_t *self, sender_numbers_t *numbers);

#endif
