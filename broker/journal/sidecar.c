/* Looking things up in a sidecar. SPDX-License-Identifier: MIT */
#include "../base/crc32c.h"
#include "sidecar_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define GUESSES 4 /* by the value of a fingerprint, before a search goes by halves */

void
ef_sidecar_name (uint32_t segment, uint32_t part, char name[EF_SIDECAR_NAME_BYTES]) {
    snprintf (name, EF_SIDECAR_NAME_BYTES, "%016llx.%04x.idx", (unsigned long long)segment,
              part & 0xffff);
}

bool
ef_sidecar_is_name (const char *name, uint32_t *segment, uint32_t *part) {
    unsigned long long id;
    unsigned number;
    char again[EF_SIDECAR_NAME_BYTES];
    if (sscanf (name, "%16llx.%4x.idx", &id, &number) != 2 || id == 0 || id >= UINT32_MAX) {
        return false;
    }
    *segment = (uint32_t)id;
    *part = number;
    ef_sidecar_name (*segment, *part, again);
    return strcmp (name, again) == 0;
}

void
ef_sidecar_remove (ef_storage_t *storage, uint32_t segment, uint32_t part) {
    char name[EF_SIDECAR_NAME_BYTES];
    for (; part < EF_SIDECAR_PARTS_MAX; part++) {
        ef_sidecar_name (segment, part, name);
        if (storage->unlink (storage, name)) {
            return; /* they are numbered without gaps; what isn't there needs no removing */
        }
    }
}

/* A page of the file, checked. NULL: self->error says why. */
static const uint8_t *
s_page (ef_sidecar_t *self, uint32_t number) {
    if (number > 0 && self->page == number) {
        return self->bytes;
    }
    self->page = 0;
    int64_t got = self->storage->read (self->storage, self->file, self->bytes, EF_SIDECAR_PAGE,
                                       (uint64_t)number * EF_SIDECAR_PAGE);
    if (got < 0) {
        self->error = (int)got;
        return NULL;
    }
    if (got != EF_SIDECAR_PAGE || ef_le64 (self->bytes + PAGE_SEGMENT) != self->segment ||
        ef_le32 (self->bytes + PAGE_PART) != self->part ||
        ef_le32 (self->bytes + PAGE_NUMBER) != number ||
        ef_le32 (self->bytes + PAGE_CRC) != ef_crc32c (0, self->bytes, PAGE_CRC)) {
        self->error = -EBADMSG;
        return NULL;
    }
    self->page = number;
    return self->bytes;
}

static void
s_read_header (ef_sidecar_t *self, const uint8_t *page) {
    self->is_last = ef_le32 (page + 12) == 1;
    self->from = (ef_group_place_t){ef_le64 (page + 32), ef_le64 (page + 48), ef_le32 (page + 64)};
    self->to = (ef_group_place_t){ef_le64 (page + 40), ef_le64 (page + 56), ef_le32 (page + 68)};
    self->topic_count = ef_le32 (page + 72);
    self->id_count = ef_le32 (page + 76);
    self->fact_count = ef_le32 (page + 80);
    self->first_ms = ef_le64 (page + 88);
    self->last_ms = ef_le64 (page + 96);
}

int
ef_sidecar_open (ef_sidecar_t *self, ef_storage_t *storage, const uint8_t journal_id[16],
                 uint32_t segment, uint32_t part, const ef_group_place_t *from) {
    char name[EF_SIDECAR_NAME_BYTES];
    memset (self, 0, sizeof *self);
    memcpy (self->journal_id, journal_id, 16);
    self->storage = storage;
    self->segment = segment;
    self->part = part;
    ef_sidecar_name (segment, part, name);
    self->file = storage->open (storage, name);
    if (self->file < 0) {
        int rc = self->file;
        self->file = -1;
        return rc;
    }
    self->bytes = malloc (EF_SIDECAR_PAGE);
    ef_assert (self->bytes != NULL);
    const uint8_t *page = s_page (self, 0);
    if (page) {
        s_read_header (self, page);
        bool is_it =
            memcmp (page, MAGIC, 8) == 0 && ef_le32 (page + 8) == EF_SIDECAR_VERSION &&
            memcmp (page + 16, journal_id, 16) == 0 && self->to.offset >= self->from.offset &&
            (from == NULL || (self->from.offset == from->offset && self->from.seq == from->seq &&
                              self->from.chain == from->chain));
        self->error = is_it ? 0 : -EBADMSG;
    }
    if (self->error) {
        int rc = self->error;
        ef_sidecar_free (self);
        return rc;
    }
    return 0;
}

