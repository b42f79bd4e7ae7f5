/* The dedupe window. SPDX-License-Identifier: MIT */
#include "window.h"
#include "../../proto/assert.h"
#include "../base/hash.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_BITS      10
#define BLOCK_PLACES    (1u << BLOCK_BITS) /* a topic with one id pays for so many: 24 KiB */
#define BLOCK_MASK      (BLOCK_PLACES - 1)
#define RUNS            8 /* generations of ids written again, and the main one */
#define AHEAD           8 /* places: about the time that memory takes */
#define RESTORE_FORGETS 2 /* ids at each restored: it gets ahead of what comes */
#define STEP_COST                                                                                  \
    256              /* of a walk's step: so many blocks that have nothing for it, or 16 that may */
#define READ_COST 15 /* of reading one, beyond that of passing it by */

typedef struct {
    ef_print_t print; /* zero: a hole */
    uint32_t past_ms; /* accepted so long after the block's base */
    uint32_t segment;
} place_t;
_Static_assert(sizeof (place_t) == 24, "what an id costs beside the table");

typedef struct {
    uint64_t base_ms;
    uint32_t oldest_segment; /* nothing in here lies before it */
    place_t places[BLOCK_PLACES];
} block_t;

/* Places in order, numbered from 0 on for ever; a block is never moved, nor is what is in it. */
typedef struct {
    uint32_t *blocks; /* owned ring: numbers of the blocks, by place number / BLOCK_PLACES */
    uint32_t capacity;
    uint64_t head;    /* the first place that is in use */
    uint64_t tail;    /* the next to be used; a run without places begins at a new block */
    uint64_t tail_ms; /* the latest acceptance in it */
} run_t;

struct ef_window_s {
    block_t **blocks; /* owned, by number; number 0 is never used, so that no reference is 0 */
    uint32_t blocks_size;
    uint32_t blocks_free; /* all numbers below are in use */
    uint32_t blocks_top;  /* all numbers from it on are free */
    uint32_t block_count;
    uint32_t added;  /* since the last ef_window_expire */
    uint64_t places; /* in use in all runs, holes too */
    uint64_t floor_ms;
    ef_print_table_t table; /* of references: block number and place in it */
    run_t runs[RUNS];       /* the first: in order of acceptance */
};

static const ef_print_t *s_print_of (const void *owner, uint32_t ref);
static uint32_t s_ref (const run_t *run, uint64_t at);
static place_t *s_place (const ef_window_t *self, uint32_t ref);
static uint64_t s_ms (const ef_window_t *self, uint32_t ref);
static void s_append (ef_window_t *self, run_t *run, const ef_known_t *known);
static void s_drop (ef_window_t *self, uint32_t ref);
static bool s_forget (ef_window_t *self, const ef_window_rule_t *rule, uint64_t budget);

ef_print_t
ef_print (const uint64_t key[2], const void *id, size_t size) {
    uint64_t out[2];
    ef_siphash128 (key, id, size, out);
    return (ef_print_t){out[0] | ((out[0] | out[1]) == 0), out[1]};
}

ef_window_t *
ef_window_new (void) {
    ef_window_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->blocks_free = self->blocks_top = 1;
    ef_print_table_init (&self->table, s_print_of, self);
    return self;
}

void
ef_window_destroy (ef_window_t **self_p) {
    ef_window_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    for (uint32_t i = 1; i < self->blocks_top; i++) {
        free (self->blocks[i]);
    }
    for (unsigned i = 0; i < RUNS; i++) {
        free (self->runs[i].blocks);
    }
    ef_print_table_free (&self->table);
    free (self->blocks);
    free (self);
    *self_p = NULL;
}

static const ef_print_t *
s_print_of (const void *owner, uint32_t ref) {
    return &s_place (owner, ref)->print;
}

static uint32_t
s_ref (const run_t *run, uint64_t at) {
    uint32_t block = run->blocks[(at >> BLOCK_BITS) & (run->capacity - 1)];
    return block << BLOCK_BITS | ((uint32_t)at & BLOCK_MASK);
}

static place_t *
s_place (const ef_window_t *self, uint32_t ref) {
    return &self->blocks[ref >> BLOCK_BITS]->places[ref & BLOCK_MASK];
}

