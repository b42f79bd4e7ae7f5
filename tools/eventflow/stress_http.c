/* eventflow stress by HTTP: one event a request, over connections that stay open.
   SPDX-License-Identifier: MIT

   The answer's status is the outcome: 2xx confirmed; 502, 504 and a connection that broke unknown;
   anything else refused, by the code that the problem names. */
#include "stress.h"

#include <curl/curl.h>
#include <stdlib.h>

#define ANSWER_KEPT 1024u /* bytes of an answer that a code is looked for in */
#define CONNECT_MS  5000L

/* One request at a time. */
typedef struct request_s {
    struct request_s *next; /* that is free */
    CURL *easy;             /* owned */
    uint64_t n;
    ef_buf_t body;
    char answer[ANSWER_KEPT + 1];
    size_t answer_size;
} request_t;

typedef struct {
    CURLM *multi;               /* owned */
    struct curl_slist *headers; /* owned */
    request_t *requests;        /* owned */
    request_t *free;
    char url[1024];
} http_t;

static size_t
s_answer (const char *data, size_t size, size_t count, void *arg) {
    request_t *request = arg;
    size_t room = ANSWER_KEPT - request->answer_size;
    size_t kept = size * count < room ? size * count : room;
    memcpy (request->answer + request->answer_size, data, kept);
    request->answer_size += kept;
    return size * count;
}

