/* Columns read from a setting; what an event is known by. SPDX-License-Identifier: MIT */
#include "map.h"
#include "source.h"
#include "../../broker/base/hash.h"

#include <ctype.h>
#include <stdio.h>

/* What every processed event of a topic is kept by (`on_done`), and any other one too. */
static const char s_default[] = "id, topic, n, type, time, state, reason, attempts, worker, ended, "
                                "errors, result, event";

/* Of types: what they begin with, in small letters. */
static const struct {
    const char *begin;
    db_class_t class_id;
} s_classes[] = {
    {"json", DB_CLASS_JSON},      {"bytea", DB_CLASS_BYTES},       {"blob", DB_CLASS_BYTES},
    {"timestamp", DB_CLASS_TIME}, {"datetime", DB_CLASS_TIME},     {"date", DB_CLASS_TIME},
    {"int", DB_CLASS_INTEGER},    {"bigint", DB_CLASS_INTEGER},    {"smallint", DB_CLASS_INTEGER},
    {"serial", DB_CLASS_INTEGER}, {"bigserial", DB_CLASS_INTEGER}, {"numeric", DB_CLASS_NUMBER},
    {"decimal", DB_CLASS_NUMBER}, {"real", DB_CLASS_NUMBER},       {"float", DB_CLASS_NUMBER},
    {"double", DB_CLASS_NUMBER},  {"bool", DB_CLASS_BOOLEAN},      {"text", DB_CLASS_TEXT},
    {"char", DB_CLASS_TEXT},      {"varchar", DB_CLASS_TEXT},      {"clob", DB_CLASS_TEXT}};

db_class_t
db_class_of (const char *type) {
    char small[80];
    size_t size = 0;
    for (; type[size] && size + 1 < sizeof small; size++) {
        small[size] = (char)tolower ((unsigned char)type[size]);
    }
    small[size] = 0;
    if (strcmp (small, "interval") == 0 || (size >= 2 && strcmp (small + size - 2, "[]") == 0)) {
        return DB_CLASS_OTHER; /* not an int, not its element */
    }
    for (size_t i = 0; i < sizeof s_classes / sizeof s_classes[0]; i++) {
        if (strncmp (small, s_classes[i].begin, strlen (s_classes[i].begin)) == 0) {
            return s_classes[i].class_id;
        }
    }
    return DB_CLASS_OTHER;
}

/* Of a column whose type isn't given. */
static db_class_t
s_natural_class (const db_column_t *column) {
    switch (db_map_kind (column)) {
    case DB_SOURCE_COUNT: return DB_CLASS_INTEGER;
    case DB_SOURCE_DATE: return DB_CLASS_TIME;
    case DB_SOURCE_VALUE: return column->path[0] ? DB_CLASS_TEXT : DB_CLASS_JSON;
    default: return DB_CLASS_TEXT;
    }
}

static const char *
s_copy_trimmed (const char *from, const char *end, char *to, size_t bytes) {
    while (from < end && isspace ((unsigned char)*from)) {
        from++;
    }
    while (end > from && isspace ((unsigned char)end[-1])) {
        end--;
    }
    if ((size_t)(end - from) >= bytes) {
        return NULL;
    }
    memcpy (to, from, (size_t)(end - from));
    to[end - from] = 0;
    return to;
}

/* A type goes into CREATE TABLE as it is: words, sizes, no way out of the statement. */
static bool
s_is_type (const char *type) {
    int depth = 0;
    for (const char *at = type; *at; at++) {
        depth += (*at == '(') - (*at == ')');
        if (depth < 0 || (!isalnum ((unsigned char)*at) && strchr (" _(),[].\"", *at) == NULL)) {
            return false;
        }
    }
    return depth == 0;
}

