/* Which hosts and addresses may be called. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../workers/api/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

/* A socket address of the text; aborts where it is none. */
static const struct sockaddr *
s_address (const char *text) {
    static union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address;
    memset (&address, 0, sizeof address);
    if (strchr (text, ':')) {
        address.v6.sin6_family = AF_INET6;
        assert_int_equal (inet_pton (AF_INET6, text, &address.v6.sin6_addr), 1);
    } else {
        address.v4.sin_family = AF_INET;
        assert_int_equal (inet_pton (AF_INET, text, &address.v4.sin_addr), 1);
    }
    return &address.any;
}

static address_list_t *
s_list (const char *text) {
    char error[512] = "";
    address_list_t *list = address_list_new (text, error);
    if (list == NULL) {
        fail_msg ("%s: %s", text, error);
    }
    return list;
}

static void
test_address_public_or_not_by_the_registries (void **state) {
    (void)state;
    static const char *const denied[] = {"0.0.0.0",
                                         "0.1.2.3",
                                         "10.0.0.1",
                                         "10.255.255.255",
                                         "100.64.0.1",
                                         "100.127.1.1",
                                         "127.0.0.1",
                                         "127.255.0.1",
                                         "169.254.169.254",
                                         "172.16.0.1",
                                         "172.31.255.255",
                                         "192.0.0.8",
                                         "192.0.2.1",
                                         "192.168.1.1",
                                         "198.18.0.1",
                                         "198.19.255.1",
                                         "198.51.100.1",
                                         "203.0.113.9",
                                         "224.0.0.1",
                                         "239.255.255.255",
                                         "240.0.0.1",
                                         "255.255.255.255",
                                         "::",
                                         "::1",
                                         "::127.0.0.1",
                                         "::ffff:127.0.0.1",
                                         "::ffff:10.0.0.1",
                                         "::ffff:169.254.169.254",
                                         "64:ff9b::a00:1",
                                         "64:ff9b:1::1",
                                         "fc00::1",
                                         "fdff::1",
                                         "fe80::1",
                                         "fec0::1",
                                         "ff02::1",
                                         "2001::1",
                                         "2001:1ff::1",
                                         "2001:db8::1",
                                         "2002:7f00:1::",
                                         "2002:a00:1::",
                                         "3fff::1",
                                         "100::1",
                                         "4000::1"};
    static const char *const open[] = {
        "1.1.1.1",         "9.255.255.255", "11.0.0.0",       "100.63.255.255",   "100.128.0.0",
        "128.0.0.1",       "169.253.0.1",   "172.15.255.255", "172.32.0.1",       "192.0.1.1",
        "192.167.1.1",     "198.17.0.1",    "198.20.0.1",     "223.255.255.255",  "2001:200::1",
        "2606:4700::1111", "2a00:1450::8a", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"};
    for (size_t i = 0; i < sizeof denied / sizeof denied[0]; i++) {
        if (address_is_public (s_address (denied[i]))) {
            fail_msg ("%s was called public", denied[i]);
        }
    }
    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++) {
        if (!address_is_public (s_address (open[i]))) {
            fail_msg ("%s was called not public", open[i]);
        }
    }
    struct sockaddr local = {.sa_family = AF_UNIX};
    assert_false (address_is_public (&local));
}

static void
test_address_without_list_public_hosts_only (void **state) {
    (void)state;
    static const char *const empty[] = {"", " ", "*", " * , "};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        address_list_t *list = s_list (empty[i]);
        assert_true (address_may_call (list, "example.org", 443));
        assert_true (address_may_call (list, "8.8.8.8", 53));
        assert_true (address_may_call (list, "localhost", 80)); /* its address decides */
        assert_false (address_may_call (list, "127.0.0.1", 80));
        assert_false (address_may_call (list, "[::1]", 80));
        assert_false (address_may_call (list, "[::ffff:10.0.0.1]", 80));
        assert_true (address_may_connect (list, "example.org", 443, s_address ("8.8.8.8")));
        assert_false (address_may_connect (list, "example.org", 443, s_address ("10.1.1.1")));
        assert_false (address_may_connect (list, "localhost", 80, s_address ("127.0.0.1")));
        assert_false (address_may_connect (list, "localhost", 80, s_address ("::1")));
        address_list_destroy (&list);
    }
}