static uint64_t
s_ms (const ef_window_t *self, uint32_t ref) {
    return self->blocks[ref >> BLOCK_BITS]->base_ms + s_place (self, ref)->past_ms;
}

static bool
s_is_hole (const place_t *place) {
    return (place->print.low | place->print.high) == 0;
}

/* What was accepted in the future (the clock was set back) isn't over. */
static bool
s_is_over (uint64_t accepted_ms, const ef_window_rule_t *rule) {
    return rule->now_ms >= accepted_ms && rule->now_ms - accepted_ms >= rule->window_ms;
}

static void
s_raise_floor (ef_window_t *self, uint64_t accepted_ms) {
    self->floor_ms = accepted_ms > self->floor_ms ? accepted_ms : self->floor_ms;
}

/* ---- Blocks ---- */

/* The lowest free number, so that references need few bits. */
static uint32_t
s_block_new (ef_window_t *self, uint64_t accepted_ms) {
    uint32_t number = self->blocks_free;
    while (number < self->blocks_top && self->blocks[number]) {
        number++;
    }
    ef_assert (number <= EF_PRINT_REF_MAX >> BLOCK_BITS);
    if (number >= self->blocks_size) {
        self->blocks_size = self->blocks_size ? 2 * self->blocks_size : 8;
        self->blocks = realloc (self->blocks, self->blocks_size * sizeof (void *));
        ef_assert (self->blocks != NULL);
    }
    block_t *block = malloc (sizeof *block); /* a place is written before it is read */
    ef_assert (block != NULL);
    block->base_ms = accepted_ms > INT32_MAX ? accepted_ms - INT32_MAX : 0;
    block->oldest_segment = UINT32_MAX;
    self->blocks[number] = block;
    self->blocks_free = number + 1;
    self->blocks_top = number >= self->blocks_top ? number + 1 : self->blocks_top;
    self->block_count++;
    return number;
}

static void
s_block_free (ef_window_t *self, uint32_t number) {
    ef_assert (self->blocks[number] != NULL);
    free (self->blocks[number]);
    self->blocks[number] = NULL;
    self->block_count--;
    self->blocks_free = number < self->blocks_free ? number : self->blocks_free;
    while (self->blocks_top > 1 && self->blocks[self->blocks_top - 1] == NULL) {
        self->blocks_top--;
    }
    self->blocks_free = self->blocks_free < self->blocks_top ? self->blocks_free : self->blocks_top;
    ef_print_table_shrink (&self->table, self->blocks_top << BLOCK_BITS);
}

/* ---- Runs ---- */

static bool
s_is_empty (const run_t *run) {
    return run->head == run->tail;
}

/* Room in the ring for one block more. */
static void
s_widen (run_t *run) {
    uint64_t first = run->head >> BLOCK_BITS;
    uint64_t last = run->tail >> BLOCK_BITS; /* the new one */
    if (last - first < run->capacity) {
        return;
    }
    uint32_t capacity = run->capacity ? 2 * run->capacity : 4;
    uint32_t *blocks = malloc (capacity * sizeof *blocks);
    ef_assert (blocks != NULL);
    for (uint64_t i = first; i < last; i++) {
        blocks[i & (capacity - 1)] = run->blocks[i & (run->capacity - 1)];
    }
    free (run->blocks);
    run->blocks = blocks;
    run->capacity = capacity;
}

/* Where a time is too far from the block's: the rest of the block stays holes. */
static void
s_leave_block (ef_window_t *self, run_t *run) {
    place_t *rest = s_place (self, s_ref (run, run->tail));
    uint32_t count = BLOCK_PLACES - ((uint32_t)run->tail & BLOCK_MASK);
    memset (rest, 0, count * sizeof *rest);
    run->tail += count;
    self->places += count;
}

