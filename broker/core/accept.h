/* One message's events on their way in (accept.c, store.c). SPDX-License-Identifier: MIT */
#ifndef EF_ACCEPT_H
#define EF_ACCEPT_H

#include "core_private.h"

/* One event of the message, or one copy of it where a route has several topics. */
struct scan_s {
    const char *data;
    topic_t *topic; /* NULL once it is written */
    uint32_t word;  /* as in the record's index */
    uint32_t index; /* in the message */
    bool has_print; /* its id is to be known in the topic's window */
    bool is_named;  /* routed, and its id, given by the broker, stands in `data` */
    ef_print_t print;
    char *owned; /* `data` of a routed event, else NULL */
};

typedef struct {
    ef_core_t *core;
    const accept_request_t *request;
    accept_result_t *result;
    uint32_t count;      /* in core->scan */
    topic_t *last_topic; /* the topic of the event before; most have the same */
    ef_span_t last_name;
    ef_status_t run_status; /* refusals of neighbours with one code are one item */
    uint32_t run_first;
    uint32_t run_last;
    char run_text[200];
    ef_status_t first_refusal;
    unsigned searches; /* for the nearest name */
} scanner_t;

/* seq of the PUBLISH as its answers have it. */
void scan_put_seq (const scanner_t *self, ef_buf_t *buf);

/* Writes what was scanned, one record a topic, and the ids that the broker gave. */
void store_events (scanner_t *self);

#endif
