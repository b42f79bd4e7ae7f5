/* Feeds bytes to the core as frames, to the JSON reader, and to recovery, under sanitizers.
   SPDX-License-Identifier: MIT

   The first byte says what the rest is. The core runs with a journal that is durable at once. */
#include "../../broker/core/core.h"
#include "../../proto/json.h"
#include "../../proto/limits.h"
#include "../sim/disk.h"

#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size);

static ef_core_t *s_core;
static ef_batch_t *s_batches[16];
static unsigned s_count;

static uint8_t *
s_body_new (void *arg, size_t bytes, void **message) {
    (void)arg;
    *message = malloc (bytes ? bytes : 1);
    return *message;
}

static int
s_send (void *arg, uint32_t peer, const ef_buf_t *header, void *message) {
    (void)arg;
    ef_cursor_t cursor = ef_cursor (header->data, header->size);
    ef_assert (ef_skip (&cursor) == 0 && ef_cursor_left (&cursor) == 0); /* well-formed, always */
    free (message);
    return peer % 7 == 6 ? -1 : 0;
}

static void
s_forget (void *arg, uint32_t peer) {
    (void)arg;
    (void)peer;
}

static void
s_submit (void *arg, ef_batch_t *batch) {
    (void)arg;
    ef_assert (s_count < 16);
    /* Places only grow, as in a journal whose segments have no end. */
    static uint32_t offset = 4096;
    static uint32_t segment = 1;
    segment += offset > (1u << 30);
    offset = offset > (1u << 30) ? 4096 : offset;
    batch->segment = segment;
    batch->offset = offset;
    offset += (uint32_t)batch->buf.size + 48;
    s_batches[s_count++] = batch;
}

static void
s_fetch (void *arg, uint32_t segment, uint32_t offset) {
    (void)arg;
    (void)segment;
    (void)offset;
}

static void
s_drop (void *arg, uint32_t segment) {
    (void)arg;
    (void)segment;
}

static void
s_retry_at (void *arg, uint32_t topic, uint64_t n, uint32_t generation, uint64_t due_ms) {
    (void)arg;
    (void)topic;
    (void)n;
    (void)generation;
    (void)due_ms;
}

static void
s_dead (void *arg, const char *topic, const ef_dead_t *dead) {
    (void)arg;
    ef_cursor_t cursor = ef_cursor (dead->event.data, dead->event.size);
    ef_assert (topic[0] && ef_skip (&cursor) == 0 && ef_cursor_left (&cursor) == 0);
}

static void
s_returned (void *arg, const char *topic, uint64_t b) {
    (void)arg;
    (void)topic;
    (void)b;
}

static void
s_want (void *arg, const char *topic, uint32_t count) {
    (void)arg;
    (void)topic;
    (void)count;
}

static void
s_notify (void *arg, const char *kind, const char *topic, const char *detail) {
    (void)arg;
    (void)kind;
    (void)topic;
    (void)detail;
}

