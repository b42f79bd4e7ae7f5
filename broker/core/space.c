/* What is still done while the disk fills up. SPDX-License-Identifier: MIT

   Segments that are ready before they are needed are the measure: as long as they can be replaced
   the state is NORMAL. When one can't, what is left is kept for finishing work. LOW: publishers are
   refused, so are large emits, nothing comes back from the dead letters. FULL, with one segment
   left: ingress isn't read, a failed attempt keeps its code only. And a delivery is made only while
   the outcomes of all that is out, this one included, have their place; so an answer is never
   refused. Everything goes back by itself, a step later than it came. */
#include "core_private.h"

#define OUTCOME_BYTES                                                                              \
    1024 /* of one event: its end, or an attempt with a code and a death, and what                 \
            a copy of it says of that */

static uint64_t
s_room (const ef_core_t *self) {
    uint64_t open =
        self->segment_limit > self->segment_fill ? self->segment_limit - self->segment_fill : 0;
    return open + (uint64_t)self->spares_ready * self->config.segment_bytes;
}

/* Bytes that mustn't be touched: all outcomes, all deaths of what waits for insertion, and what a
   new segment begins with. */
static uint64_t
s_promised (const ef_core_t *self) {
    uint64_t events = 0;
    uint64_t bytes = self->snapshot_bytes;
    for (uint32_t i = 0; i < self->topic_count; i++) {
        const topic_t *topic = self->topics[i];
        events += topic->counts[EF_STATE_LEASED] + topic->inserting;
        bytes += 2 * topic->pinned_bytes; /* its own on_dead and its topic's */
    }
    return events * OUTCOME_BYTES + bytes;
}

void
ef_core_space (ef_core_t *self, uint32_t ready, bool is_tight) {
    ef_space_t before = self->space;
    uint32_t wanted = self->config.spares;
    self->spares_ready = ready;
    if (!is_tight) {
        self->space = ready >= wanted || before == EF_SPACE_NORMAL ? EF_SPACE_NORMAL : EF_SPACE_LOW;
    } else if (ready <= 1) {
        self->space = EF_SPACE_FULL;
    } else if (before == EF_SPACE_FULL) {
        self->space = ready > 2 ? EF_SPACE_LOW : EF_SPACE_FULL;
    } else {
        self->space = ready < wanted || before != EF_SPACE_NORMAL ? EF_SPACE_LOW : EF_SPACE_NORMAL;
    }
    if (self->space != EF_SPACE_NORMAL) {
        checkpoint_give_up (self); /* it needs room that isn't kept for it */
    }
    if (self->space != before) {
        self->effects.notify (self->effects.arg, "space", "", ef_space_name (self->space));
    }
}

ef_space_t
ef_core_space_state (const ef_core_t *self) {
    return self->space;
}

uint32_t
ef_core_oldest_segment (const ef_core_t *self) {
    return self->oldest_segment;
}

uint32_t
ef_core_newest_segment (const ef_core_t *self) {
    return self->newest_segment;
}

uint64_t
ef_core_room (const ef_core_t *self) {
    return s_room (self);
}

/* How many events of a topic may be handed out: their outcomes will have a place. */
uint64_t
space_for_deliveries (const ef_core_t *self, const topic_t *topic) {
    uint64_t room = s_room (self);
    uint64_t promised = s_promised (self);
    if (self->space == EF_SPACE_NORMAL) {
        return UINT64_MAX;
    }
    bool is_copied = topic->config.on_done[0] || topic->config.on_dead[0];
    uint64_t each = OUTCOME_BYTES + (is_copied ? 2ull * self->config.max_event : 0);
    return room > promised ? (room - promised) / each : 0;
}

/* So many bytes may be copied to get the oldest segment back. */
bool
space_for_copies (const ef_core_t *self, uint64_t bytes) {
    return self->space == EF_SPACE_NORMAL || s_room (self) >= s_promised (self) + bytes;
}
