/* Reading damaged journals: what is handed out, what is told. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../broker/journal/scan.h"
#include "../../broker/journal/wal.h"
#include "../sim/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define GROUP 88 /* a record of 24 + 8 + 3, padded, and its commit */
#define SEEN  64

typedef struct {
    unsigned records;
    unsigned commits;
    uint64_t values[SEEN];
    unsigned findings;
    ef_finding_t found[SEEN];
    unsigned stop_after; /* records; 0: none */
} seen_t;

static int
s_nothing (void *arg, const ef_record_t *record) {
    (void)arg;
    (void)record;
    return 0;
}

static int
s_record (void *arg, const ef_record_t *record, uint64_t seq) {
    seen_t *seen = arg;
    assert_true (seq > 0);
    if (record->type == EF_RECORD_COMMIT) {
        seen->commits++;
        return 0;
    }
    assert_true (seen->records < SEEN);
    seen->values[seen->records++] = ef_le64 (record->body);
    return seen->records == seen->stop_after;
}

static void
s_finding (void *arg, const ef_finding_t *finding) {
    seen_t *seen = arg;
    assert_true (seen->findings < SEEN);
    seen->found[seen->findings++] = *finding;
}

static ef_scan_report_t
s_scan (ef_storage_t *storage, seen_t *seen) {
    ef_scan_t scan = {.record = s_record, .finding = s_finding, .arg = seen};
    ef_scan_report_t report;
    unsigned stop = seen->stop_after;
    memset (seen, 0, sizeof *seen);
    seen->stop_after = stop;
    assert_int_equal (ef_scan (storage, &scan, &report), 0);
    return report;
}

typedef struct {
    sim_random_t random;
    sim_disk_t *disk;
    ef_storage_t *storage;
} fixture_t;

/* A journal of `groups` groups of one record each, bearing 1, 2, 3, …; a segment holds
   `each` of them. */
static void
s_make (fixture_t *self, unsigned groups, unsigned each, unsigned body) {
    ef_wal_options_t options = {.segment_bytes = 16384, .wall_ms = 1, .random = {1, 2}};
    ef_wal_report_t report;
    self->random.state = 7;
    self->disk = sim_disk_new (&self->random);
    self->storage = sim_disk_open (self->disk, "j");
    ef_wal_t *wal = ef_wal_open (self->storage, &options, s_nothing, NULL, &report);
    assert_non_null (wal);
    for (unsigned i = 1; i <= groups; i++) {
        ef_batch_t batch = {.roll = (i - 1) % each == 0};
        ef_batch_t *list[1] = {&batch};
        size_t mark = ef_record_begin (&batch.buf, 2, 0, 8);
        ef_le64_put (batch.buf.data + mark + EF_RECORD_HEAD, i);
        memset (ef_buf_add (&batch.buf, body), 0x5a, body);
        ef_record_end (&batch.buf, mark);
        assert_int_equal (ef_wal_append (wal, list, 1), 0);
        ef_buf_free (&batch.buf);
    }
    ef_wal_destroy (&wal);
}

static void
s_free (fixture_t *self) {
    self->storage->destroy (&self->storage);
    sim_disk_destroy (&self->disk);
}

static int
s_open_segment (fixture_t *self, unsigned segment) {
    char name[24];
    ef_wal_segment_name (segment, name);
    int file = self->storage->open (self->storage, name);
    assert_true (file >= 0);
    return file;
}

static void
s_write (fixture_t *self, unsigned segment, const void *bytes, size_t size, uint64_t offset) {
    int file = s_open_segment (self, segment);
    struct iovec part = {(void *)bytes, size};
    assert_int_equal (self->storage->write (self->storage, file, &part, 1, offset), 0);
    self->storage->close (self->storage, file);
}

static void
s_read (fixture_t *self, unsigned segment, void *bytes, size_t size, uint64_t offset) {
    int file = s_open_segment (self, segment);
    assert_int_equal (self->storage->read (self->storage, file, bytes, size, offset), size);
    self->storage->close (self->storage, file);
}

static void
test_scan_intact_journal_hands_out_all (void **state) {
    (void)state;
    fixture_t fixture;
    seen_t seen = {0};
    s_make (&fixture, 10, 4, 3);
    ef_scan_report_t report = s_scan (fixture.storage, &seen);
    assert_int_equal (seen.records, 10);
    assert_int_equal (seen.commits, 10);
    assert_int_equal (seen.findings, 0);
    assert_int_equal (report.segments, 3);
    assert_int_equal (report.groups, 10);
    seen.stop_after = 3;
    (void)s_scan (fixture.storage, &seen);
    assert_int_equal (seen.records, 3);
    s_free (&fixture);
}

