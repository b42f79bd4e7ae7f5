/* Units of quotas. SPDX-License-Identifier: MIT

   A subject's units are a treap (Seidel, Aragon, 1996) by (taken, n) with the sizes of its
   branches: how many lie in a window, and which must leave before another fits, take a walk from
   its root, and so does each change, in whatever order replay or a clock that was set back brings
   them. */
#include "quota.h"
#include "../../proto/limits.h"
#include "calendar.h"

#include <stdlib.h>
#include <string.h>

#define NONE          EF_SLAB_NONE
#define FORGOTTEN_MAX 64u /* to make room for one */

typedef struct {
    uint64_t n;
    uint64_t taken_ms;
    uint32_t subject;
    uint32_t segment;
    uint32_t left; /* branches of the treap */
    uint32_t right;
    uint32_t size;   /* with both branches */
    uint32_t before; /* neighbours in the segment */
    uint32_t after;
} unit_t;

typedef struct {
    uint8_t id[EF_SUBJECT_BYTES];
    uint64_t oldest_ms; /* of its units */
    uint32_t root;
    uint32_t number; /* its own */
    uint32_t place;  /* in the heap */
} subject_t;

/* MurmurHash3's finalizer (Appleby): n counts up, its hash doesn't. */
static uint64_t
s_mix (uint64_t n) {
    n = (n ^ n >> 33) * 0xff51afd7ed558ccdu;
    n = (n ^ n >> 33) * 0xc4ceb9fe1a85ec53u;
    return n ^ n >> 33;
}

/* A fingerprint is a hash already. */
static uint64_t
s_subject_hash (const uint8_t id[EF_SUBJECT_BYTES]) {
    uint64_t hash;
    memcpy (&hash, id, sizeof hash);
    return hash;
}

static unit_t *
s_unit (const ef_quota_t *self, uint32_t number) {
    return ef_slab_at (&self->units, number);
}

static subject_t *
s_subject (const ef_quota_t *self, uint32_t number) {
    return ef_slab_at (&self->subjects, number);
}

static uint32_t
s_find_unit (const ef_quota_t *self, uint64_t n) {
    uint32_t number = ef_slab_find (&self->units, s_mix (n));
    while (number != NONE && s_unit (self, number)->n != n) {
        number = ef_slab_find_next (&self->units, number);
    }
    return number;
}

static uint32_t
s_find_subject (const ef_quota_t *self, const uint8_t id[EF_SUBJECT_BYTES]) {
    uint32_t number = ef_slab_find (&self->subjects, s_subject_hash (id));
    while (number != NONE && memcmp (s_subject (self, number)->id, id, EF_SUBJECT_BYTES) != 0) {
        number = ef_slab_find_next (&self->subjects, number);
    }
    return number;
}

/* The treap. */

static uint32_t
s_size (const ef_quota_t *self, uint32_t root) {
    return root == NONE ? 0 : s_unit (self, root)->size;
}

static void
s_resize (const ef_quota_t *self, unit_t *unit) {
    unit->size = 1 + s_size (self, unit->left) + s_size (self, unit->right);
}

static bool
s_is_before (const unit_t *a, const unit_t *b) {
    return a->taken_ms != b->taken_ms ? a->taken_ms < b->taken_ms : a->n < b->n;
}

static void
s_split (const ef_quota_t *self, uint32_t root, const unit_t *at, uint32_t parts[2]) {
    if (root == NONE) {
        parts[0] = parts[1] = NONE;
        return;
    }
    unit_t *unit = s_unit (self, root);
    uint32_t inner[2];
    if (s_is_before (unit, at)) {
        s_split (self, unit->right, at, inner);
        unit->right = inner[0];
        parts[0] = root;
        parts[1] = inner[1];
    } else {
        s_split (self, unit->left, at, inner);
        unit->left = inner[1];
        parts[0] = inner[0];
        parts[1] = root;
    }
    s_resize (self, unit);
}

static uint32_t
s_insert (const ef_quota_t *self, uint32_t root, uint32_t number) {
    unit_t *added = s_unit (self, number);
    if (root == NONE) {
        return number;
    }
    unit_t *unit = s_unit (self, root);
    if (s_mix (added->n) > s_mix (unit->n)) {
        uint32_t parts[2];
        s_split (self, root, added, parts);
        added->left = parts[0];
        added->right = parts[1];
        s_resize (self, added);
        return number;
    }
    uint32_t *branch = s_is_before (added, unit) ? &unit->left : &unit->right;
    *branch = s_insert (self, *branch, number);
    unit->size++;
    return root;
}

