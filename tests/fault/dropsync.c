/* Preloaded into eventflowd: remembers what was changed on disk and not yet synced, so that a test
   can take it back after it has killed the process, as a power cut would.
   SPDX-License-Identifier: MIT

   DROPSYNC_DATA names the directory that is watched, DROPSYNC_SHADOW one on the same file system
   that holds what is remembered (undo.py reads it):
   - INODE.undo, one for each changed file: entries of four u64 (offset, bytes that change, bytes
     that stood there, size of the file before), then those that stood there. A sync of the file
     removes it.
   - INODE.names, one for each directory: lines "create NAME", "mkdir NAME", "unlink NAME SAVED",
     "rename OLD NEW SAVED". A sync of the directory removes it. SAVED is a hard link in the shadow
     to the file that lost its name, "-" where there was none.
   An entry about bytes is written before the change, one about names behind it: a kill in between
   leaves either nothing to undo or an undo that changes nothing. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define PATH_BYTES 4096
#define REAL(name) ((__typeof__ (&name))dlsym (RTLD_NEXT, #name))

static pthread_mutex_t s_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned s_saved; /* names given to hard links in the shadow */

static void
s_require (int is_good) {
    if (!is_good) {
        abort (); /* a record that is missing would make the test lie */
    }
}

static int
s_is_watched (const char *path) {
    const char *data = getenv ("DROPSYNC_DATA");
    size_t size = data ? strlen (data) : 0;
    return size > 0 && getenv ("DROPSYNC_SHADOW") && strncmp (path, data, size) == 0 &&
           (path[size] == '/' || path[size] == 0);
}