static void
test_scan_every_prefix_is_a_torn_tail_at_worst (void **state) {
    (void)state;
    for (unsigned cut = 4096; cut <= 4096 + 3 * GROUP; cut++) {
        fixture_t fixture;
        seen_t seen = {0};
        s_make (&fixture, 3, 3, 3);
        int file = s_open_segment (&fixture, 1);
        assert_int_equal (fixture.storage->truncate (fixture.storage, file, cut), 0);
        fixture.storage->close (fixture.storage, file);
        ef_scan_report_t report = s_scan (fixture.storage, &seen);
        unsigned rest = (cut - 4096) % GROUP;
        assert_int_equal (report.losses, 0);
        assert_int_equal (seen.commits, (cut - 4096) / GROUP);
        assert_int_equal (seen.findings, rest > 0);
        if (rest > 0) {
            assert_int_equal (seen.found[0].kind, EF_FINDING_TORN);
            assert_int_equal (seen.found[0].offset, cut - rest);
        }
        s_free (&fixture);
    }
}

/* A flipped bit loses one group at the most and is told; the others are handed out. */
static void
test_scan_every_flipped_bit_is_told (void **state) {
    (void)state;
    for (unsigned bit = 4096 * 8; bit < (4096 + 3 * GROUP) * 8; bit++) {
        fixture_t fixture;
        seen_t seen = {0};
        uint8_t byte;
        unsigned group = (bit / 8 - 4096) / GROUP;
        unsigned at = (bit / 8 - 4096) % GROUP;
        s_make (&fixture, 3, 3, 3);
        s_read (&fixture, 1, &byte, 1, bit / 8);
        byte = (uint8_t)(byte ^ 1u << (bit % 8));
        s_write (&fixture, 1, &byte, 1, bit / 8);
        ef_scan_report_t report = s_scan (fixture.storage, &seen);
        bool is_padding = at >= 35 && at < 40;
        if (is_padding) {
            assert_int_equal (seen.findings, 0); /* between records nothing is said */
        } else if (group == 2) {
            assert_int_equal (seen.found[0].kind, EF_FINDING_TORN);
            assert_int_equal (report.losses, 0);
        } else {
            assert_int_equal (seen.found[0].kind, EF_FINDING_DAMAGED);
            assert_int_equal (seen.found[0].offset, 4096 + group * GROUP + (at < 40 ? 0 : 40));
            assert_int_equal (seen.found[0].bytes, at < 40 ? 40 : 48);
            assert_int_equal (seen.found[0].first_seq, group + 1);
            assert_int_equal (seen.found[0].last_seq, group + 1);
            assert_int_equal (seen.commits, at < 40 ? 3 : 2);
        }
        for (unsigned i = 0; i < seen.records; i++) {
            assert_true (seen.values[i] >= 1 && seen.values[i] <= 3);
        }
        s_free (&fixture);
    }
}

static void
test_scan_flipped_header_is_told_and_its_records_read (void **state) {
    (void)state;
    for (unsigned segment = 1; segment <= 3; segment++) {
        for (unsigned bit = 0; bit < EF_SEGMENT_HEADER * 8; bit++) {
            fixture_t fixture;
            seen_t seen = {0};
            uint8_t byte;
            s_make (&fixture, 6, 2, 3);
            s_read (&fixture, segment, &byte, 1, bit / 8);
            byte = (uint8_t)(byte ^ 1u << (bit % 8));
            s_write (&fixture, segment, &byte, 1, bit / 8);
            ef_scan_report_t report = s_scan (fixture.storage, &seen);
            assert_int_equal (seen.findings, 1);
            assert_int_equal (seen.found[0].kind, EF_FINDING_HEADER);
            assert_int_equal (seen.found[0].segment, segment);
            assert_int_equal (report.groups, 6);
            s_free (&fixture);
        }
    }
}

static void
test_scan_zeroed_page_is_passed (void **state) {
    (void)state;
    static const uint8_t zeros[4096];
    fixture_t fixture;
    seen_t seen = {0};
    s_make (&fixture, 12, 8, 1000); /* 1,080 bytes a group */
    s_write (&fixture, 1, zeros, sizeof zeros, 8192 - 1000);
    ef_scan_report_t report = s_scan (fixture.storage, &seen);
    assert_int_equal (seen.found[0].kind, EF_FINDING_DAMAGED);
    assert_int_equal (seen.found[0].segment, 1);
    assert_int_equal (seen.found[0].first_seq, 3);
    assert_in_range (seen.found[0].last_seq, 6, 7);
    assert_in_range (report.groups, 7, 9);
    assert_int_equal (seen.values[seen.records - 1], 12);
    s_free (&fixture);
}

/* Zeros to the end of a sealed segment look like its end; the next header tells. */
static void
test_scan_zeroed_end_of_sealed_segment_is_a_gap (void **state) {
    (void)state;
    static const uint8_t zeros[2 * GROUP];
    fixture_t fixture;
    seen_t seen = {0};
    s_make (&fixture, 8, 4, 3);
    s_write (&fixture, 1, zeros, sizeof zeros, 4096 + 2 * GROUP);
    ef_scan_report_t report = s_scan (fixture.storage, &seen);
    assert_int_equal (report.losses, 1);
    assert_int_equal (seen.found[0].kind, EF_FINDING_GAP);
    assert_int_equal (seen.found[0].first_seq, 3);
    assert_int_equal (seen.found[0].last_seq, 4);
    s_free (&fixture);
}

