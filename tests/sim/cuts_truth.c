/* The truth about a journal, and how what is handed out is held against it.
   SPDX-License-Identifier: MIT */
#include "cuts.h"

#include "../../broker/journal/wal_private.h"

#include <stdlib.h>

#define PAGE_BYTES 65536
#define HEAD       16 /* serial 8, index 4, records 4 */

static uint64_t
s_mix (uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* Bytes to take payloads from. */
static const uint8_t *
s_page (void) {
    static uint64_t page[PAGE_BYTES / 8];
    for (uint64_t i = PAGE_BYTES / 8; page[0] == 0 && i-- > 0;) {
        page[i] = s_mix (i + 77);
    }
    return (const uint8_t *)page;
}

/* Most are short, one in eight takes several sectors. */
static void
s_shape (const cut_group_t *group, uint32_t index, uint32_t *bytes, uint32_t *from) {
    uint64_t dice = s_mix (group->serial * 64 + index);
    *bytes = (dice & 7) == 0 ? 500 + (uint32_t)(dice >> 8 & 2047) : (uint32_t)(dice >> 8 & 255);
    *bytes += group->large;
    *from = (uint32_t)(dice >> 32) % (PAGE_BYTES - *bytes);
}

void
cuts_put_record (ef_buf_t *buf, uint8_t type, const cut_group_t *group, uint32_t index) {
    uint32_t bytes;
    uint32_t from;
    s_shape (group, index, &bytes, &from);
    size_t mark = ef_record_begin (buf, type, 0, HEAD);
    uint8_t *head = buf->data + mark + EF_RECORD_HEAD;
    ef_le64_put (head, group->serial);
    ef_le32_put (head + 8, index);
    ef_le32_put (head + 12, group->records);
    ef_buf_put (buf, s_page () + from, bytes);
    ef_record_end (buf, mark);
}

bool
cuts_is_true (const ef_record_t *record, const cut_group_t *group, uint32_t index) {
    uint32_t bytes;
    uint32_t from;
    s_shape (group, index, &bytes, &from);
    return record->body_bytes == HEAD + bytes && ef_le64 (record->body) == group->serial &&
           ef_le32 (record->body + 8) == index && ef_le32 (record->body + 12) == group->records &&
           memcmp (record->body + HEAD, s_page () + from, bytes) == 0;
}

void
cuts_note (truth_t *self, const cut_group_t *group, bool is_sure) {
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 256;
        self->groups = realloc (self->groups, self->capacity * sizeof *self->groups);
        ef_assert (self->groups != NULL);
    }
    ef_assert (!self->has_unsure);
    self->groups[self->count++] = *group;
    self->has_unsure = !is_sure;
    self->next_seq++;
    self->oldest = self->oldest ? self->oldest : group->segment;
}

void
cuts_copy_truth (truth_t *to, const truth_t *from) {
    cut_group_t *groups = to->groups;
    uint32_t capacity = to->capacity;
    if (capacity < from->capacity) {
        capacity = from->capacity;
        groups = realloc (groups, capacity * sizeof *groups);
        ef_assert (groups != NULL);
    }
    *to = *from;
    to->groups = groups;
    to->capacity = capacity;
    if (from->count > 0) {
        memcpy (groups, from->groups, from->count * sizeof *groups);
    }
}

/* Where the reading may begin. */
static bool
s_begin (reading_t *self, uint64_t serial) {
    const truth_t *truth = self->truth;
    while (self->group < truth->count && truth->groups[self->group].segment < self->from_segment) {
        self->group++;
    }
    if (self->group < truth->count && truth->groups[self->group].serial == serial) {
        return true;
    }
    while (self->group < truth->count && truth->unsure_drop &&
           truth->groups[self->group].segment <= truth->unsure_drop) {
        self->group++;
    }
    return self->group < truth->count && truth->groups[self->group].serial == serial;
}

