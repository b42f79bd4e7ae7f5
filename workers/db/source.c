/* Values of a row, taken out of an event. SPDX-License-Identifier: MIT

   A value is looked at by the class of its column: into json goes everything in its JSON form, into
   bytes what is a str or a bin, and for all others a str is text, numbers are numbers, a bin is
   base64 where the column is text, and what is nested is JSON text. What is nil or missing is NULL.
 */
#include "source.h"
#include "../../proto/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* In the order of s_sources. */
enum {
    FROM_ID,
    FROM_TOPIC,
    FROM_TYPE,
    FROM_KEY,
    FROM_USER,
    FROM_DOWNSTREAM,
    FROM_STATE,
    FROM_REASON,
    FROM_WORKER,
    FROM_N,
    FROM_ATTEMPT,
    FROM_ATTEMPTS,
    FROM_TIME,
    FROM_ACCEPTED,
    FROM_ENDED,
    FROM_PAYLOAD,
    FROM_META,
    FROM_EVENT,
    FROM_ERRORS,
    FROM_RESULT
};

static const struct {
    const char *name;
    db_source_kind_t kind;
    bool has_paths;
} s_sources[] = {{"id", DB_SOURCE_NAME, false},       {"topic", DB_SOURCE_NAME, false},
                 {"type", DB_SOURCE_NAME, false},     {"key", DB_SOURCE_NAME, false},
                 {"user", DB_SOURCE_NAME, false},     {"downstream", DB_SOURCE_NAME, false},
                 {"state", DB_SOURCE_NAME, false},    {"reason", DB_SOURCE_NAME, false},
                 {"worker", DB_SOURCE_NAME, false},   {"n", DB_SOURCE_COUNT, false},
                 {"attempt", DB_SOURCE_COUNT, false}, {"attempts", DB_SOURCE_COUNT, false},
                 {"time", DB_SOURCE_DATE, false},     {"accepted", DB_SOURCE_DATE, false},
                 {"ended", DB_SOURCE_DATE, false},    {"payload", DB_SOURCE_VALUE, true},
                 {"meta", DB_SOURCE_VALUE, true},     {"event", DB_SOURCE_VALUE, false},
                 {"errors", DB_SOURCE_VALUE, false},  {"result", DB_SOURCE_VALUE, true}};

const char db_source_names[] =
    "id, topic, type, key, user, downstream, n, attempt, time, accepted, "
    "state, reason, attempts, worker, ended, errors, result";

int
db_source_find (const char *name, size_t size) {
    for (size_t i = 0; i < sizeof s_sources / sizeof s_sources[0]; i++) {
        if (strlen (s_sources[i].name) == size && memcmp (s_sources[i].name, name, size) == 0) {
            return (int)i;
        }
    }
    return -1;
}

bool
db_source_has_paths (uint32_t source) {
    return s_sources[source].has_paths;
}

db_source_kind_t
db_map_kind (const db_column_t *column) {
    return s_sources[column->source].kind;
}

bool
db_is_text (ef_span_t bytes) {
    return bytes.size == 0 || (memchr (bytes.data, 0, bytes.size) == NULL &&
                               ef_utf8_is_valid (bytes.data, bytes.size));
}

/* The value of one key or index. data NULL: there is none. */
static ef_span_t
s_find_one (ef_span_t value, const char *name, size_t size) {
    ef_span_t none = {NULL, 0};
    ef_cursor_t cursor = ef_cursor (value.data, value.size);
    uint32_t count;
    bool is_map = ef_get_map (&cursor, &count) == 0;
    char *end;
    unsigned long wanted = is_map ? 0 : strtoul (name, &end, 10);
    if (!is_map &&
        (ef_get_array (&cursor, &count) || name[0] < '0' || name[0] > '9' || end != name + size)) {
        return none;
    }
    for (uint32_t i = 0; i < count; i++) {
        ef_span_t key = {NULL, 0};
        if (is_map && ef_peek (&cursor) != EF_TYPE_STR ? ef_skip (&cursor)
                                                       : is_map && ef_get_str (&cursor, &key)) {
            return none;
        }
        const uint8_t *start = cursor.at;
        if (ef_skip (&cursor)) {
            return none;
        }
        bool is_it = is_map ? key.data && key.size == size && memcmp (key.data, name, size) == 0
                            : i == wanted;
        if (is_it) {
            return (ef_span_t){(const char *)start, (uint32_t)(cursor.at - start)};
        }
    }
    return none;
}

