/* The forms that text and bytes take in a mail. SPDX-License-Identifier: MIT */
#include "mime.h"

#include "../../proto/json.h"

#include <stdio.h>

#define LINE_MAX_CHARS 76 /* RFC 2045 and 2047; RFC 5322 would like 78 */

static const char s_hex[] = "0123456789ABCDEF";

static void
s_put (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

/* Characters of the line that is being written. */
static size_t
s_column (const ef_buf_t *out) {
    const uint8_t *end = out->size ? memrchr (out->data, '\n', out->size) : NULL;
    return end ? (size_t)(out->data + out->size - end - 1) : out->size;
}

/* True where words of it can stand as they are, parted by single spaces. */
static bool
s_is_plain_header (const char *text, size_t size) {
    size_t word = 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c < 0x20 || c > 0x7e || (c == ' ' && word == 0) ||
            (c == '=' && i + 1 < size && text[i + 1] == '?')) {
            return false;
        }
        word = c == ' ' ? 0 : word + 1;
        if (word > LINE_MAX_CHARS - 16) { /* room for a field's name on the same line */
            return false;
        }
    }
    return size == 0 || word > 0;
}

/* A new line where so many more characters don't fit. Else a space, where one is wanted. */
static void
s_fold (ef_buf_t *out, size_t more, bool is_apart) {
    if (s_column (out) + is_apart + more > LINE_MAX_CHARS) {
        s_put (out, "\r\n ");
    } else if (is_apart) {
        s_put (out, " ");
    }
}

static void
s_put_words (ef_buf_t *out, const char *text, size_t size) {
    const char *end = text + size;
    bool is_first = true;
    while (text < end) {
        const char *space = memchr (text, ' ', (size_t)(end - text));
        size_t word = space ? (size_t)(space - text) : (size_t)(end - text);
        s_fold (out, word, !is_first);
        ef_buf_put (out, text, word);
        text += word + 1;
        is_first = false;
    }
}

/* As encoded words, none of which splits a character. */
static void
s_put_encoded (ef_buf_t *out, const char *text, size_t size) {
    size_t at = 0;
    bool is_first = true;
    while (at < size) {
        s_fold (out, 12 + 12, !is_first); /* marks, and at least three characters */
        size_t room = (LINE_MAX_CHARS - s_column (out) - 12) / 4 * 3;
        size_t most = size - at < room ? size - at : room;
        size_t take = most;
        while (take > 0 && at + take < size && ((uint8_t)text[at + take] & 0xc0) == 0x80) {
            take--;
        }
        take = take ? take : most; /* it isn't UTF-8 */
        s_put (out, "=?UTF-8?B?");
        ef_base64_encode (out, text + at, take);
        s_put (out, "?=");
        at += take;
        is_first = false;
    }
}

void
mime_put_field (ef_buf_t *out, const char *name, const char *text, size_t size) {
    s_put (out, name);
    s_put (out, ": ");
    if (s_is_plain_header (text, size)) {
        s_put_words (out, text, size);
    } else {
        s_put_encoded (out, text, size);
    }
    s_put (out, "\r\n");
}

static void
s_put_quoted_string (ef_buf_t *out, const char *text, size_t size) {
    s_put (out, "\"");
    for (size_t i = 0; i < size; i++) {
        if (text[i] == '"' || text[i] == '\\') {
            s_put (out, "\\");
        }
        ef_buf_put (out, text + i, 1);
    }
    s_put (out, "\"");
}

void
mime_put_mailbox (ef_buf_t *out, const mailbox_t *mailbox) {
    size_t size = strlen (mailbox->name);
    if (size == 0) {
        s_put (out, mailbox->address);
        return;
    }
    if (!s_is_plain_header (mailbox->name, size)) {
        s_put_encoded (out, mailbox->name, size);
    } else if (strpbrk (mailbox->name, "()<>[]:;@\\,.\"")) {
        s_put_quoted_string (out, mailbox->name, size);
    } else {
        s_put_words (out, mailbox->name, size);
    }
    s_fold (out, strlen (mailbox->address) + 2, true);
    s_put (out, "<");
    s_put (out, mailbox->address);
    s_put (out, ">");
}

