/* Settings. SPDX-License-Identifier: MIT

   Every setting is a row of a table: its name, its kind, where it goes, its bounds. */
#include "config.h"
#include "../proto/limits.h"

#include <czmq.h>
#include <errno.h>
#include <stdio.h>

typedef enum { TEXT, BOOLEAN, NUMBER, DURATION, SIZE, RATE, FACTOR, CHOICE } kind_t;

typedef struct {
    const char *name;
    kind_t kind;
    size_t offset;
    size_t bytes; /* of the field */
    double least;
    double most;
    const char *choices; /* "a|b|c": stored as text, or as its place where the field is an int */
} setting_t;

#define FIELD(type, member) offsetof (type, member), sizeof (((type *)0)->member)

static const setting_t s_server[] = {
    {"name", TEXT, FIELD (ef_config_t, name), 0, 0, NULL},
    {"data", TEXT, FIELD (ef_config_t, data), 0, 0, NULL},
    {"ingress", TEXT, FIELD (ef_config_t, ingress), 0, 0, NULL},
    {"front", TEXT, FIELD (ef_config_t, front), 0, 0, NULL},
    {"back", TEXT, FIELD (ef_config_t, back), 0, 0, NULL},
    {"admin", TEXT, FIELD (ef_config_t, admin), 0, 0, NULL},
    {"stats", TEXT, FIELD (ef_config_t, stats), 0, 0, NULL},
    {"durability", CHOICE, FIELD (ef_config_t, durability), 0, 0, "sync|os"},
    {"insecure", BOOLEAN, FIELD (ef_config_t, insecure), 0, 0, NULL},
    {"log_json", BOOLEAN, FIELD (ef_config_t, log_json), 0, 0, NULL},
    {"log_level", CHOICE, FIELD (ef_config_t, log_level), 0, 0, "debug|info|warning|error"},
    {"max_event", SIZE, FIELD (ef_config_t, max_event), 64, EF_EVENT_CEILING, NULL},
    {"max_message", SIZE, FIELD (ef_config_t, max_message), 64, EF_MESSAGE_CEILING, NULL},
    {"segment", SIZE, FIELD (ef_config_t, segment_bytes), 65536, 1u << 30, NULL},
    {"cache", SIZE, FIELD (ef_config_t, cache_bytes), 1u << 20, 1e12, NULL},
    {"heartbeat", DURATION, FIELD (ef_config_t, heartbeat_ms), 50, 3600000, NULL},
    {"auto_create", BOOLEAN, FIELD (ef_config_t, auto_create), 0, 0, NULL},
};

#define TOPIC(member) FIELD (ef_config_topic_t, topic.member)
static const setting_t s_topic[] = {
    {"capacity", NUMBER, TOPIC (capacity_events), 0, 1e15, NULL},
    {"capacity_bytes", SIZE, TOPIC (capacity_bytes), 0, 1e15, NULL},
    {"on_full", CHOICE, TOPIC (refuse_when_full), 0, 0, "retry|refuse"},
    {"overflow_replay", CHOICE, TOPIC (overflow_manual), 0, 0, "auto|manual"},
    {"overflow_rate", RATE, TOPIC (overflow_rate), 1, 1e6, NULL},
    {"lease", DURATION, TOPIC (lease_ms), 10, 86400000, NULL},
    {"attempts", NUMBER, TOPIC (retry.attempts), 1, 1000, NULL},
    {"retry_base", DURATION, TOPIC (retry.base_ms), 1, 86400000, NULL},
    {"retry_factor", FACTOR, TOPIC (retry.factor), 1, 100, NULL},
    {"retry_cap", DURATION, TOPIC (retry.cap_ms), 1, 7 * 86400000.0, NULL},
    {"retry_capacity", NUMBER, TOPIC (retry_capacity), 1, 1e7, NULL},
    {"scheduled_capacity", NUMBER, TOPIC (scheduled_capacity), 0, 1e7, NULL},
    {"insert_attempts", NUMBER, TOPIC (insert_attempts), 0, 1000, NULL},
    {"insert_base", DURATION, TOPIC (insert_base_ms), 1, 86400000, NULL},
    {"insert_cap", DURATION, TOPIC (insert_cap_ms), 1, 86400000, NULL},
    {"insert_capacity", NUMBER, TOPIC (insert_capacity), 0, 1e7, NULL},
};

