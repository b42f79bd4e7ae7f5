/* RFC 9457 answers. SPDX-License-Identifier: MIT */
#include "problem.h"
#include "../../proto/json.h"

#include <stdarg.h>
#include <stdio.h>

static const problem_t s_rows[] = {
    {"INTERNAL", 500, 0, "internal error"},
    {"BAD_REQUEST", 400, 0, "bad request"},
    {"BAD_EVENT", 400, 0, "bad event"},
    {"BAD_FRAME", 400, 0, "bad event"},
    {"BAD_COMMAND", 400, 0, "bad command"},
    {"UNAUTHORIZED", 401, 0, "token needed"},
    {"DENIED", 403, 0, "not allowed"},
    {"READ_ONLY", 403, 0, "read-only"},
    {"NOT_FOUND", 404, 0, "not found"},
    {"UNKNOWN_TOPIC", 404, 0, "unknown topic"},
    {"BAD_METHOD", 405, 0, "method not allowed"},
    {"UNKNOWN_PEER", 409, 0, "no such worker"},
    {"SEQ", 409, 1, "conflict"},
    {"CONFLICT", 409, 0, "conflict"},
    {"TOO_LARGE", 413, 0, "too large"},
    {"MEDIA_TYPE", 415, 0, "unknown media type"},
    {"SCHEMA", 422, 0, "payload doesn't fit its schema"},
    {"UNROUTED", 422, 0, "no topic and no route"},
    {"RATE", 429, 1, "too many requests"},
    {"WINDOW", 429, 1, "too many unconfirmed"},
    {"FULL", 503, 1, "topic is full"},
    {"OVERLOAD", 503, 1, "overloaded"},
    {"DRAINING", 503, 2, "stopping or starting"},
    {"VERSION", 502, 0, "protocol version"},
    {"TIMEOUT", 504, 1, "no answer in time"},
    {"NO_SPACE", 507, 5, "disk is nearly full"},
};

const problem_t *
problem_find (const char *code) {
    for (size_t i = 0; i < sizeof s_rows / sizeof s_rows[0]; i++) {
        if (strcmp (s_rows[i].code, code) == 0) {
            return &s_rows[i];
        }
    }
    return &s_rows[0];
}

static void
s_text (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

static void
s_member (ef_buf_t *out, const char *key, const char *text) {
    s_text (out, key);
    if (ef_utf8_is_valid (text, strlen (text))) {
        ef_json_string (out, text, strlen (text));
    } else {
        s_text (out, "\"(not UTF-8)\"");
    }
}

/* Without the closing brace. */
static void
s_put (ef_buf_t *out, const problem_t *row, const char *code, const char *detail) {
    char status[40];
    s_text (out, "{\"type\":\"urn:eventflow:");
    s_text (out, row->code);
    s_text (out, "\"");
    s_member (out, ",\"title\":", row->title);
    snprintf (status, sizeof status, ",\"status\":%u", row->status);
    s_text (out, status);
    s_member (out, ",\"code\":", code);
    if (detail && detail[0]) {
        s_member (out, ",\"detail\":", detail);
    }
}

void
problem_put (ef_buf_t *out, const char *code, const char *detail) {
    s_put (out, problem_find (code), code, detail);
    s_text (out, "}");
}

static void
EF_PRINTF (4, 0) s_answer (call_t *call, const char *code, const char *more, const char *format,
                           va_list arguments) {
    char detail[1000] = "";
    const problem_t *row = problem_find (code);
    char seconds[16];
    ef_buf_t body = {0};
    if (format) {
        vsnprintf (detail, sizeof detail, format, arguments);
    }
    s_put (&body, row, code, detail);
    s_member (&body, ",\"instance\":", call_path (call) ? call_path (call) : "/");
    if (more) {
        s_text (&body, ",");
        s_text (&body, more);
    }
    s_text (&body, "}\n");
    if (row->retry_s && !(strcmp (code, "RATE") == 0 && call_has_header (call, "Retry-After"))) {
        snprintf (seconds, sizeof seconds, "%u", row->retry_s);
        call_add_header (call, "Retry-After", seconds);
    }
    if (row->status == 401) {
        call_add_header (call, "WWW-Authenticate", "Bearer realm=\"eventflow\"");
    }
    call_answer (call, row->status, "application/problem+json", &body);
}

void
problem_answer (call_t *call, const char *code, const char *format, ...) {
    va_list arguments;
    va_start (arguments, format);
    s_answer (call, code, NULL, format, arguments);
    va_end (arguments);
}

void
problem_answer_more (call_t *call, const char *code, const char *more, const char *format, ...) {
    va_list arguments;
    va_start (arguments, format);
    s_answer (call, code, more, format, arguments);
    va_end (arguments);
}
