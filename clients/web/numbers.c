/* A broker's numbers, read. SPDX-License-Identifier: MIT */
#include "numbers.h"
#include "../../proto/event.h"
#include "../../proto/json.h"

#include <stdlib.h>

typedef enum {
    KIND_NUMBER,
    KIND_BOOL,
    KIND_NOT,
    KIND_TEXT,
    KIND_HISTOGRAM,
    KIND_FAILURES,
    KIND_DEATHS
} field_kind_t;

/* A pair of a map and the field that it fills. */
typedef struct {
    const char *name;
    field_kind_t kind;
    size_t offset;
    size_t bytes;
} field_t;

#define S_NUMBER(type, name) {#name, KIND_NUMBER, offsetof (type, name), 8},
#define S_OTHER(type, key, kind, member)                                                           \
    { key, kind, offsetof (type, member), sizeof (((type *)0)->member) }
#define S_TOPIC(name)   S_NUMBER (numbers_topic_t, name)
#define S_WORKER(name)  S_NUMBER (numbers_worker_t, name)
#define S_POOL(name)    S_NUMBER (numbers_pool_t, name)
#define S_BROKER(name)  S_NUMBER (numbers_broker_t, name)
#define S_FAILURE(name) S_NUMBER (numbers_failures_t, name)
#define S_DEATH(name)   S_NUMBER (numbers_deaths_t, name)

/* clang-format off */
static const field_t s_topic_fields[] = {
    S_OTHER (numbers_topic_t, "paused", KIND_BOOL, is_paused),
    S_OTHER (numbers_topic_t, "draining", KIND_BOOL, is_draining),
    NUMBERS_TOPIC (S_TOPIC)
    S_OTHER (numbers_topic_t, "took", KIND_HISTOGRAM, took),
    S_OTHER (numbers_topic_t, "waited", KIND_HISTOGRAM, waited),
    S_OTHER (numbers_topic_t, "failures", KIND_FAILURES, failures),
    S_OTHER (numbers_topic_t, "deaths", KIND_DEATHS, deaths),
};
static const field_t s_failure_fields[] = {NUMBERS_FAILURES (S_FAILURE)};
static const field_t s_death_fields[] = {NUMBERS_DEATHS (S_DEATH)};
static const field_t s_worker_fields[] = {
    NUMBERS_WORKER (S_WORKER)
    S_OTHER (numbers_worker_t, "draining", KIND_BOOL, is_draining),
    S_OTHER (numbers_worker_t, "healthy", KIND_NOT, is_unhealthy),
    S_OTHER (numbers_worker_t, "unhealthy", KIND_TEXT, unhealthy),
};
static const field_t s_pool_fields[] = {
    S_OTHER (numbers_pool_t, "managed", KIND_BOOL, is_managed),
    NUMBERS_POOL (S_POOL)
};
static const field_t s_broker_fields[] = {
    S_OTHER (numbers_broker_t, "broker", KIND_TEXT, broker),
    S_OTHER (numbers_broker_t, "durability", KIND_TEXT, durability),
    S_OTHER (numbers_broker_t, "space", KIND_TEXT, space),
    S_OTHER (numbers_broker_t, "draining", KIND_BOOL, is_draining),
    S_OTHER (numbers_broker_t, "recovering", KIND_BOOL, is_recovering),
    S_OTHER (numbers_broker_t, "config_ok", KIND_NOT, is_config_refused),
    NUMBERS_BROKER (S_BROKER)
    S_OTHER (numbers_broker_t, "version", KIND_TEXT, version),
    S_OTHER (numbers_broker_t, "sync", KIND_HISTOGRAM, sync),
};
/* clang-format on */
#define COUNT(table)    (sizeof (table) / sizeof (table)[0])

static const void *
s_topic_key (const void *item, size_t *size) {
    const numbers_topic_t *topic = item;
    *size = strlen (topic->topic);
    return topic->topic;
}

static const void *
s_worker_key (const void *item, size_t *size) {
    const numbers_worker_t *worker = item;
    *size = strlen (worker->worker);
    return worker->worker;
}

static const void *
s_pool_key (const void *item, size_t *size) {
    const numbers_pool_t *pool = item;
    *size = strlen (pool->topic);
    return pool->topic;
}

