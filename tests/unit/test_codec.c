/* The cursor and the encoders, with msgpack-c as a second opinion. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../proto/buf.h"
#include "../../proto/cursor.h"
#include "../../proto/limits.h"

#include <msgpack.h>
#include <stdlib.h>
#include <time.h>

static uint64_t s_state;

static uint64_t
s_random (void) {
    s_state ^= s_state >> 12;
    s_state ^= s_state << 25;
    s_state ^= s_state >> 27;
    return s_state * 0x2545f4914f6cdd1du;
}

/* What msgpack-c thinks of exactly these bytes as one value. */
static bool
s_reference_takes (const uint8_t *bytes, size_t size, size_t *used) {
    msgpack_unpacked result;
    msgpack_unpacked_init (&result);
    *used = 0;
    msgpack_unpack_return rc = msgpack_unpack_next (&result, (const char *)bytes, size, used);
    msgpack_unpacked_destroy (&result);
    return rc == MSGPACK_UNPACK_SUCCESS || rc == MSGPACK_UNPACK_EXTRA_BYTES;
}

static void
test_cursor_boundaries_round_trip (void **state) {
    (void)state;
    static const uint64_t numbers[] = {0,     1,     127,        128,        255,       256,
                                       65535, 65536, UINT32_MAX, 1ull << 32, INT64_MAX, UINT64_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        ef_buf_t buf = {0};
        uint64_t back;
        int64_t signed_back;
        ef_put_uint (&buf, numbers[i]);
        assert_int_equal (buf.size, ef_uint_size (numbers[i]));
        ef_cursor_t cursor = ef_cursor (buf.data, buf.size);
        assert_int_equal (ef_get_uint (&cursor, &back), 0);
        assert_true (back == numbers[i]);
        assert_int_equal (ef_cursor_left (&cursor), 0);
        ef_buf_clear (&buf);
        ef_put_int (&buf, -(int64_t)(numbers[i] >> 1) - 1);
        cursor = ef_cursor (buf.data, buf.size);
        assert_int_equal (ef_get_uint (&cursor, &back), -1);
        assert_int_equal (ef_get_int (&cursor, &signed_back), 0);
        assert_true (signed_back == -(int64_t)(numbers[i] >> 1) - 1);
        ef_buf_free (&buf);
    }
}

static void
test_cursor_hostile_counts_are_refused (void **state) {
    (void)state;
    static const struct {
        uint8_t bytes[6];
        size_t size;
    } bombs[] = {{{0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0}, 6},
                 {{0xdf, 0xff, 0xff, 0xff, 0xff, 0xc0}, 6},
                 {{0xdb, 0xff, 0xff, 0xff, 0xff, 0x00}, 6},
                 {{0xc6, 0xff, 0xff, 0xff, 0xff, 0x00}, 6},
                 {{0xc9, 0xff, 0xff, 0xff, 0xff, 0x00}, 6},
                 {{0x9f, 0xc0}, 2},
                 {{0x8f, 0xc0}, 2},
                 {{0xc1}, 1},
                 {{0xd9}, 1},
                 {{0xcf, 1}, 2}};
    for (size_t i = 0; i < sizeof bombs / sizeof bombs[0]; i++) {
        guarded_t input = guard (bombs[i].bytes, bombs[i].size);
        ef_cursor_t cursor = ef_cursor (input.bytes, bombs[i].size);
        const uint8_t *before = cursor.at;
        uint32_t count;
        ef_span_t span;
        assert_int_equal (ef_skip (&cursor), -1);
        assert_int_equal (ef_get_array (&cursor, &count), -1);
        assert_int_equal (ef_get_map (&cursor, &count), -1);
        assert_int_equal (ef_get_bytes (&cursor, &span), -1);
        assert_ptr_equal (cursor.at, before);
        unguard (&input);
    }
}

static void
test_cursor_nesting_past_the_limit_is_refused (void **state) {
    (void)state;
    uint8_t bytes[EF_NESTING_MAX + 2];
    memset (bytes, 0x91, sizeof bytes);
    bytes[EF_NESTING_MAX] = 0xc0;
    ef_cursor_t cursor = ef_cursor (bytes, EF_NESTING_MAX + 1);
    assert_int_equal (ef_skip (&cursor), 0);
    bytes[EF_NESTING_MAX] = 0x91;
    bytes[EF_NESTING_MAX + 1] = 0xc0;
    cursor = ef_cursor (bytes, EF_NESTING_MAX + 2);
    assert_int_equal (ef_skip (&cursor), -1);
}

