/* Reading what a broker answers to a publisher.
   SPDX-License-Identifier: MIT */
#ifndef EF_REPLY_H
#define EF_REPLY_H

#include "../../proto/cursor.h"

/* One refused item: [seq, index, code, text]. */
typedef struct {
    uint64_t seq;
    uint64_t first; /* index of events in the PUBLISH */
    uint64_t last;
    char code[32];
    char text[256];
} ef_refusal_t;

/* The options of WELCOME, CONFIRM and PONG that matter here. */
typedef struct {
    uint64_t accepted;
    uint64_t duplicates;
    uint64_t last;
    uint64_t window;
    uint64_t heartbeat;
    uint64_t max_event;
    uint64_t max_message;
    ef_span_t refused;
    ef_span_t ids; /* [[seq, index, id], …] */
} ef_reply_t;

/* 0, or -1: it isn't such an item. */
EF_MUST_USE int ef_refusal_read (ef_cursor_t *cursor, ef_refusal_t *refusal);

/* Reads what it knows of the map; the rest keeps its values. */
void ef_reply_read (ef_cursor_t *cursor, ef_reply_t *reply);

#endif
