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

static void
s_breaker_row (void *arg, ef_cursor_t item) {
    const char *indent = arg;
    char downstream[256];
    char state[24];
    char until[64] = "-";
    cli_text (item, "downstream", downstream, sizeof downstream);
    cli_text (item, "state", state, sizeof state);
    if (cli_number (item, "until")) {
        cli_date (cli_number (item, "until"), until);
    }
    printf ("%s%-30s %-9s %-6s %8llu %8llu %6llu %8llu %s\n", indent,
            downstream[0] ? downstream : "(the topic)", state,
            cli_is (item, "forced") ? "hand" : "auto",
            (unsigned long long)cli_number (item, "calls"),
            (unsigned long long)cli_number (item, "failures"),
            (unsigned long long)cli_number (item, "opened"),
            (unsigned long long)cli_number (item, "waiting"), until);
}

static void
s_breaker_head (const char *indent) {
    printf ("%s%-30s %-9s %-6s %8s %8s %6s %8s %s\n", indent, "DOWNSTREAM", "STATE", "BY", "CALLS",
            "FAILURES", "OPENED", "WAITING", "UNTIL");
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
            if (cli_find (cli_root (&value), parts[i], &map) && ef_peek (&map) == EF_TYPE_MAP) {
                printf ("%s\n", parts[i]);
                cli_print_pairs (map, "    ");
            }
        }
        ef_cursor_t breakers;
        uint32_t count = 0;
        if (cli_find (cli_root (&value), "breakers", &breakers) &&
            ef_get_array (&breakers, &count) == 0 && count > 0) {
            printf ("breakers\n");
            s_breaker_head ("    ");
            (void)cli_each (cli_root (&value), "breakers", s_breaker_row, "    "); /* counted */
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
    if (rc == CLI_OK && cli_find (cli_root (&value), "settings", &map) &&
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

static void
s_key_row (void *arg, ef_cursor_t item) {
    const topic_t *self = arg;
    char key[256] = "";
    char state[24];
    char since[64] = "-";
    char reason[200];
    ef_cursor_t value;
    cli_text (item, "state", state, sizeof state);
    if (self->state && strcmp (self->state, state) != 0) {
        return;
    }
    if (self->cli->json) {
        cli_json_item (NULL, item);
        return;
    }
    if (cli_find (item, "key", &value)) {
        cli_value_text (value, key, sizeof key);
    }
    if (cli_number (item, "since")) {
        cli_date (cli_number (item, "since"), since);
    }
    cli_text (item, "reason", reason, sizeof reason);
    printf ("%-30s %12llu %-10s %8llu %-34s %s\n", key, (unsigned long long)cli_number (item, "n"),
            state, (unsigned long long)cli_number (item, "waiting"), since, reason);
}

int
topic_keys (topic_t *self) {
    cli_pages_t pages = {.command = "TOPIC.KEYS",
                         .topic = self->name,
                         .limit = 100,
                         .after = self->after,
                         .each = s_key_row,
                         .arg = self};
    if (self->limit && cli_count ("--limit", self->limit, &pages.limit)) {
        return CLI_USAGE;
    }
    if (!self->cli->json) {
        printf ("%-30s %12s %-10s %8s %-34s %s\n", "KEY", "HEAD", "STATE", "WAITING", "SINCE",
                "REASON");
    }
    return cli_pages (self->cli, &pages);
}

int
topic_breaker (topic_t *self) {
    int words = self->cli->argc - 2;
    const char *state = words > 0 ? self->cli->argv[self->cli->argc - 1] : NULL;
    bool is_set = state && (strcmp (state, "open") == 0 || strcmp (state, "closed") == 0 ||
                            strcmp (state, "auto") == 0);
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    int rc;
    if (state && !is_set) {
        return cli_unknown ("state of a breaker", state, "open closed auto");
    }
    if (!state) {
        rc = s_ask (self->cli, self->name, &value);
        if (rc == CLI_OK && !self->cli->json) {
            s_breaker_head ("");
        }
        if (rc == CLI_OK) {
            (void)cli_each (cli_root (&value), "breakers",
                            self->cli->json ? cli_json_item : s_breaker_row, ""); /* none is fine */
        }
    } else {
        cli_request (&request, "BREAKER.SET", self->name, 2);
        ef_put_str (&request, words > 1 ? self->cli->argv[2] : NULL);
        ef_put_str (&request, state);
        rc = cli_call (self->cli, &request, &value);
        if (rc == CLI_OK && self->cli->json) {
            cli_print_json (&value);
        } else if (rc == CLI_OK) {
            s_breaker_head ("");
            s_breaker_row ("", cli_root (&value));
        }
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}
