/* Opening listeners. SPDX-License-Identifier: MIT */
#include "server_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* HOST:PORT, [IPV6]:PORT or PORT. 0 or -1. */
static int
s_split (const char *address, char host[128], char port[16]) {
    const char *colon = strrchr (address, ':');
    const char *start = address;
    size_t size = colon ? (size_t)(colon - address) : 0;
    if (colon && size > 1 && start[0] == '[' && colon[-1] == ']') {
        start++;
        size -= 2;
    }
    snprintf (host, 128, "%.*s", (int)(size < 127 ? size : 127), size ? start : "127.0.0.1");
    if (size == 0) {
        snprintf (host, 128, "127.0.0.1");
    }
    const char *digits = colon ? colon + 1 : address;
    char *end;
    unsigned long number = strtoul (digits, &end, 10);
    snprintf (port, 16, "%lu", number % 65536);
    return *end || end == digits || number > 65535 || size > 127 ? -1 : 0;
}

static bool
s_is_loopback (const struct sockaddr *address) {
    if (address->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)address;
        return ntohl (in->sin_addr.s_addr) >> 24 == 127;
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)address;
    return address->sa_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK (&in6->sin6_addr);
}

/* A socket that listens, or -1 and `error`. */
static int
s_listen (listener_t *self, const char *address, char error[512]) {
    const access_options_t *access = &self->server->options->access;
    char host[128];
    char port[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    if (s_split (address, host, port) || getaddrinfo (host, port, &hints, &list)) {
        snprintf (error, 512, "%s: %.100s: expected an address such as 127.0.0.1:8080", self->name,
                  address);
        return -1;
    }
    int fd = -1;
    int yes = 1;
    if (!s_is_loopback (list->ai_addr) && access->tokens[0] == 0) {
        snprintf (error, 512, "%s: %.100s isn't loopback: expected a file of tokens (tokens)",
                  self->name, address);
    } else if (!s_is_loopback (list->ai_addr) && !self->server->certificate && !access->insecure) {
        snprintf (error, 512,
                  "%s: %.100s isn't loopback: expected tls_certificate and tls_key, or insecure = "
                  "1 on a network that is trusted",
                  self->name, address);
    } else {
        fd = socket (list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)setsockopt (fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes); /* then bind says it */
        if (fd < 0 || bind (fd, list->ai_addr, list->ai_addrlen) || listen (fd, 1024)) {
            snprintf (error, 512, "%s: can't listen on %.100s: %s", self->name, address,
                      strerror (errno));
            if (fd >= 0) {
                close (fd);
            }
            fd = -1;
        }
    }
    freeaddrinfo (list);
    return fd;
}

static void
s_say (listener_t *self, int fd) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    char host[128] = "?";
    char port[16] = "0";
    if (getsockname (fd, (struct sockaddr *)&address, &size) == 0) {
        (void)getnameinfo ((struct sockaddr *)&address, size, host, sizeof host, port, sizeof port,
                           NI_NUMERICHOST | NI_NUMERICSERV); /* else the question mark */
    }
    bool is_v6 = strchr (host, ':') != NULL;
    fprintf (stderr, "listening name=%s url=%s://%s%s%s:%s%s\n", self->name,
             self->server->certificate ? "https" : "http", is_v6 ? "[" : "", host, is_v6 ? "]" : "",
             port, self->server->options->base_path);
    if (self->address_count == 0) {
        self->port = (uint16_t)strtoul (port, NULL, 10);
    }
}

int
listen_open (listener_t *self, char error[512]) {
    char addresses[sizeof self->address];
    char *rest = addresses;
    memcpy (addresses, self->address, sizeof addresses);
    for (char *one = strsep (&rest, ","); one; one = strsep (&rest, ",")) {
        one += strspn (one, " ");
        if (self->address_count == WEB_ADDRESSES_MAX) {
            snprintf (error, 512, "%s: expected up to %d addresses", self->name, WEB_ADDRESSES_MAX);
            return -1;
        }
        int fd = s_listen (self, one, error);
        if (fd < 0) {
            return -1;
        }
        s_say (self, fd);
        self->doors[self->address_count++] = fd;
        for (uint32_t i = 0; i < self->server->options->threads; i++) {
            if (loop_add (self, fd)) {
                snprintf (error, 512, "%s: can't serve on %.100s (certificate and key?)",
                          self->name, one);
                return -1;
            }
        }
    }
    if (loops_start (self)) {
        snprintf (error, 512, "%s: can't start threads", self->name);
        return -1;
    }
    return 0;
}

void
listen_close (listener_t *self) {
    loops_stop (self);
    while (self->address_count > 0) {
        close (self->doors[--self->address_count]);
    }
}

static char *
s_load (const char *path, char error[512]) {
    FILE *file = fopen (path, "re");
    char *text = calloc (1, 65537);
    ef_assert (text != NULL);
    size_t size = file ? fread (text, 1, 65536, file) : 0;
    if (file) {
        fclose (file);
    }
    if (size == 0) {
        snprintf (error, 512, "can't read %.400s", path);
        free (text);
        return NULL;
    }
    return text;
}

int
listen_load_tls (server_t *self, char error[512]) {
    const web_options_t *options = self->options;
    if (options->tls_certificate[0] == 0 && options->tls_key[0] == 0) {
        return 0;
    }
    if (options->tls_certificate[0] == 0 || options->tls_key[0] == 0) {
        snprintf (error, 512, "tls_certificate and tls_key: expected both");
        return -1;
    }
    if (MHD_is_feature_supported (MHD_FEATURE_TLS) != MHD_YES) {
        snprintf (error, 512, "this libmicrohttpd was built without TLS");
        return -1;
    }
    self->certificate = s_load (options->tls_certificate, error);
    self->key = self->certificate ? s_load (options->tls_key, error) : NULL;
    return self->key ? 0 : -1;
}
