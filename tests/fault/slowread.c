/* A disk whose large reads take a while, to be preloaded. SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <sys/types.h>
#include <unistd.h>

#define LARGE_BYTES (256u << 10)
#define PAUSE_US    150000

ssize_t
pread (int file, void *bytes, size_t size, off_t offset) {
    static ssize_t (*real) (int, void *, size_t, off_t);
    if (!real) {
        *(void **)&real = dlsym (RTLD_NEXT, "pread");
    }
    if (size >= LARGE_BYTES) {
        usleep (PAUSE_US);
    }
    return real (file, bytes, size, offset);
}

ssize_t
pread64 (int file, void *bytes, size_t size, off_t offset) {
    return pread (file, bytes, size, offset);
}
