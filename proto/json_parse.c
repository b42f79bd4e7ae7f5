/* JSON text to MessagePack. SPDX-License-Identifier: MIT

   An own parser and not a library's: integers of full 64 bits, the "$" forms, a bound on depth and
   no tree; jansson has neither the first nor the last. */
#include "json.h"
#include "limits.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

typedef struct {
    const char *at;
    const char *end;
    const char *why; /* what was expected; set once */
} parser_t;

static int
s_fail (parser_t *self, const char *why) {
    if (self->why == NULL) {
        self->why = why;
    }
    return -1;
}

static void
s_space (parser_t *self) {
    while (self->at < self->end &&
           (*self->at == ' ' || *self->at == '\t' || *self->at == '\n' || *self->at == '\r')) {
        self->at++;
    }
}

static bool
s_take (parser_t *self, char c) {
    s_space (self);
    if (self->at < self->end && *self->at == c) {
        self->at++;
        return true;
    }
    return false;
}

/* Fills the byte at `mark`, kept for the head of an array or a map whose count is known only now;
   a head of more bytes moves what is behind it. */
static void
s_set_head (ef_buf_t *out, size_t mark, ef_type_t type, uint32_t count) {
    uint8_t head[8];
    size_t body = out->size - mark - 1;
    (type == EF_TYPE_ARRAY ? ef_put_array : ef_put_map) (out, count);
    size_t size = out->size - mark - 1 - body;
    memcpy (head, out->data + out->size - size, size);
    memmove (out->data + mark + size, out->data + mark + 1, body);
    memcpy (out->data + mark, head, size);
    out->size--; /* the byte that was kept */
}

static int
s_hex4 (parser_t *self, uint32_t *code) {
    *code = 0;
    if (self->end - self->at < 4) {
        return s_fail (self, "four hex digits after \\u");
    }
    for (unsigned i = 0; i < 4; i++) {
        char c = *self->at++;
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A') + 10
                                                : 16;
        if (digit == 16) {
            return s_fail (self, "four hex digits after \\u");
        }
        *code = *code << 4 | digit;
    }
    return 0;
}

static int
s_unicode (parser_t *self, ef_buf_t *text) {
    uint32_t code;
    if (s_hex4 (self, &code)) {
        return -1;
    }
    if (code >= 0xd800 && code < 0xe000) {
        uint32_t low;
        if (code >= 0xdc00 || self->end - self->at < 2 || self->at[0] != '\\' ||
            self->at[1] != 'u') {
            return s_fail (self, "a surrogate pair");
        }
        self->at += 2;
        if (s_hex4 (self, &low) || low < 0xdc00 || low > 0xdfff) {
            return s_fail (self, "a surrogate pair");
        }
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    }
    uint8_t bytes[4];
    unsigned size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t leads[] = {0, 0x00, 0xc0, 0xe0, 0xf0};
    for (unsigned i = size - 1; i > 0; i--, code >>= 6) {
        bytes[i] = (uint8_t)(0x80 | (code & 0x3f));
    }
    bytes[0] = (uint8_t)(leads[size] | code);
    ef_buf_put (text, bytes, size);
    return 0;
}

/* Passes over what stands for itself in a string: neither quote, backslash nor control character,
   eight bytes at a time. Whether any byte lies past ASCII is added to `high`. */
static void
s_plain (parser_t *self, bool *high) {
    const uint64_t ones = UINT64_MAX / 255;
    const uint64_t tops = ones * 0x80;
    const char *at = self->at;
    uint64_t seen = 0;
    for (; self->end - at >= 8; at += 8) {
        uint64_t word;
        memcpy (&word, at, 8);
        uint64_t quote = word ^ (ones * '"');
        uint64_t slash = word ^ (ones * '\\');
        /* Bit 7 of a byte of x - n·ones & ~x is set, in the lowest such byte at least, where the
           byte is less than n (Bit Twiddling Hacks, "a byte less than n"). */
        if ((((quote - ones) & ~quote) | ((slash - ones) & ~slash) |
             ((word - ones * 0x20) & ~word)) &
            tops) {
            break;
        }
        seen |= word;
    }
    for (; at < self->end && *at != '"' && *at != '\\' && (uint8_t)*at >= 0x20; at++) {
        seen |= (uint8_t)*at;
    }
    *high = *high || (seen & tops);
    self->at = at;
}

