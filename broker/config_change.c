/* What a reload changes. SPDX-License-Identifier: MIT */
#include "config_private.h"

#include <stdio.h>
#include <stdlib.h>

static void
s_note (ef_setting_names_t *names, const char *section, const char *of, const char *key) {
    names->items = realloc (names->items, (names->count + 1) * sizeof *names->items);
    ef_assert (names->items != NULL);
    snprintf (names->items[names->count++], sizeof names->items[0], "%s%s%s%s%s", section,
              of[0] ? "/" : "", of, key[0] ? "/" : "", key);
}

static void
s_note_topic (ef_config_changes_t *changes, uint32_t place) {
    changes->topics =
        realloc (changes->topics, (changes->topic_count + 1) * sizeof *changes->topics);
    ef_assert (changes->topics != NULL);
    changes->topics[changes->topic_count++] = place;
}

static void
s_update_server (ef_config_t *self, const ef_config_t *fresh, ef_config_changes_t *changes) {
    for (size_t i = 0; i < config_server.count; i++) {
        const setting_t *row = &config_server.rows[i];
        if (config_is_same (row, self, fresh)) {
            continue;
        }
        s_note (row->is_fixed ? &changes->needs_restart : &changes->changed, "server", "",
                row->name);
        if (!row->is_fixed) {
            memcpy ((char *)self + row->offset, (const char *)fresh + row->offset, row->bytes);
        }
    }
}

/* The scaler takes other settings of a pool, but neither a new pool nor the end of one. */
static void
s_update_pool (ef_config_topic_t *self, const ef_config_topic_t *fresh, const char *name,
               ef_config_changes_t *changes) {
    bool was_there = self->pool.command[0] != '\0';
    bool is_there = fresh->pool.command[0] != '\0';
    char section[EF_SETTING_NAME_BYTES];
    snprintf (section, sizeof section, "%s/pool", name);
    for (size_t i = 0; i < config_pool_rows.count; i++) {
        const setting_t *row = &config_pool_rows.rows[i];
        bool is_topics = row->offset < sizeof self->topic;
        if (!config_is_same (row, self, fresh)) {
            s_note (was_there == is_there || is_topics ? &changes->changed
                                                       : &changes->needs_restart,
                    "topic", section, row->name);
        }
    }
    if (was_there == is_there) {
        self->pool = fresh->pool;
    }
}

static bool
s_update_topic (ef_config_topic_t *self, const ef_config_topic_t *fresh, const char *name,
                ef_config_changes_t *changes) {
    uint32_t before = changes->changed.count;
    if (memcmp (self, fresh, sizeof *self) == 0) {
        return false;
    }
    for (size_t i = 0; i < config_topic_rows.count; i++) {
        const setting_t *row = &config_topic_rows.rows[i];
        if (!config_is_same (row, self, fresh)) {
            s_note (&changes->changed, "topic", name, row->name);
        }
    }
    s_update_pool (self, fresh, name, changes);
    self->topic = fresh->topic;
    return changes->changed.count > before;
}

static void
s_add_topic (ef_config_t *self, const ef_config_topic_t *fresh, ef_config_changes_t *changes) {
    ef_config_topic_t *topic = config_topic_require (self, fresh->topic.name);
    *topic = *fresh;
    s_note (&changes->changed, "topic", fresh->topic.name, "");
    s_note_topic (changes, (uint32_t)(topic - self->topics));
    if (fresh->pool.command[0]) {
        char section[EF_SETTING_NAME_BYTES];
        snprintf (section, sizeof section, "%s/pool", fresh->topic.name);
        s_note (&changes->needs_restart, "topic", section, "command");
        topic->pool.command[0] = '\0';
    }
}

static void
s_update_topics (ef_config_t *self, const ef_config_t *fresh, ef_config_changes_t *changes) {
    uint32_t known = self->topic_count;
    (void)s_update_topic (&self->defaults, &fresh->defaults, "defaults", changes); /* no topic */
    for (uint32_t i = 0; i < known; i++) {
        const char *name = self->topics[i].topic.name;
        const ef_config_topic_t *other = i < fresh->topic_count ? &fresh->topics[i] : NULL;
        if (other == NULL || strcmp (other->topic.name, name) != 0) {
            other = config_topic_find (fresh, name);
        }
        if (other == NULL) {
            s_note (&changes->needs_restart, "topic", name, "");
        } else if (s_update_topic (&self->topics[i], other, name, changes)) {
            s_note_topic (changes, i);
        }
    }
    for (uint32_t i = 0; i < fresh->topic_count; i++) {
        if (config_topic_find (self, fresh->topics[i].topic.name) == NULL) {
            s_add_topic (self, &fresh->topics[i], changes);
        }
    }
}

static bool
s_is_same_route (const ef_route_t *a, const ef_route_t *b) {
    bool is_same = strcmp (a->name, b->name) == 0;
    for (size_t i = 0; is_same && i < config_route_rows.count; i++) {
        is_same = config_is_same (&config_route_rows.rows[i], a, b);
    }
    return is_same;
}

static void
s_update_routes (ef_config_t *self, const ef_config_t *fresh, ef_config_changes_t *changes) {
    bool is_same = self->route_count == fresh->route_count;
    for (uint32_t i = 0; is_same && i < fresh->route_count; i++) {
        is_same = s_is_same_route (&self->routes[i], &fresh->routes[i]);
    }
    if (is_same) {
        return;
    }
    changes->has_routes = true;
    s_note (&changes->changed, "routes", "", "");
    self->route_count = 0;
    for (uint32_t i = 0; i < fresh->route_count; i++) {
        *config_route_add (self, "") = fresh->routes[i];
    }
}

void
ef_config_update (ef_config_t *self, const ef_config_t *fresh, ef_config_changes_t *changes) {
    memset (changes, 0, sizeof *changes);
    s_update_server (self, fresh, changes);
    s_update_topics (self, fresh, changes);
    s_update_routes (self, fresh, changes);
}

void
ef_config_changes_free (ef_config_changes_t *self) {
    free (self->changed.items);
    free (self->needs_restart.items);
    free (self->topics);
    memset (self, 0, sizeof *self);
}
