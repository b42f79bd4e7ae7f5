/* A storage that reads real files and changes nothing. SPDX-License-Identifier: MIT

   For tools that look at a broker's files at rest, on a read-only mount too. What ef_wal_open does
   to a directory (cutting a torn tail, removing a segment that was never born, making one) is
   answered as done and not done: the log reads nothing of it back. A file that is "created" takes
   writes and forgets them. */
#ifndef EF_STORAGE_READ_H
#define EF_STORAGE_READ_H

#include "storage.h"

/* Opens a directory that exists. NULL: `*error` is an errno. */
ef_storage_t *ef_storage_read_new (const char *path, int *error);

#endif
