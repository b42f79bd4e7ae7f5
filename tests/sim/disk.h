/* A simulated disk: directories in memory that lose what wasn't synced.
   SPDX-License-Identifier: MIT */
#ifndef EF_SIM_DISK_H
#define EF_SIM_DISK_H

#include "../../broker/journal/storage.h"

#include <stdbool.h>

typedef struct sim_disk_s sim_disk_t;

/* Small, fast, seeded: xorshift64* (Vigna, 2016). */
typedef struct {
    uint64_t state;
} sim_random_t;
uint64_t sim_random (sim_random_t *self);
/* 0 to n - 1. */
uint32_t sim_below (sim_random_t *self, uint32_t n);
/* True in one of n. */
bool sim_one_in (sim_random_t *self, uint32_t n);

sim_disk_t *sim_disk_new (sim_random_t *random);
void sim_disk_destroy (sim_disk_t **self_p);

/* A directory by name, made where it is missing; what it returns is destroyed like any storage, the
   files stay on the disk. */
ef_storage_t *sim_disk_open (sim_disk_t *self, const char *directory);

/* Power: the write or sync that comes `operations` from now fails, and all behind it. 0: none is
 * set. */
void sim_disk_fail_after (sim_disk_t *self, uint32_t operations);
bool sim_disk_has_failed (const sim_disk_t *self);

/* Others leave room for no more than these bytes; 0: no bound. */
void sim_disk_limit (sim_disk_t *self, uint64_t bytes);
uint64_t sim_disk_used (const sim_disk_t *self);

/* The process ended, the machine did not: files stay as they are, and unsynced. */
void sim_disk_restart (sim_disk_t *self);

/* What wasn't synced is kept, lost or torn, sector by sector; then the disk works again. */
void sim_disk_crash (sim_disk_t *self);

#endif
