/* Reading one segment, group by group. SPDX-License-Identifier: MIT */
#include "segment.h"
#include "../base/crc32c.h"
#include "kept.h"
#include "wal.h"

#include <errno.h>
#include <stdlib.h>

#define READ_BYTES (4u << 20) /* asked for at a time */

static int
s_open (ef_segment_t *self, ef_storage_t *storage, uint32_t id, const char *name) {
    ef_segment_close (self);
    self->storage = storage;
    self->id = id;
    self->start = self->fill = 0;
    self->error = 0;
    self->file = storage->open (storage, name);
    int64_t size = self->file < 0 ? self->file : storage->size (storage, self->file);
    self->size = size < 0 ? 0 : (uint64_t)size;
    return size < 0 ? (int)size : 0;
}

int
ef_segment_open (ef_segment_t *self, ef_storage_t *storage, uint32_t id) {
    char name[24];
    ef_wal_segment_name (id, name);
    return s_open (self, storage, id, name);
}

int
ef_segment_open_any (ef_segment_t *self, ef_storage_t *storage, uint32_t id) {
    char name[24];
    int rc = ef_segment_open (self, storage, id);
    ef_kept_name (id, name);
    return rc == -ENOENT ? s_open (self, storage, id, name) : rc;
}

void
ef_segment_close (ef_segment_t *self) {
    if (self->storage && self->file >= 0) {
        self->storage->close (self->storage, self->file);
    }
    self->file = -1;
}

void
ef_segment_free (ef_segment_t *self) {
    ef_segment_close (self);
    free (self->window);
    memset (self, 0, sizeof *self);
    self->file = -1;
}

/* Makes [from, to) part of the window; what lies before `from` may go. False: the file ends before,
   or a read failed. */
static bool
s_need (ef_segment_t *self, uint64_t from, uint64_t to) {
    if (to > self->size) {
        return false;
    }
    if (from >= self->start && to <= self->start + self->fill) {
        return true;
    }
    size_t wanted = (size_t)(to - from);
    wanted = wanted > READ_BYTES ? wanted : READ_BYTES;
    wanted = wanted < self->size - from ? wanted : (size_t)(self->size - from);
    bool overlaps = from >= self->start && from < self->start + self->fill;
    size_t kept = overlaps ? (size_t)(self->start + self->fill - from) : 0;
    if (overlaps) {
        memmove (self->window, self->window + (from - self->start), kept);
    }
    if (wanted > self->capacity) {
        self->capacity = wanted > 2 * self->capacity ? wanted : 2 * self->capacity;
        self->window = realloc (self->window, self->capacity);
        ef_assert (self->window != NULL);
    }
    self->start = from;
    self->fill = kept;
    if (wanted > kept) {
        int64_t got = self->storage->read (self->storage, self->file, self->window + kept,
                                           wanted - kept, from + kept);
        if (got < 0) {
            self->error = (int)got;
            return false;
        }
        self->fill += (size_t)got;
    }
    return to <= self->start + self->fill;
}

const uint8_t *
ef_segment_bytes (ef_segment_t *self, uint64_t offset, size_t bytes, size_t *got) {
    uint64_t left = offset < self->size ? self->size - offset : 0;
    *got = bytes < left ? bytes : (size_t)left;
    return s_need (self, offset, offset + *got) ? self->window + (offset - self->start) : NULL;
}

uint32_t
ef_segment_header_checksum (const uint8_t *header) {
    return ef_crc32c (ef_crc32c (0, header, 12), header + 16, EF_SEGMENT_HEADER - 16);
}

bool
ef_segment_read_header (ef_segment_t *self, ef_segment_header_t *header) {
    if (!s_need (self, 0, EF_SEGMENT_START)) {
        return false;
    }
    const uint8_t *at = self->window;
    if (memcmp (at, EF_SEGMENT_MAGIC, 8) != 0 ||
        ef_le32 (at + 12) != ef_segment_header_checksum (at) || ef_le64 (at + 16) != self->id) {
        return false;
    }
    header->version = ef_le16 (at + 8);
    header->flags = ef_le16 (at + 10);
    memcpy (header->journal_id, at + 24, 16);
    header->first_seq = ef_le64 (at + 40);
    header->chain = ef_le32 (at + 48);
    header->epoch = ef_le32 (at + 52);
    header->wall_ms = ef_le64 (at + 56);
    return true;
}

