/* Log lines. SPDX-License-Identifier: MIT */
#include "log.h"
#include "../../proto/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static _Atomic ef_log_level_t s_least = EF_LOG_INFO;
static _Atomic bool s_json;
static const char *const s_levels[] = {"debug", "info", "warning", "error"};

void
ef_log_setup (ef_log_level_t least, bool json) {
    s_least = least;
    s_json = json;
}

/* Turns `key=value key="a b"` into JSON members, all of them strings. */
static void
s_json_pairs (ef_buf_t *line, const char *at) {
    while (*at) {
        const char *equal = strchr (at, '=');
        if (equal == NULL) {
            break;
        }
        const char *value = equal + 1;
        bool is_quoted = *value == '"';
        value += is_quoted;
        const char *end = value + strcspn (value, is_quoted ? "\"" : " ");
        ef_buf_put (line, ",", 1);
        ef_json_string (line, at, (size_t)(equal - at));
        ef_buf_put (line, ":", 1);
        ef_json_string (line, value, (size_t)(end - value));
        at = end + (is_quoted && *end == '"');
        at += strspn (at, " ");
    }
}

void
ef_log (ef_log_level_t level, const char *event, const char *format, ...) {
    if (level < s_least) {
        return;
    }
    char pairs[2048];
    va_list arguments;
    va_start (arguments, format);
    vsnprintf (pairs, sizeof pairs, format, arguments);
    va_end (arguments);
    char date[25];
    ef_rfc3339 (ef_wall_ms (), date);
    ef_buf_t line = {0};
    char head[200];
    if (s_json) {
        snprintf (head, sizeof head, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", date,
                  s_levels[level], event);
        ef_buf_put (&line, head, strlen (head));
        s_json_pairs (&line, pairs);
        ef_buf_put (&line, "}", 1);
    } else {
        snprintf (head, sizeof head, "%s %-7s %s ", date, s_levels[level], event);
        ef_buf_put (&line, head, strlen (head));
        for (const char *at = pairs; *at; at++) {
            ef_buf_put (&line, *at == '\n' ? " " : at, 1);
        }
    }
    ef_buf_put (&line, "\n", 1);
    ssize_t written = write (STDERR_FILENO, line.data, line.size);
    (void)written; /* there is nobody left to tell */
    ef_buf_free (&line);
}

bool
ef_log_allow (ef_log_limit_t *limit) {
    unsigned long long now = ef_mono_ms ();
    if (now < limit->next_ms) {
        limit->left_out++;
        return false;
    }
    limit->next_ms = now + 1000;
    if (limit->left_out) {
        ef_log (EF_LOG_INFO, "log.left_out", "lines=%llu", limit->left_out);
        limit->left_out = 0;
    }
    return true;
}
