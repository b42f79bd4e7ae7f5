/* One connection to a mail server. SPDX-License-Identifier: MIT

   Role: opens it through libcurl (name, TCP, greeting, EHLO, STARTTLS or TLS, AUTH), then says mail
   after mail on it. libcurl's own sending of mail waits for the server's last word with everything
   else standing still (smtp_done in 7.88 runs its state machine to the end), and tells one outcome
   for all recipients; so libcurl opens the connection (CURLOPT_CONNECT_ONLY) and carries the bytes
   (curl_easy_send, curl_easy_recv), and what is said stands in smtp_dialog.c.
   Owns: a multi handle of its own, since libcurl closes idle connections of a shared one when it
   looks for one to use again, and to libcurl these are idle. One thread; never blocks. */
#ifndef EF_SMTP_H
#define EF_SMTP_H

#include "smtp_dialog.h"

#include <curl/curl.h>
#include <poll.h>

#define SMTP_SOCKETS 8 /* that libcurl has while it opens one: two addresses, the resolver's */

typedef enum { SMTP_TLS_NONE, SMTP_TLS_TRY, SMTP_TLS_REQUIRED } smtp_tls_t;

typedef struct {
    const char *url;  /* smtp://host:port/helo, or smtps */
    const char *user; /* empty: nobody */
    const char *password;
    const char *ca_file; /* empty: the system's */
    smtp_tls_t tls;
    bool verifies;
    uint32_t connect_ms; /* name and TCP */
    uint32_t ready_ms;   /* until the server is ready for mail */
    CURLSH *share;       /* names that were looked up */
    int epoll;           /* sockets are put there, with the connection as data.ptr */
} smtp_settings_t;

typedef enum {
    SMTP_CLOSED,
    SMTP_DIALING,
    SMTP_IDLE,   /* ready for mail */
    SMTP_MAIL,   /* a mail is under way */
    SMTP_WAITING /* for the answer to RSET or NOOP */
} smtp_state_t;

/* What a step has come to. */
typedef enum {
    SMTP_NOTHING,
    SMTP_OPENED,   /* it is IDLE for the first time */
    SMTP_ENDED,    /* the mail's dialog is over; the connection is IDLE, WAITING or CLOSED */
    SMTP_ANSWERED, /* to RSET or NOOP; it is IDLE */
    SMTP_FAILED    /* CLOSED: dialing has failed or the connection is lost; why is in `failure` */
} smtp_event_t;

/* Why a connection is not there. */
typedef struct {
    char code[24];  /* CONNECT, RESOLVE, TIMEOUT, TLS, CONNECTION, or empty: */
    unsigned reply; /* the server's code */
    bool is_login;  /* it doesn't take user and password */
    char text[SMTP_TEXT_MAX + 100];
} smtp_failure_t;

typedef struct {
    const smtp_settings_t *settings; /* borrowed */
    smtp_state_t state;
    smtp_abilities_t abilities;
    smtp_dialog_t dialog;
    smtp_failure_t failure;
    uint64_t since_ms; /* in this state */
    bool was_idle;     /* the connection had waited when this mail came: it may be gone */
    void *owner;       /* the caller's */
    /* of its own */
    CURLM *multi;
    CURL *easy;
    smtp_reply_t reply;
    char words[CURL_ERROR_SIZE];
    uint64_t due_ms;                     /* libcurl's timer; UINT64_MAX: none */
    struct pollfd dialing[SMTP_SOCKETS]; /* libcurl's, until it is open */
    uint32_t dialing_count;
    int socket;     /* once open */
    bool wants_out; /* it waits until the socket takes more */
    bool may_read;  /* the socket may have more */
    bool is_greeted;
    bool has_sent;  /* a mail */
    bool is_secure; /* by TLS */
    bool is_deaf;   /* the other side takes nothing more; it may have said why */
    char in[4096];  /* read and not yet looked at: from in_at to in_end */
    size_t in_at;
    size_t in_end;
    bool is_added; /* `easy` is the multi's */
} smtp_t;

/* 0, or -1: libcurl has no more handles. */
EF_MUST_USE int smtp_init (smtp_t *self, const smtp_settings_t *settings);
void smtp_free (smtp_t *self);

void smtp_dial (smtp_t *self, uint64_t now_ms); /* CLOSED */
/* IDLE: a mail, borrowed until it ENDED, or the connection FAILED or was closed. */
void smtp_send (smtp_t *self, const mail_t *mail, uint64_t now_ms);
void smtp_noop (smtp_t *self, uint64_t now_ms); /* IDLE */
/* At once, from any state. Says QUIT where it is IDLE and doesn't wait for the answer. */
void smtp_close (smtp_t *self);

/* A socket of it is ready, or its time has come. Called again while it `has_more`. */
smtp_event_t smtp_step (smtp_t *self, uint64_t now_ms);
static inline bool
smtp_has_more (const smtp_t *self) {
    return self->socket >= 0 && (self->in_at < self->in_end || self->is_secure);
}
/* When it wants to be stepped whatever comes; UINT64_MAX: never. */
uint64_t smtp_due_ms (const smtp_t *self);

#endif
