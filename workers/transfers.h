/* Many libcurl transfers at once. SPDX-License-Identifier: MIT

   Role: a multi handle whose sockets stand in one epoll descriptor, so that a loop of our own polls
   a single descriptor however many there are. Owns: the multi handle with its connections, which
   are kept open between transfers. One thread; never blocks. */
#ifndef EF_TRANSFERS_H
#define EF_TRANSFERS_H

#include <curl/curl.h>
#include <poll.h>
#include <stdint.h>

typedef struct transfers_s transfers_t;
typedef void transfer_ended_t (void *arg, CURL *easy, CURLcode code);

/* `most_connections` open at once and kept; further transfers wait for one. NULL: libcurl can't. */
transfers_t *transfers_new (uint32_t most_connections);
/* No more than so many of them to one host. */
void transfers_bound_host (transfers_t *self, uint32_t most_connections);
/* Nothing is under way any more. */
void transfers_destroy (transfers_t **self_p);

/* Starts one. `easy` is borrowed until `ended` is called with it, from transfers_step; then it is
   the caller's, to be reset and used again. CURLOPT_PRIVATE is taken. 0, or -1: libcurl refuses it.
 */
int transfers_start (transfers_t *self, CURL *easy, transfer_ended_t *ended, void *arg);
/* Ends one; `ended` isn't called. Its connection is closed. */
void transfers_stop (transfers_t *self, CURL *easy);
uint32_t transfers_count (const transfers_t *self);

nfds_t transfers_polls (transfers_t *self, struct pollfd *items, nfds_t most, int *timeout_ms);
void transfers_step (transfers_t *self);

#endif
