/* The monitor's history: questions. SPDX-License-Identifier: MIT */
#include "history_private.h"

#include <math.h>
#include <stdlib.h>

#define POINTS_WISHED 300

/* Blocks that are newer in memory than in the file. */
typedef struct {
    uint64_t start_s;
    ef_buf_t data;
} fresh_t;

typedef struct {
    history_t *history;
    const history_query_t *query;
    history_answer_t *answer;
    uint32_t tier;
    double *spans;  /* of column × points */
    fresh_t *fresh; /* owned; a later one stands for an earlier one */
    uint32_t fresh_count;
} search_t;

uint32_t
history_choose (const history_query_t *query, uint32_t *step_s) {
    uint64_t range_s = query->to_s > query->from_s ? query->to_s - query->from_s : 1;
    uint64_t age_s = query->now_s > query->from_s ? query->now_s - query->from_s : 0;
    uint64_t step = query->step_s ? query->step_s : (range_s + POINTS_WISHED - 1) / POINTS_WISHED;
    if (step < (range_s + HISTORY_POINTS_MAX - 1) / HISTORY_POINTS_MAX) {
        step = (range_s + HISTORY_POINTS_MAX - 1) / HISTORY_POINTS_MAX;
    }
    uint32_t finest = 0; /* that reaches back so far */
    while (finest + 1 < SERIES_TIERS && series_tiers[finest].keep_s < age_s) {
        finest++;
    }
    uint32_t tier = finest;
    while (tier + 1 < SERIES_TIERS && series_tiers[tier + 1].step_s <= step) {
        tier++;
    }
    uint64_t unit = series_tiers[tier].step_s;
    step = step < unit ? unit : (step + unit - 1) / unit * unit;
    *step_s = (uint32_t)step;
    return tier;
}

static void
s_add_fresh (search_t *self, uint64_t start_s) {
    self->fresh = realloc (self->fresh, (self->fresh_count + 1) * sizeof *self->fresh);
    ef_assert (self->fresh != NULL);
    self->fresh[self->fresh_count++] = (fresh_t){.start_s = start_s};
}

static void
s_gather_list (search_t *self, const waiting_t *list) {
    for (const waiting_t *item = list; item; item = item->next) {
        if (item->kind == WAITING_BLOCK && item->tier == self->tier &&
            strcmp (item->name, self->query->topic) == 0) {
            s_add_fresh (self, item->start_s);
            ef_buf_put (&self->fresh[self->fresh_count - 1].data, item->data.data, item->data.size);
        }
    }
}

/* Under the lock: what isn't in the file yet. */
static void
s_gather (search_t *self) {
    history_t *history = self->history;
    const char *topic = self->query->topic;
    s_gather_list (self, history->writing);
    s_gather_list (self, history->waiting);
    history_line_t *line = ef_hash_find (&history->lines, topic, strlen (topic));
    const series_block_t *block = line ? &line->series.blocks[self->tier] : NULL;
    if (block && block->values) {
        s_add_fresh (self, block->start_s);
        series_encode (block, line->series.set, &self->fresh[self->fresh_count - 1].data);
    }
}

static void
s_add_point (search_t *self, const series_block_t *block, uint32_t index, uint32_t point) {
    const history_query_t *query = self->query;
    for (uint32_t i = 0; i < query->column_count; i++) {
        uint32_t column = query->columns[i];
        size_t place = (size_t)i * self->answer->points + point;
        series_merge (query->set->rows[column].kind, &self->answer->values[place],
                      &self->spans[place], block->values[(size_t)index * block->width + column],
                      block->spans_ms[index]);
    }
}

