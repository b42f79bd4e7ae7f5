/* eventflow journal verify, and what is said of damage. SPDX-License-Identifier: MIT */
#include "journal.h"

#include <stdlib.h>

void
topic_map_init (topic_map_t *self) {
    self->epoch = 0;
    self->names = calloc (EF_TOPICS_MAX, sizeof *self->names);
    ef_assert (self->names != NULL);
}

void
topic_map_free (topic_map_t *self) {
    free (self->names);
    self->names = NULL;
}

bool
record_is_topic (const ef_record_t *record) {
    if (record->type != EF_LOG_TOPIC || record->header_bytes < EF_TOPIC_HEADER) {
        return false;
    }
    uint32_t name = record->body[88];
    return name > 0 && name < EF_TOPIC_NAME_BYTES && ef_le32 (record->body) < EF_TOPICS_MAX &&
           record->body_bytes >= record->header_bytes + name;
}

void
topic_map_take (topic_map_t *self, const ef_record_t *record) {
    if (record->epoch != self->epoch) {
        memset (self->names, 0, EF_TOPICS_MAX * sizeof *self->names);
        self->epoch = record->epoch;
    }
    if (record_is_topic (record)) {
        char *name = self->names[ef_le32 (record->body)];
        memset (name, 0, sizeof *self->names);
        memcpy (name, record->body + record->header_bytes, record->body[88]);
    }
}

const char *
topic_map_name (const topic_map_t *self, uint32_t index) {
    return index < EF_TOPICS_MAX && self->names[index][0] ? self->names[index] : NULL;
}

uint32_t
record_topics (const ef_record_t *record) {
    switch (record->type) {
    case EF_LOG_ENDS: return (record->body_bytes - record->header_bytes) / EF_ENDS_ITEM;
    case EF_LOG_EVENTS:
    case EF_LOG_COPIES:
    case EF_LOG_ATTEMPT:
    case EF_LOG_DEAD:
    case EF_LOG_PURGE:
    case EF_LOG_RETURN:
    case EF_LOG_IDS:
    case EF_LOG_WAIT:
    case EF_LOG_UNIT:
    case EF_LOG_BREAKER:
    case EF_LOG_RESULT:
    case EF_LOG_TOPIC: return record->body_bytes >= 8 ? 1 : 0;
    default: return 0;
    }
}

uint32_t
record_topic (const ef_record_t *record, uint32_t place) {
    uint32_t at = record->type == EF_LOG_ENDS ? record->header_bytes + place * EF_ENDS_ITEM : 0;
    return ef_le32 (record->body + at);
}

void
losses_init (losses_t *self, const journal_t *journal, const place_t *place) {
    memset (self, 0, sizeof *self);
    self->journal = journal;
    self->place = place;
    topic_map_init (&self->map);
}

void
losses_free (losses_t *self) {
    topic_map_free (&self->map);
    free (self->topics);
    self->topics = NULL;
}

static followed_t *
s_followed (losses_t *self, const char *name) {
    for (uint32_t i = 0; i < self->count; i++) {
        if (strcmp (self->topics[i].name, name) == 0) {
            return &self->topics[i];
        }
    }
    self->topics = realloc (self->topics, (self->count + 1) * sizeof *self->topics);
    ef_assert (self->topics != NULL);
    followed_t *topic = &self->topics[self->count++];
    memset (topic, 0, sizeof *topic);
    snprintf (topic->name, sizeof topic->name, "%s", name);
    return topic;
}

/* The numbers from the last one seen to `first` are gone with the damage that lies between. */
static void
s_tell_numbers (const losses_t *self, const followed_t *topic, uint64_t first) {
    if (self->journal->is_quiet) {
        return;
    }
    line_t line;
    line_begin (&line, self->journal->cli->json, self->place->label);
    if (line.is_json) {
        line_text (&line, "finding", "lost", 4);
        line_text (&line, "topic", topic->name, strlen (topic->name));
        line_uint (&line, self->place->is_dead ? "first_m" : "first_n", topic->next);
        line_uint (&line, self->place->is_dead ? "last_m" : "last_n", first - 1);
    } else {
        char text[200];
        snprintf (text, sizeof text, ": lost: %s %llu to %llu of topic %s%s",
                  self->place->is_dead ? "dead letters" : "events", (unsigned long long)topic->next,
                  (unsigned long long)first - 1, topic->name,
                  self->place->is_dead ? " (their m)" : "");
        line_raw (&line, text);
    }
    line_print (&line, stdout);
}

