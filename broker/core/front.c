/* The front: confirmed publishing (SPECIFICATION.md, "Publishing with confirms").
   SPDX-License-Identifier: MIT */
#include "core_private.h"

#include <stdio.h>

/* A first answer is said again at most so often, so that a small message can't ask for many large
 * ones. */
#define REPEAT_MS 10

typedef struct {
    ef_core_t *core;
    uint32_t number;
    peer_t *peer;
    ef_cursor_t arguments; /* behind the command */
    uint32_t count;        /* arguments left */
    const ef_frame_t *body;
    uint32_t frames;
} request_t;

static void
s_put_welcome (ef_core_t *core, uint64_t last) {
    ef_buf_t *header = &core->header;
    ef_buf_clear (header);
    ef_put_array (header, 3);
    ef_put_str (header, "WELCOME");
    ef_put_uint (header, EF_PROTOCOL_VERSION);
    ef_put_map (header, 7);
    ef_put_key_str (header, "broker", core->config.broker);
    ef_put_key_uint (header, "epoch", core->epoch);
    ef_put_key_uint (header, "last", last);
    ef_put_key_uint (header, "window", core->config.window);
    ef_put_key_uint (header, "max_event", core->config.max_event);
    ef_put_key_uint (header, "max_message", core->config.max_message);
    ef_put_key_uint (header, "heartbeat", core->config.heartbeat_ms);
}

/* Takes a session over and goes on from what its publisher has heard. */
static void
s_attach (request_t *request, session_t *session, uint64_t heard) {
    ef_core_t *core = request->core;
    if (session->peer != PEER_NONE && session->peer != request->number) {
        core->peers[session->peer].session = NULL;
        core->peers[session->peer].is_denied = true;
    }
    if (request->peer->session && request->peer->session != session) {
        session_leave (core, request->peer->session);
    }
    request->peer->session = session;
    request->peer->is_denied = false;
    session->peer = request->number;
    if (heard > session->last) {
        session_jump (session, heard);
    }
    session->confirmed = heard < session->decided ? heard : session->decided;
    /* Of what nobody can be waiting for any more nothing is told. */
    uint64_t oldest = session->last - session->count;
    if (oldest > session->confirmed + core->config.window) {
        session->confirmed = oldest - core->config.window;
    }
    session->window_told = core->config.window;
    s_put_welcome (core, heard > session->decided ? heard : session->decided);
    (void)peer_send (core, request->number, NULL); /* a new pipe has room */
    session_confirm (core, session);
}

static int
s_read_hello (ef_cursor_t *options, uint8_t session[16], uint64_t *heard, char *name) {
    uint32_t pairs;
    bool has_session = false;
    if (ef_get_map (options, &pairs)) {
        return -1;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        ef_span_t value;
        if (ef_get_str (options, &key)) {
            return -1;
        }
        int rc;
        if (ef_span_is (key, "session")) {
            rc = ef_get_bytes (options, &value) || value.size != 16 ? -1 : 0;
            if (rc == 0) {
                memcpy (session, value.data, 16);
                has_session = true;
            }
        } else if (ef_span_is (key, "heard")) {
            rc = ef_get_uint (options, heard);
        } else if (ef_span_is (key, "name")) {
            rc = ef_get_str (options, &value);
            if (rc == 0) {
                ef_span_copy (value, name, EF_NAME_MAX + 1);
            }
        } else {
            rc = ef_skip (options);
        }
        if (rc) {
            return -1;
        }
    }
    return has_session ? 0 : -1;
}

