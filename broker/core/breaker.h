/* Whether a downstream is left alone because it fails. Pure. SPDX-License-Identifier: MIT

   Role: the circuit breaker of M. Nygard ("Release It!", 2007) over a sliding window of outcomes,
   as in resilience4j. Closed: all goes out, outcomes are counted; it opens where of at least
   `calls` outcomes in the window the share `ratio` has failed. Open: nothing goes out until the
   cool-down is over. Half open: as many go out as are still wanted of `probes`; that many must end
   well to close it, the first that fails opens it again for twice as long. Begins as zeros: closed.

   An event that goes out is told by ef_breaker_sent whether it is a probe; its holder keeps that
   and gives it back with the one outcome, or with ef_breaker_returned where there is none (a lease
   given back, a purge). While it isn't closed only probes' outcomes count: what went out before
   tells of the past. A probe of an earlier round that ends late counts in the round that it meets.
   After each outcome and return of a probe ef_breaker_next_ms is to be asked anew.

   Owns nothing. Times: the monotonic clock decides; the wall clock stands in the record, so that a
   restart knows how much is left. The window isn't durable: a closed breaker begins with an empty
   one. */
#ifndef EF_BREAKER_H
#define EF_BREAKER_H

#include "../../proto/assert.h"
#include "settings.h"

#define EF_BREAKER_TABLE(X)                                                                        \
    X (CLOSED, "closed")                                                                           \
    X (OPEN, "open")                                                                               \
    X (HALF_OPEN, "half_open")
typedef enum {
#define X(name, text) EF_BREAKER_##name,
    EF_BREAKER_TABLE (X)
#undef X
        EF_BREAKER_COUNT
} ef_breaker_state_t;
const char *ef_breaker_state_name (ef_breaker_state_t state);

/* What an operator has said. */
#define EF_HAND_TABLE(X)                                                                           \
    X (AUTO, "auto")                                                                               \
    X (OPEN, "open")                                                                               \
    X (CLOSED, "closed")
typedef enum {
#define X(name, text) EF_HAND_##name,
    EF_HAND_TABLE (X)
#undef X
        EF_HAND_COUNT
} ef_hand_t;
const char *ef_hand_name (ef_hand_t hand);

/* Outcomes leave the window a tenth of it at a time: it covers 9 to 10 tenths of window_ms. */
#define EF_BREAKER_SLOTS 10u

/* A moment by both clocks. */
typedef struct {
    uint64_t mono_ms;
    uint64_t wall_ms;
} ef_moment_t;

typedef struct {
    ef_breaker_state_t state;
    ef_hand_t hand;
    uint32_t cooldown_ms;   /* of the last opening; 0: the next is the first since it was closed */
    uint32_t out;           /* probes without an outcome, of earlier rounds too */
    uint32_t good;          /* probes of this round that ended well */
    uint64_t until_ms;      /* open: it may probe from then on, monotonic */
    uint64_t until_wall_ms; /* the same as ms since 1970; stands still while it is open */
    uint64_t opened;        /* how often it has opened from closed, by itself */
    uint32_t slot_ms;       /* width of a slot */
    uint64_t newest;        /* number of the newest slot: its time / slot_ms */
    struct {
        uint32_t calls;
        uint32_t failures;
    } slots[EF_BREAKER_SLOTS]; /* of slot number n at n % EF_BREAKER_SLOTS */
} ef_breaker_t;

/* What is to be shown: without a ratio it is closed whatever it was before. */
ef_breaker_state_t ef_breaker_state (const ef_breaker_t *self, const ef_breaker_config_t *config);

/* Whether an event may go out now; ef_breaker_sent may follow. */
bool ef_breaker_allows (const ef_breaker_t *self, const ef_breaker_config_t *config,
                        uint64_t mono_ms);

/* An event goes out that was allowed. True: as a probe; an open breaker is half open now. */
EF_MUST_USE bool ef_breaker_sent (ef_breaker_t *self, const ef_breaker_config_t *config,
                                  uint64_t mono_ms);

/* What went out has ended. True: it has opened or closed, and its record is to be written. */
EF_MUST_USE bool ef_breaker_outcome (ef_breaker_t *self, const ef_breaker_config_t *config,
                                     bool was_probe, bool has_failed, ef_moment_t when);

/* What went out came back without an outcome. */
void ef_breaker_returned (ef_breaker_t *self, bool was_probe);

/* By hand. OPEN: nothing goes out until something else is said; CLOSED: all goes out, whatever
   fails; AUTO: on by itself, with a probe at once after OPEN, closed after CLOSED. True: changed,
   and its record is to be written. */
EF_MUST_USE bool ef_breaker_set (ef_breaker_t *self, ef_hand_t hand, ef_moment_t when);

/* From when on it allows something by the passing of time alone: `mono_ms` where it does now,
   UINT64_MAX where it waits for an outcome or an operator. */
uint64_t ef_breaker_next_ms (const ef_breaker_t *self, const ef_breaker_config_t *config,
                             uint64_t mono_ms);

/* What the window holds. */
void ef_breaker_counts (const ef_breaker_t *self, const ef_breaker_config_t *config,
                        uint64_t mono_ms, uint32_t *calls, uint32_t *failures);

/* Its record, absolute, little-endian:
      0  1  state: closed or open; half open is written as open, whose time is over
      1  1  what was said by hand          2  2  zeros
      4  4  cooldown_ms                    8  8  until_wall_ms         16  8  opened
     24  8  zeros */
#define EF_BREAKER_BYTES 32
void ef_breaker_put (const ef_breaker_t *self, uint8_t bytes[EF_BREAKER_BYTES]);
/* 0, or -1 for what was never written. Its clock runs from ef_breaker_start on. */
EF_MUST_USE int ef_breaker_get (ef_breaker_t *self, const uint8_t bytes[EF_BREAKER_BYTES]);
/* After a restart: open for what is left by the wall clock, and, should that have been set back, no
   longer than its cool-down. */
void ef_breaker_start (ef_breaker_t *self, ef_moment_t when);

#endif
