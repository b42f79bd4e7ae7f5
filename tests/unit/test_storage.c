/* Files and reading back: real files whose calls fail when told to. SPDX-License-Identifier: MIT

   The linker leads the calls of broker/journal/storage.c through here (--wrap). An error of a write
   or sync is remembered for the life of the process, so each case runs in a child of its own. */
#include "unit.h"

#include "../../broker/journal/reader.h"
#include "../../broker/journal/storage.h"
#include "../../broker/journal/wal.h"
#include "../sim/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

static int s_error;       /* of the next call; 0: none */
static bool s_is_short;   /* the next write takes half of its bytes */
static unsigned s_called; /* writes and syncs that were asked of the system */

/* Declared here, since the linker makes the names. */
int __real_fdatasync (int file);
int __wrap_fdatasync (int file);
int __real_fsync (int file);
int __wrap_fsync (int file);
ssize_t __real_pwritev (int file, const struct iovec *parts, int count, off_t offset);
ssize_t __wrap_pwritev (int file, const struct iovec *parts, int count, off_t offset);

static bool
s_fails (void) {
    s_called++;
    errno = s_error;
    s_error = 0; /* the next one works, as on a disk that has dropped what it couldn't write */
    return errno != 0;
}

int
__wrap_fdatasync (int file) {
    return s_fails () ? -1 : __real_fdatasync (file);
}

int
__wrap_fsync (int file) {
    return s_fails () ? -1 : __real_fsync (file);
}

ssize_t
__wrap_pwritev (int file, const struct iovec *parts, int count, off_t offset) {
    if (s_fails ()) {
        return -1;
    }
    ssize_t written = __real_pwritev (file, parts, count, offset);
    bool is_short = s_is_short;
    s_is_short = false;
    return is_short && written > 0 ? written / 2 : written;
}

typedef struct {
    char path[2][64];
    ef_storage_t *storage[2]; /* two directories of one process */
    int file[2];
} place_t;

static int
s_write (const place_t *self, unsigned which) {
    char text[] = "sixteen bytes...";
    struct iovec part = {text, 16};
    return self->storage[which]->write (self->storage[which], self->file[which], &part, 1, 0);
}

static int
s_sync (const place_t *self, unsigned which) {
    return self->storage[which]->sync (self->storage[which], self->file[which]);
}

static int
s_sync_directory (const place_t *self, unsigned which) {
    return self->storage[which]->sync_directory (self->storage[which]);
}

typedef int (*call_t) (const place_t *self, unsigned which);
static const call_t s_calls[] = {s_write, s_sync, s_sync_directory};
#define CALLS (sizeof s_calls / sizeof s_calls[0])

/* Every change of both directories is refused without a try. */
static bool
s_is_over (const place_t *self) {
    s_called = 0;
    for (unsigned which = 0; which < 2; which++) {
        ef_storage_t *storage = self->storage[which];
        for (unsigned i = 0; i < CALLS; i++) {
            if (s_calls[i](self, which) != -EIO) {
                return false;
            }
        }
        if (storage->truncate (storage, self->file[which], 0) != -EIO ||
            storage->extend (storage, self->file[which], 8192) != -EIO ||
            storage->rename (storage, "a", "b") != -EIO || storage->unlink (storage, "a") != -EIO) {
            return false;
        }
    }
    return s_called == 0;
}

/* Runs `check` in a child over two fresh directories; true where it said so. */
static bool
s_in_child (bool (*check) (const place_t *self, unsigned argument), unsigned argument) {
    place_t place;
    for (unsigned which = 0; which < 2; which++) {
        int error;
        strcpy (place.path[which], "/tmp/ef-storage-XXXXXX");
        assert_non_null (mkdtemp (place.path[which]));
        place.storage[which] = ef_storage_new (place.path[which], &error);
        assert_non_null (place.storage[which]);
        place.file[which] = place.storage[which]->create (place.storage[which], "a", 4096);
        assert_true (place.file[which] >= 0);
    }
    (void)fflush (NULL); /* or the child would say it again */
    pid_t child = fork ();
    if (child == 0) {
        _exit (check (&place, argument) ? 0 : 1);
    }
    int status = -1;
    assert_int_equal (waitpid (child, &status, 0), child);
    for (unsigned which = 0; which < 2; which++) {
        (void)place.storage[which]->unlink (place.storage[which], "a"); /* the child may have */
        place.storage[which]->close (place.storage[which], place.file[which]);
        place.storage[which]->destroy (&place.storage[which]);
        (void)rmdir (place.path[which]);
    }
    return WIFEXITED (status) && WEXITSTATUS (status) == 0;
}

static bool
s_ends_all (const place_t *self, unsigned argument) {
    static const int errors[] = {EIO, EROFS, ENXIO, EBADF};
    s_error = errors[argument % 4];
    int wanted = -s_error;
    return s_calls[argument / 4](self, 0) == wanted && s_is_over (self);
}

/* A write or sync that failed is never tried again: the next answer of such a disk says nothing
   about what the failed call was to make durable. */
static void
test_storage_first_error_ends_all_writing (void **state) {
    (void)state;
    for (unsigned i = 0; i < CALLS * 4; i++) {
        if (!s_in_child (s_ends_all, i)) {
            fail_msg ("call %u with error %u", i / 4, i % 4);
        }
    }
}

