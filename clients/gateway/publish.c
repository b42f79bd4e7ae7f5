/* POST of events. SPDX-License-Identifier: MIT */
#include "../../proto/json.h"
#include "gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define PUBLISH_KEY_MAX    4096 /* bytes of an Idempotency-Key */
#define PUBLISH_ATTRIBUTES 64

typedef struct {
    gateway_t *gateway;
    const identity_t *identity;
} rights_t;

/* Headers of a CloudEvent in binary mode. */
typedef struct {
    ef_span_t names[PUBLISH_ATTRIBUTES];
    ef_span_t values[PUBLISH_ATTRIBUTES];
    char lower[PUBLISH_ATTRIBUTES][65];
    uint32_t count;
    bool is_too_many;
} attributes_t;

static bool
s_may_publish (void *arg, const char *topic, size_t size) {
    const rights_t *rights = arg;
    return access_may_publish (rights->gateway->access, rights->identity, topic, size);
}

static bool
s_is_among (const char *type, const char *const *types) {
    for (; *types; types++) {
        if (strcmp (type, *types) == 0) {
            return true;
        }
    }
    return false;
}

/* The form of the body. -1: none that is known. What curl says by itself counts as JSON: whoever
   would be let in by a page of another origin is stopped before (access.c). */
static int
s_find_form (call_t *call) {
    static const char *const json[] = {"",           "application/json",
                                       "text/json",  "application/x-www-form-urlencoded",
                                       "text/plain", NULL};
    static const char *const lines[] = {"application/x-ndjson", "application/ndjson",
                                        "application/jsonl",    "application/x-jsonlines",
                                        "application/json-seq", NULL};
    static const char *const msgpack[] = {"application/msgpack", "application/x-msgpack",
                                          "application/vnd.msgpack", NULL};
    const char *type = call_type (call);
    if (strcmp (type, "application/cloudevents+json") == 0) {
        return INTAKE_CLOUD;
    }
    if (strcmp (type, "application/cloudevents-batch+json") == 0) {
        return INTAKE_CLOUD_BATCH;
    }
    if (strncmp (type, "application/cloudevents", 23) == 0) {
        return -1;
    }
    if (call_header (call, "ce-specversion") || call_header (call, "ce-id")) {
        return INTAKE_CLOUD_BINARY;
    }
    return s_is_among (type, json)      ? INTAKE_JSON
           : s_is_among (type, lines)   ? INTAKE_LINES
           : s_is_among (type, msgpack) ? INTAKE_MSGPACK
                                        : -1;
}

static void
s_take_attribute (void *arg, const char *name, const char *value) {
    attributes_t *self = arg;
    if (strncasecmp (name, "ce-", 3) != 0) {
        return;
    }
    size_t size = strlen (name + 3);
    if (self->count == PUBLISH_ATTRIBUTES || size > 64) {
        self->is_too_many = true;
        return;
    }
    for (size_t i = 0; i <= size; i++) {
        char c = name[3 + i];
        self->lower[self->count][i] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
    }
    self->names[self->count] = (ef_span_t){self->lower[self->count], (uint32_t)size};
    self->values[self->count++] = (ef_span_t){value, (uint32_t)strlen (value)};
}

static ef_span_t
s_said (const char *text) {
    return text && text[0] ? (ef_span_t){text, (uint32_t)strlen (text)} : (ef_span_t){NULL, 0};
}

/* What the request says besides its body. -1: the call is answered. */
static int
s_read_words (call_t *call, intake_t *how, bool *is_atomic) {
    const char *atomic = call_query (call, "atomic");
    const char *key = call_header (call, "Idempotency-Key");
    how->topic = s_said (call_query (call, "topic"));
    how->type = s_said (call_query (call, "type"));
    *is_atomic = atomic && (strcmp (atomic, "true") == 0 || strcmp (atomic, "1") == 0);
    if (atomic && !*is_atomic && strcmp (atomic, "false") != 0 && strcmp (atomic, "0") != 0) {
        problem_answer (call, "BAD_REQUEST", "atomic: expected true or false");
        return -1;
    }
    if (how->topic.data && !ef_topic_is_valid (how->topic.data, how->topic.size)) {
        problem_answer (call, "BAD_REQUEST", "topic: expected 1 to 53 of a-z A-Z 0-9 . _ -");
        return -1;
    }
    if (key && (key[0] == 0 || strlen (key) > PUBLISH_KEY_MAX)) {
        problem_answer (call, "BAD_REQUEST", "Idempotency-Key: expected 1 to %d characters",
                        PUBLISH_KEY_MAX);
        return -1;
    }
    if (key && !ef_utf8_is_valid (key, strlen (key))) {
        problem_answer (call, "BAD_REQUEST", "Idempotency-Key: expected UTF-8");
        return -1;
    }
    how->key = s_said (key);
    return 0;
}