/* Says nothing of the answer but that there is one. */
static int
s_probe (const stress_t *self, const http_t *http) {
    char url[1100];
    char error[CURL_ERROR_SIZE] = "";
    request_t request = {0};
    CURL *easy = curl_easy_init ();
    ef_assert (easy != NULL);
    snprintf (url, sizeof url, "%.*s/health/live", (int)(strlen (http->url) - 14), http->url);
    curl_easy_setopt (easy, CURLOPT_URL, url);
    curl_easy_setopt (easy, CURLOPT_PROXY, "");
    curl_easy_setopt (easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt (easy, CURLOPT_TIMEOUT_MS, (long)self->cli->timeout_ms);
    curl_easy_setopt (easy, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt (easy, CURLOPT_WRITEFUNCTION, s_answer);
    curl_easy_setopt (easy, CURLOPT_WRITEDATA, &request);
    CURLcode rc = curl_easy_perform (easy);
    curl_easy_cleanup (easy);
    return rc == CURLE_OK ? CLI_OK
                          : cli_fail (CLI_UNREACHABLE, "%s: %s", self->url,
                                      error[0] ? error : curl_easy_strerror (rc));
}

static void
s_prepare (const stress_t *self, http_t *http, request_t *request) {
    CURL *easy = request->easy = curl_easy_init ();
    ef_assert (easy != NULL);
    curl_easy_setopt (easy, CURLOPT_URL, http->url);
    curl_easy_setopt (easy, CURLOPT_PROXY, ""); /* the gateway is what is measured */
    curl_easy_setopt (easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt (easy, CURLOPT_POST, 1L);
    curl_easy_setopt (easy, CURLOPT_HTTPHEADER, http->headers);
    curl_easy_setopt (easy, CURLOPT_CONNECTTIMEOUT_MS, CONNECT_MS);
    curl_easy_setopt (easy, CURLOPT_TIMEOUT_MS, (long)self->cli->timeout_ms);
    curl_easy_setopt (easy, CURLOPT_WRITEFUNCTION, s_answer);
    curl_easy_setopt (easy, CURLOPT_WRITEDATA, request);
    curl_easy_setopt (easy, CURLOPT_PRIVATE, request);
}

static int
s_open (stress_t *self) {
    http_t *http = calloc (1, sizeof *http);
    ef_assert (http != NULL);
    self->link = http;
    size_t size = strlen (self->url);
    size -= self->url[size - 1] == '/';
    snprintf (http->url, sizeof http->url, "%.*s/api/v1/events", (int)size, self->url);
    http->multi = curl_global_init (CURL_GLOBAL_DEFAULT) ? NULL : curl_multi_init ();
    if (http->multi == NULL) {
        return cli_fail (CLI_FAILED, "libcurl can't be started");
    }
    int rc = s_probe (self, http);
    if (rc) {
        return rc;
    }
    const char *token = getenv ("EVENTFLOW_TOKEN");
    char line[1024];
    http->headers = curl_slist_append (NULL, "Content-Type: application/json");
    http->headers = curl_slist_append (http->headers, "Expect:"); /* no 100-continue */
    if (token && token[0]) {
        snprintf (line, sizeof line, "Authorization: Bearer %s", token);
        http->headers = curl_slist_append (http->headers, line);
    }
    curl_multi_setopt (http->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)self->connections);
    curl_multi_setopt (http->multi, CURLMOPT_MAXCONNECTS, (long)self->connections);
    http->requests = calloc (self->connections, sizeof *http->requests);
    ef_assert (http->requests != NULL);
    for (uint64_t i = 0; i < self->connections; i++) {
        s_prepare (self, http, &http->requests[i]);
        http->requests[i].next = http->free;
        http->free = &http->requests[i];
    }
    return CLI_OK;
}

static void
s_put (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

static void
s_put_member (ef_buf_t *out, const char *key, const char *value) {
    s_put (out, key);
    ef_json_string (out, value, strlen (value));
    s_put (out, ",");
}

static bool
s_send (stress_t *self, uint64_t n) {
    http_t *http = self->link;
    request_t *request = http->free;
    char id[64];
    if (request == NULL) {
        return false;
    }
    http->free = request->next;
    request->n = n;
    request->answer_size = 0;
    ef_buf_clear (&request->body);
    stress_id (self, n, id);
    stress_payload (self, n);
    s_put (&request->body, "{");
    s_put_member (&request->body, "\"id\":", id);
    if (self->topic) {
        s_put_member (&request->body, "\"topic\":", self->topic);
    }
    if (self->type_count) {
        s_put_member (&request->body, "\"type\":", stress_type (self, n));
    }
    s_put (&request->body, "\"payload\":");
    ef_cursor_t payload = ef_cursor (self->payload.data, self->payload.size);
    int rc = ef_json_print (&request->body, &payload);
    ef_assert (rc == 0); /* made by us */
    s_put (&request->body, "}");
    curl_easy_setopt (request->easy, CURLOPT_POSTFIELDS, request->body.data);
    curl_easy_setopt (request->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.size);
    CURLMcode added = curl_multi_add_handle (http->multi, request->easy);
    ef_assert (added == CURLM_OK);
    return true;
}

/* What an answer names as its "code", or its status. */
static void
s_code (request_t *request, long status, char code[32]) {
    static const char key[] = "\"code\":\"";
    request->answer[request->answer_size] = 0;
    const char *at = strstr (request->answer, key);
    size_t size = at ? strcspn (at + sizeof key - 1, "\"") : 0;
    if (size > 0 && size < 32) {
        snprintf (code, 32, "%.*s", (int)size, at + sizeof key - 1);
    } else {
        snprintf (code, 32, "HTTP_%ld", status);
    }
}

static void
s_ended (stress_t *self, request_t *request, CURLcode rc) {
    char code[32];
    long status = 0;
    curl_easy_getinfo (request->easy, CURLINFO_RESPONSE_CODE, &status);
    if (rc == CURLE_COULDNT_CONNECT || rc == CURLE_COULDNT_RESOLVE_HOST) {
        stress_decide (self, request->n, OUTCOME_REFUSED, "UNREACHABLE"); /* nothing was sent */
    } else if (rc || status == 502 || status == 504) {
        stress_decide (self, request->n, OUTCOME_UNKNOWN, NULL);
    } else if (status >= 200 && status < 300) {
        stress_decide (self, request->n, OUTCOME_CONFIRMED, NULL);
    } else {
        s_code (request, status, code);
        stress_decide (self, request->n, OUTCOME_REFUSED, code);
    }
}

static void
s_step (stress_t *self, int wait_ms) {
    http_t *http = self->link;
    const CURLMsg *message;
    int running;
    int left;
    curl_multi_perform (http->multi, &running);
    while ((message = curl_multi_info_read (http->multi, &left)) != NULL) {
        char *mark = NULL;
        if (message->msg != CURLMSG_DONE) {
            continue;
        }
        CURLcode rc = message->data.result; /* gone with the handle */
        CURL *easy = message->easy_handle;
        curl_easy_getinfo (easy, CURLINFO_PRIVATE, &mark);
        request_t *request = (request_t *)(void *)mark;
        curl_multi_remove_handle (http->multi, easy);
        s_ended (self, request, rc);
        request->next = http->free;
        http->free = request;
        wait_ms = 0; /* there is room for the next one */
    }
    if (wait_ms > 0) {
        curl_multi_poll (http->multi, NULL, 0, wait_ms, NULL);
    }
}

static void
s_close (stress_t *self) {
    http_t *http = self->link;
    for (uint64_t i = 0; http->requests && i < self->connections; i++) {
        curl_multi_remove_handle (http->multi, http->requests[i].easy); /* those that wait */
        curl_easy_cleanup (http->requests[i].easy);
        ef_buf_free (&http->requests[i].body);
    }
    curl_slist_free_all (http->headers);
    curl_multi_cleanup (http->multi);
    curl_global_cleanup ();
    free (http->requests);
    free (http);
    self->link = NULL;
}

const stress_sender_t stress_http = {"http", s_open, s_send, s_step, s_close};
