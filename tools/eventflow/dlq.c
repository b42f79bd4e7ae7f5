/* eventflow dlq. SPDX-License-Identifier: MIT */
#include "cli.h"

#include <stdlib.h>

typedef struct {
    cli_t *cli;
    const char *verb;
    const char *topic;
    const char *reason;
    const char *limit;
    const char *after;
    const char *rate;
    bool is_all;
} dlq_t;

/* The filter that the flags and words describe. `words`: the first of the numbers. */
static void
s_put_filter (const dlq_t *self, int words, ef_buf_t *out) {
    uint32_t pairs = 0;
    size_t mark = ef_put_open (out);
    if (words < self->cli->argc) {
        ef_put_str (out, "n");
        ef_put_array (out, (uint32_t)(self->cli->argc - words));
        for (int i = words; i < self->cli->argc; i++) {
            ef_put_uint (out, strtoull (self->cli->argv[i], NULL, 10));
        }
        pairs++;
    }
    if (self->reason) {
        ef_put_key_str (out, "reason", self->reason);
        pairs++;
    }
    if (self->is_all) {
        ef_put_key_bool (out, "all", true);
        pairs++;
    }
    if (self->limit) {
        ef_put_key_uint (out, "limit", strtoull (self->limit, NULL, 10));
        pairs++;
    }
    if (self->after) {
        ef_put_key_uint (out, "after", strtoull (self->after, NULL, 10));
        pairs++;
    }
    if (self->rate) {
        ef_put_key_uint (out, "rate", (uint64_t)cli_rate (self->rate));
        pairs++;
    }
    ef_put_close_map (out, mark, pairs);
}

/* Why it died, and what has taken its place. */
static void
s_put_state (ef_cursor_t item, const char *reason, char *text, size_t size) {
    char id[96];
    ef_cursor_t value;
    snprintf (text, size, "%s", reason);
    if (ef_map_find (item, "superseded", &value)) {
        cli_value_text (value, id, sizeof id);
        snprintf (text, size, "%s, superseded by %s", reason, id);
    }
}

static void
s_row (cli_table_t *table, ef_cursor_t item) {
    char id[96] = "";
    char reason[16];
    char state[140];
    char words[80] = "";
    ef_cursor_t error;
    ef_cursor_t value;
    uint32_t fields;
    ef_span_t text;
    if (ef_map_find (item, "id", &value)) {
        cli_value_text (value, id, sizeof id);
    }
    ef_map_text (item, "reason", reason, sizeof reason);
    if (ef_map_find (item, "error", &error) && ef_get_array (&error, &fields) == 0) {
        ef_buf_t code = {0};
        if (ef_json_print (&code, &error) == 0 && ef_get_str (&error, &text) == 0) {
            snprintf (words, sizeof words, "%.*s %.*s", (int)code.size, (const char *)code.data,
                      (int)text.size, text.data);
        }
        ef_buf_free (&code);
    }
    cli_cell_number (table, ef_map_uint (item, "n"));
    cli_cell (table, id);
    s_put_state (item, reason, state, sizeof state);
    cli_cell (table, state);
    cli_cell_number (table, ef_map_uint (item, "attempts"));
    cli_cell_age (table, ef_map_uint (item, "dead"));
    cli_cell (table, words);
}

static void
s_print_list (const dlq_t *self, const ef_buf_t *value) {
    static const char *const titles[] = {">N", "ID", "REASON", ">ATTEMPTS", "DIED", "LAST ERROR"};
    cli_table_t table = CLI_TABLE (titles, "");
    ef_cursor_t root = ef_cursor (value->data, value->size);
    ef_cursor_t items;
    uint32_t count;
    if (!ef_map_find (root, "items", &items) || ef_get_array (&items, &count)) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (self->cli->json) {
            cli_print_span ((ef_span_t){(const char *)items.at, (uint32_t)ef_cursor_left (&items)});
        } else {
            s_row (&table, items);
        }
        if (ef_skip (&items)) {
            break;
        }
    }
    cli_table_end (&table, !self->cli->json);
    fprintf (stderr, "%u of %llu dead letters of %s\n", count,
             (unsigned long long)ef_map_uint (root, "total"), self->topic);
}

/* A letter in the event's JSON form, with what the dead-letter journal adds. */
static int
s_print_letter (const ef_buf_t *value) {
    ef_cursor_t root = ef_cursor (value->data, value->size);
    ef_cursor_t bytes;
    ef_cursor_t errors;
    ef_event_t event;
    const char *why;
    ef_buf_t line = {0};
    char reason[16];
    char date[25];
    ef_map_text (root, "reason", reason, sizeof reason);
    ef_rfc3339 (ef_map_uint (root, "dead"), date);
    if (!ef_map_find (root, "event", &bytes) ||
        ef_event_read (&bytes, &event, &why) == EF_BAD_FRAME ||
        !ef_map_find (root, "errors", &errors)) {
        return cli_fail (CLI_FAILED, "the letter can't be read");
    }
    const uint8_t *start = errors.at;
    if (ef_skip (&errors)) {
        return cli_fail (CLI_FAILED, "the letter can't be read");
    }
    ef_json_extra_t extra = {
        .accepted_ms = ef_map_uint (root, "accepted"),
        .attempts = (uint32_t)ef_map_uint (root, "attempts"),
        .errors = {(const char *)start, (uint32_t)(errors.at - start)},
    };
    if (ef_json_event (&line, &event, &extra)) {
        ef_buf_free (&line);
        return cli_fail (CLI_FAILED, "the letter can't be read");
    }
    printf ("%.*s,\"n\":%llu,\"reason\":\"%s\",\"dead_date\":\"%s\"", (int)line.size - 1,
            (const char *)line.data, (unsigned long long)ef_map_uint (root, "n"), reason, date);
    ef_buf_clear (&line);
    if (ef_map_find (root, "superseded", &bytes) && ef_json_print (&line, &bytes) == 0) {
        printf (",\"superseded\":%.*s", (int)line.size, (const char *)line.data);
    }
    printf ("}\n");
    ef_buf_free (&line);
    return CLI_OK;
}

