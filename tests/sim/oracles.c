/* What must hold between the broker's tables and the ledger. SPDX-License-Identifier: MIT */
#include "world.h"

/* An answer counts under the tag of the event's last delivery alone: whoever has an older one has
   lost the event to somebody else. Tags grow, so a later delivery is known by its tag. */
void
ledger_acked (world_t *self, const held_t *held, bool is_done) {
    sim_event_t *event = &self->events[held->event];
    if (is_done && held->tag < event->tag) {
        sim_fail (self, "e%u was done under tag %llu although tag %llu was given out later",
                  held->event, (unsigned long long)held->tag, (unsigned long long)event->tag);
    }
    event->is_acked = event->is_acked || is_done;
}

typedef struct {
    uint64_t above; /* letters up to this m are durable over there */
    uint64_t count; /* dead events of the core behind it */
} leaving_t;

static int
s_count_leaving (void *arg, ef_live_t *live) {
    leaving_t *leaving = arg;
    leaving->count += live->state == EF_STATE_DEAD && live->m > leaving->above;
    return 0;
}

/* A letter that the core doesn't know to be durable in its journal is still in the main one's. */
void
oracle_letters (world_t *self) {
    for (uint32_t i = 0; i < SIM_TOPICS; i++) {
        const ef_dead_log_t *log = self->dead[i];
        leaving_t leaving = {.above = self->dead_told[i]};
        uint32_t first = ef_dead_log_seek (log, self->dead_told[i] + 1);
        uint32_t untold = ef_dead_log_count (log) - first;
        if (untold == 0) {
            continue;
        }
        (void)ef_core_walk (self->core, i, s_count_leaving, &leaving); /* never stops early */
        if (leaving.count < untold) {
            sim_fail (self, "%s: %u letters aren't known to be durable, the core keeps %llu",
                      sim_topics[i], untold, (unsigned long long)leaving.count);
        }
    }
}

/* A letter tells of every attempt, but for those in the middle of many. */
void
oracle_history (world_t *self, unsigned k, const ef_letter_body_t *body) {
    uint32_t most = EF_HISTORY_FIRST + EF_HISTORY_LAST;
    uint32_t wanted = body->letter.attempts < most ? body->letter.attempts : most;
    uint32_t count = 0;
    ef_cursor_t cursor = ef_cursor (body->history.data, body->history.size);
    if (wanted > 0 && (ef_get_array (&cursor, &count) || count < wanted)) {
        sim_fail (self, "e%u died after %u attempts, its letter tells of %u", k,
                  body->letter.attempts, count);
    }
}

/* Sent with a delay it comes no sooner than that after it was sent, whatever crashed meanwhile;
   while the wall clock only goes on. */
void
oracle_due (world_t *self, unsigned k) {
    if (!self->was_set_back && self->wall < self->events[k].due_ms) {
        sim_fail (self, "e%u comes %llu ms before its time", k,
                  (unsigned long long)(self->events[k].due_ms - self->wall));
    }
}

/* A checkpoint is finished only when all that its parts know is durable: else what a crash takes
   back would come back by it. */
void
oracle_checkpoint (world_t *self) {
    if (!self->part->is_last) {
        self->has_gathered = true;
    } else if (self->durable_lsn < self->gathered_lsn) {
        sim_fail (self, "the checkpoint of segment %u knows batch %llu, durable is batch %llu",
                  self->part->segment, (unsigned long long)self->gathered_lsn,
                  (unsigned long long)self->durable_lsn);
    }
}
