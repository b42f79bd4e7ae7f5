/* One event as a client says it. SPDX-License-Identifier: MIT */
#include "item.h"
#include "../../broker/base/hash.h"
#include "../../proto/json.h"
#include "../../proto/limits.h"

#include <stdio.h>
#include <stdlib.h>

/* Which of an event's parts a member is. */
typedef enum {
    PART_TOPIC,
    PART_ID,
    PART_PAYLOAD,
    PART_TYPE,
    PART_KEY,
    PART_USER,
    PART_AT,
    PART_TIME,
    PART_DELAY,
    PART_TTL,
    PART_SCHEMA,
    PART_DOWNSTREAM,
    PART_TRACE,
    PART_HEADERS,
    PART_ON_DEAD,
    PART_IGNORED, /* what the broker adds on the way out */
    PART_OTHER
} part_t;

#define M(name, part)                                                                              \
    { {name, sizeof name - 1}, part }
static const struct {
    ef_span_t name;
    part_t part;
} s_members[] = {
    M ("topic", PART_TOPIC),     M ("queue", PART_TOPIC),           M ("type", PART_TYPE),
    M ("event_type", PART_TYPE), M ("payload", PART_PAYLOAD),       M ("id", PART_ID),
    M ("user", PART_USER),       M ("user_id", PART_USER),          M ("key", PART_KEY),
    M ("at", PART_AT),           M ("delay", PART_DELAY),           M ("ttl", PART_TTL),
    M ("time", PART_TIME),       M ("dispatch_date", PART_TIME),    M ("schema", PART_SCHEMA),
    M ("trace", PART_TRACE),     M ("traceparent", PART_TRACE),     M ("headers", PART_HEADERS),
    M ("on_dead", PART_ON_DEAD), M ("downstream", PART_DOWNSTREAM), M ("attempts", PART_IGNORED),
    M ("error", PART_IGNORED),
};
#undef M

typedef struct {
    const item_defaults_t *defaults;
    char *why;
    ef_span_t values[PART_OTHER]; /* MessagePack of the members that are there */
    ef_buf_t meta;                /* pairs, owned */
    uint32_t pairs;
} reading_t;

static int
s_fail (char why[ITEM_WHY_BYTES], ef_span_t name, const char *expected) {
    snprintf (why, ITEM_WHY_BYTES, "%.*s: expected %s", (int)(name.size < 60 ? name.size : 60),
              name.data, expected);
    return -1;
}

static ef_span_t
s_span (const char *text) {
    return (ef_span_t){text, (uint32_t)strlen (text)};
}

static part_t
s_part (ef_span_t name) {
    for (size_t i = 0; i < sizeof s_members / sizeof s_members[0]; i++) {
        const ef_span_t known = s_members[i].name;
        if (name.size == known.size && memcmp (name.data, known.data, known.size) == 0) {
            return s_members[i].part;
        }
    }
    return PART_OTHER;
}

static void
s_put_ms (reading_t *self, const char *key, int64_t ms) {
    ef_put_str (&self->meta, key);
    ef_put_int (&self->meta, ms);
    self->pairs++;
}

static int
s_take_ms (reading_t *self, ef_span_t name, const char *key, ef_cursor_t value, bool is_date) {
    uint64_t number;
    ef_span_t text;
    int64_t ms = -1;
    if (ef_get_uint (&value, &number) == 0) {
        ms = number < INT64_MAX ? (int64_t)number : -1;
    } else if (ef_get_str (&value, &text) == 0) {
        int rc = is_date ? ef_rfc3339_parse (text.data, text.size, &ms)
                         : ef_duration_parse (text.data, text.size, &ms);
        ms = rc ? -1 : ms;
    }
    if (ms < 0) {
        return s_fail (self->why, name,
                       is_date ? "a date as \"2025-01-31T12:00:00Z\", or ms since 1970"
                               : "a span as \"5m\", or milliseconds");
    }
    s_put_ms (self, key, ms);
    return 0;
}

static int
s_take_text (reading_t *self, ef_span_t name, const char *key, ef_cursor_t value) {
    ef_span_t text;
    int64_t number;
    char digits[32];
    const uint8_t *start = value.at;
    bool is_user = strcmp (key, "user") == 0;
    if (is_user && ef_get_int (&value, &number) == 0) { /* as many number their users */
        snprintf (digits, sizeof digits, "%lld", (long long)number);
        ef_put_key_str (&self->meta, key, digits);
        self->pairs++;
        return 0;
    }
    bool is_key = strcmp (key, "key") == 0;
    int rc = is_key ? ef_get_bytes (&value, &text) : ef_get_str (&value, &text);
    if (rc || (is_key && text.size > EF_ID_MAX)) {
        return s_fail (self->why, name, is_key ? "a string of up to 64 bytes" : "a string");
    }
    ef_put_str (&self->meta, key);
    ef_buf_put (&self->meta, start, (size_t)(value.at - start));
    self->pairs++;
    return 0;
}