static void
test_address_list_of_names (void **state) {
    (void)state;
    address_list_t *list = s_list ("Hooks.example.org, *.partner.example,one.example:8443");
    assert_true (address_may_call (list, "hooks.EXAMPLE.org", 80));
    assert_true (address_may_call (list, "hooks.example.org.", 80));
    assert_true (address_may_call (list, "a.partner.example", 80));
    assert_true (address_may_call (list, "a.b.partner.example.", 80));
    assert_true (address_may_call (list, "one.example", 8443));
    assert_false (address_may_call (list, "one.example", 443));
    assert_false (address_may_call (list, "partner.example", 80));
    assert_false (address_may_call (list, "evilpartner.example", 80));
    assert_false (address_may_call (list, ".partner.example", 80));
    assert_false (address_may_call (list, "xhooks.example.org", 80));
    assert_false (address_may_call (list, "example.org", 80));
    assert_false (address_may_call (list, "8.8.8.8", 80));
    /* A name that is listed is trusted with its addresses, another one isn't with a public one. */
    assert_true (address_may_connect (list, "hooks.example.org", 80, s_address ("10.0.0.1")));
    assert_true (address_may_connect (list, "a.partner.example", 80, s_address ("::1")));
    assert_false (address_may_connect (list, "one.example", 80, s_address ("8.8.8.8")));
    assert_false (address_may_connect (list, "other.example", 80, s_address ("8.8.8.8")));
    address_list_destroy (&list);
}

static void
test_address_list_of_networks (void **state) {
    (void)state;
    address_list_t *list = s_list ("10.1.0.0/16 192.168.1.7 fd00::/8 [::1]:8080 172.16.0.0/12:81");
    assert_true (address_may_call (list, "10.1.255.255", 1));
    assert_false (address_may_call (list, "10.2.0.0", 1));
    assert_true (address_may_call (list, "192.168.1.7", 1));
    assert_false (address_may_call (list, "192.168.1.6", 1));
    assert_true (address_may_call (list, "[fdab::1]", 1));
    assert_true (address_may_call (list, "[::ffff:10.1.0.1]", 1));
    assert_true (address_may_call (list, "::1", 8080));
    assert_false (address_may_call (list, "::1", 8081));
    assert_true (address_may_call (list, "172.31.0.1", 81));
    assert_false (address_may_call (list, "172.31.0.1", 80));
    assert_false (address_may_call (list, "8.8.8.8", 80));    /* the list doesn't say so */
    assert_true (address_may_call (list, "any.example", 80)); /* may resolve to one of them */
    assert_true (address_may_connect (list, "any.example", 80, s_address ("10.1.2.3")));
    assert_true (address_may_connect (list, "any.example", 80, s_address ("::ffff:10.1.2.3")));
    assert_false (address_may_connect (list, "any.example", 80, s_address ("8.8.8.8")));
    assert_false (address_may_connect (list, "any.example", 80, s_address ("127.0.0.1")));
    address_list_destroy (&list);
    list = s_list ("*, 10.0.0.0/8, 0.0.0.0/0:9");
    assert_true (address_may_connect (list, "x", 80, s_address ("8.8.8.8")));
    assert_true (address_may_connect (list, "x", 80, s_address ("10.9.9.9")));
    assert_false (address_may_connect (list, "x", 80, s_address ("127.0.0.1")));
    assert_true (address_may_connect (list, "x", 9, s_address ("127.0.0.1")));
    assert_false (address_may_connect (list, "x", 9, s_address ("::1")));
    address_list_destroy (&list);
}

static void
test_address_list_refuses_what_it_cant_mean (void **state) {
    (void)state;
    static const char *const bad[] = {"10.0.0",      "10.0.0.0/33", "10.0.0.0/",  "::/129",
                                      "10.0.0.0/-1", "a/8",         "host:0",     "host:65536",
                                      "host:x",      "host:",       "http://a",   "a b/c",
                                      ".example",    "*.",          "*x.example", "256.1.1.1",
                                      "a,b?,c",      "10.0.0.0/8x", "user@host"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char error[512] = "";
        address_list_t *list = address_list_new (bad[i], error);
        if (list) {
            fail_msg ("%s was taken", bad[i]);
        }
        assert_non_null (strstr (error, "allow: "));
    }
    char error[512];
    char longest[400];
    memset (longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_null (address_list_new (longest, error));
}

static void
test_address_is_named_by_the_text (void **state) {
    (void)state;
    char text[ADDRESS_TEXT_BYTES];
    address_text (s_address ("169.254.169.254"), text);
    assert_string_equal (text, "169.254.169.254");
    address_text (s_address ("fe80::1"), text);
    assert_string_equal (text, "fe80::1");
    struct sockaddr local = {.sa_family = AF_UNIX};
    address_text (&local, text);
    assert_string_equal (text, "an address of family 1");
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_address_public_or_not_by_the_registries),
        cmocka_unit_test (test_address_without_list_public_hosts_only),
        cmocka_unit_test (test_address_list_of_names),
        cmocka_unit_test (test_address_list_of_networks),
        cmocka_unit_test (test_address_list_refuses_what_it_cant_mean),
        cmocka_unit_test (test_address_is_named_by_the_text),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
