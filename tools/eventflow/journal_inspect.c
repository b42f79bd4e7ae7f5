/* eventflow journal inspect. SPDX-License-Identifier: MIT */
#include "journal.h"

#include <errno.h>
#include <stdlib.h>

typedef struct {
    journal_t *journal;
    const place_t *place;
    losses_t losses; /* tells damage, and knows the topics' names */
    uint32_t from_segment;
    uint64_t from_offset;
    uint64_t limit;
    uint64_t printed;
} inspect_t;

static const char *const s_main_types[] = {
    [EF_RECORD_COMMIT] = "commit", [EF_LOG_EVENTS] = "events",
    [EF_LOG_COPIES] = "copies",    [EF_LOG_ENDS] = "ends",
    [EF_LOG_ATTEMPT] = "attempt",  [EF_LOG_DEAD] = "dead",
    [EF_LOG_PURGE] = "purge",      [EF_LOG_RETURN] = "return",
    [EF_LOG_TOPIC] = "topic",      [EF_LOG_TAGS] = "tags",
    [EF_LOG_SESSION] = "session",  [EF_LOG_SESSION_END] = "session_end",
    [EF_LOG_SEED] = "seed",        [EF_LOG_IDS] = "ids",
    [EF_LOG_WAIT] = "wait",        [EF_LOG_UNIT] = "unit",
    [EF_LOG_BREAKER] = "breaker",  [EF_LOG_RESULT] = "result",
};
static const char *const s_dead_types[] = {
    [EF_RECORD_COMMIT] = "commit", [DEAD_LETTER] = "letter", [DEAD_LEAVING] = "leaving",
    [DEAD_LEFT] = "left",          [DEAD_STATE] = "state",
};
#define MAIN_TYPES (sizeof s_main_types / sizeof s_main_types[0])
#define DEAD_TYPES (sizeof s_dead_types / sizeof s_dead_types[0])

static const char *
s_type_name (bool is_dead, uint8_t type) {
    if (is_dead) {
        return type < DEAD_TYPES ? s_dead_types[type] : NULL;
    }
    return type < MAIN_TYPES ? s_main_types[type] : NULL;
}

/* True where a comma-separated list holds a word. */
static bool
s_lists (const char *list, const char *word, size_t size) {
    while (list) {
        size_t length = strcspn (list, ",");
        if (length == size && memcmp (list, word, size) == 0) {
            return true;
        }
        list = list[length] ? list + length + 1 : NULL;
    }
    return false;
}

static void
s_put_hex (line_t *line, const char *key, const uint8_t *bytes) {
    char text[33];
    for (unsigned i = 0; i < 16; i++) {
        snprintf (text + 2 * i, 3, "%02x", bytes[i]);
    }
    line_text (line, key, text, 32);
}

static void
s_put_events (line_t *line, const ef_record_t *record) {
    const uint8_t *body = record->body;
    uint32_t count = ef_le32 (body + 4);
    uint32_t outcome = ef_le32 (body + 40);
    line_uint (line, "count", count);
    line_uint (line, "first_n", ef_le64 (body + 8));
    line_uint (line, "last_n", ef_le64 (body + 8) + (count ? count - 1 : 0));
    line_date (line, "accepted", ef_le64 (body + 16));
    if (outcome >= EF_OUTCOME_HEAD && record->body_bytes >= EF_EVENTS_HEADER + EF_OUTCOME_HEAD) {
        s_put_hex (line, "session", body + EF_EVENTS_HEADER);
        line_uint (line, "session_seq", ef_le64 (body + EF_EVENTS_HEADER + 16));
    }
}

