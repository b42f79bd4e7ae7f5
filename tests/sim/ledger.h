/* The ledger: what is known of every event from outside the broker. SPDX-License-Identifier: MIT

   It is kept by what passes through the simulated network and disk, at the moment when it passes:
   what a publisher sends, what is handed to the core, what the core sends, what the dead-letter
   journals hold at the end. The core's tables are never asked. Where a message may have been lost
   or may still be under way the ledger knows less, and no oracle judges what it doesn't know. */
#ifndef EF_SIM_LEDGER_H
#define EF_SIM_LEDGER_H

#include "disk.h"
#include "../../broker/actors/dead_log.h"
#include "../../broker/core/core.h"

#define SIM_TOPICS   4
#define SIM_EVENTS   65536
#define SIM_SUBJECTS 10 /* of a topic's quota */
#define SIM_LANES    10 /* per topic, number 0 is none */
#define SIM_TAGS     4096
#define SIM_PAYLOAD  2654435761u /* an event's payload is its number times this */
#define SIM_NONE     UINT32_MAX
#define SIM_ALIVE_MS                                                                               \
    3000 /* silent for no longer than this, a worker isn't given up: 3 heartbeats                  \
          */

typedef struct world_s world_t;

/* Where an event comes from. */
typedef enum {
    FROM_PUBLISHER,
    FROM_ACK,   /* emitted by a worker with the answer to its parent */
    FROM_DEATH, /* its parent's on_dead: a compensation */
    FROM_DONE,  /* its topic gets a copy of what is done in its parent's */
    FROM_DEAD   /* the same of what died */
} sim_origin_t;

/* What a worker said of a delivery. It may not have been heard. */
enum { SAID_ACK = 1, SAID_EMIT = 2, SAID_NACK = 4, SAID_DEAD = 8, SAID_RELEASE = 16 };

/* What an event's next delivery must say of its attempts. */
typedef enum {
    EXPECT_ANY,  /* one more or not */
    EXPECT_SAME, /* given back, or taken back by a restart while it was held: not counted */
    EXPECT_MORE, /* a failure was counted */
    EXPECT_NONE  /* it ended: there is no next one */
} sim_expect_t;

typedef struct {
    uint8_t topic;
    uint8_t origin;     /* sim_origin_t */
    uint8_t lane;       /* what must keep an order in this topic; 0: nothing */
    uint8_t key;        /* ordering key; 0: none */
    uint8_t user;       /* whom a quota counts; 0: nobody */
    uint8_t downstream; /* what it needs; 0: nothing */
    uint8_t schema;     /* 0: none */
    uint8_t publisher;  /* who sent it; SIM_PUBLISHERS: nobody */
    uint8_t copies;     /* routed: so many events from this one on are it; 0: one of them; else 1 */
    uint8_t route;      /* plus one; 0: none */
    uint32_t again_of;  /* bears the id of that event, sent anew; SIM_NONE: a new id */
    uint32_t parent;    /* SIM_NONE: none */
    uint32_t group;     /* first of those emitted by one ACK */
    uint32_t on_dead;   /* its compensation; SIM_NONE: none */
    uint32_t copy_done; /* of it, in the topic that gets what is done; SIM_NONE: not seen */
    uint32_t copy_dead; /* the same of what died */
    uint32_t ttl_ms;    /* 0: none */
    uint32_t delay_ms;  /* 0: none */
    uint64_t at_ms;     /* 0: none */
    uint64_t sent_wall; /* when it was sent first */
    uint64_t sent_ms;

    /* its acceptance */
    bool is_confirmed;     /* the sender was told: accepted */
    bool is_refused;       /* the sender was told: refused, or a duplicate */
    bool is_unsure;        /* confirmed, either as a duplicate or as accepted */
    uint64_t accepted_by;  /* wall clock: it was accepted no later; UINT64_MAX: not known to be */
    uint64_t handed_first; /* order in which PUBLISHes came to the core; 0: not yet */
    uint64_t handed_last;
    uint64_t handed_first_wall;
    uint64_t handed_last_wall;
    uint64_t n; /* as a delivery named it; 0: not known */

    /* its last delivery */
    uint8_t holder;      /* worker plus one; 0: nobody */
    bool is_suspect;     /* a worker's process died with it, for certain */
    bool is_tried_alone; /* it was sent as a suspect since */
    uint8_t deaths_alone;
    uint32_t suspicions;   /* workers that died with it, at the most */
    bool is_cancelled;     /* its worker was told that its answer isn't wanted */
    uint64_t released_tag; /* an operator took it away under this one */
    uint8_t said;          /* SAID_ under its tag */
    uint8_t expect;        /* sim_expect_t */
    uint32_t said_wait_ms; /* a NACK: it isn't tried again sooner */
    uint8_t told;          /* downstream that a NACK under its tag named; 0: none */
    uint8_t tie;        /* downstream that a NACK in this life of the broker named, for certain */
    bool may_be_tied;   /* to one or another */
    bool was_tied;      /* before the last NACK */
    uint32_t unparks;   /* of its topic, up to then */
    uint64_t unit_wall; /* its unit was taken no earlier */
    uint64_t back_wall; /* the one before was given back */
    uint64_t back_ms;
    bool is_heard; /* an answer was handed to the core while its lease was open */
    uint32_t life; /* of the broker, when it was sent */
    uint32_t wire;
    uint32_t wire_life;
    uint32_t attempt;
    uint64_t tag;
    uint64_t begun_ms;
    uint64_t begun_away_ms; /* how long the broker had been away until then */
    uint64_t until_ms;      /* its lease lasts at least so long */
    uint64_t not_before_ms; /* in this life of the broker, by a NACK that was heard */

    /* its end */
    uint32_t deliveries;
    uint32_t answers;      /* ACKs sent */
    uint32_t acked_group;  /* what the ACK that counted emitted; SIM_NONE: nothing or not known */
    bool is_acked;         /* a worker was told: done */
    bool is_purged;        /* a purge may have taken it */
    bool may_die;          /* a NACK said so, or it was its last attempt */
    bool may_be_permanent; /* somebody said so */
    bool may_be_used_up;   /* it was its last attempt by some policy */
    bool was_returned;     /* came back from the dead letters and was not delivered since */
    uint32_t returns;      /* how often it came back */
    bool is_dead;          /* seen among the dead letters at the end */
    uint8_t reason;        /* ef_reason_t, where it is dead */
} sim_event_t;

