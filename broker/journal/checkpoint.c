/* Checkpoints: files. SPDX-License-Identifier: MIT */
#include "checkpoint.h"
#include "../base/crc32c.h"
#include "segment.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define MAGIC     "EFCKPT\r\n"
#define HEAD      64
#define TEMPORARY "checkpoint.tmp"
#define KEPT      2

static void
s_name (uint32_t segment, char name[32]) {
    snprintf (name, 32, "%016llx.ckpt", (unsigned long long)segment);
}

static uint32_t
s_head_checksum (const uint8_t *head) {
    return ef_crc32c (ef_crc32c (0, head, 12), head + 16, HEAD - 16);
}

void
ef_checkpoint_drop (ef_checkpoint_writer_t *self) {
    if (self->storage && self->file >= 0) {
        self->storage->close (self->storage, self->file);
        (void)self->storage->unlink (self->storage, TEMPORARY); /* overwritten by the next one */
    }
    self->file = -1;
}

/* The head names the segment as it stands on disk, so that another one can't pass for it. */
static int
s_write_head (ef_checkpoint_writer_t *self) {
    ef_segment_t segment = {.file = -1};
    ef_segment_header_t header;
    uint8_t head[HEAD] = {0};
    int rc = ef_segment_open (&segment, self->storage, self->segment);
    if (rc == 0 && !ef_segment_read_header (&segment, &header)) {
        rc = segment.error ? segment.error : -EBADMSG;
    }
    ef_segment_free (&segment);
    if (rc) {
        return rc;
    }
    memcpy (head, MAGIC, 8);
    ef_le32_put (head + 8, EF_CHECKPOINT_VERSION);
    ef_le64_put (head + 16, self->segment);
    memcpy (head + 24, header.journal_id, 16);
    ef_le64_put (head + 40, header.first_seq);
    ef_le32_put (head + 48, header.chain);
    ef_le32_put (head + 12, s_head_checksum (head));
    struct iovec part = {head, sizeof head};
    return self->storage->write (self->storage, self->file, &part, 1, 0);
}

int
ef_checkpoint_begin (ef_checkpoint_writer_t *self, ef_storage_t *storage, uint32_t segment) {
    ef_checkpoint_drop (self);
    self->storage = storage;
    self->segment = segment;
    self->offset = HEAD;
    self->records = 0;
    self->chain = 0;
    (void)storage->unlink (storage, TEMPORARY); /* of an earlier run, if any */
    self->file = storage->create (storage, TEMPORARY, 0);
    if (self->file < 0) {
        return self->file;
    }
    return s_write_head (self);
}

int
ef_checkpoint_add (ef_checkpoint_writer_t *self, ef_buf_t *records) {
    for (size_t at = 0; at < records->size;) {
        uint8_t *head = records->data + at;
        uint8_t word[4];
        ef_le32_put (word, ef_record_seal (head, self->segment, self->offset + at, 0, 0));
        self->chain = ef_crc32c (self->chain, word, 4);
        self->records++;
        at += ef_record_padded (ef_le32 (head));
    }
    struct iovec part = {records->data, records->size};
    int rc = records->size
                 ? self->storage->write (self->storage, self->file, &part, 1, self->offset)
                 : 0;
    self->offset += records->size;
    return rc;
}

typedef struct {
    uint32_t segments[64]; /* newest first */
    uint32_t count;
} listing_t;

static void
s_note (void *arg, const char *name) {
    listing_t *listing = arg;
    unsigned long long id;
    int end = 0;
    if (sscanf (name, "%16llx.ckpt%n", &id, &end) != 1 || end != 21 || name[21] != 0 || id == 0 ||
        id >= UINT32_MAX || listing->count == sizeof listing->segments / sizeof (uint32_t)) {
        return;
    }
    uint32_t at = listing->count++;
    while (at > 0 && listing->segments[at - 1] < id) {
        listing->segments[at] = listing->segments[at - 1];
        at--;
    }
    listing->segments[at] = (uint32_t)id;
}

static int
s_remove_but (ef_storage_t *storage, uint32_t kept) {
    listing_t listing = {.count = 0};
    int rc = storage->list (storage, s_note, &listing);
    for (uint32_t i = kept; rc == 0 && i < listing.count; i++) {
        char name[32];
        s_name (listing.segments[i], name);
        rc = storage->unlink (storage, name);
    }
    return rc;
}

