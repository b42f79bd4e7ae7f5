/* Segmented write-ahead log: appending. SPDX-License-Identifier: MIT */
#include "kept.h"
#include "segment.h"
#include "wal_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define SEGMENT_LEAST                                                                              \
    65536 /* bytes; a full disk may leave room for no more than that at a start                    \
           */

/* A sync of what was written to blocks that are only reserved takes half as long again as of what
   was written over zeros, for each notes in the file system that they are in use: so a small group
   takes zeros along for those that follow it. Large ones would gain little, and the disk has enough
   to do then. */
#define AHEAD_BYTES (256u << 10)
#define AHEAD_GROUP (AHEAD_BYTES / 8)
static uint8_t s_zeros[AHEAD_BYTES]; /* never written to */

void
ef_wal_segment_name (uint64_t segment, char name[24]) {
    snprintf (name, 24, "%016llx.seg", (unsigned long long)segment);
}

uint32_t
ef_wal_oldest (const ef_wal_t *self) {
    return self->oldest;
}

uint32_t
ef_wal_newest (const ef_wal_t *self) {
    return self->newest;
}

uint32_t
ef_wal_epoch (const ef_wal_t *self) {
    return self->epoch;
}

const uint8_t *
ef_wal_journal_id (const ef_wal_t *self) {
    return self->journal_id;
}

const uint64_t *
ef_wal_sizes (const ef_wal_t *self, uint32_t *count) {
    *count = self->size_count;
    return self->sizes;
}

/* A file for the next segment: a spare, or a new one of at least `least` bytes. Returns a handle or
   a negative errno; where that says that the disk is full nothing has changed. */
static int
s_new_file (ef_wal_t *self, const char *name, uint64_t least) {
    ef_storage_t *storage = self->storage;
    bool is_zeroed = false;
    self->reserved = self->options.segment_bytes;
    self->written = EF_SEGMENT_START;
    int rc =
        self->options.spares ? ef_spares_take (self->options.spares, name, &is_zeroed) : -ENOENT;
    if (rc == 0) {
        self->written = is_zeroed ? self->reserved : self->written;
        return storage->open (storage, name);
    }
    if (rc != -ENOENT) {
        return rc;
    }
    int file = storage->create (storage, name, self->reserved);
    while (self->file < 0 && ef_storage_is_full (file) && self->reserved / 2 >= SEGMENT_LEAST &&
           self->reserved / 2 >= least) {
        self->reserved /= 2; /* a start with a full disk: less will do, so that work can end */
        file = storage->create (storage, name, self->reserved);
    }
    return file;
}

/* After a write or sync that failed nothing is tried again, whatever the error was: a disk that is
   full where space was reserved isn't one that is waited for. */
static int
s_end (ef_wal_t *self, int rc) {
    self->error = ef_storage_is_full (rc) ? -EIO : rc;
    return self->error;
}

/* Gives back what the segment under way reserved and didn't use. */
static int
s_seal_segment (ef_wal_t *self) {
    ef_storage_t *storage = self->storage;
    if (self->file < 0) {
        return 0;
    }
    int rc = storage->truncate (storage, self->file, self->offset);
    if (rc == 0 && self->options.skips_sync) {
        rc = storage->sync (storage, self->file); /* only the newest may be torn */
    }
    storage->close (storage, self->file);
    self->file = -1;
    return rc;
}

