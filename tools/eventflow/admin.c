/* eventflow status, topic, worker, dlq, server, config. SPDX-License-Identifier: MIT */
#include "cli.h"

#include <stdlib.h>
#include <unistd.h>

static void
s_request (ef_buf_t *request, const char *command, const char *topic, uint32_t more) {
    ef_put_array (request, 1u + (topic != NULL) + more);
    ef_put_str (request, command);
    if (topic) {
        ef_put_str (request, topic);
    }
}

/* Sends a command without further arguments and prints the value as JSON, or `done` for people. */
static int
s_simple (cli_t *cli, const char *command, const char *topic, const char *done) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    s_request (&request, command, topic, 0);
    int rc = cli_call (cli, &request, &value);
    if (rc == CLI_OK && cli->json) {
        cli_print_json (&value);
    } else if (rc == CLI_OK) {
        fprintf (stderr, "%s%s%s\n", topic ? topic : "", topic ? " " : "", done);
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

int
cli_status (cli_t *cli) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    int rc = cli_flags (cli, NULL, 0);
    s_request (&request, "STATUS", NULL, 0);
    rc = rc ? rc : cli_call (cli, &request, &value);
    if (rc == CLI_OK && cli->json) {
        cli_print_json (&value);
    } else if (rc == CLI_OK) {
        ef_cursor_t root = ef_cursor (value.data, value.size);
        static const char *const parts[] = {"broker", "process"};
        for (unsigned i = 0; i < 2; i++) {
            ef_cursor_t map;
            uint32_t pairs = 0;
            if (!cli_find (root, parts[i], &map) || ef_get_map (&map, &pairs)) {
                continue;
            }
            for (uint32_t k = 0; k < pairs; k++) {
                ef_span_t key;
                ef_buf_t text = {0};
                if (ef_get_str (&map, &key) || ef_json_print (&text, &map)) {
                    break;
                }
                printf ("%-19.*s %.*s\n", (int)key.size, key.data, (int)text.size,
                        (const char *)text.data);
                ef_buf_free (&text);
            }
        }
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

/* Calls `each` for every map of the list at "items". */
static uint32_t
s_each_item (const ef_buf_t *value, void (*each) (ef_cursor_t item)) {
    ef_cursor_t items;
    uint32_t count = 0;
    if (!cli_find (ef_cursor (value->data, value->size), "items", &items) ||
        ef_get_array (&items, &count)) {
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        each (items);
        if (ef_skip (&items)) {
            break;
        }
    }
    return count;
}

static void
s_json_item (ef_cursor_t item) {
    cli_print_span ((ef_span_t){(const char *)item.at, (uint32_t)ef_cursor_left (&item)});
}

static void
s_topic_row (ef_cursor_t item) {
    char name[64];
    char flags[24] = "";
    ef_cursor_t value;
    bool is_paused = false;
    bool is_draining = false;
    cli_text (item, "topic", name, sizeof name);
    if (cli_find (item, "paused", &value) && ef_get_bool (&value, &is_paused) == 0 &&
        cli_find (item, "draining", &value) && ef_get_bool (&value, &is_draining) == 0) {
        snprintf (flags, sizeof flags, "%s%s", is_paused ? " paused" : "",
                  is_draining ? " draining" : "");
    }
    printf ("%-20s %10llu %8llu %9llu %9llu %10llu %8llu %7llu%s\n", name,
            (unsigned long long)cli_number (item, "ready"),
            (unsigned long long)cli_number (item, "leased"),
            (unsigned long long)cli_number (item, "retrying"),
            (unsigned long long)cli_number (item, "scheduled"),
            (unsigned long long)cli_number (item, "done"),
            (unsigned long long)cli_number (item, "dead"),
            (unsigned long long)cli_number (item, "workers"), flags);
}

static const char *s_wanted;
static bool s_found;

static void
s_topic_info (ef_cursor_t item) {
    char name[64];
    uint32_t pairs;
    cli_text (item, "topic", name, sizeof name);
    if (strcmp (name, s_wanted) != 0 || ef_get_map (&item, &pairs)) {
        return;
    }
    s_found = true;
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        ef_buf_t text = {0};
        if (ef_get_str (&item, &key) || ef_json_print (&text, &item)) {
            return;
        }
        printf ("%-19.*s %.*s\n", (int)key.size, key.data, (int)text.size, (const char *)text.data);
        ef_buf_free (&text);
    }
}

static void
s_topic_info_json (ef_cursor_t item) {
    char name[64];
    cli_text (item, "topic", name, sizeof name);
    if (strcmp (name, s_wanted) == 0) {
        s_found = true;
        s_json_item (item);
    }
}

static int
s_topic_list (cli_t *cli, const char *wanted) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    s_request (&request, "TOPICS", NULL, 0);
    int rc = cli_call (cli, &request, &value);
    if (rc == CLI_OK && wanted) {
        s_wanted = wanted;
        (void)s_each_item (&value, cli->json ? s_topic_info_json : s_topic_info); /* judged below */
        rc = s_found ? CLI_OK : cli_fail (CLI_NOT_FOUND, "no topic %s", wanted);
    } else if (rc == CLI_OK) {
        if (!cli->json) {
            printf ("%-20s %10s %8s %9s %9s %10s %8s %7s\n", "TOPIC", "READY", "LEASED", "RETRYING",
                    "SCHEDULED", "DONE", "DEAD", "WORKERS");
        }
        (void)s_each_item (&value, cli->json ? s_json_item : s_topic_row); /* none is fine */
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

static int
s_topic_purge (cli_t *cli, const char *topic) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    if (cli->dry_run) {
        fprintf (stderr, "would purge all that waits in %s:\n", topic);
        return s_topic_list (cli, topic);
    }
    if (!cli->yes) {
        return cli_fail (CLI_USAGE, "purge throws events away: say --yes, or --dry-run to look");
    }
    s_request (&request, "PURGE", topic, 0);
    int rc = cli_call (cli, &request, &value);
    if (rc == CLI_OK && cli->json) {
        cli_print_json (&value);
    } else if (rc == CLI_OK) {
        fprintf (stderr, "purged %llu events of %s\n",
                 (unsigned long long)cli_number (ef_cursor (value.data, value.size), "purged"),
                 topic);
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

static int
s_topic_number (cli_t *cli, const char *command, const char *topic, const char *number) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    uint64_t count;
    if (cli_count (command, number, &count)) {
        return CLI_USAGE;
    }
    s_request (&request, command, topic, 1);
    ef_put_uint (&request, count);
    int rc = cli_call (cli, &request, &value);
    if (rc == CLI_OK) {
        if (s_each_item (&value, s_json_item) == 0 && cli->json) {
            cli_print_json (&value);
        }
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

int
cli_topic (cli_t *cli) {
    const char *limit = "10";
    const cli_flag_t flags[] = {{"limit", &limit, NULL}};
    int rc = cli_flags (cli, flags, 1);
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";
    const char *topic = cli->argc > 1 ? cli->argv[1] : NULL;
    if (rc) {
        return rc;
    }
    if (strcmp (verb, "ls") == 0 || strcmp (verb, "list") == 0) {
        return s_topic_list (cli, NULL);
    }
    if (topic == NULL) {
        return cli_fail (
            CLI_USAGE,
            "topic: expected ls, or info, pause, resume, drain, peek, purge, scale NAME");
    }
    if (strcmp (verb, "info") == 0) {
        return s_topic_list (cli, topic);
    }
    if (strcmp (verb, "pause") == 0) {
        return s_simple (cli, "PAUSE", topic, "paused: publishing goes on, nothing is handed out");
    }
    if (strcmp (verb, "resume") == 0) {
        return s_simple (cli, "RESUME", topic, "resumed");
    }
    if (strcmp (verb, "drain") == 0) {
        return s_simple (cli, "DRAIN", topic,
                         "drains: what it holds is processed, nothing new taken");
    }
    if (strcmp (verb, "purge") == 0) {
        return s_topic_purge (cli, topic);
    }
    if (strcmp (verb, "peek") == 0) {
        return s_topic_number (cli, "PEEK", topic, limit);
    }
    if (strcmp (verb, "scale") == 0 && cli->argc > 2) {
        return s_topic_number (cli, "SCALE", topic, cli->argv[2]);
    }
    return cli_fail (CLI_USAGE, "topic %s: see eventflow topic --help", verb);
}

static void
s_worker_row (ef_cursor_t item) {
    char name[80];
    char host[40];
    ef_cursor_t topics;
    ef_buf_t list = {0};
    cli_text (item, "worker", name, sizeof name);
    cli_text (item, "host", host, sizeof host);
    if (!cli_find (item, "topics", &topics) || ef_json_print (&list, &topics)) {
        ef_buf_clear (&list);
    }
    printf ("%-24s %-16s %8llu %6llu %9llu %9llu %8llu %.*s\n", name, host,
            (unsigned long long)cli_number (item, "pid"),
            (unsigned long long)cli_number (item, "credit"),
            (unsigned long long)cli_number (item, "in_flight"),
            (unsigned long long)cli_number (item, "done"),
            (unsigned long long)cli_number (item, "failed"), (int)list.size,
            (const char *)list.data);
    ef_buf_free (&list);
}

int
cli_worker (cli_t *cli) {
    int rc = cli_flags (cli, NULL, 0);
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    if (rc == CLI_OK && (cli->argc < 1 || strcmp (cli->argv[0], "ls") != 0)) {
        rc = cli_fail (CLI_USAGE, "worker: expected ls");
    }
    s_request (&request, "WORKERS", NULL, 0);
    rc = rc ? rc : cli_call (cli, &request, &value);
    if (rc == CLI_OK) {
        if (!cli->json) {
            printf ("%-24s %-16s %8s %6s %9s %9s %8s %s\n", "WORKER", "HOST", "PID", "CREDIT",
                    "IN FLIGHT", "DONE", "FAILED", "TOPICS");
        }
        (void)s_each_item (&value, cli->json ? s_json_item : s_worker_row); /* none is fine */
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

int
cli_server (cli_t *cli) {
    int rc = cli_flags (cli, NULL, 0);
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";
    if (rc) {
        return rc;
    }
    if (strcmp (verb, "drain") == 0 || strcmp (verb, "stop") == 0) {
        return s_simple (cli, "SHUTDOWN", NULL, "the broker finishes what is in flight and ends");
    }
    return cli_fail (CLI_USAGE, "server: expected drain or stop");
}

/* The broker itself judges, so that there is one reading of a configuration. */
int
cli_config (cli_t *cli) {
    int rc = cli_flags (cli, NULL, 0);
    if (rc) {
        return rc;
    }
    if (cli->argc < 2 || strcmp (cli->argv[0], "check") != 0) {
        return cli_fail (CLI_USAGE, "config: expected check FILE");
    }
    char path[4096];
    ssize_t size = readlink ("/proc/self/exe", path, sizeof path - 16);
    path[size > 0 ? size : 0] = 0;
    char *slash = strrchr (path, '/');
    if (slash) {
        strcpy (slash + 1, "eventflowd");
    }
    if (access (path, X_OK) != 0) {
        strcpy (path, "eventflowd");
    }
    (void)execlp (path, "eventflowd", "--config", cli->argv[1], "--check", (char *)NULL);
    return cli_fail (CLI_FAILED, "eventflowd isn't installed beside this tool or on the path");
}
