/* The settings of the handler api. SPDX-License-Identifier: MIT */
#include "options.h"
#include "address.h"
#include "call.h"
#include "request.h"
#include "url.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define HOUR       3600000.0
#define FILE_BYTES 16384 /* of a file of headers, or with a secret */

/* Headers are gathered: every line of the file, every flag adds some. */
static int
s_add_headers (const setting_t *setting, void *field, const char *value, char why[200]) {
    request_rules_t rules = {.idempotency = "", .timestamp = "", .signed_with = ""};
    char *lines = field;
    size_t used = strlen (lines);
    int rc = request_rule (&rules, headers_span (value), why);
    headers_free (&rules.headers);
    if (rc) {
        return -1;
    }
    if (used + strlen (value) + 2 > setting->bytes) {
        snprintf (why, 200, "there is room for %zu bytes of them", setting->bytes);
        return -1;
    }
    snprintf (lines + used, setting->bytes - used, "%s\n", value);
    return 0;
}

/* They may hold credentials. */
static void
s_print_none (const setting_t *setting, const void *field, ef_buf_t *out) {
    (void)setting;
    (void)field;
    (void)out;
}

static const config_kind_t s_headers = {
    .expected = "\"Name: value\"", .set = s_add_headers, .print = s_print_none, .is_secret = true};

#define ROW(member) FIELD (api_options_t, member)
static const setting_t s_rows[] = {
    {"url", &config_text, ROW (url), 0, 0, NULL, true,
     "where requests go; {{field}} behind the host is one of the payload"},
    {"request", &config_choice, ROW (request), 0, 0, "payload|settings", true,
     "payload: a map with a url is a request of its own, else the url here"},
    {"method", &config_choice, ROW (method), 0, 0, REQUEST_METHODS, true,
     "unless the payload's request names one"},
    {"mode", &config_choice, ROW (mode), 0, 0, BODY_MODES, true, "what is sent"},
    {"source", &config_text, ROW (source), 0, 0, NULL, true,
     "of CloudEvents (eventflow/ and the topic)"},
    {"header", &s_headers, ROW (headers), 0, 0, NULL, true,
     "\"Name: value\", sent to the host of url; several: again"},
    {"header_file", &config_text, ROW (header_file), 0, 0, NULL, true,
     "the same from a file, a line each (for credentials)"},
    {"secret_file", &config_text, ROW (secret_file), 0, 0, NULL, true,
     "a file with the secret of signatures; none: not signed"},
    {"secret", &config_secret, ROW (secret), 0, 0, NULL, true,
     "the same by itself, best as EVENTFLOW_API_SECRET"},
    {"signature", &config_choice, ROW (signature), 0, 0, "hex|standard", true,
     "form of signatures; standard: Standard Webhooks"},
    {"signature_header", &config_text, ROW (signature_header), 0, 0, NULL, true,
     "its header (X-Eventflow-Signature; webhook-signature)"},
    {"timestamp_header", &config_text, ROW (timestamp_header), 0, 0, NULL, true,
     "its time's header (X-Eventflow-Timestamp; webhook-timestamp)"},
    {"idempotency_header", &config_text, ROW (idempotency_header), 0, 0, NULL, true,
     "header that bears the event's id; empty: none"},
    {"allow", &config_text, ROW (allow), 0, 0, NULL, true,
     "hosts that may be called: names, *.names, addresses, networks, each with :port if wanted; * "
     "or nothing: all public ones"},
    {"connect_timeout", &config_duration, ROW (connect_ms), 1, HOUR, NULL, true,
     "until a connection is there, with TLS"},
    {"request_timeout", &config_duration, ROW (request_ms), 0, 24 * HOUR, NULL, true,
     "of a request with its redirects; 0: only --timeout"},
    {"redirects", &config_number, ROW (redirects), 0, 20, NULL, true, "followed at the most"},
    {"connections", &config_number, ROW (connections), 0, 65536, NULL, true,
     "to one host at once; 0: as many as events in hand"},
    {"response_bytes", &config_size, ROW (response_bytes), 1024, 16 << 20, NULL, true,
     "of a response that are read"},
    {"keep_response", &config_choice, ROW (keep), 0, 0, CALL_KEEPS, true,
     "what is kept with an event that is done: status and body of a response, if it has a body"},
    {"ca_file", &config_text, ROW (ca_file), 0, 0, NULL, true,
     "certificates of authorities, instead of the system's"},
    {"proxy", &config_text, ROW (proxy), 0, 0, NULL, true,
     "for all requests; the environment's isn't used"},
    {"probe_url", &config_text, ROW (probe_url), 0, 0, NULL, true,
     "asked by GET whether the other side is well; none: a connection to url's host"},
};
const settings_t api_settings = {s_rows, sizeof s_rows / sizeof s_rows[0]};