void
numbers_init (numbers_t *self) {
    uint64_t key[2] = {ef_random (), ef_random ()};
    memset (self, 0, sizeof *self);
    ef_hash_init (&self->topics, key, s_topic_key);
    ef_hash_init (&self->workers, key, s_worker_key);
    ef_hash_init (&self->pools, key, s_pool_key);
}

static void
s_forget_topic (numbers_t *self, numbers_topic_t *topic) {
    if (self->forget) {
        self->forget (self->arg, topic);
    }
    ef_buf_free (&topic->map);
    free (topic);
}

void
numbers_free (numbers_t *self) {
    numbers_topic_t *topic;
    numbers_worker_t *worker;
    numbers_pool_t *pool;
    for (uint32_t at = 0; (topic = ef_hash_next (&self->topics, &at)) != NULL;) {
        s_forget_topic (self, topic);
    }
    for (uint32_t at = 0; (worker = ef_hash_next (&self->workers, &at)) != NULL;) {
        ef_buf_free (&worker->map);
        free (worker);
    }
    for (uint32_t at = 0; (pool = ef_hash_next (&self->pools, &at)) != NULL;) {
        ef_buf_free (&pool->map);
        free (pool);
    }
    ef_hash_free (&self->topics);
    ef_hash_free (&self->workers);
    ef_hash_free (&self->pools);
    ef_buf_free (&self->broker.broker_map);
    ef_buf_free (&self->broker.process_map);
}

/* {"count", "sum_ms" or "sum_us", "below": […]}: times in ms are told from 2 on, those in µs from
   64 on. */
static void
s_read_histogram (numbers_histogram_t *self, ef_cursor_t map) {
    ef_cursor_t value;
    uint32_t steps = 0;
    memset (self, 0, sizeof *self);
    bool is_us = ef_map_find (map, "sum_us", &value);
    if ((!is_us && !ef_map_find (map, "sum_ms", &value)) || ef_get_uint (&value, &self->sum) ||
        !ef_map_find (map, "below", &value) || ef_get_array (&value, &steps) ||
        steps > NUMBERS_STEPS_MAX) {
        return;
    }
    uint64_t most = 0;
    for (uint32_t i = 0; i < steps; i++) {
        if (ef_get_uint (&value, &self->below[i])) {
            return;
        }
        /* Written while others count: it never shrinks here. */
        most = self->below[i] > most ? self->below[i] : most;
        self->below[i] = most;
    }
    if (!ef_map_find (map, "count", &value) || ef_get_uint (&value, &self->count)) {
        return;
    }
    self->count = self->count > most ? self->count : most;
    self->first = is_us ? 64 : 2;
    self->steps = steps;
}

static int s_read_map (const field_t *fields, size_t count, void *base, ef_cursor_t map);

static void
s_read_field (const field_t *field, void *base, ef_cursor_t value) {
    void *at = (char *)base + field->offset;
    uint64_t number = 0;
    bool is_set = false;
    ef_span_t span = {NULL, 0};
    switch (field->kind) {
    case KIND_NUMBER:
        if (ef_get_uint (&value, &number)) {
            number = 0;
        }
        memcpy (at, &number, sizeof number);
        break;
    case KIND_BOOL:
    case KIND_NOT:
        if (ef_get_bool (&value, &is_set)) {
            is_set = field->kind == KIND_NOT;
        }
        *(bool *)at = is_set != (field->kind == KIND_NOT);
        break;
    case KIND_TEXT:
        if (ef_get_bytes (&value, &span) == 0) {
            ef_span_copy (span, at, field->bytes);
            ef_text_clean (at);
        }
        break;
    case KIND_HISTOGRAM: s_read_histogram (at, value); break;
    case KIND_FAILURES: /* one that can't be read to its end is cut */
        (void)s_read_map (s_failure_fields, COUNT (s_failure_fields), at, value);
        break;
    case KIND_DEATHS: (void)s_read_map (s_death_fields, COUNT (s_death_fields), at, value); break;
    }
}

