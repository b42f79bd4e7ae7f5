/* Alerts told to others: as events, by webhook, by mail. SPDX-License-Identifier: MIT

   Role: makes messages of a round's news and hands them on: an event for each (published with an
   id, so that none is twice), one request and one mail for all of a round. Owns: the publisher. On
   failure: an event waits for the broker to be back, bounded; the others see sender.h. */
#ifndef EF_MONITOR_NOTIFY_H
#define EF_MONITOR_NOTIFY_H

#include "alerts.h"
#include "options.h"
#include "sender.h"

#define NOTIFY_MOST 100 /* alerts that one message tells; the others are counted in it */

typedef struct notify_s notify_t;

/* `settings` and `sender` are borrowed. */
notify_t *notify_new (const alert_settings_t *settings, const char *front, sender_t *sender);
void notify_destroy (notify_t **self_p);

/* What of the news is told; `is_down`: the broker is, so that it can't carry them. */
void notify_tell (notify_t *self, const alert_news_t *news, uint32_t count, bool is_down,
                  uint64_t wall_ms);

/* Pure, for tests. An alert as a JSON object; the body of a webhook; a mail with its headers; an
   event as MessagePack. */
void notify_put_alert (ef_buf_t *out, const store_alert_t *alert, const char *severity,
                       const char *state);
void notify_put_webhook (ef_buf_t *out, const alert_news_t *news, uint32_t count);
void notify_put_mail (ef_buf_t *out, const alert_settings_t *settings, const alert_news_t *news,
                      uint32_t count, uint64_t wall_ms);
void notify_put_event (ef_buf_t *out, const char *topic, const alert_news_t *news,
                       uint64_t wall_ms);

#endif
