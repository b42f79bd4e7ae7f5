/* Reading a file and the environment. SPDX-License-Identifier: MIT */
#include "config_private.h"
#include "../proto/event.h"

#include <czmq.h>
#include <errno.h>
#include <stdio.h>

#define LINE_MAX_BYTES 1000 /* zconfig cuts off what lies beyond its 1024 */

/* The file's lines that hold a node, in order: zconfig makes one node of each, in the same order.
 */
typedef struct {
    int *numbers; /* owned */
    size_t count;
    size_t next; /* of the node under way */
} lines_t;

/* 0, a negative errno, or the number of a line that is too long. */
static int
s_read_lines (const char *path, lines_t *lines) {
    FILE *file = fopen (path, "r");
    char *text = NULL;
    size_t capacity = 0;
    int rc = 0;
    if (file == NULL) {
        return -errno;
    }
    for (int number = 1; rc == 0 && getline (&text, &capacity, file) >= 0; number++) {
        const char *first = text + strspn (text, " \t\r\n");
        if (*first && *first != '#') {
            lines->numbers = realloc (lines->numbers, (lines->count + 1) * sizeof (int));
            ef_assert (lines->numbers != NULL);
            lines->numbers[lines->count++] = number;
            rc = strlen (text) > LINE_MAX_BYTES ? number : 0;
        }
    }
    rc = rc == 0 && ferror (file) ? -EIO : rc;
    free (text);
    fclose (file);
    return rc;
}

typedef struct {
    ef_config_t *config;
    lines_t lines;
    int line;
    bool has_topics; /* besides those of the defaults */
    char *error;
} load_t;

static zconfig_t *
s_step (load_t *self, zconfig_t *node) {
    if (node) {
        self->line =
            self->lines.next < self->lines.count ? self->lines.numbers[self->lines.next] : 0;
        self->lines.next++;
    }
    return node;
}

static zconfig_t *
s_first (load_t *self, zconfig_t *parent) {
    return s_step (self, zconfig_child (parent));
}

static zconfig_t *
s_further (load_t *self, zconfig_t *node) {
    return s_step (self, zconfig_next (node));
}

static int
s_load_setting (load_t *self, const settings_t *settings, void *base, zconfig_t *node) {
    const char *value = zconfig_value (node);
    return config_set_named (settings, base, zconfig_name (node), value ? value : "", self->error);
}

static int
s_load_topic (load_t *self, ef_config_topic_t *topic, zconfig_t *parent) {
    for (zconfig_t *node = s_first (self, parent); node; node = s_further (self, node)) {
        if (strcmp (zconfig_name (node), "pool") != 0) {
            if (s_load_setting (self, &config_topic_rows, topic, node)) {
                return -1;
            }
            continue;
        }
        for (zconfig_t *inner = s_first (self, node); inner; inner = s_further (self, inner)) {
            if (s_load_setting (self, &config_pool_rows, topic, inner)) {
                return -1;
            }
        }
    }
    return 0;
}

/* Gives the topics that are there by themselves the defaults that were read. */
static void
s_spread_defaults (ef_config_t *self) {
    for (uint32_t i = 0; i < self->topic_count; i++) {
        char kept[EF_TOPIC_NAME_BYTES];
        memcpy (kept, self->topics[i].topic.name, sizeof kept);
        self->topics[i] = self->defaults;
        memcpy (self->topics[i].topic.name, kept, sizeof kept);
    }
}

static int
s_load_topics (load_t *self, zconfig_t *parent) {
    for (zconfig_t *node = s_first (self, parent); node; node = s_further (self, node)) {
        const char *name = zconfig_name (node);
        bool is_defaults = strcmp (name, "defaults") == 0;
        if (!is_defaults && !ef_topic_is_valid (name, strlen (name))) {
            snprintf (self->error, 512, "topic name %.60s: expected 1 to 53 of a-z A-Z 0-9 . _ -",
                      name);
            return -1;
        }
        if (is_defaults && self->has_topics) {
            snprintf (self->error, 512, "topic/defaults behind a topic: expected it before them");
            return -1;
        }
        self->has_topics = self->has_topics || !is_defaults;
        ef_config_topic_t *topic =
            is_defaults ? &self->config->defaults : config_topic_require (self->config, name);
        if (s_load_topic (self, topic, node)) {
            return -1;
        }
        if (is_defaults) {
            s_spread_defaults (self->config);
        }
    }
    return 0;
}

static int
s_load_route (load_t *self, zconfig_t *parent) {
    const char *name = zconfig_name (parent);
    ef_config_t *config = self->config;
    if (strlen (name) >= sizeof config->routes->name) {
        snprintf (self->error, 512, "route name %.60s: expected up to %zu bytes", name,
                  sizeof config->routes->name - 1);
        return -1;
    }
    for (uint32_t i = 0; i < config->route_count; i++) {
        if (strcmp (config->routes[i].name, name) == 0) {
            snprintf (self->error, 512, "route %s is there twice: expected names that differ",
                      name);
            return -1;
        }
    }
    if (config->route_count == EF_ROUTES_MAX) {
        snprintf (self->error, 512, "route %s: expected up to %u routes", name, EF_ROUTES_MAX);
        return -1;
    }
    ef_route_t *route = config_route_add (config, name);
    for (zconfig_t *node = s_first (self, parent); node; node = s_further (self, node)) {
        if (s_load_setting (self, &config_route_rows, route, node)) {
            return -1;
        }
    }
    if (route->topic_count == 0) {
        snprintf (self->error, 512, "route %s: expected to = topics such as \"email, db\"", name);
        return -1;
    }
    return 0;
}