static block_t *
s_tail_block (ef_window_t *self, run_t *run, uint64_t accepted_ms) {
    if (run->tail & BLOCK_MASK) {
        block_t *block = self->blocks[s_ref (run, run->tail) >> BLOCK_BITS];
        if (accepted_ms - block->base_ms <= UINT32_MAX) { /* nor earlier than the base */
            return block;
        }
        s_leave_block (self, run);
    }
    s_widen (run);
    uint32_t number = s_block_new (self, accepted_ms);
    run->blocks[(run->tail >> BLOCK_BITS) & (run->capacity - 1)] = number;
    return self->blocks[number];
}

static void
s_append (ef_window_t *self, run_t *run, const ef_known_t *known) {
    ef_assert ((known->print.low | known->print.high) != 0);
    block_t *block = s_tail_block (self, run, known->accepted_ms);
    block->places[run->tail & BLOCK_MASK] =
        (place_t){known->print, (uint32_t)(known->accepted_ms - block->base_ms), known->segment};
    if (known->segment < block->oldest_segment) {
        block->oldest_segment = known->segment;
    }
    ef_print_table_insert (&self->table, known->print, s_ref (run, run->tail));
    run->tail++;
    run->tail_ms = known->accepted_ms > run->tail_ms ? known->accepted_ms : run->tail_ms;
    self->places++;
}

/* Leaves a hole. */
static void
s_drop (ef_window_t *self, uint32_t ref) {
    place_t *place = s_place (self, ref);
    ef_print_table_remove (&self->table, place->print, ref);
    place->print = (ef_print_t){0, 0};
}

/* A run that has become empty begins at a new block. */
static void
s_settle (ef_window_t *self, run_t *run) {
    if (s_is_empty (run) && (run->tail & BLOCK_MASK)) {
        s_block_free (self, s_ref (run, run->tail) >> BLOCK_BITS);
        run->tail = (run->tail | BLOCK_MASK) + 1;
        run->head = run->tail;
    }
    run->tail_ms = s_is_empty (run) ? 0 : run->tail_ms;
}

static void
s_pop_head (ef_window_t *self, run_t *run) {
    uint32_t ref = s_ref (run, run->head);
    if (run->head + AHEAD < run->tail) {
        ef_window_prefetch (self, s_place (self, s_ref (run, run->head + AHEAD))->print);
    }
    if (!s_is_hole (s_place (self, ref))) {
        s_raise_floor (self, s_ms (self, ref));
        s_drop (self, ref);
    }
    ef_assert (!s_is_empty (run) && self->places > 0);
    run->head++;
    self->places--;
    if ((run->head & BLOCK_MASK) == 0) {
        s_block_free (self, ref >> BLOCK_BITS);
    }
    s_settle (self, run);
}

/* ---- Adding ---- */

void
ef_window_prefetch (const ef_window_t *self, ef_print_t print) {
    ef_print_table_prefetch (&self->table, print);
}

bool
ef_window_has (const ef_window_t *self, ef_print_t print, const ef_window_rule_t *rule) {
    uint32_t ref = ef_print_table_find (&self->table, print);
    return ref != 0 && !s_is_over (s_ms (self, ref), rule);
}

bool
ef_window_add (ef_window_t *self, ef_print_t print, uint32_t segment,
               const ef_window_rule_t *rule) {
    uint32_t ref = ef_print_table_find (&self->table, print);
    if (ref != 0) {
        if (!s_is_over (s_ms (self, ref), rule)) {
            return false;
        }
        s_raise_floor (self, s_ms (self, ref));
        s_drop (self, ref);
    }
    s_append (self, &self->runs[0], &(ef_known_t){print, rule->now_ms, segment});
    self->added++;
    return true;
}

/* ---- Forgetting ---- */

/* The run whose head is next to go; NULL where nothing must. */
static run_t *
s_victim (ef_window_t *self, const ef_window_rule_t *rule) {
    run_t *oldest = NULL;
    uint64_t oldest_ms = UINT64_MAX;
    for (run_t *run = self->runs; run < self->runs + RUNS; run++) {
        if (s_is_empty (run)) {
            continue;
        }
        uint32_t ref = s_ref (run, run->head);
        uint64_t ms = s_ms (self, ref);
        if (s_is_hole (s_place (self, ref)) || s_is_over (ms, rule)) {
            return run;
        }
        oldest = oldest == NULL || ms < oldest_ms ? run : oldest;
        oldest_ms = ms < oldest_ms ? ms : oldest_ms;
    }
    /* Holes are freed as they come to a head; should there be many, ids that stand before them go
       early rather than that memory has no bound. */
    uint64_t most = rule->most < EF_WINDOW_MOST ? rule->most : EF_WINDOW_MOST;
    bool is_past =
        self->table.count > most || self->places > most + most / 2 + 2 * RUNS * BLOCK_PLACES;
    return is_past ? oldest : NULL;
}

