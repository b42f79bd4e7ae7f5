/* A simulated disk: directories in memory that lose what wasn't synced.
   SPDX-License-Identifier: MIT

   What a power cut may do to what wasn't synced: each sector of 512 bytes is kept, lost, torn (its
   first half is kept) or, where noise is allowed, filled with noise in the bytes that were being
   written; each file's size, each name that was made, changed or removed is kept or lost, apart
   from all else. Bytes that were synced before stay as they were, even where they share a sector
   with bytes that are being written ("powersafe overwrite"), unless noise is to fill whole sectors.
   After a sync that lies, reads show bytes that the next crash takes back. */
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
/* A copy with all that isn't synced, and without a fault to come. */
sim_disk_t *sim_disk_copy (const sim_disk_t *self, sim_random_t *random);

/* A directory by name, made where it is missing; what it returns is destroyed like any storage, the
   files stay on the disk. */
ef_storage_t *sim_disk_open (sim_disk_t *self, const char *directory);

/* Power: the write or sync that comes `operations` from now fails, and all behind it. 0: none is
 * set. */
void sim_disk_fail_after (sim_disk_t *self, uint32_t operations);
bool sim_disk_has_failed (const sim_disk_t *self);

/* The kinds of calls that can be made to fail. */
#define SIM_CALL_TABLE(X)                                                                          \
    X (CREATE, "create")                                                                           \
    X (WRITE, "write")                                                                             \
    X (SYNC, "sync")                                                                               \
    X (SYNC_DIRECTORY, "sync_directory")                                                           \
    X (TRUNCATE, "truncate")                                                                       \
    X (EXTEND, "extend")                                                                           \
    X (RENAME, "rename")                                                                           \
    X (UNLINK, "unlink")                                                                           \
    X (OPEN, "open")                                                                               \
    X (READ, "read")                                                                               \
    X (SIZE, "size")                                                                               \
    X (LIST, "list")
typedef enum {
#define X(name, text) SIM_CALL_##name,
    SIM_CALL_TABLE (X)
#undef X
        SIM_CALL_COUNT
} sim_call_t;
const char *sim_call_name (sim_call_t call);

typedef struct {
    sim_call_t call;
    uint32_t at;     /* the at-th call of this kind from now on; 0: none */
    bool is_forever; /* all behind it too */
    bool is_lie;     /* a sync: what it was to write is forgotten, but still read until a crash */
    int error;       /* errno */
} sim_fault_t;
void sim_disk_fault (sim_disk_t *self, const sim_fault_t *fault);
/* How many calls the fault has made fail. */
uint32_t sim_disk_faults (const sim_disk_t *self);
/* The same for a sync that lies: the at-th from now on fails once. */
void sim_disk_lie (sim_disk_t *self, uint32_t at);

/* Others leave room for no more than these bytes; 0: no bound. */
void sim_disk_limit (sim_disk_t *self, uint64_t bytes);
uint64_t sim_disk_used (const sim_disk_t *self);

/* The process ended, the machine did not: files stay as they are, and unsynced. */
void sim_disk_restart (sim_disk_t *self);

typedef enum { SIM_NOISE_NONE, SIM_NOISE_WRITTEN, SIM_NOISE_SECTORS } sim_noise_t;
void sim_disk_noise (sim_disk_t *self, sim_noise_t noise);

/* Sectors that were written and not synced. */
uint32_t sim_disk_unsynced (const sim_disk_t *self);

/* What wasn't synced is kept, lost or torn, sector by sector; then the disk works again. */
void sim_disk_crash (sim_disk_t *self);

typedef enum { SIM_LOST, SIM_KEPT, SIM_TORN, SIM_NOISE } sim_fate_t;
/* How many things a crash decides about: names, then sectors and sizes. */
uint32_t sim_disk_pending (const sim_disk_t *self);
/* A crash with a sim_fate_t for each of them, in that order. */
void sim_disk_crash_with (sim_disk_t *self, const uint8_t *fates);

#endif
