/* What the numbers of two rounds come to. SPDX-License-Identifier: MIT */
#include "samples.h"

#include <math.h>
#include <stdlib.h>

#define SYNC_WINDOW_MS 10000

/* Only ever longer: their order is in the file. */
#define COMMON_ROWS                                                                                \
    {"in", SERIES_COUNT}, {"done", SERIES_COUNT}, {"failed", SERIES_COUNT},                        \
        {"died", SERIES_COUNT}, {"delivered", SERIES_COUNT}, {"ready", SERIES_LEVEL},              \
        {"leased", SERIES_LEVEL}, {"scheduled", SERIES_LEVEL}, {"retrying", SERIES_LEVEL},         \
        {"parked", SERIES_LEVEL}, {"dead", SERIES_LEVEL}, {"bytes", SERIES_LEVEL},                 \
        {"workers", SERIES_LEVEL}, {"pool", SERIES_LEVEL}, {"desired", SERIES_LEVEL},              \
        {"oldest_ms", SERIES_MOST}, {"stalled_ms", SERIES_MOST}, {"took_p50_ms", SERIES_LEVEL},    \
        {"took_p99_ms", SERIES_MOST}, {"waited_p50_ms", SERIES_LEVEL}, {                           \
        "waited_p99_ms", SERIES_MOST                                                               \
    }
enum {
    V_IN,
    V_DONE,
    V_FAILED,
    V_DIED,
    V_DELIVERED,
    V_READY,
    V_LEASED,
    V_SCHEDULED,
    V_RETRYING,
    V_PARKED,
    V_DEAD,
    V_BYTES,
    V_WORKERS,
    V_POOL,
    V_DESIRED,
    V_OLDEST,
    V_STALLED,
    V_TOOK_P50,
    V_TOOK_P99,
    V_WAITED_P50,
    V_WAITED_P99,
    V_COMMON,
    V_REFUSED = V_COMMON,
    V_INGRESS,
    V_SYNC_P99,
    V_SYNC_MEAN,
    V_UNSYNCED,
    V_JOURNAL,
    V_DISK_FREE,
    V_RSS,
    V_CPU,
    V_SESSIONS,
    V_COUNT
};
_Static_assert(V_COUNT <= SERIES_MAX, "a set has room for them");

static const series_row_t s_topic_rows[] = {COMMON_ROWS};
static const series_row_t s_broker_rows[] = {COMMON_ROWS,
                                             {"refused", SERIES_COUNT},
                                             {"ingress", SERIES_COUNT},
                                             {"sync_p99_us", SERIES_MOST},
                                             {"sync_mean_us", SERIES_LEVEL},
                                             {"unsynced_bytes", SERIES_MOST},
                                             {"journal_bytes", SERIES_LEVEL},
                                             {"disk_free_bytes", SERIES_LEVEL},
                                             {"rss_bytes", SERIES_LEVEL},
                                             {"cpu_ms", SERIES_COUNT},
                                             {"sessions", SERIES_LEVEL}};
_Static_assert(sizeof s_topic_rows / sizeof s_topic_rows[0] == V_COMMON, "each has a place");
_Static_assert(sizeof s_broker_rows / sizeof s_broker_rows[0] == V_COUNT, "each has a place");

const series_set_t samples_topic_set = {s_topic_rows, V_COMMON};
const series_set_t samples_broker_set = {s_broker_rows, V_COUNT};

/* A count that went back began anew with the broker. */
static double
s_since (uint64_t now, uint64_t before) {
    return now >= before ? (double)(now - before) : (double)now;
}

void
samples_init (samples_t *self, history_t *history, uint64_t dead_window_ms) {
    memset (self, 0, sizeof *self);
    self->history = history;
    self->slot_ms = dead_window_ms / SAMPLES_SLOTS;
    self->slot_ms = self->slot_ms ? self->slot_ms : 1;
    self->sync_p99_us = NAN;
}

sample_t *
samples_of (numbers_topic_t *topic) {
    if (topic->extra == NULL) {
        topic->extra = calloc (1, sizeof (sample_t));
        ef_assert (topic->extra != NULL);
    }
    return topic->extra;
}

void
samples_forget (void *arg, numbers_topic_t *topic) {
    samples_t *self = arg;
    sample_t *sample = topic->extra;
    if (sample && self->history) {
        history_forget (self->history, &sample->line);
    }
    free (sample);
    topic->extra = NULL;
}

uint64_t
samples_died (const sample_t *self) {
    uint64_t sum = 0;
    for (unsigned i = 0; i < SAMPLES_SLOTS; i++) {
        sum += self->died_slots[i];
    }
    return sum;
}

static void
s_count_deaths (sample_t *self, double died, uint64_t slot) {
    uint64_t passed = slot - self->died_slot;
    for (uint64_t i = 1; i <= passed && i <= SAMPLES_SLOTS; i++) {
        self->died_slots[(self->died_slot + i) % SAMPLES_SLOTS] = 0;
    }
    self->died_slot = slot;
    self->died_slots[slot % SAMPLES_SLOTS] += (uint32_t)(died < 1e9 ? died : 1e9);
}

