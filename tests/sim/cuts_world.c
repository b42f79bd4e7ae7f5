/* A journal on a simulated disk and what is done to it. SPDX-License-Identifier: MIT */
#include "cuts.h"

#include "../../broker/journal/wal_private.h"

#include <errno.h>
#include <stdlib.h>

#define BIG_BYTES 5000

void
cuts_world_init (world_t *self, uint64_t seed) {
    memset (self, 0, sizeof *self);
    self->seed = seed;
    self->random.state = seed * 0x9e3779b97f4a7c15u + 1;
    self->chance.state = seed * 0xd1342543de82ef95u + 3;
    for (unsigned i = 0; i < 8; i++) {
        (void)sim_random (&self->random); /* small seeds begin alike */
        (void)sim_random (&self->chance);
    }
    self->disk = sim_disk_new (&self->chance);
    self->storage = sim_disk_open (self->disk, "journal");
    self->writer.file = -1;
    self->truth.next_seq = 1;
    self->segment_bytes = 16384u << sim_below (&self->random, 3);
    self->dead.letters = calloc (CUTS_LETTERS, sizeof *self->dead.letters);
    ef_assert (self->dead.letters != NULL);
}

void
cuts_close (world_t *self) {
    ef_wal_destroy (&self->wal);
    ef_spares_free (&self->spares);
    ef_dead_log_destroy (&self->dead.log);
    self->writer = (ef_checkpoint_writer_t){.file = -1}; /* its file stays, as after a kill */
    self->under_way.segment = 0;
}

void
cuts_world_free (world_t *self) {
    cuts_close (self);
    self->storage->destroy (&self->storage);
    sim_disk_destroy (&self->disk);
    ef_buf_free (&self->buf);
    free (self->truth.groups);
    free (self->dead.letters);
}

static int
s_append (world_t *self, uint32_t records, uint32_t large, bool roll) {
    truth_t *truth = &self->truth;
    cut_group_t group = {.serial = ++truth->serials,
                         .records = records,
                         .epoch = ef_wal_epoch (self->wal),
                         .large = large};
    ef_batch_t batches[2] = {{.buf = self->buf, .roll = roll}, {.lsn = 1}};
    ef_batch_t *list[2] = {&batches[0], &batches[1]};
    ef_buf_clear (&batches[0].buf);
    uint32_t split = records > 2 ? records / 2 : records; /* larger groups are of two batches */
    for (uint32_t i = 0; i < records; i++) {
        cuts_put_record (&batches[i >= split].buf, CUTS_RECORD, &group, i);
    }
    int rc = ef_wal_append (self->wal, list, split < records ? 2 : 1);
    group.segment = ef_wal_newest (self->wal);
    self->buf = batches[0].buf;
    ef_buf_free (&batches[1].buf);
    if (rc == 0 && self->has_ended) {
        cuts_fail ("a group was confirmed behind an error");
    }
    bool is_undone = ef_storage_is_full (rc) && self->wal->error == 0;
    if (rc == 0 || (!is_undone && !self->has_ended)) {
        cuts_note (truth, &group, rc == 0);
    }
    self->has_ended = self->has_ended || (rc && !is_undone);
    return rc;
}

static const cut_checkpoint_t *
s_newest_checkpoint (const truth_t *truth) {
    const cut_checkpoint_t *newest = NULL;
    for (uint32_t i = 0; i < truth->checkpoint_count; i++) {
        const cut_checkpoint_t *checkpoint = &truth->checkpoints[i];
        if (checkpoint->is_ended && (newest == NULL || checkpoint->segment >= newest->segment)) {
            newest = checkpoint;
        }
    }
    return newest;
}

/* The oldest goes where a checkpoint covers it, or where there is none at all. */
static int
s_drop (world_t *self) {
    truth_t *truth = &self->truth;
    const cut_checkpoint_t *newest = s_newest_checkpoint (truth);
    uint32_t oldest = ef_wal_oldest (self->wal);
    bool is_covered = newest ? oldest < newest->segment : truth->checkpoint_count == 0;
    if (oldest >= ef_wal_newest (self->wal) || !is_covered || self->drop_has_failed ||
        self->under_way.segment == oldest) {
        return 0;
    }
    int rc = ef_wal_drop_oldest (self->wal);
    if (rc) {
        truth->unsure_drop = oldest;
        self->drop_has_failed = true;
        return rc;
    }
    uint32_t gone = 0;
    while (gone < truth->count && truth->groups[gone].segment <= oldest) {
        gone++;
    }
    truth->count -= gone;
    memmove (truth->groups, truth->groups + gone, truth->count * sizeof *truth->groups);
    truth->oldest = oldest + 1;
    return 0;
}

static int
s_checkpoint_failed (world_t *self, int rc) {
    ef_checkpoint_drop (&self->writer);
    self->under_way.segment = 0;
    return rc;
}

static int
s_checkpoint_begin (world_t *self) {
    uint32_t segment = ef_wal_newest (self->wal);
    if (segment == 0) {
        return 0;
    }
    int rc = ef_checkpoint_begin (&self->writer, self->storage, segment);
    self->under_way = (cut_checkpoint_t){.segment = segment, .serial = ++self->truth.serials};
    return rc ? s_checkpoint_failed (self, rc) : 0;
}

