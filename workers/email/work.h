/* The work of the handler email, for its table. SPDX-License-Identifier: MIT */
#ifndef EF_EMAIL_WORK_H
#define EF_EMAIL_WORK_H

#include "email.h"
#include "mail.h"

typedef struct {
    char host[256]; /* an IPv6 address in its brackets */
    unsigned port;
    bool is_secure; /* TLS from the first byte */
} email_server_t;

/* Reads a server's address. 0, or -1 and `error`. */
int email_read_server (const char *text, email_server_t *server, char error[512]);
/* What making mails takes; `from` is room for the sender that stands in where none is said. */
void email_mail_settings (const email_options_t *options, char from[600], mail_settings_t *mail);

/* As handler.h says. */
void *email_create (const void *options, runtime_t *runtime, char error[512]);
void email_destroy (void **self_p);
eventflow_result_t email_handle (void *self, const eventflow_delivery_t *delivery);
void email_stop (void *self, uint64_t tag, stop_reason_t reason);
nfds_t email_polls (void *self, struct pollfd *items, nfds_t most, int *timeout_ms);
void email_step (void *self);
void email_flush (void *self);
void email_probe (void *self);

#endif
