/* Where an event goes that names no topic. Pure. SPDX-License-Identifier: MIT

   A route's `type` and all its headers must fit (pattern.h); the first route that fits is taken,
   and one without conditions takes everything. A type or header that isn't there fits no pattern,
   not even `*`. Of headers only those whose value is a str or an int can fit; of several of one
   name any may. What a stranger sends is looked at within bounds (limits.h): the first
   EF_ROUTE_HEADERS_SEEN headers, types and values up to EF_ROUTE_TEXT_MAX bytes. */
#ifndef EF_ROUTE_H
#define EF_ROUTE_H

#include "../../proto/event.h"
#include "settings.h"

/* The route of an event; NULL: none fits. Borrowed from `routes`. */
const ef_route_t *ef_route_find (const ef_route_t *routes, uint32_t count, const ef_event_t *event);

#endif
