/* eventflow pool: how many workers topics have and should have, and why.
   SPDX-License-Identifier: MIT */
#include "cli.h"

#define NAMES_MAX 4096

typedef struct {
    cli_t *cli;
    const char *name; /* NULL: all */
    cli_table_t table;
    ef_buf_t names; /* of topics, each with its nul */
    uint32_t count;
    bool is_found;
} pool_t;

/* What keeps it from growing, else what it did last. */
static void
s_why (ef_cursor_t item, char text[96]) {
    char limit[40];
    char hold[40];
    ef_map_text (item, "limit", limit, sizeof limit);
    ef_map_text (item, "hold", hold, sizeof hold);
    ef_map_text (item, "reason", text, 96);
    if (limit[0]) {
        bool is_held = strcmp (limit, "hold") == 0;
        snprintf (text, 96, "%s: %s", is_held ? "held" : "limit", is_held ? hold : limit);
    }
}

static void
s_row (void *arg, ef_cursor_t item) {
    static const char *const numbers[] = {"desired", "running", "starting", "leaving", "others"};
    pool_t *self = arg;
    char name[72];
    char text[96];
    char span[24] = "";
    ef_map_text (item, "topic", name, 64);
    if (name[0] == '$') {
        return;
    }
    cli_cell (&self->table, name);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        cli_cell_number (&self->table, ef_map_uint (item, numbers[i]));
    }
    snprintf (text, sizeof text, "%llu to %llu", (unsigned long long)ef_map_uint (item, "min"),
              (unsigned long long)ef_map_uint (item, "max"));
    cli_cell (&self->table, text);
    cli_cell_number (&self->table, ef_map_uint (item, "backlog"));
    if (ef_map_uint (item, "oldest_ms")) {
        cli_span (ef_map_uint (item, "oldest_ms"), span);
    }
    cli_cell (&self->table, span);
    s_why (item, text);
    cli_cell (&self->table, text);
}

static int
s_ask (pool_t *self, ef_buf_t *value) {
    ef_buf_t request = {0};
    cli_request (&request, "POOLS", NULL, 0);
    int rc = cli_call (self->cli, &request, value);
    ef_buf_free (&request);
    return rc;
}

static int
s_list (pool_t *self) {
    static const char *const titles[] = {"POOL",    ">WANTED", ">RUNNING", ">STARTING", ">LEAVING",
                                         ">OTHERS", "BOUNDS",  ">READY",   ">OLDEST",   "WHY"};
    ef_buf_t value = {0};
    self->table = (cli_table_t)CLI_TABLE (titles, "");
    int rc = s_ask (self, &value);
    if (rc == CLI_OK) {
        (void)cli_each (cli_root (&value), "items", self->cli->json ? cli_json_item : s_row, self);
    }
    cli_table_end (&self->table, rc == CLI_OK && !self->cli->json);
    ef_buf_free (&value);
    return rc;
}

static void
s_show (void *arg, ef_cursor_t item) {
    pool_t *self = arg;
    char name[72];
    ef_map_text (item, "topic", name, 64);
    if (strcmp (name, self->name) == 0) {
        self->is_found = true;
        if (self->cli->json) {
            cli_json_item (NULL, item);
        } else {
            cli_print_pairs (item, "");
        }
    }
}

static int
s_info (pool_t *self) {
    ef_buf_t value = {0};
    int rc = s_ask (self, &value);
    if (rc == CLI_OK) {
        (void)cli_each (cli_root (&value), "items", s_show, self); /* none is told below */
        rc = self->is_found ? CLI_OK : cli_fail (CLI_NOT_FOUND, "no topic %s", self->name);
    }
    ef_buf_free (&value);
    return rc;
}

static void
s_decision (void *arg, ef_cursor_t item) {
    pool_t *self = arg;
    char name[72];
    char text[400];
    if (self->cli->json) {
        cli_json_item (NULL, item);
        return;
    }
    ef_map_text (item, "topic", name, 64);
    cli_cell_date (&self->table, ef_map_uint (item, "time"));
    cli_cell (&self->table, name);
    cli_cell_number (&self->table, ef_map_uint (item, "from"));
    cli_cell_number (&self->table, ef_map_uint (item, "to"));
    ef_map_text (item, "text", text, sizeof text);
    cli_cell (&self->table, text);
}

