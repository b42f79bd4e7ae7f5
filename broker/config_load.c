/* Reading a file and the environment. SPDX-License-Identifier: MIT */
#include "config_private.h"
#include "../proto/event.h"

#include <stdio.h>

typedef struct _zconfig_t node_t;
typedef struct {
    ef_config_t *config;
    settings_file_t file;
    bool has_topics; /* besides those of the defaults */
    char *error;
} load_t;

static node_t *
s_first (load_t *self, node_t *parent) {
    return settings_file_first (&self->file, parent);
}

static node_t *
s_further (load_t *self, node_t *node) {
    return settings_file_further (&self->file, node);
}

static int
s_load_setting (load_t *self, const settings_t *settings, void *base, node_t *node) {
    return settings_file_set (settings, base, node, self->error);
}

static int
s_load_topic (load_t *self, ef_config_topic_t *topic, node_t *parent) {
    for (node_t *node = s_first (self, parent); node; node = s_further (self, node)) {
        if (strcmp (settings_file_name (node), "pool") != 0) {
            if (s_load_setting (self, &config_topic_rows, topic, node)) {
                return -1;
            }
            continue;
        }
        for (node_t *inner = s_first (self, node); inner; inner = s_further (self, inner)) {
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
s_load_topics (load_t *self, node_t *parent) {
    for (node_t *node = s_first (self, parent); node; node = s_further (self, node)) {
        const char *name = settings_file_name (node);
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
s_load_route (load_t *self, node_t *parent) {
    const char *name = settings_file_name (parent);
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
    for (node_t *node = s_first (self, parent); node; node = s_further (self, node)) {
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
s_load_routes (load_t *self, node_t *parent) {
    self->config->route_count = 0;
    for (node_t *node = s_first (self, parent); node; node = s_further (self, node)) {
        if (s_load_route (self, node)) {
            return -1;
        }
    }
    return 0;
}

static int
s_load_server (load_t *self, node_t *parent) {
    for (node_t *node = s_first (self, parent); node; node = s_further (self, node)) {
        if (s_load_setting (self, &config_server, self->config, node)) {
            return -1;
        }
    }
    return 0;
}

/* What workers read of the same file. */
static int
s_load_worker (load_t *self, node_t *parent) {
    settings_file_skip (&self->file, parent);
    return 0;
}

static int
s_load_root (load_t *self, node_t *root) {
    static const struct {
        const char *name;
        int (*load) (load_t *self, node_t *parent);
    } sections[] = {{"server", s_load_server},  {"topic", s_load_topics},
                    {"routes", s_load_routes},  {"worker", s_load_worker},
                    {"gateway", s_load_worker}, {"monitor", s_load_worker}};
    const size_t count = sizeof sections / sizeof sections[0];
    for (node_t *node = s_first (self, root); node; node = s_further (self, node)) {
        size_t i = 0;
        while (i < count && strcmp (settings_file_name (node), sections[i].name) != 0) {
            i++;
        }
        if (i == count) {
            snprintf (self->error, 512,
                      "unknown section %.60s: expected server, topic, routes, worker, gateway or "
                      "monitor",
                      settings_file_name (node));
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
    if (settings_file_open (&load.file, path, error)) {
        return -1;
    }
    int rc = s_load_root (&load, load.file.root);
    if (rc) {
        settings_file_blame (&load.file, path, text, error);
    }
    settings_file_close (&load.file);
    return rc;
}

int
ef_config_environment (ef_config_t *self, char error[512]) {
    char name[160];
    int rc = settings_environment ("SERVER", "", &config_server, self, error);
    for (uint32_t i = 0; rc == 0 && i < self->topic_count; i++) {
        ef_config_topic_t *topic = &self->topics[i];
        rc = settings_environment ("TOPIC", topic->topic.name, &config_topic_rows, topic, error);
        rc = rc ? rc
                : settings_environment ("POOL", topic->topic.name, &config_pool_rows, topic, error);
    }
    for (uint32_t i = 0; rc == 0 && i < self->route_count; i++) {
        ef_route_t *route = &self->routes[i];
        if (settings_variable ("ROUTE", route->name, "header", name)) {
            route->header_count = 0; /* one condition in the place of the file's */
        }
        rc = settings_environment ("ROUTE", route->name, &config_route_rows, route, error);
    }
    return rc;
}
