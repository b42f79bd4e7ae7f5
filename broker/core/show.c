/* What is known of one live event. SPDX-License-Identifier: MIT */
#include "core_private.h"

static void
s_put_lease (const ef_core_t *self, const lease_t *lease, const item_t *item, ef_buf_t *out) {
    uint64_t left = item->deadline_ms > self->now ? item->deadline_ms - self->now : 0;
    ef_put_map (out, 5);
    ef_put_key_str (out, "state", ef_state_name (EF_STATE_LEASED));
    ef_put_key_uint (out, "attempts", item->entry ? item->entry->tries : 0);
    ef_put_key_str (out, "worker", lease->worker->name);
    ef_put_key_uint (out, "tag", lease->first_tag + (uint64_t)(item - lease->items));
    ef_put_key_uint (out, "deadline", self->wall + left);
}

ef_status_t
ef_core_show (ef_core_t *self, uint32_t topic_index, uint64_t n, ef_buf_t *out) {
    ef_assert (topic_index < self->topic_count);
    topic_t *topic = self->topics[topic_index];
    const entry_t *entry = entry_find (topic, n);
    lease_t *lease;
    const item_t *item = entry == NULL || entry->state == EF_STATE_LEASED
                             ? lease_find_event (self, topic, n, &lease)
                             : NULL;
    ef_extent_at_t at;
    if (item) {
        s_put_lease (self, lease, item, out);
        return EF_OK;
    }
    if (entry == NULL && ef_extents_find (&topic->extents, n, &at) == NULL) {
        return EF_NOT_FOUND;
    }
    bool is_waiting =
        entry && (entry->state == EF_STATE_RETRYING || entry->state == EF_STATE_SCHEDULED);
    bool is_inserting = entry && (entry->flags & ENTRY_INSERTING);
    bool is_dead = entry && entry->state == EF_STATE_DEAD;
    ef_put_map (out, is_dead ? 4 : is_waiting ? 3 : 2);
    ef_put_key_str (out, "state",
                    ef_state_name (entry ? (ef_state_t)entry->state : EF_STATE_READY));
    ef_put_key_uint (out, "attempts", entry && !is_inserting ? entry->tries : 0);
    if (is_waiting) {
        ef_put_key_uint (out, "due", entry->due_ms);
    } else if (is_dead) {
        ef_put_key_uint (out, "ended", entry->dead_ms);
        ef_put_key_str (out, "reason", ef_reason_name ((ef_reason_t)entry->reason));
    }
    return EF_OK;
}
