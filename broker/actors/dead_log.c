/* The dead letters of one topic. SPDX-License-Identifier: MIT */
#include "dead_log.h"
#include "../../proto/limits.h"
#include "../base/hash.h"

#include <errno.h>
#include <stdlib.h>

enum { LETTER = 2, LEAVING, LEFT, STATE };
#define LETTER_HEADER  48
#define LEAVING_HEADER 16
#define SEGMENT_BYTES  (1u << 20) /* unless the options say otherwise */

struct ef_dead_log_s {
    ef_storage_t *storage; /* owned */
    ef_wal_t *wal;         /* owned */
    ef_letter_t *letters;  /* owned, by m */
    uint32_t count;
    uint32_t capacity;
    uint64_t highest_m;
    uint64_t highest_b;
    ef_leaving_t *leaving; /* owned, by b */
    uint32_t leaving_count;
    ef_batch_t batch;    /* the group under way */
    uint64_t *placed;    /* owned: m of the letters in it, in order, to be given their place */
    uint32_t *placed_at; /* owned: where each begins in the batch */
    uint32_t placed_count;
    uint32_t placed_capacity;
    uint64_t segment_bytes;
    bool has_left; /* letters left: a segment may hold none any more */
    uint64_t fill; /* bytes in the newest segment */
};

uint32_t
ef_dead_log_seek (const ef_dead_log_t *self, uint64_t m) {
    uint32_t low = 0;
    uint32_t high = self->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (self->letters[middle].m < m) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static ef_letter_t *
s_find (ef_dead_log_t *self, uint64_t m) {
    uint32_t at = ef_dead_log_seek (self, m);
    return at < self->count && self->letters[at].m == m ? &self->letters[at] : NULL;
}

static ef_letter_t *
s_insert (ef_dead_log_t *self, uint64_t m) {
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 64;
        self->letters = realloc (self->letters, self->capacity * sizeof *self->letters);
        ef_assert (self->letters != NULL);
    }
    uint32_t at = ef_dead_log_seek (self, m);
    memmove (self->letters + at + 1, self->letters + at,
             (self->count - at) * sizeof *self->letters);
    memset (&self->letters[at], 0, sizeof *self->letters);
    self->letters[at].m = m;
    self->count++;
    return &self->letters[at];
}

/* Who makes ids collide makes people wait, and finds what is theirs all the same: no secret key. */
uint64_t
ef_dead_log_print (const void *id, size_t size) {
    static const uint64_t key[2] = {1, 2};
    return ef_siphash (key, id, size);
}

static uint64_t
s_print (const void *bytes, size_t size) {
    ef_cursor_t cursor = ef_cursor (bytes, size);
    uint32_t fields;
    ef_span_t id;
    bool has_id = ef_get_array (&cursor, &fields) == 0 && ef_skip (&cursor) == 0 &&
                  ef_get_bytes (&cursor, &id) == 0;
    return has_id ? ef_dead_log_print (id.data, id.size) : 0;
}

static void
s_read_header (ef_letter_t *letter, const uint8_t *header) {
    letter->m = ef_le64 (header);
    letter->n = ef_le64 (header + 8);
    letter->dead_ms = ef_le64 (header + 24);
    letter->attempts = ef_le32 (header + 32);
    letter->bytes = ef_le32 (header + 36) + ef_le32 (header + 40) + header[45];
    letter->reason = header[44];
    letter->is_superseded = header[45] > 0;
}

static void
s_drop_leaving (ef_dead_log_t *self, uint32_t at) {
    ef_leaving_t *leaving = &self->leaving[at];
    for (uint32_t i = 0; i < leaving->count; i++) {
        ef_letter_t *letter = s_find (self, leaving->m[i]);
        if (letter) {
            letter->is_gone = true;
        }
    }
    uint32_t kept = leaving->count ? ef_dead_log_seek (self, leaving->m[0]) : self->count;
    for (uint32_t i = kept; i < self->count; i++) {
        if (!self->letters[i].is_gone) {
            self->letters[kept++] = self->letters[i];
        }
    }
    self->count = kept;
    free (leaving->m);
    self->leaving_count--;
    memmove (leaving, leaving + 1, (self->leaving_count - at) * sizeof *leaving);
}