static void
s_quantiles (const numbers_histogram_t *since, double *p50, double *p99) {
    *p50 = since->count > 0 && since->steps > 0 ? numbers_quantile (since, 0.5) : NAN;
    *p99 = since->count > 0 && since->steps > 0 ? numbers_quantile (since, 0.99) : NAN;
}

typedef struct {
    samples_t *self;
    numbers_t *numbers;
    double span_ms;
    uint64_t wall_s;
    bool has_span; /* the round before was not long ago */
    double sums[V_COUNT];
    numbers_histogram_t took;
    numbers_histogram_t waited;
} round_t;

static void
s_set_counts (round_t *round, sample_t *sample, const counts_t *now, double *values) {
    const counts_t *before = &sample->counts;
    values[V_IN] = s_since (now->accepted, before->accepted);
    values[V_DONE] = s_since (now->done, before->done);
    values[V_FAILED] = s_since (now->failed, before->failed);
    values[V_DIED] = s_since (now->died, before->died);
    values[V_DELIVERED] = s_since (now->deliveries, before->deliveries);
    double per_s = 1000 / round->span_ms;
    rates_t *rates = &sample->rates;
    rates->in_per_s = values[V_IN] * per_s;
    rates->done_per_s = values[V_DONE] * per_s;
    rates->failed_per_s = values[V_FAILED] * per_s;
    rates->dead_per_s = values[V_DIED] * per_s;
}

static void
s_set_times (round_t *round, const numbers_topic_t *topic, sample_t *sample, double *values) {
    numbers_histogram_t took;
    numbers_histogram_t waited;
    numbers_since (&topic->took, &sample->took, &took);
    numbers_since (&topic->waited, &sample->waited, &waited);
    s_quantiles (&took, &sample->rates.took_p50_ms, &sample->rates.took_p99_ms);
    s_quantiles (&waited, &sample->rates.waited_p50_ms, &sample->rates.waited_p99_ms);
    values[V_TOOK_P50] = sample->rates.took_p50_ms;
    values[V_TOOK_P99] = sample->rates.took_p99_ms;
    values[V_WAITED_P50] = sample->rates.waited_p50_ms;
    values[V_WAITED_P99] = sample->rates.waited_p99_ms;
    if (took.count > 0) {
        numbers_add_histogram (&round->took, &took);
    }
    if (waited.count > 0) {
        numbers_add_histogram (&round->waited, &waited);
    }
}

static void
s_set_levels (const round_t *round, const numbers_topic_t *topic, double *values) {
    const numbers_pool_t *pool = numbers_pool (round->numbers, topic->topic);
    values[V_READY] = (double)topic->ready;
    values[V_LEASED] = (double)topic->leased;
    values[V_SCHEDULED] = (double)topic->scheduled;
    values[V_RETRYING] = (double)topic->retrying;
    values[V_PARKED] = (double)topic->parked;
    values[V_DEAD] = (double)topic->dead;
    values[V_BYTES] = (double)topic->bytes;
    values[V_WORKERS] = (double)topic->workers;
    values[V_POOL] = pool && pool->is_managed ? (double)pool->running : (double)topic->workers;
    values[V_DESIRED] = pool ? (double)pool->desired : NAN;
    values[V_OLDEST] = (double)topic->oldest_ms;
    values[V_STALLED] = (double)topic->stalled_ms;
}

/* Into the sums of all topics: counts and levels are added, maxima compared. */
static void
s_add_sums (round_t *round, const double *values) {
    for (unsigned i = 0; i < V_TOOK_P50; i++) {
        double *sum = &round->sums[i];
        if (isnan (values[i])) {
            continue;
        }
        if (isnan (*sum)) {
            *sum = values[i];
        } else if (s_topic_rows[i].kind == SERIES_MOST) {
            *sum = values[i] > *sum ? values[i] : *sum;
        } else {
            *sum += values[i];
        }
    }
}

static void
s_take_topic (round_t *round, numbers_topic_t *topic) {
    samples_t *self = round->self;
    sample_t *sample = samples_of (topic);
    double values[V_COMMON];
    counts_t now = {topic->accepted, topic->done, topic->failed, topic->died, topic->deliveries};
    for (unsigned i = 0; i < V_COMMON; i++) {
        values[i] = NAN;
    }
    sample->rates = (rates_t){
        .took_p50_ms = NAN, .took_p99_ms = NAN, .waited_p50_ms = NAN, .waited_p99_ms = NAN};
    if (sample->line == NULL && self->history) {
        sample->line = history_line (self->history, topic->topic, &samples_topic_set);
    }
    if (sample->is_known && round->has_span) {
        s_set_counts (round, sample, &now, values);
        s_set_times (round, topic, sample, values);
    }
    s_count_deaths (sample, isnan (values[V_DIED]) ? 0 : values[V_DIED],
                    self->now_ms / self->slot_ms);
    s_set_levels (round, topic, values);
    s_add_sums (round, values);
    if (sample->line && round->has_span) {
        history_add (self->history, sample->line, round->wall_s, round->span_ms, values);
    }
    sample->is_known = true;
    sample->counts = now;
    sample->took = topic->took;
    sample->waited = topic->waited;
}

