/* The one door to files: a small table of functions with a real and a simulated implementation.
   SPDX-License-Identifier: MIT

   A storage is one flat directory. Every function returns 0 or a handle or a count, and a negative
   errno on failure. Nothing here retries a failed sync. */
#ifndef EF_STORAGE_H
#define EF_STORAGE_H

#include "../../proto/assert.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

typedef struct ef_storage_s ef_storage_t;

struct ef_storage_s {
    /* Calls `each` for every file name, in no order. */
    int (*list) (ef_storage_t *self, void (*each) (void *arg, const char *name), void *arg);
    /* Creates a file that must not exist, with `bytes` of zeros reserved. The name is durable only
       after sync_directory. */
    int (*create) (ef_storage_t *self, const char *name, uint64_t bytes);
    int (*open) (ef_storage_t *self, const char *name);
    void (*close) (ef_storage_t *self, int file);
    int64_t (*size) (ef_storage_t *self, int file);
    /* Writes all of it or fails; a short write is a failure. */
    int (*write) (ef_storage_t *self, int file, const struct iovec *parts, int count,
                  uint64_t offset);
    /* Reads up to `bytes`; fewer only at the end of the file. */
    int64_t (*read) (ef_storage_t *self, int file, void *bytes, size_t size, uint64_t offset);
    int (*truncate) (ef_storage_t *self, int file, uint64_t bytes);
    /* Reserves zeros up to `bytes` where the file is shorter. */
    int (*extend) (ef_storage_t *self, int file, uint64_t bytes);
    int (*sync) (ef_storage_t *self, int file);
    int (*sync_directory) (ef_storage_t *self);
    int (*unlink) (ef_storage_t *self, const char *name);
    /* Takes the place of a file that has the new name. Durable after sync_directory. */
    int (*rename) (ef_storage_t *self, const char *from, const char *to);
    /* How many bytes the file system would still give. */
    int (*room) (ef_storage_t *self, uint64_t *bytes);
    /* Forgets what is cached of a file, so that reads tell what the disk holds: after a failed sync
       the cache may show bytes that were never written (Rebello et al., USENIX ATC 2020). */
    void (*uncache) (ef_storage_t *self, int file);
    void (*destroy) (ef_storage_t **self_p);
};

/* Opens a directory, creating it where it is missing (mode 0700). NULL: `*error` is an errno. */
ef_storage_t *ef_storage_new (const char *path, int *error);

/* True for the errors of a disk, a quota or a file that is full. */
bool ef_storage_is_full (int rc);

/* True where this process lacks something that others of its own may give back: descriptors,
 * memory. */
bool ef_storage_is_scarce (int rc);

/* Takes the exclusive lock on a directory for the life of the process. 0, or a negative errno:
   -EWOULDBLOCK where another process holds it. */
EF_MUST_USE int ef_storage_lock (const char *path);

#endif
