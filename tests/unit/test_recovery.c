/* What recovery decides, and what makes it quick: verdicts, hints, spares, checkpoints, the check
   of old segments. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../broker/journal/checkpoint.h"
#include "../../broker/journal/segment.h"
#include "../../broker/journal/upkeep.h"
#include "../../broker/journal/wal.h"
#include "../sim/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    sim_random_t random;
    sim_disk_t *disk;
    ef_storage_t *storage;
    ef_spares_t spares;
    ef_wal_t *wal;
    ef_wal_report_t report;
    uint64_t sum; /* of the values that came back */
    unsigned count;
} log_t;

static int
s_each (void *arg, const ef_record_t *record) {
    log_t *self = arg;
    self->count++;
    self->sum += ef_le64 (record->body);
    return 0;
}

static void
s_setup (log_t *self, uint64_t seed) {
    memset (self, 0, sizeof *self);
    self->random.state = seed;
    self->disk = sim_disk_new (&self->random);
    self->storage = sim_disk_open (self->disk, "j");
    assert_int_equal (ef_spares_init (&self->spares, self->storage, 16384), 0);
}

static bool
s_open_from (log_t *self, const ef_checkpoint_info_t *info, bool skips_sync) {
    ef_wal_options_t options = {.segment_bytes = 16384,
                                .wall_ms = 1,
                                .random = {1, 2},
                                .skips_sync = skips_sync,
                                .spares = &self->spares};
    if (info) {
        options.from_segment = info->segment;
        options.from_seq = info->first_seq;
        options.from_chain = info->chain;
    }
    self->count = 0;
    self->sum = 0;
    self->wal = ef_wal_open (self->storage, &options, s_each, self, &self->report);
    return self->wal != NULL;
}

static bool
s_open (log_t *self) {
    return s_open_from (self, NULL, false);
}

static void
s_append (log_t *self, uint64_t value, bool roll) {
    ef_batch_t batch = {.roll = roll};
    ef_batch_t *list[1] = {&batch};
    size_t mark = ef_record_begin (&batch.buf, 2, 0, 8);
    ef_le64_put (batch.buf.data + mark + EF_RECORD_HEAD, value);
    ef_record_end (&batch.buf, mark);
    assert_int_equal (ef_wal_append (self->wal, list, 1), 0);
    ef_buf_free (&batch.buf);
}

static void
s_teardown (log_t *self) {
    ef_wal_destroy (&self->wal);
    ef_spares_free (&self->spares);
    self->storage->destroy (&self->storage);
    sim_disk_destroy (&self->disk);
}

static void
s_patch (log_t *self, const char *name, uint64_t offset, const void *bytes, size_t size) {
    int file = self->storage->open (self->storage, name);
    struct iovec part = {(void *)bytes, size};
    assert_true (file >= 0);
    assert_int_equal (self->storage->write (self->storage, file, &part, 1, offset), 0);
}

/* Every combination of what may be known, against the rule as it is told in record.h. */
static void
test_recovery_every_verdict_follows_the_rule (void **state) {
    (void)state;
    for (unsigned bits = 0; bits < 32; bits++) {
        ef_end_facts_t facts = {.is_newest = bits & 1,
                                .has_rest = bits & 2,
                                .has_later = bits & 4,
                                .is_hinted = bits & 8,
                                .is_unsynced = bits & 16};
        ef_end_t verdict = ef_wal_judge (&facts);
        if (!facts.is_newest) {
            assert_int_equal (verdict, facts.has_rest ? EF_END_CORRUPT : EF_END_CLEAN);
        } else if (facts.is_unsynced) {
            assert_int_equal (verdict, facts.has_rest ? EF_END_TORN : EF_END_CLEAN);
        } else if (facts.has_later || facts.is_hinted) {
            assert_int_equal (verdict, EF_END_CORRUPT);
        } else {
            assert_int_equal (verdict, facts.has_rest ? EF_END_TORN : EF_END_CLEAN);
        }
    }
}

