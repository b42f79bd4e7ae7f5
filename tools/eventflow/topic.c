/* eventflow topic. SPDX-License-Identifier: MIT */
#include "topic.h"

static void
s_list_row (void *arg, ef_cursor_t item) {
    static const char *const numbers[] = {"ready",  "leased", "scheduled", "retrying",
                                          "parked", "done",   "dead",      "workers"};
    cli_table_t *table = arg;
    char name[72];
    ef_map_text (item, "topic", name, 64);
    cli_cell (table, name);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        cli_cell_number (table, ef_map_uint (item, numbers[i]));
    }
    cli_cell (table, ef_map_bool (item, "draining") ? "draining"
                     : ef_map_bool (item, "paused") ? "paused"
                                                    : "open");
}

static int
s_list (topic_t *self) {
    static const char *const titles[] = {"TOPIC",   ">READY", ">LEASED", ">SCHED",   ">RETRY",
                                         ">PARKED", ">DONE",  ">DEAD",   ">WORKERS", "GATE"};
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    cli_table_t table = CLI_TABLE (titles, "");
    cli_request (&request, "TOPICS", NULL, 0);
    int rc = cli_call (self->cli, &request, &value);
    if (rc == CLI_OK) {
        (void)cli_each (cli_root (&value), "items", self->cli->json ? cli_json_item : s_list_row,
                        &table); /* none is fine */
    }
    cli_table_end (&table, rc == CLI_OK && !self->cli->json);
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

static int
s_pause (topic_t *self) {
    return cli_simple (self->cli, "PAUSE", self->name,
                       "paused: publishing goes on, nothing is handed out");
}

static int
s_resume (topic_t *self) {
    return cli_simple (self->cli, "RESUME", self->name, "resumed");
}

static int
s_drain (topic_t *self) {
    return cli_simple (self->cli, "DRAIN", self->name,
                       "drains: what it holds is processed, nothing new taken");
}

/* Prints how many events a command moved: the number at `key`. */
static int
s_counted (topic_t *self, const ef_buf_t *request, const char *key) {
    ef_buf_t value = {0};
    int rc = cli_call (self->cli, request, &value);
    if (rc == CLI_OK && self->cli->json) {
        cli_print_json (&value);
    } else if (rc == CLI_OK) {
        uint64_t count = ef_map_uint (cli_root (&value), key);
        fprintf (stderr, "%s %llu event%s of %s\n", key, (unsigned long long)count, cli_s (count),
                 self->name);
    }
    ef_buf_free (&value);
    return rc;
}

static int
s_purge (topic_t *self) {
    ef_buf_t request = {0};
    if (self->cli->dry_run) {
        fprintf (stderr, "would purge all that waits in %s:\n", self->name);
        return topic_info (self);
    }
    if (!self->cli->yes) {
        return cli_fail (CLI_USAGE, "purge throws events away: say --yes, or --dry-run to look");
    }
    cli_request (&request, "PURGE", self->name, 0);
    int rc = s_counted (self, &request, "purged");
    ef_buf_free (&request);
    return rc;
}

static int
s_unpark (topic_t *self) {
    ef_buf_t request = {0};
    if (self->cli->dry_run) {
        self->state = "parked";
        fprintf (stderr, "would let go on:\n");
        return topic_keys (self);
    }
    cli_request (&request, "TOPIC.UNPARK", self->name, 1);
    ef_put_str (&request, self->cli->argc > 2 ? self->cli->argv[2] : NULL);
    int rc = s_counted (self, &request, "unparked");
    ef_buf_free (&request);
    return rc;
}

static int
s_number (topic_t *self, const char *command, const char *number) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    uint64_t count;
    if (cli_count (command, number, &count)) {
        return CLI_USAGE;
    }
    cli_request (&request, command, self->name, 1);
    ef_put_uint (&request, count);
    int rc = cli_call (self->cli, &request, &value);
    if (rc == CLI_OK && cli_each (cli_root (&value), "items", cli_json_item, NULL) == 0 &&
        self->cli->json) {
        cli_print_json (&value);
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

static int
s_peek (topic_t *self) {
    return s_number (self, "PEEK", self->limit ? self->limit : "10");
}

static int
s_scale (topic_t *self) {
    return s_number (self, "SCALE", self->cli->argv[2]);
}

static const struct {
    const char *name;
    int words; /* behind the verb, at least */
    int (*run) (topic_t *self);
} s_verbs[] = {
    {"ls", 0, s_list},       {"list", 0, s_list},     {"info", 1, topic_info},
    {"keys", 1, topic_keys}, {"unpark", 1, s_unpark}, {"breaker", 1, topic_breaker},
    {"pause", 1, s_pause},   {"resume", 1, s_resume}, {"drain", 1, s_drain},
    {"peek", 1, s_peek},     {"purge", 1, s_purge},   {"scale", 2, s_scale},
};

int
cli_topic (cli_t *cli) {
    topic_t self = {.cli = cli};
    const cli_flag_t flags[] = {{"limit", &self.limit, NULL}, {"after", &self.after, NULL}};
    int rc = cli_flags (cli, flags, 2);
    uint64_t limit;
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";
    self.name = cli->argc > 1 ? cli->argv[1] : NULL;
    if (rc || (self.limit && cli_count ("--limit", self.limit, &limit))) {
        return CLI_USAGE;
    }
    for (size_t i = 0; i < sizeof s_verbs / sizeof s_verbs[0]; i++) {
        if (strcmp (verb, s_verbs[i].name) == 0) {
            return cli->argc > s_verbs[i].words
                       ? s_verbs[i].run (&self)
                       : cli_fail (CLI_USAGE, "topic %s: expected %s", verb,
                                   s_verbs[i].words > 1 ? "a topic and a number" : "a topic");
        }
    }
    return cli_unknown ("verb of topic", verb,
                        "ls info keys unpark breaker pause resume drain peek purge scale");
}
