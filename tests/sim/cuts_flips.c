/* Damage to a journal at rest. SPDX-License-Identifier: MIT

   A journal of several segments with two checkpoints and a hint is made once for many rounds; a
   round damages a copy in one way. Recovery must refuse it by naming the segment, or hand out true
   records from the beginning on without a hole; what is missing then can only be a last group that
   no hint names. What is refused the scan must find too. */
#include "cuts.h"

#include "../../broker/journal/scan.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define ROUNDS_A_BASE 256
#define GROUPS        44
#define PAGE          4096
#define RECORDS_MOST  4096

typedef struct {
    uint32_t segment;
    uint32_t offset;
    uint32_t bytes;
} place_t;

typedef struct {
    world_t world;
    uint64_t number; /* which base; UINT64_MAX: none */
    uint32_t newest;
    uint32_t checkpoints[2]; /* segments, the older first */
    place_t places[RECORDS_MOST];
    uint32_t place_count;
} base_t;

/* A copy that is damaged. */
typedef struct {
    const base_t *base;
    sim_random_t *random;
    ef_storage_t *storage;
    uint32_t flips;
} copy_t;

static base_t s_base = {.number = UINT64_MAX};

static int
s_note_place (void *arg, const ef_record_t *record, uint64_t seq) {
    base_t *base = arg;
    (void)seq;
    ef_assert (base->place_count < RECORDS_MOST);
    base->places[base->place_count++] =
        (place_t){record->segment, record->offset, record->body_bytes + EF_RECORD_HEAD};
    return 0;
}

static void
s_must (world_t *world, cut_kind_t kind) {
    if (cuts_do (world, kind)) {
        cuts_fail ("the journal can't be made");
    }
}

static void
s_build (base_t *self, uint64_t number, cuts_totals_t *totals) {
    world_t *world = &self->world;
    if (self->number != UINT64_MAX) {
        cuts_world_free (world);
    }
    self->number = number;
    self->place_count = 0;
    cuts_world_init (world, number + 1);
    world->segment_bytes = 16384;
    if (!cuts_recover (world, false, totals)) {
        cuts_fail ("a fresh journal can't be opened");
    }
    for (uint32_t i = 0; i < GROUPS; i++) {
        s_must (world, i % 8 == 7 ? CUT_ROLL : CUT_APPEND);
        if (i == 17 || i == 26) {
            self->checkpoints[i == 26] = ef_wal_newest (world->wal);
            s_must (world, CUT_CHECKPOINT);
        }
    }
    if (number % 4 == 1) {
        s_must (world, CUT_DROP);
    }
    s_must (world, CUT_HINT);
    if (number % 2) {
        s_must (world, number % 8 < 4 ? CUT_APPEND : CUT_ROLL); /* no hint names this one */
    }
    self->newest = ef_wal_newest (world->wal);
    cuts_close (world);
    if (number % 3) { /* else the zeros behind the last group stay */
        if (!cuts_recover (world, false, totals)) {
            cuts_fail ("the journal can't be opened");
        }
        cuts_close (world);
    }
    ef_scan_report_t report;
    ef_scan_t scan = {.record = s_note_place, .arg = self};
    if (ef_scan (world->storage, &scan, &report) || report.losses > 0) {
        cuts_fail ("the scan finds fault with a whole journal");
    }
}

static int
s_open (const copy_t *self, const char *name) {
    int file = self->storage->open (self->storage, name);
    if (file < 0) {
        cuts_fail ("%s isn't there", name);
    }
    return file;
}

static void
s_put (const copy_t *self, int file, uint64_t offset, const void *bytes, size_t size) {
    uint8_t copy[PAGE];
    struct iovec part = {memcpy (copy, bytes, size), size};
    if (self->storage->write (self->storage, file, &part, 1, offset)) {
        cuts_fail ("the damage can't be done");
    }
}

/* A segment; one in ten times, where `all`, the hint or a checkpoint. */
static void
s_choose (const copy_t *self, bool all, char name[32]) {
    const base_t *base = self->base;
    uint32_t oldest = base->world.truth.oldest;
    ef_wal_segment_name (oldest + sim_below (self->random, base->newest - oldest + 1), name);
    if (all && sim_one_in (self->random, 10)) {
        snprintf (name, 32, "hint");
        if (sim_one_in (self->random, 2)) {
            snprintf (name, 32, "%016llx.ckpt",
                      (unsigned long long)base->checkpoints[sim_below (self->random, 2)]);
        }
    }
}

static void
s_flip_bits (copy_t *self) {
    char name[32];
    for (self->flips = 1 + sim_below (self->random, 8); self->flips > 0; self->flips--) {
        s_choose (self, true, name);
        int file = s_open (self, name);
        uint64_t size = (uint64_t)self->storage->size (self->storage, file);
        uint64_t at = sim_random (self->random) % size;
        uint8_t byte;
        (void)self->storage->read (self->storage, file, &byte, 1, at);
        byte = (uint8_t)(byte ^ 1u << sim_below (self->random, 8));
        s_put (self, file, at, &byte, 1);
    }
}

