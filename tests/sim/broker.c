/* The broker's side of the simulated world. SPDX-License-Identifier: MIT */
#include "world.h"
#include "../../broker/journal/reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Start and crash. */

static int
s_restore (void *arg, const ef_record_t *record) {
    return ef_core_restore (arg, record);
}

static int
s_replay (void *arg, const ef_record_t *record) {
    return ef_core_replay (arg, record);
}

static void
s_open_dead (world_t *self, const ef_wal_options_t *options) {
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        char name[64];
        ef_wal_report_t report = {.error = 0};
        snprintf (name, sizeof name, "dead/%s", sim_topics[i]);
        self->dead[i] = ef_dead_log_new (sim_disk_open (self->disk, name), options, &report);
        if (self->dead[i] == NULL && sim_disk_has_failed (self->disk)) {
            return;
        }
        if (self->dead[i] == NULL) {
            sim_fail (self, "dead letters of %s: %s", sim_topics[i], report.text);
        }
        self->dead_told[i] = ef_dead_log_highest (self->dead[i]);
    }
}

/* A core that knows what the log says, from a checkpoint on or from the beginning. NULL: the
   checkpoint doesn't fit. */
static ef_core_t *
s_recover (world_t *self, ef_wal_options_t *options, const ef_checkpoint_info_t *info,
           ef_wal_report_t *report) {
    ef_effects_t effects = sim_effects (self);
    ef_core_t *core = ef_core_new (&self->config, &effects);
    settings_apply (self, core);
    ef_core_clock (core, self->now, self->wall);
    options->from_segment = info ? info->segment : 0;
    options->from_seq = info ? info->first_seq : 0;
    options->from_chain = info ? info->chain : 0;
    if (info && ef_checkpoint_read (self->storage, info, s_restore, core)) {
        sim_fail (self, "a whole checkpoint of segment %u makes no sense", info->segment);
    }
    self->wal = ef_wal_open (self->storage, options, s_replay, core, report);
    if (self->wal == NULL && sim_disk_has_failed (self->disk)) {
        ef_core_destroy (&core);
        return NULL;
    }
    if (self->wal == NULL) {
        if (info == NULL || report->error != ESTALE) {
            sim_fail (self, "the journal doesn't open: %s", report->text);
        }
        ef_core_destroy (&core);
        return NULL;
    }
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        ef_core_replay_dead (core, sim_topics[i], self->dead_told[i]);
    }
    return core;
}

/* Recovers from the log alone, and where there is a checkpoint from that too: they must agree. */
static void
s_open_log (world_t *self, ef_wal_options_t *options, ef_wal_report_t *report) {
    ef_checkpoint_info_t info;
    self->core = s_recover (self, options, NULL, report);
    if (self->core == NULL || !ef_checkpoint_find (self->storage, 0, &info)) {
        return;
    }
    ef_wal_t *wal = self->wal;
    ef_core_t *core = s_recover (self, options, &info, report);
    if (core == NULL) {
        self->wal = wal;
        return;
    }
    self->checkpoints_used++;
    if (ef_core_digest (core, self->was_set_back) !=
        ef_core_digest (self->core, self->was_set_back)) {
        sim_fail (self,
                  "recovery from the checkpoint of segment %u says something else than the log",
                  info.segment);
    }
    /* Which of the two goes on is left to chance. */
    bool takes_log = sim_one_in (&self->random, 2);
    ef_wal_destroy (takes_log ? &self->wal : &wal);
    ef_core_destroy (takes_log ? &core : &self->core);
    self->wal = takes_log ? wal : self->wal;
    self->core = takes_log ? self->core : core;
}

