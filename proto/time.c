/* Clocks, randomness, RFC 3339 dates and durations. SPDX-License-Identifier: MIT */
#include "event.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>

static uint64_t
s_clock_ns (clockid_t clock) {
    struct timespec now;
    int rc = clock_gettime (clock, &now);
    ef_assert (rc == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t
ef_mono_ns (void) {
    return s_clock_ns (CLOCK_MONOTONIC);
}

uint64_t
ef_mono_ms (void) {
    return s_clock_ns (CLOCK_MONOTONIC) / 1000000u;
}

uint64_t
ef_wall_ms (void) {
    return s_clock_ns (CLOCK_REALTIME) / 1000000u;
}

uint64_t
ef_random (void) {
    uint64_t value;
    ssize_t bytes;
    do {
        bytes = getrandom (&value, sizeof value, 0);
    } while (bytes < 0 && errno == EINTR);
    ef_assert (bytes == (ssize_t)sizeof value);
    return value;
}

void
ef_rfc3339 (uint64_t unix_ms, char text[25]) {
    /* The last second of the year 9999; what lies behind it doesn't fit the form. */
    const uint64_t last_ms = 253402300799999u;
    time_t seconds = (time_t)((unix_ms < last_ms ? unix_ms : last_ms) / 1000);
    struct tm tm;
    (void)gmtime_r (&seconds, &tm); /* fails only past 2^31 years */
    int size = snprintf (
        text, 25, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", (unsigned)(tm.tm_year + 1900) % 10000u,
        (unsigned)(tm.tm_mon + 1) % 100u, (unsigned)tm.tm_mday % 100u, (unsigned)tm.tm_hour % 100u,
        (unsigned)tm.tm_min % 100u, (unsigned)tm.tm_sec % 100u, (unsigned)(unix_ms % 1000));
    ef_assert (size == 24);
}

int
ef_rfc3339_parse (const char *text, size_t size, int64_t *unix_ms) {
    char copy[40];
    if (size < 20 || size >= sizeof copy) {
        return -1;
    }
    memcpy (copy, text, size);
    copy[size] = 0;
    struct tm tm = {0};
    int used = 0;
    if (sscanf (copy, "%4d-%2d-%2d%*1[Tt ]%2d:%2d:%2d%n", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
                &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &used) != 6 ||
        tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 || tm.tm_mday > 31 || tm.tm_hour > 23 ||
        tm.tm_min > 59 || tm.tm_sec > 60 || tm.tm_year < 1970) {
        return -1;
    }
    int64_t ms = 0;
    const char *at = copy + used;
    if (*at == '.') {
        int64_t unit = 100;
        for (at++; *at >= '0' && *at <= '9'; at++, unit /= 10) {
            ms += (*at - '0') * unit;
        }
    }
    int hours = 0;
    int minutes = 0;
    char sign = '+';
    if (!((*at == 'Z' || *at == 'z') && at[1] == 0) &&
        (sscanf (at, "%c%2d:%2d", &sign, &hours, &minutes) != 3 || (sign != '+' && sign != '-'))) {
        return -1;
    }
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    int64_t offset = (hours * 60 + minutes) * 60;
    *unix_ms = ((int64_t)timegm (&tm) - (sign == '-' ? -offset : offset)) * 1000 + ms;
    return 0;
}

int
ef_duration_parse (const char *text, size_t size, int64_t *ms) {
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"ms", 1}, {"", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}, {"d", 8.64e7}};
    char copy[40];
    char *end;
    if (size == 0 || size >= sizeof copy || ((text[0] < '0' || text[0] > '9') && text[0] != '.')) {
        return -1;
    }
    memcpy (copy, text, size);
    copy[size] = 0;
    double number = strtod (copy, &end);
    for (size_t i = 0; end > copy && i < sizeof units / sizeof units[0]; i++) {
        if (strcmp (end, units[i].unit) == 0 && number * units[i].ms < 1e15) {
            *ms = (int64_t)(number * units[i].ms);
            return 0;
        }
    }
    return -1;
}
