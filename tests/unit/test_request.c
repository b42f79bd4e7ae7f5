/* Requests that events make, CloudEvents among them. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../proto/event.h"
#include "../../proto/json.h"
#include "../../workers/api/request.h"

#include <stdio.h>

#define NOW_MS 1700000000123ull
#define PARENT "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

/* An event, and the request that it makes. */
typedef struct {
    ef_buf_t event;
    ef_buf_t text; /* headers and body, for comparisons */
    request_t request;
    request_rules_t rules;
} fixture_t;

static void
s_begin (fixture_t *self) {
    memset (self, 0, sizeof *self);
    self->rules = (request_rules_t){.url = "http://home.example/hook",
                                    .method = REQUEST_POST,
                                    .source = "",
                                    .idempotency = "Idempotency-Key",
                                    .timestamp = "X-Time",
                                    .signed_with = "X-Signed"};
}

static void
s_end (fixture_t *self) {
    ef_buf_free (&self->event);
    ef_buf_free (&self->text);
    request_free (&self->request);
    headers_free (&self->rules.headers);
    signature_destroy (&self->rules.signature);
}

static eventflow_bytes_t
s_bytes (ef_span_t span) {
    return (eventflow_bytes_t){span.data, span.size};
}

/* Builds the request of an event in JSON: [topic, id, payload, meta]. */
static int
s_build (fixture_t *self, const char *json) {
    const char *why = NULL;
    ef_event_t event;
    ef_buf_clear (&self->event);
    assert_int_equal (ef_json_parse (&self->event, json, strlen (json), &why), strlen (json));
    ef_cursor_t cursor = ef_cursor (self->event.data, self->event.size);
    assert_int_equal (ef_event_read (&cursor, &event, &why), EF_OK);
    eventflow_delivery_t delivery = {.tag = 1,
                                     .attempt = 1,
                                     .event = s_bytes (event.raw),
                                     .topic = s_bytes (event.topic),
                                     .id = s_bytes (event.id),
                                     .type = s_bytes (event.type),
                                     .key = s_bytes (event.key),
                                     .payload = s_bytes (event.payload),
                                     .meta = s_bytes (event.meta)};
    return request_build (&self->request, &self->rules, &delivery, NOW_MS);
}

/* METHOD URL, headers with | behind each group's last one, an empty line, the body. */
static const char *
s_text (fixture_t *self) {
    request_t *request = &self->request;
    ef_buf_t *out = &self->text;
    ef_buf_clear (out);
    const char *method = request_method_name (request->method);
    ef_buf_put (out, method, strlen (method));
    ef_buf_put (out, " ", 1);
    ef_buf_put (out, request->url.data, request->url.size - 1);
    uint32_t i = 0;
    for (struct curl_slist *at = headers_list (&request->headers, request->headers.count);; i++) {
        ef_buf_put (out, "|", i == request->describing);
        ef_buf_put (out, "|", i == request->asked);
        if (at == NULL) {
            break;
        }
        ef_buf_put (out, "\n", 1);
        ef_buf_put (out, at->data, strlen (at->data));
        at = at->next;
    }
    ef_buf_put (out, "\n\n", request->has_body ? 2 : 0);
    ef_buf_put (out, request->body.data, request->body.size);
    ef_buf_put (out, "", 1);
    return (const char *)out->data;
}

static void
s_makes (fixture_t *self, const char *event, const char *text) {
    if (s_build (self, event)) {
        fail_msg ("%s: %s", self->request.code, self->request.why);
    }
    assert_string_equal (s_text (self), text);
}

static void
s_fails (fixture_t *self, const char *event, const char *code, const char *why) {
    assert_int_equal (s_build (self, event), -1);
    assert_string_equal (self->request.code, code);
    if (strstr (self->request.why, why) == NULL) {
        fail_msg ("%s isn't in: %s", why, self->request.why);
    }
}

static void
test_request_payload_to_the_configured_url (void **state) {
    (void)state;
    fixture_t it;
    s_begin (&it);
    s_makes (&it, "[\"api\",\"e1\",{\"a\":[1,null,\"x\"]}]",
             "POST http://home.example/hook\nContent-Type: application/json\n"
             "Idempotency-Key: e1||\n\n{\"a\":[1,null,\"x\"]}");
    s_makes (&it, "[\"api\",{\"$bin\":\"AP8g\"},\"text\"]",
             "POST http://home.example/hook\nContent-Type: application/json\n"
             "Idempotency-Key: %00%FF%20||\n\n\"text\"");
    it.rules.method = REQUEST_GET;
    it.rules.url = "http://home.example/{{id}}";
    it.rules.idempotency = "";
    s_makes (&it, "[\"api\",\"e1\",{\"id\":7}]", "GET http://home.example/7||");
    it.rules.method = REQUEST_DELETE;
    s_makes (&it, "[\"api\",\"e1\",{\"id\":7,\"body\":1}]", "DELETE http://home.example/7||");
    s_fails (&it, "[\"api\",\"e1\",{\"no\":7}]", "MISSING_FIELD", "field id");
    s_end (&it);
}