/* Keys come in the order of the table, nearly: the search goes on behind the last one found. */
static int
s_read_map (const field_t *fields, size_t count, void *base, ef_cursor_t map) {
    uint32_t pairs;
    size_t next = 0;
    if (ef_get_map (&map, &pairs)) {
        return -1;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t name = {NULL, 0};
        if (ef_get_bytes (&map, &name) && ef_skip (&map)) {
            return -1;
        }
        ef_cursor_t value = map;
        if (ef_skip (&map)) {
            return -1;
        }
        for (size_t k = 0; name.data && k < count; k++) {
            const field_t *field = &fields[(next + k) % count];
            if (ef_span_is (name, field->name)) {
                s_read_field (field, base, value);
                next = (next + k + 1) % count;
                break;
            }
        }
    }
    return 0;
}

/* What a map lacks is 0. */
static void
s_clear (const field_t *fields, size_t count, void *base) {
    for (size_t i = 0; i < count; i++) {
        if (fields[i].kind != KIND_TEXT) {
            memset ((char *)base + fields[i].offset, 0, fields[i].bytes);
        }
    }
}

static void
s_keep (ef_buf_t *map, ef_cursor_t cursor) {
    ef_buf_clear (map);
    ef_buf_put (map, cursor.at, ef_cursor_left (&cursor));
}

/* A whole map and nothing behind it, not too large. */
static bool
s_is_map (ef_cursor_t map) {
    return ef_peek (&map) == EF_TYPE_MAP && ef_cursor_left (&map) <= NUMBERS_MAP_MAX &&
           ef_skip (&map) == 0 && map.at == map.end;
}

/* Text of one line. */
static bool
s_is_line (ef_span_t span) {
    for (uint32_t i = 0; i < span.size; i++) {
        if ((uint8_t)span.data[i] < ' ' || span.data[i] == 127) {
            return false;
        }
    }
    return ef_utf8_is_valid (span.data, span.size);
}

/* A name, once and for all: it is a key of the table. What is none of a broker's is not told on:
   topics as the protocol has them, of workers what can be a label. */
/* The broker's own ($invalid) have a sign before a name. */
static bool
s_is_topic (ef_span_t name) {
    uint32_t sign = name.size > 0 && name.data[0] == '$';
    return ef_topic_is_valid (name.data + sign, name.size - sign);
}

static int
s_name (ef_cursor_t map, const char *key, char name[NUMBERS_NAME_BYTES]) {
    ef_cursor_t value;
    ef_span_t span;
    if (!ef_map_find (map, key, &value) || ef_get_bytes (&value, &span) || span.size == 0 ||
        span.size >= NUMBERS_NAME_BYTES) {
        return -1;
    }
    bool is_topic = strcmp (key, "topic") == 0;
    if (is_topic ? !s_is_topic (span) : !s_is_line (span)) {
        return -1;
    }
    ef_span_copy (span, name, NUMBERS_NAME_BYTES);
    return 0;
}

static int
s_take_topic (numbers_t *self, ef_cursor_t map) {
    char name[NUMBERS_NAME_BYTES];
    if (!s_is_map (map) || s_name (map, "topic", name)) {
        return -1;
    }
    numbers_topic_t *topic = numbers_topic (self, name);
    if (topic == NULL) {
        if (self->topics.count >= NUMBERS_TOPICS_MAX) {
            return 1;
        }
        topic = calloc (1, sizeof *topic);
        ef_assert (topic != NULL);
        memcpy (topic->topic, name, sizeof name);
        ef_hash_insert (&self->topics, topic);
    }
    s_clear (s_topic_fields, COUNT (s_topic_fields), topic);
    int rc = s_read_map (s_topic_fields, COUNT (s_topic_fields), topic, map);
#define S_SUM(name) +topic->deaths.name
    topic->died = NUMBERS_DEATHS (S_SUM);
#undef S_SUM
    s_keep (&topic->map, map);
    topic->round = self->round;
    return rc;
}

/* The first of its topics, and why it isn't well where that is said. */
static void
s_take_topics_of (numbers_worker_t *worker, ef_cursor_t map) {
    ef_cursor_t value;
    uint32_t count;
    ef_span_t span;
    worker->topic[0] = '\0';
    if (ef_map_find (map, "topics", &value) && ef_get_array (&value, &count) == 0 && count > 0 &&
        ef_get_str (&value, &span) == 0 && ef_topic_is_valid (span.data, span.size)) {
        ef_span_copy (span, worker->topic, sizeof worker->topic);
    }
}

