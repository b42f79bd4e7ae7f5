/* Segmented write-ahead log: appending. SPDX-License-Identifier: MIT */
#include "wal_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

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

/* The header is durable, and the name too, before the segment is used. */
static int
s_begin_segment (ef_wal_t *self) {
    if (self->file >= 0) {
        self->storage->close (self->storage, self->file);
        self->file = -1;
    }
    uint32_t segment = self->newest + 1;
    char name[24];
    ef_wal_segment_name (segment, name);
    int file = self->storage->create (self->storage, name, self->options.segment_bytes);
    if (file < 0) {
        return file;
    }
    self->file = file;
    uint8_t page[EF_SEGMENT_START] = {0};
    memcpy (page, EF_SEGMENT_MAGIC, 8);
    ef_le32_put (page + 8, EF_RECORD_VERSION);
    ef_le64_put (page + 16, segment);
    memcpy (page + 24, self->journal_id, 16);
    ef_le64_put (page + 40, self->next_seq);
    ef_le32_put (page + 48, self->chain);
    ef_le32_put (page + 52, self->epoch);
    ef_le64_put (page + 56, self->options.wall_ms);
    ef_le32_put (page + 12, ef_wal_header_checksum (page));
    struct iovec part = {page, sizeof page};
    int rc = self->storage->write (self->storage, file, &part, 1, 0);
    rc = rc ? rc : self->storage->sync (self->storage, file);
    rc = rc ? rc : self->storage->sync_directory (self->storage);
    if (rc == 0) {
        self->newest = segment;
        self->oldest = self->oldest ? self->oldest : segment;
        self->offset = EF_SEGMENT_START;
        self->segment_used = false;
    }
    return rc;
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
        parts[i].iov_base = batches[i]->buf.data;
        parts[i].iov_len = batches[i]->buf.size;
        offset += batches[i]->buf.size;
    }
    ef_assert (offset < UINT32_MAX - EF_RECORD_HEAD - EF_COMMIT_BODY);
    uint8_t commit[EF_RECORD_HEAD + EF_COMMIT_BODY] = {0};
    ef_le32_put (commit, sizeof commit);
    commit[20] = EF_RECORD_COMMIT;
    ef_le16_put (commit + 22, EF_COMMIT_BODY);
    ef_le64_put (commit + 24, start);
    ef_le32_put (commit + 32, records);
    ef_le32_put (commit + 36, chain);
    ef_le64_put (commit + 40, self->next_seq - 1);
    (void)ef_record_seal (commit, self->newest, offset, self->next_seq, self->epoch);
    parts[count].iov_base = commit;
    parts[count].iov_len = sizeof commit;
    int rc = self->storage->write (self->storage, self->file, parts, count + 1, start);
    if (rc == 0 && !self->options.skips_sync) {
        rc = self->storage->sync (self->storage, self->file);
    }
    if (rc == 0) {
        self->offset = offset + sizeof commit;
        self->chain = chain;
        self->next_seq++;
        self->segment_used = true;
    }
    return rc;
}

int
ef_wal_append (ef_wal_t *self, ef_batch_t *const *batches, int count) {
    ef_assert (count > 0 && count <= EF_WAL_GROUP_MAX);
    if (self->error == 0 && (self->file < 0 || (batches[0]->roll && self->segment_used))) {
        self->error = s_begin_segment (self);
    }
    if (self->error == 0) {
        self->error = s_write_group (self, batches, count);
    }
    return self->error;
}

int
ef_wal_drop_oldest (ef_wal_t *self) {
    ef_assert (self->oldest < self->newest);
    char name[24];
    ef_wal_segment_name (self->oldest, name);
    int rc = self->storage->unlink (self->storage, name);
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
        free (self);
        *self_p = NULL;
    }
}