/* An event that is accepted when this one dies. */
static int
s_take_on_dead (reading_t *self, ef_span_t name, ef_cursor_t value) {
    const item_defaults_t none = {.topic = {NULL, 0}};
    item_view_t view;
    char why[ITEM_WHY_BYTES];
    size_t before = self->meta.size;
    ef_put_str (&self->meta, "on_dead");
    bool is_map = ef_peek (&value) == EF_TYPE_MAP;
    int rc = is_map ? item_read (&self->meta, &value, &none, &view, why)
                    : item_take (&self->meta, &value, &none, &view, why);
    if (rc) {
        self->meta.size = before;
        snprintf (self->why, ITEM_WHY_BYTES, "%.*s.%.150s", (int)name.size, name.data, why);
        return -1;
    }
    self->pairs++;
    return 0;
}

static int
s_take_meta (reading_t *self, part_t part, ef_span_t name, ef_cursor_t value) {
    const uint8_t *start = value.at;
    int64_t number;
    switch (part) {
    case PART_KEY: return s_take_text (self, name, "key", value);
    case PART_USER: return s_take_text (self, name, "user", value);
    case PART_DOWNSTREAM: return s_take_text (self, name, "downstream", value);
    case PART_TRACE: return s_take_text (self, name, "trace", value);
    case PART_AT: return s_take_ms (self, name, "at", value, true);
    case PART_TIME: return s_take_ms (self, name, "time", value, true);
    case PART_DELAY: return s_take_ms (self, name, "delay", value, false);
    case PART_TTL: return s_take_ms (self, name, "ttl", value, false);
    case PART_ON_DEAD: return s_take_on_dead (self, name, value);
    case PART_SCHEMA:
        if (ef_get_int (&value, &number)) {
            return s_fail (self->why, name, "a number");
        }
        s_put_ms (self, "schema", number);
        return 0;
    case PART_HEADERS:
        if (ef_peek (&value) != EF_TYPE_MAP) {
            return s_fail (self->why, name, "an object");
        }
        break;
    default: break;
    }
    int rc = ef_skip (&value);
    ef_assert (rc == 0); /* it was passed over once already */
    ef_put_strn (&self->meta, name.data, name.size);
    ef_buf_put (&self->meta, start, (size_t)(value.at - start));
    self->pairs++;
    return 0;
}

/* Passes over the members, keeping where each part is; what is one of meta is written there. */
static int
s_read_members (reading_t *self, ef_cursor_t *map) {
    uint32_t count;
    if (ef_peek (map) != EF_TYPE_MAP || ef_get_map (map, &count)) {
        snprintf (self->why, ITEM_WHY_BYTES, "expected an object with a payload");
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        ef_span_t name;
        if (ef_get_str (map, &name) || !ef_utf8_is_valid (name.data, name.size)) {
            snprintf (self->why, ITEM_WHY_BYTES, "expected names that are strings of UTF-8");
            return -1;
        }
        ef_cursor_t value = *map;
        if (ef_skip (map)) {
            return s_fail (self->why, name, "a value nested to 32 at the most");
        }
        part_t part = s_part (name);
        bool is_nil = ef_peek (&value) == EF_TYPE_NIL;
        if (part == PART_IGNORED) {
            continue;
        }
        if (part < PART_OTHER && self->values[part].data) {
            return s_fail (self->why, name, "it once only, and under one name");
        }
        if (part < PART_OTHER) {
            self->values[part] =
                (ef_span_t){(const char *)value.at, (uint32_t)(map->at - value.at)};
        }
        /* Null is as if it weren't there, but for the payload, whose value it is. */
        bool is_meta = part > PART_PAYLOAD && part != PART_TYPE && !is_nil;
        if (is_meta && s_take_meta (self, part, name, value)) {
            return -1;
        }
    }
    return 0;
}

/* A text that may be left out; nil counts as absent. -1: it is something else. */
static int
s_text_of (ef_span_t value, ef_span_t *text, bool may_be_bin) {
    ef_cursor_t cursor = ef_cursor (value.data, value.size);
    *text = (ef_span_t){NULL, 0};
    if (value.data == NULL || ef_get_nil (&cursor) == 0) {
        return 0;
    }
    return may_be_bin ? ef_get_bytes (&cursor, text) : ef_get_str (&cursor, text);
}