/* A file's routes take the place of the defaults', so that their order is what the file shows. */
static int
s_load_routes (load_t *self, zconfig_t *parent) {
    self->config->route_count = 0;
    for (zconfig_t *node = s_first (self, parent); node; node = s_further (self, node)) {
        if (s_load_route (self, node)) {
            return -1;
        }
    }
    return 0;
}

static int
s_load_server (load_t *self, zconfig_t *parent) {
    for (zconfig_t *node = s_first (self, parent); node; node = s_further (self, node)) {
        if (s_load_setting (self, &config_server, self->config, node)) {
            return -1;
        }
    }
    return 0;
}

static int
s_load_root (load_t *self, zconfig_t *root) {
    static const struct {
        const char *name;
        int (*load) (load_t *self, zconfig_t *parent);
    } sections[] = {{"server", s_load_server}, {"topic", s_load_topics}, {"routes", s_load_routes}};
    const size_t count = sizeof sections / sizeof sections[0];
    for (zconfig_t *node = s_first (self, root); node; node = s_further (self, node)) {
        size_t i = 0;
        while (i < count && strcmp (zconfig_name (node), sections[i].name) != 0) {
            i++;
        }
        if (i == count) {
            snprintf (self->error, 512, "unknown section %.60s: expected server, topic or routes",
                      zconfig_name (node));
            return -1;
        }
        if (sections[i].load (self, node)) {
            return -1;
        }
    }
    return 0;
}

int
ef_config_load (ef_config_t *self, const char *path, char error[512]) {
    char text[512] = "";
    load_t load = {.config = self, .error = text};
    int rc = s_read_lines (path, &load.lines);
    if (rc < 0) {
        snprintf (error, 512, "%.200s: can't be read: %s", path, strerror (-rc));
    } else if (rc > 0) {
        snprintf (error, 512, "%.200s:%d: the line is too long: expected up to %d bytes", path, rc,
                  LINE_MAX_BYTES);
    }
    zconfig_t *root = rc ? NULL : zconfig_load (path);
    if (rc == 0 && root == NULL) {
        snprintf (error, 512,
                  "%.200s: isn't ZPL: expected \"name = value\" lines, nested by 4 spaces", path);
    }
    if (root) {
        rc = s_load_root (&load, root);
    }
    if (root && rc) {
        snprintf (error, 512, "%.150s:%d: %.340s", path, load.line, text);
    }
    bool is_read = root && rc == 0;
    zconfig_destroy (&root);
    free (load.lines.numbers);
    return is_read ? 0 : -1;
}

/* EVENTFLOW_SECTION_NAME_KEY in capitals; NULL: it isn't set. */
static const char *
s_variable (const char *section, const char *of, const char *key, char name[160]) {
    snprintf (name, 160, "EVENTFLOW_%s%s%s_%s", section, of[0] ? "_" : "", of, key);
    for (char *at = name; *at; at++) {
        *at = *at >= 'a' && *at <= 'z' ? (char)(*at - 32) : *at == '-' || *at == '.' ? '_' : *at;
    }
    return getenv (name);
}

static int
s_environment_of (const char *section, const char *of, const settings_t *settings, void *base,
                  char error[512]) {
    for (size_t i = 0; i < settings->count; i++) {
        char name[160];
        char text[512];
        const char *value = s_variable (section, of, settings->rows[i].name, name);
        if (value && config_set (&settings->rows[i], base, value, text)) {
            snprintf (error, 512, "environment %.100s: %.350s", name, text);
            return -1;
        }
    }
    return 0;
}

int
ef_config_environment (ef_config_t *self, char error[512]) {
    char name[160];
    int rc = s_environment_of ("SERVER", "", &config_server, self, error);
    for (uint32_t i = 0; rc == 0 && i < self->topic_count; i++) {
        ef_config_topic_t *topic = &self->topics[i];
        rc = s_environment_of ("TOPIC", topic->topic.name, &config_topic_rows, topic, error);
        rc =
            rc ? rc : s_environment_of ("POOL", topic->topic.name, &config_pool_rows, topic, error);
    }
    for (uint32_t i = 0; rc == 0 && i < self->route_count; i++) {
        ef_route_t *route = &self->routes[i];
        if (s_variable ("ROUTE", route->name, "header", name)) {
            route->header_count = 0; /* one condition in the place of the file's */
        }
        rc = s_environment_of ("ROUTE", route->name, &config_route_rows, route, error);
    }
    return rc;
}
