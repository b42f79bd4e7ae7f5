/* eventflow consume. SPDX-License-Identifier: MIT */
#include "cli.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>

typedef struct {
    const char *exec;
    uint64_t limit; /* 0: none */
    uint64_t seen;
    eventflow_worker_t *worker;
} consume_t;

static volatile int s_stop;

static void
s_on_signal (int number) {
    (void)number;
    s_stop++;
}

/* Runs a command with the line on its standard input. */
static eventflow_result_t
s_run (consume_t *self, const ef_buf_t *line) {
    FILE *pipe = popen (self->exec, "w");
    if (pipe == NULL) {
        return EVENTFLOW_RETRY;
    }
    (void)fwrite (line->data, 1, line->size, pipe); /* a command may not want to read it */
    int status = pclose (pipe);
    int code = WIFEXITED (status) ? WEXITSTATUS (status) : 128;
    eventflow_answer_t words = {.number = code, .text = "consume --exec", .retry_ms = -1};
    eventflow_worker_explain (self->worker, &words);
    return code == 0 ? EVENTFLOW_DONE : code == 65 ? EVENTFLOW_DEAD : EVENTFLOW_RETRY;
}

static eventflow_result_t
s_handle (void *arg, const eventflow_delivery_t *delivery) {
    consume_t *self = arg;
    ef_buf_t line = {0};
    ef_event_t event;
    const char *why;
    if (self->limit && self->seen >= self->limit) {
        return EVENTFLOW_RELEASE;
    }
    ef_cursor_t cursor = ef_cursor (delivery->event.data, delivery->event.size);
    ef_json_extra_t extra = {.accepted_ms =
                                 delivery->accepted_ms ? delivery->accepted_ms : ef_wall_ms (),
                             .attempts = delivery->attempt - 1,
                             .errors = {delivery->errors.data, (uint32_t)delivery->errors.size}};
    if (ef_event_read (&cursor, &event, &why) != EF_OK || ef_json_event (&line, &event, &extra)) {
        ef_buf_free (&line);
        return EVENTFLOW_DEAD;
    }
    ef_buf_put (&line, "\n", 1);
    eventflow_result_t result = EVENTFLOW_DONE;
    if (self->exec) {
        result = s_run (self, &line);
    } else if (fwrite (line.data, 1, line.size, stdout) != line.size || fflush (stdout)) {
        result = EVENTFLOW_RELEASE; /* nobody reads any more */
        s_stop = 1;
    }
    self->seen++;
    ef_buf_free (&line);
    return result;
}

int
cli_consume (cli_t *cli) {
    const char *topic = NULL;
    const char *count = NULL;
    const char *credit = NULL;
    consume_t self = {0};
    const cli_flag_t flags[] = {{"topic", &topic, NULL},
                                {"count", &count, NULL},
                                {"exec", &self.exec, NULL},
                                {"credit", &credit, NULL}};
    int rc = cli_flags (cli, flags, sizeof flags / sizeof flags[0]);
    if (rc) {
        return rc;
    }
    if (topic == NULL) {
        return cli_fail (CLI_USAGE, "consume needs --topic");
    }
    uint64_t wanted = 16;
    if ((count && cli_count ("--count", count, &self.limit)) ||
        (credit && cli_count ("--credit", credit, &wanted))) {
        return CLI_USAGE;
    }
    eventflow_worker_options_t options = {.endpoint = cli->back,
                                          .topics = &topic,
                                          .topic_count = 1,
                                          .credit =
                                              credit ? (uint32_t)strtoul (credit, NULL, 10) : 16,
                                          .heartbeat_ms = 10000,
                                          .handle = s_handle,
                                          .arg = &self};
    if (self.limit && self.limit < options.credit) {
        options.credit = (uint32_t)self.limit;
    }
    self.worker = eventflow_worker_new (&options);
    (void)signal (SIGINT, s_on_signal); /* without them it ends at once, and leases run out */
    (void)signal (SIGTERM, s_on_signal);
    bool is_draining = false;
    while (s_stop < 2 && eventflow_worker_step (self.worker, 100)) {
        const char *code;
        const char *text;
        if (eventflow_worker_refused (self.worker, &code, &text)) {
            rc = cli_fail (strcmp (code, "UNKNOWN_TOPIC") == 0 ? CLI_NOT_FOUND : CLI_REFUSED,
                           "%s: %s", code, text);
            break;
        }
        if ((s_stop || (self.limit && self.seen >= self.limit)) && !is_draining) {
            eventflow_worker_drain (self.worker);
            is_draining = true;
        }
    }
    eventflow_worker_destroy (&self.worker);
    return rc;
}
