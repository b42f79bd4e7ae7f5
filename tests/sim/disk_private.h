/* The simulated disk's inside, shared by disk.c (calls) and disk_crash.c (power cuts).
   SPDX-License-Identifier: MIT */
#ifndef EF_SIM_DISK_PRIVATE_H
#define EF_SIM_DISK_PRIVATE_H

#include "disk.h"

#define SECTOR 512

/* The bytes of a sector that were written since the last sync; empty: from == to. */
typedef struct {
    uint16_t from;
    uint16_t to;
} range_t;

typedef struct {
    char directory[64];
    char name[64];
    char durable_name[64]; /* empty: its name was never synced */
    uint8_t *now;          /* as a reader sees it; zeros behind `capacity` */
    uint8_t *durable;      /* as it is after a crash at worst */
    uint64_t size;
    uint64_t durable_size;
    range_t *dirty; /* one a sector */
    uint64_t capacity;
    uint64_t dirty_from; /* sectors outside of these aren't dirty */
    uint64_t dirty_to;
    bool is_removed; /* unlinked, the removal not yet durable */
    bool has_lied;   /* a sync forgot what it was to write */
    int replaced_by; /* the file that took its name, the change not yet durable; -1: none */
} file_t;

struct sim_disk_s {
    sim_random_t *random; /* borrowed */
    file_t **files;       /* owned */
    int count;
    uint32_t fail_after;
    bool has_failed;
    uint64_t capacity; /* bytes; 0: no bound */
    uint64_t used;     /* by files that aren't removed */
    sim_noise_t noise;
    sim_fault_t fault;
    uint32_t faults; /* calls that it made fail */
};

void disk_free_file (file_t *file);

#endif
