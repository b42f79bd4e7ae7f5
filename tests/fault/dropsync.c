/* Preloaded into eventflowd: remembers what was written and not yet synced, so that a test can take
   it back after it has killed the process, as a power cut would. SPDX-License-Identifier: MIT

   Before every write to a segment the bytes that stood there are appended to FILE.undo (offset,
   size, bytes); a sync of the segment empties that. After SIGKILL the test applies what is left
   backwards: the files are as they were at their last sync. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FILES 1024

static int s_undo[FILES]; /* descriptor of the undo log, by the file's descriptor; 0: none */

static int
s_undo_of (int file) {
    char link[64];
    char path[4096];
    if (file < 0 || file >= FILES) {
        return -1;
    }
    if (s_undo[file] == 0) {
        snprintf (link, sizeof link, "/proc/self/fd/%d", file);
        ssize_t size = readlink (link, path, sizeof path - 8);
        if (size <= 4 || memcmp (path + size - 4, ".seg", 4) != 0) {
            return -1;
        }
        strcpy (path + size, ".undo");
        s_undo[file] = open (path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    }
    return s_undo[file];
}

ssize_t
pwritev (int file, const struct iovec *parts, int count, off_t offset) {
    static ssize_t (*real) (int, const struct iovec *, int, off_t);
    real = real ? real
                : (ssize_t (*) (int, const struct iovec *, int, off_t))dlsym (RTLD_NEXT, "pwritev");
    int undo = s_undo_of (file);
    size_t bytes = 0;
    for (int i = 0; i < count; i++) {
        bytes += parts[i].iov_len;
    }
    if (undo >= 0) {
        uint8_t *record = calloc (1, bytes + 16);
        uint64_t head[2] = {(uint64_t)offset, bytes};
        memcpy (record, head, 16);
        if (pread (file, record + 16, bytes, offset) < 0 ||
            write (undo, record, bytes + 16) != (ssize_t)(bytes + 16)) {
            abort ();
        }
        free (record);
    }
    return real (file, parts, count, offset);
}

int
fdatasync (int file) {
    static int (*real) (int);
    real = real ? real : (int (*) (int))dlsym (RTLD_NEXT, "fdatasync");
    int rc = real (file);
    int undo = s_undo_of (file);
    if (rc == 0 && undo >= 0 && ftruncate (undo, 0)) {
        abort ();
    }
    return rc;
}

int
close (int file) {
    static int (*real) (int);
    real = real ? real : (int (*) (int))dlsym (RTLD_NEXT, "close");
    if (file > 0 && file < FILES && s_undo[file] > 0) {
        int undo = s_undo[file];
        s_undo[file] = 0;
        real (undo);
    }
    return real (file);
}
