/* A broker's numbers as Prometheus reads them. SPDX-License-Identifier: MIT */
#include "prometheus.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>

#define OTHER "_other"

/* What is told of each topic: a field, or a state of its events. */
typedef struct {
    const char *name; /* behind the prefix */
    const char *type;
    const char *help;
    const char *label; /* of its own, as state="ready"; NULL: none */
    size_t offset;
    double divisor;
    bool is_most; /* several topics together: the most, not the sum */
} row_t;

#define FIELD_OF(member) NULL, offsetof (numbers_topic_t, member), 1, false
#define TIME_OF(member)  NULL, offsetof (numbers_topic_t, member), 1000, true
#define STATE(member)    "state=\"" #member "\"", offsetof (numbers_topic_t, member), 1, false
#define BREAKER(state)                                                                             \
    "state=\"" #state "\"", offsetof (numbers_topic_t, breakers_##state), 1, false
#define FAILURE(reason)                                                                            \
    "reason=\"" #reason "\"", offsetof (numbers_topic_t, failures.reason), 1, false
#define DEATH(reason) "reason=\"" #reason "\"", offsetof (numbers_topic_t, deaths.reason), 1, false

/* Rows of one name stand together. */
static const row_t s_rows[] = {
    {"events_published_total", "counter", "Events accepted.", FIELD_OF (accepted)},
    {"events_completed_total", "counter", "Events done.", FIELD_OF (done)},
    {"events_failed_total", "counter", "Attempts that failed, by why.", FAILURE (error)},
    {"events_failed_total", NULL, NULL, FAILURE (permanent)},
    {"events_failed_total", NULL, NULL, FAILURE (timeout)},
    {"events_failed_total", NULL, NULL, FAILURE (lease)},
    {"events_failed_total", NULL, NULL, FAILURE (worker_lost)},
    {"events_dead_total", "counter", "Events that became dead letters, by why.", DEATH (attempts)},
    {"events_dead_total", NULL, NULL, DEATH (permanent)},
    {"events_dead_total", NULL, NULL, DEATH (overflow)},
    {"events_dead_total", NULL, NULL, DEATH (expired)},
    {"events_dead_total", NULL, NULL, DEATH (invalid)},
    {"events_dead_total", NULL, NULL, DEATH (poison)},
    {"events_dead_total", NULL, NULL, DEATH (quota)},
    {"events_purged_total", "counter", "Events discarded by an operator.", FIELD_OF (purged)},
    {"events_overflowed_total", "counter", "Events that went to the dead letters of a full topic.",
     FIELD_OF (overflowed)},
    {"deliveries_total", "counter", "Events given to workers, again or for the first time.",
     FIELD_OF (deliveries)},
    {"events_redelivered_total", "counter", "The same of what a worker had had before.",
     FIELD_OF (redelivered)},
    {"published_bytes_total", "counter", "Bytes of events accepted.", FIELD_OF (published_bytes)},
    {"topic_events", "gauge", "Events that are kept, by what becomes of them.", STATE (ready)},
    {"topic_events", NULL, NULL, STATE (leased)},
    {"topic_events", NULL, NULL, STATE (scheduled)},
    {"topic_events", NULL, NULL, STATE (retrying)},
    {"topic_events", NULL, NULL, STATE (parked)},
    {"topic_events", NULL, NULL, STATE (inserting)},
    {"topic_events", NULL, NULL, STATE (dead)},
    {"topic_bytes", "gauge", "Bytes of events waiting and leased.", FIELD_OF (bytes)},
    {"topic_capacity_events", "gauge", "Events waiting and leased at the most, 0: no bound.",
     FIELD_OF (capacity_events)},
    {"topic_oldest_event_age_seconds", "gauge", "Age of the oldest event that waits for a worker.",
     TIME_OF (oldest_ms)},
    {"topic_stalled_seconds", "gauge", "Since when events wait without free credit.",
     TIME_OF (stalled_ms)},
    {"topic_paused", "gauge", "1 where an operator has paused it.", NULL,
     offsetof (numbers_topic_t, is_paused), 0, true},
    {"breaker_state", "gauge", "Breakers of downstream services in this state.", BREAKER (open)},
    {"breaker_state", NULL, NULL, BREAKER (half_open)},
    {"breaker_state", NULL, NULL, BREAKER (closed)},
};
#define ROWS (sizeof s_rows / sizeof s_rows[0])

