/* Headers, URLs, signatures and responses of the handler api. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../proto/event.h"
#include "../../proto/json.h"
#include "../../workers/api/headers.h"
#include "../../workers/api/response.h"
#include "../../workers/api/signature.h"
#include "../../workers/api/url.h"

#include <stdio.h>

static ef_span_t
s_span (const char *text) {
    return headers_span (text);
}

static const char *
s_refusal (const char *name, const char *value) {
    return headers_refusal (s_span (name), s_span (value));
}

static void
test_header_names_and_values_judged (void **state) {
    (void)state;
    static const char *const own[] = {"Host",
                                      "host",
                                      "CONNECTION",
                                      "Keep-Alive",
                                      "TE",
                                      "Trailer",
                                      "Upgrade",
                                      "Transfer-Encoding",
                                      "Content-Length",
                                      "Expect",
                                      "Proxy-Authorization"};
    static const char *const bad[] = {"", "a b", "a:b", "a\r\nb", "\xc3\xa4", "a\x7f", "(a)"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        assert_non_null (s_refusal (own[i], "x"));
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_non_null (s_refusal (bad[i], "x"));
    }
    assert_null (s_refusal ("X-Any_1", "text, \t with \"all\" of \xc3\xa4"));
    assert_null (s_refusal ("Authorization", ""));
    assert_non_null (s_refusal ("X", "a\r\nHost: b"));
    assert_non_null (s_refusal ("X", "a\nb"));
    ef_span_t nul = {"a\0b", 3};
    assert_non_null (headers_refusal (s_span ("X"), nul));
    assert_non_null (headers_refusal (nul, s_span ("x")));
}

static void
test_headers_list_as_libcurl_takes_it (void **state) {
    (void)state;
    headers_t headers = {0};
    headers_t more = {0};
    ef_span_t id = {"a \"b\"%\xff\0~", 9};
    assert_true (headers_add (&headers, s_span ("A"), s_span (" \tone two ")));
    assert_true (headers_add (&headers, s_span ("B"), s_span (" ")));
    assert_true (headers_add_encoded (&headers, "C", id));
    assert_true (headers_add (&more, s_span ("D"), s_span ("4")));
    headers_append (&headers, &more);
    assert_true (headers_has (&headers, s_span ("d")) && headers_has (&headers, s_span ("b")));
    assert_false (headers_has (&headers, s_span ("")) || headers_has (&headers, s_span ("A:")));
    struct curl_slist *list = headers_list (&headers, headers.count);
    static const char *const texts[] = {"A: one two", "B;", "C: a%20%22b%22%25%FF%00~", "D: 4"};
    for (size_t i = 0; i < 4; i++, list = list->next) {
        assert_string_equal (list->data, texts[i]);
    }
    assert_null (list);
    list = headers_list (&headers, 1);
    assert_null (list->next);
    assert_null (headers_list (&headers, 0));
    headers_clear (&headers);
    for (uint32_t i = 0; i < HEADERS_LIST_MAX; i++) {
        assert_true (headers_add (&headers, s_span ("X"), s_span ("y")));
    }
    assert_false (headers_add (&headers, s_span ("X"), s_span ("y")));
    headers_append (&headers, &more);
    assert_int_equal (headers.count, HEADERS_LIST_MAX);
    headers_free (&headers);
    headers_free (&more);
}

static int
s_fill (const char *pattern, const char *json, ef_buf_t *out, char code[24]) {
    ef_buf_t payload = {0};
    char why[300] = "";
    const char *problem;
    assert_int_equal (ef_json_parse (&payload, json, strlen (json), &problem), strlen (json));
    eventflow_delivery_t delivery = {
        .payload = {payload.data, payload.size}, .id = {"an id", 5}, .topic = {"api", 3}};
    ef_buf_clear (out);
    int rc = url_fill (out, pattern, &delivery, code, why);
    ef_buf_put (out, "", 1);
    ef_buf_free (&payload);
    assert_true (rc == 0 || why[0]);
    return rc;
}

static void
test_url_fields_stay_in_their_place (void **state) {
    (void)state;
    static const char json[] = "{\"a\":\"x/../y?z#&=%\",\"n\":-7,\"u\":{\"id\":\"\\u00e4 b\"},"
                               "\"l\":[5,\"six\"],\"t\":true,\"dots\":\"..\",\"dot\":\".\","
                               "\"no\":null,\"none\":\"\",\"m\":{}}";
    static const struct {
        const char *pattern;
        const char *text; /* or the code where it fails */
    } cases[] = {
        {"http://h/p", "http://h/p"},
        {"http://h/{{a}}", "http://h/x%2F..%2Fy%3Fz%23%26%3D%25"},
        {"http://h/{{ n }}?i={{u.id}}", "http://h/-7?i=%C3%A4%20b"},
        {"http://h/{{l.1}}/{{t}}/", "http://h/six/true/"},
        {"http://h/{{event.topic}}/{{event.id}}", "http://h/api/an%20id"},
        {"http://h/{{event.type}}", "MISSING_FIELD"},
        {"http://h/{{x}}", "MISSING_FIELD"},
        {"http://h/{{no}}", "MISSING_FIELD"},
        {"http://h/{{none}}", "MISSING_FIELD"},
        {"http://h/{{m}}", "MISSING_FIELD"},
        {"http://h/{{dots}}/x", "BAD_URL"},
        {"http://h/{{dot}}", "BAD_URL"},
    };
    ef_buf_t out = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char code[24] = "";
        int rc = s_fill (cases[i].pattern, json, &out, code);
        assert_string_equal (rc ? code : (char *)out.data, cases[i].text);
    }
    ef_buf_free (&out);
}