static void
s_hello (request_t *request) {
    ef_core_t *core = request->core;
    uint64_t version;
    uint8_t id[16];
    uint64_t heard = 0;
    char name[EF_NAME_MAX + 1] = "";
    if (request->count < 1 || ef_get_uint (&request->arguments, &version)) {
        peer_error (core, request->number, EF_BAD_COMMAND,
                    "expected [\"HELLO\", 1, {\"session\": bin of 16 bytes, \"heard\": int}]",
                    NULL);
        return;
    }
    if (version != EF_PROTOCOL_VERSION) {
        peer_error (core, request->number, EF_VERSION, "this broker speaks version 1", NULL);
        return;
    }
    if (request->count < 2 || s_read_hello (&request->arguments, id, &heard, name) ||
        heard > INT64_MAX) {
        peer_error (core, request->number, EF_BAD_COMMAND,
                    "HELLO needs options with session (bin of 16 bytes) and heard (int)", NULL);
        return;
    }
    session_t *session = session_require (core, id);
    if (session == NULL) {
        peer_error (core, request->number, EF_FULL, "65,536 sessions are connected", NULL);
        return;
    }
    memcpy (session->name, name, sizeof session->name);
    s_attach (request, session, heard);
}

/* Options of PUBLISH. */
static int
s_read_options (request_t *request, bool *is_atomic, bool *wants_ids) {
    uint32_t pairs;
    *is_atomic = *wants_ids = false;
    if (request->count < 2) {
        return 0;
    }
    if (ef_get_map (&request->arguments, &pairs)) {
        return -1;
    }
    for (uint32_t i = 0; i < pairs; i++) {
        ef_span_t key;
        if (ef_get_str (&request->arguments, &key)) {
            return -1;
        }
        bool *value = ef_span_is (key, "atomic") ? is_atomic
                      : ef_span_is (key, "ids")  ? wants_ids
                                                 : NULL;
        if (value ? ef_get_bool (&request->arguments, value) : ef_skip (&request->arguments)) {
            return -1;
        }
    }
    return 0;
}

/* What refuses a whole PUBLISH before its events are looked at. */
static ef_status_t
s_judge_whole (const request_t *request, char text[120]) {
    const ef_core_t *core = request->core;
    size_t bytes = 0;
    for (uint32_t i = 0; i < request->frames; i++) {
        bytes += request->body[i].size;
    }
    if (bytes > core->config.max_message) {
        snprintf (text, 120, "a message of %zu bytes; the limit is %u", bytes,
                  core->config.max_message);
        return EF_TOO_LARGE;
    }
    if (core->is_draining) {
        snprintf (text, 120, "the broker is stopping");
        return EF_DRAINING;
    }
    return EF_OK;
}

static void
s_put_whole_refusal (accept_result_t *result, const ef_span_t *seq, ef_status_t status,
                     const char *text) {
    ef_buf_clear (&result->refused);
    ef_put_array (&result->refused, 4);
    ef_buf_put (&result->refused, seq->data, seq->size);
    ef_put_nil (&result->refused);
    ef_put_str (&result->refused, ef_status_name (status));
    ef_put_str (&result->refused, text);
    result->refused_count = 1;
    result->accepted = result->duplicates = 0;
    result->id_count = 0;
    ef_buf_clear (&result->ids);
}

static void
s_accept (request_t *request, accept_request_t *accept, accept_result_t *result,
          const ef_span_t *seq) {
    char text[120];
    ef_status_t status = s_judge_whole (request, text);
    memset (result, 0, sizeof *result);
    if (status == EF_OK) {
        accept_events (request->core, accept, result);
        status = result->status;
        if (status != EF_OK) {
            s_put_whole_refusal (result, seq, status, result->text);
        }
    } else {
        request->core->refused[status]++;
        s_put_whole_refusal (result, seq, status, text);
    }
}

static void
s_note_outcome (request_t *request, session_t *session, const accept_result_t *result) {
    outcome_t outcome = {.events = result->events ? result->events : 1,
                         .accepted = result->accepted,
                         .duplicates = result->duplicates};
    if (result->refused_count || result->id_count) {
        outcome.extra_bytes = (uint32_t)(8 + result->refused.size + result->ids.size);
        outcome.extra = malloc (outcome.extra_bytes);
        ef_assert (outcome.extra != NULL);
        ef_le32_put (outcome.extra, result->refused_count);
        ef_le32_put (outcome.extra + 4, result->id_count);
        if (result->refused.size) {
            memcpy (outcome.extra + 8, result->refused.data, result->refused.size);
        }
        if (result->ids.size) {
            memcpy (outcome.extra + 8 + result->refused.size, result->ids.data, result->ids.size);
        }
    }
    session_note (request->core, session, outcome);
}

