/* What went wrong, as RFC 9457 has it, with the protocol's codes. SPDX-License-Identifier: MIT

   {"type": "urn:eventflow:CODE", "title", "status", "detail", "code", "instance"}, as
   application/problem+json. `code` is one of proto/status.h or one of those below; the HTTP status
   follows from it. */
#ifndef EF_WEB_PROBLEM_H
#define EF_WEB_PROBLEM_H

#include "server.h"

typedef struct {
    const char *code;
    unsigned status;
    unsigned retry_s; /* Retry-After, 0: none */
    const char *title;
} problem_t;

/* The row of a code; one for INTERNAL where it isn't known. */
const problem_t *problem_find (const char *code);

/* Answers the call. `format` is the detail; NULL: none. */
void problem_answer (call_t *call, const char *code, const char *format, ...) EF_PRINTF (3, 4);
/* With more members: `more` is JSON text as `"errors":[…]`, NULL: none. */
void problem_answer_more (call_t *call, const char *code, const char *more, const char *format, ...)
    EF_PRINTF (4, 5);
/* Appends the problem as a JSON object (for lists of outcomes). */
void problem_put (ef_buf_t *out, const char *code, const char *detail);

#endif
