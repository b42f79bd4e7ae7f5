/* Preloaded into eventflowd: the wall clock goes wrong by what a file says; the monotonic clock
   doesn't. SPDX-License-Identifier: MIT

   CLOCKSHIFT_FILE names a file of one i64, milliseconds that are added to the wall clock. It is
   mapped, so that a test steps the clock of a running process by a write to it. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__ (&name))dlsym (RTLD_NEXT, #name))

static const _Atomic int64_t *s_shift; /* mapped before main */

__attribute__ ((constructor)) static void
s_map (void) {
    const char *path = getenv ("CLOCKSHIFT_FILE");
    int file = path ? open (path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) {
        return;
    }
    void *map = mmap (NULL, sizeof *s_shift, PROT_READ, MAP_SHARED, file, 0);
    s_shift = map == MAP_FAILED ? NULL : map;
    close (file);
}

int
clock_gettime (clockid_t clock, struct timespec *now) {
    static int (*real) (clockid_t, struct timespec *);
    real = real ? real : REAL (clock_gettime);
    int rc = real (clock, now);
    if (rc == 0 && s_shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t ms = atomic_load (s_shift);
        int64_t ns = now->tv_nsec + ms % 1000 * 1000000;
        now->tv_sec += ms / 1000 + (ns >= 1000000000) - (ns < 0);
        now->tv_nsec = ns >= 1000000000 ? ns - 1000000000 : ns < 0 ? ns + 1000000000 : ns;
    }
    return rc;
}

int
gettimeofday (struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec precise;
    int rc = clock_gettime (CLOCK_REALTIME, &precise);
    *now = (struct timeval){precise.tv_sec, precise.tv_nsec / 1000};
    return rc;
}

time_t
time (time_t *now) {
    struct timespec precise = {0};
    (void)clock_gettime (CLOCK_REALTIME, &precise); /* this clock is always there */
    if (now) {
        *now = precise.tv_sec;
    }
    return precise.tv_sec;
}
