/* eventflow event: one event's story, and what an operator may do with it.
   SPDX-License-Identifier: MIT */
#include "event.h"

#include <stdlib.h>

typedef struct {
    cli_t *cli;
    const char *topic;
    const char *state;
    const char *type;
    const char *since;
    const char *until;
    const char *limit;
    const char *after;
    const char *to;
    int ids;          /* words behind the verb that are ids */
    const char *when; /* of delay: "delay" or "at", NULL: another verb */
    uint64_t when_ms;
} event_t;

/* What an operator may do with an event. */
typedef struct {
    const char *name;
    const char *command;
    const char *done;
    const char *states; /* in which it may be done */
} action_t;

#define WAITING "ready scheduled retrying parked"

static const action_t s_actions[] = {
    {"cancel", "EVENT.CANCEL", "cancelled", WAITING},
    {"run-now", "EVENT.RUN", "is due now", "scheduled retrying parked"},
    {"delay", "EVENT.DELAY", "delayed", WAITING},
    {"release", "EVENT.RELEASE", "released", "leased"},
};

/* TOPIC#N, where no topic was said: true, and both parts. */
static bool
s_is_place (const event_t *self, const char *word, ef_span_t *topic, uint64_t *n) {
    const char *mark = strrchr (word, '#');
    if (self->topic || mark == NULL || mark[1] < '0' || mark[1] > '9') {
        return false;
    }
    char *end;
    *n = strtoull (mark + 1, &end, 10);
    *topic = (ef_span_t){word, (uint32_t)(mark - word)};
    return *end == 0 && ef_topic_is_valid (topic->data, topic->size);
}

/* Begins a request about an event; `pairs` options follow. */
static void
s_put_id (const event_t *self, ef_buf_t *out, const char *command, const char *word,
          uint32_t pairs) {
    ef_span_t topic;
    uint64_t n;
    ef_put_array (out, 3);
    ef_put_str (out, command);
    if (s_is_place (self, word, &topic, &n)) {
        ef_put_map (out, 2);
        ef_put_str (out, "topic");
        ef_put_strn (out, topic.data, topic.size);
        ef_put_key_uint (out, "n", n);
    } else {
        ef_put_str (out, word);
    }
    ef_put_map (out, pairs + (self->topic != NULL));
    if (self->topic) {
        ef_put_key_str (out, "topic", self->topic);
    }
}

static int
s_ask (event_t *self, const char *command, const char *word, ef_buf_t *value) {
    ef_buf_t request = {0};
    s_put_id (self, &request, command, word, 0);
    int rc = cli_call_about (self->cli, word, &request, value);
    ef_buf_free (&request);
    return rc;
}

/* Asks about each id and hands every item of the answers to `each`. */
static int
s_each_id (event_t *self, const char *command, void (*each) (void *arg, ef_cursor_t item),
           void *arg) {
    int rc = CLI_OK;
    for (int i = 0; i < self->ids; i++) {
        ef_buf_t value = {0};
        const char *word = self->cli->argv[1 + i];
        int one = s_ask (self, command, word, &value);
        if (one == CLI_OK && cli_each (cli_root (&value), "items", each, arg) == 0) {
            one = cli_fail (CLI_NOT_FOUND, "%s: no such event", word);
        }
        rc = rc ? rc : one;
        ef_buf_free (&value);
    }
    return rc;
}

static void
s_show_item (void *arg, ef_cursor_t item) {
    bool *is_first = arg;
    printf ("%s", *is_first ? "" : "\n");
    *is_first = false;
    event_print_whole (NULL, item);
}

static int
s_show (event_t *self) {
    bool is_first = true;
    return self->cli->json ? s_each_id (self, "EVENT.SHOW", event_print_json, NULL)
                           : s_each_id (self, "EVENT.SHOW", s_show_item, &is_first);
}

static void
s_explain_item (void *arg, ef_cursor_t item) {
    char name[96];
    char state[24];
    char text[600];
    char until[64] = "";
    (void)arg;
    event_name (item, name);
    ef_map_text (item, "state", state, sizeof state);
    ef_map_text (item, "text", text, sizeof text);
    cli_clean (text);
    if (ef_map_uint (item, "until")) {
        cli_date (ef_map_uint (item, "until"), until);
    }
    printf ("%s is %s: %s%s%s\n", name, state, text, until[0] ? "; until " : "", until);
}

static int
s_explain (event_t *self) {
    return s_each_id (self, "EVENT.EXPLAIN", self->cli->json ? cli_json_item : s_explain_item,
                      NULL);
}

static void
s_option (cli_pages_t *pages, const char *key, const char *value) {
    if (value) {
        ef_put_key_str (&pages->options, key, value);
        pages->pairs++;
    }
}

