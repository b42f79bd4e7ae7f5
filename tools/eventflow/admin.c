/* eventflow status, worker, server, config. SPDX-License-Identifier: MIT */
#include "topic.h"

#include <unistd.h>

int
cli_status (cli_t *cli) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    int rc = cli_flags (cli, NULL, 0);
    cli_request (&request, "STATUS", NULL, 0);
    rc = rc ? rc : cli_call (cli, &request, &value);
    if (rc == CLI_OK && cli->json) {
        cli_print_json (&value);
    } else if (rc == CLI_OK) {
        static const char *const parts[] = {"broker", "process"};
        for (unsigned i = 0; i < 2; i++) {
            ef_cursor_t map;
            if (ef_map_find (cli_root (&value), parts[i], &map)) {
                cli_print_pairs (map, "");
            }
        }
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

/* Appends a name to a list of words; what doesn't fit is cut. */
static void
s_topic_name (void *arg, ef_cursor_t item) {
    char *list = arg;
    char name[64];
    cli_value_text (item, name, sizeof name);
    size_t size = strlen (list);
    snprintf (list + size, 200 - size, "%s%s", size ? "," : "", name);
}

static void
s_worker_row (void *arg, ef_cursor_t item) {
    cli_table_t *table = arg;
    char name[80];
    char host[40];
    char topics[200] = "";
    char text[256];
    ef_map_text (item, "worker", name, sizeof name);
    ef_map_text (item, "host", host, sizeof host);
    static const char *const numbers[] = {"pid",    "credit",      "in_flight",  "done",
                                          "failed", "took_p50_ms", "took_p99_ms"};
    cli_cell (table, name);
    cli_cell (table, host);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        cli_cell_number (table, ef_map_uint (item, numbers[i]));
    }
    snprintf (text, sizeof text, "%.1fs", (double)ef_map_uint (item, "cpu_ms") / 1000);
    cli_cell (table, ef_map_uint (item, "cpu_ms") ? text : "");
    snprintf (text, sizeof text, "%.1fMiB", (double)ef_map_uint (item, "rss_bytes") / 1048576);
    cli_cell (table, ef_map_uint (item, "rss_bytes") ? text : "");
    (void)cli_each (item, "topics", s_topic_name, topics); /* at least one */
    cli_cell (table, topics);
    ef_map_text (item, "unhealthy", text, sizeof text);
    cli_cell (table, text[0] ? text : ef_map_bool (item, "draining") ? "leaving" : "ok");
}

int
cli_worker (cli_t *cli) {
    static const char *const titles[] = {"WORKER",  "HOST",    ">PID",    ">CREDIT", ">IN HAND",
                                         ">DONE",   ">FAILED", ">P50 MS", ">P99 MS", ">CPU",
                                         ">MEMORY", "TOPICS",  "HEALTH"};
    cli_table_t table = CLI_TABLE (titles, "");
    int rc = cli_flags (cli, NULL, 0);
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    if (rc == CLI_OK && (cli->argc < 1 || strcmp (cli->argv[0], "ls") != 0)) {
        rc = cli_fail (CLI_USAGE, "worker: expected ls");
    }
    cli_request (&request, "WORKERS", NULL, 0);
    rc = rc ? rc : cli_call (cli, &request, &value);
    if (rc == CLI_OK) {
        (void)cli_each (cli_root (&value), "items", cli->json ? cli_json_item : s_worker_row,
                        &table); /* none is fine */
    }
    cli_table_end (&table, rc == CLI_OK && !cli->json);
    ef_buf_free (&request);
    ef_buf_free (&value);
    return rc;
}

static void
s_changed (void *arg, ef_cursor_t item) {
    char name[200];
    cli_value_text (item, name, sizeof name);
    printf ("%s %s\n", (const char *)arg, name);
}

static int
s_reload (cli_t *cli) {
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    cli_request (&request, "RELOAD", NULL, 0);
    int rc = cli_call (cli, &request, &value);
    if (rc == CLI_OK && cli->json) {
        cli_print_json (&value);
    } else if (rc == CLI_OK) {
        uint32_t changed = cli_each (cli_root (&value), "changed", s_changed, "changed");
        uint32_t waiting =
            cli_each (cli_root (&value), "needs_restart", s_changed, "needs restart");
        fprintf (stderr, "reloaded: %u changed, %u wait for a restart\n", changed, waiting);
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
        return cli_simple (cli, "SHUTDOWN", NULL, "the broker finishes what is in flight and ends");
    }
    if (strcmp (verb, "reload") == 0) {
        return s_reload (cli);
    }
    return cli_unknown ("verb of server", verb, "drain stop reload");
}

typedef struct {
    cli_t *cli;
    uint32_t shown;
    int rc;
} show_t;

static void
s_show_topic (void *arg, ef_cursor_t item) {
    show_t *self = arg;
    char name[64];
    ef_map_text (item, "topic", name, sizeof name);
    if (self->rc == CLI_OK && name[0] != '$') {
        self->rc = topic_print_settings (self->cli, name, self->shown++ ? "" : "topic\n");
    }
}

static int
s_config_show (cli_t *cli) {
    show_t show = {.cli = cli};
    ef_buf_t request = {0};
    ef_buf_t value = {0};
    if (cli->argc > 1) {
        return topic_print_settings (cli, cli->argv[1], "topic\n");
    }
    cli_request (&request, "TOPICS", NULL, 0);
    show.rc = cli_call (cli, &request, &value);
    if (show.rc == CLI_OK) {
        (void)cli_each (cli_root (&value), "items", s_show_topic, &show); /* its rc says it */
    }
    ef_buf_free (&request);
    ef_buf_free (&value);
    return show.rc;
}

/* The broker itself judges, so that there is one reading of a configuration. */
static int
s_config_check (const char *file) {
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
    (void)execlp (path, "eventflowd", "--config", file, "--check", (char *)NULL);
    return cli_fail (CLI_FAILED, "eventflowd isn't installed beside this tool or on the path");
}

int
cli_config (cli_t *cli) {
    int rc = cli_flags (cli, NULL, 0);
    const char *verb = cli->argc > 0 ? cli->argv[0] : "";
    if (rc) {
        return rc;
    }
    if (strcmp (verb, "check") == 0) {
        return cli->argc > 1 ? s_config_check (cli->argv[1])
                             : cli_fail (CLI_USAGE, "config check: expected a file");
    }
    if (strcmp (verb, "show") == 0) {
        return s_config_show (cli);
    }
    return cli_unknown ("verb of config", verb, "check show");
}