static bool
s_ends_short (const place_t *self, unsigned argument) {
    (void)argument;
    s_is_short = true;
    return s_write (self, 0) == -EIO && s_is_over (self);
}

static void
test_storage_short_write_is_an_error (void **state) {
    (void)state;
    assert_true (s_in_child (s_ends_short, 0));
}

static bool
s_goes_on_full (const place_t *self, unsigned argument) {
    static const int errors[] = {ENOSPC, EDQUOT, EFBIG};
    s_error = errors[argument];
    int wanted = -s_error;
    return s_write (self, 0) == wanted && s_write (self, 0) == 0 && s_sync (self, 0) == 0;
}

static void
test_storage_full_disk_is_no_end (void **state) {
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_true (s_in_child (s_goes_on_full, i));
    }
}

static bool
s_writes_again (const place_t *self, unsigned argument) {
    (void)argument;
    s_error = EINTR;
    return s_write (self, 0) == 0 && s_called == 2;
}

static void
test_storage_interrupted_write_is_repeated (void **state) {
    (void)state;
    assert_true (s_in_child (s_writes_again, 0));
}

#define VALUES 4

static int
s_nothing (void *arg, const ef_record_t *record) {
    (void)arg;
    (void)record;
    return 0;
}

/* A segment each of groups of one record, which bear 100 and 200 and so on. */
static ef_wal_t *
s_make_log (ef_storage_t *storage) {
    ef_wal_options_t options = {.segment_bytes = 16384, .wall_ms = 1, .random = {1, 2}};
    ef_wal_report_t report;
    ef_wal_t *wal = ef_wal_open (storage, &options, s_nothing, NULL, &report);
    assert_non_null (wal);
    for (unsigned i = 0; i < 2 * VALUES; i++) {
        ef_batch_t batch = {.roll = i == VALUES};
        ef_batch_t *list[1] = {&batch};
        size_t mark = ef_record_begin (&batch.buf, 2, 0, 8);
        ef_le64_put (batch.buf.data + mark + EF_RECORD_HEAD, 100 * i);
        ef_record_end (&batch.buf, mark);
        assert_int_equal (ef_wal_append (wal, list, 1), 0);
        ef_buf_free (&batch.buf);
    }
    return wal;
}

static size_t
s_read_back (ef_storage_t *storage, uint32_t segment, uint32_t offset, int *error) {
    size_t size = 0;
    *error = 0;
    uint8_t *bytes = ef_read_stretch (storage, segment, offset, 4096, &size, error);
    assert_true ((bytes == NULL) == (size == 0));
    free (bytes);
    return size;
}

/* Of a segment whose bytes aren't what they were, or are another segment's, nothing is handed out
   from the first such record on. */
static void
test_reader_hands_out_whole_records_of_that_place_alone (void **state) {
    (void)state;
    const size_t group = 32 + EF_RECORD_HEAD + EF_COMMIT_BODY;
    sim_random_t random = {3};
    sim_disk_t *disk = sim_disk_new (&random);
    ef_storage_t *storage = sim_disk_open (disk, "j");
    ef_wal_t *wal = s_make_log (storage);
    int error;
    assert_int_equal (s_read_back (storage, 1, EF_SEGMENT_START, &error), VALUES * group);
    assert_int_equal (s_read_back (storage, 2, EF_SEGMENT_START, &error), VALUES * group);
    char name[24];
    ef_wal_segment_name (1, name);
    int file = storage->open (storage, name);
    for (size_t bit = 0; bit < VALUES * group * 8; bit++) {
        uint8_t byte;
        struct iovec part = {&byte, 1};
        uint64_t at = EF_SEGMENT_START + bit / 8;
        assert_int_equal (storage->read (storage, file, &byte, 1, at), 1);
        byte ^= (uint8_t)(1u << bit % 8);
        assert_int_equal (storage->write (storage, file, &part, 1, at), 0);
        size_t size = s_read_back (storage, 1, EF_SEGMENT_START, &error);
        size_t record =
            bit / 8 % group < 32 ? bit / 8 / group * group : bit / 8 / group * group + 32;
        assert_int_equal (size, record);
        assert_int_equal (error, record ? 0 : -EBADMSG);
        byte ^= (uint8_t)(1u << bit % 8);
        assert_int_equal (storage->write (storage, file, &part, 1, at), 0);
    }
    assert_int_equal (s_read_back (storage, 1, EF_SEGMENT_START + 8, &error), 0);
    assert_int_equal (storage->unlink (storage, name), 0);
    assert_int_equal (storage->rename (storage, "0000000000000002.seg", name), 0);
    assert_int_equal (s_read_back (storage, 1, EF_SEGMENT_START, &error), 0);
    assert_int_equal (error, -EBADMSG);
    assert_int_equal (s_read_back (storage, 2, EF_SEGMENT_START, &error), 0);
    assert_int_equal (error, -ENOENT);
    ef_wal_destroy (&wal);
    storage->destroy (&storage);
    sim_disk_destroy (&disk);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_storage_first_error_ends_all_writing),
        cmocka_unit_test (test_storage_short_write_is_an_error),
        cmocka_unit_test (test_storage_full_disk_is_no_end),
        cmocka_unit_test (test_storage_interrupted_write_is_repeated),
        cmocka_unit_test (test_reader_hands_out_whole_records_of_that_place_alone),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
