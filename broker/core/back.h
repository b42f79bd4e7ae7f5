/* What the files of the back share. SPDX-License-Identifier: MIT */
#ifndef EF_BACK_H
#define EF_BACK_H

#include "core_private.h"

typedef struct {
    ef_core_t *core;
    uint32_t number;
    peer_t *peer;
    ef_cursor_t arguments;
    uint32_t count;
    const ef_frame_t *body;
    uint32_t frames;
    uint64_t visits; /* items looked at for the tags of this message */
} back_t;

/* Items that one message may make us look at: ranges may overlap, so their number says nothing. */
#define BACK_VISITS_MAX (4u * EF_CREDIT_MAX)

void back_ready (back_t *request);
void back_ping (back_t *request); /* report.c */
const void *back_worker_key (const void *item, size_t *size);

/* One item of a tags array: a tag, or a pair [first, last]. */
EF_MUST_USE int back_read_tag (ef_cursor_t *cursor, uint64_t *first, uint64_t *last);

/* Called for every tag of the worker that is named; false: the answer comes too late for it. */
typedef bool (*each_item_t) (back_t *request, lease_t *lease, item_t *item, uint64_t tag,
                             void *arg);

typedef struct {
    uint64_t tags[EF_STALE_MAX];
    uint32_t count; /* listed */
    uint64_t total;
} stale_t;

/* Walks a tags array. 0, or -1 where it can't be read. */
int back_each (back_t *request, ef_cursor_t tags, each_item_t each, void *arg, stale_t *stale);

#endif
