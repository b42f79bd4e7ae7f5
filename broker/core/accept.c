/* Taking events in: checks, refusals, records. SPDX-License-Identifier: MIT

   A message is read once into a table of where its events lie, each judged by itself; store.c
   writes them record by record, one a topic. Their bytes are copied once, into the batch; those of
   a routed event twice, since its topic and id are written into it first. */
#include "accept.h"
#include "route.h"

#include <stdio.h>

void
scan_put_seq (const scanner_t *self, ef_buf_t *buf) {
    const accept_request_t *request = self->request;
    if (request->session) {
        ef_put_uint (buf, request->seq);
    } else if (request->seq_text.size) {
        ef_buf_put (buf, request->seq_text.data, request->seq_text.size);
    } else {
        ef_put_nil (buf);
    }
}

static void
s_end_run (scanner_t *self) {
    if (self->run_status == EF_OK) {
        return;
    }
    ef_buf_t *buf = &self->result->refused;
    ef_put_array (buf, 4);
    scan_put_seq (self, buf);
    if (self->run_first == self->run_last) {
        ef_put_uint (buf, self->run_first);
    } else {
        ef_put_array (buf, 2);
        ef_put_uint (buf, self->run_first);
        ef_put_uint (buf, self->run_last);
    }
    ef_put_str (buf, ef_status_name (self->run_status));
    ef_put_str (buf, self->run_text);
    self->result->refused_count++;
    self->run_status = EF_OK;
}

static void
s_refuse (scanner_t *self, uint32_t index, ef_status_t status, const char *text) {
    self->core->refused[status]++;
    self->first_refusal = self->result->refused_events++ ? self->first_refusal : status;
    bool is_neighbour = self->run_status == status && self->run_last + 1 == index;
    bool is_last_item = self->result->refused_count + 1 >= EF_REFUSED_ITEMS_MAX;
    if (self->run_status != EF_OK && (is_neighbour || is_last_item)) {
        self->run_last = index;
        return;
    }
    s_end_run (self);
    self->run_status = status;
    self->run_first = self->run_last = index;
    snprintf (self->run_text, sizeof self->run_text, "%s", text);
}

static topic_t *
s_topic (scanner_t *self, const ef_event_t *event, ef_status_t *status, char text[200]) {
    ef_core_t *core = self->core;
    if (self->last_topic && event->topic.size == self->last_name.size &&
        memcmp (event->topic.data, self->last_name.data, event->topic.size) == 0) {
        return self->last_topic;
    }
    bool is_valid = ef_topic_is_valid (event->topic.data, event->topic.size);
    topic_t *topic = is_valid ? topic_find (core, event->topic.data, event->topic.size) : NULL;
    if (topic == NULL && is_valid && core->config.auto_create) {
        topic = topic_require (core, event->topic.data, event->topic.size);
    }
    if (topic == NULL) {
        /* Looking for the nearest costs; the first few refusals of a message tell enough. */
        const char *nearest = is_valid && self->searches++ < 16
                                  ? topic_nearest (core, event->topic.data, event->topic.size)
                                  : NULL;
        *status = is_valid ? EF_UNKNOWN_TOPIC : EF_BAD_EVENT;
        if (!is_valid) {
            snprintf (text, 200,
                      "a topic is 1 to %d of a-z A-Z 0-9 . _ -, beginning with a letter "
                      "or digit, not ending in _deadletter",
                      EF_TOPIC_MAX);
        } else {
            snprintf (text, 200, "no topic %.*s%s%s%s", (int)event->topic.size, event->topic.data,
                      nearest ? "; did you mean " : "", nearest ? nearest : "", nearest ? "?" : "");
        }
        return NULL;
    }
    self->last_topic = topic;
    self->last_name = event->topic;
    return topic;
}

/* What this message holds of a topic so far. */
static void
s_count_anew (const scanner_t *self, topic_t *topic) {
    if (topic->scan_serial != self->core->scan_serial) {
        topic->scan_serial = self->core->scan_serial;
        topic->scan_events = topic->scan_scheduled = 0;
        topic->scan_bytes = 0;
    }
}