#define GROUP (32 + 48) /* a record of 24 + 8, and its commit */

/* The same on disk: each of them made, and judged by opening it. */
static void
test_recovery_every_end_on_disk_is_judged (void **state) {
    (void)state;
    const uint8_t noise[16] = {7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7};
    for (unsigned bits = 0; bits < 16; bits++) {
        bool is_newest = bits & 1;
        bool damages_last = bits & 2;
        bool damages_first = bits & 4;
        bool is_hinted = bits & 8;
        log_t log;
        s_setup (&log, bits + 1);
        assert_true (s_open (&log));
        s_append (&log, 1, false);
        s_append (&log, 2, false);
        if (is_hinted) {
            assert_int_equal (ef_wal_hint (log.wal), 0);
        }
        if (!is_newest) {
            s_append (&log, 4, true);
        }
        ef_wal_destroy (&log.wal);
        if (damages_first) {
            s_patch (&log, "0000000000000001.seg", EF_SEGMENT_START + 26, noise, 4);
        }
        if (damages_last) {
            s_patch (&log, "0000000000000001.seg", EF_SEGMENT_START + GROUP + 26, noise, 4);
        }
        bool is_damaged = damages_first || damages_last;
        /* With both damaged the second one's commit is still there, which tells of a later group.
         */
        bool is_torn = is_newest && !is_hinted && damages_last && !damages_first;
        bool opens = s_open (&log);
        if (!is_damaged) {
            assert_true (opens);
            assert_int_equal (log.sum, is_newest ? 3 : 7);
            assert_int_equal (log.report.torn_bytes, 0);
        } else if (is_torn) {
            assert_true (opens);
            assert_int_equal (log.sum, 1);
            assert_true (log.report.torn_bytes > 0);
        } else {
            assert_false (opens);
            assert_int_equal (log.report.error, EBADMSG);
            assert_non_null (strstr (log.report.text, "segment 1"));
            assert_non_null (strstr (log.report.text, "eventflow journal"));
        }
        s_teardown (&log);
    }
}

static void
test_recovery_missing_newest_segment_is_noticed_by_the_hint (void **state) {
    (void)state;
    for (unsigned is_hinted = 0; is_hinted < 2; is_hinted++) {
        log_t log;
        s_setup (&log, 3);
        assert_true (s_open (&log));
        s_append (&log, 1, false);
        s_append (&log, 2, true);
        if (is_hinted) {
            assert_int_equal (ef_wal_hint (log.wal), 0);
        }
        ef_wal_destroy (&log.wal);
        assert_int_equal (log.storage->unlink (log.storage, "0000000000000002.seg"), 0);
        assert_int_equal (s_open (&log), !is_hinted); /* without it nobody can know */
        s_teardown (&log);
    }
}

/* Killed without a power cut: what was written is read from the page cache and believed, so a power
   cut behind that mustn't take it away. */
static void
test_recovery_makes_durable_what_it_believes (void **state) {
    (void)state;
    for (unsigned seed = 1; seed <= 40; seed++) {
        log_t log;
        s_setup (&log, seed);
        assert_true (s_open_from (&log, NULL, true)); /* groups are written, not synced */
        s_append (&log, 1, false);
        s_append (&log, 2, false);
        ef_wal_destroy (&log.wal);
        assert_true (s_open (&log));
        assert_int_equal (log.sum, 3);
        ef_wal_destroy (&log.wal);
        sim_disk_crash (log.disk);
        assert_true (s_open (&log));
        assert_int_equal (log.sum, 3);
        s_teardown (&log);
    }
}

static void
test_recovery_newer_version_is_refused (void **state) {
    (void)state;
    log_t log;
    s_setup (&log, 1);
    assert_true (s_open (&log));
    s_append (&log, 1, false);
    ef_wal_destroy (&log.wal);
    uint8_t page[EF_SEGMENT_START];
    ef_segment_header_t header = {.version = EF_RECORD_VERSION + 1, .first_seq = 1, .epoch = 1};
    ef_segment_write_header (page, 1, &header);
    s_patch (&log, "0000000000000001.seg", 0, page, sizeof page);
    assert_false (s_open (&log));
    assert_int_equal (log.report.error, EPROTO);
    assert_non_null (strstr (log.report.text, "version"));
    s_teardown (&log);
}

