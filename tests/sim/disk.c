/* A simulated disk. SPDX-License-Identifier: MIT */
#include "disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECTOR 512

typedef struct {
    char directory[64];
    char name[64];
    char durable_name[64]; /* empty: its name was never synced */
    uint8_t *now;          /* as a reader sees it */
    uint8_t *durable;      /* as it is after a crash at worst */
    uint64_t size;
    uint64_t durable_size;
    uint8_t *dirty; /* a byte a sector */
    uint64_t capacity;
    bool is_removed; /* unlinked, the removal not yet durable */
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
};

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

static void
s_free_file (file_t *file) {
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
            s_free_file (self->files[i]);
        }
    }
    free (self->files);
    free (self);
    *self_p = NULL;
}

/* Counts one operation; true: it fails. */
static bool
s_fails (sim_disk_t *self) {
    if (self->fail_after > 0 && --self->fail_after == 0) {
        self->has_failed = true;
    }
    return self->has_failed;
}

static void
s_reserve (file_t *file, uint64_t bytes) {
    if (bytes <= file->capacity) {
        return;
    }
    uint64_t capacity = (bytes + 65535) / 65536 * 65536;
    file->now = realloc (file->now, capacity);
    file->durable = realloc (file->durable, capacity);
    file->dirty = realloc (file->dirty, capacity / SECTOR);
    ef_assert (file->now && file->durable && file->dirty);
    memset (file->now + file->capacity, 0, capacity - file->capacity);
    memset (file->durable + file->capacity, 0, capacity - file->capacity);
    memset (file->dirty + file->capacity / SECTOR, 0, (capacity - file->capacity) / SECTOR);
    file->capacity = capacity;
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
    for (int i = 0; i < view->disk->count; i++) {
        if (s_is_in (view, view->disk->files[i])) {
            each (arg, view->disk->files[i]->name);
        }
    }
    return 0;
}

