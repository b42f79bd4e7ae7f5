/* Settings: every kind of value, files, checks. SPDX-License-Identifier: MIT */
#include "unit_config.h"

static const setting_t *
s_row (const settings_t *settings, const char *name) {
    for (size_t i = 0; i < settings->count; i++) {
        if (strcmp (settings->rows[i].name, name) == 0) {
            return &settings->rows[i];
        }
    }
    fail_msg ("no setting %s", name);
    return NULL;
}

static const char *
s_printed (const setting_t *row, const void *base) {
    static char text[4096];
    ef_buf_t out = {0};
    config_print (row, base, &out);
    assert_true (out.size < sizeof text);
    snprintf (text, sizeof text, "%.*s", (int)out.size, out.data ? (char *)out.data : "");
    ef_buf_free (&out);
    return text;
}

static const struct {
    const char *key;
    const char *value;
    const char *printed; /* NULL: it is wrong */
} s_values[] = {
    {"capacity", "12", "12"},
    {"capacity", "1.5", NULL},
    {"capacity", "-1", NULL},
    {"capacity", "nan", NULL},
    {"capacity", "", NULL},
    {"capacity", "1k", NULL},
    {"capacity_bytes", "65536", "64KiB"},
    {"capacity_bytes", "1.5MiB", "1536KiB"},
    {"capacity_bytes", "2GB", "2GB"},
    {"capacity_bytes", "65537", "65537"},
    {"capacity_bytes", "1mib", NULL},
    {"on_full", "refuse", "refuse"},
    {"on_full", "refus", NULL},
    {"on_full", "", NULL},
    {"overflow_rate", "250/s", "250/s"},
    {"overflow_rate", "120/m", "2/s"},
    {"overflow_rate", "0", NULL},
    {"lease", "90s", "90s"},
    {"lease", "2m", "2m"},
    {"lease", "0.5s", "500ms"},
    {"lease", "24h", "1d"},
    {"lease", "25h", NULL},
    {"lease", "5", NULL},
    {"lease", "5 s", NULL},
    {"lease_total", "7d", "7d"},
    {"lease_total", "1s", NULL}, /* shorter than a lease */
    {"retry", "fixed", "fixed"},
    {"retry", "random", "random"},
    {"retry", "sometimes", NULL},
    {"retry_factor", "1.7", "1.7"},
    {"retry_factor", "0.5", NULL},
    {"retry_jitter", "30%", "30%"},
    {"retry_jitter", "0.125", "0.125"},
    {"retry_jitter", "0", "0"},
    {"retry_jitter", "100%", "1"},
    {"retry_jitter", "101%", NULL},
    {"retry_jitter", "1.01", NULL},
    {"retry_budget", "0.2", "0.2"},
    {"dedupe", "0", "0"},
    {"dedupe", "36h", "36h"},
    {"dedupe", "31d", NULL},
    {"dedupe_count", "0", NULL},
    {"order", "topic", "topic"},
    {"order", "both", NULL},
    {"on_blocked", "park", "park"},
    {"fair_by", "user", "user"},
    {"fair_by", "topic", NULL},
    {"weight", "0", NULL},
    {"rate", "30/m", "30/m"},
    {"rate", "1000/h", "1000/h"},
    {"rate", "60/m", "1/s"},
    {"rate", "0.3/s", "18/m"},
    {"rate", "0.123456789/s", "0.123456789"},
    {"rate", "0/s", "0"},
    {"rate", "20/day", NULL},
    {"rate", "fast", NULL},
    {"quota", "20/day by user", "20/day by user"},
    {"quota", "20/d by  key", "20/day by key"},
    {"quota", "5/m", "5/minute"},
    {"quota", "7/second by topic", "7/second by topic"},
    {"quota", "100/h", "100/hour"},
    {"quota", "", ""},
    {"quota", "0", ""},
    {"quota", "20", NULL},
    {"quota", "20/week", NULL},
    {"quota", "20/day by", NULL},
    {"quota", "20/day by mood", NULL},
    {"quota", "20/day per user", NULL},
    {"quota", "-1/day", NULL},
    {"quota", "4294967296/day", NULL},
    {"quota_window", "sliding", "sliding"},
    {"over_quota", "dead", "dead"},
    {"breaker", "50%", "50%"},
    {"breaker", "1.5", NULL},
    {"breaker_cooldown", "10m", NULL}, /* longer than its cap */
    {"on_open", "refuse", "refuse"},
    {"on_done", "email", "email"},
    {"on_done", "nowhere", NULL},
    {"on_done", "work", NULL}, /* to itself */
    {"on_dead", "a b", NULL},
    {"schemas", "1, 2,30", "1, 2, 30"},
    {"schemas", "", ""},
    {"schemas", "1,,2", NULL},
    {"schemas", "one", NULL},
    {"schemas", "4294967296", NULL},
    {"schemas", "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", NULL},
    {"dead_on", "65, 55*,BAD_*", "65, 55*, BAD_*"},
    {"dead_on", "", ""},
    {"dead_on", "65 66", NULL},
    {"dead_on", "65,", NULL},
    {"retry_on", "429 fixed base=10s attempts=20; 5* exponential base=1s cap=1m",
     "429 fixed base=10s attempts=20; 5* exponential cap=1m"},
    {"retry_on", "TIMEOUT linear", "TIMEOUT linear"},
    {"retry_on", "TIMEOUT base=20m", "TIMEOUT exponential base=20m"},
    {"retry_on", "X random base=1s cap=9s jitter=50% factor=3",
     "X random factor=3 cap=9s jitter=50%"},
    {"retry_on", "X sometimes", NULL},
    {"retry_on", "X base=soon", NULL},
    {"retry_on", "X colour=red", NULL},
    {"retry_on", ";", NULL},
    {"quota_zone", "UTC", "UTC"},
    {"quota_zone", "", "UTC"},
    {"quota_zone", "Europe/Berlin", "Europe/Berlin"},
    {"quota_zone", "Europe/Nowhere", NULL},
    {"quota_zone", "../../etc/passwd", NULL},
    {"quota_zone", "Europe", NULL},
};

