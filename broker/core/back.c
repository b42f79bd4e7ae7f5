/* The back: what workers say (SPECIFICATION.md, "Working"). SPDX-License-Identifier: MIT */
#include "core_private.h"
#include "back.h"

#include <stdio.h>

/* READY's options. */
typedef struct {
    topic_t *topics[EF_WORKER_TOPICS_MAX];
    uint32_t topic_count;
    uint64_t credit;
    uint64_t bytes;
    uint64_t heartbeat_ms;
    uint64_t pid;
    bool has_session;
    uint8_t session[16];
    ef_span_t held;
    char name[EF_NAME_MAX + 1];
    char host[EF_NAME_MAX + 1];
    char token[EF_TOKEN_MAX + 1];
    ef_status_t status;
    char text[160];
} ready_t;

static int
s_ready_fail (ready_t *ready, ef_status_t status, const char *text) {
    ready->status = status;
    snprintf (ready->text, sizeof ready->text, "%s", text);
    return -1;
}

static int
s_read_topics (ef_core_t *core, ef_cursor_t *cursor, ready_t *ready) {
    uint32_t count;
    ready->topic_count = 0; /* a key said twice counts once */
    if (ef_get_array (cursor, &count) || count == 0 || count > EF_WORKER_TOPICS_MAX) {
        return s_ready_fail (ready, EF_BAD_COMMAND, "topics must be 1 to 64 names");
    }
    for (uint32_t i = 0; i < count; i++) {
        ef_span_t name;
        if (ef_get_str (cursor, &name) || !ef_topic_is_valid (name.data, name.size)) {
            return s_ready_fail (ready, EF_BAD_COMMAND, "topics must be 1 to 64 names");
        }
        topic_t *topic = core->config.auto_create ? topic_require (core, name.data, name.size)
                                                  : topic_find (core, name.data, name.size);
        if (topic == NULL) {
            const char *nearest = topic_nearest (core, name.data, name.size);
            snprintf (ready->text, sizeof ready->text, "no topic %.*s%s%s", (int)name.size,
                      name.data, nearest ? "; did you mean " : "", nearest ? nearest : "");
            ready->status = EF_UNKNOWN_TOPIC;
            return -1;
        }
        bool is_known = false;
        for (uint32_t k = 0; k < ready->topic_count; k++) {
            is_known = is_known || ready->topics[k] == topic;
        }
        if (!is_known) {
            ready->topics[ready->topic_count++] = topic;
        }
    }
    return 0;
}

static int
s_read_ready_key (ef_core_t *core, ef_cursor_t *cursor, ef_span_t key, ready_t *ready) {
    static const struct {
        const char *name;
        size_t number;
        size_t text;
    } keys[] = {
        {"credit", offsetof (ready_t, credit), 0},
        {"bytes", offsetof (ready_t, bytes), 0},
        {"heartbeat", offsetof (ready_t, heartbeat_ms), 0},
        {"pid", offsetof (ready_t, pid), 0},
        {"name", 0, offsetof (ready_t, name)},
        {"host", 0, offsetof (ready_t, host)},
        {"token", 0, offsetof (ready_t, token)},
    };
    ef_span_t value;
    if (ef_span_is (key, "topics")) {
        return s_read_topics (core, cursor, ready);
    }
    if (ef_span_is (key, "session")) {
        if (ef_get_bytes (cursor, &value) || value.size != 16) {
            return s_ready_fail (ready, EF_BAD_COMMAND, "session must be a bin of 16 bytes");
        }
        memcpy (ready->session, value.data, 16);
        ready->has_session = true;
        return 0;
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (!ef_span_is (key, keys[i].name)) {
            continue;
        }
        if (keys[i].number) {
            uint64_t *number = (uint64_t *)(void *)((char *)ready + keys[i].number);
            return ef_get_uint (cursor, number)
                       ? s_ready_fail (ready, EF_BAD_COMMAND,
                                       "credit, bytes, heartbeat and pid must be ints")
                       : 0;
        }
        if (ef_get_str (cursor, &value)) {
            return s_ready_fail (ready, EF_BAD_COMMAND, "name, host and token must be str");
        }
        ef_span_copy (value, (char *)ready + keys[i].text, EF_NAME_MAX + 1);
        return 0;
    }
    const uint8_t *start = cursor->at;
    if (ef_skip (cursor)) {
        return s_ready_fail (ready, EF_BAD_FRAME, "unreadable options");
    }
    if (ef_span_is (key, "held")) {
        ready->held = span_of (start, (size_t)(cursor->at - start));
    }
    return 0;
}