/* Workers of a topic; those of several topics count for each. */
typedef struct {
    uint64_t workers[3]; /* ready, unhealthy, draining */
    uint64_t credit;     /* of the ready ones, free */
} crew_t;

typedef struct {
    ef_buf_t *out;
    const prometheus_t *self;
    const char *prefix;
    numbers_topic_t **topics; /* owned; by name */
    uint32_t count;
    uint32_t own;  /* the first of them have a label of their own, the others are one */
    crew_t *crews; /* owned; of each topic */
} page_t;

static void
s_put (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

void
prometheus_head (ef_buf_t *out, const char *name, const char *type, const char *help) {
    char line[400];
    int size = snprintf (line, sizeof line, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
    ef_assert (size > 0 && (size_t)size < sizeof line);
    ef_buf_put (out, line, (size_t)size);
}

void
prometheus_value (ef_buf_t *out, const char *name, const char *labels, double value) {
    char line[60];
    s_put (out, name);
    if (labels && labels[0]) {
        s_put (out, "{");
        s_put (out, labels);
        s_put (out, "}");
    }
    int size = snprintf (line, sizeof line, " %.15g\n", value);
    ef_buf_put (out, line, (size_t)size);
}

void
prometheus_label (ef_buf_t *out, const char *name, const char *value) {
    if (out->size > 0) {
        s_put (out, ",");
    }
    s_put (out, name);
    s_put (out, "=\"");
    for (const char *at = value; *at; at++) {
        if (*at == '\n') {
            s_put (out, "\\n");
        } else {
            ef_buf_put (out, "\\", *at == '"' || *at == '\\');
            ef_buf_put (out, at, 1);
        }
    }
    s_put (out, "\"");
}

static const char *
s_name (const page_t *page, const char *name, char text[120]) {
    snprintf (text, 120, "%s%s", page->prefix, name);
    return text;
}

/* One value with labels as text; `extra` is behind them. */
static void
s_put_value (const page_t *page, const char *name, const char *labels, const char *extra,
             double value) {
    char full[120];
    char all[300];
    snprintf (all, sizeof all, "%s%s%s", labels ? labels : "", labels && extra ? "," : "",
              extra ? extra : "");
    prometheus_value (page->out, s_name (page, name, full), all, value);
}

static void
s_put_head (const page_t *page, const char *name, const char *type, const char *help) {
    char full[120];
    prometheus_head (page->out, s_name (page, name, full), type, help);
}

static double
s_load (const row_t *row, const numbers_topic_t *topic) {
    const char *at = (const char *)topic + row->offset;
    uint64_t whole = 0;
    if (row->divisor > 0) {
        memcpy (&whole, at, sizeof whole);
        return (double)whole / row->divisor;
    }
    return *(const bool *)at;
}

/* Topic names hold nothing that is to be escaped; what the broker says is still not believed. */
static const char *
s_topic_label (const char *topic, char text[160]) {
    ef_buf_t label = {0};
    prometheus_label (&label, "topic", topic);
    snprintf (text, 160, "%.*s", (int)label.size, (const char *)label.data);
    ef_buf_free (&label);
    return text;
}

/* `value` of each topic with a name of its own, then of the others together. */
static void
s_put_each (const page_t *page, const char *name, const char *extra, bool is_most,
            double (*value) (const void *arg, uint32_t index), const void *arg) {
    char label[160];
    double others = 0;
    for (uint32_t i = 0; i < page->count; i++) {
        double each = value (arg, i);
        if (i < page->own) {
            s_put_value (page, name, s_topic_label (page->topics[i]->topic, label), extra, each);
        } else if (is_most) {
            others = each > others ? each : others;
        } else {
            others += each;
        }
    }
    if (page->own < page->count) {
        s_put_value (page, name, "topic=\"" OTHER "\"", extra, others);
    }
}

typedef struct {
    const page_t *page;
    const row_t *row;
    unsigned which;
} pick_t;

static double
s_pick_row (const void *arg, uint32_t index) {
    const pick_t *pick = arg;
    return s_load (pick->row, pick->page->topics[index]);
}

static double
s_pick_workers (const void *arg, uint32_t index) {
    const pick_t *pick = arg;
    return (double)pick->page->crews[index].workers[pick->which];
}

static double
s_pick_credit (const void *arg, uint32_t index) {
    const pick_t *pick = arg;
    return (double)pick->page->crews[index].credit;
}

static void
s_put_topics (const page_t *page) {
    for (size_t i = 0; i < ROWS; i++) {
        const row_t *row = &s_rows[i];
        pick_t pick = {page, row, 0};
        if (row->help) {
            s_put_head (page, row->name, row->type, row->help);
        }
        s_put_each (page, row->name, row->label, row->is_most, s_pick_row, &pick);
    }
    static const char *const states[] = {"state=\"ready\"", "state=\"unhealthy\"",
                                         "state=\"draining\""};
    s_put_head (page, "workers", "gauge", "Workers of a topic by what they can do.");
    for (unsigned i = 0; i < 3; i++) {
        pick_t pick = {page, NULL, i};
        s_put_each (page, "workers", states[i], false, s_pick_workers, &pick);
    }
    pick_t pick = {page, NULL, 0};
    s_put_head (page, "credit_available", "gauge", "Events that its workers would take now.");
    s_put_each (page, "credit_available", NULL, false, s_pick_credit, &pick);
}

static uint32_t
s_index (const page_t *page, ef_span_t name) {
    uint32_t from = 0;
    uint32_t to = page->count;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        const char *topic = page->topics[middle]->topic;
        size_t size = strlen (topic);
        int order = memcmp (topic, name.data, size < name.size ? size : name.size);
        order = order ? order : size < name.size ? -1 : size > name.size;
        if (order == 0) {
            return middle;
        }
        from = order < 0 ? middle + 1 : from;
        to = order < 0 ? to : middle;
    }
    return UINT32_MAX;
}

static void
s_count_worker (const page_t *page, const numbers_worker_t *worker) {
    ef_cursor_t topics;
    uint32_t count = 0;
    unsigned state = worker->is_draining ? 2 : worker->is_unhealthy;
    if (!ef_map_find (ef_cursor (worker->map.data, worker->map.size), "topics", &topics) ||
        ef_get_array (&topics, &count)) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        ef_span_t name;
        if (ef_get_str (&topics, &name)) {
            return;
        }
        uint32_t index = s_index (page, name);
        if (index != UINT32_MAX) {
            crew_t *crew = &page->crews[index];
            crew->workers[state]++;
            crew->credit += state == 0 && worker->credit > worker->in_flight
                                ? worker->credit - worker->in_flight
                                : 0;
        }
    }
}