/* Starts it. False: the disk failed on the way; what there is of it is to be stopped. */
bool
broker_start (world_t *self) {
    ef_wal_options_t options = {.segment_bytes =
                                    self->config.segment_bytes + self->config.segment_slack,
                                .wall_ms = self->wall,
                                .spares = &self->spares};
    ef_wal_options_t dead = options;
    dead.segment_bytes = 8192;
    options.random[0] = dead.random[0] = sim_random (&self->random);
    options.random[1] = dead.random[1] = sim_random (&self->random);
    ef_wal_report_t report;
    self->life++;
    self->storage = sim_disk_open (self->disk, "journal");
    if (ef_spares_init (&self->spares, self->storage, options.segment_bytes)) {
        return false;
    }
    s_open_dead (self, &dead);
    if (sim_disk_has_failed (self->disk)) {
        return false;
    }
    s_open_log (self, &options, &report);
    if (self->core == NULL || sim_disk_has_failed (self->disk)) {
        return false;
    }
    if (ef_wal_epoch (self->wal) <= self->epoch) {
        sim_fail (self, "epoch %u after epoch %u", ef_wal_epoch (self->wal), self->epoch);
    }
    ef_core_log_t log = {.epoch = ef_wal_epoch (self->wal),
                         .oldest_segment = ef_wal_oldest (self->wal),
                         .replayed_bytes = report.bytes};
    log.sizes = ef_wal_sizes (self->wal, &log.size_count);
    self->is_tight = false;
    while (ef_spares_count (&self->spares) < self->config.spares && !self->is_tight) {
        self->is_tight = ef_spares_make (&self->spares) != 0;
    }
    ef_core_start (self->core, &log);
    sim_trace (self, "broker starts, epoch %u, %llu records, %llu bytes torn",
               ef_wal_epoch (self->wal), (unsigned long long)report.records,
               (unsigned long long)report.torn_bytes);
    ef_core_check (self->core);
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        self->offered_b[i] = 0;
        sim_offer_new (self, i);
    }
    return true;
}

void
broker_stop (world_t *self) {
    ledger_crashed (self);
    operator_crashed (self);
    for (uint32_t i = 0; i < SIM_PEERS; i++) {
        if (self->wires[i].kind != KIND_NONE) {
            self->wires[i].is_forgotten = true;
            wire_cut (self, i);
        }
    }
    for (uint32_t i = 0; i < self->ring_count; i++) {
        ef_buf_free (&self->ring[i]->buf);
        free (self->ring[i]);
    }
    for (uint32_t i = 0; i < self->written_count; i++) {
        ef_buf_free (&self->written[i].batch->buf);
        free (self->written[i].batch);
    }
    self->ring_count = self->written_count = self->wanted_count = self->drop_count = 0;
    self->returned_count = 0;
    self->submitted_lsn = self->durable_lsn = self->gathered_lsn = 0;
    self->has_gathered = false;
    if (self->part) {
        ef_buf_free (&self->part->buf);
        free (self->part);
        self->part = NULL;
    }
    ef_checkpoint_drop (&self->checkpoint);
    ef_spares_free (&self->spares);
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        ef_dead_log_destroy (&self->dead[i]);
    }
    if (self->wal) { /* its epoch may have been written, or not: the next one isn't below it */
        self->epoch = self->wal && self->has_written ? ef_wal_epoch (self->wal) : self->epoch;
    }
    self->has_written = self->is_refused = false;
    ef_retry_heap_free (&self->waits);
    ef_core_destroy (&self->core);
    ef_wal_destroy (&self->wal);
    if (self->storage) {
        self->storage->destroy (&self->storage);
    }
}

