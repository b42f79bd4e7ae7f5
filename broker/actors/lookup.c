/* The index of the whole log. SPDX-License-Identifier: MIT */
#include "lookup.h"
#include "../base/log.h"
#include "../journal/kept.h"
#include "../journal/wal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define LOOKUP_BYTES (64ull << 20) /* of parts in memory, beside those of the segment in hand */

typedef struct {
    uint32_t *ids; /* owned */
    uint32_t count;
    uint32_t (*orphans)[2]; /* owned: segment and part of sidecars */
    uint32_t orphan_count;
} listing_t;

static void
s_note_name (void *arg, const char *name) {
    listing_t *listing = arg;
    unsigned long long id;
    char seg[24];
    char old[24];
    uint32_t segment;
    uint32_t part;
    if (ef_sidecar_is_name (name, &segment, &part)) {
        listing->orphans =
            realloc (listing->orphans, (listing->orphan_count + 1) * sizeof *listing->orphans);
        ef_assert (listing->orphans != NULL);
        listing->orphans[listing->orphan_count][0] = segment;
        listing->orphans[listing->orphan_count++][1] = part;
        return;
    }
    if (sscanf (name, "%16llx.", &id) != 1 || id == 0 || id >= UINT32_MAX) {
        return;
    }
    ef_wal_segment_name (id, seg);
    ef_kept_name ((uint32_t)id, old);
    if (strcmp (name, seg) == 0 || strcmp (name, old) == 0) {
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

static void
s_add_segment (ef_lookup_t *self, uint32_t id) {
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 64;
        self->segments = realloc (self->segments, self->capacity * sizeof *self->segments);
        ef_assert (self->segments != NULL);
    }
    self->segments[self->count++] = (ef_lookup_segment_t){.id = id};
}

/* What is kept may have gaps before the log's own, where somebody removed files: only what follows
   the last gap counts. */
static int
s_list (ef_lookup_t *self) {
    ef_storage_t *storage = self->storage;
    listing_t listing = {0};
    int rc = storage->list (storage, s_note_name, &listing);
    if (listing.count > 0) {
        qsort (listing.ids, listing.count, sizeof *listing.ids, s_by_id);
    }
    for (uint32_t i = 0; rc == 0 && i < listing.count; i++) {
        bool follows = self->count == 0 || listing.ids[i] <= listing.ids[i - 1] + 1;
        self->count = follows ? self->count : 0;
        if (self->count == 0 || listing.ids[i] != listing.ids[i - 1]) {
            s_add_segment (self, listing.ids[i]);
        }
    }
    for (uint32_t i = 0; i < listing.orphan_count; i++) {
        uint32_t at = ef_lookup_find (self, listing.orphans[i][0]);
        if (at == self->count || self->segments[at].id != listing.orphans[i][0]) {
            char name[EF_SIDECAR_NAME_BYTES];
            ef_sidecar_name (listing.orphans[i][0], listing.orphans[i][1], name);
            (void)storage->unlink (storage, name); /* the next start tries again */
        }
    }
    free (listing.ids);
    free (listing.orphans);
    return rc;
}

int
ef_lookup_init (ef_lookup_t *self, ef_storage_t *storage) {
    memset (self, 0, sizeof *self);
    self->storage = storage;
    self->reader.file = self->part.file = -1;
    return s_list (self);
}

static void
s_forget_memory (ef_lookup_segment_t *segment) {
    if (segment->memory_count > 0) {
        segment->next = segment->memory[0]->from;
        segment->is_complete = false;
    }
    for (uint32_t i = 0; i < segment->memory_count; i++) {
        ef_sidecar_free (segment->memory[i]);
        free (segment->memory[i]);
    }
    free (segment->memory);
    segment->memory = NULL;
    segment->memory_count = 0;
}

void
ef_lookup_free (ef_lookup_t *self) {
    for (uint32_t i = 0; i < self->count; i++) {
        s_forget_memory (&self->segments[i]);
    }
    free (self->segments);
    if (self->storage) {
        ef_segment_free (&self->reader);
        ef_sidecar_free (&self->part);
    }
    memset (self, 0, sizeof *self);
}

uint32_t
ef_lookup_find (const ef_lookup_t *self, uint32_t segment) {
    uint32_t first = self->count ? self->segments[0].id : 0;
    if (segment <= first) {
        return 0;
    }
    return segment - first < self->count ? segment - first : self->count;
}

/* True where neither the log nor what is kept of it has the segment any more. */
static bool
s_is_gone (ef_lookup_t *self, uint32_t id) {
    char name[24];
    ef_wal_segment_name (id, name);
    int file = self->storage->open (self->storage, name);
    if (file == -ENOENT) {
        ef_kept_name (id, name);
        file = self->storage->open (self->storage, name);
    }
    if (file >= 0) {
        self->storage->close (self->storage, file);
    }
    return file == -ENOENT;
}

/* Segments go from the oldest end only. */
static void
s_drop_gone (ef_lookup_t *self) {
    uint32_t gone = 0;
    while (gone < self->count && self->segments[gone].id < self->durable_segment &&
           s_is_gone (self, self->segments[gone].id)) {
        s_forget_memory (&self->segments[gone]);
        ef_sidecar_remove (self->storage, self->segments[gone].id, 0);
        gone++;
    }
    self->count -= gone;
    memmove (self->segments, self->segments + gone, self->count * sizeof *self->segments);
}

void
ef_lookup_durable (ef_lookup_t *self, uint32_t segment, uint32_t offset) {
    if (segment == 0) {
        return;
    }
    self->durable_segment = segment;
    self->durable_offset = offset;
    if (self->count == 0) { /* the first ones have come since, or all that were known have gone */
        (void)s_list (self);
    }
    if (self->count == 0) {
        s_add_segment (self, segment);
    }
    while (self->segments[self->count - 1].id < segment) {
        s_add_segment (self, self->segments[self->count - 1].id + 1);
    }
    if (self->gone_at != segment) {
        self->gone_at = segment;
        s_drop_gone (self);
    }
}

/* Memory for other segments than the one in hand has a bound: the oldest are forgotten first, and
   read again when they are asked for. */
static void
s_keep_budget (ef_lookup_t *self, const ef_lookup_segment_t *in_hand) {
    uint64_t bytes = 0;
    for (uint32_t i = self->count; i > 0; i--) {
        ef_lookup_segment_t *segment = &self->segments[i - 1];
        for (uint32_t k = 0; segment != in_hand && k < segment->memory_count; k++) {
            bytes += ef_sidecar_memory (segment->memory[k]);
        }
        if (bytes > LOOKUP_BYTES && segment != in_hand) {
            s_forget_memory (segment);
        }
    }
}

/* Finished parts become files, in order. */
static void
s_write_parts (ef_lookup_t *self, ef_lookup_segment_t *segment) {
    while (!self->is_held && segment->memory_count > 0 &&
           (segment->memory_count > 1 || segment->is_complete)) {
        ef_sidecar_t *part = segment->memory[0];
        int rc = ef_sidecar_write (part, self->storage);
        if (rc) {
            ef_log_limited (EF_LOG_WARNING, "journal.sidecar", "segment=%u error=\"%s\"",
                            segment->id, strerror (-rc));
            return;
        }
        if (s_is_gone (self, segment->id)) { /* meanwhile, and who removed it saw no sidecar */
            ef_sidecar_remove (self->storage, segment->id, 0);
        }
        self->made++;
        segment->files++;
        ef_sidecar_free (part);
        free (part);
        segment->memory_count--;
        memmove (segment->memory, segment->memory + 1,
                 segment->memory_count * sizeof (ef_sidecar_t *));
    }
}

/* Takes the sidecar's files as far as they were made for these very bytes. */
static void
s_adopt_files (ef_lookup_t *self, ef_lookup_segment_t *segment) {
    while (!segment->is_complete && segment->files < EF_SIDECAR_PARTS_MAX) {
        ef_sidecar_free (&self->part);
        int rc = ef_sidecar_open (&self->part, self->storage, segment->journal_id, segment->id,
                                  segment->files, &segment->next);
        if (rc == 0 && self->part.to.offset > self->reader.size) {
            rc = -EBADMSG;
        }
        if (rc) {
            if (rc == -EBADMSG) {
                ef_sidecar_remove (self->storage, segment->id, segment->files);
            }
            return;
        }
        segment->files++;
        segment->next = self->part.to;
        segment->is_complete = self->part.is_last;
    }
}

static ef_sidecar_t *
s_tail (ef_lookup_t *self, ef_lookup_segment_t *segment) {
    uint32_t count = segment->memory_count;
    if (count > 0 && !ef_sidecar_is_full (segment->memory[count - 1])) {
        return segment->memory[count - 1];
    }
    ef_sidecar_t *before = count ? segment->memory[count - 1] : NULL;
    if (count == 0 && segment->files > 0) {
        before = ef_lookup_part (self, (uint32_t)(segment - self->segments), segment->files - 1);
        if (before == NULL) {
            return NULL;
        }
    }
    ef_sidecar_topic_t topic;
    for (uint32_t i = 0; before && i < before->topic_count; i++) {
        if (!ef_sidecar_topic_at (before, i, &topic)) {
            ef_lookup_check (self, (uint32_t)(segment - self->segments), before);
            return NULL;
        }
    }
    ef_sidecar_t *part = malloc (sizeof *part);
    segment->memory = realloc (segment->memory, (count + 1) * sizeof (ef_sidecar_t *));
    ef_assert (part != NULL && segment->memory != NULL);
    ef_sidecar_begin (part, segment->journal_id, segment->id, segment->files + count,
                      &segment->next, before);
    segment->memory[segment->memory_count++] = part;
    return part;
}

static void
s_add_group (ef_lookup_t *self, ef_lookup_segment_t *segment, ef_sidecar_t *tail, uint64_t end) {
    uint64_t offset = segment->next.offset;
    const uint8_t *bytes = ef_segment_at (&self->reader, offset);
    for (uint64_t at = 0; at < end - offset;) {
        ef_record_t record;
        ef_record_view (bytes, segment->id, at, &record);
        record.offset = (uint32_t)(offset + at);
        ef_sidecar_add (tail, &record);
        at += ef_record_padded (record.body_bytes + EF_RECORD_HEAD);
    }
}

/* Opens the segment for reading. False: it is gone or can't be read now. */
static bool
s_open (ef_lookup_t *self, ef_lookup_segment_t *segment) {
    ef_segment_header_t header;
    if (ef_segment_open_any (&self->reader, self->storage, segment->id)) {
        return false;
    }
    if (!segment->has_header) {
        if (!ef_segment_read_header (&self->reader, &header)) {
            return false;
        }
        segment->has_header = true;
        memcpy (segment->journal_id, header.journal_id, 16);
        segment->next = (ef_group_place_t){EF_SEGMENT_START, header.first_seq, header.chain};
        s_adopt_files (self, segment);
    }
    return true;
}

/* Reads on in a segment, up to `bytes`. True: there is more. */
static bool
s_read_on (ef_lookup_t *self, ef_lookup_segment_t *segment, uint64_t bytes) {
    bool is_sealed = segment->id < self->durable_segment;
    uint64_t end = is_sealed ? UINT64_MAX : self->durable_offset;
    if (segment->is_complete || (segment->has_header && segment->next.offset >= end) ||
        segment->id > self->durable_segment || !s_open (self, segment)) {
        return false;
    }
    uint64_t stop = segment->next.offset + bytes;
    bool is_more = !segment->is_complete;
    while (is_more && segment->next.offset < stop) {
        uint32_t chain = segment->next.chain;
        uint64_t to =
            ef_segment_group (&self->reader, segment->next.offset, segment->next.seq, &chain);
        ef_sidecar_t *tail = to == 0 && !is_sealed ? NULL : s_tail (self, segment);
        if (to > end || tail == NULL || self->reader.error) {
            is_more = false;
        } else if (to == 0) {
            tail->is_last = segment->is_complete = true;
            is_more = false;
        } else {
            s_add_group (self, segment, tail, to);
            segment->next = tail->to = (ef_group_place_t){to, segment->next.seq + 1, chain};
        }
    }
    ef_segment_close (&self->reader);
    s_write_parts (self, segment);
    s_keep_budget (self, segment);
    return is_more;
}

bool
ef_lookup_work (ef_lookup_t *self, uint64_t bytes) {
    for (uint32_t i = 0; !self->is_held && i < self->count; i++) {
        ef_lookup_segment_t *segment = &self->segments[i];
        if (segment->id >= self->durable_segment) {
            return false;
        }
        if (!segment->is_complete) {
            if (s_read_on (self, segment, bytes) || segment->is_complete) {
                return true;
            }
        } else if (segment->memory_count > 0) {
            s_write_parts (self, segment);
            if (segment->memory_count == 0) {
                return true;
            }
        }
    }
    return false;
}

uint32_t
ef_lookup_parts (ef_lookup_t *self, uint32_t at) {
    (void)s_read_on (self, &self->segments[at], UINT64_MAX / 2);
    return self->segments[at].files + self->segments[at].memory_count;
}

ef_sidecar_t *
ef_lookup_part (ef_lookup_t *self, uint32_t at, uint32_t part) {
    ef_lookup_segment_t *segment = &self->segments[at];
    if (part >= segment->files) {
        uint32_t place = part - segment->files;
        return place < segment->memory_count ? segment->memory[place] : NULL;
    }
    if (self->part.file >= 0 && self->part.segment == segment->id && self->part.part == part) {
        return &self->part;
    }
    ef_sidecar_free (&self->part);
    int rc = ef_sidecar_open (&self->part, self->storage, segment->journal_id, segment->id, part,
                              NULL); /* as was checked when it was adopted or made here */
    if (rc == 0) {
        return &self->part;
    }
    if (rc == -EBADMSG || rc == -ENOENT) {
        self->is_spoilt = true;
        segment->has_header = segment->is_complete = false; /* it is looked at anew */
        segment->files = 0;
        s_forget_memory (segment);
    }
    return NULL;
}

void
ef_lookup_check (ef_lookup_t *self, uint32_t at, ef_sidecar_t *part) {
    ef_lookup_segment_t *segment = &self->segments[at];
    if (part != &self->part || part->error == 0) {
        return;
    }
    if (part->error == -EBADMSG) {
        ef_log_limited (EF_LOG_WARNING, "journal.sidecar", "segment=%u part=%u damaged=1",
                        segment->id, part->part);
        ef_sidecar_remove (self->storage, segment->id, part->part);
    }
    self->is_spoilt = true;
    s_forget_memory (segment);
    segment->has_header = segment->is_complete = false;
    segment->files = 0;
    ef_sidecar_free (&self->part);
}
