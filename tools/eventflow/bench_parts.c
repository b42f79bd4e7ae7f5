/* The roles of the bench's children. SPDX-License-Identifier: MIT

   Payloads are random, their first eight bytes a checksum of the rest; ids count up from 0 as 16
   hex digits; with keys, event n bears key n modulo their number. A receiver verifies all of it. */
#include "bench.h"

#include <stdlib.h>
#include <zmq.h>

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

static bool
s_is_right (const uint8_t *payload, size_t size) {
    uint64_t sum;
    if (size < 16) {
        return false;
    }
    memcpy (&sum, payload, 8);
    return sum == s_checksum (payload + 8, size - 8);
}

static void
s_tell_time (void) {
    printf ("%llu\n", (unsigned long long)ef_mono_ns ());
    fflush (stdout);
}

static void
s_tell_counts (const bench_counts_t *counts) {
    printf ("%llu %llu %llu %llu %llu\n", (unsigned long long)ef_mono_ns (), counts->distinct,
            counts->wrong, counts->disordered, counts->repeated);
    fflush (stdout);
}

int
bench_counts_read (const char *line, bench_counts_t *counts) {
    int read = sscanf (line, "%llu %llu %llu %llu %llu", &counts->end_ns, &counts->distinct,
                       &counts->wrong, &counts->disordered, &counts->repeated);
    return read == 5 ? 0 : -1;
}

static void
s_hex (char text[17], uint64_t number) {
    static const char digits[] = "0123456789abcdef";
    for (unsigned i = 0; i < 16; i++) {
        text[i] = digits[number >> (60 - 4 * i) & 15];
    }
    text[16] = 0;
}

/* What is said of event n. False: nothing. */
static bool
s_meta (const bench_t *self, uint64_t n, ef_buf_t *meta) {
    char key[17];
    if (self->keys == 0) {
        return false;
    }
    s_hex (key, n % self->keys);
    ef_buf_clear (meta);
    ef_put_map (meta, 1);
    ef_put_key_str (meta, "key", key);
    return true;
}

int
bench_publisher (bench_t *self) {
    eventflow_publisher_options_t options = {
        .endpoint = self->endpoint, .name = "bench", .batch_events = self->batch_events};
    eventflow_publisher_t *publisher = eventflow_publisher_new (&options);
    uint64_t state = ef_random () | 1;
    ef_buf_t payload = {0};
    ef_buf_t meta = {0};
    uint8_t *bytes = calloc (1, self->size);
    ef_assert (bytes != NULL && publisher != NULL);
    s_tell_time ();
    int rc = 0;
    for (uint64_t i = 0; i < self->events && rc == 0; i++) {
        char id[17];
        bool has_meta = s_meta (self, i, &meta);
        s_hex (id, i);
        s_fill (bytes, self->size, &state);
        ef_buf_clear (&payload);
        ef_put_bin (&payload, bytes, self->size);
        rc = eventflow_publish (
            publisher, BENCH_TOPIC, id, (eventflow_bytes_t){payload.data, payload.size},
            has_meta ? &(eventflow_bytes_t){meta.data, meta.size} : NULL, 60000, NULL);
    }
    char code[32] = "";
    char text[256] = "";
    rc = rc ? rc : eventflow_publisher_wait (publisher, 120000, code, text);
    if (rc) {
        fprintf (stderr, "bench: publishing failed: %d %s %s\n", rc, code, text);
    } else {
        s_tell_time ();
    }
    eventflow_publisher_destroy (&publisher);
    ef_buf_free (&payload);
    ef_buf_free (&meta);
    free (bytes);
    return rc ? CLI_FAILED : CLI_OK;
}

typedef struct {
    uint64_t wanted;
    uint64_t *next; /* by key: a first attempt is of this id or a later one */
    uint32_t keys;  /* 1 where events have none */
    uint64_t *seen; /* a bit an id */
    bench_counts_t counts;
} worker_t;