static bool
s_is_full (const topic_t *topic) {
    const ef_topic_config_t *config = &topic->config;
    uint64_t depth =
        topic->counts[EF_STATE_READY] + topic->counts[EF_STATE_LEASED] + topic->scan_events;
    return (config->capacity_events && depth >= config->capacity_events) ||
           (config->capacity_bytes && topic->bytes + topic->scan_bytes >= config->capacity_bytes);
}

/* Does the topic take this version of the payload's schema? */
static bool
s_takes_schema (const ef_topic_config_t *config, const ef_event_t *event, char text[200]) {
    bool is_known = config->schema_count == 0;
    for (uint32_t i = 0; i < config->schema_count; i++) {
        is_known = is_known || event->schema == (int64_t)config->schemas[i];
    }
    if (is_known) {
        return true;
    }
    int used = event->schema < 0
                   ? snprintf (text, 200, "the event names no schema version; topic %s takes",
                               config->name)
                   : snprintf (text, 200, "schema version %lld; topic %s takes",
                               (long long)event->schema, config->name);
    for (uint32_t i = 0; i < config->schema_count && used < 180; i++) {
        used +=
            snprintf (text + used, 200 - (size_t)used, "%s %u", i ? "," : "", config->schemas[i]);
    }
    return false;
}

/* An event for the death of another is judged as one of its own. */
static ef_status_t
s_judge_on_dead (scanner_t *self, ef_span_t raw, char text[200]) {
    ef_event_t event;
    const char *why;
    ef_core_t *core = self->core;
    char inner[200] = "";
    ef_cursor_t cursor = ef_cursor (raw.data, raw.size);
    ef_status_t status = ef_event_read (&cursor, &event, &why);
    if (status != EF_OK) {
        snprintf (inner, sizeof inner, "%s", why ? why : "it can't be read");
        status = EF_BAD_EVENT;
    } else if (event.topic.data == NULL) {
        status = ef_route_find (core->routes, core->route_count, &event) ? EF_OK : EF_UNROUTED;
        snprintf (inner, sizeof inner, "no route fits it");
    } else {
        topic_t *last = self->last_topic;
        ef_span_t name = self->last_name;
        topic_t *topic = s_topic (self, &event, &status, inner);
        if (topic && !s_takes_schema (&topic->config, &event, inner)) {
            status = EF_SCHEMA;
        }
        self->last_topic = last;
        self->last_name = name;
    }
    if (status != EF_OK) {
        snprintf (text, 200, "on_dead: %.180s", inner);
    }
    return status;
}

static ef_status_t
s_judge_breaker (const scanner_t *self, const ef_event_t *event, const topic_t *topic,
                 char text[200]) {
    const breaker_t *breaker = breaker_find (topic, event->downstream);
    bool is_open =
        breaker && ef_breaker_state (&breaker->state, &topic->config.breaker) == EF_BREAKER_OPEN;
    if (!is_open || breaker_allows (self->core, topic, breaker)) {
        return EF_OK;
    }
    snprintf (text, 200, "the breaker of %s is open; send it again later",
              breaker->size ? breaker->name : topic->config.name);
    return EF_FULL;
}

/* What an event asks for beyond being stored. */
static ef_status_t
s_judge_demands (scanner_t *self, const ef_event_t *event, topic_t *topic, char text[200]) {
    ef_status_t status = EF_OK;
    if (event->on_dead.data) {
        status = s_judge_on_dead (self, event->on_dead, text);
    }
    if (status == EF_OK && topic->config.breaker.refuses && topic->breakers.count &&
        !self->request->is_emit) {
        status = s_judge_breaker (self, event, topic, text);
    }
    return status;
}