/* A seq that isn't the next one: an answer again, nothing, or a gap. */
static void
s_out_of_order (request_t *request, session_t *session, uint64_t seq) {
    ef_core_t *core = request->core;
    if (seq <= session->last) {
        bool is_asked_too_often = core->now - session->repeated_ms < REPEAT_MS;
        if (seq <= session->confirmed && seq > session->last - session->count &&
            !is_asked_too_often) {
            session->repeated_ms = core->now;
            uint64_t confirmed = session->confirmed;
            uint64_t decided = session->decided;
            session->confirmed = seq - 1;
            session->decided = seq;
            session_confirm (core, session); /* its first answer again */
            session->confirmed = confirmed;
            session->decided = decided;
        }
        return; /* what is undecided is answered when it is durable */
    }
    ef_buf_t *header = &core->header;
    core->refused[EF_SEQ]++;
    ef_buf_clear (header);
    ef_put_array (header, 4);
    ef_put_str (header, "ERROR");
    ef_put_str (header, "SEQ");
    ef_put_str (header, "seq grows by exactly 1");
    ef_put_map (header, 2);
    ef_put_key_uint (header, "seq", seq);
    ef_put_key_uint (header, "expected", session->last + 1);
    (void)peer_send (core, request->number, NULL); /* the publisher finds out by the CONFIRMs too */
}

/* The answer to a PUBLISH without a session, sent once what it stored is durable. */
static void
s_queue_answer (request_t *request, const ef_span_t *seq, const accept_result_t *result) {
    ef_core_t *core = request->core;
    ef_buf_t *answer = calloc (1, sizeof *answer);
    ef_assert (answer != NULL);
    ef_put_array (answer, 3);
    ef_put_str (answer, "CONFIRM");
    ef_buf_put (answer, seq->data, seq->size);
    ef_put_map (answer, 4u + (result->refused_count > 0) + (result->id_count > 0));
    ef_put_key_uint (answer, "accepted", result->accepted);
    ef_put_key_uint (answer, "duplicates", result->duplicates);
    if (result->refused_count) {
        ef_put_str (answer, "refused");
        ef_put_array (answer, result->refused_count);
        ef_buf_put (answer, result->refused.data, result->refused.size);
    }
    if (result->id_count) {
        ef_put_str (answer, "ids");
        ef_put_array (answer, result->id_count);
        ef_buf_put (answer, result->ids.data, result->ids.size);
    }
    ef_put_key_uint (answer, "window", session_window (core));
    ef_put_key_str (answer, "durability", core->config.durability);
    request->peer->waiting++;
    batch_after (core,
                 (after_t){.kind = AFTER_CONFIRM, .peer = request->number, .pointer = answer});
}

static void
s_publish (request_t *request) {
    ef_core_t *core = request->core;
    session_t *session = request->peer->session;
    ef_cursor_t *arguments = &request->arguments;
    ef_span_t raw = span_of (arguments->at, 0);
    ef_span_t text;
    uint64_t seq = 0;
    bool is_int = request->count > 0 && ef_get_uint (arguments, &seq) == 0;
    bool is_word = !is_int && request->count > 0 &&
                   (ef_get_nil (arguments) == 0 ||
                    (ef_get_str (arguments, &text) == 0 && text.size <= EF_ID_MAX));
    raw.size = (uint32_t)(arguments->at - (const uint8_t *)raw.data);
    accept_request_t accept = {.frames = request->body, .count = request->frames};
    if (!is_int && !is_word) {
        peer_error (core, request->number, EF_BAD_COMMAND,
                    "PUBLISH needs a seq: an int behind HELLO, else nil or a str of up to 64 bytes",
                    NULL);
    } else if (is_int && session == NULL) {
        peer_error (core, request->number, EF_UNKNOWN_PEER,
                    "an int seq needs a session; say HELLO first", &raw);
    } else if (is_word && session) {
        peer_error (core, request->number, EF_BAD_COMMAND, "with a session seq is an int", &raw);
    } else if (session && seq != session->last + 1) {
        s_out_of_order (request, session, seq);
    } else if (!session && request->peer->waiting >= EF_REQ_WAITING_MAX) {
        peer_error (core, request->number, EF_WINDOW, "256 answers wait for this client", &raw);
    } else {
        accept_result_t result = {0};
        accept.session = session;
        accept.seq = seq;
        accept.seq_text = raw;
        accept.bucket = session ? &session->bucket : &request->peer->bucket;
        if (s_read_options (request, &accept.is_atomic, &accept.wants_ids)) {
            s_put_whole_refusal (&result, &raw, EF_BAD_COMMAND,
                                 "options of PUBLISH are a map with atomic and ids as bool");
        } else {
            s_accept (request, &accept, &result, &raw);
        }
        if (session) {
            s_note_outcome (request, session, &result);
        } else {
            s_queue_answer (request, &raw, &result);
        }
        accept_result_free (&result);
    }
}