static void
s_drop_b (ef_dead_log_t *self, uint64_t b) {
    for (uint32_t i = 0; i < self->leaving_count; i++) {
        if (self->leaving[i].b == b) {
            s_drop_leaving (self, i);
            return;
        }
    }
}

static void
s_mark_leaving (ef_dead_log_t *self, const ef_leaving_t *leaving) {
    for (uint32_t i = 0; i < leaving->count; i++) {
        ef_letter_t *letter = s_find (self, leaving->m[i]);
        if (letter) {
            letter->is_leaving = true;
        }
    }
}

static void
s_note_leaving (ef_dead_log_t *self, uint64_t b, bool purge, const uint8_t *list, uint32_t count) {
    self->leaving = realloc (self->leaving, (self->leaving_count + 1) * sizeof *self->leaving);
    uint64_t *m = malloc ((count ? count : 1) * sizeof *m);
    ef_assert (self->leaving != NULL && m != NULL);
    for (uint32_t i = 0; i < count; i++) {
        m[i] = ef_le64 (list + 8 * i);
    }
    self->leaving[self->leaving_count++] = (ef_leaving_t){b, purge, count, m};
    s_mark_leaving (self, &self->leaving[self->leaving_count - 1]);
    self->highest_b = b > self->highest_b ? b : self->highest_b;
}

static bool
s_is_leaving (const ef_dead_log_t *self, uint64_t b) {
    for (uint32_t i = 0; i < self->leaving_count; i++) {
        if (self->leaving[i].b == b) {
            return true;
        }
    }
    return false;
}

static int
s_replay (void *arg, const ef_record_t *record) {
    ef_dead_log_t *self = arg;
    const uint8_t *header = record->body;
    switch (record->type) {
    case LETTER: {
        if (record->body_bytes < LETTER_HEADER) {
            return -1;
        }
        uint64_t m = ef_le64 (header);
        ef_letter_t *letter = s_find (self, m);
        letter = letter ? letter : s_insert (self, m);
        s_read_header (letter, header);
        uint32_t left = record->body_bytes - LETTER_HEADER;
        uint32_t event = ef_le32 (header + 36);
        letter->print = s_print (header + LETTER_HEADER, event < left ? event : left);
        letter->segment = record->segment;
        letter->offset = record->offset;
        self->highest_m = m > self->highest_m ? m : self->highest_m;
        return 0;
    }
    case LEAVING: {
        uint32_t count = record->body_bytes >= LEAVING_HEADER ? ef_le32 (header + 12) : UINT32_MAX;
        if (record->body_bytes < LEAVING_HEADER + 8ull * count) {
            return -1;
        }
        if (s_is_leaving (self, ef_le64 (header))) {
            return 0; /* noted again at the start of a segment */
        }
        s_note_leaving (self, ef_le64 (header), header[8], header + record->header_bytes, count);
        return 0;
    }
    case LEFT:
        if (record->body_bytes < 8) {
            return -1;
        }
        s_drop_b (self, ef_le64 (header));
        return 0;
    case STATE:
        if (record->body_bytes < 16) {
            return -1;
        }
        self->highest_m = ef_le64 (header) > self->highest_m ? ef_le64 (header) : self->highest_m;
        self->highest_b =
            ef_le64 (header + 8) > self->highest_b ? ef_le64 (header + 8) : self->highest_b;
        return 0;
    default: return -1;
    }
}

ef_dead_log_t *
ef_dead_log_new (ef_storage_t *storage, const ef_wal_options_t *options, ef_wal_report_t *report) {
    ef_dead_log_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    ef_wal_options_t own = *options;
    self->segment_bytes = options->segment_bytes ? options->segment_bytes : SEGMENT_BYTES;
    own.segment_bytes = self->segment_bytes;
    own.spares = NULL; /* all that is the main journal's */
    own.keeps_dropped = false;
    own.from_segment = 0;
    own.progress = NULL;
    self->storage = storage;
    self->fill = UINT64_MAX;
    self->wal = ef_wal_open (storage, &own, s_replay, self, report);
    if (self->wal == NULL) {
        ef_dead_log_destroy (&self);
        return NULL;
    }
    /* A letter that compaction wrote once more may stand behind the note that it leaves. */
    for (uint32_t i = 0; i < self->leaving_count; i++) {
        s_mark_leaving (self, &self->leaving[i]);
    }
    return self;
}

