/* The log: groups, torn tails, damage, every prefix. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../broker/journal/wal.h"
#include "../sim/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    unsigned count;
    uint64_t sum;
} seen_t;

static int
s_each (void *arg, const ef_record_t *record) {
    seen_t *seen = arg;
    seen->count++;
    seen->sum += ef_le64 (record->body);
    return record->type == 9 ? -1 : 0;
}

static ef_wal_t *
s_open (ef_storage_t *storage, seen_t *seen, ef_wal_report_t *report) {
    ef_wal_options_t options = {.segment_bytes = 16384, .wall_ms = 1, .random = {1, 2}};
    memset (seen, 0, sizeof *seen);
    return ef_wal_open (storage, &options, s_each, seen, report);
}

static int
s_append (ef_wal_t *wal, uint64_t value, unsigned records, bool roll) {
    ef_batch_t batch = {.roll = roll};
    ef_batch_t *list[1] = {&batch};
    for (unsigned i = 0; i < records; i++) {
        size_t mark = ef_record_begin (&batch.buf, 2, 0, 8);
        ef_le64_put (batch.buf.data + mark + EF_RECORD_HEAD, value);
        ef_buf_put (&batch.buf, "some body", 3 + i % 7);
        ef_record_end (&batch.buf, mark);
    }
    int rc = ef_wal_append (wal, list, 1);
    ef_buf_free (&batch.buf);
    return rc;
}

static void
test_wal_groups_come_back_in_order_over_segments (void **state) {
    (void)state;
    sim_random_t random = {77};
    sim_disk_t *disk = sim_disk_new (&random);
    ef_storage_t *storage = sim_disk_open (disk, "j");
    seen_t seen;
    ef_wal_report_t report;
    ef_wal_t *wal = s_open (storage, &seen, &report);
    assert_non_null (wal);
    assert_true (report.is_new);
    for (unsigned i = 1; i <= 10; i++) {
        assert_int_equal (s_append (wal, i, i, i % 4 == 0), 0);
    }
    assert_int_equal (ef_wal_newest (wal), 3);
    assert_int_equal (ef_wal_drop_oldest (wal), 0);
    ef_wal_destroy (&wal);
    wal = s_open (storage, &seen, &report);
    assert_non_null (wal);
    assert_int_equal (seen.count, 4 + 5 + 6 + 7 + 8 + 9 + 10);
    assert_int_equal (ef_wal_epoch (wal), 2);
    ef_wal_destroy (&wal);
    storage->destroy (&storage);
    sim_disk_destroy (&disk);
}

static void
s_with_file (ef_storage_t *storage, unsigned segment,
             void (*change) (ef_storage_t *, int, unsigned), unsigned argument) {
    char name[24];
    ef_wal_segment_name (segment, name);
    int file = storage->open (storage, name);
    assert_true (file >= 0);
    change (storage, file, argument);
    storage->close (storage, file);
}

static void
s_flip (ef_storage_t *storage, int file, unsigned bit) {
    uint8_t byte;
    assert_true (storage->read (storage, file, &byte, 1, bit / 8) == 1);
    byte = (uint8_t)(byte ^ 1u << (bit % 8));
    struct iovec part = {&byte, 1};
    assert_int_equal (storage->write (storage, file, &part, 1, bit / 8), 0);
}

static void
s_cut (ef_storage_t *storage, int file, unsigned size) {
    assert_int_equal (storage->truncate (storage, file, size), 0);
}

/* A disk with `groups` groups of one record each in one segment. */
static void
s_make (sim_random_t *random, unsigned groups, sim_disk_t **disk, ef_storage_t **storage) {
    seen_t seen;
    ef_wal_report_t report;
    *disk = sim_disk_new (random);
    *storage = sim_disk_open (*disk, "j");
    ef_wal_t *wal = s_open (*storage, &seen, &report);
    for (unsigned i = 1; i <= groups; i++) {
        assert_int_equal (s_append (wal, i, 1, false), 0);
    }
    ef_wal_destroy (&wal);
}

