/* A disk whose large reads stop at a gate until somebody opens it, to be preloaded.
   SPDX-License-Identifier: MIT

   GATEDREAD_GATE names a FIFO: behind the first few large reads the next one waits until the FIFO
   is opened for writing, and all that follow pass. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#define LARGE_BYTES (256u << 10)
#define FREE_READS  3

static void
s_pass_gate (void) {
    static _Atomic unsigned reads;
    const char *gate = getenv ("GATEDREAD_GATE");
    if (gate && atomic_fetch_add (&reads, 1) == FREE_READS) {
        int file = open (gate, O_RDONLY | O_CLOEXEC); /* returns once it has a writer */
        if (file >= 0) {
            close (file);
        }
    }
}

ssize_t
pread (int file, void *bytes, size_t size, off_t offset) {
    static ssize_t (*real) (int, void *, size_t, off_t);
    if (!real) {
        *(void **)&real = dlsym (RTLD_NEXT, "pread");
    }
    if (size >= LARGE_BYTES) {
        s_pass_gate ();
    }
    return real (file, bytes, size, offset);
}

ssize_t
pread64 (int file, void *bytes, size_t size, off_t offset) {
    return pread (file, bytes, size, offset);
}
