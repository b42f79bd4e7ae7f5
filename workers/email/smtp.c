/* One connection to a mail server. SPDX-License-Identifier: MIT */
#include "smtp.h"

#include "../../proto/event.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MS 10000 /* for the answer to RSET or NOOP */

static void
s_enter (smtp_t *self, smtp_state_t state, uint64_t now_ms) {
    self->state = state;
    self->since_ms = now_ms;
}

static void
s_watch (smtp_t *self, int socket, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = self};
    int epoll = self->settings->epoll;
    if (epoll_ctl (epoll, EPOLL_CTL_MOD, socket, &event) && errno == ENOENT) {
        int rc = epoll_ctl (epoll, EPOLL_CTL_ADD, socket, &event);
        ef_assert (rc == 0);
    }
}

static int
s_socket_changed (CURL *easy, curl_socket_t socket, int what, void *arg, void *of_socket) {
    smtp_t *self = arg;
    uint32_t at = 0;
    (void)easy;
    (void)of_socket;
    while (at < self->dialing_count && self->dialing[at].fd != socket) {
        at++;
    }
    if (what == CURL_POLL_REMOVE) {
        (void)epoll_ctl (self->settings->epoll, EPOLL_CTL_DEL, socket, NULL); /* or it is closed */
        if (at < self->dialing_count) {
            self->dialing[at] = self->dialing[--self->dialing_count];
        }
        return 0;
    }
    ef_assert (at < SMTP_SOCKETS);
    self->dialing_count += at == self->dialing_count;
    self->dialing[at] = (struct pollfd){
        socket, (short)((what & CURL_POLL_IN ? POLLIN : 0) | (what & CURL_POLL_OUT ? POLLOUT : 0)),
        0};
    s_watch (self, socket,
             (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u));
    return 0;
}

static int
s_timer_changed (CURLM *multi, long timeout_ms, void *arg) {
    smtp_t *self = arg;
    (void)multi;
    self->due_ms = timeout_ms < 0 ? UINT64_MAX : ef_mono_ms () + (uint64_t)timeout_ms;
    return 0;
}

static void
s_learn (smtp_abilities_t *abilities, const char *line, size_t size) {
    static const char *const words[] = {"PIPELINING", "SMTPUTF8", "SIZE"};
    bool *flags[] = {&abilities->has_pipelining, &abilities->has_utf8, &abilities->has_size};
    for (unsigned i = 0; i < 3 && size > 4; i++) {
        size_t length = strlen (words[i]);
        bool is_word = size >= 4 + length && strncasecmp (line + 4, words[i], length) == 0 &&
                       (size == 4 + length || strchr (" \r\n", line[4 + length]));
        *flags[i] = *flags[i] || is_word;
        for (size_t k = 4 + length; is_word && i == 2 && k < size; k++) {
            bool is_digit = line[k] >= '0' && line[k] <= '9';
            if (is_digit && abilities->size_max < UINT64_MAX / 100) {
                abilities->size_max = abilities->size_max * 10 + (uint64_t)(line[k] - '0');
            }
        }
    }
}

/* Lines that the server says while libcurl opens the connection. The last EHLO counts: that behind
   STARTTLS. */
static size_t
s_heard_line (char *line, size_t size, size_t count, void *arg) {
    smtp_t *self = arg;
    size_t used;
    size *= count;
    if (size > 3 && memcmp (line, "220", 3) == 0) {
        self->is_secure = self->is_greeted || self->is_secure; /* the second one is STARTTLS's */
        self->is_greeted = true;
        memset (&self->abilities, 0, sizeof self->abilities);
    }
    if (size > 3 && memcmp (line, "250", 3) == 0) {
        s_learn (&self->abilities, line, size);
    }
    (void)smtp_reply_read (&self->reply, line, size, &used); /* libcurl judges it; for errors */
    return size;
}