static uint64_t
s_random (void *arg) {
    static uint64_t state = 88172645463325252u;
    (void)arg;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void
s_turn (void) {
    static uint64_t now = 1000;
    now += 10;
    ef_core_clock (s_core, now, now + 1000000);
    ef_core_tick (s_core);
    ef_core_turn (s_core);
    for (unsigned i = 0; i < s_count; i++) {
        ef_core_durable (s_core, s_batches[i]);
    }
    s_count = 0;
}

static void
s_new_core (void) {
    static const ef_effects_t effects = {NULL,    s_body_new, s_send,     s_forget, s_submit,
                                         s_fetch, s_drop,     s_retry_at, s_dead,   s_returned,
                                         s_want,  s_notify,   s_random};
    ef_core_config_t config = {.broker = "fuzz",
                               .max_event = 65536,
                               .max_message = 262144,
                               .window = 1000,
                               .heartbeat_ms = 1000,
                               .segment_bytes = 1u << 30,
                               .cache_bytes = 1u << 16,
                               .behind_bytes = 1u << 20,
                               .durability = "sync"};
    config.defaults =
        (ef_topic_config_t){.name = "api",
                            .capacity_events = 20,
                            .overflow_rate = 10,
                            .lease_ms = 50,
                            .stall_ms = 100,
                            .retry = {.base_ms = 1, .cap_ms = 10, .factor = 2, .attempts = 2},
                            .retry_capacity = 50,
                            .scheduled_capacity = 10,
                            .insert_attempts = 1,
                            .insert_base_ms = 1,
                            .insert_cap_ms = 2,
                            .insert_capacity = 5};
    s_core = ef_core_new (&config, &effects);
    ef_core_clock (s_core, 1000, 1000000);
    ef_assert (ef_core_configure_topic (s_core, &config.defaults) == 0);
    ef_core_start (s_core, 1, 0, 0);
}

/* Frames are cut at 0xff 0xfe; each message goes to one of a few peers. */
static void
s_frames (uint8_t kind, const uint8_t *data, size_t size) {
    ef_frame_t frames[8];
    uint32_t count = 0;
    size_t start = 0;
    for (size_t i = 0; i < size && count < 7; i++) {
        if (i + 1 < size && data[i] == 0xff && data[i + 1] == 0xfe) {
            frames[count++] = (ef_frame_t){data + start, i - start};
            start = i + 2;
        }
    }
    frames[count++] =
        (ef_frame_t){data + (start < size ? start : size), start < size ? size - start : 0};
    if (kind % 3 == 0) {
        ef_core_front (s_core, kind / 3 % 4, false, frames, count);
    } else if (kind % 3 == 1) {
        ef_core_back (s_core, 10 + kind / 3 % 4, frames, count);
    } else {
        ef_core_ingress (s_core, frames, count);
    }
    s_turn ();
}

static void
s_json (const uint8_t *data, size_t size) {
    ef_buf_t packed = {0};
    ef_buf_t text = {0};
    const char *why;
    if (ef_json_parse (&packed, (const char *)data, size, &why) > 0) {
        ef_cursor_t cursor = ef_cursor (packed.data, packed.size);
        (void)ef_json_print (&text, &cursor); /* deeper forms may be refused */
    }
    ef_buf_clear (&text);
    ef_cursor_t raw = ef_cursor (data, size);
    int rc = ef_json_print (&text, &raw);
    (void)rc;
    ef_buf_free (&packed);
    ef_buf_free (&text);
}

static int
s_each (void *arg, const ef_record_t *record) {
    (void)arg;
    return record->body_bytes > (1u << 20);
}

/* The bytes behind a valid segment header: recovery cuts or refuses. */
static void
s_recovery (const uint8_t *data, size_t size) {
    sim_random_t random = {1};
    sim_disk_t *disk = sim_disk_new (&random);
    ef_storage_t *storage = sim_disk_open (disk, "j");
    ef_wal_options_t options = {.segment_bytes = 8192};
    ef_wal_report_t report;
    ef_batch_t batch = {.lsn = 1};
    ef_batch_t *list[1] = {&batch};
    ef_wal_t *wal = ef_wal_open (storage, &options, s_each, NULL, &report);
    ef_record_end (&batch.buf, ef_record_begin (&batch.buf, 2, 0, 8));
    ef_assert (ef_wal_append (wal, list, 1) == 0);
    ef_buf_free (&batch.buf);
    ef_wal_destroy (&wal);
    int file = storage->open (storage, "0000000000000001.seg");
    struct iovec part = {(void *)data, size};
    ef_assert (storage->write (storage, file, &part, 1, size % 2 ? 4096 : 4096 + 80) == 0);
    wal = ef_wal_open (storage, &options, s_each, NULL, &report);
    ef_assert (wal != NULL || report.error != 0);
    ef_wal_destroy (&wal);
    storage->destroy (&storage);
    sim_disk_destroy (&disk);
}

int
LLVMFuzzerTestOneInput (const uint8_t *data, size_t size) {
    static unsigned runs;
    if (size < 2) {
        return 0;
    }
    if (data[0] % 8 == 6) {
        s_json (data + 1, size - 1);
        return 0;
    }
    if (data[0] % 8 == 7) {
        s_recovery (data + 1, size - 1);
        return 0;
    }
    if (s_core == NULL || runs++ % 5000 == 0) {
        ef_core_destroy (&s_core);
        s_new_core ();
    }
    s_frames (data[1], data + 2, size - 2);
    if (runs % 64 == 0) {
        ef_core_check (s_core);
    }
    return 0;
}