static uint32_t
s_merge (const ef_quota_t *self, uint32_t a, uint32_t b) {
    if (a == NONE || b == NONE) {
        return a == NONE ? b : a;
    }
    unit_t *left = s_unit (self, a);
    unit_t *right = s_unit (self, b);
    bool is_left = s_mix (left->n) > s_mix (right->n);
    if (is_left) {
        left->right = s_merge (self, left->right, b);
    } else {
        right->left = s_merge (self, a, right->left);
    }
    s_resize (self, is_left ? left : right);
    return is_left ? a : b;
}

static uint32_t
s_remove (const ef_quota_t *self, uint32_t root, uint32_t number) {
    ef_assert (root != NONE);
    unit_t *unit = s_unit (self, root);
    if (root == number) {
        return s_merge (self, unit->left, unit->right);
    }
    uint32_t *branch = s_is_before (s_unit (self, number), unit) ? &unit->left : &unit->right;
    *branch = s_remove (self, *branch, number);
    unit->size--;
    return root;
}

/* How many units were taken before a moment. */
static uint32_t
s_count_before (const ef_quota_t *self, uint32_t root, uint64_t taken_ms) {
    uint32_t count = 0;
    while (root != NONE) {
        const unit_t *unit = s_unit (self, root);
        if (unit->taken_ms < taken_ms) {
            count += 1 + s_size (self, unit->left);
            root = unit->right;
        } else {
            root = unit->left;
        }
    }
    return count;
}

/* The unit that has `index` others before it. */
static const unit_t *
s_nth (const ef_quota_t *self, uint32_t root, uint32_t index) {
    for (;;) {
        const unit_t *unit = s_unit (self, root);
        uint32_t left = s_size (self, unit->left);
        if (index == left) {
            return unit;
        }
        root = index < left ? unit->left : unit->right;
        index -= index < left ? 0 : left + 1;
    }
}

/* The segments. */

