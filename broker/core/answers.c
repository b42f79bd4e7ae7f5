/* Workers' answers: ACK, NACK, EXTEND and the small commands. SPDX-License-Identifier: MIT */
#include "back.h"

#include <stdio.h>

/* A lapsed item's event counts as answered while the tag is its last one and it isn't away again.
 */
static entry_t *
s_late (lease_t *lease, item_t *item, uint64_t tag) {
    entry_t *entry = entry_find (lease->topic, item->n);
    bool is_waiting = entry && entry->tag == tag && !(entry->flags & ENTRY_INSERTING) &&
                      (entry->state == EF_STATE_READY || entry->state == EF_STATE_RETRYING ||
                       entry->state == EF_STATE_PARKED);
    return is_waiting ? entry : NULL;
}

typedef struct {
    ef_span_t result;
    ef_span_t downstream;
    uint64_t done;
    bool is_one_batch; /* all of it goes in one batch, with the events that it brings */
} ack_t;

/* An event that is done: what its end brings stands in the same batch. */
static void
s_finish (ef_core_t *core, lease_t *lease, item_t *item, entry_t *entry, const ack_t *ack) {
    topic_t *topic = lease->topic;
    ef_state_t from = item->state == ITEM_OPEN ? EF_STATE_LEASED : (ef_state_t)entry->state;
    if (ack->result.size) {
        result_write (core, topic, item->n, ack->result);
    }
    if (topic->config.on_done[0]) {
        (void)batch_buf (core); /* first: a new batch may begin with the counts as they are */
        ended_t ended = {.n = item->n,
                         .attempts = entry ? entry->tries : 0,
                         .history = entry ? entry->history : NULL,
                         .worker = lease->worker,
                         .result = ack->result};
        emit_ended (core, topic, span_of (item->event, item->event_bytes), &ended);
    }
    breakers_outcome (core, topic, item, ack->downstream, OUTCOME_GOOD);
    finish_event (core, topic, item->n, entry, entry ? entry->bytes : item->bytes, from);
}

static bool
s_ack_item (back_t *request, lease_t *lease, item_t *item, uint64_t tag, void *arg) {
    ef_core_t *core = request->core;
    ack_t *ack = arg;
    entry_t *entry = item->state == ITEM_OPEN ? item->entry : s_late (lease, item, tag);
    bool counts = item->state == ITEM_OPEN || entry;
    if (counts && !ack->is_one_batch && lease->topic->config.on_done[0]) {
        batch_split (core);
    }
    if (counts) {
        s_finish (core, lease, item, entry, ack);
    }
    item_answered (core, lease, item);
    lease->worker->done += counts;
    report_took (core, lease);
    ack->done += counts;
    return counts;
}

typedef struct {
    uint64_t ended_bytes;  /* of the events that would end */
    uint64_t copied_bytes; /* of those that would be copied to other topics for it */
} probe_t;

/* Looks only: would an ACK of this tag count? A tag that is named twice counts once. */
static bool
s_probe_item (back_t *request, lease_t *lease, item_t *item, uint64_t tag, void *arg) {
    (void)request;
    probe_t *probe = arg;
    bool is_repeated = item->flags & ENTRY_NAMED;
    item->flags |= ENTRY_NAMED;
    probe->ended_bytes += is_repeated ? 0 : item->bytes;
    probe->copied_bytes += is_repeated || !lease->topic->config.on_done[0] ? 0 : item->event_bytes;
    return !is_repeated && (item->state == ITEM_OPEN || s_late (lease, item, tag) != NULL);
}

static bool
s_unmark_item (back_t *request, lease_t *lease, item_t *item, uint64_t tag, void *arg) {
    (void)request;
    (void)lease;
    (void)tag;
    (void)arg;
    item->flags &= (uint16_t)~ENTRY_NAMED;
    return true;
}

/* Refused for want of space: its lease doesn't end before there is some. */
static bool
s_hold_item (back_t *request, lease_t *lease, item_t *item, uint64_t tag, void *arg) {
    (void)request;
    (void)lease;
    (void)tag;
    (void)arg;
    item->flags |= ENTRY_HELD;
    return true;
}

