/* A binary heap of pointers that tells each element where it stands, so that any of them can be
   taken out or moved in O(log n). SPDX-License-Identifier: MIT */
#ifndef EF_HEAP_H
#define EF_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EF_HEAP_NONE UINT32_MAX /* the place of what is in no heap */

typedef struct {
    void **items; /* owned array of borrowed elements */
    uint32_t count;
    uint32_t capacity;
    bool (*before) (const void *a, const void *b);  /* strict order; ties are broken by it too */
    void (*placed) (void *item, uint32_t position); /* EF_HEAP_NONE when it leaves */
} ef_heap_t;

void ef_heap_init (ef_heap_t *self, bool (*before) (const void *, const void *),
                   void (*placed) (void *, uint32_t));
void ef_heap_free (ef_heap_t *self);
void ef_heap_push (ef_heap_t *self, void *item);
void *ef_heap_top (const ef_heap_t *self); /* NULL where it is empty */
void ef_heap_remove (ef_heap_t *self, uint32_t position);
void ef_heap_moved (ef_heap_t *self, uint32_t position); /* its key has changed */

#endif