/* Anywhere in the last 64 KiB; more often in the newest segment. */
static void
s_cut (copy_t *self) {
    char name[32];
    uint32_t back = sim_below (self->random, 4);
    uint32_t segments = self->base->newest - self->base->world.truth.oldest + 1;
    ef_wal_segment_name (self->base->newest - (back < segments ? back : 0), name);
    int file = s_open (self, name);
    uint32_t size = (uint32_t)self->storage->size (self->storage, file);
    (void)self->storage->truncate (self->storage, file, sim_below (self->random, size));
}

static void
s_zero_page (copy_t *self) {
    static const uint8_t zeros[PAGE];
    char name[32];
    s_choose (self, true, name);
    int file = s_open (self, name);
    uint64_t size = (uint64_t)self->storage->size (self->storage, file);
    uint64_t at = sim_random (self->random) % size / PAGE * PAGE;
    s_put (self, file, at, zeros, size - at < PAGE ? (size_t)(size - at) : PAGE);
}

static void
s_rename (const copy_t *self, const char *from, const char *to) {
    if (self->storage->rename (self->storage, from, to)) {
        cuts_fail ("%s can't become %s", from, to);
    }
}

static void
s_swap (copy_t *self) {
    char a[32];
    char b[32];
    s_choose (self, false, a);
    s_choose (self, false, b);
    if (strcmp (a, b) != 0) {
        s_rename (self, a, "aside");
        s_rename (self, b, a);
        s_rename (self, "aside", b);
    }
}

static void
s_copy_file (const copy_t *self, const char *from, const char *to) {
    uint8_t bytes[PAGE];
    int source = s_open (self, from);
    (void)self->storage->unlink (self->storage, to);
    int target = self->storage->create (self->storage, to, 0);
    int64_t got;
    for (uint64_t at = 0; (got = self->storage->read (self->storage, source, bytes, PAGE, at)) > 0;
         at += PAGE) {
        s_put (self, target, at, bytes, (size_t)got);
    }
}

/* Under the name of another one, or as one more. */
static void
s_duplicate (copy_t *self) {
    char from[32];
    char to[32];
    s_choose (self, false, from);
    s_choose (self, false, to);
    if (sim_one_in (self->random, 3)) {
        ef_wal_segment_name (self->base->newest + 1, to);
    }
    if (strcmp (from, to) != 0) {
        s_copy_file (self, from, to);
    }
}

static void
s_age_checkpoint (copy_t *self) {
    char older[32];
    char newer[32];
    snprintf (older, 32, "%016llx.ckpt", (unsigned long long)self->base->checkpoints[0]);
    snprintf (newer, 32, "%016llx.ckpt", (unsigned long long)self->base->checkpoints[1]);
    s_copy_file (self, older, newer);
}

static void
s_misplace_record (copy_t *self) {
    const place_t *from = &self->base->places[sim_below (self->random, self->base->place_count)];
    const place_t *to = &self->base->places[sim_below (self->random, self->base->place_count)];
    uint8_t bytes[PAGE];
    char name[32];
    ef_wal_segment_name (from->segment, name);
    size_t size = from->bytes < PAGE ? from->bytes : PAGE;
    (void)self->storage->read (self->storage, s_open (self, name), bytes, size, from->offset);
    ef_wal_segment_name (to->segment, name);
    s_put (self, s_open (self, name), to->offset, bytes, size);
}

/* Not the oldest: that it is gone is what cleaning leaves too, and nothing tells the two apart. */
static void
s_remove (copy_t *self) {
    char name[32];
    uint32_t oldest = self->base->world.truth.oldest;
    ef_wal_segment_name (oldest + 1 + sim_below (self->random, self->base->newest - oldest), name);
    (void)self->storage->unlink (self->storage, name);
}

typedef struct {
    const truth_t *truth;
    uint64_t findings;
    uint64_t serial; /* of the last record */
    uint32_t index;
    const char *wrong;
} scanned_t;

static int
s_scanned (void *arg, const ef_record_t *record, uint64_t seq) {
    scanned_t *self = arg;
    (void)seq;
    if (record->type == EF_RECORD_COMMIT || self->wrong) {
        return 0;
    }
    uint64_t serial = record->body_bytes >= 16 ? ef_le64 (record->body) : 0;
    uint32_t index = serial ? ef_le32 (record->body + 8) : 0;
    const cut_group_t *group = NULL;
    for (uint32_t i = 0; i < self->truth->count && group == NULL; i++) {
        group = self->truth->groups[i].serial == serial ? &self->truth->groups[i] : NULL;
    }
    if (group == NULL || !cuts_is_true (record, group, index)) {
        self->wrong = "the scan hands out a record that was never written";
    } else if (serial < self->serial || (serial == self->serial && index <= self->index)) {
        self->wrong = "the scan hands out records in another order";
    }
    self->serial = serial;
    self->index = index;
    return 0;
}

static void
s_found (void *arg, const ef_finding_t *finding) {
    scanned_t *self = arg;
    (void)finding;
    self->findings++;
}