/* How many notes a checkpoint has is known when it ends, so none of them tells. */
static int
s_checkpoint_add (world_t *self, uint32_t notes) {
    if (self->under_way.segment == 0) {
        return 0;
    }
    ef_buf_t *buf = &self->buf;
    cut_group_t as_group = {.serial = self->under_way.serial, .records = 0};
    ef_buf_clear (buf);
    for (uint32_t i = 0; i < notes; i++) {
        cuts_put_record (buf, CUTS_NOTE, &as_group, self->under_way.records++);
    }
    int rc = ef_checkpoint_add (&self->writer, buf);
    return rc ? s_checkpoint_failed (self, rc) : 0;
}

static int
s_checkpoint_end (world_t *self) {
    truth_t *truth = &self->truth;
    if (self->under_way.segment == 0) {
        return 0;
    }
    if (truth->checkpoint_count == CUTS_CHECKPOINTS) {
        uint32_t at = 0; /* the oldest that wasn't confirmed goes, or the oldest */
        while (at + 1 < CUTS_CHECKPOINTS && truth->checkpoints[at].is_ended) {
            at++;
        }
        at = truth->checkpoints[at].is_ended ? 0 : at;
        truth->checkpoint_count--;
        memmove (truth->checkpoints + at, truth->checkpoints + at + 1,
                 (truth->checkpoint_count - at) * sizeof truth->checkpoints[0]);
    }
    int rc = ef_checkpoint_end (&self->writer);
    self->under_way.is_ended = rc == 0;
    for (uint32_t i = 0; rc == 0 && i < truth->checkpoint_count; i++) {
        if (truth->checkpoints[i].segment == self->under_way.segment) {
            truth->checkpoints[i] = truth->checkpoints[--truth->checkpoint_count];
            i--;
        }
    }
    truth->checkpoints[truth->checkpoint_count++] = self->under_way;
    if (rc) {
        return s_checkpoint_failed (self, rc);
    }
    self->under_way.segment = 0;
    return 0;
}

int
cuts_do (world_t *self, cut_kind_t kind) {
    sim_random_t *random = &self->random;
    int rc;
    switch (kind) {
    case CUT_APPEND:
    case CUT_ROLL:
        return s_append (self, 1 + sim_below (random, sim_one_in (random, 4) ? 12 : 3), 0,
                         kind == CUT_ROLL);
    case CUT_BIG: return s_append (self, 1, BIG_BYTES, false);
    case CUT_SPARE:
        if (!self->has_spares) {
            return 0;
        }
        return ef_spares_count (&self->spares) < EF_SPARES_WANTED && sim_one_in (random, 2)
                   ? ef_spares_make (&self->spares)
                   : ef_spares_zero (&self->spares);
    case CUT_HINT: return ef_wal_hint (self->wal);
    case CUT_CHECKPOINT_BEGIN: return s_checkpoint_begin (self);
    case CUT_CHECKPOINT_ADD: return s_checkpoint_add (self, 1 + sim_below (random, 8));
    case CUT_CHECKPOINT_END: return s_checkpoint_end (self);
    case CUT_CHECKPOINT:
        rc = s_checkpoint_begin (self);
        rc = rc ? rc : s_checkpoint_add (self, 2);
        return rc ? rc : s_checkpoint_end (self);
    case CUT_DROP: return s_drop (self);
    case CUT_DEAD_ADD:
    case CUT_DEAD_LEAVE:
    case CUT_DEAD_LEFT:
    case CUT_DEAD_COMMIT: return self->has_dead ? cuts_dead_do (self, kind) : 0;
    case CUT_KIND_COUNT:
    default: return 0;
    }
}

bool
cuts_recover (world_t *self, bool uses_checkpoint, cuts_totals_t *totals) {
    ef_wal_options_t options = {
        .segment_bytes = self->segment_bytes, .wall_ms = 1700000000000, .random = {self->seed, 7}};
    ef_wal_report_t report;
    ef_checkpoint_info_t info = {.segment = 0};
    reading_t reading = {.truth = &self->truth};
    uint32_t faults = sim_disk_faults (self->disk);
    if (self->has_spares) {
        options.spares = &self->spares;
        if (ef_spares_init (&self->spares, self->storage, self->segment_bytes)) {
            cuts_close (self);
            return false;
        }
    }
    bool is_found = ef_checkpoint_find (self->storage, 0, &info);
    bool has_struck = sim_disk_has_failed (self->disk) || sim_disk_faults (self->disk) > faults;
    if (is_found && !cuts_check_checkpoint (&self->truth, self->storage, &info, !has_struck) &&
        sim_disk_faults (self->disk) == faults) {
        cuts_fail ("a checkpoint of segment %u is found that was never completed", info.segment);
    }
    if (!is_found && !has_struck && s_newest_checkpoint (&self->truth)) {
        cuts_fail ("no checkpoint is found, though one was completed");
    }
    if (is_found && uses_checkpoint) {
        reading.from_segment = options.from_segment = info.segment;
        options.from_seq = info.first_seq;
        options.from_chain = info.chain;
        totals->checkpoints++;
    }
    self->wal = ef_wal_open (self->storage, &options, cuts_each, &reading, &report);
    has_struck = sim_disk_has_failed (self->disk) || sim_disk_faults (self->disk) > faults;
    if (self->wal == NULL) {
        if (!has_struck || (report.error != EIO && report.error != ENOSPC)) {
            cuts_fail ("false alarm: error %d, %s", report.error, report.text);
        }
        cuts_close (self);
        return false;
    }
    if (self->has_dead && !cuts_dead_recover (self)) {
        cuts_settle (&self->truth, &reading, self->wal);
        cuts_close (self);
        return false;
    }
    cuts_settle (&self->truth, &reading, self->wal);
    self->has_ended = self->drop_has_failed = false;
    return true;
}