/* "path type" or "path"; a path alone names its column too. */
static int
s_read_source (db_column_t *column, const char *text, char error[512]) {
    size_t size = strcspn (text, " \t");
    char path[256];
    if (size >= sizeof path) {
        snprintf (error, 512, "columns: %.60s...: expected a path of up to %zu bytes", text,
                  sizeof path - 1);
        return -1;
    }
    memcpy (path, text, size);
    path[size] = 0;
    const char *rest = path + strcspn (path, ".");
    int source = db_source_find (path, (size_t)(rest - path));
    bool has_path = *rest != 0;
    if (source < 0 || (has_path && (!db_source_has_paths ((uint32_t)source) || rest[1] == 0))) {
        snprintf (error, 512,
                  "columns: %.100s: expected payload, payload.NAME, meta.NAME, result.NAME, event, "
                  "or one of %s",
                  path, db_source_names);
        return -1;
    }
    if (strlen (rest) > sizeof column->path) {
        snprintf (error, 512, "columns: %.60s...: expected a path of up to %zu bytes", path,
                  sizeof column->path);
        return -1;
    }
    column->source = (uint32_t)source;
    memcpy (column->path, has_path ? rest + 1 : "", strlen (has_path ? rest + 1 : "") + 1);
    const char *type = text + size;
    if (s_copy_trimmed (type, type + strlen (type), column->type, sizeof column->type) == NULL ||
        !s_is_type (column->type)) {
        snprintf (error, 512, "columns: %.100s: expected a type such as bigint or numeric(10,2)",
                  text);
        return -1;
    }
    column->class_id = column->type[0] ? db_class_of (column->type) : s_natural_class (column);
    return 0;
}

static int
s_read_column (db_map_t *self, const char *begin, const char *end, char error[512]) {
    char text[400];
    if (s_copy_trimmed (begin, end, text, sizeof text) == NULL || text[0] == 0) {
        snprintf (error, 512,
                  "columns: %.*s: expected name=path, or name=path type, with commas "
                  "between",
                  (int)(end - begin < 100 ? end - begin : 100), begin);
        return -1;
    }
    if (self->count == DB_COLUMNS_MAX) {
        snprintf (error, 512, "columns: expected up to %d columns", DB_COLUMNS_MAX);
        return -1;
    }
    db_column_t *column = &self->columns[self->count];
    const char *equals = strchr (text, '=');
    const char *path = equals ? equals + 1 + strspn (equals + 1, " \t") : text;
    const char *name_end = equals ? equals : text + strcspn (text, " \t");
    char name[DB_NAME_BYTES];
    if (s_copy_trimmed (text, name_end, name, sizeof name) == NULL || name[0] == 0) {
        snprintf (error, 512, "columns: %.100s: expected a column's name of up to %d bytes", text,
                  DB_NAME_BYTES - 1);
        return -1;
    }
    if (equals == NULL && strchr (name, '.')) {
        snprintf (error, 512, "columns: %.60s: expected name=%.60s", name, name);
        return -1;
    }
    if (db_map_has (self, name)) {
        snprintf (error, 512, "columns: %s is there twice", name);
        return -1;
    }
    memcpy (column->name, name, sizeof name);
    if (s_read_source (column, path, error)) {
        return -1;
    }
    self->count++;
    return 0;
}

int
db_map_read (db_map_t *self, const char *text, char error[512]) {
    text = text[strspn (text, " \t")] ? text : s_default;
    self->count = 0;
    const char *begin = text;
    int depth = 0;
    for (const char *at = text;; at++) {
        depth += (*at == '(') - (*at == ')');
        if (*at && (*at != ',' || depth > 0)) {
            continue;
        }
        if (s_read_column (self, begin, at, error)) {
            return -1;
        }
        if (*at == 0) {
            return 0;
        }
        begin = at + 1;
    }
}

