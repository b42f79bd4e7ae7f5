/* eventflow publish. SPDX-License-Identifier: MIT */
#include "publish.h"

#include "../../proto/limits.h"

#include <stdlib.h>
#include <unistd.h>
#include <zmq.h>

typedef struct {
    cli_t *cli;
    const char *topic;
    const char *id;
    meta_words_t meta;
    const char *count;
    const char *rate;
    bool is_push;
    bool is_atomic;
    bool is_single; /* one payload, once: its id is told */
    char assigned[EF_ID_MAX + 1];
    ef_buf_t gathered; /* the events of an atomic publish */
    double per_second;
    eventflow_publisher_t *publisher;
    void *context; /* of --push */
    void *push;
    uint64_t sent;
    uint64_t start_ms;
    uint64_t line;
} publish_t;

static void
s_pace (publish_t *self) {
    if (self->per_second > 0) {
        uint64_t due = self->start_ms + (uint64_t)((double)self->sent * 1000 / self->per_second);
        uint64_t now = ef_mono_ms ();
        if (due > now) {
            (void)zmq_poll (NULL, 0, (long)(due - now));
        }
    }
}

static int
s_send (publish_t *self, const ef_buf_t *event) {
    int rc;
    if (self->is_atomic) {
        ef_buf_put (&self->gathered, event->data, event->size);
        return CLI_OK;
    }
    s_pace (self);
    if (self->is_push) {
        rc = zmq_send (self->push, event->data, event->size, 0) < 0 ? EVENTFLOW_TIMEOUT : 0;
    } else {
        rc =
            eventflow_publish_event (self->publisher, (eventflow_bytes_t){event->data, event->size},
                                     self->cli->timeout_ms, NULL);
    }
    self->sent += rc == 0;
    return rc == 0 ? CLI_OK
                   : cli_fail (CLI_UNREACHABLE, "no broker takes events within %d ms",
                               self->cli->timeout_ms);
}

/* A line of JSON lines: an event in its JSON form; a topic that is said stands in where it has
 * none.
 */
static int
s_send_line (publish_t *self, const char *text, size_t size) {
    ef_buf_t event = {0};
    const char *why = NULL;
    int rc = CLI_OK;
    self->line++;
    if (strspn (text, " \t\r\n") == size) {
        return CLI_OK;
    }
    if (ef_json_to_event (&event, text, size, self->topic, NULL, &why)) {
        rc = cli_fail (CLI_USAGE, "line %llu: expected %s", (unsigned long long)self->line, why);
    } else {
        rc = s_send (self, &event);
    }
    ef_buf_free (&event);
    return rc;
}

static int
s_send_lines (publish_t *self, FILE *file) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t size;
    int rc = CLI_OK;
    while (rc == CLI_OK && (size = getline (&line, &capacity, file)) >= 0) {
        rc = s_send_line (self, line, (size_t)size);
    }
    free (line);
    return rc;
}

static int
s_send_payload (publish_t *self, const char *text, uint64_t count) {
    ef_buf_t payload = {0};
    ef_buf_t meta = {0};
    ef_buf_t event = {0};
    const char *why;
    size_t used = ef_json_parse (&payload, text, strlen (text), &why);
    uint32_t pairs = 0;
    int rc = publish_put_meta (&self->meta, &meta, &pairs);
    if (rc == CLI_OK && used != strlen (text)) {
        rc = cli_fail (CLI_USAGE, "the payload isn't JSON: expected %s",
                       used ? "nothing behind the value" : why);
    } else if (rc == CLI_OK) {
        ef_put_array (&event, pairs ? 4 : 3);
        ef_put_str (&event, self->topic);
        ef_put_str (&event, self->id);
        ef_buf_put (&event, payload.data, payload.size);
        if (pairs) {
            ef_put_map (&event, pairs);
            ef_buf_put (&event, meta.data, meta.size);
        }
        for (uint64_t i = 0; i < count && rc == CLI_OK; i++) {
            rc = s_send (self, &event);
        }
    }
    ef_buf_free (&payload);
    ef_buf_free (&meta);
    ef_buf_free (&event);
    return rc;
}