static void
s_put_copies (line_t *line, const ef_record_t *record) {
    uint32_t count = ef_le32 (record->body + 4);
    line_uint (line, "count", count);
    if (count && record->body_bytes >= EF_COPIES_HEADER + EF_COPY_HEAD) {
        line_uint (line, "first_n", ef_le64 (record->body + EF_COPIES_HEADER));
    }
    if (ef_le64 (record->body + 8)) {
        line_uint (line, "b", ef_le64 (record->body + 8));
    }
    if (record->flags & EF_COPIES_FLAG_INVALID) {
        line_text (line, "why", "invalid", 7);
    }
}

static void
s_put_attempt (line_t *line, const ef_record_t *record) {
    const uint8_t *body = record->body;
    line_uint (line, "n", ef_le64 (body + 8));
    line_uint (line, "attempts", ef_le16 (body + 4));
    line_date (line, "at", ef_le64 (body + 16));
    line_date (line, "due", ef_le64 (body + 24));
    ef_span_t error = {(const char *)body + record->header_bytes,
                       record->body_bytes - record->header_bytes};
    line_value (line, "error", error);
}

static void
s_put_dead (line_t *line, const ef_record_t *record) {
    const uint8_t *body = record->body;
    const char *reason = body[4] < EF_REASON_COUNT ? ef_reason_name ((ef_reason_t)body[4]) : "?";
    line_uint (line, "n", ef_le64 (body + 8));
    line_uint (line, "m", ef_le64 (body + 16));
    line_text (line, "reason", reason, strlen (reason));
    line_date (line, "at", ef_le64 (body + 24));
}

static void
s_put_purge (line_t *line, const ef_record_t *record) {
    bool is_list = record->flags & EF_PURGE_FLAG_LIST;
    line_uint (line, "listed", ef_le32 (record->body + 4));
    if (!is_list) {
        line_uint (line, "up_to_n", ef_le64 (record->body + 8));
    }
    line_uint (line, "gone", ef_le64 (record->body + 16));
}

static void
s_put_return (line_t *line, const ef_record_t *record) {
    line_uint (line, "count", ef_le32 (record->body + 4));
    line_uint (line, "b", ef_le64 (record->body + 8));
    line_uint (line, "purged", ef_le32 (record->body + 16));
}

static void
s_put_topic (line_t *line, const ef_record_t *record) {
    static const char *const keys[] = {"next_n", "m",        "b",      "accepted", "done",
                                       "dead",   "archived", "purged", "failed",   "deliveries"};
    uint32_t flags = ef_le32 (record->body + 4);
    line_uint (line, "index", ef_le32 (record->body));
    for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        line_uint (line, keys[i], ef_le64 (record->body + 8 + 8 * i));
    }
    if (flags & EF_TOPIC_FLAG_PAUSED) {
        line_raw (line, line->is_json ? ",\"paused\":true" : " paused");
    }
    if (flags & EF_TOPIC_FLAG_DRAINING) {
        line_raw (line, line->is_json ? ",\"draining\":true" : " draining");
    }
}

static void
s_put_tags (line_t *line, const ef_record_t *record) {
    line_uint (line, "below", ef_le64 (record->body));
}

/* What stands behind the header differs by format version and isn't looked at. */
static void
s_put_session (line_t *line, const ef_record_t *record) {
    s_put_hex (line, "session", record->body);
    line_uint (line, "session_seq", ef_le64 (record->body + 16));
    line_uint (line, "outcomes", ef_le32 (record->body + 24));
}

static void
s_put_session_end (line_t *line, const ef_record_t *record) {
    s_put_hex (line, "session", record->body);
}

static void
s_put_seed (line_t *line, const ef_record_t *record) {
    s_put_hex (line, "key", record->body);
}

static void
s_put_ids (line_t *line, const ef_record_t *record) {
    line_uint (line, "count", ef_le32 (record->body + 4));
}

static void
s_put_wait (line_t *line, const ef_record_t *record) {
    const uint8_t *body = record->body;
    const char *state = body[4] < EF_STATE_COUNT ? ef_state_name ((ef_state_t)body[4]) : "?";
    line_uint (line, "n", ef_le64 (body + 8));
    line_text (line, "state", state, strlen (state));
    line_uint (line, "attempts", ef_le16 (body + 6));
    if (ef_le64 (body + 16)) {
        line_date (line, "due", ef_le64 (body + 16));
    }
}