static void
s_take_syncs (samples_t *self, const numbers_broker_t *broker, double *values) {
    numbers_histogram_t since;
    numbers_since (&broker->sync, &self->sync, &since);
    self->sync_p99_us = NAN;
    if (broker->sync.steps == 0 && broker->groups != self->groups) {
        self->sync_p99_us = (double)broker->sync_us;
        values[V_SYNC_MEAN] = (double)broker->sync_us;
    } else if (since.count > 0) {
        self->sync_p99_us = numbers_quantile (&since, 0.99);
        values[V_SYNC_MEAN] = (double)since.sum / (double)since.count;
    }
    values[V_SYNC_P99] = self->sync_p99_us;
}

/* The window begins anew every 10 s; until then it grows. */
static void
s_take_window (samples_t *self, const numbers_broker_t *broker) {
    if (self->now_ms - self->sync_base_ms >= 2 * SYNC_WINDOW_MS || self->sync_base_ms == 0) {
        self->sync_base_ms = self->now_ms - SYNC_WINDOW_MS;
        self->sync_base = self->sync;
    }
    numbers_since (&broker->sync, &self->sync_base, &self->sync_window);
}

static uint64_t
s_refused (const numbers_broker_t *broker) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < broker->refused_count; i++) {
        sum += broker->refused[i].count;
    }
    return sum;
}

static void
s_take_broker (round_t *round) {
    samples_t *self = round->self;
    const numbers_broker_t *broker = &round->numbers->broker;
    double *values = round->sums;
    uint64_t refused = s_refused (broker);
    s_quantiles (&round->took, &values[V_TOOK_P50], &values[V_TOOK_P99]);
    s_quantiles (&round->waited, &values[V_WAITED_P50], &values[V_WAITED_P99]);
    values[V_UNSYNCED] = (double)broker->unsynced_bytes;
    values[V_JOURNAL] = (double)broker->journal_bytes;
    values[V_DISK_FREE] = broker->has_disk_free ? (double)broker->disk_free_bytes : NAN;
    values[V_RSS] = (double)broker->rss_bytes;
    values[V_SESSIONS] = (double)broker->sessions;
    values[V_WORKERS] = (double)round->numbers->workers.count;
    if (self->is_known && round->has_span) {
        values[V_REFUSED] = s_since (refused, self->refused);
        values[V_INGRESS] = s_since (broker->ingress_events, self->ingress);
        values[V_CPU] = s_since (broker->cpu_ms, self->cpu_ms);
        s_take_syncs (self, broker, values);
    }
    s_take_window (self, broker);
    if (self->line == NULL && self->history) {
        self->line = history_line (self->history, "", &samples_broker_set);
    }
    if (self->line && round->has_span) {
        history_add (self->history, self->line, round->wall_s, round->span_ms, values);
    }
    self->is_known = true;
    self->refused = refused;
    self->ingress = broker->ingress_events;
    self->cpu_ms = broker->cpu_ms;
    self->groups = broker->groups;
    self->sync = broker->sync;
}

static double
s_per_s (const round_t *round, double sum) {
    return isnan (sum) || !round->has_span ? 0 : sum * 1000 / round->span_ms;
}

void
samples_take (samples_t *self, numbers_t *numbers, uint64_t now_ms, uint64_t wall_ms) {
    round_t round = {.self = self, .numbers = numbers, .wall_s = wall_ms / 1000};
    uint64_t span_ms = now_ms - self->now_ms;
    round.has_span = self->now_ms > 0 && span_ms > 0 && span_ms <= SAMPLES_GAP_MS;
    round.span_ms = round.has_span ? (double)span_ms : 1000;
    self->now_ms = now_ms;
    for (unsigned i = 0; i < V_COUNT; i++) {
        round.sums[i] = NAN;
    }
    numbers_topic_t *topic;
    for (uint32_t at = 0; (topic = ef_hash_next (&numbers->topics, &at)) != NULL;) {
        s_take_topic (&round, topic);
    }
    s_take_broker (&round);
    self->rates = (rates_t){.in_per_s = s_per_s (&round, round.sums[V_IN]),
                            .done_per_s = s_per_s (&round, round.sums[V_DONE]),
                            .failed_per_s = s_per_s (&round, round.sums[V_FAILED]),
                            .dead_per_s = s_per_s (&round, round.sums[V_DIED]),
                            .took_p50_ms = round.sums[V_TOOK_P50],
                            .took_p99_ms = round.sums[V_TOOK_P99],
                            .waited_p50_ms = round.sums[V_WAITED_P50],
                            .waited_p99_ms = round.sums[V_WAITED_P99]};
}
