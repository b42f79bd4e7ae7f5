/* A simulated disk. SPDX-License-Identifier: MIT */
#include "disk_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    ef_storage_t base;
    sim_disk_t *disk;
    char directory[64];
} view_t;

uint64_t
sim_random (sim_random_t *self) {
    self->state ^= self->state >> 12;
    self->state ^= self->state << 25;
    self->state ^= self->state >> 27;
    return self->state * 0x2545f4914f6cdd1du;
}

uint32_t
sim_below (sim_random_t *self, uint32_t n) {
    return (uint32_t)((sim_random (self) >> 32) * n >> 32);
}

bool
sim_one_in (sim_random_t *self, uint32_t n) {
    return sim_below (self, n) == 0;
}

sim_disk_t *
sim_disk_new (sim_random_t *random) {
    sim_disk_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->random = random;
    return self;
}

void
disk_free_file (file_t *file) {
    free (file->now);
    free (file->durable);
    free (file->dirty);
    free (file);
}

void
sim_disk_destroy (sim_disk_t **self_p) {
    sim_disk_t *self = *self_p;
    for (int i = 0; i < self->count; i++) {
        if (self->files[i]) {
            disk_free_file (self->files[i]);
        }
    }
    free (self->files);
    free (self);
    *self_p = NULL;
}

const char *
sim_call_name (sim_call_t call) {
    static const char *const names[] = {
#define X(name, text) text,
        SIM_CALL_TABLE (X)
#undef X
    };
    ef_assert (call < SIM_CALL_COUNT);
    return names[call];
}

/* Counts one call. 0, or the negative errno with which it fails. */
static int
s_strike (sim_disk_t *self, sim_call_t call) {
    sim_fault_t *fault = &self->fault;
    if (fault->at == 0 || fault->call != call || (fault->at > 1 && fault->at--)) {
        return 0;
    }
    fault->at = fault->is_forever ? 1 : 0;
    self->faults++;
    return -fault->error;
}

static bool
s_fails_power (sim_disk_t *self) {
    if (self->fail_after > 0 && --self->fail_after == 0) {
        self->has_failed = true;
    }
    return self->has_failed;
}

/* The same for a call that changes something, which takes power too. */
static int
s_fails (sim_disk_t *self, sim_call_t call) {
    return s_fails_power (self) ? -EIO : s_strike (self, call);
}

static void
s_reserve (file_t *file, uint64_t bytes) {
    if (bytes <= file->capacity) {
        return;
    }
    uint64_t capacity = bytes > 2 * file->capacity ? bytes : 2 * file->capacity;
    capacity = (capacity + 4095) / 4096 * 4096;
    uint64_t sectors = capacity / SECTOR;
    uint64_t had = file->capacity / SECTOR;
    file->now = realloc (file->now, capacity);
    file->durable = realloc (file->durable, capacity);
    file->dirty = realloc (file->dirty, sectors * sizeof *file->dirty);
    ef_assert (file->now && file->durable && file->dirty);
    memset (file->now + file->capacity, 0, capacity - file->capacity);
    memset (file->durable + file->capacity, 0, capacity - file->capacity);
    memset (file->dirty + had, 0, (sectors - had) * sizeof *file->dirty);
    file->capacity = capacity;
}

/* Notes that bytes within one sector wait for a sync. */
static void
s_soil (file_t *file, uint64_t sector, uint32_t from, uint32_t to) {
    range_t *range = &file->dirty[sector];
    bool is_clean = range->from == range->to;
    range->from = (uint16_t)(is_clean || from < range->from ? from : range->from);
    range->to = (uint16_t)(is_clean || to > range->to ? to : range->to);
    if (file->dirty_from == file->dirty_to) {
        file->dirty_from = sector;
        file->dirty_to = sector + 1;
    }
    file->dirty_from = sector < file->dirty_from ? sector : file->dirty_from;
    file->dirty_to = sector >= file->dirty_to ? sector + 1 : file->dirty_to;
}

static void
s_soil_bytes (file_t *file, uint64_t offset, uint64_t bytes) {
    while (bytes > 0) {
        uint32_t from = offset % SECTOR;
        uint32_t part = bytes < SECTOR - from ? (uint32_t)bytes : SECTOR - from;
        s_soil (file, offset / SECTOR, from, from + part);
        offset += part;
        bytes -= part;
    }
}

