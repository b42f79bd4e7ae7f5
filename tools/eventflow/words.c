/* Durations, dates and counts as people write and read them. SPDX-License-Identifier: MIT */
#include "cli.h"
#include "../../proto/distance.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define WORD_MAX 32 /* longer words are no misspelt names */

int64_t
cli_duration_ms (const char *text) {
    size_t size = strlen (text);
    bool has_unit = size > 0 && text[size - 1] > '9'; /* a number alone says too little here */
    int64_t ms;
    return has_unit && ef_duration_parse (text, size, &ms) == 0 ? ms : -1;
}

double
cli_rate (const char *text) {
    char *end;
    double number = strtod (text, &end);
    bool is_good = end != text && number > 0 && (*end == 0 || strcmp (end, "/s") == 0);
    return is_good ? number : -1;
}

int
cli_count (const char *what, const char *text, uint64_t *number) {
    char *end;
    errno = 0;
    *number = strtoull (text, &end, 10);
    bool is_good = text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0;
    return is_good ? CLI_OK : cli_fail (CLI_USAGE, "%s %s: expected a whole number", what, text);
}

int
cli_moment (const char *what, const char *text, int sign, int64_t *unix_ms) {
    int64_t duration = cli_duration_ms (text);
    if (duration >= 0) {
        *unix_ms = (int64_t)ef_wall_ms () + sign * duration;
        *unix_ms = *unix_ms < 0 ? 0 : *unix_ms;
        return CLI_OK;
    }
    if (ef_rfc3339_parse (text, strlen (text), unix_ms) == 0) {
        return CLI_OK;
    }
    return cli_fail (CLI_USAGE,
                     "%s %s: expected a duration such as 5m, or a date such as "
                     "2030-01-31T08:00:00Z",
                     what, text);
}

void
cli_span (uint64_t ms, char text[24]) {
    static const struct {
        const char *suffix;
        uint64_t ms;
    } units[] = {{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        /* Two of a unit at least, so that the rounding hides at most a third. */
        if (ms >= 2 * units[i].ms || (units[i].ms == 1000 && ms >= 1000)) {
            snprintf (text, 24, "%llu %s", (unsigned long long)(ms / units[i].ms), units[i].suffix);
            return;
        }
    }
    snprintf (text, 24, "%llu ms", (unsigned long long)ms);
}

void
cli_date (uint64_t unix_ms, char text[64]) {
    uint64_t now_ms = ef_wall_ms ();
    time_t seconds = (time_t)(unix_ms / 1000);
    time_t now = (time_t)(now_ms / 1000);
    struct tm then;
    struct tm today;
    char clock[32];
    char span[24];
    if (localtime_r (&seconds, &then) == NULL || localtime_r (&now, &today) == NULL) {
        snprintf (text, 64, "%llu ms", (unsigned long long)unix_ms);
        return;
    }
    bool is_today = then.tm_year == today.tm_year && then.tm_yday == today.tm_yday;
    if (strftime (clock, sizeof clock, is_today ? "%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &then) == 0) {
        clock[0] = 0; /* a year past the form */
    }
    cli_span (unix_ms > now_ms ? unix_ms - now_ms : now_ms - unix_ms, span);
    snprintf (text, 64, unix_ms > now_ms ? "%s (in %s)" : "%s (%s ago)", clock, span);
}

const char *
cli_s (uint64_t count) {
    return count == 1 ? "" : "s";
}

bool
cli_is_among (const char *word, const char *names) {
    size_t size = strlen (word);
    for (const char *at = names; *at;) {
        size_t length = strcspn (at, " ");
        if (length == size && memcmp (at, word, size) == 0) {
            return true;
        }
        at += length + strspn (at + length, " ");
    }
    return false;
}

/* The name that is nearest to a word; empty: none is near. */
static void
s_nearest (const char *word, const char *names, char nearest[WORD_MAX + 1]) {
    nearest[0] = 0;
    unsigned least = strlen (word) < 4 ? 2 : 3; /* more changes make another word */
    for (const char *at = names; strlen (word) <= WORD_MAX && *at;) {
        char name[WORD_MAX + 1];
        size_t size = strcspn (at, " ");
        snprintf (name, sizeof name, "%.*s", (int)size, at);
        unsigned distance = ef_distance (word, strlen (word), name, strlen (name));
        if (distance < least) {
            least = distance;
            memcpy (nearest, name, sizeof name);
        }
        at += size + strspn (at + size, " ");
    }
}

bool
cli_is_near (const char *word, const char *names) {
    char nearest[WORD_MAX + 1];
    s_nearest (word, names, nearest);
    return nearest[0] != 0;
}

int
cli_unknown (const char *what, const char *word, const char *names) {
    char nearest[WORD_MAX + 1];
    s_nearest (word, names, nearest);
    if (nearest[0]) {
        return cli_fail (CLI_USAGE, "unknown %s %s; did you mean %s?", what, word, nearest);
    }
    return cli_fail (CLI_USAGE, "unknown %s %s; expected one of: %s", what, word, names);
}
