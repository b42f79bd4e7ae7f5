/* Sidecars and what is found by them: against records that were written a moment ago.
   SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../broker/actors/finder.h"
#include "../../broker/core/log_records.h"
#include "../../broker/journal/kept.h"
#include "../../broker/journal/sidecar.h"
#include "../../broker/journal/wal.h"
#include "../sim/disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
    sim_random_t random;
    sim_disk_t *disk;
    ef_storage_t *storage;
    ef_wal_t *wal;
    ef_finder_t finder;
    ef_batch_t batch; /* under way */
    uint64_t next_n;
} log_t;

static int
s_each (void *arg, const ef_record_t *record) {
    (void)arg;
    (void)record;
    return 0;
}

static void
s_open (log_t *self) {
    ef_wal_options_t options = {.segment_bytes = 65536, .random = {1, 2}, .keeps_dropped = true};
    ef_wal_report_t report;
    self->wal = ef_wal_open (self->storage, &options, s_each, NULL, &report);
    assert_non_null (self->wal);
    memset (&self->finder, 0, sizeof self->finder);
    self->finder.storage = self->storage;
    self->finder.file = -1;
    assert_int_equal (ef_lookup_init (&self->finder.lookup, self->storage), 0);
    ef_finder_durable (&self->finder, ef_wal_newest (self->wal), UINT32_MAX);
}

static void
s_close (log_t *self) {
    ef_wal_destroy (&self->wal);
    ef_lookup_free (&self->finder.lookup);
    free (self->finder.record);
}

static void
s_setup (log_t *self, uint64_t seed) {
    memset (self, 0, sizeof *self);
    self->random.state = seed;
    self->disk = sim_disk_new (&self->random);
    self->storage = sim_disk_open (self->disk, "j");
    self->next_n = 1;
    s_open (self);
}

static void
s_teardown (log_t *self) {
    s_close (self);
    ef_buf_free (&self->batch.buf);
    self->storage->destroy (&self->storage);
    sim_disk_destroy (&self->disk);
}

static uint8_t *
s_begin (log_t *self, uint8_t type, uint16_t header, size_t *mark) {
    *mark = ef_record_begin (&self->batch.buf, type, 0, header);
    return self->batch.buf.data + *mark + EF_RECORD_HEAD;
}

static void
s_topic (log_t *self, uint32_t number, const char *name) {
    size_t mark;
    uint8_t *header = s_begin (self, EF_LOG_TOPIC, EF_TOPIC_HEADER, &mark);
    ef_le32_put (header, number);
    header[88] = (uint8_t)strlen (name);
    ef_buf_put (&self->batch.buf, name, strlen (name));
    ef_record_end (&self->batch.buf, mark);
}

/* Events with the ids PREFIX0, PREFIX1, …, or without: the base is then filled with `base`. */
static uint64_t
s_events (log_t *self, uint32_t topic, const char *prefix, uint32_t first, uint32_t count,
          uint8_t base) {
    size_t mark;
    uint64_t n = self->next_n;
    uint8_t *header = s_begin (self, EF_LOG_EVENTS, EF_EVENTS_HEADER, &mark);
    ef_le32_put (header, topic);
    ef_le32_put (header + 4, count);
    ef_le64_put (header + 8, n);
    ef_le64_put (header + 16, 1000 + n);
    memset (header + 24, base, 14);
    size_t index = self->batch.buf.size;
    (void)ef_buf_add (&self->batch.buf, 4 * (size_t)count);
    for (uint32_t i = 0; i < count; i++) {
        size_t before = self->batch.buf.size;
        char id[32];
        snprintf (id, sizeof id, "%s%u", prefix ? prefix : "", first + i);
        ef_put_array (&self->batch.buf, 3);
        ef_put_str (&self->batch.buf, "t");
        ef_put_str (&self->batch.buf, prefix ? id : NULL);
        ef_put_uint (&self->batch.buf, i);
        ef_le32_put (self->batch.buf.data + index + 4 * (size_t)i,
                     (uint32_t)(self->batch.buf.size - before) | (prefix ? 0 : EF_INDEX_NO_ID));
    }
    ef_record_end (&self->batch.buf, mark);
    self->next_n += count;
    return n;
}