/* Takes or gives back space. False: the disk is full. */
static bool
s_resize (sim_disk_t *self, file_t *file, uint64_t size) {
    if (size > file->size && self->capacity && self->used + (size - file->size) > self->capacity) {
        return false;
    }
    self->used = self->used + size - file->size;
    file->size = size;
    return true;
}

static bool
s_is_in (const view_t *view, const file_t *file) {
    return file && !file->is_removed && strcmp (file->directory, view->directory) == 0;
}

static int
s_list (ef_storage_t *self, void (*each) (void *arg, const char *name), void *arg) {
    view_t *view = (view_t *)self;
    int rc = s_strike (view->disk, SIM_CALL_LIST);
    for (int i = 0; rc == 0 && i < view->disk->count; i++) {
        if (s_is_in (view, view->disk->files[i])) {
            each (arg, view->disk->files[i]->name);
        }
    }
    return rc;
}

static int
s_find (ef_storage_t *self, const char *name) {
    view_t *view = (view_t *)self;
    for (int i = 0; i < view->disk->count; i++) {
        if (s_is_in (view, view->disk->files[i]) &&
            strcmp (view->disk->files[i]->name, name) == 0) {
            return i;
        }
    }
    return -ENOENT;
}

static int
s_open (ef_storage_t *self, const char *name) {
    int file = s_find (self, name);
    int rc = file < 0 ? 0 : s_strike (((view_t *)self)->disk, SIM_CALL_OPEN);
    return rc ? rc : file;
}

static int
s_create (ef_storage_t *self, const char *name, uint64_t bytes) {
    view_t *view = (view_t *)self;
    sim_disk_t *disk = view->disk;
    int rc = s_fails (disk, SIM_CALL_CREATE);
    if (rc) {
        return rc;
    }
    if (s_find (self, name) >= 0) {
        return -EEXIST;
    }
    file_t *file = calloc (1, sizeof *file);
    ef_assert (file != NULL);
    snprintf (file->directory, sizeof file->directory, "%s", view->directory);
    snprintf (file->name, sizeof file->name, "%s", name);
    file->replaced_by = -1;
    if (!s_resize (disk, file, bytes)) {
        disk_free_file (file);
        return -ENOSPC;
    }
    disk->files = realloc (disk->files, (size_t)(disk->count + 1) * sizeof *disk->files);
    ef_assert (disk->files != NULL);
    disk->files[disk->count] = file;
    return disk->count++;
}

static void
s_close (ef_storage_t *self, int file) {
    (void)self;
    (void)file;
}

static int64_t
s_size (ef_storage_t *self, int file) {
    sim_disk_t *disk = ((view_t *)self)->disk;
    int rc = s_strike (disk, SIM_CALL_SIZE);
    return rc ? rc : (int64_t)disk->files[file]->size;
}

static int
s_write (ef_storage_t *self, int number, const struct iovec *parts, int count, uint64_t offset) {
    sim_disk_t *disk = ((view_t *)self)->disk;
    file_t *file = disk->files[number];
    uint64_t end = offset;
    for (int i = 0; i < count; i++) {
        end += parts[i].iov_len;
    }
    if (end > file->size && !s_resize (disk, file, end)) {
        return -ENOSPC;
    }
    int rc = s_strike (disk, SIM_CALL_WRITE);
    if (rc) {
        count = 1; /* a short write: a part of it is there */
    }
    for (int i = 0; i < count; i++) {
        size_t bytes = rc ? parts[i].iov_len / 2 : parts[i].iov_len;
        if (s_fails_power (disk)) {
            return -EIO; /* what came before stays written, unsynced */
        }
        s_reserve (file, offset + bytes);
        if (bytes > 0) {
            memcpy (file->now + offset, parts[i].iov_base, bytes);
        }
        s_soil_bytes (file, offset, bytes);
        offset += bytes;
    }
    return rc;
}