static void
s_put_unit (line_t *line, const ef_record_t *record) {
    line_uint (line, "n", ef_le64 (record->body + 8));
    line_date (line, "at", ef_le64 (record->body + 16));
    s_put_hex (line, "subject", record->body + 24);
}

static void
s_put_breaker (line_t *line, const ef_record_t *record) {
    const uint8_t *body = record->body;
    uint32_t size = ef_le32 (body + 4);
    bool is_whole = size <= record->body_bytes - EF_BREAKER_HEADER;
    ef_breaker_t breaker = {0};
    const char *state =
        ef_breaker_get (&breaker, body + 8) ? "?" : ef_breaker_state_name (breaker.state);
    line_text (line, "downstream", (const char *)body + EF_BREAKER_HEADER, is_whole ? size : 0);
    line_text (line, "state", state, strlen (state));
}

static void
s_put_result (line_t *line, const ef_record_t *record) {
    line_uint (line, "n", ef_le64 (record->body + 8));
    line_date (line, "at", ef_le64 (record->body + 16));
    ef_span_t result = {(const char *)record->body + record->header_bytes,
                        record->body_bytes - record->header_bytes};
    line_value (line, "result", result);
}

static void
s_put_letter (line_t *line, const ef_record_t *record) {
    const uint8_t *body = record->body;
    const char *reason = body[44] < EF_REASON_COUNT ? ef_reason_name ((ef_reason_t)body[44]) : "?";
    line_uint (line, "n", ef_le64 (body + 8));
    line_uint (line, "m", ef_le64 (body));
    line_text (line, "reason", reason, strlen (reason));
    line_uint (line, "attempts", ef_le32 (body + 32));
    line_date (line, "accepted", ef_le64 (body + 16));
    line_date (line, "at", ef_le64 (body + 24));
}

static void
s_put_leaving (line_t *line, const ef_record_t *record) {
    line_uint (line, "b", ef_le64 (record->body));
    line_uint (line, "count", ef_le32 (record->body + 12));
    if (record->body[8]) {
        line_raw (line, line->is_json ? ",\"purge\":true" : " purge");
    }
}

static void
s_put_left (line_t *line, const ef_record_t *record) {
    line_uint (line, "b", ef_le64 (record->body));
}

static void
s_put_state (line_t *line, const ef_record_t *record) {
    line_uint (line, "highest_m", ef_le64 (record->body));
    line_uint (line, "highest_b", ef_le64 (record->body + 8));
}

static void
s_put_commit (line_t *line, const ef_record_t *record) {
    line_uint (line, "group_offset", ef_le64 (record->body));
    line_uint (line, "records", ef_le32 (record->body + 8));
}

typedef struct {
    uint32_t least; /* bytes of the body that `put` reads */
    void (*put) (line_t *line, const ef_record_t *record);
} printer_t;

