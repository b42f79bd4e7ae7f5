/* Making a sidecar: what records say, sorted, written. SPDX-License-Identifier: MIT */
#include "../../proto/event.h"
#include "../base/crc32c.h"
#include "../base/hash.h"
#include "../core/log_records.h"
#include "sidecar_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define JOIN_MS     1000   /* ends so close in time are one fact */
#define BUCKET_BITS 16     /* ids are dealt out by so many bits before they are sorted */
#define WRITE_PAGES 64     /* at a time */
#define UNFINISHED  ".new" /* removed at a start, as unfinished spares are */

uint64_t
ef_sidecar_print (const uint8_t journal_id[16], const void *id, size_t size) {
    uint64_t key[2] = {ef_le64 (journal_id), ef_le64 (journal_id + 8)};
    return ef_siphash (key, id, size);
}

uint64_t
ef_sidecar_base_print (const uint8_t journal_id[16], const uint8_t base[16]) {
    uint64_t key[2] = {~ef_le64 (journal_id), ef_le64 (journal_id + 8)};
    return ef_siphash (key, base, 14);
}

void
ef_sidecar_begin (ef_sidecar_t *self, const uint8_t journal_id[16], uint32_t segment, uint32_t part,
                  const ef_group_place_t *from, ef_sidecar_t *before) {
    memset (self, 0, sizeof *self);
    memcpy (self->journal_id, journal_id, 16);
    self->segment = segment;
    self->part = part;
    self->from = self->to = *from;
    self->first_ms = UINT64_MAX;
    self->file = -1;
    if (before && before->topic_count > 0) {
        self->topic_count = self->topic_capacity = before->topic_count;
        self->topics = malloc (self->topic_capacity * sizeof *self->topics);
        ef_assert (self->topics != NULL);
        for (uint32_t i = 0; i < before->topic_count; i++) {
            ef_sidecar_topic_at (before, i, &self->topics[i]);
        }
    }
}

static void *
s_grow (void *items, uint32_t count, uint32_t *capacity, size_t bytes) {
    if (count < *capacity) {
        return items;
    }
    *capacity = *capacity ? 2 * *capacity : 64;
    items = realloc (items, *capacity * bytes);
    ef_assert (items != NULL);
    return items;
}

static void
s_add_topic (ef_sidecar_t *self, const ef_record_t *record) {
    if (record->header_bytes < EF_TOPIC_HEADER_1) {
        return;
    }
    uint32_t size = record->body[88];
    uint32_t number = ef_le32 (record->body);
    ef_sidecar_topic_t topic = {.number = number};
    if (size >= sizeof topic.name || record->header_bytes + size > record->body_bytes) {
        return;
    }
    memcpy (topic.name, record->body + record->header_bytes, size);
    for (uint32_t i = 0; i < self->topic_count; i++) {
        if (self->topics[i].number == number) {
            self->topics[i] = topic;
            return;
        }
    }
    self->topics =
        s_grow (self->topics, self->topic_count, &self->topic_capacity, sizeof *self->topics);
    self->topics[self->topic_count++] = topic;
}

static void
s_add_id (ef_sidecar_t *self, uint64_t print, uint32_t offset, uint32_t index) {
    self->ids = s_grow (self->ids, self->id_count, &self->id_capacity, sizeof *self->ids);
    self->ids[self->id_count++] = (ef_sidecar_id_t){print, offset, index};
}

static void
s_add_fact (ef_sidecar_t *self, ef_fact_t fact) {
    self->facts = s_grow (self->facts, self->fact_count, &self->fact_capacity, sizeof *self->facts);
    self->facts[self->fact_count++] = fact;
}

static void
s_note_time (ef_sidecar_t *self, uint64_t ms) {
    self->first_ms = ms < self->first_ms ? ms : self->first_ms;
    self->last_ms = ms > self->last_ms ? ms : self->last_ms;
}

/* The id of an event of its own; nothing where it has none. */
static void
s_add_event_id (ef_sidecar_t *self, const uint8_t *event, uint32_t bytes, uint32_t offset,
                uint32_t index) {
    ef_cursor_t cursor = ef_cursor (event, bytes);
    uint32_t fields;
    ef_span_t id;
    if (ef_get_array (&cursor, &fields) == 0 && ef_skip (&cursor) == 0 &&
        ef_get_bytes (&cursor, &id) == 0) {
        s_add_id (self, ef_sidecar_print (self->journal_id, id.data, id.size), offset, index);
    }
}