static bool
s_is_attribute_char (uint8_t c) { /* RFC 2231; fewer than it allows */
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

void
mime_put_parameter (ef_buf_t *out, const char *name, const char *value, size_t size) {
    char head[64];
    if (s_is_plain_header (value, size) && size < 50) {
        snprintf (head, sizeof head, ";\r\n %s=", name);
        s_put (out, head);
        s_put_quoted_string (out, value, size);
        return;
    }
    size_t at = 0;
    for (unsigned part = 0; at < size; part++) {
        snprintf (head, sizeof head, ";\r\n %s*%u*=%s", name, part, part ? "" : "UTF-8''");
        s_put (out, head);
        for (; at < size && s_column (out) + 4 < LINE_MAX_CHARS; at++) {
            uint8_t c = (uint8_t)value[at];
            if (s_is_attribute_char (c)) {
                ef_buf_put (out, &c, 1);
            } else {
                char code[3] = {'%', s_hex[c >> 4], s_hex[c & 15]};
                ef_buf_put (out, code, 3);
            }
        }
    }
}

/* The bytes of the line end at `at`; 0: there is none. */
static size_t
s_line_end (const char *text, size_t size, size_t at) {
    return text[at] == '\n' ? 1 : text[at] == '\r' && at + 1 < size && text[at + 1] == '\n' ? 2 : 0;
}

mime_encoding_t
mime_choose (const char *text, size_t size) {
    size_t line = 0;
    size_t escaped = 0;
    bool is_plain = true;
    for (size_t i = 0; i < size; i++) {
        uint8_t c = (uint8_t)text[i];
        size_t end = s_line_end (text, size, i);
        if (end) {
            is_plain = is_plain && (i == 0 || (text[i - 1] != ' ' && text[i - 1] != '\t'));
            line = 0;
            i += end - 1;
            continue;
        }
        is_plain = is_plain && !(line == 0 && size - i >= 4 && memcmp (text + i, "--=_", 4) == 0);
        line++;
        bool is_odd = (c < 0x20 && c != '\t') || c > 0x7e;
        escaped += is_odd;
        is_plain = is_plain && !is_odd && line <= LINE_MAX_CHARS;
    }
    is_plain = is_plain && (size == 0 || (text[size - 1] != ' ' && text[size - 1] != '\t'));
    return is_plain ? MIME_PLAIN : escaped > size / 6 ? MIME_BASE64 : MIME_QUOTED;
}

/* Text with CR LF at the end of every line. */
static void
s_put_lines (ef_buf_t *out, const char *text, size_t size) {
    size_t from = 0;
    while (from < size) {
        const char *end = memchr (text + from, '\n', size - from);
        size_t to = end ? (size_t)(end - text) : size;
        size_t bytes = to - from;
        bool has_return = end && bytes > 0 && text[to - 1] == '\r';
        ef_buf_put (out, text + from, bytes - has_return);
        s_put (out, "\r\n");
        from = to + 1;
    }
}

static void
s_put_quoted_printable (ef_buf_t *out, const char *text, size_t size) {
    size_t column = 0;
    for (size_t i = 0; i < size; i++) {
        size_t end = s_line_end (text, size, i);
        if (end) {
            s_put (out, "\r\n");
            column = 0;
            i += end - 1;
            continue;
        }
        uint8_t c = (uint8_t)text[i];
        bool is_last = i + 1 == size || s_line_end (text, size, i + 1);
        bool is_blank = c == ' ' || c == '\t';
        bool is_clear = (c > 0x20 && c < 0x7f && c != '=') || (is_blank && !is_last);
        size_t width = is_clear ? 1 : 3;
        if (column + width > LINE_MAX_CHARS - (is_last ? 0 : 1)) {
            s_put (out, "=\r\n");
            column = 0;
        }
        column += width;
        if (is_clear) {
            ef_buf_put (out, &c, 1);
        } else {
            char code[3] = {'=', s_hex[c >> 4], s_hex[c & 15]};
            ef_buf_put (out, code, 3);
        }
    }
    if (column > 0) {
        s_put (out, "\r\n");
    }
}

void
mime_put_base64 (ef_buf_t *out, const char *bytes, size_t size) {
    for (size_t at = 0; at < size; at += LINE_MAX_CHARS / 4 * 3) {
        size_t left = size - at;
        ef_base64_encode (out, bytes + at,
                          left < LINE_MAX_CHARS / 4 * 3 ? left : LINE_MAX_CHARS / 4 * 3);
        s_put (out, "\r\n");
    }
}

void
mime_put_text (ef_buf_t *out, const char *type, const char *text, size_t size) {
    static const char *const names[] = {"7bit", "quoted-printable", "base64"};
    mime_encoding_t encoding = mime_choose (text, size);
    s_put (out, "Content-Type: ");
    s_put (out, type);
    s_put (out, encoding == MIME_PLAIN ? "; charset=us-ascii\r\n" : "; charset=UTF-8\r\n");
    s_put (out, "Content-Transfer-Encoding: ");
    s_put (out, names[encoding]);
    s_put (out, "\r\n\r\n");
    if (encoding == MIME_PLAIN) {
        s_put_lines (out, text, size);
    } else if (encoding == MIME_QUOTED) {
        s_put_quoted_printable (out, text, size);
    } else {
        ef_buf_t lines = {0};
        s_put_lines (&lines, text, size);
        mime_put_base64 (out, (char *)lines.data, lines.size);
        ef_buf_free (&lines);
    }
}