/* The first segment at or behind one. */
static uint32_t
s_segment_at (const ef_quota_t *self, uint32_t segment) {
    uint32_t low = 0;
    uint32_t high = self->segment_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (self->segments[middle].segment < segment) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static void
s_link (ef_quota_t *self, uint32_t number, uint32_t segment) {
    uint32_t at = s_segment_at (self, segment);
    if (at == self->segment_count || self->segments[at].segment != segment) {
        if (self->segment_count == self->segment_capacity) {
            self->segment_capacity = self->segment_capacity ? 2 * self->segment_capacity : 8;
            self->segments =
                realloc (self->segments, self->segment_capacity * sizeof *self->segments);
            ef_assert (self->segments != NULL);
        }
        memmove (self->segments + at + 1, self->segments + at,
                 (self->segment_count - at) * sizeof *self->segments);
        self->segments[at].segment = segment;
        self->segments[at].first = NONE;
        self->segments[at].count = 0;
        self->segment_count++;
    }
    unit_t *unit = s_unit (self, number);
    unit->segment = segment;
    unit->before = NONE;
    unit->after = self->segments[at].first;
    if (unit->after != NONE) {
        s_unit (self, unit->after)->before = number;
    }
    self->segments[at].first = number;
    self->segments[at].count++;
}

static void
s_unlink (ef_quota_t *self, uint32_t number) {
    unit_t *unit = s_unit (self, number);
    uint32_t at = s_segment_at (self, unit->segment);
    ef_assert (at < self->segment_count && self->segments[at].segment == unit->segment);
    if (unit->after != NONE) {
        s_unit (self, unit->after)->before = unit->before;
    }
    if (unit->before != NONE) {
        s_unit (self, unit->before)->after = unit->after;
    } else {
        self->segments[at].first = unit->after;
    }
    if (--self->segments[at].count == 0) {
        self->segment_count--;
        memmove (self->segments + at, self->segments + at + 1,
                 (self->segment_count - at) * sizeof *self->segments);
    }
}

/* All of it. */

static bool
s_is_older (const void *a, const void *b) {
    const subject_t *one = a;
    const subject_t *other = b;
    return one->oldest_ms != other->oldest_ms ? one->oldest_ms < other->oldest_ms
                                              : one->number < other->number;
}

static void
s_placed (void *item, uint32_t place) {
    ((subject_t *)item)->place = place;
}

void
ef_quota_init (ef_quota_t *self) {
    memset (self, 0, sizeof *self);
    ef_slab_init (&self->units, sizeof (unit_t));
    ef_slab_init (&self->subjects, sizeof (subject_t));
    ef_heap_init (&self->oldest, s_is_older, s_placed);
}

void
ef_quota_free (ef_quota_t *self) {
    ef_slab_free (&self->units);
    ef_slab_free (&self->subjects);
    ef_heap_free (&self->oldest);
    free (self->segments);
    ef_quota_init (self);
}

static uint32_t
s_require_subject (ef_quota_t *self, const ef_unit_t *first) {
    uint32_t number = s_find_subject (self, first->subject);
    if (number == NONE) {
        number = ef_slab_add (&self->subjects, s_subject_hash (first->subject));
        subject_t *subject = s_subject (self, number);
        memcpy (subject->id, first->subject, EF_SUBJECT_BYTES);
        subject->oldest_ms = first->taken_ms;
        subject->root = NONE;
        subject->number = number;
        ef_heap_push (&self->oldest, subject);
    }
    return number;
}

/* The subject's oldest unit may be another one now. */
static void
s_age (ef_quota_t *self, subject_t *subject) {
    uint64_t oldest_ms = s_nth (self, subject->root, 0)->taken_ms;
    if (oldest_ms != subject->oldest_ms) {
        subject->oldest_ms = oldest_ms;
        ef_heap_moved (&self->oldest, subject->place);
    }
}

static void
s_add (ef_quota_t *self, const ef_unit_t *from) {
    subject_t *subject = s_subject (self, s_require_subject (self, from));
    uint32_t number = ef_slab_add (&self->units, s_mix (from->n));
    unit_t *unit = s_unit (self, number);
    unit->n = from->n;
    unit->taken_ms = from->taken_ms;
    unit->subject = subject->number;
    unit->left = unit->right = NONE;
    unit->size = 1;
    s_link (self, number, from->segment);
    subject->root = s_insert (self, subject->root, number);
    s_age (self, subject);
}

static void
s_drop (ef_quota_t *self, uint32_t number) {
    subject_t *subject = s_subject (self, s_unit (self, number)->subject);
    s_unlink (self, number);
    subject->root = s_remove (self, subject->root, number);
    ef_slab_remove (&self->units, number);
    if (subject->root == NONE) {
        ef_heap_remove (&self->oldest, subject->place);
        ef_slab_remove (&self->subjects, subject->number);
    } else {
        s_age (self, subject);
    }
}

static void
s_copy (const ef_quota_t *self, const unit_t *unit, ef_unit_t *out) {
    out->n = unit->n;
    out->taken_ms = unit->taken_ms;
    out->segment = unit->segment;
    memcpy (out->subject, s_subject (self, unit->subject)->id, EF_SUBJECT_BYTES);
}

/* Whether a window of these settings reaches behind what was forgotten by the same ones: the clock
   was set back. By other settings it may well, and what is known is all there is. */
static bool
s_is_blind (const ef_quota_t *self, const ef_quota_config_t *config, uint64_t since_ms) {
    return since_ms < self->blind_ms && config->window_ms == self->blind_window_ms &&
           config->is_sliding == self->is_blind_sliding;
}

/* Forgets the oldest unit of all where it was taken before a moment. */
static bool
s_forget (ef_quota_t *self, const ef_quota_config_t *config, uint64_t since_ms) {
    const subject_t *subject = ef_heap_top (&self->oldest);
    if (subject == NULL || subject->oldest_ms >= since_ms) {
        return false;
    }
    const unit_t *unit = s_nth (self, subject->root, 0);
    if (!s_is_blind (self, config, unit->taken_ms)) {
        self->blind_ms = unit->taken_ms + 1;
        self->blind_window_ms = config->window_ms;
        self->is_blind_sliding = config->is_sliding;
    }
    s_drop (self, s_find_unit (self, unit->n));
    return true;
}

static bool
s_is_full (const ef_quota_t *self, const uint8_t subject[EF_SUBJECT_BYTES]) {
    return self->units.count >= EF_QUOTA_UNITS_MAX ||
           (self->subjects.count >= EF_QUOTA_SUBJECTS_MAX &&
            s_find_subject (self, subject) == NONE);
}

/* Whether a subject may have one more; else until when not. */
static ef_quota_answer_t
s_judge (ef_quota_t *self, const ef_quota_config_t *config, const ef_unit_t *unit,
         uint64_t *until_ms) {
    uint64_t since = ef_calendar_since (config, unit->taken_ms);
    if (s_is_blind (self, config, since)) {
        *until_ms = ef_calendar_leaves (config, self->blind_ms - 1);
        return EF_QUOTA_OVER;
    }
    uint32_t number = s_find_subject (self, unit->subject);
    uint32_t root = number == NONE ? NONE : s_subject (self, number)->root;
    uint32_t count = s_size (self, root);
    if (count - s_count_before (self, root, since) >= config->limit) {
        /* So many of the oldest must leave, by their dates, that there is room for one. */
        const unit_t *last = config->is_sliding ? s_nth (self, root, count - config->limit) : NULL;
        *until_ms = ef_calendar_leaves (config, last ? last->taken_ms : unit->taken_ms);
        return EF_QUOTA_OVER;
    }
    uint32_t tries = FORGOTTEN_MAX;
    while (s_is_full (self, unit->subject)) {
        if (tries-- == 0 || !s_forget (self, config, since)) {
            const subject_t *oldest = ef_heap_top (&self->oldest);
            uint64_t leaves = ef_calendar_leaves (config, oldest->oldest_ms);
            *until_ms = leaves > unit->taken_ms ? leaves : unit->taken_ms + 1;
            return EF_QUOTA_FULL;
        }
    }
    return EF_QUOTA_TAKEN;
}

ef_quota_answer_t
ef_quota_take (ef_quota_t *self, const ef_quota_config_t *config, const ef_unit_t *unit,
               uint64_t *until_ms) {
    ef_assert (config->limit > 0);
    uint32_t held = s_find_unit (self, unit->n);
    if (held != NONE &&
        s_unit (self, held)->taken_ms >= ef_calendar_since (config, unit->taken_ms)) {
        return EF_QUOTA_HELD;
    }
    ef_quota_answer_t answer = s_judge (self, config, unit, until_ms);
    if (answer == EF_QUOTA_TAKEN) {
        ef_quota_add (self, unit); /* in place of one of a window that is over */
    }
    return answer;
}

bool
ef_quota_give_back (ef_quota_t *self, uint64_t n, uint8_t subject[EF_SUBJECT_BYTES]) {
    uint32_t number = s_find_unit (self, n);
    if (number == NONE) {
        return false;
    }
    memcpy (subject, s_subject (self, s_unit (self, number)->subject)->id, EF_SUBJECT_BYTES);
    s_drop (self, number);
    return true;
}

bool
ef_quota_has (const ef_quota_t *self, uint64_t n) {
    return s_find_unit (self, n) != NONE;
}

uint32_t
ef_quota_used (const ef_quota_t *self, const ef_quota_config_t *config,
               const uint8_t subject[EF_SUBJECT_BYTES], uint64_t wall_ms) {
    uint32_t number = s_find_subject (self, subject);
    if (number == NONE) {
        return 0;
    }
    uint32_t root = s_subject (self, number)->root;
    return s_size (self, root) - s_count_before (self, root, ef_calendar_since (config, wall_ms));
}

bool
ef_quota_expire (ef_quota_t *self, const ef_quota_config_t *config, uint64_t wall_ms,
                 uint32_t most) {
    uint64_t keep =
        config->window_ms / 8 < EF_QUOTA_KEEP_MS ? config->window_ms / 8 : EF_QUOTA_KEEP_MS;
    uint64_t since = ef_calendar_since (config, wall_ms > keep ? wall_ms - keep : 0);
    while (most > 0 && s_forget (self, config, since)) {
        most--;
    }
    return most == 0;
}

void
ef_quota_add (ef_quota_t *self, const ef_unit_t *unit) {
    uint32_t number = s_find_unit (self, unit->n);
    if (number != NONE) {
        s_drop (self, number);
    }
    s_add (self, unit);
}

uint32_t
ef_quota_gather (const ef_quota_t *self, uint32_t segment, ef_unit_t *units, uint32_t most) {
    uint32_t at = s_segment_at (self, segment);
    uint32_t count = 0;
    if (at < self->segment_count && self->segments[at].segment == segment) {
        uint32_t number = self->segments[at].first;
        for (; number != NONE && count < most; number = s_unit (self, number)->after) {
            s_copy (self, s_unit (self, number), &units[count++]);
        }
    }
    return count;
}

void
ef_quota_relocate (ef_quota_t *self, uint64_t n, uint32_t segment) {
    uint32_t number = s_find_unit (self, n);
    if (number != NONE) {
        s_unlink (self, number);
        s_link (self, number, segment);
    }
}

bool
ef_quota_walk (const ef_quota_t *self, uint32_t *position, ef_unit_t *units, uint32_t *count) {
    uint32_t most = *count;
    *count = 0;
    for (; *position < self->units.used && most > 0; ++*position, most--) {
        if (ef_slab_has (&self->units, *position)) {
            s_copy (self, s_unit (self, *position), &units[(*count)++]);
        }
    }
    return *position < self->units.used;
}

uint64_t
ef_quota_digest (const ef_quota_t *self, const ef_quota_config_t *config, uint64_t wall_ms) {
    uint64_t since = ef_calendar_since (config, wall_ms);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < self->units.used; i++) {
        if (ef_slab_has (&self->units, i) && s_unit (self, i)->taken_ms >= since) {
            const unit_t *unit = s_unit (self, i);
            uint64_t subject = s_subject_hash (s_subject (self, unit->subject)->id);
            sum += s_mix (s_mix (s_mix (unit->n) ^ unit->taken_ms) ^ subject);
        }
    }
    return sum;
}