static const printer_t *
s_printer (bool is_dead, uint8_t type) {
    static const printer_t mains[] = {
        [EF_RECORD_COMMIT] = {EF_COMMIT_BODY, s_put_commit},
        [EF_LOG_EVENTS] = {EF_EVENTS_HEADER, s_put_events},
        [EF_LOG_COPIES] = {EF_COPIES_HEADER, s_put_copies},
        [EF_LOG_ATTEMPT] = {EF_ATTEMPT_HEADER, s_put_attempt},
        [EF_LOG_DEAD] = {EF_DEAD_HEADER, s_put_dead},
        [EF_LOG_PURGE] = {EF_PURGE_HEADER, s_put_purge},
        [EF_LOG_RETURN] = {EF_RETURN_HEADER, s_put_return},
        [EF_LOG_TOPIC] = {EF_TOPIC_HEADER, s_put_topic},
        [EF_LOG_TAGS] = {EF_TAGS_HEADER, s_put_tags},
        [EF_LOG_SESSION] = {EF_SESSION_HEADER, s_put_session},
        [EF_LOG_SESSION_END] = {16, s_put_session_end},
        [EF_LOG_SEED] = {EF_SEED_HEADER, s_put_seed},
        [EF_LOG_IDS] = {EF_IDS_HEADER, s_put_ids},
        [EF_LOG_WAIT] = {EF_WAIT_HEADER, s_put_wait},
        [EF_LOG_UNIT] = {EF_UNIT_HEADER, s_put_unit},
        [EF_LOG_BREAKER] = {EF_BREAKER_HEADER, s_put_breaker},
        [EF_LOG_RESULT] = {EF_RESULT_HEADER, s_put_result},
    };
    static const printer_t deads[] = {
        [EF_RECORD_COMMIT] = {EF_COMMIT_BODY, s_put_commit},
        [DEAD_LETTER] = {DEAD_LETTER_HEADER, s_put_letter},
        [DEAD_LEAVING] = {DEAD_LEAVING_HEADER, s_put_leaving},
        [DEAD_LEFT] = {8, s_put_left},
        [DEAD_STATE] = {DEAD_STATE_HEADER, s_put_state},
    };
    if (is_dead) {
        return type < DEAD_TYPES ? &deads[type] : NULL;
    }
    return type < MAIN_TYPES ? &mains[type] : NULL;
}

/* The events of a record, each as an object of its own: lines for people, an array in JSON. */
static void
s_put_bodies (const inspect_t *self, line_t *line, const ef_record_t *record) {
    const uint8_t *body = record->body;
    ef_buf_t event = {0};
    char n[40];
    line_raw (line, line->is_json ? ",\"events\":[" : "");
    if (self->place->is_dead) {
        uint64_t size = ef_le32 (body + 36);
        uint64_t history = ef_le32 (body + 40);
        if (DEAD_LETTER_HEADER + size + history <= record->body_bytes) {
            const char *at = (const char *)body + DEAD_LETTER_HEADER;
            line_raw (line, line->is_json ? "" : "\n  ");
            journal_event (&line->buf, (ef_span_t){at, (uint32_t)size}, ef_le64 (body + 16),
                           ef_le32 (body + 32), (ef_span_t){at + size, (uint32_t)history});
            snprintf (n, sizeof n, ",\"n\":%llu}", (unsigned long long)ef_le64 (body + 8));
            line_raw (line, n);
        }
    } else {
        ef_live_t live = {.n = ef_le64 (body + 8),
                          .count = ef_le32 (body + 4),
                          .is_copy = record->type == EF_LOG_COPIES};
        uint64_t least = live.is_copy
                             ? EF_COPIES_HEADER
                             : EF_EVENTS_HEADER + (uint64_t)ef_le32 (body + 40) + 4ull * live.count;
        uint64_t accepted;
        for (bool is_first = true;
             live.count > 0 && record->body_bytes >= least &&
             ef_core_walk_event (body - EF_RECORD_HEAD, &live, &accepted, &event) == 0;
             is_first = false) {
            line_raw (line, !line->is_json ? "\n  " : is_first ? "" : ",");
            journal_event (&line->buf, (ef_span_t){(const char *)event.data, (uint32_t)event.size},
                           accepted, live.copy_attempts, live.copy_history);
            snprintf (n, sizeof n, ",\"n\":%llu}", (unsigned long long)live.n - 1);
            line_raw (line, n);
        }
    }
    line_raw (line, line->is_json ? "]" : "");
    ef_buf_free (&event);
}