typedef struct {
    bool has_seq;
    uint64_t seq;
    bool is_dead;
    bool is_release;
    int64_t retry_ms;
    ef_span_t trace;
    ef_span_t downstream;
    ef_span_t result; /* raw MessagePack */
} options_t;

static int
s_read_options (back_t *request, options_t *options) {
    uint32_t pairs;
    memset (options, 0, sizeof *options);
    options->retry_ms = -1;
    if (request->count == 0) {
        return 0;
    }
    if (ef_get_map (&request->arguments, &pairs)) {
        return -1;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        ef_span_t text;
        ef_cursor_t *cursor = &request->arguments;
        int rc = ef_get_str (cursor, &key);
        if (rc == 0 && ef_span_is (key, "seq")) {
            rc = ef_get_uint (cursor, &options->seq);
            options->has_seq = true;
        } else if (rc == 0 && ef_span_is (key, "dead")) {
            rc = ef_get_bool (cursor, &options->is_dead);
        } else if (rc == 0 && ef_span_is (key, "release")) {
            rc = ef_get_bool (cursor, &options->is_release);
        } else if (rc == 0 && ef_span_is (key, "retry")) {
            rc = ef_get_int (cursor, &options->retry_ms) || options->retry_ms < 0 ? -1 : 0;
        } else if (rc == 0 && ef_span_is (key, "trace")) {
            rc = ef_get_str (cursor, &text);
            options->trace = text;
        } else if (rc == 0 && ef_span_is (key, "downstream")) {
            rc = ef_get_str (cursor, &options->downstream);
        } else if (rc == 0 && ef_span_is (key, "result")) {
            const uint8_t *start = cursor->at;
            rc = ef_skip (cursor);
            options->result = span_of (start, (size_t)(cursor->at - start));
        } else if (rc == 0) {
            rc = ef_skip (cursor);
        }
        if (rc) {
            return -1;
        }
    }
    return 0;
}

/* Says what became of an answer that bore a seq, once it is durable. */
static void
s_queue_acked (back_t *request, uint64_t seq, uint64_t done, const stale_t *stale,
               const ef_buf_t *refused, uint32_t refused_count) {
    ef_buf_t *answer = calloc (1, sizeof *answer);
    ef_assert (answer != NULL);
    ef_put_array (answer, 3);
    ef_put_str (answer, "ACKED");
    ef_put_uint (answer, seq);
    ef_put_map (answer, 1u + (stale->count > 0) + (refused_count > 0));
    ef_put_key_uint (answer, "done", done);
    if (stale->count) {
        ef_put_str (answer, "stale");
        ef_put_array (answer, stale->count);
        for (uint32_t i = 0; i < stale->count; i++) {
            ef_put_uint (answer, stale->tags[i]);
        }
    }
    if (refused_count) {
        ef_put_str (answer, "refused");
        ef_put_array (answer, refused_count);
        ef_buf_put (answer, refused->data, refused->size);
    }
    batch_after (request->core,
                 (after_t){.kind = AFTER_ACKED, .peer = request->number, .pointer = answer});
}

/* Items of `refused` as ACKED has them: without the seq in front. */
static uint32_t
s_strip_refused (const accept_result_t *result, ef_buf_t *out) {
    ef_cursor_t cursor = ef_cursor (result->refused.data, result->refused.size);
    for (uint32_t i = 0; i < result->refused_count; i++) {
        uint32_t fields;
        int rc = ef_get_array (&cursor, &fields);
        rc = rc ? rc : ef_skip (&cursor);
        const uint8_t *start = cursor.at;
        for (unsigned k = 0; k < 3; k++) {
            rc = rc ? rc : ef_skip (&cursor);
        }
        ef_assert (rc == 0 && fields == 4);
        ef_put_array (out, 3);
        ef_buf_put (out, start, (size_t)(cursor.at - start));
    }
    return result->refused_count;
}

/* An item of `refused` for all that an ACK brings. */
static uint32_t
s_refuse_whole (ef_status_t status, const char *text, ef_buf_t *refused) {
    ef_put_array (refused, 3);
    ef_put_nil (refused);
    ef_put_str (refused, ef_status_name (status));
    ef_put_str (refused, text);
    return 1;
}

