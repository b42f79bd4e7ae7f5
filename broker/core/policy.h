/* When a failed event is tried again, and whether at all. Pure. SPDX-License-Identifier: MIT

   Waits are ms. Jitter after the AWS Architecture Blog, "Exponential Backoff And Jitter" (2015):
   jitter 1 is its full jitter, but for a floor; 0.5 its equal jitter. The budget is that of Finagle
   (RetryBudget): what fails may be tried again in proportion to what is new, so that retries can't
   become the storm that keeps a service down. */
#ifndef EF_POLICY_H
#define EF_POLICY_H

#include "../../proto/cursor.h"
#include "settings.h"

const char *ef_policy_name (ef_policy_kind_t kind);

/* The wait after the attempt-th failure (from 1 on). `most` is what the kind says, up to the cap;
   the wait lies anywhere in [most × (1 - jitter), most] by `random`, but not under a tenth of
   `most` nor under 1 ms, so that no retry comes at once. The kind `random` lies in [base, cap]
   whatever the jitter. */
uint64_t ef_policy_wait_ms (const ef_policy_t *policy, uint32_t attempt, uint64_t random);

/* The first rule whose pattern fits a failure's code, raw MessagePack: an int (by its decimal text)
   or a str. NULL: none does, or there is no code (nil, empty). Borrowed from `rules`. */
const ef_rule_t *ef_rules_find (const ef_rule_t *rules, uint32_t count, ef_span_t code);

/* How much of its past a topic may save up: the budget of so many first attempts, so that what was
   earned in a quiet week doesn't feed a storm. */
#define EF_BUDGET_FIRSTS   1000u
#define EF_BUDGET_FLOOR_MS 1000u /* one retry in this time is always allowed: nothing starves */

/* Begins as zeros. `share` is always retries per first attempt; 0: no bound. Not durable: after a
   start there is only the floor until first attempts come. */
typedef struct {
    uint64_t millionths; /* of retries that are saved up; whole numbers, for 5 × 0.2 must be 1 */
    uint64_t floor_ms;   /* monotonic: from then on a retry is free */
} ef_budget_t;

void ef_budget_earn (ef_budget_t *self, double share); /* at each first attempt */
/* A retry goes out. False: none may now. */
EF_MUST_USE bool ef_budget_take (ef_budget_t *self, double share, uint64_t now_ms);
/* From when on a retry may go if nothing new is attempted; `now_ms` where one may. */
uint64_t ef_budget_next_ms (const ef_budget_t *self, double share, uint64_t now_ms);

#endif
