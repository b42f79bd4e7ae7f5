/* The worker: takes deliveries, tells what became of them. SPDX-License-Identifier: MIT

   Role: one connection, one handler. Owns: the link, the tags in hand, the answers that no ACKED
   has covered yet (answers.c). Invariants: a tag is in `hand` or in an answer until it is ACKED or
   stale; after a reconnect READY names them all as held and the answers are said again. */
#include "../../proto/event.h"
#include "../../proto/limits.h"
#include "answers.h"
#include "delivery.h"

#include <stdio.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define DRAIN_MS 10000 /* for the last ACKEDs to come; then the answers' leases decide */
struct eventflow_worker_s {
    eventflow_worker_options_t options;
    char name[EF_NAME_MAX + 1];
    char host[EF_NAME_MAX + 1];
    char topics[EF_WORKER_TOPICS_MAX][EF_TOPIC_MAX + 1];
    uint64_t lease_ms[EF_WORKER_TOPICS_MAX]; /* of each topic, as WELCOME told; 0: not yet */
    uint32_t topic_count;
    uint8_t session[16];
    ef_link_t link;
    bool is_welcome;
    bool is_draining;
    uint64_t drain_ms; /* when it began to, or had something in hand last */
    uint64_t *hand;    /* owned: tags put off by LATER */
    uint32_t hand_count;
    uint32_t hand_capacity;
    ef_answers_t answers;
    ef_buf_t header;
    eventflow_answer_t words; /* for the handler's return; what it points to is below */
    char code[EF_CODE_MAX + 1];
    char text[EF_TEXT_MAX + 1];
    char trace[EF_TRACE_MAX + 1];
    char downstream[EF_DOWNSTREAM_MAX + 1];
    ef_buf_t events;
    ef_buf_t result;
    eventflow_bytes_t events_span;
    eventflow_bytes_t result_span;
    bool has_words;
    char unhealthy[EF_TEXT_MAX + 1]; /* why, or empty */
    uint64_t ping_ms;                /* when its numbers were said last */
    uint64_t failed;
    char refused_code[32]; /* why READY was refused, or empty */
    char refused_text[256];
    zmq_msg_t frames[2];
};

eventflow_worker_t *
eventflow_worker_new (const eventflow_worker_options_t *options) {
    eventflow_worker_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->options = *options;
    const char *topic = getenv ("EVENTFLOW_TOPIC");
    const char *credit = getenv ("EVENTFLOW_CREDIT");
    for (uint32_t i = 0; options->topics && i < options->topic_count && i < EF_WORKER_TOPICS_MAX;
         i++) {
        snprintf (self->topics[self->topic_count++], EF_TOPIC_MAX + 1, "%s", options->topics[i]);
    }
    if (self->topic_count == 0 && topic) {
        snprintf (self->topics[self->topic_count++], EF_TOPIC_MAX + 1, "%s", topic);
    }
    if (self->topic_count == 0 || options->handle == NULL) {
        free (self);
        return NULL;
    }
    if (self->options.credit == 0) {
        self->options.credit = credit ? (uint32_t)strtoul (credit, NULL, 10) : 16;
    }
    self->options.bytes = self->options.bytes ? self->options.bytes : EF_WORKER_BYTES;
    self->options.heartbeat_ms = self->options.heartbeat_ms ? self->options.heartbeat_ms : 5000;
    if (gethostname (self->host, sizeof self->host - 1)) {
        self->host[0] = 0;
    }
    if (options->name) {
        snprintf (self->name, sizeof self->name, "%s", options->name);
    } else {
        snprintf (self->name, sizeof self->name, "%.40s-%d", self->topics[0], (int)getpid ());
    }
    uint64_t random[2] = {ef_random (), ef_random ()};
    memcpy (self->session, random, 16);
    zmq_msg_init (&self->frames[0]);
    zmq_msg_init (&self->frames[1]);
    ef_link_init (&self->link, options->endpoint, "EVENTFLOW_BACK", "tcp://127.0.0.1:5552");
    return self;
}