static void
s_put_ends (const inspect_t *self, line_t *line, const ef_record_t *record) {
    uint32_t items = record_topics (record);
    bool is_first = true;
    line_raw (line, line->is_json ? ",\"ends\":[" : " ends=");
    for (uint32_t i = 0; i < items; i++) {
        const uint8_t *item = record->body + record->header_bytes + i * EF_ENDS_ITEM;
        const char *name = topic_map_name (&self->losses.map, ef_le32 (item));
        unsigned long long first = ef_le64 (item + 8);
        unsigned long long last = first + ef_le32 (item + 4) - 1;
        char text[160];
        if (self->journal->topic && (name == NULL || strcmp (name, self->journal->topic) != 0)) {
            continue;
        }
        snprintf (text, sizeof text,
                  line->is_json ? "%s{\"topic\":\"%s\",\"first_n\":%llu,\"last_n\":%llu}"
                                : "%s%s:%llu-%llu",
                  is_first ? "" : ",", name ? name : "?", first, last);
        line_raw (line, text);
        is_first = false;
    }
    line_raw (line, line->is_json ? "]" : "");
}

/* True where the record is asked for by type and topic. */
static bool
s_is_wanted (const inspect_t *self, const ef_record_t *record, const char *type) {
    const journal_t *journal = self->journal;
    if (journal->types ? !s_lists (journal->types, type, strlen (type))
                       : record->type == EF_RECORD_COMMIT) {
        return false; /* commits say nothing of their own, so they must be asked for */
    }
    if (journal->topic == NULL) {
        return true;
    }
    if (self->place->is_dead) {
        return strcmp (journal->topic, self->place->topic) == 0;
    }
    uint32_t topics = record_topics (record);
    for (uint32_t i = 0; i < topics; i++) {
        const char *name = topic_map_name (&self->losses.map, record_topic (record, i));
        if (name && strcmp (name, journal->topic) == 0) {
            return true;
        }
    }
    return false;
}

static bool
s_is_before (const inspect_t *self, uint32_t segment, uint64_t offset) {
    return segment < self->from_segment ||
           (segment == self->from_segment && offset < self->from_offset);
}

static int
s_record (void *arg, const ef_record_t *record, uint64_t seq) {
    inspect_t *self = arg;
    bool is_dead = self->place->is_dead;
    losses_record (&self->losses, record);
    const char *type = s_type_name (is_dead, record->type);
    type = type ? type : "unknown";
    if (s_is_before (self, record->segment, record->offset) || !s_is_wanted (self, record, type)) {
        return 0;
    }
    line_t line;
    char head[140];
    bool has_label = self->journal->place_count > 1;
    bool is_json = self->journal->cli->json;
    snprintf (head, sizeof head, "%s%s%u:%u", has_label ? self->place->label : "",
              has_label ? " " : "", record->segment, record->offset);
    line_begin (&line, is_json, is_json ? self->place->label : head);
    if (is_json) {
        line_uint (&line, "segment", record->segment);
        line_uint (&line, "offset", record->offset);
    }
    line_uint (&line, "seq", seq);
    line_uint (&line, "epoch", record->epoch);
    line_text (&line, "type", type, strlen (type));
    const printer_t *printer = s_printer (is_dead, record->type);
    bool names_topic = !is_dead && record->type != EF_LOG_ENDS && record_topics (record) > 0;
    if (names_topic) {
        const char *name = topic_map_name (&self->losses.map, record_topic (record, 0));
        line_text (&line, "topic", name ? name : "?", name ? strlen (name) : 1);
    }
    if (printer && printer->put && record->body_bytes >= printer->least) {
        printer->put (&line, record);
    } else if (!is_dead && record->type == EF_LOG_ENDS) {
        s_put_ends (self, &line, record);
    } else {
        line_uint (&line, "number", record->type);
        line_uint (&line, "body_bytes", record->body_bytes);
    }
    bool holds_events = is_dead ? record->type == DEAD_LETTER
                                : record->type == EF_LOG_EVENTS || record->type == EF_LOG_COPIES;
    if (self->journal->has_events && holds_events && record->body_bytes >= printer->least) {
        s_put_bodies (self, &line, record);
    }
    line_print (&line, stdout);
    return ++self->printed == self->limit || ferror (stdout);
}