static void
test_recovery_spares_become_segments_and_survive (void **state) {
    (void)state;
    log_t log;
    s_setup (&log, 9);
    assert_int_equal (ef_spares_make (&log.spares), 0);
    assert_int_equal (ef_spares_make (&log.spares), 0);
    assert_int_equal (ef_spares_zero (&log.spares), 0);
    assert_int_equal (ef_spares_count (&log.spares), 2);
    assert_true (s_open (&log));
    s_append (&log, 1, false); /* takes one */
    assert_int_equal (ef_spares_count (&log.spares), 1);
    ef_wal_destroy (&log.wal);
    ef_spares_free (&log.spares);
    assert_int_equal (ef_spares_init (&log.spares, log.storage, 16384), 0);
    assert_int_equal (ef_spares_count (&log.spares), 1);
    ef_spares_free (&log.spares);
    assert_int_equal (ef_spares_init (&log.spares, log.storage, 32768), 0);
    assert_int_equal (ef_spares_count (&log.spares), 0); /* of another size: gone */
    assert_true (s_open (&log));
    assert_int_equal (log.sum, 1);
    s_teardown (&log);
}

/* No room for a new segment is no failure: nothing was written, and it goes on when there is some.
 */
static void
test_recovery_full_disk_may_be_tried_again (void **state) {
    (void)state;
    log_t log;
    s_setup (&log, 5);
    assert_true (s_open (&log));
    s_append (&log, 1, false);
    sim_disk_limit (log.disk, sim_disk_used (log.disk));
    ef_batch_t batch = {.roll = true};
    ef_batch_t *list[1] = {&batch};
    size_t mark = ef_record_begin (&batch.buf, 2, 0, 8);
    ef_le64_put (batch.buf.data + mark + EF_RECORD_HEAD, 2);
    ef_record_end (&batch.buf, mark);
    size_t bytes = batch.buf.size;
    assert_int_equal (ef_wal_append (log.wal, list, 1), -ENOSPC);
    assert_int_equal (batch.buf.size, bytes);
    sim_disk_limit (log.disk, 0);
    assert_int_equal (ef_wal_append (log.wal, list, 1), 0);
    ef_buf_free (&batch.buf);
    ef_wal_destroy (&log.wal);
    assert_true (s_open (&log));
    assert_int_equal (log.sum, 3);
    s_teardown (&log);
}

static void
s_checkpoint (log_t *self, uint32_t segment, uint64_t value) {
    ef_checkpoint_writer_t writer = {.file = -1};
    ef_checkpoint_part_t part = {.segment = segment, .is_first = true, .is_last = true};
    size_t mark = ef_record_begin (&part.buf, 2, 0, 8);
    ef_le64_put (part.buf.data + mark + EF_RECORD_HEAD, value);
    ef_record_end (&part.buf, mark);
    ef_checkpoint_take (&writer, self->storage, &part);
    assert_int_equal (part.rc, 0);
    ef_buf_free (&part.buf);
}

static void
test_recovery_begins_at_a_checkpoint_that_fits (void **state) {
    (void)state;
    log_t log;
    ef_checkpoint_info_t info;
    s_setup (&log, 2);
    assert_true (s_open (&log));
    assert_false (ef_checkpoint_find (log.storage, 0, &info));
    for (uint64_t i = 1; i <= 5; i++) {
        s_append (&log, i, true);
        s_checkpoint (&log, (uint32_t)i, 100 * i);
    }
    ef_wal_destroy (&log.wal);
    assert_true (ef_checkpoint_find (log.storage, 0, &info));
    assert_int_equal (info.segment, 5);
    assert_true (ef_checkpoint_find (log.storage, 5, &info));
    assert_int_equal (info.segment, 4);
    assert_false (ef_checkpoint_find (log.storage, 4, &info)); /* the last two are kept */
    assert_true (ef_checkpoint_find (log.storage, 5, &info));
    assert_int_equal (ef_checkpoint_read (log.storage, &info, s_each, &log), 0);
    assert_true (s_open_from (&log, &info, false));
    assert_int_equal (log.sum, 4 + 5);
    ef_wal_destroy (&log.wal);
    info.first_seq++; /* made for another log */
    assert_false (s_open_from (&log, &info, false));
    assert_int_equal (log.report.error, ESTALE);
    s_teardown (&log);
}