void
eventflow_worker_destroy (eventflow_worker_t **self_p) {
    eventflow_worker_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    if (self->is_welcome) {
        ef_buf_clear (&self->header);
        ef_put_array (&self->header, 1);
        ef_put_str (&self->header, "BYE");
        (void)ef_link_send (&self->link, &self->header, NULL,
                            ef_mono_ms ()); /* else silence says it */
    }
    ef_answers_free (&self->answers);
    zmq_msg_close (&self->frames[0]);
    zmq_msg_close (&self->frames[1]);
    ef_link_free (&self->link);
    ef_buf_free (&self->header);
    ef_buf_free (&self->events);
    ef_buf_free (&self->result);
    free (self->hand);
    free (self);
    *self_p = NULL;
}

static void
s_put_held (const eventflow_worker_t *self, ef_buf_t *out) {
    ef_put_array (out, self->hand_count + ef_answers_count (&self->answers));
    for (uint32_t i = 0; i < self->hand_count; i++) {
        ef_put_uint (out, self->hand[i]);
    }
    ef_answers_put_tags (&self->answers, out);
}

static void
s_ready (eventflow_worker_t *self, uint64_t now) {
    const char *token = getenv ("EVENTFLOW_TOKEN");
    ef_buf_t *header = &self->header;
    ef_answers_flush (&self->answers, NULL, header, now); /* what is gathered is held as well */
    ef_buf_clear (header);
    ef_put_array (header, 3);
    ef_put_str (header, "READY");
    ef_put_uint (header, EF_PROTOCOL_VERSION);
    ef_put_map (header, token ? 10 : 9);
    ef_put_str (header, "topics");
    ef_put_array (header, self->topic_count);
    for (uint32_t i = 0; i < self->topic_count; i++) {
        ef_put_str (header, self->topics[i]);
    }
    ef_put_key_uint (header, "credit", self->is_draining ? 0 : self->options.credit);
    ef_put_key_uint (header, "bytes", self->options.bytes);
    ef_put_str (header, "session");
    ef_put_bin (header, self->session, 16);
    ef_put_str (header, "held");
    s_put_held (self, header);
    ef_put_key_uint (header, "heartbeat", self->options.heartbeat_ms);
    ef_put_key_str (header, "name", self->name);
    ef_put_key_str (header, "host", self->host);
    ef_put_key_uint (header, "pid", (uint64_t)getpid ());
    if (token) {
        ef_put_key_str (header, "token", token);
    }
    self->is_welcome = false;
    (void)ef_link_send (&self->link, header, NULL, now); /* unanswered, it is said again */
}

static const char *
s_copy_text (char *out, size_t size, const char *text) {
    if (text) {
        snprintf (out, size, "%s", text);
    }
    return text ? out : NULL;
}

static const eventflow_bytes_t *
s_copy_bytes (ef_buf_t *out, eventflow_bytes_t *span, const eventflow_bytes_t *bytes) {
    ef_buf_clear (out);
    if (bytes) {
        ef_buf_put (out, bytes->data, bytes->size);
    }
    *span = (eventflow_bytes_t){out->data, out->size};
    return bytes ? span : NULL;
}

int
eventflow_worker_explain (eventflow_worker_t *self, const eventflow_answer_t *answer) {
    if (!ef_answers_is_sayable (answer)) {
        return EVENTFLOW_INVALID;
    }
    self->words = *answer;
    self->has_words = true;
    self->words.code = s_copy_text (self->code, sizeof self->code, answer->code);
    self->words.text = s_copy_text (self->text, sizeof self->text, answer->text);
    self->words.trace = s_copy_text (self->trace, sizeof self->trace, answer->trace);
    self->words.downstream =
        s_copy_text (self->downstream, sizeof self->downstream, answer->downstream);
    self->words.events = s_copy_bytes (&self->events, &self->events_span, answer->events);
    self->words.result = s_copy_bytes (&self->result, &self->result_span, answer->result);
    return EVENTFLOW_OK;
}

