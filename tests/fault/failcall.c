/* Preloaded into eventflowd: counts its file calls in one directory and makes the n-th one fail.
   SPDX-License-Identifier: MIT

   FAILCALL_DATA   the directory; calls elsewhere are neither counted nor touched
   FAILCALL_CLASS  write sync space open rename unlink read, or all
   FAILCALL_N      which call of the class fails, from 1; 0: none, they are only counted
   FAILCALL_FAULT  EIO ENOSPC EDQUOT EROFS EINTR, or short (a write of half of the bytes)
   FAILCALL_LASTS  1: all later calls of the class fail too
   FAILCALL_COUNTS a file of u64, mapped and kept up to date: a count for each class in the order
                   above, then whether the fault came, then how many writes and syncs succeeded
                   later in the directory where a write or sync had failed */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

typedef enum { WRITE, SYNC, SPACE, OPEN, RENAME, UNLINK, READ, CLASSES } class_t;
enum { HIT = CLASSES, LATER, COUNTS };

#define PATH_BYTES 4096
#define REAL(name) ((__typeof__ (&name))dlsym (RTLD_NEXT, #name))

static const char *const s_classes[] = {"write",  "sync",   "space", "open",
                                        "rename", "unlink", "read"};
static const struct {
    const char *name;
    int error;
} s_faults[] = {{"EIO", EIO},     {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT},
                {"EROFS", EROFS}, {"EINTR", EINTR},   {"short", 0}};

static pthread_mutex_t s_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t *s_counts; /* mapped; NULL until the first call, or where none is wanted */
static char s_failed[PATH_BYTES];  /* the directory of the file whose write or sync failed */
static uint64_t s_called;

static const char *
s_setting (const char *name) {
    const char *value = getenv (name);
    return value ? value : "";
}

