/* CRC-32C by instruction or table. SPDX-License-Identifier: MIT */
#include "crc32c.h"

#include <pthread.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* reversed */

static uint32_t s_table[256];
static pthread_once_t s_table_once = PTHREAD_ONCE_INIT;

static void
s_make_table (void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        }
        s_table[i] = crc;
    }
}

uint32_t
ef_crc32c_table (uint32_t crc, const void *bytes, size_t size) {
    (void)pthread_once (&s_table_once, s_make_table); /* has no failure with a static control */
    const uint8_t *at = bytes;
    crc = ~crc;
    for (size_t i = 0; i < size; i++) {
        crc = crc >> 8 ^ s_table[(crc ^ at[i]) & 0xff];
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__ ((target ("sse4.2"))) static uint32_t
s_crc32c_sse42 (uint32_t crc, const void *bytes, size_t size) {
    const uint8_t *at = bytes;
    uint64_t sum = ~crc;
    for (; size >= 8; size -= 8, at += 8) {
        uint64_t word;
        memcpy (&word, at, 8);
        sum = __builtin_ia32_crc32di (sum, word);
    }
    uint32_t rest = (uint32_t)sum;
    for (; size > 0; size--, at++) {
        rest = __builtin_ia32_crc32qi (rest, *at);
    }
    return ~rest;
}
#endif

uint32_t
ef_crc32c (uint32_t crc, const void *bytes, size_t size) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports ("sse4.2")) {
        return s_crc32c_sse42 (crc, bytes, size);
    }
#endif
    return ef_crc32c_table (crc, bytes, size);
}