/* The header is durable, and the name too, before the segment is used. */
static int
s_begin_segment (ef_wal_t *self, uint64_t least) {
    ef_storage_t *storage = self->storage;
    uint32_t segment = self->newest + 1;
    char name[24];
    ef_wal_segment_name (segment, name);
    uint64_t reserved = self->reserved;
    uint64_t written = self->written;
    int file = s_new_file (self, name, least + EF_SEGMENT_START);
    if (file < 0) {
        self->reserved = reserved;
        self->written = written;
        self->error = ef_storage_is_full (file) ? 0 : file;
        return file;
    }
    int rc = s_seal_segment (self);
    self->file = file;
    ef_segment_header_t header = {.version = EF_RECORD_VERSION,
                                  .flags = self->options.skips_sync ? EF_SEGMENT_FLAG_UNSYNCED : 0,
                                  .first_seq = self->next_seq,
                                  .chain = self->chain,
                                  .epoch = self->epoch,
                                  .wall_ms = self->options.wall_ms};
    memcpy (header.journal_id, self->journal_id, 16);
    uint8_t page[EF_SEGMENT_START];
    ef_segment_write_header (page, segment, &header);
    struct iovec part = {page, sizeof page};
    rc = rc ? rc : storage->write (storage, file, &part, 1, 0);
    rc = rc ? rc : storage->sync (storage, file);
    rc = rc ? rc : storage->sync_directory (storage);
    if (rc == 0) {
        self->newest = segment;
        self->oldest = self->oldest ? self->oldest : segment;
        self->offset = EF_SEGMENT_START;
        self->segment_used = false;
    }
    return s_end (self, rc);
}

/* Seals every record of a batch that will stand at `offset`; returns the chain value behind it. */
static uint32_t
s_seal (ef_wal_t *self, ef_batch_t *batch, uint64_t offset, uint32_t chain, uint32_t *records) {
    for (size_t at = 0; at < batch->buf.size;) {
        uint8_t *head = batch->buf.data + at;
        uint32_t crc =
            ef_record_seal (head, self->newest, offset + at, self->next_seq, self->epoch);
        uint8_t word[4];
        ef_le32_put (word, crc);
        chain = ef_crc32c (chain, word, 4);
        at += ef_record_padded (ef_le32 (head));
        ++*records;
    }
    return chain;
}

/* Appends the commit to the last batch, so that what is kept of it in memory is what is on disk. */
static void
s_add_commit (ef_wal_t *self, ef_batch_t *last, uint64_t start, uint64_t offset, uint32_t chain,
              uint32_t records) {
    uint8_t *commit = ef_buf_add (&last->buf, EF_RECORD_HEAD + EF_COMMIT_BODY);
    memset (commit, 0, EF_RECORD_HEAD + EF_COMMIT_BODY);
    ef_le32_put (commit, EF_RECORD_HEAD + EF_COMMIT_BODY);
    commit[20] = EF_RECORD_COMMIT;
    ef_le16_put (commit + 22, EF_COMMIT_BODY);
    ef_le64_put (commit + 24, start);
    ef_le32_put (commit + 32, records);
    ef_le32_put (commit + 36, chain);
    ef_le64_put (commit + 40, self->next_seq - 1);
    (void)ef_record_seal (commit, self->newest, offset, self->next_seq, self->epoch);
}

/* Past what was reserved blocks must be there before bytes are written. The writer begins new
   segments early enough that this is rare. */
static int
s_reserve (ef_wal_t *self, uint64_t end) {
    if (end <= self->reserved) {
        return 0;
    }
    int rc = self->storage->extend (self->storage, self->file, end);
    self->reserved = rc ? self->reserved : end;
    return rc;
}

/* How many zeros go behind a group that ends at `end`. */
static size_t
s_ahead (const ef_wal_t *self, uint64_t bytes, uint64_t end) {
    uint64_t to = end + AHEAD_BYTES < self->reserved ? end + AHEAD_BYTES : self->reserved;
    bool is_wanted = end > self->written && bytes <= AHEAD_GROUP && !self->options.skips_sync;
    return is_wanted && to > end ? (size_t)(to - end) : 0;
}