static int
s_check (char why[ITEM_WHY_BYTES], const item_view_t *view, const item_defaults_t *defaults) {
    if (view->topic.data && !ef_topic_is_valid (view->topic.data, view->topic.size)) {
        return s_fail (why, s_span ("topic"),
                       "1 to 53 of a-z A-Z 0-9 . _ -, beginning with a letter or digit");
    }
    if (view->id.data && (view->id.size == 0 || view->id.size > EF_ID_MAX)) {
        return s_fail (why, s_span ("id"), "a string of 1 to 64 bytes");
    }
    if (view->type.data && !ef_utf8_is_valid (view->type.data, view->type.size)) {
        return s_fail (why, s_span ("type"), "UTF-8");
    }
    if (defaults->needs_type && (view->type.data == NULL || view->type.size == 0)) {
        return s_fail (why, s_span ("type"), "a string: what kind of event it is");
    }
    return 0;
}

static void
s_put_text (ef_buf_t *out, ef_span_t text) {
    if (text.data) {
        ef_put_strn (out, text.data, text.size);
    } else {
        ef_put_nil (out);
    }
}

/* Reads what was written from `start` on, so that the view points into it; what can't be read is
   taken back. */
static int
s_look (ef_buf_t *out, size_t start, item_view_t *view, char why[ITEM_WHY_BYTES]) {
    ef_cursor_t cursor = ef_cursor (out->data + start, out->size - start);
    ef_event_t event;
    const char *expected = NULL;
    if (ef_event_read (&cursor, &event, &expected) != EF_OK) {
        out->size = start;
        snprintf (why, ITEM_WHY_BYTES, "expected %s", expected ? expected : "less nesting");
        return -1;
    }
    *view = (item_view_t){event.topic, event.type, event.id, event.payload, event.schema};
    return 0;
}

static void
s_write (reading_t *self, ef_buf_t *out, const item_view_t *view) {
    bool has_type = view->type.data && view->type.size > 0;
    uint32_t pairs = self->pairs + has_type;
    ef_put_array (out, pairs ? 4 : 3);
    s_put_text (out, view->topic);
    s_put_text (out, view->id);
    ef_buf_put (out, self->values[PART_PAYLOAD].data, self->values[PART_PAYLOAD].size);
    if (pairs) {
        ef_put_map (out, pairs);
    }
    if (has_type) {
        ef_put_str (out, "type");
        ef_put_strn (out, view->type.data, view->type.size);
    }
    ef_buf_put (out, self->meta.data, self->meta.size);
}

int
item_read (ef_buf_t *out, ef_cursor_t *map, const item_defaults_t *defaults, item_view_t *view,
           char why[ITEM_WHY_BYTES]) {
    reading_t self = {.defaults = defaults, .why = why};
    size_t start = out->size;
    *view = (item_view_t){.schema = -1};
    int rc = s_read_members (&self, map);
    if (rc == 0 && s_text_of (self.values[PART_TOPIC], &view->topic, false)) {
        rc = s_fail (why, s_span ("topic"), "a string");
    } else if (rc == 0 && s_text_of (self.values[PART_TYPE], &view->type, false)) {
        rc = s_fail (why, s_span ("type"), "a string");
    } else if (rc == 0 && s_text_of (self.values[PART_ID], &view->id, true)) {
        rc = s_fail (why, s_span ("id"), "a string of 1 to 64 bytes");
    } else if (rc == 0 && self.values[PART_PAYLOAD].data == NULL) {
        rc = s_fail (why, s_span ("payload"), "one (its value may be null)");
    }
    view->topic = view->topic.data ? view->topic : defaults->topic;
    view->type = view->type.data ? view->type : defaults->type;
    view->id = view->id.data ? view->id : defaults->id;
    rc = rc ? rc : s_check (why, view, defaults);
    if (rc == 0) {
        s_write (&self, out, view);
        rc = s_look (out, start, view, why);
    }
    ef_buf_free (&self.meta);
    return rc;
}

/* Names in meta are shown as names in JSON. */
static bool
s_names_are_text (ef_span_t meta) {
    ef_cursor_t cursor = ef_cursor (meta.data, meta.size);
    uint32_t pairs = 0;
    bool is_well = meta.size == 0 || ef_get_map (&cursor, &pairs) == 0;
    for (uint32_t i = 0; is_well && i < pairs; i++) {
        ef_span_t name;
        is_well = ef_get_str (&cursor, &name) == 0 && ef_utf8_is_valid (name.data, name.size) &&
                  ef_skip (&cursor) == 0;
    }
    return is_well;
}

