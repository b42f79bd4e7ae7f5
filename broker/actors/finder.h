/* The finder: what became of an event, read from the log. SPDX-License-Identifier: MIT

   Role: finds events by id or number and lists them, with all that the log says of each; makes the
   sidecars meanwhile. Owns: the index of the log. Talks to: the router, both ways ef_question_t,
   handed over. Invariants: what it says is durable and was read from the log with its checksum; an
   index only says where to look. On failure: what can't be read isn't found. */
#ifndef EF_FINDER_H
#define EF_FINDER_H

#include "../../proto/limits.h"
#include "../base/actor.h"
#include "../core/core.h"
#include "lookup.h"

#define EF_FIND_ITEMS_MAX 100 /* of one id */
#define EF_LIST_ITEMS     100 /* of one page, unless asked for otherwise */
#define EF_LIST_ITEMS_MAX 1000
#define EF_CURSOR_BYTES   80

typedef enum { EF_FIND_ID, EF_FIND_NUMBER, EF_FIND_LIST } ef_find_kind_t;

/* An event as the log has it. */
typedef struct {
    char topic[EF_TOPIC_NAME_BYTES];
    uint64_t n;
    uint32_t segment; /* where its newest copy lies */
    uint32_t offset;
    uint32_t index; /* in the record */
    bool is_copy;
    bool is_returned; /* it came back from the dead letters under this n */
    ef_state_t state; /* DONE, DEAD or PURGED; else READY, and the core knows */
    uint64_t when_ms; /* that became so; 0: not known */
    ef_reason_t reason;
    uint32_t attempts;
    uint64_t accepted_ms;
    ef_buf_t event;             /* owned; its id written out */
    ef_buf_t history;           /* owned; items [code, text, trace, ms, worker] back to back */
    uint32_t history_count;     /* of them */
    ef_buf_t result;            /* owned; what its worker gave with its end; may be empty */
    char superseded[EF_ID_MAX]; /* id of the event that took its place */
    uint32_t superseded_bytes;  /* 0: none did */
} ef_found_t;

typedef struct {
    ef_find_kind_t kind;
    char topic[EF_TOPIC_NAME_BYTES]; /* empty: any */
    uint8_t id[EF_ID_MAX];
    uint32_t id_size;
    uint64_t n;
    int state;                   /* EF_STATE_ of a list, -1: any */
    char type[EF_PATTERN_BYTES]; /* pattern of a list; empty: any, also none */
    uint64_t since_ms;           /* accepted then or later */
    uint64_t until_ms;           /* or earlier */
    uint32_t limit;
    char cursor[EF_CURSOR_BYTES]; /* of a list: where the page before ended; empty: the beginning.
                                     Answer: where this one did; empty: at the end */
    ef_found_t *items;            /* owned; the answer */
    uint32_t count;
    void *token; /* the router's */
} ef_question_t;

ef_question_t *ef_question_new (ef_find_kind_t kind);
/* Forgets the answer. */
void ef_question_clear (ef_question_t *self);
void ef_question_destroy (ef_question_t **self_p);
/* The same, with its token. */
void ef_question_forget (ef_question_t *self);

typedef struct {
    ef_actor_t actor;               /* in and out: ef_question_t */
    ef_storage_t *storage;          /* borrowed */
    const _Atomic uint64_t *groups; /* the journal's count */
    uint64_t groups_seen;
    _Atomic uint64_t durable; /* segment << 32 | offset: the log may be read up to here */
    _Atomic bool is_held;     /* the disk is short of space: no sidecars */
    ef_lookup_t lookup;       /* owned */
    uint8_t *record;          /* owned: the last one that was read */
    uint32_t record_segment;  /* 0: none */
    uint32_t record_offset;
    int file; /* the segment that is open, -1: none */
    uint32_t file_segment;
    ef_question_t *unsent; /* owned: found the ring out full */
} ef_finder_t;

/* Reads what there is of sidecars, before the start. 0, or a negative errno of the storage. */
EF_MUST_USE int ef_finder_open (ef_finder_t *self, ef_storage_t *storage);
EF_MUST_USE int ef_finder_start (ef_finder_t *self, ef_waker_t *owner);
void ef_finder_stop (ef_finder_t *self);

/* From the router: how far the log is durable, and whether space is short. */
void ef_finder_durable (ef_finder_t *self, uint32_t segment, uint32_t offset);
void ef_finder_hold (ef_finder_t *self, bool is_held);

/* Answers a question from what is durable now. For the thread, and for tests. */
void ef_finder_answer (ef_finder_t *self, ef_question_t *question);

#endif