/* Appends what an escape stands for; its backslash was taken. */
static int
s_escape (parser_t *self, ef_buf_t *out) {
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    const char *known = self->at < self->end && *self->at ? strchr (from, *self->at) : NULL;
    if (known) {
        self->at++;
        ef_buf_put (out, &to[known - from], 1);
        return 0;
    }
    if (self->at < self->end && *self->at == 'u') {
        self->at++;
        return s_unicode (self, out);
    }
    return s_fail (self, "an escape of \" \\ / b f n r t u");
}

/* The rest of a string literal behind its first part, which has no escape. `text` gets its bytes.
 */
static int
s_rest (parser_t *self, ef_buf_t *text, bool *high) {
    while (self->at < self->end && *self->at != '"') {
        if ((uint8_t)*self->at < 0x20) {
            return s_fail (self, "no control character in a string");
        }
        if (*self->at == '\\') {
            self->at++;
            if (s_escape (self, text)) {
                return -1;
            }
        }
        const char *start = self->at;
        s_plain (self, high);
        ef_buf_put (text, start, (size_t)(self->at - start));
    }
    return self->at < self->end ? 0 : s_fail (self, "the closing quote of a string");
}

/* Reads a string literal, whose opening quote is next, and appends it. */
static int
s_string (parser_t *self, ef_buf_t *out) {
    ef_buf_t text = {0};
    bool high = false;
    if (!s_take (self, '"')) {
        return s_fail (self, "a string");
    }
    const char *from = self->at;
    s_plain (self, &high);
    size_t size = (size_t)(self->at - from);
    if (self->at >= self->end || *self->at != '"') {
        ef_buf_put (&text, from, size);
        if (s_rest (self, &text, &high)) {
            ef_buf_free (&text);
            return -1;
        }
        from = (const char *)text.data;
        size = text.size;
    }
    self->at++;
    bool is_text = !high || ef_utf8_is_valid (from, size);
    ef_put_strn (out, from, size);
    ef_buf_free (&text);
    return is_text ? 0 : s_fail (self, "UTF-8 in a string");
}

static bool
s_digits (parser_t *self) {
    const char *start = self->at;
    while (self->at < self->end && *self->at >= '0' && *self->at <= '9') {
        self->at++;
    }
    return self->at > start;
}

static int
s_number (parser_t *self, ef_buf_t *out) {
    const char *start = self->at;
    bool is_negative = self->at < self->end && *self->at == '-';
    self->at += is_negative;
    const char *first = self->at;
    if (!s_digits (self) || (*first == '0' && self->at - first > 1)) {
        return s_fail (self, "a JSON value");
    }
    bool is_integer = true;
    if (self->at < self->end && *self->at == '.') {
        is_integer = false;
        self->at++;
        if (!s_digits (self)) {
            return s_fail (self, "digits after the decimal point");
        }
    }
    if (self->at < self->end && (*self->at == 'e' || *self->at == 'E')) {
        is_integer = false;
        self->at++;
        self->at += self->at < self->end && (*self->at == '+' || *self->at == '-');
        if (!s_digits (self)) {
            return s_fail (self, "digits in the exponent");
        }
    }
    char text[512];
    size_t size = (size_t)(self->at - start);
    if (size >= sizeof text) {
        return s_fail (self, "a number of fewer than 512 characters");
    }
    memcpy (text, start, size);
    text[size] = 0;
    errno = 0;
    bool is_zero = is_integer && is_negative && *first == '0'; /* an integer has no -0 */
    if (is_integer && is_negative && !is_zero) {
        ef_put_int (out, strtoll (text, NULL, 10));
    } else if (is_integer && !is_zero) {
        ef_put_uint (out, strtoull (text, NULL, 10));
    } else {
        double value = strtod (text, NULL);
        errno = isfinite (value) ? 0 : ERANGE; /* the nearest to one that is too small is zero */
        ef_put_double (out, value);
    }
    return errno ? s_fail (self, "a number that 64 bits can hold") : 0;
}

