/* A dead-letter journal and what it must hold. SPDX-License-Identifier: MIT

   A letter's bytes follow from its m. Between two commits the model keeps both states: with and
   without the group under way; after a cut either may be found, after a commit only the later. */
#include "../../proto/limits.h"
#include "cuts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define EVENT_MOST 1600

static ef_span_t
s_event (uint64_t m, char text[EVENT_MOST]) {
    uint32_t bytes = 24 + (uint32_t)(m * 2654435761u % (m % 5 == 0 ? 1500 : 200));
    memset (text, 'a' + (int)(m % 26), bytes);
    snprintf (text, EVENT_MOST, "%020llu", (unsigned long long)m);
    return (ef_span_t){text, bytes};
}

/* The id of the event that supersedes letter m for the mark-th time. */
static ef_span_t
s_mark (uint64_t m, uint32_t mark, char text[EF_ID_MAX + 1]) {
    int bytes = snprintf (text, EF_ID_MAX + 1, "%u of %llu%.*s", mark, (unsigned long long)m,
                          (int)(m % 30), "..............................");
    return (ef_span_t){text, mark ? (uint32_t)bytes : 0};
}

/* Some committed letters that stay are superseded, one perhaps again. */
static void
s_supersede (world_t *self) {
    dead_model_t *dead = &self->dead;
    char text[EF_ID_MAX + 1];
    for (uint64_t m = 1; m <= dead->highest_m; m++) {
        cut_letter_t *letter = &dead->letters[m];
        if (!letter->is_now || !letter->was || letter->b_now || !sim_one_in (&self->random, 4)) {
            continue;
        }
        uint32_t faults = sim_disk_faults (self->disk);
        if (ef_dead_log_supersede (dead->log, m, s_mark (m, letter->mark_now + 1, text)) == 0) {
            letter->mark_now++;
        } else if (!sim_disk_has_failed (self->disk) && sim_disk_faults (self->disk) == faults) {
            cuts_fail ("letter %llu can't be read to be superseded", (unsigned long long)m);
        }
    }
}

static int
s_add (world_t *self) {
    dead_model_t *dead = &self->dead;
    char text[EVENT_MOST];
    for (uint32_t i = 1 + sim_below (&self->random, 3); i > 0 && dead->highest_m + 4 < CUTS_LETTERS;
         i--) {
        uint64_t m = dead->highest_m + 1 + sim_below (&self->random, 3);
        ef_dead_t letter = {.m = m,
                            .n = 2 * m,
                            .accepted_ms = m,
                            .dead_ms = 3 * m,
                            .attempts = (uint32_t)m % 7,
                            .event = s_event (m, text),
                            .history = {"history", 7}};
        ef_dead_log_add (dead->log, &letter);
        dead->letters[m].is_now = true;
        dead->highest_m = m;
    }
    s_supersede (self);
    return 0;
}

/* Some committed letters that stay begin to leave. */
static int
s_leave (world_t *self) {
    dead_model_t *dead = &self->dead;
    uint64_t list[8];
    uint32_t count = 0;
    uint32_t wanted = 1 + sim_below (&self->random, 8);
    for (uint64_t m = 1; m <= dead->highest_m && count < wanted; m++) {
        const cut_letter_t *letter = &dead->letters[m];
        if (letter->is_now && letter->was && letter->b_now == 0 && !sim_one_in (&self->random, 3)) {
            list[count++] = m;
        }
    }
    if (count == 0 || dead->leaving_count == CUTS_LEAVINGS) {
        return 0;
    }
    uint64_t b = ef_dead_log_leave (dead->log, list, count, false);
    if (b != dead->highest_b + 1) {
        cuts_fail ("letters leave with %llu, expected %llu", (unsigned long long)b,
                   (unsigned long long)dead->highest_b + 1);
    }
    dead->highest_b = b;
    for (uint32_t i = 0; i < count; i++) {
        dead->letters[list[i]].b_now = b;
    }
    return 0;
}

/* Of what leaves and is committed, something has left. */
static int
s_left (world_t *self) {
    dead_model_t *dead = &self->dead;
    if (dead->leaving_count == 0) {
        return 0;
    }
    uint32_t at = sim_below (&self->random, dead->leaving_count);
    uint64_t b = dead->leaving[at];
    dead->leaving[at] = dead->leaving[--dead->leaving_count];
    ef_dead_log_left (dead->log, b);
    for (uint64_t m = 1; m <= dead->highest_m; m++) {
        if (dead->letters[m].is_now && dead->letters[m].b_now == b) {
            dead->letters[m].is_now = false;
        }
    }
    return 0;
}

static void
s_gather_leaving (dead_model_t *self) {
    self->leaving_count = 0;
    for (uint64_t m = 1; m <= self->highest_m; m++) {
        uint64_t b = self->letters[m].is_now ? self->letters[m].b_now : 0;
        bool is_known = b == 0;
        for (uint32_t i = 0; i < self->leaving_count && !is_known; i++) {
            is_known = self->leaving[i] == b;
        }
        if (!is_known && self->leaving_count < CUTS_LEAVINGS) {
            self->leaving[self->leaving_count++] = b;
        }
    }
}