int
ef_checkpoint_end (ef_checkpoint_writer_t *self) {
    ef_storage_t *storage = self->storage;
    uint8_t commit[EF_RECORD_HEAD + EF_COMMIT_BODY] = {0};
    char name[32];
    s_name (self->segment, name);
    ef_le32_put (commit, sizeof commit);
    commit[20] = EF_RECORD_COMMIT;
    ef_le16_put (commit + 22, EF_COMMIT_BODY);
    ef_le32_put (commit + 32, self->records);
    ef_le32_put (commit + 36, self->chain);
    (void)ef_record_seal (commit, self->segment, self->offset, 0, 0);
    struct iovec part = {commit, sizeof commit};
    int rc = storage->write (storage, self->file, &part, 1, self->offset);
    rc = rc ? rc : storage->sync (storage, self->file);
    rc = rc ? rc : storage->rename (storage, TEMPORARY, name);
    rc = rc ? rc : storage->sync_directory (storage);
    if (rc) {
        return rc;
    }
    storage->close (storage, self->file);
    self->file = -1;
    return s_remove_but (storage, KEPT);
}

void
ef_checkpoint_take (ef_checkpoint_writer_t *self, ef_storage_t *storage,
                    ef_checkpoint_part_t *part) {
    int rc = part->is_first ? ef_checkpoint_begin (self, storage, part->segment) : 0;
    rc = rc ? rc : self->file < 0 ? -EBADF : ef_checkpoint_add (self, &part->buf);
    rc = rc || !part->is_last ? rc : ef_checkpoint_end (self);
    if (rc) {
        ef_checkpoint_drop (self);
    }
    part->rc = rc;
}

int
ef_checkpoint_remove_all (ef_storage_t *storage) {
    int rc = s_remove_but (storage, 0);
    return rc ? rc : storage->sync_directory (storage);
}

/* A window over a checkpoint file. */
typedef struct {
    ef_segment_t file; /* only its window is used */
    ef_checkpoint_info_t info;
} reader_t;

static bool
s_open (reader_t *self, ef_storage_t *storage, uint32_t segment) {
    char name[32];
    size_t got;
    s_name (segment, name);
    memset (self, 0, sizeof *self);
    self->file.storage = storage;
    self->file.id = segment;
    self->file.file = storage->open (storage, name);
    int64_t size = self->file.file < 0 ? -1 : storage->size (storage, self->file.file);
    self->file.size = size < 0 ? 0 : (uint64_t)size;
    const uint8_t *head =
        self->file.size >= HEAD ? ef_segment_bytes (&self->file, 0, HEAD, &got) : NULL;
    if (head == NULL || memcmp (head, MAGIC, 8) != 0 ||
        ef_le32 (head + 12) != s_head_checksum (head) ||
        ef_le32 (head + 8) != EF_CHECKPOINT_VERSION || ef_le64 (head + 16) != segment) {
        return false;
    }
    self->info = (ef_checkpoint_info_t){.segment = segment,
                                        .first_seq = ef_le64 (head + 40),
                                        .chain = ef_le32 (head + 48),
                                        .bytes = self->file.size};
    return true;
}

/* Walks the records up to the COMMIT. 0: it is whole. */
static int
s_walk (reader_t *self, int (*each) (void *arg, const ef_record_t *record), void *arg) {
    uint32_t records = 0;
    uint32_t chain = 0;
    for (uint64_t at = HEAD;;) {
        size_t got;
        const uint8_t *head = ef_segment_bytes (&self->file, at, EF_RECORD_HEAD, &got);
        uint32_t length = head && got == EF_RECORD_HEAD ? ef_le32 (head) : 0;
        head = length ? ef_segment_bytes (&self->file, at, length, &got) : NULL;
        if (head == NULL || got < length || !ef_record_is_whole (head, got, self->file.id, at)) {
            return -1;
        }
        if (head[20] == EF_RECORD_COMMIT) {
            return length == EF_RECORD_HEAD + EF_COMMIT_BODY && ef_le32 (head + 32) == records &&
                           ef_le32 (head + 36) == chain && at + length == self->file.size
                       ? 0
                       : -1;
        }
        ef_record_t record;
        ef_record_view (head, self->file.id, 0, &record);
        chain = ef_crc32c (chain, head + 4, 4);
        records++;
        if (each && each (arg, &record)) {
            return -1;
        }
        at += ef_record_padded (length);
    }
}

bool
ef_checkpoint_find (ef_storage_t *storage, uint32_t below, ef_checkpoint_info_t *info) {
    listing_t listing = {.count = 0};
    bool is_found = false;
    if (storage->list (storage, s_note, &listing)) {
        return false;
    }
    for (uint32_t i = 0; i < listing.count && !is_found; i++) {
        reader_t reader;
        if (below == 0 || listing.segments[i] < below) {
            is_found =
                s_open (&reader, storage, listing.segments[i]) && s_walk (&reader, NULL, NULL) == 0;
            *info = reader.info;
            ef_segment_free (&reader.file);
        }
    }
    return is_found;
}

int
ef_checkpoint_read (ef_storage_t *storage, const ef_checkpoint_info_t *info,
                    int (*each) (void *arg, const ef_record_t *record), void *arg) {
    reader_t reader;
    int rc = s_open (&reader, storage, info->segment) ? s_walk (&reader, each, arg) : -1;
    ef_segment_free (&reader.file);
    return rc;
}
