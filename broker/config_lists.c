/* Values of several fields: lists, quotas, routes; names of topics and zones.
   SPDX-License-Identifier: MIT */
#include "config_private.h"
#include "../proto/event.h"

#include <stdio.h>
#include <stdlib.h>

static void
s_put (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

bool
config_trim (const char *from, size_t size, char *to, size_t bytes) {
    while (size > 0 && (*from == ' ' || *from == '\t')) {
        from++;
        size--;
    }
    while (size > 0 && (from[size - 1] == ' ' || from[size - 1] == '\t')) {
        size--;
    }
    if (size >= bytes) {
        return false;
    }
    memcpy (to, from, size);
    to[size] = '\0';
    return true;
}

int
config_next (const char **at, char separator, char *item, size_t bytes, char why[200]) {
    if (*at == NULL) {
        return 0;
    }
    const char *end = strchr (*at, separator);
    size_t size = end ? (size_t)(end - *at) : strlen (*at);
    bool fits = config_trim (*at, size, item, bytes);
    if (!fits || item[0] == '\0') {
        snprintf (why, 200, fits ? "an item is empty" : "%.60s is longer than %zu bytes", *at,
                  bytes - 1);
        return -1;
    }
    *at = end ? end + 1 : NULL;
    return 1;
}

const char *
config_list (const char *value) {
    return value[strspn (value, " \t")] ? value : NULL;
}

static int
s_set_schemas (const setting_t *setting, void *field, const char *value, char why[200]) {
    ef_topic_config_t *topic = field;
    uint32_t versions[EF_SCHEMAS_MAX];
    uint32_t count = 0;
    const char *at = config_list (value);
    char item[12];
    int rc;
    (void)setting;
    while ((rc = config_next (&at, ',', item, sizeof item, why)) > 0) {
        char *end;
        unsigned long long version = strtoull (item, &end, 10);
        if (item[0] < '0' || item[0] > '9' || *end || version > UINT32_MAX) {
            snprintf (why, 200, "%s is no version", item);
            return -1;
        }
        if (count == EF_SCHEMAS_MAX) {
            snprintf (why, 200, "there may be %u of them", EF_SCHEMAS_MAX);
            return -1;
        }
        versions[count++] = (uint32_t)version;
    }
    if (rc == 0) {
        memset (topic->schemas, 0, sizeof topic->schemas);
        memcpy (topic->schemas, versions, count * sizeof versions[0]);
        topic->schema_count = count;
    }
    return rc;
}

static void
s_print_schemas (const setting_t *setting, const void *field, ef_buf_t *out) {
    const ef_topic_config_t *topic = field;
    (void)setting;
    for (uint32_t i = 0; i < topic->schema_count; i++) {
        char text[16];
        snprintf (text, sizeof text, "%s%u", i ? ", " : "", topic->schemas[i]);
        s_put (out, text);
    }
}

const config_kind_t config_schemas = {"versions such as \"1, 2\"", s_set_schemas, s_print_schemas,
                                      NULL, false};

static const struct {
    const char *name;
    uint32_t ms;
} s_windows[] = {{"day", 86400000}, {"hour", 3600000}, {"minute", 60000}, {"second", 1000},
                 {"d", 86400000},   {"h", 3600000},    {"m", 60000},      {"s", 1000}};
static const char *const s_subjects[] = {
    [EF_BY_NONE] = "", [EF_BY_KEY] = "key", [EF_BY_USER] = "user", [EF_BY_TOPIC] = "topic"};
#define COUNT(table) (sizeof (table) / sizeof ((table)[0]))

/* "20/day by user", cut into its words. */
static int
s_set_quota (const setting_t *setting, void *field, const char *value, char why[200]) {
    ef_quota_config_t *quota = field;
    char text[64];
    char *end;
    (void)setting;
    if (!config_trim (value, strlen (value), text, sizeof text)) {
        return -1;
    }
    if (text[0] == '\0' || strcmp (text, "0") == 0) {
        quota->limit = 0;
        quota->window_ms = s_windows[0].ms;
        quota->by = EF_BY_NONE;
        return 0;
    }
    unsigned long long limit = strtoull (text, &end, 10);
    char *window = end + 1;
    if (text[0] < '0' || text[0] > '9' || *end != '/' || limit > UINT32_MAX) {
        return -1;
    }
    if (limit == 0) {
        snprintf (why, 200, "none at all would ever be handed out");
        return -1;
    }
    char *space = strchr (window, ' ');
    const char *subject = "";
    if (space) {
        *space = '\0';
        subject = space + 1 + strspn (space + 1, " ");
        if (strncmp (subject, "by ", 3) != 0) {
            return -1;
        }
        subject += 3 + strspn (subject + 3, " ");
    }
    for (size_t i = 0; i < COUNT (s_windows); i++) {
        for (size_t k = 0; k < COUNT (s_subjects); k++) {
            if (strcmp (window, s_windows[i].name) == 0 && strcmp (subject, s_subjects[k]) == 0) {
                quota->limit = (uint32_t)limit;
                quota->window_ms = s_windows[i].ms;
                quota->by = (ef_by_t)k;
                return 0;
            }
        }
    }
    return -1;
}

static void
s_print_quota (const setting_t *setting, const void *field, ef_buf_t *out) {
    const ef_quota_config_t *quota = field;
    (void)setting;
    for (size_t i = 0; quota->limit && i < COUNT (s_windows); i++) {
        if (s_windows[i].ms == quota->window_ms) {
            char text[64];
            snprintf (text, sizeof text, "%u/%s%s%s", quota->limit, s_windows[i].name,
                      quota->by ? " by " : "", s_subjects[quota->by]);
            s_put (out, text);
            return;
        }
    }
}

const config_kind_t config_quota = {
    "a quota such as \"20/day by user\": N/second, minute, hour or day, by user, key or topic; "
    "\"\" for none",
    s_set_quota, s_print_quota, NULL, false};

static int
s_set_zone (const setting_t *setting, void *field, const char *value, char why[200]) {
    const ef_zone_t *zone = NULL;
    (void)setting;
    if (value[0] && strcmp (value, "UTC") != 0) {
        zone = ef_zone_find (value, why);
        if (zone == NULL) {
            return -1;
        }
    }
    memcpy (field, &zone, sizeof zone);
    return 0;
}

static void
s_print_zone (const setting_t *setting, const void *field, ef_buf_t *out) {
    const ef_zone_t *zone;
    (void)setting;
    memcpy (&zone, field, sizeof zone);
    s_put (out, zone ? zone->name : "UTC");
}

const config_kind_t config_zone = {"UTC or a zone such as Europe/Berlin", s_set_zone, s_print_zone,
                                   NULL, false};

static int
s_set_topic (const setting_t *setting, void *field, const char *value, char why[200]) {
    (void)why;
    if (strlen (value) >= setting->bytes ||
        (value[0] && !ef_topic_is_valid (value, strlen (value)))) {
        return -1;
    }
    memset (field, 0, setting->bytes);
    memcpy (field, value, strlen (value));
    return 0;
}

static void
s_print_name (const setting_t *setting, const void *field, ef_buf_t *out) {
    (void)setting;
    s_put (out, field);
}

const config_kind_t config_topic = {"a topic's name, or \"\" for none", s_set_topic, s_print_name,
                                    NULL, false};

static int
s_set_pattern (const setting_t *setting, void *field, const char *value, char why[200]) {
    (void)why;
    if (strlen (value) >= setting->bytes) {
        return -1;
    }
    memset (field, 0, setting->bytes);
    memcpy (field, value, strlen (value));
    return 0;
}

const config_kind_t config_pattern = {"a pattern of up to 63 bytes such as \"user.*\"",
                                      s_set_pattern, s_print_name, NULL, false};

static int
s_set_header (const setting_t *setting, void *field, const char *value, char why[200]) {
    ef_route_t *route = field;
    const char *equal = strchr (value, '=');
    (void)setting;
    if (route->header_count == EF_ROUTE_HEADERS_MAX) {
        snprintf (why, 200, "a route has up to %u of them", EF_ROUTE_HEADERS_MAX);
        return -1;
    }
    char *name = route->headers[route->header_count].name;
    char *pattern = route->headers[route->header_count].pattern;
    if (equal == NULL || !config_trim (value, (size_t)(equal - value), name, EF_PATTERN_BYTES) ||
        !config_trim (equal + 1, strlen (equal + 1), pattern, EF_PATTERN_BYTES) ||
        name[0] == '\0' || pattern[0] == '\0') {
        return -1;
    }
    route->header_count++;
    return 0;
}

static void
s_print_headers (const setting_t *setting, const void *field, ef_buf_t *out) {
    const ef_route_t *route = field;
    (void)setting;
    for (uint32_t i = 0; i < route->header_count; i++) {
        s_put (out, i ? "\n" : "");
        s_put (out, route->headers[i].name);
        s_put (out, "=");
        s_put (out, route->headers[i].pattern);
    }
}

const config_kind_t config_header = {"a condition \"NAME=PATTERN\", each up to 63 bytes",
                                     s_set_header, s_print_headers, NULL, false};

static int
s_set_targets (const setting_t *setting, void *field, const char *value, char why[200]) {
    ef_route_t *route = field;
    const char *at = config_list (value);
    char topics[EF_ROUTE_TOPICS_MAX][EF_TOPIC_NAME_BYTES] = {{0}};
    uint32_t count = 0;
    char item[EF_TOPIC_NAME_BYTES];
    int rc;
    (void)setting;
    while ((rc = config_next (&at, ',', item, sizeof item, why)) > 0) {
        bool is_known = false;
        for (uint32_t i = 0; i < count; i++) {
            is_known = is_known || strcmp (topics[i], item) == 0;
        }
        if (is_known || count == EF_ROUTE_TOPICS_MAX || !ef_topic_is_valid (item, strlen (item))) {
            snprintf (why, 200,
                      is_known                       ? "%s is there twice"
                      : count == EF_ROUTE_TOPICS_MAX ? "%s is one more than 16"
                                                     : "%s is no topic's name",
                      item);
            return -1;
        }
        strcpy (topics[count++], item);
    }
    if (rc || count == 0) {
        return -1;
    }
    memcpy (route->topics, topics, sizeof topics);
    route->topic_count = count;
    return 0;
}

static void
s_print_targets (const setting_t *setting, const void *field, ef_buf_t *out) {
    const ef_route_t *route = field;
    (void)setting;
    for (uint32_t i = 0; i < route->topic_count; i++) {
        s_put (out, i ? ", " : "");
        s_put (out, route->topics[i]);
    }
}

const config_kind_t config_targets = {"topics such as \"email, db\"", s_set_targets,
                                      s_print_targets, NULL, false};
