/* What a worker has answered and the broker hasn't confirmed yet. SPDX-License-Identifier: MIT

   Role: gathers tags that are done into runs, makes ACKs and NACKs, sends them, says them again
   after a reconnect, and drops them once ACKED covers them. Owns: the answers. Invariants: they
   stand in order of seq; a tag is in one of them, or in the run that is gathered. One thread. */
#ifndef EF_ANSWERS_H
#define EF_ANSWERS_H

#include "eventflow.h"
#include "link.h"

#define EF_DOWNSTREAM_MAX 255 /* a host name's length */

typedef struct answer_s answer_t;

typedef struct {
    answer_t *first; /* owned queue */
    answer_t *last;
    answer_t *gathering;                    /* the ACK under way, or NULL */
    char downstream[EF_DOWNSTREAM_MAX + 1]; /* of the run */
    uint64_t run_first; /* tags done one after the other and not yet said: [first, last] */
    uint64_t run_last;  /* 0: none */
    uint64_t seq;
    uint64_t done; /* tags, total */
} ef_answers_t;

void ef_answers_free (ef_answers_t *self);

/* False: the downstream is too long, or the result no MessagePack value, or too large. */
bool ef_answers_is_sayable (const eventflow_answer_t *words);
/* EVENTFLOW_OK, or EVENTFLOW_INVALID: `words` (may be NULL) can't be said. Nothing is kept then. */
EF_MUST_USE int ef_answers_add (ef_answers_t *self, uint64_t tag, eventflow_result_t result,
                                const eventflow_answer_t *words);

/* Ends the run and, where `link` isn't NULL, sends what wasn't sent yet. */
void ef_answers_flush (ef_answers_t *self, ef_link_t *link, ef_buf_t *header, uint64_t now_ms);

/* Answers up to `seq` are durable; `cursor` stands at ACKED's map. One whose events were refused
   did nothing: its event fails instead. */
void ef_answers_acked (ef_answers_t *self, uint64_t seq, ef_cursor_t *cursor);

/* All of them are to be said again. */
void ef_answers_resend (ef_answers_t *self);

/* How many items of a tags array they are, and those items. */
uint32_t ef_answers_count (const ef_answers_t *self);
void ef_answers_put_tags (const ef_answers_t *self, ef_buf_t *out);

#endif
