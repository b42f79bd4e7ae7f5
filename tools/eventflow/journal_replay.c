/* The broker's own replay, with nobody behind it. SPDX-License-Identifier: MIT */
#include "journal.h"

#include <errno.h>
#include <stdlib.h>

/* Effects of a core that is replayed and asked, and never runs: what it wants done is dropped. It
   has no peers, so nothing is sent. */
static void
s_submit (void *arg, ef_batch_t *batch) {
    (void)arg;
    ef_buf_free (&batch->buf);
    free (batch);
}

static void
s_fetch (void *arg, uint32_t segment, uint32_t offset) {
    (void)arg;
    (void)segment;
    (void)offset;
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
s_notify (void *arg, const char *kind, const char *topic, const char *detail) {
    (void)arg;
    (void)kind;
    (void)topic;
    (void)detail;
}

static uint64_t
s_random (void *arg) {
    (void)arg;
    return ef_random ();
}

ef_core_t *
journal_core_new (void) {
    ef_core_config_t config = {.broker = "journal",
                               .max_event = EF_EVENT_MAX,
                               .max_message = EF_MESSAGE_MAX,
                               .window = EF_WINDOW_EVENTS,
                               .heartbeat_ms = EF_HEARTBEAT_MS,
                               .segment_bytes = UINT32_MAX,
                               .behind_bytes = UINT32_MAX,
                               .auto_create = true,
                               .durability = "sync"};
    ef_effects_t effects = {.submit = s_submit,
                            .fetch = s_fetch,
                            .retry_at = s_retry_at,
                            .notify = s_notify,
                            .random = s_random};
    ef_core_t *core = ef_core_new (&config, &effects);
    ef_core_clock (core, ef_mono_ms (), ef_wall_ms ());
    return core;
}

ef_wal_options_t
journal_wal_options (void) {
    return (ef_wal_options_t){.segment_bytes = 1u << 20,
                              .wall_ms = ef_wall_ms (),
                              .random = {ef_random (), ef_random ()}};
}

static int
s_replay (void *arg, const ef_record_t *record) {
    return ef_core_replay (arg, record);
}

int
journal_replay (replayed_t *self, ef_storage_t *storage, char error[512]) {
    ef_wal_options_t options = journal_wal_options ();
    memset (self, 0, sizeof *self);
    self->storage = storage;
    self->core = journal_core_new ();
    self->wal = ef_wal_open (storage, &options, s_replay, self->core, &self->report);
    if (self->wal) {
        return CLI_OK;
    }
    snprintf (error, 512, "%.300s", self->report.text);
    return self->report.error == EBADMSG ? CLI_DAMAGED : CLI_FAILED;
}

void
journal_replay_free (replayed_t *self) {
    ef_wal_destroy (&self->wal);
    ef_core_destroy (&self->core);
    if (self->storage) {
        self->storage->destroy (&self->storage);
    }
}