static eventflow_result_t
s_count (void *arg, const eventflow_delivery_t *delivery) {
    worker_t *self = arg;
    const char *id = delivery->id.data;
    uint64_t n = 0;
    for (size_t i = 0; i < delivery->id.size; i++) {
        n = n << 4 | (uint64_t)(id[i] <= '9' ? id[i] - '0' : id[i] - 'a' + 10);
    }
    ef_cursor_t cursor = ef_cursor (delivery->payload.data, delivery->payload.size);
    ef_span_t bytes;
    if (n >= self->wanted || ef_get_bytes (&cursor, &bytes)) {
        self->counts.wrong++;
        return EVENTFLOW_DONE;
    }
    self->counts.wrong += !s_is_right ((const uint8_t *)bytes.data, bytes.size);
    if (delivery->attempt > 1) {
        self->counts.repeated++;
    } else {
        uint64_t *next = &self->next[n % self->keys];
        self->counts.disordered += n < *next;
        *next = n + 1;
    }
    self->counts.distinct += !(self->seen[n / 64] >> (n % 64) & 1);
    self->seen[n / 64] |= 1ull << (n % 64);
    return EVENTFLOW_DONE;
}

int
bench_worker (bench_t *self) {
    const char *topic = BENCH_TOPIC;
    const char *code;
    const char *text;
    uint32_t keys = self->keys ? self->keys : 1;
    worker_t worker = {.wanted = self->events,
                       .keys = keys,
                       .next = calloc (keys, 8),
                       .seen = calloc (self->events / 64 + 1, 8)};
    eventflow_worker_options_t options = {.endpoint = self->endpoint,
                                          .topics = &topic,
                                          .topic_count = 1,
                                          .credit = BENCH_CREDIT,
                                          .handle = s_count,
                                          .arg = &worker};
    ef_assert (worker.seen != NULL && worker.next != NULL);
    s_tell_time ();
    eventflow_worker_t *link = eventflow_worker_new (&options);
    while (worker.counts.distinct < self->events && eventflow_worker_step (link, 1000)) {
        if (eventflow_worker_refused (link, &code, &text)) {
            fprintf (stderr, "bench: the worker is refused: %s %s\n", code, text);
            return CLI_REFUSED;
        }
    }
    s_tell_counts (&worker.counts);
    eventflow_worker_drain (link);
    for (unsigned i = 0; i < 100 && eventflow_worker_step (link, 50); i++) {
    }
    eventflow_worker_destroy (&link);
    free (worker.seen);
    free (worker.next);
    return CLI_OK;
}

int
bench_raw_push (bench_t *self) {
    void *context = zmq_ctx_new ();
    void *socket = zmq_socket (context, ZMQ_PUSH);
    uint64_t state = ef_random () | 1;
    uint8_t *bytes = calloc (1, self->size);
    ef_assert (bytes != NULL);
    if (zmq_connect (socket, self->endpoint)) {
        return cli_fail (CLI_FAILED, "bench: %s: %s", self->endpoint, zmq_strerror (zmq_errno ()));
    }
    s_tell_time ();
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

int
bench_raw_pull (bench_t *self) {
    void *context = zmq_ctx_new ();
    void *socket = zmq_socket (context, ZMQ_PULL);
    char endpoint[128] = "";
    size_t size = sizeof endpoint;
    zmq_msg_t message;
    bench_counts_t counts = {0};
    if (zmq_bind (socket, "tcp://127.0.0.1:*") ||
        zmq_getsockopt (socket, ZMQ_LAST_ENDPOINT, endpoint, &size)) {
        return cli_fail (CLI_FAILED, "bench: can't bind: %s", zmq_strerror (zmq_errno ()));
    }
    printf ("%s\n", endpoint);
    fflush (stdout);
    zmq_msg_init (&message);
    while (counts.distinct < self->events) {
        if (zmq_msg_recv (&message, socket, 0) < 0) {
            return CLI_FAILED;
        }
        counts.wrong += zmq_msg_size (&message) != self->size ||
                        !s_is_right (zmq_msg_data (&message), self->size);
        counts.distinct++;
    }
    s_tell_counts (&counts);
    zmq_msg_close (&message);
    zmq_close (socket);
    zmq_ctx_term (context);
    return CLI_OK;
}