static void
s_add_events (ef_sidecar_t *self, const ef_record_t *record) {
    const uint8_t *body = record->body;
    if (record->body_bytes < EF_EVENTS_HEADER) {
        return;
    }
    uint32_t count = ef_le32 (body + 4);
    uint64_t at = (uint64_t)EF_EVENTS_HEADER + ef_le32 (body + 40);
    const uint8_t *index = body + at;
    at += 4ull * count;
    if (at > record->body_bytes || count == 0) {
        return;
    }
    bool has_base = false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t word = ef_le32 (index + 4 * i);
        uint32_t bytes = word & EF_INDEX_LENGTH;
        if (at + bytes > record->body_bytes) {
            return;
        }
        if (word & EF_INDEX_NO_ID) {
            has_base = true;
        } else {
            s_add_event_id (self, body + at, bytes, record->offset, i);
        }
        at += bytes;
    }
    if (has_base) {
        s_add_id (self, ef_sidecar_base_print (self->journal_id, body + 24), record->offset,
                  EF_SIDECAR_BASE);
    }
    s_note_time (self, ef_le64 (body + 16));
    s_add_fact (self, (ef_fact_t){.n = ef_le64 (body + 8),
                                  .ms = ef_le64 (body + 16),
                                  .value = count,
                                  .offset = record->offset,
                                  .topic = (uint16_t)ef_le32 (body),
                                  .class = EF_FACT_EVENTS,
                                  .type = record->type});
}

static void
s_add_copies (ef_sidecar_t *self, const ef_record_t *record) {
    const uint8_t *body = record->body;
    if (record->body_bytes < EF_COPIES_HEADER) {
        return;
    }
    uint32_t count = ef_le32 (body + 4);
    uint16_t flags = (record->flags & EF_COPIES_FLAG_INVALID ? EF_FACT_INVALID : 0) |
                     (ef_le64 (body + 8) ? EF_FACT_RETURNED : 0);
    uint64_t at = EF_COPIES_HEADER;
    for (uint32_t i = 0; i < count && at + EF_COPY_HEAD <= record->body_bytes; i++) {
        const uint8_t *copy = body + at;
        uint32_t bytes = ef_le32 (copy + 24);
        uint32_t history = ef_le32 (copy + 28);
        uint64_t end = at + EF_COPY_HEAD + (uint64_t)history + bytes;
        if (end > record->body_bytes) {
            return;
        }
        s_add_event_id (self, copy + EF_COPY_HEAD + history, bytes, record->offset,
                        i | EF_SIDECAR_COPY);
        s_note_time (self, ef_le64 (copy + 8));
        s_add_fact (self, (ef_fact_t){.n = ef_le64 (copy),
                                      .ms = ef_le64 (copy + 8),
                                      .value = ef_le16 (copy + 32),
                                      .offset = record->offset,
                                      .index = (uint16_t)i,
                                      .topic = (uint16_t)ef_le32 (body),
                                      .class = EF_FACT_POINTS,
                                      .type = record->type,
                                      .flags = flags});
        at = (end + EF_RECORD_ALIGN - 1) & ~(uint64_t)(EF_RECORD_ALIGN - 1);
    }
}

/* Ends follow each other closely: what continues the last fact lengthens it. */
static void
s_add_ends (ef_sidecar_t *self, const ef_record_t *record) {
    uint64_t ms = record->header_bytes >= EF_ENDS_HEADER ? ef_le64 (record->body) : 0;
    for (uint32_t at = record->header_bytes; at + EF_ENDS_ITEM <= record->body_bytes;
         at += EF_ENDS_ITEM) {
        const uint8_t *item = record->body + at;
        s_add_fact (self, (ef_fact_t){.n = ef_le64 (item + 8),
                                      .ms = ms,
                                      .value = ef_le32 (item + 4),
                                      .offset = record->offset,
                                      .topic = (uint16_t)ef_le32 (item),
                                      .class = EF_FACT_ENDS,
                                      .type = record->type});
    }
}