/* What a pool says of itself: all of them, or those whose workers the broker starts. */
static void
s_put_pools (const page_t *page) {
    static const struct {
        const char *name;
        const char *type;
        const char *help;
        size_t offset;
        bool is_managed;
    } rows[] = {
        {"pool_desired_workers", "gauge",
         "Workers that a topic should have now, also for scalers outside.",
         offsetof (numbers_pool_t, desired), false},
        {"pool_workers", "gauge", "Workers that the broker runs.",
         offsetof (numbers_pool_t, running), true},
        {"pool_workers_max", "gauge", "Workers that it may run.", offsetof (numbers_pool_t, max),
         true},
        {"pool_restarts_total", "counter", "Workers that ended by themselves.",
         offsetof (numbers_pool_t, restarts), true},
    };
    for (size_t k = 0; k < sizeof rows / sizeof rows[0]; k++) {
        s_put_head (page, rows[k].name, rows[k].type, rows[k].help);
        for (uint32_t i = 0; i < page->own; i++) {
            const char *topic = page->topics[i]->topic;
            const numbers_pool_t *pool = numbers_pool (page->self->numbers, topic);
            char label[160];
            uint64_t value;
            if (pool && (pool->is_managed || !rows[k].is_managed)) {
                memcpy (&value, (const char *)pool + rows[k].offset, sizeof value);
                s_put_value (page, rows[k].name, s_topic_label (topic, label), NULL, (double)value);
            }
        }
    }
}

static void
s_put_histogram (const page_t *page, const char *name, const char *label,
                 const numbers_histogram_t *histogram, double divisor) {
    char part[140];
    char bound[40];
    snprintf (part, sizeof part, "%s_bucket", name);
    for (uint32_t i = 0; i < histogram->steps; i++) {
        snprintf (bound, sizeof bound, "le=\"%.10g\"", (double)(histogram->first << i) / divisor);
        s_put_value (page, part, label, bound, (double)histogram->below[i]);
    }
    s_put_value (page, part, label, "le=\"+Inf\"", (double)histogram->count);
    snprintf (part, sizeof part, "%s_sum", name);
    s_put_value (page, part, label, NULL, (double)histogram->sum / divisor);
    snprintf (part, sizeof part, "%s_count", name);
    s_put_value (page, part, label, NULL, (double)histogram->count);
}

