/* How many workers a pool should have. Pure. SPDX-License-Identifier: MIT

   Grows when events wait and no worker has credit, when the topic overflows, and when retries pile
   up; shrinks one by one when idle; restarts what crashes with a growing pause, and gives up loudly
   for a while when it crashes again and again. */
#ifndef EF_POOL_H
#define EF_POOL_H

#include "../config.h"

#define EF_CRASHES_MAX      5 /* in a row, each after a short life */
#define EF_SHORT_LIFE_MS    10000
#define EF_CRASH_PAUSE_MS   500 /* before the first restart; doubled for each */
#define EF_CRASH_GIVE_UP_MS 60000

typedef struct {
    ef_pool_config_t config;
    uint32_t stall_ms;
    uint32_t alive;         /* started and not told to leave */
    uint32_t crashes;       /* in a row */
    uint64_t not_before_ms; /* no start before this: cool-down or pause after a crash */
    uint64_t busy_ms;       /* when it was last not idle */
    uint64_t overflowed;    /* total seen last */
    uint32_t wanted_min;    /* set by hand; UINT32_MAX: the configured one */
} ef_pool_t;

typedef enum { EF_POOL_KEEP, EF_POOL_START, EF_POOL_DRAIN } ef_pool_act_t;

/* What to do now, and in `*why` a word for people. Start and drain change `alive`. */
ef_pool_act_t ef_pool_decide (ef_pool_t *self, const ef_load_t *load, uint64_t now_ms,
                              const char **why);

/* A worker ended by itself after `lived_ms`. True: it is given up for a while, tell somebody. */
bool ef_pool_ended (ef_pool_t *self, bool was_clean, uint64_t lived_ms, uint64_t now_ms);

#endif
