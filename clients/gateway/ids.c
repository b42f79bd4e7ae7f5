/* Ids of events. SPDX-License-Identifier: MIT

   Each thread draws a base every few milliseconds and counts on from it, as the broker does within
   a record: ids are in order of time, and most cost no draw. */
#include "ids.h"
#include "../web/sha256.h"

#include <stdio.h>

#define IDS_BASE_MS 10

uint32_t
ids_next (char text[IDS_TEXT]) {
    static _Thread_local uint8_t base[16];
    static _Thread_local uint64_t base_ms;
    static _Thread_local uint32_t used;
    uint64_t now = ef_wall_ms ();
    if (now - base_ms >= IDS_BASE_MS || used == 65536) {
        const uint64_t random[2] = {ef_random (), ef_random ()};
        ef_uuid7 (base, now, random);
        base_ms = now;
        used = 0;
    }
    ef_uuid_text (base, used++, text);
    return 36;
}

uint32_t
ids_of_key (const char *key, size_t size, int64_t index, char text[IDS_TEXT]) {
    char place[32] = "";
    int more = index >= 0 ? snprintf (place, sizeof place, ":%lld", (long long)index) : 0;
    if (size + (size_t)more <= EF_ID_MAX) {
        memcpy (text, key, size);
        memcpy (text + size, place, (size_t)more + 1);
        return (uint32_t)size + (uint32_t)more;
    }
    ef_buf_t whole = {0};
    ef_buf_put (&whole, key, size);
    ef_buf_put (&whole, place, (size_t)more);
    sha256_text (whole.data, whole.size, text);
    ef_buf_free (&whole);
    return 64;
}
