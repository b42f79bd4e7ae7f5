/* eventflow journal export: live events as JSON lines. SPDX-License-Identifier: MIT */
#include "../../broker/journal/reader.h"
#include "journal.h"

#include <errno.h>
#include <stdlib.h>

#define READ_ALONE (64u << 10) /* bytes read for an event that stands alone */

/* Records that were read last. */
typedef struct {
    uint8_t *bytes; /* owned */
    size_t size;
    uint32_t segment;
    uint32_t offset;
} held_t;

typedef struct {
    journal_t *journal;
    replayed_t main;
    ef_dead_log_t **logs; /* owned, one a place; NULL: the main journal's */
    held_t runs;          /* two, for runs and lone events lie far apart */
    held_t alone;
    FILE *out;
    uint64_t exported;
    bool has_state[EF_STATE_COUNT];
    int rc;
} export_t;

static const uint8_t *
s_head (export_t *self, const ef_live_t *live) {
    held_t *held = live->count > 1 ? &self->runs : &self->alone;
    bool is_here = held->bytes && held->segment == live->segment && live->offset >= held->offset &&
                   live->offset - held->offset < held->size;
    if (!is_here) {
        free (held->bytes);
        int error; /* what can't be read is told by its place */
        held->bytes =
            ef_read_stretch (self->main.storage, live->segment, live->offset,
                             live->count > 1 ? EF_READ_AHEAD : READ_ALONE, &held->size, &error);
        held->segment = live->segment;
        held->offset = live->offset;
    }
    return held->bytes ? held->bytes + (live->offset - held->offset) : NULL;
}

static void
s_date (ef_buf_t *line, const char *key, uint64_t unix_ms) {
    char date[25];
    char text[80];
    ef_rfc3339 (unix_ms, date);
    snprintf (text, sizeof text, ",\"%s\":\"%s\"", key, date);
    ef_buf_put (line, text, strlen (text));
}

static int
s_write (export_t *self, ef_buf_t *line, ef_state_t state, uint64_t n) {
    char text[80];
    snprintf (text, sizeof text, ",\"state\":\"%s\",\"n\":%llu}\n", ef_state_name (state),
              (unsigned long long)n);
    ef_buf_put (line, text, strlen (text));
    self->exported++;
    return fwrite (line->data, 1, line->size, self->out) == line->size ? 0 : -1;
}

static void
s_put_death (ef_buf_t *line, ef_reason_t reason, uint64_t dead_ms) {
    char text[64];
    snprintf (text, sizeof text, ",\"reason\":\"%s\"", ef_reason_name (reason));
    ef_buf_put (line, text, strlen (text));
    s_date (line, "dead_date", dead_ms);
}

static int
s_export_run (void *arg, ef_live_t *live) {
    export_t *self = arg;
    ef_buf_t line = {0};
    ef_buf_t event = {0};
    int rc = 0;
    if (!self->has_state[live->state]) {
        return 0;
    }
    const uint8_t *head = s_head (self, live);
    while (rc == 0 && live->count > 0) {
        uint64_t accepted;
        if (head == NULL || ef_core_walk_event (head, live, &accepted, &event)) {
            self->rc = cli_fail (CLI_DAMAGED, "segment %u offset %u: its record can't be read back",
                                 live->segment, live->offset);
            rc = -1;
            break;
        }
        ef_buf_clear (&line);
        journal_event (&line, (ef_span_t){(const char *)event.data, (uint32_t)event.size}, accepted,
                       live->attempts, live->history);
        if (live->state == EF_STATE_DEAD) {
            s_put_death (&line, live->reason, live->dead_ms);
        } else if (live->state != EF_STATE_READY && live->due_ms) {
            s_date (&line, "due_date", live->due_ms);
        }
        rc = s_write (self, &line, live->state, live->n - 1);
    }
    ef_buf_free (&line);
    ef_buf_free (&event);
    return rc;
}

/* True where the main journal has taken back or purged the letter already. */
static bool
s_is_gone (const ef_dead_log_t *log, const ef_letter_t *letter, uint64_t taken_b) {
    for (uint32_t i = 0; letter->is_leaving && i < ef_dead_log_leaving_count (log); i++) {
        const ef_leaving_t *leaving = ef_dead_log_leaving (log, i);
        for (uint32_t k = 0; leaving->b <= taken_b && k < leaving->count; k++) {
            if (leaving->m[k] == letter->m) {
                return true;
            }
        }
    }
    return false;
}

static int
s_export_letters (export_t *self, const place_t *place, ef_dead_log_t *log) {
    int index = self->main.core
                    ? ef_core_find_topic (self->main.core, place->topic, strlen (place->topic))
                    : -1;
    uint64_t taken = index < 0 ? 0 : ef_core_last_return (self->main.core, (uint32_t)index);
    ef_buf_t line = {0};
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < ef_dead_log_count (log); i++) {
        const ef_letter_t *letter = ef_dead_log_at (log, i);
        ef_letter_body_t body;
        if (s_is_gone (log, letter, taken)) {
            continue;
        }
        if (ef_dead_log_read (log, letter, &body)) {
            self->rc = cli_fail (CLI_DAMAGED, "%s: segment %u offset %u: a letter can't be read",
                                 place->label, letter->segment, letter->offset);
            rc = -1;
            break;
        }
        ef_buf_clear (&line);
        journal_event (&line, body.event, body.accepted_ms, letter->attempts, body.history);
        s_put_death (&line, (ef_reason_t)letter->reason, letter->dead_ms);
        rc = s_write (self, &line, EF_STATE_DEAD, letter->n);
        free (body.bytes);
    }
    ef_buf_free (&line);
    return rc;
}

