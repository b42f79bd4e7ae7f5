/* An HTTP call: one libcurl handle that sends a request, follows redirects, and says what came of
   it. SPDX-License-Identifier: MIT */
#include "call.h"
#include "../../proto/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#define REASON_BYTES 100

struct call_s {
    const call_rules_t *rules;
    CURL *easy;          /* owned */
    CURLU *url;          /* owned; where it goes now */
    ef_buf_t known;      /* the text that `url` was read from; empty: it is something else */
    call_place_t origin; /* of `url` */
    call_place_t first;
    char downstream[CALL_DOWNSTREAM_BYTES];
    request_t request;
    request_method_t method; /* a redirect may change it */
    bool has_body;
    bool has_left; /* a redirect led to another origin once */
    bool is_met;   /* somebody has answered, if only with a redirect */
    uint32_t header_count;
    uint32_t redirects; /* followed */
    uint64_t started_ms;
    /* What came. */
    char denied[ADDRESS_TEXT_BYTES]; /* an address that a connection was refused to */
    uint32_t opened;                 /* sockets */
    ef_buf_t received;
    bool is_cut; /* there was more */
    char reason[REASON_BYTES];
    char trouble[CURL_ERROR_SIZE];
    /* What it comes to. */
    eventflow_result_t result;
    const char *code; /* static; NULL: `status` */
    long status;
    int64_t retry_ms;
    char text[RESPONSE_TEXT_BYTES];
    ef_buf_t value;
    eventflow_bytes_t value_span;
};

/* ---- libcurl's callbacks ---- */

