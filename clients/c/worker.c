/* The worker: takes deliveries, tells what became of them. SPDX-License-Identifier: MIT

   Role: one connection, one handler. Owns: the link, the tags in hand, the answers that no ACKED
   has covered yet. Invariants: a tag is in `hand` or in an answer until it is ACKED or stale; after
   a reconnect READY names them all as held and the answers are said again. */
#include "../../proto/event.h"
#include "../../proto/limits.h"
#include "eventflow.h"
#include "delivery.h"
#include "link.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DRAIN_MS 10000 /* for the last ACKEDs to come; then the answers' leases decide */
/* An answer on its way: its frames, to be sent again after a reconnect. */
typedef struct answer_s {
    struct answer_s *next;
    uint64_t seq;
    ef_buf_t tags;    /* items of the tags array */
    uint32_t count;   /* of items */
    ef_buf_t rest;    /* what stands between tags and the options */
    ef_buf_t options; /* pairs */
    uint32_t pairs;
    ef_buf_t events;
    bool is_ack;
    bool is_sent;
} answer_t;

struct eventflow_worker_s {
    eventflow_worker_options_t options;
    char name[EF_NAME_MAX + 1];
    char host[EF_NAME_MAX + 1];
    char topics[EF_WORKER_TOPICS_MAX][EF_TOPIC_MAX + 1];
    uint32_t topic_count;
    uint8_t session[16];
    ef_link_t link;
    bool is_welcome;
    bool is_draining;
    uint64_t drain_ms; /* when it began to */
    uint64_t *hand;    /* owned: tags put off by LATER */
    uint32_t hand_count;
    uint32_t hand_capacity;
    uint64_t run_first; /* tags done one after the other and not yet said: [first, last] */
    uint64_t run_last;  /* 0: none */
    answer_t *answers;  /* owned queue, in order of seq */
    answer_t *answers_last;
    answer_t *gathering; /* the ACK under way, not yet in the queue */
    uint64_t seq;
    uint64_t done;
    ef_buf_t header;
    eventflow_answer_t words; /* for the handler's return; its texts are below */
    char code[EF_CODE_MAX + 1];
    char text[EF_TEXT_MAX + 1];
    char trace[EF_TRACE_MAX + 1];
    bool has_words;
    char refused_code[32]; /* why READY was refused, or empty */
    char refused_text[256];
    zmq_msg_t frames[2];
};

static void
s_free_answer (answer_t *answer) {
    ef_buf_free (&answer->tags);
    ef_buf_free (&answer->rest);
    ef_buf_free (&answer->options);
    ef_buf_free (&answer->events);
    free (answer);
}

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
    while (self->answers) {
        answer_t *answer = self->answers;
        self->answers = answer->next;
        s_free_answer (answer);
    }
    zmq_msg_close (&self->frames[0]);
    zmq_msg_close (&self->frames[1]);
    ef_link_free (&self->link);
    ef_buf_free (&self->header);
    free (self->hand);
    free (self);
    *self_p = NULL;
}

static void
s_put_held (const eventflow_worker_t *self, ef_buf_t *out) {
    uint32_t count = self->hand_count;
    for (const answer_t *answer = self->answers; answer; answer = answer->next) {
        count += answer->count;
    }
    ef_put_array (out, count);
    for (uint32_t i = 0; i < self->hand_count; i++) {
        ef_put_uint (out, self->hand[i]);
    }
    for (const answer_t *answer = self->answers; answer; answer = answer->next) {
        ef_buf_put (out, answer->tags.data, answer->tags.size);
    }
}

