/* A storage that changes nothing. SPDX-License-Identifier: MIT */
#include "storage_read.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    ef_storage_t base;
    ef_storage_t *real; /* owned; lists, sizes and reads */
    int directory;      /* files are opened for reading alone */
} mirror_t;

static int
s_list (ef_storage_t *self, void (*each) (void *arg, const char *name), void *arg) {
    ef_storage_t *real = ((mirror_t *)self)->real;
    return real->list (real, each, arg);
}

/* A handle whose writes go nowhere and whose reads find nothing. */
static int
s_create (ef_storage_t *self, const char *name, uint64_t bytes) {
    (void)self;
    (void)name;
    (void)bytes;
    int file = open ("/dev/null", O_RDWR | O_CLOEXEC);
    return file < 0 ? -errno : file;
}

static int
s_open (ef_storage_t *self, const char *name) {
    int file = openat (((mirror_t *)self)->directory, name, O_RDONLY | O_CLOEXEC);
    return file < 0 ? -errno : file;
}

static void
s_close (ef_storage_t *self, int file) {
    (void)self;
    close (file);
}

static int64_t
s_size (ef_storage_t *self, int file) {
    ef_storage_t *real = ((mirror_t *)self)->real;
    return real->size (real, file);
}

static int
s_write (ef_storage_t *self, int file, const struct iovec *parts, int count, uint64_t offset) {
    (void)self;
    (void)file;
    (void)parts;
    (void)count;
    (void)offset;
    return 0;
}

static int64_t
s_read (ef_storage_t *self, int file, void *bytes, size_t size, uint64_t offset) {
    ef_storage_t *real = ((mirror_t *)self)->real;
    return real->read (real, file, bytes, size, offset);
}

static int
s_truncate (ef_storage_t *self, int file, uint64_t bytes) {
    (void)self;
    (void)file;
    (void)bytes;
    return 0;
}

static int
s_sync (ef_storage_t *self, int file) {
    (void)self;
    (void)file;
    return 0;
}

static int
s_sync_directory (ef_storage_t *self) {
    (void)self;
    return 0;
}

static int
s_unlink (ef_storage_t *self, const char *name) {
    (void)self;
    (void)name;
    return 0;
}

static int
s_rename (ef_storage_t *self, const char *from, const char *to) {
    (void)self;
    (void)from;
    (void)to;
    return 0;
}

static int
s_room (ef_storage_t *self, uint64_t *bytes) {
    ef_storage_t *real = ((mirror_t *)self)->real;
    return real->room (real, bytes);
}

static void
s_uncache (ef_storage_t *self, int file) {
    (void)self;
    (void)file;
}

static void
s_destroy (ef_storage_t **self_p) {
    mirror_t *self = (mirror_t *)*self_p;
    if (self) {
        self->real->destroy (&self->real);
        close (self->directory);
        free (self);
        *self_p = NULL;
    }
}

ef_storage_t *
ef_storage_read_new (const char *path, int *error) {
    int directory = open (path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0) {
        *error = errno;
        return NULL;
    }
    ef_storage_t *real = ef_storage_new (path, error); /* it is there, so nothing is made */
    if (real == NULL) {
        close (directory);
        return NULL;
    }
    mirror_t *self = calloc (1, sizeof *self);
    ef_assert (self != NULL);
    self->real = real;
    self->directory = directory;
    self->base = (ef_storage_t){.list = s_list,
                                .create = s_create,
                                .open = s_open,
                                .close = s_close,
                                .size = s_size,
                                .write = s_write,
                                .read = s_read,
                                .truncate = s_truncate,
                                .extend = s_truncate,
                                .sync = s_sync,
                                .sync_directory = s_sync_directory,
                                .unlink = s_unlink,
                                .rename = s_rename,
                                .room = s_room,
                                .uncache = s_uncache,
                                .destroy = s_destroy};
    return &self->base;
}
