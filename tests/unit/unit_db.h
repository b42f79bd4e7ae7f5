/* Events for tests of the handler db. SPDX-License-Identifier: MIT */
#ifndef EF_UNIT_DB_H
#define EF_UNIT_DB_H

#include "unit.h"

#include "../../workers/db/backend.h"

/* An event of topic db with a payload that `put` writes, and what `meta` writes. */
typedef void (*put_t) (ef_buf_t *out);

static ef_buf_t s_bytes; /* of the last event */
static inline void
s_event (db_event_t *event, const char *id, put_t payload, put_t meta) {
    ef_buf_clear (&s_bytes);
    ef_put_array (&s_bytes, meta ? 4 : 3);
    ef_put_str (&s_bytes, "db");
    ef_put_str (&s_bytes, id);
    payload (&s_bytes);
    if (meta) {
        meta (&s_bytes);
    }
    assert_int_equal (db_event_read (event, s_bytes.data, s_bytes.size), 0);
    event->accepted_ms = 1700000000000;
    event->attempt = 1;
}

static inline void
s_put_order (ef_buf_t *out) {
    ef_put_map (out, 8);
    ef_put_str (out, "user");
    ef_put_map (out, 2);
    ef_put_key_uint (out, "id", 7);
    ef_put_key_str (out, "name", "Ann");
    ef_put_str (out, "amount");
    ef_put_double (out, 1.5);
    ef_put_key_bool (out, "paid", true);
    ef_put_str (out, "items");
    ef_put_array (out, 2);
    ef_put_str (out, "a");
    ef_put_str (out, "b");
    ef_put_key_uint (out, "large", UINT64_MAX);
    ef_put_str (out, "bytes");
    ef_put_bin (out, "\0\xff", 2);
    ef_put_str (out, "none");
    ef_put_nil (out);
    ef_put_uint (out, 5); /* a key that isn't a str is passed over */
    ef_put_str (out, "five");
}

static inline void
s_put_five (ef_buf_t *out) {
    ef_put_uint (out, 5);
}

#endif