static bool
s_forget (ef_window_t *self, const ef_window_rule_t *rule, uint64_t budget) {
    run_t *run;
    while ((run = s_victim (self, rule)) != NULL) {
        if (budget-- == 0) {
            return true;
        }
        s_pop_head (self, run);
    }
    return false;
}

bool
ef_window_expire (ef_window_t *self, const ef_window_rule_t *rule, uint32_t budget) {
    uint64_t added = self->added;
    self->added = 0;
    return s_forget (self, rule, budget + 2 * added);
}

/* ---- Recovery ---- */

/* The run for an id that comes late: the one whose end is nearest before it. */
static run_t *
s_run_for (ef_window_t *self, uint64_t accepted_ms) {
    if (accepted_ms >= self->runs[0].tail_ms) {
        return &self->runs[0];
    }
    run_t *fit = NULL;
    run_t *empty = NULL;
    run_t *least = &self->runs[1]; /* the least disorder */
    for (run_t *run = self->runs + 1; run < self->runs + RUNS; run++) {
        if (s_is_empty (run)) {
            empty = empty ? empty : run;
        } else if (run->tail_ms <= accepted_ms && (fit == NULL || run->tail_ms > fit->tail_ms)) {
            fit = run;
        }
        least = run->tail_ms < least->tail_ms ? run : least;
    }
    return fit ? fit : empty ? empty : least;
}

void
ef_window_restore (ef_window_t *self, const ef_known_t *known, bool is_late,
                   const ef_window_rule_t *rule) {
    if (s_is_over (known->accepted_ms, rule)) {
        s_raise_floor (self, known->accepted_ms);
        return;
    }
    uint32_t ref = ef_print_table_find (&self->table, known->print);
    if (ref != 0) {
        place_t *place = s_place (self, ref);
        uint64_t ms = s_ms (self, ref);
        if (ms == known->accepted_ms && known->segment > place->segment) {
            place->segment = known->segment;
        }
        if (ms >= known->accepted_ms) {
            return;
        }
        s_drop (self, ref);
    }
    s_append (self, is_late ? s_run_for (self, known->accepted_ms) : &self->runs[0], known);
    s_forget (self, rule, RESTORE_FORGETS);
}

/* ---- Walks ---- */

/* After a move: what is the oldest now? */
static void
s_note_oldest (ef_window_t *self, const run_t *run, uint64_t at) {
    block_t *block = self->blocks[s_ref (run, at) >> BLOCK_BITS];
    uint64_t first = at & ~(uint64_t)BLOCK_MASK;
    uint32_t oldest = UINT32_MAX;
    for (uint64_t i = first > run->head ? first : run->head;
         i < first + BLOCK_PLACES && i < run->tail; i++) {
        const place_t *place = &block->places[i & BLOCK_MASK];
        oldest = !s_is_hole (place) && place->segment < oldest ? place->segment : oldest;
    }
    ef_assert (oldest >= block->oldest_segment);
    block->oldest_segment = oldest;
}

/* From walk->at to the end of its block, or until `most` are found. */
static uint32_t
s_walk_block (ef_window_t *self, ef_window_walk_t *walk, const ef_window_rule_t *rule,
              ef_known_t *into, uint32_t most) {
    const run_t *run = &self->runs[walk->run];
    uint64_t end = (walk->at | BLOCK_MASK) + 1;
    end = end < run->tail ? end : run->tail;
    uint32_t found = 0;
    for (; walk->at < end && found < most; walk->at++) {
        uint32_t ref = s_ref (run, walk->at);
        place_t *place = s_place (self, ref);
        if (place->segment > walk->segment || s_is_hole (place) ||
            s_is_over (s_ms (self, ref), rule)) {
            continue;
        }
        into[found++] = (ef_known_t){place->print, s_ms (self, ref), place->segment};
        place->segment = walk->new_segment > place->segment ? walk->new_segment : place->segment;
    }
    if (walk->at == end && walk->new_segment > 0) {
        s_note_oldest (self, run, end - 1);
    }
    return found;
}

