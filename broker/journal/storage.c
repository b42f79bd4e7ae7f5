/* Storage on real files. SPDX-License-Identifier: MIT */
#include "storage.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* The first error of a write or sync that isn't a full disk ends all writing of this process, in
   every directory: what such a disk says afterwards can't be trusted, and nothing may be confirmed
   by it. */
static _Atomic bool s_is_broken;

static int
s_judge (int rc) {
    if (rc < 0 && !ef_storage_is_full (rc) && rc != -ENOENT && rc != -EEXIST) {
        atomic_store (&s_is_broken, true);
    }
    return rc;
}

static bool
s_refuses (void) {
    return atomic_load (&s_is_broken);
}

typedef struct {
    ef_storage_t base;
    int directory; /* open for *at calls and for its own sync */
} disk_t;

static int
s_list (ef_storage_t *self, void (*each) (void *arg, const char *name), void *arg) {
    int copy = openat (((disk_t *)self)->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *listing = copy >= 0 ? fdopendir (copy) : NULL;
    if (listing == NULL) {
        int error = errno;
        if (copy >= 0) {
            close (copy);
        }
        return -error;
    }
    struct dirent *entry;
    while ((entry = readdir (listing)) != NULL) {
        if (entry->d_name[0] != '.') {
            each (arg, entry->d_name);
        }
    }
    closedir (listing);
    return 0;
}

static int
s_extend (ef_storage_t *self, int file, uint64_t bytes) {
    (void)self;
    int rc;
    if (s_refuses ()) {
        return -EIO;
    }
    do {
        rc = fallocate (file, 0, 0, (off_t)bytes);
    } while (rc < 0 && errno == EINTR);
    if (rc < 0 && errno == EOPNOTSUPP) {
        rc = ftruncate (file, (off_t)bytes);
    }
    return s_judge (rc ? -errno : 0);
}

static int
s_create (ef_storage_t *self, const char *name, uint64_t bytes) {
    disk_t *disk = (disk_t *)self;
    int file = openat (disk->directory, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) {
        return -errno;
    }
    int rc = bytes ? s_extend (self, file, bytes) : 0;
    if (rc < 0) {
        close (file);
        (void)unlinkat (disk->directory, name, 0); /* what is left is found at the next start */
        return rc;
    }
    return file;
}

static int
s_open (ef_storage_t *self, const char *name) {
    int file = openat (((disk_t *)self)->directory, name, O_RDWR | O_CLOEXEC);
    return file < 0 ? -errno : file;
}

static void
s_close (ef_storage_t *self, int file) {
    (void)self;
    close (file);
}

static int64_t
s_size (ef_storage_t *self, int file) {
    (void)self;
    struct stat status;
    return fstat (file, &status) ? -errno : status.st_size;
}

static int
s_write (ef_storage_t *self, int file, const struct iovec *parts, int count, uint64_t offset) {
    (void)self;
    size_t bytes = 0;
    ssize_t written;
    if (s_refuses ()) {
        return -EIO;
    }
    for (int i = 0; i < count; i++) {
        bytes += parts[i].iov_len;
    }
    do {
        written = pwritev (file, parts, count, (off_t)offset);
    } while (written < 0 && errno == EINTR);
    if (written < 0) {
        return s_judge (-errno);
    }
    if ((size_t)written == bytes) {
        return 0;
    }
    /* Short: nothing was asked for that may be left undone. What a further byte meets says why. */
    struct iovec rest = {parts[count - 1].iov_base, 1};
    ssize_t more = pwritev (file, &rest, 1, (off_t)(offset + (uint64_t)written));
    return s_judge (more < 0 && ef_storage_is_full (-errno) ? -errno : -EIO);
}

static int64_t
s_read (ef_storage_t *self, int file, void *bytes, size_t size, uint64_t offset) {
    (void)self;
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread (file, (char *)bytes + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return -errno;
        }
        if (got == 0) {
            break;
        }
        done += (size_t)got;
    }
    return (int64_t)done;
}

static int
s_truncate (ef_storage_t *self, int file, uint64_t bytes) {
    (void)self;
    return s_refuses () ? -EIO : s_judge (ftruncate (file, (off_t)bytes) ? -errno : 0);
}

