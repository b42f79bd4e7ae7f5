/* An event as it stands on the wire: [topic, id, payload] or [topic, id, payload, meta].
   SPDX-License-Identifier: MIT */
#ifndef EF_EVENT_H
#define EF_EVENT_H

#include "buf.h"
#include "cursor.h"
#include "status.h"

/* A view into the bytes of one event; everything is borrowed from the input. A span whose data is
   NULL was nil or absent, an absent number is negative. */
typedef struct {
    ef_span_t raw; /* the whole event */
    ef_span_t topic;
    ef_span_t id;
    ef_span_t tail; /* payload and meta, the part that is stored and sent as it came */
    ef_span_t payload;
    ef_span_t meta; /* the map with its head */
    ef_span_t type;
    ef_span_t key;
    ef_span_t user;
    ef_span_t downstream;
    ef_span_t on_dead;
    ef_span_t headers; /* the map with its head; what is no map counts as absent */
    int64_t time_ms;   /* the producer's dispatch date, ms since 1970 */
    int64_t at_ms;     /* not before, ms since 1970 */
    int64_t delay_ms;
    int64_t ttl_ms;
    int64_t schema;
    uint8_t fields; /* 3 or 4 */
} ef_event_t;

/* Reads the next event. EF_OK; EF_BAD_EVENT: `*why` says what was expected, the cursor stands
   behind the value; EF_BAD_FRAME: the bytes can't be read on. `*why` is static. */
EF_MUST_USE ef_status_t ef_event_read (ef_cursor_t *cursor, ef_event_t *event, const char **why);

/* 1 to 53 of a-z A-Z 0-9 . _ -, beginning with a letter or digit, not ending in _deadletter. */
bool ef_topic_is_valid (const char *name, size_t size);

/* A UUIDv7 (RFC 9562): 48 bits of ms since 1970, the rest from `random`. The lowest 16 bits are
   zero, so that up to 65,536 events of a record count on from one base id. */
void ef_uuid7 (uint8_t id[16], uint64_t unix_ms, const uint64_t random[2]);

/* Writes base + index as 36 characters and a NUL. */
void ef_uuid_text (const uint8_t base[16], uint32_t index, char text[37]);

/* 64 random bits from the kernel. */
uint64_t ef_random (void);

/* Clocks in milliseconds and nanoseconds. */
uint64_t ef_mono_ms (void);
uint64_t ef_mono_ns (void);
uint64_t ef_wall_ms (void);

/* Writes ms since 1970 as RFC 3339 in UTC with milliseconds: 24 characters and a NUL. */
void ef_rfc3339 (uint64_t unix_ms, char text[25]);

/* The reverse; takes an offset other than Z too. 0, or -1 where it isn't such a date. */
EF_MUST_USE int ef_rfc3339_parse (const char *text, size_t size, int64_t *unix_ms);

/* A duration as people write it: 500ms, 1.5s, 5m, 2h, 7d, or ms without a unit. 0, or -1 where it
   isn't one. */
EF_MUST_USE int ef_duration_parse (const char *text, size_t size, int64_t *ms);

#endif
