/* What is read of a machine: /proc, control groups of both versions. SPDX-License-Identifier: MIT
 */
#include "unit.h"

#include "../../broker/actors/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#define MIB 1048576ull

static char s_root[64];

/* A file below the root, with the directories that it needs. */
static void
s_put (const char *path, const char *text) {
    char name[512];
    snprintf (name, sizeof name, "%s%s", s_root, path);
    for (char *at = name + strlen (s_root) + 1; (at = strchr (at, '/')) != NULL; at++) {
        *at = 0;
        (void)mkdir (name, 0700); /* it may be there */
        *at = '/';
    }
    FILE *file = fopen (name, "w");
    assert_non_null (file);
    assert_true (fputs (text, file) >= 0);
    fclose (file);
}

static int
s_begin (void **state) {
    (void)state;
    strcpy (s_root, "/tmp/ef-machine-XXXXXX");
    assert_non_null (mkdtemp (s_root));
    s_put ("/proc/loadavg", "3.50 1.00 0.50 2/300 4711\n");
    s_put ("/proc/meminfo", "MemTotal:        8192 kB\nMemFree:  100 kB\n"
                            "MemAvailable:    4096 kB\nBuffers: 1 kB\n");
    return 0;
}

static int
s_end (void **state) {
    (void)state;
    char command[128];
    snprintf (command, sizeof command, "rm -rf '%s'", s_root);
    return system (command);
}

static ef_machine_t
s_read (void) {
    ef_machine_t machine;
    ef_machine_read (&machine, s_root);
    return machine;
}

static void
test_machine_without_groups_is_all_of_it (void **state) {
    (void)state;
    ef_machine_t machine = s_read ();
    assert_int_equal (machine.memory_bytes, 8 * MIB);
    assert_int_equal (machine.free_bytes, 4 * MIB);
    assert_true (machine.load > 3.4 && machine.load < 3.6);
    assert_true (machine.cores >= 1);
}

static void
test_machine_with_groups_of_version_2_is_the_strictest (void **state) {
    (void)state;
    s_put ("/proc/self/cgroup", "0::/system.slice/eventflow.service\n");
    s_put ("/sys/fs/cgroup/system.slice/memory.max", "6291456\n");
    s_put ("/sys/fs/cgroup/system.slice/memory.current", "5242880\n");
    s_put ("/sys/fs/cgroup/system.slice/memory.stat", "anon 1\ninactive_file 1048576\nslab 3\n");
    s_put ("/sys/fs/cgroup/system.slice/cpu.max", "50000 100000\n");
    s_put ("/sys/fs/cgroup/system.slice/eventflow.service/memory.max", "max\n");
    s_put ("/sys/fs/cgroup/system.slice/eventflow.service/memory.current", "4194304\n");
    s_put ("/sys/fs/cgroup/system.slice/eventflow.service/cpu.max", "max 100000\n");
    ef_machine_t machine = s_read ();
    assert_int_equal (machine.memory_bytes, 6 * MIB);
    assert_int_equal (machine.free_bytes, 2 * MIB);
    assert_true (machine.cores > 0.49 && machine.cores < 0.51);
}

static void
test_machine_with_groups_of_version_1_is_the_strictest (void **state) {
    (void)state;
    s_put ("/proc/self/cgroup", "5:memory:/a\n3:cpu,cpuacct:/\n1:name=systemd:/\n");
    s_put ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    s_put ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n");
    s_put ("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2097152\n");
    s_put ("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "3145728\n");
    s_put ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    s_put ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    ef_machine_t machine = s_read ();
    assert_int_equal (machine.memory_bytes, 2 * MIB);
    assert_int_equal (machine.free_bytes, 0);
    assert_true (machine.cores >= 1);
}

static void
test_machine_of_which_nothing_is_known_bounds_nothing (void **state) {
    (void)state;
    ef_machine_t machine;
    ef_machine_read (&machine, "/nowhere");
    assert_false (ef_machine_is_short (&machine, 0.99));
    assert_false (ef_machine_is_short (&machine, 1e12));
    assert_false (ef_machine_is_loaded (&machine, 0.01));
}

static void
test_machine_is_judged_by_share_or_size (void **state) {
    (void)state;
    ef_machine_t machine = {.load = 9, .cores = 2, .memory_bytes = 1000, .free_bytes = 100};
    assert_true (ef_machine_is_short (&machine, 0.11));
    assert_false (ef_machine_is_short (&machine, 0.1));
    assert_true (ef_machine_is_short (&machine, 101));
    assert_false (ef_machine_is_short (&machine, 100));
    assert_false (ef_machine_is_short (&machine, 0));
    assert_true (ef_machine_is_loaded (&machine, 4));
    assert_false (ef_machine_is_loaded (&machine, 4.5));
    assert_false (ef_machine_is_loaded (&machine, 0));
}

static void
test_machine_that_we_are_on_makes_sense (void **state) {
    (void)state;
    ef_machine_t machine;
    ef_machine_read (&machine, "");
    assert_true (machine.memory_bytes > MIB && machine.free_bytes <= machine.memory_bytes);
    assert_true (machine.cores > 0 && machine.load >= 0);
    assert_true (ef_machine_rss (getpid ()) > MIB / 4);
    assert_int_equal (ef_machine_rss (0), 0);
}

int
main (void) {
#define TEST(name) cmocka_unit_test_setup_teardown (name, s_begin, s_end)
    const struct CMUnitTest tests[] = {
        TEST (test_machine_without_groups_is_all_of_it),
        TEST (test_machine_with_groups_of_version_2_is_the_strictest),
        TEST (test_machine_with_groups_of_version_1_is_the_strictest),
        TEST (test_machine_of_which_nothing_is_known_bounds_nothing),
        TEST (test_machine_is_judged_by_share_or_size),
        TEST (test_machine_that_we_are_on_makes_sense),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
