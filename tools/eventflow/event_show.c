/* Showing events: a row, the whole with its attempts, JSON. SPDX-License-Identifier: MIT */
#include "event.h"

void
event_name (ef_cursor_t item, char text[96]) {
    char topic[64];
    ef_map_text (item, "topic", topic, sizeof topic);
    snprintf (text, 96, "%s#%llu", topic, (unsigned long long)ef_map_uint (item, "n"));
}

/* The event's own bytes; false: they aren't there (being read, or gone). */
static bool
s_event (ef_cursor_t item, ef_event_t *event) {
    ef_cursor_t bytes;
    const char *why;
    return ef_map_find (item, "event", &bytes) && ef_peek (&bytes) == EF_TYPE_ARRAY &&
           ef_event_read (&bytes, event, &why) == EF_OK;
}

static void
s_put (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

/* The event in its JSON form, with the attempts that the item tells of. */
static int
s_put_event (ef_buf_t *out, ef_cursor_t item, const ef_event_t *event) {
    ef_cursor_t history;
    ef_json_extra_t extra = {.accepted_ms = ef_map_uint (item, "accepted"),
                             .attempts = (uint32_t)ef_map_uint (item, "attempts")};
    if (ef_map_find (item, "history", &history)) {
        const uint8_t *start = history.at;
        if (ef_skip (&history) == 0) {
            extra.errors = (ef_span_t){(const char *)start, (uint32_t)(history.at - start)};
        }
    }
    return ef_json_event (out, event, &extra);
}

void
event_print_json (void *arg, ef_cursor_t item) {
    ef_buf_t line = {0};
    ef_event_t event;
    bool has_event = s_event (item, &event);
    ef_cursor_t map = item;
    uint32_t pairs = 0;
    (void)arg;
    int rc = ef_get_map (&map, &pairs);
    for (uint32_t i = 0; rc == 0 && i < pairs; i++) {
        ef_span_t key;
        rc = ef_get_str (&map, &key);
        if (rc == 0) {
            s_put (&line, i > 0 ? "," : "{");
            ef_json_string (&line, key.data, key.size);
            s_put (&line, ":");
        }
        if (rc == 0 && has_event && ef_span_is (key, "event")) {
            rc = s_put_event (&line, item, &event);
            rc = rc ? rc : ef_skip (&map);
        } else if (rc == 0) {
            rc = ef_json_print (&line, &map);
        }
    }
    if (rc == 0) {
        printf ("%.*s}\n", (int)line.size, (const char *)line.data);
    } else {
        cli_json_item (NULL, item);
    }
    ef_buf_free (&line);
}

const char *const event_columns[7] = {"EVENT", "STATE", ">ATTEMPTS", "ACCEPTED",
                                      "DUE",   "TYPE",  "ID"};

void
event_print_row (void *arg, ef_cursor_t item) {
    char name[96];
    char id[96] = "";
    char state[24];
    char type[64] = "";
    cli_table_t *table = arg;
    ef_cursor_t value;
    ef_event_t event;
    event_name (item, name);
    if (ef_map_find (item, "id", &value)) {
        cli_value_text (value, id, sizeof id);
    }
    ef_map_text (item, "state", state, sizeof state);
    if (s_event (item, &event)) {
        ef_span_copy (event.type, type, sizeof type);
    }
    cli_cell (table, name);
    cli_cell (table, state);
    cli_cell_number (table, ef_map_uint (item, "attempts"));
    cli_cell_age (table, ef_map_uint (item, "accepted"));
    cli_cell_age (table, ef_map_uint (item, "due"));
    cli_cell (table, type);
    cli_cell (table, id);
}

/* The sixth field of an attempt, or an empty map. */
static ef_cursor_t
s_more (ef_cursor_t attempt, uint32_t fields) {
    static const uint8_t none[] = {0x80};
    for (uint32_t i = 0; i < 5; i++) {
        if (fields < 6 || ef_skip (&attempt)) {
            return ef_cursor (none, sizeof none);
        }
    }
    return attempt;
}

static void
s_print_times (ef_cursor_t more, uint64_t end_ms) {
    char text[64];
    char span[24];
    uint64_t start_ms = ef_map_uint (more, "start");
    if (start_ms && end_ms >= start_ms) {
        cli_date (start_ms, text);
        cli_span (end_ms - start_ms, span);
        printf ("%s, took %s", text, span);
    } else if (end_ms) {
        cli_date (end_ms, text);
        printf ("%s", text);
    }
}

/* What came of an attempt, by its code. */
static const char *
s_outcome (const char *code, char *word, size_t size) {
    if (strcmp (code, "LEASE") == 0) {
        return "its lease ran out";
    }
    if (strcmp (code, "WORKER_LOST") == 0) {
        return "the worker was lost";
    }
    snprintf (word, size, "failed, code %s", code[0] ? code : "none");
    return word;
}

/* How long the next attempt had to wait, and by which rule; 0: there was none. */
static void
s_print_next (ef_cursor_t more) {
    char rule[80];
    char span[24];
    ef_cursor_t value;
    uint64_t delay_ms = ef_map_uint (more, "delay");
    ef_map_text (more, "rule", rule, sizeof rule);
    if (!ef_map_find (more, "delay", &value)) {
        return;
    }
    cli_span (delay_ms, span);
    if (delay_ms == 0 && rule[0] && !cli_is_among (rule, "fixed linear exponential random")) {
        printf ("       never again, by %s\n", rule);
    }
    if (delay_ms) {
        printf ("       again after %s%s%s\n", span, rule[0] ? ", by " : "", rule);
    }
}

/* One attempt: [code, text, trace, ms, worker, {more}]. */
static void
s_print_attempt (void *arg, ef_cursor_t attempt) {
    unsigned *number = arg;
    uint32_t fields = 0;
    uint64_t end_ms = 0;
    char code[120];
    char text[1100];
    char worker[80];
    char word[300];
    ef_cursor_t at = attempt;
    ++*number;
    if (ef_get_array (&at, &fields) || fields < 5) {
        return;
    }
    ef_cursor_t more = s_more (at, fields);
    cli_value_text (at, code, sizeof code);
    int rc = ef_skip (&at);
    cli_value_text (at, text, sizeof text);
    rc = rc || ef_skip (&at) || ef_skip (&at) || ef_get_uint (&at, &end_ms) ? -1 : 0;
    if (rc) {
        return;
    }
    cli_value_text (at, worker, sizeof worker);
    uint64_t told = ef_map_uint (more, "attempt");
    printf ("  #%-3llu ", (unsigned long long)(told ? told : *number));
    s_print_times (more, end_ms);
    printf (", by %s", worker[0] ? worker : "the broker");
    ef_map_text (more, "host", word, sizeof word);
    if (word[0]) {
        printf (" on %s", word);
    }
    if (ef_map_uint (more, "pid")) {
        printf (" (pid %llu)", (unsigned long long)ef_map_uint (more, "pid"));
    }
    printf (": %s\n", s_outcome (code, word, sizeof word));
    if (text[0]) {
        cli_clean (text);
        printf ("       %s\n", text);
    }
    s_print_next (more);
}

static void
s_print_date (ef_cursor_t item, const char *key, const char *title) {
    char text[64];
    if (ef_map_uint (item, key)) {
        cli_date (ef_map_uint (item, key), text);
        printf ("%-11s %s\n", title, text);
    }
}

static void
s_print_event (ef_cursor_t item) {
    ef_event_t event;
    if (!s_event (item, &event)) {
        printf ("%-11s %s\n", "payload", "not in memory; ask again");
        return;
    }
    ef_buf_t text = {0};
    if (event.meta.size > 0) {
        ef_cursor_t meta = ef_cursor (event.meta.data, event.meta.size);
        if (ef_json_print (&text, &meta) == 0) {
            printf ("%-11s %.*s\n", "meta", (int)text.size, (const char *)text.data);
        }
        ef_buf_clear (&text);
    }
    ef_cursor_t payload = ef_cursor (event.payload.data, event.payload.size);
    if (ef_json_print (&text, &payload) == 0) {
        printf ("%-11s %.*s\n", "payload", (int)text.size, (const char *)text.data);
    }
    ef_buf_free (&text);
}

void
event_print_whole (void *arg, ef_cursor_t item) {
    char name[96];
    char word[1100];
    ef_cursor_t value;
    unsigned number = 0;
    (void)arg;
    event_name (item, name);
    ef_map_text (item, "state", word, sizeof word);
    printf ("%-11s %s, %s\n", "event", name, word);
    if (ef_map_find (item, "id", &value)) {
        cli_value_text (value, word, sizeof word);
        cli_clean (word);
        printf ("%-11s %s\n", "id", word);
    }
    s_print_date (item, "accepted", "accepted");
    s_print_date (item, "due", "due");
    ef_map_text (item, "worker", word, sizeof word);
    if (word[0]) {
        printf ("%-11s %s, tag %llu\n", "leased by", word,
                (unsigned long long)ef_map_uint (item, "tag"));
    }
    s_print_date (item, "deadline", "lease until");
    s_print_date (item, "ended", "ended");
    ef_map_text (item, "reason", word, sizeof word);
    if (word[0]) {
        printf ("%-11s %s\n", "reason", word);
    }
    ef_map_text (item, "superseded", word, sizeof word);
    if (word[0]) {
        cli_clean (word);
        printf ("%-11s by %s\n", "superseded", word);
    }
    if (ef_map_uint (item, "segment")) {
        printf ("%-11s segment %llu, offset %llu\n", "journal",
                (unsigned long long)ef_map_uint (item, "segment"),
                (unsigned long long)ef_map_uint (item, "offset"));
    }
    s_print_event (item);
    if (ef_map_find (item, "result", &value)) {
        cli_value_text (value, word, sizeof word);
        printf ("%-11s %s\n", "result", word);
    }
    printf ("%-11s %llu\n", "attempts", (unsigned long long)ef_map_uint (item, "attempts"));
    (void)cli_each (item, "history", s_print_attempt, &number); /* none is fine */
}