static void
test_request_of_the_payload (void **state) {
    (void)state;
    fixture_t it;
    s_begin (&it);
    s_makes (&it,
             "[\"api\",\"e1\",{\"url\":\"https://a.example/x?y\",\"method\":\"patch\",\"headers\":"
             "{\"A\":\"b\",\"N\":5,\"content-type\":\"text/csv\"},\"body\":\"a,b\"}]",
             "PATCH https://a.example/x?y\nContent-Type: text/csv\nIdempotency-Key: e1|\nA: b\n"
             "N: 5|\n\na,b");
    s_makes (&it, "[\"api\",\"e1\",{\"url\":\"http://a.example\",\"body\":{\"$bin\":\"AAE=\"}}]",
             "POST http://a.example\nContent-Type: application/octet-stream\n"
             "Idempotency-Key: e1||\n\n");
    assert_int_equal (it.request.body.size, 2);
    s_makes (&it, "[\"api\",\"e1\",{\"url\":\"http://a.example\",\"body\":{\"k\":false}}]",
             "POST http://a.example\nContent-Type: application/json\n"
             "Idempotency-Key: e1||\n\n{\"k\":false}");
    s_makes (&it, "[\"api\",\"e1\",{\"url\":\"http://a.example\"}]",
             "POST http://a.example\nIdempotency-Key: e1||\n\n");
    s_makes (&it, "[\"api\",\"e1\",{\"url\":\"http://a.example\",\"method\":\"DELETE\"}]",
             "DELETE http://a.example\nIdempotency-Key: e1||");
    s_makes (&it,
             "[\"api\",\"e1\",{\"url\":\"http://a.example\",\"method\":\"DELETE\",\"body\":1}]",
             "DELETE http://a.example\nContent-Type: application/json\nIdempotency-Key: e1||\n\n1");
    assert_true (it.request.is_from_event);
    s_makes (&it, "[\"api\",\"e1\",{\"url\":7}]", /* no request: a payload like any */
             "POST http://home.example/hook\nContent-Type: application/json\n"
             "Idempotency-Key: e1||\n\n{\"url\":7}");
    it.rules.is_settings_only = true;
    s_makes (&it, "[\"api\",\"e1\",{\"url\":\"http://evil.example\"}]",
             "POST http://home.example/hook\nContent-Type: application/json\n"
             "Idempotency-Key: e1||\n\n{\"url\":\"http://evil.example\"}");
    s_end (&it);
}

static void
test_request_that_cant_be (void **state) {
    (void)state;
    fixture_t it;
    char json[REQUEST_URL_MAX + 200];
    s_begin (&it);
    char why[200];
    assert_int_equal (request_rule (&it.rules, headers_span ("Authorization: Bearer x"), why), 0);
    s_fails (&it, "[\"api\",\"e\",{\"url\":\"http://a\",\"method\":\"TRACE\"}]", "BAD_METHOD",
             "TRACE");
    s_fails (&it, "[\"api\",\"e\",{\"url\":\"http://a\",\"method\":7}]", "BAD_METHOD", "expected");
    s_fails (&it, "[\"api\",\"e\",{\"url\":\"http://a\",\"method\":\"GET\",\"body\":1}]",
             "BAD_METHOD", "no body");
    s_fails (&it, "[\"api\",\"e\",{\"url\":\"http://a/ b\"}]", "BAD_URL", "spaces");
    s_fails (&it, "[\"api\",\"e\",{\"url\":\"http://a/\\r\\nX: y\"}]", "BAD_URL", "control");
    s_fails (&it, "[\"api\",\"e\",{\"url\":\"\"}]", "BAD_URL", "0 bytes");
    snprintf (json, sizeof json, "[\"api\",\"e\",{\"url\":\"http://a/%0*d\"}]", REQUEST_URL_MAX, 0);
    s_fails (&it, json, "BAD_URL", "8009 bytes");
#define HEADERS(text) "[\"api\",\"e\",{\"url\":\"http://a\",\"headers\":" text "}]"
    s_fails (&it, HEADERS ("7"), "BAD_HEADER", "a map");
    s_fails (&it, HEADERS ("{\"A\":[1]}"), "BAD_HEADER", "text or a number");
    s_fails (&it, HEADERS ("{\"A\":null}"), "BAD_HEADER", "text or a number");
    s_fails (&it, HEADERS ("{\"A\":\"b\\r\\nC: d\"}"), "BAD_HEADER", "control");
    s_fails (&it, HEADERS ("{\"A\\r\\nB\":\"c\"}"), "BAD_HEADER", "isn't a header's name");
    s_fails (&it, HEADERS ("{\"Host\":\"b\"}"), "BAD_HEADER", "Host is set by the connection");
    s_fails (&it, HEADERS ("{\"transfer-encoding\":\"b\"}"), "BAD_HEADER", "the connection");
    s_fails (&it, HEADERS ("{\"authorization\":\"b\"}"), "BAD_HEADER", "set by the worker");
    s_fails (&it, HEADERS ("{\"idempotency-KEY\":\"b\"}"), "BAD_HEADER", "set by the worker");
    s_fails (&it, HEADERS ("{\"A\":\"b\",\"a\":\"c\"}"), "BAD_HEADER", "there twice");
    it.rules.url = "";
    s_fails (&it, "[\"api\",\"e\",{\"a\":1}]", "NO_URL", "no url");
    s_fails (&it, "[\"api\",\"e\",\"http://a\"]", "NO_URL", "no url");
    s_end (&it);
}