/* An ACK that brings events: they and the acknowledgement go in one batch, or nothing happens. */
static void
s_ack_with_events (back_t *request, ef_cursor_t tags, uint64_t seq, ack_t *ack) {
    ef_core_t *core = request->core;
    stale_t stale = {.count = 0};
    ack->is_one_batch = true;
    ef_buf_t refused = {0};
    uint32_t refused_count = 0;
    stale_t ignored = {.count = 0};
    probe_t probe = {0};
    int rc = back_each (request, tags, s_probe_item, &probe, &stale);
    (void)back_each (request, tags, s_unmark_item, NULL,
                     &ignored); /* as far as the first one went */
    if (rc) {
        peer_error (core, request->number, EF_BAD_COMMAND,
                    "tags must be an array of tags and pairs", NULL);
        return;
    }
    if (stale.total == 0 && probe.copied_bytes > core->config.max_message) {
        refused_count = s_refuse_whole (EF_TOO_LARGE,
                                        "the copies of what ends with it wouldn't fit one batch; "
                                        "acknowledge fewer at a time",
                                        &refused);
    } else if (stale.total == 0) {
        accept_request_t accept = {.frames = request->body,
                                   .count = request->frames,
                                   .is_atomic = true,
                                   .is_emit = true,
                                   .ended_bytes = probe.ended_bytes};
        accept_result_t result;
        accept_events (core, &accept, &result);
        if (result.status != EF_OK) {
            refused_count = s_refuse_whole (result.status, result.text, &refused);
            if (result.status == EF_NO_SPACE) {
                (void)back_each (request, tags, s_hold_item, NULL, &ignored);
            }
        } else if (result.refused_count) {
            refused_count = s_strip_refused (&result, &refused);
        } else {
            rc = back_each (request, tags, s_ack_item, ack, &stale);
            ef_assert (rc == 0); /* read once already */
        }
        accept_result_free (&result);
    }
    s_queue_acked (request, seq, ack->done, &stale, &refused, refused_count);
    ef_buf_free (&refused);
}

static bool
s_is_one_tag (ef_cursor_t tags) {
    uint32_t count;
    uint64_t first;
    uint64_t last;
    return ef_get_array (&tags, &count) == 0 && count == 1 &&
           back_read_tag (&tags, &first, &last) == 0 && first == last;
}

static void
s_ack (back_t *request) {
    ef_core_t *core = request->core;
    ef_cursor_t tags = request->arguments;
    options_t options;
    stale_t stale = {.count = 0};
    ack_t ack = {.done = 0};
    if (request->count < 1 || ef_skip (&request->arguments)) {
        peer_error (core, request->number, EF_BAD_COMMAND, "expected [\"ACK\", tags, options?]",
                    NULL);
        return;
    }
    request->count--;
    if (s_read_options (request, &options) || (request->frames > 0 && !options.has_seq)) {
        peer_error (core, request->number, EF_BAD_COMMAND,
                    "options of ACK are a map; with events it needs a seq (int)", NULL);
        return;
    }
    if (options.result.size > EF_RESULT_MAX || (options.result.size && !s_is_one_tag (tags))) {
        peer_error (core, request->number, EF_BAD_COMMAND,
                    "a result goes with one tag and has up to 65,536 bytes", NULL);
        return;
    }
    ack.result = options.result;
    ack.downstream = options.downstream;
    if (request->frames > 0) {
        s_ack_with_events (request, tags, options.seq, &ack);
        return;
    }
    if (back_each (request, tags, s_ack_item, &ack, &stale)) {
        peer_error (core, request->number, EF_BAD_COMMAND,
                    "tags must be an array of tags and pairs", NULL);
    }
    core->stale_answers += stale.total;
    if (options.has_seq) {
        s_queue_acked (request, options.seq, ack.done, &stale, NULL, 0);
    }
}

typedef struct {
    failure_t failure;
    ef_span_t downstream;
    bool is_release;
    uint64_t count;
} nack_t;

