/* Alerts with hysteresis. SPDX-License-Identifier: MIT

   Once a round each rule says of each topic whether it looks bad, good, or neither. Bad for
   `for_ms` raises an alert; good for `clear_ms` ends it; what is between the two thresholds changes
   nothing. While it lasts it is told again, each time after twice as long, up to a bound.

       (none) --bad--> pending --bad for for_ms--> firing --good for clear_ms--> (ended)
                 pending --good--> (none)

   Role: pure; takes the time: `now_ms` never runs backwards, `wall_ms` is for people and for what
   is kept. Owns: the alerts that are pending or firing. Invariants: at most ALERTS_MAX; a rule and
   a topic have one at the most. A restored alert goes on as if nothing had been. */
#ifndef EF_MONITOR_ALERTS_H
#define EF_MONITOR_ALERTS_H

#include "../../broker/base/hash.h"
#include "../../proto/assert.h"
#include "store.h"

#define ALERTS_MAX 5000 /* a row of every topic that a broker may have, and some */

typedef enum { ALERT_PENDING, ALERT_FIRING, ALERT_ENDED } alert_state_t;
typedef enum { ALERT_GOOD, ALERT_BETWEEN, ALERT_BAD } alert_look_t;
typedef enum {
    ALERT_PENDED,   /* to be kept, told to nobody */
    ALERT_DROPPED,  /* was pending only */
    ALERT_RAISED,   /* told */
    ALERT_REMINDED, /* told */
    ALERT_CLEARED   /* told */
} alert_change_t;

typedef struct {
    const char *name; /* of the rule */
    const char *severity;
} alert_rule_t;

typedef struct {
    alert_change_t change;
    const char *severity;
    store_alert_t alert;
} alert_news_t;

typedef struct {
    uint64_t clear_ms;
    uint64_t repeat_ms; /* until the first reminder; 0: none */
    uint32_t reminders; /* at the most */
} alerts_options_t;

typedef struct {
    const char *severity;
    store_alert_t row;
    uint64_t bad_ms;  /* since when, 0: it isn't */
    uint64_t good_ms; /* the same */
    uint64_t round;   /* seen last */
    char key[112];    /* rule, a slash, topic */
} alert_t;

typedef struct {
    const alerts_options_t *options; /* borrowed */
    ef_hash_t table;                 /* of alert_t */
    uint64_t now_ms;
    uint64_t wall_ms;
    uint64_t round;
    alert_news_t *news; /* owned; of this round */
    uint32_t news_count;
    uint32_t news_capacity;
    uint64_t left_out; /* because there were too many */
} alerts_t;

void alerts_init (alerts_t *self, const alerts_options_t *options);
void alerts_free (alerts_t *self);

/* One that was there before a restart. */
void alerts_restore (alerts_t *self, const char *severity, const store_alert_t *row);

void alerts_begin (alerts_t *self, uint64_t now_ms, uint64_t wall_ms);
typedef struct {
    const alert_rule_t *rule;
    const char *topic; /* "": the broker as a whole */
    alert_look_t look;
    double value;
    uint64_t for_ms;
    const char *text; /* used where it is bad; NULL where it is good */
} alert_sight_t;
void alerts_see (alerts_t *self, const alert_sight_t *sight);
/* `is_whole`: all rules have spoken; what none spoke of is gone. What happened is in `news` until
   the next round. */
void alerts_end (alerts_t *self, bool is_whole);

uint32_t alerts_firing (const alerts_t *self);
const char *alert_change_name (alert_change_t change); /* "firing", "reminder", "resolved", … */
const char *alert_state_name (uint32_t state);         /* "pending", "firing", "resolved" */

#endif
