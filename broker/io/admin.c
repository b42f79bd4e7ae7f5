/* The admin socket: a table of commands. SPDX-License-Identifier: MIT */
#include "router_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

typedef struct {
    ef_router_t *router;
    const ef_peer_t *peer;
    ef_cursor_t request;   /* the whole request */
    ef_cursor_t arguments; /* behind the command */
    uint32_t count;        /* arguments */
    char topic[EF_TOPIC_NAME_BYTES];
    ef_buf_t answer;
    bool is_later;  /* another actor answers */
    bool is_change; /* true only once it is durable */
} admin_t;

static void
s_ok (admin_t *self) {
    ef_buf_clear (&self->answer);
    ef_put_array (&self->answer, 2);
    ef_put_str (&self->answer, "OK");
}

static void
s_error (admin_t *self, ef_status_t status, const char *text) {
    ef_buf_clear (&self->answer);
    ef_put_array (&self->answer, 3);
    ef_put_str (&self->answer, "ERROR");
    ef_put_str (&self->answer, ef_status_name (status));
    ef_put_str (&self->answer, text);
}

static uint64_t
s_rss_bytes (void) {
    unsigned long pages = 0;
    FILE *file = fopen ("/proc/self/statm", "r");
    if (file) {
        if (fscanf (file, "%*u %lu", &pages) != 1) {
            pages = 0;
        }
        fclose (file);
    }
    return (uint64_t)pages * (uint64_t)sysconf (_SC_PAGESIZE);
}

/* Groups of the journal by the time that writing and syncing took. */
static void
s_put_syncs (ef_journal_t *journal, ef_buf_t *out) {
    uint64_t below = 0;
    ef_put_str (out, "sync");
    ef_put_map (out, 3);
    ef_put_key_uint (out, "count", atomic_load (&journal->groups));
    ef_put_key_uint (out, "sum_us", atomic_load (&journal->sync_sum_us));
    ef_put_str (out, "below");
    ef_put_array (out, EF_SYNC_STEPS);
    for (uint32_t i = 0; i < EF_SYNC_STEPS; i++) {
        below += atomic_load (&journal->sync_counts[i]);
        ef_put_uint (out, below);
    }
}

/* 0: not known, as while the journal is read at a start. */
static uint64_t
s_disk_free_bytes (ef_storage_t *storage) {
    uint64_t bytes;
    return storage == NULL || storage->room (storage, &bytes) ? 0 : bytes;
}