void
ef_dead_log_destroy (ef_dead_log_t **self_p) {
    ef_dead_log_t *self = *self_p;
    if (self == NULL) {
        return;
    }
    for (uint32_t i = 0; i < self->leaving_count; i++) {
        free (self->leaving[i].m);
    }
    ef_wal_destroy (&self->wal);
    self->storage->destroy (&self->storage);
    ef_buf_free (&self->batch.buf);
    free (self->leaving);
    free (self->letters);
    free (self->placed);
    free (self->placed_at);
    free (self);
    *self_p = NULL;
}

static void
s_write_leaving (ef_buf_t *buf, const ef_leaving_t *leaving) {
    size_t mark = ef_record_begin (buf, LEAVING, 0, LEAVING_HEADER);
    uint8_t *header = buf->data + mark + EF_RECORD_HEAD;
    ef_le64_put (header, leaving->b);
    header[8] = leaving->purge;
    ef_le32_put (header + 12, leaving->count);
    for (uint32_t i = 0; i < leaving->count; i++) {
        ef_le64_put (ef_buf_add (buf, 8), leaving->m[i]);
    }
    ef_record_end (buf, mark);
}

/* The group's buffer; a new segment begins with what older ones may lose. */
static ef_buf_t *
s_buf (ef_dead_log_t *self) {
    ef_buf_t *buf = &self->batch.buf;
    if (buf->size == 0 && self->fill >= self->segment_bytes) {
        self->batch.roll = true;
        self->fill = 0;
        size_t mark = ef_record_begin (buf, STATE, 0, 16);
        ef_le64_put (buf->data + mark + EF_RECORD_HEAD, self->highest_m);
        ef_le64_put (buf->data + mark + EF_RECORD_HEAD + 8, self->highest_b);
        ef_record_end (buf, mark);
        for (uint32_t i = 0; i < self->leaving_count; i++) {
            s_write_leaving (buf, &self->leaving[i]);
        }
    }
    return buf;
}

static void
s_place_later (ef_dead_log_t *self, uint64_t m, size_t at) {
    if (self->placed_count == self->placed_capacity) {
        self->placed_capacity = self->placed_capacity ? 2 * self->placed_capacity : 64;
        self->placed = realloc (self->placed, self->placed_capacity * sizeof *self->placed);
        self->placed_at = realloc (self->placed_at, self->placed_capacity * sizeof (uint32_t));
        ef_assert (self->placed != NULL && self->placed_at != NULL);
    }
    self->placed[self->placed_count] = m;
    self->placed_at[self->placed_count++] = (uint32_t)at;
}

static void
s_write_letter (ef_dead_log_t *self, const uint8_t *header, const ef_letter_body_t *body) {
    ef_buf_t *buf = s_buf (self);
    size_t mark = ef_record_begin (buf, LETTER, 0, LETTER_HEADER);
    memcpy (buf->data + mark + EF_RECORD_HEAD, header, LETTER_HEADER);
    ef_buf_put (buf, body->event.data, body->event.size);
    ef_buf_put (buf, body->history.data, body->history.size);
    ef_buf_put (buf, body->superseded.data, body->superseded.size);
    ef_record_end (buf, mark);
    s_place_later (self, ef_le64 (header), mark);
}

