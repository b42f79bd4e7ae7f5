/* What the unit tests share. SPDX-License-Identifier: MIT */
#ifndef EF_UNIT_H
#define EF_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A copy of `bytes` whose end touches a page that can't be read, so that one byte too many crashes.
 */
typedef struct {
    uint8_t *map;
    size_t size;
    uint8_t *bytes;
} guarded_t;

static inline guarded_t
guard (const void *bytes, size_t size) {
    size_t page = (size_t)sysconf (_SC_PAGESIZE);
    size_t body = (size + page) / page * page;
    guarded_t self = {NULL, body + page, NULL};
    self.map = mmap (NULL, self.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal (self.map, MAP_FAILED);
    assert_int_equal (mprotect (self.map + body, page, PROT_NONE), 0);
    self.bytes = self.map + body - size;
    if (size) {
        memcpy (self.bytes, bytes, size);
    }
    return self;
}

static inline void
unguard (guarded_t *self) {
    munmap (self->map, self->size);
}

#endif
