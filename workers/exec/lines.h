/* What a child and its worker say to each other. SPDX-License-Identifier: MIT

   JSON: a value a line. MessagePack: values back to back. To the child (standard input):

     {"tag": 17, "attempt": 1, "event": {...}}   an event; JSON: as `eventflow consume` prints it,
                                                 MessagePack: [topic, id, payload] or with meta
     {"cancel": 17}                              nobody wants it any more; it is answered all the
   same

   From the child (standard output), in any order:

     {"tag": 17, "result": "done"}               or "retry", "dead", "release"

     code        what went wrong: text or a number       text, trace   the same in words
     retry       ms to wait before the next attempt      value         kept with an event that is
   done emit        [events] accepted with a "done", both or neither, as JSON objects or as [topic,
   id, payload, meta]              downstream    the service that it used

   Keys in any order; others are passed over. Lines without anything are, too.

   Role: writes the first, reads the second; pure. Owns: what was read and not yet taken. */
#ifndef EF_LINES_H
#define EF_LINES_H

#include "../../clients/c/eventflow.h"
#include "../../proto/buf.h"
#include "../../proto/cursor.h"
#include "../../proto/limits.h"

#define LINES_MAX EF_MESSAGE_MAX /* bytes of one answer */

/* Appends an event. 0, or -1: it has no JSON form, and nothing was written. */
EF_MUST_USE int lines_put_event (ef_buf_t *out, bool is_json, const eventflow_delivery_t *delivery);
/* Likewise for a command that answers by its exit status: a line with the payload as JSON, or with
   the whole event. */
EF_MUST_USE int lines_put_plain (ef_buf_t *out, bool is_whole,
                                 const eventflow_delivery_t *delivery);
void lines_put_cancel (ef_buf_t *out, bool is_json, uint64_t tag);

/* An answer; what `words` points to is good until the next one is read. */
typedef struct {
    uint64_t tag;
    eventflow_result_t result;
    eventflow_answer_t words;
} lines_answer_t;

typedef struct {
    bool is_json;
    ef_buf_t bytes; /* from the child */
    size_t at;      /* the next one begins here */
    size_t seen;    /* up to here there is no end of it */
    ef_buf_t value; /* the answer as MessagePack, where it came as JSON */
    ef_buf_t events;
    eventflow_bytes_t events_span;
    eventflow_bytes_t result_span;
    char code[EF_CODE_MAX + 1];
    char text[EF_TEXT_MAX + 1];
    char trace[EF_TRACE_MAX + 1];
    char downstream[256];
} lines_t;

void lines_free (lines_t *self);
/* Where the next bytes may be read to: `*room` of them. */
uint8_t *lines_room (lines_t *self, size_t *room);
void lines_add (lines_t *self, size_t bytes); /* so many were */

/* The next answer. 1; 0: there is none yet; -1: it can't be read: `*why` says what was expected,
   and `self->text` is how it begins. */
EF_MUST_USE int lines_read (lines_t *self, lines_answer_t *answer, const char **why);

#endif
