/* How many workers a pool should have. SPDX-License-Identifier: MIT */
#include "pool.h"

#include <math.h>

#define SMOOTH_MS      2000.0  /* rates follow a change by half in so much, at the most */
#define FADE_MS        10000.0 /* what was learned of a worker's speed, and errors, the same */
#define CATCH_UP_S     5.0     /* what waits is to be worked off in so much */
#define START_MS       10000   /* those started may need so long until they are here */
#define SPARE          0.8     /* of what workers can do is counted upon before one goes */
#define GUESSED_CREDIT 5       /* of a worker that has its own, and hasn't told it yet */
#define LEARNED        2.0     /* events that must have ended before a speed is believed */
#define OLD_STALLS     5u      /* the oldest waits for so many times `stall` */
#define OLD_MS         5000u   /* and so long at least */
#define RETRIES_HANDS  4u      /* retries for each event that could be in hand */
#define CAUTION_MAX    8u
#define LOAD_FLOOR     3u /* a busy machine doesn't keep a pool below this */

const char *
ef_pool_reason_name (ef_pool_reason_t reason) {
    static const char *const names[] = {
#define X(name, text) text,
        EF_POOL_REASON_TABLE (X)
#undef X
    };
    ef_assert (reason < EF_POOL_REASON_COUNT);
    return names[reason];
}

const char *
ef_pool_limit_name (ef_pool_limit_t limit) {
    static const char *const names[] = {
#define X(name, text) text,
        EF_POOL_LIMIT_TABLE (X)
#undef X
    };
    ef_assert (limit < EF_LIMIT_COUNT);
    return names[limit];
}

void
ef_pool_init (ef_pool_t *self, const ef_pool_config_t *config, uint32_t stall_ms) {
    *self = (ef_pool_t){.min_hand = EF_POOL_UNSET,
                        .max_hand = EF_POOL_UNSET,
                        .scale_hand = EF_POOL_UNSET,
                        .is_quiet = true,
                        .caution = 1};
    ef_pool_configure (self, config, stall_ms);
}

void
ef_pool_configure (ef_pool_t *self, const ef_pool_config_t *config, uint32_t stall_ms) {
    self->config = *config;
    self->stall_ms = stall_ms;
}

uint32_t
ef_pool_max (const ef_pool_t *self) {
    return self->max_hand != EF_POOL_UNSET ? self->max_hand : self->config.max;
}

uint32_t
ef_pool_min (const ef_pool_t *self) {
    uint32_t min = self->min_hand != EF_POOL_UNSET ? self->min_hand : self->config.min;
    uint32_t max = ef_pool_max (self);
    return min < max ? min : max;
}

static double
s_grown (uint64_t now, uint64_t before) {
    return now > before ? (double)(now - before) : 0; /* a purge may take some back */
}

static double
s_min (double a, double b) {
    return a < b ? a : b;
}

/* What happened since the last look. */
static void
s_measure (ef_pool_t *self, const ef_load_t *load, const ef_pool_view_t *view, double ms) {
    const ef_load_t *seen = &self->seen;
    double arrived = s_grown (load->ready + load->deliveries, seen->ready + seen->deliveries);
    double ended = s_grown (load->deliveries + seen->leased, seen->deliveries + load->leased);
    double stalled = s_min (s_grown (load->stalled_sum, seen->stalled_sum), ms);
    double smooth = s_min (SMOOTH_MS, self->config.idle_ms / 8.0);
    double share = ms / (smooth + ms);
    double kept = FADE_MS / (FADE_MS + ms);
    uint32_t workers = view->here + view->others;
    self->arrive += share * (arrived * 1000 / ms - self->arrive);
    self->end += share * (ended * 1000 / ms - self->end);
    self->in_hand += share * ((double)load->leased - self->in_hand);
    self->is_quiet = ended <= 0 && load->leased == 0;
    self->good = self->good * kept + s_grown (load->done, seen->done);
    self->failed = self->failed * kept + s_grown (load->failed, seen->failed);
    self->permanent = self->permanent * kept + s_grown (load->permanent, seen->permanent);
    self->pressure_ms += 2 * stalled - ms;
    self->pressure_ms =
        self->pressure_ms > (double)load->stalled_ms ? self->pressure_ms : (double)load->stalled_ms;
    self->pressure_ms = s_min (self->pressure_ms, 4.0 * self->stall_ms);
    self->has_stalled = stalled > 0.25 * ms || load->stalled_ms >= self->stall_ms;
    if (workers > 0 && stalled > 0.9 * ms) {
        self->sat_end = self->sat_end * kept + ended;
        self->sat_seconds = self->sat_seconds * kept + workers * ms / 1000;
    }
}