static void
s_add_block (search_t *self, uint64_t start_s, const ef_buf_t *data) {
    series_block_t block;
    const history_answer_t *answer = self->answer;
    uint32_t unit = series_tiers[self->tier].step_s;
    if (series_decode (&block, self->query->set, start_s, data->data, data->size)) {
        ef_log_limited (EF_LOG_WARNING, "history.unreadable", "topic=%s start=%llu",
                        self->query->topic, (unsigned long long)start_s);
    }
    for (uint32_t i = 0; i < block.points; i++) {
        uint64_t time_s = start_s + (uint64_t)i * unit;
        if (time_s >= answer->from_s &&
            time_s < answer->from_s + (uint64_t)answer->points * answer->step_s) {
            s_add_point (self, &block, i, (uint32_t)((time_s - answer->from_s) / answer->step_s));
        }
    }
    series_block_free (&block);
}

/* Only where blocks may be is looked for them, however long the range is; a clock that was set back
   leaves some in the future. */
static void
s_read (search_t *self) {
    history_t *history = self->history;
    const history_answer_t *answer = self->answer;
    uint64_t length = (uint64_t)series_tiers[self->tier].step_s * SERIES_POINTS;
    uint64_t reach_s = series_tiers[self->tier].keep_s + length;
    uint64_t now_s = self->query->now_s;
    uint64_t first_s = now_s > reach_s ? now_s - reach_s : 0;
    uint64_t from_s = answer->from_s > first_s ? answer->from_s : first_s;
    uint64_t to_s = answer->from_s + (uint64_t)answer->points * answer->step_s;
    to_s = to_s < now_s + reach_s ? to_s : now_s + reach_s;
    ef_buf_t data = {0};
    pthread_mutex_lock (&history->reading);
    int64_t topic = store_topic (history->reader, self->query->topic, false);
    for (uint64_t start_s = series_start (self->tier, from_s); start_s < to_s; start_s += length) {
        uint32_t i = self->fresh_count;
        while (i > 0 && self->fresh[i - 1].start_s != start_s) {
            i--;
        }
        ef_buf_clear (&data);
        if (i > 0) {
            s_add_block (self, start_s, &self->fresh[i - 1].data);
        } else if (topic &&
                   store_get_block (history->reader, self->tier, topic, start_s, &data) > 0) {
            s_add_block (self, start_s, &data);
        }
    }
    pthread_mutex_unlock (&history->reading);
    ef_buf_free (&data);
}

/* Counts are told per second. */
static void
s_finish (const search_t *self) {
    const history_query_t *query = self->query;
    for (uint32_t i = 0; i < query->column_count; i++) {
        bool is_count = query->set->rows[query->columns[i]].kind == SERIES_COUNT;
        for (uint32_t k = 0; is_count && k < self->answer->points; k++) {
            size_t place = (size_t)i * self->answer->points + k;
            self->answer->values[place] *= 1000 / self->spans[place];
        }
    }
}

int
history_query (history_t *self, const history_query_t *query, history_answer_t *answer) {
    search_t search = {.history = self, .query = query, .answer = answer};
    memset (answer, 0, sizeof *answer);
    if (query->to_s <= query->from_s || query->column_count == 0) {
        return -1;
    }
    search.tier = history_choose (query, &answer->step_s);
    answer->from_s = query->from_s - query->from_s % answer->step_s;
    uint64_t points = (query->to_s - answer->from_s + answer->step_s - 1) / answer->step_s;
    answer->points = points > HISTORY_POINTS_MAX + 1 ? HISTORY_POINTS_MAX + 1 : (uint32_t)points;
    size_t count = (size_t)answer->points * query->column_count;
    answer->values = calloc (count, sizeof (double));
    search.spans = calloc (count, sizeof (double));
    ef_assert (answer->values != NULL && search.spans != NULL);
    for (size_t i = 0; i < count; i++) {
        answer->values[i] = NAN;
    }
    pthread_mutex_lock (&self->lock);
    s_gather (&search);
    pthread_mutex_unlock (&self->lock);
    s_read (&search);
    s_finish (&search);
    for (uint32_t i = 0; i < search.fresh_count; i++) {
        ef_buf_free (&search.fresh[i].data);
    }
    free (search.fresh);
    free (search.spans);
    return 0;
}

void
history_answer_free (history_answer_t *self) {
    free (self->values);
    self->values = NULL;
}