static int
s_take_worker (numbers_t *self, ef_cursor_t map) {
    char name[NUMBERS_NAME_BYTES];
    if (!s_is_map (map) || s_name (map, "worker", name)) {
        return -1;
    }
    numbers_worker_t *worker = ef_hash_find (&self->workers, name, strlen (name));
    if (worker == NULL) {
        if (self->workers.count >= NUMBERS_WORKERS_MAX) {
            return 1;
        }
        worker = calloc (1, sizeof *worker);
        ef_assert (worker != NULL);
        memcpy (worker->worker, name, sizeof name);
        ef_hash_insert (&self->workers, worker);
    }
    s_clear (s_worker_fields, COUNT (s_worker_fields), worker);
    int rc = s_read_map (s_worker_fields, COUNT (s_worker_fields), worker, map);
    s_take_topics_of (worker, map);
    s_keep (&worker->map, map);
    worker->round = self->round;
    return rc;
}

static int
s_take_pool (numbers_t *self, ef_cursor_t map) {
    char name[NUMBERS_NAME_BYTES];
    if (!s_is_map (map) || s_name (map, "topic", name)) {
        return -1;
    }
    numbers_pool_t *pool = numbers_pool (self, name);
    if (pool == NULL) {
        if (self->pools.count >= NUMBERS_TOPICS_MAX) {
            return 1;
        }
        pool = calloc (1, sizeof *pool);
        ef_assert (pool != NULL);
        memcpy (pool->topic, name, sizeof name);
        ef_hash_insert (&self->pools, pool);
    }
    s_clear (s_pool_fields, COUNT (s_pool_fields), pool);
    int rc = s_read_map (s_pool_fields, COUNT (s_pool_fields), pool, map);
    s_keep (&pool->map, map);
    pool->round = self->round;
    return rc;
}

static numbers_named_t *
s_find_named (numbers_named_t *rows, uint32_t count, ef_span_t name) {
    for (uint32_t i = 0; i < count; i++) {
        if (ef_span_is (name, rows[i].name)) {
            return &rows[i];
        }
    }
    return NULL;
}

static void
s_read_refused (numbers_broker_t *self, ef_cursor_t map) {
    uint32_t pairs;
    self->refused_count = 0;
    if (ef_get_map (&map, &pairs)) {
        return;
    }
    for (uint32_t i = 0; i < pairs && self->refused_count < NUMBERS_CODES_MAX; i++) {
        ef_span_t code;
        numbers_named_t *row = &self->refused[self->refused_count];
        if (ef_get_str (&map, &code) || ef_get_uint (&map, &row->count)) {
            return;
        }
        if (s_find_named (self->refused, self->refused_count, code) == NULL &&
            code.size < sizeof row->name && s_is_line (code)) {
            ef_span_copy (code, row->name, sizeof row->name);
            self->refused_count++;
        }
    }
}

static int
s_take_status (numbers_t *self, ef_cursor_t map) {
    numbers_broker_t *broker = &self->broker;
    ef_cursor_t parts[2];
    ef_cursor_t value;
    if (!s_is_map (map) || !ef_map_find (map, "broker", &parts[0]) ||
        !ef_map_find (map, "process", &parts[1]) || ef_peek (&parts[0]) != EF_TYPE_MAP ||
        ef_peek (&parts[1]) != EF_TYPE_MAP) {
        return -1;
    }
    s_clear (s_broker_fields, COUNT (s_broker_fields), broker);
    for (unsigned i = 0; i < 2; i++) {
        if (s_read_map (s_broker_fields, COUNT (s_broker_fields), broker, parts[i])) {
            return -1;
        }
    }
    if (ef_map_find (parts[0], "refused", &value)) {
        s_read_refused (broker, value);
    }
    broker->has_disk_free = ef_map_find (parts[1], "disk_free_bytes", &value) ||
                            ef_map_find (parts[0], "disk_free_bytes", &value);
    s_keep (&broker->broker_map, parts[0]);
    s_keep (&broker->process_map, parts[1]);
    return 0;
}

static bool
s_begins (ef_span_t subject, const char *prefix) {
    size_t size = strlen (prefix);
    return subject.size > size && memcmp (subject.data, prefix, size) == 0;
}