static void
s_ends (log_t *self, uint32_t topic, uint64_t n, uint32_t count, uint64_t ms) {
    size_t mark;
    uint8_t *header = s_begin (self, EF_LOG_ENDS, EF_ENDS_HEADER, &mark);
    ef_le64_put (header, ms);
    uint8_t *item = ef_buf_add (&self->batch.buf, EF_ENDS_ITEM);
    ef_le32_put (item, topic);
    ef_le32_put (item + 4, count);
    ef_le64_put (item + 8, n);
    ef_record_end (&self->batch.buf, mark);
}

static void
s_attempt (log_t *self, uint32_t topic, uint64_t n, uint32_t attempts) {
    size_t mark;
    uint8_t *header = s_begin (self, EF_LOG_ATTEMPT, EF_ATTEMPT_HEADER, &mark);
    ef_le32_put (header, topic);
    ef_le32_put (header + 4, attempts);
    ef_le64_put (header + 8, n);
    ef_put_array (&self->batch.buf, 1);
    ef_put_uint (&self->batch.buf, attempts);
    ef_record_end (&self->batch.buf, mark);
}

static void
s_purge (log_t *self, uint32_t topic, uint64_t up_to) {
    size_t mark;
    uint8_t *header = s_begin (self, EF_LOG_PURGE, EF_PURGE_HEADER, &mark);
    ef_le32_put (header, topic);
    ef_le64_put (header + 8, up_to);
    ef_record_end (&self->batch.buf, mark);
}

static void
s_commit (log_t *self, bool roll) {
    ef_batch_t *list[1] = {&self->batch};
    self->batch.roll = roll;
    assert_int_equal (ef_wal_append (self->wal, list, 1), 0);
    ef_finder_durable (&self->finder, self->batch.segment,
                       self->batch.offset + (uint32_t)self->batch.buf.size);
    ef_buf_clear (&self->batch.buf);
}

static ef_question_t *
s_ask_id (log_t *self, const char *id) {
    ef_question_t *question = ef_question_new (EF_FIND_ID);
    question->id_size = (uint32_t)strlen (id);
    memcpy (question->id, id, question->id_size);
    ef_finder_answer (&self->finder, question);
    return question;
}

/* The number of the one event of that id; 0: there is none. */
static uint64_t
s_find (log_t *self, const char *id, ef_state_t *state) {
    ef_question_t *question = s_ask_id (self, id);
    assert_true (question->count <= 1);
    uint64_t n = question->count ? question->items[0].n : 0;
    if (state) {
        *state = question->count ? question->items[0].state : EF_STATE_COUNT;
    }
    ef_question_destroy (&question);
    return n;
}

static void
s_work (log_t *self) {
    ef_finder_durable (&self->finder, ef_wal_newest (self->wal), UINT32_MAX);
    ef_lookup_durable (&self->finder.lookup, ef_wal_newest (self->wal), UINT32_MAX);
    while (ef_lookup_work (&self->finder.lookup, 65536)) {
    }
}

static int
s_open_part (log_t *self, uint32_t segment, uint32_t part, const ef_group_place_t *from) {
    ef_sidecar_t side;
    int rc =
        ef_sidecar_open (&side, self->storage, ef_wal_journal_id (self->wal), segment, part, from);
    if (rc == 0) {
        ef_sidecar_free (&side);
    }
    return rc;
}

/* Three segments: ids in each, ends and attempts in others than their events. */
static void
s_fill (log_t *self) {
    s_topic (self, 7, "t");
    (void)s_events (self, 7, "a", 0, 100, 0);
    (void)s_events (self, 7, NULL, 0, 50, 0xab);
    s_commit (self, true);
    s_topic (self, 3, "t"); /* another start of the broker: other numbers */
    (void)s_events (self, 3, "b", 0, 100, 0);
    s_ends (self, 3, 1, 10, 5000);
    s_ends (self, 3, 11, 10, 5100);
    s_attempt (self, 3, 30, 1);
    s_commit (self, true);
    s_topic (self, 3, "t");
    s_attempt (self, 3, 30, 2);
    s_attempt (self, 3, 151, 1);
    s_purge (self, 3, 60);
    s_commit (self, true);
}

