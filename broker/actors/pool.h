/* How many workers a pool should have. Pure. SPDX-License-Identifier: MIT

   Role: looks at a topic's load now and then and moves `target`. Owns nothing but itself.

   Grows where more workers would help: events are ready, nothing holds them back, and nobody has
   credit, for longer than `stall` in sum (a leaky sum: what stands half of the time or less never
   gets there); sooner where the topic is nearly full, waits for insertion, overflows, where its
   oldest event or its retries wait. By how much follows from rates: what arrives, and what waits
   spread over some seconds, over what one worker gets done while it is never idle. At most doubled
   in a step; nothing more before those started are here and the cool-down is over.

   Shrinks by one where for the whole idle time fewer would have sufficed with a fifth to spare.
   Where it had to grow again soon after it shrank, it waits twice as long the next time, up to
   eight times, and forgets that slowly: a load that comes and goes faster than the idle time
   makes it keep its workers, not flap.

   Nothing grows on errors: a hold (ef_hold_t), events that die for good, failures while a breaker
   is open. Crashes make it pause before the next start, twice as long each time, and give up loudly
   for a while. */
#ifndef EF_POOL_H
#define EF_POOL_H

#include "../config.h"

#define EF_CRASHES_MAX      5 /* in a row, each after a short life */
#define EF_SHORT_LIFE_MS    10000
#define EF_CRASH_PAUSE_MS   500 /* before the first restart; doubled for each */
#define EF_CRASH_GIVE_UP_MS 60000
#define EF_POOL_SLOTS       16u /* of the idle time */
#define EF_POOL_UNSET       UINT32_MAX

#define EF_POOL_REASON_TABLE(X)                                                                    \
    X (NONE, "")                                                                                   \
    X (BELOW_MIN, "below min")                                                                     \
    X (ABOVE_MAX, "above max")                                                                     \
    X (HAND, "by hand")                                                                            \
    X (STALLED, "stalled")                                                                         \
    X (IN_USE, "in use") /* somebody else has started them */                                      \
    X (OLDEST, "oldest waits")                                                                     \
    X (FILL, "nearly full")                                                                        \
    X (INSERTION, "waiting for insertion")                                                         \
    X (OVERFLOW, "overflow")                                                                       \
    X (RETRIES, "retry load")                                                                      \
    X (IDLE, "idle")                                                                               \
    X (MEMORY, "idle and short of memory")                                                         \
    X (SLOT, "its place goes to another pool")                                                     \
    X (RECYCLE, "recycled")
typedef enum {
#define X(name, text) EF_POOL_##name,
    EF_POOL_REASON_TABLE (X)
#undef X
        EF_POOL_REASON_COUNT
} ef_pool_reason_t;
const char *ef_pool_reason_name (ef_pool_reason_t reason);

/* What keeps it from growing. */
#define EF_POOL_LIMIT_TABLE(X)                                                                     \
    X (NONE, "")                                                                                   \
    X (MAX, "max")                                                                                 \
    X (WORKERS_MAX, "workers_max") /* the machine's places are taken */                            \
    X (MEMORY, "memory_free_min")                                                                  \
    X (LOAD, "load_max")                                                                           \
    X (CRASHES, "crashes")                                                                         \
    X (HOLD, "hold")     /* the load's hold says which */                                          \
    X (ERRORS, "errors") /* most of what ends fails for good, or by a downstream that is down */
typedef enum {
#define X(name, text) EF_LIMIT_##name,
    EF_POOL_LIMIT_TABLE (X)
#undef X
        EF_LIMIT_COUNT
} ef_pool_limit_t;
const char *ef_pool_limit_name (ef_pool_limit_t limit);

/* What there is. Of a pool of processes: its own, and workers that came by themselves. Of a topic
   whose workers somebody else starts all are its own. */
typedef struct {
    uint32_t own;  /* that run and aren't leaving */
    uint32_t here; /* of them, those that have said READY */
    uint32_t others;
    uint32_t places;         /* the machine has for more */
    ef_pool_limit_t machine; /* NONE, MEMORY or LOAD */
} ef_pool_view_t;

typedef struct {
    ef_pool_reason_t reason;
    uint32_t from;
    uint32_t to;
    ef_load_t load;
    double arrive; /* events a second */
    double end;
    uint32_t workers; /* all that are here */
} ef_pool_decision_t;

typedef struct {
    ef_pool_config_t config;
    uint32_t stall_ms;
    uint32_t min_hand; /* set by hand; EF_POOL_UNSET: as configured */
    uint32_t max_hand;
    uint32_t scale_hand; /* exactly so many; EF_POOL_UNSET: by the load */
    uint32_t target;     /* own workers that there should be */
    uint32_t needed;     /* as it looks now: fewer wouldn't do */
    uint32_t wanted;     /* it would grow to so many, had the machine places; 0: it wouldn't */
    ef_pool_limit_t limit;
    ef_hold_t hold;
    uint32_t crashes;       /* in a row */
    uint64_t not_before_ms; /* no start before: pause after a crash */
    uint64_t grown_ms;      /* when it last grew; 0: never */
    uint64_t shrunk_ms;     /* the same */
    uint64_t cool_ms;       /* no other change by the load before */
    uint64_t regret_ms;     /* when it last grew soon after it shrank */
    uint32_t caution;       /* the idle time is so many times as long */
    uint64_t seen_ms;       /* when the load was last looked at; 0: never */
    ef_load_t seen;
    double pressure_ms;            /* leaky sum of stalls */
    double arrive;                 /* smoothed: events a second that become ready */
    double end;                    /* that are answered */
    double in_hand;                /* leased */
    bool has_stalled;              /* in a good part of the time since the last look */
    bool is_quiet;                 /* nothing was in hand since the last look */
    double sat_end;                /* answered while nobody was idle, fading */
    double sat_seconds;            /* of workers, the same */
    double good;                   /* recent: done */
    double failed;                 /* attempts */
    double permanent;              /* died for good */
    uint64_t slot;                 /* number of the newest */
    uint32_t slots[EF_POOL_SLOTS]; /* most needed in each part of the idle time, a ring */
} ef_pool_t;

void ef_pool_init (ef_pool_t *self, const ef_pool_config_t *config, uint32_t stall_ms);
/* Other settings; those by hand stay. */
void ef_pool_configure (ef_pool_t *self, const ef_pool_config_t *config, uint32_t stall_ms);
uint32_t ef_pool_min (const ef_pool_t *self);
uint32_t ef_pool_max (const ef_pool_t *self);

/* Looks at the load. True: `target` has changed, as `*decision` says. */
bool ef_pool_decide (ef_pool_t *self, const ef_load_t *load, const ef_pool_view_t *view,
                     uint64_t now_ms, ef_pool_decision_t *decision);

/* Who gives a place to `claimant`, which can't grow since the machine is full: of those above their
   min the one that needs the smallest share of what it has; one that has a need of its own only to
   a pool that is smaller by two or more, or below its min. -1: nobody. */
int ef_pool_victim (ef_pool_t *const *pools, uint32_t count, uint32_t claimant);
/* It gives one. */
void ef_pool_give (ef_pool_t *self, uint64_t now_ms, ef_pool_decision_t *decision);

/* May a worker be started now? */
bool ef_pool_may_start (const ef_pool_t *self, uint64_t now_ms);
/* A worker ended by itself after `lived_ms`. True: it is given up for a while, tell somebody. */
bool ef_pool_ended (ef_pool_t *self, bool was_clean, uint64_t lived_ms, uint64_t now_ms);

#endif
