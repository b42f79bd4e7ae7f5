/* Access, rates, tokens, problems, hashes. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../clients/web/access.h"
#include "../../clients/web/problem.h"
#include "../../clients/web/rates.h"
#include "../../clients/web/sha256.h"
#include "../../clients/web/tokens.h"
#include "../../proto/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define TOKEN_A "aaaaaaaaaaaaaaaa"
#define TOKEN_B "bbbbbbbbbbbbbbbb"

static void
test_sha256_known_digests (void **state) {
    char text[65];
    (void)state;
    sha256_text ("", 0, text); /* FIPS 180-4's examples, and NIST's long ones */
    assert_string_equal (text, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_text ("abc", 3, text);
    assert_string_equal (text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const char *two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    sha256_text (two, strlen (two), text);
    assert_string_equal (text, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    char *million = malloc (1000000);
    assert_non_null (million);
    memset (million, 'a', 1000000);
    sha256_text (million, 1000000, text);
    assert_string_equal (text, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free (million);
}

static void
test_tokens_are_read_and_found (void **state) {
    char error[512] = "";
    tokens_t tokens;
    const char *text = "# who may what\n"
                       "shop publish:email,publish:order.* " TOKEN_A "  # its key\r\n"
                       "\n"
                       "boss\tadminister sha256:"
                       "f0a1bdf3b5bcb08ed2b5b2f8cd3ea9c3cdd9d3fc12ab3b1ce5fd8e5ba5d9a1ff\n"
                       "view read " TOKEN_B;
    (void)state;
    assert_int_equal (tokens_parse (&tokens, text, strlen (text), error), 0);
    assert_int_equal (tokens.count, 3);
    assert_int_equal (tokens_find (&tokens, TOKEN_A), 0);
    assert_int_equal (tokens_find (&tokens, TOKEN_B), 2);
    assert_int_equal (tokens_find (&tokens, "cccccccccccccccc"), -1);
    assert_int_equal (tokens_find (&tokens, ""), -1);
    assert_true (tokens_allow (&tokens.items[0], "email", 5));
    assert_true (tokens_allow (&tokens.items[0], "order.new", 9));
    assert_false (tokens_allow (&tokens.items[0], "db", 2));
    assert_false (tokens_allow (&tokens.items[0], NULL, 0));
    assert_true (tokens_allow (&tokens.items[1], NULL, 0));
    assert_int_equal (tokens.items[2].roles, 1u << ROLE_READ);
    tokens_free (&tokens);
}

static void
test_tokens_wrong_lines_are_named (void **state) {
    static const char *const rows[][2] = {
        {"a read", "line 1: expected NAME ROLE[,ROLE] TOKEN, a name of up to 63 characters"},
        {"\na read short", "line 2: expected a token of 16 characters at least"},
        {"a write " TOKEN_A,
         "line 1: expected roles of read, publish, publish:PATTERN, administer"},
        {"a read sha256:12", "line 1: expected 64 hexadecimal digits behind sha256:"},
        {"a read " TOKEN_A " more",
         "line 1: expected NAME ROLE[,ROLE] TOKEN and nothing behind it"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char error[512] = "";
        tokens_t tokens;
        assert_int_equal (tokens_parse (&tokens, rows[i][0], strlen (rows[i][0]), error), -1);
        assert_string_equal (error, rows[i][1]);
    }
}

/* An access without and with a file of tokens. */
static access_t *
s_access (access_options_t *options, char path[64]) {
    char error[512] = "";
    options->loopback_open = true;
    options->burst = 1;
    snprintf (options->audit, sizeof options->audit, "none");
    if (path) {
        snprintf (path, 64, "/tmp/ef-tokens-XXXXXX");
        int fd = mkstemp (path);
        const char *text = "shop publish:email " TOKEN_A "\nview read " TOKEN_B "\n";
        assert_int_equal (write (fd, text, strlen (text)), strlen (text));
        close (fd);
        snprintf (options->tokens, sizeof options->tokens, "%s", path);
    }
    access_t *access = access_new (options, error);
    assert_string_equal (error, "");
    return access;
}

static const char *
s_ask (access_t *access, access_request_t request) {
    static char text[300];
    identity_t identity;
    const char *why = "";
    request.method = request.method ? request.method : "POST";
    const char *code = access_check (access, &request, &identity, &why);
    snprintf (text, sizeof text, "%s", code ? code : identity.name);
    return text;
}

#define LOOPBACK .is_loopback = true, .host = "localhost:8080"

static void
test_access_loopback_needs_no_token_others_do (void **state) {
    access_options_t options = {0};
    char path[64];
    access_t *access = s_access (&options, path);
    (void)state;
    assert_string_equal (s_ask (access, (access_request_t){LOOPBACK, .role = ROLE_ADMINISTER}),
                         "loopback");
    assert_string_equal (s_ask (access, (access_request_t){.host = "x", .role = ROLE_READ}),
                         "UNAUTHORIZED");
    assert_string_equal (s_ask (access, (access_request_t){.host = "x", .role = ROLE_NONE}), "");
    const char *shop = "Bearer " TOKEN_A;
    const char *view = "bearer " TOKEN_B;
    assert_string_equal (
        s_ask (access, (access_request_t){.authorization = shop, .role = ROLE_PUBLISH}), "shop");
    assert_string_equal (
        s_ask (access, (access_request_t){.authorization = shop, .role = ROLE_READ}), "DENIED");
    assert_string_equal (
        s_ask (access, (access_request_t){.authorization = view, .role = ROLE_READ}), "view");
    assert_string_equal (
        s_ask (access, (access_request_t){.authorization = "Bearer x", .role = ROLE_READ}),
        "UNAUTHORIZED");
    assert_string_equal (
        s_ask (access, (access_request_t){LOOPBACK, .authorization = "Basic x", .role = ROLE_READ}),
        "UNAUTHORIZED");
    access_destroy (&access);
    unlink (path);
}

static void
test_access_names_and_origins_of_others_are_refused (void **state) {
    access_options_t options = {.hosts = "broker.local", .origins = "https://ops.example"};
    access_t *access = s_access (&options, NULL);
    static const struct {
        const char *method;
        const char *host;
        const char *origin;
        const char *site;
        const char *outcome;
    } rows[] = {
        {"GET", "evil.example", NULL, NULL, "DENIED"},
        {"GET", "localhost.evil.example", NULL, NULL, "DENIED"},
        {"GET", "127.0.0.1.evil.example", NULL, NULL, "DENIED"},
        {"GET", "127.0.0.1:8080", NULL, NULL, "loopback"},
        {"GET", "[::1]:8080", NULL, NULL, "loopback"},
        {"GET", "BROKER.local:80", NULL, NULL, "loopback"},
        {"POST", "localhost:8080", "http://localhost:8080", NULL, "loopback"},
        {"POST", "localhost:8080", "https://localhost:8080", NULL, "DENIED"},
        {"POST", "localhost:8080", "http://localhost:9999", NULL, "DENIED"},
        {"POST", "localhost:8080", "http://evil.example", NULL, "DENIED"},
        {"POST", "localhost:8080", "null", NULL, "DENIED"},
        {"POST", "localhost:8080", "https://ops.example", NULL, "loopback"},
        {"POST", "localhost:8080", NULL, "cross-site", "DENIED"},
        {"POST", "localhost:8080", NULL, "same-site", "DENIED"},
        {"POST", "localhost:8080", NULL, "same-origin", "loopback"},
        {"DELETE", "localhost:8080", "http://evil.example", NULL, "DENIED"},
        {"GET", "localhost:8080", "http://evil.example", "cross-site", "loopback"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const access_request_t request = {.is_loopback = true,
                                          .method = rows[i].method,
                                          .host = rows[i].host,
                                          .origin = rows[i].origin,
                                          .fetch_site = rows[i].site,
                                          .role = ROLE_READ};
        assert_string_equal (s_ask (access, request), rows[i].outcome);
    }
    access_destroy (&access);
}

static void
test_access_read_only_refuses_acts (void **state) {
    access_options_t options = {.read_only = true};
    access_t *access = s_access (&options, NULL);
    (void)state;
    assert_string_equal (
        s_ask (access, (access_request_t){LOOPBACK, .role = ROLE_ADMINISTER, .is_act = true}),
        "READ_ONLY");
    assert_string_equal (s_ask (access, (access_request_t){LOOPBACK, .role = ROLE_READ}),
                         "loopback");
    access_destroy (&access);
}

static void
test_access_tokens_are_read_again (void **state) {
    access_options_t options = {0};
    char path[64];
    access_t *access = s_access (&options, path);
    const char *shop = "Bearer " TOKEN_A;
    identity_t identity;
    const char *why;
    (void)state;
    access_request_t request = {
        .authorization = shop, .role = ROLE_PUBLISH, .host = "x", .method = "POST"};
    assert_null (access_check (access, &request, &identity, &why));
    assert_true (access_may_publish (access, &identity, "email", 5));
    assert_false (access_may_publish (access, &identity, "db", 2));
    FILE *file = fopen (path, "w");
    assert_non_null (file);
    fputs ("nobody read\n", file); /* wrong: changes nothing */
    fclose (file);
    access_refresh (access);
    assert_true (access_may_publish (access, &identity, "email", 5));
    file = fopen (path, "w");
    assert_non_null (file);
    fputs ("view read " TOKEN_B "\n", file);
    fclose (file);
    access_refresh (access);
    assert_false (access_may_publish (access, &identity, "email", 5));
    assert_string_equal (s_ask (access, request), "UNAUTHORIZED");
    access_destroy (&access);
    unlink (path);
}

static void
test_access_token_file_of_others_is_refused (void **state) {
    access_options_t options = {0};
    char path[64];
    char error[512] = "";
    access_t *access = s_access (&options, path);
    (void)state;
    access_destroy (&access);
    assert_int_equal (chmod (path, 0644), 0);
    assert_null (access_new (&options, error));
    assert_non_null (strstr (error, "can be read by others"));
    unlink (path);
}

static void
test_rates_let_a_burst_and_then_the_rate (void **state) {
    rates_t *rates = rates_new (10, 3);
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal (rates_take (rates, "a", 1000), 0);
    }
    assert_int_equal (rates_take (rates, "a", 1000), 1);
    assert_int_equal (rates_take (rates, "b", 1000), 0);
    assert_int_equal (rates_take (rates, "a", 1099), 1);
    assert_int_equal (rates_take (rates, "a", 1100), 0);
    assert_int_equal (rates_take (rates, "a", 900), 1); /* a clock that goes back */
    rates_destroy (&rates);
    rates = rates_new (1.0 / 60, 1);
    assert_int_equal (rates_take (rates, "a", 0), 0);
    assert_int_equal (rates_take (rates, "a", 0), 61);
    rates_destroy (&rates);
}

static void
test_rates_know_a_bounded_number_of_clients (void **state) {
    rates_t *rates = rates_new (1, 1);
    char name[32];
    (void)state;
    assert_int_equal (rates_take (rates, "first", 0), 0);
    for (unsigned i = 0; i < 65536; i++) {
        snprintf (name, sizeof name, "%u", i);
        assert_int_equal (rates_take (rates, name, 0), 0);
    }
    assert_int_equal (rates_take (rates, "65535", 0), 2);
    assert_int_equal (rates_take (rates, "first", 0), 0); /* forgotten */
    rates_destroy (&rates);
}

static void
test_problem_codes_have_their_status (void **state) {
    static const struct {
        const char *code;
        unsigned status;
        bool again;
    } rows[] = {{"UNKNOWN_TOPIC", 404, false}, {"SCHEMA", 422, false}, {"TOO_LARGE", 413, false},
                {"UNROUTED", 422, false},      {"FULL", 503, true},    {"DENIED", 403, false},
                {"WINDOW", 429, true},         {"RATE", 429, true},    {"NO_SPACE", 507, true},
                {"DRAINING", 503, true},       {"TIMEOUT", 504, true}, {"BAD_EVENT", 400, false},
                {"whatever", 500, false}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal (problem_find (rows[i].code)->status, rows[i].status);
        assert_int_equal (problem_find (rows[i].code)->retry_s > 0, rows[i].again);
    }
    for (unsigned i = EF_OK + 1; i < EF_STATUS_COUNT; i++) {
        const char *name = ef_status_name ((ef_status_t)i);
        assert_string_equal (problem_find (name)->code, name);
    }
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_sha256_known_digests),
        cmocka_unit_test (test_tokens_are_read_and_found),
        cmocka_unit_test (test_tokens_wrong_lines_are_named),
        cmocka_unit_test (test_access_loopback_needs_no_token_others_do),
        cmocka_unit_test (test_access_names_and_origins_of_others_are_refused),
        cmocka_unit_test (test_access_read_only_refuses_acts),
        cmocka_unit_test (test_access_tokens_are_read_again),
        cmocka_unit_test (test_access_token_file_of_others_is_refused),
        cmocka_unit_test (test_rates_let_a_burst_and_then_the_rate),
        cmocka_unit_test (test_rates_know_a_bounded_number_of_clients),
        cmocka_unit_test (test_problem_codes_have_their_status),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