int
item_take (ef_buf_t *out, ef_cursor_t *array, const item_defaults_t *defaults, item_view_t *view,
           char why[ITEM_WHY_BYTES]) {
    ef_event_t event;
    const char *expected = "bytes that can be read";
    size_t start = out->size;
    ef_status_t status = ef_event_read (array, &event, &expected);
    *view = (item_view_t){.schema = -1};
    if (status != EF_OK) {
        snprintf (why, ITEM_WHY_BYTES, "expected %s", expected ? expected : "an event");
        return -1;
    }
    *view = (item_view_t){event.topic.data ? event.topic : defaults->topic, event.type,
                          event.id.data ? event.id : defaults->id, event.payload, event.schema};
    if (s_check (why, view, defaults)) {
        return -1;
    }
    if (!s_names_are_text (event.meta)) {
        return s_fail (why, s_span ("meta"), "names that are strings of UTF-8");
    }
    ef_put_array (out, event.fields);
    s_put_text (out, view->topic);
    s_put_text (out, view->id);
    ef_buf_put (out, event.tail.data, event.tail.size);
    return s_look (out, start, view, why);
}

/* ---- keys that are there twice ---- */

#define PAIRWISE_MAX 16 /* keys of a map that are compared each with each */

static const void *
s_key_of (const void *item, size_t *size) {
    const ef_span_t *span = item;
    *size = span->size;
    return span->data;
}

static const ef_span_t *
s_twice_few (const ef_span_t *keys, uint32_t count) {
    for (uint32_t i = 1; i < count; i++) {
        for (uint32_t k = 0; k < i; k++) {
            if (keys[i].size == keys[k].size &&
                memcmp (keys[i].data, keys[k].data, keys[i].size) == 0) {
                return &keys[i];
            }
        }
    }
    return NULL;
}

static const ef_span_t *
s_twice_many (ef_span_t *keys, uint32_t count) {
    ef_hash_t table;
    const uint64_t random[2] = {ef_random (), ef_random ()};
    const ef_span_t *found = NULL;
    ef_hash_init (&table, random, s_key_of);
    for (uint32_t i = 0; i < count && found == NULL; i++) {
        if (ef_hash_find (&table, keys[i].data, keys[i].size)) {
            found = &keys[i];
        } else {
            ef_hash_insert (&table, &keys[i]);
        }
    }
    ef_hash_free (&table);
    return found;
}

/* Looks into a value; the cursor moves behind it. NULL: nothing is there twice. */
static const char *
s_twice (ef_cursor_t *cursor, uint32_t *size, unsigned depth) {
    ef_type_t type = ef_peek (cursor);
    uint32_t count = 0;
    const char *found = NULL;
    ef_span_t few[PAIRWISE_MAX];
    ef_span_t *keys = few;
    if (depth > EF_NESTING_MAX || (type != EF_TYPE_MAP && type != EF_TYPE_ARRAY)) {
        return ef_skip (cursor) ? "" : NULL;
    }
    if (type == EF_TYPE_ARRAY ? ef_get_array (cursor, &count) : ef_get_map (cursor, &count)) {
        return "";
    }
    if (type == EF_TYPE_MAP && count > PAIRWISE_MAX) {
        keys = malloc (count * sizeof *keys); /* no more than the input has bytes for */
        ef_assert (keys != NULL);
    }
    for (uint32_t i = 0; i < count && found == NULL; i++) {
        if (type == EF_TYPE_MAP) {
            const uint8_t *start = cursor->at;
            found = ef_skip (cursor) ? "" : NULL;
            keys[i] = (ef_span_t){(const char *)start, (uint32_t)(cursor->at - start)};
        }
        found = found ? found : s_twice (cursor, size, depth + 1);
    }
    if (found == NULL && type == EF_TYPE_MAP) {
        const ef_span_t *key =
            count > PAIRWISE_MAX ? s_twice_many (keys, count) : s_twice_few (keys, count);
        ef_cursor_t one = ef_cursor (key ? key->data : NULL, key ? key->size : 0);
        ef_span_t text = {"", 0};
        if (key) {
            int rc = ef_get_str (&one, &text);
            found = rc ? "" : text.data; /* what is no str is named by nothing */
            *size = text.size;
        }
    }
    if (keys != few) {
        free (keys);
    }
    return found;
}

const char *
item_twice (ef_cursor_t value, uint32_t *size) {
    *size = 0;
    return s_twice (&value, size, 0);
}