ef_span_t
db_find (ef_span_t value, const char *path) {
    while (*path && value.data) {
        size_t size = strcspn (path, ".");
        value = s_find_one (value, path, size);
        path += size + (path[size] == '.');
    }
    return value;
}

static db_value_t
s_span_value (db_kind_t kind, const ef_buf_t *arena, size_t start) {
    return (db_value_t){.kind = kind, .span = {start, (uint32_t)(arena->size - start)}};
}

/* As JSON. -1: it has no such form. */
static int
s_json_value (ef_span_t raw, ef_buf_t *arena, db_value_t *value) {
    ef_cursor_t cursor = ef_cursor (raw.data, raw.size);
    size_t start = arena->size;
    if (ef_json_print (arena, &cursor)) {
        return -1;
    }
    *value = s_span_value (DB_KIND_TEXT, arena, start);
    return 0;
}

static int
s_bytes_value (db_class_t class_id, ef_span_t bytes, bool is_text, ef_buf_t *arena,
               db_value_t *value, const char **why) {
    size_t start = arena->size;
    if (class_id == DB_CLASS_BYTES) {
        ef_buf_put (arena, bytes.data, bytes.size);
        *value = s_span_value (DB_KIND_BYTES, arena, start);
        return 0;
    }
    if (!is_text && class_id != DB_CLASS_TEXT) {
        *why = "binary, and the column isn't";
        return -1;
    }
    if (is_text && !db_is_text (bytes)) {
        *why = memchr (bytes.data, 0, bytes.size) ? "a text with a NUL byte"
                                                  : "a text that isn't UTF-8";
        return -1;
    }
    if (is_text) {
        ef_buf_put (arena, bytes.data, bytes.size);
    } else {
        ef_base64_encode (arena, bytes.data, bytes.size);
    }
    *value = s_span_value (DB_KIND_TEXT, arena, start);
    return 0;
}

/* A number beyond 63 bits stays exact as its digits. */
static void
s_large_value (uint64_t number, ef_buf_t *arena, db_value_t *value) {
    char digits[24];
    size_t start = arena->size;
    int size = snprintf (digits, sizeof digits, "%llu", (unsigned long long)number);
    ef_buf_put (arena, digits, (size_t)size);
    *value = s_span_value (DB_KIND_TEXT, arena, start);
}

static int
s_scalar_value (db_class_t class_id, ef_cursor_t *cursor, ef_buf_t *arena, db_value_t *value) {
    bool truth;
    uint64_t large;
    if (class_id == DB_CLASS_BYTES) {
        return -1;
    }
    if (ef_get_bool (cursor, &truth) == 0) {
        *value = (db_value_t){.kind = DB_KIND_TRUTH, .whole = truth};
        return 0;
    }
    if (ef_get_int (cursor, &value->whole) == 0) {
        value->kind = DB_KIND_WHOLE;
        return 0;
    }
    if (ef_get_uint (cursor, &large) == 0) {
        s_large_value (large, arena, value);
        return 0;
    }
    if (ef_get_double (cursor, &value->real) == 0) {
        value->kind = DB_KIND_REAL;
        return 0;
    }
    return -1;
}

