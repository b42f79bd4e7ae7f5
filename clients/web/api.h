/* The REST endpoints that are questions to the broker. SPDX-License-Identifier: MIT

   /api/v1/topics, /workers, /pools, /events, /failed-events, /tasks, /breakers, /stats, /health;
   both programs serve them. Lists are {"items": […], "next": cursor or null}. Times are RFC 3339,
   durations have their unit in the name. */
#ifndef EF_WEB_API_H
#define EF_WEB_API_H

#include "admin.h"

typedef struct api_s api_t;

/* `admin` is borrowed for its life. */
api_t *api_new (admin_pool_t *admin);
void api_destroy (api_t **self_p); /* after the server's */

/* All of it onto a listener: /api/v1/…, /stats, /health, /health/live, /health/ready, /ping. */
void api_routes (api_t *self, listener_t *listener);

/* What the program adds to /health and to readiness: writes members of a JSON object, `"outbox":
   3`; false: it isn't ready. May be called from any thread. NULL: nothing. */
void api_on_health (api_t *self, bool (*health) (void *arg, ef_buf_t *members), void *arg);

/* The state of the broker as it was asked last (at most a second ago): 0 ready, 1 recovering
   (`*share` of the journal is read), 2 draining, -1 doesn't answer. */
int api_broker_state (api_t *self, double *share);
const char *api_durability (api_t *self); /* "sync", …; "" not known yet */

/* An event in its JSON form with what SHOW and LIST add, for other faces. */
void api_put_event (ef_buf_t *out, ef_cursor_t item);

#endif