/* An id in the body and another one in the header can't both be meant. */
static bool
s_is_contradiction (const batch_t *batch, const intake_t *how) {
    char wanted[IDS_TEXT];
    ef_span_t id = batch_id (batch, &batch->slots[0]);
    if (batch->is_list || how->key.data == NULL || id.data == NULL || how->form == INTAKE_CLOUD ||
        how->form == INTAKE_CLOUD_BINARY) {
        return false;
    }
    uint32_t size = ids_of_key (how->key.data, how->key.size, -1, wanted);
    return id.size != size || memcmp (id.data, wanted, size) != 0;
}

static void
s_publish (face_t *face, call_t *call, const intake_t *said, bool is_atomic) {
    gateway_t *gateway = face->gateway;
    char why[ITEM_WHY_BYTES];
    batch_t batch;
    size_t size;
    const char *body = call_body (call, &size);
    rights_t rights = {gateway, call_identity (call)};
    intake_t copy = *said;
    const intake_t *how = &copy;
    if (rights.identity->token >= 0) {
        copy.may_publish = s_may_publish;
        copy.arg = &rights;
    }
    pthread_rwlock_rdlock (&gateway->schemas_lock);
    copy.schemas = gateway->schemas;
    const char *code = intake_read (&batch, how, body, size, why);
    pthread_rwlock_unlock (&gateway->schemas_lock);
    if (code) {
        problem_answer (call, code, "%s", why);
    } else if (s_is_contradiction (&batch, how)) {
        batch_free (&batch);
        problem_answer (call, "BAD_REQUEST", "id: expected the same as Idempotency-Key, or none");
    } else {
        outbox_publish (gateway->outbox, call, &batch, face->style, is_atomic);
    }
}

void
publish_post (void *arg, call_t *call) {
    face_t *face = arg;
    attributes_t attributes; /* large: only what is used is set */
    bool is_atomic;
    int form = s_find_form (call);
    if (form < 0) {
        call_add_header (call, "Accept",
                         "application/json, application/x-ndjson, application/msgpack, "
                         "application/cloudevents+json, application/cloudevents-batch+json");
        problem_answer (call, "MEDIA_TYPE",
                        "Content-Type: expected application/json, application/x-ndjson, "
                        "application/msgpack or CloudEvents as JSON");
        return;
    }
    intake_t how = {.form = (intake_form_t)form,
                    .needs_type = face->style != STYLE_PLAIN,
                    .media = call_type (call)};
    if (s_read_words (call, &how, &is_atomic)) {
        return;
    }
    attributes.count = 0;
    attributes.is_too_many = false;
    if (form == INTAKE_CLOUD_BINARY) {
        call_each (call, false, s_take_attribute, &attributes);
        how.names = attributes.names;
        how.values = attributes.values;
        how.attributes = attributes.count;
    }
    if (attributes.is_too_many) {
        problem_answer (call, "BAD_REQUEST", "ce-…: expected up to %d attributes with short names",
                        PUBLISH_ATTRIBUTES);
        return;
    }
    s_publish (face, call, &how, is_atomic);
}

/* The handshake of CloudEvents' web hooks (http-webhook.md, section 4): who would push says from
   where and how fast, and hears whether that is welcome. */
void
publish_options (void *arg, call_t *call) {
    face_t *face = arg;
    const char *origin = call_header (call, "WebHook-Request-Origin");
    double rate = face->gateway->web->access.rate;
    ef_buf_t none = {0};
    call_add_header (call, "Allow", "POST, GET, OPTIONS");
    if (origin == NULL) {
        call_answer (call, 204, NULL, &none);
        return;
    }
    char text[32] = "*";
    if (rate > 0) {
        snprintf (text, sizeof text, "%.0f", rate * 60 > 1 ? rate * 60 : 1);
    }
    call_add_header (call, "WebHook-Allowed-Origin", origin);
    call_add_header (call, "WebHook-Allowed-Rate", text);
    call_answer (call, 200, NULL, &none);
}