/* A MessagePack value as the column wants it. */
static int
s_any_value (db_class_t class_id, ef_span_t raw, ef_buf_t *arena, db_value_t *value,
             const char **why) {
    ef_cursor_t cursor = ef_cursor (raw.data, raw.size);
    ef_span_t bytes;
    ef_type_t type = raw.size ? ef_peek (&cursor) : EF_TYPE_NIL;
    *value = (db_value_t){.kind = DB_KIND_NULL};
    *why = "no value that a column can hold";
    switch (type) {
    case EF_TYPE_NIL: return 0;
    case EF_TYPE_STR:
    case EF_TYPE_BIN:
        if (class_id == DB_CLASS_JSON) {
            return s_json_value (raw, arena, value);
        }
        if (ef_get_bytes (&cursor, &bytes)) {
            return -1;
        }
        return s_bytes_value (class_id, bytes, type == EF_TYPE_STR, arena, value, why);
    case EF_TYPE_BOOL:
    case EF_TYPE_INT:
    case EF_TYPE_FLOAT:
        *why = "a number, and the column is binary";
        return class_id == DB_CLASS_JSON ? s_json_value (raw, arena, value)
                                         : s_scalar_value (class_id, &cursor, arena, value);
    default:
        *why = class_id == DB_CLASS_BYTES ? "a nested value, and the column is binary" : *why;
        return class_id == DB_CLASS_BYTES ? -1 : s_json_value (raw, arena, value);
    }
}

/* The event as it was before it ended: what became of it has columns of its own. */
static int
s_event_value (const db_event_t *self, ef_buf_t *arena, db_value_t *value) {
    ef_event_t event = self->event;
    bool is_copy = self->ended.topic.data != NULL;
    ef_json_extra_t extra = {.accepted_ms = self->accepted_ms,
                             .attempts = is_copy && self->ended.attempts > 0
                                             ? (uint32_t)self->ended.attempts
                                         : self->attempt > 0 ? self->attempt - 1
                                                             : 0,
                             .errors = is_copy ? self->ended.errors : self->errors};
    ef_buf_t meta = {0};
    ef_cursor_t cursor = ef_cursor (event.meta.data, event.meta.size);
    uint32_t pairs = 0;
    uint32_t kept = 0;
    size_t start = arena->size;
    if (is_copy && ef_get_map (&cursor, &pairs) == 0) {
        size_t mark = ef_put_open (&meta);
        for (uint32_t i = 0; i < pairs; i++) {
            const uint8_t *begin = cursor.at;
            ef_span_t key;
            if (ef_get_str (&cursor, &key) || ef_skip (&cursor)) {
                break;
            }
            if (!ef_span_is (key, "ended")) {
                ef_buf_put (&meta, begin, (size_t)(cursor.at - begin));
                kept++;
            }
        }
        ef_put_close_map (&meta, mark, kept);
        event.meta = (ef_span_t){(const char *)meta.data, (uint32_t)meta.size};
        event.topic = self->ended.topic;
    }
    int rc = ef_json_event (arena, &event, &extra);
    *value = s_span_value (DB_KIND_TEXT, arena, start);
    ef_buf_free (&meta);
    return rc;
}

static ef_span_t
s_name_of (uint32_t source, const db_event_t *event) {
    bool is_done = ef_span_is (event->ended.reason, "none");
    switch (source) {
    case FROM_ID: return event->event.id;
    case FROM_TOPIC: return event->ended.topic.data ? event->ended.topic : event->event.topic;
    case FROM_TYPE: return event->event.type;
    case FROM_KEY: return event->event.key;
    case FROM_USER: return event->event.user;
    case FROM_DOWNSTREAM: return event->event.downstream;
    case FROM_STATE: return event->ended.state;
    case FROM_REASON: return is_done ? (ef_span_t){NULL, 0} : event->ended.reason;
    default: return event->ended.worker;
    }
}