static void
s_judge (log_t *self) {
    ef_state_t state;
    assert_int_equal (s_find (self, "a0", &state), 1);
    assert_int_equal (state, EF_STATE_DONE);
    assert_int_equal (s_find (self, "a19", &state), 20);
    assert_int_equal (state, EF_STATE_DONE);
    assert_int_equal (s_find (self, "a20", &state), 21);
    assert_int_equal (state, EF_STATE_PURGED);
    assert_int_equal (s_find (self, "a99", &state), 100);
    assert_int_equal (state, EF_STATE_READY);
    assert_int_equal (s_find (self, "b99", NULL), 250);
    assert_int_equal (s_find (self, "b100", NULL), 0);
    /* A base id and those that count on from it. */
    assert_int_equal (s_find (self, "abababab-abab-abab-abab-abababab0000", NULL), 101);
    assert_int_equal (s_find (self, "abababab-abab-abab-abab-abababab0031", NULL), 150);
    assert_int_equal (s_find (self, "abababab-abab-abab-abab-abababab0032", NULL), 0);
    assert_int_equal (s_find (self, "abababab-abab-abab-abab-ababab0b0031", NULL), 0);
    ef_question_t *question = s_ask_id (self, "a29");
    assert_int_equal (question->count, 1);
    assert_string_equal (question->items[0].topic, "t");
    assert_int_equal (question->items[0].attempts, 2);
    assert_int_equal (question->items[0].history_count, 2);
    assert_int_equal (question->items[0].accepted_ms, 1001);
    ef_question_destroy (&question);
    question = s_ask_id (self, "a15"); /* ends close in time share one */
    assert_in_range (question->items[0].when_ms, 5000, 5100);
    ef_question_destroy (&question);
}

static void
test_sidecar_says_what_the_segments_say (void **state) {
    (void)state;
    log_t log;
    s_setup (&log, 1);
    s_fill (&log);
    s_judge (&log); /* from memory */
    s_work (&log);
    assert_int_equal (log.finder.lookup.made, 2); /* the newest is still open */
    s_judge (&log);
    s_close (&log);
    s_open (&log); /* from the files */
    s_judge (&log);
    assert_int_equal (log.finder.lookup.made, 0);
    s_teardown (&log);
}

/* Missing, of another journal, or with any of its pages changed: it is made anew. */
static void
test_sidecar_that_is_wrong_is_made_anew (void **state) {
    (void)state;
    for (unsigned round = 0; round < 8; round++) {
        log_t log;
        char name[EF_SIDECAR_NAME_BYTES];
        s_setup (&log, 1 + round);
        s_fill (&log);
        s_work (&log);
        ef_sidecar_name (1, 0, name);
        if (round < 2) {
            assert_int_equal (log.storage->unlink (log.storage, name), 0);
        } else {
            int file = log.storage->open (log.storage, name);
            struct iovec part = {"damage", 6};
            uint64_t at = (round / 2 - 1) * EF_SIDECAR_PAGE + 100;
            assert_int_equal (log.storage->write (log.storage, file, &part, 1, at), 0);
            log.storage->close (log.storage, file);
        }
        if (round % 2) { /* also where it was trusted already */
            s_close (&log);
            s_open (&log);
        }
        s_judge (&log);
        s_work (&log);
        assert_int_equal (s_open_part (&log, 1, 0, NULL), 0);
        s_judge (&log);
        s_teardown (&log);
    }
}

