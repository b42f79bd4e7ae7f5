/* Reading a journal that may be damaged. SPDX-License-Identifier: MIT */
#include "scan_private.h"
#include "segment.h"

#include <stdio.h>
#include <stdlib.h>

const char *
ef_finding_name (ef_finding_kind_t kind) {
    static const char *const names[] = {
#define X(name, text) text,
        EF_FINDING_TABLE (X)
#undef X
    };
    ef_assert (kind < EF_FINDING_COUNT);
    return names[kind];
}

bool
ef_finding_is_loss (ef_finding_kind_t kind) {
    return kind != EF_FINDING_TORN && kind != EF_FINDING_UNBORN && kind != EF_FINDING_NEWER;
}

bool
ef_scan_is_segment (const char *name, uint32_t *id) {
    unsigned long long number;
    int end = 0;
    if (sscanf (name, "%16llx.seg%n", &number, &end) != 1 || end != 20 || name[20] != 0 ||
        number == 0 || number >= UINT32_MAX) {
        return false;
    }
    *id = (uint32_t)number;
    return true;
}

static void
s_leave_group (scan_t *self) {
    if (self->in_group && !self->is_holed) {
        scan_tell (self,
                   (ef_finding_t){.kind = EF_FINDING_INCOMPLETE,
                                  .offset = self->group_at,
                                  .first_seq = self->group_seq,
                                  .last_seq = self->group_seq},
                   "group %llu has no commit", (unsigned long long)self->group_seq);
    }
    if (self->in_group) {
        self->next_seq = self->group_seq + 1;
        self->knows_chain = false;
    }
    self->in_group = false;
}

static void
s_enter_group (scan_t *self, uint64_t seq, uint64_t offset, bool is_behind_damage) {
    if (self->next_seq && seq != self->next_seq && !is_behind_damage) {
        scan_tell (self,
                   (ef_finding_t){.kind = EF_FINDING_GAP,
                                  .offset = offset,
                                  .first_seq = seq > self->next_seq ? self->next_seq : 0,
                                  .last_seq = seq > self->next_seq ? seq - 1 : 0},
                   "group %llu was expected, group %llu stands here",
                   (unsigned long long)self->next_seq, (unsigned long long)seq);
        self->knows_chain = false;
    }
    self->in_group = true;
    self->is_holed = is_behind_damage;
    self->group_seq = seq;
    self->group_at = offset;
    self->group_records = 0;
}

/* A COMMIT closes its group; what it says is held against what was seen. */
static void
s_close_group (scan_t *self, const uint8_t *head) {
    const uint8_t *body = head + EF_RECORD_HEAD;
    bool is_long = ef_le32 (head) >= EF_RECORD_HEAD + EF_COMMIT_BODY;
    uint32_t records = is_long ? ef_le32 (body + 8) : self->group_records;
    ef_finding_t finding = {.kind = EF_FINDING_INCOMPLETE,
                            .offset = self->group_at,
                            .first_seq = self->group_seq,
                            .last_seq = self->group_seq};
    if (records > self->group_records) {
        scan_tell (self, finding, "group %llu: %u of its %u records are missing",
                   (unsigned long long)self->group_seq, records - self->group_records, records);
    } else if (!is_long || (!self->is_holed &&
                            (records != self->group_records || ef_le64 (body) != self->group_at ||
                             (self->knows_chain && ef_le32 (body + 12) != self->chain)))) {
        scan_tell (self, finding, "group %llu: its commit doesn't fit its records",
                   (unsigned long long)self->group_seq);
    } else {
        self->report->groups++;
    }
    self->in_group = false;
    self->next_seq = self->group_seq + 1;
    self->knows_chain = is_long;
    self->chain = is_long ? ef_le32 (body + 12) : 0;
}

