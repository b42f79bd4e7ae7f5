/* eventflow: the tool for producers and operators. SPDX-License-Identifier: MIT */
#include "cli.h"

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
     "publish [PAYLOAD | @FILE | -] [--topic NAME] [--type TYPE] [--headers JSON] [--id ID]\n"
     "        [--key KEY] [--user USER] [--at DATE | --delay 5s] [--ttl 1h] [--downstream NAME]\n"
     "        [--schema N] [--trace TRACEPARENT] [--on-dead JSON] [--count N] [--rate N/s]\n"
     "        [--atomic | --push]\n"
     "  Publishes JSON: one payload, or, with - or @FILE, an event a line.\n"
     "  A payload without --topic goes where the broker's routes send its type and headers.\n"
     "  Every event is confirmed durable unless --push is said; --atomic: all of them or none.\n"
     "  Prints the id that a single event was given.\n"
     "  --on-dead is an event that is accepted in the moment in which this one dies.\n"
     "    eventflow publish '{\"to\": \"ann@example.org\"}' --topic email\n"
     "    eventflow publish '{\"userId\": \"123\"}' --type USER_SIGNUP --key user-123 --delay 5m\n"
     "    eventflow publish @events.jsonl --topic api\n"
     "    jq -c . log | eventflow publish - --topic db --rate 100/s\n"},
    {"consume", cli_consume,
     "consume --topic NAME [--count N] [--exec COMMAND] [--credit N]\n"
     "  Takes events and prints each as a line of JSON; acknowledges it when it is printed, or by "
     "the\n"
     "  exit status of COMMAND, which gets it on standard input (0 done, 75 retry, 65 dead).\n"
     "    eventflow consume --topic email --count 10\n"},
    {"status", cli_status, "status [--json]\n  What the broker says of itself.\n"},
    {"event", cli_event,
     "event show ID... | explain ID... | ls [--topic NAME] [--state STATE] [--type PATTERN]\n"
     "        [--since 1h] [--until DATE] [--limit N] [--after CURSOR]\n"
     "      | cancel ID... | run-now ID... | delay ID... 5m|DATE | release ID... [--to WORKER]\n"
     "  An ID is an event's id, or TOPIC#N; --topic NAME where an id is in several topics.\n"
     "  show     the event, its state and its attempts, one after the other\n"
     "  explain  why it isn't running now, in a sentence\n"
     "  cancel, run-now, delay: of events that wait; release takes one from the worker that has "
     "it,\n"
     "  uncounted. --dry-run shows which ones it would be. Dates are RFC 3339.\n"
     "  States: ready leased scheduled retrying parked done dead archived purged.\n"
     "    eventflow event explain order-17\n"
     "    eventflow event ls --topic email --state retrying --since 1h\n"
     "    eventflow event delay email#4711 email#4712 2h\n"},
    {"topic", cli_topic,
     "topic ls | info NAME | keys NAME [--limit N] [--after CURSOR] | unpark NAME [KEY]\n"
     "      | breaker NAME [DOWNSTREAM] [open|closed|auto] | pause NAME | resume NAME | drain "
     "NAME\n"
     "      | peek NAME [--limit N] | purge NAME --yes | scale NAME N\n"
     "  info     settings, counts, breakers, quota, keys and remembered ids\n"
     "  keys     ordering keys whose first event waits, why, since when, and how many behind it\n"
     "  unpark   lets parked events go on: of one key, or of all\n"
     "  breaker  shows all or one; holds one open or closed until it is set to auto again;\n"
     "           without DOWNSTREAM the topic's own\n"
     "    eventflow topic ls\n"
     "    eventflow topic breaker email smtp.example.org open\n"
     "    eventflow topic purge email --dry-run\n"},
    {"worker", cli_worker, "worker ls [--json]\n"},
    {"pool", cli_pool,
     "pool ls | info NAME | history [NAME]\n"
     "     | scale NAME N|auto | min NAME N|auto | max NAME N|auto\n"
     "  How many workers each topic has and should have, and why; pools are topics with a command\n"
     "  to start workers by, for the others the wanted number is for who starts them elsewhere.\n"
     "  history   each decision since the broker's start, with the numbers it was taken on\n"
     "  scale     exactly N from now on; min, max: other bounds; auto: as configured, by the "
     "load.\n"
     "            Until the broker ends; the configuration is for longer.\n"
     "    eventflow pool ls\n"
     "    eventflow pool history email\n"
     "    eventflow pool scale email 5\n"
     "    eventflow pool scale email auto\n"},
    {"dlq", cli_dlq,
     "dlq ls TOPIC [--reason WHY] [--limit N] [--after M] | show TOPIC N\n"
     "    | replay TOPIC (N... | --reason WHY | --all) [--rate N/s] [--dry-run]\n"
     "    | purge TOPIC (N... | --reason WHY | --all) --yes [--dry-run]\n"
     "  Reasons: attempts permanent overflow expired invalid quota poison.\n"
     "    eventflow dlq ls email\n"
     "    eventflow dlq replay email --all --rate 50/s\n"},
    {"server", cli_server,
     "server drain | stop | reload\n"
     "  drain and stop let workers finish what they hold; then the broker ends. reload reads the\n"
     "  configuration anew; on an error the one that runs stays.\n"},
    {"config", cli_config,
     "config check FILE | show [TOPIC]\n"
     "  check judges a file; says file, line and what was expected. show prints the settings that\n"
     "  the broker's topics have now, as a file would say them.\n"},
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
    {"stress", cli_stress,
     "stress [--front ENDPOINT | --http URL] (--topic NAME | --types A,B,...) [--rate 100/s]\n"
     "        [--for 10s] [--fail SHARE] [--size BYTES] [--payload JSON] [--fail-payload JSON]\n"
     "        [--connections 16] [--drain 30s] [--json]\n"
     "  Publishes at a rate into a system that runs, and accounts for each event.\n"
     "  --types    their types, in turn; without --topic the broker's routes send them on\n"
     "  --http     a request for each to the gateway there, over so many --connections; a token "
     "is\n"
     "             taken from $EVENTFLOW_TOKEN\n"
     "  --fail     the share, as 0.02 or 2%, that asks its worker to fail: the payload is\n"
     "             {\"n\": 17, \"fail\": true, \"pad\": \"...\"}, --size bytes as MessagePack. A "
     "worker\n"
     "             that doesn't look at it needs --fail-payload: members that make it fail, such\n"
     "             as an address that isn't; --payload: those that it wants from the others\n"
     "  --drain    how long what was confirmed may take to end; then it counts as waiting\n"
     "  Ids are stress-RANDOM-N. The account goes by the broker's list of events: others may\n"
     "  publish meanwhile (the live line, by the topics' totals, has theirs too).\n"
     "  Ctrl-C ends the sending, a second one the draining. Exit 1: the numbers don't add up, "
     "that\n"
     "  is sent = confirmed + refused + unknown, confirmed = done + dead + waiting.\n"
     "    eventflow stress --topic api --rate 2000/s --for 1m --fail 1%\n"
     "    eventflow stress --http http://127.0.0.1:8080 --types USER_SIGNUP,PAYMENT --rate 500/s\n"
     "    eventflow stress --topic email --payload '{\"to\":\"ann@example.org\"}' \\\n"
     "        --fail-payload '{\"to\":\"nobody@nowhere.invalid\"}' --fail 5% --json\n"},
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

static int
s_take_flag (const cli_flag_t *flags, size_t count, const char *name, const char *value) {
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
    char names[512] = "";
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen (names);
        snprintf (names + used, sizeof names - used, "%s--%s", i > 0 ? " " : "", flags[i].name);
    }
    char word[64];
    snprintf (word, sizeof word, "--%s", name);
    return -cli_unknown ("flag", word, names);
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
        int used =
            s_take_flag (flags, count, word + 2, i + 1 < self->argc ? self->argv[i + 1] : NULL);
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
    char names[256] = "";
    for (size_t i = 0; i < sizeof s_commands / sizeof s_commands[0]; i++) {
        size_t used = strlen (names);
        snprintf (names + used, sizeof names - used, "%s%s", i > 0 ? " " : "", s_commands[i].name);
    }
    return cli_unknown ("command", name, names);
}
