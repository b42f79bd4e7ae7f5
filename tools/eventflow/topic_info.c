/* eventflow topic info, keys, breaker: a topic's settings and what its gates do.
   SPDX-License-Identifier: MIT */
#include "topic.h"

static int
s_ask (cli_t *cli, const char *name, ef_buf_t *value) {
    ef_buf_t request = {0};
    cli_request (&request, "TOPIC.INFO", name, 0);
    int rc = cli_call_about (cli, name, &request, value);
    ef_buf_free (&request);
    return rc;
}

static const char *const s_breaker_columns[] = {"DOWNSTREAM", "STATE",   "BY",       ">CALLS",
                                                ">FAILED",    ">OPENED", ">WAITING", "UNTIL"};

typedef struct {
    cli_table_t table;
    bool json;
    const char *downstream; /* that one only; NULL: all */
    unsigned count;
} breakers_t;

static void
s_breaker_row (void *arg, ef_cursor_t item) {
    breakers_t *self = arg;
    cli_table_t *table = &self->table;
    char downstream[256];
    char state[24];
    ef_map_text (item, "downstream", downstream, sizeof downstream);
    ef_map_text (item, "state", state, sizeof state);
    if (self->downstream && strcmp (self->downstream, downstream) != 0) {
        return;
    }
    self->count++;
    if (self->json) {
        cli_json_item (NULL, item);
        return;
    }
    cli_cell (table, downstream[0] ? downstream : "(the topic)");
    cli_cell (table, state);
    cli_cell (table, ef_map_bool (item, "forced") ? "hand" : "auto");
    cli_cell_number (table, ef_map_uint (item, "calls"));
    cli_cell_number (table, ef_map_uint (item, "failures"));
    cli_cell_number (table, ef_map_uint (item, "opened"));
    cli_cell_number (table, ef_map_uint (item, "waiting"));
    cli_cell_date (table, ef_map_uint (item, "until"));
}

int
topic_info (topic_t *self) {
    static const char *const parts[] = {"settings", "stats", "quota", "keys", "dedupe"};
    ef_buf_t value = {0};
    int rc = s_ask (self->cli, self->name, &value);
    if (rc == CLI_OK && self->cli->json) {
        cli_print_json (&value);
    } else if (rc == CLI_OK) {
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
            ef_cursor_t map;
            if (ef_map_find (cli_root (&value), parts[i], &map) && ef_peek (&map) == EF_TYPE_MAP) {
                printf ("%s\n", parts[i]);
                cli_print_pairs (map, "    ");
            }
        }
        ef_cursor_t breakers;
        uint32_t count = 0;
        if (ef_map_find (cli_root (&value), "breakers", &breakers) &&
            ef_get_array (&breakers, &count) == 0 && count > 0) {
            breakers_t rows = {.table = CLI_TABLE (s_breaker_columns, "    ")};
            printf ("breakers\n");
            (void)cli_each (cli_root (&value), "breakers", s_breaker_row, &rows); /* counted */
            cli_table_end (&rows.table, true);
        }
    }
    ef_buf_free (&value);
    return rc;
}

/* One setting as a line; `section` (64 bytes) is the part that the last one stood in. */
static void
s_print_setting (ef_span_t key, ef_cursor_t value, char *section) {
    char text[2048];
    char own[64] = "";
    const char *mark = memchr (key.data, '/', key.size);
    if (mark) {
        uint32_t size = (uint32_t)(mark - key.data);
        ef_span_copy ((ef_span_t){key.data, size}, own, sizeof own);
        key = (ef_span_t){mark + 1, key.size - size - 1};
    }
    if (own[0] && strcmp (own, section) != 0) {
        printf ("%8s%s\n", "", own);
    }
    memcpy (section, own, sizeof own);
    bool is_text = ef_peek (&value) == EF_TYPE_STR;
    cli_value_text (value, text, sizeof text);
    /* Words stand as they are; the rest is quoted, as the file's form wants it. */
    bool is_plain = !is_text || (text[0] && text[strcspn (text, " \"'#,;:*?/=")] == 0);
    printf ("%*s%.*s = %s%s%s\n", own[0] ? 12 : 8, "", (int)key.size, key.data,
            is_plain ? "" : "\"", text, is_plain ? "" : "\"");
}