static void
test_url_pattern_refused_where_it_cant_be_meant (void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "ftp://h/",
                                      "h/p",
                                      "http://",
                                      "https:///",
                                      "http://{{h}}/",
                                      "http://a{{h}}:80/",
                                      "http://h/{{",
                                      "http://h/{{}}",
                                      "http://h/{{  }}",
                                      "file:///etc/passwd"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_non_null (url_refusal (bad[i]));
    }
    assert_null (url_refusal ("http://h"));
    assert_null (url_refusal ("HTTPS://user:pw@h:8443/{{a.b}}?c={{d}}"));
}

/* The values come from Python's hmac and from standardwebhooks.com's example. */
static void
test_signature_as_others_compute_it (void **state) {
    (void)state;
    char error[512];
    char text[SIGNATURE_TEXT_BYTES];
    signature_t *hex = signature_new (SIGNATURE_HEX, s_span ("geheim"), error);
    assert_non_null (hex);
    for (int i = 0; i < 3; i++) { /* the key is there again each time */
        signature_write (hex, s_span ("ignored"), 1700000000, s_span ("{\"a\":1}"), text);
        assert_string_equal (
            text, "sha256=c2f0a59f12d0bcd3933234d85083c03b99e970604203fd059a320436bb602adf");
        signature_write (hex, s_span (""), 1, (ef_span_t){NULL, 0}, text);
        assert_string_equal (
            text, "sha256=02c4a7b92994ead1e2c45e8b3c63e419ea16ae1b24227adc16f52ebc99e10af3");
    }
    signature_destroy (&hex);
    signature_t *standard = signature_new (
        SIGNATURE_STANDARD, s_span ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), error);
    assert_non_null (standard);
    signature_write (standard, s_span ("msg_p5jXN8AQM9LWM0D4loKWxJek"), 1614265330,
                     s_span ("{\"test\": 2432232314}"), text);
    assert_string_equal (text, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    signature_destroy (&standard);
    signature_destroy (&standard);
}

static void
test_signature_secret_refused (void **state) {
    (void)state;
    char error[512] = "";
    char longest[1026];
    memset (longest, 'k', sizeof longest);
    assert_null (signature_new (SIGNATURE_HEX, s_span (""), error));
    assert_null (signature_new (SIGNATURE_STANDARD, s_span ("whsec_@@"), error));
    assert_null (signature_new (SIGNATURE_HEX, (ef_span_t){longest, 1025}, error));
    assert_non_null (strstr (error, "secret"));
}

static void
test_response_judged_by_status (void **state) {
    (void)state;
    for (long status = 200; status < 300; status++) {
        assert_int_equal (response_judge (status), EVENTFLOW_DONE);
    }
    for (long status = 300; status < 600; status++) {
        bool is_transient = status == 408 || status == 425 || status == 429 || status >= 500;
        assert_int_equal (response_judge (status), is_transient ? EVENTFLOW_RETRY : EVENTFLOW_DEAD);
    }
    assert_int_equal (response_judge (0), EVENTFLOW_RETRY);
    assert_int_equal (response_judge (101), EVENTFLOW_RETRY);
    assert_int_equal (response_judge (999), EVENTFLOW_RETRY);
}

