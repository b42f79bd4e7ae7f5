/* The events in hand: a table a topic, places from blocks. SPDX-License-Identifier: MIT

   An entry stays where it is for as long as it lives, so a walk over the blocks that takes its time
   misses none of those that were there when it began. */
#include "core_private.h"

static const void *
s_key (const void *item, size_t *size) {
    *size = sizeof (uint64_t);
    return &((const entry_t *)item)->n;
}

bool
entry_before (const void *a, const void *b) {
    return ((const entry_t *)a)->n < ((const entry_t *)b)->n;
}

void
entry_placed (void *item, uint32_t position) {
    ((entry_t *)item)->heap_at = position;
}

void
entries_init (ef_core_t *self, topic_t *topic) {
    ef_hash_init_numbers (&topic->entries, self->key, s_key);
    ef_heap_init (&topic->ready, entry_before, entry_placed);
    gates_init (self, topic);
    breakers_init (self, topic);
    ef_quota_init (&topic->quota);
}

void
entries_free (ef_core_t *self) {
    for (uint32_t i = 0; i < self->block_count; i++) {
        for (uint32_t k = 0; k < ENTRY_BLOCK; k++) {
            if (self->blocks[i][k].n) {
                free (self->blocks[i][k].history);
            }
        }
        free (self->blocks[i]);
    }
    free (self->blocks);
    self->blocks = NULL;
    self->block_count = 0;
    self->free_entry = NULL;
}

static void
s_add_block (ef_core_t *self) {
    entry_t *block = calloc (ENTRY_BLOCK, sizeof *block);
    self->blocks = realloc (self->blocks, (self->block_count + 1) * sizeof (entry_t *));
    ef_assert (block != NULL && self->blocks != NULL);
    self->blocks[self->block_count++] = block;
    for (uint32_t i = ENTRY_BLOCK; i > 0; i--) {
        block[i - 1].next = self->free_entry;
        self->free_entry = &block[i - 1];
    }
}

entry_t *
entry_find (topic_t *topic, uint64_t n) {
    return ef_hash_find (&topic->entries, &n, sizeof n);
}

entry_t *
entry_new (ef_core_t *self, topic_t *topic, uint64_t n) {
    ef_assert (n > 0);
    if (self->free_entry == NULL) {
        s_add_block (self);
    }
    entry_t *entry = self->free_entry;
    self->free_entry = entry->next;
    memset (entry, 0, sizeof *entry);
    entry->n = n;
    entry->topic = topic->index & 0xfff;
    entry->heap_at = EF_HEAP_NONE;
    entry->generation = (uint32_t)++self->next_generation;
    ef_hash_insert (&topic->entries, entry);
    return entry;
}

void
entry_ready (ef_core_t *self, entry_t *entry) {
    ef_assert (entry->heap_at == EF_HEAP_NONE);
    entry->state = EF_STATE_READY;
    ef_heap_push (&entry_topic (self, entry)->ready, entry);
}

void
entry_unready (ef_core_t *self, entry_t *entry) {
    if (entry->flags & ENTRY_GATED) {
        gate_leave (self, entry);
    } else if (entry->heap_at != EF_HEAP_NONE) {
        ef_heap_remove (&entry_topic (self, entry)->ready, entry->heap_at);
    }
}

void
entry_free (ef_core_t *self, entry_t **entry_p) {
    entry_t *entry = *entry_p;
    topic_t *topic = entry_topic (self, entry);
    if (entry->flags & ENTRY_INSERTING) {
        topic->inserting--;
    }
    entry_unready (self, entry);
    if (entry->history) {
        self->history_bytes -= entry->history->bytes;
        free (entry->history);
    }
    tie_free (topic, entry->n);
    topic->suspects -= (entry->flags & ENTRY_SUSPECT) && !self->is_replaying;
    ef_hash_remove (&topic->entries, entry);
    entry->n = 0;
    entry->next = self->free_entry;
    self->free_entry = entry;
    *entry_p = NULL;
}
