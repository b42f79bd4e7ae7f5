/* Dice of random unit tests: one seed a run, printed, and taken from EF_SEED to run it again.
   SPDX-License-Identifier: MIT */
#ifndef EF_DICE_H
#define EF_DICE_H

#include "unit.h"

#include <stdlib.h>
#include <time.h>

static uint64_t s_dice;

/* xorshift64* (Vigna, 2016). */
static inline uint64_t
dice (void) {
    s_dice ^= s_dice >> 12;
    s_dice ^= s_dice << 25;
    s_dice ^= s_dice >> 27;
    return s_dice * 0x2545f4914f6cdd1du;
}

static inline uint32_t
dice_below (uint32_t n) {
    return (uint32_t)((dice () >> 32) % n);
}

/* Setup of a group. */
static inline int
dice_seed (void **state) {
    (void)state;
    const char *given = getenv ("EF_SEED");
    s_dice = given ? strtoull (given, NULL, 10) : (uint64_t)time (NULL);
    s_dice |= 1;
    print_message ("EF_SEED=%llu\n", (unsigned long long)s_dice);
    return 0;
}

#endif
