/* Questions to the broker's admin endpoint, from many threads. SPDX-License-Identifier: MIT

   Role: a pool of connections, each used by one caller at a time. Blocking: for ROUTE_BLOCKING
   functions and own threads. On failure: a broker that doesn't answer within the time is TIMEOUT;
   callers that find no connection free within the time likewise. */
#ifndef EF_WEB_ADMIN_H
#define EF_WEB_ADMIN_H

#include "../../proto/event.h"
#include "server.h"

typedef struct admin_pool_s admin_pool_t;
struct eventflow_admin_s;

/* endpoint NULL: $EVENTFLOW_ADMIN or tcp://127.0.0.1:5553. Copied. */
admin_pool_t *admin_pool_new (const char *endpoint, uint32_t connections, uint32_t timeout_ms);
void admin_pool_destroy (admin_pool_t **self_p);

/* Sends `request` (a MessagePack array, ["TOPIC.INFO", "email"]) and waits. NULL: done, and `value`
   (cleared first) holds the value of OK. Else the code: one of the protocol's, or TIMEOUT; `text`
   (512 bytes, may be NULL) says more. Borrowed until the thread's next call. */
const char *admin_pool_call (admin_pool_t *self, const ef_buf_t *request, ef_buf_t *value,
                             char *text);

/* The same with the answer to a call: on an error answers the problem and returns -1. */
EF_MUST_USE int admin_pool_ask (admin_pool_t *self, call_t *call, const ef_buf_t *request,
                                ef_buf_t *value);

/* A connection of one's own to the same broker; the caller destroys it. */
struct eventflow_admin_s *admin_pool_single (const admin_pool_t *self);

#endif