uint32_t
ef_window_walk (ef_window_t *self, ef_window_walk_t *walk, const ef_window_rule_t *rule,
                ef_known_t *into, uint32_t most) {
    ef_assert (most > 0 && (walk->new_segment == 0 || walk->new_segment > walk->segment));
    uint32_t found = 0;
    for (uint32_t cost = 0; walk->run < RUNS && found < most && cost < STEP_COST; cost++) {
        const run_t *run = &self->runs[walk->run];
        walk->at = walk->at < run->head ? run->head : walk->at;
        if (walk->at >= run->tail) {
            walk->run++;
            walk->at = 0;
        } else if (self->blocks[s_ref (run, walk->at) >> BLOCK_BITS]->oldest_segment >
                   walk->segment) {
            walk->at = (walk->at | BLOCK_MASK) + 1;
        } else {
            found += s_walk_block (self, walk, rule, into + found, most - found);
            cost += READ_COST;
        }
    }
    walk->is_done = walk->run == RUNS;
    return found;
}

/* ---- Looking at it ---- */

uint32_t
ef_window_count (const ef_window_t *self) {
    return self->table.count;
}

size_t
ef_window_bytes (const ef_window_t *self) {
    size_t bytes = sizeof *self + self->blocks_size * sizeof (void *) +
                   self->block_count * sizeof (block_t) + ef_print_table_bytes (&self->table);
    for (unsigned i = 0; i < RUNS; i++) {
        bytes += self->runs[i].capacity * sizeof *self->runs[i].blocks;
    }
    return bytes;
}

uint64_t
ef_window_floor (const ef_window_t *self) {
    return self->floor_ms;
}

uint64_t
ef_window_digest (const ef_window_t *self, uint64_t after_ms) {
    uint64_t sum = 0;
    for (const run_t *run = self->runs; run < self->runs + RUNS; run++) {
        for (uint64_t at = run->head; at < run->tail; at++) {
            uint32_t ref = s_ref (run, at);
            const place_t *place = s_place (self, ref);
            uint64_t ms = s_ms (self, ref);
            if (!s_is_hole (place) && ms > after_ms) {
                /* The fingerprint is random already; the products bind its halves and the time. */
                uint64_t mixed = (place->print.low ^ ms) * 0x9e3779b97f4a7c15u;
                sum += (mixed ^ mixed >> 32 ^ place->print.high) * 0xd6e8feb86659fd93u;
            }
        }
    }
    return sum;
}

void
ef_window_check (const ef_window_t *self) {
    uint64_t places = 0;
    uint64_t blocks = 0;
    uint32_t count = 0;
    for (const run_t *run = self->runs; run < self->runs + RUNS; run++) {
        ef_assert (run->head <= run->tail);
        ef_assert (!s_is_empty (run) || ((run->head & BLOCK_MASK) == 0 && run->tail_ms == 0));
        for (uint64_t at = run->head; at < run->tail; at++) {
            uint32_t ref = s_ref (run, at);
            const place_t *place = s_place (self, ref);
            if (!s_is_hole (place)) {
                ef_assert (ef_print_table_find (&self->table, place->print) == ref);
                ef_assert (self->blocks[ref >> BLOCK_BITS]->oldest_segment <= place->segment);
                ef_assert (s_ms (self, ref) <= run->tail_ms);
                count++;
            }
        }
        places += run->tail - run->head;
        blocks +=
            s_is_empty (run) ? 0 : ((run->tail - 1) >> BLOCK_BITS) - (run->head >> BLOCK_BITS) + 1;
    }
    ef_assert (places == self->places && blocks == self->block_count);
    ef_assert (count == self->table.count);
    for (uint32_t i = 1; i < self->blocks_free; i++) {
        ef_assert (self->blocks[i] != NULL);
    }
    ef_print_table_check (&self->table);
}
