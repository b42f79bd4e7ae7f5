/* Copying what is intact of a journal. SPDX-License-Identifier: MIT */
#include "journal_copy.h"

#include <errno.h>
#include <stdlib.h>

#define GATHER_BYTES (4u << 20)     /* about what one append writes and syncs */
#define GROUP_BYTES  (256ull << 20) /* past it a group's records are written before its end */
#define FILL_BYTES   (3ull << 30)   /* offsets in a segment are 32 bits wide */

void
copy_put (ef_buf_t *out, const ef_record_t *record) {
    uint32_t bytes = EF_RECORD_HEAD + record->body_bytes;
    uint32_t padded = ef_record_padded (bytes);
    uint8_t *at = ef_buf_add (out, padded);
    memcpy (at, record->body - EF_RECORD_HEAD, bytes);
    memset (at + bytes, 0, padded - bytes);
}

static void
s_write (copy_t *self) {
    ef_batch_t *batch = &self->batch;
    if (batch->buf.size > 0 && self->error == 0) {
        self->fill = batch->roll ? 0 : self->fill;
        self->fill += batch->buf.size;
        self->error = self->fill > FILL_BYTES ? -EFBIG : ef_wal_append (self->wal, &batch, 1);
    }
    ef_buf_clear (&batch->buf);
    batch->roll = false;
}

static void
s_tell_skipped (copy_t *self, const ef_record_t *record, const char *why) {
    self->skipped++;
    if (self->journal->is_quiet) {
        return;
    }
    line_t line;
    line_begin (&line, self->journal->cli->json, self->losses.place->label);
    if (line.is_json) {
        line_text (&line, "finding", "skipped", 7);
        line_uint (&line, "segment", record->segment);
        line_uint (&line, "offset", record->offset);
        line_uint (&line, "bytes", record->body_bytes + EF_RECORD_HEAD);
        line_text (&line, "text", why, strlen (why));
    } else {
        char text[240];
        snprintf (text, sizeof text, ": segment %u offset %u, %u bytes: skipped: %s",
                  record->segment, record->offset, record->body_bytes + EF_RECORD_HEAD, why);
        line_raw (&line, text);
    }
    line_print (&line, stdout);
}

/* The group under way goes over. */
static void
s_end_group (copy_t *self, bool has_commit) {
    if (self->count > 0 && has_commit && self->is_first && !self->is_holed) {
        s_write (self);
        self->batch.roll = true;
    }
    for (uint32_t i = 0; i < self->count; i++) {
        ef_record_t *record = &self->records[i];
        record->body = self->group.data + self->places[i] + EF_RECORD_HEAD;
        const char *why = self->take (self->arg, record, &self->batch.buf);
        if (why) {
            s_tell_skipped (self, record, why);
        } else {
            self->copied++;
        }
    }
    self->count = 0;
    ef_buf_clear (&self->group);
    if (self->batch.buf.size > GATHER_BYTES) {
        s_write (self);
    }
}

static int
s_record (void *arg, const ef_record_t *record, uint64_t seq) {
    copy_t *self = arg;
    losses_record (&self->losses, record);
    if (self->count > 0 && seq != self->seq) {
        s_end_group (self,
                     false); /* its commit is lost, but later groups tell that it was synced */
    }
    if (record->type == EF_RECORD_COMMIT) {
        s_end_group (self, true);
        return self->error;
    }
    if (self->count == 0) {
        self->seq = seq;
        self->is_first = record->offset == EF_SEGMENT_START;
        self->is_holed = false;
    }
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 256;
        self->records = realloc (self->records, self->capacity * sizeof *self->records);
        self->places = realloc (self->places, self->capacity * sizeof *self->places);
        ef_assert (self->records != NULL && self->places != NULL);
    }
    self->places[self->count] = self->group.size;
    self->records[self->count] = *record;
    self->records[self->count++].body = NULL;
    copy_put (&self->group, record);
    if (self->group.size > GROUP_BYTES) {
        s_end_group (self, false);
    }
    return self->error;
}

static void
s_finding (void *arg, const ef_finding_t *finding) {
    copy_t *self = arg;
    losses_finding (&self->losses, finding);
    if (finding->kind == EF_FINDING_TORN) {
        self->count = 0;
        ef_buf_clear (&self->group);
    } else if (ef_finding_is_loss (finding->kind)) {
        self->is_holed = true;
    }
}

static void
s_progress (void *arg, uint64_t done, uint64_t total) {
    copy_t *self = arg;
    journal_progress (self->journal, done, total);
}

static int
s_nothing (void *arg, const ef_record_t *record) {
    (void)arg;
    (void)record;
    return -1; /* a new journal holds no record */
}

static int
s_create (copy_t *self, const char *path) {
    int error;
    ef_wal_options_t options = journal_wal_options ();
    ef_wal_report_t report = {.error = 0};
    self->storage = ef_storage_new (path, &error);
    self->wal =
        self->storage ? ef_wal_open (self->storage, &options, s_nothing, NULL, &report) : NULL;
    if (self->wal == NULL) {
        return cli_fail (CLI_FAILED, "%s: %s", path,
                         self->storage ? report.text : strerror (error));
    }
    return CLI_OK;
}

int
copy_run (copy_t *self, journal_t *journal, const place_t *place, const char *path) {
    self->journal = journal;
    losses_init (&self->losses, journal, place);
    int rc = s_create (self, path);
    ef_storage_t *storage = rc ? NULL : journal_storage (place);
    if (storage == NULL) {
        return CLI_FAILED;
    }
    journal->progress_label = place->label;
    ef_scan_t scan = {
        .record = s_record, .finding = s_finding, .progress = s_progress, .arg = self};
    ef_scan_report_t report;
    rc = ef_scan (storage, &scan, &report);
    storage->destroy (&storage);
    if (rc) {
        return cli_fail (CLI_FAILED, "%s: %s", place->path, strerror (-rc));
    }
    s_end_group (self, false); /* the last one of a sealed segment whose commit is lost */
    s_write (self);
    if (self->error) {
        return cli_fail (CLI_FAILED, "%s: it can't be written: %s", path, strerror (-self->error));
    }
    return report.is_newer ? CLI_FAILED : CLI_OK;
}

int
copy_append (copy_t *self, const ef_buf_t *records) {
    ef_buf_put (&self->batch.buf, records->data, records->size);
    s_write (self);
    return self->error
               ? cli_fail (CLI_FAILED, "the copy can't be written: %s", strerror (-self->error))
               : CLI_OK;
}

bool
copy_has_losses (const copy_t *self) {
    return self->losses.damage > 0 || self->skipped > 0;
}

void
copy_free (copy_t *self) {
    if (self->losses.map.names) {
        losses_free (&self->losses);
    }
    ef_wal_destroy (&self->wal);
    if (self->storage) {
        self->storage->destroy (&self->storage);
    }
    ef_buf_free (&self->batch.buf);
    ef_buf_free (&self->group);
    free (self->records);
    free (self->places);
}
