/* Settings: the sample, time zones, what a reload changes. SPDX-License-Identifier: MIT */
#include "unit_config.h"

#include "../../proto/event.h"

/* The sample names every setting, each with its default. */
static void
test_sample_is_the_defaults (void **state) {
    (void)state;
    const settings_t *const tables[] = {&config_server, &config_topic_rows, &config_pool_rows,
                                        &config_route_rows};
    ef_buf_t text = {0};
    char line[256];
    FILE *file = fopen (EF_SAMPLE, "r");
    assert_non_null (file);
    while (fgets (line, sizeof line, file)) {
        ef_buf_put (&text, line, strlen (line));
    }
    fclose (file);
    ef_buf_put (&text, "", 1);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        for (size_t k = 0; k < tables[i]->count; k++) {
            snprintf (line, sizeof line, " %s = ", tables[i]->rows[k].name);
            if (strstr ((char *)text.data, line) == NULL) {
                fail_msg ("the sample doesn't name %s", tables[i]->rows[k].name);
            }
        }
    }
    read_t *self = read_text ((char *)text.data);
    assert_string_equal (self->error, "");
    ef_config_t defaults;
    ef_config_changes_t changes;
    ef_config_init (&defaults);
    assert_int_equal (ef_config_check (&defaults, self->error), 0);
    ef_config_update (&defaults, &self->config, &changes);
    if (changes.changed.count || changes.needs_restart.count) {
        fail_msg ("the sample has another default of %s", changes.changed.count
                                                              ? changes.changed.items[0]
                                                              : changes.needs_restart.items[0]);
    }
    ef_config_changes_free (&changes);
    ef_config_free (&defaults);
    ef_buf_free (&text);
    read_done (self);
}

static const ef_zone_t *
s_zone (const char *name) {
    char why[200] = "";
    const ef_zone_t *zone = ef_zone_find (name, why);
    if (zone == NULL) {
        fail_msg ("%s: %s", name, why);
    }
    return zone;
}

static void
test_zone_has_the_days_from_two_days_ago_for_ten_years (void **state) {
    (void)state;
    const ef_zone_t *zone = s_zone ("Asia/Kolkata"); /* 5:30 hours, the same all year */
    int64_t now = (int64_t)ef_wall_ms ();
    assert_true (zone->midnights[0] <= now - 2 * 86400000ll);
    assert_true (zone->midnights[0] > now - 4 * 86400000ll);
    assert_true (zone->midnights[zone->count - 1] > now + 3650 * 86400000ll);
    for (uint32_t i = 0; i < zone->count; i++) {
        assert_int_equal ((zone->midnights[i] + 19800000) % 86400000, 0);
        assert_true (i == 0 || zone->midnights[i] - zone->midnights[i - 1] == 86400000);
    }
    assert_ptr_equal (zone, s_zone ("Asia/Kolkata"));
}

/* A year has a day of 23 and one of 25 hours, and midnight in winter is at 23:00 UTC. */
static void
test_zone_knows_the_days_on_which_clocks_change (void **state) {
    (void)state;
    const ef_zone_t *zone = s_zone ("Europe/Berlin");
    unsigned shorts = 0;
    unsigned longs = 0;
    for (uint32_t i = 1; i <= 3650; i++) {
        int64_t hours = (zone->midnights[i] - zone->midnights[i - 1]) / 3600000;
        int64_t utc = zone->midnights[i] / 3600000 % 24;
        assert_true (hours >= 23 && hours <= 25 && (utc == 22 || utc == 23));
        shorts += hours == 23;
        longs += hours == 25;
    }
    assert_true (shorts >= 9 && shorts <= 11 && longs >= 9 && longs <= 11);
}

/* Where clocks go forward at midnight itself, that day begins at 1:00; where they go back from 1:00
   to midnight, it begins at the first of the two. */
static void
test_zone_whose_clocks_change_at_midnight_has_every_day_once (void **state) {
    (void)state;
    static const char *const names[] = {"Africa/Cairo", "America/Havana", "Asia/Beirut"};
    for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
        const ef_zone_t *zone = s_zone (names[k]);
        unsigned others = 0;
        for (uint32_t i = 1; i < zone->count; i++) {
            int64_t hours = (zone->midnights[i] - zone->midnights[i - 1]) / 3600000;
            assert_true (hours >= 23 && hours <= 25);
            others += hours != 24;
        }
        assert_true (others >= 18);
    }
}