/* A failure counts, but for one that tells of a downstream that is left alone already. */
static void
s_fail (ef_core_t *core, lease_t *lease, item_t *item, const nack_t *nack) {
    topic_t *topic = lease->topic;
    breaker_t *breaker;
    entry_t *entry = item_entry (core, topic, item);
    if (!nack->failure.is_dead && !(entry->flags & ENTRY_PURGE) &&
        breakers_excuse (core, topic, item, nack->downstream, &breaker)) {
        breakers_outcome (core, topic, item, span_of (NULL, 0), OUTCOME_NONE);
        entry->tag = entry->tag ? entry->tag : TAG_GONE;
        topic_move (topic, EF_STATE_LEASED, EF_STATE_READY, 1);
        breaker_wait (core, topic, entry, breaker);
        return;
    }
    const ef_rule_t *rule =
        ef_rules_find (topic->config.rules, topic->config.rule_count, nack->failure.code);
    bool is_permanent = nack->failure.is_dead || (rule && rule->is_permanent);
    /* A permanent error is the event's own: its service has answered. */
    breakers_outcome (core, topic, item, nack->downstream,
                      is_permanent ? OUTCOME_GOOD : OUTCOME_FAILED);
    lease->worker->failed++;
    report_took (core, lease);
    report_timeout (core, lease, nack->failure.code);
    suspect_set (topic, entry, false); /* its worker has lived to tell */
    fail_event (core, entry, &nack->failure);
}

static bool
s_nack_item (back_t *request, lease_t *lease, item_t *item, uint64_t tag, void *arg) {
    (void)tag;
    ef_core_t *core = request->core;
    nack_t *nack = arg;
    bool counts = item->state == ITEM_OPEN;
    if (counts && nack->is_release) {
        int64_t retry_ms = nack->failure.retry_ms;
        avoid_add (lease->topic, item->n, lease->worker->name, false,
                   core->now + (retry_ms >= 0 ? (uint64_t)retry_ms : EF_RELEASE_MS));
        give_back (core, lease->topic, item);
    } else if (counts) {
        nack->failure.started_ms = lease->started_ms;
        nack->failure.event = span_of (item->event, item->event_bytes);
        batch_split (core);
        s_fail (core, lease, item, nack);
    }
    item_answered (core, lease, item);
    nack->count += counts;
    return counts;
}

/* The code of a failure: an int or a str, kept as it came, cut where it is long. */
static int
s_read_code (back_t *request, ef_buf_t *code) {
    int64_t number;
    ef_span_t text;
    if (ef_get_int (&request->arguments, &number) == 0) {
        ef_put_int (code, number);
    } else if (ef_get_str (&request->arguments, &text) == 0) {
        ef_put_strn (code, text.data, text.size < EF_CODE_MAX ? text.size : EF_CODE_MAX);
    } else if (ef_get_nil (&request->arguments) == 0) {
        ef_put_nil (code);
    } else {
        return -1;
    }
    return 0;
}

static void
s_nack (back_t *request) {
    ef_core_t *core = request->core;
    ef_cursor_t tags = request->arguments;
    ef_buf_t code = {0};
    options_t options = {.retry_ms = -1};
    stale_t stale = {.count = 0};
    ef_span_t text = {NULL, 0};
    int rc = request->count < 3 || ef_skip (&request->arguments) || s_read_code (request, &code)
                 ? -1
                 : 0;
    if (rc == 0 && ef_get_nil (&request->arguments) != 0) {
        rc = ef_get_str (&request->arguments, &text);
    }
    if (rc == 0) {
        request->count -= 3;
        rc = s_read_options (request, &options);
    }
    if (rc == 0) {
        nack_t nack = {.is_release = options.is_release, .downstream = options.downstream};
        nack.failure = (failure_t){.code = span_of (code.data, code.size),
                                   .text = text,
                                   .trace = options.trace,
                                   .worker = request->peer->worker,
                                   .retry_ms = options.retry_ms,
                                   .is_dead = options.is_dead};
        rc = back_each (request, tags, s_nack_item, &nack, &stale);
        core->stale_answers += stale.total;
        if (rc == 0 && options.has_seq) {
            s_queue_acked (request, options.seq, nack.count, &stale, NULL, 0);
        }
    }
    if (rc) {
        peer_error (core, request->number, EF_BAD_COMMAND,
                    "expected [\"NACK\", tags, code (int or str), text (str), options?]", NULL);
    }
    ef_buf_free (&code);
}