/* The journal's thread: takes what there is, a few or many at a time. */
static void
s_journal_step (world_t *self) {
    if (self->ring_count == 0 || self->written_count > 128 || sim_one_in (&self->random, 2)) {
        return;
    }
    uint32_t count = 1;
    while (count < self->ring_count && count < EF_WAL_GROUP_MAX && !self->ring[count]->roll &&
           !sim_one_in (&self->random, 4)) {
        count++;
    }
    int rc = ef_wal_append (self->wal, self->ring, (int)count);
    if (ef_storage_is_full (rc) && !sim_disk_has_failed (self->disk) && !self->has_written) {
        self->is_refused = true; /* a start with a full disk: it says so and ends */
        return;
    }
    if (ef_storage_is_full (rc) && !sim_disk_has_failed (self->disk)) {
        size_t bytes = 0;
        for (uint32_t i = 0; i < count; i++) {
            bytes += self->ring[i]->buf.size;
        }
        sim_trace (self, "%u batches of %zu bytes, roll %d, spares %u", count, bytes,
                   self->ring[0]->roll, ef_spares_count (&self->spares));
        sim_fail (self, "the journal has no room although room was kept: space %s, room %llu",
                  ef_space_name (ef_core_space_state (self->core)),
                  (unsigned long long)ef_core_room (self->core));
    }
    if (rc) {
        ef_assert (sim_disk_has_failed (self->disk));
        return;
    }
    self->has_written = true;
    uint64_t at = self->now + sim_below (&self->random, 10);
    for (uint32_t i = 0; i < count; i++) {
        if (self->written_count && self->written[self->written_count - 1].at_ms > at) {
            at = self->written[self->written_count - 1].at_ms;
        }
        self->written[self->written_count++] = (written_t){at, self->ring[i]};
    }
    self->ring_count -= count;
    memmove (self->ring, self->ring + count, self->ring_count * sizeof self->ring[0]);
    while (self->drop_count > 0 && !sim_disk_has_failed (self->disk)) {
        self->drop_count--;
        int dropped = ef_wal_drop_oldest (self->wal);
        ef_assert (dropped == 0 || sim_disk_has_failed (self->disk));
    }
}

static void
s_tell_durable (world_t *self) {
    while (self->written_count > 0 && self->written[0].at_ms <= self->now) {
        ef_batch_t *batch = self->written[0].batch;
        self->durable_lsn = batch->lsn;
        self->written_count--;
        memmove (self->written, self->written + 1, self->written_count * sizeof self->written[0]);
        ef_core_durable (self->core, batch);
    }
}

static void
s_reader_step (world_t *self) {
    for (uint32_t i = 0; i < self->wanted_count;) {
        wanted_t wanted = self->wanted[i];
        if (wanted.at_ms > self->now) {
            i++;
            continue;
        }
        self->wanted[i] = self->wanted[--self->wanted_count];
        size_t size = 0;
        int error = 0;
        uint8_t *bytes = ef_read_stretch (
            self->storage, wanted.segment, wanted.offset,
            self->config.extent_span + (256u << sim_below (&self->random, 5)), &size, &error);
        if (bytes == NULL && error != -ENOENT) {
            sim_fail (self, "segment %u offset %u can't be read back", wanted.segment,
                      wanted.offset);
        }
        ef_stretch_t stretch = {bytes, size, size, wanted.segment, wanted.offset, 0};
        ef_core_fetched (self->core, wanted.segment, wanted.offset, stretch);
    }
}

/* The thread that does what can wait: spare segments, checkpoints, hints. */
static void
s_upkeep_step (world_t *self) {
    if (sim_disk_has_failed (self->disk) || sim_one_in (&self->random, 2)) {
        return;
    }
    if (ef_spares_count (&self->spares) < self->config.spares && sim_one_in (&self->random, 2)) {
        int rc = ef_spares_make (&self->spares);
        ef_assert (rc == 0 || ef_storage_is_full (rc) || sim_disk_has_failed (self->disk));
        self->is_tight = rc != 0;
    } else if (ef_spares_count (&self->spares) == self->config.spares) {
        self->is_tight = false;
        int rc = sim_one_in (&self->random, 8) ? ef_spares_zero (&self->spares) : 0;
        ef_assert (rc == 0 || sim_disk_has_failed (self->disk));
    }
    if (sim_one_in (&self->random, 20) && self->ring_count == 0) {
        int rc = ef_wal_hint (self->wal);
        ef_assert (rc == 0 || sim_disk_has_failed (self->disk));
    }
    ef_checkpoint_part_t *part = self->part;
    if (part) {
        self->part = NULL;
        ef_checkpoint_take (&self->checkpoint, self->storage, part);
        ef_core_checkpointed (self->core, part->segment, part->is_last, part->rc);
        ef_buf_free (&part->buf);
        free (part);
    }
}