static const setting_t s_pool[] = {
    {"command", TEXT, FIELD (ef_config_topic_t, pool.command), 0, 0, NULL},
    {"min", NUMBER, FIELD (ef_config_topic_t, pool.min), 0, 1000, NULL},
    {"max", NUMBER, FIELD (ef_config_topic_t, pool.max), 1, 1000, NULL},
    {"credit", NUMBER, FIELD (ef_config_topic_t, pool.credit), 1, EF_CREDIT_MAX, NULL},
    {"stall", DURATION, TOPIC (stall_ms), 10, 3600000, NULL},
    {"idle", DURATION, FIELD (ef_config_topic_t, pool.idle_ms), 100, 86400000, NULL},
    {"cooldown", DURATION, FIELD (ef_config_topic_t, pool.cooldown_ms), 10, 3600000, NULL},
};

#define COUNT(table) (sizeof (table) / sizeof ((table)[0]))

typedef struct {
    const char *suffix;
    double factor;
} unit_t;

static const unit_t s_durations[] = {
    {"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}, {"d", 8.64e7}};
static const unit_t s_sizes[] = {{"KiB", 1024}, {"MiB", 1048576}, {"GiB", 1073741824},
                                 {"kB", 1e3},   {"MB", 1e6},      {"GB", 1e9},
                                 {"", 1}};
static const unit_t s_rates[] = {{"/s", 1}, {"", 1}};
static const unit_t s_plain[] = {{"", 1}};

static int
s_number (const char *value, const unit_t *units, size_t count, double *number) {
    char *end;
    errno = 0;
    double base = strtod (value, &end);
    if (end == value || errno || base < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp (end, units[i].suffix) == 0) {
            *number = base * units[i].factor;
            return 0;
        }
    }
    return -1;
}

static const char *
s_expected (kind_t kind) {
    static const char *const texts[] = {
        [TEXT] = "text that fits",
        [BOOLEAN] = "0 or 1",
        [NUMBER] = "a number",
        [DURATION] = "a duration such as 500ms, 5s, 2m, 1h or 7d",
        [SIZE] = "a size such as 65536, 64KiB or 1MiB",
        [RATE] = "a rate such as 100/s",
        [FACTOR] = "a factor such as 2 or 1.5",
        [CHOICE] = "one of",
    };
    return texts[kind];
}

static void
s_store_number (const setting_t *setting, void *base, double number) {
    void *field = (char *)base + setting->offset;
    uint64_t whole = (uint64_t)number;
    if (setting->kind == FACTOR) {
        memcpy (field, &number, sizeof number);
    } else if (setting->bytes == 8) {
        memcpy (field, &whole, 8);
    } else if (setting->bytes == 4) {
        uint32_t half = (uint32_t)whole;
        memcpy (field, &half, 4);
    } else {
        *(bool *)field = whole != 0;
    }
}

static int
s_store_choice (const setting_t *setting, void *base, const char *value) {
    const char *at = setting->choices;
    size_t size = strlen (value);
    for (unsigned i = 0; at; i++) {
        const char *bar = strchr (at, '|');
        size_t length = bar ? (size_t)(bar - at) : strlen (at);
        if (length == size && memcmp (at, value, size) == 0) {
            if (setting->bytes == 1 || setting->bytes == 4) {
                s_store_number (setting, base, i);
            } else {
                snprintf ((char *)base + setting->offset, setting->bytes, "%s", value);
            }
            return 0;
        }
        at = bar ? bar + 1 : NULL;
    }
    return -1;
}

/* Sets one field. -1: `error` says what was expected. */
static int
s_set (const setting_t *setting, void *base, const char *value, char error[512]) {
    static const struct {
        const unit_t *units;
        size_t count;
    } units[] = {
        [NUMBER] = {s_plain, 1},
        [DURATION] = {s_durations, COUNT (s_durations)},
        [SIZE] = {s_sizes, COUNT (s_sizes)},
        [RATE] = {s_rates, COUNT (s_rates)},
        [FACTOR] = {s_plain, 1},
    };
    double number;
    bool is_good;
    if (setting->kind == TEXT) {
        is_good = strlen (value) < setting->bytes;
        if (is_good) {
            memcpy ((char *)base + setting->offset, value, strlen (value) + 1);
        }
    } else if (setting->kind == BOOLEAN) {
        is_good = strcmp (value, "0") == 0 || strcmp (value, "1") == 0;
        s_store_number (setting, base, value[0] == '1');
    } else if (setting->kind == CHOICE) {
        is_good = s_store_choice (setting, base, value) == 0;
    } else {
        is_good = s_number (value, units[setting->kind].units, units[setting->kind].count,
                            &number) == 0 &&
                  number >= setting->least && number <= setting->most;
        if (is_good) {
            s_store_number (setting, base, number);
        }
    }
    if (!is_good) {
        char bounds[80] = "";
        if (setting->most > 0) {
            snprintf (bounds, sizeof bounds, " from %.0f to %.0f%s", setting->least, setting->most,
                      setting->kind == DURATION ? " ms"
                      : setting->kind == SIZE   ? " bytes"
                                                : "");
        }
        snprintf (error, 512, "%s = %.100s: expected %s%s%s%s", setting->name, value,
                  s_expected (setting->kind), bounds, setting->choices ? " " : "",
                  setting->choices ? setting->choices : "");
    }
    return is_good ? 0 : -1;
}

static const setting_t *
s_find (const setting_t *table, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp (table[i].name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

static void
s_unknown (const setting_t *table, size_t count, const char *name, char error[512]) {
    size_t used = (size_t)snprintf (error, 512, "unknown setting %.60s: expected one of", name);
    for (size_t i = 0; i < count && used < 500; i++) {
        used += (size_t)snprintf (error + used, 512 - used, " %s", table[i].name);
    }
}

/* The file's lines that hold a node, in order: zconfig makes one node of each, in the same order.
 */
typedef struct {
    int *numbers; /* owned */
    size_t count;
    size_t next; /* of the node under way */
} lines_t;

static int
s_read_lines (const char *path, lines_t *lines) {
    FILE *file = fopen (path, "r");
    char text[4096];
    if (file == NULL) {
        return -1;
    }
    for (int number = 1; fgets (text, sizeof text, file); number++) {
        const char *first = text + strspn (text, " \t\r\n");
        if (*first && *first != '#') {
            lines->numbers = realloc (lines->numbers, (lines->count + 1) * sizeof (int));
            ef_assert (lines->numbers != NULL);
            lines->numbers[lines->count++] = number;
        }
    }
    fclose (file);
    return 0;
}

typedef struct {
    ef_config_t *config;
    const char *path;
    lines_t lines;
    int line;
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

static int
s_load_setting (const setting_t *table, size_t count, void *base, zconfig_t *node,
                char error[512]) {
    const setting_t *setting = s_find (table, count, zconfig_name (node));
    if (setting == NULL) {
        s_unknown (table, count, zconfig_name (node), error);
        return -1;
    }
    return s_set (setting, base, zconfig_value (node) ? zconfig_value (node) : "", error);
}

static int
s_load_topic (load_t *self, ef_config_topic_t *topic, zconfig_t *parent) {
    for (zconfig_t *node = s_step (self, zconfig_child (parent)); node;
         node = s_step (self, zconfig_next (node))) {
        if (strcmp (zconfig_name (node), "pool") != 0) {
            if (s_load_setting (s_topic, COUNT (s_topic), topic, node, self->error)) {
                return -1;
            }
            continue;
        }
        for (zconfig_t *inner = s_step (self, zconfig_child (node)); inner;
             inner = s_step (self, zconfig_next (inner))) {
            if (s_load_setting (s_pool, COUNT (s_pool), topic, inner, self->error)) {
                return -1;
            }
        }
    }
    return 0;
}

static ef_config_topic_t *
s_topic_require (ef_config_t *self, const char *name) {
    for (uint32_t i = 0; i < self->topic_count; i++) {
        if (strcmp (self->topics[i].topic.name, name) == 0) {
            return &self->topics[i];
        }
    }
    self->topics = realloc (self->topics, (self->topic_count + 1) * sizeof *self->topics);
    ef_assert (self->topics != NULL);
    ef_config_topic_t *topic = &self->topics[self->topic_count++];
    *topic = self->defaults;
    snprintf (topic->topic.name, sizeof topic->topic.name, "%s", name);
    return topic;
}

static int
s_load_topics (load_t *self, zconfig_t *parent) {
    for (zconfig_t *node = s_step (self, zconfig_child (parent)); node;
         node = s_step (self, zconfig_next (node))) {
        const char *name = zconfig_name (node);
        bool is_defaults = strcmp (name, "defaults") == 0;
        if (!is_defaults && !ef_topic_is_valid (name, strlen (name))) {
            snprintf (self->error, 512, "topic name %.60s: expected 1 to 53 of a-z A-Z 0-9 . _ -",
                      name);
            return -1;
        }
        if (is_defaults && self->config->topic_count > 3) {
            snprintf (self->error, 512, "topic/defaults must stand before the topics");
            return -1;
        }
        ef_config_topic_t *topic =
            is_defaults ? &self->config->defaults : s_topic_require (self->config, name);
        if (s_load_topic (self, topic, node)) {
            return -1;
        }
        if (is_defaults) {
            for (uint32_t i = 0; i < self->config->topic_count; i++) {
                char kept[EF_TOPIC_NAME_BYTES];
                memcpy (kept, self->config->topics[i].topic.name, sizeof kept);
                self->config->topics[i] = self->config->defaults;
                memcpy (self->config->topics[i].topic.name, kept, sizeof kept);
            }
        }
    }
    return 0;
}

static int
s_load_root (load_t *self, zconfig_t *root) {
    for (zconfig_t *section = s_step (self, zconfig_child (root)); section;
         section = s_step (self, zconfig_next (section))) {
        if (strcmp (zconfig_name (section), "topic") == 0) {
            if (s_load_topics (self, section)) {
                return -1;
            }
        } else if (strcmp (zconfig_name (section), "server") == 0) {
            for (zconfig_t *node = s_step (self, zconfig_child (section)); node;
                 node = s_step (self, zconfig_next (node))) {
                if (s_load_setting (s_server, COUNT (s_server), self->config, node, self->error)) {
                    return -1;
                }
            }
        } else {
            snprintf (self->error, 512, "unknown section %.60s: expected server or topic",
                      zconfig_name (section));
            return -1;
        }
    }
    return 0;
}

int
ef_config_load (ef_config_t *self, const char *path, char error[512]) {
    char text[512] = "";
    load_t load = {.config = self, .path = path, .error = text};
    if (s_read_lines (path, &load.lines)) {
        snprintf (error, 512, "%.200s: can't be read: %s", path, strerror (errno));
        return -1;
    }
    zconfig_t *root = zconfig_load (path);
    if (root == NULL) {
        free (load.lines.numbers);
        snprintf (error, 512,
                  "%.200s: isn't ZPL: expected \"name = value\" lines, nested by 4 spaces", path);
        return -1;
    }
    int rc = s_load_root (&load, root);
    if (rc) {
        snprintf (error, 512, "%.150s:%d: %.300s", path, load.line, text);
    }
    zconfig_destroy (&root);
    free (load.lines.numbers);
    return rc;
}

int
ef_config_set (ef_config_t *self, const char *key, const char *value, char error[512]) {
    const setting_t *setting = s_find (s_server, COUNT (s_server), key);
    if (setting == NULL) {
        s_unknown (s_server, COUNT (s_server), key, error);
        return -1;
    }
    return s_set (setting, self, value, error);
}

static int
s_environment_of (const char *prefix, const setting_t *table, size_t count, void *base,
                  char error[512]) {
    for (size_t i = 0; i < count; i++) {
        char name[128];
        char text[512];
        snprintf (name, sizeof name, "EVENTFLOW_%s_%s", prefix, table[i].name);
        for (char *at = name; *at; at++) {
            *at = *at >= 'a' && *at <= 'z'   ? (char)(*at - 32)
                  : *at == '-' || *at == '.' ? '_'
                                             : *at;
        }
        const char *value = getenv (name);
        if (value && s_set (&table[i], base, value, text)) {
            snprintf (error, 512, "environment %.100s: %.350s", name, text);
            return -1;
        }
    }
    return 0;
}

int
ef_config_environment (ef_config_t *self, char error[512]) {
    int rc = s_environment_of ("SERVER", s_server, COUNT (s_server), self, error);
    for (uint32_t i = 0; rc == 0 && i < self->topic_count; i++) {
        char prefix[80];
        snprintf (prefix, sizeof prefix, "TOPIC_%s", self->topics[i].topic.name);
        rc = s_environment_of (prefix, s_topic, COUNT (s_topic), &self->topics[i], error);
        snprintf (prefix, sizeof prefix, "POOL_%s", self->topics[i].topic.name);
        rc = rc ? rc : s_environment_of (prefix, s_pool, COUNT (s_pool), &self->topics[i], error);
    }
    return rc;
}

static bool
s_is_local (const char *endpoint) {
    return strncmp (endpoint, "tcp://127.", 10) == 0 ||
           strncmp (endpoint, "tcp://[::1]:", 12) == 0 ||
           strncmp (endpoint, "tcp://localhost:", 16) == 0 || strncmp (endpoint, "ipc://", 6) == 0;
}

int
ef_config_check (const ef_config_t *self, char error[512]) {
    const char *const endpoints[] = {self->ingress, self->front, self->back, self->admin,
                                     self->stats};
    for (size_t i = 0; i < COUNT (endpoints); i++) {
        if (!s_is_local (endpoints[i]) && !self->insecure) {
            snprintf (
                error, 512,
                "%.200s isn't a loopback address: expected tcp://127.0.0.1:PORT or ipc://PATH, or "
                "--insecure where the network is trusted",
                endpoints[i]);
            return -1;
        }
    }
    if (self->max_event > self->max_message) {
        snprintf (error, 512,
                  "max_event is larger than max_message: expected an event to fit a message");
        return -1;
    }
    for (uint32_t i = 0; i < self->topic_count; i++) {
        const ef_config_topic_t *topic = &self->topics[i];
        if (topic->pool.command[0] && topic->pool.min > topic->pool.max) {
            snprintf (error, 512, "topic/%s/pool: expected min at or below max", topic->topic.name);
            return -1;
        }
    }
    return 0;
}

void
ef_config_init (ef_config_t *self) {
    static const char *const names[] = {"api", "db", "email"};
    memset (self, 0, sizeof *self);
    strcpy (self->name, "eventflow");
    strcpy (self->data, "eventflow-data");
    strcpy (self->ingress, "tcp://127.0.0.1:5550");
    strcpy (self->front, "tcp://127.0.0.1:5551");
    strcpy (self->back, "tcp://127.0.0.1:5552");
    strcpy (self->admin, "tcp://127.0.0.1:5553");
    strcpy (self->stats, "tcp://127.0.0.1:5554");
    strcpy (self->durability, "sync");
    self->log_level = EF_LOG_INFO;
    self->max_event = EF_EVENT_MAX;
    self->max_message = EF_MESSAGE_MAX;
    self->segment_bytes = 64u << 20;
    self->cache_bytes = 32u << 20;
    self->heartbeat_ms = EF_HEARTBEAT_MS;
    self->defaults = (ef_config_topic_t){
        .topic = {.overflow_rate = 100,
                  .lease_ms = 30000,
                  .stall_ms = 1000,
                  .retry = {.base_ms = 1000,
                            .cap_ms = 300000,
                            .factor = 2.0,
                            .jitter = 1.0,
                            .attempts = 5},
                  .lease_total_ms = 24 * 3600000,
                  .dedupe_ms = 600000,
                  .dedupe_count = 1000000,
                  .weight = 1,
                  .burst = 1,
                  .quota = {.window_ms = 86400000},
                  .breaker = {.calls = 10,
                              .window_ms = 60000,
                              .cooldown_ms = 5000,
                              .cooldown_cap_ms = 300000,
                              .probes = 1},
                  .retry_capacity = 65536,
                  .scheduled_capacity = 1000000,
                  .insert_attempts = 5,
                  .insert_base_ms = 500,
                  .insert_cap_ms = 30000,
                  .insert_capacity = 10000},
        .pool = {.min = 0, .max = 4, .credit = 5, .idle_ms = 30000, .cooldown_ms = 1000},
    };
    for (size_t i = 0; i < COUNT (names); i++) {
        (void)s_topic_require (self, names[i]); /* it is there now, with the defaults */
    }
}

void
ef_config_free (ef_config_t *self) {
    free (self->topics);
    self->topics = NULL;
    self->topic_count = 0;
}