static int
s_read_ready (back_t *request, ready_t *ready) {
    uint64_t version;
    uint32_t pairs;
    memset (ready, 0, sizeof *ready);
    ready->credit = 1;
    ready->bytes = EF_WORKER_BYTES;
    if (request->count < 1 || ef_get_uint (&request->arguments, &version)) {
        return s_ready_fail (ready, EF_BAD_COMMAND,
                             "expected [\"READY\", 1, {\"topics\": [str], \"credit\": int}]");
    }
    if (version != EF_PROTOCOL_VERSION) {
        return s_ready_fail (ready, EF_VERSION, "this broker speaks version 1");
    }
    if (request->count < 2 || ef_get_map (&request->arguments, &pairs)) {
        return s_ready_fail (ready, EF_BAD_COMMAND, "READY needs options with topics and credit");
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        if (ef_get_str (&request->arguments, &key)) {
            return s_ready_fail (ready, EF_BAD_COMMAND, "keys of options must be str");
        }
        if (s_read_ready_key (request->core, &request->arguments, key, ready)) {
            return -1;
        }
    }
    if (ready->topic_count == 0) {
        return s_ready_fail (ready, EF_BAD_COMMAND, "READY names no topics");
    }
    ready->credit = ready->credit < EF_CREDIT_MAX ? ready->credit : EF_CREDIT_MAX;
    if (ready->heartbeat_ms && ready->heartbeat_ms < EF_HEARTBEAT_MIN_MS) {
        ready->heartbeat_ms = EF_HEARTBEAT_MIN_MS;
    }
    return 0;
}

static void
s_put_welcome (back_t *request, const worker_t *worker, const uint64_t *stale, uint32_t count) {
    ef_core_t *core = request->core;
    ef_buf_t *header = &core->header;
    ef_buf_clear (header);
    ef_put_array (header, 3);
    ef_put_str (header, "WELCOME");
    ef_put_uint (header, EF_PROTOCOL_VERSION);
    ef_put_map (header, 5);
    ef_put_key_str (header, "broker", core->config.broker);
    ef_put_key_uint (header, "epoch", core->epoch);
    ef_put_key_str (header, "name", worker->name);
    ef_put_str (header, "lease");
    ef_put_map (header, worker->sub_count);
    for (uint32_t i = 0; i < worker->sub_count; i++) {
        const ef_topic_config_t *config = &worker->subs[i].topic->config;
        ef_put_key_uint (header, config->name, config->lease_ms);
    }
    ef_put_str (header, "stale");
    ef_put_array (header, count);
    for (uint32_t i = 0; i < count; i++) {
        ef_put_uint (header, stale[i]);
    }
}

/* Marks the items that `held` names. What lies past the budget isn't looked at any more: it goes
   back, and an answer for it is stale. */
static void
s_mark_held (worker_t *worker, ef_span_t held) {
    ef_cursor_t cursor = ef_cursor (held.data, held.size);
    uint32_t count;
    uint64_t first;
    uint64_t last;
    uint64_t budget = BACK_VISITS_MAX;
    if (held.size == 0 || ef_get_array (&cursor, &count) || count > EF_TAGS_MAX) {
        return;
    }
    for (uint32_t i = 0; i < count && back_read_tag (&cursor, &first, &last) == 0; i++) {
        uint32_t place;
        lease_t *lease = worker_lease_from (worker, first, &place);
        for (; lease && lease->first_tag <= last; lease = worker_lease_next (worker, &place)) {
            uint64_t from = first > lease->first_tag ? first - lease->first_tag : 0;
            for (uint64_t k = from; k < lease->count && lease->first_tag + k <= last; k++) {
                lease->items[k].flags |= ENTRY_NAMED;
                if (--budget == 0) {
                    return;
                }
            }
        }
    }
}

/* Of what the worker had, what it doesn't name as held goes back, uncounted. */
static void
s_return_unheld (ef_core_t *core, worker_t *worker, ef_span_t held) {
    uint32_t place;
    s_mark_held (worker, held);
    for (lease_t *lease = worker_lease_from (worker, 0, &place); lease;) {
        lease_t *next = worker_lease_next (worker, &place);
        uint64_t next_tag = next ? next->first_tag : 0;
        for (uint32_t i = 0; i < lease->count; i++) {
            item_t *item = &lease->items[i];
            bool is_held = item->flags & ENTRY_NAMED;
            item->flags &= (uint16_t)~ENTRY_NAMED;
            if (item->state == ITEM_ANSWERED || is_held) {
                continue;
            }
            if (item->state == ITEM_OPEN) {
                give_back (core, lease->topic, item);
            }
            item_answered (core, lease, item);
        }
        lease_reap (core, lease);
        lease = next ? worker_lease_from (worker, next_tag, &place) : NULL;
    }
}

