/* The least that libmicrohttpd can do: a POST read and answered 202. SPDX-License-Identifier: MIT

   What the gateway's rate is compared with, in the same run. usage: bare_server PORT THREADS; ends
   with its standard input. */
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum MHD_Result
s_handle (void *arg, struct MHD_Connection *connection, const char *url, const char *method,
          const char *version, const char *upload, size_t *upload_size, void **mark) {
    static int seen;
    static char answer[] = "{\"status\":\"queued\"}\n";
    (void)arg;
    (void)url;
    (void)method;
    (void)version;
    (void)upload;
    if (*mark == NULL) {
        *mark = &seen;
        return MHD_YES;
    }
    if (*upload_size > 0) {
        *upload_size = 0;
        return MHD_YES;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer (sizeof answer - 1, answer, MHD_RESPMEM_PERSISTENT);
    enum MHD_Result rc = MHD_queue_response (connection, MHD_HTTP_ACCEPTED, response);
    MHD_destroy_response (response);
    return rc;
}

int
main (int argc, char **argv) {
    if (argc < 3) {
        return 2;
    }
    struct MHD_Daemon *daemon = MHD_start_daemon (
        MHD_USE_EPOLL_INTERNAL_THREAD, (uint16_t)strtoul (argv[1], NULL, 10), NULL, NULL, s_handle,
        NULL, MHD_OPTION_THREAD_POOL_SIZE, (unsigned)strtoul (argv[2], NULL, 10), MHD_OPTION_END);
    if (daemon == NULL) {
        return 1;
    }
    printf ("ready\n");
    fflush (stdout);
    while (getchar () != EOF) {
    }
    MHD_stop_daemon (daemon);
    return 0;
}
