/* Who may do what. SPDX-License-Identifier: MIT

   Invariants: a list of tokens is replaced whole, under the lock; an identity keeps the generation
   of the list it was found in, and one of an older list may nothing more. */
#include "access.h"
#include "../../broker/base/log.h"
#include "../../proto/event.h"
#include "../../proto/json.h"
#include "rates.h"
#include "tokens.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

struct access_s {
    const access_options_t *options;
    pthread_rwlock_t lock;
    tokens_t tokens;
    uint64_t generation;
    struct timespec changed; /* of the file */
    off_t size;
    rates_t *rates; /* NULL: no bound */
    FILE *audit;    /* NULL: none */
    pthread_mutex_t audit_lock;
    bool is_cut; /* its last line */
};

static int
s_open_audit (access_t *self, char error[512]) {
    const char *path = self->options->audit;
    if (strcmp (path, "none") == 0) {
        return 0;
    }
    self->audit = path[0] ? fopen (path, "ae") : stderr;
    if (self->audit == NULL) {
        snprintf (error, 512, "audit: can't write %.300s: %s", path, strerror (errno));
        return -1;
    }
    return 0;
}

static bool
s_has_changed (access_t *self) {
    struct stat status;
    if (stat (self->options->tokens, &status)) {
        return false; /* it is being replaced, or is gone: what was read stays */
    }
    bool has_changed = status.st_mtim.tv_sec != self->changed.tv_sec ||
                       status.st_mtim.tv_nsec != self->changed.tv_nsec ||
                       status.st_size != self->size;
    self->changed = status.st_mtim;
    self->size = status.st_size;
    return has_changed;
}

access_t *
access_new (const access_options_t *options, char error[512]) {
    access_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->options = options;
    self->generation = 1;
    pthread_rwlock_init (&self->lock, NULL);
    pthread_mutex_init (&self->audit_lock, NULL);
    int rc = s_open_audit (self, error);
    if (rc == 0 && options->tokens[0]) {
        (void)s_has_changed (self);
        rc = tokens_load (&self->tokens, options->tokens, error);
    }
    if (options->rate > 0) {
        self->rates = rates_new (options->rate, options->burst);
    }
    if (rc) {
        access_destroy (&self);
    }
    return self;
}

void
access_destroy (access_t **self_p) {
    access_t *self = *self_p;
    if (self) {
        tokens_free (&self->tokens);
        rates_destroy (&self->rates);
        if (self->audit && self->audit != stderr) {
            fclose (self->audit);
        }
        pthread_rwlock_destroy (&self->lock);
        pthread_mutex_destroy (&self->audit_lock);
        free (self);
        *self_p = NULL;
    }
}

void
access_refresh (access_t *self) {
    tokens_t fresh;
    char error[512];
    if (self->options->tokens[0] == 0 || !s_has_changed (self)) {
        return;
    }
    if (tokens_load (&fresh, self->options->tokens, error)) {
        ef_log (EF_LOG_ERROR, "tokens.refused", "why=\"%s\"", error);
        return;
    }
    pthread_rwlock_wrlock (&self->lock);
    tokens_t old = self->tokens;
    self->tokens = fresh;
    self->generation++;
    pthread_rwlock_unlock (&self->lock);
    tokens_free (&old);
    ef_log (EF_LOG_INFO, "tokens.read", "count=%u", fresh.count);
}

bool
access_is_allowed (const identity_t *identity, role_t role) {
    return role == ROLE_NONE || (identity->roles & 1u << role) != 0;
}

bool
access_may_publish (access_t *self, const identity_t *identity, const char *topic, size_t size) {
    if (identity->token < 0) {
        return access_is_allowed (identity, ROLE_PUBLISH);
    }
    pthread_rwlock_rdlock (&self->lock);
    bool may = identity->generation == self->generation &&
               tokens_allow (&self->tokens.items[identity->token], topic, size);
    pthread_rwlock_unlock (&self->lock);
    return may;
}

/* Is a host, with or without a port, one of these names or a loopback one? */
static bool
s_is_host (const char *list, const char *host) {
    const char *end = host[0] == '[' ? strchr (host, ']') : strchr (host, ':');
    size_t size = end == NULL ? strlen (host) : (size_t)(end - host) + (host[0] == '[');
    if ((size == 9 && strncasecmp (host, "localhost", 9) == 0) ||
        (size == 5 && memcmp (host, "[::1]", 5) == 0)) {
        return true;
    }
    if (size > 4 && memcmp (host, "127.", 4) == 0 && strspn (host, "0123456789.") == size) {
        return true;
    }
    for (const char *at = list; *at; at += strspn (at, ", ")) {
        size_t length = strcspn (at, ", ");
        if (length == size && strncasecmp (at, host, size) == 0) {
            return true;
        }
        at += length;
    }
    return false;
}

bool
access_is_origin (const access_t *self, const char *origin, size_t size) {
    for (const char *at = self->options->origins; *at; at += strspn (at, ", ")) {
        size_t length = strcspn (at, ", ");
        if (length == size && strncasecmp (at, origin, size) == 0) {
            return true;
        }
        at += length;
    }
    return false;
}

/* Does a page of this origin stand on this very server? */
static bool
s_is_same_origin (const access_request_t *request) {
    const char *scheme = request->is_tls ? "https://" : "http://";
    size_t size = strlen (scheme);
    return request->host && strncasecmp (request->origin, scheme, size) == 0 &&
           strcasecmp (request->origin + size, request->host) == 0;
}