static void
test_sidecar_of_other_bytes_is_not_taken (void **state) {
    (void)state;
    log_t log;
    s_setup (&log, 1);
    s_fill (&log);
    s_work (&log);
    ef_group_place_t from = {EF_SEGMENT_START, 1, 0};
    assert_int_equal (s_open_part (&log, 1, 0, &from), 0);
    from.seq = 2;
    assert_int_equal (s_open_part (&log, 1, 0, &from), -EBADMSG);
    from = (ef_group_place_t){EF_SEGMENT_START, 1, 1};
    assert_int_equal (s_open_part (&log, 1, 0, &from), -EBADMSG);
    char old[EF_SIDECAR_NAME_BYTES];
    char new[EF_SIDECAR_NAME_BYTES];
    ef_sidecar_name (1, 0, old);
    ef_sidecar_name (2, 0, new);
    assert_int_equal (log.storage->rename (log.storage, old, new), 0);
    assert_int_equal (s_open_part (&log, 2, 0, NULL), -EBADMSG);
    assert_int_equal (s_open_part (&log, 1, 0, NULL), -ENOENT);
    s_judge (&log);
    s_teardown (&log);
}

/* Nothing is read that isn't durable, and what is read on joins what was there. */
static void
test_sidecar_open_segment_is_followed_to_the_durable_place (void **state) {
    (void)state;
    log_t log;
    s_setup (&log, 1);
    s_topic (&log, 0, "t");
    (void)s_events (&log, 0, "a", 0, 10, 0);
    s_commit (&log, true);
    assert_int_equal (s_find (&log, "a9", NULL), 10);
    uint64_t durable = atomic_load (&log.finder.durable);
    (void)s_events (&log, 0, "b", 0, 10, 0);
    s_commit (&log, false);
    uint64_t later = atomic_load (&log.finder.durable);
    atomic_store (&log.finder.durable, durable);
    assert_int_equal (s_find (&log, "b9", NULL), 0);
    atomic_store (&log.finder.durable, later);
    assert_int_equal (s_find (&log, "b9", NULL), 20);
    assert_int_equal (s_find (&log, "a9", NULL), 10);
    assert_int_equal (log.finder.lookup.made, 0);
    s_teardown (&log);
}

/* More ids than one part takes, tiny ones, and two that alternate. */
static void
test_sidecar_takes_a_million_ids (void **state) {
    (void)state;
    log_t log;
    s_setup (&log, 1);
    s_topic (&log, 0, "t");
    for (uint32_t first = 0; first < 1200000; first += 50000) {
        (void)s_events (&log, 0, "i", first, 50000, 0);
        s_commit (&log, first == 0);
    }
    s_topic (&log, 0, "t");
    s_commit (&log, true);
    s_work (&log);
    assert_int_equal (log.finder.lookup.made, 2);
    for (uint32_t i = 0; i < 1200000; i += 99991) {
        char id[32];
        snprintf (id, sizeof id, "i%u", i);
        assert_int_equal (s_find (&log, id, NULL), i + 1);
    }
    assert_int_equal (s_find (&log, "i1199999", NULL), 1200000);
    assert_int_equal (s_find (&log, "i1200000", NULL), 0);
    s_teardown (&log);
}

static void
test_sidecar_same_id_many_times_is_bounded (void **state) {
    (void)state;
    log_t log;
    s_setup (&log, 1);
    s_topic (&log, 0, "t");
    for (uint32_t i = 0; i < 3000; i++) {
        (void)s_events (&log, 0, i % 2 ? "same" : "other", 0, 1, 0);
    }
    s_commit (&log, true);
    s_topic (&log, 0, "t");
    s_commit (&log, true);
    s_work (&log);
    ef_question_t *question = s_ask_id (&log, "same0");
    assert_int_equal (question->count, EF_FIND_ITEMS_MAX);
    ef_question_destroy (&question);
    s_teardown (&log);
}

/* A full disk: no sidecars, the same answers; then they are made. */
static void
test_sidecar_waits_for_room (void **state) {
    (void)state;
    log_t log;
    s_setup (&log, 1);
    s_fill (&log);
    atomic_store (&log.finder.is_held, true);
    s_judge (&log);
    assert_int_equal (log.finder.lookup.made, 0);
    atomic_store (&log.finder.is_held, false);
    log.finder.lookup.is_held = false;
    sim_fault_t fault = {.call = SIM_CALL_CREATE, .at = 1, .is_forever = true, .error = ENOSPC};
    sim_disk_fault (log.disk, &fault);
    s_work (&log);
    assert_int_equal (log.finder.lookup.made, 0);
    s_judge (&log);
    sim_disk_fault (log.disk, &(sim_fault_t){0});
    s_work (&log);
    assert_int_equal (log.finder.lookup.made, 2);
    s_judge (&log);
    s_teardown (&log);
}

