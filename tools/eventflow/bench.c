/* eventflow bench: events a second from publish to processed. SPDX-License-Identifier: MIT

   Starts a broker on a directory and ports of its own, one worker process, one publisher process,
   all with shipped defaults. Payloads are random, their first eight bytes a checksum of the rest,
   which the worker verifies; ids are distinct, and the worker counts distinct ones: else the figure
   is void. In the same run raw libzmq PUSH to PULL moves as many messages of the same size between
   two processes. */
#include "cli.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zmq.h>

typedef struct {
    cli_t *cli;
    const char *events_text;
    const char *size_text;
    const char *runs_text;
    const char *role; /* inside: broker's clients started by the bench itself */
    const char *endpoint;
    bool is_unbatched;
    uint64_t events;
    uint32_t size;
    uint32_t runs;
} bench_t;

extern char **environ;

/* xorshift64* (Vigna, 2016). */
static uint64_t
s_next (uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

/* FNV-1a over words: enough to notice a byte that isn't what was sent. */
static uint64_t
s_checksum (const uint8_t *bytes, size_t size) {
    uint64_t sum = 0xcbf29ce484222325u;
    for (size_t i = 0; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy (&word, bytes + i, 8);
        sum = (sum ^ word) * 0x100000001b3u;
    }
    return sum;
}

static void
s_fill (uint8_t *payload, uint32_t size, uint64_t *state) {
    for (uint32_t i = 8; i + 8 <= size; i += 8) {
        uint64_t word = s_next (state);
        memcpy (payload + i, &word, 8);
    }
    uint64_t sum = s_checksum (payload + 8, size - 8);
    memcpy (payload, &sum, 8);
}

/* The publisher's process. */
static int
s_publish (bench_t *self) {
    eventflow_publisher_options_t options = {
        .endpoint = self->endpoint, .name = "bench", .batch_events = self->is_unbatched ? 1 : 0};
    eventflow_publisher_t *publisher = eventflow_publisher_new (&options);
    uint64_t state = ef_random () | 1;
    ef_buf_t payload = {0};
    uint8_t *bytes = calloc (1, self->size);
    ef_assert (bytes != NULL);
    printf ("%llu\n", (unsigned long long)ef_mono_ns ());
    fflush (stdout);
    int rc = 0;
    for (uint64_t i = 0; i < self->events && rc == 0; i++) {
        char id[24];
        static const char digits[] = "0123456789abcdef";
        for (unsigned k = 0; k < 16; k++) {
            id[k] = digits[i >> (60 - 4 * k) & 15];
        }
        id[16] = 0;
        s_fill (bytes, self->size, &state);
        ef_buf_clear (&payload);
        ef_put_bin (&payload, bytes, self->size);
        rc = eventflow_publish (publisher, "bench", id,
                                (eventflow_bytes_t){payload.data, payload.size}, NULL, 60000, NULL);
    }
    char code[32] = "";
    char text[256] = "";
    rc = rc ? rc : eventflow_publisher_wait (publisher, 120000, code, text);
    if (rc) {
        fprintf (stderr, "bench: publishing failed: %d %s %s\n", rc, code, text);
    }
    eventflow_publisher_destroy (&publisher);
    ef_buf_free (&payload);
    free (bytes);
    return rc ? CLI_FAILED : CLI_OK;
}

typedef struct {
    uint64_t wanted;
    uint64_t distinct;
    uint64_t wrong;
    uint64_t *seen; /* a bit an id */
} count_t;

static eventflow_result_t
s_count (void *arg, const eventflow_delivery_t *delivery) {
    count_t *self = arg;
    const char *id = delivery->id.data;
    uint64_t n = 0;
    for (size_t i = 0; i < delivery->id.size; i++) {
        n = n << 4 | (uint64_t)(id[i] <= '9' ? id[i] - '0' : id[i] - 'a' + 10);
    }
    ef_cursor_t cursor = ef_cursor (delivery->payload.data, delivery->payload.size);
    ef_span_t bytes;
    uint64_t sum = 0;
    if (n >= self->wanted || ef_get_bytes (&cursor, &bytes) || bytes.size < 16) {
        self->wrong++;
        return EVENTFLOW_DONE;
    }
    memcpy (&sum, bytes.data, 8);
    self->wrong += sum != s_checksum ((const uint8_t *)bytes.data + 8, bytes.size - 8);
    self->distinct += !(self->seen[n / 64] >> (n % 64) & 1);
    self->seen[n / 64] |= 1ull << (n % 64);
    return EVENTFLOW_DONE;
}

/* The worker's process: prints when the last distinct event came. */
static int
s_work (bench_t *self) {
    const char *topic = "bench";
    count_t count = {.wanted = self->events, .seen = calloc (self->events / 64 + 1, 8)};
    eventflow_worker_options_t options = {.endpoint = self->endpoint,
                                          .topics = &topic,
                                          .topic_count = 1,
                                          .credit = 8192,
                                          .handle = s_count,
                                          .arg = &count};
    ef_assert (count.seen != NULL);
    eventflow_worker_t *worker = eventflow_worker_new (&options);
    while (count.distinct < self->events && eventflow_worker_step (worker, 1000)) {
    }
    printf ("%llu %llu %llu\n", (unsigned long long)ef_mono_ns (),
            (unsigned long long)count.distinct, (unsigned long long)count.wrong);
    fflush (stdout);
    eventflow_worker_drain (worker);
    for (unsigned i = 0; i < 100 && eventflow_worker_step (worker, 50); i++) {
    }
    eventflow_worker_destroy (&worker);
    free (count.seen);
    return CLI_OK;
}

static int
s_raw_push (bench_t *self) {
    void *context = zmq_ctx_new ();
    void *socket = zmq_socket (context, ZMQ_PUSH);
    uint64_t state = ef_random () | 1;
    uint8_t *bytes = calloc (1, self->size);
    ef_assert (bytes != NULL);
    if (zmq_connect (socket, self->endpoint)) {
        return CLI_FAILED;
    }
    printf ("%llu\n", (unsigned long long)ef_mono_ns ());
    fflush (stdout);
    for (uint64_t i = 0; i < self->events; i++) {
        s_fill (bytes, self->size, &state);
        if (zmq_send (socket, bytes, self->size, 0) < 0) {
            return CLI_FAILED;
        }
    }
    zmq_close (socket);
    zmq_ctx_term (context);
    free (bytes);
    return CLI_OK;
}

static int
s_raw_pull (bench_t *self) {
    void *context = zmq_ctx_new ();
    void *socket = zmq_socket (context, ZMQ_PULL);
    zmq_msg_t message;
    uint64_t wrong = 0;
    uint64_t count = 0;
    zmq_msg_init (&message);
    if (zmq_bind (socket, self->endpoint)) {
        return CLI_FAILED;
    }
    while (count < self->events && zmq_msg_recv (&message, socket, 0) >= 0) {
        uint64_t sum;
        const uint8_t *bytes = zmq_msg_data (&message);
        memcpy (&sum, bytes, 8);
        wrong += sum != s_checksum (bytes + 8, zmq_msg_size (&message) - 8);
        count++;
    }
    printf ("%llu %llu %llu\n", (unsigned long long)ef_mono_ns (), (unsigned long long)count,
            (unsigned long long)wrong);
    fflush (stdout);
    zmq_msg_close (&message);
    zmq_close (socket);
    zmq_ctx_term (context);
    return CLI_OK;
}

/* Starts this program in another role; its standard output comes by `*output`. */
static pid_t
s_start (bench_t *self, const char *role, const char *endpoint, int *output) {
    char events[24];
    char size[16];
    snprintf (events, sizeof events, "%llu", (unsigned long long)self->events);
    snprintf (size, sizeof size, "%u", self->size);
    char *arguments[] = {"eventflow",
                         "bench",
                         "--role",
                         (char *)role,
                         "--endpoint",
                         (char *)endpoint,
                         "--events",
                         events,
                         "--size",
                         size,
                         self->is_unbatched ? "--unbatched" : NULL,
                         NULL};
    int pipes[2];
    pid_t pid = -1;
    posix_spawn_file_actions_t actions;
    if (pipe (pipes)) {
        return -1;
    }
    posix_spawn_file_actions_init (&actions);
    posix_spawn_file_actions_adddup2 (&actions, pipes[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclosefrom_np (&actions, 3);
    if (posix_spawn (&pid, "/proc/self/exe", &actions, NULL, arguments, environ)) {
        pid = -1;
    }
    posix_spawn_file_actions_destroy (&actions);
    close (pipes[1]);
    *output = pipes[0];
    return pid;
}

static int
s_end (pid_t pid) {
    int status = -1;
    (void)waitpid (pid, &status, 0); /* a child of our own */
    return WIFEXITED (status) ? WEXITSTATUS (status) : -1;
}

/* Runs a sender and a receiver; events a second between the first's start and the second's end, 0
   where something was lost or wrong. */
static double
s_measure (bench_t *self, const char *sender, const char *sender_endpoint, const char *receiver,
           const char *receiver_endpoint) {
    int out;
    int in;
    char text[128] = "";
    unsigned long long start = 0;
    unsigned long long end = 0;
    unsigned long long distinct = 0;
    unsigned long long wrong = 0;
    pid_t to = s_start (self, receiver, receiver_endpoint, &in);
    (void)poll (NULL, 0, 200); /* it connects; the clock starts with the sender */
    pid_t from = s_start (self, sender, sender_endpoint, &out);
    FILE *starts = fdopen (out, "r");
    FILE *ends = fdopen (in, "r");
    if (starts && fgets (text, sizeof text, starts)) {
        (void)sscanf (text, "%llu", &start); /* 0 shows below */
    }
    if (ends && fgets (text, sizeof text, ends)) {
        (void)sscanf (text, "%llu %llu %llu", &end, &distinct, &wrong);
    }
    int rc = s_end (from);
    rc = s_end (to) || rc;
    fclose (starts);
    fclose (ends);
    bool is_good = rc == 0 && distinct == self->events && wrong == 0 && end > start && start > 0;
    return is_good ? (double)self->events * 1e9 / (double)(end - start) : 0;
}

typedef struct {
    char directory[64];
    char file[80];
    char endpoints[5][64]; /* ingress, front, back, admin, stats */
    pid_t pid;
} own_broker_t;

static void
s_daemon_path (char path[4096]) {
    ssize_t size = readlink ("/proc/self/exe", path, 4096 - 32);
    path[size > 0 ? size : 0] = 0;
    char *slash = strrchr (path, '/');
    strcpy (slash ? slash + 1 : path, "eventflowd");
    if (access (path, X_OK)) {
        strcpy (slash ? slash + 1 : path, "../../broker/eventflowd");
    }
}

/* A broker on a directory of its own; endpoints are sockets in it. */
static int
s_start_broker (own_broker_t *broker) {
    static const char *const names[] = {"ingress", "front", "back", "admin", "stats"};
    char path[4096];
    const char *base = getenv ("TMPDIR");
    snprintf (broker->directory, sizeof broker->directory, "%.32s/ef-bench-XXXXXX",
              base ? base : "/tmp");
    if (mkdtemp (broker->directory) == NULL) {
        return -1;
    }
    unsigned port = 20000 + (unsigned)(ef_random () % 20000);
    for (unsigned i = 0; i < 5; i++) {
        snprintf (broker->endpoints[i], 64, "tcp://127.0.0.1:%u", port + i);
    }
    snprintf (broker->file, sizeof broker->file, "%s/eventflow.cfg", broker->directory);
    FILE *file = fopen (broker->file, "w");
    if (file == NULL) {
        return -1;
    }
    fprintf (file, "server\n    data = \"%s/data\"\n    log_level = warning\n", broker->directory);
    for (unsigned i = 0; i < 5; i++) {
        fprintf (file, "    %s = \"%s\"\n", names[i], broker->endpoints[i]);
    }
    fprintf (file, "topic\n    bench\n        capacity = 0\n");
    fclose (file);
    s_daemon_path (path);
    char *arguments[] = {"eventflowd", "--config", broker->file, NULL};
    return posix_spawn (&broker->pid, path, NULL, NULL, arguments, environ);
}

static int
s_wait_ready (const own_broker_t *broker) {
    char code[32];
    char text[512];
    eventflow_bytes_t value;
    ef_buf_t request = {0};
    eventflow_admin_t *admin = eventflow_admin_new (broker->endpoints[3]);
    ef_put_array (&request, 1);
    ef_put_str (&request, "STATUS");
    int rc = eventflow_admin_call (admin, (eventflow_bytes_t){request.data, request.size}, 10000,
                                   &value, code, text);
    eventflow_admin_destroy (&admin);
    ef_buf_free (&request);
    return rc;
}

static void
s_stop_broker (own_broker_t *broker) {
    char command[200];
    (void)kill (broker->pid, SIGTERM); /* gone already is as good */
    (void)s_end (broker->pid);
    snprintf (command, sizeof command, "rm -rf '%s'", broker->directory);
    if (system (command)) {
        fprintf (stderr, "bench: %s is left behind\n", broker->directory);
    }
}

static int
s_by_value (const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static int
s_run_all (bench_t *self) {
    double rates[64] = {0};
    double raw[64] = {0};
    for (uint32_t i = 0; i < self->runs; i++) {
        own_broker_t broker = {.pid = -1};
        char endpoint[64];
        if (s_start_broker (&broker) || s_wait_ready (&broker)) {
            return cli_fail (CLI_UNREACHABLE, "the bench's own broker doesn't start");
        }
        rates[i] =
            s_measure (self, "publisher", broker.endpoints[1], "worker", broker.endpoints[2]);
        s_stop_broker (&broker);
        snprintf (endpoint, sizeof endpoint, "tcp://127.0.0.1:%u",
                  41000 + (unsigned)(ef_random () % 9000));
        raw[i] = s_measure (self, "raw-push", endpoint, "raw-pull", endpoint);
        if (rates[i] <= 0 || raw[i] <= 0) {
            return cli_fail (CLI_FAILED, "run %u: events were lost, doubled or changed: no figure",
                             i + 1);
        }
        fprintf (stderr, "run %u: %.0f events/s, raw PUSH to PULL %.0f/s, ratio %.3f\n", i + 1,
                 rates[i], raw[i], rates[i] / raw[i]);
    }
    qsort (rates, self->runs, sizeof *rates, s_by_value);
    qsort (raw, self->runs, sizeof *raw, s_by_value);
    double median = rates[self->runs / 2];
    if (self->cli->json) {
        printf ("{\"events\":%llu,\"size_bytes\":%u,\"runs\":%u,\"unbatched\":%s,\"durability\":"
                "\"sync\","
                "\"events_per_second\":%.0f,\"min\":%.0f,\"max\":%.0f,\"raw_push_pull_per_second\":"
                "%.0f,"
                "\"ratio\":%.4f}\n",
                (unsigned long long)self->events, self->size, self->runs,
                self->is_unbatched ? "true" : "false", median, rates[0], rates[self->runs - 1],
                raw[self->runs / 2], median / raw[self->runs / 2]);
    } else {
        printf ("%.0f durable events/s end to end (median of %u)\n", median, self->runs);
    }
    return CLI_OK;
}

int
cli_bench (cli_t *cli) {
    bench_t self = {.cli = cli, .events_text = "1000000", .size_text = "128", .runs_text = "5"};
    const cli_flag_t flags[] = {
        {"events", &self.events_text, NULL}, {"size", &self.size_text, NULL},
        {"runs", &self.runs_text, NULL},     {"role", &self.role, NULL},
        {"endpoint", &self.endpoint, NULL},  {"unbatched", NULL, &self.is_unbatched},
    };
    int rc = cli_flags (cli, flags, sizeof flags / sizeof flags[0]);
    if (rc) {
        return rc;
    }
    self.events = strtoull (self.events_text, NULL, 10);
    self.size = (uint32_t)strtoul (self.size_text, NULL, 10);
    self.runs = (uint32_t)strtoul (self.runs_text, NULL, 10);
    if (self.events == 0 || self.size < 16 || self.size > 65536 || self.runs < 1 ||
        self.runs > 64) {
        return cli_fail (CLI_USAGE,
                         "bench: expected --events 1 or more, --size 16 to 65536, --runs 1 to 64");
    }
    if (self.role == NULL) {
        return s_run_all (&self);
    }
    return strcmp (self.role, "publisher") == 0  ? s_publish (&self)
           : strcmp (self.role, "worker") == 0   ? s_work (&self)
           : strcmp (self.role, "raw-push") == 0 ? s_raw_push (&self)
                                                 : s_raw_pull (&self);
}
