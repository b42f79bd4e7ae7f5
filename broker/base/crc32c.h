/* CRC-32C (Castagnoli; RFC 3720 appendix B.4). SPDX-License-Identifier: MIT */
#ifndef EF_CRC32C_H
#define EF_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to begin) over `bytes`. Uses the processor's instruction where it has one. */
uint32_t ef_crc32c (uint32_t crc, const void *bytes, size_t size);

/* The same by table; for processors without the instruction, and to check the other. */
uint32_t ef_crc32c_table (uint32_t crc, const void *bytes, size_t size);

#endif