static void
test_value_is_read_and_printed (void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof s_values / sizeof s_values[0]; i++) {
        read_t *self = read_setting (s_values[i].key, s_values[i].value);
        if (s_values[i].printed == NULL) {
            if (self->rc == 0 || strstr (self->error, "expected") == NULL) {
                fail_msg ("%s = \"%s\" was taken: %s", s_values[i].key, s_values[i].value,
                          self->error);
            }
            read_done (self);
            continue;
        }
        if (self->rc) {
            fail_msg ("%s = \"%s\": %s", s_values[i].key, s_values[i].value, self->error);
        }
        const char *printed = s_printed (s_row (&config_topic_rows, s_values[i].key),
                                         config_topic_find (&self->config, "work"));
        if (strcmp (printed, s_values[i].printed) != 0) {
            fail_msg ("%s = \"%s\" is printed as \"%s\"", s_values[i].key, s_values[i].value,
                      printed);
        }
        read_done (self);
    }
}

/* What was printed is a file that says the same. */
static void
test_printed_topic_is_read_as_the_same (void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof s_values / sizeof s_values[0]; i++) {
        if (s_values[i].printed == NULL) {
            continue;
        }
        read_t *first = read_setting (s_values[i].key, s_values[i].value);
        ef_buf_t map = {0};
        char text[8000] = "topic\n    work\n";
        const ef_config_topic_t *topic = config_topic_find (&first->config, "work");
        ef_config_print_topic (&topic->topic, &map);
        ef_cursor_t cursor = ef_cursor (map.data, map.size);
        uint32_t count;
        assert_int_equal (ef_get_map (&cursor, &count), 0);
        assert_int_equal (count, config_topic_rows.count + 1);
        for (uint32_t k = 0; k < count; k++) {
            ef_span_t name;
            ef_span_t value;
            assert_int_equal (ef_get_str (&cursor, &name), 0);
            assert_int_equal (ef_get_str (&cursor, &value), 0);
            size_t used = strlen (text);
            bool is_pool = name.size > 5 && memcmp (name.data, "pool/", 5) == 0;
            snprintf (text + used, sizeof text - used, "        %s%.*s = \"%.*s\"\n",
                      is_pool ? "pool\n            " : "", (int)name.size - 5 * is_pool,
                      (const char *)name.data + 5 * is_pool, (int)value.size,
                      (const char *)value.data);
        }
        assert_int_equal (ef_cursor_left (&cursor), 0);
        read_t *second = read_text (text);
        if (second->rc) {
            fail_msg ("%s", second->error);
        }
        ef_config_changes_t changes;
        ef_config_update (&first->config, &second->config, &changes);
        assert_int_equal (changes.changed.count + changes.needs_restart.count, 0);
        ef_config_changes_free (&changes);
        ef_buf_free (&map);
        read_done (first);
        read_done (second);
    }
}