/* Events a second of one worker that is never idle; 0: not known. */
static double
s_speed (const ef_pool_t *self) {
    return self->sat_end >= LEARNED ? self->sat_end / self->sat_seconds : 0;
}

/* Of one worker: as those here say, else as the pool says; a worker's own is guessed. */
static double
s_credit (const ef_pool_t *self, const ef_load_t *load) {
    double told = self->config.credit > 0 ? self->config.credit : GUESSED_CREDIT;
    double credit = load->workers > 0 ? (double)load->credit / load->workers : told;
    return credit < 1 ? 1 : credit;
}

/* How many workers, with others' workers, what is going on takes. As many as have something in hand
   are busy at the most, and as few as could hold it at the least. */
static uint32_t
s_needed (const ef_pool_t *self, const ef_load_t *load, const ef_pool_view_t *view,
          bool is_failing) {
    double least = self->in_hand / s_credit (self, load);
    double speed = s_speed (self);
    double busy = speed > 0 ? self->end / speed : least;
    busy = s_min (busy < least ? least : busy, self->in_hand);
    uint32_t needed = self->is_quiet ? 0 : (uint32_t)ceil (busy / SPARE - 1e-9);
    uint32_t all = self->target + view->others;
    bool has_need = self->pressure_ms >= self->stall_ms / 4.0 || load->inserting > 0;
    if (has_need && load->hold == EF_HOLD_NONE && !is_failing) {
        needed = needed > all ? needed : all;
    }
    return needed == 0 && !self->is_quiet ? 1 : needed;
}

/* Errors are no reason to grow. */
static bool
s_is_failing (const ef_pool_t *self, const ef_load_t *load) {
    bool is_for_good = self->permanent >= 1 && self->permanent >= self->good;
    return is_for_good || (load->breakers > 0 && self->failed >= 1 && self->failed >= self->good);
}

static ef_pool_reason_t
s_reason (const ef_pool_t *self, const ef_load_t *load, uint32_t workers, uint32_t own) {
    bool is_busy = load->leased >= workers; /* nobody is without work */
    bool is_stalled = load->stalled_ms > 0;
    uint64_t old = (uint64_t)OLD_STALLS * self->stall_ms;
    uint64_t hands = (uint64_t)((own > 0 ? own : 1) * s_credit (self, load));
    bool is_long = self->pressure_ms >= self->stall_ms && self->has_stalled;
    return is_long                                                          ? EF_POOL_STALLED
           : load->overflowed > self->seen.overflowed && is_busy            ? EF_POOL_OVERFLOW
           : load->inserting > 0 && is_busy                                 ? EF_POOL_INSERTION
           : load->fill >= 0.5 && is_stalled                                ? EF_POOL_FILL
           : is_stalled && load->oldest_ms >= (old > OLD_MS ? old : OLD_MS) ? EF_POOL_OLDEST
           : load->retrying > RETRIES_HANDS * hands && load->ready > 0 && is_busy ? EF_POOL_RETRIES
                                                                                  : EF_POOL_NONE;
}

/* To how many of its own it should grow; no more than there are: these will do. */
static uint32_t
s_size (const ef_pool_t *self, const ef_load_t *load, const ef_pool_view_t *view,
        ef_pool_reason_t reason) {
    uint32_t base = self->target > view->own ? self->target : view->own;
    uint32_t most = base > 0 ? 2 * base : 1;
    double ends = self->good + self->permanent;
    double useful = ends > 0 ? self->good / ends : 1; /* what dies for good is no load */
    double speed = s_speed (self);
    double waiting = (double)load->ready + (double)load->inserting;
    bool is_far = self->pressure_ms >= 3.0 * self->stall_ms || load->fill >= 1;
    double own = is_far ? most : base + 1;
    if (speed > 0) {
        own = useful * (self->arrive + waiting / CATCH_UP_S) / speed - view->others;
    }
    bool is_certain = reason != EF_POOL_STALLED && reason != EF_POOL_OLDEST;
    own = is_certain && own < base + 1 ? base + 1 : ceil (own - 1e-9);
    return own >= most ? most : own > 0 ? (uint32_t)own : 0;
}

static uint64_t
s_window_ms (const ef_pool_t *self) {
    return (uint64_t)self->config.idle_ms * self->caution;
}

/* Notes what is needed now; what was between two looks is taken for the same. */
static void
s_note (ef_pool_t *self, uint32_t needed, uint64_t now) {
    uint64_t width = s_window_ms (self) / EF_POOL_SLOTS;
    uint64_t slot = now / (width ? width : 1);
    uint64_t missed = slot > self->slot ? slot - self->slot : 0;
    for (uint64_t i = 0; i < missed && i < EF_POOL_SLOTS; i++) {
        self->slots[(slot - i) % EF_POOL_SLOTS] = needed;
    }
    self->slot = slot > self->slot ? slot : self->slot;
    uint32_t *newest = &self->slots[self->slot % EF_POOL_SLOTS];
    *newest = needed > *newest ? needed : *newest;
}