/* Wherever the file ends, what is whole before it comes back, the rest is cut and reported, and
   opening once more finds nothing to cut. */
static void
test_wal_every_prefix_is_a_torn_tail_at_worst (void **state) {
    (void)state;
    const unsigned group = 40 + 48; /* a record of 24 + 8 + 3, padded, and its commit */
    for (unsigned cut = 4096; cut <= 4096 + 3 * group; cut++) {
        sim_random_t random = {cut};
        sim_disk_t *disk;
        ef_storage_t *storage;
        seen_t seen;
        ef_wal_report_t report;
        s_make (&random, 3, &disk, &storage);
        s_with_file (storage, 1, s_cut, cut);
        for (unsigned twice = 0; twice < 2; twice++) {
            ef_wal_t *wal = s_open (storage, &seen, &report);
            assert_non_null (wal);
            assert_int_equal (seen.count, (cut - 4096) / group);
            assert_int_equal (report.torn_bytes, twice ? 0 : (cut - 4096) % group);
            ef_wal_destroy (&wal);
        }
        storage->destroy (&storage);
        sim_disk_destroy (&disk);
    }
}

/* Every flipped bit of a confirmed group that another one follows is corruption; in the last group
   it is taken for a torn tail. It is never taken for data. */
static void
test_wal_every_flipped_bit_is_noticed (void **state) {
    (void)state;
    const unsigned group = 40 + 48;
    for (unsigned bit = 0; bit < (4096 + 2 * group) * 8; bit++) {
        if (bit / 8 >= EF_SEGMENT_HEADER && bit / 8 < 4096) {
            bit = 4096 * 8; /* padding of the header page bears nothing */
        }
        sim_random_t random = {bit + 1};
        sim_disk_t *disk;
        ef_storage_t *storage;
        seen_t seen;
        ef_wal_report_t report;
        s_make (&random, 2, &disk, &storage);
        s_with_file (storage, 1, s_flip, bit);
        ef_wal_t *wal = s_open (storage, &seen, &report);
        bool is_last = bit / 8 >= 4096 + group;
        bool is_padding = (bit / 8 - 4096) % group >= 35 && (bit / 8 - 4096) % group < 40;
        if (bit / 8 >= 4096 && is_padding) {
            assert_non_null (wal); /* between records nothing is said */
            assert_int_equal (seen.sum, 3);
        } else if (is_last) {
            assert_non_null (wal);
            assert_int_equal (seen.sum, 1);
        } else {
            if (wal) {
                print_message ("bit %u of byte %u wasn't noticed\n", bit % 8, bit / 8);
            }
            assert_null (wal);
            assert_true (report.error == EBADMSG || report.error == EPROTO);
            assert_non_null (strstr (report.text, "segment 1"));
        }
        if (wal) {
            ef_wal_destroy (&wal);
        }
        storage->destroy (&storage);
        sim_disk_destroy (&disk);
    }
}

static void
test_wal_first_error_ends_it_for_good (void **state) {
    (void)state;
    for (uint32_t operation = 1; operation < 12; operation++) {
        sim_random_t random = {operation};
        sim_disk_t *disk = sim_disk_new (&random);
        ef_storage_t *storage = sim_disk_open (disk, "j");
        seen_t seen;
        ef_wal_report_t report;
        ef_wal_t *wal = s_open (storage, &seen, &report);
        unsigned good = 0;
        sim_disk_fail_after (disk, operation);
        while (s_append (wal, 1, 1, false) == 0) {
            good++;
        }
        assert_int_equal (s_append (wal, 1, 1, false), -EIO);
        ef_wal_destroy (&wal);
        sim_disk_crash (disk);
        wal = s_open (storage, &seen, &report);
        assert_non_null (wal);
        assert_true (seen.count == good || seen.count == good + 1);
        ef_wal_destroy (&wal);
        storage->destroy (&storage);
        sim_disk_destroy (&disk);
    }
}