static int s_value (parser_t *self, ef_buf_t *out, unsigned depth);

static int
s_array (parser_t *self, ef_buf_t *out, unsigned depth) {
    size_t mark = out->size;
    uint32_t count = 0;
    self->at++;
    (void)ef_buf_add (out, 1); /* the head, once the count is known */
    if (!s_take (self, ']')) {
        do {
            if (s_value (self, out, depth + 1)) {
                return -1;
            }
            count++;
        } while (s_take (self, ','));
        if (!s_take (self, ']')) {
            return s_fail (self, "a comma or ] in an array");
        }
    }
    s_set_head (out, mark, EF_TYPE_ARRAY, count);
    return 0;
}

int
ef_base64_decode (ef_buf_t *out, const char *text, size_t size) {
    if (size % 4) {
        return -1;
    }
    for (size_t i = 0; i < size; i += 4) {
        uint32_t word = 0;
        unsigned pads = 0;
        for (size_t k = i; k < i + 4; k++) {
            char c = text[k];
            uint32_t digit = c >= 'A' && c <= 'Z'   ? (uint32_t)(c - 'A')
                             : c >= 'a' && c <= 'z' ? (uint32_t)(c - 'a') + 26
                             : c >= '0' && c <= '9' ? (uint32_t)(c - '0') + 52
                             : c == '+'             ? 62
                             : c == '/'             ? 63
                                                    : 64;
            if (digit == 64) {
                if (c != '=' || i + 4 != size || k < i + 2) {
                    return -1;
                }
                pads++;
                digit = 0;
            } else if (pads) {
                return -1;
            }
            word = word << 6 | digit;
        }
        uint8_t bytes[3] = {(uint8_t)(word >> 16), (uint8_t)(word >> 8), (uint8_t)word};
        ef_buf_put (out, bytes, 3 - pads);
    }
    return 0;
}

/* The "$" forms. The cursor is at the only value of the object. 0: written to `out`; 1: not such a
   form; -1: it claims to be one and is wrong. */
static int
s_special (parser_t *self, ef_buf_t *out, ef_span_t key, ef_cursor_t cursor) {
    ef_buf_t bytes = {0};
    ef_span_t text;
    int rc = -1;
    uint32_t count;
    if (ef_span_is (key, "$bin") || ef_span_is (key, "$str")) {
        rc =
            ef_get_str (&cursor, &text) || ef_base64_decode (&bytes, text.data, text.size) ? -1 : 0;
        if (rc == 0 && key.data[1] == 'b') {
            ef_put_bin (out, bytes.data, bytes.size);
        } else if (rc == 0) {
            ef_put_strn (out, (const char *)bytes.data, bytes.size);
        }
    } else if (ef_span_is (key, "$ext")) {
        int64_t type;
        rc = ef_get_array (&cursor, &count) || count != 2 || ef_get_int (&cursor, &type) ||
                     type < INT8_MIN || type > INT8_MAX || ef_get_str (&cursor, &text) ||
                     ef_base64_decode (&bytes, text.data, text.size)
                 ? -1
                 : 0;
        if (rc == 0) {
            ef_put_ext (out, (int8_t)type, bytes.data, bytes.size);
        }
    } else if (ef_span_is (key, "$float")) {
        rc = ef_get_str (&cursor, &text);
        double number = ef_span_is (text, "nan") ? __builtin_nan ("") : __builtin_inf ();
        if (rc == 0) {
            ef_put_double (out, ef_span_is (text, "-inf") ? -number : number);
        }
    } else if (ef_span_is (key, "$map")) {
        rc = ef_get_array (&cursor, &count);
        ef_put_map (out, rc == 0 ? count : 0);
        for (uint32_t i = 0; rc == 0 && i < count; i++) {
            uint32_t pair;
            rc = ef_get_array (&cursor, &pair) || pair != 2 ? -1 : 0;
            const uint8_t *start = cursor.at;
            rc = rc || ef_skip (&cursor) || ef_skip (&cursor) ? -1 : 0;
            if (rc == 0) {
                ef_buf_put (out, start, (size_t)(cursor.at - start));
            }
        }
    } else {
        rc = 1;
    }
    ef_buf_free (&bytes);
    return rc < 0 ? s_fail (self, "a $bin, $ext, $map, $str or $float form as the protocol has it")
                  : rc;
}