/* A browser would send a request wherever a page of whatever origin says; what changes something
   isn't done for pages of others. */
static bool
s_is_forged (const access_t *self, const access_request_t *request) {
    bool is_safe = strcmp (request->method, "GET") == 0 || strcmp (request->method, "HEAD") == 0 ||
                   strcmp (request->method, "OPTIONS") == 0;
    if (is_safe) {
        return false;
    }
    if (request->origin) {
        return !s_is_same_origin (request) &&
               !access_is_origin (self, request->origin, strlen (request->origin));
    }
    return request->fetch_site && strcmp (request->fetch_site, "same-origin") != 0 &&
           strcmp (request->fetch_site, "none") != 0;
}

/* Who is it? False: a token that is none. */
static bool
s_identify (access_t *self, const access_request_t *request, identity_t *identity) {
    const char *word = request->authorization;
    *identity = (identity_t){.token = -1};
    if (word == NULL) {
        if (request->is_loopback && self->options->loopback_open) {
            snprintf (identity->name, sizeof identity->name, "loopback");
            identity->roles = 1u << ROLE_READ | 1u << ROLE_PUBLISH | 1u << ROLE_ADMINISTER;
        }
        return true;
    }
    if (strncasecmp (word, "Bearer ", 7) != 0) {
        return false;
    }
    word += 7 + strspn (word + 7, " ");
    pthread_rwlock_rdlock (&self->lock);
    identity->token = tokens_find (&self->tokens, word);
    identity->generation = self->generation;
    if (identity->token >= 0) {
        const token_t *token = &self->tokens.items[identity->token];
        memcpy (identity->name, token->name, sizeof identity->name);
        identity->roles = token->roles;
    }
    pthread_rwlock_unlock (&self->lock);
    return identity->token >= 0;
}

const char *
access_check (access_t *self, const access_request_t *request, identity_t *identity,
              const char **why) {
    bool is_known = s_identify (self, request, identity);
    if (request->role == ROLE_NONE) {
        return NULL;
    }
    if (!is_known) {
        *why = "this token isn't known (Authorization: Bearer TOKEN)";
        return "UNAUTHORIZED";
    }
    if (identity->roles == 0) {
        *why = "a token is needed here (Authorization: Bearer TOKEN)";
        return "UNAUTHORIZED";
    }
    /* A page elsewhere whose name was made to point here would come without a token. */
    if (identity->token < 0 && request->host && !s_is_host (self->options->hosts, request->host)) {
        *why = "this server isn't called by that name (Host; the setting hosts)";
        return "DENIED";
    }
    if (s_is_forged (self, request)) {
        *why = "pages of other origins may not act here (Origin; the setting origins)";
        return "DENIED";
    }
    if (!access_is_allowed (identity, request->role)) {
        *why = "this token may not do that";
        return "DENIED";
    }
    if (request->is_act && self->options->read_only) {
        *why = "this server only shows";
        return "READ_ONLY";
    }
    return NULL;
}

uint32_t
access_rate (access_t *self, const char *client) {
    return self->rates ? rates_take (self->rates, client, ef_mono_ms ()) : 0;
}

static void
s_put (ef_buf_t *line, const char *key, const char *text) {
    ef_buf_put (line, line->size > 0 ? "," : "{", 1);
    ef_json_string (line, key, strlen (key));
    ef_buf_put (line, ":", 1);
    if (text && ef_utf8_is_valid (text, strlen (text))) {
        ef_json_string (line, text, strlen (text));
    } else {
        ef_buf_put (line, "null", 4);
    }
}

/* A full disk stops no operator; it is said elsewhere. What was cut by it ends before the next. */
static void
s_write (access_t *self, const ef_buf_t *line) {
    pthread_mutex_lock (&self->audit_lock);
    int file = fileno (self->audit);
    ssize_t written =
        !self->is_cut || write (file, "\n", 1) == 1 ? write (file, line->data, line->size) : -1;
    int error = errno;
    self->is_cut = written < 0 ? self->is_cut : (size_t)written < line->size;
    pthread_mutex_unlock (&self->audit_lock);
    if (written < 0 || (size_t)written < line->size) {
        ef_log_limited (EF_LOG_ERROR, "audit.unwritten", "why=\"%s\"",
                        written < 0 ? strerror (error) : "cut off");
    }
}

void
access_audit (access_t *self, const access_act_t *act) {
    char time[25];
    char status[32];
    ef_buf_t line = {0};
    if (self->audit == NULL) {
        return;
    }
    ef_rfc3339 (ef_wall_ms (), time);
    int size = snprintf (status, sizeof status, ",\"status\":%u", act->status);
    s_put (&line, "time", time);
    s_put (&line, "who", act->who);
    s_put (&line, "client", act->client);
    s_put (&line, "listener", act->listener);
    s_put (&line, "method", act->method);
    s_put (&line, "path", act->path);
    ef_buf_put (&line, status, (size_t)size);
    s_put (&line, "outcome", act->status < 400 ? "done" : "refused");
    if (act->request_id) {
        s_put (&line, "request_id", act->request_id);
    }
    if (act->note) {
        s_put (&line, "note", act->note);
    }
    ef_buf_put (&line, "}\n", 2);
    s_write (self, &line);
    ef_buf_free (&line);
}
