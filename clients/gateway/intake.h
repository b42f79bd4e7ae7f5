/* A request's body, made into events. SPDX-License-Identifier: MIT

   Role: pure; knows nothing of HTTP but the forms that a body comes in. One object, an array of
   them, lines of them (NDJSON), MessagePack (events as arrays or objects, back to back or in an
   array), CloudEvents in their three modes. What can't be read to its end refuses the whole; what
   is wrong with one event of a list refuses that one. Owns: the batch. */
#ifndef EF_GATEWAY_INTAKE_H
#define EF_GATEWAY_INTAKE_H

#include "ids.h"
#include "item.h"
#include "schema.h"

#define INTAKE_EVENTS_MAX 65536 /* of one request */

typedef enum {
    INTAKE_JSON,  /* an object, or an array of them */
    INTAKE_LINES, /* an object a line */
    INTAKE_MSGPACK,
    INTAKE_CLOUD,       /* CloudEvents: one as JSON */
    INTAKE_CLOUD_BATCH, /* an array of them */
    INTAKE_CLOUD_BINARY /* attributes in headers, the data is the body */
} intake_form_t;

/* One event of a request. */
typedef struct {
    uint32_t at;    /* into events */
    uint32_t bytes; /* 0: it is refused */
    uint32_t id_at; /* into events; of a refused one into words */
    uint32_t topic_at;
    uint8_t id_bytes;
    uint8_t topic_bytes;
    const char *code; /* static; NULL: nothing is wrong */
    char *why;        /* owned; NULL: nothing more to say */
    char *pointer;    /* owned; where its payload doesn't fit its schema; NULL: elsewhere */
} slot_t;

typedef struct {
    ef_buf_t events; /* those that are good, back to back */
    slot_t *slots;   /* owned; all, in order */
    uint32_t count;
    uint32_t capacity;
    uint32_t refused; /* slots with a code */
    bool is_list;     /* the answer has one outcome for each, however few */
} batch_t;

typedef struct {
    intake_form_t form;
    ef_span_t topic; /* where an event names none; data NULL: none */
    ef_span_t type;
    bool needs_type;
    ef_span_t key;            /* Idempotency-Key; data NULL: none */
    const schemas_t *schemas; /* NULL: none */
    bool (*may_publish) (void *arg, const char *topic, size_t size); /* NULL: anywhere */
    void *arg;
    /* of INTAKE_CLOUD_BINARY: names without "ce-" and values, as they came */
    const ef_span_t *names;
    const ef_span_t *values;
    uint32_t attributes;
    const char *media; /* of the data; "" none */
} intake_t;

/* NULL: read. Else the code, and `why` says what is wrong with the whole. */
const char *intake_read (batch_t *batch, const intake_t *how, const char *body, size_t size,
                         char why[ITEM_WHY_BYTES]);
void batch_free (batch_t *self);

/* Adds a slot whose event was appended from `start` on; or, with a code, one that is refused. */
slot_t *batch_add (batch_t *self);
void batch_refuse (batch_t *self, slot_t *slot, const char *code, const char *why);
ef_span_t batch_id (const batch_t *self, const slot_t *slot); /* data NULL: it has none */
ef_span_t batch_topic (const batch_t *self, const slot_t *slot);

/* What every event passes once it is read: rights, schema. For intake.c and cloud.c. */
typedef struct {
    batch_t *batch;
    const intake_t *how;
    char next_id[IDS_TEXT]; /* for the next event that has none */
    uint32_t next_bytes;    /* 0: to be drawn */
    bool is_single;
} intake_run_t;
ef_span_t intake_next_id (intake_run_t *self);
void intake_take (intake_run_t *self, size_t start, const item_view_t *view);
void intake_refuse (intake_run_t *self, const char *code, const char *why);

/* cloud.c: one CloudEvent as a MessagePack map (structured), or from attributes and data. 0: it is
   appended to the batch's events; -1: `why`. */
EF_MUST_USE int cloud_read (intake_run_t *self, ef_cursor_t map, item_view_t *view,
                            char why[ITEM_WHY_BYTES]);
EF_MUST_USE int cloud_read_binary (intake_run_t *self, const char *body, size_t size,
                                   item_view_t *view, char why[ITEM_WHY_BYTES]);

#endif
