/* MessagePack to JSON text. SPDX-License-Identifier: MIT */
#include "json.h"
#include "limits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void
s_text (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

void
ef_base64_encode (ef_buf_t *out, const void *bytes, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *from = bytes;
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t word = (uint32_t)from[i] << 16 | (left > 1 ? (uint32_t)from[i + 1] << 8 : 0) |
                        (left > 2 ? from[i + 2] : 0);
        char *at = (char *)ef_buf_add (out, 4);
        at[0] = digits[word >> 18];
        at[1] = digits[word >> 12 & 63];
        at[2] = left > 1 ? digits[word >> 6 & 63] : '=';
        at[3] = left > 2 ? digits[word & 63] : '=';
    }
}

bool
ef_utf8_is_valid (const char *text, size_t size) {
    const uint8_t *at = (const uint8_t *)text;
    const uint8_t *end = size > 0 ? at + size : at; /* an empty text may be NULL */
    while (at < end) {
        uint64_t word = 0;
        while (end - at >= 8 && (memcpy (&word, at, 8), (word & (UINT64_MAX / 255 * 0x80)) == 0)) {
            at += 8;
        }
        if (at == end) {
            break;
        }
        uint8_t lead = *at++;
        if (lead < 0x80) {
            continue;
        }
        unsigned more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
        if (lead < 0xc2 || lead > 0xf4 || (size_t)(end - at) < more) {
            return false;
        }
        /* The second byte's range shuts out overlong forms, surrogates and what is past U+10FFFF.
         */
        uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        if (*at < low || *at > high) {
            return false;
        }
        for (at++, more--; more > 0; more--, at++) {
            if ((*at & 0xc0) != 0x80) {
                return false;
            }
        }
    }
    return true;
}

void
ef_text_clean (char *text) {
    bool is_text = ef_utf8_is_valid (text, strlen (text));
    for (; *text; text++) {
        uint8_t c = (uint8_t)*text;
        *text = c < ' ' || c == 0x7f ? ' ' : c >= 0x80 && !is_text ? '.' : *text;
    }
}

static inline bool
s_stands_for_itself (uint8_t c, bool is_text) {
    return c >= 0x20 && c != '"' && c != '\\' && c != 0x7f && (c < 0x80 || is_text);
}

void
ef_json_string (ef_buf_t *out, const char *text, size_t size) {
    bool is_text = ef_utf8_is_valid (text, size);
    s_text (out, "\"");
    for (size_t i = 0; i < size; i++) {
        size_t start = i;
        while (i < size && s_stands_for_itself ((uint8_t)text[i], is_text)) {
            i++;
        }
        ef_buf_put (out, text + start, i - start);
        if (i == size) {
            break;
        }
        uint8_t c = (uint8_t)text[i];
        if (c == '"' || c == '\\') {
            char pair[2] = {'\\', (char)c};
            ef_buf_put (out, pair, 2);
        } else if (c == '\n') {
            s_text (out, "\\n");
        } else if (c < 0x20 || c == 0x7f) {
            char escape[8];
            int length = snprintf (escape, sizeof escape, "\\u%04x", c);
            ef_buf_put (out, escape, (size_t)length);
        } else {
            s_text (out, "\\ufffd");
        }
    }
    s_text (out, "\"");
}

static void
s_print_base64 (ef_buf_t *out, const char *key, ef_span_t span) {
    s_text (out, "{\"");
    s_text (out, key);
    s_text (out, "\":\"");
    ef_base64_encode (out, span.data, span.size);
    s_text (out, "\"}");
}

/* The shortest of 15 to 17 digits that reads back as the same number. */
static void
s_print_double (ef_buf_t *out, double value) {
    if (!isfinite (value)) {
        s_text (out, isnan (value) ? "{\"$float\":\"nan\"}"
                     : value > 0.0 ? "{\"$float\":\"inf\"}"
                                   : "{\"$float\":\"-inf\"}");
        return;
    }
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf (text, sizeof text, "%.*g", digits, value);
        double back = strtod (text, NULL);
        if (!(back < value) && !(back > value)) {
            break;
        }
    }
    s_text (out, text);
    if (strpbrk (text, ".e") == NULL) {
        s_text (out, ".0"); /* so that it reads back as a float */
    }
}

static int s_print (ef_buf_t *out, ef_cursor_t *cursor, unsigned depth);

static int
s_print_array (ef_buf_t *out, ef_cursor_t *cursor, unsigned depth) {
    uint32_t count;
    if (ef_get_array (cursor, &count)) {
        return -1;
    }
    s_text (out, "[");
    for (uint32_t i = 0; i < count; i++) {
        s_text (out, i > 0 ? "," : "");
        if (s_print (out, cursor, depth + 1)) {
            return -1;
        }
    }
    s_text (out, "]");
    return 0;
}

