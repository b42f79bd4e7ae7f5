/* eventflow: the tool for producers and operators. SPDX-License-Identifier: MIT */
#include "cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

static const struct {
    const char *name;
    int (*run) (cli_t *self);
    const char *help;
} s_commands[] = {
    {"publish", cli_publish,
     "publish [PAYLOAD | @FILE | -] --topic NAME [--id ID] [--key KEY] [--type TYPE] [--delay 5s]\n"
     "        [--count N] [--rate N/s] [--push]\n"
     "  Publishes JSON: one payload, or, with - or @FILE and no --topic needed, an event a line.\n"
     "  Every event is confirmed durable unless --push is said.\n"
     "    eventflow publish '{\"to\": \"ann@example.org\"}' --topic email\n"
     "    eventflow publish @events.jsonl --topic api\n"
     "    jq -c . log | eventflow publish - --topic db --rate 100/s\n"},
    {"consume", cli_consume,
     "consume --topic NAME [--count N] [--exec COMMAND] [--credit N]\n"
     "  Takes events and prints each as a line of JSON; acknowledges it when it is printed, or by "
     "the\n"
     "  exit status of COMMAND, which gets it on standard input (0 done, 75 retry, 65 dead).\n"
     "    eventflow consume --topic email --count 10\n"},
    {"status", cli_status, "status [--json]\n  What the broker says of itself.\n"},
    {"topic", cli_topic,
     "topic ls | info NAME | pause NAME | resume NAME | drain NAME | peek NAME [--limit N]\n"
     "      | purge NAME --yes | scale NAME N\n"
     "    eventflow topic ls\n"
     "    eventflow topic purge email --dry-run\n"},
    {"worker", cli_worker, "worker ls [--json]\n"},
    {"dlq", cli_dlq,
     "dlq ls TOPIC [--reason WHY] [--limit N] [--after M] | show TOPIC N\n"
     "    | replay TOPIC (N... | --reason WHY | --all) [--rate N/s] [--dry-run]\n"
     "    | purge TOPIC (N... | --reason WHY | --all) --yes [--dry-run]\n"
     "  Reasons: attempts permanent overflow expired invalid.\n"
     "    eventflow dlq ls email\n"
     "    eventflow dlq replay email --all --rate 50/s\n"},
    {"server", cli_server,
     "server drain | stop\n  Both let workers finish what they hold; then the broker ends.\n"},
    {"config", cli_config,
     "config check FILE\n  Judges a configuration; says file, line and what was expected.\n"},
    {"journal", cli_journal,
     "journal verify DIR [--quiet] | inspect DIR [--from SEGMENT[:OFFSET]] [--type "
     "events,ends,...]\n"
     "        [--topic NAME] [--limit N] [--events] | export DIR [--topic NAME] [--state "
     "ready,scheduled,...]\n"
     "        [--output FILE] | salvage DIR NEW_DIR [--quiet]   [--kind main|dead] [--progress] "
     "[--force]\n"
     "  Reads a broker's files at rest: its data directory, or one journal in it.\n"
     "  verify   checks every segment; a damaged place is told with what is lost as far as can be "
     "known\n"
     "  inspect  prints the records, a line each; goes on behind damage\n"
     "  export   prints what is live as JSON: ready, scheduled, retrying, dead\n"
     "  salvage  copies what is intact to NEW_DIR, on which a broker then starts\n"
     "  Exit 8: damage was found (salvage: the copy is made all the same); 1: a newer format.\n"
     "    eventflow journal verify /var/lib/eventflow\n"
     "    eventflow journal inspect eventflow-data --type dead,attempt --topic email --limit 20\n"
     "    eventflow journal inspect eventflow-data/journal --from 3:4096 --events --json\n"
     "    eventflow journal export eventflow-data --state ready,retrying --output events.jsonl\n"
     "    eventflow journal salvage /var/lib/eventflow /var/lib/eventflow-new\n"},
    {"bench", cli_bench,
     "bench [--events N] [--size BYTES] [--unbatched] [--keys N] [--dedupe 10m] [--runs N] "
     "[--json]\n"
     "      | --compare [--events N] [--size BYTES] [--runs N] [--check] [--json]\n"
     "      | --backlog [--events N] [--size BYTES] [--single N] [--check] [--json]\n"
     "  Starts a broker of its own and measures events a second from publish to processed;\n"
     "  --keys: every event bears one of so many ordering keys; --dedupe: the window for ids;\n"
     "  with --compare how much dedupe and keys leave of the figure without;\n"
     "  with --backlog what waiting events cost: memory, restarts, draining, disk (about 3 GB "
     "under\n"
     "  $TMPDIR); --single: so many more come one by one (0: none); --check: exit 1 where a target "
     "is\n"
     "  missed.\n"
     "    eventflow bench --events 2000000 --size 128 --json\n"
     "    eventflow bench --backlog --events 1000000\n"},
};