static void
test_scan_missing_segments_are_told (void **state) {
    (void)state;
    fixture_t fixture;
    seen_t seen = {0};
    s_make (&fixture, 10, 2, 3);
    assert_int_equal (fixture.storage->unlink (fixture.storage, "0000000000000002.seg"), 0);
    assert_int_equal (fixture.storage->unlink (fixture.storage, "0000000000000003.seg"), 0);
    ef_scan_report_t report = s_scan (fixture.storage, &seen);
    assert_int_equal (report.losses, 1);
    assert_int_equal (seen.found[0].kind, EF_FINDING_MISSING);
    assert_int_equal (seen.found[0].segment, 2);
    assert_int_equal (seen.found[0].first_seq, 3);
    assert_int_equal (seen.found[0].last_seq, 6);
    assert_int_equal (seen.records, 6);
    s_free (&fixture);
}

static void
test_scan_swapped_segments_give_nothing (void **state) {
    (void)state;
    fixture_t fixture;
    seen_t seen = {0};
    uint8_t one[4096 + 2 * GROUP];
    uint8_t two[4096 + 2 * GROUP];
    s_make (&fixture, 6, 2, 3);
    s_read (&fixture, 1, one, sizeof one, 0);
    s_read (&fixture, 2, two, sizeof two, 0);
    s_write (&fixture, 1, two, sizeof two, 0);
    s_write (&fixture, 2, one, sizeof one, 0);
    ef_scan_report_t report = s_scan (fixture.storage, &seen);
    assert_int_equal (seen.found[0].kind, EF_FINDING_MISPLACED);
    assert_int_equal (seen.found[1].kind, EF_FINDING_MISPLACED);
    assert_int_equal (report.losses, 2);
    assert_int_equal (seen.records, 2); /* of segment 3 */
    assert_int_equal (seen.values[0], 5);
    s_free (&fixture);
}

/* A checksum covers the place: a record that lies where another one was is no record. */
static void
test_scan_duplicated_record_is_damage (void **state) {
    (void)state;
    fixture_t fixture;
    seen_t seen = {0};
    uint8_t group[GROUP];
    s_make (&fixture, 4, 4, 3);
    s_read (&fixture, 1, group, sizeof group, 4096);
    s_write (&fixture, 1, group, sizeof group, 4096 + GROUP);
    ef_scan_report_t report = s_scan (fixture.storage, &seen);
    assert_int_equal (report.losses, 1);
    assert_int_equal (seen.found[0].kind, EF_FINDING_DAMAGED);
    assert_int_equal (seen.found[0].offset, 4096 + GROUP);
    assert_int_equal (seen.found[0].bytes, GROUP);
    assert_int_equal (seen.records, 3);
    assert_int_equal (seen.values[1], 3);
    s_free (&fixture);
}

/* Random damage anywhere: nothing is handed out that wasn't written, in its order, and each loss in
   a sealed segment is told. */
static void
test_scan_random_damage_hands_out_truth_alone (void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        fixture_t fixture;
        seen_t seen = {0};
        sim_random_t random = {seed};
        uint8_t noise[600];
        s_make (&fixture, 12, 4, 300);
        unsigned segment = 1 + sim_below (&random, 2);
        size_t size = 1 + sim_below (&random, sizeof noise);
        bool is_zero = sim_one_in (&random, 2);
        for (size_t i = 0; i < size; i++) {
            noise[i] = is_zero ? 0 : (uint8_t)sim_random (&random);
        }
        s_write (&fixture, segment, noise, size, sim_below (&random, 4096 + 1500));
        ef_scan_report_t report = s_scan (fixture.storage, &seen);
        for (unsigned i = 0; i < seen.records; i++) {
            assert_true (seen.values[i] >= 1 && seen.values[i] <= 12);
            assert_true (i == 0 || seen.values[i] > seen.values[i - 1]);
        }
        if (seen.records < 12 || seen.commits < 12) {
            assert_true (report.losses > 0);
        }
        s_free (&fixture);
    }
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_scan_intact_journal_hands_out_all),
        cmocka_unit_test (test_scan_every_prefix_is_a_torn_tail_at_worst),
        cmocka_unit_test (test_scan_every_flipped_bit_is_told),
        cmocka_unit_test (test_scan_flipped_header_is_told_and_its_records_read),
        cmocka_unit_test (test_scan_zeroed_page_is_passed),
        cmocka_unit_test (test_scan_zeroed_end_of_sealed_segment_is_a_gap),
        cmocka_unit_test (test_scan_missing_segments_are_told),
        cmocka_unit_test (test_scan_swapped_segments_give_nothing),
        cmocka_unit_test (test_scan_duplicated_record_is_damage),
        cmocka_unit_test (test_scan_random_damage_hands_out_truth_alone),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