/* Both states become one: the later or the earlier. */
static void
s_take (dead_model_t *self, bool is_later) {
    uint64_t highest = self->highest_m;
    self->highest_m_was = self->highest_m = is_later ? highest : self->highest_m_was;
    self->highest_b_was = self->highest_b = is_later ? self->highest_b : self->highest_b_was;
    for (uint64_t m = 1; m <= highest; m++) {
        cut_letter_t *letter = &self->letters[m];
        letter->was = letter->is_now = is_later ? letter->is_now : letter->was;
        letter->b_was = letter->b_now = is_later ? letter->b_now : letter->b_was;
        letter->mark_was = letter->mark_now = is_later ? letter->mark_now : letter->mark_was;
        if (!letter->was) {
            *letter = (cut_letter_t){0};
        }
    }
    s_gather_leaving (self);
}

static int
s_commit (world_t *self) {
    dead_model_t *dead = &self->dead;
    int rc = ef_dead_log_commit (dead->log);
    dead->is_full = ef_storage_is_full (rc);
    dead->has_ended = rc && !dead->is_full;
    if (rc == 0) {
        s_take (dead, true);
    }
    return rc;
}

int
cuts_dead_do (world_t *self, cut_kind_t kind) {
    if (self->dead.has_ended || self->dead.log == NULL) {
        return 0;
    }
    if (self->dead.is_full) {
        return s_commit (self); /* first of all */
    }
    switch ((int)kind) {
    case CUT_DEAD_ADD: return s_add (self);
    case CUT_DEAD_LEAVE: return s_leave (self);
    case CUT_DEAD_LEFT: return s_left (self);
    default: return s_commit (self);
    }
}

/* As far as it can be read. */
static bool
s_has_mark (const dead_model_t *self, const ef_letter_t *letter, uint32_t mark) {
    char text[EF_ID_MAX + 1];
    ef_letter_body_t body;
    ef_span_t id = s_mark (letter->m, mark, text);
    if (letter->is_superseded != (mark > 0) || mark == 0 ||
        ef_dead_log_read (self->log, letter, &body)) {
        return letter->is_superseded == (mark > 0);
    }
    bool is_it =
        body.superseded.size == id.size && memcmp (body.superseded.data, id.data, id.size) == 0;
    free (body.bytes);
    return is_it;
}

/* NULL: the log holds what one of the two states says. */
static const char *
s_differs (const dead_model_t *self, bool is_later) {
    uint32_t at = 0;
    for (uint64_t m = 1; m <= self->highest_m; m++) {
        const cut_letter_t *model = &self->letters[m];
        bool is_leaving = (is_later ? model->b_now : model->b_was) != 0;
        if (!(is_later ? model->is_now : model->was)) {
            continue;
        }
        const ef_letter_t *letter =
            at < ef_dead_log_count (self->log) ? ef_dead_log_at (self->log, at) : NULL;
        if (letter == NULL || letter->m != m) {
            return "a letter is missing, or one is there that has left";
        }
        if (letter->is_leaving != is_leaving) {
            return "it isn't known whether a letter leaves";
        }
        if (!s_has_mark (self, letter, is_later ? model->mark_now : model->mark_was)) {
            return "it isn't known by what a letter is superseded";
        }
        at++;
    }
    return at < ef_dead_log_count (self->log) ? "more letters than there should be"
           : ef_dead_log_highest (self->log) != (is_later ? self->highest_m : self->highest_m_was)
               ? "the highest m is another"
               : NULL;
}

static void
s_check_bytes (dead_model_t *self) {
    char text[EVENT_MOST];
    for (uint32_t i = 0; i < ef_dead_log_count (self->log); i++) {
        const ef_letter_t *letter = ef_dead_log_at (self->log, i);
        ef_letter_body_t body;
        if (ef_dead_log_read (self->log, letter, &body)) {
            cuts_fail ("letter %llu can't be read", (unsigned long long)letter->m);
        }
        char mark[EF_ID_MAX + 1];
        ef_span_t id = s_mark (letter->m, self->letters[letter->m].mark_now, mark);
        ef_span_t event = s_event (letter->m, text);
        bool is_true = body.event.size == event.size &&
                       memcmp (body.event.data, event.data, event.size) == 0 &&
                       body.superseded.size == id.size &&
                       memcmp (body.superseded.data, id.data, id.size) == 0 &&
                       body.history.size == 7 && letter->n == 2 * letter->m &&
                       body.accepted_ms == letter->m && letter->dead_ms == 3 * letter->m;
        free (body.bytes);
        if (!is_true) {
            cuts_fail ("letter %llu has other bytes", (unsigned long long)letter->m);
        }
    }
}

bool
cuts_dead_recover (world_t *self) {
    dead_model_t *dead = &self->dead;
    ef_wal_options_t options = {.segment_bytes = 8192, .wall_ms = 1, .random = {self->seed, 9}};
    ef_wal_report_t report;
    uint32_t faults = sim_disk_faults (self->disk);
    dead->log = ef_dead_log_new (sim_disk_open (self->disk, "dead"), &options, &report);
    bool has_struck = sim_disk_has_failed (self->disk) || sim_disk_faults (self->disk) > faults;
    if (dead->log == NULL) {
        if (!has_struck || (report.error != EIO && report.error != ENOSPC)) {
            cuts_fail ("dead letters, false alarm: error %d, %s", report.error, report.text);
        }
        return false;
    }
    const char *wrong = s_differs (dead, true);
    if (wrong && s_differs (dead, false)) {
        cuts_fail ("dead letters: %s", wrong);
    }
    s_take (dead, wrong == NULL);
    if (!has_struck) {
        s_check_bytes (dead);
    }
    dead->has_ended = dead->is_full = false;
    return true;
}
