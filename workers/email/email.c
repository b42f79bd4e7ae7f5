/* The handler email: its options, its help, its table. SPDX-License-Identifier: MIT */
#include "work.h"

#include "smtp.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HOST_MAX 240 /* with its port it fits the 255 bytes of a downstream */

static const char s_help[] =
    "Sends a mail for each event. The recipient is the payload's to_email, to or email, or the\n"
    "payload itself where it is a string: an address, \"Name <address>\", or a list of them; cc, "
    "bcc\n"
    "and reply_to likewise. The text is message or text, and html; without them the files "
    "TYPE.txt\n"
    "and TYPE.html of the directory `templates`, whose {{field}}s are the payload's (a file may "
    "begin\n"
    "with Subject: and other fields and an empty line), else text and html of these options.\n"
    "{{name|friend}} stands for friend where there is no name; {{event.id}}, .type, .topic and "
    ".time\n"
    "tell of the event. attachments is a list of {name, type, content, encoding: \"base64\"}.\n"
    "\n"
    "4xx replies, a server that can't be reached and timeouts are tried again, 5xx are not. With\n"
    "several recipients each has its own outcome: those that were refused for good are named in "
    "the\n"
    "result, for those that may be served later an event ID/rest with the same mail is made, and\n"
    "nobody gets it twice for another's sake. A repeat bears the same Message-ID, made of the "
    "event's\n"
    "id. A login that is refused makes the worker unhealthy; events wait.\n"
    "errors: BAD_ADDRESS, NO_RECIPIENT, NO_TEXT, MISSING_FIELD, BAD_FIELD, BAD_ATTACHMENT, "
    "TOO_MANY,\n"
    "TOO_LARGE, SMTPUTF8 and the server's 5xx are permanent; BAD_TEMPLATE, CONNECT, RESOLVE, TLS,\n"
    "TIMEOUT, CONNECTION and its 4xx are not.\n"
    "\n"
    "examples:\n"
    "  eventflow-worker email --server smtp://127.0.0.1:25 --from 'Shop <shop@example.org>'\n"
    "  eventflow-worker email --server smtps://smtp.example.org --user shop --password-file secret "
    "\\\n"
    "      --templates /etc/eventflow/mail --concurrency 20 --connections 10\n"
    "  eventflow publish --topic email "
    "'{\"to_email\":\"ann@example.org\",\"message\":\"Hello\"}'\n";

#define ROW(member) FIELD (email_options_t, member)
#define MINUTE      60000.0
static const setting_t s_rows[] = {
    {"server", &config_text, ROW (server), 0, 0, NULL, true,
     "smtp://HOST:PORT, or smtps:// for TLS from the start"},
    {"tls", &config_choice, ROW (tls), 0, 0, "none|try|required", true,
     "STARTTLS; with a user, try is required"},
    {"verify", &config_boolean, ROW (verify), 0, 0, NULL, true, "the server's certificate"},
    {"ca_file", &config_text, ROW (ca_file), 0, 0, NULL, true,
     "whom to trust; empty: the system's"},
    {"user", &config_text, ROW (user), 0, 0, NULL, true, "to log in as; empty: no login"},
    {"password", &config_secret, ROW (password), 0, 0, NULL, true,
     "better by password_file, or $EVENTFLOW_EMAIL_PASSWORD"},
    {"password_file", &config_text, ROW (password_file), 0, 0, NULL, true, "its first line"},
    {"from", &config_text, ROW (from), 0, 0, NULL, true, "the sender; empty: eventflow@ this host"},
    {"helo", &config_text, ROW (helo), 0, 0, NULL, true, "our name; empty: the host's"},
    {"message_host", &config_text, ROW (message_host), 0, 0, NULL, true,
     "behind the @ of Message-ID; empty: the domain of from"},
    {"connections", &config_number, ROW (connections), 1, 1000, NULL, true,
     "open at once at the most"},
    {"connect_timeout", &config_duration, ROW (connect_ms), 1, 10 * MINUTE, NULL, true,
     "until the server is reached"},
    {"ready_timeout", &config_duration, ROW (ready_ms), 1, 10 * MINUTE, NULL, true,
     "until it has greeted and taken the login"},
    {"idle", &config_duration, ROW (idle_ms), 100, 60 * MINUTE, NULL, true,
     "a connection not used for so long is closed"},
    {"templates", &config_text, ROW (templates), 0, 0, NULL, true,
     "a directory with TYPE.txt and TYPE.html"},
    {"subject", &config_text, ROW (subject), 0, 0, NULL, true,
     "where nothing else says it; empty: the event's type"},
    {"text", &config_text, ROW (text), 0, 0, NULL, true, "a template for all types"},
    {"html", &config_text, ROW (html), 0, 0, NULL, true, "the same as HTML"},
};
static const settings_t s_settings = {s_rows, sizeof s_rows / sizeof s_rows[0]};