/* Hands the record at an offset out. Returns the offset behind it, 0 where none stands there. */
static uint64_t
s_take (scan_t *self, uint64_t offset, bool is_behind_damage) {
    const uint8_t *head = scan_record (self, offset);
    if (head == NULL) {
        return 0;
    }
    uint64_t seq = ef_le64 (head + 8);
    uint64_t next = offset + ef_record_padded (ef_le32 (head));
    if (self->in_group && seq != self->group_seq) {
        s_leave_group (self);
    }
    if (!self->in_group) {
        s_enter_group (self, seq, offset, is_behind_damage);
    }
    if (head[20] == EF_RECORD_COMMIT) {
        s_close_group (self, head);
    } else {
        self->chain = ef_crc32c (self->chain, head + 4, 4);
        self->group_records++;
        self->report->records++;
    }
    if (self->user->record) {
        ef_record_t record;
        ef_record_view (head, self->id, 0, &record);
        record.offset = (uint32_t)offset;
        self->is_ended = self->user->record (self->user->arg, &record, seq) != 0;
    }
    return next;
}

/* The newest segment ends in a group that was never confirmed. */
static void
s_end_torn (scan_t *self, uint64_t offset, uint64_t end) {
    uint64_t from = self->in_group ? self->group_at : offset;
    uint64_t seq = self->in_group ? self->group_seq : self->next_seq;
    bool is_hinted = seq && seq <= self->hinted_seq;
    self->is_end_told = true;
    scan_tell (self,
               (ef_finding_t){.kind = is_hinted ? EF_FINDING_DAMAGED : EF_FINDING_TORN,
                              .offset = from,
                              .bytes = end - from,
                              .first_seq = seq,
                              .last_seq = seq},
               is_hinted ? "this group was synced, and it isn't whole any more"
                         : "a torn tail: this group was never confirmed");
    self->in_group = false;
}

/* Nothing whole stands from `offset` to the end of the segment. */
static void
s_judge_end (scan_t *self, uint64_t offset, uint64_t seq) {
    uint64_t end = scan_data_end (self, offset);
    if (end == offset && !self->in_group) {
        return; /* zeros behind the last group */
    }
    if (self->is_last) {
        s_end_torn (self, offset, end);
        return;
    }
    if (end > offset) {
        self->is_holed = true; /* told here, once */
        scan_tell (self,
                   (ef_finding_t){.kind = EF_FINDING_DAMAGED,
                                  .offset = offset,
                                  .bytes = end - offset,
                                  .first_seq = seq,
                                  .last_seq = seq && self->next_of > seq ? self->next_of - 1 : 0},
                   "no whole record stands here");
    }
    s_leave_group (self);
    if (end > offset) {
        self->next_seq = self->next_of; /* 0: nothing says where it goes on */
        self->knows_chain = false;
    }
}

/* No record stands at `offset`. Returns where the next one stands, 0: the segment ends. */
static uint64_t
s_judge (scan_t *self, uint64_t offset) {
    uint64_t seq = self->in_group ? self->group_seq : self->next_seq;
    uint64_t next = scan_find (self, offset, seq);
    if (next == 0) {
        s_judge_end (self, offset, seq);
        return 0;
    }
    if (self->is_last && scan_find (self, next, seq + 1) == 0) {
        s_end_torn (self, offset, scan_data_end (self, next));
        return 0;
    }
    const uint8_t *head = scan_record (self, next);
    uint64_t found = head ? ef_le64 (head + 8) : 0;
    uint64_t last = found > seq ? found - 1 : found;
    scan_tell (self,
               (ef_finding_t){.kind = EF_FINDING_DAMAGED,
                              .offset = offset,
                              .bytes = next - offset,
                              .first_seq = seq,
                              .last_seq = seq ? last : 0},
               "no whole record stands here");
    self->knows_chain = false;
    self->is_holed = true;
    return next;
}

static void
s_walk_records (scan_t *self) {
    uint64_t offset = EF_SEGMENT_START;
    bool is_behind_damage = self->epoch == 0;
    while (!self->is_ended) {
        uint64_t next = s_take (self, offset, is_behind_damage);
        is_behind_damage = false;
        if (next == 0) {
            next = s_judge (self, offset);
            is_behind_damage = true;
            if (next == 0) {
                break;
            }
        }
        offset = next;
    }
}

static bool
s_header_is_valid (const uint8_t *header, size_t size, uint32_t id) {
    return size >= EF_SEGMENT_HEADER && memcmp (header, EF_SEGMENT_MAGIC, 8) == 0 &&
           ef_le32 (header + 12) == ef_segment_header_checksum (header) &&
           ef_le64 (header + 16) == id;
}