static int
s_history_of (pool_t *self, const char *name) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    cli_request (&request, "POOL.HISTORY", name, 0);
    int rc = cli_call_about (self->cli, name, &request, &value);
    if (rc == CLI_OK) {
        (void)cli_each (cli_root (&value), "items", s_decision, self); /* none is fine */
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

static void
s_name (void *arg, ef_cursor_t item) {
    pool_t *self = arg;
    char name[72];
    ef_map_text (item, "topic", name, 64);
    if (ef_map_uint (item, "changed") && self->count < NAMES_MAX) {
        ef_buf_put (&self->names, name, strlen (name) + 1);
        self->count++;
    }
}

/* Since the broker's start; of all topics one after the other. */
static int
s_history (pool_t *self) {
    static const char *const titles[] = {"TIME", "POOL", ">FROM", ">TO", "WHY"};
    ef_buf_t value = {0};
    self->table = (cli_table_t)CLI_TABLE (titles, "");
    int rc = self->name ? s_history_of (self, self->name) : s_ask (self, &value);
    if (rc == CLI_OK && self->name == NULL) {
        (void)cli_each (cli_root (&value), "items", s_name, self); /* none is fine */
        const char *at = (const char *)self->names.data;
        for (uint32_t i = 0; i < self->count && rc == CLI_OK; i++, at += strlen (at) + 1) {
            rc = s_history_of (self, at);
        }
    }
    cli_table_end (&self->table, rc == CLI_OK && !self->cli->json);
    ef_buf_free (&value);
    ef_buf_free (&self->names);
    return rc;
}

/* scale, min, max: a number, or auto. */
static int
s_set (pool_t *self, const char *key) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    const char *word = self->cli->argv[2];
    bool is_auto = strcmp (word, "auto") == 0;
    uint64_t number = 0;
    if (!is_auto && cli_count (key, word, &number)) {
        return CLI_USAGE;
    }
    cli_request (&request, "POOL.SET", self->name, 1);
    ef_put_map (&request, 1);
    ef_put_str (&request, key);
    if (is_auto) {
        ef_put_nil (&request);
    } else {
        ef_put_uint (&request, number);
    }
    int rc = cli_call_about (self->cli, self->name, &request, &value);
    if (rc == CLI_OK && self->cli->json) {
        cli_print_json (&value);
    } else if (rc == CLI_OK) {
        fprintf (stderr, "%s %s: %s\n", self->name, key, is_auto ? "as configured" : word);
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

static int
s_scale (pool_t *self) {
    return s_set (self, "scale");
}

static int
s_min (pool_t *self) {
    return s_set (self, "min");
}

static int
s_max (pool_t *self) {
    return s_set (self, "max");
}

static const struct {
    const char *name;
    int words; /* behind the verb, at least */
    int (*run) (pool_t *self);
} s_verbs[] = {
    {"ls", 0, s_list},     {"list", 0, s_list}, {"info", 1, s_info}, {"history", 0, s_history},
    {"scale", 2, s_scale}, {"min", 2, s_min},   {"max", 2, s_max},
};

int
cli_pool (cli_t *cli) {
    pool_t self = {.cli = cli};
    int rc = cli_flags (cli, NULL, 0);
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";
    self.name = cli->argc > 1 ? cli->argv[1] : NULL;
    if (rc) {
        return rc;
    }
    for (size_t i = 0; i < sizeof s_verbs / sizeof s_verbs[0]; i++) {
        if (strcmp (verb, s_verbs[i].name) == 0) {
            return cli->argc > s_verbs[i].words
                       ? s_verbs[i].run (&self)
                       : cli_fail (CLI_USAGE, "pool %s: expected %s", verb,
                                   s_verbs[i].words > 1 ? "a topic and a number, or auto"
                                                        : "a topic");
        }
    }
    return cli_unknown ("verb of pool", verb, "ls info history scale min max");
}