static void
s_map (void) {
    int file = REAL (open) (s_setting ("FAILCALL_COUNTS"), O_RDWR | O_CLOEXEC);
    if (s_counts == NULL && file >= 0) {
        void *map = mmap (NULL, COUNTS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        s_counts = map == MAP_FAILED ? NULL : map;
    }
    if (file >= 0) {
        close (file);
    }
    if (s_counts == NULL) {
        abort ();
    }
}

static int
s_is_watched (const char *path) {
    const char *data = s_setting ("FAILCALL_DATA");
    size_t size = strlen (data);
    return size > 0 && strncmp (path, data, size) == 0 && (path[size] == '/' || path[size] == 0);
}

static int
s_fault (void) {
    for (size_t i = 0; i < sizeof s_faults / sizeof s_faults[0]; i++) {
        if (strcmp (s_setting ("FAILCALL_FAULT"), s_faults[i].name) == 0) {
            return s_faults[i].error;
        }
    }
    abort ();
}

/* Counts a call on `path`. True: it is to fail. */
static int
s_counts_as_failed (class_t class, const char *path) {
    const char *wanted = s_setting ("FAILCALL_CLASS");
    uint64_t n = strtoull (s_setting ("FAILCALL_N"), NULL, 10);
    char directory[PATH_BYTES];
    int fails = 0;
    snprintf (directory, sizeof directory, "%s", path);
    *strrchr (directory, '/') = 0;
    pthread_mutex_lock (&s_lock);
    if (s_counts == NULL) {
        s_map ();
    }
    s_counts[class]++;
    if (n > 0 && (strcmp (wanted, "all") == 0 || strcmp (wanted, s_classes[class]) == 0)) {
        s_called++;
        fails = s_called == n || (s_called > n && *s_setting ("FAILCALL_LASTS") == '1');
    }
    if (fails) {
        s_counts[HIT] = 1;
        if ((class == WRITE || class == SYNC) && s_fault () != 0 && s_fault () != EINTR) {
            strcpy (s_failed, directory);
        }
    } else if ((class == WRITE || class == SYNC) && strcmp (s_failed, directory) == 0) {
        s_counts[LATER]++;
    }
    pthread_mutex_unlock (&s_lock);
    return fails;
}

/* True: this call on a descriptor is to fail; errno is set. */
static int
s_fails (class_t class, int file) {
    char link[64];
    char path[PATH_BYTES];
    snprintf (link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink (link, path, sizeof path - 1);
    path[size > 0 ? size : 0] = 0;
    if (!s_is_watched (path) || !s_counts_as_failed (class, path)) {
        return 0;
    }
    errno = s_fault ();
    return 1;
}

/* The same for a call on a name. */
static int
s_fails_at (class_t class, int directory, const char *name) {
    char link[64];
    char base[PATH_BYTES] = "";
    char path[2 * PATH_BYTES];
    if (name[0] != '/' && directory != AT_FDCWD) {
        snprintf (link, sizeof link, "/proc/self/fd/%d", directory);
        ssize_t size = readlink (link, base, sizeof base - 1);
        base[size > 0 ? size : 0] = 0;
    }
    snprintf (path, sizeof path, "%s%s%s", base, base[0] ? "/" : "", name);
    path[PATH_BYTES - 1] = 0;
    if (!s_is_watched (path) || !s_counts_as_failed (class, path)) {
        return 0;
    }
    errno = s_fault ();
    return 1;
}

ssize_t
pwritev (int file, const struct iovec *parts, int count, off_t offset) {
    if (!s_fails (WRITE, file)) {
        return REAL (pwritev) (file, parts, count, offset);
    }
    if (errno) {
        return -1;
    }
    return REAL (pwrite) (file, parts[0].iov_base, (parts[0].iov_len + 1) / 2, offset);
}

ssize_t
pwrite (int file, const void *bytes, size_t size, off_t offset) {
    int fails = s_fails (WRITE, file);
    return fails && errno ? -1 : REAL (pwrite) (file, bytes, fails ? (size + 1) / 2 : size, offset);
}

ssize_t
write (int file, const void *bytes, size_t size) {
    int fails = s_fails (WRITE, file);
    return fails && errno ? -1 : REAL (write) (file, bytes, fails ? (size + 1) / 2 : size);
}

ssize_t
pread (int file, void *bytes, size_t size, off_t offset) {
    int fails = s_fails (READ, file);
    return fails && errno ? -1 : REAL (pread) (file, bytes, fails ? (size + 1) / 2 : size, offset);
}

int
fdatasync (int file) {
    return s_fails (SYNC, file) ? -1 : REAL (fdatasync) (file);
}

int
fsync (int file) {
    return s_fails (SYNC, file) ? -1 : REAL (fsync) (file);
}

int
fallocate (int file, int mode, off_t offset, off_t bytes) {
    return s_fails (SPACE, file) ? -1 : REAL (fallocate) (file, mode, offset, bytes);
}

int
ftruncate (int file, off_t bytes) {
    return s_fails (SPACE, file) ? -1 : REAL (ftruncate) (file, bytes);
}

int
fstatvfs (int file, struct statvfs *status) {
    return s_fails (SPACE, file) ? -1 : REAL (fstatvfs) (file, status);
}

int
statvfs (const char *path, struct statvfs *status) {
    return s_fails_at (SPACE, AT_FDCWD, path) ? -1 : REAL (statvfs) (path, status);
}

int
open (const char *name, int flags, ...) {
    va_list arguments;
    va_start (arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg (arguments, mode_t) : 0;
    va_end (arguments);
    return s_fails_at (OPEN, AT_FDCWD, name) ? -1 : REAL (open) (name, flags, mode);
}

int
openat (int directory, const char *name, int flags, ...) {
    va_list arguments;
    va_start (arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg (arguments, mode_t) : 0;
    va_end (arguments);
    return s_fails_at (OPEN, directory, name) ? -1 : REAL (openat) (directory, name, flags, mode);
}

int
mkdir (const char *name, mode_t mode) {
    return s_fails_at (OPEN, AT_FDCWD, name) ? -1 : REAL (mkdir) (name, mode);
}

int
renameat (int old_directory, const char *old, int new_directory, const char *new) {
    return s_fails_at (RENAME, old_directory, old)
               ? -1
               : REAL (renameat) (old_directory, old, new_directory, new);
}

int
rename (const char *old, const char *new) {
    return s_fails_at (RENAME, AT_FDCWD, old) ? -1 : REAL (rename) (old, new);
}

int
unlinkat (int directory, const char *name, int flags) {
    return s_fails_at (UNLINK, directory, name) ? -1 : REAL (unlinkat) (directory, name, flags);
}

int
unlink (const char *name) {
    return s_fails_at (UNLINK, AT_FDCWD, name) ? -1 : REAL (unlink) (name);
}