static void
test_request_with_configured_headers_and_signature (void **state) {
    (void)state;
    fixture_t it;
    char why[200];
    char error[512];
    s_begin (&it);
    it.rules.form = SIGNATURE_HEX;
    it.rules.signature = signature_new (SIGNATURE_HEX, headers_span ("geheim"), error);
    assert_int_equal (request_rule (&it.rules, headers_span ("X-Api-Key:  k "), why), 0);
    assert_int_equal (request_rule (&it.rules, headers_span ("Content-Type: text/x-json"), why), 0);
    static const char *const bad[] = {"no colon",         ": x",          "Host: a",
                                      "x-api-key: again", "X-Signed: me", "Idempotency-Key: 1",
                                      "A: b\nC: d"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal (request_rule (&it.rules, headers_span (bad[i]), why), -1);
    }
    s_makes (
        &it, "[\"api\",\"e1\",{\"a\":1}]",
        "POST http://home.example/hook\nContent-Type: text/x-json\nIdempotency-Key: e1||\n"
        "X-Api-Key: k\nX-Time: 1700000000\nX-Signed: "
        "sha256=c2f0a59f12d0bcd3933234d85083c03b99e970604203fd059a320436bb602adf\n\n{\"a\":1}");
    s_fails (&it, HEADERS ("{\"X-Signed\":\"b\"}"), "BAD_HEADER", "set by the worker");
    s_end (&it);
    s_begin (&it);
    it.rules.form = SIGNATURE_STANDARD;
    it.rules.timestamp = "webhook-timestamp";
    it.rules.signed_with = "webhook-signature";
    it.rules.signature = signature_new (SIGNATURE_STANDARD, headers_span ("geheim"), error);
    s_makes (&it, "[\"api\",\"e 1\",7]",
             "POST http://home.example/hook\nContent-Type: application/json\n"
             "Idempotency-Key: e%201||\nwebhook-id: e%201\nwebhook-timestamp: 1700000000\n"
             "webhook-signature: v1,zHYlAzfKvbMcZQT4SfBvEr797HevgA0cZL3yFDz0Q6I=\n\n7");
    s_end (&it);
}

static void
test_request_of_the_whole_event (void **state) {
    (void)state;
    fixture_t it;
    s_begin (&it);
    it.rules.mode = BODY_EVENT;
    s_makes (&it, "[\"api\",\"e1\",{\"a\":1},{\"type\":\"t\",\"trace\":\"" PARENT "\"}]",
             "POST http://home.example/hook\ntraceparent: " PARENT
             "\nContent-Type: application/json\nIdempotency-Key: e1||\n\n"
             "{\"id\":\"e1\",\"topic\":\"api\",\"type\":\"t\",\"dispatch_date\":"
             "\"2023-11-14T22:13:20.123Z\",\"payload\":{\"a\":1},\"trace\":\"" PARENT
             "\",\"attempts\":0,\"error\":[]}");
    s_end (&it);
}

