/* eventflow journal salvage: what is intact, in a new data directory. SPDX-License-Identifier: MIT

   Every record is given to a core first, as the broker's replay would be given it; what that
   refuses isn't copied. What a loss means: without a lost record of events these are gone; without
   a lost end, attempt or death the event is as it was before it and comes again, as delivery at
   least once allows; a purge that is lost gives its events back. Totals are set right at the end.
 */
#include "journal_copy.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

/* An index that records of an epoch use before anything intact names it. */
typedef struct {
    uint32_t epoch;
    uint32_t index;
    ef_buf_t record; /* owned: a later TOPIC record of the epoch; empty: there is none */
} wanted_t;

typedef struct {
    journal_t *journal;
    char path[PATH_MAX]; /* the new directory while it is being made */
    copy_t copy;
    ef_core_t *core;  /* owned; has replayed what was copied */
    topic_map_t map;  /* first of what is read, then of what is copied */
    wanted_t *wanted; /* owned */
    uint32_t wanted_count;
    uint64_t tag_limit;
    uint64_t *letters; /* owned, by the core's index of the topic */
    bool has_losses;
} salvage_t;

static wanted_t *
s_wanted (const salvage_t *self, uint32_t epoch, uint32_t index) {
    for (uint32_t i = 0; i < self->wanted_count; i++) {
        if (self->wanted[i].epoch == epoch && self->wanted[i].index == index) {
            return &self->wanted[i];
        }
    }
    return NULL;
}

/* First reading: which indices are used before they are named. */
static int
s_look (void *arg, const ef_record_t *record, uint64_t seq) {
    salvage_t *self = arg;
    (void)seq;
    topic_map_take (&self->map, record);
    if (record_is_topic (record)) {
        wanted_t *wanted = s_wanted (self, record->epoch, ef_le32 (record->body));
        if (wanted && wanted->record.size == 0) {
            copy_put (&wanted->record, record);
        }
        return 0;
    }
    uint32_t topics = record_topics (record);
    for (uint32_t i = 0; i < topics; i++) {
        uint32_t index = record_topic (record, i);
        if (topic_map_name (&self->map, index) == NULL && index < EF_TOPICS_MAX &&
            s_wanted (self, record->epoch, index) == NULL) {
            self->wanted = realloc (self->wanted, (self->wanted_count + 1) * sizeof *self->wanted);
            ef_assert (self->wanted != NULL);
            self->wanted[self->wanted_count++] = (wanted_t){.epoch = record->epoch, .index = index};
        }
    }
    return 0;
}

static int
s_find_names (salvage_t *self, const place_t *place) {
    ef_storage_t *storage = journal_storage (place);
    ef_scan_t scan = {.record = s_look, .arg = self};
    ef_scan_report_t report;
    if (storage == NULL) {
        return CLI_FAILED;
    }
    topic_map_init (&self->map);
    int rc = ef_scan (storage, &scan, &report);
    storage->destroy (&storage);
    topic_map_free (&self->map);
    topic_map_init (&self->map);
    return rc ? cli_fail (CLI_FAILED, "%s: %s", place->path, strerror (-rc)) : CLI_OK;
}

/* Names an index by the record of another segment of the same epoch. */
static bool
s_name (salvage_t *self, const ef_record_t *user, uint32_t index, ef_buf_t *out) {
    const wanted_t *wanted = s_wanted (self, user->epoch, index);
    if (wanted == NULL || wanted->record.size == 0) {
        return false;
    }
    ef_record_t record = *user;
    ef_record_t topic;
    ef_record_view (wanted->record.data, user->segment, 0, &topic);
    record.type = topic.type;
    record.flags = topic.flags;
    record.header_bytes = topic.header_bytes;
    record.body = topic.body;
    record.body_bytes = topic.body_bytes;
    if (ef_core_replay (self->core, &record)) {
        return false;
    }
    topic_map_take (&self->map, &record);
    copy_put (out, &record);
    return true;
}

/* What the replay takes, but would take wrongly or in part. */
static bool
s_is_sound (const ef_record_t *record) {
    if (record->type == EF_LOG_TOPIC) {
        return record_is_topic (record);
    }
    if (record->type == EF_LOG_ENDS) {
        return record->header_bytes + record_topics (record) * EF_ENDS_ITEM == record->body_bytes;
    }
    return true;
}

static const char *
s_take (void *arg, const ef_record_t *record, ef_buf_t *out) {
    salvage_t *self = arg;
    uint32_t topics = record->type == EF_LOG_TOPIC ? 0 : record_topics (record);
    if (record->epoch != self->map.epoch) {
        topic_map_take (&self->map, record); /* the numbers of another run */
    }
    if (!s_is_sound (record)) {
        return "a record that makes no sense";
    }
    for (uint32_t i = 0; i < topics; i++) {
        uint32_t index = record_topic (record, i);
        if (topic_map_name (&self->map, index) == NULL && !s_name (self, record, index, out)) {
            return "nothing that is left names its topic";
        }
    }
    if (ef_core_replay (self->core, record)) {
        return "a record that makes no sense";
    }
    if (record->type == EF_LOG_TAGS && ef_le64 (record->body) > self->tag_limit) {
        self->tag_limit = ef_le64 (record->body);
    }
    topic_map_take (&self->map, record);
    if (record->type == EF_LOG_SESSION) {
        ef_core_write_session (self->core, record->body, out); /* in this version's form */
    } else {
        copy_put (out, record);
    }
    return NULL;
}