static int
s_list (event_t *self) {
    static const char *const names[] = {"since", "until"};
    const char *dates[] = {self->since, self->until};
    cli_table_t table = CLI_TABLE (event_columns, "");
    cli_pages_t pages = {.command = "EVENTS",
                         .limit = 100,
                         .after = self->after,
                         .each = self->cli->json ? event_print_json : event_print_row,
                         .arg = &table};
    int rc = self->limit ? cli_count ("--limit", self->limit, &pages.limit) : CLI_OK;
    const char *states = "ready leased scheduled retrying parked done dead archived purged";
    if (rc == CLI_OK && self->state) {
        rc = cli_is_among (self->state, states) ? CLI_OK
                                                : cli_unknown ("state", self->state, states);
    }
    s_option (&pages, "topic", self->topic);
    s_option (&pages, "state", self->state);
    s_option (&pages, "type", self->type);
    for (unsigned i = 0; i < 2 && rc == CLI_OK; i++) {
        int64_t ms;
        rc = dates[i] ? cli_moment (i ? "--until" : "--since", dates[i], -1, &ms) : CLI_OK;
        if (rc == CLI_OK && dates[i]) {
            ef_put_key_uint (&pages.options, names[i], (uint64_t)ms);
            pages.pairs++;
        }
    }
    rc = rc ? rc : cli_pages (self->cli, &pages);
    cli_table_end (&table, rc == CLI_OK && !self->cli->json);
    ef_buf_free (&pages.options);
    return rc;
}

typedef struct {
    const event_t *event;
    const action_t *action;
    cli_table_t table;
    uint64_t count;
} would_t;

static void
s_would_item (void *arg, ef_cursor_t item) {
    would_t *self = arg;
    char name[96];
    char state[24];
    event_name (item, name);
    ef_map_text (item, "state", state, sizeof state);
    if (!cli_is_among (state, self->action->states)) {
        fprintf (stderr, "%s is %s: not for %s\n", name, state, self->action->name);
        return;
    }
    self->count++;
    (self->event->cli->json ? event_print_json : event_print_row) (&self->table, item);
}

static int
s_act_on (event_t *self, const action_t *action, const char *word) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    s_put_id (self, &request, action->command, word, (self->when != NULL) + (self->to != NULL));
    if (self->when) {
        ef_put_key_uint (&request, self->when, self->when_ms);
    }
    if (self->to) {
        ef_put_key_str (&request, "to", self->to);
    }
    int rc = cli_call_about (self->cli, word, &request, &value);
    if (rc == CLI_OK && self->cli->json) {
        cli_print_json (&value);
    } else if (rc == CLI_OK) {
        char name[96];
        event_name (cli_root (&value), name);
        fprintf (stderr, "%s %s\n", name, action->done);
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

/* The last word of delay says until when. */
static int
s_take_when (event_t *self) {
    int64_t ms;
    if (self->ids < 2) {
        return cli_fail (CLI_USAGE, "event delay: expected ids, then 5m or a date");
    }
    const char *word = self->cli->argv[self->ids--];
    int rc = cli_moment ("event delay", word, 1, &ms);
    int64_t delay = cli_duration_ms (word);
    self->when = delay >= 0 ? "delay" : "at";
    self->when_ms = (uint64_t)(delay >= 0 ? delay : ms);
    return rc;
}

static int
s_act (event_t *self, const action_t *action) {
    uint64_t done = 0;
    int rc = strcmp (action->name, "delay") == 0 ? s_take_when (self) : CLI_OK;
    if (rc) {
        return rc;
    }
    if (self->to && strcmp (action->name, "release") != 0) {
        return cli_fail (CLI_USAGE, "--to goes with release");
    }
    if (self->cli->dry_run) {
        would_t would = {.event = self, .action = action, .table = CLI_TABLE (event_columns, "")};
        rc = s_each_id (self, "EVENT.SHOW", s_would_item, &would);
        cli_table_end (&would.table, false);
        fprintf (stderr, "would %s %llu event%s\n", action->name, (unsigned long long)would.count,
                 cli_s (would.count));
        return rc;
    }
    for (int i = 0; i < self->ids; i++) {
        int one = s_act_on (self, action, self->cli->argv[1 + i]);
        done += one == CLI_OK;
        rc = rc ? rc : one;
    }
    if (self->ids > 1) {
        fprintf (stderr, "%s: %llu of %d events\n", action->name, (unsigned long long)done,
                 self->ids);
    }
    return rc;
}

int
cli_event (cli_t *cli) {
    event_t self = {.cli = cli};
    const cli_flag_t flags[] = {
        {"topic", &self.topic, NULL}, {"state", &self.state, NULL}, {"type", &self.type, NULL},
        {"since", &self.since, NULL}, {"until", &self.until, NULL}, {"limit", &self.limit, NULL},
        {"after", &self.after, NULL}, {"to", &self.to, NULL},
    };
    int rc = cli_flags (cli, flags, sizeof flags / sizeof flags[0]);
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";
    self.ids = cli->argc > 0 ? cli->argc - 1 : 0;
    if (rc) {
        return rc;
    }
    if (strcmp (verb, "ls") == 0 || strcmp (verb, "list") == 0) {
        return s_list (&self);
    }
    const action_t *action = NULL;
    for (size_t i = 0; i < sizeof s_actions / sizeof s_actions[0]; i++) {
        action = strcmp (verb, s_actions[i].name) == 0 ? &s_actions[i] : action;
    }
    bool is_show = strcmp (verb, "show") == 0;
    if (!action && !is_show && strcmp (verb, "explain") != 0) {
        return cli_unknown ("verb of event", verb, "show explain ls cancel run-now delay release");
    }
    if (self.ids == 0) {
        return cli_fail (CLI_USAGE, "event %s: expected an id, or TOPIC#N", verb);
    }
    return action ? s_act (&self, action) : is_show ? s_show (&self) : s_explain (&self);
}