static void
test_rules_take_from_their_topic_what_they_leave_open (void **state) {
    (void)state;
    read_t *self = read_text ("topic\n"
                              "    work\n"
                              "        retry_on = \"A; B linear base=10m; C cap=2s\"\n"
                              "        dead_on = \"D\"\n"
                              "        retry = fixed\n" /* behind them: it counts all the same */
                              "        retry_base = 3s\n"
                              "        retry_jitter = 0\n"
                              "        attempts = 9\n");
    assert_int_equal (self->rc, 0);
    const ef_topic_config_t *topic = &config_topic_find (&self->config, "work")->topic;
    assert_int_equal (topic->rule_count, 4);
    const ef_rule_t *rules = topic->rules;
    assert_string_equal (rules[0].pattern, "D");
    assert_true (rules[0].is_permanent);
    assert_string_equal (rules[1].pattern, "A");
    assert_int_equal (rules[1].policy.kind, EF_POLICY_FIXED);
    assert_int_equal (rules[1].policy.base_ms, 3000);
    assert_int_equal (rules[1].policy.cap_ms, 300000);
    assert_int_equal (rules[1].policy.attempts, 9);
    assert_true (rules[1].policy.jitter == 0 && rules[1].policy.factor == 2);
    assert_int_equal (rules[2].policy.kind, EF_POLICY_LINEAR);
    assert_int_equal (rules[2].policy.base_ms, 600000);
    assert_int_equal (rules[2].policy.cap_ms, 600000); /* the topic's would cut the base */
    assert_int_equal (rules[3].policy.cap_ms, 2000);
    read_done (self);
}

static void
test_more_rules_than_fit_are_refused (void **state) {
    (void)state;
    read_t *self = read_text ("topic\n    work\n"
                              "        dead_on = \"1,2,3,4,5,6,7,8,9,10\"\n"
                              "        retry_on = \"1;2;3;4;5;6;7\"\n");
    assert_int_equal (self->rc, -1);
    assert_non_null (strstr (self->error, "16 rules"));
    assert_non_null (strstr (self->error, ":4: "));
    read_done (self);
    self = read_text ("topic\n    work\n"
                      "        dead_on = \"1,2,3,4,5,6,7,8,9,10\"\n"
                      "        retry_on = \"1;2;3;4;5;6\"\n"
                      "        dead_on = \"1\"\n"); /* in the place of the ten */
    assert_int_equal (self->rc, 0);
    assert_int_equal (config_topic_find (&self->config, "work")->topic.rule_count, 7);
    read_done (self);
}

static void
test_server_settings_are_read (void **state) {
    (void)state;
    read_t *self = read_text ("server\n    publisher_rate = 90/m\n    publisher_burst = 7\n"
                              "    retention = 400d\n    retention_bytes = 1GiB\n"
                              "    workers_max = 12\n    load_max = 1.5\n"
                              "    memory_free_min = 512MiB\n");
    assert_int_equal (self->rc, 0);
    assert_true (self->config.publisher_rate == 1.5);
    assert_int_equal (self->config.publisher_burst, 7);
    assert_int_equal (self->config.retention_ms, 400ull * 86400000);
    assert_int_equal (self->config.retention_bytes, 1u << 30);
    assert_int_equal (self->config.machine.workers_max, 12);
    assert_true (self->config.machine.load_max == 1.5);
    assert_true (self->config.machine.memory_free_min == 512.0 * (1u << 20));
    assert_string_equal (s_printed (s_row (&config_server, "memory_free_min"), &self->config),
                         "512MiB");
    read_done (self);
    self = read_text ("server\n    memory_free_min = 5%\n");
    assert_true (self->config.machine.memory_free_min == 0.05);
    assert_string_equal (s_printed (s_row (&config_server, "memory_free_min"), &self->config),
                         "5%");
    read_done (self);
}

static void
test_routes_are_read_in_order (void **state) {
    (void)state;
    read_t *self = read_text ("routes\n"
                              "    welcome\n"
                              "        type = \"user.*\"\n"
                              "        header = \"source=shop*\"\n"
                              "        header = \"x = 1=2\"\n"
                              "        to = \"email, db\"\n"
                              "    rest\n"
                              "        to = api\n");
    assert_int_equal (self->rc, 0);
    assert_int_equal (self->config.route_count, 2);
    const ef_route_t *route = &self->config.routes[0];
    assert_string_equal (route->name, "welcome");
    assert_string_equal (route->type, "user.*");
    assert_int_equal (route->header_count, 2);
    assert_string_equal (route->headers[0].name, "source");
    assert_string_equal (route->headers[0].pattern, "shop*");
    assert_string_equal (route->headers[1].name, "x");
    assert_string_equal (route->headers[1].pattern, "1=2");
    assert_int_equal (route->topic_count, 2);
    assert_string_equal (route->topics[0], "email");
    assert_string_equal (route->topics[1], "db");
    assert_string_equal (self->config.routes[1].name, "rest");
    read_done (self);
}

