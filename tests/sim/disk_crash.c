/* A simulated disk: what a power cut leaves. SPDX-License-Identifier: MIT */
#include "disk_private.h"

#include <stdlib.h>
#include <string.h>

/* Who decides: a list of fates, or chance by moods. */
typedef struct {
    sim_disk_t *disk;
    const uint8_t *fates; /* NULL: chance */
    uint32_t at;
    uint32_t mood; /* 0 all lost, 1 all kept, 2 each by chance */
} judge_t;

static sim_fate_t
s_fate (judge_t *self, bool is_sector) {
    sim_random_t *random = self->disk->random;
    if (self->fates) {
        return (sim_fate_t)self->fates[self->at++];
    }
    if (self->mood < 2) {
        return self->mood == 1 ? SIM_KEPT : SIM_LOST;
    }
    uint32_t dice = sim_below (random, 16);
    if (is_sector && dice == 0) {
        return SIM_TORN;
    }
    if (is_sector && dice <= 2 && self->disk->noise != SIM_NOISE_NONE) {
        return SIM_NOISE;
    }
    return dice % 2 ? SIM_KEPT : SIM_LOST;
}

/* True where a crash may change what a sector says. */
static bool
s_is_open (const sim_disk_t *self, const file_t *file, uint64_t sector) {
    return file->dirty[sector].from < file->dirty[sector].to &&
           (self->noise != SIM_NOISE_NONE ||
            memcmp (file->now + sector * SECTOR, file->durable + sector * SECTOR, SECTOR) != 0);
}

uint32_t
sim_disk_unsynced (const sim_disk_t *self) {
    uint32_t count = 0;
    for (int i = 0; i < self->count; i++) {
        const file_t *file = self->files[i];
        for (uint64_t s = file ? file->dirty_from : 0; file && s < file->dirty_to; s++) {
            count += file->dirty[s].from < file->dirty[s].to;
        }
    }
    return count;
}

static bool
s_name_is_open (const file_t *file) {
    return file->is_removed || strcmp (file->name, file->durable_name) != 0;
}

uint32_t
sim_disk_pending (const sim_disk_t *self) {
    uint32_t count = 0;
    for (int i = 0; i < self->count; i++) {
        const file_t *file = self->files[i];
        if (file == NULL) {
            continue;
        }
        count += s_name_is_open (file);
        for (uint64_t s = file->dirty_from; s < file->dirty_to; s++) {
            count += s_is_open (self, file, s);
        }
        count += file->size != file->durable_size;
    }
    return count;
}

static void
s_make_noise (sim_disk_t *self, file_t *file, uint64_t sector) {
    range_t range = file->dirty[sector];
    if (self->noise == SIM_NOISE_SECTORS) {
        range = (range_t){0, SECTOR};
    }
    for (uint32_t at = range.from; at < range.to; at++) {
        file->durable[sector * SECTOR + at] = (uint8_t)sim_random (self->random);
    }
}

static void
s_crash_file (judge_t *judge, file_t *file) {
    for (uint64_t s = file->dirty_from; s < file->dirty_to; s++) {
        sim_fate_t fate = s_is_open (judge->disk, file, s) ? s_fate (judge, true) : SIM_LOST;
        size_t bytes = fate == SIM_KEPT ? SECTOR : fate == SIM_TORN ? SECTOR / 2 : 0;
        memcpy (file->durable + s * SECTOR, file->now + s * SECTOR, bytes);
        if (fate == SIM_NOISE) {
            s_make_noise (judge->disk, file, s);
        }
        file->dirty[s] = (range_t){0, 0};
    }
    uint64_t size = file->size;
    if (size != file->durable_size && s_fate (judge, false) == SIM_KEPT) {
        file->durable_size = size; /* the size is kept apart from the bytes */
    }
    file->size = file->durable_size;
    if (file->size < file->capacity && (file->size < size || file->dirty_from < file->dirty_to)) {
        memset (file->durable + file->size, 0, file->capacity - file->size);
    }
    if ((file->has_lied || file->size != size) && file->capacity > 0) {
        memcpy (file->now, file->durable, file->capacity);
    } else if (file->dirty_from < file->dirty_to) {
        memcpy (file->now + file->dirty_from * SECTOR, file->durable + file->dirty_from * SECTOR,
                (file->dirty_to - file->dirty_from) * SECTOR);
    }
    file->has_lied = false;
    file->dirty_from = file->dirty_to = 0;
}

static bool
s_is_held (const sim_disk_t *self, const file_t *other) {
    for (int i = 0; i < self->count; i++) {
        const file_t *file = self->files[i];
        if (file && !file->is_removed && strcmp (file->durable_name, other->durable_name) == 0 &&
            strcmp (file->directory, other->directory) == 0) {
            return true;
        }
    }
    return false;
}

/* What a directory says after a crash: each change since its last sync was kept or lost. A file
   that is gone is left without a durable name. */
static void
s_crash_name (judge_t *judge, file_t *file) {
    sim_disk_t *disk = judge->disk;
    bool keeps = s_fate (judge, false) != SIM_LOST;
    if (!file->is_removed) {
        memcpy (keeps ? file->durable_name : file->name, keeps ? file->name : file->durable_name,
                sizeof file->name);
        return;
    }
    /* Where another file took the name, that one's fate decides. */
    bool is_gone = file->replaced_by < 0 && keeps;
    if (file->durable_name[0] && (is_gone || s_is_held (disk, file))) {
        file->durable_name[0] = 0;
    }
    memcpy (file->name, file->durable_name, sizeof file->name);
    file->is_removed = false;
    file->replaced_by = -1;
}

static void
s_crash (judge_t *judge) {
    sim_disk_t *self = judge->disk;
    /* Names that took others' places first, then those others. */
    judge->mood = judge->fates ? 2 : sim_below (self->random, 4);
    for (unsigned pass = 0; pass < 2; pass++) {
        for (int i = 0; i < self->count; i++) {
            file_t *file = self->files[i];
            if (file && s_name_is_open (file) && file->is_removed == (pass == 1)) {
                s_crash_name (judge, file);
            }
        }
    }
    self->used = 0;
    for (int i = 0; i < self->count; i++) {
        file_t *file = self->files[i];
        if (file == NULL) {
            continue;
        }
        file->replaced_by = -1;
        judge->mood = judge->fates ? 2 : sim_below (self->random, 3);
        s_crash_file (judge, file);
        self->used += file->size;
        if (file->durable_name[0] == 0) {
            self->used -= file->size;
            disk_free_file (file);
            self->files[i] = NULL;
        }
    }
    self->has_failed = false;
    self->fail_after = 0;
    self->fault.at = 0;
}

void
sim_disk_crash (sim_disk_t *self) {
    judge_t judge = {.disk = self};
    s_crash (&judge);
}

void
sim_disk_crash_with (sim_disk_t *self, const uint8_t *fates) {
    judge_t judge = {.disk = self, .fates = fates};
    s_crash (&judge);
}
