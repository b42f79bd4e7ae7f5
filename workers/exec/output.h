/* What a command prints, as a part of the answer. SPDX-License-Identifier: MIT

   Role: gathers the bytes, within a bound, and turns them into a result (JSON, else text) or into
   events (JSON, one a line). Owns: its buffers. */
#ifndef EF_OUTPUT_H
#define EF_OUTPUT_H

#include "../../clients/c/eventflow.h"
#include "../../proto/json.h"

typedef enum {
    OUTPUT_INHERITED, /* goes where the worker's own goes */
    OUTPUT_RESULT,    /* is kept with the event */
    OUTPUT_EVENTS     /* is accepted with the acknowledgement */
} output_kind_t;

typedef struct {
    ef_buf_t text;
    ef_buf_t value; /* MessagePack */
    eventflow_bytes_t span;
    bool is_too_large;
} output_t;

void output_free (output_t *self);
void output_add (output_t *self, output_kind_t kind, const void *bytes, size_t size);

/* Puts what was written into a DONE's words, which borrow it. NULL, or why it can't be said. */
const char *output_say (output_t *self, output_kind_t kind, eventflow_answer_t *words);

#endif
