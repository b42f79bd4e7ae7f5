/* Copying a dead-letter journal. SPDX-License-Identifier: MIT

   A move back (LEAVING) may name just letters that are there: the broker reads each of them. So a
   LEAVING loses those that are lost. It is kept even where none is left, for the numbers of moves
   must go on: the main journal drops a move whose number it has seen. */
#include "journal_copy.h"

#include <errno.h>
#include <stdlib.h>

typedef struct {
    copy_t copy;
    uint64_t *m; /* owned, ascending: the letters copied */
    uint32_t count;
    uint32_t capacity;
    uint64_t highest_m;
    uint64_t highest_b;
} dead_t;

/* Where m stands or would stand. */
static uint32_t
s_seek (const dead_t *self, uint64_t m) {
    uint32_t low = 0;
    uint32_t high = self->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (self->m[middle] < m) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool
s_is_here (const dead_t *self, uint64_t m) {
    uint32_t at = s_seek (self, m);
    return at < self->count && self->m[at] == m;
}

static void
s_note (dead_t *self, uint64_t m) {
    uint32_t at = s_seek (self, m);
    if (at < self->count && self->m[at] == m) {
        return;
    }
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 256;
        self->m = realloc (self->m, self->capacity * sizeof *self->m);
        ef_assert (self->m != NULL);
    }
    memmove (self->m + at + 1, self->m + at, (self->count - at) * sizeof *self->m);
    self->m[at] = m;
    self->count++;
}

static void
s_put_state (ef_buf_t *out, uint64_t highest_m, uint64_t highest_b) {
    size_t mark = ef_record_begin (out, DEAD_STATE, 0, DEAD_STATE_HEADER);
    ef_le64_put (out->data + mark + EF_RECORD_HEAD, highest_m);
    ef_le64_put (out->data + mark + EF_RECORD_HEAD + 8, highest_b);
    ef_record_end (out, mark);
}

static const char *
s_take_letter (dead_t *self, const ef_record_t *record, ef_buf_t *out) {
    const uint8_t *body = record->body;
    if (record->body_bytes < DEAD_LETTER_HEADER ||
        record->body_bytes <
            DEAD_LETTER_HEADER + (uint64_t)ef_le32 (body + 36) + ef_le32 (body + 40) + body[45]) {
        return "a letter that is longer than its record";
    }
    uint64_t m = ef_le64 (body);
    s_note (self, m);
    self->highest_m = m > self->highest_m ? m : self->highest_m;
    copy_put (out, record);
    return NULL;
}

static const char *
s_take_leaving (dead_t *self, const ef_record_t *record, ef_buf_t *out) {
    const uint8_t *body = record->body;
    uint32_t count = record->body_bytes >= DEAD_LEAVING_HEADER ? ef_le32 (body + 12) : UINT32_MAX;
    if (record->body_bytes < record->header_bytes + 8ull * count ||
        record->header_bytes < DEAD_LEAVING_HEADER) {
        return "a list of letters that is longer than its record";
    }
    uint64_t b = ef_le64 (body);
    uint32_t kept = 0;
    size_t mark = ef_record_begin (out, DEAD_LEAVING, record->flags, DEAD_LEAVING_HEADER);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t m = ef_le64 (body + record->header_bytes + 8ull * i);
        if (s_is_here (self, m)) {
            ef_le64_put (ef_buf_add (out, 8), m);
            kept++;
        }
    }
    uint8_t *header = out->data + mark + EF_RECORD_HEAD;
    ef_le64_put (header, b);
    header[8] = body[8];
    ef_le32_put (header + 12, kept);
    ef_record_end (out, mark);
    self->highest_b = b > self->highest_b ? b : self->highest_b;
    return NULL;
}

static const char *
s_take (void *arg, const ef_record_t *record, ef_buf_t *out) {
    dead_t *self = arg;
    switch (record->type) {
    case DEAD_LETTER: return s_take_letter (self, record, out);
    case DEAD_LEAVING: return s_take_leaving (self, record, out);
    case DEAD_LEFT:
        if (record->body_bytes < 8) {
            return "a record that is shorter than its type asks for";
        }
        break;
    case DEAD_STATE:
        if (record->body_bytes < DEAD_STATE_HEADER) {
            return "a record that is shorter than its type asks for";
        }
        if (ef_le64 (record->body + 8) > self->highest_b) {
            self->highest_b = ef_le64 (record->body + 8);
        }
        break;
    default: return "no record of a dead-letter journal";
    }
    copy_put (out, record);
    return NULL;
}

/* Opens the copy as the broker will and counts what is in it. */
static int
s_check (const char *path, uint64_t taken_b, dead_copy_t *result) {
    int error;
    ef_storage_t *storage = ef_storage_read_new (path, &error);
    if (storage == NULL) {
        return cli_fail (CLI_FAILED, "%s: %s", path, strerror (error));
    }
    ef_wal_report_t report;
    ef_wal_options_t options = journal_wal_options ();
    ef_dead_log_t *log = ef_dead_log_new (storage, &options, &report);
    if (log == NULL) {
        return cli_fail (CLI_FAILED, "%s: the copy doesn't open: %s", path, report.text);
    }
    result->letters = ef_dead_log_count (log);
    result->highest_m = ef_dead_log_highest (log);
    for (uint32_t i = 0; i < ef_dead_log_leaving_count (log); i++) {
        const ef_leaving_t *leaving = ef_dead_log_leaving (log, i);
        result->letters -= leaving->b <= taken_b ? leaving->count : 0; /* taken back already */
    }
    ef_dead_log_destroy (&log);
    return CLI_OK;
}

int
copy_dead (journal_t *journal, const place_t *place, const char *path, uint64_t taken_b,
           dead_copy_t *result) {
    dead_t self = {.copy = {.take = s_take}};
    self.copy.arg = &self;
    int rc = copy_run (&self.copy, journal, place, path);
    result->has_losses = copy_has_losses (&self.copy);
    if (rc == CLI_OK && (result->has_losses || self.highest_b < taken_b)) {
        ef_buf_t state = {0};
        s_put_state (&state, self.highest_m, self.highest_b > taken_b ? self.highest_b : taken_b);
        rc = copy_append (&self.copy, &state);
        ef_buf_free (&state);
    }
    copy_free (&self.copy);
    free (self.m);
    return rc ? rc : s_check (path, taken_b, result);
}

int
copy_dead_new (const char *path, uint64_t taken_b) {
    int error;
    ef_storage_t *storage = ef_storage_new (path, &error);
    if (storage == NULL) {
        return cli_fail (CLI_FAILED, "%s: %s", path, strerror (error));
    }
    ef_wal_options_t options = journal_wal_options ();
    ef_wal_report_t report;
    ef_batch_t batch = {.roll = true};
    ef_batch_t *list[1] = {&batch};
    ef_wal_t *wal = ef_wal_open (storage, &options, NULL, NULL, &report);
    s_put_state (&batch.buf, 0, taken_b);
    int rc = wal ? ef_wal_append (wal, list, 1) : -report.error;
    ef_wal_destroy (&wal);
    ef_buf_free (&batch.buf);
    storage->destroy (&storage);
    return rc ? cli_fail (CLI_FAILED, "%s: it can't be written: %s", path, strerror (-rc)) : CLI_OK;
}
