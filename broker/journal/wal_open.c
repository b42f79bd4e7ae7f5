/* Segmented write-ahead log: what is found at open (record.h, "Verdicts").
   SPDX-License-Identifier: MIT */
#include "wal_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    uint32_t *ids; /* owned */
    size_t count;
} listing_t;

typedef struct {
    ef_wal_t *wal;
    ef_wal_report_t *report;
    int (*each) (void *arg, const ef_record_t *record);
    void *arg;
} recovery_t;

/* One segment in memory. */
typedef struct {
    uint8_t *bytes; /* owned */
    size_t size;
    uint32_t id;
    int file;
    bool is_last;
} segment_t;

static int s_fail (recovery_t *self, int error, const char *format, ...) EF_PRINTF (3, 4);

static int
s_fail (recovery_t *self, int error, const char *format, ...) {
    va_list arguments;
    va_start (arguments, format);
    vsnprintf (self->report->text, sizeof self->report->text, format, arguments);
    va_end (arguments);
    self->report->error = error;
    return -1;
}

static void
s_note_name (void *arg, const char *name) {
    listing_t *listing = arg;
    unsigned long long id;
    int end = 0;
    if (sscanf (name, "%16llx.seg%n", &id, &end) == 1 && end == 20 && name[20] == 0 && id > 0 &&
        id < UINT32_MAX) {
        listing->ids = realloc (listing->ids, (listing->count + 1) * sizeof *listing->ids);
        ef_assert (listing->ids != NULL);
        listing->ids[listing->count++] = (uint32_t)id;
    }
}