/* Events of one topic whose order counts, as they were sent. */
typedef struct {
    uint32_t *events; /* owned */
    uint32_t count;
    uint32_t capacity;
    uint32_t holder; /* delivered last; SIM_NONE: none yet */
} sim_lane_t;

/* Events of one subject of a quota that went out lately; the oldest give way. */
#define SIM_UNITS 256
typedef struct {
    uint32_t events[SIM_UNITS];
    uint32_t count; /* in all */
} sim_units_t;

/* What may go out of a topic at its rate. */
typedef struct {
    double tokens;
    uint64_t since_ms;
    uint32_t life; /* of the broker */
} sim_bucket_t;

/* A delivery as it stands in a message. */
typedef struct {
    uint64_t tag;
    uint64_t attempt;
    uint64_t n; /* 0: not told */
    uint32_t event;
} delivery_t;

/* ledger.c */
uint32_t ledger_new (world_t *self, sim_origin_t origin, uint32_t topic);
void ledger_free (world_t *self);
/* Gives an event that is complete its place in the order that its topic keeps. */
void ledger_line_up (world_t *self, uint32_t k);
/* Reads a delivery and finds its event; fails the run where nobody sent such a one. */
void ledger_read (world_t *self, ef_cursor_t *cursor, delivery_t *delivery);
uint32_t ledger_find (world_t *self, const ef_event_t *event); /* SIM_NONE: nobody sent it */
void ledger_handed_publish (world_t *self, uint32_t publisher, const ef_buf_t *header);
void ledger_handed_answer (world_t *self, uint32_t peer, const ef_buf_t *header);
void ledger_dispatch (world_t *self, uint32_t peer, const ef_buf_t *body);
void ledger_crashed (world_t *self);
/* The core tells a worker that it doesn't want some answers. */
void ledger_cancelled (world_t *self, const ef_buf_t *header);
/* The process of a worker has died, and the core was told so: what it held for certain. */
void ledger_died (world_t *self, const uint32_t *events, uint32_t count);
void ledger_returned (world_t *self, const ef_span_t *event); /* a dead letter begins anew */
bool ledger_is_reachable (const world_t *self, const sim_event_t *event);
/* The worker that was given it last holds it for certain, by what the broker can know. */
bool ledger_holds (const world_t *self, const sim_event_t *event);
bool ledger_is_live (const world_t *self, const sim_event_t *event); /* accepted and not ended */
bool ledger_is_seen (const sim_event_t *event);
/* How many more of it there may be: what its parent's death brings comes anew where that is
   replayed and dies again. */
uint32_t ledger_repeats (const world_t *self, const sim_event_t *event);

/* Whom a topic's quota counts it for, from 0 on. */
uint32_t ledger_subject (const world_t *self, const sim_event_t *event);

/* oracles.c, oracles_order.c, oracles_gates.c: judged when a delivery is sent, before the ledger
 * notes it */
void oracle_holder (world_t *self, uint32_t k, uint32_t peer);
void oracle_attempt (world_t *self, const delivery_t *delivery);
void oracle_time (world_t *self, uint32_t k);
/* The least wait that a policy allows after the attempt-th failure. */
uint32_t oracle_wait_ms (const ef_policy_t *policy, uint32_t attempt);
void oracle_order (world_t *self, uint32_t k);
void oracle_alone (world_t *self, uint32_t k, uint32_t peer);
void oracle_leases (world_t *self); /* now and then */
void oracle_parked (world_t *self, const delivery_t *delivery);
void oracle_breaker (world_t *self, uint32_t k);
uint64_t oracle_unit_wall (const world_t *self, const sim_event_t *event);
void oracle_quota (world_t *self, uint32_t k);
void oracle_rate (world_t *self, uint32_t k);
void oracle_letters (world_t *self);
void oracle_loads (world_t *self); /* now and then */
void oracle_again (world_t *self, const delivery_t *delivery);
void oracle_checkpoint (world_t *self);
void oracle_history (world_t *self, uint32_t k, const ef_letter_body_t *body);

/* judge.c: at the end */
void judge (world_t *self);

#endif
