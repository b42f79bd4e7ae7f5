/* Reading the journal back: whole, checked records from a place on. SPDX-License-Identifier: MIT */
#ifndef EF_READER_H
#define EF_READER_H

#include "record.h"
#include "storage.h"

/* Reads from `offset` of a segment up to about `bytes` (more where the first record is longer). On
   success returns a buffer of whole records whose checksums are right (owned by the caller) and its
   size. NULL: `*error` is a negative errno, -ENOENT where the segment is gone, -EBADMSG where the
   first record isn't whole. */
uint8_t *ef_read_stretch (ef_storage_t *storage, uint32_t segment, uint32_t offset, size_t bytes,
                          size_t *size, int *error);

#define EF_READ_AHEAD (1u << 20)

#endif