void
ef_dead_log_add (ef_dead_log_t *self, const ef_dead_t *dead) {
    if (dead->m <= self->highest_m) {
        return;
    }
    uint8_t header[LETTER_HEADER] = {0};
    ef_le64_put (header, dead->m);
    ef_le64_put (header + 8, dead->n);
    ef_le64_put (header + 16, dead->accepted_ms);
    ef_le64_put (header + 24, dead->dead_ms);
    ef_le32_put (header + 32, dead->attempts);
    ef_le32_put (header + 36, dead->event.size);
    ef_le32_put (header + 40, dead->history.size);
    header[44] = (uint8_t)dead->reason;
    ef_letter_t *letter = s_insert (self, dead->m);
    s_read_header (letter, header);
    letter->print = s_print (dead->event.data, dead->event.size);
    const ef_letter_body_t body = {.event = dead->event, .history = dead->history};
    s_write_letter (self, header, &body);
    self->highest_m = dead->m;
}

int
ef_dead_log_supersede (ef_dead_log_t *self, uint64_t m, ef_span_t id) {
    ef_letter_t *letter = s_find (self, m);
    ef_letter_body_t body;
    ef_assert (letter && letter->segment != 0 && !letter->is_leaving);
    ef_assert (id.size > 0 && id.size <= EF_ID_MAX);
    if (ef_dead_log_read (self, letter, &body)) {
        return -1;
    }
    uint8_t *header = body.bytes + EF_RECORD_HEAD;
    header[45] = (uint8_t)id.size;
    body.superseded = id;
    s_read_header (letter, header);
    s_write_letter (self, header, &body);
    free (body.bytes);
    return 0;
}

uint64_t
ef_dead_log_leave (ef_dead_log_t *self, const uint64_t *m, uint32_t count, bool purge) {
    ef_buf_t list = {0};
    for (uint32_t i = 0; i < count; i++) {
        ef_letter_t *letter = s_find (self, m[i]);
        ef_assert (letter != NULL && !letter->is_leaving);
        ef_le64_put (ef_buf_add (&list, 8), m[i]);
    }
    ef_buf_t *buf = s_buf (self);
    s_note_leaving (self, self->highest_b + 1, purge, list.data, count);
    s_write_leaving (buf, &self->leaving[self->leaving_count - 1]);
    ef_buf_free (&list);
    return self->highest_b;
}

void
ef_dead_log_left (ef_dead_log_t *self, uint64_t b) {
    ef_buf_t *buf = s_buf (self);
    size_t mark = ef_record_begin (buf, LEFT, 0, 8);
    ef_le64_put (buf->data + mark + EF_RECORD_HEAD, b);
    ef_record_end (buf, mark);
    s_drop_b (self, b);
    self->has_left = true;
}

/* Segments from the oldest end that hold no letter go. */
static int
s_trim (ef_dead_log_t *self) {
    int rc = 0;
    while (rc == 0 && ef_wal_oldest (self->wal) + 1 < ef_wal_newest (self->wal)) {
        for (uint32_t i = 0; i < self->count; i++) {
            if (self->letters[i].segment == ef_wal_oldest (self->wal)) {
                return 0;
            }
        }
        rc = ef_wal_drop_oldest (self->wal);
    }
    return rc;
}

/* Appends the group under way and gives its letters their places. */
static int
s_append (ef_dead_log_t *self) {
    ef_batch_t *batch = &self->batch;
    int rc = ef_wal_append (self->wal, &batch, 1);
    if (ef_storage_is_full (rc)) {
        return rc;
    }
    for (uint32_t i = 0; rc == 0 && i < self->placed_count; i++) {
        ef_letter_t *letter = s_find (self, self->placed[i]);
        if (letter) {
            letter->segment = batch->segment;
            letter->offset = batch->offset + self->placed_at[i];
        }
    }
    self->fill += batch->buf.size;
    self->placed_count = 0;
    batch->roll = false;
    if (batch->buf.capacity > SEGMENT_BYTES) {
        ef_buf_free (&batch->buf);
    }
    ef_buf_clear (&batch->buf);
    return rc;
}

/* One old letter mustn't keep all that came and went behind it: with more than twice the bytes of
   the letters and four segments on disk, those of the oldest segment are written once more. */