/* True where every key is a str of valid UTF-8; `dollar` where there is one that begins with "$".
 */
static bool
s_keys_are_str (ef_cursor_t cursor, uint32_t count, bool *dollar) {
    *dollar = false;
    for (uint32_t i = 0; i < count; i++) {
        ef_span_t key;
        if (ef_get_str (&cursor, &key) || !ef_utf8_is_valid (key.data, key.size) ||
            ef_skip (&cursor)) {
            return false;
        }
        *dollar = *dollar || (key.size > 0 && key.data[0] == '$');
    }
    return true;
}

static int
s_print_map (ef_buf_t *out, ef_cursor_t *cursor, unsigned depth) {
    uint32_t count;
    if (ef_get_map (cursor, &count)) {
        return -1;
    }
    bool dollar;
    bool is_object = s_keys_are_str (*cursor, count, &dollar);
    dollar = dollar && count == 1;
    s_text (out, is_object ? "{" : "{\"$map\":[");
    for (uint32_t i = 0; i < count; i++) {
        s_text (out, i > 0 ? "," : "");
        if (is_object) {
            ef_span_t key;
            int rc = ef_get_str (cursor, &key);
            ef_assert (rc == 0);
            size_t quote = out->size;
            ef_json_string (out, key.data, key.size);
            if (dollar) {
                *ef_buf_add (out, 1) = 0;
                memmove (out->data + quote + 2, out->data + quote + 1, out->size - quote - 2);
                out->data[quote + 1] = '$';
            }
            s_text (out, ":");
        } else {
            s_text (out, "[");
            if (s_print (out, cursor, depth + 1)) {
                return -1;
            }
            s_text (out, ",");
        }
        if (s_print (out, cursor, depth + 1)) {
            return -1;
        }
        s_text (out, is_object ? "" : "]");
    }
    s_text (out, is_object ? "}" : "]}");
    return 0;
}

static int
s_print_int (ef_buf_t *out, ef_cursor_t *cursor) {
    char text[24];
    uint64_t number;
    int64_t negative;
    if (ef_get_uint (cursor, &number) == 0) {
        snprintf (text, sizeof text, "%llu", (unsigned long long)number);
    } else if (ef_get_int (cursor, &negative) == 0) {
        snprintf (text, sizeof text, "%lld", (long long)negative);
    } else {
        return -1;
    }
    s_text (out, text);
    return 0;
}

static int
s_print_ext (ef_buf_t *out, ef_cursor_t *cursor) {
    int8_t type;
    ef_span_t span;
    if (ef_get_ext (cursor, &type, &span)) {
        return -1;
    }
    char text[32];
    snprintf (text, sizeof text, "{\"$ext\":[%d,\"", type);
    s_text (out, text);
    ef_base64_encode (out, span.data, span.size);
    s_text (out, "\"]}");
    return 0;
}

static int
s_print (ef_buf_t *out, ef_cursor_t *cursor, unsigned depth) {
    if (depth > EF_NESTING_MAX) {
        return -1;
    }
    ef_span_t span;
    bool truth;
    double number;
    switch (ef_peek (cursor)) {
    case EF_TYPE_NIL: s_text (out, "null"); return ef_get_nil (cursor);
    case EF_TYPE_BOOL:
        if (ef_get_bool (cursor, &truth)) {
            return -1;
        }
        s_text (out, truth ? "true" : "false");
        return 0;
    case EF_TYPE_INT: return s_print_int (out, cursor);
    case EF_TYPE_FLOAT:
        if (ef_get_double (cursor, &number)) {
            return -1;
        }
        s_print_double (out, number);
        return 0;
    case EF_TYPE_STR:
        if (ef_get_str (cursor, &span)) {
            return -1;
        }
        if (ef_utf8_is_valid (span.data, span.size)) {
            ef_json_string (out, span.data, span.size);
        } else {
            s_print_base64 (out, "$str", span);
        }
        return 0;
    case EF_TYPE_BIN:
        if (ef_get_bytes (cursor, &span)) {
            return -1;
        }
        s_print_base64 (out, "$bin", span);
        return 0;
    case EF_TYPE_ARRAY: return s_print_array (out, cursor, depth);
    case EF_TYPE_MAP: return s_print_map (out, cursor, depth);
    case EF_TYPE_EXT: return s_print_ext (out, cursor);
    case EF_TYPE_NONE:
    default: return -1;
    }
}

int
ef_json_print (ef_buf_t *out, ef_cursor_t *value) {
    return s_print (out, value, 0);
}