/* Numbers `first` to `next` - 1 stand in a record. */
static void
s_follow (losses_t *self, const char *name, uint64_t first, uint64_t next) {
    followed_t *topic = s_followed (self, name);
    if (topic->next && topic->damage != self->damage && first > topic->next) {
        s_tell_numbers (self, topic, first);
    }
    topic->next = next > topic->next ? next : topic->next;
    topic->damage = self->damage;
}

static void
s_follow_copies (losses_t *self, const char *name, const ef_record_t *record) {
    bool counts_up = ef_le64 (record->body + 8) != 0 || record->flags & EF_COPIES_FLAG_INVALID;
    if (counts_up && record->body_bytes >= EF_COPIES_HEADER + EF_COPY_HEAD) {
        uint64_t first = ef_le64 (record->body + EF_COPIES_HEADER);
        s_follow (self, name, first, first + ef_le32 (record->body + 4));
    }
}

void
losses_record (losses_t *self, const ef_record_t *record) {
    if (record->type == EF_RECORD_COMMIT) {
        return;
    }
    if (self->place->is_dead) {
        if (record->type == DEAD_LETTER && record->body_bytes >= DEAD_LETTER_HEADER) {
            uint64_t m = ef_le64 (record->body);
            s_follow (self, self->place->topic, m, m + 1);
        } else if (record->type == DEAD_STATE && record->body_bytes >= DEAD_STATE_HEADER) {
            uint64_t next = ef_le64 (record->body) + 1;
            s_follow (self, self->place->topic, next, next);
        }
        return;
    }
    topic_map_take (&self->map, record);
    uint32_t topics = record->type == EF_LOG_ENDS ? 0 : record_topics (record);
    const char *name = topics ? topic_map_name (&self->map, record_topic (record, 0)) : NULL;
    if (name == NULL) {
        return;
    }
    if (record->type == EF_LOG_EVENTS && record->body_bytes >= EF_EVENTS_HEADER) {
        uint64_t first = ef_le64 (record->body + 8);
        s_follow (self, name, first, first + ef_le32 (record->body + 4));
    } else if (record->type == EF_LOG_COPIES) {
        s_follow_copies (self, name, record);
    } else if (record->type == EF_LOG_TOPIC) {
        uint64_t next = ef_le64 (record->body + 8);
        s_follow (self, name, next, next);
    }
}

static void
s_put_seqs (line_t *line, const ef_finding_t *finding) {
    char text[120] = "";
    if (line->is_json) {
        line_uint (line, "first_seq", finding->first_seq);
        line_uint (line, "last_seq", finding->last_seq);
        return;
    }
    if (finding->first_seq && finding->last_seq == finding->first_seq) {
        snprintf (text, sizeof text, "; group %llu", (unsigned long long)finding->first_seq);
    } else if (finding->first_seq && finding->last_seq) {
        snprintf (text, sizeof text, "; groups %llu to %llu, wholly or in part",
                  (unsigned long long)finding->first_seq, (unsigned long long)finding->last_seq);
    } else if (finding->first_seq && ef_finding_is_loss (finding->kind)) {
        snprintf (text, sizeof text, "; groups from %llu on",
                  (unsigned long long)finding->first_seq);
    }
    line_raw (line, text);
}

