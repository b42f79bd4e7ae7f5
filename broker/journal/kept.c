/* Segments that the log needs no more. SPDX-License-Identifier: MIT */
#include "kept.h"
#include "sidecar.h"
#include "wal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
ef_kept_name (uint32_t segment, char name[24]) {
    snprintf (name, 24, "%016llx.old", (unsigned long long)segment);
}

static void
s_add (ef_kept_t *self, uint32_t segment, uint64_t now) {
    char name[24];
    ef_kept_name (segment, name);
    int file = self->storage->open (self->storage, name);
    if (file < 0) {
        return; /* gone at once, or not to be opened now: the next start finds it */
    }
    int64_t bytes = self->storage->size (self->storage, file);
    self->storage->close (self->storage, file);
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 16;
        self->items = realloc (self->items, self->capacity * sizeof *self->items);
        ef_assert (self->items != NULL);
    }
    self->items[self->count++] = (ef_kept_item_t){segment, bytes > 0 ? (uint64_t)bytes : 0, now};
    self->bytes += self->items[self->count - 1].bytes;
}

typedef struct {
    ef_kept_t *kept;
    uint64_t now;
    uint32_t oldest; /* of the log itself, 0: it is new */
} listing_t;

static void
s_note_name (void *arg, const char *name) {
    listing_t *listing = arg;
    unsigned long long id;
    char old[24];
    char seg[24];
    if (sscanf (name, "%16llx.", &id) != 1 || id == 0 || id >= UINT32_MAX) {
        return;
    }
    ef_kept_name ((uint32_t)id, old);
    ef_wal_segment_name (id, seg);
    if (strcmp (name, old) == 0) {
        s_add (listing->kept, (uint32_t)id, listing->now);
    } else if (strcmp (name, seg) == 0 && (listing->oldest == 0 || id < listing->oldest)) {
        listing->oldest = (uint32_t)id;
    }
}

static int
s_by_segment (const void *a, const void *b) {
    uint32_t x = ((const ef_kept_item_t *)a)->segment;
    uint32_t y = ((const ef_kept_item_t *)b)->segment;
    return x < y ? -1 : x > y;
}

int
ef_kept_init (ef_kept_t *self, ef_storage_t *storage, uint64_t most_ms, uint64_t most_bytes,
              uint64_t now_ms) {
    memset (self, 0, sizeof *self);
    self->storage = storage;
    self->most_ms = most_ms;
    self->most_bytes = most_bytes;
    listing_t listing = {self, now_ms, 0};
    int rc = storage->list (storage, s_note_name, &listing);
    self->next = listing.oldest ? listing.oldest : 1;
    if (self->count > 0) {
        qsort (self->items, self->count, sizeof *self->items, s_by_segment);
        self->next = self->items[self->count - 1].segment + 1;
    }
    return rc;
}

void
ef_kept_free (ef_kept_t *self) {
    free (self->items);
    memset (self, 0, sizeof *self);
}

void
ef_kept_note (ef_kept_t *self, uint32_t oldest, uint64_t now_ms) {
    for (; self->next < oldest; self->next++) {
        s_add (self, self->next, now_ms);
    }
}

/* Names that can't be removed now stay for the next start. */
static void
s_remove_oldest (ef_kept_t *self) {
    char name[24];
    ef_kept_name (self->items[0].segment, name);
    (void)self->storage->unlink (self->storage, name);
    ef_sidecar_remove (self->storage, self->items[0].segment, 0);
    self->bytes -= self->items[0].bytes;
    self->count--;
    memmove (self->items, self->items + 1, self->count * sizeof *self->items);
}

uint64_t
ef_kept_trim (ef_kept_t *self, uint64_t now_ms) {
    while (self->count > 0 &&
           (self->bytes > self->most_bytes || now_ms - self->items[0].since_ms >= self->most_ms)) {
        s_remove_oldest (self);
    }
    return self->count > 0 ? self->items[0].since_ms + self->most_ms : UINT64_MAX;
}

bool
ef_kept_give (ef_kept_t *self) {
    if (self->count == 0) {
        return false;
    }
    s_remove_oldest (self);
    return true;
}