static void
s_finding (void *arg, const ef_finding_t *finding) {
    inspect_t *self = arg;
    if (!s_is_before (self, finding->segment, finding->offset)) {
        losses_finding (&self->losses, finding);
    }
}

/* SEGMENT or SEGMENT:OFFSET. */
static int
s_read_from (const journal_t *journal, inspect_t *self) {
    if (journal->from == NULL) {
        return CLI_OK;
    }
    char *end;
    errno = 0;
    unsigned long long segment = strtoull (journal->from, &end, 10);
    unsigned long long offset = 0;
    bool is_good = journal->from[0] >= '0' && journal->from[0] <= '9' && segment < UINT32_MAX;
    if (is_good && *end == ':') {
        is_good = end[1] >= '0' && end[1] <= '9';
        offset = strtoull (end + 1, &end, 10);
    }
    if (!is_good || *end != 0 || errno) {
        return cli_fail (CLI_USAGE, "--from %s: expected SEGMENT or SEGMENT:OFFSET, as in 3:4096",
                         journal->from);
    }
    if (journal->place_count > 1) {
        return cli_fail (CLI_USAGE, "--from is for one journal: say --kind main, or name the "
                                    "journal's own directory");
    }
    self->from_segment = (uint32_t)segment;
    self->from_offset = offset;
    return CLI_OK;
}

static int
s_check_types (const journal_t *journal) {
    for (const char *list = journal->types; list;) {
        size_t size = strcspn (list, ",");
        bool is_known = false;
        for (uint8_t type = 1; type < MAIN_TYPES; type++) {
            const char *main_name = s_type_name (false, type);
            const char *dead_name = s_type_name (true, type);
            is_known = is_known || (strlen (main_name) == size && !memcmp (main_name, list, size));
            is_known = is_known ||
                       (dead_name && strlen (dead_name) == size && !memcmp (dead_name, list, size));
        }
        if (!is_known) {
            return cli_fail (
                CLI_USAGE,
                "--type %.*s: expected some of events, copies, ends, attempt, dead, "
                "purge, return, topic, tags, session, session_end, seed, ids, wait, unit, "
                "breaker, result, commit, letter, leaving, left, state",
                (int)size, list);
        }
        list = list[size] ? list + size + 1 : NULL;
    }
    return CLI_OK;
}

int
journal_inspect (journal_t *self) {
    inspect_t inspect = {.journal = self};
    int rc = s_read_from (self, &inspect);
    rc = rc ? rc : s_check_types (self);
    if (rc == CLI_OK && self->limit) {
        rc = cli_count ("--limit", self->limit, &inspect.limit);
        if (rc == CLI_OK && inspect.limit == 0) {
            rc = cli_fail (CLI_USAGE, "--limit 0: expected 1 or more");
        }
    }
    for (uint32_t i = 0; (rc == CLI_OK || rc == CLI_FAILED) && i < self->place_count; i++) {
        ef_storage_t *storage = journal_storage (&self->places[i]);
        if (storage == NULL) {
            return CLI_FAILED;
        }
        inspect.place = &self->places[i];
        self->progress_label = inspect.place->label;
        losses_init (&inspect.losses, self, inspect.place);
        ef_scan_t scan = {.record = s_record,
                          .finding = s_finding,
                          .arg = &inspect,
                          .from_segment = inspect.from_segment};
        ef_scan_report_t report;
        int error = ef_scan (storage, &scan, &report);
        if (error) {
            rc = cli_fail (CLI_FAILED, "%s: %s", inspect.place->path, strerror (-error));
        }
        rc = inspect.losses.is_newer ? CLI_FAILED : rc;
        losses_free (&inspect.losses);
        storage->destroy (&storage);
        if (inspect.limit && inspect.printed >= inspect.limit) {
            break;
        }
    }
    return rc;
}
