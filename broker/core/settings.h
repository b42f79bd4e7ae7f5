/* What topics and routes are told to do. SPDX-License-Identifier: MIT

   Plain data, filled by the configuration or a test; times in ms, sizes in bytes. A copy of it is
   complete, but for `zone`, which is borrowed and outlives the core. */
#ifndef EF_SETTINGS_H
#define EF_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#define EF_TOPIC_NAME_BYTES  56  /* EF_TOPIC_MAX and a NUL, rounded up */
#define EF_RULES_MAX         16u /* retry_on and dead_on together; each failure looks at all */
#define EF_SCHEMAS_MAX       16u
#define EF_PATTERN_BYTES     64 /* a NUL included */
#define EF_ROUTES_MAX        256u
#define EF_ROUTE_TOPICS_MAX  16u /* copies of one event */
#define EF_ROUTE_HEADERS_MAX 4u

/* How the wait before the next attempt grows with the attempts that have failed. */
#define EF_POLICY_TABLE(X)                                                                         \
    X (EXPONENTIAL, "exponential") /* base × factor^(attempt - 1) */                              \
    X (FIXED, "fixed")             /* base */                                                      \
    X (LINEAR, "linear")           /* base × attempt */                                           \
    X (RANDOM, "random")           /* anything from base to cap */
typedef enum {
#define X(name, text) EF_POLICY_##name,
    EF_POLICY_TABLE (X)
#undef X
        EF_POLICY_COUNT
} ef_policy_kind_t;

typedef struct {
    ef_policy_kind_t kind;
    uint32_t base_ms;
    uint32_t cap_ms;
    double factor;
    double jitter;     /* 0 to 1: the share of a wait that is left to chance */
    uint32_t attempts; /* that may fail; then it is dead */
} ef_policy_t;

/* What is done with failures of one kind. The first rule that fits is taken. */
typedef struct {
    char pattern[EF_PATTERN_BYTES]; /* of the code: * any text, ? any character */
    bool is_permanent;              /* dead at once; else `policy` */
    ef_policy_t policy;
} ef_rule_t;

typedef enum { EF_ORDER_KEY, EF_ORDER_TOPIC } ef_order_t;                         /* key|topic */
typedef enum { EF_BLOCKED_BLOCK, EF_BLOCKED_SKIP, EF_BLOCKED_PARK } ef_blocked_t; /* block|… */
typedef enum { EF_BY_NONE, EF_BY_KEY, EF_BY_USER, EF_BY_TOPIC } ef_by_t;

/* The beginnings of the days of a time zone, ms since 1970, ascending. */
typedef struct {
    char name[48];
    uint32_t count;
    int64_t midnights[];
} ef_zone_t;

typedef struct {
    uint32_t limit; /* units in a window; 0: no quota */
    uint32_t window_ms;
    ef_by_t by;             /* EF_BY_NONE as EF_BY_TOPIC */
    bool is_sliding;        /* else windows begin at midnight, or at multiples of window_ms */
    bool is_dead_when_over; /* over_quota = dead; else it waits */
    const ef_zone_t *zone;  /* of the midnights; NULL: UTC */
} ef_quota_config_t;

typedef struct {
    double ratio;         /* share of failures that opens it, 0 to 1; 0: no breaker */
    uint32_t calls;       /* outcomes in the window before it is judged */
    uint32_t window_ms;   /* over which outcomes count */
    uint32_t cooldown_ms; /* open for so long at first; doubled by each failed probe */
    uint32_t cooldown_cap_ms;
    uint32_t probes; /* that must go well, one after the other or at once, to close it */
    bool refuses;    /* on_open = refuse: publishers are refused; else events wait */
} ef_breaker_config_t;

/* 0 in a capacity: no bound but the disk's. */
typedef struct {
    char name[EF_TOPIC_NAME_BYTES];
    uint64_t capacity_events;
    uint64_t capacity_bytes;
    bool refuse_when_full;  /* on_full = refuse; else what arrives waits for re-insertion */
    bool overflow_manual;   /* overflow_replay = manual */
    uint32_t overflow_rate; /* events a second that return by themselves */
    uint32_t lease_ms;
    uint32_t lease_total_ms; /* with all EXTENDs */
    uint32_t stall_ms;
    ef_policy_t retry;
    ef_rule_t rules[EF_RULES_MAX];
    uint32_t rule_count;
    double retry_budget;     /* retries per first attempt; 0: no bound */
    uint32_t retry_capacity; /* leased + retrying */
    uint32_t scheduled_capacity;
    uint32_t insert_attempts;
    uint32_t insert_base_ms;
    uint32_t insert_cap_ms;
    uint32_t insert_capacity; /* events that may wait for re-insertion */
    uint32_t dedupe_ms;       /* how long an id is known; 0: not at all */
    uint32_t dedupe_count;    /* ids that are known at the most */
    ef_order_t order;
    ef_blocked_t on_blocked;
    ef_by_t fair_by; /* EF_BY_NONE, EF_BY_KEY or EF_BY_USER */
    uint32_t weight; /* of its turn where a worker takes from several topics */
    double rate;     /* deliveries a second; 0: no bound */
    uint32_t burst;  /* that may go at once after a pause */
    ef_quota_config_t quota;
    ef_breaker_config_t breaker;
    char on_done[EF_TOPIC_NAME_BYTES]; /* topic that gets a copy of what is done; empty: none */
    char on_dead[EF_TOPIC_NAME_BYTES]; /* the same of what died */
    uint32_t schemas[EF_SCHEMAS_MAX];  /* versions that are taken */
    uint32_t schema_count;             /* 0: all */
} ef_topic_config_t;

/* Where an event goes that names no topic. All that is said must hold; the first route that fits is
   taken. */
typedef struct {
    char name[EF_TOPIC_NAME_BYTES];
    char type[EF_PATTERN_BYTES]; /* a pattern; empty: any, also none */
    struct {
        char name[EF_PATTERN_BYTES];
        char pattern[EF_PATTERN_BYTES];
    } headers[EF_ROUTE_HEADERS_MAX];
    uint32_t header_count;
    char topics[EF_ROUTE_TOPICS_MAX][EF_TOPIC_NAME_BYTES];
    uint32_t topic_count;
} ef_route_t;

#endif