static int
s_salvage_main (salvage_t *self, const place_t *place) {
    char path[PATH_MAX + 16];
    snprintf (path, sizeof path, "%s/journal", self->path);
    self->core = journal_core_new ();
    int rc = s_find_names (self, place);
    self->copy = (copy_t){.take = s_take, .arg = self};
    rc = rc ? rc : copy_run (&self->copy, self->journal, place, path);
    self->has_losses = copy_has_losses (&self->copy);
    return rc;
}

static int
s_salvage_letters (salvage_t *self, const place_t *place) {
    char path[PATH_MAX + 100];
    dead_copy_t result = {0};
    int index =
        self->core ? ef_core_find_topic (self->core, place->topic, strlen (place->topic)) : -1;
    uint64_t taken = index < 0 ? 0 : ef_core_last_return (self->core, (uint32_t)index);
    if (place->topic[0] == 0) {
        return cli_fail (CLI_USAGE, "%s: expected a directory named TOPIC" DEAD_SUFFIX,
                         place->path);
    }
    snprintf (path, sizeof path, "%s/dead/%s" DEAD_SUFFIX, self->path, place->topic);
    int rc = copy_dead (self->journal, place, path, taken, &result);
    self->has_losses = self->has_losses || result.has_losses;
    if (rc == CLI_OK && self->core) {
        ef_core_replay_dead (self->core, place->topic, result.highest_m);
        index = ef_core_find_topic (self->core, place->topic, strlen (place->topic));
        ef_assert (index >= 0 && index < (int)EF_TOPICS_MAX);
        self->letters[index] = result.letters;
    }
    return rc;
}

/* Topics whose moves back have a number, and whose dead letters are gone with their directory. */
static int
s_salvage_numbers (salvage_t *self) {
    int rc = CLI_OK;
    for (uint32_t i = 0; rc == CLI_OK && self->core && i < ef_core_topic_count (self->core); i++) {
        const char *name = ef_core_topic_name (self->core, i);
        bool is_here = ef_core_last_return (self->core, i) == 0;
        for (uint32_t k = 0; k < self->journal->place_count && !is_here; k++) {
            is_here = strcmp (self->journal->places[k].topic, name) == 0;
        }
        if (!is_here) {
            char path[PATH_MAX + 100];
            snprintf (path, sizeof path, "%s/dead/%s" DEAD_SUFFIX, self->path, name);
            rc = copy_dead_new (path, ef_core_last_return (self->core, i));
        }
    }
    return rc;
}

static void
s_tell_totals (const salvage_t *self, uint32_t index, uint64_t accepted, uint64_t dead) {
    const char *name = ef_core_topic_name (self->core, index);
    uint64_t accepted_now = ef_core_accepted (self->core, index);
    uint64_t dead_now = ef_core_count (self->core, index, EF_STATE_DEAD);
    if (self->journal->is_quiet) {
        return;
    }
    line_t line;
    line_begin (&line, self->journal->cli->json, self->copy.losses.place->label);
    if (line.is_json) {
        line_text (&line, "finding", "totals", 6);
        line_text (&line, "topic", name, strlen (name));
        line_uint (&line, "accepted_was", accepted);
        line_uint (&line, "accepted", accepted_now);
        line_uint (&line, "dead_was", dead);
        line_uint (&line, "dead", dead_now);
    } else {
        char text[240];
        snprintf (text, sizeof text,
                  ": totals of topic %s don't fit what is there: accepted %llu, now %llu; dead "
                  "%llu, now %llu",
                  name, (unsigned long long)accepted, (unsigned long long)accepted_now,
                  (unsigned long long)dead, (unsigned long long)dead_now);
        line_raw (&line, text);
    }
    line_print (&line, stdout);
}

/* Totals that agree with what is there, and tags that no lost record gave out. Where they didn't
   agree something is lost, though every byte may be right: segments before the oldest one. */
static int
s_correct (salvage_t *self) {
    ef_buf_t records = {0};
    uint64_t tags = self->tag_limit + 2 * EF_TAG_BLOCK; /* a block may have been asked for */
    size_t mark = ef_record_begin (&records, EF_LOG_TAGS, 0, EF_TAGS_HEADER);
    ef_le64_put (records.data + mark + EF_RECORD_HEAD, tags < EF_TAG_MAX ? tags : EF_TAG_MAX);
    ef_record_end (&records, mark);
    bool knows_letters = self->journal->is_data && self->journal->kind == NULL;
    for (uint32_t i = 0; i < ef_core_topic_count (self->core); i++) {
        uint64_t accepted = ef_core_accepted (self->core, i);
        uint64_t dead = ef_core_count (self->core, i, EF_STATE_DEAD);
        if (ef_core_correct_totals (self->core, i, knows_letters ? self->letters[i] : UINT64_MAX,
                                    &records)) {
            self->has_losses = true;
            s_tell_totals (self, i, accepted, dead);
        }
    }
    int rc = self->has_losses ? copy_append (&self->copy, &records) : CLI_OK;
    ef_buf_free (&records);
    return rc;
}