/* The most that was needed in the last `count` parts of the idle time. */
static uint32_t
s_most (const ef_pool_t *self, uint32_t count) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t needed = self->slots[(self->slot - i) % EF_POOL_SLOTS];
        most = needed > most ? needed : most;
    }
    return most;
}

/* From now on the idle time is another one: it begins anew. */
static void
s_set_caution (ef_pool_t *self, uint32_t caution, uint64_t now) {
    self->caution = caution;
    self->slot = 0;
    s_note (self, self->target, now);
}

/* It grows. Had it shrunk shortly before, it will be slower to do so again. */
static void
s_regret (ef_pool_t *self, uint64_t now) {
    uint64_t window = s_window_ms (self);
    if (self->shrunk_ms && now - self->shrunk_ms < 2 * window && self->caution < CAUTION_MAX) {
        self->regret_ms = now;
        s_set_caution (self, 2 * self->caution, now);
    }
}

static void
s_forget (ef_pool_t *self, uint64_t now) {
    if (self->caution > 1 && now - self->regret_ms > 8 * s_window_ms (self)) {
        self->regret_ms = now;
        s_set_caution (self, self->caution / 2, now);
    }
}

/* What is set goes before what is measured. */
static bool
s_obey (ef_pool_t *self, const ef_pool_view_t *view, ef_pool_decision_t *decision) {
    uint32_t min = ef_pool_min (self);
    uint32_t max = ef_pool_max (self);
    uint32_t to = self->target;
    if (self->scale_hand != EF_POOL_UNSET) {
        to = self->scale_hand < max ? self->scale_hand : max;
        decision->reason = EF_POOL_HAND;
    } else if (self->target < min || self->target > max) {
        to = self->target < min ? min : max;
        decision->reason = self->target < min ? EF_POOL_BELOW_MIN : EF_POOL_ABOVE_MAX;
    }
    if (to > self->target && to - self->target > view->places) {
        self->limit = EF_LIMIT_WORKERS_MAX;
        self->wanted = to;
        to = self->target + view->places;
    }
    bool is_change = to != self->target;
    self->target = to;
    return is_change;
}

/* Somebody else has started more than it asked for, and they are of use. */
static bool
s_follow (ef_pool_t *self, const ef_pool_view_t *view, ef_pool_decision_t *decision) {
    uint32_t used = self->needed < view->own ? self->needed : view->own;
    uint32_t max = ef_pool_max (self);
    used = used < max ? used : max;
    if (used <= self->target) {
        return false;
    }
    self->target = used;
    decision->reason = EF_POOL_IN_USE;
    return true;
}

/* What keeps a pool with a reason to grow from it. */
static ef_pool_limit_t
s_limit (const ef_pool_t *self, const ef_pool_view_t *view, uint64_t now) {
    return self->target >= ef_pool_max (self)                            ? EF_LIMIT_MAX
           : now < self->not_before_ms                                   ? EF_LIMIT_CRASHES
           : view->machine == EF_LIMIT_LOAD && self->target < LOAD_FLOOR ? EF_LIMIT_NONE
           : view->machine != EF_LIMIT_NONE                              ? view->machine
           : view->places == 0                                           ? EF_LIMIT_WORKERS_MAX
                                                                         : EF_LIMIT_NONE;
}

static bool
s_grow (ef_pool_t *self, const ef_pool_view_t *view, uint64_t now, bool is_failing,
        ef_pool_decision_t *decision) {
    const ef_load_t *load = &decision->load;
    decision->reason = s_reason (self, load, decision->workers, view->own);
    if (load->hold != EF_HOLD_NONE || is_failing) {
        bool waits = load->ready + load->blocked > 0;
        self->pressure_ms = 0;
        self->limit = !waits                       ? EF_LIMIT_NONE
                      : load->hold != EF_HOLD_NONE ? EF_LIMIT_HOLD
                                                   : EF_LIMIT_ERRORS;
        return false;
    }
    if (decision->reason == EF_POOL_NONE) {
        return false;
    }
    self->limit = s_limit (self, view, now);
    bool is_starting = view->own < self->target || view->here < view->own;
    bool is_early = now < self->cool_ms || (is_starting && now - self->grown_ms < START_MS);
    uint32_t to = s_size (self, load, view, decision->reason);
    to = to < ef_pool_max (self) ? to : ef_pool_max (self);
    if (to <= self->target) {
        self->limit = self->limit == EF_LIMIT_MAX ? EF_LIMIT_MAX : EF_LIMIT_NONE;
        return false;
    }
    if (self->limit == EF_LIMIT_WORKERS_MAX) {
        self->wanted = to;
    }
    if (is_early || self->limit != EF_LIMIT_NONE) {
        return false;
    }
    to = to - self->target < view->places ? to : self->target + view->places;
    self->target = to;
    self->grown_ms = now;
    self->cool_ms = now + self->config.cooldown_ms;
    s_regret (self, now);
    s_note (self, to, now);
    return true;
}

