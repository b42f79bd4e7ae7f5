/* Segmented write-ahead log: what is found at open (record.h, "Verdicts").
   SPDX-License-Identifier: MIT */
#include "segment.h"
#include "wal_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define PROGRESS_BYTES (8u << 20) /* read between two words of progress */

typedef struct {
    uint32_t *ids; /* owned */
    size_t count;
} listing_t;

typedef struct {
    ef_wal_t *wal;
    ef_wal_report_t *report;
    int (*each) (void *arg, const ef_record_t *record);
    void *arg;
    ef_segment_t segment;
    ef_segment_header_t header; /* of `segment` */
    uint64_t total;             /* bytes to be read */
    uint64_t told;              /* progress, when last told */
} recovery_t;

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

/* The verdict by what is known. A sealed segment ends where its last group ends, or something was
   lost; so does the newest, unless what follows can only be a group that was never confirmed. */
ef_end_t
ef_wal_judge (const ef_end_facts_t *facts) {
    enum { REST = 1, LATER = 2, HINTED = 4 };
    static const ef_end_t newest[8] = {
        [0] = EF_END_CLEAN,
        [REST] = EF_END_TORN,
        [LATER] = EF_END_CORRUPT, /* can't be without a rest */
        [REST | LATER] = EF_END_CORRUPT,
        [HINTED] = EF_END_CORRUPT,
        [HINTED | REST] = EF_END_CORRUPT,
        [HINTED | LATER] = EF_END_CORRUPT,
        [HINTED | REST | LATER] = EF_END_CORRUPT,
    };
    unsigned row = (facts->has_rest ? REST : 0) | (facts->has_later ? LATER : 0) |
                   (facts->is_hinted ? HINTED : 0);
    if (!facts->is_newest) {
        return facts->has_rest ? EF_END_CORRUPT : EF_END_CLEAN;
    }
    if (facts->is_unsynced) {
        /* Written and not synced: any of its groups may be lost, in any order. */
        return facts->has_rest ? EF_END_TORN : EF_END_CLEAN;
    }
    return newest[row];
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
s_open_segment (recovery_t *self, uint32_t id, bool is_newest) {
    int rc = ef_segment_open (&self->segment, self->wal->storage, id);
    if (rc) {
        return s_fail (self, -rc, "segment %u can't be opened: %s", id, strerror (-rc));
    }
    if (is_newest) {
        self->wal->storage->uncache (self->wal->storage, self->segment.file);
    }
    return 0;
}

static int
s_fail_read (recovery_t *self) {
    return s_fail (self, -self->segment.error, "segment %u can't be read: %s", self->segment.id,
                   strerror (-self->segment.error));
}

/* Where the reading begins: at the first segment, or where a checkpoint says. */
static int
s_check_start (recovery_t *self, const ef_segment_header_t *header) {
    ef_wal_t *wal = self->wal;
    const ef_wal_options_t *options = &wal->options;
    memcpy (wal->journal_id, header->journal_id, 16);
    wal->next_seq = header->first_seq;
    wal->chain = header->chain;
    if (options->from_segment &&
        (options->from_seq != header->first_seq || options->from_chain != header->chain)) {
        return s_fail (self, ESTALE, "segment %u isn't the one that the checkpoint knows",
                       self->segment.id);
    }
    return 0;
}

/* Checks the header against what the segments before it say. */
static int
s_check_header (recovery_t *self, bool is_first) {
    ef_wal_t *wal = self->wal;
    ef_segment_header_t *header = &self->header;
    uint32_t id = self->segment.id;
    if (!ef_segment_read_header (&self->segment, header)) {
        return self->segment.error ? s_fail_read (self)
                                   : s_fail (self, EBADMSG,
                                             "segment %u offset 0: its header is damaged; nothing "
                                             "in it can be trusted; see eventflow journal verify",
                                             id);
    }
    if (header->version > EF_RECORD_VERSION) {
        return s_fail (self, EPROTO,
                       "segment %u has format version %u; this program knows up to %u", id,
                       header->version, EF_RECORD_VERSION);
    }
    wal->epoch = header->epoch > wal->epoch ? header->epoch : wal->epoch;
    if (is_first) {
        return s_check_start (self, header);
    }
    if (memcmp (wal->journal_id, header->journal_id, 16) != 0) {
        return s_fail (self, EBADMSG, "segment %u belongs to another journal", id);
    }
    if (wal->next_seq != header->first_seq || wal->chain != header->chain) {
        return s_fail (self, EBADMSG,
                       "groups %llu to %llu are missing before segment %u; see eventflow journal "
                       "verify",
                       (unsigned long long)wal->next_seq, (unsigned long long)header->first_seq - 1,
                       id);
    }
    return 0;
}

static int
s_replay_group (recovery_t *self, uint64_t offset, uint64_t end) {
    const uint8_t *bytes = ef_segment_at (&self->segment, offset);
    for (uint64_t at = 0; at < end - offset;) {
        ef_record_t record;
        ef_record_view (bytes, self->segment.id, at, &record);
        record.offset = (uint32_t)(offset + at);
        self->wal->epoch = record.epoch > self->wal->epoch ? record.epoch : self->wal->epoch;
        if (record.type != EF_RECORD_COMMIT) {
            self->report->records++;
            if (self->each (self->arg, &record)) {
                return s_fail (self, EBADMSG,
                               "segment %u offset %u: a record of type %u that makes no sense",
                               self->segment.id, record.offset, record.type);
            }
        }
        at += ef_record_padded (record.body_bytes + EF_RECORD_HEAD);
    }
    return 0;
}

/* The newest segment as it shall stay: without what is torn or was only reserved, and on disk, not
   just in the page cache, before anything in it is believed. */
static int
s_settle_newest (recovery_t *self, uint64_t offset) {
    ef_storage_t *storage = self->wal->storage;
    int rc =
        self->segment.size > offset ? storage->truncate (storage, self->segment.file, offset) : 0;
    rc = rc ? rc : storage->sync (storage, self->segment.file);
    rc = rc ? rc : storage->sync_directory (storage);
    self->segment.size = offset;
    return rc ? s_fail (self, -rc, "segment %u can't be settled: %s", self->segment.id,
                        strerror (-rc))
              : 0;
}

/* Behind the last whole group: nothing, a torn tail, or damage. */
static int
s_judge_end (recovery_t *self, uint64_t offset, bool is_newest) {
    ef_wal_t *wal = self->wal;
    ef_segment_t *segment = &self->segment;
    ef_end_facts_t facts = {.is_newest = is_newest,
                            .has_rest = !ef_segment_ends_in_zeros (segment, offset),
                            .is_hinted = wal->hinted_seq >= wal->next_seq,
                            .is_unsynced = self->header.flags & EF_SEGMENT_FLAG_UNSYNCED};
    facts.has_later = facts.has_rest && ef_segment_has_later (segment, offset, wal->next_seq);
    if (segment->error) {
        return s_fail_read (self);
    }
    switch (ef_wal_judge (&facts)) {
    case EF_END_CORRUPT:
        return s_fail (self, EBADMSG,
                       "segment %u is damaged at offset %llu: group %llu, which was %s, can't be "
                       "read; see eventflow journal verify",
                       segment->id, (unsigned long long)offset, (unsigned long long)wal->next_seq,
                       facts.is_hinted || facts.has_later || !is_newest ? "confirmed" : "written");
    case EF_END_TORN:
        self->report->torn_segment = segment->id;
        self->report->torn_offset = (uint32_t)offset;
        self->report->torn_bytes = segment->size - offset;
        break;
    case EF_END_CLEAN:
    default: break;
    }
    return is_newest ? s_settle_newest (self, offset) : 0;
}

static void
s_tell_progress (recovery_t *self, uint64_t done) {
    const ef_wal_options_t *options = &self->wal->options;
    if (options->progress && done - self->told >= PROGRESS_BYTES) {
        self->told = done;
        options->progress (options->progress_arg, done, self->total);
    }
}

static int
s_recover_segment (recovery_t *self, bool is_newest) {
    ef_wal_t *wal = self->wal;
    uint64_t offset = EF_SEGMENT_START;
    for (;;) {
        uint32_t chain = wal->chain;
        uint64_t end = ef_segment_group (&self->segment, offset, wal->next_seq, &chain);
        if (end == 0) {
            self->report->bytes += offset;
            return s_judge_end (self, offset, is_newest);
        }
        if (s_replay_group (self, offset, end)) {
            return -1;
        }
        wal->chain = chain;
        wal->next_seq++;
        offset = end;
        s_tell_progress (self, self->report->bytes + offset);
    }
}

/* A crash while a segment was being made leaves a newest file without a valid header. */
static int
s_drop_unborn (recovery_t *self, listing_t *listing) {
    ef_storage_t *storage = self->wal->storage;
    ef_segment_header_t header;
    uint32_t id = listing->ids[listing->count - 1];
    if (s_open_segment (self, id, true)) {
        return -1;
    }
    bool is_unborn = !ef_segment_read_header (&self->segment, &header) &&
                     ef_segment_ends_in_zeros (&self->segment, EF_SEGMENT_START);
    if (self->segment.error) {
        return s_fail_read (self);
    }
    if (is_unborn) {
        char name[24];
        ef_wal_segment_name (id, name);
        ef_segment_close (&self->segment);
        int rc = storage->unlink (storage, name);
        rc = rc ? rc : storage->sync_directory (storage);
        if (rc) {
            return s_fail (self, -rc, "the unfinished segment %u can't be removed: %s", id,
                           strerror (-rc));
        }
        listing->count--;
    }
    return 0;
}

uint64_t
ef_wal_read_hint (ef_storage_t *storage, uint8_t journal_id[16]) {
    uint8_t page[HINT_BYTES];
    int file = storage->open (storage, HINT_NAME);
    if (file < 0) {
        return 0;
    }
    int64_t got = storage->read (storage, file, page, sizeof page, 0);
    storage->close (storage, file);
    if (got != HINT_BYTES || memcmp (page, HINT_MAGIC, 8) != 0 ||
        ef_le32 (page + HINT_CRC) != ef_crc32c (0, page, HINT_CRC)) {
        return 0;
    }
    memcpy (journal_id, page + 8, 16);
    return ef_le64 (page + 24);
}

/* How much there is to read, and what each segment takes on disk. */
static int
s_measure (recovery_t *self, const listing_t *listing) {
    ef_wal_t *wal = self->wal;
    wal->sizes = calloc (listing->count + 1, sizeof *wal->sizes);
    ef_assert (wal->sizes != NULL);
    wal->size_count = (uint32_t)listing->count;
    for (size_t i = 0; i < listing->count; i++) {
        if (i > 0 && listing->ids[i] != listing->ids[i - 1] + 1) {
            return s_fail (self, EBADMSG, "segment %u is missing; see eventflow journal verify",
                           listing->ids[i - 1] + 1);
        }
        if (s_open_segment (self, listing->ids[i], false)) {
            return -1;
        }
        wal->sizes[i] = self->segment.size;
        self->total += listing->ids[i] >= wal->options.from_segment ? self->segment.size : 0;
    }
    return 0;
}

static int
s_read_segments (recovery_t *self, const listing_t *listing) {
    ef_wal_t *wal = self->wal;
    uint8_t hinted_id[16];
    uint64_t hinted_seq = ef_wal_read_hint (wal->storage, hinted_id);
    bool is_first = true;
    if (hinted_seq && listing->count == 0) {
        return s_fail (self, EBADMSG, "all segments are missing, up to group %llu",
                       (unsigned long long)hinted_seq);
    }
    for (size_t i = 0; i < listing->count; i++) {
        bool is_newest = i + 1 == listing->count;
        wal->oldest = wal->oldest ? wal->oldest : listing->ids[i];
        wal->newest = listing->ids[i];
        if (listing->ids[i] < wal->options.from_segment) {
            continue;
        }
        if (s_open_segment (self, listing->ids[i], is_newest) || s_check_header (self, is_first)) {
            return -1;
        }
        if (is_first && hinted_seq && memcmp (hinted_id, wal->journal_id, 16) == 0) {
            wal->hinted_seq = hinted_seq;
        }
        is_first = false;
        if (s_recover_segment (self, is_newest)) {
            return -1;
        }
        wal->sizes[i] = is_newest ? self->segment.size : wal->sizes[i];
    }
    if (wal->options.from_segment && is_first) {
        return s_fail (self, ESTALE, "segment %u, which the checkpoint names, isn't there",
                       wal->options.from_segment);
    }
    return 0;
}

static int
s_recover (recovery_t *self, listing_t *listing) {
    ef_wal_t *wal = self->wal;
    int rc = wal->storage->list (wal->storage, s_note_name, listing);
    if (rc) {
        return s_fail (self, -rc, "the journal's directory can't be listed: %s", strerror (-rc));
    }
    self->report->is_new = listing->count == 0;
    if (listing->count > 0) {
        qsort (listing->ids, listing->count, sizeof *listing->ids, s_by_id);
        rc = s_drop_unborn (self, listing);
    }
    rc = rc ? rc : s_measure (self, listing);
    if (rc == 0 && wal->options.progress && self->total) {
        wal->options.progress (wal->options.progress_arg, 0, self->total);
    }
    rc = rc ? rc : s_read_segments (self, listing);
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
    recovery_t recovery = {self, report, each, arg, .segment = {.file = -1}};
    listing_t listing = {0};
    int rc = s_recover (&recovery, &listing);
    ef_segment_free (&recovery.segment);
    free (listing.ids);
    if (rc) {
        ef_wal_destroy (&self);
        return NULL;
    }
    self->epoch++;
    return self;
}
