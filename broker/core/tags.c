/* The tags that a worker names in an answer. SPDX-License-Identifier: MIT */
#include "back.h"

int
back_read_tag (ef_cursor_t *cursor, uint64_t *first, uint64_t *last) {
    uint32_t count;
    if (ef_get_uint (cursor, first) == 0) {
        *last = *first;
        return 0;
    }
    return ef_get_array (cursor, &count) || count != 2 || ef_get_uint (cursor, first) ||
                   ef_get_uint (cursor, last) || *last < *first
               ? -1
               : 0;
}

static void
s_stale (stale_t *stale, uint64_t tag) {
    if (stale->count < EF_STALE_MAX) {
        stale->tags[stale->count++] = tag;
    }
    stale->total++;
}

static void
s_each_of_lease (back_t *request, lease_t *lease, uint64_t first, uint64_t last, each_item_t each,
                 void *arg, stale_t *stale) {
    uint64_t end = lease->first_tag + lease->count - 1;
    uint64_t from = first > lease->first_tag ? first : lease->first_tag;
    uint64_t to = last < end ? last : end;
    for (uint64_t tag = from; tag <= to; tag++) {
        item_t *item = &lease->items[tag - lease->first_tag];
        request->visits++;
        if (item->state != ITEM_ANSWERED && !each (request, lease, item, tag, arg)) {
            s_stale (stale, tag);
        }
    }
}

int
back_each (back_t *request, ef_cursor_t tags, each_item_t each, void *arg, stale_t *stale) {
    worker_t *worker = request->peer->worker;
    uint32_t count;
    if (ef_get_array (&tags, &count) || count > EF_TAGS_MAX) {
        return -1;
    }
    request->visits = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t first;
        uint64_t last;
        uint32_t place;
        if (back_read_tag (&tags, &first, &last)) {
            return -1;
        }
        lease_t *one;
        if (first == last && worker_item (worker, first, &one) == NULL) {
            s_stale (stale, first);
            continue;
        }
        lease_t *lease = worker_lease_from (worker, first, &place);
        while (lease && lease->first_tag <= last) {
            if (request->visits > BACK_VISITS_MAX) {
                return -1;
            }
            uint64_t behind = lease->first_tag + lease->count;
            s_each_of_lease (request, lease, first, last, each, arg, stale);
            lease_reap (request->core, lease);
            lease = behind <= last ? worker_lease_from (worker, behind, &place) : NULL;
        }
    }
    return 0;
}