static int
s_by_id (const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static int
s_load (recovery_t *self, uint32_t id, segment_t *segment) {
    ef_storage_t *storage = self->wal->storage;
    char name[24];
    ef_wal_segment_name (id, name);
    segment->id = id;
    segment->file = storage->open (storage, name);
    int64_t size = segment->file < 0 ? segment->file : storage->size (storage, segment->file);
    if (size < 0) {
        return s_fail (self, (int)-size, "can't open segment %s", name);
    }
    segment->bytes = malloc ((size_t)size + 1);
    ef_assert (segment->bytes != NULL);
    int64_t got = storage->read (storage, segment->file, segment->bytes, (size_t)size, 0);
    if (got != size) {
        return s_fail (self, got < 0 ? (int)-got : EIO, "can't read segment %s", name);
    }
    segment->size = (size_t)size;
    self->report->bytes += (uint64_t)size;
    return 0;
}

static void
s_unload (recovery_t *self, segment_t *segment) {
    if (segment->file >= 0) {
        self->wal->storage->close (self->wal->storage, segment->file);
    }
    free (segment->bytes);
    memset (segment, 0, sizeof *segment);
    segment->file = -1;
}

static bool
s_header_is_valid (const segment_t *segment) {
    const uint8_t *header = segment->bytes;
    return segment->size >= EF_SEGMENT_START && memcmp (header, EF_SEGMENT_MAGIC, 8) == 0 &&
           ef_le32 (header + 12) == ef_wal_header_checksum (header) &&
           ef_le64 (header + 16) == segment->id;
}

/* Checks the header against what the segments before it say. */
static int
s_check_header (recovery_t *self, const segment_t *segment, bool is_first) {
    ef_wal_t *wal = self->wal;
    const uint8_t *header = segment->bytes;
    if (!s_header_is_valid (segment)) {
        return s_fail (self, EBADMSG, "segment %u: its header is damaged", segment->id);
    }
    if (ef_le32 (header + 8) > EF_RECORD_VERSION) {
        return s_fail (self, EPROTO,
                       "segment %u has format version %u; this program knows up to %u", segment->id,
                       ef_le32 (header + 8), EF_RECORD_VERSION);
    }
    if (is_first) {
        memcpy (wal->journal_id, header + 24, 16);
        wal->next_seq = ef_le64 (header + 40);
        wal->chain = ef_le32 (header + 48);
    } else if (memcmp (wal->journal_id, header + 24, 16) != 0) {
        return s_fail (self, EBADMSG, "segment %u belongs to another journal", segment->id);
    } else if (wal->next_seq != ef_le64 (header + 40) || wal->chain != ef_le32 (header + 48)) {
        return s_fail (self, EBADMSG, "groups are missing before segment %u", segment->id);
    }
    uint32_t epoch = ef_le32 (header + 52);
    wal->epoch = epoch > wal->epoch ? epoch : wal->epoch;
    return 0;
}

/* Finds the end of the group at `offset` and checks it. Returns the offset behind its commit, or 0
   where there is no whole group. */
static uint64_t
s_check_group (const ef_wal_t *wal, const segment_t *segment, uint64_t offset, uint32_t *chain) {
    uint32_t records = 0;
    for (uint64_t at = offset;
         ef_record_is_valid (segment->bytes, segment->size, segment->id, at);) {
        const uint8_t *head = segment->bytes + at;
        uint32_t length = ef_le32 (head);
        if (ef_le64 (head + 8) != wal->next_seq) {
            return 0;
        }
        if (head[20] == EF_RECORD_COMMIT) {
            bool is_right = length >= EF_RECORD_HEAD + EF_COMMIT_BODY &&
                            ef_le64 (head + 24) == offset && ef_le32 (head + 32) == records &&
                            ef_le32 (head + 36) == *chain;
            return is_right ? at + ef_record_padded (length) : 0;
        }
        *chain = ef_crc32c (*chain, head + 4, 4);
        records++;
        at += ef_record_padded (length);
    }
    return 0;
}

static int
s_replay_group (recovery_t *self, const segment_t *segment, uint64_t offset, uint64_t end) {
    while (offset < end) {
        ef_record_t record;
        ef_record_view (segment->bytes, segment->id, offset, &record);
        self->wal->epoch = record.epoch > self->wal->epoch ? record.epoch : self->wal->epoch;
        if (record.type != EF_RECORD_COMMIT) {
            self->report->records++;
            if (self->each (self->arg, &record)) {
                return s_fail (self, EBADMSG,
                               "segment %u offset %u: a record of type %u that makes no sense",
                               segment->id, record.offset, record.type);
            }
        }
        offset += ef_record_padded (record.body_bytes + EF_RECORD_HEAD);
    }
    return 0;
}

static bool
s_is_zero (const uint8_t *bytes, size_t size) {
    return size == 0 || (bytes[0] == 0 && memcmp (bytes, bytes + 1, size - 1) == 0);
}

/* A valid record of a later group behind a bad one means that something confirmed was lost. */
static bool
s_later_group_follows (const ef_wal_t *wal, const segment_t *segment, uint64_t offset) {
    for (uint64_t at = offset; at + EF_RECORD_HEAD <= segment->size; at += EF_RECORD_ALIGN) {
        if (ef_le64 (segment->bytes + at + 8) > wal->next_seq &&
            ef_record_is_valid (segment->bytes, segment->size, segment->id, at)) {
            return true;
        }
    }
    return false;
}

/* Behind the last whole group: zeros, a torn tail, or damage. */
static int
s_judge_end (recovery_t *self, segment_t *segment, uint64_t offset) {
    ef_storage_t *storage = self->wal->storage;
    if (s_is_zero (segment->bytes + offset, segment->size - offset)) {
        return 0;
    }
    if (!segment->is_last || s_later_group_follows (self->wal, segment, offset)) {
        return s_fail (self, EBADMSG, "segment %u is damaged at offset %llu; see eventflow journal",
                       segment->id, (unsigned long long)offset);
    }
    self->report->torn_segment = segment->id;
    self->report->torn_offset = (uint32_t)offset;
    self->report->torn_bytes = segment->size - offset;
    int rc = storage->truncate (storage, segment->file, offset);
    rc = rc ? rc : storage->sync (storage, segment->file);
    return rc ? s_fail (self, -rc, "can't cut the torn tail of segment %u", segment->id) : 0;
}

static int
s_recover_segment (recovery_t *self, segment_t *segment) {
    uint64_t offset = EF_SEGMENT_START;
    for (;;) {
        uint32_t chain = self->wal->chain;
        uint64_t end = s_check_group (self->wal, segment, offset, &chain);
        if (end == 0) {
            return s_judge_end (self, segment, offset);
        }
        if (s_replay_group (self, segment, offset, end)) {
            return -1;
        }
        self->wal->chain = chain;
        self->wal->next_seq++;
        offset = end;
    }
}

/* A crash while a segment was being made leaves a newest file without a valid header. */
static int
s_drop_unborn (recovery_t *self, listing_t *listing) {
    ef_storage_t *storage = self->wal->storage;
    segment_t segment = {.file = -1};
    uint32_t id = listing->ids[listing->count - 1];
    int rc = s_load (self, id, &segment);
    bool is_unborn =
        rc == 0 && !s_header_is_valid (&segment) &&
        (segment.size < EF_SEGMENT_START ||
         s_is_zero (segment.bytes + EF_SEGMENT_START, segment.size - EF_SEGMENT_START));
    s_unload (self, &segment);
    if (is_unborn) {
        char name[24];
        ef_wal_segment_name (id, name);
        rc = storage->unlink (storage, name);
        rc = rc ? rc : storage->sync_directory (storage);
        if (rc) {
            return s_fail (self, -rc, "can't remove the unfinished segment %u", id);
        }
        listing->count--;
    }
    return rc;
}

static int
s_recover (recovery_t *self, listing_t *listing) {
    ef_wal_t *wal = self->wal;
    int rc = wal->storage->list (wal->storage, s_note_name, listing);
    if (rc) {
        return s_fail (self, -rc, "can't list the journal's directory");
    }
    self->report->is_new = listing->count == 0;
    if (listing->count > 0) {
        qsort (listing->ids, listing->count, sizeof *listing->ids, s_by_id);
        rc = s_drop_unborn (self, listing);
    }
    for (size_t i = 0; rc == 0 && i < listing->count; i++) {
        segment_t segment = {.file = -1};
        if (i > 0 && listing->ids[i] != listing->ids[i - 1] + 1) {
            return s_fail (self, EBADMSG, "segment %u is missing", listing->ids[i - 1] + 1);
        }
        rc = s_load (self, listing->ids[i], &segment);
        segment.is_last = i + 1 == listing->count;
        rc = rc ? rc : s_check_header (self, &segment, i == 0);
        rc = rc ? rc : s_recover_segment (self, &segment);
        s_unload (self, &segment);
        wal->oldest = wal->oldest ? wal->oldest : listing->ids[i];
        wal->newest = listing->ids[i];
    }
    self->report->segments = (uint32_t)listing->count;
    return rc;
}

ef_wal_t *
ef_wal_open (ef_storage_t *storage, const ef_wal_options_t *options,
             int (*each) (void *arg, const ef_record_t *record), void *arg,
             ef_wal_report_t *report) {
    ef_wal_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->storage = storage;
    self->options = *options;
    self->file = -1;
    self->next_seq = 1;
    memcpy (self->journal_id, options->random, 16);
    memset (report, 0, sizeof *report);
    recovery_t recovery = {self, report, each, arg};
    listing_t listing = {0};
    int rc = s_recover (&recovery, &listing);
    free (listing.ids);
    if (rc) {
        ef_wal_destroy (&self);
        return NULL;
    }
    self->epoch++;
    return self;
}
