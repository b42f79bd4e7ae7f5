/* Preloaded: names under slow.invalid take a minute and a half to look up.
   SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

typedef int getaddrinfo_t (const char *, const char *, const struct addrinfo *, struct addrinfo **);

int
getaddrinfo (const char *name, const char *service, const struct addrinfo *hints,
             struct addrinfo **result) {
    getaddrinfo_t *real = (getaddrinfo_t *)dlsym (RTLD_NEXT, "getaddrinfo");
    if (name && strstr (name, "slow.invalid")) {
        sleep (90);
    }
    return real (name, service, hints, result);
}