void
ef_segment_write_header (uint8_t page[EF_SEGMENT_START], uint32_t id,
                         const ef_segment_header_t *header) {
    memset (page, 0, EF_SEGMENT_START);
    memcpy (page, EF_SEGMENT_MAGIC, 8);
    ef_le16_put (page + 8, header->version);
    ef_le16_put (page + 10, header->flags);
    ef_le64_put (page + 16, id);
    memcpy (page + 24, header->journal_id, 16);
    ef_le64_put (page + 40, header->first_seq);
    ef_le32_put (page + 48, header->chain);
    ef_le32_put (page + 52, header->epoch);
    ef_le64_put (page + 56, header->wall_ms);
    ef_le32_put (page + 12, ef_segment_header_checksum (page));
}

/* A whole record at `at`, with all bytes from `from` on kept in the window; NULL: none is there. */
static const uint8_t *
s_record (ef_segment_t *self, uint64_t from, uint64_t at) {
    if (!s_need (self, from, at + EF_RECORD_HEAD)) {
        return NULL;
    }
    uint32_t length = ef_le32 (ef_segment_at (self, at));
    if (length < EF_RECORD_HEAD || length > EF_RECORD_MAX || !s_need (self, from, at + length)) {
        return NULL;
    }
    const uint8_t *head = ef_segment_at (self, at);
    return ef_record_is_whole (head, length, self->id, at) ? head : NULL;
}

uint64_t
ef_segment_group (ef_segment_t *self, uint64_t offset, uint64_t seq, uint32_t *chain) {
    uint32_t records = 0;
    uint32_t value = *chain;
    uint64_t at = offset;
    for (const uint8_t *head; (head = s_record (self, offset, at)) != NULL;) {
        uint32_t length = ef_le32 (head);
        if (ef_le64 (head + 8) != seq) {
            return 0;
        }
        if (head[20] == EF_RECORD_COMMIT) {
            if (length < EF_RECORD_HEAD + EF_COMMIT_BODY || ef_le64 (head + 24) != offset ||
                ef_le32 (head + 32) != records || ef_le32 (head + 36) != value) {
                return 0;
            }
            *chain = value;
            return at + ef_record_padded (length);
        }
        value = ef_crc32c (value, head + 4, 4);
        records++;
        at += ef_record_padded (length);
    }
    return 0;
}

bool
ef_segment_ends_in_zeros (ef_segment_t *self, uint64_t offset) {
    while (offset < self->size) {
        size_t got;
        const uint8_t *bytes = ef_segment_bytes (self, offset, READ_BYTES, &got);
        if (bytes == NULL || bytes[0] != 0 || memcmp (bytes, bytes + 1, got - 1) != 0) {
            return false;
        }
        offset += got;
    }
    return true;
}

bool
ef_segment_has_later (ef_segment_t *self, uint64_t offset, uint64_t seq) {
    /* No more groups than this have room behind it. Without it any bytes of a payload may look like
       a head, and for each a record of megabytes would be read. */
    uint64_t left = offset < self->size ? self->size - offset : 0;
    uint64_t most = seq + left / (EF_RECORD_HEAD + EF_COMMIT_BODY);
    while (offset + EF_RECORD_HEAD <= self->size) {
        size_t got;
        const uint8_t *bytes = ef_segment_bytes (self, offset, READ_BYTES, &got);
        if (bytes == NULL) {
            return false;
        }
        uint64_t step = 0;
        for (; step + EF_RECORD_HEAD <= got; step += EF_RECORD_ALIGN) {
            uint64_t found = ef_le64 (bytes + step + 8);
            if (found <= seq || found > most || ef_le32 (bytes + step) < EF_RECORD_HEAD) {
                continue;
            }
            if (s_record (self, offset + step, offset + step) != NULL) {
                return true;
            }
            bytes = ef_segment_bytes (self, offset, READ_BYTES, &got); /* the window has moved */
            if (bytes == NULL) {
                return false;
            }
        }
        offset += step;
    }
    return false;
}