/* The new main journal must open as it will for a broker. */
static int
s_check (const salvage_t *self) {
    char path[PATH_MAX + 16];
    char error[512];
    int errno_of;
    snprintf (path, sizeof path, "%s/journal", self->path);
    ef_storage_t *storage = ef_storage_read_new (path, &errno_of);
    if (storage == NULL) {
        return cli_fail (CLI_FAILED, "%s: %s", path, strerror (errno_of));
    }
    replayed_t replayed;
    int rc = journal_replay (&replayed, storage, error);
    journal_replay_free (&replayed);
    return rc ? cli_fail (CLI_FAILED, "%s: the copy doesn't open: %s", path, error) : CLI_OK;
}

/* True where a directory is there and holds something, or where something else is there. */
static bool
s_is_taken (const char *path) {
    DIR *listing = opendir (path);
    if (listing == NULL) {
        return errno != ENOENT;
    }
    bool is_taken = false;
    struct dirent *entry;
    while ((entry = readdir (listing)) != NULL) {
        is_taken = is_taken || (strcmp (entry->d_name, ".") && strcmp (entry->d_name, ".."));
    }
    closedir (listing);
    return is_taken;
}

static int
s_sync_directory (const char *path) {
    int error;
    ef_storage_t *storage = ef_storage_new (path, &error);
    if (storage == NULL) {
        return -error;
    }
    int rc = storage->sync_directory (storage);
    storage->destroy (&storage);
    return rc;
}

/* Under its own name only once it is whole, so that no broker opens half of it. */
static int
s_publish (const salvage_t *self, const char *target) {
    char parent[PATH_MAX];
    snprintf (parent, sizeof parent, "%s", target);
    char *slash = strrchr (parent, '/');
    if (slash) {
        slash[slash == parent] = 0;
    }
    int rc = rename (self->path, target) ? -errno : 0;
    rc = rc ? rc : s_sync_directory (slash ? parent : ".");
    return rc ? cli_fail (CLI_FAILED, "%s: it can't be named %s: %s", self->path, target,
                          strerror (-rc))
              : CLI_OK;
}

static int
s_salvage_all (salvage_t *self, const char *target) {
    journal_t *journal = self->journal;
    int rc = CLI_OK;
    self->letters = calloc (EF_TOPICS_MAX, sizeof *self->letters);
    ef_assert (self->letters != NULL);
    for (uint32_t i = 0; rc == CLI_OK && i < journal->place_count; i++) {
        const place_t *place = &journal->places[i];
        rc = place->is_dead ? s_salvage_letters (self, place) : s_salvage_main (self, place);
    }
    rc = rc ? rc : s_salvage_numbers (self);
    if (rc == CLI_OK && self->core) {
        rc = s_correct (self);
        rc = rc ? rc : s_check (self);
    }
    return rc ? rc : s_publish (self, target);
}

int
journal_salvage (journal_t *self, const char *target) {
    salvage_t salvage = {.journal = self};
    char clean[PATH_MAX - 16];
    snprintf (clean, sizeof clean, "%s", target);
    for (size_t size = strlen (clean); size > 1 && clean[size - 1] == '/'; size--) {
        clean[size - 1] = 0;
    }
    snprintf (salvage.path, sizeof salvage.path, "%s.partial", clean);
    if (strlen (target) >= sizeof clean || s_is_taken (clean)) {
        return cli_fail (CLI_REFUSED, "%s: expected a directory that is empty or not there yet",
                         target);
    }
    if (s_is_taken (salvage.path)) {
        return cli_fail (CLI_REFUSED, "%s: left by a salvage that didn't end; remove it first",
                         salvage.path);
    }
    int rc = s_salvage_all (&salvage, clean);
    if (rc == CLI_OK && !self->is_quiet) {
        fprintf (stderr,
                 salvage.has_losses
                     ? "%s holds what is intact. Events whose record is lost are gone; those whose "
                       "end is lost come again\n"
                     : "%s holds all of it\n",
                 clean);
    }
    if (rc && s_is_taken (salvage.path)) {
        fprintf (stderr, "eventflow: %s is unfinished; remove it\n", salvage.path);
    }
    copy_free (&salvage.copy);
    ef_core_destroy (&salvage.core);
    if (salvage.map.names) {
        topic_map_free (&salvage.map);
    }
    for (uint32_t i = 0; i < salvage.wanted_count; i++) {
        ef_buf_free (&salvage.wanted[i].record);
    }
    free (salvage.wanted);
    free (salvage.letters);
    return rc ? rc : salvage.has_losses ? CLI_DAMAGED : CLI_OK;
}