bool
db_map_has (const db_map_t *self, const char *name) {
    for (uint32_t i = 0; i < self->count; i++) {
        if (strcmp (self->columns[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- What an event says ---- */

static int64_t
s_whole (ef_cursor_t *cursor) {
    int64_t number;
    return ef_get_int (cursor, &number) == 0 ? number : -1;
}

static void
s_read_ended (db_ended_t *self, ef_span_t map) {
    ef_cursor_t cursor = ef_cursor (map.data, map.size);
    uint32_t pairs;
    if (map.data == NULL || ef_get_map (&cursor, &pairs)) {
        return;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        ef_span_t text = {NULL, 0};
        if (ef_get_str (&cursor, &key)) {
            return;
        }
        ef_cursor_t value = cursor;
        if (ef_skip (&cursor)) {
            return;
        }
        ef_span_t raw = {(const char *)value.at, (uint32_t)(cursor.at - value.at)};
        bool is_text = ef_get_str (&value, &text) == 0;
        if (is_text && ef_span_is (key, "topic")) {
            self->topic = text;
        } else if (is_text && ef_span_is (key, "state")) {
            self->state = text;
        } else if (is_text && ef_span_is (key, "reason")) {
            self->reason = text;
        } else if (is_text && ef_span_is (key, "worker")) {
            self->worker = text;
        } else if (ef_span_is (key, "errors")) {
            self->errors = raw;
        } else if (ef_span_is (key, "result")) {
            self->result = raw;
        } else if (ef_span_is (key, "n")) {
            self->n = s_whole (&value);
        } else if (ef_span_is (key, "at")) {
            self->at_ms = s_whole (&value);
        } else if (ef_span_is (key, "attempts")) {
            self->attempts = s_whole (&value);
        }
    }
}

int
db_event_read (db_event_t *self, const void *bytes, size_t size) {
    ef_cursor_t cursor = ef_cursor (bytes, size);
    const char *why;
    memset (self, 0, sizeof *self);
    if (ef_event_read (&cursor, &self->event, &why) != EF_OK) {
        return -1;
    }
    self->ended.n = self->ended.at_ms = self->ended.attempts = -1;
    if (self->event.meta.data) {
        s_read_ended (&self->ended, db_find (self->event.meta, "ended"));
    }
    return 0;
}

/* A name as text: as it is where it can be, else in hexadecimal digits. */
db_span_t
db_put_text (ef_buf_t *arena, ef_span_t name) {
    db_span_t span = {arena->size, 0};
    if (db_is_text (name)) {
        ef_buf_put (arena, name.data, name.size);
    } else {
        ef_buf_put (arena, "\\x", 2);
        for (uint32_t i = 0; i < name.size; i++) {
            char digits[3];
            snprintf (digits, sizeof digits, "%02x", (unsigned char)name.data[i]);
            ef_buf_put (arena, digits, 2);
        }
    }
    span.size = (uint32_t)(arena->size - span.at);
    return span;
}

/* An event that comes again has its topic, its id and its payload again; an id that a producer
   uses anew for something else isn't taken for a repeat. A copy of an event that has ended is known
   by that one's number and end: the same id may end in several topics, and twice in one of them. */
void
db_event_key (const db_event_t *self, ef_buf_t *arena, db_key_t *key) {
    static const uint64_t fixed[2] = {0x65766e74666c6f77, 0x6462}; /* the same for ever */
    const ef_event_t *event = &self->event;
    char mark[100];
    char name[24];
    ef_span_t id = event->id;
    if (id.data == NULL) {
        id.size = (uint32_t)snprintf (name, sizeof name, "#%llu", (unsigned long long)self->tag);
        id.data = name;
    }
    if (self->ended.topic.data) {
        snprintf (mark, sizeof mark, "%lld.%.*s", (long long)self->ended.n,
                  (int)(self->ended.state.size < 50 ? self->ended.state.size : 50),
                  self->ended.state.size ? self->ended.state.data : "");
    } else {
        uint64_t hash[2];
        ef_siphash128 (fixed, event->payload.data, event->payload.size, hash);
        snprintf (mark, sizeof mark, "%016llx", (unsigned long long)hash[0]);
    }
    key->topic = db_put_text (arena, self->ended.topic.data ? self->ended.topic : event->topic);
    key->id = db_put_text (arena, id);
    key->mark = db_put_text (arena, (ef_span_t){mark, (uint32_t)strlen (mark)});
}
