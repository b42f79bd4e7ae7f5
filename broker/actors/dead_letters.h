/* The dead-letter actor: one journal a topic, and the work that people do with it.
   SPDX-License-Identifier: MIT

   Role: appends what dies, gives back what is replayed, lists and shows. Owns: the dead-letter
   journals. Talks to: the router, by ef_dead_message_t, handed over. Answers that find the ring
   full wait in a queue. On failure: `failed` says why; the broker stops. */
#ifndef EF_DEAD_LETTERS_H
#define EF_DEAD_LETTERS_H

#include "../base/actor.h"
#include "dead_log.h"
#include "finder.h"

typedef enum {
    EF_DEAD_ADD,      /* in: a letter (dead, copied) */
    EF_DEAD_RETURNED, /* in: b is durable in the main journal */
    EF_DEAD_WANT,     /* in: up to `count` overflow letters */
    EF_DEAD_ADMIN,    /* in: a request; out: its answer */
    EF_DEAD_FIND,     /* in and out: `token` is an ef_question_t that the finder has answered */
    EF_DEAD_DURABLE,  /* out: everything up to m */
    EF_DEAD_RETURN,   /* out: move b */
} ef_dead_kind_t;

typedef struct ef_dead_message_s {
    struct ef_dead_message_s *next; /* in the actor's queue behind a full ring */
    ef_dead_kind_t kind;
    char topic[EF_TOPIC_NAME_BYTES];
    uint64_t number; /* m or b */
    uint32_t count;
    bool purge;
    ef_dead_t dead;           /* spans point into `bytes` */
    ef_letter_body_t *bodies; /* owned, `count` of them */
    ef_buf_t bytes;           /* owned: a letter's bytes, a request, an answer */
    void *token; /* whom the answer is for: the router's, owned until it takes it back */
} ef_dead_message_t;

ef_dead_message_t *ef_dead_message_new (ef_dead_kind_t kind, const char *topic);
void ef_dead_message_destroy (ef_dead_message_t **self_p);

typedef struct ef_dead_letters_s ef_dead_letters_t;

/* Opens every journal under `path`, calling `each` with its topic and highest m. NULL: `error` says
   why and *code is an exit code. */
ef_dead_letters_t *ef_dead_letters_new (const char *path,
                                        void (*each) (void *arg, const char *topic, uint64_t m),
                                        void *arg, char error[512]);
EF_MUST_USE int ef_dead_letters_start (ef_dead_letters_t *self, ef_waker_t *owner);
void ef_dead_letters_destroy (ef_dead_letters_t **self_p); /* stops it */

ef_actor_t *ef_dead_letters_actor (ef_dead_letters_t *self);
int ef_dead_letters_failed (ef_dead_letters_t *self); /* errno, 0: it works */

/* From the router: while it holds, nothing is offered for return. */
void ef_dead_letters_hold (ef_dead_letters_t *self, bool is_held);

/* Completes what the finder found by the letters that are there (dead_find.c). */
void ef_dead_find (ef_dead_letters_t *self, ef_question_t *question);

/* Answers one DLQ request: command behind the first array head is at `request`. */
void ef_dead_admin (ef_dead_letters_t *self, ef_cursor_t request, ef_buf_t *answer);

#endif
