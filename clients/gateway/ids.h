/* Ids of events that came without one. SPDX-License-Identifier: MIT

   The gateway gives them, and not the broker, so that an answer can name the event also where no
   CONFIRM came, and sending the same again is no second event. */
#ifndef EF_GATEWAY_IDS_H
#define EF_GATEWAY_IDS_H

#include "../../proto/event.h"
#include "../../proto/limits.h"

#define IDS_TEXT (EF_ID_MAX + 1)

/* A UUIDv7 as text. Any thread. Returns its size. */
uint32_t ids_next (char text[IDS_TEXT]);

/* The id that an idempotency key stands for: the key itself, or its SHA-256 where it is longer than
   an id may be. `index` < 0: the only event of a request; else the place in its list. */
uint32_t ids_of_key (const char *key, size_t size, int64_t index, char text[IDS_TEXT]);

#endif