/* When the lease of a delivery ends: its topic's begins now. By our own clock, which the broker's
   need not agree with. 0: the lease isn't known. */
static uint64_t
s_deadline (const eventflow_worker_t *self, const eventflow_delivery_t *delivery) {
    ef_span_t topic = {delivery->topic.data, (uint32_t)delivery->topic.size};
    for (uint32_t i = 0; i < self->topic_count; i++) {
        if (self->lease_ms[i] && ef_span_is (topic, self->topics[i])) {
            return ef_wall_ms () + self->lease_ms[i];
        }
    }
    return 0;
}

static void
s_events (eventflow_worker_t *self) {
    ef_cursor_t cursor =
        ef_cursor (zmq_msg_data (&self->frames[1]), zmq_msg_size (&self->frames[1]));
    while (ef_cursor_left (&cursor) > 0) {
        eventflow_delivery_t delivery;
        if (ef_delivery_read (&cursor, &delivery)) {
            return; /* a newer broker's form; the lease ends */
        }
        self->has_words = false;
        uint64_t deadline_ms = s_deadline (self, &delivery);
        delivery.deadline_ms = deadline_ms ? deadline_ms : delivery.deadline_ms;
        eventflow_result_t result = self->options.handle (self->options.arg, &delivery);
        self->failed += result == EVENTFLOW_RETRY || result == EVENTFLOW_DEAD;
        if (result != EVENTFLOW_LATER) {
            int rc = ef_answers_add (&self->answers, delivery.tag, result,
                                     self->has_words ? &self->words : NULL);
            ef_assert (rc == EVENTFLOW_OK); /* the words were judged when they were said */
            continue;
        }
        if (self->hand_count == self->hand_capacity) {
            self->hand_capacity = self->hand_capacity ? 2 * self->hand_capacity : 16;
            self->hand = realloc (self->hand, self->hand_capacity * sizeof *self->hand);
            ef_assert (self->hand != NULL);
        }
        self->hand[self->hand_count++] = delivery.tag;
    }
}

static bool
s_take_from_hand (eventflow_worker_t *self, uint64_t tag) {
    for (uint32_t i = 0; i < self->hand_count; i++) {
        if (self->hand[i] == tag) {
            self->hand[i] = self->hand[--self->hand_count];
            return true;
        }
    }
    return false;
}

/* Calls `each` for the tags in hand that a tags array names; it may take them from the hand. */
static void
s_each_named (eventflow_worker_t *self, ef_cursor_t tags,
              void (*each) (eventflow_worker_t *self, uint64_t tag, const void *arg),
              const void *arg) {
    uint32_t count;
    uint64_t first;
    uint64_t last;
    if (ef_get_array (&tags, &count)) {
        return;
    }
    for (uint32_t i = 0; i < count && ef_tags_read (&tags, &first, &last) == 0; i++) {
        for (uint32_t k = self->hand_count; k > 0; k--) {
            if (k <= self->hand_count && self->hand[k - 1] >= first && self->hand[k - 1] <= last) {
                each (self, self->hand[k - 1], arg);
            }
        }
    }
}

/* It stays in hand: it is to be answered all the same, which frees the credit that it takes. */
static void
s_cancel (eventflow_worker_t *self, uint64_t tag, const void *arg) {
    if (self->options.cancel) {
        self->options.cancel (self->options.arg, tag, arg);
    }
}

/* Somebody else's now. */
static void
s_lose (eventflow_worker_t *self, uint64_t tag, const void *arg) {
    (void)s_take_from_hand (self, tag); /* it is there */
    s_cancel (self, tag, arg);
}

static void
s_expiring (eventflow_worker_t *self, uint64_t tag, const void *arg) {
    const uint64_t *left_ms = arg;
    if (self->options.expiring) {
        self->options.expiring (self->options.arg, tag,
                                *left_ms < UINT32_MAX ? (uint32_t)*left_ms : UINT32_MAX);
    }
}

