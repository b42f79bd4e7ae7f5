/* What looks bad. SPDX-License-Identifier: MIT

   Role: pure; looks at the numbers of a complete round and tells the alerts (alerts.h) what each
   rule sees. The thresholds are settings. */
#ifndef EF_MONITOR_RULES_H
#define EF_MONITOR_RULES_H

#include "alerts.h"
#include "options.h"
#include "samples.h"

/* Names as they are told, kept and shown: they never change. */
#define RULES(ROW)                                                                                 \
    ROW (BROKER_DOWN, "broker_down", "critical")                                                   \
    ROW (GATEWAY_DOWN, "gateway_down", "critical")                                                 \
    ROW (DISK, "disk", "critical")                                                                 \
    ROW (DAMAGED, "journal_damaged", "critical")                                                   \
    ROW (FSYNC, "fsync_slow", "warning")                                                           \
    ROW (DEAD, "dead_letters", "warning")                                                          \
    ROW (OLDEST, "oldest_age", "warning")                                                          \
    ROW (STALL, "stall", "warning")                                                                \
    ROW (NO_WORKER, "no_worker", "critical")                                                       \
    ROW (BREAKER, "breaker_open", "warning")                                                       \
    ROW (UNHEALTHY, "unhealthy", "warning")                                                        \
    ROW (CRASH_LOOP, "crash_loop", "critical")
#define RULES_ENUM(name, text, severity) RULE_##name,
enum { RULES (RULES_ENUM) RULE_COUNT };
extern const alert_rule_t rules[RULE_COUNT];

/* NULL: there is no such rule (any more). */
const alert_rule_t *rule_find (const char *name);

/* Every rule but those of what is down; of every topic. */
void rules_look (alerts_t *alerts, const alert_settings_t *settings, const samples_t *samples,
                 numbers_t *numbers);

/* Is the broker, or the gateway, down? `for_ms` is already over where it is. */
void rules_look_down (alerts_t *alerts, unsigned rule, bool is_down, const char *why);

#endif
