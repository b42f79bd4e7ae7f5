/* MessagePack as JSON and back, without loss. SPDX-License-Identifier: MIT

   bin is {"$bin": base64}, ext {"$ext": [type, base64]}, a map with keys that aren't str
   {"$map": [[k, v], …]}, and a map whose only key begins with "$" gets one more "$". Integers are
   JSON integers of full 64 bits. Numbers that JSON doesn't have (NaN, infinities) are written as
   {"$float": "nan" | "inf" | "-inf"}. A str that isn't UTF-8 is written as {"$str": base64}. */
#ifndef EF_JSON_H
#define EF_JSON_H

#include "event.h"

/* Appends one MessagePack value as JSON text. 0, or -1 where the bytes can't be read. */
EF_MUST_USE int ef_json_print (ef_buf_t *out, ef_cursor_t *value);

/* Appends a JSON string literal. Of a text that isn't UTF-8 each byte past ASCII is U+FFFD. */
void ef_json_string (ef_buf_t *out, const char *text, size_t size);

/* Reads one JSON value (RFC 8259) at `text`, appends it as MessagePack, and returns how many bytes
   it took with the white space around it; 0 on an error, then `*why` says what was expected. */
size_t ef_json_parse (ef_buf_t *out, const char *text, size_t size, const char **why);

/* An event in its JSON form. `attempts` and `errors` (an array [[code, text, trace, ms, worker],
   …], may be empty) come from a delivery or a dead letter; `id` is used where the event has none.
 */
typedef struct {
    const char *id;
    uint64_t accepted_ms; /* stands in for a missing time */
    uint32_t attempts;
    ef_span_t errors;
} ef_json_extra_t;
EF_MUST_USE int ef_json_event (ef_buf_t *out, const ef_event_t *event,
                               const ef_json_extra_t *extra);

/* The reverse: a JSON object with payload, topic (or queue), id, type, dispatch_date and meta
   becomes an event. `topic` and `id` stand in where the object has none, NULL: nil. 0, or -1 and
   `*why`. */
EF_MUST_USE int ef_json_to_event (ef_buf_t *out, const char *text, size_t size, const char *topic,
                                  const char *id, const char **why);

/* Base64 (RFC 4648, with padding). */
void ef_base64_encode (ef_buf_t *out, const void *bytes, size_t size);
EF_MUST_USE int ef_base64_decode (ef_buf_t *out, const char *text, size_t size);

/* True where the bytes are well-formed UTF-8. */
bool ef_utf8_is_valid (const char *text, size_t size);

/* Makes one line that a terminal can show of somebody else's words: control characters become
   spaces, and dots what isn't ASCII where the text isn't UTF-8. */
void ef_text_clean (char *text);

/* What a hexadecimal digit stands for; -1: it is none. */
static inline int
ef_hex_digit (char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

#endif
