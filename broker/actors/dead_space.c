/* The one reserve of all dead-letter journals. SPDX-License-Identifier: MIT

   A file of zeros that is made shorter when a full disk would keep a dead letter from its journal,
   and longer again when there is space. */
#include "dead_private.h"
#include "../base/log.h"

#include <errno.h>
#include <string.h>

#define RESERVE_NAME  "reserve"
#define RESERVE_BYTES (8ull << 20)
#define RESERVE_PART  (2ull << 20) /* a segment, or a journal's first one and its directory */

void
dead_reserve_open (ef_dead_letters_t *self) {
    int error;
    self->reserve = -1;
    self->storage = ef_storage_new (self->path, &error);
    if (self->storage == NULL) {
        return;
    }
    self->reserve = self->storage->open (self->storage, RESERVE_NAME);
    if (self->reserve == -ENOENT) {
        self->reserve = self->storage->create (self->storage, RESERVE_NAME, RESERVE_BYTES);
    }
    int64_t size = self->reserve < 0 ? 0 : self->storage->size (self->storage, self->reserve);
    self->reserve_bytes = size > 0 ? (uint64_t)size : 0;
}

bool
dead_reserve_use (ef_dead_letters_t *self) {
    if (self->reserve < 0 || self->reserve_bytes == 0) {
        return false;
    }
    uint64_t left = self->reserve_bytes > RESERVE_PART ? self->reserve_bytes - RESERVE_PART : 0;
    if (self->storage->truncate (self->storage, self->reserve, left)) {
        return false;
    }
    self->reserve_bytes = left;
    ef_log_limited (EF_LOG_WARNING, "deadletter.reserve", "left=%llu", (unsigned long long)left);
    return true;
}

void
dead_reserve_refill (ef_dead_letters_t *self) {
    if (self->storage && self->reserve < 0) {
        dead_reserve_close (self);
        dead_reserve_open (self);
    } else if (self->storage && self->reserve_bytes < RESERVE_BYTES &&
               self->storage->extend (self->storage, self->reserve, RESERVE_BYTES) == 0) {
        self->reserve_bytes = RESERVE_BYTES;
    }
}

void
dead_reserve_close (ef_dead_letters_t *self) {
    if (self->storage) {
        if (self->reserve >= 0) {
            self->storage->close (self->storage, self->reserve);
        }
        self->storage->destroy (&self->storage);
    }
}
