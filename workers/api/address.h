/* Which hosts may be called, and which addresses. SPDX-License-Identifier: MIT

   A list of hosts is read once. Without one every public address may be called; with one only what
   it names. Loopback, private, link-local, multicast and other addresses that aren't of the public
   net are denied in both cases unless the list names the host or a network that holds the address.
   The judgement is on the address that a connection goes to, so a name that resolves to something
   else the second time gains nothing. */
#ifndef EF_ADDRESS_H
#define EF_ADDRESS_H

#include "../../proto/assert.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_TEXT_BYTES 64

typedef struct address_list_s address_list_t;

/* Items are separated by commas: a host (hooks.example.org), all hosts under one (*.example.org),
   an address, a network (10.0.0.0/8, fd00::/8), each with :port where only one is meant; * is every
   public host. Empty: the same as *. NULL: `error` names the item that is wrong. */
EF_MUST_USE address_list_t *address_list_new (const char *text, char error[512]);
void address_list_destroy (address_list_t **self_p);

/* Before anything is resolved: false where the host can't be allowed whatever its address is. A
   host that is an address is judged here; it may be in brackets. */
bool address_may_call (const address_list_t *self, const char *host, uint16_t port);

/* May a connection that is for `host` go to this address? Only IPv4 and IPv6 may at all. */
bool address_may_connect (const address_list_t *self, const char *host, uint16_t port,
                          const struct sockaddr *address);

/* True where the list (not its absence) allows the name. */
bool address_is_named (const address_list_t *self, const char *host, uint16_t port);

/* An address of the public net (IANA's special-purpose registries say which aren't). */
bool address_is_public (const struct sockaddr *address);

/* The address in numbers, without its port. */
void address_text (const struct sockaddr *address, char text[ADDRESS_TEXT_BYTES]);

#endif