/* The first seq that the header of a segment names; 0: can't be read. */
static uint64_t
s_peek_first_seq (scan_t *self, uint32_t id) {
    uint8_t header[EF_SEGMENT_HEADER];
    char name[24];
    ef_wal_segment_name (id, name);
    int file = self->storage->open (self->storage, name);
    if (file < 0) {
        return 0;
    }
    int64_t got = self->storage->read (self->storage, file, header, sizeof header, 0);
    self->storage->close (self->storage, file);
    return got == sizeof header && s_header_is_valid (header, sizeof header, id)
               ? ef_le64 (header + 40)
               : 0;
}

/* Nothing of a file can be used. */
static ef_finding_t
s_whole_file (const scan_t *self, ef_finding_kind_t kind) {
    return (ef_finding_t){.kind = kind,
                          .bytes = self->size,
                          .first_seq = self->next_seq,
                          .last_seq = self->next_of ? self->next_of - 1 : 0};
}

static void
s_pass_over (scan_t *self) {
    self->next_seq = self->next_of;
    self->knows_chain = false;
}

/* A header that can't be used. True: the records may be read all the same. */
static bool
s_judge_header (scan_t *self, const uint8_t *header, size_t size) {
    if (size >= EF_SEGMENT_HEADER &&
        s_header_is_valid (header, size, (uint32_t)ef_le64 (header + 16))) {
        scan_tell (self, s_whole_file (self, EF_FINDING_MISPLACED),
                   "by its header this is segment %llu", (unsigned long long)ef_le64 (header + 16));
        s_pass_over (self);
        return false; /* no checksum in it can be right under this name */
    }
    bool is_empty = scan_data_end (self, EF_SEGMENT_START) == EF_SEGMENT_START;
    if (self->is_last && is_empty) {
        scan_tell (self, (ef_finding_t){.kind = EF_FINDING_UNBORN, .bytes = self->size},
                   "a segment that was being made; it holds nothing that was confirmed");
        return false;
    }
    scan_tell (
        self,
        (ef_finding_t){.kind = EF_FINDING_HEADER,
                       .bytes = self->size < EF_SEGMENT_START ? self->size : EF_SEGMENT_HEADER},
        "its header is damaged");
    return true;
}

/* Holds a good header against what came before. False: the records aren't to be read. */
static bool
s_check_header (scan_t *self, const uint8_t *header, uint32_t before) {
    uint32_t version = ef_le16 (header + 8);
    uint64_t first = ef_le64 (header + 40);
    if (version > EF_RECORD_VERSION) {
        scan_tell (self, (ef_finding_t){.kind = EF_FINDING_NEWER, .bytes = self->size},
                   "format version %u; this program knows up to %d", version, EF_RECORD_VERSION);
        self->report->is_newer = self->is_ended = true;
        return false;
    }
    if (self->has_journal && memcmp (self->journal_id, header + 24, 16) != 0) {
        scan_tell (self, s_whole_file (self, EF_FINDING_MISPLACED),
                   "it belongs to another journal");
        s_pass_over (self);
        return false;
    }
    bool is_seq_told = before && before + 1 != self->id;
    if (!is_seq_told && self->next_seq && first != self->next_seq) {
        scan_tell (self,
                   (ef_finding_t){.kind = EF_FINDING_GAP,
                                  .first_seq = self->next_seq,
                                  .last_seq = first > self->next_seq ? first - 1 : 0},
                   "groups are missing before this segment");
    } else if (!is_seq_told && self->next_seq && self->knows_chain &&
               ef_le32 (header + 48) != self->chain) {
        scan_tell (self, (ef_finding_t){.kind = EF_FINDING_GAP},
                   "the chain of checksums breaks before this segment");
    }
    memcpy (self->journal_id, header + 24, 16);
    self->has_journal = true;
    self->next_seq = first;
    self->chain = ef_le32 (header + 48);
    self->knows_chain = true;
    self->epoch = ef_le32 (header + 52);
    return true;
}

static void
s_tell_missing (scan_t *self, uint32_t before, uint64_t first) {
    scan_tell (self,
               (ef_finding_t){.kind = EF_FINDING_MISSING,
                              .segment = before + 1,
                              .first_seq = self->next_seq,
                              .last_seq = first ? first - 1 : 0},
               "%u segments are missing, %u to %u", self->id - before - 1, before + 1,
               self->id - 1);
    self->next_seq = first;
    self->knows_chain = false;
}

