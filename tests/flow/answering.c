/* A worker on libeventflow that does what each event's payload says and prints what it is told.
   SPDX-License-Identifier: MIT */
#include "../../clients/c/eventflow.h"
#include "../../proto/buf.h"
#include "../../proto/cursor.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct {
    eventflow_worker_t *worker;
    char hold[16]; /* what the event that was put off said */
} answering_t;

static void
s_print (const char *what, eventflow_bytes_t bytes) {
    printf (" %s=%.*s", what, (int)bytes.size, bytes.size ? (const char *)bytes.data : "");
}

static void
s_tell (const eventflow_delivery_t *delivery) {
    printf ("event attempt=%u n=%llu lease=%s", delivery->attempt, (unsigned long long)delivery->n,
            delivery->deadline_ms ? "told" : "unknown");
    s_print ("id", delivery->id);
    s_print ("key", delivery->key);
    s_print ("user", delivery->user);
    s_print ("downstream", delivery->downstream);
    printf ("\n");
}

static eventflow_result_t
s_handle (void *arg, const eventflow_delivery_t *delivery) {
    answering_t *self = arg;
    char word[16] = "";
    char large[300];
    ef_span_t text = {NULL, 0};
    ef_cursor_t payload = ef_cursor (delivery->payload.data, delivery->payload.size);
    static const uint8_t result[] = {0x81, 0xa1, 'k', 0x2a};             /* {"k": 42} */
    static const uint8_t emitted[] = {0x93, 0xa2, 'd', 'b', 0xc0, 0x07}; /* ["db", nil, 7] */
    eventflow_answer_t words = {.retry_ms = -1, .code = "LATE", .text = "not now"};
    eventflow_bytes_t bytes = {result, sizeof result};
    eventflow_bytes_t events = {emitted, sizeof emitted};
    s_tell (delivery);
    if (ef_get_str (&payload, &text) == 0) {
        ef_span_copy (text, word, sizeof word);
    }
    if (strcmp (word, "result") == 0 || strcmp (word, "both") == 0) {
        words.result = &bytes;
    }
    if (strcmp (word, "emit") == 0 || strcmp (word, "both") == 0) {
        words.events = &events;
    }
    if (strcmp (word, "hold") == 0 || strcmp (word, "extend") == 0) {
        memcpy (self->hold, word, sizeof word);
        return EVENTFLOW_LATER;
    }
    if (strcmp (word, "unsayable") == 0) {
        memset (large, 'x', sizeof large);
        large[sizeof large - 1] = 0;
        words.downstream = large;
        printf ("said %d\n", eventflow_worker_explain (self->worker, &words));
        bytes.size = 3;
        words.downstream = NULL;
        words.result = &bytes;
        printf ("said %d\n", eventflow_worker_explain (self->worker, &words));
        return EVENTFLOW_DONE;
    }
    words.downstream = strcmp (word, "plain") == 0 ? NULL : "smtp.example.org";
    words.retry_ms = strcmp (word, "retry") == 0 || strcmp (word, "release") == 0 ? 1500 : -1;
    if (eventflow_worker_explain (self->worker, &words)) {
        printf ("can't be said\n");
    }
    return strcmp (word, "retry") == 0     ? EVENTFLOW_RETRY
           : strcmp (word, "dead") == 0    ? EVENTFLOW_DEAD
           : strcmp (word, "release") == 0 ? EVENTFLOW_RELEASE
                                           : EVENTFLOW_DONE;
}

static void
s_on_expiring (void *arg, uint64_t tag, uint32_t left_ms) {
    answering_t *self = arg;
    printf ("expiring left=%s\n", left_ms > 0 && left_ms < 60000 ? "some" : "wrong");
    if (strcmp (self->hold, "extend") == 0) {
        printf ("extended %d\n", eventflow_worker_extend (self->worker, tag, 45000));
    }
}

static void
s_on_cancel (void *arg, uint64_t tag, const char *reason) {
    answering_t *self = arg;
    eventflow_answer_t words = {.retry_ms = -1, .code = "CANCELLED"};
    printf ("cancel reason=%s\n", reason);
    printf ("answered %d\n",
            eventflow_worker_answer (self->worker, tag, EVENTFLOW_RELEASE, &words));
}

int
main (int argc, char **argv) {
    answering_t self = {.worker = NULL};
    const char *topic = argc > 1 ? argv[1] : "api";
    eventflow_worker_options_t options = {.topics = &topic,
                                          .topic_count = 1,
                                          .name = "answering",
                                          .handle = s_handle,
                                          .cancel = s_on_cancel,
                                          .expiring = s_on_expiring,
                                          .arg = &self};
    (void)setvbuf (stdout, NULL, _IOLBF, 0); /* lines are read as they come */
    self.worker = eventflow_worker_new (&options);
    eventflow_worker_run (self.worker, NULL);
    eventflow_worker_destroy (&self.worker);
    return 0;
}
