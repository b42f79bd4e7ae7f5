/* The REST endpoints that are questions to the broker. SPDX-License-Identifier: MIT

   /api/v1/topics, /workers, /pools, /events, /failed-events, /tasks, /breakers, /stats, /health;
   both programs serve them. Lists are {"items": […], "next": cursor or null}. Times are RFC 3339,
   durations have their unit in the name. */
#ifndef EF_WEB_API_H
#define EF_WEB_API_H

#include "admin.h"

typedef struct api_s api_t;

/* `admin` is borrowed for its life, so is `front` (NULL: $EVENTFLOW_FRONT or the default), where
   edited replays are published. */
api_t *api_new (admin_pool_t *admin, const char *front);
void api_destroy (api_t **self_p); /* after the server's */

/* All of it onto a listener: /api/v1/…, /stats, /health, /health/live, /health/ready, /ping. */
void api_routes (api_t *self, listener_t *listener);

/* What the program adds to /health and to readiness: writes members of a JSON object, `"outbox":
   3`; false: it isn't ready. May be called from any thread. NULL: nothing. */
void api_on_health (api_t *self, bool (*health) (void *arg, ef_buf_t *members), void *arg);

/* The state of the broker as it was asked last (at most a second ago): 0 ready, 1 recovering
   (`*share` of the journal is read), 2 draining, -1 doesn't answer. */
int api_broker_state (api_t *self, double *share);
void api_durability (api_t *self, char text[16]); /* "sync", …; "" not known yet */

/* The last five alone, for other faces. */
void api_health_routes (api_t *self, listener_t *listener);
admin_pool_t *api_admin (api_t *self);

/* An item of EVENTS or EVENT.SHOW: the event in its JSON form ({"id", "topic", "type",
   "dispatch_date", "payload", …, "attempts", "error": […]}) and what the broker adds: "n", "state",
   "accepted", "due", "worker", "deadline", "ended", "reason", "result". Without the closing brace,
   so that more can follow. 0 or -1. */
EF_MUST_USE int api_put_event (ef_buf_t *out, ef_cursor_t item);
/* EVENTS with the filters of the call's query, `state` where it has none. 0, or -1: answered. */
EF_MUST_USE int api_ask_events (api_t *self, call_t *call, const char *state, ef_buf_t *value);
/* Answers {"items": [{"topic", "n", "reason", "timestamp", …}], "next"}; whole: each with its
   "event". */
void api_answer_failed (api_t *self, call_t *call, bool is_whole);
/* Answers {"items": […], "next"} with what `put` appends for each item of a list's value. */
void api_answer_items (call_t *call, const ef_buf_t *value,
                       int (*put) (ef_buf_t *out, ef_cursor_t item));

#endif
