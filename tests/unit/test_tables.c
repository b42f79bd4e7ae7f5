/* Heap, hash, fingerprints, extents, retry heap, checksum. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "../../broker/actors/retry_heap.h"
#include "../../broker/base/crc32c.h"
#include "../../broker/base/hash.h"
#include "../../broker/base/heap.h"
#include "../../broker/core/extents.h"
#include "../../broker/core/print_table.h"

#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

static uint64_t s_state;

static uint32_t
s_below (uint32_t n) {
    s_state ^= s_state >> 12;
    s_state ^= s_state << 25;
    s_state ^= s_state >> 27;
    return (uint32_t)((s_state * 0x2545f4914f6cdd1du >> 32) % n);
}

static int
s_seed (void **state) {
    (void)state;
    s_state = (uint64_t)time (NULL) | 1;
    print_message ("seed %llu\n", (unsigned long long)s_state);
    return 0;
}

typedef struct {
    uint64_t key;
    uint32_t at;
} node_t;

static bool
s_before (const void *a, const void *b) {
    return ((const node_t *)a)->key < ((const node_t *)b)->key;
}

static void
s_placed (void *item, uint32_t position) {
    ((node_t *)item)->at = position;
}

static void
test_heap_gives_the_least_after_random_removals (void **state) {
    (void)state;
    node_t nodes[500];
    ef_heap_t heap;
    ef_heap_init (&heap, s_before, s_placed);
    for (unsigned i = 0; i < 500; i++) {
        nodes[i].key = s_below (1000);
        ef_heap_push (&heap, &nodes[i]);
    }
    for (unsigned i = 0; i < 500; i += 3) {
        ef_heap_remove (&heap, nodes[i].at);
        assert_int_equal (nodes[i].at, EF_HEAP_NONE);
    }
    uint64_t last = 0;
    for (node_t *top; (top = ef_heap_top (&heap)) != NULL;) {
        assert_true (top->key >= last);
        last = top->key;
        ef_heap_remove (&heap, 0);
    }
    ef_heap_free (&heap);
}

static const void *
s_key_of (const void *item, size_t *size) {
    *size = 8;
    return &((const node_t *)item)->key;
}

static void
test_hash_keeps_what_is_in_it_through_growth_and_removal (void **state) {
    (void)state;
    enum { COUNT = 5000 };
    node_t *nodes = calloc (COUNT, sizeof *nodes);
    ef_hash_t hash;
    static const uint64_t key[2] = {1, 2};
    ef_hash_init (&hash, key, s_key_of);
    for (unsigned i = 0; i < COUNT; i++) {
        nodes[i].key = i;
        ef_hash_insert (&hash, &nodes[i]);
    }
    for (unsigned i = 0; i < COUNT; i += 2) {
        ef_hash_remove (&hash, &nodes[i]);
    }
    for (uint64_t i = 0; i < COUNT; i++) {
        assert_ptr_equal (ef_hash_find (&hash, &i, 8), i % 2 ? &nodes[i] : NULL);
    }
    uint32_t position = 0;
    unsigned seen = 0;
    while (ef_hash_next (&hash, &position)) {
        seen++;
    }
    assert_int_equal (seen, COUNT / 2);
    ef_hash_free (&hash);
    free (nodes);
}

static void
test_siphash_depends_on_key_and_length (void **state) {
    (void)state;
    /* Different keys and lengths give different hashes; the same give the same. */
    static const uint64_t one[2] = {1, 2};
    static const uint64_t two[2] = {1, 3};
    assert_true (ef_siphash (one, "abc", 3) == ef_siphash (one, "abc", 3));
    assert_true (ef_siphash (one, "abc", 3) != ef_siphash (two, "abc", 3));
    assert_true (ef_siphash (one, "abc", 3) != ef_siphash (one, "abc\0", 4));
}

static void
test_siphash128_gives_the_published_vectors (void **state) {
    (void)state;
    /* vectors_sip128 of the reference implementation: key 00 … 0f, input 00 01 … of that length */
    static const struct {
        unsigned size;
        const char *out;
    } vectors[] = {
        {0, "a3817f04ba25a8e66df67214c7550293"},  {1, "da87c1d86b99af44347659119b22fc45"},
        {7, "a1f1ebbed8dbc153c0b84aa61ff08239"},  {8, "3b62a9ba6258f5610f83e264f31497b4"},
        {9, "264499060ad9baabc47f8b02bb6d71ed"},  {15, "5493e99933b0a8117e08ec0f97cfc3d9"},
        {16, "6ee2a4ca67b054bbfd3315bf85230577"}, {36, "3dc47d1f29c448461e9e76ed904f6711"},
        {63, "5150d1772f50834a503e069a973fbd7c"}};
    uint8_t bytes[64];
    uint64_t key[2];
    for (unsigned i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)i;
    }
    memcpy (key, bytes, sizeof key);
    for (unsigned i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        guarded_t input = guard (bytes, vectors[i].size);
        uint64_t out[2];
        char text[33] = "";
        ef_siphash128 (key, input.bytes, vectors[i].size, out);
        for (unsigned k = 0; k < 16; k++) {
            static const char digits[] = "0123456789abcdef";
            text[2 * k] = digits[((uint8_t *)out)[k] >> 4];
            text[2 * k + 1] = digits[((uint8_t *)out)[k] & 15];
        }
        assert_string_equal (text, vectors[i].out);
        unguard (&input);
    }
}

static const ef_print_t *
s_print_at (const void *owner, uint32_t ref) {
    return (const ef_print_t *)owner + ref;
}