static int64_t
s_read (ef_storage_t *self, int number, void *bytes, size_t size, uint64_t offset) {
    sim_disk_t *disk = ((view_t *)self)->disk;
    const file_t *file = disk->files[number];
    int rc = s_strike (disk, SIM_CALL_READ);
    if (rc || offset >= file->size) {
        return rc;
    }
    size = size < file->size - offset ? size : file->size - offset;
    uint64_t have = offset < file->capacity ? file->capacity - offset : 0;
    have = have < size ? have : size;
    if (have > 0) {
        memcpy (bytes, file->now + offset, have);
    }
    memset ((uint8_t *)bytes + have, 0, size - have);
    return (int64_t)size;
}

static int
s_truncate (ef_storage_t *self, int number, uint64_t bytes) {
    sim_disk_t *disk = ((view_t *)self)->disk;
    file_t *file = disk->files[number];
    int rc = s_fails (disk, SIM_CALL_TRUNCATE);
    if (rc) {
        return rc;
    }
    for (uint64_t at = bytes; at < file->capacity;) { /* zeros aren't written where zeros are */
        static const uint8_t zeros[SECTOR];
        uint64_t end = (at / SECTOR + 1) * SECTOR;
        if (memcmp (file->now + at, zeros, end - at) != 0) {
            memset (file->now + at, 0, end - at);
            s_soil_bytes (file, at, end - at);
        }
        at = end;
    }
    return s_resize (disk, file, bytes) ? 0 : -ENOSPC;
}

static int
s_extend (ef_storage_t *self, int number, uint64_t bytes) {
    sim_disk_t *disk = ((view_t *)self)->disk;
    file_t *file = disk->files[number];
    int rc = s_fails (disk, SIM_CALL_EXTEND);
    if (rc) {
        return rc;
    }
    return bytes <= file->size || s_resize (disk, file, bytes) ? 0 : -ENOSPC;
}

static int
s_sync (ef_storage_t *self, int number) {
    sim_disk_t *disk = ((view_t *)self)->disk;
    file_t *file = disk->files[number];
    int rc = s_fails (disk, SIM_CALL_SYNC);
    bool is_lie = rc && !disk->has_failed && disk->fault.is_lie;
    if (rc && !is_lie) {
        return rc;
    }
    for (uint64_t s = file->dirty_from; s < file->dirty_to; s++) {
        if (file->dirty[s].from < file->dirty[s].to && !is_lie) {
            memcpy (file->durable + s * SECTOR, file->now + s * SECTOR, SECTOR);
        }
        file->dirty[s] = (range_t){0, 0};
    }
    file->dirty_from = file->dirty_to = 0;
    file->has_lied = file->has_lied || is_lie;
    file->durable_size = is_lie ? file->durable_size : file->size;
    return rc;
}

static int
s_sync_directory (ef_storage_t *self) {
    view_t *view = (view_t *)self;
    sim_disk_t *disk = view->disk;
    int rc = s_fails (disk, SIM_CALL_SYNC_DIRECTORY);
    if (rc) {
        return rc;
    }
    for (int i = 0; i < disk->count; i++) {
        file_t *file = disk->files[i];
        if (file && strcmp (file->directory, view->directory) == 0) {
            strcpy (file->durable_name, file->name);
            if (file->is_removed) {
                disk_free_file (file);
                disk->files[i] = NULL;
            }
        }
    }
    return 0;
}

static int
s_unlink (ef_storage_t *self, const char *name) {
    int file = s_find (self, name);
    sim_disk_t *disk = ((view_t *)self)->disk;
    int rc = file < 0 ? file : s_fails (disk, SIM_CALL_UNLINK);
    if (rc) {
        return rc;
    }
    disk->files[file]->is_removed = true;
    disk->used -= disk->files[file]->size;
    return 0;
}

static int
s_rename (ef_storage_t *self, const char *from, const char *to) {
    sim_disk_t *disk = ((view_t *)self)->disk;
    int file = s_find (self, from);
    int target = s_find (self, to);
    int rc = file < 0 ? file : s_fails (disk, SIM_CALL_RENAME);
    if (rc) {
        return rc;
    }
    if (target >= 0) {
        disk->files[target]->is_removed = true;
        disk->files[target]->replaced_by = file;
        disk->used -= disk->files[target]->size;
    }
    snprintf (disk->files[file]->name, sizeof disk->files[file]->name, "%s", to);
    return 0;
}