/* The object at `mark` has one member, whose key begins with "$": it stands for something else. */
static int
s_stand_in (parser_t *self, ef_buf_t *out, size_t mark) {
    ef_buf_t object = {0};
    ef_buf_put (&object, out->data + mark, out->size - mark);
    ef_cursor_t cursor = ef_cursor (object.data, object.size);
    ef_span_t key;
    uint32_t count;
    int rc = ef_get_map (&cursor, &count) || ef_get_str (&cursor, &key) ? -1 : 0;
    ef_assert (rc == 0); /* as it was written */
    out->size = mark;
    if (key.size > 1 && key.data[1] == '$') {
        ef_put_map (out, 1);
        ef_put_strn (out, key.data + 1, key.size - 1);
        ef_buf_put (out, cursor.at, ef_cursor_left (&cursor));
    } else {
        rc = s_special (self, out, key, cursor);
    }
    if (rc > 0) {
        ef_buf_put (out, object.data, object.size);
    }
    ef_buf_free (&object);
    return rc < 0 ? -1 : 0;
}

static bool
s_has_dollar (ef_cursor_t key) {
    ef_span_t text;
    return ef_get_str (&key, &text) == 0 && text.size > 0 && text.data[0] == '$';
}

static int
s_object (parser_t *self, ef_buf_t *out, unsigned depth) {
    size_t mark = out->size;
    uint32_t count = 0;
    bool has_dollar = false;
    self->at++;
    (void)ef_buf_add (out, 1); /* the head, once the count is known */
    if (!s_take (self, '}')) {
        do {
            size_t key = out->size;
            if (s_string (self, out)) {
                return -1;
            }
            has_dollar = s_has_dollar (ef_cursor (out->data + key, out->size - key));
            if (!s_take (self, ':')) {
                return s_fail (self, "a colon behind a key");
            }
            if (s_value (self, out, depth + 1)) {
                return -1;
            }
            count++;
        } while (s_take (self, ','));
        if (!s_take (self, '}')) {
            return s_fail (self, "a comma or } in an object");
        }
    }
    s_set_head (out, mark, EF_TYPE_MAP, count);
    return has_dollar && count == 1 ? s_stand_in (self, out, mark) : 0;
}

static int
s_literal (parser_t *self, const char *word) {
    size_t size = strlen (word);
    if ((size_t)(self->end - self->at) < size || memcmp (self->at, word, size) != 0) {
        return s_fail (self, "a JSON value");
    }
    self->at += size;
    return 0;
}

static int
s_value (parser_t *self, ef_buf_t *out, unsigned depth) {
    s_space (self);
    if (self->at >= self->end) {
        return s_fail (self, "a JSON value");
    }
    if (depth >= EF_NESTING_MAX) {
        return s_fail (self, "nesting of at most 32");
    }
    switch (*self->at) {
    case '{': return s_object (self, out, depth);
    case '[': return s_array (self, out, depth);
    case '"': return s_string (self, out);
    case 't': ef_put_bool (out, true); return s_literal (self, "true");
    case 'f': ef_put_bool (out, false); return s_literal (self, "false");
    case 'n': ef_put_nil (out); return s_literal (self, "null");
    default: return s_number (self, out);
    }
}

size_t
ef_json_parse (ef_buf_t *out, const char *text, size_t size, const char **why) {
    parser_t parser = {text, text + size, NULL};
    size_t before = out->size;
    if (s_value (&parser, out, 0)) {
        out->size = before;
        *why = parser.why;
        return 0;
    }
    s_space (&parser);
    *why = NULL;
    return (size_t)(parser.at - text);
}
