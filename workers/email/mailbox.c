/* Addresses of mail, read strictly. SPDX-License-Identifier: MIT */
#include "mailbox.h"

#include "../../proto/json.h"

static bool
s_is_letter_or_digit (uint8_t c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static bool
s_is_atom (uint8_t c) {
    return s_is_letter_or_digit (c) || c >= 0x80 ||
           (c != 0 && strchr ("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

/* The bytes of a quoted string with its quotes; 0: it is none. */
static size_t
s_quoted (const char *text, size_t size) {
    for (size_t i = 1; i < size && text[0] == '"'; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c == '"') {
            return i + 1;
        }
        if (c == '\\') {
            i++;
            c = i < size ? (uint8_t)text[i] : 0;
        }
        if (c < 0x20 || c == 0x7f) {
            return 0;
        }
    }
    return 0;
}

static const char *
s_check_local (const char *text, size_t size) {
    if (size == 0 || size > MAILBOX_LOCAL_MAX) {
        return "expected 1 to 64 bytes before the @";
    }
    if (text[0] == '"') {
        return s_quoted (text, size) == size ? NULL : "a quoted part without its end";
    }
    for (size_t i = 0; i < size; i++) {
        bool is_inner_dot = text[i] == '.' && i > 0 && i + 1 < size && text[i - 1] != '.';
        if (!is_inner_dot && !s_is_atom ((uint8_t)text[i])) {
            return "a character that can't stand before the @";
        }
    }
    return NULL;
}

static const char *
s_check_domain (const char *text, size_t size) {
    if (size > 2 && text[0] == '[' && text[size - 1] == ']') {
        for (size_t i = 1; i + 1 < size; i++) {
            if (!s_is_letter_or_digit ((uint8_t)text[i]) && text[i] != '.' && text[i] != ':') {
                return "expected an address such as [192.0.2.1] or [IPv6:2001:db8::1]";
            }
        }
        return NULL;
    }
    size_t label = 0;
    for (size_t i = 0; i <= size; i++) {
        uint8_t c = i < size ? (uint8_t)text[i] : '.';
        if (c == '.') {
            if (label == 0 || label > 63 || text[i - 1] == '-') {
                return "expected a domain behind the @";
            }
            label = 0;
        } else if (s_is_letter_or_digit (c) || c >= 0x80 || (c == '-' && label > 0)) {
            label++;
        } else {
            return "a character that can't stand in a domain";
        }
    }
    return NULL;
}

const char *
mailbox_check (const char *address, size_t size, bool *is_ascii) {
    if (size > MAILBOX_ADDRESS_MAX) {
        return "longer than 254 bytes";
    }
    size_t quoted = s_quoted (address, size);
    const char *at = size ? memchr (address + quoted, '@', size - quoted) : NULL;
    if (at == NULL) {
        return "expected local@domain";
    }
    size_t local = (size_t)(at - address);
    const char *why = s_check_local (address, local);
    why = why ? why : s_check_domain (at + 1, size - local - 1);
    if (why == NULL && !ef_utf8_is_valid (address, size)) {
        why = "not UTF-8";
    }
    *is_ascii = true;
    for (size_t i = 0; i < size; i++) {
        *is_ascii = *is_ascii && (uint8_t)address[i] < 0x80;
    }
    return why;
}

static void
s_trim (const char **from, const char **to) {
    while (*from < *to && (**from == ' ' || **from == '\t')) {
        (*from)++;
    }
    while (*from < *to && ((*to)[-1] == ' ' || (*to)[-1] == '\t')) {
        (*to)--;
    }
}

/* The first of `wanted` that isn't within quotes; the end where there is none. */
static const char *
s_find (const char *at, const char *end, const char *wanted) {
    bool is_quoted = false;
    for (; at < end; at++) {
        if (is_quoted && *at == '\\' && at + 1 < end) {
            at++;
        } else if (*at == '"') {
            is_quoted = !is_quoted;
        } else if (!is_quoted && *at && strchr (wanted, *at)) {
            return at;
        }
    }
    return end;
}

static const char *
s_read_name (const char *from, const char *to, mailbox_t *mailbox) {
    size_t size = 0;
    s_trim (&from, &to);
    bool is_quoted = from < to && *from == '"';
    if (is_quoted && s_quoted (from, (size_t)(to - from)) != (size_t)(to - from)) {
        return "a name's quotes have to enclose it whole";
    }
    from += is_quoted;
    to -= is_quoted;
    for (; from < to; from++) {
        from += is_quoted && *from == '\\';
        uint8_t c = (uint8_t)*from;
        if (c < 0x20 || c == 0x7f) {
            return "a control character in a name";
        }
        if (!is_quoted && (c == '"' || c == '>')) {
            return "a name with such characters needs quotes around it";
        }
        if (size == MAILBOX_NAME_MAX) {
            return "a name longer than 255 bytes";
        }
        mailbox->name[size++] = (char)c;
    }
    mailbox->name[size] = 0;
    return ef_utf8_is_valid (mailbox->name, size) ? NULL : "a name that isn't UTF-8";
}

int
mailbox_next (const char **at, const char *end, mailbox_t *mailbox, const char **why) {
    const char *from = *at;
    mailbox->name[0] = 0;
    *why = NULL;
    s_trim (&from, &end);
    if (from == end) {
        return 0;
    }
    const char *to = s_find (from, end, "<,");
    *at = to;
    if (to < end && *to == '<') {
        *why = s_read_name (from, to, mailbox);
        from = to + 1;
        to = s_find (from, end, ">");
        *at = to < end ? to + 1 : end;
        while (*at < end && (**at == ' ' || **at == '\t')) {
            (*at)++;
        }
        if (to == end || (*at < end && **at != ',')) {
            *why = "expected Name <local@domain>";
        }
    }
    *at += *at < end; /* the comma */
    s_trim (&from, &to);
    if (*why == NULL) {
        *why = mailbox_check (from, (size_t)(to - from), &mailbox->is_ascii);
    }
    if (*why) {
        return -1;
    }
    memcpy (mailbox->address, from, (size_t)(to - from));
    mailbox->address[to - from] = 0;
    return 1;
}
