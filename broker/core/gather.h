/* One delivery in the making (gather.c, dispatch.c). SPDX-License-Identifier: MIT */
#ifndef EF_GATHER_H
#define EF_GATHER_H

#include "core_private.h"

#define GATHER_AVOIDED 64  /* entries that aren't for one worker now; past them it waits */
#define GATHER_ASIDES  256 /* events set aside for one delivery; then it goes */

/* Why an event of an extent was set aside. */
typedef enum { ASIDE_GATE, ASIDE_EXPIRED, ASIDE_OVER } aside_why_t;

typedef struct {
    uint64_t n;
    gate_t *gate; /* ASIDE_GATE: held by its `asides` */
    place_t place;
    uint32_t bytes;
    uint16_t flags;
    uint8_t why;
} aside_t;

typedef struct {
    ef_core_t *core;
    topic_t *topic;
    worker_t *worker;
    uint32_t limit; /* events */
    uint64_t bytes_left;
    item_t items[EF_BATCH_EVENTS];
    stored_t stored[EF_BATCH_EVENTS];
    uint32_t count;
    size_t body_bytes;
    entry_t
        *avoided[GATHER_AVOIDED]; /* taken from the heap for a moment: not for this worker yet */
    uint32_t avoided_count;
    aside_t asides[GATHER_ASIDES];
    uint32_t aside_count;
    uint64_t first;     /* events of extents from here */
    uint64_t last;      /* to here were looked at, each taken or set aside; 0: none */
    breaker_t *breaker; /* of the event under way; NULL: none is kept */
    ef_extent_at_t at;  /* of the extent under way */
    ef_extent_t run;    /* a copy of it, moved on as events are gathered */
    bool has_run;
    bool has_moved; /* something went on that isn't in the delivery */
} gather_t;

/* Gathers up to `limit` events. Nothing has changed then but heaps and who has which key. */
void gather_run (gather_t *self);
/* The delivery is on its way, or couldn't be sent: puts everything where it belongs. */
void gather_taken (gather_t *self);
void gather_undone (gather_t *self);

#endif
