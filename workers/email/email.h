/* The handler email: sends mail over SMTP. SPDX-License-Identifier: MIT */
#ifndef EF_EMAIL_H
#define EF_EMAIL_H

#include "../handler.h"

typedef struct {
    char server[300];
    uint32_t tls; /* smtp_tls_t */
    bool verify;
    char ca_file[1024];
    char user[256];
    char password[256];
    char password_file[1024];
    char from[600];
    char helo[256];
    char message_host[256];
    uint32_t connections;
    uint32_t connect_ms;
    uint32_t ready_ms;
    uint32_t idle_ms;
    char templates[1024];
    char subject[1000];
    char text[4000];
    char html[4000];
} email_options_t;

#endif