/* The path behind a descriptor. 0: it is none that is watched. */
static int
s_path_of (int file, char path[PATH_BYTES]) {
    char link[64];
    snprintf (link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink (link, path, PATH_BYTES - 1);
    path[size > 0 ? size : 0] = 0;
    return s_is_watched (path);
}

/* The full path of NAME seen from DIRECTORY. 0: it isn't watched. */
static int
s_path_at (int directory, const char *name, char path[PATH_BYTES]) {
    char base[PATH_BYTES] = "";
    if (name[0] != '/' && directory == AT_FDCWD) {
        s_require (getcwd (base, sizeof base) != NULL);
    } else if (name[0] != '/') {
        (void)s_path_of (directory, base);
    }
    int size = snprintf (path, PATH_BYTES, "%s%s%s", base, name[0] == '/' ? "" : "/", name);
    return size < PATH_BYTES && s_is_watched (path);
}

static void
s_append (uint64_t inode, const char *kind, const void *bytes, size_t size) {
    char path[PATH_BYTES];
    snprintf (path, sizeof path, "%s/%llu.%s", getenv ("DROPSYNC_SHADOW"),
              (unsigned long long)inode, kind);
    int file = REAL (open) (path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    s_require (file >= 0 && REAL (write) (file, bytes, size) == (ssize_t)size);
    close (file);
}

static void
s_forget (uint64_t inode, const char *kind) {
    char path[PATH_BYTES];
    snprintf (path, sizeof path, "%s/%llu.%s", getenv ("DROPSYNC_SHADOW"),
              (unsigned long long)inode, kind);
    s_require (REAL (unlink) (path) == 0 || errno == ENOENT);
}

/* Notes what stands at `offset` of a file that is about to change there. */
static void
s_note_bytes (int file, uint64_t offset, uint64_t bytes) {
    char path[PATH_BYTES];
    struct stat status;
    if (!s_path_of (file, path) || fstat (file, &status) || !S_ISREG (status.st_mode)) {
        return;
    }
    uint64_t size = (uint64_t)status.st_size;
    uint64_t kept = offset >= size ? 0 : size - offset < bytes ? size - offset : bytes;
    uint64_t head[4] = {offset, bytes == INT64_MAX ? kept : bytes, kept, size};
    char *entry = malloc (sizeof head + kept);
    s_require (entry != NULL);
    memcpy (entry, head, sizeof head);
    s_require (REAL (pread) (file, entry + sizeof head, kept, (off_t)offset) == (ssize_t)kept);
    pthread_mutex_lock (&s_lock);
    s_append (status.st_ino, "undo", entry, sizeof head + kept);
    pthread_mutex_unlock (&s_lock);
    free (entry);
}

/* Notes a change of names in the directory of `path`; called under the lock. */
static void s_note_name (const char *path, const char *format, ...)
    __attribute__ ((format (printf, 2, 3)));

static void
s_note_name (const char *path, const char *format, ...) {
    char parent[PATH_BYTES];
    char line[PATH_BYTES];
    struct stat status;
    snprintf (parent, sizeof parent, "%s", path);
    *strrchr (parent, '/') = 0;
    s_require (stat (parent, &status) == 0);
    va_list arguments;
    va_start (arguments, format);
    int size = vsnprintf (line, sizeof line, format, arguments);
    va_end (arguments);
    s_append (status.st_ino, "names", line, (size_t)size);
}

/* Keeps a file that is about to lose its name. */
static void
s_save (const char *path, char saved[32]) {
    char copy[PATH_BYTES];
    do {
        snprintf (saved, 32, "saved.%u", ++s_saved);
        snprintf (copy, sizeof copy, "%s/%s", getenv ("DROPSYNC_SHADOW"), saved);
        if (link (path, copy) == 0) {
            return;
        }
    } while (errno == EEXIST); /* of a process before this one */
    s_require (errno == ENOENT);
    strcpy (saved, "-");
}

static const char *
s_name (const char *path) {
    return strrchr (path, '/') + 1;
}

static int
s_open (int directory, const char *name, int flags, mode_t mode) {
    char path[PATH_BYTES];
    struct stat status;
    if (!(flags & O_CREAT) || !s_path_at (directory, name, path)) {
        return REAL (openat) (directory, name, flags, mode);
    }
    pthread_mutex_lock (&s_lock);
    int is_new = stat (path, &status) != 0;
    int file = REAL (openat) (directory, name, flags, mode);
    int error = errno;
    if (file >= 0 && is_new) {
        s_require (fstat (file, &status) == 0);
        s_forget (status.st_ino, "undo"); /* of a file whose number this one got */
        s_note_name (path, "create %s\n", s_name (path));
    }
    pthread_mutex_unlock (&s_lock);
    errno = error;
    return file;
}

int
open (const char *name, int flags, ...) {
    va_list arguments;
    va_start (arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg (arguments, mode_t) : 0;
    va_end (arguments);
    return s_open (AT_FDCWD, name, flags, mode);
}

int
openat (int directory, const char *name, int flags, ...) {
    va_list arguments;
    va_start (arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg (arguments, mode_t) : 0;
    va_end (arguments);
    return s_open (directory, name, flags, mode);
}

int
mkdir (const char *name, mode_t mode) {
    char path[PATH_BYTES];
    pthread_mutex_lock (&s_lock);
    int rc = REAL (mkdir) (name, mode);
    int error = errno;
    if (rc == 0 && s_path_at (AT_FDCWD, name, path) &&
        strcmp (path, getenv ("DROPSYNC_DATA")) != 0) {
        s_note_name (path, "mkdir %s\n", s_name (path));
    }
    pthread_mutex_unlock (&s_lock);
    errno = error;
    return rc;
}

int
unlinkat (int directory, const char *name, int flags) {
    char path[PATH_BYTES];
    char saved[32];
    if ((flags & AT_REMOVEDIR) || !s_path_at (directory, name, path)) {
        return REAL (unlinkat) (directory, name, flags);
    }
    pthread_mutex_lock (&s_lock);
    s_save (path, saved);
    int rc = REAL (unlinkat) (directory, name, flags);
    int error = errno;
    if (rc == 0) {
        s_note_name (path, "unlink %s %s\n", s_name (path), saved);
    }
    pthread_mutex_unlock (&s_lock);
    errno = error;
    return rc;
}

int
unlink (const char *name) {
    return unlinkat (AT_FDCWD, name, 0);
}

int
renameat (int old_directory, const char *old, int new_directory, const char *new) {
    char from[PATH_BYTES];
    char to[PATH_BYTES];
    char saved[32];
    if (!s_path_at (old_directory, old, from) || !s_path_at (new_directory, new, to)) {
        return REAL (renameat) (old_directory, old, new_directory, new);
    }
    pthread_mutex_lock (&s_lock);
    s_save (to, saved);
    int rc = REAL (renameat) (old_directory, old, new_directory, new);
    int error = errno;
    if (rc == 0) { /* both names lie in one directory, or the test couldn't order their syncs */
        s_require (s_name (from) - from == s_name (to) - to);
        s_note_name (to, "rename %s %s %s\n", s_name (from), s_name (to), saved);
    }
    pthread_mutex_unlock (&s_lock);
    errno = error;
    return rc;
}

int
rename (const char *old, const char *new) {
    return renameat (AT_FDCWD, old, AT_FDCWD, new);
}

ssize_t
pwritev (int file, const struct iovec *parts, int count, off_t offset) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++) {
        bytes += parts[i].iov_len;
    }
    s_note_bytes (file, (uint64_t)offset, bytes);
    return REAL (pwritev) (file, parts, count, offset);
}

ssize_t
pwrite (int file, const void *bytes, size_t size, off_t offset) {
    s_note_bytes (file, (uint64_t)offset, size);
    return REAL (pwrite) (file, bytes, size, offset);
}

ssize_t
write (int file, const void *bytes, size_t size) {
    off_t offset = lseek (file, 0, SEEK_CUR);
    if (offset >= 0) {
        s_note_bytes (file, (uint64_t)offset, size);
    }
    return REAL (write) (file, bytes, size);
}

int
ftruncate (int file, off_t bytes) {
    s_note_bytes (file, (uint64_t)bytes, INT64_MAX);
    return REAL (ftruncate) (file, bytes);
}

int
fallocate (int file, int mode, off_t offset, off_t bytes) {
    s_note_bytes (file, (uint64_t)offset, mode ? (uint64_t)bytes : 0);
    return REAL (fallocate) (file, mode, offset, bytes);
}

/* What was changed before the call is durable behind it. The lock keeps names out meanwhile. */
static int
s_sync (int file, int (*real) (int)) {
    char path[PATH_BYTES];
    struct stat status;
    if (!s_path_of (file, path) || fstat (file, &status)) {
        return real (file);
    }
    pthread_mutex_lock (&s_lock);
    int rc = real (file);
    int error = errno;
    if (rc == 0) {
        s_forget (status.st_ino, S_ISDIR (status.st_mode) ? "names" : "undo");
    }
    pthread_mutex_unlock (&s_lock);
    errno = error;
    return rc;
}

int
fdatasync (int file) {
    return s_sync (file, REAL (fdatasync));
}

int
fsync (int file) {
    return s_sync (file, REAL (fsync));
}