static int
s_call (dlq_t *self, const char *command, int words, ef_buf_t *value) {
    ef_buf_t request = {0};
    ef_put_array (&request, 3);
    ef_put_str (&request, command);
    ef_put_str (&request, self->topic);
    if (strcmp (command, "DLQ.SHOW") == 0) {
        ef_put_uint (&request, strtoull (self->cli->argv[2], NULL, 10));
    } else {
        s_put_filter (self, words, &request);
    }
    int rc = cli_call (self->cli, &request, value);
    ef_buf_free (&request);
    return rc;
}

static int
s_move (dlq_t *self, bool purge, ef_buf_t *value) {
    bool is_chosen = self->cli->argc > 2 || self->reason || self->is_all;
    if (!is_chosen) {
        return cli_fail (CLI_USAGE, "dlq %s: say which: numbers, --reason WHY, or --all",
                         self->verb);
    }
    if (self->cli->dry_run) {
        int rc = s_call (self, "DLQ.LIST", 2, value);
        if (rc == CLI_OK) {
            s_print_list (self, value);
        }
        return rc;
    }
    if (purge && !self->cli->yes) {
        return cli_fail (CLI_USAGE, "purge throws letters away: say --yes, or --dry-run to look");
    }
    int rc = s_call (self, purge ? "DLQ.PURGE" : "DLQ.REPLAY", 2, value);
    if (rc == CLI_OK && self->cli->json) {
        cli_print_json (value);
    } else if (rc == CLI_OK) {
        uint64_t count = ef_map_uint (cli_root (value), purge ? "purged" : "replayed");
        fprintf (stderr, "%llu dead letter%s of %s %s\n", (unsigned long long)count, cli_s (count),
                 self->topic, purge ? "purged" : "on the way back");
    }
    return rc;
}

int
cli_dlq (cli_t *cli) {
    dlq_t self = {.cli = cli};
    const cli_flag_t flags[] = {
        {"reason", &self.reason, NULL}, {"limit", &self.limit, NULL}, {"after", &self.after, NULL},
        {"rate", &self.rate, NULL},     {"all", NULL, &self.is_all},
    };
    int rc = cli_flags (cli, flags, sizeof flags / sizeof flags[0]);
    ef_buf_t value = {0};
    if (rc) {
        return rc;
    }
    self.verb = cli->argc > 0 ? cli->argv[0] : "";
    self.topic = cli->argc > 1 ? cli->argv[1] : NULL;
    if (self.verb[0] && !cli_is_among (self.verb, "ls list show replay purge")) {
        return cli_unknown ("verb of dlq", self.verb, "ls show replay purge");
    }
    if (self.topic == NULL) {
        return cli_fail (CLI_USAGE, "dlq: expected ls, show, replay or purge, and a topic");
    }
    uint64_t number;
    bool takes_numbers = strcmp (self.verb, "ls") != 0 && strcmp (self.verb, "list") != 0;
    for (int i = 2; takes_numbers && i < cli->argc; i++) {
        if (cli_count ("dlq", cli->argv[i], &number)) {
            return CLI_USAGE;
        }
    }
    if ((self.limit && cli_count ("--limit", self.limit, &number)) ||
        (self.after && cli_count ("--after", self.after, &number))) {
        return CLI_USAGE;
    }
    if (self.rate && cli_rate (self.rate) < 1) {
        return cli_fail (CLI_USAGE, "--rate %s: expected a rate of 1/s or more, such as 50/s",
                         self.rate);
    }
    if (strcmp (self.verb, "ls") == 0 || strcmp (self.verb, "list") == 0) {
        rc = s_call (&self, "DLQ.LIST", cli->argc, &value);
        if (rc == CLI_OK) {
            s_print_list (&self, &value);
        }
    } else if (strcmp (self.verb, "show") == 0 && cli->argc > 2) {
        rc = s_call (&self, "DLQ.SHOW", 3, &value);
        rc = rc ? rc : s_print_letter (&value);
    } else if (strcmp (self.verb, "show") == 0) {
        rc = cli_fail (CLI_USAGE, "dlq show: expected a topic and a letter's number");
    } else {
        rc = s_move (&self, self.verb[0] == 'p', &value);
    }
    ef_buf_free (&value);
    return rc;
}