static int
s_open (ef_storage_t *self, const char *name) {
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
s_create (ef_storage_t *self, const char *name, uint64_t bytes) {
    view_t *view = (view_t *)self;
    sim_disk_t *disk = view->disk;
    if (s_fails (disk)) {
        return -EIO;
    }
    if (s_open (self, name) >= 0) {
        return -EEXIST;
    }
    file_t *file = calloc (1, sizeof *file);
    ef_assert (file != NULL);
    snprintf (file->directory, sizeof file->directory, "%s", view->directory);
    snprintf (file->name, sizeof file->name, "%s", name);
    file->replaced_by = -1;
    s_reserve (file, bytes ? bytes : 1);
    if (!s_resize (disk, file, bytes)) {
        s_free_file (file);
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
    return (int64_t)((view_t *)self)->disk->files[file]->size;
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
    for (int i = 0; i < count; i++) {
        size_t bytes = parts[i].iov_len;
        if (s_fails (disk)) {
            return -EIO; /* what came before stays written, unsynced */
        }
        s_reserve (file, offset + bytes);
        memcpy (file->now + offset, parts[i].iov_base, bytes);
        for (uint64_t s = offset / SECTOR; bytes && s <= (offset + bytes - 1) / SECTOR; s++) {
            file->dirty[s] = 1;
        }
        offset += bytes;
    }
    return 0;
}

static int64_t
s_read (ef_storage_t *self, int number, void *bytes, size_t size, uint64_t offset) {
    const file_t *file = ((view_t *)self)->disk->files[number];
    if (offset >= file->size) {
        return 0;
    }
    size = size < file->size - offset ? size : file->size - offset;
    memcpy (bytes, file->now + offset, size);
    return (int64_t)size;
}

static int
s_truncate (ef_storage_t *self, int number, uint64_t bytes) {
    sim_disk_t *disk = ((view_t *)self)->disk;
    file_t *file = disk->files[number];
    if (s_fails (disk)) {
        return -EIO;
    }
    s_reserve (file, bytes);
    memset (file->now + bytes, 0, file->capacity - bytes);
    memset (file->dirty + bytes / SECTOR, 1, file->capacity / SECTOR - bytes / SECTOR);
    return s_resize (disk, file, bytes) ? 0 : -ENOSPC;
}

static int
s_extend (ef_storage_t *self, int number, uint64_t bytes) {
    sim_disk_t *disk = ((view_t *)self)->disk;
    file_t *file = disk->files[number];
    if (s_fails (disk)) {
        return -EIO;
    }
    s_reserve (file, bytes);
    return bytes <= file->size || s_resize (disk, file, bytes) ? 0 : -ENOSPC;
}

static int
s_sync (ef_storage_t *self, int number) {
    sim_disk_t *disk = ((view_t *)self)->disk;
    file_t *file = disk->files[number];
    if (s_fails (disk)) {
        return -EIO;
    }
    for (uint64_t s = 0; s < file->capacity / SECTOR; s++) {
        if (file->dirty[s]) {
            memcpy (file->durable + s * SECTOR, file->now + s * SECTOR, SECTOR);
            file->dirty[s] = 0;
        }
    }
    file->durable_size = file->size;
    return 0;
}

static int
s_sync_directory (ef_storage_t *self) {
    view_t *view = (view_t *)self;
    sim_disk_t *disk = view->disk;
    if (s_fails (disk)) {
        return -EIO;
    }
    for (int i = 0; i < disk->count; i++) {
        file_t *file = disk->files[i];
        if (file && strcmp (file->directory, view->directory) == 0) {
            strcpy (file->durable_name, file->name);
            if (file->is_removed) {
                s_free_file (file);
                disk->files[i] = NULL;
            }
        }
    }
    return 0;
}

static int
s_unlink (ef_storage_t *self, const char *name) {
    int file = s_open (self, name);
    sim_disk_t *disk = ((view_t *)self)->disk;
    if (file < 0 || s_fails (disk)) {
        return file < 0 ? file : -EIO;
    }
    disk->files[file]->is_removed = true;
    disk->used -= disk->files[file]->size;
    return 0;
}

static int
s_rename (ef_storage_t *self, const char *from, const char *to) {
    sim_disk_t *disk = ((view_t *)self)->disk;
    int file = s_open (self, from);
    int target = s_open (self, to);
    if (file < 0 || s_fails (disk)) {
        return file < 0 ? file : -EIO;
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
s_uncache (ef_storage_t *self, int file) {
    (void)self;
    (void)file;
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

/* Keeps, drops or tears each sector that wasn't synced. */
static void
s_crash_file (sim_disk_t *self, file_t *file) {
    uint32_t mood = sim_below (self->random, 3); /* all lost, all kept, each by chance */
    for (uint64_t s = 0; s < file->capacity / SECTOR; s++) {
        if (!file->dirty[s]) {
            continue;
        }
        bool keeps = mood == 1 || (mood == 2 && sim_one_in (self->random, 2));
        size_t bytes = !keeps ? 0 : mood == 2 && sim_one_in (self->random, 8) ? SECTOR / 2 : SECTOR;
        memcpy (file->durable + s * SECTOR, file->now + s * SECTOR, bytes);
        file->dirty[s] = 0;
    }
    if (file->size != file->durable_size && sim_one_in (self->random, 2)) {
        file->durable_size = file->size; /* the size is kept apart from the bytes */
    }
    file->size = file->durable_size;
    memset (file->durable + file->size, 0, file->capacity - file->size);
    memcpy (file->now, file->durable, file->capacity);
}

/* What a directory says after a crash: each change since its last sync was kept or lost. */
static void
s_crash_name (sim_disk_t *self, int number) {
    file_t *file = self->files[number];
    bool keeps = sim_one_in (self->random, 2);
    if (file->is_removed) {
        const file_t *other = file->replaced_by >= 0 ? self->files[file->replaced_by] : NULL;
        bool is_gone = file->durable_name[0] == 0 || keeps;
        if (other) { /* decided before, with the name of the one that replaces it */
            is_gone = strcmp (other->durable_name, file->name) == 0;
        }
        if (is_gone) {
            s_free_file (file);
            self->files[number] = NULL;
            return;
        }
    } else if (strcmp (file->name, file->durable_name) != 0) {
        if (file->durable_name[0] == 0 && !keeps) {
            s_free_file (file);
            self->files[number] = NULL;
            return;
        }
        strcpy (keeps ? file->durable_name : file->name, keeps ? file->name : file->durable_name);
    }
    if (file->is_removed) {
        file->is_removed = false;
        strcpy (file->name, file->durable_name);
    }
    file->replaced_by = -1;
}

void
sim_disk_crash (sim_disk_t *self) {
    /* Names that took others' places first, then those others. */
    for (unsigned pass = 0; pass < 2; pass++) {
        for (int i = 0; i < self->count; i++) {
            if (self->files[i] && self->files[i]->is_removed == (pass == 1)) {
                s_crash_name (self, i);
            }
        }
    }
    self->used = 0;
    for (int i = 0; i < self->count; i++) {
        if (self->files[i]) {
            s_crash_file (self, self->files[i]);
            self->used += self->files[i]->size;
        }
    }
    self->has_failed = false;
    self->fail_after = 0;
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