static uint32_t
s_list_stale (worker_t *worker, ef_span_t held, uint64_t stale[EF_STALE_MAX]) {
    ef_cursor_t cursor = ef_cursor (held.data, held.size);
    uint32_t items;
    uint32_t count = 0;
    uint64_t budget = BACK_VISITS_MAX;
    if (held.size == 0 || ef_get_array (&cursor, &items)) {
        return 0;
    }
    for (uint32_t i = 0; i < items && count < EF_STALE_MAX; i++) {
        uint64_t first;
        uint64_t last;
        if (back_read_tag (&cursor, &first, &last)) {
            break;
        }
        for (uint64_t tag = first; tag <= last && count < EF_STALE_MAX && budget > 0; tag++) {
            budget--;
            lease_t *lease;
            if (worker_item (worker, tag, &lease) == NULL) {
                stale[count++] = tag;
            }
        }
    }
    return count;
}

static worker_t *
s_new_worker (ef_core_t *core, const ready_t *ready) {
    worker_t *worker = calloc (1, sizeof *worker);
    ef_assert (worker != NULL);
    char asked[EF_NAME_MAX + 1];
    if (ready->name[0]) {
        memcpy (asked, ready->name, sizeof asked);
    } else {
        snprintf (asked, sizeof asked, "worker-%llu", (unsigned long long)++core->next_generation);
    }
    (void)worker_free_name (core, asked, worker->name);
    worker->started_ms = core->wall;
    worker->has_session = ready->has_session;
    memcpy (worker->session, ready->session, 16);
    if (core->workers.capacity == 0) {
        ef_hash_init (&core->workers, core->key, back_worker_key);
    }
    ef_hash_insert (&core->workers, worker);
    return worker;
}

/* A first READY on a connection: a new worker, or one that comes back. */
static worker_t *
s_enter (back_t *request, const ready_t *ready) {
    ef_core_t *core = request->core;
    worker_t *worker = ready->has_session ? worker_find_session (core, ready->session) : NULL;
    if (worker && worker->peer != request->number) {
        uint32_t old = worker->peer;
        core->peers[old].worker = NULL;
        worker->peer = request->number;
        request->peer->worker = worker;
        peer_forget (core, old);
        s_return_unheld (core, worker, ready->held);
        return worker;
    }
    if (core->workers.count >= EF_WORKERS_MAX) {
        peer_error (core, request->number, EF_FULL, "10,000 workers are connected", NULL);
        return NULL;
    }
    worker = s_new_worker (core, ready);
    worker->peer = request->number;
    request->peer->worker = worker;
    return worker;
}

void
back_ready (back_t *request) {
    ef_core_t *core = request->core;
    ready_t ready;
    uint64_t stale[EF_STALE_MAX];
    if (s_read_ready (request, &ready)) {
        peer_error (core, request->number, ready.status, ready.text, NULL);
        return;
    }
    worker_t *worker = request->peer->worker;
    bool is_first = worker == NULL;
    if (is_first) {
        worker = s_enter (request, &ready);
        if (worker == NULL) {
            return;
        }
        memcpy (worker->host, ready.host, sizeof worker->host);
        memcpy (worker->token, ready.token, sizeof worker->token);
        worker->pid = ready.pid;
        worker->heartbeat_ms =
            (uint32_t)(ready.heartbeat_ms < 3600000 ? ready.heartbeat_ms : 3600000);
    }
    worker->credit = (uint32_t)ready.credit;
    worker->bytes = ready.bytes;
    worker->is_draining = core->is_draining;
    worker->is_stuck = false;
    worker_subscribe (core, worker, ready.topics, ready.topic_count);
    uint32_t count = is_first ? s_list_stale (worker, ready.held, stale) : 0;
    s_put_welcome (request, worker, stale, count);
    (void)peer_send (core, request->number, NULL); /* else it says READY again */
}

const void *
back_worker_key (const void *item, size_t *size) {
    const worker_t *worker = item;
    *size = strlen (worker->name);
    return worker->name;
}