static void
test_cloudevents_binary (void **state) {
    (void)state;
    fixture_t it;
    s_begin (&it);
    it.rules.mode = BODY_BINARY;
    it.rules.idempotency = "";
    s_makes (&it,
             "[\"api\",\"e 1\\u00e4\",{\"a\":1},{\"type\":\"order.new\",\"time\":1700000001000,"
             "\"key\":\"k\\\"1\",\"headers\":{\"traceparent\":\"" PARENT "\",\"tracestate\":"
             "\"a=b\"}}]",
             "POST http://home.example/hook\ntraceparent: " PARENT "\ntracestate: a=b\n"
             "ce-specversion: 1.0\nce-id: e%201%C3%A4\nce-source: eventflow/api\n"
             "ce-type: order.new\nce-time: 2023-11-14T22:13:21.000Z\nce-partitionkey: k%221\n"
             "ce-traceparent: " PARENT "\nce-tracestate: a=b\nContent-Type: application/json||"
             "\n\n{\"a\":1}");
    it.rules.source = "/shop";
    s_makes (&it, "[\"api\",{\"$bin\":\"/w==\"},{\"$bin\":\"AQI=\"},{\"trace\":\"no parent\"}]",
             "POST http://home.example/hook\nce-specversion: 1.0\nce-id: %25FF\n"
             "ce-source: /shop\nce-type: eventflow.event\nce-time: 2023-11-14T22:13:20.123Z\n"
             "Content-Type: application/octet-stream||\n\n\1\2");
    s_makes (&it, "[\"api\",\"e\",null]",
             "POST http://home.example/hook\nce-specversion: 1.0\nce-id: e\nce-source: /shop\n"
             "ce-type: eventflow.event\nce-time: 2023-11-14T22:13:20.123Z||\n\n");
    s_fails (&it, HEADERS ("{\"ce-id\":\"b\"}"), "BAD_HEADER", "set by the worker");
    s_end (&it);
}

static void
test_cloudevents_structured (void **state) {
    (void)state;
    fixture_t it;
    s_begin (&it);
    it.rules.mode = BODY_STRUCTURED;
    it.rules.idempotency = "";
#define STRUCTURED "POST http://home.example/hook\nContent-Type: application/cloudevents+json||\n\n"
#define BEGINNING  "{\"specversion\":\"1.0\",\"id\":\"e\",\"source\":\"eventflow/api\",\"type\":"
#define TIME       "\"time\":\"2023-11-14T22:13:20.123Z\""
    s_makes (&it, "[\"api\",\"e\",{\"a\":\"\\u00e4\"},{\"type\":\"t\",\"key\":\"k\"}]",
             STRUCTURED BEGINNING "\"t\"," TIME ",\"partitionkey\":\"k\",\"datacontenttype\":"
                                  "\"application/json\",\"data\":{\"a\":\"\xc3\xa4\"}}");
    s_makes (&it, "[\"api\",\"e\",{\"$bin\":\"AQI=\"}]",
             STRUCTURED BEGINNING "\"eventflow.event\"," TIME ",\"datacontenttype\":"
                                  "\"application/octet-stream\",\"data_base64\":\"AQI=\"}");
    s_makes (&it, "[\"api\",\"e\",null]", STRUCTURED BEGINNING "\"eventflow.event\"," TIME "}");
    s_makes (&it,
             "[\"api\",\"e\",{\"url\":\"http://a\",\"body\":5,\"headers\":{\"Content-Type\":"
             "\"text/plain\"}}]",
             "POST http://a\nContent-Type: application/cloudevents+json||\n\n" BEGINNING
             "\"eventflow.event\"," TIME ",\"datacontenttype\":\"application/json\",\"data\":5}");
    s_end (&it);
}

/* Any bytes for payload and meta: it is a request or an error, and nothing else. */
static void
test_request_of_broken_bytes (void **state) {
    (void)state;
    fixture_t it;
    s_begin (&it);
    static const char json[] = "{\"url\":\"http://a/b\",\"method\":\"PUT\",\"headers\":{\"A\":1,"
                               "\"Content-Type\":\"x/y\"},\"body\":[1,2]}";
    ef_buf_t payload = {0};
    const char *why;
    assert_true (ef_json_parse (&payload, json, strlen (json), &why) > 0);
    for (size_t size = 0; size <= payload.size; size++) {
        for (unsigned change = 0; change < 256; change += size == payload.size ? 1 : 256) {
            for (size_t at = 0; at < size; at++) {
                guarded_t bytes = guard (payload.data, size);
                bytes.bytes[at] = (uint8_t)(bytes.bytes[at] ^ change);
                eventflow_bytes_t span = {bytes.bytes, size};
                eventflow_delivery_t delivery = {.attempt = 1,
                                                 .event = span,
                                                 .topic = {"api", 3},
                                                 .id = {"e", 1},
                                                 .payload = span,
                                                 .meta = span};
                it.rules.mode = (body_mode_t)(at % 4);
                if (request_build (&it.request, &it.rules, &delivery, NOW_MS)) {
                    assert_true (it.request.code[0] && it.request.why[0]);
                }
                unguard (&bytes);
            }
        }
    }
    ef_buf_free (&payload);
    s_end (&it);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_request_payload_to_the_configured_url),
        cmocka_unit_test (test_request_of_the_payload),
        cmocka_unit_test (test_request_that_cant_be),
        cmocka_unit_test (test_request_with_configured_headers_and_signature),
        cmocka_unit_test (test_request_of_the_whole_event),
        cmocka_unit_test (test_cloudevents_binary),
        cmocka_unit_test (test_cloudevents_structured),
        cmocka_unit_test (test_request_of_broken_bytes),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