/* The only place where a connection begins: its address is known, whatever the name said. */
static curl_socket_t
s_open_socket (void *arg, curlsocktype purpose, struct curl_sockaddr *address) {
    call_t *self = arg;
    bool is_proxy = self->rules->proxy[0] != '\0'; /* which the operator named */
    if (purpose != CURLSOCKTYPE_IPCXN ||
        (!is_proxy && !address_may_connect (self->rules->addresses, self->origin.host,
                                            self->origin.port, &address->addr))) {
        address_text (&address->addr, self->denied);
        return CURL_SOCKET_BAD;
    }
    self->opened++;
    return socket (address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static size_t
s_write (char *bytes, size_t one, size_t size, void *arg) {
    call_t *self = arg;
    size_t room = self->rules->response_bytes - self->received.size;
    (void)one; /* 1 */
    if (size > room) {
        ef_buf_put (&self->received, bytes, room);
        self->is_cut = true;
        return 0; /* ends the transfer */
    }
    ef_buf_put (&self->received, bytes, size);
    return size;
}

/* Only the status line matters; the last one counts, behind 100 Continue. */
static size_t
s_header (char *line, size_t one, size_t size, void *arg) {
    call_t *self = arg;
    (void)one; /* 1 */
    if (size > 5 && memcmp (line, "HTTP/", 5) == 0) {
        const char *code = memchr (line, ' ', size);
        size_t left = code ? size - (size_t)(code + 1 - line) : 0;
        while (left > 0 && (code[left] == '\r' || code[left] == '\n')) {
            left--;
        }
        snprintf (self->reason, sizeof self->reason, "%.*s", (int)left, code ? code + 1 : "");
    }
    return size;
}

/* ---- The handle ---- */

static bool
s_set_up (call_t *self) {
    CURL *easy = self->easy;
    const call_rules_t *rules = self->rules;
    CURLcode rc = CURLE_OK;
#define SET(option, value) rc = rc ? rc : curl_easy_setopt (easy, CURLOPT_##option, value)
    SET (NOSIGNAL, 1L);
    SET (QUICK_EXIT, 1L); /* a name that takes long is left to its thread; nobody waits for it */
    SET (EXPECT_100_TIMEOUT_MS, 1L); /* of bodies over 1 MB: few servers answer */
    SET (ERRORBUFFER, self->trouble);
    SET (CURLU, self->url);
    SET (PROTOCOLS_STR, "http,https");
    SET (HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET (SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET (USERAGENT, "eventflow/" EF_PROGRAM_VERSION);
    SET (PROXY, rules->proxy); /* empty: none, whatever the environment says */
    SET (NOPROXY, "");         /* nor does it name hosts that are called past it, unjudged */
    SET (CONNECTTIMEOUT_MS, (long)rules->connect_ms);
    SET (TCP_KEEPALIVE, 1L);
    SET (OPENSOCKETFUNCTION, s_open_socket);
    SET (OPENSOCKETDATA, self);
    SET (WRITEFUNCTION, s_write);
    SET (WRITEDATA, self);
    SET (HEADERFUNCTION, s_header);
    SET (HEADERDATA, self);
    if (rules->ca_file[0]) {
        SET (CAINFO, rules->ca_file);
    }
#undef SET
    return rc == CURLE_OK;
}

/* ---- Where to ---- */

static bool
s_get_part (CURLU *url, CURLUPart part, char *text, size_t bytes) {
    char *value = NULL;
    bool is_there = curl_url_get (url, part, &value, CURLU_DEFAULT_PORT) == CURLUE_OK;
    bool fits = is_there && strlen (value) < bytes;
    if (fits) {
        strcpy (text, value);
    }
    curl_free (value);
    return fits;
}

/* NULL, or what is wrong with the URL. */
static const char *
s_read_url (CURLU *url, const char *text, call_place_t *origin) {
    char scheme[8];
    char port[8];
    if (strncasecmp (text, "http://", 7) != 0 && strncasecmp (text, "https://", 8) != 0) {
        return "expected http:// or https://"; /* "/x" would go where the call before it went */
    }
    CURLUcode rc = curl_url_set (url, CURLUPART_URL, text, 0);
    if (rc) {
        return curl_url_strerror (rc);
    }
    if (!s_get_part (url, CURLUPART_SCHEME, scheme, sizeof scheme) ||
        !s_get_part (url, CURLUPART_HOST, origin->host, sizeof origin->host) ||
        !s_get_part (url, CURLUPART_PORT, port, sizeof port)) {
        return "expected a host of up to 255 bytes";
    }
    for (const char *at = origin->host; *at; at++) {
        if ((unsigned char)*at >= 0x80) {
            return "expected a host in ASCII (xn--)";
        }
    }
    origin->is_tls = strcmp (scheme, "https") == 0;
    origin->port = (uint16_t)strtoul (port, NULL, 10);
    return NULL;
}

const char *
call_place (const char *text, call_place_t *place) {
    CURLU *url = curl_url ();
    ef_assert (url != NULL);
    const char *why = s_read_url (url, text, place);
    curl_url_cleanup (url);
    return why;
}

static bool
s_is_same (const call_place_t *a, const call_place_t *b) {
    return a->is_tls == b->is_tls && a->port == b->port && strcasecmp (a->host, b->host) == 0;
}

static int
s_fail (call_t *self, eventflow_result_t result, const char *code) {
    self->result = result;
    self->code = code;
    return -1;
}

static int
s_deny (call_t *self, const char *address) {
    snprintf (self->text, sizeof self->text, "%s:%u%s%s%s isn't allowed; see the setting allow",
              self->origin.host, self->origin.port, address[0] ? " (" : "", address,
              address[0] ? ")" : "");
    return s_fail (self, EVENTFLOW_DEAD, "DENIED_ADDRESS");
}

/* Through a proxy names are resolved over there: only what the list names, or any public host. */
static bool
s_may_call (const call_t *self) {
    return address_may_call (self->rules->addresses, self->origin.host, self->origin.port);
}

static int
s_go_to (call_t *self, const char *text) {
    const char *why = s_read_url (self->url, text, &self->origin);
    if (why) {
        snprintf (self->text, sizeof self->text, "%s", why);
        return s_fail (self, EVENTFLOW_DEAD, "BAD_URL");
    }
    return s_may_call (self) ? 0 : s_deny (self, "");
}

static void
s_name_downstream (call_t *self) {
    bool is_usual = self->first.port == (self->first.is_tls ? 443 : 80);
    if (is_usual) {
        snprintf (self->downstream, sizeof self->downstream, "%s", self->first.host);
    } else {
        snprintf (self->downstream, sizeof self->downstream, "%s:%u", self->first.host,
                  self->first.port);
    }
}

/* ---- A call ---- */

call_t *
call_new (const call_rules_t *rules) {
    call_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->rules = rules;
    self->easy = curl_easy_init ();
    self->url = curl_url ();
    if (self->easy == NULL || self->url == NULL || !s_set_up (self)) {
        call_destroy (&self);
        return NULL;
    }
    return self;
}

void
call_destroy (call_t **self_p) {
    call_t *self = *self_p;
    if (self) {
        curl_easy_cleanup (self->easy);
        curl_url_cleanup (self->url);
        request_free (&self->request);
        ef_buf_free (&self->known);
        ef_buf_free (&self->received);
        ef_buf_free (&self->value);
        free (self);
        *self_p = NULL;
    }
}

request_t *
call_request (call_t *self) {
    return &self->request;
}

CURL *
call_easy (call_t *self) {
    return self->easy;
}

const char *
call_downstream (const call_t *self) {
    return self->downstream;
}

/* Forgets what came of the transfer before. */
static void
s_clear (call_t *self) {
    self->denied[0] = '\0';
    self->opened = 0;
    ef_buf_clear (&self->received);
    ef_buf_clear (&self->value);
    self->is_cut = false;
    self->reason[0] = '\0';
    self->trouble[0] = '\0';
    self->status = 0;
    self->retry_ms = -1;
    self->text[0] = '\0';
    self->result = EVENTFLOW_RETRY; /* until something says better */
    self->code = "PROTOCOL";
}

/* Method, body and headers, as they are by now. */
static void
s_set_request (call_t *self) {
    CURL *easy = self->easy;
    if (self->method == REQUEST_HEAD) {
        curl_easy_setopt (easy, CURLOPT_NOBODY, 1L);
    } else if (!self->has_body) {
        curl_easy_setopt (easy, CURLOPT_HTTPGET, 1L);
    } else {
        const char *body = self->request.body.size > 0 ? (const char *)self->request.body.data : "";
        curl_easy_setopt (easy, CURLOPT_POST, 1L);
        curl_easy_setopt (easy, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt (easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)self->request.body.size);
    }
    bool is_usual = self->method == REQUEST_GET || self->method == REQUEST_HEAD ||
                    (self->method == REQUEST_POST && self->has_body);
    curl_easy_setopt (easy, CURLOPT_CUSTOMREQUEST,
                      is_usual ? NULL : request_method_name (self->method));
    curl_easy_setopt (easy, CURLOPT_HTTPHEADER,
                      headers_list (&self->request.headers, self->header_count));
    if (self->rules->request_ms) {
        uint64_t spent = ef_mono_ms () - self->started_ms;
        uint64_t left = spent < self->rules->request_ms ? self->rules->request_ms - spent : 1;
        curl_easy_setopt (easy, CURLOPT_TIMEOUT_MS, (long)left);
    }
}

int
call_prepare (call_t *self) {
    const ef_buf_t *url = &self->request.url;
    s_clear (self);
    self->redirects = 0;
    self->has_left = false;
    self->is_met = false;
    self->started_ms = ef_mono_ms ();
    self->method = self->request.method;
    self->has_body = self->request.has_body;
    bool is_known =
        self->known.size == url->size && memcmp (self->known.data, url->data, url->size) == 0;
    if (!is_known) {
        ef_buf_clear (&self->known);
        if (s_go_to (self, (const char *)url->data)) {
            self->first = self->origin;
            s_name_downstream (self);
            return -1;
        }
        ef_buf_put (&self->known, url->data, url->size);
        self->first = self->origin;
        s_name_downstream (self);
    }
    bool is_home = self->rules->home == NULL || s_is_same (&self->origin, self->rules->home);
    self->header_count = is_home ? self->request.headers.count : self->request.asked;
    s_set_request (self);
    return 0;
}

int
call_prepare_probe (call_t *self, const char *url, bool is_get) {
    s_clear (self);
    self->redirects = self->rules->redirects; /* none is followed */
    self->started_ms = ef_mono_ms ();
    ef_buf_clear (&self->known);
    if (s_go_to (self, url)) {
        return -1;
    }
    self->first = self->origin;
    s_name_downstream (self);
    curl_easy_setopt (self->easy, CURLOPT_HTTPGET, 1L);
    curl_easy_setopt (self->easy, CURLOPT_CONNECT_ONLY, is_get ? 0L : 1L);
    curl_easy_setopt (self->easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt (self->easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt (self->easy, CURLOPT_TIMEOUT_MS, (long)self->rules->connect_ms);
    return 0;
}

/* ---- What came of it ---- */

/* Credentials in a redirect's URL are somebody else's idea. */
static void
s_forget_user (call_t *self) {
    curl_url_set (self->url, CURLUPART_USER, NULL, 0);
    curl_url_set (self->url, CURLUPART_PASSWORD, NULL, 0);
}

static void
s_say (call_t *self, const char *more) {
    ef_span_t reason = {self->reason, (uint32_t)strlen (self->reason)};
    ef_span_t said = {more, (uint32_t)strlen (more)};
    response_text (reason, said, self->text);
}

/* Goes on to where the response points. 1: it is to be started again; 0: it is no redirect that is
   followed; -1: it failed. The method stays, and with it the body, but for 303, which asks for a
   GET of something else: what was posted has arrived. */
static int
s_redirect (call_t *self) {
    char *to = NULL;
    bool is_redirect = self->status == 301 || self->status == 302 || self->status == 303 ||
                       self->status == 307 || self->status == 308;
    curl_easy_getinfo (self->easy, CURLINFO_REDIRECT_URL, &to);
    if (!is_redirect || to == NULL) {
        return 0;
    }
    if (self->redirects == self->rules->redirects) {
        s_say (self, "a redirect more than are followed");
        return s_fail (self, EVENTFLOW_DEAD, NULL);
    }
    call_place_t from = self->origin;
    char *copy = strdup (to); /* it goes with the handle's next transfer */
    ef_assert (copy != NULL);
    long status = self->status;
    ef_buf_clear (&self->known);
    int rc = s_go_to (self, copy);
    free (copy);
    if (rc) {
        return -1;
    }
    if (from.is_tls && !self->origin.is_tls) {
        s_say (self, "a redirect from https to http isn't followed");
        return s_fail (self, EVENTFLOW_DEAD, NULL);
    }
    s_clear (self);
    self->redirects++;
    if (status == 303 && self->method != REQUEST_HEAD) {
        self->method = REQUEST_GET;
        self->has_body = false;
    }
    if (!s_is_same (&from, &self->origin)) {
        self->has_left = true;
        s_forget_user (self);
    }
    self->header_count = self->has_left ? self->request.describing : self->header_count;
    s_set_request (self);
    return 1;
}

static void
s_judge_response (call_t *self) {
    ef_span_t reason = {self->reason, (uint32_t)strlen (self->reason)};
    ef_span_t body = {(const char *)self->received.data, (uint32_t)self->received.size};
    self->result = response_judge (self->status);
    self->code = NULL;
    if (self->result == EVENTFLOW_RETRY) {
        struct curl_header *header;
        if (curl_easy_header (self->easy, "Retry-After", 0, CURLH_HEADER, -1, &header) ==
            CURLHE_OK) {
            self->retry_ms = response_retry_ms (header->value, ef_wall_ms ());
        }
    }
    if (self->result != EVENTFLOW_DONE) {
        response_text (reason, body, self->text);
    } else if (self->rules->keep == CALL_KEEP_ALL ||
               (self->rules->keep == CALL_KEEP_BODY && body.size > 0)) {
        response_result (&self->value, self->status, ef_mono_ms () - self->started_ms, body);
    }
}

/* Names for what can go wrong before a response is there; all of it may go well the next time. */
static const char *
s_name (CURLcode code) {
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY: return "RESOLVE";
    case CURLE_COULDNT_CONNECT:
    case CURLE_INTERFACE_FAILED: return "CONNECT";
    case CURLE_OPERATION_TIMEDOUT: return "TIMEOUT";
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR: return "TLS";
    case CURLE_SEND_ERROR:
    case CURLE_RECV_ERROR: return "RESET";
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE: return "TRUNCATED";
    case CURLE_PROXY: return "PROXY";
    default: return "PROTOCOL";
    }
}

bool
call_ended (call_t *self, CURLcode code) {
    curl_easy_getinfo (self->easy, CURLINFO_RESPONSE_CODE, &self->status);
    self->is_met = self->is_met || self->status > 0;
    bool is_ours = code == CURLE_WRITE_ERROR && self->is_cut;
    if ((code == CURLE_OK || is_ours) && self->status >= 300 && self->status < 400) {
        int rc = s_redirect (self);
        if (rc) {
            return rc > 0;
        }
    }
    if (code == CURLE_OK || is_ours) {
        s_judge_response (self);
        return false;
    }
    if (self->denied[0] && self->opened == 0) {
        (void)s_deny (self, self->denied); /* always -1 */
        return false;
    }
    snprintf (self->text, sizeof self->text, "%s",
              self->trouble[0] ? self->trouble : curl_easy_strerror (code));
    (void)s_fail (self, EVENTFLOW_RETRY, s_name (code)); /* the same */
    return false;
}

eventflow_result_t
call_words (call_t *self, eventflow_answer_t *words) {
    *words = (eventflow_answer_t){
        .retry_ms = self->retry_ms, .code = self->code, .number = self->status};
    if (self->is_met || self->result == EVENTFLOW_RETRY) {
        words->downstream = self->downstream; /* else nobody was called: it says nothing of it */
    }
    if (self->result != EVENTFLOW_DONE) {
        words->text = self->text;
    } else if (self->value.size > 0) {
        self->value_span = (eventflow_bytes_t){self->value.data, self->value.size};
        words->result = &self->value_span;
    }
    return self->result;
}
