/* Segments prepared ahead. SPDX-License-Identifier: MIT */
#include "spares.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUFFIX     ".spare"
#define UNFINISHED ".new" /* being made: a power cut may leave anything in it */
#define ZERO_BYTES (1u << 20)

typedef struct {
    ef_spares_t *spares;
    char wrong[EF_SPARES_MAX][EF_SPARE_NAME]; /* to be removed */
    uint32_t wrong_count;
} listing_t;

static bool
s_ends_in (const char *name, const char *suffix) {
    size_t size = strlen (name);
    return size > strlen (suffix) && size < EF_SPARE_NAME &&
           strcmp (name + size - strlen (suffix), suffix) == 0;
}

static void
s_note (void *arg, const char *name) {
    listing_t *listing = arg;
    ef_spares_t *self = listing->spares;
    bool is_finished = s_ends_in (name, SUFFIX);
    if (!is_finished && !s_ends_in (name, UNFINISHED)) {
        return;
    }
    uint64_t number = strtoull (name, NULL, 16);
    self->next = number >= self->next ? number + 1 : self->next;
    int file = self->storage->open (self->storage, name);
    int64_t bytes = file < 0 ? file : self->storage->size (self->storage, file);
    if (file >= 0) {
        self->storage->close (self->storage, file);
    }
    if (is_finished && bytes == (int64_t)self->bytes && self->count < EF_SPARES_MAX) {
        strcpy (self->names[self->count++], name);
    } else if (listing->wrong_count < EF_SPARES_MAX) {
        strcpy (listing->wrong[listing->wrong_count++], name);
    }
}

int
ef_spares_init (ef_spares_t *self, ef_storage_t *storage, uint64_t bytes) {
    memset (self, 0, sizeof *self);
    self->storage = storage;
    self->bytes = bytes;
    self->next = 1;
    pthread_mutex_init (&self->lock, NULL);
    listing_t listing = {.spares = self};
    int rc = storage->list (storage, s_note, &listing);
    for (uint32_t i = 0; rc == 0 && i < listing.wrong_count; i++) {
        rc = storage->unlink (storage, listing.wrong[i]);
    }
    atomic_store (&self->ready, self->count);
    return rc;
}

uint32_t
ef_spares_ready (const ef_spares_t *self) {
    return atomic_load (&self->ready);
}

void
ef_spares_free (ef_spares_t *self) {
    if (self->storage) {
        pthread_mutex_destroy (&self->lock);
        memset (self, 0, sizeof *self);
    }
}

static int
s_fill (ef_spares_t *self, int file) {
    uint8_t *zeros = calloc (1, ZERO_BYTES);
    ef_assert (zeros != NULL);
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < self->bytes; at += ZERO_BYTES) {
        uint64_t left = self->bytes - at;
        struct iovec part = {zeros, left < ZERO_BYTES ? (size_t)left : ZERO_BYTES};
        rc = self->storage->write (self->storage, file, &part, 1, at);
    }
    free (zeros);
    return rc;
}

/* Adds a finished one in front or behind. */
static void
s_add (ef_spares_t *self, const char *name, bool is_zeroed) {
    pthread_mutex_lock (&self->lock);
    ef_assert (self->count < EF_SPARES_MAX);
    uint32_t at = is_zeroed ? 0 : self->count;
    memmove (self->names + at + 1, self->names + at, (self->count - at) * sizeof self->names[0]);
    strcpy (self->names[at], name);
    self->is_first_zeroed = is_zeroed || (self->is_first_zeroed && at > 0);
    self->count++;
    atomic_store (&self->ready, self->count);
    pthread_mutex_unlock (&self->lock);
}

/* Takes the first one out of the list. False: there is none. */
static bool
s_pop (ef_spares_t *self, char name[EF_SPARE_NAME], bool unless_zeroed, bool *is_zeroed) {
    pthread_mutex_lock (&self->lock);
    *is_zeroed = self->is_first_zeroed;
    bool is_any = self->count > 0 && !(unless_zeroed && self->is_first_zeroed);
    if (is_any) {
        strcpy (name, self->names[0]);
        self->count--;
        self->is_first_zeroed = false;
        memmove (self->names, self->names + 1, self->count * sizeof self->names[0]);
        atomic_store (&self->ready, self->count);
    }
    pthread_mutex_unlock (&self->lock);
    return is_any;
}

int
ef_spares_make (ef_spares_t *self) {
    ef_storage_t *storage = self->storage;
    char unfinished[EF_SPARE_NAME];
    char name[EF_SPARE_NAME];
    if (ef_spares_count (self) == EF_SPARES_MAX) {
        return 0;
    }
    snprintf (unfinished, sizeof unfinished, "%016llx%s", (unsigned long long)self->next,
              UNFINISHED);
    snprintf (name, sizeof name, "%016llx%s", (unsigned long long)self->next++, SUFFIX);
    int file = storage->create (storage, unfinished, self->bytes);
    if (file < 0) {
        return file;
    }
    int rc = storage->sync (storage, file);
    storage->close (storage, file);
    rc = rc ? rc : storage->rename (storage, unfinished, name);
    if (rc) {
        (void)storage->unlink (storage, unfinished); /* what is left is found at the next start */
        return rc;
    }
    s_add (self, name, false);
    return 0;
}

int
ef_spares_zero (ef_spares_t *self) {
    ef_storage_t *storage = self->storage;
    char unfinished[EF_SPARE_NAME];
    char name[EF_SPARE_NAME];
    bool is_zeroed;
    if (!s_pop (self, name, true, &is_zeroed)) {
        return 0;
    }
    snprintf (unfinished, sizeof unfinished, "%.16s%s", name, UNFINISHED);
    /* Not a spare while it is written, nor after a power cut meanwhile. */
    int rc = storage->rename (storage, name, unfinished);
    rc = rc ? rc : storage->sync_directory (storage);
    int file = rc ? rc : storage->open (storage, unfinished);
    rc = file < 0 ? file : s_fill (self, file);
    rc = rc ? rc : storage->sync (storage, file);
    if (file >= 0) {
        storage->close (storage, file);
    }
    rc = rc ? rc : storage->rename (storage, unfinished, name);
    if (rc == 0) {
        s_add (self, name, true);
    } else {
        (void)storage->unlink (storage, unfinished); /* what is left is found at the next start */
    }
    return rc;
}

bool
ef_spares_is_zeroed (ef_spares_t *self) {
    pthread_mutex_lock (&self->lock);
    bool is_zeroed = self->count == 0 || self->is_first_zeroed;
    pthread_mutex_unlock (&self->lock);
    return is_zeroed;
}

uint32_t
ef_spares_count (ef_spares_t *self) {
    pthread_mutex_lock (&self->lock);
    uint32_t count = self->count;
    pthread_mutex_unlock (&self->lock);
    return count;
}

int
ef_spares_take (ef_spares_t *self, const char *name, bool *is_zeroed) {
    char taken[EF_SPARE_NAME];
    return s_pop (self, taken, false, is_zeroed)
               ? self->storage->rename (self->storage, taken, name)
               : -ENOENT;
}