/* Of all topics together, or (detailed) of each. */
static void
s_put_times (const page_t *page, bool is_each) {
    static const struct {
        const char *name;
        const char *help;
        size_t offset;
    } rows[] = {{"event_wait_seconds", "From acceptance to the first delivery.",
                 offsetof (numbers_topic_t, waited)},
                {"event_processing_seconds", "From delivery to the worker's answer.",
                 offsetof (numbers_topic_t, took)}};
    for (size_t k = 0; k < 2; k++) {
        numbers_histogram_t sum = {0};
        char label[160];
        s_put_head (page, rows[k].name, "histogram", rows[k].help);
        for (uint32_t i = 0; i < page->count; i++) {
            const numbers_histogram_t *each =
                (const void *)((const char *)page->topics[i] + rows[k].offset);
            if (is_each) {
                s_put_histogram (page, rows[k].name, s_topic_label (page->topics[i]->topic, label),
                                 each, 1000);
            } else {
                numbers_add_histogram (&sum, each);
            }
        }
        if (!is_each) {
            s_put_histogram (page, rows[k].name, NULL, &sum, 1000);
        }
    }
}

typedef struct {
    const char *name;
    const char *type;
    const char *help;
    size_t offset;
    double divisor;
} broker_row_t;

/* clang-format off */
static const broker_row_t s_broker_rows[] = {
#define ROW_OF(name, type, help, member, divisor)                                                  \
    {name, type, help, offsetof (numbers_broker_t, member), divisor},
    ROW_OF ("sessions", "gauge", "Sessions of publishers that are known.", sessions, 1)
    ROW_OF ("connections", "gauge", "Peers with something open.", peers, 1)
    ROW_OF ("messages_received_total", "counter", "Messages from all sockets.", messages_in, 1)
    ROW_OF ("ingress_events_total", "counter", "Events that came by the ingress socket.",
            ingress_events, 1)
    ROW_OF ("ingress_bytes_total", "counter", "Their bytes.", ingress_bytes, 1)
    ROW_OF ("retry_waiting_events", "gauge", "Events that wait for a time.", waiting, 1)
    ROW_OF ("journal_size_bytes", "gauge", "Bytes of all journal segments.", journal_bytes, 1)
    ROW_OF ("journal_live_bytes", "gauge", "Bytes of the journal that must be kept.", live_bytes, 1)
    ROW_OF ("journal_unsynced_bytes", "gauge", "Bytes written that aren't on the disk yet.",
            unsynced_bytes, 1)
    ROW_OF ("journal_cleaned_segments_total", "counter", "Segments freed.", journal_cleaned, 1)
    ROW_OF ("journal_corrupt_records_total", "counter", "Records found damaged by reading again.",
            scrub_damaged, 1)
    ROW_OF ("journal_spare_segments", "gauge", "Segments ready for use.", spares, 1)
    ROW_OF ("journal_last_sync_seconds", "gauge", "What the last sync took.", sync_us, 1e6)
    ROW_OF ("recovery_duration_seconds", "gauge", "What reading the journal took at the start.",
            recovery_ms, 1000)
    ROW_OF ("cache_bytes", "gauge", "Bytes of the journal's tail in memory.", cache_bytes, 1)
    ROW_OF ("history_bytes", "gauge", "Bytes of failed attempts in memory.", history_bytes, 1)
    ROW_OF ("stale_answers_total", "counter", "Answers of workers that had lost the lease.",
            stale_answers, 1)
    ROW_OF ("config_last_reload_success_timestamp_seconds", "gauge",
            "When the settings in use were read.", config_ms, 1000)
    ROW_OF ("broker_start_timestamp_seconds", "gauge", "When the broker started.", started, 1000)
    ROW_OF ("broker_resident_memory_bytes", "gauge", "Memory of the broker.", rss_bytes, 1)
    ROW_OF ("broker_cpu_seconds_total", "counter", "Processor time of the broker.", cpu_ms, 1000)
#undef ROW_OF
};
/* clang-format on */

static void
s_put_named (const page_t *page, const char *name, const char *label, const numbers_named_t *rows,
             uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        ef_buf_t text = {0};
        prometheus_label (&text, label, rows[i].name);
        ef_buf_put (&text, "", 1);
        s_put_value (page, name, (const char *)text.data, NULL, (double)rows[i].count);
        ef_buf_free (&text);
    }
}

