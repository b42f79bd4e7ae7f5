/* The REST endpoints' inside. SPDX-License-Identifier: MIT */
#ifndef EF_WEB_API_PRIVATE_H
#define EF_WEB_API_PRIVATE_H

#include "../../proto/json.h"
#include "../../proto/limits.h"
#include "../c/eventflow.h"
#include "api.h"
#include "problem.h"

#include <pthread.h>
#include <stdatomic.h>

#define API_LIMIT_DEFAULT 100
#define API_LIMIT_MAX     1000
#define EF_ID_TEXT        (EF_ID_MAX + 1)

typedef struct tasks_s tasks_t;

struct api_s {
    admin_pool_t *admin;
    bool (*health) (void *arg, ef_buf_t *members);
    void *health_arg;
    uint64_t started_ms; /* wall */
    tasks_t *tasks;      /* owned */
    /* what the broker said of itself last */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool is_ending;
    int state;
    double share;
    char durability[16];
    /* for edited replays */
    const char *front; /* borrowed; NULL: the default */
    pthread_mutex_t publisher_lock;
    eventflow_publisher_t *publisher; /* owned; NULL: not needed yet */
};

/* ---- api_json.c ---- */

void api_text (ef_buf_t *out, const char *text);
/* Appends a map as JSON; keys of `dates` (ended with NULL) are ms since 1970 and become RFC 3339,
   null where they are 0. 0 or -1. */
EF_MUST_USE int api_put_map (ef_buf_t *out, ef_cursor_t map, const char *const *dates);
/* The same without the braces, with a comma before each member. */
EF_MUST_USE int api_put_members (ef_buf_t *out, ef_cursor_t map, const char *const *dates);
/* Asks the broker and answers the call with the items or the map that it says; empties the
   request. */
void api_pass_items (api_t *self, call_t *call, ef_buf_t *request,
                     int (*put) (ef_buf_t *out, ef_cursor_t item));
void api_pass_map (api_t *self, call_t *call, ef_buf_t *request, const char *const *dates);
void api_put_date (ef_buf_t *out, const char *key, uint64_t ms);
/* An attempt [code, text, trace, ms, worker, {…}] with all that is known of it. */
EF_MUST_USE int api_put_attempts (ef_buf_t *out, ef_cursor_t attempts);
/* [code, text, trace, ms, worker] as {status_code, message, stack_trace, date, worker}. */
EF_MUST_USE int api_put_error (ef_buf_t *out, ef_cursor_t error);

/* Begins a request [command, topic or other text, …] of `items` items. */
void api_request (ef_buf_t *out, uint32_t items, const char *command, const char *first);
/* The body as one JSON object; an empty body is an empty object. -1: the call is answered. */
EF_MUST_USE int api_body (call_t *call, ef_buf_t *object);
/* Query arguments. -1: the call is answered. */
EF_MUST_USE int api_query_limit (call_t *call, uint64_t *limit);
/* The cursor that an answer's "next" was, as MessagePack; empty: none. */
EF_MUST_USE int api_query_cursor (call_t *call, ef_buf_t *cursor);
/* RFC 3339, ms since 1970, or a duration (so long ago). `*ms` < 0: not said. */
EF_MUST_USE int api_query_moment (call_t *call, const char *name, int64_t *ms);
/* "50/s", "30/m", 50. -1: it isn't one. */
EF_MUST_USE int api_read_rate (ef_cursor_t value, double *rate);

/* ---- the tables ---- */

extern const route_t api_topic_rows[];
extern const size_t api_topic_count;
extern const route_t api_event_rows[];
extern const size_t api_event_count;
extern const route_t api_failed_rows[];
extern const size_t api_failed_count;
extern const route_t api_health_rows[];
extern const size_t api_health_count;

/* edit.c */
void edit_replay (void *arg, call_t *call);

/* ---- letters.c: choosing dead letters ---- */

typedef struct {
    char topic[64];  /* empty: all */
    char reason[32]; /* empty: all; so too below */
    char error[128]; /* a pattern of the last error's code, or a part of its text */
    char type[128];  /* a pattern */
    char words[128]; /* anywhere in id, type, error or payload */
    int64_t since_ms;
    int64_t until_ms;
} letters_filter_t;

/* Does an item of DLQ.LIST fit, as far as the item tells? */
bool letters_fit (const letters_filter_t *filter, ef_cursor_t item);
/* DLQ.SHOW. NULL or the code. */
/* Of a choice by a filter: what another event does in its place isn't replayed, but thrown away. */
bool letters_may_go (ef_cursor_t item, bool is_discard);
const char *letters_show (admin_pool_t *admin, const char *topic, uint64_t n, ef_buf_t *value,
                          char *text);
/* One page of DLQ.LIST; `*after` moves on, 0: that was the last. Calls `each` for those that fit;
   it says false to stop (then `*after` is that item's). NULL or the code. */
typedef struct {
    const letters_filter_t *filter;
    uint64_t after;
    uint32_t limit;
    bool (*each) (void *arg, ef_cursor_t item, uint64_t m);
    void *arg;
    bool is_stopped;
} letters_page_t;
const char *letters_page (admin_pool_t *admin, const char *topic, letters_page_t *page, char *text);
/* Names of the topics that have dead letters (the one of the filter), each ended with a NUL, then
   an empty one. NULL or the code. */
const char *letters_topics (admin_pool_t *admin, const letters_filter_t *filter, ef_buf_t *names,
                            char *text);

/* ---- tasks.c: replaying and discarding many ---- */

tasks_t *tasks_new (admin_pool_t *admin);
void tasks_destroy (tasks_t **self_p);
typedef struct {
    letters_filter_t filter;
    const uint64_t *numbers; /* just these; NULL: all that fit */
    uint32_t count;
    double rate; /* a second, 0: no bound */
    bool is_discard;
    const char *who;
} task_options_t;
/* 0, and the task's id; -1: too many run. */
EF_MUST_USE int tasks_start (tasks_t *self, const task_options_t *options, char id[40]);
/* Appends its JSON. -1: there is none of that id. */
EF_MUST_USE int tasks_put (tasks_t *self, const char *id, ef_buf_t *out);
void tasks_put_all (tasks_t *self, ef_buf_t *out);
EF_MUST_USE int tasks_cancel (tasks_t *self, const char *id);

#endif