static void
s_assigned (void *arg, uint64_t ticket, const char *id) {
    publish_t *self = arg; /* looked at once all is decided */
    (void)ticket;
    snprintf (self->assigned, sizeof self->assigned, "%s", id);
}

static int
s_connect (publish_t *self) {
    if (!self->is_push) {
        eventflow_publisher_options_t options = {.endpoint = self->cli->front,
                                                 .name = "eventflow-cli",
                                                 .assigned = self->is_single ? s_assigned : NULL,
                                                 .arg = self};
        self->publisher = eventflow_publisher_new (&options);
        return self->publisher ? CLI_OK : cli_fail (CLI_FAILED, "can't start a thread");
    }
    int timeout = self->cli->timeout_ms;
    self->context = zmq_ctx_new ();
    self->push = zmq_socket (self->context, ZMQ_PUSH);
    (void)zmq_setsockopt (self->push, ZMQ_SNDTIMEO, &timeout, sizeof timeout);
    (void)zmq_setsockopt (self->push, ZMQ_LINGER, &timeout, sizeof timeout);
    return zmq_connect (self->push,
                        self->cli->ingress ? self->cli->ingress : "tcp://127.0.0.1:5550")
               ? cli_fail (CLI_USAGE, "%s isn't an endpoint", self->cli->ingress)
               : CLI_OK;
}

/* Hands over what was gathered for an atomic publish. */
static int
s_send_gathered (publish_t *self) {
    if (self->gathered.size == 0) {
        return CLI_OK;
    }
    int rc = eventflow_publish_atomic (
        self->publisher, (eventflow_bytes_t){self->gathered.data, self->gathered.size},
        self->cli->timeout_ms, NULL);
    return rc == EVENTFLOW_OK ? CLI_OK
                              : cli_fail (CLI_LIMIT, "%zu bytes are too many for one message",
                                          self->gathered.size);
}

/* Waits for the confirms and says what came of it. */
static int
s_finish (publish_t *self, int rc) {
    char code[32];
    char text[256];
    ef_buf_free (&self->gathered);
    if (self->is_push) {
        zmq_close (self->push);
        zmq_ctx_term (self->context);
        if (rc != CLI_USAGE || self->sent > 0) {
            fprintf (stderr, "%llu event%s sent, unconfirmed\n", (unsigned long long)self->sent,
                     cli_s (self->sent));
        }
        return rc;
    }
    int outcome = eventflow_publisher_wait (self->publisher, self->cli->timeout_ms, code, text);
    eventflow_publisher_stats_t stats;
    eventflow_publisher_stats (self->publisher, &stats);
    eventflow_publisher_destroy (&self->publisher);
    if (stats.taken == 0 && rc != CLI_OK) {
        return rc; /* nothing was sent, and that is told */
    }
    if (self->cli->json) {
        uint64_t unknown = stats.taken - stats.accepted - stats.duplicates - stats.refused;
        printf ("{\"accepted\":%llu,\"duplicates\":%llu,\"refused\":%llu,\"unknown\":%llu%s%s%s}\n",
                (unsigned long long)stats.accepted, (unsigned long long)stats.duplicates,
                (unsigned long long)stats.refused, (unsigned long long)unknown,
                self->assigned[0] ? ",\"id\":\"" : "", self->assigned,
                self->assigned[0] ? "\"" : "");
    } else {
        printf ("%s%s", self->assigned, self->assigned[0] ? "\n" : "");
        fprintf (stderr, "%llu event%s confirmed durable", (unsigned long long)stats.accepted,
                 cli_s (stats.accepted));
        if (stats.duplicates > 0) {
            fprintf (stderr, ", %llu known already", (unsigned long long)stats.duplicates);
        }
        fprintf (stderr, "\n");
    }
    if (outcome == EVENTFLOW_REFUSED) {
        return cli_fail (cli_is_limit (code) ? CLI_LIMIT : CLI_REFUSED,
                         "%llu event%s refused: %s: %s", (unsigned long long)stats.refused,
                         cli_s (stats.refused), code, text);
    }
    if (outcome == EVENTFLOW_TIMEOUT) {
        return cli_fail (
            CLI_UNREACHABLE,
            "no confirm within %d ms: the outcome is unknown, sending again is safe only "
            "with ids",
            self->cli->timeout_ms);
    }
    return rc;
}