static void
s_put_random (ef_buf_t *buf, unsigned depth) {
    char text[80];
    uint32_t count = (uint32_t)(s_random () % 5);
    size_t size = s_random () % sizeof text;
    memset (text, 'x', sizeof text);
    switch (s_random () % (depth < 5 ? 10 : 8)) {
    case 0: ef_put_nil (buf); break;
    case 1: ef_put_bool (buf, s_random () & 1); break;
    case 2: ef_put_uint (buf, s_random () >> (s_random () % 64)); break;
    case 3: ef_put_int (buf, (int64_t)s_random () >> (s_random () % 64)); break;
    case 4: ef_put_double (buf, (double)(int64_t)s_random () / 1e6); break;
    case 5: ef_put_strn (buf, text, size); break;
    case 6: ef_put_bin (buf, text, size); break;
    case 7: ef_put_ext (buf, (int8_t)s_random (), text, size); break;
    case 8:
        ef_put_array (buf, count);
        for (uint32_t i = 0; i < count; i++) {
            s_put_random (buf, depth + 1);
        }
        break;
    default:
        ef_put_map (buf, count);
        for (uint32_t i = 0; i < 2 * count; i++) {
            s_put_random (buf, depth + 1);
        }
    }
}

/* Every value of ours is msgpack-c's; every prefix is refused; after every change of one byte both
   agree on whether there is a value and how long it is. */
static void
test_cursor_agrees_with_msgpack_c (void **state) {
    (void)state;
    s_state = (uint64_t)time (NULL) | 1;
    print_message ("seed %llu\n", (unsigned long long)s_state);
    for (unsigned round = 0; round < 400; round++) {
        ef_buf_t buf = {0};
        size_t used;
        s_put_random (&buf, 0);
        assert_true (s_reference_takes (buf.data, buf.size, &used));
        assert_int_equal (used, buf.size);
        for (size_t size = 0; size <= buf.size; size++) {
            guarded_t input = guard (buf.data, size);
            ef_cursor_t cursor = ef_cursor (input.bytes, size);
            assert_int_equal (ef_skip (&cursor), size == buf.size ? 0 : -1);
            unguard (&input);
        }
        for (size_t at = 0; at < buf.size && at < 60; at++) {
            uint8_t kept = buf.data[at];
            buf.data[at] = (uint8_t)s_random ();
            ef_cursor_t cursor = ef_cursor (buf.data, buf.size);
            int rc = ef_skip (&cursor);
            /* The reference allocates by claimed counts, so it is asked only about what we take. */
            if (rc == 0) {
                assert_true (s_reference_takes (buf.data, buf.size, &used));
                assert_int_equal (used, (size_t)(cursor.at - buf.data));
            }
            buf.data[at] = kept;
        }
        ef_buf_free (&buf);
    }
}

static void
test_buf_open_containers_are_closed_with_their_count (void **state) {
    (void)state;
    ef_buf_t buf = {0};
    size_t mark = ef_put_open (&buf);
    uint32_t count;
    for (unsigned i = 0; i < 70000; i++) {
        ef_put_uint (&buf, i & 1);
    }
    ef_put_close_array (&buf, mark, 70000);
    ef_cursor_t cursor = ef_cursor (buf.data, buf.size);
    assert_int_equal (ef_get_array (&cursor, &count), 0);
    assert_int_equal (count, 70000);
    ef_buf_free (&buf);
}

static void
test_map_find_takes_what_is_there_and_bounds_it (void **state) {
    (void)state;
    ef_buf_t buf = {0};
    ef_cursor_t value;
    char text[4];
    ef_put_map (&buf, 5);
    ef_put_nil (&buf); /* a key that is no text is passed over */
    ef_put_uint (&buf, 1);
    ef_put_key_str (&buf, "name", "email");
    ef_put_key_uint (&buf, "n", 7);
    ef_put_key_bool (&buf, "on", true);
    ef_put_str (&buf, "list");
    ef_put_array (&buf, 2);
    ef_put_uint (&buf, 1);
    ef_put_uint (&buf, 2);
    ef_cursor_t map = ef_cursor (buf.data, buf.size);
    assert_true (ef_map_find (map, "list", &value));
    assert_int_equal (ef_cursor_left (&value), 3);
    assert_true (ef_span_is (ef_map_str (map, "name"), "email"));
    assert_int_equal (ef_map_uint (map, "n"), 7);
    assert_true (ef_map_bool (map, "on"));
    ef_map_text (map, "name", text, sizeof text);
    assert_string_equal (text, "ema");
    assert_false (ef_map_find (map, "nam", &value)); /* what isn't there, or is something else */
    assert_int_equal (ef_map_uint (map, "name"), 0);
    assert_false (ef_map_bool (map, "n"));
    assert_null (ef_map_str (map, "n").data);
    ef_map_text (map, "n", text, sizeof text);
    assert_string_equal (text, "");
    for (size_t size = 0; size < buf.size; size++) {
        guarded_t input = guard (buf.data, size);
        assert_false (ef_map_find (ef_cursor (input.bytes, size), "list", &value));
        unguard (&input);
    }
    ef_buf_free (&buf);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_cursor_boundaries_round_trip),
        cmocka_unit_test (test_cursor_hostile_counts_are_refused),
        cmocka_unit_test (test_cursor_nesting_past_the_limit_is_refused),
        cmocka_unit_test (test_cursor_agrees_with_msgpack_c),
        cmocka_unit_test (test_buf_open_containers_are_closed_with_their_count),
        cmocka_unit_test (test_map_find_takes_what_is_there_and_bounds_it),
    };
    return cmocka_run_group_tests (tests, NULL, NULL);
}
