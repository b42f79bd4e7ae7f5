/* Requests that aren't what HTTP/1.1 says are refused. SPDX-License-Identifier: MIT

   libmicrohttpd 0.9.75 forgives much that two parsers in a row may read in two ways (RFC 9112,
   section 11): a bare LF as a line's end, folded lines, white space before a colon, a length beside
   a transfer coding, lengths that differ, a NUL. Its parser writes NULs over the line ends in
   place and leaves the rest where it came: a CRLF is two of them, a bare LF one. So the headers lie
   in memory as they came, each right behind the one before, exactly where all lines end in CRLF and
   nothing was hidden or folded; that is what is checked, against the size that the library counted.
   (A NUL before a bare LF looks the same as a CRLF: what forwards that would forward anything.)
   What is within a chunked body and its trailers can't be seen: the connection ends with it. From
   0.9.77.2 on the library can be told to be strict itself, and is (listen.c). */
#include "../../proto/json.h"
#include "server_private.h"

#include <strings.h>

typedef struct {
    head_t *head;
    const char *at;  /* where the next header must begin; NULL: not checked */
    const char *why; /* set once */
    unsigned hosts;
} reading_t;

/* What a header's name is made of (RFC 9110, section 5.6.2: tchar), a bit each. */
#define BIT(c) (1ull << ((c)&63))
static const uint64_t s_token[2] = {
    BIT ('!') | BIT ('#') | BIT ('$') | BIT ('%') | BIT ('&') | BIT ('\'') | BIT ('*') | BIT ('+') |
        BIT ('-') | BIT ('.') | (0x3ffull << '0'),
    (0x3ffffffull << ('A' & 63)) | (0x3ffffffull << ('a' & 63)) | BIT ('^') | BIT ('_') |
        BIT ('`') | BIT ('|') | BIT ('~'),
};
#undef BIT

static bool
s_is_token (const char *text, size_t size) {
    bool is_token = size > 0;
    for (size_t i = 0; i < size; i++) {
        uint8_t c = (uint8_t)text[i];
        is_token = is_token && c < 128 && (s_token[c >> 6] >> (c & 63) & 1);
    }
    return is_token;
}