/* Reads one segment. `before`: the id of the one before it, 0: none. */
static void
s_walk_segment (scan_t *self, size_t place, uint32_t before) {
    char name[24];
    self->id = self->ids[place];
    self->is_last = place + 1 == self->count;
    self->next_of = self->is_last ? 0 : s_peek_first_seq (self, self->ids[place + 1]);
    self->epoch = 0;
    self->told_end = 0;
    self->filled = 0;
    self->in_group = false;
    if (before && before + 1 != self->id) {
        s_tell_missing (self, before, s_peek_first_seq (self, self->id));
    }
    ef_wal_segment_name (self->id, name);
    self->file = self->storage->open (self->storage, name);
    int64_t size = self->file < 0 ? self->file : self->storage->size (self->storage, self->file);
    if (size < 0) {
        self->size = 0;
        scan_tell (self, s_whole_file (self, EF_FINDING_UNREADABLE), "it can't be opened: %s",
                   strerror ((int)-size));
        s_pass_over (self);
    } else {
        self->size = (uint64_t)size;
        self->report->bytes += self->size;
        size_t have;
        const uint8_t *header = scan_bytes (self, 0, EF_SEGMENT_HEADER, &have);
        bool is_good = self->size >= EF_SEGMENT_START && s_header_is_valid (header, have, self->id)
                           ? s_check_header (self, header, before)
                           : s_judge_header (self, header, have);
        if (is_good) {
            s_walk_records (self);
        }
        self->done += self->size;
    }
    if (self->file >= 0) {
        self->storage->close (self->storage, self->file);
    }
    self->report->segments++;
}

typedef struct {
    scan_t *scan;
    uint32_t from;
} listing_t;

static void
s_note_name (void *arg, const char *name) {
    listing_t *listing = arg;
    scan_t *self = listing->scan;
    uint32_t id;
    if (ef_scan_is_segment (name, &id) && id >= listing->from) {
        self->ids = realloc (self->ids, (self->count + 1) * sizeof *self->ids);
        ef_assert (self->ids != NULL);
        self->ids[self->count++] = id;
    }
}

static int
s_by_id (const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void
s_sum_sizes (scan_t *self) {
    for (size_t i = 0; i < self->count; i++) {
        char name[24];
        ef_wal_segment_name (self->ids[i], name);
        int file = self->storage->open (self->storage, name);
        int64_t size = file < 0 ? 0 : self->storage->size (self->storage, file);
        self->total += size > 0 ? (uint64_t)size : 0;
        if (file >= 0) {
            self->storage->close (self->storage, file);
        }
    }
}

/* A newest segment that is gone leaves no trace but this. */
static void
s_check_hint (scan_t *self) {
    if (!self->is_ended && !self->is_end_told && self->next_seq &&
        self->hinted_seq >= self->next_seq) {
        scan_tell (self,
                   (ef_finding_t){.kind = EF_FINDING_GAP,
                                  .first_seq = self->next_seq,
                                  .last_seq = self->hinted_seq},
                   "groups that were synced are missing behind the newest segment");
    }
}

int
ef_scan (ef_storage_t *storage, const ef_scan_t *user, ef_scan_report_t *report) {
    scan_t self = {.storage = storage, .user = user, .report = report, .file = -1};
    listing_t listing = {&self, user->from_segment};
    memset (report, 0, sizeof *report);
    uint8_t hinted_id[16];
    self.hinted_seq = ef_wal_read_hint (storage, hinted_id);
    int rc = storage->list (storage, s_note_name, &listing);
    if (rc == 0 && self.count > 0) {
        qsort (self.ids, self.count, sizeof *self.ids, s_by_id);
        if (user->progress) {
            s_sum_sizes (&self);
        }
        for (size_t i = 0; i < self.count && !self.is_ended; i++) {
            s_walk_segment (&self, i, i > 0 ? self.ids[i - 1] : 0);
        }
        s_check_hint (&self);
        if (user->progress) {
            user->progress (user->arg, self.done, self.total);
        }
    }
    free (self.window);
    free (self.ids);
    return rc;
}