static void
test_unknown_zone_names_the_package (void **state) {
    (void)state;
    read_t *self = read_setting ("quota_zone", "Europe/Nowhere");
    assert_non_null (strstr (self->error, ":3: quota_zone = Europe/Nowhere"));
    assert_non_null (strstr (self->error, "package tzdata"));
    read_done (self);
}

static bool
s_has (const ef_setting_names_t *names, const char *name) {
    for (uint32_t i = 0; i < names->count; i++) {
        if (strcmp (names->items[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static void
test_reload_changes_what_can_change (void **state) {
    (void)state;
    read_t *old = read_text ("topic\n"
                             "    work\n"
                             "        lease = 1s\n"
                             "        pool\n"
                             "            command = true\n"
                             "    gone\n");
    read_t *fresh = read_text ("server\n"
                               "    front = \"tcp://127.0.0.1:9999\"\n"
                               "    log_level = debug\n"
                               "    publisher_rate = 3/s\n"
                               "topic\n"
                               "    work\n"
                               "        lease = 2s\n"
                               "        quota = 20/day\n"
                               "        pool\n"
                               "            command = true\n"
                               "            max = 9\n"
                               "            stall = 2s\n"
                               "    new\n"
                               "        attempts = 2\n"
                               "    api\n"
                               "        pool\n"
                               "            command = true\n"
                               "routes\n"
                               "    all\n"
                               "        to = new\n");
    ef_config_changes_t changes;
    assert_int_equal (old->rc | fresh->rc, 0);
    ef_config_update (&old->config, &fresh->config, &changes);
    static const char *const changed[] = {
        "server/log_level",    "server/publisher_rate", "topic/work/lease", "topic/work/quota",
        "topic/work/pool/max", "topic/work/pool/stall", "topic/new",        "routes"};
    static const char *const others[] = {"server/front", "topic/gone", "topic/api/pool/command"};
    assert_int_equal (changes.changed.count, 8);
    assert_int_equal (changes.needs_restart.count, 3);
    for (size_t i = 0; i < 8; i++) {
        assert_true (s_has (&changes.changed, changed[i]));
    }
    for (size_t i = 0; i < 3; i++) {
        assert_true (s_has (&changes.needs_restart, others[i]));
    }
    const ef_config_t *now = &old->config;
    assert_string_equal (now->front, "tcp://127.0.0.1:5551");
    assert_int_equal (now->log_level, EF_LOG_DEBUG);
    assert_true (now->publisher_rate == 3);
    assert_int_equal (config_topic_find (now, "work")->topic.lease_ms, 2000);
    assert_int_equal (config_topic_find (now, "work")->pool.max, 9);
    assert_int_equal (config_topic_find (now, "new")->topic.retry.attempts, 2);
    assert_non_null (config_topic_find (now, "gone"));
    assert_string_equal (config_topic_find (now, "api")->pool.command, "");
    assert_int_equal (now->route_count, 1);
    assert_true (changes.has_routes);
    assert_int_equal (changes.topic_count, 2);
    assert_string_equal (now->topics[changes.topics[0]].topic.name, "work");
    assert_string_equal (now->topics[changes.topics[1]].topic.name, "new");
    ef_config_changes_free (&changes);
    ef_config_update (&old->config, &fresh->config, &changes); /* what can't is said again */
    assert_int_equal (changes.changed.count, 0);
    assert_int_equal (changes.needs_restart.count, 3);
    assert_int_equal (changes.topic_count, 0);
    ef_config_changes_free (&changes);
    read_done (old);
    read_done (fresh);
}

int
main (int argc, char **argv) {
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_sample_is_the_defaults),
        cmocka_unit_test (test_zone_has_the_days_from_two_days_ago_for_ten_years),
        cmocka_unit_test (test_zone_knows_the_days_on_which_clocks_change),
        cmocka_unit_test (test_zone_whose_clocks_change_at_midnight_has_every_day_once),
        cmocka_unit_test (test_unknown_zone_names_the_package),
        cmocka_unit_test (test_reload_changes_what_can_change),
    };
    if (argc == 2 && strcmp (argv[1], "--zone") == 0) {
        return ef_zone_write (); /* as eventflowd does */
    }
    return cmocka_run_group_tests (tests, NULL, NULL);
}