static void
test_table_finds_prints_that_share_a_home_and_a_tag (void **state) {
    (void)state;
    enum { COUNT = 5000 }; /* their way is longer than a page of buckets as it doubles */
    ef_print_t *prints = calloc (COUNT + 1, sizeof *prints);
    ef_print_table_t table;
    ef_print_table_init (&table, s_print_at, prints);
    for (uint32_t ref = 1; ref <= COUNT; ref++) {
        prints[ref] =
            (ef_print_t){0x123, (uint64_t)ref << 32}; /* what a stranger can't bring about */
        ef_print_table_insert (&table, prints[ref], ref);
        if (ref % 500 == 0) {
            ef_print_table_check (&table);
        }
    }
    for (uint32_t ref = 1; ref <= COUNT; ref += 2) {
        ef_print_table_remove (&table, prints[ref], ref);
    }
    ef_print_table_check (&table);
    for (uint32_t ref = 1; ref <= COUNT; ref++) {
        assert_int_equal (ef_print_table_find (&table, prints[ref]), ref % 2 ? 0 : ref);
    }
    ef_print_table_free (&table);
    free (prints);
}

static void
test_crc32c_matches_rfc_3720_and_the_table (void **state) {
    (void)state;
    uint8_t bytes[1000];
    memset (bytes, 0, 32);
    assert_int_equal (ef_crc32c (0, bytes, 32), 0x8a9136aa); /* RFC 3720, B.4 */
    memset (bytes, 0xff, 32);
    assert_int_equal (ef_crc32c (0, bytes, 32), 0x62a8ab43);
    for (unsigned i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)s_below (256);
    }
    for (unsigned size = 0; size < 100; size++) {
        assert_int_equal (ef_crc32c (7, bytes + size, size),
                          ef_crc32c_table (7, bytes + size, size));
    }
}

/* Extents against a plain bitmap. */
static void
test_extents_agree_with_a_bitmap (void **state) {
    (void)state;
    enum { SPAN = 4000 };
    for (unsigned round = 0; round < 30; round++) {
        static bool there[SPAN];
        ef_extents_t extents = {0};
        memset (there, 0, sizeof there);
        for (unsigned operation = 0; operation < 3000; operation++) {
            uint64_t n = 1 + s_below (SPAN - 40);
            uint32_t count = 1 + s_below (30);
            if (s_below (2)) {
                bool is_free = true;
                for (uint32_t i = 0; i < count; i++) {
                    is_free = is_free && !there[n + i];
                }
                if (is_free) {
                    ef_extent_t extent = {
                        .n = n, .count = count, .bytes = 10u * count, .index = 5, .rel = 100};
                    ef_extents_insert (&extents, &extent);
                    memset (there + n, true, count);
                }
            } else {
                uint64_t bytes;
                uint64_t expected = 0;
                for (uint32_t i = 0; i < count; i++) {
                    expected += there[n + i];
                    there[n + i] = false;
                }
                assert_true (ef_extents_cut (&extents, n, n + count - 1, &bytes) == expected);
                assert_true (bytes == 10 * expected);
            }
        }
        uint64_t total = 0;
        ef_extent_at_t at;
        for (ef_extent_t *extent = ef_extents_first (&extents, &at); extent;
             extent = ef_extents_next (&extents, &at)) {
            assert_true (extent->bytes == 10u * extent->count);
            for (uint32_t i = 0; i < extent->count; i++) {
                assert_true (there[extent->n + i]);
            }
            total += extent->count;
        }
        for (uint64_t n = 1; n < SPAN; n++) {
            ef_extent_at_t place;
            assert_int_equal (ef_extents_find (&extents, n, &place) != NULL, there[n]);
            total -= there[n];
        }
        assert_true (total == 0);
        ef_extents_free (&extents);
    }
}

static void
test_retry_heap_gives_back_in_order_of_time (void **state) {
    (void)state;
    ef_retry_heap_t heap = {0};
    ef_wait_t wait;
    assert_false (ef_retry_heap_pop (&heap, UINT64_MAX, &wait));
    assert_true (ef_retry_heap_next_ms (&heap) == UINT64_MAX);
    for (unsigned i = 0; i < 1000; i++) {
        ef_wait_t next = {.due_ms = s_below (5000), .n = i};
        ef_retry_heap_push (&heap, &next);
    }
    uint64_t last = 0;
    unsigned count = 0;
    for (uint64_t now = 0; now <= 5000; now += 100) {
        while (ef_retry_heap_pop (&heap, now, &wait)) {
            assert_true (wait.due_ms >= last && wait.due_ms <= now);
            last = wait.due_ms;
            count++;
        }
    }
    assert_int_equal (count, 1000);
    ef_retry_heap_free (&heap);
}

int
main (void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test (test_heap_gives_the_least_after_random_removals),
        cmocka_unit_test (test_hash_keeps_what_is_in_it_through_growth_and_removal),
        cmocka_unit_test (test_siphash_depends_on_key_and_length),
        cmocka_unit_test (test_siphash128_gives_the_published_vectors),
        cmocka_unit_test (test_table_finds_prints_that_share_a_home_and_a_tag),
        cmocka_unit_test (test_crc32c_matches_rfc_3720_and_the_table),
        cmocka_unit_test (test_extents_agree_with_a_bitmap),
        cmocka_unit_test (test_retry_heap_gives_back_in_order_of_time),
    };
    return cmocka_run_group_tests (tests, s_seed, NULL);
}