int
numbers_take (numbers_t *self, ef_span_t subject, ef_cursor_t map) {
    if (ef_span_is (subject, "stats.broker")) {
        int rc = s_take_status (self, map);
        self->round += rc == 0;
        return rc;
    }
    return s_begins (subject, "stats.topic.")    ? s_take_topic (self, map)
           : s_begins (subject, "stats.worker.") ? s_take_worker (self, map)
           : s_begins (subject, "stats.pool.")   ? s_take_pool (self, map)
                                                 : 1;
}

static bool
s_is_gone (const numbers_t *self, uint64_t round) {
    return round + NUMBERS_MISSED_MAX < self->round;
}

void
numbers_sweep (numbers_t *self) {
    numbers_topic_t *topic;
    numbers_worker_t *worker;
    numbers_pool_t *pool;
    /* A removal moves others: the walk begins anew behind each; they are rare. */
    for (uint32_t at = 0; (topic = ef_hash_next (&self->topics, &at)) != NULL;) {
        if (s_is_gone (self, topic->round)) {
            ef_hash_remove (&self->topics, topic);
            s_forget_topic (self, topic);
            at = 0;
        }
    }
    for (uint32_t at = 0; (worker = ef_hash_next (&self->workers, &at)) != NULL;) {
        if (s_is_gone (self, worker->round)) {
            ef_hash_remove (&self->workers, worker);
            ef_buf_free (&worker->map);
            free (worker);
            at = 0;
        }
    }
    for (uint32_t at = 0; (pool = ef_hash_next (&self->pools, &at)) != NULL;) {
        if (s_is_gone (self, pool->round)) {
            ef_hash_remove (&self->pools, pool);
            ef_buf_free (&pool->map);
            free (pool);
            at = 0;
        }
    }
}

int
numbers_take_answer (numbers_t *self, const char *command, ef_cursor_t value) {
    ef_cursor_t items;
    uint32_t count;
    if (strcmp (command, "STATUS") == 0) {
        return s_take_status (self, value);
    }
    int (*take) (numbers_t *, ef_cursor_t) = strcmp (command, "TOPICS") == 0    ? s_take_topic
                                             : strcmp (command, "WORKERS") == 0 ? s_take_worker
                                             : strcmp (command, "POOLS") == 0   ? s_take_pool
                                                                                : NULL;
    if (take == NULL) {
        return 1;
    }
    if (!ef_map_find (value, "items", &items) || ef_get_array (&items, &count)) {
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        ef_cursor_t item = items;
        if (ef_skip (&items)) {
            return -1;
        }
        item.end = items.at;
        if (take (self, item) < 0) {
            return -1;
        }
    }
    return 0;
}

void
numbers_notice (numbers_t *self, ef_span_t kind) {
    numbers_named_t *row = s_find_named (self->notices, self->notice_count, kind);
    if (row == NULL) {
        if (self->notice_count == NUMBERS_KINDS_MAX || kind.size >= sizeof row->name ||
            !s_is_line (kind)) {
            return;
        }
        row = &self->notices[self->notice_count++];
        row->count = 0;
        ef_span_copy (kind, row->name, sizeof row->name);
    }
    row->count++;
}

numbers_topic_t *
numbers_topic (const numbers_t *self, const char *name) {
    return ef_hash_find (&self->topics, name, strlen (name));
}

numbers_pool_t *
numbers_pool (const numbers_t *self, const char *topic) {
    return ef_hash_find (&self->pools, topic, strlen (topic));
}

static int
s_by_name (const void *left, const void *right) {
    const numbers_topic_t *const *a = left;
    const numbers_topic_t *const *b = right;
    return strcmp ((*a)->topic, (*b)->topic);
}

numbers_topic_t **
numbers_topics_sorted (const numbers_t *self, uint32_t *count) {
    numbers_topic_t **list = NULL;
    numbers_topic_t *topic;
    *count = 0;
    if (self->topics.count > 0) {
        list = calloc (self->topics.count, sizeof (numbers_topic_t *));
        ef_assert (list != NULL);
        for (uint32_t at = 0; (topic = ef_hash_next (&self->topics, &at)) != NULL;) {
            list[(*count)++] = topic;
        }
        qsort (list, *count, sizeof (numbers_topic_t *), s_by_name);
    }
    return list;
}