static int
s_compact (ef_dead_log_t *self) {
    uint32_t oldest = ef_wal_oldest (self->wal);
    uint64_t kept = 4 * self->segment_bytes;
    for (uint32_t i = 0; i < self->count; i++) {
        kept += 2ull * (self->letters[i].bytes + EF_RECORD_HEAD + LETTER_HEADER);
    }
    if ((uint64_t)(ef_wal_newest (self->wal) - oldest + 1) * self->segment_bytes <= kept) {
        return 0;
    }
    for (uint32_t i = 0; i < self->count; i++) {
        ef_letter_body_t body;
        if (self->letters[i].segment != oldest) {
            continue;
        }
        if (ef_dead_log_read (self, &self->letters[i], &body)) {
            return -EIO;
        }
        s_write_letter (self, body.bytes + EF_RECORD_HEAD, &body);
        free (body.bytes);
    }
    int rc = self->batch.buf.size ? s_append (self) : 0;
    return rc ? rc : s_trim (self);
}

int
ef_dead_log_commit (ef_dead_log_t *self) {
    if (self->batch.buf.size == 0) {
        return 0;
    }
    bool rolls = self->batch.roll;
    int rc = s_append (self);
    if (rc == 0 && (rolls || self->has_left)) {
        self->has_left = false;
        rc = s_trim (self);
    }
    return rc || !rolls ? rc : s_compact (self);
}

uint64_t
ef_dead_log_highest (const ef_dead_log_t *self) {
    return self->highest_m;
}

uint32_t
ef_dead_log_count (const ef_dead_log_t *self) {
    return self->count;
}

const ef_letter_t *
ef_dead_log_at (const ef_dead_log_t *self, uint32_t index) {
    ef_assert (index < self->count);
    return &self->letters[index];
}

uint32_t
ef_dead_log_leaving_count (const ef_dead_log_t *self) {
    return self->leaving_count;
}

const ef_leaving_t *
ef_dead_log_leaving (const ef_dead_log_t *self, uint32_t index) {
    ef_assert (index < self->leaving_count);
    return &self->leaving[index];
}

/* Reads and checks one record. */
static uint8_t *
s_read_record (ef_storage_t *storage, const ef_letter_t *letter, int file) {
    uint8_t head[EF_RECORD_HEAD];
    if (storage->read (storage, file, head, sizeof head, letter->offset) != sizeof head) {
        return NULL;
    }
    uint32_t bytes = ef_le32 (head);
    if (bytes < EF_RECORD_HEAD + LETTER_HEADER || bytes > EF_RECORD_MAX) {
        return NULL;
    }
    /* The checksum covers the place, so the record is looked at as if the segment began before it.
     */
    uint8_t *record = malloc (bytes);
    ef_assert (record != NULL);
    if (storage->read (storage, file, record, bytes, letter->offset) != (int64_t)bytes ||
        !ef_record_is_whole (record, bytes, letter->segment, letter->offset)) {
        free (record);
        return NULL;
    }
    return record;
}

int
ef_dead_log_read (ef_dead_log_t *self, const ef_letter_t *letter, ef_letter_body_t *body) {
    char name[24];
    ef_wal_segment_name (letter->segment, name);
    int file = self->storage->open (self->storage, name);
    uint8_t *record = file < 0 ? NULL : s_read_record (self->storage, letter, file);
    if (file >= 0) {
        self->storage->close (self->storage, file);
    }
    if (record == NULL) {
        return -1;
    }
    const uint8_t *header = record + EF_RECORD_HEAD;
    uint32_t event = ef_le32 (header + 36);
    uint32_t history = ef_le32 (header + 40);
    uint32_t id = header[45];
    if ((uint64_t)EF_RECORD_HEAD + LETTER_HEADER + event + history + id > ef_le32 (record)) {
        free (record);
        return -1;
    }
    body->letter = *letter;
    body->accepted_ms = ef_le64 (header + 16);
    body->event = (ef_span_t){(const char *)header + LETTER_HEADER, event};
    body->history = (ef_span_t){(const char *)header + LETTER_HEADER + event, history};
    body->superseded = (ef_span_t){(const char *)header + LETTER_HEADER + event + history, id};
    body->bytes = record;
    return 0;
}