static bool
s_is_text (const char *text, size_t size) {
    for (size_t i = 0; i < size; i++) {
        uint8_t c = (uint8_t)text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

static const char *
s_length (head_t *head, const char *value, size_t size) {
    uint64_t number = 0;
    if (head->has_length) {
        return "Content-Length is there twice";
    }
    if (size == 0 || size > 18) {
        return "Content-Length isn't a number that could be meant";
    }
    for (size_t i = 0; i < size; i++) {
        if (value[i] < '0' || value[i] > '9') {
            return "Content-Length isn't a number";
        }
        number = number * 10 + (uint64_t)(value[i] - '0');
    }
    head->has_length = true;
    head->length = number;
    return NULL;
}

static const char *
s_coding (head_t *head, const char *value) {
    if (head->is_chunked || strcasecmp (value, "chunked") != 0) {
        return "Transfer-Encoding must be chunked, once";
    }
    head->is_chunked = true;
    return NULL;
}

/* A header of which only one makes sense. */
static const char *
s_once (const char **place, const char *value, const char *why) {
    if (*place) {
        return why;
    }
    *place = value;
    return NULL;
}

static const char *
s_take (reading_t *self, const char *name, const char *value, size_t size) {
    head_t *head = self->head;
    if (strchr ("hcaostxfve", name[0] | 0x20) == NULL) {
        return NULL; /* none of those below */
    }
    if (strcasecmp (name, "Host") == 0) {
        return s_once (&head->host, value, "Host is there twice");
    }
    if (strcasecmp (name, "Content-Length") == 0) {
        return s_length (head, value, size);
    }
    if (strcasecmp (name, "Transfer-Encoding") == 0) {
        return s_coding (head, value);
    }
    if (strcasecmp (name, "Content-Type") == 0) {
        return s_once (&head->type, value, "Content-Type is there twice");
    }
    if (strcasecmp (name, "Authorization") == 0) {
        return s_once (&head->authorization, value, "Authorization is there twice");
    }
    if (strcasecmp (name, "Origin") == 0) {
        return s_once (&head->origin, value, "Origin is there twice");
    }
    if (strcasecmp (name, "Sec-Fetch-Site") == 0) {
        head->fetch_site = value;
    } else if (strcasecmp (name, "X-Request-Id") == 0) {
        head->request_id = value;
    } else if (strcasecmp (name, "X-Forwarded-For") == 0) {
        head->forwarded_for = value; /* the last one is the nearest proxy's */
        head->is_forwarded = true;
    } else if (strcasecmp (name, "Forwarded") == 0 || strcasecmp (name, "Via") == 0) {
        head->is_forwarded = true;
    } else if (strcasecmp (name, "Expect") == 0) {
        head->is_expecting = true;
    }
    return NULL;
}

/* Does the header stand where the one before ended, and its own line end in CRLF? */
static bool
s_is_in_place (reading_t *self, const char *name, size_t name_size, const char *value,
               size_t value_size) {
    if (self->at == NULL) {
        return true;
    }
    bool is_well = name == self->at && value > name + name_size && value[value_size] == 0 &&
                   value[value_size + 1] == 0;
    self->at = value + value_size + 2;
    return is_well;
}

static enum MHD_Result
s_each (void *arg, enum MHD_ValueKind kind, const char *name, size_t name_size, const char *value,
        size_t value_size) {
    reading_t *self = arg;
    (void)kind;
    value = value ? value : "";
    if (!s_is_in_place (self, name, name_size, value, value_size)) {
        self->why = "every line must end in CRLF, and begin with a header's name";
    } else if (!s_is_token (name, name_size)) {
        self->why = "a header's name has a character that it can't have";
    } else if (!s_is_text (value, value_size)) {
        self->why = "a header's value has a control character";
    } else {
        while (value_size > 0 && (value[value_size - 1] == ' ' || value[value_size - 1] == '\t')) {
            ((char *)value)[--value_size] = 0; /* the library's own buffer, which it lets change */
        }
        self->why = s_take (self, name, value, value_size);
    }
    return self->why ? MHD_NO : MHD_YES;
}

#if MHD_VERSION < 0x00097702
static bool
s_ends_well (const reading_t *self, struct MHD_Connection *connection, const char *method) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info (connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    return info && self->at + 2 == method + info->header_size;
}
#endif

const char *
strict_read (struct MHD_Connection *connection, const char *method, const char *version,
             head_t *head) {
    reading_t reading = {.head = head};
    if (strcmp (version, "HTTP/1.1") != 0 && strcmp (version, "HTTP/1.0") != 0) {
        return "expected HTTP/1.1";
    }
#if MHD_VERSION < 0x00097702
    if (version[9] != 0) { /* behind the line's end: the second NUL of a CRLF */
        return "every line must end in CRLF";
    }
    reading.at = version + 10;
#endif
    (void)MHD_get_connection_values_n (connection, MHD_HEADER_KIND, s_each, &reading);
#if MHD_VERSION < 0x00097702
    if (reading.why == NULL && !s_ends_well (&reading, connection, method)) {
        reading.why = "every line must end in CRLF";
    }
#else
    (void)method;
#endif
    if (reading.why == NULL && head->has_length && head->is_chunked) {
        reading.why = "Content-Length and Transfer-Encoding exclude each other";
    }
    if (reading.why == NULL && head->host == NULL && version[7] == '1') {
        reading.why = "HTTP/1.1 needs a Host";
    }
    if (reading.why == NULL && head->is_chunked && version[7] == '0') {
        reading.why = "HTTP/1.0 has no Transfer-Encoding";
    }
    return reading.why;
}

const char *
strict_line (const char *method, const char *url, size_t target_bytes, const char *version) {
#if MHD_VERSION < 0x00097702
    if (url != method + strlen (method) + 1 || version != url + target_bytes + 1) {
        return "expected METHOD TARGET HTTP/1.1, with one space between them and no NUL";
    }
#else
    (void)method;
    (void)url;
    (void)target_bytes;
    (void)version;
#endif
    return NULL;
}

/* Decodes in place. False: a bad escape, a control character, or no UTF-8. */
static bool
s_decode (char *text, size_t size) {
    size_t at = 0;
    for (size_t i = 0; i < size; i++, at++) {
        text[at] = text[i];
        if (text[i] == '%') {
            int high = i + 2 < size ? ef_hex_digit (text[i + 1]) : -1;
            int low = i + 2 < size ? ef_hex_digit (text[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return false;
            }
            text[at] = (char)(high << 4 | low);
            i += 2;
        }
        if ((uint8_t)text[at] < 0x20 || text[at] == 0x7f) {
            return false;
        }
    }
    text[at] = 0;
    return ef_utf8_is_valid (text, at);
}

const char *
strict_decode (call_t *call, const char *text, size_t size) {
    char *out = call_keep (call, text, size);
    return s_decode (out, size) ? out : NULL;
}

typedef struct {
    call_t *call;
    bool is_well;
} query_t;

static enum MHD_Result
s_each_query (void *arg, enum MHD_ValueKind kind, const char *name, const char *value) {
    query_t *query = arg;
    (void)kind;
    (void)name;
    query->is_well = value == NULL || strict_decode (query->call, value, strlen (value)) != NULL;
    return query->is_well ? MHD_YES : MHD_NO;
}

bool
strict_query (call_t *call) {
    query_t query = {call, true};
    (void)MHD_get_connection_values (call->connection, MHD_GET_ARGUMENT_KIND, s_each_query, &query);
    return query.is_well;
}