static uint64_t
s_scan (ef_storage_t *storage) {
    scanned_t scanned = {.truth = &s_base.world.truth};
    scanned.index = UINT32_MAX;
    ef_scan_t scan = {.record = s_scanned, .finding = s_found, .arg = &scanned};
    ef_scan_report_t report;
    if (ef_scan (storage, &scan, &report)) {
        cuts_fail ("the scan can't list the directory");
    }
    if (scanned.wrong) {
        cuts_fail ("%s", scanned.wrong);
    }
    return scanned.findings;
}

static void
s_judge (const reading_t *reading, uint64_t hinted, uint32_t flips, cuts_totals_t *totals) {
    const truth_t *truth = reading->truth;
    uint32_t at = reading->group;
    while (at < truth->count && truth->groups[at].segment < reading->from_segment) {
        at++;
    }
    if (reading->index != 0) {
        cuts_fail ("a part of a group came back");
    }
    uint32_t lost = truth->count - at;
    uint32_t allowed = truth->next_seq - 1 > hinted ? 1 : 0;
    if (hinted == 0 && flips > 1) {
        allowed = flips - 1; /* the hint was hit as well */
    }
    if (lost > allowed) {
        cuts_fail ("%u groups are lost in silence; the hint says %llu of %llu", lost,
                   (unsigned long long)hinted, (unsigned long long)truth->next_seq - 1);
    }
    totals->harmless += lost == 0;
    totals->shorter += lost > 0;
}

/* Opens the copy, from a checkpoint where one is given. */
static void
s_recover (ef_storage_t *storage, const ef_checkpoint_info_t *info, uint32_t flips,
           cuts_totals_t *totals) {
    ef_wal_options_t options = {.segment_bytes = 16384, .wall_ms = 1, .random = {1, 2}};
    reading_t reading = {.truth = &s_base.world.truth};
    ef_wal_report_t report;
    uint8_t journal_id[16];
    uint64_t hinted = ef_wal_read_hint (storage, journal_id);
    uint64_t findings = info ? 0 : s_scan (storage);
    if (info) {
        reading.from_segment = options.from_segment = info->segment;
        options.from_seq = info->first_seq;
        options.from_chain = info->chain;
        totals->checkpoints++;
    }
    ef_wal_t *wal = ef_wal_open (storage, &options, cuts_each, &reading, &report);
    if (reading.wrong) {
        cuts_fail ("%s, behind %llu records", reading.wrong, (unsigned long long)reading.records);
    }
    if (wal) {
        s_judge (&reading, hinted, flips, totals);
        ef_wal_destroy (&wal);
        return;
    }
    if ((report.error != EBADMSG && report.error != ESTALE && report.error != EPROTO) ||
        strstr (report.text, "segment") == NULL) {
        cuts_fail ("refused with error %d, %s", report.error, report.text);
    }
    if (info == NULL && findings == 0) {
        cuts_fail ("refused (%s), and the scan finds nothing", report.text);
    }
    totals->refused++;
}

void
cuts_flips (const cuts_options_t *options, uint64_t seed, cuts_totals_t *totals) {
    static const struct {
        void (*damage) (copy_t *copy);
        const char *name;
    } ways[] = {
        {s_flip_bits, "flipped bits"},         {s_cut, "a segment cut off"},
        {s_zero_page, "a page of zeros"},      {s_swap, "two segments swapped"},
        {s_duplicate, "a segment twice"},      {s_age_checkpoint, "an old checkpoint"},
        {s_misplace_record, "a record twice"}, {s_remove, "a segment removed"},
    };
    (void)options;
    cuts_about ("making the journal");
    if (s_base.number != seed / ROUNDS_A_BASE) {
        s_build (&s_base, seed / ROUNDS_A_BASE, totals);
    }
    sim_random_t random = {seed * 0x9e3779b97f4a7c15u + 1};
    (void)sim_random (&random);
    uint32_t way = sim_one_in (&random, 3) ? 0 : sim_below (&random, 8);
    cuts_about ("%s", ways[way].name);
    sim_disk_t *disk = sim_disk_copy (s_base.world.disk, &random);
    copy_t copy = {&s_base, &random, sim_disk_open (disk, "journal"), 0};
    ways[way].damage (&copy);
    uint32_t flips = way == 0 ? 8 : 0;
    sim_disk_t *second = sim_disk_copy (disk, &random);
    ef_storage_t *storage = sim_disk_open (second, "journal");
    ef_checkpoint_info_t info;
    s_recover (copy.storage, NULL, flips, totals);
    if (ef_checkpoint_find (storage, 0, &info)) {
        if (!cuts_check_checkpoint (&s_base.world.truth, storage, &info, false)) {
            cuts_fail ("a checkpoint is found that was never completed");
        }
        s_recover (storage, &info, flips, totals);
    }
    copy.storage->destroy (&copy.storage);
    storage->destroy (&storage);
    sim_disk_destroy (&disk);
    sim_disk_destroy (&second);
    totals->rounds++;
}