static void
s_add_attempt (ef_sidecar_t *self, const ef_record_t *record) {
    if (record->body_bytes >= EF_ATTEMPT_HEADER) {
        s_add_fact (self, (ef_fact_t){.n = ef_le64 (record->body + 8),
                                      .ms = ef_le64 (record->body + 16),
                                      .value = ef_le32 (record->body + 4) & 0xffff,
                                      .offset = record->offset,
                                      .topic = (uint16_t)ef_le32 (record->body),
                                      .class = EF_FACT_POINTS,
                                      .type = record->type});
    }
}

static void
s_add_death (ef_sidecar_t *self, const ef_record_t *record) {
    if (record->body_bytes >= EF_DEAD_HEADER) {
        s_add_fact (self, (ef_fact_t){.n = ef_le64 (record->body + 8),
                                      .ms = ef_le64 (record->body + 24),
                                      .value = record->body[4],
                                      .offset = record->offset,
                                      .topic = (uint16_t)ef_le32 (record->body),
                                      .class = EF_FACT_POINTS,
                                      .type = record->type});
    }
}

static void
s_add_purge (ef_sidecar_t *self, const ef_record_t *record) {
    if (record->body_bytes < EF_PURGE_HEADER) {
        return;
    }
    bool is_list = record->flags & EF_PURGE_FLAG_LIST;
    uint32_t listed = is_list ? ef_le32 (record->body + 4) : 1;
    ef_fact_t fact = {.n = ef_le64 (record->body + 8),
                      .offset = record->offset,
                      .topic = (uint16_t)ef_le32 (record->body),
                      .class = is_list ? EF_FACT_POINTS : EF_FACT_PURGES,
                      .type = record->type};
    for (uint32_t i = 0; i < listed; i++) {
        uint64_t at = record->header_bytes + 8ull * i;
        if (is_list && at + 8 > record->body_bytes) {
            return;
        }
        fact.n = is_list ? ef_le64 (record->body + at) : fact.n;
        s_add_fact (self, fact);
    }
}

static void
s_add_result (ef_sidecar_t *self, const ef_record_t *record) {
    if (record->body_bytes >= EF_RESULT_HEADER) {
        s_add_fact (self, (ef_fact_t){.n = ef_le64 (record->body + 8),
                                      .ms = ef_le64 (record->body + 16),
                                      .offset = record->offset,
                                      .topic = (uint16_t)ef_le32 (record->body),
                                      .class = EF_FACT_POINTS,
                                      .type = record->type});
    }
}

void
ef_sidecar_add (ef_sidecar_t *self, const ef_record_t *record) {
    static void (*const adds[]) (ef_sidecar_t *, const ef_record_t *) = {
        [EF_LOG_EVENTS] = s_add_events, [EF_LOG_COPIES] = s_add_copies,
        [EF_LOG_ENDS] = s_add_ends,     [EF_LOG_ATTEMPT] = s_add_attempt,
        [EF_LOG_DEAD] = s_add_death,    [EF_LOG_PURGE] = s_add_purge,
        [EF_LOG_TOPIC] = s_add_topic,   [EF_LOG_RESULT] = s_add_result,
    };
    if (record->type < sizeof adds / sizeof adds[0] && adds[record->type]) {
        adds[record->type](self, record);
    }
}

