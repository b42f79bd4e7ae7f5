/* One event as a client says it, made into one as the protocol has it. SPDX-License-Identifier: MIT

   {"topic"|"queue", "type"|"event_type", "payload", "id", "key", "at", "delay", "ttl",
   "user"|"user_id", "schema", "downstream", "trace"|"traceparent", "headers", "on_dead",
   "dispatch_date"|"time"}. Only the payload must be there. Dates are RFC 3339 or ms since 1970,
   spans as "5m" or in ms. A member that isn't known becomes one of meta. What is wrong is told with
   the member's name before it. */
#ifndef EF_GATEWAY_ITEM_H
#define EF_GATEWAY_ITEM_H

#include "../../proto/event.h"

#define ITEM_WHY_BYTES 200

/* What stands in where an event says nothing of its own. Spans with data NULL are absent. */
typedef struct {
    ef_span_t topic;
    ef_span_t type;
    ef_span_t id;
    bool needs_type; /* an event without a type is refused */
} item_defaults_t;

/* What became of it; spans point into the event's bytes, good until these move. */
typedef struct {
    ef_span_t topic;
    ef_span_t type;
    ef_span_t id;
    ef_span_t payload;
    int64_t schema; /* negative: not said */
} item_view_t;

/* Reads a MessagePack map; the cursor moves behind it. 0: the event is appended; -1: `why` says
   what is wrong, nothing is appended. */
EF_MUST_USE int item_read (ef_buf_t *out, ef_cursor_t *map, const item_defaults_t *defaults,
                           item_view_t *view, char why[ITEM_WHY_BYTES]);

/* The same for an event that is one already: [topic, id, payload] or with meta. An id that is nil
   is put in. */
EF_MUST_USE int item_take (ef_buf_t *out, ef_cursor_t *array, const item_defaults_t *defaults,
                           item_view_t *view, char why[ITEM_WHY_BYTES]);

/* Looks for a key that a map of the value has twice. NULL: none; else the key, borrowed. */
const char *item_twice (ef_cursor_t value, uint32_t *size);

#endif