static bool
s_extend_item (back_t *request, lease_t *lease, item_t *item, uint64_t tag, void *arg) {
    (void)tag;
    const uint64_t *ms = arg;
    if (item->state != ITEM_OPEN) {
        return false;
    }
    uint64_t most = lease->began_ms + lease->topic->config.lease_total_ms;
    uint64_t wanted = request->core->now + *ms;
    item->deadline_ms = wanted < most ? wanted : most;
    item->is_warned = false;
    lease->next_ms = request->core->now; /* looked at in this turn, which sets it right */
    ef_heap_moved (&request->core->leases, lease->heap_at);
    return true;
}

static void
s_extend (back_t *request) {
    ef_cursor_t tags = request->arguments;
    stale_t stale = {.count = 0};
    uint64_t ms;
    if (request->count < 2 || ef_skip (&request->arguments) ||
        ef_get_uint (&request->arguments, &ms) || ms == 0 || ms > 24u * 3600u * 1000u ||
        back_each (request, tags, s_extend_item, &ms, &stale)) {
        peer_error (request->core, request->number, EF_BAD_COMMAND,
                    "expected [\"EXTEND\", tags, ms (1 to 86400000)]", NULL);
    }
    request->core->stale_answers += stale.total;
}

static void
s_credit (back_t *request) {
    uint64_t credit;
    if (request->count < 1 || ef_get_uint (&request->arguments, &credit)) {
        peer_error (request->core, request->number, EF_BAD_COMMAND, "expected [\"CREDIT\", n]",
                    NULL);
        return;
    }
    request->peer->worker->credit = (uint32_t)(credit < EF_CREDIT_MAX ? credit : EF_CREDIT_MAX);
}

static void
s_bye (back_t *request) {
    peer_forget (request->core, request->number);
    request->peer = NULL;
}

static void
s_pong (back_t *request) {
    (void)request; /* having been heard is all */
}

static const struct {
    const char *name;
    void (*run) (back_t *request);
} s_commands[] = {
    {"ACK", s_ack},        {"NACK", s_nack},    {"EXTEND", s_extend}, {"CREDIT", s_credit},
    {"READY", back_ready}, {"PING", back_ping}, {"PONG", s_pong},     {"BYE", s_bye},
};

void
ef_core_back (ef_core_t *self, uint32_t number, const ef_frame_t *frames, uint32_t count) {
    peer_t *peer = peer_require (self, number, PEER_BACK);
    back_t request = {.core = self, .number = number, .peer = peer};
    ef_span_t command;
    uint32_t items;
    if (count > 0) {
        request.arguments = ef_cursor (frames[0].data, frames[0].size);
        request.body = frames + 1;
        request.frames = count - 1;
    }
    if (count == 0 || frames[0].size > EF_HEADER_MAX || ef_get_array (&request.arguments, &items) ||
        items == 0 || ef_get_str (&request.arguments, &command)) {
        peer_error (self, number, EF_BAD_FRAME,
                    "the first frame is an array that begins with a command", NULL);
        return;
    }
    if (peer->worker == NULL && !ef_span_is (command, "READY")) {
        peer_error (self, number, EF_UNKNOWN_PEER, "say READY first", NULL);
        return;
    }
    if (peer->worker) {
        peer->worker->is_stuck = false;
    }
    request.count = items - 1;
    for (size_t i = 0; i < sizeof s_commands / sizeof s_commands[0]; i++) {
        if (ef_span_is (command, s_commands[i].name)) {
            s_commands[i].run (&request);
            batch_bound (self);
            if (request.peer && request.peer->worker) {
                worker_queue (request.peer->worker);
            }
            return;
        }
    }
    peer_error (self, number, EF_BAD_COMMAND,
                "the back takes READY, ACK, NACK, EXTEND, CREDIT, PING, PONG and BYE", NULL);
}
