/* What is answered to the broker about a mail. SPDX-License-Identifier: MIT

   Per recipient a 2xx, a 4xx (may pass) or a 5xx (won't). Who has had the mail never gets it again
   for somebody else's sake:
     all took it            DONE
     some took it           DONE; the 5xx are named in the result; the 4xx become an event of their
                            own (mail_rest), accepted together with the DONE or not at all
     none, some 4xx         RETRY with the first 4xx
     none, all 5xx          DEAD with the first
     the connection broke   RETRY; behind the text's end it may have been sent, and the answer says
   so the server wants       RETRY in a while: the operator's to mend another login */
#ifndef EF_EMAIL_ANSWER_H
#define EF_EMAIL_ANSWER_H

#include "../../clients/c/eventflow.h"
#include "smtp.h"

#define EMAIL_LOGIN_MS 60000 /* before a login is tried again: servers lock out who guesses */
#define EMAIL_REST_MS  5000  /* before those recipients are tried again */

/* Words and what they point to; kept from one answer to the next. */
typedef struct {
    eventflow_result_t result;
    eventflow_answer_t words;
    bool is_login;
    char code[32];
    char text[1000];
    char trace[4000];
    ef_buf_t result_value;
    ef_buf_t events;
    ef_buf_t left; /* addresses */
    eventflow_bytes_t result_bytes;
    eventflow_bytes_t events_bytes;
} email_answer_t;

void email_answer_free (email_answer_t *self);

/* The mail's dialog is over, or its connection has failed before (`failure`, else NULL). `event` is
   the whole event. */
void email_answer_dialog (email_answer_t *self, const smtp_dialog_t *dialog,
                          const smtp_failure_t *failure, ef_span_t event);
/* There is no connection. */
void email_answer_failure (email_answer_t *self, const smtp_failure_t *failure);
/* Something else, in words. */
void email_answer_say (email_answer_t *self, eventflow_result_t result, const char *code,
                       const char *text);

#endif