static void
s_ready (eventflow_worker_t *self, uint64_t now) {
    const char *token = getenv ("EVENTFLOW_TOKEN");
    ef_buf_t *header = &self->header;
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

static int
s_send_answer (eventflow_worker_t *self, answer_t *answer, uint64_t now) {
    ef_buf_t *header = &self->header;
    ef_buf_clear (header);
    ef_put_array (header, answer->is_ack ? 3 : 5);
    ef_put_str (header, answer->is_ack ? "ACK" : "NACK");
    ef_put_array (header, answer->count);
    ef_buf_put (header, answer->tags.data, answer->tags.size);
    ef_buf_put (header, answer->rest.data, answer->rest.size);
    ef_put_map (header, answer->pairs + 1);
    ef_put_key_uint (header, "seq", answer->seq);
    ef_buf_put (header, answer->options.data, answer->options.size);
    int rc = ef_link_send (&self->link, header, &answer->events, now);
    answer->is_sent = rc == 0;
    return rc;
}

static answer_t *
s_new_answer (eventflow_worker_t *self, bool is_ack) {
    answer_t *answer = calloc (1, sizeof *answer);
    ef_assert (answer != NULL);
    answer->is_ack = is_ack;
    answer->seq = ++self->seq;
    *(self->answers ? &self->answers_last->next : &self->answers) = answer;
    self->answers_last = answer;
    return answer;
}

/* Writes the run of tags into the ACK under way. */
static void
s_end_run (eventflow_worker_t *self) {
    if (self->run_last == 0) {
        return;
    }
    if (self->gathering == NULL) {
        self->gathering = s_new_answer (self, true);
    }
    ef_buf_t *tags = &self->gathering->tags;
    if (self->run_first == self->run_last) {
        ef_put_uint (tags, self->run_first);
    } else {
        ef_put_array (tags, 2);
        ef_put_uint (tags, self->run_first);
        ef_put_uint (tags, self->run_last);
    }
    self->gathering->count++;
    self->run_last = 0;
}

/* Sends what was gathered, and what couldn't be sent before. */
static void
s_flush (eventflow_worker_t *self, uint64_t now) {
    s_end_run (self);
    self->gathering = NULL;
    if (!self->is_welcome) {
        return;
    }
    for (answer_t *answer = self->answers; answer; answer = answer->next) {
        if (!answer->is_sent && s_send_answer (self, answer, now)) {
            break;
        }
    }
}

static void
s_ack (eventflow_worker_t *self, uint64_t tag) {
    if (self->run_last && tag != self->run_last + 1) {
        s_end_run (self);
    }
    self->run_first = self->run_last ? self->run_first : tag;
    self->run_last = tag;
    self->done++;
}

static void
s_ack_with_events (eventflow_worker_t *self, uint64_t tag, const eventflow_bytes_t *events) {
    s_end_run (self);
    self->gathering = NULL;
    answer_t *answer = s_new_answer (self, true);
    ef_put_uint (&answer->tags, tag);
    answer->count = 1;
    ef_buf_put (&answer->events, events->data, events->size);
    self->done++;
}

static void
s_nack (eventflow_worker_t *self, uint64_t tag, eventflow_result_t result,
        const eventflow_answer_t *words) {
    s_end_run (self);
    self->gathering = NULL;
    answer_t *answer = s_new_answer (self, false);
    ef_put_uint (&answer->tags, tag);
    answer->count = 1;
    if (words && words->code) {
        ef_put_str (&answer->rest, words->code);
    } else {
        ef_put_int (&answer->rest, words ? words->number : 0);
    }
    ef_put_str (&answer->rest, words && words->text ? words->text : "");
    if (result == EVENTFLOW_DEAD || result == EVENTFLOW_RELEASE) {
        ef_put_key_bool (&answer->options, result == EVENTFLOW_DEAD ? "dead" : "release", true);
        answer->pairs++;
    }
    if (words && words->retry_ms >= 0) {
        ef_put_key_uint (&answer->options, "retry", (uint64_t)words->retry_ms);
        answer->pairs++;
    }
    if (words && words->trace) {
        ef_put_key_str (&answer->options, "trace", words->trace);
        answer->pairs++;
    }
}

static void
s_answer (eventflow_worker_t *self, uint64_t tag, eventflow_result_t result,
          const eventflow_answer_t *words) {
    if (result == EVENTFLOW_DONE && words && words->events) {
        s_ack_with_events (self, tag, words->events);
    } else if (result == EVENTFLOW_DONE) {
        s_ack (self, tag);
    } else {
        s_nack (self, tag, result, words);
    }
}

void
eventflow_worker_explain (eventflow_worker_t *self, const eventflow_answer_t *answer) {
    self->words = *answer;
    self->has_words = true;
    if (answer->code) {
        snprintf (self->code, sizeof self->code, "%s", answer->code);
        self->words.code = self->code;
    }
    if (answer->text) {
        snprintf (self->text, sizeof self->text, "%s", answer->text);
        self->words.text = self->text;
    }
    if (answer->trace) {
        snprintf (self->trace, sizeof self->trace, "%s", answer->trace);
        self->words.trace = self->trace;
    }
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
        eventflow_result_t result = self->options.handle (self->options.arg, &delivery);
        if (result != EVENTFLOW_LATER) {
            s_answer (self, delivery.tag, result, self->has_words ? &self->words : NULL);
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

/* Answers up to this seq are durable. One whose events were refused did nothing: its event failed.
 */
static void
s_acked (eventflow_worker_t *self, uint64_t seq, ef_cursor_t *cursor) {
    char code[32] = "";
    char text[256] = "";
    bool is_refused = ef_refused_read (cursor, code, text);
    while (self->answers && self->answers->seq <= seq && self->answers != self->gathering) {
        answer_t *answer = self->answers;
        uint64_t tag;
        ef_cursor_t tags = ef_cursor (answer->tags.data, answer->tags.size);
        self->answers = answer->next;
        if (is_refused && answer->seq == seq && answer->events.size > 0 &&
            ef_get_uint (&tags, &tag) == 0) {
            bool is_passing = strcmp (code, "NO_SPACE") == 0 || strcmp (code, "FULL") == 0;
            eventflow_answer_t words = {.code = code, .text = text, .retry_ms = -1};
            self->done--;
            s_nack (self, tag, is_passing ? EVENTFLOW_RETRY : EVENTFLOW_DEAD, &words);
        }
        s_free_answer (answer);
    }
}

static void
s_cancel (eventflow_worker_t *self, uint64_t tag, const char *reason) {
    if (s_take_from_hand (self, tag) && self->options.cancel) {
        self->options.cancel (self->options.arg, tag, reason);
    }
}

/* WELCOME's stale tags are somebody else's now; the rest of the answers is said again. */
static void
s_welcome (eventflow_worker_t *self, ef_cursor_t *cursor) {
    uint32_t pairs;
    uint64_t version;
    self->is_welcome = true;
    ef_link_is_good (&self->link);
    if (ef_get_uint (cursor, &version) || ef_get_map (cursor, &pairs)) {
        return;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        uint32_t count;
        if (ef_get_str (cursor, &key)) {
            return;
        }
        if (!ef_span_is (key, "stale") || ef_get_array (cursor, &count)) {
            if (ef_skip (cursor)) {
                return;
            }
            continue;
        }
        for (uint32_t k = 0; k < count; k++) {
            uint64_t tag;
            if (ef_get_uint (cursor, &tag)) {
                return;
            }
            s_cancel (self, tag, "the lease was lost with the connection");
        }
    }
    for (answer_t *answer = self->answers; answer; answer = answer->next) {
        answer->is_sent = false;
    }
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
        s_acked (self, number, &cursor);
    } else if (ef_span_is (command, "WELCOME")) {
        s_welcome (self, &cursor);
    } else if (ef_span_is (command, "PING")) {
        ef_buf_clear (&self->header);
        ef_put_array (&self->header, 1);
        ef_put_str (&self->header, "PONG");
        (void)ef_link_send (&self->link, &self->header, NULL, now); /* it pings again */
    } else if (ef_span_is (command, "DRAIN")) {
        self->is_draining = true;
    } else if (ef_span_is (command, "CANCEL")) {
        uint32_t count;
        if (ef_get_array (&cursor, &count) == 0) {
            char text[200] = "";
            uint64_t tags[EF_STALE_MAX];
            uint32_t read = 0;
            while (read < count && read < EF_STALE_MAX && ef_get_uint (&cursor, &tags[read]) == 0) {
                read++;
            }
            if (ef_get_str (&cursor, &reason) == 0) {
                ef_span_copy (reason, text, sizeof text);
            }
            for (uint32_t i = 0; i < read; i++) {
                s_cancel (self, tags[i], text);
            }
        }
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
    } else if (self->is_welcome && now - self->link.sent_ms >= self->options.heartbeat_ms) {
        ef_buf_clear (&self->header);
        ef_put_array (&self->header, 1);
        ef_put_str (&self->header, "PING");
        (void)ef_link_send (&self->link, &self->header, NULL, now); /* silence shows soon enough */
    }
}

int
eventflow_worker_step (eventflow_worker_t *self, int timeout_ms) {
    uint64_t now = ef_mono_ms ();
    if (ef_link_open (&self->link, now)) {
        s_ready (self, now);
    }
    if (self->link.socket) {
        zmq_pollitem_t item = {self->link.socket, 0, ZMQ_POLLIN, 0};
        if (!ef_link_receive (&self->link, self->frames, now)) {
            long most = (long)self->options.heartbeat_ms / 2;
            (void)zmq_poll (&item, 1, timeout_ms < 0 || timeout_ms > most ? most : timeout_ms);
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
    s_flush (self, now);
    s_keep_alive (self, now);
    if (self->is_draining && self->drain_ms == 0) {
        self->drain_ms = now;
    }
    bool is_over = self->is_draining && self->hand_count == 0 &&
                   (self->answers == NULL || now - self->drain_ms > DRAIN_MS);
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
    if (result == EVENTFLOW_LATER || !s_take_from_hand (self, tag)) {
        return EVENTFLOW_INVALID;
    }
    s_answer (self, tag, result, answer);
    return EVENTFLOW_OK;
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
    return self->done;
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
