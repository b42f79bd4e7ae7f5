/* SHA-256. SPDX-License-Identifier: MIT
   Source: FIPS 180-4, sections 4.1.2, 4.2.2, 5 and 6.2. For tokens and long idempotency keys: a few
   bytes now and then, for which another library would be much. */
#include "sha256.h"

#include <stdbool.h>
#include <string.h>

static const uint32_t s_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t
s_turn (uint32_t word, unsigned by) {
    return word >> by | word << (32 - by);
}

static void
s_block (uint32_t hash[8], const uint8_t *block) {
    uint32_t w[64];
    uint32_t v[8];
    for (unsigned i = 0; i < 16; i++) {
        w[i] = (uint32_t)block[i * 4] << 24 | (uint32_t)block[i * 4 + 1] << 16 |
               (uint32_t)block[i * 4 + 2] << 8 | block[i * 4 + 3];
    }
    for (unsigned i = 16; i < 64; i++) {
        uint32_t low = s_turn (w[i - 15], 7) ^ s_turn (w[i - 15], 18) ^ w[i - 15] >> 3;
        uint32_t high = s_turn (w[i - 2], 17) ^ s_turn (w[i - 2], 19) ^ w[i - 2] >> 10;
        w[i] = w[i - 16] + low + w[i - 7] + high;
    }
    memcpy (v, hash, sizeof v);
    for (unsigned i = 0; i < 64; i++) {
        uint32_t high = s_turn (v[4], 6) ^ s_turn (v[4], 11) ^ s_turn (v[4], 25);
        uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        uint32_t one = v[7] + high + choice + s_constants[i] + w[i];
        uint32_t low = s_turn (v[0], 2) ^ s_turn (v[0], 13) ^ s_turn (v[0], 22);
        uint32_t two = low + ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
        memmove (v + 1, v, 7 * sizeof *v);
        v[4] += one;
        v[0] = one + two;
    }
    for (unsigned i = 0; i < 8; i++) {
        hash[i] += v[i];
    }
}

void
sha256 (const void *bytes, size_t size, uint8_t digest[32]) {
    uint32_t hash[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    const uint8_t *at = bytes;
    uint8_t last[128] = {0};
    size_t left = size;
    for (; left >= 64; left -= 64, at += 64) {
        s_block (hash, at);
    }
    if (left > 0) {
        memcpy (last, at, left);
    }
    last[left] = 0x80;
    size_t end = left < 56 ? 64 : 128;
    for (unsigned i = 0; i < 8; i++) {
        last[end - 1 - i] = (uint8_t)((uint64_t)size * 8 >> 8 * i);
    }
    s_block (hash, last);
    if (end == 128) {
        s_block (hash, last + 64);
    }
    for (unsigned i = 0; i < 32; i++) {
        digest[i] = (uint8_t)(hash[i / 4] >> (24 - i % 4 * 8));
    }
}

void
sha256_text (const void *bytes, size_t size, char text[65]) {
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[32];
    sha256 (bytes, size, digest);
    for (unsigned i = 0; i < 32; i++) {
        text[i * 2] = digits[digest[i] >> 4];
        text[i * 2 + 1] = digits[digest[i] & 15];
    }
    text[64] = 0;
}
