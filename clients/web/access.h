/* Who may do what. SPDX-License-Identifier: MIT

   Without a token a caller on loopback may do everything that the server does; any other address
   needs a token. Tokens stand in a file, a line each:

       NAME ROLE[,ROLE...] TOKEN        # a comment
       shop publish:email,publish:order.* 7b0d...

   roles: `read`, `publish` (all topics) or `publish:PATTERN` (* and ? as in a shell), `administer`
   (all of it). A token has 16 characters at least; it may stand as sha256:HEX of itself. It is said
   as `Authorization: Bearer TOKEN`. The file is read again when it changes; one that is wrong
   changes nothing and is logged. It must not be readable by others.

   Also here: the rate of one client, Host and Origin (a page of another origin can't act, whatever
   a browser would send for it), read-only, the audit log. */
#ifndef EF_WEB_ACCESS_H
#define EF_WEB_ACCESS_H

#include "../../broker/base/settings.h"

typedef enum {
    ROLE_NONE, /* anybody, also without a token: /health/live */
    ROLE_READ,
    ROLE_PUBLISH, /* to which topics: access_may_publish */
    ROLE_ADMINISTER
} role_t;

typedef struct {
    char tokens[1000];  /* file; empty: none */
    bool loopback_open; /* loopback needs no token */
    bool insecure;      /* an address other than loopback without TLS is taken */
    bool read_only;     /* every act is refused, READ_ONLY */
    char hosts[1000];   /* names that it is called by, by commas; loopback's are always taken */
    char origins[1000]; /* pages of these origins may call it (CORS), by commas; empty: none */
    char proxies[1000]; /* addresses whose X-Forwarded-For is believed, by commas */
    double rate;        /* requests a second of one client, 0: no bound */
    uint32_t burst;     /* that may come at once after a pause */
    char audit[1000];   /* file of JSON lines; empty: standard error; "none" */
} access_options_t;

/* Who calls; part of a call. */
typedef struct {
    char name[64];       /* of the token; "loopback" */
    unsigned roles;      /* bits 1 << ROLE_… */
    int token;           /* index, -1: none */
    uint64_t generation; /* of the file */
} identity_t;

typedef struct access_s access_t;

/* NULL: `error` says why (a token file that can't be read, …). `options` are borrowed. */
access_t *access_new (const access_options_t *options, char error[512]);
void access_destroy (access_t **self_p);
/* Looks whether the token file has changed; the server calls it each second. */
void access_refresh (access_t *self);

/* True where `role` is among what it may. */
bool access_is_allowed (const identity_t *identity, role_t role);
/* True where it may publish to this topic; NULL: an event that names none (any pattern will do only
   where it is `*`). */
bool access_may_publish (access_t *self, const identity_t *identity, const char *topic,
                         size_t size);

/* For the server: what a request says of itself. */
typedef struct {
    const char *address; /* of the client, as text */
    bool is_loopback;
    bool is_tls;
    const char *method;
    const char *authorization; /* headers; NULL: not there */
    const char *host;
    const char *origin;
    const char *fetch_site; /* Sec-Fetch-Site */
    role_t role;
    bool is_act;
} access_request_t;
/* NULL: it may go on, and `identity` is filled. Else a code of problem.h, with `why` (static). */
const char *access_check (access_t *self, const access_request_t *request, identity_t *identity,
                          const char **why);
/* How many seconds until this client may come again; 0: it may now, and one request is counted. */
uint32_t access_rate (access_t *self, const char *client);
/* True where pages of this origin may call. */
bool access_is_origin (const access_t *self, const char *origin, size_t size);

/* A line of JSON for an act. */
typedef struct {
    const char *who;
    const char *client;
    const char *method;
    const char *path;
    const char *request_id; /* NULL: none */
    const char *note;       /* NULL: none */
    unsigned status;
    const char *listener;
} access_act_t;
void access_audit (access_t *self, const access_act_t *act);

/* Compares in a time that depends on `size` alone. */
bool access_is_same (const void *a, const void *b, size_t size);

#endif