/* A file that is wrong, the line where, and a word of the reason. */
static const struct {
    const char *text;
    int line; /* 0: none is named */
    const char *reason;
} s_wrong[] = {
    {"server\n    nmae = x\n", 2, "unknown setting nmae"},
    {"server\n    retentoin = 1h\n", 2, "unknown setting retentoin: expected perhaps retention"},
    {"topic\n    a\n        quota = \"0/day\"\n", 3, "none at all would ever be handed out"},
    {"sever\n    name = x\n", 1, "unknown section"},
    {"# a comment\n\nserver\n\n    max_event = much\n", 5, "a size such as"},
    {"topic\n    b_deadletter\n", 2, "topic name"},
    {"topic\n    work\n        lease = 1ms\n", 3, "from 10ms to 1d"},
    {"topic\n    work\n        pool\n            max = 0\n", 4, "from 1 to 1000"},
    {"topic\n    work\n    defaults\n        lease = 1s\n", 3, "before them"},
    {"routes\n    a\n        type = x\n", 3, "expected to = topics"},
    {"routes\n    a\n        to = \"api, api\"\n", 3, "api is there twice"},
    {"routes\n    a\n        to = \"api,, db\"\n", 3, "an item is empty"},
    {"routes\n    a\n        to = \"a/b\"\n", 3, "a/b is no topic's name"},
    {"routes\n    a\n        header = nothing\n        to = api\n", 3, "NAME=PATTERN"},
    {"routes\n    a\n        header = \"=x\"\n        to = api\n", 3, "NAME=PATTERN"},
    {"routes\n    a\n        header = \"1=x\"\n        header = \"2=x\"\n        header = \"3=x\"\n"
     "        header = \"4=x\"\n        header = \"5=x\"\n        to = api\n",
     7, "up to 4"},
    {"routes\n    a\n        to = api\n    a\n        to = db\n", 4, "there twice"},
    {"routes\n    a\n        to = elsewhere\n", 0, "routes/a: to = elsewhere"},
    {"routes\n    a\n        to = api\n    b\n        type = x\n        to = db\n", 0,
     "routes/b is never reached, a before it"},
    {"topic\n    defaults\n        on_dead = email\n", 0, "lead round: email > email"},
    {"topic\n    a\n        on_done = b\n    b\n        on_dead = c\n    c\n        on_done = a\n"
     "    d\n        on_done = a\n",
     0, " > "},
    {"topic\n    work\n        order = topic\n        fair_by = user\n", 0, "nothing to be fair"},
    {"topic\n    work\n        quota = 1/day\n        quota_window = sliding\n"
     "        quota_zone = Europe/Berlin\n",
     0, "no midnight"},
    {"server\n    front = \"tcp://0.0.0.0:1\"\n", 0, "loopback"},
    {"server\n    max_message = 1KiB\n", 0, "max_event"},
    {"topic\n    work\n        pool\n            command = x\n            min = 9\n", 0, "min at"},
    {"server\n    workers_max = 2\ntopic\n    work\n        pool\n            command = x\n"
     "            min = 3\n",
     0, "workers_max = 2 expected no more"},
};

static void
test_wrong_file_is_refused_with_its_line (void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof s_wrong / sizeof s_wrong[0]; i++) {
        read_t *self = read_text (s_wrong[i].text);
        char line[16];
        snprintf (line, sizeof line, ":%d: ", s_wrong[i].line);
        if (self->rc == 0 || strstr (self->error, s_wrong[i].reason) == NULL ||
            strstr (self->error, "expected") == NULL ||
            (s_wrong[i].line && strstr (self->error, line) == NULL)) {
            fail_msg ("%s is answered: %s", s_wrong[i].text, self->error);
        }
        read_done (self);
    }
}