static void
test_recovery_every_flip_in_a_checkpoint_is_noticed (void **state) {
    (void)state;
    log_t log;
    ef_checkpoint_info_t info;
    s_setup (&log, 2);
    assert_true (s_open (&log));
    s_append (&log, 1, false);
    s_checkpoint (&log, 1, 100);
    const char *name = "0000000000000001.ckpt";
    int file = log.storage->open (log.storage, name);
    uint8_t bytes[512];
    int64_t size = log.storage->read (log.storage, file, bytes, sizeof bytes, 0);
    assert_int_equal (size, 64 + 32 + 48);
    for (int64_t bit = 0; bit < size * 8; bit++) {
        uint8_t byte = (uint8_t)(bytes[bit / 8] ^ 1u << bit % 8);
        s_patch (&log, name, (uint64_t)bit / 8, &byte, 1);
        assert_false (ef_checkpoint_find (log.storage, 0, &info));
        s_patch (&log, name, (uint64_t)bit / 8, &bytes[bit / 8], 1);
    }
    assert_true (ef_checkpoint_find (log.storage, 0, &info));
    s_teardown (&log);
}

/* The check of old segments: its last good time, and damage told once it is met. */
static void
test_recovery_old_segments_are_checked (void **state) {
    (void)state;
    for (unsigned is_damaged = 0; is_damaged < 2; is_damaged++) {
        log_t log;
        ef_checkpoint_info_t info;
        s_setup (&log, 4);
        assert_true (s_open (&log));
        for (uint64_t i = 1; i <= 4; i++) {
            s_append (&log, i, true);
        }
        s_checkpoint (&log, 4, 1);
        if (is_damaged) {
            uint8_t noise = 0x5a;
            s_patch (&log, "0000000000000002.seg", EF_SEGMENT_START + 28, &noise, 1);
        }
        ef_upkeep_t upkeep = {.storage = log.storage, .segment = {.file = -1}};
        atomic_store (&upkeep.oldest, 1);
        atomic_store (&upkeep.newest, 4);
        uint64_t now = 1;
        for (unsigned i = 0; i < 100 && now < 3600000; i++) {
            now = ef_upkeep_scrub (&upkeep, now, 777);
        }
        assert_int_equal (atomic_load (&upkeep.damaged), is_damaged);
        assert_int_equal (atomic_load (&upkeep.scrub_good_ms), is_damaged ? 0 : 777);
        assert_int_equal (ef_checkpoint_find (log.storage, 0, &info), !is_damaged);
        ef_segment_free (&upkeep.segment);
        s_teardown (&log);
    }
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_recovery_every_verdict_follows_the_rule),
        cmocka_unit_test (test_recovery_every_end_on_disk_is_judged),
        cmocka_unit_test (test_recovery_missing_newest_segment_is_noticed_by_the_hint),
        cmocka_unit_test (test_recovery_makes_durable_what_it_believes),
        cmocka_unit_test (test_recovery_newer_version_is_refused),
        cmocka_unit_test (test_recovery_spares_become_segments_and_survive),
        cmocka_unit_test (test_recovery_full_disk_may_be_tried_again),
        cmocka_unit_test (test_recovery_begins_at_a_checkpoint_that_fits),
        cmocka_unit_test (test_recovery_every_flip_in_a_checkpoint_is_noticed),
        cmocka_unit_test (test_recovery_old_segments_are_checked),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
