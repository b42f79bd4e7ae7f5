/* Record heads and checksums. SPDX-License-Identifier: MIT */
#include "record.h"
#include "../../proto/assert.h"
#include "../base/crc32c.h"

size_t
ef_record_begin (ef_buf_t *buf, uint8_t type, uint8_t flags, uint16_t header_bytes) {
    ef_assert (buf->size % EF_RECORD_ALIGN == 0);
    size_t mark = buf->size;
    uint8_t *head = ef_buf_add (buf, (size_t)EF_RECORD_HEAD + header_bytes);
    memset (head, 0, (size_t)EF_RECORD_HEAD + header_bytes);
    head[20] = type;
    head[21] = flags;
    ef_le16_put (head + 22, header_bytes);
    return mark;
}

void
ef_record_end (ef_buf_t *buf, size_t mark) {
    size_t bytes = buf->size - mark;
    ef_assert (bytes >= EF_RECORD_HEAD && bytes <= EF_RECORD_MAX);
    ef_le32_put (buf->data + mark, (uint32_t)bytes);
    size_t padding = ef_record_padded ((uint32_t)bytes) - bytes;
    memset (ef_buf_add (buf, padding), 0, padding);
}

static uint32_t
s_checksum (const uint8_t *head, uint32_t bytes, uint64_t segment, uint64_t offset) {
    uint8_t place[20];
    ef_le64_put (place, segment);
    ef_le64_put (place + 8, offset);
    memcpy (place + 16, head, 4);
    uint32_t crc = ef_crc32c (0, place, sizeof place);
    return ef_crc32c (crc, head + 8, bytes - 8);
}

uint32_t
ef_record_seal (uint8_t *head, uint64_t segment, uint64_t offset, uint64_t seq, uint32_t epoch) {
    ef_le64_put (head + 8, seq);
    ef_le32_put (head + 16, epoch);
    uint32_t crc = s_checksum (head, ef_le32 (head), segment, offset);
    ef_le32_put (head + 4, crc);
    return crc;
}

bool
ef_record_is_whole (const uint8_t *record, size_t bytes, uint64_t segment, uint64_t offset) {
    if (bytes < EF_RECORD_HEAD) {
        return false;
    }
    uint32_t length = ef_le32 (record);
    if (length < EF_RECORD_HEAD || length > EF_RECORD_MAX || length > bytes || record[20] == 0 ||
        EF_RECORD_HEAD + (uint32_t)ef_le16 (record + 22) > length) {
        return false;
    }
    return s_checksum (record, length, segment, offset) == ef_le32 (record + 4);
}

bool
ef_record_is_valid (const uint8_t *bytes, size_t size, uint64_t segment, uint64_t offset) {
    return offset <= size && ef_record_is_whole (bytes + offset, size - offset, segment, offset);
}

void
ef_record_view (const uint8_t *bytes, uint32_t segment, uint64_t offset, ef_record_t *record) {
    const uint8_t *head = bytes + offset;
    record->type = head[20];
    record->flags = head[21];
    record->header_bytes = ef_le16 (head + 22);
    record->epoch = ef_le32 (head + 16);
    record->segment = segment;
    record->offset = (uint32_t)offset;
    record->body = head + EF_RECORD_HEAD;
    record->body_bytes = ef_le32 (head) - EF_RECORD_HEAD;
}
