/* When days begin in a time zone. SPDX-License-Identifier: MIT

   Role: tables of midnights for quotas, from two days back to ten years ahead, so that nobody asks
   libc for a local time while events wait. Owns: the tables, for the life of the process, since
   topics borrow them. libc knows one zone, that of TZ, and a setenv beside running threads is a
   race: the table is made by a process of its own. On failure: the zone counts as unknown. */
#include "config_private.h"
#include "../proto/event.h"
#include "actors/spawn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define DAYS_BEFORE 2
#define DAYS        3660
#define DAY_S       86400

extern char **environ;
static ef_zone_t **s_zones; /* owned, for good */
static uint32_t s_zone_count;

/* A file of the system's database, and no way out of it. */
static bool
s_exists (const char *name) {
    const char *directory = getenv ("TZDIR");
    char path[512];
    char magic[4] = "";
    for (const char *at = name; *at; at++) {
        bool is_word = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
                       (*at >= '0' && *at <= '9') || (at > name && strchr ("/_+-", *at));
        if (!is_word) {
            return false;
        }
    }
    snprintf (path, sizeof path, "%s/%s", directory ? directory : "/usr/share/zoneinfo", name);
    FILE *file = fopen (path, "r");
    if (file == NULL) {
        return false;
    }
    bool is_good = fread (magic, 1, 4, file) == 4 && memcmp (magic, "TZif", 4) == 0;
    fclose (file);
    return is_good;
}

/* `name` with TZ as it wants it, for the process that makes the table. */
static int
s_make (const char *name, void *bytes, size_t size) {
    char own[64];
    size_t count = 0;
    size_t kept = 0;
    while (environ[count]) {
        count++;
    }
    char **list = calloc (count + 2, sizeof *list);
    ef_assert (list != NULL);
    for (size_t i = 0; i < count; i++) {
        if (strncmp (environ[i], "TZ=", 3) != 0) {
            list[kept++] = environ[i];
        }
    }
    snprintf (own, sizeof own, "TZ=:%s", name);
    list[kept] = own;
    int rc = ef_spawn_self ("--zone", list, bytes, size);
    free (list);
    return rc;
}

const ef_zone_t *
ef_zone_find (const char *name, char why[200]) {
    for (uint32_t i = 0; i < s_zone_count; i++) {
        if (strcmp (s_zones[i]->name, name) == 0) {
            return s_zones[i];
        }
    }
    size_t bytes = DAYS * sizeof (int64_t);
    ef_zone_t *zone = calloc (1, sizeof *zone + bytes);
    ef_assert (zone != NULL);
    if (name[0] == '\0' || strlen (name) >= sizeof zone->name || !s_exists (name)) {
        snprintf (why, 200, "the system has no such zone; the package tzdata has them");
        free (zone);
        return NULL;
    }
    int got = s_make (name, zone->midnights, bytes);
    if (got != (int)bytes) {
        snprintf (why, 200, "its days can't be worked out: %s", strerror (got < 0 ? -got : EIO));
        free (zone);
        return NULL;
    }
    strcpy (zone->name, name);
    zone->count = DAYS;
    ef_zone_t **zones = realloc (s_zones, (s_zone_count + 1) * sizeof (void *));
    ef_assert (zones != NULL);
    s_zones = zones;
    s_zones[s_zone_count++] = zone;
    return zone;
}

/* A number that grows with the local date. */
static int64_t
s_date (time_t at) {
    struct tm local = {0};
    (void)localtime_r (&at, &local); /* fails for years that don't fit an int only */
    return (int64_t)local.tm_year * 366 + local.tm_yday;
}

/* The first second of a local date, which isn't 00:00 where clocks are set forward at midnight,
   and comes twice where they are set back to it. */
static time_t
s_begin (const struct tm *first, int day) {
    struct tm local = {.tm_year = first->tm_year,
                       .tm_mon = first->tm_mon,
                       .tm_mday = first->tm_mday + day,
                       .tm_hour = 12,
                       .tm_isdst = -1};
    time_t high = mktime (&local);
    time_t low = high - DAY_S;
    int64_t date = s_date (high);
    while (high - low > 1) { /* low is on an earlier date, high on this one */
        time_t middle = low + (high - low) / 2;
        if (s_date (middle) >= date) {
            high = middle;
        } else {
            low = middle;
        }
    }
    return high;
}

int
ef_zone_write (void) {
    static int64_t midnights[DAYS];
    time_t start = (time_t)(ef_wall_ms () / 1000) - DAYS_BEFORE * DAY_S;
    struct tm first = {0};
    tzset ();
    if (localtime_r (&start, &first) == NULL) {
        return 1;
    }
    for (int i = 0; i < DAYS; i++) {
        midnights[i] = (int64_t)s_begin (&first, i) * 1000;
    }
    return fwrite (midnights, sizeof midnights[0], DAYS, stdout) == DAYS && fflush (stdout) == 0
               ? 0
               : 1;
}
