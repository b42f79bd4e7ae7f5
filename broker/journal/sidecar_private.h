/* Layout shared by sidecar.c (looking up) and sidecar_make.c. SPDX-License-Identifier: MIT */
#ifndef EF_SIDECAR_PRIVATE_H
#define EF_SIDECAR_PRIVATE_H

#include "sidecar.h"

#define MAGIC         "EFSIDE\r\n"
#define TOPIC_BYTES   64
#define ID_BYTES      16
#define FACT_BYTES    32
#define TOPICS_A_PAGE (EF_SIDECAR_ROOM / TOPIC_BYTES)
#define IDS_A_PAGE    (EF_SIDECAR_ROOM / ID_BYTES)
#define FACTS_A_PAGE  (EF_SIDECAR_ROOM / FACT_BYTES)
#define PAGE_SEGMENT  EF_SIDECAR_ROOM
#define PAGE_PART     (EF_SIDECAR_ROOM + 8)
#define PAGE_NUMBER   (EF_SIDECAR_ROOM + 12)
#define PAGE_CRC      (EF_SIDECAR_PAGE - 4)
#define TAIL_MAX      4096u /* unsorted items that are simply looked through */

static inline uint32_t
pages_of (uint32_t count, uint32_t a_page) {
    return (count + a_page - 1) / a_page;
}

/* By (class, topic, n, offset). */
static inline int
fact_compare (const ef_fact_t *a, const ef_fact_t *b) {
    if (a->class != b->class) {
        return a->class < b->class ? -1 : 1;
    }
    if (a->topic != b->topic) {
        return a->topic < b->topic ? -1 : 1;
    }
    if (a->n != b->n) {
        return a->n < b->n ? -1 : 1;
    }
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

#endif