static const char s_common[] = "\neverywhere: --front --ingress --back --admin ENDPOINT (or "
                               "$EVENTFLOW_FRONT ...), --timeout 5s, --json\n"
                               "exit: 0 ok, 1 failed, 2 usage, 3 not found, 4 refused, 5 "
                               "unreachable, 6 full or past a limit,\n      8 damaged\n";

int
cli_fail (int code, const char *format, ...) {
    va_list arguments;
    va_start (arguments, format);
    fprintf (stderr, "eventflow: ");
    vfprintf (stderr, format, arguments);
    fprintf (stderr, "\n");
    va_end (arguments);
    return code;
}

int64_t
cli_duration_ms (const char *text) {
    static const struct {
        const char *suffix;
        double factor;
    } units[] = {{"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}, {"d", 8.64e7}};
    char *end;
    double number = strtod (text, &end);
    for (size_t i = 0; end != text && number >= 0 && i < sizeof units / sizeof units[0]; i++) {
        if (strcmp (end, units[i].suffix) == 0) {
            return (int64_t)(number * units[i].factor);
        }
    }
    return -1;
}

double
cli_rate (const char *text) {
    char *end;
    double number = strtod (text, &end);
    bool is_good = end != text && number > 0 && (*end == 0 || strcmp (end, "/s") == 0);
    return is_good ? number : -1;
}

int
cli_count (const char *what, const char *text, uint64_t *number) {
    char *end;
    errno = 0;
    *number = strtoull (text, &end, 10);
    bool is_good = text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0;
    return is_good ? CLI_OK : cli_fail (CLI_USAGE, "%s %s: expected a whole number", what, text);
}

static int
s_take_flag (cli_t *self, const cli_flag_t *flags, size_t count, const char *name,
             const char *value) {
    for (size_t i = 0; i < count; i++) {
        if (strcmp (flags[i].name, name) != 0) {
            continue;
        }
        if (flags[i].is_set) {
            *flags[i].is_set = true;
        }
        if (flags[i].value == NULL) {
            return 1;
        }
        if (value == NULL) {
            return -cli_fail (CLI_USAGE, "--%s needs a value", name);
        }
        *flags[i].value = value;
        return 2;
    }
    (void)self;
    return -cli_fail (CLI_USAGE, "unknown flag --%s; see eventflow --help", name);
}

int
cli_flags (cli_t *self, const cli_flag_t *own, size_t own_count) {
    const char *timeout = NULL;
    cli_flag_t flags[40] = {
        {"front", &self->front, NULL}, {"ingress", &self->ingress, NULL},
        {"back", &self->back, NULL},   {"admin", &self->admin, NULL},
        {"timeout", &timeout, NULL},   {"json", NULL, &self->json},
        {"yes", NULL, &self->yes},     {"dry-run", NULL, &self->dry_run},
    };
    size_t count = 8;
    for (size_t i = 0; i < own_count; i++) {
        flags[count++] = own[i];
    }
    int words = 0;
    for (int i = 0; i < self->argc;) {
        const char *word = self->argv[i];
        if (strncmp (word, "--", 2) != 0 || word[2] == 0) {
            self->argv[words++] = self->argv[i++];
            continue;
        }
        int used = s_take_flag (self, flags, count, word + 2,
                                i + 1 < self->argc ? self->argv[i + 1] : NULL);
        if (used < 0) {
            return -used;
        }
        i += used;
    }
    self->argc = words;
    if (timeout) {
        self->timeout_ms = (int)cli_duration_ms (timeout);
        if (self->timeout_ms <= 0) {
            return cli_fail (CLI_USAGE, "--timeout %s: expected a duration such as 5s", timeout);
        }
    }
    return CLI_OK;
}

int
cli_call (cli_t *self, const ef_buf_t *request, ef_buf_t *value) {
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
        return cli_fail (is_missing ? CLI_NOT_FOUND : CLI_REFUSED, "%s: %s", code, text);
    }
    return CLI_OK;
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

bool
cli_find (ef_cursor_t map, const char *key, ef_cursor_t *value) {
    uint32_t pairs;
    if (ef_get_map (&map, &pairs)) {
        return false;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t name;
        if (ef_get_str (&map, &name)) {
            return false;
        }
        *value = map;
        if (ef_span_is (name, key)) {
            return true;
        }
        if (ef_skip (&map)) {
            return false;
        }
    }
    return false;
}

uint64_t
cli_number (ef_cursor_t map, const char *key) {
    ef_cursor_t value;
    uint64_t number = 0;
    if (!cli_find (map, key, &value) || ef_get_uint (&value, &number)) {
        return 0;
    }
    return number;
}

void
cli_text (ef_cursor_t map, const char *key, char *text, size_t size) {
    ef_cursor_t value;
    ef_span_t span = {NULL, 0};
    if (!cli_find (map, key, &value) || ef_get_bytes (&value, &span)) {
        span.size = 0;
    }
    ef_span_copy (span, text, size);
}

static int
s_help (const char *name) {
    if (name == NULL) {
        printf ("usage: eventflow COMMAND ...\n\n");
    }
    for (size_t i = 0; i < sizeof s_commands / sizeof s_commands[0]; i++) {
        if (name == NULL || strcmp (name, s_commands[i].name) == 0) {
            printf ("eventflow %s\n", s_commands[i].help);
        }
    }
    fputs (s_common, stdout);
    return CLI_OK;
}

int
main (int argc, char **argv) {
    (void)signal (SIGPIPE, SIG_IGN); /* a closed pipe shows as a failed write */
    cli_t cli = {.front = getenv ("EVENTFLOW_FRONT"),
                 .ingress = getenv ("EVENTFLOW_INGRESS"),
                 .back = getenv ("EVENTFLOW_BACK"),
                 .admin = getenv ("EVENTFLOW_ADMIN"),
                 .timeout_ms = 5000};
    const char *name = argc > 1 ? argv[1] : "--help";
    if (strcmp (name, "--help") == 0 || strcmp (name, "-h") == 0 || strcmp (name, "help") == 0) {
        return s_help (argc > 2 ? argv[2] : NULL);
    }
    if (strcmp (name, "--version") == 0) {
        printf ("eventflow %s\n", EF_PROGRAM_VERSION);
        return CLI_OK;
    }
    cli.argc = argc - 2;
    cli.argv = argv + 2;
    for (int i = 2; i < argc; i++) {
        if (strcmp (argv[i], "--help") == 0) {
            return s_help (name);
        }
    }
    for (size_t i = 0; i < sizeof s_commands / sizeof s_commands[0]; i++) {
        if (strcmp (s_commands[i].name, name) == 0) {
            return s_commands[i].run (&cli);
        }
    }
    return cli_fail (CLI_USAGE, "unknown command %s; see eventflow --help", name);
}