/* Negative: not known. */
static int64_t
s_number_of (uint32_t source, const db_event_t *event) {
    bool is_copy = event->ended.topic.data != NULL;
    int64_t earlier = event->attempt > 0 ? (int64_t)event->attempt - 1 : -1;
    switch (source) {
    case FROM_N: return is_copy ? event->ended.n : event->n ? (int64_t)event->n : -1;
    case FROM_ATTEMPT: return event->attempt;
    case FROM_ATTEMPTS: return is_copy ? event->ended.attempts : earlier;
    case FROM_TIME:
        return event->event.time_ms >= 0 ? event->event.time_ms : (int64_t)event->accepted_ms;
    case FROM_ACCEPTED: return (int64_t)event->accepted_ms;
    default: return event->ended.at_ms;
    }
}

static ef_span_t
s_value_of (uint32_t source, const db_event_t *event) {
    switch (source) {
    case FROM_PAYLOAD: return event->event.payload;
    case FROM_META: return event->event.meta;
    case FROM_ERRORS: return event->ended.topic.data ? event->ended.errors : event->errors;
    default: return event->ended.result;
    }
}

static void
s_date_value (db_class_t class_id, int64_t ms, ef_buf_t *arena, db_value_t *value) {
    char date[25];
    size_t start = arena->size;
    if (class_id == DB_CLASS_INTEGER || class_id == DB_CLASS_NUMBER) {
        *value = (db_value_t){.kind = DB_KIND_WHOLE, .whole = ms};
        return;
    }
    ef_rfc3339 ((uint64_t)ms, date);
    if (class_id == DB_CLASS_JSON) {
        ef_json_string (arena, date, 24);
    } else {
        ef_buf_put (arena, date, 24);
    }
    *value = s_span_value (DB_KIND_TEXT, arena, start);
}

static int
s_column_value (const db_column_t *column, const db_event_t *event, ef_buf_t *arena,
                db_value_t *value, const char **why) {
    db_class_t class_id = column->class_id;
    db_source_kind_t kind = db_map_kind (column);
    ef_span_t found;
    int64_t number;
    *value = (db_value_t){.kind = DB_KIND_NULL};
    if (kind == DB_SOURCE_NAME) {
        found = s_name_of (column->source, event);
        if (found.data == NULL) {
            return 0;
        }
        if (class_id == DB_CLASS_BYTES) {
            return s_bytes_value (class_id, found, false, arena, value, why);
        }
        size_t start = arena->size;
        if (class_id == DB_CLASS_JSON) {
            ef_json_string (arena, found.data, found.size);
            *value = s_span_value (DB_KIND_TEXT, arena, start);
        } else {
            *value = (db_value_t){.kind = DB_KIND_TEXT, .span = db_put_text (arena, found)};
        }
        return 0;
    }
    if (kind != DB_SOURCE_VALUE) {
        number = s_number_of (column->source, event);
        if (number >= 0 && kind == DB_SOURCE_DATE) {
            s_date_value (class_id, number, arena, value);
        } else if (number >= 0) {
            *value = (db_value_t){.kind = DB_KIND_WHOLE, .whole = number};
        }
        return 0;
    }
    if (column->source == FROM_EVENT) {
        *why = "no JSON form";
        return s_event_value (event, arena, value);
    }
    found = s_value_of (column->source, event);
    bool is_whole = column->path[0] == 0 && class_id == DB_CLASS_TEXT;
    return s_any_value (is_whole ? DB_CLASS_JSON : class_id,
                        found.data ? db_find (found, column->path) : found, arena, value, why);
}

int
db_map_row (const db_map_t *self, const db_event_t *event, ef_buf_t *arena, db_value_t *values,
            char why[512]) {
    for (uint32_t i = 0; i < self->count; i++) {
        const db_column_t *column = &self->columns[i];
        const char *text = "";
        if (s_column_value (column, event, arena, &values[i], &text)) {
            snprintf (why, 512, "column %s: %s%s%s: %s", column->name,
                      s_sources[column->source].name, column->path[0] ? "." : "", column->path,
                      text);
            return -1;
        }
    }
    return 0;
}