static void
s_defaults (void *options) {
    email_options_t *self = options;
    snprintf (self->server, sizeof self->server, "smtp://127.0.0.1:25");
    self->tls = SMTP_TLS_TRY;
    self->verify = true;
    self->connections = 5;
    self->connect_ms = 5000;
    self->ready_ms = 30000; /* servers that let a stranger wait do so for 5 to 20 s */
    self->idle_ms = 60000;  /* they close after 5 minutes, many sooner */
}

int
email_read_server (const char *text, email_server_t *server, char error[512]) {
    CURLU *url = curl_url ();
    char *parts[5] = {NULL};
    static const CURLUPart wanted[] = {CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT,
                                       CURLUPART_PATH, CURLUPART_USER};
    int rc = -1;
    ef_assert (url != NULL);
    if (curl_url_set (url, CURLUPART_URL, text, 0) == CURLUE_OK) {
        for (unsigned i = 0; i < 5; i++) {
            (void)curl_url_get (url, wanted[i], &parts[i], 0); /* NULL: it isn't there */
        }
    }
    bool is_smtp = parts[0] && (strcmp (parts[0], "smtp") == 0 || strcmp (parts[0], "smtps") == 0);
    bool has_more = parts[4] || (parts[3] && strcmp (parts[3], "/") != 0);
    if (is_smtp && !has_more && parts[1] && parts[1][0] && strlen (parts[1]) <= HOST_MAX) {
        rc = 0;
        server->is_secure = parts[0][4] == 's';
        snprintf (server->host, sizeof server->host, "%s", parts[1]);
        server->port = parts[2]            ? (unsigned)strtoul (parts[2], NULL, 10)
                       : server->is_secure ? 465
                                           : 25;
    } else {
        /* It isn't shown: there may be a password in it. */
        snprintf (error, 512, "server: expected smtp://HOST:PORT or smtps://HOST:PORT");
    }
    for (unsigned i = 0; i < 5; i++) {
        curl_free (parts[i]);
    }
    curl_url_cleanup (url);
    return rc;
}

void
email_mail_settings (const email_options_t *options, char from[600], mail_settings_t *mail) {
    char name[200] = "localhost";
    (void)gethostname (name, sizeof name - 1); /* else as it stands */
    snprintf (from, 600, "eventflow@%s", name);
    *mail = (mail_settings_t){.from = options->from[0] ? options->from : from,
                              .host = options->message_host,
                              .subject = options->subject,
                              .text = options->text,
                              .html = options->html,
                              .templates = options->templates};
}

static int
s_check (const void *options, char error[512]) {
    const email_options_t *self = options;
    email_server_t server;
    mail_settings_t mail;
    char from[600];
    if (email_read_server (self->server, &server, error)) {
        return -1;
    }
    if (server.is_secure && self->tls == SMTP_TLS_NONE) {
        snprintf (error, 512, "tls: none, but the server is smtps://");
        return -1;
    }
    bool has_password = self->password[0] || self->password_file[0];
    if (has_password != (self->user[0] != 0)) {
        snprintf (error, 512, "expected user and password both, or neither");
        return -1;
    }
    if (self->helo[strspn (self->helo, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                       "0123456789.-[]:")]) {
        snprintf (error, 512, "helo: expected a host's name");
        return -1;
    }
    email_mail_settings (self, from, &mail);
    mail_maker_t *maker = mail_maker_new (&mail, error);
    bool is_good = maker != NULL;
    mail_maker_destroy (&maker);
    return is_good ? 0 : -1;
}

const handler_t handler_email = {.name = "email",
                                 .summary = "sends mail over SMTP",
                                 .help = s_help,
                                 .settings = &s_settings,
                                 .options_bytes = sizeof (email_options_t),
                                 .defaults = s_defaults,
                                 .check = s_check,
                                 .create = email_create,
                                 .destroy = email_destroy,
                                 .handle = email_handle,
                                 .stop = email_stop,
                                 .polls = email_polls,
                                 .step = email_step,
                                 .flush = email_flush,
                                 .probe = email_probe};
