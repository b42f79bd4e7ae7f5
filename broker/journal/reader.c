/* Reading the journal back. SPDX-License-Identifier: MIT */
#include "reader.h"
#include "wal.h"

#include <errno.h>
#include <stdlib.h>

static uint8_t *
s_read (ef_storage_t *storage, int file, uint32_t offset, size_t bytes, size_t *got, int *error) {
    uint8_t *buffer = malloc (bytes);
    ef_assert (buffer != NULL);
    int64_t rc = storage->read (storage, file, buffer, bytes, offset);
    *error = rc < 0 ? (int)rc : 0;
    *got = rc > 0 ? (size_t)rc : 0;
    return buffer;
}

/* How much of the buffer is whole records. */
static size_t
s_whole (const uint8_t *buffer, size_t bytes, uint32_t segment, uint32_t offset) {
    size_t at = 0;
    while (at < bytes && ef_record_is_whole (buffer + at, bytes - at, segment, offset + at)) {
        size_t next = at + ef_record_padded (ef_le32 (buffer + at));
        at = next < bytes ? next : bytes;
    }
    return at;
}

uint8_t *
ef_read_stretch (ef_storage_t *storage, uint32_t segment, uint32_t offset, size_t bytes,
                 size_t *size, int *error) {
    char name[24];
    ef_wal_segment_name (segment, name);
    int file = storage->open (storage, name);
    if (file < 0) {
        *error = file;
        return NULL;
    }
    size_t got;
    uint8_t *buffer = s_read (storage, file, offset, bytes, &got, error);
    uint32_t first = got >= EF_RECORD_HEAD ? ef_le32 (buffer) : 0;
    if (first > got && first <= EF_RECORD_MAX) {
        free (buffer);
        buffer = s_read (storage, file, offset, ef_record_padded (first), &got, error);
    }
    storage->close (storage, file);
    *size = s_whole (buffer, got, segment, offset);
    if (*size == 0) {
        free (buffer);
        *error = *error ? *error : -EBADMSG;
        return NULL;
    }
    return buffer;
}