static void
s_dead_letter_step (world_t *self) {
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        if (sim_one_in (&self->random, 3)) {
            continue;
        }
        while (self->returned_count > 0 && !sim_disk_has_failed (self->disk)) {
            self->returned_count--;
            ef_dead_log_left (self->dead[self->returned[self->returned_count].topic],
                              self->returned[self->returned_count].b);
        }
        int rc = ef_dead_log_commit (self->dead[i]);
        if (ef_storage_is_full (rc) && !sim_disk_has_failed (self->disk)) {
            continue; /* it waits for space */
        }
        if (rc) {
            ef_assert (sim_disk_has_failed (self->disk));
            return;
        }
        sim_offer_new (self, i);
        if (ef_dead_log_highest (self->dead[i]) > self->dead_told[i]) {
            self->dead_told[i] = ef_dead_log_highest (self->dead[i]);
            ef_core_dead_durable (self->core, sim_topics[i], self->dead_told[i]);
        }
    }
}

static void
s_deliver (world_t *self) {
    uint32_t start = sim_below (&self->random, SIM_PEERS);
    for (uint32_t k = 0; k < SIM_PEERS; k++) {
        uint32_t peer = (start + k) % SIM_PEERS;
        wire_t *wire = &self->wires[peer];
        /* A peer that the core has forgotten and that goes on talking is a new one to it. */
        wire->is_forgotten = wire->is_forgotten && (wire->is_cut || wire->to_core == NULL);
        if (wire->kind == KIND_PUBLISHER && ef_core_is_behind (self->core)) {
            continue; /* publishers aren't read then */
        }
        while (wire->to_core && wire->to_core->at_ms <= self->now && !wire->is_forgotten) {
            message_t *message = wire->to_core;
            wire->to_core = message->next;
            wire->to_core_last = wire->to_core ? wire->to_core_last : NULL;
            ef_frame_t frames[2] = {{message->header.data, message->header.size},
                                    {message->body.data, message->body.size}};
            uint32_t count = message->body.size ? 2 : 1;
            bool was_known = wire->is_known;
            wire->is_known = true;
            sim_trace_message (self, "->", peer, &message->header);
            if (wire->kind == KIND_PUBLISHER) {
                ledger_handed_publish (self, wire->owner, &message->header);
                ef_core_front (self->core, peer, false, frames, count);
            } else {
                ledger_handed_answer (self, peer, &message->header);
                if (!was_known || self->now - wire->heard_ms <= SIM_ALIVE_MS) {
                    wire->heard_ms = self->now; /* else it may be given up already */
                }
                ef_core_back (self->core, peer, frames, count);
            }
            message_free (&message);
        }
    }
}

void
broker_step (world_t *self) {
    ef_wait_t wait;
    uint64_t gap = self->now - self->turn_ms;
    self->away_ms += gap > 45 ? gap : 0;
    self->turn_ms = self->now;
    ef_core_clock (self->core, self->now, self->wall);
    ef_core_space (self->core, ef_spares_count (&self->spares), self->is_tight);
    s_deliver (self);
    s_tell_durable (self);
    s_reader_step (self);
    while (ef_retry_heap_pop (&self->waits, self->now, &wait)) {
        ef_core_due (self->core, wait.topic, wait.n, wait.generation);
    }
    ef_core_tick (self->core);
    ef_core_turn (self->core);
    self->gathered_lsn = self->has_gathered ? self->submitted_lsn : self->gathered_lsn;
    self->has_gathered = false;
    s_journal_step (self);
    s_dead_letter_step (self);
    s_upkeep_step (self);
}

bool
broker_is_settled (world_t *self) {
    uint64_t open = 0;
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        for (unsigned state = EF_STATE_READY; state <= EF_STATE_PARKED; state++) {
            open += ef_core_count (self->core, i, (ef_state_t)state);
        }
        open += self->dead_told[i] < ef_dead_log_highest (self->dead[i]);
        open += ef_dead_log_leaving_count (self->dead[i]);
    }
    return open == 0 && self->ring_count == 0 && self->written_count == 0;
}