static void
test_wal_missing_and_foreign_segments_are_refused (void **state) {
    (void)state;
    sim_random_t random = {5};
    sim_disk_t *disk = sim_disk_new (&random);
    ef_storage_t *storage = sim_disk_open (disk, "j");
    seen_t seen;
    ef_wal_report_t report;
    ef_wal_t *wal = s_open (storage, &seen, &report);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal (s_append (wal, i, 1, true), 0);
    }
    ef_wal_destroy (&wal);
    assert_int_equal (storage->unlink (storage, "0000000000000002.seg"), 0);
    assert_null (s_open (storage, &seen, &report));
    assert_non_null (strstr (report.text, "segment 2 is missing"));
    storage->destroy (&storage);
    sim_disk_destroy (&disk);
}

/* ---- zeros ahead ---- */

static struct {
    int (*write) (ef_storage_t *self, int file, const struct iovec *parts, int count, uint64_t at);
    uint64_t bytes; /* of the last write */
    uint64_t end;
} s_noted;

static int
s_note_write (ef_storage_t *self, int file, const struct iovec *parts, int count, uint64_t at) {
    s_noted.bytes = 0;
    for (int i = 0; i < count; i++) {
        s_noted.bytes += parts[i].iov_len;
    }
    s_noted.end = at + s_noted.bytes;
    return s_noted.write (self, file, parts, count, at);
}

/* Small groups are written over zeros that an earlier one took along; large ones take none, and
   none go past what the segment has. */
static void
test_wal_small_groups_take_zeros_along (void **state) {
    (void)state;
    enum { AHEAD = 256 << 10, SEGMENT = 1 << 20 };
    sim_random_t dice = {78};
    sim_disk_t *disk = sim_disk_new (&dice);
    ef_storage_t *storage = sim_disk_open (disk, "j");
    seen_t seen = {0};
    ef_wal_report_t report;
    ef_wal_options_t options = {.segment_bytes = SEGMENT, .wall_ms = 1, .random = {1, 2}};
    s_noted.write = storage->write;
    storage->write = s_note_write;
    ef_wal_t *wal = ef_wal_open (storage, &options, s_each, &seen, &report);
    assert_non_null (wal);
    unsigned records = 0;
    unsigned with_zeros = 0;
    uint64_t sum = 0;
    while (s_noted.end < SEGMENT) {
        assert_int_equal (s_append (wal, 1, 100, false), 0);
        records += 100;
        with_zeros += s_noted.bytes > AHEAD / 8;
        sum += s_noted.bytes;
        assert_true (s_noted.end <= SEGMENT);
    }
    assert_int_equal (with_zeros, 4); /* the last one what is left */
    assert_true (sum < 2 * SEGMENT);
    assert_int_equal (s_append (wal, 1, 1, true), 0); /* a new segment */
    assert_true (s_noted.bytes > AHEAD);
    assert_int_equal (s_append (wal, 1, 1, true), 0);
    assert_int_equal (s_append (wal, 1, 2000, true), 0); /* a large group */
    assert_true (s_noted.bytes > AHEAD / 8 && s_noted.bytes < AHEAD);
    ef_wal_destroy (&wal);
    wal = ef_wal_open (storage, &options, s_each, &seen, &report);
    assert_non_null (wal);
    assert_int_equal (seen.count, records + 2002);
    ef_wal_destroy (&wal);
    storage->destroy (&storage);
    sim_disk_destroy (&disk);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_wal_groups_come_back_in_order_over_segments),
        cmocka_unit_test (test_wal_every_prefix_is_a_torn_tail_at_worst),
        cmocka_unit_test (test_wal_every_flipped_bit_is_noticed),
        cmocka_unit_test (test_wal_first_error_ends_it_for_good),
        cmocka_unit_test (test_wal_missing_and_foreign_segments_are_refused),
        cmocka_unit_test (test_wal_small_groups_take_zeros_along),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
