/* The window of a scan: bytes, records in them, the next one behind damage.
   SPDX-License-Identifier: MIT */
#include "scan_private.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define WINDOW_BYTES (4u << 20)
#define PAGE_BYTES   4096u
#define GROUP_LEAST  (EF_RECORD_HEAD + EF_COMMIT_BODY) /* bytes of the smallest group */
#define SEQ_CEILING  (1ull << 48) /* a bound where nothing nearer is known: filters random bytes */

void
scan_tell (scan_t *self, ef_finding_t finding, const char *format, ...) {
    va_list arguments;
    va_start (arguments, format);
    vsnprintf (finding.text, sizeof finding.text, format, arguments);
    va_end (arguments);
    finding.segment = finding.segment ? finding.segment : self->id;
    self->report->losses += ef_finding_is_loss (finding.kind);
    if (finding.kind == EF_FINDING_TORN) {
        self->report->torn_bytes += finding.bytes;
    }
    if (self->user->finding) {
        self->user->finding (self->user->arg, &finding);
    }
}

/* Reads page by page where the whole can't be read; what can't is zeros. */
static void
s_read_pages (scan_t *self, uint64_t offset, size_t want) {
    uint64_t bad_at = 0;
    uint64_t bad = 0;
    memset (self->window, 0, want);
    for (size_t at = 0; at < want; at += PAGE_BYTES) {
        size_t size = want - at < PAGE_BYTES ? want - at : PAGE_BYTES;
        int64_t rc =
            self->storage->read (self->storage, self->file, self->window + at, size, offset + at);
        if (rc < 0 && offset + at >= self->told_end) {
            bad_at = bad ? bad_at : offset + at;
            bad = offset + at + size - bad_at;
            self->told_end = offset + at + size;
        }
    }
    if (bad > 0) {
        scan_tell (self,
                   (ef_finding_t){.kind = EF_FINDING_UNREADABLE, .offset = bad_at, .bytes = bad},
                   "the storage can't read it; it is taken as zeros");
    }
}

/* The bytes at an offset, `want` of them or up to the file's end; borrowed until the next call. */
const uint8_t *
scan_bytes (scan_t *self, uint64_t offset, uint64_t want, size_t *have) {
    uint64_t left = offset < self->size ? self->size - offset : 0;
    want = want < left ? want : left;
    bool is_here = offset >= self->window_at && offset + want <= self->window_at + self->filled;
    if (!is_here) {
        uint64_t bytes = want > WINDOW_BYTES ? want : WINDOW_BYTES;
        bytes = bytes < left ? bytes : left;
        if (bytes > self->capacity) {
            free (self->window);
            self->capacity = (size_t)(bytes > WINDOW_BYTES ? bytes : WINDOW_BYTES);
            self->window = malloc (self->capacity);
            ef_assert (self->window != NULL);
        }
        int64_t got = bytes ? self->storage->read (self->storage, self->file, self->window,
                                                   (size_t)bytes, offset)
                            : 0;
        if (got < 0) {
            s_read_pages (self, offset, (size_t)bytes);
            got = (int64_t)bytes;
        }
        self->window_at = offset;
        self->filled = (size_t)got;
        if (self->user->progress) {
            self->user->progress (self->user->arg, self->done + offset, self->total);
        }
    }
    *have = (size_t)(self->window_at + self->filled - offset);
    return self->window ? self->window + (offset - self->window_at) : NULL;
}

/* The head of a whole record at an offset, or NULL. */
const uint8_t *
scan_record (scan_t *self, uint64_t offset) {
    size_t have;
    const uint8_t *head = scan_bytes (self, offset, EF_RECORD_HEAD, &have);
    if (have < EF_RECORD_HEAD) {
        return NULL;
    }
    uint32_t length = ef_le32 (head);
    if (length < EF_RECORD_HEAD || length > EF_RECORD_MAX || length > self->size - offset) {
        return NULL;
    }
    head = scan_bytes (self, offset, length, &have);
    return ef_record_is_whole (head, have, self->id, offset) ? head : NULL;
}

/* The first whole record from `offset` on whose seq is at or above `least`; 0: none. What can't be
   a head by its seq and epoch isn't looked at closely, else each such place would cost a checksum
   over whatever length it claims. */
uint64_t
scan_find (scan_t *self, uint64_t offset, uint64_t least) {
    uint64_t most = self->next_seq ? self->next_seq + self->size / GROUP_LEAST : SEQ_CEILING;
    most = self->next_of && self->next_of < most ? self->next_of : most;
    while (offset + EF_RECORD_HEAD <= self->size) {
        size_t have;
        const uint8_t *bytes = scan_bytes (self, offset, EF_RECORD_HEAD, &have);
        if (have < EF_RECORD_HEAD) {
            return 0;
        }
        uint64_t end = offset + have - EF_RECORD_HEAD;
        uint64_t candidate = 0;
        for (uint64_t at = offset; at <= end && candidate == 0; at += EF_RECORD_ALIGN) {
            const uint8_t *head = bytes + (at - offset);
            uint64_t seq = ef_le64 (head + 8);
            if (ef_le32 (head) >= EF_RECORD_HEAD && seq >= least && seq <= most &&
                (self->epoch == 0 || ef_le32 (head + 16) == self->epoch)) {
                candidate = at;
            }
        }
        if (candidate == 0) {
            offset = (end & ~(uint64_t)(EF_RECORD_ALIGN - 1)) + EF_RECORD_ALIGN;
            continue;
        }
        if (scan_record (self, candidate)) {
            return candidate;
        }
        offset = candidate + EF_RECORD_ALIGN;
    }
    return 0;
}

/* Where the last byte that isn't zero ends, from `offset` on; `offset`: there is none. */
uint64_t
scan_data_end (scan_t *self, uint64_t offset) {
    uint64_t end = offset;
    for (uint64_t at = offset; at < self->size;) {
        size_t have;
        const uint8_t *bytes = scan_bytes (self, at, 1, &have);
        if (have == 0) {
            break;
        }
        bool is_zero = bytes[0] == 0 && memcmp (bytes, bytes + 1, have - 1) == 0;
        for (size_t i = have; !is_zero && i > 0; i--) {
            if (bytes[i - 1] != 0) {
                end = at + i;
                break;
            }
        }
        at += have;
    }
    return end;
}
