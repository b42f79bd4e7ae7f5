/* The newest numbers as JSON. SPDX-License-Identifier: MIT */
#include "snapshot.h"
#include "../../proto/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

void
json_raw (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

/* The length of the sequence that begins here, 0: it isn't one. */
static size_t
s_sequence (const char *text) {
    unsigned char byte = (unsigned char)text[0];
    size_t size = byte < 0x80 ? 1 : byte < 0xc2 ? 0 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
    return size > 0 && strnlen (text, size) == size && ef_utf8_is_valid (text, size) ? size : 0;
}

void
text_clean (char *text) {
    while (*text) {
        size_t size = s_sequence (text);
        if (size == 0 || (unsigned char)*text < ' ' || *text == 127) {
            *text = size == 0 ? '?' : ' ';
            size = 1;
        }
        text += size;
    }
}

void
json_key (ef_buf_t *out, const char *name) {
    if (out->size > 0 && out->data[out->size - 1] != '{') {
        json_raw (out, ",");
    }
    json_raw (out, "\"");
    json_raw (out, name);
    json_raw (out, "\":");
}

void
json_text (ef_buf_t *out, const char *name, const char *value) {
    json_key (out, name);
    ef_json_string (out, value, strlen (value));
}

void
json_time (ef_buf_t *out, const char *name, uint64_t unix_ms) {
    char text[25];
    json_key (out, name);
    if (unix_ms == 0) {
        json_raw (out, "null");
        return;
    }
    ef_rfc3339 (unix_ms, text);
    json_raw (out, "\"");
    json_raw (out, text);
    json_raw (out, "\"");
}

void
json_number (ef_buf_t *out, double value) {
    char text[64];
    if (!isfinite (value)) {
        json_raw (out, "null");
        return;
    }
    if (fabs (value) < 1e15) {
        int size = snprintf (text, sizeof text, "%.3f", value);
        while (text[size - 1] == '0') {
            text[--size] = '\0';
        }
        if (text[size - 1] == '.') {
            text[--size] = '\0';
        }
    } else {
        snprintf (text, sizeof text, "%.17g", value);
    }
    json_raw (out, strcmp (text, "-0") == 0 ? "0" : text);
}

void
json_real (ef_buf_t *out, const char *name, double value) {
    json_key (out, name);
    json_number (out, value);
}

void
json_whole (ef_buf_t *out, const char *name, uint64_t value) {
    char text[24];
    json_key (out, name);
    snprintf (text, sizeof text, "%llu", (unsigned long long)value);
    json_raw (out, text);
}

void
json_bool (ef_buf_t *out, const char *name, bool value) {
    json_key (out, name);
    json_raw (out, value ? "true" : "false");
}

static bool
s_is_left_out (ef_span_t key) {
    return ef_span_is (key, "took") || ef_span_is (key, "waited") || ef_span_is (key, "sync");
}

/* A map's pairs into an object that the caller has opened; times are ms where their key says so in
   the protocol: `started`, as RFC 3339. What can't be read is left out. */
static void
s_put_pairs (ef_buf_t *out, const ef_buf_t *map) {
    ef_cursor_t cursor = ef_cursor (map->data, map->size);
    uint32_t pairs;
    if (map->size == 0 || ef_get_map (&cursor, &pairs)) {
        return;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        uint64_t time_ms;
        if (ef_get_str (&cursor, &key)) {
            return;
        }
        ef_cursor_t value = cursor;
        if (ef_skip (&cursor)) {
            return;
        }
        if (s_is_left_out (key)) {
            continue;
        }
        size_t before = out->size;
        if (out->data[out->size - 1] != '{') {
            json_raw (out, ",");
        }
        ef_json_string (out, key.data, key.size);
        json_raw (out, ":");
        ef_cursor_t number = value;
        if (ef_span_is (key, "started") && ef_get_uint (&number, &time_ms) == 0) {
            char text[25];
            ef_rfc3339 (time_ms, text);
            ef_json_string (out, text, strlen (text));
        } else if (ef_json_print (out, &value)) {
            out->size = before;
        }
    }
}

static void
s_put_rates (ef_buf_t *out, const rates_t *rates) {
    json_real (out, "in_per_s", rates->in_per_s);
    json_real (out, "done_per_s", rates->done_per_s);
    json_real (out, "failed_per_s", rates->failed_per_s);
    json_real (out, "dead_per_s", rates->dead_per_s);
    json_real (out, "recent_p50_ms", rates->took_p50_ms);
    json_real (out, "recent_p99_ms", rates->took_p99_ms);
}

static void
s_put_topic (ef_buf_t *out, const numbers_topic_t *topic, const numbers_pool_t *pool) {
    const sample_t *sample = topic->extra;
    json_raw (out, "{");
    s_put_pairs (out, &topic->map);
    if (sample) {
        s_put_rates (out, &sample->rates);
    }
    if (pool) {
        json_whole (out, "desired_workers", pool->desired);
    }
    json_raw (out, "}");
}

static void
s_put_totals (ef_buf_t *out, const numbers_t *numbers, const samples_t *samples) {
    uint64_t ready = 0;
    uint64_t leased = 0;
    uint64_t retrying = 0;
    uint64_t dead = 0;
    uint64_t oldest = 0;
    const numbers_topic_t *topic;
    for (uint32_t at = 0; (topic = ef_hash_next (&numbers->topics, &at)) != NULL;) {
        ready += topic->ready;
        leased += topic->leased;
        retrying += topic->retrying;
        dead += topic->dead;
        oldest = topic->oldest_ms > oldest ? topic->oldest_ms : oldest;
    }
    s_put_rates (out, &samples->rates);
    json_whole (out, "ready", ready);
    json_whole (out, "leased", leased);
    json_whole (out, "retrying", retrying);
    json_whole (out, "dead", dead);
    json_whole (out, "oldest_ms", oldest);
    json_real (out, "sync_p99_ms", samples->sync_p99_us / 1000);
}

static void
s_put_crew (ef_buf_t *out, const numbers_t *numbers) {
    const numbers_worker_t *worker;
    const numbers_pool_t *pool;
    json_raw (out, ",\"workers\":[");
    bool is_first = true;
    for (uint32_t at = 0; (worker = ef_hash_next (&numbers->workers, &at)) != NULL;) {
        json_raw (out, is_first ? "{" : ",{");
        s_put_pairs (out, &worker->map);
        json_raw (out, "}");
        is_first = false;
    }
    json_raw (out, "],\"pools\":[");
    is_first = true;
    for (uint32_t at = 0; (pool = ef_hash_next (&numbers->pools, &at)) != NULL;) {
        json_raw (out, is_first ? "{" : ",{");
        s_put_pairs (out, &pool->map);
        json_raw (out, "}");
        is_first = false;
    }
    json_raw (out, "]");
}

void
snapshot_put (ef_buf_t *out, const numbers_t *numbers, const samples_t *samples, uint64_t wall_ms) {
    uint32_t count;
    numbers_topic_t **topics = numbers_topics_sorted (numbers, &count);
    json_raw (out, "{");
    json_time (out, "time", wall_ms);
    json_raw (out, ",\"broker\":{");
    s_put_pairs (out, &numbers->broker.broker_map);
    json_raw (out, "},\"process\":{");
    s_put_pairs (out, &numbers->broker.process_map);
    json_raw (out, "},\"totals\":{");
    s_put_totals (out, numbers, samples);
    json_raw (out, "},\"topics\":[");
    for (uint32_t i = 0; i < count; i++) {
        json_raw (out, i ? "," : "");
        s_put_topic (out, topics[i], numbers_pool (numbers, topics[i]->topic));
    }
    json_raw (out, "]");
    s_put_crew (out, numbers);
    json_raw (out, "}");
    free (topics);
}