const char api_help[] =
    "Where to: the payload says it, if it is a map with a url as text:\n"
    "  {\"url\": \"https://example.org/x\", \"method\": \"PUT\", \"headers\": {\"A\": \"b\"}, "
    "\"body\": ...}\n"
    "(text and bytes are sent as they are, other values as JSON); else --url. --request settings:\n"
    "only --url, whatever the payload says.\n"
    "What: the payload as JSON, or by --mode the whole event as JSON, or a CloudEvent.\n"
    "Each request bears Idempotency-Key, the event's id, the same when it is repeated. With a "
    "secret:\n"
    "X-Eventflow-Timestamp (seconds since 1970) and X-Eventflow-Signature, sha256= and the hex of\n"
    "HMAC-SHA256 (secret, timestamp \".\" body).\n"
    "\n"
    "Done: 2xx. Tried again: 408, 425, 429 and 5xx (when Retry-After says, a day at the most), "
    "and\n"
    "what a network does: RESOLVE, CONNECT, TIMEOUT, TLS, RESET, TRUNCATED, PROTOCOL. Dead at "
    "once:\n"
    "other statuses, redirects past the limit, DENIED_ADDRESS, NO_URL, BAD_URL, BAD_METHOD, "
    "BAD_HEADER,\n"
    "MISSING_FIELD.\n"
    "\n"
    "Loopback, private and link-local addresses are denied unless --allow names the host or its\n"
    "network; the address that a connection goes to is what counts, also behind redirects. "
    "Redirects\n"
    "keep method and body (but for 303), and to another host only headers that describe the "
    "event.\n"
    "\n"
    "examples:\n"
    "  eventflow-worker api --url https://hooks.example.org/orders --secret-file "
    "/etc/eventflow/hook\n"
    "  eventflow-worker api --url http://10.0.0.7:8080/users/{{user.id}} --method PUT "
    "--allow 10.0.0.7\n"
    "  eventflow-worker api --allow '*.example.org, partner.example.com:8443' --concurrency 50\n";

void
api_defaults (void *options) {
    api_options_t *self = options;
    memset (self, 0, sizeof *self);
    self->method = REQUEST_POST;
    strcpy (self->idempotency_header, "Idempotency-Key");
    self->connect_ms = 5000;
    self->request_ms = 15000;
    self->redirects = 3;
    self->response_bytes = 65536;
    self->keep = CALL_KEEP_BODY;
}

const char *
api_signature_header (const api_options_t *options) {
    return options->signature_header[0]                    ? options->signature_header
           : options->signature == (uint32_t)SIGNATURE_HEX ? "X-Eventflow-Signature"
                                                           : "webhook-signature";
}

const char *
api_timestamp_header (const api_options_t *options) {
    return options->timestamp_header[0]                    ? options->timestamp_header
           : options->signature == (uint32_t)SIGNATURE_HEX ? "X-Eventflow-Timestamp"
                                                           : "webhook-timestamp";
}

static int
s_check_name (const char *setting, const char *name, char error[512]) {
    const char *why = name[0] ? headers_refusal (headers_span (name), headers_span ("")) : NULL;
    if (why) {
        snprintf (error, 512, "%s: %s %s", setting, name, why);
    }
    return why ? -1 : 0;
}

/* Every event would die of a host that can't be called: better not to begin. */
static int
s_check_host (const address_list_t *list, const char *setting, const char *url, char error[512]) {
    char base[2048];
    const char *why = NULL;
    call_place_t place;
    if (url[0] == '\0') {
        return 0;
    }
    snprintf (base, sizeof base, "%.*s", (int)(8 + strcspn (url + 8, "/?#")), url);
    why = call_place (base, &place);
    if (why) {
        snprintf (error, 512, "%s: %s", setting, why);
    } else if (!address_may_call (list, place.host, place.port)) {
        why = "denied";
        snprintf (error, 512, "%s: %.255s isn't allowed: expected allow to name it", setting,
                  place.host);
    }
    return why ? -1 : 0;
}

int
api_check (const void *options, char error[512]) {
    const api_options_t *self = options;
    const char *why = self->url[0] ? url_refusal (self->url) : NULL;
    if (why) {
        snprintf (error, 512, "url: %s", why);
        return -1;
    }
    why = self->probe_url[0] ? url_refusal (self->probe_url) : NULL;
    if (why || strstr (self->probe_url, "{{")) {
        snprintf (error, 512, "probe_url: %s", why ? why : "it has no event to take fields from");
        return -1;
    }
    if (self->request == 1 && self->url[0] == '\0') {
        snprintf (error, 512, "request: with \"settings\" a url is to be set");
        return -1;
    }
    if (self->secret[0] && self->secret_file[0]) {
        snprintf (error, 512, "secret and secret_file: expected one of them");
        return -1;
    }
    if (s_check_name ("idempotency_header", self->idempotency_header, error) ||
        s_check_name ("signature_header", self->signature_header, error) ||
        s_check_name ("timestamp_header", self->timestamp_header, error)) {
        return -1;
    }
    address_list_t *list = address_list_new (self->allow, error);
    int rc = list ? 0 : -1;
    rc = rc ? rc : s_check_host (list, "url", self->url, error);
    rc = rc ? rc : s_check_host (list, "probe_url", self->probe_url, error);
    address_list_destroy (&list);
    return rc;
}

int
api_read_file (const char *path, ef_buf_t *out, char error[512]) {
    FILE *file = fopen (path, "re");
    char *bytes = file ? (char *)ef_buf_add (out, FILE_BYTES) : NULL;
    size_t got = bytes ? fread (bytes, 1, FILE_BYTES, file) : 0;
    bool is_bad = file == NULL || ferror (file) || got == FILE_BYTES;
    if (is_bad) {
        snprintf (error, 512, "%.300s: %s", path,
                  got == FILE_BYTES ? "expected less than 16 KiB" : strerror (errno));
    }
    if (file) {
        out->size -= FILE_BYTES - got;
        fclose (file);
    }
    return is_bad ? -1 : 0;
}