void
ef_sidecar_free (ef_sidecar_t *self) {
    if (self->storage && self->file >= 0) {
        self->storage->close (self->storage, self->file);
    }
    free (self->topics);
    free (self->ids);
    free (self->facts);
    free (self->bytes);
    memset (self, 0, sizeof *self);
    self->file = -1;
}

/* The item at a place of a table whose pages begin behind `before` others. NULL: unreadable. */
static const uint8_t *
s_item (ef_sidecar_t *self, uint32_t before, uint32_t place, uint32_t a_page, uint32_t bytes) {
    const uint8_t *page = s_page (self, 1 + before + place / a_page);
    return page ? page + (size_t)(place % a_page) * bytes : NULL;
}

bool
ef_sidecar_topic_at (ef_sidecar_t *self, uint32_t place, ef_sidecar_topic_t *topic) {
    memset (topic, 0, sizeof *topic);
    if (self->file < 0) {
        *topic = self->topics[place];
        return true;
    }
    const uint8_t *item = s_item (self, 0, place, TOPICS_A_PAGE, TOPIC_BYTES);
    if (item) {
        memcpy (topic->name, item, sizeof topic->name - 1);
        topic->number = ef_le32 (item + 56);
    }
    return item != NULL;
}

int
ef_sidecar_topic (ef_sidecar_t *self, const char *name) {
    ef_sidecar_topic_t topic;
    for (uint32_t i = 0; i < self->topic_count; i++) {
        if (ef_sidecar_topic_at (self, i, &topic) && strcmp (topic.name, name) == 0) {
            return (int)(topic.number & 0xffff);
        }
    }
    return -1;
}

bool
ef_sidecar_topic_name (ef_sidecar_t *self, uint32_t number, char name[56]) {
    ef_sidecar_topic_t topic;
    for (uint32_t i = 0; i < self->topic_count; i++) {
        if (ef_sidecar_topic_at (self, i, &topic) && topic.number == number) {
            memcpy (name, topic.name, sizeof topic.name);
            return true;
        }
    }
    return false;
}

static bool
s_id (ef_sidecar_t *self, uint32_t place, ef_sidecar_id_t *id) {
    if (self->file < 0) {
        *id = self->ids[place];
        return true;
    }
    const uint8_t *item =
        s_item (self, pages_of (self->topic_count, TOPICS_A_PAGE), place, IDS_A_PAGE, ID_BYTES);
    if (item) {
        *id = (ef_sidecar_id_t){ef_le64 (item), ef_le32 (item + 8), ef_le32 (item + 12)};
    }
    return item != NULL;
}

static bool
s_fact (ef_sidecar_t *self, uint32_t place, ef_fact_t *fact) {
    if (self->file < 0) {
        *fact = self->facts[place];
        return true;
    }
    const uint8_t *item = s_item (
        self, pages_of (self->topic_count, TOPICS_A_PAGE) + pages_of (self->id_count, IDS_A_PAGE),
        place, FACTS_A_PAGE, FACT_BYTES);
    if (item) {
        *fact = (ef_fact_t){.n = ef_le64 (item),
                            .ms = ef_le64 (item + 8),
                            .value = ef_le32 (item + 16),
                            .offset = ef_le32 (item + 20),
                            .index = ef_le16 (item + 24),
                            .topic = ef_le16 (item + 26),
                            .class = item[28],
                            .type = item[29],
                            .flags = ef_le16 (item + 30)};
    }
    return item != NULL;
}

/* Sorts where too much has come since; a short tail is looked through as it is. */
static void
s_prepare (ef_sidecar_t *self) {
    if (self->file < 0 && (self->id_count - self->sorted_ids > TAIL_MAX ||
                           self->fact_count - self->sorted_facts > TAIL_MAX)) {
        ef_sidecar_settle (self);
    }
}

/* Where a fingerprint would lie among `high` - `low` that are spread evenly between two others. */
static uint32_t
s_guess (uint64_t print, uint32_t low, uint64_t low_print, uint32_t high, uint64_t high_print) {
    double share = (double)(print - low_print) / ((double)(high_print - low_print) + 1);
    uint32_t step = (uint32_t)(share * (high - low));
    return low + (step < high - low ? step : high - low - 1);
}