int
smtp_init (smtp_t *self, const smtp_settings_t *settings) {
    memset (self, 0, sizeof *self);
    self->settings = settings;
    self->due_ms = UINT64_MAX;
    self->socket = -1;
    self->multi = curl_multi_init ();
    self->easy = curl_easy_init ();
    if (self->multi == NULL || self->easy == NULL) {
        smtp_free (self);
        return -1;
    }
    curl_multi_setopt (self->multi, CURLMOPT_SOCKETFUNCTION, s_socket_changed);
    curl_multi_setopt (self->multi, CURLMOPT_SOCKETDATA, self);
    curl_multi_setopt (self->multi, CURLMOPT_TIMERFUNCTION, s_timer_changed);
    curl_multi_setopt (self->multi, CURLMOPT_TIMERDATA, self);
    return 0;
}

void
smtp_free (smtp_t *self) {
    smtp_close (self);
    curl_easy_cleanup (self->easy);
    (void)curl_multi_cleanup (self->multi); /* it holds nothing any more */
    smtp_dialog_free (&self->dialog);
    self->easy = NULL;
    self->multi = NULL;
}

static void
s_set_options (smtp_t *self) {
    static const long tls[] = {CURLUSESSL_NONE, CURLUSESSL_TRY, CURLUSESSL_ALL};
    const smtp_settings_t *settings = self->settings;
    CURL *easy = self->easy;
    curl_easy_reset (easy);
    curl_easy_setopt (easy, CURLOPT_URL, settings->url);
    curl_easy_setopt (easy, CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    curl_easy_setopt (easy, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt (easy, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt (easy, CURLOPT_QUICK_EXIT, 1L); /* a look-up given up isn't waited for */
#endif
    curl_easy_setopt (easy, CURLOPT_PROXY, ""); /* nor one of the environment */
    curl_easy_setopt (easy, CURLOPT_SHARE, settings->share);
    curl_easy_setopt (easy, CURLOPT_ERRORBUFFER, self->words);
    curl_easy_setopt (easy, CURLOPT_HEADERFUNCTION, s_heard_line);
    curl_easy_setopt (easy, CURLOPT_HEADERDATA, self);
    curl_easy_setopt (easy, CURLOPT_CONNECTTIMEOUT_MS, (long)settings->ready_ms);
    curl_easy_setopt (easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt (easy, CURLOPT_USE_SSL, tls[settings->tls]);
    curl_easy_setopt (easy, CURLOPT_SSL_VERIFYPEER, settings->verifies ? 1L : 0L);
    curl_easy_setopt (easy, CURLOPT_SSL_VERIFYHOST, settings->verifies ? 2L : 0L);
    if (settings->ca_file[0]) {
        curl_easy_setopt (easy, CURLOPT_CAINFO, settings->ca_file);
        curl_easy_setopt (easy, CURLOPT_CAPATH, NULL);
    }
    if (settings->user[0]) {
        curl_easy_setopt (easy, CURLOPT_USERNAME, settings->user);
        curl_easy_setopt (easy, CURLOPT_PASSWORD, settings->password);
    }
}

void
smtp_dial (smtp_t *self, uint64_t now_ms) {
    ef_assert (self->state == SMTP_CLOSED);
    s_enter (self, SMTP_DIALING, now_ms);
    memset (&self->abilities, 0, sizeof self->abilities);
    memset (&self->failure, 0, sizeof self->failure);
    smtp_reply_init (&self->reply);
    self->words[0] = 0;
    self->is_greeted = false;
    self->is_secure = strncmp (self->settings->url, "smtps", 5) == 0;
    self->has_sent = false;
    s_set_options (self);
    self->is_added = curl_multi_add_handle (self->multi, self->easy) == CURLM_OK;
    self->due_ms = now_ms; /* also where it couldn't be added: the step says so */
}

void
smtp_close (smtp_t *self) {
    size_t sent;
    if (self->state == SMTP_IDLE) {
        (void)curl_easy_send (self->easy, "QUIT\r\n", 6, &sent); /* as far as it goes */
    }
    if (self->socket >= 0) {
        /* Or libcurl says QUIT too, and waits for the answer. */
        (void)shutdown (self->socket, SHUT_RDWR);
        (void)epoll_ctl (self->settings->epoll, EPOLL_CTL_DEL, self->socket, NULL);
    }
    if (self->is_added) {
        (void)curl_multi_remove_handle (self->multi, self->easy); /* it is there */
    }
    self->is_added = false;
    self->dialing_count = 0;
    self->socket = -1;
    self->wants_out = false;
    self->due_ms = UINT64_MAX;
    self->state = SMTP_CLOSED;
}

static smtp_event_t
s_fail (smtp_t *self, const char *code, const char *text) {
    smtp_failure_t *failure = &self->failure;
    snprintf (failure->code, sizeof failure->code, "%s", code);
    snprintf (failure->text, sizeof failure->text, "%s", text);
    if (self->state == SMTP_IDLE) {
        self->state = SMTP_WAITING; /* QUIT would reach nobody */
    }
    smtp_close (self);
    return SMTP_FAILED;
}

/* Says why libcurl couldn't open it. */
static smtp_event_t
s_fail_to_dial (smtp_t *self, CURLcode code) {
    static const struct {
        CURLcode code;
        const char *name;
    } names[] = {{CURLE_COULDNT_RESOLVE_HOST, "RESOLVE"}, {CURLE_COULDNT_CONNECT, "CONNECT"},
                 {CURLE_OPERATION_TIMEDOUT, "TIMEOUT"},   {CURLE_SSL_CONNECT_ERROR, "TLS"},
                 {CURLE_PEER_FAILED_VERIFICATION, "TLS"}, {CURLE_USE_SSL_FAILED, "TLS"},
                 {CURLE_SSL_CACERT_BADFILE, "TLS"},       {CURLE_SSL_ISSUER_ERROR, "TLS"},
                 {CURLE_SSL_INVALIDCERTSTATUS, "TLS"},    {CURLE_SSL_CERTPROBLEM, "TLS"},
                 {CURLE_SSL_ENGINE_INITFAILED, "TLS"},    {CURLE_SSL_CIPHER, "TLS"}};
    const char *name = "CONNECTION";
    char text[SMTP_TEXT_MAX + 100];
    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        name = names[i].code == code ? names[i].name : name;
    }
    bool is_said = self->reply.code >= 400;
    self->failure.is_login = code == CURLE_LOGIN_DENIED;
    if (is_said && strcmp (name, "TLS") != 0) {
        self->failure.reply = self->reply.code;
        snprintf (text, sizeof text, "%u %s", self->reply.code, self->reply.text);
        return s_fail (self, "", text);
    }
    snprintf (text, sizeof text, "%s", self->words[0] ? self->words : curl_easy_strerror (code));
    return s_fail (self, name, text);
}

/* Tells libcurl which of its sockets are ready; they are few, and it has changed them since. */
static void
s_drive (smtp_t *self, uint64_t now_ms) {
    struct pollfd ready[SMTP_SOCKETS];
    uint32_t count = self->dialing_count;
    int running;
    memcpy (ready, self->dialing, sizeof ready);
    if (count > 0 && poll (ready, count, 0) > 0) {
        for (uint32_t i = 0; i < count; i++) {
            short events = ready[i].revents;
            int what = (events & POLLIN ? CURL_CSELECT_IN : 0) |
                       (events & POLLOUT ? CURL_CSELECT_OUT : 0) |
                       (events & (POLLERR | POLLHUP) ? CURL_CSELECT_ERR : 0);
            if (events) {
                (void)curl_multi_socket_action (self->multi, ready[i].fd, what, &running);
            }
        }
    }
    if (now_ms >= self->due_ms) {
        self->due_ms = UINT64_MAX;
        (void)curl_multi_socket_action (self->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
}

static bool
s_has_connected (const smtp_t *self) {
    curl_off_t connect_us = 0;
    (void)curl_easy_getinfo (self->easy, CURLINFO_CONNECT_TIME_T, &connect_us);
    return connect_us > 0;
}

static smtp_event_t
s_step_dialing (smtp_t *self, uint64_t now_ms) {
    int left;
    if (!self->is_added) {
        return s_fail (self, "CONNECTION", "libcurl takes no more transfers");
    }
    s_drive (self, now_ms);
    const CURLMsg *message = curl_multi_info_read (self->multi, &left);
    if (message == NULL) {
        bool is_late = now_ms >= self->since_ms + self->settings->connect_ms;
        return is_late && !s_has_connected (self)
                   ? s_fail (self, "TIMEOUT", "no connection within the time for that")
                   : SMTP_NOTHING;
    }
    if (message->data.result != CURLE_OK) {
        return s_fail_to_dial (self, message->data.result);
    }
    curl_socket_t socket = CURL_SOCKET_BAD;
    (void)curl_easy_getinfo (self->easy, CURLINFO_ACTIVESOCKET, &socket);
    if (socket == CURL_SOCKET_BAD) {
        return s_fail (self, "CONNECTION", "it was closed at once");
    }
    self->socket = socket;
    self->due_ms = UINT64_MAX;
    self->in_at = self->in_end = 0;
    self->is_deaf = false;
    smtp_reply_init (&self->reply);
    s_watch (self, socket, EPOLLIN);
    s_enter (self, SMTP_IDLE, now_ms);
    return SMTP_OPENED;
}

/* Sends what there is to send, as far as the socket takes it. */
static void
s_flush (smtp_t *self) {
    smtp_dialog_t *dialog = &self->dialog;
    bool waited = self->wants_out;
    self->wants_out = false;
    while (dialog->sent < dialog->out.size && !self->is_deaf) {
        size_t sent = 0;
        CURLcode code = curl_easy_send (self->easy, dialog->out.data + dialog->sent,
                                        dialog->out.size - dialog->sent, &sent);
        dialog->sent += sent;
        if (code == CURLE_AGAIN) {
            self->wants_out = true;
            break;
        }
        self->is_deaf = code != CURLE_OK;
    }
    if (self->wants_out != waited) {
        s_watch (self, self->socket, EPOLLIN | (self->wants_out ? EPOLLOUT : 0u));
    }
}

/* The next reply. 1: it is in `reply`; 0: not yet; -1: the connection has ended. A socket that gave
   less than was asked for is asked again when it is ready again; TLS may keep bytes back. */
static int
s_read_reply (smtp_t *self) {
    while (true) {
        size_t used = 0;
        size_t left = self->in_end - self->in_at;
        int rc = left ? smtp_reply_read (&self->reply, self->in + self->in_at, left, &used) : 0;
        self->in_at += used;
        if (rc) {
            return rc;
        }
        if (!self->may_read && !self->is_deaf) {
            return 0;
        }
        size_t got = 0;
        CURLcode code = curl_easy_recv (self->easy, self->in, sizeof self->in, &got);
        if (code == CURLE_AGAIN) {
            self->may_read = false;
            return self->is_deaf ? -1 : 0;
        }
        if (code != CURLE_OK || got == 0) {
            return -1;
        }
        self->may_read = self->is_secure || got == sizeof self->in;
        self->in_at = 0;
        self->in_end = got;
    }
}

/* A reply to what was said about a mail. */
static smtp_event_t
s_take_reply (smtp_t *self, uint64_t now_ms) {
    char text[SMTP_TEXT_MAX + 60];
    bool is_old = smtp_dialog_is_unheard (&self->dialog) && self->was_idle;
    if (is_old && self->reply.code == 421) {
        return s_fail (self, "CONNECTION", self->reply.text); /* it waited too long for this mail */
    }
    switch (smtp_dialog_reply (&self->dialog, &self->reply)) {
    case DIALOG_GOES_ON: return SMTP_NOTHING;
    case DIALOG_IS_OVER:
        s_enter (self, SMTP_IDLE, now_ms);
        if (self->in_at < self->in_end) {
            smtp_close (
                self); /* it says more than it was asked: replies would be taken for others */
        }
        return SMTP_ENDED;
    case DIALOG_RESETS:
        s_enter (self, SMTP_WAITING, now_ms);
        s_flush (self);
        return SMTP_ENDED;
    default: break;
    }
    if (smtp_dialog_is_over (&self->dialog)) {
        smtp_close (self);
        return SMTP_ENDED;
    }
    snprintf (text, sizeof text, "an unexpected reply: %u %s", self->reply.code, self->reply.text);
    return s_fail (self, "CONNECTION", text);
}

static smtp_event_t
s_step_mail (smtp_t *self, uint64_t now_ms) {
    smtp_event_t event = SMTP_NOTHING;
    int rc = 1;
    while (rc == 1 && event == SMTP_NOTHING) {
        s_flush (self);
        rc = s_read_reply (self);
        event = rc == 1 ? s_take_reply (self, now_ms) : SMTP_NOTHING;
    }
    return rc < 0 ? s_fail (self, "CONNECTION", "the server ended the connection") : event;
}

static smtp_event_t
s_step_waiting (smtp_t *self, uint64_t now_ms) {
    s_flush (self);
    int rc = s_read_reply (self);
    if (rc < 0 || (rc == 1 && self->reply.code >= 400)) {
        return s_fail (self, "CONNECTION",
                       rc < 0 ? "the server ended the connection" : self->reply.text);
    }
    if (rc == 0 && now_ms >= self->since_ms + ANSWER_MS) {
        return s_fail (self, "TIMEOUT", "no answer to NOOP or RSET");
    }
    if (rc == 0) {
        return SMTP_NOTHING;
    }
    s_enter (self, SMTP_IDLE, now_ms);
    return SMTP_ANSWERED;
}

smtp_event_t
smtp_step (smtp_t *self, uint64_t now_ms) {
    self->may_read = true;
    switch (self->state) {
    case SMTP_DIALING: return s_step_dialing (self, now_ms);
    case SMTP_MAIL: return s_step_mail (self, now_ms);
    case SMTP_WAITING: return s_step_waiting (self, now_ms);
    case SMTP_IDLE: /* a server that says anything now says that it goes */
        return s_read_reply (self) == 0
                   ? SMTP_NOTHING
                   : s_fail (self, "CONNECTION", "the server ended the connection");
    default: return SMTP_NOTHING;
    }
}

void
smtp_send (smtp_t *self, const mail_t *mail, uint64_t now_ms) {
    ef_assert (self->state == SMTP_IDLE);
    smtp_dialog_begin (&self->dialog, mail, &self->abilities);
    self->was_idle = self->has_sent || now_ms > self->since_ms;
    self->has_sent = true;
    s_enter (self, SMTP_MAIL, now_ms);
    s_flush (self); /* a failure is seen by the next step: the socket is ready then */
}

void
smtp_noop (smtp_t *self, uint64_t now_ms) {
    static const char noop[] = "NOOP\r\n";
    ef_assert (self->state == SMTP_IDLE);
    ef_buf_clear (&self->dialog.out);
    self->dialog.sent = 0;
    ef_buf_put (&self->dialog.out, noop, sizeof noop - 1);
    s_enter (self, SMTP_WAITING, now_ms);
    s_flush (self); /* as there */
}

uint64_t
smtp_due_ms (const smtp_t *self) {
    uint64_t due = UINT64_MAX;
    if (self->state == SMTP_WAITING) {
        due = self->since_ms + ANSWER_MS;
    } else if (self->state == SMTP_DIALING) {
        due = self->since_ms + self->settings->connect_ms;
        due = s_has_connected (self) || self->due_ms < due ? self->due_ms : due;
    }
    return due;
}