static void
test_long_line_is_refused (void **state) {
    (void)state;
    char text[1200];
    memset (text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    memcpy (text, "server\n    name = ", 18);
    read_t *self = read_text (text);
    assert_int_equal (self->rc, -1);
    assert_non_null (strstr (self->error, ":2: the line is too long"));
    read_done (self);
}

static void
test_route_may_name_a_topic_that_will_be_made (void **state) {
    (void)state;
    read_t *self =
        read_text ("server\n    auto_create = 1\nroutes\n    a\n        to = elsewhere\n");
    assert_int_equal (self->rc, 0);
    read_done (self);
}

static void
test_empty_routes_are_none_and_no_routes_are_the_defaults (void **state) {
    (void)state;
    read_t *self = read_text ("routes\n");
    assert_int_equal (self->rc, 0);
    assert_int_equal (self->config.route_count, 0);
    read_done (self);
    self = read_text ("server\n    name = x\n");
    assert_int_equal (self->rc, 0);
    assert_int_equal (self->config.route_count, 4);
    assert_string_equal (self->config.routes[3].topics[0], "api");
    read_done (self);
}

static void
test_more_routes_than_fit_are_refused (void **state) {
    (void)state;
    ef_buf_t text = {0};
    char line[80];
    ef_buf_put (&text, "routes\n", 7);
    for (unsigned i = 0; i <= EF_ROUTES_MAX; i++) {
        snprintf (line, sizeof line, "    r%u\n        type = t%u\n        to = api\n", i, i);
        ef_buf_put (&text, line, strlen (line));
    }
    ef_buf_put (&text, "", 1);
    read_t *self = read_text ((char *)text.data);
    assert_int_equal (self->rc, -1);
    assert_non_null (strstr (self->error, "up to 256 routes"));
    assert_int_equal (self->config.route_count, EF_ROUTES_MAX);
    ef_buf_free (&text);
    read_done (self);
}

static void
test_environment_wins_over_the_file (void **state) {
    (void)state;
    static const char *const pairs[][2] = {
        {"EVENTFLOW_SERVER_PUBLISHER_RATE", "5/s"},
        {"EVENTFLOW_TOPIC_SEND_MAIL_QUOTA", "20/day by user"},
        {"EVENTFLOW_TOPIC_SEND_MAIL_RETRY_BASE", "2s"},
        {"EVENTFLOW_TOPIC_SEND_MAIL_RETRY_ON", "X attempts=3"},
        {"EVENTFLOW_POOL_SEND_MAIL_MIN", "2"},
        {"EVENTFLOW_ROUTE_REST_TO", "db"},
        {"EVENTFLOW_ROUTE_REST_HEADER", "b=2"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        setenv (pairs[i][0], pairs[i][1], 1);
    }
    const char text[] = "topic\n    send-mail\n        quota = 1/hour\n"
                        "routes\n    rest\n        header = \"a=1\"\n        to = api\n";
    read_t *self = read_text (text);
    assert_int_equal (self->rc, 0);
    const ef_config_topic_t *topic = config_topic_find (&self->config, "send-mail");
    assert_true (self->config.publisher_rate == 5);
    assert_int_equal (topic->topic.quota.limit, 20);
    assert_int_equal (topic->topic.quota.by, EF_BY_USER);
    assert_int_equal (topic->topic.rules[0].policy.base_ms, 2000);
    assert_int_equal (topic->topic.rules[0].policy.attempts, 3);
    assert_int_equal (topic->pool.min, 2);
    assert_string_equal (self->config.routes[0].topics[0], "db");
    assert_int_equal (self->config.routes[0].header_count, 1);
    assert_string_equal (self->config.routes[0].headers[0].name, "b");
    read_done (self);
    setenv ("EVENTFLOW_TOPIC_SEND_MAIL_QUOTA", "many", 1);
    self = read_text (text);
    assert_int_equal (self->rc, -1);
    assert_non_null (strstr (self->error, "environment EVENTFLOW_TOPIC_SEND_MAIL_QUOTA: quota"));
    read_done (self);
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        unsetenv (pairs[i][0]);
    }
}

int
main (int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_value_is_read_and_printed),
        cmocka_unit_test (test_printed_topic_is_read_as_the_same),
        cmocka_unit_test (test_rules_take_from_their_topic_what_they_leave_open),
        cmocka_unit_test (test_more_rules_than_fit_are_refused),
        cmocka_unit_test (test_server_settings_are_read),
        cmocka_unit_test (test_routes_are_read_in_order),
        cmocka_unit_test (test_wrong_file_is_refused_with_its_line),
        cmocka_unit_test (test_long_line_is_refused),
        cmocka_unit_test (test_route_may_name_a_topic_that_will_be_made),
        cmocka_unit_test (test_empty_routes_are_none_and_no_routes_are_the_defaults),
        cmocka_unit_test (test_more_routes_than_fit_are_refused),
        cmocka_unit_test (test_environment_wins_over_the_file),
    };
    if (argc == 2 && strcmp (argv[1], "--zone") == 0) {
        return ef_zone_write (); /* as eventflowd does */
    }
    return cmocka_run_group_tests (tests, NULL, NULL);
}