static int
s_sync (ef_storage_t *self, int file) {
    (void)self;
    return s_refuses () ? -EIO : s_judge (fdatasync (file) ? -errno : 0);
}

static int
s_sync_directory (ef_storage_t *self) {
    return s_refuses () ? -EIO : s_judge (fsync (((disk_t *)self)->directory) ? -errno : 0);
}

static int
s_unlink (ef_storage_t *self, const char *name) {
    return s_refuses () ? -EIO
                        : s_judge (unlinkat (((disk_t *)self)->directory, name, 0) ? -errno : 0);
}

static int
s_rename (ef_storage_t *self, const char *from, const char *to) {
    int directory = ((disk_t *)self)->directory;
    return s_refuses () ? -EIO : s_judge (renameat (directory, from, directory, to) ? -errno : 0);
}

static int
s_room (ef_storage_t *self, uint64_t *bytes) {
    struct statvfs status;
    if (fstatvfs (((disk_t *)self)->directory, &status)) {
        return -errno;
    }
    *bytes = (uint64_t)status.f_bavail * status.f_frsize;
    return 0;
}

static void
s_uncache (ef_storage_t *self, int file) {
    (void)self;
    (void)posix_fadvise (file, 0, 0, POSIX_FADV_DONTNEED); /* advice: it may be declined */
}

static void
s_destroy (ef_storage_t **self_p) {
    if (*self_p) {
        close (((disk_t *)*self_p)->directory);
        free (*self_p);
        *self_p = NULL;
    }
}

/* mkdir -p, and the new entry made durable in its parent. */
static int
s_make_directory (const char *path) {
    char parent[4096];
    if (mkdir (path, 0700) == 0) {
        strncpy (parent, path, sizeof parent - 1);
        parent[sizeof parent - 1] = 0;
        char *slash = strrchr (parent, '/');
        if (slash) {
            *slash = 0;
        }
        int file = open (slash == parent ? "/" : slash ? parent : ".", O_RDONLY | O_CLOEXEC);
        int rc = file < 0 || fsync (file) ? -errno : 0;
        if (file >= 0) {
            close (file);
        }
        return rc;
    }
    if (errno == EEXIST) {
        return 0;
    }
    if (errno != ENOENT || strlen (path) >= sizeof parent) {
        return -errno;
    }
    strcpy (parent, path);
    char *slash = strrchr (parent, '/');
    if (slash == NULL || slash == parent) {
        return -ENOENT;
    }
    *slash = 0;
    int rc = s_make_directory (parent);
    return rc ? rc : s_make_directory (path);
}

ef_storage_t *
ef_storage_new (const char *path, int *error) {
    int rc = s_make_directory (path);
    int directory = rc ? -1 : open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) {
        *error = rc ? -rc : errno;
        return NULL;
    }
    disk_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->directory = directory;
    self->base = (ef_storage_t){.list = s_list,
                                .create = s_create,
                                .open = s_open,
                                .close = s_close,
                                .size = s_size,
                                .write = s_write,
                                .read = s_read,
                                .truncate = s_truncate,
                                .extend = s_extend,
                                .sync = s_sync,
                                .sync_directory = s_sync_directory,
                                .unlink = s_unlink,
                                .rename = s_rename,
                                .room = s_room,
                                .uncache = s_uncache,
                                .destroy = s_destroy};
    return &self->base;
}

bool
ef_storage_is_full (int rc) {
    return rc == -ENOSPC || rc == -EDQUOT || rc == -EFBIG;
}

bool
ef_storage_is_scarce (int rc) {
    return rc == -EMFILE || rc == -ENFILE || rc == -ENOMEM;
}

int
ef_storage_lock (const char *path) {
    int rc = s_make_directory (path);
    if (rc) {
        return rc;
    }
    char name[4096];
    if (strlen (path) + sizeof "/lock" > sizeof name) {
        return -ENAMETOOLONG;
    }
    strcpy (name, path);
    strcat (name, "/lock");
    int file = open (name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) {
        return -errno;
    }
    if (flock (file, LOCK_EX | LOCK_NB)) {
        rc = -errno;
        close (file);
        return rc;
    }
    return 0; /* the descriptor stays open, and with it the lock, until the process ends */
}