static void
s_put_broker (const page_t *page) {
    const numbers_broker_t *broker = &page->self->numbers->broker;
    char label[80];
    snprintf (label, sizeof label, "version=\"%.20s\",durability=\"%.15s\"", broker->version,
              broker->durability);
    s_put_head (page, "build_info", "gauge", "The broker's version and durability.");
    s_put_value (page, "build_info", label, NULL, 1);
    s_put_head (page, "topics", "gauge", "Topics that there are.");
    s_put_value (page, "topics", NULL, NULL, (double)page->self->numbers->topics.count);
    for (size_t i = 0; i < sizeof s_broker_rows / sizeof s_broker_rows[0]; i++) {
        const broker_row_t *row = &s_broker_rows[i];
        uint64_t value;
        memcpy (&value, (const char *)broker + row->offset, sizeof value);
        s_put_head (page, row->name, row->type, row->help);
        s_put_value (page, row->name, NULL, NULL, (double)value / row->divisor);
    }
    if (broker->has_disk_free) {
        s_put_head (page, "disk_free_bytes", "gauge", "Room left where the journal is.");
        s_put_value (page, "disk_free_bytes", NULL, NULL, (double)broker->disk_free_bytes);
    }
    s_put_head (page, "config_last_reload_success", "gauge",
                "0 where settings were read anew since then, and were wrong.");
    s_put_value (page, "config_last_reload_success", NULL, NULL, !broker->is_config_refused);
    s_put_head (page, "disk_space_state", "gauge",
                "0 enough, 1 low: publishing is refused, 2 full.");
    s_put_value (page, "disk_space_state", NULL, NULL,
                 strcmp (broker->space, "full") == 0  ? 2
                 : strcmp (broker->space, "low") == 0 ? 1
                                                      : 0);
    s_put_head (page, "events_refused_total", "counter", "Events that weren't accepted, by code.");
    s_put_named (page, "events_refused_total", "reason", broker->refused, broker->refused_count);
    s_put_head (page, "notices_total", "counter", "Notices seen: stalls, time-outs, breakers, …");
    s_put_named (page, "notices_total", "kind", page->self->numbers->notices,
                 page->self->numbers->notice_count);
    s_put_head (page, "journal_fsync_seconds", "histogram",
                "What writing and syncing a group of the journal took.");
    s_put_histogram (page, "journal_fsync_seconds", NULL, &broker->sync, 1e6);
}

static void
s_open (page_t *page) {
    page->crews = calloc (page->count ? page->count : 1, sizeof *page->crews);
    ef_assert (page->crews != NULL);
    numbers_worker_t *worker;
    for (uint32_t at = 0; (worker = ef_hash_next (&page->self->numbers->workers, &at)) != NULL;) {
        s_count_worker (page, worker);
    }
}

static void
s_close (page_t *page) {
    free (page->crews);
    free (page->topics);
}

void
prometheus_put (ef_buf_t *out, const prometheus_t *self) {
    page_t page = {.out = out, .self = self, .prefix = "eventflow_"};
    s_put_head (&page, "up", "gauge", "1 where the broker answers.");
    s_put_value (&page, "up", NULL, NULL, self->is_up);
    if (!self->is_up) {
        return;
    }
    page.topics = numbers_topics_sorted (self->numbers, &page.count);
    page.own = page.count < self->topics_max ? page.count : self->topics_max;
    s_open (&page);
    s_put_broker (&page);
    s_put_topics (&page);
    s_put_pools (&page);
    s_put_times (&page, false);
    s_close (&page);
}

static bool
s_fits (const char *topic, const char *const *patterns, uint32_t count) {
    uint32_t i = 0;
    while (i < count && fnmatch (patterns[i], topic, 0) != 0) {
        i++;
    }
    return i < count;
}

uint32_t
prometheus_put_detailed (ef_buf_t *out, const prometheus_t *self, const char *const *patterns,
                         uint32_t count) {
    page_t page = {.out = out, .self = self, .prefix = "eventflow_detailed_"};
    uint32_t all = 0;
    if (!self->is_up) {
        return 0;
    }
    page.topics = numbers_topics_sorted (self->numbers, &all);
    for (uint32_t i = 0; i < all; i++) {
        if (s_fits (page.topics[i]->topic, patterns, count)) {
            page.topics[page.count++] = page.topics[i];
        }
    }
    page.own = page.count;
    if (page.count > 0) {
        s_open (&page);
        s_put_topics (&page);
        s_put_pools (&page);
        s_put_times (&page, true);
        s_close (&page);
    } else {
        free (page.topics);
    }
    return page.count;
}