/* What can be judged before anything is sent. */
static int
s_judge (publish_t *self, bool is_payload, uint64_t *count) {
    self->per_second = self->rate ? cli_rate (self->rate) : 0;
    if (self->per_second < 0) {
        return cli_fail (CLI_USAGE, "--rate %s: expected a rate such as 100/s", self->rate);
    }
    if (self->is_atomic && (self->is_push || self->rate)) {
        return cli_fail (CLI_USAGE, "--atomic sends all at once, confirmed: no --push, no --rate");
    }
    if (self->count && cli_count ("--count", self->count, count)) {
        return CLI_USAGE;
    }
    if (self->meta.at && self->meta.delay) {
        return cli_fail (CLI_USAGE, "--at and --delay both say when: one of them");
    }
    bool has_meta = publish_has_meta (&self->meta);
    if (!is_payload && (self->id || self->count || has_meta)) {
        return cli_fail (CLI_USAGE, "--id, --count and what an event carries go with one payload; "
                                    "a line of a file says them itself");
    }
    if (is_payload && self->topic == NULL && self->meta.type == NULL &&
        self->meta.headers == NULL) {
        return cli_fail (CLI_USAGE, "a payload needs --topic, or --type or --headers for a route");
    }
    return CLI_OK;
}

int
cli_publish (cli_t *cli) {
    publish_t self = {.cli = cli, .start_ms = ef_mono_ms ()};
    const cli_flag_t flags[] = {
        {"topic", &self.topic, NULL},
        {"id", &self.id, NULL},
        {"key", &self.meta.key, NULL},
        {"type", &self.meta.type, NULL},
        {"user", &self.meta.user, NULL},
        {"at", &self.meta.at, NULL},
        {"delay", &self.meta.delay, NULL},
        {"ttl", &self.meta.ttl, NULL},
        {"downstream", &self.meta.downstream, NULL},
        {"schema", &self.meta.schema, NULL},
        {"trace", &self.meta.trace, NULL},
        {"headers", &self.meta.headers, NULL},
        {"on-dead", &self.meta.on_dead, NULL},
        {"count", &self.count, NULL},
        {"rate", &self.rate, NULL},
        {"push", NULL, &self.is_push},
        {"atomic", NULL, &self.is_atomic},
    };
    int rc = cli_flags (cli, flags, sizeof flags / sizeof flags[0]);
    if (rc) {
        return rc;
    }
    const char *what = cli->argc > 0 ? cli->argv[0] : "-";
    bool is_file = what[0] == '@';
    bool is_input = strcmp (what, "-") == 0;
    uint64_t count = 1;
    if (s_judge (&self, !is_file && !is_input, &count)) {
        return CLI_USAGE;
    }
    FILE *file = is_file ? fopen (what + 1, "r") : stdin;
    if (file == NULL) {
        return cli_fail (CLI_NOT_FOUND, "%s can't be read", what + 1);
    }
    self.is_single = !is_file && !is_input && count == 1;
    rc = s_connect (&self);
    if (rc == CLI_OK && (is_file || is_input)) {
        rc = s_send_lines (&self, file);
    } else if (rc == CLI_OK) {
        rc = s_send_payload (&self, what, count);
    }
    rc = rc ? rc : s_send_gathered (&self);
    if (is_file) {
        fclose (file);
    }
    return s_finish (&self, rc);
}