/* What stands against an event that names a good topic. */
static ef_status_t
s_judge_topic (scanner_t *self, const ef_event_t *event, topic_t *topic, uint32_t *word,
               char text[200]) {
    const ef_topic_config_t *config = &topic->config;
    bool is_emit = self->request->is_emit;
    s_count_anew (self, topic);
    if (topic->is_draining && !is_emit) {
        snprintf (text, 200, "topic %s is draining and takes nothing new", config->name);
        return EF_DRAINING;
    }
    if (!s_takes_schema (config, event, text)) {
        return EF_SCHEMA;
    }
    ef_status_t status = s_judge_demands (self, event, topic, text);
    if (status != EF_OK) {
        return status;
    }
    *word = event->raw.size | (event->id.data ? 0 : EF_INDEX_NO_ID) | event_index_flags (event);
    if (event->at_ms > 0 || event->delay_ms > 0) {
        if (topic->counts[EF_STATE_SCHEDULED] + topic->scan_scheduled >=
            config->scheduled_capacity) {
            snprintf (text, 200, "topic %s holds all the scheduled events that it may",
                      config->name);
            return EF_FULL;
        }
        *word |= EF_INDEX_AWAY;
    } else if (!is_emit && s_is_full (topic)) {
        if (config->refuse_when_full || event->key.data || config->order == EF_ORDER_TOPIC) {
            snprintf (text, 200, "topic %s is full", config->name);
            return EF_FULL;
        }
        *word |= EF_INDEX_AWAY;
    }
    return EF_OK;
}

static void
s_add (scanner_t *self, const struct scan_s *item) {
    ef_core_t *core = self->core;
    if (self->count == core->scan_capacity) {
        core->scan_capacity = core->scan_capacity ? 2 * core->scan_capacity : 256;
        core->scan = realloc (core->scan, core->scan_capacity * sizeof *core->scan);
        ef_assert (core->scan != NULL);
    }
    core->scan[self->count++] = *item;
}

/* Takes an event in for one topic; what was refused for the moment only is let through where its id
   is known, since it is a duplicate then. */
static ef_status_t
s_take (scanner_t *self, const ef_event_t *event, topic_t *topic, char text[200]) {
    struct scan_s item = {
        .data = event->raw.data, .topic = topic, .index = self->result->events, .word = 0};
    item.has_print = event->id.data && topic->config.dedupe_ms > 0 && !self->request->passes_window;
    if (item.has_print) {
        item.print = ids_print (self->core, event->id);
        ids_prefetch (topic, item.print);
    }
    ef_status_t status = s_judge_topic (self, event, topic, &item.word, text);
    bool is_passing = status == EF_FULL || status == EF_DRAINING;
    if (is_passing && item.has_print && ids_have (self->core, topic, item.print)) {
        item.word = event->raw.size;
        status = EF_OK;
    }
    if (status == EF_OK) {
        item.word |= self->request->passes_window ? EF_INDEX_PASSES : 0;
        topic->scan_events++;
        if (event->ttl_ms >= 0) {
            expiry_note (topic, self->core->wall + (uint64_t)event->ttl_ms);
        }
        topic->scan_scheduled += event->at_ms > 0 || event->delay_ms > 0;
        topic->scan_bytes += event->raw.size;
        s_add (self, &item);
    }
    return status;
}

/* A copy of a routed event with its topic and id written into it; owned by the last item. */
static ef_status_t
s_take_copy (scanner_t *self, const ef_event_t *event, const char *name, const char *id,
             char text[200]) {
    ef_buf_t copy = {0};
    ef_event_t written;
    const char *why;
    ef_put_array (&copy, event->fields);
    ef_put_str (&copy, name);
    if (event->id.data) {
        ef_span_t raw = event_raw_id (event);
        ef_buf_put (&copy, raw.data, raw.size);
    } else {
        ef_put_strn (&copy, id, 36);
    }
    ef_buf_put (&copy, event->tail.data, event->tail.size);
    ef_cursor_t cursor = ef_cursor (copy.data, copy.size);
    ef_status_t status = ef_event_read (&cursor, &written, &why);
    ef_assert (status == EF_OK);
    topic_t *topic = s_topic (self, &written, &status, text);
    uint32_t before = self->count;
    if (topic && copy.size > self->core->config.max_event) {
        snprintf (text, 200, "an event of %zu bytes with its topic; the limit is %u", copy.size,
                  self->core->config.max_event);
        status = EF_TOO_LARGE;
    } else if (topic) {
        written.id.data = event->id.data ? written.id.data : NULL; /* else no id of its sender's */
        status = s_take (self, &written, topic, text);
    }
    if (self->count > before) {
        struct scan_s *item = &self->core->scan[before];
        item->owned = (char *)copy.data;
        item->is_named = event->id.data == NULL;
        item->word &= ~EF_INDEX_NO_ID;
    } else {
        ef_buf_free (&copy);
    }
    self->last_topic = NULL; /* its name was borrowed from the copy */
    return status;
}