static void
s_ping (request_t *request) {
    if (request->peer->session == NULL && !request->peer->is_req) {
        /* A connection that ZeroMQ made anew, unseen by its client: it must greet again. */
        peer_error (request->core, request->number, EF_UNKNOWN_PEER, "say HELLO first", NULL);
        return;
    }
    ef_core_t *core = request->core;
    ef_buf_t *header = &core->header;
    ef_buf_clear (header);
    ef_put_array (header, 2);
    ef_put_str (header, "PONG");
    ef_put_map (header, 1);
    ef_put_key_uint (header, "window", session_window (core));
    (void)peer_send (core, request->number, NULL); /* it pings again */
}

static void
s_pong (request_t *request) {
    (void)request; /* having been heard is all */
}

static void
s_bye (request_t *request) {
    session_t *session = request->peer->session;
    request->peer->session = NULL;
    if (session) {
        session->peer = PEER_NONE;
        session_forget (request->core, session);
    }
    peer_forget (request->core, request->number);
}

static const struct {
    const char *name;
    void (*run) (request_t *request);
} s_commands[] = {
    {"PUBLISH", s_publish}, {"PING", s_ping}, {"PONG", s_pong}, {"HELLO", s_hello}, {"BYE", s_bye},
};

void
ef_core_front (ef_core_t *self, uint32_t number, bool is_req, const ef_frame_t *frames,
               uint32_t count) {
    peer_t *peer = peer_require (self, number, PEER_FRONT);
    peer->is_req = is_req;
    request_t request = {.core = self, .number = number, .peer = peer};
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
    if (peer->is_denied && !ef_span_is (command, "HELLO")) {
        peer_error (self, number, EF_DENIED, "another connection has taken this session over",
                    NULL);
        return;
    }
    request.count = items - 1;
    for (size_t i = 0; i < sizeof s_commands / sizeof s_commands[0]; i++) {
        if (ef_span_is (command, s_commands[i].name)) {
            s_commands[i].run (&request);
            batch_bound (self);
            return;
        }
    }
    peer_error (self, number, EF_BAD_COMMAND, "the front takes HELLO, PUBLISH, PING, PONG and BYE",
                NULL);
}

void
ef_core_ingress (ef_core_t *self, const ef_frame_t *frames, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        accept_request_t request = {.frames = &frames[i], .count = 1, .is_ingress = true};
        accept_result_t result;
        self->ingress_bytes += frames[i].size;
        if (frames[i].size > self->config.max_message || frames[i].size == 0) {
            bool is_empty = frames[i].size == 0;
            ef_status_t status = is_empty ? EF_BAD_FRAME : EF_TOO_LARGE;
            self->refused[status]++;
            accept_invalid (self, span_of (frames[i].data, frames[i].size), status,
                            is_empty ? "an empty frame holds no event" : ef_status_text (status));
            continue;
        }
        accept_events (self, &request, &result);
        self->ingress_events += result.events;
        if (result.status != EF_OK) {
            accept_invalid (self, span_of (frames[i].data, frames[i].size), result.status,
                            result.text);
        }
        accept_result_free (&result);
        batch_bound (self);
    }
}