void
losses_finding (losses_t *self, const ef_finding_t *finding) {
    bool is_loss = ef_finding_is_loss (finding->kind);
    self->damage += is_loss;
    self->is_newer = self->is_newer || finding->kind == EF_FINDING_NEWER;
    if (finding->kind == EF_FINDING_NEWER) {
        (void)cli_fail (CLI_FAILED, "%s: segment %u: %s", self->place->label, finding->segment,
                        finding->text);
        return;
    }
    if (self->journal->is_quiet) {
        return;
    }
    line_t line;
    line_begin (&line, self->journal->cli->json, self->place->label);
    const char *kind = ef_finding_name (finding->kind);
    if (line.is_json) {
        line_text (&line, "finding", kind, strlen (kind));
        line_uint (&line, "segment", finding->segment);
        line_uint (&line, "offset", finding->offset);
        line_uint (&line, "bytes", finding->bytes);
        s_put_seqs (&line, finding);
        line_raw (&line, is_loss ? ",\"loss\":true" : ",\"loss\":false");
        line_text (&line, "text", finding->text, strlen (finding->text));
    } else {
        char text[280];
        snprintf (text, sizeof text, ": segment %u offset %llu, %llu bytes: %s: %s",
                  finding->segment, (unsigned long long)finding->offset,
                  (unsigned long long)finding->bytes, kind, finding->text);
        line_raw (&line, text);
        s_put_seqs (&line, finding);
    }
    line_print (&line, stdout);
}

typedef struct {
    journal_t *journal;
    losses_t losses;
} verify_t;

static int
s_record (void *arg, const ef_record_t *record, uint64_t seq) {
    verify_t *self = arg;
    (void)seq;
    losses_record (&self->losses, record);
    return 0;
}

static void
s_finding (void *arg, const ef_finding_t *finding) {
    verify_t *self = arg;
    losses_finding (&self->losses, finding);
}

static void
s_progress (void *arg, uint64_t done, uint64_t total) {
    verify_t *self = arg;
    journal_progress (self->journal, done, total);
}

static void
s_summary (const journal_t *self, const place_t *place, const ef_scan_report_t *report) {
    line_t line;
    line_begin (&line, self->cli->json, place->label);
    if (line.is_json) {
        line_uint (&line, "segments", report->segments);
        line_uint (&line, "groups", report->groups);
        line_uint (&line, "records", report->records);
        line_uint (&line, "bytes", report->bytes);
        line_uint (&line, "torn_bytes", report->torn_bytes);
        line_raw (&line, report->losses ? ",\"intact\":false" : ",\"intact\":true");
    } else {
        char text[200];
        snprintf (text, sizeof text, ": %s: %u segments, %llu groups, %llu records, %llu bytes",
                  report->losses ? "damaged" : "intact", report->segments,
                  (unsigned long long)report->groups, (unsigned long long)report->records,
                  (unsigned long long)report->bytes);
        line_raw (&line, text);
    }
    line_print (&line, stdout);
}

int
journal_verify (journal_t *self) {
    bool is_damaged = false;
    bool is_unjudged = false;
    for (uint32_t i = 0; i < self->place_count; i++) {
        const place_t *place = &self->places[i];
        ef_storage_t *storage = journal_storage (place);
        if (storage == NULL) {
            is_unjudged = true;
            continue;
        }
        verify_t verify = {.journal = self};
        ef_scan_t scan = {
            .record = s_record, .finding = s_finding, .progress = s_progress, .arg = &verify};
        ef_scan_report_t report;
        losses_init (&verify.losses, self, place);
        self->progress_label = place->label;
        int rc = ef_scan (storage, &scan, &report);
        if (rc) {
            (void)cli_fail (CLI_FAILED, "%s: %s", place->path, strerror (-rc));
        }
        is_unjudged = is_unjudged || rc || report.is_newer;
        is_damaged = is_damaged || report.losses > 0;
        if (rc == 0 && !report.is_newer && !self->is_quiet) {
            s_summary (self, place, &report);
        }
        losses_free (&verify.losses);
        storage->destroy (&storage);
    }
    return is_damaged ? CLI_DAMAGED : is_unjudged ? CLI_FAILED : CLI_OK;
}