static int
s_read_leases (eventflow_worker_t *self, ef_cursor_t *cursor) {
    uint32_t pairs;
    if (ef_get_map (cursor, &pairs)) {
        return -1;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t topic;
        uint64_t ms;
        if (ef_get_str (cursor, &topic) || ef_get_uint (cursor, &ms)) {
            return -1;
        }
        for (uint32_t k = 0; k < self->topic_count; k++) {
            self->lease_ms[k] = ef_span_is (topic, self->topics[k]) ? ms : self->lease_ms[k];
        }
    }
    return 0;
}

static uint64_t
s_rss_bytes (void) {
    char text[64] = "";
    int file = open ("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t size = file < 0 ? -1 : read (file, text, sizeof text - 1);
    if (file >= 0) {
        close (file);
    }
    const char *second = size > 0 ? strchr (text, ' ') : NULL;
    return second ? strtoull (second, NULL, 10) * (uint64_t)sysconf (_SC_PAGESIZE) : 0;
}

static uint64_t
s_cpu_ms (int who) {
    struct rusage usage = {0};
    (void)getrusage (who, &usage); /* can't fail for these */
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

void
eventflow_worker_numbers (const eventflow_worker_t *self, eventflow_worker_numbers_t *numbers) {
    *numbers =
        (eventflow_worker_numbers_t){.is_connected = self->is_welcome,
                                     .is_draining = self->is_draining,
                                     .busy = self->hand_count,
                                     .done = self->answers.done,
                                     .failed = self->failed,
                                     .cpu_ms = s_cpu_ms (RUSAGE_SELF) + s_cpu_ms (RUSAGE_CHILDREN),
                                     .rss_bytes = s_rss_bytes (),
                                     .name = self->name};
}

/* Tells that it lives, and how it is. */
static void
s_ping (eventflow_worker_t *self, uint64_t now) {
    eventflow_worker_numbers_t numbers;
    ef_buf_t *header = &self->header;
    eventflow_worker_numbers (self, &numbers);
    ef_buf_clear (header);
    ef_put_array (header, 2);
    ef_put_str (header, "PING");
    ef_put_map (header, self->unhealthy[0] ? 7 : 6);
    ef_put_key_str (header, "health", self->unhealthy[0] ? "unhealthy" : "ok");
    if (self->unhealthy[0]) {
        ef_put_key_str (header, "reason", self->unhealthy);
    }
    ef_put_key_uint (header, "busy", numbers.busy);
    ef_put_key_uint (header, "done", numbers.done);
    ef_put_key_uint (header, "failed", numbers.failed);
    ef_put_key_uint (header, "cpu_ms", numbers.cpu_ms);
    ef_put_key_uint (header, "rss", numbers.rss_bytes);
    self->ping_ms = now;
    (void)ef_link_send (&self->link, header, NULL, now); /* silence shows soon enough */
}

void
eventflow_worker_health (eventflow_worker_t *self, const char *reason) {
    bool is_news = strncmp (self->unhealthy, reason ? reason : "", EF_TEXT_MAX) != 0;
    snprintf (self->unhealthy, sizeof self->unhealthy, "%s", reason ? reason : "");
    if (is_news && self->is_welcome) {
        s_ping (self, ef_mono_ms ());
    }
}

/* WELCOME's stale tags are somebody else's now; the rest of the answers is said again. */
static void
s_welcome (eventflow_worker_t *self, ef_cursor_t *cursor) {
    uint32_t pairs;
    uint64_t version;
    self->is_welcome = true;
    ef_link_is_good (&self->link);
    ef_answers_resend (&self->answers);
    if (self->unhealthy[0]) {
        self->ping_ms = 0; /* this connection hasn't heard it */
    }
    if (ef_get_uint (cursor, &version) || ef_get_map (cursor, &pairs)) {
        return;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        if (ef_get_str (cursor, &key)) {
            return;
        }
        ef_cursor_t value = *cursor;
        if (ef_skip (cursor)) {
            return;
        }
        if (ef_span_is (key, "stale")) {
            s_each_named (self, value, s_lose, "the lease was lost with the connection");
        } else if (ef_span_is (key, "lease") && s_read_leases (self, &value)) {
            return;
        }
    }
}

/* CANCEL and EXPIRING: tags, and a reason or the ms that are left. */
static void
s_about_tags (eventflow_worker_t *self, ef_cursor_t cursor, bool is_cancel) {
    ef_cursor_t tags = cursor;
    ef_span_t reason = {NULL, 0};
    uint64_t left_ms = 0;
    char text[200];
    if (ef_skip (&cursor)) {
        return;
    }
    if (!is_cancel) {
        if (ef_get_uint (&cursor, &left_ms) == 0) {
            s_each_named (self, tags, s_expiring, &left_ms);
        }
        return;
    }
    if (ef_get_str (&cursor, &reason)) {
        reason.size = 0;
    }
    ef_span_copy (reason, text, sizeof text);
    s_each_named (self, tags, s_cancel, text);
}

static void
s_handle (eventflow_worker_t *self, uint64_t now) {
    ef_cursor_t cursor =
        ef_cursor (zmq_msg_data (&self->frames[0]), zmq_msg_size (&self->frames[0]));
    uint32_t items;
    ef_span_t command;
    ef_span_t reason;
    uint64_t number;
    if (ef_get_array (&cursor, &items) || ef_get_str (&cursor, &command)) {
        return;
    }
    if (ef_span_is (command, "EVENTS")) {
        s_events (self);
    } else if (ef_span_is (command, "ACKED") && ef_get_uint (&cursor, &number) == 0) {
        ef_answers_acked (&self->answers, number, &cursor);
    } else if (ef_span_is (command, "WELCOME")) {
        s_welcome (self, &cursor);
    } else if (ef_span_is (command, "PING")) {
        ef_buf_clear (&self->header);
        ef_put_array (&self->header, 1);
        ef_put_str (&self->header, "PONG");
        (void)ef_link_send (&self->link, &self->header, NULL, now); /* it pings again */
    } else if (ef_span_is (command, "DRAIN")) {
        self->is_draining = true;
    } else if (ef_span_is (command, "CANCEL") || ef_span_is (command, "EXPIRING")) {
        s_about_tags (self, cursor, ef_span_is (command, "CANCEL"));
    } else if (ef_span_is (command, "ERROR") && ef_get_str (&cursor, &reason) == 0) {
        if (ef_span_is (reason, "UNKNOWN_PEER")) {
            s_ready (self, now); /* the broker was started anew */
        } else if (!self->is_welcome) {
            ef_span_copy (reason, self->refused_code, sizeof self->refused_code);
            if (ef_get_str (&cursor, &reason) == 0) {
                ef_span_copy (reason, self->refused_text, sizeof self->refused_text);
            }
        }
    }
}

static void
s_keep_alive (eventflow_worker_t *self, uint64_t now) {
    uint64_t silent = now - self->link.heard_ms;
    if (self->link.socket == NULL) {
        return;
    }
    if (silent > (self->is_welcome ? EF_LIVENESS * (uint64_t)self->options.heartbeat_ms
                                   : EF_LINK_HELLO_MS)) {
        ef_link_close (&self->link, now);
        self->is_welcome = false;
    } else if (self->is_welcome && now - self->ping_ms >= self->options.heartbeat_ms) {
        s_ping (self, now);
    }
}

int
eventflow_worker_step (eventflow_worker_t *self, int timeout_ms) {
    uint64_t now = ef_mono_ms ();
    if (ef_link_open (&self->link, now)) {
        s_ready (self, now);
    }
    if (self->link.socket) {
        if (!ef_link_receive (&self->link, self->frames, now)) {
            int most = (int)self->options.heartbeat_ms / 2;
            (void)ef_link_wait (&self->link, -1,
                                timeout_ms < 0 || timeout_ms > most ? most : timeout_ms);
            now = ef_mono_ms ();
        } else {
            s_handle (self, now);
        }
        /* Everything that is there, in bounds, so that answers go out together but soon. */
        for (unsigned i = 0; i < 16 && ef_link_receive (&self->link, self->frames, now); i++) {
            s_handle (self, now);
        }
    } else {
        uint64_t wait = self->link.retry_ms > now ? self->link.retry_ms - now : 0;
        (void)zmq_poll (NULL, 0, wait < (uint64_t)timeout_ms ? (long)wait : timeout_ms);
        now = ef_mono_ms ();
    }
    ef_answers_flush (&self->answers, self->is_welcome ? &self->link : NULL, &self->header, now);
    s_keep_alive (self, now);
    if (self->is_draining && (self->drain_ms == 0 || self->hand_count > 0)) {
        self->drain_ms = now; /* the last answer may be a moment old */
    }
    bool is_over = self->is_draining && self->hand_count == 0 &&
                   (self->answers.first == NULL || now - self->drain_ms > DRAIN_MS);
    return is_over ? 0 : 1;
}

void
eventflow_worker_run (eventflow_worker_t *self, volatile int *is_stopping) {
    while (eventflow_worker_step (self, 100)) {
        if (is_stopping && *is_stopping && !self->is_draining) {
            eventflow_worker_drain (self);
        }
    }
}

int
eventflow_worker_answer (eventflow_worker_t *self, uint64_t tag, eventflow_result_t result,
                         const eventflow_answer_t *answer) {
    if (result == EVENTFLOW_LATER || (answer && !ef_answers_is_sayable (answer)) ||
        !s_take_from_hand (self, tag)) {
        return EVENTFLOW_INVALID;
    }
    self->failed += result == EVENTFLOW_RETRY || result == EVENTFLOW_DEAD;
    return ef_answers_add (&self->answers, tag, result, answer);
}

int
eventflow_worker_extend (eventflow_worker_t *self, uint64_t tag, uint32_t ms) {
    ef_buf_clear (&self->header);
    ef_put_array (&self->header, 3);
    ef_put_str (&self->header, "EXTEND");
    ef_put_array (&self->header, 1);
    ef_put_uint (&self->header, tag);
    ef_put_uint (&self->header, ms);
    return ef_link_send (&self->link, &self->header, NULL, ef_mono_ms ()) ? EVENTFLOW_TIMEOUT
                                                                          : EVENTFLOW_OK;
}

void
eventflow_worker_drain (eventflow_worker_t *self) {
    self->is_draining = true;
    if (self->is_welcome) {
        ef_buf_clear (&self->header);
        ef_put_array (&self->header, 2);
        ef_put_str (&self->header, "CREDIT");
        ef_put_uint (&self->header, 0);
        (void)ef_link_send (&self->link, &self->header, NULL,
                            ef_mono_ms ()); /* READY says it too */
    }
}

bool
eventflow_worker_refused (const eventflow_worker_t *self, const char **code, const char **text) {
    *code = self->refused_code;
    *text = self->refused_text;
    return self->refused_code[0] != 0 && !self->is_welcome;
}

uint32_t
eventflow_worker_in_hand (const eventflow_worker_t *self) {
    return self->hand_count;
}

uint64_t
eventflow_worker_done (const eventflow_worker_t *self) {
    return self->answers.done;
}

int
eventflow_worker_fd (const eventflow_worker_t *self) {
    int fd = -1;
    size_t size = sizeof fd;
    if (self->link.socket == NULL || zmq_getsockopt (self->link.socket, ZMQ_FD, &fd, &size)) {
        return -1;
    }
    return fd;
}

bool
eventflow_worker_pending (eventflow_worker_t *self) {
    return ef_link_look (&self->link);
}
