/* Routes by type and headers. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../broker/core/route.h"
#include "../../proto/json.h"
#include "../../proto/limits.h"

/* The name of the route of an event with this meta; "": none. */
static const char *
s_route_of_bytes (const ef_route_t *routes, uint32_t count, const ef_buf_t *meta) {
    ef_buf_t buf = {0};
    ef_put_array (&buf, 4);
    ef_put_nil (&buf);
    ef_put_nil (&buf);
    ef_put_nil (&buf);
    ef_buf_put (&buf, meta->data, meta->size);
    guarded_t input = guard (buf.data, buf.size);
    ef_cursor_t cursor = ef_cursor (input.bytes, buf.size);
    ef_event_t event;
    const char *why;
    assert_int_equal (ef_event_read (&cursor, &event, &why), EF_OK);
    const ef_route_t *route = ef_route_find (routes, count, &event);
    unguard (&input);
    ef_buf_free (&buf);
    return route ? route->name : "";
}

static const char *
s_route_of (const ef_route_t *routes, uint32_t count, const char *meta) {
    ef_buf_t buf = {0};
    const char *why = NULL;
    assert_int_equal (ef_json_parse (&buf, meta, strlen (meta), &why), strlen (meta));
    const char *name = s_route_of_bytes (routes, count, &buf);
    ef_buf_free (&buf);
    return name;
}

static void
test_route_first_that_fits_is_taken (void **state) {
    (void)state;
    static const ef_route_t routes[] = {
        {.name = "welcome", .type = "USER_SIGNUP"},
        {.name = "shop", .type = "user.*", .headers = {{"source", "shop*"}}, .header_count = 1},
        {.name = "user", .type = "user.*"},
        {.name = "both", .headers = {{"a", "1"}, {"b", "?"}}, .header_count = 2},
        {.name = "any", .type = "*"},
    };
    static const struct {
        const char *meta;
        const char *route;
    } cases[] = {
        {"{\"type\":\"USER_SIGNUP\"}", "welcome"},
        {"{\"type\":\"USER_SIGNUP2\"}", "any"},
        {"{\"type\":\"user.new\",\"headers\":{\"source\":\"shop.de\"}}", "shop"},
        {"{\"type\":\"user.new\",\"headers\":{\"source\":\"web\"}}", "user"},
        {"{\"type\":\"user.new\",\"headers\":{\"Source\":\"shop\"}}", "user"},
        {"{\"type\":\"user.new\",\"headers\":7}", "user"},
        {"{\"headers\":{\"b\":\"x\",\"a\":1}}", "both"},
        {"{\"headers\":{\"b\":\"xy\",\"a\":1}}", ""},
        {"{\"headers\":{\"a\":1}}", ""},
        {"{\"headers\":{\"a\":1,\"b\":\"\"}}", ""},
        {"{\"headers\":{\"b\":\"x\",\"a\":true}}", ""},
        {"{\"headers\":{\"b\":\"x\",\"a\":[1]}}", ""},
        {"{\"headers\":{\"b\":\"x\",\"a\":null}}", ""},
        {"{\"headers\":{\"b\":\"xy\",\"b\":\"x\",\"a\":\"1\"}}", "both"},
        {"{\"type\":\"\"}", "any"},
        {"{}", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_string_equal (s_route_of (routes, 5, cases[i].meta), cases[i].route);
        assert_string_equal (s_route_of (routes, 0, cases[i].meta), "");
    }
}

static void
test_route_without_conditions_takes_everything (void **state) {
    (void)state;
    static const ef_route_t routes[] = {{.name = "first", .type = "x"}, {.name = "rest"}};
    assert_string_equal (s_route_of (routes, 2, "{}"), "rest");
    assert_string_equal (s_route_of (routes, 2, "{\"type\":\"y\",\"headers\":{\"a\":1}}"), "rest");
    assert_string_equal (s_route_of (routes, 2, "{\"type\":\"x\"}"), "first");
    ef_event_t bare = {0}; /* an event of three fields */
    assert_string_equal (ef_route_find (routes, 2, &bare)->name, "rest");
}

static void
test_route_passes_over_names_that_are_none (void **state) {
    (void)state;
    static const ef_route_t route = {.name = "r", .headers = {{"a", "*"}}, .header_count = 1};
    static const uint8_t meta[] = "\x81\xa7headers\x83\x01\x02\xc4\x01"
                                  "a\x01\xa1"
                                  "a\xa1z";
    static const uint8_t other[] = "\x81\xa7headers\x82\x01\x02\xc4\x01"
                                   "a\x01";
    ef_buf_t buf = {(uint8_t *)meta, sizeof meta - 1, 0};
    assert_string_equal (s_route_of_bytes (&route, 1, &buf), "r");
    buf = (ef_buf_t){(uint8_t *)other, sizeof other - 1, 0};
    assert_string_equal (s_route_of_bytes (&route, 1, &buf), "");
}

/* The last of `count` headers, and the type, have `size` bytes. */
static const char *
s_route_of_sizes (const ef_route_t *route, uint32_t count, uint32_t size) {
    static char text[EF_ROUTE_TEXT_MAX + 1];
    ef_buf_t meta = {0};
    memset (text, 'x', sizeof text);
    ef_put_map (&meta, 2);
    ef_put_str (&meta, "type");
    ef_put_strn (&meta, text, size);
    ef_put_str (&meta, "headers");
    ef_put_map (&meta, count);
    for (uint32_t i = 0; i < count; i++) {
        ef_put_str (&meta, i + 1 == count ? "last" : "other");
        ef_put_strn (&meta, text, size > 3 ? size - 3 : 0); /* 3: its head */
    }
    const char *name = s_route_of_bytes (route, 1, &meta);
    ef_buf_free (&meta);
    return name;
}

static void
test_route_looks_within_bounds (void **state) {
    (void)state;
    static const ef_route_t typed = {.name = "r", .type = "*"};
    static const ef_route_t headed = {.name = "r", .headers = {{"last", "*"}}, .header_count = 1};
    assert_string_equal (s_route_of_sizes (&typed, 1, EF_ROUTE_TEXT_MAX), "r");
    assert_string_equal (s_route_of_sizes (&typed, 1, EF_ROUTE_TEXT_MAX + 1), "");
    assert_string_equal (s_route_of_sizes (&headed, 1, EF_ROUTE_TEXT_MAX), "r");
    assert_string_equal (s_route_of_sizes (&headed, 1, EF_ROUTE_TEXT_MAX + 1), "");
    assert_string_equal (s_route_of_sizes (&headed, EF_ROUTE_HEADERS_SEEN, 3), "r");
    assert_string_equal (s_route_of_sizes (&headed, EF_ROUTE_HEADERS_SEEN + 1, 3), "");
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_route_first_that_fits_is_taken),
        cmocka_unit_test (test_route_without_conditions_takes_everything),
        cmocka_unit_test (test_route_passes_over_names_that_are_none),
        cmocka_unit_test (test_route_looks_within_bounds),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