static int
s_read_states (export_t *self) {
    static const ef_state_t states[] = {EF_STATE_READY, EF_STATE_SCHEDULED, EF_STATE_RETRYING,
                                        EF_STATE_DEAD};
    const char *list = self->journal->states;
    for (unsigned i = 0; list == NULL && i < 4; i++) {
        self->has_state[states[i]] = true;
    }
    while (list) {
        size_t size = strcspn (list, ",");
        bool is_known = false;
        for (unsigned i = 0; i < 4; i++) {
            const char *name = ef_state_name (states[i]);
            if (strlen (name) == size && memcmp (name, list, size) == 0) {
                self->has_state[states[i]] = is_known = true;
            }
        }
        if (!is_known) {
            return cli_fail (CLI_USAGE,
                             "--state %.*s: expected some of ready, scheduled, "
                             "retrying, dead",
                             (int)size, list);
        }
        list = list[size] ? list + size + 1 : NULL;
    }
    return CLI_OK;
}

static int
s_damaged (const place_t *place, int rc, const char *error) {
    return cli_fail (rc, "%s: %s%s", place->label, error,
                     rc == CLI_DAMAGED ? "; salvage it first, then export the new directory" : "");
}

/* Replays every journal; the dead letters' highest m takes those out of the main one's hands. */
static int
s_open (export_t *self) {
    journal_t *journal = self->journal;
    char error[512];
    self->logs = calloc (journal->place_count, sizeof (ef_dead_log_t *));
    ef_assert (self->logs != NULL);
    for (uint32_t i = 0; i < journal->place_count; i++) {
        const place_t *place = &journal->places[i];
        ef_storage_t *storage = journal_storage (place);
        if (storage == NULL) {
            return CLI_FAILED;
        }
        if (!place->is_dead) {
            int rc = journal_replay (&self->main, storage, error);
            if (rc) {
                return s_damaged (place, rc, error);
            }
            continue;
        }
        ef_wal_report_t report;
        ef_wal_options_t options = journal_wal_options ();
        self->logs[i] = ef_dead_log_new (storage, &options, &report);
        if (self->logs[i] == NULL) {
            return s_damaged (place, report.error == EBADMSG ? CLI_DAMAGED : CLI_FAILED,
                              report.text);
        }
        if (self->main.core) {
            ef_core_replay_dead (self->main.core, place->topic,
                                 ef_dead_log_highest (self->logs[i]));
        }
    }
    if (self->main.core) {
        ef_core_log_t log = {.epoch = ef_wal_epoch (self->main.wal),
                             .oldest_segment = ef_wal_oldest (self->main.wal)};
        log.sizes = ef_wal_sizes (self->main.wal, &log.size_count);
        ef_core_start (self->main.core, &log);
    }
    return CLI_OK;
}

static bool
s_is_wanted (const export_t *self, const char *topic) {
    return self->journal->topic == NULL || strcmp (self->journal->topic, topic) == 0;
}

static void
s_export_all (export_t *self) {
    journal_t *journal = self->journal;
    uint32_t topics = self->main.core ? ef_core_topic_count (self->main.core) : 0;
    bool is_found = journal->topic == NULL;
    int rc = 0;
    if (!journal->is_data && self->main.core && self->has_state[EF_STATE_DEAD]) {
        self->has_state[EF_STATE_DEAD] = false;
        fprintf (stderr, "eventflow: without the data directory's dead/ nothing is known of dead "
                         "letters; they are left out\n");
    }
    for (uint32_t i = 0; rc == 0 && i < topics; i++) {
        if (s_is_wanted (self, ef_core_topic_name (self->main.core, i))) {
            is_found = true;
            rc = ef_core_walk (self->main.core, i, s_export_run, self);
        }
    }
    for (uint32_t i = 0; rc == 0 && i < journal->place_count; i++) {
        const place_t *place = &journal->places[i];
        if (place->is_dead && s_is_wanted (self, place->topic)) {
            is_found = true;
            rc = self->has_state[EF_STATE_DEAD] ? s_export_letters (self, place, self->logs[i]) : 0;
        }
    }
    if (rc && self->rc == CLI_OK) {
        self->rc = cli_fail (CLI_FAILED, "the events can't be written: %s", strerror (errno));
    } else if (self->rc == CLI_OK && !is_found) {
        self->rc = cli_fail (CLI_NOT_FOUND, "the journal knows no topic %s", journal->topic);
    }
}

int
journal_export (journal_t *self) {
    export_t export = {.journal = self, .out = stdout};
    export.rc = s_read_states (&export);
    if (export.rc) {
        return export.rc;
    }
    export.rc = s_open (&export);
    if (export.rc == CLI_OK && self->output) {
        export.out = fopen (self->output, "w");
        if (export.out == NULL) {
            export.rc = cli_fail (CLI_FAILED, "--output %s: %s", self->output, strerror (errno));
        }
    }
    if (export.rc == CLI_OK) {
        s_export_all (&export);
    }
    if (export.out && export.out != stdout && fclose (export.out) && export.rc == CLI_OK) {
        export.rc = cli_fail (CLI_FAILED, "--output %s: %s", self->output, strerror (errno));
    }
    if (export.rc == CLI_OK) {
        fprintf (stderr, "%llu events exported\n", (unsigned long long)export.exported);
    }
    for (uint32_t i = 0; export.logs && i < self->place_count; i++) {
        ef_dead_log_destroy (&export.logs[i]);
    }
    free (export.logs);
    free (export.runs.bytes);
    free (export.alone.bytes);
    journal_replay_free (&export.main);
    return export.rc;
}