static int
s_by_print (const void *a, const void *b) {
    const ef_sidecar_id_t *x = a;
    const ef_sidecar_id_t *y = b;
    if (x->print != y->print) {
        return x->print < y->print ? -1 : 1;
    }
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static int
s_by_fact (const void *a, const void *b) {
    return fact_compare (a, b);
}

/* Deals the ids out by their first bits, then sorts what fell together: fingerprints are spread
   evenly, so that is a handful each. */
static void
s_sort_ids (ef_sidecar_t *self) {
    uint32_t count = self->id_count;
    uint32_t *ends = calloc ((1u << BUCKET_BITS) + 1, sizeof *ends);
    ef_sidecar_id_t *sorted = malloc ((count ? count : 1) * sizeof *sorted);
    ef_assert (ends != NULL && sorted != NULL);
    for (uint32_t i = 0; i < count; i++) {
        ends[(self->ids[i].print >> (64 - BUCKET_BITS)) + 1]++;
    }
    for (uint32_t i = 0; i < 1u << BUCKET_BITS; i++) {
        ends[i + 1] += ends[i];
    }
    for (uint32_t i = 0; i < count; i++) {
        sorted[ends[self->ids[i].print >> (64 - BUCKET_BITS)]++] = self->ids[i];
    }
    uint32_t begin = 0;
    for (uint32_t i = 0; i < 1u << BUCKET_BITS; i++) {
        if (ends[i] > begin + 1) {
            qsort (sorted + begin, ends[i] - begin, sizeof *sorted, s_by_print);
        }
        begin = ends[i];
    }
    free (ends);
    free (self->ids);
    self->ids = sorted;
    self->id_capacity = count ? count : 1;
    self->sorted_ids = count;
}

static bool
s_joins (const ef_fact_t *last, const ef_fact_t *next) {
    uint64_t apart = last->ms > next->ms ? last->ms - next->ms : next->ms - last->ms;
    return last->class == EF_FACT_ENDS && next->class == EF_FACT_ENDS &&
           last->topic == next->topic && last->n + last->value == next->n && apart <= JOIN_MS &&
           (uint64_t)last->value + next->value <= UINT32_MAX;
}

static void
s_sort_facts (ef_sidecar_t *self) {
    if (self->fact_count > 1) {
        qsort (self->facts, self->fact_count, sizeof *self->facts, s_by_fact);
    }
    uint32_t kept = 0;
    for (uint32_t i = 0; i < self->fact_count; i++) {
        if (kept > 0 && s_joins (&self->facts[kept - 1], &self->facts[i])) {
            self->facts[kept - 1].value += self->facts[i].value;
        } else {
            self->facts[kept++] = self->facts[i];
        }
    }
    self->fact_count = self->sorted_facts = kept;
}

void
ef_sidecar_settle (ef_sidecar_t *self) {
    if (self->file < 0 && self->sorted_ids < self->id_count) {
        s_sort_ids (self);
    }
    if (self->file < 0 && self->sorted_facts < self->fact_count) {
        s_sort_facts (self);
    }
}

bool
ef_sidecar_is_full (ef_sidecar_t *self) {
    if (self->fact_count >= EF_SIDECAR_FACTS_MAX && self->sorted_facts < self->fact_count) {
        s_sort_facts (self);
    }
    return self->id_count >= EF_SIDECAR_IDS_MAX || self->fact_count >= EF_SIDECAR_FACTS_MAX / 2;
}

uint64_t
ef_sidecar_memory (const ef_sidecar_t *self) {
    return (uint64_t)self->topic_capacity * sizeof *self->topics +
           (uint64_t)self->id_capacity * sizeof *self->ids +
           (uint64_t)self->fact_capacity * sizeof *self->facts;
}

/* Pages on their way to the file. */
typedef struct {
    ef_sidecar_t *side;
    ef_storage_t *storage;
    int file;
    uint8_t *pages; /* owned */
    uint32_t count; /* begun */
    uint32_t first; /* number of the first of them */
    uint32_t items; /* in the last one */
    int rc;
} writer_t;

static void
s_flush (writer_t *self) {
    for (uint32_t i = 0; i < self->count; i++) {
        uint8_t *page = self->pages + (size_t)i * EF_SIDECAR_PAGE;
        ef_le64_put (page + PAGE_SEGMENT, self->side->segment);
        ef_le32_put (page + PAGE_PART, self->side->part);
        ef_le32_put (page + PAGE_NUMBER, self->first + i);
        ef_le32_put (page + PAGE_CRC, ef_crc32c (0, page, PAGE_CRC));
    }
    if (self->rc == 0 && self->count > 0) {
        struct iovec part = {self->pages, (size_t)self->count * EF_SIDECAR_PAGE};
        self->rc = self->storage->write (self->storage, self->file, &part, 1,
                                         (uint64_t)self->first * EF_SIDECAR_PAGE);
    }
    self->first += self->count;
    self->count = 0;
}

static void
s_new_page (writer_t *self) {
    if (self->count == WRITE_PAGES) {
        s_flush (self);
    }
    memset (self->pages + (size_t)self->count * EF_SIDECAR_PAGE, 0, EF_SIDECAR_PAGE);
    self->count++;
    self->items = 0;
}

/* Room for the item at `place` of its table, `a_page` of them to a page. */
static uint8_t *
s_item (writer_t *self, uint32_t place, uint32_t a_page, uint32_t bytes) {
    if (place % a_page == 0) {
        s_new_page (self);
    }
    return self->pages + (size_t)(self->count - 1) * EF_SIDECAR_PAGE +
           (size_t)(place % a_page) * bytes;
}

static void
s_put_header (writer_t *self) {
    const ef_sidecar_t *side = self->side;
    s_new_page (self);
    uint8_t *page = self->pages;
    memcpy (page, MAGIC, 8);
    ef_le32_put (page + 8, EF_SIDECAR_VERSION);
    ef_le32_put (page + 12, side->is_last);
    memcpy (page + 16, side->journal_id, 16);
    ef_le64_put (page + 32, side->from.offset);
    ef_le64_put (page + 40, side->to.offset);
    ef_le64_put (page + 48, side->from.seq);
    ef_le64_put (page + 56, side->to.seq);
    ef_le32_put (page + 64, side->from.chain);
    ef_le32_put (page + 68, side->to.chain);
    ef_le32_put (page + 72, side->topic_count);
    ef_le32_put (page + 76, side->id_count);
    ef_le32_put (page + 80, side->fact_count);
    ef_le64_put (page + 88, side->first_ms);
    ef_le64_put (page + 96, side->last_ms);
}

static void
s_put_tables (writer_t *self) {
    const ef_sidecar_t *side = self->side;
    for (uint32_t i = 0; i < side->topic_count; i++) {
        uint8_t *item = s_item (self, i, TOPICS_A_PAGE, TOPIC_BYTES);
        memcpy (item, side->topics[i].name, sizeof side->topics[i].name);
        ef_le32_put (item + 56, side->topics[i].number);
    }
    for (uint32_t i = 0; i < side->id_count; i++) {
        uint8_t *item = s_item (self, i, IDS_A_PAGE, ID_BYTES);
        ef_le64_put (item, side->ids[i].print);
        ef_le32_put (item + 8, side->ids[i].offset);
        ef_le32_put (item + 12, side->ids[i].index);
    }
    for (uint32_t i = 0; i < side->fact_count; i++) {
        uint8_t *item = s_item (self, i, FACTS_A_PAGE, FACT_BYTES);
        const ef_fact_t *fact = &side->facts[i];
        ef_le64_put (item, fact->n);
        ef_le64_put (item + 8, fact->ms);
        ef_le32_put (item + 16, fact->value);
        ef_le32_put (item + 20, fact->offset);
        ef_le16_put (item + 24, fact->index);
        ef_le16_put (item + 26, fact->topic);
        item[28] = fact->class;
        item[29] = fact->type;
        ef_le16_put (item + 30, fact->flags);
    }
}

/* Not synced: what a power cut leaves of it is known by its pages' checksums. */
int
ef_sidecar_write (ef_sidecar_t *self, ef_storage_t *storage) {
    char name[EF_SIDECAR_NAME_BYTES];
    char unfinished[EF_SIDECAR_NAME_BYTES];
    ef_sidecar_name (self->segment, self->part, name);
    snprintf (unfinished, sizeof unfinished, "%.21s%s", name, UNFINISHED);
    ef_sidecar_settle (self);
    (void)storage->unlink (storage, unfinished); /* of a try before, most often not there */
    int file = storage->create (storage, unfinished, 0);
    if (file < 0) {
        return file;
    }
    writer_t writer = {.side = self, .storage = storage, .file = file};
    writer.pages = malloc ((size_t)WRITE_PAGES * EF_SIDECAR_PAGE);
    ef_assert (writer.pages != NULL);
    s_put_header (&writer);
    s_put_tables (&writer);
    s_flush (&writer);
    free (writer.pages);
    storage->close (storage, file);
    int rc = writer.rc ? writer.rc : storage->rename (storage, unfinished, name);
    if (rc) {
        (void)storage->unlink (storage, unfinished); /* what is left is found at the next start */
    }
    return rc;
}
