/* SHA-256 (FIPS 180-4). SPDX-License-Identifier: MIT */
#ifndef EF_WEB_SHA256_H
#define EF_WEB_SHA256_H

#include <stddef.h>
#include <stdint.h>

void sha256 (const void *bytes, size_t size, uint8_t digest[32]);
/* The same as 64 hexadecimal digits and a NUL. */
void sha256_text (const void *bytes, size_t size, char text[65]);

#endif