static void
s_drop_from (scanner_t *self, uint32_t count) {
    while (self->count > count) {
        free (self->core->scan[--self->count].owned);
    }
}

/* An event that names no topic goes to all topics of its route or to none. */
static ef_status_t
s_route (scanner_t *self, const ef_event_t *event, char text[200]) {
    ef_core_t *core = self->core;
    const ef_route_t *route = ef_route_find (core->routes, core->route_count, event);
    uint32_t before = self->count;
    ef_status_t status = EF_OK;
    char id[37] = "";
    if (route == NULL) {
        snprintf (text, 200, "the event names no topic and no route fits type %.*s",
                  event->type.size < 60 ? (int)event->type.size : 60,
                  event->type.data ? event->type.data : "");
        return EF_UNROUTED;
    }
    if (event->id.data == NULL) {
        uint8_t base[16];
        uint64_t random[2] = {core->effects.random (core->effects.arg),
                              core->effects.random (core->effects.arg)};
        ef_uuid7 (base, core->wall, random);
        ef_uuid_text (base, 0, id);
    }
    for (uint32_t i = 0; i < route->topic_count && status == EF_OK; i++) {
        status = s_take_copy (self, event, route->topics[i], id, text);
    }
    if (status != EF_OK) {
        s_drop_from (self, before);
    }
    return status;
}

/* Judges one well-formed event and puts it, or its copies, into the table. */
static ef_status_t
s_take_event (scanner_t *self, const ef_event_t *event, char text[200]) {
    ef_status_t status = EF_OK;
    if (event->raw.size > self->core->config.max_event && !self->request->is_ending) {
        snprintf (text, 200, "an event of %u bytes; the limit is %u", event->raw.size,
                  self->core->config.max_event);
        return EF_TOO_LARGE;
    }
    if (event->topic.data == NULL) {
        return s_route (self, event, text);
    }
    topic_t *topic = s_topic (self, event, &status, text);
    return topic ? s_take (self, event, topic, text) : status;
}

/* Reads every event of the message into the table. False: the whole message is refused. */
static bool
s_scan (scanner_t *self) {
    accept_result_t *result = self->result;
    for (uint32_t i = 0; i < self->request->count; i++) {
        const ef_frame_t *frame = &self->request->frames[i];
        ef_cursor_t cursor = ef_cursor (frame->data, frame->size);
        while (ef_cursor_left (&cursor) > 0) {
            if (result->events == EF_MESSAGE_EVENTS_MAX) {
                result->status = EF_TOO_LARGE;
                result->text = "more than 65,536 events in a message";
                return false;
            }
            ef_event_t event;
            const char *why;
            char text[200];
            const uint8_t *start = cursor.at;
            ef_status_t status = ef_event_read (&cursor, &event, &why);
            if (status == EF_BAD_FRAME) {
                result->status = EF_BAD_FRAME;
                result->text = "the body is not MessagePack to its end";
                return false;
            }
            if (status == EF_OK) {
                status = s_take_event (self, &event, text);
                why = text;
            }
            if (status != EF_OK) {
                s_refuse (self, result->events, status, why);
                if (self->request->is_ingress) {
                    accept_invalid (self->core, span_of (start, (size_t)(cursor.at - start)),
                                    status, why);
                }
            }
            result->events++;
        }
    }
    s_end_run (self);
    return true;
}

/* Of an atomic message nothing is taken: an item for the whole behind those that stood in the way.
 */
static void
s_refuse_all (scanner_t *self) {
    ef_buf_t *buf = &self->result->refused;
    s_drop_from (self, 0);
    ef_put_array (buf, 4);
    scan_put_seq (self, buf);
    ef_put_nil (buf);
    ef_put_str (buf, ef_status_name (self->first_refusal));
    ef_put_str (buf, "atomic: nothing of this PUBLISH was accepted");
    self->result->refused_count++;
}