int
topic_print_settings (cli_t *cli, const char *name, const char *head) {
    ef_buf_t value = {0};
    ef_cursor_t map;
    uint32_t pairs = 0;
    char section[64] = "";
    int rc = s_ask (cli, name, &value);
    if (rc == CLI_OK) {
        printf ("%s    %s\n", head, name);
    }
    if (rc == CLI_OK && ef_map_find (cli_root (&value), "settings", &map) &&
        ef_get_map (&map, &pairs) == 0) {
        for (uint32_t i = 0; i < pairs; i++) {
            ef_span_t key;
            if (ef_get_str (&map, &key)) {
                break;
            }
            s_print_setting (key, map, section);
            if (ef_skip (&map)) {
                break;
            }
        }
    }
    ef_buf_free (&value);
    return rc;
}

typedef struct {
    const topic_t *topic;
    cli_table_t table;
} keys_t;

static void
s_key_row (void *arg, ef_cursor_t item) {
    keys_t *self = arg;
    char key[256] = "";
    char state[24];
    char reason[200];
    ef_cursor_t value;
    ef_map_text (item, "state", state, sizeof state);
    if (self->topic->state && strcmp (self->topic->state, state) != 0) {
        return;
    }
    if (self->topic->cli->json) {
        cli_json_item (NULL, item);
        return;
    }
    if (ef_map_find (item, "key", &value)) {
        cli_value_text (value, key, sizeof key);
    }
    ef_map_text (item, "reason", reason, sizeof reason);
    cli_cell (&self->table, key[0] ? key : "(the topic)");
    cli_cell_number (&self->table, ef_map_uint (item, "n"));
    cli_cell (&self->table, state);
    cli_cell (&self->table, reason);
    cli_cell_number (&self->table, ef_map_uint (item, "waiting"));
    cli_cell_date (&self->table, ef_map_uint (item, "since"));
}

int
topic_keys (topic_t *self) {
    static const char *const titles[] = {"KEY", ">HEAD", "STATE", "REASON", ">WAITING", "SINCE"};
    keys_t keys = {.topic = self, .table = CLI_TABLE (titles, "")};
    cli_pages_t pages = {.command = "TOPIC.KEYS",
                         .topic = self->name,
                         .limit = 100,
                         .after = self->after,
                         .each = s_key_row,
                         .arg = &keys};
    if (self->limit && cli_count ("--limit", self->limit, &pages.limit)) {
        return CLI_USAGE;
    }
    int rc = cli_pages (self->cli, &pages);
    cli_table_end (&keys.table, rc == CLI_OK && !self->cli->json);
    return rc;
}

/* Those that the topic has: all, or the one of a downstream. */
static int
s_show_breakers (topic_t *self, const char *downstream) {
    ef_buf_t value = {0};
    breakers_t rows = {.table = CLI_TABLE (s_breaker_columns, ""),
                       .json = self->cli->json,
                       .downstream = downstream};
    int rc = s_ask (self->cli, self->name, &value);
    if (rc == CLI_OK) {
        (void)cli_each (cli_root (&value), "breakers", s_breaker_row, &rows); /* none is fine */
    }
    if (rc == CLI_OK && downstream && rows.count == 0) {
        rc = cli_fail (CLI_NOT_FOUND, "%s has no breaker of %s (yet)", self->name, downstream);
    }
    cli_table_end (&rows.table, rc == CLI_OK && !self->cli->json);
    ef_buf_free (&value);
    return rc;
}

static int
s_set_breaker (topic_t *self, const char *downstream, const char *state) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    cli_request (&request, "BREAKER.SET", self->name, 2);
    ef_put_str (&request, downstream);
    ef_put_str (&request, state);
    int rc = cli_call (self->cli, &request, &value);
    if (rc == CLI_OK) {
        breakers_t rows = {.table = CLI_TABLE (s_breaker_columns, ""), .json = self->cli->json};
        s_breaker_row (&rows, cli_root (&value));
        cli_table_end (&rows.table, false);
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

int
topic_breaker (topic_t *self) {
    static const char states[] = "open closed auto";
    int words = self->cli->argc - 2;
    const char *first = words > 0 ? self->cli->argv[2] : NULL;
    const char *state = words > 0 ? self->cli->argv[self->cli->argc - 1] : NULL;
    if (state && cli_is_among (state, states)) {
        return s_set_breaker (self, words > 1 ? first : NULL, state);
    }
    /* One word may be a downstream; one that nearly is a state is a slip. */
    if (words > 1 || (first && cli_is_near (first, states))) {
        return cli_unknown ("state of a breaker", state, states);
    }
    return s_show_breakers (self, first);
}