static void
test_response_retry_after_seconds_or_date (void **state) {
    (void)state;
    const uint64_t now = 784111767000; /* ten seconds before the date below */
    static const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"1", 1000},
        {" 120 ", 120000},
        {"0", -1},
        {"86400", RESPONSE_RETRY_MAX_MS},
        {"86401", RESPONSE_RETRY_MAX_MS},
        {"99999999999999999999999", RESPONSE_RETRY_MAX_MS},
        {"-5", -1},
        {"", -1},
        {"soon", -1},
        {"12s", -1},
        {"Sun, 06 Nov 1994 08:49:37 GMT", 10000},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 10000},
        {"Sun Nov  6 08:49:37 1994", 10000},
        {"Sun, 06 Nov 1994 08:49:27 GMT", -1},
        {"Sun, 06 Nov 1994 07:00:00 GMT", -1},
        {"Fri, 06 Nov 2099 08:49:37 GMT", RESPONSE_RETRY_MAX_MS},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t ms = response_retry_ms (cases[i].text, now);
        if (ms != cases[i].ms) {
            fail_msg ("%s: %lld", cases[i].text, (long long)ms);
        }
    }
}

static void
test_response_text_is_one_short_line (void **state) {
    (void)state;
    char text[RESPONSE_TEXT_BYTES];
    char body[1000];
    response_text (s_span ("503 Busy"), s_span ("later\r\n\tplease"), text);
    assert_string_equal (text, "503 Busy: later   please");
    response_text (s_span ("404 Not Found"), s_span (""), text);
    assert_string_equal (text, "404 Not Found");
    response_text (s_span (""), (ef_span_t){"\xff\xfe\0z", 4}, text);
    assert_string_equal (text, "..");
    for (size_t i = 0; i < sizeof body; i++) {
        body[i] = "\xe2\x82\xac"[i % 3];
    }
    response_text (s_span ("500"), (ef_span_t){body, sizeof body}, text);
    assert_int_equal (strlen (text), 5 + RESPONSE_SHOWN_MAX + 3);
    assert_true (ef_utf8_is_valid (text, strlen (text)));
    response_text (s_span ("5000"), (ef_span_t){body + 1, sizeof body - 1}, text);
    assert_true (strlen (text) < RESPONSE_TEXT_BYTES); /* not UTF-8 from its first byte on */
}

static void
s_result_is (const void *body, size_t size, const char *json) {
    ef_buf_t value = {0};
    ef_buf_t text = {0};
    response_result (&value, 201, 7, (ef_span_t){body, (uint32_t)size});
    ef_cursor_t cursor = ef_cursor (value.data, value.size);
    assert_int_equal (ef_json_print (&text, &cursor), 0);
    assert_int_equal (ef_cursor_left (&cursor), 0);
    ef_buf_put (&text, "", 1);
    assert_string_equal ((char *)text.data, json);
    ef_buf_free (&value);
    ef_buf_free (&text);
}

static void
test_response_result_keeps_what_came (void **state) {
    (void)state;
    s_result_is ("", 0, "{\"status\":201,\"ms\":7}");
    s_result_is ("{\"a\": [1, 2.5]}\n", 16, "{\"status\":201,\"ms\":7,\"body\":{\"a\":[1,2.5]}}");
    s_result_is ("{\"a\": ", 6, "{\"status\":201,\"ms\":7,\"body\":\"{\\\"a\\\": \"}");
    s_result_is ("ok", 2, "{\"status\":201,\"ms\":7,\"body\":\"ok\"}");
    s_result_is ("\xff\x00", 2, "{\"status\":201,\"ms\":7,\"body\":{\"$bin\":\"/wA=\"}}");
    char large[RESPONSE_KEPT_MAX + 10];
    char wanted[RESPONSE_KEPT_MAX + 100];
    memset (large, 'x', sizeof large);
    snprintf (wanted, sizeof wanted, "{\"status\":201,\"ms\":7,\"body\":\"%.*s\"}",
              RESPONSE_KEPT_MAX, large);
    s_result_is (large, sizeof large, wanted);
    char nested[200]; /* deeper than MessagePack may be */
    memset (nested, '[', 100);
    memset (nested + 100, ']', 100);
    snprintf (wanted, sizeof wanted, "{\"status\":201,\"ms\":7,\"body\":\"%.*s\"}", 200, nested);
    s_result_is (nested, 200, wanted);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_header_names_and_values_judged),
        cmocka_unit_test (test_headers_list_as_libcurl_takes_it),
        cmocka_unit_test (test_url_fields_stay_in_their_place),
        cmocka_unit_test (test_url_pattern_refused_where_it_cant_be_meant),
        cmocka_unit_test (test_signature_as_others_compute_it),
        cmocka_unit_test (test_signature_secret_refused),
        cmocka_unit_test (test_response_judged_by_status),
        cmocka_unit_test (test_response_retry_after_seconds_or_date),
        cmocka_unit_test (test_response_text_is_one_short_line),
        cmocka_unit_test (test_response_result_keeps_what_came),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