void
router_put_process (ef_router_t *self, ef_buf_t *out) {
    struct rusage usage = {0};
    (void)getrusage (RUSAGE_SELF, &usage); /* can't fail for oneself */
    ef_put_map (out, 19);
    ef_put_key_str (out, "version", EF_PROGRAM_VERSION);
    ef_put_key_uint (out, "pid", (uint64_t)getpid ());
    ef_put_key_uint (out, "started", self->started_ms);
    ef_put_key_uint (out, "rss_bytes", s_rss_bytes ());
    ef_put_key_uint (out, "cpu_ms",
                     (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
                         (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000);
    ef_put_key_uint (out, "peers", self->peers.table.count);
    ef_put_key_uint (out, "messages_in", self->messages_in);
    ef_put_key_uint (out, "groups", atomic_load (&self->parts.journal->groups));
    ef_put_key_uint (out, "sync_us", atomic_load (&self->parts.journal->sync_us));
    ef_put_key_uint (out, "waiting", atomic_load (&self->parts.retry->depth));
    ef_put_key_uint (out, "spares", ef_spares_ready (self->parts.spares));
    ef_put_key_uint (out, "scrub_good_ms", atomic_load (&self->parts.upkeep->scrub_good_ms));
    ef_put_key_uint (out, "scrub_bytes", atomic_load (&self->parts.upkeep->scrub_bytes));
    ef_put_key_uint (out, "scrub_damaged", atomic_load (&self->parts.upkeep->damaged));
    ef_put_key_uint (out, "recovery_ms", self->recovery_ms);
    ef_put_key_uint (out, "config_ms", self->config_ms);
    ef_put_key_bool (out, "config_ok", !self->is_config_refused);
    ef_put_key_uint (out, "disk_free_bytes", s_disk_free_bytes (self->parts.upkeep->storage));
    s_put_syncs (self->parts.journal, out);
}

static void
s_status (admin_t *self) {
    s_ok (self);
    ef_put_map (&self->answer, 2);
    ef_put_str (&self->answer, "broker");
    ef_core_status (self->router->core, &self->answer);
    ef_put_str (&self->answer, "process");
    router_put_process (self->router, &self->answer);
}

static void
s_topics (admin_t *self) {
    uint32_t count = ef_core_topic_count (self->router->core);
    s_ok (self);
    ef_put_map (&self->answer, 2);
    ef_put_str (&self->answer, "items");
    ef_put_array (&self->answer, count);
    for (uint32_t i = 0; i < count; i++) {
        ef_core_topic_stats (self->router->core, i, &self->answer);
    }
    ef_put_str (&self->answer, "next");
    ef_put_nil (&self->answer);
}

typedef struct {
    const ef_router_t *router;
    ef_buf_t *out;
    uint32_t count;
} worker_list_t;

static void
s_each_worker (void *arg, const ef_worker_map_t *worker) {
    worker_list_t *list = arg;
    router_put_worker (list->router, worker, list->out);
    list->count++;
}

static void
s_workers (admin_t *self) {
    worker_list_t list = {.router = self->router, .out = &self->answer};
    s_ok (self);
    ef_put_map (&self->answer, 2);
    ef_put_str (&self->answer, "items");
    size_t mark = ef_put_open (&self->answer);
    ef_core_workers (self->router->core, s_each_worker, &list);
    ef_put_close_array (&self->answer, mark, list.count);
    ef_put_str (&self->answer, "next");
    ef_put_nil (&self->answer);
}

static void
s_answer_status (admin_t *self, ef_status_t status) {
    if (status != EF_OK) {
        s_error (self, status, "no such topic");
        return;
    }
    s_ok (self);
    ef_put_map (&self->answer, 1);
    ef_put_key_str (&self->answer, "topic", self->topic);
}

static void
s_pause (admin_t *self) {
    self->is_change = true;
    s_answer_status (self, ef_core_pause (self->router->core, self->topic, true));
}

static void
s_resume (admin_t *self) {
    self->is_change = true;
    s_answer_status (self, ef_core_pause (self->router->core, self->topic, false));
}

static void
s_drain (admin_t *self) {
    self->is_change = true;
    s_answer_status (self, ef_core_drain (self->router->core, self->topic));
}

static void
s_purge (admin_t *self) {
    uint64_t purged = 0;
    self->is_change = true;
    ef_status_t status = ef_core_purge (self->router->core, self->topic, &purged);
    s_answer_status (self, status);
    if (status == EF_OK) {
        s_ok (self);
        ef_put_map (&self->answer, 1);
        ef_put_key_uint (&self->answer, "purged", purged);
    }
}

static void
s_peek (admin_t *self) {
    uint64_t limit = 10;
    uint32_t count;
    ef_buf_t items = {0};
    if (self->count > 1 && ef_get_uint (&self->arguments, &limit)) {
        s_error (self, EF_BAD_COMMAND, "expected [\"PEEK\", topic, n]");
        return;
    }
    ef_status_t status = ef_core_peek (self->router->core, self->topic,
                                       limit < 1000 ? (uint32_t)limit : 1000, &items, &count);
    s_answer_status (self, status);
    if (status == EF_OK) {
        s_ok (self);
        ef_put_map (&self->answer, 1);
        ef_put_str (&self->answer, "items");
        ef_put_array (&self->answer, count);
        ef_buf_put (&self->answer, items.data, items.size);
    }
    ef_buf_free (&items);
}

static void
s_scale (admin_t *self) {
    uint64_t wanted;
    if (self->count < 2 || ef_get_uint (&self->arguments, &wanted) || wanted > 1000) {
        s_error (self, EF_BAD_COMMAND, "expected [\"SCALE\", topic, n (0 to 1000)]");
        return;
    }
    if (!ef_scaler_has_pool (self->router->parts.scaler, self->topic)) {
        s_error (self, EF_NOT_FOUND, "the topic has no pool (topic/NAME/pool/command)");
        return;
    }
    router_scale (self->router, self->topic, (uint32_t)wanted);
    s_answer_status (self, EF_OK);
}

static void
s_pools (admin_t *self) {
    uint32_t count = ef_core_topic_count (self->router->core);
    s_ok (self);
    ef_put_map (&self->answer, 2);
    ef_put_str (&self->answer, "items");
    ef_put_array (&self->answer, count);
    for (uint32_t i = 0; i < count; i++) {
        router_put_pool (self->router, i, &self->answer);
    }
    ef_put_str (&self->answer, "next");
    ef_put_nil (&self->answer);
}

static void
s_pool_set (admin_t *self) {
    int index = ef_core_find_topic (self->router->core, self->topic, strlen (self->topic));
    const char *why =
        index < 0 ? "no such topic" : router_set_pool (self->router, self->topic, self->arguments);
    if (why) {
        s_error (self, index < 0 ? EF_NOT_FOUND : EF_BAD_COMMAND, why);
        return;
    }
    s_ok (self);
    router_put_pool (self->router, (uint32_t)index, &self->answer);
}

static void
s_pool_history (admin_t *self) {
    int index = ef_core_find_topic (self->router->core, self->topic, strlen (self->topic));
    if (index < 0) {
        s_error (self, EF_NOT_FOUND, "no such topic");
        return;
    }
    s_ok (self);
    router_put_history (self->router, (uint32_t)index, &self->answer);
}

static void
s_topic_info (admin_t *self) {
    ef_core_t *core = self->router->core;
    int index = ef_core_find_topic (core, self->topic, strlen (self->topic));
    if (index < 0) {
        s_error (self, EF_NOT_FOUND, "no such topic");
        return;
    }
    s_ok (self);
    ef_put_map (&self->answer, 6);
    ef_put_str (&self->answer, "settings");
    ef_config_print_topic (ef_core_topic_config (core, (uint32_t)index), &self->answer);
    ef_put_str (&self->answer, "stats");
    ef_core_topic_stats (core, (uint32_t)index, &self->answer);
    ef_core_topic_info (core, (uint32_t)index, &self->answer);
}

/* A number among the options, a map that may be left out. -1: there is none that can be read. */
static int
s_option (ef_cursor_t options, const char *name, uint64_t *number) {
    uint32_t pairs;
    if (ef_get_map (&options, &pairs)) {
        return -1;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        if (ef_get_str (&options, &key)) {
            return -1;
        }
        if (ef_span_is (key, name)) {
            return ef_get_uint (&options, number);
        }
        if (ef_skip (&options)) {
            return -1;
        }
    }
    return -1;
}

static void
s_topic_keys (admin_t *self) {
    ef_core_t *core = self->router->core;
    int index = ef_core_find_topic (core, self->topic, strlen (self->topic));
    uint64_t limit = 100;
    uint64_t after = 0;
    ef_buf_t items = {0};
    if (index < 0) {
        s_error (self, EF_NOT_FOUND, "no such topic");
        return;
    }
    (void)s_option (self->arguments, "limit", &limit); /* else the default */
    (void)s_option (self->arguments, "after", &after); /* else from the beginning */
    limit = limit < 1000 ? limit : 1000;
    uint32_t position = (uint32_t)after;
    uint32_t count = ef_core_keys (core, (uint32_t)index, (uint32_t)limit, &position, &items);
    s_ok (self);
    ef_put_map (&self->answer, 2);
    ef_put_str (&self->answer, "items");
    ef_put_array (&self->answer, count);
    ef_buf_put (&self->answer, items.data, items.size);
    ef_put_str (&self->answer, "next");
    if (limit > 0 && count == limit) {
        ef_put_uint (&self->answer, position);
    } else {
        ef_put_nil (&self->answer);
    }
    ef_buf_free (&items);
}

static void
s_topic_unpark (admin_t *self) {
    ef_core_t *core = self->router->core;
    int index = ef_core_find_topic (core, self->topic, strlen (self->topic));
    ef_span_t key = {NULL, 0};
    uint64_t count = 0;
    bool has_key = self->count > 1 && ef_get_nil (&self->arguments) != 0;
    if (has_key && ef_get_bytes (&self->arguments, &key)) {
        s_error (self, EF_BAD_COMMAND, "expected [\"TOPIC.UNPARK\", topic, key (str, bin or nil)]");
        return;
    }
    ef_status_t status =
        index < 0 ? EF_NOT_FOUND
                  : ef_core_unpark (core, (uint32_t)index, has_key ? &key : NULL, &count);
    if (status != EF_OK) {
        s_error (self, status, index < 0 ? "no such topic" : "no event with this key is parked");
        return;
    }
    self->is_change = true;
    s_ok (self);
    ef_put_map (&self->answer, 1);
    ef_put_key_uint (&self->answer, "unparked", count);
}

static void
s_breaker_set (admin_t *self) {
    ef_core_t *core = self->router->core;
    int index = ef_core_find_topic (core, self->topic, strlen (self->topic));
    ef_span_t downstream = {"", 0};
    ef_span_t word;
    int hand = -1;
    bool is_read =
        self->count > 2 &&
        (ef_get_nil (&self->arguments) == 0 || ef_get_str (&self->arguments, &downstream) == 0) &&
        ef_get_str (&self->arguments, &word) == 0;
    for (int i = 0; is_read && i < EF_HAND_COUNT; i++) {
        hand = ef_span_is (word, ef_hand_name ((ef_hand_t)i)) ? i : hand;
    }
    if (hand < 0) {
        s_error (self, EF_BAD_COMMAND,
                 "expected [\"BREAKER.SET\", topic, downstream (str or nil), open|closed|auto]");
        return;
    }
    ef_status_t status =
        index < 0 ? EF_NOT_FOUND
                  : ef_core_set_breaker (core, (uint32_t)index, downstream, (ef_hand_t)hand);
    if (status != EF_OK) {
        s_error (self, status, index < 0 ? "no such topic" : "the topic has 1,024 breakers");
        return;
    }
    self->is_change = true;
    s_ok (self);
    status = ef_core_breaker (core, (uint32_t)index, downstream, &self->answer);
    ef_assert (status == EF_OK);
}

static void
s_shutdown (admin_t *self) {
    self->router->wants_stop = true;
    s_ok (self);
    ef_put_nil (&self->answer);
}

/* Main reads the settings and has the answer. */
static void
s_reload (admin_t *self) {
    self->is_later = router_ask_reload (self->router, self->peer);
    if (!self->is_later) {
        s_error (self, EF_FULL, "others wait for a reload; try again");
    }
}

static void
s_dead (admin_t *self) {
    router_letters_ask (self->router, self->peer, self->request);
    self->is_later = true;
}

static void
s_event (admin_t *self) {
    ef_status_t status = EF_OK;
    const char *why = router_event_ask (self->router, self->peer, self->request, &status);
    self->is_later = why == NULL;
    if (why) {
        s_error (self, status, why);
    }
}

static const struct {
    const char *name;
    bool needs_topic;
    void (*run) (admin_t *self);
} s_commands[] = {
    {"STATUS", false, s_status},
    {"TOPICS", false, s_topics},
    {"WORKERS", false, s_workers},
    {"PAUSE", true, s_pause},
    {"RESUME", true, s_resume},
    {"DRAIN", true, s_drain},
    {"PURGE", true, s_purge},
    {"PEEK", true, s_peek},
    {"SCALE", true, s_scale},
    {"POOLS", false, s_pools},
    {"POOL.SET", true, s_pool_set},
    {"POOL.HISTORY", true, s_pool_history},
    {"SHUTDOWN", false, s_shutdown},
    {"DLQ.LIST", false, s_dead},
    {"DLQ.SHOW", false, s_dead},
    {"DLQ.REPLAY", false, s_dead},
    {"DLQ.PURGE", false, s_dead},
    {"DLQ.SUPERSEDE", false, s_dead},
    {"TOPIC.INFO", true, s_topic_info},
    {"TOPIC.KEYS", true, s_topic_keys},
    {"TOPIC.UNPARK", true, s_topic_unpark},
    {"BREAKER.SET", true, s_breaker_set},
    {"RELOAD", false, s_reload},
    {"EVENT.SHOW", false, s_event},
    {"EVENT.EXPLAIN", false, s_event},
    {"EVENT.CANCEL", false, s_event},
    {"EVENT.DELAY", false, s_event},
    {"EVENT.RUN", false, s_event},
    {"EVENT.RELEASE", false, s_event},
    {"EVENTS", false, s_event},
};

static void
s_run (admin_t *self) {
    ef_span_t command;
    ef_span_t topic;
    if (ef_get_array (&self->arguments, &self->count) || self->count == 0 ||
        ef_get_str (&self->arguments, &command)) {
        s_error (self, EF_BAD_FRAME, "expected an array that begins with a command");
        return;
    }
    self->count--;
    for (size_t i = 0; i < sizeof s_commands / sizeof s_commands[0]; i++) {
        if (!ef_span_is (command, s_commands[i].name)) {
            continue;
        }
        if (s_commands[i].needs_topic) {
            if (self->count < 1 || ef_get_str (&self->arguments, &topic) ||
                topic.size >= sizeof self->topic) {
                s_error (self, EF_BAD_COMMAND, "this command needs a topic");
                return;
            }
            ef_span_copy (topic, self->topic, sizeof self->topic);
        }
        s_commands[i].run (self);
        return;
    }
    size_t used = 0;
    char text[512] = "unknown command; this broker knows";
    for (size_t i = 0; i < sizeof s_commands / sizeof s_commands[0]; i++) {
        used = strlen (text);
        snprintf (text + used, sizeof text - used, " %s", s_commands[i].name);
    }
    s_error (self, EF_BAD_COMMAND, text);
}

/* An answer that waits for what it tells of to be durable. */
typedef struct {
    ef_peer_t peer; /* a copy */
    uint64_t lsn;
    ef_buf_t answer; /* owned */
} admin_wait_t;

void
router_admin_later (ef_router_t *self, const ef_peer_t *peer, ef_buf_t *answer) {
    admin_wait_t *wait = calloc (1, sizeof *wait);
    ef_assert (wait != NULL);
    wait->peer = *peer;
    wait->lsn = ef_core_written_lsn (self->core);
    wait->answer = *answer;
    memset (answer, 0, sizeof *answer);
    outbox_add (&self->admin_waits, wait);
}

static void
s_end_wait (ef_router_t *self) {
    admin_wait_t *wait = self->admin_waits.items[self->admin_waits.head++];
    self->admin_waits.count--;
    ef_buf_free (&wait->answer);
    free (wait);
}

/* Sends the answers that have become true, in order. */
void
router_admin_durable (ef_router_t *self) {
    while (self->admin_waits.count > 0) {
        const admin_wait_t *wait = self->admin_waits.items[self->admin_waits.head];
        if (wait->lsn > ef_core_durable_lsn (self->core)) {
            return;
        }
        (void)router_send_frames (self, &wait->peer, &wait->answer, NULL); /* it asks again */
        s_end_wait (self);
    }
    self->admin_waits.head = 0;
}

void
router_admin_forget (ef_router_t *self) {
    while (self->admin_waits.count > 0) {
        s_end_wait (self);
    }
    outbox_free (&self->admin_waits);
}

void
router_admin (ef_router_t *self, const ef_peer_t *peer, const zmq_msg_t *frame) {
    admin_t admin = {.router = self, .peer = peer};
    if (frame) {
        admin.request = ef_cursor (zmq_msg_data ((zmq_msg_t *)frame), zmq_msg_size (frame));
        admin.arguments = admin.request;
    }
    s_run (&admin);
    if (admin.is_change && ef_core_written_lsn (self->core) > ef_core_durable_lsn (self->core)) {
        router_admin_later (self, peer, &admin.answer);
    } else if (!admin.is_later) {
        (void)router_send_frames (self, peer, &admin.answer, NULL); /* it asks again */
    }
    ef_buf_free (&admin.answer);
}
