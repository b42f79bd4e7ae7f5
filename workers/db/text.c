/* Pieces of SQL, and rows as PostgreSQL takes them. SPDX-License-Identifier: MIT */
#include "text.h"
#include "../../proto/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define TEXT_TYPE 25 /* its number (pg_type.dat) */

void
db_put (ef_buf_t *out, const char *text) {
    ef_buf_put (out, text, strlen (text));
}

static void
s_put_quoted (ef_buf_t *out, const char *name, size_t size) {
    ef_buf_put (out, "\"", 1);
    for (size_t i = 0; i < size; i++) {
        ef_buf_put (out, "\"\"", name[i] == '"' ? 2 : 0);
        ef_buf_put (out, name + i, name[i] == '"' ? 0 : 1);
    }
    ef_buf_put (out, "\"", 1);
}

void
db_put_name (ef_buf_t *out, const char *name, bool is_dotted) {
    size_t schema = strcspn (name, ".");
    if (is_dotted && name[schema]) {
        s_put_quoted (out, name, schema);
        ef_buf_put (out, ".", 1);
        name += schema + 1;
    }
    s_put_quoted (out, name, strlen (name));
}

void
db_put_literal_name (ef_buf_t *out, const char *name) {
    ef_buf_t quoted = {0};
    db_put_name (&quoted, name, true);
    db_put (out, "'");
    for (size_t i = 0; i < quoted.size; i++) {
        ef_buf_put (out, "'", quoted.data[i] == '\'');
        ef_buf_put (out, quoted.data + i, 1);
    }
    db_put (out, "'");
    ef_buf_free (&quoted);
}

const char *
db_next_name (const char *at, char name[DB_NAME_BYTES]) {
    at += strspn (at, ", \t");
    size_t size = strcspn (at, ", \t");
    if (size == 0) {
        return NULL;
    }
    snprintf (name, DB_NAME_BYTES, "%.*s", (int)(size < DB_NAME_BYTES ? size : DB_NAME_BYTES), at);
    return at + size;
}

void
db_put_names (ef_buf_t *out, const char *list) {
    char name[DB_NAME_BYTES];
    const char *between = "";
    while ((list = db_next_name (list, name)) != NULL) {
        db_put (out, between);
        db_put_name (out, name, false);
        between = ", ";
    }
}

const char *
db_finish (ef_buf_t *sql) {
    ef_buf_put (sql, "", 1);
    return (const char *)sql->data;
}

/* ---- Arrays ---- */

static void
s_put_int32 (ef_buf_t *out, uint32_t value) {
    uint8_t *at = ef_buf_add (out, 4);
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(value >> (24 - 8 * i));
    }
}

void
db_array_open (ef_buf_t *array, uint32_t count) {
    const uint32_t head[] = {1, 1, TEXT_TYPE, count, 1};
    ef_buf_clear (array);
    for (size_t i = 0; i < sizeof head / sizeof head[0]; i++) {
        s_put_int32 (array, head[i]);
    }
}

static void
s_put_bytes (ef_buf_t *array, const char *bytes, size_t size) {
    s_put_int32 (array, (uint32_t)size);
    ef_buf_put (array, bytes, size);
}

void
db_array_put_span (ef_buf_t *array, const db_batch_t *batch, db_span_t span) {
    s_put_bytes (array, db_text_at (batch, span), span.size);
}

static void
s_put_hex (ef_buf_t *array, const char *bytes, uint32_t size) {
    static const char digits[] = "0123456789abcdef";
    s_put_int32 (array, 2 * size + 2);
    ef_buf_put (array, "\\x", 2);
    uint8_t *at = ef_buf_add (array, 2 * (size_t)size);
    for (uint32_t i = 0; i < size; i++) {
        *at++ = (uint8_t)digits[(uint8_t)bytes[i] >> 4];
        *at++ = (uint8_t)digits[(uint8_t)bytes[i] & 15];
    }
}

/* The fewest digits that are read as the same number. */
static void
s_put_real (ef_buf_t *array, double real) {
    char text[40];
    snprintf (text, sizeof text, "%s", isnan (real) ? "NaN" : real > 0 ? "Infinity" : "-Infinity");
    for (int digits = 15; digits <= 17 && isfinite (real); digits++) {
        snprintf (text, sizeof text, "%.*g", digits, real);
        if (strtod (text, NULL) == real) {
            break;
        }
    }
    s_put_bytes (array, text, strlen (text));
}

/* The end of a string that begins at `at`, behind its quote. `*has_nul`: it has a \u0000. */
static const char *
s_end_of_string (const char *at, const char *end, bool *has_nul) {
    for (at++; at < end && *at != '"'; at++) {
        if (*at == '\\' && end - at >= 6 && memcmp (at, "\\u0000", 6) == 0) {
            *has_nul = true;
        }
        at += *at == '\\';
    }
    return at < end ? at + 1 : end;
}

/* PostgreSQL has no NUL in a text: a JSON string with one goes as {"$str": base64}, the form that
   strings which aren't UTF-8 have (SPECIFICATION.md, section 10). Names in objects stay; the
   database refuses them. */
static void
s_put_json (ef_buf_t *out, const char *text, size_t size) {
    const char *end = text + size;
    ef_buf_t value = {0};
    size_t head = out->size;
    s_put_int32 (out, 0);
    for (const char *at = text; at < end;) {
        bool has_nul = false;
        const char *next = *at == '"' ? s_end_of_string (at, end, &has_nul) : at + 1;
        const char *why;
        ef_span_t bytes;
        ef_buf_clear (&value);
        if (has_nul && (next == end || *next != ':') &&
            ef_json_parse (&value, at, (size_t)(next - at), &why) > 0) {
            ef_cursor_t cursor = ef_cursor (value.data, value.size);
            int rc = ef_get_str (&cursor, &bytes);
            ef_assert (rc == 0); /* a JSON string is a str */
            db_put (out, "{\"$str\":\"");
            ef_base64_encode (out, bytes.data, bytes.size);
            db_put (out, "\"}");
        } else {
            ef_buf_put (out, at, (size_t)(next - at));
        }
        at = next;
    }
    ef_buf_free (&value);
    uint32_t written = (uint32_t)(out->size - head - 4);
    for (int i = 0; i < 4; i++) {
        out->data[head + (size_t)i] = (uint8_t)(written >> (24 - 8 * i));
    }
}

void
db_array_put (ef_buf_t *array, const db_batch_t *batch, const db_column_t *column,
              const db_value_t *value) {
    char number[24];
    bool has_bytes = value->kind == DB_KIND_TEXT || value->kind == DB_KIND_BYTES;
    const char *bytes = has_bytes ? db_text_at (batch, value->span) : NULL;
    switch (value->kind) {
    case DB_KIND_NULL: s_put_int32 (array, UINT32_MAX); break;
    case DB_KIND_TRUTH:
        s_put_bytes (array, value->whole ? "true" : "false", value->whole ? 4 : 5);
        break;
    case DB_KIND_WHOLE:
        snprintf (number, sizeof number, "%lld", (long long)value->whole);
        s_put_bytes (array, number, strlen (number));
        break;
    case DB_KIND_REAL: s_put_real (array, value->real); break;
    case DB_KIND_BYTES: s_put_hex (array, bytes, value->span.size); break;
    default:
        if (column->class_id == DB_CLASS_JSON &&
            memmem (bytes, value->span.size, "\\u0000", 6) != NULL) {
            s_put_json (array, bytes, value->span.size);
        } else {
            s_put_bytes (array, bytes, value->span.size);
        }
    }
}