static bool
s_is_there (log_t *self, const char *name) {
    int file = self->storage->open (self->storage, name);
    if (file >= 0) {
        self->storage->close (self->storage, file);
    }
    return file >= 0;
}

/* What was dropped before anybody looked is known too. */
static void
test_kept_segments_of_a_new_log_are_all_known (void **state) {
    (void)state;
    log_t log;
    ef_kept_t kept;
    s_setup (&log, 1);
    s_fill (&log);
    assert_int_equal (ef_kept_init (&kept, log.storage, 1000, UINT64_MAX, 0), 0);
    assert_int_equal (ef_wal_drop_oldest (log.wal), 0);
    assert_int_equal (ef_wal_drop_oldest (log.wal), 0);
    ef_kept_note (&kept, ef_wal_oldest (log.wal), 100);
    assert_int_equal (kept.count, 2);
    assert_true (ef_kept_give (&kept) && ef_kept_give (&kept));
    assert_false (ef_kept_give (&kept));
    ef_kept_free (&kept);
    s_teardown (&log);
}

/* Segments that the log drops are found for a while; recovery doesn't see them; then they go, and
   their sidecars with them. */
static void
test_kept_segments_go_by_time_and_bytes (void **state) {
    (void)state;
    log_t log;
    char name[24];
    char side[EF_SIDECAR_NAME_BYTES];
    ef_kept_t kept;
    s_setup (&log, 1);
    s_fill (&log);
    assert_int_equal (ef_kept_init (&kept, log.storage, 1000, UINT64_MAX, 0), 0);
    ef_kept_note (&kept, ef_wal_oldest (log.wal), 0);
    assert_int_equal (kept.count, 0);
    assert_int_equal (ef_wal_drop_oldest (log.wal), 0);
    ef_kept_note (&kept, ef_wal_oldest (log.wal), 100);
    assert_int_equal (ef_wal_drop_oldest (log.wal), 0);
    ef_kept_note (&kept, ef_wal_oldest (log.wal), 200);
    assert_int_equal (kept.count, 2);
    s_work (&log);
    s_judge (&log);
    s_close (&log);
    s_open (&log);
    assert_int_equal (ef_wal_oldest (log.wal), 3);
    s_judge (&log);
    assert_int_equal (ef_kept_trim (&kept, 1099), 1100);
    ef_kept_name (1, name);
    ef_sidecar_name (1, 0, side);
    assert_true (s_is_there (&log, name) && s_is_there (&log, side));
    assert_int_equal (ef_kept_trim (&kept, 1100), 1200);
    assert_false (s_is_there (&log, name) || s_is_there (&log, side));
    ef_kept_free (&kept);
    assert_int_equal (ef_kept_init (&kept, log.storage, 1000, UINT64_MAX, 5000), 0);
    assert_int_equal (kept.count, 1); /* a restart finds it, its time begins anew */
    assert_int_equal (ef_kept_trim (&kept, 5999), 6000);
    assert_true (ef_kept_give (&kept)); /* room is wanted */
    assert_false (ef_kept_give (&kept));
    ef_kept_name (2, name);
    assert_false (s_is_there (&log, name));
    ef_kept_free (&kept);
    s_teardown (&log);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_sidecar_says_what_the_segments_say),
        cmocka_unit_test (test_sidecar_that_is_wrong_is_made_anew),
        cmocka_unit_test (test_sidecar_of_other_bytes_is_not_taken),
        cmocka_unit_test (test_sidecar_open_segment_is_followed_to_the_durable_place),
        cmocka_unit_test (test_sidecar_takes_a_million_ids),
        cmocka_unit_test (test_sidecar_same_id_many_times_is_bounded),
        cmocka_unit_test (test_sidecar_waits_for_room),
        cmocka_unit_test (test_kept_segments_of_a_new_log_are_all_known),
        cmocka_unit_test (test_kept_segments_go_by_time_and_bytes),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
