/* Asking a broker, and looking at and printing what it answers. SPDX-License-Identifier: MIT */
#include "cli.h"

#include <stdlib.h>

int
cli_call (cli_t *self, const ef_buf_t *request, ef_buf_t *value) {
    return cli_call_about (self, NULL, request, value);
}

bool
cli_is_limit (const char *code) {
    return cli_is_among (code, "FULL NO_SPACE RATE TOO_LARGE WINDOW");
}

int
cli_call_about (cli_t *self, const char *what, const ef_buf_t *request, ef_buf_t *value) {
    char code[32];
    char text[512];
    eventflow_bytes_t answer;
    eventflow_admin_t *admin = eventflow_admin_new (self->admin);
    int rc = eventflow_admin_call (admin, (eventflow_bytes_t){request->data, request->size},
                                   self->timeout_ms, &answer, code, text);
    if (rc == EVENTFLOW_OK) {
        ef_buf_put (value, answer.data, answer.size);
    }
    eventflow_admin_destroy (&admin);
    if (rc == EVENTFLOW_TIMEOUT) {
        return cli_fail (CLI_UNREACHABLE, "no broker answers at %s within %d ms",
                         self->admin ? self->admin : "the admin endpoint", self->timeout_ms);
    }
    if (rc == EVENTFLOW_REFUSED) {
        bool is_missing = strcmp (code, "NOT_FOUND") == 0 || strcmp (code, "UNKNOWN_TOPIC") == 0;
        int refused = cli_is_limit (code) ? CLI_LIMIT : CLI_REFUSED;
        return cli_fail (is_missing ? CLI_NOT_FOUND : refused, "%s%s%s: %s", what ? what : "",
                         what ? ": " : "", code, text);
    }
    return CLI_OK;
}

void
cli_request (ef_buf_t *request, const char *command, const char *topic, uint32_t more) {
    ef_put_array (request, 1u + (topic != NULL) + more);
    ef_put_str (request, command);
    if (topic) {
        ef_put_str (request, topic);
    }
}

int
cli_simple (cli_t *self, const char *command, const char *topic, const char *done) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    cli_request (&request, command, topic, 0);
    int rc = cli_call (self, &request, &value);
    if (rc == CLI_OK && self->json) {
        cli_print_json (&value);
    } else if (rc == CLI_OK) {
        fprintf (stderr, "%s%s%s\n", topic ? topic : "", topic ? " " : "", done);
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

ef_cursor_t
cli_root (const ef_buf_t *value) {
    return ef_cursor (value->data, value->size);
}

void
cli_print_span (ef_span_t span) {
    ef_buf_t line = {0};
    ef_cursor_t cursor = ef_cursor (span.data, span.size);
    if (ef_json_print (&line, &cursor) == 0) {
        printf ("%.*s\n", (int)line.size, (const char *)line.data);
    }
    ef_buf_free (&line);
}

void
cli_print_json (const ef_buf_t *value) {
    cli_print_span ((ef_span_t){(const char *)value->data, (uint32_t)value->size});
}

void
cli_value_text (ef_cursor_t value, char *text, size_t size) {
    ef_cursor_t cursor = value;
    ef_span_t span;
    if (ef_get_str (&cursor, &span) == 0) {
        ef_span_copy (span, text, size);
        return;
    }
    ef_buf_t json = {0};
    if (ef_peek (&value) == EF_TYPE_NIL || ef_json_print (&json, &value)) {
        ef_buf_clear (&json);
    }
    snprintf (text, size, "%.*s", (int)json.size, json.size ? (const char *)json.data : "");
    ef_buf_free (&json);
}

uint32_t
cli_each (ef_cursor_t map, const char *key, void (*each) (void *arg, ef_cursor_t item), void *arg) {
    ef_cursor_t items;
    uint32_t count = 0;
    if (!ef_map_find (map, key, &items) || ef_get_array (&items, &count)) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        ef_cursor_t item = items;
        if (ef_skip (&items)) {
            return i;
        }
        item.end = items.at;
        each (arg, item);
    }
    return count;
}

void
cli_json_item (void *arg, ef_cursor_t item) {
    (void)arg;
    cli_print_span ((ef_span_t){(const char *)item.at, (uint32_t)ef_cursor_left (&item)});
}

void
cli_print_pairs (ef_cursor_t map, const char *indent) {
    uint32_t pairs = 0;
    if (ef_get_map (&map, &pairs)) {
        return;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        ef_buf_t text = {0};
        if (ef_get_str (&map, &key) || ef_json_print (&text, &map)) {
            return;
        }
        printf ("%s%-20.*s %.*s\n", indent, (int)key.size, key.data, (int)text.size,
                (const char *)text.data);
        ef_buf_free (&text);
    }
}

int
cli_pages (cli_t *self, cli_pages_t *pages) {
    ef_buf_t cursor = {0};
    int rc = CLI_OK;
    bool is_over = false;
    if (pages->after) {
        const char *why;
        if (ef_json_parse (&cursor, pages->after, strlen (pages->after), &why) !=
            strlen (pages->after)) {
            rc = cli_fail (CLI_USAGE, "--after %s: expected what an earlier page told",
                           pages->after);
        }
    }
    while (rc == CLI_OK && !is_over && pages->count < pages->limit) {
        ef_buf_t request = {0};
        ef_buf_t value = {0};
        uint64_t left = pages->limit - pages->count;
        cli_request (&request, pages->command, pages->topic, 1);
        ef_put_map (&request, pages->pairs + 1 + (cursor.size > 0));
        ef_buf_put (&request, pages->options.data, pages->options.size);
        ef_put_key_uint (&request, "limit", left < CLI_PAGE ? left : CLI_PAGE);
        if (cursor.size > 0) {
            ef_put_str (&request, "after");
            ef_buf_put (&request, cursor.data, cursor.size);
        }
        rc = cli_call (self, &request, &value);
        if (rc == CLI_OK) {
            ef_cursor_t next = {NULL, NULL};
            pages->count += cli_each (cli_root (&value), "items", pages->each, pages->arg);
            is_over = !ef_map_find (cli_root (&value), "next", &next) || ef_get_nil (&next) == 0;
            ef_buf_clear (&cursor);
            const uint8_t *start = next.at;
            if (!is_over && ef_skip (&next) == 0) {
                ef_buf_put (&cursor, start, (size_t)(next.at - start));
            }
        }
        ef_buf_free (&request);
        ef_buf_free (&value);
    }
    if (rc == CLI_OK && !is_over) {
        ef_buf_t text = {0};
        ef_cursor_t at = cli_root (&cursor);
        if (ef_json_print (&text, &at) == 0) {
            fprintf (stderr, "there may be more: --after '%.*s'\n", (int)text.size,
                     (const char *)text.data);
        }
        ef_buf_free (&text);
    }
    ef_buf_free (&cursor);
    return rc;
}
