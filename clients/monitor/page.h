/* The dashboard's files, in the program. SPDX-License-Identifier: MIT

   Role: answers GET / and the files of clients/monitor/page, which are made into arrays when the
   program is built (page.cmake). Each has an ETag, and a compressed form for who takes gzip. */
#ifndef EF_MONITOR_PAGE_H
#define EF_MONITOR_PAGE_H

#include "../web/server.h"

typedef struct {
    const char *name; /* "app.js" */
    const char *type;
    const char *etag; /* with quotes */
    const unsigned char *plain;
    size_t plain_bytes;
    const unsigned char *gzip;
    size_t gzip_bytes;
} page_file_t;
extern const page_file_t page_files[]; /* made by page.cmake */
extern const size_t page_file_count;

/* One listener. */
void page_routes (listener_t *listener);

#endif