static int
s_room (ef_storage_t *self, uint64_t *bytes) {
    const sim_disk_t *disk = ((view_t *)self)->disk;
    *bytes = disk->capacity == 0           ? UINT64_MAX
             : disk->capacity > disk->used ? disk->capacity - disk->used
                                           : 0;
    return 0;
}

static void
s_uncache (ef_storage_t *self, int number) {
    file_t *file = ((view_t *)self)->disk->files[number];
    for (uint64_t s = 0; file->has_lied && s < file->capacity / SECTOR; s++) {
        if (file->dirty[s].from == file->dirty[s].to) {
            memcpy (file->now + s * SECTOR, file->durable + s * SECTOR, SECTOR);
        }
    }
    file->has_lied = false;
}

static void
s_destroy (ef_storage_t **self_p) {
    free (*self_p);
    *self_p = NULL;
}

ef_storage_t *
sim_disk_open (sim_disk_t *self, const char *directory) {
    view_t *view = calloc (1, sizeof *view);
    ef_assert (view != NULL);
    view->disk = self;
    snprintf (view->directory, sizeof view->directory, "%s", directory);
    view->base = (ef_storage_t){.list = s_list,
                                .create = s_create,
                                .open = s_open,
                                .close = s_close,
                                .size = s_size,
                                .write = s_write,
                                .read = s_read,
                                .truncate = s_truncate,
                                .extend = s_extend,
                                .sync = s_sync,
                                .sync_directory = s_sync_directory,
                                .unlink = s_unlink,
                                .rename = s_rename,
                                .room = s_room,
                                .uncache = s_uncache,
                                .destroy = s_destroy};
    return &view->base;
}

void
sim_disk_fail_after (sim_disk_t *self, uint32_t operations) {
    self->fail_after = operations;
}

bool
sim_disk_has_failed (const sim_disk_t *self) {
    return self->has_failed;
}

void
sim_disk_fault (sim_disk_t *self, const sim_fault_t *fault) {
    self->fault = *fault;
    self->faults = 0;
}

uint32_t
sim_disk_faults (const sim_disk_t *self) {
    return self->faults;
}

void
sim_disk_lie (sim_disk_t *self, uint32_t at) {
    sim_disk_fault (self, &(sim_fault_t){SIM_CALL_SYNC, at, false, true, EIO});
}

void
sim_disk_noise (sim_disk_t *self, sim_noise_t noise) {
    self->noise = noise;
}

sim_disk_t *
sim_disk_copy (const sim_disk_t *self, sim_random_t *random) {
    sim_disk_t *copy = sim_disk_new (random);
    *copy = *self;
    copy->random = random;
    copy->fail_after = 0;
    copy->has_failed = false;
    copy->fault.at = 0;
    copy->files = calloc ((size_t)self->count + 1, sizeof *copy->files);
    ef_assert (copy->files != NULL);
    for (int i = 0; i < self->count; i++) {
        const file_t *file = self->files[i];
        if (file == NULL) {
            continue;
        }
        uint64_t sectors = file->capacity / SECTOR;
        file_t *twin = malloc (sizeof *twin);
        ef_assert (twin != NULL);
        *twin = *file;
        twin->now = malloc (file->capacity + 1);
        twin->durable = malloc (file->capacity + 1);
        twin->dirty = malloc (sectors * sizeof *twin->dirty + 1);
        ef_assert (twin->now && twin->durable && twin->dirty);
        if (file->capacity > 0) {
            memcpy (twin->now, file->now, file->capacity);
            memcpy (twin->durable, file->durable, file->capacity);
            memcpy (twin->dirty, file->dirty, sectors * sizeof *twin->dirty);
        }
        copy->files[i] = twin;
    }
    return copy;
}

void
sim_disk_limit (sim_disk_t *self, uint64_t bytes) {
    self->capacity = bytes;
}

uint64_t
sim_disk_used (const sim_disk_t *self) {
    return self->used;
}

void
sim_disk_restart (sim_disk_t *self) {
    self->has_failed = false;
    self->fail_after = 0;
}