uint64_t
ef_quota_bytes (const ef_quota_t *self) {
    return ef_slab_bytes (&self->units) + ef_slab_bytes (&self->subjects) +
           (uint64_t)self->oldest.capacity * sizeof (void *) +
           (uint64_t)self->segment_capacity * sizeof *self->segments;
}

/* Counts a treap and asserts its order, its sizes and its sums. */
static uint32_t
s_check_treap (const ef_quota_t *self, uint32_t root, uint32_t subject) {
    if (root == NONE) {
        return 0;
    }
    const unit_t *unit = s_unit (self, root);
    uint32_t count = 1;
    ef_assert (unit->subject == subject);
    for (unsigned i = 0; i < 2; i++) {
        uint32_t branch = i ? unit->right : unit->left;
        if (branch != NONE) {
            ef_assert (s_is_before (unit, s_unit (self, branch)) == (i == 1));
            ef_assert (s_mix (s_unit (self, branch)->n) <= s_mix (unit->n));
            count += s_check_treap (self, branch, subject);
        }
    }
    ef_assert (unit->size == count);
    return count;
}

void
ef_quota_check (const ef_quota_t *self) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < self->subjects.used; i++) {
        if (ef_slab_has (&self->subjects, i)) {
            const subject_t *subject = s_subject (self, i);
            ef_assert (subject->number == i && s_find_subject (self, subject->id) == i);
            ef_assert (self->oldest.items[subject->place] == subject);
            ef_assert (s_nth (self, subject->root, 0)->taken_ms == subject->oldest_ms);
            count += s_check_treap (self, subject->root, i);
        }
    }
    ef_assert (count == self->units.count && self->oldest.count == self->subjects.count);
    for (uint32_t i = 0; i < self->segment_count; i++) {
        uint32_t listed = 0;
        ef_assert (i == 0 || self->segments[i - 1].segment < self->segments[i].segment);
        for (uint32_t k = self->segments[i].first; k != NONE; k = s_unit (self, k)->after) {
            const unit_t *unit = s_unit (self, k);
            ef_assert (unit->segment == self->segments[i].segment);
            ef_assert (s_find_unit (self, unit->n) == k);
            listed++;
        }
        ef_assert (listed == self->segments[i].count && listed > 0);
        count -= listed;
    }
    ef_assert (count == 0);
}