/* The place of the first id that isn't below. */
static uint32_t
s_seek_id (ef_sidecar_t *self, uint64_t print) {
    uint32_t low = 0;
    uint32_t high = self->file < 0 ? self->sorted_ids : self->id_count;
    uint64_t low_print = 0;
    uint64_t high_print = UINT64_MAX;
    ef_sidecar_id_t id;
    for (unsigned step = 0; low < high; step++) {
        uint32_t middle = step < GUESSES && print >= low_print && print <= high_print
                              ? s_guess (print, low, low_print, high, high_print)
                              : low + (high - low) / 2;
        if (!s_id (self, middle, &id)) {
            return UINT32_MAX;
        }
        if (id.print < print) {
            low = middle + 1;
            low_print = id.print;
        } else {
            high = middle;
            high_print = id.print;
        }
    }
    return low;
}

int
ef_sidecar_ids (ef_sidecar_t *self, uint64_t print,
                int (*each) (void *arg, const ef_sidecar_id_t *id), void *arg) {
    s_prepare (self);
    uint32_t sorted = self->file < 0 ? self->sorted_ids : self->id_count;
    ef_sidecar_id_t id;
    int rc = 0;
    for (uint32_t i = s_seek_id (self, print); rc == 0 && i < sorted; i++) {
        if (!s_id (self, i, &id) || id.print != print) {
            break;
        }
        rc = each (arg, &id);
    }
    for (uint32_t i = sorted; rc == 0 && i < self->id_count; i++) {
        rc = self->ids[i].print == print ? each (arg, &self->ids[i]) : 0;
    }
    return rc;
}

uint32_t
ef_sidecar_seek (ef_sidecar_t *self, const ef_fact_t *key) {
    uint32_t low = 0;
    uint32_t high = self->file < 0 ? self->sorted_facts : self->fact_count;
    ef_fact_t fact;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (!s_fact (self, middle, &fact)) {
            return UINT32_MAX;
        }
        if (fact_compare (&fact, key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

bool
ef_sidecar_at (ef_sidecar_t *self, uint32_t place, ef_fact_t *fact) {
    return place < self->fact_count && s_fact (self, place, fact);
}

typedef struct {
    ef_fact_class_t class;
    uint32_t topic;
    uint64_t first;
    uint64_t last;
} range_t;

/* True where a fact of the class and topic holds for one of them. */
static bool
s_holds (const range_t *range, const ef_fact_t *fact) {
    if (range->class == EF_FACT_PURGES) {
        return fact->n >= range->first;
    }
    uint64_t count = range->class == EF_FACT_POINTS ? 1 : fact->value;
    return fact->n <= range->last && fact->n + count > range->first;
}

int
ef_sidecar_facts (ef_sidecar_t *self, ef_fact_class_t class, uint32_t topic, uint64_t first,
                  uint64_t last, int (*each) (void *arg, const ef_fact_t *fact), void *arg) {
    s_prepare (self);
    range_t range = {class, topic, first, last};
    ef_fact_t key = {.n = first, .topic = (uint16_t)topic, .class = (uint8_t) class};
    ef_fact_t fact;
    uint32_t sorted = self->file < 0 ? self->sorted_facts : self->fact_count;
    uint32_t place = ef_sidecar_seek (self, &key);
    bool is_range = class == EF_FACT_EVENTS || class == EF_FACT_ENDS;
    place -= is_range && place > 0 && place <= sorted; /* the one before may reach into them */
    int rc = 0;
    for (uint32_t i = place; rc == 0 && i < sorted && s_fact (self, i, &fact); i++) {
        bool is_mine = fact.class == class && fact.topic == topic;
        if (i > place && (!is_mine || (fact.n > last && class != EF_FACT_PURGES))) {
            break;
        }
        rc = is_mine && s_holds (&range, &fact) ? each (arg, &fact) : 0;
    }
    for (uint32_t i = sorted; rc == 0 && i < self->fact_count; i++) {
        bool is_mine = self->facts[i].class == class && self->facts[i].topic == topic;
        rc = is_mine && s_holds (&range, &self->facts[i]) ? each (arg, &self->facts[i]) : 0;
    }
    return rc;
}