static bool
s_shrink (ef_pool_t *self, const ef_pool_view_t *view, uint64_t now, ef_pool_decision_t *decision) {
    bool is_short = view->machine == EF_LIMIT_MEMORY;
    uint32_t most = s_most (self, is_short ? EF_POOL_SLOTS / 8 : EF_POOL_SLOTS);
    uint32_t own = most > view->others ? most - view->others : 0;
    if (self->target <= ef_pool_min (self) || own >= self->target || now < self->cool_ms) {
        return false;
    }
    self->target--;
    self->shrunk_ms = now;
    self->cool_ms = now + self->config.cooldown_ms;
    decision->reason = is_short ? EF_POOL_MEMORY : EF_POOL_IDLE;
    return true;
}

bool
ef_pool_decide (ef_pool_t *self, const ef_load_t *load, const ef_pool_view_t *view, uint64_t now_ms,
                ef_pool_decision_t *decision) {
    bool is_first = self->seen_ms == 0;
    double ms = now_ms > self->seen_ms ? (double)(now_ms - self->seen_ms) : 0;
    if (!is_first && ms > 0) {
        s_measure (self, load, view, ms);
    }
    *decision = (ef_pool_decision_t){.from = self->target,
                                     .load = *load,
                                     .arrive = self->arrive,
                                     .end = self->end,
                                     .workers = view->here + view->others};
    self->hold = load->hold;
    self->limit = EF_LIMIT_NONE;
    self->wanted = 0;
    bool is_failing = s_is_failing (self, load);
    self->needed = s_needed (self, load, view, is_failing);
    s_note (self, self->needed, now_ms);
    bool has_changed = s_obey (self, view, decision);
    if (!has_changed && self->wanted == 0 && self->scale_hand == EF_POOL_UNSET) {
        has_changed = s_follow (self, view, decision) ||
                      s_grow (self, view, now_ms, is_failing, decision) ||
                      s_shrink (self, view, now_ms, decision);
    }
    s_forget (self, now_ms);
    self->seen = *load;
    self->seen_ms = now_ms;
    decision->to = self->target;
    return has_changed;
}

int
ef_pool_victim (ef_pool_t *const *pools, uint32_t count, uint32_t claimant) {
    const ef_pool_t *claims = pools[claimant];
    bool is_below = claims->target < ef_pool_min (claims);
    int best = -1;
    double least = 0;
    for (uint32_t i = 0; i < count; i++) {
        const ef_pool_t *pool = pools[i];
        if (i == claimant || pool->target <= ef_pool_min (pool) ||
            pool->scale_hand != EF_POOL_UNSET) {
            continue;
        }
        bool has_need = pool->needed >= pool->target;
        double share = (double)pool->needed / pool->target;
        if (has_need && !is_below && pool->target < claims->target + 2) {
            continue;
        }
        if (best < 0 || share < least || (share <= least && pool->target > pools[best]->target)) {
            best = (int)i;
            least = share;
        }
    }
    return best;
}

void
ef_pool_give (ef_pool_t *self, uint64_t now_ms, ef_pool_decision_t *decision) {
    *decision = (ef_pool_decision_t){.reason = EF_POOL_SLOT,
                                     .from = self->target,
                                     .to = self->target - 1,
                                     .load = self->seen,
                                     .arrive = self->arrive,
                                     .end = self->end};
    ef_assert (self->target > 0);
    self->target--;
    self->cool_ms = now_ms + self->config.cooldown_ms;
}

bool
ef_pool_may_start (const ef_pool_t *self, uint64_t now_ms) {
    return now_ms >= self->not_before_ms;
}

bool
ef_pool_ended (ef_pool_t *self, bool was_clean, uint64_t lived_ms, uint64_t now_ms) {
    if (was_clean && lived_ms >= 1000) {
        self->crashes = 0;
        return false;
    }
    self->crashes = lived_ms < EF_SHORT_LIFE_MS ? self->crashes + 1 : 1;
    if (self->crashes >= EF_CRASHES_MAX) {
        self->crashes = 0;
        self->not_before_ms = now_ms + EF_CRASH_GIVE_UP_MS;
        return true;
    }
    self->not_before_ms = now_ms + ((uint64_t)EF_CRASH_PAUSE_MS << (self->crashes - 1));
    return false;
}