/* What is left is for finishing work: an emit may take the place of what ends with it. */
static bool
s_lacks_space (const ef_core_t *self, const accept_request_t *request, uint64_t bytes) {
    if (self->space == EF_SPACE_NORMAL || request->is_ending) {
        return false;
    }
    if (request->is_emit) {
        return bytes > request->ended_bytes + EF_EMIT_SPARE_BYTES ||
               !space_for_copies (self, 2 * bytes);
    }
    return !request->is_ingress; /* nobody would hear it; with the disk full it isn't read */
}

/* One message of any size may go where there is anything left; what it takes too much is owed. */
static bool
s_is_within_rate (const ef_core_t *core, ef_bucket_t *bucket, uint32_t events) {
    const ef_core_config_t *config = &core->config;
    if (bucket->rate != config->publisher_rate || bucket->burst != config->publisher_burst) {
        ef_bucket_set (bucket, config->publisher_rate, config->publisher_burst, core->now);
    }
    return ef_bucket_charge (bucket, events, core->now);
}

/* What refuses a message that can be read as a whole. */
static bool
s_judge_message (scanner_t *self) {
    ef_core_t *core = self->core;
    const accept_request_t *request = self->request;
    accept_result_t *result = self->result;
    const session_t *session = request->session;
    if (session && session->unconfirmed > 0 &&
        session->unconfirmed + result->events > core->config.window) {
        result->status = EF_WINDOW;
        result->text = "more events unconfirmed than WELCOME's window";
    } else if (request->wants_ids && result->events > EF_IDS_MAX) {
        result->status = EF_BAD_COMMAND;
        result->text = "ids can be asked for up to 256 events";
    } else if (request->bucket && core->config.publisher_rate > 0 &&
               !s_is_within_rate (core, request->bucket, result->events)) {
        result->status = EF_RATE;
        result->text = "more events a second than one publisher may send; send it again later";
    }
    return result->status == EF_OK;
}

/* Takes out what a topic's window knows, and counts: an event is new if any of its copies is. */
static void
s_dedupe (scanner_t *self) {
    struct scan_s *scan = self->core->scan;
    accept_result_t *result = self->result;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < self->count;) {
        uint32_t index = scan[i].index;
        uint32_t before = kept;
        for (; i < self->count && scan[i].index == index; i++) {
            if (scan[i].has_print && !ids_add (self->core, scan[i].topic, scan[i].print)) {
                free (scan[i].owned);
            } else {
                scan[kept++] = scan[i];
            }
        }
        result->accepted += kept > before;
        result->duplicates += kept == before;
    }
    self->count = kept;
    const topic_t *last = NULL;
    for (uint32_t i = 0; i < kept; i++) {
        if (scan[i].topic != last) {
            ids_expire (self->core, scan[i].topic, 64);
            last = scan[i].topic;
        }
    }
}

void
accept_events (ef_core_t *self, const accept_request_t *request, accept_result_t *result) {
    scanner_t scanner = {.core = self, .request = request, .result = result};
    memset (result, 0, sizeof *result);
    size_t bytes = 0;
    for (uint32_t i = 0; i < request->count; i++) {
        bytes += request->frames[i].size;
    }
    if (bytes > self->config.max_message && !request->is_ending) {
        result->status = EF_TOO_LARGE;
        result->text = "a message past the limit";
        self->refused[EF_TOO_LARGE]++;
        return;
    }
    if (s_lacks_space (self, request, bytes)) {
        result->status = EF_NO_SPACE;
        result->text = "the disk is nearly full; nothing was stored, send it again later";
        self->refused[EF_NO_SPACE]++;
        return;
    }
    self->scan_serial++;
    bool is_readable = s_scan (&scanner) && s_judge_message (&scanner);
    if (is_readable && request->is_atomic && result->refused_events > 0) {
        s_refuse_all (&scanner);
    } else if (!is_readable) {
        s_drop_from (&scanner, 0);
        self->refused[result->status]++;
        return;
    }
    s_dedupe (&scanner);
    if (scanner.count > 0) {
        uint64_t random[2] = {self->effects.random (self->effects.arg),
                              self->effects.random (self->effects.arg)};
        ef_uuid7 (result->base_id, self->wall, random);
        store_events (&scanner);
        s_drop_from (&scanner, 0);
    }
}

void
accept_result_free (accept_result_t *result) {
    ef_buf_free (&result->refused);
    ef_buf_free (&result->ids);
}