int
cuts_each (void *arg, const ef_record_t *record) {
    reading_t *self = arg;
    if (self->wrong) {
        return 0;
    }
    if (record->body_bytes < HEAD || record->type != CUTS_RECORD) {
        self->wrong = "a record that was never written";
        return 0;
    }
    if (self->records == 0 && !s_begin (self, ef_le64 (record->body))) {
        self->wrong = "the first record isn't the one that it should be";
        return 0;
    }
    self->records++;
    if (self->group >= self->truth->count) {
        self->wrong = "more records than were written";
        return 0;
    }
    const cut_group_t *group = &self->truth->groups[self->group];
    if (!cuts_is_true (record, group, self->index) || record->segment != group->segment ||
        record->epoch != group->epoch) {
        self->wrong = "a record with other bytes, or in another order";
        return 0;
    }
    if (++self->index == group->records) {
        self->index = 0;
        self->group++;
    }
    return 0;
}

static void
s_forget_dropped (truth_t *self, uint32_t oldest) {
    uint32_t gone = 0;
    while (gone < self->count && self->groups[gone].segment < oldest) {
        gone++;
    }
    self->count -= gone;
    if (gone > 0) {
        memmove (self->groups, self->groups + gone, self->count * sizeof *self->groups);
    }
    self->oldest = oldest;
    self->unsure_drop = 0;
}

void
cuts_settle (truth_t *self, const reading_t *reading, const ef_wal_t *wal) {
    uint32_t at = reading->group;
    uint32_t sure = self->count - self->has_unsure;
    if (reading->wrong) {
        cuts_fail ("%s, behind %llu records", reading->wrong, (unsigned long long)reading->records);
    }
    if (reading->index != 0) {
        cuts_fail ("a part of group %u came back", at);
    }
    if (reading->records == 0) { /* nothing came: nothing may be missing but what is gone */
        while (at < sure && (self->groups[at].segment < reading->from_segment ||
                             self->groups[at].segment <= self->unsure_drop)) {
            at++;
        }
    }
    if (at < sure) {
        cuts_fail ("%u groups that were confirmed are missing", sure - at);
    }
    if (self->has_unsure && at < self->count) {
        self->count--;
        self->next_seq--;
    }
    self->has_unsure = false;
    if (wal->next_seq != self->next_seq) {
        cuts_fail ("the next group is %llu, expected %llu", (unsigned long long)wal->next_seq,
                   (unsigned long long)self->next_seq);
    }
    if (self->count > 0 && wal->epoch <= self->groups[self->count - 1].epoch) {
        cuts_fail ("epoch %u isn't above that of the last group, %u", wal->epoch,
                   self->groups[self->count - 1].epoch);
    }
    if (self->oldest && wal->oldest != self->oldest &&
        (self->unsure_drop == 0 || wal->oldest != self->unsure_drop + 1)) {
        cuts_fail ("the oldest segment is %u, expected %u", wal->oldest, self->oldest);
    }
    if (wal->oldest) {
        s_forget_dropped (self, wal->oldest);
    }
}

typedef struct {
    cut_group_t as_group;
    uint32_t index;
    bool is_wrong;
} notes_t;

static int
s_note (void *arg, const ef_record_t *record) {
    notes_t *notes = arg;
    notes->is_wrong = notes->is_wrong || record->type != CUTS_NOTE ||
                      !cuts_is_true (record, &notes->as_group, notes->index);
    notes->index++;
    return 0;
}

bool
cuts_check_checkpoint (const truth_t *self, ef_storage_t *storage, const ef_checkpoint_info_t *info,
                       bool must_be_newest) {
    for (uint32_t i = 0; i < self->checkpoint_count; i++) {
        const cut_checkpoint_t *checkpoint = &self->checkpoints[i];
        if (must_be_newest && checkpoint->is_ended && checkpoint->segment > info->segment) {
            cuts_fail ("the checkpoint of segment %u is gone, that of %u is found",
                       checkpoint->segment, info->segment);
        }
    }
    for (uint32_t i = 0; i < self->checkpoint_count; i++) {
        const cut_checkpoint_t *checkpoint = &self->checkpoints[i];
        notes_t notes = {.as_group = {.serial = checkpoint->serial, .records = 0}};
        if (checkpoint->segment == info->segment &&
            ef_checkpoint_read (storage, info, s_note, &notes) == 0 && !notes.is_wrong &&
            notes.index == checkpoint->records) {
            return true;
        }
    }
    return false;
}