static int
s_write_group (ef_wal_t *self, ef_batch_t *const *batches, int count) {
    struct iovec parts[EF_WAL_GROUP_MAX + 1];
    uint64_t start = self->offset;
    uint64_t offset = start;
    uint32_t chain = self->chain;
    uint32_t records = 0;
    for (int i = 0; i < count; i++) {
        batches[i]->segment = self->newest;
        batches[i]->offset = (uint32_t)offset;
        chain = s_seal (self, batches[i], offset, chain, &records);
        offset += batches[i]->buf.size;
        if (i + 1 == count) {
            s_add_commit (self, batches[i], start, offset, chain, records);
            offset += EF_RECORD_HEAD + EF_COMMIT_BODY;
        }
        parts[i].iov_base = batches[i]->buf.data;
        parts[i].iov_len = batches[i]->buf.size;
    }
    ef_assert (offset < UINT32_MAX);
    size_t ahead = s_ahead (self, offset - start, offset);
    parts[count] = (struct iovec){s_zeros, ahead};
    int rc = self->storage->write (self->storage, self->file, parts, count + (ahead > 0), start);
    if (rc == 0 && !self->options.skips_sync) {
        rc = self->storage->sync (self->storage, self->file);
    }
    if (rc == 0) {
        self->offset = offset;
        self->written = offset + ahead > self->written ? offset + ahead : self->written;
        self->chain = chain;
        self->next_seq++;
        self->segment_used = true;
        for (int i = 0; i < count; i++) {
            batches[i]->room = self->reserved - (batches[i]->offset + batches[i]->buf.size);
        }
    }
    return rc;
}

int
ef_wal_append (ef_wal_t *self, ef_batch_t *const *batches, int count) {
    ef_assert (count > 0 && count <= EF_WAL_GROUP_MAX);
    uint64_t bytes = EF_RECORD_HEAD + EF_COMMIT_BODY;
    for (int i = 0; i < count; i++) {
        bytes += batches[i]->buf.size;
    }
    if (self->error == 0 && (self->file < 0 || (batches[0]->roll && self->segment_used))) {
        int begun = s_begin_segment (self, bytes);
        if (begun) {
            return begun;
        }
    }
    int rc = self->error ? self->error : s_reserve (self, self->offset + bytes);
    if (rc) {
        self->error = ef_storage_is_full (rc) ? self->error : rc;
        return rc; /* a full disk: nothing was written, it may be tried again */
    }
    return s_end (self, s_write_group (self, batches, count));
}

int
ef_wal_hint (ef_wal_t *self) {
    ef_storage_t *storage = self->storage;
    uint8_t page[HINT_BYTES] = {0};
    if (self->error || self->hinted_seq == self->next_seq - 1 || self->options.skips_sync) {
        return self->error;
    }
    int file = storage->open (storage, HINT_NAME);
    file = file == -ENOENT ? storage->create (storage, HINT_NAME, HINT_BYTES) : file;
    if (file < 0) {
        bool is_later = ef_storage_is_full (file) || ef_storage_is_scarce (file);
        return is_later ? 0 : file; /* a help, not a need */
    }
    memcpy (page, HINT_MAGIC, 8);
    memcpy (page + 8, self->journal_id, 16);
    ef_le64_put (page + 24, self->next_seq - 1);
    ef_le32_put (page + HINT_CRC, ef_crc32c (0, page, HINT_CRC));
    struct iovec part = {page, sizeof page};
    int rc = storage->write (storage, file, &part, 1, 0);
    rc = rc ? rc : storage->sync (storage, file);
    storage->close (storage, file);
    if (rc == 0) {
        self->hinted_seq = self->next_seq - 1;
    }
    return rc;
}

int
ef_wal_drop_oldest (ef_wal_t *self) {
    ef_assert (self->oldest < self->newest);
    char name[24];
    ef_wal_segment_name (self->oldest, name);
    char kept[24];
    ef_kept_name (self->oldest, kept);
    int rc = self->options.keeps_dropped ? self->storage->rename (self->storage, name, kept)
                                         : self->storage->unlink (self->storage, name);
    rc = rc ? rc : self->storage->sync_directory (self->storage);
    if (rc == 0) {
        self->oldest++;
    }
    return rc;
}

void
ef_wal_destroy (ef_wal_t **self_p) {
    ef_wal_t *self = *self_p;
    if (self) {
        if (self->file >= 0) {
            self->storage->close (self->storage, self->file);
        }
        free (self->sizes);
        free (self);
        *self_p = NULL;
    }
}
